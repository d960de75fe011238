"""The plot of a sweep: NMSE over the first swept value, a line an estimator with its interval, the bound dashed."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

Row = Mapping[str, str]

COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd")
"""One an estimator, in the order of their names, in every plot."""

MARKERS = "osD^vP*X"
"""One a value of what else was swept."""


def draw(rows: Sequence[Row], swept: Mapping[str, Sequence[str]], path: Path) -> str:
    """Write the plot; return where it is, or why there is none."""
    names = [name for name, several in swept.items() if len(several) > 1]
    judged = [row for row in rows if row["nmse_db"]]
    if not judged or not all(_is_number(row[names[0]]) for row in judged):
        return "plot: none, as there is no NMSE over numbers"
    if find_spec("matplotlib") is None:
        return "plot: none; python -m pip install 'beamslot[plot]' makes one"
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    _lines(axes, judged, names[0], names[1:])
    axes.set_xlabel(label(names[0]))
    axes.set_ylabel("NMSE [dB]")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, title="bands: 95 % intervals")
    figure.savefig(path, dpi=150)
    return f"plot: {path}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def label(name: str) -> str:
    """Return a swept name as a label with its unit: snr_db becomes "SNR [dB]"."""
    base = name.rsplit(".", 1)[-1]
    unit = " [dB]" if base.endswith("_db") else ""
    words = base.removesuffix("_db").replace("_", " ")
    return (words.upper() if words == "snr" else words) + unit


def _lines(axes: Any, rows: Sequence[Row], over: str, others: Sequence[str]) -> None:
    estimators = sorted({_estimator(row) for row in rows})
    rest = list(dict.fromkeys(_rest(row, others) for row in rows))
    for estimator, values in product(estimators, rest):
        line = [row for row in rows if _estimator(row) == estimator and _rest(row, others) == values]
        line.sort(key=lambda row: float(row[over]))
        if not line:
            continue
        x = [float(row[over]) for row in line]
        y = [float(row["nmse_db"]) for row in line]
        low, high = ([float(row[key] or row["nmse_db"]) for row in line] for key in ("ci95_low_db", "ci95_high_db"))
        colour = COLOURS[estimators.index(estimator) % len(COLOURS)]
        marker = MARKERS[rest.index(values) % len(MARKERS)]
        named = ", ".join([estimator, *(f"{label(name)} {v}" for name, v in zip(others, values, strict=True))])
        axes.plot(x, y, color=colour, marker=marker, markersize=4, label=named)
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    for values in rest:
        _bound(
            axes,
            [row for row in rows if _rest(row, others) == values],
            over,
            MARKERS[rest.index(values) % len(MARKERS)],
        )


def _bound(axes: Any, rows: Sequence[Row], over: str, marker: str) -> None:
    found = {float(row[over]): float(row["crb_db"]) for row in rows if row["crb_db"]}
    named = "_nolegend_" if any(line.get_label() == "CRB" for line in axes.get_lines()) else "CRB"
    if found:
        style = {"color": "#333333", "linestyle": "--", "linewidth": 1, "marker": marker, "markersize": 3}
        axes.plot(sorted(found), [found[x] for x in sorted(found)], label=named, **style)


def _estimator(row: Row) -> str:
    return row["estimate"]


def _rest(row: Row, others: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[name] for name in others)
