"""Messages of GNU Radio's stream blocks over ZeroMQ: the header with its tags, and items behind it.

A message is, after a key if there is one, raw items in the machine's order (little-endian), or a header and the items
in one part:

off size
0   2    magic 0x5ff0        2   1    version 1
3   8    index of the first item, counted in vectors        11  8    number of tags
19  ...  tags: index of the item (8 bytes), and the PMTs of key, value and source
...      items

Where one message ends and the next begins says nothing. source: gr-zeromq, tag_headers.cc and base_impl.cc
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import CorruptFrame, ShapeError, VersionError
from beamslot.gnuradio import pmt

MAGIC, VERSION = 0x5FF0, 1
HEADER = struct.Struct("<HBQQ")
OFFSET = struct.Struct("<Q")
ITEM = np.dtype("<c8")
"""What a sample is: complex64, I before Q."""

FEWEST_ALIKE = 8
"""So many tags are left where it pays to look whether they differ in their numbers alone."""

LEAST_TAG = 11
"""A tag has at least so many bytes: its offset and three PMTs."""


class Tag(NamedTuple):
    """A remark at one item of a stream.

    offset: absolute index of the item    key, value, srcid: PMTs as Python values
    """

    offset: int
    key: Any
    value: Any
    srcid: Any = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a message brings: vectors of samples, where in the stream they lie, and their tags.

    items: (item, sample) complex64; perhaps not aligned, as the header has an odd length
    offset: absolute index of the first item, None where there is no header
    """

    items: NDArray[np.complex64]
    offset: int | None = None
    tags: tuple[Tag, ...] = ()


def write_head(offset: int, tags: Sequence[Tag] = ()) -> bytes:
    """Return the header of a message."""
    parts = [HEADER.pack(MAGIC, VERSION, offset, len(tags))]
    for tag in tags:
        parts += [OFFSET.pack(tag.offset), pmt.write(tag.key), pmt.write(tag.value), pmt.write(tag.srcid)]
    return b"".join(parts)


def read_head(part: Any) -> tuple[int, tuple[Tag, ...], int]:
    """Return the index of the first item, the tags, and the length of the header of a message.

    raises CorruptFrame, VersionError where it is none
    """
    if len(part) < HEADER.size:
        raise CorruptFrame(f"a tag header has {HEADER.size} bytes or more; {len(part)} came")
    magic, version, offset, count = HEADER.unpack_from(part)
    if magic != MAGIC:
        raise CorruptFrame(
            f"a tag header begins with {MAGIC:#x}; {magic:#x} came: the peer sends no tags (its pass_tags is off)"
        )
    if version != VERSION:
        raise VersionError(f"a tag header of version {version} came; wanted {VERSION}")
    at = HEADER.size
    if count * LEAST_TAG > len(part) - at:
        raise CorruptFrame(f"a tag header tells of {count} tags; {len(part) - at} bytes follow")
    found: list[Tag] = []
    while len(found) < count:
        begin = at
        if at + OFFSET.size > len(part):
            raise CorruptFrame(f"a tag header ends within tag {len(found)} of {count}")
        (where,) = OFFSET.unpack_from(part, at)
        key, at_value = pmt.read(part, at + OFFSET.size)
        value, at = pmt.read(part, at_value)
        srcid, at = pmt.read(part, at)
        found.append(Tag(where, key, value, srcid))
        if part[at_value] == pmt.INT32 and count - len(found) >= FEWEST_ALIKE:
            alike = _alike(part, begin, at_value + 1 - begin, at - begin, count - len(found))
            found += [Tag(where, key, value, srcid) for where, value in alike]
            at += len(alike) * (at - begin)
    return offset, tuple(found), at


def _alike(part: Any, begin: int, at_value: int, length: int, most: int) -> list[tuple[int, int]]:
    """Return offset and value of the tags that follow one and differ from it in these alone, as those of slots do.

    begin: byte at which the one begins    at_value: where in it the bytes of its int32 are    length: of it [bytes]
    """
    rows = min(most + 1, (len(part) - begin) // length)
    table = np.frombuffer(part, np.uint8, rows * length, begin).reshape(rows, length)
    fixed = np.r_[OFFSET.size : at_value, at_value + 4 : length]
    same = (table[:, fixed] == table[0, fixed]).all(1)
    count = rows if same.all() else int(same.argmin())
    offsets = table[1:count, : OFFSET.size].copy().view("<u8")[:, 0].tolist()
    values = table[1:count, at_value : at_value + 4].copy().view(">i4")[:, 0].tolist()
    return list(zip(offsets, values, strict=True))


def read_message(parts: Sequence[Any], vlen: int, *, tagged: bool, keyed: bool = False) -> Chunk:
    """Return what a message brings.

    parts: as they came, the key among them    vlen: samples of an item
    raises CorruptFrame, VersionError where it is not what GNU Radio sends with these settings; ShapeError where it
        holds other than whole items
    """
    data = parts[1:] if keyed else parts
    if keyed and not data:
        raise CorruptFrame("a message of one part came; wanted a key before it: the peer has none set")
    if not tagged and len(data) > 1:
        raise CorruptFrame(
            f"a message of {len(parts)} parts came; wanted one: the peer sends a key, and none is set here"
        )
    if not tagged:
        return Chunk(_items(data[0], 0, vlen))
    offset, tags, begin = read_head(data[0])
    items = _items(data[0], begin, vlen)
    # A tag beyond the first part is lost in GNU Radio too; further parts are items and nothing else.
    inside = tuple([tag for tag in tags if offset <= tag.offset < offset + len(items)])
    if len(data) > 1:
        items = np.concatenate([items, *(_items(part, 0, vlen) for part in data[1:])])
    return Chunk(items, offset, inside)


def _items(part: Any, begin: int, vlen: int) -> NDArray[np.complex64]:
    size, left = vlen * ITEM.itemsize, len(part) - begin
    if left % size:
        hint = ": it begins with a tag header (the peer's pass_tags is on)" if not begin and _is_head(part) else ""
        raise ShapeError(f"{left} bytes of items came; wanted a multiple of {size}, {vlen} complex64{hint}")
    return np.frombuffer(part, ITEM, left // ITEM.itemsize, begin).reshape(-1, vlen)


def _is_head(part: Any) -> bool:
    return len(part) >= HEADER.size and HEADER.unpack_from(part)[:2] == (MAGIC, VERSION)


def write_message(
    items: NDArray[np.complex64], offset: int | None = None, tags: Sequence[Tag] = (), key: bytes = b""
) -> list[Any]:
    """Return the parts of a message; header and items stand in one, for else GNU Radio loses the tags.

    items: (item, sample) complex64, C-contiguous    offset: of the first item, None to send no header
    raises ShapeError for a tag that is not among the items, which GNU Radio would lose
    """
    lost = [tag.offset for tag in tags if offset is None or not offset <= tag.offset < offset + len(items)]
    if lost:
        raise ShapeError(f"a tag at item {lost[0]} is not among the {len(items)} items from {offset} on")
    body: Any = items.view(np.uint8).data.cast("B") if items.size else b""
    if offset is not None:
        body = b"".join((write_head(offset, tags), body))
    return [key, body] if key else [body]
