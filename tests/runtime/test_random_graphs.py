"""Random graphs against the model of what each must deliver."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from beamslot_probes import CountingSource
from beamslot_random import (
    DATA,
    MOST_BLOCKS,
    Draft,
    Keeper,
    Model,
    Stream,
    draw,
    fold,
    head,
    join,
    lose,
    problems,
    run_all,
    sift,
    tally,
    window,
)
from beamslot_runs import Runner, graph


def stream(fates: str, *, values: bool = True) -> Stream:
    """A stream as letters: "." is a slot that comes, "?" one that comes or is lost, others are reasons of gaps."""
    known = {".": DATA, "?": frozenset({"", "lost"})}
    return Stream(tuple(known.get(c, frozenset({c})) for c in fates), tuple(range(len(fates))) if values else None)


def letters(made: Stream) -> str:
    """The other way; reasons by their first letters, of those of a window by those of the second word."""
    return "".join("?" if len(fate) > 1 else (min(fate).rpartition(" ")[2][:1] or ".") for fate in made.fates)


@pytest.mark.parametrize(
    ("came", "size", "hop", "left"),
    [
        ("..........", 4, 4, "........ii"),
        ("..........", 4, 1, "fff......."),
        ("..........", 5, 3, "ff......ii"),
        ("...", 4, 2, "iii"),
        ("....x.....x..", 4, 4, "....xfffiixfi"),
        ("x....x.......", 3, 2, "xff..xf......"),
        ("..........", 1, 1, ".........."),
    ],
)
def test_the_model_of_a_window_agrees_with_counting_by_hand(came: str, size: int, hop: int, left: str) -> None:
    assert letters(window(stream(came), size, hop)) == left


def test_what_a_window_breaks_off_is_incomplete_at_the_end_only() -> None:
    fates = window(stream("..x.."), 3, 3).fates
    assert [min(fates[slot]) for slot in (0, 3)] == ["window interrupted", "window incomplete"]


@pytest.mark.parametrize(
    ("came", "slots", "left"),
    [("......", 4, "...."), ("...x..", 4, "...x"), ("...xx.", 4, "...xx"), ("...xxx", 4, "...xxx"), ("...", 9, "...")],
)
def test_the_model_of_a_head_ends_where_the_head_sees_that_it_is_over(came: str, slots: int, left: str) -> None:
    assert letters(head(stream(came), slots)) == left


def test_the_model_of_a_join_lets_go_what_one_side_has_alone() -> None:
    assert letters(join(stream(".x.y.."), stream("..zz"))) == ".xzyuu"
    assert letters(join(stream("..?"), stream(".?.y"))) == ".??y"


def test_the_model_of_a_lossy_edge_lets_any_slot_go_and_no_gap_become_another_but_by_a_restart() -> None:
    lost = frozenset({"", "latest"})
    assert lose(stream(".x"), "latest", restarts=False).fates == (lost, frozenset({"x"}))
    assert lose(stream(".x"), "latest", restarts=True).fates == (lost, frozenset({"x", "latest"}))


def test_the_model_of_a_filter_keeps_every_nth_slot_and_every_gap() -> None:
    assert letters(sift(stream("..x..."), 3)) == ".fx.ff"


def test_the_model_of_a_tally_folds_what_came_and_what_was_missed() -> None:
    made = tally(stream(".x."))
    assert made.values == (1, fold(1, [-2]), fold(1, [-2, 2]))
    assert tally(stream(".?.")).values is None


def test_the_graph_of_a_seed_is_always_the_same_and_the_seeds_cover_what_there_is() -> None:
    drafts = [draw(seed) for seed in range(300)]
    assert [str(draw(seed)) for seed in range(300)] == [str(draft) for draft in drafts]
    specs = [spec for draft in drafts for spec in draft.graph.blocks.values()]
    assert max(len(draft.graph.blocks) for draft in drafts) == MOST_BLOCKS
    assert {spec.replicas for spec in specs} == {1, 2, 3}
    assert {edge.policy for draft in drafts for edge in draft.graph.edges} == {
        "block", "drop_oldest", "drop_newest", "latest"
    }  # fmt: skip
    assert len({spec.kind for spec in specs}) == 11
    assert {blow.life for draft in drafts for blow in draft.blows} >= {0, 1}
    assert any(spec.process for spec in specs)
    assert not any(draw(seed, ()).blows for seed in range(50))


CHAIN = graph({"src": CountingSource, "sink": Keeper}, "src.numbers > sink.numbers", slots=50)


def good() -> dict[str, Any]:
    """The report of a run of fifty slots from a source to a sink."""
    account = {"edge": "src.numbers > sink.numbers", "offered": 50, "acknowledged": 50, "dropped": {}, "in_flight": 0}
    return {
        "ok": True,
        "exit_code": 0,
        "problems": [],
        "edges": [{**account, "unmatched": 0}],
        "blocks": {"src": {"restarts": 0}, "sink": {"restarts": 0}},
        "sinks": {"sink": {"lines": [[0, 50, ""]], "bad": 0, "number": fold(0, range(50))}},
    }


def lost_slot(report: dict[str, Any]) -> None:
    report["sinks"]["sink"]["lines"] = [[0, 7, ""], [8, 50, ""]]


def doubled_slot(report: dict[str, Any]) -> None:
    report["sinks"]["sink"]["lines"] = [[0, 8, ""], [7, 50, ""]]


def missed_slot(report: dict[str, Any]) -> None:
    report["sinks"]["sink"]["lines"] = [[0, 7, ""], [7, 8, "lost"], [8, 50, ""]]


def early_end(report: dict[str, Any]) -> None:
    report["sinks"]["sink"]["lines"] = [[0, 49, ""]]


def wrong_value(report: dict[str, Any]) -> None:
    report["sinks"]["sink"]["number"] += 1


def unbalanced(report: dict[str, Any]) -> None:
    report["edges"][0]["acknowledged"] = 49


def dropped(report: dict[str, Any]) -> None:
    report["edges"][0] |= {"acknowledged": 49, "dropped": {"drop_oldest": 1}}


def unaccounted(report: dict[str, Any]) -> None:
    report["edges"] = []


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lost_slot, ["sink: went from slot 7 to 8"]),
        (doubled_slot, ["sink: went from slot 8 to 7"]),
        (missed_slot, ["sink: slot 7 and 0 more: lost; wanted to come"]),
        (early_end, ["sink: saw slots up to 49; wanted 50"]),
        (wrong_value, [f"sink: values make {fold(0, range(50)) + 1}; wanted {fold(0, range(50))}"]),
        (unbalanced, ["does not balance", "49 slots acknowledged; wanted 50 to 50"]),
        (dropped, ["49 slots acknowledged; wanted 50 to 50", "1 slots drop_oldest; wanted 0 to 0"]),
        (unaccounted, ["edges with an account are []"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_comparison_finds_what_is_wrong_with_a_report(damage: Callable[[Any], None], said: list[str]) -> None:
    draft, report = Draft(0, CHAIN, ()), good()
    assert problems(draft, report) == []
    spoilt = copy.deepcopy(report)
    damage(spoilt)
    found = problems(draft, spoilt)
    assert len(found) == len(said)
    assert all(text in line for text, line in zip(said, found, strict=True)), found


def test_the_model_knows_who_may_end_before_its_inputs_do() -> None:
    drafts = [draw(seed) for seed in range(100)]
    early = {
        spec.kind.__name__ for d in drafts for name, spec in d.graph.blocks.items() if name in Model(d.graph).early
    }
    assert {"Cut", "CountingSource"} <= early
    assert not early & {"Ledger", "Keeper", "PairLedger", "PairKeeper"}


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_random_graphs_deliver_what_the_model_says(first: int, runs: Runner) -> None:
    """A graph that is not over in time, as on a machine with too much to do, is run again, alone."""
    drafts = [draw(seed) for seed in range(first, first + 20)]
    wrong = run_all(runs, drafts)
    slow = [text for text in wrong if "! is not over after" in text]
    again = [draft for draft in drafts if any(f"seed {draft.seed}:" in text for text in slow)]
    assert len(again) < 5, "\n\n".join(["", *slow])
    wrong = [text for text in wrong if text not in slow] + run_all(runs, again, at_once=1)
    assert not wrong, "\n\n".join(["", *wrong])


@pytest.mark.soak
@pytest.mark.parametrize("first", range(0, 5000, 100))
def test_thousands_of_random_graphs_deliver_what_the_model_says(first: int, runs: Runner) -> None:
    wrong = run_all(runs, [draw(seed) for seed in range(first, first + 100)])
    assert not wrong, "\n\n".join(["", *wrong])
