"""The command line: what to make, with how many frames and which budget, where."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from beamslot.errors import BeamslotError
from paper_hbf.options import names, three, too_small, unknown
from paper_hbf.store import Store
from paper_vae import figures, report, runner
from paper_vae.experiments import CONFIGS, EVERYTHING, LANDSCAPES, QUICK, SWEEPS, Plan, sweep

_EPILOG = """\
examples
  python tools/paper_vae --quick                          everything, nets by 600 steps
  python tools/paper_vae --jobs 8                         everything, nets by 4,500 steps: hours of CPU
  python tools/paper_vae --training paper.yml --jobs 8    by the paper's budget: 5 CPU-days a training, or a GPU
  python tools/paper_vae --only fig2,fig3,fig4            what needs no training
  python tools/paper_vae --array 8x2x20 --training small_array.yml --net-snrs 20 --correlations 0 --out out/8x2x20
                                                          an array whose wide beams a short training hits

what there is
{what}

Trainings are kept in OUT/nets, each with its log.csv, cells (a method in a scene, 50 frames) in OUT/cells.jsonl, at
once: stop with Ctrl-C whenever you like, the same command goes on. More frames add to those that are there; a method
whose source changed is computed anew, a net is trained anew when its folder is deleted.

definitions
{definitions}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    problems = [*_problems(arguments)]
    if problems:
        parser.exit(2, "".join(f"paper_vae: {problem}\n" for problem in problems))
    console = Console(stderr=True)
    try:
        _make(arguments, _plan(arguments), console)
    except KeyboardInterrupt:
        console.print(f"stopped; what is done is kept in {arguments.out}, the same command goes on")
        return 130
    except BeamslotError as error:
        console.print(f"paper_vae: {error}", highlight=False, markup=False, soft_wrap=True)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    what = "\n".join(f"  {name:<6} {title}" for name, title in EVERYTHING.items())
    definitions = "\n".join(f"  {line}" for line in report.DEFINITIONS)
    parser = argparse.ArgumentParser(
        "paper_vae",
        description="Make figures 2-7 of paper 000 as CSV and PNG, and what a reviewer would ask besides.",
        epilog=_EPILOG.format(what=what, definitions=definitions),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAMES", help="some of the names below, with commas between")
    parser.add_argument("--quick", action="store_true", help="few frames, SNR and steps, for minutes")
    parser.add_argument("--frames", type=int, metavar="N", help=f"of each point ({Plan().frames})")
    parser.add_argument("--snrs", metavar="DB", help="of what is not trained, with commas between")
    parser.add_argument("--net-snrs", metavar="DB", help="of what is trained, one training each; '' for no nets")
    parser.add_argument(
        "--correlations", metavar="RHO", help="between users in fig. 5, with commas between (0,0.9,0.99)"
    )
    parser.add_argument(
        "--training", metavar="YML", help=f"budget of nets, a file or one of {', '.join(_configs())} (small.yml)"
    )
    parser.add_argument("--array", metavar="NxKxM", help="antennas, users, snapshots (32x3x40)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (1); each uses one thread")
    parser.add_argument("--seed", type=int, default=Plan().seed, metavar="N", help=f"of everything ({Plan().seed})")
    parser.add_argument("--out", type=Path, default=Path("out/paper-vae"), metavar="DIR", help="(out/paper-vae)")
    return parser


def _configs() -> list[str]:
    return [*sorted(path.name for path in CONFIGS.glob("*.yml")), "paper.yml"]


def _problems(arguments: argparse.Namespace) -> Iterable[str]:
    yield from unknown(names(arguments.only, EVERYTHING), EVERYTHING)
    yield from too_small(arguments, {"frames": 2, "jobs": 1, "seed": 0})
    for name in ("snrs", "net_snrs"):
        if (text := getattr(arguments, name)) is not None and _numbers(text) is None:
            yield f"--{name.replace('_', '-')} is {text!r}; wanted decibels with commas between, such as -10,0,10"
    if (text := arguments.correlations) is not None and not all(0 <= rho <= 1 for rho in _numbers(text) or (2,)):
        yield f"--correlations is {text!r}; wanted numbers of 0 .. 1 with commas between, such as 0,0.9"
    if arguments.array and not _array(arguments.array):
        yield f"--array is {arguments.array!r}; wanted NxKxM with K < N / 2, such as 8x2x20"
    if arguments.training and not _training(arguments.training).exists():
        yield f"--training: there is no {arguments.training}; wanted a file, or one of {', '.join(_configs())}"
    for module, extra in (("matplotlib", "plot"), ("torch", "train")):
        if find_spec(module) is None:
            yield f"{module} is not installed; python -m pip install 'beamslot[{extra}]'"


def _numbers(text: str) -> tuple[float, ...] | None:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        return None


def _array(text: str) -> tuple[int, int, int] | None:
    antennas, users, snapshots = three(text) or (0, 0, 0)
    return (antennas, users, snapshots) if antennas >= 8 and 1 <= users < antennas / 2 and snapshots else None


def _training(name: str) -> Path:
    path, own = Path(name), CONFIGS / name
    if path.exists() or path.name != name:
        return path
    return own if own.exists() else CONFIGS.parent.parent / "train_vae" / "configs" / name


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = replace(QUICK if arguments.quick else Plan(), seed=arguments.seed)
    for name in ("snrs", "net_snrs", "correlations"):
        if (text := getattr(arguments, name)) is not None:
            plan = replace(plan, **{name: _numbers(text)})
    if arguments.frames:
        plan = replace(plan, frames=arguments.frames)
    if arguments.training:
        plan = replace(plan, training=_training(arguments.training).resolve())
    if arguments.array and (array := _array(arguments.array)):
        plan = replace(plan, antennas=array[0], users=array[1], snapshots=array[2])
    return plan


def _make(arguments: argparse.Namespace, plan: Plan, console: Console) -> None:
    wanted, folder = names(arguments.only, EVERYTHING), arguments.out
    store = Store(folder)
    written = figures.landscapes([name for name in LANDSCAPES if name in wanted], plan, folder)
    experiments = [one for name in SWEEPS if name in wanted for one in sweep(name, plan)]
    runner.run(store, experiments, plan, arguments.jobs, console)
    for experiment in experiments:
        written += figures.sweep(experiment, plan, store, folder)
    rows = [row for experiment in experiments for row in figures.pairs(experiment, plan, store)]
    for line in figures.summary(rows):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if rows:
        note = (
            "mean square of `line` over that of `against`, all frames, paired; verdict: whether the interval is in it"
        )
        written.append(report.write_csv(folder, "paired", plan, rows, [note]))
    console.print(f"{len(written)} files in {folder}")
