"""Subspace-constrained variational Bayesian inference (SC-VBI) on a dynamic grid, for problems solved side by side.

`ScVbi` is the estimator, on the whole array; `infer` is what it shares with the groups of `gw_sc_vbi`.

| symbol | name | meaning |
|---|---|---|
| Omega | u, v | the dynamic grid: directions of the paths on the support |
| S | mask | the support |
| u(mu) | objective | mu^H W mu - 2 Re{mu^H kappa Xi^H y} + kappa ||y||^2, see `variational` for its symbols |
| B | | gradient steps an iteration, here 1 |

An iteration moves the directions, learns precisions and noise, drops what the evidence does not carry and lets one path
in. Observations come with unit mean power, so that the priors need no scale. Points off the support keep their place
on the uniform grid.

Decisions where the paper is silent or fails as printed:
- One path an iteration enters: the gradient step on u(mu) is taken along the one coordinate that lowers u most, by
  |kappa xi^H r|^2 / W_ll. So u never rises but where a path is dropped, and the side lobes of a strong path do not
  enter along with it.
- The printed update of s cannot switch a path off again. `log_odds` is the same update with rho and x integrated out;
  a path enters above 0 and goes below a little less.
- The trace in the update of kappa is exact on the support and counts two real directions a path; without these the
  noise runs to zero. Points off the support have so high a spike precision that their share is left out.
- Paths that come within a fifth of a resolution cell in u and in v are one: the stronger stays.
- The channel weighs every gain by the probability that its path exists.

source: paper 004, eqs. (27)-(33)
"""

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from beamslot.dsp.estimate import Budget, Estimate, Slot, collect, refuse, slots_of, spoilt
from beamslot.dsp.prediction import found_error, missed_power
from beamslot.dsp.sensing import Complex, Real, Sensing, joint_sensing, normalised
from beamslot.dsp.variational import (
    Bool,
    Gains,
    Paths,
    Prior,
    direction_information,
    log_odds,
    posterior_gains,
    update_inclusion,
    update_noise,
    update_precision,
)
from beamslot.frame import Geometry, Operator

GridStep = Literal["gradient", "gauss_newton"]

_HYSTERESIS = 1.5
SETTLED = 0.1
LAST_ROUNDS = 3
_LONGEST_STEP = 0.25
_MERGE = 0.2
_ARMIJO = 1e-4
_TRIALS = 4


class ScVbi:
    """Subspace-constrained variational Bayesian inference of a channel from one pilot, on the whole array at once.

    The noise variance is learned, whatever the operator says of it. Nothing depends on the scale of the observations.

    geometry: the array    operator: what compressed the channel, by any beams; its interval is searched
    expected_paths: prior mean of the number of paths    max_paths: at most so many
    rounds: iterations at most; in the last three no path enters    guard: searched beyond the interval, each side, in v
    raises ShapeError when the operator does not fit the array or has every column switched off, BadParam
    source: paper 004, section V-C
    """

    _name = "sc_vbi"

    def __init__(
        self,
        geometry: Geometry,
        operator: Operator,
        *,
        expected_paths: float = 10.0,
        max_paths: int = 32,
        rounds: int = 40,
        guard: float = 0.045,
    ) -> None:
        refuse(
            (f"{self._name}.expected_paths", expected_paths, "more than 0", expected_paths > 0),
            (f"{self._name}.max_paths", max_paths, "at least 1", max_paths >= 1),
            (f"{self._name}.rounds", rounds, "at least 1", rounds >= 1),
        )
        self._sensing = joint_sensing(geometry, operator, guard)
        self._prior = Prior.of(self._sensing, expected_paths)
        self._shape = operator.weights.shape[:2]
        self._expected_paths, self._max_paths, self._rounds = expected_paths, max_paths, rounds

    def estimate(self, observation: NDArray[Any], *, budget: Budget | None = None) -> Estimate:
        """Return the channel of every slot; slots do not depend on each other.

        observation: (..., y, chain) complex64 [sqrt(W)], y = F_a h + w
        budget: asked once an iteration; when it says that time is up, that slot and those after it keep what they have
            after one iteration at least, and converged is False
        returns an Estimate, paths sorted by power. error_var is the expectation, under the posterior, of the error from
            gains, directions and existence of the paths found, and of the power of those below the threshold (see
            `missed_power`): 0.2, 1.0 and 0.5 dB low over ten-path channels at -5, 5 and 15 dB. It knows nothing of
            model errors. A slot that is not finite comes back without paths, noise_var and error_var NaN
        raises ShapeError when the last two axes are not (y, chain) of the operator
        """
        slots = [self._slot(one, budget) for one in slots_of(self._name, observation, self._shape)]
        return collect(slots, self._sensing.geometry, self._max_paths, observation.shape[:-2])

    def _slot(self, observation: NDArray[Any], budget: Budget | None) -> Slot:
        rows, scale = normalised(self._sensing.gather(observation), self._sensing)
        if not np.isfinite(scale[0]):
            return spoilt()
        found = self._infer(rows, budget)
        return read_out(found, self._sensing, self._prior, scale[0], self._expected_paths)

    def _infer(self, rows: Complex, budget: Budget | None) -> "Inference":
        start, rounds, most = Paths.none(1), self._rounds, self._max_paths
        return infer(rows, self._sensing, self._prior, start, rounds=rounds, max_paths=most, budget=budget)


class Inference(NamedTuple):
    """What `infer` found: paths, the posterior of their gains, iterations taken, whether they settled."""

    paths: Paths
    gains: Gains
    rounds: int
    settled: bool


def infer(
    observation: Complex,
    sensing: Sensing,
    prior: Prior,
    start: Paths,
    *,
    rounds: int,
    max_paths: int,
    grid_step: GridStep = "gauss_newton",
    grow: bool = True,
    budget: Budget | None = None,
) -> Inference:
    """Return the paths of P problems and the posterior of their gains.

    observation: (P, R) complex128 of unit mean power (or zero)    start: the paths to begin with
    rounds: at most so many iterations; in the last few no path enters    max_paths: at most so many a problem
    grow: whether paths may enter at all, from anywhere on the grid    grid_step: how directions move
    budget: asked after each iteration; when time is up the paths that have just entered get their gains, and it ends
    source: paper 004, section V-C
    """
    count, stable, barred = 0, False, False
    paths, gains = start, posterior_gains(observation, sensing.atoms(start.u, start.v), start)
    while count < rounds and not stable:
        if count and budget is not None and budget():
            atoms = sensing.atoms(paths.u, paths.v)
            paths = _learn(sensing, prior, paths, posterior_gains(observation, atoms, paths))
            return Inference(paths, posterior_gains(observation, atoms, paths), count, False)
        count += 1
        before = paths = compact(paths)
        paths, atoms, promise = move(observation, sensing, paths, grid_step)
        paths = _learn(sensing, prior, paths, posterior_gains(observation, atoms, paths))
        paths, gains = _drop(observation, sensing, prior, paths, posterior_gains(observation, atoms, paths))
        stable = promise < SETTLED and same(before, paths)
        barred = grow and count + LAST_ROUNDS > rounds
        if grow and not barred:
            paths, entered = _admit(sensing, prior, paths, gains.residual, max_paths)
            stable = stable and not entered
    return Inference(paths, gains, count, stable and not barred)


def newton_step(slopes: Complex, gains: Gains, paths: Paths) -> tuple[Real, Real]:
    """Return a Gauss-Newton step of all directions at once, the gains eliminated (variable projection).

    slopes: (P, 2 K, R) of the atoms in u, then in v, a resolution cell the unit
    returns step, descent: (P, 2 K)    source: instead of paper 004, eq. (33)
    """
    information, descent, _ = direction_information(slopes, gains, paths)
    damped = information + np.eye(descent.shape[-1])
    return np.linalg.solve(damped, descent[..., None])[..., 0], descent


def gradient_step(slopes: Complex, gains: Gains, paths: Paths) -> tuple[Real, Real]:
    """Return the ascent direction of -||y - Xi(Omega) mu||^2, each coordinate in units of its own curvature.

    slopes: (P, 2 K, R)    returns step, descent: (P, 2 K)    source: paper 004, eqs. (32), (33)
    """
    kappa = paths.noise_precision[:, None]
    moving = slopes * np.tile(gains.mean, 2)[..., None]
    descent = kappa * np.einsum("pkr,pr->pk", moving.conj(), gains.residual).real
    return descent / (kappa * np.sum(np.abs(moving) ** 2, -1) + 1), descent


def move(observation: Complex, sensing: Sensing, paths: Paths, grid_step: GridStep) -> tuple[Paths, Complex, float]:
    """Return the paths after a step of all directions that lowers u(mu), their atoms, and what it promised to lower.

    observation: (P, R)    source: paper 004, eq. (33)
    """
    unit = np.repeat(sensing.cell, paths.u.shape[-1])
    atoms, slopes = sensing.slopes(paths.u, paths.v)
    gains = posterior_gains(observation, atoms, paths)
    direction = newton_step if grid_step == "gauss_newton" else gradient_step
    step, descent = direction(slopes * unit[:, None], gains, paths)
    step = np.clip(step, -_LONGEST_STEP, _LONGEST_STEP) * np.tile(paths.mask, 2)
    promise = np.sum(step * descent, -1, keepdims=True)
    size = np.ones_like(promise)
    moved, trial, better = paths, atoms, np.zeros(promise.shape, bool)
    for _ in range(_TRIALS):
        moved = _place(sensing, paths, size * step * unit)
        trial = sensing.atoms(moved.u, moved.v)
        fell = gains.objective - _objective(observation, trial, moved, gains, grid_step)
        better = fell[:, None] >= _ARMIJO * 2 * size * promise
        if better.all():
            break
        size = np.where(better, size, size / 4)
    kept = replace(paths, u=np.where(better, moved.u, paths.u), v=np.where(better, moved.v, paths.v))
    return kept, np.where(better[..., None], trial, atoms), float(np.max(promise * better))


def same(before: Paths, after: Paths) -> bool:
    """Return whether the support is the same and the noise nearly so."""
    change = np.abs(after.noise_precision / before.noise_precision - 1)
    return bool((before.mask == after.mask).all() and change.max() < SETTLED)


def _place(sensing: Sensing, paths: Paths, shift: Real) -> Paths:
    along_u, along_v = np.split(shift, 2, axis=-1)
    v = np.clip(paths.v + along_v, sensing.low[:, None], sensing.high[:, None])
    return replace(paths, u=np.clip(paths.u + along_u, -1, 1), v=np.where(paths.mask, v, paths.v))


def _objective(observation: Complex, atoms: Complex, paths: Paths, gains: Gains, grid_step: GridStep) -> Real:
    if grid_step == "gauss_newton":
        return posterior_gains(observation, atoms, paths).objective
    misfit = observation - np.einsum("pk,pkr->pr", gains.mean, atoms)
    fixed = np.sum(paths.mask * paths.precision * np.abs(gains.mean) ** 2, -1)
    return paths.noise_precision * np.sum(np.abs(misfit) ** 2, -1) + fixed


def _learn(sensing: Sensing, prior: Prior, paths: Paths, gains: Gains) -> Paths:
    power, variance = np.abs(gains.mean) ** 2, gains.variance
    precision, log_precision = update_precision(paths.inclusion, power + variance, prior)
    on_support = np.einsum("pkl,plk->p", gains.covariance, gains.gram).real
    directions = paths.mask.sum(-1) / paths.noise_precision
    residual_energy = np.sum(np.abs(gains.residual) ** 2, -1)
    return replace(
        paths,
        precision=precision,
        inclusion=update_inclusion(precision, log_precision, prior),
        noise_precision=update_noise(residual_energy, on_support + directions, sensing.rows, prior),
    )


def _drop(observation: Complex, sensing: Sensing, prior: Prior, paths: Paths, gains: Gains) -> tuple[Paths, Gains]:
    kept = carried(sensing, prior, paths, np.abs(gains.mean) ** 2, gains.variance)
    if (kept == paths.mask).all():
        return paths, gains
    paths = replace(paths, mask=kept)
    return paths, posterior_gains(observation, gains.atoms, paths)


def carried(sensing: Sensing, prior: Prior, paths: Paths, power: Real, variance: Real) -> Bool:
    """Return the support without the path that has the least evidence, if too little, and without doubles, (P, K).

    power, variance: (P, K) |mu|^2 and the variance of the gain, as in `log_odds`
    """
    odds = np.where(paths.mask, log_odds(power, variance, prior), np.inf)
    # One a round: the odds of the others change with it.
    worst = np.arange(odds.shape[-1]) == odds.argmin(-1)[:, None]
    doomed = worst & (odds < -_HYSTERESIS)
    return paths.mask & ~doomed & ~_doubles(sensing, paths, power) & (paths.inclusion > 0.5)


def _doubles(sensing: Sensing, paths: Paths, power: Real) -> Bool:
    def near(coordinate: Real, cell: float) -> Bool:
        return np.abs(coordinate[:, :, None] - coordinate[:, None, :]) < _MERGE * cell

    pair = paths.mask[:, :, None] & paths.mask[:, None, :]
    pair &= near(paths.u, sensing.cell[0]) & near(paths.v, sensing.cell[1])
    return np.any(pair & (power[:, :, None] < power[:, None, :]), axis=-1)


def _admit(sensing: Sensing, prior: Prior, paths: Paths, residual: Complex, max_paths: int) -> tuple[Paths, bool]:
    problem = np.arange(len(residual))
    score = sensing.visible * np.abs(sensing.correlate(residual)) ** 2 / sensing.energy[..., None]
    best = score.reshape(len(score), -1).argmax(-1)
    at_v, at_u = np.unravel_index(best, score.shape[1:])
    energy = sensing.energy[problem, at_v]
    variance = 1 / (paths.noise_precision * energy)
    odds = log_odds((score[problem, at_v, at_u] / energy)[:, None], variance[:, None], prior)[:, 0]
    new = (odds > 0) & (paths.mask.sum(-1) < max_paths)
    added = newcomers(sensing.grid_u[at_u], sensing.grid_v[problem, at_v], new, prior, paths)
    return (paths.join(added), True) if new.any() else (paths, False)


def newcomers(u: Real, v: Real, new: Bool, prior: Prior, paths: Paths) -> Paths:
    """Return one path a problem to join `paths`, where there is a new one; all (P,)."""
    return Paths(
        u[:, None],
        v[:, None],
        new[:, None],
        np.ones((len(new), 1)),
        np.broadcast_to((prior.slab_shape / prior.slab_rate)[:, None], (len(new), 1)),
        paths.noise_precision,
    )


def compact(paths: Paths) -> Paths:
    """Return the paths without those that no problem has on its support, one at least."""
    order = np.argsort(~paths.mask, -1, kind="stable")
    return paths.take(order[:, : max(int(paths.mask.sum(-1).max()), 1)])


def read_out(
    found: Inference, sensing: Sensing, prior: Prior, scale: float, expected_paths: float | None, rounds: int = 0
) -> Slot:
    """Return what was inferred for one problem, paths sorted by power, in the units of the observation.

    scale: what the observation was divided by [sqrt(W)]    rounds: iterations taken before
    expected_paths: prior mean of their number; None takes the paths found for certain and the only ones
    """
    paths, gains = found.paths, found.gains
    weight = paths.mask.astype(float)
    missed = 0.0
    if expected_paths is not None:
        weight = weight * expit(log_odds(np.abs(gains.mean) ** 2, gains.variance, prior))
        missed = missed_power(prior, paths, float(sensing.energy.mean()), expected_paths)
    error = found_error(sensing, paths, gains, weight) + missed
    gain = scale * sensing.from_middle(weight * gains.mean, paths.u, paths.v)
    order = np.argsort(-np.abs(gain[0]) * paths.mask[0], kind="stable")
    return Slot(
        gain[0, order],
        paths.u[0, order],
        paths.v[0, order],
        paths.mask[0, order],
        float(scale**2 / paths.noise_precision[0]),
        float(scale**2 * error),
        rounds + found.rounds,
        found.settled,
    )
