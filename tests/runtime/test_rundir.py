import errno
import os
import subprocess
from pathlib import Path

import pytest

from beamslot.errors import StorageError, TransportError
from beamslot.runtime import rundir


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def card(path: Path, name: str, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid)
        rundir.write_card(path, name, {"a.out": "ipc:///x"})


def test_the_directory_of_runs_is_private() -> None:
    assert rundir.base().stat().st_mode & 0o777 == 0o700
    assert rundir.base() == rundir.base()


def test_a_directory_that_others_may_enter_is_refused() -> None:
    rundir.base().chmod(0o750)
    with pytest.raises(TransportError, match="must be a directory of yours that nobody else may enter"):
        rundir.base()


def test_a_link_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    place = rundir.base()
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(TransportError):
        rundir.base()


def test_without_a_runtime_directory_runs_live_among_the_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    monkeypatch.setattr(rundir.tempfile, "gettempdir", lambda: str(tmp_path))
    assert rundir.base().parent == tmp_path


def test_living_runs_are_listed_oldest_first_and_dead_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, dead = rundir.create(), rundir.create(), rundir.create()
    card(one, "one", os.getpid(), monkeypatch)
    card(dead, "dead", dead_pid(), monkeypatch)
    card(other, "other", os.getppid(), monkeypatch)
    (rundir.create() / "run.json").write_text("not json")
    assert [run["name"] for run in rundir.runs()] == ["one", "other"]
    assert rundir.runs()[0]["ports"] == {"a.out": "ipc:///x"}


def test_what_a_dead_run_left_goes_with_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    living, dead, bare = rundir.create(), rundir.create(), rundir.create()
    card(living, "living", os.getpid(), monkeypatch)
    card(dead, "dead", dead_pid(), monkeypatch)
    new = rundir.create()
    assert set(rundir.base().iterdir()) == {living, bare, new}


def test_only_the_newest_logs_are_kept_and_those_of_living_runs(tmp_path: Path) -> None:
    state = tmp_path / "XDG_STATE_HOME" / "beamslot" / "runs"
    gone = dead_pid()
    for number in range(30):
        (state / f"20200101-0000{number:02}-g-{gone}").mkdir(parents=True)
    living = state / f"20190101-000000-g-{os.getppid()}"
    living.mkdir()
    newest = rundir.logs("graph")
    left = sorted(state.iterdir())
    assert left[0] == living
    assert left[-1] == newest
    assert [path.name[13:15] for path in left[1:-1]] == [f"{number:02}" for number in range(11, 30)]


def test_logs_have_a_place_also_where_the_state_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(rundir.tempfile, "tempdir", str(tmp_path))
    assert rundir.logs("graph").parent == tmp_path


def test_two_records_of_one_process_have_places_of_their_own(tmp_path: Path) -> None:
    one, other = rundir.logs("graph"), rundir.logs("graph")
    assert one.parent == other.parent == rundir.state()
    assert one.name < other.name


def test_without_any_place_for_a_record_the_error_says_where_and_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(file))
    monkeypatch.setattr(rundir.tempfile, "tempdir", str(file))
    with pytest.raises(StorageError, match=f"^{file}: no directory can be made in it: not a directory; .* set TMPDIR$"):
        rundir.logs("graph")


def test_a_file_in_the_place_of_the_directory_of_runs_is_said() -> None:
    place = rundir.base()
    place.rmdir()
    place.write_text("")
    with pytest.raises(StorageError, match=f"^{place}: the directory of runs cannot be made: file exists; set XDG_"):
        rundir.base()


def test_a_directory_of_runs_without_room_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    place = rundir.base()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(rundir.tempfile, "mkdtemp", full)
    with pytest.raises(StorageError, match=f"^{place}: no directory can be made in it: no space left on device; make"):
        rundir.create()
    (place / "r").mkdir()
    (place / "r" / "run.tmp").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"run.json cannot be written: no space left on device"):
        rundir.write_card(place / "r", "graph", {})


def test_a_process_is_known_by_its_number_and_its_birth() -> None:
    assert rundir.born(os.getpid()) == rundir.born(os.getpid())
    assert rundir.born(dead_pid()) is None
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    assert rundir.born(zombie.pid) is None
    zombie.wait()
