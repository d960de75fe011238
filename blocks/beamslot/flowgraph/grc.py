"""Flowgraphs to GNU Radio Companion and back: a description of each block (.block.yml), and the graph (.grc).

Companion draws our graphs and lets them be edited; it cannot run them. Its variables are blocks, its values are texts
that hold Python expressions, and it knows nothing of processes, policies and slots. So

| here | there |
|---|---|
| a block `omp` | a block `beamslot_omp` with message ports of the same names |
| a value | its text as Python writes it; a text that Python would read as something else, in quotes |
| `process`, `replicas`, `restart`, `deadline` of a block | parameters `run_process`, ... of the block |
| `params` of a connection | parameter `run_edges` of the block where it ends, by port |
| `options` beyond `id`, `title`, `description`, `author`; `timeline` | parameters of a block `beamslot_run` |
| `variables` | blocks `variable` |

What comes back is read as plain values: nothing in a file is evaluated.
"""

import ast
import inspect
from collections import defaultdict
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString, SingleQuotedScalarString

from beamslot import catalogue
from beamslot.errors import BadParam, FlowgraphError
from beamslot.flowgraph.declarations import BlockOptions, RunOptions
from beamslot.flowgraph.expressions import parse
from beamslot.flowgraph.reading import Node, cite, read
from beamslot.runtime.block import Block
from beamslot.runtime.graph import near

PREFIX = "beamslot_"
RUN = "beamslot_run"
"""The block that holds how the graph is run."""

SHARED = ("id", "title", "description", "author")
"""Options that Companion's own block has too."""

OWN_RUN = {f"run_{name}": name for name in BlockOptions.model_fields}
EDGES = "run_edges"
COMPANIONS = ("affinity", "alias", "comment", "maxoutbuf", "minoutbuf")
"""Parameters that Companion gives every block; passed over."""

RESERVED = {name: f"{name}_" for name in ("loop", "context", "id", *COMPANIONS)}
"""Parameters that are called otherwise there: Companion, or the templates that it fills, takes their names."""

LONGEST = 100_000
"""No longer text is looked at for a value."""

STEP = (300, 160)
"""How far apart blocks are drawn, across and down."""

FAMILIES = ("sources", "beamformers", "faults", "estimators", "sinks")
"""Packages of blocks, each a category."""


def as_text(value: Any) -> str:
    """Return a value as the text of a parameter.

    >>> as_text(0.001), as_text([1, "2 * n"]), as_text("interleaved"), as_text("28e9"), as_text(True)
    ('0.001', "[1, '2 * n']", 'interleaved', "'28e9'", 'True')
    """
    if isinstance(value, str):
        return value if _literal(value) is _NONE and value == value.strip() else repr(value)
    return repr(value).replace("inf", "1e999")


def from_text(text: str) -> Any:
    """Return the value that the text of a parameter stands for; what is no literal is itself.

    >>> from_text("0.001"), from_text("[1, '2 * n']"), from_text("10 * n"), from_text("'28e9'")
    (0.001, [1, '2 * n'], '10 * n', '28e9')
    """
    value = _literal(text)
    return text if value is _NONE else value


_NONE = object()


def _literal(text: str) -> Any:
    if len(text) > LONGEST:
        return _NONE
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return _NONE
    return _NONE if isinstance(value, complex | bytes | set) or value is ... else value


# the blocks


def block_file(block_id: str, kind: type[Block]) -> str:
    """Return the .block.yml of a block."""
    package = kind.__module__.removeprefix("beamslot.").split(".")[0]
    family = package.capitalize() if package in FAMILIES else "Other"
    return dumped(
        {
            "id": f"{PREFIX}{block_id}",
            "label": block_id,
            "category": f"[beamslot]/{family}",
            "flags": ["python", "not_dsp"],
            "parameters": [
                *(_parameter(name, field) for name, field in kind.model_fields.items()),
                *(_run_parameter(name) for name in (*OWN_RUN, EDGES)),
            ],
            "inputs": [_port(name, optional=port.optional) for name, port in kind.inputs.items()],
            "outputs": [_port(name, optional=True) for name in kind.outputs],
            "templates": {"imports": "import beamslot", "make": "None"},
            "documentation": _text(inspect.getdoc(kind) or ""),
            "file_format": 1,
        }
    )


def run_file() -> str:
    """Return the .block.yml of the block that holds how a graph is run."""
    options = {name: field for name, field in RunOptions.model_fields.items() if name not in SHARED}
    timeline = {"id": "timeline", "label": "timeline", "dtype": "raw", "default": "[]", "hide": "part"}
    return dumped(
        {
            "id": RUN,
            "label": "beamslot run",
            "category": "[beamslot]",
            "flags": ["python", "not_dsp"],
            "parameters": [*(_parameter(name, field) for name, field in options.items()), timeline],
            "templates": {"imports": "import beamslot", "make": "None"},
            "documentation": _text("How the graph is run: slots, their period and pace, seed, restarts."),
            "file_format": 1,
        }
    )


def _parameter(name: str, field: FieldInfo) -> dict[str, Any]:
    unit = field.json_schema_extra.get("unit") if isinstance(field.json_schema_extra, dict) else None
    default = "" if field.is_required() else as_text(field.get_default(call_default_factory=True))
    made: dict[str, Any] = {
        "id": RESERVED.get(name, name),
        "label": f"{name} [{unit}]" if unit else name,
        "dtype": "raw",
        "default": default,
        "hide": "none" if field.is_required() else "part",
    }
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if choices and all(isinstance(one, str) for one in choices):
        return made | {"dtype": "enum", "options": list(choices), "default": default or choices[0]}
    return made | ({"dtype": "string"} if _may_be_text(field.annotation) else {})


def _may_be_text(annotation: Any) -> bool:
    """Whether a value may be a word, which Companion would look up as a variable where it reads an expression."""
    if get_origin(annotation) is Literal:
        return any(isinstance(one, str) for one in get_args(annotation))
    if isinstance(get_origin(annotation), type) and get_origin(annotation) in (list, tuple, dict):
        return False
    return annotation is str or any(_may_be_text(one) for one in get_args(annotation))


def _run_parameter(name: str) -> dict[str, Any]:
    default = "{}" if name == EDGES else as_text(BlockOptions.model_fields[OWN_RUN[name]].default)
    dtype = "raw" if name == EDGES else "string"
    return {"id": name, "label": name, "dtype": dtype, "default": default, "category": "Run", "hide": "part"}


def _port(name: str, optional: bool) -> dict[str, Any]:
    return {"id": name, "label": name, "domain": "message", "optional": optional}


# the graph, there


def to_grc(source: Path | str | Mapping[str, Any]) -> str:
    """Return a flowgraph as a .grc.

    raises FlowgraphError where it cannot be read
    """
    document, problems = read(source)
    if problems or document.entries is None:
        raise FlowgraphError(*problems or [cite(document.place, "", f"got {document}; wanted a flowgraph")])
    top = _plain(document)
    options = dict((top.get("options") or {}).get("parameters") or {})
    options.setdefault("id", Path(source).stem if isinstance(source, str | Path) else "graph")
    blocks, edges = top.get("blocks") or [], [_ends(edge) for edge in top.get("connections") or []]
    places = _layout([block["name"] for block in blocks], edges)
    held = {name: value for name, value in options.items() if name not in SHARED}
    held |= {"timeline": top["timeline"]} if top.get("timeline") else {}
    made: list[dict[str, Any]] = []
    variables = top.get("variables") or {}
    for number, (name, value) in enumerate(variables.items()):
        text = repr(value) if isinstance(value, str) and not _is_expression(value, variables) else as_text(value)
        made.append(_drawn(name, "variable", {"value": text}, (300 + 180 * number, 8)))
    if held:
        taken = {block["name"] for block in blocks}
        name = next(one for one in (RUN, *(f"{RUN}_{k}" for k in range(len(taken) + 1))) if one not in taken)
        made.append(_drawn(name, RUN, _texts(held), (8, 160)))
    made += [_drawn_block(block, edges, places[block["name"]]) for block in blocks]
    return dumped(
        {
            "options": {
                "parameters": {**_companion(options), "output_language": "python", "generate_options": "no_gui"},
                "states": _states((8, 8)),
            },
            "blocks": made,
            "connections": [ends for ends, _ in edges],
            "metadata": {"file_format": 1},
        }
    )


def _is_expression(text: str, variables: Mapping[str, Any]) -> bool:
    """Whether a variable is worked out from others; else it is a word, which Companion wants in quotes."""
    try:
        return all(name in variables for name in parse(text).names)
    except BadParam:
        return False


def _companion(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: SingleQuotedScalarString(options[name]) for name in SHARED if name in options}


def _ends(edge: Any) -> tuple[list[str], dict[str, Any]]:
    if isinstance(edge, Mapping):
        return [edge[f"{end}_{what}_id"] for end in ("src", "snk") for what in ("blk", "port")], dict(
            edge.get("params") or {}
        )
    return list(edge), {}


def _drawn_block(block: Mapping[str, Any], edges: Iterable[Any], place: tuple[int, int]) -> dict[str, Any]:
    queued = {
        f"{ends[0]}.{ends[1]} > {ends[3]}": params for ends, params in edges if params and ends[2] == block["name"]
    }
    given = dict(block.get("parameters") or {})
    given |= {said: block[name] for said, name in OWN_RUN.items() if name in block}
    given |= {EDGES: queued} if queued else {}
    state = (block.get("states") or {}).get("state", "enabled")
    return _drawn(block["name"], f"{PREFIX}{block['id']}", _texts(given), place, state)


def _drawn(
    name: str, block_id: str, parameters: Mapping[str, str], place: tuple[int, int], state: str = "enabled"
) -> dict[str, Any]:
    quoted = {key: SingleQuotedScalarString(text) for key, text in parameters.items()}
    return {"name": name, "id": block_id, "parameters": quoted, "states": _states(place, state)}


def _states(place: tuple[int, int], state: str = "enabled") -> dict[str, Any]:
    return {"coordinate": list(place), "rotation": 0, "state": state}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {RESERVED.get(name, name): as_text(value) for name, value in values.items()}


def _layout(names: list[str], edges: Iterable[tuple[list[str], Any]]) -> dict[str, tuple[int, int]]:
    """Return where to draw each block: behind all that feeds it, below those that are as far along."""
    depth = dict.fromkeys(names, 0)
    pairs = [(ends[0], ends[2]) for ends, _ in edges if ends[0] in depth and ends[2] in depth]
    for _ in names:  # as often as a path may be long; a graph that cannot run may have rings
        for source, target in pairs:
            depth[target] = min(max(depth[target], depth[source] + 1), len(names))
    rows: defaultdict[int, int] = defaultdict(int)
    places: dict[str, tuple[int, int]] = {}
    for name in names:
        rows[depth[name]] += 1
        places[name] = (8 + STEP[0] * depth[name], 120 + STEP[1] * rows[depth[name]])
    return places


# the graph, back


def from_grc(source: Path | str, own: Mapping[str, type[Block]] = catalogue.NOTHING) -> dict[str, Any]:
    """Return the flowgraph that a .grc holds, as `flowgraph.load` reads it.

    own: blocks of one's own by id
    raises FlowgraphError with every block that is not ours, and what else is none of a flowgraph of ours
    """
    document, problems = read(source)
    top = document.entries
    if problems or top is None:
        raise FlowgraphError(*problems or [cite(document.place, "", f"got {document}; wanted a .grc")])
    back = _Back(own)
    made = back.graph(top)
    if back.problems:
        raise FlowgraphError(*back.problems)
    return made


class _Back:
    """Reads the sections of a .grc, and collects what cannot be read."""

    def __init__(self, own: Mapping[str, type[Block]]) -> None:
        self.own = own
        self.problems: list[FlowgraphError] = []
        self.queued: dict[str, Any] = {}

    def graph(self, top: Mapping[str, Node]) -> dict[str, Any]:
        options = top["options"].entries if "options" in top else None
        said = _plain((options or {})["parameters"]) if options and "parameters" in options else {}
        parameters = {name: said[name] for name in SHARED if said.get(name)} if isinstance(said, dict) else {}
        variables: dict[str, Any] = {}
        blocks: list[dict[str, Any]] = []
        timeline: Any = None
        for node in top["blocks"].items or [] if "blocks" in top else []:
            name, block_id, given = self._head(node)
            if block_id == "variable":
                variables[name] = from_text(str(given.get("value", "")))
            elif block_id == RUN:
                held = self._given(node, given, RunOptions.model_fields | {"timeline": FieldInfo(default=[])})
                timeline = held.pop("timeline", None)
                parameters |= held
            elif block_id.startswith(PREFIX):
                blocks.append(self._block(node, name, block_id.removeprefix(PREFIX), given))
            else:
                text = f"is a {block_id}; wanted blocks of beamslot and variables alone"
                self.problems.append(FlowgraphError(cite(node.place, name, text)))
        edges = [self._edge(node) for node in (top["connections"].items or [] if "connections" in top else [])]
        made: dict[str, Any] = {"options": {"parameters": parameters}}
        made |= {"variables": variables} if variables else {}
        made |= {"blocks": blocks, "connections": edges}
        made |= {"timeline": timeline} if timeline else {}
        return made | {"metadata": {"file_format": 1}}

    def _head(self, node: Node) -> tuple[str, str, dict[str, Any]]:
        plain = _plain(node)
        if not isinstance(plain, dict) or not all(isinstance(plain.get(key), str) for key in ("name", "id")):
            self.problems.append(FlowgraphError(cite(node.place, "", f"got {node}; wanted a block with name and id")))
            return "", "variable", {}
        given = plain.get("parameters")
        return plain["name"], plain["id"], given if isinstance(given, dict) else {}

    def _block(self, node: Node, name: str, block_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {"name": name, "id": block_id}
        try:
            kind = catalogue.find(block_id, self.own)
        except FlowgraphError as error:
            self.problems.append(FlowgraphError(cite(node.place, name, str(error))))
            return made
        run = {said: FieldInfo(default=BlockOptions.model_fields[name].default) for said, name in OWN_RUN.items()}
        values = self._given(node, given, {**kind.model_fields, **run, EDGES: FieldInfo(default={})})
        for ends, params in (values.pop(EDGES, None) or {}).items():
            self.queued[f"{ends.partition(' > ')[0]} > {name}.{ends.partition(' > ')[2]}"] = params
        options = {OWN_RUN[said]: values.pop(said) for said in OWN_RUN if said in values}
        made |= {"parameters": values} if values else {}
        state = (_plain(node).get("states") or {}).get("state", "enabled")
        if state == "bypassed":
            self.problems.append(
                FlowgraphError(cite(node.place, name, "is bypassed; a block here is enabled or disabled"))
            )
        made |= {"states": {"state": "disabled"}} if state == "disabled" else {}
        return made | options

    def _given(self, node: Node, given: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
        """Return the parameters that are not as they would be anyway."""
        made: dict[str, Any] = {}
        called = {RESERVED.get(name, name): name for name in fields}
        for there, text in given.items():
            name = called.get(there, there)
            field = fields.get(name) if there in called else None
            if field is None:
                if there not in COMPANIONS:
                    self.problems.append(
                        FlowgraphError(cite(node.place, name, f"is no parameter; {near(name, fields)}"))
                    )
                continue
            if not field.is_required() and str(text) == as_text(field.get_default(call_default_factory=True)):
                continue
            made[name] = from_text(text) if isinstance(text, str) else text
        return made

    def _edge(self, node: Node) -> Any:
        ends = _plain(node)
        if not (isinstance(ends, list) and len(ends) == 4):
            self.problems.append(FlowgraphError(cite(node.place, "", f"got {node}; wanted [block, port, block, port]")))
            return ends
        ends = [str(one) for one in ends]
        params = self.queued.get(f"{ends[0]}.{ends[1]} > {ends[2]}.{ends[3]}")
        if not params:
            return ends
        names = ("src_blk_id", "src_port_id", "snk_blk_id", "snk_port_id")
        return {**dict(zip(names, ends, strict=True)), "params": params}


def _plain(node: Node) -> Any:
    if node.entries is not None:
        return {name: _plain(one) for name, one in node.entries.items()}
    if node.items is not None:
        return [_plain(one) for one in node.items]
    return node.value


def _text(text: str) -> str:
    return LiteralScalarString(text) if "\n" in text else text


def dumped(document: Mapping[str, Any]) -> str:
    """Return a flowgraph as YAML, in the order of the mapping."""
    writer = YAML(pure=True)
    writer.default_flow_style = None
    writer.width = 110
    target = StringIO()
    writer.dump(document, target)
    return target.getvalue()
