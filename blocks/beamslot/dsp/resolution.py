"""How near two paths may come before a group of columns cannot tell their azimuths apart.

| symbol | name | meaning |
|---|---|---|
| s_g, c_g | members[g], cosine[g] | columns of group g; cosine of its elevation |
| mu_g | order of rows and columns of J | sin(theta_1), sin(theta_2), Re alpha_1, Re alpha_2, Im alpha_1, Im alpha_2 |
| J | fisher | Fisher information of mu_g |
| Delta | delta | sin(theta_2) - sin(theta_1) |
| T M^2 |alpha|^2 / sigma^2 | snr | energy that a path leaves in a column with matched beams, over the noise variance |

Two paths of equal amplitude, alpha_1 = alpha_2, in phase at column 0, as the paper takes them.

source: paper 004, eqs. (14), (15), (38)-(41)
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamslot.dsp.geometry import steering

NOISE_STD = 0.18
"""sigma_g of the paper, of the noise behind the combiner, for paths of amplitude 1."""

NEAREST, FARTHEST = 1e-5, 2.0
"""Distances in which the limit is looked for; sines of azimuths differ by at most 2."""

_STEPS, _HALVINGS = 36, 30
_RIDGE, _WORST_LOSS = 1e-15, 1e10
_DIFFERENCE = np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
_PARAMETERS = np.array([0, 1, 2, 3, 2, 3])
_FACTORS = np.array([1, 1, 1, 1, 1j, 1j])


def matched_snr(chains: int, m: int) -> float:
    """Return T M^2 / sigma_g^2, the snr of the paper's paths of amplitude 1 in matched unit-modulus beams.

    chains, m: chains a column (T), antennas a chain (M)
    source: paper 004, eq. (41) and the text below it
    """
    return chains * m**2 / NOISE_STD**2


def fisher(
    members: NDArray[Any], cosine: ArrayLike, delta: ArrayLike, snr: float, spacing: float = 0.5
) -> NDArray[np.float64]:
    """Return J, the information of a group about two paths with amplitudes 1 and sines of azimuth 0 and Delta.

    J_12 = 2 snr k^2 sum_n n^2 s_g[n] cos(k n Delta), k = 2 pi spacing c_g (the printed eq. (41) lost c_g in the
    exponent); the other entries follow from eq. (38) in the same way. J depends on the sines by Delta only.

    members: (..., group, y) of 0 and 1    cosine: (group,), c_g    delta: (..., group), broadcast against members
    snr: linear, amplitudes and phases are in units of |alpha|    spacing: of the columns [wavelengths]
    returns (..., group, 6, 6) float64, symmetric
    source: paper 004, eqs. (38)-(41)
    """
    slope = 2 * np.pi * spacing * np.asarray(cosine, np.float64)
    products = _products(members, slope, np.asarray(cosine) * np.asarray(delta), spacing)
    picked = products[..., _PARAMETERS[:, None], _PARAMETERS]
    return 2 * snr * (_FACTORS.conj()[:, None] * _FACTORS * picked).real


def _products(
    members: NDArray[Any], slope: NDArray[np.float64], delta_u: NDArray[np.float64], spacing: float
) -> NDArray[np.complex128]:
    """Inner products of the derivatives of the field by sin(theta_1), sin(theta_2), alpha_1, alpha_2: (..., 4, 4)."""
    n_y = members.shape[-1]
    powers = np.arange(n_y)[:, None] ** np.arange(3.0)
    own = members @ powers
    cross = (members * steering(n_y, delta_u, spacing)) @ powers.astype(np.complex128)
    made = np.empty((*cross.shape[:-1], 4, 4), np.complex128)
    for row, column, sums in ((0, 0, own), (1, 1, own), (0, 1, cross), (1, 0, cross.conj())):
        made[..., row, column] = slope**2 * sums[..., 2]
        made[..., row, 2 + column] = -1j * slope * sums[..., 1]
        made[..., 2 + row, column] = 1j * slope * sums[..., 1]
        made[..., 2 + row, 2 + column] = sums[..., 0]
    return made


def crb_difference(
    members: NDArray[Any], cosine: ArrayLike, delta: ArrayLike, snr: float, spacing: float = 0.5
) -> NDArray[np.float64]:
    """Return CRB_Delta = J^-1(1,1) + J^-1(2,2) - J^-1(1,2) - J^-1(2,1), the least variance of an estimate of Delta.

    arguments: as of `fisher`
    returns (..., group) float64; inf where the group cannot tell the parameters apart at all
    source: paper 004, eq. (15)
    """
    information = fisher(members, cosine, delta, snr, spacing)
    power = np.diagonal(information, axis1=-2, axis2=-1)
    scale = np.divide(1, np.sqrt(power), out=np.zeros_like(power), where=power > 0)
    # Of unit diagonal, since the units differ; the ridge keeps coincident paths, and groups without columns, solvable.
    correlation = information * scale[..., :, None] * scale[..., None, :] + _RIDGE * np.eye(6)
    loss = np.linalg.solve(correlation, _DIFFERENCE[:, None])[..., 0] @ _DIFFERENCE
    return np.where((loss > 0) & (loss < _WORST_LOSS) & (power[..., 0] > 0), loss * scale[..., 0] ** 2, np.inf)


def resolution_limit(members: NDArray[Any], cosine: ArrayLike, snr: float, spacing: float = 0.5) -> NDArray[np.float64]:
    """Return SRL_g, the least Delta at which Delta = sqrt(CRB_Delta).

    The crossing is found on a geometric grid from `NEAREST` to `FARTHEST`, then by bisection of the logarithm.

    members: (..., group, y) of 0 and 1    cosine: (group,), c_g
    snr: linear    spacing: of the columns [wavelengths]
    returns (..., group) float64, correct to 1e-9 of itself and never below the crossing; inf where there is none
    source: paper 004, eq. (14)
    """

    def resolved(delta: NDArray[np.float64]) -> NDArray[np.bool_]:
        return crb_difference(members, cosine, delta, snr, spacing) <= delta**2

    grid = np.geomspace(NEAREST, FARTHEST, _STEPS)
    ladder = np.stack([resolved(step) for step in grid])
    first = ladder.argmax(0)
    near, far = grid[np.maximum(first - 1, 0)], grid[first]
    for _ in range(_HALVINGS):
        middle = np.sqrt(near * far)
        enough = resolved(middle)
        near, far = np.where(enough, near, middle), np.where(enough, middle, far)
    return np.where(ladder.any(0), far, np.inf)
