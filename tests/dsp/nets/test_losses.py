"""Losses of the VAE: truth is real Gaussians of twice the size, dense matrices, autodiff and root finding."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from beamslot.dsp.nets import losses
from beamslot.dsp.nets.decoder import Behind, Ula
from beamslot.dsp.nets.dual_path import lower_factor, reparameterise
from beamslot.dsp.nets.losses import Prior

F, M, K, N = 3, 4, 3, 8


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(11)


def complex_(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128)


def factors(*shape: int) -> Tensor:
    return lower_factor(torch.randn(*shape, K * K, dtype=torch.float64), K)


def scene(operator: Tensor | None = None) -> tuple[Tensor, Tensor, Prior, Tensor]:
    """Return observation, atoms, prior and noise of frames that nothing says are likely."""
    array = Ula(N) if operator is None else Behind(Ula(N), operator)
    atoms = array(torch.rand(F, K, dtype=torch.float64) * 2 - 1)
    noise_var = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    return complex_(F, M, atoms.shape[-1]), atoms, Prior(complex_(F, K), factors()), noise_var


def real(mean: Tensor, covariance: Tensor) -> MultivariateNormal:
    """Return the distribution of the real and the imaginary parts of CN(mean, covariance)."""
    top = torch.cat([covariance.real, -covariance.imag], -1)
    below = torch.cat([covariance.imag, covariance.real], -1)
    return MultivariateNormal(torch.cat([mean.real, mean.imag], -1), torch.cat([top, below], -2) / 2)


def outer(factor: Tensor) -> Tensor:
    return factor @ factor.mH


@pytest.mark.parametrize("a_frame", [True, False])
def test_kl_is_that_of_real_gaussians_of_twice_the_size(a_frame: bool) -> None:
    mean, factor = complex_(F, M, K), factors(F, M)
    prior = Prior(complex_(F, K), factors(F)) if a_frame else Prior(complex_(K), factors())
    seen = losses.kl(mean, factor, prior)
    for f in range(F):
        p = real(prior.mean[f], outer(prior.factor[f])) if a_frame else real(prior.mean, outer(prior.factor))
        truth = sum(kl_divergence(real(mean[f, m], outer(factor[f, m])), p) for m in range(M))
        torch.testing.assert_close(seen[f], torch.as_tensor(truth))
    same = losses.kl(prior.mean[..., None, :].expand(F, M, K), prior.factor[..., None, :, :].expand(F, M, K, K), prior)
    torch.testing.assert_close(same, torch.zeros(F, dtype=torch.float64))


def test_expected_misfit_is_the_mean_over_draws() -> None:
    observation, atoms, _, noise_var = scene()
    mean, factor = complex_(F, M, K), factors(F, M)
    exact = losses.expected_misfit(observation, atoms, mean, factor, noise_var)
    draws = torch.stack(
        [
            losses.misfit(observation, reparameterise(mean, factor, complex_(F, M, K)) @ atoms, noise_var)
            for _ in range(4000)
        ]
    )
    error = (draws.mean(0) - exact) / draws.std(0) * np.sqrt(len(draws))
    assert torch.all(error.abs() < 4)


def test_expected_misfit_by_dense_matrices() -> None:
    observation, atoms, _, noise_var = scene()
    mean, factor = complex_(F, M, K), factors(F, M)
    exact = losses.expected_misfit(observation, atoms, mean, factor, noise_var)
    for f in range(F):
        A, total = atoms[f].T, 0.0
        for m in range(M):
            total += (observation[f, m] - A @ mean[f, m]).abs().square().sum()
            total += torch.trace(A @ outer(factor[f, m]) @ A.mH).real
        torch.testing.assert_close(exact[f], total / noise_var[f])


def exact_evidence(observation: Tensor, atoms: Tensor, prior: Prior, noise_var: Tensor, f: int) -> Tensor:
    A = atoms[f].T
    covariance = A @ outer(prior.factor) @ A.mH + noise_var[f] * torch.eye(A.shape[0])
    there = real(A @ prior.mean[f], covariance)
    # The density of 2 R real numbers: the Jacobian of C^R = R^2R is one.
    return sum(there.log_prob(torch.cat([y.real, y.imag])) for y in observation[f])  # type: ignore[return-value]


@pytest.mark.parametrize("operator", [None, complex_(5, N)], ids=["array", "behind an operator"])
def test_collapsed_is_the_exact_evidence(operator: Tensor | None) -> None:
    observation, atoms, prior, noise_var = scene(operator)
    seen = losses.collapsed(observation, atoms, prior, noise_var)
    for f in range(F):
        torch.testing.assert_close(-seen[f], exact_evidence(observation, atoms, prior, noise_var, f))


def elbo(observation: Tensor, atoms: Tensor, prior: Prior, noise_var: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    apart = losses.kl(mean, factor, prior)
    fit = losses.expected_misfit(observation, atoms, mean, factor, noise_var)
    return -losses.negative_elbo(apart, fit, noise_var, observation[0].numel())


def test_the_elbo_is_below_the_evidence_and_meets_it_at_the_posterior() -> None:
    observation, atoms, prior, noise_var = scene()
    evidence = -losses.collapsed(observation, atoms, prior, noise_var)
    mean, root = losses.posterior(observation, atoms, prior, noise_var)
    best = torch.linalg.cholesky(outer(root))[:, None].expand(F, M, K, K)
    torch.testing.assert_close(elbo(observation, atoms, prior, noise_var, mean, best), evidence)
    for scale in (1e-3, 1e-1, 1.0):
        elsewhere = elbo(observation, atoms, prior, noise_var, mean + scale * complex_(F, M, K), best)
        assert torch.all(elsewhere < evidence)
        assert torch.all(elbo(observation, atoms, prior, noise_var, mean, best * (1 + scale)) < evidence)
        assert torch.all(elbo(observation, atoms, prior, noise_var, mean, best / (1 + scale)) < evidence)


def test_the_posterior_is_proposition_three_with_what_is_observed() -> None:
    observation, atoms, prior, noise_var = scene()
    found = losses.posterior(observation, atoms, prior, noise_var)
    inverse = torch.linalg.inv(outer(prior.factor))
    for f in range(F):
        A = atoms[f].T
        normal = A.mH @ A + noise_var[f] * inverse
        torch.testing.assert_close(outer(found.root[f]), noise_var[f] * torch.linalg.inv(normal))
        for m in range(M):
            wanted = torch.linalg.solve(normal, A.mH @ observation[f, m] + noise_var[f] * inverse @ prior.mean[f])
            torch.testing.assert_close(found.mean[f, m], wanted)


def test_coherent_users_have_a_posterior_and_an_evidence() -> None:
    observation, atoms, prior, noise_var = scene()
    one = torch.zeros(K, K, dtype=torch.complex128)
    one[:, 0] = 1.0
    coherent = Prior(prior.mean, one)
    torch.testing.assert_close(
        -losses.collapsed(observation, atoms, coherent, noise_var)[1],
        exact_evidence(observation, atoms, coherent, noise_var, 1),
    )
    found = losses.posterior(observation, atoms, coherent, noise_var)
    away = found.mean - prior.mean[:, None]
    torch.testing.assert_close(away, away[..., :1].expand(F, M, K))
    assert torch.linalg.matrix_rank(found.root[0]) == 1


@pytest.mark.parametrize(("snr_db", "inflation"), [(-10, 3.1), (0, 6.4), (10, 18.5), (20, 57)])
def test_the_printed_form_inflates_the_posterior(snr_db: float, inflation: float) -> None:
    """One user, 32 antennas: N / sigma^2 s^2 - s - 1 = 0 instead of s = 1 / (1 + N / sigma^2)."""
    noise_var = torch.tensor([10 ** (-snr_db / 10)], dtype=torch.float64)
    atoms = Ula(32)(torch.zeros(1, 1, dtype=torch.float64))
    zero, prior = torch.zeros(1, 1, 1, dtype=torch.complex128), Prior(complex_(1) * 0, complex_(1, 1) * 0 + 1)

    def best(divergence: Callable[[Tensor, Tensor, Prior], Tensor]) -> float:
        def loss(log_spread: float) -> float:
            factor = torch.full((1, 1, 1, 1), np.exp(log_spread / 2), dtype=torch.complex128)
            fit = losses.expected_misfit(torch.zeros(1, 1, 32) * 1j, atoms, zero, factor, noise_var)
            return float(divergence(zero, factor, prior) + fit)

        return float(
            np.exp(optimize.minimize_scalar(loss, bounds=(-12, 2), method="bounded", options={"xatol": 1e-7}).x)
        )

    c = 32 / float(noise_var)
    assert best(losses.kl) == pytest.approx(1 / (1 + c), rel=1e-4)
    printed = best(losses.printed_divergence)
    assert printed == pytest.approx((1 + np.sqrt(1 + 4 * c)) / (2 * c), rel=1e-4)
    assert printed / best(losses.kl) == pytest.approx(inflation, rel=0.01)


def test_the_printed_form_is_as_printed() -> None:
    mean, factor, prior = complex_(F, M, K), factors(F, M), Prior(complex_(F, K), factors())
    seen = losses.printed_divergence(mean, factor, prior)
    there, total = outer(prior.factor), 0.0
    for m in range(M):
        here, away = outer(factor[0, m]), mean[0, m] - prior.mean[0]
        total += torch.trace(torch.linalg.inv(here) @ there).real - torch.linalg.det(here).real.log()
        total += (away.conj() @ torch.linalg.inv(there) @ away).real
    torch.testing.assert_close(seen[0], torch.as_tensor(total))


def test_the_initialisation_teaches_sorted_labels_to_one_net_and_the_gains_to_the_other() -> None:
    theta = torch.tensor([[-0.1, 0.2, 0.5]], dtype=torch.float64, requires_grad=True)
    at_labels = torch.tensor([7.0], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0.5, -0.1, 0.3]], dtype=torch.float64)
    loss = losses.initialisation(at_labels, theta, labels, 50.0)
    assert loss.item() == pytest.approx(7.0 + 50 * 0.1**2)
    loss.sum().backward()
    torch.testing.assert_close(theta.grad, torch.tensor([[0.0, 2 * 50 * -0.1, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(at_labels.grad, torch.ones(1, dtype=torch.float64))


def test_weighting_by_noise_gives_frames_of_any_snr_the_same_say() -> None:
    noise_var = torch.tensor([0.01, 1.0], dtype=torch.float64)
    misfit = 5.0 / noise_var
    assert losses.weighted_mean(misfit, noise_var).item() == pytest.approx(252.5)
    assert losses.weighted_mean(misfit, noise_var, "noise").item() == pytest.approx(5.0)


def autodiff_slope(theta_hat: float, theta: float, antennas: int, spacing: float) -> float:
    """Return the derivative of the loss (7) itself: three users, diagonal covariance, no noise; sum |h|^2 = sigma^2."""
    others, noise_var = [-0.4, 0.7], torch.tensor([0.3], dtype=torch.float64)
    gain = complex_(1, 5, 3)
    gain[..., 0] *= torch.sqrt(noise_var / gain[..., 0].abs().square().sum())
    truth = Ula(antennas, spacing)(torch.tensor([[theta, *others]], dtype=torch.float64))
    angle = torch.tensor(theta_hat, dtype=torch.float64, requires_grad=True)
    atoms = Ula(antennas, spacing)(torch.cat([angle[None], torch.tensor(others, dtype=torch.float64)])[None])
    factor = torch.diag(torch.tensor([0.3, 0.2, 0.5], dtype=torch.complex128)).expand(1, 5, 3, 3)
    loss = losses.expected_misfit(gain @ truth, atoms, gain, factor, noise_var)
    return float(torch.autograd.grad(loss.sum(), angle)[0])


@pytest.mark.parametrize(("antennas", "spacing"), [(32, 0.5), (8, 0.9)])
def test_the_slope_of_proposition_five_corrected_is_autodiffs(antennas: int, spacing: float) -> None:
    points = np.linspace(-1.5, 1.5, 41)
    seen = losses.angle_slope(points, 0.19, antennas, spacing)
    truth = np.array([autodiff_slope(point, 0.19, antennas, spacing) for point in points])
    np.testing.assert_allclose(seen, truth, rtol=1e-9, atol=1e-9)


def test_the_slope_as_printed_has_nothing_to_do_with_it() -> None:
    points = np.linspace(-np.pi / 2, np.pi / 2, 20_001)
    theta = np.deg2rad(11.0)
    right, printed = (losses.angle_slope(points, theta, 32, form=form) for form in ("corrected", "as_printed"))
    assert abs(stats.pearsonr(right, printed).statistic) < 0.05


def test_stationary_points_are_where_the_slope_vanishes() -> None:
    theta, antennas = np.deg2rad(11.0), 32
    found = losses.stationary_points(theta, antennas)
    assert (found[0], found[-1]) == (-np.pi / 2, np.pi / 2)
    np.testing.assert_allclose(losses.angle_slope(found[[0, -1]], theta, antennas), 0, atol=1e-9)
    x = np.pi * (antennas - 0.5) * (np.sin(theta) - np.sin(found[1:-1]))
    np.testing.assert_allclose(np.sin(x), x * np.cos(x), atol=1e-9)
    points = np.linspace(-1.5, 1.5, 20_001)
    slopes = losses.angle_slope(points, theta, antennas)
    changes = np.flatnonzero(np.sign(slopes[1:]) != np.sign(slopes[:-1]))
    truth = np.array(
        [optimize.brentq(losses.angle_slope, points[at], points[at + 1], (theta, antennas)) for at in changes]
    )
    near = np.abs(np.sin(truth) - np.sin(theta)) < 0.3
    assert near.sum() == 17
    apart = [np.min(np.abs(np.sin(found) - np.sin(one))) for one in truth[near]]
    assert np.max(apart) < 2e-4  # the beam is 0.0625 wide
    curved = np.sign(losses.angle_slope(truth + 1e-5, theta, antennas))
    np.testing.assert_array_equal(curved, [(-1.0) ** k for k in range(np.argmin(np.abs(truth - theta)), -1, -1)] + [
        (-1.0) ** k for k in range(1, len(truth) - np.argmin(np.abs(truth - theta)))
    ])  # fmt: skip


@pytest.mark.parametrize("theta", [0.0, 0.2, -0.7])
def test_with_more_antennas_the_points_come_closer(theta: float) -> None:
    misses = []
    for antennas in (16, 64, 256):
        found = losses.stationary_points(theta, antennas)
        inner = found[np.abs(np.sin(found) - np.sin(theta)) < 0.4 * (1 - abs(np.sin(theta)))]
        scale = np.abs(losses.angle_slope(np.linspace(-1.5, 1.5, 4001), theta, antennas)).max()
        misses.append(np.abs(losses.angle_slope(inner, theta, antennas)).max() / scale)
    assert misses[0] > 4 * misses[1] > 16 * misses[2]


def test_the_fit_of_a_spectrum_is_the_frobenius_distance() -> None:
    atoms = Ula(6)(torch.linspace(-1, 1, 5, dtype=torch.float64))
    power = torch.rand(2, 5, dtype=torch.float64)
    noise_var = torch.tensor([0.2, 0.4], dtype=torch.float64)
    truth = torch.stack([torch.diag(one).to(atoms.dtype) for one in power])
    model = atoms.T @ truth @ atoms.conj() + noise_var[:, None, None] * torch.eye(6)
    there = losses.spectrum_fit(model, power, atoms, noise_var, 0.1)
    torch.testing.assert_close(there, 0.1 * power.sum(-1))
    other = complex_(2, 6, 6)
    seen = losses.spectrum_fit(other, power, atoms, noise_var, 0.0)
    torch.testing.assert_close(seen[1], torch.linalg.matrix_norm(other[1] - model[1]) ** 2 / 36)
