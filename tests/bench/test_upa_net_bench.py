"""The bench of the net behind a combiner says what it measured: truth is the bootstrap, and closed forms."""

import json
import math
from typing import Any

import numpy as np
import pytest

from beamslot.bench import main, upa_net
from beamslot.bench.draws import Array, Setting, make
from beamslot.bench.upa_net import OMP, OURS, SEARCH, STREAM, UNSEEN, paired_db
from beamslot.dsp.metrics import nmse
from beamslot.dsp.nets.checkpoint import load, shipped
from beamslot.dsp.vae_upa import KIND, VaeUpa


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """All estimators at one SNR, a few draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upa_net, "SNRS", (5.0,))
        return upa_net.measure(6, upa_net.STARTS)


def test_a_difference_of_means_is_paired() -> None:
    rng = np.random.default_rng(0)
    errors = rng.gamma(2.0, size=50)
    assert paired_db(errors, errors) == (0, (0, 0))
    middle, ends = paired_db(2 * errors, errors)  # however much they scatter, always twice as large
    assert middle == pytest.approx(10 * math.log10(2))
    assert ends == pytest.approx((middle, middle))


def test_the_interval_of_a_difference_is_that_of_the_bootstrap() -> None:
    rng = np.random.default_rng(1)
    peer = rng.gamma(3.0, size=300)
    ours = 0.8 * peer * rng.lognormal(0, 0.3, 300)
    middle, (low, high) = paired_db(ours, peer)
    draws = rng.integers(300, size=(4000, 300))
    ratios = 10 * np.log10(ours[draws].mean(axis=1) / peer[draws].mean(axis=1))
    assert [low, high] == pytest.approx(np.quantile(ratios, [0.025, 0.975]), abs=0.02)
    assert middle == pytest.approx(ratios.mean(), abs=0.02)
    assert high - low > 0.2


def test_every_estimator_has_a_row_and_the_net_is_a_better_start(small: dict[str, Any]) -> None:
    rows = {one["estimator"]: one for one in small["rows"]}
    assert set(rows) == {*upa_net.starts(), OURS, SEARCH, OMP, "omp_grid"}
    assert len(upa_net.starts()) == 9
    assert all((one["operator"], one["snr_db"], one["draws"]) == (STREAM, 5, 6) for one in rows.values())
    by_one_look = [rows[f"{begin}, one look, no search"]["nmse_db"] for begin in ("net", "peaks", "random")]
    assert by_one_look == sorted(by_one_look)
    assert rows["random, with search"]["nmse_db"] < rows["random, two looks, no search"]["nmse_db"] - 10
    assert rows[OURS]["crb_db"] < rows[OURS]["nmse_db"] < rows["omp_grid"]["nmse_db"]
    assert rows["net, one look, no search"]["rounds"] == 0 < rows["random, with search"]["rounds"]


def test_rows_are_those_of_the_estimator_on_the_draws_of_the_other_bench(small: dict[str, Any]) -> None:
    drawn = make(Array(), Setting(5.0), 6)
    found = VaeUpa(drawn.array.geometry, drawn.operator).estimate(drawn.observation)
    row = next(one for one in small["rows"] if one["estimator"] == OURS)
    wanted = nmse(found.channel, drawn.channel)
    assert row["nmse_db"] == pytest.approx(10 * np.log10(wanted.mean()))
    assert row["paths_found"] == pytest.approx(found.mask.sum() / 6)
    assert row["lost"] == np.sum(wanted > 10 * drawn.bounds()["crb"])
    assert row["crb_db"] == pytest.approx(10 * np.log10(drawn.bounds()["crb"].mean()))


def test_pairs_are_differences_of_rows(small: dict[str, Any]) -> None:
    rows = {one["estimator"]: one["nmse_db"] for one in small["rows"]}
    assert {(one["estimator"], one["peer"]) for one in small["paired"]} == set(upa_net.PAIRS)
    for one in small["paired"]:
        assert one["difference_db"] == pytest.approx(rows[one["estimator"]] - rows[one["peer"]])
        assert one["ci95_db"][0] <= one["difference_db"] <= one["ci95_db"][1]


def test_limits_stand_beside_what_was_measured(small: dict[str, Any]) -> None:
    assert [one["name"] for one in small["limits"]] == ["NMSE [dB], 5 dB", "over omp_refined [dB], 5 dB"]
    row = {**next(one for one in small["rows"] if one["estimator"] == OURS), "nmse_db": -19.4}
    (made,) = upa_net.limits([row], [], [])
    assert (made["wanted"], made["kept"]) == (-19.5, False)
    times = [{"estimator": OURS, "snr_db": 5.0, "batch": batch, "core_median_ms": 3.1} for batch in (1, 64)]
    assert [one["kept"] for one in upa_net.limits([], [], times)] == [True, False]


def test_operators_are_others_than_those_of_the_training() -> None:
    trained = load(shipped(KIND), KIND).card["config"]
    for name, array in UNSEEN.items():
        operator = array.operator()
        assert operator.weights.shape == (array.n_y, array.n_z // array.m, array.m), name
        seen = [array.n_y, array.n_z, array.m] in trained["arrays"] and array.groups in trained["groups"]
        assert not seen or type(array) is not Array, name  # known sizes, but not the kind
    assert np.all(np.diff(UNSEEN["contiguous groups"].operator().group) >= 0)
    assert np.sum(UNSEEN["5 groups, columns off"].operator().group == -1) == 5
    assert not np.any(UNSEEN["random beams"].operator().group)
    assert not {"contiguous", "random_beams"} & set(trained["kinds"])


def test_operators_stand_beside_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upa_net, "SNRS", (5.0,))
    monkeypatch.setattr(upa_net, "UNSEEN", {"random beams": UNSEEN["random beams"]})
    found = upa_net.measure(3, upa_net.OPERATORS)
    assert [(one["operator"], one["estimator"]) for one in found["rows"]] == [
        ("random beams", name) for name in (OURS, SEARCH, OMP)
    ]
    assert [(one["estimator"], one["peer"]) for one in found["paired"]] == [(OURS, OMP), (OURS, SEARCH)]
    assert (found["times"], found["limits"]) == ([], [])


def test_times_are_of_a_slot(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(upa_net, "SNRS", (5.0,))
    monkeypatch.setattr(upa_net, "BATCH", 4)
    monkeypatch.setattr(upa_net, "WANTED_MS", {1: 20.0, 4: 3.0})
    assert main(["upa-net", "--json", "--runs", "3", "--only", "speed"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert [(one["estimator"], one["batch"]) for one in found["times"]] == [
        (name, batch) for name in (OURS, SEARCH, OMP) for batch in (1, 4)
    ]
    assert [one["calls"] for one in found["times"]] == [3, 1] * 3
    assert "speed, 5 dB: 3 of 3 slots" in said.err
    assert {"processor", "cores", "threads", "load"} <= set(found["machine"])


def test_people_get_tables(small: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    upa_net.show({"cores": 2}, small)
    said = capsys.readouterr().out
    for text in ("Operator: as trained", "Paired, operator: as trained", "peaks, one look, no search", "cores 2"):
        assert text in said


def test_what_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upa-net", "--only", "sped"]) == 2
    assert capsys.readouterr().err == ("bench upa-net --only: no part's name holds 'sped'; did you mean 'speed'?\n")
