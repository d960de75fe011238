"""A graph as text for others to draw (mermaid, dot) and as a picture (svg)."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph

Point = tuple[int, int]

NOTHING: Mapping[str, str] = MappingProxyType({})

WIDTH, HEIGHT, ACROSS, DOWN, MARGIN, PORT = 150, 56, 130, 34, 20, 16
"""Of the svg [px]: a block, the space between columns and between rows, around all, and from port to port."""

STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1b1f24}.kind,.port{font-size:11px;fill:#57606a}"
    ".block{fill:#f6f8fa;stroke:#57606a}.edge{fill:none;stroke:#0969da;stroke-width:1.5}"
)

ARROW = (
    '<marker id="to" orient="auto" markerWidth="8" markerHeight="8" refX="7" refY="4">'
    '<path d="M0 0L8 4L0 8z" fill="#0969da"/></marker>'
)


def mermaid(graph: "Graph", rates: Mapping[str, str] = NOTHING) -> str:
    """Return the graph as a mermaid flowchart; rates: of edges, by their names."""
    ids = {name: f"n{index}" for index, name in enumerate(graph.blocks)}
    lines = ["flowchart LR"]
    for name, spec in graph.blocks.items():
        lines.append(f'  {ids[name]}["{escape(name)}<br/><small>{escape(_kind(spec))}</small>"]')
    for edge in graph.edges:
        line, arrow = ("--", "-->") if edge.lossless else ("-.", ".->")
        lines.append(f'  {ids[edge.source]} {line} "{escape(_label(edge, rates))}" {arrow} {ids[edge.target]}')
    return "\n".join(lines) + "\n"


def markdown(graph: "Graph", rates: Mapping[str, str] = NOTHING) -> str:
    """Return the graph as a mermaid flowchart that stands in Markdown."""
    return f"```mermaid\n{mermaid(graph, rates)}```\n"


def dot(graph: "Graph", rates: Mapping[str, str] = NOTHING) -> str:
    """Return the graph in the language of graphviz."""
    lines = [f"digraph {_quoted(graph.name)} {{", "  rankdir=LR", "  node [shape=box]"]
    for name, spec in graph.blocks.items():
        lines.append(f"  {_quoted(name)} [label={_quoted(name + chr(10) + _kind(spec))}]")
    for edge in graph.edges:
        dashed = "" if edge.lossless else " style=dashed"
        lines.append(
            f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [label={_quoted(_label(edge, rates))}{dashed}]"
        )
    return "\n".join([*lines, "}"]) + "\n"


def _kind(spec: "BlockSpec") -> str:
    """Return what a block is, how many share its work, and the process that it shares."""
    replicas = "" if spec.replicas == 1 else f" x {spec.replicas or 'auto'}"
    return spec.kind.__name__ + replicas + (f" in {spec.process}" if spec.process else "")


def _label(edge: "EdgeSpec", rates: Mapping[str, str]) -> str:
    same = edge.source_port == edge.target_port
    ports = edge.source_port if same else f"{edge.source_port} > {edge.target_port}"
    said = ports if edge.lossless else f"{ports} ({edge.policy})"
    return f"{said}, {rates[edge.name]}" if edge.name in rates else said


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def svg(graph: "Graph", rates: Mapping[str, str] = NOTHING) -> str:
    """Return the graph as a picture: a column for each step from the sources; long edges have lanes of their own."""
    ports = {name: (list(graph.inputs_of(name)), list(graph.outputs_of(name))) for name in graph.blocks}
    heights = {name: max(HEIGHT, PORT * (1 + max(map(len, both)))) for name, both in ports.items()}
    found = columns(graph)
    lanes = _lanes(graph, found)
    corners = _corners([[*column, *lanes[index]] for index, column in enumerate(found)], heights)
    ways = [_way(edge, corners, lanes, ports) for edge in graph.edges]
    body = [
        part
        for edge, way in zip(graph.edges, ways, strict=True)
        for part in _svg_edge(edge, way, rates.get(edge.name, ""))
    ]
    body += [part for name in graph.blocks for part in _svg_block(graph, name, corners[name], heights[name])]
    width = max(x for x, _ in corners.values()) + WIDTH + MARGIN
    height = max(y + heights.get(name, PORT) for name, (_, y) in corners.items()) + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, f"<defs><style>{STYLE}</style>{ARROW}</defs>", *dict.fromkeys(body), "</svg>"]) + "\n"


def columns(graph: "Graph") -> list[list[str]]:
    """Return the blocks by how many edges they are from the sources, on the longest way."""
    depth: dict[str, int] = {}
    for name in graph.order:
        depth[name] = 1 + max((depth[edge.source] for edge in graph.edges if edge.target == name), default=-1)
    return [[name for name in graph.blocks if depth[name] == column] for column in range(1 + max(depth.values()))]


def _lanes(graph: "Graph", found: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return, by column, the edges that pass it."""
    at = {name: index for index, column in enumerate(found) for name in column}
    return [[e.name for e in graph.edges if at[e.source] < index < at[e.target]] for index in range(len(found))]


def _corners(cells: Sequence[Sequence[str]], heights: Mapping[str, int]) -> dict[str, Point]:
    """Return the upper left corner of every block, and of every lane as "edge@column"."""
    tall = [sum(heights.get(name, PORT) + DOWN for name in column) - DOWN for column in cells]
    corners: dict[str, Point] = {}
    for index, column in enumerate(cells):
        y = MARGIN + (max(tall) - tall[index]) // 2
        for name in column:
            corners[name if name in heights else f"{name}@{index}"] = (MARGIN + index * (WIDTH + ACROSS), y)
            y += heights.get(name, PORT) + DOWN
    return corners


def _way(
    edge: "EdgeSpec",
    corners: Mapping[str, Point],
    lanes: Sequence[Sequence[str]],
    ports: Mapping[str, tuple[Sequence[str], Sequence[str]]],
) -> list[Point]:
    """Return the points of an edge: out of a block, in and out of each lane, into a block."""
    (x0, y0), (x1, y1) = corners[edge.source], corners[edge.target]
    way = [(x0 + WIDTH, y0 + PORT * (1 + ports[edge.source][1].index(edge.source_port)))]
    for index, names in enumerate(lanes):
        if edge.name in names:
            x, y = corners[f"{edge.name}@{index}"]
            way += [(x, y + PORT // 2), (x + WIDTH, y + PORT // 2)]
    return [*way, (x1, y1 + PORT * (1 + ports[edge.target][0].index(edge.target_port)))]


def _svg_edge(edge: "EdgeSpec", way: Sequence[Point], rate: str) -> list[str]:
    path = f"M{way[0][0]} {way[0][1]}"
    for (x0, y0), (x1, y1) in pairwise(way):
        bend = (x1 - x0) / 2
        path += f"C{x0 + bend} {y0} {x1 - bend} {y1} {x1} {y1}"
    (x0, y0), (x1, y1) = way[0], way[-1]
    dashed = "" if edge.lossless else ' stroke-dasharray="5 4"'
    return [
        f'<path class="edge"{dashed} marker-end="url(#to)" d="{path}"><title>{escape(edge.name)}</title></path>',
        f'<text class="port" x="{x0 + 4}" y="{y0 - 4}">{escape(edge.source_port)}</text>',
        *([f'<text class="port" x="{x0 + 4}" y="{y0 + 12}">{escape(rate)}</text>'] if rate else []),
        f'<text class="port" x="{x1 - 10}" y="{y1 - 4}" text-anchor="end">{escape(edge.target_port)}</text>',
    ]


def _svg_block(graph: "Graph", name: str, corner: Point, height: int) -> list[str]:
    x, y = corner
    middle, centre = x + WIDTH / 2, y + height / 2
    kind = escape(_kind(graph.blocks[name]))
    return [
        f'<rect class="block" x="{x}" y="{y}" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text x="{middle}" y="{centre - 3}" text-anchor="middle">{escape(name)}</text>',
        f'<text class="kind" x="{middle}" y="{centre + 14}" text-anchor="middle">{kind}</text>',
    ]


FORMATS: "dict[str, Callable[[Graph, Mapping[str, str]], str]]" = {
    "mermaid": mermaid,
    "markdown": markdown,
    "dot": dot,
    "svg": svg,
}

SUFFIXES = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".mmd": "mermaid", ".md": "markdown"}
"""The format that a file's name asks for."""
