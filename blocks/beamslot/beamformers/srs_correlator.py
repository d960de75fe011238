"""From the samples of RF chains to pilots: despread the users' sounding reference signals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.iq import Correlator
from beamslot.dsp.srs import Sounding
from beamslot.errors import BadParam, ShapeError
from beamslot.frame import Array, StreamInfo
from beamslot.ports import RF_AXES, Sounded
from beamslot.runtime import In, Out


class SrsCorrelator(Sounded):
    """Find every user's timing and carrier offset in the samples of a slot, take them out, and give its pilots.

    One pilot a slot, user and chain, y = F_a h + w, as a combiner gives: estimators go on from there. h is the channel
    at the mean tone and in the middle of the occasion. Each slot stands by itself. What was sent is read from the
    notes of the stream where an `iq_source` made it, else from these parameters.
    """

    iq = In("slot y chain sample", np.complex64, unit="sqrt(W)")
    rf = Out(RF_AXES, np.complex64, unit="sqrt(W)")
    sync = Out(
        timing=Array.of("slot user", np.float32, "s"),
        frequency=Array.of("slot user", np.float32, "Hz"),
        noise_var=Array.of("slot user", np.float32, "W"),
    )

    users: int = Field(1, ge=1, description="users on the same tones, apart by their cyclic shifts")

    def start(self, iq: StreamInfo) -> dict[str, StreamInfo]:
        """Make the tables for what was sent."""
        sent = self._sent(iq)
        if iq.axes["sample"] != sent.samples:
            raise ShapeError(
                f"{self.run.name}.iq: comes with sample = {iq.axes['sample']}; wanted sample = {sent.samples}, "
                f"{sent.symbols} symbols of {sent.prefix} + {sent.size}"
            )
        self._correlator = Correlator(sent)
        info = iq.replace(arrays={}, axes={**iq.axes, "user": sent.users})
        return {"rf": info.replace(arrays=type(self).rf.arrays), "sync": info.replace(arrays=type(self).sync.arrays)}

    def _sent(self, iq: StreamInfo) -> Sounding:
        given = {name: getattr(self, name) for name in Sounding.__dataclass_fields__}
        if "srs" not in iq.notes:
            return Sounding(**given)
        said = Sounding.of_notes(iq.notes["srs"])
        differing = [name for name in sorted(self.model_fields_set) if given[name] != getattr(said, name)]
        if differing:
            raise BadParam(
                *(
                    f"{self.run.name}.{name}: {given[name]}; the stream says that {getattr(said, name)} was sent"
                    for name in differing
                )
            )
        return said

    def process(self, iq: NDArray[Any]) -> dict[str, Any]:
        """Despread some slots."""
        found = [self._correlator.despread(slot) for slot in iq]
        with np.errstate(over="ignore"):  # samples beyond single precision are not refused for it
            sync = {
                name: np.array([getattr(one, name) for one in found], np.float32)
                for name in ("timing", "frequency", "noise_var")
            }
        return {"rf": np.stack([one.observation for one in found]), "sync": sync}
