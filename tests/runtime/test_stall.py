"""A run that stands still says why."""

import os
import signal
from typing import Any

from beamslot_probes import CheckSink, CountingSource, Relay
from beamslot_runs import Run, Runner, graph, until

EDGES = ("src.numbers > relay.numbers", "relay.out > sink.numbers")


def notes(run: Run, wanted: str) -> list[str]:
    return until(lambda: (told := run.status.get("notes", [])) and any(wanted in note for note in told) and told)


def end(run: Run) -> dict[str, Any]:
    run.signal(signal.SIGINT)
    until(lambda: run.status.get("state") == "draining")
    run.signal(signal.SIGINT)
    return run.report()


def test_a_stall_says_who_works_who_waits_for_which_slot_and_who_may_not_send(runs: Runner) -> None:
    blocks = {"src": CountingSource, "relay": (Relay, {"hang_at": 44}), "sink": CheckSink}
    run = runs.start(graph(blocks, *EDGES))
    told = notes(run, "relay has been working on slot 44 for")
    assert told[0] == "no progress for 2 s:"
    assert f"  src may not send: 256 slots from 44 on are unfinished behind {EDGES[0]}" in told
    assert "  sink waits for slot 44 of relay.out" in told
    assert len(told) == 4
    report = end(run)
    assert report["exit_code"] == 130
    assert report["notes"][:4] == told


def test_a_stall_of_a_source_that_has_sent_all_is_explained_too(runs: Runner) -> None:
    blocks = {"src": CountingSource, "relay": Relay, "sink": CheckSink}
    run = runs.start(graph({**blocks, "relay": (Relay, {"hang_at": 20})}, *EDGES, slots=60))
    told = notes(run, "src has sent all: 40 slots from 20 on are unfinished")
    assert any("relay has been working on slot 20" in note for note in told)
    end(run)


def test_a_process_that_is_stopped_is_seen_through_what_waits_for_it(runs: Runner) -> None:
    run = runs.start(graph({"src": CountingSource, "relay": Relay, "sink": CheckSink}, *EDGES))
    until(lambda: run.slots() > 100)
    sink = run.block("sink")
    os.kill(sink, signal.SIGSTOP)
    try:
        told = notes(run, "relay may not send: 256 slots from ")
        assert any("behind relay.out > sink.numbers" in note for note in told)
    finally:
        os.kill(sink, signal.SIGCONT)
    before = run.slots()
    until(lambda: run.slots() > before + 1000)
    run.signal(signal.SIGINT)
    assert run.report()["problems"] == []


def test_a_slow_run_that_moves_is_no_stall(runs: Runner) -> None:
    blocks = {"src": CountingSource, "relay": (Relay, {"work": 0.3}), "sink": CheckSink}
    report = runs(graph(blocks, *EDGES, slots=10))
    assert report["ok"]
    assert report["notes"] == []
