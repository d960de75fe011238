"""The time that a call of `process` has left, as a block is told of it: blocks keep no clock of their own."""

import math
import time

from beamslot.runtime.block import Block, parameters_of


class Budget:
    """Called once an iteration, says whether time is up; then the best so far is wanted.

    until: monotonic clock of the host [ns]
    spent: whether it has said so; from then on it says nothing else    asked: how often it was asked until it did
    """

    __slots__ = ("_until", "asked", "spent")

    def __init__(self, until: int) -> None:
        self._until = until
        self.asked, self.spent = 0, False

    def __call__(self) -> bool:
        """Return whether time is up."""
        self.asked += not self.spent
        self.spent = self.spent or time.monotonic_ns() >= self._until
        return self.spent


def deadline_misfit(kind: type[Block], deadline: float | None) -> str:
    """Return why blocks of a class cannot have a deadline [s], or nothing."""
    if deadline is None:
        return ""
    if not 0 <= deadline < math.inf:
        return f"got a deadline of {deadline:g} s; wanted a finite time of 0 or more"
    if "budget" not in parameters_of(kind.process):
        return (
            f"got a deadline of {deadline:g} s; wanted none: {kind.__name__}.process does not ask for budget,"
            " so it cannot be told that time is up"
        )
    return ""
