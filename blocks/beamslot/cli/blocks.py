"""`beamslot blocks`: what there is to build graphs from, read from the blocks' own declarations."""

import argparse
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from beamslot.api import to_plain
from beamslot.cli import options
from beamslot.cli.run import printer

if TYPE_CHECKING:
    from beamslot.runtime.block import Block, Port

LIMITS = (
    ("minimum", ">= {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "<= {}"),
    ("exclusiveMaximum", "< {}"),
    ("minItems", "at least {} values"),
    ("maxItems", "at most {} values"),
    ("minLength", "at least {} characters"),
    ("pattern", "like {}"),
)


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs, "blocks", _act, "list the blocks, or tell all about one", "beamslot blocks combiner"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a block id")
    options.add_blocks(parser)
    what = parser.add_mutually_exclusive_group()
    options.add_json(what)
    what.add_argument("--schema", action="store_true", help="print the JSON schema of flowgraph files, for editors")


def _act(arguments: argparse.Namespace) -> int:
    from beamslot import catalogue, flowgraph

    if arguments.schema:
        options.print_json(flowgraph.schema(arguments.blocks), indent=2)
        return 0
    extra = catalogue.collect(arguments.blocks)
    if arguments.name:
        found = describe(arguments.name, catalogue.find(arguments.name, extra))
        _print_block(found) if not arguments.json else options.print_json(found, indent=2)
        return 0
    every = [_described(name, extra) for name in catalogue.ids(extra)]
    _print_list(every) if not arguments.json else options.print_json(every, indent=2)
    return 0


def _described(name: str, extra: "Mapping[str, type[Block]]") -> dict[str, Any]:
    """Return what a block declares, or why it cannot be had here."""
    from beamslot import catalogue
    from beamslot.errors import FlowgraphError

    try:
        return describe(name, catalogue.find(name, extra))
    except FlowgraphError as error:
        return {"id": name, "doc": str(error), "inputs": [], "outputs": []}


def describe(name: str, kind: "type[Block]") -> dict[str, Any]:
    """Return what a block declares, as plain values."""
    return {
        "id": name,
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "doc": inspect.getdoc(kind) or "",
        "inputs": [_port(port) for port in kind.inputs.values()],
        "outputs": [_port(port) for port in kind.outputs.values()],
        "parameters": parameters(kind),
        "stateful": kind.stateful,
        "resumes": kind.resumes(),
        "single": why_single(kind),
    }


def why_single(kind: "type[Block]") -> str:
    """Return why a block of a class cannot have replicas in any graph, or nothing."""
    from beamslot.runtime import graph
    from beamslot.runtime.block import Block, RunContext

    class Bare(graph.BlockSpec):
        def build(self, context: RunContext | None = None) -> Block:
            required = [name for name, field in self.kind.model_fields.items() if field.is_required()]
            return self.kind.model_construct(None, **dict.fromkeys(required, 1))

    specs = {"before": Bare("before", Block), "it": Bare("it", kind), "behind": Bare("behind", Block)}
    edges = [graph.EdgeSpec("before", port, "it", port) for port, one in kind.inputs.items() if not one.optional]
    edges += [graph.EdgeSpec("it", port, "behind", port) for port in kind.outputs]
    return graph.why_single(graph.Graph(name="it", blocks=specs, edges=tuple(edges)), "it")


def _port(port: "Port") -> dict[str, Any]:
    arrays = [
        {"name": name, "axes": list(array.axes), "dtype": str(array.dtype), "unit": array.unit}
        for name, array in port.arrays.items()
    ]
    said = {key: value for key in ("many", "optional", "window", "hop") if (value := getattr(port, key, None))}
    return {"port": port.name, "arrays": arrays, **said}


def parameters(kind: "type[Block]") -> list[dict[str, Any]]:
    """Return name, type, range, default, unit, description, and whether it may change in a run, of each parameter."""
    from beamslot.runtime.parameters import is_live

    schema = kind.model_json_schema()
    shared = schema.get("$defs", {})
    found: list[dict[str, Any]] = []
    for name, field in kind.model_fields.items():
        declared = schema["properties"][name]
        required = field.is_required()
        one = {
            "name": name,
            "type": type_text(declared, shared),
            "range": range_text(declared),
            "required": required,
            "live": is_live(field),
            "default": None if required else to_plain(field.get_default(call_default_factory=True)),
            "unit": declared.get("unit", ""),
            "description": declared.get("description", ""),
        }
        found.append(one)
    return found


def type_text(declared: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """Return the type of a parameter in words."""

    def text(other: Mapping[str, Any]) -> str:
        return type_text(other, shared)

    if "$ref" in declared:
        return text(shared[declared["$ref"].rpartition("/")[2]])
    if "anyOf" in declared:
        return " or ".join(text(choice) for choice in declared["anyOf"])
    if "enum" in declared or "const" in declared:
        return " | ".join(str(value) for value in declared.get("enum", [declared.get("const")]))
    if "prefixItems" in declared:
        return f"[{', '.join(text(item) for item in declared['prefixItems'])}]"
    kind = str(declared.get("format") or declared.get("type") or "any")
    items = f" of {text(declared['items'])}" if declared.get("items") else ""
    return {"array": f"list{items}", "null": "none"}.get(kind, kind)


def range_text(declared: Mapping[str, Any]) -> str:
    """Return the limits of a parameter in words."""
    choices = [choice for choice in declared.get("anyOf", [declared]) if "prefixItems" not in choice]
    said = [text.format(_short(choice[key])) for choice in choices for key, text in LIMITS if key in choice]
    return ", ".join(said)


def example(found: Mapping[str, Any]) -> str:
    """Return a block as it stands in a flowgraph, every parameter at its default."""
    lines = [f"- name: {found['id']}", f"  id: {found['id']}"]
    if found["parameters"]:
        lines.append("  parameters:")
    for one in found["parameters"]:
        value = "..." if one["required"] else json.dumps(one["default"], ensure_ascii=False)
        lines.append(f"    {one['name']}: {value}")
    return "\n".join(lines)


def _print_list(every: Sequence[Mapping[str, Any]]) -> None:
    from beamslot.tables import Sheet, render

    rows = [[one["id"], _names(one["inputs"]), _names(one["outputs"]), _first(one["doc"])] for one in every]
    printer().print(render(Sheet("Blocks", ("id", "takes", "gives", "what it does"), rows, left=4)))


def _names(ports: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(port["port"] for port in ports) or "-"


def _first(doc: str) -> str:
    return " ".join(doc.partition("\n\n")[0].split())


def _print_block(found: Mapping[str, Any]) -> None:
    from beamslot.tables import Sheet, render

    out = printer()
    out.print(f"{found['id']}  ({found['class']})\n{found['doc']}\n", markup=False)
    rows = [
        [direction, port["port"], array["name"], " ".join(array["axes"]), array["dtype"], array["unit"], _notes(port)]
        for direction in ("inputs", "outputs")
        for port in found[direction]
        for array in port["arrays"] or [{"name": "any stream", "axes": [], "dtype": "", "unit": ""}]
    ]
    rows = [[row[0].removesuffix("s"), *row[1:]] for row in rows]
    out.print(render(Sheet("Ports", ("", "port", "array", "axes", "dtype", "unit", ""), rows, left=7)))
    rows = [
        [p["name"], p["type"], p["range"], _default(p), p["unit"], "live" if p["live"] else "", p["description"]]
        for p in found["parameters"]
    ]
    if rows:
        out.print()
        heads = ("parameter", "type", "range", "default", "unit", "?live", "meaning")
        out.print(render(Sheet("Parameters", heads, rows, left=7)))
    out.print(f"\nState     {_state(found)}\nReplicas  {_replicas(found)}", markup=False, soft_wrap=True)
    out.print(f"\nIn a flowgraph\n{example(found)}", markup=False)


def _state(found: Mapping[str, Any]) -> str:
    if found["resumes"]:
        return "has some, and a restart puts it back"
    return "has some, and a restart begins anew without it" if found["stateful"] else "none: slots are worked on alone"


def _replicas(found: Mapping[str, Any]) -> str:
    return f"1 only: {found['single']}" if found["single"] else "several may share its slots, in order (replicas: 2)"


def _notes(port: Mapping[str, Any]) -> str:
    said = [key for key in ("many", "optional") if port.get(key)]
    said += [f"{key} {port[key]}" for key in ("window", "hop") if port.get(key)]
    return ", ".join(said)


def _default(parameter: Mapping[str, Any]) -> str:
    if parameter["required"]:
        return "required"
    default = parameter["default"]
    return ", ".join(map(_short, default)) if isinstance(default, list) else _short(default)


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
