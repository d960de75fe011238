"""Analog beams of a partially connected front end: random, wide and group-wise narrow.

| symbol | name | meaning |
|---|---|---|
| v^k | weights[n, t] | the row of F_a of chain t of column n, unit modulus |
| Phi_g, omega_g | interval, centre | sub-interval of v of group g, and its centre |

All weights have unit-modulus entries, so white noise of variance sigma^2 per antenna leaves a chain with M sigma^2.
"""

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.geometry import steering


def random_beams(n_y: int, chains: int, m: int, rng: np.random.Generator) -> NDArray[np.complex64]:
    """Return beams with independent uniform phases, different for every chain.

    n_y, chains, m: columns, chains per column, antennas per chain
    returns weights: (y, chain, m) complex64, unit modulus
    source: paper 004, the random beams of figs. 4 and 8
    """
    return np.exp(2j * np.pi * rng.random((n_y, chains, m))).astype(np.complex64)


def wide_beams(
    n_y: int, chains: int, m: int, interval: tuple[float, float], spacing: float = 0.5
) -> NDArray[np.complex64]:
    """Return one wide beam for all chains: a quadratic-phase (chirp) taper.

    The local pointing direction runs linearly over the m antennas from v_min to v_max, which spreads the energy evenly
    over the interval with unit-modulus weights; the paper does not say how its wide beam is made.

    n_y, chains, m: columns, chains per column, antennas per chain    interval: (v_min, v_max)
    spacing: row spacing [wavelengths]
    returns weights: (y, chain, m) complex64, unit modulus
    source: paper 004, the wide beams of fig. 3
    """
    low, high = interval
    element = np.arange(m) - (m - 1) / 2
    path = element * (low + high) / 2 + element**2 * (high - low) / (2 * m)
    beam = np.exp(-2j * np.pi * spacing * path)
    return np.broadcast_to(beam.astype(np.complex64), (n_y, chains, m)).copy()


def group_beams(
    group: NDArray[np.integer], interval: tuple[float, float], chains: int, m: int, spacing: float = 0.5
) -> NDArray[np.complex64]:
    """Return group-wise narrow beams: every chain of group g points at the centre of the g-th part of the interval.

    A row is the conjugate of the steering vector, since F_a multiplies the field from the left (the printed eq. (8)
    lacks the conjugate and would point at -omega_g).

    group: (y,) int, group of each column, 0 .. G-1 with G = max + 1; -1 switches a column off (zero weights)
    interval: (v_min, v_max), cut into G parts of equal width in v
    chains, m: chains per column, antennas per chain    spacing: row spacing [wavelengths]
    returns weights: (y, chain, m) complex64, unit modulus or zero
    source: paper 004, eqs. (6)-(8)
    """
    groups = max(int(group.max()) + 1, 1)
    low, high = interval
    centre = low + (high - low) * (np.arange(groups) + 0.5) / groups
    beams = steering(m, centre, spacing).conj()[group] * (group >= 0)[:, None]
    return np.repeat(beams.astype(np.complex64)[:, None, :], chains, axis=1)
