"""What stands in the SigMF metadata of a recorded array: core fields, geometry, and our own extension `beamslot`."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np

from beamslot.errors import FrameError, StorageError
from beamslot.frame import Array, Geometry, Operator, StreamInfo
from beamslot.frame import checks as check
from beamslot.recording.layout import Stored

EXTENSION_VERSION = "1.0.0"
SPATIAL_VERSION = "1.1.0"
MAX_CAPTURES = 65_536
"""A stream with more gaps than this has the others in its log only."""

_OF_ARRAY = frozenset({"y", "z", "chain", "antenna"})
"""Axes of what has something to do with the places of antennas."""

SPEED_OF_LIGHT = 299_792_458.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Clock:
    """One moment on two clocks [ns]: the monotonic one that captures are told in, and UTC since 1970."""

    monotonic: int
    unix: int

    def utc(self, captured: int) -> str:
        """Return a capture time as ISO 8601 with nanoseconds."""
        seconds, nanoseconds = divmod(self.unix + captured - self.monotonic, 1_000_000_000)
        try:
            moment = _EPOCH + timedelta(seconds=seconds)
        except OverflowError:
            moment, nanoseconds = _EPOCH, 0
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


@dataclass
class Captures:
    """The capture segments of one stored array, made while its frames pass.

    rows: samples so far
    """

    stored: Stored
    rows: int = 0
    found: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    _due: int = -1
    _info: int = -1

    def add(self, slots: range, captured: int, info: int, infos: Sequence[StreamInfo], clock: Clock, gap: str) -> None:
        """Take in a frame.

        info: which of the descriptions holds    gap: why the slots before did not come, "" where nobody said
        """
        if (slots.start != self._due or info != self._info) and len(self.found) < MAX_CAPTURES:
            self.found.append(self._capture(slots.start, captured, info, infos[info], clock, gap))
        self.rows += len(slots)
        self._due, self._info = slots.stop, info

    def _capture(
        self, slot: int, captured: int, info: int, described: StreamInfo, clock: Clock, gap: str
    ) -> dict[str, Any]:
        missing = slot - self._due if self._due >= 0 else 0
        capture: dict[str, Any] = {
            "core:sample_start": self.rows,
            "core:global_index": slot,
            "core:datetime": clock.utc(captured),
            "beamslot:captured": str(captured),
            "beamslot:info": info,
        }
        if described.carrier > 0:
            capture["core:frequency"] = described.carrier
        of_array = _OF_ARRAY.intersection(described.arrays[self.stored.name].axes)
        if described.geometry and described.carrier > 0 and of_array and info != self._info:
            capture["spatial:element_geometry"] = _elements(described.geometry, described.carrier)
        if missing:
            capture["beamslot:gap"] = {"slots": missing, "reason": gap}
        return capture


def _elements(geometry: Geometry, carrier: float) -> list[dict[str, Any]]:
    """Return the antennas as points [m], row by row of a column as in the arrays: x is boresight, y and z the array."""
    wavelength = SPEED_OF_LIGHT / carrier
    return [
        {"point": [0.0, y * geometry.spacing_y * wavelength, z * geometry.spacing_z * wavelength]}
        for y in range(geometry.n_y)
        for z in range(geometry.n_z)
    ]


def metadata(
    port: str,
    captures: Captures,
    infos: Sequence[StreamInfo],
    about: Mapping[str, Any],
    sha512: str | None,
) -> dict[str, Any]:
    """Return the metadata of a stored array.

    infos: all descriptions of the stream    sha512: of its samples, None while they are written
    """
    stored = captures.stored
    info = infos[captures.found[0]["beamslot:info"] if captures.found else -1]
    array = info.arrays[stored.name]
    spatial = any("spatial:element_geometry" in capture for capture in captures.found)
    told: dict[str, Any] = {
        "core:datatype": "cf32_le",
        "core:num_channels": stored.channels,
        "core:recorder": "beamslot",
        "core:description": f"array {stored.name} of {port}: a sample is a slot, its channels are "
        f"{' '.join(array.axes[1:]) or 'one number'} in C order",
        "core:extensions": [
            {"name": "beamslot", "version": EXTENSION_VERSION, "optional": True},
            *([{"name": "spatial", "version": SPATIAL_VERSION, "optional": True}] if spatial else []),
        ],
        "beamslot:port": port,
        "beamslot:array": stored.name,
        "beamslot:axes": list(array.axes),
        "beamslot:shape": list(stored.shape),
        "beamslot:unit": array.unit,
        "beamslot:slot_period": info.slot_period,
        "beamslot:infos": [info_to_json(one) for one in infos],
        "beamslot:about": dict(about),
        "beamslot:complete": sha512 is not None,
    }
    if 0 < 1 / info.slot_period <= 1e12:
        told["core:sample_rate"] = 1 / info.slot_period
    if spatial and info.geometry:
        told |= {"spatial:num_elements": info.geometry.antennas, "spatial:channel_index": 0}
    if sha512 is not None:
        told["core:sha512"] = sha512
    return {"global": told, "captures": captures.found, "annotations": []}


def written(meta: Mapping[str, Any], where: str) -> str:
    """Return metadata as the text of its file, checked by the SigMF library.

    raises StorageError where it is not valid
    """
    import sigmf

    kept = sigmf.SigMFFile(metadata=dict(meta))
    for error in validator().iter_errors(kept.ordered_metadata()):
        raise StorageError(f"{where}: is no valid SigMF: {error.message[:120]}")
    return kept.dumps(pretty=True) + "\n"


@cache
def validator() -> Any:
    """Return what checks metadata against the schema of the SigMF library; to make one takes longer than to use it."""
    from jsonschema import Draft202012Validator
    from sigmf.schema import get_schema

    return Draft202012Validator(get_schema())


def info_to_json(info: StreamInfo) -> dict[str, Any]:
    """Return a description as plain values; the arrays of its operator are base64 of little-endian bytes."""
    geometry, operator = info.geometry, info.operator
    return {
        "arrays": {
            name: {"axes": list(array.axes), "dtype": array.dtype.str, "unit": array.unit}
            for name, array in info.arrays.items()
        },
        "axes": {name: int(length) for name, length in info.axes.items()},
        "slot_period": float(info.slot_period),
        "carrier": float(info.carrier),
        "geometry": None
        if geometry is None
        else {
            "n_y": geometry.n_y,
            "n_z": geometry.n_z,
            "spacing_y": geometry.spacing_y,
            "spacing_z": geometry.spacing_z,
        },
        "operator": None
        if operator is None
        else {
            "hash": operator.hash,
            "weights": _text(operator.weights, "<c8"),
            "group": _text(operator.group, "<i2"),
            "interval": [float(edge) for edge in operator.interval],
            "noise_var": None if operator.noise_var is None else float(operator.noise_var),
        },
        "notes": _finite(check.tags(info.notes)),
    }


def info_from_json(value: Any, where: str) -> StreamInfo:
    """Return the description that `info_to_json` gave; raises StorageError naming `where` it is not one."""
    try:
        axes = check.fields(value["axes"], "axes")
        geometry, operator = value["geometry"], value["operator"]
        return StreamInfo(
            arrays={
                check.text(name, "array name"): Array.of(
                    " ".join(check.text(axis, "axis") for axis in check.items(array["axes"], "axes")),
                    check.text(array["dtype"], "dtype"),
                    check.text(array["unit"], "unit"),
                )
                for name, array in check.fields(value["arrays"], "arrays").items()
            },
            axes={name: check.length(length, f"length of {name}") for name, length in axes.items()},
            slot_period=check.number(value["slot_period"], "slot_period"),
            carrier=check.number(value["carrier"], "carrier"),
            geometry=None
            if geometry is None
            else Geometry(
                check.length(geometry["n_y"], "n_y"),
                check.length(geometry["n_z"], "n_z"),
                check.number(geometry["spacing_y"], "spacing_y"),
                check.number(geometry["spacing_z"], "spacing_z"),
            ),
            operator=None if operator is None else _operator(operator),
            notes=check.tags(value["notes"]),
        )
    except (FrameError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"{where}: is no description of a stream: {str(error)[:120]}") from None


def _operator(value: Mapping[str, Any]) -> Operator:
    low, high = value["interval"]
    noise_var = value["noise_var"]
    operator = Operator(
        _array(value["weights"], "<c8"),
        _array(value["group"], "<i2"),
        (check.number(low, "interval"), check.number(high, "interval")),
        None if noise_var is None else check.number(noise_var, "noise_var"),
    )
    if operator.hash != value["hash"]:
        raise ValueError(f"its operator hashes to {operator.hash}, it says {check.shown(value['hash'])}")
    return operator


def _text(array: Any, dtype: str) -> dict[str, Any]:
    data = np.ascontiguousarray(array, dtype)
    return {"shape": list(data.shape), "dtype": dtype, "base64": base64.b64encode(data.tobytes()).decode()}


def _array(value: Mapping[str, Any], dtype: str) -> Any:
    shape = tuple(check.length(n, "shape") for n in check.items(value["shape"], "shape"))
    if value["dtype"] != dtype:
        raise ValueError(f"dtype is {check.shown(value['dtype'])}; wanted {dtype}")
    data = base64.b64decode(_any_text(value["base64"]), validate=True)
    if len(data) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"{len(data)} bytes do not make {shape} of {dtype}")
    return np.frombuffer(data, dtype).reshape(shape)


def _any_text(value: Any) -> str:
    """Return a text, which may be longer than those of the wire; raises ValueError for what is none."""
    if not isinstance(value, str):
        raise ValueError(f"got {check.shown(value)}; wanted a text")
    return value


def _finite(value: Any) -> Any:
    """Return plain values with inf and nan, which JSON has not, as texts."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
