"""A block at work, fed item by item."""

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from beamslot_runs import graph
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import Field

from beamslot.errors import BlockFailed, PortMismatch, ShapeError
from beamslot.frame import Array, Describe, Eos, Frame, Gap, Operator, StreamInfo
from beamslot.runtime import End, record
from beamslot.runtime.block import Block, In, Out, RunContext
from beamslot.runtime.core import Core, Input, Resumed
from beamslot.runtime.graph import Graph
from beamslot.runtime.place import END, Place, Standing
from beamslot.runtime.resume import Going, resume
from beamslot.runtime.slots import SlotSet

X = Array.of("slot y", np.float32)
HERE = r" \(test_core\.py:\d+\)$"


def info(y: int = 2, operator: Operator | None = None) -> StreamInfo:
    return StreamInfo({"x": X}, {"y": y}, operator=operator)


def frame(first: int, count: int, y: int = 2, **fields: Any) -> Frame:
    x = np.repeat(np.arange(first, first + count, dtype=np.float32)[:, None], y, axis=1)
    x.flags.writeable = False
    return Frame(first, count, {"x": x}, **fields)


class Recorder(Block):
    """Does what it is told at each call, and writes down what happens to it."""

    x = In("slot y", np.float32)
    out = Out("slot y", np.float32)

    def use(self, action: Callable[[NDArray[Any], range], Any]) -> "Recorder":
        object.__setattr__(self, "action", action)
        object.__setattr__(self, "log", [])
        return self

    def start(self, x: StreamInfo) -> None:
        self.log.append(("start", x.axes["y"]))

    def process(self, x: NDArray[Any], slots: range) -> Any:
        self.log.append((slots.start, slots.stop))
        return self.action(x, slots)

    def missed(self, slots: range, reason: str) -> None:
        self.log.append((slots.start, slots.stop, reason))


class Windowed(Recorder):
    """The same with a window."""

    x = In("slot y", np.float32, window="size", hop="step")

    size: int = Field(4)
    step: int = Field(4)


def core_of(block: Recorder, action: Callable[[NDArray[Any], range], Any] = lambda x, _: x, seed: int = 0) -> Core:
    block.join_run(RunContext("probe", seed))
    return Core(block.use(action), [Input(block.inputs["x"], "src.x", "src.x > probe.x")])


def drain(core: Core) -> list[Any]:
    items: list[Any] = []
    while not core.ended and (step := core.step()) is not None:
        items += [item for _, item in step.items]
    return items


def feed(core: Core, *items: Any, index: int = 0) -> list[Any]:
    for item in items:
        core.feed(index, item)
    return drain(core)


def spans(items: list[Any]) -> list[Any]:
    """Frames as (first, end), gaps with their reason, ends as a slot."""
    told: list[Any] = []
    for item in items:
        if isinstance(item, Frame):
            told.append((item.first, item.end))
        elif isinstance(item, Gap):
            told.append((item.first, item.end, item.reason))
        elif isinstance(item, Eos):
            told.append(item.first)
    return told


def test_a_block_starts_with_the_description_and_says_its_own_before_any_frame() -> None:
    core = core_of(Recorder())
    assert core.step() is None
    items = feed(core, Describe("src.x", info()), frame(0, 3), Eos(3))
    assert isinstance(items[0], Describe)
    assert (items[0].stream, items[0].info.arrays) == ("probe.out", {"out": X})
    assert spans(items) == [(0, 3), 3]
    assert core.ended
    assert not core.cut


def test_nothing_becomes_a_gap_on_the_output() -> None:
    core = core_of(Recorder(), lambda x, slots: None if 2 in slots else x)
    assert spans(feed(core, Describe("s", info()), frame(0, 2), frame(2, 2), frame(4, 2), Eos(6))) == [
        (0, 2),
        (2, 4, "filtered"),
        (4, 6),
        6,
    ]


def test_gaps_pass_by_the_block_and_it_learns_of_them() -> None:
    core = core_of(Recorder())
    feed(core, Describe("s", info()), frame(0, 2))
    assert spans(feed(core, Gap(2, 5, "late"), frame(7, 1))) == [(2, 7, "late"), (7, 8)]
    assert core.block.log == [("start", 2), (0, 2), (2, 7, "late"), (7, 8)]


def test_frames_keep_their_capture_time_and_get_the_operator_that_is_described() -> None:
    operator = Operator(np.ones((2, 1, 1), np.complex64), np.zeros(2, np.int16), (-0.5, 0.0))
    core = core_of(Recorder())
    items = feed(core, Describe("s", info(operator=operator)), frame(0, 1, captured=77, operator=operator.hash))
    assert (items[1].captured, items[1].operator) == (77, operator.hash)


@pytest.mark.parametrize("burst", [1, 3])
def test_what_a_block_gets_and_what_it_gave_is_read_only(burst: int) -> None:
    given, kept = [], []

    def keep(x: NDArray[Any], _: range) -> NDArray[Any]:
        given.append(x)
        kept.append(x + 1)
        return kept[-1]

    items = feed(core_of(Recorder(), keep), Describe("s", info()), frame(0, burst))
    assert not any(array.flags.writeable for array in [*given, *kept, items[1].arrays["out"]])
    with pytest.raises(ValueError, match="read-only"):
        kept[0][:] = 0


def test_an_exception_names_block_slots_seed_and_cause() -> None:
    core = core_of(Recorder(), lambda x, _: x / {}["none"], seed=42)
    with pytest.raises(BlockFailed, match=r"^probe at slots 4\.\.6 \(seed 42\): KeyError: 'none'" + HERE) as caught:
        feed(core, Describe("s", info()), frame(4, 3))
    assert (caught.value.block, caught.value.slots, caught.value.seed) == ("probe", range(4, 7), 42)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (np.zeros((1, 2), np.float64), r"probe\.out: out is float64; wanted float32"),
        (np.zeros((2, 2), np.float32), r"probe\.out: out is \(2, 2\); wanted \(slot 1, y 2\)"),
        (np.zeros((1, 3), np.float32), r"probe\.out: out is \(1, 3\); wanted \(slot 1, y 2\)"),
        (np.float32(3), r"probe\.out: out is \(\); wanted \(slot 1, y 2\)"),
    ],
)
def test_an_output_of_another_shape_or_dtype_is_an_error_with_the_port(made: Any, said: str) -> None:
    with pytest.raises(BlockFailed, match=said):
        feed(core_of(Recorder(), lambda *_: made), Describe("s", info()), frame(0, 1))


class Two(Block):
    """One input, two outputs, one of them of two arrays."""

    x = In("slot y", np.float32)
    one = Out("slot y", np.float32)
    pair = Out(x=X, slot=Array.of("slot", np.int64))

    def use(self, answer: Any) -> "Two":
        object.__setattr__(self, "answer", answer)
        return self

    def process(self, x: NDArray[Any], slots: range) -> Any:
        return self.answer(x, slots) if callable(self.answer) else self.answer


def two(answer: Any) -> Core:
    block = Two().use(answer)
    block.join_run(RunContext("two"))
    return Core(block, [Input(block.inputs["x"], "src.x")])


def by_port(core: Core) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    while not core.ended and (step := core.step()) is not None:
        for port, item in step.items:
            found.setdefault(port, []).append(item)
    return {port: spans(items) for port, items in found.items()}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.zeros(3), r"two: process returned ndarray; wanted arrays by port: \['one', 'pair'\]"),
        ({"on": 1}, r"two: process returned \['on'\]; wanted arrays by port: \['one', 'pair'\]"),
        ({"pair": np.zeros(3)}, r"two\.pair: ndarray came; wanted arrays \['slot', 'x'\]"),
        ({"pair": {"x": np.zeros(3)}}, r"two\.pair: arrays \['x'\] came; wanted \['slot', 'x'\]"),
    ],
)
def test_arrays_for_other_ports_or_of_other_names_are_an_error(answer: Any, said: str) -> None:
    core = two(answer)
    core.feed(0, Describe("s", info()))
    core.feed(0, frame(0, 1))
    with pytest.raises(BlockFailed, match=said):
        by_port(core)


def test_an_output_that_gets_nothing_has_a_gap_beside_the_others() -> None:
    core = two(lambda x, _: {"one": x})
    for item in (Describe("s", info()), frame(0, 3), Eos(3)):
        core.feed(0, item)
    assert by_port(core) == {"one": [(0, 3), 3], "pair": [(0, 3, "filtered"), 3]}


def test_each_output_ends_behind_the_last_slot_that_it_got() -> None:
    core = two(lambda x, slots: End({"one": x[:2]}) if slots.start else {"one": x})
    for item in (Describe("s", info()), frame(0, 3), frame(3, 3), Eos(6)):
        core.feed(0, item)
    assert by_port(core) == {"one": [(0, 3), (3, 5), 5], "pair": [(0, 3, "filtered"), 3]}
    assert core.cut


@pytest.mark.parametrize("last", [None, np.zeros((0, 2), np.float32)])
def test_an_end_without_slots_sends_no_frame(last: Any) -> None:
    core = core_of(Recorder(), lambda x, slots: End(last) if slots.start == 2 else x)
    assert spans(feed(core, Describe("s", info()), frame(0, 2), frame(2, 2), frame(4, 2))) == [(0, 2), 2]


def test_a_sink_may_not_return_anything() -> None:
    class Talkative(Block):
        x = In("slot y", np.float32)

        def process(self, x: NDArray[Any]) -> Any:
            return x

    block = Talkative()
    core = Core(block, [Input(block.inputs["x"], "src.x")])
    with pytest.raises(BlockFailed, match="process returned ndarray; it has no output and returns None"):
        feed(core, Describe("s", info()), frame(0, 1))


class Counter(Block):
    """A source of some slots."""

    out = Out("slot y", np.float32)

    stop_at: int = Field(7)
    whole: bool = Field(False)

    def start(self) -> StreamInfo:
        return info()

    def process(self, slots: range) -> Any:
        rows = np.zeros((max(0, min(self.stop_at, slots.stop) - slots.start), 2), np.float32)
        if self.whole:
            return rows if len(rows) == len(slots) else None
        return rows if len(rows) == len(slots) else End(rows)


@pytest.mark.parametrize(("whole", "frames"), [(False, [(0, 3), (3, 6), (6, 7), 7]), (True, [(0, 3), (3, 6), 6])])
def test_a_source_ends_with_its_last_slot_and_counts_those_that_it_made(whole: bool, frames: list[Any]) -> None:
    core = Core(Counter(whole=whole), [])
    items, made = [item for _, item in core.start()], 0
    for first in range(0, 30, 3):
        step = core.make(range(first, first + 3), captured=5)
        items += [item for _, item in step.items]
        made += len(step.slots or ())
        if core.ended:
            break
    assert spans(items) == frames
    assert made == frames[-1]


def operator(scale: float) -> Operator:
    return Operator(np.full((2, 1, 1), scale, np.complex64), np.zeros(2, np.int16), (-0.5, 0.0))


@pytest.mark.parametrize(
    ("misfit", "reason"),
    [
        (frame(2, 2, y=3), "corrupt"),
        (Frame(2, 2, {"x": np.zeros((2, 2), np.float64)}), "corrupt"),
        (Frame(2, 2, {"z": np.zeros((2, 2), np.float32)}), "corrupt"),
        (Frame(2, 2, {"x": np.zeros((1, 2), np.float32)}), "corrupt"),
        (frame(2, 2, operator="0123456789abcdef"), "no operator"),
    ],
)
def test_a_frame_that_is_not_as_described_becomes_a_counted_gap(misfit: Frame, reason: str) -> None:
    core = core_of(Recorder())
    assert spans(feed(core, Describe("s", info()), frame(0, 2), misfit, frame(4, 1))) == [
        (0, 2),
        (2, 4, reason),
        (4, 5),
    ]
    assert core.dropped == [{reason: 2}]
    assert core.misfits == {reason: 2}


def test_data_of_another_operator_waits_for_its_description() -> None:
    core = core_of(Recorder())
    one, other = operator(1), operator(2)
    feed(core, Describe("s", info(operator=one)), frame(0, 1, operator=one.hash))
    assert spans(feed(core, frame(1, 1, operator=other.hash), frame(2, 1))) == [
        (1, 2, "no operator"),
        (2, 3, "no operator"),
    ]
    assert spans(feed(core, Describe("s", info(operator=other)), frame(3, 1, operator=other.hash)))[-1] == (3, 4)


def test_slots_that_never_came_become_a_counted_gap_be_it_before_the_end() -> None:
    core = core_of(Recorder())
    assert spans(feed(core, Describe("s", info()), frame(0, 2), frame(5, 1), Gap(8, 1, "late"), Eos(12))) == [
        (0, 2),
        (2, 5, "lost"),
        (5, 6),
        (6, 8, "lost"),
        (8, 9, "late"),
        (9, 12, "lost"),
        12,
    ]
    assert core.dropped == [{"lost": 8}]


def test_another_description_starts_the_block_again_and_the_same_one_does_not() -> None:
    core = core_of(Recorder())
    items = feed(core, Describe("s", info(2)), frame(0, 1), Describe("s", info(2)), frame(1, 1))
    items += feed(core, Describe("s", info(3)), frame(2, 1, y=3))
    assert core.block.log == [("start", 2), (0, 1), (1, 2), ("start", 3), (2, 3)]
    assert [item.info.axes["y"] for item in items if isinstance(item, Describe)] == [2, 3]


def test_two_inputs_that_change_together_start_the_block_once_with_both() -> None:
    starts: list[tuple[int, int]] = []

    class Pair(Block):
        left = In("slot y", np.float32)
        right = In("slot y", np.float32)
        out = Out("slot y", np.float32)

        def start(self, left: StreamInfo, right: StreamInfo) -> None:
            starts.append((left.axes["y"], right.axes["y"]))

        def process(self, left: NDArray[Any], right: NDArray[Any]) -> Any:
            return left + right

    block = Pair()
    core = Core(block, [Input(port, f"{name}.x") for name, port in block.inputs.items()])
    for index in (0, 1):
        for item in (Describe("s", info(2)), frame(0, 2), Describe("s", info(3)), frame(2, 2, y=3), Eos(4)):
            core.feed(index, item)
    items = drain(core)
    assert starts == [(2, 2), (3, 3)]
    assert [type(item).__name__ for item in items] == ["Describe", "Frame", "Describe", "Frame", "Eos"]
    assert items[2].info.axes["y"] == 3


def test_a_window_gives_up_what_it_holds_when_the_description_changes_and_only_then() -> None:
    core = core_of(Windowed())
    feed(core, Describe("s", info(2)), frame(0, 3), Describe("s", info(2)))
    assert spans(feed(core, frame(3, 2))) == [(0, 4)]
    assert spans(feed(core, Describe("s", info(3)), frame(5, 7, y=3))) == [
        (4, 5, "description changed"),
        (5, 8, "window filling"),
        (8, 12),
    ]


def test_a_description_that_does_not_fit_names_the_edge() -> None:
    with pytest.raises(PortMismatch, match=r"^src\.x > probe\.x: array 'x' comes as \[slot y\] float64"):
        feed(core_of(Recorder()), Describe("s", StreamInfo({"x": Array.of("slot y", np.float64)}, {"y": 2})))


def test_what_start_and_missed_raise_names_the_block_too() -> None:
    class Fragile(Recorder):
        def start(self, x: StreamInfo) -> None:
            if x.axes["y"] == 3:
                raise ValueError("three is too many")

        def missed(self, slots: range, reason: str) -> None:
            raise OSError("no space")

    with pytest.raises(BlockFailed, match=r"^probe \(seed 0\): start: ValueError: three is too many" + HERE):
        feed(core_of(Fragile()), Describe("s", info(3)))
    core = core_of(Fragile())
    with pytest.raises(BlockFailed, match=r"^probe at slots 2\.\.4 \(seed 0\): missed: OSError: no space" + HERE):
        feed(core, Describe("s", info(2)), Gap(2, 3, "late"))


def test_a_window_that_skips_slots_is_refused() -> None:
    with pytest.raises(ShapeError, match="window of 4 slots with hop 5; wanted 1 <= hop <= window"):
        core_of(Windowed(size=4, step=5))


@pytest.mark.parametrize(("size", "step"), [(4, 4), (4, 1), (5, 3), (1, 1)])
@pytest.mark.parametrize("burst", [1, 2, 7])
def test_every_slot_of_a_windowed_block_leaves_once_whatever_the_framing(size: int, step: int, burst: int) -> None:
    core = core_of(Windowed(size=size, step=step), lambda x, _: x[-step:])
    items = feed(core, Describe("s", info()), *(frame(at, burst) for at in range(0, 14, burst)), Eos(14))
    told = spans(items)
    assert [slot for first, end, *_ in told[:-1] for slot in range(first, end)] == list(range(14))
    for item in items:
        if isinstance(item, Frame):
            assert item.arrays["out"][:, 0].tolist() == list(range(item.first, item.end))
    lead = [(0, size - step, "window filling")] if size > step else []
    tail = (14 - size) % step
    assert [gap for gap in told[:-1] if len(gap) == 3] == [
        *lead,
        *([(14 - tail, 14, "window incomplete")] if tail else []),
    ]


def test_the_slots_asked_for_are_those_of_the_arrays_and_the_output_is_named_by_the_newest() -> None:
    core = core_of(Windowed(size=5, step=2), lambda x, _: x[-2:])
    items = feed(core, Describe("s", info()), frame(0, 9))
    assert core.block.log[1:] == [(0, 3, "window filling"), (0, 5), (2, 7), (4, 9)]
    assert [(item.first, item.end) for item in items if isinstance(item, Frame)] == [(3, 5), (5, 7), (7, 9)]


def test_a_hole_interrupts_a_window_which_fills_anew_from_a_multiple_of_its_hop() -> None:
    core = core_of(Windowed(size=4, step=2), lambda x, _: x[-2:])
    items = feed(core, Describe("s", info()), frame(0, 5), Gap(5, 2, "late"), frame(7, 5), Eos(12))
    assert spans(items) == [
        (0, 2, "window filling"),
        (2, 4),
        (4, 5, "window interrupted"),
        (5, 7, "late"),
        (7, 8, "window filling"),
        (8, 10, "window filling"),
        (10, 12),
        12,
    ]


def slots_of(finished: SlotSet) -> set[int]:
    return {slot for first, end in finished for slot in range(first, end)}


def finished(core: Core, index: int, downstream: SlotSet | None) -> SlotSet:
    """The slots of an input that a block acknowledges when it knows what is finished behind it, here and now."""
    if core.marked:
        core.mark()
    core.settle(downstream)
    return core.told(index)


def test_slots_are_finished_when_they_were_processed_here_and_acknowledged_behind() -> None:
    core = core_of(Recorder())
    feed(core, Describe("s", info()), frame(0, 4), frame(4, 4))
    assert slots_of(finished(core, 0, SlotSet())) == set()
    assert slots_of(finished(core, 0, SlotSet([(0, 3), (5, 6)]))) == {0, 1, 2}
    assert slots_of(finished(core, 0, None)) == set(range(8))


def test_slots_that_a_window_still_needs_are_not_finished() -> None:
    core = core_of(Windowed(size=4, step=1), lambda x, _: x[-1:])
    feed(core, Describe("s", info()), frame(0, 6))
    assert slots_of(finished(core, 0, SlotSet([(0, 6)]))) == {0, 1, 2}
    feed(core, Eos(6))
    assert slots_of(finished(core, 0, SlotSet([(0, 6)]))) == set(range(6))


class Pair(Block):
    """Two inputs joined."""

    left = In("slot y", np.float32)
    right = In("slot y", np.float32)

    def process(self, left: NDArray[Any], right: NDArray[Any]) -> None: ...


def test_an_input_never_finishes_slots_that_it_did_not_bring() -> None:
    block = Pair()
    core = Core(block, [Input(port, f"{name}.x") for name, port in block.inputs.items()])
    for index in (0, 1):
        core.feed(index, Describe("s", info()))
    feed(core, frame(0, 5), Eos(5))
    feed(core, frame(2, 7), Eos(9), index=1)
    assert core.ended
    assert slots_of(finished(core, 0, None)) == set(range(5))
    assert slots_of(finished(core, 1, None)) == set(range(9))  # what lies before its first slot was never there
    assert core.unmatched == [2, 4]


class Judge(Block):
    """A sink that joins each of many with the truth."""

    truth = In("slot y", np.float32)
    estimate = In("slot y", np.float32, many=True)

    def start(self, truth: StreamInfo, estimate: dict[str, StreamInfo]) -> None:
        object.__setattr__(self, "log", [*getattr(self, "log", []), ("start", truth.axes["y"], sorted(estimate))])

    def process(self, truth: NDArray[Any], estimate: NDArray[Any], source: str, slots: range) -> None:
        assert truth.shape == estimate.shape
        self.log.append((source, slots.start, slots.stop))

    def missed(self, slots: range, reason: str) -> None:
        self.log.append((reason, slots.start, slots.stop))


def judge() -> Core:
    block = Judge()
    block.join_run(RunContext("judge"))
    ports = block.inputs
    core = Core(block, [Input(ports["truth"], "t.x"), Input(ports["estimate"], "a.x"), Input(ports["estimate"], "b.x")])
    for index in range(3):
        core.feed(index, Describe("s", info()))
    drain(core)
    return core


def test_each_stream_of_a_many_port_is_judged_by_itself_as_it_comes() -> None:
    core = judge()
    feed(core, frame(0, 4))
    feed(core, frame(0, 4), index=1)
    assert core.block.log == [("start", 2, ["a.x", "b.x"]), ("a.x", 0, 4)]
    assert slots_of(finished(core, 0, None)) == set()
    assert slots_of(finished(core, 1, None)) == {0, 1, 2, 3}
    assert core.waits_for() == ["slot 4 of t.x", "slot 4 of a.x", "slot 0 of b.x"]
    feed(core, frame(0, 2), index=2)
    assert core.block.log[-1] == ("b.x", 0, 2)
    assert slots_of(finished(core, 0, None)) == {0, 1}


def test_a_many_port_ends_when_all_its_streams_have() -> None:
    core = judge()
    feed(core, frame(0, 2), Eos(2))
    feed(core, frame(0, 2), Eos(2), index=1)
    assert not core.ended
    feed(core, Eos(0), index=2)
    assert core.ended
    assert core.block.log[-1] == ("unmatched", 0, 2)
    assert core.unmatched == [2, 0, 0]


def test_a_shared_description_waits_for_the_slower_stream() -> None:
    core = judge()
    feed(core, frame(0, 2), Describe("s", info(3)), frame(2, 2, y=3))
    feed(core, frame(0, 2), Describe("s", info(3)), frame(2, 2, y=3), index=1)
    assert core.block.log[1:] == [("a.x", 0, 2)]
    feed(core, frame(0, 2), Describe("s", info(3)), frame(2, 2, y=3), index=2)
    assert core.block.log[1:3] == [("a.x", 0, 2), ("b.x", 0, 2)]
    assert ("start", 3, ["a.x", "b.x"]) in core.block.log[3:]
    assert [entry for entry in core.block.log[3:] if entry[0] != "start"] == [("a.x", 2, 4), ("b.x", 2, 4)]


def test_a_block_with_a_many_port_is_a_sink() -> None:
    class Merge(Judge):
        out = Out("slot y", np.float32)

    block = Merge()
    with pytest.raises(ShapeError, match="block: a block with a many port is a sink; it has out"):
        Core(block, [Input(block.inputs["estimate"], "a.x")])


class Spy:
    """A lock that can be asked."""

    held = False

    def __enter__(self) -> None:
        assert not self.held
        self.held = True

    def __exit__(self, *_: object) -> None:
        assert self.held
        self.held = False


def test_the_lock_is_let_go_exactly_while_the_block_works_be_it_that_it_fails() -> None:
    lock = Spy()
    seen: list[tuple[bool, range | None]] = []
    block = Recorder()
    block.join_run(RunContext("probe"))

    def look(x: NDArray[Any], slots: range) -> NDArray[Any]:
        seen.append((lock.held, core.working_on))
        if slots.start:
            raise RuntimeError("no")
        return x

    core = Core(block.use(look), [Input(block.inputs["x"], "src.x")], lock)
    with lock:
        feed(core, Describe("s", info()), frame(0, 2))
        assert (lock.held, core.working_on) == (True, None)
        with pytest.raises(BlockFailed):
            feed(core, frame(2, 1))
        assert lock.held
    assert seen == [(False, range(0, 2)), (False, range(2, 3))]


@given(st.data())
def test_random_streams_leave_every_slot_once_and_in_order(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 6))
    step = data.draw(st.integers(1, size))
    core = core_of(Windowed(size=size, step=step), lambda x, _: x[-step:])
    slot, items = 0, [Describe("s", info())]
    for _ in range(data.draw(st.integers(0, 12))):
        count = data.draw(st.integers(1, 6))
        kind = data.draw(st.sampled_from(["frame", "frame", "frame", "gap", "jump", "describe"]))
        if kind == "describe":
            items.append(Describe("s", info().replace(carrier=float(slot))))
        elif kind != "jump":
            items.append(frame(slot, count) if kind == "frame" else Gap(slot, count, "late"))
            slot += count
        elif slot:
            slot += count
    told = spans(feed(core, *items, Eos(slot)))
    assert [at for first, end, *_ in told[:-1] for at in range(first, end)] == list(range(slot))
    assert told[-1] == slot
    assert slots_of(finished(core, 0, SlotSet([(0, slot)]))) == set(range(slot))


# what is recorded, and going on from it

N = Array.of("slot", np.int64)


class Last(Block):
    """Without state; says of the newest slots which window they were seen in."""

    x = In("slot", np.int64, window="size", hop="step")
    out = Out("slot", np.int64)

    size: int = Field(0)
    step: int = Field(0)

    def process(self, x: NDArray[Any]) -> Any:
        return x[-self.step :] * 1000 + x.sum() if self.size else x * 3


class Total(Last):
    """Adds up all that it ever got; missed slots count too."""

    total: int = Field(0)

    def process(self, x: NDArray[Any]) -> Any:
        sums = self.total + np.cumsum(x)
        self.total = int(sums[-1])
        return sums[-self.step :] if self.size else sums

    def missed(self, slots: range, reason: str) -> None:
        self.total += 100 * len(slots)

    def snapshot(self) -> int:
        return self.total

    def restore(self, state: int) -> None:
        self.total = state


class Difference(Block):
    """Two inputs joined, without state."""

    left = In("slot", np.int64)
    right = In("slot", np.int64)
    out = Out("slot", np.int64)

    def process(self, left: NDArray[Any], right: NDArray[Any]) -> Any:
        return left - 2 * right


class Distance(Difference):
    """The same with state."""

    total: int = Field(0)

    def process(self, left: NDArray[Any], right: NDArray[Any]) -> Any:
        sums = self.total + np.cumsum(left - 2 * right)
        self.total = int(sums[-1])
        return sums

    def snapshot(self) -> int:
        return self.total

    def restore(self, state: int) -> None:
        self.total = state


class Root(Block):
    out = Out("slot", np.int64)


class Leaf(Block):
    x = In("slot", np.int64)

    def snapshot(self) -> Any: ...


class Stream:
    """What one input brings, slot by slot: the reason of a gap, empty for data, None for a slot that never comes."""

    def __init__(self, number: int, begin: int, kinds: list[str | None], changes: set[int]) -> None:
        self.number, self.begin, self.end = number, begin, begin + len(kinds)
        self.kinds = dict(enumerate(kinds, begin))
        self.changes = changes

    def items(self, first: int, dice: Random) -> list[Any]:
        """The stream from a slot on, its frames cut anew."""
        at = max(first, self.begin)
        made: list[Any] = [self._description(max([slot for slot in self.changes if slot <= at], default=0))]
        while at < self.end:
            if at in self.changes and at > first:
                made.append(self._description(at))
            most = at + dice.randint(1, 4)
            end = at + 1
            while end < min(most, self.end) and self.kinds[end] == self.kinds[at] and end not in self.changes:
                end += 1
            slots, kind = np.arange(at, end), self.kinds[at]
            if kind == "":
                made.append(Frame(at, len(slots), {"out": (slots * 7 + self.number * 3) % 11}))
            elif kind is not None:
                made.append(Gap(at, len(slots), kind))
            at = end
        return [*made, Eos(self.end)]

    @staticmethod
    def _description(number: int) -> Describe:
        return Describe("s.out", StreamInfo({"out": N}, {}, carrier=float(number)))


def plain(items: list[tuple[str, Any]]) -> dict[int, Any]:
    """Slot by slot what came: a number, or the reason of a gap."""
    told: dict[int, Any] = {}
    for _, item in items:
        if isinstance(item, Frame):
            told |= zip(range(item.first, item.end), item.arrays["out"].tolist(), strict=True)
        elif isinstance(item, Gap):
            told |= dict.fromkeys(range(item.first, item.end), item.reason)
    return told


class Life:
    """One life of a block: what it is fed, step by step, and what it has given."""

    def __init__(self, kind: Block, streams: list[Stream], dice: Random, resumed: Resumed | None) -> None:
        inputs = [Input(port, "s.out", f"s.out > b.{name}") for name, port in kind.inputs.items()]
        self.core = Core(kind, inputs, resumed=resumed)
        self.queues = [s.items(self.core.begin_of(i), dice) for i, s in enumerate(streams)]
        self.given: list[tuple[str, Any]] = []

    def work(self, dice: Random) -> None:
        """Feed one item, or do one step."""
        waiting = [index for index, queue in enumerate(self.queues) if queue]
        if waiting and dice.random() < 0.5:
            index = dice.choice(waiting)
            self.core.feed(index, self.queues[index].pop(0))
        elif not self.core.ended and (step := self.core.step()):
            self.given += step.items

    def reached(self, least: int) -> int:
        """The slot after the last that it has given."""
        return max([least, *(slot + 1 for slot in plain(self.given))])

    def finish(self) -> None:
        for index, queue in enumerate(self.queues):
            for item in queue:
                self.core.feed(index, item)
        while not self.core.ended and (step := self.core.step()):
            self.given += step.items


def graph_of(kind: type[Block]) -> Graph:
    edges = (f"s.out > b.{port}" for port in kind.inputs)
    return graph({"s": Root, "b": kind, "sink": Leaf}, *edges, "b.out > sink.x")


def streams_of(kind: Block, dice: Random) -> list[Stream]:
    begin = dice.choice([0, 0, 6])
    made: list[Stream] = []
    for number in range(len(kind.inputs)):
        count, rare = dice.randint(0, 60), dice.choice([0.0, 0.0, 0.3, 1.0])
        kinds = dice.choices(["", "late", "filtered", None], [12, rare, rare, rare], k=count)
        kinds[:1] = [""] * len(kinds[:1])  # before the first slot nothing is missing
        changes = [begin + dice.randrange(1, count) for _ in range(dice.choice([0, 0, 1, 2]))] if count > 1 else []
        made.append(Stream(number, begin, kinds, set(changes) if len(kind.inputs) == 1 else set()))
    return made


def block_for(dice: Random) -> Callable[[], Block]:
    size = dice.randint(1, 5)
    step = dice.randint(1, size)
    return dice.choice(
        [
            Last,
            Total,
            lambda: Last(size=size, step=step),
            lambda: Total(size=size, step=step),
            lambda: Total(size=size, step=size),
            Difference,
            Distance,
        ]
    )


@pytest.mark.parametrize("seed", range(400))
def test_a_block_stopped_at_any_item_goes_on_as_if_nothing_had_been(seed: int) -> None:
    dice = Random(seed)
    make = block_for(dice)
    block = make()
    streams, flow = streams_of(block, dice), graph_of(type(block))
    whole = Life(make(), streams, dice, None)
    whole.finish()
    meant, counted = plain(whole.given), settled(whole.core)
    first = min(meant, default=0)

    taken: dict[int, Any] = {}
    need = acked = 0
    resumed: Resumed | None = None
    for _ in range(dice.randint(1, 3)):
        life = Life(block, streams, dice, resumed)
        core, recorded, had = life.core, resumed and resumed.standing, need
        assert core.begin <= need
        for _ in range(dice.randint(0, 30)):
            life.work(dice)
            if core.started and dice.random() < 0.3:
                if core.marked and dice.random() < 0.5:
                    core.mark()
                acked = asked(dice, acked, life.reached(need), first)
                need = max(need, acked)
                core.settle(SlotSet([(0, acked)] if acked else []))
                recorded = Standing.unpack(record.unpack(record.pack(core.standing().pack())))
        need = asked(dice, need, life.reached(need), first)
        taken |= {slot: told for slot, told in plain(life.given).items() if had <= slot < need}
        sink = Standing([Place((need,), (need,))])
        going = resume(flow, {"s": [None], "b": [recorded], "sink": [sink]})["b"]
        lives_on = dice.random() < 0.5 and recorded is not None
        block = block if lives_on else make()
        resumed = Resumed(going, recorded, core if lives_on else None)

    life = Life(block, streams, dice, resumed)
    life.finish()
    taken |= {slot: told for slot, told in plain(life.given).items() if slot >= need}
    assert taken == meant
    assert settled(life.core) == counted


def asked(dice: Random, least: int, most: int, first: int) -> int:
    """A slot from which a consumer may want to go on: none that lies before the first that ever came."""
    slot = dice.choice([least, most, dice.randint(least, most)])
    return slot if slot > first else least


def settled(core: Core) -> list[dict[str, Any]]:
    """What became of the slots of every input, all of them being finished."""
    core.settle(None, over=True)
    core.standing()
    return [core.account(index) for index in range(len(core.inputs))]


class Book(Block):
    """A sink that writes down what it is given, and whether it was started or restored."""

    x = In("slot", np.int64)

    def start(self) -> None:
        object.__setattr__(self, "lines", [*getattr(self, "lines", []), "start"])

    def process(self, x: NDArray[Any], slots: range) -> None:
        self.lines.extend(slots)

    def snapshot(self) -> list[Any]:
        return list(self.lines)

    def restore(self, state: list[Any]) -> None:
        object.__setattr__(self, "lines", ["restored", *state])


def of_one(block: Block, going: Going | None = None, standing: Standing | None = None, **options: Any) -> Core:
    """A core of one input, perhaps going on from somewhere."""
    block.join_run(RunContext("b"))
    before = options.pop("before", None)
    resumed = None if going is None else Resumed(going, standing, before)
    return Core(block, [Input(block.inputs["x"], "s.out", "s.out > b.x")], resumed=resumed, **options)


def numbers(first: int, count: int = 1, **fields: Any) -> Frame:
    return Frame(first, count, {"out": np.arange(first, first + count)}, **fields)


DESCRIBED = Describe("s.out", StreamInfo({"out": N}, {}))


def test_a_sink_that_lived_on_keeps_what_it_has_and_sees_no_slot_twice() -> None:
    core = of_one(book := Book())
    feed(core, DESCRIBED, numbers(0, 3), numbers(3, 3))
    core.mark()
    core.settle(None)
    again = of_one(book, Going(0, (6,), (6,)), core.standing(), before=core)
    feed(again, DESCRIBED, numbers(2, 3), numbers(5, 3))
    assert book.lines == ["start", *range(8)]
    assert again.account(0)["acknowledged"] == 6
    again.mark()
    again.settle(None)
    assert again.account(0)["acknowledged"] == 8


def test_a_sink_that_was_killed_goes_on_in_another_process_from_what_it_had_recorded() -> None:
    core = of_one(Book())
    feed(core, DESCRIBED, numbers(0, 3))
    core.mark()
    core.settle(None)
    recorded = Standing.unpack(record.unpack(record.pack(core.standing().pack())))
    feed(core, numbers(3, 3))
    again = of_one(book := Book(), Going(0, (3,), (3,)), recorded)
    feed(again, DESCRIBED, numbers(3, 3))
    assert book.lines == ["restored", "start", 0, 1, 2, 3, 4, 5]


def test_before_it_is_marked_a_block_with_state_goes_back_to_its_beginning() -> None:
    core = of_one(Total())
    feed(core, DESCRIBED, numbers(1, 4))
    core.settle(SlotSet([(0, 5)]))
    assert [(place.out, record.unpack(place.state or b"")) for place in core.standing().places] == [((0,), 0)]
    assert core.told(0) == SlotSet()
    core.mark()
    core.settle(SlotSet([(0, 5)]))
    assert [(place.out, record.unpack(place.state or b"")) for place in core.standing().places] == [((5,), 10)]
    assert core.told(0) == SlotSet([(0, 5)])


def test_places_are_kept_until_all_behind_them_is_finished() -> None:
    core = of_one(Total())
    feed(core, DESCRIBED)
    for slot in range(4):
        feed(core, numbers(slot))
        core.mark()
    core.settle(SlotSet([(0, 2)]))
    assert [place.out for place in core.standing().places] == [(2,), (3,), (4,)]
    core.settle(SlotSet([(0, 4)]))
    assert [place.out for place in core.standing().places] == [(4,)]


def test_what_was_recorded_of_a_block_is_not_changed_by_what_it_does_next() -> None:
    core = of_one(Book())
    feed(core, DESCRIBED, numbers(0, 2))
    core.mark()
    core.settle(None)
    packed = record.pack(core.standing().pack())
    again = of_one(Book(), Going(0, (2,), (2,)), Standing.unpack(record.unpack(packed)))
    feed(again, DESCRIBED, numbers(2, 5))
    again.mark()
    again.settle(None)
    assert record.pack(core.standing().pack()) == packed


class Warm(Last):
    """Depends on earlier calls, and cannot put that back."""

    stateful = True


@pytest.mark.parametrize(
    ("kind", "going", "tagged"),
    [
        (Warm, Going(0, (4,), (4,)), True),
        (Warm, Going(None, (0,), (0,)), False),
        (Warm, None, False),
        (Total, Going(0, (4,), (4,)), False),
        (Last, Going(0, (4,), (4,)), False),
    ],
)
def test_the_first_frame_after_a_cold_restart_says_so(kind: type[Block], going: Going | None, tagged: bool) -> None:
    core = of_one(kind(), going, Standing([Place((4,), (4,), (), record.pack(0))]) if going else None)
    items = feed(core, DESCRIBED, numbers(4, 2), numbers(6, 2))
    tags = [item.tags for item in items if isinstance(item, Frame)]
    assert tags == [{"restarted": True} if tagged else {}, {}]


def test_a_block_with_state_that_lived_on_starts_cold_too_where_it_cannot_go_back() -> None:
    core = of_one(warm := Warm())
    feed(core, DESCRIBED, numbers(0, 4))
    core.settle(SlotSet([(0, 4)]))
    again = of_one(warm, Going(0, (4,), (4,)), core.standing(), before=core)
    (_, item) = feed(again, DESCRIBED, numbers(4, 2))
    assert item.tags == {"restarted": True}


def test_slots_that_ended_the_block_before_become_a_gap_and_it_learns_of_them() -> None:
    core = of_one(total := Total(), poison={4, 9})
    items = feed(core, DESCRIBED, numbers(0, 4), numbers(4, 2), numbers(6, 3), Eos(9))
    assert spans(items) == [(0, 4), (4, 6, "poison"), (6, 9), 9]
    assert total.total == sum([0, 1, 2, 3, 6, 7, 8]) + 2 * 100
    core.mark()
    core.settle(SlotSet([(0, 9)]), over=True)
    assert core.account(0) == {"acknowledged": 9, "dropped": {}, "unmatched": 0}
    assert core.is_over


def test_a_call_is_told_before_it_is_made_and_a_poisoned_one_is_not() -> None:
    told: list[tuple[range, list[str]]] = []
    core = of_one(Last(), poison={2}, on_call=lambda slots, given_: told.append((slots, list(given_))))
    feed(core, DESCRIBED, numbers(0, 2), numbers(2), numbers(3))
    assert told == [(range(0, 2), ["x"]), (range(3, 4), ["x"])]


def test_a_replica_counts_what_came_to_it_and_passes_over_what_others_have() -> None:
    core = of_one(Last(), sparse=True)
    items = feed(core, DESCRIBED, numbers(1), numbers(4), numbers(5), Eos(7))
    assert spans(items) == [(1, 2), (4, 5), (5, 6), 7]
    assert core.misfits == {}
    core.settle(SlotSet([(0, 5)]))
    assert core.told(0).prefix() == 5
    assert core.standing().places[0].out == (5,)


def test_a_source_makes_again_what_was_not_finished() -> None:
    core = Core(Counter(stop_at=100), [], resumed=Resumed(Going(0, (6,), (6,)), Standing([Place((3,), (3,))], base=0)))
    core.start()
    assert (core.begin, core.offered) == (6, 6)
    core.make(range(6, 9), 0)
    core.settle(SlotSet([(0, 8)]))
    assert core.standing().places[0].out == (8,)


class LiveCounter(Counter):
    live = True


def test_a_source_that_cannot_make_slots_again_keeps_them_until_they_are_finished() -> None:
    core = Core(LiveCounter(stop_at=100), [])
    core.start()
    for first in range(0, 9, 3):
        core.make(range(first, first + 3), 0)
    core.settle(SlotSet([(0, 4)]))
    assert [item.first for _, item in core.kept] == [3, 6]
    again = Core(core.block, [], resumed=Resumed(Going(0, (4,), (4,)), core.standing(), core))
    assert [item.first for _, item in again.kept] == [3, 6]


def test_a_block_that_ended_before_its_inputs_wants_nothing_after_a_restart_either() -> None:
    core = of_one(Last())
    feed(core, DESCRIBED, numbers(0, 4), numbers(4, 2))
    core.cut_off(3)
    core.settle(SlotSet([(0, 3)]))
    standing = core.standing()
    assert (standing.places, standing.last) == ([Place((3,), (END,))], 3)
    assert core.account(0) == {"acknowledged": 3, "dropped": {}, "unmatched": 0}
    again = of_one(Last(), Going(0, (3,), (END,)), standing)
    assert (again.was_cut, again.last) == (True, 3)


class Unkept(Block):
    """Its state is nothing that can be kept."""

    x = In("slot", np.int64)
    out = Out("slot", np.int64)

    def snapshot(self) -> set[int]:
        return {1}

    def start(self, x: StreamInfo) -> StreamInfo:
        return x.replace(arrays={"out": N}, axes={})

    def process(self, x: Any) -> Any:
        return x


def test_a_state_that_cannot_be_kept_is_the_fault_of_its_block() -> None:
    with pytest.raises(BlockFailed, match=r"^b \(seed 0\): snapshot: set cannot be kept; wanted numbers, texts"):
        feed(of_one(Unkept()), DESCRIBED)


def test_a_window_that_goes_on_names_no_slot_again() -> None:
    core = of_one(Total(size=4, step=1))
    feed(core, DESCRIBED, numbers(0, 6))
    core.mark()
    core.settle(SlotSet([(0, 6)]))
    standing = Standing.unpack(record.unpack(record.pack(core.standing().pack())))
    assert standing.places == [Place((6,), (3,), ((3, 6),), record.pack(core.block.snapshot()))]
    assert core.told(0) == SlotSet([(0, 3)])
    again = of_one(Total(size=4, step=1), Going(0, (6,), (3,)), standing)
    assert spans(feed(again, DESCRIBED, numbers(2, 4), numbers(6, 2))) == [(6, 7), (7, 8)]
    assert spans(feed(core, numbers(6, 2))) == [(6, 7), (7, 8)]
    assert again.block.snapshot() == core.block.snapshot()


def test_what_comes_behind_the_end_of_a_block_is_not_counted_as_its() -> None:
    core = core_of(Recorder(), lambda x, slots: End(x[:2]) if slots.start == 4 else x)
    feed(core, Describe("s", info()), frame(0, 4), frame(4, 4))
    core.settle(SlotSet([(0, 6)]))
    feed(core, frame(8, 4))
    core.settle(SlotSet([(0, 6)]), over=True)
    assert core.account(0) == {"acknowledged": 6, "dropped": {}, "unmatched": 0}
