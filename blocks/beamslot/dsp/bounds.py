"""Cramer-Rao bound of the channel behind an analog combiner, from the true paths.

| symbol | name | meaning |
|---|---|---|
| mu | columns of the Jacobian | u_k, v_k, Re alpha_k, Im alpha_k of every path |
| J | information | Fisher information, (2 / sigma_w^2) Re{(d F_a h / d mu)^H (d F_a h / d mu)} |
| sigma_w^2 | noise_var_w | noise variance per complex entry of y = F_a h + w, M times that of an antenna |

Bound: E ||h_hat - h||^2 >= tr(H J^-1 H^H), H = dh / dmu, for unbiased estimators that know the number of paths but no
angle and no gain. It is the same whether sigma_w^2 is known or not, since J is then block-diagonal.

source: paper 004, eq. (38), for all paths and both coordinates
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamslot.dsp.combine import combine_separable, distinct
from beamslot.dsp.geometry import gram, steering
from beamslot.frame import Geometry, Operator

_RANK_TOLERANCE = 1e-12


def crb_channel(
    gain: NDArray[Any],
    u: NDArray[Any],
    v: NDArray[Any],
    mask: NDArray[np.bool_],
    operator: Operator,
    geometry: Geometry,
    noise_var_w: ArrayLike,
) -> NDArray[np.float64]:
    """Return the Cramer-Rao bound of the channel, normalised: the least E ||h_hat - h||^2 / ||h||^2.

    Paths too close to tell apart count with the parameters that they share (a pseudo-inverse of J).

    gain: (..., path) complex [sqrt(W)]    u, v: (..., path)    mask: (..., path) bool, which paths exist
    operator, geometry: F_a and its array    noise_var_w: () or (...), variance of w per complex entry [W]
    returns (...) float64, linear; 0 where there is no path
    source: paper 004, eq. (38)
    """
    gain = np.where(mask, gain, 0).astype(np.complex128)
    kinds_y, kinds_z = _slopes(gain, mask, u, v, geometry)
    seen = gram(combine_separable(kinds_y, kinds_z, *distinct(operator.weights)))
    field = gram(kinds_y) * gram(kinds_z)
    trace = _trace_of_ratio(_by_real_parameters(seen), _by_real_parameters(field))
    error = np.asarray(noise_var_w, np.float64) / 2 * trace
    paths = gain.shape[-1]
    energy = np.einsum("...k,...kl,...l->...", gain.conj(), field[..., 2 * paths :, 2 * paths :], gain).real
    return np.divide(error, energy, out=np.zeros_like(error), where=energy > 0)


def _slopes(
    gain: NDArray[np.complex128], mask: NDArray[np.bool_], u: NDArray[Any], v: NDArray[Any], geometry: Geometry
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """dh/du, dh/dv and dh/d(Re alpha) of every path as outer products of (..., 3 path, y) and (..., 3 path, z)."""
    columns = steering(geometry.n_y, u, geometry.spacing_y)
    rows = steering(geometry.n_z, v, geometry.spacing_z)
    slope_y = 2j * np.pi * geometry.spacing_y * np.arange(geometry.n_y)
    slope_z = 2j * np.pi * geometry.spacing_z * np.arange(geometry.n_z)
    moved = columns * gain[..., None]
    kinds_y = np.concatenate([moved * slope_y, moved, columns * np.asarray(mask)[..., None]], -2)
    return kinds_y, np.concatenate([rows, rows * slope_z, rows], -2)


def _by_real_parameters(products: NDArray[np.complex128]) -> NDArray[np.float64]:
    """From the Gram matrix by (u, v, alpha) to its real part by (u, v, Re alpha, Im alpha)."""
    paths = products.shape[-1] // 3
    index = np.r_[: 3 * paths, 2 * paths : 3 * paths]
    factor = np.r_[np.ones(3 * paths), np.full(paths, 1j)]
    return (factor.conj()[:, None] * factor * products[..., index[:, None], index]).real


def _trace_of_ratio(information: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """tr(information^+ spread), the parameters scaled to unit information first since their units differ."""
    scale = np.sqrt(np.diagonal(information, axis1=-2, axis2=-1))
    scale = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    scales = scale[..., :, None] * scale[..., None, :]
    values, vectors = np.linalg.eigh(information * scales)
    kept = values > _RANK_TOLERANCE
    inverse = np.divide(1, values, out=np.zeros_like(values), where=kept)
    return np.einsum("...ki,...kl,...li,...i->...", vectors, spread * scales, vectors, inverse, optimize=True)
