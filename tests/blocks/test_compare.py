"""The sink that compares estimators with each other: truth is numpy over the slots that both had."""

import json
from typing import Any

import numpy as np
import pytest
from beamslot_scene import SLOTS, scene
from numpy.typing import NDArray
from scipy import stats

from beamslot.errors import BadParam
from beamslot.frame import Describe, Eos, Frame, Gap
from beamslot.runtime.block import RunContext
from beamslot.runtime.core import Core, Input
from beamslot.runtime.testing import run_block
from beamslot.sinks.compare_sink import CompareSink

Arrays = dict[str, NDArray[Any]]


def truth() -> Arrays:
    return scene().source["truth"]


def off(share: float, seed: int) -> Arrays:
    """Return an estimate whose error is a share of the channel, another one in every slot."""
    rng, channel = np.random.default_rng(seed), truth()["channel"]
    scale = share * rng.gamma(4.0, size=channel.shape[:2])[..., None, None]
    noise = rng.standard_normal(channel.shape) + 1j * rng.standard_normal(channel.shape)
    return {"channel": (channel + scale * noise).astype(np.complex64)}


ESTIMATES = {"good.estimate": off(0.01, 1), "fair.estimate": off(0.02, 2), "bad.estimate": off(0.3, 3)}


def compared(burst: int = 1, reference: str = "", **changed: Arrays) -> dict[str, Any]:
    sink = CompareSink(reference=reference)
    estimates = {**ESTIMATES, **{f"{name}.estimate": arrays for name, arrays in changed.items()}}
    infos = {"truth": scene().source.infos["truth"]}
    run_block(sink, {"truth": truth(), "estimate": estimates}, infos=infos, burst=burst, name="compare")
    return sink.results()


def errors(estimate: Arrays) -> NDArray[np.float64]:
    """Return the NMSE of every draw."""
    h, g = (side["channel"].astype(np.complex128) for side in (truth(), estimate))
    nmse = (np.abs(g - h) ** 2).sum((2, 3)) / (np.abs(h) ** 2).sum((2, 3))
    return nmse.reshape(SLOTS // 3, -1).mean(1)


def test_differences_and_intervals_are_those_of_numpy() -> None:
    told = compared()
    assert list(told) == ["good - fair", "good - bad", "fair - bad", "slots"]
    for pair in list(told)[:-1]:
        one, other = (errors(ESTIMATES[f"{name}.estimate"]) for name in pair.split(" - "))
        found = told[pair]
        difference = 10 * np.log10(one.mean() / other.mean())
        left = one - one.mean() / other.mean() * other
        half = stats.t.ppf(0.975, len(one) - 1) * left.std(ddof=1) / np.sqrt(len(one)) / one.mean() * 10 / np.log(10)
        assert found["difference_db"] == pytest.approx(difference, abs=1e-6)
        assert found["ci95_db"] == pytest.approx([difference - half, difference + half], abs=1e-6)
        assert (found["draws"], found["slots"]) == (SLOTS // 3, SLOTS)
    assert told["slots"] == {"good": SLOTS, "fair": SLOTS, "bad": SLOTS}


def test_pieces_equal_the_whole_to_the_bit() -> None:
    one, several, whole = (compared(burst) for burst in (1, 5, SLOTS))
    assert one == several == whole
    assert json.loads(json.dumps(one, allow_nan=False)) == one


def test_a_reference_stands_behind_every_other() -> None:
    told = compared(reference="fair")
    assert list(told) == ["good - fair", "bad - fair", "slots"]
    assert told["bad - fair"]["difference_db"] > 10
    assert told["bad - fair"]["better_share"] == 0


def test_a_reference_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(BadParam, match=r"^compare\.reference: there is no estimate 'bat'; did you mean 'bad'\?"):
        compared(reference="bat")


def test_slots_that_are_not_finite_are_left_out_of_all_their_pairs_and_counted() -> None:
    spoilt = {"channel": ESTIMATES["good.estimate"]["channel"].copy()}
    spoilt["channel"][4:6, 1, 0, 0] = np.nan
    told = compared(good=spoilt)
    assert told["not_finite"] == {"good": 2}
    assert told["slots"]["good"] == SLOTS - 2
    assert [told[pair]["slots"] for pair in ("good - fair", "good - bad", "fair - bad")] == [
        SLOTS - 2,
        SLOTS - 2,
        SLOTS,
    ]


def test_a_pair_counts_only_slots_that_both_had_and_is_known_while_it_runs() -> None:
    sink = CompareSink()
    sink.join_run(RunContext("compare"))
    streams = ["truth", "good.estimate", "fair.estimate"]
    core = Core(sink, [Input(sink.inputs[stream.split(".")[-1]], stream) for stream in streams])
    info = scene().source.infos["truth"]
    every = {"truth": truth(), **ESTIMATES}
    for index, stream in enumerate(streams):
        described = info.replace(arrays={name: info.arrays[name] for name in every[stream]})
        core.feed(index, Describe(stream, described))
        arrays = {name: array[:6] for name, array in every[stream].items()}
        core.feed(index, Frame(0, 6, arrays) if index < 2 else Gap(0, 3, "latest"))
    while core.step():
        pass
    assert sink.results() == {"slots": {"good": 6, "fair": 0}}
    core.feed(2, Frame(3, 3, {"channel": ESTIMATES["fair.estimate"]["channel"][3:6]}))
    while core.step():
        pass
    assert sink.results()["good - fair"]["slots"] == 3
    for index in range(3):
        core.feed(index, Eos(6))
    while core.step():
        pass
    assert sink.results()["slots"] == {"good": 6, "fair": 3}


def test_a_description_that_changes_on_the_way_does_not_reset_what_was_compared() -> None:
    sink, info = CompareSink(), scene().source.infos["truth"]
    streams = dict.fromkeys(ESTIMATES, info)
    run_block(sink, {"truth": truth(), "estimate": ESTIMATES}, infos={"truth": info}, name="compare")
    before = sink.results()
    sink.start(info.replace(carrier=1e9), streams)
    assert sink.results() == before
