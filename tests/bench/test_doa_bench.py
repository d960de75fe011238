"""The bench of directions says what it measured: truth is `DoaScore`, the block's estimator, closed forms."""

import json
import math
from typing import Any

import numpy as np
import pytest

from beamslot.bench import doa, main
from beamslot.bench.doa import COUNTED, OURS, PEER, SIGMAS, TOLD, Cell, Contest, Found, Judged
from beamslot.dsp.doa.estimator import Doa
from beamslot.dsp.doa_metrics import DoaScore, match, path_errors
from beamslot.errors import BadParam
from beamslot.frame import Geometry

CELL = Cell("S0 independent", -10, 40)


@pytest.fixture(scope="module")
def contest() -> Contest:
    return Contest()


@pytest.fixture(scope="module")
def hard() -> dict[str, Any]:
    """A small run of the hardest scene."""
    return doa.measure(12, 2, "S1 coherent")


def judged(out: list[bool], first: int = 0, **fields: Any) -> Judged:
    """Return frames of which only who is an outlier matters, unless fields say more."""
    count = len(out)
    plain = {name: np.full(count, 1e-6) for name in Judged._fields}
    plain |= {"frame": np.arange(first, first + count), "out": np.array(out), "right": ~np.array(out)}
    return Judged(**{**plain, **fields})


def test_frames_are_the_same_however_many_there_are() -> None:
    few, many, other = CELL.frames(0, 2, 3), CELL.frames(0, 2, 7), CELL.frames(1, 2, 3)
    for name in ("observation", "gain", "theta", "noise_var"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:3])
    assert few.observation.shape == (3, 40, 32)
    assert not np.any(few.theta == other.theta)
    assert not np.any(few.theta == CELL.frames(0, 1, 3).theta)
    np.testing.assert_allclose(few.noise_var, 10)


def test_frames_are_judged_as_the_sink_judges_them() -> None:
    drawn = CELL.frames(0, 0, 40)
    rng = np.random.default_rng(1)
    theta = np.concatenate([drawn.theta + rng.normal(0, 0.003, drawn.theta.shape), np.full((40, 1), 1.2)], axis=1)
    mask = np.ones(theta.shape, np.bool_)
    mask[:30, 3] = False  # ten frames have a user too many
    mask[30:33, 0] = False  # three of these miss one, and have as many
    mask[33, :2] = False  # one has too few
    theta[0, 1] += 0.1  # and one is far off
    gain = np.concatenate([drawn.gain, drawn.gain[..., :1]], axis=2) * 1.1
    made = doa.judge(Found(theta, mask, np.ones(theta.shape), gain), drawn, doa.bounds_of(drawn))
    found = doa.row(CELL, (OURS, TOLD), [made])
    score = DoaScore()
    matching = match(theta, drawn.theta, mask)
    score.add(matching, path_errors(gain, drawn.gain, matching.which))
    wanted = score.result()
    assert (wanted["outlier_share"], wanted["right_count_share"]) == (5 / 40, 33 / 40)
    same = {"right_share": "right_count_share", "path_gain_mse": "path_gain_mse", "path_angle_mse": "path_angle_mse"}
    for mine, theirs in {**dict.fromkeys(("rmse_deg", "outlier_share", "total_rmse_deg")), **same}.items():
        assert found[mine] == pytest.approx(wanted[theirs or mine]), mine
    assert found["rmse_ci95_deg"] == pytest.approx(wanted["rmse_ci95_deg"])
    assert found["outlier_ci95"] == pytest.approx(wanted["outlier_ci95"])


@pytest.mark.parametrize(("sigmas", "wanted"), [(0.9, (1, 1)), (1.1, (0, 1)), (1.95, (0, 1)), (1.97, (0, 0))])
def test_coverage_counts_users_within_their_deviations(sigmas: float, wanted: tuple[float, float]) -> None:
    drawn = CELL.frames(0, 0, 5)
    theta = drawn.theta + 0.002
    found = Found(theta, np.ones(theta.shape, np.bool_), np.full(theta.shape, 0.002 / sigmas), drawn.gain)
    made = doa.row(CELL, (OURS, TOLD), [doa.judge(found, drawn, doa.bounds_of(drawn))])
    assert (made["within_one"], made["within_two"]) == wanted


def test_errors_of_the_size_of_the_bound_have_a_ratio_of_one() -> None:
    drawn = CELL.frames(0, 0, 250)
    bounds = doa.bounds_of(drawn)
    assert bounds[0].mean() < bounds[1].mean()  # at -10 dB the unconditional bound is the higher one
    square = np.array(bounds[0])
    square[:50] = 1.0
    out = (np.arange(250) < 50).tolist()  # what is an outlier does not count, nor does its bound
    plain = judged(out, square=square, crb=bounds[0], unconditional=bounds[1])
    made = doa.row(CELL, (OURS, TOLD), [plain, plain])
    assert made["ratio"] == pytest.approx(1)
    assert made["ratio_by_seed"] == pytest.approx([1, 1])
    assert made["ratio_unconditional"] == pytest.approx(math.sqrt(bounds[0][50:].mean() / bounds[1][50:].mean()))
    assert made["frames"] == 500
    assert made["total_rmse_deg"] > 20


def test_with_few_snapshots_there_is_no_mean_bound() -> None:
    made = doa.row(Cell("S0 independent", 10, 2), (OURS, TOLD), [judged([False] * 4)])
    assert {made[key] for key in ("crb_deg", "ratio", "ratio_unconditional", "ratio_by_seed")} == {None}


def test_the_paired_test_is_the_binomial_one() -> None:
    mine, theirs = np.zeros(100, np.bool_), np.zeros(100, np.bool_)
    mine[:3] = theirs[:3] = True
    mine[3], theirs[4:11] = True, True
    made = doa.pair(CELL, (OURS, TOLD), (PEER, TOLD), mine, theirs)
    assert (made["both"], made["only_method"], made["only_peer"]) == (3, 1, 7)
    assert made["p"] == pytest.approx(2 * (1 + 8) / 2**8)
    assert doa.pair(CELL, (OURS, TOLD), (PEER, TOLD), mine, mine)["p"] == 1


def test_pairs_are_of_frames_that_both_took() -> None:
    told = [judged([False, True, False, True]), judged([True, False, False, False])]
    sparse = [judged([True, True], 2), judged([False, True], 0)]
    kept = {(OURS, TOLD): told, (doa.MODE, TOLD): sparse}
    (made,) = doa.pairs(CELL, kept)
    assert (made["peer"], made["frames"]) == (doa.MODE, 4)
    assert (made["both"], made["only_method"], made["only_peer"]) == (1, 1, 2)


def test_the_classical_chain_that_counts_is_the_block(contest: Contest) -> None:
    drawn = CELL.frames(0, 0, 60)
    made = contest.peer_counted(drawn.observation, contest.peer(drawn.observation))
    field = np.moveaxis(drawn.observation, 1, 0)[..., None]
    wanted = Doa(Geometry(32, 1), steps=doa.STEPS).estimate(field)
    users = made.mask.sum(axis=1)
    assert len(np.unique(users)) > 1  # MDL counts some frames wrongly
    np.testing.assert_array_equal(users, wanted.mask[0].sum(axis=1))
    most = made.mask.shape[1]
    np.testing.assert_allclose(np.sin(made.theta) * made.mask, wanted.u[0, :, :most], atol=1e-5)


def test_who_counts_takes_a_part_of_the_frames(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doa, "CHUNK", 4)
    monkeypatch.setattr(doa, "SAMPLED", 2)
    kept = doa.measure_cell(contest, Cell("S0 coherent", 10, 5), 10, 0)
    assert {key: made.frame.tolist() for key, made in kept.items()} == {
        (OURS, TOLD): [*range(10)],
        (PEER, TOLD): [*range(10)],
        (doa.MODE, TOLD): [0, 1, 2, 3, 8, 9],
        (OURS, COUNTED): [0, 1, 2, 3, 8, 9],
        (PEER, COUNTED): [0, 1, 2, 3, 8, 9],
    }


def test_a_small_run_has_every_row(hard: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    methods = {(OURS, TOLD), (PEER, TOLD), (doa.MODE, TOLD), (OURS, COUNTED), (PEER, COUNTED)}
    for snr in doa.SNRS:
        rows = [one for one in hard["rows"] if one["snr_db"] == snr]
        assert {(one["method"], one["users"]) for one in rows} == methods
        assert {(one["scene"], one["snapshots"], one["frames"], one["seeds"]) for one in rows} == {
            ("S1 coherent", 40, 24, 2)
        }
        assert 0.5 < next(one for one in rows if one["method"] == OURS)["ratio"] < 2
    assert len(hard["paired"]) == len(doa.SNRS) * len(doa.PAIRS)
    assert hard["times"] == []
    assert all(one["kept"] for one in hard["limits"])
    json.dumps(hard)
    doa.show({"cores": 2}, hard)
    said = capsys.readouterr().out
    for text in ("S1 coherent, 40 snapshots", "vae_ula, counted", "no learned subspace method", "cores 2", "Limits"):
        assert text in said


def test_a_whole_name_is_that_part_alone() -> None:
    assert doa.chosen("S0 rho 0.9") == ("S0 rho 0.9",)
    assert doa.chosen("rho 0.9") == ("S0 rho 0.9", "S0 rho 0.99")
    assert doa.chosen("") == doa.PARTS


def test_few_snapshots_have_fewer_frames() -> None:
    found = doa.cells(["few snapshots"])
    assert {one.snapshots for one in found} == {5, 2, 1}
    assert {one.scene for one in found} == {"S0 independent"}
    assert len(doa.cells(doa.PARTS)) == 4 * (6 + 3)


def test_a_limit_that_is_broken_is_said(hard: dict[str, Any]) -> None:
    row = {**hard["rows"][0], "scene": "S0 rho 0.9", "snr_db": -10, "outlier_share": 0.0031}
    row["ratio_unconditional"] = 1.19
    made = {one["name"]: one["kept"] for one in doa.limits([row], [], [])}
    assert made == {
        "S0 rho 0.9, -10 dB: RMSE / unconditional CRB": True,
        "S0 rho 0.9, -10 dB: outliers": False,
    }
    (made,) = doa.limits([{**row, "users": COUNTED, "snr_db": 0, "right_share": 0.98}], [], [])
    assert (made["kind"], made["kept"]) == ("at least", False)
    pair = {**hard["paired"][0], "only_method": 9, "only_peer": 1, "p": 0.021}
    (made,) = doa.limits([], [pair], [])
    assert not made["kept"]
    (made,) = doa.limits([], [{**pair, "only_method": 1, "only_peer": 9}], [])
    assert made["kept"]


def test_times_are_of_a_frame(contest: Contest) -> None:
    rows = doa.measure_times(contest, 6)
    assert {(one["method"], one["users"], one["batch"]) for one in rows} >= {(OURS, TOLD, 1), (OURS, COUNTED, 64)}
    for one in rows:
        assert one["calls"] == (6 if one["batch"] == 1 else 2)
        assert one["median_ms"] > 0
    (limit, _) = doa.limits([], [], rows)
    wanted = next(one for one in rows if (one["method"], one["users"], one["batch"]) == (OURS, TOLD, 1))
    assert (limit["value"], limit["wanted"]) == (wanted["core_median_ms"], 2)


def test_the_command_prints_json_and_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doa", "--json", "--frames", "4", "--seeds", "1", "--only", "rho 0.99"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert {"processor", "cores", "threads", "load"} <= set(found["machine"])
    assert [one["frames"] for one in found["rows"]] == [4] * 20
    assert "S0 rho 0.99, M = 40, 20 dB: 4 frames; 100 %, 0:00 left" in said.err


def test_what_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doa", "--only", "S1 coherant"]) == 2
    assert capsys.readouterr().err == (
        "bench doa --only: no part's name holds 'S1 coherant'; did you mean 'S1 coherent'?\n"
    )
    with pytest.raises(BadParam):
        doa.chosen("nothing")
    for wrong in (["estimators", "--frames", "3"], ["doa", "--seeds", "0"], ["doa", "--growth"]):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
    assert "--dense, --growth and --plot are of: beamslot bench estimators" in capsys.readouterr().err


def test_the_quantile_is_that_of_the_normal_distribution() -> None:
    assert math.erf(SIGMAS / math.sqrt(2)) == pytest.approx(0.95, abs=1e-12)
