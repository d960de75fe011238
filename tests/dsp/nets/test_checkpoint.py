"""Checkpoints: what was saved comes back; damaged, foreign, mismatching and large files are refused, typed."""

import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_bytes
from safetensors.numpy import save as save_bytes

from beamslot.dsp.nets.checkpoint import Checkpoint, load, save, shipped
from beamslot.errors import BadCheckpoint, BadParam, StorageError


def example() -> Checkpoint:
    rng = np.random.default_rng(0)
    weights = {
        "b": rng.standard_normal((3, 2)).astype(np.float32),
        "a": rng.standard_normal(4).astype(np.float16),
        "count": np.array([7], np.int64),
    }
    return Checkpoint("test", {"net": [{"kernel": [3]}]}, weights, {"seed": 3, "metrics": {"rmse_deg": 0.05}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tmp_path / "net.safetensors", example())
    return tmp_path / "net.safetensors"


def test_what_was_saved_comes_back(path: Path) -> None:
    found, wanted = load(path, "test"), example()
    assert (found.kind, found.architecture, found.card) == (wanted.kind, wanted.architecture, wanted.card)
    assert found.weights.keys() == wanted.weights.keys()
    for name, array in wanted.weights.items():
        assert found.weights[name].dtype == array.dtype
        np.testing.assert_array_equal(found.weights[name], array)


def test_a_checkpoint_is_a_safetensors_file_that_others_can_read(path: Path) -> None:
    arrays = load_bytes(path.read_bytes())
    np.testing.assert_array_equal(arrays["b"], example().weights["b"])


def test_the_same_checkpoint_makes_the_same_bytes(path: Path, tmp_path: Path) -> None:
    checkpoint = example()
    turned = Checkpoint(
        checkpoint.kind, checkpoint.architecture, dict(reversed(list(checkpoint.weights.items()))), checkpoint.card
    )
    save(tmp_path / "other.safetensors", turned)
    assert (tmp_path / "other.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"weights": {"a": np.array([1.0, np.nan])}}, "a is not finite"),
        ({"weights": {"a": np.array(["x"])}}, "a is <U1, wanted float16"),
        ({"weights": {"a": np.array([object()])}}, "a is object, wanted float16"),
        ({"card": {"when": object()}}, "architecture and card are plain data"),
        ({"card": {"loss": float("nan")}}, "architecture and card are plain data"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    with pytest.raises(BadParam, match=text):
        save(tmp_path / "x", Checkpoint(**{**vars(example()), **change}))
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="the checkpoint cannot be written"):
        save(tmp_path / "file" / "net", example())


def test_a_truncated_file_is_refused_at_every_length(path: Path, tmp_path: Path) -> None:
    whole, cut = path.read_bytes(), tmp_path / "cut"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(BadCheckpoint, match=r"cut: .* no safetensors file"):
            load(cut)


def test_a_mutated_file_is_refused_or_is_the_same(path: Path, tmp_path: Path) -> None:
    whole, mutant = path.read_bytes(), tmp_path / "mutant"
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(2000):
        data = np.frombuffer(whole, np.uint8).copy()
        at = rng.integers(len(data), size=rng.integers(1, 4))
        data[at] = rng.integers(256, size=len(at))
        mutant.write_bytes(data.tobytes())
        try:
            found = load(mutant)
        except BadCheckpoint:
            refused += 1
            continue
        assert found.card == example().card
        for name, array in example().weights.items():
            np.testing.assert_array_equal(found.weights[name], array)
    assert refused > 1900


def test_a_file_with_more_at_its_end_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(BadCheckpoint, match="no safetensors file"):
        load(path)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "net.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(BadCheckpoint, match="no safetensors file"):
        load(tmp_path / "net.pt")
    assert not (tmp_path / "ran").exists()


def test_a_header_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(BadCheckpoint, match="no safetensors file"):
        load(tmp_path / "huge")


def test_a_safetensors_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(save_bytes({"a": np.zeros(3, np.float32)}, {"format": "pt"}))
    with pytest.raises(BadCheckpoint, match="foreign: a safetensors file of somebody else"):
        load(tmp_path / "foreign")


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("[]", "metadata is list, wanted a mapping"),
        ("{", "metadata is no JSON"),
        ("[" * 100_000, "metadata is no JSON"),
        (json.dumps({"beamslot": "2"}), "format '2', wanted 1"),
        (json.dumps({"beamslot": "1", "kind": "test", "card": "{}"}), "metadata without architecture"),
    ],
)
def test_metadata_that_are_not_ours_are_refused(tmp_path: Path, said: str, text: str) -> None:
    (tmp_path / "net").write_bytes(save_bytes({"a": np.zeros(3, np.float32)}, {"beamslot": said}))
    with pytest.raises(BadCheckpoint, match=text):
        load(tmp_path / "net")


def test_a_checkpoint_of_another_kind_is_refused(path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"net\.safetensors: a checkpoint of kind 'test', wanted 'vae_ula'"):
        load(path, "vae_ula")


def test_a_file_that_is_too_large_is_refused_unread(path: Path) -> None:
    size = path.stat().st_size
    assert load(path, largest=size).kind == "test"
    with pytest.raises(BadCheckpoint, match=rf"{size} bytes, wanted at most {size - 1}"):
        load(path, largest=size - 1)


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadCheckpoint, match=r"cannot be read|not a file"):
        load(tmp_path / name)


def test_checkpoints_are_loaded_without_torch(path: Path) -> None:
    code = f"""
import sys
from beamslot.dsp.nets import checkpoint
checkpoint.load({str(path)!r})
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_packaged_checkpoints_lie_beside_the_code() -> None:
    assert shipped("vae_ula").parts[-3:] == ("nets", "checkpoints", "vae_ula.safetensors")
