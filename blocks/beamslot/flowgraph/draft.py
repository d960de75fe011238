"""The sections of a flowgraph, their form checked and overrides put in; what the values mean comes later."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from beamslot.errors import BadParam, FlowgraphError, UnknownBlock
from beamslot.flowgraph.declarations import (
    BLOCK_KEYS,
    CHANGE_KEYS,
    EDGE_ENDS,
    FILE_FORMAT,
    LAYOUT,
    NAME,
    SECTIONS,
    STATES,
    BlockOptions,
    EdgeOptions,
    RestartOptions,
    RunOptions,
)
from beamslot.flowgraph.expressions import is_taken
from beamslot.flowgraph.reading import Node, cite, is_name, read_text
from beamslot.runtime.graph import near, nearest


@dataclass
class Head:
    """A block as written, before its class is known; messages call it by its path, the name if it has one.

    options: how it is run    overrides: for its parameters or its options, which is clear when its class is known
    """

    place: str
    path: str
    name: str
    id: Node | None
    parameters: dict[str, Node]
    enabled: bool
    options: dict[str, Node] = field(default_factory=dict[str, Node])
    overrides: dict[str, Node] = field(default_factory=dict[str, Node])


@dataclass
class Edge:
    """A connection as written, before its blocks are known."""

    place: str
    ends: list[str]
    params: dict[str, Node] = field(default_factory=dict[str, Node])


@dataclass
class Entry:
    """An entry of the timeline as written."""

    place: str
    path: str
    options: dict[str, Node]
    parameters: dict[str, Node]


class Draft:
    """The sections of a flowgraph, their form checked.

    nameless, lost: whether some block has no name, and some connection could not be read
    """

    def __init__(self, document: Node, problems: list[FlowgraphError]) -> None:
        if document.entries is None:
            came = "is empty" if document.value is None else f"got {document}"
            raise FlowgraphError(cite(document.place, "", f"{came}; wanted a mapping of {', '.join(SECTIONS)}"))
        self.problems = problems
        self.nameless = self.lost = False
        top = self._mapping(document, "", SECTIONS)
        options = self._mapping(top.get("options"), "options", ("parameters", "states"))
        self.options = self._mapping(options.get("parameters"), "options.parameters", RunOptions.model_fields)
        self.variables = self._mapping(top.get("variables"), "variables")
        self.heads = [self._head(node, f"blocks[{i}]") for i, node in enumerate(self._list(top, "blocks"))]
        edges = [self._edge(node, f"connections[{i}]") for i, node in enumerate(self._list(top, "connections"))]
        self.edges = [edge for edge in edges if edge is not None]
        self.lost = self.lost or len(edges) > len(self.edges)
        self.changes = [self._change(node, f"timeline[{i}]") for i, node in enumerate(self._list(top, "timeline"))]
        if not problems and not any(head.enabled for head in self.heads):
            self.complain(top.get("blocks", document).place, "blocks", "there is none, or none that is enabled")
        self._check_variables()
        self._check_format(self._mapping(top.get("metadata"), "metadata").get("file_format"))

    @property
    def names(self) -> list[str]:
        """The names of the blocks, disabled ones too."""
        return [head.name for head in self.heads if head.name]

    def complain(self, place: str, path: str, text: str, kind: type[FlowgraphError] = FlowgraphError) -> None:
        """Note a problem."""
        self.problems.append(kind(cite(place, path, text)))

    def override(self, text: str) -> None:
        """Put the value of "name=value" or "block.key=value" in place of what is written."""
        place = f"-p {text}"
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            self.complain(place, "", "wanted variable=value or block.parameter=value", BadParam)
            return
        try:
            node, problems = read_text(value, place, lines=False)
        except FlowgraphError as error:
            self.problems.append(error)
            return
        self.problems += problems
        self._put(name, node)

    def _put(self, name: str, node: Node) -> None:
        block, dot, key = name.partition(".")
        if dot:
            found = [head for head in self.heads if head.name == block]
            if not found:
                self.complain(node.place, "", f"no block is called {block!r}; {near(block, self.names)}", UnknownBlock)
            for head in found:
                head.overrides[key] = node
        elif name in self.variables or name in RunOptions.model_fields:
            (self.variables if name in self.variables else self.options)[name] = node
        else:
            same = [
                f"{head.name}.{key}" for head in self.heads for key in (*head.parameters, *head.options) if key == name
            ]
            advice = f"did you mean {same[0]!r}?" if same else near(name, [*self.variables, *RunOptions.model_fields])
            self.complain(node.place, "", f"no variable or run option is called {name!r}; {advice}", BadParam)

    def with_restart(self, options: Mapping[str, Node], path: str) -> dict[str, Node]:
        """Return options, what is not known of their restart policy reported and left out."""
        node = options.get("restart")
        if node is None or node.entries is None:
            return dict(options)
        known = self._mapping(node, _join(path, "restart"), RestartOptions.model_fields)
        return {**options, "restart": Node(known, node.place)}

    def _mapping(self, node: Node | None, path: str, known: Iterable[str] | None = None) -> dict[str, Node]:
        """Return the entries of a mapping that are known or nearly so; an absent or empty one has none."""
        if node is None or node.value is None:
            return {}
        if node.entries is None:
            self.complain(node.place, path, f"got {node}; wanted a mapping")
            return {}
        options = list(node.entries if known is None else known)
        found = {key: item for key, item in node.entries.items() if key in options}
        for key, item in node.entries.items():
            if key not in options:
                self.complain(item.place, _join(path, key), _unknown_key(key, path, options))
                # Taken for what was meant, so that it is not missed as well.
                found.setdefault(nearest(key, options) or key, item)
        return {key: item for key, item in found.items() if key in options}

    def _list(self, top: Mapping[str, Node], key: str) -> list[Node]:
        node = top.get(key)
        if node is None or node.value is None:
            return []
        if node.items is None:
            self.complain(node.place, key, f"got {node}; wanted a list")
            self.lost = True
        return node.items or []

    def _name(self, entries: Mapping[str, Node], key: str, place: str, path: str) -> Node | None:
        """Return the entry if it is the name of something."""
        node = entries.get(key)
        if node is None:
            self.complain(place, path, f"has no {key}")
        elif not is_name(node.value):
            self.complain(node.place, _join(path, key), f"got {node}; wanted a name")
            return None
        return node

    def _head(self, node: Node, path: str) -> Head:
        if node.entries is None:
            self.complain(node.place, path, f"got {node}; wanted a mapping of {', '.join(BLOCK_KEYS)}")
            self.nameless = True
            return Head(node.place, path, "", None, {}, enabled=False)
        called = node.entries.get("name")
        at = called.value if called and is_name(called.value) else path
        entries = self._mapping(node, at, BLOCK_KEYS)
        given = self._name(entries, "name", node.place, path)
        name = "" if given is None else given.value
        self.nameless = self.nameless or not name
        path = name or path
        if given is not None:
            self._check_name(name, given.place, _join(path, "name"))
        return Head(
            place=node.place,
            path=path,
            name=name,
            id=self._name(entries, "id", node.place, path),
            parameters=self._mapping(entries.get("parameters"), f"{path}.parameters"),
            enabled=self._is_enabled(self._mapping(entries.get("states"), f"{path}.states", ("state", *LAYOUT)), path),
            options={key: item for key, item in entries.items() if key in BlockOptions.model_fields},
        )

    def _is_enabled(self, states: Mapping[str, Node], path: str) -> bool:
        node = states.get("state")
        if node is not None and node.value not in STATES:
            advice = f"wanted {' or '.join(STATES)}"
            if node.value == "bypassed":
                advice = "a block cannot be bypassed; disable it and connect its neighbours to each other"
            self.complain(node.place, f"{path}.states.state", f"got {node}; {advice}")
        return node is None or node.value != "disabled"

    def _check_name(self, name: str, place: str, path: str) -> None:
        if re.match(NAME, name):
            return
        simple = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        advice = f"; did you mean {simple!r}?" if re.match(NAME, simple) else ""
        self.complain(place, path, f"got {name!r}; wanted a name of a-z, 0-9 and _ that begins with a letter{advice}")

    def _change(self, node: Node, path: str) -> Entry:
        entries = self._mapping(node, path, CHANGE_KEYS)
        parameters = self._mapping(entries.pop("parameters", None), f"{path}.parameters")
        if not parameters and node.entries is not None:
            self.complain(node.place, path, "has no parameters that change")
        return Entry(node.place, path, entries, parameters)

    def _edge(self, node: Node, path: str) -> Edge | None:
        if node.entries is not None:
            entries = self._mapping(node, path, (*EDGE_ENDS, "params"))
            missing = [key for key in EDGE_ENDS if key not in entries]
            if missing:
                self.complain(node.place, path, f"has no {', '.join(missing)}")
                return None
            params = self._mapping(entries.get("params"), f"{path}.params", EdgeOptions.model_fields)
            return self._edge_of([entries[key] for key in EDGE_ENDS], params, node.place, path)
        if node.items is None or len(node.items) != len(EDGE_ENDS):
            came = f"{len(node.items)} entries" if node.items is not None else str(node)
            self.complain(node.place, path, f"got {came}; wanted [block, port, block, port]")
            return None
        return self._edge_of(node.items, {}, node.place, path)

    def _edge_of(self, ends: list[Node], params: dict[str, Node], place: str, path: str) -> Edge | None:
        # Ports of GNU Radio are numbers; as one of ours it is unknown, which is said with what there is.
        bad = [end for end in ends if type(end.value) is not int and not is_name(end.value)]
        for end in bad:
            self.complain(end.place, path, f"got {end}; wanted the name of a block or port")
        return None if bad else Edge(place, [str(end.value) for end in ends], params)

    def _check_variables(self) -> None:
        for name, node in self.variables.items():
            self._check_name(name, node.place, f"variables.{name}")
            if is_taken(name):
                self.complain(node.place, f"variables.{name}", f"{name!r} means something in expressions already")

    def _check_format(self, node: Node | None) -> None:
        if node is not None and node.value != FILE_FORMAT:
            self.complain(node.place, "metadata.file_format", f"got {node}; wanted {FILE_FORMAT}, the one that is read")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _unknown_key(key: str, path: str, options: list[str]) -> str:
    if path == "options" and key in RunOptions.model_fields:
        return "is not known here; it stands under options.parameters"
    return f"is not known; {near(key, options)}"
