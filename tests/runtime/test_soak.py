"""The long tests (`make soak`): what only shows after minutes.

BEAMSLOT_SOAK_MINUTES shortens them; three minutes are the least from which memory can be judged.
"""

import os
import time
from pathlib import Path

import pytest
from beamslot_lab import lab, restarting
from beamslot_runs import Run, Runner, assert_balanced

from beamslot.runtime import rundir
from beamslot.runtime.chaos import Chaos

pytestmark = pytest.mark.soak

RATE = 1_000
MINUTES = float(os.environ.get("BEAMSLOT_SOAK_MINUTES", "30"))
WARM = 20.0
"""A process is warm when it has lived so long [s]."""
LONG = 30.0
"""Its memory is judged when it has lived on for so long after that [s]."""
EVERY = 1.0


def resident(pid: int) -> int:
    """The resident memory of a process [pages]."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Life:
    """What one process of a run has used, from the moment at which it was first seen."""

    def __init__(self, now: float) -> None:
        self.born = now
        self.memory: list[tuple[float, int]] = []
        self.files: list[int] = []

    def note(self, pid: int, now: float) -> None:
        """Note what it uses once it is warm."""
        pages, files = resident(pid), descriptors(pid)
        if now - self.born > WARM:
            self.memory.append((now, pages))
            self.files.append(files)

    @property
    def long(self) -> bool:
        """Whether it has lived long enough to be judged."""
        return bool(self.memory) and self.memory[-1][0] - self.memory[0][0] > LONG

    @property
    def growth(self) -> float:
        """Median memory of the last quarter of its time over that of the first."""
        pages = [used for _, used in self.memory]
        quarter = len(pages) // 4
        first, last = sorted(pages[:quarter]), sorted(pages[-quarter:])
        return last[len(last) // 2] / first[len(first) // 2]


def watched(run: Run, minutes: float) -> tuple[dict[int, Life], int]:
    """Watch a run to its end; return what its processes used, and the most entries its sockets' folder ever had."""
    lives: dict[int, Life] = {}
    most, until = 0, time.monotonic() + 60 * minutes * 2 + 120
    while not run.over:
        now = time.monotonic()
        assert now < until, f"the run is not over: {run.status.get('notes', ())[-5:]}"
        try:
            for pid in run.pids():
                lives.setdefault(pid, Life(now)).note(pid, now)
            most = max([most, *(len(list(folder.rglob("*"))) for folder in rundir.base().iterdir())])
        except (FileNotFoundError, ProcessLookupError):
            pass  # one that has just been killed
        time.sleep(EVERY)
    return lives, most


def test_chaos_at_a_thousand_slots_a_second_loses_nothing_and_grows_nothing(runs: Runner, tmp_path: Path) -> None:
    slots, path = round(RATE * 60 * MINUTES), tmp_path / "file.jsonl"
    given = lab(path, slots=slots, slot_period=1 / RATE, pace=1.0, work=0.0005)
    given = restarting(given, retries=100, backoff_max=1.0)
    run = runs.start(given, chaos=Chaos(7, every=5.0))
    lives, most = watched(run, MINUTES)
    report = run.report()
    assert report["problems"] == []
    assert report["ok"]
    assert_balanced(report)
    assert report["sinks"]["order"] == {"seen": slots, "bad": 0, "missed": 0}
    assert report["sinks"]["file"]["lines"] == slots
    assert report["sinks"]["nmse"]["totals"]["draws"] == slots // 25
    assert report["restarts"] >= MINUTES * 60 / 5.0 / 3 / 4  # a third of the blows kill
    streams = 5  # each with a socket and a tap by process; in every epoch a folder
    assert most <= 3 * 2 * (streams + 1) + 4
    long = {pid: life for pid, life in lives.items() if life.long}
    assert run.pid in long
    told = {pid: (round(life.growth, 3), min(life.files), max(life.files)) for pid, life in long.items()}
    print(f"{report['restarts']} restarts; of {len(lives)} processes {len(long)} lived long: {told}")
    grown = {pid: life.growth for pid, life in long.items() if life.growth > 1.05}
    assert not grown, f"the supervisor is {run.pid}"
    supervisor = lives[run.pid].files
    assert max(supervisor[len(supervisor) // 2 :]) <= max(supervisor[: len(supervisor) // 2])
    janitor = min(pid for pid in lives if pid != run.pid)
    assert len(set(lives[janitor].files)) == 1
