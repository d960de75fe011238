"""How runs stand, as Prometheus metrics; the names are promised (`NAMES`), and `tools/grafana.json` draws them.

Nothing here speaks with a run: a scrape reads what every run writes of itself, and what the kernel says of its
processes. Counters are those of the closing table of the run.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from beamslot.runtime import observe, rundir
from beamslot.runtime.latency import PER_OCTAVE
from beamslot.tables import COVERED, is_alarm, judged, judged_angles, judged_pairs, judged_quality

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from beamslot.runtime.observe import Look

Counts = Iterable[Sequence[int]]

NAMES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "beamslot_run_seconds": ("gauge", ("run",), "how long the run has lasted"),
    "beamslot_run_state": ("gauge", ("run", "state"), "1 for the state that the run is in"),
    "beamslot_slots": ("counter", ("run", "block"), "slots that a block has worked off"),
    "beamslot_call_seconds": ("histogram", ("run", "block"), "duration of a call of a block"),
    "beamslot_latency_seconds": ("histogram", ("run",), "from the capture of slots to the end of their call in a sink"),
    "beamslot_path_latency_seconds": ("histogram", ("run", "path"), "the same on each path from a source to a sink"),
    "beamslot_late_slots": ("counter", ("run",), "slots given out more than a frame after they were due"),
    "beamslot_cut_short_slots": (
        "counter",
        ("run", "block"),
        "slots for which a deadline came before the block was done",
    ),
    "beamslot_fault_slots": ("counter", ("run", "block", "fault"), "slots that a fault on purpose struck"),
    "beamslot_restarts": ("counter", ("run", "block"), "times that the processes of a block were started again"),
    "beamslot_refused_messages": ("counter", ("run", "block"), "messages of strangers"),
    "beamslot_edge_offered_slots": ("counter", ("run", "edge"), "slots that the producer handed to an edge"),
    "beamslot_edge_acknowledged_slots": ("counter", ("run", "edge"), "slots finished behind an edge"),
    "beamslot_edge_dropped_slots": ("counter", ("run", "edge", "reason"), "slots that an edge dropped"),
    "beamslot_edge_unmatched_slots": ("counter", ("run", "edge"), "slots whose partner in a join never came"),
    "beamslot_edge_redelivered_slots": ("counter", ("run", "edge"), "slots sent again after a restart"),
    "beamslot_edge_fault_messages": (
        "counter",
        ("run", "edge", "fault"),
        "messages by what a bad link did to them; healed: how often it was asked again",
    ),
    "beamslot_edge_in_flight_slots": ("gauge", ("run", "edge"), "slots that are not acknowledged yet"),
    "beamslot_cpu_seconds": ("counter", ("run", "process"), "processor time of a living process of the run"),
    "beamslot_memory_bytes": ("gauge", ("run", "process"), "resident memory of a process of the run"),
    "beamslot_nmse_db": ("gauge", ("run", "sink", "estimate"), "NMSE so far, in dB of the mean"),
    "beamslot_nmse_crb_db": ("gauge", ("run", "sink"), "Cramer-Rao bound of the same draws"),
    "beamslot_angle_rmse_degrees": ("gauge", ("run", "sink", "estimate"), "RMSE of angles over frames without outlier"),
    "beamslot_angle_outlier_ratio": ("gauge", ("run", "sink", "estimate"), "share of frames with an outlier"),
    "beamslot_nmse_over_crb_db": ("gauge", ("run", "sink", "estimate"), "NMSE over the Cramer-Rao bound of its draws"),
    "beamslot_nmse_over_stated_db": ("gauge", ("run", "sink", "estimate"), "NMSE over what the estimator says it is"),
    "beamslot_coverage_ratio": (
        "gauge",
        ("run", "sink", "estimate", "level"),
        "share of slots whose error lies within the stated interval of a level",
    ),
    "beamslot_strongest_found_ratio": (
        "gauge",
        ("run", "sink", "estimate"),
        "share of slots in which the strongest path was found",
    ),
    "beamslot_strongest_rmse_degrees": ("gauge", ("run", "sink", "estimate"), "RMSE of its direction where it was"),
    "beamslot_residual_over_noise_db": ("gauge", ("run", "sink", "estimate"), "energy of the residual over the noise"),
    "beamslot_residual_plausible_ratio": (
        "gauge",
        ("run", "sink", "estimate"),
        "share of slots whose residual has an energy that 95 % of noise has",
    ),
    "beamslot_residual_white_ratio": (
        "gauge",
        ("run", "sink", "estimate"),
        "share of slots whose residual is white at 95 %",
    ),
    "beamslot_iterations": ("gauge", ("run", "sink", "estimate"), "mean iterations of a slot"),
    "beamslot_paths": ("gauge", ("run", "sink", "estimate"), "mean number of paths found"),
    "beamslot_converged_ratio": ("gauge", ("run", "sink", "estimate"), "share of slots that converged"),
    "beamslot_paired_difference_db": (
        "gauge",
        ("run", "sink", "estimate", "reference"),
        "NMSE of an estimate over that of another on the same slots",
    ),
    "beamslot_paired_difference_low_db": (
        "gauge",
        ("run", "sink", "estimate", "reference"),
        "lower end of its 95 % interval",
    ),
    "beamslot_paired_difference_high_db": (
        "gauge",
        ("run", "sink", "estimate", "reference"),
        "upper end of its 95 % interval",
    ),
    "beamslot_drift_alarm": (
        "gauge",
        ("run", "block"),
        "1 while the residual is above its band, -1 below it, 0 within",
    ),
    "beamslot_drift_alarms": ("counter", ("run", "block"), "drift alarms that were raised"),
    "beamslot_drift_level": ("gauge", ("run", "block"), "how near a drift alarm is, 1 where it is raised"),
}
"""Kind, labels and meaning of every metric; counters end with `_total` where they are scraped."""

ANGLES = {"rmse_deg": "beamslot_angle_rmse_degrees", "outlier_share": "beamslot_angle_outlier_ratio"}
QUALITIES = {
    "over_crb_db": "beamslot_nmse_over_crb_db",
    "error_to_stated_db": "beamslot_nmse_over_stated_db",
    "strongest_found_share": "beamslot_strongest_found_ratio",
    "strongest_rmse_deg": "beamslot_strongest_rmse_degrees",
    "residual_to_noise_db": "beamslot_residual_over_noise_db",
    "plausible_share": "beamslot_residual_plausible_ratio",
    "white_share": "beamslot_residual_white_ratio",
    "iterations": "beamslot_iterations",
    "paths": "beamslot_paths",
    "converged_share": "beamslot_converged_ratio",
}
"""Metrics of what sinks say of each estimate, by the name that it has in their results."""

OCTAVES = range(10, 37)
"""Bounds of histogram buckets: 2^n ns, from a microsecond to a minute. They are bounds of the run's own buckets too."""

Values = Mapping[str, Mapping[tuple[str, ...], Any]]


class Collector:
    """What Prometheus collects at a scrape: all living runs, or those of one name or pid."""

    def __init__(self, wanted: str = "") -> None:
        self._wanted = wanted

    def collect(self) -> "Iterator[Metric]":
        """Yield every family, with what is known now."""
        runs = observe.called(rundir.runs(), self._wanted)
        found = [look for run in runs if (look := observe.look(run)) is not None]
        yield from families(merged(values(look) for look in found))


def text(wanted: str = "") -> str:
    """Return the metrics of all living runs, or of one, as Prometheus reads them."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(Collector(wanted))  # pyright: ignore[reportArgumentType]
    return generate_latest(registry).decode()


def merged(several: Iterable[Values]) -> dict[str, dict[tuple[str, ...], Any]]:
    """Return the values of several runs in one; of runs of one name the newest stands."""
    together: defaultdict[str, dict[tuple[str, ...], Any]] = defaultdict(dict)
    for one in several:
        for name, rows in one.items():
            together[name].update(rows)
    return dict(together)


def values(look: "Look") -> dict[str, dict[tuple[str, ...], Any]]:
    """Return the values of one run by metric and labels; a histogram is (counts as `Latency` has them, sum [s])."""
    status, run = look.status, look.card["name"]
    blocks, latency = status["blocks"], status.get("latency") or {}
    calls: Mapping[str, Counts] = latency.get("calls") or {}
    made: dict[str, dict[tuple[str, ...], Any]] = {
        "beamslot_run_seconds": {(run,): status["seconds"]},
        "beamslot_run_state": {(run, status["state"]): 1},
        "beamslot_slots": {(run, name): block["slots"] for name, block in blocks.items()},
        "beamslot_call_seconds": {
            (run, name): (calls.get(name, ()), block["busy_s"]) for name, block in blocks.items()
        },
        "beamslot_latency_seconds": {(run,): (latency.get("end_to_end") or (), None)},
        "beamslot_path_latency_seconds": {
            (run, " > ".join(path)): (counts, None) for path, counts in latency.get("paths") or ()
        },
        "beamslot_late_slots": {(run,): status["late_slots"]},
        "beamslot_cut_short_slots": {(run, name): block["cut_short"] for name, block in blocks.items()},
        "beamslot_fault_slots": {
            (run, name, kind): count
            for name, block in blocks.items()
            for kind, count in block.get("faults", {}).items()
        },
        "beamslot_edge_fault_messages": {
            (run, edge["edge"], kind): count
            for edge in status["edges"]
            for kind, count in edge.get("faults", {}).items()
        },
        "beamslot_restarts": {(run, name): block["restarts"] for name, block in blocks.items()},
        "beamslot_refused_messages": {(run, name): block["refused"] for name, block in blocks.items()},
        **_processes(look, run),
        **_judged(status, run),
    }
    for key in ("offered", "acknowledged", "unmatched", "redelivered", "in_flight"):
        made[f"beamslot_edge_{key}_slots"] = {(run, edge["edge"]): edge[key] for edge in status["edges"]}
    made["beamslot_edge_dropped_slots"] = {
        (run, edge["edge"], reason): count for edge in status["edges"] for reason, count in edge["dropped"].items()
    }
    return made


def _processes(look: "Look", run: str) -> dict[str, dict[tuple[str, ...], Any]]:
    used = {
        (run, process["process"]): look.usage[process["pid"]]
        for process in look.status.get("processes") or ()
        if process["pid"] in look.usage
    }
    return {
        "beamslot_cpu_seconds": {labels: one.cpu for labels, one in used.items()},
        "beamslot_memory_bytes": {labels: one.memory for labels, one in used.items()},
    }


def _judged(status: Mapping[str, Any], run: str) -> dict[str, dict[tuple[str, ...], Any]]:
    made: defaultdict[str, dict[tuple[str, ...], Any]] = defaultdict(dict)
    for sink, results in (status.get("sinks") or {}).items():
        estimates, bound = judged(results)
        for name, one in estimates.items():
            made["beamslot_nmse_db"][run, sink, name] = one["nmse_db"]
        made["beamslot_nmse_crb_db"][run, sink] = bound
        for kinds, several in ((ANGLES, judged_angles(results)), (QUALITIES, judged_quality(results))):
            for name, one in several.items():
                for key, metric in kinds.items():
                    made[metric][run, sink, name] = one.get(key)
        for name, one in judged_quality(results).items():
            for level in COVERED:
                made["beamslot_coverage_ratio"][run, sink, name, level] = (one.get("coverage") or {}).get(level)
        for one in judged_pairs(results).values():
            labels = run, sink, one["estimate"], one["reference"]
            low, high = one["ci95_db"] or (None, None)
            for end, value in (("", one["difference_db"]), ("_low", low), ("_high", high)):
                made[f"beamslot_paired_difference{end}_db"][labels] = value
        if is_alarm(results):
            for key in ("alarm", "alarms", "level"):
                made[f"beamslot_drift_{key}"][run, sink] = results[key]
    return {name: {labels: value for labels, value in rows.items() if value is not None} for name, rows in made.items()}


def families(found: Values) -> "Iterator[Metric]":
    """Yield every metric of `NAMES` with the values that there are."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    for name, (kind, labels, meaning) in NAMES.items():
        rows = found.get(name, {})
        if kind == "histogram":
            histogram = HistogramMetricFamily(name, meaning, labels=labels)
            for key, (counts, total) in rows.items():
                histogram.add_metric(key, *buckets(counts, total))
            yield histogram
            continue
        family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(name, meaning, labels=labels)
        for key, value in rows.items():
            family.add_metric(key, value)
        yield family


def buckets(counts: Counts, total: float | None) -> tuple[list[tuple[str, float]], float]:
    """Return durations as cumulative buckets (upper bound [s], how many), and their sum [s].

    counts: (bucket, how many) of `Latency`    total: their sum; None takes the middle of each bucket for it
    """
    known = [(int(bucket), int(count)) for bucket, count in counts]
    shown = [(f"{2**n * 1e-9:.6g}", float(sum(c for b, c in known if b < n * PER_OCTAVE))) for n in OCTAVES]
    if total is None:
        total = sum(count * 2 ** ((bucket + 0.5) / PER_OCTAVE) for bucket, count in known) * 1e-9
    return [*shown, ("+Inf", float(sum(count for _, count in known)))], total
