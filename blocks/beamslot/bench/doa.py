"""Directions at a line of antennas: `vae_ula` beside the strongest classical chain, on the same frames, and bounds.

Frames are those of `dsp/ula.py`: 32 antennas, three users. Methods that are told the number of users stand against
others that are told it, those that count against others that count. What counts, and MODE, takes every fourth chunk of
frames, and with few snapshots there is a fifth of the frames. There is no learned subspace method in the repository.

| figure | over |
|---|---|
| RMSE, its ratios, gains, coverage | frames without outlier: no user is missed, or off by more than half a beam |
| CRB, conditional and unconditional | the same frames, means of variances; none below `FEWEST` snapshots |
| outliers, total RMSE, K right | all frames; shares with Wilson's interval |
| paired | frames in which one of two has an outlier and the other none; McNemar's exact test, two-sided |
"""

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from beamslot.bench.estimators import Seen, Work, per_item, take_turns
from beamslot.bench.machine import show_sheets
from beamslot.dsp.doa.estimator import angles
from beamslot.dsp.doa.gains import least_squares
from beamslot.dsp.doa.maximum_likelihood import refine
from beamslot.dsp.doa.order import count_users
from beamslot.dsp.doa_bounds import crb_conditional, crb_unconditional
from beamslot.dsp.doa_metrics import HALF_BEAM, match, path_errors, root_deg, wilson
from beamslot.dsp.ula import S1, Frames, UlaScene
from beamslot.dsp.vae_ula import VaeUla
from beamslot.errors import BadParam
from beamslot.runtime.graph import near
from beamslot.tables import NONE, Sheet, number, percent

Row = dict[str, Any]
Real = NDArray[np.float64]

SEED = 5_000_011
"""Of the frames, beside the test seed; no training and no other bench draws from it."""
CHUNK = 250
"""Frames that are made together; the first chunks of more frames are the same."""
SAMPLED = 4
"""Counting methods and MODE take one chunk of so many."""
STEPS = 4
"""Gauss-Newton steps through the decoder, at most for `vae_ula`."""
SNAPSHOTS, FEW, LESS = 40, (5, 2, 1), 5
"""Snapshots of a frame; of those with few; and by how much fewer frames there are of these."""
FEWEST = 5
"""Snapshots below which the mean of a bound is governed by few faded frames."""
SNRS = (-10, 0, 10, 20)
SIGMAS = 1.959963984540054
"""Of a normal distribution, 95 % are within so many deviations."""

SCENES: Mapping[str, Mapping[str, Any]] = {
    "S0 independent": {},
    "S0 rho 0.9": {"correlation": 0.9},
    "S0 rho 0.99": {"correlation": 0.99},
    "S0 coherent": {"correlation": 1.0},
    "S1 independent": {"separation": S1},
    "S1 coherent": {"separation": S1, "correlation": 1.0},
}
"""S0: users at least 1.5 beams apart; S1: at least half a beam."""
FEW_SNAPSHOTS, SPEED = "few snapshots", "speed"
PARTS = (*SCENES, FEW_SNAPSHOTS, SPEED)

OURS, PEER, MODE = "vae_ula", "fbss_root_music", "mode"
TOLD, COUNTED = "told", "counted"

WANTED = {"ratio": 1.05, "independent": 1.1, "correlated": 1.2, "outliers": 0.003, "right": 0.99}
"""Limits in S0: RMSE over the conditional bound from 0 dB on, over the unconditional one at -10 dB; shares."""
WANTED_GAIN, WANTED_ANGLE, WANTED_MS = 0.0017, 0.016, 2.0
"""Of the mean squared errors of path gains and path angles [rad^2] at 10 dB; of a frame alone [ms]."""


class Cell(NamedTuple):
    """A scene at one SNR [dB] with so many snapshots."""

    scene: str
    snr_db: int
    snapshots: int

    def frames(self, seed: int, chunk: int, count: int) -> Frames:
        """Return the first frames of a chunk."""
        key = (SEED, seed, list(SCENES).index(self.scene), self.snapshots, 100 + self.snr_db, chunk)
        scene = UlaScene(snapshots=self.snapshots, **SCENES[self.scene])
        drawn = scene.frames(np.random.default_rng(key), CHUNK, self.snr_db)
        return drawn._replace(
            observation=drawn.observation[:count],
            gain=drawn.gain[:count],
            theta=drawn.theta[:count],
            mean=drawn.mean[:count],
            noise_var=drawn.noise_var[:count],
        )


class Found(NamedTuple):
    """What a method says of frames: theta, mask, deviation (F, K), gain (F, M, K); NaN for no deviation."""

    theta: Real
    mask: NDArray[np.bool_]
    deviation: Real
    gain: NDArray[np.complex128]


class Judged(NamedTuple):
    """What is kept of frames, (F,) each.

    frame: its number    square: squared error of an angle [rad^2]    out, right: an outlier, the right number of users
    one, two: share of users within 1 and 1.96 deviations    gain, angle: squared errors of path gains and path angles
    crb, unconditional: the bounds of square    Means over the users that were found, and over snapshots.
    """

    frame: NDArray[np.int64]
    square: Real
    out: NDArray[np.bool_]
    right: NDArray[np.bool_]
    one: Real
    two: Real
    gain: Real
    angle: Real
    crb: Real
    unconditional: Real


Key = tuple[str, str]
"""A method, and whether the number of users was told or counted."""


class Contest:
    """The methods, ready for frames of three users."""

    def __init__(self) -> None:
        self.users = UlaScene().users
        self._told, self._counts = VaeUla(users=self.users, steps=STEPS), VaeUla(steps=STEPS)

    def ours(self, observation: NDArray[Any], *, counted: bool = False) -> Found:
        """Return what `vae_ula` says."""
        found = (self._counts if counted else self._told).estimate(observation)
        return Found(found.theta, found.mask, found.deviation, found.gain)

    def peer(self, observation: NDArray[Any]) -> Found:
        """Return FBSS root-MUSIC and steps through the decoder, told the number of users."""
        return _stepped(observation, self.users)

    def peer_counted(self, observation: NDArray[Any], told: Found) -> Found:
        """Return the same where MDL counts the users.

        told: what `peer` says of these frames, which it is where the count is right
        """
        counts = np.minimum(count_users(observation), self._counts.most)
        most = max(int(counts.max(initial=0)), self.users)
        shape = len(observation), most
        gain = np.zeros((len(observation), observation.shape[1], most), np.complex128)
        made = Found(np.zeros(shape), np.zeros(shape, np.bool_), np.zeros(shape), gain)
        for users in np.unique(counts[counts > 0]).tolist():
            rows = np.flatnonzero(counts == users)
            found = _some(told, rows) if users == self.users else _stepped(observation[rows], users)
            for mine, theirs in zip(made, found, strict=True):
                mine[rows, ..., :users] = theirs
        return made

    def mode(self, observation: NDArray[Any]) -> Found:
        """Return MODE, with no steps behind it; gains by least squares."""
        theta = angles(observation, self.users, method="mode")
        gain = least_squares(theta, observation)
        return Found(theta, np.ones(theta.shape, np.bool_), np.full(theta.shape, np.nan), gain)

    def all(self, observation: NDArray[Any], *, sampled: bool) -> dict[Key, Found]:
        """Return what the methods say of frames.

        sampled: whether those take them that take few
        """
        found = {(OURS, TOLD): self.ours(observation), (PEER, TOLD): self.peer(observation)}
        if sampled:
            found[MODE, TOLD] = self.mode(observation)
            found[OURS, COUNTED] = self.ours(observation, counted=True)
            found[PEER, COUNTED] = self.peer_counted(observation, found[PEER, TOLD])
        return found


def _stepped(observation: NDArray[Any], users: int) -> Found:
    found = refine(angles(observation, users, method="fbss_root_music"), observation, steps=STEPS)
    return Found(found.theta, np.ones(found.theta.shape, np.bool_), found.deviation, found.gain)


def _some(found: Found, rows: NDArray[np.intp]) -> Found:
    return Found._make(array[rows] for array in found)


def judge(found: Found, frames: Frames, bounds: tuple[Real, Real], first: int = 0) -> Judged:
    """Return what is kept of frames under a method.

    first: number of the first frame    bounds: conditional and unconditional, (F,) [rad^2]
    """
    matching = match(found.theta, frames.theta, found.mask)
    error, paths = matching.error, path_errors(found.gain, frames.gain, matching.which)
    deviation = np.take_along_axis(found.deviation, np.maximum(matching.which, 0), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.where(np.isfinite(deviation), np.abs(error) / deviation, np.nan)
    inside = [np.where(np.isnan(off), np.nan, off < limit) for limit in (1.0, SIGMAS)]
    out = (matching.missed > 0) | np.any(np.abs(error) > HALF_BEAM, axis=1)
    right = (matching.missed == 0) & (matching.extra == 0)
    one, two, gain, angle = (_mean(value) for value in (*inside, paths.gain**2, paths.angle**2))
    names = np.arange(first, first + len(out))
    return Judged(names, _mean(error**2), out, right, one, two, gain, angle, *bounds)


def _mean(values: NDArray[Any]) -> Real:
    """Return the mean of each frame over what is known, NaN where nothing is."""
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    count = known.sum(axis=1)
    total = np.where(known, flat, 0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(flat), np.nan), where=count > 0)


def bounds_of(frames: Frames) -> tuple[Real, Real]:
    """Return the conditional and the unconditional bound of frames, means over users, (F,) [rad^2]."""
    antennas, snapshots = frames.observation.shape[2], frames.observation.shape[1]
    shared = np.broadcast_to(frames.covariance, (len(frames.theta), *frames.covariance.shape))
    conditional = crb_conditional(frames.theta, frames.gain, frames.noise_var, antennas)
    unconditional = crb_unconditional(frames.theta, shared, frames.noise_var, antennas, snapshots)
    return conditional.mean(axis=1), unconditional.mean(axis=1)


def _chunks(frames: int) -> Iterator[tuple[int, int]]:
    """Yield the chunks of so many frames, and how many of each."""
    for chunk in range(math.ceil(frames / CHUNK)):
        yield chunk, min(CHUNK, frames - chunk * CHUNK)


def measure_cell(contest: Contest, cell: Cell, frames: int, seed: int) -> dict[Key, Judged]:
    """Return what is kept of the frames of a cell and a seed, by method, in the order of the frames."""
    kept: dict[Key, list[Judged]] = {}
    for chunk, count in _chunks(frames):
        drawn = cell.frames(seed, chunk, count)
        bounds = bounds_of(drawn)
        for key, found in contest.all(drawn.observation, sampled=chunk % SAMPLED == 0).items():
            kept.setdefault(key, []).append(judge(found, drawn, bounds, chunk * CHUNK))
    return {key: _joined(parts) for key, parts in kept.items()}


def _joined(parts: Iterable[Judged]) -> Judged:
    return Judged._make(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def row(cell: Cell, key: Key, seeds: Sequence[Judged]) -> Row:
    """Return the figures of a method in a cell.

    seeds: what was kept, by test seed; figures are of all of them together but `.._by_seed`
    """
    every, bounded = _joined(seeds), cell.snapshots >= FEWEST
    good = _at(every, ~every.out)
    crb, unconditional = (float(np.mean(b)) if bounded and len(b) else None for b in (good.crb, good.unconditional))
    square, half = _with_interval(good.square)
    frames, outliers, right = len(every.out), int(every.out.sum()), int(every.right.sum())
    known = every.square[~np.isnan(every.square)]
    return {
        "scene": cell.scene,
        "snapshots": cell.snapshots,
        "snr_db": cell.snr_db,
        "method": key[0],
        "users": key[1],
        "frames": frames,
        "seeds": len(seeds),
        "rmse_deg": root_deg(square),
        "rmse_ci95_deg": None if square is None else [root_deg(max(square - half, 0)), root_deg(square + half)],
        "crb_deg": root_deg(crb),
        "crb_unconditional_deg": root_deg(unconditional),
        "ratio": _root_ratio(square, crb),
        "ratio_unconditional": _root_ratio(square, unconditional),
        "ratio_by_seed": [ratio(one, "crb") for one in seeds] if bounded else None,
        "ratio_unconditional_by_seed": [ratio(one, "unconditional") for one in seeds] if bounded else None,
        "outliers": outliers,
        "outlier_share": outliers / frames,
        "outlier_ci95": _wilson(outliers, frames),
        "total_rmse_deg": root_deg(float(np.mean(known)) if len(known) else None),
        "right_share": right / frames,
        "right_ci95": _wilson(right, frames),
        "within_one": _known_mean(good.one),
        "within_two": _known_mean(good.two),
        "path_gain_mse": _known_mean(good.gain),
        "path_angle_mse": _known_mean(good.angle),
    }


def ratio(judged: Judged, bound: str) -> float | None:
    """Return the RMSE over the root of the mean bound, of the frames without outlier; None where there are none."""
    good = _at(judged, ~judged.out)
    return _root_ratio(_known_mean(good.square), _known_mean(getattr(good, bound)))


def _at(judged: Judged, which: NDArray[np.bool_]) -> Judged:
    return Judged._make(array[which] for array in judged)


def _root_ratio(square: float | None, bound: float | None) -> float | None:
    return None if square is None or not bound else math.sqrt(square / bound)


def _known_mean(values: NDArray[Any]) -> float | None:
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else None


def _with_interval(values: Real) -> tuple[float | None, float]:
    if not len(values):
        return None, 0.0
    half = SIGMAS * float(np.std(values)) / math.sqrt(max(len(values) - 1, 1))
    return float(np.mean(values)), half


def _wilson(count: int, total: int) -> list[float] | None:
    found = wilson(count, total)
    return None if found is None else list(found)


PAIRS: tuple[tuple[Key, Key], ...] = (
    ((OURS, TOLD), (PEER, TOLD)),
    ((OURS, COUNTED), (PEER, COUNTED)),
    ((OURS, TOLD), (MODE, TOLD)),
)
"""Who stands against whom, with the same knowledge of K."""


def pair(cell: Cell, ours: Key, peer: Key, mine: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> Row:
    """Return the paired test of outliers of two methods over the same frames.

    mine, theirs: (F,) whether a frame is an outlier
    source: McNemar, Psychometrika 12(2), 1947, with the binomial distribution itself
    """
    only, other = int(np.sum(mine & ~theirs)), int(np.sum(theirs & ~mine))
    test: Any = binomtest(only, only + other) if only + other else None
    return {
        "scene": cell.scene,
        "snapshots": cell.snapshots,
        "snr_db": cell.snr_db,
        "method": ours[0],
        "peer": peer[0],
        "users": ours[1],
        "frames": len(mine),
        "both": int(np.sum(mine & theirs)),
        "only_method": only,
        "only_peer": other,
        "p": float(test.pvalue) if test else 1.0,
    }


def pairs(cell: Cell, kept: Mapping[Key, Sequence[Judged]]) -> Iterator[Row]:
    """Yield the paired tests of a cell, over the frames that both took.

    kept: what was kept, by method and seed
    """
    for ours, peer in PAIRS:
        if ours in kept and peer in kept:
            seeds = list(zip(kept[ours], kept[peer], strict=True))
            mine = [one.out[np.isin(one.frame, other.frame)] for one, other in seeds]
            theirs = [other.out[np.isin(other.frame, one.frame)] for one, other in seeds]
            yield pair(cell, ours, peer, np.concatenate(mine), np.concatenate(theirs))


def chosen(only: str) -> tuple[str, ...]:
    """Return the part of this name, or those whose names hold it; raises BadParam with the nearest for none."""
    found = (only,) if only in PARTS else tuple(part for part in PARTS if only in part)
    if not found:
        raise BadParam(f"bench doa --only: no part's name holds {only!r}; {near(only, PARTS)}")
    return found


def cells(parts: Iterable[str]) -> list[Cell]:
    """Return the cells of some parts."""
    scenes = [scene for scene in SCENES if scene in parts]
    found = [Cell(scene, snr, SNAPSHOTS) for scene in scenes for snr in SNRS]
    if FEW_SNAPSHOTS in parts:
        found += [Cell(next(iter(SCENES)), snr, snapshots) for snapshots in FEW for snr in SNRS]
    return found


def measure(frames: int, seeds: int, only: str = "", calls: int = 200) -> dict[str, Any]:
    """Return the rows of all parts whose names hold `only`, paired tests, times and limits.

    frames: of a cell and a test seed    seeds: 0, 1 .. of the test    calls: that times are taken of
    returns rows, paired, times, limits    raises BadParam for a part that is not there
    """
    parts = chosen(only)
    contest, wanted, started = Contest(), cells(parts), time.monotonic()
    rows: list[Row] = []
    paired: list[Row] = []
    for index, cell in enumerate(wanted):
        kept: dict[Key, list[Judged]] = {}
        count = frames if cell.snapshots == SNAPSHOTS else math.ceil(frames / LESS)
        for seed in range(seeds):
            for key, judged in measure_cell(contest, cell, count, seed).items():
                kept.setdefault(key, []).append(judged)
            _tell(cell, (index * seeds + seed + 1) / (len(wanted) * seeds), (seed + 1) * count, started)
        rows += [row(cell, key, found) for key, found in kept.items()]
        paired += pairs(cell, kept)
    times = measure_times(contest, calls) if SPEED in parts else []
    return {"rows": rows, "paired": paired, "times": times, "limits": limits(rows, paired, times)}


def _tell(cell: Cell, done: float, frames: int, started: float) -> None:
    left = round((time.monotonic() - started) * (1 / done - 1))
    what = f"{cell.scene}, M = {cell.snapshots}, {cell.snr_db} dB: {frames:,} frames"
    print(f"{what}; {100 * done:.0f} %, {left // 60}:{left % 60:02d} left", file=sys.stderr, flush=True)


BATCH = 64
"""Frames of a large batch."""
EVERY = 5
"""Large batches are taken by every so-manieth turn."""


def measure_times(contest: Contest, calls: int) -> list[Row]:
    """Return the time of a frame, alone and in batches, the methods in turns.

    calls: with one frame; a fifth as many with batches
    """
    seen = Cell(next(iter(SCENES)), 10, SNAPSHOTS).frames(0, 0, CHUNK).observation
    methods: dict[Key, Callable[[NDArray[Any]], Any]] = {
        (OURS, TOLD): contest.ours,
        (OURS, COUNTED): lambda some: contest.ours(some, counted=True),
        (f"{PEER} + {STEPS}", TOLD): contest.peer,
        (PEER, TOLD): lambda some: angles(some, contest.users, method="fbss_root_music"),
        (MODE, TOLD): contest.mode,
    }
    works = {
        (*key, batch): (_work(method, seen, batch), 1 if batch == 1 else EVERY)
        for key, method in methods.items()
        for batch in (1, BATCH)
    }
    named = {f"{name}, {users}, {batch}": work for (name, users, batch), work in works.items()}
    taken = take_turns(named, calls, SPEED)
    return [_times(key, one) for key, one in zip(works, taken.values(), strict=True)]


def _work(method: Callable[[NDArray[Any]], Any], seen: NDArray[Any], batch: int) -> Work:
    last = len(seen) - batch + 1
    return lambda slot: method(seen[slot % last : slot % last + batch])


def _times(key: tuple[str, str, int], seen: Seen) -> Row:
    name, users, batch = key
    return {"method": name, "users": users, **per_item(seen, batch)}


def limits(rows: Sequence[Row], paired: Sequence[Row], times: Sequence[Row]) -> list[Row]:
    """Return what is promised of `vae_ula`, each figure beside its limit."""
    found = [
        *itertools.chain.from_iterable(map(_limits_of, rows)),
        *(_limit_of_pair(one) for one in paired if one["peer"] == PEER and one["snapshots"] == SNAPSHOTS),
    ]
    for one in times:
        if (one["method"], one["batch"]) == (OURS, 1):
            found.append(_limit(f"ms on a core for a frame alone, {one['users']}", one["core_median_ms"], WANTED_MS))
    return found


def _limits_of(one: Row) -> Iterator[Row]:
    scene, snr = one["scene"], one["snr_db"]
    if one["method"] != OURS or one["snapshots"] != SNAPSHOTS or not scene.startswith("S0") or "coherent" in scene:
        return
    where = f"{scene}, {snr} dB"
    if one["users"] == COUNTED:
        if snr >= 0:
            yield _limit(f"{where}: K right", one["right_share"], WANTED["right"], least=True)
        return
    kind = "independent" if "independent" in scene else "correlated"
    if snr >= 0:
        yield _limit(f"{where}: RMSE / CRB", one["ratio"], WANTED["ratio"])
    else:
        yield _limit(f"{where}: RMSE / unconditional CRB", one["ratio_unconditional"], WANTED[kind])
    yield _limit(f"{where}: outliers", one["outlier_share"], WANTED["outliers"])
    if snr == 10 and kind == "independent":
        yield _limit(f"{where}: path-gain MSE", one["path_gain_mse"], WANTED_GAIN)
        yield _limit(f"{where}: path-angle MSE [rad2]", one["path_angle_mse"], WANTED_ANGLE)


def _limit_of_pair(one: Row) -> Row:
    """More outliers than the peer must not be more than chance: the one-sided p is at least 2.5 %."""
    name = f"{one['scene']}, {one['snr_db']} dB, K {one['users']}: p where more outliers than {PEER}"
    return _limit(name, one["p"] if one["only_method"] > one["only_peer"] else 1.0, 0.05, least=True)


def _limit(name: str, value: float | None, wanted: float, *, least: bool = False) -> Row:
    kept = value is not None and (value >= wanted if least else value <= wanted)
    return {"name": name, "value": value, "wanted": wanted, "kind": "at least" if least else "at most", "kept": kept}


NOTES = (
    "SNR per antenna and user; RMSE, ratios, coverage and gains over frames without outlier (half a beam, 1.79 deg)",
    f"told: the number of users is given; counted: `vae_ula` by evidence, {PEER} by MDL",
    f"{OURS}: at most {STEPS} steps through the decoder; {PEER}: with {STEPS} of them; {MODE}: none",
    "by seed: the least and the largest of the test seeds; p: McNemar's exact test, two-sided",
    "there is no learned subspace method in this repository",
)


def show(machine: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Print the tables, and the machine under them."""
    show_sheets(machine, sheets(found), NOTES, 200)


def sheets(found: Mapping[str, Any]) -> Iterator[Sheet]:
    """Yield the tables that have something to say."""
    for scene, snapshots in dict.fromkeys((one["scene"], one["snapshots"]) for one in found["rows"]):
        rows = [one for one in found["rows"] if (one["scene"], one["snapshots"]) == (scene, snapshots)]
        heads = ("method, K", "SNR", "RMSE deg", "/ CRB", "by seed", "/ uncond.", "by seed", "outliers %", "95 %")
        heads += ("total RMSE", "K right %", "in 1 s %", "1.96 s %", "gain MSE", "angle MSE", "frames")
        title = f"{scene}, {snapshots} snapshot{'s' if snapshots > 1 else ''}"
        yield Sheet(title, heads, [_cells(one) for one in rows])
    if found["paired"]:
        heads = ("scene", "M", "SNR", "K", "peer", "frames", "both", f"only {OURS}", "only peer", "p")
        some = [one for one in found["paired"] if one["both"] + one["only_method"] + one["only_peer"]]
        yield Sheet("Outliers, paired, where there are any", heads, [_pair_cells(one) for one in some])
    if found["times"]:
        heads = ("method, K", "batch", "median ms a frame", "p95", "core ms", "calls")
        yield Sheet("Time", heads, [_time_cells(one) for one in found["times"]])
    if found["limits"]:
        rows = [
            [one["name"], number(one["value"], 4), f"{one['kind']} {one['wanted']:g}", "yes" if one["kept"] else "NO"]
            for one in found["limits"]
        ]
        yield Sheet("Limits", ("what", "value", "wanted", "kept"), rows)


def _cells(one: Row) -> list[str]:
    return [
        f"{one['method']}, {one['users']}",
        f"{one['snr_db']} dB",
        _plain(one["rmse_deg"]),
        _plain(one["ratio"], 3),
        _span(one["ratio_by_seed"]),
        _plain(one["ratio_unconditional"], 3),
        _span(one["ratio_unconditional_by_seed"]),
        percent(one["outlier_share"]),
        " .. ".join(percent(end) for end in one["outlier_ci95"]),
        _plain(one["total_rmse_deg"]),
        percent(one["right_share"]),
        percent(one["within_one"]),
        percent(one["within_two"]),
        _plain(one["path_gain_mse"]),
        _plain(one["path_angle_mse"]),
        f"{one['frames']:,}",
    ]


def _pair_cells(one: Row) -> list[str]:
    counts = (f"{one[key]:,}" for key in ("frames", "both", "only_method", "only_peer"))
    where = one["scene"], str(one["snapshots"]), f"{one['snr_db']} dB"
    return [*where, one["users"], one["peer"], *counts, f"{one['p']:.2g}"]


def _time_cells(one: Row) -> list[str]:
    times = (f"{one[key]:.3g}" for key in ("median_ms", "p95_ms", "core_median_ms"))
    return [f"{one['method']}, {one['users']}", str(one["batch"]), *times, str(one["calls"])]


def _plain(value: float | None, digits: int = 0) -> str:
    return NONE if value is None else f"{value:.{digits}f}" if digits else f"{value:.3g}"


def _span(values: Sequence[float | None] | None) -> str:
    known = [value for value in values or () if value is not None]
    return f"{min(known):.3f} .. {max(known):.3f}" if known else NONE
