"""A reference clock that is not as fast as it should be: its carrier runs away."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.impairments import clock_phase, rotated
from beamslot.errors import PortMismatch
from beamslot.faults.fault import Fault
from beamslot.frame import StreamInfo
from beamslot.runtime.block import Live


class ClockDrift(Fault):
    """Turn the samples by what the carrier has run ahead since `begin`, 2 pi f_c (ppm t + ppm_per_s t^2 / 2) 1e-6."""

    kind = "clock_drift"

    ppm: float = Live(0.01, description="frequency error of the reference", json_schema_extra={"unit": "1e-6"})
    ppm_per_s: float = Live(0.0, description="its change with time", json_schema_extra={"unit": "1e-6/s"})

    def prepare(self, stream: StreamInfo, shape: tuple[int, ...]) -> None:
        """Take the carrier from the stream.

        raises PortMismatch where it does not say
        """
        if stream.carrier <= 0:
            raise PortMismatch(f"{self.run.name}.stream: the stream carries no carrier frequency; a clock drifts by it")
        self._carrier = stream.carrier

    def spoil(self, samples: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[Any]:
        """Turn some slots."""
        seconds = (slots - self.begin) * self.run.slot_period
        phase = clock_phase(seconds, self._carrier, self.ppm, self.ppm_per_s)
        return rotated(samples, phase.reshape(-1, *[1] * (samples.ndim - 1)))
