"""Training of the net of `vae_upa` on slots without labels: by what the decoder finds, then by the collapsed ELBO.

Slots are streamed: channels of the clustered scene behind a pool of operators (arrays, antennas a chain, numbers and
kinds of groups, intervals), each slot seen once. No truth is used, neither paths nor noise.

| symbol | name | meaning |
|---|---|---|
| pi_c, x_c | exists, atoms | probability of a path in cell c, logistic in the heat; its atom, where the offsets say |
| P | power | |a|^2 of the least-squares gains of all paths and candidates together |
| q | | prior probability of a path in a cell |
| C | | covariance of y, gains collapsed: sigma^2 I + sum_k P_k x_k x_k^H + sum_c pi_c P_c x_c x_c^H |

- Initialisation: the decoder searches each slot without the net (`vp_nomp`); its paths, weighted by their evidence, are
  the pseudo-labels of the heat-map (cross-entropy) and of the offsets.
- ELBO: y^H C^-1 y + ln det C + sum_c KL(Bernoulli(pi_c) || Bernoulli(q)), k the paths in the model, c the likeliest
  cells (all of them in the divergence). With Gaussian gains it is the exact collapsed bound, but that pi_c scales a
  power, which relaxes the choice. The gradient reaches the net through the atoms and through pi.

Passes are on-policy: the second reads what the Gauss-Newton steps of the decoder left of the first.

source: Guo, Xiao, Chen, "Unsupervised Massive MIMO Channel Estimation with Dual-Path Knowledge-Aware Auto-Encoders",
eqs. (7) and (14), the two phases
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch.nn import functional

from beamslot.dsp.beams import group_beams, random_beams
from beamslot.dsp.channel import PathChannel, add_noise, noise_variance
from beamslot.dsp.combine import combine
from beamslot.dsp.grouping import balanced_random, contiguous, interleaved
from beamslot.dsp.metrics import nmse
from beamslot.dsp.nets.checkpoint import Checkpoint, load, save
from beamslot.dsp.nets.layers import chain, initial, module, plain, weights_of
from beamslot.dsp.path_search import Settings
from beamslot.dsp.vae_upa import (
    CHANNELS,
    FURTHEST,
    KIND,
    OUTPUTS,
    STEPS,
    Images,
    Known,
    VaeUpa,
    joined,
    normalised_slots,
)
from beamslot.dsp.vp_nomp import SlotSearch
from beamslot.errors import BadCheckpoint
from beamslot.frame import Geometry, Operator

SAME = 0.35
"""A pseudo-label nearer than this to a path of the model, in u and in v, is explained [cells]."""
CANDIDATES = 12
"""Cells that may explain something in the ELBO."""
EXPECTED = 10.0
"""Prior mean of the number of paths in a slot."""
QUIET = 10.0
"""Slots whose noise has less than one over this of their mean power weigh in proportion to it."""
OFFSETS = 4.0
"""Weight of the offsets beside the cross-entropy."""
STEEPEST = 10.0
"""Norm that gradients are clipped to."""
RISE = 0.1
"""Share of the steps in which the learning rate rises."""
FIRST_HEAT = -5.0
"""Log-odds of a cell before anything is learned."""

Kind = Literal["balanced_random", "interleaved", "contiguous", "random_beams"]
Progress = Callable[[dict[str, Any]], None]
"""Told numbers by name, `step` and `steps` among them; may raise KeyboardInterrupt to stop."""
MODEL, STATE = "vae_upa.safetensors", "state.safetensors"
"""Of the folder that a training writes to: what it makes, and where it stands if it was stopped."""
TOLD = 100
"""Losses are told about so often in a training."""
JUDGED, HELD_BACK = 100, 1_000_003
"""Slots that a net is judged on, and their seed, of which no step takes one."""


class Config(BaseModel):
    """How the net is trained; all that the checkpoint depends on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["vae_upa"] = KIND
    seed: int = Field(2026, ge=0, description="of weights, operators and slots")
    steps: int = Field(1500, ge=1, description="of the optimiser")
    elbo_share: float = Field(0.4, ge=0, le=1, description="share of the steps, the last ones, that add the ELBO")
    label_weight: float = Field(0.3, ge=0, description="of the pseudo-labels beside the ELBO")
    batch: int = Field(12, ge=1, description="slots a step, behind one operator")
    passes: int = Field(2, ge=1, description="how often the net looks at a slot")
    width: int = Field(16, ge=1, description="channels of the inner layers")
    depth: int = Field(4, ge=1, description="layers with a kernel")
    learning_rate: float = Field(3e-3, gt=0, description="of Adam, at its largest")
    operators: int = Field(24, ge=1, description="in the pool that slots pass through")
    arrays: tuple[tuple[int, int, int], ...] = Field(
        ((64, 72, 12), (64, 72, 12), (32, 72, 12), (64, 48, 8), (48, 60, 10)),
        description="columns, rows, antennas a chain",
    )
    groups: tuple[int, ...] = Field((3, 4, 6), description="numbers of groups")
    kinds: tuple[Kind, ...] = Field(("balanced_random", "balanced_random", "interleaved"), description="of grouping")
    intervals: tuple[tuple[float, float], ...] = Field(
        ((-0.5, 0.0), (-0.5, 0.0), (-0.45, 0.15)), description="of v, that beams and paths keep to"
    )
    snr_db: tuple[float, float] = Field((-10.0, 20.0), description="per antenna, uniform within [dB]")
    paths: tuple[int, int] = Field((2, 20), description="of a slot, uniform within")
    guard: float = Field(0.1, ge=0, description="searched beyond the interval, in v")


class Scene(NamedTuple):
    """One array behind one operator, and what is computed for it once."""

    geometry: Geometry
    operator: Operator
    m: int
    images: Images
    teacher: SlotSearch
    between: SlotSearch


class Slots(NamedTuple):
    """Observations (S, y, chain) of unit mean power, and what the decoder finds in them without the net.

    labels: its paths    weight: (S, K) how much of a gain its evidence believes    noise_var: (S,)
    """

    observation: NDArray[np.complex64]
    labels: Known
    weight: NDArray[np.float32]
    noise_var: NDArray[np.float32]


def scene(config: Config, rng: np.random.Generator) -> Scene:
    """Return an array and an operator of the pool."""
    n_y, n_z, m = config.arrays[rng.integers(len(config.arrays))]
    interval = config.intervals[rng.integers(len(config.intervals))]
    groups = config.groups[rng.integers(len(config.groups))]
    kind = config.kinds[rng.integers(len(config.kinds))]
    operator = operator_of_kind(kind, (n_y, n_z, m), groups, interval, rng)
    return _scene(config, Geometry(n_y, n_z), operator, m)


def operator_of_kind(
    kind: Kind, array: tuple[int, int, int], groups: int, interval: tuple[float, float], rng: np.random.Generator
) -> Operator:
    """Return the operator of an array (columns, rows, antennas a chain)."""
    n_y, n_z, m = array
    if kind == "random_beams":
        return Operator(random_beams(n_y, n_z // m, m, rng), np.zeros(n_y, np.int16), interval)
    if kind == "balanced_random":
        group = balanced_random(n_y, groups, rng)
    else:
        group = (interleaved if kind == "interleaved" else contiguous)(n_y, groups)
    return Operator(group_beams(group, interval, n_z // m, m), group, interval)


def _scene(config: Config, geometry: Geometry, operator: Operator, m: int) -> Scene:
    whole = Settings(expected_paths=EXPECTED)
    between = whole._replace(max_rounds=0, final_rounds=STEPS)
    searches = [SlotSearch(geometry, operator, one, config.guard) for one in (whole, between)]
    return Scene(geometry, operator, m, Images(geometry, operator, config.guard), *searches)


def stream(config: Config, scene: Scene, rng: np.random.Generator) -> Slots:
    """Return the next slots behind a scene: as they are observed, and what the decoder says of them."""
    seeds = rng.integers(0, 2**63, 2)
    low, high = config.paths
    channel = PathChannel(
        geometry=scene.geometry, paths=int(rng.integers(low, high + 1)), interval=scene.operator.interval, redraw=1
    )
    field: Any = channel.evolve(range(config.batch), _keyed(seeds[0])).field
    levels = np.array([noise_variance(float(snr)) for snr in rng.uniform(*config.snr_db, config.batch)])
    noisy = add_noise(field[:, 0], levels, np.random.default_rng(seeds[1]))
    observed = normalised_slots(combine(noisy, scene.operator.weights), scene.images.column)
    found = scene.teacher.estimate(observed)
    labels = Known(found.u, found.v, found.mask)
    least = np.sqrt(scene.images.residual(observed, labels)[1])
    weight = np.divide(np.abs(found.gain), least, out=np.zeros_like(least), where=least > 0)
    return Slots(observed, labels, np.clip(weight, 0, 1), found.noise_var)


class Targets(NamedTuple):
    """Pseudo-labels by cell: heat (S, V, U), weight of a path; offset (S, 2, V, U) in u and v."""

    heat: NDArray[np.float32]
    offset: NDArray[np.float32]


def targets(images: Images, slots: Slots, known: Known) -> Targets:
    """Return what the heat-map should say of the pseudo-labels that the paths of the model do not explain."""
    labels = slots.labels
    near = (np.abs(labels.u[:, :, None] - known.u[:, None]) < SAME * images.cell_u) & known.mask[:, None]
    near &= np.abs(labels.v[:, :, None] - known.v[:, None]) < SAME * images.cell_v
    slot, path = np.nonzero(labels.mask & ~near.any(axis=-1))
    order = np.argsort(slots.weight[slot, path], kind="stable")
    slot, path = slot[order], path[order]
    row, column, du, dv = images.cells(labels.u[slot, path], labels.v[slot, path])
    heat = np.zeros((len(slots.observation), *images.shape), np.float32)
    offset = np.zeros((len(heat), 2, *images.shape), np.float32)
    heat[slot, row, column] = slots.weight[slot, path]
    offset[slot, :, row, column] = np.stack([du, dv], axis=-1)
    return Targets(heat, offset)


def label_loss(outputs: torch.Tensor, wanted: Targets) -> torch.Tensor:
    """Return the cross-entropy of the heat-map and the error of the offsets, in nats a slot.

    outputs: (S, OUTPUTS, V, U)
    """
    heat, offset = torch.from_numpy(wanted.heat), torch.from_numpy(wanted.offset)
    entropy = functional.binary_cross_entropy_with_logits(outputs[:, 0], heat, reduction="sum")
    error = functional.smooth_l1_loss(outputs[:, 1:], offset, reduction="none", beta=0.1).sum(dim=1)
    return (entropy + OFFSETS * torch.sum(heat * error)) / len(heat)


def elbo_loss(outputs: torch.Tensor, scene: Scene, slots: Slots, known: Known) -> torch.Tensor:
    """Return the negative collapsed ELBO less its constant, in nats a slot; see the module's table.

    Slots with little noise weigh less, by the variance of it over the mean power, else they would be all that counts.

    outputs: (S, OUTPUTS, V, U)    known: paths in the model, each there for certain
    """
    images, count = scene.images, len(slots.observation)
    heat = outputs[:, 0].reshape(count, -1)
    top = torch.topk(heat.detach(), min(CANDIDATES, heat.shape[1]), dim=1).indices
    du, dv = (
        torch.clamp(torch.gather(outputs[:, axis].reshape(count, -1), 1, top), -FURTHEST, FURTHEST) for axis in (1, 2)
    )
    u = -1 + (top % images.shape[1] + 0.5 + du) * images.cell_u
    v = images.low + (top // images.shape[1] + 0.5 + dv) * images.cell_v
    exists = torch.sigmoid(torch.gather(heat, 1, top))
    fixed = torch.from_numpy(known.mask).to(exists.dtype)
    u, v = torch.cat([torch.from_numpy(known.u), u], dim=1), torch.cat([torch.from_numpy(known.v), v], dim=1)
    misfit = collapsed(scene, slots, u, v, torch.cat([fixed, exists], dim=1))
    bound = misfit + _divergence(heat, min(EXPECTED / heat.shape[1], 0.5))
    return torch.mean(torch.from_numpy(np.minimum(1.0, QUIET * slots.noise_var.astype(np.float64))) * bound)


def _divergence(heat: torch.Tensor, prior: float) -> torch.Tensor:
    """KL of Bernoulli variables with these log-odds to those of the prior, summed over the cells of a slot."""
    odds = float(np.log(prior / (1 - prior)))
    inner = torch.sigmoid(heat) * (heat - odds) - functional.softplus(heat)
    return torch.sum(inner, dim=1) + heat.shape[1] * float(np.log1p(np.exp(odds)))


def collapsed(scene: Scene, slots: Slots, u: torch.Tensor, v: torch.Tensor, exists: torch.Tensor) -> torch.Tensor:
    """Return y^H C^-1 y + ln det(C / sigma^2) - ||y||^2 / sigma^2 of each slot, without ever forming C.

    u, v: (S, K)    exists: (S, K) what the powers are scaled by
    source: matrix inversion and determinant lemmas
    """
    atoms = _atoms(scene, u, v)
    noise = torch.from_numpy(slots.noise_var.astype(np.float64))[:, None]
    y = torch.from_numpy(slots.observation[:, scene.images.column].reshape(len(u), -1).astype(np.complex128))
    gram = atoms.conj() @ atoms.transpose(-1, -2)
    matched = (atoms.conj() @ y[..., None])[..., 0]
    own = torch.eye(gram.shape[-1], dtype=gram.dtype)
    with torch.no_grad():
        ridge = gram + own * (1e-3 * torch.diagonal(gram, dim1=-2, dim2=-1).real.mean(-1)[:, None, None] + 1e-9)
        power = torch.abs(torch.linalg.solve(ridge, matched)) ** 2
    root = torch.sqrt(power * torch.clamp(exists.double(), min=1e-12) / noise)
    whitened = own + root[:, :, None] * gram * root[:, None]
    factor = torch.linalg.cholesky(whitened)
    answer = torch.linalg.solve_triangular(factor, (root * matched)[..., None], upper=False)[..., 0]
    explained = torch.sum(torch.abs(answer) ** 2, dim=1) / noise[:, 0]
    return 2 * torch.log(torch.diagonal(factor, dim1=-2, dim2=-1).real).sum(dim=1) - explained


def _atoms(scene: Scene, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return what paths of unit gain leave in the active observations, (S, K, y * chain) complex128, differentiable."""
    geometry, column = scene.geometry, scene.images.column
    weights = torch.from_numpy(scene.operator.weights[column].astype(np.complex128))
    chains, m = weights.shape[1:]
    turns = 2 * np.pi * geometry.spacing_y * torch.from_numpy(column.astype(np.float64))
    across = torch.exp(1j * turns * u.double()[..., None])
    turns = 2 * np.pi * geometry.spacing_z * torch.arange(chains * m, dtype=torch.float64)
    along = torch.exp(1j * turns * v.double()[..., None]).reshape(*v.shape, chains, m)
    seen = torch.einsum("sktm,ytm->skyt", along, weights)
    return (across[..., None] * seen).flatten(-2)


def train(config: Config, out: Path, progress: Progress | None = None) -> Checkpoint:
    """Train a net and leave its checkpoint in a folder; the same configuration makes the same weights on one machine.

    All that is drawn is keyed by seed and step, so that a training which was stopped goes on as if it had not been.

    out: the folder    progress: told how far it is
    raises BadCheckpoint where `out` holds the state of another configuration, StorageError
    """
    tell = progress or _silent
    started = time.monotonic()
    scenes = [scene(config, np.random.default_rng((config.seed, 0, index))) for index in range(config.operators)]
    run = _Run(config)
    first = run.resume(out / STATE)
    if first:
        tell({"step": first, "steps": config.steps, "resumed": 1})
    since: list[dict[str, float]] = []
    try:
        for step in range(first, config.steps):
            since.append(run.step(scenes, step))
            told: dict[str, Any] = {"step": step + 1, "steps": config.steps}
            if step + 1 == config.steps or (step + 1) % max(config.steps // TOLD, 1) == 0:
                told, since = {**told, **_means(since)}, []
            tell(told)
    except KeyboardInterrupt:
        run.keep(out / STATE)
        raise
    bare = Checkpoint(KIND, {"net": plain(run.net)}, weights_of(run.built))
    metrics = measure(bare)
    card = {
        "data": "slots of the clustered plane-wave channel, streamed, without labels",
        "config": config.model_dump(mode="json"),
        "seed": config.seed,
        "steps": config.steps,
        "slots": config.steps * config.batch,
        "metrics": metrics,
        "command": "python tools/train_vae vae_upa.yml",
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    done = Checkpoint(bare.kind, bare.architecture, bare.weights, card)
    save(out / MODEL, done)
    (out / STATE).unlink(missing_ok=True)
    tell(
        {
            "step": config.steps,
            "steps": config.steps,
            "phase": "result",
            **metrics,
            "seconds": time.monotonic() - started,
        }
    )
    return done


class _Run:
    """The net in training, and where its optimiser stands."""

    def __init__(self, config: Config) -> None:
        self.config, self.done = config, 0
        self.net = chain((CHANNELS, *(config.width,) * config.depth, OUTPUTS), (3, 3), ("zero", "circular"))
        weights = initial(self.net, np.random.default_rng((config.seed, 1)))
        weights[f"{len(self.net) - 1}.bias"][0] = FIRST_HEAT
        self.built: Any = module(self.net, weights)
        self.optimiser = torch.optim.Adam(self.built.parameters(), config.learning_rate)

    def step(self, scenes: list[Scene], step: int) -> dict[str, float]:
        config = self.config
        rng = np.random.default_rng((config.seed, 2, step))
        one = scenes[rng.integers(len(scenes))]
        late = step >= config.steps * (1 - config.elbo_share)
        losses, total = _passes(config, self.built, one, stream(config, one, rng), late)
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * pace(step / config.steps)
        self.optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.built.parameters(), STEEPEST)
        self.optimiser.step()
        self.done = step + 1
        return losses

    def keep(self, path: Path) -> None:
        arrays = {name: np.asarray(value) for name, value in weights_of(self.built).items()}
        for name, parameter in self.built.named_parameters():
            moments = self.optimiser.state[parameter]
            for kind in ("exp_avg", "exp_avg_sq"):
                arrays[f"{kind}.{name}"] = moments[kind].numpy()
        save(path, Checkpoint(f"{KIND}_state", self.config.model_dump(mode="json"), arrays, {"step": self.done}))

    def resume(self, path: Path) -> int:
        if not path.exists():
            return 0
        found = load(path, f"{KIND}_state")
        if found.architecture != self.config.model_dump(mode="json"):
            raise BadCheckpoint(f"{path}: the state of another configuration; --fresh starts anew")
        self.done = int(found.card["step"])
        with torch.no_grad():
            for name, parameter in self.built.named_parameters():
                parameter.copy_(torch.tensor(found.weights[name]))
                moments = {kind: torch.tensor(found.weights[f"{kind}.{name}"]) for kind in ("exp_avg", "exp_avg_sq")}
                self.optimiser.state[parameter] = {"step": torch.tensor(float(self.done)), **moments}
        return self.done


def pace(done: float) -> float:
    """Return the learning rate over its largest: a linear rise, then half a cosine to 0.

    done: share of the steps
    """
    if done < RISE:
        return 0.04 + 0.96 * done / RISE
    return 0.5 + 0.5 * float(np.cos(np.pi * (done - RISE) / (1 - RISE)))


def measure(checkpoint: Checkpoint) -> dict[str, float]:
    """Return the NMSE [dB] on slots that were held back: the net with its steps alone, and with all of the search.

    The array is the paper's, behind four groups of columns dealt out at random.
    """
    array, interval = (64, 72, 12), (-0.5, 0.0)
    rng = np.random.default_rng(HELD_BACK)
    operator, geometry = operator_of_kind("balanced_random", array, 4, interval, rng), Geometry(*array[:2])
    channel = PathChannel(geometry=geometry, interval=interval, redraw=1)
    truth: Any = channel.evolve(range(JUDGED), _keyed(HELD_BACK)).field
    metrics: dict[str, float] = {}
    for snr in (0, 5, 15):
        observed = combine(add_noise(truth[:, 0], noise_variance(snr), rng), operator.weights)
        for name, rounds in (("net_alone", 0), ("nmse", 20)):
            found = VaeUpa(geometry, operator, rounds=rounds, checkpoint=checkpoint).estimate(observed)
            metrics[f"{name}_db_at_{snr}"] = round(float(10 * np.log10(nmse(found.channel, truth[:, 0]).mean())), 2)
    return metrics


def _keyed(seed: int) -> Callable[[int], np.random.Generator]:
    return lambda key: np.random.Generator(np.random.Philox(key=np.array([seed, key], np.uint64)))


def _silent(_: dict[str, Any]) -> None:
    """Tell nobody."""


def _passes(
    config: Config, built: Callable[..., Any], scene: Scene, slots: Slots, late: bool
) -> tuple[dict[str, float], torch.Tensor]:
    known, total = Known.none(len(slots.observation)), torch.zeros(())
    losses: dict[str, float] = {}
    for index in range(config.passes):
        outputs = built(torch.from_numpy(scene.images.features(slots.observation, known)))
        label = label_loss(outputs, targets(scene.images, slots, known))
        total = total + (config.label_weight if late else 1.0) * label
        losses[f"label{index}"] = float(label.detach())
        if late:
            bound = elbo_loss(outputs, scene, slots, known)
            total = total + bound
            losses[f"elbo{index}"] = float(bound.detach())
        if index + 1 < config.passes:
            new, _ = scene.images.candidates(outputs.detach().numpy())
            found = scene.between.estimate(
                slots.observation, None, joined(known, new, scene.between.settings.max_paths)
            )
            known = Known(found.u, found.v, found.mask)
    return losses, total / config.passes


def _means(losses: list[dict[str, float]]) -> dict[str, float]:
    names = sorted({name for one in losses for name in one})
    return {name: float(np.mean([one[name] for one in losses if name in one])) for name in names}
