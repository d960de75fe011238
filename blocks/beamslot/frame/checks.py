"""One vocabulary of checks for values of a header; each raises CorruptFrame.

Lists arrive from the wire as tuples (so that they can be looked up), and leave these checks as plain values.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from beamslot.errors import CorruptFrame

MAX_COUNT = 65_536
MAX_LENGTH = 2**28
MAX_ITEMS = 4_096
MAX_TEXT = 1_024
MAX_DEPTH = 8
MAX_SLOT = 2**62
MAX_INTEGER = 2**63

_SCALARS = frozenset({str, int, float, bool, type(None)})


def shown(value: object) -> str:
    """Return a value as an error message shows it: short, however long or deep it is."""
    if isinstance(value, tuple):
        lengths = cast(tuple[Any, ...], value)[:16]
        return repr(lengths) if all(isinstance(n, int) for n in lengths) else "a list"
    return repr(value)[:40] if isinstance(value, str | int | float | None) else f"of type {type(value).__name__}"


def integer(value: object, what: str) -> int:
    """Return a whole number from 0 to 2**63 - 1."""
    if type(value) is not int or not 0 <= value < MAX_INTEGER:
        raise CorruptFrame(f"{what} is {shown(value)}; wanted a whole number from 0 to 2**63 - 1")
    return value


def slot(value: object) -> int:
    """Return a slot index."""
    if type(value) is not int or not 0 <= value < MAX_SLOT:
        raise CorruptFrame(f"a slot is {shown(value)}; wanted a whole number from 0 to 2**62 - 1")
    return value


def count(value: object) -> int:
    """Return the number of slots of a frame."""
    if type(value) is not int or not 1 <= value <= MAX_COUNT:
        raise CorruptFrame(f"count is {shown(value)}; wanted 1 to {MAX_COUNT} slots")
    return value


def span(value: object) -> int:
    """Return the number of slots of a gap, which no frame bounds."""
    if type(value) is not int or not 1 <= value < MAX_SLOT:
        raise CorruptFrame(f"count is {shown(value)}; wanted at least 1 slot")
    return value


def length(value: object, what: str) -> int:
    """Return the length of an axis."""
    if type(value) is not int or not 1 <= value <= MAX_LENGTH:
        raise CorruptFrame(f"{what} is {shown(value)}; wanted 1 to {MAX_LENGTH}")
    return value


def limit(value: object, what: str) -> int:
    """Return a credit limit, at least 1."""
    return max(1, integer(value, what))


def number(value: object, what: str) -> float:
    """Return a finite number."""
    if type(value) not in (int, float) or not math.isfinite(cast(float, value)):
        raise CorruptFrame(f"{what} is {shown(value)}; wanted a finite number")
    return float(cast(float, value))


def text(value: object, what: str) -> str:
    """Return a text of bounded length."""
    if type(value) is not str or len(value) > MAX_TEXT:
        raise CorruptFrame(f"{what} is {shown(value)}; wanted a text of at most {MAX_TEXT} characters")
    return value


def truth(value: object, what: str) -> bool:
    """Return a truth value."""
    if type(value) is not bool:
        raise CorruptFrame(f"{what} is {shown(value)}; wanted true or false")
    return value


def items(value: object, what: str) -> Sequence[Any]:
    """Return a list of bounded length."""
    if type(value) not in (tuple, list):
        raise CorruptFrame(f"{what} is {shown(value)}; wanted a list")
    found = cast(Sequence[Any], value)
    if len(found) > MAX_ITEMS:
        raise CorruptFrame(f"{what} has {len(found)} entries; wanted at most {MAX_ITEMS}")
    return found


def fields(value: object, what: str) -> dict[str, Any]:
    """Return a map."""
    if type(value) is not dict:
        raise CorruptFrame(f"{what} is {shown(value)}; wanted a map")
    return cast(dict[str, Any], value)


def ranges(value: object) -> list[tuple[int, int]]:
    """Return rising, disjoint, half-open slot ranges, those that touch joined."""
    joined: list[tuple[int, int]] = []
    last = -1
    for pair in items(value, "finished"):
        first, end = items(pair, "a range of finished")
        if not last <= slot(first) < slot(end):
            raise CorruptFrame(f"finished ranges do not rise: {first}..{end} after {last}")
        if first == last:
            first = joined.pop()[0]
        joined.append((first, end))
        last = end
    return joined


def tags(value: object) -> dict[str, Any]:
    """Return tags or notes as plain values: maps, lists, texts, numbers, truth values, nil."""
    if type(value) is not dict and not isinstance(value, Mapping):
        raise CorruptFrame(f"tags are {shown(value)}; wanted a map")
    return _plain_map(cast(Mapping[Any, Any], value), 1)


def _plain_map(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    _size(value, depth)
    return {
        text(key, "name of a tag"): item if type(item) in _SCALARS else _plain(item, depth)
        for key, item in value.items()
    }


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, np.generic):
        value = cast(Any, value.item())
    if type(value) in _SCALARS:
        return value
    if type(value) in (list, tuple):
        inner = cast(Sequence[Any], value)
        _size(inner, depth + 1)
        return [_plain(item, depth + 1) for item in inner]
    if isinstance(value, Mapping):
        return _plain_map(cast(Mapping[Any, Any], value), depth + 1)
    raise CorruptFrame(f"a tag is {shown(value)}; wanted maps, lists, texts, numbers, truth values, nil")


def _size(value: Mapping[Any, Any] | Sequence[Any], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise CorruptFrame(f"tags nest deeper than {MAX_DEPTH}")
    if len(value) > MAX_ITEMS:
        raise CorruptFrame(f"a tag has {len(value)} entries; wanted at most {MAX_ITEMS}")
