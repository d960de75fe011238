"""What every estimator returns, in one shape, and what estimators share on the way there."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.geometry import render
from beamslot.errors import BadParam, ShapeError
from beamslot.frame import Geometry

Budget = Callable[[], bool]
"""Asked once an iteration whether time is up; then the best so far is wanted."""


@dataclass(frozen=True)
class Estimate:
    """Channels of a batch, the paths they were built from, and how the estimator got there.

    B stands for any leading axes (slot, user); K for the estimator's largest number of paths.

    channel: (B, y, z) complex64 [sqrt(W)], the full N_r-dimensional channel
    gain: (B, K) complex64 [sqrt(W)], path gains, 0 where masked out
    u, v: (B, K) float32, direction coordinates u = sin(theta) cos(phi), v = sin(phi)
    mask: (B, K) bool, which paths exist
    noise_var: (B,) float32 [W], estimated variance of w per complex entry of y
    error_var: (B,) float32 [W], predicted E ||h_hat - h||^2 / N_r per antenna
    iterations: (B,) int32    converged: (B,) bool
    """

    channel: NDArray[np.complex64]
    gain: NDArray[np.complex64]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    mask: NDArray[np.bool_]
    noise_var: NDArray[np.float32]
    error_var: NDArray[np.float32]
    iterations: NDArray[np.int32]
    converged: NDArray[np.bool_]


class Slot(NamedTuple):
    """One slot of an `Estimate` before its paths are padded: gain, u, v, mask (K,), the rest numbers."""

    gain: NDArray[np.complexfloating[Any, Any]]
    u: NDArray[np.floating[Any]]
    v: NDArray[np.floating[Any]]
    mask: NDArray[np.bool_]
    noise_var: float
    error_var: float
    iterations: int
    converged: bool


def spoilt() -> Slot:
    """Return what a slot that is not finite comes back as: no paths, no variances."""
    none = np.zeros(0)
    return Slot(none.astype(complex), none, none, none.astype(bool), np.nan, np.nan, 0, False)


def collect(slots: list[Slot], geometry: Geometry, max_paths: int, batch: tuple[int, ...]) -> Estimate:
    """Return the slots of a batch as one estimate, its channels rendered from the paths."""

    def paths(name: str, dtype: type[np.generic]) -> NDArray[Any]:
        table = np.zeros((len(slots), max_paths), dtype)
        for row, slot in zip(table, slots, strict=True):
            found = np.where(slot.mask, getattr(slot, name), 0)[:max_paths]
            row[: len(found)] = found
        return table.reshape(*batch, max_paths)

    def numbers(name: str, dtype: type[np.generic]) -> NDArray[Any]:
        return np.array([getattr(slot, name) for slot in slots], dtype).reshape(batch)

    gain, u, v = paths("gain", np.complex64), paths("u", np.float32), paths("v", np.float32)
    mask = paths("mask", np.bool_)
    return Estimate(
        channel=render(gain, u, v, geometry, mask),
        gain=gain,
        u=u,
        v=v,
        mask=mask,
        noise_var=numbers("noise_var", np.float32),
        error_var=numbers("error_var", np.float32),
        iterations=numbers("iterations", np.int32),
        converged=numbers("converged", np.bool_),
    )


def slots_of(name: str, observation: NDArray[Any], wanted: tuple[int, ...]) -> Iterable[NDArray[Any]]:
    """Return the slots of a batch, (y, chain) each; raises ShapeError in the name of an estimator."""
    if observation.shape[-2:] != wanted:
        raise ShapeError(f"{name}: observation is {observation.shape}, wanted (..., y, chain) = (..., {wanted})")
    return observation.reshape(-1, *wanted)


def refuse(*values: tuple[str, Any, str, bool]) -> None:
    """Raise BadParam with a line for each (name, value, wanted, whether it is so) that is not so."""
    problems = [f"{name} is {value!r}, wanted {wanted}" for name, value, wanted, ok in values if not ok]
    if problems:
        raise BadParam(*problems)


def blank(slots: int, max_paths: int, geometry: Geometry) -> Estimate:
    """Return an estimate of so many slots with nothing in it, to be filled in."""
    paths = (slots, max_paths)
    return Estimate(
        channel=np.zeros((slots, geometry.n_y, geometry.n_z), np.complex64),
        gain=np.zeros(paths, np.complex64),
        u=np.zeros(paths, np.float32),
        v=np.zeros(paths, np.float32),
        mask=np.zeros(paths, np.bool_),
        noise_var=np.zeros(slots, np.float32),
        error_var=np.zeros(slots, np.float32),
        iterations=np.zeros(slots, np.int32),
        converged=np.zeros(slots, np.bool_),
    )


def shaped(estimate: Estimate, batch: tuple[int, ...]) -> Estimate:
    """Return an estimate of slots in a row in the shape of its batch."""
    arrays = (getattr(estimate, name) for name in Estimate.__dataclass_fields__)
    return Estimate(*(array.reshape((*batch, *array.shape[1:])) for array in arrays))


def outside(found: Estimate, interval: tuple[float, float], tolerance: float = 0.01) -> NDArray[np.bool_]:
    """Return which slots hold a path beyond the interval of the beams that has more power than the error of the slot.

    What lies further out than an estimator searches may come back as an alias inside, and then nothing shows it: the
    flag is a hint that the interval is wrong, not a proof that it is right.

    interval: (v_min, v_max)    tolerance: how far beyond, in v
    returns (B,) bool
    """
    away = (found.v < interval[0] - tolerance) | (found.v > interval[1] + tolerance)
    strong = np.abs(found.gain) ** 2 > found.error_var[..., None]
    return np.any(found.mask & away & strong, axis=-1)
