"""The JSON schema: jsonschema takes with it what `load` takes, and marks what an editor can know to be wrong."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ruamel.yaml

from beamslot.catalogue import CATALOGUE, load_blocks
from beamslot.errors import FlowgraphError
from beamslot.flowgraph import load, schema
from beamslot.flowgraph.declarations import EdgeOptions
from beamslot.runtime.block import Block, Out
from beamslot.runtime.graph import EdgeSpec

OWN = Path(__file__).parent / "own_blocks.py"
SHIPPED = sorted((Path(__file__).parents[2] / "flowgraphs").glob("*.yml"))

SOURCE = "blocks: [{{name: source, id: source, parameters: {}}}]"


@pytest.fixture(scope="module")
def editor() -> Any:
    return jsonschema.Draft202012Validator(schema([OWN]))


def marks(editor: Any, text: str) -> list[str]:
    """Return the paths that an editor marks."""
    document = ruamel.yaml.YAML(typ="safe", pure=True).load(text)
    return sorted("/".join(str(part) for part in error.absolute_path) for error in editor.iter_errors(document))


def test_the_schema_is_a_schema_and_json():
    found = schema([OWN])
    jsonschema.Draft202012Validator.check_schema(found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_flowgraph_passes(file):
    assert marks(jsonschema.Draft202012Validator(schema()), file.read_text()) == []


@pytest.mark.parametrize(
    "parameters",
    [
        "{}",
        "{users: 2, power: 28e9, levels: [1, 2.5], pair: [1, 2], grid: [[1]], by_name: {a: 1}}",
        "{users: n_y * 2, levels: [n, 2 * pi], pair: ['1 / 2', n], grid: [[n]], by_name: {a: n}}",
        "{levels: steps, mix: steps, rounds: n, note: n, order: n, bits: n, power: n}",
        "{rounds: auto, mix: null, codebook: steered, order: 4, bits: 4, colour: blue, label: x y, loud: true}",
        "{codebook: book, window: {length: n, shape: hann, ends: [0, 'pi']}}",
    ],
)
def test_what_loads_is_not_marked(editor, tmp_path, parameters):
    variables = "variables: {n: 4, n_y: 8, steps: [1, [n, 'n * 2']], book: steered}\n"
    text = SOURCE.format(parameters)
    if "steps" not in parameters:
        file = tmp_path / "g.yml"
        file.write_text(variables + text)
        load(file, blocks=[OWN])
    assert marks(editor, variables + text) == []


@pytest.mark.parametrize(
    ("parameters", "path"),
    [
        ("{user: 2}", ""),
        ("{users: 0}", "users"),
        ("{users: 2.5}", "users"),
        ("{users: [2]}", "users"),
        ("{users: true}", "users"),
        ("{snr_db: 200}", "snr_db"),
        ("{power: 0}", "power"),
        ("{levels: 3}", "levels"),
        ("{levels: [true]}", "levels"),
        ("{pair: [1]}", "pair"),
        ("{codebook: DFT}", "codebook"),
        ("{order: 3}", "order"),
        ("{label: 3}", "label"),
        ("{loud: yes}", "loud"),
        ("{loud: 1}", "loud"),
        ("{window: {length: 0}}", "window/length"),
        ("{window: {shape: flat}}", "window"),
        ("{window: {length: 1, shap: flat}}", "window"),
        ("[1]", ""),
    ],
)
def test_a_wrong_parameter_is_marked_and_does_not_load(editor, tmp_path, parameters, path):
    text = SOURCE.format(parameters)
    assert marks(editor, text) == ["blocks/0/parameters" + (path and f"/{path}")]
    file = tmp_path / "g.yml"
    file.write_text(text)
    with pytest.raises(FlowgraphError):
        load(file, blocks=[OWN])


BLOCK = "blocks: [{name: source, id: source}]\n"


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("{}", [""]),
        ("variables: {}", [""]),
        ("blocks: 3", ["blocks"]),
        ("blocks: []", ["blocks"]),
        ("blocks: [{name: source}]", ["blocks/0"]),
        ("blocks: [{id: source}]", ["blocks/0"]),
        ("blocks: [{name: Source, id: source}]", ["blocks/0/name"]),
        ("blocks: [{name: source, id: sorce}]", ["blocks/0/id"]),
        ("blocks: [{name: source, id: source, nam: 1}]", ["blocks/0"]),
        ("blocks: [{name: source, id: source, replica: 2}]", ["blocks/0"]),
        ("blocks: [{name: source, id: source, replicas: 65}]", ["blocks/0/replicas"]),
        ("blocks: [{name: source, id: source, process: My Process}]", ["blocks/0/process"]),
        ("blocks: [{name: source, id: source, restart: 3}]", ["blocks/0/restart"]),
        ("blocks: [{name: source, id: source, restart: {retires: 3}}]", ["blocks/0/restart"]),
        (BLOCK + "options: {parameters: {restart: {backoff: -1}}}", ["options/parameters/restart"]),
        ("blocks: [{name: source, id: source, states: {state: bypassed}}]", ["blocks/0/states/state"]),
        ("blocks: [{name: combiner, id: combiner}]", ["blocks/0"]),
        (BLOCK + "variabels: {}", [""]),
        (BLOCK + "variables: {N: 1}", ["variables"]),
        (BLOCK + "variables: {n: true}", ["variables/n"]),
        (BLOCK + "variables: {n: {a: 1}}", ["variables/n"]),
        (BLOCK + "options: {parameters: {slots: 0}}", ["options/parameters/slots"]),
        (BLOCK + "options: {parameters: {slotz: 1}}", ["options/parameters"]),
        (BLOCK + "options: {slots: 1}", ["options"]),
        (BLOCK + "options: {parameters: {pace: 0}}", ["options/parameters/pace"]),
        (BLOCK + "connections: [[a, b, c]]", ["connections/0"]),
        (BLOCK + "connections: [[a, b, c, [d]]]", ["connections/0"]),
        (BLOCK + "connections: [{src_blk_id: a, src_port_id: b, snk_blk_id: c}]", ["connections/0"]),
        (
            BLOCK + "connections: [{src_blk_id: a, src_port_id: b, snk_blk_id: c, snk_port_id: d, params: {windw: 3}}]",
            ["connections/0"],
        ),
        (BLOCK + "metadata: {file_format: 2}", ["metadata/file_format"]),
    ],
)
def test_a_wrong_section_is_marked(editor, text, paths):
    assert marks(editor, text) == paths


@pytest.mark.parametrize(
    "text",
    [
        BLOCK + "options:\nvariables:\nconnections:\nmetadata:\n",
        BLOCK + "options: {parameters: {slots: n * 2, pace: realtime, slot_period: 1e-3, seed: s}, states: {}}",
        BLOCK + "connections: [[a, 0, b, 1]]",
        BLOCK
        + "connections: [{src_blk_id: a, src_port_id: b, snk_blk_id: c, snk_port_id: d, params: {window: n * 2}}]",
        BLOCK + "connections: [{src_blk_id: a, src_port_id: b, snk_blk_id: c, snk_port_id: d,"
        " params: {policy: drop_oldest, bytes: 2 * n, buffer: 0.5}}]",
        BLOCK + "options: {parameters: {restart: {retries: n, on_poison: drop}}}",
        "blocks: [{name: source, id: source, process: dsp, replicas: n * 2, restart: {hang_timeout: 2}}]",
        "blocks: [{name: source, id: source, process: null, replicas: auto, restart: on_failure}]",
        "blocks: [{name: source, id: source, parameters: null, states: {state: disabled, coordinate: [1, 2]}}]",
    ],
)
def test_a_right_section_is_not_marked(editor, text):
    assert marks(editor, text) == []


def test_every_block_of_the_catalogue_is_known_with_its_parameters():
    blocks = schema()["properties"]["blocks"]["items"]
    assert blocks["properties"]["id"]["enum"] == sorted(CATALOGUE)
    assert [case["if"]["properties"]["id"]["const"] for case in blocks["allOf"]] == sorted(CATALOGUE)
    assert all(case["then"]["properties"]["parameters"]["description"] for case in blocks["allOf"])


def test_units_and_meanings_and_defaults_are_told():
    blocks = schema([OWN])["properties"]["blocks"]["items"]["allOf"]
    (source,) = [case for case in blocks if case["if"]["properties"]["id"]["const"] == "source"]
    declared = source["then"]["properties"]["parameters"]["properties"]["snr_db"]
    assert declared["description"] == "SNR per antenna [dB]"
    assert (declared["default"], declared["unit"]) == (10.0, "dB")
    assert {"maximum": 100, "type": "number"} in declared["anyOf"]


def test_blocks_may_come_as_classes():
    own = load_blocks(OWN)
    assert schema(own) == schema([OWN])


def test_a_block_that_has_no_schema_takes_any_parameters(monkeypatch):
    class Odd(Block, arbitrary_types_allowed=True):
        out = Out()
        thing: complex | type[int] | memoryview | None = None
        limit: float = float("inf")

    monkeypatch.setitem(CATALOGUE, "gone", "beamslot.nowhere:Gone")
    editor = jsonschema.Draft202012Validator(schema({"odd": Odd}))
    json.dumps(editor.schema, allow_nan=False)
    for name in ("odd", "gone"):
        assert marks(editor, f"blocks: [{{name: a, id: {name}, parameters: {{thing: [1]}}}}]") == []
        assert marks(editor, f"blocks: [{{name: a, id: {name}, parameters: 3}}]") == ["blocks/0/parameters"]


def test_an_endless_default_is_left_out():
    class Patient(Block):
        out = Out()
        patience: float = float("inf")
        short: float = 1.0

    text = json.dumps(schema({"patient": Patient}), allow_nan=False)
    blocks = json.loads(text)["properties"]["blocks"]["items"]["allOf"]
    (patient,) = [case for case in blocks if case["if"]["properties"]["id"]["const"] == "patient"]
    declared = patient["then"]["properties"]["parameters"]["properties"]
    assert "default" not in declared["patience"] or declared["patience"]["default"] is None
    assert declared["short"]["default"] == 1.0


def test_the_policies_of_the_file_are_those_of_the_graph():
    from typing import get_args, get_type_hints

    assert get_args(get_type_hints(EdgeSpec)["policy"]) == get_args(EdgeOptions.model_fields["policy"].annotation)
