"""The judge of angles: truth is plain sums over frames, and the bound computed on its own."""

import json
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from beamslot_scene import scene
from numpy.typing import NDArray

from beamslot.dsp.doa_bounds import crb_conditional, crb_gain
from beamslot.runtime.block import RunContext
from beamslot.runtime.testing import Outcome, run_block
from beamslot.sinks.angle_sink import AngleSink
from beamslot.sources.ula_source import UlaSource

SNAPSHOTS, FRAMES = 5, 8
SLOTS = SNAPSHOTS * FRAMES


@cache
def source() -> Outcome:
    return run_block(UlaSource(snapshots=SNAPSHOTS, antennas=16), slots=SLOTS, seed=2, name="ula")


def theta() -> NDArray[np.float64]:
    """Return the true angles of all slots, (slot, 1, K)."""
    return np.arcsin(source()["truth"]["u"].astype(np.float64))


def estimate(error_deg: Any = 0.0, factor: Any = 1.0, mask: Any = True) -> dict[str, NDArray[Any]]:
    """Return an estimate with these errors, its users in another order than the true ones."""
    turned = [2, 0, 1]
    off = np.broadcast_to(np.radians(error_deg), theta().shape)
    return {
        "u": np.sin(theta() + off)[..., turned].astype(np.float32),
        "gain": (source()["truth"]["gain"] * factor)[..., turned].astype(np.complex64),
        "mask": np.broadcast_to(mask, theta().shape)[..., turned].copy(),
    }


def judge(burst: int = 1, parameters: dict[str, Any] | None = None, **estimates: Any) -> dict[str, Any]:
    sink = AngleSink(**{"snapshots": SNAPSHOTS, **(parameters or {})})
    inputs = {"truth": source()["truth"], "estimate": {f"{name}.estimate": one for name, one in estimates.items()}}
    infos = {"truth": source().infos["truth"]}
    run_block(sink, inputs, infos=infos, burst=burst)
    return sink.results()


def per_frame(rng: np.random.Generator, scale: float) -> NDArray[np.float64]:
    """Return errors of the angles that are the same in all slots of a frame, (slot, 1, K) [deg]."""
    return np.repeat(scale * rng.standard_normal((FRAMES, 1, 3)), SNAPSHOTS, 0)


def test_the_errors_are_those_that_were_made(rng: np.random.Generator) -> None:
    errors = per_frame(rng, 0.1)
    errors[10:15, 0, 1] += 15
    told = judge(made=estimate(errors, 1.1 * np.exp(0.2j)))["made"]
    last = errors[SNAPSHOTS - 1 :: SNAPSHOTS, 0]
    kept = np.delete(last, 2, 0)
    assert (told["frames"], told["outlier_share"], told["right_count_share"]) == (FRAMES, 1 / FRAMES, 1)
    assert told["rmse_deg"] == pytest.approx(np.sqrt(np.mean(kept**2)), rel=1e-3)
    assert told["total_rmse_deg"] == pytest.approx(np.sqrt(np.mean(last**2)), rel=1e-3)
    power = np.abs(source()["truth"]["gain"]) ** 2
    assert told["path_gain_mse"] == pytest.approx(0.01 * np.mean(np.delete(power, np.s_[10:15], 0)), rel=1e-4)
    assert told["path_angle_mse"] == pytest.approx(0.04, rel=1e-4)


def test_angles_are_those_of_the_last_slot_of_a_frame() -> None:
    errors = np.full((SLOTS, 1, 3), 30.0)
    errors[SNAPSHOTS - 1 :: SNAPSHOTS] = 0.5
    assert judge(made=estimate(errors))["made"]["total_rmse_deg"] == pytest.approx(0.5, rel=1e-3)


def test_users_too_few_and_too_many_are_counted() -> None:
    mask = np.ones((SLOTS, 1, 3), bool)
    mask[:SNAPSHOTS, 0, 0] = False
    full = estimate()
    more = {name: np.concatenate([array, array[..., :1]], -1) for name, array in full.items()}
    told = judge(few=estimate(mask=mask), many=more)
    few, many = told["few"], told["many"]
    assert (few["missed"], few["extra"], few["outlier_share"]) == (1, 0, 1 / FRAMES)
    assert (many["missed"], many["extra"], many["outlier_share"]) == (0, FRAMES, 0)
    assert (few["right_count_share"], many["right_count_share"]) == (1 - 1 / FRAMES, 0)


def test_what_is_not_finite_is_a_missed_user() -> None:
    bad = estimate()
    bad["u"][4, 0, 0] = np.nan
    bad["gain"][7, 0, 1] = np.nan
    told = judge(bad=bad)["bad"]
    assert (told["missed"], told["outlier_share"]) == (2, 2 / FRAMES)
    assert math.isfinite(told["total_path_gain_mse"])


def test_the_bound_is_that_of_the_frames_with_the_truth_given() -> None:
    truth = source()["truth"]
    gain = truth["gain"][:, 0].reshape(FRAMES, SNAPSHOTS, 3)
    given = theta()[::SNAPSHOTS, 0], gain, 0.1, 16
    told = judge(first=estimate(), second=estimate(1.0))["crb"]
    assert told["frames"] == FRAMES
    assert told["rmse_deg"] == pytest.approx(np.degrees(np.sqrt(crb_conditional(*given).mean())), rel=1e-6)
    assert told["path_gain_mse"] == pytest.approx(crb_gain(*given).gain.mean(), rel=1e-6)
    assert "crb" not in judge(parameters={"crb": False}, first=estimate())


def test_pieces_equal_the_whole(rng: np.random.Generator) -> None:
    made = estimate(per_frame(rng, 1.0), 1.2j)
    one, several, whole = (judge(burst, made=made, other=estimate()) for burst in (1, 7, SLOTS))
    assert one == several == whole
    assert json.loads(json.dumps(one, allow_nan=False)) == one
    assert list(one) == ["made", "other", "crb"]


def started() -> AngleSink:
    sink = AngleSink(snapshots=SNAPSHOTS)
    sink.join_run(RunContext("angles"))
    info = source().infos["truth"]
    sink.start(info, {"made.estimate": info})
    return sink


def feed(sink: AngleSink, made: dict[str, NDArray[Any]], first: int, end: int) -> None:
    truth = {name: source()["truth"][name][first:end] for name in sink.inputs["truth"].arrays}
    cut = {name: array[first:end] for name, array in made.items()}
    sink.process(truth, cut, range(first, end), "made.estimate")


def test_a_sink_that_is_put_back_within_a_frame_goes_on_as_if_undisturbed(rng: np.random.Generator) -> None:
    made = estimate(per_frame(rng, 1.0))
    undisturbed, broken, again = started(), started(), started()
    feed(undisturbed, made, 0, SLOTS)
    feed(broken, made, 0, 13)
    state = broken.snapshot()
    feed(broken, made, 13, 17)
    again.restore(state)
    feed(again, made, 13, SLOTS)
    assert again.results() == undisturbed.results()


def test_a_description_that_changes_on_the_way_does_not_reset_what_was_judged() -> None:
    sink, info = started(), source().infos["truth"]
    feed(sink, estimate(), 0, 12)
    sink.start(info.replace(carrier=1e9), {"made.estimate": info})
    feed(sink, estimate(), 12, SLOTS)
    assert sink.results()["made"]["frames"] == FRAMES


def test_frames_that_lost_a_slot_are_left_out_and_said_and_the_next_is_whole() -> None:
    sink = started()
    feed(sink, estimate(), 0, 7)
    feed(sink, estimate(), 8, 19)
    feed(sink, estimate(), 21, SLOTS)
    told = sink.results()["made"]
    assert (told["frames"], told["incomplete"]) == (FRAMES - 3, 3)
    assert told["total_rmse_deg"] == pytest.approx(0, abs=1e-4)
    assert told["outlier_share"] == 0


def test_users_with_pilots_are_frames_of_their_own_and_a_planar_array_has_no_bound_here() -> None:
    inputs, infos = scene().feed(AngleSink)
    sink = AngleSink(snapshots=3)
    run_block(sink, inputs, infos=infos)
    told = sink.results()
    assert list(told) == ["oracle"]
    assert told["oracle"]["frames"] == 2 * 4
    assert told["oracle"]["rmse_deg"] == pytest.approx(0, abs=1e-4)
