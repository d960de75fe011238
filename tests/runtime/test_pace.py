"""Slots on the clock: a paced source takes the time that its slots take, and tells which were late."""

import numpy as np
import pytest
from beamslot_runs import Runner, graph
from beamslot_stray import Late, Stamps

EDGE = "src.numbers > sink.numbers"


@pytest.mark.parametrize(("pace", "burst", "slots"), [(1.0, 1, 100), (1.0, 10, 100), (4.0, 4, 400)])
def test_a_run_on_the_clock_takes_as_long_as_its_slots(pace: float, burst: int, slots: int, runs: Runner) -> None:
    report = runs(graph({"src": Late, "sink": Stamps}, EDGE, slots=slots, slot_period=0.01, pace=pace, burst=burst))
    assert report["problems"] == []
    assert 1.0 <= report["seconds"] < 1.5
    times = np.array(report["sinks"]["sink"]["times"])
    due = np.arange(slots) // burst * burst * 0.01 / pace
    offset = times - due
    # No slot comes before its time, and the stream neither drifts nor gains: the least delays of both halves agree.
    assert abs(offset[: slots // 2].min() - offset[slots // 2 :].min()) < 0.005
    assert np.median(offset - offset.min()) < 0.01


def test_slots_that_the_source_hands_over_late_are_counted(runs: Runner) -> None:
    late = {"slow_at": 20, "seconds": 0.3}
    report = runs(graph({"src": (Late, late), "sink": Stamps}, EDGE, slots=100, slot_period=0.01, pace=1.0))
    assert report["ok"]
    assert len(report["sinks"]["sink"]["times"]) == 100
    assert 25 <= report["late_slots"] <= 45
    assert report["seconds"] < 1.5  # it catches up


def test_a_run_as_fast_as_it_goes_is_never_late(runs: Runner) -> None:
    late = {"slow_at": 20, "seconds": 0.3}
    report = runs(graph({"src": (Late, late), "sink": Stamps}, EDGE, slots=100, slot_period=0.01))
    assert report["late_slots"] == 0
    assert report["seconds"] < 0.9
