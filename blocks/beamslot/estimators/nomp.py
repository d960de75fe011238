"""Newtonized orthogonal matching pursuit, off the grid."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.estimate import Budget
from beamslot.dsp.nomp import Nomp
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, RF_AXES, as_outputs, describe_estimate, operator_of
from beamslot.runtime import Block, In, Out, Tagged


class NompEstimator(Block):
    """Find paths one by one and refine all by Newton steps after each; the noise variance is learned."""

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    estimate = Out(ESTIMATE)

    paths: int = Field(24, ge=1, description="largest number of paths")
    single_steps: int = Field(1, ge=0, description="Newton steps of a new path")
    cyclic_rounds: int = Field(3, ge=0, description="sweeps of a Newton step of every path after each new one")
    guard: float = Field(0.045, ge=0, description="searched beyond the beams' interval on each side, in v")
    false_alarm: float = Field(0.1, gt=0, lt=1, description="probability of a path found in noise alone")
    expected_paths: float = Field(10.0, gt=0, description="prior mean of the number of paths, for error_var alone")

    def start(self, rf: StreamInfo) -> StreamInfo:
        """Build the sensing tables for the operator that the stream carries."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        self._operator = operator
        names = ("paths", "single_steps", "cyclic_rounds", "guard", "false_alarm", "expected_paths")
        self._nomp = Nomp(geometry, operator, **{name: getattr(self, name) for name in names})
        return describe_estimate(rf, geometry, self.paths)

    def process(self, rf: NDArray[Any], slots: range, budget: Budget | None = None) -> dict[str, NDArray[Any]] | Tagged:
        """Estimate a batch of slots and users, within the time that there is."""
        return as_outputs(self._nomp.estimate(rf, budget=budget), self._operator, slots)
