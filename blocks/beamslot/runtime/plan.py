"""What a block process is told: which blocks it runs, where their sockets are, and from where it goes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from beamslot.runtime.chaos import Strike
from beamslot.runtime.diary import Diary
from beamslot.runtime.graph import Graph
from beamslot.runtime.resume import Going
from beamslot.runtime.timeline import Change


@dataclass(frozen=True)
class Sockets:
    """Names of a run's sockets: short, since a path may have 107 bytes; those of edges are new in every epoch."""

    graph: Graph
    directory: Path

    def edge(self, stream: str, replica: int, epoch: int) -> str:
        """Return the endpoint at which one process of a block sends a stream."""
        return f"ipc://{self.directory}/e{epoch}/{self._number(stream)}.{replica}"

    def tap(self, stream: str, replica: int) -> str:
        """Return the endpoint at which anybody may listen to it."""
        return f"ipc://{self.directory}/{self._number(stream)}.{replica}.tap"

    def _number(self, stream: str) -> int:
        streams = [f"{name}.{port}" for name, spec in self.graph.blocks.items() for port in spec.kind.outputs]
        return streams.index(stream)

    def taps(self) -> dict[str, list[str]]:
        """Return the taps of every stream, one a process."""
        return {
            f"{name}.{port}": [self.tap(f"{name}.{port}", replica) for replica in range(max(1, spec.replicas))]
            for name, spec in self.graph.blocks.items()
            for port in spec.kind.outputs
        }


@dataclass(frozen=True)
class Plan:
    """What one process of a unit is told.

    unit, blocks: which process this is and the blocks that it runs, in topological order    replica: which of several
    token: the run's secret    going, over: where blocks go on, and which have ended for good; empty at the first start
    poison: by block, slots that are not worked on    suspects: by block, slots that ended it once
    epoch: how often the links were made anew    life: how often this process was started
    draining: whether sources are to end    diary: where crashes are written
    timeline: how parameters change, of the graph and as it was agreed since    trace: where calls are written down
    strikes: what is done to the process on purpose
    """

    graph: Graph
    unit: str
    blocks: tuple[str, ...]
    sockets: Sockets
    token: str
    replica: int = 0
    going: Mapping[str, Going] = field(default_factory=dict[str, Going])
    over: frozenset[str] = frozenset()
    poison: Mapping[str, frozenset[int]] = field(default_factory=dict[str, frozenset[int]])
    suspects: Mapping[str, frozenset[int]] = field(default_factory=dict[str, frozenset[int]])
    epoch: int = 0
    life: int = 0
    draining: bool = False
    diary: Diary | None = None
    strikes: tuple[Strike, ...] = ()
    timeline: tuple[Change, ...] = ()
    trace: Path | None = None

    def news(self) -> dict[str, Any]:
        """Return what changes from epoch to epoch as plain values."""
        return {
            "going": {name: [g.place, list(g.out), list(g.needed)] for name, g in self.going.items()},
            "over": sorted(self.over),
            "poison": {name: sorted(slots) for name, slots in self.poison.items()},
            "suspects": {name: sorted(slots) for name, slots in self.suspects.items()},
            "epoch": self.epoch,
            "draining": self.draining,
            "timeline": [change.plain() for change in self.timeline],
        }

    def renewed(self, news: Mapping[str, Any]) -> "Plan":
        """Return the plan with what `news` says."""
        return replace(
            self,
            going={
                name: Going(place, tuple(out), tuple(needed)) for name, (place, out, needed) in news["going"].items()
            },
            over=frozenset(news["over"]),
            poison={name: frozenset(slots) for name, slots in news["poison"].items()},
            suspects={name: frozenset(slots) for name, slots in news["suspects"].items()},
            epoch=news["epoch"],
            draining=news["draining"],
            timeline=tuple(Change.of(plain) for plain in news["timeline"]),
        )
