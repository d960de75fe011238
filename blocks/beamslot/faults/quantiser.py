"""The converters of the RF chains: so many bits, and a full scale."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.impairments import quantise, rms
from beamslot.faults.fault import Fault
from beamslot.runtime.block import Live


class Quantiser(Fault):
    """Quantise I and Q to some bits, full scale set by a gain control that all chains share, or fixed."""

    kind = "quantiser"

    bits: int = Live(8, ge=1, le=24, description="resolution of a real dimension", json_schema_extra={"unit": "bit"})
    backoff_db: float = Live(
        12.0,
        ge=-60,
        le=120,
        description="full scale over the rms of a real dimension of the slot, where the gain is controlled",
        json_schema_extra={"unit": "dB"},
    )
    full_scale: float = Live(
        0.0,
        ge=0,
        description="full scale of a real dimension; 0: set from slot to slot by the gain control",
        json_schema_extra={"unit": "sqrt(W)"},
    )

    def spoil(self, samples: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[Any]:
        """Quantise some slots."""
        if self.full_scale > 0:
            return quantise(samples, self.bits, self.full_scale)
        scale = rms(samples) * 10 ** (self.backoff_db / 20)
        return quantise(samples, self.bits, scale.reshape(-1, *[1] * (samples.ndim - 1)))
