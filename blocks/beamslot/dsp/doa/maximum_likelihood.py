"""Deterministic maximum likelihood: a start by alternating projection, and Gauss-Newton steps through the decoder.

| symbol | name | meaning |
|---|---|---|
| theta_k | theta | (F, K) [rad] |
| x_k, d_k | atoms, slopes | (F, K, R) what user k of unit gain leaves in an observation; derivative in theta_k |
| h_m | gain | (F, K, M), eliminated: least squares for the angles at hand |
| sigma^2 | noise_var | (F,), learned: sum_m ||y_m - X h_m||^2 / (M (R - K) - K / 2) |
| | cell | (F, K) [rad], ||x_k|| / ||d_k without its part along x_k||; 0.55 of the way to the first null of a line |

The steps are those of `projection.curvature`, shared with `vp_nomp`. They know the array only through a response, so
the array may be any, and stand behind any analog operator.

source: Ziskind and Wax, IEEE Trans. ASSP 36(10), 1988 (alternating projection); paper 000, eq. (4) (the decoder);
`projection` (the steps); Stoica and Nehorai, IEEE Trans. ASSP 37(5), 1989 (the deviation)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import angles_of, on_grid, sample_covariance
from beamslot.dsp.doa.peaks import bins_for, largest_peaks
from beamslot.dsp.estimate import refuse
from beamslot.dsp.geometry import gram as inner_products
from beamslot.dsp.projection import curvature
from beamslot.dsp.ula import Complex, Real, array_response

Response = Callable[[Real], tuple[Complex, Complex]]
"""From angles (F, K) to atoms and slopes (F, K, R): an array, with what stands between it and the observation."""

LONGEST_STEP = 0.5
"""Of an angle, in one step [cells]."""
WIDEST_CELL = 0.5
"""Near endfire slopes vanish, and cells would grow without bound [rad]."""
SHORTER = 0.25
"""A step that makes the fit worse is taken back, and the next is at most so much of it."""
DAMPING = 1e-3
"""Levenberg's, relative to the diagonal."""
RANK = 1e-12
"""Added to what is inverted, relative to its diagonal."""
SWEEPS = 20
"""Rounds of alternating projection at most; most frames need two, close coherent users many."""
STILL = 0.1
"""Rounds end when none moves a user further [bins]."""


class Refined(NamedTuple):
    """Angles at a maximum of the likelihood, and what goes with them.

    theta: (F, K) ascending [rad]    deviation: (F, K) their standard deviations [rad], of the conditional bound
    gain: (F, M, K)    noise_var: (F,) learned    step: (F,) the largest of the last move of an angle [cells]
    """

    theta: Real
    deviation: Real
    gain: Complex
    noise_var: Real
    step: Real


class _Fit(NamedTuple):
    """Angles with the gains fitted: gram and matched are those of atoms and slopes (2 K), slopes in cells."""

    theta: Real
    cell: Real
    gram: Complex
    matched: Complex
    inverse: Complex
    gain: Complex
    energy: Real


def line(antennas: int, spacing: float = 0.5) -> Response:
    """Return the response of a uniform linear array, `ula.array_response` and its slopes."""
    element = 2j * np.pi * spacing * np.arange(antennas)

    def response(theta: Real) -> tuple[Complex, Complex]:
        atoms = array_response(theta, antennas, spacing)
        return atoms, atoms * element * np.cos(theta)[..., None]

    return response


def through(response: Response, operator: NDArray[Any]) -> Response:
    """Return the response of an array behind an analog operator.

    operator: (R, N), y = operator x; a diagonal one holds the phases of a calibration
    """

    def compressed(theta: Real) -> tuple[Complex, Complex]:
        atoms, slopes = response(theta)
        return atoms @ operator.T, slopes @ operator.T

    return compressed


def refine(
    theta: Real,
    observation: NDArray[Any],
    spacing: float = 0.5,
    steps: int = 4,
    *,
    response: Response | None = None,
) -> Refined:
    """Return the angles after a few Gauss-Newton steps of the likelihood from a start within half a beam.

    theta: (F, K) the start [rad], any order    observation: (F, M, R)
    spacing: d of a uniform linear array [wavelengths]    steps: 0 or more; 0 judges the start as it is
    response: of another array, in place of a uniform line of R antennas
    raises BadParam where the gains and angles cannot be told from R entries: K >= R
    source: the module's
    """
    rows, users = observation.shape[-1], theta.shape[-1]
    refuse(("doa.users", users, f"1 .. {rows - 1}, fewer than an observation has entries", 1 <= users < rows))
    respond = response or line(rows, spacing)
    columns = np.swapaxes(observation, -1, -2).astype(np.complex128)
    fit = _fit(respond, np.sort(theta, axis=-1), columns)
    limit = np.full((*fit.energy.shape, 1), LONGEST_STEP)
    step = np.zeros_like(fit.theta)
    for _ in range(steps):
        step = np.minimum(np.maximum(_step(fit), -limit), limit)
        trial = _fit(respond, fit.theta + step * fit.cell, columns)
        worse = trial.energy < fit.energy
        if worse.any():
            shorter = SHORTER * np.abs(step).max(axis=-1, keepdims=True)
            limit = np.where(worse[..., None], shorter, limit)
            trial = _Fit._make(_choose(worse, old, new) for old, new in zip(fit, trial, strict=True))
        fit = trial
    return _judge(fit, observation, np.abs(step).max(axis=-1))


def _fit(respond: Response, theta: Real, columns: NDArray[Any]) -> _Fit:
    users = theta.shape[-1]
    both = np.concatenate(respond(theta), axis=-2)
    conjugate = both.conj()
    gram, matched = conjugate @ np.swapaxes(both, -1, -2), conjugate @ columns
    cell, scale = _cells(gram, users)
    gram = gram * scale * np.swapaxes(scale, -1, -2)
    matched *= scale
    own, seen = gram[..., :users, :users], matched[..., :users, :]
    inverse: Any = np.linalg.inv(own + RANK * own[..., :1, :1].real * np.eye(users))
    gain = inverse @ seen
    energy = np.sum((seen.conj() * gain).real, axis=(-2, -1))
    return _Fit(theta, cell, gram, matched, inverse, gain, energy)


def _cells(gram: Complex, users: int) -> tuple[Real, Real]:
    """Return the cells, and what brings [X; D] to slopes a cell, (F, 2 K, 1)."""
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1).real
    power, slope = diagonal[..., :users], diagonal[..., users:]
    along = np.abs(np.diagonal(gram, users, axis1=-2, axis2=-1)) ** 2 / power
    cell = np.sqrt(power / np.maximum(slope - along, power / WIDEST_CELL**2))
    return cell, np.concatenate([np.ones_like(cell), cell], axis=-1)[..., None]


def _step(fit: _Fit) -> Real:
    bend, descent = curvature(fit.gram, fit.matched, fit.inverse, fit.gain)
    step: Any = np.linalg.solve(bend + _floor(bend, DAMPING), descent[..., None])
    return step[..., 0]


def _floor(bend: Real, damping: float) -> Real:
    diagonal = np.diagonal(bend, axis1=-2, axis2=-1)
    least = RANK * diagonal.max(axis=-1, keepdims=True) + np.finfo(np.float64).tiny
    return (damping * diagonal + least)[..., None] * np.eye(bend.shape[-1])


def _choose(which: NDArray[np.bool_], yes: NDArray[Any], no: NDArray[Any]) -> NDArray[Any]:
    return np.where(which.reshape(*which.shape, *[1] * (yes.ndim - which.ndim)), yes, no)


def _judge(fit: _Fit, observation: NDArray[Any], step: Real) -> Refined:
    (snapshots, rows), users = observation.shape[-2:], fit.theta.shape[-1]
    total = np.sum(np.abs(observation) ** 2, axis=(-2, -1), dtype=np.float64)
    noise_var = np.maximum(total - fit.energy, 0) / (snapshots * (rows - users) - users / 2)
    bend, _ = curvature(fit.gram, fit.matched, fit.inverse, fit.gain)
    spread: Any = np.linalg.inv(bend + _floor(bend, 0.0))
    variance = noise_var[..., None] / 2 * np.diagonal(spread, axis1=-2, axis2=-1)
    deviation = fit.cell * np.sqrt(np.maximum(variance, 0))
    found = Refined(fit.theta, deviation, np.swapaxes(fit.gain, -1, -2), noise_var, step)
    return found if np.all(fit.theta[..., 1:] >= fit.theta[..., :-1]) else _ascending(found)


def _ascending(found: Refined) -> Refined:
    order = np.argsort(found.theta, axis=-1)
    return found._replace(
        theta=np.take_along_axis(found.theta, order, axis=-1),
        deviation=np.take_along_axis(found.deviation, order, axis=-1),
        gain=np.take_along_axis(found.gain, order[..., None, :], axis=-1),
    )


def alternating_projection(
    observation: NDArray[Any], users: int, spacing: float = 0.5, *, bins: int | None = None, sweeps: int = SWEEPS
) -> Real:
    """Return angles that maximise the likelihood on a grid, one user moved at a time, for `refine` to start from.

    Users enter one by one, each where it explains most of what those before leave; then each is moved in turn, until
    none does. Coherent users are no special case.

    observation: (F, M, N)    users: K    sweeps: at most so many
    bins: of the grid, even, at least 2 N - 1; None for twice `peaks.bins_for`
    returns (F, K) ascending [rad], between grid points by a parabola
    source: the module's, Ziskind and Wax, eqs. (16)-(19)
    """
    antennas = observation.shape[-1]
    refuse(("doa.users", users, f"1 .. {antennas - 1}, fewer than the antennas", 1 <= users < antennas))
    bins = bins or 2 * bins_for(antennas)
    covariance = sample_covariance(observation)
    place = np.zeros((*covariance.shape[:-2], 0))
    for _ in range(users):
        place = np.concatenate([place, _best(covariance, place, bins)], axis=-1)
    for _ in range(sweeps):
        before = place.copy()
        for user in range(users):
            others = np.delete(place, user, axis=-1)
            place[..., user : user + 1] = _best(covariance, others, bins)
        if np.abs((place - before + bins / 2) % bins - bins / 2).max(initial=0) < STILL:
            break
    return angles_of(2 * np.pi * (place / bins - 0.5), spacing)


def _best(covariance: Complex, others: Real, bins: int) -> Real:
    """Return where one more user explains most, beside others: (F, 1) [bins]."""
    antennas = covariance.shape[-1]
    left = np.eye(antennas) - _projector(others, antennas, bins)
    explained = on_grid(left @ covariance @ left, bins)
    seen = on_grid(left, bins) if others.shape[-1] else np.full(bins, float(antennas))
    # Next to another user hardly anything of the response is left, and the ratio is rounding.
    score = np.where(seen > RANK * antennas, explained / np.maximum(seen, RANK * antennas), 0.0)
    return largest_peaks(score, 1, 1)


def _projector(place: Real, antennas: int, bins: int) -> Complex:
    atoms = np.exp(2j * np.pi * (place / bins - 0.5)[..., None] * np.arange(antennas))
    own = inner_products(atoms) + RANK * antennas * np.eye(place.shape[-1])
    inverse: Any = np.linalg.inv(own)
    return np.swapaxes(atoms, -1, -2) @ inverse @ atoms.conj()
