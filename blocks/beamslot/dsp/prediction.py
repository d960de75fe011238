"""What an estimator says of its own error: from what it found, and from what it could not see.

source: Gaussian posterior about the fit; the prior of powers of `variational`
"""

import numpy as np

from beamslot.dsp.sensing import Complex, Real, Sensing
from beamslot.dsp.variational import Gains, Paths, Prior, direction_information

_THRESHOLD_STEPS = 8


def found_error(sensing: Sensing, paths: Paths, gains: Gains, weight: Real) -> float:
    """Return E ||h_hat - h||^2 / N_r over gains, directions and existence of the paths found, for one problem.

    weight: (1, K), the probability that each path exists, by which its gain was multiplied
    source: Gaussian posterior with the Gauss-Newton information of the directions
    """
    unit = np.repeat(sensing.cell, paths.u.shape[-1])
    _, slopes = sensing.slopes(paths.u, paths.v)
    information, _, answer = direction_information(slopes * unit[:, None], gains, paths)
    spread = np.linalg.inv(information[0] + np.eye(len(unit))) / 2
    gram = aperture_gram(sensing, paths.u[0], paths.v[0])
    weight, mean, covariance = weight[0], gains.mean[0], gains.covariance[0]
    doubt = weight * (1 - weight) * (gains.variance[0] + np.abs(mean) ** 2)
    of_gains = np.outer(weight, weight) * covariance + np.diag(doubt)
    paths_held = len(weight)
    change = np.concatenate([-weight[:, None] * answer[0], np.diag(np.tile(weight * mean, 2))])
    error = np.sum(gram[:paths_held, :paths_held] * of_gains.T).real
    error += np.sum((change.conj().T @ gram @ change).real * spread)
    return float(error) / sensing.geometry.antennas


def missed_power(prior: Prior, paths: Paths, energy: float, expected_paths: float) -> float:
    """Return the power per antenna that the prior expects in paths too weak to enter, for one problem with a = 1.

    A power p has the density b / (b + p)^2 under the prior; a path enters above the p at which its log-odds are zero.
    """
    rate, variance = prior.slab_rate[0], 1 / (paths.noise_precision[0] * energy)
    ratio = 10.0
    for _ in range(_THRESHOLD_STEPS):
        ratio = max(2 * np.log1p(ratio * variance / rate) - prior.log_odds[0] - np.log(variance / rate), 0.0)
    return power_below(ratio * variance, rate, expected_paths)


def power_below(limit: float, rate: float, expected_paths: float) -> float:
    """Return the mean power of so many paths, each of density b / (b + p)^2, that lies in powers p below a limit.

    rate: b, in the unit of the limit
    """
    least = limit / rate
    return float(expected_paths * rate * (np.log1p(least) - least / (1 + least)))


def aperture_gram(sensing: Sensing, u: Real, v: Real) -> Complex:
    """Return the inner products, at the antennas, of paths of unit gain and of their slopes in u and in v.

    u, v: (K,)    returns (3 K, 3 K): paths, slopes in u, slopes in v, a resolution cell the unit
    """
    shape = sensing.geometry
    columns = _line(shape.n_y, shape.spacing_y, u, sensing.cell[0])
    rows = _line(shape.n_z, shape.spacing_z, v, sensing.cell[1])
    orders = ((0, 0), (1, 0), (0, 1))
    return np.block([[columns[p, r] * rows[q, s] for r, s in orders] for p, q in orders])


def _line(elements: int, spacing: float, coordinate: Real, unit: float) -> Complex:
    turn = 2j * np.pi * spacing * (np.arange(elements) - (elements - 1) / 2)
    response = np.exp(turn * coordinate[:, None])
    both = np.stack([response, unit * turn * response])
    return np.einsum("pkn,qln->pqkl", both.conj(), both)
