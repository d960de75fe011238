"""A running graph steered from outside: parameters from exactly one slot on, pauses, restarts, hostile requests."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_runs import Run, Runner, assert_balanced, graph, until

from beamslot.errors import BadParam, PeerLost, UnknownBlock
from beamslot.frame import Array, StreamInfo
from beamslot.probe import AttachedRun, attach
from beamslot.runtime import Block, In, Live, Out, observe
from beamslot.runtime.chaos import Strike
from beamslot.runtime.diary import RunRecord
from beamslot.runtime.graph import Graph, Restart
from beamslot.runtime.steering import SOCKET
from beamslot.runtime.timeline import Change

SLOTS = Array.of("slot", np.int64)


class Tuned(Block):
    """A source that says its gain in every slot."""

    out = Out("slot", np.int64)
    gain: int = Live(1, ge=0, le=99)
    fixed: int = 3

    def start(self) -> StreamInfo:
        return StreamInfo(self.outputs["out"].arrays, {}, self.run.slot_period)

    def process(self, slots: range) -> Any:
        return np.full(len(slots), self.gain)


class Adder(Block):
    """Adds hundreds to what comes."""

    x = In("slot", np.int64)
    out = Out("slot", np.int64)
    more: int = Live(0, ge=0, le=99)

    def process(self, x: np.ndarray, budget: Any) -> np.ndarray:
        return x + 100 * self.more


class Ledger(Block):
    """Keeps which value came from which slot on."""

    x = In("slot", np.int64)

    def start(self) -> None:
        self._steps: list[list[int]] = []
        self._next = 0

    def process(self, x: np.ndarray, slots: range) -> None:
        assert slots.start == self._next, (slots, self._next)
        for slot, value in zip(slots, x.tolist(), strict=True):
            if not self._steps or self._steps[-1][1] != value:
                self._steps.append([slot, value])
        self._next = slots.stop

    def snapshot(self) -> dict[str, Any]:
        return {"steps": [list(step) for step in self._steps], "next": self._next}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._steps, self._next = [list(step) for step in state["steps"]], state["next"]

    def results(self) -> dict[str, Any]:
        return {"steps": self._steps, "slots": self._next}


EDGES = ("src.out > add.x", "add.out > sink.x")


def steered(*, replicas: int = 1, process: str = "", restarts: bool = False, **options: Any) -> Graph:
    made = graph({"src": Tuned, "add": Adder, "sink": Ledger}, *EDGES, **{"pace": 1.0, "slot_period": 1e-3, **options})
    policy = Restart("on_failure" if restarts else "never", backoff=0.0)
    blocks = {name: replace(spec, restart=policy) for name, spec in made.blocks.items()}
    blocks["add"] = replace(blocks["add"], replicas=replicas, process=process)
    if process:
        blocks["sink"] = replace(blocks["sink"], process=process)
    return replace(made, blocks=blocks)


def attached(run: Run, slots: int = 20) -> AttachedRun:
    until(lambda: run.slots() >= slots or run.over)
    return attach("test")


def steps_of(run: Run) -> list[list[int]]:
    return run.report()["sinks"]["sink"]["steps"]


@pytest.mark.parametrize("burst", [1, 7])
@pytest.mark.parametrize(("replicas", "process"), [(1, ""), (3, ""), (1, "together")])
def test_a_change_holds_from_exactly_the_slot_that_is_told(
    replicas: int, process: str, burst: int, runs: Runner
) -> None:
    run = runs.start(steered(replicas=replicas, process=process, burst=burst))
    seen = attached(run)
    first = seen.set("src.gain", 5)
    second = seen.set("add.more", 2)
    later = seen.change("src", {"gain": 8}, at=second + 50)
    assert later >= second + 50
    until(lambda: run.slots() > later + 5)
    seen.stop()
    report = run.report()
    gains = [8 if slot >= later else 5 if slot >= first else 1 for slot in range(report["slots"])]
    sums = [gain + 200 * (slot >= second) for slot, gain in enumerate(gains)]
    assert steps_of(run) == [[n, value] for n, value in enumerate(sums) if n == 0 or sums[n - 1] != value]
    assert (report["exit_code"], [change["slot"] for change in report["timeline"]]) == (0, [first, second, later])
    assert_balanced(report)


@pytest.mark.parametrize("struck", ["src", "add", "sink"])
def test_slots_made_again_after_a_crash_get_the_values_that_held_for_them(struck: str, runs: Runner) -> None:
    """The changes are known beforehand: a slot before them is made again by a process that has been past them."""
    changes = [Change(40, "src", {"gain": 2}), Change(41, "add", {"more": 1}), Change(90, "add", {"more": 3})]
    made = replace(steered(restarts=True, slots=200, pace=float("inf")), timeline=tuple(changes))
    report = runs(made, strikes=[Strike("kill", struck, slot, life=n) for n, slot in enumerate((39, 42, 91))])
    assert report["sinks"]["sink"]["steps"] == [[0, 1], [40, 2], [41, 102], [90, 302]]
    assert report["restarts"] == 3


def test_a_change_made_while_a_block_is_started_again_is_made_once_and_holds(runs: Runner) -> None:
    run = runs.start(steered(restarts=True))
    seen = attached(run)
    told: list[int] = []
    for gain in range(2, 8):
        seen.restart("add")
        told.append(seen.set("src.gain", gain))
    until(lambda: run.slots() > told[-1] + 5)
    seen.stop()
    expected = {0: 1, **dict(zip(told, range(2, 8), strict=True))}  # of two changes at one slot the later counts
    assert steps_of(run) == [[slot, gain] for slot, gain in expected.items()]
    assert 1 <= run.report()["restarts"] <= 6, "one that is being started again already is not killed"
    assert_balanced(run.report())


def test_a_block_is_started_again_on_request_though_its_policy_is_never(runs: Runner) -> None:
    run = runs.start(steered())
    attached(run).restart("sink")
    until(lambda: run.status.get("restarts") == 1 and run.slots() > 100)
    attach("test").stop()
    report = run.report()
    assert (report["exit_code"], report["blocks"]["sink"]["restarts"]) == (0, 1)
    assert_balanced(report)


@pytest.mark.parametrize(
    ("path", "value", "problem", "kind"),
    [
        ("src.gain", 100, "src.gain: got 100; wanted a whole number <= 99", BadParam),
        ("src.gain", "much", "src.gain: got 'much'; wanted a whole number", BadParam),
        ("src.fixed", 4, "src.fixed: may not change while the graph runs; these may: gain", BadParam),
        ("src.gin", 4, "src.gin: Tuned has no such parameter; did you mean 'gain'?", BadParam),
        ("scr.gain", 4, "no block is called 'scr'; did you mean 'src'?", UnknownBlock),
        ("sink.x", 4, "sink.x: Ledger has no such parameter; there is none", BadParam),
        ("pace", -1, "pace: got -1; wanted realtime, max, or a factor > 0", BadParam),
    ],
)
def test_a_bad_value_is_refused_with_the_reason_and_changes_nothing(
    path: str, value: Any, problem: str, kind: type[Exception], runs: Runner
) -> None:
    run = runs.start(steered())
    seen = attached(run, 5)
    with pytest.raises(kind) as error:
        seen.set(path, value)
    assert problem in str(error.value)
    seen.stop()
    assert steps_of(run) == [[0, 1]]
    assert run.report()["timeline"] == []


def test_all_changes_are_in_the_record_of_the_run(runs: Runner) -> None:
    run = runs.start(steered())
    seen = attached(run)
    slot = seen.change("src", {"gain": 4})
    seen.stop()
    run.report()
    record = RunRecord(Path(run.report()["logs"]))
    lines = [json.loads(line) for line in (record.path / "parameters.jsonl").read_text().splitlines()]
    assert lines[-1] == {"slot": slot, "block": "src", "values": {"gain": 4}}
    assert [event["slot"] for event in record.events if event["kind"] == "set"] == [slot]


def test_what_may_change_is_told_with_what_holds_now_and_what_it_means(runs: Runner) -> None:
    run = runs.start(steered())
    seen = attached(run)
    seen.set("src.gain", 9)
    told = seen.parameters()
    assert set(told["parameters"]) == {"src", "add"}
    assert told["parameters"]["src"] == {"gain": {"type": "integer", "minimum": 0, "maximum": 99, "value": 9}}
    assert set(told["parameters"]["add"]) == {"more", "deadline"}
    assert told["pace"] == 1.0
    seen.stop()
    run.report()


def test_a_pause_stops_the_slots_and_the_slot_clock(runs: Runner) -> None:
    run = runs.start(steered())
    seen = attached(run)
    seen.pause()
    until(lambda: run.status["state"] == "paused" and run.status["blocks"]["sink"]["slots"] == run.slots())
    at, begun = run.slots(), run.status["seconds"]
    until(lambda: run.status["seconds"] > begun + 0.6)  # looks of the supervisor between which no slot may come
    assert run.slots() == at
    paused = run.status["seconds"] - begun
    seen.resume()
    until(lambda: run.slots() > at + 100)
    seen.stop()
    report = run.report()
    assert report["slots"] * 1e-3 <= report["seconds"] - paused + 0.01, "the slots of the pause were made after it"
    assert not any("waits for" in note for note in report["notes"])
    assert report["exit_code"] == 0


def test_a_paused_graph_can_be_tuned_stopped_and_restarted(runs: Runner) -> None:
    run = runs.start(steered(restarts=True))
    seen = attached(run)
    seen.pause()
    until(lambda: run.status["state"] == "paused")
    slot = seen.set("src.gain", 3)
    seen.restart("src")
    until(lambda: run.status.get("restarts") == 1)
    assert run.status["state"] == "paused"
    seen.resume()
    until(lambda: run.slots() > slot + 5)
    seen.stop()
    assert steps_of(run) == [[0, 1], [slot, 3]]


def test_the_pace_changes_without_a_jump(runs: Runner) -> None:
    run = runs.start(steered(pace=0.1))
    seen = attached(run, 5)
    slot, before = seen.set("pace", 0.4), run.status["seconds"]
    until(lambda: run.slots() > slot + 200)
    status = run.status
    made, within = status["slots"] - slot, status["seconds"] - before + 0.6  # a look is up to 0.25 s old
    assert made <= within * 400, "ahead of the clock"
    assert status["late_slots"] < status["slots"] / 2, "a jump of the clock would make all slots late"
    assert seen.parameters()["pace"] == 0.4
    seen.set("pace", "max")
    until(lambda: run.slots() > 3000)
    seen.stop()
    assert_balanced(run.report())


def test_stop_lets_what_is_under_way_finish_and_stop_now_does_not(runs: Runner) -> None:
    calm = runs.start(steered())
    attached(calm).stop()
    assert calm.report()["exit_code"] == 0
    hasty = runs.start(steered())
    attached(hasty).stop(now=True)
    assert hasty.report()["exit_code"] == 130


def test_a_block_that_has_ended_cannot_be_tuned_or_restarted(runs: Runner) -> None:
    made = graph({"src": Tuned, "add": Adder, "sink": Ledger, "other": Tuned, "rest": Ledger}, *EDGES,
                 "other.out > rest.x", pace=1.0)  # fmt: skip
    run = runs.start(replace(made, timeline=()))
    seen = attached(run)
    with pytest.raises(UnknownBlock, match=r"restart: no block is called 'sik'; did you mean 'sink'\?"):
        seen.restart("sik")
    seen.stop()
    run.report()
    with pytest.raises(PeerLost, match=r"test: does not answer \(.*\); perhaps it has just ended"):
        seen.pause()


def test_a_graph_in_whose_timeline_something_is_wrong_is_not_started(runs: Runner) -> None:
    run = runs.start(replace(steered(), timeline=(Change(3, "src", {"gain": 100}, "line 9"),)))
    until(lambda: run.over)
    assert "line 9: src.gain: got 100; wanted a whole number <= 99" in (run.directory / "output").read_text()


# requests from strangers


@pytest.fixture
def quiet(runs: Runner) -> Iterator[Any]:
    run = runs.start(steered())
    seen = attached(run)

    def send(data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(10)
            asking.connect(f"{observe.find('test', 'test')['path']}/{SOCKET}")
            asking.sendall(data)
            asking.shutdown(socket.SHUT_WR)
            came = b""
            while data := asking.recv(4096):
                came += data
        return came

    yield send
    assert seen.parameters()["timeline"] == []
    seen.stop()
    assert run.report()["exit_code"] == 0


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"\n", "got no request"),
        (b"[]\n", "got no request"),
        (b'{"do": 3}\n', "got no request"),
        (b'{"do": "fly"}\n', "got a request to 'fly'"),
        (b'{"do": "sett"}\n', "did you mean 'set'?"),
        (b'{"do": "set"}\n', "set: wanted block, and values"),
        (b'{"do": "set", "block": "src", "values": {}}\n', "src: no value is given"),
        (b'{"do": "set", "block": "src", "values": [1]}\n', "set: wanted block, and values"),
        (b'{"do": "set", "block": "src", "values": {"gain": 3}, "at": -1}\n', "got -1 for at; wanted a slot >= 0"),
        (b'{"do": "set", "values": {"pace": 1}, "at": 5}\n', "set: pace is of now and not of a slot"),
        (b'{"do": "restart"}\n', "no block is called None"),
        (b"\xff\xfe" * 50 + b"\n", "got no request"),
        (b'{"do": "get"' + b"[" * 5000 + b"\n", "got no request"),
    ],
)
def test_a_request_that_is_none_is_answered_with_what_was_wanted(data: bytes, answer: str, quiet: Any) -> None:
    told = json.loads(quiet(data))
    assert not told["ok"]
    assert answer in told["error"]


def test_whoever_sends_too_much_or_nothing_is_let_go(quiet: Any) -> None:
    assert quiet(b"") == b""
    assert quiet(b"half a request") == b""
    with suppress(BrokenPipeError, ConnectionResetError):  # let go before all was sent
        assert quiet(b"x" * 200_000) == b""


def test_many_who_connect_and_say_nothing_keep_nobody_from_asking(runs: Runner) -> None:
    run = runs.start(steered())
    seen = attached(run)
    path = f"{seen.card['path']}/{SOCKET}"
    idle = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for one in idle:
        one.settimeout(5)
        until(lambda one=one: one.connect_ex(path) == 0)
    slot = seen.set("src.gain", 2)
    for one in idle:
        one.close()
    until(lambda: run.slots() > slot)
    seen.stop()
    assert steps_of(run) == [[0, 1], [slot, 2]]
