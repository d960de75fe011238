"""Figures of merit: truth is plain numpy and scipy.stats over all values at once."""

import math
from fractions import Fraction

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from beamslot.dsp.metrics import ExactSum, NmseMean, nmse
from beamslot.errors import ShapeError

VALUES = st.lists(st.tuples(st.integers(0, 5), st.floats(1e-12, 1e6, allow_subnormal=False)), min_size=2, max_size=40)


def mean_of(pairs: list[tuple[int, float]]) -> NmseMean:
    """Return the mean of (draw, value) pairs, the draws in order."""
    made = NmseMean()
    for draw, value in sorted(pairs, key=lambda pair: pair[0]):
        made.add(draw, value)
    return made


def test_nmse_is_the_error_energy_over_the_channel_energy() -> None:
    rng = np.random.default_rng(1)
    truth, estimate = (rng.standard_normal((2, 5, 3, 8, 6)) + 1j * rng.standard_normal((2, 5, 3, 8, 6))).astype(
        np.complex64
    )
    found = nmse(estimate, truth)
    assert (found.shape, found.dtype) == ((5, 3), np.float64)
    for at in np.ndindex(5, 3):
        expected = np.linalg.norm(estimate[at] - truth[at]) ** 2 / np.linalg.norm(truth[at]) ** 2
        assert found[at] == pytest.approx(expected, rel=1e-5)


def test_nmse_of_zeros_is_one_of_the_truth_zero_and_of_a_silent_channel_nan() -> None:
    truth = np.ones((1, 4, 4), np.complex64)
    assert nmse(np.zeros_like(truth), truth) == [1]
    assert nmse(truth, truth) == [0]
    assert np.isnan(nmse(truth, np.zeros_like(truth)))


def test_nmse_refuses_arrays_of_unlike_shape() -> None:
    with pytest.raises(ShapeError, match=r"nmse: estimate is \(2, 2\), truth \(1, 2, 2\)"):
        nmse(np.zeros((2, 2)), np.ones((1, 2, 2)))


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_the_mean_is_over_draws_of_means_over_slots_with_a_t_interval(pairs: list[tuple[int, float]]) -> None:
    result = mean_of(pairs).result()
    means = [np.mean([x for d, x in pairs if d == draw]) for draw in {d for d, _ in pairs}]
    assert result["draws"] == len(means)
    assert 10 ** (result["nmse_db"] / 10) == pytest.approx(np.mean(means), rel=1e-9)
    if len(means) > 1 and np.std(means) > 1e-9 * np.mean(means):
        low, high = stats.t.interval(0.95, len(means) - 1, np.mean(means), stats.sem(means))
        assert 10 ** (result["ci95_db"][1] / 10) == pytest.approx(high, rel=1e-6)
        if low > 1e-6 * np.mean(means):
            assert 10 ** (result["ci95_db"][0] / 10) == pytest.approx(low, rel=1e-5)
        elif low < 0:
            assert result["ci95_db"][0] is None


@settings(max_examples=60, deadline=None)
@given(VALUES, st.randoms(use_true_random=False), st.integers(0, 40))
def test_pieces_with_the_slots_of_a_draw_in_any_order_and_saved_half_way_equal_the_whole_to_the_bit(
    pairs: list[tuple[int, float]], random: object, cut: int
) -> None:
    whole = mean_of(pairs)
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    rising = sorted(shuffled, key=lambda pair: pair[0])
    saved = msgpack.packb(mean_of(rising[:cut]).snapshot())
    carried = NmseMean.restore(msgpack.unpackb(saved))
    for draw, value in rising[cut:]:
        carried.add(draw, value)
    assert carried.result() == whole.result()


def test_the_spread_is_that_of_numpy_over_many_draws_that_hardly_differ_and_the_state_stays_small() -> None:
    values = 0.01 * (1 + 1e-6 * np.random.default_rng(2).standard_normal(100_000))
    running = NmseMean()
    running.add(np.arange(values.size), values)
    result = running.result()
    half = stats.t.ppf(0.975, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    assert result["draws"] == values.size
    assert result["nmse_db"] == pytest.approx(10 * math.log10(values.mean()), abs=1e-12)
    low, high = (10 ** (bound / 10) for bound in result["ci95_db"])
    assert (high - low) / 2 == pytest.approx(half, rel=1e-5)
    assert len(msgpack.packb(running.snapshot())) < 300


def test_slots_of_a_draw_that_returns_are_left_out_and_counted() -> None:
    running = mean_of([(0, 0.1), (1, 0.2)])
    running.add([0, 0, 2], [9.0, 9.0, 0.3])
    assert running.result() == mean_of([(0, 0.1), (1, 0.2), (2, 0.3)]).result() | {"draw_returned": 2}
    assert NmseMean.restore(running.snapshot()).result() == running.result()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e100, 1e100), max_size=30))
def test_an_exact_sum_is_the_sum_of_fractions(terms: list[float]) -> None:
    total = ExactSum()
    for term in terms:
        total.add(term)
    assert total.fraction() == sum(map(Fraction, terms))
    assert float(total) == float(total.fraction())


def test_a_snapshot_does_not_change_with_what_comes_after() -> None:
    running = mean_of([(0, 0.1), (1, 0.2)])
    state = running.snapshot()
    running.add([1, 2], [0.3, 0.4])
    NmseMean.restore(state).add([1], [9.0])
    assert NmseMean.restore(state).result() == mean_of([(0, 0.1), (1, 0.2)]).result()


def test_users_of_a_slot_count_within_its_draw() -> None:
    running = NmseMean()
    running.add([7, 8], [[0.1, 0.3], [0.2, 0.4]])
    assert running.result() == mean_of([(7, 0.1), (7, 0.3), (8, 0.2), (8, 0.4)]).result()


def test_nothing_and_a_single_draw_have_no_interval() -> None:
    assert NmseMean().result() == {"nmse_db": None, "ci95_db": None, "draws": 0}
    single = mean_of([(3, 0.01), (3, 0.01)]).result()
    assert single["nmse_db"] == pytest.approx(-20)
    assert (single["ci95_db"], single["draws"]) == (None, 1)


def test_an_estimate_that_is_not_a_number_is_not_hidden_in_the_mean() -> None:
    assert mean_of([(0, 0.1), (1, math.nan)]).result()["nmse_db"] is None
    assert mean_of([(0, 0.1), (1, math.inf), (1, math.inf)]).result()["nmse_db"] is None


def test_values_that_do_not_fit_the_draws_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"draw is \(3,\), values \(2,\)"):
        NmseMean().add([1, 2, 3], [0.1, 0.2])
