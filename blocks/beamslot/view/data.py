"""Arrays in, columns out: what the page shows of tapped frames and of the figures that a run gives of itself.

| symbol | name | meaning |
|---|---|---|
| h, h_hat | truth["channel"], estimate["channel"] | the channel of a slot at every antenna [sqrt(W)] |
| u, v | u, v | direction coordinates of a path, v = sin(elevation) |
| G | groups | number of groups of columns, each with a beam for one part of the interval of v |
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.bounds import crb_channel
from beamslot.dsp.metrics import nmse
from beamslot.frame import Operator, StreamInfo
from beamslot.runtime.latency import PER_OCTAVE

Columns = dict[str, list[Any]]

PATH_NAMES = ("gain", "u", "v", "mask")

TRUTH_BYTES = 24 * 2**20
"""Memory for truths whose estimates may still come [bytes]."""

TRUTH_FRAMES = 512
"""Frames of the truth that are kept at most: each has a cost beside its arrays."""

WAITING = 128
"""Estimates of an estimator that wait for their truth."""

REMEMBERED = 1024
"""Slots of which it is known that they were matched, so that those shown again after a restart count once."""

MEAN_OVER = 64
"""The running mean of the NMSE is over so many slots."""

BOUND_OF = 8
"""The bound is worked out for one of so many slots, and no more often than it pays."""

BOUND_EVERY = 0.1
"""Least time between two slots whose bound is worked out [s]."""

MOST_PATHS = 64
"""Beyond so many paths the parameters are more than the observations, and the bound says nothing."""

SHOWN = 48
"""Slots among which the one to show is chosen."""

FLOOR_DB = -40.0
"""Path powers and errors are shown down to here [dB]."""

MARGIN_V = 0.15
"""Shown beyond the interval of the beams, where estimators search too."""

COLOURS = ("#2f81f7", "#f0883e", "#2ea043", "#db61a2", "#a371f7", "#1fa7b8", "#c69026", "#e5534b")
"""Of estimators, in the order of the graph's ports; told apart on dark and on light ground."""

HISTOGRAM_PER_OCTAVE = 4
"""Bars of the latency histogram in an octave."""


def role(info: StreamInfo) -> Literal["truth", "estimate", ""]:
    """Return what a stream is for the page: a truth, an estimate of the channel, or neither."""
    channel = info.arrays.get("channel")
    if channel is None or channel.axes != ("slot", "user", "y", "z"):
        return ""
    return "truth" if "draw" in info.arrays else "estimate"


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return the colour of each estimator, the same in all plots."""
    return dict(zip(names, cycle(COLOURS), strict=False))


def has_paths(info: StreamInfo) -> bool:
    """Whether a stream gives paths beside the channel."""
    return all(name in info.arrays for name in PATH_NAMES)


@dataclass(frozen=True)
class Row:
    """One slot of a frame; `row["u"]` is the array without its slot axis."""

    slot: int
    index: int
    arrays: Mapping[str, NDArray[Any]]
    info: StreamInfo

    def __getitem__(self, name: str) -> NDArray[Any]:
        array = self.arrays[name]
        return array[self.index] if "slot" in self.info.arrays[name].axes else array

    def __contains__(self, name: str) -> bool:
        return name in self.arrays


def rows(slots: range, arrays: Mapping[str, NDArray[Any]], info: StreamInfo) -> list[Row]:
    """Return the slots of a frame one by one."""
    return [Row(slot, index, arrays, info) for index, slot in enumerate(slots)]


@dataclass(frozen=True)
class Match:
    """An estimate and the truth of its slot; lag: how much later the estimate was seen [s], 0 where it came first."""

    name: str
    slot: int
    estimate: Row
    truth: Row
    lag: float


class Matcher:
    """Finds truth and estimates of the same slot, in whatever order they come; its memory is bounded."""

    def __init__(self, most_bytes: int = TRUTH_BYTES) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._most = TRUTH_FRAMES  # slots, of frames as long as the longest so far
        self._truths: OrderedDict[int, tuple[Row, float, int]] = OrderedDict()
        self._waiting: dict[str, OrderedDict[int, Row]] = {}
        self._matched: dict[str, OrderedDict[int, None]] = {}

    def truth(self, found: Sequence[Row], now: float) -> list[Match]:
        """Take in slots of the truth, seen at a time [s]; return the estimates that waited for them."""
        size = sum(array.nbytes for array in found[0].arrays.values()) // len(found) if found else 0
        self._most = max(self._most, TRUTH_FRAMES * len(found))
        matches: list[Match] = []
        for row in found:
            if row.slot in self._truths:
                continue
            self._truths[row.slot] = (row, now, size)
            self._bytes += size
            for name, waiting in self._waiting.items():
                estimate = waiting.pop(row.slot, None)
                if estimate is not None:
                    matches += self._match(name, estimate, row, 0.0)
        while len(self._truths) > (1 if self._bytes > self._most_bytes else self._most):
            _, (_, _, freed) = self._truths.popitem(last=False)
            self._bytes -= freed
        return matches

    def estimate(self, name: str, found: Sequence[Row], now: float) -> list[Match]:
        """Take in slots of an estimator, seen at a time [s]; return those whose truth is known."""
        waiting = self._waiting.setdefault(name, OrderedDict())
        matches: list[Match] = []
        for row in found:
            known = self._truths.get(row.slot)
            if known is not None:
                matches += self._match(name, row, known[0], now - known[1])
            else:
                waiting[row.slot] = row
        while len(waiting) > WAITING:
            waiting.popitem(last=False)
        return matches

    def _match(self, name: str, estimate: Row, truth: Row, lag: float) -> Iterator[Match]:
        matched = self._matched.setdefault(name, OrderedDict())
        if estimate.slot not in matched:
            matched[estimate.slot] = None
            if len(matched) > REMEMBERED:
                matched.popitem(last=False)
            yield Match(name, estimate.slot, estimate, truth, lag)


def slot_nmse(match: Match) -> float:
    """Return ||h_hat - h||^2 / ||h||^2 of a slot, mean over users; NaN where the two cannot be compared."""
    estimate, truth = match.estimate["channel"], match.truth["channel"]
    return float(nmse(estimate, truth).mean()) if estimate.shape == truth.shape else math.nan


class Means:
    """The running mean of the NMSE of every estimator, over the newest slots seen; what is not finite is counted."""

    def __init__(self, over: int = MEAN_OVER) -> None:
        self._over = over
        self._values: dict[str, deque[float]] = {}
        self.fresh: dict[str, int] = {}
        self.not_finite: dict[str, int] = {}

    def add(self, name: str, value: float) -> None:
        """Take in the NMSE of a slot, linear."""
        if not math.isfinite(value):
            self.not_finite[name] = self.not_finite.get(name, 0) + 1
            return
        self._values.setdefault(name, deque(maxlen=self._over)).append(value)
        self.fresh[name] = self.fresh.get(name, 0) + 1

    def levels(self) -> dict[str, float]:
        """Return the mean of every estimator [dB]."""
        return {name: decibels(float(np.mean(values))) for name, values in self._values.items() if values}

    def read(self) -> dict[str, float]:
        """Return the mean of those that have had slots since the last reading [dB], and begin to wait for the next."""
        found = {name: level for name, level in self.levels().items() if self.fresh.get(name)}
        self.fresh.clear()
        return found


class Bounds:
    """The running mean of the Cramer-Rao bound over the newest slots seen, worked out for some of them."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=MEAN_OVER // BOUND_OF)
        self._seen, self._at = 0, -math.inf

    def add(self, found: Sequence[Row], measured: StreamInfo | None, now: float) -> None:
        """Take in slots of the truth, seen at a time [s]; measured: stream that tells how the channel was measured."""
        before, self._seen = self._seen, self._seen + len(found)
        if (before and before // BOUND_OF == self._seen // BOUND_OF) or now - self._at < BOUND_EVERY:
            return
        value = slot_bound(found[-1], measured)
        if math.isfinite(value):
            self._at = now
            self._values.append(value)

    @property
    def level(self) -> float | None:
        """The mean [dB], None where there is none."""
        return decibels(float(np.mean(self._values))) if self._values else None


def slot_bound(truth: Row, measured: StreamInfo | None) -> float:
    """Return the Cramer-Rao bound of the NMSE of a slot, mean over users; NaN where it cannot be worked out.

    The noise of an RF chain is that of its antennas together, as a combiner without losses gives it.
    """
    wanted = (*PATH_NAMES, "antenna_noise_var")
    if measured is None or measured.operator is None or measured.geometry is None:
        return math.nan
    if any(name not in truth for name in wanted) or truth["mask"].shape[-1] > MOST_PATHS:
        return math.nan
    operator = measured.operator
    gain, u, v, mask, noise_var = (truth[name] for name in wanted)
    noise_var_w = operator.weights.shape[-1] * np.asarray(noise_var)
    return float(crb_channel(gain, u, v, mask, operator, measured.geometry, noise_var_w).mean())


def decibels(value: float) -> float:
    """Return 10 log10 of a power; NaN where there is none."""
    return 10 * math.log10(value) if value > 0 else math.nan


class Gallery:
    """The newest slots that were matched, to choose one that as many estimators as possible have had."""

    def __init__(self, shown: int = SHOWN) -> None:
        self._shown = shown
        self._slots: OrderedDict[int, dict[str, Match]] = OrderedDict()
        self._newest: Row | None = None

    def add(self, match: Match) -> None:
        """Take in a match."""
        self._slots.setdefault(match.slot, {})[match.name] = match
        self._slots.move_to_end(match.slot)
        while len(self._slots) > self._shown:
            self._slots.popitem(last=False)

    def truth(self, row: Row) -> None:
        """Take in a slot of the truth, shown as long as no estimate was matched."""
        self._newest = row

    def pick(self) -> tuple[Row | None, dict[str, Row]]:
        """Return the truth of a slot and the estimates of it by name: the newest slot of those with most estimates."""
        if not self._slots:
            return self._newest, {}
        most = max(len(matches) for matches in self._slots.values())
        chosen = max(slot for slot, matches in self._slots.items() if len(matches) == most)
        matches = self._slots[chosen]
        return next(iter(matches.values())).truth, {name: match.estimate for name, match in matches.items()}


def path_columns(row: Row | None, user: int = 0) -> Columns:
    """Return the paths of a user in a slot as columns: u, v, level [dB of the strongest], size [px]."""
    if row is None or any(name not in row for name in PATH_NAMES):
        return {"u": [], "v": [], "level": [], "size": []}
    mask = row["mask"][user] & (np.abs(row["gain"][user]) > 0)
    gain, u, v = (row[name][user][mask] for name in ("gain", "u", "v"))
    level = 20 * np.log10(np.abs(gain) / np.abs(gain).max()) if gain.size else np.zeros(0)
    size = 7 + 11 * (1 - np.maximum(level, FLOOR_DB) / FLOOR_DB)
    columns = {"u": u, "v": v, "level": level, "size": size}
    return {name: array.astype(float).tolist() for name, array in columns.items()}


def sub_intervals(operator: Operator) -> list[tuple[float, float]]:
    """Return the parts of the interval of v that the groups' beams cover, equal in v; one part where nobody is grouped.

    source: paper 004, eq. (7)
    """
    low, high = operator.interval
    groups = max(int(operator.group.max(initial=0)) + 1, 1)
    bounds = np.linspace(low, high, groups + 1).tolist()
    return list(pairwise(bounds))


def magnitude(channel: NDArray[Any]) -> NDArray[np.float32]:
    """Return |h| as an image.

    channel: (y, z) complex [sqrt(W)]    returns (z, y) [sqrt(W)]: columns of the array from left to right
    """
    return np.abs(channel).T.astype(np.float32)


def error_db(estimate: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float32]:
    """Return |h_hat - h|^2 over the mean of |h|^2 as an image [dB].

    estimate, truth: (y, z) complex [sqrt(W)]    returns (z, y), not below twice `FLOOR_DB`
    """
    power = float(np.mean(np.abs(truth) ** 2))
    ratio = np.abs(estimate - truth) ** 2 / power if power > 0 else np.full(truth.shape, np.nan)
    return (10 * np.log10(np.maximum(ratio, 10 ** (2 * FLOOR_DB / 10)))).T.astype(np.float32)


def histogram(counts: Iterable[Sequence[int]], before: Iterable[Sequence[int]] = ()) -> Columns:
    """Return durations as bars: left, right [ms], share [%]; counts and those before them, as `Latency` has them."""
    bars: dict[int, int] = {}
    for sign, buckets in ((1, counts), (-1, before)):
        for bucket, count in buckets:
            bar = int(bucket) * HISTOGRAM_PER_OCTAVE // PER_OCTAVE
            bars[bar] = bars.get(bar, 0) + sign * int(count)
    kept = {bar: count for bar, count in sorted(bars.items()) if count > 0}
    total = sum(kept.values())
    return {
        "left": [2 ** (bar / HISTOGRAM_PER_OCTAVE) * 1e-6 for bar in kept],
        "right": [2 ** ((bar + 1) / HISTOGRAM_PER_OCTAVE) * 1e-6 for bar in kept],
        "share": [100 * count / total for count in kept.values()],
    }


def outline(bars: Mapping[str, Sequence[float]]) -> Columns:
    """Return the outline of bars as a line: edge, share; down to 0 where bars have a space between them."""
    edges: list[float] = []
    shares: list[float] = []
    for left, right, share in zip(bars["left"], bars["right"], bars["share"], strict=True):
        if not edges or left > edges[-1] * (1 + 1e-9):
            edges += [edges[-1], left] if edges else [left]
            shares += [0.0, 0.0] if shares else [0.0]
        edges += [left, right]
        shares += [share, share]
    return {"edge": [*edges, *edges[-1:]], "share": [*shares, *([0.0] if shares else [])]}


class Seen:
    """How much of a port was seen: slots that came, that passed unseen, and that did not come, by reason."""

    def __init__(self) -> None:
        self.seen = self.unseen = self.again = 0
        self.gaps: dict[str, int] = {}
        self._next: int | None = None

    def frame(self, slots: range) -> None:
        """Count a frame; what is older than the newest seen came again, or out of order."""
        expected = self._next
        if expected is not None and slots.start > expected:
            self.unseen += slots.start - expected
        if expected is not None and slots.start < expected:
            self.again += len(slots)
        self.seen += len(slots)
        self._next = max(expected or 0, slots.stop)

    def gap(self, first: int, count: int, reason: str) -> None:
        """Count slots that will not come."""
        if self._next is None or first >= self._next:
            self.gaps[reason] = self.gaps.get(reason, 0) + count
            self.unseen += max(first - self._next, 0) if self._next is not None else 0
            self._next = first + count

    @property
    def share(self) -> float:
        """Share of the slots that the port gave that were seen."""
        return self.seen / (self.seen + self.unseen) if self.seen else 0.0


def short_names(streams: Sequence[str]) -> dict[str, str]:
    """Return a name for each stream: its block's, or "block.port" where a block has several."""
    blocks = [stream.partition(".")[0] for stream in streams]
    return {s: b if blocks.count(b) == 1 else s for s, b in zip(streams, blocks, strict=True)}
