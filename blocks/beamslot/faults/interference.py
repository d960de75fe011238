"""Interference that comes in bursts, from a direction or within the hardware."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.impairments import seen_from, white
from beamslot.errors import PortMismatch
from beamslot.faults.fault import Fault
from beamslot.frame import StreamInfo
from beamslot.runtime.block import Live


class Interference(Fault):
    """Add Gaussian interference in bursts: time is cut into pieces of `length` slots, each of which is hit by chance.

    From a direction it is a plane wave with an amplitude of its own in every slot and for every user, whose pilots do
    not take it away; without one it is independent from chain to chain. INR is its mean power in a chain over
    noise_var.
    """

    kind = "interference"

    inr_db: float = Live(
        10.0, ge=-200, le=200, description="interference-to-noise ratio in a chain", json_schema_extra={"unit": "dB"}
    )
    noise_var: float = Live(
        1.0, gt=0, description="noise variance of a chain that it refers to", json_schema_extra={"unit": "W"}
    )
    duty: float = Live(0.1, ge=0, le=1, description="share of the slots that are hit")
    length: int = Field(10, ge=1, description="slots of a burst")
    direction: tuple[float, float] | None = Field(
        None, description="direction coordinates (u, v) of the interferer; none: within the hardware"
    )

    def prepare(self, stream: StreamInfo, shape: tuple[int, ...]) -> None:
        """Work out what the front end sees of the direction.

        raises PortMismatch where the stream does not say by which array
        """
        if self.direction is None:
            self._seen = None
            return
        if stream.geometry is None:
            raise PortMismatch(f"{self.run.name}.stream: the stream carries no array geometry; a direction needs it")
        operator = stream.operator if "chain" in stream.axes else None
        self._seen = seen_from(self.direction, stream.geometry, operator).astype(np.complex64)

    def struck(self, slots: range) -> NDArray[np.bool_]:
        """Slots in a burst."""
        pieces = range(slots.start // self.length, (slots.stop - 1) // self.length + 1)
        hit = np.array([self.rng(piece, 1).random() < self.duty for piece in pieces])
        return super().struck(slots) & hit[np.asarray(slots) // self.length - pieces.start]

    def spoil(self, samples: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[Any]:
        """Add interference to some slots."""
        users = samples.shape[1:2]
        shape = samples.shape[1:] if self._seen is None else (*users, 1, 1)
        drawn = np.stack([white(shape, self.rng(int(slot))) for slot in slots])
        wave = drawn if self._seen is None else drawn * self._seen
        power = self.noise_var * 10 ** (self.inr_db / 10)
        return samples + np.complex64(np.sqrt(power)) * wave
