"""Linear MMSE with the true angles and the true mean powers: the floor of every NMSE plot.

| symbol | name | meaning |
|---|---|---|
| A | atoms | F_a a_R(u_k, v_k) of every path |
| P | power | diag of the mean powers E |alpha_k|^2 |
| alpha | gain | P^1/2 (P^1/2 A^H A P^1/2 + sigma_w^2 I)^-1 P^1/2 A^H y |
| sigma_w^2 | noise_var | ||y - A alpha_LS||^2 / (N_RF - K) per complex entry of y, alpha_LS the gains of `OracleLs` |

Its error is E ||h_hat - h||^2 = sigma_w^2 tr(A_h C A_h^H), A_h the array responses a_R themselves and
C = P^1/2 (P^1/2 A^H A P^1/2 + sigma_w^2 I)^-1 P^1/2. Gains are taken as uncorrelated and of zero mean, as independent
uniform phases make them; of all linear estimators that is the least error.

source: paper 004, eqs. (1)-(3). Decision: the print has no such bound. The noise is learned here too: with 384
observations and 10 paths its variance is known to 5 %, which costs less than 0.01 dB
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamslot.dsp.combine import combine_separable, distinct
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.geometry import gram, render, steering
from beamslot.errors import ShapeError
from beamslot.frame import Geometry, Operator

_RANK_TOLERANCE = 1e-12


class OracleMmse:
    """Gains by linear MMSE at angles and with mean powers that are handed in.

    geometry, operator: the array and F_a; the noise variance in the operator is not used
    """

    def __init__(self, geometry: Geometry, operator: Operator) -> None:
        self._geometry = geometry
        self._columns = distinct(operator.weights)
        self._shape = operator.weights.shape[:2]
        self._rows = int(np.any(operator.weights != 0, axis=-1).sum())

    def estimate(
        self,
        observation: NDArray[Any],
        power: NDArray[Any],
        u: NDArray[Any],
        v: NDArray[Any],
        mask: NDArray[np.bool_],
        *,
        noise_var: ArrayLike | None = None,
    ) -> Estimate:
        """Return the channels of a batch.

        observation: (..., y, chain) complex [sqrt(W)]    power: (..., path) E |alpha_k|^2 [W]
        u, v: (..., path) true direction coordinates    mask: (..., path) bool, which paths exist
        noise_var: () or (...) [W], the true variance per complex entry of y, to see what learning it costs; None learns
        returns the estimate; error_var is the closed form above with the noise variance used. A slot that is not finite
            comes back without paths, noise_var and error_var NaN
        raises ShapeError when the observation does not fit the operator
        source: paper 004, eqs. (1)-(3)
        """
        if observation.shape[-2:] != self._shape:
            raise ShapeError(
                f"OracleMmse: observation is {observation.shape}, wanted (..., {self._shape[0]}, {self._shape[1]})"
            )
        finite = np.asarray(np.all(np.isfinite(observation), axis=(-2, -1)))
        mask = np.asarray(mask) & finite[..., None]
        flat = observation.reshape(*finite.shape, self._shape[0] * self._shape[1])
        flat = np.where(finite[..., None], flat, 0).astype(np.complex128)
        columns = steering(self._geometry.n_y, u, self._geometry.spacing_y) * mask[..., None]
        rows = steering(self._geometry.n_z, v, self._geometry.spacing_z)
        atoms = combine_separable(columns, rows, *self._columns)
        products = gram(atoms)
        matched = np.einsum("...ln,...n->...l", atoms.conj(), flat)
        if noise_var is None:
            noise_var = self._noise(flat, products, matched, mask)
        noise = np.where(finite, noise_var, np.nan)
        covariance = _shrunk_inverse(products, np.sqrt(power) * mask, np.nan_to_num(noise))
        gain = np.einsum("...kl,...l->...k", covariance, matched)
        spread = np.einsum("...kl,...lk->...", covariance, gram(columns) * gram(rows)).real
        return Estimate(
            channel=render(gain, u, v, self._geometry, mask),
            gain=np.where(mask, gain, 0).astype(np.complex64),
            u=np.asarray(u, np.float32),
            v=np.asarray(v, np.float32),
            mask=mask,
            noise_var=noise.astype(np.float32),
            error_var=(noise * spread / self._geometry.antennas).astype(np.float32),
            iterations=np.ones(noise.shape, np.int32),
            converged=finite,
        )

    def _noise(
        self, flat: NDArray[Any], products: NDArray[Any], matched: NDArray[Any], mask: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        inverse = np.linalg.pinv(products, rcond=_RANK_TOLERANCE, hermitian=True)
        explained = np.einsum("...k,...kl,...l->...", matched.conj(), inverse, matched, optimize=True).real
        left = np.sum(np.abs(flat) ** 2, -1) - explained
        return np.maximum(left, 0) / np.maximum(self._rows - np.sum(mask, -1), 1)


def _shrunk_inverse(products: NDArray[Any], amplitude: NDArray[Any], noise: NDArray[Any]) -> NDArray[Any]:
    """P^1/2 (P^1/2 A^H A P^1/2 + sigma_w^2 I)^-1 P^1/2, which also holds where a power or the noise is zero."""
    scales = amplitude[..., :, None] * amplitude[..., None, :]
    values, vectors = np.linalg.eigh(products * scales)
    weight = np.maximum(values, 0) + noise[..., None]
    heard = weight > _RANK_TOLERANCE * weight.max(-1, initial=0, keepdims=True)
    inverse = np.divide(1, weight, out=np.zeros_like(weight), where=heard)
    return scales * ((vectors * inverse[..., None, :]) @ vectors.conj().swapaxes(-1, -2))
