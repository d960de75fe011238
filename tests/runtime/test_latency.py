import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamslot.runtime.latency import PER_OCTAVE, Latency


def counted(durations: list[int]) -> Latency:
    latency = Latency()
    for duration in durations:
        latency.add(duration)
    return latency


@given(st.lists(st.integers(5_000, 10**13), min_size=1, max_size=200), st.floats(0, 1))
def test_quantiles_are_those_of_numpy_to_two_percent(durations: list[int], q: float) -> None:
    exact = np.quantile(np.array(durations, float), q, method="inverted_cdf") / 1e3
    assert counted(durations).quantile(q) == pytest.approx(exact, rel=0.02)


def test_short_durations_are_told_to_a_tenth_of_a_microsecond() -> None:
    assert counted([1_240]).quantile(0.5) == pytest.approx(1.24, abs=0.06)
    assert counted([0]).quantile(0.5) == 0.0
    assert counted([-50]).quantile(0.5) == 0.0


@given(st.lists(st.integers(0, 10**12), max_size=50), st.lists(st.integers(0, 10**12), max_size=50))
def test_merging_counts_what_both_have_counted(one: list[int], other: list[int]) -> None:
    merged = counted(one)
    merged.merge(counted(other))
    assert (merged.counts, merged.total) == (counted(one + other).counts, len(one) + len(other))


@given(st.lists(st.integers(0, 10**12), max_size=50))
def test_counts_survive_the_wire(durations: list[int]) -> None:
    latency = counted(durations)
    back = Latency(json.loads(json.dumps(list(latency.counts.items()))))
    assert (back.counts, back.total, back.summary()) == (latency.counts, latency.total, latency.summary())


def test_nothing_counted_has_no_quantile() -> None:
    assert Latency().summary() == {"p50_us": None, "p95_us": None, "p99_us": None}


def test_a_duration_may_count_many_times() -> None:
    latency = Latency()
    latency.add(1_000_000, 99)
    latency.add(5_000_000)
    assert latency.summary()["p95_us"] == pytest.approx(1000, rel=0.02)
    assert latency.quantile(1.0) == pytest.approx(5000, rel=0.02)


def test_memory_is_bounded_whatever_comes() -> None:
    latency = counted([int(duration) for duration in np.geomspace(1, 1e15, 100_000)])
    assert len(latency.counts) <= 50 * PER_OCTAVE
    assert latency.total == 100_000
