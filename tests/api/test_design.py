"""Designed groupings: the verb that makes them, and their files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from beamslot import __version__
from beamslot.cli import design as verb
from beamslot.cli import main
from beamslot.dsp.eda import design
from beamslot.dsp.grouping import DesignedGrouping, Setting, load_grouping, save_grouping
from beamslot.errors import BadParam, BeamslotError, StorageError, VersionError

SMALL = ["design", "grouping", "--n-y", "24", "--groups", "3", "--population", "60", "--iterations", "8"]


def designed(**given: Any) -> DesignedGrouping:
    setting = Setting(**{"n_y": 24, "groups": 3, "population": 60, "elite": 12, "iterations": 8, **given})
    return design(setting, np.random.default_rng(0)).record(0)


def changed(path: Path, **entries: Any) -> Path:
    """Write a good file with some entries replaced; one that is None is left out."""
    save_grouping(path, designed())
    whole = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({name: value for name, value in whole.items() if value is not None}))
    return path


def told(path: Path, kind: type[BeamslotError]) -> str:
    with pytest.raises(kind) as caught:
        load_grouping(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


# Files


@pytest.mark.parametrize("given", [{}, {"spacing": 0.7, "region": (0.2, 0.8)}, {"interval": (0.1, 0.6), "rho": 1.4}])
def test_a_file_gives_back_what_was_written_and_leaves_no_draft(tmp_path, given):
    made = designed(**given)
    file = tmp_path / "made.json"
    file.write_text("something old")
    save_grouping(file, made)
    assert load_grouping(file) == made
    assert [path.name for path in tmp_path.iterdir()] == ["made.json"]
    plain = json.loads(file.read_text())
    assert (plain["format"], plain["version"], plain["package"]) == ("beamslot grouping", 1, __version__)
    assert (plain["seed"], plain["setting"]["n_y"], len(plain["group"])) == (0, 24, 24)


def test_files_that_cannot_be_read_or_written_are_told(tmp_path):
    assert told(tmp_path / "none.json", StorageError) == "cannot be read: no such file or directory"
    assert told(tmp_path, StorageError) == "cannot be read: is a directory"
    with pytest.raises(StorageError, match=r"none/made\.json: cannot be written: no such file or directory"):
        save_grouping(tmp_path / "none" / "made.json", designed())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no designed grouping: Invalid JSON"),
        (b"\xff\xfe", "is no designed grouping: Invalid JSON"),
        (b"[1, 2]", "is no designed grouping: Input should be an object; got [1, 2]"),
        (b"{}", "is no designed grouping: format: Field required; version: Field required"),
        (
            b'{"format": "other", "version": 1}',
            "is no designed grouping: format: got 'other'; wanted 'beamslot grouping'",
        ),
    ],
)
def test_what_is_no_designed_grouping_is_refused(tmp_path, content, problem):
    file = tmp_path / "made.json"
    file.write_bytes(content)
    assert told(file, BadParam).startswith(problem)


def test_another_version_is_told_before_anything_that_it_may_have_changed(tmp_path):
    file = changed(tmp_path / "made.json", version=2, group=None, setting={"columns": 24})
    assert told(file, VersionError) == "has version 2 of the format; wanted 1"


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"group": None}, "group: Field required"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted; got 'red'"),
        ({"group": [0, 1, 2]}, "group has 3 columns; wanted n_y, 24"),
        ({"group": [0, 1] * 12}, "group has the groups [0, 1]; wanted 0 .. 2, each"),
        ({"group": [0, 1, 3] * 8}, "group has the groups [0, 1, 3]; wanted 0 .. 2, each"),
        ({"group": [0.5] * 24}, "group.0: Input should be a valid integer"),
        ({"group": [-1] * 24}, "group.0: Input should be greater than or equal to 0; got -1"),
        ({"isl": [0.1]}, "isl has 1 numbers; wanted 3, one a group"),
        ({"srl": [1.0, 1.0, 1.0]}, "srl is [1.0, 1.0, 1.0]; wanted none above limit"),
        ({"isl": [0.1, 0.1, 0.1]}, "isl is [0.1, 0.1, 0.1]; wanted ["),
        ({"srl": [1e-9, 1e-9, 1e-9]}, "srl is [1e-09, 1e-09, 1e-09]; wanted ["),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0; got -1"),
        ({"history": []}, "history: List should have at least 1 item"),
        ({"setting": {"n_y": 24, "groups": 9}}, "setting: 9 groups of 24 columns cannot be told apart in azimuth"),
    ],
)
def test_a_damaged_file_is_refused_with_what_came_and_what_was_wanted(tmp_path, entries, problem):
    assert told(changed(tmp_path / "made.json", **entries), BadParam).startswith(problem)


def test_a_grouping_whose_columns_were_changed_by_hand_is_not_believed(tmp_path):
    group = designed().group
    other = next(n for n, g in enumerate(group) if g != group[0])
    group[0], group[other] = group[other], group[0]
    problem = told(changed(tmp_path / "made.json", group=group), BadParam)
    assert "which the columns of group have" in problem


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"n_y": 5, "groups": 2}, "test: 2 groups of 5 columns cannot be told apart in azimuth; wanted at least 3"),
        ({"interval": (0.0, -0.5)}, "test: interval: the first number must be below the second; got (0.0, -0.5)"),
        ({"interval": (-2.0, 0.0)}, "test: interval.0: Input should be greater than or equal to -1; got -2.0"),
        ({"region": (0.9, 0.1)}, "test: region: the first number must be below the second; got (0.9, 0.1)"),
        ({"rho": float("nan")}, "test: rho: Input should be a finite number"),
        ({"elite": 200}, "test: elite is 200; wanted less than population, 200"),
        ({"spacing": 0.01}, "test: side_lobe_region: 64 columns at 0.01 wavelengths have no side lobe"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, problem):
    with pytest.raises(BadParam) as caught:
        Setting.of("test", **{"n_y": 64, "groups": 4, **given})
    assert str(caught.value).startswith(problem)


def test_a_designed_grouping_cannot_be_made_wrong_either():
    with pytest.raises(ValidationError, match="group has 1 columns"):
        DesignedGrouping(**{**designed().model_dump(), "setting": designed().setting, "group": [0]})


# The verb


def test_the_verb_writes_what_the_same_seed_gives_and_shows_it(tmp_path, capsys):
    file = tmp_path / "made.json"
    assert main([*SMALL, "-o", str(file)]) == 0
    shown = capsys.readouterr()
    made = load_grouping(file)
    assert made == designed()
    assert f"{made.history[-1]:.4f}, 8 iterations" in shown.out
    columns = " ".join(str(n) for n, g in enumerate(made.group) if g == 2)
    assert columns in shown.out
    assert f"grouping: {file}" in shown.out
    assert shown.err == ""


def test_the_verb_speaks_json_and_takes_every_option(capsys):
    extra = [
        "--seed",
        "7",
        "--interval",
        "-0.2",
        "0.3",
        "--rho",
        "1.3",
        "--spacing",
        "0.6",
        "--region",
        "0.1",
        "0.9",
        "--json",
    ]
    assert main([*SMALL, *extra]) == 0
    made = DesignedGrouping.model_validate_json(capsys.readouterr().out)
    assert made.seed == 7
    assert made.setting == Setting(
        n_y=24,
        groups=3,
        interval=(-0.2, 0.3),
        rho=1.3,
        spacing=0.6,
        region=(0.1, 0.9),
        population=60,
        elite=12,
        iterations=8,
    )


def test_the_plot_is_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / "made.picture"
    assert main([*SMALL, "--plot", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    assert f"plot: {file}" in capsys.readouterr().out


def test_the_patterns_of_the_plot_are_one_at_their_middle_and_those_of_the_columns():
    made = design(Setting(n_y=24, groups=3, iterations=0), np.random.default_rng(0))
    for g, (delta, level) in enumerate(verb._patterns(made, made.group)):
        n = np.flatnonzero(made.group == g)
        cosine = np.sqrt(1 - ((g + 0.5) / 6 - 0.5) ** 2)
        at = np.array([300, 1000, 1400])
        expected = np.abs(np.exp(1j * np.pi * cosine * np.outer(delta[at], n)).mean(-1))
        np.testing.assert_allclose(10 ** (level[at] / 20), expected, rtol=1e-9)


def test_the_verb_says_what_is_wrong_before_it_works(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(verb, "find_spec", lambda _: None)
    assert main([*SMALL, "--plot", f"{tmp_path}/made.png"]) == 2
    assert main([*SMALL, "--rho", "-1"]) == 2
    assert main([*SMALL, "--rho", "0.1"]) == 2
    assert main([*SMALL, "-o", f"{tmp_path}/none/made.json"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith(
        "made.png: cannot be drawn: matplotlib is not installed; python -m pip install 'beamslot[plot]'"
    )
    assert lines[1] == "design grouping: rho: Input should be greater than 0; got -1.0"
    assert lines[2].startswith("eda: rho is 0.1, and no random grouping of 24 columns in 3 groups keeps it")
    assert lines[3] == f"{tmp_path}/none/made.json: cannot be written: no such file or directory"


def test_a_plot_that_cannot_be_written_is_told(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert main([*SMALL, "--plot", f"{tmp_path}/none/made.png"]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/none/made.png: cannot be written: no such file or directory\n"


@pytest.mark.parametrize("words", [["design"], ["design", "beams"], [*SMALL, "--groups", "0"], [*SMALL, "--seed", "x"]])
def test_bad_usage_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2
    assert "usage: beamslot design" in capsys.readouterr().err


def test_the_help_teaches_by_an_example_that_can_be_called(tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit) as end:
        main(["design", "grouping", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    example = next(line for line in text.splitlines() if line.startswith("  beamslot design grouping"))
    monkeypatch.chdir(tmp_path)
    assert main([*example.split()[1:], "--iterations", "1"]) == 0
    assert load_grouping(tmp_path / "grouping.json").setting.n_y == 64
    assert "grouping_file: grouping.json" in text
