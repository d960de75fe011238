"""The search of `vp_nomp` and `gw_tracker`: matching pursuit in which all directions move by variable projection.

| symbol | name | meaning |
|---|---|---|
| y | rows | observation of a slot in the row order of `sensing`, scaled to unit mean power |
| xi_k, X | atoms | what a path of unit gain leaves in y, see `sensing`; slopes in u and v are a resolution cell |
| a_k | gain | gains by least squares for given directions, (X^H X)^-1 X^H y, antennas counted from the middle |
| C | spread | covariance of the directions, (2 H / sigma_w^2)^-1, H the Gauss-Newton matrix with the gains eliminated |
| sigma_w^2 | noise_var | ||r||^2 / (N_RF - 2 K) per complex entry, always learned |
| pi_k | inclusion | posterior probability that a path exists |

A round looks for peaks of |xi^H r|^2 / ||xi||^2, takes a few into the model, and moves all directions by one
Gauss-Newton step of the sum of squares in which the gains are eliminated (variable projection). When no peak stands out
of the noise any more, the directions settle, weak paths are pruned, and every gain is weighted: by the probability that
the path exists, and by shrinking over a range of prior powers.

Kin: NOMP (Mamandipoor, Ramasamy, Madhow, IEEE TSP 64(19), 2016) has the detection and Newton steps, VALSE (Badiu,
Hansen, Fleury, IEEE TSP 65(20), 2017) the weights (`evidence`), variable projection is Golub and Pereyra's (SIAM
J. Numer. Anal. 10(2), 1973). Groups of columns need no stage of their own: an atom is separable within each.

This is the reference, and what runs where nothing could be compiled; `kernel/vp_nomp.cpp` is the same, made fast.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from beamslot.dsp.estimate import Budget
from beamslot.dsp.evidence import confirmation, evidence, found_error, missed_power, occam
from beamslot.dsp.projection import curvature
from beamslot.dsp.sensing import Complex, Real, Sensing

PEAKS_A_ROUND = 4
NEXT_PEAK = 0.5
"""Others enter in the round of the largest peak if they have so large a share of it."""
APART = 3
"""Peaks of one round are more than so many grid points apart, in u or in v."""
LONGEST_STEP = 0.25
"""Of a direction, in one Gauss-Newton step [cells]."""
DAMPING = 1e-3
"""Levenberg's, relative to the diagonal."""
MERGE = 0.15
"""Paths nearer than this in u and in v are one [cells]."""
TWIN, NEIGHBOUR = 0.3, 0.8
"""A new path is left out when its squared correlation with another new one, or with an old one, is above this."""
SILENCE = 1e-10
"""The noise is taken for at least this share of the mean power: less is rounding."""
SETTLED = 0.02
"""Directions have settled when none moves further [cells]."""
RANK = 1e-9
"""Added to what is inverted, relative to its diagonal."""


class Settings(NamedTuple):
    """What bounds the search.

    max_paths, max_rounds: at most so many    final_rounds: Gauss-Newton steps at most once no path enters any more
    threshold: |xi^H r|^2 / ||xi||^2 of a peak that enters, and |a|^2 / var of a path that stays, over sigma_w^2
    expected_paths: prior mean of the number of paths
    hidden: power, over that of a peak which enters, below which half of all paths stay hidden
    """

    max_paths: int = 24
    max_rounds: int = 20
    final_rounds: int = 5
    threshold: float = 9.0
    expected_paths: float = 10.0
    hidden: float = 1.15


class Prior(NamedTuple):
    """What is known of the first paths before the slot: nothing of those found in it.

    u, v: (K,) expected directions    precision_u, precision_v: (K,) of them, 1 / variance [1 / cell^2]
    power: (K,) prior mean of |a|^2, relative to the mean power of an observation
    log_odds: (K,) that they exist    origin: (K,) which they are
    """

    u: Real
    v: Real
    precision_u: Real
    precision_v: Real
    power: Real
    log_odds: Real
    origin: NDArray[np.int64]

    @classmethod
    def none(cls) -> "Prior":
        """Return the prior of a slot that stands alone."""
        none = np.zeros(0)
        return cls(none, none, none, none, none, none, none.astype(np.int64))

    def take(self, keep: NDArray[np.bool_]) -> "Prior":
        """Return the prior of some of the paths; `keep` may be longer, for paths without one."""
        kept = keep[: len(self.u)]
        return Prior._make(array[kept] for array in self)


class Found(NamedTuple):
    """What a slot holds, antennas counted from the middle, gains and variances relative to the scale of `rows`.

    u, v, gain: (K,) least squares    weight: (K,) what the gain is to be multiplied with
    inclusion: (K,) pi    variance: (K,) of the gains    spread: (2 K,) variances of u, then of v [cells^2]
    origin: (K,) which of the prior, -1 for paths that are new
    noise_var, error_var    rounds: iterations    settled: whether the noise was reached and the directions settled
    """

    u: Real
    v: Real
    gain: Complex
    weight: Real
    inclusion: Real
    variance: Real
    spread: Real
    origin: NDArray[np.int64]
    noise_var: float
    error_var: float
    rounds: int
    settled: bool


class Model(NamedTuple):
    """Paths fitted to y: gram and matched are those of atoms, slopes in u, slopes in v (3 K)."""

    u: Real
    v: Real
    atoms: Complex
    gram: Complex
    matched: Complex
    inverse: Complex
    gain: Complex
    residual: Complex

    def noise_var(self, rows: float) -> float:
        """Return the learned variance of an entry of y that has so many of them."""
        energy = float(np.vdot(self.residual, self.residual).real)
        return max(energy / max(rows - 2 * len(self.u), 1.0), SILENCE)


def search(
    y: Complex,
    sensing: Sensing,
    settings: Settings,
    prior: Prior | None = None,
    budget: Budget | None = None,
    start: tuple[Real, Real, int] | None = None,
) -> Found:
    """Return the paths that one observation holds.

    y: (R,) complex128 of unit mean power, rows as `Sensing.gather` orders them
    prior: of paths to begin with    budget: asked once a round, says whether time is up
    start: (K,) u and (K,) v of paths to begin with that nothing is known of, instead of a prior, and how many of them
        are old; they are told apart, merged, pruned and weighed like those that the search finds itself, the old ones
        like those of earlier rounds, and those beyond max_paths are left out
    """
    prior = prior or Prior.none()
    u, v = (prior.u, prior.v) if start is None else (array[: settings.max_paths] for array in start[:2])
    model = _fit(sensing, y, u, v, prior)
    rounds, reached, late = 0, False, False
    if start is not None:
        model, prior = _tell_apart(sensing, y, model, prior, start[2])
    if len(model.u):
        model = _settle(sensing, y, model, prior, 1)[0]
    if start is not None:
        model, prior = _merge(sensing, y, model, prior)
    while rounds < settings.max_rounds and not reached and not late:
        room = settings.max_paths - len(model.u)
        peaks = find_peaks(sensing, model.residual, len(model.u), settings.threshold)
        reached = not len(peaks)
        if reached or not room:
            break
        rounds += 1
        old = len(model.u)
        u, v = np.concatenate([model.u, peaks[:room, 0]]), np.concatenate([model.v, peaks[:room, 1]])
        model, prior = _tell_apart(sensing, y, _fit(sensing, y, u, v, prior), prior, old)
        model, _ = _settle(sensing, y, model, prior, 1)
        model, prior = _merge(sensing, y, model, prior)
        late = budget is not None and budget()
    steps = 1 if late else settings.final_rounds
    model, settled = _settle(sensing, y, model, prior, steps)
    model, prior = _prune(sensing, y, *_merge(sensing, y, model, prior), settings.threshold)
    model = _fit(sensing, y, model.u, model.v, prior, model.noise_var(sensing.rows[0]))
    return _weigh(sensing, model, prior, settings, rounds, reached and settled and not late)


def find_peaks(sensing: Sensing, residual: Complex, paths: int, threshold: float) -> Real:
    """Return where |xi^H r|^2 / ||xi||^2 peaks out of the noise, between grid points by a parabola.

    The noise is that of the residual without the peak itself. Where the beams hardly look, a path had to be strong to
    be seen: a point pays 2 sigma^2 ln(largest energy of an atom / its own), so that a path is not taken for its alias.

    residual: (R,)    paths: how many are in the model
    returns (P, 2), u and v of the largest and of others that are nearly as large
    """
    energy = float(np.vdot(residual, residual).real)
    rows_left = max(float(sensing.rows[0]) - 2 * paths, 1.0)
    gain = sensing.energy[0][:, None]
    score = np.abs(sensing.correlate(residual[None])[0]) ** 2 * sensing.visible[0] / gain
    score -= 2 * energy / rows_left * np.log(gain.max() / gain)
    rows, columns = score.shape
    masked, peaks, first, least = score.copy(), [], 0.0, 0.0
    for _ in range(PEAKS_A_ROUND):
        row, column = divmod(int(masked.argmax()), columns)
        peak = float(masked[row, column])
        if not peaks:
            first = peak
            least = threshold * max((energy - peak) / max(rows_left - 2, 1.0), SILENCE)
        if peak <= max(least, NEXT_PEAK * first if peaks else 0.0):
            break
        along_u = _vertex(*score[row, [column - 1, column, (column + 1) % columns]])
        along_v = _vertex(*score[row - 1 : row + 2, column]) if 0 < row < rows - 1 else 0.0
        u = sensing.grid_u[column] + along_u * (sensing.grid_u[1] - sensing.grid_u[0])
        v = sensing.grid_v[0, row] + along_v * (sensing.grid_v[0, -1] - sensing.grid_v[0, 0]) / max(rows - 1, 1)
        peaks.append((np.clip(u, -1, 1), v))
        away = (np.arange(columns) - column + columns // 2) % columns - columns // 2
        masked[np.ix_(np.abs(np.arange(rows) - row) <= APART, np.abs(away) <= APART)] = -np.inf
    return np.array(peaks).reshape(-1, 2)


def _vertex(before: float, at: float, after: float) -> float:
    curvature = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0


def _fit(sensing: Sensing, y: Complex, u: Real, v: Real, prior: Prior, noise_var: float = 0.0) -> Model:
    """Fit the gains of paths; where the noise is told, by ridge regression with their prior powers.

    The power of a new path is at most what explains all of y alone: that matters where beams cannot tell paths apart.
    """
    paths = len(u)
    atoms, slopes = sensing.slopes(u[None], v[None])
    both = np.concatenate([atoms[0], slopes[0] * np.repeat(sensing.cell, paths)[:, None]])
    gram, matched = both.conj() @ both.T, both.conj() @ y
    power = np.full(paths, sensing.rows[0] / sensing.energy[0].mean())
    power[: len(prior.power)] = prior.power
    ridge = noise_var / power
    own = gram[:paths, :paths]
    floor = RANK * max(float(np.trace(own).real) / max(paths, 1), 1e-30)
    inverse: Any = np.linalg.inv(own + np.diag(ridge + floor))
    gain = inverse @ matched[:paths]
    return Model(u, v, atoms[0], gram, matched, inverse, gain, y - gain @ atoms[0])


def direction_curvature(model: Model) -> tuple[Real, Real]:
    """Return `curvature` of a model: H and its descent, (2 K, 2 K) and (2 K,), a resolution cell the unit."""
    return curvature(model.gram, model.matched[:, None], model.inverse, model.gain[:, None])


def _settle(sensing: Sensing, y: Complex, model: Model, prior: Prior, steps: int) -> tuple[Model, bool]:
    """Move all directions by Gauss-Newton steps until they settle; return whether they did."""
    paths, settled = len(model.u), not len(model.u)
    for _ in range(0 if settled else steps):
        noise_var = model.noise_var(sensing.rows[0]) if len(prior.u) else 0.0  # needed by priors only
        curvature, descent = direction_curvature(model)
        pull, weight = _pull(sensing, model, prior, noise_var)
        diagonal = np.diag(curvature)
        damping = DAMPING * diagonal + RANK * max(float(diagonal.max()), 1e-30)
        step = np.linalg.solve(curvature + np.diag(damping + weight), descent + pull)
        step = np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        u = np.clip(model.u + step[:paths] * sensing.cell[0], -1, 1)
        v = np.clip(model.v + step[paths:] * sensing.cell[1], sensing.low[0], sensing.high[0])
        model = _fit(sensing, y, u, v, prior, noise_var)
        settled = bool(np.abs(step).max() < SETTLED)
        if settled:
            break
    return model, settled


def _pull(sensing: Sensing, model: Model, prior: Prior, noise_var: float) -> tuple[Real, Real]:
    """Descent and curvature of the prior of the directions, in the units of `direction_curvature`."""
    paths, known = len(model.u), len(prior.u)
    weight, away = np.zeros(2 * paths), np.zeros(2 * paths)
    weight[:known], weight[paths : paths + known] = prior.precision_u, prior.precision_v
    away[:known] = (prior.u - model.u[:known]) / sensing.cell[0]
    away[paths : paths + known] = (prior.v - model.v[:known]) / sensing.cell[1]
    weight *= noise_var / 2
    return weight * away, weight


def _merge(sensing: Sensing, y: Complex, model: Model, prior: Prior) -> tuple[Model, Prior]:
    power = np.abs(model.gain) ** 2
    near = np.abs(model.u[:, None] - model.u) < MERGE * sensing.cell[0]
    near &= np.abs(model.v[:, None] - model.v) < MERGE * sensing.cell[1]
    keep = ~np.any(near & (power[:, None] < power), axis=1)
    return _keep(sensing, y, model, prior, keep)


def _tell_apart(sensing: Sensing, y: Complex, model: Model, prior: Prior, old: int) -> tuple[Model, Prior]:
    """Leave out new paths that look like another new one, its alias, or like an old one that has not settled yet."""
    paths = len(model.u)
    gram = model.gram[:paths, :paths]
    own = gram.diagonal().real
    alike = np.abs(gram) ** 2 / np.maximum(own[:, None] * own, 1e-30)
    limit = np.where(np.arange(paths) < old, NEIGHBOUR, TWIN)
    earlier = np.arange(paths)[:, None] > np.arange(paths)
    keep = (np.arange(paths) < old) | ~np.any((alike > limit) & earlier, axis=1)
    return _keep(sensing, y, model, prior, keep)


def _keep(sensing: Sensing, y: Complex, model: Model, prior: Prior, keep: NDArray[np.bool_]) -> tuple[Model, Prior]:
    if keep.all():
        return model, prior
    prior = prior.take(keep)
    return _fit(sensing, y, model.u[keep], model.v[keep], prior, model.noise_var(sensing.rows[0])), prior


def _prune(sensing: Sensing, y: Complex, model: Model, prior: Prior, threshold: float) -> tuple[Model, Prior]:
    """Take the weakest path out, one at a time, until all stand out of the noise; those with a prior stay."""
    while len(model.u):
        strength = np.abs(model.gain) ** 2 / (model.noise_var(sensing.rows[0]) * model.inverse.diagonal().real)
        strength[: len(prior.u)] = np.inf
        if strength.min() >= threshold:
            break
        model, prior = _keep(sensing, y, model, prior, np.arange(len(model.u)) != strength.argmin())
    return model, prior


def _weigh(sensing: Sensing, model: Model, prior: Prior, settings: Settings, rounds: int, settled: bool) -> Found:
    noise_var = model.noise_var(sensing.rows[0])
    variance = noise_var * model.inverse.diagonal().real
    curvature, _ = direction_curvature(model)
    _, weight = _pull(sensing, model, prior, noise_var)
    spread = noise_var / 2 * np.linalg.inv(curvature + np.diag(weight + RANK * max(curvature.max(initial=0), 1e-30)))
    inclusion, shrinkage = evidence(np.abs(model.gain) ** 2, variance, occam(curvature, noise_var), sensing, settings)
    known = len(prior.u)
    inclusion[:known] = expit(prior.log_odds + confirmation(model.gain[:known], variance[:known], prior.power))
    shrinkage[:known] = 1.0  # the ridge has shrunk them
    error = found_error(sensing, model, inclusion, shrinkage, noise_var, spread)
    missed = missed_power(sensing, float(inclusion.sum()), noise_var, settings)
    return Found(
        model.u,
        model.v,
        model.gain,
        inclusion * shrinkage,
        inclusion,
        variance,
        spread.diagonal(),
        np.concatenate([prior.origin, np.full(len(model.u) - known, -1)]),
        noise_var,
        error + missed,
        rounds,
        settled,
    )
