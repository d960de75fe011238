"""Root-MUSIC: the users are roots of the null spectrum's polynomial next to the unit circle.

| symbol | name | meaning |
|---|---|---|
| c_l | sums | diagonal sums of the noise projector, c_(-l) = c_l* |
| p(z) | | sum_l c_l z^(l + L - 1), degree 2 L - 2; with z also 1 / z* is a root |

source: Barabell, ICASSP 1983; Rao and Hari, IEEE Trans. ASSP 37(12), 1989
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import SUBARRAY, angles_of, diagonal_sums, noise_projector, signal_subspace
from beamslot.dsp.ula import Complex, Real


def root_music(observation: NDArray[Any], users: int, spacing: float = 0.5, *, subarray: int | None = None) -> Real:
    """Return the angles of the K roots next to the unit circle.

    observation: (F, M, N)    users: K    subarray: L, for forward-backward spatial smoothing; None for none
    returns (F, K) ascending [rad]
    source: the module's
    """
    signal = signal_subspace(observation, users, subarray)
    return angles_of(phases(noise_projector(signal), users), spacing)


def fbss_root_music(observation: NDArray[Any], users: int, spacing: float = 0.5, *, subarray: int = SUBARRAY) -> Real:
    """Return root-MUSIC of the smoothed covariance, which coherent users do not deceive.

    observation: (F, M, N)    users: K, fewer than L    subarray: L    returns (F, K) ascending [rad]
    source: the module's; `covariance.spatially_smoothed`
    """
    return root_music(observation, users, spacing, subarray=subarray)


def phases(projector: Complex, users: int) -> Real:
    """Return the phases of the K pairs of roots of p next to the unit circle.

    projector: (F, L, L) Hermitian, not negative    users: K, fewer than L    returns (F, K) [rad], unordered
    """
    upper = diagonal_sums(projector)
    return next_to_circle(roots(np.concatenate([upper[..., :0:-1].conj(), upper], axis=-1)), users)


def roots(coefficients: Complex) -> Complex:
    """Return the roots of polynomials, as eigenvalues of their companion matrices.

    coefficients: (F, n + 1), of 1, z, .., z^n; a leading one that vanishes is raised to rounding of the largest
    returns (F, n), unordered
    """
    degree = coefficients.shape[-1] - 1
    largest = np.abs(coefficients).max(axis=-1, keepdims=True)
    least = np.maximum(np.finfo(np.float64).eps * largest, np.finfo(np.float64).tiny)
    leading = coefficients[..., -1:]
    leading = np.where(np.abs(leading) < least, least, leading)
    companion = np.zeros((*coefficients.shape[:-1], degree, degree), np.complex128)
    companion[..., np.arange(1, degree), np.arange(degree - 1)] = 1
    companion[..., 0, :] = -coefficients[..., -2::-1] / leading
    found: Any = np.linalg.eigvals(companion)
    return found


def next_to_circle(found: Complex, users: int) -> Real:
    """Return the phases of K roots next to the unit circle, of roots that come in pairs z, 1 / z*.

    A root is taken with its mate, so that none counts twice; without noise, where the two of a pair are one double root
    that rounding has torn apart, their mean phase is right to rounding.

    found: (F, 2 n), K at most n    returns (F, K) [rad], unordered
    """
    distance = np.abs(np.log(np.maximum(np.abs(found), np.finfo(np.float64).tiny)))
    direction = np.exp(1j * np.angle(found))
    phase = np.empty((*found.shape[:-1], users))
    for user in range(users):
        best = np.argmin(distance, axis=-1)[..., None]
        root = np.take_along_axis(found, best, axis=-1)
        np.put_along_axis(distance, best, np.inf, axis=-1)
        away = np.where(np.isinf(distance), np.inf, np.abs(found * root.conj() - 1))
        mate = np.argmin(away, axis=-1)[..., None]
        np.put_along_axis(distance, mate, np.inf, axis=-1)
        both = np.take_along_axis(direction, best, axis=-1) + np.take_along_axis(direction, mate, axis=-1)
        phase[..., user] = np.angle(both[..., 0])
    return phase
