"""The adapter as a block: it learns from a stream, publishes into a file, and an estimator that watches it follows."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beamslot.dsp.calibration import identifiable
from beamslot.dsp.nets.checkpoint import Checkpoint, load, save, shipped
from beamslot.dsp.ula import UlaScene
from beamslot.errors import PortMismatch
from beamslot.estimators.vae_adapter import VaeAdapter
from beamslot.estimators.vae_ula import VaeUlaEstimator
from beamslot.frame import Array, Geometry, StreamInfo
from beamslot.runtime import Tagged
from beamslot.runtime.testing import Outcome, run_block

pytest.importorskip("torch")

SNAPSHOTS, FRAMES = 40, 24
ERRORS = identifiable(np.deg2rad(40) * np.random.default_rng(7).standard_normal(32))
OPTIONS = {"every": 4, "judge_every": 2, "hold_every": 2, "held": 16, "steps": 1, "replay": 0.0}


@cache
def scene() -> Any:
    return UlaScene(snapshots=SNAPSHOTS).frames(np.random.default_rng(3), 2 * FRAMES, 10.0)


def field(frames: slice = slice(None)) -> Any:
    seen = (scene().observation[frames] * np.exp(1j * ERRORS)).astype(np.complex64)
    return seen.reshape(-1, 1, 32, 1)


LINE = Geometry(32, 1)


def info(geometry: Geometry | None = LINE) -> StreamInfo:
    arrays = {"field": Array.of("slot user y z", np.complex64, "sqrt(W)")}
    return StreamInfo(arrays, {"user": 1, "y": 32, "z": 1}, geometry=geometry)


def adapted(path: Path, frames: Any = None, **options: Any) -> Outcome:
    block = VaeAdapter(publish=str(path), snapshots=SNAPSHOTS, **{**OPTIONS, **options})
    seen = field() if frames is None else frames
    return run_block(block, {"field": seen}, infos={"field": info()}, name="adapter")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    path = tmp_path_factory.mktemp("model") / "adapted.safetensors"
    return path, adapted(path)


def test_the_file_begins_as_the_net_that_is_shipped(tmp_path: Path) -> None:
    adapted(tmp_path / "model", field(slice(0, 1)))
    found, wanted = load(tmp_path / "model"), load(shipped("vae_ula"))
    assert found.card["version"] == 0
    assert "array" not in found.architecture
    np.testing.assert_array_equal(found.weights["0.weight"], wanted.weights["0.weight"])


def test_phases_are_published_with_a_version_a_figure_and_a_tag(followed: tuple[Path, Outcome]) -> None:
    path, outcome = followed
    found, figures = load(path), outcome["figures"]
    assert figures["version"].dtype == np.int32
    assert found.card["version"] == figures["version"][-1] >= 1
    assert np.all(np.diff(figures["version"]) >= 0)
    phase = np.array(found.architecture["array"]["phase"])
    assert np.rad2deg(np.sqrt(np.mean(identifiable(phase - ERRORS) ** 2))) < 1
    assert len(figures["loss"]) == len(field())
    tagged = [item.tags for port, item in outcome.items if getattr(item, "tags", None)]
    assert {"change": "phase", "version": 1} in [{k: t[k] for k in ("change", "version") if k in t} for t in tagged]


def test_a_restart_goes_on_and_publishes_again(followed: tuple[Path, Outcome], tmp_path: Path) -> None:
    path, outcome = followed
    assert outcome.core is not None
    state = outcome.core.block.snapshot()
    other = VaeAdapter(publish=str(tmp_path / "model"), snapshots=SNAPSHOTS, **OPTIONS)
    other.start(info())
    other.restore(state)
    assert (tmp_path / "model").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("geometry", [None, Geometry(16, 2)])
def test_another_array_is_refused(geometry: Geometry | None, tmp_path: Path) -> None:
    block = VaeAdapter(publish=str(tmp_path / "model"))
    with pytest.raises(PortMismatch, match="array"):
        run_block(block, {"field": field()}, infos={"field": info(geometry)}, name="adapter")


def watching(path: Path) -> VaeUlaEstimator:
    block = VaeUlaEstimator(users=3, snapshots=SNAPSHOTS, watch=str(path))
    block.start(info())
    return block


def frame(index: int) -> Any:
    return field(slice(index, index + 1))


def degrees(block: VaeUlaEstimator) -> tuple[float, int, int]:
    """Return the RMSE of the last frames, and what the tags say: version and files refused."""
    errors, tags = [], {}
    for index in range(FRAMES, FRAMES + 12):
        found: Any = block.process(frame(index))
        assert isinstance(found, Tagged)
        tags = found.tags
        errors.append(np.arcsin(found.outputs["u"][0, 0]) - scene().theta[index])
    return float(np.rad2deg(np.sqrt(np.mean(np.square(errors))))), tags["model"], tags["refused"]


def test_an_estimator_that_watches_follows_between_two_frames(followed: tuple[Path, Outcome], tmp_path: Path) -> None:
    path, model = followed[0], tmp_path / "model"
    block = watching(model)
    frozen, version, _ = degrees(block)
    assert version == 0, "nobody has published yet"
    model.write_bytes(path.read_bytes())
    now, version, refused = degrees(block)
    assert (version, refused) == (load(path).card["version"], 0)
    assert now < 0.4 * frozen


def test_a_bad_file_is_counted_and_the_net_at_hand_stays(followed: tuple[Path, Outcome], tmp_path: Path) -> None:
    path, model = followed[0], tmp_path / "model"
    model.write_bytes(path.read_bytes())
    block = watching(model)
    before, version, _ = degrees(block)
    model.write_bytes(path.read_bytes()[:-9])
    os.utime(model, ns=(1, 1))
    assert degrees(block) == (before, version, 1)
    good = load(path)
    other = Checkpoint("vae_ula", {**good.architecture, "array": {"phase": [0.0], "reads": "field"}}, good.weights, {})
    save(model, other)
    assert degrees(block) == (before, version, 2)


def test_the_channel_has_the_phases_of_the_array(followed: tuple[Path, Outcome]) -> None:
    block = watching(followed[0])
    found: Any = block.process(frame(FRAMES))
    clean = scene().gain[FRAMES] @ np.exp(1j * np.pi * np.arange(32) * np.sin(scene().theta[FRAMES])[:, None])
    wanted = clean * np.exp(1j * ERRORS)
    error = np.sum(np.abs(found.outputs["channel"][:, 0, :, 0] - wanted) ** 2) / np.sum(np.abs(wanted) ** 2)
    assert 10 * np.log10(error) < -18
