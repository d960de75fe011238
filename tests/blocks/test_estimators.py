"""The estimator blocks: thin adapters that take the operator from the stream."""

import numpy as np
import pytest
from beamslot_scene import run_on_scene, scene

from beamslot.beamformers.combiner import Combiner
from beamslot.catalogue import find
from beamslot.dsp.metrics import nmse
from beamslot.dsp.omp import Omp
from beamslot.errors import PortMismatch
from beamslot.frame import Frame
from beamslot.runtime.testing import run_block
from beamslot.sources.upa_source import UpaSource

ESTIMATORS = [
    "gw_sc_vbi",
    "gw_tracker",
    "nomp",
    "omp",
    "oracle_ls",
    "oracle_mmse",
    "sc_vbi",
    "turbo_vbi",
    "vae_upa",
    "vp_nomp",
]


@pytest.mark.parametrize("block_id", ESTIMATORS)
def test_an_estimate_is_far_better_than_no_estimate(block_id: str) -> None:
    made = run_on_scene(block_id)[1]["estimate"]
    error = nmse(made["channel"], scene().source["truth"]["channel"])
    assert 10 * np.log10(error.mean()) < -8


@pytest.mark.parametrize("block_id", ESTIMATORS)
def test_a_stream_without_an_operator_is_refused(block_id: str) -> None:
    kind = find(block_id)
    inputs, infos = scene().feed(kind)
    bare = {**infos, "rf": infos["rf"].replace(operator=None)}
    with pytest.raises(PortMismatch, match=r"est\.rf: the stream carries no measurement operator"):
        run_block(kind(), inputs, infos=bare, name="est")


def test_omp_is_the_function_of_the_library() -> None:
    made = run_on_scene("omp")[1]["estimate"]
    info = scene().combined.infos["rf"]
    direct = Omp(info.geometry, info.operator, paths=6, grid=(24, 12)).estimate(scene().combined["rf"])
    np.testing.assert_allclose(made["channel"], direct.channel, atol=1e-5)
    np.testing.assert_array_equal(made["mask"], direct.mask)


def test_an_estimate_keeps_the_operator_that_it_was_measured_with() -> None:
    info = run_on_scene("omp")[1].infos["estimate"]
    assert info.operator == scene().combined.infos["rf"].operator
    assert info.axes == {"user": 2, "y": 12, "z": 12, "path": 6}


def test_slots_with_paths_outside_of_the_interval_are_tagged() -> None:
    source = run_block(UpaSource(n_y=32, n_z=24, paths=1, snr_db=20), slots=40)
    v = source["truth"]["v"][:, 0, 0]
    combiner = Combiner(antennas_per_chain=4, groups=2, interval=(-0.2, 0.0))
    combined = run_block(combiner, {"field": source["field"]}, infos={"field": source.infos["field"]})
    made = run_block(find("vp_nomp")(), {"rf": combined["rf"]}, infos={"rf": combined.infos["rf"]}, burst=4)
    frames = [item for _, item in made.items if isinstance(item, Frame)]
    tagged = [slot for frame in frames for slot in frame.tags.get("outside", [])]
    near = np.flatnonzero((v < -0.22) & (v > -0.29)).tolist()
    assert near
    assert set(near) <= set(tagged)
    assert not set(tagged) & set(np.flatnonzero(v > -0.19).tolist())
