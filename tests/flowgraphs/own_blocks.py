"""Blocks of every kind of declaration, for tests of flowgraphs; they come in by --blocks."""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Annotated, Literal, NewType

import numpy as np
from pydantic import BaseModel, Field, field_validator, model_validator
from typing_extensions import TypeAliasType

from beamslot.frame import Array
from beamslot.runtime.block import Block, In, Out

Watt = NewType("Watt", float)
Phase = TypeAliasType("Phase", Annotated[float, Field(ge=-4, le=4)])


class Bits(IntEnum):
    ONE = 1
    FOUR = 4


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Window(BaseModel, extra="forbid"):
    length: int = Field(ge=1)
    shape: Literal["hann", "flat"] = "flat"
    ends: tuple[float, float] = (0.0, 1.0)


@dataclass
class Step:
    size: int
    kind: Literal["up", "down"] = "up"


class Source(Block):
    """Makes a field."""

    field = Out("slot user y z", np.complex64)

    users: int = Field(1, ge=1, description="users of a slot")
    snr_db: float = Field(10.0, le=100, description="SNR per antenna", json_schema_extra={"unit": "dB"})
    power: Annotated[Watt, Field(gt=0)] = Watt(1.0)
    levels: list[float] = Field(default_factory=list[float])
    grid: list[list[int]] = Field(default_factory=list[list[int]])
    pair: tuple[float, int] = (1.0, 2)
    by_name: dict[str, int] = Field(default_factory=dict[str, int])
    mix: int | list[int] | None = None
    rounds: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    codebook: Literal["dft", "steered"] = "dft"
    order: Literal[2, 4] = 2
    bits: Bits = Bits.ONE
    colour: Colour = Colour.RED
    label: str = ""
    note: str | int = ""
    loud: bool = False
    window: Window = Window(length=4)
    step: Step | None = None
    phase: Phase = 0.0

    @field_validator("label")
    @classmethod
    def _is_quiet(cls, value: str) -> str:
        if value.isupper():
            raise ValueError("Lower case")
        return value

    @model_validator(mode="after")
    def _fits(self) -> "Source":
        if self.users * self.window.length > 1000:
            raise ValueError("N_u users times the window are more than 1000")
        return self


class Combiner(Block):
    """Combines."""

    field = In("slot user y z", np.complex64)
    rf = Out("slot user y chain", np.complex64)
    power = Out("slot user", np.float32, "W")

    chain: int = Field(ge=1, description="antennas of a chain")


class Sink(Block):
    """Takes."""

    rf = In("slot user y chain", np.complex64)
    power = In("slot user", np.float32, "mW", optional=True)
    halves = In("slot user", np.float64, "W", optional=True)


class Joined(Block):
    """Takes two arrays of a stream, and any other streams."""

    pair = In(rf=Array.of("slot user y chain", np.complex64), gain=Array.of("slot user", np.float32), optional=True)
    rest = In(many=True, optional=True)


class Loop(Block):
    """Can stand in a circle, and holds slots."""

    back = In(optional=True)
    fed = In(window="hold")
    out = Out()

    hold: int = Field(0, ge=0)


class Bound(Block):
    """Has a bound that does not go with all of its types."""

    size: int | list[int] = Field(1, ge=1)
