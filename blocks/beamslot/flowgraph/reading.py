"""YAML 1.2, or the same structure from Python, as a tree of plain values that know where they were written.

The scanner and parser are ruamel's; the tree is built here from their events, so that every value has its line,
duplicate keys are reported with both lines, and nothing but texts, numbers, truth values, null, lists and mappings
can come out of a file: tags are refused, aliases are counted by what they stand for, depth and size are bounded.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)
from ruamel.yaml.reader import ReaderError

from beamslot.errors import FlowgraphError
from beamslot.runtime.graph import near, shown

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 10_000
"""Values of one file, what aliases stand for counted every time."""

MAX_NAME = 100

NULLS = {"", "~", "null", "Null", "NULL"}
TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")


SLIPS = (
    (re.compile(r" *\t"), "a tab in the indentation; wanted spaces"),
    (re.compile(r"\s*-?\s*\w+:[^\s:/]"), "no space after ':'; wanted 'name: value'"),
    (re.compile(r"\s*-[^\s\d.-]"), "no space after '-'; wanted '- item'"),
)
"""What a line looks like that was written in haste, and what to say of it."""

WORDS = (
    ("',' or", "begun", "the bracket that opens here is not closed, or a comma is missing"),
    ("end of stream", "begun", "the quote that opens here is not closed"),
    (
        "expected ':'",
        "begun",
        "wanted 'name: value' or '- item'; is a ':' or a '-' missing, or is it indented wrongly?",
    ),
    (
        "mapping values",
        "problem",
        "a ':' too many for this place; is it indented like its neighbours? is a text in quotes?",
    ),
    ("<block end>", "problem", "indented unlike its neighbours; wanted what belongs together in one column"),
    ("cannot start any token", "problem", "a text that begins with this character needs quotes"),
)
"""What the parser says, whether the mistake is where the thing began or where it noticed, and what we say."""


@dataclass(frozen=True)
class Node:
    """A value and where it was written: "demo.yml:12", "blocks[2].parameters.users" or "-p users=2".

    value: a scalar, a list of nodes, or a dict of nodes by text
    size: how many values it is made of
    """

    value: Any
    place: str
    size: int = 1

    @property
    def entries(self) -> dict[str, "Node"] | None:
        """The entries of a mapping; None where this is none."""
        return cast("dict[str, Node]", self.value) if isinstance(self.value, dict) else None

    @property
    def items(self) -> list["Node"] | None:
        """The items of a list; None where this is none."""
        return cast("list[Node]", self.value) if isinstance(self.value, list) else None

    def __str__(self) -> str:
        if isinstance(self.value, dict | list):
            return "a mapping" if isinstance(self.value, dict) else "a list"
        if self.value is None or isinstance(self.value, bool):
            return "nothing" if self.value is None else str(self.value).lower()
        return shown(self.value)


def cite(place: str, path: str, text: str) -> str:
    """Return a message: where it was written, what it is about, what is wrong.

    >>> cite("demo.yml:3", "options.parameters.slots", "got 0")
    'demo.yml:3: options.parameters.slots: got 0'
    """
    return ": ".join(part for part in (place, path if path != place else "", text) if part)


def read(source: Any) -> tuple[Node, list[FlowgraphError]]:
    """Return the tree of a flowgraph file, or of the same structure in Python, and its duplicate keys.

    source: the path of a file, or a mapping
    raises FlowgraphError where nothing can be made of it
    """
    if isinstance(source, str | Path):
        return read_text(read_file(Path(source)), str(source))
    return from_python(source), []


def read_file(file: Path) -> str:
    """Return the text of a file.

    raises FlowgraphError where it is not there, not readable, too large or not UTF-8
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        beside = [str(p) for p in _listed(file.parent) if p.suffix in (".yml", ".yaml")]
        raise FlowgraphError(f"{file}: no such file{f'; {near(str(file), beside)}' if beside else ''}") from None
    except OSError as error:
        raise FlowgraphError(f"{file}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > MAX_BYTES:
        raise FlowgraphError(f"{file}: is larger than {MAX_BYTES} bytes; a flowgraph is not")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FlowgraphError(f"{file}:{line}: not UTF-8: byte 0x{data[error.start]:02x}") from None


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def read_text(text: str, name: str, *, lines: bool = True) -> tuple[Node, list[FlowgraphError]]:
    """Return the tree of a YAML text and its duplicate keys.

    name: what the places begin with    lines: whether they go on with the line
    raises FlowgraphError where it is no YAML, or more than a flowgraph may hold
    """
    composer = _Composer(name, lines)
    try:
        return composer.compose(YAML(typ="safe", pure=True).parse(text)), composer.problems
    except MarkedYAMLError as error:
        line, said = _in_words(error, text.split("\n"))
        raise FlowgraphError(f"{name}{f':{line + 1}' if lines else ''}: not YAML: {said}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise FlowgraphError(f"{name}{f':{line}' if lines else ''}: not YAML: {error.reason}") from None
    except (YAMLError, ValueError, OverflowError) as error:
        raise FlowgraphError(f"{name}: not YAML: {error}") from None


def _in_words(error: Any, lines: list[str]) -> tuple[int, str]:
    """Return the line that is probably wrong, counted from 0, and what is wrong with it.

    The parser notices a mistake where it reads on, which may be a line or two behind it.
    """
    problem, begun = error.problem_mark or error.context_mark, error.context_mark or error.problem_mark
    said = str(error.problem)
    for line in sorted({begun.line, max(0, problem.line - 1), problem.line}):
        written = lines[line] if line < len(lines) else ""
        for pattern, words in SLIPS:
            if pattern.match(written):
                return line, words
    for part, at, words in WORDS:
        if part in said:
            return (begun if at == "begun" else problem).line, words
    return problem.line, ", ".join(str(part) for part in (error.context, error.problem) if part)


class _Composer:
    """Builds the tree from parser events."""

    def __init__(self, name: str, lines: bool) -> None:
        self._name, self._lines = name, lines
        self._anchors: dict[str, Node | None] = {}
        self._depth = self._values = 0
        self.problems: list[FlowgraphError] = []

    def place(self, mark: Any) -> str:
        return f"{self._name}:{mark.line + 1}" if self._lines and mark is not None else self._name

    def compose(self, events: Iterator[Event]) -> Node:
        """Return the one document."""
        node = Node(None, self._name)
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                self._check_document(event, documents)
            elif isinstance(event, NodeEvent):
                node = self._node(event, events)
        return node

    def _check_document(self, event: Any, documents: int) -> None:
        if documents > 1:
            raise FlowgraphError(f"{self.place(event.start_mark)}: a second document begins; wanted one a file")
        if event.version not in (None, (1, 2)) or event.tags:
            raise FlowgraphError(f"{self.place(event.start_mark)}: has directives; wanted plain YAML 1.2")

    def _node(self, event: Any, events: Iterator[Event], key_mark: Any = None) -> Node:
        place = self.place(key_mark or event.start_mark)
        if isinstance(event, AliasEvent):
            return self._alias(event, place)
        if event.ctag is not None:
            raise FlowgraphError(f"{place}: has the tag {shown(str(event.ctag))}; tags are not read, write the value")
        self._count(1, place)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, ScalarEvent):
            node = Node(scalar(event.value) if event.implicit[0] else event.value, place)
        else:
            node = self._collection(event, events, place)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, place: str) -> Node:
        if event.anchor not in self._anchors:
            raise FlowgraphError(f"{place}: nothing is anchored as {shown(event.anchor)} before this line")
        node = self._anchors[event.anchor]
        if node is None:
            raise FlowgraphError(f"{place}: the alias {shown(event.anchor)} stands within what it stands for")
        self._count(node.size, place)
        return Node(node.value, place, node.size)

    def _count(self, values: int, place: str) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise FlowgraphError(f"{place}: the file holds more than {MAX_VALUES} values; a flowgraph does not")

    def _collection(self, event: Event, events: Iterator[Event], place: str) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise FlowgraphError(f"{place}: nests deeper than {MAX_DEPTH}; a flowgraph does not")
        value = self._mapping(events) if isinstance(event, MappingStartEvent) else self._sequence(events)
        self._depth -= 1
        return Node(value, place, 1 + sum(n.size for n in (value.values() if isinstance(value, dict) else value)))

    def _sequence(self, events: Iterator[Event]) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(events), SequenceEndEvent):
            items.append(self._node(event, events))
        return items

    def _mapping(self, events: Iterator[Event]) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            key = self._node(event, events)
            name = event.value if isinstance(event, ScalarEvent) else key.value
            value = self._node(next(events), events, event.start_mark)
            if not is_name(name):
                self.problems.append(FlowgraphError(f"{key.place}: {key} stands as a key; wanted a name"))
            elif name in entries:
                self.problems.append(
                    FlowgraphError(f"{key.place}: {shown(name)} stands twice; it stands first at {entries[name].place}")
                )
            else:
                entries[name] = value
        return entries


def scalar(text: str) -> Any:
    """Return what a plain scalar means by the YAML 1.2 core schema.

    >>> scalar("28e9"), scalar("0x1f"), scalar("yes"), scalar("~"), scalar("-.inf")
    (28000000000.0, 31, 'yes', None, -inf)
    """
    if text in NULLS:
        return None
    if text in TRUTHS:
        return TRUTHS[text]
    if len(text) < 400 and WHOLE.fullmatch(text):
        return int(text, 10 if text[-1] == text or text[1] not in "ox" else 0)
    if REAL.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    special = SPECIAL.fullmatch(text)
    if special:
        return float(f"{special[1]}{special[2]}")
    return text


def from_python(value: Any, place: str = "", depth: int = 0) -> Node:
    """Return the tree of a structure given in Python; its places are paths, "blocks[2].parameters.users".

    NumPy arrays and scalars count as the lists and numbers that they hold.

    raises FlowgraphError where it nests too deep or a key is no text
    """
    if depth > MAX_DEPTH:
        raise FlowgraphError(f"{place}: nests deeper than {MAX_DEPTH}; a flowgraph does not")
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        entries: dict[str, Node] = {}
        for key, item in cast("Mapping[Any, Any]", value).items():
            if not is_name(key):
                raise FlowgraphError(f"{_within(place)}{shown(key)} stands as a key; wanted a name")
            entries[key] = from_python(item, f"{place}.{key}" if place else key, depth + 1)
        return Node(entries, place)
    if isinstance(value, list | tuple):
        items = [from_python(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(cast("list[Any]", value))]
        return Node(items, place)
    return Node(value, place)


def is_name(value: Any) -> bool:
    """Return whether a value can name something, and stand in a message as it is.

    >>> is_name("n_y"), is_name("5"), is_name(5), is_name("\\x1b[31m")
    (True, True, False, False)
    """
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _within(place: str) -> str:
    return f"{place}: " if place else ""
