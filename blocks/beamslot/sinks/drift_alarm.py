"""Say when an estimator no longer explains what it is given, without any truth: an alarm with known false alarms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.drift import ChainChart, DriftChart, chain_threshold_for, threshold_for
from beamslot.dsp.quality import UNKNOWNS, Residuals
from beamslot.frame import Array, StreamInfo
from beamslot.ports import ESTIMATE, RF_AXES, operator_of
from beamslot.runtime import Block, In, Live, Out, Tagged

ALARM: dict[str, Array] = {
    "power": Array.of("slot", np.float32, "W"),
    "level": Array.of("slot", np.float32),
    "alarm": Array.of("slot", np.int8),
}
"""Energy of the residual a dimension; how near an alarm is, 1 where it is raised, negative below the band; 1, 0, -1."""


class DriftAlarm(Block):
    """Chart the residual y - F_a h_hat of an estimator: alarm where its energy leaves a band, or a chain stands out.

    The band is that of the noise where the operator tells its variance; else it is learned as the stream goes on, anew
    where the operator changes. Chains are held against the mean of all. False alarms are `false_alarm_every` slots
    apart on average as far as averages of `average` slots do not depend on each other: residuals of one channel are
    alike, so let `average` be as long as a channel needs to change. Frames are tagged `drift` with the slots in alarm.
    """

    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    estimate = In({name: ESTIMATE[name] for name in ("channel", "mask")})
    alarm = Out(ALARM)

    false_alarm_every: float = Live(
        1e5, ge=10, le=1e9, description="mean time between false alarms", json_schema_extra={"unit": "slots"}
    )
    shift: float = Live(
        1.0, ge=0.1, le=2, description="change of the energy to be found soonest, in deviations of an average"
    )
    average: int = Field(1, ge=1, description="slots that are averaged before they are charted")
    learn: int = Field(30, ge=10, description="averages that are only learned from, where the noise is not known")

    def start(self, rf: StreamInfo, estimate: StreamInfo) -> StreamInfo:
        """Work out the thresholds; begin anew where the operator is another."""
        operator = operator_of(rf, f"{self.run.name}.rf")[1]
        if getattr(self, "_operator", None) != operator:
            self._operator, self._residuals = operator, Residuals(operator.weights)
            self._chart = DriftChart(0.0, 1.0, self.learn, self.average)
            self._chains = ChainChart(operator.weights.shape[:2], 1.0)
            self._state = self._alarms = 0
            self._since: int | None = None
        each = 2 * self.false_alarm_every  # two charts, which share the false alarms
        self._chart.slack = self.shift / 2
        self._chart.threshold = threshold_for(self._chart.slack, max(each / self.average, 2.0))
        self._chains.threshold = chain_threshold_for(self._residuals.entries, each)
        return rf.replace(arrays=ALARM, axes={}, operator=None)

    def process(self, rf: NDArray[Any], estimate: dict[str, NDArray[Any]], slots: range) -> Any:
        """Chart some slots."""
        found = np.zeros((3, len(slots)), np.float32)
        for row, slot in enumerate(slots):
            left = self._residuals.left(rf[row], estimate["channel"][row]).astype(np.complex128)
            power = np.sum(left.real**2 + left.imag**2, 0)
            dimensions = self._residuals.entries - UNKNOWNS / 2 * estimate["mask"][row].sum(-1)
            found[:, row] = self._add(slot, power, float(np.maximum(dimensions, 0).sum()))
        arrays = {"power": found[0], "level": found[1], "alarm": found[2].astype(np.int8)}
        alarmed = [slots[row] for row in np.flatnonzero(arrays["alarm"]).tolist()]
        return Tagged(arrays, {"drift": alarmed}) if alarmed else arrays

    def _add(self, slot: int, power: NDArray[np.float64], dimensions: float) -> tuple[float, float, int]:
        """Chart a slot, and note what becomes of the alarm."""
        total = float(power.sum())
        self._chart.add(total, dimensions, self._operator.noise_var)
        if 0 < total < np.inf:
            self._chains.add(power, self._residuals.entries)
        state = 1 if self._chains.loud.any() else self._chart.alarm
        if state and not self._state:
            self._alarms += 1
            self._since = slot
        self._state = state
        return total / max(dimensions, 1.0), self._level, state

    @property
    def _level(self) -> float:
        return max(self._chart.level, self._chains.level, key=abs)

    def snapshot(self) -> dict[str, Any]:
        """Return the charts, and what was raised."""
        raised = {"state": self._state, "alarms": self._alarms, "since": self._since}
        return {"chart": self._chart.snapshot(), "chains": self._chains.snapshot(), **raised}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the charts."""
        self._chart.restore(state["chart"])
        self._chains.restore(state["chains"])
        self._state, self._alarms, self._since = state["state"], state["alarms"], state["since"]

    def results(self) -> dict[str, Any]:
        """Return how it stands.

        alarm: 1 above the band or with a chain that stands out, -1 below, 0 within
        alarms, since: how many so far, and the slot of the newest    chains: those that stand out, [column, chain]
        level: how near an alarm is, 1 where it is raised, negative below the band
        learning: whether too little is known of the band    slots, and not_finite: those left out, where there are any
        """
        chart = self._chart
        told = {"alarm": self._state, "alarms": self._alarms, "since": self._since, "level": self._level}
        told |= {"chains": np.argwhere(self._chains.loud).tolist(), "learning": chart.learning, "slots": chart.slots}
        return told | ({"not_finite": chart.not_finite} if chart.not_finite else {})
