"""The slot clock: when each slot is due, and whether it was late."""

import math
import time
from dataclasses import dataclass


@dataclass
class SlotClock:
    """Slot k is complete at origin + (k + 1) * period / pace; pace inf means at once.

    origin: monotonic clock of the host [ns], set by the supervisor when the run starts and kept over restarts
    period: [s]    pace: slots per slot period
    """

    period: float
    pace: float = math.inf
    origin: int = 0
    late: int = 0

    def __post_init__(self) -> None:
        self.paced = math.isfinite(self.pace)  # whether slots have a due time at all

    def due(self, slots: range) -> int:
        """Return when the last of the slots is complete [ns]."""
        return self.origin + round(slots.stop * self.period * 1e9 / self.pace)

    def wait(self, slots: range) -> float:
        """Return how long it is until the slots are complete [s]; 0 or less when they are."""
        return (self.due(slots) - time.monotonic_ns()) * 1e-9 if self.paced else 0.0

    def note(self, slots: range) -> None:
        """Count the slots as late when they are handed over more than a frame's duration after they were due."""
        if self.paced:
            frame = len(slots) * self.period * 1e9 / self.pace
            if time.monotonic_ns() - self.due(slots) > frame:
                self.late += len(slots)
