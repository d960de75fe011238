"""Partially connected hybrid beamforming: each RF chain sums the antennas that it owns."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp import beams, eda, grouping
from beamslot.dsp.combine import combine
from beamslot.errors import BadParam, BeamslotError, ShapeError
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
    grouping: Literal["balanced_random", "contiguous", "eda", "interleaved"] = Field(
        "balanced_random",
        description="which columns form a group: a random equal partition, blocks, few side lobes (eda), or every G-th",
    )
    grouping_file: str = Field(
        "", description="file of `beamslot design grouping` that says which, in place of `grouping`"
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
        group = self._partition(n_y, field.geometry.spacing_y if field.geometry else 0.5)
        self._weights = self._design(group, n_z // m, field)
        operator = Operator(self._weights, group, self.interval)
        return field.replace(axes={**field.axes, "chain": n_z // m}, operator=operator)

    def _partition(self, n_y: int, spacing: float) -> NDArray[np.int16]:
        if self.beams != "group":
            return np.zeros(n_y, np.int16)
        if self.grouping_file:
            return self._loaded({"n_y": n_y, "groups": self.groups, "interval": self.interval, "spacing": spacing})
        if self.grouping == "contiguous":
            return grouping.contiguous(n_y, self.groups)
        if self.grouping == "interleaved":
            return grouping.interleaved(n_y, self.groups)
        if self.grouping == "eda":
            where = f"{self.run.name}.grouping: eda"
            setting = grouping.Setting.of(where, n_y=n_y, groups=self.groups, interval=self.interval, spacing=spacing)
            return eda.design(setting, self.rng(0)).group
        return grouping.balanced_random(n_y, self.groups, self.rng(0))

    def _loaded(self, wanted: dict[str, Any]) -> NDArray[np.int16]:
        """Return the grouping of the file, if it was designed for what is here."""
        where = f"{self.run.name}.grouping_file"
        try:
            designed = grouping.load_grouping(Path(self.grouping_file))
        except BeamslotError as error:  # whatever it is, the graph cannot run as written
            raise BadParam(f"{where}: {error}") from None
        found = {name: getattr(designed.setting, name) for name in wanted}
        differing = [name for name in wanted if not np.allclose(found[name], wanted[name])]
        if differing:
            came = ", ".join(f"{name} {found[name]}" for name in differing)
            here = ", ".join(f"{name} {wanted[name]}" for name in differing)
            raise BadParam(f"{where}: {self.grouping_file} was designed for {came}; wanted {here}")
        return np.array(designed.group, np.int16)

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
