"""The alarm without truth, on residuals of a real estimator: chains that die, phases that drift, and nothing."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import beamslot
from beamslot.beamformers.combiner import Combiner
from beamslot.errors import PortMismatch
from beamslot.estimators.omp import OmpEstimator
from beamslot.frame import Frame
from beamslot.runtime.testing import Outcome, run_block
from beamslot.sinks.drift_alarm import DriftAlarm
from beamslot.sources.upa_source import UpaSource

SLOTS, BEGIN = 500, 350


@cache
def combined() -> Outcome:
    source = run_block(UpaSource(n_y=12, n_z=12, paths=2, snr_db=10), slots=SLOTS, seed=4, name="source")
    front_end = Combiner(antennas_per_chain=3, groups=2)
    return run_block(front_end, {"field": source["field"]}, infos=source.infos, name="combiner")


def charted(
    rf: NDArray[Any], burst: int = 1, noise_var: float | None = None, **parameters: Any
) -> tuple[DriftAlarm, Outcome]:
    """Return what the alarm says of OMP on some observations."""
    info = combined().infos["rf"]
    if noise_var is not None:
        assert info.operator is not None
        info = info.replace(operator=replace(info.operator, noise_var=noise_var))
    made = run_block(OmpEstimator(paths=4, grid=(24, 12)), {"rf": rf}, infos={"rf": info}, burst=50, name="omp")
    alarm = DriftAlarm(**parameters)
    inputs, infos = {"rf": rf, "estimate": made["estimate"]}, {"rf": info, "estimate": made.infos["estimate"]}
    return alarm, run_block(alarm, inputs, infos=infos, burst=burst, name="watch")


def dying() -> NDArray[Any]:
    """Return observations of which three chains of 48 are dead from a slot on."""
    rf = combined()["rf"].copy()
    rf[BEGIN:, :, 3, 1] = rf[BEGIN:, :, 7, 0] = rf[BEGIN:, :, 9, 2] = 0
    return rf


def test_nothing_is_raised_while_nothing_happens() -> None:
    alarm, made = charted(combined()["rf"])
    told = alarm.results()
    assert (told["alarm"], told["alarms"], told["since"], told["chains"], told["learning"]) == (0, 0, None, [], False)
    assert told["slots"] == SLOTS
    assert not made["alarm"]["alarm"].any()
    assert np.abs(made["alarm"]["level"]).max() < 1
    assert not any(item.tags for _, item in made.items if isinstance(item, Frame))


@pytest.mark.parametrize("noise_var", [None, 0.3])
def test_chains_that_die_raise_an_alarm_within_slots_and_the_frames_are_tagged(noise_var: float | None) -> None:
    alarm, made = charted(dying(), noise_var=noise_var)
    told = alarm.results()
    assert (told["alarm"], told["alarms"]) == (1, 1)
    assert BEGIN <= told["since"] < BEGIN + 15
    assert told["chains"] == [[3, 1], [7, 0], [9, 2]]
    raised = np.flatnonzero(made["alarm"]["alarm"])
    assert raised[0] == told["since"]
    tags = [item.tags.get("drift") for _, item in made.items if isinstance(item, Frame)]
    assert tags == [[slot] if slot in set(raised.tolist()) else None for slot in range(SLOTS)]


def test_phases_that_drift_apart_raise_an_alarm() -> None:
    rates = 0.01 * np.random.default_rng(5).standard_normal(combined()["rf"].shape[2:])
    ramp = np.maximum(np.arange(SLOTS) - BEGIN, 0)[:, None, None, None]
    alarm, _ = charted((combined()["rf"] * np.exp(1j * rates * ramp)).astype(np.complex64))
    assert BEGIN < alarm.results()["since"] < BEGIN + 60


def test_noise_that_falls_is_told_from_noise_that_rises() -> None:
    rf = combined()["rf"].copy()
    rf[BEGIN:] *= 0.7
    assert charted(rf)[0].results()["alarm"] == -1


def test_the_power_is_that_of_the_residual_a_dimension() -> None:
    _, made = charted(combined()["rf"])
    noise = made["alarm"]["power"].mean()
    assert noise == pytest.approx(3 * 10**-1.0, rel=0.1)  # three antennas a chain, 10 dB


def test_bursts_give_the_same_alarms_to_the_bit() -> None:
    one, several = charted(dying()), charted(dying(), burst=7)
    assert one[0].results() == several[0].results()
    for name, array in one[1]["alarm"].items():
        np.testing.assert_array_equal(several[1]["alarm"][name], array)


def test_another_operator_begins_anew_and_another_description_of_the_same_does_not() -> None:
    alarm, _ = charted(dying())
    info = combined().infos["rf"]
    assert info.operator is not None
    before = alarm.results()
    alarm.start(info.replace(carrier=1e9), info)
    assert alarm.results() == before
    alarm.start(info.replace(operator=replace(info.operator, interval=(-0.4, 0.0))), info)
    assert (alarm.results()["slots"], alarm.results()["learning"]) == (0, True)


def test_the_rate_of_false_alarms_may_change_on_the_way_and_nothing_learned_is_lost() -> None:
    alarm, _ = charted(combined()["rf"])
    before, info = alarm.results(), combined().infos["rf"]
    alarm.false_alarm_every = 1e3
    alarm.start(info, info)
    after = alarm.results()
    assert (after["slots"], after["learning"]) == (SLOTS, False)
    assert abs(after["level"]) > abs(before["level"]) > 0


def test_observations_without_their_operator_are_refused() -> None:
    info = combined().infos["rf"].replace(operator=None)
    with pytest.raises(PortMismatch, match=r"^block\.rf: the stream carries no measurement operator"):
        DriftAlarm().start(info, info)


def test_a_run_reports_the_alarm_beside_what_its_sinks_judged() -> None:
    blocks: list[dict[str, Any]] = [
        {"name": "source", "id": "upa_source", "parameters": {"n_y": 12, "n_z": 12, "paths": 2, "snr_db": 10}},
        {"name": "combiner", "id": "combiner", "parameters": {"antennas_per_chain": 3, "groups": 2}},
        {"name": "broken", "id": "dead_chain", "parameters": {"chains": [13, 28, 38], "begin": 250}},
        {"name": "omp", "id": "omp", "parameters": {"paths": 4, "grid": [24, 12]}},
        {"name": "watch", "id": "drift_alarm"},
    ]
    edges = [
        ["source", "field", "combiner", "field"],
        ["combiner", "rf", "broken", "stream"],
        ["broken", "faulty", "omp", "rf"],
        ["broken", "faulty", "watch", "rf"],
        ["omp", "estimate", "watch", "estimate"],
    ]
    options = {"parameters": {"id": "drift", "slots": 350}}
    told = beamslot.run({"options": options, "blocks": blocks, "connections": edges}).sinks["watch"]
    assert (told["alarm"], told["alarms"], told["slots"]) == (1, 1, 350)
    assert told["chains"] == [[3, 1], [7, 0], [9, 2]]
    assert 250 <= told["since"] < 265
