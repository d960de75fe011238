"""What every test gets: one thread, a seeded generator, a state of its own, and no process left behind."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is loaded

import resource
import shutil
import signal
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell lets what it starts in the background ignore interrupts, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

GRACE = 3.0
"""How long a process may take to vanish after the test that started it [s]."""


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the name of the test: the same in every run, another one in every test."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session", autouse=True)
def private_state() -> Iterator[Path]:
    """Keep logs and sockets of the session apart; the path is short, since a socket's may have 107 bytes."""
    root = Path(tempfile.mkdtemp(prefix="bs-", dir="/tmp" if os.access("/tmp", os.W_OK) else None))  # noqa: S108
    with pytest.MonkeyPatch.context() as patch:
        for name, directory in (("XDG_STATE_HOME", root / "s"), ("XDG_RUNTIME_DIR", root / "r")):
            directory.mkdir(mode=0o700)
            patch.setenv(name, str(directory))
        yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_left_running(private_state: Path) -> Iterator[None]:
    """Fail a test that leaves a process behind, of ours or of one that we started, and end it."""
    before = _spawned(private_state) if _children() else set[int]()
    reaped = _reaped()
    yield
    if _reaped() == reaped and not _children():
        return
    until = time.monotonic() + GRACE
    while (left := _spawned(private_state) - before) and time.monotonic() < until:
        time.sleep(0.01)
    told = [f"{pid} ({_command(pid)})" for pid in sorted(left)]
    for pid in left:
        _kill(pid)
    assert not left, f"processes are left behind: {', '.join(told)}"


def _reaped() -> float:
    """Grows whenever a child of ours has ended; so a test that starts nothing costs next to nothing."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _children() -> set[int]:
    return {int(pid) for tasks in Path("/proc/self/task").glob("*/children") for pid in tasks.read_text().split()}


def _spawned(state: Path) -> set[int]:
    """Our children, and all that inherited the session's state directory in its environment; without the dead."""
    mark = os.fsencode(f"XDG_STATE_HOME={state}/")
    found = set(_children())
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                marked = mark in (entry / "environ").read_bytes()
            except OSError:
                continue
            if marked:
                found.add(int(entry.name))
    return {pid for pid in found if _alive(pid)}


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    except OSError:
        return "gone"


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
