"""The block of the heat-map VAE: an adapter that takes the array from the stream, a frame a window."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beamslot.dsp.ula import UlaScene
from beamslot.dsp.vae_ula import VaeUla, channels
from beamslot.errors import BadCheckpoint, PortMismatch
from beamslot.estimators.vae_ula import VaeUlaEstimator
from beamslot.frame import Array, Geometry, StreamInfo
from beamslot.runtime.testing import Outcome, run_block

SNAPSHOTS, FRAMES = 10, 4


@cache
def scene() -> Any:
    return UlaScene(snapshots=SNAPSHOTS).frames(np.random.default_rng(3), FRAMES, 10.0)


def field() -> Any:
    return scene().observation.reshape(FRAMES * SNAPSHOTS, 1, 32, 1)


LINE = Geometry(32, 1)


def info(geometry: Geometry | None = LINE) -> StreamInfo:
    arrays = {"field": Array.of("slot user y z", np.complex64, "sqrt(W)")}
    return StreamInfo(arrays, {"user": 1, "y": 32, "z": 1}, geometry=geometry)


def made(**options: Any) -> Outcome:
    block = VaeUlaEstimator(snapshots=SNAPSHOTS, **options)
    return run_block(block, {"field": field()}, infos={"field": info()}, name="vae")


def test_a_window_is_a_frame_of_the_library() -> None:
    found = made(users=3)["estimate"]
    frames = VaeUla(users=3).estimate(scene().observation)
    direct = channels(frames, Geometry(32, 1), 4)
    for name, array in found.items():
        wanted = np.swapaxes(getattr(direct, name), 0, 1)
        np.testing.assert_allclose(array.reshape(FRAMES, SNAPSHOTS, *array.shape[2:]), wanted, rtol=1e-4, atol=1e-5)


def test_users_are_counted_unless_they_are_told() -> None:
    found = made()
    assert found.infos["estimate"].axes == {"user": 1, "y": 32, "z": 1, "path": 8}
    assert np.all(found["estimate"]["mask"].sum(axis=-1) == 3)
    assert made(users=3).infos["estimate"].axes["path"] == 3


def test_the_engines_give_the_same_channels() -> None:
    one, other = (made(users=3, engine=engine)["estimate"]["channel"] for engine in ("onnxruntime", "torch"))
    np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize(
    ("geometry", "text"), [(None, "carries no array geometry"), (Geometry(32, 2), "the array is 32 x 2; wanted a unif")]
)
def test_another_array_is_refused(geometry: Geometry | None, text: str) -> None:
    with pytest.raises(PortMismatch, match=rf"vae\.field: .*{text}"):
        run_block(VaeUlaEstimator(), {"field": field()}, infos={"field": info(geometry)}, name="vae")


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(b"not one")
    with pytest.raises(BadCheckpoint, match="net: 7 bytes that are no safetensors file"):
        made(checkpoint=str(tmp_path / "net"))
