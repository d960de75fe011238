"""What is said of a flowgraph that is wrong: everything, once, each with its line, what came and what was wanted."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamslot.catalogue import load_blocks
from beamslot.errors import BadParam, FlowgraphError, PortMismatch, UnknownBlock, UnknownPort
from beamslot.flowgraph import load
from beamslot.runtime.block import Block

OWN = Path(__file__).parent / "own_blocks.py"
HELLO = Path(__file__).parents[2] / "flowgraphs" / "hello.yml"

Problems = Callable[..., list[str]]

GOOD = """\
variables:
  n_y: 64
blocks:
- name: source
  id: source
  parameters:
    users: 1
- {name: combiner, id: combiner, parameters: {chain: 12}}
- {name: sink, id: sink}
connections:
- [source, field, combiner, field]
- [combiner, rf, sink, rf]
"""


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_the_flowgraph_that_these_tests_spoil_is_good(graph_of):
    assert len(graph_of(GOOD).edges) == 2


# One thing wrong, one line


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("variables:", "variabels:", "g.yml:1: variabels: is not known; did you mean 'variables'?"),
        (
            "variables:",
            "options: {parameters: {slotz: 3}}\nvariables:",
            "g.yml:1: options.parameters.slotz: is not known; did you mean 'slots'?",
        ),
        (
            "variables:",
            "options: {slots: 3}\nvariables:",
            "g.yml:1: options.slots: is not known here; it stands under options.parameters",
        ),
        (
            "variables:",
            "options: {parameters: {slots: 0}}\nvariables:",
            "g.yml:1: options.parameters.slots: got 0; wanted a whole number >= 1",
        ),
        (
            "variables:",
            "options: {parameters: {slots: .inf}}\nvariables:",
            "g.yml:1: options.parameters.slots: got inf; wanted a finite number",
        ),
        (
            "variables:",
            "options: {parameters: {slot_period: .nan}}\nvariables:",
            "g.yml:1: options.parameters.slot_period: got nan; wanted a number",
        ),
        (
            "variables:",
            "options: {parameters: {burst: true}}\nvariables:",
            "g.yml:1: options.parameters.burst: got true; wanted a number",
        ),
        (
            "variables:",
            "options: {parameters: {pace: true}}\nvariables:",
            "g.yml:1: options.parameters.pace: got true; wanted a number",
        ),
        (
            "variables:",
            "options: {parameters: {pace: fast}}\nvariables:",
            "g.yml:1: options.parameters.pace: got 'fast'; wanted a number or one of max, realtime; "
            "no variable is called 'fast' (character 1); there is n_y, pi, e, inf",
        ),
        (
            "variables:",
            "options: {parameters: {pace: -1}}\nvariables:",
            "g.yml:1: options.parameters.pace: got -1; wanted a number > 0 or 'realtime' or 'max'",
        ),
        (
            "variables:",
            "options: {parameters: {id: My Graph}}\nvariables:",
            "g.yml:1: options.parameters.id: got 'My Graph'; wanted a text like ^[a-z][a-z0-9_]*$",
        ),
        (
            "variables:",
            "metadata: {file_format: 2}\nvariables:",
            "g.yml:1: metadata.file_format: got 2; wanted 1, the one that is read",
        ),
        ("variables:\n  n_y: 64", "variables: 3", "g.yml:1: variables: got 3; wanted a mapping"),
        (
            "n_y: 64",
            "N_y: 64",
            "g.yml:2: variables.N_y: got 'N_y'; wanted a name of a-z, 0-9 and _ that begins with a letter;"
            " did you mean 'n_y'?",
        ),
        ("n_y: 64", "pi: 3", "g.yml:2: variables.pi: 'pi' means something in expressions already"),
        ("n_y: 64", "lambda: 3", "g.yml:2: variables.lambda: 'lambda' means something in expressions already"),
        (
            "n_y: 64",
            "n_y: {a: 1}",
            "g.yml:2: variables.n_y: got a mapping; wanted a number, a text, or a list of these",
        ),
        ("n_y: 64", "n_y: true", "g.yml:2: variables.n_y: got true; wanted a number, a text, or a list of these"),
        ("n_y: 64", "n_y:", "g.yml:2: variables.n_y: got nothing; wanted a number, a text, or a list of these"),
        ("n_y: 64", "n_y: .nan", "g.yml:2: variables.n_y: got nan; wanted a number, a text, or a list of these"),
        ("n_y: 64", "n_y: 1 / 0", "g.yml:2: variables.n_y: got '1 / 0'; 1 / 0 (character 1) divides by zero"),
        ("n_y: 64", "n_y: n_y + 1", "g.yml:2: variables.n_y: goes round in a circle: n_y > n_y"),
        (
            "users: 1",
            "users: 2 * n_yy",
            "g.yml:7: source.users: got '2 * n_yy'; wanted a whole number;"
            " no variable is called 'n_yy' (character 5); did you mean 'n_y'?",
        ),
        (
            "users: 1",
            "users: n_y / 7",
            "g.yml:7: source.users: got 9.142857142857142 from 'n_y / 7'; wanted a whole number",
        ),
        ("users: 1", "users: [1]", "g.yml:7: source.users: got [1]; wanted a whole number"),
        ("users: 1", "users:", "g.yml:7: source.users: got None; wanted a whole number"),
        (
            "users: 1",
            "users: no",
            "g.yml:7: source.users: got 'no'; wanted a whole number;"
            " no variable is called 'no' (character 1); there is n_y, pi, e, inf",
        ),
        ("users: 1", "user: 1", "g.yml:7: source.user: Source has no parameter 'user'; did you mean 'users'?"),
        ("users: 1", "loud: yes", "g.yml:7: source.loud: got 'yes'; wanted true or false"),
        ("users: 1", "loud: 1", "g.yml:7: source.loud: got 1; wanted true or false"),
        ("users: 1", "levels: [1,\n      false]", "g.yml:8: source.levels.1: got false; wanted a number"),
        (
            "users: 1",
            "levels:\n    - 1\n    - x",
            "g.yml:9: source.levels.1: got 'x'; wanted a number;"
            " no variable is called 'x' (character 1); there is n_y, pi, e, inf",
        ),
        (
            "users: 1",
            "levels: {a: 1}",
            "g.yml:7: source.levels: got {'a': 1}; wanted a list of numbers",
        ),
        (
            "users: 1",
            "pair: [1, n_y / 100]",
            "g.yml:7: source.pair.1: got 0.64 from 'n_y / 100'; wanted a whole number",
        ),
        (
            "users: 1",
            "mix: [1, 2.5]",
            "g.yml:7: source.mix.1: got 2.5; wanted a whole number",
        ),
        (
            "users: 1",
            "mix: 2.5",
            "g.yml:7: source.mix: got 2.5; wanted a whole number or a list of whole numbers",
        ),
        (
            "users: 1",
            "rounds: autos",
            "g.yml:7: source.rounds: got 'autos'; wanted a whole number or one of auto;"
            " no variable is called 'autos' (character 1); there is n_y, pi, e, inf",
        ),
        (
            "users: 1",
            "codebook: dtf",
            "g.yml:7: source.codebook: got 'dtf'; wanted 'dft' or 'steered'",
        ),
        ("users: 1", "codebook: {a: 1}", "g.yml:7: source.codebook: got {'a': 1}; wanted 'dft' or 'steered'"),
        ("users: 1", "order: n_y", "g.yml:7: source.order: got 64 from 'n_y'; wanted 2 or 4"),
        ("users: 1", "label: 12", "g.yml:7: source.label: got 12; wanted a text"),
        ("users: 1", "label: LOUD", "g.yml:7: source.label: got 'LOUD'; wanted: Lower case"),
        ("users: 1", "window: {shape: flat}", "g.yml:7: source.window.length: is not given and has no default"),
        (
            "users: 1",
            "window: {length: 3, shap: flat}",
            "g.yml:7: source.window.shap: Source has no parameter 'shap'",
        ),
        (
            "users: 1",
            "window:\n      length: n_y - 64",
            "g.yml:8: source.window.length: got 0 from 'n_y - 64'; wanted a whole number >= 1",
        ),
        ("users: 1", "users: 999", "g.yml:4: source: N_u users times the window are more than 1000"),
        (
            "  parameters:\n    users: 1",
            "  parameters: [1]",
            "g.yml:6: source.parameters: got a list; wanted a mapping",
        ),
        ("{chain: 12}", "{}", "g.yml:8: combiner.chain: is not given and has no default"),
        ("  id: source\n", "  id: sorce\n", "g.yml:5: source.id: no block has the id 'sorce'; did you mean 'source'?"),
        ("  id: source\n", "", "g.yml:4: source: has no id"),
        ("  id: source\n", "  id: 7\n", "g.yml:5: source.id: got 7; wanted a name"),
        ("- name: source\n  id", "- id", "g.yml:4: blocks[0]: has no name"),
        ("- name: source\n", "- name:\n", "g.yml:4: blocks[0].name: got nothing; wanted a name"),
        ("- name: source\n", '- name: "\\e[31m"\n', "g.yml:4: blocks[0].name: got '\\x1b[31m'; wanted a name"),
        (
            "  id: source\n",
            "  id: source\n  parametres: {}\n",
            "g.yml:6: source.parametres: is not known; did you mean 'parameters'?",
        ),
        (
            "  id: source\n",
            "  id: source\n  replicas: 2\n",
            "g.yml:6: source: got 2 replicas; wanted 1: it is a source, and each replica would make every slot",
        ),
        (
            "  id: source\n",
            "  id: source\n  states: {state: bypassed}\n",
            "g.yml:6: source.states.state: got 'bypassed'; a block cannot be bypassed;"
            " disable it and connect its neighbours to each other",
        ),
        (
            "  id: source\n",
            "  id: source\n  states: {state: off}\n",
            "g.yml:6: source.states.state: got 'off'; wanted enabled or disabled",
        ),
        (
            "- {name: sink, id: sink}",
            "- {name: sink, id: sink}\n- {name: source, id: sink}",
            "g.yml:10: source: the name stands twice; it stands first at g.yml:4",
        ),
        (
            "- {name: sink, id: sink}",
            "- sink",
            "g.yml:9: blocks[2]: got 'sink'; wanted a mapping of name, id, parameters, states, process, replicas,"
            " restart, deadline",
        ),
        (
            "[source, field,",
            "[source, feild,",
            "g.yml:11: source.feild > combiner.field: source has no output 'feild'; did you mean 'field'?",
        ),
        (
            "combiner, field]",
            "combiner, feild]",
            "g.yml:11: source.field > combiner.feild: combiner has no input 'feild'; did you mean 'field'?",
        ),
        (
            "[source, field,",
            "[sorce, field,",
            "g.yml:11: sorce.field > combiner.field: no block is called 'sorce'; did you mean 'source'?",
        ),
        (
            "combiner, field]",
            "combinr, field]",
            "g.yml:11: source.field > combinr.field: no block is called 'combinr'; did you mean 'combiner'?",
        ),
        (
            "[source, field,",
            "[source, 0,",
            "g.yml:11: source.0 > combiner.field: source has no output '0'; there is field",
        ),
        (
            "[source, field,",
            "[source, [field],",
            "g.yml:11: connections[0]: got a list; wanted the name of a block or port",
        ),
        (
            "combiner, field]",
            "combiner]",
            "g.yml:11: connections[0]: got 3 entries; wanted [block, port, block, port]",
        ),
        (
            "- [source, field, combiner, field]",
            "- source",
            "g.yml:11: connections[0]: got 'source'; wanted [block, port, block, port]",
        ),
        ("- [source, field, combiner, field]\n", "", "g.yml:8: combiner.field: input is not connected"),
        (
            "- [combiner, rf, sink, rf]",
            "- [combiner, rf, sink, rf]\n- [combiner, rf, sink, rf]",
            "g.yml:13: combiner.rf > sink.rf: stands twice; it stands first at g.yml:12",
        ),
        (
            "- [combiner, rf, sink, rf]",
            "- [combiner, rf, sink, rf]\n- [combiner, power, sink, power]",
            "g.yml:13: combiner.power > sink.power: power comes as [slot user] float32 [W];"
            " wanted [slot user] float32 [mW]",
        ),
        (
            "- [combiner, rf, sink, rf]",
            "- [combiner, rf, sink, rf]\n- [combiner, power, sink, halves]",
            "g.yml:13: combiner.power > sink.halves: halves comes as [slot user] float32 [W];"
            " wanted [slot user] float64 [W]",
        ),
        (
            "- [combiner, rf, sink, rf]",
            "- [source, field, sink, rf]",
            "g.yml:12: source.field > sink.rf: rf comes as [slot user y z] complex64 [1];"
            " wanted [slot user y chain] complex64 [1]; combiner.rf would fit",
        ),
        (
            "- [combiner, rf, sink, rf]",
            "- {src_blk_id: combiner, src_port_id: rf, snk_blk_id: sink}",
            "g.yml:12: connections[1]: has no snk_port_id",
        ),
    ],
)
def test_one_mistake_is_one_line(problems: Problems, old, new, line):
    assert problems(changed(old, new)) == [line]


@pytest.mark.parametrize(
    ("params", "line"),
    [
        (
            "{policy: drop}",
            "params.policy: got 'drop'; wanted 'block', 'drop_oldest', 'drop_newest' or 'latest'",
        ),
        ("{bytes: 0}", "params.bytes: got 0; wanted a whole number >= 1"),
        ("{buffer: 0}", "params.buffer: got 0; wanted a number > 0"),
        ("{buffer: 2s}", "params.buffer: got '2s'; wanted a number [s]; it stands without its unit, such as 1e-6"),
        ("{buffer: 1e300}", "buffer is 1e+300 s; wanted a time above 0, of at most 4611686018427387904 slots"),
        ("{window: 0}", "params.window: got 0; wanted a whole number >= 1"),
        (
            "{window: n_y / 128}",
            "params.window: got 0.5 from 'n_y / 128'; wanted a whole number",
        ),
    ],
)
def test_a_connection_cannot_queue_in_just_any_way(problems: Problems, params, line):
    mapping = "{src_blk_id: combiner, src_port_id: rf, snk_blk_id: sink, snk_port_id: rf, params: %s}"
    text = changed("[combiner, rf, sink, rf]", mapping % params)
    assert problems(text) == [f"g.yml:12: combiner.rf > sink.rf: {line}"]


def test_an_unknown_queue_option_is_named(problems: Problems):
    mapping = "{src_blk_id: combiner, src_port_id: rf, snk_blk_id: sink, snk_port_id: rf, params: {windw: 300}}"
    text = changed("[combiner, rf, sink, rf]", mapping)
    assert problems(text) == ["g.yml:12: connections[1].params.windw: is not known; did you mean 'window'?"]


# Several things wrong: all are said, in the order of the file, and none twice


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file(problems: Problems):
    text = """\
options: {parameters: {burst: 0, sed: 1}}
variables:
  a: b + 1
  b: a * 2
  c: a + 1
  d: 1 / 0
blocks:
- name: source
  id: source
  parameters: {users: d + c, levels: [x, 1, y], loud: 3}
- {name: combiner, id: combiner, parameters: {chian: 3}}
- {name: sink, id: sinc}
connections:
- [source, field, combiner, feild]
- [combiner, rf, sink, whatever]
- [combiner, rf, snk, rf]
"""
    assert problems(text) == [
        "g.yml:1: options.parameters.sed: is not known; did you mean 'seed'?",
        "g.yml:1: options.parameters.burst: got 0; wanted a whole number >= 1",
        "g.yml:3: variables.a: goes round in a circle: a > b > a",
        "g.yml:6: variables.d: got '1 / 0'; 1 / 0 (character 1) divides by zero",
        "g.yml:10: source.levels.0: got 'x'; wanted a number;"
        " no variable is called 'x' (character 1); there is pi, e, inf",
        "g.yml:10: source.levels.2: got 'y'; wanted a number;"
        " no variable is called 'y' (character 1); there is pi, e, inf",
        "g.yml:10: source.loud: got 3; wanted true or false",
        "g.yml:11: combiner.chian: Combiner has no parameter 'chian'; did you mean 'chain'?",
        "g.yml:12: sink.id: no block has the id 'sinc'; did you mean 'sink'?",
        "g.yml:14: source.field > combiner.feild: combiner has no input 'feild'; did you mean 'field'?",
        "g.yml:16: combiner.rf > snk.rf: no block is called 'snk'; did you mean 'sink'?",
    ]


def test_a_misspelt_key_is_taken_for_what_was_meant(problems: Problems):
    text = GOOD.replace("variables", "variabels").replace("connections", "conections").replace("chain", "chian")
    text = text.replace("- name: source", "- nam: source").replace("  id: source", "  ids: source")
    assert problems(text.replace("users: 1", "users: n_y - 64")) == [
        "g.yml:1: variabels: is not known; did you mean 'variables'?",
        "g.yml:4: blocks[0].nam: is not known; did you mean 'name'?",
        "g.yml:5: blocks[0].ids: is not known; did you mean 'id'?",
        "g.yml:7: source.users: got 0 from 'n_y - 64'; wanted a whole number >= 1",
        "g.yml:8: combiner.chian: Combiner has no parameter 'chian'; did you mean 'chain'?",
        "g.yml:10: conections: is not known; did you mean 'connections'?",
    ]


def test_what_is_not_given_and_not_misspelt_is_missing(problems: Problems):
    assert problems(changed("{chain: 12}", "{colour: 12}")) == [
        "g.yml:8: combiner.chain: is not given and has no default",
        "g.yml:8: combiner.colour: Combiner has no parameter 'colour'; there is chain",
    ]


def test_connections_that_cannot_be_read_leave_no_input_missing(problems: Problems):
    text = GOOD[: GOOD.index("connections:")] + "connections: {source: combiner}\n"
    assert problems(text) == ["g.yml:10: connections: got a mapping; wanted a list"]


def test_each_problem_keeps_its_type(tmp_path):
    file = tmp_path / "g.yml"
    text = changed("users: 1", "users: 0")
    text = text.replace("id: sink}", "id: sinc}").replace("[source, field,", "[source, feild,")
    file.write_text(text + "- [combiner, rf, nowhere, x]\n- [combiner, power, other, power]\n- {}\n")
    with pytest.raises(FlowgraphError) as caught:
        load(file, blocks=[OWN])
    kinds = [type(problem) for problem in caught.value.causes]
    assert kinds == [BadParam, UnknownBlock, UnknownPort, UnknownBlock, UnknownBlock, FlowgraphError]


def test_a_misfit_is_a_port_mismatch(tmp_path):
    file = tmp_path / "g.yml"
    file.write_text(changed("[combiner, rf,", "[source, field,"))
    with pytest.raises(FlowgraphError) as caught:
        load(file, blocks=[OWN])
    assert [type(problem) for problem in caught.value.causes] == [PortMismatch]


def test_a_variable_that_turns_out_to_be_none_is_said_once_at_its_own_place(problems: Problems):
    text = changed("n_y: 64", "n_y: 64\n  total: n_yy * 72\n  twice: 2 * total")
    text = text.replace("users: 1", "users: total\n    snr_db: twice + total\n    levels: [total, twice]")
    assert problems(text) == [
        "g.yml:3: variables.total: got 'n_yy * 72'; no variable is called 'n_yy' (character 1); did you mean 'n_y'?"
    ]


def test_a_text_is_no_number(problems: Problems):
    text = changed("n_y: 64", "n_y: 64\n  book: steered beams").replace("users: 1", "users: book")
    assert problems(text) == [
        "g.yml:8: source.users: got 'book'; wanted a whole number;"
        " the variable 'book' (character 1) is 'steered beams', no number"
    ]


def test_every_circle_of_variables_is_said_once_and_what_hangs_on_it_not(problems: Problems):
    variables = "a: b\n  b: c\n  c: a\n  d: d + 1\n  x: a + d\n  list: [1, [list]]\n  fine: 3"
    assert problems(changed("n_y: 64", variables)) == [
        "g.yml:2: variables.a: goes round in a circle: a > b > c > a",
        "g.yml:5: variables.d: goes round in a circle: d > d",
        "g.yml:7: variables.list: goes round in a circle: list > list",
    ]


def test_everything_wrong_in_a_list_is_said(problems: Problems):
    assert problems(changed("n_y: 64", "n_y: [1 / 0, 2, true, .nan]")) == [
        "g.yml:2: variables.n_y: got '1 / 0'; 1 / 0 (character 1) divides by zero",
        "g.yml:2: variables.n_y: got true; wanted a number, a text, or a list of these",
        "g.yml:2: variables.n_y: got nan; wanted a number, a text, or a list of these",
    ]


def test_blocks_of_one_name_are_still_checked_each_and_their_edges_not(problems: Problems):
    twin = "- {name: combiner, id: source, parameters: {users: 0}}\nconnections:"
    text = changed("connections:", twin).replace("{chain: 12}", "{chain: 0}")
    assert problems(text) == [
        "g.yml:8: combiner.chain: got 0; wanted a whole number >= 1",
        "g.yml:10: combiner: the name stands twice; it stands first at g.yml:8",
        "g.yml:10: combiner.users: got 0; wanted a whole number >= 1",
    ]


def test_a_bad_name_is_a_name_all_the_same(problems: Problems):
    text = GOOD.replace("name: combiner", "name: My-Combiner").replace(" combiner, f", " My-Combiner, f")
    assert problems(text.replace("[combiner", "[My-Combiner")) == [
        "g.yml:8: My-Combiner.name: got 'My-Combiner'; wanted a name of a-z, 0-9 and _ that begins with a letter;"
        " did you mean 'my_combiner'?"
    ]


def test_an_input_takes_one_edge_unless_it_takes_many(problems: Problems, graph_of):
    extra = "- {name: second, id: source}\nconnections:\n- [second, field, combiner, field]"
    assert problems(changed("connections:", extra)) == [
        "g.yml:13: source.field > combiner.field: combiner.field takes one edge and has 2"
    ]
    extra = "- {name: all, id: joined}\nconnections:\n- [source, field, all, rest]\n- [combiner, rf, all, rest]"
    assert len(graph_of(changed("connections:", extra)).edges) == 4


def test_the_arrays_of_a_stream_are_found_by_name(problems: Problems):
    extra = "- {name: all, id: joined}\nconnections:\n- [combiner, rf, all, pair]"
    assert problems(changed("connections:", extra)) == [
        "g.yml:12: combiner.rf > all.pair: array 'gain' does not come; there is rf"
    ]


def test_slots_flow_forward_only_and_other_mistakes_do_not_hide_that(problems: Problems):
    text = """\
blocks:
- {name: source, id: source, parameters: {users: 0}}
- {name: one, id: loop}
- {name: two, id: loop}
connections:
- [source, field, one, fed]
- [one, out, two, fed]
- [two, out, one, back]
"""
    assert problems(text) == [
        "g.yml:2: source.users: got 0; wanted a whole number >= 1",
        "g.yml:8: two.out > one.back: closes a cycle: one > two > one; slots only flow forward",
    ]


def test_a_window_must_carry_what_the_graph_holds(problems: Problems):
    text = """\
blocks:
- {name: source, id: source}
- {name: loop, id: loop, parameters: {hold: 100}}
connections:
- {src_blk_id: source, src_port_id: field, snk_blk_id: loop, snk_port_id: fed, params: {window: 50}}
"""
    (line,) = problems(text)
    assert line.startswith("g.yml:5: source.field > loop.fed: window is 50 slots; the graph needs at least ")


def test_a_bound_that_does_not_go_with_a_value_is_said_with_the_block(problems: Problems):
    (line,) = problems("blocks: [{name: odd, id: bound, parameters: {size: [1, 2]}}]")
    assert line == "g.yml:1: odd: unable to apply constraint 'ge' to supplied value [1, 2]"


def test_values_with_a_unit_behind_them_are_told_the_unit_of_the_field(problems: Problems):
    text = changed("variables:", "options: {parameters: {slot_period: 1us}}\nvariables:")
    assert problems(text) == [
        "g.yml:1: options.parameters.slot_period: got '1us'; wanted a number [s]; it stands without its unit,"
        " such as 1e-6"
    ]


def test_what_a_list_should_hold_is_said(problems: Problems):
    assert problems(changed("users: 1", "pair: 3")) == ["g.yml:7: source.pair: got 3; wanted a list of 2 values"]


@pytest.mark.parametrize(
    ("edge", "wrong", "begin", "end"),
    [
        ("source, truth, nmse, truth", "source, field, nmse, truth", "got field; wanted channel, ", "source.truth"),
        ("omp, estimate, nmse, estimate", "combiner, rf, nmse, estimate", "channel comes as ", "omp.estimate"),
    ],
)
def test_a_port_that_does_not_fit_is_told_once_with_one_that_would(tmp_path, edge, wrong, begin, end):
    file = tmp_path / "g.yml"
    file.write_text(HELLO.read_text().replace(f"[{edge}]", f"[{wrong}]"))
    with pytest.raises(FlowgraphError) as caught:
        load(file)
    (line,) = str(caught.value).split("\n")
    assert f": {begin}" in line
    assert line.endswith(f"; {end} would fit")


def test_an_id_that_is_the_name_of_a_file_beside_is_told_how_to_bring_it(tmp_path):
    file = tmp_path / "g.yml"
    file.write_text("blocks: [{name: mine, id: back_projection}]")
    (tmp_path / "back_projection.py").touch()
    with pytest.raises(FlowgraphError, match=f"; perhaps it wants --blocks {tmp_path}/back_projection.py$"):
        load(file)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("    users", "\tusers", "g.yml:7: not YAML: a tab in the indentation; wanted spaces"),
        ("  id: source", "  id:source", "g.yml:5: not YAML: no space after ':'; wanted 'name: value'"),
        ("- [source", "-[source", "g.yml:11: not YAML: no space after '-'; wanted '- item'"),
        (
            "  id: source",
            " id: source",
            "g.yml:5: not YAML: indented unlike its neighbours; wanted what belongs together in one column",
        ),
        (
            "  parameters:\n",
            "  parameters\n",
            "g.yml:6: not YAML: wanted 'name: value' or '- item'; is a ':' or a '-' missing,"
            " or is it indented wrongly?",
        ),
        (
            "combiner, field]",
            "combiner, field",
            "g.yml:11: not YAML: the bracket that opens here is not closed, or a comma is missing",
        ),
        ("n_y: 64", "n_y: '64", "g.yml:2: not YAML: the quote that opens here is not closed"),
        ("n_y: 64", "n_y: %5", "g.yml:2: not YAML: a text that begins with this character needs quotes"),
    ],
)
def test_yaml_that_is_none_is_told_in_words_with_the_line_to_look_at(problems: Problems, old, new, line):
    assert problems(changed(old, new)) == [line]


# Disabled blocks


def test_a_disabled_block_is_left_out_with_its_edges(problems: Problems):
    text = changed("{name: sink, id: sink}", "{name: sink, id: nothing, parameters: {a: b}, states: {state: disabled}}")
    assert problems(text.replace("users: 1", "users: 0")) == [
        "g.yml:7: source.users: got 0; wanted a whole number >= 1"
    ]


def test_what_a_disabled_block_fed_is_missing(problems: Problems):
    text = changed("  id: source\n", "  id: source\n  states: {state: disabled}\n")
    assert problems(text) == ["g.yml:9: combiner.field: input is not connected"]


def test_an_edge_of_a_disabled_block_has_another_end(problems: Problems):
    text = changed("{name: sink, id: sink}", "{name: sink, id: sink, states: {state: disabled}}")
    assert problems(text.replace("[combiner, rf", "[combinr, rf")) == [
        "g.yml:12: combinr.rf > sink.rf: no block is called 'combinr'; did you mean 'combiner'?"
    ]


@pytest.mark.parametrize(
    "text", ["blocks: []", "blocks:", "variables: {}", "blocks: [{name: a, id: b, states: {state: disabled}}]"]
)
def test_a_graph_has_blocks(problems: Problems, text):
    assert problems(text) == ["g.yml:1: blocks: there is none, or none that is enabled"]


# Overrides


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("n_yy=3", "-p n_yy=3: no variable or run option is called 'n_yy'; did you mean 'n_y'?"),
        ("slot=3", "-p slot=3: no variable or run option is called 'slot'; did you mean 'slots'?"),
        ("users=3", "-p users=3: no variable or run option is called 'users'; did you mean 'source.users'?"),
        ("sorce.users=3", "-p sorce.users=3: no block is called 'sorce'; did you mean 'source'?"),
        (
            "source.user=3",
            "-p source.user=3: source.user: Source has no parameter 'user'; did you mean 'users'?",
        ),
        (
            "source.users=0",
            "-p source.users=0: source.users: got 0; wanted a whole number >= 1",
        ),
        ("slots=0", "-p slots=0: options.parameters.slots: got 0; wanted a whole number >= 1"),
        ("n_y=1 / 0", "-p n_y=1 / 0: variables.n_y: got '1 / 0'; 1 / 0 (character 1) divides by zero"),
        ("n_y", "-p n_y: wanted variable=value or block.parameter=value"),
        ("=3", "-p =3: wanted variable=value or block.parameter=value"),
        ("n_y=[1", "-p n_y=[1: not YAML: the bracket that opens here is not closed, or a comma is missing"),
        (
            "n_y=!!python/name:os.system",
            "-p n_y=!!python/name:os.system: has the tag 'tag:yaml.org,2002:python/name:os.system';"
            " tags are not read, write the value",
        ),
        ("n_y=\x00", "-p n_y=\x00: not YAML: special characters are not allowed"),
        (
            "source.window={length: 1, length: 2}",
            "-p source.window={length: 1, length: 2}: 'length' stands twice;"
            " it stands first at -p source.window={length: 1, length: 2}",
        ),
    ],
)
def test_an_override_that_is_wrong_is_cited(problems: Problems, override, line):
    assert problems(GOOD, override) == [line]


def test_overrides_are_said_after_the_lines_of_the_file(problems: Problems):
    assert problems(changed("users: 1", "users: 0"), "nothing=1", "source.loud=7") == [
        "g.yml:7: source.users: got 0; wanted a whole number >= 1",
        "-p nothing=1: no variable or run option is called 'nothing'; there is n_y, id, title, description, author,"
        " slots, slot_period, pace, burst, seed, restart",
        "-p source.loud=7: source.loud: got 7; wanted true or false",
    ]


# Files and YAML


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "g.yml: is empty; wanted a mapping of options, variables, blocks, connections, timeline, metadata"),
        (
            "# nothing\n",
            "g.yml: is empty; wanted a mapping of options, variables, blocks, connections, timeline, metadata",
        ),
        ("null", "g.yml:1: is empty; wanted a mapping of options, variables, blocks, connections, timeline, metadata"),
        (
            "\n- a",
            "g.yml:2: got a list; wanted a mapping of options, variables, blocks, connections, timeline, metadata",
        ),
        (
            "hello",
            "g.yml:1: got 'hello'; wanted a mapping of options, variables, blocks, connections, timeline, metadata",
        ),
        (
            "blocks:\n\t- a",
            "g.yml:2: not YAML: a tab in the indentation; wanted spaces",
        ),
        (
            "a: b: c",
            "g.yml:1: not YAML: a ':' too many for this place;"
            " is it indented like its neighbours? is a text in quotes?",
        ),
        ("a: 'b", "g.yml:1: not YAML: the quote that opens here is not closed"),
        ("a: b\n\nc: \x07", "g.yml:3: not YAML: special characters are not allowed"),
        ('a: "\\UFFFFFFFF"', "g.yml: not YAML: Python int too large to convert to C int"),
        ("blocks: 3\n---\nb: 2", "g.yml:2: a second document begins; wanted one a file"),
        ("%YAML 1.1\n---\nblocks: 3", "g.yml:2: has directives; wanted plain YAML 1.2"),
        ("%TAG ! tag:x,2000:\n---\nblocks: 3", "g.yml:2: has directives; wanted plain YAML 1.2"),
        ("blocks: *a", "g.yml:1: nothing is anchored as 'a' before this line"),
        ("blocks: &a\n- *a", "g.yml:2: the alias 'a' stands within what it stands for"),
        ("blocks: 3", "g.yml:1: blocks: got 3; wanted a list"),
    ],
)
def test_what_is_no_flowgraph_is_refused(problems: Problems, text, line):
    assert problems(text) == [line]


def test_keys_that_stand_twice_are_said_with_both_lines(problems: Problems):
    text = changed("users: 1", "users: 1\n    snr_db: 3\n    users: 0") + "blocks: []\n"
    assert problems(text) == [
        "g.yml:9: 'users' stands twice; it stands first at g.yml:7",
        "g.yml:15: 'blocks' stands twice; it stands first at g.yml:3",
    ]


@pytest.mark.parametrize(
    ("key", "came"),
    [
        ("? [a, b]\n: 1", "a list"),
        ("? {a: b}\n: 1", "a mapping"),
        ('"": 1', "''"),
        ('"\\e[2J": 1', "'\\x1b[2J'"),
        ("x" * 101 + ": 1", f"'{'x' * 27}...{'x' * 28}'"),
    ],
)
def test_what_cannot_be_a_name_cannot_be_a_key(problems: Problems, key, came):
    assert problems(f"{GOOD}{key}\n") == [f"g.yml:13: {came} stands as a key; wanted a name"]


def test_merge_keys_are_not_known(problems: Problems):
    (line,) = problems(changed("    users: 1", "    <<: {users: 1}"))
    assert line.startswith("g.yml:7: source.<<: Source has no parameter '<<'")


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch pwned']",
        "!!python/object/new:os.system ['touch pwned']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch pwned']",
        "!mine {a: 1}",
        "!!str 3",
        "! 3",
    ],
)
def test_tags_are_refused_and_nothing_is_run(problems: Problems, tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    (line,) = problems(changed("users: 1", f"users: {tag}"))
    assert line.startswith("g.yml:7: has the tag ")
    assert line.endswith("tags are not read, write the value")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "1: nests deeper than 32; a flowgraph does not"),
        ("{a: " * 50_000, "1: nests deeper than 32; a flowgraph does not"),
        ("\n".join(" " * i + "a:" for i in range(40)), "32: nests deeper than 32; a flowgraph does not"),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
            "4: the file holds more than 10000 values; a flowgraph does not",
        ),
        ("- 1\n" * 20_000, "10000: the file holds more than 10000 values; a flowgraph does not"),
    ],
)
def test_bombs_are_refused(problems: Problems, text, problem):
    assert problems(text) == [f"g.yml:{problem}"]


def test_a_chain_of_thousands_of_variables_is_no_bomb(problems: Problems):
    variables = "".join(f"  v{i}: v{i + 1} + 1\n" for i in range(4000))
    (line,) = problems(f"variables:\n{variables}  v4000: 1\nblocks: []\n")
    assert "blocks: there is none" in line


def test_a_file_larger_than_a_mebibyte_is_refused(problems: Problems):
    assert problems("#" * (1024 * 1024 + 1)) == ["g.yml: is larger than 1048576 bytes; a flowgraph is not"]


def test_an_endless_file_is_refused():
    with pytest.raises(FlowgraphError, match="/dev/zero: is larger than 1048576 bytes"):
        load("/dev/zero")


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path):
    file = tmp_path / "g.yml"
    file.write_bytes(b"options:\n\n  title: \xff\n")
    with pytest.raises(FlowgraphError) as caught:
        load(file)
    assert str(caught.value) == f"{file}:3: not UTF-8: byte 0xff"


def test_a_file_that_is_not_there_may_have_a_neighbour(tmp_path):
    (tmp_path / "demo.yml").write_text("")
    (tmp_path / "demo.txt").write_text("")
    for name, advice in (("dmeo.yml", f"; did you mean '{tmp_path}/demo.yml'?"), ("no/demo.yml", "")):
        with pytest.raises(FlowgraphError) as caught:
            load(tmp_path / name)
        assert str(caught.value) == f"{tmp_path}/{name}: no such file{advice}"


def test_a_folder_is_no_flowgraph(tmp_path):
    with pytest.raises(FlowgraphError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read: is a directory"


def test_a_file_without_permission_cannot_be_read(tmp_path, monkeypatch):
    def refuse(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FlowgraphError) as caught:
        load(tmp_path / "g.yml")
    assert str(caught.value) == f"{tmp_path}/g.yml: cannot be read: permission denied"


# Structures given in Python


def test_a_mapping_is_cited_by_paths():
    source = {
        "options": {"parameters": {"slots": 0}},
        "variables": {"n": "1 / 0"},
        "blocks": [
            {"name": "source", "id": "source", "parameters": {"users": 0, "levels": [1, "x"]}},
            {"name": "combiner", "id": "combiner"},
        ],
        "connections": [("source", "field", "combiner", "feild")],
        "metdata": {},
    }
    with pytest.raises(FlowgraphError) as caught:
        load(source, blocks=[OWN])
    assert str(caught.value).split("\n") == [
        "metdata: is not known; did you mean 'metadata'?",
        "variables.n: got '1 / 0'; 1 / 0 (character 1) divides by zero",
        "options.parameters.slots: got 0; wanted a whole number >= 1",
        "blocks[0].parameters.users: source.users: got 0; wanted a whole number >= 1",
        "blocks[0].parameters.levels[1]: source.levels.1: got 'x'; wanted a number;"
        " no variable is called 'x' (character 1);"
        " there is pi, e, inf",
        "blocks[1]: combiner.chain: is not given and has no default",
        "connections[0]: source.field > combiner.feild: combiner has no input 'feild'; did you mean 'field'?",
    ]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ([1], "got a list; wanted a mapping of options, variables, blocks, connections, timeline, metadata"),
        (None, "is empty; wanted a mapping of options, variables, blocks, connections, timeline, metadata"),
        ({"blocks": {3: 4}}, "blocks: 3 stands as a key; wanted a name"),
        ({3: 4}, "3 stands as a key; wanted a name"),
    ],
)
def test_a_structure_that_is_no_flowgraph_is_refused(source, problem):
    with pytest.raises(FlowgraphError) as caught:
        load(source)
    assert str(caught.value) == problem


def test_a_structure_that_holds_itself_is_refused():
    source: dict[str, object] = {}
    source["options"] = source
    with pytest.raises(FlowgraphError, match="nests deeper than 32"):
        load(source)


ALPHABET = st.sampled_from([*"\n\n  --::[]{}&*!?|>'\"%@#,abx01.+/\t\\\x00é"])
CUT = st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), st.text(ALPHABET, max_size=6))


@given(st.lists(CUT, min_size=1, max_size=3))
def test_a_spoiled_file_loads_or_is_refused_with_places(tmp_path_factory, cuts):
    text = GOOD
    for first, length, put in cuts:
        text = text[:first] + put + text[first + length :]
    file = tmp_path_factory.getbasetemp() / "spoiled.yml"
    file.write_bytes(text.encode())
    for line in said_of(file):
        assert line.startswith(f"{file}:")
        assert line.isprintable()


def said_of(file: Path) -> list[str]:
    try:
        load(file, blocks=own())
    except FlowgraphError as error:
        return str(error).split("\n")
    return []


@cache
def own() -> dict[str, type[Block]]:
    return load_blocks(OWN)
