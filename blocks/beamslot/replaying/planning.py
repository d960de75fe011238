"""From a recording and a graph to the graph of the replay: what is taken out, what stands in, what can be compared."""

import math
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from beamslot import flowgraph
from beamslot.errors import BadParam, FlowgraphError, StorageError, UnknownBlock
from beamslot.frame import Frame
from beamslot.frame.checks import MAX_COUNT
from beamslot.recording import Recording
from beamslot.recording.reel import span_of
from beamslot.replaying.blocks import Comparison, Sieve, cut_again, stand_in
from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph, check, near
from beamslot.runtime.timeline import DEADLINE, Change


@dataclass(frozen=True)
class Asked:
    """How a recording is to be replayed.

    replace: blocks that it stands for; None: those that are recorded
    first, slots: which slots; slots None: all    loop: begin anew behind the last, slots then counts all rounds
    speed: of the recorded times, inf: as fast as it goes    compare: run the rest again and compare it
    """

    replace: tuple[str, ...] | None = None
    first: int = 0
    slots: int | None = None
    loop: bool = False
    speed: float = 1.0
    compare: bool = False


@dataclass(frozen=True)
class Planned:
    """A replay, ready to be launched.

    replaced: blocks that the recording stands for    removed: blocks that led to these alone
    played: recorded ports that are read
    compared: ports that are compared, by the block `comparison`
    reasons: of recorded ports that cannot be compared, why, by port
    stateful: compared ports that depend on earlier slots    fragile: those to which slots came over a lossy connection
    """

    graph: Graph
    replaced: tuple[str, ...]
    removed: tuple[str, ...]
    played: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()
    comparison: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict[str, str])
    stateful: frozenset[str] = frozenset()
    fragile: frozenset[str] = frozenset()


def recorded_graph(recording: Recording, overrides: Sequence[str] = (), blocks: Sequence[Path | str] = ()) -> Graph:
    """Return the graph that was recorded.

    overrides: changes of it, behind those that it was recorded with    blocks: Python files with blocks of one's own
    raises StorageError where the recording does not say, FlowgraphError
    """
    about = recording.about
    text, before = about.get("flowgraph"), about.get("overrides") or []
    if not isinstance(text, str) or not text.strip():
        raise StorageError(f"{recording.path}: does not say which graph was recorded; name one with --graph")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recorded.yml"
        file.write_text(text, encoding="utf-8")
        try:
            graph = flowgraph.load(file, overrides=[*map(str, before), *overrides], blocks=blocks)
        except FlowgraphError as error:  # the lines are those of the recorded text
            told = str(error).replace(str(file), f"{recording.path}: the recorded graph")
            raise FlowgraphError(*told.splitlines()) from None
    return as_recorded(graph, about)


def as_recorded(graph: Graph, about: Mapping[str, Any]) -> Graph:
    """Return a graph with the seed, slot period and burst that a run had, which its command line may have changed.

    about: facts of the recording
    """
    seed, period, burst = (about.get(name) for name in ("seed", "slot_period", "burst"))
    if isinstance(seed, int) and seed >= 0:
        graph = replace(graph, seed=seed)
    if isinstance(period, int | float) and 0 < period < math.inf:
        graph = replace(graph, slot_period=float(period))
    if isinstance(burst, int) and 1 <= burst <= MAX_COUNT:
        graph = replace(graph, burst=burst)
    return graph


def plan(recording: Recording, graph: Graph, asked: Asked) -> Planned:
    """Return the replay of a recording in a graph.

    raises FlowgraphError where it cannot stand in, saying for which port
    """
    graph = _without_recorders(graph, recording.path)
    replaced = _replaced(recording, graph, asked)
    removed = _only_upstream(graph, replaced)
    gone = {*replaced, *removed}
    end: int | None
    begin, end = span_of(recording, asked.first, asked.slots if not asked.loop else None)
    _check_sources(graph, gone, begin)
    blocks = {name: spec for name, spec in graph.blocks.items() if name not in gone}
    edges = [edge for edge in graph.edges if edge.target not in gone]
    played = {
        name: ports
        for name in replaced
        if (ports := list(dict.fromkeys(edge.source_port for edge in edges if edge.source == name)))
    }
    for name, ports in played.items():
        blocks[name] = _stand_in(graph.blocks[name], recording, ports, asked)
    if asked.loop:
        end = None if asked.slots is None else begin + asked.slots
    timeline = _timeline(recording, graph, gone)
    made = replace(graph, blocks=blocks, edges=tuple(edges), pace=asked.speed, slots=end, timeline=timeline)
    read = tuple(f"{name}.{port}" for name, ports in played.items() for port in ports)
    planned = Planned(made, tuple(replaced), tuple(removed), read)
    if asked.compare:
        planned = _compared(recording, planned, asked, begin)
    check(planned.graph)
    return planned


def _without_recorders(graph: Graph, path: Path) -> Graph:
    """Return a graph without recorders that would write over the recording that is replayed."""
    own = {
        name
        for name, spec in graph.blocks.items()
        if spec.kind.__name__ == "Recorder" and Path(str(spec.parameters.get("path", ""))).resolve() == path.resolve()
    }
    return replace(
        graph,
        blocks={name: spec for name, spec in graph.blocks.items() if name not in own},
        edges=tuple(edge for edge in graph.edges if edge.target not in own),
    )


def _replaced(recording: Recording, graph: Graph, asked: Asked) -> list[str]:
    """Return the blocks that the recording stands for, sources first."""
    if asked.replace is not None:
        _check_asked(recording, graph, asked.replace)
        return [name for name in graph.order if name in asked.replace]
    found = _first_recorded(recording, graph) if asked.compare else _recorded(recording, graph)
    if not found:
        raise FlowgraphError(
            f"{recording.path}: no block of {graph.name} has all its outputs recorded; "
            f"recorded are {', '.join(recording.ports)}"
        )
    return found


def _recorded(recording: Recording, graph: Graph) -> list[str]:
    """Return the blocks that need not be run: of each, what others than they take is recorded."""
    gone: set[str] = set()
    found: set[str] = set()
    for name in reversed(graph.order):
        wanted = [edge.stream for edge in graph.edges if edge.source == name and edge.target not in gone]
        taken = any(edge.source == name for edge in graph.edges)
        if taken and all(stream in recording.ports for stream in wanted):
            gone.add(name)
            found |= {name} if wanted else set()
    return [name for name in graph.order if name in found]


def _first_recorded(recording: Recording, graph: Graph) -> list[str]:
    """Return the blocks all of whose outputs are recorded, and nothing before them."""
    streams = {name: {edge.stream for edge in graph.edges if edge.source == name} for name in graph.order}
    found = [name for name, wanted in streams.items() if wanted and wanted <= recording.ports.keys()]
    behind = _downstream(graph, found)
    return [name for name in found if name not in behind]


def _check_asked(recording: Recording, graph: Graph, names: Sequence[str]) -> None:
    """Check that a recording can stand for some blocks; raises UnknownBlock or BadParam naming what is missing."""
    for name in names:
        if name not in graph.blocks:
            raise UnknownBlock(f"--replace: {graph.name} has no block {name!r}; {near(name, graph.blocks)}")
        taken = [edge for edge in graph.edges if edge.source == name]
        if not taken:
            raise BadParam(f"--replace: {name} has no output that anybody takes; there is nothing to stand in for")
        missing = [edge for edge in taken if edge.target not in names and edge.stream not in recording.ports]
        if missing:
            raise BadParam(
                f"--replace: {missing[0].stream} is not recorded and {missing[0].target}.{missing[0].target_port} needs"
                f" it; recorded are {', '.join(recording.ports)}"
            )


def _downstream(graph: Graph, names: Collection[str]) -> set[str]:
    """Return the blocks that something comes to from these."""
    reached: set[str] = set()
    for name in graph.order:
        if any(edge.source in reached or edge.source in names for edge in graph.edges if edge.target == name):
            reached.add(name)
    return reached


def _only_upstream(graph: Graph, replaced: Collection[str]) -> list[str]:
    """Return the blocks from which everything leads to those that are replaced."""
    gone = {*replaced}
    for name in reversed(graph.order):
        targets = [edge.target for edge in graph.edges if edge.source == name]
        if targets and gone.issuperset(targets):
            gone.add(name)
    return [name for name in graph.order if name in gone and name not in replaced]


def _check_sources(graph: Graph, gone: Collection[str], begin: int) -> None:
    left = [name for name in graph.order if name not in gone and not graph.inputs_of(name)]
    if left and begin:
        raise BadParam(
            f"{left[0]}: begins at slot 0 and the replay at slot {begin}; replay it too, or begin at slot 0 of the run"
        )


def _stand_in(spec: BlockSpec, recording: Recording, ports: Sequence[str], asked: Asked) -> BlockSpec:
    parameters = {
        "path": str(recording.path),
        "first": asked.first,
        "slots": None if asked.loop else asked.slots,
        "loop": asked.loop,
    }
    return replace(
        spec, kind=stand_in(spec.name, ports), parameters=parameters, replicas=1, deadline=None, expressions={}
    )


def _timeline(recording: Recording, graph: Graph, gone: Collection[str]) -> tuple[Change, ...]:
    """Return the changes of parameters of blocks that are run again, those of the graph and those of the run once each.

    The pace is that of the replay.
    raises StorageError where the recording has changes that make no sense
    """
    changes = list(graph.timeline)
    for entry in recording.about.get("timeline") or ():
        try:
            change = Change(int(entry["slot"]), str(entry["block"]), {str(entry["parameter"]): entry["value"]})
        except (KeyError, TypeError, ValueError):
            raise StorageError(f"{recording.path}: {str(entry)[:80]} is no change of a parameter") from None
        if change not in changes:
            changes.append(change)
    return tuple(change for change in changes if change.block in graph.blocks and change.block not in gone)


def _compared(recording: Recording, planned: Planned, asked: Asked, begin: int) -> Planned:
    """Return the replay with a comparison behind each recorded port that is made again."""
    graph, gone = planned.graph, {*planned.replaced, *planned.removed}
    wanted = [
        f"{name}.{port}"
        for name in graph.order
        if name not in gone
        for port in graph.blocks[name].kind.outputs
        if f"{name}.{port}" in recording.ports
    ]
    if not wanted:
        raise BadParam(
            f"{recording.path}: nothing can be compared: of what is run again no output is recorded; recorded are "
            f"{', '.join(recording.ports)}; name what the recording stands for with --replace"
        )
    graph, why = _repeatable(graph, recording, gone, begin)
    reasons = {port: why[name] for port in wanted if (name := port.partition(".")[0]) in why}
    compared = [port for port in wanted if port not in reasons]
    name = _free("comparison", graph.blocks)
    if compared:
        graph = _with_comparison(graph, name, recording, compared, asked)
    kept = [name for name in planned.graph.order if name not in gone]
    stateful = _with_those_behind(graph, [name for name in kept if planned.graph.blocks[name].kind.stateful])
    lossy = _with_those_behind(planned.graph, [e.target for e in planned.graph.edges if not e.lossless])
    fragile = _with_those_behind(planned.graph, [name for name in kept if name in lossy and name in stateful])
    return replace(
        planned,
        graph=graph,
        compared=tuple(compared),
        comparison=name,
        reasons=reasons,
        stateful=frozenset(port for port in compared if port.partition(".")[0] in stateful),
        fragile=frozenset(port for port in compared if port.partition(".")[0] in fragile),
    )


def _with_those_behind(graph: Graph, names: Collection[str]) -> set[str]:
    return {*names, *_downstream(graph, names)}


def _repeatable(graph: Graph, recording: Recording, gone: Collection[str], begin: int) -> tuple[Graph, dict[str, str]]:
    """Return the graph with what the clock had decided decided as recorded, and by block why that cannot be done."""
    why: dict[str, str] = {}
    blocks, edges, timeline = dict(graph.blocks), list(graph.edges), graph.timeline
    for name in graph.order:
        if name in gone:
            continue
        spec = graph.blocks[name]
        lossy = [edge for edge in edges if edge.target == name and not edge.lossless]
        port = next((p for o in spec.kind.outputs if (p := f"{name}.{o}") in recording.ports), "")
        before = [why[edge.source] for edge in graph.edges if edge.target == name and edge.source in why]
        reason = before[0] if before else _by_itself(spec, begin)
        if not reason and (spec.deadline is not None or _gets_deadline(timeline, name)):
            if port and _says_how_often(recording, port):
                blocks[name] = replace(spec, kind=cut_again(spec.kind, str(recording.path), port), deadline=None)
                timeline = _without_deadlines(timeline, name)
            else:
                reason = f"{name} has a deadline, and the recording does not say how often it iterated"
        for edge in lossy if spec.kind.outputs and not reason else ():
            if not port:
                reason = f"{name} is behind a lossy connection, and what it was given is not recorded"
                break
            _sift(blocks, edges, edge, recording, port)
        if reason:
            why[name] = reason
    return replace(graph, blocks=blocks, edges=tuple(edges), timeline=timeline), why


def _gets_deadline(timeline: Sequence[Change], block: str) -> bool:
    return any(change.block == block and DEADLINE in change.values for change in timeline)


def _without_deadlines(timeline: Sequence[Change], block: str) -> tuple[Change, ...]:
    """Return changes without those of the deadline of a block, which goes by what is recorded."""
    kept = ((c, {k: v for k, v in c.values.items() if c.block != block or k != DEADLINE}) for c in timeline)
    return tuple(replace(change, values=values) for change, values in kept if values)


def _by_itself(spec: BlockSpec, begin: int) -> str:
    """Return why a block makes something else each time, or nothing."""
    if begin and spec.kind.stateful and spec.kind.outputs:
        return f"{spec.name} depends on earlier slots, and the replay begins at slot {begin}"
    if spec.kind.live or spec.kind.remote:
        return f"{spec.name} gets its slots from outside, and is not replayed"
    for parameter in ("watch", "publish"):
        if spec.parameters.get(parameter):
            return f"{spec.name} goes by a file that changes meanwhile ({parameter}: {spec.parameters[parameter]})"
    return ""


def _says_how_often(recording: Recording, port: str) -> bool:
    """Whether all frames of a port that were cut short say at which question."""
    frames = (message for message in recording[port].messages() if isinstance(message, Frame))
    return all("asked" in frame.tags for frame in frames if frame.tags.get("deadline"))


def _sift(blocks: dict[str, BlockSpec], edges: list[EdgeSpec], edge: EdgeSpec, recording: Recording, port: str) -> None:
    """Put a sieve into a lossy edge, which then loses what it lost before and nothing else."""
    name = _free(f"sieve_{edge.source}_{edge.target}", blocks)
    parameters = {"path": str(recording.path), "port": port, "reason": edge.policy}
    target = blocks[edge.target]
    blocks[name] = BlockSpec(name, Sieve, parameters, process=target.process, restart=target.restart)
    at = edges.index(edge)
    edges[at : at + 1] = [
        EdgeSpec(edge.source, edge.source_port, name, "stream", place=edge.place),
        EdgeSpec(name, "out", edge.target, edge.target_port, place=edge.place),
    ]


def _with_comparison(graph: Graph, name: str, recording: Recording, ports: Sequence[str], asked: Asked) -> Graph:
    parameters = {"path": str(recording.path), "first": asked.first, "slots": asked.slots}
    edges = [EdgeSpec(block, port, name, "streams") for block, _, port in (one.partition(".") for one in ports)]
    return replace(
        graph,
        blocks={**graph.blocks, name: BlockSpec(name, Comparison, parameters)},
        edges=(*graph.edges, *edges),
    )


def _free(name: str, taken: Collection[str]) -> str:
    return name if name not in taken else _free(f"{name}_", taken)


def speed_of(text: str) -> float:
    """Return a speed: max and 0 are as fast as it goes; raises ValueError."""
    value = math.inf if text == "max" else float(text)
    if not value >= 0:
        raise ValueError(text)
    return value or math.inf
