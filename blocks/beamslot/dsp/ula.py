"""Users in front of a uniform linear array, seen in frames of several snapshots.

| symbol | name | meaning |
|---|---|---|
| N, K, M | antennas, users, snapshots | M snapshots of one frame share the angles |
| theta_k | theta | angle of arrival from broadside [rad] |
| h_m | gain | (K,) gains of the users in snapshot m, CN(mu, Sigma), E |h_k|^2 = 1 |
| Y | observation | (M, N), y_m = A(theta) h_m + n_m, a snapshot a row |
| sigma^2 | noise_var | variance of an entry of n_m, 1 / SNR: SNR is per antenna and user |

A snapshot is a slot of the stream, a user a path of it, u = sin(theta), v = 0. Steering vectors are the project's,
exp(j 2 pi d n sin(theta)): the conjugates of the paper's, which turns the sign of every phase and no result.

source: paper 000, eqs. (1), (2). Decision: the paper states neither mu, Sigma, separation nor the definition of SNR
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamslot.dsp.estimate import refuse
from beamslot.dsp.geometry import steering

Complex = NDArray[np.complex128]
Real = NDArray[np.float64]

S0, S1, S1B = 0.09375, 0.03125, 0.0156
"""Least separations in sin(theta): 1.5, a half and a quarter of the beam width 2 / 32."""

_TRIES = 10_000


def array_response(theta: ArrayLike, antennas: int, spacing: float = 0.5) -> Complex:
    """Return the steering vectors a(theta)_n = exp(j 2 pi d n sin(theta)).

    theta: (...) [rad]    spacing: d [wavelengths]
    returns (..., antennas), squared norm N
    source: paper 000, eq. (1), conjugated
    """
    return steering(antennas, np.sin(np.asarray(theta, np.float64)), spacing)


class Frames(NamedTuple):
    """Frames of one scene, F of them.

    observation: (F, M, N) complex64    gain: (F, M, K) complex128    theta: (F, K) float64, ascending [rad]
    mean: (F, K) complex128, mu    covariance: (K, K) complex128, Sigma    noise_var: (F,) float64
    """

    observation: NDArray[np.complex64]
    gain: Complex
    theta: Real
    mean: Complex
    covariance: Complex
    noise_var: Real


@dataclass(frozen=True, kw_only=True)
class UlaScene:
    """Where users can be, and how their channels behave.

    antennas, users, snapshots: N, K, M    spacing: d [wavelengths]
    sector: (least, largest) angle, uniform between [rad]; beyond +-pi/2 users are behind the array
    separation: least distance of two users in sin(theta)
    correlation: rho, Sigma has it between any two users (1: coherent)
    k_factor_db: power of the mean over that of Sigma [dB]; None for Rayleigh, mu = 0
    mean_phase: "known", mu = sqrt(k / (1 + k)) in every frame; "random", with a phase for every user and frame
    raises BadParam for a value that it cannot have
    source: paper 000, eq. (2)
    """

    antennas: int = 32
    users: int = 3
    snapshots: int = 40
    spacing: float = 0.5
    sector: tuple[float, float] = (-np.pi / 3, np.pi / 3)
    separation: float = S0
    correlation: float = 0.0
    k_factor_db: float | None = None
    mean_phase: Literal["known", "random"] = "known"

    def __post_init__(self) -> None:
        low, high = self.sector
        refuse(
            ("ula.antennas", self.antennas, "at least 2", self.antennas >= 2),
            ("ula.users", self.users, "1 .. antennas - 1", 1 <= self.users < self.antennas),
            ("ula.snapshots", self.snapshots, "at least 1", self.snapshots >= 1),
            ("ula.spacing", self.spacing, "more than 0 wavelengths", self.spacing > 0),
            ("ula.sector", self.sector, "-pi <= least < largest <= pi", -np.pi <= low < high <= np.pi),
            ("ula.separation", self.separation, "0 .. 2 / users", 0 <= self.separation <= 2 / self.users),
            ("ula.correlation", self.correlation, "0 .. 1", 0 <= self.correlation <= 1),
        )

    @property
    def mean(self) -> float:
        """The size of mu, of every user."""
        if self.k_factor_db is None:
            return 0.0
        k = 10 ** (self.k_factor_db / 10)
        return float(np.sqrt(k / (1 + k)))

    @property
    def covariance(self) -> Complex:
        """Sigma, (K, K), of what is left of the unit power beside the mean."""
        rest = 1 - self.mean**2
        shared = np.full((self.users, self.users), self.correlation, np.complex128)
        return rest * (shared + (1 - self.correlation) * np.eye(self.users))

    def angles(self, rng: np.random.Generator, frames: int = 1) -> Real:
        """Return angles of users that keep their distance, ascending, (F, K) [rad].

        raises BadParam where so many users do not fit the sector
        """
        theta = np.empty((frames, self.users))
        open_ = np.arange(frames)
        for _ in range(_TRIES):
            drawn = np.sort(rng.uniform(*self.sector, (len(open_), self.users)), axis=1)
            theta[open_] = drawn
            gaps = np.diff(np.sort(np.sin(drawn), axis=1), axis=1)
            open_ = open_[np.any(gaps < self.separation, axis=1)]
            if not len(open_):
                return theta
        refuse(("ula.separation", self.separation, f"such that {self.users} users fit the sector", False))
        raise AssertionError

    def means(self, rng: np.random.Generator, frames: int = 1) -> Complex:
        """Return mu of every frame, (F, K)."""
        if self.mean_phase == "known" or not self.mean:
            return np.full((frames, self.users), self.mean, np.complex128)
        turned: Any = np.exp(2j * np.pi * rng.random((frames, self.users)))
        return self.mean * turned

    def fading(self, rng: np.random.Generator, *shape: int) -> Complex:
        """Return draws of CN(0, Sigma), (*shape, K)."""
        white = complex_normal(rng, *shape, self.users)
        values, vectors = np.linalg.eigh(self.covariance)  # Sigma is singular where users are coherent
        return white @ (vectors * np.sqrt(np.maximum(values, 0))).T

    def frames(self, rng: np.random.Generator, count: int, snr_db: ArrayLike) -> Frames:
        """Return independent frames.

        snr_db: () or (count,), E|h_k|^2 / sigma^2 [dB]
        """
        noise_var = np.broadcast_to(10 ** (-np.asarray(snr_db, np.float64) / 10), (count,)).copy()
        theta, mean = self.angles(rng, count), self.means(rng, count)
        gain = mean[:, None] + self.fading(rng, count, self.snapshots)
        noise = np.sqrt(noise_var)[:, None, None] * complex_normal(rng, count, self.snapshots, self.antennas)
        observation = gain @ array_response(theta, self.antennas, self.spacing) + noise
        return Frames(observation.astype(np.complex64), gain, theta, mean, self.covariance, noise_var)


def complex_normal(rng: np.random.Generator, *shape: int) -> Complex:
    """Return draws of CN(0, 1)."""
    real, imaginary = rng.standard_normal((2, *shape)) * np.sqrt(0.5)
    return real + 1j * imaginary
