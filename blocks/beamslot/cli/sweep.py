"""`beamslot sweep`: run a graph over a grid of values, one run after the other; a resumable table, and a plot."""

import argparse
import csv
import hashlib
import io
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from beamslot.cli import options

JUDGED = ("sink", "estimate", "nmse_db", "ci95_low_db", "ci95_high_db", "draws", "crb_db", "slots_per_s", "ok")
"""Columns of the table after those of the swept values."""

MOST_POINTS = 10_000

Row = dict[str, str]


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs,
        "sweep",
        _act,
        "run a graph over a grid of values; resumes what was begun",
        "beamslot sweep flowgraphs/demo.yml -p snr_db=-5:15:5 -p combiner.groups=1,4",
    )
    options.add_graph(parser)
    parser.epilog = f"{parser.epilog}\n\nvalues of -p: 3   1,2,3   first:last:step with the last   lists: [1, 2],[3, 4]"
    options.add_length(parser)
    options.add_restart(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where table and plot go (GRAPH-sweep)")
    options.add_json(parser, "print the rows as JSON at the end")


def values(text: str) -> list[str]:
    """Return the values that "3", "1,2,3", "first:last:step" or "[1, 2],[3, 4]" stands for.

    raises FlowgraphError for a range that is none
    """
    if text.startswith("[") or ":" not in text:
        return [part.strip() for part in _split(text)]
    try:
        first, last, step = (Decimal(part) for part in text.split(":"))
        problem = _range_problem(last - first, step)
    except (ArithmeticError, ValueError):
        first = last = step = Decimal(0)
        problem = "it is no range of numbers"
    if problem:
        from beamslot.errors import BadParam

        raise BadParam(
            f"sweep: got {text!r}; {problem}; wanted first:last:step with 1 to {MOST_POINTS} values, such as -5:20:5"
        )
    return [_number(first + index * step) for index in range(int((last - first) / step) + 1)]


def _split(text: str) -> list[str]:
    """Return what stands between the commas that are in no bracket."""
    parts = [""]
    depth = 0
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _range_problem(length: Decimal, step: Decimal) -> str:
    if step == 0:
        return "the step is zero"
    if length / step < 0:
        return "the step has the wrong sign"
    return "it is too long" if length / step >= MOST_POINTS else ""


def _number(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def grid(given: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each name of `-p name=values`.

    raises FlowgraphError for what has no name, or a name that stands twice
    """
    from beamslot.errors import BadParam

    found: dict[str, list[str]] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals or not name.strip() or name.strip() in found:
            raise BadParam(f"sweep: got -p {one!r}; wanted name=values, each name once")
        found[name.strip()] = values(text.strip())
    if sum(len(several) > 1 for several in found.values()) == 0:
        raise BadParam("sweep: there is nothing to sweep; wanted -p name=first:last:step or -p name=1,2,3")
    return found


def _act(arguments: argparse.Namespace) -> int:
    swept = grid(arguments.param)
    graph = options.source(arguments.graph)
    stem = graph.stem if isinstance(graph, Path) else "graph"
    directory: Path = arguments.output or Path(f"{stem}-sweep")
    points = [dict(zip(swept, point, strict=True)) for point in itertools.product(*swept.values())]
    _check(graph, points[0], arguments)
    with options.writing(directory):
        table = Table(directory, tuple(swept), _settings(arguments, graph))
    failed = 0
    for index, point in enumerate(points):
        where = " ".join(f"{name}={value}" for name, value in point.items())
        print(f"[{index + 1}/{len(points)}] {where}", end="", file=sys.stderr, flush=True)
        if table.has(point):
            print("  is there already", file=sys.stderr)
            continue
        report = _run(graph, point, arguments)
        table.add(point, report)
        failed += not report["ok"]
        print(f"  {_outcome(report)}", file=sys.stderr)
    return _close(arguments, table, swept, failed, len(points))


def _check(graph: Path | Mapping[str, Any], point: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Load the graph once before anything is made; a misspelt name would fail at every point.

    raises FlowgraphError with every problem
    """
    from beamslot import flowgraph

    overrides = [f"{name}={value}" for name, value in point.items()]
    flowgraph.load(graph, overrides=overrides, blocks=arguments.blocks)


def _run(graph: Path | Mapping[str, Any], point: Mapping[str, str], arguments: argparse.Namespace) -> Mapping[str, Any]:
    from beamslot.api import run

    return run(
        graph,
        parameters=point,
        slots=arguments.slots,
        seconds=arguments.seconds,
        pace=arguments.pace,
        seed=arguments.seed,
        restart=arguments.restart,
        blocks=arguments.blocks,
        check=False,
    )


def _outcome(report: Mapping[str, Any]) -> str:
    if not report["ok"]:
        return "FAILED: " + "; ".join(report.get("problems") or [f"exit code {report.get('exit_code')}"])
    judged = [f"{row['estimate']} {row['nmse_db']} dB" for row in rows({}, report) if row["estimate"]]
    return ", ".join(judged) or "ok"


def _close(
    arguments: argparse.Namespace, table: "Table", swept: Mapping[str, Sequence[str]], failed: int, points: int
) -> int:
    from beamslot.cli import plot

    told = [f"{points} points, {failed} failed", f"table: {table.path}"]
    told.append(plot.draw(table.rows, swept, table.path.with_name("sweep.png")))
    print("\n".join(told), file=sys.stderr)
    if arguments.json:
        options.print_json({"ok": not failed, "exit_code": int(bool(failed)), "rows": table.rows})
    return int(bool(failed))


def _settings(arguments: argparse.Namespace, graph: Path | Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same for rows to stand in one table."""
    from beamslot.errors import FlowgraphError

    keep = {key: getattr(arguments, key) for key in ("slots", "seconds", "pace", "seed")}
    try:
        text = graph.read_bytes() if isinstance(graph, Path) else json.dumps(graph, sort_keys=True).encode()
        own = [hashlib.sha256(path.read_bytes()).hexdigest() for path in arguments.blocks]
    except OSError as error:
        raise FlowgraphError(f"{error.filename}: {error.strerror}") from None
    return {
        **{key: str(value) for key, value in keep.items()},
        "graph": hashlib.sha256(text).hexdigest(),
        "blocks": own,
    }


def rows(point: Mapping[str, str], report: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a row for each estimate that a sink judged; one without an estimate where there is none."""
    from beamslot.tables import judged

    shared = {**point, "slots_per_s": _text(report.get("slots_per_s")), "ok": str(bool(report["ok"])).lower()}
    found = False
    for sink, results in (report.get("sinks") or {}).items() if report["ok"] else ():
        estimates, bound = judged(results)
        for estimate, one in estimates.items():
            found = True
            low, high = one.get("ci95_db") or (None, None)
            numbers = (one["nmse_db"], low, high, one.get("draws"), bound)
            keys = ("nmse_db", "ci95_low_db", "ci95_high_db", "draws", "crb_db")
            yield {**shared, "sink": sink, "estimate": estimate, **dict(zip(keys, map(_text, numbers), strict=True))}
    if not found:
        yield {**dict.fromkeys(JUDGED, ""), **shared}


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


class Table:
    """The CSV file of a sweep: what it holds of an earlier one that ended early, and what is added."""

    def __init__(self, directory: Path, names: Sequence[str], settings: Mapping[str, Any]) -> None:
        self.path = directory / "sweep.csv"
        self._names = tuple(names)
        self._columns = (*names, *JUDGED)
        self.rows: list[Row] = []
        directory.mkdir(parents=True, exist_ok=True)
        self._same(directory / "sweep.json", {"columns": list(self._columns), **settings})
        if self.path.exists():
            self.rows = self._whole(self.path.read_text(encoding="utf-8"))
        draft = directory / "sweep.csv.tmp"
        draft.write_text(self._csv(self.rows, head=True), encoding="utf-8")
        draft.replace(self.path)

    def _same(self, path: Path, settings: Mapping[str, Any]) -> None:
        from beamslot.errors import BadParam

        text = json.dumps(settings, indent=2) + "\n"
        if self.path.exists() and (not path.exists() or path.read_text(encoding="utf-8") != text):
            raise BadParam(
                f"{self.path} comes from another sweep (graph, values' names or options differ); "
                "remove it, or give another directory with -o"
            )
        path.write_text(text, encoding="utf-8")

    def _whole(self, text: str) -> list[Row]:
        """Return the rows of points that ended well; a point whose rows were cut off is not among them."""
        whole, _, cut = text.rpartition("\n")
        kept = list(csv.DictReader(io.StringIO(whole)))
        broken = [self._key(row) for row in kept if row["ok"] != "true"]
        if cut:
            broken += [self._key(row) for row in kept[-1:]]
        return [row for row in kept if self._key(row) not in broken]

    def _key(self, point: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(point[name] for name in self._names)

    def has(self, point: Mapping[str, str]) -> bool:
        """Return whether the point was run before, and well."""
        return any(self._key(row) == self._key(point) for row in self.rows)

    def add(self, point: Mapping[str, str], report: Mapping[str, Any]) -> None:
        """Append the rows of a point, all at once."""
        new = [*rows(point, report)]
        self.rows += new
        with self.path.open("a", encoding="utf-8") as file:
            file.write(self._csv(new, head=False))

    def _csv(self, some: Sequence[Row], *, head: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if head:
            writer.writeheader()
        writer.writerows(some)
        return text.getvalue()
