"""MATLAB's .mat of level 5 (`-v6`, `-v7`): arrays of numbers; everything else in the file is passed over.

Read here rather than by scipy.io, which makes room for what a header claims before it looks whether it is there.

    file    = header of 128 bytes, elements
    element = tag (type, bytes), data padded to 8 bytes; up to 4 bytes of data stand within the tag
    matrix  = flags, dimensions, name, real part, imaginary part; each an element; column-major

source: MathWorks, MAT-File Level 5 File Format
"""

import math
import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import BadParam
from beamslot.recording.foreign.bounded import LARGEST, MAX_DEFLATED, reading, size_of
from beamslot.recording.foreign.file_array import FileArray

HEADER = 128
MATRIX, COMPRESSED = 14, 15
STORED_AS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
COMPLEX_FLAG = 0x0800
MAX_VARIABLES = 1_000
PROLOGUE = 4_096
"""Flags, dimensions and name of a matrix are within so many bytes."""

Endian = Literal["<", ">"]


@dataclass(frozen=True)
class _Matrix:
    """What stands before the values of a matrix.

    at: where the values begin, from the beginning of the element's data
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_complex: bool
    at: int


def read_mat5(path: Path) -> dict[str, FileArray]:
    """Return the arrays of numbers of a .mat file of level 5 by name; raises BadParam."""
    with reading(path):
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if path.stat().st_size else b""
        data = memoryview(mapped)
        endian = _endian(path, data)
        found: dict[str, FileArray] = {}
        for number, (kind, body) in enumerate(_elements(path, data[HEADER:], endian)):
            if number >= MAX_VARIABLES:
                raise BadParam(f"{path}: has more than {MAX_VARIABLES} variables")
            stored = _variable(path, kind, body, endian)
            if stored is not None:
                found[stored.name] = stored
        return found


def _endian(path: Path, data: memoryview) -> Endian:
    mark = bytes(data[HEADER - 2 : HEADER])
    if len(data) < HEADER or mark not in (b"IM", b"MI"):
        raise BadParam(f"{path}: is no .mat file of level 5: its header does not end with IM or MI")
    endian: Endian = "<" if mark == b"IM" else ">"
    version = int(np.frombuffer(data, f"{endian}u2", 1, HEADER - 4)[0])
    if version != 0x0100:
        raise BadParam(f"{path}: has version {version:#06x} of the format; wanted 0x0100")
    return endian


def _elements(path: Path, data: memoryview, endian: Endian) -> Iterator[tuple[int, memoryview]]:
    """Yield type and data of the elements that follow each other."""
    at = 0
    while at < len(data):
        kind, body, size = _element(path, data[at:], endian)
        yield kind, body
        at += size


def _element(path: Path, data: memoryview, endian: Endian) -> tuple[int, memoryview, int]:
    """Return type and data of the element that begins here, and how many bytes it takes with its tag and padding."""
    if len(data) < 8:
        raise BadParam(f"{path}: ends within the tag of an element")
    first, nbytes = np.frombuffer(data, f"{endian}u4", 2).tolist()
    if first >> 16:
        if first >> 16 > 4:
            raise BadParam(f"{path}: a small element has {first >> 16} bytes; wanted at most 4")
        return first & 0xFFFF, data[4 : 4 + (first >> 16)], 8
    if nbytes > len(data) - 8:
        raise BadParam(f"{path}: an element has {nbytes} bytes; {len(data) - 8} are left of the file")
    padded = nbytes if first == COMPRESSED else (nbytes + 7) // 8 * 8
    return first, data[8 : 8 + nbytes], 8 + padded


def _variable(path: Path, kind: int, body: memoryview, endian: Endian) -> FileArray | None:
    if kind == COMPRESSED:
        begun = zlib.decompressobj().decompress(body, PROLOGUE)
        if len(begun) < 8:
            raise BadParam(f"{path}: a compressed element has no tag")
        inner, nbytes = np.frombuffer(begun, f"{endian}u4", 2).tolist()
        if nbytes > min(LARGEST, MAX_DEFLATED * (len(body) + 1)):
            raise BadParam(f"{path}: a compressed element claims {nbytes} bytes in {len(body)}")
        matrix = _prologue(path, memoryview(begun)[8:], endian) if inner == MATRIX else None
    else:
        matrix, nbytes = (_prologue(path, body[:PROLOGUE], endian) if kind == MATRIX else None), 0
    if matrix is None:
        return None
    deflated, plain = partial(_inflated, path, body, nbytes), partial(_values, path, body)
    load = partial(deflated if kind == COMPRESSED else plain, matrix, endian)
    dtype = np.dtype(matrix.dtype)
    if matrix.is_complex:
        dtype = np.dtype(np.complex64 if matrix.dtype == "f4" else np.complex128)
    size_of(path, repr(matrix.name), matrix.shape, dtype.itemsize)
    return FileArray(matrix.name, matrix.shape, dtype, load)


def _prologue(path: Path, data: memoryview, endian: Endian) -> _Matrix | None:
    """Return what a matrix is; None for one that holds no numbers, or has no name."""
    _, flags, used = _element(path, data, endian)
    if len(flags) != 8:
        raise BadParam(f"{path}: the flags of a matrix have {len(flags)} bytes; wanted 8")
    word = int(np.frombuffer(flags, f"{endian}u4", 1)[0])
    if word & 0xFF not in CLASSES:
        return None
    _, dimensions, size = _element(path, data[used:], endian)
    shape = tuple(np.frombuffer(dimensions, f"{endian}i4").tolist())
    used += size
    _, name, size = _element(path, data[used:], endian)
    text = bytes(name).decode("utf-8", "replace")
    return _Matrix(text, shape, CLASSES[word & 0xFF], bool(word & COMPLEX_FLAG), used + size) if text else None


def _inflated(path: Path, body: memoryview, nbytes: int, matrix: _Matrix, endian: Endian) -> NDArray[Any]:
    with reading(path):
        inflating = zlib.decompressobj()
        data = inflating.decompress(body, nbytes + 8)
        data += inflating.decompress(inflating.unconsumed_tail, 1)  # reads on to the checksum
        if len(data) != nbytes + 8 or not inflating.eof:
            raise BadParam(f"{path}: {matrix.name!r} is compressed to other than {nbytes} bytes")
        return _values(path, memoryview(data)[8:], matrix, endian)


def _values(path: Path, body: memoryview, matrix: _Matrix, endian: Endian) -> NDArray[Any]:
    with reading(path):
        real, size = _part(path, body[matrix.at :], matrix, endian)
        if not matrix.is_complex:
            return real.astype(matrix.dtype).reshape(matrix.shape, order="F")
        imaginary, _ = _part(path, body[matrix.at + size :], matrix, endian)
        made = np.empty(real.shape, np.complex64 if matrix.dtype == "f4" else np.complex128)
        made.real, made.imag = real, imaginary
        return made.reshape(matrix.shape, order="F")


def _part(path: Path, data: memoryview, matrix: _Matrix, endian: Endian) -> tuple[NDArray[Any], int]:
    kind, body, size = _element(path, data, endian)
    if kind not in STORED_AS:
        raise BadParam(f"{path}: {matrix.name!r} is stored as type {kind}; wanted numbers")
    dtype = np.dtype(STORED_AS[kind]).newbyteorder(endian)
    if len(body) != dtype.itemsize * math.prod(matrix.shape):
        raise BadParam(f"{path}: {matrix.name!r} has {len(body)} bytes of {dtype}; its shape is {matrix.shape}")
    return np.frombuffer(body, dtype), size
