"""Judging angles and gains of users: truth is all assignments tried, plain sums, and scipy.stats."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from beamslot.dsp.doa_metrics import (
    HALF_BEAM,
    DoaScore,
    FrameMean,
    Matching,
    PathErrors,
    fold,
    match,
    outliers,
    path_errors,
    wilson,
    wrap,
)
from beamslot.errors import ShapeError

ANGLES = st.floats(-math.pi, math.pi)


def circular(one: float, other: float) -> float:
    """Return the distance of two angles on the circle, by another route than the package."""
    return abs(float(np.angle(np.exp(1j * (one - other)))))


def least_cost(found: list[float], true: list[float]) -> float:
    """Return the least sum of squared distances over every assignment of the smaller side."""
    few, many = sorted((found, true), key=len)
    return min(
        sum(circular(a, b) ** 2 for a, b in zip(few, chosen, strict=True))
        for chosen in itertools.permutations(many, len(few))
    )


def rows(*lists: list[float]) -> NDArray[Any]:
    return np.array(lists)


@settings(max_examples=200, deadline=None)
@given(st.lists(ANGLES, min_size=1, max_size=4), st.lists(ANGLES, min_size=1, max_size=5))
def test_the_assignment_is_the_best_of_all(found: list[float], true: list[float]) -> None:
    made = match(rows(found), rows(true))
    pairs = min(len(found), len(true))
    assert np.nansum(made.error**2) == pytest.approx(least_cost(found, true), rel=1e-9, abs=1e-12)
    picked = made.which[made.which >= 0]
    assert len(set(picked.tolist())) == len(picked) == pairs
    assert (made.missed[0], made.extra[0]) == (len(true) - pairs, len(found) - pairs)
    for user, chosen in enumerate(made.which[0]):
        if chosen >= 0:
            assert abs(made.error[0, user]) == pytest.approx(circular(found[chosen], true[user]), abs=1e-9)
        else:
            assert np.isnan(made.error[0, user])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-math.pi / 2, math.pi / 2)] * 2), min_size=1, max_size=5))
def test_on_a_half_circle_sorted_order_is_as_good_as_the_best_for_the_sum_and_for_the_largest_error(
    pairs: list[tuple[float, float]],
) -> None:
    found, true = (list(side) for side in zip(*pairs, strict=True))
    error = np.abs(match(rows(found), rows(true)).error[0])
    assert np.sum(error**2) == pytest.approx(least_cost(found, true), rel=1e-9, abs=1e-12)
    largest = min(
        max(abs(a - b) for a, b in zip(chosen, true, strict=True)) for chosen in itertools.permutations(found)
    )
    assert error.max() == pytest.approx(largest, abs=1e-9)


def test_frames_of_all_kinds_are_matched_side_by_side() -> None:
    true = np.radians(rows([-10, 0, 10], [-10, 0, 10], [-10, 0, 10], [170, -175, 0], [-10, 0, 99]))
    found = np.radians(rows([11, -9, 1], [1, np.nan, -9], [5, 7, 9], [-171, -179, 1], [1, -9, 40]))
    mask = np.ones((5, 3), bool)
    mask[4, 2] = False
    mask_hat = np.ones((5, 3), bool)
    mask_hat[2, 0] = False
    made = match(found, true, mask_hat, mask)
    wanted = rows([1, 1, 1], [1, 1, math.nan], [math.nan, 7, -1], [11, 4, 1], [1, 1, math.nan])
    np.testing.assert_allclose(np.degrees(made.error), wanted, atol=1e-9)
    assert made.which.tolist() == [[1, 2, 0], [2, 0, -1], [-1, 1, 2], [1, 0, 2], [1, 0, -1]]
    assert made.missed.tolist() == [0, 1, 1, 0, 0]
    assert made.extra.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("reach", [1.5, math.pi])
def test_users_that_do_not_exist_change_nothing_wherever_they_stand(reach: float) -> None:
    rng = np.random.default_rng(9)
    found, true = rng.uniform(-reach, reach, (2, 60, 5))
    mask_hat, mask = rng.random((2, 60, 5)) < 0.6
    made = match(np.pad(found, ((0, 0), (0, 2))), true, np.pad(mask_hat, ((0, 0), (0, 2))), mask)
    for frame in range(60):
        some, there = found[frame, mask_hat[frame]], mask[frame]
        alone = match(some[None], true[frame, there][None])
        np.testing.assert_array_equal(made.error[frame, there], alone.error[0])
        assert np.isnan(made.error[frame, ~there]).all()
        assert (made.missed[frame], made.extra[frame]) == (alone.missed[0], alone.extra[0])


def test_no_estimate_at_all_misses_everybody() -> None:
    made = match(np.zeros((2, 0)), np.zeros((2, 3)))
    assert (made.missed.tolist(), made.extra.tolist()) == ([3, 3], [0, 0])
    assert np.isnan(made.error).all()
    errors = path_errors(np.zeros((2, 4, 0), complex), np.ones((2, 4, 3), complex), made.which)
    assert np.isnan(errors.gain).all()


def test_mirror_images_count_as_the_same_only_where_asked() -> None:
    true, found = np.radians(rows([100.0, -20.0])), np.radians(rows([81.0, -21.0]))
    np.testing.assert_allclose(np.degrees(match(found, true, mirrored=True).error), [[1, -1]], atol=1e-9)
    np.testing.assert_allclose(np.degrees(match(found, true).error), [[-19, -1]], atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(ANGLES, ANGLES)
def test_folding_gives_the_least_distance_over_mirror_images(one: float, other: float) -> None:
    assert math.sin(float(fold(one))) == pytest.approx(math.sin(one), abs=1e-12)
    distance = abs(float(fold(one) - fold(other)))
    assert distance == pytest.approx(min(circular(one, other), circular(math.pi - one, other)), abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.floats(-50, 50))
def test_wrapping_keeps_the_direction(angle: float) -> None:
    wrapped = float(wrap(angle))
    assert -math.pi <= wrapped <= math.pi
    assert np.exp(1j * wrapped) == pytest.approx(np.exp(1j * angle), abs=1e-9)


def test_path_errors_are_of_sizes_and_of_wrapped_phases() -> None:
    gain = np.array([[[2 * np.exp(3.1j), 1.0 + 0j]]])
    gain_hat = np.array([[[1.5j, 1.8 * np.exp(-3.1j), 9.0]]])
    made = path_errors(gain_hat, gain, np.array([[1, 0]]))
    np.testing.assert_allclose(made.gain, [[[-0.2, 0.5]]], atol=1e-12)
    np.testing.assert_allclose(made.angle, [[[2 * np.pi - 6.2, np.pi / 2]]], atol=1e-12)
    assert np.isnan(path_errors(gain_hat, gain, np.array([[-1, 0]])).gain[0, 0]).tolist() == [True, False]


def errors_of(*frames: list[float], extra: int = 0) -> Matching:
    """Return a matching with these errors in degrees, NaN for a missed user."""
    error = np.radians(rows(*frames))
    none = np.isnan(error)
    return Matching(error, np.where(none, -1, 0), none.sum(1), np.full(len(error), extra))


def test_a_frame_is_an_outlier_where_one_user_is_off_or_missed() -> None:
    made = errors_of([0.1, 1.78], [0.1, -1.8], [0.1, math.nan])
    assert outliers(made).tolist() == [False, True, True]
    assert outliers(made, math.radians(0.05)).tolist() == [True, True, True]
    assert math.degrees(HALF_BEAM) == pytest.approx(math.degrees(math.asin(1 / 32)), abs=0.005)


def test_the_score_is_that_of_plain_sums() -> None:
    score = DoaScore()
    first, second = errors_of([0.1, 0.2], [0.3, 20.0]), errors_of([-0.4, math.nan], [0.5, 0.6], extra=1)
    gain = PathErrors(rows([0.1, 0.1], [0.2, 3.0])[:, None], rows([0.2, 0.4], [0.1, 2.0])[:, None])
    score.add(first, gain)
    score.add(second)
    told = score.result()
    assert told["frames"] == 4
    assert told["rmse_deg"] == pytest.approx(math.sqrt((0.01 + 0.04 + 0.25 + 0.36) / 4))
    assert told["total_rmse_deg"] == pytest.approx(math.sqrt((0.025 + (0.09 + 400) / 2 + 0.16 + 0.305) / 4))
    assert (told["outlier_share"], told["right_count_share"]) == (0.5, 0.5)
    assert (told["missed"], told["extra"]) == (1, 2)
    assert told["path_gain_mse"] == pytest.approx(0.01)
    assert told["path_angle_mse"] == pytest.approx(0.1)
    assert told["total_path_gain_mse"] == pytest.approx((0.01 + 4.52) / 2)
    assert told["total_path_angle_mse"] == pytest.approx((0.1 + 2.005) / 2)


def test_nothing_is_known_of_no_frames() -> None:
    told = DoaScore().result()
    counts = {"frames": 0, "missed": 0, "extra": 0}
    assert {name: value for name, value in told.items() if value is not None} == counts


def test_the_interval_of_the_share_is_that_of_wilson() -> None:
    for count, total in ((0, 10), (1, 10), (5, 10), (10, 10), (3, 1000)):
        wanted = stats.binomtest(count, total).proportion_ci(0.95, method="wilson")
        assert wilson(count, total) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert wilson(0, 0) is None


def test_the_interval_of_the_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).exponential(size=50)
    mean = FrameMean()
    mean.add(values)
    assert mean.mean == pytest.approx(values.mean())
    low, high = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert mean.ci95 == pytest.approx((low, high), rel=1e-6)
    mean.add(math.inf)
    assert (mean.mean, mean.ci95) == (None, None)


def test_a_score_is_the_same_to_the_last_bit_however_its_frames_come_and_after_a_restart() -> None:
    rng = np.random.default_rng(2)
    true, found = rng.uniform(-1, 1, (2, 40, 3))
    gain, gain_hat = rng.standard_normal((2, 40, 5, 3)) + 1j * rng.standard_normal((2, 40, 5, 3))

    def add(score: DoaScore, frames: slice) -> None:
        matched = match(found[frames], true[frames])
        score.add(matched, path_errors(gain_hat[frames], gain[frames], matched.which))

    whole, pieces = DoaScore(1.0), DoaScore(1.0)
    add(whole, slice(None))
    for frame in reversed(range(20, 40)):
        add(pieces, slice(frame, frame + 1))
    pieces = DoaScore.restore(json.loads(json.dumps(pieces.snapshot())))
    add(pieces, slice(0, 20))
    assert pieces.result() == whole.result()
    assert 0 < whole.result()["outlier_share"] < 1


def test_frames_that_do_not_fit_are_refused_with_their_shapes() -> None:
    with pytest.raises(ShapeError, match=r"match: estimated angles are \(2, 3\), true ones \(1, 3\); wanted"):
        match(np.zeros((2, 3)), np.zeros((1, 3)))
    with pytest.raises(ShapeError, match=r"path_errors: estimated gains are \(1, 2, 3\), true ones \(1, 4, 3\)"):
        path_errors(np.zeros((1, 2, 3)), np.zeros((1, 4, 3)), np.zeros((1, 3), np.int64))
