"""Through every crash: processes killed, stopped and cut off in every way, and what must come of it all the same."""

import json
import os
import random
import signal
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from beamslot_lab import (
    Antenna,
    Cold,
    Frail,
    LifeSink,
    Touchy,
    lab,
    restarting,
    total_of,
    with_blocks,
)
from beamslot_probes import CheckSink, CountingSource, PairSink, Relay
from beamslot_random import Keeper, Ledger, PairKeeper, Tally
from beamslot_runs import Run, Runner, assert_balanced, edges_of, graph, until
from beamslot_stray import Cut, Filter

from beamslot.flowgraph import load
from beamslot.frame import Frame
from beamslot.runtime import rundir
from beamslot.runtime.chaos import Chaos, Strike
from beamslot.runtime.diary import load_crash
from beamslot.runtime.graph import Graph
from beamslot.runtime.taps import listen

SLOTS, BURST = 100_000, 50
WORK = 0.0005
"""Longest time of an estimator's call [s]."""

STRUCK = (("combiner", 0), ("estimator", 0), ("estimator", 1), ("totals", 0), ("order", 0), ("nmse", 0), ("file", 0))
"""Every process of the laboratory but the source: block and replica."""

CHAIN = {"src": CountingSource, "relay": Relay, "sink": CheckSink}
EDGES = ("src.numbers > relay.numbers", "relay.out > sink.numbers")


def events(report: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """What a run has written down of one kind, in order."""
    lines = (Path(report["logs"]) / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def complete(report: dict[str, Any], slots: int, sink: str = "sink") -> None:
    """Assert that a run went well and that its sink had every slot once."""
    assert report["problems"] == []
    assert (report["ok"], report["exit_code"]) == (True, 0)
    assert report["sinks"][sink] == {"seen": slots, "bad": 0, "missed": 0}
    assert_balanced(report)


def chain(blocks: dict[str, Any] | None = None, edges: Sequence[str] = EDGES, **options: Any) -> Graph:
    """Return a chain whose blocks are all started again."""
    return restarting(graph({**CHAIN, **(blocks or {})}, *edges, **options))


# the laboratory: what was judged does not tell that anything happened


@pytest.fixture(scope="module")
def undisturbed(runs: Runner, private_state: Path) -> tuple[dict[str, Any], bytes]:
    """The results of the sinks and the file of a run without trouble, its slots framed otherwise."""
    path = private_state / "undisturbed.jsonl"
    report = runs(lab(path, slots=SLOTS, burst=200))
    assert report["restarts"] == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["slot"] for line in lines] == list(range(SLOTS))
    assert [line["total"] for line in lines] == [total_of(slot) for slot in range(SLOTS)]  # type: ignore[arg-type]
    return report["sinks"], path.read_bytes()


def same(report: dict[str, Any], path: Path, undisturbed: tuple[dict[str, Any], bytes], least: int) -> None:
    """Assert that a run gave what the undisturbed one gave, after so many restarts at least."""
    sinks, written = undisturbed
    assert report["problems"] == []
    assert report["sinks"]["order"] == {"seen": SLOTS, "bad": 0, "missed": 0}
    assert report["sinks"]["nmse"] == sinks["nmse"]
    assert path.read_bytes() == written
    assert_balanced(report)
    assert report["restarts"] >= least


def struck(path: Path, strikes: Sequence[Strike], runs: Runner, **options: Any) -> dict[str, Any]:
    return runs(lab(path, slots=SLOTS, burst=BURST, work=WORK, **options), strikes=strikes)


@pytest.mark.parametrize("seed", range(3))
def test_every_process_but_the_source_killed_at_a_slot_leaves_no_trace(
    seed: int, runs: Runner, tmp_path: Path, undisturbed: Any
) -> None:
    rng, path = random.Random(seed), tmp_path / "file.jsonl"
    strikes = [Strike("kill", name, rng.randrange(SLOTS), replica=replica) for name, replica in STRUCK]
    same(struck(path, strikes, runs), path, undisturbed, least=len(STRUCK) - 2)  # a replica may not come to its slot


@pytest.mark.parametrize("slot", [0, 41_307, SLOTS - 1])
def test_the_source_killed_leaves_no_trace(slot: int, runs: Runner, tmp_path: Path, undisturbed: Any) -> None:
    path = tmp_path / "file.jsonl"
    same(struck(path, [Strike("kill", "source", slot)], runs), path, undisturbed, least=1)


@pytest.mark.parametrize("pair", [("combiner", "totals"), ("source", "file"), ("nmse", "order")])
def test_two_killed_at_once_leave_no_trace(
    pair: tuple[str, str], runs: Runner, tmp_path: Path, undisturbed: Any
) -> None:
    path = tmp_path / "file.jsonl"
    run = runs.start(lab(path, slots=SLOTS, burst=BURST, work=WORK))
    until(lambda: run.slots() > SLOTS // 10)
    for pid in [run.block(name) for name in pair]:
        os.kill(pid, signal.SIGKILL)
    same(run.report(), path, undisturbed, least=2)


def test_one_killed_twice_in_a_second_leaves_no_trace(runs: Runner, tmp_path: Path, undisturbed: Any) -> None:
    path = tmp_path / "file.jsonl"
    strikes = [Strike("kill", "totals", 30_000), Strike("kill", "totals", 33_000, life=1)]
    report = struck(path, strikes, runs)
    same(report, path, undisturbed, least=2)
    first, second = events(report, "died")
    assert second["at"] - first["at"] < 1.0


def test_all_killed_one_in_the_restart_of_the_other_leave_no_trace(
    runs: Runner, tmp_path: Path, undisturbed: Any
) -> None:
    path = tmp_path / "file.jsonl"
    names = ("source", "combiner", "totals", "order", "nmse", "file")
    strikes = [Strike("kill", name, 20_000 + life * BURST, life=life) for life in range(2) for name in names]
    same(struck(path, strikes, runs), path, undisturbed, least=len(names))


def test_connections_cut_lose_nothing_and_start_nothing_again(runs: Runner, tmp_path: Path, undisturbed: Any) -> None:
    path = tmp_path / "file.jsonl"
    strikes = [Strike("cut", name, 9_000 * at, replica=replica) for at, (name, replica) in enumerate(STRUCK, 1)]
    report = struck(path, strikes, runs)
    same(report, path, undisturbed, least=0)
    assert report["restarts"] == 0
    assert sum(account["redelivered"] for account in report["edges"]) > 0


def test_processes_that_stand_still_lose_nothing(runs: Runner, tmp_path: Path, undisturbed: Any) -> None:
    path = tmp_path / "file.jsonl"
    strikes = [Strike("stop", name, 9_000 * at, replica=replica) for at, (name, replica) in enumerate(STRUCK, 1)]
    same(struck(path, strikes, runs), path, undisturbed, least=0)


@pytest.mark.parametrize("seed", range(2))
def test_chaos_by_the_clock_loses_nothing(seed: int, runs: Runner, tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    given = lab(path, slots=8_000, burst=20, slot_period=1 / 2_000, pace=1.0)
    given = restarting(given, retries=1000, backoff=0.01, backoff_max=0.05)  # blows may fall faster than all get up
    report = runs(given, seconds=60, chaos=Chaos(seed, every=0.1))
    assert report["problems"] == []
    assert report["sinks"]["order"] == {"seen": 8_000, "bad": 0, "missed": 0}
    assert [json.loads(line)["slot"] for line in path.read_text().splitlines()] == list(range(8_000))
    assert_balanced(report)
    assert {event["action"] for event in events(report, "blow")} == {"kill", "stop", "cut"}


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_slots_sent_singly_survive_every_kill(seed: int, runs: Runner, tmp_path: Path, undisturbed: Any) -> None:
    rng, path = random.Random(seed), tmp_path / "file.jsonl"
    strikes = [Strike("kill", name, rng.randrange(SLOTS), replica=replica) for name, replica in STRUCK]
    strikes += [Strike("kill", "source", rng.randrange(SLOTS))]
    report = runs(lab(path, slots=SLOTS, work=WORK), seconds=300, strikes=strikes)
    same(report, path, undisturbed, least=len(STRUCK) - 1)


# restart policies


def test_a_block_that_is_not_to_be_started_again_ends_the_run(runs: Runner) -> None:
    given = restarting(graph(CHAIN, *EDGES, slots=5000), ["src", "sink"])
    report = runs(given, strikes=[Strike("kill", "relay", 1000)])
    assert (report["exit_code"], report["restarts"]) == (1, 0)
    assert report["problems"][0].startswith("relay: process was ended by SIGKILL while working on slot 1000;")
    assert_balanced(report, reasons=["stopped"])


def test_restarts_in_a_row_back_off_and_end_with_the_retries(runs: Runner) -> None:
    given = restarting(chain(slots=5000), ["relay"], retries=3, backoff=0.1, backoff_max=0.15)
    report = runs(given, strikes=[Strike("kill", "relay", 0, life=life) for life in range(9)])
    assert (report["exit_code"], report["restarts"]) == (1, 3)
    assert "started again 3 times without getting on" in report["problems"][0]
    deaths, restarts = ([event["at"] for event in events(report, kind)] for kind in ("died", "restart"))
    assert len(deaths) == 4
    waits = [again - death for death, again in zip(deaths, restarts, strict=False)]
    assert all(wait >= least for wait, least in zip(waits, (0.0, 0.1, 0.15), strict=True))
    assert_balanced(report, reasons=["stopped"])


def test_a_block_that_gets_on_between_its_deaths_is_started_again_for_ever(runs: Runner) -> None:
    given = restarting(chain(slots=6000), ["relay"], retries=2, backoff=0.02)
    strikes = [Strike("kill", "relay", 600 * (life + 1), life=life) for life in range(8)]
    report = runs(given, strikes=strikes)
    complete(report, 6000)
    assert report["blocks"]["relay"]["restarts"] == 8


@pytest.mark.parametrize(("how", "said"), [("raise", "RuntimeError: this slot is too much"), ("segv", "SIGSEGV")])
def test_a_slot_that_ends_its_block_twice_ends_the_run_and_is_kept(how: str, said: str, runs: Runner) -> None:
    given = chain({"relay": (Touchy, {"at": 333, "how": how})}, slots=2000, seed=7)
    report = runs(given)
    assert (report["exit_code"], report["restarts"]) == (1, 1)
    problem = report["problems"][0]
    assert "relay" in problem
    assert said in problem
    assert "slot 333 ended it 2 times" in problem
    failure, arrays = load_crash(sorted(Path(report["logs"]).glob("crash-relay-*"))[-1])
    assert (failure["block"], failure["slots"], failure["seed"]) == ("relay", [333, 334], 7)
    assert arrays["numbers"]["index"].tolist() == [333]
    assert_balanced(report, reasons=["stopped"])


@pytest.mark.parametrize("how", ["raise", "segv"])
def test_a_slot_that_ends_its_block_twice_can_be_made_a_gap(how: str, runs: Runner) -> None:
    given = restarting(chain({"relay": (Touchy, {"at": 333, "how": how})}, slots=2000), ["relay"], on_poison="drop")
    report = runs(given)
    assert (report["problems"], report["restarts"]) == ([], 2)
    assert report["sinks"]["sink"] == {"seen": 1999, "bad": 0, "missed": 1}
    assert edges_of(report)[EDGES[1]]["dropped"] == {"poison": 1}
    assert_balanced(report, reasons=["poison"])


def test_a_call_that_hangs_is_killed_and_made_again(runs: Runner, tmp_path: Path) -> None:
    hanging = {"at": 333, "how": "hang", "mark": str(tmp_path / "hung")}
    report = runs(restarting(chain({"relay": (Touchy, hanging)}, slots=2000), ["relay"], hang_timeout=0.3))
    complete(report, 2000)
    assert report["restarts"] == 1
    assert "relay: has worked on slot 333 for 0.3 s: killed" in report["notes"]


def test_a_call_that_always_hangs_is_poison(runs: Runner) -> None:
    given = chain({"relay": (Touchy, {"at": 333, "how": "hang"})}, slots=2000)
    report = runs(restarting(given, ["relay"], hang_timeout=0.3, on_poison="drop"))
    assert report["problems"] == []
    assert report["sinks"]["sink"] == {"seen": 1999, "bad": 0, "missed": 1}


def test_a_block_that_cannot_put_its_state_back_says_so_on_its_first_frame(runs: Runner) -> None:
    given = chain({"relay": (Cold, {"pause": 0.7})}, slots=300)
    run = runs.start(given, strikes=[Strike("kill", "relay", 150)])
    (card,) = until(rundir.runs)
    frames = [item for item in listen(card["ports"]["relay.out"], "relay.out") if isinstance(item, Frame)]
    complete(run.report(), 300)
    tagged = [frame.first for frame in frames if frame.tags.get("restarted")]
    assert len(tagged) == 1
    assert tagged[0] <= 150
    assert not any(frame.tags for frame in frames if frame.first != tagged[0])


def test_a_sink_that_lives_on_keeps_its_book_though_a_restart_fails_before_it_hears_of_it(
    runs: Runner, tmp_path: Path
) -> None:
    given = chain({"relay": (Frail, {"folder": str(tmp_path)}), "sink": Ledger}, slots=2000)
    report = runs(given, strikes=[Strike("kill", "relay", 500)])
    assert (report["problems"], report["restarts"]) == ([], 2)
    assert lines_of(report, "sink") == [(0, 2000, "")]
    assert_balanced(report)


# sources that cannot make a slot again

LIVE = ("src.numbers > relay.numbers", "relay.out > sink.numbers")


def test_a_live_source_loses_nothing_by_the_death_of_others(runs: Runner) -> None:
    given = chain({"src": Antenna, "sink": LifeSink}, LIVE, slots=5000, slot_period=1 / 5000, pace=1.0)
    report = runs(given, strikes=[Strike("kill", "relay", 1500), Strike("kill", "sink", 3000)])
    assert report["problems"] == []
    assert report["sinks"]["sink"] == {"lives": [0], "missed": [], "seen": 5000, "bad": 0}
    assert report["restarts"] == 2
    assert_balanced(report)


def test_a_live_source_that_dies_leaves_a_gap_that_is_counted(runs: Runner) -> None:
    given = chain({"src": Antenna, "sink": LifeSink}, LIVE, slots=5000, slot_period=1 / 5000, pace=1.0)
    report = runs(given, strikes=[Strike("kill", "src", 2000)])
    assert report["problems"] == []
    found = report["sinks"]["sink"]
    lost = sum(end - first for first, end, _ in found["missed"])
    assert {reason for _, _, reason in found["missed"]} <= {"source restarted"}
    assert (found["seen"] + lost, found["bad"]) == (5000, 0)
    assert found["lives"][0] == 0
    assert found["lives"][1] >= 2000
    assert edges_of(report)[LIVE[1]]["dropped"].get("source restarted", 0) == lost
    assert_balanced(report, reasons=["source restarted"])


# interrupts


def recovering(runs: Runner, **options: Any) -> Run:
    """Return a run whose relay has died twice and waits for its third start."""
    given = restarting(chain(slot_period=1e-3, pace=1.0), ["relay"], backoff=1.5)
    run = runs.start(given, strikes=[Strike("kill", "relay", 0, life=life) for life in range(2)], **options)
    until(lambda: any("started again in 1.5 s" in note for note in run.status.get("notes", ())))
    return run


def test_an_interrupt_while_a_block_waits_for_its_start_drains_all_the_same(runs: Runner) -> None:
    run = recovering(runs, deadline=10.0)
    run.signal(signal.SIGINT)
    report = run.report()
    assert (report["exit_code"], report["problems"]) == (130, [])
    assert report["sinks"]["sink"] == {"seen": report["slots"], "bad": 0, "missed": 0}
    assert_balanced(report)


def test_a_second_interrupt_while_a_block_waits_for_its_start_stops_at_once(runs: Runner) -> None:
    run = recovering(runs)
    for count in (1, 2):
        run.signal(signal.SIGINT)
        until(lambda count=count: run.over or run.status["state"] == "draining")
    report = run.report(3)
    assert report["exit_code"] == 130
    assert_balanced(report, reasons=["stopped"])


@pytest.mark.parametrize("name", ["src", "relay", "sink"])
def test_the_death_of_a_block_while_draining_loses_nothing(name: str, runs: Runner) -> None:
    run = runs.start(chain({"sink": (CheckSink, {"work": 0.002})}), deadline=20.0)
    until(lambda: run.slots() > 300)
    run.signal(signal.SIGINT)
    until(lambda: run.status["state"] == "draining")
    os.kill(run.block(name), signal.SIGKILL)
    report = run.report()
    assert (report["exit_code"], report["problems"]) == (130, [])
    assert report["restarts"] == 1
    assert report["sinks"]["sink"] == {"seen": report["slots"], "bad": 0, "missed": 0}
    assert_balanced(report)


# lossy and lossless side by side


def lossy(given: Graph, *names: str, policy: str, window: int | None = None) -> Graph:
    """Return a graph some of whose edges lose slots."""
    edges = [replace(edge, policy=policy, window=window) if edge.name in names else edge for edge in given.edges]
    assert sum(edge.policy == policy for edge in edges) == len(names)
    return replace(given, edges=tuple(edges))


def lines_of(report: dict[str, Any], sink: str) -> list[tuple[int, int, str]]:
    """What a sink has written down: slots that came or not, one stretch after the other without a hole."""
    book = report["sinks"][sink]
    lines = [tuple(line) for line in book["lines"]]
    assert book["bad"] == 0
    assert all(before[1] == after[0] for before, after in pairwise(lines)), lines
    return lines  # type: ignore[return-value]


def accounted(report: dict[str, Any], sink: str, edge: str, slots: int) -> dict[str, int]:
    """Return slots by fate as a sink saw them, after comparing them with the account of its edge."""
    fates: dict[str, int] = {}
    for first, end, reason in lines_of(report, sink):
        fates[reason] = fates.get(reason, 0) + end - first
    assert sum(fates.values()) == slots
    account = edges_of(report)[edge]
    assert {"": account["acknowledged"], **account["dropped"]} == {"": 0, **fates}
    return fates


@pytest.mark.parametrize("strikes", [[], ["slow"], ["src", "fast"]], ids=["calm", "slow killed", "source and fast"])
@pytest.mark.parametrize("policy", ["latest", "drop_oldest", "drop_newest"])
def test_a_slow_branch_that_loses_slots_does_not_hold_up_the_other(
    policy: str, strikes: list[str], runs: Runner
) -> None:
    blocks = {"src": CountingSource, "slow": (Relay, {"work": 0.01}), "late": Keeper, "fast": Relay, "sink": CheckSink}
    edges = ("src.numbers > slow.numbers", "slow.out > late.numbers", "src.numbers > fast.numbers", "fast.out > sink.numbers")  # noqa: E501  # fmt: skip
    given = lossy(restarting(graph(blocks, *edges, slots=4000)), edges[0], policy=policy)
    report = runs(given, strikes=[Strike("kill", name, 30) for name in strikes])
    assert report["problems"] == []
    assert report["sinks"]["sink"] == {"seen": 4000, "bad": 0, "missed": 0}
    fates = accounted(report, "late", edges[1], 4000)
    assert fates.keys() == {"", policy}
    assert fates[policy] > 1000
    assert report["restarts"] == len(strikes)
    assert_balanced(report, reasons=[policy])


@pytest.mark.parametrize("strikes", [[], ["left"], ["src"], ["pair", "right"]], ids="-".join)
def test_a_diamond_with_a_branch_that_drops_does_not_stall(strikes: list[str], runs: Runner) -> None:
    blocks = {"src": CountingSource, "left": (Relay, {"work": 0.002}), "right": Relay, "pair": PairKeeper}
    edges = ("src.numbers > left.numbers", "src.numbers > right.numbers", "left.out > pair.left", "right.out > pair.right")  # noqa: E501  # fmt: skip
    given = lossy(restarting(graph(blocks, *edges, slots=1500)), edges[0], policy="drop_oldest", window=8)
    report = runs(given, strikes=[Strike("kill", name, 40) for name in strikes])
    assert report["problems"] == []
    lines = lines_of(report, "pair")
    assert (lines[0][0], lines[-1][1]) == (0, 1500)
    assert {reason for _, _, reason in lines} == {"", "drop_oldest"}
    lost = sum(end - first for first, end, reason in lines if reason)
    assert edges_of(report)[edges[3]]["unmatched"] == lost
    assert_balanced(report, reasons=["drop_oldest"])


@pytest.mark.parametrize("struck", ["head", "pair", "src"])
def test_a_head_on_one_branch_does_not_stall_the_other(struck: str, runs: Runner) -> None:
    blocks = {"src": CountingSource, "head": (Cut, {"slots": 700}), "pair": PairKeeper, "sink": CheckSink}
    edges = ("src.numbers > head.numbers", "head.out > pair.left", "src.numbers > pair.right", "src.numbers > sink.numbers")  # noqa: E501  # fmt: skip
    report = runs(restarting(graph(blocks, *edges, slots=3000)), strikes=[Strike("kill", struck, 500)])
    assert report["problems"] == []
    assert report["restarts"] == 1
    assert lines_of(report, "pair") == [(0, 700, ""), (700, 3000, "unmatched")]
    assert report["sinks"]["sink"] == {"seen": 3000, "bad": 0, "missed": 0}
    assert_balanced(report, reasons=["done"])


@pytest.mark.parametrize("struck", ["relay", "pair"])
def test_gaps_at_the_end_are_seen_to_the_last_slot(struck: str, runs: Runner) -> None:
    blocks = {"src": CountingSource, "relay": (Filter, {"every": 1000}), "pair": PairSink}
    edges = ("src.numbers > relay.numbers", "relay.out > pair.left", "src.numbers > pair.right")
    report = runs(restarting(graph(blocks, *edges, slots=1800)), strikes=[Strike("kill", struck, 900)])
    assert report["problems"] == []
    assert report["sinks"]["pair"] == {"seen": 2, "bad": 0, "missed": 1798}
    accounts = edges_of(report)
    assert accounts[edges[1]]["dropped"] == {"filtered": 1798}
    assert accounts[edges[2]]["unmatched"] == 1798
    assert_balanced(report, reasons=["filtered"])


# groups and replicas


def test_a_group_killed_as_a_whole_goes_on_as_a_whole(runs: Runner) -> None:
    blocks = {"src": CountingSource, "one": Relay, "two": Tally, "sink": Keeper}
    edges = ("src.numbers > one.numbers", "one.out > two.numbers", "two.out > sink.numbers")
    calm = runs(graph(blocks, *edges, slots=4000))
    given = with_blocks(restarting(graph(blocks, *edges, slots=4000)), {n: {"process": "g"} for n in ("one", "two")})
    report = runs(given, strikes=[Strike("kill", "two", 1000), Strike("kill", "one", 2500, life=1)])
    assert (report["problems"], report["restarts"]) == ([], 2)
    assert report["sinks"] == calm["sinks"]
    assert_balanced(report)


WRITTEN = """\
options:
  parameters: {id: lab, slots: 400, seed: 3, restart: on_failure}
blocks:
- {name: source, id: upa_source, parameters: {n_y: 4, n_z: 4, paths: 2, snr_db: 10}, process: front}
- {name: combiner, id: combiner, parameters: {antennas_per_chain: 2}, process: front}
- {name: omp, id: omp, parameters: {zoom: 0}, replicas: 2, restart: {policy: on_failure, retries: 3}}
- {name: nmse, id: nmse_sink}
connections:
- [source, field, combiner, field]
- [combiner, rf, omp, rf]
- [source, truth, nmse, truth]
- [omp, estimate, nmse, estimate]
metadata: {file_format: 1}
"""


def test_groups_and_replicas_as_written_in_a_flowgraph_survive_a_kill_to_the_last_bit(
    runs: Runner, tmp_path: Path
) -> None:
    file = tmp_path / "lab.yml"
    file.write_text(WRITTEN)
    given = load(file)
    assert [unit for unit, _ in given.units] == ["front", "omp", "nmse"]
    calm = runs(given)
    strikes = [Strike("kill", "omp", 50, replica=0), Strike("kill", "combiner", 200), Strike("kill", "nmse", 300)]
    report = runs(given, strikes=strikes)
    assert report["problems"] == []
    assert report["restarts"] >= 2
    assert report["sinks"] == calm["sinks"]
    assert report["sinks"]["nmse"]["omp"]["draws"] > 0
    assert_balanced(report)
