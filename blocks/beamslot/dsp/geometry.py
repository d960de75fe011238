"""Array geometry: directions, steering vectors and the plane-wave field of a set of paths.

| symbol | name | meaning |
|---|---|---|
| theta, phi | azimuth, elevation | direction of arrival [rad] |
| u = sin(theta) cos(phi), v = sin(phi) | u, v | direction coordinates along the columns and the rows |
| a_y, a_z | steering | array responses, entries of unit modulus, so their norms are sqrt(N_y) and sqrt(N_z) |
| alpha_k | gain | complex gain of path k at antenna (0, 0) |

source: paper 004, eq. (3)
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamslot.frame import Geometry

_STRIDE = 8


def directions(azimuth: ArrayLike, elevation: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the direction coordinates (u, v) of an azimuth and an elevation.

    azimuth, elevation: (...) [rad], 0 at broadside
    returns u, v: (...) float64, sin(azimuth) cos(elevation) and sin(elevation)
    """
    elevation = np.asarray(elevation, np.float64)
    return np.sin(azimuth) * np.cos(elevation), np.sin(elevation)


def steering(n: int, coordinate: ArrayLike, spacing: float = 0.5) -> NDArray[np.complex128]:
    """Return the response of a uniform line of elements, exp(j 2 pi spacing k coordinate), k = 0..n-1.

    n: number of elements
    coordinate: (...) direction coordinate along the line
    spacing: element spacing [wavelengths]
    returns (..., n) complex128, unit modulus (norm sqrt(n)), phase reference at element 0
    source: paper 004, eq. (3)
    """
    step = 2j * np.pi * spacing * np.asarray(coordinate, np.float64)[..., None]
    if n <= 2 * _STRIDE:
        return np.exp(step * np.arange(n))
    # k = 8a + b splits the exponential into a product: n/8 + 8 transcendentals instead of n.
    coarse = np.exp(step * np.arange(0, n, _STRIDE))
    fine = np.exp(step * np.arange(_STRIDE))
    full = coarse[..., :, None] * fine[..., None, :]
    return full.reshape(*full.shape[:-2], coarse.shape[-1] * _STRIDE)[..., :n]


def render(
    gain: NDArray[Any], u: NDArray[Any], v: NDArray[Any], geometry: Geometry, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.complex64]:
    """Return the field h[n, z] = sum_k gain_k exp(j 2 pi d_y n u_k) exp(j 2 pi d_z z v_k) at the antennas.

    gain: (..., path) complex [sqrt(W)]    u, v: (..., path) direction coordinates
    geometry: the array    mask: (..., path) bool, paths to leave out are False
    returns (..., y, z) complex64 [sqrt(W)]
    source: paper 004, eq. (3)
    """
    kept = gain if mask is None else np.where(mask, gain, 0)
    columns = steering(geometry.n_y, u, geometry.spacing_y).astype(np.complex64)
    rows = steering(geometry.n_z, v, geometry.spacing_z).astype(np.complex64)
    weighted = columns * kept.astype(np.complex64)[..., None]
    return np.matmul(weighted.swapaxes(-1, -2), rows, dtype=np.complex64)


def gram(vectors: NDArray[Any]) -> NDArray[Any]:
    """Return the inner products <x_k, x_l> = x_k^H x_l of a set of vectors.

    vectors: (..., path, n) complex
    returns (..., path, path) complex, Hermitian
    """
    return vectors.conj() @ np.swapaxes(vectors, -1, -2)
