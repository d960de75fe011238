"""The recorder as a block: it keeps what streams say, as they say it, through gaps, changes, kills and full disks."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_recording import assert_same, frame_of, front_end, metas, same, samples, story
from beamslot_runs import Runner, assert_balanced, graph

from beamslot.errors import BlockFailed, PortMismatch
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.recording import Recordable, open_recording, repair
from beamslot.runtime.block import Block, In, Out, RunContext
from beamslot.runtime.chaos import Strike
from beamslot.runtime.core import Core, Input
from beamslot.runtime.graph import Restart
from beamslot.sinks.null_sink import NullSink
from beamslot.sinks.recorder import Recorder
from beamslot.sources.upa_source import UpaSource

SMALL = {"n_y": 4, "n_z": 6, "paths": 2}


def core_of(block: Block, *streams: str) -> Core:
    block.join_run(RunContext("recorder", 3))
    port = next(iter(block.inputs.values()))
    return Core(block, [Input(port, stream, f"{stream} > recorder.{port.name}") for stream in streams])


def told(said: list[Recordable]) -> list[Recordable]:
    """Return a story in which every slot that does not come is told of, as on an edge."""
    due, made = -1, []
    for one in said:
        if isinstance(one, Frame | Gap | Eos):
            if one.first > due >= 0:
                made.append(Gap(due, one.first - due, "lost"))
            due = one.first if isinstance(one, Eos) else one.end
        made.append(one)
    return made


def fed(core: Core, index: int, said: list[Recordable]) -> None:
    for message in said:
        core.feed(index, message)
        while core.step() is not None:
            pass


def test_it_keeps_every_message_as_it_came(tmp_path: Path) -> None:
    streams = {"a.x": [front_end(0), front_end(1)], "b.y": [front_end(3), front_end(4), front_end(5)]}
    said = {port: story(seed, 60, infos, port) for seed, (port, infos) in enumerate(streams.items())}
    said = {
        port: [one for one in messages if not isinstance(one, Gap) or one.count < 99] for port, messages in said.items()
    }
    recorder = Recorder(path=str(tmp_path / "r"), about={"site": "roof"})
    core = core_of(recorder, *streams)
    fed(core, 0, said["a.x"][:1])
    fed(core, 1, said["b.y"])
    fed(core, 0, said["a.x"][1:])
    assert core.ended
    recorder.stop()
    with open_recording(tmp_path / "r", verify=True) as recording:
        assert recording.about == {"recorder": "recorder", "seed": 3, "slot_period": 1e-3, "site": "roof"}
        for port, messages in said.items():
            assert_same(recording[port].messages(), told(messages))
    metas(tmp_path / "r")
    frames = [one for messages in said.values() for one in messages if isinstance(one, Frame)]
    assert recorder.results()["slots"] == sum(one.count for one in frames)


def test_a_description_comes_before_whatever_follows_it(tmp_path: Path) -> None:
    recorder = Recorder(path=str(tmp_path))
    rng = np.random.default_rng(0)
    one, other = front_end(0), front_end(1)
    said: list[Recordable] = [Describe("a.x", one), frame_of(one, 0, 1, rng), Describe("a.x", other)]
    said += [Gap(1, 2, "late", 77), Describe("a.x", one), Eos(3, False, "gone")]
    fed(core_of(recorder, "a.x"), 0, said)
    recorder.stop()
    assert_same(open_recording(tmp_path)["a.x"].messages(), said)


def test_what_is_not_as_described_is_a_gap(tmp_path: Path) -> None:
    recorder = Recorder(path=str(tmp_path))
    core = core_of(recorder, "a.x")
    odd = Frame(0, 2, {"rf": np.zeros((1,), np.float32)}, captured=5, operator=front_end().operator.hash)
    fed(core, 0, [Describe("a.x", front_end()), odd, Eos(2)])
    recorder.stop()
    assert open_recording(tmp_path)["a.x"].gaps == [Gap(0, 2, "corrupt", 5)]


def test_message_is_for_sinks_with_one_input() -> None:
    text = r"\.process wants message; that is for sinks with one input and no window$"
    with pytest.raises(PortMismatch, match=text):

        class Passes(Block):
            x = In()
            out = Out()

            def process(self, message: Any) -> None: ...

    with pytest.raises(PortMismatch, match=text):

        class Joins(Block):
            x = In()
            y = In()

            def process(self, x: Any, message: Any) -> None: ...


class Listener(Block):
    """Hears one stream, and asks for all else that there is."""

    x = In("slot y", np.float32)

    def process(self, x: Any, slots: Any, message: Any) -> None:
        self.__dict__.setdefault("heard", []).append((x, slots, message))
        if isinstance(message, Gap) and message.reason == "trap":
            raise KeyError("trap")


def test_a_sink_may_hear_one_stream_and_its_arrays() -> None:
    info = StreamInfo({"x": Array.of("slot y", np.float32)}, {"y": 1})
    block = Listener()
    core = core_of(block, "a.x")
    frame = Frame(0, 2, {"x": np.ones((2, 1), np.float32)}, 9, tags={"a": 1}, deadline=4)
    fed(core, 0, [Describe("a.x", info), frame, Gap(2, 3, "late", 8), Eos(5, False, "why")])
    heard = block.__dict__["heard"]
    assert heard[0][0] is frame.arrays["x"]
    assert heard[0][1:] == (range(2), frame)
    assert heard[1] == (None, range(2, 5), Gap(2, 3, "late", 8))
    assert heard[2] == (None, None, Eos(5, False, "why"))
    core = core_of(Listener(), "a.x")
    with pytest.raises(BlockFailed, match=r"^recorder at slots 0\.\.1 \(seed 3\): KeyError: 'trap'"):
        fed(core, 0, [Describe("a.x", info), Gap(0, 2, "trap")])


def test_a_recording_that_is_there_is_replaced_or_refused(tmp_path: Path) -> None:
    said = story(1, 9, [front_end()], "a.x")
    for _ in range(2):
        recorder = Recorder(path=str(tmp_path))
        fed(core_of(recorder, "a.x"), 0, said)
        recorder.stop()
    for name in ("notes.txt", "web.access.log"):
        (tmp_path / name).write_text("mine")
    recorder = Recorder(path=str(tmp_path))
    fed(core_of(recorder, "b.y"), 0, [Describe("b.y", front_end()), Eos(0)])
    recorder.stop()
    assert {path.name for path in tmp_path.iterdir()} == {
        "b.y.log",
        "recording.json",
        "notes.txt",
        "web.access.log",
    }
    assert list(open_recording(tmp_path).ports) == ["b.y"]
    recorder = Recorder(path=str(tmp_path), existing="refuse")
    why = rf"recorder\.path: {tmp_path} has a recording, and existing is refuse"
    text = rf"^recorder \(seed 3\): start: StorageError: {why}$"
    with pytest.raises(BlockFailed, match=text):
        fed(core_of(recorder, "a.x"), 0, said)


def test_it_goes_on_where_its_snapshot_was_taken(tmp_path: Path) -> None:
    said = [one for one in story(8, 40, [front_end()], "a.x") if not isinstance(one, Gap)]
    due = 0
    for one in said:
        if not isinstance(one, Describe):
            one.first, due = due, due + getattr(one, "count", 0)
    first = Recorder(path=str(tmp_path))
    fed(core_of(first, "a.x"), 0, said[:20])
    state = first.snapshot()
    fed(core_of(first, "a.x"), 0, said[:1])
    for message in said[20:30]:
        first.process({}, "a.x", range(0), message)
    second = Recorder(path=str(tmp_path))
    second.join_run(RunContext("recorder", 3))
    second.start({"a.x": front_end()})
    second.restore(state)
    for message in said[20:]:
        second.process({}, "a.x", range(0), message)
    second.stop()
    assert_same(open_recording(tmp_path, verify=True)["a.x"].messages(), said)


def recording_graph(path: Path, **options: Any) -> Any:
    """Return a graph of a source and a recorder of both its outputs."""
    return graph(
        {"source": (UpaSource, SMALL), "recorder": (Recorder, {"path": str(path)}), "rest": NullSink},
        "source.field > recorder.streams",
        "source.truth > recorder.streams",
        "source.truth > rest.stream",
        **options,
    )


def plain(path: Path) -> dict[str, list[Any]]:
    """Return what was recorded but for times and who sent it."""
    with open_recording(path, verify=True) as recording:
        return {
            port: [
                (one.first, one.count, one.operator, {name: array.tobytes() for name, array in one.arrays.items()})
                for one in track.messages()
                if isinstance(one, Frame)
            ]
            for port, track in recording.ports.items()
        }


@pytest.fixture(scope="module")
def undisturbed(runs: Runner, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    path = tmp_path_factory.mktemp("undisturbed")
    report = runs(recording_graph(path, slots=300, burst=4))
    assert report["ok"], report["problems"]
    assert report["sinks"]["recorder"] == {"path": str(path), "slots": 600, "missing": 0}
    return plain(path)


def test_a_recorder_in_a_graph_loses_nothing(undisturbed: dict[str, list[Any]]) -> None:
    assert {port: sum(count for _, count, *_ in frames) for port, frames in undisturbed.items()} == {
        "source.field": 300,
        "source.truth": 300,
    }
    assert {count for frames in undisturbed.values() for _, count, *_ in frames} == {4}


@pytest.mark.parametrize("slot", [0, 151, *(pytest.param(slot, marks=pytest.mark.soak) for slot in (3, 50, 296))])
def test_a_recorder_that_is_killed_and_returns_has_lost_nothing(
    runs: Runner, tmp_path: Path, undisturbed: dict[str, list[Any]], slot: int
) -> None:
    given = recording_graph(tmp_path, slots=300, burst=4)
    blocks = {name: replace(spec, restart=Restart("on_failure")) for name, spec in given.blocks.items()}
    report = runs(replace(given, blocks=blocks), strikes=[Strike("kill", "recorder", slot)])
    assert report["ok"], report["problems"]
    assert report["restarts"] == 1
    assert_balanced(report)
    assert plain(tmp_path) == undisturbed
    metas(tmp_path)


@pytest.mark.parametrize("slot", [77, *(pytest.param(slot, marks=pytest.mark.soak) for slot in (0, 3, 200))])
def test_a_recorder_that_is_killed_for_good_leaves_what_it_had(
    runs: Runner, tmp_path: Path, undisturbed: dict[str, list[Any]], slot: int
) -> None:
    report = runs(recording_graph(tmp_path, slots=300, burst=4), strikes=[Strike("kill", "recorder", slot)])
    assert not report["ok"]
    assert all(not one.whole for one in repair(tmp_path))
    left = plain(tmp_path)
    for port, frames in left.items():
        assert frames == undisturbed[port][: len(frames)]
    assert max((frames[-1][0] for frames in left.values() if frames), default=-4) >= slot - 7


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 150 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", place], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a file system can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_ends_the_run_with_an_error_and_a_recording_that_can_be_read(
    runs: Runner, small_disk: Path, undisturbed: dict[str, list[Any]]
) -> None:
    path = small_disk / "r"
    report = runs(recording_graph(path, slots=300, burst=4))
    assert report["exit_code"] == 1
    problem = report["problems"][0]
    assert re.search(
        rf"recorder at slots \d+\.\.\d+ \(seed 0\): StorageError: {path}: source\.\w+ cannot be written at slot \d+: "
        r"no space left on device; what came before is kept",
        problem,
    )
    left = plain(path)
    for port, frames in left.items():
        assert len(frames) > 20
        assert frames == undisturbed[port][: len(frames)]
    with open_recording(path) as recording:
        assert not recording.complete
    (path / "source.truth.log").stat()
    spare = list(path.glob("*.sigmf-meta"))
    assert spare  # those from the beginning: others can read it as it is
    assert len(samples(path, "source.field.field")) == sum(count for _, count, *_ in left["source.field"])


def test_same_tells_messages_apart() -> None:
    one, other = story(1, 9, [front_end()]), story(2, 9, [front_end()])
    assert all(map(same, one, story(1, 9, [front_end()])))
    assert not all(map(same, one, other))
