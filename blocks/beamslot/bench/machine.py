"""What the figures were measured on, and the table that people read."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from beamslot.tables import Sheet, render

PACKAGES = ("beamslot", "numpy", "pyzmq", "msgpack", "ezmsg")


def describe() -> dict[str, Any]:
    """Return processor, cores, load, threads and versions."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "threads": os.environ.get("OMP_NUM_THREADS", "as the libraries choose"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def show(machine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table, and the machine under it."""
    from rich.console import Console
    from rich.table import Table

    table = Table("row", "value", "unit", "peer", "its value", "ratio", "runs", box=None)
    for row in rows:
        table.add_row(*(_cell(row[key]) for key in ("name", "value", "unit", "peer", "peer_value", "ratio", "runs")))
    console = Console(width=None if os.isatty(1) else 120)
    console.print(table)
    console.print(_line(machine), highlight=False)


def show_sheets(machine: Mapping[str, Any], sheets: Iterable[Sheet], notes: Sequence[str], width: int) -> None:
    """Print tables, what there is to say of them, and the machine.

    width: columns where there is no terminal to fit
    """
    from rich.console import Console

    console = Console(width=None if os.isatty(1) else width)
    for sheet in sheets:
        console.print(render(sheet))
        console.print()
    for line in (*notes, _line(machine)):
        console.print(line, highlight=False)


def _line(machine: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in machine.items())


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
