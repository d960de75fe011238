"""Trouble that can be repeated: what is asked for, and that the seed alone decides."""

import itertools
import re
from collections import Counter

import pytest

from beamslot.errors import BadParam
from beamslot.runtime.chaos import ACTIONS, Blows, Chaos, Strike, strikes_of

TARGETS = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "chaos"),
    [
        ("7", Chaos(7)),
        ("0", Chaos(0, 1.0, ("kill", "stop", "cut"))),
        ("-3", Chaos(-3)),
        ("7,every=0.5", Chaos(7, 0.5)),
        ("7,actions=kill", Chaos(7, 1.0, ("kill",))),
        ("7,every=2,actions=stop+cut", Chaos(7, 2.0, ("stop", "cut"))),
        ("7,actions=cut+kill,every=1e-2", Chaos(7, 0.01, ("cut", "kill"))),
    ],
)
def test_a_chaos_is_a_seed_and_perhaps_how_often_and_what(text: str, chaos: Chaos) -> None:
    assert Chaos.parse(text) == chaos


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1.5",
        "7,",
        "7,every",
        "7,every=",
        "7,every=0",
        "7,every=-1",
        "7,every=nan",
        "7,every=inf",
        "7,every=often",
        "7,actions=",
        "7,actions=burn",
        "7,actions=kill+burn",
        "7,actions=kill,stop",
        "7,often=3",
        "every=0.5",
        "7;every=0.5",
    ],
)
def test_what_is_no_chaos_is_told_with_what_is(text: str) -> None:
    said = f"chaos: got {text!r}; wanted SEED[,every=SECONDS][,actions=kill+stop+cut]"
    with pytest.raises(BadParam, match=rf"^{re.escape(said)}$"):
        Chaos.parse(text)


def course(chaos: Chaos, count: int) -> list[tuple[float, str, str]]:
    """Some blows: how long before each, what happens, and to whom."""
    blows = Blows(chaos)
    return [(blows.after, *blows.next(TARGETS)) for _ in range(count)]


def test_the_seed_alone_decides_when_what_and_whom() -> None:
    assert course(Chaos(3), 50) == course(Chaos(3), 50)
    courses = [course(Chaos(seed), 10) for seed in range(5)]
    assert all(one != other for one, other in itertools.combinations(courses, 2))


def test_how_often_stretches_the_times_and_changes_nothing_else() -> None:
    slow, quick = course(Chaos(4, every=2.0), 30), course(Chaos(4, every=0.5), 30)
    assert [told[1:] for told in slow] == [told[1:] for told in quick]
    assert [told[0] for told in slow] == pytest.approx([4 * told[0] for told in quick])


def test_blows_come_as_often_as_asked_and_hit_everybody_with_everything() -> None:
    told = course(Chaos(5, every=0.25), 3000)
    mean = sum(after for after, *_ in told) / len(told)
    assert mean == pytest.approx(0.25, rel=5 / 3000**0.5)  # of exponential times: five standard deviations of the mean
    assert all(after > 0 for after, *_ in told)
    counts = Counter(told_[1:] for told_ in told)
    assert counts.keys() == set(itertools.product(ACTIONS, TARGETS))
    assert min(counts.values()) > 200  # of 333 expected


@pytest.mark.parametrize("action", ACTIONS)
def test_only_what_was_asked_for_happens(action: str) -> None:
    assert {told[1] for told in course(Chaos.parse(f"1,actions={action}"), 100)} == {action}


def test_a_strike_hits_one_life_of_one_process_of_its_block() -> None:
    first, second = Strike("kill", "a", 5), Strike("cut", "a", 9)
    strikes = [first, Strike("kill", "b", 5), second, Strike("stop", "a", 5, life=1), Strike("kill", "a", 5, replica=1)]
    assert strikes_of(strikes, "a", 0, 0) == (first, second)
    assert strikes_of(strikes, "a", 1, 0) == (strikes[3],)
    assert strikes_of(strikes, "a", 0, 1) == (strikes[4],)
    assert strikes_of(strikes, "c", 0, 0) == ()
