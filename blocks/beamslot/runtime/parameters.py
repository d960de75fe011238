"""Which parameters may change while a graph runs, and whether a change is one that can be made."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from beamslot.errors import BadParam, FlowgraphError, UnknownBlock
from beamslot.runtime.block import Block
from beamslot.runtime.graph import BlockSpec, Graph, near, shown
from beamslot.runtime.timeline import DEADLINE, PACE, PACES, RUN, Change, Timeline

RATE: TypeAdapter[float] = TypeAdapter(float)


def live_parameters(kind: type[Block]) -> dict[str, FieldInfo]:
    """Return the parameters of a block that may change while it runs, by name."""
    return {name: field for name, field in kind.model_fields.items() if is_live(field)}


def is_live(field: FieldInfo) -> bool:
    """Return whether a parameter may change while its block runs."""
    extra: Any = field.json_schema_extra
    return isinstance(extra, dict) and "live" in extra


def changeable(spec: BlockSpec) -> dict[str, Any]:
    """Return what may be changed of a block of a graph, with the values that it begins with."""
    block = spec.build()
    found = {name: getattr(block, name) for name in live_parameters(spec.kind)}
    if "budget" in spec.asked and DEADLINE not in spec.kind.model_fields:
        found[DEADLINE] = spec.deadline
    return found


def timeline_of(graph: Graph, name: str, changes: Iterable[Change]) -> Timeline:
    """Return the timeline of one block from those of a graph."""
    return Timeline(changeable(graph.blocks[name]), [change for change in changes if change.block == name])


def accept(graph: Graph, change: Change) -> Change:
    """Return a change with its values as the block takes them.

    raises UnknownBlock, BadParam with the place, block.parameter, what came and what was wanted, all at once
    """
    at = f"{change.place}: " if change.place else ""
    if change.block == RUN:
        return replace(change, values=_run_values(change, at))
    if change.block not in graph.blocks:
        raise UnknownBlock(f"{at}no block is called {change.block!r}; {near(change.block, graph.blocks)}")
    spec = graph.blocks[change.block]
    known = changeable(spec)
    problems = [*_not_live(spec, known, change.values, at)]
    if not change.values:
        problems = [BadParam(f"{at}{change.block}: no value is given")]
    if problems:
        raise problems[0] if len(problems) == 1 else FlowgraphError(*problems)
    values = dict(change.values)
    own = {name: value for name, value in values.items() if name in spec.kind.model_fields}
    if DEADLINE in values.keys() - own.keys():
        values[DEADLINE] = _deadline(values[DEADLINE], f"{at}{change.block}.{DEADLINE}")
    written = replace(spec, parameters={**spec.parameters, **own}, place=change.place, places={})
    try:
        block = written.build()
    except FlowgraphError as error:
        raise error.causes[0] if len(error.causes) == 1 else error from None
    return replace(change, values=values | {name: getattr(block, name) for name in own})


def check_timeline(graph: Graph) -> None:
    """Check the changes that a graph has of its own; raises FlowgraphError with every problem."""
    problems: list[FlowgraphError] = []
    for change in graph.timeline:
        at = f"{change.place}: " if change.place else ""
        if change.block == RUN:
            problems.append(BadParam(f"{at}{PACE}: is of now and not of a slot; it may be set while the graph runs"))
            continue
        try:
            accept(graph, change)
        except FlowgraphError as error:
            problems += error.causes or [error]
    if problems:
        raise FlowgraphError(*problems)


def _not_live(spec: BlockSpec, known: Mapping[str, Any], values: Mapping[str, Any], at: str) -> Iterator[BadParam]:
    for name in values:
        if name in known:
            continue
        where = f"{at}{spec.name}.{name}: "
        if name in spec.kind.model_fields:
            live = f"these may: {', '.join(known)}" if known else "none of this block may"
            yield BadParam(f"{where}may not change while the graph runs; {live}")
        else:
            yield BadParam(f"{where}{spec.kind.__name__} has no such parameter; {near(name, known)}")


def _deadline(value: Any, where: str) -> float | None:
    if value is None:
        return None
    try:
        seconds = RATE.validate_python(value)
    except ValidationError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise BadParam(f"{where}: got {shown(value)}; wanted a time >= 0 [s], or none")
    return seconds


def _run_values(change: Change, at: str) -> dict[str, float]:
    strange = [name for name in change.values if name != PACE]
    if strange:
        raise BadParam(f"{at}{strange[0]}: the run has no such parameter that may change; there is {PACE}")
    value = change.values.get(PACE)
    value = PACES.get(value, value) if isinstance(value, str) else value
    try:
        pace = RATE.validate_python(value)
    except ValidationError:
        pace = 0.0
    if not pace > 0:
        raise BadParam(f"{at}{PACE}: got {shown(change.values.get(PACE))}; wanted realtime, max, or a factor > 0")
    return {PACE: pace}
