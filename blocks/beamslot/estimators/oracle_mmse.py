"""The floor: true angles and mean powers, gains by linear MMSE."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.oracle_mmse import OracleMmse
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, PATHS, RF_AXES, as_arrays, describe_estimate, operator_of
from beamslot.runtime import Block, In, Out


class OracleMmseEstimator(Block):
    """Fit the gains of the true paths by linear MMSE, told angles and powers: the least error of all estimates."""

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    truth = In(gain=PATHS["gain"], u=PATHS["u"], v=PATHS["v"], mask=PATHS["mask"])
    estimate = Out(ESTIMATE)

    def start(self, rf: StreamInfo, truth: StreamInfo) -> StreamInfo:
        """Take the operator from the stream."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        self._oracle = OracleMmse(geometry, operator)
        return describe_estimate(rf, geometry, truth.axes["path"])

    def process(self, rf: NDArray[Any], truth: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Estimate a batch of slots and users; of the true gains only their powers are looked at."""
        power = np.abs(truth["gain"]) ** 2
        return as_arrays(self._oracle.estimate(rf, power, truth["u"], truth["v"], truth["mask"]))
