"""`beamslot run`: run a graph, show it while it lasts, and close with its tables."""

import argparse
import ctypes
import math
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamslot.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from beamslot.runtime.chaos import Chaos
    from beamslot.runtime.graph import Graph

Watch = Callable[[Mapping[str, Any]], None]

EVERY = 2.0
"""Seconds of a run between two lines of progress where there is no terminal."""

PR_SET_PDEATHSIG = 1

WIDE = 160
"""Columns of the tables where there is no terminal to fit."""


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs,
        "run",
        act,
        "run a graph and print what it did",
        "beamslot run flowgraphs/demo.yml -p snr_db=10 --for 10s",
    )
    options.add_graph(parser)
    options.add_length(parser)
    options.add_restart(parser)
    parser.add_argument(
        "--chaos",
        type=options.chaos,
        metavar="SEED",
        help="kill and stop processes and cut their connections, at times that the seed decides; as "
        "SEED[,every=SECONDS][,actions=kill+stop+cut]; implies --restart on_failure",
    )
    parser.add_argument(
        "--deadline",
        type=options.duration,
        default=3.0,
        metavar="TIME",
        help="how long to drain after an interrupt (3s)",
    )
    parser.add_argument("--logs", type=Path, metavar="DIR", help="where the blocks write what they print")
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="write what every block did with every slot, for ui.perfetto.dev"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress and no tables, only problems")
    options.add_json(parser, "print the report as one JSON object")
    parser.add_argument("--with-parent", action="store_true", help=argparse.SUPPRESS)  # of beamslot.run


def act(arguments: argparse.Namespace) -> int:
    """Run a graph; return the exit code of its report."""
    if arguments.with_parent:
        _end_with_parent()
    from beamslot import costs, flowgraph
    from beamslot.runtime.launch import launch

    graph = flowgraph.load(options.source(arguments.graph), overrides=arguments.param, blocks=arguments.blocks)
    graph, seconds = timed(graph, arguments)
    graph = options.restarted(graph, arguments.restart or ("on_failure" if arguments.chaos else None))
    graph, resolved = costs.resolve_auto(graph)
    if arguments.logs:
        _make_writable(arguments.logs)
    if not arguments.quiet:
        print(*(f"! {note}\n" for note in resolved), sep="", end="", file=sys.stderr)
    with _shown(arguments, graph.slots) as watch:
        report = launch(
            graph,
            watch=watch,
            deadline=arguments.deadline,
            logs=arguments.logs,
            seconds=seconds,
            chaos=arguments.chaos,
            trace=arguments.trace,
        )
    report["notes"] = [*resolved, *report["notes"], *_remembered(graph, report, arguments.chaos)]
    try:
        _close(arguments, report, graph.slots)
    except BrokenPipeError:
        options.let_go_of_stdout()
    for problem in report["problems"]:  # last, where people look
        print(problem, file=sys.stderr)
    return int(report["exit_code"])


def _remembered(graph: "Graph", report: Mapping[str, Any], chaos: "Chaos | None") -> list[str]:
    """Keep what the blocks of an undisturbed run cost, or say what was done to a disturbed one; return notes."""
    from beamslot import costs
    from beamslot.runtime.diary import RunRecord

    if chaos is not None:
        return [blows(chaos, RunRecord(Path(report["logs"])).events, report["restarts"])]
    return costs.record(graph, report) if report["ok"] else []


def blows(chaos: "Chaos", events: Iterable[Mapping[str, Any]], restarts: int) -> str:
    """Return in a sentence what a chaos did to a run.

    events: those of the run's record
    """
    fallen = Counter(f"{event['action']} {event['process']}" for event in events if event["kind"] == "blow")
    said = ", ".join(f"{blow} {count}" for blow, count in sorted(fallen.items())) or "no blow fell"
    return f"chaos {chaos.seed}: {said}; {restarts} restart{'s' if restarts != 1 else ''}"


def _make_writable(directory: Path) -> None:
    with options.writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()


def _end_with_parent() -> None:
    """Ask the kernel to interrupt this run when the program that asked for it is gone, however it went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def timed(graph: "Graph", arguments: argparse.Namespace) -> "tuple[Graph, float | None]":
    """Return the graph with the length, pace and seed asked for, and the wall-clock limit of the run [s] if any."""
    from dataclasses import replace

    asked = {key: getattr(arguments, key) for key in ("slots", "pace", "seed")}
    graph = replace(graph, **{key: value for key, value in asked.items() if value is not None})
    seconds: float | None = arguments.seconds
    if seconds is None:
        return graph, None
    if math.isinf(graph.pace):
        return replace(graph, slots=None), seconds
    return replace(graph, slots=max(1, round(seconds * graph.pace / graph.slot_period))), None


@contextmanager
def _shown(arguments: argparse.Namespace, total: int | None) -> Iterator[Watch | None]:
    if arguments.quiet:
        yield None
    elif sys.stdout.isatty() and not arguments.json:
        with board(total) as watch:
            yield _harmless(watch)
    else:
        yield _harmless(Progress(total))


def _harmless(watch: Watch) -> Watch:
    """Return a watch that a closed terminal or pipe does not turn into the end of the run."""

    def harmless(status: Mapping[str, Any]) -> None:
        with suppress(OSError):
            watch(status)

    return harmless


@contextmanager
def board(total: int | None, console: "Console | None" = None) -> Iterator[Watch]:
    """Give what redraws the live tables; it starts no thread, as this process forks."""
    from rich.live import Live

    from beamslot import tables

    with Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as shown:
        yield lambda status: shown.update(tables.live(status, total), refresh=True)


class Progress:
    """A line on standard error when the state changes and every few seconds; each note once."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._last: tuple[str, float] = ("", 0.0)
        self._noted = 0

    def __call__(self, status: Mapping[str, Any]) -> None:
        """Take the status of the run."""
        from beamslot import tables

        state, seconds = str(status.get("state", "")), float(status.get("seconds") or 0)
        notes = status.get("notes") or []
        for note in notes[self._noted :]:
            print(f"! {note}", file=sys.stderr, flush=True)
        self._noted = len(notes)
        if state != self._last[0] or seconds - self._last[1] >= EVERY:
            self._last = (state, seconds)
            print(tables.headline(status, self._total), file=sys.stderr, flush=True)


def _close(arguments: argparse.Namespace, report: Mapping[str, Any], total: int | None) -> None:
    if arguments.json:
        options.print_json(report)
    elif not arguments.quiet:
        from beamslot import tables

        printer().print(tables.closing(report, total))
        sys.stdout.flush()


def printer() -> "Console":
    """Return the console for tables on standard output; without a terminal wide enough to cut nothing."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
