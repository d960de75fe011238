"""Whole estimates of frames: all methods, users counted, frames that hold nothing."""

import numpy as np
import pytest
from beamslot_ula import THREE, degrees, normal, observed, responses

from beamslot.dsp.doa.estimator import METHODS, Doa, Method, angles
from beamslot.dsp.metrics import nmse
from beamslot.errors import BadParam, ShapeError
from beamslot.frame import Geometry

RNG = np.random.default_rng(25)
LINE = Geometry(32, 1)
GAIN = normal(RNG, 2, 40, 3)
CLEAN = observed(THREE, GAIN)
NOISY = CLEAN + 0.1 * normal(RNG, 2, 40, 32)


def field(frames: np.ndarray) -> np.ndarray:
    """Return frames (F, M, N) as the field of a stream, (M, user, N, 1)."""
    return np.moveaxis(frames, 0, 1)[..., None].astype(np.complex64)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_paths_that_make_up_the_channel(method: Method) -> None:
    made = Doa(LINE, method=method, users=3, steps=0).estimate(field(NOISY))
    assert made.gain.shape == (40, 2, 3)
    assert made.mask.all()
    assert made.channel.shape == (40, 2, 32, 1)
    theta = np.arcsin(made.u[0].astype(float))
    assert degrees(theta, THREE) < 0.2
    np.testing.assert_allclose(theta, angles(NOISY.astype(np.complex64), 3, method=method), atol=1e-6)
    rebuilt = np.einsum("muk,ukn->mun", made.gain, responses(theta))
    np.testing.assert_allclose(made.channel[..., 0], rebuilt, atol=1e-4)
    assert not made.v.any()
    assert not made.iterations.any()


@pytest.mark.parametrize("method", ["fbss_esprit", "peaks", "ap_ml"])
def test_steps_improve_and_the_error_is_as_predicted(method: Method) -> None:
    scale = np.array([1.0, 100.0])[:, None, None]
    made = Doa(LINE, method=method, steps=4).estimate(field(scale * NOISY))
    np.testing.assert_array_equal(made.mask.sum(axis=-1), 3)
    assert degrees(np.arcsin(made.u[0, :, :3].astype(float)), THREE) < 0.03
    np.testing.assert_allclose(made.noise_var[0], [0.01, 100], rtol=0.1)
    error = np.mean(np.abs(made.channel - field(scale * CLEAN)) ** 2, axis=(0, 2, 3))
    np.testing.assert_allclose(error / made.error_var[0], 1, atol=0.3)
    assert made.converged.all()
    np.testing.assert_array_equal(made.iterations, 4)


def test_users_are_counted_frame_by_frame() -> None:
    frames = np.stack([NOISY[0], observed(THREE[:1, :1], GAIN[:1, :, :1])[0] + 0.1 * normal(RNG, 40, 32)])
    made = Doa(LINE, max_users=5).estimate(field(frames))
    np.testing.assert_array_equal(made.mask[0].sum(axis=-1), [3, 1])
    assert not made.gain[~made.mask].any()
    assert nmse(made.channel[:, 0], field(CLEAN)[:, 0]).mean() < 0.01
    few = Doa(LINE, max_users=2).estimate(field(frames))
    np.testing.assert_array_equal(few.mask[0].sum(axis=-1), [2, 1])


@pytest.mark.parametrize("users", [0, 3])
def test_frames_of_nothing_have_no_paths_and_spoil_no_other(users: int) -> None:
    frames = np.concatenate([np.zeros((1, 40, 32)), NOISY, NOISY])
    frames[4, 3, 2] = np.nan
    frames[3, 3, 2] = np.inf
    made = Doa(LINE, users=users).estimate(field(frames))
    np.testing.assert_array_equal(made.mask[0].any(axis=-1), [False, True, True, False, False])
    np.testing.assert_array_equal(made.noise_var[:, 0], 0)
    assert np.isnan(made.noise_var[:, 3:]).all()
    assert np.isnan(made.error_var[:, 3:]).all()
    assert not made.converged[:, 3:].any()
    assert not made.channel[:, [0, 3, 4]].any()
    alone = Doa(LINE, users=users).estimate(field(NOISY))
    np.testing.assert_allclose(made.channel[:, 1:3], alone.channel, atol=1e-5)


def test_noise_alone_has_its_power_for_variance() -> None:
    made = Doa(LINE).estimate(field(3 * normal(RNG, 2, 40, 32)))
    assert not made.mask.any()
    np.testing.assert_allclose(made.noise_var, 9, rtol=0.15)
    np.testing.assert_array_equal(made.error_var, made.noise_var)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"doa: the array is 8 x 4; wanted a line along y, n_z = 1"):
        Doa(Geometry(8, 4))
    with pytest.raises(ShapeError, match=r"doa: field is \(40, 1, 31, 1\), wanted .* 32, 1"):
        Doa(LINE).estimate(np.zeros((40, 1, 31, 1), np.complex64))
    with pytest.raises(BadParam) as caught:
        Doa(LINE, method="magic", users=40, max_users=0, steps=-1, subarray=33)  # type: ignore[arg-type]
    assert [line.split(",")[0] for line in str(caught.value).splitlines()] == [
        "doa.method is 'magic'",
        "doa.subarray is 33",
        "doa.users is 40",
        "doa.max_users is 0",
        "doa.steps is -1",
    ]
