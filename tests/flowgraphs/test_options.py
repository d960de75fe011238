"""How blocks are run and edges queue: what is written, in the file or by -p, is what the graph holds."""

from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import Field

from beamslot.errors import BadParam, FlowgraphError
from beamslot.flowgraph import load
from beamslot.flowgraph.declarations import RestartOptions
from beamslot.runtime.block import Block, In, Out
from beamslot.runtime.graph import Graph, Restart

CHAIN = """\
options: {parameters: {slot_period: 1e-2%s}}
variables: {n: 3, way: never, group: dsp}
blocks:
- {name: source, id: source}
- {name: combiner, id: combiner, parameters: {chain: 12}%s}
- {name: sink, id: sink}
connections:
- [source, field, combiner, field]
- {src_blk_id: combiner, src_port_id: rf, snk_blk_id: sink, snk_port_id: rf, params: {%s}}
"""


def chain(block: str = "", params: str = "", options: str = "") -> str:
    """Return a flowgraph with more keys of its block in line 5, of its second edge in line 9, and of its options."""
    return CHAIN % (options and f", {options}", block and f", {block}", params)


# Blocks


def test_what_is_not_said_of_a_block_has_its_default(graph_of):
    spec = graph_of(chain()).blocks["combiner"]
    assert (spec.process, spec.replicas, spec.restart) == ("", 1, Restart("never"))


@pytest.mark.parametrize(
    ("written", "replicas"), [("1", 1), ("64", 64), ("n + 1", 4), ("'n'", 3), ("2.0", 2), ("auto", 0)]
)
def test_replicas_are_a_number_or_auto(graph_of, written, replicas):
    assert graph_of(chain(f"replicas: {written}")).blocks["combiner"].replicas == replicas


@pytest.mark.parametrize(("written", "process"), [("dsp", "dsp"), ("group", "dsp"), ("", "")])
def test_a_process_is_a_name(graph_of, written, process):
    assert graph_of(chain(f"process: {written}")).blocks["combiner"].process == process


@pytest.mark.parametrize(
    ("written", "restart"),
    [
        ("never", Restart("never")),
        ("on_failure", Restart("on_failure")),
        ("way", Restart("never")),
        ("{}", Restart("on_failure")),
        ("{policy: way}", Restart("never")),
        (
            "{retries: n, backoff: 1 / 4, backoff_max: 2, hang_timeout: n * 60, on_poison: drop}",
            Restart("on_failure", 3, 0.25, 2.0, 180.0, "drop"),
        ),
    ],
)
def test_a_restart_policy_is_a_word_or_a_mapping(graph_of, written, restart):
    assert graph_of(chain(f"restart: {written}")).blocks["combiner"].restart == restart
    assert graph_of(chain(options=f"restart: {written}")).blocks["combiner"].restart == restart


def test_the_options_say_what_holds_for_blocks_that_do_not(graph_of):
    graph = graph_of(chain("restart: never", options="restart: {retries: 9}"))
    assert {name: spec.restart for name, spec in graph.blocks.items()} == {
        "source": Restart("on_failure", 9),
        "combiner": Restart("never"),
        "sink": Restart("on_failure", 9),
    }


def test_a_restart_policy_of_the_file_is_that_of_the_graph_but_for_its_default():
    declared = {name: known.default for name, known in RestartOptions.model_fields.items()}
    assert declared == {one.name: one.default for one in fields(Restart)} | {"policy": "on_failure"}


@pytest.mark.parametrize(
    ("block", "line"),
    [
        ("replicas: 0", "combiner.replicas: got 0; wanted a whole number >= 1 or 'auto'"),
        ("replicas: 65", "combiner.replicas: got 65; wanted a whole number <= 64 or 'auto'"),
        ("replicas: n / 2", "combiner.replicas: got 1.5 from 'n / 2'; wanted a whole number or 'auto'"),
        (
            "replicas: many",
            "combiner.replicas: got 'many'; wanted a whole number or one of auto; no variable is called 'many'"
            " (character 1); there is n, way, group, pi, e, inf",
        ),
        ("replica: 2", "combiner.replica: is not known; did you mean 'replicas'?"),
        ("process: 3", "combiner.process: got 3; wanted a text"),
        ("process: My DSP", "combiner.process: got 'My DSP'; wanted a text like ^[a-z][a-z0-9_]*$"),
        ("restart: always", "combiner.restart: got 'always'; wanted 'never' or 'on_failure' or a mapping"),
        ("restart: {retires: 3}", "combiner.restart.retires: is not known; did you mean 'retries'?"),
        ("restart: {retries: -1}", "combiner.restart.retries: got -1; wanted a whole number >= 0"),
        ("restart: {backoff: .inf}", "combiner.restart.backoff: got inf; wanted a finite number"),
        (
            "restart: {backoff: 1s}",
            "combiner.restart.backoff: got '1s'; wanted a number; it stands without its unit, such as 1e-6",
        ),
        ("restart: {hang_timeout: 0}", "combiner.restart.hang_timeout: got 0; wanted a number > 0"),
        ("restart: {on_poison: ignore}", "combiner.restart.on_poison: got 'ignore'; wanted 'stop' or 'drop'"),
        (
            "process: sink",
            "combiner: process 'sink' has the name of a block outside of it; call it something else,"
            " or put that block into it",
        ),
        (
            "process: dsp, replicas: 2",
            "combiner: got 2 replicas; wanted 1: it shares process 'dsp'; take it out of that",
        ),
    ],
)
def test_a_block_cannot_be_run_in_just_any_way(problems, block, line):
    assert problems(chain(block)) == [f"g.yml:5: {line}"]


def test_a_wrong_policy_of_the_options_is_told_where_it_stands(problems):
    assert problems(chain(options="restart: {retires: 3, backoff_max: -1}")) == [
        "g.yml:1: options.parameters.restart.retires: is not known; did you mean 'retries'?",
        "g.yml:1: options.parameters.restart.backoff_max: got -1; wanted a number >= 0",
    ]


def test_what_is_wrong_with_the_run_of_a_block_cites_its_key(problems):
    text = chain().replace("- {name: sink, id: sink}", "- name: sink\n  id: sink\n  process: dsp\n  replicas: n")
    assert problems(text) == [
        "g.yml:9: sink: got 3 replicas; wanted 1: it is a sink, and each replica would see a part of the slots"
    ]


def test_a_block_that_is_not_known_is_told_what_else_is_wrong_with_it(problems):
    text = chain("replicas: 0").replace("id: combiner, parameters", "id: combinr, parameters")
    assert problems(text) == [
        "g.yml:5: combiner.id: no block has the id 'combinr'; did you mean 'combiner'?",
        "g.yml:5: combiner.replicas: got 0; wanted a whole number >= 1 or 'auto'",
    ]


# Overrides


def test_overrides_set_how_a_block_is_run(graph_of):
    overrides = ("combiner.replicas=n - 1", "combiner.restart={retries: 2}", "sink.process=dsp", "restart=on_failure")
    blocks = graph_of(chain("replicas: 9"), *overrides).blocks
    assert (blocks["combiner"].replicas, blocks["combiner"].restart) == (2, Restart("on_failure", 2))
    assert (blocks["sink"].process, blocks["sink"].restart) == ("dsp", Restart("on_failure"))


def test_an_empty_override_takes_a_process_and_a_policy_away(graph_of):
    text = chain("process: dsp, restart: on_failure")
    spec = graph_of(text, "combiner.process=", "combiner.restart=").blocks["combiner"]
    assert (spec.process, spec.restart) == ("", Restart("never"))


class Own(Block):
    """Has parameters that are called as keys of a block."""

    out = Out()
    fed = In()

    replicas: int = 7
    restart: dict[str, int] = Field(default_factory=dict[str, int])


def own(*overrides: str) -> Graph:
    class Source(Block):
        out = Out()

    class Sink(Block):
        stream = In()

    names = ["source", "own", "sink"]
    blocks = [{"name": name, "id": name, **({"replicas": 2} if name == "own" else {})} for name in names]
    edges = [("source", "out", "own", "fed"), ("own", "out", "sink", "stream")]
    kinds = {"own": Own, "source": Source, "sink": Sink}
    return load({"blocks": blocks, "connections": edges}, overrides=overrides, blocks=kinds)


def test_an_override_sets_the_parameter_where_the_block_has_one_of_that_name():
    spec = own("own.replicas=5", "own.restart={anything: 3}").blocks["own"]
    assert (spec.replicas, spec.parameters["replicas"], spec.parameters["restart"]) == (2, 5, {"anything": 3})


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("combiner.replicas=0", "combiner.replicas: got 0; wanted a whole number >= 1 or 'auto'"),
        ("combiner.restart={retires: 1}", "combiner.restart.retires: is not known; did you mean 'retries'?"),
        (
            "source.replicas=2",
            "source: got 2 replicas; wanted 1: it is a source, and each replica would make every slot",
        ),
        ("process=dsp", "no variable or run option is called 'process'; did you mean 'combiner.process'?"),
    ],
)
def test_an_override_that_is_wrong_is_cited(problems, override, line):
    assert problems(chain("process: null"), override) == [f"-p {override}: {line}"]


# Edges


def test_an_edge_queues_as_it_says(graph_of):
    first, second = graph_of(chain(params="policy: drop_newest, window: n, bytes: n * 1000")).edges
    assert (first.policy, first.window, first.nbytes, first.buffer) == ("block", None, None, None)
    assert (second.policy, second.window, second.nbytes, second.buffer) == ("drop_newest", 3, 3000, None)
    assert not second.lossless
    assert second.place.endswith("g.yml:9")


def test_a_buffer_is_a_window_in_time(graph_of):
    graph = graph_of(chain(params="buffer: n * 2"))
    assert graph.edges[1].buffer == 6.0
    assert graph.windows["combiner.rf > sink.rf"] == 600


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ("policy: latest, window: 5", "window is 5, but policy latest keeps one frame; leave window out"),
        (
            "policy: drop_oldest, buffer: 1",
            "buffer is for lossless edges and policy is drop_oldest; set it on the edge that is joined with this one,"
            " or set window here: the slots that are queued",
        ),
    ],
)
def test_a_lossy_edge_is_told_what_it_cannot_have(problems, params, line):
    assert problems(chain(params=params)) == [f"g.yml:9: combiner.rf > sink.rf: {line}"]


def test_nothing_is_lost_within_a_process(problems):
    text = chain("process: dsp", "policy: latest").replace("id: sink}", "id: sink, process: dsp}")
    assert problems(text) == [
        "g.yml:9: combiner.rf > sink.rf: policy is latest within process 'dsp'; wanted block: nothing queues within"
        " a process"
    ]


def test_a_cycle_of_processes_is_told_at_the_line_that_closes_it(problems, tmp_path):
    text = """\
blocks:
- {name: source, id: source, process: ends}
- {name: combiner, id: combiner, parameters: {chain: 12}}
- {name: sink, id: sink, process: ends}
connections:
- [source, field, combiner, field]
- [combiner, rf, sink, rf]
"""
    (line,) = problems(text)
    assert line in [
        f"g.yml:7: combiner.rf > sink.rf: closes a cycle of processes: {ring}; a process takes a frame through all of"
        " its blocks at once; put all of these into one, or split one"
        for ring in ("ends > combiner > ends", "combiner > ends > combiner")
    ]


def test_the_problems_of_processes_keep_their_type(tmp_path):
    file = tmp_path / "g.yml"
    file.write_text(chain("process: dsp").replace("id: sink}", "id: sink, process: dsp, restart: on_failure}"))
    with pytest.raises(FlowgraphError) as caught:
        load(file, blocks=[Path(__file__).parent / "own_blocks.py"])
    assert [type(problem) for problem in caught.value.causes] == [BadParam]
    assert str(caught.value) == (
        f"{file}:6: sink: restart is not that of combiner; wanted one for all blocks of process 'dsp'"
    )
