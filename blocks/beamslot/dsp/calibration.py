"""Blind calibration: the phases of antennas or RF chains, learned from frames that nobody has labelled.

| symbol | name | meaning |
|---|---|---|
| phi_n | phase | phase error of entry n of an observation [rad]: y_m = diag(exp(j phi)) X^T h_m + noise |
| X, D | atoms, slopes | what a user of unit gain leaves in an observation, and its derivatives |
| P | | projection away from the atoms, I - X^T (X^* X^T)^-1 X^* |
| J | information | of phi, angles and gains eliminated, in units of 2 / sigma^2 |

The array response is known but for the phases, so every frame says something of them once its own angles and gains are
eliminated. A common phase, and on a line one that grows with the antenna, are a phase of the gains and a shift of
sin(theta) and cannot be told from them: J is singular there, and there the prior keeps the phases at 0.

source: Weiss and Friedlander, Circuits Systems Signal Process. 9(3), 1990 (calibration by the signals themselves);
Gauss-Newton as in `projection`
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import default_subarray
from beamslot.dsp.doa.maximum_likelihood import Refined, Response, line, refine
from beamslot.dsp.doa.order import count_users
from beamslot.dsp.doa.peaks import pseudo_labels
from beamslot.dsp.estimate import refuse
from beamslot.dsp.projection import curvature
from beamslot.dsp.ula import Complex, Real

PRIOR = 0.5
"""Deviation of a phase before anything was seen [rad]."""
START = 8
"""Frames that the first phases are learned from together, so that they do not depend on the worst of them."""
SWEEPS = 4
"""Gauss-Newton steps of those."""
RANK = 1e-9
"""Added to what is inverted, relative to its diagonal."""


class Information(NamedTuple):
    """What frames say of the phases about those already taken out: J (R, R) and its descent (R,), summed over frames.

    Both are times 2 / sigma^2 of each frame, so J^-1 is a covariance [rad^2].
    """

    matrix: Real
    descent: Real


def phase_information(observation: NDArray[Any], found: Refined, response: Response) -> Information:
    """Return what frames say of the phases of their entries, angles and gains unknown as well.

    observation: (F, M, R), the phases known so far taken out    found: angles and gains fitted to it
    response: of the array    source: the module's
    """
    y = np.asarray(observation, np.complex128)
    atoms, slopes = response(found.theta)
    paths, rows = atoms.shape[-2:]
    both = np.concatenate([atoms, slopes], axis=-2)
    gram = both.conj() @ np.swapaxes(both, -1, -2)
    matched = both.conj() @ np.swapaxes(y, -1, -2)
    own = gram[..., :paths, :paths]
    inverse: Any = np.linalg.inv(own + RANK * own[..., :1, :1].real * np.eye(paths))
    gain = np.swapaxes(inverse @ matched[..., :paths, :], -1, -2)
    signal = gain @ atoms
    columns = np.swapaxes(atoms, -1, -2)
    away = np.eye(rows) - columns @ inverse @ atoms.conj()
    bend, pull = curvature(gram, matched, inverse, np.swapaxes(gain, -1, -2))
    phases = (away * (np.swapaxes(signal.conj(), -1, -2) @ signal)).real
    gains = np.tile(gain, slopes.shape[-2] // paths)
    follow = (
        -1j * (np.swapaxes(signal.conj(), -1, -2) @ gains) * np.swapaxes(slopes @ np.swapaxes(away, -1, -2), -1, -2)
    ).real
    descent = np.sum((signal.conj() * (y - signal)).imag, axis=-2)
    bend = bend + RANK * np.max(np.abs(bend), axis=(-2, -1), keepdims=True) * np.eye(bend.shape[-1])
    solved: Any = np.linalg.solve(bend, np.concatenate([np.swapaxes(follow, -1, -2), pull[..., None]], axis=-1))
    weight = 2 / np.maximum(found.noise_var, np.finfo(np.float64).tiny)
    matrix = weight[:, None, None] * (phases - follow @ solved[..., :-1])
    return Information(
        matrix.sum(axis=0), np.sum(weight[:, None] * (descent - (follow @ solved[..., -1:])[..., 0]), axis=0)
    )


def identifiable(phase: Real) -> Real:
    """Return phases without a common one and without what grows along the line: what it can be told of.

    phase: (..., N) [rad]
    """
    basis = _unseen(phase.shape[-1])
    return phase - (phase @ basis) @ basis.T


def _unseen(antennas: int) -> Real:
    """The two directions that a line tells nothing of, (N, 2), orthonormal."""
    basis: Any = np.linalg.qr(np.stack([np.ones(antennas), np.arange(antennas)], axis=-1))[0]
    return basis


class PhaseCalibrator:
    """The phases of a uniform linear array, learned frame by frame.

    antennas, spacing: N, and d [wavelengths]    users: K, 0 to count them in every frame
    steps: Gauss-Newton steps of the angles of a frame    memory: frames after which what was seen counts half as much;
        0: all count alike, for phases that do not drift
    raises BadParam
    source: the module's
    """

    def __init__(self, antennas: int, spacing: float = 0.5, *, users: int = 0, steps: int = 4, memory: int = 0) -> None:
        refuse(
            ("calibration.users", users, f"0 .. {antennas - 1}", 0 <= users < antennas),
            ("calibration.steps", steps, "at least 1", steps >= 1),
            ("calibration.memory", memory, "0 or more frames", memory >= 0),
        )
        self._antennas, self._spacing, self._users, self._steps = antennas, spacing, users, steps
        self._kept = 0.5 ** (1 / memory) if memory else 1.0
        self._response = line(antennas, spacing)
        self._prior = np.eye(antennas) / PRIOR**2
        self.phase = np.zeros(antennas)
        self.information = self._prior.copy()
        self.frames = 0
        self._first: list[NDArray[Any]] = []

    @property
    def deviation(self) -> Real:
        """Standard deviation of every phase [rad], of what a line can be told of; (N,)."""
        seen = identifiable(np.eye(self._antennas))
        return np.sqrt(np.diagonal(seen @ np.linalg.inv(self.information) @ seen))

    def corrected(self, observation: NDArray[Any]) -> NDArray[np.complex64]:
        """Return an observation without the phase errors known so far; (..., N)."""
        return (observation * np.exp(-1j * self.phase)).astype(np.complex64)

    def add(self, observation: NDArray[Any]) -> bool:
        """Learn from one frame, (M, N); return whether there was something to learn from it.

        A frame is left out in which no user is found, or which is not finite, or nothing at all.
        """
        if not np.isfinite(observation).all() or not np.any(observation):
            return False
        users = self._users or self._count(self.corrected(observation)[None])
        if not users:
            return False
        self.frames += 1
        if self.frames <= START:
            self._first.append(np.array(observation))
            self._begin()
            return True
        told = self._told(observation, users)
        self.information = self._kept * (self.information - self._prior) + self._prior + told.matrix
        self.phase = self.phase + np.linalg.solve(self.information, told.descent)
        return True

    def _begin(self) -> None:
        """Learn the phases from all first frames anew, each step about the phases of the last."""
        for _ in range(SWEEPS):
            told = [self._told(frame, self._users) for frame in self._first]
            self.information = self._prior + sum(one.matrix for one in told)
            pull = sum(one.descent for one in told) - self._prior @ self.phase
            self.phase = self.phase + np.linalg.solve(self.information, pull)

    def _told(self, observation: NDArray[Any], users: int) -> Information:
        frame = self.corrected(observation)[None]
        users = users or max(self._count(frame), 1)
        found = refine(pseudo_labels(frame, users, self._spacing), frame, self._spacing, self._steps)
        return phase_information(frame, found, self._response)

    def _count(self, frame: NDArray[Any]) -> int:
        return int(count_users(frame, subarray=default_subarray(self._antennas))[0])

    def snapshot(self) -> dict[str, Any]:
        """Return all that was learned."""
        return {
            "phase": self.phase,
            "information": self.information,
            "frames": self.frames,
            "first": [*self._first] if self.frames < START else [],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` gave."""
        self.phase, self.information = np.array(state["phase"]), np.array(state["information"])
        self.frames, self._first = int(state["frames"]), [*state["first"]]


def phase_bound(theta: Real, gain: Complex, noise_var: float, antennas: int, spacing: float = 0.5) -> Real:
    """Return the Cramer-Rao bound of the phases of a line, angles and gains unknown, (N, N) [rad^2].

    It is that of `identifiable` phases.

    theta: (F, K) [rad]    gain: (F, M, K)    noise_var: of an entry
    source: the module's
    """
    response = line(antennas, spacing)
    clean = gain @ response(theta)[0]
    exact = Refined(theta, np.zeros_like(theta), gain, np.full(len(theta), noise_var), np.zeros(len(theta)))
    unseen = _unseen(antennas)
    matrix = phase_information(clean, exact, response).matrix
    matrix = matrix + np.trace(matrix) * unseen @ unseen.T  # regular, and the same where something is seen
    seen = identifiable(np.eye(antennas))
    return seen @ np.linalg.inv(matrix) @ seen
