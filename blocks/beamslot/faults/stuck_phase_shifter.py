"""Phase shifters of the analog beamformer that do not follow: the stream tells weights that are not those applied."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.beamformers.combiner import Combiner
from beamslot.dsp.combine import combine
from beamslot.dsp.impairments import stuck
from beamslot.errors import BadParam
from beamslot.faults.fault import BEGIN, UNTIL, spell, struck_tags
from beamslot.frame import StreamInfo
from beamslot.runtime import Tagged
from beamslot.runtime.block import Live


class StuckPhaseShifter(Combiner):
    """Stand in the place of a `combiner`, with the same parameters, and some phase shifters stuck.

    The operator in the stream is the one that was commanded, as nobody in a lab knows of another.
    """

    begin: int = BEGIN
    until: int = UNTIL
    antennas: list[tuple[int, int]] = Field([], description="antennas whose phase shifter is stuck, as (column, row)")
    share: float = Live(0.0, ge=0, le=1, description="share of further ones that are, drawn by the seed")
    phase: float | None = Field(
        None,
        description="phase at which they stand; none: drawn for each, uniform",
        json_schema_extra={"unit": "rad"},
    )

    def start(self, field: StreamInfo) -> StreamInfo:
        """Design the beams, and draw what becomes of them.

        raises BadParam for an antenna that is not there
        """
        described = super().start(field)
        columns, rows = field.axes["y"], field.axes["z"]
        self._named = np.zeros((columns, rows), np.bool_)
        for column, row in self.antennas:
            if not (0 <= column < columns and 0 <= row < rows):
                came = f"there is no antenna ({column}, {row})"
                raise BadParam(f"{self.run.name}.antennas: {came}; wanted columns below {columns}, rows below {rows}")
            self._named[column, row] = True
        draws = self.rng(0, 1).random((2, columns, rows))
        self._order, self._turn = draws[0], 2 * math.pi * draws[1]
        return described

    @property
    def which(self) -> NDArray[np.bool_]:
        """Which phase shifters are stuck, (y, z) bool."""
        return self._named | (self._order < self.share)

    def applied(self) -> NDArray[np.complex64]:
        """Return the weights that the hardware applies, (y, chain, m)."""
        shape = self._weights.shape
        phase = self._turn.reshape(shape) if self.phase is None else self.phase
        return stuck(self._weights, self.which.reshape(shape), phase)

    def process(self, field: NDArray[Any], slots: range) -> NDArray[Any] | Tagged:  # pyright: ignore
        """Sum over the antennas of every chain, each with the phase that it has."""
        struck = spell(slots, self.begin, self.until) & self.which.any()
        if not struck.any():
            return combine(field, self._weights)
        made = combine(field, self.applied())
        if not struck.all():
            made[~struck] = combine(field[~struck], self._weights)
        return Tagged(made, struck_tags("stuck_phase_shifter", struck, slots))
