"""The block of the UPA net: a thin adapter that takes the operator from the stream."""

import numpy as np
import pytest
from beamslot_scene import scene

from beamslot.dsp.metrics import nmse
from beamslot.dsp.vae_upa import VaeUpa
from beamslot.errors import BadParam, PortMismatch
from beamslot.estimators.vae_upa import VaeUpaEstimator
from beamslot.runtime.testing import Outcome, run_block


def run(**parameters: object) -> Outcome:
    combined = scene().combined
    block = VaeUpaEstimator(max_paths=6, **parameters)
    return run_block(block, {"rf": combined["rf"]}, infos={"rf": combined.infos["rf"]}, burst=4, name="est")


def test_an_estimate_is_far_better_than_no_estimate() -> None:
    error = nmse(run()["estimate"]["channel"], scene().source["truth"]["channel"])
    assert 10 * np.log10(error.mean()) < -15


@pytest.mark.parametrize("rounds", [0, 20])
def test_it_is_the_function_of_the_library(rounds: int) -> None:
    made, info = run(rounds=rounds)["estimate"], scene().combined.infos["rf"]
    direct = VaeUpa(info.geometry, info.operator, max_paths=6, rounds=rounds).estimate(scene().combined["rf"])
    for name in ("u", "v", "gain", "channel", "noise_var", "error_var"):
        np.testing.assert_allclose(made[name], getattr(direct, name), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(made["mask"], direct.mask)


def test_the_operator_goes_on_with_the_estimate() -> None:
    made = run()
    assert made.infos["estimate"].operator == scene().combined.infos["rf"].operator
    assert made.infos["estimate"].axes["path"] == 6


def test_a_stream_without_an_operator_is_refused() -> None:
    bare = scene().combined.infos["rf"].replace(operator=None)
    with pytest.raises(PortMismatch, match=r"est\.rf: the stream carries no measurement operator"):
        run_block(VaeUpaEstimator(), {"rf": scene().combined["rf"]}, infos={"rf": bare}, name="est")


def test_a_file_that_is_no_checkpoint_is_refused() -> None:
    with pytest.raises(BadParam, match=r"pyproject\.toml"):
        run(checkpoint="pyproject.toml")
