"""Deadlines, from the key of a flowgraph to the estimators that stop."""

from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import ruamel.yaml
from beamslot_scene import SLOTS, run_on_scene, scene

import beamslot
from beamslot.catalogue import find, ids
from beamslot.errors import BadParam, FlowgraphError
from beamslot.flowgraph import load, schema
from beamslot.frame import Frame
from beamslot.runtime.block import parameters_of
from beamslot.runtime.graph import Graph
from beamslot.runtime.testing import run_block

GRAPH = """\
options: {parameters: {id: late, slots: 20, seed: 1}}
variables: {ms: 1e-3}
blocks:
- {name: source, id: upa_source, parameters: {n_y: 12, n_z: 12, paths: 3, snr_db: 15}}
- {name: combiner, id: combiner, parameters: {antennas_per_chain: 3, groups: 2}%s}
- {name: gw, id: gw_sc_vbi, parameters: {max_paths: 6}%s}
- {name: nmse, id: nmse_sink}
connections:
- [source, field, combiner, field]
- [combiner, rf, gw, rf]
- [source, truth, nmse, truth]
- [gw, estimate, nmse, estimate]
"""

ITERATIVE = ["gw_sc_vbi", "nomp", "omp", "sc_vbi", "turbo_vbi", "vae_upa", "vp_nomp"]


def text(gw: str = "", combiner: str = "") -> str:
    """Return a flowgraph with more keys of its combiner in line 5, and of its estimator in line 6."""
    return GRAPH % (combiner and f", {combiner}", gw and f", {gw}")


@pytest.fixture
def late(tmp_path: Path) -> Callable[..., Graph]:
    def load_text(written: str, *overrides: str) -> Graph:
        file = tmp_path / "g.yml"
        file.write_text(written)
        return load(file, overrides=overrides)

    return load_text


# The key


@pytest.mark.parametrize(
    ("written", "deadline"),
    [
        ("", None),
        ("deadline: null", None),
        ("deadline: 0", 0.0),
        ("deadline: 0.02", 0.02),
        ("deadline: 20 * ms", 0.02),
    ],
)
def test_a_deadline_is_a_time(late: Callable[..., Graph], written: str, deadline: float | None) -> None:
    assert late(text(written)).blocks["gw"].deadline == deadline


def test_an_override_sets_a_deadline_and_takes_it_away(late: Callable[..., Graph]) -> None:
    assert late(text(), "gw.deadline=5 * ms").blocks["gw"].deadline == 0.005
    assert late(text("deadline: 1"), "gw.deadline=").blocks["gw"].deadline is None


@pytest.mark.parametrize(
    ("gw", "combiner", "line"),
    [
        ("deadline: -1", "", "6: gw.deadline: got -1; wanted a number >= 0"),
        ("deadline: .inf", "", "6: gw.deadline: got inf; wanted a finite number"),
        (
            "deadline: 5ms",
            "",
            "6: gw.deadline: got '5ms'; wanted a number [s]; it stands without its unit, such as 1e-6",
        ),
        ("deadlin: 1", "", "6: gw.deadlin: is not known; did you mean 'deadline'?"),
        (
            "",
            "deadline: 5 * ms",
            "5: combiner: got a deadline of 0.005 s; wanted none: Combiner.process does not ask for budget, so it"
            " cannot be told that time is up",
        ),
    ],
)
def test_a_deadline_that_cannot_be_is_told_with_its_line(
    late: Callable[..., Graph], tmp_path: Path, gw: str, combiner: str, line: str
) -> None:
    with pytest.raises(FlowgraphError) as caught:
        late(text(gw, combiner))
    assert str(caught.value) == f"{tmp_path}/g.yml:{line}"


def test_a_deadline_that_is_no_use_cites_its_key_and_keeps_its_type(late: Callable[..., Graph], tmp_path: Path) -> None:
    written = text().replace("- {name: nmse, id: nmse_sink}", "- name: nmse\n  id: nmse_sink\n  deadline: 3")
    with pytest.raises(FlowgraphError) as caught:
        late(written)
    assert str(caught.value).startswith(f"{tmp_path}/g.yml:9: nmse: got a deadline of 3 s; wanted none: NmseSink.")
    assert [type(problem) for problem in caught.value.causes] == [BadParam]


def test_a_block_that_is_not_known_is_not_told_that_it_can_have_none(late: Callable[..., Graph]) -> None:
    with pytest.raises(FlowgraphError) as caught:
        late(text("deadline: 1").replace("gw_sc_vbi", "gw_sc_vb"))
    assert "deadline" not in str(caught.value)


def test_an_editor_knows_the_key() -> None:
    editor = jsonschema.Draft202012Validator(schema())
    for written, marked in (("deadline: 20 * ms", False), ("deadline: 0", False), ("deadline: -1", True)):
        document = ruamel.yaml.YAML(typ="safe", pure=True).load(text(written))
        assert bool([*editor.iter_errors(document)]) == marked
    (items,) = [schema()["properties"]["blocks"]["items"]["properties"]["deadline"]]
    assert items["description"].endswith("absent: as long as it likes [s]")


# The estimators


def test_the_iterative_estimators_ask_for_their_budget_and_no_other_block_does() -> None:
    assert [name for name in ids({}) if "budget" in parameters_of(find(name).process)] == ITERATIVE


@pytest.mark.parametrize("block_id", [name for name in ITERATIVE if name != "vae_upa"])
def test_an_estimator_that_is_late_gives_what_one_round_gives(block_id: str) -> None:
    block, unhurried = run_on_scene(block_id)
    inputs, infos = scene().feed(type(block))
    late = run_block(block, inputs, infos=infos, burst=4, deadline=0.0)
    assert [item.tags["deadline"] for _, item in late.items if isinstance(item, Frame)] == [True] * (SLOTS // 4)
    rounds, all_rounds = late["estimate"]["iterations"], unhurried["estimate"]["iterations"]
    assert rounds.shape == all_rounds.shape == (SLOTS, 2)
    assert (rounds >= 1).all()
    assert rounds.sum() < all_rounds.sum()
    assert rounds.max() == (2 if block_id == "gw_sc_vbi" else 1), "in the groups and in the joint stage, one each"
    assert not late["estimate"]["converged"].all()
    assert np.isfinite(late["estimate"]["channel"]).all()


@pytest.mark.parametrize("block_id", ITERATIVE)
def test_a_deadline_far_away_changes_nothing(block_id: str) -> None:
    block, free = run_on_scene(block_id)
    inputs, infos = scene().feed(type(block))
    bound = run_block(block, inputs, infos=infos, deadline=1e6)
    for name, array in free["estimate"].items():
        np.testing.assert_array_equal(bound["estimate"][name], array)
    assert not any("deadline" in item.tags for _, item in bound.items if isinstance(item, Frame))


# A run


def test_a_run_in_which_all_are_late_delivers_all_slots_and_says_which_were_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "g.yml"
    file.write_text(text("deadline: 0"))
    hurried, unhurried = beamslot.run(file), beamslot.run(file, parameters={"gw.deadline": None})
    for result, short in ((hurried, 20), (unhurried, 0)):
        assert result.ok
        assert result["blocks"]["gw"]["cut_short"] == short
        assert result.sinks["nmse"]["gw"]["draws"] == 20
        for edge in result.edges:
            assert (edge["offered"], edge["acknowledged"], edge["dropped"], edge["in_flight"]) == (20, 20, {}, 0)
    assert unhurried.sinks["nmse"]["gw"]["nmse_db"] < hurried.sinks["nmse"]["gw"]["nmse_db"] < 0
    assert hurried["notes"] == ["gw: 20 of 20 slots cut short by its deadline"]
    assert unhurried["notes"] == []
