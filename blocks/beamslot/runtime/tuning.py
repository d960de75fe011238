"""Keep the parameters of a block those that hold for the slots of its next call."""

from typing import Any

from beamslot.runtime.block import Block
from beamslot.runtime.timeline import DEADLINE, Change, Timeline


class Tuning:
    """Sets the live parameters of a block before its calls.

    deadline: what slots may take, as it holds now [ns]; None: as long as they like
    since, before: what is set holds from and up to these slots
    hold: slot from which no call begins, while it is agreed from where on a change holds; None: no change is under way
    """

    def __init__(self, block: Block, timeline: Timeline | None, deadline: float | None) -> None:
        self._block, self._timeline = block, timeline or Timeline({}, ())
        self.deadline = _nanoseconds(deadline)
        self.hold: int | None = None
        self.since, self.before = 0, -1

    def until(self, slot: int) -> int:
        """Return the first slot behind `slot` for which other values may hold."""
        if not self.since <= slot < self.before:
            return self._timeline.until(slot)
        return self.before

    def add(self, change: Change) -> None:
        """Take a change that has been agreed upon, and go on."""
        self._timeline.add(change)
        self.before, self.hold = -1, None

    def tune(self, slot: int) -> bool:
        """Set what holds for a slot; return whether a parameter of the block has become another."""
        if self.since <= slot < self.before:
            return False
        values = self._timeline.at(slot)
        self.since, self.before = slot, self._timeline.until(slot)
        if DEADLINE in values and DEADLINE not in type(self._block).model_fields:
            self.deadline = _nanoseconds(values.pop(DEADLINE))
        others = [self._set(name, value) for name, value in values.items()]  # all are set, not the first that differs
        return any(others)

    def _set(self, name: str, value: Any) -> bool:
        before = getattr(self._block, name)
        setattr(self._block, name, value)
        return getattr(self._block, name) != before


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e9)
