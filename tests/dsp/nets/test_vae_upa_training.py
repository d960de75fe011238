"""Training of the UPA net: truth is dense linear algebra, finite differences and closed forms, never a channel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from beamslot.dsp.combine import dense  # noqa: E402
from beamslot.dsp.geometry import steering  # noqa: E402
from beamslot.dsp.nets import vae_upa_training  # noqa: E402
from beamslot.dsp.nets.checkpoint import load, shipped  # noqa: E402
from beamslot.dsp.nets.vae_upa_training import (  # noqa: E402
    CANDIDATES,
    MODEL,
    Config,
    Scene,
    Slots,
    collapsed,
    elbo_loss,
    label_loss,
    measure,
    scene,
    stream,
    targets,
    train,
)
from beamslot.dsp.vae_upa import OUTPUTS, Known  # noqa: E402
from beamslot.errors import BadCheckpoint  # noqa: E402

SMALL = Config(
    arrays=((16, 24, 6),),
    groups=(2,),
    paths=(2, 4),
    snr_db=(0.0, 10.0),
    batch=3,
    operators=2,
    steps=3,
    width=4,
    depth=2,
)


def streamed(seed: int = 3) -> tuple[Scene, Slots]:
    rng = np.random.default_rng(seed)
    one = scene(SMALL, rng)
    return one, stream(SMALL, one, rng)


def covariance(one: Scene, slots: Slots, u: Any, v: Any, exists: Any, index: int) -> Any:
    """C of a slot by its definition, from F_a as a matrix; powers by least squares with the ridge of `collapsed`."""
    geometry = one.geometry
    field = np.einsum("ky,kz->kyz", steering(geometry.n_y, u), steering(geometry.n_z, v)).reshape(len(u), -1)
    atoms = dense(one.operator.weights.astype(complex)) @ field.T
    gram = atoms.conj().T @ atoms
    ridge = np.eye(len(u)) * (1e-3 * np.trace(gram).real / len(u) + 1e-9)
    gain = np.linalg.solve(gram + ridge, atoms.conj().T @ slots.observation[index].reshape(-1).astype(complex))
    return slots.noise_var[index] * np.eye(len(atoms)) + (atoms * (np.abs(gain) ** 2 * exists)) @ atoms.conj().T


def test_the_collapsed_misfit_is_that_of_the_covariance_formed_in_full() -> None:
    one, slots = streamed()
    rng = np.random.default_rng(1)
    u, v, exists = rng.uniform(-0.8, 0.8, (3, 5)), rng.uniform(-0.5, 0.0, (3, 5)), rng.uniform(0.1, 1, (3, 5))
    found = collapsed(one, slots, *(torch.from_numpy(x) for x in (u, v, exists))).numpy()
    for index in range(3):
        y, noise = slots.observation[index].reshape(-1).astype(complex), float(slots.noise_var[index])
        full = covariance(one, slots, u[index], v[index], exists[index], index)
        _, volume = np.linalg.slogdet(full / noise)
        wanted = (y.conj() @ np.linalg.solve(full, y)).real + volume - np.vdot(y, y).real / noise
        assert found[index] == pytest.approx(wanted, rel=1e-8)


def test_the_gradient_through_the_decoder_is_that_of_finite_differences() -> None:
    one, slots = streamed()
    u = torch.tensor([[0.1, -0.3], [0.2, 0.5], [-0.6, 0.0]], dtype=torch.float64)
    v = torch.tensor([[-0.2, -0.4], [-0.1, -0.3], [-0.25, -0.45]], dtype=torch.float64)
    exists = torch.full((3, 2), 0.4, dtype=torch.float64, requires_grad=True)
    collapsed(one, slots, u, v, exists).sum().backward()
    step = 1e-6
    for slot in range(3):
        for path in range(2):
            moved = torch.zeros(3, 2, dtype=torch.float64)
            moved[slot, path] = step
            with torch.no_grad():
                high, low = (collapsed(one, slots, u, v, exists + sign * moved).sum() for sign in (1, -1))
            assert float(exists.grad[slot, path]) == pytest.approx(float(high - low) / (2 * step), rel=1e-4, abs=1e-4)


def test_the_elbo_rewards_paths_where_they_are_and_prefers_right_offsets() -> None:
    one, slots = streamed()
    images, none = one.images, Known.none(3)
    strongest = Known(slots.labels.u[:, :1], slots.labels.v[:, :1], slots.labels.mask[:, :1])
    row, column, du, dv = images.cells(strongest.u[:, 0], strongest.v[:, 0])
    index = np.arange(3)

    def bound(heat: float, shift: int = 0, off: float = 0.0) -> float:
        outputs = torch.full((3, OUTPUTS, *images.shape), -5.0)
        outputs[:, 1:] = 0
        at = (column + shift) % images.shape[1]
        outputs[index, 0, row, at] = heat
        outputs[index, 1, row, at] = torch.from_numpy(du) + off
        outputs[index, 2, row, at] = torch.from_numpy(dv)
        return float(elbo_loss(outputs, one, slots, none))

    assert bound(3.0) < bound(-3.0) - 1
    assert bound(3.0) < bound(3.0, off=0.3) - 0.5
    assert bound(3.0) < bound(3.0, shift=5) - 1


def test_what_a_cell_that_explains_nothing_costs_is_its_divergence() -> None:
    one, slots = streamed()
    silent = slots._replace(observation=np.zeros_like(slots.observation), noise_var=np.ones_like(slots.noise_var))
    cells = int(np.prod(one.images.shape))
    prior, heat = 10 / cells, torch.full((3, OUTPUTS, *one.images.shape), 0.7)
    here = 1 / (1 + np.exp(-0.7))
    wanted = cells * (here * np.log(here / prior) + (1 - here) * np.log((1 - here) / (1 - prior)))
    assert cells > CANDIDATES
    assert float(elbo_loss(heat, one, silent, Known.none(3))) == pytest.approx(wanted, rel=1e-5)


def test_labels_that_the_model_explains_are_no_targets() -> None:
    one, slots = streamed()
    everything = targets(one.images, slots, Known.none(3))
    first = Known(slots.labels.u[:, :1], slots.labels.v[:, :1], slots.labels.mask[:, :1])
    rest = targets(one.images, slots, first)
    row, column, _, _ = one.images.cells(first.u[:, 0], first.v[:, 0])
    assert np.all(everything.heat[np.arange(3), row, column] > 0.5)
    assert not rest.heat[np.arange(3), row, column].any()
    assert (everything.heat > 0).sum() > (rest.heat > 0).sum() > 0
    assert np.abs(everything.offset).max() <= 0.5
    assert not targets(one.images, slots, slots.labels).heat.any()


def test_the_loss_of_labels_is_least_where_the_map_says_them() -> None:
    one, slots = streamed()
    wanted = targets(one.images, slots, Known.none(3))
    outputs = torch.zeros(3, OUTPUTS, *one.images.shape)
    outputs[:, 0] = torch.from_numpy(np.log(wanted.heat + 1e-6) - np.log(1 - wanted.heat + 1e-6))
    outputs[:, 1:] = torch.from_numpy(wanted.offset)
    entropy = -np.sum(np.where((wanted.heat > 0) & (wanted.heat < 1), _xlogx(wanted.heat) + _xlogx(1 - wanted.heat), 0))
    assert float(label_loss(outputs, wanted)) == pytest.approx(entropy / 3, abs=0.01)
    off = outputs.clone()
    off[:, 1] += 0.2
    assert float(label_loss(off, wanted)) > float(label_loss(outputs, wanted)) + 0.1


def _xlogx(x: Any) -> Any:
    return x * np.log(np.maximum(x, 1e-12))


def test_streamed_slots_carry_no_truth_and_are_never_the_same() -> None:
    rng = np.random.default_rng(5)
    one = scene(SMALL, rng)
    first, second = stream(SMALL, one, rng), stream(SMALL, one, rng)
    assert Slots._fields == ("observation", "labels", "weight", "noise_var")
    assert not np.allclose(first.observation, second.observation)
    np.testing.assert_allclose(np.mean(np.abs(first.observation) ** 2, axis=(1, 2)), 1, rtol=1e-5)
    assert first.weight.min() >= 0
    assert first.weight.max() <= 1


Told = list[dict[str, Any]]


def test_the_same_configuration_makes_the_same_net_and_its_card_says_from_what(tmp_path: Path, quick: None) -> None:
    told: Told = []
    config = SMALL.model_copy(update={"elbo_share": 0.4})
    first = train(config, tmp_path / "one", told.append)
    second = train(config, tmp_path / "two")
    other = train(config.model_copy(update={"seed": 1}), tmp_path / "three")
    read = load(tmp_path / "one" / MODEL, "vae_upa")
    for name, array in first.weights.items():
        np.testing.assert_array_equal(second.weights[name], array)
        np.testing.assert_array_equal(read.weights[name], array)
    assert any(not np.array_equal(other.weights[name], array) for name, array in first.weights.items())
    assert [one["step"] for one in told] == [1, 2, 3, 3]
    assert told[-1]["phase"] == "result"
    assert read.card["config"] == config.model_dump(mode="json")
    assert (read.card["slots"], read.card["metrics"]) == (9, {"nmse_db": -1.0})


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, quick: None) -> None:
    def stop(told: dict[str, Any]) -> None:
        if told["step"] == 2:
            raise KeyboardInterrupt

    config, told = SMALL.model_copy(update={"steps": 4}), Told()
    whole = train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", stop)
    with pytest.raises(BadCheckpoint, match=r"another configuration; --fresh starts anew"):
        train(SMALL, tmp_path / "parts")
    parts = train(config, tmp_path / "parts", told.append)
    assert told[0] == {"step": 2, "steps": 4, "resumed": 1}
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(parts.weights[name], array)
    assert [path.name for path in (tmp_path / "parts").iterdir()] == [MODEL]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the judgement of a net, which takes seconds."""
    monkeypatch.setattr(vae_upa_training, "measure", lambda checkpoint: {"nmse_db": -1.0})


def test_a_net_is_judged_alone_and_with_the_search_on_slots_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_upa_training, "JUDGED", 12)
    metrics = measure(load(shipped("vae_upa")))
    assert metrics["nmse_db_at_15"] < metrics["net_alone_db_at_15"] + 0.5
    assert metrics["nmse_db_at_15"] < metrics["nmse_db_at_5"] - 8 < metrics["nmse_db_at_0"] - 12


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_either_phase_alone_learns(share: float, tmp_path: Path, quick: None) -> None:
    told: Told = []
    config = SMALL.model_copy(
        update={"steps": 60, "elbo_share": share, "label_weight": 0.0, "width": 8, "learning_rate": 1e-2}
    )
    name = "elbo0" if share else "label0"
    train(config, tmp_path, told.append)
    seen = [one[name] for one in told if name in one]
    assert len(seen) == 60
    assert np.mean(seen[-15:]) < np.mean(seen[:15]) - 0.1 * abs(np.mean(seen[:15]))
