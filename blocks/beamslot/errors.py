"""Everything that beamslot raises on purpose, as one tree.

BeamslotError
├── FlowgraphError            the graph as written cannot run (exit code 2)
│   ├── UnknownBlock          no such block id, or no block of that name
│   ├── UnknownPort           the block has no such port
│   ├── PortMismatch          two ports of an edge do not fit (axes, dtype, unit, shape)
│   └── BadParam              a parameter has a value that it cannot have
│       └── BadCheckpoint     a file is no checkpoint, is damaged, or is one of something else
├── FrameError                bytes or arrays that are not what was declared
│   ├── ShapeError            axes or lengths differ from the declaration
│   ├── DtypeError            the dtype differs from the declaration, or is not allowed on the wire
│   ├── VersionError          the message speaks another version of the wire
│   └── CorruptFrame          the message is malformed or over a limit
├── TransportError            a socket or a peer
│   ├── BindError             an endpoint could not be bound
│   ├── KeyProblem            a key of an edge cannot be read, made or used
│   ├── PeerLost              the other end of an edge or tap is gone
│   └── Overrun               a lossless stream lost slots
├── StorageError              a file or directory could not be made or written, or a record is not there
├── BlockFailed               a block ended with an exception: block, slot, seed, cause
├── RunFailed                 a run ended without all its slots: what failed, and the report so far
└── NotConverged              an estimator gave up: which one, after how many iterations
"""

from typing import Any


class BeamslotError(Exception):
    """Base of every error that beamslot raises on purpose."""


class FlowgraphError(BeamslotError):
    """The graph as written cannot run; carries every problem found, each on a line of its own.

    causes: the single problems with their types, where this error collects several
    """

    def __init__(self, *problems: "str | FlowgraphError") -> None:
        self.causes = [problem for problem in problems if isinstance(problem, FlowgraphError)]
        super().__init__("\n".join(str(problem) for problem in problems))


class UnknownBlock(FlowgraphError):
    """No block has this id, or no block of the graph has this name."""


class UnknownPort(FlowgraphError):
    """The block has no such port."""


class PortMismatch(FlowgraphError):
    """The two ports of an edge do not fit."""


class BadParam(FlowgraphError):
    """A parameter has a value that it cannot have."""


class BadCheckpoint(BadParam):
    """A file is no checkpoint, is damaged, or is one of something else."""


class FrameError(BeamslotError):
    """Bytes or arrays that are not what was declared."""


class ShapeError(FrameError):
    """Axes or lengths differ from the declaration."""


class DtypeError(FrameError):
    """A dtype differs from the declaration, or is not allowed on the wire."""


class VersionError(FrameError):
    """A message speaks another version of the wire."""


class CorruptFrame(FrameError):
    """A message is malformed or over a limit."""


class TransportError(BeamslotError):
    """A socket or a peer failed."""


class BindError(TransportError):
    """An endpoint could not be bound."""


class KeyProblem(TransportError):
    """A key of an edge cannot be read, made or used."""


class PeerLost(TransportError):
    """The other end of an edge or a tap is gone."""


class Overrun(TransportError):
    """A lossless stream lost slots."""


class StorageError(BeamslotError):
    """A file or directory could not be made or written, or a record is not there."""


class BlockFailed(BeamslotError):
    """A block ended with an exception."""

    def __init__(self, block: str, slots: range | None, seed: int, cause: str) -> None:
        self.block, self.slots, self.seed, self.cause = block, slots, seed, cause
        at = "" if slots is None else f" at {describe_slots(slots)}"
        super().__init__(f"{block}{at} (seed {seed}): {cause}")


class RunFailed(BeamslotError):
    """A run ended without delivering all its slots."""

    def __init__(self, message: str, report: dict[str, Any] | None = None) -> None:
        self.report = report or {}
        super().__init__(message)


class NotConverged(BeamslotError):
    """An estimator gave up."""


def describe_slots(slots: range) -> str:
    """Return a slot range as people read it: 'slot 7' or 'slots 0..39'."""
    return f"slot {slots.start}" if len(slots) == 1 else f"slots {slots.start}..{slots.stop - 1}"
