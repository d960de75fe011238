"""Gains of users at given angles: by least squares, and with their prior.

| symbol | name | meaning |
|---|---|---|
| A, G | atoms, gram | (F, K, N) responses, a row each, and their inner products A^H A, (F, K, K) |
| h_m | gain | (F, M, K), of snapshot m |
| mu, Sigma | mean, covariance | prior of h_m |

source: paper 000, eqs. (15), (32), Prop. 3. Deviation: as printed, both begin with A^H A h_m, which is not observable;
what is observed in its place is A^H y_m
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamslot.dsp.geometry import gram
from beamslot.dsp.ula import Complex, Real, array_response

_RANK = 1e-9
"""Added to what is inverted, relative to its diagonal."""


class Posterior(NamedTuple):
    """Gaussian posterior of the gains: mean (F, M, K), and covariance (F, K, K), the same for all snapshots."""

    mean: Complex
    covariance: Complex


def least_squares(theta: Real, observation: NDArray[Any], spacing: float = 0.5) -> Complex:
    """Return h_m = (A^H A)^-1 A^H y_m.

    theta: (F, K) [rad]    observation: (F, M, N)    returns (F, M, K)
    source: paper 000, VI, "LS gains"
    """
    atoms = array_response(theta, observation.shape[-1], spacing)
    paths, antennas = atoms.shape[-2:]
    inverse: Any = np.linalg.inv(gram(atoms) + _RANK * antennas * np.eye(paths))
    return np.asarray(observation) @ np.swapaxes(inverse @ atoms.conj(), -1, -2)


def posterior(
    theta: Real,
    observation: NDArray[Any],
    mean: ArrayLike,
    covariance: ArrayLike,
    noise_var: ArrayLike,
    spacing: float = 0.5,
) -> Posterior:
    """Return the posterior of the gains: Sigma_hat = (Sigma^-1 + G / sigma^2)^-1, and its mean.

    It is formed without Sigma^-1, so that coherent users, whose Sigma is singular, need no special case.

    theta: (F, K) [rad]    observation: (F, M, N)    mean: mu, (K,) or (F, K)    covariance: Sigma, (K, K) or (F, K, K)
    noise_var: sigma^2, () or (F,)
    source: paper 000, Prop. 3 and eq. (15), with A^H y_m in place of A^H A h_m
    """
    atoms = array_response(theta, observation.shape[-1], spacing)
    own = gram(atoms)
    mean = np.asarray(mean, np.complex128)[..., None, :]
    noise = np.asarray(noise_var, np.float64)[..., None, None]
    prior = np.asarray(covariance, np.complex128)
    spread: Any = prior @ np.linalg.inv(np.eye(own.shape[-1]) + own @ prior / noise)
    spread = (spread + np.swapaxes(spread.conj(), -1, -2)) / 2
    surprise = np.asarray(observation) @ np.swapaxes(atoms.conj(), -1, -2) - mean @ np.swapaxes(own, -1, -2)
    return Posterior(mean + surprise @ np.swapaxes(spread, -1, -2) / noise, spread)
