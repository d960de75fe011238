"""Where a block stands between two calls: what is worked off, what comes again after a restart, and what became of it.

A block's *place* is all that a process in its stead must know. Slots are counted once: the tally of an input forgets
what lies behind the place from which a restart would go on.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from beamslot.frame.checks import MAX_SLOT

END = MAX_SLOT - 1
"""The place of a stream that is over: behind every slot."""

DATA = ""
"""The reason of a slot that came as data."""


class Tally:
    """What became of the slots of one input, by reason; kept slot by slot only from where a restart would begin.

    settled: counts of slots that are done for good    end: the slot after the last that was noted
    """

    __slots__ = ("_recent", "end", "settled")

    def __init__(self, settled: Mapping[str, int] | None = None, end: int = 0) -> None:
        self.settled: dict[str, int] = dict(settled or {})
        self.end = end
        self._recent: deque[list[Any]] = deque()

    def note(self, first: int, end: int, reason: str = DATA) -> None:
        """Note slots, in rising order; what was noted before stays as it was."""
        first = first if first > self.end else self.end
        if first >= end:
            return
        self.end = end
        recent = self._recent
        if recent and recent[-1][1] == first and recent[-1][2] == reason:
            recent[-1][1] = end
        else:
            recent.append([first, end, reason])

    def settle(self, end: int) -> None:
        """Count what lies before a slot, and forget where it was."""
        recent = self._recent
        while recent and recent[0][0] < end:
            first, last, reason = recent.popleft()
            if last > end:
                recent.appendleft([end, last, reason])
                last = end
            self.settled[reason] = self.settled.get(reason, 0) + last - first

    def rewind(self, begin: int) -> None:
        """Settle what lies before a slot, of which no more is counted, and forget the rest, which comes again."""
        self.settle(begin)
        self._recent.clear()
        self.end = begin

    def counts(self, before: int = END) -> dict[str, int]:
        """Return slots by reason: the settled ones, and of the others those before a slot."""
        total = dict(self.settled)
        for first, end, reason in self._recent:
            slots = min(end, before) - first
            if slots > 0:
                total[reason] = total.get(reason, 0) + slots
        return total

    def pack(self) -> list[Any]:
        """Return the tally as plain values."""
        return [self.settled, self.end, [list(entry) for entry in self._recent]]

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> "Tally":
        """Return the tally that `pack` gave."""
        made = cls(packed[0], packed[1])
        made._recent.extend([first, end, reason] for first, end, reason in packed[2])
        return made


@dataclass(slots=True)
class Place:
    """Where a block stands.

    out: by join (of a source: one), the slot before which everything is worked off
    needed: by join, the oldest slot that a later call needs again
    windows: by join, where its window stands (see Window.standing)
    state: what the block's `snapshot` gave, packed
    """

    out: tuple[int, ...]
    needed: tuple[int, ...]
    windows: tuple[tuple[int, int] | None, ...] = ()
    state: bytes | None = None

    def pack(self) -> list[Any]:
        """Return the place as plain values."""
        return [list(self.out), list(self.needed), [w and list(w) for w in self.windows], self.state]

    @classmethod
    def unpack(cls, packed: Sequence[Any]) -> "Place":
        """Return the place that `pack` gave."""
        out, needed, windows, state = packed
        return cls(tuple(out), tuple(needed), tuple(tuple(w) if w else None for w in windows), state)


@dataclass
class Standing:
    """What a block process records of one block.

    places: from the oldest that a restart may need to the newest
    tallies: by input    unmatched: by join and its inputs
    base: the first slot that ever left the block, None before    last: the slot at which its output ended
    """

    places: list[Place]
    tallies: list[Tally] = field(default_factory=list[Tally])
    unmatched: list[list[Tally]] = field(default_factory=list[list[Tally]])
    base: int | None = None
    last: int = 0

    def pack(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return {
            "places": [place.pack() for place in self.places],
            "tallies": [tally.pack() for tally in self.tallies],
            "unmatched": [[tally.pack() for tally in row] for row in self.unmatched],
            "base": self.base,
            "last": self.last,
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> "Standing":
        """Return the record that `pack` gave."""
        return cls(
            [Place.unpack(place) for place in packed["places"]],
            [Tally.unpack(tally) for tally in packed["tallies"]],
            [[Tally.unpack(tally) for tally in row] for row in packed["unmatched"]],
            packed["base"],
            packed["last"],
        )
