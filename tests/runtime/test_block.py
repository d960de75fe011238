import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from beamslot.errors import PortMismatch, ShapeError
from beamslot.frame import Array, StreamInfo
from beamslot.runtime.block import Block, In, Out, RunContext, bind, describe_outputs

CHANNEL = Array.of("slot y z", np.complex64, "sqrt(W)")
POWER = Array.of("slot", np.float32, "W")


class Sizes(Block):
    """Two inputs, two outputs, a parameter."""

    channel = In("slot y z", np.complex64, unit="sqrt(W)")
    judged = In(power=POWER, channel=CHANNEL, optional=True)
    gain = Out("slot y", np.float32)
    both = Out(power=POWER, channel=CHANNEL)

    level: float = Field(1.0, ge=0)

    def start(self, channel: StreamInfo) -> Any:
        return self.answer(channel)

    def answer(self, channel: StreamInfo) -> Any:
        return None

    def process(self, channel: NDArray[Any], judged: Any, slots: range) -> Any:
        return None


def info(**arrays: Array) -> StreamInfo:
    return StreamInfo(arrays or {"channel": CHANNEL}, {"y": 3, "z": 2}, slot_period=5e-3)


def answering(answer: Any) -> Sizes:
    class Answering(Sizes):
        def answer(self, channel: StreamInfo) -> Any:
            return answer

    block = Answering()
    block.join_run(RunContext("sizes"))
    return block


def test_ports_are_found_by_name_and_inherited_ones_too() -> None:
    class Wider(Sizes):
        extra = Out("slot", np.float32)

    assert list(Wider.inputs) == ["channel", "judged"]
    assert list(Wider.outputs) == ["gain", "both", "extra"]
    assert Wider.outputs["extra"].arrays == {"extra": Array.of("slot", np.float32)}
    assert list(Sizes.outputs) == ["gain", "both"]


def test_an_overridden_port_counts_once_and_as_overridden() -> None:
    class Other(Sizes):
        gain = Out("slot", np.float64)

    assert Other.outputs["gain"].arrays["gain"].dtype == np.float64


def test_ports_say_what_they_carry() -> None:
    assert str(Sizes.inputs["channel"]) == "[slot y z] complex64 [sqrt(W)]"
    assert str(Sizes.inputs["judged"]) == "power [slot] float32 [W], channel [slot y z] complex64 [sqrt(W)]"
    assert str(In()) == "any stream"


def test_ports_are_no_parameters() -> None:
    assert list(Sizes.model_fields) == ["level"]
    with pytest.raises(ValidationError):
        Sizes(channel=3)


def test_a_parameter_is_checked_when_set_too() -> None:
    block = Sizes()
    with pytest.raises(ValidationError):
        block.level = -1.0


def test_process_may_not_ask_for_what_there_is_not() -> None:
    with pytest.raises(PortMismatch, match=r"Stray\.process wants channel, chanel; it can have stream, slots, source"):

        class Stray(Block):
            stream = In()

            def process(self, stream: Any, channel: Any, chanel: Any, slots: range, source: str) -> None: ...


@pytest.mark.parametrize(
    ("window", "hop", "expected"), [(8, 0, 8), (8, 2, 2), ("size", 0, "size"), ("size", "step", "step")]
)
def test_a_window_moves_on_by_itself_unless_told_otherwise(window: Any, hop: Any, expected: Any) -> None:
    assert In(window=window, hop=hop).hop == expected


def test_arrays_are_bound_by_name() -> None:
    assert bind(Sizes.inputs["judged"], info(channel=CHANNEL, other=POWER, power=POWER), "edge") == {
        "power": "power",
        "channel": "channel",
    }


def test_a_port_and_a_stream_of_one_array_need_not_agree_on_its_name() -> None:
    assert bind(Sizes.inputs["channel"], info(field=CHANNEL), "edge") == {"channel": "field"}
    with pytest.raises(PortMismatch, match="array 'channel' does not come"):
        bind(Sizes.inputs["channel"], info(field=CHANNEL, other=POWER), "edge")


def test_a_port_of_any_stream_takes_everything() -> None:
    assert bind(In(), info(a=POWER, b=CHANNEL), "edge") == {"a": "a", "b": "b"}


@pytest.mark.parametrize(
    ("came", "said"),
    [
        (Array.of("slot z y", np.complex64, "sqrt(W)"), r"comes as \[slot z y\] complex64 \[sqrt\(W\)\]"),
        (Array.of("slot y z", np.complex128, "sqrt(W)"), r"comes as \[slot y z\] complex128 \[sqrt\(W\)\]"),
        (Array.of("slot y z", np.complex64, "W"), r"comes as \[slot y z\] complex64 \[W\]"),
    ],
)
def test_what_does_not_fit_is_named_with_what_came_and_what_was_wanted(came: Array, said: str) -> None:
    with pytest.raises(PortMismatch, match=rf"^a\.b > c\.d: array 'channel' {said}; wanted \[slot y z\] complex64"):
        bind(Sizes.inputs["channel"], info(channel=came), "a.b > c.d")


def test_all_that_does_not_fit_is_named_at_once() -> None:
    with pytest.raises(PortMismatch, match=r"array 'power' comes as .*; array 'channel' does not come"):
        bind(Sizes.inputs["judged"], info(power=CHANNEL, other=CHANNEL), "edge")


def test_outputs_inherit_the_first_input_when_start_says_nothing() -> None:
    out = describe_outputs(answering(None), {"channel": info()})
    assert {name: dict(one.axes) for name, one in out.items()} == {"gain": {"y": 3}, "both": {"y": 3, "z": 2}}
    assert {one.slot_period for one in out.values()} == {5e-3}
    assert out["both"].arrays == {"power": POWER, "channel": CHANNEL}


def test_one_description_from_start_serves_all_outputs() -> None:
    given = info().replace(axes={"y": 7, "z": 2}, slot_period=1.0)
    out = describe_outputs(answering(given), {"channel": info()})
    assert out["gain"].axes == {"y": 7}
    assert out["both"].slot_period == 1.0


def test_outputs_that_start_does_not_name_inherit() -> None:
    out = describe_outputs(answering({"gain": info().replace(axes={"y": 7})}), {"channel": info()})
    assert (out["gain"].axes, out["both"].axes) == ({"y": 7}, {"y": 3, "z": 2})


def test_start_may_not_describe_a_port_that_is_not_there() -> None:
    with pytest.raises(PortMismatch, match="sizes: start describes gian; there is gain, both"):
        describe_outputs(answering({"gian": info()}), {"channel": info()})


def test_start_must_give_every_length() -> None:
    with pytest.raises(ShapeError, match=r"sizes\.both: no length for z; start gave \{'y': 3\}"):
        describe_outputs(answering(info().replace(axes={"y": 3})), {"channel": info()})


def test_a_source_must_describe_what_it_sends() -> None:
    class Silent(Block):
        out = Out("slot", np.float32)

        def process(self, slots: range) -> None: ...

    with pytest.raises(PortMismatch, match=r"block\.out: a block without inputs must describe its outputs in start"):
        describe_outputs(Silent(), {})


def test_a_many_port_starts_with_the_descriptions_by_stream() -> None:
    seen: dict[str, StreamInfo] = {}

    class Many(Block):
        estimate = In("slot", np.float32, many=True)

        def start(self, estimate: dict[str, StreamInfo]) -> None:
            seen.update(estimate)

        def process(self, estimate: NDArray[Any]) -> None: ...

    one = StreamInfo({"estimate": Array.of("slot", np.float32)}, {})
    assert describe_outputs(Many(), {"estimate": {"a.out": one, "b.out": one}}) == {}
    assert seen == {"a.out": one, "b.out": one}


def draw(seed: int = 0, name: str = "block", slot: int = 0, purpose: int = 0) -> NDArray[np.int64]:
    block = Sizes()
    block.join_run(RunContext(name, seed))
    return block.rng(slot, purpose).integers(0, 2**62, 64)


def test_the_generator_of_a_slot_does_not_depend_on_what_was_drawn_before() -> None:
    block = Sizes()
    for slot in (4, 2, 2, 9):
        block.rng(slot).normal(size=100)
    np.testing.assert_array_equal(block.rng(2).integers(0, 2**62, 64), draw(slot=2))


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": "blocks"}, {"slot": 1}, {"slot": 2**40}, {"purpose": 1}])
def test_seed_name_slot_and_purpose_each_make_another_generator(other: dict[str, Any]) -> None:
    assert not np.intersect1d(draw(), draw(**other)).size


def test_the_numbers_of_neighbouring_slots_do_not_overlap() -> None:
    numbers = set(itertools.chain.from_iterable(draw(slot=slot).tolist() for slot in range(50)))
    assert len(numbers) == 50 * 64


def test_seed_and_name_do_not_run_into_each_other() -> None:
    assert not np.array_equal(draw(seed=1, name="1"), draw(seed=11, name=""))


def test_a_block_alone_has_a_run_of_its_own() -> None:
    assert Sizes().run == RunContext("block", 0, 1e-3)


def test_a_block_without_process_says_so() -> None:
    class Nothing(Block):
        pass

    with pytest.raises(NotImplementedError, match="Nothing has no process"):
        Nothing().process()
