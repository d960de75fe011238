"""The JSON schema of flowgraph files, for editors; derived from what blocks declare.

It takes every file that `load` takes (but for what is wrong within disabled blocks), so that an editor marks nothing
that is right; what a schema cannot see, names and ports and expressions, is for `load`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema

from beamslot.catalogue import collect, find, ids
from beamslot.errors import FlowgraphError
from beamslot.flowgraph.declarations import (
    EDGE_ENDS,
    FILE_FORMAT,
    LAYOUT,
    NAME,
    STATES,
    BlockOptions,
    ChangeOptions,
    EdgeOptions,
    RunOptions,
)
from beamslot.runtime.block import Block

DIALECT = "https://json-schema.org/draft/2020-12/schema"

NOTES = ("description", "default", "unit", "examples", "deprecated")
LIMITS = {"pattern", "minLength", "maxLength", "format"}

EXPRESSION = {"type": "string", "minLength": 1, "description": "an expression over variables, such as n_y * 72"}
VARIABLE = {"type": "string", "pattern": NAME, "description": "the name of a variable"}


def schema(blocks: Sequence[Path | str] | Mapping[str, type[Block]] = ()) -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a flowgraph file.

    blocks: Python files with blocks of one's own, or such blocks by id; the catalogue's are always in it, those that
        cannot be imported without their parameters
    raises FlowgraphError where such a file cannot be loaded
    """
    own = collect(blocks)
    names = ids(own)
    definitions: dict[str, Any] = {"variable": _VARIABLE_VALUE}
    parameters = {name: _parameters(name, own, definitions) for name in names}
    return {
        "$schema": DIALECT,
        "title": "beamslot flowgraph",
        "type": "object",
        "additionalProperties": False,
        "required": ["blocks"],
        "properties": {
            "options": _options(definitions),
            "variables": _section(additionalProperties={"$ref": "#/$defs/variable"}, propertyNames={"pattern": NAME}),
            "blocks": {"type": "array", "minItems": 1, "items": _block(parameters, definitions)},
            "connections": {"type": ["array", "null"], "items": _connection(definitions)},
            "timeline": {"type": ["array", "null"], "items": _change(definitions)},
            "metadata": _section(properties={"file_format": {"const": FILE_FORMAT}}),
        },
        "$defs": definitions,
    }


_VARIABLE_VALUE: dict[str, Any] = {
    "description": "a number, a text, an expression over variables, or a list of these",
    "anyOf": [{"type": ["number", "string"]}, {"type": "array", "items": {"$ref": "#/$defs/variable"}}],
}


def _section(**keywords: Any) -> dict[str, Any]:
    """Return the schema of a mapping that may also be empty."""
    return {"type": ["object", "null"], **keywords}


def _closed(properties: Mapping[str, Any], **keywords: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties), **keywords}


def _options(definitions: dict[str, Any]) -> dict[str, Any]:
    parameters = _fields(RunOptions, "options", definitions)
    return {**_closed({"parameters": parameters, "states": {}}), "type": ["object", "null"]}


def _parameters(name: str, own: Mapping[str, type[Block]], definitions: dict[str, Any]) -> dict[str, Any]:
    try:
        return _fields(find(name, own), name, definitions)
    except (FlowgraphError, PydanticInvalidForJsonSchema) as error:
        return _section(description=str(error))


def _fields(kind: type[BaseModel], name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of what a class declares, its definitions moved to those of the whole."""
    found = _loosened(kind.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}"))
    definitions.update({f"{name}.{key}": item for key, item in found.pop("$defs", {}).items()})
    return found if "required" in found else {**found, "type": ["object", "null"]}


def _loosened(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with expressions and variables where `load` takes them, and units in the descriptions."""
    found = {key: value for key, value in node.items() if key != "title"}
    if "unit" in found:
        found["description"] = f"{found.get('description', '')} [{found['unit']}]".strip()
    if found.get("default") is not None and not _is_json(found["default"]):
        del found["default"]
    for key in ("items", "additionalProperties"):
        if isinstance(found.get(key), dict):
            found[key] = _loosened(found[key])
    for key in ("properties", "$defs"):
        if key in found:
            found[key] = {name: _loosened(item) for name, item in found[key].items()}
    for key in ("anyOf", "oneOf", "prefixItems"):
        if key in found:
            found[key] = [_loosened(item) for item in found[key]]
    other = _stand_in(found)
    if other is None:
        return found
    said = {key: found.pop(key) for key in NOTES if key in found}
    return {**said, "anyOf": [found, other]}


def _stand_in(node: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the schema of what may stand in place of a value: an expression, a variable, or nothing."""
    options = [*node.get("enum", ()), *([node["const"]] if "const" in node else ())]
    kind = type(options[0]).__name__ if options else node.get("type")
    if kind in ("integer", "number", "int", "float"):
        return EXPRESSION
    if kind == "array" or (kind in ("string", "str") and (options or LIMITS.intersection(node))):
        return VARIABLE
    return None


def _is_json(value: Any) -> bool:
    try:
        return json.dumps(value, allow_nan=False) != ""
    except ValueError:
        return False


def _block(parameters: Mapping[str, dict[str, Any]], definitions: dict[str, Any]) -> dict[str, Any]:
    states = _closed({"state": {"enum": list(STATES)}, **{key: {} for key in LAYOUT}})
    properties = {
        "name": {"type": "string", "pattern": NAME, "description": "what connections call the block"},
        "id": {"enum": list(parameters), "description": "which block it is"},
        "parameters": {},
        "states": {**states, "type": ["object", "null"]},
        **_fields(BlockOptions, "block", definitions)["properties"],
    }
    return _closed(
        properties,
        required=["name", "id"],
        allOf=[_of_id(name, found) for name, found in parameters.items()],
    )


def _of_id(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    then: dict[str, Any] = {"properties": {"parameters": parameters}}
    if "required" in parameters:
        then["required"] = ["parameters"]
    return {"if": {"properties": {"id": {"const": name}}, "required": ["id"]}, "then": then}


def _change(definitions: dict[str, Any]) -> dict[str, Any]:
    options = _fields(ChangeOptions, "change", definitions)
    parameters = {"type": "object", "minProperties": 1, "description": "parameters that may change, and their values"}
    return _closed({**options["properties"], "parameters": parameters}, required=["slot", "block", "parameters"])


def _connection(definitions: dict[str, Any]) -> dict[str, Any]:
    end = {"type": ["string", "integer"]}
    params = _fields(EdgeOptions, "edge", definitions)
    return {
        "anyOf": [
            {"type": "array", "description": "[block, port, block, port]", "items": end, "minItems": 4, "maxItems": 4},
            _closed({**dict.fromkeys(EDGE_ENDS, end), "params": params}, required=list(EDGE_ENDS)),
        ]
    }
