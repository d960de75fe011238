"""The page of a running graph in a real browser: no other hosts, no errors, plots that move, and the end of it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beamslot_runs import until

from beamslot.runtime import observe, rundir

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
pytest.importorskip("bokeh")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="needs a real browser: apt-get install chromium"),
    pytest.mark.timeout(600),
]

PATIENCE = 120
"""A browser on a loaded machine takes its time [s]."""

GRAPH = """
options: {parameters: {id: shown, slot_period: 0.05, pace: realtime}}
blocks:
- {name: source, id: upa_source, parameters: {n_y: 8, n_z: 8, paths: 2, drift: 1e-3, redraw: 50}}
- {name: combiner, id: combiner, parameters: {antennas_per_chain: 2, groups: 2, grouping: interleaved}}
- {name: omp, id: omp, parameters: {paths: 3}}
- {name: tracker, id: gw_tracker}
- {name: nmse, id: nmse_sink}
connections:
- [source, field, combiner, field]
- [combiner, rf, omp, rf]
- [combiner, rf, tracker, rf]
- [source, truth, nmse, truth]
- [omp, estimate, nmse, estimate]
- [tracker, estimate, nmse, estimate]
"""

SERVER = "from beamslot.view.server import Viewer; v = Viewer('shown'); print(v.url, flush=True); v.serve()"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        (tmp_path / name).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.fixture
def running(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A small graph that runs, and starts its blocks again."""
    (place / "shown.yml").write_text(GRAPH)
    words = [sys.executable, "-P", "-m", "beamslot", "run", place / "shown.yml", "--restart", "on_failure", "--quiet"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until(lambda: any(seen.status["slots"] for card in rundir.runs() if (seen := observe.look(card))), 60)
        yield child
        child.send_signal(signal.SIGINT)


@pytest.fixture
def address(running: Any) -> Iterator[str]:
    """Where the page of that graph is."""
    with subprocess.Popen([sys.executable, "-P", "-c", SERVER], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0


class Visit:
    """A page that is open, what it asked for and what it complained of."""

    def __init__(self, browser: Any, address: str, size: tuple[int, int], theme: str) -> None:
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        self.page.on(
            "request", lambda request: self.hosts.add(request.url.split("/")[2] if "//" in request.url else "")
        )
        self.page.on("websocket", lambda socket: self.hosts.add(socket.url.split("/")[2]))
        self.page.on(
            "console", lambda said: self.errors.append(said.text) if said.type in {"error", "warning"} else None
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.until("document.title.includes('shown')")
        self.until(f"{LEVELS}(2).length > 3")

    def until(self, condition: str) -> None:
        self.page.wait_for_function(condition, timeout=PATIENCE * 1000)

    def value(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def text(self, root: str) -> str:
        return self.value(f"{MODEL}('{root}').text")


MODEL = "((name) => window.Bokeh?.documents[0]?.get_model_by_name(name))"
LEVELS = f"((line) => {MODEL}('nmse')?.renderers[line]?.data_source.data.level ?? [])"
SHOWN = (
    f"JSON.stringify([...['true', 'error'].map((name) => [...({MODEL}(name).renderers[0].data_source.data.image[0])])])"
)


def test_a_page_moves_in_two_themes_and_shows_a_restart_and_the_end(
    running: subprocess.Popen[bytes], address: str, place: Path
) -> None:
    with playwright.sync_playwright() as play, contextlib.ExitStack() as stack:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        stack.callback(browser.close)
        visit = Visit(browser, address, (1280, 800), "dark")

        # It moves: the map, the images, the line of the NMSE.
        before, drawn = visit.value(SHOWN), visit.page.locator("section.array").screenshot()
        points = visit.value(f"{LEVELS}(2).length")
        assert len(json.loads(before)[0]) == 64
        visit.until(f"{SHOWN} !== {json.dumps(before)}")
        visit.until(f"{LEVELS}(2).length > {points}")
        assert visit.page.locator("section.array").screenshot() != drawn
        levels = visit.value(f"[...{LEVELS}(1)]")
        assert all(-60 < level < 10 for level in levels)
        assert "state-" in visit.text("graph")
        assert "omp" in visit.text("blocks")

        # It follows the system's theme, and the switch.
        visit.until(f"{MODEL}('beat').value.endsWith(' dark')")
        dark = place / "1280-dark.png"
        visit.page.screenshot(path=dark, full_page=True)
        visit.page.get_by_role("button", name="dark / light").click()
        visit.until(f"{MODEL}('beat').value.endsWith(' light')")
        assert visit.value("getComputedStyle(document.body).backgroundColor") == "rgb(238, 241, 245)"

        # A block dies and is started again: the page goes on and says so.
        (card,) = rundir.runs()
        seen = observe.look(card)
        assert seen is not None
        (victim,) = [one["pid"] for one in seen.status["processes"] if "omp" in one["blocks"]]
        os.kill(victim, signal.SIGKILL)
        visit.until(f"{MODEL}('graph').text.includes('restarted 1 times')")
        visit.until(f"{MODEL}('taps').text.includes('omp: was ended by SIGKILL')")
        points = visit.value(f"{LEVELS}(1).length")
        visit.until(f"{LEVELS}(1).length > {points}")

        # A second page, larger and light, shows the same run; then the run ends.
        other = Visit(browser, address, (1920, 1080), "light")
        other.until(f"{MODEL}('beat').value.endsWith(' light')")
        light = place / "1920-light.png"
        other.page.screenshot(path=light)
        wide = other.value("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert wide == [1920, 1080], "all of it stands on a wall screen"
        running.send_signal(signal.SIGINT)
        running.wait(60)
        other.until(f"{MODEL}('headline').text.includes('state-ended')")

        port = address.split("/")[2]
        for one in (visit, other):
            assert one.hosts <= {port, ""}
            assert one.errors == []
        assert min(path.stat().st_size for path in (dark, light)) > 30_000
