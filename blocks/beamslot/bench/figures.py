"""What people read of `beamslot bench estimators`: its tables, and a plot of accuracy against time."""

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from beamslot.errors import BadParam
from beamslot.tables import Sheet, render

Row = Mapping[str, Any]

SNR = "SNR per antenna, ||h||^2 / (N_r sigma^2)"


COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c", "#ccb974", "#64b5cd")
MARKERS = "osD^vP*X"
BOUNDS = {"crb_db": ("CRB", "--"), "oracle_ls_db": ("oracle LS", "-."), "oracle_db": ("oracle MMSE", ":")}

NOTES = (
    f"dB: {SNR}; NMSE over draws, on all antennas; bounds over the same draws; one core, one slot a call",
    "core: while it had a core, as in ratios; p99: '-' under 100 slots; Mflop: by the formula in bench/arithmetic.py",
    "wanted: the largest ratio that is promised",
)


def show(machine: Row, found: Mapping[str, Any]) -> None:
    """Print the tables, and the machine under them."""
    from rich.console import Console

    console = Console(width=None if os.isatty(1) else 190)
    for sheet in _sheets(found):
        console.print(render(sheet))
        console.print()
    for line in NOTES:
        console.print(line, highlight=False)
    console.print(
        f"peak {found['peak_gflops']:.0f} Gflop/s, the fastest of all products of two float32 matrices of 256 x 256"
    )
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()), highlight=False)


def _sheets(found: Mapping[str, Any]) -> Iterable[Sheet]:
    def setting(row: Row) -> tuple[float, int, float]:
        return row["snr_db"], row["paths"], row["drift"]

    for which in dict.fromkeys(map(setting, found["rows"])):
        snr_db, paths, drift = which
        drifting = f", u and v drift by {drift:g} rms a slot" if drift else ""
        rows = [row for row in found["rows"] if setting(row) == which]
        yield _setting(f"{snr_db:g} dB, {paths} paths{drifting}", rows)
    if found["limits"]:
        heads = ("name", "value", "unit", "peer", "its value", "ratio", "wanted", "slots")
        keys = ("name", "value", "unit", "peer", "peer_value", "ratio", "wanted", "runs")
        yield _table("Limits and peers", heads, keys, found["limits"])
    if found.get("growth"):
        keys = ("what", "value", "median_ms", "core_median_ms", "ratio", "rounds", "paths_found", "mflop")
        title = "vp_nomp, one thing varied at a time"
        heads = ("what", "value", "ms a slot", "core ms", "ratio", "rounds", "paths found", "Mflop")
        yield _table(
            title,
            heads,
            keys,
            found["growth"],
        )
    if found.get("dense"):
        keys = (
            "method",
            "product",
            "products_a_slot",
            "ms_a_product",
            "ms_a_slot",
            "ratio_to_omp",
            "paper_ratio_to_omp",
        )
        heads = ("method", "product", "a slot", "ms each", "ms a slot", "to OMP", "Table I, to OMP")
        title = "Products with one shared dense dictionary, and nothing else"
        yield _table(title, heads, keys, found["dense"])


def _setting(title: str, rows: Sequence[Row]) -> Sheet:
    drifts = any(row["crb_tracked_db"] is not None for row in rows)
    heads = (
        *(
            "estimator",
            "NMSE dB",
            "95 %",
            "CRB",
            *(["recursive"] if drifts else []),
            "oracle LS",
            "oracle MMSE",
            "median ms",
            "p99 ms",
        ),
        *("core ms", "core p99", "slots", "rounds", "paths", "Mflop", "of peak"),
    )
    keys = (
        *("estimator", "nmse_db", "ci95_db", "crb_db", *(["crb_tracked_db"] if drifts else []), "oracle_ls_db"),
        *("oracle_db", "median_ms", "p99_ms"),
        *("core_median_ms", "core_p99_ms", "slots", "rounds", "paths_found", "mflop", "of_peak"),
    )
    return _table(title, heads, keys, rows)


def _table(title: str, heads: Sequence[str], keys: Sequence[str], rows: Sequence[Row]) -> Sheet:
    return Sheet(title, heads, [[_cell(key, row[key]) for key in keys] for row in rows])


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key == "ci95_db":
        return " .. ".join("-" if end is None else f"{end:.2f}" for end in value)
    if key == "of_peak":
        return f"{100 * value:.1f} %"
    if key.endswith("_db"):
        return f"{value:.2f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def can_plot(path: Path) -> None:
    """Refuse a plot that could not be written, before anything is measured; raises BadParam."""
    if find_spec("matplotlib") is None:
        raise BadParam(f"{path}: cannot be drawn: matplotlib is not installed; python -m pip install 'beamslot[plot]'")
    if not path.parent.is_dir():
        raise BadParam(f"{path}: cannot be written: {path.parent} is no directory")


def plot(rows: Sequence[Row], path: Path) -> None:
    """Write NMSE against time a slot of the first setting, the bounds as lines."""
    from matplotlib.figure import Figure

    snr_db, paths = rows[0]["snr_db"], rows[0]["paths"]
    rows = [row for row in rows if (row["snr_db"], row["paths"]) == (snr_db, paths) and row["nmse_db"] is not None]
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for index, row in enumerate(row for row in rows if not row["estimator"].startswith("oracle")):
        low, high = (row["nmse_db"] if end is None else end for end in row["ci95_db"] or (None, None))
        errors = [[row["nmse_db"] - low], [high - row["nmse_db"]]]
        style = {"color": COLOURS[index % len(COLOURS)], "fmt": MARKERS[index % len(MARKERS)], "capsize": 3}
        axes.errorbar([row["median_ms"]], [row["nmse_db"]], errors, label=row["estimator"], **style)
    most = max(rows, key=lambda row: row["slots"])
    for key, (name, style) in BOUNDS.items():
        axes.axhline(most[key], color="#333333", linestyle=style, linewidth=1, label=name)
    axes.set_xscale("log")
    axes.set_xlabel("median time a slot, one core [ms]")
    axes.set_ylabel("NMSE [dB]")
    axes.set_title(f"{snr_db:g} dB {SNR}, {paths} paths; bars: 95 % intervals", size=9)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=150)
