"""Bytes written down once, read by msgpack and struct alone; the same for the examples and figures of WIRE.md."""

import hashlib
import re
import struct
from pathlib import Path

import msgpack
import numpy as np
import pytest

import beamslot.frame
from beamslot.frame import (
    AXES,
    DTYPES,
    Acknowledge,
    Array,
    Credit,
    Describe,
    Done,
    Eos,
    Frame,
    Gap,
    Geometry,
    Heartbeat,
    Hello,
    Operator,
    StreamInfo,
    checks,
    codec,
    decode,
    encode,
)

OPERATOR = Operator(np.array([[[1, 1j]], [[-1, 0.5]]], np.complex64), np.array([0, -1], np.int16), (-0.5, 0.25), 0.125)
RF = np.array([[1 + 2j], [-0.5 - 0.25j]], np.complex64)
ARRAYS = {"rf": RF, "mask": np.array([True, False]), "none": np.zeros((0, 3), np.int32)}
TAGS = {"snr_db": 10.5, "path": [1, None, True, {"a": "b"}]}
INFO = StreamInfo(
    {"rf": Array.of("slot y chain", np.complex64, "sqrt(W)")},
    {"y": 2, "chain": 1},
    0.5,
    28e9,
    Geometry(2, 2, 0.5, 0.75),
    OPERATOR,
    {"seed": 3},
)
MESSAGES = {
    "data": Frame(40, 2, ARRAYS, 1_000_000_007, 1_000_000_009, 3, 70_000, "eeed9e2de12777d2", 2**40, TAGS),
    "describe": Describe("front.rf", INFO),
    "gap": Gap(2**40, 300, "dropped: queue full", 5, 6, 7),
    "eos": Eos(12, False, "stopped"),
    "hello": Hello("s3cret", "front.rf > estimator.rf", 1, 2, [(0, 3), (5, 2**33)], 64, 2**20),
    "credit": Credit(8, 65_536),
    "acknowledge": Acknowledge([(0, 42)], True, 300),
    "heartbeat": Heartbeat([]),
    "done": Done([(0, 1), (2, 200)]),
}
HEADERS = {
    "data": {
        "first": 40,
        "count": 2,
        "epoch": 3,
        "seq": 70_000,
        "captured": 1_000_000_007,
        "sent": 1_000_000_009,
        "operator": "eeed9e2de12777d2",
        "deadline": 1 << 40,
        "tags": TAGS,
        "buffers": [["rf", "<c8", [2, 1]], ["mask", "|b1", [2]], ["none", "<i4", [0, 3]]],
    },
    "describe": {
        "stream": "front.rf",
        "info": {
            "arrays": {"rf": {"axes": ["slot", "y", "chain"], "dtype": "<c8", "unit": "sqrt(W)"}},
            "axes": {"y": 2, "chain": 1},
            "slot_period": 0.5,
            "carrier": 28e9,
            "geometry": {"n_y": 2, "n_z": 2, "spacing_y": 0.5, "spacing_z": 0.75},
            "operator": {"hash": "eeed9e2de12777d2", "interval": [-0.5, 0.25], "noise_var": 0.125},
            "notes": {"seed": 3},
        },
        "buffers": [["weights", "<c8", [2, 1, 2]], ["group", "<i2", [2]]],
    },
    "gap": {"first": 1 << 40, "count": 300, "reason": "dropped: queue full", "captured": 5, "epoch": 6, "seq": 7},
    "eos": {"first": 12, "ok": False, "reason": "stopped"},
    "hello": {
        "token": "s3cret",
        "edge": "front.rf > estimator.rf",
        "replica": 1,
        "epoch": 2,
        "finished": [[0, 3], [5, 1 << 33]],
        "slots": 64,
        "bytes": 1 << 20,
    },
    "credit": {"slots": 8, "bytes": 65_536},
    "acknowledge": {"finished": [[0, 42]], "eos": True, "credit": 300},
    "heartbeat": {"finished": [], "eos": False, "credit": 0},
    "done": {"finished": [[0, 1], [2, 200]]},
}
# What struct must find in the buffers: format, values.
BUFFERS = {
    "data": [("<4f", (1, 2, -0.5, -0.25)), ("<2B", (1, 0)), ("", ())],
    "describe": [("<8f", (1, 0, 0, 1, -1, 0, 0.5, 0)), ("<2h", (0, -1))],
}
GOLDEN = {
    "data": [
        "00",
        (
            "8ca86265616d736c6f7401a46b696e64a464617461a5666972737428a5636f756e7402a565706f636803a3736571ce00011170a8"
            "6361707475726564ce3b9aca07a473656e74ce3b9aca09a86f70657261746f72b065656564396532646531323737376432a86465"
            "61646c696e65cf0000010000000000a47461677382a6736e725f6462cb4025000000000000a4706174689401c0c381a161a162a7"
            "627566666572739393a27266a33c633892020193a46d61736ba37c6231910293a46e6f6e65a33c6934920003"
        ),
        "0000803f00000040000000bf000080be",
        "0100",
        "",
    ],
    "describe": [
        "00",
        (
            "85a86265616d736c6f7401a46b696e64a86465736372696265a673747265616da866726f6e742e7266a4696e666f87a661727261"
            "797381a2726683a46178657393a4736c6f74a179a5636861696ea56474797065a33c6338a4756e6974a773717274285729a46178"
            "657382a17902a5636861696e01ab736c6f745f706572696f64cb3fe0000000000000a763617272696572cb421a13b860000000a8"
            "67656f6d6574727984a36e5f7902a36e5f7a02a973706163696e675f79cb3fe0000000000000a973706163696e675f7acb3fe800"
            "0000000000a86f70657261746f7283a468617368b065656564396532646531323737376432a8696e74657276616c92cbbfe00000"
            "00000000cb3fd0000000000000a96e6f6973655f766172cb3fc0000000000000a56e6f74657381a47365656403a7627566666572"
            "739293a777656967687473a33c63389302010293a567726f7570a33c69329102"
        ),
        "0000803f00000000000000000000803f000080bf000000000000003f00000000",
        "0000ffff",
    ],
    "gap": [
        "00",
        (
            "88a86265616d736c6f7401a46b696e64a3676170a56669727374cf0000010000000000a5636f756e74cd012ca6726561736f6eb3"
            "64726f707065643a2071756575652066756c6ca8636170747572656405a565706f636806a373657107"
        ),
    ],
    "eos": [
        "00",
        "85a86265616d736c6f7401a46b696e64a3656f73a566697273740ca26f6bc2a6726561736f6ea773746f70706564",
    ],
    "hello": [
        "00",
        (
            "89a86265616d736c6f7401a46b696e64a568656c6c6fa5746f6b656ea6733363726574a465646765b766726f6e742e7266203e20"
            "657374696d61746f722e7266a77265706c69636101a565706f636802a866696e6973686564929200039205cf0000000200000000"
            "a5736c6f747340a56279746573ce00100000"
        ),
    ],
    "credit": [
        "00",
        "84a86265616d736c6f7401a46b696e64a6637265646974a5736c6f747308a56279746573ce00010000",
    ],
    "acknowledge": [
        "00",
        "85a86265616d736c6f7401a46b696e64ab61636b6e6f776c65646765a866696e69736865649192002aa3656f73c3a6637265646974cd012c",
    ],
    "heartbeat": [
        "00",
        "85a86265616d736c6f7401a46b696e64a9686561727462656174a866696e697368656490a3656f73c2a663726564697400",
    ],
    "done": [
        "00",
        "83a86265616d736c6f7401a46b696e64a4646f6e65a866696e6973686564929200019202ccc8",
    ],
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden_bytes_say_to_msgpack_and_struct_what_was_meant(kind):
    topic, header, *buffers = (bytes.fromhex(part) for part in GOLDEN[kind])
    assert topic == b"\0"
    assert msgpack.unpackb(header) == {"beamslot": 1, "kind": kind, **HEADERS[kind]}
    found = [struct.unpack(form, data) for (form, _), data in zip(BUFFERS.get(kind, []), buffers, strict=True)]
    assert found == [values for _, values in BUFFERS.get(kind, [])]


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden_bytes_are_what_encode_writes(kind):
    assert [bytes(part).hex() for part in encode(MESSAGES[kind])] == GOLDEN[kind]


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden_bytes_decode_to_the_message(kind):
    found, meant = decode([bytes.fromhex(part) for part in GOLDEN[kind]]), MESSAGES[kind]
    if isinstance(found, Frame):
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(found.arrays[name], array, strict=True)
        found.arrays = meant.arrays
    assert found == meant


def test_a_header_in_another_order_and_with_wider_integers_says_the_same():
    fields = {**HEADERS["gap"], "kind": "gap", "beamslot": 1}
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(len(fields))
    header = packer.bytes()
    for key, value in reversed(fields.items()):
        header += msgpack.packb(key) + (
            b"\xcf" + struct.pack(">Q", value) if type(value) is int else msgpack.packb(value)
        )
    assert decode([b"\0", header]) == MESSAGES["gap"]


# WIRE.md: its examples are the bytes, its figures the limits, its lists the vocabularies.

WIRE = Path(beamslot.frame.__file__).with_name("WIRE.md").read_text(encoding="utf-8")


def example(name):
    """Return the message parts of an example of WIRE.md: hex up to '#', parts apart by empty lines."""
    block = re.search(rf"^```hex {name}\n(.*?)^```$", WIRE, re.DOTALL | re.MULTILINE)
    assert block, name
    lines = re.sub(r"#.*", "", block[1])
    return [bytes.fromhex(part) for part in lines.split("\n\n")]


def test_the_operator_of_wire_md_has_the_hash_printed_there():
    (fed,) = example("operator")
    printed = re.search(r"its hash is `([0-9a-f]{16})`", WIRE)
    assert printed
    assert hashlib.sha256(fed).hexdigest()[:16] == printed[1]
    weights = np.array([[[1, 1j]]], np.complex64)
    assert Operator(weights, np.zeros(1, np.int16), (-0.5, 0.0)).hash == printed[1]


def test_the_frame_of_wire_md_is_the_one_described():
    parts = example("data")
    found = decode(parts)
    assert [bytes(part) for part in encode(found, b"front.rf\0")] == parts
    assert (found.first, found.count, found.epoch, found.seq) == (40, 2, 1, 7)
    assert (found.captured, found.sent, found.deadline) == (1_000_000_000, 1_000_250_000, None)
    assert found.operator == hashlib.sha256(example("operator")[0]).hexdigest()[:16]
    assert found.tags == {"snr_db": 10.0}
    np.testing.assert_array_equal(found.arrays["rf"], RF.reshape(2, 1, 1), strict=True)


def test_the_acknowledgement_of_wire_md_is_the_one_described():
    parts = example("acknowledge")
    assert decode(parts) == Acknowledge([(0, 42)])
    assert encode(Acknowledge([(0, 42)])) == parts


def section(title):
    return re.split(r"^#+ ", WIRE.split(f" {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("kind", HEADERS)
def test_wire_md_explains_every_field_of_every_kind(kind):
    title = "acknowledge, heartbeat" if kind in {"acknowledge", "heartbeat"} else kind
    keys = set(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section(title), re.MULTILINE))
    explained = {key for group in keys for key in re.findall(r"\w+", group)}
    described = set(HEADERS[kind]["info"]) if kind == "describe" else set()
    assert explained == set(HEADERS[kind]) | described


def test_wire_md_lists_the_vocabularies():
    assert re.findall(r"`([<|]\w\d+)`", section("Arrays").replace("\\", "")) == list(DTYPES)
    listed = section("describe").split("one closed list: ")[1].split(". ")[0]
    assert re.findall(r"`(\w+)`", listed) == list(AXES)


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("topic", f"{codec.MAX_TOPIC} bytes"),
        ("header", f"{codec.MAX_HEADER} bytes"),
        ("buffers", f"{codec.MAX_BUFFERS}"),
        ("rank of an array", f"{codec.MAX_RANK}"),
        ("elements times element size, all buffers together", f"{codec.MAX_BYTES // 2**20} MiB"),
        ("slots of a frame", f"{checks.MAX_COUNT}"),
        ("entries of a list or map", f"{checks.MAX_ITEMS}"),
        ("text", f"{checks.MAX_TEXT} characters"),
        ("depth of a plain map", f"{checks.MAX_DEPTH}"),
    ],
)
def test_wire_md_states_the_limits_that_are_checked(what, limit):
    assert re.search(rf"^\| {what} \| {limit}[ ,;|]", section("Limits"), re.MULTILINE)


def test_wire_md_states_the_version():
    assert WIRE.startswith(f"# The wire, version {codec.VERSION}\n")
