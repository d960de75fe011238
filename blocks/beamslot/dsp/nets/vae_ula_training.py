"""Training of the net of `vae_ula`, without labels: frames label themselves through the decoder.

Every frame is an observation and nothing else. Its angles are those at which the collapsed ELBO (powers and noise
learned) is largest, found by alternating projection and Gauss-Newton steps through the decoder; frames whose evidence
does not prefer their number of users clearly are left out. The net learns to see at a glance what that search finds.

| symbol | name | meaning |
|---|---|---|
| t_b | presence | max_k exp(-(b - b_k)^2), b_k where user k is [bins] |
| o_b | offset | b_k - b of the user next to bin b, within `NEAR` |
| loss | | cross-entropy of sigmoid(x_b) and t_b, plus Huber's of the offset |

source: paper 000, III-IV (training through the fixed decoder); Decision: the maximum of the ELBO in place of its
gradient, which from a bad start finds the next local maximum only
"""

import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from beamslot.dsp import vae_ula
from beamslot.dsp.nets.checkpoint import Checkpoint, load, save
from beamslot.dsp.nets.layers import Net, Weights, chain, initial, module, plain, weights_of
from beamslot.dsp.ula import S0, S1, Real, UlaScene
from beamslot.errors import BadCheckpoint

Progress = Callable[[dict[str, Any]], None]
"""Told `step` of `steps`, where the groups of frames that are labelled count as steps too, the `phase`, and numbers."""

MODEL, LABELS = "vae_ula.safetensors", "labels.safetensors"
"""Names in the folder of a training: what it makes, and what it need not do again when it is stopped."""

GROUP = 64
"""Frames of one kind that are made together."""
NEAR = 1.5
"""Bins from a user within which the net says where it is."""
OFFSET_WEIGHT = 1.0
"""Of the loss of the offset, beside that of the presence."""
HUBER = 0.1
"""Where Huber's loss becomes linear [bins]."""
EDGE = 1.3
"""Largest angle of a user [rad]."""
NARROWEST = 0.15
"""Least half width of a sector [rad]; narrow ones are full of close pairs."""


class Config(BaseModel):
    """What is trained, and on what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["vae_ula"] = "vae_ula"
    seed: int = Field(0, ge=0, description="of everything that is drawn")
    antennas: int = Field(32, ge=4, description="N; the net serves others too, its bins scale with them")
    spacing: float = Field(0.5, gt=0, description="of the elements [wavelengths]")
    frames: int = Field(8192, ge=GROUP, description="observations, each seen many times, and mirrored")
    most_users: int = Field(5, ge=1, le=8, description="users of a frame at most")
    snapshots: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 2, 5, 10, 20, 40, 40, 80), min_length=1, description="M, one drawn for a group of frames"
    )
    snr_db: tuple[float, float] = Field((-10.0, 20.0), description="uniform between, a frame")
    separation: float = Field(S1, ge=0, description="least, in sin(theta)")
    correlations: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.0, 0.0, 0.9, 0.99, 1.0), min_length=1, description="rho, one drawn for a group"
    )
    labels: Literal["self", "true"] = Field("self", description="true: supervised, for comparison")
    margin: float = Field(1.0, ge=0, description="by which the evidence must prefer the number of users [nat]")
    width: int = Field(16, ge=1, le=256, description="channels of a layer")
    kernel: int = Field(5, ge=1, description="bins of a kernel, odd")
    dilations: tuple[int, ...] = Field((1, 2, 4, 8, 4, 1), min_length=1, description="one layer each")
    steps: int = Field(4000, ge=1, description="of Adam")
    batch: int = Field(32, ge=1, description="frames of a step")
    learning_rate: float = Field(3e-3, gt=0, description="at the start; it falls as a cosine to 0")
    threads: int = Field(1, ge=1, description="of torch; another number may round otherwise")


DRAWN = ("seed", "antennas", "spacing", "frames", "most_users", "snapshots", "snr_db", "separation", "correlations")
DRAWN += ("labels", "margin")
"""Of a configuration, what labels depend on."""


class Data(NamedTuple):
    """Frames to learn from: features (F, 5, B), angles and mask (F, K)."""

    features: NDArray[np.float32]
    theta: Real
    mask: NDArray[np.bool_]


def train(config: Config, out: Path, progress: Progress | None = None) -> Checkpoint:
    """Train, and leave the checkpoint in the folder `out`; the same configuration makes the same weights.

    Labels are kept there as well, so that a training that was stopped goes on behind them.

    progress: told how far it is; may raise KeyboardInterrupt to stop
    raises BadCheckpoint where `out` holds labels of another configuration, StorageError
    """
    tell = progress or _silent
    data = _kept_data(config, out, tell)
    weights, loss = _fit(config, data, tell)
    bare = Checkpoint(vae_ula.KIND, _architecture(config), weights)
    metrics = {"loss": loss, **measure(bare, config)}
    card = {
        "data": config.model_dump(mode="json"),
        "seed": config.seed,
        "steps": config.steps,
        "kept": f"{len(data.features)} of {_groups(config) * GROUP} frames",
        "metrics": metrics,
        "command": "python tools/train_vae vae_ula.yml",
        "versions": _versions(),
    }
    done = Checkpoint(bare.kind, bare.architecture, weights, card)
    save(out / MODEL, done)
    steps = _groups(config) + config.steps
    tell({"step": steps, "steps": steps, "phase": "result", **metrics})
    return done


def _kept_data(config: Config, out: Path, progress: Progress) -> Data:
    """Return the data that `out` holds, or gather them and keep them there."""
    drawn = {name: value for name, value in config.model_dump(mode="json").items() if name in DRAWN}
    if (out / LABELS).exists():
        found = load(out / LABELS, f"{vae_ula.KIND}_labels")
        if found.architecture != drawn:
            raise BadCheckpoint(f"{out / LABELS}: labels of another configuration; --fresh starts anew")
        steps = _groups(config) + config.steps
        progress({"step": _groups(config), "steps": steps, "phase": "labels", "resumed": 1})
        return Data(found.weights["features"], found.weights["theta"], found.weights["mask"] > 0)
    data = gather(config, progress)
    arrays = {"features": data.features, "theta": data.theta, "mask": data.mask.astype(np.int64)}
    save(out / LABELS, Checkpoint(f"{vae_ula.KIND}_labels", drawn, arrays))
    return data


def gather(config: Config, progress: Progress | None = None) -> Data:
    """Return the frames to learn from, labelled by themselves unless the configuration says otherwise."""
    groups, parts = _groups(config), []
    for index, (observation, theta) in enumerate(_observations(config, groups)):
        parts.append(_labelled(config, observation, theta))
        told = {"step": index + 1, "steps": groups + config.steps, "phase": "labels"}
        (progress or _silent)(told)
    return Data(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _groups(config: Config) -> int:
    return config.frames // GROUP


def _observations(config: Config, groups: int) -> Iterator[tuple[NDArray[np.complex64], Real]]:
    """Yield observations (F, M, N), and the true angles, which only supervised training looks at."""
    for index in range(groups):
        rng = np.random.default_rng((config.seed, index))
        yield _group(config, rng)


def _group(config: Config, rng: np.random.Generator) -> tuple[NDArray[np.complex64], Real]:
    users = int(rng.integers(1, config.most_users + 1))
    half = rng.uniform(NARROWEST, EDGE)
    middle = rng.uniform(half - EDGE, EDGE - half)
    # Half of the room in the sector at most, so that drawing angles ends soon.
    room = (np.sin(middle + half) - np.sin(middle - half)) / (2 * users)
    scene = UlaScene(
        antennas=config.antennas,
        users=users,
        snapshots=int(rng.choice(config.snapshots)),
        spacing=config.spacing,
        sector=(middle - half, middle + half),
        separation=float(min(config.separation, room)),
        correlation=float(rng.choice(config.correlations)),
        k_factor_db=10.0 if rng.random() < 0.2 else None,
        mean_phase="random",
    )
    frames = scene.frames(rng, GROUP, rng.uniform(*config.snr_db, GROUP))
    return frames.observation, frames.theta


def _labelled(config: Config, observation: NDArray[np.complex64], true: Real) -> Data:
    theta = np.zeros((len(observation), config.most_users + 1))
    mask = np.zeros(theta.shape, np.bool_)
    kept = np.ones(len(observation), np.bool_)
    if config.labels == "true":
        theta[:, : true.shape[1]], mask[:, : true.shape[1]] = true, True
    else:
        theta, mask, margin = vae_ula.self_labels(observation, config.spacing, config.most_users + 1)
        kept = margin > config.margin
    return Data(vae_ula.features(observation)[kept], theta[kept], mask[kept])


class Targets(NamedTuple):
    """What the net should say: presence, offset, and where the offset counts; (F, B) each."""

    presence: NDArray[np.float32]
    offset: NDArray[np.float32]
    near: NDArray[np.bool_]


def targets(theta: Real, mask: NDArray[np.bool_], bins: int, spacing: float = 0.5) -> Targets:
    """Return the targets of frames with users at theta (F, K) [rad] where mask is.

    source: the module's
    """
    place = bins * (0.5 + spacing * np.sin(theta))
    away = place[:, None, :] - np.arange(bins)[:, None]
    away = np.where(mask[:, None, :], (away + bins / 2) % bins - bins / 2, bins)
    nearest = np.take_along_axis(away, np.abs(away).argmin(axis=-1, keepdims=True), axis=-1)[..., 0]
    presence = np.exp(-(nearest**2))
    return Targets(presence.astype(np.float32), nearest.astype(np.float32), np.abs(nearest) < NEAR)


def mirrored(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features of frames whose angles have the other sign, (F, 5, B); that is what y* would give."""
    return np.roll(features[..., ::-1], 1, axis=-1)


def _net(config: Config) -> Net:
    channels = [vae_ula.CHANNELS, *[config.width] * len(config.dilations), vae_ula.OUTPUTS]
    return chain(channels, [config.kernel], ["circular"], [[step] for step in config.dilations])


def _architecture(config: Config) -> dict[str, Any]:
    return {"net": plain(_net(config)), "features": vae_ula.FEATURES}


def _fit(config: Config, data: Data, progress: Progress) -> tuple[Weights, float]:
    import torch

    torch.set_num_threads(config.threads)
    rng = np.random.default_rng((config.seed, config.frames))
    built = module(_net(config), initial(_net(config), rng))
    optimiser = torch.optim.Adam(built.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    mean = 0.0
    for step in range(config.steps):
        loss = loss_of(built, *_batch(config, data, rng))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        mean += (loss.item() - mean) / min(step + 1, 200)
        if (step + 1) % 100 == 0 or step + 1 == config.steps:
            groups = _groups(config)
            told = {"step": groups + step + 1, "steps": groups + config.steps, "phase": "steps"}
            progress({**told, "loss": round(mean, 6)})
    return weights_of(built), mean


def _batch(config: Config, data: Data, rng: np.random.Generator) -> tuple[NDArray[np.float32], Targets]:
    chosen = rng.integers(len(data.features), size=config.batch)
    turned = rng.random(config.batch) < 0.5
    read = data.features[chosen]
    read[turned] = mirrored(read[turned])
    theta = np.where(turned[:, None], -data.theta[chosen], data.theta[chosen])
    return read, targets(theta, data.mask[chosen], read.shape[-1], config.spacing)


def loss_of(built: Any, features: NDArray[np.float32], wanted: Targets) -> Any:
    """Return the loss of a batch, a torch scalar: cross entropy of presences, Huber's of the offsets near users."""
    import torch
    from torch.nn import functional

    said = built(torch.from_numpy(features))
    presence, offset, near = (torch.from_numpy(array) for array in wanted)
    seen = functional.binary_cross_entropy_with_logits(said[:, 0], presence)
    placed = functional.huber_loss(said[:, 1][near], offset[near], delta=HUBER) / HUBER if near.any() else 0.0
    return seen + OFFSET_WEIGHT * near.float().mean() * placed


def measure(checkpoint: Checkpoint, config: Config, frames: int = 256) -> dict[str, float]:
    """Return how the net does on frames that it was not trained on, S0, M = 40, before and after the steps."""
    scene = UlaScene(antennas=config.antennas, spacing=config.spacing, separation=S0 * 32 / config.antennas)
    told, untold = (
        vae_ula.VaeUla(antennas=config.antennas, spacing=config.spacing, users=users, checkpoint=checkpoint)
        for users in (scene.users, 0)
    )
    found: dict[str, float] = {}
    for snr_db in (-10, 0, 10, 20):
        drawn = scene.frames(np.random.default_rng((config.seed, 10**6)), frames, snr_db)
        for name, theta in {
            "raw": told.starts(drawn.observation, scene.users),
            "refined": told.estimate(drawn.observation).theta,
        }.items():
            error = np.rad2deg(np.abs(theta - drawn.theta)).max(axis=-1)
            inside = error < 1.79
            rmse = np.sqrt(np.mean(np.rad2deg(theta - drawn.theta)[inside] ** 2)) if inside.any() else float("inf")
            found[f"{name}_rmse_deg_{snr_db}db"] = round(float(rmse), 5)
            found[f"{name}_outliers_{snr_db}db"] = float(np.mean(~inside))
        counted = untold.estimate(drawn.observation).mask.sum(axis=-1)
        found[f"right_count_{snr_db}db"] = float(np.mean(counted == scene.users))
    return found


def _versions() -> dict[str, str]:
    import torch

    return {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}


def _silent(told: dict[str, Any]) -> None:
    """Say nothing."""
