"""The bench of the estimators runs and says what it measured; how fast this machine is, is not for a test to decide."""

import json
import math
import os
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from beamslot.bench import arithmetic, estimators, figures, main
from beamslot.bench.draws import SETTLED, TRACK, Array, Setting, make
from beamslot.cli import doctor
from beamslot.dsp import kernel
from beamslot.dsp.combine import combine
from beamslot.dsp.metrics import nmse
from beamslot.errors import BadParam

SMALL = Array(16, 24, 6, 2)
FIELDS = ["estimator", "snr_db", "paths", "batch", "nmse_db", "ci95_db", "crb_db", "oracle_db", "median_ms", "p99_ms"]
LIMITS = ["name", "value", "unit", "peer", "peer_value", "ratio", "wanted", "runs"]


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """All estimators on a small array, two settings."""
    return estimators.measure(12, settings=(Setting(15.0, 3), Setting(5.0, 4)), array=SMALL)


@pytest.fixture(scope="module")
def dense() -> list[dict[str, Any]]:
    """The products with a dense dictionary of the small array."""
    return arithmetic.dense(3, SMALL)


def finite(value: Any) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return all(number is None or isinstance(number, str) or math.isfinite(number) for number in numbers)


def test_every_estimator_has_a_row_in_every_setting(small: dict[str, Any]) -> None:
    rows = small["rows"]
    names = [name for name, entry in estimators.table().items() if not entry.tracks]
    assert [row["estimator"] for row in rows] == names * 2
    assert {(row["snr_db"], row["paths"]) for row in rows} == {(15.0, 3), (5.0, 4)}
    for row in rows:
        assert set(FIELDS) <= set(row)
        assert all(finite(value) for value in row.values()), row
        assert 0 < row["core_median_ms"] <= 1.5 * row["median_ms"] + 0.1
        assert row["slots"] == (12 if row["estimator"] != "turbo_vbi" else 2)
        assert row["p99_ms"] is None  # twelve slots have no 99th percentile
    assert small["peak_gflops"] > 0


def test_the_bounds_stand_where_they_must(small: dict[str, Any]) -> None:
    for row in small["rows"]:
        assert row["oracle_db"] <= row["oracle_ls_db"] + 0.3
        assert row["oracle_ls_db"] < row["crb_db"]  # fewer unknowns
    rows = {row["estimator"]: row for row in small["rows"] if row["paths"] == 3}
    assert rows["oracle_ls"]["nmse_db"] == pytest.approx(rows["oracle_ls"]["oracle_ls_db"], abs=1e-3)
    assert rows["oracle_mmse"]["nmse_db"] == pytest.approx(rows["oracle_mmse"]["oracle_db"], abs=1e-3)


def test_a_tracker_stands_beside_the_recursive_bound() -> None:
    found = estimators.measure(2 * TRACK, "gw_tracker", [Setting(drift=1.5e-4)])
    (row,) = found["rows"]
    assert row["slots"] == 2 * (TRACK - SETTLED)
    assert row["crb_tracked_db"] < row["crb_db"] - 3
    assert row["crb_tracked_db"] < row["nmse_db"]
    assert "recursive" in next(iter(figures._sheets(found))).columns


def test_the_forms_of_the_kernel_are_told_apart_and_counted(small: dict[str, Any]) -> None:
    forms = [row for row in small["rows"] if row["variant"] is not None and row["paths"] == 3]
    assert [row["variant"] for row in forms] == [*kernel.variants()]
    for row in forms:
        assert row["mflop"] > 0
        assert row["of_peak"] == pytest.approx(row["mflop"] / row["core_median_ms"] / small["peak_gflops"])
        assert row["nmse_db"] == pytest.approx(forms[-1]["nmse_db"], abs=0.5)


def test_limits_and_ratios_are_of_the_first_setting(small: dict[str, Any]) -> None:
    rows = {(row["name"], row["peer"]): row for row in small["limits"]}
    assert rows["gw_sc_vbi_as_printed_core_time", "sc_vbi"]["wanted"] == pytest.approx(1 / 3)
    assert rows["gw_sc_vbi_robust_core_time", "sc_vbi"]["wanted"] == 2
    assert rows["vp_nomp_numpy_median", "limit"]["peer_value"] == 5
    best = f"vp_nomp_{kernel.variants()[0]}"
    assert {(f"{best}_core_time", "omp_grid"), (f"{best}_core_time", "omp_refined")} <= set(rows)
    for row in small["limits"]:
        assert list(row) == LIMITS
        assert all(finite(value) for value in row.values())
        assert row["value"] > 0
    first = next(row for row in small["rows"] if row["estimator"] == "vp_nomp_numpy")
    for kind in ("median", "core_median"):
        assert rows[f"vp_nomp_numpy_{kind}", "limit"]["value"] == first[f"{kind}_ms"]


def test_a_p99_stands_beside_what_the_machine_leaves() -> None:
    seen = estimators.Seen()
    seen.wall = {slot: 1e-3 if slot < 195 else 4e-3 for slot in range(200)}
    seen.cpu = dict.fromkeys(range(200), 1e-3)
    best = f"vp_nomp_{kernel.variants()[0]}"
    rows = estimators._unrest(best, {best: seen, "fixed_work": seen})
    assert [(row["name"], row["peer"]) for row in rows] == [
        (f"{best}_{kind}", peer) for kind in ("p99", "core_p99") for peer in ("limit", "fixed_work")
    ]
    assert [row["value"] for row in rows] == pytest.approx([4, 4, 1, 1])
    assert [row["ratio"] for row in rows] == pytest.approx([4 / 3, 1, 1 / 3, 1])


def test_ratios_are_those_of_the_slots_that_both_worked() -> None:
    ours, peer = estimators.Seen(), estimators.Seen()
    ours.cpu = {0: 1.0, 1: 100.0, 2: 4.0}
    peer.cpu = {0: 2.0, 2: 4.0}
    row = estimators._against("a", "b", 2.0, {"a": ours, "b": peer})
    assert (row["name"], row["value"], row["peer_value"], row["ratio"], row["runs"]) == (
        "a_core_time",
        2500,
        3000,
        0.75,
        2,
    )


def test_turns_go_bout_by_bout_and_only_frequent_takers_warm_up() -> None:
    told: list[tuple[str, int]] = []
    works = {
        "often": (lambda slot: told.append(("often", slot)), 1),
        "seldom": (lambda slot: told.append(("seldom", slot)), 5),
    }
    seen = estimators.take_turns(works, 10)
    often = [("often", slot) for slot in (7, *range(8))]
    assert told[: len(often) + 2] == [*often, ("seldom", 0), ("seldom", 5)]
    assert told[len(often) + 2 :] == [("often", 9), ("often", 8), ("often", 9)]
    assert (sorted(seen["often"].wall), sorted(seen["seldom"].wall)) == ([*range(10)], [0, 5])


def test_draws_are_the_same_however_many_there_are() -> None:
    few, many = make(SMALL, Setting(), 3), make(SMALL, Setting(), 5)
    np.testing.assert_array_equal(few.observation, many.observation[:3])
    np.testing.assert_allclose(np.sum(np.abs(many.channel) ** 2, axis=(1, 2)), SMALL.n_y * SMALL.n_z, rtol=1e-5)
    noise = many.observation - combine(many.channel, many.operator.weights)
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(many.noise_var_w, rel=0.2)
    assert many.noise_var_w == pytest.approx(6 * 10**-0.5)
    assert np.all(nmse(many.channel, many.channel) == 0)


def test_a_slot_asks_for_more_arithmetic_with_more_of_anything() -> None:
    usual = arithmetic.flops(Array(), 5, 9)
    assert 3e6 < usual < 8e6  # what the prototype counted: about 5 Mflop
    for array, rounds, paths in ((Array(128), 5, 9), (Array(64, 144), 5, 9), (Array(), 6, 9), (Array(), 5, 12)):
        assert arithmetic.flops(array, rounds, paths) > usual
    assert arithmetic.flops(Array(), 0, 0) > 0


def test_products_with_a_dense_dictionary_are_compared_with_the_table_of_the_paper(dense: list[dict[str, Any]]) -> None:
    rows = {row["method"]: row for row in dense}
    assert rows["omp"]["ratio_to_omp"] == pytest.approx(1)
    assert rows["sc_vbi"]["paper_ratio_to_omp"] == pytest.approx(12.8 / 2.1)
    assert rows["gw_sc_vbi"]["product"] == f"2 of {128 * 36 // 2} x {16 * 4 // 2}"
    for row in rows.values():
        assert row["ms_a_slot"] == pytest.approx(row["products_a_slot"] * row["ms_a_product"])


def test_an_entry_of_the_dictionary_is_what_a_path_leaves() -> None:
    from beamslot.dsp.geometry import render

    found = arithmetic._dictionary(SMALL)
    u, v = 2 / 128 * 5 - 1, -0.5 + 0.5 / 35 * 7
    field = render(np.ones((1, 1), np.complex64), np.array([[u]]), np.array([[v]]), SMALL.geometry)
    seen = combine(field, SMALL.operator().weights).reshape(-1)
    np.testing.assert_allclose(found[:, 7 * 128 + 5], seen, atol=1e-3)


def test_growth_varies_one_thing_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimators, "GROWTH", {"N_y": (16,), "M": (24,), "paths": (3,), "batch": (1, 4)})
    rows = estimators.growth(2)
    assert [(row["what"], row["value"]) for row in rows] == [
        *(("N_y", 16), ("M", 24), ("paths", 3)),
        *(("batch", 1), ("batch", 4)),
    ]
    assert all(math.isfinite(row["median_ms"]) and row["core_median_ms"] > 0 for row in rows)
    assert next(row for row in rows if (row["what"], row["value"]) == ("batch", 1))["ratio"] == pytest.approx(1)


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimators", "--json", "--runs", "2", "--only", "oracle_ls"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert {"processor", "cores", "threads", "load", "numpy"} <= set(found["machine"])
    assert [(row["estimator"], row["snr_db"], row["paths"]) for row in found["rows"]] == [
        ("oracle_ls", snr_db, paths) for snr_db, paths in ((5.0, 10), (-5.0, 10), (15.0, 10), (5.0, 22))
    ]
    assert found["peak_gflops"] > 0
    assert "5 dB, 22 paths: 2 of 2 slots" in said.err


def test_people_get_tables_and_a_plot(
    small: dict[str, Any], dense: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    figures.show({"cores": 2}, {**small, "dense": dense})
    said = capsys.readouterr().out
    for text in ("15 dB, 3 paths", "5 dB, 4 paths", "turbo_vbi", "Limits and peers", "SNR per antenna", "cores 2"):
        assert text in said
    path = tmp_path / "nmse.png"
    figures.can_plot(path)
    figures.plot(small["rows"], path)
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:]) == (1350, 750)


def test_a_plot_that_cannot_be_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setattr(estimators, "measure", None)
    assert main(["estimators", "--plot", str(tmp_path / "none" / "x.png")]) == 2
    assert f"{tmp_path / 'none'} is no directory" in capsys.readouterr().err
    monkeypatch.setattr(figures, "find_spec", lambda _: None)
    with pytest.raises(BadParam, match=r"python -m pip install 'beamslot\[plot\]'"):
        figures.can_plot(tmp_path / "x.png")


def test_a_name_that_is_not_there_is_said_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimators", "--only", "turbo_vib"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ("bench estimators --only: no estimator's name holds 'turbo_vib'; did you mean 'turbo_vbi'?\n")


@pytest.mark.parametrize("arguments", [["transport", "--growth"], ["estimators", "--runs", "0"], ["estimator"]])
def test_usage_that_cannot_be_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "beamslot bench" in capsys.readouterr().err


# what the doctor says of the kernel


def told() -> dict[str, Any]:
    return next(check for check in doctor.checks() if check["what"] == "kernel")


def test_the_doctor_says_which_form_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEAMSLOT_KERNEL", raising=False)
    monkeypatch.setattr(kernel, "variants", lambda: ("avx2", "baseline", "numpy"))
    assert told() == {"what": "kernel", "found": "avx2; there is baseline, numpy", "ok": True, "advice": ""}
    monkeypatch.setenv("BEAMSLOT_KERNEL", "baseline")
    assert told()["found"] == "baseline, as BEAMSLOT_KERNEL says; there is avx2, numpy"


def test_the_doctor_says_that_numpy_was_asked_for_and_is_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "variants", lambda: ("avx2", "numpy"))
    monkeypatch.setenv("BEAMSLOT_KERNEL", "numpy")
    check = told()
    assert (check["ok"], check["found"]) == (True, "numpy, as BEAMSLOT_KERNEL says; there is avx2")
    assert check["advice"].endswith("unset BEAMSLOT_KERNEL")


def test_the_doctor_says_what_to_do_where_nothing_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "variants", lambda: ("numpy",))
    for chosen in ("", "numpy"):
        monkeypatch.setenv("BEAMSLOT_KERNEL", chosen)
        check = told()
        assert (check["ok"], check["found"]) == (True, "numpy: no compiler when it was installed")
        assert "install a C++17 compiler" in check["advice"]


def test_the_doctor_refuses_a_form_that_does_not_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "variants", lambda: ("baseline", "numpy"))
    monkeypatch.setenv("BEAMSLOT_KERNEL", "neon")
    check = told()
    assert (check["ok"], check["found"]) == (False, "BEAMSLOT_KERNEL is 'neon', which does not run here")
    assert check["advice"] == "unset BEAMSLOT_KERNEL, or set it to one of baseline, numpy"


def test_the_doctor_of_a_fresh_process_says_what_runs() -> None:
    command = [sys.executable, "-m", "beamslot", "doctor", "--json"]
    environment = {**os.environ, "BEAMSLOT_KERNEL": "numpy"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    found = {check["what"]: check for check in json.loads(done.stdout)["checks"]}
    assert found["kernel"]["found"].startswith("numpy")


def test_the_tracker_goes_on_from_slot_to_slot_and_is_judged_once_it_has_settled() -> None:
    found = estimators.measure(50, settings=(Setting(10.0, 3, 1e-4),), array=SMALL)
    best = f"vp_nomp_{kernel.variants()[0]}"
    assert [row["estimator"] for row in found["rows"]] == [best, "gw_tracker"]
    alone, tracked = found["rows"]
    assert (tracked["slots"], tracked["drift"]) == (30, 1e-4)
    assert tracked["nmse_db"] < alone["nmse_db"]
    draws = make(SMALL, Setting(10.0, 3, 1e-4), 4)
    work, plain = estimators.table()["gw_tracker"].make(draws), estimators.table()["gw_tracker"].make(draws)
    work(3)  # too early: worked beside
    for slot in range(4):
        np.testing.assert_array_equal(work(slot).channel, plain(slot).channel)
