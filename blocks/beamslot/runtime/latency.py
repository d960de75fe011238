"""Latencies as a histogram of constant relative width: bounded memory, mergeable, quantiles to 2 %."""

from collections import defaultdict
from collections.abc import Iterable
from math import log2

PER_OCTAVE = 32


class Latency:
    """Counts of durations; `add` is what a hot loop can afford."""

    __slots__ = ("counts",)

    def __init__(self, counts: Iterable[tuple[int, int]] = ()) -> None:
        self.counts: defaultdict[int, int] = defaultdict(int)
        for bucket, n in counts:
            self.counts[bucket] += n

    @property
    def total(self) -> int:
        """How many durations were counted."""
        return sum(self.counts.values())

    def add(self, nanoseconds: int, n: int = 1) -> None:
        """Count a duration n times."""
        self.counts[int(log2(nanoseconds) * PER_OCTAVE) if nanoseconds > 1 else 0] += n

    def merge(self, other: "Latency") -> None:
        """Count what another has counted."""
        for bucket, n in other.counts.items():
            self.counts[bucket] += n

    def quantile(self, q: float) -> float | None:
        """Return the duration below which a share q lies [us], None where nothing was counted."""
        seen, total = 0, self.total
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= q * total:
                return round(2 ** ((bucket + 0.5) / PER_OCTAVE) / 1e3, 1)
        return None

    def summary(self) -> dict[str, float | None]:
        """Return p50, p95 and p99 [us]."""
        return {f"p{round(100 * q)}_us": self.quantile(q) for q in (0.5, 0.95, 0.99)}


def summed(several: Iterable[Iterable[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Return the counts of several latencies as those of one.

    several: (bucket, how many) of each
    """
    total = Latency()
    for counts in several:
        total.merge(Latency(counts))
    return list(total.counts.items())
