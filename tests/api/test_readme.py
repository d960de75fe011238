"""The examples of the README do what it says, outside the checkout."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import beamslot

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", README, re.S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in BLOCKS:
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_readme_has_its_examples() -> None:
    assert [name for name, _ in BLOCKS] == ["hello.yml", "back_projection.py", "versus.yml", "test_back_projection.py"]


def test_the_explained_flowgraph_runs(folder: Path) -> None:
    done = run(folder, "-m", "beamslot", "run", "hello.yml", "-p", "snr_db=0", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"]


def test_a_block_of_ones_own_runs_beside_omp_on_the_same_slots(folder: Path) -> None:
    done = run(folder, "-m", "beamslot", "run", "versus.yml", "--blocks", "back_projection.py", "--json")
    assert done.returncode == 0, done.stderr
    judged = json.loads(done.stdout)["sinks"]["nmse"]
    assert judged["mine"]["draws"] == judged["omp"]["draws"] == 100
    assert judged["omp"]["nmse_db"] < judged["mine"]["nmse_db"] < 0


def test_the_test_of_that_block_passes(folder: Path) -> None:
    done = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_back_projection.py")
    assert "1 passed" in done.stdout, done.stdout


def test_the_python_example_prints_a_number(folder: Path) -> None:
    (code,) = re.findall(r"```python\n(import beamslot\n\nresult.*?)```", README, re.S)
    done = run(folder, "-c", code.replace("flowgraphs/hello.yml", "hello.yml"))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0


def test_the_figures_of_the_demo_are_those_that_it_gives() -> None:
    pytest.importorskip("onnxruntime")
    printed = dict(re.findall(r"^(\w+) +(-\d+\.\d\d) +-[\d.]+ \.\. -[\d.]+ +1,000 +(?:-[\d.]+)$", README, re.M))
    judged = beamslot.run(ROOT / "flowgraphs" / "dual.yml", pace="max").sinks["nmse"]
    assert sorted(printed) == ["omp", "vae_upa", "vp_nomp"]
    for name, nmse_db in printed.items():
        assert judged[name]["nmse_db"] == pytest.approx(float(nmse_db), abs=0.05)
