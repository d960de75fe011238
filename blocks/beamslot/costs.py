"""What blocks cost on this machine, as measured by earlier runs, and whether a graph keeps up with a rate.

A run that went well leaves what a slot cost each of its blocks in `costs.json` (`record`). A cost is found again
(`lookup`) on the same machine for the same block with the same parameters behind the same blocks: with those, the
lengths and dtypes of what comes in are the same, and nothing has to be started to know them.
"""

import hashlib
import itertools
import json
import math
import os
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from beamslot.frame import StreamInfo
from beamslot.runtime.graph import Graph, why_single, window_of

MOST = 1000
"""Entries that the table keeps, the newest."""

LEAST_SLOTS = 20
"""Slots below which a mean says more of the first calls than of the others."""

FRAME_SECONDS = 25e-6
"""What a frame of one array costs either end of an edge [s]: 20 to 25 us at 3 KiB (Known limits of blocks/README.md).

That of a process with much to do. One that wakes up for every frame spends more, of time that it has to spare.
"""

ARRAY_SECONDS = 5e-6
"""What each further array of the frame costs beyond that [s]: measured with 8 arrays of 3 KiB, as fast as it goes."""

BYTE_SECONDS = 1 / 2.5e9
"""What each byte of it costs beyond that [s]: it is copied into the socket, and out of it."""

FULL = 0.7
"""Share of a core up to which a process is filled on purpose; what is left takes the slots that cost more."""

CORES = "cores"
"""What limits a graph whose processes would each keep up, had they cores enough."""

MEASURE = "beamslot validate GRAPH --rate --measure"
"""What people type to have the costs of a graph measured."""

NOTHING: Mapping[str, StreamInfo] = MappingProxyType({})


class Cost(BaseModel):
    """What a block costs: the mean of its newest run.

    seconds: per slot [s]    slots: over how many    when: Unix time [s]
    """

    model_config = ConfigDict(frozen=True)

    block: str
    seconds: float = Field(ge=0, allow_inf_nan=False)
    slots: int = Field(ge=1)
    machine: str
    when: float


_TABLE = TypeAdapter(dict[str, Cost])

Costs = Mapping[str, Cost | None]


# the table


def path() -> Path:
    """Return where the table is: `~/.local/state/beamslot/costs.json`, or under XDG_STATE_HOME."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "beamslot" / "costs.json"


def read() -> tuple[dict[str, Cost], list[str]]:
    """Return the table by key, and a note where its file is broken and ignored."""
    try:
        return _TABLE.validate_json(path().read_bytes()), []
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        return {}, [f"{path()}: ignored: {(error.strerror or str(error)).lower()}"]
    except ValidationError:
        return {}, [f"{path()}: ignored: it is no table of costs; the next run that goes well writes it anew"]


def record(graph: Graph, report: Mapping[str, Any]) -> list[str]:
    """Keep what the blocks of a run cost; return a note where that cannot be written.

    report: of a run that went well; of each block `slots`, and `busy_s`, the processor time that all its processes
        spent in `process` [s]: the clock would count how long they wait for a core, too
    """
    table, _ = read()
    found = keys(graph)
    for name, block in report["blocks"].items():
        cost = _measured(graph, name, block)
        if cost is not None:
            table[found[name]] = cost
    newest = sorted(table.items(), key=lambda item: item[1].when)[-MOST:]
    try:
        _write(_TABLE.dump_json(dict(newest), indent=1))
    except OSError as error:
        return [f"{path()}: costs are not kept: {(error.strerror or str(error)).lower()}"]
    return []


def _measured(graph: Graph, name: str, block: Mapping[str, Any]) -> Cost | None:
    """A block with a many port counts every slot once for each stream that comes to it."""
    kind = graph.blocks[name].kind
    pairs = [len(edges) for port, edges in graph.inputs_of(name).items() if kind.inputs[port].many]
    slots = block["slots"] // max(pairs, default=1)
    if slots < LEAST_SLOTS:
        return None
    return Cost(
        block=kind.__name__, seconds=block["busy_s"] / slots, slots=slots, machine=machine(), when=round(time.time(), 3)
    )


def _write(text: bytes) -> None:
    """Put a whole new table in the place of the old one: a reader sees either."""
    path().parent.mkdir(parents=True, exist_ok=True)
    draft = path().with_name(f"costs-{os.getpid()}.tmp")
    draft.write_bytes(text)
    draft.rename(path())


def lookup(graph: Graph, table: Mapping[str, Cost] | None = None) -> dict[str, Cost | None]:
    """Return what is known of each block's cost on this machine, by name; None where it was not measured.

    table: by key, as `read` gives it, which is also where it comes from unless given
    """
    known = read()[0] if table is None else table
    return {name: known.get(key) for name, key in keys(graph).items()}


def keys(graph: Graph) -> dict[str, str]:
    """Return under what the table keeps each block of a graph, by name.

    A digest of the machine, the burst, the block's class and parameters, and those of everything that feeds it. Names
    and replicas are not in it.
    """
    found: dict[str, str] = {}
    for name in graph.order:
        spec = graph.blocks[name]
        kind = spec.kind
        fed = sorted((e.target_port, e.source_port, found[e.source]) for e in graph.edges if e.target == name)
        said = [machine(), graph.burst, kind.__module__, kind.__qualname__, spec.build().model_dump(), fed]
        text = json.dumps(said, sort_keys=True, default=repr)
        found[name] = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return found


@cache
def machine() -> str:
    """Return what tells machines apart whose costs differ: processor and cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{next(model, platform.machine())}, {os.cpu_count()} cores"


# whether a graph keeps up


@dataclass(frozen=True)
class Load:
    """What the blocks of one process need, in cores; replicas share it evenly.

    work: in `process`, as far as measured    frames, nbytes: transport, what it costs by the frame and by the byte
    unmeasured: blocks of which no cost is known
    lossy: whether only lossy edges lead here, so that it drops slots rather than hold others up
    """

    name: str
    blocks: tuple[str, ...]
    replicas: int
    work: float
    frames: float
    nbytes: float
    unmeasured: tuple[str, ...]
    lossy: bool

    @property
    def cores(self) -> float:
        """What all replicas need together to take every slot."""
        return self.work + self.frames + self.nbytes

    @property
    def share(self) -> float:
        """What one process needs of a core to take every slot; it cannot have more than 1."""
        return self.cores / self.replicas

    @property
    def verdict(self) -> str:
        """Whether the process keeps up, in a word or two."""
        if self.share > 1:
            return "drops slots" if self.lossy else "too slow"
        if self.unmeasured:
            return "not measured"
        return "tight" if self.share > FULL else "keeps up"


@dataclass(frozen=True)
class Demand:
    """What a graph needs at a rate, and whether it gets it.

    rate: [slots/s]    cores: those of this machine    needed: cores that all processes need together
    limit: the process that limits the rate, or "cores" where those are too few    highest: the rate that it allows
    unmeasured: blocks that are left out since no cost is known
    """

    rate: float
    cores: int
    needed: float
    limit: str
    highest: float
    loads: tuple[Load, ...]
    unmeasured: tuple[str, ...]

    @property
    def keeps_up(self) -> bool | None:
        """Whether the graph keeps up; None where it may, as far as it was measured."""
        if self.highest < self.rate:
            return False
        return None if self.unmeasured else True

    @property
    def tight(self) -> bool:
        """Whether a process that has to keep up, or all cores together, would be filled beyond FULL."""
        busiest = max(load.share for load in self.loads if not load.lossy)
        return max(busiest, self.needed / self.cores) > FULL


def rate_of(graph: Graph) -> float:
    """Return the rate that a graph asks for [slots/s]; that of real time where it runs as fast as it goes."""
    return (1.0 if math.isinf(graph.pace) else graph.pace) / graph.slot_period


def demand(
    graph: Graph, costs: Costs, rate: float, *, infos: Mapping[str, StreamInfo] = NOTHING, cores: int | None = None
) -> Demand:
    """Return what a graph needs at a rate [slots/s].

    A process needs cost * rate for the work of its blocks. Each edge that enters or leaves it adds FRAME_SECONDS a
    frame; ARRAY_SECONDS and BYTE_SECONDS too, where `infos` says how much there is in it. All of this grows with the
    rate, so the highest rate is that at which the first process needs a whole core, or all together need all cores.

    costs: by block, None where unknown    infos: by stream    cores: those that this process may use, unless given
    """
    cores = cores or len(os.sched_getaffinity(0))
    loads = _loads(graph, costs, rate, infos)
    busiest = max((load for load in loads if not load.lossy), key=lambda load: load.share)
    limit, factor = busiest.name, 1 / busiest.share if busiest.share else math.inf
    if _needed(loads, factor) > cores:
        limit, factor = CORES, _factor(loads, cores)
    unmeasured = tuple(name for load in loads for name in load.unmeasured)
    return Demand(rate, cores, _needed(loads, 1.0), limit, rate * factor, loads, unmeasured)


def _loads(graph: Graph, costs: Costs, rate: float, infos: Mapping[str, StreamInfo]) -> tuple[Load, ...]:
    transport = _transport(graph, infos)
    lossy = _lossy(graph)
    loads: list[Load] = []
    for unit, blocks in graph.units:
        outer = [edge for edge in graph.edges if not graph.is_inner(edge)]
        ends = [transport[edge.name] for edge in outer if edge.source in blocks or edge.target in blocks]
        known = {name: cost for name in blocks if (cost := costs.get(name)) is not None}
        load = Load(
            unit,
            blocks,
            max(1, graph.blocks[blocks[0]].replicas),
            work=rate * sum(cost.seconds for cost in known.values()),
            frames=rate * sum(frame for frame, _ in ends),
            nbytes=rate * sum(nbytes for _, nbytes in ends),
            unmeasured=tuple(name for name in blocks if name not in known),
            lossy=lossy.issuperset(blocks),
        )
        loads.append(load)
    return tuple(loads)


def _transport(graph: Graph, infos: Mapping[str, StreamInfo]) -> dict[str, tuple[float, float]]:
    """Return what a slot costs either end of each edge, by the frame and by the byte [s].

    A frame has as many slots as the hop of the block that made it, else as the shortest that came to that.
    """
    slots: dict[str, int] = {}
    for name in graph.order:
        incoming = (slots[edge.source] for edge in graph.edges if edge.target == name)
        slots[name] = window_of(graph.blocks[name].build())[1] or min(incoming, default=graph.burst)
    found: dict[str, tuple[float, float]] = {}
    for edge in graph.edges:
        info = infos.get(edge.stream)
        arrays, nbytes = (1, 0) if info is None else (len(info.arrays), info.bytes_per_slot)
        frame = FRAME_SECONDS + ARRAY_SECONDS * (arrays - 1)
        found[edge.name] = (frame / slots[edge.source], BYTE_SECONDS * nbytes)
    return found


def _lossy(graph: Graph) -> set[str]:
    """Return the blocks to which every path from a source has a lossy edge."""
    found: set[str] = set()
    for name in graph.order:
        incoming = [edge for edge in graph.edges if edge.target == name]
        if incoming and all(not edge.lossless or edge.source in found for edge in incoming):
            found.add(name)
    return found


def _needed(loads: Iterable[Load], factor: float) -> float:
    """Return the cores that all need at a factor of the rate; what may drop slots fills no more than its own."""
    needs = ((load, factor * load.cores if load.cores else 0.0) for load in loads)
    return sum(min(need, load.replicas) if load.lossy else need for load, need in needs)


def _factor(loads: Iterable[Load], cores: int) -> float:
    """Return the factor of the rate at which all cores are used, by halving."""
    loads = list(loads)
    low, high = 0.0, cores / max(load.share for load in loads if not load.lossy)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _needed(loads, middle) > cores else (middle, high)
    return low


# what would help


def advice(graph: Graph, costs: Costs, found: Demand, *, infos: Mapping[str, StreamInfo] = NOTHING) -> list[str]:
    """Return what would make a graph keep up that does not, or say whether it does; nothing where it is known to.

    found: what `demand` gave for the same graph, costs and infos
    """
    texts: list[str] = []
    slow = [load for load in found.loads if load.verdict == "too slow"]
    for load in slow:
        texts.append(_longer_burst(graph, costs, found, load, infos) or _relief(graph, load))
    if found.needed > found.cores:
        texts.append(f"all together need {found.needed:.3g} cores and have {found.cores}: give it more, or do less")
        texts += _grouping(graph, found, infos)
    if found.unmeasured:
        texts.append(f"not measured: {', '.join(found.unmeasured)}; `{MEASURE}` measures all")
    return texts


def _longer_burst(graph: Graph, costs: Costs, found: Demand, load: Load, infos: Mapping[str, StreamInfo]) -> str:
    """Say which burst would do, for a process that spends more on frames than on work."""
    left = FULL * load.replicas - load.work - load.nbytes
    if load.frames < load.work or left <= 0:
        return ""
    longer = replace(graph, burst=graph.burst * math.ceil(load.frames / left))
    then = demand(longer, costs, found.rate, infos=infos, cores=found.cores)
    if next(one.share for one in then.loads if one.name == load.name) > 1:  # its frames have the length of a hop
        return ""
    return f"{load.name}: spends more on frames than on work; burst: {longer.burst} would do"


def _relief(graph: Graph, load: Load) -> str:
    if len(load.blocks) > 1:
        return f"{load.name}: needs {load.share:.3g} cores; give some of {', '.join(load.blocks)} another process"
    why = why_single(graph, load.name)
    if why:
        return f"{load.name}: needs {load.share:.3g} cores and cannot have replicas: {why}"
    return f"{load.name}: needs {load.cores:.3g} cores; replicas: {_replicas(load.cores)} would do"


def _replicas(cores: float) -> int:
    """Return how many processes have FULL of a core to do each; a hair above a whole number is that number."""
    return math.ceil(cores / FULL - 1e-9)


def _grouping(graph: Graph, found: Demand, infos: Mapping[str, StreamInfo]) -> list[str]:
    """Say which two processes had best be one: the edges between them cost most, and a core holds them both."""
    transport = _transport(graph, infos)
    options: list[tuple[float, str]] = []
    for above, below in itertools.permutations(found.loads, 2):
        between = [edge for edge in graph.edges if edge.source in above.blocks and edge.target in below.blocks]
        saved = 2 * found.rate * sum(sum(transport[edge.name]) for edge in between)
        if between and above.cores + below.cores - saved <= FULL and _may_join(graph, above, below):
            options.append((saved, " and ".join([*above.blocks, *below.blocks])))
    if not options:
        return []
    saved, names = max(options)
    return [f"{names} in one process (process: NAME) would save {saved:.2g} cores of transport"]


def _may_join(graph: Graph, above: Load, below: Load) -> bool:
    """Whether two processes may be one: lossless edges from the one, and from nowhere else, lead to the other.

    Then no path leads from the one to the other through a third, which would be a cycle once they are one.
    """
    blocks = [graph.blocks[name] for name in (*above.blocks, *below.blocks)]
    incoming = [edge for edge in graph.edges if edge.target in below.blocks and edge.source not in below.blocks]
    alike = all(spec.replicas == 1 and spec.restart == blocks[0].restart for spec in blocks)
    known = not above.unmeasured and not below.unmeasured
    return alike and known and all(edge.source in above.blocks and edge.lossless for edge in incoming)


# replicas: auto


def resolve_auto(
    graph: Graph, rate: float | None = None, table: Mapping[str, Cost] | None = None
) -> tuple[Graph, list[str]]:
    """Return the graph with a number of replicas wherever it says auto, and a note for each.

    As many as have FULL of a core to do each at the rate, and no more than there are cores. As fast as it goes: all
    cores but one for the costliest block of the graph, one for any other. One for a block whose cost is not known.

    rate: [slots/s]; that of the graph's pace unless given    table: as `lookup` takes it
    """
    auto = [name for name, spec in graph.blocks.items() if not spec.replicas]
    if not auto:
        return graph, []
    costs = lookup(graph, table)
    rate = graph.pace / graph.slot_period if rate is None else rate
    cores = len(os.sched_getaffinity(0))
    blocks, notes = dict(graph.blocks), list[str]()
    for name in auto:
        replicas, why = _auto(graph, name, costs, rate, cores)
        blocks[name] = replace(blocks[name], replicas=replicas)
        notes.append(f"{name}: replicas: auto is {replicas}: {why}")
    return replace(graph, blocks=blocks), notes


def _auto(graph: Graph, name: str, costs: Costs, rate: float, cores: int) -> tuple[int, str]:
    """Return how many replicas, and why."""
    single, cost = why_single(graph, name), costs[name]
    if single:
        return 1, single
    if cost is None:
        return 1, f"its cost is not known; `{MEASURE}` measures it"
    why = f"a slot takes it {1e3 * cost.seconds:.3g} ms"
    if math.isfinite(rate):
        return min(max(1, _replicas(rate * cost.seconds)), cores), why
    costliest = max(other.seconds for other in costs.values() if other)
    return max(1, cores - 1) if cost.seconds == costliest else 1, why
