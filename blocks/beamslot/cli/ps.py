"""`beamslot ps` and `beamslot top`: which graphs run, and how they stand."""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from beamslot.cli import options
from beamslot.cli.run import printer

if TYPE_CHECKING:
    from beamslot.runtime.observe import Look, Rates
    from beamslot.view.watch import Picture

SCREEN, BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""What gives a terminal a screen of its own without a cursor, and what takes it away."""

LEAST_MAP = 12
"""Lines that the map has at least; where there are fewer, its end is cut off."""

HEARD_WITHIN = 3.0
"""A slot of the map should be heard within so long [s]; else the first look is without."""

WHILE = 0.6
"""Rates of `ps` are over so long [s]: a run says four times a second how it stands."""


def register(verbs: options.Verbs) -> None:
    """Add the verbs."""
    ps = options.add_verb(verbs, "ps", _ps, "list the graphs that run, their blocks and how they stand", "beamslot ps")
    ps.add_argument("run", metavar="RUN", nargs="?", default="", help="only this one, by name or pid")
    options.add_json(ps)
    top = options.add_verb(
        verbs, "top", _top, "watch how running graphs stand, until interrupted", "beamslot top demo --every 2s"
    )
    top.add_argument("run", metavar="RUN", nargs="?", default="", help="only this one, by name or pid")
    top.add_argument("--every", type=options.duration, default=1.0, metavar="TIME", help="look so often (1s)")
    top.add_argument("--map", action="store_true", help="with the angles of the newest run, or of RUN")
    top.add_argument("-n", dest="most", type=options.positive, metavar="N", help="end after N looks")
    options.add_json(top, "print one JSON object a look")


def _ps(arguments: argparse.Namespace) -> int:
    (shown,) = looks(arguments.run, "ps", WHILE, 1)
    if arguments.json:
        options.print_json(shown)
    elif not shown:
        print("nothing runs")
    else:
        _print(shown)
    return 0


def _top(arguments: argparse.Namespace) -> int:
    import sys

    if arguments.map:
        return _top_with_map(arguments)
    if arguments.json or not sys.stdout.isatty():
        for shown in looks(arguments.run, "top", arguments.every, arguments.most):
            options.print_json(shown) if arguments.json else _print(shown, judged=True)
        return 0
    from rich.live import Live

    with Live(auto_refresh=False, screen=True) as live:
        for shown in looks(arguments.run, "top", arguments.every, arguments.most):
            live.update(_renderable(shown, judged=True), refresh=True)
    return 0


def _top_with_map(arguments: argparse.Namespace) -> int:
    """Show one run with the map of its angles, drawn where standard output is a terminal that can, else as text."""
    import os
    import sys

    from beamslot.cli import anglemap
    from beamslot.runtime import observe
    from beamslot.view.watch import Watch

    card = observe.find(arguments.run, "top")
    draws = sys.stdout.isatty() and not arguments.json and os.environ.get("TERM") != "dumb"
    watch = Watch(str(card["pid"]))
    watch.enter()
    watch.start()
    try:
        if draws:
            sys.stdout.write(SCREEN)
        until = time.monotonic() + HEARD_WITHIN
        while watch.picture.shown is None and time.monotonic() < until:
            time.sleep(0.05)
        for shown in looks(str(card["pid"]), "top", arguments.every, arguments.most):
            picture = watch.picture
            if draws:
                sys.stdout.write(_screen(shown, picture))
                sys.stdout.flush()
            elif arguments.json:
                options.print_json([{**run, "angles": anglemap.plain(picture)} for run in shown])
            else:
                _print(shown)
                print("\n".join(anglemap.listed(picture)), flush=True)
    finally:
        if draws:
            sys.stdout.write(BACK)
        watch.stop()
    return 0


def _screen(shown: Sequence[Mapping[str, Any]], picture: "Picture") -> str:
    """Return all of a screen: the table, and the map in what is left of it."""
    import shutil

    from rich.console import Console

    from beamslot.cli import anglemap

    width, height = shutil.get_terminal_size()
    console = Console(width=width, force_terminal=True)
    with console.capture() as captured:
        console.print(_renderable(shown))
    table = captured.get().rstrip("\n").splitlines()
    lines = [*table, *anglemap.drawn(picture, width, max(height - len(table), LEAST_MAP))][:height]
    return "\x1b[H" + "\n".join(line + anglemap.CLEAR_LINE for line in lines) + "\x1b[J"


def looks(wanted: str, verb: str, every: float, most: int | None) -> Iterator[list[dict[str, Any]]]:
    """Yield what runs, as plain values, again and again; each look is at the time since the one before.

    wanted: name or pid of a run; all where it is empty    every: [s]    most: looks, None for ever
    raises PeerLost where a run is wanted and no such runs
    """
    from beamslot.runtime import observe

    before = _look(wanted, verb)
    count = 0
    while most is None or count < most:
        time.sleep(every if before or count else 0)
        now = _look(wanted, verb)
        yield [plain(one, observe.between(before.get(path, one), one)) for path, one in now.items()]
        before = now
        count += 1


def _look(wanted: str, verb: str) -> "dict[str, Look]":
    from beamslot.runtime import observe, rundir

    runs = rundir.runs()
    cards = [observe.find(wanted, verb, runs)] if wanted else runs
    return {card["path"]: found for card in cards if (found := observe.look(card)) is not None}


def plain(look: "Look", rates: "Rates") -> dict[str, Any]:
    """Return how a run stands as plain values: the run, its blocks, its edges."""
    from beamslot.runtime.observe import made

    status, card = look.status, look.card
    return {
        "run": card["name"],
        "pid": card["pid"],
        "logs": card["logs"],
        "state": status["state"],
        "slots": status["slots"],
        "total": status["total"],
        "seconds": status["seconds"],
        "slots_per_s": made(status, rates),
        "late_slots": status["late_slots"],
        "restarts": status["restarts"],
        "end_to_end": status["end_to_end"],
        "cpu": sum(rates.cpu.values()),
        "memory": sum(rates.memory.values()),
        "blocks": {
            name: {
                **block,
                "slots_per_s": rates.slots.get(name, 0.0),
                "cpu": rates.cpu.get(name),
                "memory": rates.memory.get(name),
                "pids": rates.pids.get(name, []),
            }
            for name, block in status["blocks"].items()
        },
        "edges": [{**edge, "slots_per_s": rates.edges.get(edge["edge"], 0.0)} for edge in status["edges"]],
        "sinks": status.get("sinks") or {},
        "notes": status["notes"],
        "graph": card["blocks"],
    }


def _print(shown: Sequence[Mapping[str, Any]], *, judged: bool = False) -> None:
    printer().print(_renderable(shown, judged=judged))


def _renderable(shown: Sequence[Mapping[str, Any]], *, judged: bool = False) -> Any:
    """Return runs for the terminal; judged: with what their sinks say of the estimates."""
    from rich.console import Group
    from rich.text import Text

    from beamslot import tables

    parts: list[Any] = [] if shown else [Text("nothing runs")]
    for run in shown:
        parts += [Text(headline(run), style="bold"), tables.render(sheet(run))]
        parts += [tables.render(one) for one in tables.sink_sheets(run) if judged and one.rows]
        parts += [Text(f"! {note}", style="yellow") for note in run["notes"][-3:]]
        parts.append("")
    return Group(*parts)


def headline(run: Mapping[str, Any]) -> str:
    """Return a run in one line."""
    from beamslot import tables

    slots = tables.number(run["slots"]) + (f" of {tables.number(run['total'])}" if run["total"] else "")
    parts = [
        f"{run['run']} (pid {run['pid']})",
        run["state"],
        f"{slots} slots",
        tables.rate(run["slots_per_s"]),
        f"{tables.number(run['late_slots'])} late",
        f"{100 * run['cpu']:.0f} % of a core",
        size(run["memory"]),
        f"up {run['seconds']:.0f} s",
    ]
    return "  ".join(parts)


def sheet(run: Mapping[str, Any]) -> Any:
    """Return the blocks of a run as a table; drops are those on their way in."""
    from beamslot import tables
    from beamslot.runtime.observe import drops_into

    dropped = drops_into(run)
    rows = [
        [
            name,
            block["state"],
            " ".join(map(str, block["pids"])),
            tables.number(block["slots"]),
            tables.rate(block["slots_per_s"]),
            tables.span(block.get("p50_us")),
            tables.span(block.get("p99_us")),
            tables.NONE if block["cpu"] is None else f"{100 * block['cpu']:.0f} %",
            tables.NONE if block["memory"] is None else size(block["memory"]),
            tables.drops(dropped.get(name, {})),
            tables.number(block["cut_short"]),
            tables.number(block["restarts"]),
        ]
        for name, block in run["blocks"].items()
    ]
    heads = ("block", "state", "pid", "slots", "now", "p50 per call", "p99 per call", "core", "memory")
    return tables.Sheet("", (*heads, "dropped", "?cut short", "?restarts"), rows, left=2)


def size(nbytes: float) -> str:
    """Return a size in memory as people read it."""
    for limit, unit in ((2**20, "KiB"), (2**30, "MiB")):
        if nbytes < limit:
            return f"{nbytes * 1024 / limit:.0f} {unit}"
    return f"{nbytes / 2**30:.1f} GiB"
