"""Spectra over the sine of the angle, and their largest local maxima: pseudo-labels and features.

| symbol | name | meaning |
|---|---|---|
| S(u) | spectrum | (F, bins) [W], on the grid `covariance.sines`; of a lone user without noise its maximum is |h|^2 |
| y_m | observation | (F, M, N) |

The correlation spectrum of (8)-(10) averages over snapshots before it takes the modulus, which for gains of zero mean
leaves one faded snapshot; here the powers are averaged, and the coherent form is for a known strong mean. Read
literally, (11) takes the K largest values, which are neighbours of one peak: here it is the K largest local maxima.

source: paper 000, eqs. (8)-(11), in the reading above; Capon, Proc. IEEE 57(8), 1969
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import (
    SUBARRAY,
    angles_of,
    default_subarray,
    on_grid,
    sample_covariance,
    sines,
    spatially_smoothed,
)
from beamslot.dsp.estimate import refuse
from beamslot.dsp.ula import Complex, Real

Kind = Literal["matched", "coherent", "capon", "smoothed_capon"]
"""Of a spectrum: non-coherent and coherent correlation, Capon's, and Capon's of the smoothed covariance."""

BINS = 256
"""Points of a grid for 32 antennas; 4 in half a beam, enough for a parabola through the largest."""
LOADING = 1e-2
"""Added to the diagonal of what Capon inverts, relative to its mean."""
SILENCE = 1e-100
"""Power that is as good as none [W]."""


def bins_for(antennas: int) -> int:
    """Return how many points a grid has for so many antennas: the least power of two of at least 8 each."""
    return 1 << max(8 * antennas - 1, 1).bit_length()


def matched(observation: NDArray[Any], bins: int = BINS) -> Real:
    """Return the non-coherent spectrum, mean_m |a^H y_m|^2 / N^2.

    observation: (F, M, N)    bins: even, at least 2 N - 1    returns (F, bins) [W]
    source: the module's
    """
    return on_grid(sample_covariance(observation), bins) / observation.shape[-1] ** 2


def coherent(observation: NDArray[Any], bins: int = BINS) -> Real:
    """Return the spectrum of the mean snapshot, |a^H mean_m y_m|^2 / N^2, as the paper prints it.

    observation: (F, M, N)    bins: even, at least 2 N - 1    returns (F, bins) [W]
    source: paper 000, eqs. (8)-(10)
    """
    return matched(np.asarray(observation).mean(axis=-2, keepdims=True), bins)


def capon(covariance: Complex, bins: int = BINS, loading: float = LOADING) -> Real:
    """Return 1 / (a^H R^-1 a), the power that the narrowest filter lets through.

    covariance: (F, N, N)    loading: added to the diagonal, relative to its mean    returns (F, bins) [W]
    source: the module's, Capon
    """
    antennas = covariance.shape[-1]
    power = np.trace(covariance, axis1=-2, axis2=-1).real[..., None, None] / antennas
    floor = loading * power + SILENCE
    inverse: Any = np.linalg.inv(covariance + floor * np.eye(antennas))
    return 1 / np.maximum(on_grid(inverse, bins), SILENCE)


def spectra(
    observation: NDArray[Any],
    bins: int = BINS,
    kinds: tuple[Kind, ...] = ("matched", "capon", "smoothed_capon"),
    subarray: int = SUBARRAY,
    loading: float = LOADING,
) -> Real:
    """Return spectra of several kinds on one grid, the features of a net.

    observation: (F, M, N)    bins: even, at least 2 N - 1    kinds: in this order
    subarray: antennas of the smoothed covariance    loading: of `capon`
    returns (F, kinds, bins) [W]
    """
    plain = sample_covariance(observation)

    def one(kind: Kind) -> Real:
        if kind == "matched":
            return on_grid(plain, bins) / plain.shape[-1] ** 2
        if kind == "coherent":
            return coherent(observation, bins)
        return capon(plain if kind == "capon" else spatially_smoothed(plain, subarray), bins, loading)

    return np.stack([one(kind) for kind in kinds], axis=-2)


def largest_peaks(spectrum: Real, users: int, apart: int) -> Real:
    """Return where the K largest local maxima are, between grid points by a parabola through three.

    The grid is taken for a circle, whose ends meet. Where there are fewer maxima than users, others are the largest
    values that keep their distance from all before.

    spectrum: (F, bins)    users: K    apart: least distance of others from a maximum [bins]
    returns (F, K) ascending [bins], 0 that of the first point
    """
    bins = spectrum.shape[-1]
    refuse(("doa.users", users, f"1 .. {bins // (2 * apart)}", 1 <= users <= bins // (2 * apart)))
    before, after = np.roll(spectrum, 1, axis=-1), np.roll(spectrum, -1, axis=-1)
    peak = np.where((spectrum >= before) & (spectrum > after), spectrum, -np.inf)
    left = np.array(spectrum, np.float64)
    found = np.empty((*spectrum.shape[:-1], users), np.int64)
    for user in range(users):
        none = np.isneginf(peak).all(axis=-1, keepdims=True)
        best = np.argmax(np.where(none, left, peak), axis=-1)
        found[..., user] = best
        away = np.abs((np.arange(bins) - best[..., None] + bins // 2) % bins - bins // 2)
        peak[away == 0] = -np.inf
        left[away <= apart] = -np.inf
    return np.sort((found + _vertex(spectrum, found)) % bins, axis=-1)


def _vertex(spectrum: Real, at: NDArray[np.int64]) -> Real:
    bins = spectrum.shape[-1]
    low, middle, high = (np.take_along_axis(spectrum, (at + shift) % bins, axis=-1) for shift in (-1, 0, 1))
    bend = low - 2 * middle + high
    return np.where(bend < 0, np.clip((low - high) / np.where(bend < 0, 2 * bend, 1), -0.5, 0.5), 0.0)


def peak_angles(spectrum: Real, users: int, antennas: int, spacing: float = 0.5) -> Real:
    """Return the angles of the K largest local maxima of a spectrum on the grid `covariance.sines`.

    spectrum: (F, bins)    antennas: N, whose beam is 2 bins / N points wide from null to null
    returns (F, K) ascending [rad]
    source: paper 000, eq. (11), local maxima
    """
    bins = spectrum.shape[-1]
    hidden = np.abs(sines(bins, spacing)) > 1
    shown = np.where(hidden, 0.0, spectrum) if hidden.any() else spectrum
    place = largest_peaks(shown, users, max(bins // (2 * antennas), 1))
    return angles_of(2 * np.pi * (place / bins - 0.5), spacing)


def pseudo_labels(
    observation: NDArray[Any],
    users: int,
    spacing: float = 0.5,
    *,
    kind: Kind = "matched",
    bins: int | None = None,
) -> Real:
    """Return the angles of the K largest local maxima of a spectrum of the observation.

    observation: (F, M, N)    users: K    kind: of the spectrum    bins: even, at least 2 N - 1; None for `bins_for`
    returns (F, K) ascending [rad]
    source: paper 000, eqs. (8)-(11), in the module's reading
    """
    subarray = default_subarray(observation.shape[-1])
    spectrum = spectra(observation, bins or bins_for(observation.shape[-1]), (kind,), subarray)[..., 0, :]
    return peak_angles(spectrum, users, observation.shape[-1], spacing)
