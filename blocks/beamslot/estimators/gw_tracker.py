"""Paths tracked across slots, by a Kalman filter each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.gw_tracker import GwTracker, Tracks
from beamslot.dsp.vp_nomp import MOST_PATHS
from beamslot.frame import StreamInfo
from beamslot.ports import ESTIMATE, RF_AXES, as_outputs, describe_estimate, operator_of
from beamslot.runtime import Block, In, Out, Tagged


class GwTrackerEstimator(Block):
    """Begin every slot with the paths of the one before: directions persist, phases do not; the drift is learned."""

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    estimate = Out(ESTIMATE)

    max_paths: int = Field(24, ge=1, le=MOST_PATHS, description="largest number of paths")
    threshold: float = Field(8.5, gt=0, description="power over the noise from which a peak becomes a new path")
    expected_paths: float = Field(10.0, gt=0, description="prior mean of the number of paths")
    guard: float = Field(0.1, ge=0, description="searched beyond the beams' interval on each side, in v")

    def start(self, rf: StreamInfo) -> StreamInfo:
        """Build the tables for the operator that the stream carries; tracks begin anew."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        self._operator = operator
        names = ("max_paths", "threshold", "expected_paths", "guard")
        parameters = {name: getattr(self, name) for name in names}
        self._tracker = GwTracker(geometry, operator, users=rf.axes["user"], **parameters)
        return describe_estimate(rf, geometry, self.max_paths)

    def process(self, rf: NDArray[Any], slots: range) -> dict[str, NDArray[Any]] | Tagged:
        """Estimate slots in their order."""
        return as_outputs(self._tracker.estimate(rf), self._operator, slots)

    def missed(self, slots: range, reason: str) -> None:
        """Let the tracks grow less certain by slots that did not come."""
        self._tracker.skip(len(slots))

    def snapshot(self) -> list[dict[str, Any]]:
        """Return the tracks of every user."""
        return [tracks.snapshot() for tracks in self._tracker.tracks]

    def restore(self, state: list[Mapping[str, Any]]) -> None:
        """Go on with the tracks of a snapshot."""
        self._tracker.tracks = [Tracks.restore(tracks) for tracks in state]
