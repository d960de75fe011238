"""A live source whose slots are what the world sends: fewer, later, or none yet; and what it tells people."""

from typing import Any

import numpy as np
import pytest
from beamslot_runs import Runner, assert_balanced, graph
from pydantic import Field

from beamslot.errors import BlockFailed
from beamslot.frame import Array, Describe, Frame, Gap, StreamInfo
from beamslot.runtime import Block, In, Out, Received, RunContext, Tagged
from beamslot.runtime.core import Core, Input
from beamslot.runtime.testing import run_block
from beamslot.sinks.null_sink import NullSink

INFO = StreamInfo({"x": Array.of("slot", np.int64)}, {})


class World(Block):
    """A live source that plays a script of calls: first slot, count, and why those before are lost."""

    live = True

    x = Out("slot", np.int64)

    def start(self) -> StreamInfo:
        self._script: list[Any] = []
        return INFO

    def process(self, slots: range) -> Any:
        came = self._script.pop(0) if self._script else (slots.start, 0, "")
        if isinstance(came, Received):
            return came
        first, count, why = came
        made = range(first, first + count)
        return Received(np.array(made, np.int64), made, why or "missing", captured=5, waited=10**12)


def world(*script: Any) -> Core:
    core = Core(World(), [])
    core.start()
    core.block._script = list(script)
    return core


def test_what_came_is_a_frame_behind_a_gap_for_what_did_not() -> None:
    core = world((3, 2, "overflow"))
    step = core.make(range(0, 4), 1)
    gap, frame = (item for _, item in step.items)
    assert (gap.first, gap.count, gap.reason, gap.captured) == (0, 3, "overflow", 5)
    assert (frame.first, frame.count, frame.captured) == (3, 2, 5)
    np.testing.assert_array_equal(frame.arrays["x"], [3, 4])
    assert (step.slots, step.captured, step.nanoseconds) == (range(0, 5), 5, 0)
    assert core.reached == 5
    assert [item.first for _, item in core.kept] == [0, 3]


def test_nothing_yet_is_nothing_and_a_gap_may_come_alone() -> None:
    core = world((0, 0, ""), (2, 0, "restarted"))
    assert (core.make(range(0, 4), 1).items, core.reached) == ([], 0)
    ((_, gap),) = core.make(range(0, 4), 1).items
    assert isinstance(gap, Gap)
    assert (gap.first, gap.count, core.reached) == (0, 2, 2)
    assert not core.ended


def test_a_description_that_changes_stands_before_its_slots_and_tags_go_with_them() -> None:
    arrays = Tagged(np.arange(2), {"a": 1})
    core = world(Received(arrays, range(1, 3), info=INFO.replace(carrier=3.0)))
    describe, gap, frame = (item for _, item in core.make(range(0, 4), 1).items)
    assert isinstance(describe, Describe)
    assert isinstance(gap, Gap)
    assert isinstance(frame, Frame)
    assert (describe.info.carrier, dict(frame.tags)) == (3.0, {"a": 1})
    assert core.infos["x"].carrier == 3.0


@pytest.mark.parametrize(
    ("came", "text"),
    [
        (Received(np.arange(2), range(1, 3)), "process returned slots 1..2; wanted slots from 2 on, at most 4 of them"),
        (Received(np.arange(5), range(2, 7)), "process returned slots 2..6; wanted slots from 2 on, at most 4 of them"),
        (Received(None, range(2, 4)), "process returned Received with slots 2..3 and no outputs"),
        (Received(np.arange(3), range(2, 4)), "x is (3,); wanted (slot 2)"),
    ],
)
def test_slots_that_cannot_be_are_refused(came: Received, text: str) -> None:
    with pytest.raises(BlockFailed) as caught:
        world(came).make(range(2, 6), 1)
    assert text in str(caught.value)


class Pretender(Block):
    """Returns what only a live source may."""

    x = In("slot", np.int64)
    y = Out("slot", np.int64)

    def process(self, slots: range) -> Received:
        return Received(np.array(slots), slots)


def test_no_other_block_receives() -> None:
    with pytest.raises(BlockFailed, match="process returned Received; only a source that is live does"):
        run_block(Pretender(), {"x": np.arange(3)})
    assert Input(Pretender.inputs["x"], "x").stream == "x"


class Talker(Block):
    """Makes every other pair of slots after some calls with nothing, and tells of each."""

    live = True

    x = Out("slot", np.int64)

    idle: int = Field(3, ge=0)

    def start(self) -> StreamInfo:
        self._calls = 0
        return INFO

    def process(self, slots: range) -> Received:
        self._calls += 1
        if self._calls % (self.idle + 1):
            return Received(None, slots[:0])
        self.tell("came")
        made = range(slots.start + 2, slots.start + 4)
        return Received(np.array(made), made, "skipped")

    @property
    def refused(self) -> int:
        return 7


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    runner = Runner(tmp_path_factory.mktemp("runs"))
    yield runner
    runner.close()


def test_a_run_takes_what_comes_counts_what_does_not_and_shows_what_is_told(runs: Runner) -> None:
    report = runs(graph({"talker": Talker, "sink": NullSink}, "talker.x > sink.stream", slots=40, burst=4))
    assert report["problems"] == []
    assert report["sinks"]["sink"] == {"slots": 20, "missed": 20}
    assert report["edges"][0]["dropped"] == {"skipped": 20}
    assert_balanced(report, ["skipped"])
    assert report["notes"][0] == "talker: came"
    assert report["blocks"]["talker"]["refused"] == 7


def test_without_a_run_a_block_tells_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    block = Talker()
    block.join_run(RunContext("me"))
    block.tell("something")
    assert capsys.readouterr().out == "me: something\n"
    assert NullSink().refused == 0
