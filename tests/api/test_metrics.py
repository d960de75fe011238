"""Prometheus metrics: read by the official parser, named as documented, and equal to the closing table of a run."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import beamslot
from beamslot import metrics
from beamslot.cli import main
from beamslot.cli.metrics import listed
from beamslot.runtime.latency import Latency
from beamslot.runtime.observe import Look, Usage

parser = pytest.importorskip("prometheus_client.parser")

ROOT = Path(__file__).parents[2]

QUALITIES: dict[str, Any] = {
    "quality": {
        "omp": {
            "iterations": 7.5,
            "paths": 6.25,
            "converged_share": 0.5,
            "nmse_db": -4.0,
            "over_crb_db": 5.0,
            "error_to_stated_db": 1.5,
            "coverage": {"0.5": 0.4, "0.9": 0.8, "0.95": 0.85},
            "strongest_found_share": 0.75,
            "strongest_rmse_deg": 0.25,
            "residual_to_noise_db": 0.125,
            "plausible_share": 0.875,
            "white_share": 0.9375,
        },
        "blind": {"iterations": 1.0, "paths": 2.0, "converged_share": 1.0},
    },
    "compare": {
        "omp - gw": {"estimate": "omp", "reference": "gw", "difference_db": 0.5, "ci95_db": [0.25, 0.75]},
        "omp - ls": {"estimate": "omp", "reference": "ls", "difference_db": 3.0, "ci95_db": None},
        "slots": {"omp": 3},
    },
    "watch": {"alarm": -1, "alarms": 3, "level": -0.5, "learning": False, "since": 9, "slots": 99},
}
"""What sinks say of the quality of estimates."""


def look(report: Any, **more: Any) -> Look:
    """Return the look at a run whose status is a report."""
    return Look({"name": "demo"}, {"state": "running", "processes": [], **report, **more}, {}, 0.0, 0.0)


def scraped(*looks: Look) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return what the official parser reads of some runs: samples by name, then by labels."""
    from prometheus_client import CollectorRegistry, generate_latest

    class Fixed:
        def collect(self) -> Any:
            return metrics.families(metrics.merged(map(metrics.values, looks)))

    registry = CollectorRegistry()
    registry.register(Fixed())
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in parser.text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_counters_are_those_of_the_closing_table() -> None:
    report = beamslot.run(ROOT / "flowgraphs" / "hello.yml", slots=30)
    found = scraped(look(report))
    slots = {dict(labels)["block"]: value for labels, value in found["beamslot_slots_total"].items()}
    assert slots == {name: block["slots"] for name, block in report.blocks.items()}
    for key in ("offered", "acknowledged", "redelivered"):
        values = found[f"beamslot_edge_{key}_slots_total"]
        assert {dict(labels)["edge"]: value for labels, value in values.items()} == {
            edge["edge"]: edge[key] for edge in report.edges
        }
    assert sum(found["beamslot_edge_offered_slots_total"].values()) == sum(e["offered"] for e in report.edges) > 0
    nmse = found["beamslot_nmse_db"][("estimate", "omp"), ("run", "demo"), ("sink", "nmse")]
    assert nmse == report.sinks["nmse"]["omp"]["nmse_db"]
    bound = found["beamslot_nmse_crb_db"][("run", "demo"), ("sink", "nmse")]
    assert bound == report.sinks["nmse"]["crb"]["nmse_db"]


def test_histograms_count_every_call_in_its_octave() -> None:
    latency = Latency()
    durations = [1_000, 1_023, 1_025, 5_000, 3_000_000, 2**33 + 10**7, 2**37]
    for nanoseconds in durations:
        latency.add(nanoseconds)
    counts, total = metrics.buckets(latency.counts.items(), None)
    for bound, value in counts[:-1]:
        assert value == sum(nanoseconds < float(bound) * 1e9 * (1 + 1e-5) for nanoseconds in durations)
    assert counts[-1] == ("+Inf", 7.0)
    assert total == pytest.approx(sum(durations) * 1e-9, rel=0.02)


def test_what_is_scraped_is_what_is_documented() -> None:
    page = (ROOT / "tools" / "METRICS.md").read_text()
    assert listed() in page
    edge = {"edge": "a.x > b.x", "dropped": {"latest": 2}}
    edge |= dict.fromkeys(("offered", "acknowledged", "unmatched", "redelivered", "in_flight"), 3)
    block = {"slots": 1, "busy_s": 0.5, "cut_short": 0, "restarts": 1, "refused": 0, "faults": {"quantiser": 5}}
    edge |= {"faults": {"cut": 2, "healed": 1}}
    one = {"rmse_deg": 0.1, "outlier_share": 0.0, "total_rmse_deg": 0.1}
    sinks = {"nmse": {"omp": {"nmse_db": -3.0}, "crb": {"nmse_db": -9.0}}, "angles": {"music": one}, **QUALITIES}
    report = {"seconds": 2.0, "late_slots": 0, "blocks": {"a": block}, "edges": [edge], "sinks": sinks}
    process = {"process": "a", "blocks": ["a"], "pid": 7, "restarts": 0}
    latency = {"calls": {"a": [[640, 1]]}, "end_to_end": [[700, 2]], "paths": [[["a", "b"], [[700, 2]]]]}
    seen = look(report, processes=[process], latency=latency)
    found = scraped(Look(seen.card, seen.status, {7: Usage(1.5, 4096)}, 0.0, 0.0))
    documented = set(re.findall(r"^\| `(\w+)` ", page, re.M))
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in found}
    assert families == documented
    for name, (kind, labels, _) in metrics.NAMES.items():
        sample = f"{name}_total" if kind == "counter" else f"{name}_count" if kind == "histogram" else name
        for given in found[sample]:
            assert {label for label, _ in given} == set(labels)


def test_quality_pairs_and_drift_are_scraped_with_the_values_of_the_sinks() -> None:
    report = {"seconds": 2.0, "late_slots": 0, "blocks": {}, "edges": [], "sinks": QUALITIES}
    found = scraped(look(report))

    def of(name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Return the values of a metric by the labels that are not given."""
        rows = {key: value for key, value in found[name].items() if labels.items() <= dict(key).items()}
        return {tuple(v for k, v in key if k not in {*labels, "run"}): value for key, value in rows.items()}

    quality = {"sink": "quality", "estimate": "omp"}
    assert of("beamslot_nmse_db", **quality) == {(): -4.0}
    assert of("beamslot_nmse_over_crb_db", **quality) == {(): 5.0}
    assert of("beamslot_nmse_over_stated_db", **quality) == {(): 1.5}
    assert of("beamslot_coverage_ratio", **quality) == {("0.5",): 0.4, ("0.9",): 0.8, ("0.95",): 0.85}
    assert of("beamslot_residual_white_ratio", sink="quality") == {("omp",): 0.9375}
    assert of("beamslot_iterations", sink="quality") == {("omp",): 7.5, ("blind",): 1.0}
    assert of("beamslot_paired_difference_db", sink="compare") == {("omp", "gw"): 0.5, ("omp", "ls"): 3.0}
    assert of("beamslot_paired_difference_low_db", sink="compare") == {("omp", "gw"): 0.25}
    assert of("beamslot_paired_difference_high_db", sink="compare") == {("omp", "gw"): 0.75}
    assert of("beamslot_drift_alarm", block="watch") == {(): -1.0}
    assert of("beamslot_drift_alarms_total", block="watch") == {(): 3.0}
    assert of("beamslot_drift_level", block="watch") == {(): -0.5}


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    dashboard = json.loads((ROOT / "tools" / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for t in panel["targets"]
        for name in re.findall(r"beamslot_\w+", t["expr"])
    }
    kinds = {"counter": ("_total",), "histogram": ("_bucket",), "gauge": ("",)}
    there = {name + end for name, (kind, _, _) in metrics.NAMES.items() for end in kinds[kind]}
    assert asked <= there
    assert len(asked) > 15


def test_it_is_served_on_this_machine_only_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    words = [sys.executable, "-P", "-m", "beamslot", "metrics", "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", address)
        with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310
            assert "# TYPE beamslot_slots_total counter" in answer.read().decode()
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=20) == 0


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--address", "no.such.host.invalid"]) == 1
    assert capsys.readouterr().err.startswith("metrics: no.such.host.invalid:9464 cannot be served: ")
