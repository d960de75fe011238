"""The vocabulary of axes and dtypes, and what it refuses."""

import numpy as np
import pytest

from beamslot.errors import DtypeError, ShapeError
from beamslot.frame import AXES, DTYPES, parse_axes, wire_dtype

VOCABULARY = "slot user pilot y z chain path group antenna sample subcarrier bin coordinate"


def test_the_vocabulary_is_the_closed_list_of_the_design():
    assert " ".join(AXES) == VOCABULARY
    assert all(AXES.values())


def test_every_wire_dtype_is_a_little_endian_number_of_fixed_size():
    assert {np.dtype(name) for name in DTYPES} == set(DTYPES.values())
    assert all(name[0] in "<|" and not dtype.hasobject and dtype.kind in "ciufb" for name, dtype in DTYPES.items())
    assert all((name[0] == "|") == (dtype.itemsize == 1) for name, dtype in DTYPES.items())


def test_axes_are_read_in_the_order_written():
    assert parse_axes("slot user y z") == ("slot", "user", "y", "z")
    assert parse_axes("") == ()
    assert parse_axes("  bin   coordinate ") == ("bin", "coordinate")


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        ("slot antena", f"axes 'slot antena': no axis is called antena; the vocabulary is {VOCABULARY}"),
        ("row y column", "axes 'row y column': no axis is called row, column; "),
        ("slot y y", "axes 'slot y y': an axis stands twice"),
        ("user slot", "axes 'user slot': slot comes first"),
    ],
)
def test_axes_outside_the_vocabulary_twice_or_with_a_late_slot_are_refused(axes, text):
    with pytest.raises(ShapeError) as caught:
        parse_axes(axes)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_travels_under_its_own_name_whatever_its_byte_order(name):
    dtype = np.dtype(name)
    assert wire_dtype(dtype).str == name
    assert wire_dtype(dtype.newbyteorder(">")).str == name
    assert wire_dtype(dtype.type).str == name


@pytest.mark.parametrize("dtype", [object, "<U4", "S8", "M8[ns]", np.float16, "V3", [("a", "<f4")]])
def test_only_listed_dtypes_may_travel(dtype):
    with pytest.raises(DtypeError, match=r"may not travel; allowed: <c8 <c16 .* \|b1$"):
        wire_dtype(dtype)
