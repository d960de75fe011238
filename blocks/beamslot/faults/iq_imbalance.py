"""Receivers whose I and Q branches differ: every sample comes with its image."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.impairments import with_image
from beamslot.faults.fault import Fault
from beamslot.runtime.block import Live


class IqImbalance(Fault):
    """Mix every sample with its conjugate, as branches of unequal gain that are not in quadrature do; a pilot at the
    carrier, where the image falls on the pilot itself."""

    kind = "iq_imbalance"

    gain_db: float = Live(
        0.5, ge=-60, le=60, description="gain of the Q branch over the I branch", json_schema_extra={"unit": "dB"}
    )
    phase: float = Live(
        0.05,
        ge=-math.pi,
        le=math.pi,
        description="by what the branches miss quadrature",
        json_schema_extra={"unit": "rad"},
    )

    def spoil(self, samples: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[Any]:
        """Add the image."""
        return with_image(samples, self.gain_db, self.phase)
