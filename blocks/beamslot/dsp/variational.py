"""The variational updates of SC-VBI for fixed directions: gains, their precisions, existence, noise.

| symbol | name | meaning |
|---|---|---|
| Xi, xi_l | atoms | sensing matrix and its columns, one a path |
| x_l, mu_l, W_S^-1 | mean, covariance | gain of a path, its posterior mean and covariance on the support |
| rho_l | precision | inverse prior power of a gain; Gamma(a, b) when the path exists, Gamma(abar, bbar) when not |
| s_l | inclusion | posterior probability that the path exists |
| kappa | noise_precision | inverse noise variance per complex observation, Gamma(c, d), always learned |
| S | mask | the support: the paths that are kept |
| Omega | u, v | the dynamic grid: directions of the paths on the support |
| P, K, R | | problems solved side by side, paths and observations of a problem |

Gammas are in shape and rate. Off the support every mean is zero, so only the support is stored. The mean solves the
|S| x |S| system exactly: it minimises u(mu) on the support, and a previous mean can never be better there.

source: paper 004, eqs. (27)-(31)
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, expit, gammaln

from beamslot.dsp.sensing import Complex, Real, Sensing

Bool = NDArray[np.bool_]

_BY_PATH = ("u", "v", "mask", "inclusion", "precision")


@dataclass(frozen=True, eq=False)
class Prior:
    """The three-layer prior of P problems and the prior of their noise.

    slab_shape, slab_rate: a and b (P,), b near the powers of the paths
    spike_shape, spike_rate: abar and bbar (P,), abar / bbar far above kappa ||xi||^2 times grid points an observation
    log_odds: ln(lambda / (1 - lambda)) (P,)    noise: c = d
    source: paper 004, eqs. (28)-(31)
    """

    slab_rate: Real
    spike_rate: Real
    log_odds: Real
    slab_shape: float = 1.0
    spike_shape: float = 1.0
    noise: float = 1e-6

    @classmethod
    def of(cls, sensing: Sensing, paths: float, power: float = 0.008) -> "Prior":
        """Return the prior for so many expected paths over all problems, each near `power` of all that is observed."""
        slab_rate = power * sensing.rows / sensing.energy.mean(-1)
        return cls(slab_rate, 1e-10 * slab_rate, np.log(paths / sensing.cells.sum()) * np.ones(len(slab_rate)))


@dataclass(frozen=True, eq=False)
class Paths:
    """The paths of P problems and what is learned about them.

    u, v, mask, inclusion, precision: (P, K)    noise_precision: (P,)
    """

    u: Real
    v: Real
    mask: Bool
    inclusion: Real
    precision: Real
    noise_precision: Real

    @classmethod
    def none(cls, problems: int) -> "Paths":
        """Return the start: no path, all of the unit power is noise."""
        empty = np.zeros((problems, 1))
        return cls(empty, empty, empty.astype(bool), empty, np.ones_like(empty), np.ones(problems))

    def take(self, order: NDArray[np.intp]) -> "Paths":
        """Return the paths in another order, (P, K)."""
        return replace(self, **{name: np.take_along_axis(getattr(self, name), order, -1) for name in _BY_PATH})

    def join(self, other: "Paths") -> "Paths":
        """Return these paths and those of another, problem by problem."""
        both = {name: np.concatenate([getattr(self, name), getattr(other, name)], axis=-1) for name in _BY_PATH}
        return replace(self, **both)


@dataclass(frozen=True, eq=False)
class Gains:
    """Posterior of the gains for fixed directions, precisions and noise.

    atoms: (P, K, R), zero off the support    gram: (P, K, K)    mean: (P, K)    covariance: (P, K, K)
    residual: (P, R)    objective: (P,), u(mu) + kappa ||y||^2, which the mean minimises
    """

    atoms: Complex
    gram: Complex
    mean: Complex
    covariance: Complex
    residual: Complex
    objective: Real

    @property
    def variance(self) -> Real:
        """Posterior variance of each gain, (P, K)."""
        return np.einsum("...kk->...k", self.covariance).real


def posterior_gains(observation: Complex, atoms: Complex, paths: Paths) -> Gains:
    """Return the posterior of the gains by the subspace-constrained inverse, W_S mu_S = kappa Xi_S^H y.

    observation: (P, R)    atoms: (P, K, R)
    source: paper 004, section V-C2
    """
    kappa = paths.noise_precision[:, None]
    atoms = atoms * paths.mask[..., None]
    conjugate = atoms.conj()
    gram = conjugate @ atoms.swapaxes(-1, -2)
    matched = np.einsum("pkr,pr->pk", conjugate, observation)
    weight = kappa[..., None] * gram
    np.einsum("pkk->pk", weight)[...] += np.where(paths.mask, paths.precision, 1.0)
    covariance = np.linalg.inv(weight)
    mean = kappa * np.einsum("pkl,pl->pk", covariance, matched)
    residual = observation - np.einsum("pk,pkr->pr", mean, atoms)
    power = np.sum(np.abs(observation) ** 2, -1)
    objective = paths.noise_precision * (power - np.sum(matched.conj() * mean, -1).real)
    return Gains(atoms, gram, mean, covariance, residual, objective)


def update_precision(inclusion: Real, moment: Real, prior: Prior) -> tuple[Real, Real]:
    """Return <rho> and <ln rho>.

    inclusion: (P, K) <s>    moment: (P, K) <|x|^2> = |mu|^2 + var
    source: paper 004, eq. (29)
    """
    shape = inclusion * prior.slab_shape + (1 - inclusion) * prior.spike_shape + 1
    rate = inclusion * prior.slab_rate[:, None] + (1 - inclusion) * prior.spike_rate[:, None] + moment
    return shape / rate, digamma(shape) - np.log(rate)


def update_inclusion(precision: Real, log_precision: Real, prior: Prior) -> Real:
    """Return q(s = 1) as printed, from <rho> and <ln rho> (P, K).

    source: paper 004, eqs. (28), (29)
    """
    slab = _log_gamma(prior.slab_shape, prior.slab_rate[:, None], precision, log_precision)
    spike = _log_gamma(prior.spike_shape, prior.spike_rate[:, None], precision, log_precision)
    return expit(prior.log_odds[:, None] + slab - spike)


def update_noise(residual_energy: Real, trace: Real, rows: Real, prior: Prior) -> Real:
    """Return <kappa>.

    residual_energy: (P,) ||y - Xi mu||^2    trace: (P,) what the uncertain gains and directions add to its mean
    rows: (P,) number of observations
    """
    return (prior.noise + rows) / (prior.noise + residual_energy + trace)


def log_odds(power: Real, variance: Real, prior: Prior) -> Real:
    """Return the posterior log-odds that a path exists, with rho and x integrated out (x by Laplace).

    The prior of x is then a / (pi b) (1 + |x|^2 / b)^-(a + 1): one for strong and weak paths alike. This is the test
    on |mu|^2 / var; the other terms are what a path has to pay for its freedom.

    power, variance: (P, K) |mu|^2 and the variance of the gain
    """
    shape, rate = prior.slab_shape, prior.slab_rate[:, None]
    evidence = power / variance + np.log(shape * variance / rate) - (shape + 1) * np.log1p(power / rate)
    return prior.log_odds[:, None] + evidence


def _log_gamma(shape: float, rate: Real, mean: Real, log_mean: Real) -> Real:
    return shape * np.log(rate) - gammaln(shape) + (shape - 1) * log_mean - rate * mean


def direction_information(slopes: Complex, gains: Gains, paths: Paths) -> tuple[Real, Real, Complex]:
    """Return half the Gauss-Newton Hessian of min over mu of u(mu) in the directions, and half its descent.

    slopes: (P, 2 K, R)
    returns information (P, 2 K, 2 K), descent (P, 2 K), and how the gains give way when directions move,
        -d mu / d Omega (P, K, 2 K); all zero off the support
    """
    kappa = paths.noise_precision[:, None, None]
    moving = slopes * np.tile(gains.mean, 2)[..., None]
    cross = gains.atoms.conj() @ moving.swapaxes(-1, -2)
    answer = kappa * (gains.covariance @ cross)
    information = kappa * (moving.conj() @ moving.swapaxes(-1, -2) - cross.conj().swapaxes(-1, -2) @ answer)
    descent = kappa[..., 0] * np.einsum("pkr,pr->pk", moving.conj(), gains.residual)
    return information.real, descent.real, answer
