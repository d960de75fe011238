"""Polymorphic types (PMT) of GNU Radio as bytes: our own reader and writer, which import nothing of it.

| PMT            | byte | here                            |
|----------------|------|---------------------------------|
| #t, #f         | 0, 1 | True, False                     |
| symbol         | 2    | str                             |
| int32, int64   | 3, d | int                             |
| double         | 4    | float                           |
| complex        | 5    | complex                         |
| nil, ()        | 6    | None; an empty dict is one      |
| pair           | 7    | Pair                            |
| vector         | 8    | list                            |
| dict           | 9    | dict                            |
| uniform vector | a    | one-dimensional NumPy array     |
| uint64         | b    | U64, and int beyond int64       |
| tuple          | c    | tuple                           |

Everything is big-endian and stands without a length before it.
source: the serialized form of GNU Radio 3.10, pmt_serialize.cc and pmt_serial_tags.h; what is here was written from a
description of the bytes and is checked against a running GNU Radio
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import CorruptFrame

MOST_SYMBOL = 1024
"""GNU Radio reads no longer symbol [bytes]."""

MOST_DEPTH = 64
"""Values within values."""

TRUE, FALSE, SYMBOL, INT32, DOUBLE, COMPLEX, NIL, PAIR, VECTOR, DICT, UNIFORM, UINT64, TUPLE, INT64 = range(14)

UNIFORM_TYPES = (
    *(np.dtype(name) for name in (">u1", ">i1", ">u2", ">i2", ">u4", ">i4", ">u8", ">i8")),
    *(np.dtype(name) for name in (">f4", ">f8", ">c8", ">c16")),
)
"""Element types of uniform vectors, by their number."""

NUMBER_OF = {dtype.newbyteorder("=").str: number for number, dtype in enumerate(UNIFORM_TYPES)}

Value = Any


class U64(int):
    """An integer that is a uint64 on the wire whatever its size, as the seconds of `rx_time` are."""


@dataclass(frozen=True)
class Pair:
    """A pair (car . cdr); a PDU is one of a dict and a uniform vector."""

    car: Value
    cdr: Value


def write(value: Value) -> bytes:
    """Return a value as serialized PMT.

    raises CorruptFrame for what no PMT stands for, or GNU Radio would not read
    """
    parts: list[bytes] = []
    _write(value, parts, 0)
    return b"".join(parts)


def _write(value: Value, parts: list[bytes], depth: int) -> None:
    if depth > MOST_DEPTH:
        raise CorruptFrame(f"pmt: values within values, more than {MOST_DEPTH} deep")
    writer = _WRITERS.get(type(value))
    if writer is None:
        writer = next((w for kind, w in _BASES if isinstance(value, kind)), None)
    if writer is None:
        raise CorruptFrame(f"pmt: no PMT stands for {type(value).__name__}")
    writer(value, parts, depth)


def _write_bool(value: Any, parts: list[bytes], _: int) -> None:
    parts.append(b"\x00" if value else b"\x01")


def _write_symbol(value: str, parts: list[bytes], _: int) -> None:
    text = value.encode("utf-8", "surrogateescape")
    if len(text) > MOST_SYMBOL:
        raise CorruptFrame(f"pmt: a symbol of {len(text)} bytes; GNU Radio reads at most {MOST_SYMBOL}")
    parts.append(struct.pack(">BH", SYMBOL, len(text)) + text)


def _write_int(value: Any, parts: list[bytes], _: int) -> None:
    number = int(value)
    if -(2**31) <= number < 2**31:
        parts.append(struct.pack(">Bi", INT32, number))
    elif -(2**63) <= number < 2**63:
        parts.append(struct.pack(">Bq", INT64, number))
    else:
        _write_u64(number, parts, 0)


def _write_u64(value: int, parts: list[bytes], _: int) -> None:
    if not 0 <= value < 2**64:
        raise CorruptFrame(f"pmt: {value} is not in the range of an integer")
    parts.append(struct.pack(">BQ", UINT64, value))


def _write_float(value: Any, parts: list[bytes], _: int) -> None:
    parts.append(struct.pack(">Bd", DOUBLE, value))


def _write_complex(value: Any, parts: list[bytes], _: int) -> None:
    parts.append(struct.pack(">Bdd", COMPLEX, value.real, value.imag))


def _write_nil(_value: None, parts: list[bytes], _: int) -> None:
    parts.append(b"\x06")


def _write_pair(value: Pair, parts: list[bytes], depth: int) -> None:
    parts.append(b"\x07")
    _write(value.car, parts, depth + 1)
    _write(value.cdr, parts, depth + 1)


def _write_list(value: list[Value], parts: list[bytes], depth: int) -> None:
    _write_many(VECTOR, value, parts, depth)


def _write_tuple(value: tuple[Value, ...], parts: list[bytes], depth: int) -> None:
    _write_many(TUPLE, value, parts, depth)


def _write_many(kind: int, values: list[Value] | tuple[Value, ...], parts: list[bytes], depth: int) -> None:
    parts.append(struct.pack(">BI", kind, len(values)))
    for one in values:
        _write(one, parts, depth + 1)


def _write_dict(value: Mapping[Any, Value], parts: list[bytes], depth: int) -> None:
    for key in reversed(value):  # the newest stands first, as GNU Radio's dict_add puts it
        parts.append(b"\x09\x07")
        _write(key, parts, depth + 1)
        _write(value[key], parts, depth + 1)
    parts.append(b"\x06")


def _write_uniform(value: NDArray[Any], parts: list[bytes], _: int) -> None:
    number = NUMBER_OF.get(value.dtype.newbyteorder("=").str)
    if number is None or value.ndim != 1:
        raise CorruptFrame(f"pmt: no uniform vector holds an array of {value.dtype} with {value.ndim} axes")
    parts.append(struct.pack(">BBIBB", UNIFORM, number, len(value), 1, 0))
    parts.append(value.astype(UNIFORM_TYPES[number]).tobytes())


_WRITERS: dict[type, Callable[[Any, list[bytes], int], None]] = {
    bool: _write_bool,
    str: _write_symbol,
    int: _write_int,
    U64: _write_u64,
    float: _write_float,
    complex: _write_complex,
    type(None): _write_nil,
    Pair: _write_pair,
    list: _write_list,
    tuple: _write_tuple,
    dict: _write_dict,
    np.ndarray: _write_uniform,
}
_BASES: tuple[tuple[type, Callable[[Any, list[bytes], int], None]], ...] = (
    (np.bool_, _write_bool),
    (np.integer, _write_int),
    (np.floating, _write_float),
    (np.complexfloating, _write_complex),
    (Mapping, _write_dict),
)


def read(data: bytes | memoryview, at: int = 0) -> tuple[Value, int]:
    """Return the value that begins at byte `at`, and where the next one begins.

    raises CorruptFrame where the bytes are no PMT, naming the byte
    """
    try:
        return _read(data, at, 0)
    except struct.error:
        raise CorruptFrame(f"pmt: ends within a value that begins before byte {len(data)}") from None


def read_whole(data: bytes | memoryview) -> Value:
    """Return the one value that the bytes are.

    raises CorruptFrame where they are no PMT, or more than one
    """
    value, end = read(data)
    if end != len(data):
        raise CorruptFrame(f"pmt: {len(data) - end} bytes follow the value, which ends at byte {end}")
    return value


def _read(data: Any, at: int, depth: int) -> tuple[Value, int]:
    if at >= len(data):
        raise CorruptFrame(f"pmt: ends at byte {len(data)}, where a value is to begin")
    kind = data[at]
    if kind >= len(_READERS):
        raise CorruptFrame(f"pmt: byte {at} is {kind:#04x}, which begins no value")
    if depth > MOST_DEPTH:
        raise CorruptFrame(f"pmt: values within values, more than {MOST_DEPTH} deep")
    return _READERS[kind](data, at + 1, depth)


def _read_true(_data: Any, at: int, _: int) -> tuple[Value, int]:
    return True, at


def _read_false(_data: Any, at: int, _: int) -> tuple[Value, int]:
    return False, at


def _read_nil(_data: Any, at: int, _: int) -> tuple[Value, int]:
    return None, at


def _read_symbol(data: Any, at: int, _: int) -> tuple[Value, int]:
    (length,) = struct.unpack_from(">H", data, at)
    at += 2
    if length > MOST_SYMBOL or at + length > len(data):
        raise CorruptFrame(f"pmt: a symbol of {length} bytes at byte {at}; there are {len(data) - at}")
    return bytes(data[at : at + length]).decode("utf-8", "surrogateescape"), at + length


def _read_int32(data: Any, at: int, _: int) -> tuple[Value, int]:
    return struct.unpack_from(">i", data, at)[0], at + 4


def _read_int64(data: Any, at: int, _: int) -> tuple[Value, int]:
    return struct.unpack_from(">q", data, at)[0], at + 8


def _read_u64(data: Any, at: int, _: int) -> tuple[Value, int]:
    return U64(struct.unpack_from(">Q", data, at)[0]), at + 8


def _read_double(data: Any, at: int, _: int) -> tuple[Value, int]:
    return struct.unpack_from(">d", data, at)[0], at + 8


def _read_complex(data: Any, at: int, _: int) -> tuple[Value, int]:
    return complex(*struct.unpack_from(">dd", data, at)), at + 16


def _read_pair(data: Any, at: int, depth: int) -> tuple[Value, int]:
    car, at = _read(data, at, depth + 1)
    cdr, at = _read(data, at, depth + 1)
    return Pair(car, cdr), at


def _read_list(data: Any, at: int, depth: int) -> tuple[Value, int]:
    (count,) = struct.unpack_from(">I", data, at)
    at += 4
    if count > len(data) - at:  # every value takes a byte
        raise CorruptFrame(f"pmt: {count} values at byte {at}; there are {len(data) - at} bytes")
    values: list[Value] = []
    for _ in range(count):
        value, at = _read(data, at, depth + 1)
        values.append(value)
    return values, at


def _read_tuple(data: Any, at: int, depth: int) -> tuple[Value, int]:
    values, at = _read_list(data, at, depth)
    return tuple(values), at


def _read_dict(data: Any, at: int, depth: int) -> tuple[Value, int]:
    cells: list[tuple[Any, Value]] = []
    while True:  # after each cell's car comes its cdr, which is the next cell, and at last nil
        begin = at
        car, at = _read(data, at, depth + 1)
        if not isinstance(car, Pair):
            raise CorruptFrame(f"pmt: an entry of a dict at byte {begin} is no pair")
        try:
            hash(car.car)
        except TypeError:
            raise CorruptFrame(f"pmt: a key of a dict at byte {begin} is a {type(car.car).__name__}") from None
        cells.append((car.car, car.cdr))
        if at >= len(data) or data[at] not in (DICT, NIL):
            raise CorruptFrame(f"pmt: at byte {at} a dict neither goes on nor ends")
        at += 1
        if data[at - 1] == NIL:
            return dict(reversed(cells)), at


def _read_uniform(data: Any, at: int, _: int) -> tuple[Value, int]:
    number, count, padding = struct.unpack_from(">BIB", data, at)
    if number >= len(UNIFORM_TYPES):
        raise CorruptFrame(f"pmt: a uniform vector at byte {at} has the element type {number:#04x}, which is none")
    dtype, begin = UNIFORM_TYPES[number], at + 6 + padding
    end = begin + count * dtype.itemsize
    if end > len(data):
        left = len(data) - begin
        raise CorruptFrame(f"pmt: a uniform vector of {count} {dtype.name} at byte {begin}; there are {left} bytes")
    return np.frombuffer(data, dtype, count, begin).astype(dtype.newbyteorder("=")), end


_READERS = (
    *(_read_true, _read_false, _read_symbol, _read_int32, _read_double, _read_complex, _read_nil),
    *(_read_pair, _read_list, _read_dict, _read_uniform, _read_u64, _read_tuple, _read_int64),
)
