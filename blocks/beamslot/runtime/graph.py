"""A graph ready to be run: its blocks, its edges, and the checks that need no run."""

import difflib
import itertools
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from beamslot.errors import BadParam, FlowgraphError, PortMismatch, UnknownBlock, UnknownPort
from beamslot.frame import Array, StreamInfo
from beamslot.frame.checks import MAX_COUNT, MAX_SLOT
from beamslot.runtime.block import Block, In, Out, RunContext, parameters_of
from beamslot.runtime.budget import deadline_misfit
from beamslot.runtime.timeline import Change

DEFAULT_WINDOW = 256
"""Slots that may be unacknowledged on an edge, unless the graph needs or the flowgraph says otherwise."""

DEFAULT_BYTES = 64 * 1024 * 1024
"""Bytes that may be unacknowledged on an edge beyond the window that the graph needs."""

MAX_REPLICAS = 64

Policy = Literal["block", "drop_oldest", "drop_newest", "latest"]

OWN = ("value_error", "assertion_error")
"""Complaints of pydantic that are a block's own words."""

COMPARED = {
    "greater_than_equal": ("ge", ">="),
    "greater_than": ("gt", ">"),
    "less_than_equal": ("le", "<="),
    "less_than": ("lt", "<"),
}
COUNTED = {
    "too_short": "at least {min_length} values",
    "too_long": "at most {max_length} values",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "a text like {pattern}",
    "literal_error": "{expected}",
}
NOUNS = {
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "string_type": "a text",
    "dict_type": "a mapping",
    "model_": "a mapping",
    "dataclass_type": "a mapping",
}
"""What complaints of pydantic want, by how their types begin."""

ITEMS = {int: "whole numbers", float: "numbers", str: "texts", bool: "truth values"}


@dataclass(frozen=True)
class Unreadable:
    """Stands for a value that was written but could not be read; says why, or nothing where that is said elsewhere."""

    problem: str = ""


@dataclass(frozen=True)
class Written:
    """Values as they were written for what a class declares, and where they were written ("demo.yml:12").

    places: where single values were written    expressions: what those were written as that had to be worked out;
        both by path, "levels" or "levels.2"
    """

    name: str
    kind: type[BaseModel]
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    place: str = ""
    places: Mapping[str, str] = field(default_factory=dict[str, str])
    expressions: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Restart:
    """What becomes of a block whose process ends before its work does.

    policy: never: the run ends with it; on_failure: it is started again, and the graph goes on where it was
    retries: restarts in a row without one more slot finished, after which the run ends all the same
    backoff, backoff_max: wait before the second restart in a row, doubled for each further one, and the longest [s]
    hang_timeout: how long a call may last before its process is killed [s]; None: as long as it likes
    on_poison: what becomes of a slot that has ended its block twice: stop ends the run, drop makes it a gap
    """

    policy: Literal["never", "on_failure"] = "never"
    retries: int = 5
    backoff: float = 0.1
    backoff_max: float = 5.0
    hang_timeout: float | None = None
    on_poison: Literal["stop", "drop"] = "stop"


@dataclass(frozen=True)
class BlockSpec(Written):
    """One block of a graph: its name, class and parameters, where they were written, and how it is run.

    process: blocks of one process name share a process; empty: one of its own
    replicas: processes that share the work; 0 (`auto`): as many as the slot period wants, settled before launch, and
        one until then
    restart: what happens when its process ends
    deadline: what slots may take from their capture to the end of the call [s]; None: as long as it likes
    """

    kind: type[Block]
    process: str = ""
    replicas: int = 1
    restart: Restart = Restart()
    deadline: float | None = None

    @property
    def asked(self) -> tuple[str, ...]:
        """What its `process` asks for."""
        return parameters_of(self.kind.process)

    @property
    def unit(self) -> str:
        """The process that runs it: the one that it shares, or one of its own name."""
        return self.process or self.name

    def build(self, context: RunContext | None = None) -> Block:
        """Return the block, constructed and told of its run.

        raises BadParam naming place, block.parameter, what came and what was wanted, for all parameters at once
        """
        try:
            block = self.kind(**self.parameters)
        except ValidationError as error:
            raise FlowgraphError(*bad_parameters(self, error)) from None
        except TypeError as error:
            # What pydantic makes of a bound that stands outside of a union, for a value that has no order.
            raise FlowgraphError(BadParam(f"{_at(self.place)}{self.name}: {_lower(str(error))}")) from None
        block.join_run(context or RunContext(self.name))
        return block


@dataclass(frozen=True)
class LinkFault:
    """What a link does to the messages of a producer, below the edge, which heals it.

    delay, jitter: of every message, and up to which more, without overtaking [s]
    reorder, duplicate, corrupt: probability that a message comes behind the next, twice, or with a bit flipped
    cut: probability that the connection breaks at it, and all is lost that is under way
    """

    delay: float = 0.0
    jitter: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    cut: float = 0.0


@dataclass(frozen=True)
class EdgeSpec:
    """One edge: output port to input port, how it queues, and where it was written.

    policy: what happens when the window is full: block waits; drop_oldest, drop_newest and latest (keep one) lose
        slots, each a gap that says so
    window: slots that may be unacknowledged (of a lossy edge: queued)    nbytes: the same in bytes
    buffer: least window, in time: for the lossless partner of a lossy branch [s]
    fault: what its link does on purpose, None where it is sound
    """

    source: str
    source_port: str
    target: str
    target_port: str
    policy: Policy = "block"
    window: int | None = None
    place: str = ""
    nbytes: int | None = None
    buffer: float | None = None
    fault: LinkFault | None = None

    @property
    def lossless(self) -> bool:
        """Whether every slot that is offered must arrive."""
        return self.policy == "block"

    @property
    def stream(self) -> str:
        """The stream that flows here, "block.port"."""
        return f"{self.source}.{self.source_port}"

    @property
    def name(self) -> str:
        """The edge as people write it, "block.port > block.port"."""
        return f"{self.stream} > {self.target}.{self.target_port}"


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph and how it is run.

    slots: how many slots the sources make, None for endless
    slot_period: [s]    pace: slots per slot period: 1 for real time, inf for as fast as it goes
    burst: slots per frame of a source    seed: the run's seed
    timeline: parameters that change while it runs, from which slot on
    """

    name: str
    blocks: Mapping[str, BlockSpec]
    edges: tuple[EdgeSpec, ...]
    title: str = ""
    slots: int | None = None
    slot_period: float = 1e-3
    pace: float = math.inf
    burst: int = 1
    seed: int = 0
    timeline: tuple[Change, ...] = ()

    def inputs_of(self, name: str) -> dict[str, list[EdgeSpec]]:
        """Return the edges that end at a block, by input port, in the order written."""
        ports: dict[str, list[EdgeSpec]] = {}
        for edge in self.edges:
            if edge.target == name:
                ports.setdefault(edge.target_port, []).append(edge)
        return ports

    def outputs_of(self, name: str) -> dict[str, list[EdgeSpec]]:
        """Return the edges that begin at a block, by output port; every output port is listed."""
        ports: dict[str, list[EdgeSpec]] = {port: [] for port in self.blocks[name].kind.outputs}
        for edge in self.edges:
            if edge.source == name:
                ports.setdefault(edge.source_port, []).append(edge)
        return ports

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Block names, sources first."""
        return _in_order(self.blocks, ((edge.source, edge.target) for edge in self.edges))

    @cached_property
    def units(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The processes, sources first: the name of each, and its blocks in the order of the flow.

        A process is named in the flowgraph or after its one block, and is started once for every replica of that.
        """
        outer = [edge for edge in self.edges if not self.is_inner(edge)]
        pairs = ((self.blocks[edge.source].unit, self.blocks[edge.target].unit) for edge in outer)
        blocks: dict[str, list[str]] = {
            name: [] for name in _in_order((spec.unit for spec in self.blocks.values()), pairs)
        }
        for name in self.order:
            blocks[self.blocks[name].unit].append(name)
        return tuple((name, tuple(inside)) for name, inside in blocks.items())

    def is_inner(self, edge: EdgeSpec) -> bool:
        """Return whether an edge stays within one process, so that it has no queue."""
        return self.blocks[edge.source].unit == self.blocks[edge.target].unit

    @cached_property
    def windows(self) -> dict[str, int]:
        """Slots that may be unacknowledged, of lossy edges queued, by edge name."""
        least, frames = minimum_window(self), frame_slots(self)
        return {edge.name: self._window(edge, least, frames[edge.source]) for edge in self.edges}

    def _window(self, edge: EdgeSpec, least: int, frame: int) -> int:
        if edge.policy == "latest":
            return frame
        window = edge.window or max(least if edge.lossless else frame, DEFAULT_WINDOW * self.burst)
        return max(window, math.ceil((edge.buffer or 0) / self.slot_period))


def _in_order(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return names, each after those that lead to it.

    pairs: what leads to what
    raises CycleError where something leads to itself
    """
    before: dict[str, set[str]] = {name: set() for name in names}
    for source, target in pairs:
        before[target].add(source)
    return tuple(TopologicalSorter(before).static_order())


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the name that was probably meant, None where none is close."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, 0.6)), None)


def near(name: str, known: Iterable[str]) -> str:
    """Return advice for a name that is not known: the nearest one, or the whole list."""
    options = list(known)
    close = nearest(name, options)
    if close is not None:
        return f"did you mean {close!r}?"
    return f"there is {', '.join(options)}" if options else "there is none"


def bad_parameters(spec: Written, error: ValidationError) -> list[BadParam]:
    """Return one problem a wrong parameter, in the words of the declaration."""
    said: dict[tuple[int | str, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        said.setdefault(_path(spec.parameters, detail), []).append(detail)
    # A field of several types complains once a type; the complaint that goes deepest into what was given says it best.
    deepest = [path for path in said if not any(path == other[: len(path)] != other for other in said)]
    misspelt = [str(path[0]) for path in deepest if len(path) == 1 and said[path][0]["type"] == "extra_forbidden"]
    meant = [(nearest(name, spec.kind.model_fields),) for name in misspelt]
    texts = [
        (path, _complaint(spec, path, said[path]))
        for path in deepest
        if not (path in meant and said[path][0]["type"] == "missing")
    ]
    return [BadParam(f"{_where(spec, path)}: {text}") for path, text in texts if text]


def _path(given: Any, detail: ErrorDetails) -> tuple[int | str, ...]:
    """Return where in the given values a complaint points, without the names of types that pydantic puts between."""
    path: list[int | str] = []
    for part in detail["loc"]:
        try:
            given = given[part]
        except (LookupError, TypeError):
            continue
        path.append(part)
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else tuple(path)


def _where(spec: Written, path: tuple[int | str, ...]) -> str:
    name = ".".join(str(part) for part in path)
    above = (".".join(str(part) for part in path[:length]) for length in range(len(path), 0, -1))
    place = next((spec.places[at] for at in above if at in spec.places), spec.place)
    full = f"{spec.name}{name and '.'}{name}"
    return full if place == full else f"{_at(place)}{full}"


def _complaint(spec: Written, path: tuple[int | str, ...], details: list[ErrorDetails]) -> str:
    first, came = details[0], details[0]["input"]
    if isinstance(came, Unreadable):
        return came.problem
    if first["type"] == "missing":
        return "is not given and has no default"
    if first["type"] == "extra_forbidden":
        advice = f"; {near(str(path[0]), spec.kind.model_fields)}" if len(path) == 1 else ""
        return f"{spec.kind.__name__} has no parameter {path[-1]!r}{advice}"
    form = spec.kind.model_fields[str(path[0])].annotation if len(path) == 1 else None
    wanted = " or ".join(dict.fromkeys(_wanted(detail, form) for detail in details))
    if not path:
        return wanted
    expression = spec.expressions.get(".".join(str(part) for part in path))
    own = ":" if any(detail["type"] in OWN for detail in details) else ""
    return f"got {shown(came)}{f' from {expression!r}' if expression else ''}; wanted{own} {wanted}"


def _wanted(detail: ErrorDetails, form: Any) -> str:
    """Return what pydantic complains of in words of ours, as far as there are some.

    form: what the parameter is declared as
    """
    kind, limits = detail["type"], detail.get("ctx", {})
    if kind in OWN:
        return detail["msg"].partition(", ")[2]
    if kind in COMPARED:
        key, sign = COMPARED[kind]
        return f"{'a whole number' if isinstance(limits[key], int) else 'a number'} {sign} {limits[key]:g}"
    if kind in COUNTED:
        return COUNTED[kind].format(**limits)
    if kind in ("list_type", "tuple_type"):
        return _list_of(form)
    noun = next((noun for start, noun in NOUNS.items() if kind.startswith(start)), None)
    return noun or _lower(detail["msg"]).removeprefix("input should be ")


def _list_of(form: Any) -> str:
    """Return what list a declaration means: "a list of 2 numbers"."""
    found = next((f for f in (form, *get_args(form)) if get_origin(f) in (list, tuple)), None)
    items = get_args(found)
    fixed = get_origin(found) is tuple and items[-1] is not Ellipsis
    kinds = {get_args(item)[0] if get_origin(item) is Annotated else item for item in items if item is not Ellipsis}
    noun = ITEMS.get(kinds.pop(), "values") if len(kinds) == 1 else "values" if kinds else ""
    return f"a list of {f'{len(items)} ' if fixed else ''}{noun}" if noun else "a list"


def shown(value: Any) -> str:
    """Return a value as it is cited in a message: its beginning, where it is long.

    >>> shown(1.5), shown("x" * 500)[:5], len(shown("x" * 500))
    ('1.5', "'xxxx", 60)
    """
    return _SHORT.repr(value)


def check(graph: Graph, *, complete: bool = True) -> None:
    """Check everything that needs no run.

    complete: whether all edges that were written are there, so that a missing one is a problem of its own
    raises FlowgraphError with every problem at once, each with its place
    """
    problems = [*_check_blocks(graph, complete), *_check_edges(graph), *_check_restarts(graph)]
    if not any(isinstance(problem, UnknownBlock) for problem in problems):
        problems += [*_check_cycles(graph)] or [*_check_process_names(graph)] or [*_check_process_cycles(graph)]
    problems = problems or [*_check_windows(graph)]
    if problems:
        raise FlowgraphError(*problems)


def _check_blocks(graph: Graph, complete: bool) -> Iterable[FlowgraphError]:
    if not graph.blocks:
        yield FlowgraphError(f"{graph.name}: there is no block in the graph")
    for spec in graph.blocks.values():
        try:
            size, hop = window_of(spec.build())
            if size and not 1 <= hop <= size:
                yield BadParam(f"{_at(spec.place)}{spec.name}: window {size} with hop {hop}; wanted 1 <= hop <= window")
            yield from _check_replicas(graph, spec)
        except FlowgraphError as error:
            yield from error.causes
        if misfit := deadline_misfit(spec.kind, spec.deadline):
            yield BadParam(f"{_at(spec.places.get('deadline', spec.place))}{spec.name}: {misfit}")
        connected = graph.inputs_of(spec.name)
        # An edge that misses its block or port has its own message; the input that it was meant for needs none.
        astray = any(e.target not in graph.blocks for e in graph.edges) or any(
            port not in spec.kind.inputs for port in connected
        )
        for port in spec.kind.inputs.values():
            edges = connected.get(port.name, [])
            if complete and not edges and not port.optional and not astray:
                yield FlowgraphError(f"{_at(spec.place)}{spec.name}.{port.name}: input is not connected")
            if len(edges) > 1 and not port.many:
                yield FlowgraphError(
                    f"{_at(edges[1].place)}{edges[1].name}: {spec.name}.{port.name} takes one edge and has {len(edges)}"
                )


def _check_replicas(graph: Graph, spec: BlockSpec) -> Iterable[FlowgraphError]:
    at = f"{_at(spec.places.get('replicas', spec.place))}{spec.name}: "
    if not 0 <= spec.replicas <= MAX_REPLICAS:
        yield BadParam(f"{at}got {spec.replicas} replicas; wanted 1 to {MAX_REPLICAS}, or 0 for auto")
    elif spec.replicas > 1 and (reason := why_single(graph, spec.name)):
        yield BadParam(f"{at}got {spec.replicas} replicas; wanted 1: {reason}")


def why_single(graph: Graph, name: str) -> str:
    """Return why a block cannot have replicas, or nothing; where it cannot, `auto` means one.

    raises FlowgraphError where its parameters are wrong
    """
    spec = graph.blocks[name]
    inputs = spec.kind.inputs.values()
    size, _ = window_of(spec.build())
    many = [port.name for port in inputs if port.many]
    source = not graph.inputs_of(name) and all(port.optional for port in inputs)
    reasons = {
        "it is a source, and each replica would make every slot": source,
        "it is a sink, and each replica would see a part of the slots": not spec.kind.outputs,
        "it has state: what it makes of a slot depends on earlier ones, which another replica had": spec.kind.stateful,
        f"it takes windows of {size} slots, which would go to different replicas": size > 0,
        f"its input {', '.join(many)} takes many streams, which one process joins": bool(many),
        "it joins several inputs, whose slots would go to different replicas": sum(
            map(len, graph.inputs_of(name).values())
        )
        > 1,
        "its input comes from replicas, whose slots it would get out of order": any(
            graph.blocks[edge.source].replicas > 1
            for edges in graph.inputs_of(name).values()
            for edge in edges
            if edge.source in graph.blocks
        ),
        "nothing waits for all its slots: it needs a consumer by an edge of policy block": not any(
            edge.lossless for edges in graph.outputs_of(name).values() for edge in edges
        ),
        f"it shares process {spec.process!r}; take it out of that": bool(spec.process),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _check_edges(graph: Graph) -> Iterable[FlowgraphError]:
    seen: set[str] = set()
    for edge in graph.edges:
        at = f"{_at(edge.place)}{edge.name}: "
        unknown = [name for name in (edge.source, edge.target) if name not in graph.blocks]
        for name in unknown:
            yield UnknownBlock(f"{at}no block is called {name!r}; {near(name, graph.blocks)}")
        if edge.name in seen:
            yield FlowgraphError(f"{at}stands twice")
        seen.add(edge.name)
        if not unknown:
            yield from _check_ports(graph, edge, at)
            yield from _check_queue(graph, edge, at)
            yield from _check_fault(graph, edge, at)


def _check_ports(graph: Graph, edge: EdgeSpec, at: str) -> Iterable[FlowgraphError]:
    outputs, inputs = graph.blocks[edge.source].kind.outputs, graph.blocks[edge.target].kind.inputs
    if edge.source_port not in outputs:
        yield UnknownPort(f"{at}{edge.source} has no output {edge.source_port!r}; {near(edge.source_port, outputs)}")
    if edge.target_port not in inputs:
        yield UnknownPort(f"{at}{edge.target} has no input {edge.target_port!r}; {near(edge.target_port, inputs)}")
    if edge.source_port in outputs and edge.target_port in inputs:
        misfit = port_misfit(outputs[edge.source_port], inputs[edge.target_port])
        if misfit:
            yield PortMismatch(f"{at}{misfit}{_fitting(graph, edge)}")


def _check_fault(graph: Graph, edge: EdgeSpec, at: str) -> Iterable[FlowgraphError]:
    """Check that an edge with a fault has a link, of which all that is sent comes over one connection."""
    if edge.fault is None:
        return
    ends = [graph.blocks[name] for name in (edge.source, edge.target)]
    if graph.is_inner(edge):
        yield BadParam(f"{at}fault: process {ends[0].unit!r} hands arrays over as they are; there is no link to fail")
    elif several := [spec.name for spec in ends if spec.replicas != 1]:
        yield BadParam(f"{at}fault: {several[0]} has replicas, which share the link; wanted blocks of one process each")


def _check_queue(graph: Graph, edge: EdgeSpec, at: str) -> Iterable[FlowgraphError]:
    """Check how an edge queues; the least window of lossless edges is checked when all else is right."""
    if edge.nbytes is not None and edge.nbytes < 1:
        yield BadParam(f"{at}bytes is {edge.nbytes}; wanted at least 1")
    if edge.buffer is not None and not 0 < edge.buffer / graph.slot_period <= MAX_SLOT:
        yield BadParam(f"{at}buffer is {edge.buffer:g} s; wanted a time above 0, of at most {MAX_SLOT} slots")
    if edge.lossless:
        return
    if graph.is_inner(edge):
        process = graph.blocks[edge.source].unit
        yield BadParam(
            f"{at}policy is {edge.policy} within process {process!r}; wanted block: nothing queues within a process"
        )
    if edge.policy == "latest" and edge.window not in (None, 1):
        yield BadParam(f"{at}window is {edge.window}, but policy latest keeps one frame; leave window out")
    elif edge.window is not None and edge.window < 1:
        yield BadParam(f"{at}window is {edge.window} slots; wanted at least 1")
    if edge.buffer is not None:
        yield BadParam(
            f"{at}buffer is for lossless edges and policy is {edge.policy}; set it on the edge that is joined with this"
            " one, or set window here: the slots that are queued"
        )


def _fitting(graph: Graph, edge: EdgeSpec) -> str:
    """Return advice for an edge that does not fit: an output that would, best of the same block or unused."""
    wanted = graph.blocks[edge.target].kind.inputs[edge.target_port]
    used = {other.stream for other in graph.edges}
    fitting = [
        (name != edge.source, f"{name}.{port.name}" in used, f"; {name}.{port.name} would fit")
        for name, spec in graph.blocks.items()
        for port in spec.kind.outputs.values()
        if name != edge.target and port.arrays and not port_misfit(port, wanted)
    ]
    return min(fitting)[-1] if fitting else ""


def port_misfit(output: Out, wanted: In) -> str:
    """Return why two ports do not fit by their declarations, or nothing; ports of any stream fit all."""
    have, want = output.arrays, wanted.arrays
    if not have or not want:
        return ""
    lone = len(have) == len(want) == 1
    missing = [] if lone else [name for name in want if name not in have]
    if len(missing) > 1:
        return f"got {', '.join(have)}; wanted {', '.join(want)}"
    problems: list[str] = []
    for name, array in want.items():
        came: Array | None = next(iter(have.values())) if lone else have.get(name)
        if came is None:
            problems.append(f"array {name!r} does not come; {near(name, have)}")
        elif came != array:
            problems.append(f"{name} comes as {came}; wanted {array}")
    return "; ".join(problems)


def _check_cycles(graph: Graph) -> Iterable[FlowgraphError]:
    try:
        _ = graph.order
    except CycleError as error:
        names = {name: name for name in graph.blocks}
        yield _cycle(graph, names, error.args[1], "a cycle", "slots only flow forward")


def _check_process_cycles(graph: Graph) -> Iterable[FlowgraphError]:
    try:
        _ = graph.units
    except CycleError as error:
        units = {name: spec.unit for name, spec in graph.blocks.items()}
        advice = "a process takes a frame through all of its blocks at once; put all of these into one, or split one"
        yield _cycle(graph, units, error.args[1], "a cycle of processes", advice)


def _cycle(graph: Graph, names: Mapping[str, str], ring: list[str], what: str, advice: str) -> FlowgraphError:
    """Return the problem of a cycle, at the edge of it that was written last.

    names: what each block is called in the ring
    """
    pairs = set(itertools.pairwise(ring))
    closing = next(edge for edge in reversed(graph.edges) if (names[edge.source], names[edge.target]) in pairs)
    return FlowgraphError(f"{_at(closing.place)}{closing.name}: closes {what}: {' > '.join(ring)}; {advice}")


def _check_process_names(graph: Graph) -> Iterable[FlowgraphError]:
    first: dict[str, BlockSpec] = {}
    for spec in graph.blocks.values():
        first.setdefault(spec.process, spec)
    for name, spec in first.items():
        other = graph.blocks.get(name)
        if other is not None and other.process != name:
            yield BadParam(
                f"{_at(spec.places.get('process', spec.place))}{spec.name}: process {name!r} has the name of a block"
                " outside of it; call it something else, or put that block into it"
            )


def _check_restarts(graph: Graph) -> Iterable[FlowgraphError]:
    first: dict[str, BlockSpec] = {}
    for spec in graph.blocks.values():
        other = first.setdefault(spec.unit, spec)
        if other.restart != spec.restart:
            yield BadParam(
                f"{_at(spec.places.get('restart', spec.place))}{spec.name}: restart is not that of {other.name};"
                f" wanted one for all blocks of process {spec.process!r}"
            )


def _check_windows(graph: Graph) -> Iterable[FlowgraphError]:
    for name, slots in frame_slots(graph).items():
        if slots > MAX_COUNT:
            place = _at(graph.blocks[name].place)
            yield BadParam(f"{place}{name}: frames have {slots} slots (burst or hop); wanted at most {MAX_COUNT}")
    least = minimum_window(graph)
    for edge in graph.edges:
        if edge.lossless and edge.window is not None and edge.window < least:
            yield BadParam(
                f"{_at(edge.place)}{edge.name}: window is {edge.window} slots; the graph needs at least {least}"
                " (what its blocks hold on the longest path, and two bursts), or it would wait for itself"
            )


def window_of(block: Block) -> tuple[int, int]:
    """Return the window and hop of a block in slots, (0, 0) where it takes frames as they come."""
    for port in block.inputs.values():
        size, hop = (getattr(block, value) if isinstance(value, str) else value for value in (port.window, port.hop))
        if size:
            return int(size), int(hop or size)
    return 0, 0


def frame_slots(graph: Graph) -> dict[str, int]:
    """Return the most slots that a frame of each block can have: its hop, else what comes to it."""
    frame: dict[str, int] = {}
    for name in graph.order:
        incoming = (frame[edge.source] for edge in graph.edges if edge.target == name)
        block = graph.blocks[name].build()
        frame[name] = window_of(block)[1] or block.frame_limit() or max(incoming, default=graph.burst)
    return frame


def minimum_window(graph: Graph) -> int:
    """Return the least window of every edge that keeps the graph from waiting for itself [slots].

    A block holds the frame that it works on, each of several replicas two, and its window if it has one. An edge must
    carry what the longest path holds, siblings that meet at a join included, and two bursts: the bound is taken over
    the whole graph. Lossy edges need no least window, but what is held behind them counts: a lossless branch may meet
    it at a join.
    """
    frame = frame_slots(graph)
    held: dict[str, int] = {}
    for name in graph.order:
        before = [edge.source for edge in graph.edges if edge.target == name]
        incoming = max((frame[source] for source in before), default=graph.burst)
        spec = graph.blocks[name]
        size, _ = window_of(spec.build())
        frames = 2 * spec.replicas if spec.replicas > 1 else 1
        held[name] = max((held[source] for source in before), default=0) + frames * incoming + size
    return max(held.values()) + 2 * max(frame.values())


def worst_case_bytes(graph: Graph, infos: Mapping[str, StreamInfo]) -> dict[str, int]:
    """Return the most bytes that the outputs and inputs of each block can hold, by block.

    An edge whose slots have b bytes holds min(window, max(least, nbytes // b)) slots, where least is `minimum_window`,
    of a lossy edge one frame; an edge within a process holds one frame. A port keeps what its edges share once, as much
    as the edge that holds most; every consumer has a copy of its own, except within a process.

    infos: descriptions by stream, "block.port"; edges of other streams count nothing
    """
    least, frames = minimum_window(graph), frame_slots(graph)
    most = dict.fromkeys(graph.blocks, 0)
    outputs: dict[str, int] = {}
    for edge in graph.edges:
        if edge.stream not in infos:
            continue
        frame, per_slot = frames[edge.source], infos[edge.stream].bytes_per_slot
        inner = graph.is_inner(edge)
        fitting = max(least if edge.lossless else frame, (edge.nbytes or DEFAULT_BYTES) // max(1, per_slot))
        held = per_slot * (frame if inner else min(graph.windows[edge.name], fitting))
        outputs[edge.stream] = max(held, outputs.get(edge.stream, 0))
        most[edge.target] += 0 if inner else held
    for stream, held in outputs.items():
        most[stream.partition(".")[0]] += held
    return most


def _at(place: str) -> str:
    return f"{place}: " if place else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
