"""Live equals replay: whole graphs, recorded and run again from the recording."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_runs import Runner, assert_balanced

from beamslot import flowgraph
from beamslot.cli import THREADS
from beamslot.cli.record import after_run, facts, with_recorder
from beamslot.errors import FlowgraphError, StorageError
from beamslot.estimators.nomp import NompEstimator
from beamslot.frame import Frame
from beamslot.recording import amend, open_recording
from beamslot.replaying import Asked, plan, recorded_graph
from beamslot.runtime.chaos import Strike
from beamslot.runtime.testing import run_block

FLOWGRAPHS = Path(__file__).parents[2] / "flowgraphs"

LAB = """
options:
  parameters: {id: lab, slots: 80, slot_period: 4e-3, pace: realtime, seed: 3, restart: on_failure}
timeline:
- {slot: 30, block: nomp, parameters: {paths: 4}}
- {slot: 50, block: short, parameters: {deadline: 2e-3}}
blocks:
- {name: source, id: upa_source, parameters: {n_y: 8, n_z: 12, paths: 6, snr_db: 20, drift: 1e-4, redraw: 40}}
- {name: combiner, id: combiner, parameters: {antennas_per_chain: 3, groups: 2}}
- {name: nomp, id: nomp, parameters: {paths: 12}}
- {name: short, id: sc_vbi, deadline: 6e-3}
- {name: slow, id: turbo_vbi}
- {name: tracker, id: gw_tracker}
- {name: nmse, id: nmse_sink}
connections:
- [source, field, combiner, field]
- [source, truth, nmse, truth]
- [combiner, rf, nomp, rf]
- [combiner, rf, short, rf]
- {src_blk_id: combiner, src_port_id: rf, snk_blk_id: slow, snk_port_id: rf, params: {policy: latest}}
- [combiner, rf, tracker, rf]
- [nomp, estimate, nmse, estimate]
- [short, estimate, nmse, estimate]
- [tracker, estimate, nmse, estimate]
- [slow, estimate, nmse, estimate]
"""
ESTIMATES = ["nomp.estimate", "short.estimate", "slow.estimate", "tracker.estimate"]


def beamslot(*words: Any, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "beamslot", *map(str, words)],
        capture_output=True, text=True, check=False, timeout=90, cwd=cwd,
    )  # fmt: skip


def replay(*words: Any, cwd: Path | None = None) -> tuple[int, dict[str, Any]]:
    """Return exit code and report of a replay."""
    done = beamslot("replay", *words, "--json", "--quiet", cwd=cwd)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def record(runs: Runner, folder: Path, text: str, ports: list[str], **options: Any) -> tuple[Path, dict[str, Any]]:
    """Record ports of a graph, under strikes where there are some."""
    file, place = folder / "graph.yml", folder / "recording"
    file.write_text(text)
    graph = flowgraph.load(file)
    about = {**facts(graph), "flowgraph": text, "overrides": [], "threads": dict.fromkeys(THREADS, "1")}
    report = runs(with_recorder(graph, ports, place, about=about), **options)
    assert report["ok"], report["problems"]
    return place, report


@pytest.fixture(scope="module")
def lab(runs: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with everything in it: changes of parameters, drops, deadlines, processes killed and begun again."""
    folder = tmp_path_factory.mktemp("lab")
    strikes = [Strike("kill", "nomp", 20), Strike("kill", "combiner", 45), Strike("kill", "tracker", 60)]
    ports = ["source.field", "source.truth", "combiner.rf", *ESTIMATES]
    place, report = record(runs, folder, LAB, ports, strikes=strikes)
    assert report["restarts"] >= 3
    assert_balanced(report, ["latest"])
    return place


def reasons_and_tags(place: Path) -> tuple[set[str], set[str]]:
    with open_recording(place) as recording:
        gaps = {gap.reason for port in ESTIMATES for gap in recording[port].gaps}
        frames = [one for port in ESTIMATES for one in recording[port].messages() if isinstance(one, Frame)]
        return gaps, {name for frame in frames for name in frame.tags}


def test_live_equals_replay_with_changes_drops_deadlines_and_restarts(lab: Path) -> None:
    gaps, tags = reasons_and_tags(lab)
    assert "latest" in gaps
    assert {"deadline", "asked"} <= tags
    code, report = replay(lab, "--compare")
    said = report["replay"]
    assert (code, said["verdict"], said["reasons"], said["replaced"]) == (0, "identical", {}, ["source"])
    compared = {port: (one["slots"], one["differing"]) for port, one in said["ports"].items()}
    assert compared == dict.fromkeys(["combiner.rf", *ESTIMATES], (80, 0))
    assert_balanced(report, ["latest"])


def test_the_judgement_of_a_replay_is_that_of_the_run(runs: Runner, tmp_path: Path) -> None:
    ports = ["source.truth", "source.field", "combiner.rf"]
    text = (FLOWGRAPHS / "hello.yml").read_text()
    place, live = record(runs, tmp_path, text, ports)
    code, report = replay(place, "--speed", "max")
    assert code == 0
    assert report["replay"]["replaced"] == ["source", "combiner"]
    assert report["sinks"]["nmse"] == live["sinks"]["nmse"]


def changed_at(lab: Path, slot: int, paths: int) -> int:
    """Return the first slot that nomp estimates otherwise with other paths from a slot on: found without any graph."""
    with open_recording(lab) as recording:
        frames = [one for one in recording["combiner.rf"].messages() if isinstance(one, Frame)]
        info = recording["combiner.rf"].infos[0]
    rf = np.concatenate([frame.arrays["rf"] for frame in frames])
    before, after = (
        run_block(NompEstimator(paths=n), {"rf": rf}, infos={"rf": info})["estimate"]["channel"] for n in (4, paths)
    )
    differs = (before != after).any((1, 2, 3))
    return slot + int(np.flatnonzero(differs[slot:])[0])


def test_a_changed_estimator_parameter_is_named_at_its_first_differing_slot(lab: Path, tmp_path: Path) -> None:
    changed = LAB.replace("blocks:\n", "- {slot: 57, block: nomp, parameters: {paths: 2}}\nblocks:\n", 1)
    (tmp_path / "changed.yml").write_text(changed)
    code, report = replay(lab, "--compare", "--graph", tmp_path / "changed.yml")
    first = report["replay"]["first"]
    assert (code, report["exit_code"], report["replay"]["verdict"]) == (1, 1, "different")
    assert (first["slot"], first["port"], first["array"]) == (changed_at(lab, 57, 2), "nomp.estimate", "channel")
    assert report["replay"]["ports"]["combiner.rf"]["first"] is None
    with open_recording(lab) as recording:
        frame = next(one for one in recording["nomp.estimate"].messages(first["slot"]) if isinstance(one, Frame))
    value = frame.arrays["channel"][(0, *first["index"])]
    assert first["recorded"] == [value.real, value.imag] != first["replayed"]
    assert first["largest"] > 0


def test_people_read_what_differs_and_where(lab: Path) -> None:
    done = beamslot("replay", lab, "--compare", "--quiet", "-p", "short.rounds=3")
    assert done.returncode == 1
    assert done.stdout.startswith("different: first at slot ")
    assert ": short.estimate, " in done.stdout
    assert "  nomp.estimate: 80 slots\n" in done.stdout


STATE = """
options: {parameters: {id: state, slots: 60, slot_period: 2e-3, pace: realtime, seed: 3, restart: on_failure}}
blocks:
- {name: source, id: upa_source, parameters: {n_y: 4, n_z: 6, paths: 2, snr_db: 20}}
- {name: combiner, id: combiner, parameters: {antennas_per_chain: 3, groups: 2}}
- {name: tracker, id: gw_tracker}
- {name: rest, id: null_sink}
connections:
- [source, field, combiner, field]
- {src_blk_id: combiner, src_port_id: rf, snk_blk_id: tracker, snk_port_id: rf, params: {policy: drop_oldest}}
- [tracker, estimate, rest, stream]
"""


def test_state_behind_a_lossy_connection_is_not_comparable_after_a_restart(runs: Runner, tmp_path: Path) -> None:
    ports = ["source.field", "combiner.rf", "tracker.estimate"]
    place, report = record(runs, tmp_path, STATE, ports, strikes=[Strike("kill", "tracker", 20)])
    assert report["restarts"] == 1
    facts_of_run = after_run(Path(report["logs"]))
    assert facts_of_run["restarts"] == 1
    amend(place, facts_of_run)
    code, report = replay(place, "--compare", "-p", "tracker.max_paths=1")
    said = report["replay"]
    why = "it has state and a lossy connection, and which slots its state lost in a restart is not recorded"
    assert (code, said["verdict"], said["reasons"]) == (1, "not comparable", {"tracker.estimate": why})
    amend(place, {"restarts": 0})
    assert replay(place, "--compare", "-p", "tracker.max_paths=1")[1]["replay"]["verdict"] == "different"


def test_frames_of_other_slots_are_not_comparable(runs: Runner, tmp_path: Path) -> None:
    text = (FLOWGRAPHS / "hello.yml").read_text().replace("slots: 100", "slots: 40, burst: 4")
    place, _ = record(runs, tmp_path, text, ["source.field", "source.truth", "combiner.rf", "omp.estimate"])
    code, report = replay(place, "--compare")
    assert (code, report["replay"]["verdict"]) == (0, "identical"), "at the framing of the recording"
    live = text.replace("burst: 4", "burst: 5").replace("snr_db: 10", "snr_db: 9")
    (tmp_path / "other.yml").write_text(live)
    with open_recording(place) as recording:
        assert recording.about["burst"] == 4
    (place / "recording.json").write_text(
        (place / "recording.json").read_text().replace('"burst": 4', '"burst": 5').replace("burst: 4", "burst: 5")
    )
    code, report = replay(place, "--compare", "--replace", "combiner", "--graph", tmp_path / "other.yml")
    assert code == 1
    assert report["replay"]["verdict"] == "not comparable"
    assert report["replay"]["reasons"]["source.field"].startswith("other framing: slot 0 came in a frame of other")
    assert report["replay"]["ports"]["omp.estimate"]["first"] is None


def test_what_cannot_be_compared_says_why(lab: Path, tmp_path: Path) -> None:
    _, report = replay(lab, "--compare", "--from", 40, "--slots", 20)
    said = report["replay"]
    assert said["verdict"] == "identical"
    assert said["reasons"] == {"tracker.estimate": "tracker depends on earlier slots, and the replay begins at slot 40"}
    assert said["ports"]["nomp.estimate"]["slots"] == 20
    about = json.loads((lab / "recording.json").read_text())
    about["about"]["threads"]["OMP_NUM_THREADS"] = "7"
    elsewhere = some_of(lab, tmp_path / "elsewhere", "source.field", "source.truth", *ESTIMATES)
    (elsewhere / "recording.json").unlink()
    (elsewhere / "recording.json").write_text(json.dumps(about))
    code, report = replay(elsewhere, "--compare", "-p", "nomp.guard=0.1")
    reasons = report["replay"]["reasons"]
    assert (code, report["replay"]["verdict"]) == (1, "not comparable")
    assert reasons["nomp.estimate"] == "other thread count: OMP_NUM_THREADS is 1, recorded with 7"


def problem_of(place: Path, **asked: Any) -> str:
    """Return why a recording cannot be replayed so, from what is known before anything runs."""
    with open_recording(place) as recording, pytest.raises((FlowgraphError, StorageError)) as caught:
        plan(recording, recorded_graph(recording), Asked(**asked))
    return str(caught.value)


PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"replace": ("nmse",)}, "--replace: nmse has no output that anybody takes; there is nothing to stand in for"),
    ({"replace": ("sauce",)}, "--replace: lab has no block 'sauce'; did you mean 'source'?"),
    ({"first": 40, "replace": ("combiner",)}, "source: begins at slot 0 and the replay at slot 40; replay it too"),
    ({"first": 900}, "has slots 0..79; wanted some from slot 900 on"),
    (
        {"compare": True, "replace": ("nomp", "short", "slow", "tracker", "source", "combiner")},
        "nothing can be compared",
    ),
]


@pytest.mark.parametrize(("asked", "problem"), PROBLEMS)
def test_a_replay_that_cannot_be_says_why(asked: dict[str, Any], problem: str, lab: Path) -> None:
    assert problem in problem_of(lab, **asked)


def test_a_port_that_is_needed_and_not_recorded_is_named(lab: Path, tmp_path: Path) -> None:
    place = some_of(lab, tmp_path / "some", "source.field", "nomp.estimate")
    assert problem_of(place, replace=("source",)) == (
        "--replace: source.truth is not recorded and nmse.truth needs it; recorded are nomp.estimate, source.field"
    )
    with open_recording(place) as recording:
        planned = plan(recording, recorded_graph(recording), Asked())
    assert (planned.replaced, planned.removed) == (("nomp",), ())
    assert planned.graph.blocks["source"].kind.__name__ == "UpaSource", "its truth is wanted"
    alone = some_of(lab, tmp_path / "alone", "combiner.rf", "source.truth")
    with open_recording(alone) as recording:
        planned = plan(recording, recorded_graph(recording), Asked())
        assert (planned.replaced, planned.removed) == (("source", "combiner"), ()), "its field leads to the combiner"
        assert planned.played == ("source.truth", "combiner.rf")
        both = plan(recording, recorded_graph(recording), Asked(replace=("combiner", "source")))
        assert both.replaced == planned.replaced
        kept = plan(recording, recorded_graph(recording), Asked(replace=("combiner",), compare=True))
        assert kept.compared == ("source.truth",)
    (place / "recording.json").unlink()
    (place / "recording.json").write_text(json.dumps({"format": "beamslot recording", "version": 1, "about": {}}))
    assert problem_of(place) == f"{place}: does not say which graph was recorded; name one with --graph"


def test_blocks_that_lead_to_what_is_replaced_alone_are_left_out(lab: Path, tmp_path: Path) -> None:
    place = some_of(lab, tmp_path / "some", "combiner.rf")
    with open_recording(place) as recording:
        graph = recorded_graph(recording)
        edges = tuple(edge for edge in graph.edges if edge.target != "nmse")
        planned = plan(recording, replace(graph, edges=edges, blocks=without(graph.blocks, "nmse")), Asked())
    assert (planned.replaced, planned.removed) == (("combiner",), ("source",))
    assert [change.block for change in planned.graph.timeline] == ["nomp", "short"]


def without(blocks: Any, name: str) -> dict[str, Any]:
    return {known: spec for known, spec in blocks.items() if known != name}


def some_of(place: Path, into: Path, *ports: str) -> Path:
    """Return a recording that has only some of the ports of another."""
    into.mkdir()
    for path in place.iterdir():
        if path.name == "recording.json" or path.name.startswith(tuple(f"{port}." for port in ports)):
            (into / path.name).symlink_to(path)
    return into


def test_a_recorder_in_the_graph_does_not_write_over_what_is_replayed(lab: Path) -> None:
    with open_recording(lab) as recording:
        graph = with_recorder(recorded_graph(recording), ["combiner.rf"], lab, {})
        assert "recorder" not in plan(recording, graph, Asked()).graph.blocks
        other = with_recorder(recorded_graph(recording), ["nomp.estimate"], lab / "other", {})
        assert "recorder" in plan(recording, other, Asked(replace=("source",))).graph.blocks


def test_the_recorded_times_are_kept(runs: Runner, tmp_path: Path) -> None:
    text = (FLOWGRAPHS / "hello.yml").read_text().replace("slots: 100", "slots: 100, pace: realtime, slot_period: 2e-3")
    place, _ = record(runs, tmp_path, text, ["source.field", "source.truth"])
    code, report = replay(place)
    assert code == 0
    assert report["seconds"] >= 0.95 * 100 * 2e-3
    assert 0 < report["replay"]["jitter"]["p50_ms"] <= report["replay"]["jitter"]["p99_ms"]
    assert report["replay"]["jitter"]["p50_ms"] < 20
    slots_rise_over_rounds(place)


def slots_rise_over_rounds(place: Path) -> None:
    code, report = replay(place, "--speed", "max", "--loop", "--slots", "250")
    assert code == 0
    assert report["slots"] == 250
    assert {edge["acknowledged"] for edge in report["edges"]} == {250}
    assert report["sinks"]["nmse"]["omp"]["draws"] == 100
    assert report["replay"]["jitter"] == {"p50_ms": None, "p99_ms": None}


def test_a_stand_in_that_is_killed_goes_on_where_it_was(runs: Runner, tmp_path: Path) -> None:
    text = (FLOWGRAPHS / "hello.yml").read_text()
    place, live = record(runs, tmp_path, text, ["source.field", "source.truth"])
    graph = text.replace("id: hello,", "id: again, restart: on_failure,")
    for port in ("field", "truth"):
        graph = graph.replace(f"[source, {port},", f"[{port}, stream,")
    sources = "".join(
        f"- {{name: {port}, id: replay_source, parameters: {{path: {place}, port: source.{port}}}}}\n"
        for port in ("field", "truth")
    )
    start = graph.index("- name: source")
    graph = graph[:start] + sources + graph[graph.index("- name: combiner") :]
    file = tmp_path / "again.yml"
    file.write_text(graph)
    strikes = [Strike("kill", "field", 30), Strike("kill", "truth", 60), Strike("kill", "nmse", 80)]
    report = runs(flowgraph.load(file), strikes=strikes)
    assert report["ok"], report["problems"]
    assert report["restarts"] == 3
    assert report["sinks"]["nmse"] == live["sinks"]["nmse"]
    assert_balanced(report)


SHIPPED = {"adapt": 800, "ula_vae": 400, "iq": 20, "umi": 8, "record": 60, "replay": 0, "hil_gnuradio": 0}
"""Slots of shipped flowgraphs; none of those that need a recording or a radio."""


def outputs_of(file: Path) -> list[str]:
    graph = flowgraph.load(file)
    recorders = {edge.stream for edge in graph.edges if graph.blocks[edge.target].kind.__name__ == "Recorder"}
    return sorted({edge.stream for edge in graph.edges} | recorders)


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(path.stem for path in FLOWGRAPHS.glob("*.yml")))
def test_every_shipped_flowgraph_replays_to_the_last_bit(name: str, tmp_path: Path) -> None:
    slots, file = SHIPPED.get(name, 40), FLOWGRAPHS / f"{name}.yml"
    if not slots:
        pytest.skip("stands for a recording or a radio of somebody's own")
    place = tmp_path / "recording"
    done = beamslot("record", file, "--ports", ",".join(outputs_of(file)), "--slots", slots, "-o", place, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code, report = replay(place, "--compare", cwd=tmp_path)
    said = report["replay"]
    assert (code, said["verdict"]) == (0, "identical"), said
    excused = {port.partition(".")[0] for port in said["reasons"]}
    assert excused <= ({"adapter", "adapted"} if name == "adapt" else set()), said["reasons"]
