"""Inference on a dynamic grid: truth is finite differences, exact scenes and paths that are known to be there."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams
from beamslot.dsp.sc_vbi import GridStep, direction_information, gradient_step, infer, newton_step
from beamslot.dsp.sensing import Sensing, joint_sensing
from beamslot.dsp.variational import Gains, Paths, Prior, posterior_gains
from beamslot.frame import Geometry, Operator

GAIN = np.array([[1.0, 0.6j, -0.4 + 0.3j]])
U, V = np.array([[-0.42, 0.13, 0.55]]), np.array([[-0.41, -0.18, -0.07]])


def small() -> Sensing:
    group = np.array([0, 1, 2, 3] * 4, np.int16)[np.random.default_rng(0).permutation(16)]
    return joint_sensing(Geometry(16, 24), Operator(group_beams(group, (-0.5, 0.0), 4, 6), group, (-0.5, 0.0)), 1 / 24)


def seen(sensing: Sensing, u: NDArray[Any], v: NDArray[Any], noise: float = 0.0) -> NDArray[Any]:
    """Return what three paths leave, of unit mean power, plus noise of a given variance relative to it."""
    rows = np.einsum("pk,pkr->pr", GAIN, sensing.atoms(u, v))
    rows /= np.sqrt(np.mean(np.abs(rows) ** 2))
    rng = np.random.default_rng(1)
    return rows + np.sqrt(noise / 2) * (rng.standard_normal(rows.shape) + 1j * rng.standard_normal(rows.shape))


def candidates(u: NDArray[Any], v: NDArray[Any], noise_precision: float = 50.0, precision: float = 1e-3) -> Paths:
    ones = np.ones(u.shape)
    return Paths(u, v, ones > 0, ones, precision * ones, np.full(len(u), noise_precision))


def shifts(paths: Paths, step: float) -> list[tuple[Paths, Paths]]:
    """Return the paths with one direction at a time moved forth and back, all of u first."""
    moved = []
    for name in ("u", "v"):
        for path in range(paths.u.shape[1]):
            by = step * np.eye(paths.u.shape[1])[path]
            forth, back = ({name: getattr(paths, name) + sign * by} for sign in (1, -1))
            moved.append((replace(paths, **forth), replace(paths, **back)))
    return moved


def test_the_descent_of_either_step_is_the_finite_difference_of_what_it_lowers() -> None:
    sensing = small()
    observation = seen(sensing, U, V, 0.1)
    paths = candidates(U + 0.02, V - 0.015)
    atoms, slopes = sensing.slopes(paths.u, paths.v)
    gains = posterior_gains(observation, atoms, paths)

    def profile(at: Paths) -> float:
        return float(posterior_gains(observation, sensing.atoms(at.u, at.v), at).objective[0])

    def misfit(at: Paths) -> float:
        rest = observation - np.einsum("pk,pkr->pr", gains.mean, sensing.atoms(at.u, at.v))
        return float(paths.noise_precision[0] * np.sum(np.abs(rest) ** 2))

    for direction, lowered in ((newton_step, profile), (gradient_step, misfit)):
        step, descent = direction(slopes, gains, paths)
        slope = [(lowered(forth) - lowered(back)) / 2e-6 for forth, back in shifts(paths, 1e-6)]
        np.testing.assert_allclose(-2 * descent[0], slope, rtol=1e-5, atol=1e-4)
        assert np.sum(step * descent) > 0


def test_the_information_is_the_curvature_where_the_fit_is_exact() -> None:
    sensing, step = small(), 1e-4
    observation = seen(sensing, U, V)
    paths = candidates(U, V, precision=1e-9)
    atoms, slopes = sensing.slopes(U, V)
    gains = posterior_gains(observation, atoms, paths)
    information, descent, answer = direction_information(slopes, gains, paths)

    def refit(at: Paths) -> Gains:
        return posterior_gains(observation, sensing.atoms(at.u, at.v), at)

    curvature = np.zeros((6, 6))
    for row, pair in enumerate(shifts(paths, step)):
        bends = [[refit(at).objective[0] for both in shifts(one, step) for at in both] for one in pair]
        (pp, pm), (mp, mm) = (np.reshape(bend, (6, 2)).T for bend in bends)
        curvature[row] = (pp - pm - mp + mm) / (4 * step**2)
    np.testing.assert_allclose(2 * information[0], curvature, rtol=2e-3, atol=2e-3 * curvature.max())
    np.testing.assert_allclose(descent, 0, atol=1e-5)
    given_way = [(refit(forth).mean - refit(back).mean)[0] / (2 * step) for forth, back in shifts(paths, step)]
    np.testing.assert_allclose(-answer[0], np.transpose(given_way), rtol=1e-3, atol=1e-3)


def test_paths_off_the_support_neither_move_nor_count() -> None:
    sensing = small()
    paths = replace(candidates(U, V), mask=np.array([[True, False, True]]))
    atoms, slopes = sensing.slopes(U, V)
    information, descent, answer = direction_information(
        slopes, posterior_gains(seen(sensing, U, V), atoms, paths), paths
    )
    for table in (
        information[0, [1, 4]],
        information[0][:, [1, 4]],
        descent[0, [1, 4]],
        answer[0][:, [1, 4]],
        answer[0, 1],
    ):
        np.testing.assert_array_equal(table, 0)


@pytest.mark.parametrize("grid_step", ["gauss_newton", "gradient"])
def test_paths_off_the_grid_are_found_and_the_noise_with_them(grid_step: GridStep) -> None:
    sensing = small()
    observation, prior = seen(sensing, U, V, 1e-3), Prior.of(sensing, 3.0)
    paths, gains, rounds, settled = infer(
        observation, sensing, prior, Paths.none(1), rounds=60, max_paths=6, grid_step=grid_step
    )
    assert settled
    assert rounds < 60
    order = np.argsort(paths.u[0])
    np.testing.assert_allclose(paths.u[0, order], U[0], atol=3e-3)
    np.testing.assert_allclose(paths.v[0, order], V[0], atol=3e-3)
    expected = GAIN[0] * np.abs(gains.mean[0, order[0]])
    np.testing.assert_allclose(np.abs(gains.mean[0, order]), np.abs(expected), rtol=0.05)
    # 64 observations, 12 real unknowns: the noise is known to 12 %.
    assert 1 / paths.noise_precision[0] == pytest.approx(1e-3, rel=0.4)


def test_without_growth_no_path_enters_and_false_ones_go() -> None:
    sensing = small()
    start = candidates(np.array([[-0.4, 0.15, -0.8]]), np.array([[-0.4, -0.2, -0.3]]))
    paths, *_ = infer(
        seen(sensing, U, V, 1e-2), sensing, Prior.of(sensing, 3.0), start, rounds=30, max_paths=6, grow=False
    )
    assert paths.mask.sum() == 2
    np.testing.assert_allclose(np.sort(paths.u[paths.mask]), U[0, :2], atol=0.02)


def test_duplicates_become_one_path() -> None:
    sensing = small()
    start = candidates(np.repeat(U, 2, axis=1) + 1e-4 * np.arange(6), np.repeat(V, 2, axis=1))
    paths, *_ = infer(
        seen(sensing, U, V, 1e-3), sensing, Prior.of(sensing, 3.0), start, rounds=30, max_paths=6, grow=False
    )
    np.testing.assert_allclose(np.sort(paths.u[paths.mask]), U[0], atol=3e-3)


def test_two_paths_a_tenth_of_a_cell_apart_are_taken_for_one() -> None:
    sensing = small()
    u, v = np.array([[0.2, 0.2 + 0.1 * sensing.cell[0]]]), np.array([[-0.2, -0.2 + 0.1 * sensing.cell[1]]])
    observation = np.einsum("k,pkr->pr", [1.0, 1j], sensing.atoms(u, v)) / np.sqrt(2 * sensing.energy.mean() / 64)
    paths, *_ = infer(
        observation, sensing, Prior.of(sensing, 3.0), candidates(u, v, 1e4), rounds=30, max_paths=6, grow=False
    )
    assert paths.mask.sum() == 1


def test_no_move_makes_the_fit_worse_even_where_the_full_step_would() -> None:
    # Three copies that share one path each take the step that one alone should take, three times over.
    sensing, unit = small(), np.repeat(small().cell, 3)
    observation = sensing.atoms(np.full((1, 1), 0.1), np.full((1, 1), -0.2))[:, 0]
    observation /= np.sqrt(np.mean(np.abs(observation) ** 2))

    def misfit(at: Paths, mean: NDArray[Any]) -> float:
        return float(np.sum(np.abs(observation - np.einsum("pk,pkr->pr", mean, sensing.atoms(at.u, at.v))) ** 2))

    too_far = 0
    for offset in (0.02, 0.05, 0.08, -0.1):
        start = candidates(np.full((1, 3), 0.1 + offset * sensing.cell[0]), np.full((1, 3), -0.2), 1e3)
        atoms, slopes = sensing.slopes(start.u, start.v)
        gains = posterior_gains(observation, atoms, start)
        step = np.clip(gradient_step(slopes * unit[:, None], gains, start)[0], -0.25, 0.25) * unit
        full = replace(start, u=start.u + step[:, :3], v=start.v + step[:, 3:])
        too_far += misfit(full, gains.mean) > misfit(start, gains.mean)
        moved, *_ = infer(
            observation, sensing, Prior.of(sensing, 3.0), start, rounds=1, max_paths=6, grid_step="gradient", grow=False
        )
        assert misfit(moved, gains.mean) < misfit(start, gains.mean)
    assert too_far == 4


def test_the_search_stays_within_the_visible_region() -> None:
    sensing = small()
    beyond = sensing.atoms(np.array([[-0.98]]), np.array([[-0.48]]))[:, 0]
    observation = beyond / np.sqrt(np.mean(np.abs(beyond) ** 2))
    # One path enters, at |u| <= sin(60 degrees) or so, and can then go three quarters of a cell.
    paths, *_ = infer(observation, sensing, Prior.of(sensing, 3.0), Paths.none(1), rounds=4, max_paths=6)
    assert paths.mask.sum() == 1
    assert np.all(np.abs(paths.u[paths.mask]) < 0.875 + 0.75 * sensing.cell[0] - 0.05)


def test_a_direction_that_no_chain_hears_does_no_harm() -> None:
    weights = np.ones((16, 4, 6), np.complex64) * np.resize([1, -1], 6).astype(np.complex64)
    front = Operator(weights, np.zeros(16, np.int16), (-0.5, 0.0))
    sensing = joint_sensing(Geometry(16, 24), front, 0.0)
    assert np.all(sensing.energy > 0)
    observation = seen(sensing, U, V, 1e-2)
    paths, gains, *_ = infer(observation, sensing, Prior.of(sensing, 3.0), Paths.none(1), rounds=20, max_paths=6)
    assert paths.mask.any()
    assert np.all(np.isfinite(gains.mean))


def test_the_number_of_paths_and_of_rounds_is_bounded() -> None:
    sensing = small()
    observation, prior = seen(sensing, U, V, 1e-4), Prior.of(sensing, 3.0)
    few, *_ = infer(observation, sensing, prior, Paths.none(1), rounds=30, max_paths=2)
    assert few.mask.sum() == 2
    found, _, rounds, settled = infer(observation, sensing, prior, Paths.none(1), rounds=5, max_paths=6)
    assert (rounds, settled) == (5, False)
    assert found.mask.sum() == 2


def test_problems_side_by_side_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(2)
    one = small()
    two = replace(
        one,
        weights=np.repeat(one.weights, 2, axis=0),
        column=np.repeat(one.column, 2, axis=0),
        valid=np.repeat(one.valid, 2, axis=0),
        low=np.repeat(one.low, 2),
        high=np.repeat(one.high, 2),
    )
    observation = np.concatenate([seen(one, U, V, 1e-3), rng.standard_normal((1, 64)) + 0j])
    paths, gains, *_ = infer(observation, two, for_two(Prior.of(one, 3.0)), Paths.none(2), rounds=12, max_paths=6)
    alone, solo, *_ = infer(observation[:1], one, Prior.of(one, 3.0), Paths.none(1), rounds=12, max_paths=6)
    kept = alone.mask[0]
    np.testing.assert_allclose(paths.u[0, : len(kept)][kept], alone.u[0, kept], atol=1e-4)
    np.testing.assert_allclose(gains.mean[0, : len(kept)][kept], solo.mean[0, kept], atol=1e-3)


def for_two(prior: Prior) -> Prior:
    """Return the prior of one problem for two."""
    return Prior(np.repeat(prior.slab_rate, 2), np.repeat(prior.spike_rate, 2), np.repeat(prior.log_odds, 2))
