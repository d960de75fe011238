"""The running graph as SVG: blocks in layers by their state, rates where edges arrive, restarts marked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, LEAST_HEIGHT, ACROSS, DOWN, PORT, MARGIN = 148, 50, 104, 20, 19, 10
"""Of a drawing [px]: a block, the space between columns and between rows, from edge to edge at a block, around all."""

MOST_SCALE = 1.2
"""A small graph is not drawn larger than so many times its size."""

SWEEPS = 4
"""Times that the order in columns is improved, each way."""


@dataclass(frozen=True)
class Node:
    """A block: its name, the id of what it is, its state, a line about its speed, and how often it was restarted."""

    name: str
    kind: str = ""
    state: str = ""
    text: str = ""
    restarts: int = 0


@dataclass(frozen=True)
class Edge:
    """An edge "a.x > b.y": its rate as text, and whether it has dropped slots."""

    source: str
    target: str
    rate: str = ""
    drops: int = 0

    @classmethod
    def of(cls, name: str, rate: str = "", drops: int = 0) -> "Edge":
        """Return the edge of a name "block.port > block.port"."""
        source, target = name.split(" > ")
        return cls(source.partition(".")[0], target.partition(".")[0], rate, drops)


def layers(names: Sequence[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Return the column of every block: one behind the last of those that feed it; of a loop, as far as it is told."""
    layer = dict.fromkeys(names, 0)
    for _ in names:
        for edge in edges:
            if edge.source in layer and edge.target in layer and edge.source != edge.target:
                layer[edge.target] = min(max(layer[edge.target], layer[edge.source] + 1), len(layer) - 1)
    return layer


Chain = list[tuple[int, str]]


def _chains(layer: Mapping[str, int], edges: Sequence[Edge]) -> list[Chain]:
    """Return what each edge passes, column by column: its ends, and a place of its own in the columns between."""
    chains: list[Chain] = []
    for index, edge in enumerate(edges):
        first, last = layer[edge.source], layer[edge.target]
        between = [(column, f"\0{index}.{column}") for column in range(first + 1, last)]
        chains.append([(first, edge.source), *between, (last, edge.target)])
    return chains


def _ordered(columns: list[list[str]], chains: Sequence[Chain]) -> list[list[str]]:
    """Return the columns with each member near the mean place of its neighbours, to have few crossings."""
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for chain in chains:
        for (_, a), (_, b) in pairwise(chain):
            after.setdefault(a, []).append(b)
            before.setdefault(b, []).append(a)
    for sweep in range(2 * SWEEPS):
        forward = sweep % 2 == 0
        order = range(1, len(columns)) if forward else range(len(columns) - 2, -1, -1)
        for column in order:
            beside = columns[column - 1 if forward else column + 1]
            place = {name: (index + 0.5) / len(beside) for index, name in enumerate(beside)}
            near = before if forward else after
            own = {name: (index + 0.5) / len(columns[column]) for index, name in enumerate(columns[column])}
            mean = {name: _mean([place[o] for o in near.get(name, ()) if o in place], own[name]) for name in own}
            columns[column].sort(key=mean.__getitem__)
    return columns


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def svg(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    """Return the drawing; its colours are those of the classes `state-...`, which the page's style defines."""
    if not nodes:
        return ""
    by_name = {node.name: node for node in nodes}
    edges = [edge for edge in edges if edge.source in by_name and edge.target in by_name]
    layer = layers([*by_name], edges)
    edges = [edge for edge in edges if layer[edge.source] < layer[edge.target]]
    chains = _chains(layer, edges)
    columns: list[list[str]] = [[] for _ in range(max(layer.values()) + 1)]
    for column, name in dict.fromkeys([*((layer[name], name) for name in by_name), *(p for c in chains for p in c)]):
        columns[column].append(name)
    columns = _ordered(columns, chains)
    height = {name: max(LEAST_HEIGHT, PORT * (1 + sum(e.target == name for e in edges))) for name in by_name}
    tall = {name: height.get(name, PORT) for column in columns for name in column}
    lengths = [sum(tall[name] for name in column) + DOWN * (len(column) - 1) for column in columns]
    total = max(lengths)
    top: dict[str, float] = {}
    for column, length in zip(columns, lengths, strict=True):
        y = MARGIN + (total - length) / 2
        for name in column:
            top[name] = y
            y += tall[name] + DOWN
    return _drawn(by_name, edges, chains, layer, top, tall, total)


def _drawn(
    nodes: Mapping[str, Node],
    edges: Sequence[Edge],
    chains: Sequence[Chain],
    layer: Mapping[str, int],
    top: Mapping[str, float],
    tall: Mapping[str, float],
    total: float,
) -> str:
    left = {column: MARGIN + column * (WIDTH + ACROSS) for column in range(max(layer.values()) + 1)}
    middle = {name: y + tall[name] / 2 for name, y in top.items()}
    arriving: dict[str, list[int]] = {}
    for index, chain in enumerate(chains):
        arriving.setdefault(chain[-1][1], []).append(index)
    end: dict[int, float] = {}
    for name, found in arriving.items():
        found.sort(key=lambda index: middle[chains[index][-2][1]])
        for place, index in enumerate(found):
            end[index] = top[name] + tall[name] * (place + 1) / (len(found) + 1)
    width, height = left[max(left)] + WIDTH + MARGIN, total + 2 * MARGIN
    labels: list[str] = []
    parts = [
        f'<svg class="graph" viewBox="0 0 {width:.0f} {height:.0f}" preserveAspectRatio="xMidYMid meet" '
        + f'style="max-width:{MOST_SCALE * width:.0f}px">'
    ]
    for index, (edge, chain) in enumerate(zip(edges, chains, strict=True)):
        x, y = left[chain[0][0]] + WIDTH, middle[edge.source]
        path = [f"M{x:.0f} {y:.0f}"]
        for column, name in chain[1:-1]:
            path.append(_curve(x, y, left[column], middle[name]) + f"H{left[column] + WIDTH}")
            x, y = left[column] + WIDTH, middle[name]
        last = left[chain[-1][0]]
        path.append(_curve(x, y, last - 6, end[index]))
        kind = "edge dropped" if edge.drops else "edge"
        parts.append(f'<path class="{kind}" d="{"".join(path)}"/>')
        parts.append(f'<path class="arrow" d="M{last} {end[index]:.0f}l-7 -3.5v7z"/>')
        labels.append(f'<text class="rate" x="{last - 11}" y="{end[index] - 4:.0f}">{escape(edge.rate)}</text>')
    parts += labels
    parts += [_node(node, left[layer[name]], top[name], tall[name]) for name, node in nodes.items()]
    return "".join([*parts, "</svg>"])


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    half = (to_x - x) / 2
    return f"C{x + half:.0f} {y:.0f} {to_x - half:.0f} {to_y:.0f} {to_x:.0f} {to_y:.0f}"


def _node(node: Node, x: float, y: float, height: float) -> str:
    centre = y + height / 2
    again = f'<g class="again"><title>restarted {node.restarts} times</title>' if node.restarts else ""
    if again:
        again += f'<circle cx="{x + WIDTH - 4:.0f}" cy="{y + 4:.0f}" r="10"/>'
        again += f'<text x="{x + WIDTH - 4:.0f}" y="{y + 8:.0f}">{node.restarts}</text></g>'
    return (
        f'<g class="node state-{escape(node.state)}">'
        f"<title>{escape(node.name)} ({escape(node.kind)}): {escape(node.state)}</title>"
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{height:.0f}" rx="6"/>'
        f'<rect class="bar" x="{x:.0f}" y="{y:.0f}" width="5" height="{height:.0f}" rx="2"/>'
        f'<text class="name" x="{x + 14:.0f}" y="{centre - 3:.0f}">{escape(_cut(node.name, 17))}</text>'
        f'<text class="about" x="{x + 14:.0f}" y="{centre + 13:.0f}">{escape(_cut(node.text, 24))}</text>{again}</g>'
    )


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
