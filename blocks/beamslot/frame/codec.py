"""Messages to multipart bytes and back; WIRE.md describes the format for other languages.

A message is [topic][header][buffer ...]: the topic ends with NUL, the header is one msgpack map, a buffer is an array
in C order, little-endian. Nothing is allocated for a part before its declared size has been checked.
"""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgpack  # pyright: ignore[reportMissingTypeStubs]
import numpy as np
from numpy.typing import NDArray

from beamslot.errors import CorruptFrame, DtypeError, FrameError, VersionError
from beamslot.frame import checks as check
from beamslot.frame.axes import AXES, DTYPES, parse_axes
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

VERSION = 1
MAX_TOPIC = 256
MAX_HEADER = 64 * 1024
MAX_BUFFERS = 64
MAX_RANK = 8
MAX_BYTES = 256 * 1024 * 1024

Part = bytes | memoryview | NDArray[Any]
Header = dict[str, Any]
Shape = tuple[int, ...]

_msgpack: Any = msgpack  # it has no type stubs
_WIRE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class _Local(threading.local):
    """One packer a thread: a packer is a buffer that is filled in place."""

    def __init__(self) -> None:
        self.pack: Callable[[Any], bytes] = _msgpack.Packer().pack


_local = _Local()

_FIRST, _COUNT, _EPOCH, _SEQ, _CAPTURED, _SENT, _OPERATOR, _DEADLINE, _TAGS, _BUFFERS = map(
    _local.pack, ("first", "count", "epoch", "seq", "captured", "sent", "operator", "deadline", "tags", "buffers")
)
_DATA = b"\x8c" + b"".join(map(_local.pack, ("beamslot", VERSION, "kind", "data")))
"""How the header of a frame begins: a map of 12 entries, the first two of them."""
_NO_TAGS = _local.pack({})


def encode(message: Message, topic: bytes = b"\0") -> list[Part]:
    """Return the parts of a message; array buffers are views, not copies, where the arrays are C-ordered.

    message: any message of the wire    topic: bytes that end with NUL
    raises DtypeError for an array whose dtype may not travel, CorruptFrame for a field over a limit or not plain
    """
    if type(message) is Frame:
        return _encode_frame(message, topic)
    if type(message) is Describe:
        return _encode_describe(message, topic)
    kind, keys = _PLAIN[type(message)]
    fields: Header = {"beamslot": VERSION, "kind": kind, **{key: getattr(message, name) for key, name in keys}}
    if "finished" in fields:
        fields["finished"] = check.ranges(fields["finished"])
    return [topic, _packed(fields)]


def _encode_frame(frame: Frame, topic: bytes) -> list[Part]:
    """Pack the values between keys that were packed once: half the time of packing a map, and the same bytes."""
    specs: list[tuple[str, np.dtype[Any], Shape]] = []
    buffers: list[Part] = []
    for name, array in frame.arrays.items():
        specs.append((name, array.dtype, array.shape))
        buffers.append(np.ascontiguousarray(array))
    pack = _local.pack
    try:
        header = b"".join(
            (
                _DATA,
                _FIRST,
                pack(frame.first),
                _COUNT,
                pack(frame.count),
                _EPOCH,
                pack(frame.epoch),
                _SEQ,
                pack(frame.seq),
                _CAPTURED,
                pack(frame.captured),
                _SENT,
                pack(frame.sent),
                _OPERATOR,
                pack(frame.operator),
                _DEADLINE,
                pack(frame.deadline),
                _TAGS,
                pack(check.tags(frame.tags)) if frame.tags else _NO_TAGS,
                _BUFFERS,
                _declare(tuple(specs)),
            )
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise _unpackable("data", error) from None
    return [topic, _within_limit(header, "data"), *buffers]


def _encode_describe(message: Describe, topic: bytes) -> list[Part]:
    info, arrays = _info_to_wire(message.info)
    fields = {"beamslot": VERSION, "kind": "describe", "stream": message.stream, "info": info, "buffers": None}
    specs = tuple([(name, array.dtype, array.shape) for name, array in arrays.items()])
    return [topic, _packed(fields, _declare(specs)), *arrays.values()]


def _packed(fields: Header, buffers: bytes | None = None) -> bytes:
    """Return the header; a packed buffer list takes the place of its last byte, a nil."""
    try:
        header = _local.pack(fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise _unpackable(fields["kind"], error) from None
    return _within_limit(header if buffers is None else header[:-1] + buffers, fields["kind"])


def _unpackable(kind: str, error: Exception) -> CorruptFrame:
    return CorruptFrame(f"{kind}: {type(error).__name__}: {str(error)[:120]}")


def _within_limit(header: bytes, kind: str) -> bytes:
    if len(header) > MAX_HEADER:
        raise CorruptFrame(f"{kind}: header of {len(header)} bytes; the limit is {MAX_HEADER}")
    return header


@lru_cache(maxsize=256)
def _declare(arrays: tuple[tuple[str, np.dtype[Any], Shape], ...]) -> bytes:
    """Check and pack a buffer list once; streams repeat theirs in every frame."""
    specs = tuple([(name, _WIRE_NAMES.get(dtype) or str(dtype), shape) for name, dtype, shape in arrays])
    _layout(specs)
    return _local.pack(specs)


# kind of every message without buffers, and its fields: (key on the wire, attribute)
_PLAIN: dict[type, tuple[str, tuple[tuple[str, str], ...]]] = {
    Gap: ("gap", tuple((k, k) for k in ("first", "count", "reason", "captured", "epoch", "seq"))),
    Eos: ("eos", tuple((k, k) for k in ("first", "ok", "reason"))),
    Hello: (
        "hello",
        (*((k, k) for k in ("token", "edge", "replica", "epoch", "finished", "slots")), ("bytes", "nbytes")),
    ),
    Credit: ("credit", (("slots", "slots"), ("bytes", "nbytes"))),
    Acknowledge: ("acknowledge", tuple((k, k) for k in ("finished", "eos", "credit"))),
    Heartbeat: ("heartbeat", tuple((k, k) for k in ("finished", "eos", "credit"))),
    Done: ("done", (("finished", "finished"),)),
}


def _info_to_wire(info: StreamInfo) -> tuple[Header, dict[str, NDArray[Any]]]:
    geometry, operator = info.geometry, info.operator
    fields: Header = {
        "arrays": {
            name: {"axes": array.axes, "dtype": array.dtype.str, "unit": array.unit}
            for name, array in info.arrays.items()
        },
        "axes": {name: int(length) for name, length in info.axes.items()},
        "slot_period": float(info.slot_period),
        "carrier": float(info.carrier),
        "geometry": None,
        "operator": None,
        "notes": check.tags(info.notes),
    }
    if geometry is not None:
        fields["geometry"] = {
            "n_y": int(geometry.n_y),
            "n_z": int(geometry.n_z),
            "spacing_y": float(geometry.spacing_y),
            "spacing_z": float(geometry.spacing_z),
        }
    if operator is None:
        return fields, {}
    fields["operator"] = {
        "hash": operator.hash,
        "interval": [float(edge) for edge in operator.interval],
        "noise_var": None if operator.noise_var is None else float(operator.noise_var),
    }
    return fields, {
        "weights": np.ascontiguousarray(operator.weights, "<c8"),
        "group": np.ascontiguousarray(operator.group, "<i2"),
    }


def decode(parts: Sequence[Any]) -> Message:
    """Return the message in `parts`; arrays are read-only views of the parts.

    parts: bytes-like, [topic, header, buffer ...]
    raises VersionError for another version, DtypeError for a dtype that may not travel, ShapeError for axes that make
    no sense, CorruptFrame for anything else malformed or over a limit
    """
    if not 2 <= len(parts) <= 2 + MAX_BUFFERS:
        raise CorruptFrame(f"message of {len(parts)} parts; wanted 2 to {2 + MAX_BUFFERS}")
    if not 1 <= len(parts[0]) <= MAX_TOPIC or bytes(parts[0]).find(0) != len(parts[0]) - 1:
        raise CorruptFrame(f"topic of {len(parts[0])} bytes; wanted at most {MAX_TOPIC}, the last one alone NUL")
    return decode_body(decode_header(parts[1]), parts[2:])


def decode_header(data: Any) -> Header:
    """Return the header map of a message, its magic, version and kind checked; its lists are tuples.

    raises VersionError, CorruptFrame
    """
    if len(data) > MAX_HEADER:
        raise CorruptFrame(f"header of {len(data)} bytes; the limit is {MAX_HEADER}")
    try:
        fields: Header = _msgpack.unpackb(
            data,
            use_list=False,
            max_str_len=MAX_HEADER,
            max_bin_len=0,
            max_ext_len=0,
            max_array_len=check.MAX_ITEMS,
            max_map_len=check.MAX_ITEMS,
        )
    except Exception as error:  # msgpack raises a dozen types for bad bytes; all mean the same here
        raise CorruptFrame(f"header is not msgpack: {type(error).__name__}: {str(error)[:80]}") from None
    if type(fields) is not dict or "beamslot" not in fields:
        raise CorruptFrame("header is not a map with the key beamslot")
    version, kind = fields["beamslot"], fields.get("kind")
    if type(version) is not int or version != VERSION:
        raise VersionError(f"message speaks version {check.shown(version)} of the wire; this is {VERSION}")
    if type(kind) is not str or kind not in _DECODERS:
        raise CorruptFrame(f"kind is {check.shown(kind)}; wanted one of {' '.join(_DECODERS)}")
    return fields


def decode_body(header: Header, buffers: Sequence[Any]) -> Message:
    """Return the message for a checked header and its buffers.

    raises DtypeError, ShapeError, CorruptFrame
    """
    kind = header["kind"]
    if buffers and kind not in {"data", "describe"}:
        raise CorruptFrame(f"{kind} with {len(buffers)} buffers; wanted none")
    try:
        return _DECODERS[kind](header, buffers)
    except FrameError:
        raise
    except KeyError as error:
        raise CorruptFrame(f"{kind}: field {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise CorruptFrame(f"{kind}: {type(error).__name__}: {str(error)[:120]}") from None


def _decode_data(header: Header, buffers: Sequence[Any]) -> Frame:
    operator, deadline, tags = header["operator"], header["deadline"], header["tags"]
    return Frame(
        check.slot(header["first"]),
        check.count(header["count"]),
        _arrays(header, buffers),
        check.integer(header["captured"], "captured"),
        check.integer(header["sent"], "sent"),
        check.integer(header["epoch"], "epoch"),
        check.integer(header["seq"], "seq"),
        operator if operator is None else check.text(operator, "operator"),
        deadline if deadline is None else check.integer(deadline, "deadline"),
        {} if tags == {} else check.tags(tags),
    )


def _arrays(header: Header, buffers: Sequence[Any]) -> dict[str, NDArray[Any]]:
    specs: tuple[tuple[str, str, Shape], ...] = header["buffers"]
    layout = _layout(specs)
    if len(layout) != len(buffers):
        raise CorruptFrame(f"{header['kind']}: {len(buffers)} buffers came, the header lists {len(layout)}")
    arrays: dict[str, NDArray[Any]] = {}
    for (name, _, shape), (dtype, nbytes), data in zip(specs, layout, buffers):  # noqa: B905 (counted above)
        for n in shape:
            if type(n) is not int:  # true and 1.0 equal 1, so the layout of another frame answers for them
                raise CorruptFrame(f"buffer {name!r}: shape {check.shown(shape)}; wanted whole lengths")
        view: Any = data if type(data) is bytes else memoryview(data).toreadonly()
        came = len(view) if type(view) is bytes else view.nbytes
        if came != nbytes:
            raise CorruptFrame(f"buffer {name!r} has {came} bytes; {dtype} {shape} wants {nbytes}")
        arrays[name] = np.ndarray(shape, dtype, view)
    return arrays


@lru_cache(maxsize=256)
def _layout(specs: tuple[tuple[str, str, Shape], ...]) -> list[tuple[np.dtype[np.generic], int]]:
    """Return dtype and bytes of every buffer of a checked list; streams repeat theirs in every frame."""
    if len(check.items(specs, "buffers")) > MAX_BUFFERS:
        raise CorruptFrame(f"{len(specs)} buffers are listed; wanted at most {MAX_BUFFERS}")
    layout: list[tuple[np.dtype[np.generic], int]] = []
    total = 0
    for name, wire, shape in specs:
        check.text(name, "buffer name")
        if wire not in DTYPES:
            raise DtypeError(f"buffer {name!r}: dtype {check.shown(wire)} may not travel; allowed: {' '.join(DTYPES)}")
        if len(check.items(shape, "shape")) > MAX_RANK or any(type(n) is not int or n < 0 for n in shape):
            raise CorruptFrame(f"buffer {name!r}: shape {check.shown(shape)}; wanted at most {MAX_RANK} whole lengths")
        dtype = DTYPES[wire]
        # An empty array has no bytes, but its other lengths must still multiply to something that can be addressed.
        total += dtype.itemsize * math.prod(n or 1 for n in shape)
        if total > MAX_BYTES:
            raise CorruptFrame(f"buffer {name!r} brings the message to {total} bytes; the limit is {MAX_BYTES}")
        layout.append((dtype, dtype.itemsize * math.prod(shape)))
    if len({name for name, *_ in specs}) != len(layout):
        raise CorruptFrame("two buffers have one name")
    return layout


def _decode_describe(header: Header, buffers: Sequence[Any]) -> Describe:
    info = check.fields(header["info"], "info")
    return Describe(check.text(header["stream"], "stream"), _info_from_wire(info, _arrays(header, buffers)))


def _info_from_wire(fields: Header, buffers: Mapping[str, NDArray[Any]]) -> StreamInfo:
    axes = check.fields(fields["axes"], "axes")
    for name, length in axes.items():
        if name not in AXES or name == "slot":
            raise CorruptFrame(f"describe: axes name a length of {check.shown(name)}; wanted axes but slot")
        check.length(length, f"length of {name}")
    arrays = check.fields(fields["arrays"], "arrays")
    info = StreamInfo(
        arrays={check.text(name, "array name"): _array_from_wire(name, spec, axes) for name, spec in arrays.items()},
        axes=axes,
        slot_period=check.number(fields["slot_period"], "slot_period"),
        carrier=check.number(fields["carrier"], "carrier"),
        geometry=_geometry_from_wire(fields["geometry"]),
        operator=_operator_from_wire(fields["operator"], buffers),
        notes=check.tags(fields["notes"]),
    )
    _layout(tuple([(name, array.dtype.str, info.shape(name, 1)) for name, array in info.arrays.items()]))
    return info


def _array_from_wire(name: str, spec: Any, axes: Mapping[str, int]) -> Array:
    spec = check.fields(spec, f"array {name!r}")
    names = [check.text(axis, "axis") for axis in check.items(spec["axes"], f"axes of array {name!r}")]
    bare = [axis for axis in names if axis not in AXES or (axis != "slot" and axis not in axes)]
    if bare:
        raise CorruptFrame(f"describe: array {name!r} has axes without name or length: {' '.join(bare)}")
    dtype = DTYPES.get(check.text(spec["dtype"], "dtype"))
    if dtype is None:
        raise DtypeError(
            f"array {name!r}: dtype {check.shown(spec['dtype'])} may not travel; allowed: {' '.join(DTYPES)}"
        )
    return Array(parse_axes(" ".join(names)), dtype, check.text(spec["unit"], "unit"))


def _geometry_from_wire(fields: Any) -> Geometry | None:
    if fields is None:
        return None
    fields = check.fields(fields, "geometry")
    return Geometry(
        check.length(fields["n_y"], "n_y"),
        check.length(fields["n_z"], "n_z"),
        check.number(fields["spacing_y"], "spacing_y"),
        check.number(fields["spacing_z"], "spacing_z"),
    )


def _operator_from_wire(fields: Any, buffers: Mapping[str, NDArray[Any]]) -> Operator | None:
    if fields is None:
        return None
    fields = check.fields(fields, "operator")
    weights, group = buffers["weights"], buffers["group"]
    if weights.dtype.str != "<c8" or group.dtype.str != "<i2":
        raise CorruptFrame(
            f"describe: operator weights are {weights.dtype}, group {group.dtype}; wanted complex64 and int16"
        )
    low, high = check.items(fields["interval"], "interval")
    noise_var = fields["noise_var"]
    operator = Operator(
        weights,
        group,
        (check.number(low, "interval"), check.number(high, "interval")),
        None if noise_var is None else check.number(noise_var, "noise_var"),
    )
    if operator.hash != fields["hash"]:
        raise CorruptFrame(
            f"describe: operator hashes to {operator.hash}, the header says {check.shown(fields['hash'])}"
        )
    return operator


def _decode_gap(h: Header, _: Sequence[Any]) -> Gap:
    stamps = [check.integer(h[key], key) for key in ("captured", "epoch", "seq")]
    return Gap(check.slot(h["first"]), check.span(h["count"]), check.text(h["reason"], "reason"), *stamps)


def _decode_hello(h: Header, _: Sequence[Any]) -> Hello:
    return Hello(
        check.text(h["token"], "token"),
        check.text(h["edge"], "edge"),
        check.integer(h["replica"], "replica"),
        check.integer(h["epoch"], "epoch"),
        check.ranges(h["finished"]),
        check.limit(h["slots"], "slots"),
        check.limit(h["bytes"], "bytes"),
    )


def _finished(h: Header) -> tuple[list[tuple[int, int]], bool, int]:
    return check.ranges(h["finished"]), check.truth(h["eos"], "eos"), check.integer(h["credit"], "credit")


_DECODERS: dict[str, Callable[[Header, Sequence[Any]], Message]] = {
    "data": _decode_data,
    "describe": _decode_describe,
    "gap": _decode_gap,
    "eos": lambda h, _: Eos(check.slot(h["first"]), check.truth(h["ok"], "ok"), check.text(h["reason"], "reason")),
    "hello": _decode_hello,
    "credit": lambda h, _: Credit(check.limit(h["slots"], "slots"), check.limit(h["bytes"], "bytes")),
    "acknowledge": lambda h, _: Acknowledge(*_finished(h)),
    "heartbeat": lambda h, _: Heartbeat(*_finished(h)),
    "done": lambda h, _: Done(check.ranges(h["finished"])),
}
