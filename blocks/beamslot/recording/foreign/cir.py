"""Channel impulse responses of Sionna, (a, tau), as what the antennas of the base station see.

| name | axes |
|---|---|
| a | batch, rx, rx antenna, tx, tx antenna, path, time step; complex |
| tau | batch, rx, tx, path, or with antennas as a [s] |

The receiver is the base station: one `rx`, whose antennas are those of a `PanelArray` of one polarisation: column by
column along +y, in each column from the top down, so antenna y n_z + (n_z - 1 - z). Every antenna of every `tx` is a
user. Every time step of every item of the batch is a slot, time fastest. At the frequency f from the carrier

    h(f) = sum_p a_p exp(-j 2 pi f tau_p)

source: Sionna PHY, cir_to_ofdm_channel, PanelArray
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import ShapeError
from beamslot.frame import Geometry

AXES = "batch, rx, rx antenna, tx, tx antenna, path, time step"


def channel_of(
    a: NDArray[Any], tau: NDArray[Any] | None, geometry: Geometry, frequency: float = 0.0
) -> NDArray[np.complex64]:
    """Return the channels at one frequency as (slot, user, y, z) complex64.

    a: (batch, 1, y * z, tx, tx antenna, path, time) complex    tau: (batch, 1, tx, path) or with antennas as a [s]
    frequency: from the carrier [Hz]; at 0 tau may be None
    raises ShapeError when these or the array do not fit
    """
    if a.ndim != 7 or a.shape[1] != 1 or a.shape[2] != geometry.antennas or 0 in a.shape:
        raise ShapeError(
            f"a is {a.shape}; wanted ({AXES}) with one rx of {geometry.antennas} antennas"
            f" ({geometry.n_y} x {geometry.n_z})"
        )
    h = a.sum(axis=5) if not frequency else _turned(a, tau, frequency)
    batch, _, _, tx, ports, time = h.shape
    by_user = np.moveaxis(h[:, 0], (4, 2, 3, 1), (1, 2, 3, 4)).reshape(batch * time, tx * ports, geometry.antennas)
    columns = by_user.reshape(batch * time, tx * ports, geometry.n_y, geometry.n_z)
    return np.ascontiguousarray(columns[..., ::-1], np.complex64)


def _turned(a: NDArray[Any], tau: NDArray[Any] | None, frequency: float) -> NDArray[Any]:
    if tau is None or tau.ndim not in (4, 6):
        came = "missing" if tau is None else str(tau.shape)
        raise ShapeError(f"tau is {came}; wanted (batch, rx, tx, path), or with antennas as a")
    delays = tau[:, :, None, :, None] if tau.ndim == 4 else tau
    if any(n not in (1, whole) for n, whole in zip(delays.shape, a.shape[:-1], strict=True)):
        raise ShapeError(f"tau is {tau.shape}, a {a.shape}; wanted the same batch, rx, tx and path")
    return (a * np.exp(-2j * np.pi * frequency * np.asarray(delays, np.float64))[..., None]).sum(axis=5)
