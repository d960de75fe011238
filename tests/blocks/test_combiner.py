"""The analog combiner: what it does is what it says in the stream."""

import numpy as np
import pytest
from beamslot_scene import run_on_scene, scene

from beamslot.beamformers.combiner import Combiner
from beamslot.dsp.combine import dense
from beamslot.errors import BadParam, ShapeError
from beamslot.runtime.testing import run_block


@pytest.mark.parametrize("beams", ["group", "random", "wide"])
@pytest.mark.parametrize("grouping", ["balanced_random", "contiguous", "interleaved"])
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
