"""Gains against lstsq, and against the joint Gaussian of gains and observations written out."""

import numpy as np
import pytest
from beamslot_ula import THREE, normal, observed, responses
from numpy.typing import NDArray

from beamslot.dsp.doa.gains import least_squares, posterior
from beamslot.dsp.doa_metrics import path_errors
from beamslot.dsp.ula import UlaScene

RNG = np.random.default_rng(11)
GAIN = normal(RNG, 2, 6, 3)
ROWS = observed(THREE, GAIN, 9) + 0.2 * normal(RNG, 2, 6, 9)
CORRELATED = np.array([[1.0, 0.5j, 0.2], [-0.5j, 0.8, 0.1], [0.2, 0.1, 0.5]])
COHERENT = np.outer([1, 1j, -1], np.conj([1, 1j, -1]))


def test_least_squares_is_that_of_numpy() -> None:
    made = least_squares(THREE, ROWS)
    for theta, rows, gain in zip(THREE, ROWS, made, strict=True):
        wanted = np.linalg.lstsq(responses(theta, 9).T, rows.T, rcond=None)[0].T
        np.testing.assert_allclose(gain, wanted, atol=1e-6)
    np.testing.assert_allclose(least_squares(THREE, observed(THREE, GAIN, spacing=0.4), 0.4), GAIN, atol=1e-7)


@pytest.mark.parametrize("covariance", [CORRELATED, COHERENT])
def test_the_posterior_is_the_conditional_mean_of_the_joint_gaussian(covariance: NDArray[np.complex128]) -> None:
    mean, noise_var = np.array([0.3, -0.1j, 1.0]), np.array([0.04, 3.0])
    made = posterior(THREE, ROWS, mean, covariance, noise_var)
    for index, theta in enumerate(THREE):
        atoms = responses(theta, 9).T
        seen = atoms @ covariance @ atoms.conj().T + noise_var[index] * np.eye(9)
        weight = covariance @ atoms.conj().T @ np.linalg.inv(seen)
        wanted = mean + (ROWS[index] - mean @ atoms.T) @ weight.T
        np.testing.assert_allclose(made.mean[index], wanted, atol=1e-9)
        np.testing.assert_allclose(made.covariance[index], covariance - weight @ atoms @ covariance, atol=1e-9)


def test_prior_and_noise_may_differ_from_frame_to_frame() -> None:
    mean, covariance = normal(RNG, 2, 3), np.stack([CORRELATED, np.eye(3)])
    both = posterior(THREE, ROWS, mean, covariance, np.array([0.1, 0.2]))
    alone = posterior(THREE[1:], ROWS[1:], mean[1], np.eye(3), 0.2)
    np.testing.assert_allclose(both.mean[1:], alone.mean)
    np.testing.assert_allclose(both.covariance[1:], alone.covariance)


def test_of_a_wide_prior_least_squares_is_left() -> None:
    made = posterior(THREE, ROWS, np.zeros(3), 1e9 * np.eye(3), 0.04)
    np.testing.assert_allclose(made.mean, least_squares(THREE, ROWS), atol=1e-5)


def test_the_posterior_covariance_is_the_error_and_no_estimate_has_less() -> None:
    scene = UlaScene(correlation=0.5, k_factor_db=3)
    frames = scene.frames(np.random.default_rng(12), 400, -10)
    made = posterior(frames.theta, frames.observation, frames.mean, frames.covariance, frames.noise_var)
    error = np.mean(np.abs(made.mean - frames.gain) ** 2)
    predicted = np.mean(np.diagonal(made.covariance, axis1=1, axis2=2).real)
    assert error == pytest.approx(predicted, rel=0.03)
    plain = np.mean(np.abs(least_squares(frames.theta, frames.observation) - frames.gain) ** 2)
    assert error < 0.75 * plain


def test_at_true_angles_path_gains_and_angles_are_as_good_as_measured() -> None:
    frames = UlaScene().frames(np.random.default_rng(13), 400, 10)
    which = np.tile(np.arange(3), (400, 1))
    errors = path_errors(least_squares(frames.theta, frames.observation), frames.gain, which)
    assert np.mean(errors.gain**2) == pytest.approx(0.0016, rel=0.1)
    assert np.mean(errors.angle**2) == pytest.approx(0.0145, rel=0.25)
