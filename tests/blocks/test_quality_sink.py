"""The sink that judges by all that there is: truth is the other sinks, and estimates whose faults are known."""

import json
from typing import Any

import numpy as np
import pytest
from beamslot_scene import SLOTS, run_on_scene, scene
from numpy.typing import NDArray

from beamslot.errors import PortMismatch
from beamslot.frame import StreamInfo
from beamslot.runtime.testing import run_block
from beamslot.sinks.quality_sink import QualitySink

Arrays = dict[str, NDArray[Any]]


def judged(
    ports: str = "truth rf estimate", changes: Arrays | None = None, burst: int = 1, **parameters: Any
) -> dict[str, Any]:
    """Return what the sink says of the oracle on the scene, some of its arrays changed."""
    inputs, infos = scene().feed(QualitySink)
    inputs["estimate"] = {"oracle.estimate": {**inputs["estimate"]["oracle.estimate"], **(changes or {})}}
    sink = QualitySink(**parameters)
    given = {port: inputs[port] for port in ports.split()}
    run_block(sink, given, infos=infos, burst=burst, name="quality")
    return sink.results()


def oracle(name: str) -> NDArray[Any]:
    return scene().oracle["estimate"][name]


def test_error_and_bound_are_those_of_the_nmse_sink() -> None:
    told, known = judged(), run_on_scene("nmse_sink")[0].results()
    for name in ("oracle", "crb"):
        for key in ("nmse_db", "ci95_db", "draws"):
            assert told[name][key] == pytest.approx(known[name][key], rel=1e-9)
    over = known["oracle"]["nmse_db"] - known["crb"]["nmse_db"]
    assert told["oracle"]["over_crb_db"] == pytest.approx(over, abs=1e-9)


def test_the_stated_error_is_held_against_the_true_one() -> None:
    honest, boastful = judged()["oracle"], judged(changes={"error_var": oracle("error_var") / 4})["oracle"]
    assert boastful["error_to_stated_db"] == pytest.approx(honest["error_to_stated_db"] + 20 * np.log10(2), abs=1e-6)
    assert boastful["stated_nmse_db"] == pytest.approx(honest["stated_nmse_db"] - 20 * np.log10(2), abs=1e-6)
    assert boastful["coverage"]["0.95"] < 0.3 < honest["coverage"]["0.95"]
    assert list(honest["coverage"]) == list(honest["coverage_ci95"]) == ["0.5", "0.9", "0.95"]


def test_the_unknowns_of_a_path_say_how_widely_an_honest_error_scatters() -> None:
    wide, narrow = judged(unknowns=1)["oracle"], judged(unknowns=8)["oracle"]
    assert wide["coverage"]["0.9"] > narrow["coverage"]["0.9"]


def test_the_residual_of_the_truth_is_noise_and_that_of_nothing_is_not() -> None:
    right, wrong = judged()["oracle"], judged(changes={"channel": 0 * oracle("channel")})["oracle"]
    assert abs(right["residual_to_noise_db"]) < 0.5
    assert right["plausible_share"] > 0.7 < right["white_share"]
    assert max(right["column_lag"], right["chain_lag"]) < 0.1
    assert wrong["residual_to_noise_db"] > 10
    assert wrong["plausible_share"] == 0
    assert wrong["white_share"] < 0.5
    assert wrong["column_lag"] > 0.1


def test_directions_effort_and_what_is_not_finite_are_told() -> None:
    told = judged(changes={"u": oracle("u") + np.float32(0.3), "converged": oracle("converged") & False})["oracle"]
    assert (told["strongest_found_share"], told["strongest_rmse_deg"], told["converged_share"]) == (0, None, 0)
    told = judged()["oracle"]
    assert (told["strongest_found_share"], told["paths"], told["iterations"]) == (1, 3, 1)
    assert told["strongest_rmse_deg"] == pytest.approx(0, abs=1e-4)
    bad = oracle("error_var").copy()
    bad[4, 1] = np.nan
    told = judged(changes={"error_var": bad})["oracle"]
    assert (told["not_finite"], told["first_not_finite"], told["slots"]) == (1, 4, SLOTS - 1)


@pytest.mark.parametrize(
    ("ports", "there", "not_there"),
    [
        ("estimate", "iterations", "nmse_db residual_to_noise_db"),
        ("rf estimate", "residual_to_noise_db", "nmse_db over_crb_db"),
        ("truth estimate", "nmse_db over_crb_db coverage", "residual_to_noise_db"),
    ],
)
def test_what_is_not_connected_is_not_judged(ports: str, there: str, not_there: str) -> None:
    told = judged(ports)
    assert set(there.split()) <= set(told["oracle"])
    assert not set(not_there.split()) & set(told["oracle"])
    assert ("crb" in told) == ("truth" in ports)
    assert told["oracle"]["draws"] == (4 if "truth" in ports else SLOTS)


def test_without_the_truth_a_residual_is_held_against_the_noise_that_is_stated() -> None:
    true, stated = judged(), judged("rf estimate")
    noise = 3 * scene().source["truth"]["antenna_noise_var"]
    ratio = np.mean(noise / oracle("noise_var"))
    told = stated["oracle"]["residual_to_noise_db"] - true["oracle"]["residual_to_noise_db"]
    assert told == pytest.approx(10 * np.log10(ratio), abs=0.2)


def test_the_bound_can_be_left_out() -> None:
    told = judged(crb=False)
    assert list(told) == ["oracle"]
    assert "over_crb_db" not in told["oracle"]


def test_pieces_equal_the_whole_to_the_bit() -> None:
    one, several, whole = (judged(burst=burst) for burst in (1, 5, SLOTS))
    assert one == several == whole
    assert json.loads(json.dumps(one, allow_nan=False)) == one


def test_a_description_that_changes_on_the_way_does_not_reset_what_was_judged() -> None:
    inputs, infos = scene().feed(QualitySink)
    sink = QualitySink()
    run_block(sink, inputs, infos=infos, name="quality")
    before = sink.results()
    sink.start(infos["truth"], infos["rf"], {"oracle.estimate": infos["estimate"].replace(carrier=1e9)})
    assert sink.results() == before


def test_observations_without_their_operator_are_refused() -> None:
    inputs, infos = scene().feed(QualitySink)
    bare: StreamInfo = infos["rf"].replace(operator=None)
    with pytest.raises(PortMismatch, match=r"^quality\.rf: the stream carries no measurement operator; wanted that of"):
        run_block(QualitySink(), inputs, infos={**infos, "rf": bare}, name="quality")
