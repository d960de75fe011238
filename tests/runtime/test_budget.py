"""Deadlines: who is told that time is up, and when; and the tags by which others see it."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from beamslot_probes import CheckSink, CountingSource, Relay
from beamslot_runs import Runner, assert_balanced, graph
from numpy.typing import NDArray
from pydantic import Field

from beamslot.errors import BadParam, BlockFailed, FlowgraphError
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.runtime import Block, End, In, Out, RunContext, Tagged
from beamslot.runtime.budget import Budget
from beamslot.runtime.core import Core, Input, Resumed
from beamslot.runtime.graph import Graph, check
from beamslot.runtime.place import Place, Standing
from beamslot.runtime.resume import Going
from beamslot.runtime.testing import run_block

ORIGIN = 7_000_000_000
MS = 1_000_000
X = Array.of("slot y", np.float32)
INFO = StreamInfo({"x": X}, {"y": 2})


class Now:
    """The monotonic clock, set by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ns = ORIGIN
        patch.setattr(time, "monotonic_ns", lambda: self.ns)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    return Now(monkeypatch)


class Iterate(Block):
    """Iterates until it is told to stop, a millisecond an iteration; gives how many it had."""

    x = In("slot y", np.float32)
    rounds = Out("slot", np.int64)

    most: int = Field(100)

    def use(self, now: Now) -> "Iterate":
        object.__setattr__(self, "now", now)
        return self

    def process(self, x: NDArray[Any], budget: Budget | None) -> NDArray[np.int64]:
        return np.array([self._iterate(budget) for _ in x])

    def _iterate(self, budget: Budget | None) -> int:
        for count in range(1, self.most + 1):
            self.now.ns += MS
            if budget is not None and budget():
                return count
        return self.most


def core_of(block: Block, deadline: float | None = None, resumed: Resumed | None = None) -> Core:
    block.join_run(RunContext("probe"))
    return Core(block, [Input(block.inputs["x"], "src.x", "src.x > probe.x")], resumed=resumed, deadline=deadline)


def frame(first: int, count: int = 1, captured: int = ORIGIN) -> Frame:
    return Frame(first, count, {"x": np.full((count, 2), first, np.float32)}, captured)


def feed(core: Core, *items: Any) -> list[Any]:
    """Return what comes out but for descriptions."""
    core.feed(0, Describe("src.x", INFO))
    for item in items:
        core.feed(0, item)
    found: list[Any] = []
    while not core.ended and (step := core.step()) is not None:
        found += [item for _, item in step.items if not isinstance(item, Describe)]
    return found


def told(items: list[Any]) -> list[Any]:
    """Frames as (first slot, iterations, tags)."""
    return [(item.first, item.arrays["rounds"].tolist(), item.tags) for item in items if isinstance(item, Frame)]


# The budget


def test_a_budget_is_spent_from_its_time_on_and_remembers_that_it_said_so(now: Now) -> None:
    budget = Budget(ORIGIN + 2)
    assert (budget(), budget.spent) == (False, False)
    now.ns += 2
    assert not budget.spent, "nobody has asked"
    assert (budget(), budget.spent) == (True, True)
    now.ns -= 2
    assert budget(), "who was told to stop is not told to go on"


# A block under a deadline


def test_iterations_go_on_until_the_deadline_and_the_frame_says_that_they_were_cut_short(now: Now) -> None:
    core = core_of(Iterate(most=8).use(now), 5e-3)
    assert told(feed(core, frame(0))) == [(0, [5], {"deadline": True, "asked": 5})]


def test_who_is_done_in_time_is_not_cut_short(now: Now) -> None:
    core = core_of(Iterate(most=4).use(now), 5e-3)
    assert told(feed(core, frame(0))) == [(0, [4], {})]


def test_time_that_a_slot_has_lost_in_queues_counts(now: Now) -> None:
    core = core_of(Iterate(most=8).use(now), 5e-3)
    slots = [frame(0, captured=ORIGIN - 2 * MS), frame(1, captured=ORIGIN + 99 * MS)]
    assert told(feed(core, *slots)) == [(0, [3], {"deadline": True, "asked": 3}), (1, [8], {})]


def test_late_slots_get_one_iteration_each_and_all_of_them_come(now: Now) -> None:
    core = core_of(Iterate().use(now), 1e-3)
    late = [frame(slot, captured=0) for slot in range(5)]
    assert told(feed(core, *late, Eos(5))) == [(slot, [1], {"deadline": True, "asked": 1}) for slot in range(5)]
    assert core.ended


def test_the_slots_of_a_call_share_their_budget(now: Now) -> None:
    core = core_of(Iterate(most=4).use(now), 6e-3)
    assert told(feed(core, frame(0, 4))) == [(0, [4, 2, 1, 1], {"deadline": True, "asked": 6})]


def test_without_a_deadline_there_is_no_budget(now: Now) -> None:
    core = core_of(Iterate(most=7).use(now))
    assert told(feed(core, frame(0, captured=0))) == [(0, [7], {})]


def test_a_step_says_whether_it_was_cut_short(now: Now) -> None:
    core = core_of(Iterate(most=3).use(now), 2e-3)
    for item in (Describe("src.x", INFO), frame(0), frame(1, captured=ORIGIN + 99 * MS)):
        core.feed(0, item)
    core.step()
    steps = [core.step(), core.step()]
    assert [step.cut_short for step in steps if step] == [True, False]


class Giving(Block):
    """Asks whether time is up, and returns what it is told to."""

    x = In("slot y", np.float32)
    out = Out("slot y", np.float32)

    def use(self, *made: Any) -> "Giving":
        object.__setattr__(self, "made", list(made))
        return self

    def process(self, x: NDArray[Any], budget: Budget | None) -> Any:
        _ = budget is not None and budget()
        made = self.made.pop(0)
        return made(x) if callable(made) else made


def test_a_slot_cut_short_that_leads_to_nothing_is_a_gap_without_tags() -> None:
    items = feed(core_of(Giving().use(None, lambda x: x), 0.0), frame(0, captured=0), frame(1, captured=0))
    assert [(type(item), item.first) for item in items] == [(Gap, 0), (Frame, 1)]


class Ticks(Block):
    """A source that works for as long as it may."""

    ticks = Out("slot", np.int64)

    def start(self) -> StreamInfo:
        return StreamInfo({"ticks": Array.of("slot", np.int64)}, {})

    def process(self, slots: range, budget: Budget | None = None) -> NDArray[np.int64]:
        assert budget is None or budget()
        return np.array(slots)


class Tock(Block):
    """A source that does not even ask which slots."""

    ticks = Out("slot", np.int64)

    def start(self) -> StreamInfo:
        return StreamInfo({"ticks": Array.of("slot", np.int64)}, {})

    def process(self, budget: Budget | None) -> NDArray[np.int64]:
        return np.array([budget is not None and budget()], np.int64)


def test_a_source_may_have_a_deadline_too() -> None:
    cut = run_block(Ticks(), slots=3, deadline=0.0)
    assert [item.tags for _, item in cut.items if isinstance(item, Frame)] == [{"deadline": True, "asked": 1}] * 3
    assert run_block(Ticks(), slots=3)["ticks"].tolist() == cut["ticks"].tolist() == [0, 1, 2]
    assert run_block(Tock(), slots=2, deadline=0.0)["ticks"].tolist() == [1, 1]
    assert run_block(Tock(), slots=2)["ticks"].tolist() == [0, 0]


# Tags


def tags_of(*made: Any, deadline: float | None = None, resumed: Resumed | None = None) -> list[Any]:
    """Return the tags of the frames that a block gives by returning these, and the slot of an end."""
    core = core_of(Giving().use(*made), deadline, resumed)
    items = feed(core, *(frame(slot, captured=0) for slot in range(len(made))))
    return [item.tags if isinstance(item, Frame) else item.first for item in items]


def test_the_tags_of_a_call_are_those_of_its_frame_and_of_no_other() -> None:
    assert tags_of(lambda x: Tagged(x, {"rounds": 3, "by": ["a", 0.5, None]}), lambda x: x) == [
        {"rounds": 3, "by": ["a", 0.5, None]},
        {},
    ]


def test_tags_are_kept_as_plain_values_of_their_own() -> None:
    mine = {"noise": np.float32(0.5), "rounds": (1, np.int64(2))}

    def spoil(x: NDArray[Any]) -> NDArray[Any]:
        mine.clear()
        return x

    found = tags_of(lambda x: Tagged(x, mine), spoil)
    assert found == [{"noise": 0.5, "rounds": [1, 2]}, {}]
    assert type(found[0]["noise"]) is float


def test_the_tags_of_block_and_runtime_stand_together() -> None:
    late = {"deadline": True, "asked": 1}
    assert tags_of(lambda x: Tagged(x, {"rounds": 1}), lambda x: x, deadline=0.0) == [{"rounds": 1, **late}, late]
    assert tags_of(lambda x: Tagged(x, {"deadline": "mine"}), deadline=0.0) == [late]


class Cold(Giving):
    """Depends on earlier calls, and cannot put that back."""

    stateful = True


def test_the_first_frame_after_a_cold_restart_has_all_three() -> None:
    resumed = Resumed(Going(0, (4,), (4,)), Standing([Place((4,), (4,))]))
    core = core_of(Cold().use(lambda x: Tagged(x, {"rounds": 1}), lambda x: Tagged(x, {"rounds": 2})), 0.0, resumed)
    items = feed(core, frame(4), frame(5))
    assert [item.tags for item in items] == [
        {"restarted": True, "rounds": 1, "deadline": True, "asked": 1},
        {"rounds": 2, "deadline": True, "asked": 1},
    ]


def test_the_last_outputs_can_be_tagged_and_nothing_can_but_is_seen_by_nobody() -> None:
    assert tags_of(lambda x: Tagged(End(x), {"last": True})) == [{"last": True}, 1]
    assert tags_of(Tagged(None, {"why": "silence"}), Tagged(End(), {})) == [0, 1]


class Split(Block):
    """Has two outputs."""

    x = In("slot y", np.float32)
    high = Out("slot y", np.float32)
    low = Out("slot y", np.float32)

    remark: Any = "both"

    def process(self, x: NDArray[Any]) -> Tagged:
        return Tagged({"high": x, "low": x}, {"remark": self.remark})


def test_all_frames_of_a_call_have_its_tags() -> None:
    items = run_block(Split(), {"x": np.zeros((2, 2), np.float32)}, burst=2).items
    assert [(port, item.tags) for port, item in items if isinstance(item, Frame)] == [
        ("high", {"remark": "both"}),
        ("low", {"remark": "both"}),
    ]


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"a": 1j}, r"a tag is of type complex; wanted maps, lists, texts, numbers, truth values, nil"),
        ({"a": np.zeros(2)}, r"a tag is of type ndarray; wanted maps, .*"),
        ({3: "a"}, r"name of a tag is 3; wanted a text of at most 1024 characters"),
        (["a"], r"tags are of type list; wanted a map"),
        ({"a": 2**70}, r"data: OverflowError: Integer value out of range"),
        ({"a": "\ud800"}, r"data: UnicodeEncodeError: .*"),
        ({"a": "b" * 2**16}, r"data: header of 656\d\d bytes; the limit is 65536"),
    ],
)
def test_tags_that_no_frame_can_carry_are_refused_by_the_name_of_the_port(tags: Any, text: str) -> None:
    with pytest.raises(BlockFailed, match=rf"^probe at slot 0 \(seed 0\): probe\.out: {text}"):
        tags_of(lambda x: Tagged(x, tags))


def test_tags_of_several_outputs_are_refused_by_the_names_of_all() -> None:
    with pytest.raises(BlockFailed, match=r"block\.high, block\.low: a tag is of type object; wanted "):
        run_block(Split(remark=object()), {"x": np.zeros((1, 2), np.float32)})


def test_a_block_without_outputs_has_nothing_to_tag() -> None:
    class Remarks(Block):
        x = In("slot y", np.float32)

        def process(self, x: NDArray[Any]) -> Tagged:
            return Tagged(None, {})

    with pytest.raises(BlockFailed, match="block: process returned Tagged; it has no output and returns None"):
        run_block(Remarks(), {"x": np.zeros((1, 2), np.float32)})


# On arrays


def test_a_block_alone_has_the_deadline_that_it_is_given(now: Now) -> None:
    x = {"x": np.zeros((3, 2), np.float32)}
    assert run_block(Iterate(most=4).use(now), x)["rounds"].tolist() == [4, 4, 4]
    assert run_block(Iterate(most=4).use(now), x, deadline=0.0)["rounds"].tolist() == [1, 1, 1]
    assert run_block(Iterate(most=4).use(now), x, deadline=6e-3)["rounds"].tolist() == [4, 2, 1]
    outcome = run_block(Iterate(most=4).use(now), x, deadline=9.0, burst=3)
    assert told([item for _, item in outcome.items]) == [(0, [4, 4, 4], {})]


def test_a_block_that_cannot_be_told_has_none() -> None:
    with pytest.raises(
        BadParam,
        match=r"^split: got a deadline of 0\.5 s; wanted none: Split\.process does not ask for budget, so it cannot be"
        r" told that time is up$",
    ):
        run_block(Split(), {"x": np.zeros((1, 2), np.float32)}, name="split", deadline=0.5)


# In a graph


class Slow(Relay):
    """Passes numbers on when it is told that time is up."""

    def process(self, numbers: dict[str, Any], slots: range, budget: Budget | None) -> Any:
        while budget is not None and not budget():
            pass
        return super().process(numbers, slots)


EDGES = ("src.numbers > relay.numbers", "relay.out > sink.numbers")


def chain(relay: type[Block], deadline: float | None, **options: Any) -> Graph:
    given = graph({"src": CountingSource, "relay": relay, "sink": CheckSink}, *EDGES, **options)
    return replace(given, blocks={**given.blocks, "relay": replace(given.blocks["relay"], deadline=deadline)})


@pytest.mark.parametrize(
    ("deadline", "came"),
    [(-1.0, "-1"), (float("inf"), "inf"), (float("nan"), "nan")],
)
def test_a_deadline_is_a_time(deadline: float, came: str) -> None:
    with pytest.raises(FlowgraphError) as caught:
        check(chain(Slow, deadline))
    assert str(caught.value) == (f"line relay: relay: got a deadline of {came} s; wanted a finite time of 0 or more")
    assert [type(problem) for problem in caught.value.causes] == [BadParam]


def test_a_run_in_which_all_slots_are_late_delivers_them_all_and_says_so(runs: Runner) -> None:
    report = runs(chain(Slow, 0.0, slots=300, burst=3))
    assert report["problems"] == []
    assert report["sinks"]["sink"]["seen"] == 300
    assert {name: block["cut_short"] for name, block in report["blocks"].items()} == {"src": 0, "relay": 300, "sink": 0}
    assert "relay: 300 of 300 slots cut short by its deadline" in report["notes"]
    assert_balanced(report)


def test_a_paced_block_that_would_never_end_is_told_to_at_every_slot(runs: Runner) -> None:
    report = runs(chain(Slow, 2e-3, slots=50, slot_period=4e-3, pace=1.0))
    assert report["sinks"]["sink"]["seen"] == 50
    assert report["blocks"]["relay"]["cut_short"] == 50
    assert_balanced(report)


def test_without_a_deadline_nothing_is_cut_short(runs: Runner) -> None:
    report = runs(chain(Slow, None, slots=50))
    assert report["blocks"]["relay"]["cut_short"] == 0
    assert report["notes"] == []
