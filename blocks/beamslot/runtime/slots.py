"""Sets of slots as half-open ranges: what was offered, finished, dropped."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence


class SlotSet:
    """Slots as rising, disjoint, half-open ranges; adding at the end is O(1)."""

    __slots__ = ("_ends", "_firsts")

    def __init__(self, ranges: Iterable[Sequence[int]] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in ranges:
            self.add(first, end)

    def add(self, first: int, end: int) -> None:
        """Add the slots first .. end-1."""
        ends = self._ends
        if ends and first == ends[-1]:
            if end > first:
                ends[-1] = end
        elif not ends or first > ends[-1]:
            if end > first:
                self._firsts.append(first)
                ends.append(end)
        elif end > first:
            self._insert(first, end)

    def _insert(self, first: int, end: int) -> None:
        low = bisect_left(self._ends, first)
        high = bisect_right(self._firsts, end)
        if low < high:
            first = min(first, self._firsts[low])
            end = max(end, self._ends[high - 1])
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]

    def covers(self, first: int, end: int) -> bool:
        """Return whether all slots first .. end-1 are in the set."""
        at = bisect_right(self._firsts, first) - 1
        return (at >= 0 and self._ends[at] >= end) or first >= end

    def prefix(self, base: int = 0) -> int:
        """Return the end of the slots from `base` on that are all in the set; `base` where it is not."""
        at = bisect_right(self._firsts, base) - 1
        return max(base, self._ends[at]) if at >= 0 else base

    def minus(self, first: int, end: int) -> int:
        """Return how many of the slots first .. end-1 are not in the set."""
        missing = end - first
        for low, high in self:
            missing -= max(0, min(high, end) - max(low, first))
        return missing

    def __and__(self, other: "SlotSet") -> "SlotSet":
        both = SlotSet()
        a, b = self.ranges(), other.ranges()
        i = j = 0
        while i < len(a) and j < len(b):
            first, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
            if first < end:
                both.add(first, end)
            if a[i][1] < b[j][1]:
                i += 1
            else:
                j += 1
        return both

    def ranges(self) -> list[tuple[int, int]]:
        """Return the ranges as a list (`list(...)` would make room for as many as there are slots)."""
        return [*zip(self._firsts, self._ends, strict=True)]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._ends, strict=True)

    def __len__(self) -> int:
        """Number of slots in the set."""
        return sum(self._ends) - sum(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlotSet) and self._firsts == other._firsts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"SlotSet({self.ranges()})"
