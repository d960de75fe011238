"""What a flowgraph file may hold besides the parameters of its blocks."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from beamslot.frame.checks import MAX_COUNT, MAX_SLOT

NAME = "^[a-z][a-z0-9_]*$"
"""What names of blocks and variables look like."""

FILE_FORMAT = 1

SECTIONS = ("options", "variables", "blocks", "connections", "metadata")
BLOCK_KEYS = ("name", "id", "parameters", "states")
RESERVED_KEYS = ("process", "replicas", "restart")
"""Keys of a block that will mean something; until then they are refused rather than passed over."""

STATES = ("enabled", "disabled")
LAYOUT = ("coordinate", "rotation", "bus_sink", "bus_source", "bus_structure")
"""Where GNU Radio Companion draws a block; passed over."""

EDGE_ENDS = ("src_blk_id", "src_port_id", "snk_blk_id", "snk_port_id")


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

    @property
    def rate(self) -> float:
        """Slots per slot period."""
        return {"realtime": 1.0, "max": math.inf}.get(str(self.pace)) or float(self.pace)


class EdgeOptions(BaseModel):
    """What stands under params of a connection: how it queues."""

    model_config = ConfigDict(extra="forbid")

    window: int | None = Field(
        None,
        ge=1,
        description="slots that may be on the way; absent: chosen for the graph",
        json_schema_extra={"unit": "slot"},
    )
    policy: Literal["block"] = Field("block", description="what happens when the window is full")

    @field_validator("policy", mode="before")
    @classmethod
    def _is_available(cls, value: Any) -> Any:
        if value != "block":
            raise ValueError("'block', the only policy that is available yet")
        return value
