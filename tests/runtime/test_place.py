"""The tally against a dictionary that remembers every slot, and records as plain values."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from beamslot.runtime import record
from beamslot.runtime.place import DATA, END, Place, Standing, Tally

REASONS = st.sampled_from([DATA, "late", "filtered"])
NOTES = st.tuples(st.just("note"), st.integers(0, 6), st.integers(0, 5), REASONS)
CUTS = st.tuples(st.sampled_from(["settle", "rewind", "pack"]), st.integers(0, 40))


class Model:
    """What became of every slot, one by one; `settled` of them are only counted."""

    def __init__(self) -> None:
        self.settled: Counter[str] = Counter()
        self.recent: dict[int, str] = {}
        self.end = 0

    def note(self, first: int, end: int, reason: str) -> None:
        for slot in range(max(first, self.end), end):
            self.recent[slot] = reason
        self.end = max(self.end, end) if end > first else self.end

    def settle(self, end: int) -> None:
        for slot in [slot for slot in self.recent if slot < end]:
            self.settled[self.recent.pop(slot)] += 1

    def rewind(self, begin: int) -> None:
        self.settle(begin)
        self.recent.clear()
        self.end = begin

    def counts(self, before: int) -> Counter[str]:
        return self.settled + Counter(reason for slot, reason in self.recent.items() if slot < before)


@given(st.lists(NOTES | CUTS, max_size=25), st.integers(0, 60))
def test_a_tally_counts_what_a_dictionary_of_all_slots_counts(acts: list[tuple[str, ...]], before: int) -> None:
    tally, model = Tally(), Model()
    for act, *given_ in acts:
        if act == "note":
            ahead, count, reason = given_
            first = max(0, tally.end + int(ahead) - 2)  # often on, at times behind a jump or noted again
            tally.note(first, first + int(count), reason)
            model.note(first, first + int(count), reason)
        elif act == "settle":
            tally.settle(int(given_[0]))
            model.settle(int(given_[0]))
        elif act == "rewind":
            tally.rewind(int(given_[0]))
            model.rewind(int(given_[0]))
        else:
            tally = Tally.unpack(record.unpack(record.pack(tally.pack())))
        assert tally.end == model.end
        assert +Counter(tally.counts()) == model.counts(END)
        assert +Counter(tally.counts(before)) == model.counts(before)


def test_what_comes_again_after_a_rewind_is_counted_once() -> None:
    tally = Tally()
    tally.note(0, 10)
    tally.note(10, 12, "late")
    tally.rewind(6)
    tally.note(4, 9)
    tally.note(9, 12, "late")
    assert tally.counts() == {DATA: 9, "late": 3}


def test_what_others_have_done_before_the_slot_of_a_rewind_is_not_counted() -> None:
    tally = Tally()
    tally.rewind(6)
    tally.note(0, 9, "late")
    assert tally.counts() == {"late": 3}


def test_a_tally_keeps_one_entry_for_slots_of_one_kind_that_follow_on() -> None:
    tally = Tally()
    for slot in range(1000):
        tally.note(slot, slot + 1, "" if slot < 500 else "late")
    assert tally.pack()[2] == [[0, 500, ""], [500, 1000, "late"]]


def test_a_settled_tally_keeps_no_slots() -> None:
    tally = Tally()
    for slot in range(0, 1000, 2):
        tally.note(slot, slot + 1)
    tally.settle(END)
    assert tally.pack() == [{DATA: 500}, 999, []]


def test_the_first_tally_of_a_record_is_not_changed_by_the_one_that_goes_on() -> None:
    packed = [{DATA: 3}, 3, []]
    tally = Tally.unpack(packed)
    tally.note(3, 5)
    tally.settle(END)
    assert packed == [{DATA: 3}, 3, []]


SLOTS = st.integers(0, END)
WINDOWS = st.lists(st.none() | st.tuples(SLOTS, SLOTS), max_size=3).map(tuple)
STATES = st.recursive(
    st.none() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
PLACES = st.builds(
    Place, st.lists(SLOTS, max_size=3).map(tuple), st.lists(SLOTS, max_size=3).map(tuple), WINDOWS, STATES
)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    tally = Tally(draw(st.dictionaries(REASONS, SLOTS, max_size=3)))
    for _ in range(draw(st.integers(0, 4))):
        first = tally.end + draw(st.integers(0, 3))
        tally.note(first, first + draw(st.integers(1, 5)), draw(REASONS))
    return tally


@given(
    st.lists(PLACES, min_size=1, max_size=3),
    st.lists(tallies(), max_size=3),
    st.lists(st.lists(tallies(), max_size=2), max_size=2),
    st.none() | SLOTS,
    SLOTS,
)
def test_a_standing_is_the_same_after_it_was_recorded(
    places: list[Place], inputs: list[Tally], lone: list[list[Tally]], base: int | None, last: int
) -> None:
    made = Standing(places, inputs, lone, base, last)
    back = Standing.unpack(record.unpack(record.pack(made.pack())))
    assert (back.places, back.base, back.last) == (places, base, last)
    assert [tally.pack() for tally in back.tallies] == [tally.pack() for tally in inputs]
    assert [[tally.pack() for tally in row] for row in back.unmatched] == [[t.pack() for t in row] for row in lone]


def test_a_place_keeps_arrays_of_its_state() -> None:
    place = Place((4, END), (2, END), ((2, 3), None), {"taps": np.arange(6, dtype=np.complex64).reshape(2, 3)})
    back = Place.unpack(record.unpack(record.pack(place.pack())))
    assert (back.out, back.needed, back.windows) == (place.out, place.needed, place.windows)
    np.testing.assert_array_equal(back.state["taps"], place.state["taps"], strict=True)
