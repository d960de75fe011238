"""What the faults share: when they hold, and how the frames that they touched say so."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.errors import PortMismatch
from beamslot.frame import StreamInfo
from beamslot.ports import FIELD_AXES, RF_AXES
from beamslot.runtime import Block, In, Out, Tagged

BEGIN = Field(0, ge=0, description="first slot with the fault")
UNTIL = Field(0, ge=0, description="slot from which on it is over; 0: never")

MOST_RANGES = 1000
"""Ranges of slots that a tag lists; in a frame with more, the last takes in all that follow."""

SAMPLES = {(tuple(axes.split()), np.dtype(np.complex64)) for axes in (RF_AXES, FIELD_AXES)}
"""Axes and dtypes of arrays that the faults take."""


def spell(slots: range, begin: int, until: int) -> NDArray[np.bool_]:
    """Return which slots lie from `begin` to before `until`, where 0 is never; (slot,) bool."""
    index = np.asarray(slots)
    return (index >= begin) & ((index < until) | (until == 0))


def struck_tags(kind: str, struck: NDArray[np.bool_], slots: range) -> dict[str, Any]:
    """Return the tag of a frame with a fault: {"faults": {kind: [[first, end], ...]}}, the slots that it struck."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], struck, [False]]).astype(np.int8)))
    ranges = [[slots.start + int(first), slots.start + int(end)] for first, end in edges.reshape(-1, 2)]
    if len(ranges) > MOST_RANGES:
        ranges[MOST_RANGES - 1 :] = [[ranges[MOST_RANGES - 1][0], ranges[-1][1]]]
    return {"faults": {kind: ranges}}


class Fault(Block):
    """Base of faults of samples: those of RF chains, or of the antennas of an array that has a chain for each.

    kind: its name in tags
    `struck` says which slots it strikes, `spoil` what becomes of them.
    """

    kind: ClassVar[str]

    stream = In()
    faulty = Out()

    begin: int = BEGIN
    until: int = UNTIL

    def start(self, stream: StreamInfo) -> None:
        """Find the samples in the stream.

        raises PortMismatch where it has none, or other arrays too
        """
        kinds = {(array.axes, array.dtype) for array in stream.arrays.values()}
        if len(stream.arrays) != 1 or not kinds <= SAMPLES:
            came = "; ".join(f"{name} {array}" for name, array in stream.arrays.items())
            wanted = " or ".join(f"[{axes}]" for axes in (RF_AXES, FIELD_AXES))
            raise PortMismatch(f"{self.run.name}.stream: {came} comes; wanted one array {wanted} complex64")
        self._array = next(iter(stream.arrays))
        self.prepare(stream, stream.shape(self._array, 1)[2:])

    def prepare(self, stream: StreamInfo, shape: tuple[int, ...]) -> None:
        """Design what the fault needs.

        shape: (y, chain) of the samples, or (y, z)
        """

    def struck(self, slots: range) -> NDArray[np.bool_]:
        """Return which slots the fault strikes, (slot,) bool."""
        return spell(slots, self.begin, self.until)

    def spoil(self, samples: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[Any]:
        """Return what becomes of some slots, (slot, user, y, chain) complex64; only those that are struck come here."""
        raise NotImplementedError

    def process(self, stream: dict[str, NDArray[Any]], slots: range) -> dict[str, NDArray[Any]] | Tagged:
        """Spoil the slots that are struck, and say which."""
        struck = self.struck(slots)
        if not struck.any():
            return dict(stream)
        made = stream[self._array].copy()
        made[struck] = self.spoil(made[struck], np.asarray(slots)[struck])
        return Tagged({self._array: made}, struck_tags(self.kind, struck, slots))
