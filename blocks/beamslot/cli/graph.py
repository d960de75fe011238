"""`beamslot validate` and `beamslot graph`: what a graph is, without running it."""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamslot.cli import draw, options
from beamslot.cli.run import printer

if TYPE_CHECKING:
    from beamslot.frame import StreamInfo
    from beamslot.runtime.block import Out
    from beamslot.runtime.graph import EdgeSpec, Graph


def register(verbs: options.Verbs) -> None:
    """Add the verbs."""
    validate = options.add_verb(
        verbs, "validate", _validate, "check a graph and say what it is", "beamslot validate flowgraphs/demo.yml"
    )
    options.add_graph(validate)
    validate.add_argument(
        "--start", action="store_true", help="also start all blocks but the sinks, to show lengths and exact bytes"
    )
    options.add_json(validate)
    graph = options.add_verb(verbs, "graph", _graph, "draw a graph", "beamslot graph flowgraphs/demo.yml -o demo.svg")
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


def _load(arguments: argparse.Namespace) -> "Graph":
    from beamslot import flowgraph

    return flowgraph.load(options.source(arguments.graph), overrides=arguments.param, blocks=arguments.blocks)


def _graph(arguments: argparse.Namespace) -> int:
    output: Path | None = arguments.output
    text = draw.FORMATS[arguments.format or _format(output)](_load(arguments))
    if output is None:
        sys.stdout.write(text)
        return 0
    with options.writing(output):
        output.write_text(text, encoding="utf-8")
    return 0


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
    graph = _load(arguments)
    found = summary(graph, described(graph) if arguments.start else {})
    found["started"] = arguments.start
    if arguments.json:
        options.print_json({"ok": True, "exit_code": 0, "problems": [], **found})
    else:
        _print(found)
    return 0


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
    from beamslot.runtime.graph import minimum_window

    least = minimum_window(graph)
    blocks = [{"block": name, "class": spec.kind.__name__, "place": spec.place} for name, spec in graph.blocks.items()]
    streams = {f"{name}.{port}": out for name, spec in graph.blocks.items() for port, out in spec.kind.outputs.items()}
    return {
        "graph": graph.name,
        "title": graph.title,
        "slots": graph.slots,
        "slot_period": graph.slot_period,
        "pace": graph.pace,
        "burst": graph.burst,
        "seed": graph.seed,
        "blocks": blocks,
        "streams": [_stream(name, out, infos.get(name)) for name, out in streams.items()],
        "edges": [_edge(graph, edge, infos.get(edge.stream), least) for edge in graph.edges],
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


def _edge(graph: "Graph", edge: "EdgeSpec", info: "StreamInfo | None", least: int) -> dict[str, Any]:
    from beamslot.runtime.graph import DEFAULT_BYTES

    window = graph.windows[edge.name]
    most = DEFAULT_BYTES
    if info is not None:
        window = min(window, max(least, DEFAULT_BYTES // max(1, info.bytes_per_slot)))
        most = window * info.bytes_per_slot
    return {"edge": edge.name, "policy": edge.policy, "window": window, "most_bytes": most}


def _print(found: Mapping[str, Any]) -> None:
    from beamslot.tables import Sheet, number, render

    length = "endless" if found["slots"] is None else f"{number(found['slots'])} slots"
    rate = "as fast as it goes" if math.isinf(found["pace"]) else f"{found['pace']:g} x real time"
    blocks = [[block["block"], block["class"], block["place"]] for block in found["blocks"]]
    edges = [[e["edge"], e["policy"], number(e["window"]), _bytes(e["most_bytes"])] for e in found["edges"]]
    out = printer()
    out.print(f"{found['graph']}: ok. {length} of {found['slot_period']:g} s, {rate}, seed {found['seed']}")
    if not found["started"]:
        out.print("not started; `validate --start` also checks lengths")
    for sheet in (
        Sheet("Blocks", ("block", "class", "written at"), blocks, left=3),
        Sheet("Streams", ("stream", "array", "axes", "dtype", "unit"), _stream_rows(found["streams"]), left=5),
        Sheet("Edges", ("edge", "policy", "window [slots]", "at most in flight"), edges, left=2),
    ):
        out.print()
        out.print(render(sheet))


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


def _bytes(count: int) -> str:
    for size, unit in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} B"
