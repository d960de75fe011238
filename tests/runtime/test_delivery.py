"""Whole graphs in real processes: every slot once, in order, unharmed, whatever the shape of the graph."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from beamslot_probes import CheckSink, CountingSource, FirstSlots, PairSink, Relay
from beamslot_runs import Runner, assert_balanced, edges_of, graph, until
from beamslot_stray import Filter, Garbling, Judge, Slide

from beamslot.frame import Describe
from beamslot.runtime import rundir
from beamslot.runtime.graph import Graph, minimum_window
from beamslot.runtime.taps import listen

CHAIN = {"src": CountingSource, "relay": Relay, "sink": CheckSink}
CHAIN_EDGES = ("src.numbers > relay.numbers", "relay.out > sink.numbers")


def delivered(report: dict[str, Any], slots: int, **sinks: int) -> None:
    """Assert that the run went well and that each sink saw so many slots, none of them wrong."""
    assert report["problems"] == []
    assert (report["ok"], report["exit_code"]) == (True, 0)
    assert report["slots"] == slots
    for name, seen in sinks.items():
        assert report["sinks"][name] == {"seen": seen, "bad": 0, "missed": report["sinks"][name]["missed"]}, name


@pytest.mark.parametrize(("slots", "burst"), [(100_000, 1), (100_000, 16)])
def test_every_slot_is_delivered_once_in_order_and_unharmed(slots: int, burst: int, runs: Runner) -> None:
    report = runs(graph(CHAIN, *CHAIN_EDGES, slots=slots, burst=burst), seconds=100)
    delivered(report, slots, sink=slots)
    assert_balanced(report)
    assert {account["acknowledged"] for account in report["edges"]} == {slots}
    assert report["sinks"]["sink"]["missed"] == 0


def diamond(*holds: Any, slots: int, burst: int = 1, window: int | None = None) -> Graph:
    """A source that a sink meets twice: directly, and through blocks that hold (a number, or size and hop)."""
    names = [f"h{number}" for number in range(len(holds))]
    kinds = [
        (Relay, {"hold": hold}) if isinstance(hold, int) else (Slide, dict(zip(("size", "step"), hold, strict=True)))
        for hold in holds
    ]
    blocks = {"src": CountingSource, **dict(zip(names, kinds, strict=True)), "pair": PairSink}
    outputs = ["src.numbers", *(f"{name}.out" for name in names)]
    edges = [f"{output} > {name}.numbers" for output, name in zip(outputs, names, strict=False)]
    edges += ["src.numbers > pair.left", f"{outputs[-1]} > pair.right"]
    windows = dict.fromkeys(edges, window) if window else None
    return graph(blocks, *edges, windows=windows, slots=slots, burst=burst)


DIAMONDS = [[40], [40, 40], [40, 7], [(40, 10)], [(40, 1), 7]]


@pytest.mark.parametrize("extra", [0, 1, None], ids=["least", "least+1", "default"])
@pytest.mark.parametrize("holds", DIAMONDS, ids=str)
def test_a_diamond_never_stalls_down_to_the_least_window(holds: Any, extra: int | None, runs: Runner) -> None:
    slots = 5 * 280 + 3
    least = minimum_window(diamond(*holds, slots=slots))
    report = runs(diamond(*holds, slots=slots, window=None if extra is None else least + extra), seconds=20)
    assert report["problems"] == []
    assert report["notes"] == []
    sink = report["sinks"]["pair"]
    assert sink["bad"] == 0
    assert sink["seen"] + sink["missed"] == slots
    assert sink["seen"] > 1300
    assert_balanced(report, reasons=["window incomplete", "window filling"])


def test_bursts_that_do_not_divide_a_hold_arrive_whole(runs: Runner) -> None:
    report = runs(diamond(40, 7, slots=1000, burst=3, window=minimum_window(diamond(40, 7, slots=1, burst=3))))
    assert report["problems"] == []
    assert report["sinks"]["pair"]["bad"] == 0


@pytest.mark.parametrize(("slots", "gap"), [(1000, 0), (1013, 13), (39, 39)])
def test_what_does_not_fill_a_hold_is_a_counted_gap(slots: int, gap: int, runs: Runner) -> None:
    report = runs(graph({**CHAIN, "relay": (Relay, {"hold": 40 if gap else 8})}, *CHAIN_EDGES, slots=slots))
    delivered(report, slots, sink=slots - gap)
    assert report["sinks"]["sink"]["missed"] == gap
    assert edges_of(report)[CHAIN_EDGES[0]]["acknowledged"] == slots
    assert edges_of(report)[CHAIN_EDGES[1]]["dropped"] == ({"window incomplete": gap} if gap else {})
    assert_balanced(report, reasons=["window incomplete"])


def test_what_a_block_filters_is_a_counted_gap_and_finished(runs: Runner) -> None:
    report = runs(graph({**CHAIN, "relay": (Filter, {"every": 3})}, *CHAIN_EDGES, slots=3000))
    delivered(report, 3000, sink=1000)
    first, second = (edges_of(report)[name] for name in CHAIN_EDGES)
    assert (first["acknowledged"], first["dropped"]) == (3000, {})
    assert (second["offered"], second["acknowledged"], second["dropped"]) == (3000, 1000, {"filtered": 2000})
    assert report["sinks"]["sink"]["missed"] == 2000


def test_a_stream_fans_out_to_all_its_consumers(runs: Runner) -> None:
    blocks = {
        "src": CountingSource,
        "fast": CheckSink,
        "relay": Relay,
        "far": CheckSink,
        "slow": (CheckSink, {"work": 0.0005}),
    }
    edges = (
        "src.numbers > fast.numbers",
        "src.numbers > relay.numbers",
        "relay.out > far.numbers",
        "src.numbers > slow.numbers",
    )
    report = runs(graph(blocks, *edges, slots=2000))
    delivered(report, 2000, fast=2000, far=2000, slow=2000)
    assert_balanced(report)


def test_a_slow_estimator_does_not_keep_a_sink_from_judging_the_others(runs: Runner) -> None:
    blocks = {"src": CountingSource, "quick": Relay, "slow": (Relay, {"work": 0.02}), "judge": Judge}
    edges = (
        "src.numbers > quick.numbers", "src.numbers > slow.numbers", "src.numbers > judge.truth",
        "quick.out > judge.estimate", "slow.out > judge.estimate",
    )  # fmt: skip
    run = runs.start(graph(blocks, *edges, slots=150))
    seen = until(lambda: (judged := run.status.get("sinks", {}).get("judge", {})).get("quick.out") == 150 and judged)
    assert seen.get("slow.out", 0) < 100
    report = run.report()
    assert report["problems"] == []
    assert report["sinks"]["judge"] == {"quick.out": 150, "slow.out": 150, "bad": 0}


def test_a_head_on_the_only_branch_ends_an_endless_source(runs: Runner) -> None:
    edges = ("src.numbers > relay.numbers", "relay.out > head.numbers", "head.out > left.left", "head.out > left.right")
    blocks = {"src": CountingSource, "relay": Relay, "head": (FirstSlots, {"slots": 1000}), "left": PairSink}
    report = runs(graph(blocks, *edges))
    assert report["problems"] == []
    assert report["sinks"]["left"] == {"seen": 1000, "bad": 0, "missed": 0}
    accounts = edges_of(report)
    assert accounts["head.out > left.left"]["offered"] == 1000
    assert accounts["relay.out > head.numbers"]["acknowledged"] == 1000
    assert accounts["src.numbers > relay.numbers"]["acknowledged"] >= 1000
    assert_balanced(report, reasons=["done"])


@pytest.mark.parametrize(
    ("slots", "head", "burst"), [(2000, 10, 1), (20, 10, 1), (100, 95, 10), (20, 3, 20), (20, 20, 1)]
)
def test_a_head_on_one_branch_leaves_the_other_alone(slots: int, head: int, burst: int, runs: Runner) -> None:
    blocks = {"src": CountingSource, "head": (FirstSlots, {"slots": head}), "pair": PairSink, "sink": CheckSink}
    edges = (
        "src.numbers > head.numbers",
        "head.out > pair.left",
        "src.numbers > pair.right",
        "src.numbers > sink.numbers",
    )
    report = runs(graph(blocks, *edges, slots=slots, burst=burst))
    delivered(report, slots, sink=slots)
    assert report["sinks"]["pair"] == {"seen": head, "bad": 0, "missed": slots - head}
    accounts = edges_of(report)
    assert accounts["src.numbers > head.numbers"]["acknowledged"] == head
    assert accounts["src.numbers > pair.right"]["unmatched"] == slots - head
    assert_balanced(report, reasons=["done"])


def test_a_consumer_that_stands_still_holds_the_producer_in_bounded_memory(runs: Runner) -> None:
    words = 25_000  # 200 kB a slot, so that a window of 256 slots would be 50 MB
    run = runs.start(graph({**CHAIN, "src": (CountingSource, {"words": words})}, *CHAIN_EDGES, slots=4000))
    until(lambda: run.slots() > 20)
    sink, src = run.block("sink"), run.block("src")
    os.kill(sink, signal.SIGSTOP)
    try:
        held = until(lambda: standstill(run))
        assert held <= 4000 - 1000
        assert resident(src) < 250e6
        assert resident(run.block("relay")) < 250e6
    finally:
        os.kill(sink, signal.SIGCONT)
    report = run.report(60)
    delivered(report, 4000, sink=4000)
    assert_balanced(report)


def standstill(run: Any) -> int:
    """The slots made, once they have been the same in eight statuses, that is for two seconds."""
    seen: list[tuple[float, int]] = []

    def still() -> int:
        status = run.status
        if status and (not seen or status["seconds"] != seen[-1][0]):
            seen.append((status["seconds"], status["slots"]))
        return len(seen) > 8 and len({slots for _, slots in seen[-8:]}) == 1 and seen[-1][1]

    return until(still, 20)


def resident(pid: int) -> int:
    """Memory of a process [bytes]."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_run_of_nothing_ends_well(runs: Runner) -> None:
    report = runs(graph(CHAIN, *CHAIN_EDGES, slots=0))
    delivered(report, 0, sink=0)


def test_an_output_without_consumer_holds_up_nobody(runs: Runner) -> None:
    report = runs(graph({"src": CountingSource, "relay": Relay}, "src.numbers > relay.numbers", slots=500))
    delivered(report, 500)
    assert_balanced(report)


@pytest.mark.parametrize("at", [7, 19], ids=["within", "before the end"])
def test_a_message_damaged_on_the_way_is_counted_and_fails_the_run(at: int, runs: Runner) -> None:
    blocks = {"src": (Garbling, {"at": at}), "pair": PairSink}
    edges = ("src.numbers > pair.left", "src.numbers > pair.right")
    report = runs(graph(blocks, *edges, slots=20))
    assert (report["ok"], report["exit_code"]) == (False, 3)
    assert report["problems"] == [f"{name}: 1 slots lost on a lossless edge" for name in edges]
    said = "CorruptFrame: header is not msgpack: ExtraData: unpack(b) received extra data."
    assert sorted(report["notes"]) == [f"{name}: {said}" for name in edges]  # either edge may be read first
    assert report["sinks"]["pair"] == {"seen": 19, "bad": 0, "missed": 1}
    assert_balanced(report, reasons=["lost"])


def test_a_block_that_works_long_still_serves_its_tap_and_its_acknowledgements(runs: Runner) -> None:
    blocks = {"src": CountingSource, "relay": (Relay, {"hang_at": 300}), "sink": CheckSink}
    run = runs.start(graph(blocks, *CHAIN_EDGES))
    until(lambda: run.status.get("blocks", {}).get("relay", {}).get("slots") == 300)
    (card,) = rundir.runs()
    stream = listen(card["ports"]["relay.out"], "relay.out")
    assert isinstance(next(stream), Describe)
    stream.close()  # type: ignore[attr-defined]
    # The sink's acknowledgements were taken and passed on, although the relay is in slot 300 all the time.
    until(lambda: edges_of(run.status)[CHAIN_EDGES[0]]["acknowledged"] == 300)
    run.signal(signal.SIGINT)
    until(lambda: run.status.get("state") == "draining")
    run.signal(signal.SIGINT)
    assert run.report()["exit_code"] == 130
