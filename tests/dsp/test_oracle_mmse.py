"""Linear MMSE at the true angles and powers: truth is the Wiener filter of the dense operator."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams
from beamslot.dsp.channel import PathChannel, add_noise, noise_variance
from beamslot.dsp.combine import combine, dense
from beamslot.dsp.geometry import render, steering
from beamslot.dsp.grouping import balanced_random
from beamslot.dsp.metrics import nmse
from beamslot.dsp.oracle_ls import OracleLs
from beamslot.dsp.oracle_mmse import OracleMmse
from beamslot.errors import ShapeError
from beamslot.frame import Geometry, Operator

GEOMETRY, FULL = Geometry(16, 24), Geometry(64, 72)


def grouped(geometry: Geometry, m: int) -> Operator:
    group = balanced_random(geometry.n_y, 4, np.random.default_rng(0))
    return Operator(group_beams(group, (-0.5, 0.0), geometry.n_z // m, m), group, (-0.5, 0.0))


OPERATOR = grouped(GEOMETRY, 6)
POWER = np.array([[1.0, 0.3, 0.03, 0.002]])
U, V = np.array([[-0.62, -0.3, -0.22, 0.55]]), np.array([[-0.4, -0.21, -0.25, -0.07]])
ONES = np.ones((1, 4), bool)


def observed(trials: int, noise_var: float, seed: int = 1) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return channels of the given powers with independent phases, and what the chains see of them."""
    rng = np.random.default_rng(seed)
    gain = np.sqrt(POWER) * np.exp(2j * np.pi * rng.random((trials, 4)))
    truth = render(gain, np.repeat(U, trials, 0), np.repeat(V, trials, 0), GEOMETRY)
    return truth, combine(add_noise(truth, noise_var, rng), OPERATOR.weights)


def wiener(noise_w: float) -> tuple[NDArray[Any], float]:
    """Return the matrix of the Wiener filter for the channel and its error, by covariances of all antennas."""
    antennas = np.stack(
        [np.outer(steering(16, a), steering(24, b)).ravel() for a, b in zip(U[0], V[0], strict=True)], -1
    )
    covariance = antennas * POWER[0] @ antennas.conj().T
    front = dense(OPERATOR.weights.astype(complex))
    seen = front @ covariance @ front.conj().T + noise_w * np.eye(64)
    matrix = np.linalg.solve(seen, front @ covariance).conj().T
    return matrix, float(np.trace(covariance - matrix @ front @ covariance).real)


def estimate(observation: NDArray[Any], **options: Any) -> Any:
    shape = (len(observation), 4)
    u, v, power = (np.broadcast_to(one, shape) for one in (U, V, POWER))
    return OracleMmse(GEOMETRY, OPERATOR).estimate(observation, power, u, v, np.ones(shape, bool), **options)


def decibels(values: Any) -> float:
    return float(10 * np.log10(np.mean(values)))


def test_with_the_noise_told_it_is_the_wiener_filter_of_the_dense_operator() -> None:
    truth, observation = observed(3, 0.5)
    matrix, error = wiener(6 * 0.5)
    found = estimate(observation, noise_var=6 * 0.5)
    expected = (observation.reshape(3, -1) @ matrix.T).reshape(truth.shape)
    np.testing.assert_allclose(found.channel, expected, atol=1e-4)
    np.testing.assert_allclose(384 * found.error_var, error, rtol=1e-5)


def test_the_error_is_its_closed_form_and_the_noise_is_learned() -> None:
    truth, observation = observed(1500, 0.5)
    found = estimate(observation)
    errors = np.sum(np.abs(found.channel - truth) ** 2, axis=(1, 2))
    _, expected = wiener(6 * 0.5)
    assert abs(errors.mean() - expected) < 3.5 * errors.std() / np.sqrt(1500)
    assert found.noise_var.mean() == pytest.approx(3.0, rel=0.02)
    assert 384 * found.error_var.mean() == pytest.approx(expected, rel=0.03)


# Over 300 other draws: -17.6, -26.4 and -36.1 dB; least squares -16.1, -26.1 and -36.1 dB.
@pytest.mark.parametrize(("snr_db", "floor"), [(-5, -17.6), (5, -26.4), (15, -36.1)])
def test_the_floor_lies_where_it_was_measured_and_learning_the_noise_costs_next_to_nothing(
    snr_db: float, floor: float
) -> None:
    rng = np.random.default_rng(7)
    channel = PathChannel(geometry=FULL, redraw=1)
    paths = channel.evolve(range(150), lambda key: np.random.Generator(np.random.Philox(key=[7, key])))
    truth, operator = render(paths.gain, paths.u, paths.v, FULL), grouped(FULL, 12)
    observation = combine(add_noise(truth, noise_variance(snr_db), rng), operator.weights)
    oracle, power = OracleMmse(FULL, operator), np.abs(paths.gain) ** 2
    found = oracle.estimate(observation, power, paths.u, paths.v, paths.mask)
    told = oracle.estimate(observation, power, paths.u, paths.v, paths.mask, noise_var=12 * noise_variance(snr_db))
    linear = OracleLs(FULL, operator).estimate(observation, paths.u, paths.v, paths.mask)
    assert decibels(nmse(found.channel, truth)) == pytest.approx(floor, abs=0.5)
    assert decibels(nmse(found.channel, truth)) - decibels(nmse(told.channel, truth)) < 0.03
    assert decibels(nmse(found.channel, truth)) < decibels(nmse(linear.channel, truth))
    assert decibels(found.error_var) == pytest.approx(decibels(nmse(found.channel, truth)), abs=0.2)


def test_without_noise_it_is_least_squares() -> None:
    truth, observation = observed(2, 0.0)
    found = estimate(observation)
    np.testing.assert_allclose(found.channel, truth, atol=1e-3)
    assert found.error_var.max() < 1e-6


@pytest.mark.parametrize("factor", [1e-6, 1e6, np.exp(2j)])
def test_scale_and_common_phase_pass_through(factor: complex) -> None:
    _, observation = observed(3, 0.5)
    shape, size = (3, 4), abs(factor) ** 2
    u, v, power = (np.broadcast_to(one, shape) for one in (U, V, POWER))
    oracle = OracleMmse(GEOMETRY, OPERATOR)
    plain = oracle.estimate(observation, power, u, v, np.ones(shape, bool))
    scaled = oracle.estimate((factor * observation).astype(np.complex64), size * power, u, v, np.ones(shape, bool))
    np.testing.assert_allclose(scaled.channel / factor, plain.channel, atol=1e-4)
    np.testing.assert_allclose(scaled.noise_var / size, plain.noise_var, rtol=1e-4)
    np.testing.assert_allclose(scaled.error_var / size, plain.error_var, rtol=1e-4)


def test_masked_paths_and_paths_without_power_get_no_gain_and_change_nothing() -> None:
    _, observation = observed(1, 0.5)
    oracle, mask = OracleMmse(GEOMETRY, OPERATOR), np.array([[True, False, True, False]])
    fewer = oracle.estimate(observation, POWER[mask][None], U[mask][None], V[mask][None], np.ones((1, 2), bool))
    masked = oracle.estimate(observation, POWER, U, V, mask)
    weak = oracle.estimate(observation, POWER * mask, U, V, ONES, noise_var=fewer.noise_var)
    for found in (masked, weak):
        assert not found.gain[~mask].any()
        np.testing.assert_allclose(found.channel, fewer.channel, atol=1e-5)
        np.testing.assert_allclose(found.error_var, fewer.error_var, rtol=1e-5)


def test_coincident_paths_share_by_power() -> None:
    _, observation = observed(1, 0.0)
    power, at = np.array([[3.0, 1.0]]), (np.repeat(U[:, :1], 2, 1), np.repeat(V[:, :1], 2, 1))
    found = OracleMmse(GEOMETRY, OPERATOR).estimate(observation, power, *at, np.ones((1, 2), bool))
    assert found.gain[0, 0] == pytest.approx(3 * found.gain[0, 1], rel=1e-4)
    assert np.isfinite(found.error_var).all()


def test_silence_is_no_channel_and_no_noise() -> None:
    found = estimate(np.zeros((2, 16, 4), np.complex64))
    for name in ("channel", "gain", "noise_var", "error_var"):
        assert not getattr(found, name).any()


def test_a_slot_that_is_not_finite_spoils_no_other() -> None:
    _, observation = observed(3, 0.5)
    whole = estimate(observation)
    observation[1, 4, 2] = np.inf
    found = estimate(observation)
    assert not found.mask[1].any()
    assert not found.channel[1].any()
    assert np.isnan([found.noise_var[1], found.error_var[1]]).all()
    np.testing.assert_allclose(found.channel[[0, 2]], whole.channel[[0, 2]], atol=1e-6)
    assert found.converged.tolist() == [True, False, True]


def test_batch_axes_are_kept_even_when_they_are_empty() -> None:
    oracle, mask, angles = OracleMmse(GEOMETRY, OPERATOR), np.ones((2, 3, 4), bool), np.full((2, 3, 4), -0.1)
    found = oracle.estimate(np.zeros((2, 3, 16, 4), np.complex64), angles**2, angles, angles, mask)
    assert (found.channel.shape, found.gain.shape, found.noise_var.shape) == ((2, 3, 16, 24), (2, 3, 4), (2, 3))
    empty = np.zeros((0, 3, 16, 4), np.complex64)
    assert oracle.estimate(empty, angles[:0], angles[:0], angles[:0], mask[:0]).channel.shape == (0, 3, 16, 24)


def test_an_observation_of_another_front_end_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"OracleMmse: observation is \(1, 16, 3\), wanted \(\.\.\., 16, 4\)"):
        OracleMmse(GEOMETRY, OPERATOR).estimate(np.zeros((1, 16, 3)), POWER, U, V, ONES)
