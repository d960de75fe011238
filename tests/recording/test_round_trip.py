"""What is read from a recording is what was written, to the last bit; and what a writer refuses."""

import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from beamslot_recording import assert_same, frame_of, front_end, metas, same, sampled_slots, samples, story, write
from beamslot_recording import stored_slots as slots_of
from hypothesis import given, settings
from hypothesis import strategies as st

from beamslot.errors import CorruptFrame, DtypeError, StorageError, UnknownPort
from beamslot.frame import Array, Describe, Eos, Frame, Gap, StreamInfo
from beamslot.recording import Recordable, Track, Writer, open_recording, repair

PLAIN = StreamInfo({"x": Array.of("slot chain", np.complex64)}, {"chain": 2})


def of_ones(first: int, count: int) -> Frame:
    return Frame(first, count, {"x": np.ones((count, 2), np.complex64)})


@given(seed=st.integers(0, 2**32), length=st.integers(0, 40))
@settings(max_examples=30, deadline=None)
def test_every_message_of_any_stream_comes_back_as_it_was(seed: int, length: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        directory, said = Path(place), story(seed, length)
        write(directory, said)
        with open_recording(directory, verify=True) as recording:
            assert_same(recording["front.rf"].messages(), said)
            assert recording.complete
        metas(directory)
        assert [one.whole for one in repair(directory)] == [True]


@given(seed=st.integers(0, 2**32), first=st.integers(0, 90), slots=st.one_of(st.none(), st.integers(1, 40)))
@settings(max_examples=30, deadline=None)
def test_some_slots_are_read_with_the_description_that_holds_there(seed: int, first: int, slots: int | None) -> None:
    said = [one for one in story(seed) if not isinstance(one, Gap) or one.count < 99]
    due = next(one.first for one in said if isinstance(one, Frame | Gap))
    for one in said:  # without the long gaps the slots follow on
        if isinstance(one, Frame | Gap | Eos):
            one.first = due
            due = one.first if isinstance(one, Eos) else one.end
    stop = 2**62 if slots is None else first + slots
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), said)
        came = list(open_recording(place)["front.rf"].messages(first, slots))
    timed = [one for one in came if isinstance(one, Frame | Gap)]
    assert_same(timed, [one for one in said if isinstance(one, Frame | Gap) and one.end > first and one.first < stop])
    described = None
    holding = {id(one): described for one in said if (described := one if isinstance(one, Describe) else described)}
    wanted = {one.first: holding[id(one)] for one in said if isinstance(one, Frame)}
    described = None
    for one in came:
        described = one if isinstance(one, Describe) else described
        if isinstance(one, Frame):
            assert described == wanted[one.first]


def test_the_samples_are_read_by_others_and_lie_where_the_captures_say(tmp_path: Path) -> None:
    said = story(5, 200, infos=[front_end(0), front_end(1)])
    write(tmp_path, said)
    found = metas(tmp_path)
    assert list(found) == ["front.rf.rf"]  # an operator that changes begins no new file
    read, wanted = samples(tmp_path, "front.rf.rf"), slots_of(said, "rf")
    assert sampled_slots(found["front.rf.rf"], len(read)) == list(wanted)
    assert read.tobytes() == np.array(list(wanted.values())).tobytes()
    raw = np.fromfile(tmp_path / "front.rf.rf.sigmf-data", "<c8").reshape(read.shape)
    assert raw.tobytes() == read.tobytes()


def test_other_lengths_begin_new_files(tmp_path: Path) -> None:
    wide = PLAIN.replace(axes={"chain": 5})
    rng = np.random.default_rng(0)
    said = [Describe("a.x", PLAIN), frame_of(PLAIN, 0, 2, rng), Describe("a.x", wide), frame_of(wide, 2, 3, rng)]
    said += [Describe("a.x", PLAIN), frame_of(PLAIN, 5, 1, rng), Eos(6)]
    write(tmp_path, said, "a.x")
    assert_same(open_recording(tmp_path, verify=True)["a.x"].messages(), said)
    assert {name: samples(tmp_path, name).shape for name in metas(tmp_path)} == {
        "a.x.x": (2, 2),
        "a.x.x.1": (3, 5),
        "a.x.x.2": (1, 2),
    }


def test_arrays_that_are_named_in_another_order_stay_in_their_files(tmp_path: Path) -> None:
    """Names that are no names of files are counted: by the description that began the files, not by each."""
    array = Array.of("slot chain", np.complex64)
    one = StreamInfo({"a b": array, "c d": array}, {"chain": 2})
    other = StreamInfo({"c d": array, "a b": array}, {"chain": 2}, carrier=28e9)
    rng = np.random.default_rng(0)
    said = [Describe("a.x", one), frame_of(one, 0, 2, rng), Describe("a.x", other), frame_of(other, 2, 3, rng), Eos(5)]
    write(tmp_path, said, "a.x")
    assert_same(open_recording(tmp_path, verify=True)["a.x"].messages(), said)
    assert list(metas(tmp_path)) == ["a.x.array-0", "a.x.array-1"]


def test_arrays_are_views_of_the_files_and_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path, story(1, 20, infos=[front_end()]))
    frames = [one for one in open_recording(tmp_path)["front.rf"].messages() if isinstance(one, Frame)]
    for array in (array for frame in frames for array in frame.arrays.values()):
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert array.flags.aligned
    shutil.rmtree(tmp_path)
    assert frames[-1].arrays["rf"].sum() is not None  # what is held stays readable


def test_a_frame_that_is_not_as_described_is_kept_all_the_same(tmp_path: Path) -> None:
    odd = Frame(
        0, 2, {"x": np.ones((2, 3), np.complex64), "more": np.zeros((0, 4)), "one": np.float32(3) * np.ones(())}
    )
    said = [odd, Describe("a.x", PLAIN), Frame(2, 2, odd.arrays), of_ones(4, 1), Frame(5, 1, {})]
    write(tmp_path, said, "a.x")
    assert_same(open_recording(tmp_path, verify=True)["a.x"].messages(), said)
    assert samples(tmp_path, "a.x.x").shape == (1, 2)


def test_a_recording_tells_what_it_is(tmp_path: Path) -> None:
    write(tmp_path, [Describe("a.x", PLAIN), of_ones(3, 2), Gap(5, 4, "late"), of_ones(9, 1), Eos(10)], "a.x", seed=7)
    write(tmp_path, [Describe("b.y", PLAIN)], "b.y", threads={"OMP": 1})
    with open_recording(tmp_path) as recording:
        assert recording.about == {"seed": 7, "threads": {"OMP": 1}}
        track = recording["a.x"]
        assert (track.first, track.last, track.slots, track.missing) == (3, 9, 3, 4)
        assert (track.infos, track.gaps, track.eos) == ([PLAIN], [Gap(5, 4, "late")], Eos(10))
        assert repr(track) == "Track('a.x', slots 3..9, 3 recorded, 4 missing)"
        assert (recording["b.y"].first, recording["b.y"].last) == (None, None)
        with pytest.raises(UnknownPort, match=r"'a\.y' is not recorded; there is a\.x, b\.y$"):
            recording["a.y"]


def test_a_description_that_repeats_the_last_is_written_once(tmp_path: Path) -> None:
    copy = StreamInfo(dict(PLAIN.arrays), dict(PLAIN.axes))
    said = [Describe("a.x", PLAIN), Describe("a.x", copy), of_ones(0, 1), Describe("a.x", copy), Eos(1), Eos(1)]
    write(tmp_path, said, "a.x")
    kinds = [type(one) for one in open_recording(tmp_path)["a.x"].messages()]
    assert kinds == [Describe, Frame, Eos]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (of_ones(1, 2), "slots 1..2 came again or late; wanted 3 or later"),
        (Gap(2, 1, "late"), "slot 2 came again or late; wanted 3 or later"),
    ],
)
def test_what_does_not_follow_on_is_refused(tmp_path: Path, said: Frame | Gap, problem: str) -> None:
    with Writer(tmp_path, "a.x") as writer:
        for message in (Describe("a.x", PLAIN), of_ones(0, 3)):
            writer.write(message)
        with pytest.raises(StorageError, match=rf"^{tmp_path}: a\.x: {problem}$"):
            writer.write(said)
        writer.write(Eos(3))
        with pytest.raises(StorageError, match=r"a\.x: slot 3 came behind the end$"):
            writer.write(of_ones(3, 1))
    with pytest.raises(StorageError, match=r"a\.x is closed; nothing can be written any more$"):
        writer.write(Describe("a.x", PLAIN))
    writer.close()
    assert open_recording(tmp_path, verify=True)["a.x"].slots == 3


def test_what_may_not_travel_may_not_be_recorded(tmp_path: Path) -> None:
    with Writer(tmp_path, "a.x") as writer:
        writer.write(Describe("a.x", PLAIN))
        with pytest.raises(DtypeError, match="may not travel"):
            writer.write(Frame(0, 1, {"x": np.ones((1, 2), ">c8")}))
        with pytest.raises(CorruptFrame, match="a tag is of type object"):
            writer.write(Frame(0, 1, {}, tags={"a": object()}))
        with pytest.raises(CorruptFrame, match="count is 65537; wanted 1 to 65536 slots"):
            writer.write(Frame(0, 65_537, {}))
        with pytest.raises(CorruptFrame, match=r"slots 5\.\.4611686018427387903 end behind"):
            writer.write(Gap(5, 2**62 - 5, "late"))
        with pytest.raises(CorruptFrame, match="captured is -1"):
            writer.write(Gap(0, 1, "late", -1))
        writer.write(of_ones(0, 1))
    assert open_recording(tmp_path, verify=True)["a.x"].slots == 1


@pytest.mark.parametrize("port", ["x", "../a.x", "a.x/..", "a.b.c", "a. ", "", "a." + "x" * 250])
def test_a_port_is_a_block_and_its_output(tmp_path: Path, port: str) -> None:
    with pytest.raises(StorageError, match=r"a port is called '.*'; wanted block\.port$"):
        Writer(tmp_path, port)
    assert not list(tmp_path.iterdir())


def test_a_port_is_recorded_once_in_a_directory(tmp_path: Path) -> None:
    write(tmp_path, [Describe("a.x", PLAIN)], "a.x")
    with pytest.raises(StorageError, match=r"a\.x is recorded there already; wanted another directory$"):
        Writer(tmp_path, "a.x")


def test_a_directory_without_a_recording_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"recording\.json: cannot be read: no such file or directory$"):
        open_recording(tmp_path)
    (tmp_path / "recording.json").write_text('{"format": "beamslot recording", "version": 1, "about": {}}')
    with pytest.raises(StorageError, match=r"no port is recorded there; wanted at least one BLOCK\.PORT\.log$"):
        open_recording(tmp_path)
    (tmp_path / "recording.json").write_text('{"format": "beamslot recording", "version": 2, "about": {}}')
    with pytest.raises(StorageError, match=r"recording\.json: has version 2; wanted 1$"):
        open_recording(tmp_path)
    (tmp_path / "recording.json").write_text('{"format": 3}')
    with pytest.raises(StorageError, match=r"recording\.json: is no recording of beamslot"):
        open_recording(tmp_path)


def test_facts_are_plain_values(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="facts of a recording are plain values; Object of type complex"):
        Writer(tmp_path, "a.x", about={"gain": 1j})


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/x: a\.x cannot be made: not a directory$"):
        Writer(tmp_path / "file" / "x", "a.x")


def test_a_writer_goes_on_where_it_was_and_what_came_behind_is_gone(tmp_path: Path) -> None:
    said = story(11, 40, infos=[front_end(0), front_end(1)])
    writer = Writer(tmp_path / "broken", "front.rf")
    for message in said[:20]:
        writer.write(message)
    at = writer.at
    for message in said[20:33]:
        writer.write(message)
    writer = Writer.resume(tmp_path / "broken", "front.rf", at)
    assert writer.at == at
    for message in said[20:]:
        writer.write(message)
    writer.close()
    write(tmp_path / "whole", said)
    assert_same(open_recording(tmp_path / "broken", verify=True)["front.rf"].messages(), said)
    for path in (tmp_path / "whole").glob("*-data"):
        assert (tmp_path / "broken" / path.name).read_bytes() == path.read_bytes()
    broken, whole = (metas(tmp_path / name)["front.rf.rf"] for name in ("broken", "whole"))
    assert broken["global"]["core:sha512"] == whole["global"]["core:sha512"]
    assert [one["core:global_index"] for one in broken["captures"]] == [
        one["core:global_index"] for one in whole["captures"]
    ]


def test_a_log_that_has_lost_what_it_had_is_not_gone_on_with(tmp_path: Path) -> None:
    write(tmp_path, [Describe("a.x", PLAIN), of_ones(0, 1)], "a.x")
    with pytest.raises(StorageError, match=r"a\.x\.log: holds \d+ whole bytes; wanted the 999999 that were written"):
        Writer.resume(tmp_path, "a.x", 999_999)


def own_memory() -> int:
    """Return the memory that this process has for itself [KiB]; pages of files are not in it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def test_memory_does_not_grow_with_what_is_written(tmp_path: Path) -> None:
    info = StreamInfo({"x": Array.of("slot y z", np.complex64), "n": Array.of("slot", np.int64)}, {"y": 64, "z": 64})
    x = np.ones((4, 64, 64), np.complex64)
    with Writer(tmp_path, "a.x") as writer:
        writer.write(Describe("a.x", info))
        for first in range(0, 1200, 4):  # 40 MB
            if first == 200:
                before = own_memory()
            writer.write(Frame(first, 4, {"x": x, "n": np.arange(4)}))
        writer.sync()
        assert own_memory() - before < 4 * 1024
        assert writer.nbytes > 39e6


def written_until_full(writer: Writer, said: list[Recordable], kept: list[Recordable]) -> str:
    """Write messages until there is no room; return what is said then."""
    for message in said:
        try:
            writer.write(message)
        except StorageError as error:
            return str(error)
        kept.append(message)
    return ""


def test_a_full_disk_takes_no_part_of_a_message(tmp_path: Path) -> None:
    said = story(3, 60, infos=[front_end()])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept: list[Recordable] = []
    with Writer(tmp_path, "front.rf") as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))  # bytes of a file: the log runs into it
        try:
            problem = written_until_full(writer, said, kept)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 5 < len(kept) < len(said)
    at = next(one.first for one in said[len(kept) :] if isinstance(one, Frame | Gap))
    assert problem == (f"{tmp_path}: front.rf cannot be written at slot {at}: file too large; what came before is kept")
    assert_same(open_recording(tmp_path, verify=True)["front.rf"].messages(), kept)
    metas(tmp_path)


def test_a_disk_that_is_full_before_the_first_samples_leaves_no_empty_file(tmp_path: Path) -> None:
    said = story(3, 60, infos=[front_end()])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = Writer(tmp_path, "front.rf")
    writer.write(said[0])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500, hard))  # less than the metadata
    try:
        with pytest.raises(StorageError, match="sigmf-meta: cannot be written: file too large"):
            writer.write(next(one for one in said if isinstance(one, Frame)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.close()
    assert {path.name for path in tmp_path.iterdir()} == {"front.rf.log", "recording.json"}
    assert same(next(open_recording(tmp_path, verify=True)["front.rf"].messages()), said[0])


def test_a_track_can_be_opened_alone(tmp_path: Path) -> None:
    write(tmp_path, [Describe("a.x", PLAIN), of_ones(0, 1)], "a.x")
    assert len(Track(tmp_path, "a.x")) == 2
