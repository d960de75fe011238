"""The oracle: true angles, least-squares gains; what no estimator without prior knowledge of powers can beat."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.oracle_ls import OracleLs
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, PATHS, RF_AXES, as_arrays, describe_estimate, operator_of
from beamslot.runtime import Block, In, Out


class OracleLsEstimator(Block):
    """Fit the gains of the true paths by least squares: a reference, since it is told the angles."""

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    truth = In(u=PATHS["u"], v=PATHS["v"], mask=PATHS["mask"])
    estimate = Out(ESTIMATE)

    def start(self, rf: StreamInfo, truth: StreamInfo) -> StreamInfo:
        """Take the operator from the stream."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        self._oracle = OracleLs(geometry, operator)
        return describe_estimate(rf, geometry, truth.axes["path"])

    def process(self, rf: NDArray[Any], truth: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Estimate a batch of slots and users."""
        return as_arrays(self._oracle.estimate(rf, truth["u"], truth["v"], truth["mask"]))
