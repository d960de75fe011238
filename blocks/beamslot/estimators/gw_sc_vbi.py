"""Group-wise subspace-constrained variational Bayesian inference, the estimator of the paper."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.estimate import Budget
from beamslot.dsp.gw_sc_vbi import GwScVbi
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, RF_AXES, as_outputs, describe_estimate, operator_of
from beamslot.runtime import Block, In, Out, Tagged


class GwScVbiEstimator(Block):
    """Infer the paths of every group of columns, then all together; the noise variance is learned."""

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    estimate = Out(ESTIMATE)

    form: Literal["robust", "as_printed"] = Field(
        "robust", description="joint stage re-opened to the whole grid, or kept to what the groups found"
    )
    expected_paths: float = Field(10.0, gt=0, description="prior mean of the number of paths")
    max_paths: int = Field(32, ge=1, description="largest number of paths")
    group_rounds: int | None = Field(None, ge=0, description="iterations at most in the groups; 0 leaves them out")
    joint_rounds: int = Field(40, ge=1, description="iterations at most in the joint stage")
    guard: float = Field(0.045, ge=0, description="searched beyond the beams' interval on each side, in v")

    def start(self, rf: StreamInfo) -> StreamInfo:
        """Build the sensing tables for the operator that the stream carries."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        self._operator = operator
        names = ("form", "expected_paths", "max_paths", "group_rounds", "joint_rounds", "guard")
        self._estimator = GwScVbi(geometry, operator, **{name: getattr(self, name) for name in names})
        return describe_estimate(rf, geometry, self.max_paths)

    def process(self, rf: NDArray[Any], slots: range, budget: Budget | None = None) -> dict[str, NDArray[Any]] | Tagged:
        """Estimate a batch of slots and users, within the time that there is."""
        return as_outputs(self._estimator.estimate(rf, budget=budget), self._operator, slots)
