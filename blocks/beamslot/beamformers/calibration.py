"""Calibration of RF chains: gain and phase of each, from a file or from a sender in a known direction."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.chain_calibration import DARK, Calibrated, load_calibration, measure, save_calibration
from beamslot.dsp.combine import combine
from beamslot.dsp.geometry import render
from beamslot.errors import BadParam, BeamslotError
from beamslot.frame import Array, StreamInfo
from beamslot.ports import RF_AXES, operator_of
from beamslot.runtime import Block, In, Out


class Calibration(Block):
    """Divide the pilots of every RF chain by what the chain adds to the operator: its gain and phase.

    With `measure` slots the gains come from the first slots of the stream, in which a user sends from `direction`:
    those pass as they are, the others corrected, and `file`, if there is one, is written for later runs. Without, they
    are read from `file` and travel on in the notes of the stream. A factor common to all chains is left in. What
    chains add in gain is taken from their noise too, which then differs a little from chain to chain. A stream that is
    described anew is measured anew.
    """

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    calibrated = Out(RF_AXES, np.complex64, unit="sqrt(W)")
    calibration = Out(
        gain=Array.of("slot y chain", np.float32),
        phase=Array.of("slot y chain", np.float32, "rad"),
        deviation=Array.of("slot y chain", np.float32),
    )

    file: str = Field("", description="file to read gains from or, with `measure`, to write them to")
    measure: int = Field(0, ge=0, description="slots at the beginning to measure from, at least 2; 0: read the file")
    direction: tuple[float, float] = Field((0.0, 0.0), description="u and v of the sender to measure from")
    user: int = Field(0, ge=0, description="which user that sender is")

    def start(self, rf: StreamInfo) -> dict[str, StreamInfo]:
        """Read the gains, or know what the chains should see of the sender."""
        geometry, operator = operator_of(rf, f"{self.run.name}.rf")
        shape = operator.weights.shape[:2]
        self._refuse(rf.axes["user"])
        self._gathered: list[NDArray[Any]] = []
        self._measuring = self.measure > 0
        self._gain, self._deviation = np.ones(shape, np.complex64), np.zeros(shape, np.float32)
        notes: dict[str, Any] = {"measure": self.measure, "direction": list(self.direction)}
        if self.measure:
            unit = render(np.ones(1), np.array(self.direction[:1]), np.array(self.direction[1:]), geometry)
            self._expected = combine(unit, operator.weights)
        else:
            read = self._read(shape)
            self._gain = read.factors.astype(np.complex64)
            notes = read.model_dump(mode="json", exclude={"format", "version"})
        calibrated = rf.replace(notes={**rf.notes, "calibration": notes})
        return {"calibrated": calibrated, "calibration": calibrated}

    def _refuse(self, users: int) -> None:
        where = self.run.name
        if not self.measure and not self.file:
            raise BadParam(f"{where}.file: there is none, and measure is 0; wanted one of the two")
        if self.measure == 1:
            raise BadParam(f"{where}.measure: 1 slot does not tell noise from gains; wanted at least 2")
        if self.user >= users:
            raise BadParam(f"{where}.user: {self.user}; wanted 0 .. {users - 1}")
        if np.hypot(*self.direction) > 1:
            raise BadParam(f"{where}.direction: {self.direction} is no direction; wanted u^2 + v^2 of at most 1")

    def _read(self, shape: tuple[int, ...]) -> Calibrated:
        try:
            read = load_calibration(Path(self.file))
        except BeamslotError as error:  # whatever it is, the graph cannot run as written
            raise BadParam(f"{self.run.name}.file: {error}") from None
        if read.factors.shape != shape:
            raise BadParam(f"{self.run.name}.file: {self.file} has chains {read.factors.shape}; wanted {shape}")
        return read

    def process(self, rf: NDArray[Any]) -> dict[str, Any]:
        """Correct some slots by what is known before each, and measure from those that are to be measured from."""
        parts: list[tuple[NDArray[Any], ...]] = []
        at = 0
        while at < len(rf):
            count = 1 if self._measuring else len(rf) - at
            parts.append(self._corrected(rf[at : at + count]))
            if self._measuring:
                self._gather(rf[at, self.user])
            at += count
        calibrated, *known = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        names = ("gain", "phase", "deviation")
        return {"calibrated": calibrated, "calibration": dict(zip(names, known, strict=True))}

    def _corrected(self, rf: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        known = (np.abs(self._gain), np.angle(self._gain), self._deviation)
        with np.errstate(invalid="ignore", over="ignore"):  # what a fault spoilt stays so
            corrected = rf / self._gain
        return corrected, *(np.broadcast_to(one, (len(rf), *one.shape)) for one in known)

    def _gather(self, pilots: NDArray[Any]) -> None:
        if np.isfinite(pilots).all():
            self._gathered.append(np.array(pilots))
        if len(self._gathered) == self.measure:
            self._measure()
            self._gathered, self._measuring = [], False

    def _measure(self) -> None:
        found = measure(np.stack(self._gathered), self._expected)
        self._gain, self._deviation = found.gain.astype(np.complex64), found.deviation.astype(np.float32)
        if dark := int(np.sum(found.deviation >= DARK)):
            at = f"u = {self.direction[0]:g}, v = {self.direction[1]:g}"
            self.run.tell(
                f"{dark} of {found.gain.size} chains see too little of a sender at {at}; their gains stay one"
            )
        if self.file:
            save_calibration(Path(self.file), Calibrated.of(found.gain, direction=self.direction, slots=self.measure))

    def snapshot(self) -> dict[str, Any]:
        """Return what is known, and what was gathered where it is not yet enough."""
        return {
            "gathered": [*self._gathered],
            "measuring": self._measuring,
            "gain": self._gain,
            "deviation": self._deviation,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `snapshot` gave."""
        self._gathered, self._measuring = [np.array(pilots) for pilots in state["gathered"]], state["measuring"]
        self._gain, self._deviation = np.array(state["gain"]), np.array(state["deviation"])
