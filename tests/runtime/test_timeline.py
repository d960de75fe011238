"""Parameters over the slots: the timeline itself, a block at work on it, and what a graph may have of its own."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from beamslot_runs import graph
from hypothesis import given
from hypothesis import strategies as st

from beamslot.errors import BadParam, FlowgraphError, UnknownBlock
from beamslot.flowgraph import load
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.runtime import Block, In, Live, Out
from beamslot.runtime.core import Core, Input
from beamslot.runtime.parameters import accept, check_timeline
from beamslot.runtime.place import END
from beamslot.runtime.timeline import Change, Timeline

INFO = StreamInfo({"x": Array.of("slot", np.int64)}, {})


class Scale(Block):
    """Multiplies, and says by what; its output has as many samples as `width` says."""

    x = In("slot", np.int64)
    out = Out("slot sample", np.int64)

    factor: int = Live(1, ge=1, le=1000)
    width: int = Live(1, ge=1)
    fixed: int = 3

    def start(self, x: StreamInfo) -> StreamInfo:
        return x.replace(arrays=self.outputs["out"].arrays, axes={"sample": self.width})

    def process(self, x: np.ndarray, budget: Any) -> np.ndarray:
        return np.repeat(x[:, None] * self.factor, self.width, axis=1)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from("ab"), st.integers(0, 9)), max_size=8),
    st.integers(0, 25),
)
def test_what_holds_for_a_slot_is_what_going_through_all_changes_gives(
    drawn: list[tuple[int, str, int]], slot: int
) -> None:
    first = {"a": -1, "b": -2, "c": -3}
    timeline = Timeline(first, [Change(at, "block", {name: value}) for at, name, value in drawn])
    expected = dict(first)
    for _, name, value in sorted((change for change in drawn if change[0] <= slot), key=lambda change: change[0]):
        expected[name] = value
    changed = {name for _, name, _ in drawn}
    assert timeline.at(slot) == {name: expected[name] for name in changed}
    assert timeline.until(slot) == min([at for at, *_ in drawn if at > slot], default=END)


def core_of(block: Block, *changes: Change) -> Core:
    first = {"factor": 1, "width": 1}
    return Core(block, [Input(block.inputs["x"], "s.x")], timeline=Timeline(first, changes))


def feed(core: Core, *items: Any) -> list[Any]:
    found: list[Any] = []
    for item in items:
        core.feed(0, item)
        while (step := core.step()) is not None:
            found += [item for _, item in step.items]
    return found


def frame(first: int, count: int) -> Frame:
    return Frame(first, count, {"x": np.ones(count, np.int64)})


def values(items: list[Any]) -> list[tuple[int, list[int]]]:
    return [(item.first, item.arrays["out"][:, 0].tolist()) for item in items if isinstance(item, Frame)]


def test_a_call_is_cut_where_a_change_stands() -> None:
    core = core_of(Scale(), *(Change(slot, "b", {"factor": slot}) for slot in (3, 4, 9)))
    items = feed(core, Describe("s", INFO), frame(0, 7), Gap(7, 1, "lost"), frame(8, 4), Eos(12))
    assert values(items) == [(0, [1, 1, 1]), (3, [3]), (4, [4, 4, 4]), (8, [4]), (9, [9, 9, 9])]
    assert sum(isinstance(item, Describe) for item in items) == 1


def test_a_change_that_changes_the_description_sends_it_before_the_slots_it_holds_for() -> None:
    core = core_of(Scale(), Change(2, "b", {"width": 3}), Change(4, "b", {"width": 3}))
    items = feed(core, Describe("s", INFO), frame(0, 6))
    told = [item.info.axes["sample"] if isinstance(item, Describe) else item.first for item in items]
    assert told == [1, 0, 3, 2, 4]


def test_slots_that_come_again_get_the_values_that_held_for_them() -> None:
    block = Scale()
    changes = [Change(2, "b", {"factor": 5})]
    feed(core_of(block, *changes), Describe("s", INFO), frame(0, 4))
    assert block.factor == 5
    items = feed(core_of(block, *changes), Describe("s", INFO), frame(0, 4))
    assert values(items) == [(0, [1, 1]), (2, [5, 5])]


def test_nothing_behind_the_bound_is_begun_until_the_change_is_agreed_upon() -> None:
    core = core_of(Scale())
    feed(core, Describe("s", INFO), frame(0, 4))
    core.tuning.hold = core.bound()
    assert core.tuning.hold == 4
    assert feed(core, frame(4, 4)) == []
    core.tuning.add(Change(6, "b", {"factor": 7}))
    assert values(feed(core, frame(8, 1))) == [(4, [1, 1]), (6, [7, 7]), (8, [7])]


class Windowed(Block):
    """Says the factor for each window."""

    x = In("slot", np.int64, window=4, hop=2)
    out = Out("slot", np.int64)
    factor: int = Live(1)

    def process(self, x: np.ndarray) -> np.ndarray:
        return x[-2:] * self.factor


@pytest.mark.parametrize("came", range(9))
def test_the_bound_of_a_window_lies_between_two_of_its_frames(came: int) -> None:
    core = Core(Windowed(), [Input(Windowed.inputs["x"], "s.x")], timeline=Timeline({"factor": 1}, ()))
    feed(core, Describe("s", INFO), *([frame(0, came)] if came else []))
    bound = core.bound()
    assert bound is not None
    assert came <= bound < came + 2
    core.tuning.hold = bound
    core.tuning.add(Change(bound, "b", {"factor": 9}))
    items = feed(core, frame(came, 12 - came), Eos(12))
    said = {
        slot: value
        for item in items
        if isinstance(item, Frame)
        for slot, value in zip(range(item.first, item.end), item.arrays["out"].tolist(), strict=True)
    }
    assert all(value == (9 if slot >= bound else 1) for slot, value in said.items())


def scaled(**options: Any) -> Any:
    return graph({"b": Scale}, **options)


@pytest.mark.parametrize(
    ("block", "given", "problem"),
    [
        ("x", {"factor": 2}, "f.yml:9: no block is called 'x'; there is b"),
        ("b", {"factor": 0}, "f.yml:9: b.factor: got 0; wanted a whole number >= 1"),
        ("b", {"factor": "many"}, "f.yml:9: b.factor: got 'many'; wanted a whole number"),
        (
            "b",
            {"fixed": 4},
            "f.yml:9: b.fixed: may not change while the graph runs; these may: factor, width, deadline",
        ),
        ("b", {"factr": 4}, "f.yml:9: b.factr: Scale has no such parameter; did you mean 'factor'?"),
        ("b", {"deadline": -1}, "f.yml:9: b.deadline: got -1; wanted a time >= 0 [s], or none"),
        ("b", {}, "f.yml:9: b: no value is given"),
        ("", {"pace": 0}, "f.yml:9: pace: got 0; wanted realtime, max, or a factor > 0"),
        ("", {"slots": 5}, "f.yml:9: slots: the run has no such parameter that may change; there is pace"),
    ],
)
def test_a_change_that_cannot_be_is_refused_with_the_reason(block: str, given: dict[str, Any], problem: str) -> None:
    with pytest.raises(FlowgraphError) as error:
        accept(scaled(), Change(5, block, given, "f.yml:9"))
    assert str(error.value).startswith(problem)
    assert isinstance(error.value, UnknownBlock) == (block == "x")


def test_all_that_is_wrong_with_a_timeline_is_said_at_once() -> None:
    wrong = [Change(1, "b", {"factor": 0}), Change(2, "c", {"factor": 1}), Change(3, "", {"pace": 2})]
    with pytest.raises(FlowgraphError) as error:
        check_timeline(replace(scaled(), timeline=tuple(wrong)))
    assert [type(cause) for cause in error.value.causes] == [BadParam, UnknownBlock, BadParam]


def test_values_are_taken_as_the_block_takes_them() -> None:
    assert accept(scaled(), Change(0, "b", {"factor": "12", "deadline": None})).values == {
        "factor": 12,
        "deadline": None,
    }


FILE = {
    "options": {"parameters": {"id": "t", "slots": 4}},
    "variables": {"step": 100},
    "blocks": [{"name": "source", "id": "upa_source"}, {"name": "none", "id": "null_sink"}],
    "connections": [["source", "field", "none", "stream"]],
}


def test_a_flowgraph_may_have_a_timeline_with_expressions() -> None:
    loaded = load({**FILE, "timeline": [{"slot": "2*step", "block": "source", "parameters": {"snr_db": "step/10"}}]})
    assert loaded.timeline == (Change(200, "source", {"snr_db": 10}),)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (
            {"slot": -1, "block": "source", "parameters": {"snr_db": 1}},
            "timeline[0].slot: got -1; wanted a whole number >= 0",
        ),
        (
            {"slot": 1, "block": "sorce", "parameters": {"snr_db": 1}},
            "no block is called 'sorce'; did you mean 'source'?",
        ),
        ({"slot": 1, "block": "source", "parameters": {"n_y": 1}}, "source.n_y: may not change while the graph runs"),
        ({"slot": 1, "block": "source"}, "timeline[0]: has no parameters that change"),
        ({"slot": 1, "parameters": {"snr_db": 1}}, "timeline[0].block: is not given and has no default"),
        ({"slot": 1, "block": "source", "parameters": {"snr_db": "high"}}, "snr_db: got 'high'; wanted a number [dB]"),
        ({"at": 1, "block": "source", "parameters": {"snr_db": 1}}, "timeline[0].at: is not known"),
    ],
)
def test_a_wrong_entry_is_cited(entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(FlowgraphError) as error:
        load({**FILE, "timeline": [entry]})
    assert problem in str(error.value)
