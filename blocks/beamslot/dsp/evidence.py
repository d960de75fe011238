"""What the fit of a slot is worth: which paths exist, how much of a gain to believe, and how wrong it all is.

See `path_search` for the symbols. The probability of a path compares "a path of some power p, anywhere in the search
region" with "noise alone": log-uniform p, directions by Laplace's method, expected_paths / cells the prior of a path in
a resolution cell. The last two factors are what a search pays for its freedom; without them peaks of noise look like
paths.

Kin: VALSE (Badiu, Hansen, Fleury, IEEE TSP 65(20), 2017)
"""

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

from beamslot.dsp.prediction import aperture_gram, power_below
from beamslot.dsp.sensing import Complex, Real, Sensing

if TYPE_CHECKING:
    from beamslot.dsp.path_search import Model, Settings

POWERS = 12
"""Prior powers that are compared, from a tenth of the least variance of a gain to twice the largest power."""
FREEDOM = 2.0
"""Complex unknowns of a path, its gain and its directions: so much larger than that of the gain is the variance
that a path adds to the channel."""
PATH_POWER = 0.008
"""Scale of the powers of undetected paths, relative to all that is observed: density b / (b + p)^2."""
CERTAINTY = 2.0
"""How many found paths the prior mean of their number weighs as much as."""


def occam(curvature: Real, noise_var: float) -> Real:
    """Return the log of the volume of directions that fit as well, of each path, in cells and at most one.

    curvature: (2 K, 2 K)    returns (K,), ln(2 pi sqrt(det C_k)) of the path's own 2 x 2 block of 2 H / sigma_w^2
    source: Laplace's method
    """
    paths = len(curvature) // 2
    own = np.arange(paths)
    det = curvature[own, own] * curvature[paths + own, paths + own] - curvature[own, paths + own] ** 2
    return np.minimum(np.log(np.pi * noise_var) - 0.5 * np.log(np.maximum(det, 1e-30)), 0.0)


def evidence(power: Real, variance: Real, volume: Real, sensing: Sensing, settings: "Settings") -> tuple[Real, Real]:
    """Return the posterior probability of each path and by how much its gain shrinks if it exists.

    power: (K,) |a|^2    variance: (K,) of the gain    volume: (K,) of `occam`
    returns inclusion, shrinkage: (K,)
    """
    if not len(power):
        return np.zeros(0), np.zeros(0)
    high = 2 * max(power.max(), variance.max())
    powers = np.geomspace(0.1 * variance.min(), high, POWERS)
    both = variance[:, None] + powers
    fits = np.log(variance[:, None] / both) + power[:, None] * (1 / variance[:, None] - 1 / both)
    best = fits.max(axis=1, keepdims=True)
    share = np.exp(fits - best)
    odds = np.log(settings.expected_paths / sensing.cells[0]) + volume + np.log(share.mean(axis=1)) + best[:, 0]
    shrink = powers / (powers + FREEDOM * variance[:, None])
    return expit(odds), np.sum(share * shrink, axis=1) / share.sum(axis=1)


def confirmation(gain: Complex, variance: Real, power: Real) -> Real:
    """Return the log of how much likelier what was seen is if a path of known power is there.

    gain, variance: (K,) posterior mean and variance of its gain    power: (K,) prior mean of |a|^2
    """
    return np.log(variance / power) + np.abs(gain) ** 2 / variance


def found_error(
    sensing: Sensing, model: "Model", inclusion: Real, shrinkage: Real, noise_var: float, spread: Real
) -> float:
    """Return E ||h_hat - h||^2 / N_r over gains, directions and existence of the paths found.

    inclusion, shrinkage: (K,)    spread: (2 K, 2 K) covariance of the directions [cells^2]
    source: Gaussian posterior about the fit, existence independent by path
    """
    paths = len(model.u)
    if not paths:
        return 0.0
    weight = inclusion * shrinkage
    gram = aperture_gram(sensing, model.u, model.v)
    answer = model.inverse @ (model.gram[paths:, :paths].conj().T * np.tile(model.gain, 2))
    root = inclusion * np.sqrt(shrinkage)
    of_gains = noise_var * root[:, None] * model.inverse * root
    doubt = inclusion * (1 - inclusion) * shrinkage**2 * np.abs(model.gain) ** 2
    np.einsum("kk->k", of_gains)[...] += doubt
    change = np.concatenate([-weight[:, None] * answer, np.diag(np.tile(weight * model.gain, 2))])
    error = np.sum(gram[:paths, :paths] * of_gains.T).real + np.sum((change.conj().T @ gram @ change).real * spread)
    return float(error) / sensing.geometry.antennas


def missed_power(sensing: Sensing, found: float, noise_var: float, settings: "Settings") -> float:
    """Return the power per antenna that is expected in paths too weak to enter.

    found: paths found, from which, with the prior mean of their number, follows how many more there are: they are
        Poisson with a Gamma-distributed rate, and a share p / (b + p) of all lies below a power p
    """
    energy = float(sensing.energy[0].mean())
    scale, limit = (
        PATH_POWER * float(sensing.rows[0]) / energy,
        settings.hidden * settings.threshold * noise_var / energy,
    )
    seen = scale / (scale + limit)
    paths = (CERTAINTY + found) / (CERTAINTY / settings.expected_paths + seen)
    return power_below(limit, scale, paths)
