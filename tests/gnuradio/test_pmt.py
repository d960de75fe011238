"""PMTs: the bytes are GNU Radio's, every value comes back, and damaged bytes raise one error and no other."""

import json
import random
import subprocess
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from beamslot_gnuradio import PYTHON, needs_gnuradio
from hypothesis import given, settings
from hypothesis import strategies as st

from beamslot.errors import CorruptFrame
from beamslot.gnuradio.pmt import MOST_DEPTH, MOST_SYMBOL, U64, UNIFORM_TYPES, Pair, read, read_whole, write

GOLDEN: list[tuple[Any, str]] = [
    (True, "00"),
    (False, "01"),
    (None, "06"),
    ("rx_time", "02 0007 72785f74696d65"),
    (7, "03 00000007"),
    (-1, "03 ffffffff"),
    (2**31, "0d 0000000080000000"),
    (U64(7), "0b 0000000000000007"),
    (U64(2**63), "0b 8000000000000000"),
    (0.25, "04 3fd0000000000000"),
    (1 + 2j, "05 3ff0000000000000 4000000000000000"),
    ((U64(7), 0.25), "0c 00000002 0b 0000000000000007 04 3fd0000000000000"),
    ([1, 2.0], "08 00000002 03 00000001 04 4000000000000000"),
    ({"a": 1, "b": 2}, "09 07 02000162 0300000002 09 07 02000161 0300000001 06"),
    (np.array([1 + 2j], np.complex64), "0a 0a 00000001 01 00 3f800000 40000000"),
    (np.array([1, 2, 3], np.uint8), "0a 00 00000003 01 00 010203"),
    (
        Pair({"b": "a"}, np.array([1 + 2j], np.complex64)),
        "07 0907020001620200016106 0a0a000000010100 3f800000 40000000",
    ),
]
"""Values and their bytes, taken from a running GNU Radio 3.10.5.1."""


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same PMT: type by type, bit by bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, Pair):
        return same(one.car, other.car) and same(one.cdr, other.cdr)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return repr(one) == repr(other)


@pytest.mark.parametrize(("value", "text"), GOLDEN, ids=lambda one: str(one)[:20])
def test_a_value_and_its_bytes(value: Any, text: str) -> None:
    data = bytes.fromhex(text.replace(" ", ""))
    assert write(value) == data
    assert same(read_whole(data), value)
    assert read(b"xx" + data + b"yy", 2)[1] == 2 + len(data)


def test_an_empty_dict_is_nil_and_the_newest_entry_of_a_key_holds() -> None:
    assert write({}) == b"\x06"
    twice = write({"a": 1})[:-1] + write({"a": 2})  # two cells, the first of which hides the second
    assert read_whole(twice) == {"a": 1}


def test_numbers_of_numpy_are_numbers() -> None:
    for value, plain in ((np.int64(3), 3), (np.float32(0.5), 0.5), (np.bool_(True), True), (np.complex64(1j), 1j)):
        assert write(value) == write(plain)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**64 - 1).map(U64),
    st.floats(),
    st.complex_numbers(allow_nan=False),
    st.text(st.characters(codec="utf-8"), max_size=20),
)


def arrays_of(dtype: np.dtype[Any]) -> st.SearchStrategy[np.ndarray]:
    raw = st.binary(max_size=4 * dtype.itemsize)
    return raw.map(
        lambda some: np.frombuffer(some[: len(some) // dtype.itemsize * dtype.itemsize], dtype.newbyteorder("="))
    )


uniform = st.one_of(*map(arrays_of, UNIFORM_TYPES))
values = st.recursive(
    scalars | uniform,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=5), inner, min_size=1, max_size=4),
        st.tuples(inner, inner).map(lambda both: Pair(*both)),
    ),
    max_leaves=12,
)


@given(values)
@settings(max_examples=300, deadline=None)
def test_every_value_comes_back(value: Any) -> None:
    assert same(read_whole(write(value)), value)


def test_damaged_bytes_raise_one_error_and_never_another() -> None:
    rng = random.Random(4)
    whole = [write(value) for value, _ in GOLDEN] + [write({"k": [value for value, _ in GOLDEN[:12]]})]
    refused = 0
    for turn in range(10_000):
        data = bytearray(whole[turn % len(whole)])
        for _ in range(rng.randint(1, 3)):
            damage = rng.randrange(3)
            if damage == 0 and data:
                data[rng.randrange(len(data))] = rng.randrange(256)
            elif damage == 1:
                del data[rng.randrange(len(data) + 1) :]
            else:
                data.insert(rng.randrange(len(data) + 1), rng.randrange(256))
        try:
            read_whole(bytes(data))
        except CorruptFrame as error:
            refused += str(error).startswith("pmt: ")
    assert refused > 5_000


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "pmt: ends at byte 0, where a value is to begin"),
        (b"\x0e", "pmt: byte 0 is 0x0e, which begins no value"),
        (b"\x03\0\0", "pmt: ends within a value that begins before byte 3"),
        (b"\x02\0\x05abc", "pmt: a symbol of 5 bytes at byte 3; there are 3"),
        (b"\x02\xff\xff" + b"a" * 65535, "pmt: a symbol of 65535 bytes at byte 3; there are 65535"),
        (b"\x0c\xff\xff\xff\xff", "pmt: 4294967295 values at byte 5; there are 0 bytes"),
        (b"\x0a\x0a\xff\xff\xff\xff\0", "pmt: a uniform vector of 4294967295 complex64 at byte 7; there are 0 bytes"),
        (b"\x0a\x0c\0\0\0\0\0", "pmt: a uniform vector at byte 1 has the element type 0x0c, which is none"),
        (b"\x09\x06\x06", "pmt: an entry of a dict at byte 1 is no pair"),
        (b"\x09\x07\x08\0\0\0\0\x06\x06", "pmt: a key of a dict at byte 1 is a list"),
        (b"\x09\x07\x06\x06\x00", "pmt: at byte 4 a dict neither goes on nor ends"),
        (b"\x00\x00", "pmt: 1 bytes follow the value, which ends at byte 1"),
        (b"\x07" * 100, f"pmt: values within values, more than {MOST_DEPTH} deep"),
    ],
)
def test_what_is_no_pmt_is_refused_with_the_byte(data: bytes, text: str) -> None:
    with pytest.raises(CorruptFrame) as caught:
        read_whole(data)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1, 2}, "pmt: no PMT stands for set"),
        ("a" * 1025, f"pmt: a symbol of 1025 bytes; GNU Radio reads at most {MOST_SYMBOL}"),
        (2**64, f"pmt: {2**64} is not in the range of an integer"),
        (np.zeros((1, 1), np.complex64), "pmt: no uniform vector holds an array of complex64 with 2 axes"),
        (np.zeros(1, np.float16), "pmt: no uniform vector holds an array of float16 with 1 axes"),
    ],
)
def test_what_no_pmt_stands_for_is_refused(value: Any, text: str) -> None:
    with pytest.raises(CorruptFrame) as caught:
        write(value)
    assert str(caught.value) == text


def test_values_too_deep_are_not_written() -> None:
    value: Any = 1
    for _ in range(MOST_DEPTH + 1):
        value = [value]
    with pytest.raises(CorruptFrame, match="more than 64 deep"):
        write(value)


ECHO = """
import json, pmt, sys
for line in sys.stdin:
    data = bytes.fromhex(line)
    print(pmt.serialize_str(pmt.deserialize_str(data)).hex(), flush=True)
"""


def test_gnuradio_reads_what_we_write_and_writes_the_same_bytes() -> None:
    needs_gnuradio()
    written = [write(value).hex() for value, _ in GOLDEN]
    mixed = write({"pdu": [(True, None, "x"), Pair(1, 2.5)], "b": U64(3), "c": (1j, -(2**40))})
    done = subprocess.run(
        [PYTHON, "-c", ECHO],
        input="\n".join([*written, mixed.hex()]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.dumps(done.stdout.split()) == json.dumps([*written, mixed.hex()])
