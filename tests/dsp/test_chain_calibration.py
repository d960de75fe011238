"""Gains of chains from a known direction: truth is what was put in, and the variance of a coherent mean."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.chain_calibration import Calibrated, load_calibration, measure, save_calibration
from beamslot.errors import BadParam, ShapeError, StorageError, VersionError

SHAPE = (12, 5)


class Seen(NamedTuple):
    """Pilots of a sender, what ideal chains would see of it, the gains as `measure` gives them, and their deviation."""

    observation: NDArray[Any]
    expected: NDArray[Any]
    gain: NDArray[Any]
    deviation: NDArray[Any]


def scene(slots: int, noise_var: float, seed: int = 0, degrees: float = 30.0) -> Seen:
    rng = np.random.default_rng(seed)
    gain = 10 ** (rng.normal(0, 1, SHAPE) / 20) * np.exp(1j * np.deg2rad(degrees) * rng.standard_normal(SHAPE))
    expected = rng.uniform(0.5, 3, SHAPE) * np.exp(2j * np.pi * rng.random(SHAPE))
    amplitude = np.exp(2j * np.pi * rng.random((slots, 1, 1))) * rng.uniform(0.5, 2, (slots, 1, 1))
    noise = rng.standard_normal((2, slots, *SHAPE)) * np.sqrt(noise_var / 2)
    common = np.sqrt(np.mean(np.abs(gain) ** 2)) * np.exp(1j * np.angle(gain.mean()))
    # a coherent mean over slots, as if the amplitudes were known: sigma^2 / (sum |c_s|^2 |e_i|^2)
    deviation = np.sqrt(noise_var / np.sum(np.abs(amplitude * common) ** 2)) / np.abs(expected)
    return Seen(amplitude * gain * expected + noise[0] + 1j * noise[1], expected, gain / common, deviation)


@pytest.mark.parametrize("degrees", [5, 30, 3000])
def test_without_noise_the_gains_come_back(degrees: float) -> None:
    """The last stands for any phase at all."""
    seen = scene(5, 0.0, degrees=degrees)
    np.testing.assert_allclose(measure(seen.observation, seen.expected).gain, seen.gain, atol=1e-9)


def test_the_error_is_that_of_a_coherent_mean_and_is_told() -> None:
    ratios, told = [], []
    for seed in range(60):
        seen = scene(40, 0.5, seed)
        found = measure(seen.observation, seen.expected)
        ratios.append(np.abs(found.gain - seen.gain) ** 2 / seen.deviation**2)
        told.append(found.deviation / seen.deviation)
    # 60 x 60 squares of mean one and deviation one, but for what the common factor takes
    assert np.mean(ratios) == pytest.approx(1, abs=4 / np.sqrt(3600) + 1 / 60)
    np.testing.assert_allclose(told, 1, rtol=0.1)


def test_chains_that_the_sender_does_not_light_are_left_as_they_are() -> None:
    seen, expected, gain, _ = scene(20, 0.01)
    dark, faint = expected.copy(), np.zeros(SHAPE, bool)
    faint[3, 2] = faint[4, 4] = True
    dark[3, 2], dark[4, 4] = 0, 1e-4
    seen[:, faint] *= 1e-4
    found = measure(seen + 0.01, dark)
    assert found.gain[3, 2] == found.gain[4, 4] == 1
    assert np.all(found.deviation[faint] > 0.5)
    ratio = found.gain[~faint] / gain[~faint]
    np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=0.15)
    silent = measure(np.zeros((3, *SHAPE)), expected)
    np.testing.assert_array_equal(silent.gain, 1)


def test_one_slot_or_another_shape_is_refused() -> None:
    seen, expected = scene(2, 0.1)[:2]
    for given in (seen[:1], seen[0], seen[:, :-1]):
        with pytest.raises(ShapeError, match=r"calibration: observation is .* of at least 2 slots and \(12, 5\)"):
            measure(given, expected)


def test_a_file_gives_back_what_was_measured(tmp_path: Path) -> None:
    gain = scene(2, 0.1)[2]
    made = Calibrated.of(gain, direction=(0.1, -0.2), slots=7)
    save_calibration(tmp_path / "chains.json", made)
    read = load_calibration(tmp_path / "chains.json")
    assert read == made
    np.testing.assert_allclose(read.factors, gain, rtol=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == ["chains.json"]


@pytest.mark.parametrize(
    ("content", "kind", "problem"),
    [
        (None, StorageError, "cannot be read: no such file or directory"),
        ("{", BadParam, "is no calibration: Invalid JSON"),
        ('{"format": "beamslot calibration", "version": 2}', VersionError, "has version 2 of the format; wanted 1"),
        ('{"format": "beamslot calibration", "version": 1, "gain": [[0]], "phase": [[0]]}', BadParam, "gain.0.0"),
        (
            '{"format": "beamslot calibration", "version": 1, "gain": [[1]], "phase": [[0, 1]]}',
            BadParam,
            "differ in shape",
        ),
        ('{"format": "beamslot calibration", "version": 1, "gain": [[1]], "phase": [[NaN]]}', BadParam, "phase.0.0"),
        (
            '{"format": "beamslot calibration", "version": 1, "gain": [[1]], "phase": [[0]], "x": 1}',
            BadParam,
            "x: Extra",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str | None, kind: type[Exception], problem: str) -> None:
    file = tmp_path / "chains.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(kind) as caught:
        load_calibration(file)
    assert str(caught.value).startswith(str(file))
    assert problem in str(caught.value)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    made = Calibrated.of(np.ones(SHAPE))
    with pytest.raises(StorageError, match="cannot be written: no such file or directory"):
        save_calibration(tmp_path / "nowhere" / "chains.json", made)
