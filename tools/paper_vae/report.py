"""Heads of CSV and captions of PNG: definitions, budgets, seed and versions in each file."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from paper_hbf.report import versions as common_versions
from paper_hbf.report import write_table
from paper_vae.experiments import EVERYTHING, LANDSCAPES, SUMMARY, Plan

DEFINITIONS = (
    "outlier: a frame with a user further off than half a beam (1.79 deg of 32 antennas); RMSE without them, their "
    "share, and RMSE with them; users matched, angles wrapped",
    "SNR: E|h_k|^2 / sigma^2 per antenna and user; zero-mean gains; angles uniform in +-60 deg, 1.5 beams apart",
    "path gain |h|, path angle arg h (wrapped), mean over users, snapshots and all frames; gains by least squares "
    "unless a net has a channel path of its own",
    "CRB: conditional of the frames at hand, unconditional for CN(0, P); of gains conditional only; a frame's bound is "
    "cut where nothing is known (pi^2/3, gains 1), and counts without outliers where it is within half a beam",
    "intervals: 95 %, over frames, which all methods, SNR and correlations share; how trainings scatter is not in them",
)


_ALONE = {
    "wide": "accuracy over SNR, antennas further apart than half a wavelength",
    "around": "accuracy over SNR, users all around the array",
}


def budget(plan: Plan) -> str:
    """Return what nets were given, in words."""
    from paper_vae import nets

    return nets.budget(plan.training)


def setting(plan: Plan) -> str:
    """Return the scene in words."""
    return f"N = {plan.antennas}, K = {plan.users}, M = {plan.snapshots}, d = 0.5 wavelengths unless said"


def versions() -> str:
    """Return what it was made with."""
    return f"{common_versions()}, torch {version('torch')}"


def title(name: str) -> str:
    """Return what a file shows."""
    if name in _ALONE:
        return _ALONE[name]
    base, _, rest = name.partition("_")
    return (EVERYTHING | SUMMARY)[base] + (f", {rest}" if rest else "")


def header(name: str, plan: Plan, notes: Sequence[str] = ()) -> str:
    """Return the comment lines at the head of a CSV file; no date, so that the same run gives the same bytes."""
    trained = () if name.startswith(tuple(LANDSCAPES)) else (*DEFINITIONS, setting(plan), f"nets: {budget(plan)}")
    frames = "" if name.startswith(tuple(LANDSCAPES)) else f"frames {plan.frames}; "
    lines = (f"{name}: {title(name)}", *notes, *trained, f"{frames}seed {plan.seed}; {versions()}")
    return "".join(f"# {line}\n" for line in lines)


def write_csv(
    folder: Path, name: str, plan: Plan, rows: Iterable[Mapping[str, Any]], notes: Sequence[str] = ()
) -> Path:
    """Write rows of the same keys."""
    return write_table(folder / f"{name}.csv", header(name, plan, notes), rows)


def _reduced(plan: Plan, name: str) -> str:
    """Return what must be said of nets where nobody overlooks it."""
    from paper_vae import nets

    return (
        ""
        if name in LANDSCAPES
        else f"\nnets that are trained here saw {nets.share(plan.training)} of the paper's frames"
    )


def canvas(rows: int, columns: int) -> tuple[Any, list[Any]]:
    """Return a figure and its axes, row by row; no display is needed."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(4.6 * columns, 4.3 * rows), layout="constrained")
    return made, list(made.subplots(rows, columns, squeeze=False).ravel())


def save(made: Any, folder: Path, name: str, plan: Plan, notes: Sequence[str] = ()) -> Path:
    """Write a PNG with what must be known below it, and all of it in its metadata."""
    path = folder / f"{name}.png"
    made.suptitle(f"{name}: {title(name)}{_reduced(plan, name)}", fontsize=10)
    if name in LANDSCAPES:
        told = [*notes]
    else:
        told = [
            *notes,
            f"Nets: {budget(plan)}",
            f"{setting(plan)}, {plan.frames} frames, seed {plan.seed}, {DEFINITIONS[4]}",
        ]
    made.supxlabel("\n".join(textwrap.wrap(". ".join(told), 170)), fontsize=6, color="#555555")
    about = {"Title": name, "Description": header(name, plan, notes).replace("# ", ""), "Software": versions()}
    made.savefig(path, dpi=130, metadata=about)
    return path
