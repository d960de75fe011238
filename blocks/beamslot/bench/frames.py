"""What the peers share with each other: the header of a frame, the slot clock, and how arrivals are summed up."""

import math
import statistics
import time
from typing import Any


def header(slot: int, captured: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the fields that a frame of ours has."""
    return {
        "beamslot": 1,
        "kind": "data",
        "first": slot,
        "count": 1,
        "epoch": 0,
        "seq": slot + 1,
        "captured": captured,
        "sent": time.monotonic_ns(),
        "operator": None,
        "deadline": None,
        "buffers": [("data", "<c8", shape)],
        "tags": {},
    }


class Pacer:
    """Waits for frames as our slot clock does: sleep until the frame is due."""

    def __init__(self, pace: float) -> None:
        self.period = 1e9 / pace if math.isfinite(pace) else 0.0
        self.origin = time.monotonic_ns()

    def wait(self, frame: int) -> int:
        """Return when the frame was captured [ns]: when it was due, or now."""
        if not self.period:
            return time.monotonic_ns()
        due = self.origin + round((frame + 1) * self.period)
        time.sleep(max(0.0, (due - time.monotonic_ns()) * 1e-9))
        return due


def summary(first: int, last: int, frames: int, latencies: list[int]) -> dict[str, float]:
    """Return the rate between first and last arrival [frames/s] and the median latency [us]."""
    return {"rate": (frames - 1) * 1e9 / max(1, last - first), "p50_us": statistics.median(latencies) / 1e3}
