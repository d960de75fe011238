"""The page of a running graph in a real browser: no other hosts, no errors, plots that move, and the end of it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from beamslot_runs import until

from beamslot.dsp.channel import noise_variance
from beamslot.errors import PeerLost
from beamslot.probe import attach
from beamslot.runtime import observe, rundir

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
pytest.importorskip("bokeh")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="needs a real browser: apt-get install chromium"),
    pytest.mark.timeout(600),
]

PATIENCE = 45
"""A browser on a loaded machine takes its time [s]."""

MINUTES = min(float(os.environ.get("BEAMSLOT_SOAK_MINUTES", "10")), 30.0)
"""How long the page of the soak test is left open; three minutes are the least from which memory can be judged."""
WARM = 60.0
"""Until then caches fill and code is compiled [s]."""
EVERY = 2.0
"""Its memory is read so often [s]."""
MOST = 1.10
"""Growth that is allowed."""

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
        self.until(f"{LEVELS}('tracker').length > 3")

    def until(self, condition: str) -> None:
        self.page.wait_for_function(condition, timeout=PATIENCE * 1000)

    def value(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def text(self, root: str) -> str:
        return self.value(f"{MODEL}('{root}').text")


MODEL = "((name) => window.Bokeh?.documents[0]?.get_model_by_name(name))"
LEVELS = f"((name) => {MODEL}('nmse')?.renderers.find((one) => one.name === name)?.data_source.data.level ?? [])"
SHOWN = (
    f"JSON.stringify([...['true', 'error'].map((name) => [...({MODEL}(name).renderers[0].data_source.data.image[0])])])"
)


class Noise(threading.Thread):
    """Hears the noise of every slot that the source makes, as long as the run goes on."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: dict[int, float] = {}
        self.start()

    def run(self) -> None:
        with contextlib.suppress(PeerLost):
            for frame in attach("shown").tap("source.truth"):
                self.found |= dict(zip(frame.slots, frame["antenna_noise_var"][:, 0].tolist(), strict=True))


def drag(visit: Visit, name: str, to: float) -> None:
    """Move a slider with the mouse, to a share of its length; below 0 is its lower end."""
    slider = visit.page.locator(".bk-input-group", has_text=name)
    slider.scroll_into_view_if_needed()
    track, handle = (slider.locator(one).bounding_box() for one in (".noUi-base", ".noUi-handle"))
    mouse = visit.page.mouse
    y = handle["y"] + handle["height"] / 2
    mouse.move(handle["x"] + handle["width"] / 2, y)
    mouse.down()
    mouse.move(track["x"] + to * track["width"], y, steps=4)
    mouse.up()


def test_a_slider_changes_the_run_and_what_is_refused_or_changed_elsewhere_shows(
    running: subprocess.Popen[bytes], address: str
) -> None:
    with playwright.sync_playwright() as play, contextlib.ExitStack() as stack:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        stack.callback(browser.close)
        visit, noise = Visit(browser, address, (1600, 900), "dark"), Noise()
        visit.until(f"{MODEL}('source.snr_db')?.disabled === false")
        visit.until(f"{LEVELS}('tracker').length > 8")

        # A slider changes the SNR, from the slot that is said on, and the line of the NMSE follows.
        before = visit.value(f"{LEVELS}('tracker').at(-1)")
        until(lambda: len(noise.found) > 5, 60)
        drag(visit, "snr_db", -0.2)
        visit.until(f"/held\"><b>[0-9,]+<.b>source.snr_db = -15</.test({MODEL}('said').text)")
        (change,) = [one for one in attach("shown").status["timeline"] if one["values"] == {"snr_db": -15.0}]
        assert f"<b>{change['slot']:,}</b>" in visit.text("said")
        until(lambda: max(noise.found) > change["slot"] + 5, 60)
        others = {one["slot"] for one in attach("shown").status["timeline"]} - {change["slot"]}
        for slot, found in noise.found.items():
            if not any(other <= slot < change["slot"] for other in others):  # where the hand rested on the way
                expected = noise_variance(-15.0 if slot >= change["slot"] else 5.0)
                assert found == pytest.approx(expected, rel=1e-5)
        visit.until(f"{LEVELS}('tracker').at(-1) > {before} + 8")

        # What the run refuses goes back and says why; what another changes is followed.
        deadline = visit.page.locator(".bk-input-group", has_text="deadline").first.locator("input")
        deadline.fill("-1")
        deadline.press("Enter")
        visit.until(f"{MODEL}('said').text.includes('omp.deadline: got -1; wanted a time &gt;= 0 [s], or none')")
        visit.until(f"{MODEL}('omp.deadline').value === 'none'")
        attach("shown").change("source", {"snr_db": 20.0, "paths": 4})  # the stream is described anew
        visit.until(f"{MODEL}('source.snr_db').value === 20 && {MODEL}('source.paths').value === 4")
        visit.until(f"{MODEL}('angles').renderers[0].data_source.data.u.length === 4")
        visit.until(f"{LEVELS}('tracker').at(-1) < {before} - 5")

        # Whoever has not the token of the address looks only, though the page be the same.
        guest = Visit(browser, address.partition("?")[0], (1280, 800), "light")
        guest.until(f"{MODEL}('source.snr_db')?.value === 20")
        assert guest.value(f"{MODEL}('source.snr_db').disabled")
        assert "only looks" in guest.text("said")
        guest.value(f"{MODEL}('source.snr_db').value = 3")  # as somebody could who speaks with the server directly
        assert guest.page.get_by_role("button", name="pause").count() == 0

        # A pause, and a block that is started again.
        visit.page.get_by_role("button", name="pause").click()
        guest.until(f"{MODEL}('headline').text.includes('state-paused')")
        visit.page.get_by_role("button", name="resume").click()
        guest.until(f"{MODEL}('headline').text.includes('state-running')")
        visit.page.locator(".bk-input-group", has_text="restart").locator("select").select_option("tracker")
        for one in (visit, guest):
            one.until(f"{MODEL}('graph').text.includes('restarted 1 times')")
            points = one.value(f"{LEVELS}('tracker').length")
            one.until(f"{LEVELS}('tracker').length > {points} + 2")
            assert one.hosts <= {address.split("/")[2], ""}
            assert one.errors == []
        assert attach("shown").parameters()["parameters"]["source"]["snr_db"]["value"] == 20


def test_a_page_moves_in_two_themes_and_shows_a_restart_and_the_end(
    running: subprocess.Popen[bytes], address: str, place: Path
) -> None:
    with playwright.sync_playwright() as play, contextlib.ExitStack() as stack:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        stack.callback(browser.close)
        visit = Visit(browser, address, (1280, 800), "dark")

        # It moves: the map, the images, the line of the NMSE.
        before, drawn = visit.value(SHOWN), visit.page.locator("section.array").screenshot()
        points = visit.value(f"{LEVELS}('tracker').length")
        assert len(json.loads(before)[0]) == 64
        visit.until(f"{SHOWN} !== {json.dumps(before)}")
        visit.until(f"{LEVELS}('tracker').length > {points}")
        assert visit.page.locator("section.array").screenshot() != drawn
        levels = visit.value(f"[...{LEVELS}('omp')]")
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
        points = visit.value(f"{LEVELS}('omp').length")
        visit.until(f"{LEVELS}('omp').length > {points}")

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


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def memory(pids: list[int]) -> float:
    """Return the memory of some processes, what they share counted once [MiB]."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def growth(series: list[float]) -> float:
    """Return the median of the last quarter over that of the first."""
    quarter = max(len(series) // 4, 1)
    return median(series[-quarter:]) / median(series[:quarter])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_page_left_open_does_not_grow(running: Any, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    children = family(os.getpid())
    server = max(pid for pid in children if b"Viewer(" in Path(f"/proc/{pid}/cmdline").read_bytes())
    with playwright.sync_playwright() as play:
        before = set(family(os.getpid()))
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            visit = Visit(browser, address, (1280, 800), "dark")
            begun = time.monotonic()
            used: dict[str, list[float]] = {"server": [], "browser": []}
            while (now := time.monotonic() - begun) < 60 * MINUTES:
                visit.page.wait_for_timeout(1e3 * EVERY)
                if now > WARM:
                    used["server"].append(memory([server]))
                    used["browser"].append(memory([*set(family(os.getpid())) - before]))
            points = visit.value(f"{LEVELS}('tracker').length")
            visit.until(
                f"{LEVELS}('tracker').at(-1) !== undefined && {MODEL}('headline').text.includes('state-running')"
            )
            complaints = [*visit.errors]
        finally:
            browser.close()
    told = {
        name: (round(median(series[:20])), round(median(series[-20:])), growth(series)) for name, series in used.items()
    }
    with capsys.disabled():
        print(f"\n{MINUTES:g} minutes [MiB, MiB, ratio]: {told}")
    assert points > min(50 * MINUTES, 800), "the page went on"
    assert complaints == []
    assert all(ratio < MOST for _, _, ratio in told.values()), told
