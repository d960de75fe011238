"""MUSIC on a grid: where responses have least in the noise subspace.

| symbol | name | meaning |
|---|---|---|
| E | signal | (F, L, K) signal subspace |
| D(u) | null_spectrum | (F, bins), a^H (I - E E^H) a / L, 0 at a user without noise, 1 far from all |

source: Schmidt, IEEE Trans. AP 34(3), 1986
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import angles_of, diagonal_sums, noise_projector, on_grid, signal_subspace
from beamslot.dsp.doa.peaks import bins_for, peak_angles
from beamslot.dsp.ula import Complex, Real

STEPS = 3
"""Of Newton's, from the grid to the minimum between its points."""


def music(
    observation: NDArray[Any],
    users: int,
    spacing: float = 0.5,
    *,
    subarray: int | None = None,
    bins: int | None = None,
    steps: int = STEPS,
) -> Real:
    """Return the angles of the K deepest local minima of the null spectrum, moved from the grid by Newton's steps.

    observation: (F, M, N)    users: K    subarray: L, for spatial smoothing; None for none
    bins: of the grid, even, at least 2 L - 1; None for twice `peaks.bins_for`
    steps: of Newton's, 0 for the grid and its parabola
    returns (F, K) ascending [rad]
    source: the module's
    """
    signal = signal_subspace(observation, users, subarray)
    return minima(noise_projector(signal), users, spacing, bins=bins, steps=steps)


def null_spectrum(signal: Complex, bins: int | None = None) -> Real:
    """Return D on the grid `covariance.sines`.

    signal: (F, L, K), orthonormal    bins: even, at least 2 L - 1; None as for `music`    returns (F, bins)
    source: the module's
    """
    return on_grid(noise_projector(signal), bins or 2 * bins_for(signal.shape[-2])) / signal.shape[-2]


def minima(projector: Complex, users: int, spacing: float, *, bins: int | None = None, steps: int = STEPS) -> Real:
    """Return the angles at which a^H P a has its K deepest local minima.

    projector: (F, L, L) P, Hermitian, not negative    other arguments as those of `music`
    returns (F, K) ascending [rad]
    """
    antennas = projector.shape[-1]
    bins = bins or 2 * bins_for(antennas)
    depth = np.maximum(on_grid(projector, bins), np.finfo(np.float64).eps * antennas)
    theta = peak_angles(1 / depth, users, antennas, spacing)
    phase = 2 * np.pi * spacing * np.sin(theta)
    return angles_of(_newton(diagonal_sums(projector), phase, steps, 2 * np.pi / bins), spacing)


def _newton(sums: Complex, phase: Real, steps: int, longest: float) -> Real:
    """Move phases to the minimum of c_0 + 2 Re sum_l c_l exp(j l phase), in steps no longer than a bin."""
    lag = np.arange(sums.shape[-1])
    for _ in range(steps):
        terms = sums[..., None, :] * np.exp(1j * lag * phase[..., None])
        slope = -2 * np.sum(lag * terms.imag, axis=-1)
        bend = -2 * np.sum(lag**2 * terms.real, axis=-1)
        move = np.where(bend > 0, -slope / np.where(bend > 0, bend, 1), 0)
        phase = phase + np.clip(move, -longest, longest)
    return (phase + np.pi) % (2 * np.pi) - np.pi
