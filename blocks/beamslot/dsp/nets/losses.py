"""Losses of the knowledge-aware VAE, and what its loss looks like over one angle.

| symbol | name | meaning |
|---|---|---|
| Y | observation | (F, M, R) complex, R antennas or what is behind an analog operator |
| A | atoms | (F, K, R) of the angles, a user a row: Y = H A without noise |
| q(h_m) = CN(mu_m, L_m L_m^H) | mean, factor | (F, M, K), (F, M, K, K) |
| p(h_m) = CN(mu, Sigma) | prior | mean (F, K) or (K,), factor (K, K) or (F, K, K) with factor factor^H = Sigma |
| sigma^2 | noise_var | (F,) variance of a complex entry of the noise |

Losses are of a frame, (F,), summed over its snapshots, in nats with all constants: -ELBO >= -log p(Y | theta), equal at
what `posterior` returns. The angles are point estimates: their Dirac has no finite entropy, and no term here.

source: paper 000, eqs. (7), (14), Props. 2, 3, 5. Where the paper's print is wrong, the right form is here, and the
printed one beside it under its name
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Form = Literal["corrected", "as_printed"]
"""Of the ELBO: tr(Sigma^-1 Sigma_hat), as the paper derives in (23); or tr(Sigma_hat^-1 Sigma), as it prints in (7)."""

Weighting = Literal["none", "noise"]
"""Of frames of different SNR: alike; or by sigma^2, without which those of high SNR are all that counts."""


class Prior(NamedTuple):
    """Of the gains: mean (F, K) or (K,) complex, factor (K, K) or (F, K, K) complex lower triangular."""

    mean: Tensor
    factor: Tensor


class Gaussian(NamedTuple):
    """Of the gains of every snapshot: mean (F, M, K) and a square root of the covariance (F, K, K), not triangular."""

    mean: Tensor
    root: Tensor


def kl(mean: Tensor, factor: Tensor, prior: Prior) -> Tensor:
    """Return the KL divergence of q from p, (F,), both complex and circular; the first part of (7).

    factor, prior.factor: lower triangular with a positive diagonal
    source: paper 000, eqs. (22), (23)
    """
    spread = torch.linalg.solve_triangular(_of_frame(prior.factor), factor, upper=False)
    terms = _power(spread, (-2, -1)) - 2 * _log_diagonal(factor) - mean.shape[-1]
    return (terms + _surprise(mean, prior) + 2 * _log_diagonal(_of_frame(prior.factor))).sum(-1)


def printed_divergence(mean: Tensor, factor: Tensor, prior: Prior) -> Tensor:
    """Return the first part of (7) as it is printed, (F,); no divergence, and it inflates the posterior.

    source: paper 000, eq. (7)
    """
    spread = torch.linalg.solve_triangular(factor, _of_frame(prior.factor).expand_as(factor), upper=False)
    return (_power(spread, (-2, -1)) - 2 * _log_diagonal(factor) + _surprise(mean, prior)).sum(-1)


def expected_misfit(observation: Tensor, atoms: Tensor, mean: Tensor, factor: Tensor, noise_var: Tensor) -> Tensor:
    """Return E_q ||Y - H A||^2 / sigma^2 in closed form, (F,).

    source: paper 000, eqs. (24), (27)
    """
    spread = (factor.conj() * (_gram(atoms)[:, None] @ factor)).real.sum((-3, -2, -1))
    return (_power(observation - mean @ atoms, (-2, -1)) + spread) / noise_var


def misfit(observation: Tensor, reconstruction: Tensor, noise_var: Tensor) -> Tensor:
    """Return ||Y - Y_hat||^2 / sigma^2, (F,); its mean over draws of the gains is the second part of (7).

    source: paper 000, eq. (7)
    """
    return _power(observation - reconstruction, (-2, -1)) / noise_var


def negative_elbo(divergence: Tensor, misfit: Tensor, noise_var: Tensor, entries: int) -> Tensor:
    """Return -ELBO [nat], (F,), of its two parts and the constant that the paper leaves out.

    divergence, misfit: (F,)    entries: M R complex numbers a frame
    source: paper 000, Prop. 2
    """
    return divergence + misfit + entries * torch.log(math.pi * noise_var)


def posterior(observation: Tensor, atoms: Tensor, prior: Prior, noise_var: Tensor) -> Gaussian:
    """Return p(h_m | Y, theta), the q(h_m) that makes the ELBO tight.

    Also where Sigma is singular (coherent users): any factor of it serves.

    source: paper 000, Prop. 3, eq. (15), with A^H y_m in the place of A^H A h_m, which nobody observes
    """
    inner, matched = _whitened(observation, atoms, prior)
    scaled = torch.linalg.cholesky(inner + noise_var[:, None, None] * _eye(inner))
    away = torch.cholesky_solve(matched.mT, scaled)
    mean = _snapshots(prior.mean) + (prior.factor @ away).mT
    # L (I + L^H G L / sigma^2)^-1 L^H; the factor of the inverse is upper, and any square root will do.
    square_root = torch.linalg.solve_triangular(scaled.mH, _eye(inner).expand_as(inner), upper=True)
    return Gaussian(mean, torch.sqrt(noise_var)[:, None, None] * (prior.factor @ square_root))


def collapsed(observation: Tensor, atoms: Tensor, prior: Prior, noise_var: Tensor) -> Tensor:
    """Return -log p(Y | theta), (F,): the negative ELBO with the optimal q(h_m), and so without any.

    source: paper 000, Props. 1-3; Woodbury's identity, K x K matrices only
    """
    snapshots, entries = observation.shape[-2:]
    inner, matched = _whitened(observation, atoms, prior)
    scaled = torch.linalg.cholesky(inner + noise_var[:, None, None] * _eye(inner))
    explained = _power(torch.linalg.solve_triangular(scaled, matched.mT, upper=False), (-2, -1))
    residual = _power(observation - _snapshots(prior.mean) @ atoms, (-2, -1))
    users = inner.shape[-1]
    determinant = 2 * _log_diagonal(scaled) + (entries - users) * torch.log(noise_var) + entries * math.log(math.pi)
    return snapshots * determinant + (residual - explained) / noise_var


def angle_error(theta: Tensor, labels: Tensor) -> Tensor:
    """Return ||theta - labels||^2 [rad^2], (F,); labels ascend, so that the net learns who is the first user.

    source: paper 000, second term of eq. (14)
    """
    return (theta - labels.sort(-1).values).square().sum(-1)


def initialisation(at_labels: Tensor, theta: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return the loss of the first phase, (F,).

    Its terms share no parameter: the first is of the channel net, the second of the AoA net. So with an optimiser that
    does not see the scale of a gradient, as Adam, gamma only says how much each adds to the number that is logged.

    at_labels: (F,) the loss (7) with pseudo-labels for angles    theta, labels: (F, K) [rad]
    source: paper 000, eq. (14); Decision: radians, labels sorted
    """
    return at_labels + gamma * angle_error(theta, labels)


def gain_error(mean: Tensor, gain: Tensor) -> Tensor:
    """Return ||H - H_hat||^2, (F,), of gains (F, M, K) in the order of ascending angles; supervised."""
    return _power(mean - gain, (-2, -1))


def weighted_mean(loss: Tensor, noise_var: Tensor, weighting: Weighting = "none") -> Tensor:
    """Return the mean of losses of frames, each times sigma^2 where that is asked for."""
    return (loss * noise_var if weighting == "noise" else loss).mean()


def spectrum_fit(covariance: Tensor, power: Tensor, atoms: Tensor, noise_var: Tensor, sparsity: float) -> Tensor:
    """Return how badly powers on a grid of directions explain a covariance, (F,); no labels.

    ||R - A diag(p) A^H - sigma^2 I||_F^2 / N^2 + sparsity sum(p)

    covariance: (F, N, N)    power: (F, G), not negative    atoms: (G, N) of the grid
    Decision: the recipe of the unsupervised CNN, of which the paper gives none
    """
    model = (atoms.T * power[:, None].to(atoms.dtype)) @ atoms.conj()
    antennas = atoms.shape[-1]
    left = covariance - model - noise_var[:, None, None] * _eye(covariance)
    return _power(left, (-2, -1)) / antennas**2 + sparsity * power.sum(-1)


def angle_slope(
    theta_hat: NDArray[np.float64],
    theta: float,
    antennas: int,
    spacing: float = 0.5,
    form: Form = "corrected",
) -> NDArray[np.float64]:
    """Return the derivative of (7) in one user's angle, gains and other angles true, for sum |h_mk|^2 / sigma^2 = 1.

    For Y without noise and a diagonal Sigma_hat. As printed, a conjugate is lost: no derivative of (7).

    theta_hat: (...) [rad]    theta: the true angle [rad]
    source: paper 000, Prop. 5, eq. (50)
    """
    kappa = 2 * np.pi * spacing
    n = np.arange(antennas)
    here, there = np.sin(np.asarray(theta_hat))[..., None], np.sin(theta)
    slopes = kappa * n * np.cos(np.asarray(theta_hat))[..., None]
    if form == "as_printed":
        return np.sum(slopes * (np.sin(kappa * (there + here) * n) - np.sin(2 * kappa * here * n)), -1)
    return -2 * np.sum(slopes * np.sin(kappa * n * (there - here)), -1)


def stationary_points(theta: float, antennas: int, spacing: float = 0.5) -> NDArray[np.float64]:
    """Return where that derivative vanishes for many antennas, ascending [rad]: +-pi/2 and the roots of tan x = x.

    x = kappa (N - 1/2) (sin(theta) - sin(theta_hat)); x = 0 is the truth, and every second one is a minimum. It holds
    close to the truth: the exact tan x = (2 N - 1) tan(x / (2 N - 1)) moves away from it where x / N is not small.

    source: paper 000, Prop. 5, eq. (18), corrected
    """
    scale = 2 * np.pi * spacing * (antennas - 0.5)
    furthest = scale * (1 + abs(np.sin(theta)))
    orders = np.arange(1, int(furthest / np.pi) + 1)
    roots = _tangent_roots(orders)
    sines = np.sin(theta) - np.concatenate([-roots, [0.0], roots]) / scale
    inside = np.arcsin(sines[np.abs(sines) < 1])
    return np.sort(np.concatenate([[-np.pi / 2], inside, [np.pi / 2]]))


def _tangent_roots(orders: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the root of tan x = x in (l pi, l pi + pi/2), of every l >= 1, by Newton on x cos x = sin x."""
    top = (orders + 0.5) * np.pi
    x = top - 1 / top
    for _ in range(4):
        x = x - (np.sin(x) - x * np.cos(x)) / (x * np.sin(x))
    return x


def _whitened(observation: Tensor, atoms: Tensor, prior: Prior) -> tuple[Tensor, Tensor]:
    """Return L^H A^H A L (F, K, K), and L^H A^H (y_m - A mu) of every snapshot (F, M, K)."""
    away = observation - _snapshots(prior.mean) @ atoms
    inner = prior.factor.mH @ _gram(atoms) @ prior.factor
    return inner, (away @ atoms.mH) @ prior.factor.conj()


def _gram(atoms: Tensor) -> Tensor:
    return atoms.conj() @ atoms.mT


def _surprise(mean: Tensor, prior: Prior) -> Tensor:
    away = (mean - _snapshots(prior.mean))[..., None]
    return _power(torch.linalg.solve_triangular(_of_frame(prior.factor), away, upper=False), (-2, -1))


def _of_frame(factor: Tensor) -> Tensor:
    """Return a factor with an axis for snapshots."""
    return factor[..., None, :, :]


def _snapshots(mean: Tensor) -> Tensor:
    return mean[..., None, :]


def _power(array: Tensor, axes: tuple[int, ...]) -> Tensor:
    return (array.real.square() + array.imag.square()).sum(axes)


def _log_diagonal(factor: Tensor) -> Tensor:
    return torch.log(factor.diagonal(dim1=-2, dim2=-1).real).sum(-1)


def _eye(like: Tensor) -> Tensor:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
