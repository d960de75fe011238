"""What a stream is, said once: arrays with axes and units, the array geometry, the measurement operator."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import ShapeError
from beamslot.frame.axes import parse_axes, wire_dtype


@dataclass(frozen=True)
class Array:
    """One named array of a port: its axes, dtype and unit.

    axes: the axis names, outermost first, "slot user y z"
    dtype: a fixed-size number type
    unit: SI, "1" for a pure number
    """

    axes: tuple[str, ...]
    dtype: np.dtype[np.generic]
    unit: str = "1"

    @classmethod
    def of(cls, axes: str, dtype: object, unit: str = "1") -> "Array":
        """Return the Array for axes written as one string."""
        return cls(parse_axes(axes), wire_dtype(dtype), unit)

    def __str__(self) -> str:
        return f"[{' '.join(self.axes)}] {self.dtype} [{self.unit}]"


@dataclass(frozen=True)
class Geometry:
    """A uniform planar array in the yz-plane; a ULA has n_z = 1 (or n_y = 1).

    n_y, n_z: columns and rows    spacing_y, spacing_z: element spacing [wavelengths]
    """

    n_y: int
    n_z: int
    spacing_y: float = 0.5
    spacing_z: float = 0.5

    @property
    def antennas(self) -> int:
        """Number of antennas, N_r."""
        return self.n_y * self.n_z


@dataclass(frozen=True, eq=False)
class Operator:
    """The measurement operator F_a of a partially connected front end, y = F_a h + w, stored by its structure.

    weights: (y, chain, m) complex64, what chain t of column n multiplies onto its m antennas (rows t*m .. t*m+m-1)
    group: (y,) int16, the group of each column, -1 for a column that is switched off
    interval: (v_min, v_max), the prior interval of v = sin(elevation)
    noise_var: variance of w per complex entry of y [W], None where it must be learned
    source: paper 004, eqs. (2), (6)-(8)
    """

    weights: NDArray[np.complex64]
    group: NDArray[np.int16]
    interval: tuple[float, float]
    noise_var: float | None = None

    def __post_init__(self) -> None:
        if self.weights.ndim != 3 or self.group.shape != self.weights.shape[:1]:
            raise ShapeError(
                f"operator: weights are {self.weights.shape}, group {self.group.shape}; wanted (y, chain, m) and (y,)"
            )

    @cached_property
    def hash(self) -> str:
        """Content hash, 16 hex digits; equal operators have equal hashes on every machine."""
        digest = hashlib.sha256()
        for array, dtype in ((self.weights, "<c8"), (self.group, "<i2")):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype).tobytes())
        digest.update(np.array([*self.interval, np.nan if self.noise_var is None else self.noise_var], "<f8").tobytes())
        return digest.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operator) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)


@dataclass(frozen=True)
class StreamInfo:
    """The description that opens a stream and is sent to every late joiner.

    arrays: what each frame carries, by name
    axes: length of every axis but slot, by name
    slot_period: seconds from one slot to the next
    carrier: carrier frequency [Hz], 0 where there is none
    geometry, operator: the array and what compresses it, None where there is none
    notes: small plain values for people and recordings
    """

    arrays: Mapping[str, Array]
    axes: Mapping[str, int]
    slot_period: float = 1e-3
    carrier: float = 0.0
    geometry: Geometry | None = None
    operator: Operator | None = None
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def shape(self, name: str, slots: int) -> tuple[int, ...]:
        """Return the shape of array `name` in a frame of so many slots."""
        shape = self._shapes.get((name, slots))
        if shape is None:
            shape = tuple([slots if axis == "slot" else self.axes[axis] for axis in self.arrays[name].axes])
            self._shapes[name, slots] = shape
        return shape

    @cached_property
    def _shapes(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """What `shape` has worked out; every frame asks for its shape again."""
        return {}

    def replace(self, **changes: Any) -> "StreamInfo":
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    @property
    def bytes_per_slot(self) -> int:
        """Payload of one slot [bytes]."""
        return sum(
            int(np.prod(self.shape(name, 1), dtype=np.int64)) * spec.dtype.itemsize
            for name, spec in self.arrays.items()
        )
