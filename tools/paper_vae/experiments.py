"""Which lines each figure has, and what the paper says of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paper_vae.methods import METHODS
from paper_vae.scene import CIRCLE, Scene

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Plan:
    """How much is run.

    frames: of each point    snrs: of what is not trained    net_snrs: of what is, one training each
    training: budget of nets    correlations: of fig. 5    wide: the spacing above half a wavelength in fig. 7
    antennas, users, snapshots: of every scene
    """

    frames: int = 2000
    seed: int = 2025
    snrs: tuple[float, ...] = (-10, -5, 0, 5, 10, 15, 20)
    net_snrs: tuple[float, ...] = (-10, -5, 0, 5, 10, 15, 20)
    training: Path = CONFIGS / "small.yml"
    correlations: tuple[float, ...] = (0.0, 0.9, 0.99)
    wide: float = 0.7
    antennas: int = 32
    users: int = 3
    snapshots: int = 40

    def scene(self, **changes: Any) -> Scene:
        """Return the paper's scene with changes."""
        made = Scene(antennas=self.antennas, users=self.users, snapshots=self.snapshots, seed=self.seed)
        return replace(made, **changes)


QUICK = replace(Plan(), frames=300, snrs=(-10, 0, 10, 20), net_snrs=(0, 20), training=CONFIGS / "quick.yml")


@dataclass(frozen=True)
class Line:
    """A line of a figure: a method in a scene, of which the SNR is swept."""

    method: str
    scene: Scene
    label: str = ""

    @property
    def name(self) -> str:
        """Its name in the legend."""
        return self.label or METHODS[self.method].label

    def at(self, snr_db: float) -> Scene:
        """Return its scene at an SNR."""
        return replace(self.scene, snr_db=float(snr_db))

    def snrs(self, plan: Plan) -> Sequence[float]:
        """Return where it has points."""
        return plan.snrs if METHODS[self.method].net is None else plan.net_snrs


@dataclass(frozen=True)
class Claim:
    """What is expected of the ratio of mean squares [dB], `line` over `against`, over all frames, and by whom.

    column: angle, gain or phase, of `measures`
    """

    line: str
    against: str
    low: float
    high: float
    who: str
    column: str = "angle"


@dataclass(frozen=True)
class Experiment:
    """A figure over SNR."""

    name: str
    lines: tuple[Line, ...]
    claims: tuple[Claim, ...] = ()


LANDSCAPES = {
    "fig2": "loss over AoA and path angle of one user",
    "fig3": "loss over the AoAs of two users",
    "fig4": "loss over one AoA, its stationary points and its gradient",
}
SWEEPS = {
    "fig5": "accuracy over SNR, independent and correlated channels",
    "fig6": "accuracy over SNR, decoder that knows or learns, with AoA labels",
    "fig7": "accuracy over SNR, without sectors, without initialisation, pseudo-labels",
    "wide": "as fig. 7, antennas further apart than half a wavelength, and users all around",
}
EVERYTHING = {**LANDSCAPES, **SWEEPS}
SUMMARY = {"paired": "paired comparisons, and what was expected of them"}

BOUNDS = ("crb", "crb_unconditional")
_CLASSICAL = ("music", "root_music", "kr_music", "mode", "fbss_gn", "vae_ula", "vae_ula_gn")
_OURS = ("vae", "vae_first", "vae_collapsed", "vae_collapsed_gn")
_MUCH = 3.0
"""Ratio of mean squares [dB] that counts as "much higher"."""
_ANY = float("inf")


def sweep(name: str, plan: Plan) -> list[Experiment]:
    """Return the experiments of one of SWEEPS: of fig5 one a correlation, of wide two."""
    if name == "fig5":
        return [_fig5(plan, correlation) for correlation in plan.correlations]
    if name == "fig6":
        return [_fig6(plan)]
    return [_fig7(plan)] if name == "fig7" else _wide(plan)


def _lines(scene: Scene, *methods: str) -> tuple[Line, ...]:
    return tuple(Line(method, scene) for method in methods)


def _fig5(plan: Plan, correlation: float) -> Experiment:
    scene = plan.scene(correlation=correlation)
    rivals = ("cnn", "supervised") if not correlation else ()  # the paper: the same with correlated channels
    name = "fig5" if not correlation else f"fig5_rho{correlation:g}"
    label = {method: METHODS[method].label for method in METHODS}
    best = "ours: a net that ends with steps is at the bound"
    claims = [
        Claim(
            label["music"], "CRB, unconditional", _MUCH, _ANY, "paper, whatever is trained: there is room below MUSIC"
        ),
        Claim(label["kr_music"], "CRB, unconditional", _MUCH, _ANY, "paper: there is room below KR-MUSIC"),
        Claim(label["vae"], label["music"], -_ANY, -_MUCH, "paper: MUSIC has much higher AoA errors"),
        Claim(label["vae"], label["kr_music"], -_ANY, 0.0, "paper: better than KR-MUSIC"),
        Claim(label["vae"], label["music"], -_ANY, 0.0, "paper: gains better than LS at MUSIC's angles", "gain"),
        Claim(label["vae"], label["music"], -_ANY, 0.0, "paper: path angles better than LS at MUSIC's", "phase"),
        Claim(label["vae_collapsed"], label["vae"], -_ANY, 0.0, "ours: the collapsed ELBO needs no channel net"),
        Claim(label["vae"], label["vae_first"], -_ANY, 0.0, "paper: the second phase improves on the first"),
        Claim(label["vae_collapsed"], label["vae_first"], -_ANY, 0.0, "the same, of the collapsed ELBO"),
        Claim(label["vae_ula_gn"], "CRB, unconditional", -_ANY, 1.0, best),
        Claim(label["vae_ula_gn"], label["fbss_gn"], -_ANY, 0.5, "ours: as good as the strongest classical chain"),
        Claim(label["fbss_gn"], label["music"], -_ANY, 0.0, "ours: MUSIC is a weak opponent"),
    ]
    if rivals:
        claims += [
            Claim(label["vae"], label["cnn"], -_ANY, 0.0, "paper: better than the unsupervised CNN"),
            Claim(label["vae"], label["supervised"], -1.0, 1.0, "paper: almost the same as supervised"),
            Claim(label["vae"], label["supervised"], -1.0, 1.0, "paper: almost the same as supervised", "gain"),
            Claim(label["vae_collapsed"], label["supervised"], -1.0, 1.0, "collapsed: the same as supervised"),
        ]
    return Experiment(name, _lines(scene, *_CLASSICAL, *_OURS, *rivals, *BOUNDS), tuple(claims))


def _fig6(plan: Plan) -> Experiment:
    scene = plan.scene()
    label = {method: METHODS[method].label for method in METHODS}
    lines = _lines(scene, "vae", "vae_collapsed", "original", "labelled", "vae_ula_gn", *BOUNDS)
    claims = (
        Claim(label["original"], label["vae"], 10.0, _ANY, "paper: AoA errors extremely higher"),
        Claim(label["original"], label["vae_collapsed"], 10.0, _ANY, "the same, against the collapsed ELBO"),
        Claim(label["original"], label["vae"], 0.0, _ANY, "paper: gains much less accurate", "gain"),
        Claim(label["labelled"], label["vae"], -3.0, 0.0, "paper: AoA errors slightly lower"),
        Claim(label["labelled"], label["vae_collapsed"], -3.0, 0.0, "the same, against the collapsed ELBO"),
        Claim(label["labelled"], label["vae"], 0.0, _ANY, "paper: gains much less accurate", "gain"),
        Claim(label["labelled"], label["vae"], 0.0, _ANY, "paper: path angles much less accurate", "phase"),
    )
    return Experiment("fig6", lines, claims)


def _fig7(plan: Plan) -> Experiment:
    scene = plan.scene()
    label = {method: METHODS[method].label for method in METHODS}
    lines = _lines(scene, "vae", "vae_first", "vae_collapsed", "no_sectors", "no_init", "peaks", "peaks_gn", *BOUNDS)
    claims = (
        Claim(label["no_sectors"], label["vae"], _MUCH, _ANY, "paper: without sectors much worse"),
        Claim(label["no_init"], label["vae"], 0.0, _ANY, "paper: without initialisation worse"),
        Claim(label["vae"], label["peaks"], -_ANY, 0.0, "paper: better than its pseudo-labels"),
        Claim(label["vae_collapsed"], label["peaks"], -_ANY, 0.0, "the same, of the collapsed ELBO"),
        Claim(label["peaks_gn"], "CRB, unconditional", -_ANY, 1.0, "ours: pseudo-labels and steps reach the bound"),
    )
    return Experiment("fig7", lines, claims)


def _wide(plan: Plan) -> list[Experiment]:
    """Decision: the paper sweeps neither; they tell front-back ambiguity and aliases apart."""
    shown = ("peaks", "fbss_gn", "vae_ula_gn", "vae", *BOUNDS)
    spread, around = plan.scene(spacing=plan.wide), plan.scene(sector_deg=CIRCLE)
    label = METHODS["vae"].label
    return [
        Experiment("wide", _lines(spread, *shown)),
        Experiment(
            "around",
            _lines(around, *shown),
            (Claim(label, METHODS["peaks"].label, -_ANY, 0.0, "a net over the circle finds which side users are on"),),
        ),
    ]
