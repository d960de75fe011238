"""Bring the inputs of a block to the same slots: joins by slot range, then windows.

Slots that one input brings and another never will (it said so by gap, end or jump) are `unmatched`: they leave as a
gap and are counted, and nobody waits for them.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import ShapeError, describe_slots
from beamslot.frame import Describe, Eos, Frame, Gap

Item = Frame | Gap | Describe | Eos
Arrays = Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class Slab:
    """The same slots of all inputs of a join, ready for a call.

    captured: when the newest slot was, of the oldest input [ns]    whole: by input, the arrays without a slot axis
    frame: as it came, where the join has one input
    """

    first: int
    end: int
    arrays: Sequence[Arrays]
    captured: int
    whole: Sequence[frozenset[str]]
    frame: Frame | None = None

    def split(self, at: int) -> tuple["Slab", "Slab"]:
        """Return the slots before `at` and those from it on."""

        def piece(begin: int, end: int) -> "Slab":
            within = [
                _part(arrays, begin - self.first, end - self.first, whole)
                for arrays, whole in zip(self.arrays, self.whole, strict=True)
            ]
            return Slab(begin, end, within, self.captured, self.whole)

        return piece(self.first, at), piece(at, self.end)


@dataclass(slots=True)
class Hole:
    """Slots that will not be processed, and how many of each input's data had to be let go for it.

    gap: as it came, where the join has one input
    """

    first: int
    end: int
    reason: str
    unmatched: Sequence[int]
    gap: Gap | None = None


class Queue:
    """The items of one input, in order, cut where a join needs it; arrays without a slot axis stay whole.

    begin: what lies before this slot is done already and is passed over
    """

    def __init__(self, name: str = "", begin: int = 0) -> None:
        self.name, self.begin = name, begin
        self.items: deque[Item] = deque()
        self.whole: frozenset[str] = frozenset()
        self._coming: frozenset[str] = frozenset()

    def put(self, item: Item) -> None:
        """Append the next item, or what of it lies behind `begin`."""
        if type(item) is Frame and item.first >= self.begin:
            self.items.append(item)
            return
        if isinstance(item, Describe):
            self._coming = frozenset(name for name, array in item.info.arrays.items() if "slot" not in array.axes)
        elif not isinstance(item, Eos) and item.first < self.begin:
            if item.end <= self.begin:
                return
            item = cut(item, self.begin, self._coming)[1]
        self.items.append(item)

    @property
    def backlog(self) -> int:
        """Slots that wait."""
        return sum(item.count for item in self.items if isinstance(item, Frame | Gap))

    def take_description(self) -> Describe | None:
        """Remove and return the description at the head, if there is one."""
        if not self.items or not isinstance(head := self.items[0], Describe):
            return None
        self.items.popleft()
        self.whole = frozenset(name for name, array in head.info.arrays.items() if "slot" not in array.axes)
        return head

    def take(self, end: int) -> list[Frame | Gap]:
        """Remove and return everything before slot `end`, cutting the item that straddles it."""
        taken: list[Frame | Gap] = []
        while self.items and isinstance(item := self.items[0], Frame | Gap) and item.first < end:
            self.items.popleft()
            if item.end > end:
                item, rest = cut(item, end, self.whole)
                self.items.appendleft(rest)
            taken.append(item)
        return taken


def cut(item: Frame | Gap, at: int, whole: frozenset[str] = frozenset()) -> tuple[Frame | Gap, Frame | Gap]:
    """Return an item in two, the second from slot `at` on; arrays in `whole` have no slot axis and go with both."""
    if isinstance(item, Gap):
        head = Gap(item.first, at - item.first, item.reason, item.captured)
        return head, Gap(at, item.end - at, item.reason, item.captured)
    split = at - item.first
    head, rest = _part(item.arrays, 0, split, whole), _part(item.arrays, split, item.count, whole)
    return (
        Frame(item.first, split, head, item.captured, operator=item.operator, tags=item.tags),
        Frame(at, item.count - split, rest, item.captured, operator=item.operator, tags=item.tags),
    )


def _part(arrays: Arrays, start: int, stop: int, whole: frozenset[str]) -> Arrays:
    return {name: array if name in whole else array[start:stop] for name, array in arrays.items()}


class Join:
    """Several inputs of one block, aligned by slot; frames of unequal length are cut at the shortest."""

    def __init__(self, names: Sequence[str], begin: int = 0) -> None:
        self.queues = [Queue(name, begin) for name in names]

    def next(self) -> Slab | Hole | Eos | tuple[int, Describe] | None:
        """Return what comes next for the block, None while an input is still awaited."""
        if len(self.queues) == 1:
            return self._pass(self.queues[0])
        for index, queue in enumerate(self.queues):
            if described := queue.take_description():
                return index, described
        return self._align()

    def _align(self) -> Slab | Hole | Eos | None:
        heads = [queue.items[0] for queue in self.queues if queue.items]
        if len(heads) < len(self.queues):
            return None
        live = [head for head in heads if isinstance(head, Frame | Gap)]
        if not live:
            return self._end()
        start = min(head.first for head in live)
        if len(live) < len(heads) or any(head.first > start for head in live):
            return self._unmatched(start, [head for head in live if head.first == start], live)
        end = min(head.end for head in live)
        reasons = [head.reason for head in live if isinstance(head, Gap)]
        return self._let_go(start, end, reasons[0]) if reasons else self._slab(start, end)

    def _pass(self, queue: Queue) -> Slab | Hole | Eos | tuple[int, Describe] | None:
        if not queue.items:
            return None
        item = queue.items[0]
        if isinstance(item, Describe):
            queue.take_description()
            return 0, item
        queue.items.popleft()
        if type(item) is Frame:
            return Slab(item.first, item.first + item.count, (item.arrays,), item.captured, (queue.whole,), item)
        if isinstance(item, Gap):
            return Hole(item.first, item.end, item.reason, (0,), item)
        return item if isinstance(item, Eos) else None

    def _end(self) -> Eos:
        ends = [queue.items.popleft() for queue in self.queues]
        failed = [end for end in ends if isinstance(end, Eos) and not end.ok]
        last = max(end.first for end in ends if isinstance(end, Eos))
        return Eos(last, not failed, failed[0].reason if failed else "")

    def _unmatched(self, start: int, having: Sequence[Frame | Gap], live: Sequence[Frame | Gap]) -> Hole:
        later = [head.first for head in live if head.first > start]
        end = min([head.end for head in having] + later)
        reasons = [head.reason for head in having if isinstance(head, Gap)]
        return self._let_go(start, end, reasons[0] if reasons else "unmatched")

    def _let_go(self, start: int, end: int, reason: str) -> Hole:
        lost: list[int] = []
        for queue in self.queues:
            ready = bool(queue.items) and getattr(queue.items[0], "first", end) < end
            taken = queue.take(end) if ready and not isinstance(queue.items[0], Eos) else []
            lost.append(sum(item.count for item in taken if isinstance(item, Frame)))
        return Hole(start, end, reason, lost)

    def _slab(self, start: int, end: int) -> Slab:
        taken = [queue.take(end)[0] for queue in self.queues]
        frames = [item for item in taken if isinstance(item, Frame)]
        captured = min(frame.captured for frame in frames)
        return Slab(start, end, [frame.arrays for frame in frames], captured, [queue.whole for queue in self.queues])


class Window:
    """Collects aligned slots until a call has `size` of them, then moves on by `hop`; begins at multiples of `hop`.

    So the windows are the same ones whatever was lost before them: where hop = size, the frames of a frame structure.
    """

    def __init__(self, size: int, hop: int) -> None:
        if not 1 <= hop <= size:
            raise ShapeError(f"window of {size} slots with hop {hop}; wanted 1 <= hop <= window")
        self.size, self.hop = size, hop
        self._held: deque[Slab] = deque()
        self._first = self._end = self._named = -1
        self._resumed: tuple[int, int] | None = None

    @property
    def standing(self) -> tuple[int, int] | None:
        """Where the window begins, and from which slot on no output names any; None when nothing is held."""
        return (self._first, self._named) if self._held else self._resumed

    def resume(self, standing: tuple[int, int]) -> None:
        """Go on where another window stood: the slots from its beginning come again."""
        self._resumed = standing

    def interrupt(self) -> None:
        """Note, after a flush, that slots are missing: where another window stood does not matter any more."""
        self._resumed = None

    def push(self, slab: Slab) -> None:
        """Append aligned slots; they follow on those held."""
        if not self._held:
            self._named, self._first = slab.first, slab.first + -slab.first % self.hop
            if self._resumed is not None and self._resumed[0] == slab.first:
                self._named = self._resumed[1]
            self._resumed = None
        self._held.append(slab)
        self._end = slab.end

    def pop(self) -> tuple[Slab, int] | Hole | None:
        """Return the next full window and the slot from which its output is named; first, the lead-in as holes."""
        if self._held and self._named < self._first:  # no window begins here, and a graph may wait for these slots
            hole = Hole(self._named, min(self._first, self._end), "window filling", ())
            self._named = hole.end
            self._drop(self._first)
            return hole
        if not self._held or self._end - self._first < self.size:
            return None
        fresh = self._first + self.size - self.hop
        if self._named < fresh:
            hole = Hole(self._named, fresh, "window filling", ())
            self._named = fresh
            return hole
        slab = self._collect(self._first, self._first + self.size)
        self._named = slab.end
        self._drop(self._first + self.hop)
        return slab, fresh

    def flush(self, reason: str) -> Hole | None:
        """Give up what does not fill a window; return the slots that no output names yet."""
        if not self._held:
            return None
        hole = Hole(self._named, self._end, reason, ()) if self._named < self._end else None
        self._held.clear()
        return hole

    def _collect(self, first: int, end: int) -> Slab:
        pieces = [slab for slab in self._held if slab.first < end]
        whole = pieces[0].whole
        merged = [_merge(pieces, index, first, end) for index in range(len(whole))]
        return Slab(first, end, merged, pieces[-1].captured, whole)

    def _drop(self, first: int) -> None:
        self._first = first
        while self._held and self._held[0].end <= first:
            self._held.popleft()


def _merge(pieces: Sequence[Slab], index: int, first: int, end: int) -> Arrays:
    """Return one input's arrays for the slots first .. end-1 of consecutive slabs."""
    whole = pieces[0].whole[index]
    if whole and len(pieces) > 1:
        slots = describe_slots(range(first, end))
        raise ShapeError(f"window: array {min(whole)!r} has no slot axis; {slots} of several frames cannot be joined")
    parts = [_part(p.arrays[index], max(first - p.first, 0), end - p.first, whole) for p in pieces]
    if len(parts) == 1:
        return parts[0]
    merged = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for array in merged.values():
        array.flags.writeable = False
    return merged
