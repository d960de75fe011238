"""What the judging sinks say of a run in processes of its own is what NumPy makes of the frames that were recorded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats

import beamslot
from beamslot.dsp.bounds import crb_channel
from beamslot.dsp.combine import dense
from beamslot.frame import Geometry, Operator, StreamInfo
from beamslot.ports import ESTIMATE, RF_AXES, TRUTH
from beamslot.runtime import Block, In

Arrays = dict[str, NDArray[Any]]

SLOTS, REDRAW, M = 60, 3, 4


class Recorder(Block):
    """Writes all slots of truth, observations and one estimate into a file."""

    truth = In(TRUTH)
    rf = In(RF_AXES, np.complex64, unit="sqrt(W)")
    estimate = In(ESTIMATE)

    path: str = Field(min_length=1, description="of the file")

    def start(self, rf: StreamInfo, **_: Any) -> None:
        assert rf.operator is not None
        self._weights, self._group, self._rows = rf.operator.weights, rf.operator.group, []

    def process(self, truth: Arrays, rf: NDArray[Any], estimate: Arrays) -> None:
        rows = {f"truth_{name}": array for name, array in truth.items()}
        rows |= {f"estimate_{name}": array for name, array in estimate.items()}
        self._rows.append({name: array.copy() for name, array in {**rows, "rf": rf}.items()})

    def stop(self) -> None:
        if not self._rows:  # it was killed, and there was nothing left to do
            return
        arrays = {name: np.concatenate([row[name] for row in self._rows]) for name in self._rows[0]}
        np.savez(self.path, weights=self._weights, group=self._group, **arrays)


def graph(folder: Path) -> dict[str, Any]:
    array = {"n_y": 16, "n_z": 16, "paths": 3, "users": 2, "snr_db": 10, "redraw": REDRAW}
    blocks: list[dict[str, Any]] = [
        {"name": "source", "id": "upa_source", "parameters": array},
        {"name": "combiner", "id": "combiner", "parameters": {"antennas_per_chain": M, "groups": 2}},
        {"name": "omp", "id": "omp", "parameters": {"paths": 5, "grid": [32, 16]}},
        {"name": "search", "id": "vp_nomp", "parameters": {"max_paths": 6}},
        {"name": "quality", "id": "quality_sink"},
        {"name": "compare", "id": "compare_sink"},
    ]
    edges = [["source", "field", "combiner", "field"]]
    for name in ("omp", "search"):
        blocks.append({"name": f"{name}_file", "id": "recorder", "parameters": {"path": str(folder / f"{name}.npz")}})
        edges += [["combiner", "rf", name, "rf"], ["combiner", "rf", f"{name}_file", "rf"]]
        edges += [[name, "estimate", sink, "estimate"] for sink in ("quality", "compare", f"{name}_file")]
        edges += [["source", "truth", f"{name}_file", "truth"]]
    edges += [["source", "truth", sink, "truth"] for sink in ("quality", "compare")]
    edges += [["combiner", "rf", "quality", "rf"]]
    return {"options": {"parameters": {"id": "offline", "slots": SLOTS}}, "blocks": blocks, "connections": edges}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Arrays]]:
    folder = tmp_path_factory.mktemp("run")
    report = beamslot.run(graph(folder), blocks=[__file__])
    return dict(report.sinks), {name: dict(np.load(folder / f"{name}.npz")) for name in ("omp", "search")}


def per_draw(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean over the slots and users of every draw."""
    return values.astype(np.float64).reshape(SLOTS // REDRAW, -1).mean(1)


def power(field: NDArray[Any]) -> NDArray[np.float64]:
    return (np.abs(field.astype(np.complex128)) ** 2).sum((-2, -1))


def decibels(value: Any) -> Any:
    return 10 * np.log10(value)


def errors(frames: Arrays) -> NDArray[np.float64]:
    return power(frames["estimate_channel"] - frames["truth_channel"]) / power(frames["truth_channel"])


def ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> tuple[float, list[float]]:
    """Return the ratio of two means in dB, and its interval from the residuals about it."""
    value = top.mean() / bottom.mean()
    error = (top - value * bottom).std(ddof=1) / np.sqrt(len(top)) / top.mean()
    half = 10 / np.log(10) * stats.t.ppf(0.975, len(top) - 1) * error
    return decibels(value), [decibels(value) - half, decibels(value) + half]


@pytest.mark.parametrize("name", ["omp", "search"])
def test_error_bound_and_coverage_are_those_of_the_recorded_frames(name: str, recorded: Any) -> None:
    told, frames = recorded[0]["quality"][name], recorded[1][name]
    error = errors(frames)
    assert told["nmse_db"] == pytest.approx(decibels(per_draw(error).mean()), abs=1e-6)
    assert (told["draws"], told["slots"]) == (SLOTS // REDRAW, SLOTS)
    stated = 256 * frames["estimate_error_var"].astype(float) / power(frames["truth_channel"])
    value, interval = ratio(per_draw(error), per_draw(stated))
    assert told["error_to_stated_db"] == pytest.approx(value, abs=1e-6)
    assert told["error_to_stated_ci95_db"] == pytest.approx(interval, abs=1e-6)
    freedom = 4 * np.maximum(frames["estimate_mask"].sum(-1), 1)
    for level, share in told["coverage"].items():
        low, high = stats.chi2.interval(float(level), freedom)
        inside = (low <= freedom * error / stated) & (freedom * error / stated <= high)
        assert share == pytest.approx(per_draw(inside).mean(), abs=1e-9)
    truth = {key: frames[f"truth_{key}"][::REDRAW] for key in ("gain", "u", "v", "mask")}
    operator = Operator(frames["weights"], frames["group"], (-0.5, 0.0))
    noise = M * frames["truth_antenna_noise_var"][::REDRAW]
    bound = crb_channel(**truth, operator=operator, geometry=Geometry(16, 16), noise_var_w=noise).mean(1)
    value, interval = ratio(per_draw(error), bound)
    assert told["over_crb_db"] == pytest.approx(value, abs=1e-6)
    assert told["over_crb_ci95_db"] == pytest.approx(interval, abs=1e-6)
    assert recorded[0]["quality"]["crb"]["nmse_db"] == pytest.approx(decibels(bound.mean()), abs=1e-6)


@pytest.mark.parametrize("name", ["omp", "search"])
def test_residuals_are_those_of_the_recorded_frames(name: str, recorded: Any) -> None:
    told, frames = recorded[0]["quality"][name], recorded[1][name]
    channel = frames["estimate_channel"].astype(np.complex128).reshape(SLOTS, 2, 256)
    left = frames["rf"] - (channel @ dense(frames["weights"]).T).reshape(frames["rf"].shape)
    dimensions = 64 - 2 * frames["estimate_mask"].sum(-1)
    noise = M * frames["truth_antenna_noise_var"].astype(float)
    value, interval = ratio(per_draw(power(left) / dimensions), per_draw(noise))
    assert told["residual_to_noise_db"] == pytest.approx(value, abs=1e-5)
    assert told["residual_to_noise_ci95_db"] == pytest.approx(interval, abs=1e-5)
    low, high = stats.chi2.interval(0.95, 2 * dimensions)
    plausible = (low <= 2 * power(left) / noise) & (2 * power(left) / noise <= high)
    assert told["plausible_share"] == pytest.approx(per_draw(plausible).mean(), abs=1e-9)
    mean = power(left) / 64
    columns = (left[..., 1:, :] * left[..., :-1, :].conj()).mean((-2, -1)) / mean
    chains = (left[..., 1:] * left[..., :-1].conj()).mean((-2, -1)) / mean
    statistic = 2 * (15 * 4 * np.abs(columns) ** 2 + 16 * 3 * np.abs(chains) ** 2)
    assert told["white_share"] == pytest.approx(per_draw(statistic <= stats.chi2.ppf(0.95, 4)).mean(), abs=1e-9)
    assert told["column_lag"] == pytest.approx(abs(columns.mean()), abs=1e-6)
    assert told["chain_lag"] == pytest.approx(abs(chains.mean()), abs=1e-6)


def test_the_paired_difference_is_that_of_the_recorded_frames(recorded: Any) -> None:
    told = recorded[0]["compare"]["omp - search"]
    one, other = (per_draw(errors(recorded[1][name])) for name in ("omp", "search"))
    value, interval = ratio(one, other)
    assert told["difference_db"] == pytest.approx(value, abs=1e-6)
    assert told["ci95_db"] == pytest.approx(interval, abs=1e-6)
    slots = decibels(errors(recorded[1]["omp"]).mean(1) / errors(recorded[1]["search"]).mean(1))
    assert told["by_draw_db"] == pytest.approx(per_draw(slots).mean(), abs=1e-6)
    assert told["draws"] == SLOTS // REDRAW
    assert json.dumps(told, allow_nan=False)


def test_sinks_that_are_killed_on_the_way_say_the_same_to_the_bit(recorded: Any, tmp_path: Path) -> None:
    report = beamslot.run(graph(tmp_path), blocks=[__file__], chaos="1,every=0.2,actions=kill", pace=0.03)
    assert report.restarts > 0
    for sink in ("quality", "compare"):
        assert report.sinks[sink] == recorded[0][sink]
