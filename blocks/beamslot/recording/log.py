"""The log of a port: an append-only file of length-prefixed, checksummed msgpack records, one a message.

A record is [prefix][header][body], each a multiple of 8 bytes long (zeros fill up). What a prefix holds is `_PREFIX`,
little-endian: marker, kind, length of the header, checksum of the body and of the rows, first slot and count, length
of the body, checksum of prefix and header.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack  # pyright: ignore[reportMissingTypeStubs]

from beamslot.errors import StorageError
from beamslot.recording.layout import MARKER

BEGIN, DESCRIBE, FRAME, GAP, EOS, CLOSE = range(6)

MAX_HEADER = 256 * 1024
MAX_BODY = 2**31
MAX_SLOT = 2**62

_PREFIX = struct.Struct("<4sBxxxIIqqQI4x")
_CHECKED = 40
"""Bytes of the prefix that its own checksum covers."""

PREFIX = _PREFIX.size

_msgpack: Any = msgpack  # it has no type stubs


@dataclass(slots=True)  # frozen, it would take three times as long to make, one a frame
class Entry:
    """One record as its prefix says.

    at: where it begins    header: its length    body_at, body: where that begins, and its length [bytes]
    crc: of the body and of the rows
    first, count: slots of a frame or a gap; of other kinds, the slot that is due next, and 0
    """

    kind: int
    at: int
    first: int
    count: int
    header: int
    body_at: int
    body: int
    crc: int

    @property
    def header_at(self) -> int:
        """Where the header begins."""
        return self.at + PREFIX

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.body_at + self.body


def padded(length: int) -> int:
    """Return a length [bytes] filled up to a multiple of 8."""
    return (length + 7) & ~7


def record(kind: int, first: int, count: int, header: bytes, body: int, crc: int) -> bytes:
    """Return prefix and header of a record.

    body: its length, filled up    crc: of the body and of the rows
    """
    checked = _PREFIX.pack(MARKER, kind, len(header), crc, first, count, body, 0)[:_CHECKED]
    sealed = zlib.crc32(header, zlib.crc32(checked))
    return b"".join((checked, struct.pack("<I4x", sealed), header, bytes(padded(len(header)) - len(header))))


def pack(value: Any) -> bytes:
    """Return plain values as a header."""
    return _msgpack.packb(value)


def unpack(header: Any, where: str) -> dict[str, Any]:
    """Return what a header holds; raises StorageError naming `where` it was."""
    try:
        value: Any = _msgpack.unpackb(
            header,
            max_str_len=MAX_HEADER,
            max_bin_len=MAX_HEADER,
            max_ext_len=0,
            max_array_len=4_096,
            max_map_len=4_096,
        )
    except Exception as error:  # msgpack raises a dozen types for bad bytes; all mean the same here
        raise StorageError(f"{where}: header is not msgpack: {type(error).__name__}: {str(error)[:80]}") from None
    if type(value) is not dict:
        raise StorageError(f"{where}: header is no map")
    return value


def scan(data: memoryview, at: int = 0, due: int = 0) -> Iterator[Entry | str]:
    """Yield the records of a log in order; last, where it is damaged or torn, a text that says what is wrong.

    at, due: where a record begins [bytes], and the slot that is due there
    """
    while at < len(data):
        entry = entry_at(data, at, due)
        yield entry
        if isinstance(entry, str):
            return
        due, at = entry.first + entry.count, entry.end


def entry_at(data: memoryview, at: int, due: int) -> Entry | str:
    """Return the record of a log that begins at a byte, or a text that says what is wrong with it.

    due: the slot that is due there
    """
    if at + PREFIX > len(data):
        return f"{len(data) - at} bytes at byte {at} are no whole record"
    marker, kind, header, crc, first, count, body, sealed = _PREFIX.unpack_from(data, at)
    begin = at + PREFIX
    entry = Entry(kind, at, first, count, header, begin + padded(header), body, crc)
    if problem := _problem(entry, marker, len(data), due):
        return f"record at byte {at}: {problem}"
    if zlib.crc32(data[begin : begin + header], zlib.crc32(data[at : at + _CHECKED])) != sealed:
        return f"record at byte {at}: its checksum does not fit"
    return entry


def _problem(entry: Entry, marker: bytes, size: int, due: int) -> str:
    if marker != MARKER:
        return f"begins with {marker!r}; wanted {MARKER!r}"
    if entry.kind > CLOSE or entry.header > MAX_HEADER or entry.body > MAX_BODY or entry.body % 8:
        return "its prefix makes no sense"
    if entry.end > size:
        return f"wants {entry.end - entry.at} bytes; the file has {size - entry.at} more"
    if (entry.kind == BEGIN) != (entry.at == 0):
        return "the first record, and no other, says how the log begins"
    timed = entry.kind in (FRAME, GAP)
    follows = entry.first >= due and entry.count > 0 if timed else (entry.first, entry.count) == (due, 0)
    if not follows or entry.first + entry.count >= MAX_SLOT:
        return f"slot {entry.first} and count {entry.count} do not follow on slot {due}"
    return ""


def checksum(parts: Sequence[Any]) -> int:
    """Return the CRC-32 of some bytes-like parts in order."""
    crc = 0
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc
