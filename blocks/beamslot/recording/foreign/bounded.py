"""What every reader of other software's files keeps to: sizes are checked before anything is made of them.

A file that is truncated, damaged or made to do harm gives one of our errors, which names the file; nothing in it is
run.
"""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from beamslot.errors import BadParam, BeamslotError, StorageError

LARGEST = 1 << 31
"""An array that is read into memory has at most so many bytes; SigMF and .npy are mapped, and may be larger."""

MAX_RANK = 8
MAX_DEFLATED = 1040
"""Deflate makes of one byte at most so many."""


@contextmanager
def reading(path: Path) -> Generator[None]:
    """Turn whatever a damaged file makes a library raise into one of our errors, with the path.

    raises StorageError where the file cannot be read at all, BadParam where it is not what it should be
    """
    try:
        yield
    except BeamslotError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise StorageError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
        raise damaged(path, error) from None
    except Exception as error:  # libraries raise two dozen types for bad bytes; all mean the same here
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> BadParam:
    """Return the error for what a library said of a damaged file."""
    said = [*str(error).splitlines(), ""][0][:120]
    return BadParam(f"{path}: is damaged: {type(error).__name__}{said and ': '}{said}")


def size_of(path: Path, what: str, shape: Sequence[int], itemsize: int, largest: int = LARGEST) -> int:
    """Return the bytes of an array, its shape checked.

    raises BadParam naming file and array
    """
    if len(shape) > MAX_RANK or any(type(n) is not int or n < 0 for n in shape):
        raise BadParam(f"{path}: {what} has shape {str(tuple(shape))[:80]}; wanted at most {MAX_RANK} whole lengths")
    nbytes = itemsize * math.prod(shape)
    if itemsize * math.prod(n or 1 for n in shape) > largest:
        raise BadParam(f"{path}: {what} has {nbytes} bytes; the limit is {largest}")
    return nbytes
