"""`beamslot validate` and `beamslot graph`: what a graph is and whether it keeps up, without running it."""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamslot.cli import draw, options
from beamslot.cli.run import printer

if TYPE_CHECKING:
    from beamslot.costs import Costs, Demand
    from beamslot.frame import StreamInfo
    from beamslot.runtime.block import Out
    from beamslot.runtime.graph import EdgeSpec, Graph

FIRST_SLOTS, MOST_SLOTS, MEASURED_SECONDS = 32, 2000, 3.0
"""How much of a graph is run to measure it: a few slots, then as many as fit into the time, up to the most."""


def register(verbs: options.Verbs) -> None:
    """Add the verbs."""
    validate = options.add_verb(
        verbs, "validate", _validate, "check a graph and say what it is", "beamslot validate flowgraphs/demo.yml"
    )
    options.add_graph(validate)
    validate.add_argument(
        "--start", action="store_true", help="also start all blocks but the sinks, to show lengths and exact bytes"
    )
    validate.add_argument(
        "--rate",
        nargs="?",
        const="",
        type=_rate,
        metavar="SLOTS_PER_S",
        help="say whether this machine keeps up with so many slots per second, or realtime (what the graph says), from "
        "what its blocks cost in earlier runs; starts all blocks but the sinks; exit code 1 unless it keeps up",
    )
    validate.add_argument(
        "--measure",
        action="store_true",
        help=f"with --rate: first run the graph as fast as it goes for about {MEASURED_SECONDS:g} s, files that it "
        "writes included, and keep what its blocks cost",
    )
    options.add_json(validate)
    graph = options.add_verb(
        verbs,
        "graph",
        _graph,
        "draw a graph; one that runs, by its name or pid, with what goes over its edges",
        "beamslot graph flowgraphs/demo.yml -o demo.svg",
    )
    options.add_graph(graph)
    graph.add_argument(
        "--format", choices=sorted(draw.FORMATS), help="what to write (what FILE ends with, else mermaid)"
    )
    graph.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"write there instead of standard output: {', '.join(draw.SUFFIXES)}",
    )


def _rate(text: str) -> float | str:
    """Return slots per second; realtime, and nothing, as they are."""
    if text in {"", "realtime"}:
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"got {text!r}; wanted slots per second, realtime, or nothing; GRAPH stands before --rate"
        )
    return value


def _load(arguments: argparse.Namespace) -> "Graph":
    return _load_source(options.source(arguments.graph), arguments)


def _load_source(source: Path | Mapping[str, Any], arguments: argparse.Namespace) -> "Graph":
    from beamslot import flowgraph

    return flowgraph.load(source, overrides=arguments.param, blocks=arguments.blocks)


def _graph(arguments: argparse.Namespace) -> int:
    output: Path | None = arguments.output
    write = draw.FORMATS[arguments.format or _format(output)]
    running = _running(arguments.graph)
    text = write(*running) if running else write(_load(arguments), draw.NOTHING)
    if output is None:
        sys.stdout.write(text)
        return 0
    with options.writing(output):
        output.write_text(text, encoding="utf-8")
    return 0


def _running(name: str) -> "tuple[Graph, dict[str, str]] | None":
    """Return the graph of a run of this name or pid, and the rates of its edges; None where a file is meant."""
    from beamslot import tables
    from beamslot.cli.ps import WHILE, looks
    from beamslot.runtime import observe, rundir

    if Path(name).exists() or not observe.called(rundir.runs(), name):
        return None
    (shown,) = [*looks(name, "graph", WHILE, 1)]
    if not shown:
        return None
    (run,) = shown
    return drawn(run), {edge["edge"]: tables.rate(edge["slots_per_s"]) for edge in run["edges"]}


def drawn(run: Mapping[str, Any]) -> "Graph":
    """Return the graph of a run as far as it can be drawn: blocks by the names of their classes, and edges."""
    from beamslot.runtime.block import Block
    from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph

    def block(name: str, said: Mapping[str, Any]) -> BlockSpec:
        kind = type(said["class"].rpartition(":")[2], (Block,), {"__module__": __name__})
        return BlockSpec(name, kind, process=said["process"], replicas=said["replicas"])

    def edge(said: Mapping[str, Any]) -> EdgeSpec:
        (source, _, out), (target, _, into) = (end.partition(".") for end in said["edge"].split(" > "))
        return EdgeSpec(source, out, target, into, said["policy"])

    blocks = {name: block(name, said) for name, said in run["graph"].items()}
    return Graph(name=run["run"], blocks=blocks, edges=tuple(edge(one) for one in run["edges"]))


def _format(output: Path | None) -> str:
    """Return the format that a file's name asks for.

    raises BadParam where it asks for none
    """
    from beamslot.errors import BadParam

    if output is None:
        return "mermaid"
    if output.suffix not in draw.SUFFIXES:
        wanted = ", ".join(draw.SUFFIXES)
        raise BadParam(f"graph: got -o {output}; wanted a name that ends with {wanted}, or --format")
    return draw.SUFFIXES[output.suffix]


def _validate(arguments: argparse.Namespace) -> int:
    if arguments.measure or arguments.rate is not None:
        return _validate_rate(arguments)
    graph = _load(arguments)
    found = summary(graph, described(graph) if arguments.start else {})
    found["started"] = arguments.start
    if arguments.json:
        options.print_json({"ok": True, "exit_code": 0, "problems": [], **found})
    else:
        _print(found)
    return 0


def _validate_rate(arguments: argparse.Namespace) -> int:
    from beamslot import costs

    source = options.source(arguments.graph)
    graph = _load_source(source, arguments)
    infos = described(graph)
    rate = _slots_per_s(graph, arguments.rate)
    notes = _measure(graph, source, arguments) if arguments.measure else []
    table, unread = costs.read()
    graph, resolved = costs.resolve_auto(graph, rate, table)
    known = costs.lookup(graph, table)
    found = costs.demand(graph, known, rate, infos=infos)
    said = {
        "notes": [*notes, *unread, *resolved],
        "verdict": verdict(graph, found),
        "advice": costs.advice(graph, known, found, infos=infos),
    }
    code = 0 if found.keeps_up else 1
    if arguments.json:
        problems = [said["verdict"]] if code else []
        figures = {**summary(graph, infos), **said, "demand": _figures(found, known)}
        options.print_json({"ok": not code, "exit_code": code, "problems": problems, **figures})
    else:
        _print_rate(found, known, said)
    return code


def _slots_per_s(graph: "Graph", asked: float | str | None) -> float:
    from beamslot import costs

    if asked == "realtime":
        return 1 / graph.slot_period
    return asked if isinstance(asked, float) else costs.rate_of(graph)


def _measure(graph: "Graph", source: Path | Mapping[str, Any], arguments: argparse.Namespace) -> list[str]:
    """Run a graph as fast as it goes and keep what its blocks cost; return notes of what could not be kept.

    raises RunFailed, FlowgraphError
    """
    from beamslot import api, costs

    parameters = dict(text.split("=", 1) for text in arguments.param)
    print(f"{graph.name}: is run for about {MEASURED_SECONDS:g} s", file=sys.stderr)
    report = api.run(source, parameters=parameters, slots=FIRST_SLOTS, pace="max", blocks=arguments.blocks)
    slots = min(MOST_SLOTS, int(FIRST_SLOTS * MEASURED_SECONDS / report["seconds"]))
    if slots > 2 * FIRST_SLOTS:
        report = api.run(source, parameters=parameters, slots=slots, pace="max", blocks=arguments.blocks)
    return costs.record(graph, report)


def verdict(graph: "Graph", found: "Demand") -> str:
    """Return in a sentence whether a graph keeps up, and what limits it."""
    from beamslot import costs

    rate, highest = (f"{value:,.0f} slots/s" for value in (found.rate, found.highest))
    if found.keeps_up is None:
        return f"{graph.name}: whether it keeps up with {rate} is not known"
    limit = f"the {found.cores} cores of this machine" if found.limit == costs.CORES else found.limit
    does = "does not keep up" if not found.keeps_up else "just keeps up" if found.tight else "keeps up"
    return f"{graph.name} {does} with {rate}; the most that it could do is {highest}, limited by {limit}"


def _figures(found: "Demand", known: "Costs") -> dict[str, Any]:
    """Return a demand as plain values."""
    from dataclasses import asdict

    processes = [{**asdict(load), "share": load.share, "verdict": load.verdict} for load in found.loads]
    costs = {name: None if cost is None else cost.model_dump() for name, cost in known.items()}
    return {**asdict(found), "loads": processes, "keeps_up": found.keeps_up, "tight": found.tight, "costs": costs}


def _print_rate(found: "Demand", known: "Costs", said: Mapping[str, Any]) -> None:
    from beamslot.tables import Sheet, number, render, span

    rows: list[list[str]] = []
    for load in found.loads:
        costs = [cost.seconds for name in load.blocks if (cost := known[name]) is not None]
        name = load.name if load.blocks == (load.name,) else f"{load.name} ({', '.join(load.blocks)})"
        cost = span(1e6 * sum(costs) if costs else None)
        rows.append([name, load.verdict, cost, number(load.share, 3), number(load.replicas)])
    columns = ("block", "", "cost per slot", "share of a core", "replicas")
    title = f"{found.rate:,.0f} slots/s: {found.needed:.3g} of {found.cores} cores"
    out = printer()
    for text in said["notes"]:
        out.print(f"! {text}", markup=False, soft_wrap=True)
    out.print(render(Sheet(title, columns, rows, left=2)))
    out.print()
    for text in (said["verdict"], *said["advice"]):
        out.print(text, markup=False, soft_wrap=True)


def described(graph: "Graph") -> "dict[str, StreamInfo]":
    """Start every block that has outputs, in order, and return what it says of its streams.

    raises FlowgraphError for the first block that does not start with what comes in
    """
    from beamslot.errors import FlowgraphError
    from beamslot.runtime.block import RunContext, bind, describe_outputs

    infos: dict[str, StreamInfo] = {}
    for name in graph.order:
        spec = graph.blocks[name]
        block = spec.build(RunContext(name, graph.seed, graph.slot_period))
        incoming: dict[str, Any] = {}
        try:
            for port, edges in graph.inputs_of(name).items():
                streams = {edge.stream: infos[edge.stream] for edge in edges}
                for info in streams.values():
                    bind(block.inputs[port], info, f"{name}.{port}")
                incoming[port] = streams if block.inputs[port].many else next(iter(streams.values()))
            if block.outputs:
                found = describe_outputs(block, incoming)
                infos |= {f"{name}.{port}": info for port, info in found.items()}
        except Exception as error:  # a start is code of a block's author: whatever it raises, the graph cannot run
            where = f"{spec.place}: {name}" if spec.place else name
            raise FlowgraphError(f"{where}: does not start: {error or type(error).__name__}") from error
    return infos


def summary(graph: "Graph", infos: "Mapping[str, StreamInfo]") -> dict[str, Any]:
    """Return what a graph is as plain values; lengths of axes and exact bytes of the streams described in `infos`."""
    from beamslot.runtime.graph import worst_case_bytes

    most = worst_case_bytes(graph, infos)
    blocks = [
        {
            "block": name,
            "class": spec.kind.__name__,
            "place": spec.place,
            "process": spec.process,
            "replicas": spec.replicas or "auto",
            "restart": spec.restart.policy,
            "most_bytes": most[name] if infos else None,
        }
        for name, spec in graph.blocks.items()
    ]
    streams = {f"{name}.{port}": out for name, spec in graph.blocks.items() for port, out in spec.kind.outputs.items()}
    return {
        "graph": graph.name,
        "title": graph.title,
        "slots": graph.slots,
        "slot_period": graph.slot_period,
        "pace": graph.pace,
        "burst": graph.burst,
        "seed": graph.seed,
        "most_bytes": sum(most.values()) if infos else None,
        "blocks": blocks,
        "streams": [_stream(name, out, infos.get(name)) for name, out in streams.items()],
        "edges": [_edge(graph, edge, infos.get(edge.stream)) for edge in graph.edges],
    }


def _stream(name: str, out: "Out", info: "StreamInfo | None") -> dict[str, Any]:
    arrays = [
        {
            "array": array,
            "axes": list(spec.axes),
            "lengths": None if info is None else list(info.shape(array, 1)),
            "dtype": str(spec.dtype),
            "unit": spec.unit,
        }
        for array, spec in (out.arrays if info is None else info.arrays).items()
    ]
    return {"stream": name, "arrays": arrays}


def _edge(graph: "Graph", edge: "EdgeSpec", info: "StreamInfo | None") -> dict[str, Any]:
    """The window is that of `worst_case_bytes`, as far as the bytes of a slot are known."""
    from beamslot.runtime.graph import DEFAULT_BYTES, frame_slots, minimum_window

    frame = frame_slots(graph)[edge.source]
    window = frame if graph.is_inner(edge) else graph.windows[edge.name]
    most = edge.nbytes or DEFAULT_BYTES
    if info is not None:
        least = minimum_window(graph) if edge.lossless else frame
        window = min(window, max(least, most // max(1, info.bytes_per_slot)))
        most = window * info.bytes_per_slot
    return {"edge": edge.name, "policy": edge.policy, "window": window, "most_bytes": most}


def _print(found: Mapping[str, Any]) -> None:
    from beamslot.tables import Sheet, number, render

    length = "endless" if found["slots"] is None else f"{number(found['slots'])} slots"
    rate = "as fast as it goes" if math.isinf(found["pace"]) else f"{found['pace']:g} x real time"
    blocks = [[b["block"], b["class"], b["place"], *_how(b), _bytes(b["most_bytes"])] for b in found["blocks"]]
    if found["started"]:
        blocks.append(["all together", "", "", "", "", "", _bytes(found["most_bytes"])])
    edges = [[e["edge"], e["policy"], number(e["window"]), _bytes(e["most_bytes"])] for e in found["edges"]]
    heads = ("block", "class", "written at", "?process", "?replicas", "?restart")
    out = printer()
    out.print(f"{found['graph']}: ok. {length} of {found['slot_period']:g} s, {rate}, seed {found['seed']}")
    if not found["started"]:
        out.print("not started; `validate --start` also checks lengths and says how much memory slots may take")
    for sheet in (
        Sheet("Blocks", (*heads, "?holds at most"), blocks, left=6),
        Sheet("Streams", ("stream", "array", "axes", "dtype", "unit"), _stream_rows(found["streams"]), left=5),
        Sheet("Edges", ("edge", "policy", "window [slots]", "at most in flight"), edges, left=2),
    ):
        out.print()
        out.print(render(sheet))


def _how(block: Mapping[str, Any]) -> list[str]:
    """Return process, replicas and restart of a block, each empty where it is the usual."""
    replicas, restart = str(block["replicas"]), block["restart"]
    return [block["process"], "" if replicas == "1" else replicas, "" if restart == "never" else restart]


def _stream_rows(streams: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows: list[list[str]] = []
    for stream in streams:
        arrays = stream["arrays"] or [{"array": "any", "axes": [], "lengths": None, "dtype": "", "unit": ""}]
        for index, one in enumerate(arrays):
            lengths = one["lengths"] or [""] * len(one["axes"])
            axes = [
                f"{axis}={n}" if n and axis != "slot" else axis for axis, n in zip(one["axes"], lengths, strict=True)
            ]
            rows.append(["" if index else stream["stream"], one["array"], " ".join(axes), one["dtype"], one["unit"]])
    return rows


def _bytes(count: int | None) -> str:
    if count is None:
        return ""
    for size, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
