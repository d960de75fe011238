"""Table I: how long a slot takes on one core.

CPU seconds of this process, a slot at a time after one to warm up; median and quartiles. CPU time, so that waiting for
a busy machine does not count (what it does to the caches does), and one thread, so that it is the time of one core.
"""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.combine import combine_separable, distinct
from beamslot.dsp.geometry import steering
from paper_hbf.experiments import Plan
from paper_hbf.methods import METHODS, available, estimate, fingerprint
from paper_hbf.scene import CHUNK, INTERVAL, Observed, Scene, observe, operator
from paper_hbf.store import Store

GRID = (128, 36)
PAPER = {"omp_dense": 2.1, "turbo_vbi": 63.0, "sc_vbi": 12.8, "gw_sc_vbi_printed": 4.1}
"""Seconds of the paper: MATLAB, 2.5 GHz laptop."""

_DENSE = {
    "dense_product": "one product Xi^H r with a dense dictionary",
    "omp_dense": "OMP, dense dictionary on the 128 x 36 grid",
}


def kernel() -> str:
    """Return the form in which VP-NOMP runs here."""
    compiled = import_module("beamslot.dsp.kernel").load()
    return "numpy" if compiled is None else compiled.__name__.rpartition("_")[2]


class DenseOmp:
    """Orthogonal matching pursuit with the dictionary as a matrix, as Table I's OMP must have been."""

    def __init__(self, scene: Scene, paths: int) -> None:
        front, geometry = operator(scene, 0), scene.geometry
        u, v = np.meshgrid(np.arange(-1, 1, 2 / GRID[0]), np.linspace(*INTERVAL, GRID[1]), indexing="ij")
        columns, rows = steering(geometry.n_y, u.ravel()), steering(geometry.n_z, v.ravel())
        atoms = combine_separable(columns, rows, *distinct(front.weights)).astype(np.complex64)
        self.matched = np.ascontiguousarray(atoms.conj())
        self._scale, self._paths = 1 / np.sum(np.abs(atoms) ** 2, -1), paths
        self._field = columns, rows

    def product(self, residual: NDArray[Any]) -> NDArray[Any]:
        """Return Xi^H r."""
        return self.matched @ residual

    def estimate(self, observation: NDArray[Any]) -> NDArray[Any]:
        """Return the channel (y, z) of one slot (y, chain), `paths` paths on the grid."""
        y = observation.reshape(-1)
        residual, chosen, gain = y, list[int](), np.zeros(0, np.complex64)
        for _ in range(self._paths):
            chosen.append(int((np.abs(self.product(residual)) ** 2 * self._scale).argmax()))
            basis = self.matched[chosen].conj().T
            gain = np.linalg.lstsq(basis, y, rcond=None)[0]
            residual = y - basis @ gain
        columns, rows = (part[chosen] for part in self._field)
        return (columns * gain[:, None]).T @ rows


def table(plan: Plan, store: Store, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a row a method; what is in the store is not timed again."""
    scene = plan.scene(beams="balanced")
    names = [name for name in available() if name != "crb" and not METHODS[name].truth]
    rows = []
    for name in (*_DENSE, *names):
        code = fingerprint("paper_hbf.timing" if name in _DENSE else METHODS[name].module)
        key = f"time {name} {scene} {plan.timed} {code}"
        if store.get(key) is None:
            told(f"timing {name}")
            store.put(key, _seconds(scene, name, plan.timed))
        rows.append(_row(name, store.get(key)))
    return rows


def _row(name: str, seconds: list[float]) -> dict[str, Any]:
    low, middle, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return {
        "line": _DENSE.get(name) or METHODS[name].label + (f", compiled ({kernel()})" if name == "vp_nomp" else ""),
        "milliseconds": float(1e3 * middle),
        "quartile_low": float(1e3 * low),
        "quartile_high": float(1e3 * high),
        "slots": len(seconds),
        "paper_milliseconds": 1e3 * PAPER[name] if name in PAPER else float("nan"),
    }


def _seconds(scene: Scene, name: str, slots: int) -> list[float]:
    seen = observe(scene, 0, CHUNK)
    one = _timed(scene, name, seen)
    slots = min(slots, 3) if name in METHODS and METHODS[name].slow else slots
    one(0)
    taken = []
    for index in range(slots):
        begin = time.process_time()
        one(index % CHUNK)
        taken.append(time.process_time() - begin)
    return taken


def _timed(scene: Scene, name: str, seen: Observed) -> Callable[[int], object]:
    if name in _DENSE:
        dense = DenseOmp(scene, scene.paths)
        if name == "omp_dense":
            return lambda index: dense.estimate(seen.observation[index])
        return lambda index: dense.product(seen.observation[index].reshape(-1))
    estimator = METHODS[name](scene.geometry, operator(scene, 0))
    return lambda index: estimate(METHODS[name], estimator, seen.observation[index : index + 1], seen.paths)
