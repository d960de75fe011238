"""Make quadriga_planar.npz: plane-wave coefficients of small arrays by quadriga-lib, an independent channel engine.

Run `python tests/vectors/make_quadriga.py` with the `oracle` extra installed. Seed and versions are in the file.

Mapping to quadriga-lib, found by hand and fixed here: its arrays look along +x with y to the left and z up, azimuth is
counted from x towards y and elevation upwards from the horizon. With the elements at (0, n d_y, z d_z) wavelengths, its
coefficients of a wave that arrives from (azimuth, elevation) are exp(+j 2 pi (d_y n u + d_z z v)) times a factor common
to all elements, so no sign and no axis changes. The transmitter is one isotropic element at the origin.
"""

from pathlib import Path
from typing import Any

import numpy as np

SEED = 20260101
WAVELENGTH = 0.01
SPEED_OF_LIGHT = 299792458.0
SPACINGS = ((0.5, 0.5), (0.7, 0.4))
COLUMNS, ROWS, PATHS = 5, 4, 6


def make() -> dict[str, Any]:
    """Return azimuth, elevation: (path) [rad]; spacing: (array, 2); coefficients: (array, path, y, z)."""
    from quadriga_lib import version

    rng = np.random.default_rng(SEED)
    azimuth, elevation = rng.uniform(-1.4, 1.4, PATHS), rng.uniform(-1.2, 1.2, PATHS)
    return {
        "azimuth": azimuth,
        "elevation": elevation,
        "spacing": np.array(SPACINGS),
        "coefficients": np.stack([planar(azimuth, elevation, *spacing) for spacing in SPACINGS]),
        "seed": SEED,
        "quadriga_lib": str(version()),
        "numpy": np.__version__,
    }


def planar(azimuth: np.ndarray, elevation: np.ndarray, spacing_y: float, spacing_z: float) -> np.ndarray:
    """Return the coefficients (path, y, z) of plane waves of unit gain and unlike path lengths."""
    from quadriga_lib import arrayant

    single = arrayant.generate("omni")
    paths = len(azimuth)
    polarisation = np.zeros((8, paths))
    polarisation[0], polarisation[6] = 1, -1
    lengths = np.linspace(100.0, 140.0, paths)
    real, imaginary, *_ = arrayant.get_channels_planar(
        single,
        array(single, spacing_y, spacing_z),
        np.zeros(paths),
        np.zeros(paths),
        azimuth,
        elevation,
        np.ones(paths),
        lengths,
        polarisation,
        np.zeros(3),
        np.zeros(3),
        np.array([100.0, 0.0, 0.0]),
        np.zeros(3),
        center_freq=SPEED_OF_LIGHT / WAVELENGTH,
    )
    return (real + 1j * imaginary)[:, 0, :].T.reshape(paths, COLUMNS, ROWS)


def array(single: dict[str, Any], spacing_y: float, spacing_z: float) -> dict[str, Any]:
    """Return the planar array of isotropic elements, column by column."""
    elements = COLUMNS * ROWS
    columns, rows = np.divmod(np.arange(elements), ROWS)
    made = dict(single)
    for name in ("e_theta_re", "e_theta_im", "e_phi_re", "e_phi_im"):
        made[name] = np.repeat(np.atleast_3d(single[name]), elements, axis=2)
    made["element_pos"] = WAVELENGTH * np.stack([np.zeros(elements), columns * spacing_y, rows * spacing_z])
    made["coupling_re"], made["coupling_im"] = np.eye(elements), np.zeros((elements, elements))
    return made


if __name__ == "__main__":
    np.savez(Path(__file__).with_name("quadriga_planar.npz"), **make())
