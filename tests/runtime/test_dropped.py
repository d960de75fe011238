"""What a block drops of its call: gaps in the place of slots, in order, with the block's own reason."""

from typing import Any, ClassVar

import numpy as np
import pytest

import beamslot
from beamslot.errors import BlockFailed
from beamslot.frame import Array, Eos, Frame, Gap, StreamInfo
from beamslot.runtime import Block, Dropped, End, In, Out, Tagged
from beamslot.runtime.testing import Outcome, run_block

COUNTED = StreamInfo({"x": Array.of("slot", np.int64), "table": Array.of("bin", np.float32)}, {"bin": 2})


class Sieve(Block):
    """Drops the slots of a set."""

    stream = In()
    left = Out()

    gone: ClassVar[set[int]] = {2, 3, 6}

    def process(self, stream: dict[str, Any], slots: range) -> Any:
        return Dropped(dict(stream), self.gone & set(slots), "sieved")


class Tagging(Sieve):
    def process(self, stream: dict[str, Any], slots: range) -> Any:
        return Tagged(super().process(stream, slots), {"seen": len(slots)})


class Ending(Sieve):
    def process(self, stream: dict[str, Any], slots: range) -> Any:
        short = {"x": stream["x"][:5], "table": stream["table"]}
        return Dropped(End(short), self.gone & set(slots), "sieved")


class Strange(Sieve):
    def process(self, stream: dict[str, Any], slots: range) -> Any:
        return Dropped(dict(stream), [slots.stop])


class Lying(Sieve):
    def process(self, stream: dict[str, Any], slots: range) -> Any:
        return Dropped(dict(stream), slots, "lost")


class Hoarder(Block):
    x = In("slot", np.int64)

    def process(self, x: np.ndarray) -> Any:
        return Dropped(None, [0])


class Count(Block):
    stream = Out(x=Array.of("slot", np.int64))

    def start(self) -> StreamInfo:
        return StreamInfo({"x": Array.of("slot", np.int64)}, {})

    def process(self, slots: range) -> Any:
        return {"x": np.array(slots)}


class Keep(Block):
    stream = In()

    def start(self, stream: StreamInfo) -> None:
        self._seen: list[int] = []

    def process(self, stream: dict[str, Any]) -> None:
        self._seen += stream["x"].tolist()

    def results(self) -> dict[str, Any]:
        return {"seen": self._seen}


def run(block: Block, burst: int) -> Outcome:
    arrays = {"x": np.arange(8), "table": np.array([1, 2], np.float32)}
    return run_block(block, {"stream": arrays}, infos={"stream": COUNTED}, burst=burst)


def ranges(made: Outcome) -> list[tuple[str, int, int]]:
    items = [item for _, item in made.items if isinstance(item, Frame | Gap | Eos)]
    return [(getattr(i, "reason", ""), i.first, i.end if isinstance(i, Frame | Gap) else i.first) for i in items]


@pytest.mark.parametrize("burst", [1, 3, 8])
def test_dropped_slots_are_gaps_in_their_place(burst: int) -> None:
    made = run(Sieve(), burst)
    seen = {slot: reason for reason, first, end in ranges(made) for slot in range(first, end)}
    assert seen == {slot: "sieved" if slot in Sieve.gone else "" for slot in range(8)}
    assert [first for _, first, _ in ranges(made)] == sorted(first for _, first, _ in ranges(made))
    frames = [item for _, item in made.items if isinstance(item, Frame)]
    assert np.concatenate([frame.arrays["x"] for frame in frames]).tolist() == [0, 1, 4, 5, 7]
    assert all(frame.arrays["table"].tolist() == [1, 2] for frame in frames), "it holds for all slots of a frame"


def test_a_frame_is_cut_no_more_than_needed() -> None:
    assert ranges(run(Sieve(), 8)) == [
        ("", 0, 2),
        ("sieved", 2, 4),
        ("", 4, 6),
        ("sieved", 6, 7),
        ("", 7, 8),
        ("", 8, 8),
    ]


def test_tags_go_with_what_is_left_and_an_end_stays_behind_it() -> None:
    made = run(Tagging(), 8)
    assert [item.tags for _, item in made.items if isinstance(item, Frame)] == [{"seen": 8}] * 3
    assert ranges(run(Ending(), 8)) == [("", 0, 2), ("sieved", 2, 4), ("", 4, 5), ("", 5, 5)]


def test_a_run_counts_what_was_dropped_by_its_reason_and_loses_nothing_else() -> None:
    graph = {
        "options": {"parameters": {"id": "sieve", "slots": 8, "burst": 4}},
        "blocks": [{"name": name, "id": name} for name in ("count", "sieve", "keep")],
        "connections": [["count", "stream", "sieve", "stream"], ["sieve", "left", "keep", "stream"]],
    }
    report = beamslot.run(graph, blocks=[__file__])
    assert report["exit_code"] == 0
    assert report.sinks["keep"]["seen"] == [0, 1, 4, 5, 7]
    assert [(e["offered"], e["acknowledged"], e["dropped"]) for e in report.edges] == [
        (8, 8, {}),
        (8, 5, {"sieved": 3}),
    ]


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (Strange(), "block: process dropped slot 4; it was given slots 0..3"),
        (Lying(), "block: process dropped slots for the reason 'lost', which is not its own"),
    ],
)
def test_slots_that_were_not_given_and_reasons_of_the_runtime_are_refused(block: Block, text: str) -> None:
    with pytest.raises(BlockFailed) as caught:
        run(block, 4)
    assert text in str(caught.value)


def test_a_sink_has_nothing_to_drop() -> None:
    with pytest.raises(BlockFailed, match="process returned Dropped; it has no output and returns None"):
        run_block(Hoarder(), {"x": np.arange(4)})
