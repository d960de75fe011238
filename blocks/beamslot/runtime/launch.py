"""The supervisor: starts a process a block, watches them, stops them, and says how it went.

It has no threads and knows no ZeroMQ, so that it may fork; it speaks with its blocks over socket pairs. A janitor
process ends whatever is left when the supervisor itself is killed.
"""

import contextlib
import ctypes
import gc
import math
import os
import re
import secrets
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beamslot.runtime import report as reports
from beamslot.runtime import rundir
from beamslot.runtime.control import Control
from beamslot.runtime.graph import BlockSpec, Graph, check

TICK = 0.25
KILL_AFTER = 0.7
PR_SET_PDEATHSIG = 1

Watch = Callable[[dict[str, Any]], None]


@dataclass
class Child:
    """One block process, as the supervisor knows it."""

    name: str
    pid: int
    control: Control
    ready: bool = False
    over: bool = False
    status: dict[str, Any] = field(default_factory=dict[str, Any])
    failure: dict[str, Any] = field(default_factory=dict[str, Any])


def launch(
    graph: Graph,
    *,
    watch: Watch | None = None,
    deadline: float = 3.0,
    seconds: float | None = None,
    logs: Path | None = None,
) -> dict[str, Any]:
    """Run a graph to its end and return the report (plain values; `ok`, `exit_code` and `problems` say how it went).

    watch: called about four times a second with the report so far
    deadline: how long a first interrupt may drain before the rest is counted as stopped [s]
    seconds: drain after so long, None for never    logs: where the blocks' output goes
    raises FlowgraphError before anything is started when the graph cannot run
    """
    check(graph)
    return Supervisor(graph, watch or (lambda status: None), deadline, seconds, logs).run()


class Supervisor:
    """One run."""

    def __init__(
        self, graph: Graph, watch: Watch, deadline: float, seconds: float | None = None, logs: Path | None = None
    ) -> None:
        self.graph, self.watch, self.deadline, self.seconds = graph, watch, deadline, seconds
        self.logs = logs or rundir.logs(graph.name)
        self.logs.mkdir(parents=True, exist_ok=True)
        self.children: dict[str, Child] = {}
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.exit_code = 0
        self.state = "starting"
        self._interrupts = self._interrupts_seen = 0
        self._started = self._ended = 0.0
        self._drain_until: float | None = None
        self._progress = reports.Progress()

    def run(self) -> dict[str, Any]:
        """Start, watch, stop; return the report."""
        _open_standard_descriptors()
        with self._signals():
            directory = rundir.create()
            try:
                with Janitor(directory) as janitor:
                    try:
                        self._start(directory, janitor)
                        self._watch()
                    finally:
                        self._stop_all()
            finally:
                shutil.rmtree(directory, ignore_errors=True)
        return self._final()

    @contextlib.contextmanager
    def _signals(self) -> Generator[None]:
        def count(*_: object) -> None:
            self._interrupts += 1

        caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, count) for number in caught}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # start

    def _start(self, directory: Path, janitor: "Janitor") -> None:
        endpoints = _endpoints(self.graph, directory)
        rundir.write_card(directory, self.graph.name, {stream: tap for stream, (_, tap) in endpoints.items()})
        token = secrets.token_hex(16)
        sys.stdout.flush()
        sys.stderr.flush()
        gc.freeze()  # what is loaded stays shared with the children instead of being copied by their collectors
        for name in self.graph.order:
            self._fork(self.graph.blocks[name], endpoints, token, janitor)

    def _fork(self, spec: BlockSpec, endpoints: Mapping[str, tuple[str, str]], token: str, janitor: "Janitor") -> None:
        ours, theirs = Control.pair()
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            _die_with(supervisor)
            _become_block(theirs, self.logs / f"{spec.name}.log", self.graph, spec, (endpoints, token))
        theirs.close()
        janitor.watch(pid)
        self.children[spec.name] = Child(spec.name, pid, ours)

    # watch

    def _watch(self) -> None:
        poll = select.poll()
        by_descriptor = {child.control.fileno(): child for child in self.children.values()}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLIN)
        ticked = 0.0
        while not all(child.over for child in self.children.values()):
            for descriptor, _ in poll.poll(TICK * 1e3):
                child = by_descriptor[descriptor]
                self._listen(child)
                if child.over:
                    poll.unregister(descriptor)
            now = time.monotonic()
            self._advance(now)
            if now - ticked >= TICK:
                ticked = now
                self._tell()
            if self.exit_code or (self._drain_until is not None and now > self._drain_until):
                break

    def _listen(self, child: Child) -> None:
        for message in child.control.receive():
            kind = message.pop("kind")
            if kind == "ready":
                child.ready = True
            elif kind == "failed":
                child.failure = message
                self._fail(child)
            else:
                child.status = message
                child.over = child.over or kind == "ended"
        if child.control.closed and not child.over:
            child.over = True
            if not child.failure:
                self._died(child)

    def _fail(self, child: Child) -> None:
        failure = child.failure
        bad_graph = self.state == "starting" and failure["graph"]
        place, message = self.graph.blocks[child.name].place, failure["message"]
        named = re.search(rf"\b{re.escape(child.name)}\b", message.partition(": ")[0])
        self.problems.append(": ".join(part for part in (place, "" if named else child.name, message) if part))
        if not bad_graph:
            self.problems.append(f"{child.name}: its output is in {self.logs / (child.name + '.log')}")
        self.exit_code = self.exit_code or (2 if bad_graph else 1)

    def _died(self, child: Child) -> None:
        code = os.waitstatus_to_exitcode(_reap(child.pid, KILL_AFTER))
        child.pid = 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        at = child.status.get("working_on")
        where = f" while working on slot {at[0]}" if at else ""
        self.problems.append(
            f"{child.name}: process {how}{where}; its output is in {self.logs / (child.name + '.log')}"
        )
        self.exit_code = self.exit_code or 1

    def _advance(self, now: float) -> None:
        if self.state == "starting" and all(child.ready for child in self.children.values()):
            self.state, self._started = "running", now
            origin = time.monotonic_ns()
            for child in self.children.values():
                child.control.send("go", origin=origin)
        if self._interrupts > self._interrupts_seen:
            self._interrupts_seen = self._interrupts
            self._interrupted(now)
        if self.seconds is not None and self.state == "running" and now - self._started > self.seconds:
            self._drain(now, math.inf)
        if self.state in {"running", "draining"}:
            stalled = self._progress.stalled(self._statuses())
            if stalled:
                self.notes += reports.explain_stall(self._statuses(), stalled)

    def _interrupted(self, now: float) -> None:
        if self._interrupts > 1 or self.state == "starting":
            self.exit_code = self.exit_code or 130
            return
        self.notes.append(f"interrupted: draining for up to {self.deadline:g} s; interrupt again to stop at once")
        self._drain(now, self.deadline)

    def _drain(self, now: float, deadline: float) -> None:
        self.state = "draining"
        self._drain_until = now + deadline
        for child in self.children.values():
            child.control.send("drain")

    def _statuses(self) -> dict[str, dict[str, Any]]:
        return {name: child.status for name, child in self.children.items() if child.status}

    def _so_far(self) -> dict[str, Any]:
        seconds = (self._ended or time.monotonic()) - self._started if self._started else 0.0
        return reports.build(self.graph, self._statuses(), seconds)

    def _tell(self) -> None:
        self.watch({**self._so_far(), "state": self.state, "notes": list(self.notes), "total": self.graph.slots})

    # stop

    def _stop_all(self) -> None:
        """Ask those that are left for their accounts, then end them; return within KILL_AFTER and a little."""
        self._ended = time.monotonic()
        left: list[Child] = [child for child in self.children.values() if not child.over]
        for child in left:
            child.control.send("abort")
        until = time.monotonic() + KILL_AFTER
        while left and time.monotonic() < until:
            select.select([child.control for child in left], [], [], 0.05)
            for child in left:
                for message in child.control.receive():
                    if message.pop("kind") == "ended":
                        child.status = message
            left = [child for child in left if not child.control.closed]
        for child in self.children.values():
            if child.pid:
                _reap(child.pid, 0.0 if child in left else KILL_AFTER)
            child.control.close()

    def _final(self) -> dict[str, Any]:
        report = self._so_far()
        interrupted = self._interrupts > 0
        if interrupted or self.exit_code:
            _count_stopped(report["edges"])
        if not self.exit_code and interrupted:
            self.exit_code = 130
        lost = reports.balance(report["edges"])
        if lost and not self.exit_code:
            self.exit_code = 3
        self.problems += lost
        self.notes += reports.silent(report["edges"]) + reports.oddities(self._statuses())
        return {
            **report,
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "problems": self.problems,
            "notes": self.notes,
            "logs": str(self.logs),
        }


def _count_stopped(edges: list[dict[str, Any]]) -> None:
    for edge in edges:
        if edge["in_flight"]:
            edge["dropped"] = {**edge["dropped"], "stopped": edge["in_flight"]}
            edge["in_flight"] = 0


def _endpoints(graph: Graph, directory: Path) -> dict[str, tuple[str, str]]:
    """The edge and the tap of every output port; short names, since a socket path may have 107 bytes."""
    streams = [f"{name}.{port}" for name, spec in graph.blocks.items() for port in spec.kind.outputs]
    return {
        stream: (f"ipc://{directory}/{number}", f"ipc://{directory}/{number}.tap")
        for number, stream in enumerate(streams)
    }


def _die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent is gone; end at once if it is already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _become_block(
    control: Control, log: Path, graph: Graph, spec: BlockSpec, sockets: tuple[Mapping[str, tuple[str, str]], str]
) -> None:
    """Turn this fork into a block process; never returns."""
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, descriptor in ((0, nothing), (1, output), (2, output)):
            os.dup2(descriptor, target)
        _close_all_but(control.fileno())
        from beamslot.runtime.process import Plan, main  # only here: ZeroMQ must not be loaded before the fork

        code = main(Plan(graph, spec, *sockets), control)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _open_standard_descriptors() -> None:
    """Open what the caller has closed of 0, 1, 2: a pipe that got such a number would be lost to a block's output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _close_all_but(kept: int) -> None:
    for entry in os.listdir("/proc/self/fd"):
        descriptor = int(entry)
        if descriptor > 2 and descriptor != kept:
            try:
                os.close(descriptor)
            except OSError:
                continue


def _reap(pid: int, patience: float) -> int:
    """Wait for a process to end, killing it when patience [s] runs out; return its wait status."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


class Janitor:
    """A process that outlives the supervisor by a moment: it kills the blocks and removes the sockets if that died."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> "Janitor":
        reading, self._writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._clean_up_after(reading)
            finally:
                os._exit(0)
        os.close(reading)
        return self

    def watch(self, pid: int) -> None:
        """Count a process among those to be ended."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writing, f"{pid}\n".encode())

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # it may have been killed itself
            os.write(self._writing, b"over\n")
        os.close(self._writing)
        os.waitpid(self._pid, 0)

    def _clean_up_after(self, reading: int) -> None:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for target in (0, 1, 2):
            os.dup2(nothing, target)
        _close_all_but(reading)
        told = b""
        while data := os.read(reading, 4096):
            told += data
        pids = told.split()
        if b"over" in pids:
            return
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(self._directory, ignore_errors=True)
