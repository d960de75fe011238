"""Run one block on arrays, with no process and no socket: the same core that runs in a graph."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import BadParam, DtypeError, FlowgraphError, ShapeError, UnknownPort
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.runtime.align import Item
from beamslot.runtime.block import Block, In, RunContext, bind
from beamslot.runtime.budget import deadline_misfit
from beamslot.runtime.core import Core, Input, Step
from beamslot.runtime.graph import near

Arrays = Mapping[str, NDArray[Any]]


@dataclass
class Outcome:
    """What a block gave: arrays by port (or by port and name), descriptions, gaps, and the items one by one."""

    arrays: dict[str, Any] = field(default_factory=dict[str, Any])
    infos: dict[str, StreamInfo] = field(default_factory=dict[str, StreamInfo])
    gaps: dict[str, list[Gap]] = field(default_factory=dict[str, list[Gap]])
    items: list[tuple[str, Item]] = field(default_factory=list[tuple[str, Item]])
    core: Core | None = None

    def __getitem__(self, port: str) -> Any:
        return self.arrays[port]


def run_block(
    block: Block,
    inputs: Mapping[str, Any] | None = None,
    *,
    infos: Mapping[str, StreamInfo | Mapping[str, StreamInfo]] | None = None,
    slots: int | None = None,
    burst: int = 1,
    seed: int = 0,
    name: str = "block",
    strict: bool = True,
    deadline: float | None = None,
) -> Outcome:
    """Feed a block whole arrays, cut into frames of `burst` slots, and return what comes out, put together again.

    inputs: by port an array (slot first), or arrays by name; for a many port these by stream
    infos: the description of each input, for a many port perhaps by stream; without one it is made up from the arrays
        and the declaration of the port; those of other ports are passed over, so that all of a source can be given
    slots: how many a source is asked for
    strict: whether arrays that are not as described are refused; else they become gaps, as in a run
    deadline: as in a flowgraph [s], for a block that asks for its budget; all slots count as captured at once, now
    raises what the block raises; ShapeError or DtypeError where the arrays do not fit the description, or none can be
        made up; UnknownPort, FlowgraphError or BadParam for ports and slots that are not there or not given
    """
    block.join_run(RunContext(name, seed))
    _check_given(block, inputs or {}, slots, deadline)
    streams = list(_streams(block, inputs or {}))
    edges = [Input(block.inputs[port], stream, f"{stream} > {name}.{port}") for port, stream, _ in streams]
    core = Core(block, edges, deadline=deadline)
    captured = 0 if deadline is None else time.monotonic_ns()
    outcome = Outcome(core=core)
    for index, (port, stream, arrays) in enumerate(streams):
        info = _info(block.inputs[port], stream, arrays, (infos or {}).get(port))
        if strict:
            bind(block.inputs[port], info, f"{name}.{port}")
            _check_arrays(port, arrays, info)
        for item in frames(arrays, info, burst, captured):
            core.feed(index, item)
    try:
        if not streams:
            outcome.items += core.start()
            _make(core, outcome, slots or 0, burst, captured)
        while not core.ended and (step := core.step()) is not None:
            outcome.items += step.items
    finally:
        if core.started:
            block.stop()
    _collect(block, outcome)
    return outcome


def infer(port: In, arrays: Arrays) -> StreamInfo:
    """Return a description that fits these arrays by the declaration of a port.

    raises ShapeError, DtypeError naming the port and the array, what came and what was wanted
    """
    declared = port.arrays
    if not declared:
        raise ShapeError(f"{port.name}: takes any stream; say which with infos")
    axes: dict[str, int] = {}
    for name, spec in declared.items():
        _check_kind(port.name, name, spec, arrays)
        axes |= {axis: n for axis, n in zip(spec.axes, arrays[name].shape, strict=True) if axis != "slot"}
    return StreamInfo(declared, axes)


def _check_kind(port: str, name: str, spec: Array, arrays: Arrays) -> None:
    if name not in arrays:
        raise ShapeError(f"{port}: array {name!r} does not come; there is {', '.join(arrays)}")
    if arrays[name].dtype != spec.dtype:
        raise DtypeError(f"{port}: {name} is {arrays[name].dtype}; wanted {spec.dtype}")
    if arrays[name].ndim != len(spec.axes):
        raise ShapeError(f"{port}: {name} has shape {arrays[name].shape}; wanted axes {' '.join(spec.axes)}")


def _check_arrays(port: str, arrays: Arrays, info: StreamInfo) -> None:
    slots = _slots(arrays, info)
    for name, spec in info.arrays.items():
        _check_kind(port, name, spec, arrays)
        if arrays[name].shape != info.shape(name, slots):
            axes = " ".join(f"{axis}={n}" for axis, n in zip(spec.axes, info.shape(name, slots), strict=True))
            raise ShapeError(f"{port}: {name} has shape {arrays[name].shape}; wanted {axes}")


def _info(port: In, stream: str, arrays: Arrays, given: StreamInfo | Mapping[str, StreamInfo] | None) -> StreamInfo:
    if given is None:
        return infer(port, arrays)
    if isinstance(given, StreamInfo):
        return given
    if stream not in given:
        raise ShapeError(f"{port.name}: infos has no stream {stream!r}; {near(stream, given)}")
    return given[stream]


def _check_given(block: Block, inputs: Mapping[str, Any], slots: int | None, deadline: float | None) -> None:
    name = block.run.name
    if misfit := deadline_misfit(type(block), deadline):
        raise BadParam(f"{name}: {misfit}")
    for port in inputs:
        if port not in block.inputs:
            raise UnknownPort(f"{name} has no input {port!r}; {near(port, block.inputs)}")
    for port in block.inputs.values():
        if port.name not in inputs and not port.optional:
            raise FlowgraphError(f"{name}.{port.name}: input is not given; wanted {port}")
        if port.many and not isinstance(inputs.get(port.name, {}), Mapping):
            raise ShapeError(f"{name}.{port.name}: got one stream; wanted a mapping of streams by name")
    if not block.inputs and slots is None:
        raise BadParam(f"{name}: a source makes as many slots as it is asked for; wanted slots=")


def frames(arrays: Arrays, info: StreamInfo, burst: int, captured: int = 0) -> Iterator[Item]:
    """Yield the description, frames of `burst` slots, and the end; arrays without a slot axis come with every frame."""
    yield Describe("test", info)
    by_slot = _by_slot(arrays, info)
    total = _slots(arrays, info)
    operator = None if info.operator is None else info.operator.hash
    for first in range(0, total, burst):
        count = min(burst, total - first)
        cut = {name: array[first : first + count] if name in by_slot else array[:] for name, array in arrays.items()}
        for array in cut.values():
            array.flags.writeable = False
        yield Frame(first, count, cut, captured, operator=operator)
    yield Eos(total)


def _by_slot(arrays: Arrays, info: StreamInfo) -> set[str]:
    return {name for name in arrays if name not in info.arrays or "slot" in info.arrays[name].axes}


def _slots(arrays: Arrays, info: StreamInfo) -> int:
    return max((len(arrays[name]) for name in _by_slot(arrays, info)), default=1)


def _streams(block: Block, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str, Arrays]]:
    for port, given in inputs.items():
        declared = block.inputs[port]
        if declared.many:
            for stream, arrays in given.items():
                yield port, stream, _named(declared, arrays)
        else:
            yield port, port, _named(declared, given)


def _named(port: In, given: Any) -> Arrays:
    return given if isinstance(given, Mapping) else {port.name: np.asarray(given)}  # pyright: ignore


def _make(core: Core, outcome: Outcome, slots: int, burst: int, captured: int) -> None:
    for first in range(0, slots, burst):
        step: Step = core.make(range(first, min(first + burst, slots)), captured)
        outcome.items += step.items
        if core.ended:
            return


def _collect(block: Block, outcome: Outcome) -> None:
    for port, out in block.outputs.items():
        items = [item for name, item in outcome.items if name == port]
        outcome.gaps[port] = [item for item in items if isinstance(item, Gap)]
        outcome.infos.update((port, item.info) for item in items if isinstance(item, Describe))
        made = [item for item in items if isinstance(item, Frame)]
        arrays = _concatenated(made) if made else {}
        outcome.arrays[port] = arrays.get(out.name) if out.single else arrays


def _concatenated(made: Sequence[Frame]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([frame.arrays[name] for frame in made]) for name in made[0].arrays}
