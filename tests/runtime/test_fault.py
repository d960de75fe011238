"""Links that fail on purpose: whatever they do, every slot comes once, in order, unharmed, and is counted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from beamslot_probes import CheckSink, CountingSource, Relay
from beamslot_runs import Runner, assert_balanced, graph, until

from beamslot.errors import FlowgraphError
from beamslot.flowgraph import load
from beamslot.frame import Array, Describe, Eos, Frame, Operator, StreamInfo
from beamslot.runtime import report as reports
from beamslot.runtime.chaos import Strike
from beamslot.runtime.graph import Graph, LinkFault, Restart, check
from beamslot.runtime.process import struck
from beamslot.runtime.slots import SlotSet
from beamslot.runtime.transport import Inlet, Link, Outlet

SLOTS = 5000
CHAIN = {"src": CountingSource, "relay": Relay, "sink": CheckSink}
FIRST, SECOND = EDGES = ("src.numbers > relay.numbers", "relay.out > sink.numbers")

FAULTS: dict[str, LinkFault] = {
    "delay": LinkFault(delay=2e-3),
    "jitter": LinkFault(delay=1e-3, jitter=3e-3),
    "reorder": LinkFault(reorder=0.02),
    "duplicate": LinkFault(duplicate=0.05),
    "corrupt": LinkFault(corrupt=0.01),
    "cut": LinkFault(cut=0.003),
    "all": LinkFault(1e-3, 1e-3, reorder=0.01, duplicate=0.02, corrupt=0.005, cut=0.002),
}
COUNTED = {"delay": "delayed", "jitter": "delayed", "reorder": "reordered", "duplicate": "duplicated"}
COUNTED |= {"corrupt": "corrupted", "cut": "cut"}

WORST = LinkFault(jitter=1e-3, reorder=0.2, duplicate=0.2, corrupt=0.1, cut=0.05)
X = {"x": Array.of("slot y", np.float32)}
ONE_GROUP = np.zeros(2, np.int16)
SHARES = {"reordered": 0.02, "duplicated": 0.05, "corrupted": 0.01, "cut": 0.003}


def spoilt(fault: LinkFault, policy: str = "block", slots: int = SLOTS, **options: Any) -> Graph:
    sound = graph(CHAIN, *EDGES, slots=slots, **options)
    first, second = sound.edges
    return replace(sound, edges=(replace(first, fault=fault, policy=policy), second))


def of_edge(report: dict[str, Any], edge: str = FIRST) -> dict[str, Any]:
    return next(account for account in report["edges"] if account["edge"] == edge)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_link_that_fails_loses_nothing_and_says_what_it_did(kind: str, runs: Runner) -> None:
    report = runs(spoilt(FAULTS[kind]), seconds=60)
    assert report["problems"] == []
    assert report["exit_code"] == 0
    assert report["sinks"]["sink"] == {"seen": SLOTS, "bad": 0, "missed": 0}
    assert_balanced(report)
    counts = of_edge(report)["faults"]
    done = set(COUNTED.values()) if kind == "all" else {COUNTED[kind]}
    assert {name for name, count in counts.items() if count and name != "healed"} == done
    for name, share in SHARES.items() if kind != "all" else ():
        assert COUNTED[kind] != name or counts[name] >= 0.5 * share * SLOTS
    if kind in {
        "delay",
        "jitter",
        "duplicate",
    }:  # nothing is missing, nothing comes again, each message has its one turn
        assert counts["healed"] == 0
        most = {"delayed": SLOTS + 5, "duplicated": 1.5 * SHARES["duplicated"] * SLOTS}
        assert counts[COUNTED[kind]] <= most[COUNTED[kind]]
    assert "faults" not in of_edge(report, SECOND)


def test_what_was_lost_is_asked_for_again(runs: Runner) -> None:
    report = runs(spoilt(FAULTS["corrupt"]), seconds=60)
    account = of_edge(report)
    assert account["faults"]["healed"] > 0
    assert account["redelivered"] > 0
    assert any("CorruptFrame" in note and "checksum" in note for note in report["notes"]), report["notes"]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
def test_a_lossy_edge_over_a_bad_link_names_every_slot_that_it_dropped(policy: str, runs: Runner) -> None:
    blocks = {**CHAIN, "relay": (Relay, {"work": 0.0005})}
    sound = graph(blocks, *EDGES, slots=2000, windows={FIRST: 20} if policy != "latest" else None)
    first, second = sound.edges
    report = runs(replace(sound, edges=(replace(first, fault=FAULTS["all"], policy=policy), second)), seconds=60)
    account, sink = of_edge(report), report["sinks"]["sink"]
    assert report["problems"] == []
    assert sink["bad"] == 0
    assert set(account["dropped"]) <= {policy}
    assert account["offered"] == 2000 == account["acknowledged"] + sum(account["dropped"].values())
    assert (sink["seen"], sink["missed"]) == (account["acknowledged"], account["dropped"].get(policy, 0))


def test_a_bad_link_and_a_killed_process_at_once(runs: Runner) -> None:
    given = spoilt(FAULTS["all"], slots=2000)
    again = {name: replace(spec, restart=Restart("on_failure")) for name, spec in given.blocks.items()}
    report = runs(replace(given, blocks=again), seconds=60, strikes=[Strike("kill", "relay", 700)])
    assert report["problems"] == []
    assert report["sinks"]["sink"] == {"seen": 2000, "bad": 0, "missed": 0}
    assert report["blocks"]["relay"]["restarts"] == 1


def test_bursts_and_ends_come_whole_over_the_worst_of_links(runs: Runner) -> None:
    for slots in (1, 7, 200):
        report = runs(spoilt(WORST, slots=slots, burst=4), seconds=60)
        assert report["problems"] == []
        assert report["sinks"]["sink"] == {"seen": slots, "bad": 0, "missed": 0}


@pytest.mark.parametrize("seed", range(4))
def test_frames_come_behind_the_description_of_their_operator(seed: int, tmp_path: Path) -> None:
    """An outlet and an inlet in one process; the operator is another every 25 slots."""
    infos = [
        StreamInfo(X, {"y": 2}, operator=Operator(np.full((2, 1, 1), n + 1, np.complex64), ONE_GROUP, (0, 1)))
        for n in range(8)
    ]
    context: Any = zmq.Context()
    link = Link("a.x > b.x", 16, 1 << 20, 1)
    outlet = Outlet(context, "a.x", [link], "token")
    outlet.bind(f"ipc://{tmp_path}/edge", f"ipc://{tmp_path}/tap")
    inlet = Inlet(context, "a.x > b.x", "token", slots=16, nbytes=1 << 20, fault=WORST, seed=seed)
    inlet.connect(f"ipc://{tmp_path}/edge")
    seen: list[int] = []
    operator, made = "", 0

    def turn() -> bool:
        nonlocal operator, made
        outlet.service()
        if made < 200 and outlet.ready and outlet.room(1):
            info = infos[made // 25]
            if made % 25 == 0:
                outlet.describe(info)
            outlet.emit(Frame(made, 1, {"x": np.full((1, 2), made, np.float32)}, operator=info.operator.hash))
            made += 1
            if made == 200:
                outlet.emit(Eos(200))
        for item in inlet.receive():
            if isinstance(item, Describe):
                operator = item.info.operator.hash
            elif isinstance(item, Frame):
                assert (item.operator, item.arrays["x"][0, 0]) == (operator, item.first)
                seen.extend(range(item.first, item.end))
        inlet.finish(SlotSet([(0, len(seen))] if seen else []), eos=inlet.ended)
        inlet.flush(idle=True)
        return outlet.flushed

    until(turn, 20)
    assert seen == list(range(200))
    assert inlet.healed > 0
    inlet.close()
    outlet.close()
    context.term()


YAML: dict[str, Any] = {
    "options": {"parameters": {"id": "bad", "slots": 10}},
    "blocks": [
        {"name": "source", "id": "upa_source", "parameters": {"n_y": 4, "n_z": 4}},
        {"name": "sink", "id": "null_sink"},
    ],
}


def written(fault: Any, **keys: Any) -> dict[str, Any]:
    ends = dict(
        zip(
            ("src_blk_id", "src_port_id", "snk_blk_id", "snk_port_id"),
            ("source", "field", "sink", "stream"),
            strict=True,
        )
    )
    return {**YAML, **keys, "connections": [{**ends, "params": {"fault": fault}}]}


def test_a_flowgraph_says_what_a_link_does() -> None:
    fault = {"delay": 2e-3, "reorder": 0.1, "cut": 0.01}
    assert load(written(fault)).edges[0].fault == LinkFault(delay=2e-3, reorder=0.1, cut=0.01)
    assert load(written({})).edges[0].fault == LinkFault()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"cut": 0.9}, "cut"),
        ({"delay": -1}, "delay"),
        ({"corupt": 0.1}, "has no parameter 'corupt'"),
        (3, "wanted a mapping"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(fault: Any, text: str) -> None:
    with pytest.raises(FlowgraphError) as caught:
        load(written(fault))
    assert "source.field > sink.stream" in str(caught.value)
    assert text in str(caught.value)


def test_a_fault_needs_a_link_and_one_process_at_each_end() -> None:
    given = spoilt(LinkFault(cut=0.1))
    together = {name: replace(spec, process="one") for name, spec in given.blocks.items()}
    with pytest.raises(FlowgraphError, match="fault: process 'one' hands arrays over as they are"):
        check(replace(given, blocks=together))
    several = {**given.blocks, "relay": replace(given.blocks["relay"], replicas=2)}
    with pytest.raises(FlowgraphError, match="fault: relay has replicas, which share the link"):
        check(replace(given, blocks=several))


def status(**fields: Any) -> dict[str, Any]:
    return {
        "inputs": {"e": {}},
        "slots": 10,
        "results": {},
        "late": 0,
        "cut_short": 0,
        "busy_ns": 0,
        "refused": 0,
        **fields,
    }


def test_what_frames_say_of_faults_is_counted_and_nonsense_is_not() -> None:
    said = [{"faults": {"dead_chain": [[3, 5], [7, 8]]}}, {"faults": {"dead_chain": [[8, 9]]}}, {"faults": 3}, {}]
    said += [{"faults": {"x": [1]}}, {"faults": {"x": "text"}}]
    frames = [("out", Frame(n, 1, {}, tags=tags)) for n, tags in enumerate(said)]
    assert struck([*frames, ("other", frames[0][1])]) == {"dead_chain": 4}


def test_counts_of_faults_survive_a_restart_and_stand_in_the_notes() -> None:
    errors: list[str] = []
    past, now = status(faults={"quantiser": 7}, errors=errors), status(faults={"quantiser": 3, "x": 1}, errors=errors)
    together = reports.together(past, now)
    assert together["faults"] == {"quantiser": 10, "x": 1}
    told = reports.oddities({"adc": {**together, "troubles": {"a.x > b.x": {"cut": 2, "delayed": 9, "healed": 1}}}})
    assert told == [
        "adc: quantiser struck 10 of 20 slots",
        "adc: x struck 1 of 20 slots",
        "a.x > b.x: of its messages 2 cut, 9 delayed; asked for again 1 times",
    ]
