"""Where blocks go on after a crash, from records written by hand and drawn at random."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from beamslot_runs import Kind, edge, graph
from hypothesis import given
from hypothesis import strategies as st

from beamslot.runtime.block import Block, In, Out
from beamslot.runtime.graph import Graph
from beamslot.runtime.place import END, Place, Standing
from beamslot.runtime.resume import Going, begin_of, inputs_of, joined, joins_of, resume


class Source(Block):
    out = Out("slot", np.float32)


class Counter(Source):
    """A source with state."""

    def snapshot(self) -> Any: ...


class Relay(Block):
    x = In("slot", np.float32)
    out = Out("slot", np.float32)


class Filter(Relay):
    """A relay with state."""

    def snapshot(self) -> Any: ...


class Both(Block):
    left = In("slot", np.float32)
    right = In("slot", np.float32)
    out = Out("slot", np.float32)


class Sink(Block):
    x = In("slot", np.float32)

    def snapshot(self) -> Any: ...


class Judge(Block):
    truth = In("slot", np.float32)
    estimate = In("slot", np.float32, many=True)

    def snapshot(self) -> Any: ...


def chain(*kinds: Kind) -> Graph:
    """Blocks a, b, c, ... one after the other."""
    names = "abcdef"[: len(kinds)]
    edges = (f"{one}.out > {two}.x" for one, two in itertools.pairwise(names))
    return graph(dict(zip(names, kinds, strict=True)), *edges)


def at(*slots: int, needed: Sequence[int] | None = None) -> Standing:
    """What a block of one join recorded: places, and the oldest slots that they need."""
    return Standing([Place((out,), (need,)) for out, need in zip(slots, needed or slots, strict=True)])


def test_before_anything_was_recorded_all_begin_from_nothing() -> None:
    given_ = graph(
        {"t": Source, "a": Relay, "b": Relay, "judge": Judge},
        "t.out > a.x", "t.out > b.x", "t.out > judge.truth", "a.out > judge.estimate", "b.out > judge.estimate",
    )  # fmt: skip
    assert (
        resume(given_, {})
        == resume(given_, {name: [None] for name in given_.blocks})
        == {
            "t": Going(None, (0,), (0,)),
            "a": Going(None, (0,), (0,)),
            "b": Going(None, (0,), (0,)),
            "judge": Going(None, (0, 0), (0, 0)),
        }
    )


def test_a_sink_goes_on_where_it_was_last_and_the_source_makes_from_there() -> None:
    going = resume(chain(Source, Sink), {"a": [at(3)], "b": [at(5, 9)]})
    assert going == {"a": Going(0, (9,), (9,)), "b": Going(1, (9,), (9,))}


def test_a_block_without_state_goes_on_where_all_behind_it_is_finished() -> None:
    given_ = chain(Source, Relay, Sink)
    going = resume(given_, {"a": [at(2)], "b": [at(5)], "c": [at(7, 8)]})
    assert [going[name].out for name in "abc"] == [(5,), (5,), (8,)]
    assert begin_of(given_, edge("b.out > c.x"), going) == 8


def test_a_block_with_state_goes_back_to_the_newest_place_that_makes_all_that_is_needed() -> None:
    given_ = chain(Counter, Filter, Filter, Sink)
    records = {"a": [at(0, 3, 6)], "b": [at(2, 4, 8)], "c": [at(3, 6, 9, 12)], "d": [at(10)]}
    going = resume(given_, records)
    assert {name: (goes.place, goes.out) for name, goes in going.items()} == {
        "d": (0, (10,)),
        "c": (2, (9,)),
        "b": (2, (8,)),
        "a": (2, (6,)),
    }


def test_the_neediest_of_several_consumers_decides() -> None:
    given_ = graph({"a": Filter, "s": Source, "b": Sink, "c": Sink}, "s.out > a.x", "a.out > b.x", "a.out > c.x")
    going = resume(given_, {"s": [at(0)], "a": [at(0, 4, 8)], "b": [at(9)], "c": [at(5)]})
    assert (going["a"], going["s"]) == (Going(1, (4,), (4,)), Going(0, (4,), (4,)))


def test_slots_that_a_window_holds_are_made_again() -> None:
    given_ = chain(Source, Relay, Sink)
    window = Standing([Place((4,), (1,), ((1, 4),)), Place((10,), (7,), ((7, 10),))])
    going = resume(given_, {"a": [at(1)], "b": [window], "c": [at(12)]})
    assert going["b"] == Going(1, (10,), (7,))
    assert begin_of(given_, edge("a.out > b.x"), going) == going["a"].out[0] == 7


def test_joined_inputs_come_again_from_the_same_slot() -> None:
    given_ = graph(
        {"s": Source, "a": Relay, "b": Filter, "both": Both, "sink": Sink},
        "s.out > a.x", "s.out > b.x", "a.out > both.left", "b.out > both.right", "both.out > sink.x",
    )  # fmt: skip
    records = {"s": [at(1)], "a": [at(4)], "b": [at(2, 3, 9)], "both": [at(6)], "sink": [at(6, 7)]}
    going = resume(given_, records)
    assert {name: goes.out for name, goes in going.items()} == {
        "sink": (7,),
        "both": (6,),
        "a": (4,),
        "b": (3,),
        "s": (3,),
    }


def test_each_stream_of_a_many_port_goes_on_by_itself_and_what_they_share_at_the_last_of_them() -> None:
    given_ = graph(
        {"t": Source, "a": Relay, "b": Relay, "judge": Judge},
        "t.out > a.x", "t.out > b.x", "t.out > judge.truth", "a.out > judge.estimate", "b.out > judge.estimate",
    )  # fmt: skip
    judge = Standing([Place((3, 4), (3, 4)), Place((5, 9), (5, 9))])
    going = resume(given_, {"t": [at(2)], "a": [at(4)], "b": [at(8)], "judge": [judge]})
    assert joined(given_, "judge") == [[0, 1], [0, 2]]
    assert going["judge"] == Going(1, (5, 9), (5, 9))
    begins = {e.name: begin_of(given_, e, going) for e in given_.edges if e.target == "judge"}
    assert begins == {"t.out > judge.truth": 5, "a.out > judge.estimate": 5, "b.out > judge.estimate": 9}
    assert going["t"].out == (4,)


@pytest.mark.parametrize(
    ("recorded", "begin"), [([at(6), at(9), at(7)], 6), ([at(6), None, at(7)], 0), ([None, None, None], 0)]
)
def test_replicas_go_on_together_at_what_all_of_them_have_finished(recorded: Any, begin: int) -> None:
    given_ = chain(Source, Relay, Sink)
    blocks = {**given_.blocks, "b": replace(given_.blocks["b"], replicas=3)}
    going = resume(replace(given_, blocks=blocks), {"a": [at(0)], "b": recorded, "c": [at(9)]})
    assert (going["b"], going["a"]) == (Going(0, (begin,), (begin,)), Going(0, (begin,), (begin,)))


def test_what_is_over_asks_for_nothing_and_does_not_go_on() -> None:
    given_ = graph({"a": Counter, "b": Sink, "c": Sink}, "a.out > b.x", "a.out > c.x")
    records = {"a": [at(0, 3, 6, 9)], "b": [at(END)], "c": [at(7)]}
    going = resume(given_, records, over={"b"})
    assert list(going) == ["c", "a"]
    assert begin_of(given_, edge("a.out > b.x"), going) == END
    assert going["a"] == Going(2, (6,), (6,))
    assert resume(given_, records, over={"b", "c"}) == {"a": Going(3, (9,), (9,))}
    assert resume(given_, records, over={"a", "b", "c"}) == {}


def test_a_sink_that_had_finished_all_when_it_was_killed_needs_nothing_again() -> None:
    given_ = chain(Source, Sink)
    going = resume(given_, {"a": [at(20)], "b": [at(END)]})
    assert going == {"a": Going(0, (20,), (20,)), "b": Going(0, (END,), (END,))}


def test_a_block_that_ended_before_its_inputs_makes_its_last_slots_again_from_what_it_still_needs() -> None:
    given_ = chain(Source, Relay, Sink)
    ended = Standing([Place((10,), (END,))], last=10)
    going = resume(given_, {"a": [at(30)], "b": [ended], "c": [at(10)]})
    assert begin_of(given_, edge("a.out > b.x"), going) == END
    assert going["a"].out == (30,)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
def test_a_lossy_edge_holds_nothing_back(policy: Any) -> None:
    given_ = graph({"a": Counter, "b": Sink, "c": Sink}, "a.out > b.x", "a.out > c.x")
    edges = (replace(given_.edges[0], policy=policy), given_.edges[1])
    lossy, records = replace(given_, edges=edges), {"a": [at(0, 5, 10)], "b": [at(2)], "c": [at(7)]}
    assert resume(lossy, records)["a"] == Going(1, (5,), (5,))
    alone = replace(given_, edges=(edges[0], replace(edges[1], policy=policy)))
    assert resume(alone, records)["a"] == Going(2, (10,), (10,))


PORTS = {"x": In("slot", np.float32), "y": In("slot", np.float32), "m": In("slot", np.float32, many=True)}


@pytest.mark.parametrize(
    ("ports", "joins"),
    [
        ("", []),
        ("x", [[0]]),
        ("xy", [[0, 1]]),
        ("m", [[0]]),
        ("mm", [[0], [1]]),
        ("xmm", [[0, 1], [0, 2]]),
        ("mxmy", [[1, 3, 0], [1, 3, 2]]),
    ],
)
def test_all_inputs_are_joined_and_each_of_many_with_the_rest(ports: str, joins: list[list[int]]) -> None:
    assert joins_of([PORTS[port] for port in ports]) == joins


# random graphs with records as a run leaves them: a producer lets go of nothing that is asked for behind it

KINDS: dict[int, list[type[Block]]] = {0: [Source, Counter], 1: [Relay, Filter], 2: [Both]}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    blocks: dict[str, Kind] = {}
    edges: list[str] = []
    for number in range(draw(st.integers(1, 6))):
        earlier = list(blocks)
        kind = draw(st.sampled_from(KINDS[draw(st.integers(0, 2)) if earlier else 0]))
        name = f"b{number}"
        edges += [f"{draw(st.sampled_from(earlier))}.out > {name}.{port}" for port in kind.inputs]
        blocks[name] = kind
    open_ = [name for name in blocks if not any(text.startswith(f"{name}.") for text in edges)]
    if draw(st.booleans()):
        truth, *rest = [*open_, draw(st.sampled_from(list(blocks)))]
        blocks["judge"] = Judge
        edges += [f"{truth}.out > judge.truth", *(f"{name}.out > judge.estimate" for name in rest)]
    else:
        for name in open_:
            blocks[f"{name}s"] = Sink
            edges.append(f"{name}.out > {name}s.x")
    made = graph(blocks, *edges)
    policies = st.sampled_from(["block", "block", "block", "latest"])
    return replace(made, edges=tuple(replace(one, policy=draw(policies)) for one in made.edges))


def _kept(given_: Graph, name: str, records: Mapping[str, Sequence[Standing | None]], over: set[str]) -> int:
    """The slot before which nothing may be asked for again behind a block."""
    least = END
    for one in given_.edges:
        if one.source == name and one.lossless and one.target not in over:
            (record,) = records[one.target]
            index = inputs_of(given_, one.target).index(one)
            members = joined(given_, one.target)
            needed = record.places[0].needed if record else (0,) * len(members)
            least = min(least, *(need for need, inside in zip(needed, members, strict=True) if index in inside))
    return least


@st.composite
def crashes(draw: st.DrawFn) -> tuple[Graph, dict[str, list[Standing | None]], set[str]]:
    given_ = draw(graphs())
    records: dict[str, list[Standing | None]] = {}
    over: set[str] = set()
    for name in reversed(given_.order):
        consumers = {one.target for one in given_.edges if one.source == name}
        if consumers <= over and draw(st.integers(0, 3)) == 0:
            over.add(name)
            records[name] = [at(END)]
            continue
        kept = min(_kept(given_, name, records, over), 100)
        joins = max(1, len(joined(given_, name)))
        if draw(st.integers(0, 5)) == 0:
            records[name] = [None]
            continue
        places = [Place(outs := tuple(draw(st.integers(0, kept)) for _ in range(joins)), outs)]
        if given_.blocks[name].kind.stateful or draw(st.booleans()):
            for _ in range(draw(st.integers(0, 3))):
                before = places[-1]
                out = tuple(slot + draw(st.integers(1, 9)) for slot in before.out)
                back = draw(st.integers(0, 3))  # a window that holds some slots
                needed = tuple(max(one, slot - back) for one, slot in zip(before.needed, out, strict=True))
                places.append(Place(out, needed))
        records[name] = [Standing(places)]
    return given_, records, over


@given(crashes())
def test_every_lossless_edge_begins_at_or_behind_what_its_producer_makes_again(
    crash: tuple[Graph, dict[str, list[Standing | None]], set[str]],
) -> None:
    given_, records, over = crash
    going = resume(given_, records, over)
    assert going.keys() == given_.blocks.keys() - over
    for one in given_.edges:
        if one.lossless and one.source in going:
            assert max(going[one.source].out) <= begin_of(given_, one, going)


def test_a_block_whose_output_nobody_needs_any_more_is_over_unless_it_must_still_describe_it() -> None:
    given_ = graph({"a": Source, "b": Relay, "c": Relay, "d": Sink}, "a.out > b.x", "b.out > c.x", "c.out > d.x")
    at = {"a": 0, "b": 7, "c": 9}
    records: dict[str, list[Standing | None]] = {n: [Standing([Place((p,), (p,))])] for n, p in at.items()}
    going = resume(given_, records, {"d"})
    assert (going["b"].out, going["c"].out) == ((END,), (END,))
    cut = {**records, "c": [Standing([Place((9,), (END,))])], "d": [Standing([Place((3,), (3,))])]}
    assert resume(given_, cut)["b"] == Going(0, (7,), (7,))


@given(crashes())
def test_nobody_goes_back_further_than_it_must(
    crash: tuple[Graph, dict[str, list[Standing | None]], set[str]],
) -> None:
    given_, records, over = crash
    going = resume(given_, records, over)
    for name, goes in going.items():
        (record,) = records[name]
        begins = [begin_of(given_, one, going) for one in given_.edges if one.source == name and one.lossless]
        need = min(begins, default=END)
        if record is None:
            assert goes.place is None
        elif given_.blocks[name].kind is Source and need < END:
            assert goes.out == (need,)
        elif min(goes.out) == END:
            takers = {one.target for one in given_.edges if one.source == name}
            assert all(taker in over or min(going[taker].out) == END for taker in takers)
        else:
            assert goes.place is not None
            assert (goes.out, goes.needed) == (record.places[goes.place].out, record.places[goes.place].needed)
            assert all(max(place.out) > need for place in record.places[goes.place + 1 :])
