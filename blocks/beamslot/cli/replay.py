"""`beamslot replay`: a recording in the place of the blocks that made it, at its pace or as fast as it goes."""

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamslot.cli import options

if TYPE_CHECKING:
    from beamslot.recording import Recording
    from beamslot.replaying import Asked, Planned
    from beamslot.runtime.graph import Graph


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs,
        "replay",
        _act,
        "let a recording stand in for the blocks that made it, and see what the rest of the graph makes of it",
        "beamslot replay out/hello\n"
        "  beamslot replay out/hello --compare                    does the rest say the same, to the last bit?\n"
        "  beamslot replay out/hello --graph other.yml --speed max\n"
        "exit code 1 where the run failed, or with --compare where something differs or nothing can be compared",
    )
    parser.add_argument("recording", type=Path, metavar="DIR", help="directory of the recording")
    parser.add_argument(
        "--graph",
        dest="into",
        metavar="G",
        help="flowgraph file to replay into, by the names of its blocks; that which was recorded",
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        metavar="X",
        help="times faster than recorded: 1 keeps the recorded times, max (or 0) is as fast as it goes; 1, max with "
        "--compare",
    )
    parser.add_argument("--loop", action="store_true", help="begin anew behind the last slot, until --slots are made")
    parser.add_argument(
        "--from", dest="first", type=options.natural, default=0, metavar="N", help="first slot of the recording (0)"
    )
    parser.add_argument("--slots", type=options.positive, metavar="N", help="slots to replay (all)")
    parser.add_argument(
        "--replace",
        metavar="BLOCK,...",
        help="blocks that the recording stands for: all whose outputs are recorded; with --compare the first of "
        "these on each path, so that those behind them run again",
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="compare what is run again with what was recorded of it, and name the first difference",
    )
    parser.add_argument(
        "-p", "--param", action="append", default=[], metavar="NAME=VALUE", help="set a variable, or block.key=value"
    )
    options.add_blocks(parser)
    options.add_restart(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress and no tables, only problems")
    options.add_json(parser, "print report and verdict as one JSON object")


def _speed(text: str) -> float:
    from beamslot.replaying import speed_of

    try:
        return speed_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}; wanted max, or a factor of 0 or more") from None


def _act(arguments: argparse.Namespace) -> int:
    from beamslot import costs, replaying
    from beamslot.recording import open_recording
    from beamslot.runtime.launch import launch

    with open_recording(arguments.recording) as recording:
        graph = options.restarted(_graph(arguments, recording), arguments.restart)
        planned = replaying.plan(recording, graph, asked(arguments))
        resolved, notes = costs.resolve_auto(planned.graph)
        report = launch(resolved, watch=_watch(arguments, resolved))
        report["notes"] = [*notes, *report["notes"]]
        said = _said(recording, planned, report, arguments)
    return _close(arguments, report, said, resolved.slots)


def asked(arguments: argparse.Namespace) -> "Asked":
    """Return what is asked for in terms of `replaying.plan`."""
    from beamslot.replaying import Asked

    speed = arguments.speed if arguments.speed is not None else math.inf if arguments.compare else 1.0
    named = arguments.replace and tuple(name for name in arguments.replace.split(",") if name)
    return Asked(named or None, arguments.first, arguments.slots, arguments.loop, speed, arguments.compare)


def _graph(arguments: argparse.Namespace, recording: "Recording") -> "Graph":
    from beamslot import flowgraph, replaying

    if arguments.into is None:
        return replaying.recorded_graph(recording, arguments.param, arguments.blocks)
    graph = flowgraph.load(options.source(arguments.into), overrides=arguments.param, blocks=arguments.blocks)
    return replaying.as_recorded(graph, recording.about)


def _watch(arguments: argparse.Namespace, graph: "Graph") -> Any:
    from beamslot.cli.run import Progress

    return None if arguments.quiet else Progress(graph.slots)


def _said(
    recording: "Recording", planned: "Planned", report: Mapping[str, Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return what a replay was, beside the report of its run."""
    from beamslot import replaying

    said: dict[str, Any] = {
        "recording": str(recording.path),
        "replaced": list(planned.replaced),
        "removed": list(planned.removed),
        "jitter": replaying.jitter(report),
        **replaying.throughput(recording, planned, report),
    }
    if arguments.compare:
        said |= replaying.judge(recording, planned, report)
    return said


def _close(arguments: argparse.Namespace, report: dict[str, Any], said: dict[str, Any], total: int | None) -> int:
    from beamslot import replaying

    code = int(report["exit_code"])
    if arguments.compare and said["verdict"] != replaying.IDENTICAL:
        code = code or 1
    sinks = {name: one for name, one in report["sinks"].items() if name != said.get("comparison")}
    report = {**report, "sinks": sinks, "replay": said, "ok": report["ok"] and not code, "exit_code": code}
    if arguments.json:
        options.print_json(report)
    elif not arguments.quiet:
        from beamslot import tables
        from beamslot.cli.run import printer

        printer().print(tables.closing(report, total))
        print(*text(said), sep="\n", flush=True)
        if arguments.compare:
            print(*replaying.text(said), sep="\n", flush=True)
    elif arguments.compare:
        print(*replaying.text(said), sep="\n", flush=True)
    for problem in report["problems"]:  # last, where people look
        print(problem, file=sys.stderr)
    return code


def text(said: Mapping[str, Any]) -> list[str]:
    """Return what was replayed as people read it."""
    without = f", without {', '.join(said['removed'])}" if said["removed"] else ""
    lines = [f"{said['recording']} stood in for {', '.join(said['replaced'])}{without}"]
    if said["jitter"]["p50_ms"] is not None:
        p50, p99 = said["jitter"]["p50_ms"], said["jitter"]["p99_ms"]
        lines.append(f"behind the recorded times: {p50:.3f} ms, p99 {p99:.3f} ms")
    else:
        busiest = f"{said['busiest']}, {said['busy']:.0%} of the time"
        lines.append(f"as fast as it went: {said['mb_per_s']:,.1f} MB/s read; busiest was {busiest}")
    return lines
