"""The map of angles in a terminal: pixels where paths are, lines of the right length, text where none can be drawn."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from beamslot_runs import until

from beamslot.cli import anglemap, main
from beamslot.runtime import observe, rundir
from beamslot.view.data import COLOURS
from beamslot.view.watch import Estimator, Picture, Shown

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def columns(*places: tuple[float, float]) -> dict[str, list[float]]:
    u, v = ([place[axis] for place in places] for axis in (0, 1))
    return {"u": u, "v": v, "level": [-3.0 * k for k in range(len(places))], "size": [9.0] * len(places)}


def picture(**more: Any) -> Picture:
    paths = {"omp": columns((-0.49, -0.26), (0.81, 0.0)), "tracker": columns((-0.49, -0.26))}
    shown = Shown(1234, 2, columns((-0.49, -0.26), (0.51, -0.46)), paths, None)
    given: dict[str, Any] = {
        "shown": shown, "intervals": [(-0.5, -0.25), (-0.25, 0.0)], "bound_now": -23.4,
        "estimators": [Estimator("omp", -12.34, 2), Estimator("tracker", -20.0, 1), Estimator("late")],
    }  # fmt: skip
    return Picture(**(given | more))


def colour(index: int) -> tuple[int, ...]:
    return tuple(bytes.fromhex(COLOURS[index][1:]))


def test_paths_are_where_their_angles_are_and_beams_behind_them() -> None:
    made = anglemap.pixels(picture(), 80, 40)
    # 40 pixels are a unit of u; v runs from 0.15 at the top to -0.65 at the bottom, 50 pixels a unit.
    assert tuple(made[20, 20]) == colour(0)
    assert tuple(made[20, 21]) == colour(1), "two estimates of one pixel stand beside each other"
    assert tuple(made[19, 19]) == anglemap.TRUE
    assert tuple(made[30, 60]) == anglemap.BAND, "a path that nobody has found is an empty ring"
    assert tuple(made[31, 61]) == anglemap.TRUE
    assert tuple(made[7, 72]) == colour(0), "a false path has no ring"
    assert tuple(made[6, 71]) == anglemap.BACK
    bands = [tuple(made[row, 0]) for row in (5, 10, 25, 35)]
    assert bands == [anglemap.BACK, anglemap.OTHER_BAND, anglemap.BAND, anglemap.BACK]


def test_what_lies_at_the_rim_or_beyond_is_drawn_at_the_rim() -> None:
    rim = picture(shown=Shown(1, 1, columns((1.0, 0.9), (-1.0, -0.9)), {"omp": columns((1.0, 0.9))}, None))
    made = anglemap.pixels(rim, 80, 40)
    assert tuple(made[0, 79]) == colour(0)
    assert tuple(made[38, 0]) == anglemap.TRUE


def test_a_line_of_antennas_has_levels_in_the_place_of_v() -> None:
    made = anglemap.pixels(picture(flat=True), 80, 46)
    assert tuple(made[5, 20]) == colour(0)
    assert tuple(made[8, 72]) == colour(0)
    assert {tuple(pixel) for pixel in made.reshape(-1, 3)} == {anglemap.BACK, anglemap.TRUE, colour(0), colour(1)}


def test_half_blocks_say_every_pixel_once(rng: np.random.Generator) -> None:
    made = rng.integers(0, 256, (6, 5, 3), np.uint8)
    made[:, 2] = made[:, 1]
    lines = anglemap.half_blocks(made)
    assert [ESCAPES.sub("", line) for line in lines] == ["▀▀▀▀▀"] * 3
    told = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m(▀+)")
    for line, upper, lower in zip(lines, made[::2], made[1::2], strict=True):
        pairs = [[*map(int, found[:6])] for found in told.findall(line) for _ in found[6]]
        np.testing.assert_array_equal(pairs, np.concatenate([upper, lower], 1))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (30, 12)])
def test_a_map_fills_the_place_it_is_given(width: int, height: int) -> None:
    lines = [ESCAPES.sub("", line) for line in anglemap.drawn(picture(), width, height)]
    assert len(lines) == height
    assert max(map(len, lines[:-4])) == max(width, anglemap.LEFT + 20)
    assert lines[0].startswith("angles of slot 1,234, user 0 ")
    assert "■ omp              NMSE  -12.3 dB   paths 2" in lines
    assert lines[-1].split() == ["CRB", "-23.4", "dB"]


def test_where_nothing_can_be_drawn_it_is_text() -> None:
    lines = anglemap.listed(picture())
    assert lines[0] == "angles of slot 1,234: u, v (level of the strongest [dB])"
    assert lines[1] == "true             -0.490, -0.260 (0)  0.510, -0.460 (-3)"
    assert lines[3] == "tracker          -0.490, -0.260 (0)"
    assert not any("\x1b" in line for line in lines)
    assert anglemap.listed(Picture()) == [anglemap.NOTHING]
    assert anglemap.plain(Picture()) == {"slot": None, "paths": {}}
    assert anglemap.plain(picture())["paths"]["omp"]["u"] == [-0.49, 0.81]


GRAPH = """
options: {parameters: {id: mapped, slot_period: 0.05, pace: realtime}}
blocks:
- {name: source, id: upa_source, parameters: {n_y: 8, n_z: 8, paths: 2}}
- {name: combiner, id: combiner, parameters: {antennas_per_chain: 2, groups: 2}}
- {name: omp, id: omp, parameters: {paths: 3}}
- {name: nmse, id: nmse_sink}
connections:
- [source, field, combiner, field]
- [combiner, rf, omp, rf]
- [source, truth, nmse, truth]
- [omp, estimate, nmse, estimate]
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A graph with angles that runs."""
    place = tmp_path_factory.mktemp("mapped")
    patch = pytest.MonkeyPatch()
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        (place / name).mkdir(mode=0o700)
        patch.setenv(name, str(place / name))
    (place / "mapped.yml").write_text(GRAPH)
    words = [sys.executable, "-P", "-m", "beamslot", "run", place / "mapped.yml", "--quiet"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until(lambda: any(seen.status["slots"] for card in rundir.runs() if (seen := observe.look(card))), 60)
        yield
        child.send_signal(signal.SIGINT)
    patch.undo()


@pytest.mark.usefixtures("running")
def test_top_with_a_map_lists_the_angles_where_it_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--map", "-n", "2", "--every", "500ms"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("mapped (pid") for line in lines) == 2
    assert any(line.startswith("true    ") for line in lines)
    assert any(line.startswith("omp  ") and "NMSE" in line for line in lines)
    assert main(["top", "mapped", "--map", "-n", "1", "--json"]) == 0
    ((run,),) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert run["run"] == "mapped"
    assert len(run["angles"]["paths"]["true"]["u"]) == 2


@pytest.mark.usefixtures("running")
def test_top_tells_what_the_sinks_judge_and_ps_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    def judged(verb: str) -> bool:
        assert main([verb, "mapped", *(("-n", "1") if verb == "top" else ())]) == 0
        lines = capsys.readouterr().out.splitlines()
        return any(line.startswith("nmse: NMSE") for line in lines)

    until(lambda: judged("top"), 30)
    assert not judged("ps")


@pytest.mark.usefixtures("running")
def test_top_with_a_map_draws_in_a_terminal_and_gives_it_back() -> None:
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    words = [sys.executable, "-P", "-m", "beamslot", "top", "--map", "-n", "3", "--every", "500ms"]
    env = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(words, stdout=terminal, stderr=subprocess.STDOUT, env=env) as child:
        os.close(terminal)
        said, deadline = b"", time.monotonic() + 60
        while time.monotonic() < deadline:
            if select.select([controller], [], [], 0.1)[0]:
                try:
                    said += os.read(controller, 1 << 16)
                except OSError:  # the other end is closed
                    break
        assert child.wait(30) == 0
    os.close(controller)
    text = said.decode()
    assert text.startswith("\x1b[?1049h\x1b[?25l")
    assert text.endswith("\x1b[?25h\x1b[?1049l")
    *_, screen = text.split("\x1b[H")
    lines = ESCAPES.sub("", screen.replace("\x1b[K", "")).split("\r\n")
    assert len(lines) == 30
    assert max(len(line) for line in lines if "▀" in line) == 100
    assert any("angles of slot" in line for line in lines)
    r, g, b = colour(0)
    assert f"{r};{g};{b}" in screen
