"""A recording played forward, from any slot, once or round and round: what comes next, and when."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from beamslot.errors import BadParam
from beamslot.frame import Describe, Eos, Frame, Gap, StreamInfo
from beamslot.recording.foreign import Foreign
from beamslot.recording.ledger import Recordable
from beamslot.recording.reader import Recording, Track, open_recording
from beamslot.recording.reasons import NOT_RECORDED


class Reel(Protocol):
    """What a source plays.

    info: the description that holds at its first slot
    """

    info: StreamInfo

    def upcoming(self, slots: range) -> tuple[range, int]:
        """Return the slots of the next frame or gap from `slots.start` on, none at the end, and when it was captured.

        slots: what the run would ask for, for a reel without frames of its own
        returns the slots, and how long after the beginning [ns]
        """
        ...

    def take(self, slots: range) -> list[Recordable]:
        """Return what holds of these slots, a description first where it changes; less at the end."""
        ...


class RecordedReel:
    """One port of a recording in its frames, gaps, tags and times; a hole that nobody explained is a gap too.

    first, slots: which recorded slots    loop: begin anew behind the last, in slots that go on rising
    The slots are those of the whole recording: a port of which less was recorded has gaps there, so that ports stay
    together.
    """

    def __init__(
        self, recording: Recording, port: str, *, first: int = 0, slots: int | None = None, loop: bool = False
    ) -> None:
        self._track = recording[port]
        self.begin, self.end = span_of(recording, first, slots)
        self._loop = loop
        self._messages: Iterator[Recordable] = iter(())
        self._due, self._lap = -1, 0
        self._held: Frame | Gap | None = None
        self._ahead: Frame | Gap | None = None
        self._since = 0
        self.info = self._info = _info_at(self._track, self.begin)
        self._told = self.info
        self._period = round(self.info.slot_period * 1e9)
        self._zero, last = times_of(recording, self.begin, self.end)
        self._duration = max(last - self._zero, 0) + self._period

    def upcoming(self, slots: range) -> tuple[range, int]:
        """Return the slots of the next frame or gap, and when it was captured; a gap without a time comes at once."""
        at = max(slots.start, self.begin)
        item = self._find(at)
        if item is None:
            return range(at, at), 0
        if item.captured:
            self._since = max(item.captured - self._zero, 0) + self._period + self._lap * self._duration
        return range(at, item.end), self._since

    def take(self, slots: range) -> list[Recordable]:
        """Return what holds of these slots."""
        at, items = slots.start, list[Recordable]()
        if at < self.begin:
            at = min(self.begin, slots.stop)
            items.append(Gap(slots.start, at - slots.start, NOT_RECORDED))
        while at < slots.stop and (item := self._find(at)) is not None:
            if self._info is not self._told and isinstance(item, Frame):
                items.append(Describe(self._track.name, self._info))
                self._told = self._info
            item = part(item, at, slots.stop, self._info)
            items.append(item)
            at = item.end
        return items

    def _find(self, slot: int) -> Frame | Gap | None:
        """Return the frame or gap that holds a slot, in the slots of the run; None behind the end."""
        held = self._held
        if held is not None and held.first <= slot < held.end:
            return held
        span = self.end - self.begin
        lap, offset = divmod(slot - self.begin, span) if self._loop else (0, slot - self.begin)
        if not 0 <= offset < span:
            return None
        if slot != self._due or lap != self._lap:
            self._messages = self._track.messages(self.begin + offset, span - offset)
            self._ahead = self._held = None
        self._lap, shift = lap, lap * span
        found = self._next(slot - shift)
        self._due = found.end + shift
        self._held = _later(found, shift) if shift else found
        return self._held

    def _next(self, slot: int) -> Frame | Gap:
        """Return the next frame or gap, which begins at a recorded slot, or what is missing before it."""
        while (message := self._ahead or next(self._messages, None)) is not None:
            self._ahead = None
            if isinstance(message, Describe):
                self._info = self._info if message.info == self._info else message.info
            elif isinstance(message, Eos):
                break
            elif message.first > slot:
                self._ahead = message
                return Gap(slot, message.first - slot, NOT_RECORDED)
            elif message.end > slot:
                return part(message, slot, self.end, self._info)
        return Gap(slot, self.end - slot, NOT_RECORDED)


class ForeignReel:
    """A recording of other software: as many slots a frame as the run asks for, at its own slot period."""

    def __init__(self, foreign: Foreign, *, first: int = 0, slots: int | None = None, loop: bool = False) -> None:
        self._foreign, self.info, self._loop = foreign, foreign.info, loop
        self.begin = first
        self.end = foreign.end if slots is None else min(foreign.end, first + slots)
        if first >= foreign.end:
            raise BadParam(f"{foreign.path}: has slots 0..{foreign.end - 1}; wanted some from slot {first} on")
        self._period = foreign.info.slot_period * 1e9

    def upcoming(self, slots: range) -> tuple[range, int]:
        """Return as many slots as asked for, or up to the next gap."""
        at = max(slots.start, self.begin)
        end = at + len(slots)
        if not self._loop:
            end = min(end, self.end)
        return range(at, max(at, end)), round((end - self.begin) * self._period)

    def take(self, slots: range) -> list[Recordable]:
        """Return what holds of these slots."""
        at, items, span = slots.start, list[Recordable](), self.end - self.begin
        if at < self.begin:
            at = min(self.begin, slots.stop)
            items.append(Gap(slots.start, at - slots.start, NOT_RECORDED))
        while at < slots.stop and (self._loop or at < self.end):
            lap, offset = divmod(at - self.begin, span)
            count = min(slots.stop - at, span - offset)
            item = self._foreign.item(range(self.begin + offset, self.begin + offset + count))
            items.append(replace(item, first=item.first + lap * span, captured=1))
            at += item.count
        return items


def open_reel(
    path: str | Path, port: str = "", *, first: int = 0, slots: int | None = None, loop: bool = False
) -> RecordedReel:
    """Return one port of a recording, to be played.

    port: "block.port"; the only one where empty
    raises StorageError where the recording cannot be read; BadParam where it has several ports, or none of these slots;
        UnknownPort
    """
    recording = open_recording(path)
    if not port and len(recording.ports) > 1:
        raise BadParam(f"{path}: has ports {', '.join(recording.ports)}; name one with port")
    return RecordedReel(recording, port or next(iter(recording.ports)), first=first, slots=slots, loop=loop)


def span_of(recording: Recording, first: int = 0, slots: int | None = None) -> tuple[int, int]:
    """Return the slots of a recording, from `first` on, as many as asked for: the first and the one after the last.

    raises BadParam where there are none
    """
    known = [(t.first, t.last) for t in recording.ports.values() if t.first is not None and t.last is not None]
    if not known:
        raise BadParam(f"{recording.path}: no slot is recorded there")
    begin = max(first, min(low for low, _ in known))
    last = max(high for _, high in known)
    end = last + 1 if slots is None else min(last + 1, begin + slots)
    if begin >= end:
        low = min(low for low, _ in known)
        raise BadParam(f"{recording.path}: has slots {low}..{last}; wanted some from slot {first} on")
    return begin, end


def times_of(recording: Recording, begin: int, end: int) -> tuple[int, int]:
    """Return when the first and the last of some slots were captured, over all ports [ns]; 0 where nobody says."""
    firsts = [_captured(track.messages(begin, end - begin)) for track in recording.ports.values()]
    lasts = [_captured(track.messages(end - 1, 1)) for track in recording.ports.values()]
    return min((time for time in firsts if time), default=0), max((time for time in lasts if time), default=0)


def _captured(messages: Iterator[Recordable]) -> int:
    """Return the first capture time of some messages, 0 where none has one."""
    return next((m.captured for m in messages if isinstance(m, Frame | Gap) and m.captured), 0)


def _info_at(track: Track, slot: int) -> StreamInfo:
    for message in track.messages(slot):
        if isinstance(message, Describe):
            return message.info
        if isinstance(message, Frame):
            break
    if not track.infos:
        raise BadParam(f"{track.directory}: {track.name} was never described; nothing of it can be replayed")
    return track.infos[0]


def _later(item: Frame | Gap, slots: int) -> Frame | Gap:
    """Return a frame or gap so many slots later."""
    if isinstance(item, Gap):
        return Gap(item.first + slots, item.count, item.reason, item.captured)
    return Frame(item.first + slots, item.count, item.arrays, item.captured, operator=item.operator, tags=item.tags)


def part(item: Frame | Gap, first: int, end: int, info: StreamInfo) -> Frame | Gap:
    """Return what of a frame or gap lies in some slots; arrays are views."""
    if first <= item.first and end >= item.end:
        return item
    first, end = max(first, item.first), min(end, item.end)
    if isinstance(item, Gap):
        return Gap(first, end - first, item.reason, item.captured)
    rows, whole = slice(first - item.first, end - item.first), _without_slots(info)
    arrays = {name: array if name in whole else array[rows] for name, array in item.arrays.items()}
    return Frame(first, end - first, arrays, item.captured, operator=item.operator, tags=item.tags)


def _without_slots(info: StreamInfo) -> frozenset[str]:
    return frozenset(name for name, array in info.arrays.items() if "slot" not in array.axes)
