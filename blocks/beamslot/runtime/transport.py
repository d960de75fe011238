"""The two ends of an edge: an Outlet offers the frames of one output port, an Inlet takes those of one edge.

Lossless and bounded: the consumer grants an absolute credit, the producer keeps what is not acknowledged, both know
slots as ranges. Producer ROUTER, consumer DEALER; every outlet also has a tap (XPUB) that costs nothing unheard.
"""

import secrets
import time
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import zmq
import zmq.backend

from beamslot.errors import BindError, CorruptFrame, FrameError
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
from beamslot.runtime.align import Item, cut
from beamslot.runtime.fault import AGAIN, CHECKED, FRESH, HEARD, BadLink, checksum
from beamslot.runtime.graph import LinkFault
from beamslot.runtime.place import END
from beamslot.runtime.slots import SlotSet

NO_COPY = 64 * 1024
"""Buffers from this size on are handed to ZeroMQ without a copy; below it, bookkeeping costs more than copying."""

NO_COPY_BACK = 8 * 1024
"""Those that come are used where they lie from this size on: nobody keeps books of them."""

TAP_BYTES = 16 * 1024 * 1024
"""What a tap may queue for a slow listener before it drops."""

MOST_MESSAGES = 64
"""Messages that are taken from a socket before other work has its turn."""

MOST_PENDING = 1000
"""Entries of a lossy queue above which gaps are joined, whatever their reasons."""

MOST_SUBSCRIPTIONS = 4096
"""Those that are taken from a tap in one go."""

MAX_SUBSCRIPTION = 512
"""A tap takes no longer message: a topic costs libzmq some fifty times its length."""

HANDSHAKE_WITHIN = 2000
"""Connections that say nothing are closed after this time, so that strangers cannot use up the files [ms]."""

DESCRIBE_EVERY = 1_000_000_000
"""A tap repeats its description so often, for listeners that joined unseen [ns]."""

ACK_WITHIN = 2_000_000
"""What is finished is acknowledged within this time at the latest [ns]."""

HELD_AT_MOST = 3
"""Messages behind a missing one, of a link that is not sound, from which on it is asked for again."""

MISSED_WITHIN = 20_000_000
"""So long something may be missing before it is asked for again [ns]."""

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


@dataclass(slots=True)
class Entry:
    """A message as it is sent, and the slots that it is about; of a description or an end, none.

    parts: None where a drop turned a frame into a gap, which is encoded when it is sent
    """

    first: int
    end: int
    parts: Sequence[Any] | None
    reason: str = ""
    describes: bool = False

    @property
    def is_data(self) -> bool:
        """Whether these are slots that need room at the consumer."""
        return self.end > self.first and not self.reason


@dataclass(slots=True)
class Peer:
    """One consumer process of a link.

    identity: of its connection, None where there is none    greeted: whether it has ever said hello
    credit, sent: slots since its hello that it may have, and that it has got
    acked, eos_acked: the slot before which it has noted that all is finished, and whether it has finished the end
    """

    identity: bytes | None = None
    greeted: bool = False
    credit: int = 1
    sent: int = 0
    acked: int = 0
    eos_acked: bool = False


@dataclass
class Link:
    """One edge of an outlet, as the producer knows it: lossless and direct, shared by replicas, or lossy.

    edge: "source.port > block.port"    slots, nbytes: the window    least: slots below which it never falls
    policy: what happens when the window is full    replicas: consumer processes that share the slots
    begin: slots before it are finished; END where the consumer has ended already
    over: whether the consumer is gone for good    offered: slots offered so far
    remote: whether the consumer is of another run, which may come later
    """

    edge: str
    slots: int
    nbytes: int
    least: int
    policy: str = "block"
    replicas: int = 1
    begin: int = 0
    over: bool = False
    offered: int = 0
    remote: bool = False
    limit: int = 1
    open: int = 0
    part: int = 0
    told: tuple[int, int] = (0, 0)
    acknowledged: SlotSet = field(default_factory=SlotSet)
    eos_acked: bool = False
    done: bool = False
    redelivered: int = 0

    def __post_init__(self) -> None:
        self.peers = [Peer() for _ in range(self.replicas)]
        self.flying: deque[tuple[Entry, Peer | None]] = deque()
        self.pending: deque[Entry] = deque()
        self.described: Entry | None = None
        self.lossless = self.policy == "block"
        self.queued = not self.lossless or self.replicas > 1
        self.waiting = 0
        if self.over:
            self.done = self.eos_acked = True
        if self.begin and not self.over:
            self.acknowledged.add(0, self.begin)

    @property
    def identity(self) -> bytes | None:
        """Of the only consumer process, None before its hello."""
        return self.peers[0].identity

    @property
    def ready(self) -> bool:
        """Whether every consumer process that needs slots has said hello; it may have gone again since."""
        return self.over or self.remote or self.begin >= END or all(peer.greeted for peer in self.peers)

    @property
    def unwanted(self) -> bool:
        """Whether no more slots are wanted."""
        return self.done or self.begin >= END

    @property
    def in_flight(self) -> int:
        """Slots offered, wanted, and not acknowledged."""
        return 0 if self.done else self.open - self.part

    def hear(self, peer: Peer, finished: Sequence[Sequence[int]], eos: bool = False) -> None:
        """Take what one consumer process says: of those that share the edge, what all have noted is finished."""
        if len(self.peers) == 1:
            self.acknowledge(finished, eos)
            return
        peer.acked = max(peer.acked, finished[0][1] if finished and not finished[0][0] else 0)
        peer.eos_acked = peer.eos_acked or eos
        done = min(other.acked for other in self.peers)
        self.acknowledge([(0, done)] if done else [], all(other.eos_acked for other in self.peers))

    def acknowledge(self, finished: Iterable[Sequence[int]], eos: bool = False) -> None:
        """Take what the consumer has finished; saying it again changes nothing."""
        acknowledged = self.acknowledged
        for first, end in finished:
            acknowledged.add(first, end)
        self.eos_acked = self.eos_acked or eos
        flying = self.flying
        upto = acknowledged.prefix(flying[0][0].first) if flying else 0
        while flying and ((entry := flying[0][0]).end <= upto or acknowledged.covers(entry.first, entry.end)):
            if entry.first == entry.end and not entry.describes:
                break  # the end stays, for a consumer that comes back
            flying.popleft()
            self.open -= entry.end - entry.first
            if entry.describes:
                self.described = entry
        self.part = 0
        if flying:  # an entry of which a part is acknowledged
            entry = flying[0][0]
            self.part = min(acknowledged.prefix(entry.first), entry.end) - entry.first

    def account(self) -> dict[str, Any]:
        """Return the producer's half of the account, in slots; what became of them, the consumer knows."""
        return {
            "edge": self.edge,
            "policy": self.policy,
            "offered": self.offered,
            "in_flight": self.in_flight,
            "done": self.unwanted,
            "redelivered": self.redelivered,
        }


class Tap:
    """Where anybody may listen to a stream: lossy, never in its way, and free while nobody does."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], stream: str) -> None:
        self.stream, self.topic = stream, stream.encode() + b"\0"
        self.listeners = 0
        self._subscribed: Counter[bytes] = Counter()
        self._description: list[Any] = []
        self._end: list[Any] = []
        self._described_at = 0
        self.socket = context.socket(zmq.XPUB)
        self.socket.set(zmq.XPUB_VERBOSER, 1)
        self.socket.set(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION)
        self.socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_WITHIN)
        self.socket.set(zmq.LINGER, 1000)

    def bind(self, endpoint: str) -> None:
        """Bind it.

        raises BindError naming the stream and the endpoint
        """
        _bind(self.socket, endpoint, self.stream)

    def close(self) -> None:
        """Close it; what is queued is sent for up to a tenth of a second."""
        self.socket.close(linger=100)

    def describe(self, parts: list[Any], bytes_per_slot: int) -> None:
        """Keep the description for listeners to come."""
        self._description, self._end = parts, []
        self.socket.set(zmq.SNDHWM, max(2, min(1000, TAP_BYTES // bytes_per_slot)))

    def send(self, parts: Sequence[Any], ends: bool = False) -> None:
        """Send a message to whoever listens."""
        if ends:
            self._end = list(parts)
        if self.listeners:
            send(self.socket, parts)

    def serve(self, now: int) -> None:
        """Take subscriptions; describe the stream to new listeners and once a second."""
        news = False
        for _ in range(MOST_SUBSCRIPTIONS):
            if not self.socket.get(zmq.EVENTS) & zmq.POLLIN:  # type: ignore[operator]
                break
            news = self._hear(self.socket.recv()) or news
        if self.listeners and self._description and (news or now - self._described_at > DESCRIBE_EVERY):
            self._described_at = now
            send(self.socket, self._description)
            if self._end:
                send(self.socket, self._end)

    def _hear(self, message: bytes) -> bool:
        """Count a subscription to this stream, or its end; return whether somebody has joined."""
        topic, joins = message[1:], message[:1] == b"\x01"
        if not self.topic.startswith(topic):
            return False
        if joins:
            self._subscribed[topic] += 1
        elif message[:1] == b"\0" and self._subscribed[topic]:
            self._subscribed[topic] -= 1
        self.listeners = self._subscribed.total()
        return joins


def _bind(socket: zmq.Socket[bytes], endpoint: str, stream: str) -> None:
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise BindError(f"{stream}: cannot bind {endpoint}: {error}") from None


class Outlet:
    """The producer's end: one output port, all its edges, and its tap.

    stream: "block.port"    links: one an edge    token: only consumers that know it are served
    tap: where its listeners are, None to make one    begin: the slot from which it is sent (again)
    sparse: whether other processes send the rest of the stream
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        stream: str,
        links: Sequence[Link],
        token: str,
        tap: Tap | None = None,
        begin: int | None = None,
        sparse: bool = False,
    ) -> None:
        self.stream, self.links, self.token = stream, list(links), token
        self.topic = stream.encode() + b"\0"
        self.refused = 0
        self.next_slot, self.sparse = begin, sparse
        self.remote = any(link.remote for link in self.links)
        self.ended: Eos | None = None
        self.tapped = tap or Tap(context, stream)
        self._describe: list[Any] = []
        self._by_identity: dict[bytes, tuple[Link, Peer]] = {}
        self._former: set[bytes] = set()
        self._per_slot = 1
        self._seq = 0
        self.socket = context.socket(zmq.ROUTER)
        self.socket.set(zmq.ROUTER_MANDATORY, 1)
        self.socket.set(zmq.SNDHWM, 0)
        self.socket.set(zmq.RCVHWM, 1000)
        self.socket.set(zmq.MAXMSGSIZE, MAX_HEADER)
        self.socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_WITHIN)
        self.socket.set(zmq.LINGER, 1000)

    @property
    def tap(self) -> zmq.Socket[bytes]:
        """The socket of the tap."""
        return self.tapped.socket

    def bind(self, endpoint: str, tap_endpoint: str | None = None) -> None:
        """Bind the edge, and the tap where it is not bound yet.

        raises BindError naming the stream and the endpoint
        """
        _bind(self.socket, endpoint, self.stream)
        if tap_endpoint is not None:
            self.tapped.bind(tap_endpoint)

    def close(self, linger: int = 1000, tap: bool = True) -> None:
        """Close the sockets; what is queued is sent for so long [ms]."""
        self.socket.close(linger=linger)
        if tap:
            self.tapped.close()

    @property
    def ready(self) -> bool:
        """Whether every consumer has said hello."""
        return all(link.ready for link in self.links)

    def room(self, count: int) -> bool:
        """Return whether so many more slots may be offered to every lossless consumer."""
        for link in self.links:
            ahead = link.open - link.part
            if ahead and link.lossless and not link.done and ahead + count > link.limit:
                return False
        return True

    @property
    def unwanted(self) -> bool:
        """Whether every consumer has said that it wants no more."""
        return bool(self.links) and all(link.unwanted for link in self.links)

    @property
    def flushed(self) -> bool:
        """Whether every consumer has acknowledged the end, be it that it wanted no more before."""
        return self.ended is not None and all(link.eos_acked for link in self.links)

    def describe(self, info: StreamInfo) -> None:
        """Describe the stream to every consumer, now and when they join."""
        self._describe = encode(Describe(self.stream, info), self.topic)
        self._per_slot = max(1, info.bytes_per_slot)
        self.tapped.describe(self._describe, self._per_slot)
        for link in self.links:
            self._grant(link, link.slots, link.nbytes)
        self._put(Entry(0, 0, self._describe, describes=True))
        if self.next_slot is not None:
            self._bridge(self.next_slot)

    def _bridge(self, begin: int) -> None:
        """Tell lossy consumers of slots that are not made again for them."""
        for link in self.links:
            if not link.lossless and link.begin < begin and not link.over:
                self._queue(link, Entry(link.begin, begin, None, link.policy))
                link.begin = begin

    def emit(self, item: Frame | Gap | Eos) -> None:
        """Offer a frame, a gap or the end to every consumer, and to whoever listens at the tap."""
        if isinstance(item, Eos):
            self.ended = item
            self._put(Entry(item.first, item.first, encode(item, self.topic)))
            return
        if self.next_slot is not None and item.first < self.next_slot:
            if item.end <= self.next_slot:
                return  # made again, and finished before
            item = cut(item, self.next_slot, self._whole(item))[1]
        self._seq += 1
        item.seq = self._seq
        first, count = item.first, item.count
        reason = ""
        if type(item) is Frame:
            item.sent = time.monotonic_ns()
        elif isinstance(item, Gap):
            reason = item.reason
        self.next_slot = first + count
        for link in self.links:
            if link.over or not link.done:
                link.offered += count
        if self.links or self.tapped.listeners:
            self._put(Entry(first, first + count, encode(item, self.topic), reason))

    def _whole(self, item: Frame | Gap) -> frozenset[str]:
        if isinstance(item, Gap):
            return frozenset()
        return frozenset(name for name, array in item.arrays.items() if not array.ndim or len(array) != item.count)

    def _put(self, entry: Entry) -> None:
        first, end = entry.first, entry.end
        for link in self.links:
            if link.done or first < end <= link.begin:
                continue
            if link.queued:
                self._queue(link, entry)
                continue
            link.flying.append((entry, None))
            link.open += end - first
            if (peer := link.peers[0]).identity is not None:
                self._send(peer, entry)
        ends = first == end and not entry.describes
        if ends or self.tapped.listeners:
            self.tapped.send(entry.parts or (), ends)

    def _queue(self, link: Link, entry: Entry) -> None:
        """Let an entry wait for its turn; a full queue of a lossy edge loses slots, each a gap in its place."""
        link.pending.append(entry)
        link.open += entry.end - entry.first
        if entry.is_data:
            link.waiting += entry.end - entry.first
            if not self._pump(link) and not link.lossless:
                self._shed(link)
            return
        if entry.reason and not link.lossless:
            self._merge(link.pending, len(link.pending) - 1)
        self._pump(link)

    def _shed(self, link: Link) -> None:
        pending = link.pending
        most = 0 if link.policy == "latest" else link.slots
        while link.waiting > most:
            data = [at for at, entry in enumerate(pending) if entry.is_data]
            if len(data) < 2:
                return  # one frame is kept, however long it is
            at = data[-1] if link.policy == "drop_newest" else data[0]
            entry = pending[at]
            link.waiting -= entry.end - entry.first
            pending[at] = Entry(entry.first, entry.end, None, link.policy)
            self._merge(pending, at)

    def _merge(self, pending: deque[Entry], at: int) -> None:
        """Join a gap with those before it; where many wait, with ones for another reason too."""
        while at:
            before, entry = pending[at - 1], pending[at]
            same = before.reason == entry.reason or len(pending) > MOST_PENDING
            if not (before.reason and same and before.end == entry.first):
                return
            pending[at - 1] = Entry(before.first, entry.end, None, entry.reason)
            del pending[at]
            at -= 1

    def _pump(self, link: Link) -> bool:
        """Send what waits and may go; return whether nothing waits any more."""
        pending = link.pending
        while pending:
            entry = pending[0]
            if entry.end == entry.first:
                if any(peer.identity is None for peer in link.peers):
                    return False
                for peer in link.peers:
                    self._send(peer, entry)
                link.flying.append((entry, None))
            else:
                peer = self._freest(link)
                if peer is None:
                    return False
                if entry.parts is None:
                    gap = Gap(entry.first, entry.end - entry.first, entry.reason)
                    entry.parts = encode(gap, self.topic)
                peer.sent += entry.end - entry.first if entry.is_data else 0
                link.flying.append((entry, peer))
                self._send(peer, entry)
                link.waiting -= entry.end - entry.first if entry.is_data else 0
            pending.popleft()
        return True

    def _freest(self, link: Link) -> Peer | None:
        """The consumer process with the most room, None where all have work enough."""
        best = None
        for peer in link.peers:
            if peer.identity is not None and peer.sent < peer.credit:
                best = peer if best is None or peer.credit - peer.sent > best.credit - best.sent else best
        return best

    def _grant(self, link: Link, slots: int, nbytes: int) -> None:
        link.slots, link.nbytes = slots, nbytes
        link.limit = fitting(slots, nbytes, link.least, self._per_slot)

    def _send(self, peer: Peer, entry: Entry) -> None:
        try:
            _send(self.socket, peer.identity or b"", _MORE)
            send(self.socket, entry.parts or ())
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            peer.identity = None  # gone; it says hello when it is back, and gets what it has not finished

    def service(self) -> bool:
        """Take what consumers say; return whether an acknowledgement came."""
        moved = False
        for _ in range(MOST_MESSAGES):  # whoever floods us with messages does not keep us from our work
            try:
                parts = receive(self.socket)
            except zmq.Again:
                break
            try:
                moved = self._take(parts[0], decode(parts[1:])) or moved
            except FrameError:
                self.refused += 1
        return moved

    def _take(self, identity: bytes, message: Message) -> bool:
        if isinstance(message, Hello):
            return self._welcome(identity, message)
        known = self._by_identity.get(identity)
        if known is None and (
            identity in self._former or (self.remote and isinstance(message, Acknowledge | Heartbeat))
        ):
            return False  # said on the connection before, or sent before its hello on this one
        foreign = known is None or (not self.sparse and _last(message) > max(self.next_slot or 0, known[0].begin))
        if known is None or foreign or not isinstance(message, Acknowledge | Heartbeat | Credit | Done):
            self.refused += 1
            return False
        self._follow(*known, message)
        return True

    def _follow(self, link: Link, peer: Peer, message: Acknowledge | Heartbeat | Credit | Done) -> None:
        if isinstance(message, Credit):
            self._grant(link, message.slots, message.nbytes)
        elif isinstance(message, Done):
            link.acknowledge(message.finished)
            link.done = True
        else:
            link.hear(peer, message.finished, message.eos)
            if link.queued:
                peer.credit = max(peer.credit, message.credit)
                self._pump(link)

    def _welcome(self, identity: bytes, hello: Hello) -> bool:
        link = next((link for link in self.links if link.edge == hello.edge and not link.over), None)
        if (
            link is None
            or not secrets.compare_digest(hello.token.encode(), self.token.encode())
            or not 0 <= hello.replica < len(link.peers)
        ):
            self.refused += 1
            return False
        peer = link.peers[hello.replica]
        for known, (_, whose) in list(self._by_identity.items()):
            if whose is peer:  # what it said on the connection before may still come
                del self._by_identity[known]
                self._former.add(known)
        self._by_identity[identity] = (link, peer)
        back = peer.identity is not None or bool(peer.sent)
        peer.identity, peer.greeted, peer.credit, peer.sent = identity, True, 1, 0
        link.hear(peer, hello.finished)
        if link.remote:  # it may be further than we, who begin again
            link.begin = max(link.begin, link.acknowledged.prefix())
        self._grant(link, hello.slots, hello.nbytes)
        if link.described:
            self._send(peer, link.described)
        for entry, whose in link.flying:
            if (whose is None or whose is peer) and not link.acknowledged.covers(entry.first, entry.end):
                link.redelivered += (entry.end - entry.first) if back else 0
                self._send(peer, entry)
            elif entry.first == entry.end:
                self._send(peer, entry)
        if link.queued:
            self._pump(link)
        return True

    def finished(self) -> SlotSet | None:
        """Return the slots that every lossless consumer has finished; None when there is none to ask."""
        wanting = [link for link in self.links if link.lossless and not link.eos_acked and link.begin < END]
        if not wanting:
            return None
        both = wanting[0].acknowledged
        for link in wanting[1:]:
            both = both & link.acknowledged
        return both

    def tell_replicas(self) -> None:
        """Tell processes that share an edge how far it is shared out, and what all have noted to be finished."""
        for link in self.links:
            if len(link.peers) > 1 and not link.over:
                out = next((entry.first for entry in link.pending if entry.end > entry.first), self.next_slot or 0)
                news = (min(peer.acked for peer in link.peers), out)
                if news != link.told:
                    link.told = news
                    done = [(0, news[0])] if news[0] else []
                    for peer in link.peers:
                        self._send(peer, Entry(0, 0, encode(Heartbeat(done, False, out), self.topic)))

    def serve_tap(self, now: int) -> None:
        """Take subscriptions; describe the stream to new listeners and once a second."""
        self.tapped.serve(now)

    def account(self) -> list[dict[str, Any]]:
        """Return the producer's half of the account of every edge."""
        return [link.account() for link in self.links]


def _last(message: Message) -> int:
    """The slot after the last that a consumer says to have finished."""
    finished = message.finished if isinstance(message, Acknowledge | Heartbeat | Done) else ()
    if not finished:
        return 0
    if isinstance(message, Done) and finished[-1][1] == END:
        finished = finished[:-1]  # from where on it wants no more, be it offered yet or not
    return finished[-1][1] if finished else 0


class Wire:
    """The connection of an inlet to one process of its producer.

    silent: whether it stands in the place of another, and nothing has come by it yet
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        edge: str,
        epoch: int,
        remote: bool = False,
        fault: LinkFault | None = None,
        seed: int = 0,
    ) -> None:
        self.described: Describe | None = None
        self.last = -1
        self.endpoint = ""
        self.silent = False
        self.bad: BadLink | None = None
        if fault is not None:
            self.bad = BadLink(context, fault, f"{seed}/{edge}/{epoch}", partial(_dealer, context, edge, epoch))
            self.socket = self.bad.near
        else:
            self.socket = _dealer(context, edge, None if remote else epoch)

    def connect(self, endpoint: str) -> None:
        """Connect to a process of the producer."""
        self.endpoint = endpoint
        if self.bad is not None:
            self.bad.connect(endpoint)
        else:
            self.socket.connect(endpoint)

    def close(self, linger: int) -> None:
        """Close it; what is queued is sent for so long [ms]."""
        if self.bad is not None:
            self.bad.close(linger)
        else:
            self.socket.close(linger=linger)


def _dealer(context: zmq.Context[zmq.Socket[bytes]], edge: str, epoch: int | None) -> zmq.Socket[bytes]:
    """Return the socket of a connection, of an identity of its own; of a remote one, which has no epoch, without."""
    socket = context.socket(zmq.DEALER)
    if epoch is not None:  # where it comes back while the old one is not yet known to be gone, it must be another
        socket.set(zmq.IDENTITY, f"{edge}#{epoch}#{secrets.token_hex(16)}".encode()[-250:])
    socket.set(zmq.RCVHWM, 0)
    socket.set(zmq.SNDHWM, 0)
    socket.set(zmq.MAXMSGSIZE, MAX_BYTES)
    socket.set(zmq.LINGER, 1000)
    return socket


class Inlet:
    """The consumer's end of one edge.

    edge: "block.port > block.port"    slots, nbytes: the credit that it grants
    replica: which of the processes of its block this is    producers: how many processes send
    begin: the first slot that is needed, None where the stream may begin anywhere
    allowance: slots in hand that it asks for on a queued edge, 0 on others
    remote: whether the producer is of another run; its connection is somebody else's care
    fault, seed: what its link does on purpose; then what is missing is asked for again, over a new connection
    shared, through: what the producer says of an edge that several processes share: before which slot all have noted
        what is finished, and before which all is shared out
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
        replica: int = 0,
        producers: int = 1,
        begin: int | None = None,
        allowance: int = 0,
        remote: bool = False,
        fault: LinkFault | None = None,
        seed: int = 0,
    ) -> None:
        self.edge, self.token, self.slots, self.nbytes, self.epoch = edge, token, slots, nbytes, epoch
        self.replica, self.allowance, self.remote = replica, allowance, remote
        self.errors: dict[str, int] = {}
        self.finished = SlotSet([(0, begin)] if begin else [])
        self.next_slot = begin
        self.ended = False
        self.taken = self.shared = self.through = 0
        self._on_error = on_error
        self._eos_finished: bool = False
        self._eos_told: bool = False
        self._told = self.finished
        self._came = self._known = self._owed = 0
        self._owed_since = self._told_at = 0
        self._credit = 0
        self._window = slots
        self._early: list[tuple[int, int, Frame | Gap, Describe | None]] = []
        self._described: Describe | None = None
        self._eos: Eos | None = None
        self._known = len(self.finished)
        self._context = context
        self.wires = [Wire(context, edge, epoch, remote, fault, seed) for _ in range(producers)]
        self.bad = self.wires[0].bad
        self.healed = 0
        self._held: deque[Frame | Gap | Describe | Eos] = deque()
        self._missed_at = self._damaged_at = 0
        self._asking = False

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """The socket to the producer, the first where it has several processes."""
        return self.wires[0].socket

    def connect(self, *endpoints: str) -> None:
        """Connect to each process of the producer and introduce ourselves."""
        for wire, endpoint in zip(self.wires, endpoints, strict=True):
            wire.connect(endpoint)
            self.greet(wire)

    def greet(self, wire: Wire) -> None:
        """Say hello, at the first connection and at each that follows."""
        told = self._told.ranges()
        send(wire.socket, encode(Hello(self.token, self.edge, self.replica, self.epoch, told, self.slots, self.nbytes)))
        if self.allowance:
            send(wire.socket, encode(Acknowledge(told, self._eos_told, self.allowance)))

    def cut(self) -> None:
        """Break the connections and make new ones, as a failing link would; nothing is lost by it."""
        if self.bad is not None:
            self._ask_again()
            return
        if any(wire.silent for wire in self.wires):
            return  # were its hello read after that of the next, the producer would take it for the newer one
        for number, wire in enumerate(self.wires):
            wire.close(0)
            fresh = Wire(self._context, self.edge, self.epoch)
            fresh.silent = True
            fresh.described = wire.described
            fresh.connect(wire.endpoint)
            self.wires[number] = fresh
            self.greet(fresh)
        self.taken, self._credit = 0, self.allowance

    def close(self, linger: int = 1000) -> None:
        """Close the sockets; what is queued is sent for so long [ms]."""
        for wire in self.wires:
            wire.close(linger)

    def _say(self, message: Message) -> None:
        for wire in self.wires:
            send(wire.socket, encode(message))

    def receive(self, most: int = 64) -> list[Item]:
        """Return up to some `most` items in slot order, each once; a bad message is counted, its slots are missing."""
        items: list[Item] = []
        for wire in self.wires:
            self._read(wire, items, most)
        return items

    def _read(self, wire: Wire, items: list[Item], most: int) -> None:
        lone = len(self.wires) == 1
        for turn in range(most):
            if turn == 1 and not wire.socket.get(zmq.EVENTS) & zmq.POLLIN:  # type: ignore[operator]
                break  # a frame mostly comes alone; to be told so costs less than to try
            try:
                parts = receive(wire.socket)
            except zmq.Again:
                break
            if self.bad is not None:
                self._heal(wire, parts, items)
                continue
            wire.silent = False
            try:
                message = decode(parts)
            except FrameError as error:
                self._count(error)
                self.taken += 1
                continue
            if type(message) is Frame or isinstance(message, Gap):
                if type(message) is Frame:
                    self.taken += message.count
                if lone:
                    self._order(message, items)
                else:
                    self._slots(wire, message, items)
            else:
                self._hear(wire, message, items)

    # over a link that is not sound

    @property
    def troubles(self) -> dict[str, int]:
        """Messages by what the link did to them, and how often what was missing was asked for; of a sound link none."""
        return {} if self.bad is None else {**self.bad.counts, "healed": self.healed}

    def _heal(self, wire: Wire, parts: Sequence[Any], items: list[Item]) -> None:
        """Take a message whatever became of it, and pass on what follows on what came before."""
        if len(parts) == 1:
            if parts[0] == FRESH:
                self._begin_again()
            return
        if self._asking:
            return  # of the connection that is given up
        try:
            if parts[0] != checksum(parts[1:]) or len(parts[0]) != CHECKED:
                raise CorruptFrame("the checksum of a message does not hold: it was damaged on its way")
            message = decode(parts[1:])
        except FrameError as error:
            self._count(error)
            self._damaged_at = self._damaged_at or time.monotonic_ns()  # perhaps the end, which nothing follows
            return
        if isinstance(message, Frame | Gap | Describe | Eos):
            self._in_turn(wire, message, items)

    def _in_turn(self, wire: Wire, message: Frame | Gap | Describe | Eos, items: list[Item]) -> None:
        """Pass on a message, or hold it behind one that is missing."""
        if (self._held and isinstance(message, Describe | Eos)) or not self._follows(message):
            self._held.append(message)
        else:
            self._pass_on(wire, message, items)
        while self._held and self._follows(self._held[0]):
            self._pass_on(wire, self._held.popleft(), items)
        if self._held:
            self._missed_at = self._missed_at or time.monotonic_ns()
        if len(self._held) > HELD_AT_MOST:
            self._ask_again()

    def _follows(self, message: Frame | Gap | Describe | Eos) -> bool:
        """Whether nothing is missing before a message, be it slots or the description of its operator."""
        if isinstance(message, Describe) or self.next_slot is None:
            return True
        if type(message) is Frame and self._described is not None:
            operator = self._described.info.operator
            if message.operator != (None if operator is None else operator.hash):
                return False
        return message.first <= self.next_slot

    def _pass_on(self, wire: Wire, message: Frame | Gap | Describe | Eos, items: list[Item]) -> None:
        if not isinstance(message, Frame | Gap):
            self._hear(wire, message, items)
            return
        before = self.next_slot
        self._order(message, items)
        if self.next_slot != before:
            self._missed_at = 0
            self.taken += message.count if type(message) is Frame else 0

    def _ask_again(self) -> None:
        """Ask for a new connection, over which all comes again that is not acknowledged."""
        if self.bad is not None and not self._asking:
            self._asking = True
            self.healed += 1
            self.bad.say(AGAIN)

    def _begin_again(self) -> None:
        """Take note of a new connection: nothing follows on what came over the old one."""
        self._asking = False
        self._missed_at = self._damaged_at = 0
        self._held.clear()
        self.taken, self._credit = 0, self.allowance
        if self.bad is not None:
            self.bad.say(HEARD)
        if self.allowance:
            self._say(Acknowledge(self._told.ranges(), self._eos_told, self.allowance))

    def _lose_patience(self) -> None:
        """Ask again for what has been missing for too long."""
        since = min(self._missed_at or self._damaged_at, self._damaged_at or self._missed_at)
        if since and not self.ended and time.monotonic_ns() - since > MISSED_WITHIN:
            self._ask_again()

    def _slots(self, wire: Wire, item: Frame | Gap, items: list[Item]) -> None:
        wire.last = item.end
        insort(self._early, (item.first, item.end, item, wire.described), key=_first)
        self._release(items)

    def _hear(self, wire: Wire, message: Message, items: list[Item]) -> None:
        """Take what is not about slots."""
        if isinstance(message, Describe):
            self._window = fitting(self.slots, self.nbytes, 1, message.info.bytes_per_slot)
            wire.described = message
            if len(self.wires) == 1 or self._described is None:
                self._described = message
                items.append(message)
        elif isinstance(message, Heartbeat):
            self.shared = max(self.shared, _last(message))
            self.through = max(self.through, message.credit)
        elif isinstance(message, Eos) and not self.ended:
            self._eos = message
            wire.last = END
            if len(self.wires) == 1:
                self.ended = True
                items.append(message)
            else:
                self._release(items)

    def _release(self, items: list[Item]) -> None:
        """Pass on what comes next in slot order, from whichever process; each sends its own in order."""
        early = self._early
        while early:
            first, _, item, described = early[0]
            expected = self.next_slot or 0
            if first > expected and not all(wire.last > expected for wire in self.wires):
                break
            early.pop(0)
            if described is not None and described != self._described:
                self._described = described
                items.append(described)
            self._order(item, items)
        if self._eos is None or early or self.ended:
            return
        if all(wire.last >= END for wire in self.wires) or (self.next_slot or 0) >= self._eos.first:
            self.ended = True
            items.append(self._eos)

    def _order(self, item: Frame | Gap, items: list[Item]) -> None:
        first, end = item.first, item.first + item.count
        expected = first if self.next_slot is None else self.next_slot
        if end <= expected:
            self._owed = max(1, self._owed)  # a duplicate: acknowledge again, at once
            return
        self._came += end - (first if first > expected else expected)
        self.next_slot = end
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

    def offer(self, backlog: int) -> None:
        """Ask for more on a queued edge: so many of the slots that came wait still."""
        credit = self.taken - backlog + self.allowance
        if self.allowance and credit > self._credit:
            self._credit = credit
            self._say(Acknowledge(self._told.ranges(), self._eos_told, credit))

    @property
    def owes(self) -> bool:
        """Whether something is finished that the producer has not been told."""
        return self._owed > 0

    @property
    def pressing(self) -> bool:
        """Whether so much is owed that the producer may wait for it: a quarter window, or the end."""
        return self._owed * 4 >= self._window or self._eos_finished

    def due(self, idle: bool) -> bool:
        """Return whether it is time to acknowledge.

        That is when a quarter window is owed, when the end is, after 2 ms, or when the queue ran empty. An idle
        consumer of a fast stream would acknowledge every frame, at the cost of the producer; so it lets a moment pass
        between acknowledgements while the producer has half its window left and does not wait for them.
        """
        if self.bad is not None:
            self._lose_patience()
        if not self._owed:
            return False
        now = time.monotonic_ns()
        if self.pressing or now - self._owed_since > ACK_WITHIN:
            return True
        if not idle:
            return False
        open_ = self._came - self._known + self._owed
        return open_ * 2 >= self._window or now - self._told_at > ACK_APART

    def tell(self) -> None:
        """Acknowledge what is finished, which must be recorded by now; all other messages only repeat this."""
        self._owed, self._told_at = 0, time.monotonic_ns()
        self._told, self._eos_told = self.finished, self._eos_finished
        self._say(Acknowledge(self.finished.ranges(), self._eos_finished, self._credit))

    def flush(self, idle: bool) -> None:
        """Acknowledge if it is time."""
        if self.due(idle):
            self.tell()

    def heartbeat(self) -> None:
        """Tell the producer that we live, and repeat our acknowledgement."""
        self._say(Heartbeat(self._told.ranges(), self._eos_told, self._credit))

    def done(self, cut: int) -> None:
        """Tell the producer that we want nothing from slot `cut` on."""
        wanted = self._told & SlotSet([(0, cut)])
        self._say(Done([*wanted.ranges(), (cut, END)]))


def _first(entry: tuple[int, int, Frame | Gap, Describe | None]) -> int:
    return entry[0]
