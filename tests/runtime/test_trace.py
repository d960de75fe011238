"""Traces of a run, and the latency of each path through it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from beamslot_probes import CheckSink, CountingSource, PairSink, Relay
from beamslot_runs import Runner, graph

from beamslot.errors import StorageError
from beamslot.runtime import trace
from beamslot.runtime.chaos import Strike
from beamslot.runtime.graph import Restart

CHAIN = ("src.numbers > relay.numbers", "relay.out > sink.numbers")


def events_of(path: Path, phase: str) -> list[dict[str, Any]]:
    return [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == phase]


def test_a_trace_has_every_call_of_every_block_in_its_track(runs: Runner, tmp_path: Path) -> None:
    made = graph({"src": CountingSource, "relay": Relay, "sink": CheckSink}, *CHAIN, slots=90, burst=3)
    report = runs(made, trace=tmp_path / "run.json")
    assert any("run.json: a trace of 90 calls" in note for note in report["notes"])
    tracks = {event["tid"]: event["args"]["name"] for event in events_of(tmp_path / "run.json", "M")
              if event["name"] == "thread_name"}  # fmt: skip
    assert tracks == {1: "src", 2: "relay", 3: "sink"}
    calls = events_of(tmp_path / "run.json", "X")
    for track in tracks:
        own = [event for event in calls if event["tid"] == track]
        assert [event["args"]["first"] for event in own] == list(range(0, 90, 3))
        ends = [event["ts"] + event["dur"] for event in own]
        assert all(end <= event["ts"] for end, event in zip(ends, own[1:], strict=False)), "one call at a time"
    assert not list(Path(report["logs"]).glob(f"*{trace.SUFFIX}"))


def test_arrows_follow_each_frame_from_the_source_to_the_sink_forward_in_time(runs: Runner, tmp_path: Path) -> None:
    made = graph({"src": CountingSource, "relay": Relay, "sink": CheckSink}, *CHAIN, slots=20)
    runs(made, trace=tmp_path / "run.json")
    for slot in range(20):
        ends = {phase: [e["ts"] for e in events_of(tmp_path / "run.json", phase) if e["id"] == slot] for phase in "stf"}
        assert [len(times) for times in ends.values()] == [1, 1, 1]
        assert ends["s"] < ends["t"] < ends["f"]


def test_what_happened_to_the_run_stands_in_its_trace_too(runs: Runner, tmp_path: Path) -> None:
    made = graph({"src": CountingSource, "relay": Relay, "sink": CheckSink}, *CHAIN, slots=60)
    blocks = {name: replace(spec, restart=Restart("on_failure", backoff=0.0)) for name, spec in made.blocks.items()}
    runs(replace(made, blocks=blocks), trace=tmp_path / "run.json", strikes=[Strike("kill", "relay", 30)])
    happened = [event["name"] for event in events_of(tmp_path / "run.json", "i")]
    assert happened[0] == "started"
    assert {"died", "restart"} <= set(happened)
    relay = [event["args"]["first"] for event in events_of(tmp_path / "run.json", "X") if event["tid"] == 2]
    assert set(range(60)) - set(relay) <= set(range(30)), "the killed process keeps to itself what it had not written"


def test_a_trace_that_cannot_be_written_is_said_and_the_run_is_right(runs: Runner, tmp_path: Path) -> None:
    made = graph({"src": CountingSource, "sink": CheckSink}, "src.numbers > sink.numbers", slots=5)
    report = runs(made, trace=tmp_path / "nowhere" / "run.json")
    assert report["ok"]
    assert any("run.json: the trace cannot be written: no such file or directory" in n for n in report["notes"])


def test_lines_that_a_killed_process_left_half_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / f"b{trace.SUFFIX}").write_text('["b", 0, 1, 1000, 500, 0]\n["b", 1, 2, 30')
    assert trace.write(tmp_path / "t.json", tmp_path, {"b": False}, 0, []) == 1
    (call,) = events_of(tmp_path / "t.json", "X")
    assert (call["ts"], call["dur"], call["args"]["age_ms"]) == (1.0, 0.5, 0.0015)
    with pytest.raises(StorageError, match="the trace cannot be written"):
        trace.write(tmp_path / "no" / "t.json", tmp_path, {}, 0, [])


def test_calls_beyond_the_most_that_are_kept_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MOST_CALLS", 3)
    tracer = trace.Tracer(tmp_path / "t")
    for slot in range(5):
        tracer.add("b", range(slot, slot + 1), 0, 1, 0)
    tracer.close()
    assert len((tmp_path / "t").read_text().splitlines()) == 3


def test_the_latency_of_each_path_is_told_and_a_slow_one_is_seen(runs: Runner) -> None:
    made = graph(
        {
            "src": CountingSource,
            "slow": (Relay, {"work": 0.02}),
            "quick": Relay,
            "one": CheckSink,
            "two": CheckSink,
            "both": PairSink,
        },
        "src.numbers > slow.numbers",
        "src.numbers > quick.numbers",
        "slow.out > one.numbers",
        "quick.out > two.numbers",
        "quick.out > both.left",
        "slow.out > both.right",
        slots=40,
        pace=1.0,
        slot_period=0.03,
    )
    report = runs(made)
    paths = {" ".join(path["path"]): path["p50_us"] for path in report["paths"]}
    assert set(paths) == {"src slow one", "src quick two", "src quick both", "src slow both"}
    assert paths["src slow one"] > 20_000
    assert paths["src quick both"] == paths["src slow both"] > 20_000, "paths that meet in one call took the same"
    assert paths["src quick two"] < paths["src slow one"]
