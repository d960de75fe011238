"""What a comparison finds, and what is made of it: identical, different and where, not comparable and why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_runs import graph

from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.recording import Writer, open_recording
from beamslot.recording.compare import PortComparison
from beamslot.recording.reel import RecordedReel
from beamslot.replaying import (
    DIFFERENT,
    IDENTICAL,
    NOT_COMPARABLE,
    Asked,
    Planned,
    judge,
    plan,
    recorded_graph,
    speed_of,
    text,
)  # fmt: skip
from beamslot.replaying.blocks import RecordedBudget
from beamslot.runtime import Dropped
from beamslot.runtime.block import parameters_of

INFO = StreamInfo(
    {"h": Array.of("slot y", np.complex64), "n": Array.of("slot", np.int32), "w": Array.of("y", np.float32)}, {"y": 3}
)
PORT = "omp.estimate"


def frame(first: int, count: int = 2, **changed: Any) -> Frame:
    slots = np.arange(first, first + count)
    h = (slots[:, None] + 1j * np.arange(3)).astype(np.complex64)
    arrays = {"h": h, "n": slots.astype(np.int32), "w": np.ones(3, np.float32)}
    return replace(Frame(first, count, arrays, 7), **changed)


def altered(made: Frame, name: str, index: Any, value: Any) -> Frame:
    array = made.arrays[name].copy()
    array[index] = value
    return replace(made, arrays={**made.arrays, name: array})


RECORDED = [frame(0), frame(2), Gap(4, 2, "latest"), frame(6), Gap(8, 2, "unheard"), frame(10)]


@pytest.fixture
def comparison(tmp_path: Path) -> PortComparison:
    with Writer(tmp_path / "r", PORT) as writer:
        for message in [Describe(PORT, INFO), *RECORDED, Eos(12)]:
            writer.write(message)
    return PortComparison(RecordedReel(open_recording(tmp_path / "r"), PORT))


def take(comparison: PortComparison, *messages: Frame | Gap) -> dict[str, Any]:
    for message in messages:
        comparison.take(message)
    return comparison.plain()


def test_the_same_messages_are_identical_and_what_was_not_seen_is_not_compared(comparison: PortComparison) -> None:
    assert take(comparison, *RECORDED[:4], frame(8), frame(10)) == {
        "slots": 10, "differing": 0, "unrecorded": 2, "framing": None, "restarted": None, "fed": None, "first": None,
    }  # fmt: skip


def test_the_first_entry_that_differs_is_named_with_both_values(comparison: PortComparison) -> None:
    said = take(comparison, frame(0), altered(frame(2), "h", (1, 2), 3.5 + 2j), altered(frame(6), "n", 0, 9))
    assert said["first"] == {
        "slot": 3, "array": "h", "index": [2], "recorded": [3.0, 2.0], "replayed": [3.5, 2.0], "entries": 1,
        "largest": 0.5,
    }  # fmt: skip
    assert (said["differing"], said["slots"]) == (2, 6)


@pytest.mark.parametrize("value", [np.nan, -0.0])
def test_bits_are_compared_and_not_numbers(comparison: PortComparison, value: float) -> None:
    first = altered(frame(0), "h", (0, 0), value)
    said = take(comparison, first)
    assert (said["first"]["array"], said["first"]["largest"]) == ("h", None if np.isnan(value) else 0.0)


def test_a_slot_that_came_on_one_side_only_differs(comparison: PortComparison) -> None:
    said = take(comparison, frame(0), Gap(2, 1, "latest"), frame(3, 1), frame(4))
    assert said["first"] == {
        "slot": 2, "array": "slots", "index": [], "recorded": "a frame", "replayed": "a gap, latest", "entries": 0,
        "largest": None,
    }  # fmt: skip
    assert said["differing"] == 3


def test_a_slot_that_nothing_recorded_led_to_is_not_compared(comparison: PortComparison) -> None:
    said = take(comparison, frame(0), Gap(2, 2, "unheard"), frame(6))
    assert (said["first"], said["fed"], said["unrecorded"], said["slots"]) == (None, 2, 2, 4)


def test_other_frames_are_noted_and_compared_all_the_same(comparison: PortComparison) -> None:
    said = take(comparison, frame(0, 3), frame(3, 1), frame(6))
    assert (said["framing"], said["differing"], said["slots"]) == (0, 0, 6)


def test_arrays_of_another_shape_are_named_by_their_shapes(comparison: PortComparison) -> None:
    made = frame(0)
    said = take(comparison, replace(made, arrays={**made.arrays, "h": made.arrays["h"][:, :2]}))
    assert (said["first"]["recorded"], said["first"]["replayed"]) == ("complex64 (2, 3)", "complex64 (2, 2)")
    said = take(comparison, altered(frame(2), "w", 1, 5.0))
    assert said["differing"] == 4, "an array without slots differs in all of them"
    said = take(comparison, replace(frame(6), arrays={"h": frame(6).arrays["h"]}))
    assert said["differing"] == 6


def test_another_operator_differs_whatever_the_arrays_are(comparison: PortComparison) -> None:
    said = take(comparison, frame(0, operator="abc"))
    assert (said["first"]["array"], said["first"]["replayed"]) == ("operator", "abc")


# The verdict

NONE = {"restarted": None, "fed": None, "first": None}
FIRST = {"slot": 5, "array": "h", "index": [1], "recorded": [1.0, 0.0], "replayed": [1.5, -2.0], "entries": 1}


def found(first: int | None = None, **more: Any) -> dict[str, Any]:
    said = {"slots": 9, "differing": 0, "unrecorded": 0, "framing": None, **NONE, **more}
    return said if first is None else {**said, "differing": 1, "first": {**FIRST, "slot": first}}


@pytest.fixture
def recorded(tmp_path: Path) -> Any:
    def make(**about: Any) -> Any:
        place = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        with Writer(place, PORT, about=about) as writer:
            writer.write(Describe(PORT, INFO))
            writer.write(frame(0))
        return open_recording(place)

    return make


def verdict(recording: Any, ports: dict[str, Any], **planned: Any) -> dict[str, Any]:
    made = Planned(graph({}), (), (), compared=tuple(ports), comparison="comparison", **planned)
    return judge(recording, made, {"sinks": {"comparison": ports}})


def test_nothing_that_differs_is_identical(recorded: Any) -> None:
    said = verdict(recorded(), {"a.x": found(), "b.y": found()}, reasons={"c.z": "it is late"})
    assert (said["verdict"], said["first"], said["reasons"]) == (IDENTICAL, None, {"c.z": "it is late"})
    assert text(said)[0] == "identical"
    assert text(said)[-1] == "  c.z: not comparable: it is late"


def test_the_earliest_difference_counts_and_of_these_the_nearest_to_the_sources(recorded: Any) -> None:
    said = verdict(recorded(), {"a.x": found(7), "b.y": found(5), "c.z": found(5)})
    assert (said["verdict"], said["first"]["port"]) == (DIFFERENT, "b.y")
    assert text(said)[0] == "different: first at slot 5: b.y, h[1]: recorded 1+0j, replayed 1.5-2j"


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        (found(5, framing=5), "other framing: slot 5 came in a frame of other slots than when it was recorded"),
        (found(5, restarted=3), "the recorded block began anew at slot 3, after a restart that lost its state"),
        ({**found(), "slots": 0}, "no slot of it was compared"),
    ],
)
def test_a_difference_that_has_an_excuse_is_none(recorded: Any, port: dict[str, Any], reason: str) -> None:
    said = verdict(recorded(), {"a.x": port})
    assert (said["verdict"], said["reasons"]) == (NOT_COMPARABLE, {"a.x": reason})


@pytest.mark.parametrize(
    ("about", "begins"),
    [
        ({"threads": {"OMP_NUM_THREADS": "many"}}, "other thread count: OMP_NUM_THREADS is "),
        ({"run": {"machine": {"architecture": "pdp11"}}}, "other machine: architecture is "),
        ({"versions": {"numpy": "1.0"}}, "other versions: numpy "),
    ],
)
def test_a_difference_elsewhere_is_none(recorded: Any, about: dict[str, Any], begins: str) -> None:
    said = verdict(recorded(**about), {"a.x": found(5), "b.y": found()})
    assert said["verdict"] == NOT_COMPARABLE
    assert said["reasons"]["a.x"].startswith(begins)
    assert verdict(recorded(**about), {"a.x": found()})["verdict"] == IDENTICAL, "what is the same is the same"


def test_state_that_a_restart_lost_with_a_lossy_connection_is_no_difference(recorded: Any) -> None:
    ports, fragile = {"a.x": found(5), "b.y": found()}, frozenset({"a.x"})
    assert verdict(recorded(restarts=2), ports, fragile=fragile)["reasons"]["a.x"].startswith("it has state and a")
    assert verdict(recorded(restarts=0), ports, fragile=fragile)["verdict"] == DIFFERENT


def test_a_block_that_depends_on_slots_that_are_not_recorded_is_not_comparable(recorded: Any) -> None:
    ports = {"a.x": found(5, fed=4)}
    why = "it depends on earlier slots, and what led to slot 4 is not recorded"
    assert verdict(recorded(), ports, stateful=frozenset({"a.x"}))["reasons"] == {"a.x": why}
    assert verdict(recorded(), ports)["verdict"] == DIFFERENT


def test_a_recorded_budget_is_up_at_the_same_question() -> None:
    budget = RecordedBudget(3)
    assert [budget() for _ in range(5)] == [False, False, True, True, True]


def test_speeds_are_factors_and_zero_is_as_fast_as_it_goes() -> None:
    assert [speed_of(said) for said in ("1", "2.5", "0", "max")] == [1.0, 2.5, np.inf, np.inf]
    for wrong in ("-1", "nan", "fast"):
        with pytest.raises(ValueError, match=wrong):
            speed_of(wrong)


# What the clock had decided

CHAIN = """
options: {parameters: {id: chain, slots: 20}}
blocks:
- {name: source, id: upa_source, parameters: {n_y: 4, n_z: 6, paths: 2}}
- {name: combiner, id: combiner, parameters: {antennas_per_chain: 3, groups: 2}}
- {name: faulty, id: dead_chain}
- {name: omp, id: omp%s}
- {name: rest, id: null_sink}
connections:
- [source, field, combiner, field]
- {src_blk_id: combiner, src_port_id: rf, snk_blk_id: faulty, snk_port_id: stream, params: {policy: drop_newest}}
- [faulty, faulty, omp, rf]
- [omp, estimate, rest, stream]
"""


def planned_for(tmp_path: Path, options: str, tags: dict[str, Any], *ports: str) -> Planned:
    place = tmp_path / "chain"
    for port in ("source.field", *ports):
        with Writer(place, port, about={"flowgraph": CHAIN % options}) as writer:
            writer.write(Describe(port, INFO))
            writer.write(frame(0, 18, tags=tags))
            writer.write(Gap(18, 2, "drop_newest"))
    with open_recording(place) as recording:
        return plan(recording, recorded_graph(recording), Asked(compare=True))


def test_drops_that_are_recorded_are_dropped_again_and_no_others(tmp_path: Path) -> None:
    planned = planned_for(tmp_path, "", {}, "faulty.faulty", "omp.estimate")
    assert (planned.compared, dict(planned.reasons)) == (("faulty.faulty", "omp.estimate"), {})
    edges = {edge.name: edge.policy for edge in planned.graph.edges}
    assert edges["combiner.rf > sieve_combiner_faulty.stream"] == "block"
    assert edges["sieve_combiner_faulty.out > faulty.stream"] == "block"
    sieve = planned.graph.blocks["sieve_combiner_faulty"].build()
    sieve.start()
    assert sieve.process({}, range(10, 12)) == {}
    assert sieve.process({}, range(17, 19)) == Dropped({}, [18], "drop_newest")


def test_drops_that_are_not_recorded_make_all_behind_them_incomparable(tmp_path: Path) -> None:
    planned = planned_for(tmp_path, "", {}, "omp.estimate")
    why = "faulty is behind a lossy connection, and what it was given is not recorded"
    assert (planned.compared, dict(planned.reasons)) == ((), {"omp.estimate": why})
    said = judge_nothing(tmp_path, planned)
    assert (said["verdict"], said["reasons"]) == (NOT_COMPARABLE, {"omp.estimate": why})


def judge_nothing(tmp_path: Path, planned: Planned) -> dict[str, Any]:
    with open_recording(tmp_path / "chain") as recording:
        return judge(recording, planned, {"sinks": {}})


@pytest.mark.parametrize(("tags", "told"), [({"deadline": True, "asked": 2}, True), ({"deadline": True}, False)])
def test_a_deadline_is_repeated_where_the_recording_says_how(tmp_path: Path, tags: dict[str, Any], told: bool) -> None:
    planned = planned_for(tmp_path, ", deadline: 1e-3", tags, "faulty.faulty", "omp.estimate")
    why = "omp has a deadline, and the recording does not say how often it iterated"
    assert planned.reasons == ({} if told else {"omp.estimate": why})
    spec = planned.graph.blocks["omp"]
    assert spec.deadline == (None if told else 1e-3)
    assert parameters_of(spec.kind.process) == (("rf", "slots") if told else ("rf", "slots", "budget"))
