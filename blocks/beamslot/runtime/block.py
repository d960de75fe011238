"""A block: declared ports and parameters, and three hooks: start, process, stop."""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from beamslot.errors import PortMismatch, ShapeError
from beamslot.frame import Array, StreamInfo

Arrays = Mapping[str, NDArray[Any]]

RESERVED = ("slots", "source", "budget", "message")
"""What `process` may ask for besides its ports.

The slots of the call (a range), which stream of a many port, and whom to ask whether time is up (None: without a
deadline). A sink that asks for `message` is given what a stream says as it says it, a `Frame` with its framing, times
and tags; its gaps and its end come that way too, in place of `missed`, and descriptions by `start`.
"""


class Port:
    """A named place where streams enter or leave a block; declared at the top of its class.

    In("slot user y z", np.complex64, unit="sqrt(W)")   one array, named as the port
    In(u=Array.of("slot user path", np.float32), ...)   several arrays, by name; or In(TRUTH), a mapping of them
    In()                                                any stream
    """

    name: str = ""

    def __init__(
        self, axes: str | Mapping[str, Array] | None = None, dtype: Any = None, unit: str = "1", /, **arrays: Array
    ) -> None:
        self._one = Array.of(axes, dtype, unit) if isinstance(axes, str) else None
        self._several = {**axes, **arrays} if isinstance(axes, Mapping) else arrays

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @property
    def arrays(self) -> dict[str, Array]:
        """The declared arrays by name; empty for a port that takes or gives any stream."""
        return dict(self._several) if self._one is None else {self.name: self._one}

    @property
    def single(self) -> bool:
        """Whether the block sees one bare array here rather than arrays by name."""
        return self._one is not None

    def __str__(self) -> str:
        if not self.arrays:
            return "any stream"
        return ", ".join(str(a) if self.single else f"{n} {a}" for n, a in self.arrays.items())


class In(Port):
    """An input port.

    many: any number of edges may end here; each is joined with the other inputs in a pair of its own
    optional: the port may stay unconnected; `process` then gets None
    window, hop: slots a call gets, and slots from one call to the next (a number, or the name of a parameter);
        the output frame is named by the `hop` newest slots
    """

    def __init__(
        self,
        axes: str | Mapping[str, Array] | None = None,
        dtype: Any = None,
        /,
        unit: str = "1",
        *,
        many: bool = False,
        optional: bool = False,
        window: int | str = 0,
        hop: int | str = 0,
        **arrays: Array,
    ) -> None:
        super().__init__(axes, dtype, unit, **arrays)
        self.many, self.optional, self.window, self.hop = many, optional, window, hop or window


class Out(Port):
    """An output port; Out() sends whatever stream its block's `start` describes, or the one that came in."""

    def __init__(
        self, axes: str | Mapping[str, Array] | None = None, dtype: Any = None, /, unit: str = "1", **arrays: Array
    ) -> None:
        super().__init__(axes, dtype, unit, **arrays)


def Live(default: Any = ..., *, json_schema_extra: Mapping[str, Any] | None = None, **declared: Any) -> Any:  # noqa: N802
    """Declare a parameter, as pydantic's Field does, that may change while the graph runs.

    Between two calls the runtime sets it and calls `start` again, with the descriptions that hold; so a block may use
    it in `start` or in `process`. Calls are cut where a change stands: a value holds for all slots of a call.
    """
    return Field(default, json_schema_extra={**(json_schema_extra or {}), "live": True}, **declared)


@dataclass(frozen=True)
class RunContext:
    """What a block may know of its run: its own name, the run's seed, and the time from slot to slot [s].

    tell: takes a sentence for whoever watches the run
    """

    name: str = "block"
    seed: int = 0
    slot_period: float = 1e-3
    tell: Callable[[str], None] = field(default=print, compare=False)


class Block(BaseModel):
    """Base of every block: declare ports, then parameters as pydantic fields, then the hooks.

    start(port=..., ...) receives the StreamInfo of each connected input by port name (of a many port: a dict by
        stream) and returns those of the outputs: a StreamInfo for one output, a dict by port for several; outputs
        that it does not name inherit the description of the first input. Design and allocate here. It is called
        again when a description or a parameter that is Live changes.
    process(port=..., ...) receives read-only arrays by port name and returns the array of its one output, or a dict
        by port; None means that nothing follows from these slots. A block without inputs gets `slots` alone, and
        ends the stream by returning None.
    stop() releases what is held. Only if something is.
    """

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, validate_default=True, ignored_types=(Port, In, Out)
    )

    inputs: ClassVar[dict[str, In]] = {}
    outputs: ClassVar[dict[str, Out]] = {}

    live: ClassVar[bool] = False
    """A source whose slots cannot be made again (hardware, another run): the runtime keeps them until they are done."""

    remote: ClassVar[str] = ""
    """For blocks that stand for another run: whether they "bind" or "connect"; the runtime does their work."""

    stateful: ClassVar[bool] = False
    """Whether a call depends on earlier ones; overriding `snapshot` says so too."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        ports = [vars(base) for base in reversed(cls.__mro__)]
        found = {name: port for space in ports for name, port in space.items() if isinstance(port, Port)}
        cls.inputs = {name: port for name, port in found.items() if isinstance(port, In)}
        cls.outputs = {name: port for name, port in found.items() if isinstance(port, Out)}
        cls.stateful = cls.stateful or cls.resumes()
        wanted = parameters_of(cls.process)
        stray = [name for name in wanted if name not in cls.inputs and name not in RESERVED]
        if stray:
            raise PortMismatch(
                f"{cls.__name__}.process wants {', '.join(stray)}; it can have {', '.join([*cls.inputs, *RESERVED])}"
            )
        joined = cls.outputs or len(cls.inputs) != 1 or any(port.window for port in cls.inputs.values())
        if "message" in wanted and joined:
            raise PortMismatch(f"{cls.__name__}.process wants message; that is for sinks with one input and no window")

    @property
    def run(self) -> RunContext:
        """What this block may know of its run."""
        return cast(RunContext, self.__dict__.get("_run", RunContext()))

    def join_run(self, context: RunContext) -> None:
        """Tell the block its name, seed and slot period; the runtime does this before `start`."""
        object.__setattr__(self, "_run", context)

    def rng(self, slot: int, purpose: int = 0) -> np.random.Generator:
        """Return the generator of this block for one slot: the same in bursts, replicas and restarts.

        slot: the slot index (or any other counter)    purpose: tells apart independent uses
        source: counter-based Philox keyed by (seed, block name, purpose), its counter started at the slot
        """
        key = _philox_key(self.run.seed, self.run.name, purpose)
        return np.random.Generator(np.random.Philox(key=key, counter=slot << 64))

    def start(self, *_: Any, **__: Any) -> StreamInfo | Mapping[str, StreamInfo] | None:
        """Design and allocate for the streams that will come; return what goes out."""
        return None

    def process(self, *_: Any, **__: Any) -> Any:
        """Turn the arrays of some slots into those of the outputs."""
        raise NotImplementedError(f"{type(self).__name__} has no process")

    def upcoming(self, slots: range) -> tuple[range, int] | None:
        """Return what a source with frames of its own makes next: which slots, and when they were captured.

        slots: the next that the run would ask for
        returns the slots of its next frame (from the first asked for on or later; none at the end), and how long after
            the beginning they were captured [ns], by which a paced run keeps time; None: it makes what it is asked for
        """
        return None

    def frame_limit(self) -> int:
        """Return the most slots that a frame of such a source has; 0: as the run asks for."""
        return 0

    def missed(self, slots: range, reason: str) -> None:
        """Learn that these slots will not come; for blocks whose state depends on earlier slots."""

    @classmethod
    def resumes(cls) -> bool:
        """Return whether the block can put its state back after a restart."""
        return cls.snapshot is not Block.snapshot

    def snapshot(self) -> Any:
        """Return all that depends on earlier slots: numbers, texts, lists, mappings with text keys, NumPy arrays.

        A block that has such state overrides this and `restore`; then a restart continues where the snapshot was
        taken. Taken between calls; must share nothing that a later call changes.
        """
        return None

    def restore(self, state: Any) -> None:
        """Put back what `snapshot` gave, after `start`."""

    def tell(self, text: str) -> None:
        """Tell people what came from outside, or did not: once however often it is said. Not for what is routine."""
        self.run.tell(f"{self.run.name}: {text}")

    @property
    def refused(self) -> int:
        """Messages from outside that were refused, for blocks that speak with others than blocks."""
        return 0

    def stop(self) -> None:
        """Release what is held."""

    def results(self) -> dict[str, Any]:
        """Return what the block has judged, as plain values for the report of the run."""
        return {}

    @classmethod
    def judges(cls) -> bool:
        """Return whether the block's results belong in the report."""
        return not cls.outputs or cls.results is not Block.results


@lru_cache(maxsize=64)
def _philox_key(seed: int, name: str, purpose: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{name}/{purpose}".encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def parameters_of(hook: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of what a hook asks for, without self and without *args."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(p.name for p in inspect.signature(hook).parameters.values() if p.kind in named and p.name != "self")


def bind(port: In, info: StreamInfo, where: str) -> dict[str, str]:
    """Return, for each array that the port wants, the name of the stream's array that serves it.

    An array is found by name; a port and a stream of one array each need not agree on it.
    raises PortMismatch naming `where`, what came and what was wanted, for all arrays at once
    """
    if not port.arrays:
        return {name: name for name in info.arrays}
    lone = len(port.arrays) == 1 and len(info.arrays) == 1
    found = {want: (next(iter(info.arrays)) if lone else want) for want in port.arrays}
    problems = [
        problem for want, have in found.items() if (problem := _misfit(want, port.arrays[want], info.arrays.get(have)))
    ]
    if problems:
        raise PortMismatch(f"{where}: {'; '.join(problems)}")
    return found


def _misfit(name: str, want: Array, have: Array | None) -> str:
    if have is None:
        return f"array {name!r} does not come"
    if want != have:
        return f"array {name!r} comes as {have}; wanted {want}"
    return ""


def describe_outputs(block: Block, infos: Mapping[str, StreamInfo | Mapping[str, StreamInfo]]) -> dict[str, StreamInfo]:
    """Call `start` with the incoming descriptions and return the complete outgoing ones, by port.

    infos: by input port; for a many port a mapping by stream
    raises PortMismatch when `start` describes a port that is not there, or arrays other than declared
    """
    wanted = parameters_of(block.start)
    given = block.start(**{port: infos.get(port) for port in wanted if port in block.inputs})
    return complete_outputs(block, given or {}, infos)


def complete_outputs(
    block: Block,
    given: StreamInfo | Mapping[str, StreamInfo],
    infos: Mapping[str, StreamInfo | Mapping[str, StreamInfo]],
) -> dict[str, StreamInfo]:
    """Return the complete descriptions of the outputs, by port, from those that a block gave.

    given: of the one output, or by port    infos: what an output inherits that is not described
    raises PortMismatch, ShapeError as `describe_outputs`
    """
    described = dict.fromkeys(block.outputs, given) if isinstance(given, StreamInfo) else given
    unknown = [name for name in described if name not in block.outputs]
    if unknown:
        raise PortMismatch(
            f"{block.run.name}: start describes {', '.join(unknown)}; there is {', '.join(block.outputs)}"
        )
    inherited = _first_info(infos)
    return {
        name: _complete(block, port, described.get(name, inherited), name in described)
        for name, port in block.outputs.items()
    }


def _first_info(infos: Mapping[str, StreamInfo | Mapping[str, StreamInfo]]) -> StreamInfo | None:
    for info in infos.values():
        if isinstance(info, StreamInfo):
            return info
        for one in info.values():
            return one
    return None


def _complete(block: Block, port: Out, info: StreamInfo | None, said: bool) -> StreamInfo:
    where = f"{block.run.name}.{port.name}"
    if info is None:
        raise PortMismatch(f"{where}: a block without inputs must describe its outputs in start")
    arrays = port.arrays or dict(info.arrays)
    unsized = sorted({axis for a in arrays.values() for axis in a.axes if axis != "slot" and axis not in info.axes})
    if unsized:
        gave = "start gave" if said else "start returned no description, so that of the input is passed on; it has"
        raise ShapeError(f"{where}: no length for {', '.join(unsized)}; {gave} {dict(info.axes)}")
    used = {axis: n for axis, n in info.axes.items() if any(axis in a.axes for a in arrays.values())}
    return info.replace(arrays=arrays, axes=used, slot_period=info.slot_period)
