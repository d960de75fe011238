"""The verbs as people call them: real processes, real runs."""

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beamslot.cli import main
from beamslot.runtime import rundir

ROOT = Path(__file__).parents[2]
PROBES = ROOT / "tests" / "support" / "beamslot_probes.py"
HELLO = ROOT / "flowgraphs" / "hello.yml"

GRAPH = """
options:
  parameters: {id: probe, slots: 40, slot_period: 0.01}
variables:
  fail_at: -1
blocks:
- {name: source, id: counting_source}
- {name: relay, id: relay, parameters: {fail_at: fail_at}}
- {name: sink, id: check_sink}
connections:
- [source, numbers, relay, numbers]
- [relay, out, sink, numbers]
"""


@pytest.fixture(autouse=True)
def private_state(tmp_path, monkeypatch):
    """Runs and logs of these tests go where nobody else's are."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def graph(tmp_path):
    file = tmp_path / "probe.yml"
    file.write_text(GRAPH)
    return file


def words(*arguments):
    return [sys.executable, "-P", "-m", "beamslot", *map(str, arguments)]


def beamslot(*arguments, **keywords):
    return subprocess.run(
        words(*arguments), capture_output=True, text=True, check=False, timeout=60, **{"cwd": ROOT, **keywords}
    )


def eventually(found, seconds=20.0):
    """Return what `found` gives once it gives something."""
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)
    return value


def test_a_run_closes_with_its_tables_and_shows_progress_on_standard_error():
    done = beamslot("run", HELLO, "--slots", 20)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("hello  done  20 of 20 slots")
    assert any(line.split()[:2] == ["omp", "20"] for line in done.stdout.splitlines())
    assert "NMSE [dB]" in done.stdout
    assert "CRB [dB]" in done.stdout
    assert "source.field > combiner.field  block" in done.stdout
    assert "hello  starting" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_json_is_one_object_and_nothing_else(graph):
    done = beamslot("run", graph, "--blocks", PROBES, "--json", "--pace", "max")
    report = json.loads(done.stdout)
    assert (report["ok"], report["exit_code"], report["slots"]) == (True, 0, 40)
    assert done.stdout.count("\n") == 1
    assert "probe  starting" in done.stderr


def test_a_run_that_went_well_leaves_what_its_blocks_cost_and_auto_replicas_follow_from_it(graph):
    assert beamslot("run", graph, "--blocks", PROBES, "--quiet").returncode == 0
    kept = json.loads((Path(os.environ["XDG_STATE_HOME"]) / "beamslot" / "costs.json").read_text())
    assert sorted(cost["block"] for cost in kept.values()) == ["CheckSink", "CountingSource", "Relay"]
    graph.write_text(GRAPH.replace("id: relay,", "id: relay, replicas: auto,"))
    done = beamslot("run", graph, "--blocks", PROBES)
    assert done.returncode == 0, done.stderr
    assert "! relay: replicas: auto is 1: a slot takes it" in done.stderr
    assert "! relay: replicas: auto is 1: a slot takes it" in done.stdout


def test_a_graph_may_come_on_standard_input_as_json_and_quiet_says_nothing(monkeypatch, capsys):
    whole = {
        "options": {"parameters": {"slots": 3}},
        "blocks": [{"name": "a", "id": "counting_source"}, {"name": "b", "id": "check_sink"}],
        "connections": [["a", "numbers", "b", "numbers"]],
    }
    done = beamslot("run", "-", "--blocks", PROBES, "--quiet", input=json.dumps(whole))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    monkeypatch.setattr(sys, "stdin", io.StringIO("options: {"))
    assert main(["run", "-"]) == 2
    assert "standard input: not JSON" in capsys.readouterr().err


def test_a_bad_graph_exits_with_2_and_lists_every_problem(graph, capsys):
    graph.write_text(GRAPH.replace("id: relay", "id: rely").replace("[source, numbers", "[source, number"))
    assert main(["validate", str(graph), "--blocks", str(PROBES)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{graph}:8" in said.err
    assert "did you mean 'relay'?" in said.err
    assert "did you mean 'numbers'?" in said.err
    assert main(["run", str(graph), "--blocks", str(PROBES), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report == {"ok": False, "exit_code": 2, "problems": said.err.splitlines()}


def test_a_failing_block_exits_with_1_and_says_which_slot(graph):
    done = beamslot("run", graph, "--blocks", PROBES, "-p", "fail_at=5", "--json", "--quiet")
    assert done.returncode == 1
    assert "relay at slot 5" in done.stderr
    assert json.loads(done.stdout)["exit_code"] == 1


def test_the_problems_of_a_run_stand_last_and_tables_of_nothing_are_left_out():
    command = words("run", HELLO, "-p", "combiner.antennas_per_chain=5")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "5 does not divide" in done.stdout.splitlines()[-1]
    assert "Edges" not in done.stdout
    assert "Blocks" not in done.stdout


def test_an_interrupted_run_drains_and_exits_with_130_and_its_tables(graph):
    running = subprocess.Popen(
        words("run", graph, "--blocks", PROBES, "--pace", "realtime", "--for", "1h"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: "running" in running.stderr.readline())
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "Traceback" not in err
    assert "source.numbers > relay.numbers" in out
    assert out.startswith("probe  interrupted")
    assert rundir.runs() == []


def test_echo_prints_what_passes_a_port_of_a_running_graph(graph, capsys):
    running = subprocess.Popen(
        words("run", graph, "--blocks", PROBES, "--pace", "realtime", "--for", "1h", "--quiet"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(rundir.runs)
        assert main(["echo", "probe:relay.out", "-n", "3", "--json", "--values"]) == 0
        first, *rest = map(json.loads, capsys.readouterr().out.splitlines())
        assert (first["kind"], first["axes"]) == ("describe", {"sample": 8})
        frames = [message for message in rest if message["kind"] == "data"]
        assert len(frames) == 3
        for frame in frames:
            assert frame["arrays"]["index"]["values"] == [frame["first"]]
        assert main(["echo", "relay.aut"]) == 2
        assert "did you mean 'relay.out'?" in capsys.readouterr().err
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)


def test_echo_shows_the_tags_of_a_frame():
    import numpy as np

    from beamslot.cli import echo
    from beamslot.frame import Frame

    said = echo.plain(Frame(3, 1, {"x": np.zeros(1)}, tags={"deadline": True, "outside": [3]}), None)
    assert said["tags"] == {"deadline": True, "outside": [3]}
    assert echo.text(said).splitlines()[:2] == ["slot 3", "  tags: deadline True, outside [3]"]
    assert "tags" not in echo.plain(Frame(3, 1, {"x": np.zeros(1)}), None)


def test_echo_without_a_run_fails_and_says_so(capsys):
    assert main(["echo", "relay.out"]) == 1
    assert capsys.readouterr().err.startswith("echo: nothing runs; wanted a run in another terminal")


def test_a_sweep_of_a_misspelt_name_makes_nothing(tmp_path, capsys):
    where = tmp_path / "s"
    assert main(["sweep", str(HELLO), "-p", "combiner.antennas_per_chian=2,4", "-o", str(where)]) == 2
    assert "did you mean 'antennas_per_chain'?" in capsys.readouterr().err
    assert not where.exists()


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("run", ["--logs", "taken/logs"]),
        ("run", ["--logs", "/proc"]),
        ("graph", ["-o", "nowhere/x.svg"]),
        ("sweep", ["-p", "omp.grid=[32,16],[64,16]", "-o", "taken"]),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_runs(verb, options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("a file")
    assert main([verb, str(HELLO), *options]) == 2
    assert capsys.readouterr().err.startswith(f"{options[-1]}: cannot be written: ")


def test_a_sweep_goes_on_after_a_point_that_fails_and_resumes_with_what_is_missing(tmp_path):
    csv_file = tmp_path / "s" / "sweep.csv"
    wanted = ("sweep", HELLO, "-p", "combiner.antennas_per_chain=5,4", "--slots", 12, "-o", tmp_path / "s", "--json")
    done = beamslot(*wanted)
    assert done.returncode == 1
    assert "5 does not divide the array's 16 rows" in done.stderr
    failed, well = csv.DictReader(csv_file.read_text().splitlines())
    assert (failed["ok"], failed["estimate"]) == ("false", "")
    assert (well["combiner.antennas_per_chain"], well["ok"], well["draws"]) == ("4", "true", "12")
    assert float(well["ci95_low_db"]) < float(well["nmse_db"]) < float(well["ci95_high_db"])
    assert json.loads(done.stdout)["rows"] == [failed, well]
    again = beamslot(*wanted)
    assert "[2/2] combiner.antennas_per_chain=4  is there already" in again.stderr
    assert [row["ok"] for row in json.loads(again.stdout)["rows"]] == ["true", "false"]


@pytest.mark.parametrize(("kind", "start"), [("mermaid", "flowchart LR"), ("dot", "digraph"), ("svg", "<svg ")])
def test_a_graph_is_drawn_to_a_file(kind, start, tmp_path):
    assert main(["graph", str(HELLO), "--format", kind, "-o", str(tmp_path / "picture")]) == 0
    assert (tmp_path / "picture").read_text().startswith(start)


def test_validate_says_what_a_graph_is(capsys):
    assert main(["validate", str(HELLO), "--start"]) == 0
    said = capsys.readouterr().out
    assert "hello: ok. 100 slots" in said
    assert "not started" not in said
    assert "slot user=1 y=16 chain=4" in said
    assert "holds at most" in said
    assert main(["validate", str(HELLO), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["streams"][0]["stream"] == "source.field"


def test_validate_with_start_says_how_much_memory_each_block_and_all_of_them_may_take(graph, capsys):
    # A slot of the probes is 8 words, a checksum and an index of 8 bytes each; both ends of an edge hold a window.
    edge = 256 * (8 + 1 + 1) * 8
    assert main(["validate", str(graph), "--blocks", str(PROBES), "--start", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [block["most_bytes"] for block in found["blocks"]] == [edge, 2 * edge, edge]
    assert found["most_bytes"] == 4 * edge
    assert main(["validate", str(graph), "--blocks", str(PROBES), "--start"]) == 0
    assert "all together 80 KiB" in " ".join(capsys.readouterr().out.split())
    assert main(["validate", str(graph), "--blocks", str(PROBES), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["most_bytes"] is None


def test_validate_measures_a_graph_and_answers_from_that_ever_after(graph):
    asked = ("validate", graph, "--blocks", PROBES, "-p", "relay.work=0.002", "--rate", 20)
    before = beamslot(*asked)
    assert (before.returncode, "not measured: source, relay, sink" in before.stdout) == (1, True)
    done = beamslot(*asked, "--measure")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "probe keeps up with 20 slots/s" in done.stdout
    assert beamslot(*asked).stdout == done.stdout


def test_validate_with_start_finds_what_declarations_cannot_show(capsys):
    assert main(["validate", str(HELLO), "-p", "combiner.antennas_per_chain=5"]) == 0
    assert "not started; `validate --start` also checks lengths" in capsys.readouterr().out
    assert main(["validate", str(HELLO), "-p", "combiner.antennas_per_chain=5", "--start"]) == 2
    assert "combiner: does not start: combiner.antennas_per_chain: 5 does not divide" in capsys.readouterr().err


def test_every_block_of_the_catalogue_is_listed_and_told(capsys):
    from beamslot.catalogue import CATALOGUE

    assert main(["blocks", "--json"]) == 0
    listed = {one["id"]: one for one in json.loads(capsys.readouterr().out)}
    assert set(CATALOGUE) <= set(listed)
    assert all(one["doc"] for one in listed.values())
    assert main(["blocks"]) == 0
    assert "combiner" in capsys.readouterr().out
    for name in CATALOGUE:
        assert main(["blocks", name]) == 0
        assert f"id: {name}" in capsys.readouterr().out


def test_own_blocks_stand_among_the_others_and_a_name_nearly_right_is_helped(capsys):
    assert main(["blocks", "counting_source", "--blocks", str(PROBES)]) == 0
    assert "words" in capsys.readouterr().out
    assert main(["blocks", "combinr"]) == 2
    assert "did you mean 'combiner'?" in capsys.readouterr().err


def test_the_schema_is_one_and_knows_own_blocks(capsys):
    from jsonschema import Draft202012Validator

    assert main(["blocks", "--schema", "--blocks", str(PROBES)]) == 0
    text = capsys.readouterr().out
    Draft202012Validator.check_schema(json.loads(text))
    assert "counting_source" in text


def test_a_reader_that_leaves_early_causes_no_complaint():
    line = f"{shlex.join(words('blocks', 'upa_source', '--json'))} | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert done.stderr == ""


def test_a_run_goes_on_and_keeps_its_exit_code_when_nobody_reads_it(graph):
    line = f"{shlex.join(words('run', graph, '--blocks', PROBES, '-p', 'fail_at=30', '--json'))} 2>&- | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], check=False, timeout=60, capture_output=True)
    assert done.returncode == 1


def test_the_version_is_printed():
    from importlib.metadata import version

    assert beamslot("--version").stdout == f"beamslot {version('beamslot')}\n"
