"""Time and accuracy of the estimators, slot by slot in turns, on the same draws, beside bounds, limits and each other.

A turn is a bout of a few slots, every estimator working each of them alone, so that what else the machine does hits all
alike. Who takes every slot works one more before each bout that is not counted: the slots of a stream find warm caches.
Wall-clock times are those of a person who waits. Beside them stands the time that the process itself had a core, and
ratios are made of that: on a busy machine long work is always interrupted and short work hardly ever, so that ratios of
wall-clock times would flatter what is short. A piece of work that is always the same takes its turn too; its p99 over
its median is what the machine leaves.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from beamslot.bench.arithmetic import FixedWork, flops
from beamslot.bench.draws import SETTLED, TRACK, Array, Draws, Setting, make, oracle_ls, oracle_mmse
from beamslot.dsp import kernel
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.gw_sc_vbi import GwScVbi
from beamslot.dsp.gw_tracker import GwTracker, Tracks
from beamslot.dsp.metrics import NmseMean, nmse
from beamslot.dsp.nomp import Nomp
from beamslot.dsp.omp import Omp
from beamslot.dsp.oracle_ls import OracleLs
from beamslot.dsp.oracle_mmse import OracleMmse
from beamslot.dsp.sc_vbi import ScVbi
from beamslot.dsp.turbo_vbi import TurboVbi
from beamslot.dsp.vp_nomp import VpNomp
from beamslot.errors import BadParam
from beamslot.runtime.graph import near

Row = dict[str, Any]
Work = Callable[[int], Any]
"""Estimates one slot, given its number."""

SETTINGS = (Setting(), Setting(-5.0), Setting(15.0), Setting(5.0, 22), Setting(drift=1.5e-4))
"""The first is the one that limits and ratios are about; the last is for the tracker, with a single slot beside."""

BOUT = 8
FEWEST_FOR_P99 = 100
"""Slots without which a 99th percentile would only be the slowest slot."""

MEDIAN_MS, TRACKER_MS, NUMPY_MS, UNREST = 0.20, 0.10, 5.0, 3.0
"""Limits of a slot of vp_nomp, of gw_tracker, of vp_nomp in NumPy [ms], and of the p99 of vp_nomp over its median."""


class Entry(NamedTuple):
    """An estimator of the table.

    make: returns the work for some draws    every: takes each so-manieth slot only, where one takes long
    variant: of the kernel, None where there is none    tracks: whether it goes on from the slot before
    """

    make: Callable[[Draws], Work]
    every: int = 1
    variant: str | None = None
    tracks: bool = False


def _plain(estimator: Callable[..., Any], **options: Any) -> Callable[[Draws], Work]:
    """Return the factory of an estimator that gets observations and nothing else."""

    def made(draws: Draws) -> Work:
        found = estimator(draws.array.geometry, draws.operator, **options)
        return lambda slot: found.estimate(draws.observation[slot : slot + 1])

    return made


def _told(oracle: Callable[..., Any], estimate: Callable[..., Estimate]) -> Callable[[Draws], Work]:
    """Return the factory of an oracle, which also gets the truth."""

    def made(draws: Draws) -> Work:
        found = oracle(draws.array.geometry, draws.operator)
        return lambda slot: estimate(found, draws, slice(slot, slot + 1))

    return made


def table() -> dict[str, Entry]:
    """Return every estimator by name; a new one is a line here."""
    compiled = {f"vp_nomp_{form}": Entry(_plain(VpNomp, variant=form), variant=form) for form in kernel.variants()}
    return {
        **compiled,
        "gw_sc_vbi_robust": Entry(_plain(GwScVbi, form="robust")),
        "gw_sc_vbi_as_printed": Entry(_plain(GwScVbi, form="as_printed")),
        "sc_vbi": Entry(_plain(ScVbi)),
        "nomp": Entry(_plain(Nomp)),
        "omp_grid": Entry(_plain(Omp, grid=(128, 36), zoom=0)),
        "omp_refined": Entry(_plain(Omp)),
        "turbo_vbi": Entry(_plain(TurboVbi), every=10),
        "oracle_ls": Entry(_told(OracleLs, oracle_ls)),
        "oracle_mmse": Entry(_told(OracleMmse, oracle_mmse)),
        "gw_tracker": Entry(_tracking, tracks=True),
    }


def _tracking(draws: Draws) -> Work:
    """Slots in their order; one that comes again, or too early, is worked beside, from the same tracks."""
    tracker, upcoming = GwTracker(draws.array.geometry, draws.operator), 0

    def work(slot: int) -> Estimate:
        nonlocal upcoming
        before = [tracks.snapshot() for tracks in tracker.tracks]
        found = tracker.estimate(draws.observation[slot : slot + 1, None])
        if slot == upcoming:
            upcoming += 1
        else:
            tracker.tracks = [Tracks.restore(tracks) for tracks in before]
        return Estimate(*(getattr(found, name)[:, 0] for name in Estimate.__dataclass_fields__))

    return work


def chosen(only: str) -> dict[str, Entry]:
    """Return the estimators whose names hold `only`; raises BadParam with the nearest name where there is none."""
    every = table()
    found = {name: entry for name, entry in every.items() if only in name}
    if not found:
        raise BadParam(f"bench estimators --only: no estimator's name holds {only!r}; {near(only, every)}")
    return found


class Seen:
    """What was seen of one that takes turns: times of each slot [s] by its number, and what it returned."""

    def __init__(self) -> None:
        self.wall: dict[int, float] = {}
        self.cpu: dict[int, float] = {}
        self.made: dict[int, Any] = {}


def per_item(seen: Seen, batch: int) -> dict[str, Any]:
    """Return the times of calls of `batch` items, for one item: batch, calls, median_ms, p95_ms, core_median_ms."""
    wall, core = ([1e3 * value / batch for value in times.values()] for times in (seen.wall, seen.cpu))
    return {
        "batch": batch,
        "calls": len(wall),
        "median_ms": statistics.median(wall),
        "p95_ms": float(np.percentile(wall, 95)),
        "core_median_ms": statistics.median(core),
    }


def take_turns(works: Mapping[str, tuple[Work, int]], slots: int, what: str = "") -> dict[str, Seen]:
    """Let each work its share of all slots, bout by bout.

    works: by name, with every how many slots it takes one
    """
    seen = {name: Seen() for name in works}
    for start in range(0, slots, BOUT):
        bout = range(start, min(start + BOUT, slots))
        for name, (work, every) in works.items():
            if every == 1:
                work(bout[-1])
            for slot in bout:
                if slot % every == 0:
                    _timed(seen[name], work, slot)
        if what:
            print(f"{what}: {bout.stop} of {slots} slots", file=sys.stderr, flush=True)
    return seen


def _timed(seen: Seen, work: Work, slot: int) -> None:
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    made = work(slot)
    cpu_after, wall_after = time.process_time_ns(), time.perf_counter_ns()
    seen.wall[slot], seen.cpu[slot], seen.made[slot] = (wall_after - wall) / 1e9, (cpu_after - cpu) / 1e9, made


def measure(
    slots: int, only: str = "", settings: Sequence[Setting] = SETTINGS, array: Array | None = None
) -> dict[str, Any]:
    """Return the rows of all estimators whose names hold `only`, in all settings, and the limits and ratios.

    slots: draws a setting    array: the paper's where it is None
    returns rows, limits, and the peak of the machine [Gflop/s]    raises BadParam for a name that is not there
    """
    entries, array = chosen(only), array or Array()
    taken = [_setting(entries, make(array, setting, slots)) for setting in settings]
    peak = FixedWork.flops / min(min(seen["fixed_work"].wall.values()) for _, seen in taken) / 1e9
    rows = [row for draws, seen in taken for row in _rows(entries, draws, seen, peak)]
    return {"peak_gflops": peak, "rows": rows, "limits": [*_limits(taken[0][1]), *_tracker_limits(taken)]}


def _setting(entries: Mapping[str, Entry], draws: Draws) -> tuple[Draws, dict[str, Seen]]:
    works: dict[str, tuple[Work, int]] = {
        name: (entry.make(draws), entry.every)
        for name, entry in entries.items()
        if (entry.tracks or entry.variant == kernel.variants()[0] if draws.setting.drift else not entry.tracks)
    }
    what = f"{draws.setting.snr_db:g} dB, {draws.setting.paths} paths"
    seen = take_turns({**works, "fixed_work": (FixedWork(), 1)}, len(draws.channel), what)
    return draws, seen


def _rows(entries: Mapping[str, Entry], draws: Draws, seen: Mapping[str, Seen], peak: float) -> Iterable[Row]:
    bounds = draws.bounds()
    for name, entry in entries.items():
        if name not in seen:
            continue
        made = seen[name].made
        slots = [slot for slot in sorted(made) if not draws.setting.drift or slot % TRACK >= SETTLED]
        judged = NmseMean()
        errors = [nmse(made[slot].channel, draws.channel[slot : slot + 1])[0] for slot in slots]
        judged.add(draws.paths.draw[slots], errors)
        rounds = statistics.fmean(float(made[slot].iterations[0]) for slot in slots)
        found = statistics.fmean(float(made[slot].mask.sum()) for slot in slots)
        mflop = flops(draws.array, rounds, found) / 1e6 if entry.variant else None
        quality, times = judged.result(), _times(seen[name])
        yield {
            "estimator": name,
            "variant": entry.variant,
            "snr_db": draws.setting.snr_db,
            "paths": draws.setting.paths,
            "drift": draws.setting.drift,
            "batch": 1,
            "slots": len(slots),
            "nmse_db": quality["nmse_db"],
            "ci95_db": quality["ci95_db"],
            "crb_db": _decibels(bounds["crb"][slots]),
            "crb_tracked_db": _decibels(bounds["crb_tracked"][slots]) if draws.setting.drift else None,
            "oracle_ls_db": _decibels(bounds["oracle_ls"][slots]),
            "oracle_db": _decibels(bounds["oracle_mmse"][slots]),
            **times,
            "rounds": rounds,
            "paths_found": found,
            "mflop": mflop,
            "of_peak": mflop / times["core_median_ms"] / peak if mflop else None,
        }


def _times(seen: Seen) -> dict[str, Any]:
    enough = len(seen.wall) >= FEWEST_FOR_P99
    wall, cpu = ([1e3 * value for value in times.values()] for times in (seen.wall, seen.cpu))
    return {
        "median_ms": statistics.median(wall),
        "p99_ms": float(np.percentile(wall, 99)) if enough else None,
        "core_median_ms": statistics.median(cpu),
        "core_p99_ms": float(np.percentile(cpu, 99)) if enough else None,
    }


def _decibels(values: Any) -> float:
    return float(10 * np.log10(np.mean(values)))


def _limits(seen: Mapping[str, Seen]) -> list[Row]:
    """Return each figure beside its limit or its peer; `wanted` is the largest ratio that is promised, if any is."""
    best = f"vp_nomp_{kernel.variants()[0]}"
    compiled = best != f"vp_nomp_{kernel.NUMPY}"
    rows: list[Row] = []
    if compiled and best in seen:
        rows += _medians(best, MEDIAN_MS, seen[best])
        rows += _unrest(best, seen)
    plain = f"vp_nomp_{kernel.NUMPY}"
    if plain in seen:
        rows += _medians(plain, NUMPY_MS, seen[plain])
    pairs = [
        ("gw_sc_vbi_as_printed", "sc_vbi", 1 / 3),
        ("gw_sc_vbi_robust", "sc_vbi", 2.0),
        *((best, peer, None) for peer in ("omp_grid", "omp_refined", "nomp", "sc_vbi", plain) if best != peer),
    ]
    return rows + [_against(ours, peer, wanted, seen) for ours, peer, wanted in pairs if {ours, peer} <= set(seen)]


def _tracker_limits(taken: Iterable[tuple[Draws, Mapping[str, Seen]]]) -> list[Row]:
    found = [seen["gw_tracker"] for _, seen in taken if "gw_tracker" in seen]
    return _medians("gw_tracker", TRACKER_MS, found[0]) if found and kernel.variants()[0] != kernel.NUMPY else []


def _medians(name: str, limit: float, seen: Seen) -> list[Row]:
    """The median time a slot against its limit, by the clock and by the time on a core."""
    times = _times(seen)
    return [
        _row(f"{name}_{kind}", "ms", times[f"{kind}_ms"], "limit", limit, 1.0, seen)
        for kind in ("median", "core_median")
    ]


def _unrest(name: str, seen: Mapping[str, Seen]) -> list[Row]:
    """p99 over median, by the clock and by the time on a core, against the limit and against the fixed work."""
    rows: list[Row] = []
    for kind, unit in (("p99_ms", "median_ms"), ("core_p99_ms", "core_median_ms")):
        ours, fixed = _times(seen[name]), _times(seen["fixed_work"])
        if ours[kind] is None:
            continue
        value, left = ours[kind] / ours[unit], fixed[kind] / fixed[unit]
        named = f"{name}_{kind.removesuffix('_ms')}"
        rows.append(_row(named, "medians", value, "limit", UNREST, 1.0, seen[name]))
        rows.append(_row(named, "medians", value, "fixed_work", left, None, seen[name]))
    return rows


def _row(name: str, unit: str, value: float, peer: str, peer_value: float, wanted: float | None, seen: Seen) -> Row:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": value / peer_value,
        "wanted": wanted,
        "runs": len(seen.wall),
    }


def _against(ours: str, peer: str, wanted: float | None, seen: Mapping[str, Seen]) -> Row:
    """Two times a slot on a core; the ratio is the median of those of the slots that both worked."""
    both = sorted(seen[ours].cpu.keys() & seen[peer].cpu.keys())
    medians = [1e3 * statistics.median(seen[name].cpu[slot] for slot in both) for name in (ours, peer)]
    row = _row(f"{ours}_core_time", "ms", medians[0], peer, medians[1], wanted, seen[ours])
    ratio = statistics.median(seen[ours].cpu[slot] / seen[peer].cpu[slot] for slot in both)
    return {**row, "ratio": ratio, "runs": len(both)}


GROWTH: Mapping[str, Sequence[Any]] = {
    "N_y": (16, 32, 64, 128),
    "N_z": (24, 48, 72, 144),
    "M": (6, 12, 24),
    "paths": (3, 10, 16, 22),
    "batch": (1, 8, 32, 128),
}
"""What is varied, one at a time from the default setting."""


def growth(slots: int) -> list[Row]:
    """Return how the time of vp_nomp, in the form that runs here, grows with the array, the paths and the batch.

    slots: turns, each of one call
    returns median ms a slot, by the clock and on a core; the ratio is of the latter, to the default setting
    """
    points = [(what, value) for what, values in GROWTH.items() for value in values]
    works: dict[str, tuple[Work, int]] = {}
    arrays: dict[str, Array] = {}
    for what, value in points:
        fields = {"N_y": "n_y", "N_z": "n_z", "M": "m"}
        array = Array()._replace(**{fields[what]: value}) if what in fields else Array()
        setting, batch = Setting(paths=value if what == "paths" else 10), value if what == "batch" else 1
        draws = make(array, setting, slots + batch - 1)
        work = partial(_batch, VpNomp(array.geometry, draws.operator), draws, batch)
        arrays[f"{what} {value}"], works[f"{what} {value}"] = array, (work, 1)
    seen = take_turns(works, slots, "growth")
    rows: list[Row] = []
    for what, value in points:
        one, batch = seen[f"{what} {value}"], value if what == "batch" else 1
        rounds = float(np.mean([made.iterations.mean() for made in one.made.values()]))
        found = float(np.mean([made.mask.sum(-1).mean() for made in one.made.values()]))
        rows.append(
            {
                "what": what,
                "value": value,
                "median_ms": 1e3 * statistics.median(one.wall.values()) / batch,
                "core_median_ms": 1e3 * statistics.median(one.cpu.values()) / batch,
                "ratio": statistics.median(one.cpu[slot] / seen["batch 1"].cpu[slot] for slot in one.cpu) / batch,
                "rounds": rounds,
                "paths_found": found,
                "mflop": flops(arrays[f"{what} {value}"], rounds, found) / 1e6,
            }
        )
    return rows


def _batch(estimator: VpNomp, draws: Draws, batch: int, slot: int) -> Estimate:
    return estimator.estimate(draws.observation[slot : slot + batch])
