"""Run `flowgraphs/live.yml`, open its page in Chromium, and keep pictures of it: `python tools/screenshots [FOLDER]`.

It needs the extra `view`, Playwright's Python package, and Debian's Chromium; it takes some two minutes.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PICTURES = (("view-dark.png", (1920, 1080), "dark"), ("view-light.png", (1280, 800), "light"))
"""Name, size [px] and theme."""

KILLED_AT, TAKEN_AT = 900, 1560
"""Slots at which a block is killed, and at which the pictures are taken: SNR has gone down and up, paths were born, OMP
looks deeper, and some RF chains are dead."""

PATIENCE = 240.0
"""How long a loaded machine may take to come to a slot [s]."""

LOST = "omp"
"""Block that is killed on the way, so that a restart can be seen."""

SERVER = "from beamslot.view.server import Viewer; v = Viewer('live'); print(v.url, flush=True); v.serve()"

READY = "window.Bokeh?.documents[0]?.get_model_by_name('beat')?.value.endsWith(' {}')"


@contextmanager
def started(*words: Any, quiet: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Start a process, and end it with an interrupt."""
    sink = subprocess.DEVNULL if quiet else subprocess.PIPE
    with subprocess.Popen([sys.executable, "-P", *words], stdout=sink, text=True, cwd=ROOT) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)


def until(condition: Any, seconds: float) -> Any:
    """Return the first true value of a condition; raises TimeoutError after so long [s]."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing came of it within {seconds:g} s")
        time.sleep(0.1)
    return value


def reach(page: Any, card: Any, slot: int) -> None:
    """Let a page live until the run has come to a slot; raises TimeoutError where it does not."""
    from beamslot.runtime import observe

    deadline = time.monotonic() + PATIENCE
    while not ((seen := observe.look(card)) and seen.status["slots"] >= slot):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the run did not come to slot {slot}")
        page.wait_for_timeout(200)


def main(folder: Path) -> None:
    """Make the pictures."""
    from playwright.sync_api import sync_playwright

    from beamslot.runtime import observe, rundir

    chromium = shutil.which("chromium") or sys.exit("screenshots: chromium is not installed; apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bs-")))
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
            (place / name[4:5]).mkdir(mode=0o700)
            os.environ[name] = str(place / name[4:5])
        graph = ROOT / "flowgraphs" / "live.yml"
        stack.enter_context(started("-m", "beamslot", "run", graph, "--restart", "on_failure", "--quiet", quiet=True))
        seen: Any = until(lambda: [s for c in rundir.runs() if (s := observe.look(c)) and s.status["slots"]], 60)[0]
        viewer = stack.enter_context(started("-c", SERVER))
        assert viewer.stdout is not None  # noqa: S101
        address = viewer.stdout.readline().strip()
        play = stack.enter_context(sync_playwright())
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        stack.callback(browser.close)
        pages = []
        for _, (width, height), theme in PICTURES:
            page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme).new_page()
            page.goto(address, timeout=120_000)
            page.wait_for_function(READY.format(theme), timeout=120_000)
            pages.append(page)
        reach(pages[0], seen.card, KILLED_AT)
        for process in seen.status["processes"]:
            if LOST in process["blocks"]:
                os.kill(process["pid"], signal.SIGKILL)
        reach(pages[0], seen.card, TAKEN_AT)
        for page, (name, _, _) in zip(pages, PICTURES, strict=True):
            page.screenshot(path=folder / name, full_page=True)
            print(folder / name, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
