"""What `process` returns, made into what leaves a block: frames, gaps, descriptions, and the end."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import CorruptFrame, DtypeError, ShapeError, describe_slots
from beamslot.frame import Describe, Eos, Frame, Gap, StreamInfo, encode
from beamslot.frame.checks import tags as checked
from beamslot.runtime.align import Item, cut
from beamslot.runtime.block import Block, Out
from beamslot.runtime.slots import SlotSet

MISFITS = ("lost", "undescribed", "no operator", "corrupt")
"""Reasons of slots that came, or should have, and were not as described."""


@dataclass(frozen=True)
class End:
    """What `process` returns with its last output: nothing more will come, and nothing more is wanted.

    outputs: as `process` would return them, perhaps with fewer slots than came; None for nothing
    """

    outputs: Any = None


@dataclass(frozen=True)
class Tagged:
    """What `process` returns to tag the frames of its call: remarks that travel with them.

    outputs: as `process` would return them, in an `End` where they are its last
    tags: texts, numbers, truth values, None, or lists and mappings of these, by name
    """

    outputs: Any
    tags: Mapping[str, Any]


@dataclass(frozen=True)
class Dropped:
    """What `process` returns where some slots of its call go no further: gaps in their place that say why.

    outputs: as `process` would return them, all slots of the call in them; None where none goes on
    slots: those that are dropped    reason: why, in a word or two; they are counted by it
    """

    outputs: Any
    slots: Collection[int]
    reason: str = "dropped"


@dataclass(frozen=True)
class Received:
    """What `process` of a live source returns where the world decides which slots come, and when.

    outputs: as `process` would return them, for exactly these slots; not looked at where there are none
    slots: those that came, at most as many as were asked for, from the first asked for on or later; one that is empty
        and begins there says that nothing has come yet, and `process` is soon called again
    lost: why the slots between the first asked for and these will not come, in a word or two
    captured: monotonic clock when the last of them had come [ns]    waited: how much of the call was waiting [ns]
    info: a description that holds from these slots on, where it has changed
    """

    outputs: Any
    slots: range
    lost: str = "missing"
    captured: int = 0
    waited: int = 0
    info: StreamInfo | Mapping[str, StreamInfo] | None = None


@dataclass(frozen=True)
class Replayed:
    """What `process` of a source returns that has messages of its own: they go out as they are.

    items: by port, descriptions that hold from then on, and frames and gaps of the slots of the call; a source that has
        fewer ends with them. The runtime gives them its own capture time where they have one
    """

    items: Mapping[str, Sequence[Item]]


class Emitter:
    """Makes what a block returns into items of its outputs.

    source: whether the block has no inputs, so that returning nothing ends it
    infos: the descriptions of its outputs, by port    restarted: whether the next frame is tagged so
    ended_at: the slot at which it has ended by what it returned, None while it goes on
    """

    def __init__(self, block: Block, source: bool) -> None:
        self.name, self._block, self._source = block.run.name, block, source
        self._outs = list(block.outputs.values())
        self.infos: dict[str, StreamInfo] = {}
        self.restarted = False
        self.ended_at: int | None = None

    def emit(self, made: Any, named: range, captured: int) -> list[tuple[str, Item]]:
        """Return what leaves, by port, for what `process` made of some slots.

        raises ShapeError, DtypeError, CorruptFrame naming block.port, what came and what was wanted
        """
        if type(made) is Tagged:
            tags = self._tags_of(made)
            return add_tags(self.emit(made.outputs, named, captured), tags)
        if type(made) is Dropped:
            self._check_dropped(made, named)
            kept = None if set(named) <= set(made.slots) else made.outputs
            return self._without(made, [] if kept is None else self.emit(kept, named, captured), named, captured)
        if type(made) is Replayed:
            return self._replay(made, named, captured)
        if made is None and self._source:
            made = End()
        if type(made) is End:
            return self._last(made.outputs, named, captured)
        if made is not None:
            return self._frames(made, named, captured, exact=True)
        return [(out.name, Gap(named.start, len(named), "filtered", captured)) for out in self._outs]

    def _tags_of(self, made: Tagged) -> dict[str, Any]:
        """Return tags as plain values that a frame can carry."""
        if not self._outs:
            raise ShapeError(f"{self.name}: process returned Tagged; it has no output and returns None")
        try:
            encode(Frame(0, 1, {}, tags=made.tags))
            return checked(made.tags)
        except CorruptFrame as error:
            where = ", ".join(f"{self.name}.{out.name}" for out in self._outs)
            raise CorruptFrame(f"{where}: {error}") from None

    def _replay(self, made: Replayed, named: range, captured: int) -> list[tuple[str, Item]]:
        """Return messages that a source has of its own, by the clock of this run."""
        if not self._source or made.items.keys() != self._block.outputs.keys():
            raise ShapeError(
                f"{self.name}: process replayed {[*made.items]}; wanted a source's {[*self._block.outputs]}"
            )
        items: list[tuple[str, Item]] = []
        ends: set[int] = set()
        for port, said in made.items.items():
            due = named.start
            for item in said:
                if isinstance(item, Describe):
                    self.infos[port] = item.info
                    items.append((port, Describe(f"{self.name}.{port}", item.info)))
                elif isinstance(item, Frame | Gap) and item.first == due:
                    due = item.end
                    items.append((port, _anew(item, captured if item.captured else 0)))
                else:
                    came = f"{type(item).__name__} {item.first}"
                    raise ShapeError(f"{self.name}.{port}: process replayed {came}; wanted slot {due}")
            ends.add(due)
        if len(ends) > 1 or max(ends) > named.stop:
            raise ShapeError(f"{self.name}: process replayed slots up to {sorted(ends)}; wanted up to {named.stop}")
        if (end := ends.pop()) == named.stop:
            return items
        self.ended_at = end
        return [*items, *((port, Eos(end)) for port in made.items)]

    def _check_dropped(self, made: Dropped, named: range) -> None:
        if not self._outs:
            raise ShapeError(f"{self.name}: process returned Dropped; it has no output and returns None")
        if strange := sorted(set(made.slots) - set(named)):
            raise ShapeError(f"{self.name}: process dropped slot {strange[0]}; it was given {describe_slots(named)}")
        if not made.reason or made.reason in MISFITS:
            raise ShapeError(f"{self.name}: process dropped slots for the reason {made.reason!r}, which is not its own")

    def _without(
        self, made: Dropped, items: list[tuple[str, Item]], named: range, captured: int
    ) -> list[tuple[str, Item]]:
        """Return items with gaps in the place of the slots that were dropped; in place of none, gaps alone."""
        if not items:
            return [(out.name, Gap(named.start, len(named), made.reason, captured)) for out in self._outs]
        dropped = SlotSet([(slot, slot + 1) for slot in sorted(made.slots)])
        left: list[tuple[str, Item]] = []
        for port, item in items:
            if not isinstance(item, Frame):
                left.append((port, item))
                continue
            arrays = self.infos[port].arrays
            whole = frozenset(name for name, array in arrays.items() if "slot" not in array.axes)
            left += [(port, piece) for piece in _holed(item, dropped, made.reason, whole)]
        return left

    def _last(self, made: Any, named: range, captured: int) -> list[tuple[str, Item]]:
        """The last frames, which may be shorter than the slots of the call, and the end of each output behind them."""
        items = [] if made is None else self._frames(made, named, captured)
        frames = {port: item for port, item in items if isinstance(item, Frame) and item.count}
        self.ended_at = max((item.end for item in frames.values()), default=named.start if self._outs else named.stop)
        ends = [(out.name, Eos(frames[out.name].end if out.name in frames else named.start)) for out in self._outs]
        return [*frames.items(), *ends]

    def _frames(self, made: Any, named: range, captured: int, exact: bool = False) -> list[tuple[str, Item]]:
        if not self._outs:
            raise ShapeError(f"{self.name}: process returned {type(made).__name__}; it has no output and returns None")
        if len(self._outs) == 1:
            out = self._outs[0]
            return [(out.name, self._frame(out, made, named, captured, exact))]
        by_port = cast(dict[str, Any], made)
        is_map = type(by_port) is dict
        if not is_map or not by_port.keys() <= self._block.outputs.keys():
            came = list(by_port) if is_map else type(made).__name__
            raise ShapeError(
                f"{self.name}: process returned {came}; wanted arrays by port: {list(self._block.outputs)}"
            )
        return [(out.name, self._frame(out, by_port.get(out.name), named, captured, exact)) for out in self._outs]

    def _frame(self, out: Out, made: Any, named: range, captured: int, exact: bool) -> Frame | Gap:
        if made is None:
            return Gap(named.start, len(named), "filtered", captured)
        info = self.infos[out.name]
        given: Any = {out.name: made} if out.single else made
        if not _is_map(given):
            raise ShapeError(f"{self.name}.{out.name}: {type(made).__name__} came; wanted arrays {sorted(info.arrays)}")
        if given.keys() != info.arrays.keys():
            raise ShapeError(f"{self.name}.{out.name}: arrays {sorted(given)} came; wanted {sorted(info.arrays)}")
        count = len(named) if exact else _slots_in(given, info, len(named))
        arrays: dict[str, NDArray[Any]] = {}
        for name, spec in info.arrays.items():
            array = given[name] if type(given[name]) is np.ndarray else np.asarray(given[name])
            if array.shape != info.shape(name, count):
                raise ShapeError(f"{self.name}.{out.name}: {name} is {_shape(name, array, info, count)}")
            if array.dtype != spec.dtype:
                raise DtypeError(f"{self.name}.{out.name}: {name} is {array.dtype}; wanted {spec.dtype}")
            array.flags.writeable = False  # it is sent without a copy and kept until acknowledged
            arrays[name] = array
        operator = None if info.operator is None else info.operator.hash
        frame = Frame(named.start, count, arrays, captured, operator=operator)
        if self.restarted:
            self.restarted, frame.tags = False, {"restarted": True}
        return frame


def add_tags(items: list[tuple[str, Item]], tags: Mapping[str, Any]) -> list[tuple[str, Item]]:
    """Add tags to the frames among some items, and return these."""
    for _, item in items:
        if isinstance(item, Frame):
            item.tags = {**item.tags, **tags}
    return items


def _holed(frame: Frame, dropped: SlotSet, reason: str, whole: frozenset[str]) -> list[Item]:
    """Return a frame in pieces, with gaps in the place of the slots that were dropped."""
    pieces: list[Item] = []
    rest: Frame | Gap = frame
    for first, end in (dropped & SlotSet([(frame.first, frame.end)])).ranges():
        if rest.first < first:
            head, rest = cut(rest, first, whole)
            pieces.append(head)
        pieces.append(Gap(first, end - first, reason, frame.captured))
        if end == frame.end:
            return pieces
        rest = cut(rest, end, whole)[1]
    return [*pieces, rest]


def _is_map(value: object) -> bool:
    return type(value) is dict or isinstance(value, Mapping)


def _anew(item: Frame | Gap, captured: int) -> Frame | Gap:
    """Return a recorded message as one of this run: without the clock, the deadline and the numbers of its own."""
    if isinstance(item, Gap):
        return Gap(item.first, item.count, item.reason, captured)
    return Frame(item.first, item.count, item.arrays, captured, operator=item.operator, tags=item.tags)


def _slots_in(given: Mapping[str, Any], info: StreamInfo, most: int) -> int:
    counts = [len(array) for name, array in given.items() if "slot" in info.arrays[name].axes]
    return min([*counts, most])


def _shape(name: str, array: NDArray[Any], info: StreamInfo, count: int) -> str:
    axes = info.arrays[name].axes
    wanted = ", ".join(f"{axis} {length}" for axis, length in zip(axes, info.shape(name, count), strict=True))
    return f"{array.shape}; wanted ({wanted})"
