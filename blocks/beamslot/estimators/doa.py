"""Directions of arrival at a uniform linear array, by the classical methods."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.doa.estimator import Doa, Method
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, FIELD_AXES, as_arrays, describe_estimate, line_of
from beamslot.runtime import Block, In, Live, Out


class DoaEstimator(Block):
    """Find the angles of a frame of snapshots, move them by Gauss-Newton steps, fit the gains of every slot."""

    field = In(FIELD_AXES, np.complex64, unit="sqrt(W)", window="snapshots")
    estimate = Out(ESTIMATE)

    method: Method = Live("fbss_root_music", description="how the angles are found")
    users: int = Live(0, ge=0, description="users of a frame; 0: counted by MDL")
    max_users: int = Live(8, ge=1, description="where they are counted, at most so many")
    snapshots: int = Field(40, ge=1, description="slots of a frame, which share the angles")
    steps: int = Live(0, ge=0, description="Gauss-Newton steps through the decoder after the method")
    subarray: int = Field(0, ge=0, description="antennas of a subarray in spatial smoothing; 0: three quarters of all")

    def start(self, field: StreamInfo) -> StreamInfo:
        """Take the array from the stream."""
        geometry = line_of(field, f"{self.run.name}.field")
        names = ("method", "users", "max_users", "steps", "subarray")
        self._estimator = Doa(geometry, **{name: getattr(self, name) for name in names})
        return describe_estimate(field, geometry, self._estimator.paths)

    def process(self, field: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Estimate the slots of a frame."""
        return as_arrays(self._estimator.estimate(field))
