"""The design of groupings: truth is exhaustive search, limits found by another route, and the paper's figure 5."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.linalg import toeplitz

from beamslot.dsp import eda
from beamslot.dsp.ambiguity import centre_cosines, membership
from beamslot.dsp.eda import Design, design, sample
from beamslot.dsp.grouping import Setting
from beamslot.dsp.resolution import resolution_limit
from beamslot.errors import BadParam

PAPER = Setting(n_y=64, groups=4, region=(1 / 32, 1.0))
SMALL = Setting(n_y=24, groups=3, population=60, elite=12, iterations=12)


def made(setting: Setting = SMALL, seed: int = 1, progress: Any = None) -> Design:
    return design(setting, np.random.default_rng(seed), progress)


def limits(group: np.ndarray, setting: Setting) -> np.ndarray:
    cosine = centre_cosines(setting.interval, setting.groups)
    return resolution_limit(membership(group, setting.groups).astype(float), cosine, setting.snr, setting.spacing)


def printed_level(group: np.ndarray, setting: Setting) -> float:
    """Return max_g ISL_g from eqs. (12) and (13) as printed, for half a wavelength."""
    (a, b), levels = setting.side_lobes, []
    n = np.arange(1, setting.n_y)
    for g, c in enumerate(centre_cosines(setting.interval, setting.groups)):
        s = (group == g).astype(float)
        first = np.r_[2 * (b - a), 2 * (np.sin(n * np.pi * c * b) - np.sin(n * np.pi * c * a)) / (n * np.pi * c)]
        levels.append(s @ toeplitz(first) @ s / (2 * (b - a) * s.sum() ** 2))
    return float(max(levels))


def test_the_paper_s_array_goes_from_random_side_lobes_to_those_of_figure_5() -> None:
    found = [made(PAPER, seed) for seed in range(8)]
    last = [one.history[-1] for one in found]
    assert all(0.06 < one.start < 0.08 for one in found)
    assert np.median(last) <= 0.045
    assert max(last) < 0.048
    assert all(one.iterations <= 50 and (one.srl <= one.limit).all() for one in found)


def test_the_default_side_lobes_leave_no_place_to_hide_one() -> None:
    setting = PAPER.model_copy(update={"region": None})
    found = [made(setting, seed) for seed in range(4)]
    assert np.median([one.history[-1] for one in found]) <= 0.046
    assert (
        max(map(lobe_at_half_a_period, found)) < 0.5 < max(lobe_at_half_a_period(made(PAPER, seed)) for seed in (0, 1))
    )


def lobe_at_half_a_period(found: Design) -> float:
    """Return how much more even than odd columns a group has, or the other way round: |chi_g| there, of the worst."""
    signs = (-1.0) ** np.arange(found.setting.n_y)
    return max(abs(signs[found.group == g].mean()) for g in range(found.setting.groups))


def test_the_figures_of_a_design_are_those_of_its_columns() -> None:
    found = made()
    assert found.group.dtype == np.int16
    assert found.isl.max() == pytest.approx(printed_level(found.group, SMALL), rel=1e-10)
    assert found.history[-1] == pytest.approx(found.isl.max(), rel=1e-10)
    np.testing.assert_allclose(found.srl, limits(found.group, SMALL))


def test_every_member_of_every_population_keeps_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    level = eda.side_lobe_level
    monkeypatch.setattr(eda, "side_lobe_level", lambda members, *rest: (seen.append(members), level(members, *rest))[1])
    found = made()
    assert [len(members) for members in seen] == [SMALL.population] * (found.iterations + 1)
    every = np.concatenate(seen)
    np.testing.assert_array_equal(every.sum(1), 1)
    by_bisection = resolution_limit(every, centre_cosines(SMALL.interval, 3), SMALL.snr)
    assert (by_bisection <= found.limit * (1 + 1e-8)).all()


def test_the_best_is_carried_over_and_told_after_every_iteration() -> None:
    told: list[tuple[int, float]] = []
    found = made(progress=lambda done, best: told.append((done, best)))
    assert told == [*enumerate(found.history)][1:]
    assert (np.diff(found.history) <= 0).all()
    assert found.history[-1] < found.history[0] < found.start


@pytest.mark.parametrize(("n_y", "groups"), [(10, 2), (9, 3)])
def test_a_small_array_gets_what_exhaustive_search_finds(n_y: int, groups: int) -> None:
    setting = Setting(n_y=n_y, groups=groups)
    found = made(setting)
    every = np.array([*product(range(groups), repeat=n_y)])
    enough = every[(membership(every, groups).sum(-1) >= 3).all(-1)]
    allowed = enough[(limits(enough, setting) <= found.limit).all(-1)]
    best = min(printed_level(group, setting) for group in allowed)
    assert best * (1 - 1e-9) <= found.history[-1] <= 1.02 * best


def test_the_limit_is_what_keeps_groups_from_gathering() -> None:
    loose = made(SMALL.model_copy(update={"rho": 100.0, "iterations": 40}))
    tight = made(SMALL.model_copy(update={"iterations": 40}))
    assert loose.history[-1] < tight.history[-1]
    assert loose.srl.max() > tight.limit.max()


def test_the_generator_alone_decides() -> None:
    first, again, other = made(seed=4), made(seed=4), made(seed=5)
    np.testing.assert_array_equal(first.group, again.group)
    assert first.history == again.history
    assert (first.group != other.group).any()


def test_it_stops_when_nothing_gets_better() -> None:
    setting = Setting(n_y=8, groups=1, patience=3)  # there is one grouping only
    found = made(setting)
    assert found.history == (found.history[0],) * 4
    assert found.start == pytest.approx(found.history[0])
    assert made(setting.model_copy(update={"iterations": 0})).iterations == 0


def test_columns_are_drawn_with_the_chances_that_were_learned(rng: np.random.Generator) -> None:
    chances = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.2, 0.3, 0.5], [0, 0.5, 0.5]])
    drawn = sample(chances, 20_000, rng)
    assert (drawn[:, :3] == [0, 1, 2]).all()
    shares = [[np.mean(drawn[:, n] == g) for g in range(3)] for n in (3, 4)]
    np.testing.assert_allclose(shares, chances[3:], atol=0.02)
    assert abs(np.corrcoef(drawn[:, 3], drawn[:, 4])[0, 1]) < 0.03


def test_chances_that_do_not_quite_sum_to_one_give_no_group_too_many(rng: np.random.Generator) -> None:
    assert sample(np.full((4, 3), (1 - 1e-3) / 3), 50_000, rng).max() == 2


def test_limits_that_nothing_keeps_are_told_with_what_could_be_kept() -> None:
    with pytest.raises(BadParam, match=r"eda: rho is 0\.1, .* 24 columns in 3 groups .* wanted a rho above 0\.[5-9]"):
        made(SMALL.model_copy(update={"rho": 0.1}))


def test_a_record_says_what_was_found_and_by_what() -> None:
    found = made()
    kept = found.record(1)
    assert (kept.group, kept.seed, kept.setting) == (found.group.tolist(), 1, SMALL)
    assert (kept.isl, kept.history) == (found.isl.tolist(), list(found.history))
