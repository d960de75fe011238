"""The parts of the page that are HTML: what stands at the top, the graph, the blocks, the estimators, what was seen."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from beamslot import tables
from beamslot.runtime.observe import Rates, drops_into, made
from beamslot.view import graph
from beamslot.view.watch import ENDED, WAITING, Picture

DOWN = "down"
"""State of a block none of whose processes is there."""

STATE_WORDS = {WAITING: "waiting for a run", ENDED: "ended"}

COVERED, LOUDEST = "0.9", 3
"""Error bars whose coverage is shown; chains in alarm that are named."""

ALARM_WORDS = {1: "above", -1: "below", 0: "within"}

NOTES = 4
"""Newest notes of the run that are shown."""

QUERY = "run"
"""Name of the run in the address of a page."""


def states(status: Mapping[str, Any], rates: Rates, state: str) -> dict[str, str]:
    """Return the state of every block: what it says, `down` while its processes are gone, `ended` when the run is."""
    blocks = status.get("blocks") or {}
    alive = {name for process in status.get("processes") or () for name in process["blocks"]}
    if state == ENDED:
        return dict.fromkeys(blocks, ENDED)
    return {name: block["state"] if name in alive else DOWN for name, block in blocks.items()}


def headline(picture: Picture, token: str = "") -> str:
    """Return the line at the top: the run, its state, and its figures."""
    status = picture.status
    name = escape(picture.name or "beamslot")
    state = escape(STATE_WORDS.get(picture.state, picture.state))
    parts = [f'<span class="run">{name}</span><span class="pill state-{escape(picture.state)}">{state}</span>']
    if status:
        total = f" of {tables.number(status['total'])}" if status.get("total") else ""
        dropped = sum(sum(edge["dropped"].values()) for edge in status["edges"])
        latency = status.get("end_to_end") or {}
        parts += [
            _figure("slots", f"{tables.number(status['slots'])}{total}"),
            _figure("now", tables.rate(made(status, picture.rates))),
            _figure("end to end p50", tables.span(latency.get("p50_us"))),
            _figure("p99", tables.span(latency.get("p99_us"))),
            _figure("late", tables.number(status["late_slots"]), status["late_slots"] > 0),
            _figure("dropped", tables.number(dropped), dropped > 0),
            _figure("restarts", tables.number(status["restarts"]), status["restarts"] > 0),
            _figure("up", duration(status["seconds"])),
        ]
        raised = [name for name, one in (status.get("sinks") or {}).items() if tables.is_alarm(one) and one["alarm"]]
        parts += [_figure("drift alarm", name, True) for name in raised]
    others = [other for other in dict.fromkeys(picture.others) if other != picture.name]
    if others:
        secret = f"&token={escape(token, quote=True)}" if token else ""
        links = " ".join(f'<a href="?{QUERY}={escape(o, quote=True)}{secret}">{escape(o)}</a>' for o in others)
        parts.append(f'<span class="figure"><small>also running</small><span>{links}</span></span>')
    return f'<div class="headline">{"".join(parts)}</div>'


def _figure(name: str, value: str, warns: bool = False) -> str:
    return f'<span class="figure{" warns" if warns else ""}"><small>{escape(name)}</small>{escape(value)}</span>'


def duration(seconds: float) -> str:
    """Return how long something lasts, as people read it."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {whole % 60:02d} s"


def drawing(picture: Picture) -> str:
    """Return the graph of the run, with its rates now."""
    status, card = picture.status, picture.card
    if not status:
        return _nothing(picture)
    now, kinds = states(status, picture.rates, picture.state), card.get("blocks") or {}
    nodes = [
        graph.Node(
            name,
            str((kinds.get(name) or {}).get("class", "")).rpartition(":")[2],
            now[name],
            f"{now[name]}  {tables.span(block.get('p50_us'))}",
            block["restarts"],
        )
        for name, block in status["blocks"].items()
    ]
    edges = [
        graph.Edge.of(
            edge["edge"],
            tables.rate(picture.rates.edges[edge["edge"]]) if edge["edge"] in picture.rates.edges else "",
            sum(edge["dropped"].values()),
        )
        for edge in status["edges"]
    ]
    return graph.svg(nodes, edges)


def _nothing(picture: Picture) -> str:
    wanted = f"no run is called {picture.name}" if picture.name else "nothing runs"
    return f'<p class="note">{escape(wanted)}; start one with <code>beamslot run flowgraphs/live.yml</code></p>'


def blocks(picture: Picture) -> str:
    """Return the table of the blocks; drops are those on their way in."""
    status, rates = picture.status, picture.rates
    now, dropped = states(status, rates, picture.state), drops_into(status)
    rows = [
        [
            f'<i class="lamp state-{escape(now[name])}"></i>{escape(name)}',
            escape(now[name]),
            tables.number(block["slots"]),
            tables.rate(rates.slots.get(name)),
            tables.span(block.get("p50_us")),
            tables.span(block.get("p99_us")),
            tables.NONE if rates.cpu.get(name) is None else f"{100 * rates.cpu[name]:.0f} %",
            tables.NONE if rates.memory.get(name) is None else f"{rates.memory[name] / 2**20:.0f} MiB",
            _warning(tables.drops(dropped.get(name, {}))),
            _warning(tables.number(block["restarts"])),
        ]
        for name, block in (status.get("blocks") or {}).items()
    ]
    heads = ("block", "state", "slots", "now", "p50", "p99", "core", "memory", "dropped", "restarts")
    return table(heads, rows, left=2)


def _warning(text: str) -> str:
    return escape(text) if text == "0" else f'<b class="warns">{escape(text)}</b>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Return a table of cells that are HTML already; the first `left` columns are names."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(f"<{tag}{'' if i < left else ' class=n'}>{cell}</{tag}>" for i, cell in enumerate(cells))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{line('th', heads)}</tr></thead><tbody>{body}</tbody></table>"


def estimators(picture: Picture, colours: Mapping[str, str], symbols: Mapping[str, str]) -> str:
    """Return the estimators with their colours and symbols: the legend of all plots, and how they stand."""
    if not picture.estimators:
        return '<p class="note">No port of this graph gives estimates of a channel.</p>' if picture.described else ""
    judged: dict[str, dict[str, Any]] = {}
    for results in (picture.status.get("sinks") or {}).values():
        for name, one in results.items():
            if isinstance(one, Mapping):  # several sinks may judge an estimator, each in its own way
                judged.setdefault(name, {}).update(one)
    shown = picture.shown.paths if picture.shown else {}
    angles = any("total_rmse_deg" in one for one in judged.values())
    rows = [
        [
            f'<i class="mark" style="color:{colours[one.name]}">{symbols[one.name]}</i>'
            f'<i class="swatch" style="background:{colours[one.name]}"></i>{escape(one.name)}',
            level(one.level),
            level(judged.get(one.name, {}).get("nmse_db")),
            *([tables.number(judged.get(one.name, {}).get("total_rmse_deg"), 3)] if angles else []),
            tables.number(one.paths) if one.name in shown else tables.NONE,
            tables.number(one.iterations) if one.name in shown else tables.NONE,
        ]
        for one in picture.estimators
    ]
    if picture.bound is not None or picture.bound_now is not None:
        name = '<i class="mark"></i><i class="swatch bound"></i>Cramér-Rao bound'
        rows.append([name, level(picture.bound_now), level(picture.bound), *([tables.NONE] if angles else []), "", ""])
    angular = ("angle RMSE [deg]",) if angles else ()
    return table(("NMSE [dB]", "now", "whole run", *angular, "paths", "rounds"), rows)


def pairs(picture: Picture) -> str:
    """Return the differences between estimators on the same slots, where a sink gives any."""
    found = [pair for one in _sinks(picture) for pair in tables.judged_pairs(one).items()]
    rows = [
        [escape(name), level(one["difference_db"]), _between(one["ci95_db"]), tables.percent(one["better_share"])]
        for name, one in found
    ]
    heads = ("on the same slots", "NMSE [dB]", "95 %", "better [%]")
    return table(heads, rows) + "<br>" if rows else ""


def quality(picture: Picture) -> str:
    """Return whether the error bars of estimators hold and what is left of their residuals, where a sink says so."""
    found = [item for one in _sinks(picture) for item in tables.judged_quality(one).items()]
    rows = [
        [
            escape(name),
            level(one.get("over_crb_db")),
            tables.percent((one.get("coverage") or {}).get(COVERED)),
            tables.percent(one.get("white_share")),
            tables.percent(one["converged_share"]),
        ]
        for name, one in found
    ]
    heads = ("quality", "over CRB [dB]", f"in {100 * float(COVERED):g} % bar [%]", "white [%]", "converged [%]")
    return table(heads, rows) + "<br>" if rows else ""


def alarms(picture: Picture) -> str:
    """Return how the drift alarms stand, where there are any."""
    rows = [
        [
            escape(name),
            f'<b class="warns">{ALARM_WORDS[one["alarm"]]}</b>'
            if one["alarm"]
            else ("learning" if one["learning"] else ALARM_WORDS[0]),
            escape(" ".join(f"{column}.{chain}" for column, chain in (one.get("chains") or ())[:LOUDEST]))
            or tables.NONE,
            tables.number(one["alarms"]),
            tables.number(one.get("since")),
        ]
        for name, one in (picture.status.get("sinks") or {}).items()
        if tables.is_alarm(one)
    ]
    return table(("drift alarm", "now", "chains", "alarms", "newest slot"), rows) + "<br>" if rows else ""


def _sinks(picture: Picture) -> list[Mapping[str, Any]]:
    return [*(picture.status.get("sinks") or {}).values()]


def _between(interval: Sequence[float] | None) -> str:
    return tables.NONE if interval is None else " … ".join(level(end) for end in interval)


def level(decibels: float | None) -> str:
    """Return a level in dB as people read it."""
    return tables.NONE if decibels is None or not math.isfinite(decibels) else f"{decibels:.1f}"


def taps(picture: Picture) -> str:
    """Return what the page has seen of each port, gaps among it, and the newest notes of the run."""
    rows = [
        [
            escape(port),
            tables.number(seen.seen),
            f"{100 * seen.share:.0f} %",
            _warning(tables.drops(seen.gaps)),
        ]
        for port, seen in picture.seen.items()
    ]
    parts = [table(("tapped port", "slots seen", "of those passed", "gaps"), rows)] if rows else []
    if rows and picture.share < 1:
        parts.append(
            f'<p class="note">The run is fast: taps are heard {100 * picture.share:.0f} % of the time. '
            "Figures of blocks and edges count every slot.</p>"
        )
    notes = list(picture.status.get("notes") or ())[-NOTES:]
    parts += [f'<p class="note warns">{escape(note)}</p>' for note in notes]
    if picture.trouble:
        parts.append(f'<p class="note warns">{escape(picture.trouble)}</p>')
    return "".join(parts) or '<p class="note">No port is tapped.</p>'
