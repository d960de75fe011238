"""The ends of a graph: what they judge, write and pass is what came."""

import json
from pathlib import Path

import numpy as np
import pytest
from beamslot_scene import SLOTS, run_on_scene, scene

from beamslot.dsp.bounds import crb_channel
from beamslot.errors import BadParam, BlockFailed
from beamslot.frame import Describe, Eos, Frame, Gap
from beamslot.runtime.block import RunContext
from beamslot.runtime.core import Core, Input
from beamslot.runtime.testing import run_block
from beamslot.sinks.jsonl_sink import JsonlSink
from beamslot.sinks.nmse_sink import NmseSink


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
    run_on_scene("jsonl_sink", path=str(path), existing="append")
    assert path.read_text().startswith("old\n{")
    with pytest.raises(BadParam, match="the stream has no nothing; it has rf"):
        run_on_scene("jsonl_sink", path=str(path), arrays=("nothing",))


def test_a_full_disk_is_an_error_with_the_slot() -> None:
    with pytest.raises(BlockFailed, match=r"jsonl_sink at slot 0 .*No space left on device"):
        run_on_scene("jsonl_sink", path="/dev/full")


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
