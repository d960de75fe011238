"""An array that a file holds: what it is, and how to get at it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import BadParam

Load = Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class FileArray:
    """An array of a file, checked for its size; `array` reads it (or maps it) when it is wanted.

    shape, dtype: as in the program that wrote it: the first axis of MATLAB is the first here
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Load

    @cached_property
    def array(self) -> NDArray[Any]:
        """The values."""
        return self.load()

    def __str__(self) -> str:
        return f"{self.name} {self.shape} {self.dtype}"


def choose(path: Path, arrays: Mapping[str, FileArray], wanted: str) -> FileArray:
    """Return the array of that name, or where none is named the only complex one.

    raises BadParam with what there is
    """
    there = ", ".join(map(str, arrays.values())) or "no array of numbers"
    if wanted:
        if wanted not in arrays:
            raise BadParam(f"{path}: has no array {wanted!r}; there is {there}")
        return arrays[wanted]
    complex_ones = [one for one in arrays.values() if one.dtype.kind == "c" and one.shape]
    if len(complex_ones) != 1:
        raise BadParam(f"{path}: has {len(complex_ones)} complex arrays; name one with array; there is {there}")
    return complex_ones[0]
