"""The analog combiner: what it does is what it says in the stream."""

from pathlib import Path

import numpy as np
import pytest
from beamslot_scene import run_on_scene, scene

from beamslot.beamformers.combiner import Combiner
from beamslot.dsp.combine import dense
from beamslot.dsp.eda import design
from beamslot.dsp.grouping import Setting, save_grouping
from beamslot.errors import BadParam, ShapeError
from beamslot.runtime.testing import run_block


@pytest.mark.parametrize("beams", ["group", "random", "wide"])
@pytest.mark.parametrize("grouping", ["balanced_random", "contiguous", "eda", "interleaved"])
def test_the_operator_in_the_stream_is_the_one_that_was_applied(beams: str, grouping: str) -> None:
    made = run_on_scene("combiner", beams=beams, grouping=grouping)[1]
    operator = made.infos["rf"].operator
    assert operator is not None
    field = scene().source["field"]
    expected = field.reshape(*field.shape[:2], -1) @ dense(operator.weights).T
    np.testing.assert_allclose(made["rf"].reshape(expected.shape), expected, atol=1e-4)
    assert operator.noise_var is None


def test_groups_are_as_asked() -> None:
    groups = {
        grouping: run_on_scene("combiner", grouping=grouping)[1].infos["rf"].operator.group
        for grouping in ("balanced_random", "contiguous", "interleaved")
    }
    assert groups["contiguous"].tolist() == [0] * 6 + [1] * 6
    assert groups["interleaved"].tolist() == [0, 1] * 6
    assert sorted(groups["balanced_random"].tolist()) == [0] * 6 + [1] * 6
    assert groups["balanced_random"].tolist() not in (groups["contiguous"].tolist(), groups["interleaved"].tolist())


def test_chains_that_do_not_divide_the_rows_are_refused_with_those_that_would() -> None:
    inputs, infos = scene().feed(Combiner)
    with pytest.raises(
        ShapeError, match=r"antennas_per_chain: 5 does not divide the array's 12 rows; wanted one of 1, 2"
    ):
        run_block(Combiner(antennas_per_chain=5), inputs, infos=infos)
    with pytest.raises(BadParam, match="13 groups of 12 columns"):
        run_block(Combiner(antennas_per_chain=3, groups=13), inputs, infos=infos)


def test_a_designed_grouping_depends_on_the_seed_and_has_fewer_side_lobes_than_equal_parts() -> None:
    first, again, other = (partition(seed, grouping="eda") for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert worst(first) < np.mean([worst(partition(seed, grouping="balanced_random")) for seed in range(8)])


def partition(seed: int = 3, **parameters: object) -> list[int]:
    return run_on_scene("combiner", seed=seed, **parameters)[1].infos["rf"].operator.group.tolist()


def worst(group: list[int]) -> float:
    """Return the mean of |chi|^2 over the side lobes of 12 columns at half a wavelength, of the worst group."""
    delta = np.linspace(1 / 6, 1, 2000)
    levels = []
    for g, v in enumerate((-0.375, -0.125)):
        n = np.flatnonzero(np.array(group) == g)
        levels.append(np.mean(np.abs(np.exp(1j * np.pi * np.sqrt(1 - v**2) * np.outer(delta, n)).mean(-1)) ** 2))
    return float(max(levels))


def test_a_grouping_that_was_designed_beforehand_is_used_as_it_is(tmp_path: Path) -> None:
    designed = design(Setting(n_y=12, groups=2, iterations=3), np.random.default_rng(0)).record(0)
    file = tmp_path / "made.json"
    save_grouping(file, designed)
    assert partition(grouping_file=str(file), grouping="contiguous") == designed.group
    assert partition(grouping_file=str(file), beams="random") == [0] * 12


def test_a_grouping_for_another_front_end_is_refused_with_the_differences(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    setting = Setting(n_y=15, groups=3, interval=(-0.25, 0.0), iterations=0)
    save_grouping(file, design(setting, np.random.default_rng(0)).record(0))
    with pytest.raises(BadParam) as caught:
        run_on_scene("combiner", grouping_file=str(file))
    assert str(caught.value) == (
        f"combiner.grouping_file: {file} was designed for n_y 15, groups 3, interval (-0.25, 0.0); "
        "wanted n_y 12, groups 2, interval (-0.5, 0.0)"
    )


def test_a_grouping_file_that_cannot_be_used_is_refused_by_the_name_of_the_block(tmp_path: Path) -> None:
    file = tmp_path / "made.json"
    for content, problem in (
        (None, "cannot be read: no such file or directory"),
        ('{"format": "beamslot grouping", "version": 2}', "has version 2 of the format; wanted 1"),
        ("{}", "is no designed grouping: format: Field required; version: Field required"),
    ):
        if content is not None:
            file.write_text(content)
        with pytest.raises(BadParam) as caught:
            run_on_scene("combiner", grouping_file=str(file))
        assert str(caught.value) == f"combiner.grouping_file: {file}: {problem}"


def test_groups_too_small_for_a_design_are_refused() -> None:
    with pytest.raises(
        BadParam, match=r"combiner\.grouping: eda: 5 groups of 12 columns .* at least 3 columns a group"
    ):
        run_on_scene("combiner", grouping="eda", groups=5)
