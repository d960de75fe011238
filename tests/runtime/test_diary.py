"""The record of a run: whole whenever it ends, never in the way of the run, and apart from those before it."""

import json
import os
import platform
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_probes import CheckSink, CountingSource, Relay

from beamslot.errors import StorageError
from beamslot.runtime import diary, rundir
from beamslot.runtime.diary import Diary, RunRecord, load_crash
from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph, Restart

GRAPH = Graph(
    name="lab",
    title="In the lab",
    blocks={
        "source": BlockSpec("source", CountingSource, {"words": 4}, restart=Restart("on_failure", retries=2)),
        "relay": BlockSpec("relay", Relay, {"work": np.float64(0.5)}, process="both", replicas=2, deadline=0.02),
        "sink": BlockSpec("sink", CheckSink),
    },
    edges=(
        EdgeSpec("source", "numbers", "relay", "numbers", window=64),
        EdgeSpec("relay", "out", "sink", "numbers", policy="latest"),
    ),
    slots=100,
    seed=7,
)

FAILURE = {
    "slots": [5, 8],
    "seed": 7,
    "error": "RuntimeError",
    "message": "relay at slots 5..7 (seed 7): RuntimeError: the relay gives up",
    "traceback": "Traceback ...",
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "record"


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def begun(place: Path, notes: list[str]) -> Diary:
    made = Diary(place, notes.append)
    made.begin(GRAPH)
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@contextmanager
def largest_file(nbytes: int) -> Iterator[None]:
    """A file that reaches this size can grow no more, as on a full disk: the last write is cut short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# what is recorded


def test_the_card_tells_what_was_run_where_and_with_what(begun: Diary, place: Path) -> None:
    card = json.loads((place / "run.json").read_text())
    told = {key: card[key] for key in ("name", "title", "seed", "slots", "slot_period", "pace", "burst", "pid")}
    assert told == {
        "name": "lab",
        "title": "In the lab",
        "seed": 7,
        "slots": 100,
        "slot_period": 1e-3,
        "pace": "max",
        "burst": 1,
        "pid": os.getpid(),
    }
    assert card["command"] == sys.argv
    assert card["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert card["machine"]["kernel"] == os.uname().release
    assert card["started"].endswith("+00:00")
    assert card["blocks"]["relay"] == {
        "class": "beamslot_probes:Relay",
        "parameters": {"work": 0.5},
        "process": "both",
        "replicas": 2,
        "restart": vars(Restart()),
        "deadline": 0.02,
    }
    assert card["blocks"]["source"]["restart"]["policy"] == "on_failure"
    assert [(edge["edge"], edge["policy"], edge["window"]) for edge in card["edges"]] == [
        ("source.numbers > relay.numbers", "block", 64),
        ("relay.out > sink.numbers", "latest", GRAPH.windows["relay.out > sink.numbers"]),
    ]


def test_versions_are_told_and_nothing_is_imported_for_them(begun: Diary, place: Path) -> None:
    found = json.loads((place / "run.json").read_text())["versions"]
    assert found["python"] == platform.python_version()
    assert {name: found[name] for name in diary.PACKAGES} == {name: version(name) for name in diary.PACKAGES}
    assert "libzmq" in found["libzmq"]
    code = (
        "import sys; from beamslot.runtime import diary; diary.versions(); print({'zmq', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_timeline_of_parameters_opens_with_all_that_hold_and_goes_on_with_changes(
    begun: Diary, place: Path
) -> None:
    begun.parameter("relay", 40, {"work": float("inf")})
    told = lines(place / "parameters.jsonl")
    assert [(line["slot"], line["block"]) for line in told] == [(0, "source"), (0, "relay"), (0, "sink"), (40, "relay")]
    assert told[1]["values"] == {"hold": 0, "work": 0.5, "fail_at": -1, "hang_at": -1, "die_at": -1}
    assert told[3]["values"] == {"work": "inf"}


def test_events_are_there_at_once_with_their_time(begun: Diary, place: Path) -> None:
    begun.event("started")
    begun.event("restart", block="relay", slots=[5, 8], how={"signal": np.int64(9)})
    first, second = RunRecord(place).events
    assert first["kind"] == "started"
    assert {key: second[key] for key in ("kind", "block", "slots", "how")} == {
        "kind": "restart",
        "block": "relay",
        "slots": [5, 8],
        "how": {"signal": 9},
    }
    assert 0 <= first["at"] <= second["at"]


def test_what_json_cannot_say_is_told_as_text(begun: Diary, place: Path) -> None:
    begun.event("odd", path=Path("/x"), raw=os.fsdecode(b"\xff"), nothing=float("nan"), tags={3}, kind_of=Relay)
    event = RunRecord(place).events[0]
    assert (event["path"], event["nothing"], event["tags"]) == ("/x", "nan", [3])
    assert event["raw"] == os.fsdecode(b"\xff")


def test_accounts_are_written_now_and_then_and_at_the_end_always(
    begun: Diary, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(diary.time, "monotonic", lambda: now)
    begun.accounts({"slots": 1})
    now += 4.9
    begun.accounts({"slots": 2})
    assert RunRecord(place).report == {"slots": 1}
    now += 0.2
    begun.accounts({"slots": 3})
    assert RunRecord(place).report == {"slots": 3}
    begun.accounts({"slots": 4, "exit_code": 0})
    assert RunRecord(place).report == {"slots": 4, "exit_code": 0}


def test_a_crash_is_saved_with_its_frame_and_read_again_as_it_was(
    begun: Diary, place: Path, rng: np.random.Generator
) -> None:
    frame = {
        "field": {"file": rng.standard_normal((3, 4)).astype(np.complex64), "index": np.arange(3)},
        "truth": {"gain": np.zeros((3, 0), np.float32)},
    }
    path = begun.crash("relay", 2, FAILURE, frame)
    assert path == place / "crash-relay-2"
    failure, loaded = load_crash(path)
    assert {key: failure[key] for key in FAILURE} == FAILURE
    assert (failure["block"], failure["epoch"]) == ("relay", 2)
    assert failure["versions"]["numpy"] == np.__version__
    assert {port: set(arrays) for port, arrays in loaded.items()} == {"field": {"file", "index"}, "truth": {"gain"}}
    for port, arrays in frame.items():
        for name, array in arrays.items():
            assert loaded[port][name].dtype == array.dtype
            np.testing.assert_array_equal(loaded[port][name], array)
    with np.load(path / "frame-field.npz") as plain:
        np.testing.assert_array_equal(plain["index"], frame["field"]["index"])


def test_two_crashes_of_one_block_and_epoch_are_both_kept(begun: Diary, place: Path) -> None:
    paths = [begun.crash("relay", 0, FAILURE), begun.crash("relay", 0, FAILURE)]
    assert paths == [place / "crash-relay-0", place / "crash-relay-0-2"]
    assert RunRecord(place).crashes == paths
    assert load_crash(paths[1] or "")[1] == {}


def test_where_no_crash_report_is_the_error_says_what_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"^{tmp_path}: no crash report is there; wanted a directory as"):
        load_crash(tmp_path)


# how a run is


def test_a_run_is_running_until_its_report_has_an_end(begun: Diary, place: Path) -> None:
    begun.accounts({"slots": 1})
    assert RunRecord(place).state == "running"
    begun.accounts({"exit_code": 3})
    assert RunRecord(place).state == "ended 3"


def test_a_run_that_ended_without_a_word_has_died_though_its_number_lives_again(begun: Diary, place: Path) -> None:
    card = json.loads((place / "run.json").read_text())
    (place / "run.json").write_text(json.dumps({**card, "born": card["born"] - 1}))
    assert RunRecord(place).state == "died"


def test_whenever_a_run_is_killed_all_that_it_wrote_can_be_read(place: Path) -> None:
    code = """
import sys
from pathlib import Path
from beamslot.runtime.diary import Diary
diary = Diary(Path(sys.argv[1]), print)
for number in range(10**9):
    diary.event("tick", number=number, text="x" * 3000)
    diary.accounts({"number": number, "exit_code": 0, "text": "x" * 30000})
    if number == 20:
        print("well under way", flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "well under way\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    numbers = [event["number"] for event in lines(place / "events.jsonl")]
    assert numbers == [*range(len(numbers))]
    assert json.loads((place / "report.json").read_text())["number"] in {numbers[-1], numbers[-1] - 1}


# disks


def test_a_full_disk_is_noted_once_a_file_and_leaves_whole_lines_only(
    begun: Diary, place: Path, notes: list[str], rng: np.random.Generator
) -> None:
    begun.accounts({"exit_code": 0, "text": "short"})
    with largest_file(4096):
        for number in range(100):
            begun.event("tick", number=number, text="x" * 100)
            begun.accounts({"exit_code": 0, "text": "x" * 5000})
        crash = begun.crash("relay", 0, FAILURE, {"field": {"field": rng.standard_normal(1000)}})
    assert crash is None
    assert [path.name for path in place.iterdir() if "draft" in path.name] == []
    kept = [event["number"] for event in lines(place / "events.jsonl")]
    assert kept == [*range(len(kept))]
    assert 10 < len(kept) < 100
    assert RunRecord(place).report["text"] == "short"
    assert len(notes) == 3
    assert notes[0].startswith(f"{place / 'report.json'}: cannot be written: file too large; the run goes on")
    assert notes[1].startswith(f"{place / 'events.jsonl'}: cannot be written: ")
    assert notes[2].startswith(f"{place / 'crash-relay'}: cannot be written: file too large")
    begun.event("tick", number="after")
    assert RunRecord(place).events[-1]["number"] == "after"


def test_a_directory_that_goes_while_a_run_lasts_costs_the_record_only(
    begun: Diary, place: Path, notes: list[str]
) -> None:
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    begun.event("tick")
    begun.parameter("relay", 3, {})
    begun.accounts({})
    assert begun.crash("relay", 0, FAILURE) is None
    assert len(notes) == 4
    assert all("no such file or directory" in note for note in notes)


def test_a_directory_that_cannot_be_made_is_noted_and_the_record_lies_elsewhere(
    tmp_path: Path, notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").write_text("")
    made = Diary(tmp_path / "file" / "record", notes.append)
    made.begin(GRAPH)
    assert made.directory.parent == tmp_path
    assert RunRecord(made.directory).name == "lab"
    assert notes == [
        f"{tmp_path}/file/record: cannot be written: not a directory; the record is in {made.directory}",
    ]


def test_a_second_run_replaces_what_the_first_recorded_and_leaves_what_is_not_ours(begun: Diary, place: Path) -> None:
    begun.event("started")
    begun.accounts({"exit_code": 1})
    begun.crash("relay", 0, FAILURE, {"field": {"field": np.zeros(3)}})
    foreign = {"notes.txt": "mine", "crash-test.log": "mine", "other.log": "mine"}
    for name, text in {**foreign, "relay.log": "old", "relay.1.log": "old"}.items():
        (place / name).write_text(text)
    (place / "crash-course").mkdir()
    Diary(place, pytest.fail)
    assert {path.name for path in place.iterdir()} == {*foreign, "crash-course"}


def test_a_directory_where_a_living_run_writes_is_refused(begun: Diary, place: Path) -> None:
    card = json.loads((place / "run.json").read_text())
    parent = os.getppid()
    (place / "run.json").write_text(json.dumps({**card, "pid": parent, "born": rundir.born(parent)}))
    with pytest.raises(
        StorageError, match=rf"^{place}: the run lab \(process {parent}\) is recorded there and goes on"
    ):
        Diary(place, pytest.fail)
    begun.accounts({"exit_code": 0})
    assert Diary(place, pytest.fail).directory == place
