"""Least squares at the true angles: truth is its closed-form error through the dense operator."""

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams
from beamslot.dsp.channel import add_noise
from beamslot.dsp.combine import combine, dense
from beamslot.dsp.geometry import render, steering
from beamslot.dsp.grouping import balanced_random
from beamslot.dsp.oracle_ls import OracleLs
from beamslot.errors import ShapeError
from beamslot.frame import Geometry, Operator

GEOMETRY = Geometry(16, 24)
GROUP = balanced_random(16, 4, np.random.default_rng(0))
OPERATOR = Operator(group_beams(GROUP, (-0.5, 0.0), 4, 6), GROUP, (-0.5, 0.0))


def draw(paths: int = 4, seed: int = 1) -> tuple[NDArray[np.complex64], NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    gain = (rng.standard_normal((1, paths)) + 1j * rng.standard_normal((1, paths))).astype(np.complex64)
    return gain, rng.uniform(-0.8, 0.8, (1, paths)), rng.uniform(-0.5, 0, (1, paths))


def closed_form(u: NDArray[np.float64], v: NDArray[np.float64], noise_var: float) -> float:
    """Return sigma_w^2 tr(A_h (A_h^H F^H F A_h)^-1 A_h^H) with a dense F, sigma_w^2 = M sigma^2."""
    antennas = np.stack([np.outer(steering(16, a), steering(24, b)).ravel() for a, b in zip(u, v, strict=True)], -1)
    seen = dense(OPERATOR.weights.astype(complex)) @ antennas
    inverse = np.linalg.inv(seen.conj().T @ seen)
    return float(6 * noise_var * np.trace(antennas @ inverse @ antennas.conj().T).real)


def test_the_error_equals_its_closed_form_and_so_do_the_predicted_one_and_the_noise() -> None:
    gain, u, v = draw()
    truth, noise_var, trials = render(gain, u, v, GEOMETRY), 0.2, 1500
    noisy = add_noise(np.repeat(truth, trials, 0), noise_var, np.random.default_rng(2))
    wide_u, wide_v = np.repeat(u, trials, 0), np.repeat(v, trials, 0)
    mask = np.ones(wide_u.shape, bool)
    estimate = OracleLs(GEOMETRY, OPERATOR).estimate(combine(noisy, OPERATOR.weights), wide_u, wide_v, mask)
    errors = np.sum(np.abs(estimate.channel - truth) ** 2, axis=(1, 2))
    expected = closed_form(u[0], v[0], noise_var)
    assert abs(errors.mean() - expected) < 3.5 * errors.std() / np.sqrt(trials)
    assert estimate.noise_var.mean() == pytest.approx(6 * noise_var, rel=0.02)
    assert 384 * estimate.error_var.mean() == pytest.approx(expected, rel=0.02)


def test_without_noise_the_gains_and_the_channel_are_found() -> None:
    gain, u, v = draw(7)
    truth = render(gain, u, v, GEOMETRY)
    found = OracleLs(GEOMETRY, OPERATOR).estimate(combine(truth, OPERATOR.weights), u, v, np.ones((1, 7), bool))
    np.testing.assert_allclose(found.gain, gain, atol=1e-4)
    np.testing.assert_allclose(found.channel, truth, atol=1e-4)
    assert found.error_var[0] < 1e-9


def test_masked_paths_get_no_gain_and_change_nothing() -> None:
    gain, u, v = draw(5)
    mask = np.array([[True, False, True, True, False]])
    observation = combine(add_noise(render(gain, u, v, GEOMETRY), 0.1, np.random.default_rng(3)), OPERATOR.weights)
    oracle = OracleLs(GEOMETRY, OPERATOR)
    masked = oracle.estimate(observation, u, v, mask)
    fewer = oracle.estimate(observation, u[mask][None], v[mask][None], np.ones((1, 3), bool))
    assert not masked.gain[~mask].any()
    np.testing.assert_allclose(masked.channel, fewer.channel, atol=1e-5)
    np.testing.assert_allclose(masked.noise_var, fewer.noise_var, rtol=1e-5)
    np.testing.assert_allclose(masked.error_var, fewer.error_var, rtol=1e-5)


def test_coincident_paths_share_their_gain_without_a_warning() -> None:
    gain, u, v = draw(2)
    twice_u, twice_v = np.concatenate([u, u], -1), np.concatenate([v, v], -1)
    mask = np.ones((1, 4), bool)
    truth = render(gain, u, v, GEOMETRY)
    found = OracleLs(GEOMETRY, OPERATOR).estimate(combine(truth, OPERATOR.weights), twice_u, twice_v, mask)
    np.testing.assert_allclose(found.gain, np.concatenate([gain, gain], -1) / 2, atol=1e-4)


def test_batch_axes_are_kept_even_when_they_are_empty() -> None:
    oracle, mask = OracleLs(GEOMETRY, OPERATOR), np.ones((2, 3, 4), bool)
    angles = np.full((2, 3, 4), -0.1)
    found = oracle.estimate(np.zeros((2, 3, 16, 4), np.complex64), angles, angles, mask)
    assert (found.channel.shape, found.gain.shape, found.noise_var.shape) == ((2, 3, 16, 24), (2, 3, 4), (2, 3))
    empty = oracle.estimate(np.zeros((0, 3, 16, 4), np.complex64), angles[:0], angles[:0], mask[:0])
    assert empty.channel.shape == (0, 3, 16, 24)


def test_an_observation_of_another_front_end_is_refused() -> None:
    angle = np.zeros((1, 1))
    with pytest.raises(ShapeError, match=r"OracleLs: observation is \(1, 16, 3\), wanted \(\.\.\., 16, 4\)"):
        OracleLs(GEOMETRY, OPERATOR).estimate(np.zeros((1, 16, 3)), angle, angle, angle > -1)
