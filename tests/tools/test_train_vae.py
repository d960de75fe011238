"""The training tool: truth is the NumPy scene, a run in one piece, one process for several, and what is on disk."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
TOOL = Path(__file__).resolve().parents[2] / "tools" / "train_vae"
sys.path.insert(0, str(TOOL.parent))

from beamslot.dsp.nets import losses  # noqa: E402
from beamslot.dsp.nets.checkpoint import load  # noqa: E402
from beamslot.dsp.ula import UlaScene, array_response  # noqa: E402
from beamslot.errors import BadCheckpoint, BadParam, StorageError  # noqa: E402
from train_vae import command, dual_path, judge, settings, trainers  # noqa: E402
from train_vae.dual_path import MODEL, RESULT, STATE, Config, Training  # noqa: E402
from train_vae.log import CSV, Report, Table  # noqa: E402
from train_vae.scene import TorchScene  # noqa: E402
from train_vae.together import team  # noqa: E402

CPU = torch.device("cpu")
TINY: dict[str, Any] = {
    "scene": {"antennas": 8, "users": 2, "snapshots": 5, "separation": 0.3},
    "encoder": {"width": 4, "blocks": [1, 1], "stem": "small"},
    "labels": {"step_deg": 0.5},
    "spectrum": {"points": 41, "width": 4},
    "initialisation_epochs": 1,
    "training_epochs": 2,
    "train_frames": 48,
    "test_frames": 20,
    "batch": 8,
    "learning_rate": 1e-3,
    "device": "cpu",
    "log_every": 1,
    "checkpoint_every": 1000,
    "evaluate_every": 0,
}
STEPS = 18
PAPER = [
    "paper.yml", "--set", "encoder.width=4", "--set", "batch=4", "--set", "train_frames=208", "--set", "test_frames=20",
    "--set", "initialisation_epochs=1", "--set", "training_epochs=3", "--set", "checkpoint_every=60",
    "--set", "log_every=10", "--set", "evaluate_every=2", "--set", "device=cpu",
]  # fmt: skip
"""The paper's configuration at reduced width: 208 steps, 52 of the first phase."""
KILLED = f"""
import os, signal, sys
sys.path.insert(0, {str(TOOL.parent)!r})
from train_vae import command
from train_vae.log import Report
take = Report._take
def killing(report, told):
    take(report, told)
    if told["step"] == 97:
        os.kill(os.getpid(), signal.SIGKILL)
Report._take = killing
command.main(sys.argv[1:])
"""


def tiny(**changes: Any) -> Config:
    return Config.model_validate({**TINY, **changes})


def trained(
    out: Path, config: Config, progress: Callable[[dict[str, Any]], None] = lambda told: None
) -> dict[str, Any]:
    """Train and return the arrays of the model."""
    dual_path.train(config, out, progress)
    return dict(load(out / MODEL).weights)


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def rows(out: Path) -> list[dict[str, str]]:
    """Return the log without its times."""
    with (out / CSV).open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def process(*arguments: str, module: str = "") -> list[str]:
    return [sys.executable, *(["-m", *module.split()] if module else []), str(TOOL), *arguments]


def scene(snr_db: float | tuple[float, float] = 10.0, **options: Any) -> TorchScene:
    return TorchScene(UlaScene(**options), snr_db, CPU)


def generator(seed: int = 1) -> Any:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"correlation": 0.9, "separation": 0.3},
        {"correlation": 1.0},
        {"k_factor_db": 3.0},
        {"k_factor_db": 10.0, "mean_phase": "random"},
        {"spacing": 0.8, "sector": (-3.0, 3.0), "separation": 0.0},
    ],
)
def test_its_frames_have_the_statistics_of_the_scene(options: dict[str, Any], rng: np.random.Generator) -> None:
    count = 4000
    known = UlaScene(snapshots=6, antennas=12, **options)
    there, here = (
        known.frames(rng, count, 7.0),
        scene(7.0, snapshots=6, antennas=12, **options).frames(generator(), count),
    )
    theta, gain, observation = here.theta.numpy(), here.gain.numpy(), here.observation.numpy()
    assert np.all(np.diff(theta) > 0)
    assert np.diff(np.sort(np.sin(theta))).min() >= known.separation - 1e-6
    for user in range(3):
        assert stats.ks_2samp(theta[:, user], there.theta[:, user]).pvalue > 1e-3
    for moment in (
        lambda h: np.einsum("fmk,fml->kl", h, h.conj()) / h[..., 0].size,
        lambda h: np.einsum("fmk,fml->kl", h, h) / h[..., 0].size,
        lambda h: h.mean((0, 1)),
        lambda h: np.einsum("fk,fk->k", h.mean(1), h.mean(1).conj()) / count,
    ):
        np.testing.assert_allclose(moment(gain), moment(there.gain), atol=0.08)
    noise = observation - gain @ array_response(theta, 12, known.spacing)
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(10**-0.7, rel=0.01)
    assert abs(np.mean(noise**2)) < 0.01
    np.testing.assert_allclose(here.noise_var.numpy(), 10**-0.7, rtol=1e-6)


def test_the_snr_is_uniform_in_decibels_and_a_seed_gives_the_same_frames() -> None:
    made = scene((-10.0, 20.0), snapshots=2)
    one, other = made.frames(generator(), 3000), made.frames(generator(), 3000)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    snr_db = -10 * np.log10(one.noise_var.numpy())
    assert stats.kstest(snr_db, "uniform", (-10, 30)).pvalue > 1e-3


def test_the_prior_is_what_can_be_known() -> None:
    known = scene(k_factor_db=0.0, correlation=0.4).prior
    np.testing.assert_allclose(
        (known.factor @ known.factor.mH).real, [[0.5, 0.2, 0.2], [0.2, 0.5, 0.2], [0.2, 0.2, 0.5]], atol=1e-5
    )
    np.testing.assert_allclose(known.mean, np.sqrt(0.5) * np.ones(3), atol=1e-6)
    unknown = scene(k_factor_db=0.0, mean_phase="random").prior
    np.testing.assert_allclose(unknown.factor @ unknown.factor.mH, np.eye(3), atol=1e-5)
    assert torch.all(unknown.mean == 0)
    assert torch.isfinite(scene(correlation=1.0).prior.factor.diagonal().log().abs()).all()


def test_users_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadParam, match=r"scene.separation is 0.6, wanted such that the users fit the sector"):
        scene(separation=0.6, sector=(-0.1, 0.1)).frames(generator(), 1)


@pytest.mark.timeout(240)
def test_the_papers_configuration_is_killed_and_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert command.main([*PAPER, "--out", str(whole)]) == 0
    assert [int(row["step"]) for row in rows(whole)] == [*range(10, 101, 10), 104, *range(110, 201, 10), 208]
    killing = [sys.executable, "-c", KILLED, *PAPER, "--out", str(parts)]
    killed = subprocess.run(killing, check=False, stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    assert not (parts / MODEL).exists()
    assert load(parts / STATE).card["step"] == 60
    assert rows(parts)[-1]["step"] == "90"
    assert command.main([*PAPER, "--out", str(parts)]) == 0
    same(dict(load(whole / MODEL).weights), dict(load(parts / MODEL).weights))
    same(dict(load(whole / STATE).weights), dict(load(parts / STATE).weights))
    assert rows(whole) == rows(parts)
    result = json.loads((whole / RESULT).read_text())
    assert result["test"] == json.loads((parts / RESULT).read_text())["test"]
    assert (result["steps"], result["config"]["encoder"]["width"], result["config"]["learning_rate"]) == (208, 4, 1e-4)


@pytest.mark.parametrize("data", ["fixed", "fresh"])
def test_what_is_stopped_between_steps_is_saved_there_and_goes_on(tmp_path: Path, data: str) -> None:
    config = tiny(data=data)
    whole = trained(tmp_path / "whole", config)
    for stop in (3, 11):

        def stopping(told: dict[str, Any], stop: int = stop) -> None:
            if told["step"] == stop and "resumed" not in told:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            dual_path.train(config, tmp_path / "parts", stopping)
        assert load(tmp_path / "parts" / STATE).card["step"] == stop
    same(whole, trained(tmp_path / "parts", config))
    same(whole, trained(tmp_path / "parts", config))  # what is finished stays as it is
    other = trained(tmp_path / "other", config.model_copy(update={"seed": 1}))
    assert any(not np.array_equal(whole[name], other[name]) for name in whole)


def test_more_epochs_can_be_asked_for_later(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", tiny())
    trained(tmp_path / "parts", tiny(training_epochs=1))
    same(whole, trained(tmp_path / "parts", tiny()))


def test_a_state_of_another_configuration_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, tiny())
    with pytest.raises(
        BadCheckpoint, match=r"is of another configuration \(seed was 2025, is 7\); --fresh starts anew"
    ):
        trained(tmp_path, tiny(seed=7))
    kept = tmp_path / STATE
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(BadCheckpoint, match="no safetensors file"):
        trained(tmp_path, tiny())
    (tmp_path / MODEL).rename(kept)
    with pytest.raises(BadCheckpoint, match="kind 'dual_path', wanted 'dual_path_training'"):
        trained(tmp_path, tiny())


@pytest.mark.timeout(240)
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    file = tmp_path / "two.yml"
    settings_ = {"kind": "dual_path", **TINY, "encoder": {**TINY["encoder"], "norm": "group"}}
    file.write_text(json.dumps(settings_))
    assert command.main([str(file), "--out", str(tmp_path / "one")]) == 0
    two = process(
        str(file), "--out", str(tmp_path / "two"), module="torch.distributed.run --standalone --nproc-per-node 2"
    )
    subprocess.run(two, check=True, capture_output=True, timeout=200)
    one, other = (load(tmp_path / name / MODEL) for name in ("one", "two"))
    for name, array in one.weights.items():
        np.testing.assert_allclose(other.weights[name], array, rtol=1e-3, atol=1e-5, err_msg=name)
    assert other.card["test"] == pytest.approx(one.card["test"], rel=1e-2)
    assert [row["step"] for row in rows(tmp_path / "two")] == [row["step"] for row in rows(tmp_path / "one")]


def learner(tmp_path: Path, **changes: Any) -> Training:
    with team(CPU) as crew:
        return Training(tiny(**changes), tmp_path, crew, CPU)


def test_paths_learn_together_first_and_then_in_turn(tmp_path: Path) -> None:
    training = learner(tmp_path, alternation=2)
    seen = list[tuple[str, bool, bool]]()
    for _ in range(12):
        before = {name: w.clone() for name, w in training.method.named_parameters()}
        phase = training._advance()
        changed = {n for n, w in training.method.named_parameters() if not torch.equal(w, before[n])}
        paths = [any(name.startswith(f"encoder.{part}.") for name in changed) for part in ("angles", "channel")]
        seen.append((phase, paths[0], paths[1]))
    channel, angles = ("training", False, True), ("training", True, False)
    assert seen == [("initialisation", True, True)] * 6 + [channel, channel, angles, angles, channel, channel]


METHODS = [{"method": name} for name in ("dual_path", "original_vae", "labelled_vae", "supervised", "unsupervised_cnn")]
FORMS = [
    {"loss": "as_printed"}, {"loss": "collapsed"}, {"expectation": "exact"}, {"precision": "bfloat16"},
    {"weighting": "noise", "scene": {**TINY["scene"], "snr_db": [0, 10]}},
    {"encoder": {**TINY["encoder"], "sector_deg": [-180, 180], "pool": "flatten"}, "initialisation_epochs": 0},
]  # fmt: skip


@pytest.mark.parametrize("changes", METHODS + FORMS, ids=lambda changes: "-".join(map(str, changes.values()))[:24])
def test_every_method_learns(tmp_path: Path, changes: dict[str, Any]) -> None:
    """The loss of the same batch, in the second phase, before and after it was learned many times."""
    training = learner(tmp_path, learning_rate=3e-3, **{"initialisation_epochs": 0, **changes})
    frames = training.scene.frames(generator(), 64)
    training._batch = lambda step, phase: (frames, frames.theta)  # type: ignore[method-assign]
    first = dict[str, float]()
    for _ in range(30):
        training._advance()
        for name, loss in training.losses.items():
            first.setdefault(name, float(loss))
    assert first
    for name, loss in training.losses.items():
        assert float(loss) < first[name] - 0.02 * abs(first[name])
    training.config = training.config.model_copy(update={"test_frames": 20})
    found = training._accuracy()
    assert 0 <= found["outliers"] <= 1
    assert np.isfinite(list(found.values())).all()


def test_a_learned_decoder_is_learned_whatever_the_expectation_is_taken_by(tmp_path: Path) -> None:
    changes = {"method": "original_vae", "expectation": "exact", "initialisation_epochs": 0}
    training = learner(tmp_path, learning_rate=3e-3, **changes)
    decoder = training.method.parts()["decoder"]
    before = [weight.detach().clone() for weight in decoder.parameters()]
    training._advance()
    assert any((weight != old).any() for weight, old in zip(decoder.parameters(), before, strict=True))


def test_the_first_phase_learns_what_the_labels_say(tmp_path: Path) -> None:
    one = {"antennas": 8, "users": 1, "snapshots": 4, "separation": 0.0, "snr_db": 20.0}
    config = tiny(scene=one, initialisation_epochs=40, training_epochs=0, data="fresh", batch=16, learning_rate=3e-3)
    trained(tmp_path, config)
    found = json.loads((tmp_path / RESULT).read_text())["test"]
    assert found["aoa_rmse_all_deg"] < 8  # nothing learned: 34.6


def test_accuracy_is_that_of_a_loop(tmp_path: Path) -> None:
    made = scene(10.0, snapshots=6)
    frames = made.frames(generator(), 7)
    off = torch.tensor([[0.01, -0.02, 0.005]]).repeat(7, 1)
    off[2, 1] = 0.05
    theta, gain = frames.theta + off, frames.gain * torch.exp(torch.tensor(0.1j)) * 1.1
    shuffle = torch.tensor([2, 0, 1])
    seen = judge.sums(made, made.prior, frames, theta[:, shuffle], gain[..., shuffle])
    found = judge.figures(seen, 3)
    good = [f for f in range(7) if f != 2]
    assert found["outliers"] == pytest.approx(1 / 7)
    truth = np.sqrt(np.mean(off.numpy()[good] ** 2))
    assert found["aoa_rmse_deg"] == pytest.approx(np.rad2deg(truth), rel=1e-4)
    assert found["aoa_rmse_all_deg"] == pytest.approx(np.rad2deg(np.sqrt(np.mean(off.numpy() ** 2))), rel=1e-4)
    channel = frames.gain.numpy() @ array_response(frames.theta.numpy(), 32)
    ours = gain.numpy() @ array_response(theta.numpy(), 32)
    best = losses.posterior(frames.observation, made.array(theta), made.prior, frames.noise_var).mean.numpy()
    closed = best @ array_response(theta.numpy(), 32)
    for name, estimate in (("nmse_db", ours), ("nmse_closed_db", closed)):
        error = [np.sum(np.abs(a - b) ** 2) / np.sum(np.abs(b) ** 2) for a, b in zip(estimate, channel, strict=True)]
        assert found[name] == pytest.approx(10 * np.log10(np.mean(error)), abs=1e-3)
    assert found["gain_mse"] == pytest.approx(float((0.1 * frames.gain.abs()).square().mean()), rel=1e-4)
    assert found["phase_mse"] == pytest.approx(0.01, rel=1e-3)


def test_configurations_that_come_with_the_tool_are_right() -> None:
    files = sorted(settings.CONFIGS.glob("*.yml"))
    assert {settings.read(file)["kind"] for file in files} == set(trainers.TRAINERS)
    for file in files:
        found = settings.read(file)
        settings.checked(trainers.trainer(found["kind"]).Config, found, file.name)
    paper = settings.checked(Config, settings.read("paper.yml"), "paper.yml")
    known = paper.scene
    assert (known.users, known.snapshots, known.antennas, known.spacing) == (3, 40, 32, 0.5)
    assert (paper.learning_rate, paper.batch, paper.train_frames, paper.test_frames) == (1e-4, 128, 40_000, 10_000)
    assert (paper.initialisation_epochs, paper.training_epochs, paper.labels.step_deg) == (200, 800, 0.01)
    assert (paper.first_phase, paper.steps) == (200 * 312, 312_000)
    assert sum(paper.encoder.blocks) * 2 + 2 == 18


def test_a_file_changes_another_and_the_command_line_changes_both(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("kind: dual_path\nscene: {users: 2, antennas: 9}\nseed: 1\n")
    (tmp_path / "b.yml").write_text("base: a.yml\nscene: {users: 4}\n")
    found = settings.read(tmp_path / "b.yml", ["scene.snr_db=[0, 5]", "seed=3", "encoder.width=8"])
    assert found == {
        "kind": "dual_path", "scene": {"users": 4, "antennas": 9, "snr_db": [0, 5]}, "seed": 3, "encoder": {"width": 8},
    }  # fmt: skip
    (tmp_path / "c.yml").write_text("base: c.yml\n")
    with pytest.raises(BadParam, match="based on each other in a circle"):
        settings.read(tmp_path / "c.yml")
    with pytest.raises(BadParam, match="--set width: wanted KEY=VALUE"):
        settings.read(tmp_path / "a.yml", ["width"])
    with pytest.raises(BadParam, match="kind is 'dual_path', wanted a mapping"):
        settings.read(tmp_path / "a.yml", ["kind.width=3"])
    with pytest.raises(StorageError, match=r"d.yml: cannot be read"):
        settings.read(tmp_path / "d.yml")
    (tmp_path / "e.yml").write_text("- 1\n")
    with pytest.raises(BadParam, match="is list, wanted a mapping"):
        settings.read(tmp_path / "e.yml")


def test_mistakes_are_told_all_at_once_with_what_was_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wrong.yml"
    file.write_text("kind: dual_path\nlearnin_rate: 1\nbatch: 0\n")
    assert command.main([str(file), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "learnin_rate is 1: Extra inputs are not permitted; learning_rate?" in told
    assert "batch is 0: Input should be greater than or equal to 1" in told
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadParam, match=r"kind is 'dual', wanted one of dual_path, vae_ula, vae_upa; dual_path\?"):
        trainers.trainer("dual")
    with pytest.raises(BadParam, match="batch is 64, wanted at most train_frames = 48"):
        trained(tmp_path, tiny(batch=64))


def test_a_table_goes_on_after_a_step_and_without_what_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / CSV
    table = Table(path)
    table.add({"step": 1, "loss": 2.5})
    table.add({"step": 2, "loss": 2.0, "rmse": 0.5})
    table.add({"step": 3, "loss": 1.5})
    assert path.read_text() == "step,loss,rmse\n1,2.5,\n2,2.0,0.5\n3,1.5,\n"
    path.write_text(path.read_text()[:-3])
    again = Table(path)
    again.after(2)
    again.add({"step": 3, "loss": 1.25})
    assert path.read_text() == "step,loss,rmse\n1,2.5,\n2,2.0,0.5\n3,1.25,\n"


def test_a_signal_stops_the_training_between_two_steps(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Report(tmp_path, Console(quiet=True)) as report, command._Endings(report):
        report({"step": 1, "steps": 9, "loss": 1.0})
        for one in (signal.SIGTERM, signal.SIGINT):
            report.stopping = False
            signal.raise_signal(one)
            with pytest.raises(KeyboardInterrupt):
                report({"step": 2, "steps": 9})
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert [row["step"] for row in rows(tmp_path)] == ["1"]


def test_the_command_stops_with_130_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = tmp_path / "tiny.yml", tmp_path / "out"
    file.write_text(json.dumps({"kind": "dual_path", **TINY}))
    take = Report._take

    def interrupting(report: Report, told: dict[str, Any]) -> None:
        take(report, told)
        if told["step"] == 7:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Report, "_take", interrupting)
        assert command.main([str(file), "--out", str(out)]) == 130
    assert load(out / STATE).card["step"] == 7
    assert command.main([str(file), "--out", str(out)]) == 0
    assert [row["step"] for row in rows(out)] == [str(n) for n in [*range(1, STEPS + 1), STEPS]]
    assert command.main([str(file), "--out", str(out), "--set", "seed=3"]) == 2
    assert command.main([str(file), "--out", str(out), "--set", "seed=3", "--fresh"]) == 0


def test_progress_tells_the_time_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("train_vae.log.time.monotonic", lambda: now[0])
    console = Console(record=True, width=200, file=open(os.devnull, "w"), force_terminal=False)  # noqa: SIM115
    with Report(tmp_path, console) as report:
        for step in range(1, 4):
            report({"step": step, "steps": 3603, "phase": "training", "loss": 2.0})
            now[0] += 20.0
    console.file.close()
    assert "step 3 of 3603, training 0.05 steps/s, 20:00:00 left: loss 2" in console.export_text()
