"""The reproduction tool: truth is a run in one piece, finite differences, closed forms and the bytes of its files."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import pytest
from rich.console import Console

TOOL = Path(__file__).resolve().parents[2] / "tools" / "paper_hbf"
pytest.importorskip("matplotlib")
sys.path.insert(0, str(TOOL.parent))

from beamslot.dsp.combine import combine  # noqa: E402
from beamslot.dsp.geometry import render  # noqa: E402
from beamslot.dsp.omp import Omp  # noqa: E402
from paper_hbf import command, figures, intervals, runner  # noqa: E402
from paper_hbf.experiments import EVERYTHING, VIEWS, Plan, sweep  # noqa: E402
from paper_hbf.measures import crb_directions, measure  # noqa: E402
from paper_hbf.methods import METHODS, available, fingerprint  # noqa: E402
from paper_hbf.scene import Scene, observe, operator  # noqa: E402
from paper_hbf.store import Cell, Store, cells  # noqa: E402
from paper_hbf.timing import GRID, DenseOmp  # noqa: E402

SMALL = Scene(n_y=16, n_z=24, m=6, paths=3, snr_db=10.0)
TINY = ["--quick", "--array", "16x24x6", "--draws", "12"]
CELLS = 3 * 7 * 2
"""Of the experiment `grids`: SNR, lines and chunks of draws."""


def run(folder: Path, *options: str) -> int:
    return command.main([*TINY, "--out", str(folder), *options])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one piece."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder, "--only", "grids,fig4,fig6") == 0
    return folder


def begin(folder: Path, whole: Path) -> Path:
    """Begin a folder with the design of the groups, which takes longer than all the rest."""
    folder.mkdir()
    designed = [line for line in (whole / "cells.jsonl").read_text().splitlines() if "eda" in line[:20]]
    (folder / "cells.jsonl").write_text("\n".join(designed) + "\n")
    return folder


def test_a_tiny_experiment_runs_to_its_table_and_its_picture(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "cells.jsonl", "grids.csv", "grids.png", "fig4.csv", "fig4.png", "fig6.csv", "fig6.png",
    }  # fmt: skip
    lines = [line for line in (whole / "grids.csv").read_text().splitlines() if not line.startswith("#")]
    head = lines[0].split(",")
    assert head[:8] == ["snr_db", "line", "method", "beams", "draws", "nmse_db", "nmse_db_low", "nmse_db_high"]
    rows = [dict(zip(head, line.replace('"OMP, ', '"OMP ').split(","), strict=True)) for line in lines[1:]]
    assert len(rows) == 3 * 7
    errors = {(row["method"], row["snr_db"]): float(row["nmse_db"]) for row in rows}
    assert errors["oracle_mmse", "15"] < errors["oracle_ls", "15"] < errors["omp", "15"] < errors["omp_grid", "15"] < -8
    assert errors["crb", "15"] == pytest.approx(errors["crb", "5"] - 10, abs=0.01)
    picture = (whole / "grids.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    for told in (b"Description", b"SNR per antenna: sigma^2 = 10^(-SNR/10)", b"seed 2025", b"draws 12"):
        assert told in picture


def test_a_table_begins_with_its_definitions_seed_and_versions(whole: Path) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in ("beamslot", "numpy", "scipy"))
    expected = f"""# fig6: the optimised grouping
# NMSE: mean over draws of |h_hat - h|^2 / |h|^2 on all N_r antennas, in dB of the mean; every draw has |h|^2 = N_r
# SNR per antenna: sigma^2 = 10^(-SNR/10), sigma_w^2 = M 10^(-SNR/10) behind a chain of M antennas; learned by all
# CRB: true K known, angles and gains unknown, mean over the same draws; oracle LS: true angles; oracle MMSE: true \
angles and powers
# intervals: 95 %, over independent draws; channel and noise of a draw are the same for all methods, beams and SNR
# array 16 x 24, M = 6, G = 4 unless said, v in [-0.5, 0]; 1 LOS path (K-factor N(9, 3.5) dB) and the rest discrete \
NLOS, azimuth +-60 deg, 5 dB and 10 paths unless said
# draws 12 (slow methods 6); seed 2025; {packages}, Python {python_version()}
column,group
"""
    assert (whole / "fig6.csv").read_bytes().startswith(expected.encode())


def test_an_interrupted_run_goes_on_to_the_same_bytes(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = begin(tmp_path / "parts", whole)
    done = list[Cell]()

    def interrupted(cell: Cell) -> Any:
        if len(done) == 11:
            raise KeyboardInterrupt
        done.append(cell)
        return measure(cell.scene, cell.method, cell.start, cell.stop)

    monkeypatch.setattr(runner, "_compute", interrupted)
    assert run(parts, "--only", "grids") == 130
    assert not (parts / "grids.csv").exists()
    kept = parts / "cells.jsonl"
    kept.write_bytes(kept.read_bytes()[:-20])  # the machine went down in the middle of a line
    done.clear()
    monkeypatch.setattr(runner, "_compute", lambda cell: done.append(cell) or measure(*vars(cell).values()))
    assert run(parts, "--only", "grids") == 0
    assert len(done) == CELLS - 10
    for name in ("grids.csv", "grids.png"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    done.clear()
    assert run(parts, "--only", "grids") == 0
    assert not done


def test_what_a_reviewer_asks_is_made_from_the_same_cells(tmp_path: Path) -> None:
    plan = Plan(draws=6, n_y=16, n_z=24, m=6, snrs=(5, 15))
    made = sweep("fig10", plan, tuple((np.arange(16) % 4).tolist()))
    lines = tuple(line for line in made.lines if line.method in ("omp", "omp_grid", "gw_sc_vbi"))
    label = {line.method: line.label for line in lines}
    claims = tuple(claim for claim in made.claims if {claim.line, claim.against} <= set(label.values()))
    experiment, store = replace(made, lines=lines, claims=claims), Store(tmp_path)
    runner.run(store, experiment.cells(plan), 1, Console(quiet=True))
    figures.views(experiment, plan, store, tmp_path, list(VIEWS))
    figures.designs(["fig7"], plan, store, tmp_path)
    for name in (*VIEWS, "fig7"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "cdf.csv").read_text()
    assert sum(not line.startswith("#") for line in text.splitlines()) == 1 + 3 * 2 * 6
    paired = {(row["line"], row["against"], row["at"]): row for row in figures.pairs(experiment, plan, store)}
    row = paired[label["gw_sc_vbi"], label["omp_grid"], "snr_db=15"]
    errors = [np.mean(store.gathered(experiment.at(lines[i], 15), lines[i].method, 6)["nmse"]) for i in (2, 1)]
    assert row["difference_db"] == pytest.approx(10 * np.log10(errors[0] / errors[1]))
    assert row["low"] < row["difference_db"] < row["high"]


@pytest.mark.parametrize(
    ("interval", "wanted", "verdict"),
    [((-3, -2), (-4, 0), "yes"), ((-3, 1), (-4, 0), "open"), ((1, 2), (-4, 0), "no"), ((np.nan, 1), (0, 2), "open")],
)
def test_a_claim_holds_where_the_whole_interval_is_as_expected(
    interval: tuple[float, float], wanted: tuple[float, float], verdict: str
) -> None:
    assert figures.verdict(intervals.Figure(0.0, *interval), *wanted) == verdict


def test_two_processes_write_what_one_does(tmp_path: Path, whole: Path) -> None:
    two = begin(tmp_path / "two", whole)
    arguments = [*TINY, "--only", "grids", "--jobs", "2", "--out", str(two)]
    made = subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert made.returncode == 0, made.stderr
    assert f"{CELLS} of {CELLS} cells" in made.stderr
    assert (whole / "grids.csv").read_bytes() == (two / "grids.csv").read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--only", "fig88"], "--only: there is no 'fig88'; did you mean fig8?"),
        (["--only", "everything"], "--only: there is no 'everything'; wanted some of fig3, fig4, "),
        (["--draws", "1"], "--draws is 1; wanted at least 2"),
        (["--jobs", "0"], "--jobs is 0; wanted at least 1"),
        (["--array", "64x72"], "--array is '64x72'; wanted YxZxM with M dividing Z and Y at least 12"),
        (["--array", "64x72x7"], "--array is '64x72x7'; wanted YxZxM"),
        (["--draws", "few"], "argument --draws: invalid int value: 'few'"),
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


def test_all_bad_options_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "fig1,fig8,gian", "--jobs", "-1"])
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert told[1] == "paper_hbf: --only: there is no 'gian'; did you mean gain?"


def test_help_says_what_there_is_and_how_it_is_defined(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    for wanted in (*EVERYTHING, "--quick", "sigma_w^2 = M 10^(-SNR/10)", "the\nsame command goes on"):
        assert wanted in text


def test_more_draws_add_to_those_that_are_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for cell in cells(SMALL, "omp", 14):
        store.add(cell, measure(*vars(cell).values()))
    few = store.gathered(SMALL, "omp", 7)["nmse"]
    assert few == store.gathered(SMALL, "omp", 14)["nmse"][:7]
    assert [store.values(cell) is None for cell in cells(SMALL, "omp", 25)] == [False, True, True]
    assert store.gathered(SMALL, "omp", 25) == {}
    assert store.gathered(replace(SMALL, snr_db=9.0), "omp", 7) == {}


def test_a_draw_does_not_depend_on_what_is_computed_with_it() -> None:
    together, alone = observe(SMALL, 0, 5), observe(SMALL, 3, 4)
    np.testing.assert_array_equal(together.observation[3], alone.observation[0])
    louder, other = observe(replace(SMALL, snr_db=0.0), 3, 4), observe(replace(SMALL, beams="random"), 3, 4)
    for one in (louder, other):
        np.testing.assert_array_equal(one.channel, alone.channel)
    clean = combine(alone.channel, operator(SMALL, 0).weights)
    np.testing.assert_allclose(louder.observation - clean, (alone.observation - clean) * np.sqrt(10), atol=1e-4)
    assert np.sum(np.abs(alone.channel) ** 2) == pytest.approx(16 * 24, rel=1e-4)
    noise = np.var(np.concatenate([observe(SMALL, i, i + 10).observation - combine(
        observe(SMALL, i, i + 10).channel, operator(SMALL, i // 10).weights) for i in range(0, 100, 10)]))  # fmt: skip
    assert noise == pytest.approx(6 * 10**-1.0, rel=0.05)


def test_the_bound_of_the_angles_is_that_of_finite_differences() -> None:
    seen, front, step = observe(SMALL, 0, 1), operator(SMALL, 0), 1e-4
    gain, u, v = (np.asarray(getattr(seen.paths, name)[0], np.complex128) for name in ("gain", "u", "v"))
    at = np.concatenate([u.real, v.real, gain.real, gain.imag])

    def field(x: Any) -> Any:
        u, v, in_phase, quadrature = x.reshape(4, 3)
        columns = np.exp(1j * np.pi * np.arange(16)[:, None] * u) * (in_phase + 1j * quadrature)
        return combine(columns @ np.exp(1j * np.pi * np.arange(24) * v[:, None]), front.weights.astype(complex)).ravel()

    slopes = np.array([(field(at + by) - field(at - by)) / (2 * step) for by in step * np.eye(12)])
    fisher = 2 / (6 * 10**-1.0) * np.real(slopes.conj() @ slopes.T)
    expected = np.diag(np.linalg.inv(fisher))[:6].reshape(2, 3)
    np.testing.assert_allclose(crb_directions(seen.paths, front, SMALL)[0], expected, rtol=1e-3)


def test_paths_that_were_found_and_those_that_are_false_add_up() -> None:
    found = measure(replace(SMALL, snr_db=25.0), "sc_vbi", 0, 10)
    assert np.mean(found["missed"]) < 1
    assert np.nanmax(found["los_u"]) < (0.5 * 2 / 16) ** 2
    assert np.mean(found["gain"]) > 0.95
    ratio = np.nanmean(found["los_u"]) / np.nanmean(found["los_crb_u"])
    assert 0.2 < ratio < 20
    oracle = measure(SMALL, "oracle_ls", 0, 10)
    assert set(oracle) == {"nmse", "gain"}
    assert np.mean(oracle["nmse"]) < np.mean(measure(SMALL, "crb", 0, 10)["nmse"])


def test_a_difference_takes_out_what_the_draws_have_in_common(rng: np.random.Generator) -> None:
    one = (10 ** rng.normal(-2, 0.3, 100)).tolist()
    np.testing.assert_allclose(intervals.difference_db([2 * x for x in one], one), 10 * np.log10(2), rtol=1e-12)
    other = [x * y for x, y in zip(one, rng.uniform(0.9, 1.1, 100), strict=True)]
    value, low, high = intervals.difference_db(other, one)
    assert low < value < high < low + 0.3
    loose = intervals.mean_db(other)
    assert loose.high - loose.low > 5 * (high - low)
    assert np.isnan(intervals.difference_db(one[:1], one).low)


def test_the_interval_of_a_quantile_holds_it_19_times_of_20(rng: np.random.Generator) -> None:
    held = 0
    for draws in rng.exponential(size=(400, 100)):
        found = intervals.quantile_db(draws.tolist(), 0.9)
        held += found.low <= 10 * np.log10(np.log(10)) <= found.high
    assert 0.92 < held / 400 < 0.99
    assert np.isnan(intervals.quantile_db([1.0, 2.0], 0.95).high)


def test_omp_by_a_dense_dictionary_is_omp() -> None:
    scene = replace(SMALL, paths=1)
    u, v = np.array([-1 + 2 * 50 / GRID[0]]), np.linspace(-0.5, 0, GRID[1])[[20]]
    field = render(np.array([1 + 1j]), u, v, scene.geometry)
    observation = combine(field, operator(scene, 0).weights)
    np.testing.assert_allclose(DenseOmp(scene, 2).estimate(observation), field, atol=1e-4)
    plain = Omp(scene.geometry, operator(scene, 0), grid=GRID, guard=0.0, zoom=0)
    np.testing.assert_allclose(plain.estimate(observation).channel, field, atol=1e-4)


def test_every_line_has_a_method_and_every_nmse_plot_the_bound_and_the_oracles() -> None:
    assert set(available()) <= set(METHODS)
    for name in ("fig8", "fig9", "fig10", "fig11", "groups", "compression", "grids", "groupings"):
        experiment = sweep(name, Plan(), tuple(range(4)) * 16)
        methods = {line.method for line in experiment.lines}
        assert {"crb", "oracle_ls", "oracle_mmse"} <= methods
        assert experiment.name == name
        assert len({line.label for line in experiment.lines}) == len(experiment.lines)


def test_the_fingerprint_is_of_the_source_that_is_reached() -> None:
    assert fingerprint("beamslot.dsp.omp") != fingerprint("beamslot.dsp.bounds")
    assert os.environ["OMP_NUM_THREADS"] == "1"
