"""Run a flowgraph from Python: `beamslot.run(graph, ...)` returns what its sinks judged.

The run has a process of its own, so that notebooks and programs with threads can start one.
"""

import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from beamslot.errors import BadParam, FlowgraphError, RunFailed

BAD_GRAPH = 2
NAMES = {"for": "seconds"}
"""Options of the command line that are called otherwise here."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


class RunResult(Mapping[str, Any]):
    """The report of a run, by key and by attribute: `result["sinks"]["nmse"]`, `result.sinks`, `result.ok`.

    keys: graph, slots, seconds, slots_per_s, late_slots, pace, edges, blocks, end_to_end, paths, sinks, restarts,
        timeline, ok, exit_code, problems, notes, logs
    """

    def __init__(self, report: Mapping[str, Any]) -> None:
        self._report = dict(report)

    def __getitem__(self, key: str) -> Any:
        return self._report[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._report)

    def __len__(self) -> int:
        return len(self._report)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._report:
            raise AttributeError(f"a report has no {name!r}; it has {', '.join(self.__dict__.get('_report', ()))}")
        return self._report[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._report})

    def __repr__(self) -> str:
        from beamslot import tables

        judged = [
            f"{name} {tables.number(one['nmse_db'])} dB"
            for results in self._report.get("sinks", {}).values()
            for name, one in tables.judged(results)[0].items()
        ]
        return f"RunResult({', '.join([tables.headline(self._report), *judged, *self._report.get('problems', ())])})"

    def _repr_html_(self) -> str:
        from beamslot import tables

        return tables.to_html(tables.headline(self._report), tables.sheets(self._report))


def run(
    graph: str | Path | Mapping[str, Any],
    *,
    parameters: Mapping[str, Any] = NOTHING,
    slots: int | None = None,
    seconds: float | None = None,
    pace: float | str | None = None,
    seed: int | None = None,
    restart: str | None = None,
    chaos: int | str | None = None,
    blocks: Sequence[str | Path] = (),
    check: bool = True,
) -> RunResult:
    """Run a flowgraph to its end in a process of its own and return the report.

    graph: path of a YAML file, or the same structure as a mapping
    parameters: values by variable or "block.parameter"
    slots, seconds: how long, instead of what the graph says; one of the two
    pace: 1 or "realtime", inf or "max", or a factor of real time    seed: the run's seed
    restart: "on_failure" or "never", for blocks whose process ends, unless the graph says so of a block
    chaos: seed of blows against the run's processes, or "SEED[,every=SECONDS][,actions=kill+stop+cut]"; with it blocks
        are started again unless `restart` or the graph says otherwise
    blocks: Python files with blocks of one's own
    check: raise when the run fails; else return its report whatever happened
    raises FlowgraphError with every problem of the graph; RunFailed, which carries the report so far
    """
    if slots is not None and seconds is not None:
        raise BadParam(f"run: slots={slots} and seconds={seconds} came together; wanted one of them")
    if isinstance(blocks, str | Path | Mapping) or not all(isinstance(path, str | Path) for path in blocks):
        raise BadParam(
            f"run: got blocks={blocks!r}; wanted a list of paths of Python files: the run is another process"
        )
    mapping = isinstance(graph, Mapping)
    options = [f"--param={name}={to_text(value)}" for name, value in parameters.items()]
    given = {"slots": slots, "for": seconds, "pace": pace, "seed": seed, "restart": restart, "chaos": chaos}
    options += [f"--{name}={value}" for name, value in given.items() if value is not None]
    options += [f"--blocks={path}" for path in blocks]
    text = json.dumps(to_plain(graph)) if mapping else None
    code, out, err = _child([*options, "--", "-" if mapping else str(graph)], text)
    result = RunResult(_report(code, out, err))
    if check and code:
        _raise(result, err)
    return result


def _child(arguments: Sequence[str], text: str | None) -> tuple[int, str, str]:
    """Run the command line in a process group of its own, so that one Ctrl-C reaches it once, through us."""
    child = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", "beamslot", "run", "--json", "--quiet", "--with-parent", *arguments],
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        process_group=0,
    )
    try:
        out, err = child.communicate(text)
    except KeyboardInterrupt:
        _interrupt(child)
        raise
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    return child.returncode, out, err


def _interrupt(child: "subprocess.Popen[str]") -> None:
    """Pass Ctrl-C on: the first drains the run, a second aborts it."""
    for _ in range(2):
        child.send_signal(signal.SIGINT)
        try:
            child.communicate()
        except KeyboardInterrupt:
            continue
        return


def _report(code: int, out: str, err: str) -> dict[str, Any]:
    try:
        return json.loads(out)
    except ValueError:
        lines = err.strip().splitlines() or [f"the run ended with code {code} and said nothing"]
        usage = re.match(r"beamslot run: error: argument (?:--?\w+/)*--(\w+): (.*)", lines[-1])
        if usage:
            lines = [f"run: {NAMES.get(usage[1], usage[1])}: {usage[2]}"]
        return {"ok": False, "exit_code": code, "problems": lines}


def _raise(result: RunResult, err: str) -> None:
    problems = list(result.get("problems") or [f"the run ended with code {result.get('exit_code')}"])
    if result.get("exit_code") == BAD_GRAPH:
        raise FlowgraphError(*problems)
    said = [line for line in err.splitlines() if line and line not in problems]
    raise RunFailed("\n".join([*problems, *said]), dict(result))


def to_text(value: Any) -> str:
    """Return a value as the text of a parameter on the command line."""
    plain = to_plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def to_plain(value: Any, infinite: Callable[[float], Any] = str) -> Any:
    """Return a value in the terms of JSON: numbers and arrays of numpy, paths, tuples and sets turned.

    infinite: what becomes of inf and nan, which JSON has not; a flowgraph reads "inf" as the number
    """
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, infinite) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item, infinite) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return to_plain(value.tolist(), infinite)
    return infinite(value) if isinstance(value, float) and not math.isfinite(value) else value
