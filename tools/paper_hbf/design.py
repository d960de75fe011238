"""The figures that need no channel: what beams and groupings do to directions (figs. 3-7).

source: paper 004, eqs. (4), (10), (12), Algorithm 1
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.ambiguity import centre_cosines, horizontal, membership, side_lobe_level, vertical
from beamslot.dsp.eda import design
from beamslot.dsp.grouping import Setting, balanced_random, contiguous
from paper_hbf.experiments import Plan
from paper_hbf.methods import fingerprint
from paper_hbf.scene import INTERVAL, Scene, keyed, operator
from paper_hbf.store import Store

_EDA = 3
_SEEN_FROM = -0.25
_POINTS = 121


def designs(plan: Plan, store: Store, seeds: int) -> list[dict[str, Any]]:
    """Return what runs of the EDA found, each by its own seed: group, history, start; kept in the store."""
    return [_design(plan, store, seed) for seed in range(seeds)]


def _design(plan: Plan, store: Store, seed: int) -> dict[str, Any]:
    setting = _setting(plan.n_y, plan.eda_iterations)
    key = f"eda {plan.seed} {seed} {setting.model_dump_json()} {fingerprint('beamslot.dsp.eda')}"
    if (kept := store.get(key)) is None:
        found = design(setting, keyed(plan.seed, _EDA, seed))
        kept = {"group": found.group.tolist(), "history": list(found.history), "start": found.start}
        store.put(key, kept)
    return store.get(key)


def _setting(n_y: int, iterations: int = 50) -> Setting:
    return Setting.of("eda", n_y=n_y, groups=4, interval=INTERVAL, iterations=iterations)


def pattern(plan: Plan, store: Store) -> tuple[int, ...]:
    """Return the grouping of the beams "eda": that of the first seed, not the best of several."""
    return tuple(designs(plan, store, 1)[0]["group"])


def scenes(plan: Plan, found: tuple[int, ...]) -> dict[str, Scene]:
    """Return the beams whose vertical ambiguity is compared."""
    return {
        "wide": plan.scene(beams="wide"),
        "random": plan.scene(beams="random"),
        "group-wise": plan.scene(beams="eda", pattern=found),
    }


def vertical_map(scene: Scene) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return v (point,) and |chi_ver| (point, point), 1 where every chain of every column is matched."""
    v = np.linspace(*INTERVAL, _POINTS)
    elevation, weights = np.arcsin(v), operator(scene, 0).weights
    return v, np.abs(vertical(weights, elevation, elevation)) / _matched(scene)


def vertical_cut(scene: Scene) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return v (point,) and |chi_ver| as seen from v = -0.25, 1 where every chain of every column is matched."""
    v = np.linspace(*INTERVAL, 4 * _POINTS - 3)
    seen = vertical(operator(scene, 0).weights, np.arcsin([_SEEN_FROM]), np.arcsin(v))[0]
    return v, np.abs(seen) / _matched(scene)


def _matched(scene: Scene) -> float:
    return scene.n_y * scene.n_z * scene.m


def side_lobe(v: NDArray[np.float64], cut: NDArray[np.float64], scene: Scene) -> tuple[float, float]:
    """Return the highest side lobe of a cut over its main lobe, and the main lobe, linear."""
    main = float(cut[np.abs(v - _SEEN_FROM).argmin()])
    return float(cut[np.abs(v - _SEEN_FROM) > 2 / scene.n_z].max()) / main, main


def groupings(plan: Plan, found: tuple[int, ...]) -> dict[str, NDArray[np.int16]]:
    """Return the three groupings of fig. 7."""
    return {
        "uniform": contiguous(plan.n_y, 4),
        "random": balanced_random(plan.n_y, 4, keyed(plan.seed, _EDA, 1 << 20)),
        "optimised": np.array(found, np.int16),
    }


class Cuts(NamedTuple):
    """|chi_g| (group, point) over delta (point,), 0 .. 2, and what it comes to, the worst group each, linear.

    isl: over the side lobes that the EDA counts    isl_to_1: over those up to Delta = 1
    peak: highest |chi_g| from twice the first null of all columns to 1
    """

    delta: NDArray[np.float64]
    chi: NDArray[np.float64]
    isl: float
    isl_to_1: float
    peak: float


def horizontal_cuts(group: NDArray[np.int16]) -> Cuts:
    """Return the horizontal ambiguity functions of a grouping into four."""
    members, cosine = membership(group, 4), centre_cosines(INTERVAL, 4)
    delta = np.linspace(0, 2, 1601)
    chi = np.abs(horizontal(members, cosine, delta))
    start, stop = _setting(len(group)).side_lobes
    isl, isl_to_1 = (float(side_lobe_level(members, cosine, (start, end)).max()) for end in (stop, 1.0))
    return Cuts(delta, chi, isl, isl_to_1, float(chi[:, (delta > 2 * start) & (delta <= 1)].max()))
