"""`beamslot logs`: the records of runs as people ask for them, and what the doctor says of a machine."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from beamslot_probes import CheckSink, CountingSource

from beamslot.cli import doctor, logs, main
from beamslot.runtime import rundir
from beamslot.runtime.diary import Diary, RunRecord
from beamslot.runtime.graph import BlockSpec, EdgeSpec, Graph

GRAPH = Graph(
    name="lab",
    blocks={"source": BlockSpec("source", CountingSource), "sink": BlockSpec("sink", CheckSink)},
    edges=(EdgeSpec("source", "numbers", "sink", "numbers"),),
    slots=10,
)

FAILURE = {"slots": [5, 8], "seed": 7, "error": "RuntimeError", "traceback": "Traceback:\n  the sink gives up\n"}


@pytest.fixture(autouse=True)
def private_state(tmp_path, monkeypatch):
    """Runs and logs of these tests go where nobody else's are."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def recorded(name="lab", code=0, **report):
    """Return the diary of a run of that name that has ended."""
    diary = Diary(rundir.logs(name), pytest.fail)
    diary.begin(Graph(name=name, blocks=GRAPH.blocks, edges=GRAPH.edges, slots=10))
    diary.event("started", blocks=2)
    diary.event("restart", block="sink", slots=[5, 8], how="was ended by SIGKILL")
    for block in GRAPH.blocks:
        (diary.directory / f"{block}.log").write_text("")
    (diary.directory / "sink.log").write_text("one\ntwo\nthree [bold]")
    diary.accounts({"slots": 10, "exit_code": code, "problems": [], **report})
    return diary


def said(capsys, *arguments, code=0):
    assert main(["logs", *map(str, arguments)]) == code
    return capsys.readouterr()


# which run


def test_the_help_teaches_by_an_example(capsys):
    with pytest.raises(SystemExit) as end:
        main(["logs", "--help"])
    assert end.value.code == 0
    assert "example:\n  beamslot logs" in capsys.readouterr().out


def test_the_newest_run_is_shown_with_its_events_and_who_printed(capsys):
    recorded("old")
    newest = recorded("new").directory
    out = said(capsys).out
    assert out.startswith(f"{newest}  ended 0\n")
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3}  started  blocks 2$", out, re.M)
    assert re.search(r"  restart  block sink, slots 5\.\.7, how was ended by SIGKILL$", out, re.M)
    assert re.search(r"^sink +three \[bold\] +3$", out, re.M)
    assert not re.search(r"^source ", out, re.M)


def test_the_name_of_a_graph_is_its_newest_run(capsys):
    recorded("lab")
    newest = recorded("lab").directory
    recorded("lab_two")
    assert said(capsys, "lab").out.startswith(f"{newest}  ended 0")


def test_a_run_is_named_by_its_directory_a_part_of_its_name_or_all_of_it(capsys, tmp_path):
    old, new = recorded("old").directory, recorded("new").directory
    moved = old.rename(tmp_path / "moved")
    (rundir.state() / f"{new.name}1").mkdir()
    for name, path in ((new.name[:22], new), (new.name, new), (moved, moved)):
        assert said(capsys, name).out.startswith(f"{path}  ended 0")


def test_a_part_that_fits_several_runs_is_refused_with_their_names(capsys):
    runs = [recorded("lab").directory.name for _ in range(7)]
    err = said(capsys, "lab-", code=1).err
    assert err == f"logs: 'lab-' fits 7 runs; wanted one of {', '.join(runs[:1:-1])} and 2 more\n"


def test_no_run_and_a_name_nearly_right_are_helped(capsys):
    assert said(capsys, code=1).err.startswith("logs: no run is kept; wanted one, such as `beamslot run ")
    recorded("antenna")
    err = said(capsys, "antena", code=1).err
    assert err == "logs: no kept run has 'antena' in its name, and no record is there; did you mean 'antenna'?\n"
    assert said(capsys, "sinc", code=1).err.endswith("did you mean 'sink'?\n")


# what blocks printed


def test_the_output_of_a_block_is_printed_as_it_is_and_may_be_cut_to_its_last_lines(capsys):
    recorded()
    assert said(capsys, "lab", "sink").out == "one\ntwo\nthree [bold]\n"
    assert said(capsys, "sink", "-n", 2).out == "two\nthree [bold]\n"
    assert said(capsys, "lab", "source").out == ""
    objects = [json.loads(line) for line in said(capsys, "lab", "sink", "--json").out.splitlines()]
    assert objects[0] == {"block": "sink", "text": "one"}


def test_a_block_nearly_right_is_helped(capsys):
    run = recorded().directory.name
    assert said(capsys, "lab", "sinc", code=2).err == f"logs: {run} has no block 'sinc'; did you mean 'sink'?\n"


def test_events_as_json_are_an_object_a_line_and_nothing_else(capsys):
    recorded()
    out = said(capsys, "--json", "-n", 1).out
    assert json.loads(out)["how"] == "was ended by SIGKILL"


def test_lines_that_cannot_be_read_are_passed_over(capsys):
    diary = recorded()
    with (diary.directory / "events.jsonl").open("ab") as file:
        file.write(b'{"kind": "cut of\n[]\n\xff\n')
    diary.event("odd", text="two\nlines", slots="?")
    assert "  odd  text two | lines, slots ?\n" in said(capsys).out


def test_a_run_is_followed_until_it_is_over(capsys, monkeypatch):
    diary = recorded()
    (diary.directory / "report.json").unlink()
    output = diary.directory / "sink.log"
    steps = iter(["four\nfi", "ve\n", "six"])

    def pause(_):
        step = next(steps)
        with output.open("a") as file:
            file.write(step)
        if step == "six":
            diary.accounts({"exit_code": 0})

    output.write_text("three\n")
    monkeypatch.setattr(logs.time, "sleep", pause)
    assert said(capsys, "lab", "sink", "-f", "-n", 1).out == "three\nfour\nfive\nsix\n"
    assert next(steps, None) is None
    assert said(capsys, "lab", "sink", "-f").out.endswith("six\n")


def test_output_that_begins_anew_is_followed_from_its_beginning(tmp_path):
    lines = logs.Lines(tmp_path / "sink.log")
    assert [*lines.new(rest=False)] == []
    (tmp_path / "sink.log").write_text("one\ntwo\n")
    assert [*lines.new(rest=False)] == ["one", "two"]
    (tmp_path / "sink.log").write_text("new\n")
    assert [*lines.new(rest=False)] == ["new"]


def test_the_end_of_a_run_that_is_killed_ends_the_following(capsys):
    code = """
import sys, time
from pathlib import Path
from beamslot.runtime.diary import Diary
from beamslot.runtime.graph import Graph
diary = Diary(Path(sys.argv[1]), print)
diary.begin(Graph(name="killed", blocks={}, edges=()))
diary.event("started")
print("begun", flush=True)
time.sleep(1000)
"""
    place = rundir.logs("killed")
    follow = [sys.executable, "-P", "-m", "beamslot", "logs", "-f"]
    with subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout.readline() == "begun\n"
            assert RunRecord(place).state == "running"
            follower = subprocess.Popen(follow, stdout=subprocess.PIPE, text=True)
            begun = [follower.stdout.readline() for _ in range(3)]
        finally:
            run.kill()
    rest, _ = follower.communicate(timeout=20)
    assert begun[0] == f"{place}  running\n"
    assert "  started" in begun[2]
    assert "no block printed anything" in rest
    assert follower.returncode == 0
    assert [row["state"] for row in json.loads(said(capsys, "--list", "--json").out)] == ["died"]


# lists


def test_all_kept_runs_are_listed_newest_first(capsys):
    assert said(capsys, "--list").out == "no run is kept\n"
    recorded("old")
    failed = recorded("failed", 1, slots=12345, problems=["sink: process was ended by SIGKILL", "more"]).directory
    rows = said(capsys, "--list").out.splitlines()[2:]
    assert [row.split()[2] for row in rows] == ["failed", "old"]
    assert re.search(rf"ended 1 +{failed.name} +12,345 +2: sink: process was ended by SIGKILL", rows[0])
    listed = json.loads(said(capsys, "--list", "--json").out)
    assert [(run["name"], run["state"], run["slots"]) for run in listed] == [
        ("failed", "ended 1", 12345),
        ("old", "ended 0", 10),
    ]
    assert listed[0]["path"] == str(failed)


def test_crashes_are_told_with_their_frames_and_how_to_load_them(capsys):
    diary = recorded(problems=["sink: process was ended by SIGKILL"])
    assert said(capsys, "--crash").out.endswith("ended 0: nothing failed\n")
    frame = {"numbers": {"index": np.arange(3)}}
    path = diary.crash("sink", 2, FAILURE, frame)
    out = said(capsys, "--crash").out
    assert "sink, slots 5..7, seed 7\n" in out
    assert "    the sink gives up\n" in out
    assert str(path) in out
    code = "\n".join(line.strip() for line in out.splitlines() if "load_crash" in line)
    names = {}
    exec(code, names)  # noqa: S102 (what is printed for people to paste must work)
    np.testing.assert_array_equal(names["frame"]["numbers"]["index"], np.arange(3))
    told = json.loads(said(capsys, "lab", "sink", "--crash", "--json").out)
    assert [(crash["block"], crash["path"]) for crash in told] == [("sink", str(path))]
    assert json.loads(said(capsys, "lab", "source", "--crash", "--json").out) == []
    closing = said(capsys).out
    assert f"1 failed: beamslot logs {diary.directory.name} --crash" in closing
    assert "sink: process was ended by SIGKILL" in closing


# the doctor


def checks():
    return {check["what"]: check for check in doctor.checks()}


def test_the_doctor_looks_at_what_paced_runs_and_records_need():
    found = checks()
    wanted = {"cores", "threads", "clock", "wake-up", "open files", "processes", "locked memory", "compilers"}
    assert {*wanted, "room: temporary files", "room: records"} <= set(found)
    assert re.fullmatch(r"1 ms of sleep end \d+ us late as a rule, \d+ us at worst", found["wake-up"]["found"])


def test_every_bad_finding_comes_with_advice(monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, -1))
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (1000.0, 0, 0))
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2**20}))
    monkeypatch.setattr(doctor, "_oversleep", lambda: 0.004)
    monkeypatch.setattr(doctor, "allowance", lambda *_: (0.5, 2**20))
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    found = checks()
    bad = {name for name, check in found.items() if not check["ok"]}
    rooms = {name for name in found if name.startswith("room: ")}
    assert bad == {"open files", "processes", "cgroup memory", *rooms}
    assert found["open files"]["found"] == "10 of unlimited"
    assert found["open files"]["advice"] == "ulimit -n 1024"
    assert found["threads"]["advice"].endswith("unset OMP_NUM_THREADS")
    assert "4000 us late as a rule" in found["wake-up"]["found"]
    for name in (*bad, "cores", "threads", "wake-up", "cgroup cpu", "compilers"):
        assert found[name]["advice"], name


def test_the_tightest_control_group_around_a_process_counts(tmp_path):
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/elsewhere\n0::/lab/run\n")
    assert doctor.allowance(tmp_path / "none", own) == (None, None)
    root = tmp_path / "root"
    (root / "lab" / "run").mkdir(parents=True)
    for group, cpu, memory in ((root / "lab", "150000 100000", str(2**30)), (root / "lab/run", "max 100000", "max")):
        (group / "cpu.max").write_text(f"{cpu}\n")
        (group / "memory.max").write_text(f"{memory}\n")
    assert doctor.allowance(root, own) == (1.5, 2**30)
    (root / "lab/run/cpu.max").write_text("50000 100000\n")
    assert doctor.allowance(root, own) == (0.5, 2**30)
    own.write_text("0::/\n")
    assert doctor.allowance(root, own) == (None, None)


def test_compilers_are_told_by_their_first_line(tmp_path, monkeypatch):
    compiler = tmp_path / "clang"
    compiler.write_text("#!/bin/sh\necho clang version 99\necho more\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/nowhere")
    assert checks()["compilers"]["found"] == "clang: clang version 99"
