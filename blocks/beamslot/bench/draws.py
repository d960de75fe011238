"""The channels that estimators are measured on: the clustered channel of the paper, the same draws for everybody."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams
from beamslot.dsp.bounds import crb_channel, crb_channel_tracked
from beamslot.dsp.channel import PathChannel, Paths, add_noise, noise_variance
from beamslot.dsp.combine import combine
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.geometry import render
from beamslot.dsp.grouping import balanced_random
from beamslot.dsp.metrics import nmse
from beamslot.dsp.oracle_ls import OracleLs
from beamslot.dsp.oracle_mmse import OracleMmse
from beamslot.frame import Geometry, Operator

SEED = 7
INTERVAL = (-0.5, 0.0)
TRACK, SETTLED = 25, 10
"""Slots of one channel where paths drift, and those at its beginning that are no judge of a tracker."""
_CHUNK = 50
"""Slots whose oracles are computed at once."""


class Array(NamedTuple):
    """An array behind group-wise beams: columns, rows, antennas a chain, groups. The default is the paper's."""

    n_y: int = 64
    n_z: int = 72
    m: int = 12
    groups: int = 4

    @property
    def geometry(self) -> Geometry:
        """The antennas, half a wavelength apart."""
        return Geometry(self.n_y, self.n_z)

    def operator(self) -> Operator:
        """Return F_a: every group looks at its part of the interval, columns dealt out at random."""
        group = balanced_random(self.n_y, self.groups, np.random.default_rng(0))
        return Operator(group_beams(group, INTERVAL, self.n_z // self.m, self.m), group, INTERVAL)


class Setting(NamedTuple):
    """Signal-to-noise ratio per antenna [dB], paths, and the rms change of their u and v a slot, 0 for none."""

    snr_db: float = 5.0
    paths: int = 10
    drift: float = 0.0


class Draws(NamedTuple):
    """Independent draws, one a slot or (where paths drift) one for some, and what nobody can pass; all by slot.

    paths: (slot, path) arrays, without users    channel: (slot, y, z)    observation: (slot, y, chain) complex64
    noise_var_w: variance of w per complex entry [W]
    """

    array: Array
    operator: Operator
    setting: Setting
    paths: Paths
    channel: NDArray[np.complex64]
    observation: NDArray[np.complex64]
    noise_var_w: float

    def bounds(self) -> dict[str, NDArray[np.float64]]:
        """Return the bound, and the NMSE of the two oracles, of every slot, linear.

        Where paths drift also crb_tracked, the recursive bound of a random walk as fast.
        """
        paths, geometry = self.paths, self.array.geometry
        truth = paths.gain, paths.u, paths.v, paths.mask
        least, mmse = OracleLs(geometry, self.operator), OracleMmse(geometry, self.operator)

        def judge(estimate: Callable[[slice], Estimate]) -> NDArray[np.float64]:
            parts = [slice(at, at + _CHUNK) for at in range(0, len(self.channel), _CHUNK)]
            return np.concatenate([nmse(estimate(part).channel, self.channel[part]) for part in parts])

        return {
            "crb": crb_channel(*truth, self.operator, geometry, self.noise_var_w),
            **({"crb_tracked": self._tracked()} if self.setting.drift else {}),
            "oracle_ls": judge(lambda part: oracle_ls(least, self, part)),
            "oracle_mmse": judge(lambda part: oracle_mmse(mmse, self, part)),
        }

    def _tracked(self) -> NDArray[np.float64]:
        """The recursive bound, which begins anew with every channel."""
        paths, walk = self.paths, self.setting.drift
        parts = [slice(at, at + TRACK) for at in range(0, len(paths.gain), TRACK)]
        given = (self.operator, self.array.geometry, self.noise_var_w, walk)
        return np.concatenate([crb_channel_tracked(paths.gain[p], paths.u[p], paths.v[p], *given) for p in parts])


def oracle_ls(oracle: OracleLs, draws: Draws, part: slice) -> Estimate:
    """Return least squares with the true angles."""
    paths = draws.paths
    return oracle.estimate(draws.observation[part], paths.u[part], paths.v[part], paths.mask[part])


def oracle_mmse(oracle: OracleMmse, draws: Draws, part: slice) -> Estimate:
    """Return linear MMSE with the true angles and powers."""
    paths, power = draws.paths, np.abs(draws.paths.gain[part]) ** 2
    return oracle.estimate(draws.observation[part], power, paths.u[part], paths.v[part], paths.mask[part])


def make(array: Array, setting: Setting, slots: int) -> Draws:
    """Return the first slots of the draws of this setting; the first of more are the same."""
    redraw, fields = (TRACK if setting.drift else 1), {"interval": INTERVAL, "drift": setting.drift}
    channel = PathChannel(geometry=array.geometry, paths=setting.paths, redraw=redraw, **fields)
    drawn = channel.evolve(range(slots), _keyed(0))
    paths = Paths(drawn.gain[:, 0], drawn.u[:, 0], drawn.v[:, 0], drawn.mask[:, 0], drawn.draw)
    truth, operator = render(paths.gain, paths.u, paths.v, array.geometry), array.operator()
    noise_var = noise_variance(setting.snr_db)
    noisy = _noisy(truth, noise_var)
    return Draws(array, operator, setting, paths, truth, combine(noisy, operator.weights), array.m * noise_var)


def _noisy(truth: NDArray[Any], noise_var: float) -> NDArray[np.complex64]:
    """Noise is keyed by slot, so that it does not depend on how many there are."""
    generator = _keyed(1)
    return np.stack([add_noise(field, noise_var, generator(slot)) for slot, field in enumerate(truth)])


def _keyed(what: int) -> Callable[[int], np.random.Generator]:
    return lambda key: np.random.Generator(np.random.Philox(key=np.array([SEED + what, key], np.uint64)))
