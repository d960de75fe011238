"""Cramer-Rao bounds of the angles and gains of users in front of a uniform linear array.

| symbol | name | meaning |
|---|---|---|
| A, D | response, slope | (N, K) steering vectors, and their derivatives in theta |
| P_A | | projection onto the columns of A |
| h_m | gain | (K,) gains in snapshot m |
| P | covariance | (K, K) E h h^H, of gains without mean |
| sigma^2 | noise_var | variance of an entry of the noise |
| beta_m, psi_m | | path gains abs(h_m) and path angles arg(h_m) |

Conditional: the gains are unknown numbers, and the bound is that of the frame at hand. Unconditional: the gains are
draws of CN(0, P), P unknown; with many snapshots it is the higher one and, at low SNR, the one that can be reached.
Both are the same whether sigma^2 is known or not. Bounds over frames are averaged as variances, and only then is the
root taken. With one or two snapshots that mean is governed by few faded frames: take medians.

source: Stoica and Nehorai, IEEE Trans. ASSP 37(5), 1989 (conditional) and 38(10), 1990 (unconditional)
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamslot.dsp.ula import array_response
from beamslot.errors import ShapeError

Complex = NDArray[np.complex128]
Real = NDArray[np.float64]

_RANK_TOLERANCE = 1e-12
"""Eigenvalues of an information matrix with a diagonal of ones below which its parameters cannot be told apart."""


class GainBounds(NamedTuple):
    """Bounds of what a user's gain is, (..., M, K) each.

    gain: of the path gain beta    angle: of the path angle psi [rad^2], infinite where the gain is 0
    """

    gain: Real
    angle: Real


def crb_conditional(
    theta: ArrayLike, gain: NDArray[Any], noise_var: ArrayLike, antennas: int, spacing: float = 0.5
) -> Real:
    """Return the conditional bound of the variances of the angles, given the gains of the frame.

    theta: (..., K) [rad]    gain: (..., M, K) complex    noise_var: (...)    spacing: d [wavelengths]
    returns (..., K) [rad^2]; infinite for a user whose angle the frame does not tell
    raises ShapeError where the gains are not of these users
    source: Stoica and Nehorai 1989
    """
    theta, gain = _checked("crb_conditional", theta, gain)
    return _variances(_information(_products(theta, antennas, spacing), gain, noise_var))


def crb_unconditional(
    theta: ArrayLike,
    covariance: NDArray[Any],
    noise_var: ArrayLike,
    antennas: int,
    snapshots: int,
    spacing: float = 0.5,
) -> Real:
    """Return the unconditional bound of the variances of the angles, for gains drawn from CN(0, P).

    Gains with a mean of unknown phase are not of this kind; P = E h h^H then gives the bound of what second moments
    tell.

    theta: (..., K) [rad]    covariance: (..., K, K) P, singular where users are coherent    noise_var: (...)
    snapshots: M    spacing: d [wavelengths]
    returns (..., K) [rad^2]; infinite for a user whose angle the frame does not tell
    raises ShapeError where the covariance is not of these users
    source: Stoica and Nehorai 1990
    """
    theta = np.asarray(theta, np.float64)
    if np.shape(covariance)[-2:] != theta.shape[-1:] * 2:
        raise ShapeError(f"crb_unconditional: covariance is {np.shape(covariance)}, angles are {theta.shape}")
    gram, _, inner = _products(theta, antennas, spacing)
    noise = np.asarray(noise_var, np.float64)[..., None, None]
    loaded = noise * np.eye(theta.shape[-1]) + covariance @ gram
    # P A^H R^-1 A P, the inverse of R = A P A^H + sigma^2 I taken among the users
    seen = covariance @ gram @ np.linalg.solve(loaded, covariance * np.ones_like(loaded))
    information = 2 * snapshots / noise * (inner * np.swapaxes(seen, -1, -2)).real
    return _variances(information)


def crb_gain(
    theta: ArrayLike, gain: NDArray[Any], noise_var: ArrayLike, antennas: int, spacing: float = 0.5
) -> GainBounds:
    """Return the conditional bounds of path gains and path angles where the angles are unknown as well.

    The bound of a path angle grows without limit as its gain fades, whereas a wrapped error does not: over Rayleigh
    gains compare medians.

    theta: (..., K) [rad]    gain: (..., M, K) complex    noise_var: (...)    spacing: d [wavelengths]
    raises ShapeError where the gains are not of these users
    source: Stoica and Nehorai 1989, in the polar coordinates of paper 000, eq. (13)
    """
    theta, gain = _checked("crb_gain", theta, gain)
    products = _products(theta, antennas, spacing)
    inverse = _pinv(products[0])
    noise = np.asarray(noise_var, np.float64)[..., None, None]
    own = noise / 2 * np.diagonal(inverse.real, axis1=-2, axis2=-1)[..., None, :]
    # how the gains of a snapshot follow the angles, turned so that the real part is along the gain
    follow = (inverse @ products[1])[..., None, :, :] * gain[..., None, :]
    size = np.abs(gain)
    turned = follow * np.divide(gain.conj(), size, out=np.ones_like(gain), where=size > 0)[..., None]
    angles = _inverse(_information(products, gain, noise_var))[0]
    along, across = (
        own + np.einsum("...mki,...ij,...mkj->...mk", part, angles, part) for part in (turned.real, turned.imag)
    )
    return GainBounds(along, np.divide(across, size**2, out=np.full_like(size, np.inf), where=size > 0))


def _checked(where: str, theta: ArrayLike, gain: NDArray[Any]) -> tuple[Real, Complex]:
    theta, gain = np.asarray(theta, np.float64), np.asarray(gain, np.complex128)
    if gain.ndim < 2 or gain.shape[-1] != theta.shape[-1]:
        raise ShapeError(f"{where}: gain is {gain.shape}, angles are {theta.shape}; wanted (..., M, K) and (..., K)")
    return theta, gain


def _products(theta: Real, antennas: int, spacing: float) -> tuple[Complex, Complex, Complex]:
    """A^H A, A^H D and D^H (I - P_A) D, (..., K, K) each."""
    response = array_response(theta, antennas, spacing)
    slope = 2j * np.pi * spacing * np.cos(theta)[..., None] * np.arange(antennas) * response
    gram, cross = (response.conj() @ np.swapaxes(other, -1, -2) for other in (response, slope))
    seen = np.swapaxes(cross.conj(), -1, -2) @ _pinv(gram) @ cross
    return gram, cross, slope.conj() @ np.swapaxes(slope, -1, -2) - seen


def _pinv(gram: Complex) -> Complex:
    inverse: Any = np.linalg.pinv(gram, rcond=_RANK_TOLERANCE, hermitian=True)
    return inverse


def _information(products: tuple[Complex, Complex, Complex], gain: Complex, noise_var: ArrayLike) -> Real:
    """What a frame says of the angles with its gains unknown, (..., K, K)."""
    power = np.swapaxes(gain.conj(), -1, -2) @ gain
    return 2 / np.asarray(noise_var, np.float64)[..., None, None] * (products[2] * power).real


def _variances(information: Real) -> Real:
    inverse, dark = _inverse(information)
    return np.where(dark, np.inf, np.diagonal(inverse, axis1=-2, axis2=-1))


def _inverse(information: Real) -> tuple[Real, NDArray[np.bool_]]:
    """J^-1 among what J tells, and which parameters (..., K) it does not tell."""
    scale = np.sqrt(np.maximum(np.diagonal(information, axis1=-2, axis2=-1), 0))
    scale = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    values, vectors = np.linalg.eigh(information * scale[..., :, None] * scale[..., None, :])
    told = values > _RANK_TOLERANCE
    weighted = vectors * np.divide(1, values, out=np.zeros_like(values), where=told)[..., None, :]
    inverse = weighted @ np.swapaxes(vectors, -1, -2) * scale[..., :, None] * scale[..., None, :]
    return inverse, np.any((vectors**2 > _RANK_TOLERANCE) & ~told[..., None, :], axis=-1)
