"""Covariances of snapshots, what makes coherent users visible in them, and forms a^H P a on a whole grid.

| symbol | name | meaning |
|---|---|---|
| Y | observation | (F, M, N), y_m a row |
| R | covariance | (F, N, N), sum_m y_m y_m^H / M |
| L | subarray | antennas of a subarray; there are N - L + 1 of them |
| J | | exchange matrix, ones on the antidiagonal |
| E | | (F, N, K) eigenvectors of the K largest eigenvalues, the signal subspace |

source: Pillai and Kwon, IEEE Trans. ASSP 37(1), 1989 (forward-backward spatial smoothing); Huarng and Yeh, IEEE
Trans. SP 39(4), 1991 (the real form)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.estimate import refuse
from beamslot.dsp.ula import Complex, Real

SUBARRAY = 24
"""Of 32 antennas: nine subarrays, and half of the aperture's information kept even between three coherent users."""


def default_subarray(antennas: int) -> int:
    """Return three quarters of the antennas: `SUBARRAY` of 32."""
    return max(3 * antennas // 4, 2)


def sample_covariance(observation: NDArray[Any]) -> Complex:
    """Return R = sum_m y_m y_m^H / M.

    observation: (F, M, N)    returns (F, N, N), Hermitian
    source: paper 000, III-A
    """
    rows = np.asarray(observation, np.complex128)
    return np.swapaxes(rows, -1, -2) @ rows.conj() / rows.shape[-2]


def forward_backward(covariance: Complex) -> Complex:
    """Return (R + J R* J) / 2, what the array sees, averaged with what it would see from the other end.

    covariance: (F, N, N)    returns (F, N, N), Hermitian and centro-Hermitian
    """
    return (covariance + covariance[..., ::-1, ::-1].conj()) / 2


def spatially_smoothed(covariance: Complex, subarray: int = SUBARRAY) -> Complex:
    """Return the mean covariance of all subarrays, forward and backward (FBSS).

    Of any number of snapshots, up to 2 (N - L + 1) coherent users are seen, and fewer than L.

    covariance: (F, N, N)    subarray: L, 2 .. N
    returns (F, L, L), Hermitian and centro-Hermitian
    raises BadParam for a subarray that does not fit
    source: the module's, Pillai and Kwon
    """
    antennas = covariance.shape[-1]
    refuse(("doa.subarray", subarray, f"2 .. {antennas}, the antennas", 2 <= subarray <= antennas))
    mean = np.zeros((*covariance.shape[:-2], subarray, subarray), np.complex128)
    for start in range(antennas - subarray + 1):
        mean += covariance[..., start : start + subarray, start : start + subarray]
    return forward_backward(mean / (antennas - subarray + 1))


def covariance_of(observation: NDArray[Any], subarray: int | None = None) -> Complex:
    """Return the sample covariance, smoothed where a subarray is given, else as it is.

    returns (F, N, N), or (F, L, L)
    """
    plain = sample_covariance(observation)
    return plain if subarray is None else spatially_smoothed(plain, subarray)


def eigen(covariance: Complex, centro: bool = False) -> tuple[Real, Complex]:
    """Return eigenvalues, ascending, and eigenvectors of covariances.

    covariance: (F, N, N)    centro: whether they are centro-Hermitian; then a real matrix is decomposed, faster
    returns (F, N) and (F, N, N), a vector a column
    source: the module's, Huarng and Yeh
    """
    if not centro:
        return np.linalg.eigh(covariance)
    turn = centre_turn(covariance.shape[-1])
    values, vectors = np.linalg.eigh((turn.conj().T @ covariance @ turn).real)
    return values, turn @ vectors


def centre_turn(antennas: int) -> Complex:
    """Return Q, (N, N) unitary with J Q* = Q: Q^H R Q is real for every centro-Hermitian R."""
    half, odd = divmod(antennas, 2)
    one, flip = np.eye(half), np.eye(half)[::-1]
    turn = np.zeros((antennas, antennas), np.complex128)
    turn[:half, :half], turn[:half, half + odd :] = one, 1j * one
    turn[half + odd :, :half], turn[half + odd :, half + odd :] = flip, -1j * flip
    if odd:
        turn[half, half] = np.sqrt(2)
    return turn / np.sqrt(2)


def signal_subspace(observation: NDArray[Any], users: int, subarray: int | None = None) -> Complex:
    """Return E of the covariance of an observation, or of its subarrays where one is given.

    observation: (F, M, N)    users: K, fewer than the antennas of the covariance
    returns (F, N, K), or (F, L, K)
    raises BadParam for more users than there can be
    """
    covariance = covariance_of(observation, subarray)
    antennas = covariance.shape[-1]
    refuse(("doa.users", users, f"1 .. {antennas - 1}, fewer than the antennas", 1 <= users < antennas))
    return eigen(covariance, subarray is not None)[1][..., antennas - users :]


def noise_projector(signal: Complex) -> Complex:
    """Return I - E E^H, (F, N, N), from E, (F, N, K)."""
    return np.eye(signal.shape[-2]) - signal @ np.swapaxes(signal.conj(), -1, -2)


def diagonal_sums(matrix: Complex) -> Complex:
    """Return c_l = sum_n P_(n, n + l), l = 0 .. N - 1, the upper diagonals of matrices summed.

    With P Hermitian and steering vectors of a uniform line, a^H P a = c_0 + 2 Re sum_l c_l z^l, z = exp(j 2 pi d u).

    matrix: (F, N, N)    returns (F, N)
    """
    antennas, frames = matrix.shape[-1], matrix.shape[:-2]
    flat = np.zeros((*frames, 2 * antennas * antennas), np.complex128)
    rows = flat[..., : antennas * (2 * antennas - 1)].reshape(*frames, antennas, 2 * antennas - 1)
    rows[..., :antennas] = matrix
    # Read with rows one entry longer, row n stands n to the left: columns are diagonals, the lower ones at the end.
    return flat.reshape(*frames, antennas, 2 * antennas)[..., :antennas].sum(axis=-2)


def on_grid(matrix: Complex, bins: int) -> Real:
    """Return a^H P a of Hermitian matrices at every point of `sines`, by one FFT of their diagonal sums.

    matrix: (F, N, N)    bins: at least 2 N - 1, even    returns (F, bins)
    raises BadParam for fewer bins, which would alias
    """
    least = 2 * matrix.shape[-1] - 1
    refuse(("doa.bins", bins, f"even, at least {least}", bins >= least and not bins % 2))
    return np.fft.fftshift(np.fft.irfft(diagonal_sums(matrix), bins, axis=-1), axes=-1) * bins


def sines(bins: int, spacing: float = 0.5) -> Real:
    """Return u of every bin, ascending from -1 / (2 d) in steps of 1 / (d bins): one period of the array's response.

    With d < 1/2 some lie beyond +-1, where no user is; with d > 1/2 users beyond the ends come back as their aliases.
    """
    return (np.arange(bins) - bins // 2) / (bins * spacing)


def angles_of(phase: Real, spacing: float = 0.5) -> Real:
    """Return theta, ascending, of phase steps 2 pi d sin(theta) from antenna to antenna.

    phase: (F, K) [rad], within +-pi; beyond what the array can see it becomes +-pi / 2
    returns (F, K) [rad]
    """
    return np.arcsin(np.clip(np.sort(phase, axis=-1) / (2 * np.pi * spacing), -1, 1))
