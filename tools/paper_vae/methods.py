"""The one table of what is compared: classical estimators, nets and bounds, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.estimator import angles
from beamslot.dsp.doa.gains import least_squares
from beamslot.dsp.doa.maximum_likelihood import refine
from beamslot.dsp.ula import Frames
from paper_hbf.methods import fingerprint
from paper_vae.scene import CIRCLE, Scene

GN_STEPS = 4
"""Gauss-Newton steps through the decoder, where a method says so."""

_DOA = "beamslot.dsp.doa.estimator"
_VAE_ULA = "beamslot.dsp.vae_ula"
_BOUNDS = "beamslot.dsp.doa_bounds"
_TRAINER = "beamslot.dsp.nets.dual_path"

Found = tuple[NDArray[np.float64], NDArray[np.complex128]]


@dataclass(frozen=True)
class Method:
    """One line of a figure.

    label: as in the legends    module: whose source a cell depends on
    start: of the angles: a method of `beamslot.dsp.doa`, or "vae_ula"; "" for a net that is trained here, or a bound
    net: what a training changes in the paper's VAE; None where nothing is trained    first_phase: stop after it
    refined: Gauss-Newton steps after the start, and gains by least squares
    """

    label: str
    module: str
    start: str = ""
    net: Mapping[str, Any] | None = None
    first_phase: bool = False
    refined: int = 0

    @property
    def is_bound(self) -> bool:
        """Whether it is a bound."""
        return self.module == _BOUNDS


def _net(label: str, *, first_phase: bool = False, refined: int = 0, **changes: Any) -> Method:
    return Method(label, _TRAINER, net=changes, first_phase=first_phase, refined=refined)


METHODS: dict[str, Method] = {
    "peaks": Method("pseudo-labels", _DOA, "peaks"),
    "peaks_gn": Method("pseudo-labels + 4 steps", _DOA, "peaks", refined=GN_STEPS),
    "music": Method("MUSIC", _DOA, "music"),
    "root_music": Method("root-MUSIC", _DOA, "root_music"),
    "kr_music": Method("KR-MUSIC", _DOA, "kr_music"),
    "fbss_gn": Method("FBSS root-MUSIC + 4 steps", _DOA, "fbss_root_music", refined=GN_STEPS),
    "mode": Method("MODE", _DOA, "mode"),
    "vae_ula": Method("vae_ula (ours), raw", _VAE_ULA, "vae_ula"),
    "vae_ula_gn": Method("vae_ula (ours) + 4 steps", _VAE_ULA, "vae_ula", refined=GN_STEPS),
    "vae": _net("VAE of the paper"),
    "vae_first": _net("VAE, first phase only", first_phase=True),
    "vae_collapsed": _net("VAE, collapsed ELBO", loss="collapsed"),
    "vae_collapsed_gn": _net("VAE, collapsed + 4 steps", loss="collapsed", refined=GN_STEPS),
    "cnn": _net("unsupervised CNN", method="unsupervised_cnn"),
    "supervised": _net("supervised", method="supervised"),
    # A decoder that is learned is not linear in the gains: its expectation has no closed form, and must be sampled.
    "original": _net("original VAE", method="original_vae", expectation="sampled"),
    "labelled": _net("VAE with AoA labels", method="labelled_vae", expectation="sampled"),
    "no_init": _net("VAE without initialisation", initialisation_epochs=0),
    "no_sectors": _net("VAE without sectors", encoder={"sector_deg": CIRCLE}),
    "crb": Method("CRB, conditional", _BOUNDS),
    "crb_unconditional": Method("CRB, unconditional", _BOUNDS),
}


def estimate(name: str, scene: Scene, frames: Frames, training: Path, folder: Path) -> Found:
    """Return theta (F, K) [rad] and gain (F, M, K) of a method that is no bound.

    training: the budget of nets    folder: where they are kept, trained where they are not
    """
    method = METHODS[name]
    seen, gain = frames.observation, None
    if method.net is not None:
        theta, gain = _trained(method, scene, frames, training, folder)
    elif method.start == "vae_ula":
        ours = _shipped(scene.antennas, scene.spacing, scene.users, method.refined)
        if method.refined:
            users = ours.estimate(seen)
            return users.theta, users.gain
        theta = ours.starts(seen, scene.users)
    else:
        theta = angles(seen, scene.users, scene.spacing, method=method.start)  # pyright: ignore[reportArgumentType]
    if method.refined:
        found = refine(_apart(theta), seen, scene.spacing, method.refined)
        return found.theta, found.gain
    return theta, least_squares(theta, seen, scene.spacing) if gain is None else gain


def _trained(method: Method, scene: Scene, frames: Frames, training: Path, folder: Path) -> Found:
    from paper_vae import nets

    one = configuration(method, scene, training)
    return nets.estimate(nets.trained(one, folder), frames)


def configuration(method: Method, scene: Scene, training: Path) -> Any:
    """Return the configuration of a method's training."""
    from paper_vae import nets

    one = nets.config(training, scene, method.net or {})
    return nets.first_phase(one) if method.first_phase else one


def _apart(theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return angles in front of the array, none on another: from there steps could not part them."""
    sines = np.sort(np.sin(theta), axis=-1)
    for user in range(1, sines.shape[-1]):
        sines[:, user] = np.maximum(sines[:, user], sines[:, user - 1] + 1e-3)
    return np.arcsin(np.clip(sines - np.maximum(sines[:, -1:] - 1 + 1e-6, 0), -1, 1))


@lru_cache(maxsize=4)
def _shipped(antennas: int, spacing: float, users: int, steps: int) -> Any:
    from beamslot.dsp.vae_ula import VaeUla

    return VaeUla(antennas=antennas, spacing=spacing, users=users, steps=steps, engine="torch")


@cache
def source(name: str) -> str:
    """Return a hash of what a method's figures depend on; of a net its training is another part of the key."""
    return fingerprint(METHODS[name].module) + fingerprint("beamslot.dsp.doa_metrics")
