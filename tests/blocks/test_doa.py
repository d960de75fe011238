"""The block of directions of arrival: windows of snapshots in, estimates of slots out."""

import numpy as np
import pytest
from beamslot_ula import THREE, degrees, normal, observed

from beamslot.dsp.doa.estimator import Doa
from beamslot.errors import BadParam, PortMismatch
from beamslot.estimators.doa import DoaEstimator
from beamslot.frame import Array, Geometry, StreamInfo
from beamslot.ports import FIELD_AXES
from beamslot.runtime.testing import run_block

RNG = np.random.default_rng(26)
NOISY = observed(THREE, normal(RNG, 2, 40, 3)) + 0.1 * normal(RNG, 2, 40, 32)
FIELD = NOISY.reshape(80, 1, 32, 1).astype(np.complex64)


def info(geometry: Geometry | None) -> StreamInfo:
    field = {"field": Array.of(FIELD_AXES, np.complex64, "sqrt(W)")}
    size = geometry or Geometry(32, 1)
    return StreamInfo(field, {"user": 1, "y": size.n_y, "z": size.n_z}, geometry=geometry)


@pytest.mark.parametrize("burst", [1, 40, 80])
def test_a_frame_is_a_window_of_slots(burst: int) -> None:
    block = DoaEstimator(snapshots=40, users=3, steps=4)
    made = run_block(block, {"field": FIELD}, infos={"field": info(Geometry(32, 1))}, burst=burst)
    estimate = made["estimate"]
    assert estimate["channel"].shape == (80, 1, 32, 1)
    theta = np.arcsin(estimate["u"][::40, 0].astype(float))
    assert degrees(theta, THREE) < 0.03
    np.testing.assert_array_equal(estimate["u"][:40], np.broadcast_to(estimate["u"][:1], (40, 1, 3)))
    direct = Doa(Geometry(32, 1), users=3, steps=4).estimate(FIELD[:40])
    np.testing.assert_array_equal(estimate["gain"][:40], direct.gain)
    assert made.infos["estimate"].axes == {"user": 1, "y": 32, "z": 1, "path": 3}


def test_the_spacing_is_that_of_the_stream() -> None:
    rows = observed(THREE[:1], normal(RNG, 1, 10, 3), spacing=0.4).reshape(10, 1, 32, 1).astype(np.complex64)
    block = DoaEstimator(snapshots=10, method="fbss_esprit")
    made = run_block(block, {"field": rows}, infos={"field": info(Geometry(32, 1, 0.4))}, burst=10)["estimate"]
    np.testing.assert_array_equal(made["mask"][0, 0], np.arange(8) < 3)
    np.testing.assert_allclose(np.arcsin(made["u"][0, 0, :3].astype(float)), THREE[0], atol=1e-5)


def test_arrays_that_are_no_line_are_refused() -> None:
    flat = np.zeros((40, 1, 8, 4), np.complex64)
    with pytest.raises(PortMismatch, match=r"est\.field: the array is 8 x 4; wanted a uniform linear array"):
        run_block(DoaEstimator(), {"field": flat}, infos={"field": info(Geometry(8, 4))}, name="est")
    with pytest.raises(PortMismatch, match=r"est\.field: the stream carries no array geometry"):
        run_block(DoaEstimator(), {"field": FIELD}, infos={"field": info(None)}, name="est")


def test_parameters_that_do_not_fit_the_array_are_refused() -> None:
    with pytest.raises(BadParam, match=r"doa.users is 24, wanted 0 .. 23"):
        run_block(DoaEstimator(users=24), {"field": FIELD}, infos={"field": info(Geometry(32, 1))})
