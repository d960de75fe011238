import math
import time

import pytest

from beamslot.runtime.clock import SlotClock

ORIGIN = 7_000_000_000


class Now:
    """The monotonic clock, set by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ns = ORIGIN
        patch.setattr(time, "monotonic_ns", lambda: self.ns)

    def set(self, seconds: float) -> None:
        self.ns = ORIGIN + round(seconds * 1e9)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    return Now(monkeypatch)


@pytest.mark.parametrize(("pace", "seconds"), [(1.0, 0.040), (2.0, 0.020), (0.5, 0.080)])
def test_slots_are_due_when_the_last_of_them_is_complete(pace: float, seconds: float, now: Now) -> None:
    clock = SlotClock(0.005, pace, ORIGIN)
    assert clock.due(range(4, 8)) == ORIGIN + seconds * 1e9
    assert clock.until(clock.due(range(4, 8))) == pytest.approx(seconds)
    now.set(seconds)
    assert clock.until(clock.due(range(4, 8))) == pytest.approx(0, abs=1e-9)
    now.set(seconds + 1)
    assert clock.until(clock.due(range(4, 8))) == pytest.approx(-1)


def test_due_times_do_not_drift(now: Now) -> None:
    clock = SlotClock(1e-3 / 3, 1.0, ORIGIN)
    assert clock.due(range(3 * 10**6 - 1, 3 * 10**6)) == ORIGIN + 10**12


def test_without_a_pace_nothing_waits_and_nothing_is_late(now: Now) -> None:
    clock = SlotClock(1e-3)
    now.set(1e6)
    clock.note(range(0, 10))
    assert (clock.paced, clock.until(clock.due(range(10**9))), clock.late) == (False, 0.0, 0)
    assert SlotClock(1e-3, math.inf).paced is False


@pytest.mark.parametrize(("after", "late"), [(0.0, 0), (0.0199, 0), (0.0201, 4), (3.0, 4)])
def test_slots_are_late_when_handed_over_more_than_a_frame_after_their_time(after: float, late: int, now: Now) -> None:
    clock = SlotClock(5e-3, 1.0, ORIGIN)
    now.set(0.040 + after)  # slots 4..7 are due at 40 ms, and a frame of four takes 20
    clock.note(range(4, 8))
    assert clock.late == late


def test_late_slots_add_up(now: Now) -> None:
    clock = SlotClock(5e-3, 1.0, ORIGIN)
    now.set(1.0)
    clock.note(range(0, 4))
    clock.note(range(4, 5))
    assert clock.late == 5


def test_a_faster_pace_has_a_shorter_frame(now: Now) -> None:
    clock = SlotClock(5e-3, 10.0, ORIGIN)
    now.set(0.0031)  # slots 0..1 are due at 1 ms, and a frame of two takes 1
    clock.note(range(0, 2))
    assert clock.late == 2
