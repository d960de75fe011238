"""The long tests (`make soak`): what only shows after minutes."""

from pathlib import Path

import pytest
from beamslot_probes import CheckSink, CountingSource, Relay
from beamslot_runs import Runner, assert_balanced, graph, until

pytestmark = pytest.mark.soak

RATE, MINUTES = 1_000, 10


def resident(pid: int) -> int:
    """The resident memory of a process [pages]."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_minutes_at_a_thousand_slots_a_second_lose_nothing_and_grow_nothing(runs: Runner) -> None:
    slots = RATE * 60 * MINUTES
    blocks = {
        "src": (CountingSource, {"words": 4608}),
        "hold": (Relay, {"hold": 40}),
        "relay": Relay,
        "sink": CheckSink,
    }
    edges = ("src.numbers > hold.numbers", "hold.out > relay.numbers", "relay.out > sink.numbers")
    run = runs.start(graph(blocks, *edges, slots=slots, slot_period=1 / RATE, pace=1.0))
    until(lambda: run.slots() > RATE * 60, seconds=120)
    pids = {name: run.block(name) for name in blocks}
    warm = {name: (resident(pid), descriptors(pid)) for name, pid in pids.items()}
    until(lambda: run.slots() > slots - 20 * RATE, seconds=60 * MINUTES + 120)
    for name, pid in pids.items():
        assert resident(pid) <= 1.05 * warm[name][0], f"{name} has grown"
        assert descriptors(pid) == warm[name][1], f"{name} has opened more files"
    report = run.report(seconds=120)
    assert report["ok"], report["problems"]
    assert_balanced(report)
    assert report["sinks"]["sink"] == {"seen": slots, "bad": 0, "missed": 0}
    assert report["late_slots"] <= slots // 1000
