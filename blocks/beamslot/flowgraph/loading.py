"""From a flowgraph as written to a checked graph, or to everything that is wrong with it at once.

Where two problems have one cause it is said once: a block that cannot be had is stood in for by one that takes any
parameter and has every port that an edge names, so that nothing else trips over it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from beamslot.catalogue import collect, find
from beamslot.errors import BadParam, FlowgraphError, UnknownBlock
from beamslot.flowgraph.declarations import BlockOptions, ChangeOptions, EdgeOptions, RunOptions, restart_of
from beamslot.flowgraph.draft import Draft, Edge, Head
from beamslot.flowgraph.reading import Node, read
from beamslot.flowgraph.values import Scope, written
from beamslot.runtime.block import Block, In, Out, Port
from beamslot.runtime.graph import (
    BlockSpec,
    EdgeSpec,
    Graph,
    LinkFault,
    Restart,
    Unreadable,
    bad_parameters,
    check,
    near,
)
from beamslot.runtime.parameters import check_timeline
from beamslot.runtime.timeline import Change

Model = TypeVar("Model", bound=BaseModel)
AnyPort = TypeVar("AnyPort", bound=Port)


def load(
    source: Path | str | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    blocks: Sequence[Path | str] | Mapping[str, type[Block]] = (),
) -> Graph:
    """Return the checked graph of a flowgraph.

    source: the path of a YAML file, or the same structure as a mapping
    overrides: "name=value" for a variable or, where none is called so, for one of options.parameters;
        "block.key=value" for a parameter of a block; of several for one name the last counts
    blocks: Python files with blocks of one's own, or such blocks by id
    raises FlowgraphError with every problem at once, each with its place
    """
    own = collect(blocks)
    document, problems = read(source)
    draft = Draft(document, problems)
    for text in overrides:
        draft.override(text)
    default = Path(source).stem if isinstance(source, str | Path) else "graph"
    return _Maker(draft, own, Path(source).parent if isinstance(source, str | Path) else Path()).graph(default)


class _Maker:
    """Makes the graph of a draft.

    folder: where the flowgraph lies
    """

    def __init__(self, draft: Draft, own: Mapping[str, type[Block]], folder: Path) -> None:
        self._draft, self._own, self._folder = draft, own, folder
        self._problems = draft.problems
        self._scope = Scope(draft.variables, self._problems)

    def graph(self, default: str) -> Graph:
        """Return the checked graph.

        raises FlowgraphError with every problem
        """
        name = "options.parameters"
        options = self._filled(RunOptions, self._draft.with_restart(self._draft.options, name), name, "")
        edges = self._edges()
        blocks = self._blocks(edges, restart_of(options.restart))
        graph = Graph(
            name=options.id or default,
            title=options.title,
            blocks=blocks,
            edges=edges,
            timeline=tuple(self._changes(blocks)),
            slots=options.slots,
            slot_period=options.slot_period,
            pace=options.rate,
            burst=options.burst,
            seed=options.seed,
        )
        if graph.blocks or not self._problems:
            complete = not (self._draft.nameless or self._draft.lost)
            self._collect(lambda: check(graph, complete=complete))
        if not self._problems:
            self._collect(lambda: check_timeline(graph))
        if self._problems:
            raise FlowgraphError(*sorted(self._problems, key=_line))
        return graph

    def _changes(self, blocks: Mapping[str, BlockSpec]) -> Iterable[Change]:
        """Return the changes of the timeline; whether they can be made is checked when all else is right."""
        disabled = {head.name for head in self._draft.heads if not head.enabled}
        for entry in self._draft.changes:
            given = written(entry.path, ChangeOptions, entry.options, self._scope, entry.place)
            try:
                options = ChangeOptions(**given.parameters)
            except ValidationError as error:
                self._problems += bad_parameters(given, error)
                continue
            kind = blocks[options.block].kind if options.block in blocks else Block
            values = written(entry.path, kind, entry.parameters, self._scope, entry.place)
            unreadable = [value for value in values.parameters.items() if isinstance(value[1], Unreadable)]
            for name, value in unreadable:
                if value.problem:
                    place = values.places.get(name, entry.place)
                    self._draft.complain(place, f"{entry.path}.{name}", value.problem, BadParam)
            if not unreadable and options.block not in disabled:
                yield Change(options.slot, options.block, values.parameters, entry.place)

    def _collect(self, action: Callable[[], object]) -> None:
        try:
            action()
        except FlowgraphError as error:
            self._problems += error.causes

    def _filled(self, kind: type[Model], nodes: Mapping[str, Node], name: str, place: str) -> Model:
        """Return the options that were written, defaults in place of those that are wrong."""
        given = written(name, kind, nodes, self._scope, place)
        try:
            return kind(**given.parameters)
        except ValidationError as error:
            self._problems += bad_parameters(given, error)
            wrong = {detail["loc"][0] for detail in error.errors()}
            return kind(**{key: value for key, value in given.parameters.items() if key not in wrong})

    def _edges(self) -> tuple[EdgeSpec, ...]:
        found: dict[str, EdgeSpec] = {}
        disabled = {head.name for head in self._draft.heads if not head.enabled}
        for edge in self._draft.edges:
            source, source_port, target, target_port = edge.ends
            spec = EdgeSpec(source, source_port, target, target_port, place=edge.place)
            unknown = [name for name in (source, target) if name not in self._draft.names]
            if spec.name in found:
                first = found[spec.name].place
                self._draft.complain(edge.place, spec.name, f"stands twice; it stands first at {first}")
            elif unknown and self._draft.nameless:
                continue
            elif unknown and disabled.intersection((source, target)):
                advice = near(unknown[0], self._draft.names)
                self._draft.complain(
                    edge.place, spec.name, f"no block is called {unknown[0]!r}; {advice}", UnknownBlock
                )
            elif not disabled.intersection((source, target)):
                found[spec.name] = self._queued(spec, edge)
        return tuple(found.values())

    def _queued(self, spec: EdgeSpec, edge: Edge) -> EdgeSpec:
        options = self._filled(EdgeOptions, edge.params, f"{spec.name}: params", edge.place)
        fault = None if options.fault is None else LinkFault(**dict(options.fault))
        return replace(
            spec,
            policy=options.policy,
            window=options.window,
            nbytes=options.bytes,
            buffer=options.buffer,
            fault=fault,
        )

    def _blocks(self, edges: Sequence[EdgeSpec], restart: Restart) -> dict[str, BlockSpec]:
        self._check_twins()
        found: dict[str, BlockSpec] = {}
        for head in self._draft.heads:
            if head.enabled:
                found[head.name] = self._block(head, edges, restart)
        return {name: spec for name, spec in found.items() if name}

    def _block(self, head: Head, edges: Sequence[EdgeSpec], restart: Restart) -> BlockSpec:
        """Return a block as written, or one that stands in where it cannot be had or is not the only one.

        restart: the policy of blocks that have none of their own
        """
        kind = self._kind(head)
        parameters, nodes = _overridden(head, kind)
        nodes = self._draft.with_restart(nodes, head.path)
        options = self._filled(BlockOptions, nodes, head.path, head.place)
        stand_in = BlockSpec(
            head.name,
            _stand_in(head.name, edges),
            place=head.place,
            process=options.process or "",
            restart=restart if options.restart is None else restart_of(options.restart),
        )
        if kind is None:
            return stand_in
        given = written(head.path, kind, parameters, self._scope, head.place)
        spec = replace(
            stand_in,
            name=head.path,
            kind=kind,
            parameters=given.parameters,
            places={**{key: node.place for key, node in nodes.items()}, **given.places},
            expressions=given.expressions,
            replicas=0 if options.replicas == "auto" else options.replicas,
            deadline=options.deadline,
        )
        if self._draft.names.count(head.name) == 1:
            return spec
        self._collect(spec.build)
        return stand_in

    def _check_twins(self) -> None:
        first: dict[str, str] = {}
        for head in self._draft.heads:
            if head.name in first:
                text = f"the name stands twice; it stands first at {first[head.name]}"
                self._draft.complain(head.place, head.name, text)
            elif head.name:
                first[head.name] = head.place

    def _kind(self, head: Head) -> type[Block] | None:
        if head.id is None:
            return None
        try:
            return find(head.id.value, self._own)
        except FlowgraphError as error:
            advice = self._own_file(head.id.value) if isinstance(error, UnknownBlock) else ""
            self._draft.complain(head.id.place, f"{head.path}.id", f"{error}{advice}", type(error))
            return None

    def _own_file(self, block_id: str) -> str:
        """Return advice for an unknown id that is the name of a Python file where one would look for it."""
        files = (folder / f"{block_id}.py" for folder in (self._folder, Path()) if block_id.isidentifier())
        return next((f"; perhaps it wants --blocks {file}" for file in files if file.is_file()), "")


def _overridden(head: Head, kind: type[Block] | None) -> tuple[dict[str, Node], dict[str, Node]]:
    """Return the parameters and the options of a block, overrides put in; a parameter comes before an option."""
    declared = {} if kind is None else kind.model_fields
    options = {k: v for k, v in head.overrides.items() if k in BlockOptions.model_fields and k not in declared}
    parameters = {k: v for k, v in head.overrides.items() if k not in options}
    return {**head.parameters, **parameters}, {**head.options, **options}


def _stand_in(name: str, edges: Iterable[EdgeSpec]) -> type[Block]:
    """Return a block that takes any parameter and has the ports that edges name."""

    class StandIn(Block):
        model_config = ConfigDict(extra="allow")

    StandIn.outputs = {e.source_port: _named(Out(), e.source_port) for e in edges if e.source == name}
    StandIn.inputs = {e.target_port: _named(In(many=True), e.target_port) for e in edges if e.target == name}
    return StandIn


def _named(port: AnyPort, name: str) -> AnyPort:
    port.name = name
    return port


def _line(problem: FlowgraphError) -> int:
    """Return the line that a message cites; those that cite none come last."""
    found = re.match(r"[^\n]*?:(\d+): ", str(problem))
    return int(found[1]) if found else 2**31
