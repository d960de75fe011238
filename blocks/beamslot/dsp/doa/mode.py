"""MODE: weighted subspace fitting for a uniform line, by quadratic problems in the polynomial of the angles.

| symbol | name | meaning |
|---|---|---|
| b(z) | polynomial | sum_k b_k z^k, k = 0 .. K, its roots exp(j 2 pi d sin(theta)); b_k = b_(K - k)* |
| H | annihilator | (F, N - K, N), row n holds b from column n on: H A = 0 |
| e_i, w_i | signal, weight | eigenvectors of R, and (l_i - sigma^2)^2 / l_i |

Minimised is sum_i w_i ||(H H^H)^(-1/2) H e_i||^2: first with H H^H = I, then with that of the b found, as in IQML.
It is efficient with many snapshots, coherent users or not; those share an eigenvector, and `rank` says how many
there are. The unknowns are b in a basis of what is conjugate-symmetric, real and of unit norm, which excludes no angle.

source: Stoica and Sharman, IEE Proc. F 137(1), 1990, and IEEE Trans. ASSP 38(7), 1990 (MODE); Viberg and Ottersten,
IEEE Trans. SP 39(5), 1991 (the weights); Bresler and Macovski, IEEE Trans. ASSP 34(5), 1986 (IQML)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import angles_of, centre_turn, sample_covariance
from beamslot.dsp.doa.root_music import roots
from beamslot.dsp.estimate import refuse
from beamslot.dsp.ula import Complex, Real

ROUNDS = 2
"""Quadratic problems solved: with B^H B = I, and once with that of the first."""


def mode(
    observation: NDArray[Any],
    users: int,
    spacing: float = 0.5,
    *,
    rank: int | None = None,
    rounds: int = ROUNDS,
    start: Real | None = None,
) -> Real:
    """Return the angles by MODE.

    observation: (F, M, N)    users: K, fewer than N    rank: signal eigenvectors, 1 .. K; None for min(K, M)
    rounds: quadratic problems, at least 1; 2 are efficient with many snapshots
    start: (F, K) angles of another method [rad], whose b takes the place of the first problem's. At low SNR that is
        biased, and ends in outliers (28 % at -10 dB with 40 snapshots) where one round from a start has hardly any
    returns (F, K) ascending [rad]
    source: the module's
    """
    snapshots, antennas = observation.shape[-2:]
    rank = min(users, snapshots) if rank is None else rank
    refuse(
        ("doa.users", users, f"1 .. {antennas - 1}, fewer than the antennas", 1 <= users < antennas),
        ("mode.rank", rank, f"1 .. {users}, the users", 1 <= rank <= users),
        ("mode.rounds", rounds, "at least 1", rounds >= 1),
    )
    values, vectors = np.linalg.eigh(sample_covariance(observation))
    noise_var = values[..., : antennas - users].mean(axis=-1, keepdims=True)
    strong = values[..., antennas - rank :]
    weight = (strong - noise_var) ** 2 / np.maximum(strong, np.finfo(np.float64).tiny)
    signal = vectors[..., antennas - rank :] * np.sqrt(weight)[..., None, :]
    windows = np.lib.stride_tricks.sliding_window_view(signal, users + 1, axis=-2)
    data = np.concatenate(np.moveaxis(windows, -2, 0), axis=-1)  # (F, N - K, rank (K + 1)), H e_i = data_i b
    polynomial = _least(data, data, rank) if start is None else _with_roots(start, spacing)
    for _ in range(rounds - (start is None)):
        whitened: Any = np.linalg.solve(_outer(polynomial, antennas), data)
        polynomial = _least(data, whitened, rank)
    return angles_of(np.angle(roots(polynomial)), spacing)


def _with_roots(theta: Real, spacing: float) -> Complex:
    """Return b, (F, K + 1), whose roots are the responses' ratios at some angles; any factor will do."""
    polynomial = np.ones((*theta.shape[:-1], 1), np.complex128)
    for ratio in np.moveaxis(np.exp(2j * np.pi * spacing * np.sin(theta)), -1, 0)[..., None]:
        zero = np.zeros_like(polynomial[..., :1])
        raised, lowered = (np.concatenate(pair, axis=-1) for pair in ((zero, polynomial), (polynomial, zero)))
        polynomial = raised - ratio * lowered
    return polynomial


def _least(data: Complex, whitened: Complex, rank: int) -> Complex:
    """Return b of unit norm with the least sum_i b^H data_i^H whitened_i b."""
    order = data.shape[-1] // rank
    parts = (np.split(one, rank, axis=-1) for one in (data, whitened))
    form: Any = sum(np.swapaxes(one.conj(), -1, -2) @ other for one, other in zip(*parts, strict=True))
    basis = centre_turn(order)
    real = (basis.conj().T @ form @ basis).real
    return np.linalg.eigh((real + np.swapaxes(real, -1, -2)) / 2)[1][..., 0] @ basis.T


def _outer(polynomial: Complex, antennas: int) -> Complex:
    """Return H H^H, (F, N - K, N - K)."""
    order = polynomial.shape[-1]
    rows = antennas - order + 1
    annihilator = np.zeros((*polynomial.shape[:-1], rows, antennas), np.complex128)
    for shift in range(order):
        annihilator[..., np.arange(rows), np.arange(rows) + shift] = polynomial[..., shift, None]
    return annihilator @ np.swapaxes(annihilator.conj(), -1, -2)
