"""A simulated uplink at sample rate: what the RF chains of a front end see while users sound the channel."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.iq import Correlator, noise_beside, noise_of_samples
from beamslot.dsp.srs import Sounding
from beamslot.errors import BadParam
from beamslot.frame import Array, StreamInfo
from beamslot.ports import RF_AXES, TRUTH, Sounded, operator_of
from beamslot.runtime import In, Live, Out


class IqSource(Sounded):
    """Make the samples that a front end would have seen in place of the pilots that it is given.

    Every user's pilots stand on its SRS waveform, late by its timing offset and turned by its carrier offset, in white
    noise of the strength that leaves the pilots' own noise after despreading. Of that noise, the part that lies along
    the waveforms is what the pilots carry already: a correlator that knew the offsets would give back these very
    pilots, so a graph may set both ways beside each other, slot by slot. The description of what was sent travels
    with the samples, as notes.
    """

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    truth = In({"antenna_noise_var": TRUTH["antenna_noise_var"]})
    iq = Out("slot y chain sample", np.complex64, unit="sqrt(W)")

    timing_offset: float = Live(0.0, description="how late all users arrive", json_schema_extra={"unit": "s"})
    timing_spread: float = Live(
        0.0, ge=0, description="half width of what is added to it, user by user", json_schema_extra={"unit": "s"}
    )
    frequency_offset: float = Live(0.0, description="of all users' carriers", json_schema_extra={"unit": "Hz"})
    frequency_spread: float = Live(
        0.0, ge=0, description="half width of what is added to it, user by user", json_schema_extra={"unit": "Hz"}
    )

    def start(self, rf: StreamInfo) -> StreamInfo:
        """Make the waveforms of the users, which stay the same over the run."""
        names = Sounding.__dataclass_fields__.keys() & type(self).model_fields.keys()
        self._sent = Sounding(users=rf.axes["user"], **{name: getattr(self, name) for name in names})
        self._correlator = Correlator(self._sent)
        _, operator = operator_of(rf, f"{self.run.name}.rf")
        # How strong the noise of an antenna is at each chain: what is added has the same profile.
        self._noise_gain = np.sum(np.abs(operator.weights) ** 2, axis=-1).astype(np.float32)
        timing, frequency = self._offsets()
        self._waveforms = self._sent.waveforms(timing, frequency).astype(np.complex64)
        self._windows = self._correlator.windowed(self._waveforms)
        notes = {
            "srs": self._sent.as_notes(),
            "offsets": {"timing": timing.tolist(), "frequency": frequency.tolist()},
        }
        return rf.replace(
            arrays={"iq": Array.of("slot y chain sample", np.complex64, "sqrt(W)")},
            axes={**rf.axes, "sample": self._sent.samples},
            notes={**rf.notes, **notes},
        )

    def _offsets(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        sent, where = self._sent, self.run.name
        drawn = self.rng(0, 1).uniform(-1, 1, (2, sent.users))
        timing = self.timing_offset + self.timing_spread * drawn[0]
        frequency = self.frequency_offset + self.frequency_spread * drawn[1]
        problems: list[str] = []
        if (most := float(np.abs(timing).max())) > sent.latest:
            problems.append(
                f"{where}.timing_offset: a user is {most:.3g} s off; wanted at most {sent.latest:.3g} s either way "
                "(half a cyclic prefix, half of the way to the next user's shift)"
            )
        if (most := float(np.abs(frequency).max())) > (widest := self._correlator.widest):
            problems.append(
                f"{where}.frequency_offset: a user is {most:.3g} Hz off; wanted at most {widest:.3g} Hz either way "
                f"(half a turn from one of {sent.symbols} symbols to the next)"
            )
        if problems:
            raise BadParam(*problems)
        return timing, frequency

    def process(self, rf: NDArray[Any], truth: dict[str, NDArray[Any]], slots: range) -> NDArray[np.complex64]:
        """Put the pilots of some slots on the air."""
        made = [
            self._on_the_air(pilots, float(noise_var.mean()), self.rng(slot))
            for pilots, noise_var, slot in zip(rf, truth["antenna_noise_var"], slots, strict=True)
        ]
        return np.stack(made) if len(made) > 1 else made[0][None]

    def _on_the_air(self, pilots: NDArray[Any], noise_var: float, rng: np.random.Generator) -> NDArray[np.complex64]:
        with np.errstate(invalid="ignore", over="ignore"):  # pilots that a fault spoilt spoil their samples
            sent = np.tensordot(pilots, self._waveforms, (0, 0))
        strength = self._correlator.processing_gain * noise_var * self._noise_gain
        noise = noise_of_samples(sent.shape, strength, rng)
        return sent + noise_beside(noise, self._windows)
