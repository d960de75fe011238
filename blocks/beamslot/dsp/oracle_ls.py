"""Least squares with the true angles: what no estimator that must find the angles can beat without a prior.

| symbol | name | meaning |
|---|---|---|
| A | atoms | F_a a_R(u_k, v_k) of every path |
| alpha | gain | (A^H A)^-1 A^H y |
| sigma_w^2 | noise_var | ||y - A alpha||^2 / (N_RF - K) per complex entry of y |

Its error is E ||h_hat - h||^2 = sigma_w^2 tr(A_h (A^H A)^-1 A_h^H), A_h the array responses a_R themselves.

source: paper 004, eqs. (1)-(3)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.combine import combine_separable, distinct
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.geometry import gram, render, steering
from beamslot.errors import ShapeError
from beamslot.frame import Geometry, Operator

_RANK_TOLERANCE = 1e-12


class OracleLs:
    """Gains by least squares at angles that are handed in.

    geometry, operator: the array and F_a; the noise variance in the operator is not used
    """

    def __init__(self, geometry: Geometry, operator: Operator) -> None:
        self._geometry = geometry
        self._columns = distinct(operator.weights)
        self._shape = operator.weights.shape[:2]
        self._rows = int(np.any(operator.weights != 0, axis=-1).sum())

    def estimate(
        self, observation: NDArray[Any], u: NDArray[Any], v: NDArray[Any], mask: NDArray[np.bool_]
    ) -> Estimate:
        """Return the channels of a batch.

        observation: (..., y, chain) complex [sqrt(W)]
        u, v: (..., path) true direction coordinates    mask: (..., path) bool, which paths exist
        returns the estimate; error_var is the closed form above with the estimated noise variance
        raises ShapeError when the observation does not fit the operator
        source: paper 004, eqs. (1)-(3)
        """
        if observation.shape[-2:] != self._shape:
            raise ShapeError(
                f"OracleLs: observation is {observation.shape}, wanted (..., {self._shape[0]}, {self._shape[1]})"
            )
        columns = steering(self._geometry.n_y, u, self._geometry.spacing_y) * np.asarray(mask)[..., None]
        rows = steering(self._geometry.n_z, v, self._geometry.spacing_z)
        atoms = combine_separable(columns, rows, *self._columns)
        inverse = np.linalg.pinv(gram(atoms), rcond=_RANK_TOLERANCE, hermitian=True)
        flat = observation.reshape(*observation.shape[:-2], self._shape[0] * self._shape[1])
        gain = np.where(mask, np.einsum("...kl,...ln,...n->...k", inverse, atoms.conj(), flat, optimize=True), 0)
        residual = flat - np.einsum("...k,...kn->...n", gain, atoms)
        freedom = np.maximum(self._rows - np.sum(mask, -1), 1)
        noise_var = np.sum(np.abs(residual) ** 2, -1) / freedom
        spread = np.einsum("...kl,...lk->...", inverse, gram(columns) * gram(rows)).real
        return Estimate(
            channel=render(gain, u, v, self._geometry, mask),
            gain=gain.astype(np.complex64),
            u=np.asarray(u, np.float32),
            v=np.asarray(v, np.float32),
            mask=np.asarray(mask),
            noise_var=noise_var.astype(np.float32),
            error_var=(noise_var * spread / self._geometry.antennas).astype(np.float32),
            iterations=np.ones(noise_var.shape, np.int32),
            converged=np.ones(noise_var.shape, np.bool_),
        )
