"""Online learning of the net of `vae_ula`: what is learned without labels, what is refused, and what is taken back."""

import sys
from functools import cache
from typing import Any

import numpy as np
import pytest

from beamslot.dsp import vae_ula
from beamslot.dsp.calibration import identifiable
from beamslot.dsp.nets import adaptation
from beamslot.dsp.nets.adaptation import Adapter, Ring, Settings, label, outputs, worse
from beamslot.dsp.nets.checkpoint import load, save, shipped
from beamslot.dsp.nets.layers import net_of
from beamslot.dsp.ula import UlaScene
from beamslot.dsp.vae_ula import VaeUla
from beamslot.errors import BadParam, ShapeError

pytest.importorskip("torch")

ERRORS = identifiable(np.deg2rad(40) * np.random.default_rng(7).standard_normal(32))
SCENE = UlaScene()


@cache
def shipped_net() -> Any:
    return load(shipped("vae_ula"))


def drawn(seed: int, frames: int, phase: Any = ERRORS) -> tuple[Any, Any]:
    made = SCENE.frames(np.random.default_rng((99, seed)), frames, 10.0)
    return (made.observation * np.exp(1j * phase)).astype(np.complex64), made.theta


def made(**options: Any) -> Adapter:
    # Without frames of another scene, which take seconds to make.
    return Adapter(shipped_net(), settings=Settings(**{"replay": 0.0, **options}))


def follow(adapter: Adapter, frames: Any, every: int = 8, judge_every: int = 4) -> list[str]:
    """Learn from frames in turn; return what changed, one text a judgement."""
    rng, changes = np.random.default_rng(0), []
    for index, frame in enumerate(frames, 1):
        adapter.add(frame)
        if index % every == 0:
            adapter.step(rng)
        if index % (every * judge_every) == 0:
            changes.append(adapter.judge().change)
    return changes


def raw_degrees(weights: Any, frames: Any, theta: Any) -> float:
    net = net_of(shipped_net().architecture["net"])
    said = outputs(net, weights, vae_ula.features(frames))
    found = np.sort(vae_ula.candidates(said, theta.shape[1]).theta, axis=-1)
    return float(np.rad2deg(np.sqrt(np.mean((found - theta) ** 2))))


@cache
def followed() -> tuple[Adapter, list[str]]:
    """An adapter after 192 frames of an array with phase errors, whose net reads the field as it is."""
    adapter = made(calibrate="decoder", steps=8, batch=16, hold_every=2, learning_rate=3e-3)
    return adapter, follow(adapter, drawn(1, 192)[0])


def test_what_phase_errors_cost_comes_back_without_labels() -> None:
    adapter, changes = followed()
    frames, theta = drawn(2, 300)
    frozen, now = (raw_degrees(w, frames, theta) for w in (shipped_net().weights, adapter.published.weights))
    clean = raw_degrees(shipped_net().weights, *drawn(2, 300, np.zeros(32)))
    assert frozen > 2 * clean
    assert np.log(frozen / now) > 0.33 * np.log(frozen / clean), (frozen, now, clean)
    assert changes.count("published") == adapter.publications - changes.count("phase") > 0


def test_the_phases_are_found_and_published_with_the_net() -> None:
    adapter, changes = followed()
    assert "phase" in changes
    assert np.rad2deg(np.sqrt(np.mean(identifiable(adapter.phase - ERRORS) ** 2))) < 1.0
    array = adapter.published.architecture["array"]
    np.testing.assert_allclose(array["phase"], adapter.phase)
    assert array["reads"] == "field"
    assert adapter.published.card["version"] == adapter.version


def test_an_array_that_is_corrected_for_the_net_too_is_as_good_as_new() -> None:
    adapter = made(calibrate="all")
    follow(adapter, drawn(1, 64)[0])
    frames, theta = drawn(2, 300)
    corrected = (frames * np.exp(-1j * adapter.phase)).astype(np.complex64)
    clean = raw_degrees(shipped_net().weights, *drawn(2, 300, np.zeros(32)))
    assert raw_degrees(adapter.published.weights, corrected, theta) < 1.05 * clean
    assert adapter.published.architecture["array"]["reads"] == "corrected"


def test_what_was_learned_survives_a_restart_and_a_file(tmp_path: Any) -> None:
    adapter, _ = followed()
    other = made(calibrate="decoder", steps=8, batch=16, hold_every=2, learning_rate=3e-3)
    other.restore(adapter.snapshot())
    save(tmp_path / "one", adapter.published)
    save(tmp_path / "other", other.published)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    np.testing.assert_array_equal(other.candidate["0.weight"], adapter.candidate["0.weight"])
    VaeUla(users=3, checkpoint=tmp_path / "one")


def test_labels_of_frames_of_another_model_are_not_believed() -> None:
    rng = np.random.default_rng(5)
    clean, theta = drawn(3, 24, np.zeros(32))
    sound = label(clean)
    assert np.mean(sound.sound) > 0.9
    np.testing.assert_allclose(sound.theta[sound.sound, :3], theta[sound.sound], atol=np.deg2rad(0.3))
    inconsistent = clean * np.exp(1j * rng.standard_normal((24, 1, 32)))
    noise = rng.standard_normal((24, 40, 32)) + 1j * rng.standard_normal((24, 40, 32))
    for bad in (inconsistent, noise, clean[..., rng.permutation(32)]):
        assert np.mean(label(bad.astype(np.complex64)).sound) < 0.1


class Misled(Adapter):
    """An adapter whose labels to learn from are all wrong by two degrees."""

    def _label(self, ring: Ring, most: int) -> int:
        before = ring.known.copy()
        count = super()._label(ring, most)
        if self._rings is not None and ring is self._rings[0]:
            ring.labels.theta[ring.known & ~before] += np.deg2rad(2)
        return count


def test_a_candidate_that_was_taught_wrong_is_rolled_back_and_never_published() -> None:
    adapter = Misled(shipped_net(), settings=Settings(replay=0.0, calibrate="off", learning_rate=3e-3))
    changes = follow(adapter, drawn(1, 128, np.zeros(32))[0])
    assert "candidate rolled back" in changes
    assert (adapter.version, adapter.publications, adapter.rolled_back) == (
        0,
        0,
        changes.count("candidate rolled back"),
    )
    np.testing.assert_array_equal(adapter.published.weights["0.weight"], shipped_net().weights["0.weight"])


def test_a_published_net_that_is_worse_than_the_original_is_taken_back() -> None:
    adapter = made(calibrate="off")
    bad = {name: array * np.float32(0.5) for name, array in shipped_net().weights.items()}
    adapter._publish(bad)
    changes = follow(adapter, drawn(1, 96, np.zeros(32))[0])
    assert "published rolled back" in changes
    assert adapter.version == 2 + changes.count("published")


def test_phases_that_fit_worse_are_rolled_back() -> None:
    adapter = made(calibrate="all")
    adapter._calibrator.phase = np.deg2rad(20) * np.random.default_rng(1).standard_normal(32)  # type: ignore[union-attr]
    adapter._calibrator.frames = 9  # type: ignore[union-attr]
    first, *frames = drawn(1, 33, np.zeros(32))[0]
    adapter._calibrator, learned = None, adapter._calibrator
    adapter.add(first)
    for frame in frames:
        adapter._rings[1].put(frame)  # type: ignore[index]
    adapter._calibrator = learned
    assert adapter.judge().change == "phase rolled back"
    assert not adapter.phase.any()
    assert adapter.rolled_back == 1


def test_half_of_a_stream_of_garbage_does_no_harm() -> None:
    rng = np.random.default_rng(4)
    frames, theta = drawn(1, 96, np.zeros(32))
    poisoned = rng.random(96) < 0.5
    frames[poisoned] *= np.exp(1j * rng.standard_normal((int(poisoned.sum()), 1, 32))).astype(np.complex64)
    adapter = made(calibrate="all")
    follow(adapter, frames)
    test, theta = drawn(2, 300, np.zeros(32))
    corrected = (test * np.exp(-1j * adapter.phase)).astype(np.complex64)
    frozen = raw_degrees(shipped_net().weights, test, theta)
    assert raw_degrees(adapter.published.weights, corrected, theta) < 1.05 * frozen


def test_frames_are_looked_at_before_they_are_taken() -> None:
    adapter = made()
    frame = drawn(1, 1)[0][0]
    assert adapter.add(frame)
    assert not adapter.add(np.zeros_like(frame))
    assert not adapter.add(np.full_like(frame, np.nan))
    assert adapter.frames == 1
    with pytest.raises(ShapeError, match=r"a frame is \(40, 31\), wanted \(M, 32\)"):
        adapter.add(frame[:, 1:])
    with pytest.raises(ShapeError, match=r"a frame is \(39, 32\), wanted \(40, 32\) as before"):
        adapter.add(frame[1:])
    assert np.isnan(adapter.step(np.random.default_rng(0)))
    assert adapter.judge().frames == 0


def test_settings_are_checked_and_torch_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadParam, match=r"adaptation\.ring is 3"):
        Settings(ring=3)
    monkeypatch.setattr("beamslot.dsp.nets.serve.find_spec", lambda _: None)
    with pytest.raises(BadParam, match="torch"):
        Adapter(shipped_net())


def test_scores_are_compared_in_pairs() -> None:
    rng = np.random.default_rng(0)
    base = rng.exponential(50.0, 64)
    assert worse(base + 10, base, 0.05)
    assert not worse(base + 1, base, 0.05), "within the margin"
    assert not worse(rng.permutation(base) * 1.1, base, 0.05), "by chance"


def test_the_module_is_there_without_torch() -> None:
    assert adaptation.__name__ in sys.modules
    assert not hasattr(adaptation, "torch")
