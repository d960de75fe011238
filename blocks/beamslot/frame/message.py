"""The messages of the wire as plain objects; the codec turns them into bytes and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from beamslot.frame.stream import StreamInfo

Ranges = Sequence[Sequence[int]]
"""Half-open slot ranges, [[first, end], ...], rising and disjoint."""


@dataclass(slots=True)
class Frame:
    """Consecutive slots of one stream; (first, count) is its identity.

    arrays: by name, each with the axes of the StreamInfo; read-only when received
    captured, sent: monotonic host clock [ns]    deadline: the same clock, None without one
    epoch, seq: which life of the producer sent it, and as which message (diagnosis only)
    operator: content hash of the operator that it was measured with, None where there is none
    tags: small plain values
    """

    first: int
    count: int
    arrays: Mapping[str, NDArray[Any]]
    captured: int = 0
    sent: int = 0
    epoch: int = 0
    seq: int = 0
    operator: str | None = None
    deadline: int | None = None
    tags: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def end(self) -> int:
        """The slot after the last."""
        return self.first + self.count


@dataclass(slots=True)
class Gap:
    """Slots that will not come, and why."""

    first: int
    count: int
    reason: str
    captured: int = 0
    epoch: int = 0
    seq: int = 0

    @property
    def end(self) -> int:
        """The slot after the last."""
        return self.first + self.count


@dataclass(slots=True)
class Describe:
    """The StreamInfo of a stream; precedes every frame that it describes."""

    stream: str
    info: StreamInfo


@dataclass(slots=True)
class Eos:
    """The stream is over: `first` is the slot that would have come next."""

    first: int
    ok: bool = True
    reason: str = ""


@dataclass(slots=True)
class Hello:
    """A consumer introduces itself: the run's token, who it is, what it has finished, how much it takes.

    edge: "source.port > block.port"    epoch: which life of the consumer
    finished: slot ranges that need not be sent (again)
    slots, nbytes: absolute limits on what may be unacknowledged at any time
    """

    token: str
    edge: str
    replica: int
    epoch: int
    finished: Ranges
    slots: int
    nbytes: int


@dataclass(slots=True)
class Credit:
    """A consumer changes its absolute limits on what may be unacknowledged."""

    slots: int
    nbytes: int


@dataclass(slots=True)
class Acknowledge:
    """All slot ranges that the consumer has finished so far (cumulative, idempotent), and whether EOS is among them.

    credit: slots of data since its hello that the consumer takes in all, on an edge that queues at the producer
    """

    finished: Ranges
    eos: bool = False
    credit: int = 0


@dataclass(slots=True)
class Heartbeat:
    """The sender lives; a consumer's repeats its acknowledgement.

    A producer's tells processes that share an edge up to where all have noted that it is finished, and as credit, up to
    where it is shared out.
    """

    finished: Ranges = ()
    eos: bool = False
    credit: int = 0


@dataclass(slots=True)
class Done:
    """The consumer wants nothing from some slot on: the last of the ranges begins there, and ends nowhere."""

    finished: Ranges


Message = Frame | Gap | Describe | Eos | Hello | Credit | Acknowledge | Heartbeat | Done
