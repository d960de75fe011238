"""The ZeroMQ sockets of GNU Radio's blocks, both ends of each pair, and what becomes of the peer.

| here   | there in GNU Radio          | who asks                                        |
|--------|-----------------------------|-------------------------------------------------|
| sub    | pub_sink, pub_msg_sink      |                                                 |
| pull   | push_sink, push_msg_sink    |                                                 |
| req    | rep_sink, rep_msg_sink      | we do: how many items, 4 bytes, or one byte     |
| pub    | sub_source, sub_msg_source  |                                                 |
| push   | pull_source, pull_msg_source|                                                 |
| rep    | req_source, req_msg_source  | the peer does                                   |

req and rep are a DEALER and a ROUTER that write the empty part themselves: so a request that died with its peer is made
again, and a peer that died does not hold up the next.
"""

import struct
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal

import zmq

from beamslot.errors import BindError
from beamslot.runtime.secure import Event, Watch

Hear = Literal["sub", "pull", "req"]
Speak = Literal["pub", "push", "rep"]

KINDS = {
    "sub": zmq.SUB,
    "pull": zmq.PULL,
    "req": zmq.DEALER,
    "pub": zmq.XPUB,
    "push": zmq.PUSH,
    "rep": zmq.ROUTER,
}

COUNT = struct.Struct("=I")
"""A request of GNU Radio's: how many items it takes, in the machine's order."""

ALL = 2**32 - 1
"""What a request of less than four bytes asks for."""

MOST_BYTES = 256 * 1024 * 1024
"""No message is longer; libzmq parts with a peer that sends one."""

MOST_REQUESTS = 64
"""Requests that are kept for answers to come."""

NO_COPY = 64 * 1024
"""Items from this size on are handed to ZeroMQ without a copy [bytes]."""

HANDSHAKE_WITHIN = 2000
"""Connections that say nothing are closed after this time [ms]."""

LINGER = 1000
"""What is queued is sent for so long after the end [ms], as GNU Radio's own blocks do."""


class LinkEnd:
    """Our end of a link, and what it says of its peers."""

    _line: "_Line"

    @property
    def joined(self) -> int:
        """Peers that are connected."""
        return self._line.joined

    @property
    def refused(self) -> int:
        """Peers that were refused."""
        return self._line.refused

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._line.closed


class Ear(LinkEnd):
    """A socket that hears a GNU Radio sink.

    where: what it is called in messages    request: what a `req` asks with    hwm: messages it queues, -1: as libzmq
    raises BindError where it cannot be bound
    """

    def __init__(
        self,
        kind: Hear,
        endpoint: str,
        *,
        bind: bool,
        where: str,
        key: bytes = b"",
        hwm: int = -1,
        request: bytes = b"",
    ) -> None:
        self.request = request
        self._line = _Line(kind, endpoint, bind, where, hwm, {zmq.SUBSCRIBE: key} if kind == "sub" else {})
        self._waits = False

    def receive(self) -> list[Any] | None:
        """Return the parts of the next message, None when there is none now; no parts for what answers no request."""
        line = self._line
        if self.request and line.joined and not self._waits:
            self._waits = line.send([b"", self.request])
        parts = line.receive()
        if parts is None:
            return None
        if not self.request:
            return parts
        self._waits = line.send([b"", self.request])  # asked for at once: it is made while this is worked on
        return [] if len(parts[0]) else parts[1:]

    def wait(self, patience: int) -> None:
        """Wait for a message, or a peer that comes or goes, for so long [ms]."""
        self._line.poll(patience)

    def news(self) -> list[Event]:
        """Return what became of peers."""
        events = self._line.news()
        if any(event.kind == "left" for event in events):
            self._waits = False
        return events

    def close(self) -> None:
        """Hear no more."""
        self._line.close(0)


class Mouth(LinkEnd):
    """A socket that a GNU Radio source hears.

    key: of a pub; who subscribes to a beginning of it hears it    hwm: messages it queues, -1: as libzmq
    raises BindError where it cannot be bound
    """

    def __init__(self, kind: Speak, endpoint: str, *, bind: bool, where: str, key: bytes = b"", hwm: int = -1) -> None:
        self.kind, self.key = kind, key
        options = {
            "pub": {zmq.XPUB_NODROP: 1},
            "push": {zmq.IMMEDIATE: 1},  # what waits for nobody in particular would be lost with whoever comes
            "rep": {zmq.ROUTER_MANDATORY: 1},
        }
        self._line = _Line(kind, endpoint, bind, where, hwm, options[kind])
        self._flows = False
        self._topics: set[bytes] = set()
        self._requests: deque[tuple[bytes, int]] = deque(maxlen=MOST_REQUESTS)

    def room(self, patience: int) -> int:
        """Return how many items somebody takes now in one message, 0 where nobody does within `patience` [ms]."""
        if self._flows and self.kind == "push":
            return ALL  # sending tells
        self._hear()
        room = self._room()
        if not room and self._line.poll(patience, zmq.POLLIN if self.kind != "push" else zmq.POLLOUT):
            self._hear()
            room = self._room()
        return room

    def _room(self) -> int:
        if self.kind == "rep":
            return self._requests[0][1] if self._requests else 0
        if self.kind == "push":
            return ALL if self._line.events() & zmq.POLLOUT else 0
        return ALL if any(self.key.startswith(topic) for topic in self._topics) else 0

    def send(self, parts: list[Any], patience: int) -> bool:
        """Send a message to whom there was room for; return whether it could be within `patience` [ms]."""
        if self.kind == "rep":
            identity = self._requests.popleft()[0]
            return self._line.send([identity, b"", *parts])
        self._flows = self._line.send(parts)
        if not self._flows and self._line.poll(patience, zmq.POLLOUT):
            self._flows = self._line.send(parts)
        return self._flows

    def _hear(self) -> None:
        """Take requests and subscriptions."""
        while self.kind != "push" and self._line.events() & zmq.POLLIN:
            parts = [bytes(part) for part in self._line.receive() or ()]
            if self.kind == "pub":
                (self._topics.add if parts[0][:1] == b"\x01" else self._topics.discard)(parts[0][1:])
            elif len(parts) == 3 and not parts[1]:
                wanted = COUNT.unpack(parts[2])[0] if len(parts[2]) == COUNT.size else ALL
                self._requests.append((parts[0], wanted or ALL))

    def news(self) -> list[Event]:
        """Return what became of peers."""
        events = self._line.news()
        if events:
            self._flows = False
        if not self._line.joined:
            self._requests.clear()
        return events

    def close(self) -> None:
        """Speak no more; what is queued is sent first."""
        self._line.close(LINGER)


class _Line:
    """A socket, its context, and the watch over its peers."""

    def __init__(self, kind: str, endpoint: str, bind: bool, where: str, hwm: int, options: Mapping[Any, Any]) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(KINDS[kind])
        self._socket.set(zmq.MAXMSGSIZE, MOST_BYTES)
        self._socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_WITHIN)
        if hwm >= 0:
            self._socket.set(zmq.RCVHWM, hwm)
            self._socket.set(zmq.SNDHWM, hwm)
        for option, value in options.items():
            self._socket.set(option, value)
        self._watch = Watch(self._context, self._socket, where, endpoint, "bind" if bind else "connect")
        self.joined = 0
        try:
            (self._socket.bind if bind else self._socket.connect)(endpoint)
        except zmq.ZMQError as error:
            self.close(0)
            raise BindError(f"{where}: cannot {'bind' if bind else 'connect to'} {endpoint}: {error}") from None

    def receive(self) -> list[Any] | None:
        """Return the parts of the next message, None when there is none."""
        if not _readable(self._socket):
            return None
        parts: list[Any] = []
        more = True
        while more:
            part = self._socket.recv(zmq.NOBLOCK, copy=False)
            parts.append(part.buffer)
            more = part.more
        return parts

    def send(self, parts: list[Any]) -> bool:
        """Send a message; return whether somebody took it."""
        try:
            copy = len(parts[-1]) < NO_COPY
            if len(parts) == 1:
                self._socket.send(parts[0], zmq.NOBLOCK, copy)
            else:
                self._socket.send_multipart(parts, zmq.NOBLOCK, copy)
        except (zmq.Again, zmq.ZMQError) as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            return False
        return True

    def poll(self, patience: int, flags: int = zmq.POLLIN) -> int:
        """Wait for the socket to be ready, or a peer to come or go, for so long [ms]."""
        ready = zmq.zmq_poll([(self._socket, flags), (self._watch.socket, zmq.POLLIN)], patience)
        return dict(ready).get(self._socket, 0)

    def events(self) -> int:
        """What the socket is ready for."""
        return int(self._socket.get(zmq.EVENTS))

    def news(self) -> list[Event]:
        """Return what became of peers."""
        if not _readable(self._watch.socket):
            return []
        events = self._watch.poll()
        for event in events:
            self.joined += {"joined": 1, "left": -1}.get(event.kind, 0)
        return events

    @property
    def refused(self) -> int:
        """Peers that were refused."""
        return self._watch.refused

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._socket.closed

    def close(self, linger: int) -> None:
        """Close it; what is queued is sent for up to `linger` [ms]."""
        self._watch.close()
        self._socket.close(linger)
        self._context.term()


_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


def _readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message has come; asking costs less than failing to take one."""
    return bool(int(socket.getsockopt(_EVENTS)) & _POLLIN)  # pyright: ignore[reportArgumentType]
