"""Orthogonal matching pursuit on the separable dictionary of a grouped front end."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.omp import Omp
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, RF_AXES, as_outputs, describe_estimate, operator_of
from beamslot.runtime import Block, In, Out, Tagged


class OmpEstimator(Block):
    """Find paths one by one by their correlation with the residual; noise variance learned."""

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    estimate = Out(ESTIMATE)

    paths: int = Field(16, ge=1, description="largest number of paths")
    grid: tuple[int, int] = Field((128, 36), description="points over u and over the searched interval of v")
    guard: float = Field(1 / 24, ge=0, description="searched beyond the beams' interval on each side, in v")
    zoom: int = Field(3, ge=0, description="times that a peak is located anew, four times finer; 0 keeps to the grid")
    false_alarm: float = Field(0.1, gt=0, lt=1, description="probability of a path found in noise alone")

    def start(self, rf: StreamInfo) -> StreamInfo:
        """Build the correlator for the operator that the stream carries."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        self._operator = operator
        names = ("paths", "grid", "guard", "zoom", "false_alarm")
        self._omp = Omp(geometry, operator, **{name: getattr(self, name) for name in names})
        return describe_estimate(rf, geometry, self.paths)

    def process(self, rf: NDArray[Any], slots: range) -> dict[str, NDArray[Any]] | Tagged:
        """Estimate a batch of slots and users."""
        return as_outputs(self._omp.estimate(rf), self._operator, slots)
