"""Figures over draws, coverage, residuals, pairs: truth is numpy over all slots at once, scipy, dense matrices."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from beamslot.dsp import quality
from beamslot.dsp.combine import dense
from beamslot.dsp.quality import DrawMoments, Pairs, Residuals
from beamslot.errors import ShapeError
from beamslot.frame import Geometry

Real = NDArray[np.float64]


def moments_of(draw: NDArray[np.int64], values: Real) -> DrawMoments:
    made = DrawMoments(values.shape[1])
    for key, row in zip(draw.tolist(), values, strict=True):
        made.add(key, row)
    return made


def by_draw(draw: NDArray[np.int64], values: Real) -> Real:
    return np.stack([values[draw == key].mean(0) for key in np.unique(draw)])


def sample(rng: np.random.Generator, slots: int = 60) -> tuple[NDArray[np.int64], Real]:
    """Return draws of unequal length, and three figures that covary."""
    draw = np.sort(rng.integers(0, slots // 3, slots))
    base = rng.gamma(4.0, size=slots)
    return draw, np.stack([base * rng.gamma(8.0, size=slots), base, rng.random(slots)], 1)


def test_moments_are_those_of_the_means_of_the_draws(rng: np.random.Generator) -> None:
    draw, values = sample(rng)
    known, means = moments_of(draw, values).moments(), by_draw(draw, values)
    assert known.draws == len(means)
    np.testing.assert_allclose(known.mean, means.mean(0), rtol=1e-12)
    np.testing.assert_allclose(known.scatter, np.cov(means.T) * (len(means) - 1), rtol=1e-10)


def test_a_mean_has_the_t_interval_of_scipy(rng: np.random.Generator) -> None:
    draw, values = sample(rng)
    means = by_draw(draw, values)[:, 0]
    low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    value, ends = quality.mean_db(moments_of(draw, values).moments(), 0)
    assert value == pytest.approx(10 * np.log10(means.mean()), abs=1e-10)
    assert ends == pytest.approx([10 * np.log10(low), 10 * np.log10(high)], abs=1e-9)
    plain, plain_ends = quality.mean_of(moments_of(draw, values).moments(), 0)
    assert (plain, *(plain_ends or ())) == pytest.approx((means.mean(), low, high))


def test_a_ratio_is_that_of_the_means_and_its_interval_that_of_the_residuals_about_it(rng: np.random.Generator) -> None:
    draw, values = sample(rng)
    top, bottom = by_draw(draw, values).T[:2]
    ratio = top.mean() / bottom.mean()
    error = np.std(top - ratio * bottom, ddof=1) / np.sqrt(len(top)) / bottom.mean()
    half = 10 / np.log(10) * stats.t.ppf(0.975, len(top) - 1) * error / ratio
    value, ends = quality.ratio_db(moments_of(draw, values).moments(), 0, 1)
    assert value == pytest.approx(10 * np.log10(ratio), abs=1e-10)
    assert ends == pytest.approx([10 * np.log10(ratio) - half, 10 * np.log10(ratio) + half], abs=1e-9)


def test_the_interval_of_a_ratio_holds_the_true_one_as_often_as_it_says(rng: np.random.Generator) -> None:
    held, runs, slots = 0, 300, 100
    for _ in range(runs):
        base = rng.gamma(4.0, size=slots)
        values = np.stack([1.5 * base * rng.gamma(8.0, size=slots) / 8, base * rng.gamma(8.0, size=slots) / 8], 1)
        ends = quality.ratio_db(moments_of(np.arange(slots), values).moments(), 0, 1)[1]
        assert ends is not None
        held += ends[0] < 10 * np.log10(1.5) < ends[1]
    assert 0.91 < held / runs < 0.985


def test_a_share_has_the_interval_of_wilson_with_draws_as_trials() -> None:
    moments = moments_of(np.arange(40), np.repeat([[1.0], [0.0]], [30, 10], 0))
    share, ends = quality.share_of(moments.moments(), 0)
    wilson = stats.binomtest(30, 40).proportion_ci(method="wilson")
    assert share == 0.75
    assert ends == pytest.approx([wilson.low, wilson.high])


def test_nothing_and_a_single_draw_have_no_intervals() -> None:
    nothing, one = DrawMoments(2), moments_of(np.zeros(3, np.int64), np.full((3, 2), 4.0))
    for told in (quality.mean_db(nothing.moments(), 0), quality.ratio_db(nothing.moments(), 0, 1)):
        assert told == (None, None)
    assert quality.mean_of(nothing.moments(), 0) == quality.share_of(nothing.moments(), 0) == (None, None)
    assert quality.ratio_db(one.moments(), 0, 1) == (0.0, None)
    assert quality.mean_of(one.moments(), 1) == (4.0, None)
    assert quality.mean_db(one.moments(), 0)[1] is None


def test_slots_of_a_draw_that_was_closed_are_left_out_and_counted() -> None:
    moments = moments_of(np.array([0, 1, 0, 1, 2]), np.array([[1.0], [2], [9], [4], [5]]))
    assert (moments.left_out, moments.slots, moments.moments().mean.tolist()) == (1, 4, [3.0])


def test_moments_that_are_put_back_go_on_to_the_bit(rng: np.random.Generator) -> None:
    draw, values = sample(rng)
    whole = moments_of(draw, values)
    part = moments_of(draw[:23], values[:23])
    again = DrawMoments.restore(part.snapshot())
    for key, row in zip(draw[23:].tolist(), values[23:], strict=True):
        again.add(key, row)
        part.add(key + 1, row)  # what comes later is no part of what was taken
    np.testing.assert_equal(again.moments(), whole.moments())


@pytest.mark.parametrize("paths", [1, 10])
def test_an_honest_error_is_covered_as_often_as_the_level_says(paths: int, rng: np.random.Generator) -> None:
    slots, stated = 20000, 0.01
    error = stated * rng.chisquare(4 * paths, slots) / (4 * paths)
    share = quality.covered(error, stated, np.full(slots, paths)).mean(0)
    np.testing.assert_allclose(share, quality.LEVELS, atol=4 * np.sqrt(0.25 / slots))
    boastful = quality.covered(2 * error, stated, np.full(slots, paths)).mean(0)
    assert (boastful < share - 0.05).all()


def test_no_path_counts_as_one_and_what_is_not_finite_is_not_covered() -> None:
    error = np.array([1.0, np.nan, 1.0, 0.0])
    stated = np.array([1.0, 1.0, 0.0, 0.0])
    assert quality.covered(error, stated, np.zeros(4, int))[:, 2].tolist() == [True, False, False, False]
    assert quality.covered(0.3, 1.0, 0).tolist() == quality.covered(0.3, 1.0, 1).tolist()


def test_energy_is_summed_in_double_precision_and_alike_in_any_batch(rng: np.random.Generator) -> None:
    field = (rng.standard_normal((5, 2, 64, 72)) + 1j * rng.standard_normal((5, 2, 64, 72))).astype(np.complex64)
    told = quality.energy(field)
    np.testing.assert_allclose(told, (np.abs(field.astype(np.complex128)) ** 2).sum((-2, -1)), rtol=1e-13)
    np.testing.assert_array_equal(told, np.concatenate([quality.energy(field[i : i + 1]) for i in range(5)]))


def cosines(u: float, v: float) -> Real:
    return np.array([u, v, np.sqrt(1 - u * u - v * v)])


def test_the_strongest_path_is_found_within_half_a_cell_and_its_angle_is_that_of_the_directions() -> None:
    geometry = Geometry(16, 16)
    truth = {
        "gain": np.array([[0.1, 2.0, 9.0]]),
        "u": np.array([[0.5, 0.1, 0.0]]),
        "v": np.array([[0.0, -0.2, 0.0]]),
        "mask": np.array([[True, True, False]]),
    }
    for off, expected in ((0.05, True), (0.07, False)):
        estimate = {
            "u": np.array([[0.1 + off, 0.1, 0.5]]),
            "v": np.array([[-0.21, -0.2, 0.0]]),
            "mask": np.array([[True, False, True]]),
        }
        found, square = quality.strongest(truth, estimate, geometry)
        assert found.tolist() == [expected]
        angle = np.arccos(cosines(0.1, -0.2) @ cosines(0.1 + off, -0.21))
        assert np.sqrt(square[0]) == pytest.approx(angle if expected else 0.0, rel=1e-6)


def test_a_line_does_not_look_at_v() -> None:
    one = {"gain": np.ones((1, 1)), "u": np.zeros((1, 1)), "v": np.zeros((1, 1)), "mask": np.ones((1, 1), bool)}
    other = {**one, "v": np.full((1, 1), 0.9)}
    assert quality.strongest(one, other, Geometry(8, 1))[0].all()
    assert not quality.strongest(one, other, Geometry(8, 8))[0].any()


def weights_of(rng: np.random.Generator) -> NDArray[np.complex64]:
    return np.exp(2j * np.pi * rng.random((12, 4, 3))).astype(np.complex64)


def noise(rng: np.random.Generator, *shape: int) -> NDArray[np.complex128]:
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def test_a_residual_is_what_the_dense_operator_leaves(rng: np.random.Generator) -> None:
    weights = weights_of(rng)
    channel, observation = noise(rng, 3, 12, 12), noise(rng, 3, 12, 4)
    left = Residuals(weights).left(observation, channel)
    expected = observation.reshape(3, -1) - channel.reshape(3, -1) @ dense(weights).T
    np.testing.assert_allclose(left.reshape(3, -1), expected, atol=1e-5)
    found = Residuals(weights).judge(observation, channel)
    np.testing.assert_allclose(found.energy, (np.abs(expected) ** 2).sum(1), rtol=1e-5)
    r = expected.reshape(3, 12, 4)
    scale = (np.abs(r) ** 2).mean((1, 2))
    columns = (r[:, 1:] * r[:, :-1].conj()).mean((1, 2)) / scale
    chains = (r[:, :, 1:] * r[:, :, :-1].conj()).mean((1, 2)) / scale
    np.testing.assert_allclose(found.lags, np.stack([columns, chains], 1), atol=1e-5)
    statistic = 2 * (44 * np.abs(columns) ** 2 + 36 * np.abs(chains) ** 2)
    np.testing.assert_allclose(found.portmanteau, statistic, rtol=1e-4)


def test_noise_is_white_and_plausible_as_often_as_the_level_says(rng: np.random.Generator) -> None:
    slots, weights = 4000, np.ones((16, 24, 2), np.complex64)
    residuals = Residuals(weights)
    found = residuals.judge(noise(rng, slots, 16, 24) * np.sqrt(0.3), np.zeros((slots, 16, 48)))
    assert (residuals.entries, residuals.freedom) == (384, 4)
    assert np.mean(found.portmanteau <= residuals.limit) == pytest.approx(0.95, abs=0.015)
    assert stats.kstest(found.portmanteau, "chi2", args=(4,)).statistic < 0.04
    assert quality.within(found.energy, 0.3, 384).mean() == pytest.approx(0.95, abs=0.015)
    assert quality.within(found.energy, 0.6, 384).mean() < 0.01


def test_what_a_missed_path_leaves_is_neither_white_nor_plausible(rng: np.random.Generator) -> None:
    path = 0.7 * np.exp(1j * np.pi * 0.3 * np.arange(16))[:, None] * np.ones(24)
    residuals = Residuals(np.ones((16, 24, 2), np.complex64))
    found = residuals.judge(noise(rng, 100, 16, 24) + path, np.zeros((100, 16, 48)))
    assert np.mean(found.portmanteau <= residuals.limit) < 0.02
    assert quality.within(found.energy, 1.0, 384).mean() < 0.02
    lag = found.lags[:, 0].mean()
    assert np.angle(lag) == pytest.approx(0.3 * np.pi, abs=0.1)


def test_entries_are_brought_to_one_noise_and_chains_without_weight_left_out(rng: np.random.Generator) -> None:
    weights = np.ones((6, 4, 3), np.complex64)
    weights[0] = 0
    weights[1] *= 2
    residuals = Residuals(weights)
    field = noise(rng, 3000, 6, 12)
    seen = np.einsum("ycm,bycm->byc", weights, field.reshape(3000, 6, 4, 3))
    left = residuals.left(seen, np.zeros((3000, 6, 12)))
    power = (np.abs(left) ** 2).mean(0)
    assert residuals.entries == 20
    assert not power[0].any()
    np.testing.assert_allclose(power[1:], 3, rtol=0.1)


def test_an_array_without_neighbours_has_no_lags_and_is_white(rng: np.random.Generator) -> None:
    residuals = Residuals(np.ones((1, 1, 4), np.complex64))
    found = residuals.judge(noise(rng, 2, 1, 1), np.zeros((2, 1, 4)))
    assert (residuals.freedom, found.portmanteau.tolist()) == (0, [0.0, 0.0])
    assert (found.portmanteau <= residuals.limit).all()


def test_an_observation_of_another_front_end_is_refused() -> None:
    with pytest.raises(
        ShapeError, match=r"^residual: observation is \(1, 3, 4\), wanted \(\.\.\., y, chain\) = \(\.\.\., 2, 4\)"
    ):
        Residuals(np.ones((2, 4, 1), np.complex64)).left(np.zeros((1, 3, 4)), np.zeros((1, 3, 4)))


# pairs

SLOTS = 90
DRAW = np.arange(SLOTS) // 3
NAMES = ["a", "b", "c"]


def errors(rng: np.random.Generator) -> dict[str, Real]:
    base = rng.gamma(4.0, size=SLOTS)
    return {name: base * factor * rng.gamma(9.0, size=SLOTS) for name, factor in zip(NAMES, (1, 1.2, 3), strict=True)}


def feed(pairs: Pairs, values: dict[str, Real], turns: list[tuple[str, int]]) -> Pairs:
    for name, slot in turns:
        pairs.add(name, slot, int(DRAW[slot]), float(values[name][slot]))
    return pairs


def in_turn(rng: np.random.Generator, slots: dict[str, list[int]]) -> list[tuple[str, int]]:
    """Return the slots of every estimator in order, the estimators in any turn."""
    left = {name: list(own) for name, own in slots.items()}
    turns: list[tuple[str, int]] = []
    while any(left.values()):
        name = str(rng.choice([name for name, own in left.items() if own]))
        turns.append((name, left[name].pop(0)))
    return turns


def test_a_pair_is_the_paired_difference_of_the_draws_that_both_had(rng: np.random.Generator) -> None:
    values = errors(rng)
    lossy = [slot for slot in range(SLOTS) if slot % 7]
    told = feed(Pairs(NAMES), values, in_turn(rng, {"a": list(range(SLOTS)), "b": lossy, "c": lossy[:50]})).result()
    assert list(told) == ["a - b", "a - c", "b - c"]
    for pair, slots in (("a - b", lossy), ("a - c", lossy[:50]), ("b - c", lossy[:50])):
        one, other = pair.split(" - ")
        pairs = np.stack(
            [values[one][slots], values[other][slots], np.log10(values[one] / values[other])[slots] * 10], 1
        )
        means = by_draw(DRAW[slots], pairs)
        found = told[pair]
        assert (found["slots"], found["draws"]) == (len(slots), len(means))
        assert found["difference_db"] == pytest.approx(10 * np.log10(means[:, 0].mean() / means[:, 1].mean()), abs=1e-9)
        interval = stats.t.interval(0.95, len(means) - 1, means[:, 2].mean(), stats.sem(means[:, 2]))
        assert found["by_draw_ci95_db"] == pytest.approx(list(interval), abs=1e-9)
        better = by_draw(DRAW[slots], (values[one] < values[other])[slots, None].astype(float))
        assert found["better_share"] == pytest.approx(better.mean(), abs=1e-12)


def test_pairs_do_not_depend_on_whose_turn_it_is(rng: np.random.Generator) -> None:
    values, every = errors(rng), {name: list(range(SLOTS)) for name in NAMES}
    one, other = (feed(Pairs(NAMES), values, in_turn(rng, every)) for _ in range(2))
    straight = feed(Pairs(NAMES), values, [(name, slot) for name in NAMES for slot in range(SLOTS)])
    assert one.result() == other.result() == straight.result()
    assert not any(len(columns["slot"]) for columns in one.snapshot()["held"].values())


def test_pairs_that_are_put_back_go_on_to_the_bit(rng: np.random.Generator) -> None:
    values = errors(rng)
    turns = in_turn(rng, {name: list(range(SLOTS)) for name in NAMES})
    broken = feed(Pairs(NAMES), values, turns[:100])
    state = broken.snapshot()
    feed(broken, values, turns[100:140])
    again = feed(Pairs.restore(state), values, turns[100:])
    assert again.result() == feed(Pairs(NAMES), values, turns).result()
    assert again.slots == dict.fromkeys(NAMES, SLOTS)


def test_what_waits_for_an_estimator_that_never_comes_is_bounded(rng: np.random.Generator) -> None:
    pairs = feed(Pairs(NAMES, hold=10), errors(rng), [(name, slot) for slot in range(SLOTS) for name in ("a", "b")])
    held = pairs.snapshot()["held"]
    assert [len(held[name]["slot"]) for name in NAMES] == [10, 10, 0]
    assert pairs.result()["a - b"]["slots"] == SLOTS


def test_pairs_against_a_reference_are_turned_towards_it(rng: np.random.Generator) -> None:
    values = errors(rng)
    pairs = feed(Pairs(NAMES), values, [(name, slot) for slot in range(SLOTS) for name in NAMES])
    plain, turned = pairs.result(), pairs.result("a")
    assert list(turned) == ["b - a", "c - a"]
    one, other = plain["a - b"], turned["b - a"]
    assert other["difference_db"] == pytest.approx(-one["difference_db"], abs=1e-12)
    assert other["ci95_db"] == pytest.approx([-end for end in reversed(one["ci95_db"])], abs=1e-9)
    assert other["by_draw_db"] == pytest.approx(-one["by_draw_db"], abs=1e-12)
    assert other["better_share"] == pytest.approx(1 - one["better_share"])
    assert (other["estimate"], other["reference"]) == ("b", "a")
    assert (
        turned["c - a"]
        == feed(Pairs(["c", "a"]), values, [(n, s) for s in range(SLOTS) for n in "ca"]).result()["c - a"]
    )


def test_a_perfect_estimate_is_no_error() -> None:
    pairs = Pairs(["a", "b"])
    for slot in range(4):
        pairs.add("a", slot, slot, 0.0)
        pairs.add("b", slot, slot, 0.1)
    told: dict[str, Any] = pairs.result()["a - b"]
    assert (told["difference_db"], told["better_share"]) == (None, 1.0)
    assert json.dumps(told, allow_nan=False)
