"""Online learning of the net of `vae_ula`: from the frames of a stream that nobody has labelled, and with a guard.

Frames label themselves, as in training: angles at the maximum of the likelihood, found through the decoder, kept only
where the evidence is clear and nothing but noise is left. Where the array has drifted, its phases are learned as well,
so that the decoder stays true. Every few frames are held back from all that, and what was learned is published only if
it does better on them.

| symbol | name | meaning |
|---|---|---|
| N, M, F, B | | antennas, snapshots, frames, bins |
| phi_n | phase | phase error of antenna n [rad]: y_m = diag(exp(j phi)) A(theta) h_m + noise |
| sigma^2(theta) | noise_var | what a fit with users at theta leaves, see `refine` |
| e_f | excess | M (N - K) log(sigma^2(raw angles) / sigma^2(label)) [nat]; about sum_k (error_k / deviation_k)^2 / 2 |
| d_f | | difference of two excesses of one frame; nets are compared by its mean and its deviation |

source: paper 000, III-IV (training through the decoder, without labels); Li and Hoiem, IEEE Trans. PAMI 40(12), 2018
(why the old task is trained on as well); Polyak and Juditsky, SIAM J. Control Optim. 30(4), 1992 (averaged weights).
Decision: the guard
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp import vae_ula
from beamslot.dsp.calibration import PhaseCalibrator
from beamslot.dsp.doa.covariance import default_subarray
from beamslot.dsp.doa.maximum_likelihood import refine
from beamslot.dsp.doa.order import count_users
from beamslot.dsp.doa.peaks import pseudo_labels
from beamslot.dsp.estimate import refuse
from beamslot.dsp.nets import vae_ula_training as training
from beamslot.dsp.nets.checkpoint import Checkpoint
from beamslot.dsp.nets.layers import Net, Weights, fitting, module, net_of, weights_of
from beamslot.dsp.nets.serve import installed
from beamslot.dsp.ula import Real
from beamslot.errors import ShapeError

Calibrate = Literal["off", "decoder", "all"]
"""Whose array is corrected by the phases that were learned: nobody's, the decoder's, or also what the net reads."""

MARGIN = 1.0
"""By which the evidence must prefer the number of users of a label [nat]."""
LABELLED = 32
"""Frames that are labelled in one call at most."""
LEAST = 32
"""Labelled frames without which nothing is learned."""
LEAST_HELD = 16
"""Labelled frames, held back, without which nothing is judged."""
SURE = 3.0
"""Deviations of a mean difference beyond which it is one."""
AVERAGED = 0.98
"""What is kept, in a step, of the average of the weights that is the candidate."""
PHASE_GAIN = 1.0
"""What phases must gain on a frame, to be taken in place of those at hand [nat]."""
WRONG_COUNT = 0.02
"""Share of frames in which a candidate may see a wrong number of users beyond what the published net does."""
PRESENT = 0.5
"""Presence from which on a local maximum is a user, where nets are compared."""
REPLAYED_GROUPS = 4
"""Of the scene of the training, each of another kind."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an adapter learns.

    most: users of a frame at most; frames that seem to have as many are left out
    ring, held: frames that are kept to learn from and to judge by, the newest    hold_every: of which one is held back
    steps, batch, learning_rate: of Adam, in a call    replay: share of a batch that is of the scene of the training
    margin: relative, by which a net must be better to be published, or worse to be rolled back
    calibrate: see `Calibrate`    memory: see `calibration.PhaseCalibrator`    seed: of the scene of the training
    raises BadParam
    """

    most: int = 6
    ring: int = 256
    held: int = 64
    hold_every: int = 4
    steps: int = 4
    batch: int = 32
    learning_rate: float = 1e-3
    replay: float = 0.125
    margin: float = 0.05
    calibrate: Calibrate = "all"
    memory: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        refuse(
            ("adaptation.most", self.most, "at least 2", self.most >= 2),
            ("adaptation.ring", self.ring, f"at least {LEAST}", self.ring >= LEAST),
            ("adaptation.held", self.held, f"at least {LEAST_HELD}", self.held >= LEAST_HELD),
            ("adaptation.hold_every", self.hold_every, "at least 2", self.hold_every >= 2),
            ("adaptation.steps", self.steps, "at least 1", self.steps >= 1),
            ("adaptation.batch", self.batch, "at least 2", self.batch >= 2),
            ("adaptation.learning_rate", self.learning_rate, "more than 0", self.learning_rate > 0),
            ("adaptation.replay", self.replay, "0 .. 1", 0 <= self.replay <= 1),
            ("adaptation.margin", self.margin, "0 .. 1", 0 <= self.margin <= 1),
            ("adaptation.calibrate", self.calibrate, "off, decoder, all", self.calibrate in {"off", "decoder", "all"}),
        )


class Verdict(NamedTuple):
    """How nets do on frames held back.

    candidate, published, original: their mean excess [nat]    wrong_*: share of frames with a wrong number of users
    frames: that were judged by; 0 where they were too few, then all else is NaN
    change: what followed, "" for nothing, "published", "phase", "candidate rolled back", "phase rolled back",
        "published rolled back"
    """

    candidate: float = np.nan
    published: float = np.nan
    original: float = np.nan
    wrong_candidate: float = np.nan
    wrong_published: float = np.nan
    frames: int = 0
    change: str = ""


class Labelled(NamedTuple):
    """Frames with labels: theta, mask (F, K), noise_var (F,) of the fit there, sound (F,) whether they are believed."""

    theta: Real
    mask: NDArray[np.bool_]
    noise_var: Real
    sound: NDArray[np.bool_]


def label(observation: NDArray[Any], spacing: float = 0.5, most: int = 6) -> Labelled:
    """Return labels that frames give themselves.

    They are believed where the evidence prefers their number of users by `MARGIN`, where they are fewer than `most`,
    and where no direction holds more than noise beside them.

    observation: (F, M, N), of an array without errors
    """
    theta, mask, margin = vae_ula.self_labels(observation, spacing, most)
    users = mask.sum(axis=-1)
    noise_var, left = np.full(len(theta), np.nan), np.full(len(theta), np.inf)
    for count in np.unique(users[users > 0]).tolist():
        rows = np.flatnonzero(users == count)
        found = refine(theta[rows, :count], observation[rows], spacing, 0)
        noise_var[rows], left[rows] = found.noise_var, vae_ula.left_over(found, observation[rows], spacing)
    sound = (margin > MARGIN) & (users < most) & (left <= vae_ula.chance(observation.shape[1]))
    return Labelled(theta, mask, noise_var, sound)


class Ring:
    """The newest frames, so many of them, with their labels where they have been labelled.

    observation: (C, M, N) as they came    features: (C, 5, B) of them    labels: see `Labelled`    known: (C,) labelled
    """

    def __init__(self, length: int, shape: tuple[int, int], most: int) -> None:
        bins = vae_ula.BINS_PER_ANTENNA * shape[1]
        self.observation = np.zeros((length, *shape), np.complex64)
        self.features = np.zeros((length, vae_ula.CHANNELS, bins), np.float32)
        self.labels = Labelled(
            np.zeros((length, most)), np.zeros((length, most), np.bool_), np.ones(length), np.zeros(length, np.bool_)
        )
        self.known = np.zeros(length, np.bool_)
        self.age = np.full(length, -1)
        self._next = 0

    def put(self, frame: NDArray[Any]) -> None:
        """Take in a frame in place of the oldest."""
        at = self._next % len(self.age)
        self.observation[at], self.age[at] = frame, self._next
        self.known[at] = self.labels.sound[at] = False
        self._next += 1

    def newest(self, count: int, unknown: bool = False) -> NDArray[np.int64]:
        """Return where the newest frames are, of all or of those without a label."""
        there = np.flatnonzero((self.age >= 0) & ~(self.known & unknown))
        return there[np.argsort(-self.age[there])][:count]

    def believed(self) -> NDArray[np.int64]:
        """Return where frames are whose labels are believed."""
        return np.flatnonzero(self.labels.sound)

    def forget_labels(self) -> None:
        """Let all frames be labelled again."""
        self.known[:] = self.labels.sound[:] = False


class Adapter:
    """A net that goes on learning.

    checkpoint: of kind "vae_ula", where it begins, and what is returned to    antennas, spacing: N, d [wavelengths]
    raises BadParam, BadCheckpoint
    """

    def __init__(
        self, checkpoint: Checkpoint, *, antennas: int = 32, spacing: float = 0.5, settings: Settings | None = None
    ) -> None:
        installed("torch")
        self.settings, self.antennas, self.spacing = settings or Settings(), antennas, spacing
        self._checkpoint = checkpoint
        self._net: Net = net_of(checkpoint.architecture.get("net"), f"{checkpoint.kind}.net")
        self._original: Weights = fitting(self._net, checkpoint.weights, checkpoint.kind)
        self._published, self._published_at = self._original, 0
        self.phase: Real = np.zeros(antennas)
        self.version, self.publications, self.rolled_back, self.frames = 0, 0, 0, 0
        self._rings: tuple[Ring, Ring] | None = None
        self._phase_judged = False
        self._replay: training.Data | None = None
        self._calibrator, self._calibrated = self._new_calibrator(), None
        self._begin_from(self._published)

    def _new_calibrator(self) -> PhaseCalibrator | None:
        if self.settings.calibrate == "off":
            return None
        return PhaseCalibrator(self.antennas, self.spacing, memory=self.settings.memory)

    def _begin_from(self, weights: Weights) -> None:
        """Begin the candidate anew."""
        import torch

        self._learner = module(self._net, weights)
        self._optimiser = torch.optim.Adam(self._learner.parameters(), lr=self.settings.learning_rate)
        self.candidate: Weights = {name: array.copy() for name, array in weights.items()}

    @property
    def published(self) -> Checkpoint:
        """The net that is published; its architecture has the phases of the array, its card the version."""
        array = {"phase": self.phase.tolist(), "reads": "corrected" if self.settings.calibrate == "all" else "field"}
        architecture = {**self._checkpoint.architecture, **({"array": array} if self.phase.any() else {})}
        card = {**self._checkpoint.card, "version": self.version, "adapted_on_frames": self._published_at}
        return Checkpoint(self._checkpoint.kind, architecture, self._published, card)

    @property
    def believed(self) -> int:
        """Frames to learn from that have a label."""
        return 0 if self._rings is None else len(self._rings[0].believed())

    def add(self, frame: NDArray[Any]) -> bool:
        """Take in a frame, (M, N); return whether it is of use: finite, and not all zero.

        raises ShapeError for other antennas, or another number of snapshots than before
        """
        if frame.ndim != 2 or frame.shape[1] != self.antennas:
            raise ShapeError(f"adaptation: a frame is {frame.shape}, wanted (M, {self.antennas})")
        if self._rings is None:
            shape, most = (len(frame), self.antennas), self.settings.most
            self._rings = Ring(self.settings.ring, shape, most), Ring(self.settings.held, shape, most)
        learned, held = self._rings
        if frame.shape != learned.observation.shape[1:]:
            raise ShapeError(f"adaptation: a frame is {frame.shape}, wanted {learned.observation.shape[1:]} as before")
        if not np.isfinite(frame).all() or not frame.any():
            return False
        self.frames += 1
        if self.frames % self.settings.hold_every == 0:
            held.put(frame)
            return True
        learned.put(frame)
        if self._calibrator is not None:
            self._calibrator.add(frame)
        return True

    def step(self, rng: np.random.Generator) -> float:
        """Label what is new, take some steps of Adam; return their mean loss, NaN where there is too little.

        The work is bounded: `LABELLED` frames and `steps` batches. Nothing is learned before phases were judged once:
        frames of an array that is not what it seems have no labels.
        """
        if self._rings is None or not (self._phase_judged or self._calibrator is None):
            return np.nan
        left = LABELLED
        for ring in self._rings:
            left -= self._label(ring, left if ring is self._rings[1] else LABELLED * 3 // 4)
        if self.believed < LEAST:
            return np.nan
        return float(np.mean([self._adam(self._rings[0], rng) for _ in range(self.settings.steps)]))

    def _label(self, ring: Ring, most: int) -> int:
        """Label the newest frames that are not yet; return how many."""
        rows = ring.newest(most, unknown=True)
        if len(rows):
            corrected = self._corrected(ring.observation[rows])
            read = corrected if self.settings.calibrate == "all" else ring.observation[rows]
            ring.features[rows] = vae_ula.features(read)
            for array, found in zip(ring.labels, label(corrected, self.spacing, self.settings.most), strict=True):
                array[rows] = found
            ring.known[rows] = True
        return len(rows)

    def _corrected(self, observation: NDArray[Any], phase: Real | None = None) -> NDArray[np.complex64]:
        turn = np.exp(-1j * (self.phase if phase is None else phase))
        return (observation * turn).astype(np.complex64)

    def _adam(self, ring: Ring, rng: np.random.Generator) -> float:
        import torch

        torch.set_num_threads(1)
        loss = training.loss_of(self._learner, *self._batch(ring, rng))
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        for name, array in weights_of(self._learner).items():
            self.candidate[name] += np.float32(1 - AVERAGED) * (array - self.candidate[name])
        return loss.item()

    def _batch(self, ring: Ring, rng: np.random.Generator) -> tuple[NDArray[np.float32], training.Targets]:
        """Draw frames of the stream, and some of the scene of the training."""
        old = round(self.settings.replay * self.settings.batch)
        rows = rng.choice(ring.believed(), self.settings.batch - old)
        read, theta, mask = ring.features[rows], ring.labels.theta[rows], ring.labels.mask[rows]
        # Only an array without errors is its own mirror image.
        turned = (rng.random(len(rows)) < 0.5) & (self.settings.calibrate != "decoder")
        read[turned], theta = training.mirrored(read[turned]), np.where(turned[:, None], -theta, theta)
        wanted = training.targets(theta, mask, read.shape[-1], self.spacing)
        if not old:
            return read, wanted
        known = self.prepare()
        rows = rng.integers(len(known.features), size=old)
        more = training.targets(known.theta[rows], known.mask[rows], read.shape[-1], self.spacing)
        both = training.Targets._make(np.concatenate(pair) for pair in zip(wanted, more, strict=True))
        return np.concatenate([read, known.features[rows]]), both

    def prepare(self) -> training.Data:
        """Return frames of the scene of the training, made at the first call; that takes seconds."""
        if self._replay is None:
            wanted = {"antennas": self.antennas, "spacing": self.spacing, "seed": self.settings.seed}
            scene = training.Config(frames=REPLAYED_GROUPS * training.GROUP, **wanted)
            self._replay = training.gather(scene)
        return self._replay

    def judge(self) -> Verdict:
        """Compare on the frames held back, and publish or roll back what they tell to.

        Of several changes only the first is made: phases, on which all else depends, before nets.
        """
        if self._rings is None:
            return Verdict()
        held = self._rings[1]
        change = self._judge_phase(held)
        rows = held.believed()
        if change or len(rows) < LEAST_HELD:
            return Verdict(change=change)
        nets = (self.candidate, self._published, self._original)
        (candidate, wrong), (published, wrong_published), (original, _) = (self._scores(held, w, rows) for w in nets)
        more_wrong = float(np.mean(wrong) - np.mean(wrong_published))
        return Verdict(
            float(candidate.mean()),
            float(published.mean()),
            float(original.mean()),
            float(wrong.mean()),
            float(wrong_published.mean()),
            len(rows),
            self._decide(candidate, published, original, more_wrong),
        )

    def _scores(self, ring: Ring, weights: Weights, rows: NDArray[np.int64]) -> tuple[Real, NDArray[np.bool_]]:
        """Return the excess of frames held back, and whether the number of users is wrong."""
        said = outputs(self._net, weights, ring.features[rows])
        users = ring.labels.mask[rows].sum(axis=-1)
        corrected = self._corrected(ring.observation[rows])
        excess = np.zeros(len(rows))
        for count in np.unique(users).tolist():
            mine = np.flatnonzero(users == count)
            theta = vae_ula.candidates(said[mine], count, self.spacing).theta
            fit = refine(theta, corrected[mine], self.spacing, 0).noise_var
            size = corrected.shape[1] * (self.antennas - count)
            excess[mine] = size * np.log(fit / ring.labels.noise_var[rows[mine]])
        seen = vae_ula.candidates(said, self.settings.most, self.spacing).presence
        return excess, np.sum(seen > PRESENT, axis=-1) != users

    def _decide(self, candidate: Real, published: Real, original: Real, more_wrong: float) -> str:
        margin = self.settings.margin
        if worse(published, original, margin):
            self._roll_back(self._original)
            self._publish(self._original)
            return "published rolled back"
        if worse(published, candidate, margin) and more_wrong <= WRONG_COUNT:
            self._publish({name: array.copy() for name, array in self.candidate.items()})
            return "published"
        if worse(candidate, published, margin):
            self._roll_back(self._published)
            return "candidate rolled back"
        return ""

    def _publish(self, weights: Weights) -> None:
        self._published, self._published_at = weights, self.frames
        self.version, self.publications = self.version + 1, self.publications + 1

    def _roll_back(self, weights: Weights) -> None:
        self.rolled_back += 1
        self._begin_from(weights)

    def _judge_phase(self, ring: Ring) -> str:
        """Take the phases that were learned if frames held back fit them better; learn anew if worse."""
        rows = ring.newest(LABELLED)
        learned = self._calibrator
        if learned is None or not learned.frames or len(rows) < LEAST_HELD:
            return ""
        self._phase_judged = True
        observation = ring.observation[rows]
        found = count_users(self._corrected(observation), subarray=default_subarray(self.antennas))
        users = np.clip(found, 1, self.settings.most)
        phase = np.asarray(learned.phase, np.float64)
        gain = self._misfit(observation, self.phase, users) - self._misfit(observation, phase, users)
        if worse(gain, np.full_like(gain, PHASE_GAIN), 0.0):
            self.phase, self._calibrated = phase.copy(), learned.snapshot()
            for each in self._rings or ():
                each.forget_labels()
            self._begin_from(self._published)
            self._publish(self._published)
            return "phase"
        if worse(-gain, np.full_like(gain, PHASE_GAIN), 0.0):
            self.rolled_back += 1
            self._calibrator = self._new_calibrator()
            if self._calibrator is not None and self._calibrated is not None:
                self._calibrator.restore(self._calibrated)
            return "phase rolled back"
        return ""

    def _misfit(self, observation: NDArray[Any], phase: Real, users: NDArray[Any]) -> Real:
        """Return minus the log-likelihood of frames, of the angles that it is largest at, up to a constant [nat]."""
        corrected, found = self._corrected(observation, phase), np.zeros(len(observation))
        for count in np.unique(users).tolist():
            rows = np.flatnonzero(users == count)
            start = pseudo_labels(corrected[rows], count, self.spacing)
            fit = refine(start, corrected[rows], self.spacing, 4)
            found[rows] = corrected.shape[1] * (self.antennas - count) * np.log(fit.noise_var)
        return found

    def snapshot(self) -> dict[str, Any]:
        """Return what was learned; the frames it was learned from are not part of it."""
        counts = {name: getattr(self, name) for name in ("version", "publications", "rolled_back", "frames")}
        phases = {"phase": self.phase.copy(), "calibrated": self._calibrated or {}}
        learned = self._calibrator.snapshot() if self._calibrator is not None else {}
        return {
            **counts,
            **phases,
            "published_at": self._published_at,
            "calibrator": learned,
            "published": {name: array.copy() for name, array in self._published.items()},
            "candidate": {name: array.copy() for name, array in self.candidate.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` gave; frames and the moments of Adam are gathered anew."""
        for name in ("version", "publications", "rolled_back", "frames"):
            setattr(self, name, int(state[name]))
        self.phase, self._calibrated = np.array(state["phase"]), dict(state["calibrated"]) or None
        if self._calibrator is not None:
            self._calibrator.restore(state["calibrator"])
        self._published_at = int(state["published_at"])
        self._published = fitting(self._net, state["published"], "adaptation")
        self._begin_from(fitting(self._net, state["candidate"], "adaptation"))


def outputs(net: Net, weights: Mapping[str, NDArray[Any]], features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a net says of features, (F, 2, B)."""
    import torch

    with torch.no_grad():
        return module(net, weights)(torch.from_numpy(features)).numpy()


def worse(one: Real, other: Real, margin: float) -> bool:
    """Return whether scores (F,) of the same frames are larger: by the margin in the mean, and not by chance."""
    difference = one - other
    spread = difference.std() / np.sqrt(max(len(difference) - 1, 1))
    return bool(one.mean() > (1 + margin) * other.mean() and difference.mean() > SURE * spread)
