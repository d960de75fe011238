"""The simulated front ends: noise as defined, truth as said, slots as asked."""

import numpy as np
import pytest
from beamslot_scene import run_on_scene

from beamslot.dsp.geometry import render
from beamslot.errors import BadParam
from beamslot.frame import Geometry
from beamslot.runtime.testing import run_block
from beamslot.sources.umi_source import UmiSource
from beamslot.sources.upa_source import UpaSource


def test_the_field_is_the_channel_plus_noise_at_the_snr_per_antenna() -> None:
    made = run_block(UpaSource(n_y=16, n_z=16, snr_db=3.0), slots=60, seed=1)
    channel = made["truth"]["channel"]
    noise = made["field"] - channel
    power = np.mean(np.abs(noise) ** 2)
    count = noise.size
    assert power == pytest.approx(10**-0.3, abs=5 * 10**-0.3 / np.sqrt(count))
    np.testing.assert_allclose(np.sum(np.abs(channel) ** 2, (2, 3)), 256, rtol=1e-5)
    np.testing.assert_allclose(made["truth"]["antenna_noise_var"], 10**-0.3, rtol=1e-6)


def test_the_literal_snr_lowers_the_noise_by_the_antennas_of_a_chain() -> None:
    per_chain = run_block(UpaSource(n_y=4, n_z=12, snr_reference="chain", antennas_per_chain=12), slots=1)
    per_antenna = run_block(UpaSource(n_y=4, n_z=12), slots=1)
    ratio = per_antenna["truth"]["antenna_noise_var"] / per_chain["truth"]["antenna_noise_var"]
    np.testing.assert_allclose(ratio, 12, rtol=1e-6)


def test_the_truth_renders_to_the_channel() -> None:
    made = run_on_scene("upa_source")[1]["truth"]
    rendered = render(made["gain"], made["u"], made["v"], Geometry(12, 12), made["mask"])
    np.testing.assert_allclose(rendered, made["channel"], atol=1e-6)


def test_a_draw_lasts_as_long_as_redraw_says() -> None:
    made = run_on_scene("upa_source")[1]["truth"]
    np.testing.assert_array_equal(made["draw"], np.arange(12) // 3)
    assert np.array_equal(made["u"][0], made["u"][2])
    assert not np.array_equal(made["u"][2], made["u"][3])


def test_a_line_array_is_an_array_with_one_row() -> None:
    made = run_block(UpaSource(n_y=8, n_z=1), slots=2)
    assert made["field"].shape == (2, 1, 8, 1)


def test_an_impossible_interval_names_the_parameter() -> None:
    with pytest.raises(BadParam, match=r"channel.interval is \(0.5, 0.0\), wanted -1 <= v_min <= v_max <= 1"):
        run_block(UpaSource(interval=(0.5, 0.0)), slots=1)


def test_3gpp_drops_have_unit_mean_power_and_fresh_phases() -> None:
    pytest.importorskip("sionna")
    made = run_block(UmiSource(n_y=4, n_z=4, redraw=2), slots=6, seed=2)["truth"]
    np.testing.assert_allclose(np.sum(np.abs(made["gain"]) ** 2, -1), 1, rtol=1e-4)
    assert np.array_equal(made["u"][0], made["u"][1])
    assert not np.allclose(made["gain"][0], made["gain"][1])
    assert not np.array_equal(made["u"][1], made["u"][2])
