"""The slot clock: when each slot is due, and whether it was late."""

import math
import time
from dataclasses import dataclass, field

from beamslot.runtime.latency import Latency


@dataclass
class SlotClock:
    """Slot k is complete at origin + (k + 1) * period / pace; pace inf means at once.

    origin: monotonic clock of the host [ns], set by the supervisor when the run starts and kept over restarts
    period: [s]    pace: slots per slot period
    late: slots that were     behind: how long after they were due slots were handed over
    """

    period: float
    pace: float = math.inf
    origin: int = 0
    late: int = 0
    behind: Latency = field(default_factory=Latency)

    def __post_init__(self) -> None:
        self.keep(self.origin, self.pace)

    def keep(self, origin: int, pace: float) -> None:
        """Go by another beginning and pace."""
        self.origin, self.pace = origin, pace
        self.paced = math.isfinite(pace)  # whether slots have a due time at all

    def due(self, slots: range) -> int:
        """Return when the last of the slots is complete [ns]."""
        return self.origin + round(slots.stop * self.period * 1e9 / self.pace)

    def due_after(self, since: int) -> int:
        """Return when what was captured so long after the beginning of a recording is due [ns]."""
        return self.origin + round(since / self.pace)

    def until(self, due: int) -> float:
        """Return how long it is until a time [s]; 0 where nothing waits for its time."""
        return (due - time.monotonic_ns()) * 1e-9 if self.paced else 0.0

    def note(self, slots: range, due: int | None = None) -> None:
        """Count the slots as late when they are handed over more than a frame's duration after they were due.

        due: when that was, where it is not the clock that says so [ns]
        """
        if self.paced:
            frame = len(slots) * self.period * 1e9 / self.pace
            behind = time.monotonic_ns() - (self.due(slots) if due is None else due)
            self.behind.add(behind, len(slots))
            if behind > frame:
                self.late += len(slots)
