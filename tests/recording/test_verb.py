"""`beamslot record`: a graph that is run for it, a run that goes on elsewhere, and repairs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from beamslot_recording import assert_same, frame_of, front_end, metas, write
from beamslot_runs import until

from beamslot.cli import main
from beamslot.cli import record as verb
from beamslot.errors import FlowgraphError, UnknownPort
from beamslot.flowgraph import load
from beamslot.frame import Describe, Eos, Frame, Gap
from beamslot.recording import Recording, open_recording
from beamslot.recording.tapped import TappedPort
from beamslot.runtime import rundir

FRONT = {"name": "source", "id": "upa_source", "parameters": {"n_y": 4, "n_z": 6, "paths": 2, "snr_db": "snr"}}
COMBINER = {"name": "combiner", "id": "combiner", "parameters": {"antennas_per_chain": 3}}
GRAPH = {
    "options": {"parameters": {"id": "small", "slots": 60, "seed": 5}},
    "variables": {"snr": 10},
    "blocks": [FRONT, COMBINER, {"name": "rest", "id": "null_sink"}],
    "connections": [["source", "field", "combiner", "field"], ["combiner", "rf", "rest", "stream"]],
}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "small.yml"
    path.write_text(json.dumps(GRAPH))
    return path


def beamslot(*words: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "beamslot", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def frames(recording: Recording, port: str) -> dict[int, Mapping[str, Any]]:
    return {one.first: one.arrays for one in recording[port].messages() if isinstance(one, Frame)}


def test_a_graph_is_recorded_without_a_change_to_its_file(graph: Path, tmp_path: Path) -> None:
    place = tmp_path / "out" / "r"
    done = beamslot("record", graph, "--ports", "combiner.rf,source.truth", "-o", place, "-p", "snr=20", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    port = {"slots": 60, "missing": 0, "first": 0, "last": 59, "gaps": {}}
    assert said["ports"] == {"combiner.rf": port, "source.truth": port}
    assert (said["ok"], said["exit_code"], said["complete"], said["path"]) == (True, 0, True, str(place))
    assert said["bytes"] == sum(path.stat().st_size for path in place.iterdir())
    assert "MB/s" in done.stderr
    with open_recording(place, verify=True) as recording:
        about = recording.about
        assert json.loads(about["flowgraph"]) == GRAPH
        assert (about["graph"], about["seed"], about["slots"], about["overrides"]) == ("small", 5, 60, ["snr=20"])
        assert (about["timeline"], about["ports"]) == ([], ["combiner.rf", "source.truth"])
        assert about["restarts"] == 0
        assert about["threads"]["OMP_NUM_THREADS"] == "1"
        assert about["versions"]["beamslot"]
        assert about["run"]["blocks"]["source"]["parameters"]["snr_db"] == 20
        assert "about" not in about["run"]["blocks"]["recorder"]["parameters"]
    metas(place)


def test_the_ports_of_the_sources_are_recorded_where_none_is_named(graph: Path, tmp_path: Path) -> None:
    place = tmp_path / "r"
    done = beamslot("record", graph, "-o", place, "--slots", 7)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ["  source.field: 7 slots, 0..6", "  source.truth: 7 slots, 0..6"]
    refused = beamslot("record", graph, "-o", place)
    assert refused.returncode == 2
    assert refused.stderr == f"record: {place} has a recording; wanted another directory, or --replace\n"


def test_a_recorder_is_put_in_beside_what_there_is(graph: Path, tmp_path: Path) -> None:
    graph.write_text(
        json.dumps({**GRAPH, "blocks": [FRONT, COMBINER, {"name": "recorder", "id": "null_sink"}]}).replace(
            "rest", "recorder"
        )
    )
    made = verb.with_recorder(load(graph), ["combiner.rf", "combiner.rf"], tmp_path, {})
    assert [edge.name for edge in made.edges][2:] == ["combiner.rf > recorder_2.streams"]
    with pytest.raises(
        FlowgraphError, match=r"no output is called 'combiner\.fr'; did you mean 'combiner\.rf'\?"
    ) as caught:
        verb.with_recorder(load(graph), ["combiner.fr", "source.field"], tmp_path, {})
    assert isinstance(caught.value.causes[0], UnknownPort)


def test_what_is_asked_for_is_checked_first(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(*words: Any) -> str:
        assert main(["record", *map(str, words)]) in (1, 2)
        return capsys.readouterr().err.strip()

    assert refusal(graph) == "record: no -o came; wanted the directory of the recording"
    assert refusal("nosuch", "-o", tmp_path / "x").startswith("record: nothing runs; wanted a run in another terminal")
    told = refusal("nosuch", "-o", tmp_path / "x", "-p", "a=1", "--seed", 3)
    assert told == "record: -p, --seed came for the run 'nosuch'; a run is only listened to"
    assert "no.yml: no such file" in refusal(tmp_path / "no.yml", "-o", tmp_path / "x")
    assert refusal("--repair", tmp_path).endswith("recording.json: cannot be read: no such file or directory")
    assert not (tmp_path / "x").exists()


def test_repair_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: Any) -> None:
    write(tmp_path, [Describe("a.x", front_end()), frame_of(front_end(), 0, 2, rng), Eos(2)], "a.x")
    assert main(["record", "--repair", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "a.x: whole; 2 slots up to slot 1\n"
    log = tmp_path / "a.x.log"
    log.write_bytes(log.read_bytes()[:-20])
    assert main(["record", "--repair", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"]
    assert said["ports"][0]["cut"].keys() == {"a.x.log"}
    assert said["ports"][0]["slots"] == 2
    assert open_recording(tmp_path, verify=True)["a.x"].repaired.startswith("record at byte")


def test_changes_of_parameters_are_told_one_by_one() -> None:
    lines = [
        {"slot": 0, "block": "a", "values": {"x": 1, "y": 2}},
        {"slot": 0, "block": "b", "values": {}},
        {"slot": 70, "block": "a", "values": {"x": 5}},
        {"slot": 90, "block": "b", "values": {"z": [1]}},
        {"slot": 95, "block": "run", "values": {"pace": 2.0}},
    ]
    assert verb.timeline(lines, ["a", "b"]) == [
        {"slot": 70, "block": "a", "parameter": "x", "value": 5},
        {"slot": 90, "block": "b", "parameter": "z", "value": [1]},
        {"slot": 95, "block": "run", "parameter": "pace", "value": 2.0},
    ]


def test_a_tap_hears_what_a_recorder_in_the_graph_keeps(graph: Path, tmp_path: Path) -> None:
    """Both at once, on one run: what the tap heard is the same to the last bit, and the rest is marked."""
    inserted, tapped = tmp_path / "inserted", tmp_path / "tapped"
    words = ["record", graph, "--ports", "source.truth,combiner.rf", "-o", inserted, "--pace", "0.1", "--slots", 5000]
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "beamslot", *map(str, words), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: any(card["name"] == "small" for card in rundir.runs()), 30)
        until(lambda: len(list(inserted.glob("*.log"))) == 2, 30)
        done = beamslot("record", "small", "--ports", "source.truth,combiner.rf", "-o", tapped, "--slots", 50)
        assert done.returncode == 0, done.stderr
        steered = beamslot("set", "small:source.snr_db=3")
        assert steered.returncode == 0, steered.stderr
    finally:
        child.send_signal(signal.SIGINT)
        _, problems = child.communicate(timeout=30)
    assert child.returncode == 130, problems
    metas(tapped)
    with open_recording(inserted, verify=True) as one, open_recording(tapped, verify=True) as other:
        (change,) = one.about["timeline"]
        assert change == {"slot": change["slot"], "block": "source", "parameter": "snr_db", "value": 3.0}
        assert change["slot"] > 0
        assert other.about["attached"]
        assert other.about["graph"] == "small"
        assert one.complete
        assert other.complete
        for port in ("source.truth", "combiner.rf"):
            assert other[port].infos == one[port].infos
            heard, kept = frames(other, port), frames(one, port)
            assert len(heard) + other[port].missing >= 50
            assert heard.keys() <= kept.keys()
            messages = {m.first: m for m in one[port].messages() if isinstance(m, Frame)}
            for message in other[port].messages():
                if isinstance(message, Frame):
                    assert_same([message], [messages[message.first]])
            assert {gap.reason for gap in other[port].gaps} <= {"unheard"}


def tapped_port(directory: Path, endpoints: int = 1) -> TappedPort:
    places = [f"ipc://{directory}/{number}" for number in range(endpoints)]
    return TappedPort(places, "a.x", directory / "r", {})


def spans(directory: Path) -> list[Any]:
    return [
        (one.first, one.end, one.reason if isinstance(one, Gap) else "")
        for one in open_recording(directory / "r")["a.x"].messages()
        if isinstance(one, Frame | Gap)
    ]


def test_what_a_tap_did_not_hear_is_a_gap_and_what_it_hears_twice_is_kept_once(tmp_path: Path, rng: Any) -> None:
    info = front_end()
    with tapped_port(tmp_path) as tap:
        tap.take(frame_of(info, 3, 1, rng))  # before it is described
        for message in [
            Describe("a.x", info),
            frame_of(info, 5, 2, rng),
            frame_of(info, 9, 1, rng),
            Gap(10, 2, "late"),
        ]:
            tap.take(message)
        for message in [Describe("a.x", info), frame_of(info, 9, 1, rng), frame_of(info, 12, 3, rng), Eos(20)]:
            tap.take(message)
        assert tap.over
    assert spans(tmp_path) == [
        (5, 7, ""),
        (7, 9, "unheard"),
        (9, 10, ""),
        (10, 12, "late"),
        (12, 15, ""),
        (15, 20, "unheard"),
    ]


def test_frames_of_replicas_are_put_in_order(tmp_path: Path, rng: Any) -> None:
    info = front_end()
    with tapped_port(tmp_path, 2) as tap:
        tap.take(Describe("a.x", info))
        for first in (1, 0, 2, 5, 3, 4, 8, 7):
            tap.take(frame_of(info, first, 1, rng))
        tap.take(Eos(10))
        assert not tap.over  # slot 6 may still come
    assert spans(tmp_path)[:6] == [(slot, slot + 1, "") for slot in range(6)]
    assert spans(tmp_path)[6:] == [(6, 7, "unheard"), (7, 8, ""), (8, 9, "")]


def test_a_run_that_is_gone_ends_the_recording_with_an_error(tmp_path: Path) -> None:
    from beamslot.errors import PeerLost
    from beamslot.recording.tapped import listen

    with tapped_port(tmp_path) as tap:
        tap.heard = time.monotonic() - 9
        with pytest.raises(PeerLost, match=r"^a\.x: nothing came for 5 s; is the run over\? what came is kept$"):
            list(listen([tap], None, 5.0))
    assert open_recording(tmp_path / "r")["a.x"].closed
    assert os.path.exists(tmp_path / "r" / "recording.json")
