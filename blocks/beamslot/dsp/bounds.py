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


def crb_channel_tracked(
    gain: NDArray[Any],
    u: NDArray[Any],
    v: NDArray[Any],
    operator: Operator,
    geometry: Geometry,
    noise_var_w: float,
    walk: float,
) -> NDArray[np.float64]:
    """Return the recursive bound of the channel in every slot, normalised, for who has seen all slots up to it.

    Directions walk at random, amplitudes |alpha_k| are fixed, phases are new in every slot: information on u, v and
    ln |alpha| is carried over and grows less by the walk, J_t = J + (J_{t-1}^-1 + Q)^-1.

    gain, u, v: (slot, path) of one channel, all its paths    noise_var_w: variance of w per complex entry [W]
    walk: rms change of u and of v from slot to slot
    returns (slot,) float64, linear; the first is that of `crb_channel`
    source: Tichavsky, Muravchik, Nehorai, IEEE TSP 46(5), 1998, eq. (21), for a linear state
    """
    slots, paths = gain.shape
    kept = 3 * paths  # u, v and ln |alpha|; behind them the phases
    change = np.repeat([walk**2, walk**2, 0.0], paths)
    known = np.zeros((4 * paths, 4 * paths))
    bounds = np.empty(slots)
    for slot in range(slots):
        information, spread, energy = _information(gain[slot], u[slot], v[slot], operator, geometry, noise_var_w)
        covariance = _inverse(information + known)
        bounds[slot] = np.sum(covariance * spread) / energy
        known[:kept, :kept] = _inverse(covariance[:kept, :kept] + np.diag(change))
    return bounds


def _information(
    gain: NDArray[Any], u: NDArray[Any], v: NDArray[Any], operator: Operator, geometry: Geometry, noise_var_w: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Fisher's information of one slot, Re{H^H H} and ||h||^2, by u, v, ln |alpha| and arg alpha."""
    gain = gain.astype(np.complex128)
    kinds_y, kinds_z = _slopes(gain, np.ones(len(gain), np.bool_), u, v, geometry)
    seen = _by_real_parameters(gram(combine_separable(kinds_y, kinds_z, *distinct(operator.weights))))
    products = gram(kinds_y) * gram(kinds_z)
    paths = len(gain)
    turn = np.eye(4 * paths)  # d alpha = alpha (d ln|alpha| + j d arg alpha)
    real, imaginary = np.diag(np.real(gain)), np.diag(np.imag(gain))
    turn[2 * paths :, 2 * paths :] = np.block([[real, -imaginary], [imaginary, real]])
    energy = float(np.real(gain.conj() @ products[2 * paths :, 2 * paths :] @ gain))
    return 2 / noise_var_w * turn.T @ seen @ turn, turn.T @ _by_real_parameters(products) @ turn, energy


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
    """tr(information^+ spread)."""
    return np.einsum("...kl,...kl->...", _inverse(information), spread)


def _inverse(information: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pseudo-inverse, the parameters scaled to unit information first since their units differ."""
    scale = np.sqrt(np.diagonal(information, axis1=-2, axis2=-1))
    scale = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    scales = scale[..., :, None] * scale[..., None, :]
    values, vectors = np.linalg.eigh(information * scales)
    inverse = np.divide(1, values, out=np.zeros_like(values), where=values > _RANK_TOLERANCE)
    return (vectors * inverse[..., None, :]) @ vectors.swapaxes(-1, -2) * scales
