"""Both ends of an edge in one process; a raw socket plays whoever misbehaves."""

import itertools
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from beamslot_runs import until
from hypothesis import given
from hypothesis import strategies as st

from beamslot.errors import BindError
from beamslot.frame import (
    Acknowledge,
    Array,
    Credit,
    Describe,
    Done,
    Eos,
    Frame,
    Gap,
    Heartbeat,
    Hello,
    StreamInfo,
    decode,
    encode,
)
from beamslot.runtime import transport
from beamslot.runtime.slots import SlotSet
from beamslot.runtime.transport import Inlet, Link, Outlet, fitting

TOKEN = "a secret of the run"  # noqa: S105
INFO = StreamInfo({"x": Array.of("slot y", np.float32)}, {"y": 4})
PER_SLOT = 16


def frame(first: int, count: int = 1, y: int = 4) -> Frame:
    x = np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], y, axis=1)
    return Frame(first, count, {"x": x})


class Edge:
    """An outlet and its consumers, on sockets that live as long as the test."""

    numbers = itertools.count()

    def __init__(
        self, context: Any, *, edges: int = 1, slots: int = 100, nbytes: int = 1 << 20, least: int = 1
    ) -> None:
        self.context = context
        self.endpoint = f"inproc://edge{next(self.numbers)}"
        self.links = [Link(f"a.out > b{number}.in", slots, nbytes, least) for number in range(edges)]
        self.outlet = Outlet(context, "a.out", self.links, TOKEN)
        self.outlet.bind(self.endpoint, f"{self.endpoint}.tap")
        self.inlets: list[Inlet] = []

    def inlet(self, number: int = 0, token: str = TOKEN, **options: Any) -> Inlet:
        link = self.links[number]
        inlet = Inlet(self.context, link.edge, token, **{"slots": link.slots, "nbytes": link.nbytes, **options})
        inlet.connect(self.endpoint)
        self.inlets.append(inlet)
        return inlet

    def joined(self, number: int = 0, **options: Any) -> Inlet:
        inlet = self.inlet(number, **options)
        self.until(lambda: self.links[number].identity is not None)
        return inlet

    def until(self, condition: Callable[[], Any]) -> Any:
        return until(lambda: (self.outlet.service(), condition())[1], 5)

    def close(self) -> None:
        for inlet in self.inlets:
            inlet.socket.close(linger=0)
        self.outlet.socket.close(linger=0)
        self.outlet.tap.close(linger=0)


class Edges:
    def __init__(self) -> None:
        self.context: Any = zmq.Context()
        self.made: list[Edge] = []
        self.sockets: list[Any] = []

    def __call__(self, **options: Any) -> Edge:
        self.made.append(Edge(self.context, **options))
        return self.made[-1]

    def raw(self, kind: int, endpoint: str) -> Any:
        socket = self.context.socket(kind)
        self.sockets.append(socket)
        socket.connect(endpoint) if kind == zmq.DEALER else socket.bind(endpoint)
        return socket

    def close(self) -> None:
        for edge in self.made:
            edge.close()
        for socket in self.sockets:
            socket.close(linger=0)
        self.context.term()


@contextmanager
def opened() -> Generator[Edges]:
    made = Edges()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def edges() -> Iterator[Edges]:
    with opened() as made:
        yield made


def received(inlet: Inlet, count: int) -> list[Any]:
    """The next items, so many and, once they are there, not one more."""
    items: list[Any] = []
    until(lambda: (items.extend(inlet.receive()), len(items) >= count)[1], 5)
    items += inlet.receive()
    assert len(items) == count, items
    return items


def spans(items: list[Any]) -> list[Any]:
    return [
        (item.first, item.first + item.count) if isinstance(item, Frame | Gap) else type(item).__name__
        for item in items
    ]


def test_frames_arrive_once_in_order_and_unharmed_behind_their_description(edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    edge.outlet.describe(INFO)
    for first in range(0, 20, 4):
        edge.outlet.emit(frame(first, 4))
    edge.outlet.emit(Gap(20, 2, "late"))
    edge.outlet.emit(Eos(22))
    items = received(inlet, 8)
    assert spans(items) == ["Describe", (0, 4), (4, 8), (8, 12), (12, 16), (16, 20), (20, 22), "Eos"]
    assert items[0] == Describe("a.out", INFO)
    for item in items[1:6]:
        np.testing.assert_array_equal(item.arrays["x"], frame(item.first, 4).arrays["x"])
        assert not item.arrays["x"].flags.writeable
    assert [item.seq for item in items[1:7]] == [1, 2, 3, 4, 5, 6]
    assert inlet.ended


def test_large_frames_travel_too(edges: Edges, tmp_path: Path) -> None:
    edge = edges(nbytes=1 << 30)
    inlet = edge.joined()
    edge.outlet.describe(INFO.replace(axes={"y": 300_000}))
    edge.outlet.emit(frame(5, 2, y=300_000))
    (_, item) = received(inlet, 2)
    np.testing.assert_array_equal(item.arrays["x"], frame(5, 2, y=300_000).arrays["x"])


@pytest.mark.parametrize(
    "wrong", [{"token": "another"}, {"token": ""}, {"token": TOKEN + "!"}, {"token": "ä"}, {"edge": "a.out > x.in"}]
)
def test_a_stranger_is_refused_and_counted_and_gets_nothing(wrong: dict[str, str], edges: Edges) -> None:
    edge = edges()
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(0))
    stranger = edges.raw(zmq.DEALER, edge.endpoint)
    hello = Hello(
        **{"token": TOKEN, "edge": edge.links[0].edge, **wrong}, replica=0, epoch=0, finished=[], slots=9, nbytes=9
    )
    stranger.send_multipart(encode(hello))
    stranger.send_multipart(encode(Acknowledge([(0, 1)], eos=True)))
    edge.until(lambda: edge.outlet.refused == 2)
    assert not edge.outlet.ready
    assert edge.outlet.account()[0]["in_flight"] == 1
    assert not stranger.poll(20)
    assert spans(received(edge.joined(), 2)) == ["Describe", (0, 1)]


def test_a_stranger_does_not_take_the_place_of_a_consumer(edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    edge.outlet.describe(INFO)
    stranger = edges.raw(zmq.DEALER, edge.endpoint)
    stranger.send_multipart(encode(Hello("no", edge.links[0].edge, 0, 0, [], 9, 9)))
    edge.until(lambda: edge.outlet.refused)
    edge.outlet.emit(frame(0))
    assert spans(received(inlet, 2)) == ["Describe", (0, 1)]


GARBAGE = [
    [b""],
    [b"\0"],
    [b"x"],
    [b"\0", b"\xff\xfe"],
    [b"\0", b"\x80"],
    [b"\0", b"{}", b"{}"],
    [b"\0"] * 80,
    [b"\0", b"\x00" * 9000],
]


@pytest.mark.parametrize("parts", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_at_the_producer_is_counted_and_harms_nobody(parts: list[bytes], edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    edge.outlet.describe(INFO)
    stranger = edges.raw(zmq.DEALER, edge.endpoint)
    stranger.send_multipart(parts)
    inlet.socket.send_multipart(parts)
    edge.until(lambda: edge.outlet.refused == 2)
    edge.outlet.emit(frame(0))
    assert spans(received(inlet, 2)) == ["Describe", (0, 1)]


def test_a_message_that_is_not_for_a_producer_is_refused(edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    inlet.socket.send_multipart(encode(Eos(5)))
    inlet.socket.send_multipart(encode(frame(0)))
    edge.until(lambda: edge.outlet.refused == 2)
    assert not edge.outlet.flushed


@pytest.mark.parametrize("parts", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_at_the_consumer_is_counted_and_told_once_a_kind(parts: list[bytes], edges: Edges) -> None:
    told: list[str] = []
    router = edges.raw(zmq.ROUTER, "inproc://router")
    inlet = Inlet(edges.context, "a.out > b.in", TOKEN, slots=8, nbytes=1 << 20, on_error=told.append)
    edges.sockets.append(inlet.socket)
    inlet.connect("inproc://router")
    identity = router.recv_multipart()[0]
    for message in (encode(Describe("a.out", INFO)), parts, encode(frame(0)), parts, encode(frame(1))):
        router.send_multipart([identity, *message])
    assert spans(received(inlet, 3)) == ["Describe", (0, 1), (1, 2)]
    assert inlet.errors == {"CorruptFrame": 2}
    assert len(told) == 1
    assert told[0].startswith("a.out > b.in: CorruptFrame: ")


def test_a_slot_that_comes_again_is_dropped_and_acknowledged_again(edges: Edges) -> None:
    router = edges.raw(zmq.ROUTER, "inproc://router")
    inlet = Inlet(edges.context, "a.out > b.in", TOKEN, slots=100, nbytes=1 << 20)
    edges.sockets.append(inlet.socket)
    inlet.connect("inproc://router")
    identity = router.recv_multipart()[0]
    for message in (Describe("a.out", INFO), frame(0, 3), frame(3, 3), frame(0, 3), frame(6), Eos(7), Eos(7)):
        router.send_multipart([identity, *encode(message)])
    assert spans(received(inlet, 5)) == ["Describe", (0, 3), (3, 6), (6, 7), "Eos"]
    inlet.finish(SlotSet([(0, 7)]))
    until(lambda: (inlet.flush(idle=True), router.poll(1))[1])
    assert decode(router.recv_multipart()[1:]) == Acknowledge([(0, 7)])
    router.send_multipart([identity, *encode(frame(3, 3))])
    until(lambda: (inlet.receive(), inlet.flush(idle=True), router.poll(1))[2])
    assert decode(router.recv_multipart()[1:]) == Acknowledge([(0, 7)])


def test_a_jump_is_left_to_the_block_to_count(edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(0, 2))
    edge.outlet.emit(frame(7, 2))
    assert spans(received(inlet, 3)) == ["Describe", (0, 2), (7, 9)]


def say(edge: Edge, inlet: Inlet, message: Any) -> None:
    """Send a message and wait until the producer has taken it."""
    inlet.socket.send_multipart(encode(message))
    inlet.socket.send_multipart([b"end of test message"])
    before = edge.outlet.refused
    edge.until(lambda: edge.outlet.refused > before)


@given(st.data())
def test_acknowledgements_may_come_twice_and_in_any_order(data: st.DataObject) -> None:
    with opened() as edges:
        edge = edges()
        inlet = edge.joined()
        edge.outlet.describe(INFO)
        for first in range(0, 30, 3):
            edge.outlet.emit(frame(first, 3))
        known: set[int] = set()
        for _ in range(data.draw(st.integers(1, 5))):
            firsts = sorted(data.draw(st.sets(st.integers(0, 9), min_size=1)))
            ranges = [(3 * first, 3 * first + 3) for first in firsts]
            message = data.draw(st.sampled_from([Acknowledge, Heartbeat]))(ranges)
            for _ in range(data.draw(st.integers(1, 2))):
                say(edge, inlet, message)
            known |= {slot for first, end in ranges for slot in range(first, end)}
            (account,) = edge.outlet.account()
            assert (account["offered"], account["acknowledged"], account["in_flight"]) == (
                30,
                len(known),
                30 - len(known),
            )


@given(st.data())
def test_what_is_unacknowledged_never_exceeds_the_credit_in_slots_nor_in_bytes(data: st.DataObject) -> None:
    with opened() as edges:
        slots, nbytes = data.draw(st.integers(4, 40)), data.draw(st.integers(4 * PER_SLOT, 30 * PER_SLOT))
        edge = edges(slots=slots, nbytes=nbytes)
        inlet = edge.joined()
        edge.outlet.describe(INFO)
        link, first = edge.links[0], 0
        for _ in range(data.draw(st.integers(1, 25))):
            count = data.draw(st.integers(1, 4))
            what = data.draw(st.sampled_from(["emit", "emit", "emit", "acknowledge", "credit"]))
            if what == "emit" and edge.outlet.room(count):
                edge.outlet.emit(frame(first, count))
                first += count
                assert link.in_flight <= min(slots, nbytes // PER_SLOT)
            elif what == "acknowledge" and first:
                say(edge, inlet, Acknowledge([(0, data.draw(st.integers(1, first)))]))
            elif what == "credit":
                slots, nbytes = data.draw(st.integers(4, 40)), data.draw(st.integers(4 * PER_SLOT, 30 * PER_SLOT))
                say(edge, inlet, Credit(slots, nbytes))
        say(edge, inlet, Acknowledge([(0, first)] if first else []))
        assert edge.outlet.room(min(slots, nbytes // PER_SLOT))
        assert edge.outlet.room(10**6)  # a frame larger than the window goes alone, or it never would


@pytest.mark.parametrize("kind", [Acknowledge, Heartbeat, Done])
def test_slots_that_were_never_offered_cannot_be_acknowledged(kind: Any, edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(0, 3))
    say(edge, inlet, kind([(0, 4)]))
    assert edge.outlet.refused == 2
    assert (edge.outlet.account()[0]["acknowledged"], edge.outlet.account()[0]["in_flight"]) == (0, 3)


def test_the_credit_of_the_hello_counts(edges: Edges) -> None:
    edge = edges(slots=100)
    edge.joined(slots=5)
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(0, 3))
    assert edge.outlet.room(2)
    assert not edge.outlet.room(3)


def test_the_slowest_consumer_sets_the_pace(edges: Edges) -> None:
    edge = edges(edges=2, slots=4)
    one, _ = edge.joined(0), edge.joined(1)
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(0, 4))
    say(edge, one, Acknowledge([(0, 4)]))
    assert not edge.outlet.room(1)
    assert edge.outlet.finished() == SlotSet()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((100, 1000, 1, 10), 100),
        ((100, 500, 1, 10), 50),
        ((100, 10, 7, 10), 7),
        ((5, 10, 7, 10), 5),
        ((9, 100, 1, 0), 9),
    ],
)
def test_the_limit_in_bytes_yields_to_the_least_window_and_that_to_the_limit_in_slots(
    arguments: Any, expected: int
) -> None:
    assert fitting(*arguments) == expected


def test_a_late_consumer_gets_the_description_and_then_everything_unacknowledged(edges: Edges) -> None:
    edge = edges(edges=2)
    early = edge.joined(0)
    edge.outlet.describe(INFO)
    for first in range(5):
        edge.outlet.emit(frame(first))
    say(edge, early, Acknowledge([(0, 5)]))
    edge.outlet.emit(Gap(5, 2, "late"))
    edge.outlet.emit(Eos(7))
    late = edge.joined(1)
    assert spans(received(late, 8)) == ["Describe", (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 7), "Eos"]
    assert spans(received(early, 8))[-2:] == [(5, 7), "Eos"]


def test_a_consumer_that_comes_back_gets_what_it_has_not_finished_and_the_end(edges: Edges) -> None:
    edge = edges()
    first_life = edge.joined()
    edge.outlet.describe(INFO)
    for first in range(6):
        edge.outlet.emit(frame(first))
    say(edge, first_life, Acknowledge([(0, 2)]))
    edge.outlet.emit(Eos(6))
    second = edge.inlet(epoch=1)
    second.finished = SlotSet([(0, 2), (3, 4)])
    second.socket.close(linger=0)
    second = Inlet(edges.context, edge.links[0].edge, TOKEN, slots=100, nbytes=1 << 20, epoch=1)
    second.finished = SlotSet([(0, 2), (3, 4)])
    edge.inlets.append(second)
    second.connect(edge.endpoint)
    items: list[Any] = []
    edge.until(lambda: (items.extend(second.receive()), second.ended)[1])
    assert spans(items)[-5:] == ["Describe", (2, 3), (4, 5), (5, 6), "Eos"]
    edge.outlet.service()
    assert edge.outlet.account()[0]["acknowledged"] == 3


def test_a_consumer_that_finished_all_but_the_end_gets_the_end(edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(0, 4))
    edge.outlet.emit(Eos(4))
    say(edge, inlet, Acknowledge([(0, 4)]))
    assert not edge.outlet.flushed
    again = Inlet(edges.context, edge.links[0].edge, TOKEN, slots=100, nbytes=1 << 20)
    again.finished = SlotSet([(0, 4)])
    edge.inlets.append(again)
    again.connect(edge.endpoint)
    items: list[Any] = []
    edge.until(lambda: (items.extend(again.receive()), again.ended)[1])
    assert spans(items) == ["Describe", "Eos"]
    say(edge, again, Acknowledge([(0, 4)], eos=True))
    assert edge.outlet.flushed


def test_all_descriptions_that_unacknowledged_frames_need_come_in_their_places(edges: Edges) -> None:
    edge = edges(edges=2)
    early = edge.joined(0)
    for number in range(3):
        edge.outlet.describe(INFO.replace(carrier=float(number)))
        edge.outlet.emit(frame(2 * number, 2))
    say(edge, early, Acknowledge([(0, 6)]))
    late = Inlet(edges.context, edge.links[1].edge, TOKEN, slots=100, nbytes=1 << 20)
    late.finished = SlotSet([(0, 3)])
    edge.inlets.append(late)
    late.connect(edge.endpoint)
    edge.until(lambda: edge.outlet.ready)
    items = received(late, 5)
    assert spans(items) == ["Describe", "Describe", (2, 4), "Describe", (4, 6)]
    assert [item.info.carrier for item in items if isinstance(item, Describe)] == [0, 1, 2]


def test_a_consumer_that_vanished_is_noticed_and_what_it_owes_is_kept(edges: Edges, tmp_path: Path) -> None:
    link = Link("a.out > b.in", 100, 1 << 20, 1)
    outlet = Outlet(edges.context, "a.out", [link], TOKEN)
    endpoint = f"ipc://{tmp_path}/e" if len(str(tmp_path)) < 90 else "inproc://vanishing"
    outlet.bind(endpoint, endpoint + ".tap")
    outlet.describe(INFO)
    inlet = Inlet(edges.context, "a.out > b.in", TOKEN, slots=100, nbytes=1 << 20)
    inlet.connect(endpoint)
    until(lambda: (outlet.service(), outlet.ready)[1])
    inlet.socket.close(linger=0)
    slots = itertools.count()
    until(lambda: (outlet.emit(frame(next(slots))), not outlet.ready)[1])
    back = Inlet(edges.context, "a.out > b.in", TOKEN, slots=100, nbytes=1 << 20, epoch=1)
    back.connect(endpoint)
    until(lambda: (outlet.service(), outlet.ready)[1])
    offered = next(slots)
    items: list[Any] = []
    until(lambda: (items.extend(back.receive()), len(items) > offered)[1])
    assert spans(items) == ["Describe", *((slot, slot + 1) for slot in range(offered))]
    for socket in (back.socket, outlet.socket, outlet.tap):
        socket.close(linger=0)


def test_a_consumer_that_is_done_gets_no_more_and_holds_up_nobody(edges: Edges) -> None:
    edge = edges(edges=2, slots=4)
    one, other = edge.joined(0), edge.joined(1)
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(0, 4))
    say(edge, one, Done([(0, 1)]))
    say(edge, other, Acknowledge([(0, 4)]))
    assert not edge.outlet.unwanted
    assert edge.outlet.room(4)
    assert edge.outlet.finished() == SlotSet([(0, 4)])
    edge.outlet.emit(frame(4, 4))
    edge.outlet.emit(Eos(8))
    assert spans(received(one, 2)) == ["Describe", (0, 4)]
    first, second = edge.outlet.account()
    assert (first["offered"], first["acknowledged"], first["dropped"], first["in_flight"]) == (4, 1, {"done": 3}, 0)
    assert (second["offered"], second["in_flight"]) == (8, 4)
    say(edge, other, Done([(0, 6)]))
    assert edge.outlet.unwanted
    assert edge.outlet.finished() is None
    say(edge, one, Acknowledge([(0, 2)], eos=True))
    assert not edge.outlet.flushed
    say(edge, other, Acknowledge([(0, 8)], eos=True))
    assert edge.outlet.flushed
    assert [account["dropped"] for account in edge.outlet.account()] == [{"done": 2}, {}]


@given(st.lists(st.sampled_from(["frame", "late", "filtered"]), max_size=20), st.integers(0, 45), st.booleans())
def test_the_account_balances_at_every_moment(kinds: list[str], acknowledged: int, done: bool) -> None:
    with opened() as edges:
        edge = edges()
        inlet = edge.joined()
        edge.outlet.describe(INFO)
        slot, kept, dropped = 0, 0, {}
        for kind in kinds:
            edge.outlet.emit(frame(slot, 2) if kind == "frame" else Gap(slot, 2, kind))
            for at in range(slot, slot + 2):
                if at < acknowledged:
                    kept += kind == "frame"
                    if kind != "frame":
                        dropped[kind] = dropped.get(kind, 0) + 1
            slot += 2
        acknowledged = min(acknowledged, slot)
        if acknowledged:
            ranges = [(0, acknowledged)]
            say(edge, inlet, Acknowledge(ranges))
            say(edge, inlet, Done(ranges) if done else Heartbeat(ranges))
            if done and slot > acknowledged:
                dropped["done"] = slot - acknowledged
        (account,) = edge.outlet.account()
        open_ = 0 if acknowledged and done else slot - acknowledged
        assert account["offered"] == slot
        assert (account["acknowledged"], account["dropped"], account["in_flight"]) == (kept, dropped, open_)


def test_gaps_that_are_acknowledged_take_no_memory(edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    edge.outlet.describe(INFO)
    for first in range(0, 200, 2):
        edge.outlet.emit(frame(first))
        edge.outlet.emit(Gap(first + 1, 1, "filtered"))
    say(edge, inlet, Acknowledge([(0, 191)]))
    assert len(edge.links[0].gaps) == 5
    assert edge.outlet.account()[0]["dropped"] == {"filtered": 95}


def test_what_everybody_has_finished_is_not_kept(edges: Edges) -> None:
    edge = edges(edges=2, slots=1000)
    one, other = edge.joined(0), edge.joined(1)
    edge.outlet.describe(INFO)
    kept = []
    for first in range(50):
        made = frame(first)
        kept.append(weakref.ref(made.arrays["x"]))
        edge.outlet.emit(made)
    del made
    say(edge, one, Acknowledge([(0, 50)]))
    assert all(array() is not None for array in kept)
    say(edge, other, Acknowledge([(0, 48)]))
    assert [array() is not None for array in kept] == [False] * 48 + [True] * 2


def test_an_endpoint_that_cannot_be_bound_is_told_with_the_stream(edges: Edges) -> None:
    outlet = Outlet(edges.context, "a.out", [], TOKEN)
    with pytest.raises(BindError, match=r"^a\.out: cannot bind ipc:///nowhere/at/all: "):
        outlet.bind("ipc:///nowhere/at/all", "inproc://tap")
    outlet.close()


class Now:
    """The monotonic clock, set by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ns = 10**12
        patch.setattr(transport.time, "monotonic_ns", lambda: self.ns)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    return Now(monkeypatch)


class Told(Inlet):
    """An inlet that writes down what it says."""

    def __init__(self, context: Any, slots: int) -> None:
        super().__init__(context, "a.out > b.in", TOKEN, slots=slots, nbytes=1 << 20)
        self.said: list[Any] = []

    def _say(self, message: Any) -> None:
        self.said.append(message)


@pytest.fixture
def told(edges: Edges) -> Told:
    inlet = Told(edges.context, 100)
    edges.sockets.append(inlet.socket)
    return inlet


def test_a_busy_consumer_acknowledges_at_a_quarter_of_the_window(told: Told, now: Now) -> None:
    told.finish(SlotSet([(0, 24)]))
    told.flush(idle=False)
    assert told.said == []
    told.finish(SlotSet([(0, 25)]))
    told.flush(idle=False)
    told.flush(idle=True)
    assert told.said == [Acknowledge([(0, 25)])]


@pytest.mark.parametrize("idle", [False, True])
def test_what_is_finished_is_acknowledged_after_two_milliseconds_at_the_latest(
    idle: bool, told: Told, now: Now
) -> None:
    told.finish(SlotSet([(0, 60)]))
    told.flush(idle=False)
    told.said.clear()
    told.finish(SlotSet([(0, 61)]))
    now.ns += 1_000_000
    told.finish(SlotSet([(0, 62)]))
    now.ns += 1_000_001
    told.flush(idle)
    assert told.said == [Acknowledge([(0, 62)])]
    assert not told.owes


def test_the_end_is_acknowledged_at_once_and_the_heartbeat_repeats_it(told: Told, now: Now) -> None:
    told.finish(SlotSet([(0, 3)]))
    told.flush(idle=True)
    told.said.clear()
    told.finish(SlotSet([(0, 3)]), eos=True)
    told.flush(idle=False)
    told.heartbeat()
    told.done()
    assert told.said == [Acknowledge([(0, 3)], eos=True), Heartbeat([(0, 3)], eos=True), Done([(0, 3)])]


def test_nothing_new_is_not_acknowledged_again(told: Told, now: Now) -> None:
    told.finish(SlotSet([(0, 50)]))
    told.flush(idle=True)
    for _ in range(5):
        now.ns += 10**9
        told.finish(SlotSet([(0, 50)]))
        told.flush(idle=True)
    assert told.said == [Acknowledge([(0, 50)])]
