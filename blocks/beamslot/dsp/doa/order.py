"""How many users there are, by information criteria on the eigenvalues of a covariance.

| symbol | name | meaning |
|---|---|---|
| l_1 >= .. >= l_N | eigenvalues | (F, N), descending |
| Lambda_k | | M (N - k) ln(arithmetic / geometric mean of the N - k least): how much worse than without a model |
| nu_k | | free real numbers of k users: k (2 N - k), and k (2 N - k + 1) / 2 where R is centro-Hermitian |

MDL takes the k with the least Lambda_k + nu_k ln(M) / 2, AIC that of 2 Lambda_k + 2 nu_k. Smoothed, N is the antennas
of a subarray. Decision: with S subarrays a snapshot counts as sqrt(S). They overlap, so that S is too many: MDL then
finds users that are not there; and with 1 it finds too few, and of a single snapshot knows nothing.

source: Wax and Kailath, IEEE Trans. ASSP 33(2), 1985; Xu, Roy, Kailath, IEEE Trans. SP 42(1), 1994 (centro-Hermitian)
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import SUBARRAY, centre_turn, covariance_of
from beamslot.dsp.ula import Real

Criterion = Literal["mdl", "aic"]

ROUNDING = 1e-12
"""Eigenvalues below so much of the largest may be rounding of single precision, which is not white, and count alike."""


def users_by_eigenvalues(
    eigenvalues: Real, snapshots: float, criterion: Criterion = "mdl", *, centro: bool = False
) -> NDArray[np.int64]:
    """Return the number of users with the least criterion.

    eigenvalues: (F, N), those that must be positive, any order
    snapshots: M, or the number of independent ones that they are worth
    centro: whether they are those of a centro-Hermitian covariance
    returns (F,), 0 .. N - 1
    source: the module's
    """
    return np.argmin(criteria(eigenvalues, snapshots, criterion, centro=centro), axis=-1)


def criteria(eigenvalues: Real, snapshots: float, criterion: Criterion = "mdl", *, centro: bool = False) -> Real:
    """Return the criterion of every number of users from 0 to N - 1; arguments as those of `users_by_eigenvalues`.

    returns (F, N)
    """
    count = eigenvalues.shape[-1]
    users = np.arange(count)
    ascending = np.sort(eigenvalues, axis=-1)
    ascending = np.maximum(ascending, np.maximum(ROUNDING * ascending[..., -1:], np.finfo(np.float64).tiny))
    left = np.arange(1, count + 1)
    arithmetic = np.log(np.cumsum(ascending, axis=-1) / left)
    geometric = np.cumsum(np.log(ascending), axis=-1) / left
    misfit = (snapshots * left * (arithmetic - geometric))[..., ::-1]
    free = users * (2 * count - users + 1) / 2 if centro else users * (2 * count - users)
    return misfit + free * np.log(snapshots) / 2 if criterion == "mdl" else 2 * misfit + 2 * free


def count_users(
    observation: NDArray[Any], criterion: Criterion = "mdl", *, subarray: int | None = SUBARRAY
) -> NDArray[np.int64]:
    """Return how many users each frame holds.

    Coherent users count as one without a subarray.

    observation: (F, M, N)    subarray: antennas of the smoothed covariance; None for the plain one
    returns (F,)
    source: the module's
    """
    covariance = covariance_of(observation, subarray)
    snapshots, antennas = observation.shape[-2:]
    values: Any
    if subarray is None:
        values, rank, worth = np.linalg.eigvalsh(covariance), snapshots, float(snapshots)
    else:
        turn = centre_turn(subarray)
        values = np.linalg.eigvalsh((turn.conj().T @ covariance @ turn).real)
        rank, worth = 2 * snapshots * (antennas - subarray + 1), snapshots * np.sqrt(antennas - subarray + 1)
    # Of fewer snapshots than antennas the least eigenvalues are zero, and say nothing.
    kept = values[..., max(values.shape[-1] - rank, 0) :]
    return users_by_eigenvalues(kept, worth, criterion, centro=subarray is not None)
