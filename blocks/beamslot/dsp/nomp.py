"""Newtonized orthogonal matching pursuit (NOMP) on the two direction coordinates, noise learned.

| symbol | name | meaning |
|---|---|---|
| x(u, v) | atom | F_a a_R(u, v), in separable form |
| S(g, u, v) | | 2 Re{r^H g x} - |g|^2 ||x||^2, what a path of gain g takes from ||r||^2, r the residual without it |
| R_s, R_c | single_steps, cyclic_rounds | Newton steps of a new path, and sweeps over all paths, after each detection |
| tau | threshold | a path is one when |x^H r|^2 / ||x||^2 > tau sigma_w^2 |
| sigma_w^2 | noise_var | ||r||^2 / (N_RF - 2 K) per complex entry of y, two complex unknowns (gain and angles) a path |

For each path: the best point of a grid with two points a resolution cell; R_s Newton steps of its angles on S; R_c
sweeps of one Newton step of every path in turn, gains updated along; least squares for all gains. A step counts only
where S is concave and only if it lowers the residual, so the residual never grows.

Stop rule (constant false alarm rate): P(max over N points of noise > tau sigma_w^2) = false_alarm gives
tau = -ln(1 - (1 - false_alarm)^(1/N)), N the points of the grid; sigma_w^2 is estimated from the residual less its
largest component. No noise variance is ever handed in.

source: B. Mamandipoor, D. Ramasamy, U. Madhow, "Newtonized Orthogonal Matching Pursuit: Frequency Estimation over the
Continuum", IEEE Trans. Signal Processing, 2016, Algorithm 1. Decisions: two coordinates instead of one frequency, so a
2 x 2 Newton step; ||x||^2 depends on v, so it stays in S; the noise is learned
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.bounds import crb_channel
from beamslot.dsp.combine import combine_separable, distinct
from beamslot.dsp.estimate import Budget, Estimate, Slot, collect, refuse, slots_of, spoilt
from beamslot.dsp.geometry import render
from beamslot.dsp.prediction import power_below
from beamslot.dsp.sensing import Complex, Real, joint_sensing
from beamslot.dsp.variational import Prior
from beamslot.frame import Geometry, Operator

# Energy of a residual, relative to the observation, that is no more than the rounding of complex64 input.
_EXACT = 1e-12
_LONGEST_STEP = 0.5
_ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))


class Nomp:
    """Newtonized OMP: paths found one by one, each refined off the grid, all refined again after each.

    The noise variance is learned, whatever the operator says of it. Nothing depends on the scale of the observations.

    geometry, operator: the array and F_a    paths: largest number of paths
    single_steps, cyclic_rounds: R_s and R_c    guard: searched beyond the operator's interval, each side, in v
    false_alarm: probability of a path found in noise alone (an upper bound, since grid points are correlated)
    expected_paths: prior mean of the number of paths, for error_var alone
    raises ShapeError when the operator does not fit the array or has every column switched off, BadParam
    source: Mamandipoor et al. 2016
    """

    def __init__(
        self,
        geometry: Geometry,
        operator: Operator,
        *,
        paths: int = 24,
        single_steps: int = 1,
        cyclic_rounds: int = 3,
        guard: float = 0.045,
        false_alarm: float = 0.1,
        expected_paths: float = 10.0,
    ) -> None:
        refuse(
            ("nomp.paths", paths, "at least 1", paths >= 1),
            ("nomp.single_steps", single_steps, "at least 0", single_steps >= 0),
            ("nomp.cyclic_rounds", cyclic_rounds, "at least 0", cyclic_rounds >= 0),
            ("nomp.false_alarm", false_alarm, "between 0 and 1", 0 < false_alarm < 1),
            ("nomp.expected_paths", expected_paths, "more than 0", expected_paths > 0),
        )
        self._sensing = joint_sensing(geometry, operator, guard)
        active = np.where(operator.group[:, None, None] >= 0, operator.weights, 0)
        self._geometry, self._operator = geometry, replace(operator, weights=active)
        self._atoms = Atoms(geometry, self._operator)
        self._paths, self._single_steps, self._cyclic_rounds = paths, single_steps, cyclic_rounds
        self._expected_paths, self._prior = expected_paths, Prior.of(self._sensing, expected_paths)
        points = int(self._sensing.visible.sum())
        self._threshold = -np.log(-np.expm1(np.log1p(-false_alarm) / points))

    def estimate(self, observation: NDArray[Any], *, budget: Budget | None = None) -> Estimate:
        """Return the channels of a batch, each the same as if it came alone.

        observation: (..., y, chain) complex [sqrt(W)], y = F_a h + w
        budget: asked once a path found; when it says that time is up, that slot and those after it keep what they have,
            one path at least, and converged is False
        returns the estimate, paths sorted by power; error_var is the Cramer-Rao bound at the paths found and the power
            that is expected in paths below the threshold (`power_below`); converged is False where the number of paths
            ran out before the noise was reached. A slot that is not finite comes back without paths, noise_var and
            error_var NaN
        raises ShapeError when the observation does not fit the operator
        """
        slots = [self._slot(one, budget) for one in slots_of("nomp", observation, self._operator.weights.shape[:2])]
        return collect(slots, self._geometry, self._paths, observation.shape[:-2])

    def _slot(self, observation: NDArray[Any], budget: Budget | None) -> Slot:
        if not np.isfinite(observation).all():
            return spoilt()
        active = np.where(self._operator.group[:, None] >= 0, observation, 0).astype(np.complex128)
        fit = Fit(active.reshape(-1), self._atoms, self._sensing.low[0], self._sensing.high[0])
        converged = self._search(fit, budget)
        return self._read_out(fit, converged)

    def _search(self, fit: "Fit", budget: Budget | None) -> bool:
        while True:
            u, v, peak = self._detect(fit.residual)
            if self._is_noise(fit, peak):
                return True
            if fit.count == self._paths or (fit.count and budget is not None and budget()):
                return False
            fit.push(u, v)
            for _ in range(self._single_steps):
                fit.refine(fit.count - 1)
            for path in list(range(fit.count)) * self._cyclic_rounds:
                fit.refine(path)
            fit.solve()

    def _detect(self, residual: Complex) -> tuple[float, float, float]:
        """The best point of the grid and its |x^H r|^2 / ||x||^2."""
        sensing = self._sensing
        heard = sensing.correlate(sensing.gather(residual.reshape(self._operator.weights.shape[:2])))[0]
        power = sensing.visible[0] * np.abs(heard) ** 2 / sensing.energy[0, :, None]
        row, column = np.unravel_index(power.argmax(), power.shape)
        return float(sensing.grid_u[column]), float(sensing.grid_v[0, row]), float(power[row, column])

    def _is_noise(self, fit: "Fit", peak: float) -> bool:
        energy = fit.energy()
        left = max(self._sensing.rows[0] - 2 * fit.count - 2, 1)
        return energy <= _EXACT * fit.total or peak <= self._threshold * (energy - peak) / left

    def _read_out(self, fit: "Fit", converged: bool) -> Slot:
        noise_var = fit.energy() / max(self._sensing.rows[0] - 2 * fit.count, 1)
        order = np.argsort(-np.abs(fit.gain), kind="stable")
        u, v = fit.u[order], fit.v[order]
        gain = self._sensing.from_middle(fit.gain[order], u, v)
        mask = np.ones(len(gain), bool)
        error = self._bound(gain, u, v, noise_var) + self._missed(fit.total / self._sensing.rows[0], noise_var)
        return Slot(gain, u, v, mask, noise_var, error, fit.count, converged)

    def _bound(self, gain: Complex, u: Real, v: Real, noise_var: float) -> float:
        mask = np.ones(len(gain), bool)
        power = np.mean(np.abs(render(gain, u, v, self._geometry)) ** 2)
        return float(power * crb_channel(gain, u, v, mask, self._operator, self._geometry, noise_var))

    def _missed(self, power: float, noise_var: float) -> float:
        if not power:
            return 0.0
        limit = self._threshold * noise_var / float(self._sensing.energy.mean())
        return power_below(limit, power * float(self._prior.slab_rate[0]), self._expected_paths)


@dataclass
class Atoms:
    """Atoms and their derivatives up to the second order, a resolution cell the unit, antennas from the middle."""

    geometry: Geometry
    operator: Operator

    def __post_init__(self) -> None:
        shape, weights = self.geometry, self.operator.weights.astype(np.complex128)
        self.tables, self.which = distinct(weights)
        self.cell = np.array([1 / (shape.n_y * shape.spacing_y), 1 / (shape.n_z * shape.spacing_z)])
        self.turn_y = 2j * np.pi / shape.n_y * (np.arange(shape.n_y) - (shape.n_y - 1) / 2)
        self.turn_z = 2j * np.pi / shape.n_z * (np.arange(shape.n_z) - (shape.n_z - 1) / 2)

    def around(self, u: float, v: float, orders: tuple[tuple[int, int], ...] = _ORDERS) -> Complex:
        """Return d^(p + q) x / du^p dv^q for each (p, q) of the orders, (order, R)."""
        columns, rows = np.exp(self.turn_y * (u / self.cell[0])), np.exp(self.turn_z * (v / self.cell[1]))
        along_y = np.array([self.turn_y**p * columns for p, _ in orders])
        along_z = np.array([self.turn_z**q * rows for _, q in orders])
        return combine_separable(along_y, along_z, self.tables, self.which)


class Fit:
    """Paths fitted to one observation: gain, u, v (K,)."""

    def __init__(self, observation: Complex, atoms: Atoms, low: float, high: float) -> None:
        self._observation, self.residual, self._atoms = observation, observation, atoms
        self._limits = np.array([[-1.0, low], [1.0, high]])
        self.total = self.energy()
        self._at = np.zeros((0, 2))
        self._gain = np.zeros(0, np.complex128)
        self._images = np.zeros((0, observation.size), np.complex128)

    @property
    def count(self) -> int:
        """Number of paths."""
        return len(self._gain)

    @property
    def u(self) -> Real:
        """Directions along the columns, (K,)."""
        return self._at[:, 0]

    @property
    def v(self) -> Real:
        """Directions along the rows, (K,)."""
        return self._at[:, 1]

    @property
    def gain(self) -> Complex:
        """Gains counted from the middle of the array, (K,)."""
        return self._gain

    def energy(self) -> float:
        """||r||^2 of the residual."""
        return float(np.vdot(self.residual, self.residual).real)

    def push(self, u: float, v: float) -> None:
        """Take in a path where it was detected, with the gain that fits the residual."""
        atom = self._atoms.around(u, v, _ORDERS[:1])
        gain = np.vdot(atom, self.residual) / np.vdot(atom, atom).real
        self._at = np.concatenate([self._at, [[u, v]]])
        self._gain = np.append(self._gain, gain)
        self._images = np.concatenate([self._images, atom])
        self.residual = self.residual - gain * atom[0]

    def refine(self, path: int) -> None:
        """Take one Newton step of the directions of a path and refit its gain; kept only if the residual falls.

        source: Mamandipoor et al. 2016
        """
        without = self.residual + self._gain[path] * self._images[path]
        step = self._newton_step(path)
        moved = np.clip(self._at[path] + step * self._atoms.cell, *self._limits)
        atom = self._atoms.around(moved[0], moved[1], _ORDERS[:1])[0]
        gain = np.vdot(atom, without) / np.vdot(atom, atom).real
        residual = without - gain * atom
        if np.vdot(residual, residual).real < self.energy():
            self._at[path], self._gain[path], self._images[path], self.residual = moved, gain, atom, residual

    def _newton_step(self, path: int) -> Real:
        """The Newton step of S in resolution cells, zero where S is not concave."""
        u, v = self._at[path]
        around = self._gain[path] * self._atoms.around(u, v)
        against = (around.conj() @ self.residual).real
        inner = (around[1:3].conj() @ around[1:3].T).real
        curvature = np.array([[against[3], against[4]], [against[4], against[5]]]) - inner
        if curvature[0, 0] >= 0 or np.linalg.det(curvature) <= 0:
            return np.zeros(2)
        return np.clip(-np.linalg.solve(curvature, against[1:3]), -_LONGEST_STEP, _LONGEST_STEP)

    def solve(self) -> None:
        """Fit all gains by least squares."""
        self._gain = np.linalg.lstsq(self._images.T, self._observation, rcond=None)[0]
        self.residual = self._observation - self._gain @ self._images
