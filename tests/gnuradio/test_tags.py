"""Messages of GNU Radio's stream blocks: read as it reads them, written as it wants them, refused else."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamslot.errors import CorruptFrame, FrameError, ShapeError, VersionError
from beamslot.gnuradio import pmt
from beamslot.gnuradio.tags import Tag, read_head, read_message, write_head, write_message

HEAD = bytes.fromhex(
    "F0 5F 01  E8 03 00 00 00 00 00 00  01 00 00 00 00 00 00 00"
    "  EB 03 00 00 00 00 00 00  02 00 04 73 6C 6F 74  03 00 00 00 07  01"
)
"""A header as GNU Radio sends and reads it: items from 1000 on, one tag at 1003, slot = 7."""

ITEMS = (np.arange(30) * (1 + 2j)).astype(np.complex64).reshape(10, 3)


def test_a_header_and_its_bytes() -> None:
    tag = Tag(1003, "slot", 7)
    assert write_head(1000, [tag]) == HEAD
    assert read_head(HEAD + b"items") == (1000, (tag,), 40)


@given(
    offset=st.integers(0, 2**63),
    at=st.lists(st.integers(0, 9), max_size=4),
    key=st.text(max_size=5),
    parts=st.booleans(),
)
@settings(deadline=None)
def test_what_is_written_is_read(offset: int, at: list[int], key: str, parts: bool) -> None:
    tags = [Tag(offset + one, key, {"x": [one, 0.5]}, "me") for one in at]
    made = write_message(ITEMS, offset, tags, b"key" if parts else b"")
    found = read_message(made, 3, tagged=True, keyed=parts)
    assert found.offset == offset
    assert found.tags == tuple(tags)
    np.testing.assert_array_equal(found.items, ITEMS)


def test_without_tags_a_message_is_its_items() -> None:
    assert [bytes(part) for part in write_message(ITEMS)] == [ITEMS.tobytes()]
    assert [bytes(part) for part in write_message(ITEMS, key=b"K")] == [b"K", ITEMS.tobytes()]


def test_a_header_without_tags_is_19_bytes_and_stands_in_one_part_with_the_items() -> None:
    (part,) = write_message(ITEMS, 5)
    assert part == bytes.fromhex("f05f01 0500000000000000 0000000000000000") + ITEMS.tobytes()
    assert read_message([part], 3, tagged=True).offset == 5


def test_further_parts_are_items_and_a_tag_beyond_the_first_is_lost_as_in_gnuradio() -> None:
    head = write_head(0, [Tag(1, "a", 1), Tag(4, "b", 1), Tag(40, "c", 1)])
    found = read_message([head + ITEMS[:3].tobytes(), ITEMS[3:].tobytes()], 3, tagged=True)
    np.testing.assert_array_equal(found.items, ITEMS)
    assert [tag.key for tag in found.tags] == ["a"]


def test_nothing_is_an_empty_message() -> None:
    assert read_message([b""], 3, tagged=False).items.shape == (0, 3)
    assert read_message([write_head(9)], 3, tagged=True).items.shape == (0, 3)


@pytest.mark.parametrize("offset", [None, 0, 7])
def test_a_tag_that_gnuradio_would_lose_is_not_sent(offset: int | None) -> None:
    for at in (-1, 10, 17):
        where = (offset or 0) + at
        if offset is None or not offset <= where < offset + 10:
            with pytest.raises(ShapeError, match=f"^a tag at item {where} is not among the 10 items from {offset} on$"):
                write_message(ITEMS, offset, [Tag(where, "slot", 1)])


@pytest.mark.parametrize(
    ("parts", "how", "error", "text"),
    [
        ([b"abc"], {"tagged": True}, CorruptFrame, "a tag header has 19 bytes or more; 3 came"),
        (
            [bytes(ITEMS)],
            {"tagged": True},
            CorruptFrame,
            "a tag header begins with 0x5ff0; 0x0 came: the peer sends no tags (its pass_tags is off)",
        ),
        ([HEAD[:2] + b"\2" + HEAD[3:]], {"tagged": True}, VersionError, "a tag header of version 2 came; wanted 1"),
        (
            [HEAD[:11] + b"\xff" * 8],
            {"tagged": True},
            CorruptFrame,
            f"a tag header tells of {2**64 - 1} tags; 0 bytes follow",
        ),
        ([HEAD[:37]], {"tagged": True}, CorruptFrame, "pmt: ends within a value that begins before byte 37"),
        ([HEAD + b"1234"], {"tagged": True}, ShapeError, "4 bytes of items came; wanted a multiple of 24, 3 complex64"),
        (
            [HEAD],
            {"tagged": False},
            ShapeError,
            "40 bytes of items came; wanted a multiple of 24, 3 complex64: it begins with a tag header (the peer's "
            "pass_tags is on)",
        ),
        (
            [b"K", bytes(ITEMS)],
            {"tagged": False},
            CorruptFrame,
            "a message of 2 parts came; wanted one: the peer sends a key, and none is set here",
        ),
        (
            [bytes(ITEMS)],
            {"tagged": False, "keyed": True},
            CorruptFrame,
            "a message of one part came; wanted a key before it: the peer has none set",
        ),
    ],
)
def test_what_gnuradio_would_die_of_is_refused_with_the_reason(parts, how, error, text) -> None:
    with pytest.raises(error) as caught:
        read_message(parts, 3, **how)
    assert str(caught.value) == text
    assert type(caught.value) is error


def test_damaged_messages_raise_errors_of_frames_and_no_other() -> None:
    rng = random.Random(9)
    whole = bytes(write_message(ITEMS, 1000, [Tag(1003, "rx_time", (pmt.U64(3), 0.5)), Tag(1004, "slot", 7)])[0])
    refused = 0
    for _ in range(10_000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.7:
                data[rng.randrange(min(90, len(data)))] = rng.randrange(256)
            else:
                del data[rng.randrange(len(data)) :]
                data = data or bytearray(1)
        try:
            found = read_message([bytes(data)], 3, tagged=True)
            assert all(found.offset <= tag.offset < found.offset + len(found.items) for tag in found.tags)
        except FrameError:
            refused += 1
    assert refused > 5_000
