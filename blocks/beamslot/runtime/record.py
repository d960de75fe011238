"""Memory that outlives a process: what it recorded is there for the one that takes its place.

The supervisor makes it before it forks and reads it when a process is gone, however that ended: a killed process leaves
the newest whole record behind.
"""

import mmap
import os
import struct
import zlib
from typing import Any, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import numpy as np

from beamslot.errors import ShapeError, StorageError

_HEADER = struct.Struct("<QQI")
_ARRAY = 1

_msgpack: Any = msgpack  # it has no type stubs


def pack(value: Any) -> bytes:
    """Return plain values and NumPy arrays as bytes.

    raises ShapeError for anything else
    """
    try:
        return _msgpack.packb(value, default=_plain)
    except (TypeError, ValueError, OverflowError) as error:
        raise ShapeError(f"{error}; wanted numbers, texts, lists, mappings and NumPy arrays") from None


def unpack(data: bytes) -> Any:
    """Return what `pack` was given; tuples come back as lists."""
    return _msgpack.unpackb(data, ext_hook=_array, strict_map_key=False)


def _plain(value: Any) -> Any:
    kind = type(value).__name__
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return cast(Any, value).item()
    if isinstance(value, np.ndarray | np.complexfloating):
        array: Any = np.asarray(cast(Any, value))
        if array.dtype.kind in "biufc":  # texts and objects would come back as something else
            return _msgpack.ExtType(_ARRAY, _msgpack.packb([array.dtype.str, list(array.shape), array.tobytes()]))
    raise TypeError(f"{kind} cannot be kept")


def _array(code: int, data: bytes) -> Any:
    dtype, shape, raw = _msgpack.unpackb(data)
    return np.frombuffer(raw, np.dtype(dtype)).reshape(shape).copy()


class Record:
    """The newest of the values that were written, whole, whenever the writer is killed: two files take turns."""

    def __init__(self) -> None:
        self._files = (os.memfd_create("beamslot"), os.memfd_create("beamslot"))
        self._count = 0

    @property
    def descriptors(self) -> tuple[int, int]:
        """The files, for a fork that closes everything else."""
        return self._files

    def write(self, value: Any) -> None:
        """Record a value in place of the last.

        raises ShapeError for what cannot be kept, StorageError where there is no memory for it
        """
        data = pack(value)
        self._count += 1
        header = _HEADER.pack(self._count, len(data), zlib.crc32(data))
        written = os.pwrite(self._files[self._count % 2], header + data, 0)
        if written < len(header) + len(data):
            raise StorageError(f"a record of {len(data)} bytes does not fit into memory")

    def read(self) -> Any:
        """Return the newest whole value, None where there is none."""
        found = [entry for entry in map(self._read, self._files) if entry]
        if not found:
            return None
        self._count, data = max(found)
        return unpack(data)

    def _read(self, file: int) -> tuple[int, bytes] | None:
        header = os.pread(file, _HEADER.size, 0)
        if len(header) < _HEADER.size:
            return None
        count, length, checksum = _HEADER.unpack(header)
        data = os.pread(file, length, _HEADER.size)
        return (count, data) if len(data) == length and zlib.crc32(data) == checksum else None

    def close(self) -> None:
        """Let the memory go."""
        for file in self._files:
            os.close(file)


class Now:
    """What a block does at this moment, in memory shared with the supervisor: the slots it works on, and since when."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._words = memoryview(self._memory).cast("q")

    def begin(self, slots: range, now: int) -> None:
        """Say that a call begins."""
        words = self._words
        words[2], words[0], words[1] = now, slots.start, slots.stop

    def end(self) -> None:
        """Say that it is over."""
        self._words[1] = 0

    @property
    def slots(self) -> range | None:
        """The slots of the call under way."""
        first, end = self._words[0], self._words[1]
        return range(first, end) if end else None

    @property
    def since(self) -> int:
        """When that call began [ns]."""
        return self._words[2]

    @property
    def made(self) -> int:
        """The slot after the last that the source has ever made."""
        return self._words[3]

    @made.setter
    def made(self, slot: int) -> None:
        self._words[3] = max(self._words[3], slot)
