"""`beamslot design`: work out, once and beforehand, what a front end is then set to."""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamslot.cli import options
from beamslot.cli.plot import COLOURS
from beamslot.cli.run import printer

if TYPE_CHECKING:
    from beamslot.dsp.eda import Design, Progress
    from beamslot.dsp.grouping import Setting
    from beamslot.frame import StreamInfo
    from beamslot.recording.foreign import FrontEnd

TEACH = """
then, in a graph:
  - name: combiner
    id: combiner
    parameters: {groups: 4, grouping_file: grouping.json}

A grouping is judged by the mean of its ambiguity function over the side lobes (ISL), the worst group counting, while
no group may resolve azimuths worse than rho times what random groupings do (SRL). What it is good for: estimates are
some 3 dB better than with contiguous groups, and as good as with a random equal partition, no better."""


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs,
        "design",
        _grouping,
        "design what a front end is set to",
        "beamslot design grouping -o grouping.json"
        "\n  beamslot design operator flowgraphs/hello.yml combiner.rf -o operator.npz",
    )
    things = parser.add_subparsers(metavar="WHAT", required=True, title="what there is to design")
    grouping = options.add_verb(
        things,
        "grouping",
        _grouping,
        "choose which columns share a beam, for low side lobes in azimuth",
        "beamslot design grouping --n-y 64 --groups 4 -o grouping.json --plot grouping.png",
    )
    grouping.epilog = f"{grouping.epilog}\n{TEACH}"
    _add_options(grouping)
    operator = options.add_verb(
        things,
        "operator",
        _operator,
        "write what the channels of a stream of a graph are, for samples of that front end in files of other software",
        "beamslot design operator flowgraphs/hello.yml combiner.rf -o operator.npz",
    )
    options.add_graph(operator)
    operator.add_argument(
        "port", metavar="BLOCK.PORT", help="of a combiner: its operator; of a source of the field: the array alone"
    )
    operator.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="an operator file for replay_source: .npz, .json",
    )
    options.add_json(operator, "print what was written as one JSON object")


def _add_options(parser: argparse.ArgumentParser) -> None:
    whole, most = options.positive, options.natural
    for flag, kind, default, help_ in (
        ("--n-y", whole, 64, "columns of the array (64)"),
        ("--groups", whole, 4, "groups of columns, one beam each (4)"),
        ("--spacing", float, 0.5, "distance of columns in wavelengths (0.5)"),
        ("--seed", most, 0, "seed of the search (0)"),
        ("--iterations", most, 50, "iterations at most (50)"),
        ("--population", whole, 200, "groupings an iteration (200), of which the best fifth is learned from"),
        ("--rho", float, 1.1, "resolution allowed, relative to random groupings (1.1)"),
    ):
        parser.add_argument(flag, type=kind, default=default, metavar="N" if kind is not float else "X", help=help_)
    for flag, default, metavar, help_ in (
        ("--interval", (-0.5, 0.0), ("LOW", "HIGH"), "sin(elevation) to be covered by the beams (-0.5 0)"),
        ("--region", None, ("A", "B"), "differences of sin(azimuth) that are side lobes (first null, half a period)"),
    ):
        parser.add_argument(flag, type=float, nargs=2, default=default, metavar=metavar, help=help_)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the grouping for grouping_file")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw convergence and ambiguity functions")
    options.add_json(parser, "print the grouping as JSON instead of a table")


def _grouping(arguments: argparse.Namespace) -> int:
    import numpy as np

    from beamslot.dsp import eda
    from beamslot.dsp.grouping import save_grouping

    setting = _setting(arguments)
    if arguments.plot:
        _need_matplotlib(arguments.plot)
    with _watching(setting.iterations) as watch:
        made = eda.design(setting, np.random.default_rng(arguments.seed), watch)
    designed = made.record(arguments.seed)
    if arguments.output:
        save_grouping(arguments.output, designed)
    if arguments.plot:
        with options.writing(arguments.plot):
            draw(made, arguments.plot)
    if arguments.json:
        options.print_json(designed.model_dump(), indent=1)
    else:
        _tell(made, arguments)
    return 0


def _operator(arguments: argparse.Namespace) -> int:
    """Start the blocks of a graph, and write what one of them says of its front end."""
    from beamslot import flowgraph
    from beamslot.cli.graph import described
    from beamslot.recording.foreign import save_operator

    graph = flowgraph.load(options.source(arguments.graph), overrides=arguments.param, blocks=arguments.blocks)
    front_end = _front_end(arguments.port, described(graph))
    with options.writing(arguments.output):
        save_operator(arguments.output, front_end)
    geometry, operator = front_end.geometry, front_end.operator
    said = {
        "file": str(arguments.output),
        "port": arguments.port,
        "geometry": [geometry.n_y, geometry.n_z],
        "users": front_end.users,
        "chains": None if operator is None else operator.weights.shape[1],
        "operator": None if operator is None else operator.hash,
    }
    if arguments.json:
        options.print_json(said)
    else:
        seen = "each seen" if operator is None else f"{said['chains']} chains a column, operator {operator.hash}"
        print(f"{said['file']}: {geometry.n_y} x {geometry.n_z} antennas, {seen}")
    return 0


def _front_end(port: str, infos: "Mapping[str, StreamInfo]") -> "FrontEnd":
    """Return the front end that a stream was seen by.

    raises UnknownPort, or BadParam where the stream does not say
    """
    from beamslot.errors import BadParam, UnknownPort
    from beamslot.recording.foreign import FrontEnd
    from beamslot.runtime.graph import near

    if port not in infos:
        raise UnknownPort(f"design operator: no output is called {port!r}; {near(port, [*infos])}")
    info = infos[port]
    if info.geometry is None:
        there = ", ".join(name for name, one in infos.items() if one.geometry) or "none"
        raise BadParam(f"design operator: {port} does not say which antennas it was seen by; these do: {there}")
    return FrontEnd(info.geometry, info.operator, info.axes.get("user", 1), info.carrier, info.slot_period)


def _setting(arguments: argparse.Namespace) -> "Setting":
    from beamslot.dsp.grouping import Setting

    return Setting.of(
        "design grouping",
        n_y=arguments.n_y,
        groups=arguments.groups,
        interval=tuple(arguments.interval),
        spacing=arguments.spacing,
        region=arguments.region and tuple(arguments.region),
        rho=arguments.rho,
        population=arguments.population,
        elite=max(arguments.population // 5, 1),
        iterations=arguments.iterations,
    )


def _need_matplotlib(path: Path) -> None:
    """Refuse a plot that cannot be drawn before anything is worked out.

    raises FlowgraphError
    """
    if find_spec("matplotlib") is None:
        from beamslot.errors import FlowgraphError

        raise FlowgraphError(
            f"{path}: cannot be drawn: matplotlib is not installed; python -m pip install 'beamslot[plot]'"
        )


@contextmanager
def _watching(iterations: int) -> "Iterator[Progress]":
    """Show how far the search is on standard error; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("max ISL {task.fields[level]:.4f}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("", total=iterations, level=float("nan"))
        yield lambda done, level: shown.update(task, completed=done, level=level)


def _tell(made: "Design", arguments: argparse.Namespace) -> None:
    from beamslot.tables import Sheet, render

    heads = ("group", "columns", "ISL", "SRL", "SRL allowed", "which")
    rows = [
        [str(g), str((made.group == g).sum()), f"{made.isl[g]:.4f}", f"{made.srl[g]:.2e}", f"{made.limit[g]:.2e}", ""]
        for g in range(made.setting.groups)
    ]
    for g, row in enumerate(rows):
        row[-1] = " ".join(str(n) for n in (made.group == g).nonzero()[0])
    title = f"max ISL {made.start:.4f} (random) > {made.history[-1]:.4f}, {made.iterations} iterations"
    printer().print(render(Sheet(title, heads, rows)))
    for name, path in (("grouping", arguments.output), ("plot", arguments.plot)):
        if path:
            print(f"{name}: {path}")


def draw(made: "Design", path: Path) -> None:
    """Write the convergence, the pattern of every group, and the worst group against other groupings (figs. 5-7)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 9), layout="constrained")
    convergence, pattern, others = figure.subplots(3, 1)
    convergence.plot(made.history, color=COLOURS[0], label="best")
    convergence.axhline(made.start, color=COLOURS[7], linestyle="--", label="random groupings, mean")
    convergence.set(xlabel="iteration", ylabel="max ISL")
    for g, line in enumerate(_patterns(made, made.group)):
        pattern.plot(*line, color=COLOURS[g % len(COLOURS)], linewidth=1, label=f"group {g}")
    for (name, group), colour in zip(_compared(made).items(), COLOURS, strict=False):
        others.plot(*_patterns(made, group)[0], color=colour, linewidth=1, label=name)
    others.set_title("group 0")
    for axes in (pattern, others):
        axes.set(xlabel="difference of sin(azimuth)", ylabel="ambiguity [dB]", ylim=(-40, 1), xlim=(-1, 1))
    for axes in (convergence, pattern, others):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower left", ncols=4)
    figure.savefig(path, dpi=150, format="png")


def _compared(made: "Design") -> dict[str, Any]:
    import numpy as np

    from beamslot.dsp.grouping import balanced_random, contiguous

    size = made.setting.n_y, made.setting.groups
    return {
        "contiguous": contiguous(*size),
        "random": balanced_random(*size, np.random.default_rng(0)),
        "designed": made.group,
    }


def _patterns(made: "Design", group: Any) -> list[tuple[Any, Any]]:
    """Return (Delta, |chi_g(Delta)| [dB]) of every group."""
    import numpy as np

    from beamslot.dsp.ambiguity import centre_cosines, horizontal, membership

    setting = made.setting
    delta = np.linspace(-1, 1, 2001)
    cosine = centre_cosines(setting.interval, setting.groups)
    level = np.abs(horizontal(membership(group, setting.groups), cosine, delta, setting.spacing))
    return [(delta, 20 * np.log10(np.maximum(line, 1e-6))) for line in level]
