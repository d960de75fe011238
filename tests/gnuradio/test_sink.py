"""The sink against plain ZeroMQ sockets: every kind, whoever binds, tags in place, nothing that kills GNU Radio."""

import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from beamslot_gnuradio import rf_info, samples
from beamslot_runs import until
from pydantic import ValidationError

from beamslot.errors import PortMismatch
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.gnuradio.pmt import Pair, read_whole
from beamslot.gnuradio.tags import Tag, read_message
from beamslot.runtime import RunContext
from beamslot.runtime.core import Core, Input
from beamslot.sinks.gnuradio_sink import GnuradioSink

USERS, VLEN = 2, 6
INFO = rf_info(USERS, 2, 3)
DATA = samples(60, VLEN)


class Speaking:
    """A sink of ours at work in a thread, as its process works it."""

    def __init__(self, **parameters: Any) -> None:
        self.told: list[str] = []
        self.block = GnuradioSink(**parameters)
        self.block.join_run(RunContext("radio", 0, 1e-3, self.told.append))
        self.core = Core(self.block, [Input(self.block.inputs["stream"], "front.rf", "front.rf > radio.stream")])
        self.feed(Describe("front.rf", INFO))
        self.turn()
        self._thread: threading.Thread | None = None

    def feed(self, *items: Any) -> "Speaking":
        for item in items:
            self.core.feed(0, item)
        return self

    def turn(self) -> None:
        while not self.core.ended and self.core.step() is not None:
            pass

    def begin(self) -> "Speaking":
        self._thread = threading.Thread(target=self.turn)
        self._thread.start()
        return self

    def finish(self) -> None:
        if self._thread is not None:
            self._thread.join(10)
            assert not self._thread.is_alive()
            self._thread = None


@pytest.fixture
def speaking() -> Iterator[Any]:
    made: list[Speaking] = []

    def make(**parameters: Any) -> Speaking:
        made.append(Speaking(**parameters))
        return made[-1]

    yield make
    for one in made:
        one.block.wait = False
        one.finish()
        one.block.stop()


def frame(first: int, count: int) -> Frame:
    rf = DATA[USERS * first : USERS * (first + count)].reshape(count, USERS, 2, 3)
    return Frame(first, count, {"rf": rf})


def received(socket: Any, items: int, tagged: bool = False, keyed: bool = False) -> tuple[np.ndarray, list[Tag], int]:
    """Take messages until there are so many items; return them, the tags, and how many messages it were."""
    found: list[np.ndarray] = []
    tags: list[Tag] = []
    while sum(map(len, found)) < items:
        chunk = read_message(socket.recv_multipart(), VLEN, tagged=tagged, keyed=keyed)
        assert chunk.offset in (None, sum(map(len, found)))
        found.append(chunk.items)
        tags += chunk.tags
    return np.concatenate(found), tags, len(found)


@pytest.mark.parametrize("bind", [True, False])
@pytest.mark.parametrize(("ours", "theirs"), [("push", zmq.PULL), ("pub", zmq.SUB)])
@pytest.mark.parametrize("tags", [True, False])
def test_slots_go_out_as_items_whoever_binds(
    ours: str, theirs: int, bind: bool, tags: bool, endpoint: str, raw: Any, speaking: Any
) -> None:
    subscribed = {"SUBSCRIBE": b"K"} if ours == "pub" else {}
    if not bind:
        socket = raw(theirs, bind=endpoint, **subscribed)
    key = {"key": "K"} if ours == "pub" else {}
    radio = speaking(socket=ours, tags=tags, **key, **{"bind" if bind else "connect": endpoint})
    radio.feed(frame(0, 4), frame(4, 6), Eos(10)).begin()
    if bind:
        socket = raw(theirs, connect=endpoint, **subscribed)
    items, found, messages = received(socket, 20, tags, bool(key))
    radio.finish()
    np.testing.assert_array_equal(items, DATA[:20])
    assert messages == 2
    assert radio.block.results() == {"slots": 10, "missed": 0, "unheard": 0}
    if tags:
        slots = [Tag(USERS * slot, "slot", slot) for slot in range(10)]
        clock = [Tag(0, "rx_time", (0, 0.0)), Tag(0, "rx_rate", 2000.0), Tag(0, "rx_freq", 28e9)]
        assert sorted(found, key=lambda tag: tag.offset) == [slots[0], *clock, *slots[1:]]


def test_behind_a_gap_the_tags_tell_the_time_and_nothing_is_filled(endpoint: str, raw: Any, speaking: Any) -> None:
    radio = speaking(tags=True, bind=endpoint, epoch=5.0)
    socket = raw(zmq.PULL, connect=endpoint)
    radio.feed(frame(0, 2), Gap(2, 1500, "lost"), Frame(1502, 1, frame(2, 1).arrays), Eos(1503)).begin()
    items, tags, _ = received(socket, 6, True)
    np.testing.assert_array_equal(items, DATA[:6])
    assert [(tag.offset, tag.value) for tag in tags if tag.key == "slot"] == [(0, 0), (2, 1), (4, 1502)]
    times = [(tag.offset, tag.value) for tag in tags if tag.key == "rx_time"]
    assert [(at, full) for at, (full, _) in times] == [(0, 5), (4, 6)]
    assert times[1][1][1] == pytest.approx(0.502)


def test_without_tags_zeros_stand_for_slots_that_did_not_come(endpoint: str, raw: Any, speaking: Any) -> None:
    radio = speaking(bind=endpoint)
    socket = raw(zmq.PULL, connect=endpoint)
    radio.feed(frame(0, 2), Gap(2, 3, "lost"), frame(5, 1), Eos(6)).begin()
    items, _, _ = received(socket, 12)
    radio.finish()
    np.testing.assert_array_equal(items, np.concatenate([DATA[:4], np.zeros((6, VLEN)), DATA[10:12]]))
    assert radio.block.results() == {"slots": 3, "missed": 3, "unheard": 0}


@pytest.mark.parametrize("request_", [struct.pack("=I", 7), b"\xff"])
@pytest.mark.parametrize("tags", [True, False])
def test_a_request_gets_as_many_items_as_it_asks_for_or_all(
    request_: bytes, tags: bool, endpoint: str, raw: Any, speaking: Any
) -> None:
    radio = speaking(socket="rep", tags=tags, bind=endpoint)
    socket = raw(zmq.REQ, connect=endpoint)
    radio.feed(frame(0, 10), Eos(10)).begin()
    sizes: list[int] = []
    found: list[np.ndarray] = []
    slots: list[int] = []
    while sum(sizes) < 20:
        socket.send(request_)
        chunk = read_message(socket.recv_multipart(), VLEN, tagged=tags)
        found.append(chunk.items)
        sizes.append(len(chunk.items))
        slots += [tag.value for tag in chunk.tags if tag.key == "slot"]
    assert sizes == ([7, 7, 6] if len(request_) == 4 else [20])
    np.testing.assert_array_equal(np.concatenate(found), DATA[:20])
    assert slots == (list(range(10)) if tags else [])


def test_a_peer_that_dies_with_its_request_does_not_hold_up_the_next(endpoint: str, raw: Any, speaking: Any) -> None:
    radio = speaking(socket="rep", bind=endpoint)
    dead = raw(zmq.REQ, connect=endpoint)
    dead.send(b"\xff")
    until(lambda: radio.block._room(0) or True)
    until(lambda: radio.block._mouth.room(5))
    dead.close()
    until(lambda: not (radio.block._mouth.news() or radio.block._mouth.joined))
    socket = raw(zmq.REQ, connect=endpoint)
    radio.feed(frame(0, 3), Eos(3)).begin()
    socket.send(b"\xff")
    np.testing.assert_array_equal(read_message(socket.recv_multipart(), VLEN, tagged=False).items, DATA[:6])


def test_messages_are_pdus_with_slot_and_clock(endpoint: str, raw: Any, speaking: Any) -> None:
    radio = speaking(messages=True, bind=endpoint)
    socket = raw(zmq.PULL, connect=endpoint)
    radio.feed(frame(0, 1), Gap(1, 2, "lost"), frame(3, 2), Eos(5)).begin()
    pdus = [read_whole(socket.recv()) for _ in range(3)]
    assert all(isinstance(pdu, Pair) for pdu in pdus)
    assert [pdu.car["slot"] for pdu in pdus] == [0, 3, 4]
    assert [sorted(pdu.car) for pdu in pdus] == [["rx_freq", "rx_rate", "rx_time", "slot"]] * 2 + [["slot"]]
    np.testing.assert_array_equal(pdus[1].cdr, DATA[6:8].reshape(-1))


@pytest.mark.parametrize("socket", ["push", "pub", "rep"])
@pytest.mark.parametrize("messages", [True, False])
def test_slots_that_nobody_takes_are_passed_over_and_counted_where_nothing_waits(
    socket: str, messages: bool, endpoint: str, speaking: Any
) -> None:
    radio = speaking(socket=socket, messages=messages, wait=False, bind=endpoint)
    radio.feed(frame(0, 4), frame(4, 2), Eos(6))
    radio.turn()
    assert radio.block.results() == {"slots": 6, "missed": 0, "unheard": 6}
    assert radio.told == []


@pytest.mark.parametrize("messages", [True, False])
def test_who_comes_late_is_told_the_time_of_the_first_slot(
    messages: bool, endpoint: str, raw: Any, speaking: Any
) -> None:
    radio = speaking(bind=endpoint, wait=False, tags=not messages, messages=messages)
    radio.feed(frame(0, 3))
    radio.turn()
    socket = raw(zmq.PULL, connect=endpoint)
    until(lambda: radio.block._mouth.room(5))
    radio.feed(frame(3, 1), Eos(4))
    radio.turn()
    parts = socket.recv_multipart()
    if messages:
        told = read_whole(parts[0]).car
    else:
        told = {tag.key: tag.value for tag in read_message(parts, VLEN, tagged=True).tags}
    assert (told["slot"], told["rx_time"]) == (3, (0, pytest.approx(3e-3)))
    assert radio.block.results() == {"slots": 4, "missed": 0, "unheard": 3}


def test_slots_wait_for_somebody_and_people_are_told(endpoint: str, raw: Any, speaking: Any) -> None:
    radio = speaking(bind=endpoint, silence=0.05)
    radio.feed(frame(0, 2), Eos(2)).begin()
    until(lambda: radio.told)
    socket = raw(zmq.PULL, connect=endpoint)
    np.testing.assert_array_equal(received(socket, 4)[0], DATA[:4])
    assert radio.told == [f"radio: nobody takes samples at {endpoint} for 0.05 s, at slot 0"]


def test_a_parameter_that_changes_leaves_link_and_tags_as_they_are(endpoint: str, raw: Any, speaking: Any) -> None:
    radio = speaking(bind=endpoint, tags=True)
    socket = raw(zmq.PULL, connect=endpoint)
    radio.feed(frame(0, 2)).begin()
    received(socket, 4, True)
    radio.finish()
    radio.block.silence = 60.0
    radio.core.start()  # as the runtime does after such a change
    radio.feed(frame(2, 1), Eos(3)).begin()
    chunk = read_message(socket.recv_multipart(), VLEN, tagged=True)
    assert [(tag.offset, tag.key, tag.value) for tag in chunk.tags] == [(4, "slot", 2)]


def test_a_peer_that_is_killed_is_told_and_the_next_goes_on(endpoint: str, raw: Any, speaking: Any) -> None:
    radio = speaking(bind=endpoint, tags=True)
    first = raw(zmq.PULL, connect=endpoint)
    radio.feed(frame(0, 2)).begin()
    received(first, 4, True)
    radio.finish()
    first.close()
    until(lambda: not radio.block._mouth._line.events() & zmq.POLLOUT)  # else ZeroMQ may still take slots for it
    radio.feed(frame(2, 2)).begin()
    until(lambda: radio.told)
    second = raw(zmq.PULL, connect=endpoint)
    chunk = read_message(second.recv_multipart(), VLEN, tagged=True)
    assert (chunk.offset, [tag.value for tag in chunk.tags if tag.key == "slot"]) == (4, [2, 3])
    radio.finish()
    radio.feed(frame(4, 1), Eos(5)).begin()
    radio.finish()
    gone, back = radio.told
    assert gone == f"radio: GNU Radio at {endpoint} has gone, at slot 2; waiting for it to come back"
    assert back.startswith(f"radio: GNU Radio at {endpoint} is back, at slot ")


def test_it_is_put_back_where_its_stream_was(endpoint: str, raw: Any, speaking: Any) -> None:
    radio = speaking(bind=endpoint, tags=True)
    socket = raw(zmq.PULL, connect=endpoint)
    radio.feed(frame(0, 3), Gap(3, 1, "lost")).begin()
    received(socket, 6, True)
    radio.finish()
    state = radio.block.snapshot()
    again = speaking(bind=f"{endpoint}.2", tags=True)
    again.block.restore(state)
    other = raw(zmq.PULL, connect=f"{endpoint}.2")
    again.feed(frame(4, 1), Eos(5)).begin()
    chunk = read_message(other.recv_multipart(), VLEN, tagged=True)
    assert chunk.offset == 6
    assert {tag.key for tag in chunk.tags} == {"slot", "rx_time", "rx_rate", "rx_freq"}
    again.finish()
    assert again.block.results() == {"slots": 4, "missed": 1, "unheard": 0}


@pytest.mark.parametrize(
    ("arrays", "array", "text"),
    [
        ({"x": "slot y:<f4"}, "", "wanted one array of complex64, a slot an entry; there is x [slot y] float32 [1]"),
        ({"a": "slot y:<c8", "b": "slot y:<c8"}, "", "wanted one array of complex64"),
        ({"a": "slot y:<c8", "b": "slot y:<f4"}, "b", "wanted array 'b' of complex64"),
        ({"a": "y:<c8"}, "", "there is a [y] complex64 [1]"),
    ],
)
def test_a_stream_without_such_an_array_is_refused(arrays: Any, array: str, text: str, endpoint: str) -> None:
    made = {name: Array.of(*spec.split(":")) for name, spec in arrays.items()}
    block = GnuradioSink(bind=endpoint, array=array)
    with pytest.raises(PortMismatch) as caught:
        block.start(StreamInfo(made, {"y": 3}))
    assert text in str(caught.value)


def test_of_several_arrays_one_is_named(endpoint: str) -> None:
    made = {"a": Array.of("slot y", np.complex64), "b": Array.of("slot y z", np.complex64)}
    block = GnuradioSink(bind=endpoint, array="b")
    block.start(StreamInfo(made, {"y": 3, "z": 2}))
    assert (block._per_slot, block._vlen) == (3, 2)
    block.stop()


def test_a_key_without_pub_is_refused() -> None:
    with pytest.raises(ValidationError, match="key is for pub, without messages"):
        GnuradioSink(bind="tcp://127.0.0.1:1", key="k")
