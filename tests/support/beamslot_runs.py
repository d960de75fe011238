"""Launch graphs from tests: each run in a fresh process, forked by a small server that has loaded what it needs.

A run leaves its newest status and its report as files, so that a test can wait for a condition of a running graph.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beamslot.runtime import Block, observe, rundir
from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph
from beamslot.runtime.launch import launch

Kind = type[Block] | tuple[type[Block], Mapping[str, Any]]


def graph(blocks: Mapping[str, Kind], *edges: str, windows: Mapping[str, int] | None = None, **options: Any) -> Graph:
    """Return a graph; edges are written "block.port > block.port", windows by edge."""
    kinds = {name: kind if isinstance(kind, tuple) else (kind, {}) for name, kind in blocks.items()}
    specs = {name: BlockSpec(name, kind, parameters, f"line {name}") for name, (kind, parameters) in kinds.items()}
    return Graph(
        name="test", blocks=specs, edges=tuple(edge(text, (windows or {}).get(text)) for text in edges), **options
    )


def edge(text: str, window: int | None = None) -> EdgeSpec:
    """Return the edge "block.port > block.port"."""
    (source, source_port), (target, target_port) = (end.strip().split(".") for end in text.split(">"))
    return EdgeSpec(source, source_port, target, target_port, window=window, place=f"line {text}")


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Return the first true value of a condition, asked again and again; fail after so long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"nothing came of it within {seconds:g} s"
        time.sleep(0.005)
    return value


@contextmanager
def elsewhere(place: Path, text: str, *words: str | Path) -> Generator[subprocess.Popen[bytes]]:
    """Run a flowgraph as a user does, in another terminal, with runs and records in a place of their own.

    text: the flowgraph    words: more of the command line
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            (place / name).mkdir(mode=0o700)
            patch.setenv(name, str(place / name))
        (place / "graph.yml").write_text(text)
        command = [sys.executable, "-P", "-m", "beamslot", "run", place / "graph.yml", *words, "--quiet"]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            until(lambda: any(seen.status["slots"] for card in rundir.runs() if (seen := observe.look(card))), 60)
            yield child
        finally:
            child.send_signal(signal.SIGINT)
            child.communicate(timeout=30)


class Run:
    """A run under way: its supervisor's process id (and group), and what it leaves in its directory."""

    def __init__(self, directory: Path, pid: int) -> None:
        self.directory, self.pid = directory, pid

    @property
    def status(self) -> dict[str, Any]:
        """The newest status that the supervisor gave its watcher, empty before the first."""
        return _read(self.directory / "status.json")

    @property
    def over(self) -> bool:
        """Whether the supervisor has ended."""
        return not Path(f"/proc/{self.pid}").exists()

    def slots(self) -> int:
        """How many slots the sources have made, by the newest status."""
        return self.status.get("slots", 0)

    def pids(self) -> list[int]:
        """The processes of the supervisor and its blocks, by what the kernel says."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *(int(pid) for pid in children)]

    def block(self, name: str) -> int:
        """The process of a block: it keeps its log open."""
        for pid in self.pids():
            for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
                if descriptor.is_symlink() and os.readlink(descriptor).endswith(f"/{name}.log"):
                    return pid
        raise LookupError(f"no process writes {name}.log")

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, as a terminal does."""
        os.killpg(self.pid, number)

    def report(self, seconds: float = 30.0) -> dict[str, Any]:
        """Wait for the end of the run and return its report."""
        until(lambda: self.over, seconds)
        report = _read(self.directory / "report.json")
        assert report, (self.directory / "output").read_text()
        return report


class Runner:
    """Starts runs in processes of their own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server = subprocess.Popen(
            [sys.executable, "-c", "import beamslot_runs; beamslot_runs.serve()"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, given: Graph, **options: Any) -> Run:
        """Start a run; options are those of `launch`."""
        directory = Path(tempfile.mkdtemp(dir=self._directory))
        assert self._server.stdin
        assert self._server.stdout
        pickle.dump((directory, given, options), self._server.stdin)
        self._server.stdin.flush()
        return Run(directory, int(self._server.stdout.readline()))

    def __call__(self, given: Graph, seconds: float = 30.0, **options: Any) -> dict[str, Any]:
        """Run a graph to its end and return the report."""
        run = self.start(given, **options)
        try:
            return run.report(seconds)
        except AssertionError:
            print(json.dumps(run.status, indent=1))
            run.signal(signal.SIGKILL)
            raise

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


def serve() -> None:
    """Fork a supervisor for every request on standard input; print its process id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        try:
            directory, given, options = pickle.load(sys.stdin.buffer)  # noqa: S301  (from our own test)
        except EOFError:
            return
        pid = os.fork()
        if pid == 0:
            _supervise(directory, given, options)
        os.setpgid(pid, pid)
        print(pid, flush=True)


def _supervise(directory: Path, given: Graph, options: Mapping[str, Any]) -> None:
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        output = os.open(directory / "output", os.O_WRONLY | os.O_CREAT, 0o600)
        for target, descriptor in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(descriptor, target)
        _write(
            directory / "report.json", launch(given, watch=lambda s: _write(directory / "status.json", s), **options)
        )
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def _write(path: Path, value: Any) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value))
    draft.rename(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}


def edges_of(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the accounts of a report by edge."""
    return {account["edge"]: account for account in report["edges"]}


def assert_balanced(report: Mapping[str, Any], reasons: Sequence[str] = ()) -> None:
    """Assert that every slot offered on every edge was acknowledged, or dropped for one of these reasons."""
    for account in report["edges"]:
        assert account["in_flight"] == 0, account
        assert set(account["dropped"]) <= set(reasons), account
        assert account["offered"] == account["acknowledged"] + sum(account["dropped"].values()), account
