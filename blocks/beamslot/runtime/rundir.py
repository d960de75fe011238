"""Where runs live: a private directory per user with one directory a run, for its sockets and its card.

The card (run.json) says who runs and where each port's tap is, the status (status.json) how it stands, four times a
second; they and the sockets vanish with the run. What stays is its directory of record, elsewhere: `diary.py` says what
is in it.
"""

import contextlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from beamslot.errors import StorageError, TransportError

KEPT_LOGS = 20
CARD, STATUS = "run.json", "status.json"


def base() -> Path:
    """Return the user's directory of runs, made with mode 0700.

    raises TransportError when it belongs to somebody else or others may enter, StorageError when it cannot be made
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    root = Path(runtime) if runtime and os.access(runtime, os.W_OK) else Path(tempfile.gettempdir())
    path = root / f"beamslot-{os.getuid()}"
    with storing(path, "the directory of runs cannot be made", "set XDG_RUNTIME_DIR or TMPDIR to another place"):
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise TransportError(f"{path}: must be a directory of yours that nobody else may enter (mode 0700)")
    return path


def create() -> Path:
    """Return a new directory for the sockets of one run; those of runs that died with their janitor go.

    raises StorageError when it cannot be made
    """
    place = base()
    for path in place.glob(f"*/{CARD}"):
        with contextlib.suppress(OSError, ValueError):
            if not born(json.loads(path.read_text())["pid"]):
                shutil.rmtree(path.parent, ignore_errors=True)
    with storing(place, "no directory can be made in it", "make room there, or set XDG_RUNTIME_DIR elsewhere"):
        return Path(tempfile.mkdtemp(prefix="r", dir=place))


def write_card(path: Path, name: str, ports: Mapping[str, Sequence[str]], **more: Any) -> None:
    """Register the run: its name, this process, the tap endpoint of every port, and what else there is to know.

    raises StorageError when it cannot be written
    """
    card = {"name": name, "pid": os.getpid(), "started": time.time(), "ports": dict(ports), **more}
    _replace(path / CARD, card)


def write_status(path: Path, status: Mapping[str, Any]) -> None:
    """Write how a run stands, for whoever looks.

    raises StorageError when it cannot be written
    """
    _replace(path / STATUS, status)


def _replace(file: Path, value: Mapping[str, Any]) -> None:
    with storing(file.parent, f"{file.name} cannot be written", "make room there, or set XDG_RUNTIME_DIR elsewhere"):
        draft = file.with_suffix(".tmp")
        draft.write_text(json.dumps(value))
        draft.rename(file)


def read_status(path: Path) -> dict[str, Any] | None:
    """Return how a run stands; None where it has not said so yet, or is over."""
    try:
        return json.loads((path / STATUS).read_text())
    except (OSError, ValueError):
        return None


def runs() -> list[dict[str, Any]]:
    """Return the cards of all living runs, oldest first, each with the path of its directory."""
    cards: list[dict[str, Any]] = []
    for path in base().glob(f"*/{CARD}"):
        with contextlib.suppress(OSError, ValueError):
            card: dict[str, Any] = json.loads(path.read_text())
            cards += [{**card, "path": str(path.parent)}] if born(card["pid"]) else []
    return sorted(cards, key=lambda card: card["started"])


def born(pid: int) -> int | None:
    """Return when a living process was started [ticks since boot], None where there is none of that number.

    Number and birth together name a process: the number alone is given again to others.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


def state() -> Path:
    """Return the directory that holds the records of runs; it need not be there."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "beamslot" / "runs"


def logs(name: str) -> Path:
    """Return a new directory for the record of a run; only the newest few are kept, and those of living runs.

    raises StorageError when there is no place for it, among the temporary files neither
    """
    place = state()
    try:
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{datetime.now():%Y%m%d-%H%M%S.%f}-{name}-{os.getpid()}"
        path.mkdir()
    except OSError:
        return spare()
    for old in sorted(entry for entry in place.iterdir() if entry.is_dir())[:-KEPT_LOGS]:
        pid = old.name.rpartition("-")[2]
        if not (pid.isdigit() and born(int(pid))):
            shutil.rmtree(old, ignore_errors=True)
    return path


def spare() -> Path:
    """Return a new directory among the temporary files, for the record of a run that has no other place.

    raises StorageError when it cannot be made
    """
    with storing(Path(tempfile.gettempdir()), "no directory can be made in it", "make room there, or set TMPDIR"):
        return Path(tempfile.mkdtemp(prefix="beamslot-logs-"))


@contextlib.contextmanager
def storing(place: Path, what: str, advice: str) -> Generator[None]:
    """Tell of a disk that is full, read-only or otherwise in the way as an error of ours.

    raises StorageError with the place, what could not be done, why, and what would help
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{place}: {what}: {why(error)}; {advice}") from error


def why(error: OSError) -> str:
    """Return the reason of an error of the system, as part of a sentence."""
    return (error.strerror or str(error)).lower()
