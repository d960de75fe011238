"""The variational updates against the equations on explicit matrices, and against the evidence lower bound itself.

Nothing of the reference side comes from the package: F_a is filled entry by entry, the dictionary is a Kronecker
product of exponentials counted from antenna (0, 0), and every update is the formula of the paper over all L points,
those off the support with them. The package counts from the middle of the array and orders rows (chain, column);
`Scene` translates.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate
from scipy.special import digamma, gammaln

from beamslot.dsp.gw_sc_vbi import GwScVbi
from beamslot.dsp.sensing import Sensing, group_sensing, joint_sensing
from beamslot.dsp.variational import (
    Gains,
    Paths,
    Prior,
    posterior_gains,
    update_inclusion,
    update_noise,
    update_precision,
)
from beamslot.frame import Geometry, Operator

N_Y, N_Z, M, LOW, HIGH = 8, 6, 3, -0.5, 0.0
CHAINS = N_Z // M
GROUP = np.array([0, 1, 1, 0, 0, 1, 0, 0], np.int16)
"""Five columns and three: the groups differ in size, so one of them is padded when solved side by side."""

A, ABAR, C = 1.3, 1.1, 2e-3
B, BBAR, LAMBDA = 0.4, 2e-3, 0.15
Array = NDArray[Any]


def exponentials(length: int, coordinate: Array) -> Array:
    return np.array([[np.exp(1j * np.pi * n * x) for x in coordinate] for n in range(length)])


def analog() -> Array:
    """F_a, rows (column, chain) and columns (y, z), by the definition of the beams."""
    matrix = np.zeros((N_Y * CHAINS, N_Y * N_Z), complex)
    for column in range(N_Y):
        omega = LOW + (HIGH - LOW) * (GROUP[column] + 0.5) / 2
        for chain in range(CHAINS):
            for antenna in range(M):
                entry = np.exp(-1j * np.pi * antenna * omega)
                matrix[column * CHAINS + chain, column * N_Z + chain * M + antenna] = entry
    return matrix


def dictionary(u: Array, v: Array) -> Array:
    """F_a A, A with columns a_y(u) (x) a_z(v)."""
    columns, rows = exponentials(N_Y, u), exponentials(N_Z, v)
    return analog() @ np.array([np.kron(columns[:, k], rows[:, k]) for k in range(len(u))]).T


def operator() -> Operator:
    weights = analog().reshape(N_Y, CHAINS, N_Y, CHAINS, M)
    own = np.einsum("ntntm->ntm", weights)
    return Operator(own.astype(np.complex64), GROUP, (LOW, HIGH))


def exact(sensing: Sensing) -> Sensing:
    """The same beams in double precision: an operator holds complex64."""
    full = np.einsum("ntntm->ntm", analog().reshape(N_Y, CHAINS, N_Y, CHAINS, M))
    weights = full[sensing.column] * sensing.valid[..., None, None]
    return replace(sensing, weights=np.ascontiguousarray(weights.swapaxes(1, 2)))


@dataclass(frozen=True)
class Scene:
    """P problems on fixed grids of L points: what the package takes, and y and Xi of each for the reference."""

    sensing: Sensing
    paths: Paths
    observation: Array
    y: list[Array]
    xi: list[Array]

    @property
    def prior(self) -> Prior:
        problems = len(self.y)
        odds = np.log(LAMBDA / (1 - LAMBDA))
        slab, spike, log_odds = (np.full(problems, x) for x in (B, BBAR, odds))
        return Prior(slab, spike, log_odds, A, ABAR, C)

    def from_zero(self, gain: Array) -> Array:
        """Gains that count from antenna (0, 0), from the package's."""
        return gain * np.exp(-0.5j * np.pi * ((N_Y - 1) * self.paths.u + (N_Z - 1) * self.paths.v))


def scene(kind: Literal["joint", "groups"], seed: int, off: tuple[int, ...] = (), points: int = 7) -> Scene:
    """Two paths on the grid in noise; points `off` the support."""
    rng = np.random.default_rng(seed)
    made = joint_sensing if kind == "joint" else group_sensing
    sensing = exact(made(Geometry(N_Y, N_Z), operator(), 0.0))
    problems = len(sensing.rows)
    u = rng.permuted(np.linspace(-0.9, 0.8, points) + np.zeros((problems, 1)), axis=1)
    v = rng.uniform(sensing.low[:, None], sensing.high[:, None], (problems, points))
    noise = rng.standard_normal((2, N_Y * CHAINS))
    whole = dictionary(u[0, [1, 4]], v[0, [1, 4]]) @ [1.2, 0.7j] + 0.2 * (noise[0] + 1j * noise[1])
    rows = np.repeat(GROUP, CHAINS)
    picked = [slice(None)] if kind == "joint" else [rows == 0, rows == 1]
    inclusion = np.where(np.isin(np.arange(points), off), 0.1, 0.9) + np.zeros((problems, 1))
    precision = np.where(inclusion > 0.5, 1.0, 400.0) * rng.uniform(0.5, 2, inclusion.shape)
    paths = Paths(u, v, inclusion > 0.5, inclusion, precision, rng.uniform(2, 6, problems))
    y = [whole[own] for own in picked]
    xi = [dictionary(u[p], v[p])[own] for p, own in enumerate(picked)]
    return Scene(sensing, paths, sensing.gather(whole.reshape(N_Y, CHAINS)), y, xi)


@dataclass(frozen=True)
class Posterior:
    """q of one problem: a normal gain, gammas by shape and rate, a Bernoulli, all by the textbook."""

    mu: Array
    sigma: Array
    s: Array
    rho: tuple[Array, Array]
    kappa: tuple[float, float]


def mean_log(gamma: tuple[Any, Any]) -> tuple[Any, Any]:
    return gamma[0] / gamma[1], digamma(gamma[0]) - np.log(gamma[1])


def gains_of(y: Array, xi: Array, rho: Array, kappa: float, support: Array) -> tuple[Array, Array]:
    """The subspace-constrained posterior: W_S inverted on the support, 1 / W_ll and a zero mean off it."""
    w = kappa * xi.conj().T @ xi + np.diag(rho)
    sigma, mu = np.diag(1 / np.diag(w)).astype(complex), np.zeros(len(rho), complex)
    inner = np.ix_(support, support)
    sigma[inner] = np.linalg.inv(w[inner])
    mu[support] = sigma[inner] @ (kappa * xi[:, support].conj().T @ y)
    return mu, sigma


def diagonal(matrix: Array) -> Array:
    return np.real(np.diag(matrix))


def misfit(y: Array, xi: Array, mu: Array, sigma: Array) -> float:
    """E ||y - Xi x||^2."""
    return float(np.linalg.norm(y - xi @ mu) ** 2 + np.trace(xi @ sigma @ xi.conj().T).real)


def log_gamma(shape: float, rate: float, mean: Any, log_mean: Any) -> Any:
    return shape * np.log(rate) - gammaln(shape) + (shape - 1) * log_mean - rate * mean


def reference_round(y: Array, xi: Array, rho: Array, s: Array, kappa: float, support: Array) -> Posterior:
    mu, sigma = gains_of(y, xi, rho, kappa, support)
    gamma = s * A + (1 - s) * ABAR + 1, s * B + (1 - s) * BBAR + np.abs(mu) ** 2 + diagonal(sigma)
    slab, spike = (np.exp(log_gamma(*of, *mean_log(gamma))) for of in ((A, B), (ABAR, BBAR)))
    exists = LAMBDA * slab / (LAMBDA * slab + (1 - LAMBDA) * spike)
    return Posterior(mu, sigma, exists, gamma, (C + len(y), C + misfit(y, xi, mu, sigma)))


def package_round(at: Scene, paths: Paths) -> tuple[Gains, Paths]:
    """One round by the package; off the support the posterior is the closed form that needs no matrix."""
    atoms = at.sensing.atoms(paths.u, paths.v)
    gains, energy = posterior_gains(at.observation, atoms, paths), np.sum(np.abs(atoms) ** 2, -1)
    loose = 1 / (paths.noise_precision[:, None] * energy + paths.precision)
    variance = np.where(paths.mask, gains.variance, loose)
    precision, log_precision = update_precision(paths.inclusion, np.abs(gains.mean) ** 2 + variance, at.prior)
    trace = np.einsum("pkl,plk->p", gains.covariance, gains.gram).real + np.sum(~paths.mask * loose * energy, -1)
    noise = update_noise(np.sum(np.abs(gains.residual) ** 2, -1), trace, at.sensing.rows, at.prior)
    inclusion = update_inclusion(precision, log_precision, at.prior)
    return gains, replace(paths, precision=precision, inclusion=inclusion, noise_precision=noise)


@pytest.mark.parametrize("kind", ["joint", "groups"])
def test_atoms_and_rows_are_those_of_the_explicit_matrices(kind: Literal["joint", "groups"]) -> None:
    at = scene(kind, 0)
    atoms = at.sensing.atoms(at.paths.u, at.paths.v) / at.from_zero(np.ones(at.paths.u.shape))[..., None]
    for problem, (y, xi) in enumerate(zip(at.y, at.xi, strict=True)):
        keep = np.tile(at.sensing.valid[problem], CHAINS)
        by_column = np.arange(keep.sum()).reshape(CHAINS, -1).T.ravel()
        np.testing.assert_allclose(at.observation[problem, keep][by_column], y, rtol=1e-13)
        np.testing.assert_allclose(atoms[problem][:, keep][:, by_column].T, xi, atol=1e-12)
        np.testing.assert_array_equal(atoms[problem][:, ~keep], 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("off", [(), (0, 5), (0, 2, 3, 6)])
@pytest.mark.parametrize("kind", ["joint", "groups"])
def test_six_rounds_are_those_of_the_dense_reference(
    kind: Literal["joint", "groups"], off: tuple[int, ...], seed: int
) -> None:
    at = scene(kind, seed, off)
    paths = at.paths
    state = [(paths.precision[p], paths.inclusion[p], float(paths.noise_precision[p])) for p in range(len(at.y))]
    for _ in range(6):
        gains, paths = package_round(at, paths)
        mean, objective = at.from_zero(gains.mean), gains.objective
        for problem, (y, xi) in enumerate(zip(at.y, at.xi, strict=True)):
            rho, s, kappa = state[problem]
            support = at.paths.mask[problem]
            expected = reference_round(y, xi, rho, s, kappa, support)
            lowest = kappa * np.linalg.norm(y - xi @ expected.mu) ** 2 + np.sum(rho * np.abs(expected.mu) ** 2)
            state[problem] = expected.rho[0] / expected.rho[1], expected.s, expected.kappa[0] / expected.kappa[1]
            np.testing.assert_allclose(mean[problem], expected.mu, rtol=1e-9, atol=1e-12)
            found = gains.variance[problem, support]
            np.testing.assert_allclose(found, diagonal(expected.sigma)[support], rtol=1e-9)
            np.testing.assert_allclose(paths.precision[problem], state[problem][0], rtol=1e-9)
            np.testing.assert_allclose(paths.inclusion[problem], state[problem][1], rtol=1e-8, atol=1e-300)
            np.testing.assert_allclose(paths.noise_precision[problem], state[problem][2], rtol=1e-9)
            np.testing.assert_allclose(objective[problem], lowest, rtol=1e-9)


def elbo(y: Array, xi: Array, q: Posterior) -> float:
    """E_q ln p(y, x, rho, s, kappa) + H(q), every term and constant."""
    points = len(q.s)
    (rho, log_rho), (kappa, log_kappa) = mean_log(q.rho), mean_log(q.kappa)
    likelihood = len(y) * (log_kappa - np.log(np.pi)) - kappa * misfit(y, xi, q.mu, q.sigma)
    gains = np.sum(log_rho - np.log(np.pi) - rho * (np.abs(q.mu) ** 2 + diagonal(q.sigma)))
    slab, spike = (log_gamma(*of, rho, log_rho) for of in ((A, B), (ABAR, BBAR)))
    precisions = np.sum(q.s * slab + (1 - q.s) * spike)
    existence = np.sum(q.s * np.log(LAMBDA) + (1 - q.s) * np.log1p(-LAMBDA))
    noise = log_gamma(C, C, kappa, log_kappa)
    entropy = points * (1 + np.log(np.pi)) + np.linalg.slogdet(q.sigma)[1]
    for shape, rate in (q.rho, q.kappa):
        entropy += np.sum(shape - np.log(rate) + gammaln(shape) + (1 - shape) * digamma(shape))
    kept = q.s[(q.s > 0) & (q.s < 1)]
    entropy -= np.sum(kept * np.log(kept) + (1 - kept) * np.log1p(-kept))
    return float(likelihood + gains + precisions + existence + noise + entropy)


def bounds(at: Scene, rounds: int) -> Array:
    """The bound after every single update of the package, (4 * rounds,), for the joint problem."""
    y, xi, support = at.y[0], at.xi[0], at.paths.mask[0]
    paths, found = at.paths, list[float]()
    atoms = at.sensing.atoms(paths.u, paths.v)
    energy = np.sum(np.abs(atoms) ** 2, -1)
    rho, kappa = (A + 1 + 0 * paths.precision[0], (A + 1) / paths.precision[0]), (C + len(y), 1.0)
    for _ in range(rounds):
        kappa = kappa[0], kappa[0] / float(paths.noise_precision[0])
        gains = posterior_gains(at.observation, atoms, paths)
        loose = 1 / (paths.noise_precision[:, None] * energy + paths.precision)
        variance = np.where(paths.mask, gains.variance, loose)
        turn = at.from_zero(np.ones(paths.u.shape))[0]
        sigma = np.where(np.outer(support, support), turn[:, None] * gains.covariance[0] * turn.conj(), 0)
        sigma[~support, ~support] = loose[0, ~support]
        q = Posterior(turn * gains.mean[0], sigma, paths.inclusion[0], rho, kappa)
        found.append(elbo(y, xi, q))
        precision, log_precision = update_precision(paths.inclusion, np.abs(gains.mean) ** 2 + variance, at.prior)
        shape = q.s * A + (1 - q.s) * ABAR + 1
        rho = shape, shape / precision[0]
        found.append(elbo(y, xi, q := replace(q, rho=rho)))
        inclusion = update_inclusion(precision, log_precision, at.prior)
        found.append(elbo(y, xi, q := replace(q, s=inclusion[0])))
        trace = np.einsum("pkl,plk->p", gains.covariance, gains.gram).real + np.sum(~paths.mask * loose * energy, -1)
        noise = update_noise(np.sum(np.abs(gains.residual) ** 2, -1), trace, at.sensing.rows, at.prior)
        found.append(elbo(y, xi, replace(q, kappa=(kappa[0], kappa[0] / float(noise[0])))))
        paths = replace(paths, precision=precision, inclusion=inclusion, noise_precision=noise)
    return np.array(found)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("off", [(), (0, 5), (0, 2, 3, 6)])
def test_no_single_update_lowers_the_evidence_lower_bound(off: tuple[int, ...], seed: int) -> None:
    """Grid, prior and support are fixed and no evidence test drops a point; the mean is safe as it solves exactly."""
    found = bounds(scene("joint", 10 + seed, off), 25)
    assert np.all(np.diff(found) > -1e-9 * np.abs(found[:-1]))
    assert found[-1] > found[0] + 1
    assert found[-1] - found[-5] < 0.05 * (found[-1] - found[0])


def test_a_wrong_update_is_seen_by_the_bound() -> None:
    at = scene("joint", 10)
    q = reference_round(at.y[0], at.xi[0], at.paths.precision[0], at.paths.inclusion[0], 4.0, at.paths.mask[0])
    best = replace(q, kappa=(q.kappa[0], C + misfit(at.y[0], at.xi[0], q.mu, q.sigma)))
    top = elbo(at.y[0], at.xi[0], best)
    without_trace = C + float(np.linalg.norm(at.y[0] - at.xi[0] @ q.mu) ** 2)
    assert elbo(at.y[0], at.xi[0], replace(best, kappa=(q.kappa[0], without_trace))) < top - 1e-3
    assert elbo(at.y[0], at.xi[0], replace(best, s=np.clip(q.s + 0.05, 0.01, 0.99))) < top - 1e-3


def test_the_bound_is_below_the_evidence_of_one_point_and_near_it() -> None:
    at = scene("joint", 3, points=5)
    xi, y, paths = at.xi[0][:, [1]], at.y[0], at.paths
    q = reference_round(y, xi, paths.precision[0, [1]], np.array([0.5]), 3.0, np.array([True]))
    for _ in range(40):
        q = reference_round(y, xi, q.rho[0] / q.rho[1], q.s, q.kappa[0] / q.kappa[1], np.array([True]))
    energy, total, rows = np.linalg.norm(xi) ** 2, np.linalg.norm(y) ** 2, len(y)
    matched = float(np.abs(xi[:, 0].conj() @ y) ** 2)
    centre = np.log(q.kappa[0] / q.kappa[1])

    def density(log_rho: float, log_kappa: float) -> float:
        """The joint density of y, rho and kappa over ln rho and ln kappa, relative to the bound."""
        one, noise = np.exp(log_rho), np.exp(log_kappa)
        fit = rows * (log_kappa - np.log(np.pi)) - noise * total
        fit += log_rho - np.log(one + noise * energy) + noise**2 * matched / (one + noise * energy)
        prior = LAMBDA * np.exp(log_gamma(A, B, one, log_rho)) + (1 - LAMBDA) * np.exp(
            log_gamma(ABAR, BBAR, one, log_rho)
        )
        of_noise = log_gamma(C, C, noise, log_kappa)
        return float(prior * np.exp(fit + of_noise + log_rho + log_kappa - elbo(y, xi, q)))

    mass = integrate.dblquad(density, centre - 4, centre + 4, -9, 14, epsabs=1e-5, epsrel=1e-5)[0]
    assert 0 < np.log(mass) < 1


def test_problems_side_by_side_are_each_as_if_alone() -> None:
    at = scene("groups", 5, (0, 5))
    gains, paths = package_round(at, at.paths)
    for problem in range(2):
        own = slice(problem, problem + 1)
        sensing = replace(
            at.sensing,
            **{name: getattr(at.sensing, name)[own] for name in ("weights", "column", "valid", "low", "high")},
        )
        mine = Paths(*(getattr(at.paths, name)[own] for name in Paths.__dataclass_fields__))
        alone = Scene(sensing, mine, at.observation[own], at.y[own], at.xi[own])
        own_gains, own_paths = package_round(alone, mine)
        np.testing.assert_allclose(own_gains.mean[0], gains.mean[problem], rtol=1e-12)
        for name in ("precision", "inclusion", "noise_precision"):
            np.testing.assert_allclose(getattr(own_paths, name)[0], getattr(paths, name)[problem], rtol=1e-12)


@pytest.mark.parametrize("options", [{"form": "robust"}, {"form": "as_printed"}, {"group_rounds": 0}], ids=str)
def test_a_batch_of_users_is_its_users_one_by_one(options: dict[str, Any], rng: np.random.Generator) -> None:
    users = np.array([dictionary(rng.uniform(-0.8, 0.8, 2), rng.uniform(LOW, HIGH, 2)) @ [1, 0.6j] for _ in range(4)])
    noise = rng.standard_normal((2, *users.shape))
    observation = (users + 0.1 * (noise[0] + 1j * noise[1])).reshape(2, 2, N_Y, CHAINS).astype(np.complex64)
    estimator = GwScVbi(Geometry(N_Y, N_Z), operator(), expected_paths=2, max_paths=4, joint_rounds=12, **options)
    batch = estimator.estimate(observation)
    for index in np.ndindex(2, 2):
        alone = estimator.estimate(observation[index])
        for name, value in vars(alone).items():
            np.testing.assert_array_equal(value, getattr(batch, name)[index])
