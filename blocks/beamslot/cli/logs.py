"""`beamslot logs`: what runs have recorded: what happened, what blocks printed, what they failed with."""

import argparse
import os
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamslot.cli import options
from beamslot.cli.run import printer

if TYPE_CHECKING:
    from beamslot.runtime.diary import RunRecord

LOOK_EVERY = 0.2
"""Time between two looks at a file that is followed [s]."""

NAMED = 5
"""Most runs that a message names."""

LOAD = 'from beamslot.runtime.diary import load_crash\nfailure, frame = load_crash("{}")'

Show = Callable[[str], None]


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs, "logs", _act, "show what a run did and what its blocks printed", "beamslot logs demo omp -n 20"
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="graph, directory, or part of one run's name: the newest")
    parser.add_argument("block", nargs="?", metavar="BLOCK", help="show what this block printed")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("-f", "--follow", action="store_true", help="go on until the run is over")
    what.add_argument("--list", action="store_true", help="list the runs that are kept")
    what.add_argument("--crash", action="store_true", help="show what blocks failed with, and where their input is")
    parser.add_argument("-n", dest="most", type=options.natural, metavar="LINES", help="only the last lines")
    options.add_json(parser, "print JSON: an object a line, or one list with --list and --crash")


def _act(arguments: argparse.Namespace) -> int:
    from beamslot.runtime.diary import kept

    if arguments.list:
        _list(kept(), arguments.json)
        return 0
    record, block = choose(arguments.run, arguments.block, kept())
    if arguments.crash:
        _crashes(record, block, arguments.json)
    elif block is not None:
        _follow(record, record.path / f"{block}.log", _printed(block, arguments.json), arguments)
    else:
        _events(record, arguments)
    return 0


def choose(run: str | None, block: str | None, kept: "Sequence[RunRecord]") -> "tuple[RunRecord, str | None]":
    """Return the record and the block that are meant; one word that is no run is a block of the newest.

    run: directory, name of a graph for its newest run, or a part that only one run's name has
    kept: newest first
    raises StorageError where there is no such run, UnknownBlock where it has no such block
    """
    from beamslot.errors import UnknownBlock
    from beamslot.runtime.diary import RunRecord
    from beamslot.runtime.graph import near

    fitting = [record for record in kept if run is None or run in record.path.name]
    if run is not None and RunRecord(Path(run)).card:
        found = RunRecord(Path(run))
    elif run is not None and not fitting and block is None and kept and run in blocks_of(kept[0]):
        found, block = kept[0], run
    else:
        found = _only(run, fitting, kept)
    if block is not None and block not in blocks_of(found):
        raise UnknownBlock(f"logs: {found.path.name} has no block {block!r}; {near(block, blocks_of(found))}")
    return found, block


def _only(run: str | None, fitting: "Sequence[RunRecord]", kept: "Sequence[RunRecord]") -> "RunRecord":
    from beamslot.errors import StorageError
    from beamslot.runtime.graph import near

    exact = [record for record in fitting if run in (record.path.name, record.name)]
    if fitting and (run is None or len(fitting) == 1 or exact):
        return (exact or fitting)[0]
    if not kept:
        raise StorageError("logs: no run is kept; wanted one, such as `beamslot run flowgraphs/hello.yml`")
    if fitting:
        names = ", ".join(record.path.name for record in fitting[:NAMED])
        more = f" and {len(fitting) - NAMED} more" if len(fitting) > NAMED else ""
        raise StorageError(f"logs: {run!r} fits {len(fitting)} runs; wanted one of {names}{more}")
    names = [*(record.name for record in kept), *blocks_of(kept[0]), *(record.path.name for record in kept[:NAMED])]
    advice = near(str(run), dict.fromkeys(names))
    raise StorageError(f"logs: no kept run has {run!r} in its name, and no record is there; {advice}")


def blocks_of(record: "RunRecord") -> list[str]:
    """Return the blocks of a run, and whatever else of it prints."""
    return [*dict.fromkeys([*record.card.get("blocks", ()), *record.outputs])]


class Lines:
    """The lines of a file that grows: each call gives those that are new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def new(self, *, rest: bool) -> Iterator[str]:
        """Yield the lines that have come; one that has no end yet only where it is the `rest`."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._at:  # written anew
                self._at = 0
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n") and not rest:
                    return
                self._at += len(line)
                yield line.decode(errors="replace").rstrip("\n")


def _follow(record: "RunRecord", path: Path, show: Show, arguments: argparse.Namespace) -> None:
    """Show the lines of a file, and where it is asked for those that come while the run lasts."""
    lines = Lines(path)
    over = not (arguments.follow and record.alive)
    first = lines.new(rest=over)
    for line in first if arguments.most is None else deque(first, arguments.most):
        show(line)
    while not over:
        sys.stdout.flush()
        time.sleep(LOOK_EVERY)
        over = not record.alive
        for line in lines.new(rest=over):
            show(line)


def _printed(block: str, as_json: bool) -> Show:
    return (lambda line: options.print_json({"block": block, "text": line})) if as_json else print


def _events(record: "RunRecord", arguments: argparse.Namespace) -> None:
    from beamslot.runtime.diary import EVENTS, parse

    def show(line: str) -> None:
        event = parse(line)
        if event is not None:
            options.print_json(event) if arguments.json else print(event_text(event))

    if not arguments.json:
        print(f"{record.path}  {record.state}\n")
    _follow(record, record.path / EVENTS, show, arguments)
    if not arguments.json:
        _close(record)


def event_text(event: Mapping[str, Any]) -> str:
    """Return an event as people read it: the local time, what happened, and to whom."""
    said = [f"{key} {_value(key, value)}" for key, value in event.items() if key not in {"time", "at", "kind"}]
    return f"{_local(str(event.get('time')), '%H:%M:%S.%f')[:12]}  {event.get('kind')}  {', '.join(said)}".rstrip()


def _value(key: str, value: Any) -> str:
    from beamslot.errors import describe_slots

    if key == "slots" and isinstance(value, list) and len(value) == 2:
        return describe_slots(range(*value)).partition(" ")[2]
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_value(name, item)}" for name, item in value.items())
    if isinstance(value, list):
        return " ".join(_value("", item) for item in value)
    return " | ".join(str(value).splitlines())


def _local(time_: str, form: str) -> str:
    """Return a time of a record as a clock on the wall shows it; what is no time, as it is."""
    try:
        return datetime.fromisoformat(time_).astimezone().strftime(form)
    except ValueError:
        return time_


def _close(record: "RunRecord") -> None:
    """Say what else there is to see."""
    from beamslot.tables import Sheet, render

    out = printer()
    rows: list[list[str]] = []
    for block, path in record.outputs.items():
        with path.open(errors="replace") as file:
            lines, last = 0, ""
            for lines, last in enumerate(file, 1):  # noqa: B007 (the last of them is wanted)
                pass
        if lines:
            rows.append([block, textwrap.shorten(last, 100, placeholder="..."), str(lines)])
    print()
    if rows:
        out.print(render(Sheet("Printed", ("block", "last line", "lines"), rows, left=2)))
        print(f"\nall of it: beamslot logs {record.path.name} {rows[0][0]}")
    else:
        print("no block printed anything")
    if record.crashes:
        print(f"\n{len(record.crashes)} failed: beamslot logs {record.path.name} --crash")
    for problem in record.report.get("problems", ()):
        print(problem)


def _list(kept: "Sequence[RunRecord]", as_json: bool) -> None:
    rows = [summary(record) for record in kept]
    if as_json:
        options.print_json(rows, indent=2)
        return
    if not rows:
        print("no run is kept")
        return
    from beamslot.tables import NONE, Sheet, number, render

    def problems(row: Mapping[str, Any]) -> str:
        said = row["problems"]
        return f"{len(said)}: {textwrap.shorten(said[0], 60, placeholder='...')}" if said else NONE

    cells = [
        [_local(row["started"], "%Y-%m-%d %H:%M:%S"), row["name"], row["state"], number(row["slots"]), problems(row)]
        for row in rows
    ]
    whole = [[*cell[:3], Path(row["path"]).name, *cell[3:]] for cell, row in zip(cells, rows, strict=True)]
    heads = ("when", "name", "state", "run", "slots", "problems")
    printer().print(render(Sheet("Runs", heads, whole, left=4)))


def summary(record: "RunRecord") -> dict[str, Any]:
    """Return a run in a few plain values."""
    report = record.report
    return {
        "path": str(record.path),
        "started": str(record.card.get("started", "")),
        "name": record.name,
        "state": record.state,
        "slots": report.get("slots"),
        "problems": report.get("problems", []),
    }


def _crashes(record: "RunRecord", block: str | None, as_json: bool) -> None:
    from beamslot.runtime.diary import load_crash

    found = [{"path": str(path), **load_crash(path)[0]} for path in record.crashes]
    found = [crash for crash in found if block in {None, crash.get("block")}]
    if as_json:
        options.print_json(found, indent=2)
    elif not found:
        print(f"{record.path}  {record.state}: nothing failed")
    for crash in found if not as_json else ():
        print("\n".join(crash_text(crash)))


def crash_text(crash: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that tell of a crash: where, what, and how its input is loaded."""
    slots = _value("slots", crash.get("slots"))
    yield f"{_local(str(crash.get('time')), '%H:%M:%S')}  {crash.get('block')}, slots {slots}, seed {crash.get('seed')}"
    yield textwrap.indent(str(crash.get("traceback") or crash.get("message") or crash.get("error")).rstrip(), "  ")
    yield f"  what it was given is in {crash['path']}; from Python:"
    yield textwrap.indent(LOAD.format(crash["path"]), "    ") + "\n"
