"""RF chains that are dead: nothing comes from them, or their own noise alone."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.impairments import white
from beamslot.errors import BadParam
from beamslot.faults.fault import Fault
from beamslot.frame import StreamInfo
from beamslot.runtime.block import Live


class DeadChain(Fault):
    """Silence some RF chains: those named, and a share that is drawn once; a larger share includes a smaller."""

    kind = "dead_chain"

    chains: list[int] = Field(
        [], description="chains that are dead, numbered through the columns: column times chains a column, plus chain"
    )
    share: float = Live(0.0, ge=0, le=1, description="share of further chains that are, drawn by the seed")
    noise_var: float = Live(
        0.0, ge=0, description="variance of what still comes from them", json_schema_extra={"unit": "W"}
    )

    def prepare(self, stream: StreamInfo, shape: tuple[int, ...]) -> None:
        """Draw which chains die first."""
        known = math.prod(shape)
        unknown = [chain for chain in self.chains if not 0 <= chain < known]
        if unknown:
            raise BadParam(f"{self.run.name}.chains: there is no chain {unknown[0]}; wanted 0 to {known - 1}")
        self._named = np.isin(np.arange(known), self.chains).reshape(shape)
        self._order = self.rng(0, 1).random(shape)

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Which chains are dead, (y, chain) bool."""
        return self._named | (self._order < self.share)

    def struck(self, slots: range) -> NDArray[np.bool_]:
        """All slots, where any chain is dead."""
        return super().struck(slots) & self.dead.any()

    def spoil(self, samples: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[Any]:
        """Put nothing, or noise, in the place of what came."""
        if self.noise_var == 0:
            return np.where(self.dead, 0, samples)
        noise = np.stack([white(samples.shape[1:], self.rng(int(slot))) for slot in slots])
        return np.where(self.dead, math.sqrt(self.noise_var) * noise, samples)
