"""Blind calibration: truth is the phases that were put in, and Fisher's information by finite differences."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.calibration import START, PhaseCalibrator, identifiable, phase_bound, phase_information
from beamslot.dsp.doa.maximum_likelihood import line, refine
from beamslot.dsp.ula import Frames, UlaScene, array_response
from beamslot.errors import BadParam

ERROR = np.deg2rad(20)


def scene(frames: int, snr_db: float, seed: int = 1) -> tuple[Frames, NDArray[Any], NDArray[Any]]:
    """Return frames, the phase errors of 32 antennas, and what is seen with them."""
    rng = np.random.default_rng(seed)
    made, phase = UlaScene().frames(rng, frames, snr_db), ERROR * rng.standard_normal(32)
    return made, phase, made.observation * np.exp(1j * phase).astype(np.complex64)


def learned(observation: NDArray[Any], **options: Any) -> PhaseCalibrator:
    made = PhaseCalibrator(32, **options)
    for frame in observation:
        assert made.add(frame)
    return made


@pytest.mark.parametrize("snr_db", [0, 20])
def test_a_hundred_frames_tell_the_phases_down_to_their_bound(snr_db: float) -> None:
    errors, bounds = [], []
    for seed in range(2):
        frames, phase, seen = scene(100, snr_db, seed)
        made = learned(seen, users=3)
        errors.append(np.mean(identifiable(made.phase - phase) ** 2))
        bound = phase_bound(frames.theta, frames.gain, frames.noise_var[0], 32)
        bounds.append(np.trace(bound) / 32)
        assert np.mean(made.deviation**2) == pytest.approx(bounds[-1], rel=0.1)
    assert np.sqrt(np.mean(errors) / np.mean(bounds)) < 1.1


def model(parameters: NDArray[Any], users: int, snapshots: int, antennas: int) -> NDArray[Any]:
    """Return the mean of one frame from phases, angles, and real and imaginary parts of gains."""
    phase, theta, rest = np.split(parameters, [antennas, antennas + users])
    gain = (rest[: len(rest) // 2] + 1j * rest[len(rest) // 2 :]).reshape(snapshots, users)
    return (np.exp(1j * phase) * (gain @ array_response(theta, antennas))).ravel()


def test_the_bound_equals_one_from_a_numeric_fisher_matrix() -> None:
    antennas, users, snapshots, noise_var = 7, 2, 4, 0.3
    rng = np.random.default_rng(3)
    theta = np.array([-0.4, 0.5])
    gain = rng.standard_normal((snapshots, users)) + 1j * rng.standard_normal((snapshots, users))
    at = np.concatenate([np.zeros(antennas), theta, gain.real.ravel(), gain.imag.ravel()])
    steps = 1e-6 * np.eye(len(at))
    arguments = (users, snapshots, antennas)
    slopes = np.stack([(model(at + d, *arguments) - model(at - d, *arguments)) / 2e-6 for d in steps], -1)
    covariance = np.linalg.pinv(2 / noise_var * (slopes.conj().T @ slopes).real, rcond=1e-10, hermitian=True)
    expected = identifiable(identifiable(covariance[:antennas, :antennas]).T)
    found = phase_bound(theta[None], gain[None], noise_var, antennas)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_the_descent_is_that_of_the_misfit_with_angles_and_gains_fitted() -> None:
    frames, phase, _ = scene(1, 10)
    seen = frames.observation * np.exp(0.1j * phase)

    def misfit(shift: NDArray[Any]) -> float:
        turned = seen * np.exp(-1j * shift)
        fitted = refine(frames.theta, turned, steps=30)
        return float(fitted.noise_var[0] * (40 * (32 - 3) - 1.5))

    found = refine(frames.theta, seen, steps=30)
    told = phase_information(seen, found, line(32))
    for antenna in (3, 17):
        step = np.zeros(32)
        step[antenna] = 1e-4
        slope = (misfit(-step) - misfit(step)) / 2e-4  # downhill
        assert told.descent[antenna] * found.noise_var[0] == pytest.approx(slope, rel=2e-3)


def test_what_a_line_cannot_tell_is_left_alone() -> None:
    _, phase, seen = scene(20, 15)
    ramp = np.linspace(-0.5, 0.5, 32)
    plain, turned = learned(seen, users=3), learned(seen * np.exp(0.7j + 1j * ramp).astype(np.complex64), users=3)
    np.testing.assert_allclose(identifiable(turned.phase), identifiable(plain.phase), atol=2e-3)
    np.testing.assert_allclose(identifiable(0.7 + ramp), 0, atol=1e-12)
    assert np.abs(identifiable(plain.phase - phase)).max() < 0.02


def test_calibration_gives_the_angles_back_that_phase_errors_cost() -> None:
    frames, _, seen = scene(60, 20)
    made = learned(seen[:40], users=3)

    def rmse(observation: NDArray[Any]) -> float:
        found = refine(frames.theta[40:], observation).theta
        error = np.sin(found) - np.sin(frames.theta[40:])
        return float(np.std(error))  # a common shift is the ramp that nobody sees

    assert rmse(made.corrected(seen[40:])) < 0.25 * rmse(seen[40:])


def test_users_are_counted_where_nobody_says_how_many() -> None:
    _, phase, seen = scene(30, 15)
    made = learned(seen)
    assert np.sqrt(np.mean(identifiable(made.phase - phase) ** 2)) < 0.01


def test_users_are_counted_by_small_arrays_too() -> None:
    frames = UlaScene(antennas=8, users=1, snapshots=20).frames(np.random.default_rng(2), 20, 15)
    made = PhaseCalibrator(8)
    assert all(made.add(frame) for frame in frames.observation)
    assert np.abs(identifiable(made.phase)).max() < 0.1


def test_nothing_is_learned_from_noise_alone_or_from_what_is_not_finite() -> None:
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal((40, 32)) + 1j * rng.standard_normal((40, 32))).astype(np.complex64)
    made = PhaseCalibrator(32)
    assert not made.add(noise)
    assert not made.add(np.full((40, 32), np.nan, np.complex64))
    assert not PhaseCalibrator(32, users=2).add(np.zeros((40, 32), np.complex64))
    assert made.frames == 0
    np.testing.assert_array_equal(made.phase, 0)


def test_what_drifts_is_followed_by_who_forgets() -> None:
    frames, phase, _ = scene(120, 10)
    drift = np.cumsum(0.01 * np.random.default_rng(5).standard_normal((120, 32)), 0)
    seen = frames.observation * np.exp(1j * (phase + drift))[:, None].astype(np.complex64)

    def error(memory: int) -> float:
        made = learned(seen, users=3, memory=memory)
        return float(np.sqrt(np.mean(identifiable(made.phase - phase - drift[-1]) ** 2)))

    assert error(5) < 0.6 * error(0)


@pytest.mark.parametrize("at", [START // 2, START + 5])
def test_a_snapshot_goes_on_where_it_was_taken(at: int) -> None:
    _, _, seen = scene(START + 10, 10)
    whole, first, second = learned(seen, users=3), learned(seen[:at], users=3), PhaseCalibrator(32, users=3)
    second.restore(first.snapshot())
    for frame in seen[at:]:
        second.add(frame)
    np.testing.assert_array_equal(second.phase, whole.phase)


def test_bad_parameters_are_refused_together() -> None:
    with pytest.raises(BadParam) as caught:
        PhaseCalibrator(8, users=8, steps=0)
    assert str(caught.value).splitlines() == [
        "calibration.users is 8, wanted 0 .. 7",
        "calibration.steps is 0, wanted at least 1",
    ]
