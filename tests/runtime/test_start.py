"""Starting: quick, in any order, and with little loaded."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from beamslot_probes import CheckSink, CountingSource, Relay
from beamslot_runs import Runner, graph, until
from beamslot_stray import Picky

from beamslot.runtime import rundir

SIX = {"src": CountingSource, "a": Relay, "b": Relay, "c": Relay, "d": Relay, "sink": CheckSink}
SIX_EDGES = (
    "src.numbers > a.numbers", "a.out > b.numbers", "b.out > c.numbers", "c.out > d.numbers", "d.out > sink.numbers",
)  # fmt: skip

SUPERVISOR = """
import json, sys, time
begun = time.monotonic()
from beamslot_probes import CheckSink, CountingSource, Relay
from beamslot_runs import graph
from beamslot.runtime.launch import launch
six = {"src": CountingSource, "a": Relay, "b": Relay, "c": Relay, "d": Relay, "sink": CheckSink}
edges = sys.argv[1:]
launched, running, modules = time.monotonic(), [], set()

def watch(status):
    modules.update(sys.modules)
    if status["state"] != "starting":
        running.append(time.monotonic() - status["seconds"])

report = launch(graph(six, *edges, slots=50_000, pace=2.0), watch=watch, seconds=0.6)
loaded = sorted({name.partition(".")[0] for name in modules | set(sys.modules)})
print(json.dumps({"ok": report["ok"], "starting": running[0] - launched, "modules": loaded}))
"""


def started() -> dict[str, object]:
    told = subprocess.run(
        [sys.executable, "-c", SUPERVISOR, *SIX_EDGES],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(told.stdout)


def test_six_processes_run_within_two_seconds_and_the_supervisor_loads_neither_zmq_nor_torch() -> None:
    three = [started() for _ in range(3)]
    assert all(one["ok"] for one in three)
    assert statistics.median(float(str(one["starting"])) for one in three) < 2.0
    assert not {"zmq", "torch", "sionna", "scipy"} & set(three[0]["modules"])  # type: ignore[call-overload]


def test_sources_wait_for_every_consumer(runs: Runner) -> None:
    blocks = {"src": CountingSource, "quick": CheckSink, "slow": (Picky, {"refuse": False, "seconds": 1.0})}
    run = runs.start(graph(blocks, "src.numbers > quick.numbers", "src.numbers > slow.numbers", slots=100))
    while run.status.get("state", "starting") == "starting" and not run.over:
        assert run.slots() == 0
        time.sleep(0.01)
    report = run.report()
    assert report["ok"]
    assert report["sinks"]["quick"]["seen"] == 100
    assert report["seconds"] < 1.0


def test_a_living_run_has_a_card_with_its_taps_and_it_goes_with_the_run(runs: Runner) -> None:
    run = runs.start(graph({"src": CountingSource, "sink": CheckSink}, "src.numbers > sink.numbers", pace=1.0))
    (card,) = until(rundir.runs)
    assert (card["name"], card["pid"], list(card["ports"])) == ("test", run.pid, ["src.numbers"])
    assert abs(card["started"] - time.time()) < 60
    (tap,) = card["ports"]["src.numbers"]
    until(lambda: Path(tap.removeprefix("ipc://")).is_socket())
    os.kill(run.pid, 2)
    run.report()
    assert rundir.runs() == []


def test_several_runs_live_side_by_side(runs: Runner) -> None:
    chain = graph({"src": CountingSource, "sink": CheckSink}, "src.numbers > sink.numbers", slots=2000)
    reports = [run.report() for run in [runs.start(chain) for _ in range(3)]]
    assert [report["sinks"]["sink"]["seen"] for report in reports] == [2000] * 3
    assert len({report["logs"] for report in reports}) == 3
