"""Gain and phase of every RF chain, measured from a sender in a known direction, and kept in a file.

| symbol | name | meaning |
|---|---|---|
| g_i | gain | complex gain of chain i beside what the operator says: y_i = g_i (F_a h)_i + w_i |
| e | expected | F_a a(u, v): what a unit path from the known direction leaves at ideal chains |
| c_s | | complex amplitude of the sender in slot s, unknown and other in every slot |

Of Y = c (g o e)^T + W the most likely g o e is the first right singular vector. A factor common to all chains is the
sender's as well: gains are given with mean square one, and a mean that is real. `beamslot.dsp.calibration` learns
phases of a line without a sender.

source: Eckart and Young 1936 (best approximation of rank one)
"""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from beamslot.dsp import files
from beamslot.errors import ShapeError

FORMAT: Literal["beamslot calibration"] = "beamslot calibration"
FORMAT_VERSION: Literal[1] = 1
DARK = 0.5
"""A gain less certain than that, relative to one, is left at one: the sender does not light the chain."""
DARKEST = 1e9
"""The deviation of a gain of which nothing is known."""

_DECLARED = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measured(NamedTuple):
    """Gains of the chains, (y, chain) complex128, and their relative standard deviation, (y, chain)."""

    gain: NDArray[np.complex128]
    deviation: NDArray[np.float64]


def measure(observation: NDArray[Any], expected: NDArray[Any]) -> Measured:
    """Return the gains of chains from slots with one sender in a known direction.

    observation: (slot, y, chain) complex [sqrt(W)], at least two slots
    expected: (y, chain) complex, what ideal chains see of it
    returns the gains; of a chain that sees the sender too little to tell, one
    raises ShapeError
    source: the module's
    """
    if observation.ndim != 3 or len(observation) < 2 or observation.shape[1:] != expected.shape:
        raise ShapeError(
            f"calibration: observation is {observation.shape}; wanted (slot, y, chain) of at least 2 slots "
            f"and {expected.shape}"
        )
    y = observation.reshape(len(observation), -1).astype(np.complex128)
    _, strength, right = np.linalg.svd(y, full_matrices=False)
    ideal = expected.ravel().astype(np.complex128)
    lit = np.abs(ideal) > 0
    gain = np.divide(right[0], ideal, out=np.ones_like(ideal), where=lit)
    noise_var = np.sum(strength[1:] ** 2) / ((len(y) - 1) * max(y.shape[1] - 1, 1))
    # ||g o e|| is one here: gains of mean square one would be as large as ||e|| times that
    scale = strength[0] * np.abs(ideal) / max(float(np.linalg.norm(ideal)), 1e-300)
    deviation = np.divide(np.sqrt(noise_var), scale, out=np.full(len(ideal), DARKEST), where=scale > 0)
    bright = deviation < DARK
    gain = np.where(bright, gain / _common(gain[bright]), 1)
    return Measured(gain.reshape(expected.shape), np.minimum(deviation, DARKEST).reshape(expected.shape))


def _common(gain: NDArray[Any]) -> complex:
    """Return the factor that leaves gains of mean square one whose mean is real."""
    if not len(gain):
        return 1.0
    return complex(np.sqrt(np.mean(np.abs(gain) ** 2)) * np.exp(1j * np.angle(np.mean(gain))))


class Calibrated(BaseModel):
    """A calibration as its file holds it.

    direction: (u, v) that it was measured from, None where it was made otherwise    slots: how many were used
    gain: (y, chain), linear    phase: (y, chain) [rad]
    """

    model_config = _DECLARED

    format: Literal["beamslot calibration"] = FORMAT
    version: Literal[1] = FORMAT_VERSION
    direction: tuple[float, float] | None = None
    slots: int = Field(0, ge=0)
    gain: list[list[Annotated[float, Field(gt=0)]]] = Field(min_length=1)
    phase: list[list[float]]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        lengths = {len(row) for row in self.gain} | {len(row) for row in self.phase}
        if len(lengths) != 1 or len(self.gain) != len(self.phase):
            raise ValueError("gain and phase differ in shape, or have rows that do; wanted (y, chain), both")
        return self

    @classmethod
    def of(cls, gain: NDArray[Any], **given: Any) -> Self:
        """Return complex gains, (y, chain), as a file holds them."""
        return cls(gain=np.abs(gain).tolist(), phase=np.angle(gain).tolist(), **given)

    @property
    def factors(self) -> NDArray[np.complex128]:
        """The complex gains, (y, chain)."""
        return np.array(self.gain) * np.exp(1j * np.array(self.phase))


def save_calibration(path: Path, calibrated: Calibrated) -> None:
    """Write a calibration as JSON; a file in place is replaced, once the new one is whole.

    raises StorageError with the path and why it cannot be written
    """
    files.save(path, calibrated)


def load_calibration(path: Path) -> Calibrated:
    """Return the calibration of a file.

    raises StorageError where it cannot be read, VersionError for another version of the format, BadParam for any
    other content; each with the path
    """
    return files.load(path, Calibrated, FORMAT, FORMAT_VERSION, "calibration")
