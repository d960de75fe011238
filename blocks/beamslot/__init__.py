"""GNU Radio style streaming blocks for channel estimation behind hybrid beamforming.

run(graph, ...)                   run a flowgraph and return what its sinks judged
attach(run)                       look into a graph that runs elsewhere
Block, In, Out, Array, StreamInfo what a block of one's own is written with

Everything but the errors is imported at its first use: `import beamslot` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from beamslot.errors import (
    BadCheckpoint,
    BadParam,
    BeamslotError,
    BindError,
    BlockFailed,
    CorruptFrame,
    DtypeError,
    FlowgraphError,
    FrameError,
    KeyProblem,
    NotConverged,
    Overrun,
    PeerLost,
    PortMismatch,
    RunFailed,
    ShapeError,
    StorageError,
    TransportError,
    UnknownBlock,
    UnknownPort,
    VersionError,
)

if TYPE_CHECKING:
    from beamslot.api import RunResult, run
    from beamslot.frame import Array, StreamInfo
    from beamslot.probe import AttachedRun, attach
    from beamslot.runtime import Block, In, Out

    __version__: str

__all__ = [
    "Array",
    "AttachedRun",
    "BadCheckpoint",
    "BadParam",
    "BeamslotError",
    "BindError",
    "Block",
    "BlockFailed",
    "CorruptFrame",
    "DtypeError",
    "FlowgraphError",
    "FrameError",
    "In",
    "KeyProblem",
    "NotConverged",
    "Out",
    "Overrun",
    "PeerLost",
    "PortMismatch",
    "RunFailed",
    "RunResult",
    "ShapeError",
    "StorageError",
    "StreamInfo",
    "TransportError",
    "UnknownBlock",
    "UnknownPort",
    "VersionError",
    "__version__",
    "attach",
    "run",
]

_HOMES = {
    "Array": "beamslot.frame",
    "AttachedRun": "beamslot.probe",
    "Block": "beamslot.runtime",
    "In": "beamslot.runtime",
    "Out": "beamslot.runtime",
    "RunResult": "beamslot.api",
    "StreamInfo": "beamslot.frame",
    "attach": "beamslot.probe",
    "run": "beamslot.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value = import_module("importlib.metadata").version("beamslot")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'beamslot' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
