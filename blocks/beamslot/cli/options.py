"""What the verbs share: how a verb is declared, and the options that say how a graph is run."""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from beamslot.runtime.chaos import Chaos
    from beamslot.runtime.graph import Graph

Act = Callable[[argparse.Namespace], int]
Verbs = Any
"""What `add_subparsers` returns; argparse has no public name for it."""

UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def add_verb(verbs: Verbs, name: str, act: Act, help_: str, example: str) -> argparse.ArgumentParser:
    """Add a verb with one sentence and one example; return its parser."""
    parser = verbs.add_parser(
        name,
        help=help_,
        description=help_[:1].upper() + help_[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(act=act, verb=name)
    return parser


def add_graph(parser: argparse.ArgumentParser) -> None:
    """Add GRAPH, what may be set in it, and where its blocks are found."""
    parser.add_argument("graph", metavar="GRAPH", help="flowgraph file (YAML); - reads JSON from standard input")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add what may be set in a graph, and where its blocks are found."""
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a variable, or a parameter as block.key=value; may be repeated",
    )
    add_blocks(parser)


def add_blocks(parser: argparse.ArgumentParser) -> None:
    """Add --blocks."""
    parser.add_argument(
        "--blocks",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="Python file with blocks of your own; may be repeated",
    )


def add_length(parser: argparse.ArgumentParser) -> None:
    """Add how long, how fast and with which seed a graph runs."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--slots", type=positive, metavar="N", help="end after N slots")
    length.add_argument("--for", dest="seconds", type=duration, metavar="TIME", help="end after 10s, 500ms, 2m")
    parser.add_argument("--pace", type=pace, metavar="PACE", help="realtime, max, or a factor of real time")
    parser.add_argument("--seed", type=natural, metavar="N", help="seed of the run")


def add_restart(parser: argparse.ArgumentParser) -> None:
    """Add --restart."""
    parser.add_argument(
        "--restart",
        choices=["on_failure", "never"],
        help="what becomes of blocks whose process ends, unless the graph says so of a block",
    )


def add_json(
    parser: "argparse.ArgumentParser | argparse._MutuallyExclusiveGroup", help_: str = "print JSON instead of a table"
) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help=help_)


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """Return a whole number of at least 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"got {text!r}; wanted a whole number of at least {least}")
    return value


def duration(text: str) -> float:
    """Return a duration such as 10s, 500ms, 2m, 1h or 10 [s]."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = UNITS.get(text[len(digits) :] or "s")
    value = _positive_float(digits)
    if unit is None or value is None or math.isinf(value):
        raise argparse.ArgumentTypeError(f"got {text!r}; wanted a time such as 10s, 500ms or 2m")
    return value * unit


def pace(text: str) -> float:
    """Return slots per slot period: 1 for realtime, inf for max."""
    value = {"realtime": 1.0, "max": math.inf}.get(text) or _positive_float(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"got {text!r}; wanted realtime, max, or a factor above 0")
    return value


def _positive_float(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value > 0 else None


def chaos(text: str) -> "Chaos":
    """Return the trouble that "7" or "7,every=0.5,actions=kill+stop+cut" asks for."""
    from beamslot.errors import BadParam
    from beamslot.runtime.chaos import Chaos

    try:
        return Chaos.parse(text)
    except BadParam as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("chaos: ")) from None


def restarted(graph: "Graph", policy: Literal["on_failure", "never"] | None) -> "Graph":
    """Return the graph with a restart policy for all processes of which no block has one written.

    policy: on_failure or never; None leaves the graph as it is
    """
    if policy is None:
        return graph
    blocks = dict(graph.blocks)
    for _, members in graph.units:
        if not any("restart" in blocks[name].places for name in members):
            for name in members:
                blocks[name] = replace(blocks[name], restart=replace(blocks[name].restart, policy=policy))
    return replace(graph, blocks=blocks)


def source(graph: str) -> Path | Mapping[str, Any]:
    """Return what `flowgraph.load` is to read: the file, or the structure that comes on standard input as JSON.

    raises FlowgraphError when what comes is no JSON
    """
    if graph != "-":
        return Path(graph)
    try:
        return json.load(sys.stdin)
    except ValueError as error:
        from beamslot.errors import FlowgraphError

        raise FlowgraphError(f"standard input: not JSON: {error}") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell of a path that cannot be written as of other wrong usage.

    raises FlowgraphError naming the path and why
    """
    try:
        yield
    except OSError as error:
        from beamslot.errors import FlowgraphError

        raise FlowgraphError(f"{path}: cannot be written: {(error.strerror or str(error)).lower()}") from None


def let_go_of_stdout() -> None:
    """Write to nowhere from now on: who read standard output is gone, and Python would complain of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Print one JSON value; numbers that JSON has not (inf, nan) become null."""
    from beamslot.api import to_plain

    print(json.dumps(to_plain(value, lambda _: None), indent=indent, ensure_ascii=False), flush=True)
