"""The two ends of an edge: an Outlet offers the frames of one output port, an Inlet takes those of one edge.

Lossless and bounded: the consumer grants an absolute credit, the producer keeps what is not acknowledged, both know
slots as ranges. Producer ROUTER, consumer DEALER; every outlet also has a tap (XPUB) that costs nothing unheard.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import zmq
import zmq.backend

from beamslot.errors import BindError, FrameError
from beamslot.frame import (
    Acknowledge,
    Credit,
    Describe,
    Done,
    Eos,
    Frame,
    Gap,
    Heartbeat,
    Hello,
    Message,
    StreamInfo,
    decode,
    encode,
)
from beamslot.frame.codec import MAX_BYTES, MAX_HEADER
from beamslot.runtime.align import Item
from beamslot.runtime.slots import SlotSet

NO_COPY = 64 * 1024
"""Buffers from this size on are handed to ZeroMQ without a copy; below it, bookkeeping costs more than copying."""

NO_COPY_BACK = 8 * 1024
"""Those that come are used where they lie from this size on: nobody keeps books of them."""

TAP_BYTES = 16 * 1024 * 1024
"""What a tap may queue for a slow listener before it drops."""

DESCRIBE_EVERY = 1_000_000_000
"""A tap repeats its description so often, for listeners that joined unseen [ns]."""

ACK_WITHIN = 2_000_000
"""What is finished is acknowledged within this time at the latest [ns]."""

ACK_APART = 1_000_000
"""Acknowledgements of an idle consumer are so far apart while its producer has room left [ns]."""

# Plain numbers: the arithmetic of zmq's enums costs a microsecond. And the send below the one of zmq.Socket, which adds
# what draft sockets need. A frame is sent in four calls, so both show in the rate of an edge.
_MORE, _NOW = int(zmq.SNDMORE), int(zmq.NOBLOCK)
_send = zmq.backend.Socket.send


def fitting(slots: int, nbytes: int, least: int, bytes_per_slot: int) -> int:
    """Return how many slots may be unacknowledged under a limit in slots and one in bytes, never below `least`."""
    return min(slots, max(least, nbytes // max(1, bytes_per_slot)))


def send(socket: zmq.Socket[bytes], parts: Sequence[Any]) -> None:
    """Send a message; large buffers without a copy."""
    left = len(parts)
    for part in parts:
        left -= 1
        if type(part) is bytes or part.nbytes < NO_COPY:
            _send(socket, part, _MORE if left else 0)
        else:
            _send(socket, part, _MORE if left else 0, copy=False)


def receive(socket: zmq.Socket[bytes]) -> list[Any]:
    """Return the parts of the next message without blocking: bytes, and large ones as views of ZeroMQ's memory.

    raises zmq.Again when there is none
    """
    parts: list[Any] = []
    more = True
    while more:
        part = socket.recv(_NOW, False)  # such a part knows whether more follow; to ask the socket is slow
        parts.append(part.bytes if len(part) < NO_COPY_BACK else part.buffer)
        more = part.more
    return parts


@dataclass
class Link:
    """One consumer of an outlet, as the producer knows it."""

    edge: str
    slots: int
    nbytes: int
    least: int
    limit: int = 1
    identity: bytes | None = None
    offered: int = 0
    acknowledged: SlotSet = field(default_factory=SlotSet)
    acked: int = 0
    eos_acked: bool = False
    done: bool = False
    redelivered: int = 0
    gaps: deque[tuple[int, int, str]] = field(default_factory=deque[tuple[int, int, str]])
    dropped: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def in_flight(self) -> int:
        """Slots offered, wanted, and not acknowledged."""
        return 0 if self.done else self.offered - self.acked

    def offer_gap(self, first: int, end: int, reason: str) -> None:
        """Remember a gap until it is acknowledged."""
        if self.gaps and self.gaps[-1][1:] == (first, reason):
            first = self.gaps.pop()[0]
        self.gaps.append((first, end, reason))

    def acknowledge(self, finished: Iterable[Sequence[int]], eos: bool = False) -> None:
        """Take what the consumer has finished; saying it again changes nothing."""
        for first, end in finished:
            self.acknowledged.add(first, end)
        self.acked = len(self.acknowledged)
        self.eos_acked = self.eos_acked or eos
        while self.gaps and self.acknowledged.covers(*self.gaps[0][:2]):
            first, end, reason = self.gaps.popleft()
            self.dropped[reason] = self.dropped.get(reason, 0) + end - first

    def account(self) -> dict[str, Any]:
        """Return the account of the edge, in slots: offered = acknowledged + dropped + in flight."""
        dropped = dict(self.dropped)
        for first, end, reason in self.gaps:
            acked = (end - first) - self.acknowledged.minus(first, end)
            if acked:
                dropped[reason] = dropped.get(reason, 0) + acked
        gone = sum(dropped.values())
        if self.done and self.offered > self.acked:
            dropped["done"] = self.offered - self.acked
        return {
            "edge": self.edge,
            "policy": "block",
            "offered": self.offered,
            "acknowledged": self.acked - gone,
            "dropped": dropped,
            "in_flight": self.in_flight,
            "redelivered": self.redelivered,
        }


@dataclass(slots=True)
class Entry:
    """What an outlet keeps until every consumer has finished it."""

    first: int
    end: int
    parts: Sequence[Any]
    describes: bool = False


class Outlet:
    """The producer's end: one output port, all its edges, and its tap.

    stream: "block.port"    links: one a consumer    token: only consumers that know it are served
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], stream: str, links: Sequence[Link], token: str) -> None:
        self.stream, self.links, self.token = stream, list(links), token
        self.topic = stream.encode() + b"\0"
        self.refused = 0
        self.next_slot: int | None = None
        self.ended: Eos | None = None
        self._ring: deque[Entry] = deque()
        self._describe: list[Any] = []
        self._base_describe: list[Any] = []
        self._by_identity: dict[bytes, Link] = {}
        self._per_slot = 1
        self._seq = 0
        self._listeners = 0
        self._described_at = 0
        self.socket = context.socket(zmq.ROUTER)
        self.socket.set(zmq.ROUTER_MANDATORY, 1)
        self.socket.set(zmq.SNDHWM, 0)
        self.socket.set(zmq.RCVHWM, 0)
        self.socket.set(zmq.MAXMSGSIZE, MAX_HEADER)
        self.tap = context.socket(zmq.XPUB)
        self.tap.set(zmq.XPUB_VERBOSER, 1)
        self.tap.set(zmq.MAXMSGSIZE, MAX_HEADER)
        for socket in (self.socket, self.tap):
            socket.set(zmq.LINGER, 1000)

    def bind(self, endpoint: str, tap_endpoint: str) -> None:
        """Bind the edge and the tap.

        raises BindError naming the stream and the endpoint
        """
        for socket, address in ((self.socket, endpoint), (self.tap, tap_endpoint)):
            try:
                socket.bind(address)
            except zmq.ZMQError as error:
                raise BindError(f"{self.stream}: cannot bind {address}: {error}") from None

    def close(self) -> None:
        """Close both sockets; what is queued is sent for up to a second, to a listener for a tenth of it."""
        self.socket.close()
        self.tap.close(linger=100)

    @property
    def ready(self) -> bool:
        """Whether every consumer has said hello."""
        return all(link.identity is not None for link in self.links)

    def room(self, count: int) -> bool:
        """Return whether so many more slots may be offered to every consumer."""
        for link in self.links:
            ahead = link.offered - link.acked
            if ahead and not link.done and ahead + count > link.limit:
                return False
        return True

    @property
    def unwanted(self) -> bool:
        """Whether every consumer has said that it wants no more."""
        return bool(self.links) and all(link.done for link in self.links)

    @property
    def flushed(self) -> bool:
        """Whether every consumer has acknowledged the end, be it that it wanted no more before."""
        return self.ended is not None and all(link.eos_acked for link in self.links)

    def describe(self, info: StreamInfo) -> None:
        """Describe the stream to every consumer, now and when they join."""
        self._describe = encode(Describe(self.stream, info), self.topic)
        self._per_slot = max(1, info.bytes_per_slot)
        self.tap.set(zmq.SNDHWM, max(2, min(1000, TAP_BYTES // self._per_slot)))
        for link in self.links:
            self._grant(link, link.slots, link.nbytes)
        self._put(Entry(0, 0, self._describe, describes=True))

    def emit(self, item: Frame | Gap | Eos) -> None:
        """Offer a frame, a gap or the end to every consumer, and to whoever listens at the tap."""
        if isinstance(item, Eos):
            self.ended = item
            self._put(Entry(item.first, item.first, encode(item, self.topic)))
            return
        self._seq += 1
        item.seq = self._seq
        first, count = item.first, item.count
        reason = None
        if type(item) is Frame:
            item.sent = time.monotonic_ns()
        elif isinstance(item, Gap):
            reason = item.reason
        self.next_slot = first + count
        for link in self.links:
            if not link.done:
                link.offered += count
                if reason is not None:
                    link.offer_gap(first, first + count, reason)
        if self.links or self._listeners:
            self._put(Entry(first, first + count, encode(item, self.topic)))

    def _put(self, entry: Entry) -> None:
        if self.links:
            self._ring.append(entry)
            for link in self.links:
                if link.identity is not None and not link.done:
                    self._send(link, entry.parts)
        if self._listeners:
            send(self.tap, entry.parts)

    def _grant(self, link: Link, slots: int, nbytes: int) -> None:
        link.slots, link.nbytes = slots, nbytes
        link.limit = fitting(slots, nbytes, link.least, self._per_slot)

    def _send(self, link: Link, parts: Sequence[Any]) -> None:
        try:
            _send(self.socket, link.identity or b"", _MORE)
            send(self.socket, parts)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            link.identity = None  # gone; it says hello when it is back, and gets what it has not finished

    def service(self) -> bool:
        """Take what consumers say; return whether an acknowledgement came."""
        moved = False
        while True:
            try:
                parts = receive(self.socket)
            except zmq.Again:
                break
            try:
                moved = self._take(parts[0], decode(parts[1:])) or moved
            except FrameError:
                self.refused += 1
        if moved:
            self._forget()
        return moved

    def _take(self, identity: bytes, message: Message) -> bool:
        if isinstance(message, Hello):
            return self._welcome(identity, message)
        link = self._by_identity.get(identity)
        if link is None or _last(message) > (self.next_slot or 0):
            self.refused += 1
            return False
        if isinstance(message, Acknowledge | Heartbeat):
            link.acknowledge(message.finished, message.eos)
            return True
        if isinstance(message, Credit):
            self._grant(link, message.slots, message.nbytes)
            return True
        if isinstance(message, Done):
            link.acknowledge(message.finished)
            link.done = True
            return True
        self.refused += 1
        return False

    def _welcome(self, identity: bytes, hello: Hello) -> bool:
        link = next((link for link in self.links if link.edge == hello.edge), None)
        if link is None or not secrets.compare_digest(hello.token.encode(), self.token.encode()):
            self.refused += 1
            return False
        self._by_identity = {known: other for known, other in self._by_identity.items() if other is not link}
        self._by_identity[identity] = link
        link.identity = identity
        link.acknowledge(hello.finished)
        self._grant(link, hello.slots, hello.nbytes)
        if self._base_describe:
            self._send(link, self._base_describe)
        for entry in self._ring:
            if entry.first == entry.end or not link.acknowledged.covers(entry.first, entry.end):
                self._send(link, entry.parts)
        return True

    def _forget(self) -> None:
        """Drop entries from the left that every consumer has finished."""
        ring, finished = self._ring, self.finished()
        while ring:
            entry = ring[0]
            if entry.describes:
                self._base_describe = list(entry.parts)
            elif entry.first == entry.end:
                break  # the end stays, for a consumer that comes back
            elif finished is not None and not finished.covers(entry.first, entry.end):
                break
            ring.popleft()

    def finished(self) -> SlotSet | None:
        """Return the slots that every consumer has finished; None when there is no consumer to ask."""
        wanting = [link for link in self.links if not link.done]
        if not wanting:
            return None
        both = wanting[0].acknowledged
        for link in wanting[1:]:
            both = both & link.acknowledged
        return both

    def serve_tap(self, now: int) -> None:
        """Take subscriptions; describe the stream to new listeners and once a second."""
        news = False
        while self.tap.get(zmq.EVENTS) & zmq.POLLIN:  # type: ignore[operator]
            message = self.tap.recv()
            if message[:1] == b"\x01":
                self._listeners, news = self._listeners + 1, True
            elif message[:1] == b"\x00":
                self._listeners = max(0, self._listeners - 1)
        if self._listeners and self._describe and (news or now - self._described_at > DESCRIBE_EVERY):
            self._described_at = now
            send(self.tap, self._describe)
            if self.ended is not None:
                send(self.tap, encode(self.ended, self.topic))

    def account(self) -> list[dict[str, Any]]:
        """Return the account of every edge."""
        return [link.account() for link in self.links]


def _last(message: Message) -> int:
    """The slot after the last that a consumer says to have finished."""
    finished = message.finished if isinstance(message, Acknowledge | Heartbeat | Done) else ()
    return finished[-1][1] if finished else 0


class Inlet:
    """The consumer's end of one edge.

    edge: "block.port > block.port"    slots, nbytes: the credit that it grants
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        edge: str,
        token: str,
        *,
        slots: int,
        nbytes: int,
        epoch: int = 0,
        on_error: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.edge, self.token, self.slots, self.nbytes, self.epoch = edge, token, slots, nbytes, epoch
        self.errors: dict[str, int] = {}
        self.finished = SlotSet()
        self.next_slot: int | None = None
        self.ended = False
        self._on_error = on_error
        self._eos_finished: bool = False
        self._came = self._known = self._owed = 0
        self._owed_since = self._told_at = 0
        self._window = slots
        self.socket = context.socket(zmq.DEALER)
        self.socket.set(zmq.IDENTITY, f"{edge}#{epoch}#{secrets.token_hex(4)}".encode()[-250:])
        self.socket.set(zmq.RCVHWM, 0)
        self.socket.set(zmq.SNDHWM, 0)
        self.socket.set(zmq.MAXMSGSIZE, MAX_BYTES)
        self.socket.set(zmq.LINGER, 1000)

    def connect(self, endpoint: str) -> None:
        """Connect and introduce ourselves."""
        self.socket.connect(endpoint)
        self._say(Hello(self.token, self.edge, 0, self.epoch, list(self.finished), self.slots, self.nbytes))

    def close(self) -> None:
        """Close the socket; what is queued is sent for up to a second."""
        self.socket.close()

    def _say(self, message: Message) -> None:
        send(self.socket, encode(message))

    def receive(self, most: int = 64) -> list[Item]:
        """Return up to `most` items in slot order, each once; a bad message is counted, and its slots are missing."""
        items: list[Item] = []
        for turn in range(most):
            if turn == 1 and not self.socket.get(zmq.EVENTS) & zmq.POLLIN:  # type: ignore[operator]
                break  # a frame mostly comes alone; to be told so costs less than to try
            try:
                parts = receive(self.socket)
            except zmq.Again:
                break
            try:
                message = decode(parts)
            except FrameError as error:
                self._count(error)
                continue
            if type(message) is Frame or isinstance(message, Gap):
                self._order(message, items)
            elif isinstance(message, Describe):
                self._window = fitting(self.slots, self.nbytes, 1, message.info.bytes_per_slot)
                items.append(message)
            elif isinstance(message, Eos) and not self.ended:
                self.ended = True
                items.append(message)
        return items

    def _order(self, item: Frame | Gap, items: list[Item]) -> None:
        expected = item.first if self.next_slot is None else self.next_slot
        if item.first < expected:
            self._owed = max(1, self._owed)  # a duplicate: acknowledge again, at once
            return
        self.next_slot = item.first + item.count
        self._came += self.next_slot - expected
        items.append(item)

    def _count(self, error: FrameError) -> None:
        kind = type(error).__name__
        self.errors[kind] = self.errors.get(kind, 0) + 1
        if self.errors[kind] == 1:
            self._on_error(f"{self.edge}: {kind}: {error}")

    def finish(self, finished: SlotSet, eos: bool = False) -> None:
        """Note what is finished; `flush` tells the producer."""
        known = len(finished)
        owed = known - self._known
        if owed <= 0 and eos == self._eos_finished:
            return
        if not self._owed:
            self._owed_since = time.monotonic_ns()
        self._owed += max(owed, 1)
        self.finished, self._known, self._eos_finished = finished, known, eos

    @property
    def owes(self) -> bool:
        """Whether something is finished that the producer has not been told."""
        return self._owed > 0

    def flush(self, idle: bool) -> None:
        """Acknowledge when a quarter window is owed, when the end is, after 2 ms, or when the queue ran empty.

        An idle consumer of a fast stream would acknowledge every frame, at the cost of the producer; so it lets a
        moment pass between acknowledgements while the producer has half its window left and does not wait for them.
        """
        if not self._owed:
            return
        now = time.monotonic_ns()
        due = self._owed * 4 >= self._window or self._eos_finished or now - self._owed_since > ACK_WITHIN
        if not due and idle:
            open_ = self._came - self._known + self._owed
            due = open_ * 2 >= self._window or now - self._told_at > ACK_APART
        if due:
            self._owed, self._told_at = 0, now
            self._say(Acknowledge(list(self.finished), self._eos_finished))

    def heartbeat(self) -> None:
        """Tell the producer that we live, and repeat our acknowledgement."""
        self._say(Heartbeat(list(self.finished), self._eos_finished))

    def done(self) -> None:
        """Tell the producer that we want no more."""
        self._say(Done(list(self.finished)))
