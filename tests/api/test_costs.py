"""What blocks cost, kept and found again; and closed forms of what a graph needs at a rate."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from beamslot_runs import graph
from pydantic import Field

from beamslot import RunResult, api, costs
from beamslot.cli import main
from beamslot.costs import ARRAY_SECONDS, BYTE_SECONDS, CORES, FRAME_SECONDS, FULL, Cost
from beamslot.flowgraph import load
from beamslot.frame import Array, StreamInfo
from beamslot.runtime.block import Block, In, Out

HELLO = Path(__file__).parents[2] / "flowgraphs" / "hello.yml"
NUMBER = Array.of("slot", np.int64)
BIG = StreamInfo({"out": Array.of("slot sample", np.int64)}, {"sample": 12_500})
"""100,000 bytes a slot."""


class Source(Block):
    """Slots from nowhere."""

    out = Out("slot", np.int64)
    level: int = 0


class Work(Block):
    """Stateless work."""

    number = In("slot", np.int64)
    out = Out("slot", np.int64)
    depth: int = 1


class Hold(Work):
    """Work on windows."""

    number = In("slot", np.int64, window="size")
    size: int = Field(10)


class Tracker(Work):
    """Work that depends on earlier slots."""

    stateful = True


class Pair(Block):
    """Two streams in, one out."""

    left = In("slot", np.int64)
    right = In("slot", np.int64)
    out = Out("slot", np.int64)


class Sink(Block):
    """The end."""

    number = In("slot", np.int64)


class Judge(Block):
    """The end of many."""

    number = In("slot", np.int64, many=True)


@pytest.fixture(autouse=True)
def own_table(tmp_path, monkeypatch):
    """A table of its own for every test, and two cores."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    return tmp_path / "beamslot" / "costs.json"


def chain(middle=Work, *, source=None, name="work", **options):
    blocks = {"source": (Source, source or {}), name: middle, "sink": Sink}
    return graph(blocks, f"source.out > {name}.number", f"{name}.out > sink.number", **options)


def changed(whole, name, **changes):
    return replace(whole, blocks={**whole.blocks, name: replace(whole.blocks[name], **changes)})


def policy(whole, text, name):
    return replace(whole, edges=tuple(replace(e, policy=name) if e.name == text else e for e in whole.edges))


def cost(seconds, when=1.0):
    return Cost(block="", seconds=seconds, slots=100, machine="", when=when)


def known(**seconds):
    return {name: None if one is None else cost(one) for name, one in seconds.items()}


def loads(found):
    return {load.name: load for load in found.loads}


def ran(slots=100, **busy):
    return {"blocks": {name: {"slots": slots, "busy_s": seconds} for name, seconds in busy.items()}}


# the table


def test_a_run_leaves_the_mean_time_per_slot_for_the_next(own_table):
    assert costs.record(chain(), ran(slots=200, source=0.1, work=0.5, sink=0.0)) == []
    found = costs.lookup(chain())
    assert {name: (one.seconds, one.slots) for name, one in found.items() if one} == {
        "source": (0.0005, 200),
        "work": (0.0025, 200),
        "sink": (0.0, 200),
    }
    assert found["work"].machine == costs.machine()
    assert [file.name for file in own_table.parent.iterdir()] == ["costs.json"]


def test_a_newer_run_replaces_what_an_older_one_left():
    costs.record(chain(), ran(work=1.0))
    costs.record(chain(), ran(work=2.0))
    assert costs.lookup(chain())["work"].seconds == 0.02


def test_a_cost_is_that_of_a_block_and_of_all_that_feeds_it():
    costs.record(chain(), ran(source=1.0, work=1.0, sink=1.0))

    def found(whole):
        return {name for name, one in costs.lookup(whole).items() if one}

    assert found(chain(name="renamed")) == {"source", "renamed", "sink"}
    assert found(changed(chain(), "work", replicas=2)) == {"source", "work", "sink"}
    assert found(chain(source={"level": 0})) == {"source", "work", "sink"}  # the default, written out
    assert found(chain(source={"level": 1})) == set()
    assert found(chain((Work, {"depth": 2}))) == {"source"}
    assert found(chain(Tracker)) == {"source"}
    assert found(chain(burst=4)) == set()


def test_the_costs_of_another_machine_are_not_those_of_this_one(monkeypatch):
    costs.record(chain(), ran(work=1.0))
    monkeypatch.setattr(costs, "machine", lambda: "another, 96 cores")
    assert costs.lookup(chain())["work"] is None


def test_a_mean_over_few_slots_is_not_kept():
    costs.record(chain(), ran(slots=19, work=1.0))
    assert costs.lookup(chain())["work"] is None


def test_a_block_of_many_streams_costs_a_slot_what_all_its_streams_do():
    blocks = {"source": Source, "one": Work, "two": Work, "judge": Judge}
    edges = ["source.out > one.number", "source.out > two.number", "one.out > judge.number", "two.out > judge.number"]
    both = graph(blocks, *edges)
    costs.record(both, ran(slots=200, judge=1.0))
    assert (costs.lookup(both)["judge"].seconds, costs.lookup(both)["judge"].slots) == (0.01, 100)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"seconds": 1}}', "\x00", "", '{"a": ' * 1000])
def test_a_broken_table_is_ignored_with_a_note_and_written_anew(text, own_table):
    own_table.parent.mkdir()
    own_table.write_text(text)
    assert costs.read() == (
        {},
        [f"{own_table}: ignored: it is no table of costs; the next run that goes well writes it anew"],
    )
    costs.record(chain(), ran(work=1.0))
    assert costs.lookup(chain())["work"].seconds == 0.01
    assert costs.read()[1] == []


@pytest.mark.parametrize("seconds", [-1, "NaN", 1e999])
def test_a_table_with_a_cost_that_cannot_be_is_broken(seconds, own_table):
    own_table.parent.mkdir()
    own_table.write_text(json.dumps({"a": {**cost(0).model_dump(), "seconds": seconds}}))
    assert costs.read()[0] == {}


def test_a_table_that_cannot_be_reached_is_said_and_ends_nothing(own_table):
    own_table.parent.write_text("a file")
    assert costs.record(chain(), ran(work=1.0)) == [f"{own_table}: costs are not kept: file exists"]
    assert costs.read() == ({}, [f"{own_table}: ignored: not a directory"])


def test_the_table_keeps_the_newest_entries_and_no_more(own_table, monkeypatch):
    monkeypatch.setattr(costs, "MOST", 5)
    own_table.parent.mkdir()
    own_table.write_text(json.dumps({str(when): cost(0, when).model_dump() for when in (7, 1, 6, 3, 5, 2, 4)}))
    costs.record(chain(), ran(source=1.0, work=1.0))
    kept = json.loads(own_table.read_text())
    assert [one["when"] for one in kept.values()][:3] == [5, 6, 7]
    assert len(kept) == 5


# what a graph needs


def test_a_process_needs_its_work_and_a_frame_and_its_bytes_at_every_end():
    found = costs.demand(chain(burst=4), known(source=0, work=1e-3, sink=2e-3), 100, infos={"source.out": BIG}, cores=2)
    work = loads(found)["work"]
    assert work.work == pytest.approx(0.1)
    assert work.frames == pytest.approx(2 * 100 / 4 * FRAME_SECONDS)
    assert work.nbytes == pytest.approx(100 * 100_000 * BYTE_SECONDS)
    assert loads(found)["source"].cores == pytest.approx(100 / 4 * FRAME_SECONDS + work.nbytes)
    assert found.needed == pytest.approx(sum(load.cores for load in found.loads))
    assert (found.limit, found.keeps_up, found.unmeasured) == ("sink", True, ())
    assert found.highest == pytest.approx(100 / (0.2 + 25 * FRAME_SECONDS))


def test_a_frame_costs_more_by_each_further_array():
    several = StreamInfo(dict.fromkeys("abc", NUMBER), {})
    found = costs.demand(chain(burst=2), {}, 100, infos={"source.out": several})
    frames = {name: load.frames / (100 / 2) for name, load in loads(found).items()}
    more = FRAME_SECONDS + 2 * ARRAY_SECONDS
    assert frames == pytest.approx({"source": more, "work": more + FRAME_SECONDS, "sink": FRAME_SECONDS})


def test_frames_are_as_long_as_a_hop_and_where_streams_meet_as_the_shorter():
    blocks = {"source": Source, "hold": Hold, "work": Work, "pair": Pair, "sink": Sink}
    edges = ["source.out > hold.number", "source.out > work.number", "hold.out > pair.left", "work.out > pair.right"]
    found = costs.demand(graph(blocks, *edges, "pair.out > sink.number", burst=2), {}, 100)
    per_slot = {name: load.frames / (100 * FRAME_SECONDS) for name, load in loads(found).items()}
    assert per_slot == pytest.approx({"source": 1, "hold": 0.6, "work": 1, "pair": 0.1 + 0.5 + 0.5, "sink": 0.5})


def test_replicas_share_the_work_evenly_and_all_together_need_as_much():
    alone = costs.demand(chain(), known(source=0, work=8e-3, sink=0), 100, cores=4)
    shared = costs.demand(changed(chain(), "work", replicas=2), known(source=0, work=8e-3, sink=0), 100, cores=4)
    assert loads(shared)["work"].share == pytest.approx(loads(alone)["work"].share / 2)
    assert shared.needed == pytest.approx(alone.needed)
    assert shared.highest == pytest.approx(2 * alone.highest)


def test_within_a_process_there_is_no_transport():
    both = changed(changed(chain(), "work", process="dsp"), "sink", process="dsp")
    dsp = loads(costs.demand(both, known(source=0, work=1e-3, sink=1e-3), 100))["dsp"]
    assert (dsp.blocks, dsp.work, dsp.frames) == (("work", "sink"), pytest.approx(0.2), 100 * FRAME_SECONDS)


def test_cores_limit_a_graph_whose_processes_would_each_keep_up():
    found = costs.demand(chain(), known(source=6e-3, work=6e-3, sink=6e-3), 100, cores=1)
    assert (found.limit, found.keeps_up) == (CORES, False)
    assert found.highest == pytest.approx(1 / (18e-3 + 4 * FRAME_SECONDS))


def test_at_the_highest_rate_a_graph_just_keeps_up(rng):
    for _ in range(50):
        source, work, slow, sink = rng.uniform(0, 5e-3, 4)
        blocks = {"source": Source, "work": Work, "slow": Sink, "sink": Sink}
        edges = ["source.out > work.number", "work.out > sink.number", "source.out > slow.number"]
        whole = policy(graph(blocks, *edges), "source.out > slow.number", "latest")
        seconds = known(source=source, work=work, slow=5 * slow, sink=sink)
        cores = int(rng.integers(1, 5))
        highest = costs.demand(whole, seconds, 100, cores=cores).highest
        below, above = (costs.demand(whole, seconds, highest * factor, cores=cores) for factor in (1 - 1e-9, 1 + 1e-9))
        assert below.keeps_up
        assert not above.keeps_up
        full = below.needed / cores if below.limit == CORES else loads(below)[below.limit].share
        assert full == pytest.approx(1, abs=1e-6)


def test_a_branch_behind_a_lossy_edge_drops_slots_and_limits_nothing():
    blocks = {"source": Source, "work": Work, "view": Work, "screen": Sink, "sink": Sink}
    edges = [
        "source.out > work.number",
        "work.out > sink.number",
        "source.out > view.number",
        "view.out > screen.number",
    ]
    whole = policy(graph(blocks, *edges), "source.out > view.number", "latest")
    seconds = known(source=0, work=1e-3, view=1.0, screen=0, sink=0)
    found = costs.demand(whole, seconds, 100, cores=8)
    assert {name for name, load in loads(found).items() if load.lossy} == {"view", "screen"}
    assert (loads(found)["view"].verdict, found.keeps_up, found.limit) == ("drops slots", True, "work")
    assert found.needed == pytest.approx(1 + 0.1 + 6 * 100 * FRAME_SECONDS)
    assert not costs.demand(graph(blocks, *edges), seconds, 100, cores=2).keeps_up


def test_a_graph_that_was_not_measured_may_keep_up_or_is_known_not_to():
    found = costs.demand(chain(), known(source=1e-3, sink=0), 100)
    assert (found.keeps_up, found.unmeasured, loads(found)["work"].verdict) == (None, ("work",), "not measured")
    assert costs.demand(chain(), known(source=1e-3, sink=0), 2000).keeps_up is False


@pytest.mark.parametrize(("share", "said"), [(0.6, "keeps up"), (0.8, "tight"), (1.2, "too slow")])
def test_a_process_has_a_verdict_of_its_own(share, said):
    found = costs.demand(chain(), known(source=0, work=share / 100, sink=0), 100, cores=9)
    assert loads(found)["work"].verdict == said


def test_a_graph_is_tight_whose_busiest_process_or_cores_have_little_to_spare():
    def tight(rate, cores):
        found = costs.demand(chain(), known(source=1e-3, work=1e-3, sink=1e-3), rate, cores=cores)
        return found.keeps_up, found.tight

    assert [tight(600, 8), tight(800, 8), tight(600, 2)] == [(True, False), (True, True), (True, True)]


@pytest.mark.parametrize(("pace", "rate"), [(math.inf, 500), (1, 500), (0.1, 50)])
def test_the_rate_of_a_graph_is_that_of_its_pace_and_real_time_where_it_has_none(pace, rate):
    assert costs.rate_of(chain(slot_period=2e-3, pace=pace)) == pytest.approx(rate)


# what would help


def advised(whole, rate=100, cores=8, **seconds):
    found = known(**seconds)
    return costs.advice(whole, found, costs.demand(whole, found, rate, cores=cores))


def test_nothing_is_advised_where_a_graph_keeps_up():
    assert advised(chain(), source=0, work=1e-3, sink=0) == []


def test_replicas_are_advised_with_which_each_has_time_to_spare():
    said = advised(chain(), source=0, work=20e-3, sink=0)
    assert said == ["work: needs 2 cores; replicas: 3 would do"]
    with_them = costs.demand(changed(chain(), "work", replicas=3), known(source=0, work=20e-3, sink=0), 100, cores=8)
    assert with_them.keeps_up
    assert loads(with_them)["work"].share <= FULL


def test_replicas_are_not_advised_to_a_block_that_cannot_have_any():
    assert advised(chain(Tracker), source=0, work=20e-3, sink=0)[0].startswith(
        "work: needs 2 cores and cannot have replicas: it has state"
    )
    assert "cannot have replicas: it is a source" in advised(chain(), source=20e-3, work=0, sink=0)[0]


def test_a_longer_burst_is_advised_where_frames_cost_more_than_work():
    said = advised(chain(), rate=40_000, source=0, work=1e-6, sink=0)
    assert said == ["work: spends more on frames than on work; burst: 4 would do"]
    assert loads(costs.demand(chain(burst=4), known(source=0, work=1e-6, sink=0), 40_000))["work"].share <= FULL


def test_a_longer_burst_is_not_advised_where_a_hop_says_how_long_frames_are():
    said = advised(chain((Hold, {"size": 1})), rate=50_000, source=0, work=0, sink=0)
    assert said[0] == "source: spends more on frames than on work; burst: 2 would do"
    assert "work: needs 2.5 cores and cannot have replicas: it takes windows of 1 slots" in said[1]
    assert "sink: needs 1.25 cores and cannot have replicas: it is a sink" in said[2]


def test_a_process_of_several_blocks_is_advised_to_part_with_some():
    both = changed(changed(chain(), "work", process="dsp"), "sink", process="dsp")
    assert advised(both, source=0, work=8e-3, sink=8e-3) == [
        "dsp: needs 1.6 cores; give some of work, sink another process"
    ]


def test_where_cores_are_too_few_the_group_that_saves_most_is_advised():
    said = advised(chain(), rate=1000, cores=1, source=0.65e-3, work=0.2e-3, sink=0.1e-3)
    assert said == [
        "all together need 1.05 cores and have 1: give it more, or do less",
        "work and sink in one process (process: NAME) would save 0.05 cores of transport",
    ]


def test_no_group_is_advised_that_would_close_a_cycle():
    blocks = {"source": Source, "work": Work, "pair": Pair, "sink": Sink}
    edges = ["source.out > work.number", "source.out > pair.left", "work.out > pair.right", "pair.out > sink.number"]
    said = advised(graph(blocks, *edges), rate=1000, cores=1, source=0.1e-3, work=0.65e-3, pair=0.05e-3, sink=0.7e-3)
    assert len(said) == 1
    assert "source and pair" not in said[0]


def test_what_was_not_measured_is_named_with_the_command_that_does():
    assert advised(chain(), source=0, sink=0) == [f"not measured: work; `{costs.MEASURE}` measures all"]


# replicas: auto


@pytest.mark.parametrize(("rate", "replicas"), [(10, 1), (70, 1), (71, 2), (140, 2), (9999, 4)])
def test_auto_is_as_many_as_have_time_to_spare_and_no_more_than_cores(rate, replicas, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    auto = changed(chain(slot_period=1 / rate, pace=1), "work", replicas=0)
    costs.record(auto, ran(work=1.0))
    settled, notes = costs.resolve_auto(auto)
    assert settled.blocks["work"].replicas == replicas
    assert notes == [f"work: replicas: auto is {replicas}: a slot takes it 10 ms"]
    assert costs.resolve_auto(settled) == (settled, [])


def test_as_fast_as_it_goes_the_costliest_block_gets_all_cores_but_one(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    blocks = {"source": Source, "one": Work, "two": (Work, {"depth": 2}), "judge": Judge}
    edges = ["source.out > one.number", "source.out > two.number", "one.out > judge.number", "two.out > judge.number"]
    auto = changed(changed(graph(blocks, *edges), "one", replicas=0), "two", replicas=0)
    costs.record(auto, ran(source=0.1, one=0.5, two=1.0))
    settled, _ = costs.resolve_auto(auto)
    assert {name: spec.replicas for name, spec in settled.blocks.items()} == {
        "source": 1,
        "one": 1,
        "two": 3,
        "judge": 1,
    }
    paced, _ = costs.resolve_auto(auto, rate=150)
    assert {name: spec.replicas for name, spec in paced.blocks.items()} == {"source": 1, "one": 2, "two": 3, "judge": 1}


def test_auto_is_one_for_a_block_without_a_cost_and_for_one_that_cannot_have_more():
    settled, notes = costs.resolve_auto(changed(chain(), "work", replicas=0))
    assert settled.blocks["work"].replicas == 1
    assert notes == [f"work: replicas: auto is 1: its cost is not known; `{costs.MEASURE}` measures it"]
    costs.record(chain(Tracker), ran(work=100.0))
    settled, notes = costs.resolve_auto(changed(chain(Tracker), "work", replicas=0))
    assert settled.blocks["work"].replicas == 1
    assert "it has state" in notes[0]


# the verb


def measured(seconds):
    whole = load(HELLO)
    costs.record(whole, ran(**dict.fromkeys(whole.blocks, 100 * seconds)))


@pytest.mark.parametrize(
    ("seconds", "rate", "code", "said"),
    [
        (1e-4, [], 0, "hello keeps up with 1,000 slots/s"),
        (1e-3, ["realtime"], 1, "hello does not keep up with 1,000 slots/s"),
        (1e-3, ["100"], 0, "hello keeps up with 100 slots/s"),
        (1e-3, ["400"], 0, "hello just keeps up with 400 slots/s"),
    ],
)
def test_validate_says_whether_a_graph_keeps_up_and_exits_by_it(seconds, rate, code, said, capsys):
    measured(seconds)
    assert main(["validate", str(HELLO), "--rate", *rate]) == code
    assert said in capsys.readouterr().out


def test_validate_names_what_limits_a_graph_and_what_would_help(capsys):
    measured(1.5e-3)
    assert main(["validate", str(HELLO), "--rate", "600"]) == 1
    text = capsys.readouterr().out
    assert "hello does not keep up with 600 slots/s" in text
    assert "limited by the 2 cores of this machine" in text
    assert next(line.split()[:4] for line in text.splitlines() if line.startswith("omp ")) == [
        "omp",
        "tight",
        "1.5",
        "ms",
    ]


def test_validate_gives_all_figures_as_json(capsys):
    measured(1e-4)
    assert main(["validate", str(HELLO), "--rate", "500", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["problems"], found["demand"]["keeps_up"]) == (True, [], True)
    omp = next(load for load in found["demand"]["loads"] if load["name"] == "omp")
    nbytes = sum(edge["most_bytes"] / edge["window"] for edge in found["edges"] if "omp." in edge["edge"])
    further = sum(
        len(one["arrays"]) - 1 for one in found["streams"] if one["stream"] in ("combiner.rf", "omp.estimate")
    )
    transport = 2 * FRAME_SECONDS + further * ARRAY_SECONDS + nbytes * BYTE_SECONDS
    assert omp["share"] == pytest.approx(500 * (1e-4 + transport))
    assert found["demand"]["costs"]["omp"]["slots"] == 100


def test_validate_does_not_vouch_for_what_was_not_measured(capsys):
    assert main(["validate", str(HELLO), "--rate"]) == 1
    text = capsys.readouterr().out
    assert "whether it keeps up with 1,000 slots/s is not known" in text
    assert "not measured: source, combiner, omp, nmse; `beamslot validate GRAPH --rate --measure` measures all" in text


def test_validate_says_that_a_table_is_broken(own_table, capsys):
    own_table.parent.mkdir()
    own_table.write_text("{")
    assert main(["validate", str(HELLO), "--rate"]) == 1
    assert f"! {own_table}: ignored" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "asked"), [(32.0, [32]), (0.32, [32, 300]), (0.001, [32, 2000])])
def test_to_measure_is_to_run_a_few_slots_and_then_as_many_as_fit(seconds, asked, monkeypatch, capsys):
    runs = []

    def run(source, **options):
        runs.append(options)
        whole = load(source, overrides=[f"{name}={value}" for name, value in options["parameters"].items()])
        busy = dict.fromkeys(whole.blocks, 1e-4 * options["slots"])
        return RunResult({"seconds": seconds, **ran(slots=options["slots"], **busy)})

    monkeypatch.setattr(api, "run", run)
    assert main(["validate", str(HELLO), "-p", "snr_db=3", "-p", "omp.paths=2", "--rate", "300", "--measure"]) == 0
    assert [one["slots"] for one in runs] == asked
    assert runs[-1] | {"slots": 0} == {
        "parameters": {"snr_db": "3", "omp.paths": "2"},
        "slots": 0,
        "pace": "max",
        "blocks": [],
    }
    assert "hello keeps up with 300 slots/s" in capsys.readouterr().out
    assert main(["validate", str(HELLO), "--rate", "300"]) == 1  # other parameters, other costs


@pytest.mark.parametrize("text", ["0", "-5", "inf", "nan", str(HELLO)])
def test_a_rate_that_is_none_is_wrong_usage(text, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(HELLO), "--rate", text])
    assert ended.value.code == 2
    assert f"got {text!r}; wanted slots per second" in capsys.readouterr().err
