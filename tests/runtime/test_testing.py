from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

from beamslot.errors import BadParam, BlockFailed, DtypeError, FlowgraphError, PortMismatch, ShapeError, UnknownPort
from beamslot.frame import Array, StreamInfo
from beamslot.runtime import Block, End, In, Out
from beamslot.runtime.testing import run_block


class Smooth(Block):
    """Mean over the last slots, plus noise of its own."""

    x = In("slot y", np.float32, window="size", hop="step")
    mean = Out("slot y", np.float32)

    size: int = Field(4)
    step: int = Field(1)
    noise: float = Field(0.0)

    def process(self, x: NDArray[np.float32], slots: range) -> NDArray[np.float32]:
        rows = [x[end - self.size : end].mean(0) for end in range(self.size, len(x) + 1)][-self.step :]
        named = range(slots.stop - len(rows), slots.stop)
        return np.stack(
            [row + self.noise * self.rng(slot).normal() for row, slot in zip(rows, named, strict=True)]
        ).astype(np.float32)


class Add(Block):
    left = In("slot y", np.float32)
    right = In("slot y", np.float32, optional=True)
    total = Out("slot y", np.float32)

    def process(self, left: NDArray[np.float32], right: NDArray[np.float32] | None) -> NDArray[np.float32]:
        return left if right is None else left + right


class Judge(Block):
    truth = In("slot", np.float32)
    estimate = In("slot", np.float32, many=True)

    def start(self) -> None:
        self._errors: dict[str, float] = {}

    def process(self, truth: NDArray[np.float32], estimate: NDArray[np.float32], source: str) -> None:
        self._errors[source] = self._errors.get(source, 0.0) + float(np.abs(estimate - truth).sum())

    def results(self) -> dict[str, Any]:
        return self._errors


@pytest.fixture
def x(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.normal(size=(13, 3)).astype(np.float32)


@pytest.mark.parametrize("burst", [1, 2, 5, 13, 40])
def test_pieces_equal_the_whole(burst: int, x: NDArray[np.float32]) -> None:
    whole = run_block(Smooth(noise=0.1), {"x": x}, burst=13, seed=3)["mean"]
    assert whole.shape == (10, 3)
    np.testing.assert_allclose(run_block(Smooth(noise=0.1), {"x": x}, burst=burst, seed=3)["mean"], whole, rtol=1e-6)


def test_a_window_gives_what_it_would_on_one_array(x: NDArray[np.float32]) -> None:
    outcome = run_block(Smooth(), {"x": x}, burst=3)
    expected = np.lib.stride_tricks.sliding_window_view(x, 4, axis=0).mean(-1)
    np.testing.assert_allclose(outcome["mean"], expected, rtol=1e-5)
    assert [(gap.first, gap.end, gap.reason) for gap in outcome.gaps["mean"]] == [(0, 3, "window filling")]


def test_the_seed_and_the_name_reach_the_block(x: NDArray[np.float32]) -> None:
    one, again, other, renamed = (
        run_block(Smooth(noise=1.0), {"x": x}, seed=seed, name=name)["mean"]
        for seed, name in [(1, "a"), (1, "a"), (2, "a"), (1, "b")]
    )
    np.testing.assert_array_equal(one, again)
    assert not np.isclose(one, other).any()
    assert not np.isclose(one, renamed).any()


def test_inputs_are_joined_and_an_optional_one_may_stay_away(x: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(run_block(Add(), {"left": x, "right": 2 * x}, burst=4)["total"], 3 * x)
    np.testing.assert_array_equal(run_block(Add(), {"left": x}, burst=4)["total"], x)


def test_slots_that_only_one_input_has_are_unmatched(x: NDArray[np.float32]) -> None:
    outcome = run_block(Add(), {"left": x, "right": x[:9]}, burst=4)
    assert len(outcome["total"]) == 9
    assert [(gap.first, gap.end, gap.reason) for gap in outcome.gaps["total"]] == [
        (9, 12, "unmatched"),
        (12, 13, "unmatched"),
    ]
    assert outcome.core is not None
    assert outcome.core.unmatched == [4, 0]


def test_streams_of_a_many_port_go_by_name_with_a_description_each(rng: np.random.Generator) -> None:
    truth = rng.normal(size=8).astype(np.float32)
    block = Judge()
    spec = {"estimate": Array.of("slot", np.float32)}
    infos = {"estimate": {"a": StreamInfo(spec, {}), "b": StreamInfo(spec, {}, carrier=1.0)}}
    run_block(block, {"truth": truth, "estimate": {"a": truth, "b": truth + 1}}, infos=infos, burst=3)
    assert block.results() == {"a": 0.0, "b": pytest.approx(8.0)}


def test_the_arrays_given_stay_writable_and_the_block_cannot_write(x: NDArray[np.float32]) -> None:
    class Vandal(Add):
        def process(self, left: NDArray[np.float32], right: Any) -> Any:
            left *= 2
            return left

    with pytest.raises(BlockFailed, match="ValueError: output array is read-only"):
        run_block(Vandal(), {"left": x})
    assert x.flags.writeable


class Naturals(Block):
    out = Out("slot", np.int64)

    most: int = Field(5)

    def start(self) -> StreamInfo:
        return StreamInfo({"out": Array.of("slot", np.int64)}, {})

    def process(self, slots: range) -> Any:
        numbers = np.array(slots)
        return numbers if slots.stop <= self.most else End(numbers[: max(0, self.most - slots.start)])


@pytest.mark.parametrize(
    ("slots", "burst", "count"), [(3, 1, 3), (9, 1, 5), (9, 4, 5), (9, 5, 5), (4, 3, 4), (0, 1, 0)]
)
def test_a_source_is_asked_for_so_many_slots_and_may_end_before(slots: int, burst: int, count: int) -> None:
    made = run_block(Naturals(), slots=slots, burst=burst)["out"]
    assert (made.tolist() if count else made) == (list(range(count)) if count else None)


class Flow(Block):
    """Any stream, passed on; notes when it is stopped."""

    stream = In()
    out = Out()

    def process(self, stream: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if "bad" in stream:
            raise RuntimeError("bad")
        return dict(stream)

    def stop(self) -> None:
        object.__setattr__(self, "stopped", True)


def test_an_array_without_slots_comes_whole_with_every_frame() -> None:
    info = StreamInfo({"weights": Array.of("y", np.float32), "x": Array.of("slot", np.float32)}, {"y": 2})
    arrays = {"weights": np.ones(2, np.float32), "x": np.arange(5, dtype=np.float32)}
    outcome = run_block(Flow(), {"stream": arrays}, infos={"stream": info}, burst=2)
    assert outcome["out"]["x"].tolist() == [0, 1, 2, 3, 4]
    assert outcome.core is not None
    assert outcome.core.misfits == {}


def test_a_block_is_stopped_also_when_it_fails() -> None:
    info = StreamInfo({"bad": Array.of("slot", np.float32)}, {})
    block = Flow()
    with pytest.raises(BlockFailed, match=r"^block at slot 0 \(seed 0\): RuntimeError: bad \(test_testing\.py:\d+\)$"):
        run_block(block, {"stream": {"bad": np.zeros(3, np.float32)}}, infos={"stream": info})
    assert block.__dict__["stopped"]


def test_what_cannot_be_described_by_the_declaration_is_refused_by_name(x: NDArray[np.float32]) -> None:
    with pytest.raises(ShapeError, match=r"left: left has shape \(13,\); wanted axes slot y"):
        run_block(Add(), {"left": x[:, 0]})
    with pytest.raises(DtypeError, match="left: left is float64; wanted float32"):
        run_block(Add(), {"left": x.astype(float)})
    with pytest.raises(ShapeError, match="left: array 'left' does not come; there is right"):
        run_block(Add(), {"left": {"right": x}})
    with pytest.raises(ShapeError, match="stream: takes any stream; say which with infos"):
        run_block(Flow(), {"stream": {"x": x}})


DESCRIBED = StreamInfo({"left": Array.of("slot y", np.float32)}, {"y": 3})


def test_arrays_that_are_not_as_described_are_refused_by_name(x: NDArray[np.float32]) -> None:
    with pytest.raises(DtypeError, match=r"^left: left is float64; wanted float32$"):
        run_block(Add(), {"left": x.astype(float)}, infos={"left": DESCRIBED})
    with pytest.raises(ShapeError, match=r"^left: left has shape \(13, 2\); wanted slot=13 y=3$"):
        run_block(Add(), {"left": x[:, :2]}, infos={"left": DESCRIBED})
    with pytest.raises(ShapeError, match=r"^left: array 'left' does not come; there is x$"):
        run_block(Add(), {"left": {"x": x}}, infos={"left": DESCRIBED})
    with pytest.raises(PortMismatch, match="left"):
        run_block(Add(), {"left": x}, infos={"left": StreamInfo({"left": Array.of("slot", np.float32)}, {})})


def test_arrays_that_are_not_as_described_are_gaps_where_that_is_tested(x: NDArray[np.float32]) -> None:
    outcome = run_block(Add(), {"left": x.astype(float)}, infos={"left": DESCRIBED}, burst=13, strict=False)
    assert outcome["total"] is None
    assert [gap.reason for gap in outcome.gaps["total"]] == ["corrupt"]


class Two(Block):
    pair = In(a=Array.of("slot y", np.float32), b=Array.of("slot y", np.float32))

    def process(self, pair: Any) -> None:
        raise AssertionError("was called")


def test_arrays_of_one_stream_agree_on_their_lengths(x: NDArray[np.float32]) -> None:
    with pytest.raises(ShapeError, match=r"^pair: a has shape \(13, 3\); wanted slot=13 y=2$"):
        run_block(Two(), {"pair": {"a": x, "b": x[:, :2]}})
    with pytest.raises(ShapeError, match=r"^pair: b has shape \(9, 3\); wanted slot=13 y=3$"):
        run_block(Two(), {"pair": {"a": x, "b": x[:9]}})


def test_ports_and_slots_that_are_wrong_or_not_given_are_named(x: NDArray[np.float32]) -> None:
    with pytest.raises(UnknownPort, match=r"^add has no input 'lift'; did you mean 'left'\?$"):
        run_block(Add(), {"lift": x}, name="add")
    with pytest.raises(FlowgraphError, match=r"^block\.left: input is not given; wanted \[slot y\] float32 \[1\]$"):
        run_block(Add(), {"right": x})
    with pytest.raises(ShapeError, match=r"^block\.estimate: got one stream; wanted a mapping of streams by name$"):
        run_block(Judge(), {"truth": x[:, 0], "estimate": x[:, 0]})
    with pytest.raises(ShapeError, match=r"^estimate: infos has no stream 'b'; there is a$"):
        run_block(Judge(), {"truth": x[:, 0], "estimate": {"b": x[:, 0]}}, infos={"estimate": {"a": DESCRIBED}})
    with pytest.raises(BadParam, match=r"^block: a source makes as many slots as it is asked for; wanted slots=$"):
        run_block(Naturals())
