import json
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import beamslot
from beamslot import BadParam, FlowgraphError, RunFailed, RunResult
from beamslot.api import to_plain, to_text

PROBES = Path(__file__).parents[1] / "support" / "beamslot_probes.py"

GRAPH = {
    "options": {"parameters": {"id": "probe", "slots": 40, "slot_period": 0.01}},
    "variables": {"n_words": 8},
    "blocks": [
        {"name": "source", "id": "counting_source", "parameters": {"words": "n_words"}},
        {"name": "relay", "id": "relay"},
        {"name": "sink", "id": "check_sink"},
    ],
    "connections": [["source", "numbers", "relay", "numbers"], ["relay", "out", "sink", "numbers"]],
}

ENDLESS = {**GRAPH, "options": {"parameters": {"id": "endless", "slot_period": 0.01, "pace": 1}}}


def changed(block, **parameters):
    blocks = [{**one, "parameters": parameters} if one["name"] == block else one for one in GRAPH["blocks"]]
    return {**GRAPH, "blocks": blocks}


@pytest.fixture(autouse=True)
def private_state(tmp_path, monkeypatch):
    """Runs and logs of these tests go where nobody else's are."""
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def eventually(found, seconds=20.0):
    """Return what `found` gives once it gives something."""
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)
    return value


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_mapping_runs_and_its_report_is_read_by_key_and_by_attribute():
    numbers = {"variables": {"n_words": np.int64(4)}, "connections": tuple(map(tuple, GRAPH["connections"]))}
    result = beamslot.run({**GRAPH, **numbers}, blocks=(PROBES,))
    assert result.ok
    assert result["sinks"]["sink"] == {"seen": 40, "bad": 0, "missed": 0}
    assert result.sinks is result["sinks"]
    assert (result.graph, result.slots, result.exit_code) == ("probe", 40, 0)
    assert [edge["acknowledged"] for edge in result.edges] == [40, 40]


def test_a_file_runs_with_variables_parameters_slots_and_seed(tmp_path):
    file = tmp_path / "demo.yml"
    file.write_text(json.dumps(GRAPH))
    result = beamslot.run(
        file, blocks=[str(PROBES)], parameters={"n_words": np.int64(3), "sink.work": 1e-4}, slots=7, seed=5, pace="max"
    )
    assert result.sinks["sink"]["seen"] == 7


def test_seconds_end_a_run_that_would_not_end():
    result = beamslot.run(ENDLESS, blocks=[PROBES], seconds=0.3)
    assert result.ok
    assert result.sinks["sink"]["seen"] == 30


def test_seconds_end_a_run_that_goes_as_fast_as_it_can():
    result = beamslot.run(ENDLESS, blocks=[PROBES], seconds=0.3, pace=float("inf"))
    assert result.ok
    assert result.sinks["sink"]["seen"] > 30


def test_a_bad_graph_raises_with_every_problem_and_its_place_in_the_mapping():
    graph = changed("source", words=-1)
    graph["connections"] = [*GRAPH["connections"], ["relay", "uot", "sink", "numbers"]]
    with pytest.raises(FlowgraphError) as error:
        beamslot.run(graph, blocks=[PROBES])
    text = str(error.value)
    assert "blocks[0].parameters.words" in text
    assert "did you mean 'out'?" in text


def test_a_bad_graph_is_a_report_when_nothing_shall_be_raised():
    result = beamslot.run("nowhere.yml", check=False)
    assert (result.ok, result.exit_code) == (False, 2)
    assert "nowhere.yml: no such file" in result.problems[0]


def test_a_block_that_fails_raises_with_the_report_so_far():
    with pytest.raises(RunFailed, match="the relay gives up") as error:
        beamslot.run(changed("relay", fail_at=5), blocks=[PROBES])
    assert error.value.report["exit_code"] == 1
    assert error.value.report["ok"] is False


def test_blocks_are_started_again_when_that_is_asked_for_and_the_blows_are_told():
    graph = changed("relay", work=0.005)
    calm = beamslot.run(graph, blocks=[PROBES], restart="on_failure")
    result = beamslot.run(graph, blocks=[PROBES], chaos="5,every=0.05,actions=kill")
    assert calm.restarts == 0
    assert result.restarts > 0
    assert result.sinks == calm.sinks == {"sink": {"seen": 40, "bad": 0, "missed": 0}}
    assert result.notes[-1].startswith("chaos 5: kill ")
    with pytest.raises(RunFailed, match="was ended by SIGKILL"):
        beamslot.run(graph, blocks=[PROBES], chaos="5,every=0.05,actions=kill", restart="never")


def test_slots_and_seconds_together_are_refused_before_anything_starts():
    with pytest.raises(BadParam, match="slots=3 and seconds=2 came together"):
        beamslot.run(GRAPH, slots=3, seconds=2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"slots": 0}, "run: slots: got '0'; wanted a whole number of at least 1"),
        ({"seconds": -1}, "run: seconds: got '-1'; wanted a time such as 10s, 500ms or 2m"),
        ({"pace": "fast"}, "run: pace: got 'fast'; wanted realtime, max, or a factor above 0"),
        ({"chaos": "x"}, "run: chaos: got 'x'; wanted SEED[,every=SECONDS][,actions=kill+stop+cut]"),
    ],
)
def test_usage_that_the_command_line_refuses_is_said_in_one_sentence(given, said):
    with pytest.raises(FlowgraphError) as error:
        beamslot.run(GRAPH, **given)
    assert str(error.value) == said


@pytest.mark.parametrize("blocks", [[RunResult], "mine.py", {"mine": RunResult}])
def test_own_blocks_are_given_as_paths(blocks):
    with pytest.raises(BadParam, match=r"run: got blocks=.*; wanted a list of paths of Python files"):
        beamslot.run(GRAPH, blocks=blocks)


def test_runs_start_from_threads_side_by_side():
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda n: beamslot.run(GRAPH, blocks=[PROBES], slots=n), (3, 4)))
    assert [result.slots for result in results] == [3, 4]


CALLER = """
import json, sys, beamslot
graph, probes = json.loads(sys.argv[1]), sys.argv[2]
try:
    beamslot.run(graph, blocks=[probes])
except KeyboardInterrupt:
    print("interrupted")
"""


def start_endless():
    """Start a program that runs an endless graph; return it and the pid of the run's supervisor."""
    from beamslot.runtime import rundir

    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, json.dumps(ENDLESS), str(PROBES)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        card = eventually(rundir.runs)[0]
    except BaseException:
        caller.kill()
        caller.communicate()
        raise
    return caller, card["pid"]


def test_an_interrupt_is_passed_on_and_leaves_nothing_behind():
    caller, supervisor = start_endless()
    children = [int(pid) for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()]
    caller.send_signal(signal.SIGINT)
    out, err = caller.communicate(timeout=20)
    assert out == "interrupted\n"
    assert err == ""
    assert not any(alive(pid) for pid in (supervisor, *children))
    assert not list(Path(os.environ["XDG_RUNTIME_DIR"]).glob("*/*/run.json"))


def test_a_run_ends_when_the_program_that_asked_for_it_is_killed():
    caller, supervisor = start_endless()
    caller.kill()
    caller.communicate(timeout=20)
    assert eventually(lambda: not alive(supervisor))


REPORT = {
    "graph": "demo",
    "slots": 10,
    "slots_per_s": 5.0,
    "ok": True,
    "exit_code": 0,
    "problems": [],
    "blocks": {"a<b": {"slots": 10}},
    "sinks": {"nmse": {"gw": {"nmse_db": -12.345, "ci95_db": [-13.0, -12.0], "draws": 9}, "crb": {"nmse_db": -15.0}}},
}


def test_a_result_shows_itself_in_a_line_and_in_a_notebook():
    result = RunResult(REPORT)
    assert repr(result).startswith("RunResult(demo  done  10 slots")
    assert "gw -12.35 dB" in repr(result)
    html = result._repr_html_()
    assert "a&lt;b" in html
    assert "<td" in html
    assert "-12.35" in html


def test_a_result_is_a_mapping_that_pickles_and_lists_its_keys():
    result = RunResult(REPORT)
    assert dict(result) == REPORT
    assert len(result) == len(REPORT)
    assert dict(pickle.loads(pickle.dumps(result))) == REPORT  # noqa: S301
    assert {"sinks", "ok", "get"} <= set(dir(result))
    with pytest.raises(AttributeError, match="a report has no 'sink'; it has graph, slots"):
        _ = result.sink


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-3, "0.001"),
        (True, "true"),
        ("2 * pi", "2 * pi"),
        ((1, 2.5), "[1, 2.5]"),
        (np.float32(0.5), "0.5"),
        (np.array([1, 2]), "[1, 2]"),
        (float("inf"), "inf"),
        (Path("a/b"), "a/b"),
        (None, "null"),
    ],
)
def test_values_of_parameters_become_text_that_a_flowgraph_reads(value, text):
    assert to_text(value) == text


def test_plain_values_are_json():
    given = {"a": np.arange(2), 1: (Path("x"), {2}), "inf": np.float64("-inf")}
    assert json.loads(json.dumps(to_plain(given), allow_nan=False)) == {"a": [0, 1], "1": ["x", [2]], "inf": "-inf"}
    assert to_plain({"inf": float("nan")}, lambda _: None) == {"inf": None}
