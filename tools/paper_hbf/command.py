"""The command line: what to make, with how many draws, where."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from paper_hbf import design, figures, report, runner, timing
from paper_hbf.experiments import DESIGNS, EVERYTHING, QUICK, SWEEPS, VIEWS, Experiment, Plan, sweep
from paper_hbf.methods import METHODS, absent
from paper_hbf.options import names, three, too_small, unknown
from paper_hbf.store import Store

_EPILOG = """\
examples
  python tools/paper_hbf --quick                      everything in minutes, few draws
  python tools/paper_hbf --jobs 8                     everything, 300 draws (about 40 minutes of CPU)
  python tools/paper_hbf --only fig8,fig10 --draws 50 two figures
  python tools/paper_hbf --only fig10 --array 16x24x6 a small array, for a try

what there is
{what}

Every cell (a method in a scene, ten draws) is kept in OUT/cells.jsonl at once: stop with Ctrl-C whenever you like, the
same command goes on. More draws add to those that are there; a method whose source changed is computed anew.

definitions
{definitions}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    problems = [*_problems(arguments)]
    if problems:
        parser.exit(2, "".join(f"paper_hbf: {problem}\n" for problem in problems))
    plan, console = _plan(arguments), Console(stderr=True)
    try:
        _make(arguments, plan, console)
    except KeyboardInterrupt:
        console.print(f"stopped; what is done is kept in {arguments.out}, the same command goes on")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    what = "\n".join(f"  {name:<12} {title}" for name, title in EVERYTHING.items())
    definitions = "\n".join(f"  {line}" for line in report.DEFINITIONS)
    parser = argparse.ArgumentParser(
        "paper_hbf",
        description="Make figures 3-11 and Table I of paper 004 as CSV and PNG, and what a reviewer would ask besides.",
        epilog=_EPILOG.format(what=what, definitions=definitions),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAMES", help="some of the names below, with commas between")
    parser.add_argument("--quick", action="store_true", help=f"few draws ({QUICK.draws}) and values, for minutes")
    parser.add_argument("--draws", type=int, metavar="N", help=f"channel draws of each point ({Plan().draws})")
    parser.add_argument("--slow-draws", type=int, metavar="N", help=f"of methods that are slow ({Plan().slow_draws})")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (1); each uses one thread")
    parser.add_argument("--seed", type=int, default=Plan().seed, metavar="N", help=f"of everything ({Plan().seed})")
    parser.add_argument("--array", metavar="YxZxM", help="columns, rows, antennas per chain (64x72x12)")
    parser.add_argument("--out", type=Path, default=Path("out/paper-hbf"), metavar="DIR", help="(out/paper-hbf)")
    return parser


def _problems(arguments: argparse.Namespace) -> Iterable[str]:
    yield from unknown(names(arguments.only, EVERYTHING), EVERYTHING)
    yield from too_small(arguments, {"draws": 2, "slow_draws": 1, "jobs": 1, "seed": 0})
    if arguments.array and not _array(arguments.array):
        yield f"--array is {arguments.array!r}; wanted YxZxM with M dividing Z and Y at least 12, such as 64x72x12"
    if find_spec("matplotlib") is None:
        yield "matplotlib is not installed, which draws the figures; python -m pip install 'beamslot[plot]'"


def _array(text: str) -> tuple[int, int, int] | None:
    n_y, n_z, m = three(text) or (0, 0, 0)
    return (n_y, n_z, m) if n_y >= 12 and m >= 1 and n_z >= m and n_z % m == 0 else None


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = replace(QUICK if arguments.quick else Plan(), seed=arguments.seed)
    if arguments.draws:
        plan = replace(plan, draws=arguments.draws)
    if arguments.slow_draws:
        plan = replace(plan, slow_draws=arguments.slow_draws)
    if arguments.array and (array := _array(arguments.array)):
        n_y, n_z, m = array
        fitting = tuple(one for one in plan.compressions if n_z % one == 0)
        plan = replace(plan, n_y=n_y, n_z=n_z, m=m, compressions=fitting)
    return plan


def _make(arguments: argparse.Namespace, plan: Plan, console: Console) -> None:
    wanted = names(arguments.only, EVERYTHING)
    store, folder = Store(arguments.out), arguments.out
    for name, why in absent().items():
        console.print(f"{METHODS[name].label} is left out: {why}", highlight=False, markup=False, soft_wrap=True)
    written = figures.designs([name for name in DESIGNS if name in wanted], plan, store, folder)
    written += _sweeps(wanted, arguments, plan, store, console)
    if "table1" in wanted:
        written.append(_table(plan, store, folder, console))
    console.print(f"{len(written)} files in {folder}")


def _table(plan: Plan, store: Store, folder: Path, console: Console) -> Path:
    rows = timing.table(plan, store, console.print)
    for row in rows:
        console.print(f"{row['line']:<48} {row['milliseconds']:10.3f} ms a slot", highlight=False)
    note = "CPU milliseconds a slot of one core, one thread; median and quartiles; the paper's are seconds of MATLAB"
    return report.write_csv(folder, "table1", plan, rows, [note])


def _sweeps(
    wanted: Sequence[str], arguments: argparse.Namespace, plan: Plan, store: Store, console: Console
) -> list[Path]:
    seen = [name for name in VIEWS if name in wanted]
    sweeps = [name for name in SWEEPS if name in wanted or (seen and name == "fig10")]
    if not sweeps:
        return []
    found = design.pattern(plan, store) if set(sweeps) - {"groups", "compression"} else ()
    experiments = {name: sweep(name, plan, found) for name in sweeps}
    cells = [cell for experiment in experiments.values() for cell in experiment.cells(plan)]
    runner.run(store, cells, arguments.jobs, console)
    written: list[Path] = []
    for experiment in experiments.values():
        written += figures.sweep(experiment, plan, store, arguments.out)
    if seen:
        written += figures.views(experiments["fig10"], plan, store, arguments.out, seen)
    return written + _paired(experiments.values(), arguments.out, plan, store, console)


def _paired(experiments: Iterable[Experiment], folder: Path, plan: Plan, store: Store, console: Console) -> list[Path]:
    rows = [row for experiment in experiments for row in figures.pairs(experiment, plan, store)]
    for line in figures.summary(rows):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    note = "NMSE of `line` less that of `against`, paired by draw; verdict: whether the interval is in what is expected"
    return [report.write_csv(folder, "paired", plan, rows, [note])] if rows else []
