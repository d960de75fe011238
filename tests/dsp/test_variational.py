"""Variational updates: truth is a dense reference in the equations' own terms, numerical integrals and the ELBO."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, stats
from scipy.special import digamma, gammaln

from beamslot.dsp.beams import group_beams
from beamslot.dsp.sensing import Sensing, joint_sensing
from beamslot.dsp.variational import (
    Paths,
    Prior,
    log_odds,
    posterior_gains,
    update_inclusion,
    update_noise,
    update_precision,
)
from beamslot.frame import Geometry, Operator

PRIOR = Prior(np.array([0.3]), np.array([1e-3]), np.array([-2.0]), slab_shape=1.4, spike_shape=1.2, noise=1e-3)


def small() -> Sensing:
    group = np.arange(6, dtype=np.int16) % 2
    return joint_sensing(Geometry(6, 4), Operator(group_beams(group, (-0.5, 0.0), 2, 2), group, (-0.5, 0.0)), 0.0)


def scene(points: int, seed: int) -> tuple[Sensing, NDArray[Any], Paths]:
    """Return a fixed grid of so many points, all of them candidates, and two paths on it in noise."""
    sensing, rng = small(), np.random.default_rng(seed)
    u, v = np.linspace(-0.9, 0.8, points)[None], np.resize([-0.4, -0.1], (1, points))
    gains = np.zeros(points, complex)
    gains[[1, points - 2]] = 1.2, 0.6j
    noise = 0.2 * (rng.standard_normal((1, 12)) + 1j * rng.standard_normal((1, 12)))
    observation = np.einsum("k,pkr->pr", gains, sensing.atoms(u, v)) + noise
    ones = np.ones((1, points))
    return sensing, observation, Paths(u, v, ones > 0, 0.9 * ones, ones, np.array([2.0]))


def dense_round(
    y: NDArray[Any], xi: NDArray[Any], s: NDArray[Any], rho: NDArray[Any], kappa: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], float]:
    """One round of the update equations over all L points: returns mu, <rho>, <s>, <kappa>."""
    a, b, abar, bbar = PRIOR.slab_shape, PRIOR.slab_rate[0], PRIOR.spike_shape, PRIOR.spike_rate[0]
    c = d = PRIOR.noise
    odds = np.exp(PRIOR.log_odds[0])
    support = [point for point in range(len(s)) if s[point] > 0.5]
    w = kappa * xi.conj().T @ xi + np.diag(rho)
    inverse = np.linalg.inv(w[np.ix_(support, support)])
    mu = np.zeros(len(s), complex)
    mu[support] = inverse @ (kappa * xi[:, support].conj().T @ y)
    var = 1 / np.diag(w).real
    var[support] = np.diag(inverse).real
    new_rho, new_s = np.zeros(len(s)), np.zeros(len(s))
    for point in range(len(s)):
        shape = s[point] * a + (1 - s[point]) * abar + 1
        rate = s[point] * b + (1 - s[point]) * bbar + abs(mu[point]) ** 2 + var[point]
        new_rho[point], log_rho = shape / rate, digamma(shape) - np.log(rate)
        slab = a * np.log(b) - gammaln(a) + (a - 1) * log_rho - b * new_rho[point]
        spike = abar * np.log(bbar) - gammaln(abar) + (abar - 1) * log_rho - bbar * new_rho[point]
        new_s[point] = 1 / (1 + np.exp(spike - slab) / odds)
    off = [point for point in range(len(s)) if point not in support]
    trace = np.trace(inverse @ xi[:, support].conj().T @ xi[:, support]).real
    trace += sum(var[point] * np.linalg.norm(xi[:, point]) ** 2 for point in off)
    return mu, new_rho, new_s, (c + len(y)) / (d + np.linalg.norm(y - xi @ mu) ** 2 + trace)


def test_eight_rounds_on_a_fixed_grid_follow_the_dense_equations() -> None:
    sensing, observation, paths = scene(9, 0)
    atoms = sensing.atoms(paths.u, paths.v)
    # Three points start off the support: two stay off, the slab never lets go of the others by the printed update.
    start = np.where(np.isin(np.arange(9), [2, 4, 5]), 0.0, 0.9)[None]
    paths = replace(paths, inclusion=start, precision=np.where(start > 0.5, 1.0, 1e3))
    s, rho, kappa = start[0], paths.precision[0], 2.0
    energy = np.sum(np.abs(atoms) ** 2, -1)
    for _ in range(8):
        mu, rho, s, kappa = dense_round(observation[0], atoms[0].T, s, rho, kappa)
        paths = replace(paths, mask=paths.inclusion > 0.5)
        gains = posterior_gains(observation, atoms, paths)
        loose = 1 / (paths.noise_precision[:, None] * energy + paths.precision)
        variance = np.where(paths.mask, gains.variance, loose)
        precision, log_precision = update_precision(paths.inclusion, np.abs(gains.mean) ** 2 + variance, PRIOR)
        trace = np.einsum("pkl,plk->p", gains.covariance, gains.gram).real + np.sum(~paths.mask * loose * energy, -1)
        paths = replace(
            paths,
            precision=precision,
            inclusion=update_inclusion(precision, log_precision, PRIOR),
            noise_precision=update_noise(np.sum(np.abs(gains.residual) ** 2, -1), trace, sensing.rows, PRIOR),
        )
        np.testing.assert_allclose(gains.mean[0], mu, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(paths.precision[0], rho, rtol=1e-9)
        np.testing.assert_allclose(paths.inclusion[0], s, rtol=1e-9)
        np.testing.assert_allclose(paths.noise_precision, kappa, rtol=1e-9)
    assert 0 < np.sum(s < 0.5) < 9


def test_precision_and_inclusion_are_the_expectations_that_define_them() -> None:
    inclusion, moment = 0.7, 0.5
    mean, log_mean = update_precision(np.array([[inclusion]]), np.array([[moment]]), PRIOR)
    shape = inclusion * PRIOR.slab_shape + (1 - inclusion) * PRIOR.spike_shape + 1
    rate = inclusion * PRIOR.slab_rate[0] + (1 - inclusion) * PRIOR.spike_rate[0] + moment
    q = stats.gamma(shape, scale=1 / rate)
    assert mean[0, 0] == pytest.approx(q.mean(), rel=1e-10)
    assert log_mean[0, 0] == pytest.approx(q.expect(np.log), rel=1e-7)
    slab = stats.gamma(PRIOR.slab_shape, scale=1 / PRIOR.slab_rate[0])
    spike = stats.gamma(PRIOR.spike_shape, scale=1 / PRIOR.spike_rate[0])
    difference = q.expect(lambda rho: slab.logpdf(rho) - spike.logpdf(rho))
    expected = 1 / (1 + np.exp(-PRIOR.log_odds[0] - difference))
    assert update_inclusion(mean, log_mean, PRIOR)[0, 0] == pytest.approx(expected, rel=1e-6)


def elbo(
    observation: NDArray[Any], gains: Any, paths: Paths, shape: NDArray[Any], rate: NDArray[Any], kappa: Any
) -> float:
    """The evidence lower bound but for constants; q(rho) has the given shape and rate, q(kappa) is a frozen gamma."""
    s, rho, log_rho = paths.inclusion[0], shape / rate, digamma(shape) - np.log(rate)
    fit = np.sum(np.abs(observation - np.einsum("pk,pkr->pr", gains.mean, gains.atoms)) ** 2)
    fit += np.trace(gains.covariance[0] @ gains.gram[0]).real
    rows, log_kappa = observation.shape[1], float(kappa.expect(np.log))
    total = rows * log_kappa - kappa.mean() * fit
    total += np.sum(log_rho - rho * (np.abs(gains.mean[0]) ** 2 + gains.variance[0]))
    total += np.linalg.slogdet(gains.covariance[0])[1]
    for weight, a, b in ((s, PRIOR.slab_shape, PRIOR.slab_rate[0]), (1 - s, PRIOR.spike_shape, PRIOR.spike_rate[0])):
        total += np.sum(weight * (a * np.log(b) - gammaln(a) + (a - 1) * log_rho - b * rho))
    total += np.sum(s * PRIOR.log_odds[0] - s * np.log(s) - (1 - s) * np.log1p(-s))
    total += np.sum(stats.gamma.entropy(shape, scale=1 / rate))
    return float(total + (PRIOR.noise - 1) * log_kappa - PRIOR.noise * kappa.mean() + kappa.entropy())


def test_the_evidence_lower_bound_never_falls() -> None:
    sensing, observation, paths = scene(6, 1)
    atoms = sensing.atoms(paths.u, paths.v)
    bounds = []
    for _ in range(12):
        gains = posterior_gains(observation, atoms, paths)
        moment = np.abs(gains.mean) ** 2 + gains.variance
        shape = paths.inclusion * PRIOR.slab_shape + (1 - paths.inclusion) * PRIOR.spike_shape + 1
        precision, log_precision = update_precision(paths.inclusion, moment, PRIOR)
        paths = replace(paths, precision=precision, inclusion=update_inclusion(precision, log_precision, PRIOR))
        trace = np.einsum("pkl,plk->p", gains.covariance, gains.gram).real
        noise = update_noise(np.sum(np.abs(gains.residual) ** 2, -1), trace, sensing.rows, PRIOR)
        paths = replace(paths, noise_precision=noise)
        kappa = stats.gamma(PRIOR.noise + 12, scale=noise[0] / (PRIOR.noise + 12))
        bounds.append(elbo(observation, gains, paths, shape[0], (shape / precision)[0], kappa))
    assert np.all(np.diff(bounds) > -1e-6)
    assert bounds[-1] > bounds[0] + 1


def test_the_mean_is_the_lowest_point_of_the_objective_on_the_support() -> None:
    sensing, observation, paths = scene(5, 2)
    paths = replace(paths, mask=np.array([[True, True, False, True, True]]))
    atoms = sensing.atoms(paths.u, paths.v)
    gains = posterior_gains(observation, atoms, paths)
    kappa, xi, rng = paths.noise_precision[0], atoms[0].T, np.random.default_rng(3)

    def objective(mu: NDArray[Any]) -> float:
        return float(
            kappa * np.linalg.norm(observation[0] - xi @ mu) ** 2 + np.sum(paths.precision[0] * np.abs(mu) ** 2)
        )

    assert gains.mean[0, 2] == 0
    assert objective(gains.mean[0]) == pytest.approx(gains.objective[0], rel=1e-12)
    for _ in range(20):
        shift = 0.1 * paths.mask[0] * (rng.standard_normal(5) + 1j * rng.standard_normal(5))
        assert objective(gains.mean[0] + shift) > gains.objective[0]


@pytest.mark.parametrize("height", [3.0, 4.0, 6.0, 20.0])
def test_the_log_odds_are_those_of_the_evidence_with_the_gain_integrated_out(height: float) -> None:
    variance, prior = 0.01, replace(PRIOR, slab_rate=np.array([0.05]))
    a, b, gain = prior.slab_shape, prior.slab_rate[0], height * np.sqrt(variance)

    def relative_evidence(imag: float, real: float) -> float:
        likelihood = np.exp(-((real - gain) ** 2 + imag**2) / variance)
        return float(likelihood * a * b**a / (np.pi * (b + real**2 + imag**2) ** (a + 1)))

    reach = 6 * np.sqrt(variance)
    mass, _ = integrate.dblquad(relative_evidence, gain - reach, gain + reach, -reach, reach)
    expected = prior.log_odds[0] + gain**2 / variance + np.log(mass)
    found = log_odds(np.array([[gain**2]]), np.array([[variance]]), prior)[0, 0]
    assert found == pytest.approx(expected, abs=0.25)


def test_paths_can_be_joined_and_put_in_another_order() -> None:
    _, _, paths = scene(3, 4)
    joined = paths.join(paths.take(np.array([[2]])))
    np.testing.assert_array_equal(joined.u, paths.u[:, [0, 1, 2, 2]])
    np.testing.assert_array_equal(joined.precision.shape, (1, 4))
    assert not Paths.none(2).mask.any()
