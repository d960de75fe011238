"""What the estimators of a channel behind a combiner share: built from the operator, slots in, an estimate out."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.estimate import Budget
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, RF_AXES, as_outputs, describe_estimate, operator_of
from beamslot.runtime import Block, In, Out, Tagged


class RfEstimator(Block):
    """Base of estimators whose slots do not depend on each other.

    algorithm: made with (geometry, operator) and the parameters of the block; its `estimate` takes observations
        (..., y, chain) and a budget, see `beamslot.dsp.vp_nomp.VpNomp`
    """

    algorithm: ClassVar[Any]

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    estimate = Out(ESTIMATE)

    def start(self, rf: StreamInfo) -> StreamInfo:
        """Build the tables for the operator that the stream carries."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        parameters = {name: getattr(self, name) for name in type(self).model_fields}
        self._operator, self._estimator = operator, self.algorithm(geometry, operator, **parameters)
        return describe_estimate(rf, geometry, parameters["max_paths" if "max_paths" in parameters else "paths"])

    def process(self, rf: NDArray[Any], slots: range, budget: Budget | None = None) -> dict[str, NDArray[Any]] | Tagged:
        """Estimate a batch of slots and users, within the time that there is."""
        return as_outputs(self._estimator.estimate(rf, budget=budget), self._operator, slots)
