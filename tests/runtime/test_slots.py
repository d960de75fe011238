import itertools

from hypothesis import given
from hypothesis import strategies as st

from beamslot.runtime.slots import SlotSet

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))), max_size=12)


def members(slots: SlotSet) -> set[int]:
    return {slot for first, end in slots for slot in range(first, end)}


def plain(ranges: list[tuple[int, int]]) -> set[int]:
    return {slot for first, end in ranges for slot in range(first, end)}


@given(RANGES)
def test_adding_ranges_in_any_order_gives_their_union(ranges: list[tuple[int, int]]) -> None:
    slots = SlotSet(ranges)
    assert members(slots) == plain(ranges)
    assert len(slots) == len(plain(ranges))


@given(RANGES)
def test_ranges_stay_rising_disjoint_and_apart(ranges: list[tuple[int, int]]) -> None:
    kept = list(SlotSet(ranges))
    assert all(first < end for first, end in kept)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(kept))


@given(RANGES, st.integers(0, 55), st.integers(0, 12))
def test_covers_and_minus_agree_with_python_sets(ranges: list[tuple[int, int]], first: int, count: int) -> None:
    slots, asked = SlotSet(ranges), set(range(first, first + count))
    assert slots.covers(first, first + count) == (asked <= plain(ranges))
    assert slots.minus(first, first + count) == len(asked - plain(ranges))


@given(RANGES, RANGES)
def test_intersection_agrees_with_python_sets(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    both = SlotSet(one) & SlotSet(other)
    assert members(both) == plain(one) & plain(other)
    assert both == SlotSet(other) & SlotSet(one)


@given(RANGES, RANGES)
def test_sets_are_equal_exactly_when_their_slots_are(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    assert (SlotSet(one) == SlotSet(other)) == (plain(one) == plain(other))


@given(RANGES)
def test_adding_again_what_is_there_changes_nothing(ranges: list[tuple[int, int]]) -> None:
    slots = SlotSet(ranges)
    for first, end in ranges:
        slots.add(first, end)
    assert slots == SlotSet(ranges)


def test_an_intersection_is_a_set_of_its_own() -> None:
    one = SlotSet([(0, 10)])
    both = one & SlotSet([(0, 5)])
    both.add(20, 30)
    assert list(one) == [(0, 10)]


def test_slots_in_order_stay_one_range_however_many_come() -> None:
    slots = SlotSet()
    for first in range(0, 100_000, 4):
        slots.add(first, first + 4)
    assert list(slots) == [(0, 100_000)]


def test_a_set_shows_its_ranges() -> None:
    assert repr(SlotSet([(3, 5), (0, 1)])) == "SlotSet([(0, 1), (3, 5)])"
