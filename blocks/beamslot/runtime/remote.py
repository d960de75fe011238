"""Edges to another run: the relays that stand for it in this one, and their sockets.

To the runtime such an edge is like any other: what is not acknowledged is kept by the producer's side, a consumer that
comes back says hello and gets it, and an end travels like data. Only its socket is bound at a place that both runs
know, is watched for peers that come, go or are refused, and has keys where it leaves the machine.
"""

import time
from collections.abc import Callable
from typing import Any

import zmq
from numpy.typing import NDArray

from beamslot.errors import BindError
from beamslot.runtime.block import Block, In, Out
from beamslot.runtime.keys import check_endpoint, load_allowed, load_keys, load_public
from beamslot.runtime.secure import Event, Gate, Watch, connect, tune
from beamslot.runtime.transport import Inlet, Outlet

REDIAL_EVERY = 0.5
"""A connection that was refused is tried again so often [s]."""

BIND_WITHIN = 3.0
"""The socket of the epoch before may hold the address for a moment [s]."""


class SinkRelay(Block):
    """What a `remote_sink` is to its process: it hands on what comes."""

    stream = In()
    wire = Out()

    def process(self, stream: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Hand on."""
        return dict(stream)


class SourceRelay(Block):
    """What a `remote_source` is to its process: it hands on what comes."""

    wire = In()
    stream = Out()

    def process(self, wire: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Hand on."""
        return dict(wire)


def relay(block: Block) -> Block:
    """Return the block that works in place of one that stands for another run."""
    made = SinkRelay() if block.remote == "bind" else SourceRelay()
    made.join_run(block.run)
    return made


def edge_of(block: Any) -> str:
    """Return the name of the edge, which both runs must write alike."""
    return f"remote {block.channel}".strip()


def token_of(block: Any) -> str:
    """Return what stands for the token of a run; who may connect is decided by keys, or by being on this machine."""
    return f"beamslot {edge_of(block)}"


class Remotes:
    """The sockets to other runs of one process, for one epoch.

    tell: called with sentences for people
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], tell: Callable[[str], None]) -> None:
        self._context, self._tell = context, tell
        self._gate: Gate | None = None
        self._watches: list[tuple[Watch, Inlet | None]] = []
        self._redial_at = 0.0

    def bind(self, block: Any, outlet: Outlet) -> None:
        """Wait for the other run at the block's endpoint.

        raises BadParam, KeyProblem or BindError saying what is wrong with it
        """
        where = f"remote edge {block.run.name}"
        check_endpoint(block.bind, block.key is not None)
        tune(outlet.socket, block.bind)
        if block.key is not None:
            self._gate = self._gate or Gate(self._context)
            self._gate.serve(outlet.socket, load_keys(block.key), load_allowed(block.allow), where)
        self._watches.append((Watch(self._context, outlet.socket, where, block.bind, "bind"), None))
        until = time.monotonic() + BIND_WITHIN
        while True:
            try:
                outlet.bind(block.bind)
                return
            except BindError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def connect(self, block: Any, inlet: Inlet) -> None:
        """Connect to the other run.

        raises BadParam or KeyProblem saying what is wrong
        """
        where = f"remote edge {block.run.name}"
        check_endpoint(block.connect, block.key is not None)
        tune(inlet.socket, block.connect)
        if block.key is not None:
            connect(inlet.socket, load_keys(block.key), load_public(block.server_key), where)
        self._watches.append((Watch(self._context, inlet.socket, where, block.connect, "connect"), inlet))
        inlet.wires[0].endpoint = block.connect
        inlet.socket.connect(block.connect)

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What to poll; `serve` answers."""
        return [*([self._gate.socket] if self._gate else []), *(watch.socket for watch, _ in self._watches)]

    def serve(self) -> None:
        """Let in who may come in, and say hello wherever a connection is there (again)."""
        events: list[Event] = self._gate.poll() if self._gate else []
        for watch, inlet in self._watches:
            news = watch.poll()
            events += news
            if inlet is not None and any(event.kind == "joined" for event in news):
                inlet.greet(inlet.wires[0])
        for event in events:
            if event.kind == "refused":
                self._tell(event.text)
            else:
                print(event.text, flush=True)

    def redial(self) -> None:
        """Try again where a connection was refused, now and then."""
        now = time.monotonic()
        if now < self._redial_at:
            return
        self._redial_at = now + REDIAL_EVERY
        for watch, _ in self._watches:
            if watch.gave_up:
                watch.redial()

    def cut(self) -> None:
        """Break the connections that we made, and make them again."""
        for watch, inlet in self._watches:
            if inlet is not None:
                watch.redial()

    @property
    def refused(self) -> int:
        """How often somebody was refused."""
        return sum(watch.refused for watch, _ in self._watches) + (self._gate.refused if self._gate else 0)

    def close(self) -> None:
        """Watch no more."""
        for watch, _ in self._watches:
            watch.close()
        if self._gate is not None:
            self._gate.close()
