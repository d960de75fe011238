"""Maximum likelihood against scipy on the likelihood written out, finite differences, and the bound."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from beamslot_ula import THREE, degrees, normal, observed, responses
from numpy.typing import NDArray
from scipy.optimize import minimize

from beamslot.dsp.doa.maximum_likelihood import alternating_projection, line, refine, through
from beamslot.dsp.doa.peaks import pseudo_labels
from beamslot.dsp.doa.root_music import fbss_root_music
from beamslot.dsp.doa_bounds import crb_conditional
from beamslot.dsp.projection import curvature
from beamslot.dsp.ula import UlaScene
from beamslot.errors import BadParam

RNG = np.random.default_rng(19)
GAIN = normal(RNG, 2, 40, 3)
NOISY = observed(THREE, GAIN) + normal(RNG, 2, 40, 32)


def misfit(theta: NDArray[Any], rows: NDArray[Any], operator: NDArray[Any] | None = None) -> float:
    """Return sum_m ||y_m - X h_m||^2 with the best gains."""
    atoms = responses(theta).T if operator is None else operator @ responses(theta).T
    left = rows.T - atoms @ np.linalg.lstsq(atoms, rows.T, rcond=None)[0]
    return float(np.sum(np.abs(left) ** 2))


def best(start: NDArray[Any], rows: NDArray[Any], operator: NDArray[Any] | None = None) -> NDArray[Any]:
    options = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 2000, "initial_simplex": None}
    found = minimize(partial(misfit, rows=rows, operator=operator), start, method="Nelder-Mead", options=options)
    assert found.success
    return np.sort(found.x)


def test_steps_end_at_the_minimum_that_scipy_finds() -> None:
    made = refine(THREE + 0.01, NOISY, steps=12)
    for frame in range(2):
        np.testing.assert_allclose(made.theta[frame], best(THREE[frame], NOISY[frame]), atol=1e-6)
        wanted = misfit(made.theta[frame], NOISY[frame]) / (40 * 29 - 1.5)
        assert made.noise_var[frame] == pytest.approx(wanted, rel=1e-6)
        fitted = np.linalg.lstsq(responses(made.theta[frame]).T, NOISY[frame].T, rcond=None)[0].T
        np.testing.assert_allclose(made.gain[frame], fitted, atol=1e-6)
    assert made.step.max() < 1e-4


def test_no_steps_judge_the_start_and_order_it() -> None:
    made = refine(THREE[:, ::-1] + 0.01, NOISY, steps=0)
    np.testing.assert_allclose(made.theta, THREE + 0.01)
    assert not made.step.any()
    assert made.noise_var[0] == pytest.approx(misfit(THREE[0] + 0.01, NOISY[0]) / (40 * 29 - 1.5), rel=1e-6)
    fitted = np.linalg.lstsq(responses(THREE[1] + 0.01).T, NOISY[1].T, rcond=None)[0].T
    np.testing.assert_allclose(made.gain[1], fitted, atol=1e-6)


@pytest.mark.parametrize("spacing", [0.5, 0.8])
def test_without_noise_angles_and_gains_are_exact(spacing: float) -> None:
    made = refine(THREE + 0.008, observed(THREE, GAIN, spacing=spacing), spacing, steps=8)
    np.testing.assert_allclose(made.theta, THREE, atol=1e-9)
    np.testing.assert_allclose(made.gain, GAIN, atol=1e-7)
    assert made.noise_var.max() < 1e-10


def test_the_first_step_is_the_gradient_over_the_curvature() -> None:
    start = THREE + 1e-3
    rows, users = NOISY[0], 3
    atoms, slopes = line(32)(start[0])
    both = np.concatenate([atoms, slopes])
    inverse = np.linalg.inv(atoms.conj() @ atoms.T)
    gain = inverse @ atoms.conj() @ rows.T
    bend, descent = curvature(both.conj() @ both.T, both.conj() @ rows.T, inverse, gain)
    shift = 1e-6 * np.eye(users)
    slope = [(misfit(start[0] + one, rows) - misfit(start[0] - one, rows)) / 2e-6 for one in shift]
    np.testing.assert_allclose(-2 * descent, slope, rtol=1e-4)
    moved = refine(start[:1], rows[None], steps=1).theta[0] - start[0]
    np.testing.assert_allclose(moved, np.linalg.solve(bend, descent), rtol=0.02, atol=1e-7)


def test_curvature_of_a_batch_is_that_of_its_members() -> None:
    both = normal(RNG, 4, 6, 9)
    gram, matched = both.conj() @ both.swapaxes(1, 2), both.conj() @ normal(RNG, 4, 9, 5)
    inverse = np.linalg.inv(gram[:, :2, :2])
    gain = inverse @ matched[:, :2]
    whole = curvature(gram, matched, inverse, gain)
    for index in range(4):
        alone = curvature(gram[index], matched[index], inverse[index], gain[index])
        for one, many in zip(alone, whole, strict=True):
            np.testing.assert_allclose(many[index], one, atol=1e-12)


def test_a_frame_does_not_depend_on_those_beside_it() -> None:
    frames = UlaScene().frames(np.random.default_rng(20), 20, 0)
    start = frames.theta + RNG.uniform(-0.03, 0.03, frames.theta.shape)
    whole = refine(start, frames.observation)
    for index in (0, 7, 19):
        alone = refine(start[index], frames.observation[index])
        for one, many in zip(alone, whole, strict=True):
            np.testing.assert_allclose(many[index], one, rtol=1e-7, atol=1e-9)


def test_the_fit_never_gets_worse_whatever_the_start() -> None:
    frames = UlaScene().frames(np.random.default_rng(21), 40, 0)
    start = np.sort(RNG.uniform(-1.5, 1.5, (40, 3)), axis=1)
    left = [refine(start, frames.observation, steps=steps).noise_var for steps in range(8)]
    assert np.all(np.diff(left, axis=0) < 1e-9)
    assert np.mean(left[-1]) < np.mean(left[0])


def test_users_on_one_another_or_at_endfire_stay_finite() -> None:
    for start in (np.array([[0.2, 0.2, 0.5]]), np.array([[-np.pi / 2, 0.0, np.pi / 2]])):
        made = refine(start, NOISY[:1], steps=4)
        for values in made:
            assert np.isfinite(values).all()
    assert np.isfinite(refine(THREE, np.zeros((2, 40, 32))).deviation).all()


@pytest.mark.parametrize("snapshots", [1, 5, 40])
def test_deviations_cover_the_truth(snapshots: int) -> None:
    frames = UlaScene(snapshots=snapshots).frames(np.random.default_rng(22), 400, 20)
    made = refine(frames.theta, frames.observation, steps=6)
    score = (made.theta - frames.theta) / made.deviation
    assert np.mean(np.abs(score) < 1.96) == pytest.approx(0.95, abs=0.02)
    bound = np.sqrt(crb_conditional(frames.theta, frames.gain, frames.noise_var, 32, 0.5))
    assert np.median(made.deviation / bound) == pytest.approx(1, abs=0.05)
    assert made.noise_var.mean() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
@pytest.mark.parametrize(("snr_db", "high"), [(0, 1.1), (10, 1.07), (20, 1.07)])
def test_four_steps_from_peaks_or_smoothed_roots_are_at_the_bound(
    correlation: float, snr_db: float, high: float
) -> None:
    frames = UlaScene(correlation=correlation).frames(np.random.default_rng(23), 200, snr_db)
    bound = np.sqrt(crb_conditional(frames.theta, frames.gain, frames.noise_var, 32, 0.5).mean())
    made = refine(pseudo_labels(frames.observation, 3), frames.observation).theta
    assert 0.9 < np.sqrt(np.mean((made - frames.theta) ** 2)) / bound < high
    other = refine(fbss_root_music(frames.observation[:50], 3), frames.observation[:50]).theta
    np.testing.assert_allclose(other, made[:50], atol=0.3 * bound)


def test_behind_an_analog_operator_steps_find_the_minimum_too() -> None:
    operator = normal(RNG, 12, 32) / np.sqrt(32)
    rows = NOISY @ operator.T
    made = refine(THREE + 0.005, rows, steps=12, response=through(line(32), operator))
    for frame in range(2):
        wanted = best(THREE[frame], rows[frame], operator)
        np.testing.assert_allclose(made.theta[frame], wanted, atol=1e-5)


def test_an_array_may_be_any_with_a_response() -> None:
    place = RNG.uniform(-4, 4, (32, 2))

    def response(theta: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        towards, across = np.stack([np.sin(theta), np.cos(theta)], -1), np.stack([np.cos(theta), -np.sin(theta)], -1)
        atoms = np.exp(2j * np.pi * towards @ place.T)
        return atoms, 2j * np.pi * (across @ place.T) * atoms

    everywhere = np.array([[-2.5, 0.3, 2.0]])
    rows = GAIN[:1] @ response(everywhere)[0]
    made = refine(everywhere + 0.01, rows, steps=8, response=response)
    np.testing.assert_allclose(made.theta, everywhere, atol=1e-8)


def test_alternating_projection_and_steps_find_the_best_of_all_pairs() -> None:
    rows = observed(THREE[:, 1:], GAIN[:, :, :1] * [1, 1j], 8) + 0.3 * normal(RNG, 2, 40, 8)  # coherent
    grid = (np.arange(40) - 20) / 20
    made = refine(alternating_projection(rows, 2, bins=64), rows, steps=12).theta
    for frame, angles in zip(rows, made, strict=True):
        pairs = [np.arcsin([grid[other], grid[one]]) for one in range(40) for other in range(one)]

        def left(theta: NDArray[Any], frame: NDArray[Any] = frame) -> float:
            basis = np.linalg.qr(responses(theta, 8).T)[0]
            return float(np.sum(np.abs(frame - frame @ basis.conj() @ basis.T) ** 2))

        start = min(pairs, key=left)
        found = minimize(left, start, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10})
        np.testing.assert_allclose(angles, found.x, atol=1e-5)


def test_alternating_projection_and_steps_are_maximum_likelihood() -> None:
    frames = UlaScene(correlation=0.99).frames(np.random.default_rng(24), 40, 0)
    start = alternating_projection(frames.observation, 3)
    made = refine(start, frames.observation, steps=10).theta
    wanted = refine(frames.theta, frames.observation, steps=10).theta
    np.testing.assert_allclose(made, wanted, atol=1e-4)
    assert degrees(start, frames.theta) < 0.1


def test_more_users_than_entries_are_refused() -> None:
    with pytest.raises(BadParam, match=r"doa.users is 4, wanted 1 .. 3, fewer than an observation has entries"):
        refine(np.zeros((1, 4)), np.ones((1, 5, 4)))
    with pytest.raises(BadParam, match=r"doa.users is 8, wanted 1 .. 7"):
        alternating_projection(np.ones((1, 5, 8)), 8)
