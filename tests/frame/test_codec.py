"""What goes in comes out, received arrays are views, and every malformed message raises its typed error."""

import dataclasses
import tracemalloc
from collections.abc import Mapping

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from beamslot.errors import CorruptFrame, DtypeError, FrameError, ShapeError, VersionError
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
    decode,
    encode,
)


def wire(message, topic=b"\0"):
    """Return the parts of a message as they would lie in the socket."""
    return [bytes(part) for part in encode(message, topic)]


def same(one, other):
    """Compare messages; arrays by dtype, shape and bytes, so that NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if not isinstance(one, Frame):
        return one == other
    described = [
        {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in frame.arrays.items()}
        for frame in (one, other)
    ]
    plain = [dataclasses.replace(frame, arrays={}) for frame in (one, other)]
    return described[0] == described[1] and plain[0] == plain[1]


# Every kind, drawn by hypothesis.

whole = st.integers(0, 2**63 - 1)
slots = st.integers(0, 2**62 - 2)
names = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | numbers | names
tags = st.dictionaries(
    names,
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)),
    max_size=3,
)
ranges = st.lists(st.integers(0, 2**62 - 1), unique=True, max_size=20).map(
    lambda edges: list(zip(sorted(edges)[0::2], sorted(edges)[1::2], strict=False))
)


@st.composite
def stored_arrays(draw):
    """Draw an array of any dtype, rank 0 to 8, some of them empty, stored in C order or any other way."""
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=8)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = 2 * int(np.prod(shape, dtype=np.int64))
    raw = rng.integers(0, 2 if dtype.kind == "b" else 256, size * dtype.itemsize, dtype=np.uint8)
    twice = np.frombuffer(raw.tobytes(), dtype).reshape(*shape, 2)
    stored = draw(st.sampled_from(["c", "fortran", "strided", "transposed", "reversed"]))
    if stored == "c":
        return twice[..., 0].copy()
    if stored == "fortran":
        return np.asfortranarray(twice[..., 1])
    return {"strided": twice[..., 1], "transposed": twice[..., 0].T, "reversed": twice[..., ::-1][..., 0]}[stored]


frames = st.builds(
    Frame,
    slots,
    st.integers(1, 65_536),
    st.dictionaries(names, stored_arrays(), max_size=4),
    *[whole] * 4,
    st.none() | names,
    st.none() | whole,
    tags,
)


@st.composite
def operators(draw):
    shape = draw(st.tuples(*[st.integers(0, 4)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)
    group = rng.integers(-1, 3, shape[0]).astype(np.int16)
    return Operator(weights, group, (draw(numbers), draw(numbers)), draw(st.none() | numbers))


@st.composite
def descriptions(draw):
    axes = draw(st.dictionaries(st.sampled_from(sorted(set(AXES) - {"slot"})), st.integers(1, 4), max_size=5))
    orders = st.permutations(sorted(axes)).map(lambda order: ["slot", *order])
    arrays = draw(
        st.dictionaries(names, st.builds(Array.of, orders.map(" ".join), st.sampled_from(sorted(DTYPES)), names))
    )
    geometry = st.builds(Geometry, st.integers(1, 2**28), st.integers(1, 2**28), numbers, numbers)
    return StreamInfo(
        arrays,
        axes,
        draw(numbers),
        draw(numbers),
        draw(st.none() | geometry),
        draw(st.none() | operators()),
        draw(tags),
    )


credit = st.integers(1, 2**63 - 1)
MESSAGES = {
    "data": frames,
    "describe": st.builds(Describe, names, descriptions()),
    "gap": st.builds(Gap, slots, st.integers(1, 2**62 - 1), names, whole, whole, whole),
    "eos": st.builds(Eos, slots, st.booleans(), names),
    "hello": st.builds(Hello, names, names, whole, whole, ranges, credit, credit),
    "credit": st.builds(Credit, credit, credit),
    "acknowledge": st.builds(Acknowledge, ranges, st.booleans()),
    "heartbeat": st.builds(Heartbeat, ranges, st.booleans()),
    "done": st.builds(Done, ranges),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_every_message_comes_back_as_it_went(kind):
    @settings(max_examples=120, deadline=None, derandomize=True, database=None)
    @given(message=MESSAGES[kind])
    def check(message):
        parts = wire(message, b"block.port\0")
        assert parts[0] == b"block.port\0"
        assert msgpack.unpackb(parts[1])["kind"] == kind
        assert same(decode(parts), message)
        assert wire(decode(parts), parts[0]) == parts

    check()


def frame(**changes):
    arrays = {"rf": np.arange(12, dtype=np.complex64).reshape(2, 3, 2), "mask": np.array([True, False])}
    fields = {"first": 7, "count": 2, "arrays": arrays, "captured": 11, "sent": 12, "epoch": 1, "seq": 5}
    return Frame(**{**fields, **changes})


def operator():
    weights = np.exp(1j * np.arange(24)).astype(np.complex64).reshape(3, 2, 4)
    return Operator(weights, np.array([0, 1, -1], np.int16), (-0.5, 0.0), 0.25)


def description(**changes):
    info = StreamInfo(
        {"rf": Array.of("slot y chain", np.complex64, "sqrt(W)")}, {"y": 3, "chain": 2}, 1e-3, 28e9, Geometry(3, 8)
    )
    return Describe("front.rf", info.replace(operator=operator(), notes={"seed": 3}, **changes))


@pytest.mark.parametrize("container", [bytes, bytearray, memoryview], ids=lambda c: c.__name__)
def test_received_arrays_are_read_only_views_of_the_parts(container):
    parts = [container(part) for part in wire(frame())]
    arrays = decode(parts).arrays
    for array, part in zip(arrays.values(), parts[2:], strict=True):
        assert np.shares_memory(array, np.frombuffer(part, np.uint8))
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_received_operator_is_a_read_only_view_too():
    parts = wire(description())
    weights = decode(parts).info.operator.weights
    assert np.shares_memory(weights, np.frombuffer(parts[2], np.uint8))
    assert not weights.flags.writeable


def test_contiguous_arrays_are_sent_without_a_copy_and_others_with_one():
    rf, strided = np.ones((4, 6), np.complex64), np.ones((4, 6), np.complex64)[:, ::2]
    _, _, first, second = encode(frame(arrays={"rf": rf, "strided": strided}))
    assert first is rf
    assert not np.shares_memory(second, strided)
    assert second.tobytes() == strided.tobytes()


def test_what_encode_returns_decodes_without_flattening_and_travels_through_a_socket():
    arrays = {
        "scalar": np.array(2.5),
        "none": np.zeros((0, 3)),
        "rf": np.ones((2, 3), np.complex64),
        "on": np.ones(2, bool),
    }
    sent = frame(arrays=arrays)
    assert same(decode(encode(sent)), sent)
    with zmq.Context() as context, context.socket(zmq.PAIR) as near, context.socket(zmq.PAIR) as far:
        near.bind("inproc://codec")
        far.connect("inproc://codec")
        for copy in (True, False):
            near.send_multipart(encode(sent), copy=copy)
            assert same(decode(far.recv_multipart(copy=copy)), sent)


def test_tags_of_numpy_numbers_tuples_and_own_mappings_travel_as_plain_values():
    class Own(Mapping):
        def __getitem__(self, key):
            return {"snr": np.float32(0.5)}[key]

        def __iter__(self):
            return iter(["snr"])

        def __len__(self):
            return 1

    tags = {"n": np.int64(3), "on": np.bool_(True), "pair": (1, (2.0, None)), "own": Own()}
    assert decode(wire(frame(tags=tags))).tags == {"n": 3, "on": True, "pair": [1, [2.0, None]], "own": {"snr": 0.5}}
    assert decode(wire(frame(tags=Own()))).tags == {"snr": 0.5}


def test_descriptions_of_numpy_numbers_travel_as_plain_values():
    info = StreamInfo(
        {"rf": Array.of("slot y", np.float32)},
        {"y": np.int64(3)},
        np.float32(0.5),
        np.float64(28e9),
        Geometry(np.int32(3), np.int64(1), np.float32(0.5), 1),
        Operator(operator().weights, operator().group, (np.float32(-0.5), 0), np.float32(0.25)),
    )
    assert decode(wire(Describe("a.b", info))).info == info


def test_touching_ranges_arrive_joined():
    assert decode(wire(Done([(0, 3), (3, 5), (7, 8), (8, 9)]))).finished == [(0, 5), (7, 9)]


def test_a_credit_of_nothing_is_read_as_one():
    assert decode(wire(Credit(0, 0))) == Credit(1, 1)


# What is refused, and with which words.

GONE = object()


def edited(message, *edits):
    """Return the parts of a message with header fields replaced: (path, value), the path written with dots."""
    parts = wire(message)
    header = msgpack.unpackb(parts[1])
    for path, value in edits:
        *above, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        place = header
        for key in above:
            place = place[key]
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return [parts[0], msgpack.packb(header), *parts[2:]]


def spread(parts, **changes):
    """Return parts with some replaced: topic=..., header=..., buffers=[...]."""
    topic, header, *buffers = parts
    fields = {"topic": topic, "header": header, "buffers": buffers, **changes}
    return [fields["topic"], fields["header"], *fields["buffers"]]


def nested(depth):
    value = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


DATA, INFO = wire(frame()), wire(description())
BIG = 2**28
WHOLE = "wanted a whole number from 0 to 2\\*\\*63 - 1"
ALLOWED = "may not travel; allowed: <c8 <c16 "
REFUSED = {
    # the message
    "one part": (DATA[:1], CorruptFrame, "message of 1 parts; wanted 2 to 66"),
    "no parts": ([], CorruptFrame, "message of 0 parts; wanted 2 to 66"),
    "too many parts": (DATA + [b""] * 63, CorruptFrame, "message of 67 parts; wanted 2 to 66"),
    "topic without NUL": (spread(DATA, topic=b"block.port"), CorruptFrame, "topic of 10 bytes; wanted at most 256"),
    "topic with NUL inside": (spread(DATA, topic=b"a\0b\0"), CorruptFrame, "topic of 4 bytes; .*last one alone NUL"),
    "empty topic": (spread(DATA, topic=b""), CorruptFrame, "topic of 0 bytes"),
    "long topic": (spread(DATA, topic=b"a" * 256 + b"\0"), CorruptFrame, "topic of 257 bytes"),
    # the header
    "header over the limit": (
        spread(DATA, header=b"\xc0" * 65_537),
        CorruptFrame,
        "header of 65537 bytes; the limit is",
    ),
    "empty header": (spread(DATA, header=b""), CorruptFrame, "header is not msgpack"),
    "truncated header": (spread(DATA, header=DATA[1][:-3]), CorruptFrame, "header is not msgpack: .*incomplete"),
    "bytes after the header": (spread(DATA, header=DATA[1] + b"\0"), CorruptFrame, "header is not msgpack: ExtraData"),
    "no UTF-8": (spread(DATA, header=b"\x81\xa1\xff\x01"), CorruptFrame, "header is not msgpack: UnicodeDecodeError"),
    "header is a list": (spread(DATA, header=b"\x90"), CorruptFrame, "header is not a map with the key beamslot"),
    "magic missing": (edited(frame(), ("beamslot", GONE)), CorruptFrame, "header is not a map with the key beamslot"),
    "keys are numbers": (
        spread(DATA, header=b"\x81\x01\x02"),
        CorruptFrame,
        "header is not msgpack: ValueError: int is",
    ),
    "keys are maps": (spread(DATA, header=b"\x81\x80\x02"), CorruptFrame, "header is not msgpack: ValueError: dict is"),
    "binary value": (edited(frame(), ("tags.a", b"bin")), CorruptFrame, "header is not msgpack: .*max_bin_len"),
    "extension": (edited(frame(), ("tags.a", msgpack.ExtType(5, b"x"))), CorruptFrame, "not msgpack: .*max_ext_len"),
    "long list": (edited(frame(), ("tags.a", [0] * 4097)), CorruptFrame, "header is not msgpack: .*max_array_len"),
    "long map": (
        edited(frame(), ("tags", {str(n): 0 for n in range(4097)})),
        CorruptFrame,
        "not msgpack: .*max_map_len",
    ),
    "nesting beyond msgpack": (spread(DATA, header=b"\x91" * 2000), CorruptFrame, "header is not msgpack: StackError"),
    "wrong version": (
        edited(frame(), ("beamslot", 2)),
        VersionError,
        "message speaks version 2 of the wire; this is 1",
    ),
    "true is no version": (edited(frame(), ("beamslot", True)), VersionError, "version True of the wire; this is 1"),
    "a list is no version": (
        edited(frame(), ("beamslot", [[]])),
        VersionError,
        "version a list of the wire; this is 1",
    ),
    "unknown kind": (
        edited(frame(), ("kind", "pickle")),
        CorruptFrame,
        "kind is 'pickle'; wanted one of data describe ",
    ),
    "a list is no kind": (edited(frame(), ("kind", ["data"])), CorruptFrame, "kind is a list; wanted one of data "),
    "a map is no kind": (edited(frame(), ("kind", {})), CorruptFrame, "kind is of type dict; wanted one of data "),
    "no kind": (edited(frame(), ("kind", GONE)), CorruptFrame, "kind is None; wanted one of data describe "),
    "field missing": (edited(frame(), ("captured", GONE)), CorruptFrame, "data: field 'captured' is missing"),
    # data
    "slot below 0": (
        edited(frame(), ("first", -1)),
        CorruptFrame,
        r"a slot is -1; wanted a whole number from 0 to 2\*\*62",
    ),
    "slot too late": (edited(frame(), ("first", 2**62)), CorruptFrame, "a slot is 4611686018427387904; wanted"),
    "slot is a float": (edited(frame(), ("first", 1.0)), CorruptFrame, "a slot is 1.0; wanted"),
    "slot is true": (edited(frame(), ("first", True)), CorruptFrame, "a slot is True; wanted"),
    "no slots": (edited(frame(), ("count", 0)), CorruptFrame, "count is 0; wanted 1 to 65536 slots"),
    "too many slots": (edited(frame(), ("count", 65_537)), CorruptFrame, "count is 65537; wanted 1 to 65536 slots"),
    "time before the clock": (edited(frame(), ("sent", -1)), CorruptFrame, f"sent is -1; {WHOLE}"),
    "sequence too high": (edited(frame(), ("seq", 2**63)), CorruptFrame, f"seq is 9223372036854775808; {WHOLE}"),
    "deadline is a text": (edited(frame(), ("deadline", "now")), CorruptFrame, f"deadline is 'now'; {WHOLE}"),
    "operator is a number": (
        edited(frame(), ("operator", 3)),
        CorruptFrame,
        "operator is 3; wanted a text of at most 1024",
    ),
    "operator too long": (
        edited(frame(), ("operator", "a" * 1025)),
        CorruptFrame,
        "operator is 'aaa.{0,40}; wanted a text",
    ),
    "tags are a list": (edited(frame(), ("tags", [1])), CorruptFrame, "tags are \\(1,\\); wanted a map"),
    "tags are nil": (edited(frame(), ("tags", None)), CorruptFrame, "tags are None; wanted a map"),
    "tags too deep": (edited(frame(), ("tags", nested(9))), CorruptFrame, "tags nest deeper than 8"),
    "lists in tags too deep": (edited(frame(), ("tags.a", [[[[[[[[]]]]]]]])), CorruptFrame, "tags nest deeper than 8"),
    "tag name too long": (edited(frame(), ("tags", {"a" * 1025: 0})), CorruptFrame, "name of a tag is 'aaa"),
    # buffers
    "truncated buffer": (
        spread(DATA, buffers=[DATA[2][:-1], DATA[3]]),
        CorruptFrame,
        "buffer 'rf' has 95 bytes; .* wants 96",
    ),
    "buffer too long": (
        spread(DATA, buffers=[DATA[2], b"\0\0\0"]),
        CorruptFrame,
        r"'mask' has 3 bytes; bool \(2,\) wants 2",
    ),
    "buffer missing": (DATA[:-1], CorruptFrame, "data: 1 buffers came, the header lists 2"),
    "buffer too many": ([*DATA, b""], CorruptFrame, "data: 3 buffers came, the header lists 2"),
    "buffers swapped": ([*DATA[:2], DATA[3], DATA[2]], CorruptFrame, "buffer 'rf' has 2 bytes; complex64 .* wants 96"),
    "buffers are a map": (edited(frame(), ("buffers", {})), CorruptFrame, "data: TypeError: unhashable"),
    "buffers are nil": (edited(frame(), ("buffers", None)), CorruptFrame, "buffers is None; wanted a list"),
    "65 buffers listed": (
        edited(frame(), ("buffers", [[str(n), "|u1", [0]] for n in range(65)])),
        CorruptFrame,
        "65 buffers are listed; wanted at most 64",
    ),
    "buffer of two words": (
        edited(frame(), ("buffers.0", ["rf", "<c8"])),
        CorruptFrame,
        "data: ValueError: not enough",
    ),
    "buffer name is a number": (edited(frame(), ("buffers.0.0", 1)), CorruptFrame, "buffer name is 1; wanted a text"),
    "duplicate buffer names": (edited(frame(), ("buffers.1.0", "rf")), CorruptFrame, "two buffers have one name"),
    "object dtype": (edited(frame(), ("buffers.0.1", "|O")), DtypeError, f"buffer 'rf': dtype '|O' {ALLOWED}"),
    "big-endian dtype": (edited(frame(), ("buffers.0.1", ">c8")), DtypeError, f"buffer 'rf': dtype '>c8' {ALLOWED}"),
    "dtype is a list": (edited(frame(), ("buffers.0.1", [["a", "<f4"]])), DtypeError, f"dtype a list {ALLOWED}"),
    "rank 9": (edited(frame(), ("buffers.0.2", [1] * 9)), CorruptFrame, "shape .*; wanted at most 8 whole lengths"),
    "negative length": (
        edited(frame(), ("buffers.0.2", [-2, 3, 2])),
        CorruptFrame,
        r"shape \(-2, 3, 2\); wanted at most 8",
    ),
    "length is a float": (
        edited(frame(), ("buffers.0.2", [2.0, 3, 2])),
        CorruptFrame,
        "shape a list; wanted .*whole lengths",
    ),
    "length is true": (
        edited(frame(), ("buffers.0.2", [2, 3, 2, True])),
        CorruptFrame,
        "shape .* wanted .*whole lengths",
    ),
    "shape is nested": (
        edited(frame(), ("buffers.0.2", [[2], 3])),
        CorruptFrame,
        "shape a list; wanted .*whole lengths",
    ),
    "shape is a number": (edited(frame(), ("buffers.0.2", 12)), CorruptFrame, "shape is 12; wanted a list"),
    "huge shape": (edited(frame(), ("buffers.0.2", [2**25, 2])), CorruptFrame, "brings the message to 536870912 bytes"),
    "overflowing shape": (edited(frame(), ("buffers.0.2", [2**63 - 1] * 8)), CorruptFrame, "the limit is 268435456"),
    "overflowing shape of no elements": (
        edited(frame(), ("buffers.0.2", [0, *[2**62] * 7])),
        CorruptFrame,
        "the limit is 268435456",
    ),
    "many small arrays that are huge together": (
        edited(frame(), ("buffers.0.2", [2**24]), ("buffers.1.2", [2**28 - 2**27 + 1])),
        CorruptFrame,
        "buffer 'mask' brings the message to 268435457 bytes",
    ),
    # the other kinds
    "gap of no slots": (edited(Gap(3, 1, "x"), ("count", 0)), CorruptFrame, "count is 0; wanted at least 1 slot"),
    "gap without reason": (edited(Gap(3, 1, "x"), ("reason", None)), CorruptFrame, "reason is None; wanted a text"),
    "gap with a late epoch": (edited(Gap(3, 1, "x"), ("epoch", 2**63)), CorruptFrame, f"epoch is .*; {WHOLE}"),
    "gap with a buffer": ([*wire(Gap(3, 1, "x")), b"abc"], CorruptFrame, "gap with 1 buffers; wanted none"),
    "done with a buffer": ([*wire(Done([])), b""], CorruptFrame, "done with 1 buffers; wanted none"),
    "ok is a number": (edited(Eos(3), ("ok", 1)), CorruptFrame, "ok is 1; wanted true or false"),
    "eos is nil": (edited(Acknowledge([]), ("eos", None)), CorruptFrame, "eos is None; wanted true or false"),
    "ranges that fall": (
        edited(Done([]), ("finished", [[4, 5], [0, 1]])),
        CorruptFrame,
        r"do not rise: 0\.\.1 after 5",
    ),
    "ranges that overlap": (
        edited(Done([]), ("finished", [[0, 5], [4, 6]])),
        CorruptFrame,
        r"do not rise: 4\.\.6 after 5",
    ),
    "a range of nothing": (edited(Done([]), ("finished", [[4, 4]])), CorruptFrame, "finished ranges do not rise: 4"),
    "a range of one number": (
        edited(Done([]), ("finished", [[4]])),
        CorruptFrame,
        "done: ValueError: not enough values",
    ),
    "a range that is a number": (
        edited(Done([]), ("finished", [4])),
        CorruptFrame,
        "a range of finished is 4; wanted a list",
    ),
    "ranges of floats": (edited(Heartbeat(), ("finished", [[0, 1.5]])), CorruptFrame, "a slot is 1.5; wanted"),
    "finished is a map": (
        edited(Done([]), ("finished", {})),
        CorruptFrame,
        "finished is of type dict; wanted a list",
    ),
    "negative credit": (edited(Credit(1, 1), ("bytes", -1)), CorruptFrame, f"bytes is -1; {WHOLE}"),
    "token is binary": (edited(Hello("", "", 0, 0, [], 1, 1), ("token", 5)), CorruptFrame, "token is 5; wanted a text"),
    # the description
    "info is a list": (edited(description(), ("info", [])), CorruptFrame, r"info is \(\); wanted a map"),
    "axes without length": (
        edited(description(), ("info.axes.y", GONE)),
        CorruptFrame,
        "'rf' has axes without name or length: y",
    ),
    "unknown axis": (
        edited(description(), ("info.arrays.rf.axes", ["row"])),
        CorruptFrame,
        "without name or length: row",
    ),
    "axis twice": (
        edited(description(), ("info.arrays.rf.axes", ["y", "y"])),
        ShapeError,
        "axes 'y y': an axis stands twice",
    ),
    "late slot": (
        edited(description(), ("info.arrays.rf.axes", ["y", "slot"])),
        ShapeError,
        "axes 'y slot': slot comes first",
    ),
    "axes are a text": (
        edited(description(), ("info.arrays.rf.axes", "yz")),
        CorruptFrame,
        "axes of array 'rf' is 'yz'; wanted",
    ),
    "axis is a number": (edited(description(), ("info.arrays.rf.axes", [1])), CorruptFrame, "axis is 1; wanted a text"),
    "length of an unknown axis": (
        edited(description(), ("info.axes.row", 3)),
        CorruptFrame,
        "axes name a length of 'row'; wanted",
    ),
    "length of slot": (
        edited(description(), ("info.axes.slot", 3)),
        CorruptFrame,
        "axes name a length of 'slot'; wanted axes but",
    ),
    "length 0": (edited(description(), ("info.axes.y", 0)), CorruptFrame, f"length of y is 0; wanted 1 to {BIG}"),
    "length too long": (
        edited(description(), ("info.axes.y", BIG + 1)),
        CorruptFrame,
        f"length of y is {BIG + 1}; wanted 1 to",
    ),
    "slot of too many bytes": (
        edited(description(), ("info.axes.y", BIG)),
        CorruptFrame,
        "buffer 'rf' brings the message to",
    ),
    "object array": (
        edited(description(), ("info.arrays.rf.dtype", "|O")),
        DtypeError,
        f"array 'rf': dtype '|O' {ALLOWED}",
    ),
    "dtype in words": (
        edited(description(), ("info.arrays.rf.dtype", "(1,2")),
        DtypeError,
        rf"dtype '\(1,2' {ALLOWED}",
    ),
    "dtype nil": (edited(description(), ("info.arrays.rf.dtype", None)), CorruptFrame, "dtype is None; wanted a text"),
    "array is a text": (
        edited(description(), ("info.arrays.rf", "<c8")),
        CorruptFrame,
        "array 'rf' is '<c8'; wanted a map",
    ),
    "unit missing": (
        edited(description(), ("info.arrays.rf.unit", GONE)),
        CorruptFrame,
        "describe: field 'unit' is missing",
    ),
    "period is a text": (
        edited(description(), ("info.slot_period", "1e-3")),
        CorruptFrame,
        "slot_period is '1e-3'; wanted a finite",
    ),
    "carrier is NaN": (
        edited(description(), ("info.carrier", float("nan"))),
        CorruptFrame,
        "carrier is nan; wanted a finite",
    ),
    "no columns": (edited(description(), ("info.geometry.n_y", 0)), CorruptFrame, "n_y is 0; wanted 1 to"),
    "spacing is true": (
        edited(description(), ("info.geometry.spacing_z", True)),
        CorruptFrame,
        "spacing_z is True; wanted a",
    ),
    "geometry is a list": (
        edited(description(), ("info.geometry", [1])),
        CorruptFrame,
        r"geometry is \(1,\); wanted a map",
    ),
    "notes are a text": (edited(description(), ("info.notes", "x")), CorruptFrame, "tags are 'x'; wanted a map"),
    "operator is a text": (
        edited(description(), ("info.operator", "x")),
        CorruptFrame,
        "operator is 'x'; wanted a map",
    ),
    "operator hash mismatch": (
        edited(description(), ("info.operator.hash", "0" * 16)),
        CorruptFrame,
        f"operator hashes to {operator().hash}, the header says '{'0' * 16}'",
    ),
    "operator of other weights": (
        spread(INFO, buffers=[b"\1" + INFO[2][1:], INFO[3]]),
        CorruptFrame,
        f"operator hashes to .*, the header says '{operator().hash}'",
    ),
    "operator without weights": (
        edited(description(), ("buffers.0.0", "w")),
        CorruptFrame,
        "describe: field 'weights' is missing",
    ),
    "operator of floats": (
        edited(description(), ("buffers.0.1", "<f8")),
        CorruptFrame,
        "describe: operator weights are float64, group int16; wanted complex64 and int16",
    ),
    "flat operator": (
        edited(description(), ("buffers.0.2", [6, 4])),
        ShapeError,
        r"operator: weights are \(6, 4\), group \(3,\)",
    ),
    "open interval": (
        edited(description(), ("info.operator.interval", [0.0])),
        CorruptFrame,
        "describe: ValueError: not enough",
    ),
    "infinite interval": (
        edited(description(), ("info.operator.interval", [0.0, float("inf")])),
        CorruptFrame,
        "interval is inf; wanted a finite number",
    ),
    "noise is NaN": (
        edited(description(), ("info.operator.noise_var", float("nan"))),
        CorruptFrame,
        "noise_var is nan; wanted",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_message_raises_its_typed_error(case):
    parts, error, text = REFUSED[case]
    with pytest.raises(FrameError, match=text.replace("'|O'", r"'\|O'")) as caught:
        decode(parts)
    assert type(caught.value) is error


@pytest.mark.parametrize("equal", [[True, 2], [1.0, 2]], ids=["true", "float"])
def test_a_length_that_only_equals_a_whole_number_is_refused_also_after_the_whole_number_came(equal):
    good = frame(arrays={"rf": np.zeros((1, 2), np.complex64)})
    decode(wire(good))
    with pytest.raises(CorruptFrame, match=r"buffer 'rf': shape .*; wanted whole lengths"):
        decode(edited(good, ("buffers.0.2", equal)))


def test_a_huge_shape_is_refused_before_anything_is_allocated():
    bombs = [REFUSED[case][0] for case in REFUSED if "huge" in case or "overflowing" in case]
    assert len(bombs) == 4
    tracemalloc.start()
    for parts in bombs:
        with pytest.raises(CorruptFrame):
            decode(parts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_unknown_keys_and_unknown_buffers_of_a_description_are_ignored():
    later = edited(description(), ("colour", "red"), ("info.colour", [1]), ("info.operator.colour", None))
    assert same(decode(later), description())
    later = edited(description(), ("buffers", [*msgpack.unpackb(INFO[1])["buffers"], ["colour", "|u1", [2]]]))
    assert same(decode([*later, b"ab"]), description())
    assert same(decode(edited(frame(), ("colour", "red"))), frame())


def test_whole_numbers_are_taken_as_numbers():
    info = decode(edited(description(), ("info.slot_period", 1), ("info.carrier", 0))).info
    assert (info.slot_period, info.carrier) == (1.0, 0.0)
    assert type(info.slot_period) is type(info.carrier) is float


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        (
            frame(arrays={"rf": np.array([{}])}),
            DtypeError,
            r"buffer 'rf': dtype 'object' may not travel; allowed: <c8 ",
        ),
        (frame(arrays={"rf": np.array(["a"])}), DtypeError, r"buffer 'rf': dtype '<U1' may not travel"),
        (frame(arrays={"rf": np.zeros(2, ">f4")}), DtypeError, r"buffer 'rf': dtype '>f4' may not travel"),
        (frame(arrays={"rf": np.zeros(2, np.float16)}), DtypeError, r"buffer 'rf': dtype 'float16' may not travel"),
        (
            frame(arrays={"rf": np.zeros((1,) * 9)}),
            CorruptFrame,
            "buffer 'rf': shape .*; wanted at most 8 whole lengths",
        ),
        (
            frame(arrays={str(n): np.zeros(1) for n in range(65)}),
            CorruptFrame,
            "65 buffers are listed; wanted at most 64",
        ),
        (
            frame(arrays={"rf": np.broadcast_to(np.zeros((), np.float64), (0, 2**26))}),
            CorruptFrame,
            "brings the message to 536870912 bytes; the limit is 268435456",
        ),
        (frame(arrays={3: np.zeros(1)}), CorruptFrame, "buffer name is 3; wanted a text"),
        (frame(tags={"a": b"bytes"}), CorruptFrame, "a tag is of type bytes; wanted maps, lists, texts, numbers,"),
        (frame(tags={"a": 1j}), CorruptFrame, "a tag is of type complex; wanted"),
        (frame(tags={"a": np.longdouble(1)}), CorruptFrame, "a tag is of type longdouble; wanted"),
        (frame(tags={"a": np.zeros(3)}), CorruptFrame, "a tag is of type ndarray; wanted"),
        (frame(tags={1: "a"}), CorruptFrame, "name of a tag is 1; wanted a text"),
        (frame(tags={"a": [0] * 4097}), CorruptFrame, "a tag has 4097 entries; wanted at most 4096"),
        (frame(tags={"a": 2**64}), CorruptFrame, "data: OverflowError: "),
        (frame(tags={"a": "\ud800"}), CorruptFrame, "data: UnicodeEncodeError: "),
        (
            frame(tags={str(n): "a" * 1000 for n in range(70)}),
            CorruptFrame,
            r"data: header of \d+ bytes; the limit is 65536",
        ),
        (frame(first=np.int64(3)), CorruptFrame, "data: TypeError: can not serialize 'numpy.int64' object"),
        (Gap(3, 1, b""[0:0].decode), CorruptFrame, "gap: TypeError: can not serialize"),
        (Acknowledge([(3, 5), (1, 2)]), CorruptFrame, r"finished ranges do not rise: 1\.\.2 after 5"),
        (
            Done([(2 * n, 2 * n + 1) for n in range(4097)]),
            CorruptFrame,
            "finished has 4097 entries; wanted at most 4096",
        ),
    ],
)
def test_what_may_not_travel_is_refused_where_it_is_made(message, error, text):
    with pytest.raises(FrameError, match=text) as caught:
        encode(message)
    assert type(caught.value) is error
