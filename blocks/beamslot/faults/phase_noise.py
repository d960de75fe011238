"""Local oscillators that are not steady: a random walk of the phase, and a jitter about it."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.impairments import rotated, wiener_std
from beamslot.faults.fault import Fault
from beamslot.frame import StreamInfo
from beamslot.runtime.block import Live

STEPS = 64
"""Steps of the walk that are drawn at once; step s is number s % STEPS of draw s // STEPS."""


class PhaseNoise(Fault):
    """Turn the samples by the phase of a free oscillator, which starts at zero, plus that of one that is locked.

    The walk has the variance 2 pi linewidth t after the time t, the jitter `jitter`^2 in every slot.
    """

    kind = "phase_noise"

    linewidth: float = Live(
        1.0, ge=0, description="full width at half maximum of the oscillator's line", json_schema_extra={"unit": "Hz"}
    )
    jitter: float = Live(
        0.0, ge=0, description="rms phase that is new in every slot", json_schema_extra={"unit": "rad"}
    )
    oscillators: Literal["shared", "chain"] = Field(
        "shared", description="one oscillator for all RF chains, or one a chain"
    )

    def prepare(self, stream: StreamInfo, shape: tuple[int, ...]) -> None:
        """Begin to walk, or go on where a parameter has changed."""
        own = shape if self.oscillators == "chain" else (1,) * len(shape)
        if getattr(self, "_shape", None) != own:
            self._shape = own
            self._begin()

    def _begin(self) -> None:
        self._phase, self._at = np.zeros(self._shape), self.begin

    def spoil(self, samples: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[Any]:
        """Turn some slots."""
        phases = np.stack([self._walk(int(slot)) + self._jitter(int(slot)) for slot in slots])
        return rotated(samples, phases[:, None])

    def _walk(self, slot: int) -> NDArray[np.float64]:
        """Walk on to a slot, through those that were lost too; to one before, from the beginning."""
        if slot < self._at:
            self._begin()
        std = wiener_std(self.linewidth, self.run.slot_period)
        while self._at < slot and std > 0:
            draw, step = divmod(self._at, STEPS)
            self._phase = self._phase + std * self._steps(draw)[step]
            self._at += 1
        self._at = max(self._at, slot)
        return self._phase

    def _steps(self, draw: int) -> NDArray[np.float64]:
        kept = getattr(self, "_drawn", None)
        if kept is None or kept[0] != draw or kept[1].shape[1:] != self._shape:
            kept = self._drawn = draw, self.rng(draw).standard_normal((STEPS, *self._shape))
        return kept[1]

    def _jitter(self, slot: int) -> NDArray[np.float64] | float:
        return self.jitter * self.rng(slot, 1).standard_normal(self._shape) if self.jitter > 0 else 0.0

    def snapshot(self) -> dict[str, Any]:
        """Return how far the walk has come."""
        return {"slot": self._at, "phase": self._phase}

    def restore(self, state: dict[str, Any]) -> None:
        """Walk on from there."""
        self._at, self._phase = state["slot"], np.array(state["phase"])
