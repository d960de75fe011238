"""What a recording says when it is played: frames as they were, gaps, tags, times, and what nobody recorded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beamslot.errors import BadParam, BeamslotError, UnknownPort
from beamslot.frame import Array, Describe, Eos, Frame, Gap, Operator, StreamInfo
from beamslot.recording import Writer, open_recording
from beamslot.recording.reel import RecordedReel, open_reel
from beamslot.runtime.testing import run_block
from beamslot.sources.replay_source import ReplaySource

MS = 1_000_000


def info_of(scale: float = 1.0) -> StreamInfo:
    operator = Operator(np.full((2, 1, 1), scale, np.complex64), np.zeros(2, np.int16), (-1.0, 1.0))
    arrays = {"rf": Array.of("slot y chain", np.complex64), "seen": Array.of("slot", np.int64)}
    return StreamInfo({**arrays, "gain": Array.of("y", np.float32)}, {"y": 2, "chain": 1}, 1e-3, operator=operator)


def frame(first: int, count: int, info: StreamInfo, **given: Any) -> Frame:
    assert info.operator is not None
    slots = np.arange(first, first + count)
    rf = np.ones((count, 2, 1), np.complex64) * slots[:, None, None]
    arrays = {"rf": rf.astype(np.complex64), "seen": slots, "gain": np.full(2, first, np.float32)}
    return Frame(first, count, arrays, 10**12 + (first + count) * MS, operator=info.operator.hash, **given)


def write(path: Path, port: str, *messages: Any) -> None:
    with Writer(path, port) as writer:
        for message in messages:
            writer.write(message)


ONE, TWO = info_of(1.0), info_of(2.0)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Slots 10..29: frames of 3 and 1, a gap with its reason, one that nobody explains, a change of the operator."""
    path = tmp_path / "recording"
    write(
        path,
        "front.rf",
        Describe("front.rf", ONE),
        frame(10, 3, ONE, tags={"x": [1, "a"]}),
        Gap(13, 4, "latest", 10**12 + 17 * MS),
        frame(17, 1, ONE),
        frame(20, 3, ONE, tags={"restarted": True}),
        Describe("front.rf", TWO),
        frame(23, 3, TWO),
        Gap(26, 1, "filtered"),
        frame(27, 3, TWO),
        Eos(30),
    )
    return path


def spans(items: list[Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for item in items:
        if isinstance(item, Describe):
            assert item.info.operator is not None
            found.append(("Describe", float(item.info.operator.weights[0, 0, 0].real)))
        else:
            kind = item.reason if isinstance(item, Gap) else "Frame"
            found.append((kind, item.first, item.count))
    return found


RECORDED = [
    ("Frame", 10, 3), ("latest", 13, 4), ("Frame", 17, 1), ("not recorded", 18, 2), ("Frame", 20, 3),
    ("Describe", 2.0), ("Frame", 23, 3), ("filtered", 26, 1), ("Frame", 27, 3),
]  # fmt: skip


def played(reel: RecordedReel, at: int = 0, most: int = 1000) -> tuple[list[Any], list[int]]:
    """Return what a paced run takes: frame by frame, and when each was captured."""
    items: list[Any] = []
    times: list[int] = []
    while at < most:
        slots, since = reel.upcoming(range(at, at + 1))
        if not slots:
            break
        items += reel.take(slots)
        times.append(since)
        at = slots.stop
    return items, times


def test_frames_gaps_descriptions_and_their_order_are_those_recorded(recording: Path) -> None:
    reel = open_reel(recording)
    items, times = played(reel)
    assert reel.info == ONE
    assert spans(items) == RECORDED
    assert [t // MS for t in times] == [1, 5, 6, 6, 11, 14, 14, 18], "those without a time come at once"


def test_tags_operators_and_bytes_are_those_recorded(recording: Path) -> None:
    frames = [item for item in played(open_reel(recording))[0] if isinstance(item, Frame)]
    with open_recording(recording) as opened:
        wanted = [one for one in opened["front.rf"].messages() if isinstance(one, Frame)]
        assert [(f.tags, f.operator, f.captured) for f in frames] == [(f.tags, f.operator, f.captured) for f in wanted]
        for one, other in zip(frames, wanted, strict=True):
            assert {n: a.tobytes() for n, a in one.arrays.items()} == {n: a.tobytes() for n, a in other.arrays.items()}


@pytest.mark.parametrize("start", range(10, 30))
def test_a_restart_goes_on_at_any_slot_with_the_description_that_holds_there(start: int, recording: Path) -> None:
    reel = open_reel(recording)
    played(reel, most=25)
    items, _ = played(reel, start)
    frames = [item for item in items if isinstance(item, Frame)]
    assert [slot for f in frames for slot in f.arrays["seen"]] == [
        slot for slot in range(start, 30) if slot not in {13, 14, 15, 16, 18, 19, 26}
    ]
    holding: list[StreamInfo | None] = [None]
    for item in items:
        if isinstance(item, Describe):
            holding[0] = item.info
        elif isinstance(item, Frame) and holding[0] is not None:
            assert holding[0].operator is not None
            assert item.operator == holding[0].operator.hash


def test_a_frame_that_begins_before_the_first_slot_is_cut_but_for_what_has_no_slots(recording: Path) -> None:
    reel = open_reel(recording, first=11, slots=14)
    items, _ = played(reel)
    assert spans(items) == [
        ("Frame", 11, 2), *RECORDED[1:6], ("Frame", 23, 2)
    ]  # fmt: skip
    first = items[0]
    assert first.arrays["seen"].tolist() == [11, 12]
    assert first.arrays["gain"].tolist() == [10.0, 10.0]


def test_slots_and_times_go_on_rising_round_and_round(recording: Path) -> None:
    items, times = played(open_reel(recording, loop=True), most=70)
    frames = [item for item in items if isinstance(item, Frame)]
    assert [f.first for f in frames] == [10, 17, 20, 23, 27, 30, 37, 40, 43, 47, 50, 57, 60, 63, 67]
    assert [f.arrays["seen"][0] for f in frames] == [10, 17, 20, 23, 27] * 3
    assert times == sorted(times)
    assert times[8] - times[0] == 18 * MS, "the second round begins a slot behind the last"
    assert [one for one in spans(items) if one[0] == "Describe"] == [("Describe", v) for v in (2, 1, 2, 1, 2)]


def test_ports_of_a_recording_stay_together_whatever_each_has(recording: Path) -> None:
    write(recording, "front.late", Describe("front.late", ONE), frame(12, 3, ONE), frame(15, 2, ONE))
    reel = open_reel(recording, "front.late", loop=True)
    items, times = played(reel, most=36)
    assert spans(items) == [
        ("not recorded", 10, 2), ("Frame", 12, 3), ("Frame", 15, 2), ("not recorded", 17, 13),
        ("not recorded", 30, 2), ("Frame", 32, 3), ("Frame", 35, 2),
    ]  # fmt: skip
    assert times[1] // MS == 3, "by the clock of all ports"


def test_what_is_not_there_is_said_with_what_is(recording: Path) -> None:
    with pytest.raises(BadParam, match=r"has slots 10\.\.29; wanted some from slot 30 on"):
        open_reel(recording, first=30)
    with pytest.raises(UnknownPort, match=r"'front.rfx' is not recorded; there is front\.rf"):
        open_reel(recording, "front.rfx")
    write(recording, "front.other", Describe("front.other", ONE), frame(12, 3, ONE))
    with pytest.raises(BadParam, match=r"has ports front\.other, front\.rf; name one with port"):
        open_reel(recording)
    write(recording, "front.bare", Gap(3, 1, "lost"))
    with pytest.raises(BadParam, match=r"front\.bare was never described"):
        open_reel(recording, "front.bare")
    empty = recording.parent / "empty"
    write(empty, "a.b", Describe("a.b", ONE))
    with pytest.raises(BadParam, match="no slot is recorded there"):
        open_reel(empty)


def test_the_longest_frame_is_known_without_reading_one(recording: Path) -> None:
    with open_recording(recording) as opened:
        assert opened["front.rf"].longest == 3
    assert ReplaySource(path=str(recording)).frame_limit() == 3
    assert ReplaySource(path="nowhere").frame_limit() == 0


@pytest.mark.parametrize("burst", [1, 4, 40])
def test_the_block_gives_the_same_slots_in_calls_of_any_size(burst: int, recording: Path) -> None:
    outcome = run_block(ReplaySource(path=str(recording), port="front.rf"), slots=40, burst=burst)
    assert outcome["stream"]["seen"].tolist() == [10, 11, 12, 17, 20, 21, 22, 23, 24, 25, 27, 28, 29]
    assert sum(gap.count for gap in outcome.gaps["stream"] if gap.reason == "latest") == 4
    ends = [item.first for _, item in outcome.items if isinstance(item, Eos)]
    assert ends == [30]


def test_a_recording_that_is_not_there_is_told_of_when_the_block_starts(tmp_path: Path) -> None:
    with pytest.raises(BadParam, match=r"^lab: .*nowhere"):
        run_block(ReplaySource(path=str(tmp_path / "nowhere")), slots=1, name="lab")


def test_thousands_of_holes_are_no_deeper_than_one(tmp_path: Path) -> None:
    write(tmp_path / "r", "a.b", Describe("a.b", ONE), *(frame(slot, 1, ONE) for slot in range(0, 5000, 2)))
    items, _ = played(open_reel(tmp_path / "r"), most=5000)
    assert len(items) == 4999
    assert {item.count for item in items} == {1}


def test_a_damaged_recording_gives_errors_of_ours_and_nothing_else(recording: Path) -> None:
    rng, refused = np.random.default_rng(2), 0
    whole = {path: path.read_bytes() for path in recording.iterdir()}
    for _ in range(300):
        path = sorted(whole)[int(rng.integers(len(whole)))]
        broken = bytearray(whole[path])
        if rng.random() < 0.3:
            del broken[int(rng.integers(len(broken))) :]
        for at in rng.integers(max(1, len(broken)), size=3) if broken else ():
            broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(broken))
        try:
            played(open_reel(recording))
        except BeamslotError:
            refused += 1
        path.write_bytes(whole[path])
    assert refused > 100
    assert spans(played(open_reel(recording))[0]) == RECORDED
