"""Makes the files of each experiment from the cells that the store holds."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paper_hbf import design, intervals, report
from paper_hbf.experiments import Experiment, Line, Plan
from paper_hbf.measures import Values
from paper_hbf.store import Store

Row = dict[str, Any]

NAMES = {
    "snr_db": "SNR per antenna [dB]",
    "paths": "number of paths",
    "groups": "groups G",
    "m": "antennas per chain M",
}


def rows(experiment: Experiment, plan: Plan, store: Store) -> list[Row]:
    """Return a row a line and value of what is swept."""
    return [
        {experiment.over: x, "line": line.label, "method": line.method, "beams": line.scene.beams, **figures_of(values)}
        for line in experiment.lines
        for x in experiment.values
        if (values := _values(experiment, line, x, plan, store))
    ]


def _values(experiment: Experiment, line: Line, x: float, plan: Plan, store: Store) -> Values:
    return store.gathered(experiment.at(line, x), line.method, line.draws(plan))


def figures_of(values: Values) -> Row:
    """Return all figures of merit of some draws; what a method has not is empty."""
    errors = values["nmse"]
    found: dict[str, intervals.Figure] = {
        "nmse_db": intervals.mean_db(errors),
        "median_db": intervals.quantile_db(errors, 0.5),
        "p95_db": intervals.quantile_db(errors, 0.95),
    }
    gain = intervals.mean_db(values.get("gain", []))
    found["gain_loss_db"] = intervals.Figure(-gain.value, -gain.high, -gain.low)
    for name in ("missed", "false"):
        found[name] = intervals.mean(values.get(name, []))
    for axis in "uv":
        for name in (f"los_{axis}", f"los_crb_{axis}"):
            found[f"{name}_rms"] = intervals.root_mean(values.get(name, []))
        for name in (f"rest_{axis}", f"rest_crb_{axis}"):
            found[f"{name}_rms"] = intervals.root_ratio(values.get(name, []), values.get("rest", []))
    row: Row = {"draws": len(errors)}
    for name, (value, low, high) in found.items():
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row


def pairs(experiment: Experiment, plan: Plan, store: Store) -> list[Row]:
    """Return every claim at every value: the paired difference and whether it is as expected."""
    by_label = {line.label: line for line in experiment.lines}
    made = []
    for claim in experiment.claims:
        for x in experiment.values:
            one, other = (_values(experiment, by_label[label], x, plan, store) for label in (claim.line, claim.against))
            if not (one and other and claim.holds_at(experiment.at(by_label[claim.line], x))):
                continue
            found = intervals.difference_db(one["nmse"], other["nmse"])
            made.append(
                {
                    "experiment": experiment.name,
                    "at": f"{experiment.over}={x:g}",
                    "line": claim.line,
                    "against": claim.against,
                    "draws": min(len(one["nmse"]), len(other["nmse"])),
                    "difference_db": found.value,
                    "low": found.low,
                    "high": found.high,
                    "expected": f"{claim.low:g} .. {claim.high:g} dB",
                    "verdict": verdict(found, claim.low, claim.high),
                    "who": claim.who,
                }
            )
    return made


def verdict(found: intervals.Figure, low: float, high: float) -> str:
    """Return yes where the whole interval lies in what is expected, no where none of it does, else open."""
    if any(math.isnan(x) for x in found):
        return "open"
    if low <= found.low and found.high <= high:
        return "yes"
    return "no" if found.high < low or found.low > high else "open"


def sweep(experiment: Experiment, plan: Plan, store: Store, folder: Path) -> list[Path]:
    """Write the table and the plot of a sweep."""
    table = rows(experiment, plan, store)
    made, (axes,) = report.figure()
    report.lines(axes, table, experiment.over, "nmse_db")
    axes.set(xlabel=NAMES[experiment.over], ylabel="NMSE [dB]")
    report.legend(axes)
    return [
        report.write_csv(folder, experiment.name, plan, table),
        report.save(made, folder, experiment.name, plan),
    ]


def views(experiment: Experiment, plan: Plan, store: Store, folder: Path, wanted: Sequence[str]) -> list[Path]:
    """Write what else fig. 10's cells say."""
    makers: dict[str, Callable[..., list[Path]]] = {"cdf": _cdf, "missed": _missed, "angles": _angles, "gain": _gain}
    return [path for name in wanted for path in makers[name](experiment, plan, store, folder)]


def _cut(table: Sequence[Row], *columns: str) -> list[Row]:
    """Return some columns with their intervals, of lines that have them."""
    ends = [name + end for name in columns for end in ("", "_low", "_high")]
    kept = [row for row in table if math.isfinite(row[columns[0]])]
    return [{name: row[name] for name in ("snr_db", "line", "method", "draws", *ends)} for row in kept]


def _cdf(experiment: Experiment, plan: Plan, store: Store, folder: Path) -> list[Path]:
    some = [x for x in experiment.values if x in (-5, 5, 15)] or list(experiment.values[:1])
    made, panels = report.figure(len(some))
    table: list[Row] = []
    for axes, x in zip(panels, some, strict=True):
        for index, line in enumerate(line for line in experiment.lines if not line.is_bound):
            errors = np.sort(_values(experiment, line, x, plan, store).get("nmse", []))
            in_db = 10 * np.log10(np.maximum(errors, 1e-12))
            share = (np.arange(len(errors)) + 1) / max(len(errors), 1)
            axes.step(in_db, share, where="post", color=report.COLOURS[index % 10], label=line.label)
            table += [
                {"snr_db": x, "line": line.label, "error_db": float(e), "share": float(s)}
                for e, s in zip(in_db, share, strict=True)
            ]
        axes.axhline(0.95, color="#999999", linewidth=0.7)
        axes.set(xlabel="error of a draw [dB]", title=f"SNR {x:g} dB", ylim=(0, 1))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("share of draws")
    report.legend(panels[0])
    percentiles = _cut(rows(experiment, plan, store), "p95_db", "median_db")
    return [
        report.write_csv(folder, "cdf", plan, table),
        report.write_csv(folder, "p95", plan, percentiles, ["95th percentile and median of the error of a draw"]),
        report.save(made, folder, "cdf", plan),
    ]


def _missed(experiment: Experiment, plan: Plan, store: Store, folder: Path) -> list[Path]:
    table = _cut(rows(experiment, plan, store), "missed", "false")
    note = "a true path is found when an estimate lies within half a resolution cell of it in u and in v, one to one"
    return _panels(table, (("missed", "true paths missed"), ("false", "false paths")), "missed", plan, folder, [note])


def _gain(experiment: Experiment, plan: Plan, store: Store, folder: Path) -> list[Path]:
    table = _cut(rows(experiment, plan, store), "gain_loss_db")
    note = "loss of a receiver matched to h_hat against one matched to h, -10 log10 of the mean over draws"
    return _panels(table, (("gain_loss_db", "beamforming-gain loss [dB]"),), "gain", plan, folder, [note])


def _panels(
    table: list[Row], panels: tuple[tuple[str, str], ...], name: str, plan: Plan, folder: Path, notes: list[str]
) -> list[Path]:
    made, axes = report.figure(len(panels))
    for one, (column, label) in zip(axes, panels, strict=True):
        report.lines(one, table, "snr_db", column)
        one.set(xlabel=NAMES["snr_db"], ylabel=label)
        if column == "gain_loss_db":
            one.set_yscale("log")
    report.legend(axes[0])
    return [report.write_csv(folder, name, plan, table, notes), report.save(made, folder, name, plan)]


def _angles(experiment: Experiment, plan: Plan, store: Store, folder: Path) -> list[Path]:
    columns = [f"{who}_{kind}{axis}_rms" for who in ("los", "rest") for axis in "uv" for kind in ("", "crb_")]
    table = _cut(rows(experiment, plan, store), *columns)
    made, axes = report.figure(2)
    for one, who, label in zip(axes, ("los", "rest"), ("strongest path", "other paths found"), strict=True):
        report.lines(one, table, "snr_db", f"{who}_u_rms")
        last = [row for row in table if row["method"] == "sc_vbi"] or table
        bound = [(row["snr_db"], row[f"{who}_crb_u_rms"]) for row in last if row["line"] == last[0]["line"]]
        one.plot(*zip(*bound, strict=True), "k--", linewidth=1, label=f"CRB ({last[0]['line']}'s paths)")
        one.set(xlabel=NAMES["snr_db"], ylabel="RMSE of u", yscale="log", title=label)
        report.legend(one)
    note = "of paths found whose CRB is below a quarter of a resolution cell; the bound is of these very paths"
    return [report.write_csv(folder, "angles", plan, table, [note]), report.save(made, folder, "angles", plan)]


def designs(wanted: Sequence[str], plan: Plan, store: Store, folder: Path) -> list[Path]:
    """Write figs. 3-7."""
    makers = {"fig3": _fig3, "fig4": _fig4, "fig5": _fig5, "fig6": _fig6, "fig7": _fig7}
    return [path for name in wanted for path in makers[name](plan, store, folder)]


def _fig3(plan: Plan, store: Store, folder: Path) -> list[Path]:
    made, panels = report.figure(3)
    table: list[Row] = []
    for axes, (name, scene) in zip(panels, design.scenes(plan, design.pattern(plan, store)).items(), strict=True):
        v, chi = design.vertical_map(scene)
        axes.imshow(20 * np.log10(chi + 1e-9), extent=(v[0], v[-1], v[0], v[-1]), origin="lower", vmin=-30, vmax=0)
        axes.set(title=f"{name} (0 .. -30 dB)", xlabel="v_2", ylabel="v_1")
        table += [
            {"beams": name, "v_1": float(v[i]), "v_2": float(v[k]), "chi_db": float(20 * np.log10(chi[i, k] + 1e-9))}
            for i in range(0, len(v), 4)
            for k in range(0, len(v), 4)
        ]
    note = "20 log10 |chi_ver| over N_y T M^2, azimuth 0; the paper's figure has the wide beam alone"
    return [report.write_csv(folder, "fig3", plan, table, [note]), report.save(made, folder, "fig3", plan)]


def _fig4(plan: Plan, store: Store, folder: Path) -> list[Path]:
    made, (axes,) = report.figure()
    table: list[Row] = []
    told = []
    for index, (name, scene) in enumerate(design.scenes(plan, design.pattern(plan, store)).items()):
        v, cut = design.vertical_cut(scene)
        side, main = design.side_lobe(v, cut, scene)
        told.append(f"{name} {10 * math.log10(main):.1f} dB and {20 * math.log10(side):.1f} dB")
        axes.plot(v, 20 * np.log10(cut + 1e-9), color=report.COLOURS[index], label=name)
        table += [
            {"beams": name, "v": float(x), "chi_db": float(20 * np.log10(y + 1e-9))}
            for x, y in zip(v, cut, strict=True)
        ]
    axes.set(xlabel="v_2", ylabel="|chi_ver(v_1 = -0.25, v_2)| [dB]", ylim=(-50, 3))
    axes.grid(alpha=0.3)
    report.legend(axes)
    note = "20 log10 |chi_ver| over N_y T M^2, azimuth 0; energy at v_1 (10 log10) and highest side lobe (20 log10): "
    return [
        report.write_csv(folder, "fig4", plan, table, [note + ", ".join(told)]),
        report.save(made, folder, "fig4", plan),
    ]


def _fig5(plan: Plan, store: Store, folder: Path) -> list[Path]:
    found = design.designs(plan, store, plan.eda_seeds)
    longest = max(len(one["history"]) for one in found)
    table: list[Row] = []
    for step in range(longest):
        value, low, high = intervals.mean([one["history"][min(step, len(one["history"]) - 1)] for one in found])
        table.append({"iteration": step, "line": "EDA", "max_isl": value, "max_isl_low": low, "max_isl_high": high})
    made, (axes,) = report.figure()
    report.lines(axes, table, "iteration", "max_isl")
    start = intervals.mean([one["start"] for one in found])
    axes.axhline(start.value, color="#444444", linestyle="--", linewidth=1, label="mean of the first population")
    axes.set(xlabel="iteration", ylabel="max ISL of the best member", ylim=(0, None))
    report.legend(axes)
    note = f"mean of {len(found)} seeds; mean max ISL of the random first population {start.value:.4f}"
    return [report.write_csv(folder, "fig5", plan, table, [note]), report.save(made, folder, "fig5", plan)]


def _fig6(plan: Plan, store: Store, folder: Path) -> list[Path]:
    group = design.pattern(plan, store)
    made, (axes,) = report.figure()
    for column, own in enumerate(group):
        axes.add_patch(_square(column, own))
    axes.set(xlim=(-1, len(group)), ylim=(-0.7, 3.7), xlabel="column", ylabel="group", yticks=range(4))
    table = [{"column": column, "group": own} for column, own in enumerate(group)]
    return [report.write_csv(folder, "fig6", plan, table), report.save(made, folder, "fig6", plan)]


def _square(column: int, own: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.45, own - 0.4), 0.9, 0.8, color=report.COLOURS[own])


def _fig7(plan: Plan, store: Store, folder: Path) -> list[Path]:
    made, panels = report.figure(3)
    table: list[Row] = []
    told = []
    for axes, (name, group) in zip(panels, design.groupings(plan, design.pattern(plan, store)).items(), strict=True):
        cuts = design.horizontal_cuts(group)
        in_db = 20 * np.log10(cuts.chi + 1e-6)
        for own in range(4):
            axes.plot(cuts.delta, in_db[own], color=report.COLOURS[own], linewidth=0.8, label=f"group {own}")
        axes.set(title=f"{name}, max ISL {cuts.isl:.3f}", xlabel="Delta", ylim=(-40, 1))
        peak = 20 * math.log10(cuts.peak)
        told.append(f"{name} max ISL {cuts.isl:.4f} (to Delta = 1: {cuts.isl_to_1:.4f}), highest {peak:.1f} dB")
        table += [
            {"grouping": name, "delta": float(delta), **{f"group_{own}_db": float(x) for own, x in enumerate(cut)}}
            for delta, cut in zip(cuts.delta, in_db.T, strict=True)
        ]
    panels[0].set_ylabel("|chi_g| [dB]")
    report.legend(panels[0])
    note = f"20 log10 |chi_g|, even in Delta; {'; '.join(told)}; highest from Delta = 4 / N_y to 1"
    return [report.write_csv(folder, "fig7", plan, table, [note]), report.save(made, folder, "fig7", plan)]


def summary(made: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the claims as lines to read, those that do not hold first."""
    order = {"no": 0, "open": 1, "yes": 2}
    return [
        f"{row['verdict']:<5} {row['experiment']:<9} {row['at']:<11} {row['line']} less {row['against']}: "
        f"{row['difference_db']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] dB, {row['draws']} draws "
        f"(expected {row['expected']}; {row['who']})".replace("-inf .. ", "at most ")
        for row in sorted(made, key=lambda row: order[row["verdict"]])
    ]
