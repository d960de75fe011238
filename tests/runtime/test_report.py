import json
import time
from typing import Any

import pytest
from beamslot_probes import CheckSink, CountingSource, Relay
from beamslot_runs import graph

from beamslot.runtime import report
from beamslot.runtime.latency import Latency

GRAPH = graph(
    {"src": CountingSource, "relay": Relay, "sink": CheckSink},
    "src.numbers > relay.numbers",
    "relay.out > sink.numbers",
)
FIRST, SECOND = "src.numbers > relay.numbers", "relay.out > sink.numbers"


def account(edge: str, offered: int, acknowledged: int, in_flight: int = 0, **dropped: int) -> dict[str, Any]:
    """An account of a report."""
    return {
        "edge": edge, "policy": "block", "offered": offered, "acknowledged": acknowledged, "dropped": dropped,
        "in_flight": in_flight, "redelivered": 0, "unmatched": 0,
    }  # fmt: skip


def sent(edge: str, offered: int, in_flight: int = 0, **fields: Any) -> dict[str, Any]:
    """The producer's half of an account."""
    return {
        "edge": edge, "policy": "block", "offered": offered, "in_flight": in_flight, "done": False, "redelivered": 0,
        **fields,
    }  # fmt: skip


def taken(acknowledged: int, unmatched: int = 0, **dropped: int) -> dict[str, Any]:
    """The consumer's half."""
    return {"acknowledged": acknowledged, "dropped": dropped, "unmatched": unmatched}


def status(**fields: Any) -> dict[str, Any]:
    return {
        "state": "waiting", "working_on": None, "idle_ns": 0, "waits_for": [], "slots": 0, "late": 0, "busy_ns": 0,
        "process_time": [], "end_to_end": [], "edges": [], "oldest": {}, "inputs": {}, "errors": [], "refused": 0,
        "restarts": 0, "cut_short": 0, "results": {}, **fields,
    }  # fmt: skip


def counts(*durations: int) -> list[tuple[int, int]]:
    latency = Latency()
    for duration in durations:
        latency.add(duration)
    return list(latency.counts.items())


def statuses() -> dict[str, dict[str, Any]]:
    return {
        "src": status(slots=100, late=3, edges=[sent(FIRST, 100)], process_time=counts(10_000)),
        "relay": status(
            slots=100, edges=[sent(SECOND, 100)], inputs={FIRST: taken(100)}, busy_ns=1_500_000_000, restarts=2
        ),
        "sink": status(
            slots=90, late=1, inputs={SECOND: taken(90, 7, filtered=10)}, results={"seen": 90},
            end_to_end=counts(2_000_000),
        ),
    }  # fmt: skip


def test_a_report_tells_what_the_blocks_told() -> None:
    built = report.build(GRAPH, statuses(), 4.0)
    assert (built["slots"], built["slots_per_s"], built["late_slots"]) == (100, 25.0, 4)
    assert built["edges"] == [account(FIRST, 100, 100), {**account(SECOND, 100, 90, filtered=10), "unmatched": 7}]
    assert built["blocks"]["src"]["p50_us"] == pytest.approx(10, rel=0.02)
    assert (built["blocks"]["relay"]["busy_s"], built["blocks"]["relay"]["restarts"]) == (1.5, 2)
    assert built["end_to_end"]["p99_us"] == pytest.approx(2000, rel=0.02)
    assert built["sinks"] == {"sink": {"seen": 90}}
    json.dumps(built)


def test_a_report_of_what_has_not_begun_is_empty_but_whole() -> None:
    built = report.build(GRAPH, {}, 0.0)
    assert (built["slots"], built["slots_per_s"], built["edges"], built["blocks"], built["sinks"]) == (
        0,
        0.0,
        [],
        {},
        {},
    )


def test_what_a_consumer_could_not_use_is_dropped_and_not_acknowledged() -> None:
    told = statuses()
    told["sink"]["inputs"] = {SECOND: taken(85, filtered=11, corrupt=4)}
    (_, edge) = report.build(GRAPH, told, 1.0)["edges"]
    assert (edge["acknowledged"], edge["dropped"]) == (85, {"filtered": 11, "corrupt": 4})
    assert report.balance([edge]) == [f"{SECOND}: 4 slots corrupt on a lossless edge"]


def test_of_a_consumer_that_has_not_told_anything_everything_is_in_flight() -> None:
    told = statuses()
    del told["sink"]
    told["relay"]["edges"] = [sent(SECOND, 100, 100)]
    assert report.build(GRAPH, told, 1.0)["edges"][1] == account(SECOND, 100, 0, 100)


def test_what_a_consumer_wanted_no_more_is_dropped_as_done() -> None:
    told = statuses()
    told["relay"]["edges"] = [sent(SECOND, 100, done=True)]
    told["sink"]["inputs"] = {SECOND: taken(60, late=5)}
    edge = report.build(GRAPH, told, 1.0)["edges"][1]
    assert edge == account(SECOND, 100, 60, late=5, done=35)
    assert report.balance([edge]) == []


def test_a_producer_that_was_made_anew_for_a_consumer_that_is_done_knows_less_than_it() -> None:
    told = statuses()
    told["relay"]["edges"] = [sent(SECOND, 20, done=True)]
    told["sink"]["inputs"] = {SECOND: taken(60, late=5)}
    assert report.build(GRAPH, told, 1.0)["edges"][1] == account(SECOND, 65, 60, late=5)


def test_the_halves_of_a_lossy_edge_add_up() -> None:
    told = statuses()
    told["relay"]["edges"] = [sent(SECOND, 100, policy="latest")]
    told["sink"]["inputs"] = {SECOND: taken(70, latest=30)}
    edge = report.build(GRAPH, told, 1.0)["edges"][1]
    assert edge == {**account(SECOND, 100, 70, latest=30), "policy": "latest"}
    assert report.balance([edge]) == []


def test_replicas_are_told_as_one_block() -> None:
    one = status(
        state="processing", working_on=[4, 5], idle_ns=5, slots=30, busy_ns=7, cut_short=4, refused=1, errors=["a"],
        process_time=counts(10_000), edges=[sent(SECOND, 30, 2, redelivered=3)], inputs={FIRST: taken(28, 1, late=2)},
    )  # fmt: skip
    other = status(
        idle_ns=9, waits_for=["slot 9 of src.numbers"], slots=12, busy_ns=1, cut_short=2, errors=["b"],
        process_time=counts(10_000, 20_000), edges=[sent(SECOND, 12, 1)], inputs={FIRST: taken(11, late=1, filtered=4)},
    )  # fmt: skip
    for pair in ([one, other], [other, one]):
        processes = [({"relay": told}, {}, lives) for told, lives in zip(pair, (2, 1), strict=True)]
        told = report.by_block(GRAPH, processes)["relay"]
        assert (told["state"], told["working_on"], told["idle_ns"]) == ("processing", [4, 5], 5)
        assert (told["slots"], told["busy_ns"], told["refused"], told["restarts"]) == (42, 8, 1, 3)
        assert told["cut_short"] == 6
        assert sorted(told["errors"]) == ["a", "b"]
        assert Latency(told["process_time"]).total == 3
        assert told["edges"] == [sent(SECOND, 42, 3, redelivered=3)]
        assert told["inputs"] == {FIRST: taken(39, 1, late=3, filtered=4)}


def test_earlier_lives_of_a_process_count_where_a_source_makes_its_slots_again() -> None:
    past, now = statuses(), statuses()
    told = report.by_block(GRAPH, [(now, past, 1)])
    assert list(told) == list(GRAPH.blocks)
    assert [told[name]["slots"] for name in told] == [100, 200, 180]
    assert (told["src"]["late"], told["relay"]["busy_ns"]) == (6, 3_000_000_000)
    assert Latency(told["sink"]["end_to_end"]).total == 2
    assert told["sink"]["inputs"] == now["sink"]["inputs"]
    assert [told[name]["restarts"] for name in told] == [1, 1, 1]


@pytest.mark.parametrize(
    ("edge", "said"),
    [
        (account(FIRST, 10, 10), []),
        (account(FIRST, 10, 4, filtered=3, done=2, late=1), []),
        (account(FIRST, 10, 9), [f"{FIRST}: offered 10 slots, but 9 are accounted for"]),
        (account(FIRST, 10, 8, lost=2), [f"{FIRST}: 2 slots lost on a lossless edge"]),
        (account(FIRST, 10, 8, corrupt=2), [f"{FIRST}: 2 slots corrupt on a lossless edge"]),
        (account(FIRST, 10, 8, in_flight=2), [f"{FIRST}: 2 slots were never acknowledged"]),
    ],
)
def test_the_balance_finds_what_was_lost(edge: dict[str, Any], said: list[str]) -> None:
    assert report.balance([edge]) == said


def test_strangers_are_told() -> None:
    told = statuses()
    assert report.oddities(told) == []
    told["src"]["refused"] = 3
    told["relay"]["cut_short"] = 7
    assert report.oddities(told) == [
        "src: refused 3 messages of strangers",
        "relay: 7 of 100 slots cut short by its deadline",
    ]


def test_a_stall_is_explained_block_by_block() -> None:
    told = {
        "src": status(state="blocked", edges=[sent(FIRST, 300, 256)], oldest={FIRST: 44}),
        "relay": status(state="processing", working_on=[44, 45], idle_ns=2_500_000_000),
        "sink": status(state="waiting", waits_for=["slot 44 of relay.out"]),
        "over": status(state="ended", edges=[sent(SECOND, 9)], oldest={SECOND: 9}),
        "other": status(state="ended", edges=[sent(SECOND, 300, 10)], oldest={SECOND: 290}),
    }
    assert report.explain_stall(told, 2.1) == [
        "no progress for 2 s:",
        f"  src may not send: 256 slots from 44 on are unfinished behind {FIRST}",
        "  relay has been working on slot 44 for 2.5 s",
        "  sink waits for slot 44 of relay.out",
        f"  other has sent all: 10 slots from 290 on are unfinished behind {SECOND}",
    ]


class Now:
    """The monotonic clock, set by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 100.0
        patch.setattr(time, "monotonic", lambda: self.seconds)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    return Now(monkeypatch)


def stalls(progress: report.Progress, now: Now, told: dict[str, dict[str, Any]], seconds: float) -> list[float]:
    found: list[float] = []
    for _ in range(round(seconds / 0.25)):
        now.seconds += 0.25
        if stalled := progress.stalled(told):
            found.append(stalled)
    return found


def test_a_stall_is_told_once_when_nothing_has_moved_for_two_seconds(now: Now) -> None:
    progress = report.Progress()
    assert stalls(progress, now, statuses(), 60) == [pytest.approx(2.0, abs=0.25)]


@pytest.mark.parametrize("where", ["slots", "acknowledged"])
def test_whatever_moves_is_progress(where: str, now: Now) -> None:
    progress, told = report.Progress(), statuses()
    for _ in range(20):
        if where == "slots":
            told["relay"]["slots"] += 1
        else:
            told["sink"]["inputs"][SECOND]["acknowledged"] += 1
        assert stalls(progress, now, told, 1.5) == []


def test_a_source_that_keeps_time_is_no_stall(now: Now) -> None:
    progress, told = report.Progress(), statuses()
    told["src"]["state"] = "pacing"
    assert stalls(progress, now, told, 60) == []


def test_a_run_that_always_stands_still_speaks_ever_less_often(now: Now) -> None:
    progress, told = report.Progress(), statuses()
    found: list[float] = []
    for _ in range(100):
        told["relay"]["slots"] += 1
        found += stalls(progress, now, told, 10)
    assert found == [pytest.approx(2, abs=0.3), pytest.approx(4, abs=0.3), pytest.approx(8, abs=0.3)]


def test_a_block_that_gave_nothing_is_asked_whether_a_return_is_missing() -> None:
    quiet = {"edge": "mine.out > sink.in", "offered": 100, "dropped": {"filtered": 100}}
    partly = {"edge": "other.out > sink.in", "offered": 100, "dropped": {"filtered": 99}}
    nothing_came = {"edge": "third.out > sink.in", "offered": 0, "dropped": {}}
    asked = report.silent([quiet, partly, nothing_came])
    assert asked == ["mine: process returned None for all 100 slots; is a return missing?"]
