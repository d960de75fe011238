"""Taps of an outlet that a thread keeps serving, as the process of a block does."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from beamslot_runs import until

from beamslot.errors import PeerLost
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo, encode
from beamslot.runtime import transport
from beamslot.runtime.taps import listen, subscribe
from beamslot.runtime.transport import Inlet, Link, Outlet

INFO = StreamInfo({"x": Array.of("slot y", np.float32)}, {"y": 4})
STREAM = "a.out"


def frame(first: int, y: int = 4) -> Frame:
    return Frame(first, 1, {"x": np.full((1, y), first, np.float32)})


class Producer:
    """An outlet and the thread that makes slots and serves the tap until told to end."""

    def __init__(self, directory: Path, links: tuple[Link, ...] = (), y: int = 4) -> None:
        self.endpoint = f"ipc://{directory}/t"
        self.y, self.going, self.made = y, threading.Event(), 0
        self.ending = self.dead = False
        self._context: Any = zmq.Context()
        self.outlet = Outlet(self._context, STREAM, links, "token")
        self.outlet.bind(f"ipc://{directory}/e", self.endpoint)
        self.outlet.describe(INFO.replace(axes={"y": y}))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self.ending and not self.dead:
            self.outlet.service()
            self.outlet.serve_tap(time.monotonic_ns())
            if self.going.wait(0.001) and self.outlet.room(1):
                self.outlet.emit(frame(self.made, self.y))
                self.made += 1
                time.sleep(0)
        if not self.dead:
            self.outlet.emit(Eos(self.made))
        self.outlet.close()
        self._context.term()

    def close(self) -> None:
        self.dead = True
        self._thread.join()


@pytest.fixture
def directory(private_state: Path, request: pytest.FixtureRequest) -> Path:
    path = private_state / f"t{abs(hash(request.node.name)) % 10**6}"
    path.mkdir()
    return path


@pytest.fixture
def producer(directory: Path) -> Iterator[Producer]:
    made = Producer(directory)
    yield made
    made.close()


class Viewer:
    """A listener in a thread of its own, and what it has heard."""

    def __init__(self, producer: Producer, silence: float = 5.0) -> None:
        self.heard: list[Any] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._listen, args=(producer.endpoint, silence))
        self._thread.start()

    def _listen(self, endpoint: str, silence: float) -> None:
        try:
            for message in listen(endpoint, STREAM, silence):
                self.heard.append(message)
        except PeerLost as error:
            self.error = error

    def slots(self) -> list[int]:
        return [item.first for item in self.heard if isinstance(item, Frame)]

    def join(self) -> "Viewer":
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self


def test_a_late_listener_hears_the_description_first_and_then_the_slots_in_order(producer: Producer) -> None:
    producer.going.set()
    until(lambda: producer.made > 50)
    viewer = Viewer(producer)
    until(lambda: len(viewer.slots()) > 20)
    producer.ending = True
    viewer.join()
    assert viewer.heard[0] == Describe(STREAM, INFO)
    slots = viewer.slots()
    assert slots[0] > 0
    assert slots == list(range(slots[0], slots[-1] + 1))
    assert viewer.heard[-1] == Eos(producer.made)


def test_a_second_listener_hears_the_description_too(producer: Producer) -> None:
    producer.going.set()
    one = Viewer(producer)
    until(lambda: len(one.slots()) > 5)
    other = Viewer(producer)
    until(lambda: len(other.slots()) > 5)
    producer.ending = True
    for viewer in (one.join(), other.join()):
        assert isinstance(viewer.heard[0], Describe)
        assert isinstance(viewer.heard[-1], Eos)
    assert np.array_equal(other.heard[-2].arrays["x"], np.full((1, 4), producer.made - 1, np.float32))


def test_a_listener_that_leaves_does_not_silence_the_other(producer: Producer) -> None:
    producer.going.set()
    with subscribe(producer.endpoint, STREAM) as socket:
        until(lambda: socket.poll(10))
        viewer = Viewer(producer)
        until(viewer.slots)
    seen = len(viewer.heard)
    until(lambda: len(viewer.heard) > seen + 20)
    producer.ending = True
    assert isinstance(viewer.join().heard[-1], Eos)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    encoded: list[Any] = []

    def encode_and_note(message: Any, topic: bytes = b"\0") -> Any:
        encoded.append(message)
        return encode(message, topic)

    monkeypatch.setattr(transport, "encode", encode_and_note)
    return encoded


def test_nothing_is_encoded_while_nobody_listens(producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = counting(monkeypatch)
    producer.going.set()
    until(lambda: producer.made > 100)
    assert encoded == []
    with subscribe(producer.endpoint, STREAM) as socket:
        until(lambda: socket.poll(10))
        until(lambda: encoded)  # what came first is the description, which was encoded before
    until(
        lambda: (encoded.clear(), (before := producer.made), until(lambda: producer.made > before + 20), not encoded)[
            -1
        ]
    )


def test_a_stopped_listener_does_not_slow_the_stream_nor_the_other_listener(directory: Path) -> None:
    producer = Producer(directory, y=50_000)  # 200 kB a slot: the queue of a listener is full after 80
    try:
        with subscribe(producer.endpoint, STREAM, high_water=1):
            viewer = Viewer(producer)
            until(lambda: viewer.heard)
            producer.going.set()
            until(lambda: producer.made > 500, 30)
            until(lambda: viewer.slots() and viewer.slots()[-1] > 450, 30)
            producer.ending = True
            viewer.join()
    finally:
        producer.close()


def test_a_stopped_listener_does_not_keep_the_producer_from_ending(directory: Path) -> None:
    producer = Producer(directory, y=50_000)
    with subscribe(producer.endpoint, STREAM, high_water=1):
        producer.going.set()
        until(lambda: producer.made > 300, 30)
        producer.ending = True
        begun = time.monotonic()
        producer.close()
        assert time.monotonic() - begun < 2


def test_a_stream_that_was_described_again_is_described_again(producer: Producer) -> None:
    viewer = Viewer(producer)
    until(lambda: viewer.heard)
    until(lambda: sum(isinstance(item, Describe) for item in viewer.heard) > 1)  # once a second, unasked
    producer.ending = True
    viewer.join()


def test_a_run_that_is_gone_is_told_with_the_stream(directory: Path) -> None:
    with pytest.raises(
        PeerLost, match=rf"^a\.out: nothing came from ipc://{directory}/none for 0\.2 s; is the run over\?$"
    ):
        next(listen(f"ipc://{directory}/none", STREAM, silence=0.2))


def test_bad_messages_and_those_before_the_description_are_skipped(directory: Path) -> None:
    context: Any = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.bind(f"ipc://{directory}/x")
    viewer_frames: list[Any] = []

    def hear() -> None:
        viewer_frames.extend(listen(f"ipc://{directory}/x", STREAM))

    thread = threading.Thread(target=hear)
    thread.start()
    assert socket.recv() == b"\x01a.out\0"
    topic = b"a.out\0"
    for parts in (
        encode(frame(0), topic), [topic, b"garbage"], encode(Describe(STREAM, INFO), topic), encode(frame(1), topic),
        [topic], encode(Gap(2, 3, "late"), topic), encode(Eos(5), topic),
    ):  # fmt: skip
        socket.send_multipart(parts)
    thread.join(10)
    socket.close(linger=0)
    context.term()
    assert [type(item).__name__ for item in viewer_frames] == ["Describe", "Frame", "Gap", "Eos"]
    assert viewer_frames[1].first == 1


def test_the_edge_goes_on_while_nobody_hears_the_tap(directory: Path) -> None:
    producer = Producer(directory, (Link("a.out > b.in", 8, 1 << 20, 1),))
    context: Any = zmq.Context()
    inlet = Inlet(context, "a.out > b.in", "token", slots=8, nbytes=1 << 20)
    inlet.connect(f"ipc://{directory}/e")
    until(lambda: producer.outlet.ready)
    producer.going.set()
    until(lambda: producer.made == 8)
    items: list[Any] = []
    until(lambda: (items.extend(inlet.receive()), len(items) == 9)[1])
    inlet.socket.close(linger=0)
    context.term()
    producer.close()
