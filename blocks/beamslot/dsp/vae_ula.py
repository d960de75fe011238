"""The users of a uniform linear array by a net that reads spectra, a few steps through the decoder, and evidence.

The encoder is a small convolutional net on one period of sin(theta): it reads spectra and says, for every bin, how
likely a user is there, and where in the bin. So users have no order and their number need not be known. The decoder
is the model itself, y_m = A(theta) h_m + n: Gauss-Newton steps through it move the angles to the maximum of the
likelihood, gains follow in closed form, and the marginal likelihood (the collapsed ELBO, powers and noise learned) says
whether a user is there.

| symbol | name | meaning |
|---|---|---|
| N, M, K, B | | antennas, snapshots, users, bins; B = 4 N |
| Y | observation | (F, M, N), y_m a row |
| R | covariance | (F, N, N) = sum_m y_m y_m^H / M |
| p_b, o_b | presence, offset | (F, B) that a user is in bin b, and where from its middle [bins] |
| P, sigma^2 | | (K, K) covariance of the gains, variance of the noise: learned, frame by frame |

source: paper 000, III, IV (knowledge-aware VAE); Decision: the heat-map in place of its ResNet, no labels but its own
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.doa.covariance import default_subarray, on_grid, sample_covariance, sines, spatially_smoothed
from beamslot.dsp.doa.maximum_likelihood import Refined, alternating_projection, line, refine
from beamslot.dsp.doa.peaks import capon
from beamslot.dsp.estimate import Estimate, refuse
from beamslot.dsp.geometry import render
from beamslot.dsp.nets.checkpoint import Checkpoint, load, shipped
from beamslot.dsp.nets.serve import Engine, Served
from beamslot.dsp.ula import Complex, Real
from beamslot.errors import BadCheckpoint, ShapeError
from beamslot.frame import Geometry

KIND = "vae_ula"
"""Of its checkpoints."""
BINS_PER_ANTENNA = 4
"""A beam is eight bins wide from null to null, and pairs a quarter of that apart are two bins apart."""
CHANNELS = 5
"""Of the features: three spectra, the number of snapshots, the power over the noise."""
LOADING = 1e-3
"""Added to the diagonal of what Capon inverts, relative to its mean."""
FLOOR = 0.25
"""Quantile of the smoothed Capon spectrum that is taken for noise."""
SCALE = 0.25
"""Of the logarithms, so that features are of the order of one."""
OUTPUTS = 2
"""Of the net: logit of the presence, and the offset."""
FEATURES = {"version": 1, "bins_per_antenna": BINS_PER_ANTENNA, "channels": CHANNELS}
"""What a checkpoint says of the features that its net reads."""
SURE, MAYBE = 0.7, 0.1
"""Where users are not counted: local maxima of more presence are users, of less none; evidence judges those between."""
DOUBTFUL = 0.3
"""With K users to find, a frame where one has less presence is searched by alternating projection as well."""
CHANCE = 3.6
"""Deviations of noise, which one frame of noise in a hundred exceeds in some direction."""
LEAST_CURVATURE = 0.2
"""What is left of the curvature at least when the share of the noise is taken off it."""
MOST_USERS = 8
"""Where their number is unknown."""
FIRST_STEPS = 2
"""Steps that all frames take; few need more."""
SETTLED = 0.02
"""Angles have settled when the last step moved none further [cells]."""


def features(observation: NDArray[Any]) -> NDArray[np.float32]:
    """Return what the net reads: logarithms of spectra over the noise, as channels, and two channels of one number.

    Spectra: non-coherent correlation, Capon, Capon of the smoothed covariance. Nothing depends on the scale of the
    observation, nor on a phase of a snapshot.

    observation: (F, M, N)    returns (F, 5, 4 N)
    """
    snapshots, antennas = observation.shape[-2:]
    bins = BINS_PER_ANTENNA * antennas
    plain = sample_covariance(observation)
    smoothed = spatially_smoothed(plain, default_subarray(antennas))
    power = np.trace(plain, axis1=-2, axis2=-1).real[..., None] / antennas
    tiny = np.finfo(np.float64).tiny
    least = 1e-9 * power + tiny
    narrow = capon(smoothed, bins, LOADING)
    noise = np.maximum(np.quantile(narrow, FLOOR, axis=-1, keepdims=True) * smoothed.shape[-1], least)
    spectra = np.stack([on_grid(plain, bins) / antennas**2, capon(plain, bins, LOADING), narrow], axis=-2)
    made = np.empty((*power.shape[:-1], CHANNELS, bins), np.float32)
    made[..., :3, :] = SCALE * np.log(np.maximum(spectra * antennas / noise[..., None], 1e-6))
    made[..., 3, :] = SCALE * np.log(snapshots)
    made[..., 4, :] = SCALE * np.log(power / noise)
    return made


def log_evidence(theta: Real, observation: NDArray[Any], spacing: float = 0.5) -> Real:
    """Return the logarithm of the evidence of so many users, by which frames choose between numbers of users.

    It is log p(Y | theta, P, sigma^2), the collapsed ELBO, at the P >= 0 and sigma^2 that make it largest, less what P
    and the angles could have been: log(M + N) / 2 for each number of P, log(N) + log(M N) / 2 for each angle. P has the
    rank that the snapshots show, so coherent users and few snapshots are no special cases. Constants that all numbers
    of users share are left out.

    theta: (F, K) [rad]; K may be 0    observation: (F, M, N)    returns (F,) [nat]
    source: paper 000, Props. 1-3, with P and sigma^2 learned; Stoica and Nehorai, IEEE Trans. ASSP 38(10), 1990 (their
    closed form); after Schwarz, Ann. Statist. 6(2), 1978, Decision: what a number costs where snapshots are few
    """
    (snapshots, antennas), users = observation.shape[-2:], theta.shape[-1]
    total = np.sum(np.abs(observation) ** 2, axis=(-2, -1), dtype=np.float64) / snapshots
    inside = _inside(theta, observation, spacing)
    best = np.full(total.shape, -np.inf)
    for rank in range(users + 1):
        strong = inside[..., :rank]
        noise = np.maximum(total - strong.sum(axis=-1), np.finfo(np.float64).tiny) / (antennas - rank)
        fit = -(antennas - rank) * np.log(noise) - np.log(np.maximum(strong, noise[..., None])).sum(axis=-1)
        worth = snapshots * fit - rank * (2 * users - rank) / 2 * np.log(snapshots + antennas)
        best = np.maximum(best, np.where(np.all(strong > noise[..., None], axis=-1), worth, -np.inf))
    return best - users * (np.log(antennas) + np.log(snapshots * antennas) / 2)


def _inside(theta: Real, observation: NDArray[Any], spacing: float) -> Real:
    """Return the eigenvalues of R among the users, (F, K), descending."""
    if not theta.shape[-1]:
        return np.zeros(theta.shape)
    response, _ = line(observation.shape[-1], spacing)(theta)
    basis, _ = np.linalg.qr(np.swapaxes(response, -1, -2))
    seen = observation @ basis.conj()
    values: Any = np.linalg.eigvalsh(np.swapaxes(seen, -1, -2) @ seen.conj()) / observation.shape[-2]
    return values[..., ::-1]


class Labels(NamedTuple):
    """Angles that frames found for themselves.

    theta: (F, K) ascending where mask is, 0 elsewhere [rad]    mask: (F, K) bool
    margin: (F,) by how much the evidence prefers their number to any other that was tried [nat]
    """

    theta: Real
    mask: NDArray[np.bool_]
    margin: Real


def self_labels(observation: NDArray[Any], spacing: float = 0.5, most: int = 6, steps: int = 5) -> Labels:
    """Return angles without being told any: alternating projection, steps through the decoder, evidence for the number.

    Users are added one by one, until the evidence has fallen twice.

    observation: (F, M, N)    most: users at most    steps: Gauss-Newton, see `refine`
    source: the module's
    """
    frames, antennas = len(observation), observation.shape[-1]
    theta, mask = np.zeros((frames, most)), np.zeros((frames, most), np.bool_)
    none = np.zeros((frames, 0))
    evidence = np.full((frames, most + 2), -np.inf)
    evidence[:, 0] = log_evidence(none, observation, spacing)
    best, open_ = evidence[:, 0].copy(), np.arange(frames)
    for users in range(1, most + 1):
        some = observation[open_]
        start = alternating_projection(some, users, spacing, bins=BINS_PER_ANTENNA * antennas, sweeps=2)
        found = refine(start, some, spacing, steps).theta
        evidence[open_, users] = log_evidence(found, some, spacing)
        better = evidence[open_, users] > best[open_]
        chosen = open_[better]
        theta[chosen, :users], mask[chosen, :users] = found[better], True
        best[chosen] = evidence[chosen, users]
        open_ = open_[better | (evidence[open_, users - 1] >= best[open_])]
        if not len(open_):
            break
    ranked = np.sort(evidence, axis=-1)
    return Labels(theta, mask, ranked[:, -1] - ranked[:, -2])


class Candidates(NamedTuple):
    """Where users may be, the likeliest first: theta (F, C) [rad], presence (F, C)."""

    theta: Real
    presence: Real


def candidates(outputs: NDArray[np.float32], count: int, spacing: float = 0.5) -> Candidates:
    """Return the local maxima of what the net says, `count` of them, the likeliest first.

    The grid is a circle, whose ends meet. Where there are fewer maxima, bins beside them follow, as good as absent.

    outputs: (F, 2, B), logit of the presence and offset [bins]
    """
    bins = outputs.shape[-1]
    presence = 1 / (1 + np.exp(-outputs[:, 0].astype(np.float64)))
    presence[:, np.abs(sines(bins, spacing)) > 1 + 1 / (bins * spacing)] = 0
    peak = (presence >= np.roll(presence, 1, axis=-1)) & (presence > np.roll(presence, -1, axis=-1))
    score = np.where(peak, presence, 1e-6 * presence)
    at = np.argsort(-score, axis=-1, kind="stable")[:, :count]
    place = at + np.clip(np.take_along_axis(outputs[:, 1], at, axis=-1), -1, 1)
    sine = (place / bins - 0.5) / spacing
    return Candidates(np.arcsin(np.clip(sine, -1, 1)), np.take_along_axis(score, at, axis=-1))


class Users(NamedTuple):
    """Users of frames; K of them at most, in ascending order, 0 where the mask is not set.

    theta: (F, K) [rad]    deviation: (F, K) their standard deviations [rad]    gain: (F, M, K)    mask: (F, K)
    noise_var: (F,)    error_var: (F, M) predicted mean squared error of an entry of A h_m
    step: (F,) the largest of the last move of an angle [cells]
    """

    theta: Real
    deviation: Real
    gain: Complex
    mask: NDArray[np.bool_]
    noise_var: Real
    error_var: Real
    step: Real


class VaeUla:
    """The users of frames of a uniform linear array.

    antennas, spacing: N, d [wavelengths]    users: K, 0 where it is unknown, then at most 8 are found
    steps: Gauss-Newton steps through the decoder at most; frames whose angles have settled after two take no more
    checkpoint: of kind "vae_ula", a file or what it holds; "" for the shipped one
    engine, threads: see `nets.serve.Served`
    raises BadParam, BadCheckpoint
    """

    def __init__(
        self,
        *,
        antennas: int = 32,
        spacing: float = 0.5,
        users: int = 0,
        steps: int = 4,
        checkpoint: Checkpoint | Path | str = "",
        engine: Engine = "auto",
        threads: int = 1,
    ) -> None:
        refuse(
            ("vae_ula.antennas", antennas, "at least 4", antennas >= 4),
            ("vae_ula.spacing", spacing, "more than 0 wavelengths", spacing > 0),
            ("vae_ula.users", users, f"0 .. {antennas // 2}", 0 <= users <= antennas // 2),
            ("vae_ula.steps", steps, "at least 0", steps >= 0),
        )
        self.antennas, self.spacing, self.users, self.steps = antennas, spacing, users, steps
        if not isinstance(checkpoint, Checkpoint):
            checkpoint = load(checkpoint or shipped(KIND), KIND)
        self._net = Served(checkpoint, engine, threads)
        said = checkpoint.architecture.get("features")
        ends = (self._net.net[0].inputs, self._net.net[-1].outputs, len(self._net.net[0].kernel))
        if said != FEATURES or ends != (CHANNELS, OUTPUTS, 1):
            raise BadCheckpoint(f"vae_ula: a net for features {said}, ends {ends}; wanted {FEATURES}")
        self.version = int(checkpoint.card.get("version", 0))
        self.turn, self._reads_corrected = _array_of(checkpoint, antennas)

    @property
    def most(self) -> int:
        """The length of the axis of users."""
        return self.users or min(MOST_USERS, self.antennas // 2)

    def starts(self, observation: NDArray[Any], users: int) -> Real:
        """Return the angles of the net alone, K likeliest, (F, K) ascending [rad]."""
        return np.sort(self._candidates(observation, users).theta, axis=-1)

    def estimate(self, observation: NDArray[Any]) -> Users:
        """Return the users of every frame; frames do not depend on each other.

        observation: (F, M, N)
        returns Users; a frame that is not finite has none, and variances NaN; one that is all zero none, and zeros
        raises ShapeError for other antennas
        """
        if observation.ndim != 3 or observation.shape[-1] != self.antennas:
            raise ShapeError(f"vae_ula: observation is {observation.shape}, wanted (F, M, {self.antennas})")
        made = _blank(len(observation), observation.shape[1], self.most)
        silent = ~observation.any(axis=(1, 2))
        made.noise_var[silent], made.error_var[silent], made.step[silent] = 0.0, 0.0, 0.0
        sound = np.flatnonzero(np.isfinite(observation).all(axis=(1, 2)) & ~silent)
        if len(sound):
            some = observation[sound]
            seen = self._candidates(some, self.most)
            some = self._corrected(some)
            for rows, found in self._known(some, seen) if self.users else self._counted(some, seen):
                _put(made, sound[rows], found, self.spacing, self.antennas)
        return made

    def _candidates(self, observation: NDArray[Any], count: int) -> Candidates:
        read = self._corrected(observation) if self._reads_corrected else observation
        return candidates(self._net.run(features(read)), count, self.spacing)

    def _corrected(self, observation: NDArray[Any]) -> NDArray[Any]:
        return observation if self.turn is None else (observation * self.turn.conj()).astype(np.complex64)

    def _known(self, observation: NDArray[Any], seen: Candidates) -> list[tuple[NDArray[np.int64], Refined]]:
        """Refine all users of all frames; where the net doubts one, the better of two starts counts."""
        found = self._refine(seen.theta, observation)
        doubtful = np.flatnonzero(seen.presence[:, -1] < DOUBTFUL)
        if len(doubtful):
            some = observation[doubtful]
            bins = BINS_PER_ANTENNA * self.antennas
            other = self._refine(alternating_projection(some, self.users, self.spacing, bins=bins), some)
            better = other.noise_var < found.noise_var[doubtful]
            for mine, theirs in zip(found, other, strict=True):
                mine[doubtful[better]] = theirs[better]
        return [(np.arange(len(observation)), found)]

    def _counted(self, observation: NDArray[Any], seen: Candidates) -> list[tuple[NDArray[np.int64], Refined]]:
        """Refine as many users as the net is sure of, and as many more as the evidence supports."""
        least, most = (np.sum(seen.presence > level, axis=-1) for level in (SURE, MAYBE))
        evidence = np.full((len(observation), self.most + 1), -np.inf)
        tried: list[tuple[NDArray[np.int64], Refined]] = []
        for users in range(self.most + 1):
            rows = np.flatnonzero((least <= users) & (users <= most))
            if not len(rows):
                continue
            found = self._refine(seen.theta[rows, :users], observation[rows])
            open_ = least[rows] < most[rows]
            evidence[rows, users] = 0
            if open_.any():
                some = observation[rows[open_]]
                evidence[rows[open_], users] = log_evidence(found.theta[open_], some, self.spacing)
            tried.append((rows, found))
        best = evidence.argmax(axis=-1)
        kept = [(rows, found, best[rows] == found.theta.shape[-1]) for rows, found in tried]
        return self._looked_again(observation, [(rows[mine], _some(found, mine)) for rows, found, mine in kept])

    def _looked_again(
        self, observation: NDArray[Any], frames: list[tuple[NDArray[np.int64], Refined]]
    ) -> list[tuple[NDArray[np.int64], Refined]]:
        """Where the users leave more than noise, search for one more, and keep what the evidence prefers."""
        done: list[tuple[NDArray[np.int64], Refined]] = []
        while frames:
            rows, found = frames.pop()
            users = found.theta.shape[-1]
            more = np.zeros(len(rows), np.bool_)
            if users < self.most and len(rows):
                more = left_over(found, observation[rows], self.spacing) > chance(observation.shape[1])
            if more.any():
                some = observation[rows[more]]
                start = alternating_projection(some, users + 1, self.spacing, bins=BINS_PER_ANTENNA * self.antennas)
                other = self._refine(start, some)
                gain = log_evidence(other.theta, some, self.spacing)
                better = gain > log_evidence(found.theta[more], some, self.spacing)
                frames.append((rows[more][better], _some(other, better)))
                more[np.flatnonzero(more)[~better]] = False
            if not more.all():
                done.append((rows[~more], _some(found, ~more)))
        return done

    def _refine(self, theta: Real, observation: NDArray[Any]) -> Refined:
        if theta.shape[-1]:
            found = refine(theta, observation, self.spacing, min(self.steps, FIRST_STEPS))
            open_ = found.step > SETTLED
            if self.steps > FIRST_STEPS and open_.any():
                more = refine(found.theta[open_], observation[open_], self.spacing, self.steps - FIRST_STEPS)
                for mine, theirs in zip(found, more, strict=True):
                    mine[open_] = theirs
            return found
        frames, snapshots = observation.shape[:2]
        noise_var = np.asarray(np.mean(np.abs(observation) ** 2, axis=(-2, -1), dtype=np.float64))
        none = np.zeros((frames, 0))
        return Refined(none, none, np.zeros((frames, snapshots, 0), np.complex128), noise_var, np.zeros(frames))


def _array_of(checkpoint: Checkpoint, antennas: int) -> tuple[NDArray[np.complex64] | None, bool]:
    """Return what the antennas' phase errors multiply an observation by, (N,), and whether the net reads without them.

    They are in the architecture, under "array", where the net was adapted to an array that has some: `phase` [rad] and
    `reads`, "field" or "corrected".
    """
    array = checkpoint.architecture.get("array")
    if array is None:
        return None, False
    try:
        phase, reads = np.asarray(array["phase"], np.float64), array["reads"]
    except (TypeError, KeyError, ValueError):
        raise BadCheckpoint(f"vae_ula.array: {array!r}, wanted phase and reads") from None
    if phase.shape != (antennas,) or not np.isfinite(phase).all() or reads not in {"field", "corrected"}:
        wanted = f"wanted ({antennas},), field or corrected"
        raise BadCheckpoint(f"vae_ula.array: phases {phase.shape}, reads {reads!r}; {wanted}")
    return np.exp(1j * phase).astype(np.complex64), reads == "corrected"


def left_over(found: Refined, observation: NDArray[Any], spacing: float = 0.5) -> Real:
    """Return the power of what users leave unexplained, over the noise, in the direction where it is largest, (F,)."""
    antennas = observation.shape[-1]
    response, _ = line(antennas, spacing)(found.theta)
    left = observation - found.gain @ response
    spectrum = on_grid(sample_covariance(left), BINS_PER_ANTENNA * antennas)
    return spectrum.max(axis=-1) / np.maximum(antennas * found.noise_var, np.finfo(np.float64).tiny)


def chance(snapshots: int) -> float:
    """Return what that is at most for noise alone, in 99 frames of a hundred.

    source: Wilson and Hilferty, PNAS 17(12), 1931, of a Gamma distribution of M snapshots
    """
    return (1 - 1 / (9 * snapshots) + CHANCE / (3 * np.sqrt(snapshots))) ** 3


def _some(found: Refined, which: NDArray[np.bool_]) -> Refined:
    return Refined._make(array[which] for array in found)


def _blank(frames: int, snapshots: int, users: int) -> Users:
    shape = (frames, users)
    return Users(
        np.zeros(shape),
        np.zeros(shape),
        np.zeros((frames, snapshots, users), np.complex128),
        np.zeros(shape, np.bool_),
        np.full(frames, np.nan),
        np.full((frames, snapshots), np.nan),
        np.full(frames, np.nan),
    )


def _put(made: Users, rows: NDArray[np.int64], found: Refined, spacing: float, antennas: int) -> None:
    users = found.theta.shape[-1]
    made.theta[rows, :users], made.mask[rows, :users] = found.theta, True
    made.gain[rows, :, :users] = found.gain
    made.noise_var[rows], made.step[rows] = found.noise_var, found.step
    made.error_var[rows] = found.noise_var[:, None] / antennas * (users + _share(found.gain) / 2)
    if users:
        made.deviation[rows, :users] = deviation(found.theta, found.gain, found.noise_var, antennas, spacing)


def _share(gain: Complex) -> Real:
    """Return sum_k |h_mk|^2 / sum_m |h_mk|^2, (F, M): which share of the errors of angles a snapshot sees."""
    power = np.abs(gain) ** 2
    return np.sum(power / np.maximum(power.sum(axis=-2, keepdims=True), np.finfo(np.float64).tiny), axis=-1)


def deviation(theta: Real, gain: Complex, noise_var: Real, antennas: int, spacing: float = 0.5) -> Real:
    """Return the standard deviations of angles at the maximum of the likelihood, for gains fitted by least squares.

    With fitted gains C the curvature B = Re(D^H (I - P_A) D * sum_m conj(h_m) h_m^T) holds the noise of the gains too,
    which adds to the scatter of the slope and not to the curvature: the covariance is sigma^2 / 2 C^-1 B C^-1, C being
    B less that share. Where it is all noise, a part of C is kept, so that nothing becomes infinite.

    theta: (F, K) [rad]    gain: (F, M, K)    noise_var: (F,)    returns (F, K) [rad]
    source: Stoica and Nehorai, IEEE Trans. ASSP 37(5), 1989, eq. (3.10), with estimates in place of what is known
    """
    atoms, slopes = line(antennas, spacing)(theta)
    own = atoms.conj() @ np.swapaxes(atoms, -1, -2)
    eye = np.eye(theta.shape[-1])
    inverse: Any = np.linalg.inv(own + 1e-9 * antennas * eye)
    cross = atoms.conj() @ np.swapaxes(slopes, -1, -2)
    inner = slopes.conj() @ np.swapaxes(slopes, -1, -2) - np.swapaxes(cross.conj(), -1, -2) @ inverse @ cross
    power = np.swapaxes(gain.conj(), -1, -2) @ gain
    full = (inner * power).real
    excess = (inner * np.swapaxes(inverse, -1, -2)).real * (gain.shape[-2] * noise_var)[..., None, None]
    scale = np.sqrt(np.maximum(np.diagonal(full, axis1=-2, axis2=-1), np.finfo(np.float64).tiny))
    both = scale[..., :, None] * scale[..., None, :]
    values, vectors = np.linalg.eigh(full / both + 1e-9 * eye)
    # In the coordinates in which B is the identity, what is taken off it is bounded.
    back = vectors / np.sqrt(np.maximum(values, 1e-9))[..., None, :]
    taken: Any = np.swapaxes(back, -1, -2) @ (excess / both) @ back
    shares, turn = np.linalg.eigh(taken)
    left = np.maximum(1 - shares, LEAST_CURVATURE)
    spread = (back @ turn) / left[..., None, :]
    variance = noise_var[..., None] / 2 * np.sum(spread**2, axis=-1) / scale**2
    return np.sqrt(variance)


def channels(found: Users, geometry: Geometry, steps: int) -> Estimate:
    """Return the users of frames as estimates of their slots, (M, F); of a frame they share all but gain and error_var.

    geometry: of the line, n_z = 1    steps: that were taken at most
    """
    snapshots = found.gain.shape[1]

    def of_slots(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
        return np.broadcast_to(array.astype(dtype), (snapshots, *array.shape))

    gain = np.swapaxes(found.gain, 0, 1).astype(np.complex64)
    u, v = of_slots(np.sin(found.theta), np.float32), of_slots(np.zeros(found.theta.shape), np.float32)
    mask = of_slots(found.mask, np.bool_)
    return Estimate(
        channel=render(gain, u, v, geometry, mask),
        gain=gain,
        u=u,
        v=v,
        mask=mask,
        noise_var=of_slots(found.noise_var, np.float32),
        error_var=found.error_var.T.astype(np.float32),
        iterations=of_slots(np.full(len(found.theta), steps), np.int32),
        converged=of_slots(found.step <= SETTLED, np.bool_),
    )
