"""Killed, torn and damaged recordings: what was whole is read, the rest is cut off and named."""

import os
import random
import re
import shutil
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from beamslot_recording import assert_same, frame_of, front_end, metas, same, samples, story, write

from beamslot.errors import StorageError
from beamslot.frame import Describe, Eos, Frame, Gap
from beamslot.recording import Recordable, Writer, open_recording, remove, repair

INFO = front_end()


def endless(seed: int) -> Iterator[Recordable]:
    """Yield a stream that does not end: the same for the same seed."""
    rng = np.random.default_rng(seed)
    yield Describe("front.rf", INFO)
    due = 0
    while True:
        if rng.random() < 0.1:
            yield Gap(due, 2, "late")
            due += 2
        yield (frame := frame_of(INFO, due, int(rng.integers(1, 4)), rng))
        due = frame.end


def killed(directory: Path, seed: int) -> int:
    """Record in a child that is killed when it is past some slot; return how many messages it had written by then."""
    rng = random.Random(seed)
    slot, later = rng.randrange(1, 200), rng.random() * 2e-3
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with Writer(directory, "front.rf") as writer:
                for message in endless(seed):
                    writer.write(message)
                    os.write(tell, struct.pack("<q", writer.due))
        finally:
            os._exit(1)
    os.close(tell)
    try:
        count, due = 0, 0
        with open(told, "rb", buffering=0) as reports:
            while due < slot:
                due = struct.unpack("<q", reports.read(8))[0]
                count += 1
            until = time.monotonic() + later
            while time.monotonic() < until:
                pass
            os.kill(child, signal.SIGKILL)
            count += len(reports.read(1 << 20) or b"") // 8
    finally:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    return count


def check_killed(directory: Path, seed: int) -> None:
    written = killed(directory, seed)
    before = list(open_recording(directory, torn=True)["front.rf"].messages())
    (done,) = repair(directory)
    assert not done.whole
    assert str(done).startswith("front.rf: cut ")
    with open_recording(directory, verify=True) as recording:
        came = list(recording["front.rf"].messages())
        assert recording["front.rf"].repaired
        assert not recording.complete
    assert len(came) >= written
    assert_same(came, before)
    assert_same(came, [message for message, _ in zip(endless(seed), came, strict=False)])
    metas(directory)
    rows = sum(one.count for one in came if isinstance(one, Frame))
    assert len(samples(directory, "front.rf.rf")) == rows


@pytest.mark.parametrize("seed", range(20))
def test_all_that_was_written_before_a_kill_is_there_after_a_repair(tmp_path: Path, seed: int) -> None:
    check_killed(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 200))
def test_a_hundred_kills(tmp_path: Path, seed: int) -> None:
    check_killed(tmp_path, seed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Recordable]]:
    """A recording, and what is in it."""
    directory = tmp_path_factory.mktemp("whole")
    said = story(21, 12, infos=[front_end(0), front_end(1)])
    write(directory, said)
    return directory, said


def test_a_log_that_is_torn_anywhere_is_cut_to_its_last_whole_message(
    whole: tuple[Path, list[Recordable]], tmp_path: Path
) -> None:
    directory, said = whole
    log = (directory / "front.rf.log").read_bytes()
    lost = []
    for size in [*range(200, len(log), 197), len(log) - 1]:
        place = tmp_path / str(size)
        shutil.copytree(directory, place)
        (place / "front.rf.log").write_bytes(log[:size])
        assert [one.whole for one in repair(place)] == [False]
        came = list(open_recording(place, verify=True)["front.rf"].messages())
        assert_same(came, said[: len(came)])
        lost.append(len(said) - len(came))
        assert [one.whole for one in repair(place)] == [True]
        metas(place)
    assert lost[-1] == 0  # only the mark of the end was torn
    assert lost == sorted(lost, reverse=True)
    assert lost[0] > len(said) // 2


@pytest.mark.parametrize("keep", [0, 1, 100, 777])
def test_samples_that_are_lost_take_the_messages_from_there_on(
    whole: tuple[Path, list[Recordable]], tmp_path: Path, keep: int
) -> None:
    directory, said = whole
    place = tmp_path / "torn"
    shutil.copytree(directory, place)
    os.truncate(place / "front.rf.rf.sigmf-data", keep)
    (done,) = repair(place)
    assert "front.rf.rf.sigmf-data: has" in done.problem
    assert done.cut["front.rf.log"] > 0
    came = list(open_recording(place, verify=True)["front.rf"].messages())
    assert_same(came, said[: len(came)])
    assert sum(one.count for one in came if isinstance(one, Frame)) * 96 <= keep
    metas(place)


def test_a_flipped_bit_is_found_and_what_lies_behind_is_cut(
    whole: tuple[Path, list[Recordable]], tmp_path: Path
) -> None:
    directory, said = whole
    place = tmp_path / "flipped"
    shutil.copytree(directory, place)
    data = bytearray((place / "front.rf.rf.sigmf-data").read_bytes())
    data[500] ^= 1  # in the sixth sample
    (place / "front.rf.rf.sigmf-data").write_bytes(data)
    with open_recording(place) as recording:  # nobody looks unless asked
        assert len(list(recording["front.rf"].messages())) == len(said)
        with pytest.raises(
            StorageError, match=r"front\.rf\.log: record at byte \d+: the checksum of slot \d+ does not"
        ):
            recording.verify()
    with pytest.raises(StorageError, match="does not fit"):
        open_recording(place, verify=True)
    (done,) = repair(place)
    assert "does not fit" in done.problem
    came = list(open_recording(place, verify=True)["front.rf"].messages())
    assert_same(came, said[: len(came)])
    assert 3 <= sum(one.count for one in came if isinstance(one, Frame)) <= 5


def test_samples_that_are_not_those_of_the_hash_are_found(whole: tuple[Path, list[Recordable]], tmp_path: Path) -> None:
    place = tmp_path / "hash"
    shutil.copytree(whole[0], place)
    with (place / "front.rf.rf.sigmf-data").open("ab") as file:
        file.write(bytes(96))
    with pytest.raises(StorageError, match=r"front\.rf\.rf\.sigmf-data: hashes to .*; its metadata says"):
        open_recording(place, verify=True)
    (done,) = repair(place)
    assert (done.whole, done.cut) == (False, {"front.rf.rf.sigmf-data": 96})
    open_recording(place, verify=True)


def test_a_torn_recording_is_not_opened_unless_asked(whole: tuple[Path, list[Recordable]], tmp_path: Path) -> None:
    directory, said = whole
    place = tmp_path / "torn"
    shutil.copytree(directory, place)
    log = place / "front.rf.log"
    log.write_bytes(log.read_bytes()[:-300])
    with pytest.raises(StorageError) as caught:
        open_recording(place)
    assert str(caught.value).startswith(f"{log}: record at byte ")
    assert str(caught.value).endswith(f"; `beamslot record --repair {place}` cuts it off")
    with open_recording(place, torn=True) as recording:
        track = recording["front.rf"]
        assert track.torn.startswith("record at byte")
        assert all(map(same, track.messages(), said))


def test_what_repair_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    with Writer(tmp_path, "front.rf") as writer:
        for message in (Describe("front.rf", INFO), frame_of(INFO, 0, 3, rng), Gap(3, 2, "late")):
            writer.write(message)
        at = writer.at
        for message in (frame_of(INFO, 5, 1, rng), Eos(6)):
            writer.write(message)
    assert list(map(str, repair(tmp_path))) == ["front.rf: whole; 4 slots up to slot 5, 2 missing between them"]
    log = tmp_path / "front.rf.log"
    os.truncate(log, at + 100)
    (done,) = repair(tmp_path)
    problem = rf"\(record at byte {at}: wants \d+ bytes; the file has 100 more\)"
    assert re.fullmatch(
        rf"front\.rf: cut 100 bytes of front\.rf\.log, 96 bytes of front\.rf\.rf\.sigmf-data {problem}; "
        r"3 slots up to slot 4, 2 missing between them are left",
        str(done),
    )
    os.truncate(log, log.stat().st_size - 1)
    os.truncate(tmp_path / "front.rf.rf.sigmf-data", 0)
    (done,) = repair(tmp_path)
    assert (done.slots, done.last) == (0, None)
    assert str(done).endswith("0 slots are left")
    assert not list(tmp_path.glob("*.sigmf-*"))


def test_a_port_that_was_killed_before_it_began_is_removed(tmp_path: Path) -> None:
    write(tmp_path, [Describe("front.rf", INFO)])
    (tmp_path / "other.x.log").write_bytes(b"BSR1\0\0")
    assert sorted(map(str, repair(tmp_path))) == [
        "front.rf: whole; 0 slots",
        "other.x: cut 6 bytes of other.x.log (6 bytes at byte 0 are no whole record); 0 slots are left",
    ]
    assert list(open_recording(tmp_path).ports) == ["front.rf"]


def test_a_log_whose_beginning_is_damaged_is_left_alone(whole: tuple[Path, list[Recordable]], tmp_path: Path) -> None:
    place = tmp_path / "headless"
    shutil.copytree(whole[0], place)
    log = place / "front.rf.log"
    log.write_bytes(b"XXXX" + log.read_bytes()[4:])
    with pytest.raises(StorageError, match=r"begins with b'XXXX'; wanted b'BSR1'; nothing of it can be read"):
        repair(place)
    assert log.stat().st_size == (whole[0] / "front.rf.log").stat().st_size


def test_a_recording_that_is_being_written_is_neither_repaired_nor_replaced(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "front.rf")
    writer.write(Describe("front.rf", INFO))
    for action in (repair, remove):
        with pytest.raises(
            StorageError, match=rf"^{tmp_path}: front\.rf is being written; wanted a recording that is over$"
        ):
            action(tmp_path)
    writer.close()
    assert [one.whole for one in repair(tmp_path)] == [True]
    remove(tmp_path)
    assert not list(tmp_path.iterdir())


def test_there_is_nothing_to_repair_where_nothing_was_recorded(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"recording\.json: cannot be read"):
        repair(tmp_path)


def test_a_recording_without_its_facts_is_repaired_too(whole: tuple[Path, list[Recordable]], tmp_path: Path) -> None:
    place = tmp_path / "bare"
    shutil.copytree(whole[0], place)
    (place / "recording.json").unlink()
    assert [one.whole for one in repair(place)] == [True]
    assert open_recording(place).about == {}
