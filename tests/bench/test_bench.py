"""The benchmarks run and say what they measured; how fast this machine is, is not for a test to decide."""

import json
import subprocess
import sys

import pytest

from beamslot.bench import transport

KEYS = ["name", "value", "unit", "peer", "peer_value", "ratio", "runs"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "beamslot", "bench", "transport", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_a_quick_row_has_its_peers_and_the_machine_that_it_was_measured_on() -> None:
    done = bench("--quick", "--json", "--runs", "1", "--only", "edge_3KiB_rate")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"processor", "cores", "threads", "load", "python", "pyzmq", "numpy"} <= set(found["machine"])
    assert [(row["name"], row["peer"]) for row in found["rows"]] == [
        ("edge_3KiB_rate", "pyzmq"),
        ("edge_3KiB_rate", "ezmsg"),
    ]
    for row in found["rows"]:
        assert list(row) == KEYS
        assert row["value"] > 0
        if row["peer_value"] is not None:
            assert row["ratio"] == pytest.approx(row["value"] / row["peer_value"])
    assert "edge_3KiB_rate: 1 of 1" in done.stderr


def test_the_row_of_a_restart_is_measured_against_its_limit() -> None:
    done = bench("--quick", "--json", "--runs", "1", "--only", "recovery")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["name"], row["unit"], row["peer"], row["peer_value"], row["runs"]) == ("recovery", "s", "limit", 0.5, 1)
    assert row["value"] > 0


def test_the_cost_of_an_idle_tap_is_measured() -> None:
    row = transport._tap_idle_cost(1, 500)
    assert (row["name"], row["unit"], row["peer"]) == ("tap_idle_cost", "ns", "frame")
    assert row["peer_value"] > 0


def test_a_row_that_is_not_there_is_said() -> None:
    done = bench("--only", "nothing")
    assert (done.returncode, done.stdout.count("edge")) == (2, 0)
    assert "no row's name holds 'nothing'" in done.stderr


def test_medians_of_ratios_are_taken_run_by_run() -> None:
    row = transport._row("x", "frames/s", "pyzmq", {"ours": [1.0, 4.0, 9.0], "pyzmq": [1.0, 2.0, 3.0]})
    assert (row["value"], row["peer_value"], row["ratio"], row["runs"]) == (4.0, 2.0, 2.0, 3)


def test_a_missing_peer_leaves_its_figures_out() -> None:
    row = transport._row("x", "frames/s", "ezmsg", {"ours": [1.0], "ezmsg": []})
    assert (row["peer_value"], row["ratio"]) == (None, None)


def test_the_runtime_and_the_raw_peer_carry_every_frame() -> None:
    for who, options in (("ours", {"burst": 4, "through": 1}), ("pyzmq", {})):
        assert transport._measured(who, {"nbytes": 3072, "frames": 500, **options})["rate"] > 0
