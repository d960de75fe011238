"""Ends of all kinds, each within five seconds, with the right exit code, and with nothing left."""

import os
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from beamslot_probes import CheckSink, CountingSource, Relay
from beamslot_runs import Run, Runner, assert_balanced, edges_of, graph, until
from beamslot_stray import Ending, Full, Picky

from beamslot.runtime import rundir
from beamslot.sinks.jsonl_sink import JsonlSink
from beamslot.sinks.null_sink import NullSink

CHAIN = {"src": CountingSource, "relay": Relay, "sink": CheckSink}
EDGES = ("src.numbers > relay.numbers", "relay.out > sink.numbers")
WITHIN = 5.0


@pytest.fixture(autouse=True)
def _no_sockets_left() -> Any:
    yield
    assert list(rundir.base().iterdir()) == []


def running(runs: Runner, blocks: Mapping[str, Any] = CHAIN, **options: Any) -> Run:
    """Start an endless chain and return when slots flow."""
    run = runs.start(graph(blocks, *EDGES), **options)
    until(lambda: run.slots() > 50)
    return run


def ended(run: Run, within: float = WITHIN) -> dict[str, Any]:
    begun = time.monotonic()
    report = run.report()
    assert time.monotonic() - begun < within
    return report


def log(report: Mapping[str, Any], block: str) -> str:
    return (Path(report["logs"]) / f"{block}.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_interrupt_drains(number: int, runs: Runner) -> None:
    run = running(runs)
    run.signal(number)
    report = ended(run)
    assert (report["ok"], report["exit_code"], report["problems"]) == (False, 130, [])
    assert report["notes"] == ["interrupted: draining for up to 3 s; interrupt again to stop at once"]
    assert report["sinks"]["sink"] == {"seen": report["slots"], "bad": 0, "missed": 0}
    assert_balanced(report)


def test_a_drain_delivers_what_a_blocked_source_has_sent(runs: Runner) -> None:
    run = running(runs, {**CHAIN, "sink": (CheckSink, {"work": 0.001})}, deadline=20)
    until(lambda: edges_of(run.status)[EDGES[0]]["in_flight"] > 200)
    run.signal(signal.SIGINT)
    report = ended(run, 20)
    assert (report["exit_code"], report["problems"]) == (130, [])
    assert report["sinks"]["sink"] == {"seen": report["slots"], "bad": 0, "missed": 0}
    assert_balanced(report)


def test_an_interrupt_of_the_supervisor_alone_drains_too(runs: Runner) -> None:
    run = running(runs)
    os.kill(run.pid, signal.SIGINT)
    report = ended(run)
    assert report["exit_code"] == 130
    assert_balanced(report)


def test_a_second_interrupt_stops_at_once_and_counts_what_is_left(runs: Runner) -> None:
    run = running(runs, {**CHAIN, "sink": (CheckSink, {"work": 0.01})})
    run.signal(signal.SIGINT)
    until(lambda: run.status["state"] == "draining")
    run.signal(signal.SIGINT)
    report = ended(run, 2)
    assert (report["exit_code"], report["problems"]) == (130, [])
    assert_balanced(report, reasons=["stopped"])
    last = edges_of(report)[EDGES[1]]
    assert last["dropped"]["stopped"] > 10
    assert report["sinks"]["sink"]["seen"] > 0


def test_a_drain_that_takes_too_long_is_cut_off_at_its_deadline(runs: Runner) -> None:
    run = running(runs, {**CHAIN, "sink": (CheckSink, {"work": 0.02})}, deadline=0.5)
    run.signal(signal.SIGINT)
    report = ended(run, 3)
    assert report["exit_code"] == 130
    assert edges_of(report)[EDGES[0]]["dropped"]["stopped"] > 0


def test_an_interrupt_while_starting_stops_at_once(runs: Runner) -> None:
    run = runs.start(graph({"src": CountingSource, "sink": (Picky, {"seconds": 60})}, "src.numbers > sink.numbers"))
    until(lambda: run.status.get("state") == "starting")
    run.signal(signal.SIGINT)
    report = ended(run)
    assert (report["exit_code"], report["slots"]) == (130, 0)


def test_a_run_of_limited_time_drains_and_ends_well(runs: Runner) -> None:
    report = runs.start(graph(CHAIN, *EDGES), seconds=0.5).report()
    assert (report["ok"], report["exit_code"]) == (True, 0)
    assert 0.5 <= report["seconds"] < 3
    assert_balanced(report)


def test_a_source_that_ends_by_itself_ends_the_run(runs: Runner) -> None:
    report = runs(graph({"src": (Ending, {"most": 1234}), "sink": NullSink}, "src.numbers > sink.stream", burst=10))
    assert report["ok"]
    assert report["slots"] == 1234


def test_a_crashing_source_is_named_with_slot_seed_and_cause(runs: Runner) -> None:
    blocks = {**CHAIN, "src": (CountingSource, {"fail_at": 500})}
    report = ended(runs.start(graph(blocks, *EDGES, seed=7)))
    assert report["exit_code"] == 1
    said = "line src: src at slot 500 (seed 7): RuntimeError: the source gives up"
    assert re.fullmatch(re.escape(said) + r" \(beamslot_probes\.py:\d+\)", report["problems"][0])
    assert "Traceback" in log(report, "src")
    assert "the source gives up" in log(report, "src")
    assert_balanced(report, reasons=["stopped"])


def test_a_crashing_relay_is_named_with_slot_seed_and_cause_and_where_its_log_is(runs: Runner) -> None:
    blocks = {**CHAIN, "relay": (Relay, {"fail_at": 333})}
    report = ended(runs.start(graph(blocks, *EDGES, seed=7, burst=10)))
    assert report["exit_code"] == 1
    said = "line relay: relay at slots 330..339 (seed 7): RuntimeError: the relay gives up"
    assert re.fullmatch(re.escape(said) + r" \(beamslot_probes\.py:\d+\)", report["problems"][0])
    logs = report["logs"]
    told = f"relay: its output is in {logs}/relay.log, what it was given in {logs}/crash-relay-0"
    assert report["problems"][1:] == [told]
    assert "Traceback" in log(report, "relay")
    assert_balanced(report, reasons=["stopped"])


def test_a_relay_that_dies_without_a_word_is_named_with_its_exit_code(runs: Runner) -> None:
    report = ended(runs.start(graph({**CHAIN, "relay": (Relay, {"die_at": 333})}, *EDGES)))
    assert report["exit_code"] == 1
    assert report["problems"][0].startswith("relay: process exited with 9")
    assert_balanced(report, reasons=["stopped"])


def test_a_killed_block_is_named_with_the_signal(runs: Runner) -> None:
    run = running(runs)
    os.kill(run.block("relay"), signal.SIGKILL)
    report = ended(run)
    assert report["exit_code"] == 1
    assert report["problems"][0].startswith("relay: process was ended by SIGKILL")


def test_a_block_that_hangs_is_explained_and_stopped_by_an_interrupt(runs: Runner) -> None:
    run = runs.start(graph({**CHAIN, "relay": (Relay, {"hang_at": 100})}, *EDGES), deadline=0.5)
    until(lambda: any("relay has been working on slot 100" in note for note in run.status.get("notes", ())))
    run.signal(signal.SIGINT)
    report = ended(run, 3)
    assert report["exit_code"] == 130
    assert edges_of(report)[EDGES[0]]["acknowledged"] == 100
    assert_balanced(report, reasons=["stopped"])


def test_a_block_that_does_not_even_hear_is_killed(runs: Runner) -> None:
    run = running(runs, deadline=0.3)
    os.kill(run.block("relay"), signal.SIGSTOP)
    run.signal(signal.SIGINT)
    report = ended(run, 4)
    assert report["exit_code"] == 130


def test_start_that_refuses_is_a_bad_graph_with_the_place_of_the_block(runs: Runner) -> None:
    report = ended(runs.start(graph({"src": CountingSource, "sink": Picky}, "src.numbers > sink.numbers")))
    assert report["exit_code"] == 2
    assert report["problems"] == ["line sink: sink: there are 8 samples; wanted 3"]


@pytest.mark.parametrize("when", ["process", "stop"])
def test_a_full_disk_of_a_sink_fails_the_run_and_says_so(when: str, runs: Runner) -> None:
    blocks = {"src": CountingSource, "sink": (Full, {"when": when})}
    report = ended(runs.start(graph(blocks, "src.numbers > sink.numbers", slots=1000)))
    assert report["exit_code"] == 1
    assert "No space left on device" in report["problems"][0]
    assert report["problems"][0].startswith("line sink: sink")


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    if os.getuid() or os.system(f"mount -t tmpfs -o size=64k none {tmp_path} 2>/dev/null"):  # noqa: S605
        pytest.skip("a disk to fill needs root")
    yield tmp_path
    os.system(f"umount {tmp_path}")  # noqa: S605


def test_a_file_sink_on_a_full_disk_leaves_whole_lines_and_fails_the_run(small_disk: Path, runs: Runner) -> None:
    path = small_disk / "slots.jsonl"
    blocks = {"src": CountingSource, "sink": (JsonlSink, {"path": str(path)})}
    report = ended(runs.start(graph(blocks, "src.numbers > sink.stream")))
    assert report["exit_code"] == 1
    assert "No space left on device" in report["problems"][0]
    lines = path.read_text().splitlines(keepends=True)
    assert all(line.endswith("}\n") for line in lines)
    assert len(lines) > 100
    kept = edges_of(report)["src.numbers > sink.stream"]["acknowledged"]
    assert len(lines) >= kept


@pytest.mark.parametrize("moment", ["starting", "running"])
def test_blocks_do_not_outlive_a_killed_supervisor(moment: str, runs: Runner) -> None:
    if moment == "running":
        run = running(runs)
    else:
        run = runs.start(graph({"src": CountingSource, "sink": (Picky, {"seconds": 60})}, "src.numbers > sink.numbers"))
        until(lambda: run.status)
    pids = run.pids()
    assert len(pids) >= 4  # supervisor, janitor, and the blocks
    os.kill(run.pid, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in pids), WITHIN)
    until(lambda: not list(rundir.base().iterdir()), WITHIN)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def test_a_run_that_cannot_begin_leaves_nothing(runs: Runner) -> None:
    run = runs.start(graph({"src": CountingSource}, "src.numbers > nobody.numbers"))
    until(lambda: run.over)
    assert "no block is called 'nobody'" in (run.directory / "output").read_text()
