"""Look into a graph that runs: `with beamslot.attach("demo") as run: for frame in run.tap("omp.estimate"): ...`.

Taps are lossy and honest about it: whatever is slower than the stream misses slots, and is told which.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from beamslot.errors import BadParam, UnknownPort
from beamslot.runtime import observe, rundir, steering
from beamslot.runtime.graph import near

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from beamslot.frame import StreamInfo

SILENCE = 5.0
"""A run that says nothing for so long is taken for gone [s]."""


@dataclass(frozen=True)
class Tapped:
    """A frame of a tapped port: its slots, its arrays by name, and what the stream says they are.

    missed: slots that passed between the frame before and this one, unseen or as gaps
    captured, sent: when the slots were due, and when the frame left the block, by the monotonic clock [s]
    """

    slots: range
    arrays: "Mapping[str, NDArray[Any]]"
    info: "StreamInfo"
    tags: Mapping[str, Any]
    missed: int = 0
    gaps: Mapping[str, int] = field(default_factory=dict[str, int])
    captured: float = 0.0
    sent: float = 0.0

    def __getitem__(self, name: str) -> "NDArray[Any]":
        if name not in self.arrays:
            raise UnknownPort(f"the stream has no array {name!r}; {near(name, [*self.arrays])}")
        return self.arrays[name]

    def axes(self, name: str) -> tuple[str, ...]:
        """Return the names of the axes of an array."""
        return self.info.arrays[name].axes


class AttachedRun:
    """A graph that runs elsewhere, seen from outside; nothing that is done here holds it up."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        self.card = card
        self.name: str = card["name"]
        self.ports: list[str] = [*card["ports"]]

    def __enter__(self) -> "AttachedRun":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __repr__(self) -> str:
        return f"AttachedRun({self.name!r}, pid {self.card['pid']}, ports {', '.join(self.ports)})"

    @property
    def status(self) -> dict[str, Any]:
        """How the run stands: the keys of a report, and state, notes, processes; empty when it is over."""
        seen = observe.look(self.card)
        return dict(seen.status) if seen else {}

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Ask the run for something: "get", "set", "pause", "resume", "restart", "stop"; return its answer.

        raises PeerLost where it does not answer; what it refuses as BadParam or UnknownBlock
        """
        return steering.ask(self.card, {"do": do, **fields})

    def parameters(self) -> dict[str, Any]:
        """Return what may change while it runs: parameters by block, each with value, unit, limits and meaning.

        returns slot, pace, parameters, timeline: the changes so far
        """
        return self.ask("get")

    def change(self, block: str, values: Mapping[str, Any], at: int | None = None) -> int:
        """Change parameters of a block and return the slot from which on they hold.

        block: its name; empty for `pace`, which is of the run    at: not before this slot
        raises BadParam with the reason where a value cannot be; then nothing is changed
        """
        return self.ask("set", block=block, values=dict(values), at=at)["slot"]

    def set(self, path: str, value: Any, at: int | None = None) -> int:
        """Change one parameter, "block.key" or "pace", and return the slot from which on it holds."""
        block, dot, key = path.partition(".")
        return self.change(block if dot else "", {key if dot else block: value}, at)

    def pause(self) -> None:
        """Let the sources make no more slots."""
        self.ask("pause")

    def resume(self) -> None:
        """Let them go on."""
        self.ask("resume")

    def restart(self, block: str) -> None:
        """Start the process of a block again; no slot is lost."""
        self.ask("restart", block=block)

    def stop(self, now: bool = False) -> None:
        """End the run when what is under way is done, or at once."""
        self.ask("stop", now=now)

    def tap(self, port: str, *, silence: float = SILENCE) -> Iterator[Tapped]:
        """Yield the frames of an output port from now on, those that this reader keeps up with, until the stream ends.

        port: "block.port"    silence: how long the run may say nothing [s]
        raises UnknownPort with the nearest name; PeerLost when the run says nothing for longer
        """
        return frames(self.endpoints(port), port, silence)

    def endpoints(self, port: str) -> list[str]:
        """Return where a port is heard, one endpoint a replica; raises UnknownPort with the nearest name."""
        if port not in self.ports:
            raise UnknownPort(f"{self.name} has no output {port!r}; {near(port, self.ports)}")
        return self.card["ports"][port]


def attach(run: str = "") -> AttachedRun:
    """Return a running graph, to tap its ports and to see how it stands.

    run: its name or pid; the newest run where it is empty
    raises PeerLost where there is none, saying which there are
    """
    return AttachedRun(observe.find(str(run), "attach"))


def parse(wanted: str, verb: str, runs: Sequence[Mapping[str, Any]] | None = None) -> tuple[AttachedRun, str]:
    """Return the run and the port that "[RUN:]BLOCK.PORT" names; the newest run that has it.

    raises PeerLost where no such run is, UnknownPort where it has no such port
    """
    runs = rundir.runs() if runs is None else runs
    name, _, port = wanted.rpartition(":")
    newest = observe.find(name, verb, runs)
    having = [run for run in observe.called(runs, name) if port in run["ports"]]
    if not having:
        advice = near(port, [*newest["ports"]])
        raise UnknownPort(
            f"{verb}: {newest['name']} has no output {port!r} ({verb} shows outputs, no inputs); {advice}"
        )
    return AttachedRun(having[-1]), port


def frames(endpoints: Sequence[str], port: str, silence: float = SILENCE) -> Iterator[Tapped]:
    """Yield the frames heard at the tap of a port until the stream ends; raises PeerLost after silence [s]."""
    from beamslot.frame import Describe, Eos, Frame, Gap
    from beamslot.runtime.taps import listen

    info: StreamInfo | None = None
    gaps: dict[str, int] = {}
    expected: int | None = None
    for message in listen(endpoints, port, silence):
        if isinstance(message, Describe):
            info = message.info
        elif isinstance(message, Gap):
            gaps[message.reason] = gaps.get(message.reason, 0) + message.count
        elif isinstance(message, Frame) and info is not None:
            slots = range(message.first, message.end)
            # Frames of replicas come out of order here: what is early was not missed.
            missed = max(message.first - expected, 0) if expected is not None else 0
            expected = max(expected or 0, message.end)
            times = message.captured * 1e-9, message.sent * 1e-9
            yield Tapped(slots, message.arrays, info, message.tags, missed, gaps, *times)
            gaps = {}
        elif isinstance(message, Eos):
            return


class Meter:
    """How fast and how evenly frames come, over the frames since it was last read."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._last: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._frames = self._slots = self._missed = 0
        self._gaps: dict[str, int] = {}
        self._between: list[float] = []
        self._age: list[float] = []
        self._sizes = 0

    def add(self, frame: Tapped, now: float) -> None:
        """Count a frame that came at a time, by the monotonic clock [s]."""
        self._frames += 1
        self._slots += len(frame.slots)
        self._missed += max(frame.missed - sum(frame.gaps.values()), 0)
        for reason, count in frame.gaps.items():
            self._gaps[reason] = self._gaps.get(reason, 0) + count
        if self._last is not None:
            self._between.append(now - self._last)
        self._last = now
        self._age.append(now - frame.captured)
        self._sizes += sum(array.nbytes for array in frame.arrays.values())

    def read(self, now: float) -> dict[str, Any]:
        """Return what was counted since the last reading, and begin anew.

        returns slots_per_s, frames_per_s, mib_per_s    between_p50_ms, between_p99_ms: from frame to frame
            jitter_ms: standard deviation of that    age_p50_ms, age_p99_ms: from the capture of the slots until here
            missed: slots that passed unseen    gaps: slots that did not come, by reason
            what nothing was counted for is None
        """
        import numpy as np

        seconds = max(now - self._begun, 1e-9)

        def share(values: Sequence[float], percent: float) -> float | None:
            return float(np.percentile(values, percent)) * 1e3 if values else None

        said = {
            "slots_per_s": self._slots / seconds,
            "frames_per_s": self._frames / seconds,
            "mib_per_s": self._sizes / seconds / 2**20,
            "between_p50_ms": share(self._between, 50),
            "between_p99_ms": share(self._between, 99),
            "jitter_ms": float(np.std(self._between)) * 1e3 if self._between else None,
            "age_p50_ms": share(self._age, 50),
            "age_p99_ms": share(self._age, 99),
            "missed": self._missed,
            "gaps": self._gaps,
        }
        self._begun = now
        self._clear()
        return said


def collect(frames: Sequence[Tapped]) -> "dict[str, NDArray[Any]]":
    """Return frames as whole arrays along their slots, with `slots` beside, in the order of the slots.

    raises BadParam where there are none, or the stream was described anew between them with other lengths
    """
    import numpy as np

    if not frames:
        raise BadParam("tap: no frame came; wanted at least one")
    order = sorted(frames, key=lambda frame: frame.slots.start)
    shapes = {name: {frame.arrays[name].shape[1:] for frame in order} for name in order[0].arrays}
    changed = [name for name, found in shapes.items() if len(found) > 1]
    if changed:
        raise BadParam(f"tap: {', '.join(changed)} changed shape while it was tapped; wanted one description")
    arrays = {name: np.concatenate([frame.arrays[name] for frame in order]) for name in order[0].arrays}
    return {"slots": np.concatenate([np.arange(f.slots.start, f.slots.stop) for f in order]), **arrays}
