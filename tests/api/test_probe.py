"""Looking into a running graph from another process: lists, rates, taps; and what a reader of taps makes of frames."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_runs import elsewhere

import beamslot
from beamslot import probe
from beamslot.cli import main, ps
from beamslot.cli import probe as verbs
from beamslot.errors import BadParam, PeerLost, UnknownPort
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.recording import open_recording
from beamslot.runtime import observe, taps

PROBES = Path(__file__).parents[1] / "support" / "beamslot_probes.py"

GRAPH = """
options: {parameters: {id: probed, slot_period: 0.005, pace: realtime}}
blocks:
- {name: source, id: counting_source}
- {name: relay, id: relay}
- {name: sink, id: check_sink}
connections:
- [source, numbers, relay, numbers]
- [relay, out, sink, numbers]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    """A graph that runs in another process, in a place of its own, for all tests of this file."""
    with elsewhere(tmp_path_factory.mktemp("probed"), GRAPH, "--blocks", PROBES) as child:
        yield child


def said(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("running")
def test_ps_tells_who_runs_with_processes_rates_and_memory(running: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ps", "--json"]) == 0
    ((run,),) = said(capsys)
    assert (run["run"], run["pid"], run["state"]) == ("probed", running.pid, "running")
    assert list(run["blocks"]) == ["source", "relay", "sink"]
    pids = [pid for block in run["blocks"].values() for pid in block["pids"]]
    assert len(set(pids)) == 3
    for pid, block in zip(pids, run["blocks"].values(), strict=True):
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"PPid:\t{running.pid}" in status
        assert 2**20 < block["memory"] < 2**30
        assert block["cpu"] >= 0
    assert run["slots_per_s"] > 0
    assert {edge["edge"] for edge in run["edges"]} == {"source.numbers > relay.numbers", "relay.out > sink.numbers"}


@pytest.mark.usefixtures("running")
def test_ps_and_top_print_tables_and_take_a_name_or_a_pid(running: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["ps", "probed"], ["top", str(running.pid), "-n", "2", "--every", "300ms"]):
        assert main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        heads = [line for line in lines if line.startswith("probed (pid")]
        assert len(heads) == (2 if words[0] == "top" else 1)
        assert "running" in heads[0]
        assert [line.split()[0] for line in lines[1:5]] == ["block", "source", "relay", "sink"]
    assert main(["top", "other"]) == 1
    assert capsys.readouterr().err == "top: no run is called 'other'; there is probed\n"


@pytest.mark.usefixtures("running")
def test_hz_measures_the_rate_of_a_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hz", "relay.out", "-n", "2", "--every", "500ms", "--json"]) == 0
    _, reading = said(capsys)
    assert 20 < reading["slots_per_s"] < 220  # 200 slots a second where the machine keeps up
    assert reading["between_p50_ms"] > 0
    assert reading["age_p50_ms"] > 0
    assert main(["hz", "probed:relay.out", "-n", "1", "--every", "200ms"]) == 0
    assert "slots/s" in capsys.readouterr().out


@pytest.mark.usefixtures("running")
def test_tap_keeps_slots_in_a_file_with_what_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "out.npz"
    assert main(["tap", "relay.out", "-n", "12", "-o", str(file), "--json"]) == 0
    (told,) = said(capsys)
    assert (told["slots"], told["port"]) == (12, "relay.out")
    with np.load(file, allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["index"], kept["slots"])
        assert np.all(np.diff(kept["slots"]) >= 1)
        assert json.loads(str(kept["stream"]))["axes"] == {"sample": 8}
    assert [path.name for path in file.parent.iterdir()] == ["out.npz"]
    assert main(["tap", "relay.out", "-o", str(tmp_path / "out.mat")]) == 2
    assert "wanted a name that ends with .npz, or one without a suffix" in capsys.readouterr().err


@pytest.mark.usefixtures("running")
def test_tap_keeps_slots_as_a_recording_where_a_directory_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "new" / "out"
    assert main(["tap", "probed:relay.out", "-n", "12", "-o", str(place), "--json"]) == 0
    (told,) = said(capsys)
    assert (told["path"], told["complete"], list(told["ports"])) == (str(place), True, ["relay.out"])
    port = told["ports"]["relay.out"]
    assert port["slots"] + port["missing"] == port["last"] - port["first"] + 1 == 12
    with open_recording(place, verify=True) as recording:
        assert (recording.about["graph"], recording.about["attached"]) == ("probed", True)
        assert recording.about["restarts"] == 0
        messages = [*recording["relay.out"].messages()]
        assert isinstance(messages[0], Describe)
        frames = [one for one in messages if isinstance(one, Frame)]
        assert [one.arrays["index"].tolist() for one in frames] == [[*range(one.first, one.end)] for one in frames]
    assert main(["tap", "relay.out", "-o", str(place)]) == 2
    assert capsys.readouterr().err == f"tap: {place} has a recording; wanted another directory\n"
    assert main(["tap", "relay.out", "-n", "1", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}: ")


@pytest.mark.usefixtures("running")
def test_attach_gives_frames_with_their_slots_arrays_and_axes() -> None:
    with beamslot.attach("probed") as run:
        assert run.ports == ["source.numbers", "relay.out"]
        assert run.status["state"] == "running"
        frames = [frame for _, frame in zip(range(5), run.tap("relay.out"), strict=False)]
        with pytest.raises(UnknownPort, match=r"probed has no output 'relay\.aut'; did you mean 'relay\.out'"):
            run.tap("relay.aut")
    for frame in frames:
        assert frame["index"].tolist() == list(frame.slots)
        assert frame.axes("index") == ("slot",)
        assert not frame["index"].flags.writeable
        assert frame.captured <= frame.sent <= time.monotonic()
    with pytest.raises(UnknownPort, match="the stream has no array 'indx'; did you mean 'index'"):
        frames[0]["indx"]


@pytest.mark.usefixtures("running")
def test_two_readers_of_a_port_both_hear_it_and_both_know_what_it_is() -> None:
    run = beamslot.attach()
    one, other = run.tap("relay.out"), run.tap("relay.out")
    for _ in range(3):
        assert next(one).info == next(other).info


@pytest.mark.usefixtures("running")
def test_a_graph_is_drawn_with_its_rates(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", "probed"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "flowchart LR"
    edges = [line for line in lines if "-->" in line]
    assert len(edges) == 2
    assert all("/s" in line for line in edges)


def test_a_run_that_nobody_started_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(PeerLost, match="attach: nothing runs; wanted a run in another terminal"):
        beamslot.attach()
    assert ps.looks("", "ps", 0.0, 1).__next__() == []


# What a reader makes of frames

INFO = StreamInfo({"x": Array.of("slot y", np.float32)}, {"y": 2})


def heard(monkeypatch: pytest.MonkeyPatch, *messages: Any) -> list[probe.Tapped]:
    monkeypatch.setattr(taps, "listen", lambda *_: iter([Describe("a.x", INFO), *messages, Eos(99)]))
    return [*probe.frames(["ipc://nowhere"], "a.x")]


def frame(first: int, count: int = 1, captured: int = 0) -> Frame:
    return Frame(first, count, {"x": np.full((count, 2), first, np.float32)}, captured)


def test_slots_that_passed_unseen_and_gaps_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = heard(monkeypatch, frame(5), frame(6, 2), Gap(8, 3, "latest"), frame(11), frame(15))
    assert [(f.slots.start, f.missed, dict(f.gaps)) for f in frames] == [
        (5, 0, {}),
        (6, 0, {}),
        (11, 3, {"latest": 3}),
        (15, 3, {}),
    ]
    meter = probe.Meter()
    for one in frames:
        meter.add(one, 0.0)
    reading = meter.read(1.0)
    assert (reading["missed"], reading["gaps"]) == (3, {"latest": 3})


def test_frames_of_replicas_that_come_out_of_order_are_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = heard(monkeypatch, frame(0), frame(2), frame(1), frame(3))
    assert [f.missed for f in frames] == [0, 1, 0, 0]
    assert probe.collect(frames)["slots"].tolist() == [0, 1, 2, 3]


def test_a_meter_reads_rate_jitter_and_age_of_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 10.0)
    meter = probe.Meter()
    frames = heard(monkeypatch, *(frame(4 * k, 4, captured=10_000_000_000) for k in range(4)))
    for one, at in zip(frames, (10.1, 10.2, 10.4, 10.5), strict=True):
        meter.add(one, at)
    reading = meter.read(12.0)
    assert reading["slots_per_s"] == 8
    assert reading["frames_per_s"] == 2
    assert reading["between_p50_ms"] == pytest.approx(100)
    assert reading["jitter_ms"] == pytest.approx(np.std([100, 200, 100]))
    assert reading["age_p50_ms"] == pytest.approx(300)
    assert reading["mib_per_s"] == pytest.approx(4 * 32 / 2 / 2**20)
    assert meter.read(13.0)["age_p50_ms"] is None
    assert "missed 0" in verbs.line(reading)


def test_what_cannot_be_joined_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadParam, match="no frame came"):
        probe.collect([])
    wide = Frame(1, 1, {"x": np.zeros((1, 3), np.float32)})
    with pytest.raises(BadParam, match="x changed shape while it was tapped"):
        probe.collect(heard(monkeypatch, frame(0), wide))


def test_rates_are_differences_between_two_looks() -> None:
    def look(slots: int, at: float, cpu: float) -> observe.Look:
        edge = {"edge": "a.x > b.x", "acknowledged": slots, "dropped": {}}
        process = {"process": "a", "blocks": ["a", "b"], "pid": 7, "restarts": 0}
        blocks = {"a": {"slots": slots}, "b": {"slots": slots}}
        status = {"blocks": blocks, "edges": [edge], "processes": [process]}
        return observe.Look({}, status, {7: observe.Usage(cpu, 4096)}, at, at)

    rates = observe.between(look(10, 1.0, 0.5), look(30, 3.0, 1.5))
    assert rates.slots == {"a": 10, "b": 10}
    assert rates.edges == {"a.x > b.x": 10}
    assert (rates.cpu, rates.memory, rates.pids) == ({"a": 0.5}, {"a": 4096}, {"a": [7], "b": [7]})
    assert observe.between(look(10, 1.0, 0.5), look(10, 1.0, 0.5)) == observe.Rates()


def test_the_use_of_a_process_is_what_the_kernel_says() -> None:
    found = observe.usage(os.getpid())
    assert found is not None
    assert found.cpu == pytest.approx(time.process_time(), abs=0.5)
    assert observe.usage(2**22 + 1) is None
