"""Memory that outlives a process: whole values only, whenever the writer is killed."""

import ast
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from beamslot.errors import ShapeError
from beamslot.runtime import record
from beamslot.runtime.record import Now, Record, pack, unpack

KILLS = 200
WORDS = 20_000
"""Numbers in a record that is written while its writer is killed."""

DTYPES = ("?", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16")
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def kept() -> Iterator[Record]:
    made = Record()
    yield made
    made.close()


@given(VALUES)
def test_plain_values_come_back_as_they_were(value: Any) -> None:
    assert unpack(pack(value)) == value


@given(ARRAYS)
def test_arrays_come_back_with_shape_and_dtype_and_can_be_written(array: Any) -> None:
    (back,) = unpack(pack([array]))
    np.testing.assert_array_equal(back, array, strict=True)
    assert back.flags.writeable


@pytest.mark.parametrize(
    "array",
    [np.arange(12).reshape(3, 4).T, np.arange(12)[::-2], np.broadcast_to(np.float32(3), (2, 2))],
    ids=["transposed", "backwards", "broadcast"],
)
def test_arrays_that_are_views_come_back_as_what_they_show(array: Any) -> None:
    np.testing.assert_array_equal(unpack(pack(array)), array, strict=True)


@pytest.mark.parametrize(
    ("value", "back"), [(np.float32(0.5), 0.5), (np.int64(-3), -3), (np.bool_(True), True), ((1, (2,)), [1, [2]])]
)
def test_scalars_of_numpy_and_tuples_come_back_as_plain_ones(value: Any, back: Any) -> None:
    assert unpack(pack({"a": value})) == {"a": back}


def test_complex_scalars_come_back_as_numbers() -> None:
    assert complex(unpack(pack(np.complex64(1 - 2j)))) == 1 - 2j


class Own:
    """Something that only this program knows."""


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Own(), "Own cannot be kept"),
        ({1, 2}, "set cannot be kept"),
        (1 + 2j, "complex cannot be kept"),
        (len, "builtin_function_or_method cannot be kept"),
        (np.array([Own()]), "ndarray cannot be kept"),
        (np.array(["text"]), "ndarray cannot be kept"),
        (2**64, "int cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_an_error_that_says_what_can(value: Any, said: str) -> None:
    with pytest.raises(ShapeError, match=rf"{said}.*; wanted numbers, texts, lists, mappings and NumPy arrays"):
        pack({"state": [value]})


def test_a_value_that_cannot_be_kept_leaves_the_one_before(kept: Record) -> None:
    kept.write({"slot": 3})
    with pytest.raises(ShapeError):
        kept.write({"slot": Own()})
    assert kept.read() == {"slot": 3}


def test_nothing_that_is_read_can_run() -> None:
    source = Path(record.__file__).read_text()
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in [*node.names, ast.alias(getattr(node, "module", None) or "")]
    }
    called = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    assert not {"pickle", "marshal", "dill", "shelve"} & imported
    assert not {"eval", "exec", "compile", "__import__"} & called
    with pytest.raises(ShapeError):
        pack(np.array([len], dtype=object))


def test_before_the_first_write_there_is_nothing(kept: Record) -> None:
    assert kept.read() is None


@given(st.lists(VALUES.filter(lambda value: value is not None), min_size=1, max_size=6))
def test_the_newest_value_is_read_be_it_shorter_or_longer_than_the_one_before(values: list[Any]) -> None:
    kept = Record()
    for value in values:
        kept.write(value)
        assert kept.read() == value
        assert kept.read() == value
    kept.close()


def test_who_reads_goes_on_counting_where_the_writer_was(kept: Record) -> None:
    writer = Record()
    for slot in range(3):
        writer.write(slot)
    for mine, theirs in zip(kept.descriptors, writer.descriptors, strict=True):
        os.pwrite(mine, os.pread(theirs, 1000, 0), 0)
    assert kept.read() == 2
    kept.write(3)
    assert kept.read() == 3
    writer.close()


def harmed(how: str, data: bytes) -> bytes:
    """What is in a file after a write that was not finished or went wrong."""
    if how == "short":
        return data[:-1]
    if how == "header only":
        return data[:20]
    if how == "part of the header":
        return data[:7]
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


@pytest.mark.parametrize("how", ["short", "header only", "part of the header", "flipped"])
def test_a_torn_write_of_the_newest_value_leaves_the_one_before(how: str, kept: Record) -> None:
    for slot in range(5):
        kept.write({"slot": slot, "more": "x" * 50})
    newest = max(kept.descriptors, key=lambda file: os.pread(file, 8, 0))
    data = harmed(how, os.pread(newest, 1000, 0))
    os.ftruncate(newest, 0)
    os.pwrite(newest, data, 0)
    assert kept.read()["slot"] == 3
    kept.write({"slot": 9})
    assert kept.read() == {"slot": 9}


def test_two_torn_files_are_nothing(kept: Record) -> None:
    kept.write([1, 2, 3])
    kept.write([4, 5, 6])
    for file in kept.descriptors:
        os.ftruncate(file, os.fstat(file).st_size - 1)
    assert kept.read() is None


def forked(work: Callable[[], None]) -> int:
    """The process id of a child that does some work."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def test_a_writer_killed_at_any_time_leaves_a_whole_value_not_older_than_its_last_word(kept: Record) -> None:
    shared = mmap.mmap(-1, mmap.PAGESIZE)
    words = memoryview(shared).cast("q")

    def write() -> None:
        while True:
            value = words[0] + 1
            length = WORDS if value % 3 else 10  # long ones over short ones, and the reverse
            kept.write({"value": value, "all": np.full(length, value)})
            words[0] = value

    pause = np.random.default_rng(7)
    for _ in range(KILLS):
        begun = words[0]
        pid = forked(write)
        wanted = begun + int(pause.integers(1, 4))
        while words[0] < wanted:
            os.sched_yield()
        for _ in range(int(pause.integers(0, 3000))):
            pass
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found = kept.read()
        assert words[0] <= found["value"] <= words[0] + 1
        assert set(found["all"].tolist()) == {found["value"]}
        words[0] = found["value"]
    words.release()
    shared.close()


def test_what_a_block_does_is_seen_by_the_process_that_forked_it() -> None:
    now = Now()
    assert (now.slots, now.since, now.made) == (None, 0, 0)

    def work() -> None:
        now.begin(range(4, 7), 12_345)
        now.made = 9
        now.made = 5

    os.waitpid(forked(work), 0)
    assert (now.slots, now.since, now.made) == (range(4, 7), 12_345, 9)
    now.end()
    assert now.slots is None
