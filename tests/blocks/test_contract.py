"""What every block of the catalogue promises, whatever it does."""

import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_scene import PARAMETERS, SLOTS, recording, run_on_scene, scene

from beamslot.catalogue import CATALOGUE, find
from beamslot.errors import BlockFailed, FlowgraphError, FrameError, ShapeError
from beamslot.frame import Frame
from beamslot.runtime import Tagged
from beamslot.runtime.block import Block, RunContext, describe_outputs, parameters_of
from beamslot.runtime.testing import run_block

SINGLE_PRECISION = 2e-5
IDS = [block_id for block_id in sorted(CATALOGUE) if not (find(block_id).remote or find(block_id).live)]
_numbers = itertools.count()
RESUMING = [block_id for block_id in IDS if find(block_id).resumes()]


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=IDS)
def block_id(request: pytest.FixtureRequest) -> str:
    if request.param == "umi_source":
        pytest.importorskip("sionna")
    return request.param


def extra(block_id: str) -> dict[str, Any]:
    if block_id == "replay_source":
        return {"path": recording("replayed")}
    needed = {
        "calibration": {"measure": 9},
        "gnuradio_sink": {"bind": f"ipc://{os.environ['XDG_RUNTIME_DIR']}/radio.{next(_numbers)}", "wait": False},
        "jsonl_sink": {"path": "slots.jsonl"},
        "vae_adapter": {"publish": "net.safetensors"},
    }
    return needed.get(block_id, {})


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
    assert one[0].results() == several[0].results() == whole[0].results()


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


def started(block_id: str) -> Block:
    """Return a block of the catalogue, started on the scene."""
    kind = find(block_id)
    block = kind(**PARAMETERS[block_id], **extra(block_id))
    block.join_run(RunContext(block_id, 3))
    inputs, infos = scene().feed(kind)
    many = {port: dict.fromkeys(inputs[port], infos[port]) for port in inputs if kind.inputs[port].many}
    describe_outputs(block, {**infos, **many})
    return block


def called(block: Block, first: int, end: int) -> list[Any]:
    """Return what a started block gives for some slots of the scene, in calls of two."""
    inputs = scene().feed(type(block))[0]
    sources = next((list(inputs[port]) for port in inputs if block.inputs[port].many), [""])
    wanted = parameters_of(block.process)
    made: list[Any] = []
    for at in range(first, end, 2):
        for source in sources:
            chosen = {port: inputs[port][source] if block.inputs[port].many else inputs[port] for port in inputs}
            given = {port: cut(arrays, at, at + 2) for port, arrays in chosen.items()}
            given |= {"slots": range(at, at + 2), "source": source, "message": None}
            outputs = block.process(**{name: given[name] for name in wanted})
            made.append([outputs.outputs, outputs.tags] if isinstance(outputs, Tagged) else outputs)
    return made


def cut(arrays: Any, first: int, end: int) -> Any:
    return {n: a[first:end] for n, a in arrays.items()} if isinstance(arrays, Mapping) else arrays[first:end]


def without_arrays(state: Any) -> Any:
    if isinstance(state, Mapping):
        return {key: without_arrays(value) for key, value in state.items()}
    if isinstance(state, list):
        return [without_arrays(value) for value in state]
    return None if isinstance(state, np.ndarray) else state


@pytest.mark.parametrize("block_id", RESUMING)
def test_a_block_that_is_put_back_half_way_goes_on_as_if_undisturbed(block_id: str) -> None:
    undisturbed = started(block_id)
    called(undisturbed, 0, SLOTS // 2)
    expected = called(undisturbed, SLOTS // 2, SLOTS)
    undisturbed.stop()
    broken = started(block_id)
    called(broken, 0, SLOTS // 2)
    state = broken.snapshot()
    plain = without_arrays(state)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    called(broken, SLOTS // 2, SLOTS - 2)  # lost with the process, and no part of the state that was taken
    again = started(block_id)
    again.restore(state)
    np.testing.assert_equal(called(again, SLOTS // 2, SLOTS), expected)
    assert again.results() == undisturbed.results()
    for block in (again, broken):
        block.stop()


def test_sinks_that_judge_or_write_can_be_put_back() -> None:
    assert {"angle_sink", "compare_sink", "jsonl_sink", "nmse_sink", "null_sink"} <= set(RESUMING)
