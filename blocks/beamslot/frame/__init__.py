"""Frames, the streams they belong to, and the bytes they travel as (see WIRE.md)."""

from beamslot.frame.axes import AXES, DTYPES, parse_axes, wire_dtype
from beamslot.frame.codec import decode, encode
from beamslot.frame.message import (
    Acknowledge,
    Credit,
    Describe,
    Done,
    Eos,
    Frame,
    Gap,
    Heartbeat,
    Hello,
    Message,
)
from beamslot.frame.stream import Array, Geometry, Operator, StreamInfo

__all__ = [
    "AXES",
    "DTYPES",
    "Acknowledge",
    "Array",
    "Credit",
    "Describe",
    "Done",
    "Eos",
    "Frame",
    "Gap",
    "Geometry",
    "Heartbeat",
    "Hello",
    "Message",
    "Operator",
    "StreamInfo",
    "decode",
    "encode",
    "parse_axes",
    "wire_dtype",
]
