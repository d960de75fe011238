import subprocess
import sys

import pytest

from beamslot.cli import main


def python(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-P", "-m", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=100
    )


def test_a_scaffolded_block_passes_its_test_and_its_graph_runs_outside_the_checkout(tmp_path):
    made = python("beamslot", "new", "block", "my_estimator", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "my_estimator.py",
        "my_estimator.yml",
        "test_my_estimator.py",
    ]
    tested = python("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_my_estimator.py", cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "5 passed" in tested.stdout
    graph = ("my_estimator.yml", "--blocks", "my_estimator.py")
    ran = python("beamslot", "run", *graph, "--slots", "5", "--quiet", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr


def test_what_is_printed_are_the_commands_to_go_on_with(tmp_path, capsys):
    assert main(["new", "block", "MyThing", "--dir", str(tmp_path / "own")]) == 0
    said = capsys.readouterr().out
    assert "beamslot run my_thing.yml --blocks my_thing.py" in said
    assert "class MyThing(Block):" in (tmp_path / "own" / "my_thing.py").read_text()


def test_no_file_is_overwritten(tmp_path, capsys):
    (tmp_path / "mine.yml").write_text("precious")
    assert main(["new", "block", "mine", "--dir", str(tmp_path)]) == 2
    assert "mine.yml: is there already" in capsys.readouterr().err
    assert (tmp_path / "mine.yml").read_text() == "precious"
    assert not (tmp_path / "mine.py").exists()


@pytest.mark.parametrize("name", ["omp", "numpy", "queue", "source", "class", "3d", "a-b", "a__b", "b_2", "../x", ""])
def test_a_name_that_would_clash_or_is_none_is_refused(name, tmp_path, capsys):
    assert main(["new", "block", name, "--dir", str(tmp_path)]) == 2
    assert "wanted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
