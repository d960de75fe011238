"""KR-MUSIC: powers that change from block to block tell users apart, also more users than antennas.

| symbol | name | meaning |
|---|---|---|
| R_b | local covariance | of block b of T snapshots, A diag(d_b) A^H + noise |
| r_b | lags | (F, B, 2 N - 1), mean of R_b along each diagonal: B's Vandermonde A_v d_b, lags -(N - 1) .. N - 1 |
| P_1 | | projector that takes the mean over blocks away, and with it all noise of constant covariance |

vec(R_b) = (A* o A) d_b is, for a uniform line, that of a virtual one of 2 N - 1 antennas, each entry as often as the
diagonal is long: scaled by the root of that, entries are orthonormal combinations of vec(R_b). The K largest left
singular vectors of the lags without their mean span the users; MUSIC follows on the virtual line.

Decision: the method is for quasi-stationary signals, with powers constant for many snapshots; here gains are drawn anew
in every snapshot. So what differs from block to block are the realised powers, most where a block is one snapshot, the
default. Products of different users do not average out as they would in long blocks, and make the method much worse
than MUSIC here. It fails where powers do not change, and with coherent users, which rise and fall together.

source: Ma, Hsieh, Chi, IEEE Trans. SP 58(4), 2010, III and IV-B (dimension reduction for a uniform line)
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import noise_projector
from beamslot.dsp.doa.music import minima
from beamslot.dsp.estimate import refuse
from beamslot.dsp.ula import Complex, Real

BLOCK = 1
"""Snapshots of a block; at 10 dB and 40 snapshots errors grow as 0.067, 0.080, 0.120, 0.257 deg with 1, 2, 4, 8."""


def kr_music(
    observation: NDArray[Any], users: int, spacing: float = 0.5, *, block: int = BLOCK, bins: int | None = None
) -> Real:
    """Return the angles by Khatri-Rao MUSIC.

    observation: (F, M, N)    users: K, at most 2 N - 2, and fewer than blocks
    block: T, snapshots of a block; those that fill no block are left out
    bins: even, at least 4 N - 3; None as for `music`
    returns (F, K) ascending [rad]
    raises BadParam where there are too few blocks
    source: the module's
    """
    blocks, virtual = observation.shape[-2] // block, 2 * observation.shape[-1] - 1
    most = min(blocks, virtual) - 1
    refuse(("kr_music.users", users, f"1 .. {most}, with {blocks} blocks of {block}", 1 <= users <= most))
    return from_lags(local_lags(observation, block), users, spacing, bins=bins)


def from_lags(lags: Complex, users: int, spacing: float = 0.5, *, bins: int | None = None) -> Real:
    """Return the angles from what `local_lags` gives, (F, B, 2 N - 1); arguments as those of `kr_music`."""
    virtual = lags.shape[-1]
    lags = lags - lags.mean(axis=-2, keepdims=True)
    scatter = np.swapaxes(lags, -1, -2) @ lags.conj()
    signal = np.linalg.eigh(scatter)[1][..., virtual - users :]
    # The virtual responses carry the weights; dividing by them, and not projecting anew, keeps the noise subspace.
    weight = np.sqrt(_lengths((virtual + 1) // 2))
    projector = weight[:, None] * noise_projector(signal) * weight
    return minima(projector, users, spacing, bins=bins)


def local_lags(observation: NDArray[Any], block: int) -> Complex:
    """Return the diagonal sums of every block's covariance over the roots of their lengths.

    observation: (F, M, N)    block: T
    returns (F, M // T, 2 N - 1), from the lowest diagonal, lag n - n' = -(N - 1), on
    source: the module's, Ma, Hsieh, Chi, IV-B
    """
    rows = np.asarray(observation, np.complex128)
    snapshots, antennas = rows.shape[-2:]
    blocks = snapshots // block
    # Sums along the diagonals of y y^H are autocorrelations: by FFT, of twice the length.
    spectrum = np.abs(np.fft.fft(rows[..., : blocks * block, :], 2 * antennas, axis=-1)) ** 2
    local = spectrum.reshape(*spectrum.shape[:-2], blocks, block, -1).mean(axis=-2)
    sums = np.fft.fftshift(np.fft.ifft(local, axis=-1), axes=-1)[..., 1:]
    return sums / np.sqrt(_lengths(antennas))


def _lengths(antennas: int) -> Real:
    return antennas - np.abs(np.arange(1 - antennas, antennas, dtype=np.float64))
