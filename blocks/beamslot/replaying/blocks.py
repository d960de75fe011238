"""The blocks that a replay puts into a graph: what stands in, what drops again, what stops again, what compares."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from beamslot.frame import Frame, Gap
from beamslot.recording import open_recording
from beamslot.recording.compare import PortComparison
from beamslot.recording.reel import RecordedReel
from beamslot.runtime import Block, Dropped, In, Out
from beamslot.runtime.block import parameters_of
from beamslot.runtime.slots import SlotSet
from beamslot.sources.replay_source import ReplaySource


def stand_in(name: str, ports: Iterable[str]) -> type[ReplaySource]:
    """Return a source that plays the recorded ports of a block under their own names."""
    played = {port: f"{name}.{port}" for port in ports}

    class StandIn(ReplaySource):
        """What a recording says of a block's outputs."""

        @property
        def tracks(self) -> Mapping[str, str]:
            return played

    StandIn.outputs = {port: Out() for port in played}
    for port, out in StandIn.outputs.items():
        out.name = port
    return StandIn


class Sieve(Block):
    """Drop the slots that a lossy connection dropped when the run was recorded, not those that are late now."""

    stream = In()
    out = Out()

    path: str = Field(description="directory of the recording")
    port: str = Field(description="recorded output behind the connection: what it has gaps of")
    reason: str = Field(description="of these gaps: the policy of the connection")

    def start(self) -> None:
        """Read which slots were dropped."""
        with open_recording(self.path) as recording:
            gaps = [gap for gap in recording[self.port].gaps if gap.reason == self.reason]
        self._dropped = SlotSet([(gap.first, gap.end) for gap in gaps])

    def process(self, stream: Mapping[str, Any], slots: range) -> Any:
        """Pass on what was not dropped."""
        dropped = [slot for slot in slots if self._dropped.covers(slot, slot + 1)]
        return Dropped(stream, dropped, self.reason) if dropped else stream


class RecordedBudget:
    """Says that time is up when it was up when the run was recorded: at the same question."""

    __slots__ = ("_left", "spent")

    def __init__(self, questions: int) -> None:
        self._left, self.spent = questions, False

    def __call__(self) -> bool:
        """Return whether time is up."""
        self._left -= 1
        self.spent = self.spent or self._left <= 0
        return self.spent


class Cut:
    """By slot, at which question a block was told that its time was up."""

    def __init__(self, reel: RecordedReel) -> None:
        self._reel = reel

    def budget(self, slots: range) -> RecordedBudget | None:
        """Return the budget of a call; None where the block had all the time that it wanted."""
        for item in self._reel.take(slots):
            asked = item.tags.get("asked") if isinstance(item, Frame) and item.tags.get("deadline") else None
            if type(asked) is int:
                return RecordedBudget(asked)
        return None


def cut_again(kind: type[Block], path: str, port: str) -> type[Block]:
    """Return a block that iterates as often as it did when the run was recorded, whatever the clock says.

    kind: a block that asks for its budget    port: its recorded output
    """
    wanted = parameters_of(kind.process)

    class CutAgain(kind):
        __doc__ = kind.__doc__

        def start(self, *args: Any, **given: Any) -> Any:
            object.__setattr__(self, "_recorded_cut", Cut(RecordedReel(open_recording(path), port)))
            return super().start(*args, **given)

        def process(self, *_: Any, **given: Any) -> Any:
            budget = self.__dict__["_recorded_cut"].budget(given["slots"])
            return super().process(**{name: given[name] for name in wanted if name != "budget"}, budget=budget)

        setattr(start, "__signature__", inspect.signature(kind.start))  # noqa: B010 (functions have none declared)
        setattr(process, "__signature__", _asking(kind, wanted))  # noqa: B010

    return CutAgain


def _asking(kind: type[Block], wanted: Iterable[str]) -> inspect.Signature:
    """Return the signature of a block's `process` without its budget, and with the slots of the call."""
    self_, *_ = inspect.signature(kind.process).parameters.values()
    names = dict.fromkeys([*(name for name in wanted if name != "budget"), "slots"])
    return inspect.Signature([self_, *(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names)])


class Comparison(Block):
    """Compare ports with what was recorded of them."""

    streams = In(many=True)

    path: str = Field(description="directory of the recording")
    first: int = Field(0, ge=0, description="first recorded slot that is replayed")
    slots: int | None = Field(None, description="slots that are replayed; absent: all")

    def start(self, streams: Mapping[str, Any]) -> None:
        """Open the recording of each port."""
        if not hasattr(self, "_ports"):
            recording = open_recording(self.path)
            self._ports = {
                port: PortComparison(RecordedReel(recording, port, first=self.first, slots=self.slots))
                for port in streams
            }

    def process(self, streams: Any, source: str, message: Any) -> None:
        """Compare a frame or a gap."""
        if isinstance(message, Frame | Gap):
            self._ports[source].take(message)

    def results(self) -> dict[str, Any]:
        """Return what was found, by port."""
        return {port: one.plain() for port, one in getattr(self, "_ports", {}).items()}
