"""Checks of a graph, each with the message that it gives; and windows against a simulation that can stand still."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from beamslot_probes import CountingSource
from beamslot_runs import edge, graph
from numpy.typing import NDArray
from pydantic import Field

from beamslot.errors import BadParam, FlowgraphError, PortMismatch, UnknownBlock, UnknownPort
from beamslot.frame import Array, Eos, Frame, Gap, StreamInfo
from beamslot.runtime.block import Block, In, Out, RunContext
from beamslot.runtime.core import Core, Input
from beamslot.runtime.graph import (
    DEFAULT_BYTES,
    DEFAULT_WINDOW,
    Graph,
    Restart,
    check,
    frame_slots,
    minimum_window,
    near,
    why_single,
    window_of,
    worst_case_bytes,
)
from beamslot.runtime.slots import SlotSet

NUMBER = Array.of("slot", np.int64)


class Source(Block):
    """The slot's index as a number."""

    out = Out("slot", np.int64)

    def start(self) -> StreamInfo:
        return StreamInfo({"out": NUMBER}, {})

    def process(self, slots: range) -> NDArray[np.int64]:
        return np.array(slots)


class Hold(Block):
    """Hands on the newest slots of a window."""

    number = In("slot", np.int64, window="size", hop="step")
    out = Out("slot", np.int64)

    size: int = Field(0)
    step: int = Field(0)

    def process(self, number: NDArray[np.int64]) -> NDArray[np.int64]:
        return number[-(self.step or self.size or len(number)) :]


class Merge(Block):
    """Two streams in, one out."""

    left = In("slot", np.int64)
    right = In("slot", np.int64)
    out = Out("slot", np.int64)

    def process(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
        assert np.array_equal(left, right)
        return left


class Sink(Block):
    """Takes one stream."""

    number = In("slot", np.int64)

    def process(self, number: NDArray[np.int64]) -> None: ...


class Many(Block):
    """Takes any number of streams, each with the truth."""

    truth = In("slot", np.int64)
    estimate = In("slot", np.int64, many=True)

    def process(self, truth: NDArray[np.int64], estimate: NDArray[np.int64]) -> None:
        assert np.array_equal(truth, estimate)


class Other(Block):
    """Wants what nobody has."""

    field = In("slot y z", np.complex64, unit="sqrt(W)")

    def process(self, field: Any) -> None: ...


def problems(given: Graph, **options: Any) -> list[str]:
    with pytest.raises(FlowgraphError) as caught:
        check(given, **options)
    return str(caught.value).splitlines()


CHAIN = {"src": Source, "hold": Hold, "sink": Sink}


def test_a_graph_that_can_run_passes() -> None:
    check(graph(CHAIN, "src.out > hold.number", "hold.out > sink.number"))


def test_every_problem_is_told_at_once_with_its_place() -> None:
    wrong = graph(
        {"src": Source, "hold": (Hold, {"size": "ten", "sise": 3}), "sink": Sink},
        "src.out > hold.numbr",
        "hold.uot > sink.number",
        "src.out > snik.number",
    )
    assert problems(wrong) == [
        "line hold: hold.size: got 'ten'; wanted a whole number",
        "line hold: hold.sise: Hold has no parameter 'sise'; did you mean 'size'?",
        "line src.out > hold.numbr: src.out > hold.numbr: hold has no input 'numbr'; did you mean 'number'?",
        "line hold.uot > sink.number: hold.uot > sink.number: hold has no output 'uot'; did you mean 'out'?",
        "line src.out > snik.number: src.out > snik.number: no block is called 'snik'; did you mean 'sink'?",
    ]


GOOD = ["src.out > hold.number", "hold.out > sink.number"]
UNCONNECTED = "line sink: sink.number: input is not connected"
CROWDED = "line src.out > sink.number: src.out > sink.number: sink.number takes one edge and has 2"
TWICE = "line hold.out > sink.number: hold.out > sink.number: stands twice"


@pytest.mark.parametrize(
    ("edges", "kind", "said"),
    [
        ([*GOOD, "hold.out > x.number"], UnknownBlock, "no block is called 'x'; there is src, hold, sink"),
        ([GOOD[0], "hold.x > sink.number"], UnknownPort, "hold has no output 'x'; there is out"),
        ([*GOOD, "src.out > src.number"], UnknownPort, "src has no input 'number'; there is none"),
        (GOOD[:1], FlowgraphError, UNCONNECTED),
        ([*GOOD, "src.out > sink.number"], FlowgraphError, CROWDED),
        ([*GOOD, GOOD[1]], FlowgraphError, TWICE),
    ],
)
def test_a_wrong_edge_is_told_by_its_type_and_in_words(edges: list[str], kind: type[FlowgraphError], said: str) -> None:
    with pytest.raises(FlowgraphError) as caught:
        check(graph(CHAIN, *edges))
    assert any(said in str(cause) and isinstance(cause, kind) for cause in caught.value.causes), str(caught.value)


def test_ports_that_do_not_fit_are_told_with_both_declarations() -> None:
    with pytest.raises(FlowgraphError) as caught:
        check(graph({"src": Source, "other": Other}, "src.out > other.field"))
    assert [type(cause) for cause in caught.value.causes] == [PortMismatch]
    assert str(caught.value) == (
        "line src.out > other.field: src.out > other.field: field comes as [slot] int64 [1]; "
        "wanted [slot y z] complex64 [sqrt(W)]"
    )


def test_an_array_of_several_that_does_not_come_has_a_near_miss() -> None:
    class Wants(Block):
        numbers = In(wrods=Array.of("slot sample", np.int64), crc=Array.of("slot", np.int64))

        def process(self, numbers: Any) -> None: ...

    assert problems(graph({"src": CountingSource, "wants": Wants}, "src.numbers > wants.numbers")) == [
        "line src.numbers > wants.numbers: src.numbers > wants.numbers: array 'wrods' does not come; "
        "did you mean 'words'?"
    ]


def test_a_parameter_that_is_missing_is_told() -> None:
    class Needs(Sink):
        level: float = Field(ge=0)

    assert problems(graph({"src": Source, "needs": Needs}, "src.out > needs.number")) == [
        "line needs: needs.level: is not given and has no default"
    ]


def test_an_empty_graph_is_none() -> None:
    assert problems(graph({})) == ["test: there is no block in the graph"]


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_cycle_of_any_length_is_told_in_the_order_of_the_flow(length: int) -> None:
    names = [f"b{number}" for number in range(length)]
    ring = [f"{one}.out > {other}.number" for one, other in itertools.pairwise([*names, names[0]])]
    (said,) = problems(graph(dict.fromkeys(names, Hold), *ring))
    shown = said.partition("closes a cycle: ")[2].partition(";")[0].split(" > ")
    assert shown[0] == shown[-1]
    assert sorted(shown[1:]) == names
    assert all(f"{one}.out > {other}.number" in ring for one, other in itertools.pairwise(shown))
    assert said.startswith(f"line {ring[-1]}: {ring[-1]}: closes a cycle: ")


def test_a_cycle_is_not_looked_for_among_blocks_that_are_not_there() -> None:
    assert len(problems(graph({"a": Hold}, "a.out > b.number"), complete=False)) == 1


def test_an_unfinished_graph_may_have_open_inputs() -> None:
    check(graph({"hold": Hold}), complete=False)
    assert problems(graph({"hold": Hold})) == ["line hold: hold.number: input is not connected"]


def test_an_optional_input_may_stay_open_and_a_many_port_takes_many() -> None:
    class Optional(Sink):
        other = In("slot", np.int64, optional=True)

    check(graph({"src": Source, "sink": Optional}, "src.out > sink.number"))
    blocks = {"src": Source, "a": Hold, "b": Hold, "many": Many}
    edges = ("src.out > a.number", "src.out > b.number", "src.out > many.truth")
    check(graph(blocks, *edges, "a.out > many.estimate", "b.out > many.estimate"))


def test_a_window_below_the_least_is_told_with_the_least() -> None:
    edges = ("src.out > hold.number", "hold.out > sink.number")
    blocks = {**CHAIN, "hold": (Hold, {"size": 40})}
    least = minimum_window(graph(blocks, *edges))
    check(graph(blocks, *edges, windows={edges[0]: least}))
    with pytest.raises(FlowgraphError) as caught:
        check(graph(blocks, *edges, windows={edges[0]: least - 1}))
    assert [type(cause) for cause in caught.value.causes] == [BadParam]
    assert str(caught.value).startswith(
        f"line {edges[0]}: {edges[0]}: window is {least - 1} slots; the graph needs at least {least} "
    )


@pytest.mark.parametrize(("size", "step"), [(4, 5), (4, -1), (-2, -2)])
def test_a_window_with_a_hop_that_it_cannot_have_is_told(size: int, step: int) -> None:
    assert problems(
        graph(
            {**CHAIN, "hold": (Hold, {"size": size, "step": step})}, "src.out > hold.number", "hold.out > sink.number"
        )
    ) == [f"line hold: hold: window {size} with hop {step}; wanted 1 <= hop <= window"]


def test_frames_that_no_message_can_carry_are_told() -> None:
    edges = ("src.out > hold.number", "hold.out > sink.number")
    assert problems(graph({**CHAIN, "hold": (Hold, {"size": 70_000})}, *edges)) == [
        "line hold: hold: frames have 70000 slots (burst or hop); wanted at most 65536",
        "line sink: sink: frames have 70000 slots (burst or hop); wanted at most 65536",
    ]


def test_the_default_window_grows_with_the_burst_and_with_the_need() -> None:
    edges = ("src.out > hold.number", "hold.out > sink.number")
    assert set(graph(CHAIN, *edges, burst=3).windows.values()) == {3 * DEFAULT_WINDOW}
    held = graph({**CHAIN, "hold": (Hold, {"size": 900})}, *edges, windows={edges[1]: 5000})
    assert held.windows == {edges[0]: minimum_window(held), edges[1]: 5000}


def test_window_and_hop_come_from_the_parameters() -> None:
    assert window_of(Hold()) == (0, 0)
    assert window_of(Hold(size=8)) == (8, 8)
    assert window_of(Hold(size=8, step=2)) == (8, 2)


def test_frames_have_the_slots_of_the_burst_or_of_the_last_hop() -> None:
    given = graph(
        {"src": Source, "a": Hold, "b": (Hold, {"size": 9, "step": 4}), "c": Hold, "sink": Sink},
        "src.out > a.number", "a.out > b.number", "b.out > c.number", "c.out > sink.number", burst=3,
    )  # fmt: skip
    assert frame_slots(given) == {"src": 3, "a": 3, "b": 4, "c": 4, "sink": 4}


def test_near_gives_the_nearest_or_the_list() -> None:
    assert near("nubmer", ["number", "other"]) == "did you mean 'number'?"
    assert near("x", ["number", "other"]) == "there is number, other"
    assert near("x", []) == "there is none"


def test_edges_are_named_as_people_write_them() -> None:
    assert (edge("a.b > c.d").name, edge("a.b > c.d").stream) == ("a.b > c.d", "a.b")


# Processes


def run_as(given: Graph, **blocks: dict[str, Any]) -> Graph:
    """Return the graph with some fields of its blocks changed, by name."""
    return replace(given, blocks={n: replace(spec, **blocks.get(n, {})) for n, spec in given.blocks.items()})


def queued(given: Graph, edge: str, **fields: Any) -> Graph:
    """Return the graph with some fields of an edge changed."""
    return replace(given, edges=tuple(replace(e, **fields) if e.name == edge else e for e in given.edges))


class Stateful(Hold):
    """Depends on earlier slots."""

    stateful = True


class Resuming(Hold):
    """Depends on earlier slots and can say on what."""

    def snapshot(self) -> int:
        return 0


class Mixer(Block):
    """Takes any number of streams and gives one."""

    number = In("slot", np.int64, many=True)
    out = Out("slot", np.int64)

    def process(self, number: NDArray[np.int64]) -> NDArray[np.int64]:
        return number


BRANCHES = ["src.out > a.number", "src.out > b.number", "a.out > merge.left", "b.out > merge.right"]


def branches(**blocks: dict[str, Any]) -> Graph:
    """A source, two blocks that work side by side, and a sink where they meet."""
    kinds = {"src": Source, "a": Hold, "b": Hold, "merge": Merge, "sink": Sink}
    return run_as(graph(kinds, *BRANCHES, "merge.out > sink.number"), **blocks)


DSP = {"process": "dsp"}


def test_a_block_without_a_process_has_one_of_its_own() -> None:
    assert graph(CHAIN, *GOOD).units == (("src", ("src",)), ("hold", ("hold",)), ("sink", ("sink",)))


def test_processes_come_in_the_order_of_the_flow_and_their_blocks_too() -> None:
    kinds = {"sink": Sink, "c": Hold, "b": Hold, "a": Hold, "src": Source}
    edges = ("src.out > a.number", "a.out > b.number", "b.out > c.number", "c.out > sink.number")
    given = run_as(graph(kinds, *edges), a=DSP, b=DSP, src={"process": "src"}, c={"replicas": 3})
    check(given)
    assert given.units == (("src", ("src",)), ("dsp", ("a", "b")), ("c", ("c",)), ("sink", ("sink",)))
    inner = [edge.name for edge in given.edges if given.is_inner(edge)]
    assert inner == ["a.out > b.number"]


@pytest.mark.parametrize(
    "members", [("a", "b"), ("src", "a"), ("src", "a", "b"), ("merge", "sink"), ("a", "b", "merge")]
)
def test_blocks_between_which_nothing_else_lies_can_share_a_process(members: tuple[str, ...]) -> None:
    given = branches(**dict.fromkeys(members, DSP))
    check(given)
    assert dict(given.units)["dsp"] == tuple(name for name in given.order if name in members)


@pytest.mark.parametrize(
    ("members", "ring", "closing"),
    [
        (("src", "merge"), {"dsp", "a"}, "a.out > merge.left"),
        (("src", "a", "merge"), {"dsp", "b"}, "b.out > merge.right"),
        (("src", "a", "b", "sink"), {"dsp", "merge"}, "merge.out > sink.number"),
    ],
)
def test_a_cycle_of_processes_is_told_with_the_edge_that_closes_it(
    members: tuple[str, ...], ring: set[str], closing: str
) -> None:
    given = branches(**dict.fromkeys(members, DSP))
    edges = (edge for edge in given.edges if edge.source in (*ring, *members) and edge.target in (*ring, *members))
    (said,) = problems(replace(given, edges=tuple(edges)), complete=False)
    assert said.startswith(f"line {closing}: {closing}: closes a cycle of processes: ")
    shown = said.partition("processes: ")[2].partition(";")[0].split(" > ")
    assert shown[0] == shown[-1]
    assert sorted(shown[1:]) == sorted(ring)
    assert said.endswith(
        "; a process takes a frame through all of its blocks at once; put all of these into one, or split one"
    )


def test_a_cycle_of_two_shared_processes_is_one_too() -> None:
    given = branches(src=DSP, a={"process": "two"}, b=DSP, merge={"process": "two"}, sink=DSP)
    (said,) = problems(given)
    assert said.startswith("line merge.out > sink.number: merge.out > sink.number: closes a cycle of processes: ")


def test_a_cycle_of_blocks_is_told_without_that_of_their_processes() -> None:
    ring = ("a.out > b.number", "b.out > a.number")
    (said,) = problems(run_as(graph({"a": Hold, "b": Hold}, *ring), a=DSP))
    assert "closes a cycle: " in said


def test_blocks_of_one_process_restart_alike() -> None:
    again = Restart("on_failure")
    check(branches(a={**DSP, "restart": again}, b={**DSP, "restart": again}))
    given = branches(a={**DSP, "restart": again}, b={**DSP, "places": {"restart": "line 7"}})
    assert problems(given) == ["line 7: b: restart is not that of a; wanted one for all blocks of process 'dsp'"]


def test_a_process_has_no_name_of_a_block_that_is_not_in_it() -> None:
    check(branches(a={"process": "b"}, b={"process": "b"}))
    assert problems(branches(a={"process": "sink"}, b={"process": "sink"})) == [
        "line a: a: process 'sink' has the name of a block outside of it; call it something else,"
        " or put that block into it"
    ]


# Replicas


def test_a_block_without_state_may_have_replicas_or_leave_their_number_open() -> None:
    check(branches(a={"replicas": 64}, b={"replicas": 2}))
    auto = {"replicas": 0}
    check(branches(src=auto, a=auto, merge=auto, sink=auto))


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        (Stateful, {}, "it has state: what it makes of a slot depends on earlier ones, which another replica had"),
        (Resuming, {}, "it has state: what it makes of a slot depends on earlier ones, which another replica had"),
        ((Hold, {"size": 8}), {}, "it takes windows of 8 slots, which would go to different replicas"),
        (Mixer, {}, "its input number takes many streams, which one process joins"),
        (Hold, DSP, "it shares process 'dsp'; take it out of that"),
    ],
)
def test_a_block_that_cannot_have_replicas_is_told_why(kind: Any, fields: dict[str, Any], reason: str) -> None:
    given = run_as(graph({**CHAIN, "hold": kind}, *GOOD), hold={**fields, "replicas": 2})
    assert why_single(given, "hold") == reason
    assert problems(given) == [f"line hold: hold: got 2 replicas; wanted 1: {reason}"]


def test_sources_and_sinks_have_no_replicas() -> None:
    given = run_as(graph(CHAIN, *GOOD), src={"replicas": 2}, sink={"replicas": 3})
    assert problems(given) == [
        "line src: src: got 2 replicas; wanted 1: it is a source, and each replica would make every slot",
        "line sink: sink: got 3 replicas; wanted 1: it is a sink, and each replica would see a part of the slots",
    ]
    assert why_single(graph(CHAIN, *GOOD), "hold") == ""


def test_replicas_that_would_get_or_give_slots_out_of_order_are_refused() -> None:
    merging = branches(merge={"replicas": 2})
    assert why_single(merging, "merge") == "it joins several inputs, whose slots would go to different replicas"
    behind = run_as(graph({**CHAIN, "more": Hold}, GOOD[0], "hold.out > more.number", "more.out > sink.number"))
    behind = run_as(behind, hold={"replicas": 2}, more={"replicas": 2})
    assert why_single(behind, "more") == "its input comes from replicas, whose slots it would get out of order"


@pytest.mark.parametrize("edges", [GOOD[:1], (GOOD[0], GOOD[1])])
def test_replicas_need_a_consumer_that_waits_for_all_slots(edges: tuple[str, ...]) -> None:
    given = graph(CHAIN, *edges)
    given = replace(given, edges=tuple(replace(e, policy="latest") if e.source == "hold" else e for e in given.edges))
    told = "nothing waits for all its slots: it needs a consumer by an edge of policy block"
    assert why_single(given, "hold") == told


def test_a_block_with_nothing_but_open_inputs_is_a_source() -> None:
    class Optional(Hold):
        number = In("slot", np.int64, optional=True)

    given = graph({"hold": Optional, "sink": Sink}, GOOD[1])
    assert why_single(given, "hold").startswith("it is a source")


@pytest.mark.parametrize("replicas", [-1, 65])
def test_the_number_of_replicas_has_bounds(replicas: int) -> None:
    assert problems(run_as(graph(CHAIN, *GOOD), hold={"replicas": replicas})) == [
        f"line hold: hold: got {replicas} replicas; wanted 1 to 64, or 0 for auto"
    ]


@pytest.mark.parametrize("replicas", [2, 5])
def test_every_replica_may_hold_two_frames(replicas: int) -> None:
    alone = graph(CHAIN, *GOOD, burst=3)
    assert minimum_window(alone) == 3 + 3 + 3 + 2 * 3
    assert minimum_window(run_as(alone, hold={"replicas": 0})) == minimum_window(alone)
    assert minimum_window(run_as(alone, hold={"replicas": replicas})) == 3 + 2 * replicas * 3 + 3 + 2 * 3


# Policies and windows


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
def test_nothing_is_lost_within_a_process(policy: str) -> None:
    given = queued(branches(a=DSP, b=DSP), BRANCHES[0], policy=policy)
    check(given)
    assert problems(queued(run_as(given, src=DSP), BRANCHES[0], policy=policy)) == [
        f"line {BRANCHES[0]}: {BRANCHES[0]}: policy is {policy} within process 'dsp'; wanted block:"
        " nothing queues within a process"
    ]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"policy": "latest", "window": 2}, "window is 2, but policy latest keeps one frame; leave window out"),
        ({"policy": "drop_oldest", "window": 0}, "window is 0 slots; wanted at least 1"),
        (
            {"policy": "drop_newest", "buffer": 1.0},
            "buffer is for lossless edges and policy is drop_newest; set it on the edge that is joined with this one,"
            " or set window here: the slots that are queued",
        ),
        ({"nbytes": 0}, "bytes is 0; wanted at least 1"),
        ({"buffer": -1.0}, "buffer is -1 s; wanted a time above 0, of at most 4611686018427387904 slots"),
        ({"buffer": float("nan")}, "buffer is nan s; wanted a time above 0, of at most 4611686018427387904 slots"),
    ],
)
def test_an_edge_that_cannot_queue_so_is_told(fields: dict[str, Any], said: str) -> None:
    assert problems(queued(branches(), BRANCHES[0], **fields)) == [f"line {BRANCHES[0]}: {BRANCHES[0]}: {said}"]


def test_a_lossy_edge_has_no_least_window() -> None:
    given = graph({**CHAIN, "hold": (Hold, {"size": 40})}, *GOOD)
    for policy, window in (("drop_oldest", 1), ("drop_newest", 7), ("latest", 1), ("latest", None)):
        check(queued(given, GOOD[0], policy=policy, window=window))


def test_what_is_held_behind_a_lossy_edge_counts_for_the_lossless_ones_that_meet_it() -> None:
    held = diamond((40, 40))
    assert minimum_window(queued(held, "src.out > h0.number", policy="latest")) == minimum_window(held)


def test_a_lossy_edge_queues_its_window_or_the_default_and_latest_one_frame() -> None:
    edges = ("src.out > hold.number", "hold.out > sink.number")
    given = graph({**CHAIN, "hold": (Hold, {"size": 900})}, *edges, burst=3)
    assert queued(given, edges[0], policy="drop_oldest").windows[edges[0]] == 3 * DEFAULT_WINDOW
    assert queued(given, edges[0], policy="drop_newest", window=5).windows[edges[0]] == 5
    assert queued(given, edges[0], policy="latest").windows[edges[0]] == 3
    assert queued(given, edges[1], policy="drop_oldest").windows[edges[1]] == 900
    assert queued(given, edges[1], policy="latest", window=1).windows[edges[1]] == 900


def test_a_buffer_in_seconds_widens_a_window_and_never_narrows_it() -> None:
    given = graph(CHAIN, *GOOD, slot_period=0.25)
    assert queued(given, GOOD[0], buffer=100.1).windows == {GOOD[0]: 401, GOOD[1]: DEFAULT_WINDOW}
    assert queued(given, GOOD[0], buffer=1.0).windows[GOOD[0]] == DEFAULT_WINDOW
    assert queued(given, GOOD[0], buffer=3.0, window=10).windows[GOOD[0]] == 12


# Memory


def info(values: int) -> StreamInfo:
    """A stream of so many values of 8 bytes a slot."""
    return StreamInfo({"out": Array.of("slot sample", np.int64)}, {"sample": values})


def test_the_worst_case_counts_a_port_once_and_each_consumer_for_itself() -> None:
    given = queued(queued(branches(), BRANCHES[0], window=100), BRANCHES[1], window=300)
    infos = {"src.out": info(2), "a.out": info(1), "merge.out": info(5)}
    default = DEFAULT_WINDOW
    assert worst_case_bytes(given, infos) == {
        "src": 300 * 16,
        "a": 100 * 16 + default * 8,
        "b": 300 * 16,
        "merge": default * 8 + default * 40,
        "sink": default * 40,
    }
    assert worst_case_bytes(given, {}) == dict.fromkeys(given.blocks, 0)


def test_bytes_limit_the_worst_case_but_never_below_the_least_window() -> None:
    given = graph(CHAIN, *GOOD)
    least = minimum_window(given)
    large = info(DEFAULT_BYTES // 8 // 100)
    held = 100 * large.bytes_per_slot
    assert worst_case_bytes(given, {"src.out": large}) == {"src": held, "hold": held, "sink": 0}
    some = {"src.out": info(1)}
    assert worst_case_bytes(queued(given, GOOD[0], nbytes=8 * 50), some)["src"] == 8 * 50
    assert worst_case_bytes(queued(given, GOOD[0], nbytes=1), some)["src"] == 8 * least
    assert worst_case_bytes(queued(given, GOOD[0], nbytes=1, policy="drop_oldest"), some)["src"] == 8


def test_an_edge_within_a_process_holds_a_frame_and_no_copy() -> None:
    given = run_as(graph(CHAIN, *GOOD, burst=4), src=DSP, hold=DSP)
    infos = {"src.out": info(1), "hold.out": info(1)}
    sent = 4 * DEFAULT_WINDOW * 8
    assert worst_case_bytes(given, infos) == {"src": 4 * 8, "hold": sent, "sink": sent}


class Simulation:
    """A graph at work in one thread: the cores of its blocks, edges with a window, and no clock.

    An edge takes a frame when nothing is unacknowledged or the whole frame fits its window; what is finished is worked
    out from the sinks upwards, by places where blocks with windows note them.
    """

    def __init__(self, given: Graph, slots: int, window: int) -> None:
        self.given, self.slots, self.window = given, slots, window
        self.made = 0
        self.cores: dict[str, Core] = {}
        self.offered = {edge.name: 0 for edge in given.edges}
        self.acknowledged = {edge.name: SlotSet() for edge in given.edges}
        self.frames = frame_slots(given)
        for name, spec in given.blocks.items():
            edges = [edge for ends in given.inputs_of(name).values() for edge in ends]
            block = spec.build(RunContext(name))
            self.cores[name] = Core(block, [Input(block.inputs[e.target_port], e.stream, e.name) for e in edges])
        for name in given.order:
            if not given.inputs_of(name):
                self._send(name, self.cores[name].start())

    def run(self, rng: np.random.Generator) -> bool:
        """Let blocks work in any order until none can; return whether everything was delivered."""
        idle = 0
        while idle < 2:
            order = rng.permutation(list(self.given.blocks))
            moved = [self._work(name) for name in order for _ in range(rng.integers(1, 4))]
            idle = 0 if any(moved) else idle + 1
            if not any(moved) or rng.random() < 0.3:
                self._acknowledge()
        return all(core.is_over for core in self.cores.values())

    def _room(self, name: str) -> bool:
        for behind in self._behind(name):
            ahead = self.offered[behind.name] - len(self.acknowledged[behind.name])
            if ahead and ahead + self.frames[name] > self.window:
                return False
        return True

    def _behind(self, name: str) -> list[Any]:
        return [edge for edge in self.given.edges if edge.source == name]

    def _work(self, name: str) -> bool:
        core = self.cores[name]
        if core.ended or not self._room(name):
            return False
        if core.inputs:
            step = core.step()
            items = step.items if step else []
            if step and step.slots is not None and core.marked and core.unmarked:
                core.mark()
        elif self.made_by(name) >= self.slots:
            core.ended = True
            step, items = True, [("out", Eos(self.slots))]
        else:
            first = self.made_by(name)
            step = core.make(range(first, min(first + self.given.burst, self.slots)), 0)
            items = step.items
        self._send(name, items)
        return step is not None

    def made_by(self, name: str) -> int:
        return max(self.offered[edge.name] for edge in self._behind(name))

    def _send(self, name: str, items: Sequence[tuple[str, Any]]) -> None:
        for port, item in items:
            for behind in self._behind(name):
                if behind.source_port != port:
                    continue
                if isinstance(item, Frame | Gap):
                    self.offered[behind.name] += item.count
                target = self.cores[behind.target]
                index = next(i for i, source in enumerate(target.inputs) if source.edge == behind.name)
                target.feed(index, item)

    def _acknowledge(self) -> None:
        """As `process` does: from the sinks upwards, settle a block, and tell its producers what is finished."""
        for name in reversed(self.given.order):
            core = self.cores[name]
            if not core.started:
                continue
            behind = self._behind(name)
            downstream: SlotSet | None = None
            for following in behind:
                done = self.acknowledged[following.name]
                downstream = done if downstream is None else downstream & done
            over = core.ended and all(self.cores[following.target].is_over for following in behind)
            if core.marked and not over and core.unmarked and len(core.places) == 1:
                core.mark()
            core.settle(downstream, over)
            for index, source in enumerate(core.inputs):
                self.acknowledged[source.edge] = core.told(index)


def delivers(given: Graph, window: int, rng: np.random.Generator, slots: int = 150) -> bool:
    return Simulation(given, slots, window).run(rng)


def diamond(*holds: tuple[int, int], burst: int = 1) -> Graph:
    """A source that a sink meets twice: directly, and through blocks that hold."""
    names = [f"h{number}" for number in range(len(holds))]
    blocks = {
        "src": Source,
        **{name: (Hold, {"size": size, "step": step}) for name, (size, step) in zip(names, holds, strict=True)},
        "merge": Merge,
        "sink": Sink,
    }
    chain = [f"{one}.out > {other}.number" for one, other in itertools.pairwise(["src", *names])]
    return graph(
        blocks, *chain, f"{names[-1]}.out > merge.left", "src.out > merge.right", "merge.out > sink.number", burst=burst
    )


DIAMONDS = [
    [(1, 1)], [(40, 40)], [(40, 1)], [(40, 7)], [(40, 40), (40, 40)], [(40, 40), (7, 7)], [(7, 7), (40, 40)],
    [(40, 13), (9, 2)], [(12, 12), (9, 9), (7, 7)],
]  # fmt: skip


@pytest.mark.parametrize("burst", [1, 3])
@pytest.mark.parametrize("holds", DIAMONDS, ids=str)
def test_the_least_window_is_enough_for_a_diamond(holds: Any, burst: int, rng: np.random.Generator) -> None:
    given = diamond(*holds, burst=burst)
    least = minimum_window(given)
    assert all(delivers(given, window, rng) for window in (least, least + 1, 2 * least))


@pytest.mark.parametrize(("holds", "window"), [([(40, 40)], 39), ([(40, 40), (7, 7)], 40), ([(40, 1)], 39)])
def test_the_simulation_sees_a_graph_wait_for_itself(holds: Any, window: int, rng: np.random.Generator) -> None:
    assert not delivers(diamond(*holds), window, rng)


def random_graph(rng: np.random.Generator) -> Graph:
    """Sources, holds and merges at random; every output that nobody takes goes to a sink, some to one of many."""
    blocks: dict[str, Any] = {"src": Source}
    edges: list[str] = []
    outputs = ["src"]
    for number in range(rng.integers(1, 7)):
        name = f"b{number}"
        if rng.random() < 0.6:
            size = int(rng.integers(0, 15))
            blocks[name] = (Hold, {"size": size, "step": int(rng.integers(0, size + 1)) if size else 0})
            edges.append(f"{rng.choice(outputs)}.out > {name}.number")
        else:
            blocks[name] = Merge
            edges += [f"{rng.choice(outputs)}.out > {name}.{port}" for port in ("left", "right")]
        outputs.append(name)
    taken = {edge.partition(".")[0] for edge in edges}
    loose = [name for name in outputs if name not in taken]
    if len(loose) > 1:
        blocks["many"] = Many
        edges += ["src.out > many.truth", *(f"{name}.out > many.estimate" for name in loose)]
    else:
        blocks["sink"] = Sink
        edges.append(f"{loose[0]}.out > sink.number")
    return graph(blocks, *edges, burst=int(rng.integers(1, 4)))


@pytest.mark.parametrize("number", range(30))
def test_the_least_window_is_enough_for_random_graphs(number: int, rng: np.random.Generator) -> None:
    given = random_graph(rng)
    check(given)
    assert delivers(given, minimum_window(given), rng), given
