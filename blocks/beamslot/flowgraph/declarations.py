"""What a flowgraph file may hold besides the parameters of its blocks."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from beamslot.frame.checks import MAX_COUNT, MAX_SLOT
from beamslot.runtime.graph import MAX_REPLICAS, Policy, Restart
from beamslot.runtime.timeline import PACES

NAME = "^[a-z][a-z0-9_]*$"
"""What names of blocks and variables look like."""

FILE_FORMAT = 1

SECTIONS = ("options", "variables", "blocks", "connections", "timeline", "metadata")
STATES = ("enabled", "disabled")
LAYOUT = ("coordinate", "rotation", "bus_sink", "bus_source", "bus_structure")
"""Where GNU Radio Companion draws a block; passed over."""

EDGE_ENDS = ("src_blk_id", "src_port_id", "snk_blk_id", "snk_port_id")


class RestartOptions(BaseModel):
    """What stands under restart where it is a mapping: what becomes of a block whose process ends too early."""

    model_config = ConfigDict(extra="forbid")

    policy: Literal["never", "on_failure"] = Field(
        "on_failure", description="never: the run ends with it; on_failure: it is started again"
    )
    retries: int = Field(5, ge=0, description="restarts in a row without one more slot finished")
    backoff: float = Field(
        0.1,
        ge=0,
        allow_inf_nan=False,
        description="wait before the second restart in a row, doubled for each further one",
        json_schema_extra={"unit": "s"},
    )
    backoff_max: float = Field(
        5.0, ge=0, allow_inf_nan=False, description="the longest such wait", json_schema_extra={"unit": "s"}
    )
    hang_timeout: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="how long a call may last before its process is killed; absent: as long as it likes",
        json_schema_extra={"unit": "s"},
    )
    on_poison: Literal["stop", "drop"] = Field(
        "stop", description="what becomes of a slot that has ended its block twice: the run stops, or it is a gap"
    )


RestartForm = Literal["never", "on_failure"] | RestartOptions


def restart_of(written: RestartForm) -> Restart:
    """Return the restart policy that is meant by a word or by a mapping."""
    return Restart(policy=written) if isinstance(written, str) else Restart(**dict(written))


class RunOptions(BaseModel):
    """What stands under options.parameters: what the graph is called and how it is run."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field("", pattern=NAME, description="name of the graph; absent: that of the file")
    title: str = Field("", description="the graph in a few words")
    description: str = Field("", description="the graph in some sentences")
    author: str = Field("", description="who wrote it")
    slots: int | None = Field(None, ge=1, le=MAX_SLOT, description="slots that the sources make; absent: endless")
    slot_period: float = Field(
        1e-3, gt=0, allow_inf_nan=False, description="time from slot to slot", json_schema_extra={"unit": "s"}
    )
    pace: Annotated[float, Field(gt=0)] | Literal["realtime", "max"] = Field(
        "max", description="slots per slot period: realtime (1), max (as fast as it goes), or a factor"
    )
    burst: int = Field(1, ge=1, le=MAX_COUNT, description="slots per frame of a source")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything that is random")
    restart: RestartForm = Field("never", description="what becomes of blocks whose process ends, unless they say so")

    @property
    def rate(self) -> float:
        """Slots per slot period."""
        return PACES.get(str(self.pace)) or float(self.pace)


class BlockOptions(BaseModel):
    """What a block may have beside its parameters: how it is run."""

    model_config = ConfigDict(extra="forbid")

    process: str | None = Field(
        None, pattern=NAME, description="process that it shares with others of that name; absent: one of its own"
    )
    replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS)] | Literal["auto"] = Field(
        1, description="processes that share its work; auto: as many as the slot period wants"
    )
    restart: RestartForm | None = Field(
        None, description="what becomes of it when its process ends; absent: as options.parameters say"
    )
    deadline: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="what slots may take from their capture to the end of the call, of a block that can be told to"
        " stop; absent: as long as it likes",
        json_schema_extra={"unit": "s"},
    )


BLOCK_KEYS = ("name", "id", "parameters", "states", *BlockOptions.model_fields)


class ChangeOptions(BaseModel):
    """What an entry of timeline says, beside the parameters that change."""

    model_config = ConfigDict(extra="forbid")

    slot: int = Field(ge=0, le=MAX_SLOT, description="slot from which on they hold", json_schema_extra={"unit": "slot"})
    block: str = Field(pattern=NAME, description="the block whose parameters they are")


CHANGE_KEYS = (*ChangeOptions.model_fields, "parameters")


class FaultOptions(BaseModel):
    """What stands under params.fault of a connection: what its link does on purpose; the connection heals it."""

    model_config = ConfigDict(extra="forbid")

    delay: float = Field(
        0.0, ge=0, le=10, description="delay of every message of the producer", json_schema_extra={"unit": "s"}
    )
    jitter: float = Field(
        0.0, ge=0, le=10, description="delay beyond that, drawn for each up to so much", json_schema_extra={"unit": "s"}
    )
    reorder: float = Field(0.0, ge=0, le=0.5, description="share of messages that come behind the next")
    duplicate: float = Field(0.0, ge=0, le=1, description="share of messages that come twice")
    corrupt: float = Field(0.0, ge=0, le=0.5, description="share of messages with a bit that is flipped")
    cut: float = Field(0.0, ge=0, le=0.5, description="chance of a message to find the connection broken")


class EdgeOptions(BaseModel):
    """What stands under params of a connection: how it queues."""

    model_config = ConfigDict(extra="forbid")

    window: int | None = Field(
        None,
        ge=1,
        description="slots that may be on the way, of a lossy connection: queued; absent: chosen for the graph",
        json_schema_extra={"unit": "slot"},
    )
    policy: Policy = Field(
        "block", description="what happens when the window is full: block waits, others lose slots; latest keeps one"
    )
    bytes: int | None = Field(
        None,
        ge=1,
        description="bytes that may be on the way beyond what the graph needs; absent: 64 MiB",
        json_schema_extra={"unit": "byte"},
    )
    buffer: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="least window, in time: for the lossless partner of a lossy connection",
        json_schema_extra={"unit": "s"},
    )
    fault: FaultOptions | None = Field(None, description="what its link does on purpose; absent: nothing")
