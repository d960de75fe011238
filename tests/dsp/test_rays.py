"""3GPP rays: truth is Sionna's own array output, the tables of TR 38.901 and closed forms."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from beamslot.dsp.geometry import render
from beamslot.dsp.rays import Rays, UmiRays, power_outside, receive
from beamslot.errors import BadParam
from beamslot.frame import Geometry

SMALL = Geometry(4, 4)


@pytest.fixture(scope="module")
def sionna() -> Any:
    pytest.importorskip("torch")
    pytest.importorskip("sionna")
    from sionna.phy import config
    from sionna.phy.channel import tr38901

    return config, tr38901


def sionna_channel(sionna: Any, source: UmiRays) -> Any:
    """Return (draw, user, y, z), the first block of `source` by Sionna's complete uplink model, phases given."""
    config, tr38901 = sionna
    import torch

    options = {"precision": "double", "device": "cpu"}
    arrays = [
        tr38901.PanelArray(
            num_rows_per_panel=rows,
            num_cols_per_panel=columns,
            polarization="single",
            polarization_type="V",
            antenna_pattern="omni",
            carrier_frequency=source.carrier,
            **options,
        )
        for rows, columns in ((1, 1), (source.geometry.n_z, source.geometry.n_y))
    ]
    kind = {"umi": tr38901.UMi, "uma": tr38901.UMa}[source.scenario]
    channel = kind(source.carrier, "low", *arrays, "uplink", False, False, **options)
    rng = np.random.default_rng([source.seed, 0])
    config.seed = int(rng.integers(2**63))
    users = source._drop(rng)
    height = {"umi": 10.0, "uma": 25.0}[source.scenario]
    site, tilt = np.tile([0, 0, height], (len(users), 1, 1)), np.tile([0, source.downtilt, 0], (len(users), 1, 1))
    los = {"los": True, "nlos": False, "mixed": "random"}[source.los]
    zeros = torch.zeros(users.shape)
    channel.set_topology(
        *map(torch.as_tensor, (users, site)),
        zeros,
        torch.as_tensor(tilt),
        zeros,
        zeros[..., 0].bool(),
        los,
        distance_2d_in=zeros[..., 0],
    )

    def with_phases(draw_rays: Any) -> Any:
        def drawn(large_scale: Any) -> Any:
            rays = draw_rays(large_scale)
            clusters, per_cluster = rays.aod.shape[-2:]
            phases = rng.uniform(-np.pi, np.pi, (*users.shape[:2], 1 + clusters * per_cluster, 2))[:, :, 1:]
            phases = phases.reshape(*users.shape[:2], clusters, per_cluster, 2)
            # Theta-theta stands first of the four, phi-theta (received, sent) third.
            rays.phases = torch.as_tensor(np.repeat(phases, 2, axis=-1)[:, None])
            return rays

        return drawn

    draw_rays = channel._ray_sampler
    del channel._ray_sampler
    channel._ray_sampler = with_phases(draw_rays)
    coefficients, _ = channel(1, 1.0)
    # (draw, bs, antenna, user, 1, cluster, time): antennas run from the top of a column down.
    h = coefficients.numpy()[:, 0, :, :, 0, :, 0].sum(-1).swapaxes(1, 2)
    return h.reshape(*h.shape[:2], source.geometry.n_y, source.geometry.n_z)[..., ::-1]


def rendered_from_centre(rays: Rays, geometry: Geometry) -> Any:
    # Sionna's phases are those at the middle of the panel.
    centre = geometry.spacing_y * (geometry.n_y - 1) / 2 * rays.u + geometry.spacing_z * (geometry.n_z - 1) / 2 * rays.v
    return render(rays.gain * np.exp(-2j * np.pi * centre), rays.u, rays.v, geometry)


@pytest.mark.parametrize("downtilt", [0.0, 0.2])
@pytest.mark.parametrize(("scenario", "los"), [("umi", "los"), ("umi", "nlos"), ("uma", "mixed")])
def test_the_rendered_rays_are_sionnas_own_array_output(sionna: Any, scenario: Any, los: Any, downtilt: float) -> None:
    source = UmiRays(geometry=SMALL, scenario=scenario, los=los, users=4, downtilt=downtilt, seed=3)
    wanted = sionna_channel(sionna, source)
    ours = rendered_from_centre(source.rays(range(source.block)), SMALL)
    # Up to the scale: Sionna does not give back the power of the clusters that it drops.
    scaled = [h * np.sqrt(SMALL.antennas) / np.linalg.norm(h, axis=(-2, -1), keepdims=True) for h in (ours, wanted)]
    np.testing.assert_allclose(*scaled, atol=1e-5)


def test_the_powers_are_sionnas_but_for_the_clusters_that_it_drops(sionna: Any) -> None:
    source = UmiRays(geometry=SMALL, users=4, seed=3)
    ours = rendered_from_centre(source.rays(range(source.block)), SMALL)
    ratio = np.abs(ours / sionna_channel(sionna, source))
    assert ratio.min() > 0.9999
    assert ratio.max() < 1.01


def test_a_draw_does_not_depend_on_order_or_batch_or_on_other_sources(sionna: Any) -> None:
    whole = UmiRays(geometry=SMALL, users=20, seed=5).rays(range(10))
    source, other = UmiRays(geometry=SMALL, users=20, seed=5), UmiRays(geometry=SMALL, scenario="uma", users=2, seed=5)
    for draw in (7, 2, 0, 9):
        other.rays(range(draw, draw + 1))
        alone = source.rays(range(draw, draw + 1))
        for name in ("gain", "u", "v", "mask"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(whole, name)[draw])
    backwards = source.rays(range(9, -1, -1))
    np.testing.assert_array_equal(backwards.gain[::-1], whole.gain)
    assert source.rays(range(4, 4)).gain.shape == (0, 20, source.paths)


def test_draws_seeds_and_users_differ(sionna: Any) -> None:
    first = UmiRays(geometry=SMALL, users=2, seed=1).rays(range(64))
    second = UmiRays(geometry=SMALL, users=2, seed=2).rays(range(64))
    directions = np.concatenate([first.u[..., 0:40], second.u[..., 0:40]])
    existing = directions[np.concatenate([first.mask[..., 0:40], second.mask[..., 0:40]])]
    assert len(np.unique(existing)) > 0.99 * existing.size


def test_torchs_default_generator_is_left_as_it_was(sionna: Any) -> None:
    import torch

    state = torch.random.get_rng_state()
    UmiRays(geometry=SMALL).rays(range(1))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("los", ["los", "nlos"])
def test_the_mean_power_over_draws_is_the_number_of_antennas(sionna: Any, los: Any) -> None:
    rays = UmiRays(geometry=SMALL, los=los, downtilt=0.1, seed=8).rays(range(512))
    np.testing.assert_allclose(np.sum(np.abs(rays.gain) ** 2, axis=-1), 1, rtol=1e-5)
    power = np.sum(np.abs(render(rays.gain, rays.u, rays.v, SMALL)) ** 2, axis=(-2, -1)) / SMALL.antennas
    assert np.std(power) > 0.05
    assert abs(np.mean(power) - 1) < 4 * np.std(power) / np.sqrt(power.size)


def test_every_draw_has_the_power_of_the_antennas_when_asked(sionna: Any) -> None:
    rays = UmiRays(geometry=SMALL, users=3, normalise="draw").rays(range(5))
    power = np.sum(np.abs(render(rays.gain, rays.u, rays.v, SMALL)) ** 2, axis=(-2, -1))
    np.testing.assert_allclose(power, SMALL.antennas, rtol=1e-5)


@pytest.mark.parametrize("scenario", ["umi", "uma"])
@pytest.mark.parametrize("los", ["los", "nlos", "mixed"])
def test_the_rays_lie_on_the_sphere_and_fill_a_fixed_masked_shape(sionna: Any, scenario: Any, los: Any) -> None:
    source = UmiRays(geometry=SMALL, scenario=scenario, los=los, users=32, downtilt=0.1)
    rays = source.rays(range(2))
    assert rays.gain.shape == rays.u.shape == rays.v.shape == rays.mask.shape == (2, 32, source.paths)
    assert (rays.gain.dtype, rays.u.dtype, rays.v.dtype) == (np.complex64, np.float32, np.float32)
    assert np.isfinite(rays.gain).all()
    assert np.all(rays.u.astype(float) ** 2 + rays.v.astype(float) ** 2 <= 1 + 1e-6)
    assert rays.mask[..., -1].any()
    for array in (rays.gain, rays.u, rays.v):
        assert not array[~rays.mask].any()
    assert (np.abs(rays.gain[rays.mask]) > 0).all()
    engine = source._engine.topology
    clusters = engine.num_clusters_los if los == "los" else engine.num_clusters_nlos
    assert source.paths == 20 * clusters + (los != "nlos")


def test_the_line_of_sight_points_at_the_user(sionna: Any) -> None:
    source = UmiRays(geometry=SMALL, los="los", distance=(100, 100), sector=np.pi / 3, users=64)
    rays = source.rays(range(1))
    np.testing.assert_allclose(rays.v[..., 0], -8.5 / np.hypot(100, 8.5), rtol=1e-5)
    assert np.abs(rays.u[..., 0]).max() < 0.5
    assert rays.u[..., 0].min() < -0.4
    assert rays.u[..., 0].max() > 0.4
    tilted = UmiRays(geometry=SMALL, los="los", distance=(100, 100), sector=0, downtilt=np.arctan2(8.5, 100))
    np.testing.assert_allclose(tilted.rays(range(1)).v[..., 0], 0, atol=1e-6)


def test_the_users_are_uniform_over_the_area(sionna: Any) -> None:
    toward = UmiRays(geometry=SMALL, los="los", distance=(50, 150), users=64, seed=2).rays(range(8)).v[..., 0]
    squared = np.ravel(8.5**2 / toward.astype(float) ** 2 - 8.5**2)
    assert 50**2 - 1 <= squared.min() < 60**2
    assert 140**2 < squared.max() <= 150**2 + 1
    spread = (150**2 - 50**2) / np.sqrt(12)
    assert abs(np.mean(squared) - (150**2 + 50**2) / 2) < 4 * spread / np.sqrt(512)


def test_the_k_factor_is_that_of_table_7_5_6(sionna: Any) -> None:
    gain = UmiRays(geometry=SMALL, los="los", seed=4).rays(range(512)).gain
    share = np.abs(gain[:, 0, 0].astype(complex)) ** 2
    k_db = 10 * np.log10(share / (1 - share))
    assert abs(np.mean(k_db) - 9) < 4 * 5 / np.sqrt(512)
    assert 4.3 < np.std(k_db) < 5.7


def test_the_line_of_sight_is_as_likely_as_table_7_4_2_says(sionna: Any) -> None:
    rays = UmiRays(geometry=SMALL, distance=(50, 50), seed=6).rays(range(1024))
    wanted = 18 / 50 + np.exp(-50 / 36) * (1 - 18 / 50)
    assert abs(np.mean(rays.mask[..., 0]) - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / 1024)


def test_the_power_outside_the_interval_is_the_share_of_those_rays(sionna: Any) -> None:
    gain, v = np.array([[1, 2j, 0], [3, 0, 4]]), np.array([[0.1, -0.2, 0.9], [-0.5, 0, -0.6]])
    np.testing.assert_allclose(power_outside(gain, v), [1 / 5, 16 / 25])
    umi = UmiRays(geometry=SMALL, scenario="umi", los="los", seed=9).rays(range(512))
    uma = UmiRays(geometry=SMALL, scenario="uma", los="nlos", seed=9).rays(range(512))
    assert 0.001 < np.mean(power_outside(umi.gain, umi.v)) < 0.02
    assert 0.05 < np.mean(power_outside(uma.gain, uma.v)) < 0.25


def test_a_tilted_panel_receives_the_projection_of_a_vertical_field() -> None:
    azimuth, zenith, tilt = np.array([0.0, 0.7, -1.1]), np.array([1.4, 1.8, 1.6]), 0.3
    rays = receive(azimuth, zenith, np.ones(3), np.full(3, np.inf), np.zeros((3, 2)), tilt=tilt)
    # Vectors in the world's axes: the wave's vertical field, and the panel's normal and column.
    field = np.stack([np.cos(zenith) * np.cos(azimuth), np.cos(zenith) * np.sin(azimuth), -np.sin(zenith)], -1)
    toward = np.stack([np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), np.cos(zenith)], -1)
    column = np.array([np.sin(tilt), 0, np.cos(tilt)])
    across = column - (toward @ column)[:, None] * toward
    wanted = -np.sum(field * across, -1) / np.linalg.norm(across, axis=-1)
    np.testing.assert_allclose(rays.gain, wanted, atol=1e-6)
    np.testing.assert_allclose(rays.v, toward @ column, atol=1e-6)
    np.testing.assert_allclose(rays.u, toward[:, 1], atol=1e-6)


def test_without_sionna_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "sionna", "sionna.phy"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadParam, match=r'UmiRays: 3GPP rays need Sionna.*pip install "beamslot\[umi\]"'):
        UmiRays(geometry=SMALL).rays(range(1))


def test_bad_parameters_are_all_named_at_once() -> None:
    bad: Any = {"scenario": "rma", "los": "some", "normalise": "no", "distance": (9, 3), "carrier": 28.0}
    with pytest.raises(BadParam) as caught:
        UmiRays(geometry=SMALL, users=0, bs_height=1.5, sector=7, downtilt=2, seed=-1, **bad)
    names = ["scenario", "los", "normalise", "carrier", "users", "bs_height", "distance", "sector", "downtilt", "seed"]
    problems = str(caught.value).splitlines()
    assert [problem.split(":")[0] for problem in problems] == [f"UmiRays.{name}" for name in names]
    assert problems[0] == "UmiRays.scenario: got 'rma', wanted one of umi, uma"


def test_the_module_is_imported_without_torch() -> None:
    code = "import sys, beamslot.dsp.rays; print({'torch', 'sionna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
