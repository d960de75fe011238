"""Partially connected hybrid beamforming: each RF chain sums the antennas that it owns."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp import beams, grouping
from beamslot.dsp.combine import combine
from beamslot.errors import BadParam, ShapeError
from beamslot.frame import Operator, StreamInfo
from beamslot.ports import FIELD_AXES, RF_AXES
from beamslot.runtime import Block, In, Out


class Combiner(Block):
    """Compress the antenna field of a slot to what the RF chains of a partially connected front end see, y = F_a h.

    The stream that leaves carries the measurement operator, so that nothing downstream needs these parameters.
    """

    field = In(FIELD_AXES, np.complex64, unit="sqrt(W)")
    rf = Out(RF_AXES, np.complex64, unit="sqrt(W)")

    antennas_per_chain: int = Field(12, ge=1, description="vertically adjacent antennas that share one RF chain, M")
    beams: Literal["group", "random", "wide"] = Field(
        "group", description="group-wise narrow beams, random phases, or one wide beam for all chains"
    )
    groups: int = Field(4, ge=1, description="groups of columns, one beam each, G")
    grouping: Literal["balanced_random", "contiguous", "interleaved"] = Field(
        "balanced_random", description="which columns form a group: a random equal partition, blocks, or every G-th"
    )
    interval: tuple[float, float] = Field((-0.5, 0.0), description="interval of v = sin(elevation) to be covered")

    def start(self, field: StreamInfo) -> StreamInfo:
        """Design the beams for the array that the stream describes."""
        n_y, n_z, m = field.axes["y"], field.axes["z"], self.antennas_per_chain
        if n_z % m:
            raise ShapeError(
                f"{self.run.name}.antennas_per_chain: {m} does not divide the array's {n_z} rows; "
                f"wanted one of {', '.join(str(d) for d in range(1, n_z + 1) if n_z % d == 0)}"
            )
        if self.groups > n_y:
            raise BadParam(
                f"{self.run.name}.groups: {self.groups} groups of {n_y} columns; wanted at most one a column"
            )
        group = self._partition(n_y)
        self._weights = self._design(group, n_z // m, field)
        operator = Operator(self._weights, group, self.interval)
        return field.replace(axes={**field.axes, "chain": n_z // m}, operator=operator)

    def _partition(self, n_y: int) -> NDArray[np.int16]:
        if self.beams != "group":
            return np.zeros(n_y, np.int16)
        if self.grouping == "contiguous":
            return grouping.contiguous(n_y, self.groups)
        if self.grouping == "interleaved":
            return grouping.interleaved(n_y, self.groups)
        return grouping.balanced_random(n_y, self.groups, self.rng(0))

    def _design(self, group: NDArray[np.int16], chains: int, field: StreamInfo) -> NDArray[np.complex64]:
        m, spacing = self.antennas_per_chain, field.geometry.spacing_z if field.geometry else 0.5
        if self.beams == "random":
            return beams.random_beams(len(group), chains, m, self.rng(0))
        if self.beams == "wide":
            return beams.wide_beams(len(group), chains, m, self.interval, spacing)
        return beams.group_beams(group, self.interval, chains, m, spacing)

    def process(self, field: NDArray[Any]) -> NDArray[Any]:
        """Sum over the antennas of every chain."""
        return combine(field, self._weights)
