"""Training of the heat-map VAE of the line: without labels, reproducible, stoppable; truth is brute force."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from beamslot.dsp import vae_ula
from beamslot.dsp.nets import vae_ula_training as training
from beamslot.dsp.nets.checkpoint import Checkpoint, load, shipped
from beamslot.dsp.nets.vae_ula_training import Config, gather, mirrored, targets, train
from beamslot.dsp.ula import UlaScene
from beamslot.errors import BadCheckpoint

SMALL: dict[str, Any] = {"frames": 128, "steps": 30, "batch": 16, "width": 8, "dilations": (1, 4), "most_users": 2}
CONFIGS = Path(__file__).parents[3] / "tools" / "train_vae" / "configs"


@cache
def small(labels: str = "self") -> training.Data:
    return gather(Config(**SMALL, labels=labels))


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "measure", lambda checkpoint, config: {"tested": 1.0})


def test_targets_are_those_of_the_next_user_on_the_circle() -> None:
    theta, mask = np.array([[-0.4, 0.3, 0.0], [1.5, 0.0, 0.0]]), np.array([[1, 1, 0], [1, 0, 0]], np.bool_)
    made = targets(theta, mask, 64)
    for frame in range(2):
        places = 32 * (1 + np.sin(theta[frame][mask[frame]]))
        for bin_ in range(64):
            away = min(((p - bin_ + turn for p in places for turn in (-64, 0, 64))), key=abs)
            assert made.presence[frame, bin_] == pytest.approx(np.exp(-(away**2)), abs=1e-6)
            assert made.near[frame, bin_] == (abs(away) < 1.5)
            if made.near[frame, bin_]:
                assert made.offset[frame, bin_] == pytest.approx(away, abs=1e-6)


def test_a_frame_without_users_wants_nothing() -> None:
    made = targets(np.zeros((1, 2)), np.zeros((1, 2), np.bool_), 32)
    assert made.presence.max() < 1e-9
    assert not made.near.any()


def test_a_mirrored_frame_is_that_of_mirrored_users() -> None:
    seen = UlaScene().frames(np.random.default_rng(0), 3, 5.0).observation
    np.testing.assert_allclose(mirrored(vae_ula.features(seen)), vae_ula.features(seen.conj()), atol=2e-3)


def test_self_training_never_looks_at_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = small()
    made = training._observations

    def blind(config: Config, groups: int) -> Any:
        for observation, theta in made(config, groups):
            yield observation, np.full_like(theta, np.nan)

    monkeypatch.setattr(training, "_observations", blind)
    for one, other in zip(gather(Config(**SMALL)), honest, strict=True):
        np.testing.assert_array_equal(one, other)


def test_supervised_training_has_all_frames_and_true_angles() -> None:
    data = small("true")
    assert len(data.features) == 128
    own = small()
    assert 64 < len(own.features) <= 128
    assert 0.5 < own.mask.sum() / data.mask.sum() < 1.1


def test_the_loss_falls() -> None:
    few, many = (training._fit(Config(**{**SMALL, "steps": steps}), small(), print)[1] for steps in (2, 60))
    assert many < 0.7 * few


def test_the_same_configuration_makes_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "other"):
        train(Config(**SMALL), tmp_path / name)
    first, second = ((tmp_path / name / "vae_ula.safetensors").read_bytes() for name in ("one", "other"))
    assert first == second
    third = train(Config(**{**SMALL, "seed": 1}), tmp_path / "third")
    assert np.any(third.weights["0.weight"] != load(tmp_path / "one" / "vae_ula.safetensors").weights["0.weight"])


def test_what_is_trained_is_served_and_says_where_it_is_from(tmp_path: Path) -> None:
    made = train(Config(**SMALL), tmp_path)
    found = load(tmp_path / "vae_ula.safetensors", "vae_ula")
    assert found.card == made.card
    assert found.card["data"]["frames"] == 128
    assert found.card["metrics"]["tested"] == 1.0
    seen = UlaScene().frames(np.random.default_rng(0), 2, 20.0).observation
    assert vae_ula.VaeUla(users=3, checkpoint=found).estimate(seen).theta.shape == (2, 3)


def test_progress_counts_groups_and_steps(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    train(Config(**SMALL), tmp_path, told.append)
    assert [one["step"] for one in told] == [1, 2, 32, 32]
    assert {one["steps"] for one in told} == {32}
    assert [one["phase"] for one in told] == ["labels", "labels", "steps", "result"]


def test_a_training_that_was_stopped_goes_on_behind_its_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(told: dict[str, Any]) -> None:
        if told["phase"] == "steps":
            raise KeyboardInterrupt

    whole = train(Config(**SMALL), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(Config(**SMALL), tmp_path / "cut", stop)
    monkeypatch.setattr(training, "gather", None)
    again = train(Config(**SMALL), tmp_path / "cut")
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)


def test_labels_of_another_configuration_are_refused(tmp_path: Path) -> None:
    train(Config(**SMALL), tmp_path)
    with pytest.raises(BadCheckpoint, match="labels of another configuration"):
        train(Config(**{**SMALL, "margin": 2.0}), tmp_path)
    train(Config(**{**SMALL, "steps": 5}), tmp_path)  # labels do not depend on it


def test_a_configuration_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValidationError, match="snapshots"):
        Config(snapshots=())
    with pytest.raises(ValidationError, match="speed"):
        Config.model_validate({"speed": 3})


def test_the_shipped_checkpoint_is_that_of_the_shipped_configuration() -> None:
    said = YAML(typ="safe").load((CONFIGS / "vae_ula.yml").read_text())
    card = load(shipped("vae_ula")).card
    assert card["data"] == Config(**said).model_dump(mode="json")


def test_accuracy_is_measured_on_frames_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = training.measure(load(shipped("vae_ula")), Config(), 40)
    assert found["refined_outliers_10db"] == 0
    assert found["refined_rmse_deg_10db"] < 0.025
    assert found["right_count_0db"] == 1
    bad = Checkpoint("vae_ula", load(shipped("vae_ula")).architecture, zeros(load(shipped("vae_ula")).weights))
    assert training.measure(bad, Config(), 40)["raw_outliers_20db"] > 0.9


def zeros(weights: Any) -> dict[str, Any]:
    return {name: np.zeros_like(array) for name, array in weights.items()}
