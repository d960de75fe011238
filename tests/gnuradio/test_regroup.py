"""Samples to slots: however messages cut them, slots are the same; what is missing is named and shifts nothing."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamslot.gnuradio.pmt import U64
from beamslot.gnuradio.regroup import LONGEST_GAP, Regrouper
from beamslot.gnuradio.tags import Chunk, Tag

PER_SLOT, VLEN = 4, 2


def items(first: int, count: int) -> np.ndarray:
    """Item k holds k: what comes tells where it stood."""
    return np.repeat(np.arange(first, first + count)[:, None], VLEN, 1).astype(np.complex64)


def chunk(first: int, count: int, tags: Iterable[tuple[int, str, Any]] = (), offset: int | None = -1) -> Chunk:
    """Items first.. at stream offset `offset` (the same as the item by default)."""
    at = first if offset == -1 else offset
    return Chunk(items(first, count), at, tuple(Tag(where, key, value) for where, key, value in tags))


def taken(group: Regrouper, most: int = 5) -> tuple[list[tuple[int, int]], list[tuple[int, int, str]], list[Any]]:
    """Return (slot, its first item) for each slot, the gaps (first, count, why), and the remarks."""
    slots, gaps, remarks, reached = [], [], [], getattr(group, "_test_reached", 0)
    while (found := group.take(most)) is not None:
        if found.first > reached:
            gaps.append((reached, found.first - reached, found.lost))
        for index, one in enumerate(found.items):
            assert (np.diff(one[:, 0].real) == 1).all(), "a slot is whole"
            slots.append((found.first + index, int(one[0, 0].real)))
        remarks += [(r.slot, r.item, r.key, r.value) for r in found.remarks]
        reached = found.end
    group._test_reached = reached
    return slots, gaps, remarks


def regrouper(**options: Any) -> Regrouper:
    return Regrouper(PER_SLOT, VLEN, 1e-3, **options)


@given(cuts=st.lists(st.integers(1, 11), min_size=1, max_size=30), most=st.integers(1, 9), tagged=st.booleans())
@settings(deadline=None)
def test_messages_mean_nothing(cuts: list[int], most: int, tagged: bool) -> None:
    group, at = regrouper(), 0
    slots: list[Any] = []
    for cut in cuts:
        group.feed(chunk(at, cut, [(at, "mark", at)] if tagged else (), -1 if tagged else None))
        at += cut
        found, gaps, remarks = taken(group, most)
        assert gaps == []
        assert all(slot * PER_SLOT + item == value for slot, item, _, value in remarks)
        slots += found
    assert slots == [(k, k * PER_SLOT) for k in range(at // PER_SLOT)]


@given(
    lost=st.lists(st.tuples(st.integers(1, 13), st.integers(0, 13)), min_size=1, max_size=20), most=st.integers(1, 9)
)
@settings(deadline=None)
def test_items_that_do_not_come_are_slots_that_do_not_and_shift_nothing(lost: list[tuple[int, int]], most: int) -> None:
    group, at = regrouper(), 0
    came: set[int] = set()
    for count, gone in lost:
        group.feed(chunk(at, count))
        came.update(range(at, at + count))
        at += count + gone
    group.feed(chunk(at, 3 * PER_SLOT))
    came.update(range(at, at + 3 * PER_SLOT))
    slots, gaps, _ = taken(group, most)
    whole = [k for k in range(at + 13) if came.issuperset(range(k * PER_SLOT, (k + 1) * PER_SLOT))]
    assert slots == [(k, k * PER_SLOT) for k in whole]
    missing = {slot for first, count, why in gaps for slot in range(first, first + count) if why == "missing"}
    assert missing == set(range(whole[-1])) - set(whole)


def test_a_stream_that_begins_again_goes_on_behind_a_gap_of_one() -> None:
    group = regrouper()
    group.feed(chunk(0, 10))
    group.feed(chunk(0, 9))
    assert taken(group)[:2] == ([(0, 0), (1, 4), (3, 0), (4, 4)], [(2, 1, "restarted")])


def test_without_offsets_a_peer_that_parted_leaves_a_gap_where_all_it_sent_has_come() -> None:
    group = regrouper()
    group.part()
    group.feed(chunk(0, 10, offset=None))
    group.part()
    group.part()
    group.feed(chunk(100, 8, offset=None))
    assert taken(group)[:2] == ([(0, 0), (1, 4), (3, 100), (4, 104)], [(2, 1, "restarted")])


def test_a_message_that_was_refused_is_a_gap() -> None:
    group = regrouper()
    group.feed(chunk(0, 6, offset=None))
    group.refuse()
    group.feed(chunk(50, 4, offset=None))
    assert taken(group)[:2] == ([(0, 0), (2, 50)], [(1, 1, "refused")])
    tagged = regrouper()
    tagged.feed(chunk(0, 6))
    tagged.refuse()
    tagged.feed(chunk(10, 10))
    tagged.feed(chunk(28, 4))
    slots, gaps, _ = taken(tagged)
    assert slots == [(0, 0), (3, 12), (4, 16), (7, 28)]
    assert gaps == [(1, 2, "refused"), (5, 2, "missing")]


# the slot clock of a radio


def radio(at: int, full: int, fraction: float) -> tuple[int, str, Any]:
    return at, "rx_time", (U64(full), fraction)


def test_a_jump_of_rx_time_is_an_overflow_of_as_many_items_as_the_rate_says() -> None:
    group = regrouper()
    group.feed(chunk(0, 6, [radio(0, 7, 0.5), (0, "rx_rate", 1000.0)]))
    group.feed(chunk(6, 12, [radio(9, 7, 0.5 + 0.009 + 0.010)]))  # ten items more than came since
    slots, gaps, _ = taken(group)
    assert gaps == [(2, 3, "overflow")]  # items 8..18 in time
    assert slots == [(0, 0), (1, 4), (5, 10), (6, 14)]  # item 10 of the stream is item 20 in time
    assert group.rate == 1000.0


def test_without_a_rate_the_slot_period_is_the_measure_and_a_time_that_fits_changes_nothing() -> None:
    group = regrouper()
    group.feed(chunk(0, 8, [radio(0, 0, 0.0), radio(4, 0, 1e-3)]))
    group.feed(chunk(8, 8, [radio(8, 0, 4e-3)]))
    assert taken(group)[:2] == ([(0, 0), (1, 4), (4, 8), (5, 12)], [(2, 2, "overflow")])


def test_a_time_that_jumps_back_is_a_new_beginning() -> None:
    group = regrouper()
    group.feed(chunk(0, 8, [radio(0, 100, 0.0)]))
    group.feed(chunk(8, 4, [radio(8, 2, 0.0)]))
    assert taken(group)[:2] == ([(0, 0), (1, 4), (3, 8)], [(2, 1, "restarted")])


@pytest.mark.parametrize("value", [3.5, (1,), (U64(1), "x"), (1.5, 0.0), (U64(1), float("nan")), (U64(1), 1e300), None])
def test_what_is_no_time_is_none(value: Any) -> None:
    group = regrouper()
    group.feed(chunk(0, 8, [radio(0, 100, 0.0), (4, "rx_time", value), (5, "rx_rate", float("inf")), (5, 3, 1)]))
    slots, gaps, _ = taken(group)
    assert (slots, gaps, group.rate) == ([(0, 0), (1, 4)], [], None)


# slots by their tags


def by_tag(**options: Any) -> Regrouper:
    return regrouper(by="tag", **options)


def test_slots_begin_at_their_tags_wherever_these_stand() -> None:
    group = by_tag()
    group.feed(chunk(0, 20, [(3, "slot", 70), (7, "slot", 71), (13, "slot", 72)]))
    slots, gaps, _ = taken(group)
    assert slots == [(0, 3), (1, 7), (2, 13)]
    assert gaps == []
    assert group.passed == 3
    assert group.number == 3, "items behind a whole slot begin the next, until a tag says otherwise"


def test_slots_without_a_tag_follow_by_count() -> None:
    group = by_tag()
    group.feed(chunk(0, 16, [(0, "slot", 5)]))
    assert taken(group)[0] == [(0, 0), (1, 4), (2, 8), (3, 12)]


def test_a_slot_cut_short_by_the_next_is_torn_and_numbers_that_are_passed_over_are_missing() -> None:
    group = by_tag(origin=0)
    group.feed(chunk(0, 20, [(0, "slot", 0), (4, "slot", 1), (6, "slot", 2), (10, "slot", 6), (14, "slot", 7)]))
    slots, gaps, _ = taken(group)
    assert slots == [(0, 0), (2, 6), (6, 10), (7, 14)]
    assert gaps == [(1, 1, "torn"), (3, 3, "missing")]


def test_with_an_origin_slots_keep_their_numbers_and_those_that_came_before_are_passed_over() -> None:
    group = by_tag(origin=10, begin=2)
    group.feed(chunk(0, 12, [(0, "slot", 11), (4, "slot", 12), (8, "slot", 14)]))
    assert taken(group)[0] == [(2, 4), (4, 8)]
    group.feed(chunk(12, 8, [(12, "slot", 13), (16, "slot", 15)]))
    assert taken(group)[0] == [(5, 16)]


def test_without_one_numbers_that_begin_again_go_on_behind_a_gap_of_one() -> None:
    group = by_tag()
    group.feed(chunk(0, 8, [(0, "slot", 500), (4, "slot", 501)]))
    group.feed(chunk(0, 8, [(0, "slot", 0), (4, "slot", 1)]))
    assert taken(group)[:2] == ([(0, 0), (1, 4), (3, 0), (4, 4)], [(2, 1, "restarted")])


def test_a_peer_that_begins_again_and_knows_its_slots_loses_only_those_that_did_not_come() -> None:
    group = by_tag(origin=0)
    group.feed(chunk(0, 6, [(0, "slot", 0), (4, "slot", 1)]))
    group.feed(chunk(0, 8, [(0, "slot", 1), (4, "slot", 3)]))
    assert taken(group)[:2] == ([(0, 0), (1, 0), (3, 4)], [(2, 1, "missing")])


def test_a_number_out_of_all_bounds_is_a_new_beginning_or_nobodys() -> None:
    for origin, expected in ((None, [(0, 0), (2, 4)]), (0, [(0, 0)])):
        group = by_tag(origin=origin)
        group.feed(chunk(0, 8, [(0, "slot", 0), (4, "slot", U64(LONGEST_GAP * 2**20))]))
        assert taken(group)[0] == expected


@pytest.mark.parametrize("value", [True, "7", 1.0, None, (7,)])
def test_a_tag_whose_value_is_no_number_begins_no_slot(value: Any) -> None:
    group = by_tag()
    group.feed(chunk(0, 8, [(0, "slot", value)]))
    assert taken(group)[0] == []


# what goes on as tags


def test_a_frequency_stands_at_the_first_of_the_slots_that_are_taken_together() -> None:
    group = regrouper()
    group.feed(chunk(0, 32, [(0, "rx_freq", 1e9), (9, "rx_freq", 2e9), (20, "x", 1)]))
    found = [group.take(8), group.take(8)]
    assert [(one.first, len(one.items), [r.key for r in one.remarks]) for one in found if one] == [
        (0, 2, ["rx_freq"]),
        (2, 6, ["rx_freq", "x"]),
    ]


def test_a_radios_tags_at_items_of_no_slot_hold_for_the_next() -> None:
    group = regrouper()
    group.feed(chunk(0, 4))
    group.feed(chunk(6, 6, [(7, "rx_freq", 2e9), (7, "other", 1)]))
    assert taken(group)[2] == [(2, 0, "rx_freq", 2e9)]


def test_a_block_of_whole_slots_is_handed_on_where_it_lies() -> None:
    group = regrouper()
    came = chunk(0, 40)
    group.feed(came)
    first, rest = group.take(3), group.take(100)
    assert first is not None
    assert rest is not None
    assert np.shares_memory(first.items, came.items)
    assert np.shares_memory(rest.items, came.items)
    assert (first.first, first.end, rest.first, rest.end) == (0, 3, 3, 10)


# whatever comes

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 2**64 - 1).map(U64),
    st.floats(),
    st.text(max_size=3),
)
odd_tags = st.tuples(
    st.integers(0, 12),
    st.sampled_from(["slot", "rx_time", "rx_rate", "rx_freq", "x", 3]),
    st.one_of(odd, st.integers(0, 30), st.tuples(odd, odd), st.tuples(st.integers(0, 3).map(U64), st.floats(0, 0.99))),
)
odd_chunks = st.tuples(
    st.one_of(st.none(), st.integers(0, 60), st.integers(0, 2**64 - 1)),
    st.integers(0, 13),
    st.lists(odd_tags, max_size=4),
)


@given(
    chunks=st.lists(odd_chunks, max_size=12),
    by=st.sampled_from(["count", "tag"]),
    origin=st.one_of(st.none(), st.integers(-5, 5)),
    most=st.integers(1, 5),
)
@settings(max_examples=400, deadline=None)
def test_whatever_tags_say_slots_only_rise_and_are_whole(chunks: Any, by: Any, origin: Any, most: int) -> None:
    group, reached = Regrouper(PER_SLOT, VLEN, 1e-3, by=by, origin=origin, begin=7), 7
    for offset, count, tags in chunks:
        found = tuple(Tag((offset or 0) + at % max(1, count), key, value) for at, key, value in tags)
        group.feed(Chunk(items(0, count), offset, found if count else ()))
        while (some := group.take(most)) is not None:
            assert reached <= some.first <= some.end <= group.number
            assert some.lost or some.first == reached
            assert some.items.shape[1:] == (PER_SLOT, VLEN)
            assert all(some.first <= remark.slot < some.end for remark in some.remarks)
            reached = some.end
    assert reached == group.number
