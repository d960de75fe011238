"""What blocks of several families agree on: the truth of a simulated slot, an estimate of it, what is sounded."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from beamslot.dsp.estimate import Estimate, outside
from beamslot.errors import PortMismatch
from beamslot.frame import Array, Geometry, Operator, StreamInfo
from beamslot.runtime import Block, Tagged

FIELD_AXES = "slot user y z"
RF_AXES = "slot user y chain"

PATHS: dict[str, Array] = {
    "gain": Array.of("slot user path", np.complex64, "sqrt(W)"),
    "u": Array.of("slot user path", np.float32),
    "v": Array.of("slot user path", np.float32),
    "mask": Array.of("slot user path", np.bool_),
}
"""Paths: gain at antenna (0, 0), direction coordinates u = sin(theta) cos(phi) and v = sin(phi), and which exist."""

TRUTH: dict[str, Array] = {
    "channel": Array.of(FIELD_AXES, np.complex64, "sqrt(W)"),
    **PATHS,
    "antenna_noise_var": Array.of("slot user", np.float32, "W"),
    "draw": Array.of("slot", np.int64),
}
"""What a simulation knows: the channel without noise, its paths, the noise variance per antenna, the channel draw."""

ESTIMATE: dict[str, Array] = {
    "channel": Array.of(FIELD_AXES, np.complex64, "sqrt(W)"),
    **PATHS,
    "noise_var": Array.of("slot user", np.float32, "W"),
    "error_var": Array.of("slot user", np.float32, "W"),
    "iterations": Array.of("slot user", np.int32),
    "converged": Array.of("slot user", np.bool_),
}
"""What every estimator gives, see beamslot.dsp.estimate.Estimate; noise_var is that of an entry of y = F_a h + w."""


def operator_of(info: StreamInfo, where: str) -> tuple[Geometry, Operator]:
    """Return the array and the measurement operator that a stream was measured with.

    raises PortMismatch when the stream does not say
    """
    if info.geometry is None or info.operator is None:
        raise PortMismatch(f"{where}: the stream carries no measurement operator; wanted that of a beamformer")
    return info.geometry, info.operator


def line_of(info: StreamInfo, where: str) -> Geometry:
    """Return the array of a stream, a uniform linear one along y.

    raises PortMismatch when the stream does not say, or it is another
    """
    if info.geometry is None:
        raise PortMismatch(f"{where}: the stream carries no array geometry; wanted that of a linear array")
    if info.geometry.n_z != 1:
        came = f"{info.geometry.n_y} x {info.geometry.n_z}"
        raise PortMismatch(f"{where}: the array is {came}; wanted a uniform linear array along y, n_z = 1")
    return info.geometry


def describe_estimate(info: StreamInfo, geometry: Geometry, paths: int) -> StreamInfo:
    """Return the description of the estimates made from a stream of observations."""
    axes = {"user": info.axes["user"], "y": geometry.n_y, "z": geometry.n_z, "path": paths}
    return info.replace(arrays=ESTIMATE, axes=axes)


def as_arrays(estimate: Estimate) -> dict[str, NDArray[Any]]:
    """Return an estimate as the arrays of an output port."""
    return {name: getattr(estimate, name) for name in ESTIMATE}


def as_outputs(estimate: Estimate, operator: Operator, slots: range) -> dict[str, NDArray[Any]] | Tagged:
    """Return an estimate as arrays of an output port, tagged with the slots that have paths outside of the interval.

    estimate: (slot, user, ...)    slots: of the call
    """
    arrays = as_arrays(estimate)
    flagged = np.flatnonzero(outside(estimate, operator.interval).any(axis=1)).tolist()
    return Tagged(arrays, {"outside": [slots[index] for index in flagged]}) if flagged else arrays


class Sounded(Block):
    """Base of blocks that make or read samples with sounding reference signals: what is sent, as dsp.srs.Sounding."""

    subcarrier_spacing: float = Field(30e3, gt=0, description="of OFDM", json_schema_extra={"unit": "Hz"})
    resource_blocks: int = Field(4, ge=4, le=272, multiple_of=4, description="sounded bandwidth, m_SRS")
    comb: int = Field(2, description="subcarriers from tone to tone: 2, 4 or 8, with 8, 12 or 6 cyclic shifts")
    comb_offset: int = Field(0, ge=0, description="first subcarrier of the comb")
    symbols: int = Field(2, description="repeated symbols: 1, 2 or 4; one alone tells nothing of the carrier offset")
    sequence_id: int = Field(0, ge=0, le=65535, description="which base sequence, modulo 30")
    cyclic_shift: int = Field(0, ge=0, description="of the first user; the others are as far apart as they go")
    fft_size: int = Field(0, ge=0, description="samples of a symbol without prefix; 0: the least power of two from 128")
