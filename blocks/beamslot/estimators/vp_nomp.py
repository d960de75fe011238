"""Matching pursuit by variable projection, the estimator that keeps up with the slots."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.estimate import Budget
from beamslot.dsp.vp_nomp import MOST_PATHS, VpNomp
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, RF_AXES, as_outputs, describe_estimate, operator_of
from beamslot.runtime import Block, In, Out, Tagged


class VpNompEstimator(Block):
    """Find a few paths at a time, move all by Gauss-Newton steps, weigh them by evidence; noise variance learned."""

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    estimate = Out(ESTIMATE)

    max_paths: int = Field(24, ge=1, le=MOST_PATHS, description="largest number of paths")
    max_rounds: int = Field(20, ge=1, description="searches for paths at most, each for a few")
    threshold: float = Field(9.0, gt=0, description="power over the noise from which a peak is taken for a path")
    expected_paths: float = Field(10.0, gt=0, description="prior mean of the number of paths")
    guard: float = Field(0.1, ge=0, description="searched beyond the beams' interval on each side, in v")

    def start(self, rf: StreamInfo) -> StreamInfo:
        """Build the tables for the operator that the stream carries."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        self._operator = operator
        names = ("max_paths", "max_rounds", "threshold", "expected_paths", "guard")
        self._estimator = VpNomp(geometry, operator, **{name: getattr(self, name) for name in names})
        return describe_estimate(rf, geometry, self.max_paths)

    def process(self, rf: NDArray[Any], slots: range, budget: Budget | None = None) -> dict[str, NDArray[Any]] | Tagged:
        """Estimate a batch of slots and users, within the time that there is."""
        return as_outputs(self._estimator.estimate(rf, budget=budget), self._operator, slots)
