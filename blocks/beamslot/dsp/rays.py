"""3GPP TR 38.901 UMi and UMa rays, drawn by Sionna and received by a vertically polarised panel as plane waves.

| symbol | name | meaning |
|---|---|---|
| phi, theta | azimuth, zenith | direction of a ray at the base station, z up, broadside towards x [rad] |
| P_n / M | power | power of a ray, 1 for all rays of a user together; the LOS is one more ray, of power K / (K + 1) |
| kappa | xpr | cross-polarisation power ratio, infinite for the LOS |
| Phi | phase | initial phases of the co-polar and the cross-polar part of a ray [rad] |
| beta | tilt | downtilt of the panel [rad] |
| psi | | rotation of the polarisation between the panel and the world |

The rays are those of the uplink from outdoor users with a vertical, isotropic antenna to a panel of vertical, isotropic
elements: a ray from behind looks like its mirror image in front. Narrowband: delays only turn phases, and those
are uniform already, so they are left out. Path loss and shadowing are left out too.

source: 3GPP TR 38.901 V19.2, section 7.5, steps 1 to 11, eqs. (7.1-15), (7.5-22), (7.5-28) to (7.5-30)
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.geometry import render
from beamslot.errors import BadParam
from beamslot.frame import Geometry

SPEED_OF_LIGHT = 299792458.0

Scenario = Literal["umi", "uma"]
LineOfSight = Literal["los", "nlos", "mixed"]
Normalise = Literal["draw", "mean"]

_RAYS_PER_CLUSTER = 20
_CLUSTERS = {"umi": {"los": 12, "nlos": 19, "mixed": 19}, "uma": {"los": 12, "nlos": 20, "mixed": 20}}
_BS_HEIGHT = {"umi": 10.0, "uma": 25.0}
_USER_HEIGHT = 1.5
_REQUESTED_LOS = {"los": True, "nlos": False, "mixed": "random"}
_LINKS_PER_BLOCK = 64


@dataclass(frozen=True)
class Rays:
    """Rays of a batch of users at the array, so that h = render(gain, u, v, geometry).

    gain: (draw, user, path) complex64 [sqrt(W)], at antenna (0, 0), 0 where masked out
    u, v: (draw, user, path) float32, direction coordinates along the columns and the rows, 0 where masked out
    mask: (draw, user, path) bool, which rays exist; the LOS, if there may be one, is path 0
    """

    gain: NDArray[np.complex64]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    mask: NDArray[np.bool_]


def receive(
    azimuth: NDArray[Any],
    zenith: NDArray[Any],
    power: NDArray[Any],
    xpr: NDArray[Any],
    phase: NDArray[Any],
    *,
    tilt: float = 0.0,
) -> Rays:
    """Return what rays from a vertically polarised sender are at a vertically polarised panel.

    azimuth, zenith: (..., path) [rad] in the world's axes
    power: (..., path) [W], 0 for a ray that does not exist    xpr: (..., path) power ratio
    phase: (..., path, 2) [rad] of the co-polar and the cross-polar part
    tilt: downtilt of the panel, which looks along x [rad]
    returns Rays; |gain|^2 is `power` at tilt 0, else changed by what the rotated polarisation loses and leaks
    source: 3GPP TR 38.901, eqs. (7.1-4), (7.1-15), (7.5-28), (7.5-29)
    """
    toward_x, toward_z = np.sin(zenith) * np.cos(azimuth), np.cos(zenith)
    u = np.sin(zenith) * np.sin(azimuth)
    v = np.sin(tilt) * toward_x + np.cos(tilt) * toward_z
    psi = np.arctan2(
        np.sin(tilt) * np.sin(azimuth), np.cos(tilt) * np.sin(zenith) - np.sin(tilt) * toward_z * np.cos(azimuth)
    )
    waves = np.exp(1j * np.asarray(phase, np.float64))
    gain = np.sqrt(power) * (np.cos(psi) * waves[..., 0] + np.sin(psi) / np.sqrt(xpr) * waves[..., 1])
    mask = np.asarray(power) > 0
    return Rays(
        gain=np.where(mask, gain, 0).astype(np.complex64),
        u=np.where(mask, u, 0).astype(np.float32),
        v=np.where(mask, v, 0).astype(np.float32),
        mask=mask,
    )


def power_outside(
    gain: NDArray[Any], v: NDArray[Any], interval: tuple[float, float] = (-0.5, 0.0)
) -> NDArray[np.float64]:
    """Return the share of the rays' power that arrives from outside an interval of v.

    gain, v: (..., path), gain 0 where masked out    interval: (v_min, v_max), both ends inside
    returns (...) float64, 0 to 1; of the sum of |gain|^2, so without interference of the rays
    """
    power = np.abs(np.asarray(gain, np.complex128)) ** 2
    outside = (v < interval[0]) | (v > interval[1])
    return np.sum(power * outside, axis=-1) / np.sum(power, axis=-1)


@dataclass(frozen=True, kw_only=True)
class UmiRays:
    """Independent drops of users in a sector; a drop is a function of its number and of these fields alone.

    scenario: "umi" (street canyon) or "uma"    los: "los", "nlos", or "mixed" with the scenario's probability
    geometry: the array, in the yz-plane, broadside to the middle of the sector    carrier: [Hz]
    users: users a draw, outdoors, 1.5 m high, uniform over the area; their large-scale parameters are correlated
    bs_height: [m], None for the scenario's 10 m (umi) or 25 m (uma)
    distance: nearest and farthest user on the ground [m]    sector: full width in azimuth [rad]
    downtilt: [rad]; u and v are those of the tilted panel
    normalise: "mean", sum of |gain|^2 is 1 for every user, so that E ||h||^2 = N_r over the rays' phases and one h is
        more or less than that, as in 3GPP; "draw", ||h||^2 = N_r exactly, with the phases as drawn
    seed: of everything random

    raises BadParam for a value out of range, and on the first draw when Sionna is not installed
    source: 3GPP TR 38.901, table 7.2-1, section 7.5
    """

    geometry: Geometry
    scenario: Scenario = "umi"
    los: LineOfSight = "mixed"
    carrier: float = 28e9
    users: int = 1
    bs_height: float | None = None
    distance: tuple[float, float] = (50.0, 150.0)
    sector: float = 2 * np.pi / 3
    downtilt: float = 0.0
    normalise: Normalise = "mean"
    seed: int = 0
    _cache: dict[int, Rays] = field(default_factory=dict[int, Rays], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        problems = [problem for wrong, problem in self._checks() if wrong]
        if problems:
            raise BadParam(*problems)

    @property
    def paths(self) -> int:
        """Rays of a user, the masked ones included."""
        return (self.los != "nlos") + _RAYS_PER_CLUSTER * _CLUSTERS[self.scenario][self.los]

    @property
    def block(self) -> int:
        """Draws that are made at once: asking for one costs as much as asking for all of them."""
        return max(1, _LINKS_PER_BLOCK // self.users)

    def rays(self, draws: Iterable[int]) -> Rays:
        """Return the rays of some draws, the same whatever else was asked for before or with them.

        draws: numbers from 0, a range as a rule
        returns Rays, (draw, user, path)
        raises BadParam when Sionna is not installed
        """
        parts = [
            _take(self._cached(block), [draw % self.block for draw in numbers])
            for block, numbers in groupby(draws, lambda draw: draw // self.block)
        ]
        return _concatenate(parts) if parts else _take(self._cached(0), [])

    def _checks(self) -> Iterable[tuple[bool, str]]:
        height, (near, far) = self.bs_height, self.distance
        for name, allowed in (("scenario", Scenario), ("los", LineOfSight), ("normalise", Normalise)):
            value, choices = getattr(self, name), get_args(allowed)
            yield value not in choices, f"UmiRays.{name}: got {value!r}, wanted one of {', '.join(choices)}"
        yield not 0.5e9 <= self.carrier <= 100e9, f"UmiRays.carrier: got {self.carrier} Hz, wanted 0.5e9 to 100e9"
        yield self.users < 1, f"UmiRays.users: got {self.users}, wanted at least 1"
        yield height is not None and height <= _USER_HEIGHT, f"UmiRays.bs_height: got {height} m, wanted above 1.5"
        yield not 0 < near <= far, f"UmiRays.distance: got {self.distance} m, wanted 0 < nearest <= farthest"
        yield not 0 <= self.sector <= 2 * np.pi, f"UmiRays.sector: got {self.sector} rad, wanted 0 to 2 pi"
        yield abs(self.downtilt) > np.pi / 2, f"UmiRays.downtilt: got {self.downtilt} rad, wanted -pi/2 to pi/2"
        yield self.seed < 0, f"UmiRays.seed: got {self.seed}, wanted 0 or more"

    @property
    def _height(self) -> float:
        return _BS_HEIGHT[self.scenario] if self.bs_height is None else self.bs_height

    @cached_property
    def _engine(self) -> "_Engine":
        return _Engine.build(self.scenario, self.carrier)

    def _cached(self, block: int) -> Rays:
        if block not in self._cache:
            self._cache.clear()
            self._cache[block] = self._scaled(self._draw(block))
        return self._cache[block]

    def _draw(self, block: int) -> Rays:
        rng = np.random.default_rng([self.seed, block])
        seed, users = int(rng.integers(2**63)), self._drop(rng)
        azimuth, zenith, power, xpr = self._engine.sample(users, self._height, _REQUESTED_LOS[self.los], seed)
        phase = rng.uniform(-np.pi, np.pi, (*power.shape, 2))
        wavelength = SPEED_OF_LIGHT / self.carrier
        phase[..., 0, 0] = -2 * np.pi * np.linalg.norm(users - [0, 0, self._height], axis=-1) / wavelength
        found = receive(azimuth, zenith, power, xpr, phase, tilt=self.downtilt)
        # Clusters that a link does not have come last, so the cut takes masked rays only.
        first = int(self.los == "nlos")
        kept = slice(first, first + self.paths)
        return Rays(found.gain[..., kept], found.u[..., kept], found.v[..., kept], found.mask[..., kept])

    def _drop(self, rng: np.random.Generator) -> NDArray[np.float64]:
        near, far = self.distance
        # Uniform over the area is uniform in the square of the radius.
        radius = np.sqrt(rng.uniform(near**2, far**2, (self.block, self.users)))
        angle = rng.uniform(-self.sector / 2, self.sector / 2, radius.shape)
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full_like(radius, _USER_HEIGHT)], axis=-1)

    def _scaled(self, rays: Rays) -> Rays:
        if self.normalise == "draw":
            channel = render(rays.gain, rays.u, rays.v, self.geometry)
            power = np.sum(np.abs(channel) ** 2, axis=(-2, -1), dtype=np.float64) / self.geometry.antennas
        else:
            power = np.sum(np.abs(rays.gain) ** 2, axis=-1, dtype=np.float64)
        gain = (rays.gain / np.sqrt(power)[..., None]).astype(np.complex64)
        return Rays(gain, rays.u, rays.v, rays.mask)


def _take(rays: Rays, draws: list[int]) -> Rays:
    return Rays(rays.gain[draws], rays.u[draws], rays.v[draws], rays.mask[draws])


def _concatenate(parts: list[Rays]) -> Rays:
    return Rays(
        np.concatenate([part.gain for part in parts]),
        np.concatenate([part.u for part in parts]),
        np.concatenate([part.v for part in parts]),
        np.concatenate([part.mask for part in parts]),
    )


def _sionna() -> tuple[ModuleType, Any, ModuleType]:
    try:
        import torch
        from sionna.phy import config
        from sionna.phy.channel import tr38901
    except ImportError as error:
        raise BadParam(
            f'UmiRays: 3GPP rays need Sionna, which could not be imported ({error}); pip install "beamslot[umi]"'
        ) from error
    return torch, config, tr38901


@dataclass(frozen=True)
class _Engine:
    """Steps 1 to 9 of TR 38.901 for a batch of one-site topologies of a constant shape."""

    topology: Any
    large_scale: Any
    small_scale: Any

    @classmethod
    def build(cls, scenario: Scenario, carrier: float) -> "_Engine":
        _, _, tr38901 = _sionna()
        # Double precision: the angles are worth it, and single precision saves a sixth of the time only.
        options = {"precision": "double", "device": "cpu"}
        antenna = tr38901.PanelArray(
            num_rows_per_panel=1,
            num_cols_per_panel=1,
            polarization="single",
            polarization_type="V",
            antenna_pattern="omni",
            carrier_frequency=carrier,
            **options,
        )
        kind = {"umi": tr38901.UMiScenario, "uma": tr38901.UMaScenario}[scenario]
        topology = kind(
            carrier, "low", antenna, antenna, "uplink", enable_pathloss=False, enable_shadow_fading=False, **options
        )
        return cls(topology, tr38901.LSPGenerator(topology), tr38901.RaysGenerator(topology))

    def sample(
        self, users: NDArray[np.float64], height: float, los: bool | str, seed: int
    ) -> tuple[NDArray[np.float64], ...]:
        """Return azimuth, zenith, power and xpr, (draw, user, 1 + rays), the LOS first; power 0 for a missing ray."""
        torch, config, _ = _sionna()
        sites = torch.zeros(len(users), 1, 3, dtype=torch.float64)
        sites[..., 2] = height
        still = torch.zeros(users.shape, dtype=torch.float64)
        # Sionna has one set of generators a process, and seeding it seeds torch's default one as well.
        with torch.random.fork_rng(devices=[]):
            config.seed = seed
            # Indoor distances, unused outdoors, would be drawn for the first block only and make it a special one.
            self.topology.set_topology(
                *(torch.from_numpy(users), sites, still, still[:, :1], still, still[..., 0].bool()),
                los=los,
                distance_2d_in=still[..., 0],
            )
            self.large_scale.topology_updated_callback()
            self.small_scale.topology_updated_callback()
            large_scale = self.large_scale()
            rays = self.small_scale(large_scale)
        k_factor = torch.where(self.topology.los, large_scale.k_factor, 0.0).numpy()[:, 0, :, None]
        scattered = rays.powers.numpy()[:, 0, :, :, None] * np.ones(_RAYS_PER_CLUSTER) / _RAYS_PER_CLUSTER
        # At the base station Sionna's angles are those of departure, whatever the direction of the link.
        return (
            _join(np.deg2rad(self.topology.los_aod.numpy()[:, 0, :, None]), rays.aod.numpy()[:, 0]),
            _join(np.deg2rad(self.topology.los_zod.numpy()[:, 0, :, None]), rays.zod.numpy()[:, 0]),
            _join(k_factor / (k_factor + 1), scattered / (k_factor[..., None] + 1)),
            _join(np.full(k_factor.shape, np.inf), rays.xpr.numpy()[:, 0]),
        )


def _join(los: NDArray[np.float64], clusters: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([los, clusters.reshape(*clusters.shape[:-2], -1)], axis=-1)
