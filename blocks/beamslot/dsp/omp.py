"""Orthogonal matching pursuit on a two-dimensional angle grid, refined around each peak, noise learned.

| symbol | name | meaning |
|---|---|---|
| x(u, v) | atom | F_a a_R(u, v), never tabulated over the whole grid |
| c = x^H r | correlation | of the residual with every atom: T products per column and v, then an FFT over columns |
| Q R | _Fit | orthonormal basis of the chosen atoms and their coordinates in it |
| sigma_w^2 | noise_var | ||r||^2 / (N_RF - 2 K) per complex entry of y, two complex unknowns (gain and angles) a path |

Stop rule (constant false alarm rate): with the noise estimated from the residual less its largest component, the search
ends when max |c|^2 / ||x||^2 <= sigma_w^2 ln(grid points / false_alarm); no noise variance is ever handed in.

source: paper 004, figs. 10 and 11 (the OMP baseline). Decision: the print gives no grid, and a fixed 128 x 36 one leaks
6 to 12 dB at 5 to 15 dB of SNR, so each peak is located on ever finer grids about it; zoom = 0 is the plain algorithm
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from beamslot.dsp.combine import combine_separable, distinct, response
from beamslot.dsp.estimate import Budget, Estimate
from beamslot.dsp.geometry import gram, render, steering
from beamslot.errors import BadParam, ShapeError
from beamslot.frame import Geometry, Operator

# Energy of a residual, relative to the observation, that is no more than the rounding of complex64 input.
_EXACT = 1e-12
_OFFSETS = np.arange(-3, 4) / 4
_HIDDEN_PATHS = 2


class Omp:
    """Greedy search for one path at a time, all gains refitted by least squares after each.

    geometry, operator: the array and F_a; the noise variance in the operator is not used
    paths: largest number of paths    grid: points over one period of u and over the searched interval of v
    guard: what is searched beyond the operator's interval on each side, in v
    zoom: how many times a peak is located anew, each time on a grid four times finer about it; 0 keeps to the grid
    false_alarm: probability of a path found in noise alone (an upper bound, since grid points are correlated)
    raises BadParam for a grid coarser than the number of columns, or a value that cannot be
    """

    def __init__(
        self,
        geometry: Geometry,
        operator: Operator,
        *,
        paths: int = 16,
        grid: tuple[int, int] = (128, 36),
        guard: float = 1 / 24,
        zoom: int = 3,
        false_alarm: float = 0.1,
    ) -> None:
        _check(geometry, operator, paths, grid, zoom)
        self._geometry, self._paths, self._zoom = geometry, paths, zoom
        self._tables, self._which = distinct(operator.weights)
        self._rows = int(np.any(operator.weights != 0, axis=-1).sum())
        self._u, self._step_u = _grid_u(geometry, grid[0])
        self._v, self._step_v = _grid_v(geometry, operator.interval, guard, grid[1])
        seen = response(self._tables, self._v, geometry.spacing_z)[self._which]
        self._matched = seen.conj().astype(np.complex64)
        energy = np.sum(np.abs(seen) ** 2, axis=(0, 1))
        visible = self._u[:, None] ** 2 + self._v**2 <= 1
        self._scale = (visible * _inverse(energy)).astype(np.float32)
        self._threshold = np.log(self._scale.size / false_alarm)

    def estimate(self, observation: NDArray[Any], budget: Budget | None = None) -> Estimate:
        """Return the channels of a batch, each the same as if it came alone.

        observation: (..., y, chain) complex [sqrt(W)]
        budget: asked after every path; when it says that time is up, that slot and those after it keep the paths that
            they have, one at least, and converged is False
        returns the estimate: mask marks the paths found, strongest correlation first; error_var is twice the
            least-squares error at the angles found, gains and angles being as many unknowns, plus the power of two
            paths just under the threshold, an allowance that fits ten-path channels; converged is False where the
            number of paths ran out before the noise was reached
        raises ShapeError when the observation does not fit the operator
        """
        wanted = (self._matched.shape[0], self._matched.shape[1])
        if observation.shape[-2:] != wanted:
            raise ShapeError(f"Omp: observation is {observation.shape}, wanted (..., {wanted[0]}, {wanted[1]})")
        batch = observation.shape[:-2]
        found = [self._search(one, budget) for one in observation.reshape(-1, *wanted)]
        return self._pack(found, batch)

    def _search(self, observation: NDArray[Any], budget: Budget | None) -> "_Fit":
        fit = _Fit(observation, self._paths)
        for _ in range(self._paths + 1):
            residual = fit.residual.reshape(observation.shape)
            power = self._correlate(residual)
            row, column = divmod(int(power.argmax()), len(self._v))
            fit.converged = self._is_noise(fit, float(power[row, column]))
            if fit.converged or fit.count == self._paths or (fit.count and budget is not None and budget()):
                break
            u, v = self._locate(residual, self._u[row], self._v[column])
            fit.push(self._atom(u, v), u, v)
        return fit

    def _correlate(self, residual: NDArray[np.complex128]) -> NDArray[np.float32]:
        """|x^H r|^2 / ||x||^2 over the grid."""
        columns = np.matmul(residual[:, None, :].astype(np.complex64), self._matched)[:, 0]
        spectrum = np.asarray(fft.fft(columns, len(self._u), axis=0))
        return np.abs(spectrum) ** 2 * self._scale

    def _is_noise(self, fit: "_Fit", peak: float) -> bool:
        energy = fit.energy()
        left = max(self._rows - 2 * fit.count - 2, 1)
        return energy <= _EXACT * fit.total or peak <= self._threshold * (energy - peak) / left

    def _locate(self, residual: NDArray[np.complex128], u: float, v: float) -> tuple[float, float]:
        step_u, step_v = self._step_u, self._step_v
        for _ in range(self._zoom):
            near_u, near_v = u + step_u * _OFFSETS, v + step_v * _OFFSETS
            seen = response(self._tables, near_v, self._geometry.spacing_z)[self._which]
            columns = np.matmul(residual[:, None, :], seen.conj())[:, 0]
            spectrum = steering(self._geometry.n_y, near_u, self._geometry.spacing_y).conj() @ columns
            power = np.abs(spectrum) ** 2 * _inverse(np.sum(np.abs(seen) ** 2, axis=(0, 1)))
            row, column = divmod(int(power.argmax()), len(_OFFSETS))
            u, v, step_u, step_v = float(near_u[row]), float(near_v[column]), step_u / 4, step_v / 4
        return u, v

    def _atom(self, u: float, v: float) -> NDArray[np.complex128]:
        columns, rows = self._responses(np.array([u]), np.array([v]))
        return combine_separable(columns, rows, self._tables, self._which)[0]

    def _responses(self, u: NDArray[Any], v: NDArray[Any]) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        geometry = self._geometry
        return steering(geometry.n_y, u, geometry.spacing_y), steering(geometry.n_z, v, geometry.spacing_z)

    def _pack(self, found: list["_Fit"], batch: tuple[int, ...]) -> Estimate:
        count = np.array([fit.count for fit in found], np.int32)
        mask = np.arange(self._paths) < count[:, None]
        u, v, gain = (
            np.array(parts).reshape(-1, self._paths)
            for parts in ([fit.u for fit in found], [fit.v for fit in found], [fit.gains() for fit in found])
        )
        noise_var = np.array([fit.energy() for fit in found]) / np.maximum(self._rows - 2 * count, 1)
        spread = 2 * np.array([self._spread(fit) for fit in found]) / self._geometry.antennas
        hidden = _HIDDEN_PATHS * self._threshold * self._scale.mean()
        shape = (*batch, self._paths)
        return Estimate(
            channel=render(gain, u, v, self._geometry).reshape(*batch, self._geometry.n_y, self._geometry.n_z),
            gain=gain.reshape(shape).astype(np.complex64),
            u=u.reshape(shape).astype(np.float32),
            v=v.reshape(shape).astype(np.float32),
            mask=mask.reshape(shape),
            noise_var=noise_var.reshape(batch).astype(np.float32),
            error_var=(noise_var * (spread + hidden)).reshape(batch).astype(np.float32),
            iterations=count.reshape(batch),
            converged=np.array([fit.converged for fit in found], np.bool_).reshape(batch),
        )

    def _spread(self, fit: "_Fit") -> float:
        """tr((A^H A)^-1 A_h^H A_h): error of the antennas per unit of noise at the chains."""
        columns, rows = self._responses(fit.u[: fit.count], fit.v[: fit.count])
        inverse = fit.inverse()
        return float(np.einsum("ij,kj,ki->", inverse, inverse.conj(), gram(columns) * gram(rows)).real)


class _Fit:
    """Least squares of one observation on a growing set of atoms, by an incremental QR decomposition."""

    def __init__(self, observation: NDArray[Any], paths: int) -> None:
        self.residual = observation.reshape(-1).astype(np.complex128)
        self.total = self.energy()
        self.count, self.converged = 0, False
        self.u, self.v = np.zeros(paths), np.zeros(paths)
        self._basis = np.zeros((paths, self.residual.size), np.complex128)
        self._triangle = np.zeros((paths, paths), np.complex128)
        self._coordinates = np.zeros(paths, np.complex128)

    def energy(self) -> float:
        return float(np.vdot(self.residual, self.residual).real)

    def push(self, atom: NDArray[np.complex128], u: float, v: float) -> None:
        """Take in an atom outside the span of the chosen ones (one inside cannot pass the stop rule)."""
        k = self.count
        basis = self._basis[:k]
        # Orthogonalised twice: once loses digits when the atom nearly lies in the span.
        for _ in range(2):
            shadow = basis.conj() @ atom
            self._triangle[:k, k] += shadow
            atom = atom - shadow @ basis
        length = np.sqrt(np.vdot(atom, atom).real)
        self._triangle[k, k], self._basis[k] = length, atom / length
        self._coordinates[k] = np.vdot(self._basis[k], self.residual)
        self.residual = self.residual - self._coordinates[k] * self._basis[k]
        self.u[k], self.v[k], self.count = u, v, k + 1

    def inverse(self) -> NDArray[Any]:
        """R^-1 of the chosen atoms."""
        return np.linalg.inv(self._triangle[: self.count, : self.count])

    def gains(self) -> NDArray[np.complex128]:
        """Least-squares gains, zero for paths that were not needed."""
        gain = np.zeros_like(self._coordinates)
        gain[: self.count] = self.inverse() @ self._coordinates[: self.count]
        return gain


def _grid_u(geometry: Geometry, points: int) -> tuple[NDArray[np.float64], float]:
    """One period of the column response in FFT order, and its step."""
    if geometry.n_y == 1:
        return np.zeros(1), 0.0
    step = 1 / (points * geometry.spacing_y)
    return np.fft.ifftshift(step * (np.arange(points, dtype=np.float64) - points // 2)), step


def _grid_v(
    geometry: Geometry, interval: tuple[float, float], guard: float, points: int
) -> tuple[NDArray[np.float64], float]:
    if geometry.n_z == 1:
        return np.zeros(1), 0.0
    grid = np.linspace(interval[0] - guard, interval[1] + guard, points)
    return grid, float(grid[1] - grid[0])


def _inverse(energy: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(1, energy, out=np.zeros_like(energy), where=energy > 0)


def _check(geometry: Geometry, operator: Operator, paths: int, grid: tuple[int, int], zoom: int) -> None:
    n_y, chain, m = operator.weights.shape
    if (n_y, chain * m) != (geometry.n_y, geometry.n_z):
        raise ShapeError(
            f"Omp: weights {operator.weights.shape} do not fit an array of {geometry.n_y} x {geometry.n_z}"
        )
    if grid[0] < n_y or grid[1] < 2 or paths < 1 or zoom < 0:
        raise BadParam(
            f"Omp: paths {paths}, grid {grid}, zoom {zoom}; wanted at least 1 path, {n_y} x 2 grid points, zoom 1"
        )
