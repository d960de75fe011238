"""Which cells each figure wants, and what the paper says of it."""

from dataclasses import dataclass, replace
from typing import Any

from paper_hbf.methods import METHODS, available
from paper_hbf.scene import Scene
from paper_hbf.store import Cell, cells


@dataclass(frozen=True)
class Plan:
    """How much is run: draws, sweeps, the array.

    slow_draws: draws of a method that takes hundreds of milliseconds a slot    eda_seeds: runs of the EDA in fig. 5
    timed: slots that are timed for Table I
    """

    draws: int = 300
    slow_draws: int = 40
    seed: int = 2025
    n_y: int = 64
    n_z: int = 72
    m: int = 12
    snrs: tuple[float, ...] = (-10, -5, 0, 5, 10, 15, 20)
    paths: tuple[int, ...] = (6, 10, 14, 18, 22)
    groups: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 16)
    compressions: tuple[int, ...] = (4, 6, 8, 12, 18, 24)
    eda_seeds: int = 8
    eda_iterations: int = 50
    timed: int = 30

    def scene(self, **changes: Any) -> Scene:
        """Return the scene of the paper (5 dB, 10 paths) on this array, with changes."""
        return replace(Scene(n_y=self.n_y, n_z=self.n_z, m=self.m, seed=self.seed), **changes)


QUICK = Plan(
    draws=60,
    slow_draws=6,
    snrs=(-5, 5, 15),
    paths=(6, 14, 22),
    groups=(2, 4, 8),
    compressions=(6, 12, 24),
    eda_seeds=3,
    timed=10,
)


@dataclass(frozen=True)
class Line:
    """A line of a figure: a method in a scene of which one field is swept."""

    label: str
    method: str
    scene: Scene

    @property
    def is_bound(self) -> bool:
        """Whether it is a bound or an oracle, drawn thin."""
        return self.method == "crb" or bool(METHODS[self.method].truth)

    def draws(self, plan: Plan) -> int:
        """How many draws it gets."""
        return min(plan.slow_draws, plan.draws) if METHODS[self.method].slow else plan.draws


@dataclass(frozen=True)
class Claim:
    """What is compared, and what is expected of the difference of NMSE [dB] of `line` less `against`, and by whom.

    at: the SNR of which it was said, None for any
    """

    line: str
    against: str
    low: float
    high: float
    who: str
    at: float | None = None

    def holds_at(self, scene: Scene) -> bool:
        """Return whether anything was said of such a scene."""
        return self.at is None or (scene.snr_db, scene.paths) == (self.at, Scene().paths)


@dataclass(frozen=True)
class Experiment:
    """A sweep: NMSE of some lines over one field of the scene, and comparisons of two of them."""

    name: str
    title: str
    over: str
    values: tuple[float, ...]
    lines: tuple[Line, ...]
    claims: tuple[Claim, ...] = ()

    def cells(self, plan: Plan) -> list[Cell]:
        """Return all cells, those that are quick to have first."""
        return [
            cell
            for line in sorted(self.lines, key=lambda line: METHODS[line.method].slow)
            for x in self.values
            for cell in cells(self.at(line, x), line.method, line.draws(plan))
        ]

    def at(self, line: Line, x: float) -> Scene:
        """Return the scene of a line at a value of what is swept."""
        return replace(line.scene, **{self.over: x})


SWEEPS = {
    "fig8": "NMSE over SNR by beams, SC-VBI",
    "fig9": "NMSE over the number of paths by beams, SC-VBI",
    "fig10": "NMSE over SNR by algorithm, group-wise beams",
    "fig11": "NMSE over the number of paths by algorithm",
    "groups": "NMSE over the number of groups G",
    "compression": "NMSE over the antennas per chain M",
    "grids": "OMP on fixed grids and refined, NMSE over SNR",
    "groupings": "NMSE over SNR by grouping, the fastest estimator",
}
DESIGNS = {
    "fig3": "vertical ambiguity functions over both angles (the paper: of the wide beam)",
    "fig4": "vertical ambiguity functions of wide, random and group-wise beams",
    "fig5": "convergence of the EDA",
    "fig6": "the optimised grouping",
    "fig7": "horizontal ambiguity functions of uniform, random and optimised grouping",
}
SUMMARY = {"paired": "paired differences of NMSE between lines, and what was expected of them"}
VIEWS = {
    "cdf": "CDF and 95th percentile of the error of a draw, from the cells of fig10",
    "missed": "missed and false paths over SNR, from fig10",
    "angles": "angle RMSE against the CRB over SNR, from fig10",
    "gain": "beamforming-gain loss over SNR, from fig10",
}
TABLES = {"table1": "time a slot on one core, separable and with a dense dictionary"}
EVERYTHING = {**DESIGNS, **SWEEPS, **VIEWS, **TABLES}

_UNLIMITED = float("inf")


def sweep(name: str, plan: Plan, pattern: tuple[int, ...]) -> Experiment:
    """Return an experiment of SWEEPS; lines whose method is not there are left out.

    pattern: the grouping that the EDA found
    """
    made = {
        "fig8": _beams,
        "fig9": _beams,
        "fig10": _algorithms,
        "fig11": _algorithms,
        "groups": _groups,
        "compression": _groups,
        "grids": _grids,
        "groupings": _groupings,
    }[name](name, plan, pattern)
    lines = tuple(line for line in made.lines if line.method in available())
    labels = {line.label for line in lines}
    claims = tuple(claim for claim in made.claims if {claim.line, claim.against} <= labels)
    return replace(made, lines=lines, claims=claims)


def _over(name: str, plan: Plan) -> tuple[str, tuple[float, ...]]:
    if name in ("fig9", "fig11"):
        return "paths", plan.paths
    return {"groups": ("groups", plan.groups), "compression": ("m", plan.compressions)}.get(name, ("snr_db", plan.snrs))


def _bounds(scene: Scene, suffix: str = "") -> tuple[Line, ...]:
    labels = {"oracle_ls": "oracle LS", "oracle_mmse": "oracle MMSE", "crb": "CRB"}
    return tuple(Line(label + suffix, method, scene) for method, label in labels.items())


def _beams(name: str, plan: Plan, pattern: tuple[int, ...]) -> Experiment:
    scenes = {
        "random beams": plan.scene(beams="random"),
        "groups, contiguous": plan.scene(beams="contiguous"),
        "groups, random": plan.scene(beams="balanced"),
        "groups, EDA": plan.scene(beams="eda", pattern=pattern),
    }
    lines = [Line(label, "sc_vbi", scene) for label, scene in scenes.items()]
    lines += [Line(f"CRB: {label}", "crb", scene) for label, scene in scenes.items()]
    lines += _bounds(scenes["groups, EDA"], ": groups, EDA")[:2]
    claims = (
        Claim("groups, EDA", "random beams", -_UNLIMITED, -5.5, "measured before: 5.5 dB or more", 5.0),
        Claim("groups, random", "random beams", -_UNLIMITED, -5.5, "measured before: 5.5 dB or more", 5.0),
        Claim("groups, EDA", "groups, contiguous", -_UNLIMITED, -2.5, "measured before: 2.5 dB or more", 5.0),
        Claim("groups, EDA", "groups, random", -_UNLIMITED, 0.0, "paper: the optimisation helps further"),
    )
    return Experiment(name, SWEEPS[name], *_over(name, plan), tuple(lines), claims)


_ALGORITHMS = ("omp", "omp_grid", "nomp", "turbo_vbi", "sc_vbi", "gw_sc_vbi", "gw_sc_vbi_printed", "vp_nomp")


def _algorithms(name: str, plan: Plan, pattern: tuple[int, ...]) -> Experiment:
    scene = plan.scene(beams="eda", pattern=pattern)
    label = {method: METHODS[method].label for method in _ALGORITHMS}
    lines = tuple(Line(label[method], method, scene) for method in _ALGORITHMS) + _bounds(scene)
    close = "paper: GW-SC-VBI is close to SC-VBI and Turbo-VBI"
    better = "paper: clearly better than OMP"
    claims = (
        Claim(label["gw_sc_vbi_printed"], label["sc_vbi"], -1.0, 1.0, close),
        Claim(label["gw_sc_vbi"], label["sc_vbi"], -1.0, 1.0, close),
        Claim(label["gw_sc_vbi"], label["turbo_vbi"], -1.0, 1.0, close),
        Claim(label["gw_sc_vbi"], label["omp_grid"], -_UNLIMITED, -1.0, better),
        Claim(label["gw_sc_vbi_printed"], label["omp_grid"], -_UNLIMITED, -1.0, better),
        Claim(label["gw_sc_vbi"], label["omp"], -_UNLIMITED, -1.0, better),
        Claim(label["vp_nomp"], label["gw_sc_vbi"], -_UNLIMITED, 0.5, "ours: the fast way is as good"),
    )
    return Experiment(name, SWEEPS[name], *_over(name, plan), lines, claims)


def _groups(name: str, plan: Plan, _: tuple[int, ...]) -> Experiment:
    scene = plan.scene()
    chosen = ("gw_sc_vbi", "gw_sc_vbi_printed", "vp_nomp")
    lines = tuple(Line(METHODS[method].label, method, scene) for method in chosen) + _bounds(scene)
    return Experiment(name, SWEEPS[name], *_over(name, plan), lines)


def _grids(name: str, plan: Plan, pattern: tuple[int, ...]) -> Experiment:
    scene = plan.scene(beams="eda", pattern=pattern)
    chosen = ("omp_grid", "omp_fine", "omp_finest", "omp")
    lines = tuple(Line(METHODS[method].label, method, scene) for method in chosen) + _bounds(scene)
    return Experiment(name, SWEEPS[name], *_over(name, plan), lines)


def _groupings(name: str, plan: Plan, pattern: tuple[int, ...]) -> Experiment:
    method = "vp_nomp" if "vp_nomp" in available() else "gw_sc_vbi"
    scenes = {
        "wide beams": plan.scene(beams="wide"),
        "contiguous": plan.scene(beams="contiguous"),
        "comb": plan.scene(beams="interleaved"),
        "random": plan.scene(beams="balanced"),
        "EDA": plan.scene(beams="eda", pattern=pattern),
    }
    lines = tuple(Line(label, method, scene) for label, scene in scenes.items()) + _bounds(scenes["EDA"], ": EDA")
    claims = (
        Claim("EDA", "contiguous", -_UNLIMITED, -2.5, "measured before: 2.5 dB or more", 5.0),
        Claim("EDA", "random", -_UNLIMITED, 0.0, "paper: the optimisation helps further"),
    )
    return Experiment(name, SWEEPS[name], *_over(name, plan), lines, claims)
