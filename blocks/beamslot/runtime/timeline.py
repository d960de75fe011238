"""Parameters as a timeline: which values hold for a block from which slot on.

A change holds from a slot that no process of the block has begun yet, so every replica, restart, redelivery and replay
uses the value that held for the slot. The flowgraph may have changes of its own (`timeline:`), others are made while
the graph runs (`beamslot set`); both are the same.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from beamslot.runtime.place import END

RUN = ""
"""What stands for the block in a change of the run itself: its pace."""

PACES = {"realtime": 1.0, "max": math.inf}
"""Paces that have a name [slots per slot period]."""

DEADLINE, PACE = "deadline", "pace"
"""What can be changed of any block that asks for its budget, and of the run, beside the parameters of blocks."""


@dataclass(frozen=True)
class Change:
    """Values that hold for a block from a slot on, and where they were written ("demo.yml:12")."""

    slot: int
    block: str
    values: Mapping[str, Any]
    place: str = field(default="", compare=False)

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {"slot": self.slot, "block": self.block, "values": dict(self.values)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Change":
        """Return the change that `plain` gave."""
        return cls(plain["slot"], plain["block"], plain["values"])


class Timeline:
    """The values of one block over the slots.

    first: the values from slot 0 on of all that changes    changes: later ones, in any order
    """

    def __init__(self, first: Mapping[str, Any], changes: Iterable[Change]) -> None:
        self._first = dict(first)
        self._changes: list[Change] = []
        for change in changes:
            self.add(change)

    def add(self, change: Change) -> None:
        """Add a change; of two for one slot the later added counts."""
        self._changes.insert(bisect_right(self._changes, change.slot, key=lambda one: one.slot), change)

    def until(self, slot: int) -> int:
        """Return the slot behind `slot` at which the next change stands, END where none does."""
        later = bisect_right(self._changes, slot, key=lambda change: change.slot)
        return self._changes[later].slot if later < len(self._changes) else END

    def at(self, slot: int) -> dict[str, Any]:
        """Return the values that hold for a slot, of all parameters that are changed anywhere."""
        values = {name: self._first[name] for change in self._changes for name in change.values if name in self._first}
        for change in self._changes:
            if change.slot > slot:
                break
            values.update(change.values)
        return values
