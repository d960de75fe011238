"""Bounds of angles and gains: truth is Fisher's matrix from finite differences, closed forms, and measured figures."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.doa_bounds import crb_conditional, crb_gain, crb_unconditional
from beamslot.dsp.geometry import gram as products_of
from beamslot.dsp.projection import curvature
from beamslot.dsp.ula import UlaScene, array_response, complex_normal
from beamslot.errors import ShapeError

ANTENNAS, SNAPSHOTS, SPACING, NOISE = 9, 4, 0.6, 0.3
THETA = np.radians([-31.0, 4.0, 17.0])
STEP = 1e-5
SEPARATE = pytest.mark.parametrize("users", [1, 2, 3])


def responses(theta: NDArray[Any]) -> NDArray[Any]:
    """Return A, (N, K), independent of the package."""
    return np.exp(2j * np.pi * SPACING * np.arange(ANTENNAS)[:, None] * np.sin(theta))


def gains(users: int, snapshots: int = SNAPSHOTS, seed: int = 1) -> NDArray[Any]:
    return complex_normal(np.random.default_rng(seed), snapshots, users)


def slopes(function: Callable[[NDArray[Any]], NDArray[Any]], at: Any) -> Any:
    """Return the derivatives of a function in every entry of its argument, one a row."""
    steps = STEP * np.eye(len(at))
    return np.stack([(function(at + step) - function(at - step)) / (2 * STEP) for step in steps])


def polar_bound(theta: NDArray[Any], gain: Any) -> list[NDArray[Any]]:
    """Return the bounds of angles, path gains and path angles from the numeric Fisher matrix of them all."""
    users, shape = len(theta), gain.shape

    def mean(parameters: NDArray[Any]) -> NDArray[Any]:
        size, phase = (part.reshape(shape) for part in np.split(parameters[users:], 2))
        return (responses(parameters[:users]) @ (size * np.exp(1j * phase)).T).ravel()

    jacobian = slopes(mean, np.concatenate([theta, np.abs(gain).ravel(), np.angle(gain).ravel()]))
    bound = np.diagonal(np.linalg.inv(2 / NOISE * (jacobian.conj() @ jacobian.T).real))
    return [bound[:users], *(part.reshape(shape) for part in np.split(bound[users:], 2))]


def gaussian_bound(theta: NDArray[Any], covariance: Any) -> NDArray[Any]:
    """Return the bound of the angles of M draws of CN(0, A P A^H + sigma^2 I), with P and sigma^2 unknown."""
    users = len(theta)
    upper = np.triu_indices(users, 1)

    def spread(parameters: NDArray[Any]) -> NDArray[Any]:
        diagonal, real, imaginary = np.split(parameters[users:-1], [users, users + len(upper[0])])
        mixed = np.diag(diagonal).astype(complex)
        mixed[upper] = real + 1j * imaginary
        mixed = np.triu(mixed) + np.triu(mixed, 1).conj().T
        return responses(parameters[:users]) @ mixed @ responses(parameters[:users]).conj().T + parameters[-1] * np.eye(
            ANTENNAS
        )

    off = covariance[upper]
    at = np.concatenate([theta, np.real(np.diagonal(covariance)), off.real, off.imag, [NOISE]])
    whitened = np.linalg.solve(spread(at), slopes(spread, at))
    information = SNAPSHOTS * np.einsum("iab,jba->ij", whitened, whitened).real
    return np.diagonal(np.linalg.inv(information))[:users]


@SEPARATE
def test_the_conditional_bound_is_that_of_the_numeric_fisher_matrix(users: int) -> None:
    theta, gain = THETA[:users], gains(users)
    found = crb_conditional(theta, gain, NOISE, ANTENNAS, SPACING)
    np.testing.assert_allclose(found, polar_bound(theta, gain)[0], rtol=1e-5)


@SEPARATE
def test_the_bounds_of_gains_are_those_of_the_numeric_fisher_matrix(users: int) -> None:
    theta, gain = THETA[:users], gains(users)
    found = crb_gain(theta, gain, NOISE, ANTENNAS, SPACING)
    _, size, phase = polar_bound(theta, gain)
    np.testing.assert_allclose(found.gain, size, rtol=1e-5)
    np.testing.assert_allclose(found.angle, phase, rtol=1e-5)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.99])
@SEPARATE
def test_the_unconditional_bound_is_that_of_the_numeric_fisher_matrix(users: int, correlation: float) -> None:
    theta = THETA[:users]
    powers = np.array([1.0, 0.4, 2.0])[:users]
    mixing = np.exp(1j * np.arange(users)) * np.sqrt(powers)
    covariance = correlation * np.outer(mixing, mixing.conj()) + (1 - correlation) * np.diag(powers)
    found = crb_unconditional(theta, covariance, NOISE, ANTENNAS, SNAPSHOTS, SPACING)
    np.testing.assert_allclose(found, gaussian_bound(theta, covariance), rtol=1e-4)


def test_one_user_has_the_bound_of_the_textbook() -> None:
    theta, gain = THETA[:1], gains(1)
    slope = (2 * np.pi * SPACING * np.cos(theta)) ** 2 * ANTENNAS * (ANTENNAS**2 - 1) / 12
    conditional = NOISE / (2 * np.sum(np.abs(gain) ** 2) * slope)
    np.testing.assert_allclose(crb_conditional(theta, gain, NOISE, ANTENNAS, SPACING), conditional, rtol=1e-9)
    power = 0.7
    loss = 1 + NOISE / (ANTENNAS * power)
    unconditional = NOISE * loss / (2 * SNAPSHOTS * power * slope)
    found = crb_unconditional(theta, np.array([[power]]), NOISE, ANTENNAS, SNAPSHOTS, SPACING)
    np.testing.assert_allclose(found, unconditional, rtol=1e-9)


def test_the_conditional_information_is_the_curvature_of_variable_projection() -> None:
    gain = gains(3)
    response = array_response(THETA, ANTENNAS, SPACING)
    slope = 2j * np.pi * SPACING * np.cos(THETA)[:, None] * np.arange(ANTENNAS) * response
    stacked = products_of(np.concatenate([response, slope]))
    matched = np.zeros((6, SNAPSHOTS), complex)
    bend = curvature(stacked, matched, np.linalg.inv(stacked[:3, :3]), gain.T)[0]
    bound = np.diagonal(np.linalg.inv(2 / NOISE * bend))
    np.testing.assert_allclose(crb_conditional(THETA, gain, NOISE, ANTENNAS, SPACING), bound, rtol=1e-9)


def test_a_batch_equals_one_frame_after_the_other() -> None:
    frames = UlaScene(correlation=0.9, snapshots=5).frames(np.random.default_rng(3), 6, np.linspace(-10, 20, 6))
    theta, gain = (part.reshape(2, 3, *part.shape[1:]) for part in (frames.theta, frames.gain))
    noise = frames.noise_var.reshape(2, 3)
    angles, along = crb_conditional(theta, gain, noise, 32), crb_gain(theta, gain, noise, 32)
    drawn = crb_unconditional(theta, frames.covariance, noise, 32, 5)
    assert (angles.shape, drawn.shape, along.gain.shape) == ((2, 3, 3), (2, 3, 3), (2, 3, 5, 3))
    for at in np.ndindex(2, 3):
        np.testing.assert_allclose(angles[at], crb_conditional(theta[at], gain[at], noise[at], 32), rtol=1e-9)
        np.testing.assert_allclose(
            drawn[at], crb_unconditional(theta[at], frames.covariance, noise[at], 32, 5), rtol=1e-9
        )
        alone = crb_gain(theta[at], gain[at], noise[at], 32)
        np.testing.assert_allclose(along.gain[at], alone.gain, rtol=1e-9)
        np.testing.assert_allclose(along.angle[at], alone.angle, rtol=1e-9)


@pytest.mark.parametrize(("snr_db", "degrees"), [(-10.0, 0.162), (0.0, 0.052), (10.0, 0.0160), (20.0, 0.0051)], ids=str)
def test_the_bounds_of_the_set_up_are_those_measured_elsewhere(snr_db: float, degrees: float) -> None:
    """Independent users, separation S0: the root of the mean variance over 2,000 frames and the users."""
    frames = UlaScene().frames(np.random.default_rng(5), 2000, snr_db)
    conditional = crb_conditional(frames.theta, frames.gain, frames.noise_var, 32)
    assert np.degrees(np.sqrt(conditional.mean())) == pytest.approx(degrees, rel=0.02)
    if snr_db == -10:
        drawn = crb_unconditional(frames.theta, frames.covariance, frames.noise_var, 32, 40)
        assert np.degrees(np.sqrt(drawn.mean())) == pytest.approx(0.183, rel=0.01)
    along = crb_gain(frames.theta, frames.gain, frames.noise_var, 32).gain
    assert along.mean() == pytest.approx(0.00157 * 10 ** (1 - snr_db / 10), rel=0.01)


def test_what_a_frame_does_not_tell_has_an_infinite_bound_and_leaves_the_others_alone() -> None:
    gain = gains(3)
    gain[:, 1] = 0
    found, along = crb_conditional(THETA, gain, NOISE, ANTENNAS), crb_gain(THETA, gain, NOISE, ANTENNAS)
    assert np.isinf(found).tolist() == [False, True, False]
    assert np.isinf(along.angle[0]).tolist() == [False, True, False]
    assert np.isfinite(along.gain).all()
    end = crb_conditional(np.array([0.1, np.pi / 2]), gains(2), NOISE, ANTENNAS)
    assert end[1] > 1e20
    assert end[0] < 1
    coherent = crb_unconditional(THETA, np.ones((3, 3)), NOISE, ANTENNAS, SNAPSHOTS)
    assert np.isfinite(coherent).all()
    assert np.isinf(crb_unconditional(THETA[:1], np.zeros((1, 1)), NOISE, ANTENNAS, SNAPSHOTS)).all()


def test_gains_of_other_users_are_refused_by_name() -> None:
    with pytest.raises(ShapeError, match=r"crb_conditional: gain is \(4, 2\), angles are \(3,\); wanted"):
        crb_conditional(THETA, gains(2), NOISE, ANTENNAS)
    with pytest.raises(ShapeError, match=r"crb_gain: gain is \(3,\), angles are \(3,\); wanted"):
        crb_gain(THETA, gains(3)[0], NOISE, ANTENNAS)
    with pytest.raises(ShapeError, match=r"crb_unconditional: covariance is \(2, 2\), angles are \(3,\)"):
        crb_unconditional(THETA, np.eye(2), NOISE, ANTENNAS, SNAPSHOTS)
