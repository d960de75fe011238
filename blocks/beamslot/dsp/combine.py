"""The analog combiner of a partially connected front end, by its structure: F_a is never formed.

| symbol | name | meaning |
|---|---|---|
| F_a | weights | (y, chain, m): what chain t of column n multiplies onto antennas t m .. t m + m - 1 |
| y = F_a h | combine | what the RF chains see |
| F_a^H y | expand | the adjoint |
| D_{g,t}(v) | response | chain t of group g on a_z(v), so y[n, t] = sum_k alpha_k [a_y(u_k)]_n D_{g(n),t}(v_k) |

source: paper 004, eqs. (1), (2), (5), (6)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.geometry import steering
from beamslot.errors import ShapeError


def combine(field: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Return y = F_a h without forming F_a.

    field: (..., y, z) complex [sqrt(W)]    weights: (y, chain, m) complex, z == chain * m
    returns (..., y, chain) complex [sqrt(W)]; white noise of variance sigma^2 in `field` leaves with m sigma^2
    raises ShapeError when the two do not fit
    source: paper 004, eqs. (1)-(2)
    """
    n_y, chain, m = weights.shape
    if field.shape[-2:] != (n_y, chain * m):
        raise ShapeError(f"combine: field is {field.shape}, weights {weights.shape} want (..., {n_y}, {chain * m})")
    products = weights * field.reshape(*field.shape[:-1], chain, m)
    # A matrix-vector product with ones sums a short last axis several times faster than sum() or an einsum.
    return (products.reshape(-1, m) @ np.ones(m, products.dtype)).reshape(products.shape[:-1])


def expand(observation: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Return F_a^H y, the adjoint of `combine`.

    observation: (..., y, chain) complex [sqrt(W)]    weights: (y, chain, m) complex
    returns (..., y, z) complex [sqrt(W)], z == chain * m
    raises ShapeError when the two do not fit
    source: paper 004, eq. (2)
    """
    n_y, chain, m = weights.shape
    if observation.shape[-2:] != (n_y, chain):
        raise ShapeError(
            f"expand: observation is {observation.shape}, weights {weights.shape} want (..., {n_y}, {chain})"
        )
    return (observation[..., None] * weights.conj()).reshape(*observation.shape[:-1], chain * m)


def dense(weights: NDArray[Any]) -> NDArray[Any]:
    """Return F_a as a matrix, for tests and small arrays: one entry in y * chain is non-zero.

    weights: (y, chain, m) complex
    returns (y * chain, y * chain * m) complex; rows and columns in the C order of (y, chain) and (y, z)
    source: paper 004, eqs. (2), (5)
    """
    n_y, chain, m = weights.shape
    rows = np.eye(n_y * chain, dtype=weights.dtype)[:, :, None] * weights.reshape(n_y * chain, 1, m)
    return rows.reshape(n_y * chain, -1)


def distinct(weights: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the different column beams, and which of them each column uses.

    weights: (y, chain, m) complex
    returns tables: (group, chain, m), which: (y,) int, with tables[which] equal to weights
    """
    flat, which = np.unique(weights.reshape(weights.shape[0], -1), axis=0, return_inverse=True)
    return flat.reshape(-1, *weights.shape[1:]), which.reshape(-1)


def project(weights: NDArray[Any], rows: NDArray[Any]) -> NDArray[Any]:
    """Return what each chain sees of a field that varies along the rows only.

    weights: (group, chain, m) complex, of every column or (`distinct`) of every different one
    rows: (..., path, z) complex, z == chain * m
    returns (..., path, group, chain) complex
    source: paper 004, eq. (6)
    """
    _, chain, m = weights.shape
    parts = np.swapaxes(rows.reshape(*rows.shape[:-1], chain, m), -3, -2)
    return (parts @ weights.transpose(1, 2, 0)).swapaxes(-3, -2).swapaxes(-2, -1)


def combine_separable(
    columns: NDArray[Any], rows: NDArray[Any], tables: NDArray[Any], which: NDArray[np.intp]
) -> NDArray[Any]:
    """Return F_a (columns (x) rows) of every path, without the field.

    columns: (..., path, y) complex    rows: (..., path, z) complex
    tables, which: (group, chain, m) and (y,) as `distinct` returns them
    returns (..., path, y * chain) complex
    source: paper 004, eqs. (3), (6)
    """
    seen = columns[..., None] * project(tables, rows)[..., which, :]
    return seen.reshape(*columns.shape[:-1], seen.shape[-2] * seen.shape[-1])


def response(weights: NDArray[Any], v: NDArray[Any], spacing: float = 0.5) -> NDArray[np.complex128]:
    """Return what each chain sees of a unit path, D_{g,t}(v) = sum_m weights[g, t, m] exp(j 2 pi spacing (t M + m) v).

    With it y[n, t] = sum_k alpha_k exp(j 2 pi spacing_y n u_k) D_{g(n),t}(v_k): no dictionary is ever needed.

    weights: (group, chain, m) complex, of every column or (`distinct`) of every different one
    v: (..., path) direction coordinate along the rows    spacing: row spacing [wavelengths]
    returns (..., group, chain, path) complex128
    source: paper 004, eqs. (3), (6)-(8)
    """
    rows = steering(weights.shape[1] * weights.shape[2], v, spacing)
    return project(weights, rows).swapaxes(-3, -2).swapaxes(-2, -1)
