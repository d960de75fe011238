"""The ears of the page: all taps of a run in one thread's hands, heard in bursts where the run is fast."""

import time
from collections.abc import Mapping, Sequence

import zmq

from beamslot.errors import FrameError
from beamslot.frame import Message, decode
from beamslot.frame.codec import MAX_BYTES
from beamslot.runtime.transport import receive

HIGH_WATER = 64
"""Frames that wait for the reader, a port."""

ROUND = 16
"""Messages taken from a port before the next has its turn."""

MOST_FRAMES = 600.0
"""Frames heard in a second, on the mean; a run that makes more is heard in bursts."""

SHORTEST, LONGEST = 0.3, 2.0
"""Bounds of a burst, and of the rest after it [s]."""

LAGS = 3.0
"""A burst lasts so many times as long as estimates come after their truth, or few slots of it could be matched."""


class Ears:
    """Subscriptions to some ports; `rest` and `wake` end and begin them, so that an idle page costs a run nothing.

    ports: by "block.port", the endpoints of its tap
    """

    def __init__(self, ports: Mapping[str, Sequence[str]]) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._ports: dict[zmq.Socket[bytes], str] = {}
        self._awake: set[str] = set()
        for port, endpoints in ports.items():
            socket = self._context.socket(zmq.SUB)
            socket.set(zmq.RCVHWM, HIGH_WATER)
            socket.set(zmq.MAXMSGSIZE, MAX_BYTES)
            for endpoint in endpoints:
                socket.connect(endpoint)
            self._ports[socket] = port
            self._poller.register(socket, zmq.POLLIN)
        self.wake()

    @property
    def awake(self) -> bool:
        """Whether any port is heard."""
        return bool(self._awake)

    def wake(self) -> None:
        """Hear all ports."""
        for socket, port in self._ports.items():
            if port not in self._awake:
                socket.set(zmq.SUBSCRIBE, port.encode() + b"\0")
                self._awake.add(port)

    def rest(self) -> None:
        """Hear none for a while; what is on its way still comes."""
        for socket, port in self._ports.items():
            if port in self._awake:
                socket.set(zmq.UNSUBSCRIBE, port.encode() + b"\0")
        self._awake.clear()

    def drop(self, port: str) -> None:
        """Never hear a port again."""
        for socket in [socket for socket, name in self._ports.items() if name == port]:
            self._poller.unregister(socket)
            socket.close(linger=0)
            del self._ports[socket]
        self._awake.discard(port)

    def hear(self, seconds: float) -> list[tuple[str, Message]]:
        """Return some of what has come, by port; after so long nothing. Bad messages are skipped."""
        heard: list[tuple[str, Message]] = []
        if not self._ports:
            time.sleep(seconds)
            return heard
        for socket, _ in self._poller.poll(max(int(1e3 * seconds), 1)):
            port = self._ports[socket]
            for _ in range(ROUND):
                try:
                    heard.append((port, decode(receive(socket))))
                except zmq.Again:
                    break
                except FrameError:
                    continue
        return heard

    def close(self) -> None:
        """Close all subscriptions."""
        for socket in self._ports:
            socket.close(linger=0)
        self._context.term()


class Bursts:
    """When to rest and when to wake, so that a fast run is heard in part instead of costing a core."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._first: float | None = None
        self._frames = 0
        self._until = 0.0
        self.lag = 0.0
        self.share = 1.0

    def heard(self, frames: int, now: float) -> None:
        """Count frames that came at a time [s]."""
        if frames and self._first is None:
            self._first = now
        self._frames += frames

    def lagged(self, lag: float) -> None:
        """Note how much later than its truth an estimate came [s]; long lags are forgotten slowly."""
        self.lag = max(lag, 0.995 * self.lag)

    def rests(self, now: float) -> bool:
        """Whether nothing should be heard at a time [s]."""
        if now < self._until:
            return True
        if self._until:
            self._until, self._first, self._frames = 0.0, None, 0
        if self._first is None:
            return False
        length = now - self._first
        wanted = min(max(LAGS * self.lag, SHORTEST), LONGEST)
        if length < wanted:
            return False
        rate = self._frames / length
        rest = min(length * max(rate / MOST_FRAMES - 1, 0.0), LONGEST)
        self.share = length / (length + rest)
        self._first, self._frames = None, 0
        if rest < SHORTEST / 2:
            return False
        self._until = now + rest
        return True
