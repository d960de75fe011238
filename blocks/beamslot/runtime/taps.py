"""Listen to any output port of a running graph: lossy, never in the way of the stream."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

import zmq

from beamslot.errors import FrameError, PeerLost
from beamslot.frame import Describe, Eos, Message, decode
from beamslot.frame.codec import MAX_BYTES
from beamslot.runtime.transport import receive

SILENCE = 5.0
"""A living tap describes its stream every second; after so long without a word the run is gone [s]."""


@contextmanager
def subscribe(endpoints: str | Sequence[str], stream: str, high_water: int = 16) -> Generator[zmq.Socket[bytes]]:
    """Open a subscription to one stream at its tap, or at those of all the processes that share it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    try:
        socket.set(zmq.RCVHWM, high_water)
        socket.set(zmq.MAXMSGSIZE, MAX_BYTES)
        socket.set(zmq.SUBSCRIBE, stream.encode() + b"\0")
        for endpoint in [endpoints] if isinstance(endpoints, str) else endpoints:
            socket.connect(endpoint)
        yield socket
    finally:
        socket.close(linger=0)
        context.term()


def listen(endpoint: str | Sequence[str], stream: str, silence: float = SILENCE) -> Iterator[Message]:
    """Yield what a stream says, its description first, until it ends; bad messages are skipped.

    endpoint: of the port's tap, or several where processes share it    stream: "block.port"
    silence: how long the tap may say nothing [s]
    raises PeerLost when it says nothing for longer
    """
    described = False
    with subscribe(endpoint, stream) as socket:
        heard = time.monotonic()
        while True:
            if not socket.poll(100):
                if time.monotonic() - heard > silence:
                    raise PeerLost(f"{stream}: nothing came from {endpoint} for {silence:g} s; is the run over?")
                continue
            heard = time.monotonic()
            try:
                message = decode(receive(socket))
            except FrameError:
                continue
            described = described or isinstance(message, Describe)
            if described:
                yield message
            if isinstance(message, Eos):
                return
