"""What a watch knows of the live parameters of a run, and of the changes that the run has come to."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beamslot.view.knobs import told
from beamslot.view.wheel import Answer, Wheel

ASK_AGAIN = 5.0
"""A run that did not tell its parameters is asked again after so long [s]."""

MARKS = 40
"""Changes of parameters that are marked in the plot over time, the newest."""


@dataclass(frozen=True)
class Mark:
    """A change of parameters that the run has come to: when [s of the run], and what."""

    serial: int
    seconds: float
    text: str


class Parameters:
    """The live parameters of a run: asked for when it is met, and when a change has been made or has come to hold."""

    def __init__(self, card: Mapping[str, Any], wheel: Wheel) -> None:
        self._card, self._wheel = card, wheel
        self.told: Mapping[str, Mapping[str, Any]] | None = None
        self.pace: float | None = None
        self.marks: deque[Mark] = deque(maxlen=MARKS)
        self._known: tuple[int, int] | None = None
        self._asked: tuple[int, int] | None = None
        self._answer: Answer | None = None
        self._not_before = 0.0

    def follow(self, status: Mapping[str, Any], seconds: float, now: float) -> None:
        """Look at a status of the run, at a time of the run and at one by the clock [s]; never waits."""
        changes = status.get("timeline") or ()
        held = [change for change in changes if change["slot"] <= status["slots"]]
        state = len(changes), len(held)
        if self._known is not None and state[1] > self._known[1]:
            self._mark(held[self._known[1] - state[1] :], seconds)
        self._known = state
        if self._answer is not None and self._answer.done():
            self._take(self._answer, now)
        if self._answer is None and state != self._asked and now >= self._not_before:
            self._asked, self._answer = state, self._wheel.ask(self._card, "get")

    def _take(self, answer: Answer, now: float) -> None:
        self._answer = None
        if answer.exception() is None:
            self.told, self.pace = answer.result()["parameters"], float(answer.result()["pace"])
        else:
            self._asked, self._not_before = None, now + ASK_AGAIN

    def _mark(self, changes: Sequence[Mapping[str, Any]], seconds: float) -> None:
        serial = self.marks[-1].serial + 1 if self.marks else 0
        self.marks.append(Mark(serial, seconds, ", ".join(shortly(change) for change in changes)))


def said_of(change: Mapping[str, Any]) -> str:
    """Return what a change of the timeline sets, in one line."""
    block = change["block"] + "." if change["block"] else ""
    return ", ".join(f"{block}{name} = {told(value)}" for name, value in change["values"].items())


def shortly(change: Mapping[str, Any]) -> str:
    """Return what a change sets in few characters, for where there is little room."""
    return ", ".join(f"{name} {told(value)}" for name, value in change["values"].items())
