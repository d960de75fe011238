"""`vae_upa` behind a combiner: its accuracy and time beside others, and what the net adds to all that comes after it.

The draws are those of `bench estimators`, ten paths. The net names paths in one look or two; the search then looks for
what is left. In the place of the net stand as many of the largest matched-filter peaks, or as many directions at
random, with the same Gauss-Newton steps and the same search behind them. Every slot is worked by everybody, so
differences are paired: of two means of the NMSE [dB], with the interval of their ratio by the delta method.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.bench.draws import INTERVAL, Array, Draws, Setting, make
from beamslot.bench.estimators import Seen, Work, per_item, take_turns
from beamslot.bench.machine import show_sheets
from beamslot.dsp.beams import group_beams, random_beams
from beamslot.dsp.bounds import crb_channel
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.grouping import balanced_random, contiguous
from beamslot.dsp.metrics import NmseMean, nmse
from beamslot.dsp.omp import Omp
from beamslot.dsp.vae_upa import Begin, VaeUpa
from beamslot.dsp.vp_nomp import VpNomp
from beamslot.errors import BadParam
from beamslot.frame import Geometry, Operator
from beamslot.runtime.graph import near
from beamslot.tables import NONE, Sheet

Row = dict[str, Any]
Make = Callable[[Geometry, Operator], Any]
"""From an array and an operator to an estimator."""

SNRS = (0.0, 5.0, 15.0)
BATCH, EVERY = 64, 10
"""Slots of a large batch, and of how many turns one takes it; slots are also judged by so many at once."""
STARTS, OPERATORS, SPEED = "starts", "operators", "speed"
PARTS = (STARTS, OPERATORS, SPEED)
STREAM = "as trained"
"""The operator of all draws but those of `OPERATORS`: its kind is one of those that the training had."""

OURS, SEARCH, OMP = "vae_upa", "vp_nomp", "omp_refined"
WANTED_DB = {0.0: -14.5, 5.0: -19.5, 15.0: -31.0}
"""NMSE at most, by SNR."""
WANTED_MS = {1: 20.0, BATCH: 3.0}
"""Of a slot at most, by batch."""
LOST = 10.0
"""A slot whose NMSE is so many times its bound is lost: few of them decide the mean."""
SIGMAS = 1.959963984540054


class Contiguous(Array):
    """Groups of neighbouring columns, which hear a path through a narrow aperture each."""

    def operator(self) -> Operator:
        """Return F_a."""
        return _grouped(self, contiguous(self.n_y, self.groups))


class Omitted(Array):
    """Groups dealt out at random, and every thirteenth column not connected at all."""

    def operator(self) -> Operator:
        """Return F_a."""
        group = balanced_random(self.n_y, self.groups, np.random.default_rng(8))
        group[::13] = -1
        return _grouped(self, group)


class RandomBeams(Array):
    """Phases at random in place of beams, and no groups."""

    def operator(self) -> Operator:
        """Return F_a."""
        beams = random_beams(self.n_y, self.n_z // self.m, self.m, np.random.default_rng(8))
        return Operator(beams, np.zeros(self.n_y, np.int16), INTERVAL)


def _grouped(array: Array, group: NDArray[np.int16]) -> Operator:
    return Operator(group_beams(group, INTERVAL, array.n_z // array.m, array.m), group, INTERVAL)


UNSEEN: Mapping[str, Array] = {
    "8 groups, M = 18": Array(64, 72, 18, 8),
    "5 groups, columns off": Omitted(64, 72, 6, 5),
    "random beams": RandomBeams(),
    "96 x 96, M = 16": Array(96, 96, 16, 4),
    "40 x 96, M = 16": Array(40, 96, 16, 4),
    "contiguous groups": Contiguous(),
}
"""Operators of kinds, sizes and numbers of groups that the training of the shipped net did not have."""


class Level(NamedTuple):
    """How much is left to the net: looks, and rounds of the search after them."""

    name: str
    passes: int
    rounds: int


LEVELS = (Level("one look, no search", 1, 0), Level("two looks, no search", 2, 0), Level("with search", 2, 20))
BEGINS: tuple[Begin, ...] = ("net", "peaks", "random")


def starts() -> dict[str, Make]:
    """Return the estimators that differ in their start, or in what follows it, by name."""
    return {
        name_of(begin, level): partial(VaeUpa, begin=begin, passes=level.passes, rounds=level.rounds)
        for level in reversed(LEVELS)
        for begin in BEGINS
    }


def name_of(begin: Begin, level: Level) -> str:
    """Return the name of a start; `vae_upa` is that of the net with all that follows."""
    return OURS if (begin, level) == ("net", LEVELS[-1]) else f"{begin}, {level.name}"


def peers() -> dict[str, Make]:
    """Return the estimators that it stands beside, by name."""
    return {SEARCH: VpNomp, OMP: Omp, "omp_grid": partial(Omp, grid=(128, 36), zoom=0)}


PAIRS: tuple[tuple[str, str], ...] = (
    (OURS, OMP),
    (OURS, SEARCH),
    *(
        (name_of("net", level), name_of(begin, level))
        for level in reversed(LEVELS)
        for begin in BEGINS
        if begin != "net"
    ),
)
"""Who is compared with whom."""


class Outcome(NamedTuple):
    """What became of the slots of some draws, (S,) each: NMSE, rounds of the last search, paths found."""

    error: NDArray[np.float64]
    rounds: NDArray[np.int32]
    paths: NDArray[np.int64]


def outcome(estimator: Any, draws: Draws) -> Outcome:
    """Return what an estimator makes of draws, many slots at once."""
    parts: list[Outcome] = []
    for at in range(0, len(draws.channel), BATCH):
        found: Estimate = estimator.estimate(draws.observation[at : at + BATCH])
        error = nmse(found.channel, draws.channel[at : at + BATCH])
        parts.append(Outcome(error, found.iterations, found.mask.sum(axis=-1)))
    return Outcome(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def measure(draws: int, only: str = "") -> dict[str, Any]:
    """Return the rows of all parts whose names hold `only`, paired differences, times and limits.

    draws: independent channels a row, and slots that times are taken of
    returns rows, paired, times, limits    raises BadParam for a part that is not there
    """
    parts = chosen(only)
    rows: list[Row] = []
    paired: list[Row] = []
    for operator, snr_db, makes in _wanted(parts):
        made = make(UNSEEN.get(operator, Array()), Setting(snr_db), draws)
        _tell(f"{operator}, {snr_db:g} dB: {len(makes)} estimators, {draws} draws")
        found = {name: outcome(one(made.array.geometry, made.operator), made) for name, one in makes.items()}
        where = {"operator": operator, "snr_db": snr_db, "draws": draws}
        bound = _crb(made)
        rows += [{**where, **_row(name, one, bound)} for name, one in found.items()]
        paired += [
            {**where, **_pair(ours, found[ours], peer, found[peer])}
            for ours, peer in PAIRS
            if {ours, peer} <= set(found)
        ]
    times = measure_times(draws) if SPEED in parts else []
    return {"rows": rows, "paired": paired, "times": times, "limits": limits(rows, paired, times)}


def chosen(only: str) -> tuple[str, ...]:
    """Return the parts whose names hold `only`; raises BadParam with the nearest name where there is none."""
    found = tuple(part for part in PARTS if only in part)
    if not found:
        raise BadParam(f"bench upa-net --only: no part's name holds {only!r}; {near(only, PARTS)}")
    return found


def _wanted(parts: Sequence[str]) -> Iterator[tuple[str, float, dict[str, Make]]]:
    if STARTS in parts:
        for snr_db in SNRS:
            yield STREAM, snr_db, {**starts(), **peers()}
    if OPERATORS in parts:
        for operator in UNSEEN:
            for snr_db in SNRS:
                yield operator, snr_db, {OURS: starts()[OURS], SEARCH: VpNomp, OMP: Omp}


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _crb(draws: Draws) -> NDArray[np.float64]:
    paths = draws.paths
    truth = paths.gain, paths.u, paths.v, paths.mask
    return crb_channel(*truth, draws.operator, draws.array.geometry, draws.noise_var_w)


def _decibels(values: NDArray[Any]) -> float:
    return float(10 * np.log10(np.mean(values)))


def _row(name: str, found: Outcome, bound: NDArray[np.float64]) -> Row:
    judged = NmseMean()
    judged.add(np.arange(len(found.error)), found.error)
    mean = judged.result()
    return {
        "estimator": name,
        "nmse_db": mean["nmse_db"],
        "ci95_db": mean["ci95_db"],
        "crb_db": _decibels(bound),
        "lost": int(np.sum(found.error > LOST * bound)),
        "rounds": float(found.rounds.mean()),
        "paths_found": float(found.paths.mean()),
    }


def _pair(ours: str, mine: Outcome, peer: str, theirs: Outcome) -> Row:
    difference, interval = paired_db(mine.error, theirs.error)
    rounds = float(mine.rounds.mean()), float(theirs.rounds.mean())
    return {
        "estimator": ours,
        "peer": peer,
        "difference_db": difference,
        "ci95_db": list(interval),
        "rounds": rounds[0],
        "peer_rounds": rounds[1],
    }


def paired_db(ours: NDArray[np.float64], peer: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """Return by how much one mean is above another [dB], and the 95 % interval; below 0 ours is the better.

    ours, peer: (S,) linear NMSE of the same slots
    source: delta method, of the logarithm of a ratio of paired means
    """
    scaled = ours / ours.mean() - peer / peer.mean()
    half = SIGMAS * 10 / math.log(10) * math.sqrt(float(np.mean(scaled**2)) / max(len(scaled) - 1, 1))
    middle = _decibels(ours) - _decibels(peer)
    return middle, (middle - half, middle + half)


def measure_times(slots: int) -> list[Row]:
    """Return the time of a slot at each SNR, alone and in batches, the estimators in turns."""
    return [row for snr_db in SNRS for row in _times_at(make(Array(), Setting(snr_db), max(slots, BATCH)), slots)]


def _times_at(draws: Draws, slots: int) -> Iterator[Row]:
    works: dict[tuple[str, int], tuple[Work, int]] = {}
    for name, one in {OURS: VaeUpa, SEARCH: VpNomp, OMP: Omp}.items():
        estimator = one(draws.array.geometry, draws.operator)
        for batch in (1, BATCH):
            works[name, batch] = (_work(estimator, draws.observation, batch), 1 if batch == 1 else EVERY)
    named = {f"{name}, {batch}": work for (name, batch), work in works.items()}
    taken = take_turns(named, slots, f"{SPEED}, {draws.setting.snr_db:g} dB")
    for (name, batch), seen in zip(works, taken.values(), strict=True):
        yield _time_row(name, batch, draws.setting.snr_db, seen)


def _work(estimator: Any, observation: NDArray[Any], batch: int) -> Work:
    last = len(observation) - batch + 1
    return lambda slot: estimator.estimate(observation[slot % last : slot % last + batch])


def _time_row(name: str, batch: int, snr_db: float, seen: Seen) -> Row:
    return {"estimator": name, "snr_db": snr_db, **per_item(seen, batch)}


def limits(rows: Sequence[Row], paired: Sequence[Row], times: Sequence[Row]) -> list[Row]:
    """Return what is promised of `vae_upa`, each figure beside its limit."""
    found: list[Row] = []
    for one in rows:
        if (one["estimator"], one["operator"]) == (OURS, STREAM):
            found.append(_limit(f"NMSE [dB], {one['snr_db']:g} dB", one["nmse_db"], WANTED_DB[one["snr_db"]]))
    for one in paired:
        if (one["estimator"], one["peer"], one["operator"]) == (OURS, OMP, STREAM):
            found.append(_limit(f"over {OMP} [dB], {one['snr_db']:g} dB", one["difference_db"], 0.0))
    for one in times:
        if one["estimator"] == OURS:
            name = f"ms a slot on a core, batch {one['batch']}, {one['snr_db']:g} dB"
            found.append(_limit(name, one["core_median_ms"], WANTED_MS[one["batch"]]))
    return found


def _limit(name: str, value: float, wanted: float) -> Row:
    return {"name": name, "value": value, "wanted": wanted, "kept": value <= wanted}


NOTES = (
    "SNR per antenna, 10 paths; NMSE over draws, on all antennas; the bound over the same draws",
    "net, peaks, random: the start; as many paths in the place of those of the net, the same steps and search behind",
    "lost: slots more than 10 dB above their bound, which decide a mean; rounds: of the last search",
    "difference: below 0 the first is the better; intervals are 95 %",
)


def show(machine: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Print the tables, and the machine under them."""
    show_sheets(machine, sheets(found), NOTES, 150)


def sheets(found: Mapping[str, Any]) -> Iterator[Sheet]:
    """Yield the tables that have something to say."""
    for operator in dict.fromkeys(one["operator"] for one in found["rows"]):
        rows = [one for one in found["rows"] if one["operator"] == operator]
        heads = ("estimator", "SNR", "NMSE dB", "95 %", "CRB", "lost", "rounds", "paths", "draws")
        yield Sheet(f"Operator: {operator}", heads, [_cells(one) for one in rows])
        heads = ("estimator", "peer", "SNR", "difference dB", "95 %", "rounds", "its rounds")
        paired = [one for one in found["paired"] if one["operator"] == operator]
        yield Sheet(f"Paired, operator: {operator}", heads, [_pair_cells(one) for one in paired], left=2)
    if found["times"]:
        heads = ("estimator", "SNR", "batch", "median ms a slot", "p95", "core ms", "calls")
        yield Sheet("Time", heads, [_time_cells(one) for one in found["times"]])
    if found["limits"]:
        heads = ("what", "value", "at most", "kept")
        rows = [
            [one["name"], f"{one['value']:.3g}", f"{one['wanted']:g}", "yes" if one["kept"] else "NO"]
            for one in found["limits"]
        ]
        yield Sheet("Limits", heads, rows)


def _cells(one: Row) -> list[str]:
    figures = (_plain(one["nmse_db"]), _span(one["ci95_db"]), _plain(one["crb_db"]))
    counts = (str(one["lost"]), _plain(one["rounds"]), f"{one['paths_found']:.1f}", f"{one['draws']:,}")
    return [one["estimator"], f"{one['snr_db']:g} dB", *figures, *counts]


def _pair_cells(one: Row) -> list[str]:
    figures = (f"{one['difference_db']:+.2f}", _span(one["ci95_db"]), _plain(one["rounds"]), _plain(one["peer_rounds"]))
    return [one["estimator"], one["peer"], f"{one['snr_db']:g} dB", *figures]


def _time_cells(one: Row) -> list[str]:
    times = (f"{one[key]:.3g}" for key in ("median_ms", "p95_ms", "core_median_ms"))
    return [one["estimator"], f"{one['snr_db']:g} dB", str(one["batch"]), *times, str(one["calls"])]


def _plain(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _span(ends: Sequence[float | None] | None) -> str:
    return NONE if ends is None else " .. ".join(_plain(end) for end in ends)
