"""Blocks that cost next to nothing, so that what is measured is what carries their frames."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.frame import Array, StreamInfo
from beamslot.runtime import Block, In, Out

BYTES = 8
"""Of one complex64 sample."""


class PreparedSource(Block):
    """Sends frames that were made before the first slot, over and over."""

    out = Out()

    sizes: dict[str, int] = Field(description="arrays and their size a slot", json_schema_extra={"unit": "byte"})
    prepared: int = Field(8, ge=1, description="different frames that take turns")
    burst: int = Field(1, ge=1, description="slots of a full frame")

    def start(self) -> StreamInfo:
        """Make the frames."""
        samples = {name: size // BYTES for name, size in self.sizes.items()}
        axes: dict[str, int] = dict(zip(("sample", "subcarrier", "bin"), samples.values(), strict=False))
        arrays = {name: Array.of(f"slot {axis}", np.complex64) for name, axis in zip(samples, axes, strict=True)}
        self._frames = [
            {name: np.full((self.burst, length), k, np.complex64) for name, length in samples.items()}
            for k in range(self.prepared)
        ]
        return StreamInfo(arrays, axes, self.run.slot_period)

    def process(self, slots: range) -> dict[str, NDArray[Any]]:
        """Return the next frame."""
        frame = self._frames[slots.start // self.burst % self.prepared]
        if len(slots) == self.burst:
            return frame
        return {name: array[: len(slots)] for name, array in frame.items()}


class PassBlock(Block):
    """Hands on what comes, as it comes."""

    stream = In()
    out = Out()

    def process(self, stream: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return what came."""
        return stream


class Tally:
    """How many slots came, and in what time from the first call to the last."""

    def __init__(self) -> None:
        self.seen = self._opened = self._first = self._last = 0

    def count(self, slots: int) -> None:
        """Count slots that came now."""
        self._last = time.monotonic_ns()
        if not self.seen:
            self._first, self._opened = self._last, slots
        self.seen += slots

    @property
    def rate(self) -> float:
        """Slots per second, those of the first call not counted."""
        return (self.seen - self._opened) * 1e9 / max(1, self._last - self._first)


class NullSink(Block):
    """Counts slots and notes when the first and the last came."""

    stream = In()

    def start(self) -> None:
        """Begin to count."""
        self._tally = Tally()

    def process(self, slots: range) -> None:
        """Count."""
        self._tally.count(len(slots))

    def results(self) -> dict[str, Any]:
        """Return the count and the rate [slots/s]."""
        tally = self._tally
        return {"seen": tally.seen, "rate": tally.rate}
