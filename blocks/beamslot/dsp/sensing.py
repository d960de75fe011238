"""The separable sensing matrices of a partially connected front end: one a group of columns, or one for them all.

| symbol | name | meaning |
|---|---|---|
| Xi_g, its columns | atoms | what paths of unit gain leave in the observations of group g |
| u, v | u, v | direction coordinates along the columns and the rows |
| D_{n,t}(v) | response | what chain t of column n makes of a path, sum_m w[n, t, m] exp(j 2 pi d_z (t M + m) v) |
| Phi_g | low, high | the sub-interval of v that group g looks at |

An atom is exp(j 2 pi d_y n u) D_{n,t}(v): its slopes and its products with a residual need no dictionary. Antennas
count from the middle of the array here (n - (N_y - 1)/2 and so on), which decouples the phase of a gain from its
direction; `from_middle` turns such a gain into one that counts from antenna (0, 0).

source: paper 004, eqs. (6), (22)-(26)
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.geometry import steering
from beamslot.errors import ShapeError
from beamslot.frame import Geometry, Operator

Complex = NDArray[np.complexfloating[Any, Any]]
Real = NDArray[np.floating[Any]]

_POINTS_A_CELL = 2
FAINTEST = 1e-6


@dataclass(frozen=True, eq=False)
class Sensing:
    """Sensing matrices of P problems that are solved side by side: P = G for the groups, 1 for the whole array.

    A problem has C columns (padded with zero weights where groups differ in size) and R = chain * C rows.

    geometry: the array
    weights: (P, chain, C, m) complex128    column: (P, C) int, columns of the array    valid: (P, C) bool, not padding
    low, high: (P,) search limits in v
    """

    geometry: Geometry
    weights: Complex
    column: NDArray[np.intp]
    valid: NDArray[np.bool_]
    low: Real
    high: Real

    @cached_property
    def rows(self) -> Real:
        """Observations of each problem, (P,), padding not counted."""
        return self.valid.sum(1) * float(self.weights.shape[1])

    @cached_property
    def cell(self) -> tuple[float, float]:
        """Resolution of the array in u and in v."""
        return (
            1 / (self.geometry.n_y * self.geometry.spacing_y),
            1 / (self.geometry.n_z * self.geometry.spacing_z),
        )

    @cached_property
    def cells(self) -> Real:
        """Resolution cells that each problem searches, (P,)."""
        return np.ceil(2 / self.cell[0]) * np.maximum((self.high - self.low) / self.cell[1], 1.0)

    @cached_property
    def grid_u(self) -> Real:
        """Grid of u, (U,): two points a resolution cell over [-1, 1)."""
        return np.arange(-1, 1, self.cell[0] / _POINTS_A_CELL)

    @cached_property
    def grid_v(self) -> Real:
        """Grid of v, (P, V): at least two points a resolution cell from low to high."""
        points = 1 + np.ceil(_POINTS_A_CELL * np.max(self.high - self.low) / self.cell[1]).astype(int)
        return np.linspace(self.low, self.high, points, axis=1)

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """Where the grid, (P, V, U), is a direction: u^2 + v^2 <= 1."""
        return self.grid_u**2 + self.grid_v[..., None] ** 2 <= 1

    @cached_property
    def energy(self) -> Real:
        """||xi||^2 on the grid, (P, V); it does not depend on u. Floored, so that a null of the beams draws no path."""
        energy = np.sum(np.abs(self._grid_response) ** 2, axis=(2, 3))
        return np.maximum(energy, FAINTEST * energy.max())

    def gather(self, observation: NDArray[Any]) -> Complex:
        """Return the observations of each problem.

        observation: (..., y, chain) complex    returns (..., P, R) complex128, rows ordered (chain, column)
        """
        picked = np.where(self.valid[..., None], observation[..., self.column, :].astype(np.complex128), 0)
        return picked.swapaxes(-1, -2).reshape(*picked.shape[:-2], -1)

    def atoms(self, u: NDArray[Any], v: NDArray[Any]) -> Complex:
        """Return columns of Xi.

        u, v: (P, K)    returns (P, K, R) complex128, an atom a row
        """
        return _by_path(self._horizontal(u)[:, None] * (self._vertical(v) @ self._beam))

    def slopes(self, u: NDArray[Any], v: NDArray[Any]) -> tuple[Complex, Complex]:
        """Return columns of Xi and their slopes.

        u, v: (P, K)    returns atoms (P, K, R) and d/du, d/dv stacked along the paths (P, 2 K, R), complex128
        """
        value, along_v = np.split(self._vertical(v) @ self._beam_and_slope, 2, axis=-1)
        horizontal = self._horizontal(u)[:, None]
        atoms, along_v = horizontal * value, horizontal * along_v
        along_u = (2j * np.pi * self.geometry.spacing_y) * self._offset[:, None, None] * atoms
        return _by_path(atoms), np.concatenate([_by_path(along_u), _by_path(along_v)], axis=1)

    def correlate(self, residual: Complex) -> Complex:
        """Return Xi^H r on the grid, separably: the chains give v, then the columns give u.

        residual: (P, R) complex128    returns (P, V, U) complex128
        """
        split = residual.reshape(-1, *self.weights.shape[1:3])
        return np.einsum("pvtc,ptc->pvc", self._grid_response.conj(), split) @ self._grid_phase.conj()

    def from_middle(self, gain: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> Complex:
        """Return gains at antenna (0, 0) from gains at the middle of the array, all of one shape."""
        return gain * self._to_middle(u, 0) * self._to_middle(v, 1)

    @cached_property
    def _offset(self) -> Real:
        return self.column - (self.geometry.n_y - 1) / 2

    @cached_property
    def _beam(self) -> Complex:
        return np.ascontiguousarray(self.weights.swapaxes(-1, -2))

    @cached_property
    def _beam_and_slope(self) -> Complex:
        height = np.arange(self.geometry.n_z).reshape(-1, self.weights.shape[-1]) - (self.geometry.n_z - 1) / 2
        return np.concatenate([self._beam, 2j * np.pi * self.geometry.spacing_z * height[..., None] * self._beam], -1)

    @cached_property
    def _grid_response(self) -> Complex:
        return np.ascontiguousarray((self._vertical(self.grid_v) @ self._beam).swapaxes(1, 2))

    @cached_property
    def _grid_phase(self) -> Complex:
        return np.exp(2j * np.pi * self.geometry.spacing_y * self._offset[..., None] * self.grid_u)

    def _to_middle(self, coordinate: NDArray[Any], axis: int) -> Complex:
        shape = self.geometry
        length, spacing = ((shape.n_y, shape.spacing_y), (shape.n_z, shape.spacing_z))[axis]
        return np.exp(-1j * np.pi * spacing * (length - 1) * coordinate)

    def _horizontal(self, u: NDArray[Any]) -> Complex:
        full = steering(self.geometry.n_y, u, self.geometry.spacing_y) * self._to_middle(u, 0)[..., None]
        return np.take_along_axis(full, self.column[:, None], axis=-1)

    def _vertical(self, v: NDArray[Any]) -> Complex:
        full = steering(self.geometry.n_z, v, self.geometry.spacing_z) * self._to_middle(v, 1)[..., None]
        return full.reshape(*v.shape, *self.weights.shape[1::2]).swapaxes(1, 2)


def _by_path(by_chain: Complex) -> Complex:
    problems, chains, paths, columns = by_chain.shape
    return by_chain.swapaxes(1, 2).reshape(problems, paths, chains * columns)


def joint_sensing(geometry: Geometry, operator: Operator, guard: float) -> Sensing:
    """Return the sensing of all active columns over the whole interval, guarded on both sides.

    guard: how far beyond the interval of v to search, each side
    raises ShapeError when the operator does not fit the array
    source: paper 004, eqs. (22), (34)
    """
    low, high = operator.interval
    edges = np.clip([[low - guard], [high + guard]], -1, 1)
    return _sensing(geometry, operator, [np.flatnonzero(operator.group >= 0)], *edges)


def group_sensing(geometry: Geometry, operator: Operator, guard: float) -> Sensing:
    """Return the sensing of each group over its sub-interval, uniform in v; only the outermost edges are guarded.

    raises ShapeError when the operator does not fit the array
    source: paper 004, eqs. (23)-(26)
    """
    groups = max(int(operator.group.max()) + 1, 1)
    edges = np.linspace(*operator.interval, groups + 1)
    low, high = edges[:-1].copy(), edges[1:].copy()
    low[0], high[-1] = max(low[0] - guard, -1.0), min(high[-1] + guard, 1.0)
    used = np.intersect1d(operator.group, np.arange(groups))
    return _sensing(
        geometry, operator, [np.flatnonzero(operator.group == group) for group in used], low[used], high[used]
    )


def _sensing(geometry: Geometry, operator: Operator, members: list[NDArray[np.intp]], low: Real, high: Real) -> Sensing:
    columns, chains, antennas = operator.weights.shape
    if (columns, chains * antennas) != (geometry.n_y, geometry.n_z):
        raise ShapeError(
            f"sensing: weights are {operator.weights.shape}, wanted (y, chain, m) with y = {geometry.n_y} "
            f"and chain * m = {geometry.n_z}"
        )
    widest = max((len(member) for member in members), default=0)
    if not widest:
        raise ShapeError("sensing: every column of the operator is switched off (group -1), wanted at least one on")
    column = np.stack([np.pad(member, (0, widest - len(member))) for member in members])
    valid = np.arange(widest) < np.array([len(member) for member in members])[:, None]
    weights = operator.weights.astype(np.complex128)[column] * valid[..., None, None]
    return Sensing(geometry, np.ascontiguousarray(weights.swapaxes(1, 2)), column, valid, low, high)


def normalised(rows: Complex, sensing: Sensing) -> tuple[Complex, Real]:
    """Return observations of unit mean power and what they were divided by, (P,)."""
    scale = np.sqrt(np.sum(np.abs(rows) ** 2, -1) / sensing.rows)
    with np.errstate(invalid="ignore"):  # infinite observations come back as NaN
        return rows / np.where(scale > 0, scale, 1)[:, None], scale
