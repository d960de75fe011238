"""The tool of paper 000: truth is brute force, closed forms, a training in one piece, and the bytes of its files."""

import csv
import math
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

TOOL = Path(__file__).resolve().parents[2] / "tools" / "paper_vae"
torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("safetensors")
sys.path.insert(0, str(TOOL.parent))

from beamslot.dsp.nets.checkpoint import load  # noqa: E402
from beamslot.dsp.ula import array_response  # noqa: E402
from paper_hbf.store import Store  # noqa: E402
from paper_vae import command, figures, landscape, nets, runner  # noqa: E402
from paper_vae.experiments import BOUNDS, EVERYTHING, QUICK, SWEEPS, Plan, sweep  # noqa: E402
from paper_vae.measures import measure  # noqa: E402
from paper_vae.methods import METHODS, configuration  # noqa: E402
from paper_vae.scene import CIRCLE, Scene, observe  # noqa: E402
from train_vae import dual_path  # noqa: E402
from train_vae.dual_path import MODEL  # noqa: E402

PAPER = TOOL.parent / "train_vae" / "configs" / "paper.yml"
SMALL = Scene(antennas=8, users=2, snapshots=10, snr_db=20.0)
TINY = f"""
base: {PAPER}
encoder: {{width: 4, blocks: [1, 1], stem: small}}
labels: {{step_deg: 0.5}}
spectrum: {{points: 41, width: 4}}
data: fresh
initialisation_epochs: 2
training_epochs: 1
train_frames: 24
test_frames: 20
batch: 8
device: cpu
"""
STEPS = 9


@pytest.fixture(scope="module")
def budget(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A budget of nine steps."""
    path = tmp_path_factory.mktemp("budget") / "tiny.yml"
    path.write_text(TINY)
    return path


def run(folder: Path, budget: Path, *options: str) -> int:
    tiny = ["--array", "8x2x5", "--frames", "60", "--snrs", "0,20", "--net-snrs", "20", "--training", str(budget)]
    return command.main([*tiny, "--out", str(folder), *options])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, budget: Path) -> Path:
    """A run in one piece."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, budget, "--only", "fig4,fig7") == 0
    return folder


def table(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def test_a_tiny_run_makes_its_tables_and_its_pictures(whole: Path) -> None:
    made = {path.name for path in whole.iterdir()}
    assert made == {
        "cells.jsonl", "nets", "fig4.csv", "fig4_points.csv", "fig4.png", "fig7.csv", "fig7.png", "paired.csv",
    }  # fmt: skip
    rows = table(whole / "fig7.csv")
    points = {(row["method"], row["snr_db"]) for row in rows}
    assert points == {(name, "20") for name in ("vae", "vae_first", "vae_collapsed", "no_sectors", "no_init")} | {
        (name, snr) for name in ("peaks", "peaks_gn", *BOUNDS) for snr in ("0", "20")
    }
    found = {row["method"]: row for row in rows if row["snr_db"] == "20"}
    bound = float(found["crb"]["total_rmse_deg"])
    assert bound < float(found["peaks_gn"]["total_rmse_deg"]) < 2 * bound < float(found["vae"]["total_rmse_deg"])
    low, share, high = (float(found["peaks"][name]) for name in ("outliers_low", "outliers", "outliers_high"))
    assert low <= share < high
    assert not found["crb_unconditional"]["gain_mse"]
    head = (whole / "fig7.csv").read_text()
    for told in (
        "9 steps of 8 frames, 6 of them the first phase",
        "N = 8, K = 2, M = 5",
        "seed 2025",
        version("torch"),
    ):
        assert told in head
    picture = (whole / "fig7.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert b"9 steps of 8 frames" in picture


def test_a_run_that_is_done_does_nothing_and_writes_the_same_bytes(
    whole: Path, budget: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in (whole / "fig7.csv", whole / "fig7.png", whole / "paired.csv")}

    def never(_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(runner, "_compute", never)
    assert run(whole, budget, "--only", "fig7") == 0
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_that_was_stopped_goes_on(
    tmp_path: Path, whole: Path, budget: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, done = runner._compute, list[Any]()

    def interrupted(task: Any) -> Any:
        if len(done) == 10:
            raise KeyboardInterrupt
        done.append(task)
        return compute(task)

    monkeypatch.setattr(runner, "_compute", interrupted)
    assert run(tmp_path, budget, "--only", "fig7") == 130
    assert not (tmp_path / "fig7.csv").exists()
    kept = tmp_path / "cells.jsonl"
    kept.write_bytes(kept.read_bytes()[:-20])  # the machine went down in the middle of a line
    monkeypatch.setattr(runner, "_compute", compute)
    assert run(tmp_path, budget, "--only", "fig7") == 0
    assert (tmp_path / "fig7.csv").read_bytes() == (whole / "fig7.csv").read_bytes()


def test_a_training_that_goes_on_from_a_shared_first_phase_is_that_in_one_piece(
    tmp_path: Path, whole: Path, budget: Path
) -> None:
    scene = replace(SMALL, snapshots=5)
    for name in ("vae", "vae_collapsed"):
        one = configuration(METHODS[name], scene, budget)
        assert one.steps == STEPS
        (tmp_path / name).mkdir()
        dual_path.train(one, tmp_path / name, lambda told: None)
        alone, shared = load(tmp_path / name / MODEL), load(nets.place(one, whole) / MODEL)
        assert shared.card["steps"] == STEPS
        for key, array in alone.weights.items():
            np.testing.assert_array_equal(array, shared.weights[key])
    first, both = (configuration(METHODS[name], scene, budget) for name in ("vae_first", "vae"))
    weights = [load(nets.place(one, whole) / MODEL).weights for one in (first, both)]
    assert any(not np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_net_says_what_its_trainer_measured(whole: Path, budget: Path) -> None:
    scene = replace(SMALL, snapshots=5)
    path = nets.place(configuration(METHODS["vae"], scene, budget), whole) / MODEL
    told, frames = load(path).card["test"], observe(scene, 0, 50)
    theta, gain = nets.estimate(path, frames)
    assert theta.shape == (50, 2)
    assert gain.shape == (50, 5, 2)
    error = math.degrees(math.sqrt(np.mean((np.sort(theta) - frames.theta) ** 2)))
    assert error == pytest.approx(told["aoa_rmse_all_deg"], rel=0.5)


def test_methods_change_what_they_say(budget: Path) -> None:
    made = {name: configuration(METHODS[name], SMALL, budget) for name in METHODS if METHODS[name].net is not None}
    assert {one.steps for name, one in made.items() if name != "vae_first"} == {STEPS}
    assert (made["no_init"].first_phase, made["vae"].first_phase, made["vae_first"].steps) == (0, 6, 6)
    assert made["no_sectors"].sector == (-math.pi, math.pi)
    assert made["no_sectors"].scene == made["vae"].scene
    assert made["labelled"].gamma == 8 * 10 * 2 * 100
    assert made["vae"].scene.separation == 3 / 8
    assert len({nets.place(one, Path()).name for one in made.values()}) == len(made) - 1  # refined: the same net


def test_frames_do_not_depend_on_how_they_are_cut_nor_on_what_is_compared() -> None:
    together, alone = observe(SMALL, 50, 60), observe(SMALL, 57, 58)
    np.testing.assert_array_equal(together.observation[7], alone.observation[0])
    assert not np.array_equal(observe(SMALL, 0, 1).theta, observe(SMALL, 50, 51).theta)
    loud, near = observe(replace(SMALL, snr_db=0.0), 57, 58), observe(replace(SMALL, correlation=0.9), 57, 58)
    for other in (loud, near):
        np.testing.assert_array_equal(other.theta, alone.theta)
    clean = alone.gain @ array_response(alone.theta, 8)
    np.testing.assert_allclose(loud.observation - clean, (alone.observation - clean) * 10, atol=1e-4)
    gains = np.concatenate([observe(replace(SMALL, correlation=0.9), 50 * i, 50 * i + 50).gain for i in range(20)])
    assert np.mean(gains[..., 0].conj() * gains[..., 1]).real == pytest.approx(0.9, abs=0.03)


def test_what_is_kept_is_the_error_of_what_was_estimated(tmp_path: Path, budget: Path) -> None:
    kept = {name: measure(SMALL, name, 0, 50, budget, tmp_path) for name in ("fbss_gn", "peaks", *BOUNDS)}
    bound, best = np.mean(kept["crb"]["angle"]), np.mean(kept["fbss_gn"]["angle"])
    assert 0.6 * bound < best < 1.6 * bound
    # at high SNR the conditional one goes with the inverse power of 10 draws, whose mean is 10 / 9
    assert np.mean(kept["crb_unconditional"]["angle"]) == pytest.approx(0.9 * bound, rel=0.1)
    assert np.mean(kept["fbss_gn"]["gain"]) == pytest.approx(np.mean(kept["crb"]["gain"]), rel=0.3)
    assert np.mean(kept["peaks"]["angle"]) > 3 * best
    worst, mean = (np.array(kept["peaks"][name]) for name in ("worst", "angle"))
    assert np.all((worst**2 / 2 <= mean + 1e-15) & (mean <= worst**2))


def test_users_behind_the_array_are_seen_in_front_of_it(tmp_path: Path, budget: Path) -> None:
    around = replace(SMALL, sector_deg=CIRCLE)
    kept = measure(around, "peaks_gn", 0, 50, budget, tmp_path)
    off = np.array(kept["worst"]) > around.half_beam
    assert 0.55 < off.mean() < 0.95  # 3 of 4 frames have a user behind
    assert np.mean(np.array(kept["folded_worst"]) > around.half_beam) < 0.35


def test_the_loss_over_angles_is_that_of_brute_force() -> None:
    theta, phase = np.array([-0.4, 0.3]), np.array([0.5, 2.0])
    true = array_response(landscape.TRUE, 8, 1.0)
    loss = landscape.one_user(theta, phase, 8, 1.0)
    for i, angle in enumerate(theta):
        for k, turn in enumerate(phase):
            off = true - array_response(angle, 8, 1.0) * np.exp(1j * turn)
            assert loss[i, k] == pytest.approx(np.sum(np.abs(off) ** 2) / 8)
    rng = np.random.default_rng(3)
    gain = rng.standard_normal((5, 2)) + 1j * rng.standard_normal((5, 2))
    clean = gain @ array_response(np.array([landscape.TRUE, landscape.OTHER]), 8)
    both = landscape.two_users(theta, 8, 0.5, 5, 3)
    for i, k in np.ndindex(2, 2):
        off = clean - gain @ array_response(np.array([theta[i], theta[k]]), 8)
        assert both[i, k] == pytest.approx(np.sum(np.abs(off) ** 2) / (8 * np.sum(np.abs(gain) ** 2)))


@pytest.mark.parametrize(("spacing", "count"), [(0.5, 1), (1.0, 2), (2.0, 4)])
def test_the_global_optima_are_those_of_proposition_4(spacing: float, count: int) -> None:
    optima = landscape.global_optima(landscape.TRUE, spacing)
    assert len(optima) == count
    np.testing.assert_allclose(landscape.one_user(optima, np.zeros(1), 32, spacing), 0, atol=1e-9)
    assert pytest.approx(optima[np.abs(optima - landscape.TRUE).argmin()]) == landscape.TRUE
    for antennas in (8, 32):
        loss = landscape.two_users(landscape.angle_grid(), antennas, spacing, 40, 2025)
        assert landscape.deep_minima(loss) == count * len(landscape.global_optima(landscape.OTHER, spacing))


def test_stationary_points_are_where_the_corrected_proposition_has_them() -> None:
    found = landscape.one_angle()
    numeric = np.gradient(found.loss, found.theta_hat)
    np.testing.assert_allclose(found.slope[1:-1], numeric[1:-1], atol=0.02 * np.abs(numeric).max())
    assert abs(np.corrcoef(numeric, found.printed_slope)[0, 1]) < 0.05
    turns = np.sum(np.diff(np.sign(np.diff(found.loss))) != 0)
    assert len(found.exact) == pytest.approx(turns, abs=2)
    assert landscape.distances(found.proposed[1:-1], found.exact).max() < 0.01 * 2 / 32
    assert np.median(landscape.distances(found.as_proposed, found.exact)) > 0.05 * 2 / 32


def test_a_claim_is_judged_by_its_paired_interval(tmp_path: Path, budget: Path) -> None:
    plan = replace(QUICK, frames=50, snrs=(20,), antennas=8, users=2, snapshots=10, training=budget)
    made = next(one for one in sweep("fig7", plan))
    lines = tuple(line for line in made.lines if METHODS[line.method].net is None)
    experiment = replace(made, lines=lines, claims=tuple(one for one in made.claims if "pseudo" in one.line))
    store = Store(tmp_path)
    runner.run(store, [experiment], plan, 1, Console(quiet=True))
    (row,) = figures.pairs(experiment, plan, store)
    best, bound = (
        np.mean(measure(lines[0].at(20), name, 0, 50, budget, tmp_path)["angle"])
        for name in ("peaks_gn", "crb_unconditional")
    )
    assert row["ratio_db"] == pytest.approx(10 * np.log10(best / bound))
    assert row["low"] < row["ratio_db"] < row["high"]
    (line,) = figures.summary([row])
    assert line.startswith(row["verdict"])
    assert "at most 1 dB" in line


def test_every_line_has_a_method_every_figure_its_bounds_and_every_claim_its_lines() -> None:
    experiments = [one for name in SWEEPS for one in sweep(name, Plan())]
    assert [one.name for one in experiments] == [
        "fig5",
        "fig5_rho0.9",
        "fig5_rho0.99",
        "fig6",
        "fig7",
        "wide",
        "around",
    ]
    for one in experiments:
        assert {line.method for line in one.lines} <= set(METHODS)
        assert set(BOUNDS) <= {line.method for line in one.lines}
        names = [line.name for line in one.lines]
        assert len(set(names)) == len(names)
        assert {name for claim in one.claims for name in (claim.line, claim.against)} <= set(names)


def test_outliers_are_left_out_of_the_first_rmse_only() -> None:
    errors = np.radians([0.1] * 40 + [30.0] * 10)
    values = {"angle": (errors**2).tolist(), "worst": errors.tolist()}
    row = figures.figures_of(values, Scene().half_beam)
    assert row["rmse_deg"] == pytest.approx(0.1)
    assert row["outliers"] == pytest.approx(0.2)
    assert row["total_rmse_deg"] == pytest.approx(math.sqrt((40 * 0.01 + 10 * 900) / 50))
    bound = figures.figures_of({"angle": [1e-6] * 40 + [1e6] * 10, "gain": [1e9] * 50}, Scene().half_beam)
    assert bound["rmse_deg"] == pytest.approx(math.degrees(1e-3))
    assert bound["total_rmse_deg"] == pytest.approx(math.degrees(math.sqrt(0.2 * math.pi**2 / 3)), rel=1e-4)
    assert bound["gain_mse"] == 1.0
    few = figures.figures_of({"angle": values["angle"][30:], "worst": values["worst"][30:]}, Scene().half_beam)
    assert math.isnan(few["rmse_deg"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--only", "fig55"], "--only: there is no 'fig55'; did you mean fig5?"),
        (["--frames", "1"], "--frames is 1; wanted at least 2"),
        (["--snrs", "0,loud"], "--snrs is '0,loud'; wanted decibels"),
        (["--correlations", "0,1.5"], "--correlations is '0,1.5'; wanted numbers of 0 .. 1"),
        (["--array", "8x4x20"], "--array is '8x4x20'; wanted NxKxM with K < N / 2"),
        (["--training", "none.yml"], "--training: there is no none.yml; wanted a file, or one of quick.yml"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_made(
    options: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    with pytest.raises(SystemExit) as caught:
        command.main(["--out", str(folder), *options])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err
    assert not folder.exists()


def test_help_says_what_there_is_and_how_it_is_defined(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    for wanted in (*EVERYTHING, "--quick", "paper.yml", "E|h_k|^2 / sigma^2", "the same command goes on"):
        assert wanted in text
