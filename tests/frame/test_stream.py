"""Arrays, geometry, operators and descriptions as objects; the hash is redone here from its description in WIRE.md."""

import hashlib
import struct

import numpy as np
import pytest

from beamslot.errors import DtypeError, ShapeError
from beamslot.frame import Array, Frame, Gap, Geometry, Operator, StreamInfo


def operator(seed=0, shape=(3, 2, 4), **changes):
    rng = np.random.default_rng(seed)
    fields = {
        "weights": np.exp(2j * np.pi * rng.random(shape)).astype(np.complex64),
        "group": (np.arange(shape[0]) % 2).astype(np.int16),
        "interval": (-0.5, 0.0),
        "noise_var": 0.25,
    }
    return Operator(**{**fields, **changes})


def hash_by_hand(shape, weights, groups, interval, noise_var):
    """Follow WIRE.md with nothing but text, struct and SHA-256."""
    data = ("(" + ", ".join(str(n) for n in shape) + ")").encode("ascii")
    for weight in weights:
        data += struct.pack("<ff", weight.real, weight.imag)
    data += f"({shape[0]},)".encode("ascii")
    for group in groups:
        data += struct.pack("<h", group)
    data += struct.pack("<dd", *interval)
    data += bytes.fromhex("000000000000f87f") if noise_var is None else struct.pack("<d", noise_var)
    return hashlib.sha256(data).hexdigest()[:16]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 4), (64, 6, 12)])
@pytest.mark.parametrize("noise_var", [None, 0.0, 1e-9])
def test_the_operator_hash_can_be_reproduced_from_its_description(shape, noise_var):
    it = operator(7, shape, noise_var=noise_var)
    weights = [complex(w) for w in it.weights.ravel()]
    groups = [int(g) for g in it.group]
    assert it.hash == hash_by_hand(shape, weights, groups, it.interval, noise_var)


def test_operators_of_equal_content_are_equal_however_they_are_stored():
    one, other = operator(), operator()
    stored = Operator(
        np.asfortranarray(one.weights).astype(">c8"), one.group.astype(np.int64), one.interval, np.float32(0.25)
    )
    assert one == other == stored
    assert one.hash == stored.hash
    assert len({one, other, stored}) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"shape": (3, 4, 2)},
        {"group": np.array([0, 1, -1], np.int16)},
        {"interval": (-0.5, 0.1)},
        {"noise_var": None},
        {"noise_var": 0.5},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_operators_that_differ_anywhere_have_other_hashes(changes):
    assert operator() != operator(**changes)


def test_an_operator_equals_no_other_thing():
    assert operator() != operator().hash


@pytest.mark.parametrize(
    ("weights", "group", "text"),
    [
        ((3, 2), (3,), "operator: weights are (3, 2), group (3,); wanted (y, chain, m) and (y,)"),
        ((3, 2, 4), (2,), "operator: weights are (3, 2, 4), group (2,); wanted (y, chain, m) and (y,)"),
        ((3, 2, 4), (3, 1), "operator: weights are (3, 2, 4), group (3, 1); wanted (y, chain, m) and (y,)"),
    ],
)
def test_an_operator_with_other_axes_is_refused(weights, group, text):
    with pytest.raises(ShapeError) as caught:
        operator(weights=np.zeros(weights, np.complex64), group=np.zeros(group, np.int16))
    assert str(caught.value) == text


def test_an_array_reads_as_axes_dtype_and_unit():
    assert str(Array.of("slot user y z", np.complex64, "sqrt(W)")) == "[slot user y z] complex64 [sqrt(W)]"
    assert Array.of("slot path", ">f8") == Array(("slot", "path"), np.dtype("<f8"), "1")
    with pytest.raises(DtypeError, match="dtype object may not travel"):
        Array.of("slot", object)
    with pytest.raises(ShapeError, match="slot comes first"):
        Array.of("y slot", np.float32)


def test_a_geometry_counts_its_antennas():
    assert Geometry(64, 72).antennas == 4608
    assert Geometry(1, 8).antennas == 8


def info():
    arrays = {"rf": Array.of("slot user y chain", np.complex64), "angle": Array.of("path", np.float64, "rad")}
    return StreamInfo(arrays, {"user": 2, "y": 64, "chain": 6, "path": 3}, slot_period=2e-3)


def test_a_description_gives_shapes_and_sizes():
    assert info().shape("rf", 5) == (5, 2, 64, 6)
    assert info().shape("angle", 5) == (3,)
    assert info().bytes_per_slot == 2 * 64 * 6 * 8 + 3 * 8
    assert StreamInfo({}, {}).bytes_per_slot == 0


def test_replace_changes_a_copy():
    first = info()
    second = first.replace(operator=operator())
    assert first.operator is None
    assert second.operator == operator()
    assert second.replace(operator=None) == first


def test_frames_and_gaps_end_where_the_next_begins():
    assert Frame(3, 4, {}).end == 7
    assert Gap(10, 1, "dropped").end == 11
