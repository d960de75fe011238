"""CSV and PNG of everything, each file with its definitions, seed and versions."""

import csv
import io
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from paper_hbf.experiments import EVERYTHING, SUMMARY, Plan
from paper_hbf.scene import INTERVAL

COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd")
MARKERS = "osD^vP*X<>"

DEFINITIONS = (
    "NMSE: mean over draws of |h_hat - h|^2 / |h|^2 on all N_r antennas, in dB of the mean; every draw has |h|^2 = N_r",
    "SNR per antenna: sigma^2 = 10^(-SNR/10), sigma_w^2 = M 10^(-SNR/10) behind a chain of M antennas; learned by all",
    "CRB: true K known, angles and gains unknown, mean over the same draws; oracle LS: true angles; oracle MMSE: true "
    "angles and powers",
    "intervals: 95 %, over independent draws; channel and noise of a draw are the same for all methods, beams and SNR",
)


def setting(plan: Plan) -> str:
    """Return the array and the channel in words."""
    return (
        f"array {plan.n_y} x {plan.n_z}, M = {plan.m}, G = 4 unless said, v in [{INTERVAL[0]:g}, {INTERVAL[1]:g}]; "
        "1 LOS path (K-factor N(9, 3.5) dB) and the rest discrete NLOS, azimuth +-60 deg, 5 dB and 10 paths unless said"
    )


def versions() -> str:
    """Return what it was made with."""
    names = ("beamslot", "numpy", "scipy")
    return ", ".join([*(f"{name} {version(name)}" for name in names), f"Python {platform.python_version()}"])


def header(name: str, plan: Plan, notes: Sequence[str] = ()) -> str:
    """Return the comment lines at the head of a CSV file; no date, so that the same run gives the same bytes."""
    lines = (
        f"{name}: {(EVERYTHING | SUMMARY).get(name, 'more of the cells of fig10')}",
        *notes,
        *DEFINITIONS,
        setting(plan),
        f"draws {plan.draws} (slow methods {plan.slow_draws}); seed {plan.seed}; {versions()}",
    )
    return "".join(f"# {line}\n" for line in lines)


def write_csv(
    folder: Path, name: str, plan: Plan, rows: Iterable[Mapping[str, Any]], notes: Sequence[str] = ()
) -> Path:
    """Write rows of the same keys."""
    return write_table(folder / f"{name}.csv", header(name, plan, notes), rows)


def write_table(path: Path, head: str, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows of the same keys below a head of comments; return the path."""
    table, text = list(rows), io.StringIO()
    writer = csv.DictWriter(text, list(table[0]) if table else ["nothing"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _text(value) for key, value in row.items()} for row in table)
    path.write_text(head + text.getvalue(), encoding="utf-8")
    return path


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def figure(panels: int = 1, wide: float = 7.0) -> tuple[Any, list[Any]]:
    """Return a figure and its axes, side by side; no display is needed."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(wide if panels == 1 else 4.6 * panels, 5.4 if panels == 1 else 4.9), layout="constrained")
    return made, list(made.subplots(1, panels, squeeze=False)[0])


def save(made: Any, folder: Path, name: str, plan: Plan) -> Path:
    """Write a PNG with its definitions below it and in its metadata."""
    import textwrap

    path = folder / f"{name}.png"
    made.suptitle(f"{name}: {EVERYTHING.get(name, name)}", fontsize=10)
    caption = f"{DEFINITIONS[0]}. {DEFINITIONS[1]}. {plan.draws} draws, seed {plan.seed}, 95 % intervals."
    made.supxlabel("\n".join(textwrap.wrap(caption, 120)), fontsize=5.5, color="#555555")
    about = {"Title": name, "Description": header(name, plan).replace("# ", ""), "Software": versions()}
    made.savefig(path, dpi=150, metadata=about)
    return path


def lines(
    axes: Any, rows: Sequence[Mapping[str, Any]], over: str, column: str, bounds: Sequence[str] = ("CRB", "oracle")
) -> None:
    """Draw a line a label with its interval; bounds are dashed and thin, in grey or the colour of what they bound."""
    labels = list(dict.fromkeys(row["line"] for row in rows))
    solid = [label for label in labels if not label.startswith(tuple(bounds))]
    for label in labels:
        own = [row for row in rows if row["line"] == label and math.isfinite(row[column])]
        x, y = [row[over] for row in own], [row[column] for row in own]
        bounded = label.partition(": ")[2]
        index = solid.index(label) if label in solid else solid.index(bounded) if bounded in solid else -1
        colour = COLOURS[index % len(COLOURS)] if index >= 0 else "#444444"
        if label in solid:
            axes.plot(x, y, color=colour, marker=MARKERS[index % len(MARKERS)], markersize=4, label=label)
            low, high = ([row[f"{column}_{end}"] for row in own] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        else:
            style = "--" if label.startswith("CRB") else ":" if "LS" in label else "-."
            axes.plot(x, y, color=colour, linestyle=style, linewidth=1, label=label)
    axes.grid(alpha=0.3)


def legend(axes: Any) -> None:
    """Add the legend."""
    axes.legend(frameon=False, fontsize=7)
