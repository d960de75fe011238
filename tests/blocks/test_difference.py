"""The sink that compares two streams: truth is numpy over all slots at once."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.errors import PortMismatch
from beamslot.frame import Array, StreamInfo
from beamslot.runtime.testing import run_block
from beamslot.sinks.difference_sink import DifferenceSink

SLOTS = 20
INFO = StreamInfo(
    {
        "h": Array.of("slot user y", np.complex64),
        "draw": Array.of("slot", np.int64),
        "seen": Array.of("slot user", np.bool_),
    },
    {"user": 2, "y": 5},
)

Arrays = dict[str, NDArray[Any]]


def stream(seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    h = rng.standard_normal((SLOTS, 2, 5)) + 1j * rng.standard_normal((SLOTS, 2, 5))
    return {"h": h.astype(np.complex64), "draw": np.arange(SLOTS), "seen": rng.random((SLOTS, 2)) > 0.5}


def compared(left: Arrays, right: Arrays, burst: int = 3, infos: Any = None, **parameters: Any) -> dict[str, Any]:
    sink = DifferenceSink(**parameters)
    run_block(sink, {"left": left, "right": right}, infos=infos or {"left": INFO, "right": INFO}, burst=burst, name="c")
    return sink.results()


def test_equal_streams_do_not_differ_even_where_they_are_not_numbers() -> None:
    left = stream()
    left["h"][3, 0, 0], left["h"][4, 0, 0] = np.nan, np.inf
    found = compared(left, {name: array.copy() for name, array in left.items()})
    nothing = {"max_abs": 0.0, "rms_rel_db": None}
    every = {"array.h": nothing, "array.draw": nothing, "array.seen": nothing}
    assert found == {"slots": SLOTS, "missed": 0, "differing": 0, "first_differing": None} | every


def test_differences_are_those_of_numpy() -> None:
    left, right = stream(1), stream(2)
    found = compared(left, right)
    assert (found["differing"], found["first_differing"]) == (SLOTS, 0)
    for name in INFO.arrays:
        one, other = (side[name].astype(np.complex128) for side in (left, right))
        judged = found[f"array.{name}"]
        assert judged["max_abs"] == pytest.approx(np.abs(one - other).max(), rel=1e-12)
        if name != "draw":
            ratio = np.linalg.norm(one - other) / np.linalg.norm(one)
            assert judged["rms_rel_db"] == pytest.approx(20 * math.log10(ratio), abs=1e-9)
    assert found["array.draw"] == {"max_abs": 0.0, "rms_rel_db": None}


def test_a_slot_differs_where_any_entry_is_further_off_than_the_tolerance() -> None:
    left = stream()
    right = {name: array.copy() for name, array in left.items()}
    left["h"][5, 1, 2], right["h"][5, 1, 2] = 1, 1.25
    left["h"][9, 0, 0], right["h"][9, 0, 0] = 1, 1.5
    assert [compared(left, right, tolerance=t)["differing"] for t in (0, 0.25, 0.5)] == [2, 1, 0]
    assert [compared(left, right, tolerance=t)["first_differing"] for t in (0, 0.25, 0.5)] == [5, 9, None]


def test_whole_numbers_that_no_float_tells_apart_differ() -> None:
    left = stream()
    left["draw"] = left["draw"] + 2**53
    right = left | {"draw": left["draw"].copy()}
    right["draw"][4] -= 1
    right["draw"][5] += 1
    assert (compared(left, right)["differing"], compared(left, right)["first_differing"]) == (2, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_on_one_side_differs_at_any_tolerance(bad: float) -> None:
    left = stream()
    right = left | {"h": left["h"].copy()}
    right["h"][6, 0, 0] = bad
    found = compared(left, right, tolerance=1e9)
    assert (found["differing"], found["first_differing"]) == (1, 6)
    assert found["array.h"] == {"max_abs": None, "rms_rel_db": None}


def test_pieces_equal_the_whole_to_the_bit_with_arrays_that_have_no_slots_too() -> None:
    infos = {
        side: INFO.replace(arrays={**INFO.arrays, "taps": Array.of("y", np.float32)}) for side in ("left", "right")
    }
    left, right = ({**stream(seed), "taps": np.full(5, seed, np.float32)} for seed in (1, 2))
    whole = compared(left, right, SLOTS, infos)
    assert whole["array.taps"] == {"max_abs": 1.0, "rms_rel_db": 0.0}
    assert all(compared(left, right, burst, infos) == whole for burst in (1, 3, 7))


def test_streams_of_other_arrays_are_refused_with_all_that_is_unlike() -> None:
    other = INFO.replace(
        arrays={
            "h": INFO.arrays["h"],
            "draw": Array.of("slot", np.int32),
            "more": Array.of("slot", np.float32),
        },
        axes={"user": 2, "y": 4},
    )
    with pytest.raises(PortMismatch) as caught:
        DifferenceSink().start(INFO, other)
    assert str(caught.value) == (
        "block: left and right do not match: array 'draw' is [slot] int64 [1] on left, [slot] int32 [1] on right; "
        "array 'h' is user=2 y=5 on left, user=2 y=4 on right; array 'more' comes on right only; "
        "array 'seen' comes on left only"
    )
