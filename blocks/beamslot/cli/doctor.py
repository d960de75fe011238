"""`beamslot doctor`: whether this machine has what a run needs."""

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from beamslot.cli import options
from beamslot.cli.run import printer
from beamslot.errors import BeamslotError

SOCKET_PATH = 107
"""The longest path of a Unix socket on Linux [bytes]."""

LONGEST_NAME = len("/rabcdefgh/9999.tap")
"""What a run adds to the directory of runs for a socket [bytes]."""

LEAST_FILES = 256
"""Open files that a graph of a few dozen blocks needs."""

Check = dict[str, Any]


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    options.add_json(
        options.add_verb(verbs, "doctor", _act, "check that this machine can run graphs", "beamslot doctor")
    )


def _act(arguments: argparse.Namespace) -> int:
    found = [*checks()]
    ok = all(check["ok"] for check in found)
    if arguments.json:
        options.print_json({"ok": ok, "exit_code": int(not ok), "checks": found}, indent=2)
        return int(not ok)
    from beamslot.tables import Sheet, render

    rows = [
        ["ok" if check["ok"] else "BAD", check["what"], "\n".join(filter(None, (check["found"], check["advice"])))]
        for check in found
    ]
    printer().print(render(Sheet("This machine", ("", "what", "found"), rows, left=3)))
    return int(not ok)


def checks() -> Iterator[Check]:
    """Yield every check: what, what was found, whether it will do, and what to do if not."""
    version = platform.python_version()
    yield _check(
        "python", f"{version} at {sys.executable}", sys.version_info >= (3, 11), "install Python 3.11 or later"
    )
    yield from _packages()
    yield _zmq()
    yield from _machine()
    yield _files()
    yield from _directories()
    yield from _extras()


def _check(what: str, found: str, ok: bool, advice: str) -> Check:
    return {"what": what, "found": found, "ok": ok, "advice": "" if ok else advice}


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def needs() -> dict[str, list[str]]:
    """Return the packages that beamslot needs, by extra; those of every install under ""."""
    from importlib import metadata

    found: dict[str, list[str]] = {}
    for line in metadata.requires("beamslot") or ():
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra\s*==\s*['\"]([\w-]+)", line)
        if name:
            found.setdefault(extra.group(1) if extra else "", []).append(name.group())
    return found


def _packages() -> Iterable[Check]:
    for package in ["beamslot", *needs().get("", ())]:
        version = _version(package)
        yield _check(package, version or "missing", version is not None, f"python -m pip install {package}")


def _zmq() -> Check:
    try:
        import zmq
    except ImportError as error:
        return _check("libzmq", str(error), False, "python -m pip install --force-reinstall pyzmq")
    said = f"{zmq.zmq_version()}{', with CURVE' if zmq.has('curve') else ''}"
    return _check("libzmq", said, zmq.has("ipc"), "beamslot needs a libzmq with ipc; use the wheel of pyzmq")


def _machine() -> Iterable[Check]:
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    yield _check("cores", f"{cores} usable, load {load:.1f}", True, "")
    from beamslot.cli import THREADS

    yield _check("threads", " ".join(f"{name}={os.environ.get(name, '-')}" for name in THREADS), True, "")
    clock = time.get_clock_info("monotonic")
    yield _check(
        "clock", f"{clock.implementation}, {clock.resolution * 1e9:.0f} ns", clock.resolution <= 1e-5, "slots are late"
    )


def _files() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _check("open files", f"{soft} of {hard}", soft >= LEAST_FILES, f"ulimit -n {max(1024, LEAST_FILES)}")


def _directories() -> Iterable[Check]:
    advice = "make it a directory of yours, or point XDG_RUNTIME_DIR or TMPDIR elsewhere"
    try:
        from beamslot.runtime import rundir

        base = rundir.base()
        writable = os.access(base, os.W_OK | os.X_OK)
    except (BeamslotError, OSError, ImportError) as error:
        yield _check("directory of runs", str(error), False, advice)
        return
    yield _check("directory of runs", str(base), writable, advice)
    longest = len(os.fsencode(base)) + LONGEST_NAME
    yield _check(
        "socket path", f"{longest} of {SOCKET_PATH} bytes", longest <= SOCKET_PATH, "set TMPDIR to a shorter path"
    )


def _extras() -> Iterable[Check]:
    for extra, packages in needs().items():
        if not extra:
            continue
        missing = [package for package in packages if _version(package) is None]
        there = ", ".join(f"{package} {_version(package)}" for package in packages if package not in missing)
        advice = f"optional: python -m pip install 'beamslot[{extra}]'" if missing else ""
        found = "; ".join(part for part in (there, f"missing {', '.join(missing)}" if missing else "") if part)
        yield {"what": f"extra {extra}", "found": found, "ok": True, "advice": advice}
