"""`beamslot doctor`: whether this machine has what a run needs."""

import argparse
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from tempfile import gettempdir
from typing import Any

from beamslot.cli import options
from beamslot.cli.run import printer
from beamslot.errors import BeamslotError

SOCKET_PATH = 107
"""The longest path of a Unix socket on Linux [bytes]."""

LONGEST_NAME = len("/rabcdefgh/9999.tap")
"""What a run adds to the directory of runs for a socket [bytes]."""

LEAST_FILES = LEAST_PROCESSES = 256
"""Open files of a process, and processes and threads of a user, that a graph of a few dozen blocks needs."""

LEAST_ROOM, GOOD_ROOM = 16 * 2**20, 2**30
"""Space on a disk without which runs fail, and that which records of runs use up in months [bytes]."""

NAPS, NAP, LATE = 100, 1e-3, 1e-3
"""How often and how long the clock is tried, and how late it may wake as a rule before paced runs suffer [s]."""

LEAST_MEMORY = 512 * 2**20
"""Memory that a small graph needs, a process a block [bytes]."""

CGROUPS, SHARED = Path("/sys/fs/cgroup"), Path("/dev/shm")  # noqa: S108 (looked at, not written)

COMPILERS = ("cc", "c++", "gcc", "g++", "clang")

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
    yield from _limits()
    yield from _directories()
    yield from _room()
    yield _compilers()
    yield _kernel()
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
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    busy = f"other programs take the cores; paced runs will be late (load {load:.1f})" if load > cores else ""
    yield _advised("cores", f"{cores} usable, load {load:.1f}", busy)
    yield _threads()
    yield from _clock()
    yield from _group()


def _advised(what: str, found: str, advice: str) -> Check:
    """Return a finding that stops no run; advice where it could be better."""
    return {"what": what, "found": found, "ok": True, "advice": advice}


def _threads() -> Check:
    from beamslot.cli import THREADS

    found = {name: os.environ.get(name, "-") for name in THREADS}
    many = [name for name, value in found.items() if value not in {"1", "-"}]
    advice = f"blocks are processes, whose threads would fight for the cores: unset {' '.join(many)}" if many else ""
    return _advised("threads", " ".join(f"{name}={value}" for name, value in found.items()), advice)


def _clock() -> Iterable[Check]:
    clock = time.get_clock_info("monotonic")
    said = f"{clock.implementation}, {clock.resolution * 1e9:.0f} ns"
    yield _check("clock", said, clock.resolution <= 1e-5, "slots are late: boot with another clocksource, such as tsc")
    late = sorted(_oversleep() for _ in range(NAPS))
    median, worst = late[NAPS // 2], late[-1]
    advice = "" if median <= LATE else "paced slots are late by as much: take load off the machine, or a slower pace"
    said = f"{NAP * 1e3:.0f} ms of sleep end {median * 1e6:.0f} us late as a rule, {worst * 1e6:.0f} us at worst"
    yield _advised("wake-up", said, advice)


def _oversleep() -> float:
    """Return how late a short sleep ends [s]."""
    before = time.monotonic()
    time.sleep(NAP)
    return time.monotonic() - before - NAP


def _group() -> Iterable[Check]:
    """Yield what the control group of this process (a container, a service) allows, where it limits anything."""
    cpu, memory = allowance(CGROUPS, Path("/proc/self/cgroup"))
    cores = len(os.sched_getaffinity(0))
    if cpu is not None:
        advice = f"programs see {cores} cores: run fewer blocks at once, or raise cpu.max" if cpu < cores else ""
        yield _advised("cgroup cpu", f"{cpu:g} cores", advice)
    if memory is not None:
        enough = memory >= LEAST_MEMORY
        yield _check("cgroup memory", _size(memory), enough, f"raise memory.max to {_size(LEAST_MEMORY)} or more")


def allowance(root: Path, own: Path) -> tuple[float | None, int | None]:
    """Return the cores and the memory [bytes] that control groups (version 2) allow, None for no limit.

    root: where they are mounted    own: the file that says which group this process is in
    """
    line = next((line for line in _read(own).splitlines() if line.startswith("0::/")), "0::/")
    inner = root / line.removeprefix("0::/")
    groups = [inner, *(group for group in inner.parents if group.is_relative_to(root))]
    quotas = [_read(group / "cpu.max").split() for group in groups]
    limits = [_read(group / "memory.max").strip() for group in groups]
    cores = [int(quota) / int(period) for quota, period in filter(None, quotas) if quota != "max"]
    return min(cores, default=None), min((int(limit) for limit in limits if limit not in {"", "max"}), default=None)


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def _size(nbytes: float) -> str:
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.0f} MiB"


def _limits() -> Iterable[Check]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield _check("open files", _of(soft, hard), _reaches(soft, LEAST_FILES), f"ulimit -n {max(1024, LEAST_FILES)}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    yield _check("processes", _of(soft, hard), _reaches(soft, LEAST_PROCESSES), "ulimit -u 4096")
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    yield _advised("locked memory", _of(soft, hard, _size), "")


def _of(soft: int, hard: int, text: Callable[[int], str] = str) -> str:
    """Return a limit and the highest that may be asked for."""
    return " of ".join("unlimited" if limit < 0 else text(limit) for limit in (soft, hard))


def _reaches(limit: int, least: int) -> bool:
    return limit < 0 or limit >= least


def _room() -> Iterable[Check]:
    """Yield the free space where runs keep sockets, memory and records."""
    from beamslot.runtime import rundir

    state = rundir.state()
    there = next(path for path in (state, *state.parents) if path.exists())
    for what, path in (("shared memory", SHARED), ("temporary files", Path(gettempdir())), ("records", there)):
        if path.is_dir():
            free = shutil.disk_usage(path).free
            advice = "runs fail on a full disk: remove something" if free < GOOD_ROOM else ""
            yield {**_advised(f"room: {what}", f"{_size(free)} free in {path}", advice), "ok": free >= LEAST_ROOM}


def _compilers() -> Check:
    """Return which compilers there are, all asked at once; only blocks of compiled code want one."""
    asked = {
        name: Popen([path, "--version"], stdout=PIPE, stderr=DEVNULL, text=True)  # noqa: S603 (of this list)
        for name in COMPILERS
        if (path := shutil.which(name))
    }
    said = {name: process.communicate()[0].splitlines() for name, process in asked.items()}
    found = [f"{name}: {lines[0]}" for name, lines in said.items() if lines]
    return _advised("compilers", "\n".join(found) or "none", "" if found else "optional: install gcc and g++, or clang")


def _kernel() -> Check:
    """Return which form of the search for paths runs here; the slow one stops no run, a name that is none does."""
    from beamslot.dsp import kernel

    variants = kernel.variants()
    wanted = os.environ.get("BEAMSLOT_KERNEL")
    if wanted and wanted not in variants:
        said = f"BEAMSLOT_KERNEL is {wanted!r}, which does not run here"
        return _check("kernel", said, False, f"unset BEAMSLOT_KERNEL, or set it to one of {', '.join(variants)}")
    if variants == (kernel.NUMPY,):
        again = "python -m pip install --force-reinstall --no-deps --no-cache-dir"
        advice = f"vp_nomp is some 30 times slower: install a C++17 compiler, then {again} and beamslot as before"
        return _advised("kernel", "numpy: no compiler when it was installed", advice)
    others = ", ".join(variant for variant in variants if variant != (wanted or variants[0]))
    if wanted:
        slow = "vp_nomp is some 30 times slower: unset BEAMSLOT_KERNEL" if wanted == kernel.NUMPY else ""
        return _advised("kernel", f"{wanted}, as BEAMSLOT_KERNEL says; there is {others}", slow)
    return _advised("kernel", f"{variants[0]}; there is {others}", "")


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
