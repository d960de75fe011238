"""Blind calibration of a line array: phase errors of its antennas, learned from the stream itself."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.calibration import PhaseCalibrator
from beamslot.errors import PortMismatch
from beamslot.frame import Array, StreamInfo
from beamslot.ports import FIELD_AXES, line_of
from beamslot.runtime import Block, In, Out


class PhaseCalibratorBlock(Block):
    """Learn the phase error of every antenna from frames that nobody has labelled, and take it out of the field.

    The array response is known but for these phases, so what no angles and gains explain is theirs. A common phase and
    one that grows along the line cannot be told from the users' and are left. `calibration` is what was known before
    the frame.
    """

    field = In(FIELD_AXES, np.complex64, unit="sqrt(W)", window="snapshots")
    calibrated = Out(FIELD_AXES, np.complex64, unit="sqrt(W)")
    calibration = Out(
        phase=Array.of("slot y", np.float32, "rad"),
        deviation=Array.of("slot y", np.float32, "rad"),
    )

    snapshots: int = Field(40, ge=1, description="slots of a frame, which share their angles")
    users: int = Field(0, ge=0, description="users in a frame; 0 counts them")
    steps: int = Field(4, ge=1, description="Gauss-Newton steps of the angles of a frame")
    memory: int = Field(0, ge=0, description="frames after which what was seen counts half; 0: phases do not drift")

    def start(self, field: StreamInfo) -> dict[str, StreamInfo]:
        """Begin with phases of zero."""
        geometry = line_of(field, f"{self.run.name}.field")
        if field.axes["user"] != 1:
            raise PortMismatch(f"{self.run.name}.field: comes with user = {field.axes['user']}; wanted user = 1")
        options = {name: getattr(self, name) for name in ("users", "steps", "memory")}
        self._calibrator = PhaseCalibrator(geometry.n_y, geometry.spacing_y, **options)
        return {"calibrated": field, "calibration": field}

    def process(self, field: NDArray[Any]) -> dict[str, Any]:
        """Correct a frame by what is known, then learn from it."""
        frame, known = field[:, 0, :, 0], self._calibrator
        shape = (len(frame), len(known.phase))
        calibration = {
            "phase": np.broadcast_to(known.phase, shape).astype(np.float32),
            "deviation": np.broadcast_to(known.deviation, shape).astype(np.float32),
        }
        calibrated = known.corrected(frame)[:, None, :, None]
        known.add(frame)
        return {"calibrated": calibrated, "calibration": calibration}

    def snapshot(self) -> dict[str, Any]:
        """Return what was learned."""
        return self._calibrator.snapshot()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what was learned."""
        self._calibrator.restore(state)
