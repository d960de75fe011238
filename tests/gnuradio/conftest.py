"""Sockets and processes that end with the test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from beamslot_gnuradio import Hearing, Peer, Server
from beamslot_runs import Runner

from beamslot.sources.gnuradio_source import GnuradioSource


@pytest.fixture
def endpoint(private_state: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A place for one link, with a short name."""
    path = private_state / f"{abs(hash(request.node.nodeid)):x}"[:60]
    yield f"ipc://{path}"
    path.unlink(missing_ok=True)


@pytest.fixture
def raw() -> Iterator[Any]:
    """Make plain ZeroMQ sockets: `raw(zmq.PUSH, bind=endpoint)`."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[zmq.Socket[bytes]] = []

    def make(kind: int, *, bind: str = "", connect: str = "", **options: Any) -> zmq.Socket[bytes]:
        socket = context.socket(kind)
        made.append(socket)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.RCVTIMEO, 10_000)
        socket.set(zmq.SNDTIMEO, 10_000)
        for name, value in options.items():
            socket.set(getattr(zmq, name), value)
        socket.bind(bind) if bind else socket.connect(connect)
        return socket

    yield make
    for socket in made:
        socket.close(0)
    context.term()


@pytest.fixture
def hearing() -> Iterator[Any]:
    """Make sources at work: `hearing(connect=endpoint, axes=...)`."""
    made: list[Hearing] = []

    def make(slot_period: float = 1e-3, begin: int = 0, **parameters: Any) -> Hearing:
        made.append(Hearing(GnuradioSource(**parameters), slot_period, begin))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session")
def server(private_state: Path) -> Iterator[Server]:
    """GNU Radio, loaded; skips where there is none."""
    made = Server(private_state / "gnuradio")
    yield made
    made.close()


@pytest.fixture
def peer(server: Server) -> Iterator[Any]:
    """Start a flowgraph of GNU Radio: `peer("loop", "--from", ...)`."""
    made: list[Peer] = []

    def make(*arguments: object) -> Peer:
        made.append(Peer(server, *arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Start graphs in processes of their own."""
    runner = Runner(tmp_path_factory.mktemp("runs"))
    yield runner
    runner.close()
