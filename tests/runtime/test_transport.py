"""Both ends of an edge in one process; a raw socket plays whoever misbehaves."""

import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from beamslot_runs import until
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

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
from beamslot.runtime import End, report, transport
from beamslot.runtime.block import Block, In
from beamslot.runtime.core import Core, Input
from beamslot.runtime.place import END
from beamslot.runtime.slots import SlotSet
from beamslot.runtime.transport import Inlet, Link, Outlet, fitting

TOKEN = "a secret of the run"  # noqa: S105
INFO = StreamInfo({"x": Array.of("slot y", np.float32)}, {"y": 4})
PER_SLOT = 16

unhurried = settings(deadline=None)
"""Sockets take as long as the machine has other work."""


def frame(first: int, count: int = 1, y: int = 4) -> Frame:
    x = np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], y, axis=1)
    return Frame(first, count, {"x": x})


class Edge:
    """An outlet and its consumers, on sockets that live as long as the test."""

    numbers = itertools.count()

    def __init__(
        self,
        context: Any,
        *,
        edges: int = 1,
        slots: int = 100,
        nbytes: int = 1 << 20,
        least: int = 1,
        sparse: bool = False,
        **link: Any,
    ) -> None:
        self.context = context
        self.endpoint = f"inproc://edge{next(self.numbers)}"
        self.links = [Link(f"a.out > b{number}.in", slots, nbytes, least, **link) for number in range(edges)]
        self.outlet = Outlet(context, "a.out", self.links, TOKEN, sparse=sparse)
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
        self.until(lambda: self.links[number].peers[inlet.replica].identity is not None)
        return inlet

    def until(self, condition: Callable[[], Any]) -> Any:
        return until(lambda: (self.outlet.service(), condition())[1], 5)

    def close(self) -> None:
        for inlet in self.inlets:
            inlet.close(linger=0)
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


@unhurried
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
            begin = next(slot for slot in range(31) if slot not in known)
            assert {slot for span in edge.links[0].acknowledged for slot in range(*span)} == known
            assert (account["offered"], account["in_flight"]) == (30, 30 - begin)


@unhurried
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
    assert edge.links[0].acknowledged == SlotSet()
    assert edge.outlet.account()[0]["in_flight"] == 3


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
    second.socket.close(linger=0)
    second = Inlet(edges.context, edge.links[0].edge, TOKEN, slots=100, nbytes=1 << 20, epoch=1)
    second.finished = second._told = SlotSet([(0, 2), (3, 4)])
    edge.inlets.append(second)
    second.connect(edge.endpoint)
    items: list[Any] = []
    edge.until(lambda: (items.extend(second.receive()), second.ended)[1])
    assert spans(items)[-5:] == ["Describe", (2, 3), (4, 5), (5, 6), "Eos"]
    edge.outlet.service()
    assert edge.links[0].acknowledged == SlotSet([(0, 2), (3, 4)])


def test_a_consumer_that_finished_all_but_the_end_gets_the_end(edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(0, 4))
    edge.outlet.emit(Eos(4))
    say(edge, inlet, Acknowledge([(0, 4)]))
    assert not edge.outlet.flushed
    again = Inlet(edges.context, edge.links[0].edge, TOKEN, slots=100, nbytes=1 << 20)
    again.finished = again._told = SlotSet([(0, 4)])
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
    late.finished = late._told = SlotSet([(0, 3)])
    edge.inlets.append(late)
    late.connect(edge.endpoint)
    edge.until(lambda: edge.outlet.ready)
    items = received(late, 4)
    assert spans(items) == ["Describe", (2, 4), "Describe", (4, 6)]
    assert [item.info.carrier for item in items if isinstance(item, Describe)] == [1, 2]


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
    until(lambda: (outlet.emit(frame(next(slots))), link.identity is None)[1])
    assert outlet.ready  # it has been there: nobody waits for it to begin
    back = Inlet(edges.context, "a.out > b.in", TOKEN, slots=100, nbytes=1 << 20, epoch=1)
    back.connect(endpoint)
    until(lambda: (outlet.service(), link.identity is not None)[1])
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
    say(edge, one, Done([(0, 1), (1, END)]))
    say(edge, other, Acknowledge([(0, 4)]))
    assert not edge.outlet.unwanted
    assert edge.outlet.room(4)
    assert edge.outlet.finished() == SlotSet([(0, 4)])
    edge.outlet.emit(frame(4, 4))
    edge.outlet.emit(Eos(8))
    assert spans(received(one, 2)) == ["Describe", (0, 4)]
    first, second = edge.outlet.account()
    assert (first["offered"], first["in_flight"], first["done"]) == (4, 0, True)
    assert (second["offered"], second["in_flight"], second["done"]) == (8, 4, False)
    say(edge, other, Done([(0, 6), (6, END)]))
    assert edge.outlet.unwanted
    say(edge, one, Acknowledge([(0, 2)], eos=True))
    assert not edge.outlet.flushed
    say(edge, other, Acknowledge([(0, 8)], eos=True))
    assert edge.outlet.flushed
    assert edge.outlet.finished() is None
    assert [account["in_flight"] for account in edge.outlet.account()] == [0, 0]


class Eater(Block):
    """A sink that wants no more after some slots."""

    x = In("slot y", np.float32)

    wanted: int = Field(1000)

    def process(self, x: Any, slots: range) -> Any:
        return End() if slots.stop >= self.wanted else None


@unhurried
@given(st.lists(st.sampled_from(["frame", "late", "filtered"]), max_size=20), st.integers(1, 45), st.data())
def test_the_account_balances_at_every_moment(kinds: list[str], wanted: int, data: st.DataObject) -> None:
    block = Eater(wanted=wanted)
    core = Core(block, [Input(block.inputs["x"], "a.out", "a.out > b0.in")])
    finished = 0
    with opened() as edges:
        edge = edges()
        inlet = edge.joined()
        edge.outlet.describe(INFO)
        for number, kind in enumerate(kinds):
            edge.outlet.emit(frame(2 * number, 2) if kind == "frame" else Gap(2 * number, 2, kind))
            offered = 2 * number + 2
            if data.draw(st.booleans()):
                work_off(core, inlet, offered)
                say(edge, inlet, Acknowledge(core.told(0).ranges()))
                finished = core.cut_at if core.cut else offered
            if core.cut:
                inlet.done(core.cut_at)
                edge.until(lambda: edge.links[0].done)
            known = Counter(kinds[slot // 2] for slot in range(finished))
            if core.cut:
                known["done"] = offered - finished
            account = report._account(edge.links[0].account(), core.account(0))
            assert account["offered"] == offered
            assert +Counter({"frame": account["acknowledged"], **account["dropped"]}) == +known
            assert account["in_flight"] == (0 if core.cut else offered - finished)
            if core.cut:
                break


def work_off(core: Core, inlet: Inlet, offered: int) -> None:
    """Let a sink have all that was offered, and note that it is finished."""
    came = 0
    while came < offered:
        for item in until(inlet.receive, 5):
            core.feed(0, item)
            came = item.end if isinstance(item, Frame | Gap) else came
    while not core.ended and core.step():
        pass
    core.settle(None)


def test_gaps_that_are_acknowledged_take_no_memory(edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    edge.outlet.describe(INFO)
    for first in range(0, 200, 2):
        edge.outlet.emit(frame(first))
        edge.outlet.emit(Gap(first + 1, 1, "filtered"))
    say(edge, inlet, Acknowledge([(0, 191)]))
    assert len(edge.links[0].flying) == 9
    assert edge.outlet.account()[0]["in_flight"] == 9


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
    told.done(7)
    assert told.said == [Acknowledge([(0, 3)], eos=True), Heartbeat([(0, 3)], eos=True), Done([(0, 3), (7, END)])]


def test_nothing_new_is_not_acknowledged_again(told: Told, now: Now) -> None:
    told.finish(SlotSet([(0, 50)]))
    told.flush(idle=True)
    for _ in range(5):
        now.ns += 10**9
        told.finish(SlotSet([(0, 50)]))
        told.flush(idle=True)
    assert told.said == [Acknowledge([(0, 50)])]


# lossy edges

POLICIES = ("drop_oldest", "drop_newest", "latest")


def reasons_of(items: list[Any]) -> list[tuple[int, str]]:
    """Slot by slot, the reason of its gap, empty where it came as data."""
    return [
        (slot, item.reason if isinstance(item, Gap) else "")
        for item in items
        if isinstance(item, Frame | Gap)
        for slot in range(item.first, item.end)
    ]


class LossyModel:
    """A queue as the policies describe it: frames as ranges, and what became of each that left it."""

    def __init__(self, policy: str, most: int) -> None:
        self.policy, self.most = policy, 0 if policy == "latest" else most
        self.queue: list[tuple[range, str]] = []
        self.left: list[tuple[int, str]] = []
        self.credit, self.sent = 1, 0

    def offer(self, slots: range, reason: str) -> None:
        self.queue.append((slots, reason))
        self.send()
        while not reason and sum(len(slots) for slots, why in self.queue if not why) > self.most:
            frames = [at for at, (_, why) in enumerate(self.queue) if not why]
            if len(frames) == 1:
                break
            at = frames[-1 if self.policy == "drop_newest" else 0]
            self.queue[at] = (self.queue[at][0], self.policy)

    def allow(self, credit: int) -> None:
        self.credit = max(self.credit, credit)
        self.send()

    def send(self) -> None:
        while self.queue and self.sent < self.credit:
            slots, reason = self.queue.pop(0)
            self.sent += 0 if reason else len(slots)
            self.left += [(slot, reason) for slot in slots]


@pytest.mark.parametrize("policy", POLICIES)
@unhurried
@given(data=st.data())
def test_a_lossy_edge_gives_every_slot_once_in_order_as_data_or_as_a_gap_that_says_why(
    policy: str, data: st.DataObject
) -> None:
    most = data.draw(st.integers(1, 8))
    model = LossyModel(policy, most)
    with opened() as edges:
        edge = edges(slots=most, policy=policy)
        inlet = edge.joined()
        edge.outlet.describe(INFO)
        link, slot, credit = edge.links[0], 0, 1
        for _ in range(data.draw(st.integers(1, 25))):
            act = data.draw(st.sampled_from(["frame", "frame", "frame", "late", "filtered", "credit"]))
            count = data.draw(st.integers(1, 3))
            if act == "credit":
                credit += count
                model.allow(credit)
                say(edge, inlet, Acknowledge([(0, slot)] if slot else [], credit=credit))
                continue
            edge.outlet.emit(frame(slot, count) if act == "frame" else Gap(slot, count, act))
            model.offer(range(slot, slot + count), "" if act == "frame" else act)
            slot += count
            waiting = [entry.end - entry.first for entry in link.pending if entry.is_data]
            assert sum(waiting) == link.waiting
            assert sum(waiting) <= most or len(waiting) == 1
            assert edge.outlet.room(10**6)
        edge.outlet.emit(Eos(slot))
        model.allow(10**6)
        say(edge, inlet, Acknowledge([], credit=10**6))
        items: list[Any] = []
        until(lambda: (items.extend(inlet.receive()), inlet.ended)[1], 5)
        assert [at for at, _ in reasons_of(items)] == list(range(slot))
        assert reasons_of(items) == model.left
        assert (link.offered, link.waiting, len(link.pending)) == (slot, 0, 0)
        assert edge.outlet.finished() is None


@pytest.mark.parametrize(
    ("policy", "came"),
    [
        ("drop_oldest", [(0, ""), *((slot, "drop_oldest") for slot in range(1, 8)), (8, ""), (9, "")]),
        ("drop_newest", [(0, ""), (1, ""), (2, ""), *((slot, "drop_newest") for slot in range(3, 10))]),
        ("latest", [(0, ""), *((slot, "latest") for slot in range(1, 9)), (9, "")]),
    ],
)
def test_a_full_queue_keeps_the_newest_the_oldest_or_the_last(policy: str, came: Any, edges: Edges) -> None:
    edge = edges(slots=2, policy=policy)
    inlet = edge.joined(allowance=1)
    edge.outlet.describe(INFO)
    for slot in range(10):
        edge.outlet.emit(frame(slot))
    edge.outlet.emit(Eos(10))
    items: list[Any] = []
    edge.until(lambda: (items.extend(inlet.receive()), inlet.offer(0), inlet.ended)[2])
    assert reasons_of(items) == came


@pytest.mark.parametrize("policy", POLICIES)
def test_a_lossy_consumer_that_never_asks_takes_no_memory_however_long_that_lasts(policy: str, edges: Edges) -> None:
    edge = edges(slots=5, policy=policy)
    edge.joined()
    edge.outlet.describe(INFO)
    kept: list[Any] = []
    for slot in range(0, 4000, 2):
        made = frame(slot)
        kept.append(weakref.ref(made.arrays["x"]))
        edge.outlet.emit(made)
        edge.outlet.emit(Gap(slot + 1, 1, "filtered"))
    del made
    assert len(edge.links[0].pending) <= transport.MOST_PENDING + 20
    assert sum(array() is not None for array in kept) <= 7


def test_a_lossy_edge_stands_in_nobody_s_way(edges: Edges) -> None:
    edge = edges(edges=2, slots=4)
    lossless, lossy = edge.links
    edge.links[1] = lossy = Link(lossy.edge, 4, 1 << 20, 1, "latest")
    edge.outlet.links[1] = lossy
    inlet = edge.joined(0)
    edge.joined(1)
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(0, 4))
    assert not edge.outlet.room(1)
    say(edge, inlet, Acknowledge([(0, 4)]))
    assert edge.outlet.room(4)
    assert edge.outlet.finished() == SlotSet([(0, 4)])
    assert (lossless.in_flight, lossy.in_flight) == (0, 4)


def test_slots_that_are_not_made_again_for_a_lossy_edge_are_a_gap_there(edges: Edges) -> None:
    edge = edges(policy="latest", begin=3)
    edge.outlet.next_slot = 8
    inlet = edge.joined(begin=3)
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(6, 4))
    edge.outlet.emit(Eos(10))
    say(edge, inlet, Acknowledge([(0, 3)], credit=100))
    items: list[Any] = []
    until(lambda: (items.extend(inlet.receive()), inlet.ended)[1], 5)
    assert reasons_of(items) == [*((slot, "latest") for slot in range(3, 8)), (8, ""), (9, "")]


# edges that replicas share


def shared(edges: Edges, replicas: int, **options: Any) -> tuple[Edge, list[Inlet]]:
    edge = edges(replicas=replicas, **options)
    inlets = [edge.joined(replica=number, allowance=2) for number in range(replicas)]
    edge.outlet.describe(INFO)
    return edge, inlets


def test_of_replicas_each_slot_goes_to_one_and_the_description_and_the_end_to_all(edges: Edges) -> None:
    edge, inlets = shared(edges, 3)
    for slot in range(20):
        edge.outlet.emit(frame(slot) if slot % 5 else Gap(slot, 1, "late"))
    edge.outlet.emit(Eos(20))
    items: list[list[Any]] = [[] for _ in inlets]
    edge.until(
        lambda: (
            [(got.extend(inlet.receive()), inlet.offer(0)) for got, inlet in zip(items, inlets, strict=True)]
            and all(inlet.ended for inlet in inlets)
        )
    )
    assert [(spans(got)[0], spans(got)[-1]) for got in items] == [("Describe", "Eos")] * 3
    taken = [[slot for slot, _ in reasons_of(got)] for got in items]
    assert sorted(slot for slots in taken for slot in slots) == list(range(20))
    assert all(slots == sorted(slots) and slots for slots in taken)


def test_a_replica_that_does_not_ask_gets_no_more_and_the_others_go_on(edges: Edges) -> None:
    edge, (quick, slow) = shared(edges, 2)
    for slot in range(12):
        edge.outlet.emit(frame(slot))
    got: list[Any] = []
    edge.until(lambda: (got.extend(quick.receive()), quick.offer(0), not edge.links[0].pending)[2])
    held: list[Any] = []
    until(lambda: (got.extend(quick.receive()), held.extend(slow.receive()), len(reasons_of(got + held)) == 12)[2], 5)
    assert len(reasons_of(held)) <= 2
    assert sorted(reasons_of(got + held)) == [(slot, "") for slot in range(12)]


def test_of_a_shared_edge_that_is_acknowledged_which_all_have_noted(edges: Edges) -> None:
    edge, (one, other) = shared(edges, 2, slots=10)
    for slot in range(10):
        edge.outlet.emit(frame(slot))
    assert not edge.outlet.room(1)
    say(edge, one, Acknowledge([(0, 10)], credit=9))
    assert (edge.outlet.finished(), edge.links[0].in_flight) == (SlotSet(), 10)
    say(edge, other, Heartbeat([(0, 4)], credit=9))
    assert (edge.outlet.finished(), edge.links[0].in_flight) == (SlotSet([(0, 4)]), 6)
    assert edge.outlet.room(4)
    assert not edge.outlet.room(5)
    edge.outlet.tell_replicas()
    until(lambda: (one.receive(), other.receive(), (one.shared, other.shared) == (4, 4))[2], 5)
    say(edge, one, Acknowledge([(0, 10)], eos=True, credit=9))
    edge.outlet.emit(Eos(10))
    assert not edge.outlet.flushed
    say(edge, other, Acknowledge([(0, 10)], eos=True, credit=9))
    assert edge.outlet.flushed


@pytest.mark.parametrize("replica", [2, 7])
def test_a_replica_that_there_is_not_is_refused(replica: int, edges: Edges) -> None:
    edge, _ = shared(edges, 2)
    edge.inlet(replica=replica)
    edge.until(lambda: edge.outlet.refused)
    assert edge.outlet.ready


class Producers:
    """Several processes of one producer, each with a part of the stream, and the consumer that puts it together."""

    def __init__(self, edges: Edges, count: int, **options: Any) -> None:
        self.parts = [edges(sparse=True) for _ in range(count)]
        self.inlet = Inlet(edges.context, "a.out > b0.in", TOKEN, slots=100, nbytes=1 << 20, producers=count, **options)
        self.parts[0].inlets.append(self.inlet)
        self.inlet.connect(*(part.endpoint for part in self.parts))
        self.until(lambda: all(part.outlet.ready for part in self.parts))
        for part in self.parts:
            part.outlet.describe(INFO)

    def until(self, condition: Callable[[], Any]) -> None:
        until(lambda: ([part.outlet.service() for part in self.parts], condition())[1], 5)

    def read(self) -> list[Any]:
        """What comes until nothing is left to be read."""
        items: list[Any] = []
        until(lambda: (items.extend(self.inlet.receive()), not any(w.socket.poll(1) for w in self.inlet.wires))[1], 5)
        return items


@unhurried
@given(
    st.integers(2, 3), st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.booleans()), max_size=20), st.data()
)
def test_what_several_processes_send_is_put_in_order(
    count: int, made: list[tuple[int, int, bool]], data: st.DataObject
) -> None:
    with opened() as edges:
        producers = Producers(edges, count)
        queues: list[list[Any]] = [[] for _ in range(count)]
        slot, meant = 0, []
        for who, slots, is_gap in made:
            queues[who % count].append(Gap(slot, slots, "late") if is_gap else frame(slot, slots))
            meant += [(at, "late" if is_gap else "") for at in range(slot, slot + slots)]
            slot += slots
        for queue in queues:
            queue.append(Eos(slot))
        items: list[Any] = []
        while any(queues):
            who = data.draw(st.sampled_from([number for number, queue in enumerate(queues) if queue]))
            producers.parts[who].outlet.emit(queues[who].pop(0))
            items += producers.inlet.receive()
        until(lambda: (items.extend(producers.inlet.receive()), producers.inlet.ended)[1], 5)
        assert reasons_of(items) == meant
        assert (spans(items)[0], spans(items)[-1]) == ("Describe", "Eos")
        assert len(spans(items)) == len(made) + 2


def test_what_no_process_sends_is_noticed_when_all_are_further(edges: Edges) -> None:
    producers = Producers(edges, 2, begin=3)
    one, other = (part.outlet for part in producers.parts)
    one.emit(frame(3))
    one.emit(frame(5))
    assert spans(producers.read()) == ["Describe", (3, 4)]
    other.emit(frame(6))
    assert spans(producers.read()) == [(5, 6), (6, 7)]
    one.emit(frame(9))
    assert spans(producers.read()) == []
    other.emit(Eos(10))
    assert spans(producers.read()) == [(9, 10), "Eos"]


def test_every_process_of_a_producer_is_told_what_is_finished(edges: Edges) -> None:
    producers = Producers(edges, 3)
    for number, part in enumerate(producers.parts):
        part.outlet.emit(frame(number))
    assert spans(producers.read())[1:] == [(0, 1), (1, 2), (2, 3)]
    producers.inlet.finish(SlotSet([(0, 3)]))
    producers.inlet.tell()
    producers.until(lambda: all(part.outlet.finished() == SlotSet([(0, 3)]) for part in producers.parts))
    assert [part.links[0].in_flight for part in producers.parts] == [0, 0, 0]
    assert [part.outlet.refused for part in producers.parts] == [0, 0, 0]


# connections that break


@unhurried
@given(cuts=st.sets(st.integers(0, 14)), told=st.sets(st.integers(0, 14)), read=st.sets(st.integers(0, 14)))
def test_over_connections_that_break_every_slot_comes_once_and_in_order(
    cuts: set[int], told: set[int], read: set[int]
) -> None:
    with opened() as edges:
        edge = edges()
        inlet = edge.joined()
        edge.outlet.describe(INFO)
        items: list[Any] = []
        for number in range(15):
            edge.outlet.emit(frame(2 * number, 2))
            edge.outlet.service()
            if number in read:
                items += inlet.receive()
            if number in told:
                inlet.finish(SlotSet([(0, end)] if (end := inlet.next_slot or 0) else []))
                inlet.tell()
            if number in cuts:
                inlet.cut()
        edge.outlet.emit(Eos(30))
        edge.until(lambda: (items.extend(inlet.receive()), inlet.ended)[1])
        assert reasons_of(items) == [(slot, "") for slot in range(30)]
        inlet.finish(SlotSet([(0, 30)]), eos=True)
        inlet.tell()
        edge.until(lambda: edge.outlet.flushed)


def test_a_connection_that_breaks_costs_what_was_not_acknowledged_once_more(edges: Edges) -> None:
    edge = edges()
    inlet = edge.joined()
    edge.outlet.describe(INFO)
    for slot in range(6):
        edge.outlet.emit(frame(slot))
    received(inlet, 7)
    inlet.finish(SlotSet([(0, 4)]))
    inlet.tell()
    inlet.cut()
    before = edge.links[0].identity
    edge.until(lambda: edge.links[0].identity != before)
    edge.outlet.emit(frame(6))
    items: list[Any] = []
    until(lambda: (items.extend(inlet.receive()), inlet.next_slot == 7)[1], 5)
    assert [span for span in spans(items) if span != "Describe"] == [(6, 7)]
    assert (edge.outlet.account()[0]["redelivered"], edge.outlet.account()[0]["offered"]) == (2, 7)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_lossy_edge_says_of_every_slot_what_became_of_it_though_its_connection_breaks(
    policy: str, edges: Edges
) -> None:
    edge = edges(slots=3, policy=policy)
    inlet = edge.joined(allowance=1)
    edge.outlet.describe(INFO)
    items: list[Any] = []
    for slot in range(40):
        edge.outlet.emit(frame(slot))
        edge.outlet.service()
        items += inlet.receive()
        inlet.offer(0)
        if slot % 7 == 3:
            inlet.cut()
    edge.outlet.emit(Eos(40))
    edge.until(lambda: (items.extend(inlet.receive()), inlet.offer(0), inlet.ended)[2])
    told = reasons_of(items)
    assert [slot for slot, _ in told] == list(range(40))
    assert {reason for _, reason in told} <= {"", policy}


def test_replicas_whose_connections_break_get_their_own_slots_again(edges: Edges) -> None:
    edge, inlets = shared(edges, 2)
    items: list[list[Any]] = [[], []]

    def turn() -> None:
        for got, inlet in zip(items, inlets, strict=True):
            got.extend(inlet.receive())
            inlet.offer(0)

    for slot in range(40):
        edge.outlet.emit(frame(slot))
        edge.outlet.service()
        turn()
        if slot % 9 == 4:
            inlets[slot % 2].cut()
    edge.outlet.emit(Eos(40))
    edge.until(lambda: (turn(), all(inlet.ended for inlet in inlets))[1])
    taken = [[slot for slot, _ in reasons_of(got)] for got in items]
    assert all(slots == sorted(slots) for slots in taken)
    assert sorted(slot for slots in taken for slot in slots) == list(range(40))


def test_a_consumer_of_several_processes_whose_connections_break_still_has_order(edges: Edges) -> None:
    producers = Producers(edges, 2)
    items: list[Any] = []
    for slot in range(30):
        producers.parts[slot % 3 % 2].outlet.emit(frame(slot))
        for part in producers.parts:
            part.outlet.service()
        items += producers.inlet.receive()
        if slot % 8 == 5:
            producers.inlet.cut()
    for part in producers.parts:
        part.outlet.emit(Eos(30))
    producers.until(lambda: (items.extend(producers.inlet.receive()), producers.inlet.ended)[1])
    assert reasons_of(items) == [(slot, "") for slot in range(30)]


def test_an_outlet_that_goes_on_later_passes_over_what_is_finished(edges: Edges) -> None:
    edge = edges(begin=5)
    edge.outlet.next_slot = 5
    inlet = edge.joined(begin=5)
    edge.outlet.describe(INFO)
    for first in range(0, 12, 3):
        edge.outlet.emit(frame(first, 3))
    items = received(inlet, 4)
    assert spans(items) == ["Describe", (5, 6), (6, 9), (9, 12)]
    assert items[1].arrays["x"][:, 0].tolist() == [5]
    assert (edge.links[0].offered, edge.links[0].in_flight) == (7, 7)


def test_a_consumer_that_is_over_is_neither_waited_for_nor_sent_anything(edges: Edges) -> None:
    edge = edges(over=True)
    assert edge.outlet.ready
    edge.outlet.describe(INFO)
    edge.outlet.emit(frame(0, 3))
    edge.outlet.emit(Eos(3))
    assert edge.outlet.flushed
    assert edge.outlet.unwanted
    assert edge.outlet.account()[0] == {
        "edge": edge.links[0].edge, "policy": "block", "offered": 3, "in_flight": 0, "done": True, "redelivered": 0,
    }  # fmt: skip
    edge.inlet()
    edge.until(lambda: edge.outlet.refused)


def test_a_consumer_that_needs_nothing_any_more_is_not_waited_for(edges: Edges) -> None:
    finished = Link("a.out > b.in", 100, 1 << 20, 1, begin=END)
    assert finished.ready
    waited_for = Link("a.out > b.in", 100, 1 << 20, 1)
    assert not waited_for.ready
