"""Strangers at every socket of a run: they are counted, and change nothing of what is delivered."""

import contextlib
import os
import random
import re
import resource
import signal
import socket as unix
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import beamslot_hostile as hostile
import numpy as np
import pytest
import zmq
from beamslot_probes import CheckSink, Relay
from beamslot_runs import Run, Runner, assert_balanced, graph, until

from beamslot.frame import Acknowledge, Describe, Frame, Hello, decode, encode
from beamslot.runtime import rundir
from beamslot.runtime.steering import SOCKET
from beamslot.runtime.taps import listen
from beamslot.runtime.transport import Link, Outlet

EDGES = ("src.numbers > relay.numbers", "relay.out > sink.numbers")
GROWTH = 100_000_000
"""What a process may grow by under a siege [bytes]."""

SOAK = [pytest.mark.soak, pytest.mark.timeout(1200)]
SOCKETS = 8
"""How many sockets of strangers there are at an edge at a time, and how often each is another one."""


class Siege:
    """A chain that delivers for as long as strangers are at its sockets."""

    def __init__(self, runs: Runner, tmp_path: Path) -> None:
        self._over = tmp_path / "over"
        blocks = {"src": (hostile.Lasting, {"until": str(self._over)}), "relay": Relay, "sink": CheckSink}
        before = set(_sockets())
        self.run: Run = runs.start(graph(blocks, *EDGES))
        until(lambda: self.run.slots() > 100)
        self.taps: dict[str, str] = {name: taps[0] for name, taps in rundir.runs()[-1]["ports"].items()}
        found = sorted(set(_sockets()) - before)
        self.sockets = [path for path in found if path.name != SOCKET]
        (self.steer,) = set(found) - set(self.sockets)
        self.edges = [path for path in self.sockets if f"ipc://{path}" not in self.taps.values()]
        assert len(self.taps) == len(self.edges) == 2
        self._pids = {name: self.run.block(name) for name in blocks}
        self._before = {name: _resident(pid) for name, pid in self._pids.items()}

    def close(self) -> None:
        """Kill what a test that failed has left."""
        if not self.run.over:
            self.run.signal(signal.SIGKILL)

    def goes_on(self) -> None:
        """Wait until the sink has made progress from now on."""
        now = self.run.slots()
        until(lambda: self.run.status["slots"] > now + 100)

    def refused(self) -> dict[str, int]:
        """How many messages of strangers each block has counted so far."""
        return {name: block["refused"] for name, block in self.run.status["blocks"].items()}

    def descriptors(self) -> list[int]:
        """How many files each process has open."""
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in self._pids.values()]

    def end(self) -> dict[str, Any]:
        """End the run; assert that it was not harmed, and return its report."""
        for name, pid in self._pids.items():
            assert _resident(pid) - self._before[name] < GROWTH, f"{name} has grown"
        self._over.touch()
        report = self.run.report()
        assert (report["problems"], report["exit_code"]) == ([], 0)
        assert_balanced(report)
        slots = report["slots"]
        assert {edge["acknowledged"] for edge in report["edges"]} == {slots}
        assert report["sinks"]["sink"] == {"seen": slots, "bad": 0, "missed": 0}
        return report


@pytest.fixture
def siege(runs: Runner, tmp_path: Path) -> Iterator[Siege]:
    made = Siege(runs, tmp_path)
    yield made
    made.close()


def _sockets() -> list[Path]:
    return [path for path in rundir.base().rglob("*") if path.is_socket()]


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def counted(report: dict[str, Any]) -> dict[str, int]:
    """Return how many messages of strangers each block says to have refused."""
    said = [re.fullmatch(r"(\w+): refused (\d+) messages of strangers", note) for note in report["notes"]]
    return {match[1]: int(match[2]) for match in said if match}


class Strangers:
    """Sockets of those who do not belong to the run; they stay until the end."""

    def __init__(self) -> None:
        self._context: Any = zmq.Context()
        self._made: list[Any] = []

    def __call__(self, kind: int, path: Path, identity: bytes = b"") -> Any:
        """Return a socket that fails when it can send nothing for ten seconds."""
        made = self._context.socket(kind)
        self._made.append(made)
        made.set(zmq.SNDTIMEO, 10_000)
        if identity:
            made.set(zmq.IDENTITY, identity)
        made.connect(f"ipc://{path}")
        return made

    def close(self) -> None:
        """Close all sockets without waiting for what they could not send."""
        for socket in self._made:
            socket.close(linger=0)
        self._context.term()


@pytest.fixture
def stranger() -> Iterator[Strangers]:
    made = Strangers()
    yield made
    made.close()


def flood(stranger: Strangers, path: Path, edge: str, count: int) -> None:
    """Send so many messages to an edge, from sockets of which new ones come and old ones stay."""
    rng = random.Random(edge)
    messages = hostile.messages(20261, edge)
    for _ in range(SOCKETS):
        socket = stranger(zmq.DEALER, path, hostile.identity(rng, edge, 0))
        for _ in range(count // SOCKETS):
            socket.send_multipart(next(messages))


@pytest.mark.parametrize("count", [70_000, pytest.param(700_000, marks=SOAK)])
def test_messages_of_strangers_are_all_counted_and_none_is_obeyed(
    count: int, siege: Siege, stranger: Strangers
) -> None:
    sent = count // 2 // SOCKETS * SOCKETS
    for path, edge in zip(siege.edges, EDGES, strict=True):
        flood(stranger, path, edge, sent)
    until(lambda: siege.refused() == {"src": sent, "relay": sent, "sink": 0}, 30)
    assert counted(siege.end()) == {"src": sent, "relay": sent}


@pytest.mark.parametrize("size", [0, 60_000], ids=["small", "large"])
def test_a_flood_neither_stops_a_run_nor_fills_its_memory(size: int, siege: Siege, stranger: Strangers) -> None:
    flooding = [stranger(zmq.DEALER, path) for path in siege.edges]
    enough, deadline = siege.run.slots() + 5000, time.monotonic() + 10
    while siege.run.slots() < enough:
        assert time.monotonic() < deadline
        for socket in flooding * 1000:
            socket.send_multipart([b"\0", bytes(size)])
    siege.end()


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=SOAK)])
def test_what_strangers_say_to_taps_takes_no_slot_from_a_viewer(count: int, siege: Siege, stranger: Strangers) -> None:
    rng = random.Random(20262)
    viewers = [listen(endpoint, stream) for stream, endpoint in siege.taps.items()]
    assert all(isinstance(next(viewer), Describe) for viewer in viewers)
    taps = [Path(endpoint.removeprefix("ipc://")) for endpoint in siege.taps.values()]
    with contextlib.ExitStack() as opened:
        for path in taps:
            say(opened.enter_context(joined(path, b"SUB")), b"\x00\x02\x00x" * 100)  # nobody has subscribed to x
        hear(viewers, siege)
        for path in taps:
            stranger(zmq.XSUB, path).send(b"\x01" + rng.randbytes(60_000))
            for _ in range(SOCKETS):
                socket = stranger(zmq.XSUB, path)
                for _ in range(count // SOCKETS):
                    socket.send(hostile.subscription(rng))
        hear(viewers, siege)
    siege.end()


def hear(viewers: list[Iterator[Any]], siege: Siege) -> None:
    """Wait until the run goes on and every viewer has seen slots that were made since."""
    siege.goes_on()
    now = siege.run.slots()
    for viewer in viewers:
        while getattr(next(viewer), "first", 0) <= now:
            pass  # it is a little behind


@pytest.mark.parametrize("count", [1_500, pytest.param(30_000, marks=SOAK)])
def test_bytes_that_are_no_message_harm_nobody_and_leave_nothing_open(count: int, siege: Siege) -> None:
    rng = random.Random(20263)
    before = siege.descriptors()
    taps = set(siege.sockets) - set(siege.edges)
    word = hostile.GREETING + hostile.ready(b"DEALER") + bytes([hostile.LONG]) + bytes(7) + b"\xff"
    with contextlib.ExitStack() as silent:
        for path in siege.sockets:
            for said in (b"", hostile.GREETING[:30], hostile.GREETING) * 10:
                silent.enter_context(raw(path, said))
        slow = [raw(path, b"") for path in siege.sockets]
        for number in range(count):
            for path, connection in zip(siege.sockets, slow, strict=True):
                raw(path, hostile.stream(rng)).close()
                say(connection, word[number : number + 1])
                if number % 10 == 0:
                    with joined(path, b"SUB" if path in taps else b"DEALER") as peer:
                        say(peer, hostile.behind(rng))
            with raw(siege.steer, hostile.stream(rng)) as asking:
                say(asking, b"\n" if number % 2 else b"")
        for connection in slow:
            connection.close()
        siege.goes_on()
        until(lambda: siege.descriptors() == before)
    siege.end()


def raw(path: Path, said: bytes) -> unix.socket:
    """Return a connection on which something was said."""
    made = unix.socket(unix.AF_UNIX)
    made.connect(str(path))
    made.settimeout(10)
    say(made, said)
    return made


def joined(path: Path, kind: bytes) -> unix.socket:
    """Return a connection after the handshake of ZMTP."""
    made = raw(path, hostile.GREETING + hostile.ready(kind))
    answer = b""
    while b"Socket-Type" not in answer:
        came = made.recv(4096)
        assert came, "the other side has closed the connection"
        answer += came
    return made


def say(connection: unix.socket, said: bytes) -> None:
    """Say something, be it that the other side has closed the connection already."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(said)


def test_more_connections_than_the_soft_limit_of_files_allows_end_no_block(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        runs = Runner(tmp_path)  # it and its runs inherit the limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with contextlib.closing(runs), contextlib.closing(Siege(runs, tmp_path)) as siege, contextlib.ExitStack() as opened:
        for path in siege.sockets:
            for _ in range(200):
                opened.enter_context(raw(path, b""))
        siege.goes_on()
        siege.end()


def test_a_stranger_with_the_identity_of_a_consumer_cannot_acknowledge(tmp_path: Path, stranger: Strangers) -> None:
    context: Any = zmq.Context()
    outlet = Outlet(context, "src.numbers", [Link(EDGES[0], 10, 1 << 20, 1)], "secret")
    path = tmp_path / "0"
    outlet.bind(f"ipc://{path}", f"ipc://{path}.tap")
    consumer = stranger(zmq.DEALER, path, b"consumer")
    consumer.send_multipart(encode(Hello("secret", EDGES[0], 0, 0, [], 10, 1 << 20)))
    until(lambda: (outlet.service(), outlet.ready)[1])
    outlet.describe(hostile.INFO)
    outlet.emit(Frame(0, 1, {"x": np.zeros((1, 4), np.float32)}))
    thief, other = stranger(zmq.DEALER, path, b"consumer"), stranger(zmq.DEALER, path)
    for number in range(100):
        thief.send_multipart(encode(Acknowledge([(0, 1)], eos=True)))
        thief.send_multipart([b"consumer", *encode(Acknowledge([(0, 1)], eos=True))])
        other.send(b"is the thief heard?")
        until(lambda number=number: (outlet.service(), outlet.refused > number)[1])
    assert outlet.account()[0]["in_flight"] == 1
    assert [type(decode(consumer.recv_multipart())) for _ in range(2)] == [Describe, Frame]
    assert not thief.poll(20)
    outlet.close()
    context.term()
