"""The ends of a graph: what they judge, write and pass is what came."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from beamslot_scene import SLOTS, run_on_scene, scene

from beamslot.dsp.bounds import crb_channel
from beamslot.errors import BadParam, BlockFailed
from beamslot.frame import Describe, Eos, Frame, Gap
from beamslot.runtime import End
from beamslot.runtime.block import RunContext
from beamslot.runtime.core import Core, Input
from beamslot.runtime.testing import run_block
from beamslot.sinks.head import Head
from beamslot.sinks.jsonl_sink import JsonlSink
from beamslot.sinks.nmse_sink import NmseSink


@contextmanager
def started(path: Path, existing: str = "replace") -> Iterator[JsonlSink]:
    sink = JsonlSink(path=str(path), existing=existing)
    sink.join_run(RunContext("file"))
    sink.start(scene().combined.infos["rf"])
    try:
        yield sink
    finally:
        sink.stop()


def write(sink: JsonlSink, first: int, end: int) -> None:
    sink.process({"rf": scene().combined["rf"][first:end]}, range(first, end))


def test_nmse_is_the_mean_over_draws_of_the_mean_over_their_slots_and_users() -> None:
    judged = run_on_scene("nmse_sink")[0].results()
    truth, estimate = scene().source["truth"]["channel"], scene().oracle["estimate"]["channel"]
    error = (np.abs(estimate - truth) ** 2).sum((2, 3)) / (np.abs(truth) ** 2).sum((2, 3))
    draws = error.reshape(SLOTS // 3, -1).mean(1)
    assert judged["oracle"]["draws"] == 4
    assert judged["oracle"]["nmse_db"] == pytest.approx(10 * np.log10(draws.mean()), abs=1e-4)


def test_the_bound_is_taken_at_the_first_slot_of_every_draw() -> None:
    judged = run_on_scene("nmse_sink")[0].results()
    truth, info = scene().source["truth"], scene().combined.infos["rf"]
    rows = np.arange(0, SLOTS, 3)
    gain, u, v, mask = (truth[name][rows] for name in ("gain", "u", "v", "mask"))
    bound = crb_channel(gain, u, v, mask, info.operator, info.geometry, 3 * truth["antenna_noise_var"][rows])
    assert judged["crb"]["draws"] == 4
    assert judged["crb"]["nmse_db"] == pytest.approx(10 * np.log10(bound.mean()), abs=1e-6)
    assert "crb" not in run_on_scene("nmse_sink", crb=False)[0].results()


def test_json_lines_hold_every_slot_and_every_number(tmp_path: Path) -> None:
    run_on_scene("jsonl_sink", path=str(tmp_path / "a.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["slot"] for line in lines] == list(range(SLOTS))
    read = np.array([line["rf"] for line in lines])
    np.testing.assert_allclose(read[..., 0] + 1j * read[..., 1], scene().combined["rf"], rtol=1e-6)


def test_a_gap_has_a_line_of_its_own(tmp_path: Path) -> None:
    sink = JsonlSink(path=str(tmp_path / "a.jsonl"))
    sink.join_run(RunContext("file"))
    core = Core(sink, [Input(sink.inputs["stream"], "s")])
    info = scene().combined.infos["rf"]
    rf = scene().combined["rf"]
    frame = Frame(0, 1, {"rf": rf[:1]}, operator=info.operator.hash)
    for item in (Describe("s", info), frame, Gap(1, 4, "lost"), Eos(5)):
        core.feed(0, item)
    while core.step():
        pass
    sink.stop()
    assert json.loads((tmp_path / "a.jsonl").read_text().splitlines()[1]) == {"slot": 1, "count": 4, "gap": "lost"}


def test_a_file_in_place_can_be_protected(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old\n")
    with pytest.raises(BadParam, match="is there already, and existing is refuse"):
        run_on_scene("jsonl_sink", path=str(path), existing="refuse")
    with pytest.raises(BadParam, match="is there already, and existing is refuse"), started(path, "refuse") as sink:
        sink.snapshot()
    assert path.read_text() == "old\n"
    run_on_scene("jsonl_sink", path=str(path), existing="append")
    assert path.read_text().startswith("old\n{")
    with pytest.raises(BadParam, match="the stream has no nothing; it has rf"):
        run_on_scene("jsonl_sink", path=str(path), arrays=("nothing",))


def test_a_full_disk_is_an_error_with_the_slot() -> None:
    with pytest.raises(BlockFailed, match=r"jsonl_sink at slot 0 .*No space left on device"):
        run_on_scene("jsonl_sink", path="/dev/full")


@pytest.mark.parametrize(("existing", "old"), [("replace", "old\n"), ("append", "old\n"), ("refuse", "")])
@pytest.mark.parametrize("saved", [0, 4])
def test_a_file_goes_on_after_a_crash_as_if_there_had_been_none(
    tmp_path: Path, existing: str, old: str, saved: int
) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    if old:
        whole.write_text(old)
        broken.write_text(old)
    with started(whole, existing) as sink:
        write(sink, 0, SLOTS)
    with started(broken, existing) as crashed:
        crashed.snapshot()  # as at every start
        write(crashed, 0, saved)
        state = crashed.snapshot()
        write(crashed, saved, 7)
        with broken.open("a") as file:
            file.write('{"slot": 7, "rf": [[')
        with started(broken, existing) as sink:
            sink.restore(state)
            write(sink, saved, SLOTS)
            assert sink.results()["lines"] == SLOTS
    assert broken.read_bytes() == whole.read_bytes()


def test_a_file_that_lost_lines_is_refused_after_a_restart_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with started(path) as sink:
        write(sink, 0, 4)
        state = sink.snapshot()
    path.write_text("short\n")
    assert sink.snapshot() == state  # after the end too
    wanted = rf"file\.path: .*a\.jsonl has 6 bytes; wanted the {state['bytes']} that were written before the restart"
    with pytest.raises(BadParam, match=wanted), started(path) as sink:
        sink.restore(state)
    assert path.read_text() == "short\n"


def test_a_pipe_just_goes_on_after_a_restart(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with started(pipe) as crashed:
        write(crashed, 0, 2)
        state = crashed.snapshot()
        with started(pipe) as sink:
            sink.restore(state)
            write(sink, 2, 4)
    reader.join()
    assert [json.loads(line)["slot"] for line in read[0].splitlines()] == [0, 1, 2, 3]


def test_a_file_to_be_replaced_keeps_its_lines_until_the_first_new_one_or_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("old\n")
    with started(path):
        assert path.read_text() == "old\n"
    assert path.read_text() == ""


@pytest.mark.parametrize("first", [7, 9])
def test_head_ends_with_nothing_where_its_slots_have_passed(first: int) -> None:
    head = Head(slots=7)
    head.start(scene().combined.infos["rf"])
    assert head.process({"rf": scene().combined["rf"][first:]}, range(first, SLOTS)) == End()


@pytest.mark.parametrize("burst", [1, 3, 5, SLOTS])
def test_head_passes_exactly_the_first_slots_and_ends(burst: int) -> None:
    made = run_on_scene("head", burst=burst)[1]
    np.testing.assert_array_equal(made["first"]["rf"], scene().combined["rf"][:7])
    assert isinstance(made.items[-1][1], Eos)
    assert made.items[-1][1].first == 7


def test_estimates_that_are_not_finite_are_left_out_and_said() -> None:
    inputs, infos = scene().feed(NmseSink)
    oracle = inputs["estimate"]["oracle.estimate"]
    channel = oracle["channel"].copy()
    channel[4:6, 0, 0, 0] = np.nan
    sink = NmseSink()
    run_block(sink, {**inputs, "estimate": {"bad.estimate": {**oracle, "channel": channel}}}, infos=infos)
    judged = sink.results()["bad"]
    assert (judged["not_finite"], judged["first_not_finite"]) == (2, 4)
    assert np.isfinite(judged["nmse_db"])


def test_a_file_that_cannot_be_written_is_named_before_the_first_slot() -> None:
    with pytest.raises(BadParam, match=r"jsonl_sink\.path: /nowhere/a cannot be written: No such file or directory"):
        run_on_scene("jsonl_sink", path="/nowhere/a")


def test_a_description_that_changes_on_the_way_does_not_reset_what_was_judged_or_written(tmp_path: Path) -> None:
    inputs, infos = scene().feed(NmseSink)
    sink = NmseSink()
    run_block(sink, inputs, infos=infos)
    before = sink.results()
    sink.start(infos["truth"], {"oracle.estimate": infos["estimate"].replace(carrier=1e9)})
    assert sink.results() == before
    file = JsonlSink(path=str(tmp_path / "a.jsonl"))
    info, rf = scene().combined.infos["rf"], scene().combined["rf"]
    for carrier in (0.0, 1e9):
        file.start(info.replace(carrier=carrier))
        file.process({"rf": rf[:1]}, range(1))
    file.stop()
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2


def test_null_sink_counts() -> None:
    assert run_on_scene("null_sink")[0].results() == {"slots": SLOTS, "missed": 0}
