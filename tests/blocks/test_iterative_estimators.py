"""The blocks of NOMP, SC-VBI, Turbo-VBI and the MMSE oracle: adapters that take the operator from the stream."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from beamslot_scene import SLOTS, scene

from beamslot.dsp.metrics import nmse
from beamslot.dsp.nomp import Nomp
from beamslot.dsp.oracle_mmse import OracleMmse
from beamslot.dsp.sc_vbi import ScVbi
from beamslot.dsp.turbo_vbi import TurboVbi
from beamslot.errors import PortMismatch
from beamslot.estimators.nomp import NompEstimator
from beamslot.estimators.oracle_mmse import OracleMmseEstimator
from beamslot.estimators.sc_vbi import ScVbiEstimator
from beamslot.estimators.turbo_vbi import TurboVbiEstimator
from beamslot.runtime import Block
from beamslot.runtime.testing import Outcome, run_block

BLOCKS: dict[type[Block], dict[str, Any]] = {
    NompEstimator: {"paths": 6, "false_alarm": 0.05},
    OracleMmseEstimator: {},
    ScVbiEstimator: {"max_paths": 6, "expected_paths": 3.0},
    TurboVbiEstimator: {"max_paths": 6, "expected_paths": 3.0},
}


@cache
def made(kind: type[Block], burst: int = 1) -> Outcome:
    inputs, infos = scene().feed(kind)
    return run_block(kind(**BLOCKS[kind]), inputs, infos=infos, slots=SLOTS, burst=burst, name="est")


@pytest.mark.parametrize("kind", BLOCKS)
def test_an_estimate_is_far_better_than_no_estimate(kind: type[Block]) -> None:
    error = nmse(made(kind)["estimate"]["channel"], scene().source["truth"]["channel"])
    assert 10 * np.log10(error.mean()) < -8


def test_no_block_beats_the_floor() -> None:
    floor, *others = (
        nmse(made(kind)["estimate"]["channel"], scene().source["truth"]["channel"]).mean()
        for kind in (OracleMmseEstimator, NompEstimator, ScVbiEstimator, TurboVbiEstimator)
    )
    assert floor < min(others)


@pytest.mark.parametrize("kind", BLOCKS)
def test_slots_in_bursts_are_slots_one_by_one(kind: type[Block]) -> None:
    one, several = made(kind)["estimate"], made(kind, 5)["estimate"]
    for name, array in one.items():
        np.testing.assert_allclose(several[name], array, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_stream_without_an_operator_is_refused(kind: type[Block]) -> None:
    inputs, infos = scene().feed(kind)
    bare = {**infos, "rf": infos["rf"].replace(operator=None)}
    with pytest.raises(PortMismatch, match=r"est\.rf: the stream carries no measurement operator"):
        run_block(kind(), inputs, infos=bare, name="est")


@pytest.mark.parametrize(
    ("kind", "function"), [(NompEstimator, Nomp), (ScVbiEstimator, ScVbi), (TurboVbiEstimator, TurboVbi)]
)
def test_a_block_is_the_function_of_the_library(kind: type[Block], function: Any) -> None:
    info = scene().combined.infos["rf"]
    direct = function(info.geometry, info.operator, **BLOCKS[kind]).estimate(scene().combined["rf"])
    np.testing.assert_array_equal(made(kind)["estimate"]["channel"], direct.channel)
    assert made(kind).infos["estimate"].axes == {"user": 2, "y": 12, "z": 12, "path": 6}


def test_the_oracle_is_told_powers_but_no_phases() -> None:
    info, truth = scene().combined.infos["rf"], scene().source["truth"]
    power = np.abs(truth["gain"]) ** 2
    direct = OracleMmse(info.geometry, info.operator).estimate(
        scene().combined["rf"], power, truth["u"], truth["v"], truth["mask"]
    )
    np.testing.assert_allclose(made(OracleMmseEstimator)["estimate"]["channel"], direct.channel, atol=1e-5)
    assert made(OracleMmseEstimator).infos["estimate"].operator == info.operator
