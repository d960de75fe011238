"""Slots that never come from the hardware: gaps in their place."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.faults.fault import BEGIN, UNTIL, spell
from beamslot.runtime import Block, Dropped, In, Out
from beamslot.runtime.block import Live

REASON = "lost by fault"
"""What the gaps say; `lost` alone is what a lossless edge must never do, and ends a run as failed."""


class LostSlots(Block):
    """Lose slots of any stream: time is cut into pieces of `length` slots, each of which is lost by chance."""

    stream = In()
    faulty = Out()

    begin: int = BEGIN
    until: int = UNTIL
    share: float = Live(0.01, ge=0, le=1, description="share of the slots that are lost")
    length: int = Field(1, ge=1, description="slots that are lost together")

    def process(self, stream: dict[str, NDArray[Any]], slots: range) -> Any:
        """Pass what is not lost."""
        pieces = np.asarray(slots) // self.length
        hit = {piece: self.rng(piece).random() < self.share for piece in sorted(set(pieces.tolist()))}
        lost = spell(slots, self.begin, self.until) & np.array([hit[piece] for piece in pieces.tolist()])
        if not lost.any():
            return dict(stream)
        return Dropped(dict(stream), [slots[index] for index in np.flatnonzero(lost)], REASON)
