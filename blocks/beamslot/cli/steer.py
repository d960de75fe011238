"""`beamslot get`, `set`, `pause`, `resume`, `restart`, `stop`: steer a graph that runs."""

import argparse
from collections.abc import Mapping
from typing import Any

from beamslot.cli import options

EXAMPLE = "beamslot set source.snr_db=0 demo:omp.deadline=2e-3"


def register(verbs: options.Verbs) -> None:
    """Add the verbs."""
    get = options.add_verb(verbs, "get", _get, "show the parameters that may change while a graph runs", "beamslot get")
    get.add_argument(
        "names", metavar="[RUN:][BLOCK[.KEY]]", nargs="*", help="only these; all of the newest run where none is given"
    )
    options.add_json(get)
    change = options.add_verb(
        verbs, "set", _set, "change parameters of a running graph, from one slot on that is told", EXAMPLE
    )
    change.add_argument(
        "changes", metavar="[RUN:]BLOCK.KEY=VALUE", nargs="+", help="what to change; pace=VALUE changes that of the run"
    )
    change.add_argument("--at", type=int, metavar="SLOT", help="not before this slot; else as soon as can be")
    options.add_json(change)
    for verb, does in (
        ("pause", "let the sources of a running graph make no more slots"),
        ("resume", "let the sources of a paused graph go on"),
    ):
        options.add_json(_of_run(options.add_verb(verbs, verb, _simple, does, f"beamslot {verb} demo")))
    again = options.add_verb(
        verbs,
        "restart",
        _restart,
        "start a block of a running graph anew; no slot is lost",
        "beamslot restart demo:omp",
    )
    again.add_argument("block", metavar="[RUN:]BLOCK", help="the block whose process is started again")
    options.add_json(again)
    stop = _of_run(
        options.add_verb(verbs, "stop", _stop, "end a running graph when all under way is done", "beamslot stop demo")
    )
    stop.add_argument("--now", action="store_true", help="at once; what is under way is counted as stopped")
    options.add_json(stop)


def _of_run(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("run", metavar="RUN", nargs="?", default="", help="name or pid; the newest where left out")
    return parser


def _get(arguments: argparse.Namespace) -> int:
    from beamslot.probe import attach

    names = [name.rpartition(":") for name in arguments.names] or [("", "", "")]
    found: dict[str, dict[str, Any]] = {}
    for run, _, path in names:
        told = attach(run).parameters()
        for block, values in _picked(told["parameters"], path).items():
            found.setdefault(block, {}).update(values)
        if path in ("", "pace"):
            found["pace"] = {"value": told["pace"], "description": "slots per slot period"}
    if arguments.json:
        options.print_json(found)
    else:
        _print(found)
    return 0


def _picked(parameters: Mapping[str, Mapping[str, Any]], path: str) -> dict[str, dict[str, Any]]:
    """Return the parameters that "", "BLOCK" or "BLOCK.KEY" names; raises UnknownBlock, BadParam with the nearest."""
    from beamslot.errors import BadParam, UnknownBlock
    from beamslot.runtime.graph import near

    block, _, key = path.partition(".")
    if path in ("", "pace"):
        return {name: dict(values) for name, values in parameters.items()} if not path else {}
    if block not in parameters:
        raise UnknownBlock(f"get: no block {block!r} has parameters that may change; {near(block, parameters)}")
    if key and key not in parameters[block]:
        raise BadParam(f"get: {block} has no {key!r} that may change; {near(key, parameters[block])}")
    return {block: {key: parameters[block][key]} if key else dict(parameters[block])}


def _print(found: Mapping[str, Mapping[str, Any]]) -> None:
    from rich.table import Table

    from beamslot.cli.run import printer

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("parameter", "value", "unit", "limits", "meaning"):
        table.add_column(title, overflow="fold", no_wrap=title == "parameter")
    for block, values in found.items():
        if block == "pace":
            table.add_row("pace", str(values["value"]), "", "> 0", values["description"])
            continue
        for name, one in values.items():
            table.add_row(f"{block}.{name}", str(one["value"]), one.get("unit", ""), limits(one), one["description"])
    printer().print(table)


def limits(declared: Mapping[str, Any]) -> str:
    """Return what values a parameter may have, in short."""
    if "enum" in declared:
        return ", ".join(map(str, declared["enum"]))
    words = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return ", ".join(f"{word} {declared[key]:g}" for key, word in words.items() if key in declared)


def _set(arguments: argparse.Namespace) -> int:
    from beamslot.probe import attach

    told: list[dict[str, Any]] = []
    for (run, block), values in _changes(arguments.changes).items():
        attached = attach(run)
        slot = attached.change(block, values, at=arguments.at)
        told.append({"run": attached.name, "block": block, "slot": slot, "values": values})
        if not arguments.json:
            for name, value in values.items():
                print(f"{attached.name}:{block and block + '.'}{name} = {value} from slot {slot} on")
    if arguments.json:
        options.print_json(told)
    return 0


def _changes(texts: list[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the values to be set by run and block; those of one block hold from one slot on."""
    from beamslot.errors import BadParam
    from beamslot.flowgraph.values import value_of

    found: dict[tuple[str, str], dict[str, Any]] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        run, _, path = path.strip().rpartition(":")
        block, dot, key = path.partition(".")
        if not equals or not path or (dot and not (block and key)):
            raise BadParam(f"set: got {text!r}; wanted BLOCK.KEY=VALUE, as in source.snr_db=10, or pace=VALUE")
        found.setdefault((run, block if dot else ""), {})[key if dot else block] = value_of(value, f"set {text}")
    return found


def _simple(arguments: argparse.Namespace) -> int:
    from beamslot.probe import attach

    run = attach(arguments.run)
    answer = run.ask(arguments.verb)
    return _told(arguments, answer, f"{run.name}: {arguments.verb}d at slot {answer['slot']}")


def _restart(arguments: argparse.Namespace) -> int:
    from beamslot.probe import attach

    name, _, block = arguments.block.rpartition(":")
    run = attach(name)
    answer = run.ask("restart", block=block)
    return _told(arguments, answer, f"{run.name}: {', '.join(answer['processes'])} started again")


def _stop(arguments: argparse.Namespace) -> int:
    from beamslot.probe import attach

    run = attach(arguments.run)
    answer = run.ask("stop", now=arguments.now)
    how = "stops at once" if arguments.now else "ends when what is under way is done"
    return _told(arguments, answer, f"{run.name}: {how}")


def _told(arguments: argparse.Namespace, answer: Mapping[str, Any], text: str) -> int:
    options.print_json(answer) if arguments.json else print(text)
    return 0
