"""Figs. 2 to 4: what the loss (7) looks like over angles when all else is true; exact, nothing is trained.

| symbol | name | meaning |
|---|---|---|
| e_k | | a(theta_k) - a(theta_hat_k) exp(j (psi_hat - psi)) |
| P | power | (K, K) mean of conj(h_m) h_m^T over the snapshots of a frame |
| L | | sum_kl P_kl e_k^H e_l / (N tr P): the misfit without noise over the power, so that "nothing" counts as 1 |

source: paper 000, eq. (7), Props. 4 and 5
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from beamslot.dsp.nets.losses import angle_slope, stationary_points
from beamslot.dsp.ula import array_response

Real = NDArray[np.float64]

TRUE = math.radians(11.0)
"""The true angle of fig. 4, and here of figs. 2 and 3 too [rad]."""
OTHER = math.radians(-25.0)
"""The second user of fig. 3 [rad]."""
SETTINGS = tuple((antennas, spacing) for spacing in (0.5, 1.0, 2.0) for antennas in (8, 32))
"""N and d [wavelengths] of the panels of figs. 2 and 3."""

_DEEP = 0.05
"""Minima of a grid below so much of the loss of nothing are taken for global ones."""


def angle_grid(points: int = 721) -> Real:
    """Return angles from -90 to 90 degrees [rad]."""
    return np.linspace(-np.pi / 2, np.pi / 2, points)


def one_user(theta_hat: Real, phase: Real, antennas: int, spacing: float) -> Real:
    """Return the loss over the angle and the error of the path angle of one user, (angles, phases)."""
    overlap = array_response(theta_hat, antennas, spacing) @ array_response(TRUE, antennas, spacing).conj() / antennas
    return 2 - 2 * (overlap[:, None] * np.exp(1j * phase)).real


def two_users(theta_hat: Real, antennas: int, spacing: float, snapshots: int, seed: int) -> Real:
    """Return the loss over the angles of two users, gains drawn and known, (angles, angles)."""
    rng = np.random.default_rng(seed)
    gain = rng.standard_normal((snapshots, 2)) + 1j * rng.standard_normal((snapshots, 2))
    power = gain.conj().T @ gain
    first, second = (
        array_response(true, antennas, spacing) - array_response(theta_hat, antennas, spacing) for true in (TRUE, OTHER)
    )
    own = [power[k, k].real * np.sum(np.abs(one) ** 2, -1) for k, one in enumerate((first, second))]
    both = (power[0, 1] * (first.conj() @ second.T)).real
    return (own[0][:, None] + own[1] + 2 * both) / (antennas * np.trace(power).real)


def global_optima(theta: float, spacing: float) -> Real:
    """Return the angles with the same response as theta, ascending [rad].

    source: paper 000, Prop. 4, eqs. (16), (17)
    """
    orders = np.arange(math.ceil(spacing * (math.sin(theta) - 1)), math.floor(spacing * (math.sin(theta) + 1)) + 1)
    return np.sort(np.arcsin(math.sin(theta) - orders / spacing))


def deep_minima(loss: Real) -> int:
    """Return how many local minima of a grid are deep, in one or two dimensions; ends do not count."""
    inside = loss[tuple(slice(1, -1) for _ in loss.shape)]
    lowest = inside < _DEEP
    for axis in range(loss.ndim):
        for shift in (0, 2):
            part = [slice(1, -1)] * loss.ndim
            part[axis] = slice(shift, loss.shape[axis] - 2 + shift)
            beside = loss[tuple(part)]
            lowest &= inside < beside if shift else inside <= beside
    return int(lowest.sum())


class OneAngle(NamedTuple):
    """Fig. 4, over theta_hat (points,) [rad]: loss, its slope, and the slope as printed, which is none.

    exact, printed, proposed, as_proposed: zeros of the slope, of the printed one, Prop. 5 corrected, Prop. 5 as printed
    """

    theta_hat: Real
    loss: Real
    slope: Real
    printed_slope: Real
    exact: Real
    printed: Real
    proposed: Real
    as_proposed: Real


def one_angle(antennas: int = 32, spacing: float = 0.5, points: int = 7201) -> OneAngle:
    """Return what fig. 4 shows."""
    grid = angle_grid(points)
    loss = one_user(grid, np.zeros(1), antennas, spacing)[:, 0]

    def slope(theta_hat: Real) -> Real:
        return angle_slope(theta_hat, TRUE, antennas, spacing) / antennas

    def printed_slope(theta_hat: Real) -> Real:
        return angle_slope(theta_hat, TRUE, antennas, spacing, "as_printed") / antennas

    def printed_proposition(theta_hat: Real) -> Real:
        kappa = 2 * np.pi * spacing
        here = 2 * kappa * np.sin(theta_hat)
        both = kappa * (np.sin(TRUE) + np.sin(theta_hat))
        with np.errstate(divide="ignore", invalid="ignore"):
            inner = np.cos(here * (antennas - 1)) / here - np.cos(both * (antennas - 1)) / both
        return np.cos(theta_hat) * inner

    return OneAngle(
        theta_hat=grid,
        loss=loss,
        slope=slope(grid),
        printed_slope=printed_slope(grid),
        exact=_zeros(slope, grid),
        printed=_zeros(printed_slope, grid),
        proposed=stationary_points(TRUE, antennas, spacing),
        as_proposed=_zeros(printed_proposition, grid),
    )


def _zeros(function: Any, grid: Real) -> Real:
    """Return where a function changes its sign without a pole, ascending."""
    values = function(grid)
    limit = 1e3 * np.nanmedian(np.abs(values))
    found = []
    for at in np.flatnonzero(np.sign(values[1:]) * np.sign(values[:-1]) < 0):
        root = brentq(lambda x: float(function(np.array([x]))[0]), grid[at], grid[at + 1])
        if abs(float(function(np.array([root]))[0])) < limit:
            found.append(root)
    return np.array(found)


def distances(points: Real, others: Real) -> Real:
    """Return how far each point is from the nearest of others, in sin(theta)."""
    return np.abs(np.sin(points)[:, None] - np.sin(others)).min(axis=1)
