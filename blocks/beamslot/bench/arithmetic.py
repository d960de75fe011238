"""What this machine can compute at most, what a slot asks of it, and what a dense dictionary would."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.bench.draws import Array, Setting, make
from beamslot.dsp.combine import combine_separable, distinct
from beamslot.dsp.geometry import steering
from beamslot.dsp.omp import Omp
from beamslot.dsp.sc_vbi import ScVbi
from beamslot.dsp.sensing import joint_sensing

GRID = (128, 36)
"""Points in u and in v of the dense dictionary."""

FINAL_STEPS = 3
"""Gauss-Newton steps that `flops` counts once no path enters any more; at most five are taken."""

PAPER_SECONDS = {"omp": 2.1, "sc_vbi": 12.8, "gw_sc_vbi": 4.1}
"""Of Table I of paper 004: MATLAB on a laptop at 2.5 GHz."""

_SIDE = 256


class FixedWork:
    """The same product of two float32 matrices over and over: the peak of one core, and what unrest the machine has."""

    flops = 2 * _SIDE**3

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._a, self._b = rng.standard_normal((2, _SIDE, _SIDE), np.float32)
        self._out = np.empty_like(self._a)

    def __call__(self, _: int) -> None:
        """Multiply once."""
        np.matmul(self._a, self._b, out=self._out)


def flops(array: Array, rounds: float, paths: float) -> float:
    """Return how many real additions and multiplications a slot of `vp_nomp` takes, roughly.

    rounds, paths: means over slots; K grows evenly to `paths` over the rounds
    A round is one correlation, one fit of the paths with those that enter, one Gauss-Newton step and the fit after it.
    `FINAL_STEPS` more steps, one correlation that finds nothing, the weights and the channel end the slot. A complex
    multiplication and addition is 8; padding to whole vectors is not counted. With the fits and steps that the NumPy
    form really took over 40 slots it came to a tenth more.
    """
    entering = [paths * (round_ + 1) / rounds for round_ in range(round(rounds))] if rounds else []
    steps = [*entering, *[paths] * FINAL_STEPS]
    fits = [*entering, *steps]
    return (
        (len(entering) + 1) * _correlation(array)
        + sum(_fit(array, k) for k in fits)
        + sum(_step(k) for k in steps)
        + 8 * paths * array.n_y * array.n_z  # the channel
        + 25 * paths**2 * (array.n_y + array.n_z)  # the error of the antennas
        + 100 * paths**3
    )


def _correlation(array: Array) -> float:
    """Chains to the grid of v, the transform over the columns, |.|^2; the residual is in `_fit`."""
    points_v = joint_sensing(array.geometry, array.operator(), 0.045).grid_v.shape[1]
    points_u, chains = 2 * array.n_y, array.n_z // array.m
    return points_v * (8 * array.n_y * (chains + 1) + 5 * points_u * math.log2(points_u) + 3 * points_u)


def _fit(array: Array, k: float) -> float:
    """Steering, atoms and slopes, products with y, Gram matrices, Cholesky, residual."""
    chains = array.n_z // array.m
    steering_and_atoms = k * (6 * (array.n_y + array.n_z) + 16 * array.groups * array.n_z)
    with_y = k * array.n_y * (16 * chains + 20)
    products = k**2 * (16 * array.n_y + 32 * array.groups * chains + 48 * array.groups)
    return steering_and_atoms + with_y + products + 4 / 3 * k**3 + 16 * k**2 + 8 * k * array.n_y * (chains + 1)


def _step(k: float) -> float:
    """The curvature with the gains eliminated: whitened slopes, their products; then a solve for the directions."""
    return 8 * k**3 + 16 * k**3 + 60 * k**2 + 8 / 3 * k**3


def dense(slots: int, array: Array | None = None) -> list[dict[str, Any]]:
    """Return what the products with one shared dense dictionary take, for ratios like those of the paper's Table I.

    Only the product is timed, in complex64: the median time on the core over runs that take turns. How many a slot
    needs is what OMP (on the grid) and SC-VBI took here, SC-VBI two an iteration (Xi mu and Xi^H r). GW-SC-VBI counts
    as many iterations as SC-VBI in its groups, each group with its own rows and its own part of the grid, and nothing
    for the joint stage, whose matrix has a few columns only. No estimator of beamslot builds a dictionary.
    """
    array = array or Array()
    draws = make(array, Setting(), slots)
    matched = np.asfortranarray(_dictionary(array).conj().T)  # the order in which the product is fastest
    points, rows = matched.shape
    group = np.array_split(np.arange(points), array.groups)
    parts = [np.asfortranarray(matched[part, : rows // array.groups]) for part in group]
    one, many = draws.observation[0].reshape(-1), draws.observation[:32].reshape(-1, rows).T.copy()

    works: dict[str, Callable[[], Any]] = {
        "one": lambda: matched @ one,
        "groups": lambda: [part @ one[: part.shape[1]] for part in parts],
        "many": lambda: matched @ many,
    }
    seen: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(max(slots, 3)):
        for name, work in works.items():
            before = time.process_time()
            work()
            seen[name].append((time.process_time() - before) * 1e3)
    ms = {name: statistics.median(times) for name, times in seen.items()}
    omp = float(Omp(array.geometry, draws.operator, zoom=0).estimate(draws.observation).iterations.mean()) + 1
    vbi = 2 * float(ScVbi(array.geometry, draws.operator).estimate(draws.observation).iterations.mean())
    whole, apart = f"{points} x {rows}", f"{array.groups} of {points // array.groups} x {rows // array.groups}"
    listed = [
        ("omp", whole, omp, ms["one"]),
        ("sc_vbi", whole, vbi, ms["one"]),
        ("gw_sc_vbi", apart, vbi, ms["groups"]),
    ]
    made = [_product(*row, ratio_to=omp * ms["one"]) for row in listed]
    width = many.shape[1]
    shared = _product(f"omp, {width} slots at once", whole, omp, ms["many"] / width, ratio_to=omp * ms["one"])
    return [*made, shared]


def _product(method: str, shape: str, count: float, ms: float, ratio_to: float) -> dict[str, Any]:
    paper = PAPER_SECONDS.get(method)
    return {
        "method": method,
        "product": shape,
        "products_a_slot": count,
        "ms_a_product": ms,
        "ms_a_slot": count * ms,
        "ratio_to_omp": count * ms / ratio_to,
        "paper_ratio_to_omp": paper / PAPER_SECONDS["omp"] if paper else None,
    }


def _dictionary(array: Array) -> NDArray[np.complex64]:
    """Return F_a A over the grid, (observations, points), v the slow axis so that a group's points are neighbours."""
    operator = array.operator()
    u, v = np.linspace(-1, 1, GRID[0], endpoint=False), np.linspace(*operator.interval, GRID[1])
    columns = np.tile(steering(array.n_y, u), (GRID[1], 1))
    rows = np.repeat(steering(array.n_z, v), GRID[0], axis=0)
    return combine_separable(columns, rows, *distinct(operator.weights)).T.astype(np.complex64)
