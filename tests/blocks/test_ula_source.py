"""The simulated linear array: truth is the model written out, and the same stream made in other pieces."""

from typing import Any

import numpy as np
import pytest

from beamslot.errors import BadParam
from beamslot.runtime.testing import Outcome, run_block
from beamslot.sources.ula_source import UlaSource

SLOTS = 24
SETTINGS: list[dict[str, Any]] = [
    {},
    {"drift": 0.05, "k_factor_db": 3.0, "mean_phase": "random"},
    {"correlation": 1.0, "phase_errors": 0.3, "sector": (-3.0, 3.0)},
]


def made(slots: int = SLOTS, burst: int = 1, seed: int = 4, **parameters: Any) -> Outcome:
    return run_block(UlaSource(**{"snapshots": 5, **parameters}), slots=slots, burst=burst, seed=seed, name="ula")


@pytest.mark.parametrize("parameters", SETTINGS)
@pytest.mark.parametrize("burst", [3, 5, SLOTS])
def test_pieces_equal_the_whole(burst: int, parameters: dict[str, Any]) -> None:
    one, other = made(**parameters), made(burst=burst, **parameters)
    np.testing.assert_array_equal(one["field"], other["field"])
    for name, array in one["truth"].items():
        np.testing.assert_array_equal(array, other["truth"][name], err_msg=name)


@pytest.mark.parametrize("parameters", SETTINGS)
def test_a_source_that_begins_again_anywhere_makes_the_same_slots(parameters: dict[str, Any]) -> None:
    whole = made(**parameters)
    block = UlaSource(snapshots=5, **parameters)
    run_block(block, slots=0, seed=4, name="ula")
    block.start()
    for slot in (17, 3, 18):
        again = block.process(range(slot, slot + 1))
        np.testing.assert_array_equal(again["field"], whole["field"][slot : slot + 1])
        np.testing.assert_array_equal(again["truth"]["u"], whole["truth"]["u"][slot : slot + 1])


def test_a_frame_shares_its_angles_and_is_one_draw_and_its_gains_are_fresh() -> None:
    truth = made()["truth"]
    np.testing.assert_array_equal(truth["draw"], np.arange(SLOTS) // 5)
    assert np.array_equal(truth["u"][5], truth["u"][9])
    assert not np.array_equal(truth["u"][4], truth["u"][5])
    assert len(np.unique(truth["gain"].real)) == SLOTS * 3
    assert np.all(np.diff(truth["u"], axis=-1) > 0.09)
    assert not truth["v"].any()
    assert truth["mask"].all()


def test_the_field_is_the_responses_of_the_users_and_noise_at_the_snr() -> None:
    outcome = made(400, 50, snr_db=3.0, spacing=0.7, antennas=16)
    truth = outcome["truth"]
    n = np.arange(16)[:, None]
    phase = 2 * np.pi * 0.7 * n * truth["u"].astype(float)
    channel = np.sum(truth["gain"] * np.exp(1j * phase), -1)
    np.testing.assert_allclose(truth["channel"][:, 0, :, 0], channel, atol=1e-4)
    noise = outcome["field"] - truth["channel"]
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(10**-0.3, rel=5 / np.sqrt(noise.size))
    np.testing.assert_allclose(truth["antenna_noise_var"], 10**-0.3, rtol=1e-6)
    assert np.mean(np.abs(truth["gain"]) ** 2) == pytest.approx(1, abs=0.15)
    geometry = outcome.infos["field"].geometry
    assert geometry is not None
    assert (geometry.n_y, geometry.n_z, geometry.spacing_y) == (16, 1, 0.7)


def test_phase_errors_turn_the_antennas_for_good_and_stand_in_the_description() -> None:
    clean, turned = made(), made(phase_errors=0.4)
    errors = np.array(turned.infos["field"].notes["phase_errors"])
    wanted = clean["truth"]["channel"] * np.exp(1j * errors)[:, None]
    np.testing.assert_allclose(turned["truth"]["channel"], wanted, atol=1e-5)
    np.testing.assert_array_equal(turned["truth"]["u"], clean["truth"]["u"])
    many = made(1, phase_errors=0.4, antennas=2000).infos["field"].notes["phase_errors"]
    assert np.std(many) == pytest.approx(0.4, rel=0.06)
    assert "phase_errors" not in clean.infos["field"].notes


def test_with_a_drift_the_users_walk_from_frame_to_frame() -> None:
    truth = made(5 * 1000, 100, drift=0.02)["truth"]
    theta = np.arcsin(truth["u"][::5, 0].astype(float))
    steps = np.diff(theta, axis=0)
    assert np.sqrt(np.mean(steps**2)) == pytest.approx(0.02, rel=0.15)
    assert np.abs(steps).max() < 0.2
    assert np.array_equal(truth["u"][0], truth["u"][4])


def test_a_rician_mean_with_a_random_phase_is_one_for_all_slots_of_a_frame() -> None:
    gain = made(10, 10, k_factor_db=40.0, mean_phase="random")["truth"]["gain"][:, 0]
    first, second = gain[:5], gain[5:]
    assert np.abs(first - first[0]).max() < 0.1
    assert np.abs(first[0] - second[0]).max() > 0.1
    known = made(10, 10, k_factor_db=40.0)["truth"]["gain"]
    np.testing.assert_allclose(known, 1, atol=0.1)


def test_what_a_scene_cannot_have_names_the_parameter() -> None:
    with pytest.raises(BadParam, match=r"ula.users is 4, wanted 1 .. antennas - 1"):
        made(1, antennas=4, users=4)
    with pytest.raises(BadParam, match=r"ula.drift is 2.0, wanted more than 0, at most"):
        made(1, drift=2.0)
