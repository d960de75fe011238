"""Steering a running graph from the command line: what is said, in words and in JSON."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from beamslot_runs import elsewhere, until

from beamslot.cli import main
from beamslot.probe import attach

GRAPH = """
options: {parameters: {id: steered, slot_period: 0.004, pace: realtime, restart: on_failure}}
blocks:
- {name: source, id: upa_source, parameters: {n_y: 8, n_z: 12, paths: 2}}
- {name: rf, id: combiner, parameters: {groups: 2, grouping: contiguous, antennas_per_chain: 3}}
- {name: omp, id: omp}
- {name: sink, id: null_sink}
connections:
- [source, field, rf, field]
- [rf, rf, omp, rf]
- [omp, estimate, sink, stream]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[bytes]]:
    """A graph that runs in another process, in a place of its own, for all tests of this file."""
    with elsewhere(tmp_path_factory.mktemp("steered"), GRAPH) as child:
        yield child


@pytest.fixture
def say(running: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    def said(*words: str, code: int = 0) -> str:
        assert main(words) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return said


def test_get_lists_what_may_change_with_unit_limits_and_meaning(say: Any) -> None:
    lines = say("get").splitlines()
    assert lines[0].split() == ["parameter", "value", "unit", "limits", "meaning"]
    names = [line.split()[0] for line in lines[1:]]
    assert {"source.snr_db", "omp.paths", "omp.deadline", "pace"} <= set(names)
    assert "rf.groups" not in names
    (paths,) = (line for line in lines if line.startswith("omp.paths"))
    assert re.split(r" {2,}", paths.strip()) == ["omp.paths", "16", ">= 1", "largest number of paths"]


def test_set_tells_the_slot_and_get_shows_the_value(say: Any) -> None:
    told = say("set", "source.snr_db=2*5", "steered:omp.paths=4")
    assert re.fullmatch(
        r"steered:source\.snr_db = 10 from slot \d+ on\nsteered:omp\.paths = 4 from slot \d+ on\n", told
    )
    assert json.loads(say("get", "steered:source.snr_db", "omp.paths", "--json")).items() >= {}.items()
    shown = json.loads(say("get", "steered:source.snr_db", "omp.paths", "--json"))
    assert (shown["source"]["snr_db"]["value"], shown["omp"]["paths"]["value"]) == (10.0, 4)
    (change,) = json.loads(say("set", "source.snr_db=3", "--at", "1000000000", "--json"))
    assert change == {"run": "steered", "block": "source", "slot": 1000000000, "values": {"snr_db": 3}}


@pytest.mark.parametrize(
    ("words", "problem", "code"),
    [
        (["set", "omp.paths=0"], "omp.paths: got 0; wanted a whole number >= 1", 2),
        (["set", "rf.groups=2"], "rf.groups: may not change while the graph runs", 2),
        (["set", "opm.paths=2"], "no block is called 'opm'; did you mean 'omp'?", 2),
        (
            ["set", "omp.paths"],
            "set: got 'omp.paths'; wanted BLOCK.KEY=VALUE, as in source.snr_db=10, or pace=VALUE",
            2,
        ),
        (["set", "omp.paths=[1"], "set omp.paths=[1: not YAML", 2),
        (["set", "pace=never"], "pace: got 'never'; wanted realtime, max, or a factor > 0", 2),
        (["get", "omp.pths"], "get: omp has no 'pths' that may change; did you mean 'paths'?", 2),
        (["get", "rf"], "get: no block 'rf' has parameters that may change", 2),
        (["get", "other:omp"], "attach: no run is called 'other'; there is steered", 1),
        (["restart", "opm"], "restart: no block is called 'opm'; did you mean 'omp'?", 2),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(words: list[str], problem: str, code: int, say: Any) -> None:
    assert problem in say(*words, code=code)


def test_a_graph_is_paused_and_goes_on(say: Any) -> None:
    assert re.fullmatch(r"steered: paused at slot \d+\n", say("pause"))
    until(lambda: attach("steered").status["state"] == "paused")
    assert re.fullmatch(r"steered: resumed at slot \d+\n", say("resume", "steered"))
    until(lambda: attach("steered").status["state"] == "running")


def test_a_block_is_started_again(say: Any) -> None:
    before = attach("steered").status["restarts"]
    assert say("restart", "steered:omp") == "steered: omp started again\n"
    until(lambda: attach("steered").status["restarts"] == before + 1)


def test_the_pace_is_told_and_changed(say: Any) -> None:
    assert re.fullmatch(r"steered:pace = 0\.5 from slot \d+ on\n", say("set", "pace=1/2"))
    assert json.loads(say("get", "pace", "--json"))["pace"]["value"] == 0.5
    say("set", "pace=realtime")


def test_a_graph_is_ended(running: subprocess.Popen[bytes], say: Any) -> None:
    assert say("stop") == "steered: ends when what is under way is done\n"
    assert running.wait(30) == 0
