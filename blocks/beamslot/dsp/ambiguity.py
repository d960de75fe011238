"""Ambiguity functions of analog beams and of groups of columns, and the side lobes that the grouping leaves.

| symbol | name | meaning |
|---|---|---|
| s_g | members[g] | 1 for the columns of group g, else 0 |
| c_g = cos(phi_g) | cosine | of the elevation at the centre of sub-interval g |
| Delta | delta | sin(theta_2) - sin(theta_1), theta the azimuth |
| R_s = [-b, -a] u [a, b] | region = (a, b) | the side lobes: a is where the main lobe ends |
| chi_ver, chi_g | vertical, horizontal | ambiguity functions |

The sine of the azimuth turns the phase of column n by 2 pi spacing n c_g a unit; half a wavelength makes it pi n c_g.

source: paper 004, eqs. (4), (10), (12), (13)
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamslot.dsp.combine import combine_separable, distinct
from beamslot.dsp.geometry import directions, steering
from beamslot.errors import BadParam, ShapeError


def membership(group: NDArray[np.integer], groups: int) -> NDArray[np.bool_]:
    """Return the columns of every group, s_g.

    group: (..., y) int, the group of each column, -1 for one that is switched off    groups: G
    returns (..., group, y) bool
    source: paper 004, eq. (6)
    """
    return group[..., None, :] == np.arange(groups)[:, None]


def centre_cosines(interval: tuple[float, float], groups: int) -> NDArray[np.float64]:
    """Return c_g, the cosine of the elevation in the middle of each of G parts of the interval, equal in v = sin(phi).

    interval: (v_min, v_max), -1 <= v_min <= v_max <= 1    groups: G
    returns (group,) float64
    source: paper 004, eqs. (7), (13)
    """
    low, high = interval
    centre = low + (high - low) * (np.arange(groups) + 0.5) / groups
    return np.sqrt(1 - centre**2)


def side_lobe_region(n_y: int, cosine: ArrayLike, spacing: float = 0.5) -> tuple[float, float]:
    """Return (a, b): from where the main lobe of all columns ends to where the lobe at half a period of chi_g does.

    The paper does not print its own. b = 1 looks natural, but ends short of 1 / (2 spacing c_g), where groups of odd
    and of even columns have a lobe as high as the main one, and a design for it would put its power just there.
    Beyond half a period |chi_g| is its own mirror image.

    n_y: columns    cosine: (group,), c_g    spacing: of the columns [wavelengths]
    returns (a, b), a = 1 / (spacing n_y) the first null, b = 1 / (2 spacing min c_g) + a but at most 2, the greatest
        Delta; (0.031, 1.143) for the paper's array
    raises BadParam for an array too small to have side lobes there
    source: paper 004, eq. (12)
    """
    null = 1 / (spacing * n_y)
    if null >= 1:
        raise BadParam(
            f"side_lobe_region: {n_y} columns at {spacing} wavelengths have no side lobe; "
            "wanted an aperture (columns * spacing) above 1 wavelength"
        )
    return null, min(1 / (2 * spacing * float(np.min(cosine))) + null, 2.0)


def vertical(
    weights: NDArray[Any],
    first: ArrayLike,
    second: ArrayLike,
    azimuth: float = 0.0,
    spacing: tuple[float, float] = (0.5, 0.5),
) -> NDArray[np.complex128]:
    """Return chi_ver(phi_1, phi_2 | theta_0) = (F_a a_R(theta_0, phi_1))^H F_a a_R(theta_0, phi_2).

    weights: (y, chain, m) complex, F_a by its structure
    first, second: (one,), (other,) elevations phi_1 and phi_2 [rad]    azimuth: theta_0 [rad]
    spacing: of the columns and of the rows [wavelengths]
    returns (one, other) complex128, not normalised: N_y T M^2 where all chains of unit-modulus weights are matched
    source: paper 004, eq. (4)
    """
    n_y, chains, m = weights.shape

    def seen(elevation: ArrayLike) -> NDArray[np.complex128]:
        u, v = directions(azimuth, elevation)
        columns, rows = steering(n_y, u, spacing[0]), steering(chains * m, v, spacing[1])
        return combine_separable(columns, rows, *distinct(weights))

    return seen(first).conj() @ seen(second).T


def horizontal(
    members: NDArray[Any], cosine: ArrayLike, delta: ArrayLike, spacing: float = 0.5
) -> NDArray[np.complex128]:
    """Return chi_g(Delta) = sum_n s_g[n] exp(j 2 pi spacing n c_g Delta) / sum_n s_g[n].

    Divided by the number of columns, so that chi_g(0) = 1; the constant of eq. (10) is the gain of the beam.

    members: (..., group, y) of 0 and 1, no group empty    cosine: (group,), c_g
    delta: (point,) differences of sin(theta)    spacing: of the columns [wavelengths]
    returns (..., group, point) complex128    raises ShapeError
    source: paper 004, eq. (10)
    """
    members, cosine = _checked("horizontal", members, cosine)
    phases = steering(members.shape[-1], cosine[:, None] * np.asarray(delta, np.float64), spacing)
    sums = (phases @ members[..., None].astype(np.complex128))[..., 0]
    return sums / members.sum(-1, keepdims=True)


def side_lobe_kernel(
    n_y: int, cosine: ArrayLike, region: tuple[float, float], spacing: float = 0.5
) -> NDArray[np.float64]:
    """Return f_g, the first column of the Toeplitz matrix V_g: the integral of exp(j 2 pi spacing n c_g x) over R_s.

    n_y: columns    cosine: (group,), c_g    region: (a, b)    spacing: of the columns [wavelengths]
    returns (group, y) float64
    source: paper 004, eq. (13), whose pi c_g is 2 pi spacing c_g for a spacing of half a wavelength
    """
    a, b = region
    lag = 2 * spacing * np.arange(n_y) * np.asarray(cosine, np.float64)[:, None]
    return 2 * (b * np.sinc(b * lag) - a * np.sinc(a * lag))


def side_lobe_level(
    members: NDArray[Any], cosine: ArrayLike, region: tuple[float, float], spacing: float = 0.5
) -> NDArray[np.float64]:
    """Return ISL_g, the mean of |chi_g|^2 over the side lobes: s_g^T V_g s_g / (|R_s| (s_g^T 1)^2).

    V_g is Toeplitz, so that only the autocorrelation of s_g counts: O(N_y log N_y) a group, any number of groupings.

    members: (..., group, y) of 0 and 1    cosine: (group,), c_g
    region: (a, b), the side lobes [-b, -a] and [a, b], |R_s| = 2 (b - a)    spacing: of the columns [wavelengths]
    returns (..., group) float64, linear, 1 for a single column; inf for a group without columns
    raises ShapeError
    source: paper 004, eqs. (12), (13)
    """
    members, cosine = _checked("side_lobe_level", members, cosine)
    n_y = members.shape[-1]
    spectrum = np.fft.rfft(members, 2 * n_y)
    pairs = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, 2 * n_y)[..., :n_y]
    pairs[..., 1:] *= 2  # every lag but 0 comes with both signs
    integral = np.einsum("...gn,gn->...g", pairs, side_lobe_kernel(n_y, cosine, region, spacing))
    length = 2 * (region[1] - region[0])
    size = members.sum(-1)
    return np.divide(integral, length * size**2, out=np.full_like(integral, np.inf), where=size > 0)


def _checked(name: str, members: NDArray[Any], cosine: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    members, cosine = np.asarray(members, np.float64), np.asarray(cosine, np.float64)
    if members.shape[-2:-1] != cosine.shape:
        raise ShapeError(f"{name}: members is {members.shape}, cosine {cosine.shape}; wanted (..., group, y), (group,)")
    return members, cosine
