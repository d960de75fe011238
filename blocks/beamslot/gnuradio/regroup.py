"""Samples to slots: whole slots are cut from a stream whose messages mean nothing, and what is missing is named.

A slot is so many items. By count, slots follow each other from the first item on; by tag, a slot begins where a tag
says its number, and slots without a tag follow by count. Items that a header's offset, or a jump of `rx_time`, tells to
be missing are slots that are missing, and the slots behind them keep their places. Where nothing tells how much is
missing (the peer has begun anew, a message was refused), it is one slot, so that it is counted and seen.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from beamslot.gnuradio.tags import Chunk, Tag

LONGEST_GAP = 10_000_000
"""A tag that tells of a longer gap than this is taken for a new beginning [slots]."""

HIGHEST_RATE = 1e12
"""No radio samples faster [Hz]; beyond it arithmetic of time would lose items."""

MOST_REMARKS = 4096
"""So many tags wait for their slots; more are left out."""

RADIO = ("rx_time", "rx_rate", "rx_freq")
"""Tags of a radio, which hold until others come."""

MISSING, RESTARTED, OVERFLOW, TORN, REFUSED = "missing", "restarted", "overflow", "torn", "refused"
"""Why slots are lost: items did not come; the peer began anew; its time jumped; a slot was cut short by the next; a
message was refused."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A tag, by the slot and the item within it that it stands at."""

    slot: int
    item: int
    key: str
    value: Any


@dataclass
class Slots:
    """What was taken: consecutive slots, behind those that are lost.

    first: number of the first slot, in ours    items: (slot, item, sample) complex64, perhaps none
    lost: why the slots before were lost, empty where none were    remarks: the tags of these slots
    """

    first: int
    items: NDArray[np.complex64]
    lost: str = ""
    remarks: list[Remark] = field(default_factory=list[Remark])

    @property
    def end(self) -> int:
        """The slot after the last."""
        return self.first + len(self.items)


class Regrouper:
    """The state of one stream.

    per_slot: items of a slot    vlen: samples of an item    slot_period: [s]
    by: how slots are numbered    key: of the tags that number them
    begin: our number of the first slot    origin: number in the tags of our slot 0; None: the first becomes `begin`
    rate: items a second as `rx_rate` says, None before it did    passed: items that belong to no slot
    """

    def __init__(
        self,
        per_slot: int,
        vlen: int,
        slot_period: float,
        *,
        by: Literal["count", "tag"] = "count",
        key: str = "slot",
        begin: int = 0,
        origin: int | None = None,
    ) -> None:
        self.per_slot, self.vlen, self.slot_period = per_slot, vlen, slot_period
        self.by, self.key, self.origin = by, key, origin
        self.number = begin
        self.rate: float | None = None
        self.passed = 0
        self._base = None if origin is None else -origin
        self._ready: deque[Slots] = deque()
        self._partial = np.empty((per_slot, vlen), np.complex64)
        self._have = self._skip = 0
        self._expected: int | None = None
        self._why = ""
        self._in_step = by == "count"
        self._came = self._parted = False
        self._time: tuple[int, float, int] | None = None
        self._remarks: deque[Remark] = deque()

    def feed(self, chunk: Chunk) -> None:
        """Take what a message brought."""
        if self._parted:
            self._parted = False
            self._break(RESTARTED)
        self._came = True
        if chunk.offset is not None:
            if self._expected is not None and chunk.offset != self._expected:
                self._jump(chunk.offset - self._expected)
            elif self._in_step:
                self._why = ""
            self._expected = chunk.offset + len(chunk.items)
        if not chunk.tags:
            self._append(chunk.items)
            return
        at, offset = 0, chunk.offset or 0
        for tag in sorted(chunk.tags, key=lambda tag: (tag.offset, tag.key != self.key)):
            here = tag.offset - offset
            if tag.key == self.key and self._confirms(tag.value, here - at):
                continue
            if here > at:
                self._append(chunk.items[at:here])
                at = here
            self._heed(tag)
        self._append(chunk.items[at:])

    def refuse(self) -> None:
        """Note that a message was lost; where no header tells how many items it had, begin anew."""
        if self._expected is None:
            self._break(REFUSED)
        else:
            self._why = REFUSED

    def part(self) -> None:
        """Note that the peer has gone and all that it sent has come; where no header will tell, begin anew."""
        self._parted = self._expected is None and self._came

    @property
    def waiting(self) -> int:
        """Slots that can be taken, lost ones among them."""
        return self.number - self._ready[0].first if self._ready else 0

    def _jump(self, items: int) -> None:
        """Pass over items that did not come; begin anew where the stream does."""
        if items < 0 or items // self.per_slot > LONGEST_GAP:
            self._break(RESTARTED)
        else:
            self._miss(items, self._why or MISSING)
        self._why = ""

    def _miss(self, items: int, why: str) -> None:
        if self.by == "tag":
            self._break(why)
            return
        if self._time is not None:
            self._time = (self._time[0], self._time[1], self._time[2] + items)
        gone = self._have + items - self._skip
        if gone <= 0:
            self._skip = -gone
            return
        lost = math.ceil(gone / self.per_slot)
        self._have, self._skip = 0, lost * self.per_slot - gone
        self._lose(lost, why)

    def _break(self, why: str) -> None:
        """Begin anew where the stream goes on: at the next tag, or at once, behind one slot that is lost."""
        self._have = self._skip = 0
        self._time = None
        if self.by == "tag":
            self._in_step, self._why = False, why
        else:
            self._lose(1, why)

    def _lose(self, slots: int, why: str) -> None:
        self._put(np.empty((0, self.per_slot, self.vlen), np.complex64), slots, why)

    def _put(self, items: NDArray[np.complex64], skipped: int = 0, why: str = "") -> None:
        self.number += skipped
        self._ready.append(Slots(self.number, items if items.flags.aligned else items.copy(), why))
        self.number += len(items)

    def _append(self, items: NDArray[np.complex64]) -> None:
        """Take items that follow those before."""
        if not self._in_step:
            self.passed += len(items)
            return
        if self._time is not None:
            self._time = (self._time[0], self._time[1], self._time[2] + len(items))
        if self._skip:
            cut = min(self._skip, len(items))
            self._skip -= cut
            self.passed += cut
            items = items[cut:]
        if self._have and len(items):
            need = self.per_slot - self._have
            head = items[:need]
            self._partial[self._have : self._have + len(head)] = head
            self._have += len(head)
            items = items[need:]
            if self._have == self.per_slot:
                self._have = 0
                self._put(self._partial[None].copy())
        whole = len(items) // self.per_slot
        if whole:
            self._put(items[: whole * self.per_slot].reshape(whole, self.per_slot, self.vlen))
            items = items[whole * self.per_slot :]
        if len(items):
            self._partial[: len(items)] = items
            self._have = len(items)

    def _confirms(self, said: Any, ahead: int) -> bool:
        """Whether the number of a slot so many items ahead is what it would be by count, and the slot begins there."""
        if self._base is None or not self._in_step or self.by == "count" or type(said) is not int:
            return False
        slots, over = divmod(self._have + ahead, self.per_slot)
        return not over and said + self._base == self.number + slots

    def _heed(self, tag: Tag) -> None:
        """Take a tag at the item that comes next."""
        if not isinstance(tag.key, str):
            return
        if tag.key == "rx_rate" and isinstance(tag.value, float | int) and 0 < tag.value < HIGHEST_RATE:
            self.rate = float(tag.value)
        if tag.key == "rx_time" and self.by == "count":
            self._tell_time(tag.value)
        if tag.key == self.key and self.by == "tag" and isinstance(tag.value, int) and not isinstance(tag.value, bool):
            self._begin_slot(int(tag.value))
            return
        placed = (self._in_step and not self._skip) or tag.key in RADIO
        if placed and len(self._remarks) < MOST_REMARKS:
            self._remarks.append(Remark(self.number, self._have, tag.key, tag.value))

    def _tell_time(self, value: Any) -> None:
        """Compare the time of the next item with what the items before make of it."""
        if not (isinstance(value, tuple) and len(value) == 2 and all(isinstance(one, float | int) for one in value)):
            return
        if not (isinstance(value[0], int) and 0 <= value[1] < 1):
            return
        full, fraction = int(value[0]), float(value[1])
        if self._time is not None:
            rate = self.rate or self.per_slot / self.slot_period
            items = ((full - self._time[0]) + (fraction - self._time[1])) * rate - self._time[2]
            if not -0.5 <= items <= self.per_slot * LONGEST_GAP:
                self._break(RESTARTED)
            elif round(items):
                self._miss(round(items), OVERFLOW)
        self._time = (full, fraction, 0)

    def _begin_slot(self, said: int) -> None:
        """Begin the slot that the tag says, wherever we are."""
        torn, self._have = self._have, 0
        if self._base is None:
            self._base = self.number - said
        slot = said + self._base
        why = self._why or (TORN if torn and slot == self.number + 1 else MISSING)
        self._why = ""
        if self.number <= slot <= self.number + LONGEST_GAP:
            self._in_step = True
            if slot > self.number:
                self._lose(slot - self.number, why)
        elif self.origin is not None:
            self._in_step = False  # it has come before, or is of nobody's
        else:
            self._in_step = True
            self._base = self.number + 1 - said
            self._lose(1, RESTARTED)

    def take(self, most: int, apart: str = "rx_freq") -> Slots | None:
        """Return the next slots, at most so many, None where there are none yet.

        apart: tags of this name only stand at the first of the slots
        """
        ready = self._ready
        if not ready:
            return None
        if ready[0].lost:
            return ready.popleft()
        first = ready[0].first
        last = next((r.slot for r in self._remarks if r.key == apart and r.slot > first), first + most)
        pieces = list(self._pieces(min(most, last - first)))
        items = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        taken = Slots(first, items)
        while self._remarks and self._remarks[0].slot < taken.end:
            remark = self._remarks.popleft()
            if remark.slot >= first:
                taken.remarks.append(remark)
            elif remark.key in RADIO:  # it stood at items that belong to no slot, and holds on
                taken.remarks.append(Remark(first, 0, remark.key, remark.value))
        return taken

    def _pieces(self, most: int) -> Iterator[NDArray[np.complex64]]:
        ready = self._ready
        while most and ready and not ready[0].lost:
            head = ready[0]
            piece = head.items[:most]
            most -= len(piece)
            if len(piece) == len(head.items):
                ready.popleft()
            else:
                ready[0] = Slots(head.first + len(piece), head.items[len(piece) :])
            yield piece
