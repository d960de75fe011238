"""Flowgraphs go to GNU Radio Companion and come back the same, also when Companion itself has saved them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from beamslot_gnuradio import PYTHON, needs_gnuradio

from beamslot import catalogue
from beamslot.cli import main
from beamslot.errors import FlowgraphError
from beamslot.flowgraph import load
from beamslot.flowgraph.grc import as_text, block_file, dumped, from_grc, from_text, run_file, to_grc
from beamslot.flowgraph.reading import read_text
from beamslot.runtime.graph import Graph

FLOWGRAPHS = Path(__file__).parents[2] / "flowgraphs"
SHIPPED = sorted(path.name for path in FLOWGRAPHS.glob("*.yml"))


def meaning(graph: Graph) -> dict[str, Any]:
    """All that a graph says, without where it was written and in what order."""
    blocks = {
        name: (spec.kind, repr(spec.build()), spec.process, spec.replicas, spec.restart, spec.deadline)
        for name, spec in graph.blocks.items()
    }
    edges = {
        edge.name: {key: value for key, value in vars(edge).items() if key not in ("place", "places")}
        for edge in graph.edges
    }
    changes = [(change.slot, change.block, dict(change.values)) for change in graph.timeline]
    run = {key: getattr(graph, key) for key in ("name", "slots", "slot_period", "pace", "burst", "seed")}
    return {"blocks": blocks, "edges": edges, "timeline": changes, "windows": dict(graph.windows), **run}


def loaded(source: Any) -> Graph:
    try:
        return load(source)
    except FlowgraphError as error:
        if "not installed" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_graph_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    original = loaded(FLOWGRAPHS / name)
    there = tmp_path / f"{Path(name).stem}.grc"
    there.write_text(to_grc(FLOWGRAPHS / name), encoding="utf-8")
    document = from_grc(there)
    assert meaning(load(document)) == meaning(original)
    back = tmp_path / name
    back.write_text(dumped(document), encoding="utf-8")
    assert meaning(load(back)) == meaning(original)


COMPANION = """
import json, sys
from gnuradio import gr
from gnuradio.grc.core.platform import Platform
version = (gr.major_version(), gr.api_version(), gr.minor_version())
platform = Platform(version=gr.version(), version_parts=version, prefs=gr.prefs(), name="test")
folder, *names = sys.argv[1:]
platform.build_library([folder, *platform.config.block_paths])
found = {"blocks": [name for name in platform.blocks if name.startswith("beamslot_")], "graphs": {}}
for name in names:
    graph = platform.make_flow_graph(name)
    graph.rewrite()
    graph.validate()
    errors = [str(message) for _, message in graph.iter_error_messages()]
    found["graphs"][name] = [errors, len(graph.blocks), len(graph.connections)]
    platform.save_flow_graph(name, graph)
print(json.dumps(found))
"""


def test_companion_loads_all_our_blocks_and_graphs_finds_nothing_wrong_and_saves_them_unharmed(tmp_path: Path) -> None:
    needs_gnuradio()
    assert main(["export", "grc", "-o", str(tmp_path)]) == 0
    names = [str(tmp_path / f"{Path(name).stem}.grc") for name in SHIPPED]
    for file, name in zip(names, SHIPPED, strict=True):
        Path(file).write_text(to_grc(FLOWGRAPHS / name), encoding="utf-8")
    done = subprocess.run(
        [PYTHON, "-c", COMPANION, str(tmp_path), *names], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    written = {path.name.removesuffix(".block.yml") for path in tmp_path.glob("*.block.yml")}
    assert set(found["blocks"]) == written >= {"beamslot_run", "beamslot_omp", "beamslot_gnuradio_source"}
    assert {name: errors for name, (errors, _, _) in found["graphs"].items() if errors} == {}
    for file, name in zip(names, SHIPPED, strict=True):
        original = loaded(FLOWGRAPHS / name)
        assert found["graphs"][file][2] == len(original.edges)
        assert meaning(load(from_grc(file))) == meaning(original), name


@pytest.mark.parametrize(
    "value",
    [0, -1.5, 1e-3, 1e300, float("inf"), True, None, "interleaved", "28e9", "10 * n", "", " x", "'q'", "None", "a: b"],
)
def test_a_value_is_its_text_and_back(value: Any) -> None:
    for one in (value, [value, "n"], {"k": [value]}):
        assert from_text(as_text(one)) == one


@pytest.mark.parametrize("text", ["__import__('os')", "1+2j", "b'x'", "{1}", "...", "(" * 5000, "lambda: 0"])
def test_what_is_no_plain_value_stays_a_text(text: str) -> None:
    assert from_text(text) == text


GRC = """
options: {parameters: {id: mine, title: Mine, run: 'True'}}
blocks:
- {name: n, id: variable, parameters: {value: '3', comment: ''}}
- {name: src, id: beamslot_upa_source, parameters: {n_y: '4', users: '1', affinity: ''}, states: {state: disabled}}
- {name: sink, id: beamslot_null_sink}
connections:
- [src, field, sink, stream]
"""


def back(text: str, tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "mine.grc"
    file.write_text(text)
    return from_grc(file)


def test_defaults_and_what_companion_adds_are_left_out(tmp_path: Path) -> None:
    assert back(GRC, tmp_path) == {
        "options": {"parameters": {"id": "mine", "title": "Mine"}},
        "variables": {"n": 3},
        "blocks": [
            {"name": "src", "id": "upa_source", "parameters": {"n_y": 4}, "states": {"state": "disabled"}},
            {"name": "sink", "id": "null_sink"},
        ],
        "connections": [["src", "field", "sink", "stream"]],
        "metadata": {"file_format": 1},
    }


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("id: beamslot_null_sink", "id: blocks_null_sink", "sink: is a blocks_null_sink; wanted blocks of beamslot"),
        ("id: beamslot_null_sink", "id: beamslot_nul_sink", "sink: no block has the id 'nul_sink'; did you mean"),
        ("n_y: '4'", "n_x: '4'", "n_x: is no parameter; did you mean 'n_"),
        ("state: disabled", "state: bypassed", "src: is bypassed; a block here is enabled or disabled"),
        ("[src, field, sink, stream]", "[src, field]", "wanted [block, port, block, port]"),
        ("- {name: n, id: variable", "- {id: variable", "wanted a block with name and id"),
        (GRC, "[1]", "wanted a .grc"),
        ("{name: sink,", "{name: sink, name: sink,", "name"),
    ],
)
def test_what_is_not_ours_is_refused_with_its_place(old: str, new: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(FlowgraphError) as caught:
        back(GRC.replace(old, new), tmp_path)
    assert text in str(caught.value)
    assert "mine.grc:" in str(caught.value)


def test_a_graph_that_cannot_be_read_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(FlowgraphError, match=r"nowhere\.yml"):
        to_grc(tmp_path / "nowhere.yml")
    (tmp_path / "list.yml").write_text("[1]")
    with pytest.raises(FlowgraphError, match="wanted a flowgraph"):
        to_grc(tmp_path / "list.yml")


def test_a_block_file_says_what_the_block_declares() -> None:
    node, problems = read_text(block_file("combiner", catalogue.find("combiner")), "combiner.block.yml")
    assert problems == []
    entries = node.entries or {}
    assert entries["id"].value == "beamslot_combiner"
    assert entries["category"].value == "[beamslot]/Beamformers"
    (port,) = entries["inputs"].items or []
    assert {key: one.value for key, one in (port.entries or {}).items()} == {
        "id": "field",
        "label": "field",
        "domain": "message",
        "optional": False,
    }
    assert "[beamslot]/Faults" in block_file("quantiser", catalogue.find("quantiser"))
    assert "beamslot_run" in run_file()


def test_the_verbs_write_and_read_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "grc", str(FLOWGRAPHS / "hello.yml"), "-o", str(tmp_path / "g"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"hello.grc", "beamslot_omp.block.yml", "beamslot_run.block.yml"} <= set(told["files"])
    assert main(["import", str(tmp_path / "g" / "hello.grc"), "-o", str(tmp_path / "hello.yml")]) == 0
    assert meaning(load(tmp_path / "hello.yml")) == meaning(load(FLOWGRAPHS / "hello.yml"))
    capsys.readouterr()
    assert main(["import", str(tmp_path / "g" / "hello.grc")]) == 0
    assert capsys.readouterr().out == (tmp_path / "hello.yml").read_text()
    (tmp_path / "bad.grc").write_text(GRC.replace("'4'", "'minus'"))
    assert main(["import", str(tmp_path / "bad.grc")]) == 2
