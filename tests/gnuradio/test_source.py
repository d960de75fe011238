"""The source against plain ZeroMQ sockets: every kind, both who binds, and whatever comes that should not."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from beamslot_gnuradio import Hearing, samples
from pydantic import ValidationError

from beamslot.errors import BadParam, BindError, BlockFailed
from beamslot.frame import Geometry, Operator
from beamslot.gnuradio.pmt import Pair, write
from beamslot.gnuradio.tags import Tag, write_message
from beamslot.recording.foreign import FrontEnd, save_operator
from beamslot.sources.gnuradio_source import GnuradioSource

AXES = {"user": 2, "y": 2, "chain": 3}
VLEN = 6
DATA = samples(400, VLEN)


def message(first: int, count: int, **options: Any) -> list[bytes]:
    return [bytes(part) for part in write_message(DATA[first : first + count], **options)]


def expected(first: int, stop: int) -> np.ndarray:
    return DATA[2 * first : 2 * stop].reshape(-1, 2, 2, 3)


def join(radio: Hearing) -> None:
    radio.until(lambda: radio.joined)


@pytest.mark.parametrize("bind", [True, False])
@pytest.mark.parametrize(("ours", "theirs"), [("pull", zmq.PUSH), ("sub", zmq.XPUB)])
def test_samples_come_as_slots_whoever_binds(
    ours: str, theirs: int, bind: bool, endpoint: str, raw: Any, hearing: Any
) -> None:
    if not bind:
        socket = raw(theirs, bind=endpoint)
    radio = hearing(socket=ours, axes=AXES, **{"bind" if bind else "connect": endpoint})
    if bind:
        socket = raw(theirs, connect=endpoint)
    join(radio)
    if ours == "sub":
        assert socket.recv() == b"\x01"
    for first in range(0, 400, 25):  # half a slot over in every message
        socket.send_multipart(message(first, 25))
    radio.reach(200)
    np.testing.assert_array_equal(radio.array(), expected(0, 200))
    assert (radio.gaps, radio.told, radio.block.refused) == ([], [], 0)


@pytest.mark.parametrize(("asked", "request_"), [("items", struct.pack("=I", 65536)), ("byte", b"\xff")])
def test_it_asks_as_gnuradio_and_srsran_do_and_again_after_the_peer_has_died(
    asked: str, request_: bytes, endpoint: str, raw: Any, hearing: Any
) -> None:
    radio = hearing(socket="req", request=asked, axes=AXES, connect=endpoint)
    for life in (0, 20):
        socket = raw(zmq.REP, bind=endpoint)
        for first in range(0, 20, 10):
            radio.until(lambda answering=socket: answering.poll(0))
            assert socket.recv() == request_
            socket.send_multipart(message(2 * life + first, 10))
        radio.reach(21 if life else 10)
        assert socket.recv() == request_  # asked at once, and never answered: it dies
        socket.close()
        radio.until(lambda: not radio.joined)
    assert radio.gaps[:1] == [(10, 1, "restarted")]
    np.testing.assert_array_equal(radio.array(), np.concatenate([expected(0, 10), expected(20, 30)]))


def test_a_key_is_the_whole_first_part(endpoint: str, raw: Any, hearing: Any) -> None:
    socket = raw(zmq.XPUB, bind=endpoint)
    radio = hearing(socket="sub", key="est1", axes=AXES, connect=endpoint)
    join(radio)
    assert socket.recv() == b"\x01est1"
    socket.send_multipart(message(0, 4, key=b"est10"))  # ZeroMQ goes by the beginning
    socket.send_multipart(message(0, 4, key=b"est1"))
    radio.reach(2)
    np.testing.assert_array_equal(radio.array(), expected(0, 2))
    assert radio.told == []


BAD = {
    "magic": ({"tags": True}, [bytes(24) * 2], "CorruptFrame", "a tag header begins with 0x5ff0; 0x0 came"),
    "size": ({}, [bytes(50)], "ShapeError", "50 bytes of items came; wanted a multiple of 48, 6 complex64"),
    "tags": ({}, message(0, 2, offset=0), "ShapeError", "it begins with a tag header (the peer's pass_tags is on)"),
    "key": ({}, message(0, 2, key=b"K"), "CorruptFrame", "the peer sends a key, and none is set here"),
    "no key": ({"socket": "sub", "key": "K"}, [b"K"], "CorruptFrame", "wanted a key before it: the peer has none set"),
    "no pdu": ({"messages": True}, [write({"a": 1})], "CorruptFrame", "a message came that is no PDU"),
    "pdu size": (
        {"messages": True},
        [write(Pair(None, np.zeros(5, np.complex64)))],
        "ShapeError",
        "a PDU of 5 complex64 came; wanted 12 complex64",
    ),
    "pdu type": (
        {"messages": True},
        [write(Pair(None, np.zeros(12, np.float32)))],
        "ShapeError",
        "a PDU of 12 float32 came; wanted 12 complex64",
    ),
    "pmt": ({"messages": True}, [b"\x0f"], "CorruptFrame", "pmt: byte 0 is 0x0f, which begins no value"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_told_once_counted_a_gap_and_no_end(what: str, endpoint: str, raw: Any, hearing: Any) -> None:
    options, parts, kind, text = BAD[what]
    socket = raw(zmq.XPUB if options.get("socket") == "sub" else zmq.PUSH, bind=endpoint)
    radio = hearing(axes=AXES, connect=endpoint, **options)
    join(radio)
    if options.get("socket") == "sub":
        socket.recv()

    def send(first: int, offset: int) -> None:
        if options.get("messages"):
            for slot in range(first, first + 2):
                socket.send(write(Pair(None, expected(slot, slot + 1).reshape(-1))))
        else:
            key = options.get("key", "").encode()
            socket.send_multipart(message(2 * first, 4, key=key, **({"offset": offset} if options.get("tags") else {})))

    send(0, 0)
    for _ in range(3):
        socket.send_multipart(parts)
    send(10, 6)
    radio.until(lambda: len(radio.slots()) == 4)
    assert [note.partition(", at slot ")[0] for note in radio.told] == [f"radio: {kind} from {endpoint}"]
    assert text in radio.told[0]
    assert radio.block.refused == 3
    lost = {reason for _, _, reason in radio.gaps}
    assert lost == {"refused"}
    np.testing.assert_array_equal(radio.array(), np.concatenate([expected(0, 2), expected(10, 12)]))


def test_errors_are_told_at_the_first_tenth_and_hundredth_time(endpoint: str, raw: Any, hearing: Any) -> None:
    socket = raw(zmq.PUSH, bind=endpoint)
    radio = hearing(axes=AXES, connect=endpoint)
    for _ in range(120):
        socket.send(bytes(7))
    radio.until(lambda: radio.block.refused == 120)
    assert [note.partition(" from ")[0] for note in radio.told] == [
        "radio: ShapeError",
        "radio: ShapeError (10 times)",
        "radio: ShapeError (100 times)",
    ]


def test_a_peer_that_goes_and_comes_back_is_told_and_its_offsets_may_begin_again(
    endpoint: str, raw: Any, hearing: Any
) -> None:
    radio = hearing(axes=AXES, tags=True, connect=endpoint)
    for life in range(2):
        socket = raw(zmq.PUSH, bind=endpoint)
        join(radio)
        socket.send_multipart(message(0, 9, offset=0))
        radio.reach(4 + 5 * life)
        socket.close()
        radio.until(lambda: not radio.joined)
    assert radio.gaps == [(4, 1, "restarted")]
    assert radio.slots() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert radio.told == [
        f"radio: GNU Radio at {endpoint} has gone, at slot 4; waiting for it to come back",
        f"radio: GNU Radio at {endpoint} is back, at slot 4",
        f"radio: GNU Radio at {endpoint} has gone, at slot 9; waiting for it to come back",
    ]


def test_silence_is_told_once_until_it_is_broken(endpoint: str, raw: Any, hearing: Any) -> None:
    radio = hearing(axes=AXES, connect=endpoint, silence=0.05)
    radio.until(lambda: radio.told)
    socket = raw(zmq.PUSH, bind=endpoint)
    socket.send_multipart(message(0, 4))
    radio.reach(2)
    radio.until(lambda: len(radio.told) == 2)
    assert radio.told == [
        f"radio: nothing has come from GNU Radio at {endpoint} for 0.05 s, at slot {slot}" for slot in (0, 2)
    ]


def test_how_long_silence_lasts_may_change_while_the_link_stays(endpoint: str, raw: Any, hearing: Any) -> None:
    radio = hearing(axes=AXES, connect=endpoint, silence=60.0)
    socket = raw(zmq.PUSH, bind=endpoint)
    join(radio)
    radio.block.silence = 0.05
    radio.core.start()  # as the runtime does after such a change
    radio.until(lambda: radio.told)
    socket.send_multipart(message(0, 4))
    radio.reach(2)
    assert radio.joined == 1
    assert radio.told == [f"radio: nothing has come from GNU Radio at {endpoint} for 0.05 s, at slot 0"]


def test_a_call_returns_soon_where_nothing_comes(endpoint: str, hearing: Any) -> None:
    radio = hearing(axes=AXES, connect=endpoint)
    step = radio.core.make(range(0, 8), 0)
    assert step.items == []
    assert len(step.slots) == 0
    assert step.nanoseconds < 15_000_000, "waiting is no work"


def test_a_frequency_becomes_the_carrier_and_other_tags_go_on(endpoint: str, raw: Any, hearing: Any) -> None:
    socket = raw(zmq.PUSH, bind=endpoint)
    radio = hearing(axes=AXES, tags=True, connect=endpoint, carrier=1e9)
    tags = [
        Tag(4, "rx_freq", 3.5e9),
        Tag(7, "note", ("x", 2)),
        Tag(7, "big", np.zeros(3)),
        Tag(9, "rx_freq", "no"),
        Tag(9, "\ud800", "\udcff"),
    ]
    socket.send_multipart(message(0, 12, offset=0, tags=tags[:4]))
    radio.reach(6)
    assert [(info.carrier) for info in radio.infos] == [1e9, 3.5e9]
    kinds = [type(item).__name__ for item in radio.items]
    assert kinds == ["Describe", "Frame", "Describe", "Frame", "Frame"]
    assert [dict(frame.tags) for frame in radio.frames] == [
        {},
        {"rx_freq": [[2, 0, 3.5e9]], "note": [[3, 1, ["x", 2]]], "big": [[3, 1, "<ndarray>"]]},
        {"rx_freq": [[4, 1, "no"]]},
    ]


def test_a_rate_that_the_slot_period_does_not_fit_is_told(endpoint: str, raw: Any, hearing: Any) -> None:
    socket = raw(zmq.PUSH, bind=endpoint)
    radio = hearing(axes=AXES, tags=True, connect=endpoint)
    socket.send_multipart(message(0, 12, offset=0, tags=[Tag(0, "rx_rate", 1000.0)]))
    radio.reach(6)
    told = "radio: rx_rate is 1000 Hz: a slot of 2 items lasts 0.002 s, and slot_period is 0.001 s"
    radio.until(lambda: radio.told)
    assert radio.told == [told]


def test_pdus_are_slots_with_their_numbers_and_tags(endpoint: str, raw: Any, hearing: Any) -> None:
    socket = raw(zmq.PUSH, bind=endpoint)
    radio = hearing(axes=AXES, messages=True, slots_by="tag", origin=0, connect=endpoint)
    for slot in (0, 1, 4):
        socket.send(write(Pair({"slot": slot, "who": "me"}, expected(slot, slot + 1).reshape(-1))))
    radio.reach(5)
    assert radio.slots() == [0, 1, 4]
    assert radio.gaps == [(2, 2, "missing")]
    assert radio.frames[-1].tags == {"who": [[4, 0, "me"]]}


def test_samples_of_one_axis_are_items_and_vlen_may_say_otherwise(endpoint: str, raw: Any, hearing: Any) -> None:
    socket = raw(zmq.PUSH, bind=endpoint)
    radio = hearing(axes={"sample": 8}, array="iq", unit="1", connect=endpoint)
    socket.send(DATA.reshape(-1)[:5].tobytes())
    socket.send(DATA.reshape(-1)[5:16].tobytes())
    radio.reach(2)
    np.testing.assert_array_equal(radio.array("iq"), DATA.reshape(-1)[:16].reshape(2, 8))
    (info,) = radio.infos
    assert str(info.arrays["iq"]) == "[slot sample] complex64 [1]"
    whole = hearing(axes=AXES, vlen=12, bind=f"{endpoint}.2")
    assert (whole.block._per_slot, whole.block._vlen) == (1, 12)


def test_the_operator_comes_with_the_stream(endpoint: str, hearing: Any, tmp_path: Path) -> None:
    weights = np.full((3, 2, 4), 0.5, np.complex64)
    operator = Operator(weights, np.zeros(3, np.int16), (-0.5, 0.5), 2.0)
    save_operator(tmp_path / "front.npz", FrontEnd(Geometry(3, 8, 0.5, 0.7), operator, 2, 26e9))
    (info,) = hearing(operator_file=str(tmp_path / "front.npz"), bind=endpoint).infos
    assert (info.operator, info.geometry, info.carrier) == (operator, Geometry(3, 8, 0.5, 0.7), 26e9)
    assert dict(info.axes) == {"user": 2, "y": 3, "chain": 2}
    axes = {"sample": 16, "y": 3, "chain": 2}
    (info,) = hearing(operator_file=str(tmp_path / "front.npz"), axes=axes, bind=f"{endpoint}.2").infos
    assert (dict(info.axes), info.operator) == (axes, operator)
    (info,) = hearing(axes={"user": 1, "y": 3, "z": 8}, spacing=0.6, bind=f"{endpoint}.3").infos
    assert (info.operator, info.geometry) == (None, Geometry(3, 8, 0.6, 0.6))
    wrong = GnuradioSource(operator_file=str(tmp_path / "front.npz"), axes=AXES, bind=endpoint)
    with pytest.raises(BadParam, match=r"^block.axes: are \{.*\}; .*front.npz has \{'y': 3, 'chain': 2\}$"):
        wrong.start()


def test_an_endpoint_that_is_taken_ends_the_start(endpoint: str, hearing: Any, tmp_path: Path) -> None:
    with pytest.raises(BlockFailed, match=r"start: BindError: GNU Radio: cannot bind ipc:///nowhere/at/all"):
        Hearing(GnuradioSource(axes=AXES, bind="ipc:///nowhere/at/all"))
    assert issubclass(BindError, Exception)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "give one of connect and bind: the endpoint, and who waits there"),
        ({"bind": "tcp://*:1", "connect": "tcp://127.0.0.1:1"}, "give one of connect and bind"),
        ({"bind": "udp://x"}, "got 'udp://x'; wanted tcp://HOST:PORT or ipc:///PATH"),
        ({"connect": "tcp://*:5555"}, "connect is tcp://*:5555; wanted the host that GNU Radio runs on"),
        (
            {"bind": "tcp://*:5555"},
            "tcp://*:5555 leaves this machine, and GNU Radio knows no keys; trusted_network says it may",
        ),
        ({"bind": "tcp://127.0.0.1:1", "key": "k"}, "key is for sub, without messages"),
        ({"bind": "tcp://127.0.0.1:1", "slots_by": "tag"}, "slots_by: tag wants tags: true, or messages: true"),
        ({"bind": "tcp://127.0.0.1:1", "tags": True, "messages": True}, "messages have their tags in their dict"),
        ({"bind": "tcp://127.0.0.1:1", "axes": {}}, "give axes, what a slot is, or an operator_file"),
        ({"bind": "tcp://127.0.0.1:1", "axes": {"y": 0}}, "axes are {'y': 0}; wanted lengths of 1 or more"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        GnuradioSource(**{"axes": AXES, **given})
    assert text in str(caught.value)


def test_a_trusted_network_is_said_in_words(endpoint: str) -> None:
    assert GnuradioSource(bind="tcp://*:5555", trusted_network=True, axes=AXES).endpoint == "tcp://*:5555"


def test_a_vlen_that_does_not_divide_a_slot_is_refused(endpoint: str) -> None:
    block = GnuradioSource(bind=endpoint, axes=AXES, vlen=7)
    with pytest.raises(BadParam, match=r"^block.vlen: is 7; a slot has 12 samples, \{.*\}, which it does not divide$"):
        block.start()
