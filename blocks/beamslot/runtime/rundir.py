"""Where runs live: a private directory per user with one directory a run, for its sockets and its card.

The card (run.json) says who runs and where each port's tap is; it and the sockets vanish with the run.
"""

import contextlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beamslot.errors import TransportError

KEPT_LOGS = 20


def base() -> Path:
    """Return the user's directory of runs, made with mode 0700.

    raises TransportError when it belongs to somebody else or others may enter
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    root = Path(runtime) if runtime and os.access(runtime, os.W_OK) else Path(tempfile.gettempdir())
    path = root / f"beamslot-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise TransportError(f"{path}: must be a directory of yours that nobody else may enter (mode 0700)")
    return path


def create() -> Path:
    """Return a new directory for the sockets of one run; those of runs that died with their janitor go."""
    for path in base().glob("*/run.json"):
        with contextlib.suppress(OSError, ValueError):
            if not _alive(json.loads(path.read_text())["pid"]):
                shutil.rmtree(path.parent, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix="r", dir=base()))


def write_card(path: Path, name: str, ports: Mapping[str, str]) -> None:
    """Register the run: its name, this process, and the tap endpoint of every port."""
    card = {"name": name, "pid": os.getpid(), "started": time.time(), "ports": dict(ports)}
    draft = path / "run.tmp"
    draft.write_text(json.dumps(card))
    draft.rename(path / "run.json")


def runs() -> list[dict[str, Any]]:
    """Return the cards of all living runs, oldest first."""
    cards: list[dict[str, Any]] = []
    for path in base().glob("*/run.json"):
        with contextlib.suppress(OSError, ValueError):
            card: dict[str, Any] = json.loads(path.read_text())
            cards += [card] if _alive(card["pid"]) else []
    return sorted(cards, key=lambda card: card["started"])


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def logs(name: str) -> Path:
    """Return a new directory for the logs of a run; only the newest few are kept, and those of living runs."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "beamslot" / "runs"
    try:
        state.mkdir(parents=True, exist_ok=True)
        path = state / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{os.getpid()}"
        path.mkdir()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="beamslot-logs-"))
    for old in sorted(entry for entry in state.iterdir() if entry.is_dir())[:-KEPT_LOGS]:
        pid = old.name.rpartition("-")[2]
        if not (pid.isdigit() and _alive(int(pid))):
            shutil.rmtree(old, ignore_errors=True)
    return path
