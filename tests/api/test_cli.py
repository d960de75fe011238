import argparse
import io
import json
import math
import re
import shlex
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from beamslot_probes import CountingSource, PairSink, Relay
from pydantic import Field

from beamslot import flowgraph, probe
from beamslot.cli import blocks, draw, echo, main, options, parser, plot, run, sweep
from beamslot.cli import graph as graphs
from beamslot.errors import BadParam, FlowgraphError, PeerLost, UnknownPort
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.runtime import Block, In, Out
from beamslot.runtime.chaos import Chaos
from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph, Restart

FLOWGRAPHS = Path(__file__).parents[2] / "flowgraphs"

TWO_WAYS = Graph(
    name="two ways",
    blocks={
        "source": BlockSpec("source", CountingSource, {"words": 4}),
        "left": BlockSpec("left", Relay),
        "right": BlockSpec("right", Relay),
        "pair": BlockSpec("pair", PairSink),
    },
    edges=(
        EdgeSpec("source", "numbers", "left", "numbers"),
        EdgeSpec("source", "numbers", "right", "numbers"),
        EdgeSpec("left", "out", "pair", "left"),
        EdgeSpec("right", "out", "pair", "right"),
    ),
    slots=100,
)


# usage


@pytest.mark.parametrize(
    "verb", ["run", "validate", "graph", "blocks", "new", "sweep", "echo", "logs", "keys", "doctor"]
)
def test_the_help_of_every_verb_teaches_by_an_example(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert f"example:\n  beamslot {verb}" in capsys.readouterr().out


def test_the_top_help_shows_what_people_do_and_the_exit_codes():
    text = parser().format_help()
    for words in ("beamslot run", "beamslot blocks", "beamslot new block", "130 interrupted"):
        assert words in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["run"],
        ["run", "x.yml", "--slots", "0"],
        ["run", "x.yml", "--slots", "5", "--for", "1s"],
        ["run", "x.yml", "--for", "soon"],
        ["run", "x.yml", "--pace", "-1"],
        ["run", "x.yml", "--seed", "-1"],
        ["run", "x.yml", "--restart", "sometimes"],
        ["run", "x.yml", "--chaos", "7,every=0"],
        ["run", "x.yml", "--chaos", "7,actions=kill+bite"],
        ["graph", "x.yml", "--format", "jpeg"],
    ],
)
def test_bad_usage_exits_with_2_and_says_what_was_wanted(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: beamslot" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("1.5", 1.5), ("1e1s", 10)]
)
def test_durations_are_read_with_their_unit(text, seconds):
    assert options.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "0s", "-1s", "10 parsecs", "infs", "nan", "inf"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="wanted a time such as 10s"):
        options.duration(text)


def test_paces_have_names_or_factors():
    assert options.pace("realtime") == 1.0
    assert options.pace("max") == math.inf
    assert options.pace("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match="realtime, max, or a factor"):
        options.pace("fast")


def test_an_interrupt_outside_a_run_exits_with_130_and_no_traceback(monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("beamslot.cli.doctor.checks", lambda: interrupt(0))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == ""


def examples():
    """The command lines that the helps show, and those of the file of a graph."""
    helps = [parser().format_help()]
    verbs = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    helps += [verb.format_help() for verb in verbs.choices.values()]
    helps += [file.read_text() for file in FLOWGRAPHS.glob("*.yml")]
    lines = re.findall(r"^(?:#| )  *beamslot ((?!bench).*?)(?:   .*)?$", "\n".join(helps), re.M)
    return sorted({line.strip() for line in lines})


@pytest.mark.parametrize("line", examples())
def test_the_examples_of_every_help_can_be_called(line, monkeypatch):
    monkeypatch.chdir(FLOWGRAPHS.parent)
    given = parser().parse_args(shlex.split(line))
    if str(vars(given).get("graph")).endswith(".yml"):  # else it is a run, or what the verb takes in its place
        overrides = vars(given).get("param", [])
        if "sweep" in line:
            overrides = [f"{name}={value[0]}" for name, value in sweep.grid(overrides).items()]
        flowgraph.load(given.graph, overrides=overrides)


def test_the_examples_are_all_found():
    assert len(examples()) >= 12


# how long a run lasts


def arguments(**given):
    return argparse.Namespace(**{"slots": None, "seconds": None, "pace": None, "seed": None, **given})


def test_a_time_becomes_slots_when_the_run_is_paced():
    graph, seconds = run.timed(TWO_WAYS, arguments(seconds=2.0, pace=0.5))
    assert (graph.slots, seconds) == (round(2.0 * 0.5 / TWO_WAYS.slot_period), None)


def test_a_time_becomes_a_limit_on_the_wall_when_the_run_goes_as_fast_as_it_can():
    graph, seconds = run.timed(TWO_WAYS, arguments(seconds=2.0, pace=math.inf))
    assert (graph.slots, seconds) == (None, 2.0)


def test_slots_pace_and_seed_replace_those_of_the_graph_only_when_given():
    graph, seconds = run.timed(TWO_WAYS, arguments(slots=7, seed=3))
    assert (graph.slots, graph.seed, graph.pace, seconds) == (7, 3, TWO_WAYS.pace, None)
    assert run.timed(TWO_WAYS, arguments())[0] == TWO_WAYS


# when processes end


def test_a_restart_policy_is_for_processes_of_which_no_block_has_one_written():
    kept = Restart("never", retries=2)
    written = {"restart": "g.yml:3"}
    group = {name: replace(TWO_WAYS.blocks[name], process="both", restart=kept) for name in ("left", "right")}
    group["right"] = replace(group["right"], places=written)
    graph = replace(TWO_WAYS, blocks={**TWO_WAYS.blocks, **group})
    policies = {name: spec.restart for name, spec in options.restarted(graph, "on_failure").blocks.items()}
    assert policies == {name: kept if name in group else Restart("on_failure") for name in graph.blocks}
    assert options.restarted(graph, None) is graph


def test_the_rest_of_a_restart_policy_stays_as_the_graph_says():
    patient = Restart("never", retries=50)
    graph = replace(TWO_WAYS, blocks={n: replace(s, restart=patient) for n, s in TWO_WAYS.blocks.items()})
    assert options.restarted(graph, "on_failure").blocks["left"].restart == Restart("on_failure", retries=50)


def test_a_chaos_is_read_and_what_it_did_is_told():
    chaos = options.chaos("7,every=0.5,actions=kill+cut")
    assert chaos == Chaos(7, 0.5, ("kill", "cut"))
    events = [{"kind": "blow", "process": name, "action": "kill"} for name in ("omp", "nmse", "omp")]
    told = run.blows(chaos, [{"kind": "started"}, *events], 3)
    assert told == "chaos 7: kill nmse 1, kill omp 2; 3 restarts"
    assert run.blows(chaos, [], 0) == "chaos 7: no blow fell; 0 restarts"


# progress without a terminal


def test_progress_prints_on_a_new_state_then_every_few_seconds_and_each_note_once(capsys):
    progress = run.Progress(100)
    for seconds in np.arange(0.0, 5.01, 0.25):
        notes = ["a waits for b"] if seconds > 1 else []
        progress({"graph": "g", "state": "running", "slots": 10, "seconds": seconds, "notes": notes})
    progress({"graph": "g", "state": "draining", "slots": 90, "seconds": 5.1, "notes": ["a waits for b", "stop"]})
    said = capsys.readouterr()
    assert said.out == ""
    assert len([line for line in said.err.splitlines() if "running" in line]) == 3
    assert [line for line in said.err.splitlines() if line.startswith("!")] == ["! a waits for b", "! stop"]
    assert "draining  90 of 100 slots" in said.err.splitlines()[-1]


def test_the_live_board_starts_no_thread():
    import threading

    from rich.console import Console

    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    before = threading.active_count()
    with run.board(100, console) as watch:
        watch({"graph": "g", "state": "running", "slots": 50, "seconds": 1.0})
        assert threading.active_count() == before
    assert "50 of 100 slots" in console.file.getvalue()


# drawing


def test_a_mermaid_chart_has_a_node_a_block_and_an_arrow_an_edge():
    text = draw.mermaid(TWO_WAYS)
    assert text.startswith("flowchart LR\n")
    assert len(re.findall(r"^  n\d\[", text, re.M)) == 4
    assert '  n1 -- "out &gt; left" --> n3' in text


def test_a_dot_graph_quotes_what_it_must():
    graph = Graph(name='a "b"', blocks={"x\\y": BlockSpec("x\\y", CountingSource)}, edges=())
    assert draw.dot(graph).splitlines()[0] == 'digraph "a \\"b\\"" {'
    assert '  "x\\\\y" [label="x\\\\y\\nCountingSource"]' in draw.dot(graph)


def test_blocks_stand_in_columns_by_the_longest_way_from_a_source():
    assert draw.columns(TWO_WAYS) == [["source"], ["left", "right"], ["pair"]]


def test_drawings_show_what_shares_work_or_a_process_and_what_loses_slots():
    edges = (*TWO_WAYS.edges[1:], replace(TWO_WAYS.edges[0], policy="latest"))
    blocks = {"left": {"replicas": 2}, "right": {"replicas": 0}, "pair": {"process": "back"}}
    changed = {name: replace(TWO_WAYS.blocks[name], **how) for name, how in blocks.items()}
    graph = replace(TWO_WAYS, blocks={**TWO_WAYS.blocks, **changed}, edges=edges)
    for text in (draw.mermaid(graph), draw.dot(graph), draw.svg(graph)):
        for words in ("Relay x 2", "Relay x auto", "PairSink in back"):
            assert words in text
    assert '  n0 -. "numbers (latest)" .-> n1' in draw.mermaid(graph)
    assert draw.dot(graph).count("style=dashed") == draw.svg(graph).count("stroke-dasharray") == 1


def test_an_svg_is_well_formed_and_its_edges_join_the_blocks_they_name():
    tree = ET.fromstring(draw.svg(TWO_WAYS))  # noqa: S314
    space = "{http://www.w3.org/2000/svg}"
    boxes = [tuple(float(box.get(k)) for k in ("x", "y", "width", "height")) for box in tree.iter(f"{space}rect")]
    assert len(boxes) == 4
    for path in (p for p in tree.iter(f"{space}path") if p.get("class") == "edge"):
        x0, y0, *_, x1, y1 = (float(number) for number in re.findall(r"-?[\d.]+", path.get("d")))
        assert any(x0 == x + w and y < y0 < y + h for x, y, w, h in boxes)
        assert any(x1 == x and y < y1 < y + h for x, y, w, h in boxes)
    for i, (x, y, w, h) in enumerate(boxes):
        assert x + w <= float(tree.get("width"))
        assert y + h <= float(tree.get("height"))
        assert not any(abs(x - a) < w and abs(y - b) < h for a, b, *_ in boxes[:i])


@pytest.mark.parametrize(
    ("name", "start"),
    [("a.svg", "<svg "), ("a.dot", "digraph"), ("a.gv", "digraph"), ("a.mmd", "flowchart"), ("a.md", "```mermaid\n")],
)
def test_the_format_of_a_drawing_is_what_its_file_ends_with(name, start):
    assert draw.FORMATS[graphs._format(Path(name))](TWO_WAYS).startswith(start)


@pytest.mark.parametrize("name", ["a.jpg", "a"])
def test_a_drawing_of_no_known_format_is_refused(name):
    with pytest.raises(BadParam, match=f"^graph: got -o {name}; wanted a name that ends with .svg, .dot,"):
        graphs._format(Path(name))


# what a graph is


def test_the_summary_of_a_graph_names_what_flows_and_the_most_that_may_be_in_flight():
    found = graphs.summary(TWO_WAYS, {})
    edge = found["edges"][0]
    assert edge["edge"] == "source.numbers > left.numbers"
    assert found["streams"][0]["arrays"][0] == {
        "array": "words",
        "axes": ["slot", "sample"],
        "lengths": None,
        "dtype": "int64",
        "unit": "1",
    }
    assert edge["window"] == TWO_WAYS.windows[edge["edge"]]
    assert found["blocks"][0] == {
        "block": "source",
        "class": "CountingSource",
        "place": "",
        "process": "",
        "replicas": 1,
        "restart": "never",
        "most_bytes": None,
    }


def test_started_blocks_give_lengths_and_exact_bytes():
    found = graphs.summary(TWO_WAYS, graphs.described(TWO_WAYS))
    assert [array["lengths"] for array in found["streams"][1]["arrays"]] == [[1, 4], [1], [1]]
    edge = found["edges"][0]
    assert edge["most_bytes"] == edge["window"] * (4 * 8 + 8 + 8)


def test_a_block_that_does_not_start_is_a_problem_of_the_graph():
    class Broken(CountingSource):
        def start(self):
            raise ValueError("no weights")

    graph = Graph(name="g", blocks={"b": BlockSpec("b", Broken, place="g.yml:3")}, edges=())
    with pytest.raises(FlowgraphError, match=r"^g\.yml:3: b: does not start: no weights$"):
        graphs.described(graph)


# what a block is


class Everything(Block):
    """Declare one of each.

    The second paragraph does not stand in the list.
    """

    field = In("slot y", np.complex64, unit="sqrt(W)", many=True, window="length", hop=2)
    out = Out(u=Array.of("slot path", np.float32))

    length: int = Field(4, ge=1, lt=100, description="slots of a call")
    angle: float = Field(gt=0.0, description="where", json_schema_extra={"unit": "rad"})
    names: tuple[str, ...] = Field((), description="of things")
    limit: float | None = Field(None, ge=0)
    pair: tuple[float, int] = Field((math.inf, 1))


def test_a_block_is_described_from_its_declarations():
    found = blocks.describe("everything", Everything)
    arrays = [{"name": "field", "axes": ["slot", "y"], "dtype": "complex64", "unit": "sqrt(W)"}]
    assert found["inputs"] == [{"port": "field", "arrays": arrays, "many": True, "window": "length", "hop": 2}]
    by_name = {one["name"]: one for one in found["parameters"]}
    assert by_name["length"]["range"] == ">= 1, < 100"
    assert by_name["length"]["default"] == 4
    assert (by_name["angle"]["unit"], by_name["angle"]["required"]) == ("rad", True)
    assert by_name["names"]["type"] == "list of string"
    assert (by_name["pair"]["type"], by_name["pair"]["range"]) == ("[number, integer]", "")
    assert (by_name["limit"]["type"], by_name["limit"]["range"]) == ("number or none", ">= 0")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Relay, ""),
        (Everything, "it takes windows of 4 slots"),
        (CountingSource, "it is a source"),
        (PairSink, "it is a sink"),
    ],
)
def test_whether_a_block_may_have_replicas_is_told_from_its_class(kind, why):
    found = blocks.describe("it", kind)
    assert found["single"].startswith(why)
    assert bool(found["single"]) == bool(why)
    assert ("1 only: " if why else "several may share its slots") in blocks._replicas(found)


def test_whether_a_block_has_state_is_told_from_its_class():
    class Lossy(Relay):
        stateful = True

    class Careful(Relay):
        def snapshot(self):
            return {}

    said = [blocks._state(blocks.describe("it", kind)) for kind in (Relay, Lossy, Careful)]
    assert [text.partition(",")[0] for text in said] == ["none: slots are worked on alone", "has some", "has some"]
    assert "begins anew" in said[1]
    assert "puts it back" in said[2]


def test_the_example_of_a_block_is_yaml_with_every_parameter():
    from ruamel.yaml import YAML

    (entry,) = YAML(typ="safe").load(blocks.example(blocks.describe("everything", Everything)))
    assert entry["id"] == "everything"
    assert entry["parameters"] == {"length": 4, "angle": "...", "names": [], "limit": None, "pair": ["inf", 1]}


# sweeps


@pytest.mark.parametrize(
    ("text", "several"),
    [
        ("-5:20:5", ["-5", "0", "5", "10", "15", "20"]),
        ("0:0.3:0.1", ["0", "0.1", "0.2", "0.3"]),
        ("10:0:-5", ["10", "5", "0"]),
        ("1:2:5", ["1"]),
        ("100:300:100", ["100", "200", "300"]),
        ("1,2, 3", ["1", "2", "3"]),
        ("max", ["max"]),
        ("[1, 2]", ["[1, 2]"]),
        ("[32,16],[64,16]", ["[32,16]", "[64,16]"]),
        ("[[1,2],[3,4]], [[5,6]]", ["[[1,2],[3,4]]", "[[5,6]]"]),
    ],
)
def test_values_of_a_sweep_are_ranges_lists_or_one_value(text, several):
    assert sweep.values(text) == several


@pytest.mark.parametrize("text", ["1:2", "1:2:0", "2:1:1", "a:b:c", "0:1e9:1", "0:nan:1", "1:2:3:4"])
def test_a_range_that_is_none_is_refused(text):
    with pytest.raises(BadParam, match="wanted first:last:step"):
        sweep.values(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("5:-5:1", "the step has the wrong sign"),
        ("0:10:0", "the step is zero"),
        ("0:1e9:1", "it is too long"),
        ("a:b:c", "it is no range of numbers"),
        ("1:2", "it is no range of numbers"),
    ],
)
def test_a_range_that_is_none_is_told_why(text, problem):
    with pytest.raises(BadParam, match=f"^sweep: got '{text}'; {problem}; wanted first:last:step"):
        sweep.values(text)


@pytest.mark.parametrize("given", [["snr_db"], ["=1,2"], ["a=1,2", "a=3"], ["a=1"], []])
def test_a_grid_needs_names_and_something_to_sweep(given):
    with pytest.raises(BadParam, match="sweep"):
        sweep.grid(given)


JUDGED = {
    "ok": True,
    "slots_per_s": 1234.5678,
    "sinks": {
        "nmse": {
            "ls": {"nmse_db": -10.0, "ci95_db": [-10.5, -9.5], "draws": 200},
            "gw": {"nmse_db": -20.0, "ci95_db": None, "draws": 200},
            "crb": {"nmse_db": -25.0, "ci95_db": None, "draws": 200},
        }
    },
}


def test_a_point_gives_a_row_for_each_estimator():
    first, second = sweep.rows({"snr_db": "5"}, JUDGED)
    assert first == {
        "snr_db": "5",
        "sink": "nmse",
        "estimate": "ls",
        "nmse_db": "-10",
        "ci95_low_db": "-10.5",
        "ci95_high_db": "-9.5",
        "draws": "200",
        "crb_db": "-25",
        "slots_per_s": "1234.57",
        "ok": "true",
    }
    assert (second["estimate"], second["ci95_low_db"]) == ("gw", "")


def test_a_failed_point_gives_one_row_that_says_so():
    (row,) = sweep.rows({"snr_db": "5"}, {"ok": False, "sinks": JUDGED["sinks"]})
    assert (row["ok"], row["nmse_db"], row["snr_db"]) == ("false", "", "5")


def test_a_table_resumes_after_the_points_that_ended_well(tmp_path):
    table = sweep.Table(tmp_path, ["snr_db"], {"seed": "1"})
    table.add({"snr_db": "0"}, JUDGED)
    table.add({"snr_db": "5"}, {"ok": False})
    table.add({"snr_db": "10"}, JUDGED)
    again = sweep.Table(tmp_path, ["snr_db"], {"seed": "1"})
    assert [again.has({"snr_db": value}) for value in ("0", "5", "10")] == [True, False, True]
    assert len(again.rows) == 4


def test_a_point_whose_rows_were_cut_off_is_run_again(tmp_path):
    table = sweep.Table(tmp_path, ["snr_db"], {})
    table.add({"snr_db": "0"}, JUDGED)
    table.add({"snr_db": "5"}, JUDGED)
    table.path.write_text(table.path.read_text()[:-9])
    again = sweep.Table(tmp_path, ["snr_db"], {})
    assert [again.has({"snr_db": value}) for value in ("0", "5")] == [True, False]
    assert again.path.read_text().count("\n") == 3


def test_a_table_of_another_sweep_is_not_mixed_in(tmp_path):
    sweep.Table(tmp_path, ["snr_db"], {"seed": "1"})
    with pytest.raises(BadParam, match="another sweep"):
        sweep.Table(tmp_path, ["snr_db"], {"seed": "2"})


def test_the_plot_has_a_line_an_estimator_and_the_bound_with_units(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [row for snr in ("-5", "0", "5") for row in sweep.rows({"snr_db": snr}, JUDGED)]
    said = plot.draw(rows, {"snr_db": ["-5", "0", "5"]}, tmp_path / "sweep.png")
    assert said == f"plot: {tmp_path / 'sweep.png'}"
    assert (tmp_path / "sweep.png").read_bytes()[:4] == b"\x89PNG"


def test_lines_are_told_apart_by_estimator_and_by_what_else_was_swept():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.add_subplot()
    points = [{"snr_db": snr, "users": users} for snr in ("10", "0") for users in ("1", "4")]
    rows = [row for point in points for row in sweep.rows(point, JUDGED)]
    plot._lines(axes, rows, "snr_db", ["users"])
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels[:4] == [f"{e}, users {n}" for e in ("gw", "ls") for n in ("1", "4")]
    colours = [line.get_color() for line in axes.get_lines()]
    assert colours[0] == colours[1] != colours[2]
    assert list(axes.get_lines()[0].get_xdata()) == [0.0, 10.0]
    assert {line.get_linestyle() for line in axes.get_lines()[4:]} == {"--"}


@pytest.mark.parametrize(
    ("name", "said"), [("snr_db", "SNR [dB]"), ("source.path_count", "path count"), ("loss_db", "loss [dB]")]
)
def test_a_swept_name_becomes_a_label_with_its_unit(name, said):
    assert plot.label(name) == said


def test_without_numbers_on_the_axis_there_is_no_plot_and_a_reason(tmp_path):
    rows = list(sweep.rows({"kind": "umi"}, JUDGED))
    assert "no NMSE over numbers" in plot.draw(rows, {"kind": ["umi", "uma"]}, tmp_path / "p.png")


# listening

RUNS = [
    {"name": "old", "pid": 11, "ports": {"a.x": ["ipc://old"]}},
    {"name": "new", "pid": 22, "ports": {"a.x": ["ipc://new", "ipc://new.1"], "b.y": ["ipc://b"]}},
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("a.x", (["ipc://new", "ipc://new.1"], "a.x")),
        ("old:a.x", (["ipc://old"], "a.x")),
        ("22:b.y", (["ipc://b"], "b.y")),
    ],
)
def test_a_port_is_found_in_the_newest_run_or_the_one_named(wanted, found):
    run, port = probe.parse(wanted, "echo", RUNS)
    assert (run.endpoints(port), port) == found


def test_a_port_that_is_not_there_is_named_with_the_nearest():
    with pytest.raises(
        UnknownPort, match=r"new has no output 'b\.z' \(echo shows outputs, no inputs\); did you mean 'b\.y'\?"
    ):
        probe.parse("b.z", "echo", RUNS)
    with pytest.raises(PeerLost, match=r"^echo: no run is called 'other'; there is old, new"):
        probe.parse("other:a.x", "echo", RUNS)
    with pytest.raises(PeerLost, match=r"^echo: nothing runs; wanted a run in another terminal, such as `beamslot run"):
        probe.parse("a.x", "echo", [])


INFO = StreamInfo({"rf": Array.of("slot y", np.complex64, "sqrt(W)")}, {"y": 2})


def test_a_frame_is_told_by_slots_axes_and_size():
    frame = Frame(3, 2, {"rf": np.array([[3, 4j], [0, 0]], np.complex64)})
    said = echo.plain(frame, INFO)
    assert said["arrays"]["rf"]["axes"] == ["slot", "y"]
    assert said["arrays"]["rf"]["rms"] == pytest.approx(2.5)
    assert (said["arrays"]["rf"]["min"], said["arrays"]["rf"]["max"]) == (0.0, 4.0)
    assert echo.text(said) == "slots 3..4\n  rf: slot=2 y=2 complex64 rms 2.5 min 0 max 4"


def test_values_of_complex_arrays_are_pairs_and_travel_as_json():
    frame = Frame(0, 1, {"rf": np.array([[1 + 2j, 0]], np.complex64)})
    said = echo.plain(frame, None, values=True)
    assert json.loads(json.dumps(said))["arrays"]["rf"]["values"] == [[[1.0, 2.0], [0.0, 0.0]]]


def test_gaps_ends_and_descriptions_are_told():
    assert echo.text(echo.plain(Gap(5, 1, "late"), INFO)) == "slot 5: gap, late"
    assert echo.text(echo.plain(Eos(9), INFO)) == "end before slot 9: ok"
    assert echo.text(echo.plain(Eos(9, False, "died"), INFO)) == "end before slot 9: failed: died"
    assert echo.text(echo.plain(Describe("a.rf", INFO), None)) == (
        "a.rf: y=2, slots of 0.001 s\n  rf [slot y] complex64 [sqrt(W)]"
    )


@pytest.mark.parametrize("dtype", [np.int16, np.bool_, np.float32, np.uint8])
def test_sizes_of_any_dtype_are_finite(dtype):
    assert echo.size(np.array([0, 1, 1, 1], dtype))["rms"] == pytest.approx(math.sqrt(0.75))


# this machine


def test_the_doctor_finds_this_machine_fit_and_says_so_in_json(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert {"python", "numpy", "libzmq", "open files", "socket path", "extra plot"} <= {
        check["what"] for check in found["checks"]
    }


def test_the_doctor_fails_a_machine_where_runs_have_no_place(tmp_path, monkeypatch, capsys):
    place = tmp_path / ("x" * 90)
    place.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    assert main(["doctor"]) == 1
    assert "set TMPDIR to a shorter path" in capsys.readouterr().out
