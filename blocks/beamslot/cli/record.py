"""`beamslot record`: keep what ports of a graph say, losing nothing, or those of a run elsewhere; or repair that."""

import argparse
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamslot.cli import options

if TYPE_CHECKING:
    from beamslot.probe import AttachedRun
    from beamslot.recording import Track
    from beamslot.recording.tapped import TappedPort
    from beamslot.runtime.graph import Graph

EVERY = 2.0
"""Seconds between two lines of progress."""


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs,
        "record",
        _record,
        "record ports of a graph that is run for it, or of a run that goes on elsewhere, as SigMF",
        "beamslot record flowgraphs/hello.yml --ports combiner.rf,omp.estimate -o out/hello\n"
        "  beamslot record demo --ports omp.estimate --for 10s -o out/tapped\n"
        "  beamslot record --repair out/hello",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "graph", nargs="?", metavar="GRAPH|RUN", help="a flowgraph file, which is run; or a run's name or pid"
    )
    what.add_argument(
        "--repair", type=Path, metavar="DIR", help="cut off what a crash left torn, and say what that was"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="directory of the recording")
    parser.add_argument(
        "--ports",
        action="append",
        default=[],
        metavar="BLOCK.PORT,...",
        help="which output ports; all of the sources where none is named",
    )
    parser.add_argument("--replace", action="store_true", help="in place of a recording that is there already")
    options.add_settings(parser)
    options.add_length(parser)
    options.add_restart(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress, only problems")
    options.add_json(parser, "print what was recorded as one JSON object")


def _record(arguments: argparse.Namespace) -> int:
    if arguments.repair is not None:
        return _repair(arguments)
    from beamslot.errors import BadParam
    from beamslot.recording import recorded

    if arguments.output is None:
        raise BadParam("record: no -o came; wanted the directory of the recording")
    if recorded(arguments.output) and not arguments.replace:
        raise BadParam(f"record: {arguments.output} has a recording; wanted another directory, or --replace")
    arguments.ports = [name for text in arguments.ports for name in text.split(",") if name]
    return _run(arguments) if _is_graph(arguments.graph) else _attach(arguments)


def _is_graph(name: str) -> bool:
    return name == "-" or Path(name).suffix in (".yml", ".yaml", ".json") or Path(name).is_file()


def _repair(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from beamslot.recording import repair

    found = repair(arguments.repair)
    if arguments.json:
        options.print_json({"ok": True, "path": str(arguments.repair), "ports": [asdict(one) for one in found]})
    else:
        print(*found, sep="\n")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    """Put a recorder into a graph and run it; return the exit code of the run."""
    from beamslot import costs, flowgraph
    from beamslot.cli.run import timed
    from beamslot.recording import amend
    from beamslot.runtime.launch import launch

    source = options.source(arguments.graph)
    graph = flowgraph.load(source, overrides=arguments.param, blocks=arguments.blocks)
    graph, seconds = timed(graph, arguments)
    graph, resolved = costs.resolve_auto(options.restarted(graph, arguments.restart))
    about = {**facts(graph), "flowgraph": _text(source), "file": str(arguments.graph), "overrides": arguments.param}
    graph = with_recorder(graph, arguments.ports, arguments.output, about=about)
    progress = None if arguments.quiet else Progress(arguments.output, graph.slots)
    began = time.monotonic()
    report = launch(graph, watch=progress, seconds=seconds)
    spent = time.monotonic() - began
    with _noting(report):
        amend(arguments.output, after_run(Path(report["logs"])))
    said = summary(arguments.output, spent) | {"exit_code": report["exit_code"], "problems": report["problems"]}
    _close(arguments, said | {"notes": [*resolved, *report["notes"]], "ok": report["ok"]})
    return int(report["exit_code"])


@contextmanager
def _noting(report: dict[str, Any]) -> Iterator[None]:
    """Let a disk that is full cost the last facts of a recording, noted as a problem of the run."""
    from beamslot.errors import StorageError

    try:
        yield
    except StorageError as error:
        problems = [*report["problems"], str(error)]
        report.update(problems=problems, exit_code=report["exit_code"] or 1, ok=False)


def with_recorder(graph: "Graph", ports: Sequence[str], directory: Path, about: Mapping[str, Any]) -> "Graph":
    """Return a graph with a lossless recorder at some output ports, those of its sources where none is named.

    raises UnknownPort with the nearest name; FlowgraphError where there is nothing to record
    """
    from dataclasses import replace

    from beamslot.runtime.graph import BlockSpec, EdgeSpec
    from beamslot.sinks.recorder import Recorder

    wanted = [*dict.fromkeys(ports or sources(graph))]
    _check(wanted, [f"{name}.{port}" for name, spec in graph.blocks.items() for port in spec.kind.outputs])
    name = next(name for name in _names() if name not in graph.blocks)
    parameters = {"path": str(directory), "existing": "replace", "about": {**about, "ports": wanted}}
    spec = BlockSpec(name=name, kind=Recorder, parameters=parameters)
    ends = [port.split(".") for port in wanted]
    edges = tuple(EdgeSpec(block, port, name, "streams") for block, port in ends)
    return replace(graph, blocks={**graph.blocks, name: spec}, edges=(*graph.edges, *edges))


def sources(graph: "Graph") -> list[str]:
    """Return the output ports of the blocks that have no input."""
    return [
        f"{name}.{port}" for name, spec in graph.blocks.items() if not spec.kind.inputs for port in spec.kind.outputs
    ]


def _names() -> Iterator[str]:
    yield "recorder"
    number = 2
    while True:
        yield f"recorder_{number}"
        number += 1


def _check(wanted: Sequence[str], there: Sequence[str]) -> None:
    from beamslot.errors import FlowgraphError, UnknownPort
    from beamslot.runtime.graph import near

    problems = [
        UnknownPort(f"record: no output is called {port!r}; {near(port, there)}")
        for port in wanted
        if port not in there
    ]
    if problems:
        raise FlowgraphError(*problems)
    if not wanted:
        raise FlowgraphError("record: the graph has no output to record")


def facts(graph: "Graph") -> dict[str, Any]:
    """Return what is known of a run before it begins."""
    from beamslot.cli import THREADS
    from beamslot.runtime.diary import versions

    return {
        "graph": graph.name,
        "seed": graph.seed,
        "slots": graph.slots,
        "slot_period": graph.slot_period,
        "pace": "max" if math.isinf(graph.pace) else graph.pace,
        "burst": graph.burst,
        "versions": versions(),
        "threads": {name: os.environ.get(name) for name in THREADS},  # decides the last bits of what a block makes
        "timeline": [],
    }


def after_run(logs: Path) -> dict[str, Any]:
    """Return what the record of a run says of it: as what it was run, what was changed, how often it was restarted."""
    from beamslot.runtime.diary import PARAMETERS, RunRecord, parse

    record = RunRecord(logs)
    card = record.card
    for block in card.get("blocks", {}).values():
        if block.get("class", "").endswith(":Recorder"):
            block["parameters"].pop("about", None)  # which stands here already
    path = logs / PARAMETERS
    lines = [*filter(None, map(parse, path.read_text().splitlines()))] if path.exists() else []
    return {
        "timeline": timeline(lines, card.get("blocks", ())),
        "restarts": sum(event.get("kind") == "restart" for event in record.events),
        "run": {key: card.get(key) for key in ("started", "machine", "blocks", "edges")},
    }


def timeline(lines: Sequence[Mapping[str, Any]], blocks: Iterable[str]) -> list[dict[str, Any]]:
    """Return the changes of parameters, one of each.

    lines: of the record of a run; the first of each block has what it began with and is no change
    """
    beginning = set(blocks)
    changes: list[dict[str, Any]] = []
    for line in lines:
        block, slot = str(line.get("block")), line.get("slot", 0)
        values = line.get("values")
        if block not in beginning and isinstance(values, Mapping):
            changes += [{"slot": slot, "block": block, "parameter": key, "value": one} for key, one in values.items()]
        beginning.discard(block)
    return changes


def _text(source: Path | Mapping[str, Any]) -> str:
    import json

    return source.read_text(encoding="utf-8") if isinstance(source, Path) else json.dumps(source)


def _attach(arguments: argparse.Namespace) -> int:
    """Record what a run elsewhere says at its taps; return 0, as what was missed is marked."""
    from beamslot import probe
    from beamslot.errors import BadParam
    from beamslot.runtime import observe

    given = {"-p": arguments.param, "--pace": arguments.pace, "--seed": arguments.seed, "--restart": arguments.restart}
    if strange := [name for name, value in given.items() if value not in (None, [])]:
        raise BadParam(f"record: {', '.join(strange)} came for the run {arguments.graph!r}; a run is only listened to")
    run = probe.AttachedRun(observe.find(arguments.graph, "record"))
    progress = None if arguments.quiet else Progress(arguments.output, arguments.slots)
    said = listened(run, arguments.ports, arguments.output, arguments.slots, arguments.seconds, progress)
    _close(arguments, said | {"ok": True, "exit_code": 0, "problems": [], "notes": []})
    return 0


def listened(
    run: "AttachedRun",
    ports: Sequence[str],
    directory: Path,
    slots: int | None,
    seconds: float | None,
    progress: "Progress | None" = None,
) -> dict[str, Any]:
    """Record what a run elsewhere says at the taps of some ports, in place of what is there; return its summary.

    ports: those of the sources where none is named    slots, seconds: end after so many, or so long [s]
    raises FlowgraphError with the nearest names of ports; PeerLost, StorageError: what came until then is kept
    """
    from beamslot.recording import amend, remove
    from beamslot.recording.tapped import TappedPort
    from beamslot.runtime.diary import RunRecord

    logs = Path(run.card.get("logs", ""))
    card = RunRecord(logs).card
    fed = {str(edge.get("edge", "")).partition(" > ")[2].partition(".")[0] for edge in card.get("edges", ())}
    ports = ports or [port for port in run.ports if port.partition(".")[0] not in fed]
    _check(ports, run.ports)
    about = {key: card.get(key) for key in ("seed", "slots", "slot_period", "pace", "burst", "versions")}
    about = {"graph": run.name, "attached": True, "ports": ports, "timeline": [], **about}
    remove(directory)
    began = time.monotonic()
    with ExitStack() as held:
        taps = [held.enter_context(TappedPort(run.endpoints(port), port, directory, about)) for port in ports]
        with suppress(KeyboardInterrupt):
            _listen(taps, slots, seconds, progress)
    spent = time.monotonic() - began
    amend(directory, after_run(logs))
    return summary(directory, spent)


def _listen(taps: "Sequence[TappedPort]", most: int | None, seconds: float | None, progress: "Progress | None") -> None:
    """Take what comes at some taps until each has ended, or has as many slots, or the time is up."""
    from beamslot.probe import SILENCE
    from beamslot.recording.tapped import listen

    end = math.inf if seconds is None else time.monotonic() + seconds
    for slots in listen(taps, most, SILENCE):
        if progress is not None:
            progress({"slots": slots, "state": "recording"})
        if time.monotonic() >= end:
            return


class Progress:
    """A line on standard error when the state changes and every few seconds: slots, MB, MB/s."""

    def __init__(self, directory: Path, total: int | None) -> None:
        self._directory, self._total = directory, total
        self._state, self._told, self._bytes = "", -math.inf, 0

    def __call__(self, status: Mapping[str, Any]) -> None:
        """Take the status of the run."""
        now, state = time.monotonic(), str(status.get("state", ""))
        if state == self._state and now - self._told < EVERY:
            return
        nbytes = size(self._directory)
        rate = max(0, nbytes - self._bytes) / (now - self._told) if math.isfinite(self._told) else 0.0
        total = f" of {self._total:,}" if self._total else ""
        with suppress(OSError):
            print(
                f"{state}  {status.get('slots', 0):,}{total} slots  {nbytes / 1e6:,.1f} MB  {rate / 1e6:,.1f} MB/s",
                file=sys.stderr,
                flush=True,
            )
        self._state, self._told, self._bytes = state, now, nbytes


def size(directory: Path) -> int:
    """Return the bytes of all files of a recording."""
    total = 0
    for path in directory.glob("*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def summary(directory: Path, seconds: float) -> dict[str, Any]:
    """Return what a recording amounts to, in plain values."""
    from beamslot.errors import StorageError
    from beamslot.recording import open_recording

    said: dict[str, Any] = {"path": str(directory), "ports": {}, "complete": False, "bytes": size(directory)}
    with suppress(StorageError), open_recording(directory, torn=True) as recording:
        said["complete"] = recording.complete
        said["ports"] = {
            name: {
                "slots": track.slots,
                "missing": track.missing,
                "first": track.first,
                "last": track.last,
                "gaps": _by_reason(track),
            }
            for name, track in recording.ports.items()
        }
    return {**said, "seconds": seconds, "mb_per_s": said["bytes"] / 1e6 / max(seconds, 1e-9)}


def _by_reason(track: "Track") -> dict[str, int]:
    found: dict[str, int] = {}
    for gap in track.gaps:
        found[gap.reason] = found.get(gap.reason, 0) + gap.count
    return found


def text(said: Mapping[str, Any]) -> list[str]:
    """Return what was recorded as people read it."""
    from beamslot import tables

    lines = [f"{said['path']}: {said['bytes'] / 1e6:,.1f} MB, {said['mb_per_s']:,.1f} MB/s"]
    for name, port in said["ports"].items():
        span = "" if port["first"] is None else f", {port['first']}..{port['last']}"
        missing = f", {port['missing']:,} missing: {tables.drops(port['gaps'])}" if port["missing"] else ""
        lines.append(f"  {name}: {port['slots']:,} slots{span}{missing}")
    if not said["complete"]:
        lines.append(f"  not whole: `beamslot record --repair {said['path']}` completes it")
    return lines


def _close(arguments: argparse.Namespace, said: Mapping[str, Any]) -> None:
    if arguments.json:
        options.print_json(said)
    elif not arguments.quiet:
        print(*(f"! {note}\n" for note in said["notes"]), sep="", end="", file=sys.stderr)
        print(*text(said), sep="\n", flush=True)
    for problem in said["problems"]:  # last, where people look
        print(problem, file=sys.stderr)
