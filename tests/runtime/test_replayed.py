"""Sources with frames of their own: what they say goes out as it is, by the clock of the run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from beamslot_runs import Runner, assert_balanced, edges_of, graph

from beamslot.errors import BlockFailed
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.runtime.block import Block, In, Out
from beamslot.runtime.clock import SlotClock
from beamslot.runtime.core import Core
from beamslot.runtime.graph import frame_slots
from beamslot.runtime.outputs import Replayed

INFO = StreamInfo({"x": Array.of("slot", np.int64)}, {})
OTHER = INFO.replace(carrier=1e9)


def frame(first: int, count: int, **given: Any) -> Frame:
    return Frame(first, count, {"x": np.arange(first, first + count)}, 5, 6, 7, 8, deadline=9, **given)


class Player(Block):
    """Says what it was told to."""

    out = Out()

    def start(self) -> StreamInfo:
        return INFO

    def say(self, *items: Any) -> "Player":
        object.__setattr__(self, "_items", items)
        return self

    def process(self, slots: range) -> Replayed:
        return Replayed({"out": self.__dict__["_items"]})


def made(*items: Any, slots: range = range(10, 14)) -> list[Any]:
    core = Core(Player().say(*items), [])
    core.start()
    step = core.make(slots, 1234)
    assert step.slots is not None
    return [item for _, item in step.items]


def test_frames_gaps_and_descriptions_go_out_as_they_are_but_for_their_clock() -> None:
    items = made(frame(10, 2, tags={"a": 1}, operator="op"), Describe("old", OTHER), Gap(12, 1, "late"), frame(13, 1))
    assert items[0] == Frame(10, 2, items[0].arrays, 1234, operator="op", tags={"a": 1})
    assert items[0].arrays["x"].tolist() == [10, 11]
    assert items[1] == Describe("block.out", OTHER)
    assert (items[2], items[3].first) == (Gap(12, 1, "late", 0), 13), "a gap without a time has none"


def test_a_source_that_has_less_ends_there() -> None:
    assert made(frame(10, 2))[-1] == Eos(12)
    assert made() == [Eos(10)]


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ([frame(11, 3)], r"block.out: process replayed Frame 11; wanted slot 10"),
        ([frame(10, 2), frame(13, 1)], r"process replayed Frame 13; wanted slot 12"),
        ([frame(10, 5)], r"process replayed slots up to \[15\]; wanted up to 14"),
        ([Eos(10)], r"process replayed Eos 10; wanted slot 10"),
    ],
)
def test_what_are_not_the_slots_of_the_call_is_refused(items: Sequence[Any], problem: str) -> None:
    with pytest.raises(BlockFailed, match=problem):
        made(*items)


class Transform(Block):
    """Is no source."""

    into = In()
    out = Out()

    def process(self, into: Any) -> Replayed:
        return Replayed({"out": []})


def test_only_sources_replay() -> None:
    from beamslot.runtime.core import Input

    core = Core(Transform(), [Input(Transform.inputs["into"], "a.b", "a.b > c.into")])
    core.feed(0, Describe("a.b", INFO))
    core.feed(0, Frame(0, 1, {"x": np.zeros(1, np.int64)}))
    core.step()
    with pytest.raises(BlockFailed, match=r"process replayed \['out'\]; wanted a source's \['out'\]"):
        core.step()


class Uneven(Block):
    """Frames of 1, 2, 3, 1, 2, 3 ... slots from slot 100 on, a frame every 5 ms."""

    out = Out()

    def start(self) -> StreamInfo:
        return INFO

    def frame_limit(self) -> int:
        return 3

    def upcoming(self, slots: range) -> tuple[range, int]:
        at = max(slots.start, 100)
        part = (at - 100) % 6
        end = at + (1 if part == 0 else 3 - part if part < 3 else 6 - part)
        return range(at, min(end, 160)), (at - 99) * 2_500_000

    def process(self, slots: range) -> Replayed:
        return Replayed({"out": [frame(slots.start, len(slots))]})


class Watcher(Block):
    """Notes the frames that come."""

    into = In()

    def start(self, into: StreamInfo) -> None:
        self._seen: list[list[int]] = getattr(self, "_seen", [])

    def process(self, into: dict[str, Any], slots: range) -> None:
        assert into["x"].tolist() == list(slots)
        self._seen.append([slots.start, len(slots)])

    def snapshot(self) -> Any:
        return {"seen": [list(one) for one in self._seen]}

    def restore(self, state: Any) -> None:
        self._seen = [list(one) for one in state["seen"]]

    def results(self) -> dict[str, Any]:
        return {"frames": self._seen}


FRAMES = [[first + offset, count] for first in range(100, 160, 6) for offset, count in ((0, 1), (1, 2), (3, 3))]


def test_a_run_asks_for_the_frames_that_the_source_has_when_they_are_due(runs: Runner) -> None:
    given = graph({"play": Uneven, "see": Watcher}, "play.out > see.into", pace=1.0)
    assert frame_slots(given) == {"play": 3, "see": 3}
    report = runs(given)
    assert report["sinks"]["see"]["frames"] == FRAMES
    assert report["seconds"] >= 0.95 * (157 - 99) * 2.5e-3
    assert report["pace"]["p50_us"] < 50_000
    assert edges_of(report)["play.out > see.into"]["offered"] == 60
    assert_balanced(report)


def test_the_end_of_a_run_cuts_the_last_frame(runs: Runner) -> None:
    report = runs(graph({"play": Uneven, "see": Watcher}, "play.out > see.into", slots=105))
    assert report["sinks"]["see"]["frames"] == [[100, 1], [101, 2], [103, 2]]


def test_a_source_that_is_killed_goes_on_with_its_own_frames(runs: Runner) -> None:
    from dataclasses import replace

    from beamslot.runtime.chaos import Strike
    from beamslot.runtime.graph import Restart

    given = graph({"play": Uneven, "see": Watcher}, "play.out > see.into")
    blocks = {name: replace(spec, restart=Restart("on_failure")) for name, spec in given.blocks.items()}
    strikes = [Strike("kill", "play", 120), Strike("kill", "see", 140)]
    report = runs(replace(given, blocks=blocks), strikes=strikes)
    assert report["ok"], report["problems"]
    assert report["restarts"] == 2
    assert report["sinks"]["see"]["frames"] == FRAMES
    assert_balanced(report)


def test_the_clock_keeps_recorded_times_scaled_by_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SlotClock(1e-3, 2.0, origin=1000)
    assert clock.due_after(3_000_000) == 1_501_000
    monkeypatch.setattr("time.monotonic_ns", lambda: 1_401_000)
    assert clock.until(1_501_000) == pytest.approx(1e-4)
    monkeypatch.setattr("time.monotonic_ns", lambda: 1_551_000)
    clock.note(range(2), 1_501_000)
    assert (clock.late, clock.behind.total) == (0, 2)
    assert clock.behind.quantile(0.5) == pytest.approx(50, rel=0.02)
    monkeypatch.setattr("time.monotonic_ns", lambda: 9_000_000)
    clock.note(range(2), 1_501_000)
    assert clock.late == 2
    assert SlotClock(1e-3).until(0) == 0
