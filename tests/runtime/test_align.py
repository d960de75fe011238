"""Joins and windows against models that know nothing of frames: they go slot by slot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamslot.errors import ShapeError
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.runtime.align import Hole, Join, Slab, Window

INFO = StreamInfo({"x": Array.of("slot", np.int64), "constant": Array.of("y", np.int64)}, {"y": 3})


def frame(stream: int, first: int, count: int) -> Frame:
    x = np.arange(first, first + count) * 10 + stream
    return Frame(first, count, {"x": x, "constant": np.full(3, stream)}, captured=1000 * (first + count) + stream)


@dataclass
class Stream:
    """A stream as items, and slot by slot: None for data, the reason of a gap, nothing where it jumps."""

    items: list[Any] = field(default_factory=list)
    slots: dict[int, str | None] = field(default_factory=dict)


@st.composite
def streams(draw: st.DrawFn, number: int, jumps: bool = True) -> Stream:
    made = Stream([Describe("s", INFO)])
    slot = draw(st.integers(0, 4)) if jumps else 0
    kinds = ["frame", "frame", "gap", "describe", *(["jump"] if jumps else [])]
    for _ in range(draw(st.integers(0, 8))):
        kind, count = draw(st.sampled_from(kinds)), draw(st.integers(1, 5))
        if kind == "describe":
            made.items.append(Describe("s", INFO))
            continue
        if kind != "jump":
            reason = f"{draw(st.sampled_from('ab'))}{number}" if kind == "gap" else None
            made.items.append(Gap(slot, count, reason) if reason else frame(number, slot, count))
            made.slots.update(dict.fromkeys(range(slot, slot + count), reason))
        slot += count
    made.items.append(Eos(slot))
    return made


def model(inputs: Sequence[Stream]) -> tuple[dict[int, str | None], list[int]]:
    """Return what a join must say of every slot, and how many slots of data each input loses."""
    said: dict[int, str | None] = {}
    lost = [0] * len(inputs)
    for slot in sorted({slot for stream in inputs for slot in stream.slots}):
        reasons = [stream.slots.get(slot, "") for stream in inputs]
        if any(reason is not None for reason in reasons):
            said[slot] = next((reason for reason in reasons if reason), "unmatched")
            lost = [n + (reason is None) for n, reason in zip(lost, reasons, strict=True)]
        else:
            said[slot] = None
    return said, lost


def everything(join: Join) -> Iterator[Any]:
    while (found := join.next()) is not None:
        yield found


def check_slab(slab: Slab, inputs: int) -> None:
    for number, arrays in zip(range(inputs), slab.arrays, strict=True):
        assert arrays["x"].tolist() == [slot * 10 + number for slot in range(slab.first, slab.end)]
        assert arrays["constant"].tolist() == [number] * 3


@given(st.data(), st.integers(1, 3))
def test_a_join_says_of_every_slot_what_the_model_says(data: st.DataObject, number: int) -> None:
    inputs = [data.draw(streams(index)) for index in range(number)]
    join = Join([str(index) for index in range(number)])
    left = [list(stream.items) for stream in inputs]
    found: list[Any] = []
    while any(left):
        index = data.draw(st.sampled_from([index for index in range(number) if left[index]]))
        join.queues[index].items.append(left[index].pop(0))
        found += everything(join)
    said: dict[int, str | None] = {}
    lost, last = np.zeros(number, int), -1
    for item in found:
        if isinstance(item, Slab | Hole):
            assert last <= item.first < item.end
            last = item.end
            said.update(dict.fromkeys(range(item.first, item.end), None if isinstance(item, Slab) else item.reason))
        if isinstance(item, Slab):
            check_slab(item, number)
        if isinstance(item, Hole) and number > 1:
            lost += item.unmatched
    assert (said, lost.tolist()) == (model(inputs) if number > 1 else (inputs[0].slots, [0]))
    ends = [item for item in found if isinstance(item, Eos)]
    assert ends == [Eos(max(stream.items[-1].first for stream in inputs))]
    assert found[-1] is ends[0]
    assert sum(isinstance(item, tuple) for item in found) == sum(
        isinstance(item, Describe) for stream in inputs for item in stream.items
    )


@given(streams(0, jumps=False), streams(1, jumps=False))
def test_a_description_comes_between_the_slots_that_it_stands_between(one: Stream, other: Stream) -> None:
    join = Join(["0", "1"])
    for queue, stream in zip(join.queues, (one, other), strict=True):
        queue.items.extend(stream.items)
    positions = [[], []]
    at = 0
    for item in everything(join):
        if isinstance(item, tuple):
            positions[item[0]].append(at)
        elif not isinstance(item, Eos):
            at = item.end
    for stream, came in zip((one, other), positions, strict=True):
        at, expected = 0, []
        for item in stream.items:
            if isinstance(item, Describe):
                expected.append(at)
            elif not isinstance(item, Eos):
                at = item.end
        assert came == expected


def test_a_join_is_cut_at_the_shortest_frame_and_keeps_the_oldest_capture_time() -> None:
    join = Join(["a", "b"])
    join.queues[0].items.append(frame(0, 0, 5))
    join.queues[1].items.extend([frame(1, 0, 2), frame(1, 2, 3)])
    slabs = list(everything(join))
    assert [(slab.first, slab.end) for slab in slabs] == [(0, 2), (2, 5)]
    assert [slab.captured for slab in slabs] == [2001, 5000]


def test_a_join_waits_for_an_input_that_may_still_bring_the_slot() -> None:
    join = Join(["a", "b"])
    join.queues[0].items.append(frame(0, 0, 5))
    assert join.next() is None
    join.queues[1].items.append(Eos(0))
    assert join.next() == Hole(0, 5, "unmatched", [5, 0])


def test_a_failed_input_makes_a_failed_end() -> None:
    join = Join(["a", "b"])
    join.queues[0].items.append(Eos(3))
    join.queues[1].items.append(Eos(7, ok=False, reason="b broke"))
    assert join.next() == Eos(7, ok=False, reason="b broke")


def test_an_array_without_slots_is_not_cut_even_where_its_length_is_that_of_the_frame() -> None:
    join = Join(["a", "b"])
    for queue in join.queues:
        queue.items.append(Describe("s", INFO))
    join.queues[0].items.append(frame(0, 0, 3))
    join.queues[1].items.extend([frame(1, 0, 1), frame(1, 1, 2)])
    slabs = [item for item in everything(join) if isinstance(item, Slab)]
    assert [slab.arrays[0]["constant"].shape for slab in slabs] == [(3,), (3,)]
    assert [slab.arrays[0]["x"].tolist() for slab in slabs] == [[0], [10, 20]]


def test_an_array_without_slots_cannot_fill_a_window_of_several_frames() -> None:
    window = Window(4, 4)
    for first in (0, 3):
        window.push(slab_of(first, 3, whole=frozenset({"constant"})))
    with pytest.raises(ShapeError, match=r"window: array 'constant' has no slot axis; slots 0\.\.3 of several frames"):
        window.pop()


@pytest.mark.parametrize(("size", "hop"), [(4, 5), (4, 0), (0, 0)])
def test_a_window_that_would_skip_or_stand_still_is_refused(size: int, hop: int) -> None:
    with pytest.raises(ShapeError, match=rf"window of {size} slots with hop {hop}; wanted 1 <= hop <= window"):
        Window(size, hop)


def slab_of(first: int, count: int, whole: frozenset[str] = frozenset()) -> Slab:
    one = frame(0, first, count)
    arrays = dict(one.arrays) if whole else {"x": one.arrays["x"]}
    return Slab(first, first + count, [arrays], one.captured, [whole])


@given(
    st.integers(1, 7),
    st.data(),
    st.lists(st.lists(st.integers(1, 6), max_size=8), min_size=1, max_size=3),
)
def test_windows_and_their_names_are_those_of_the_model(size: int, data: st.DataObject, runs: list[list[int]]) -> None:
    hop = data.draw(st.integers(1, size))
    window = Window(size, hop)
    slot, came, expected = 0, [], []
    for run in runs:
        begin = slot
        for count in run:
            window.push(slab_of(slot, count))
            slot += count
            while (found := window.pop()) is not None:
                came.append(plain(found))
                assert window.standing is None or window.standing[0] <= slot
        if left := window.flush("over"):
            came.append(plain(left))
        assert window.standing is None
        expected += model_of_windows(begin, slot, size, hop)
        slot += 2  # a gap between two runs
    assert merged(came) == merged(expected)


def plain(found: tuple[Slab, int] | Hole) -> Any:
    if isinstance(found, Hole):
        return ("hole", found.first, found.end, found.reason)
    slab, named = found
    assert slab.captured >= 1000 * slab.end
    return ("call", slab.arrays[0]["x"].tolist(), named, slab.end)


def merged(found: list[Any]) -> list[Any]:
    """Holes that follow on each other for the same reason as one."""
    whole: list[Any] = []
    for item in found:
        if whole and item[0] == whole[-1][0] == "hole" and item[3] == whole[-1][3] and item[1] == whole[-1][2]:
            whole[-1] = (*whole[-1][:2], *item[2:])
        else:
            whole.append(item)
    return whole


def model_of_windows(begin: int, end: int, size: int, hop: int) -> list[Any]:
    at = next(slot for slot in range(begin, begin + hop) if slot % hop == 0)
    calls = [
        ("call", [10 * slot for slot in range(last - size, last)], last - hop, last)
        for last in range(at + size, end + 1, hop)
    ]
    lead = [("hole", at, at + size - hop, "window filling")] if calls and size > hop else []
    named = calls[-1][3] if calls else min(at, end)
    return [
        *([("hole", begin, min(at, end), "window filling")] if begin < min(at, end) else []),
        *lead,
        *calls,
        *([("hole", named, end, "over")] if named < end else []),
    ]


@given(st.integers(1, 6), st.data())
def test_a_window_still_needs_exactly_the_slots_that_a_later_call_gets(size: int, data: st.DataObject) -> None:
    hop = data.draw(st.integers(1, size))
    window, end = Window(size, hop), 0
    firsts = []
    for count in data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=10)):
        window.push(slab_of(end, count))
        end += count
        while (found := window.pop()) is not None:
            if not isinstance(found, Hole):
                firsts.append(found[0].first)
        following = firsts[-1] + hop if firsts else 0
        assert (window.standing or (None,))[0] == (following if following < end else None)


def test_what_a_window_hands_out_is_read_only() -> None:
    window = Window(4, 4)
    for first in (0, 3):
        window.push(slab_of(first, 3))
    found = window.pop()
    assert isinstance(found, tuple)
    assert not found[0].arrays[0]["x"].flags.writeable
