"""Loading: what is written is what the graph holds, whether in YAML or Python, with expressions and overrides."""

import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from beamslot.errors import FlowgraphError
from beamslot.flowgraph import load
from beamslot.flowgraph.reading import scalar
from beamslot.runtime.graph import EdgeSpec

OWN = Path(__file__).parent / "own_blocks.py"
SHIPPED = sorted((Path(__file__).parents[2] / "flowgraphs").glob("*.yml"))

CHAIN = """\
options:
  parameters:
    id: demo
    title: A chain
    description: Three blocks
    author: nobody
    slots: n_y * 2
    slot_period: 5e-4
    pace: 2
    burst: 4
    seed: 7
  states: {}
variables:
  antennas: n_y * 72
  n_y: 64
blocks:
- name: source
  id: source
  parameters: {users: 2, snr_db: n_y / 8}
- name: combiner
  id: combiner
  parameters:
    chain: antennas // 384
  states: {state: enabled, coordinate: [100, 20], rotation: 0}
- {name: sink, id: sink}
- {name: spare, id: no_such_block, parameters: {x: 1}, states: {state: disabled}}
connections:
- [source, field, combiner, field]
- {src_blk_id: combiner, src_port_id: rf, snk_blk_id: sink, snk_port_id: rf, params: {window: n_y * 8, policy: block}}
- [source, field, spare, whatever]
metadata: {file_format: 1, grc_version: 3.10.9}
"""


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_every_shipped_flowgraph_loads(file):
    graph = load(file)
    assert graph.name == file.stem
    assert graph.blocks
    assert len(graph.order) == len(graph.blocks)


def test_a_graph_is_what_its_file_says(graph_of):
    graph = graph_of(CHAIN)
    assert (graph.name, graph.title, graph.slots, graph.slot_period) == ("demo", "A chain", 128, 5e-4)
    assert (graph.pace, graph.burst, graph.seed) == (2.0, 4, 7)
    assert {name: spec.kind.__name__ for name, spec in graph.blocks.items()} == {
        "source": "Source",
        "combiner": "Combiner",
        "sink": "Sink",
    }
    assert graph.blocks["source"].parameters == {"users": 2, "snr_db": 8.0}
    assert graph.blocks["combiner"].parameters == {"chain": 12}
    first, second = graph.edges
    assert (first.name, first.window, first.policy) == ("source.field > combiner.field", None, "block")
    assert (second.name, second.window, second.policy) == ("combiner.rf > sink.rf", 512, "block")
    assert first.place.endswith("g.yml:28")
    assert graph.blocks["combiner"].place.endswith("g.yml:20")
    assert graph.blocks["combiner"].places["chain"].endswith("g.yml:23")


def test_what_is_not_said_has_its_default(graph_of):
    graph = graph_of("blocks: [{name: source, id: source}]")
    assert (graph.name, graph.title, graph.slots, graph.slot_period) == ("g", "", None, 1e-3)
    assert (graph.pace, graph.burst, graph.seed, graph.edges) == (math.inf, 1, 0, ())


def test_sections_may_be_empty(graph_of):
    block = "- name: source\n  id: source\n  parameters:\n  states:\n"
    text = f"options:\nvariables:\nblocks:\n{block}connections:\nmetadata:\n"
    assert graph_of(text).blocks["source"].parameters == {}


@pytest.mark.parametrize(
    ("written", "rate"), [("realtime", 1.0), ("max", math.inf), (".inf", math.inf), ("0.5", 0.5), ("1 / 4", 0.25)]
)
def test_pace_is_slots_per_slot_period(graph_of, written, rate):
    text = f"options: {{parameters: {{pace: {written}}}}}\nblocks: [{{name: source, id: source}}]"
    assert graph_of(text).pace == rate


def test_a_mapping_gives_the_same_graph_as_the_file(graph_of):
    import ruamel.yaml

    mapping = ruamel.yaml.YAML(typ="safe", pure=True).load(CHAIN)
    told, read = load(mapping, blocks=[OWN]), graph_of(CHAIN)
    assert (told.name, told.slots, told.pace) == (read.name, read.slots, read.pace)
    assert [edge.name for edge in told.edges] == [edge.name for edge in read.edges]
    for name, spec in read.blocks.items():
        assert told.blocks[name].parameters == spec.parameters


def test_a_mapping_may_hold_tuples_arrays_and_numpy_numbers():
    from beamslot.catalogue import load_blocks

    values = {"users": np.int64(2), "levels": np.array([1.0, 2.0]), "pair": (np.float32(0.5), "n * 2")}
    block = {"name": "source", "id": "source", "parameters": values}
    graph = load({"variables": {"n": np.float32(3)}, "blocks": (block,)}, blocks=load_blocks(OWN))
    assert graph.blocks["source"].parameters == {"users": 2, "levels": [1.0, 2.0], "pair": [0.5, 6]}
    assert graph.name == "graph"


def test_a_path_may_be_a_string_and_the_file_may_begin_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes("\ufeffblocks: [{name: source, id: source}]\r\n".encode())
    assert load(str(file), blocks=[str(OWN)]).name == "mine"


# What a value means


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("{power: 28e9}", 28e9),
        ("{power: '28e9'}", 28e9),
        ("{snr_db: 1e-3}", 1e-3),
        ("{snr_db: n_y / 8}", 8.0),
        ("{snr_db: '-n_y'}", -64),
        ("{snr_db: n_y}", 64),
        ("{snr_db: -.inf}", -math.inf),
        ("{users: 1e1}", 10),
        ("{users: n_y / 8}", 8),
        ("{users: half}", 32),
        ("{power: n_y}", 64),
        ("{levels: [1, n_y, 2 * pi]}", [1, 64, 2 * math.pi]),
        ("{levels: steps}", [1, 32.0, 28e9]),
        ("{grid: [[1, n_y], [n_y / 2]]}", [[1, 64], [32]]),
        ("{pair: [n_y / 128, n_y / 32]}", [0.5, 2]),
        ("{by_name: {a: n_y, b: 2}}", {"a": 64, "b": 2}),
        ("{mix: n_y}", 64),
        ("{mix: [n_y, 1]}", [64, 1]),
        ("{mix: null}", None),
        ("{mix: }", None),
        ("{rounds: auto}", "auto"),
        ("{rounds: n_y / 2}", 32),
        ("{codebook: steered}", "steered"),
        ("{codebook: book}", "steered"),
        ("{order: 2 + 2}", 4),
        ("{bits: n_y / 16}", 4),
        ("{colour: blue}", "blue"),
        ("{label: hello}", "hello"),
        ("{label: n_y}", "n_y"),
        ("{label: n_y * 2}", "n_y * 2"),
        ("{label: book}", "steered"),
        ("{label: dashed}", "run-3"),
        ("{note: n_y * 2}", "n_y * 2"),
        ("{note: n_y}", 64),
        ("{note: 3}", 3),
        ("{step: {size: n_y / 2, kind: down}}", {"size": 32, "kind": "down"}),
        ("{phase: pi / 2}", math.pi / 2),
        ("{loud: true}", True),
        ("{loud: False}", False),
        (
            "{window: {length: n_y / 16, shape: hann, ends: [0, 'pi']}}",
            {"length": 4, "shape": "hann", "ends": [0, math.pi]},
        ),
    ],
)
def test_a_value_is_read_as_its_field_is_declared(parameters, line, value):
    variables = "{n_y: 64, half: n_y / 2, steps: [1, half, '28e9'], book: alias, alias: steered, dashed: run-3}"
    (found,) = parameters(line, variables).values()
    assert found == value
    assert type(found) is type(value)


def test_variables_are_worked_out_in_any_order_and_through_each_other(parameters):
    variables = "{c: b + 1, b: a * 2, a: 10, list: [c, [b, text]], text: two words, alias: list}"
    assert parameters("{snr_db: c, levels: [c, b]}", variables) == {"snr_db": 21, "levels": [21, 20]}
    with pytest.raises(FlowgraphError, match="two words"):
        parameters("{levels: alias}", variables)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-7", -7),
        ("010", 10),
        ("0o17", 15),
        ("0x1f", 31),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.INF", -math.inf),
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0o8", "0o8"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_not_a_number_is_not_a_number():
    assert math.isnan(scalar(".nan"))


def test_quotes_and_blocks_of_text_keep_a_text_a_text(parameters):
    assert parameters("{label: '12', note: \"true\"}") == {"label": "12", "note": "true"}


def test_anchors_and_aliases_repeat_a_value(graph_of):
    text = """\
blocks:
- {name: one, id: source, parameters: &same {users: 3, levels: [1, 2]}}
- {name: two, id: source, parameters: *same}
"""
    graph = graph_of(text)
    assert graph.blocks["one"].parameters == graph.blocks["two"].parameters == {"users": 3, "levels": [1, 2]}


# Overrides


def test_overrides_set_variables_run_options_and_parameters(graph_of):
    graph = graph_of(CHAIN, "n_y=32", "slots=n_y", "pace=max", "source.users=n_y / 4", "source.levels=[1, n_y]")
    assert (graph.slots, graph.pace) == (32, math.inf)
    assert graph.blocks["source"].parameters == {"users": 8, "snr_db": 4.0, "levels": [1, 32]}
    assert graph.blocks["combiner"].parameters == {"chain": 6}


def test_the_last_of_several_overrides_counts_and_spaces_do_not(graph_of):
    assert graph_of(CHAIN, "slots=1", " slots = 2 ").slots == 2


def test_an_empty_override_takes_a_value_away(graph_of):
    assert graph_of(CHAIN, "slots=").slots is None


def test_a_variable_comes_before_a_run_option_of_its_name(graph_of):
    text = "options: {parameters: {slots: 5, seed: slots}}\nvariables: {slots: 1}\nblocks: [{name: source, id: source}]"
    graph = graph_of(text, "slots=9")
    assert (graph.slots, graph.seed) == (5, 9)


def test_an_override_may_hold_what_the_file_could_not(parameters):
    assert parameters("{snr_db: n}", "{n: 1 / 0}", "n=3") == {"snr_db": 3}
    assert parameters("{}", "{}", "source.label=a=b") == {"label": "a=b"}
    assert parameters("{}", "{}", "source.window={length: 3}") == {"window": {"length": 3}}


# Cost


def test_ten_blocks_load_in_less_than_50_ms(tmp_path):
    blocks = "".join(
        f"- name: source_{i}\n  id: source\n  parameters:\n    users: n_y / 32   # users\n    levels: [1, 2, n_y]\n"
        f"- name: combiner_{i}\n  id: combiner\n  parameters: {{chain: n_y // 4}}\n"
        for i in range(5)
    )
    edges = "".join(f"- [source_{i}, field, combiner_{i}, field]\n" for i in range(5))
    file = tmp_path / "ten.yml"
    file.write_text(f"variables: {{n_y: 64}}\nblocks:\n{blocks}connections:\n{edges}")
    from beamslot.catalogue import load_blocks

    own = load_blocks(OWN)
    costs = []
    for _ in range(5):
        begin = time.process_time()
        assert len(load(file, blocks=own).blocks) == 10
        costs.append(time.process_time() - begin)
    assert min(costs) < 0.05


def test_importing_the_flowgraph_brings_no_sockets_and_no_torch():
    code = "import sys, beamslot.flowgraph; print([m for m in ('zmq', 'torch', 'scipy', 'rich') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_edges_are_plain_values(graph_of):
    assert all(type(edge) is EdgeSpec for edge in graph_of(CHAIN).edges)
