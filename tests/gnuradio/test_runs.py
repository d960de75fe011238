"""Both blocks in runs: what waits stops in time, what dies comes back; the shipped graph through GNU Radio."""

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import zmq
from beamslot_gnuradio import samples
from beamslot_runs import Runner, assert_balanced, edges_of, graph, until

from beamslot.flowgraph import load
from beamslot.gnuradio.tags import Tag, write_message
from beamslot.runtime.chaos import Strike
from beamslot.runtime.graph import Restart
from beamslot.sinks.gnuradio_sink import GnuradioSink
from beamslot.sinks.null_sink import NullSink
from beamslot.sources.gnuradio_source import GnuradioSource
from beamslot.sources.upa_source import UpaSource

AXES = {"user": 1, "y": 2, "chain": 3}
DATA = samples(4000, 6)
HIL = Path(__file__).parents[2] / "flowgraphs" / "hil_gnuradio.yml"


def hearing(endpoint: str, **parameters: Any) -> dict[str, Any]:
    return {"radio": (GnuradioSource, {"connect": endpoint, "axes": AXES, **parameters}), "sink": NullSink}


def post(socket: Any, first: int, count: int) -> None:
    tags = [Tag(at, "slot", at) for at in range(first, first + count)]
    socket.send_multipart(write_message(DATA[first : first + count], first, tags))


def test_a_source_that_nothing_comes_to_stops_when_it_is_told_to(endpoint: str, runs: Runner) -> None:
    run = runs.start(graph(hearing(endpoint, silence=0.1), "radio.stream > sink.stream"))
    until(lambda: any("nothing has come" in note for note in run.status.get("notes", [])))
    run.signal(signal.SIGINT)
    report = run.report(5)
    assert report["exit_code"] == 130
    assert_balanced(report)
    assert report["blocks"]["radio"]["busy_s"] < 0.1, "waiting is no work"


def test_slots_and_gaps_of_a_radio_are_accounted_for(endpoint: str, raw: Any, runs: Runner) -> None:
    socket = raw(zmq.PUSH, bind=endpoint)
    run = runs.start(graph(hearing(endpoint, tags=True), "radio.stream > sink.stream", slots=300, burst=16))
    post(socket, 0, 100)
    post(socket, 130, 200)
    report = run.report()
    assert report["problems"] == []
    (edge,) = report["edges"]
    assert (edge["offered"], edge["dropped"]) == (300, {"missing": 30})
    assert report["sinks"]["sink"] == {"slots": 270, "missed": 30}
    assert_balanced(report, ["missing"])


def test_what_the_peer_does_wrong_stands_in_the_report(endpoint: str, raw: Any, runs: Runner) -> None:
    socket = raw(zmq.PUSH, bind=endpoint)
    run = runs.start(graph(hearing(endpoint), "radio.stream > sink.stream", slots=5))
    for _ in range(3):
        socket.send(b"nonsense")
    socket.send(DATA[:2].tobytes())
    report = run.report()
    assert report["exit_code"] == 0
    assert any(note.startswith(f"radio: ShapeError from {endpoint}, at slot 0: 8 bytes") for note in report["notes"])
    assert report["blocks"]["radio"]["refused"] == 3
    assert report["edges"][0]["dropped"] == {"refused": 3}


def test_a_source_that_is_killed_comes_back_and_its_gap_is_counted(endpoint: str, raw: Any, runs: Runner) -> None:
    socket = raw(zmq.PUSH, bind=endpoint)
    given = graph(hearing(endpoint, tags=True), "radio.stream > sink.stream", slots=600)
    again = {name: replace(spec, restart=Restart("on_failure")) for name, spec in given.blocks.items()}
    given = replace(given, blocks=again)
    run = runs.start(given, strikes=[Strike("kill", "radio", 200)])
    for first in range(0, 200, 10):
        post(socket, first, 10)
    until(lambda: run.status.get("restarts"))
    for first in range(200, 3000, 10):
        post(socket, first, 10)
    report = run.report()
    assert report["problems"] == []
    assert report["restarts"] == 1
    (edge,) = report["edges"]
    assert set(edge["dropped"]) <= {"source restarted"}
    assert_balanced(report, ["source restarted"])
    sink = report["sinks"]["sink"]
    assert sink["slots"] + sink["missed"] == 600


def test_a_sink_that_nobody_hears_lets_the_run_end_when_it_is_told_to(endpoint: str, runs: Runner) -> None:
    blocks = {
        "front": (UpaSource, {"n_y": 2, "n_z": 2, "paths": 1}),
        "radio": (GnuradioSink, {"bind": endpoint, "silence": 0.1}),
    }
    run = runs.start(graph(blocks, "front.field > radio.stream", slots=2000), deadline=0.3)
    until(lambda: any("nobody takes samples" in note for note in run.status.get("notes", [])))
    run.signal(signal.SIGINT)
    report = run.report(5)
    assert report["exit_code"] == 130
    assert edges_of(report)["front.field > radio.stream"]["dropped"].get("stopped", 0) > 0


def through(endpoint: str, slots: int) -> Any:
    """The shipped graph, at places of the test's."""
    ends = [f"to_radio.bind={endpoint}", f"from_radio.connect={endpoint}.2", f"slots={slots}"]
    return load(HIL, overrides=ends)


def test_the_shipped_graph_through_gnuradio(endpoint: str, peer: Any, runs: Runner) -> None:
    peer("loop", "--from", endpoint, "--to", f"{endpoint}.2", "--vlen", 256, "--tags")
    report = runs(through(endpoint, 100))
    assert report["problems"] == []
    assert_balanced(report)
    assert report["sinks"]["changed"]["slots"] == 100
    assert report["sinks"]["changed"]["differing"] == 0
    assert report["sinks"]["nmse"]["omp"]["nmse_db"] < -20


def test_gnuradio_that_dies_in_a_run_is_told_and_the_run_goes_on_with_the_next(
    endpoint: str, peer: Any, runs: Runner
) -> None:
    loop = ("loop", "--from", endpoint, "--to", f"{endpoint}.2", "--vlen", 256, "--tags")
    first = peer(*loop)
    run = runs.start(through(endpoint, 1500))
    until(lambda: run.status.get("sinks", {}).get("changed", {}).get("slots", 0) > 50)
    first.kill()
    peer(*loop)
    report = run.report(60)
    assert report["exit_code"] == 0
    for name in ("to_radio", "from_radio"):
        assert any(note.startswith(f"{name}: GNU Radio at ") and "has gone" in note for note in report["notes"])
        assert any(note.startswith(f"{name}: GNU Radio at ") and "is back" in note for note in report["notes"])
    changed = report["sinks"]["changed"]
    assert changed["slots"] + changed["missed"] == 1500
    assert changed["differing"] == 0
    dropped = edges_of(report)["from_radio.stream > combiner.field"]["dropped"]
    assert set(dropped) <= {"missing", "torn", "restarted"}
    assert report["problems"] == []
