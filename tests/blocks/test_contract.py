"""What every block of the catalogue promises, whatever it does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_scene import SLOTS, run_on_scene, scene

from beamslot.catalogue import CATALOGUE, find
from beamslot.errors import BlockFailed, FlowgraphError, FrameError, ShapeError
from beamslot.frame import Frame
from beamslot.runtime.testing import run_block

SINGLE_PRECISION = 2e-5
IDS = sorted(CATALOGUE)


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=IDS)
def block_id(request: pytest.FixtureRequest) -> str:
    if request.param == "umi_source":
        pytest.importorskip("sionna")
    return request.param


def extra(block_id: str) -> dict[str, Any]:
    return {"path": "slots.jsonl"} if block_id == "jsonl_sink" else {}


def flat(outcome: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for port, made in outcome.arrays.items():
        arrays |= {port: made} if isinstance(made, np.ndarray) else {f"{port}.{name}": a for name, a in made.items()}
    return arrays


def test_pieces_equal_the_whole(block_id: str) -> None:
    one, several, whole = (run_on_scene(block_id, burst=burst, **extra(block_id)) for burst in (1, 5, SLOTS))
    for name, array in flat(whole[1]).items():
        for pieces in (one, several):
            made = flat(pieces[1])[name]
            assert made.shape == array.shape
            if array.dtype.kind in "fc":
                scale = float(np.abs(array).max()) or 1.0
                np.testing.assert_allclose(made, array, rtol=0, atol=SINGLE_PRECISION * scale, err_msg=name)
            else:
                np.testing.assert_array_equal(made, array, err_msg=name)
    assert one[0].results() == several[0].results() or block_id == "nmse_sink"


def test_the_same_seed_gives_the_same_bits_and_a_block_can_be_started_again(block_id: str) -> None:
    block, first = run_on_scene(block_id, **extra(block_id))
    inputs, infos = scene().feed(type(block))
    again = run_block(block, inputs, infos=infos, slots=SLOTS, seed=3, name=block_id)
    fresh = run_on_scene(block_id, **extra(block_id))[1]
    for name, array in flat(first).items():
        np.testing.assert_array_equal(flat(again)[name], array, err_msg=name)
        np.testing.assert_array_equal(flat(fresh)[name], array, err_msg=name)


def test_sources_depend_on_the_seed() -> None:
    one, other = (run_on_scene("upa_source", seed=seed)[1]["field"] for seed in (1, 2))
    assert not np.array_equal(one, other)


def test_no_returned_array_is_used_again(block_id: str) -> None:
    frames = [item for _, item in run_on_scene(block_id, **extra(block_id))[1].items if isinstance(item, Frame)]
    arrays = [array for frame in frames for array in frame.arrays.values()]
    for index, array in enumerate(arrays):
        assert not array.flags.writeable
        if index:
            assert not np.shares_memory(array, arrays[index - 1])


def test_an_array_of_the_wrong_shape_is_refused_by_name(block_id: str) -> None:
    kind = find(block_id)
    inputs, infos = scene().feed(kind)
    sized = [port for port in inputs if isinstance(inputs[port], np.ndarray)]
    if not sized:
        pytest.skip("takes any stream, or several arrays")
    given = {**inputs, sized[0]: inputs[sized[0]][..., :-1]}
    with pytest.raises(ShapeError, match=f"^{sized[0]}: {sized[0]} has shape"):
        run_block(kind(**extra(block_id)), given, infos=infos, name=block_id)
    outcome = run_block(kind(**extra(block_id)), given, infos=infos, name=block_id, strict=False)
    assert outcome.core is not None
    assert outcome.core.misfits == {"corrupt": SLOTS}


def test_a_stream_of_other_axes_is_refused_with_both_in_the_text(block_id: str) -> None:
    kind = find(block_id)
    inputs, infos = scene().feed(kind)
    sized = [port for port in inputs if isinstance(inputs[port], np.ndarray)]
    if not sized:
        pytest.skip("takes any stream, or several arrays")
    wrong = dict(infos) | {sized[0]: scene().oracle.infos["estimate"]}
    with pytest.raises((FlowgraphError, FrameError, BlockFailed)) as caught:
        run_block(kind(**extra(block_id)), inputs, infos=wrong, name=block_id)
    assert block_id in str(caught.value)
    assert "does not come" in str(caught.value)


def test_the_declaration_teaches(block_id: str) -> None:
    kind = find(block_id)
    assert (kind.__doc__ or "a")[0].isupper()
    for name, parameter in kind.model_fields.items():
        assert parameter.description, f"{block_id}.{name} has no description"
