"""Turbo-VBI: variational Bayesian inference with the full posterior of all grid points."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.estimate import Budget
from beamslot.dsp.turbo_vbi import TurboVbi
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, RF_AXES, as_outputs, describe_estimate, operator_of
from beamslot.runtime import Block, In, Out, Tagged


class TurboVbiEstimator(Block):
    """Infer all paths on the whole array, the posterior of gains on the whole grid; the noise variance is learned."""

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    estimate = Out(ESTIMATE)

    expected_paths: float = Field(10.0, gt=0, description="prior mean of the number of paths")
    max_paths: int = Field(32, ge=1, description="largest number of paths")
    rounds: int = Field(40, ge=1, description="iterations at most")
    guard: float = Field(0.045, ge=0, description="searched beyond the beams' interval on each side, in v")

    def start(self, rf: StreamInfo) -> StreamInfo:
        """Build the sensing tables for the operator that the stream carries."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        self._operator = operator
        names = ("expected_paths", "max_paths", "rounds", "guard")
        self._estimator = TurboVbi(geometry, operator, **{name: getattr(self, name) for name in names})
        return describe_estimate(rf, geometry, self.max_paths)

    def process(self, rf: NDArray[Any], slots: range, budget: Budget | None = None) -> dict[str, NDArray[Any]] | Tagged:
        """Estimate a batch of slots and users, within the time that there is."""
        return as_outputs(self._estimator.estimate(rf, budget=budget), self._operator, slots)
