"""Makes the files of each experiment from the cells that the store holds, and figs. 2 to 4."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beamslot.dsp.doa_metrics import wilson
from paper_hbf import intervals
from paper_hbf.figures import verdict
from paper_hbf.intervals import Figure
from paper_hbf.report import COLOURS, MARKERS
from paper_hbf.store import Store
from paper_vae import landscape, report
from paper_vae.experiments import Experiment, Plan
from paper_vae.measures import Values
from paper_vae.methods import METHODS
from paper_vae.runner import gathered
from paper_vae.scene import CIRCLE

Row = dict[str, Any]

PANELS = (
    ("rmse_deg", "RMSE of angles without outliers [deg]"),
    ("outliers", "share of frames with an outlier"),
    ("total_rmse_deg", "RMSE of angles, all frames [deg]"),
    ("gain_mse", "MSE of path gains"),
    ("phase_mse", "MSE of path angles [rad^2]"),
)
"""Columns with an interval each, and their axes."""

_NOTHING_KNOWN = {"angle": math.pi**2 / 3, "phase": math.pi**2 / 3, "gain": 1.0}
"""Mean squares of a guess: of angles all around [rad^2], of path gains as their power."""

LEAST_GOOD = 20
"""Frames without outlier that an RMSE over them needs."""


def figures_of(values: Values, half_beam: float) -> Row:
    """Return all figures of merit of some frames; what a bound has not is empty.

    A bound of a frame ends where nothing is known, or a few users at endfire would be all that counts; without
    outliers it is that of frames whose bound is within half a beam.
    """
    bound = "worst" not in values
    if bound:
        values = {name: np.minimum(some, _NOTHING_KNOWN[name]).tolist() for name, some in values.items()}
    found = dict.fromkeys((name for name, _ in PANELS), intervals.NOTHING)
    angle = np.array(values["angle"])
    good = np.sqrt(angle) <= half_beam if bound else np.array(values["worst"]) <= half_beam
    if good.sum() >= min(LEAST_GOOD, len(angle)):
        found["rmse_deg"] = _degrees(intervals.root_mean(angle[good].tolist()))
    found["total_rmse_deg"] = _degrees(intervals.root_mean(angle.tolist()))
    if not bound:
        found["outliers"] = _share(~good)
    for name in ("gain", "phase"):
        found[f"{name}_mse"] = intervals.mean(values.get(name, []))
    row: Row = {"frames": len(angle)}
    for name, (value, low, high) in found.items():
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    folded = {"folded_outliers": math.nan, "folded_total_rmse_deg": math.nan}
    if "folded" in values:
        folded["folded_outliers"] = float(np.mean(np.array(values["folded_worst"]) > half_beam))
        folded["folded_total_rmse_deg"] = _degrees(intervals.root_mean(values["folded"])).value
    return row | folded


def _degrees(figure: Figure) -> Figure:
    return Figure(*(math.degrees(x) for x in figure))


def _share(which: Any) -> Figure:
    low, high = wilson(int(which.sum()), len(which)) or (math.nan, math.nan)
    return Figure(float(which.mean()), low, high)


def rows(experiment: Experiment, plan: Plan, store: Store) -> list[Row]:
    """Return a row a line and SNR."""
    return [
        {"snr_db": float(snr_db), "line": line.name, "method": line.method, **figures_of(values, line.scene.half_beam)}
        for line in experiment.lines
        for snr_db in line.snrs(plan)
        if (values := gathered(store, line.at(snr_db), line.method, plan))
    ]


def sweep(experiment: Experiment, plan: Plan, store: Store, folder: Path) -> list[Path]:
    """Write the table and the plot of an experiment."""
    table = rows(experiment, plan, store)
    made, axes = report.canvas(2, 3)
    for one, (column, label) in zip(axes, PANELS, strict=False):
        _lines(one, experiment, table, column)
        one.set(xlabel="SNR [dB]", ylabel=label)
        if column != "outliers":
            one.set_yscale("log")
    handles, labels = axes[2].get_legend_handles_labels()
    axes[5].axis("off")
    axes[5].legend(handles, labels, frameon=False, fontsize=8, loc="center")
    first = experiment.lines[0].scene
    around = "users all around" if first.sector_deg == CIRCLE else "users in +-60 deg"
    notes = [f"d = {first.spacing:g} wavelengths, correlation {first.correlation:g}, {around}"]
    return [
        report.write_csv(folder, experiment.name, plan, table, notes),
        report.save(made, folder, experiment.name, plan, notes),
    ]


def _lines(axes: Any, experiment: Experiment, table: Sequence[Row], column: str) -> None:
    """Draw a line a label with its interval; bounds dashed in grey, nets as markers with a dotted line."""
    shown = [line for line in experiment.lines if not METHODS[line.method].is_bound]
    for line in experiment.lines:
        own = [row for row in table if row["line"] == line.name and math.isfinite(row[column])]
        x, y = [row["snr_db"] for row in own], [row[column] for row in own]
        if line not in shown:
            style = "--" if line.method == "crb" else ":"
            axes.plot(x, y, color="#444444", linestyle=style, linewidth=1.2, label=line.name)
            continue
        index = shown.index(line)
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]
        net = METHODS[line.method].net is not None
        axes.plot(
            x,
            y,
            color=colour,
            marker=marker,
            markersize=5,
            linestyle=":" if net else "-",
            linewidth=1.2,
            label=line.name,
        )
        low, high = ([row[f"{column}_{end}"] for row in own] for end in ("low", "high"))
        if net:
            axes.vlines(x, low, high, color=colour, linewidth=1.2)
        else:
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.grid(alpha=0.3)


def pairs(experiment: Experiment, plan: Plan, store: Store) -> list[Row]:
    """Return every claim at every SNR that both lines have: the paired ratio and whether it is as expected."""
    by_name = {line.name: line for line in experiment.lines}
    made = []
    for claim in experiment.claims:
        one, other = by_name[claim.line], by_name[claim.against]
        for snr_db in sorted(set(one.snrs(plan)) & set(other.snrs(plan))):
            first, second = (
                gathered(store, line.at(snr_db), line.method, plan).get(claim.column, []) for line in (one, other)
            )
            if not (first and second):
                continue
            found = intervals.difference_db(first, second)
            made.append(
                {
                    "experiment": experiment.name,
                    "snr_db": float(snr_db),
                    "what": claim.column,
                    "line": claim.line,
                    "against": claim.against,
                    "frames": min(len(first), len(second)),
                    "ratio_db": found.value,
                    "low": found.low,
                    "high": found.high,
                    "expected": f"{claim.low:g} .. {claim.high:g} dB",
                    "verdict": verdict(found, claim.low, claim.high),
                    "who": claim.who,
                }
            )
    return made


def summary(made: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the claims as lines to read, those that do not hold first."""
    order = {"no": 0, "open": 1, "yes": 2}
    return [
        f"{row['verdict']:<5} {row['experiment']:<12} {row['snr_db']:+3g} dB {row['what']:<5} {row['line']} over "
        f"{row['against']}: {row['ratio_db']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] dB "
        f"(expected {row['expected']}; {row['who']})".replace("-inf .. ", "at most ").replace(" .. inf", " or more")
        for row in sorted(made, key=lambda row: order[row["verdict"]])
    ]


def landscapes(wanted: Sequence[str], plan: Plan, folder: Path) -> list[Path]:
    """Write figs. 2 to 4."""
    makers = {"fig2": _fig2, "fig3": _fig3, "fig4": _fig4}
    return [path for name in wanted for path in makers[name](plan, folder)]


def _fig2(plan: Plan, folder: Path) -> list[Path]:
    theta, phase = landscape.angle_grid(721), np.linspace(-np.pi, np.pi, 181)
    loss = {one: landscape.one_user(theta, phase, *one) for one in landscape.SETTINGS}
    notes = [
        "Loss (7) without noise over (true: 11 deg, 0), all else true, 1 for no user at all; white crosses: Prop. 4. "
        "Global optima by (16): " + _counts(lambda spacing: len(landscape.global_optima(landscape.TRUE, spacing)))
    ]
    made, axes = report.canvas(3, 2)
    table: list[Row] = []
    for one, ((antennas, spacing), values) in zip(axes, loss.items(), strict=True):
        _map(one, values.T, theta, phase, f"N = {antennas}, d = {spacing:g} wavelengths")
        optima = np.degrees(landscape.global_optima(landscape.TRUE, spacing))
        one.plot(optima, 0 * optima, "wx", markersize=6)
        one.set(xlabel="angle of arrival [deg]", ylabel="error of the path angle [deg]")
        table += [
            {
                "antennas": antennas,
                "spacing": spacing,
                "theta_deg": float(np.degrees(theta[i])),
                "phase_deg": float(np.degrees(phase[k])),
                "loss": float(values[i, k]),
            }
            for i in range(0, len(theta), 6)
            for k in range(0, len(phase), 10)
        ]
    return [report.write_csv(folder, "fig2", plan, table, notes), report.save(made, folder, "fig2", plan, notes)]


def _fig3(plan: Plan, folder: Path) -> list[Path]:
    theta = landscape.angle_grid(721)
    loss = {one: landscape.two_users(theta, *one, plan.snapshots, plan.seed) for one in landscape.SETTINGS}
    pair = (landscape.TRUE, landscape.OTHER)
    products = _counts(lambda spacing: math.prod(len(landscape.global_optima(true, spacing)) for true in pair))
    found = ", ".join(f"N = {n}, d = {d:g}: {landscape.deep_minima(values)}" for (n, d), values in loss.items())
    notes = [
        f"Loss (7) without noise over the angles of two users (true: 11, -25 deg), {plan.snapshots} snapshots of "
        f"their gains known; white crosses: Prop. 4. Global optima by (16): {products}. Minima below 0.05 on this "
        f"grid: {found}"
    ]
    made, axes = report.canvas(3, 2)
    table: list[Row] = []
    for one, ((antennas, spacing), values) in zip(axes, loss.items(), strict=True):
        _map(one, values.T, theta, theta, f"N = {antennas}, d = {spacing:g} wavelengths")
        first, second = (np.degrees(landscape.global_optima(true, spacing)) for true in pair)
        one.plot(*(grid.ravel() for grid in np.meshgrid(first, second)), "wx", markersize=6)
        one.set(xlabel="angle of user 1 [deg]", ylabel="angle of user 2 [deg]")
        table += [
            {
                "antennas": antennas,
                "spacing": spacing,
                "theta_1_deg": float(np.degrees(theta[i])),
                "theta_2_deg": float(np.degrees(theta[k])),
                "loss": float(values[i, k]),
            }
            for i in range(0, len(theta), 12)
            for k in range(0, len(theta), 12)
        ]
    return [report.write_csv(folder, "fig3", plan, table, notes), report.save(made, folder, "fig3", plan, notes)]


def _map(axes: Any, values: Any, x: Any, y: Any, title: str) -> None:
    ends = [float(np.degrees(end)) for end in (x[0], x[-1], y[0], y[-1])]
    axes.imshow(values, extent=ends, origin="lower", aspect="auto", vmin=0, vmax=3, cmap="viridis")
    axes.set_title(title, fontsize=9)


def _counts(count: Callable[[float], int]) -> str:
    spacings = dict.fromkeys(spacing for _, spacing in landscape.SETTINGS)
    return ", ".join(f"{count(spacing)} at d = {spacing:g}" for spacing in spacings)


def _fig4(plan: Plan, folder: Path) -> list[Path]:
    found = landscape.one_angle()
    degrees = np.degrees(found.theta_hat)
    off, off_printed = (
        landscape.distances(points, found.exact) for points in (found.proposed[1:-1], found.as_proposed)
    )
    numeric = np.gradient(found.loss, found.theta_hat)
    same, lost = (float(np.corrcoef(numeric, slope)[0, 1]) for slope in (found.slope, found.printed_slope))
    beam = 2 / 32
    notes = [
        f"N = 32, d = 0.5 wavelengths, true angle 11 deg, all else true. Zeros of the derivative inside: "
        f"{len(found.exact)}; Prop. 5 corrected (tan x = x): {len(found.proposed) - 2} and +-90 deg, the furthest "
        f"{off.max() / beam:.3f} beams from one, median {np.median(off) / beam:.4f}; Prop. 5 as printed: "
        f"{len(found.as_proposed)}, median {np.median(off_printed) / beam:.3f} beams. Correlation with the numerical "
        f"derivative of the loss: corrected {same:.6f}, as printed {lost:.4f}"
    ]
    made, (top, bottom) = report.canvas(1, 2)
    top.plot(degrees, found.loss, color=COLOURS[0], linewidth=1, label="loss (7), exact")
    for points, style, label in (
        (found.proposed, "o", "Prop. 5, corrected"),
        (found.as_proposed, "x", "Prop. 5, as printed"),
    ):
        top.plot(
            np.degrees(points),
            np.interp(points, found.theta_hat, found.loss),
            style,
            color=COLOURS[3 if style == "o" else 7],
            markersize=4,
            label=label,
        )
    top.set(xlabel="angle of arrival [deg]", ylabel="loss, 1 for no user", xlim=(-92, 92))
    bottom.plot(degrees, numeric, color="#bbbbbb", linewidth=4, label="numerical derivative")
    bottom.plot(degrees, found.slope, color=COLOURS[2], linewidth=1, label="(50) corrected")
    bottom.plot(degrees, found.printed_slope, color=COLOURS[3], linewidth=0.7, label="(50) as printed")
    bottom.set(xlabel="angle of arrival [deg]", ylabel="derivative of the loss [1/rad]", xlim=(-60, 60))
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=7)
    table = [
        {
            "theta_deg": float(degrees[i]),
            "loss": float(found.loss[i]),
            "slope": float(found.slope[i]),
            "printed_slope": float(found.printed_slope[i]),
        }
        for i in range(0, len(degrees), 8)
    ]
    points = [
        {"theta_deg": float(np.degrees(x)), "kind": kind}
        for kind in ("exact", "printed", "proposed", "as_proposed")
        for x in getattr(found, kind)
    ]
    return [
        report.write_csv(folder, "fig4", plan, table, notes),
        report.write_csv(folder, "fig4_points", plan, points, notes),
        report.save(made, folder, "fig4", plan, notes),
    ]
