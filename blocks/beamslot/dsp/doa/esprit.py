"""ESPRIT: the signal subspace of all antennas but the last, turned, is that of all but the first.

| symbol | name | meaning |
|---|---|---|
| E_1, E_2 | lower, upper | (F, L - 1, K) rows of E but the last, but the first |
| Psi | turn | (F, K, K), E_1 Psi = E_2; its eigenvalues are exp(j 2 pi d sin(theta_k)) |

source: Roy and Kailath, IEEE Trans. ASSP 37(7), 1989
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import angles_of, signal_subspace
from beamslot.dsp.ula import Complex, Real


def esprit(
    observation: NDArray[Any],
    users: int,
    spacing: float = 0.5,
    *,
    fit: Literal["tls", "ls"] = "tls",
    subarray: int | None = None,
) -> Real:
    """Return the angles by ESPRIT.

    observation: (F, M, N)    users: K    fit: of Psi, by total or by plain least squares
    subarray: L, for forward-backward spatial smoothing; None for none
    returns (F, K) ascending [rad]
    source: the module's
    """
    signal = signal_subspace(observation, users, subarray)
    lower, upper = signal[..., :-1, :], signal[..., 1:, :]
    turn = _total(lower, upper) if fit == "tls" else _plain(lower, upper)
    values: Any = np.linalg.eigvals(turn)
    return angles_of(np.angle(values), spacing)


def _plain(lower: Complex, upper: Complex) -> Complex:
    adjoint = np.swapaxes(lower.conj(), -1, -2)
    turn: Any = np.linalg.solve(adjoint @ lower, adjoint @ upper)
    return turn


def _total(lower: Complex, upper: Complex) -> Complex:
    users = lower.shape[-1]
    both = np.concatenate([lower, upper], axis=-1)
    least = np.linalg.eigh(np.swapaxes(both.conj(), -1, -2) @ both)[1][..., :users]
    above, below = np.swapaxes(least[..., :users, :], -1, -2), np.swapaxes(least[..., users:, :], -1, -2)
    turned: Any = np.linalg.solve(below, above)  # Psi = -V_12 V_22^-1, solved from the right
    return -np.swapaxes(turned, -1, -2)
