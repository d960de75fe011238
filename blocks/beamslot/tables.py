"""Reports of runs as tables: pure functions from what `launch` says to sheets, and from sheets to text and HTML.

A report is the dict that `launch` returns; a status is the same so far, with `state` and `notes`.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

Report = Mapping[str, Any]
NONE = "-"
BOUND = "crb"
INTERRUPTED = 130
STYLES = {"done": "bold green", "interrupted": "bold yellow", "failed": "bold red"}
BLOCKS = "Blocks"
LEGEND = (
    "per call: one `process`, which takes a frame of slots; late: given out more than a frame after it was due\n"
    "end to end: from the capture of a slot (when it was due, where the run is paced) to the sink, per frame; "
    "at pace max mostly queueing"
)
COVERED = ("0.5", "0.9", "0.95")
"""Levels of the intervals whose coverage `quality_sink` tells."""
LOUDEST = 3
"""Chains in alarm that are named."""
NOTES = 12
"""Newest notes that stand under the tables."""


@dataclass(frozen=True)
class Sheet:
    """A table as texts; the first `left` columns are names, the others numbers.

    columns: their heads; one that begins with "?" is left out where all its cells are 0
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    @property
    def says_something(self) -> bool:
        """Whether any cell beside the names is not empty or 0."""
        return any(cell not in {"", "0", NONE} for row in self.rows for cell in row[self.left :])

    def shown(self) -> "Sheet":
        """Return the sheet as people see it, without the columns that say nothing."""
        kept = [
            index
            for index, column in enumerate(self.columns)
            if not column.startswith("?") or any(row[index] not in {"0", ""} for row in self.rows)
        ]
        columns = [self.columns[index].removeprefix("?") for index in kept]
        return Sheet(self.title, columns, [[row[index] for index in kept] for row in self.rows], self.left)


def number(value: Any, digits: int = 2) -> str:
    """Return a number as people read it; what is not a number, as text."""
    if value is None:
        return NONE
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def span(microseconds: float | None) -> str:
    """Return a time span in the unit that suits it."""
    if microseconds is None:
        return NONE
    for limit, unit in ((1e3, "us"), (1e6, "ms")):
        if microseconds < limit:
            return f"{microseconds * 1e3 / limit:.3g} {unit}"
    return f"{microseconds / 1e6:.3g} s"


def rate(per_second: float | None) -> str:
    """Return a rate of slots in the unit that suits it."""
    if per_second is None:
        return NONE
    return f"{per_second / 1e3:.3g} k/s" if per_second >= 1e3 else f"{per_second:.3g} /s"


def headline(report: Report, total: int | None = None) -> str:
    """Return the run in one line: name, state, slots, rate, late slots, seconds."""
    slots = number(report.get("slots") or 0)
    parts = [
        str(report.get("graph", "")),
        str(report.get("state") or outcome(report)),
        f"{slots} of {number(total)} slots" if total else f"{slots} slots",
        rate(report.get("slots_per_s")),
        f"{number(report.get('late_slots') or 0)} late",
        f"{report.get('seconds') or 0:.1f} s",
    ]
    return "  ".join(part for part in parts if part)


def outcome(report: Report) -> str:
    """Return how a finished run went, in one word."""
    return "done" if report.get("ok") else "interrupted" if report.get("exit_code") == INTERRUPTED else "failed"


def block_sheet(report: Report) -> Sheet:
    """Return slots, latency and trouble of each block, while it runs its state; and the latency from end to end.

    cut short: slots for which a deadline came before the block was done    refused: messages that came from strangers
    """
    running = "exit_code" not in report
    rows = [
        [name, *_block(block, running), *_latency(block), *_trouble(block)]
        for name, block in (report.get("blocks") or {}).items()
    ]
    if report.get("end_to_end"):
        rows.append(["end to end", "", "", "", *_latency(report["end_to_end"]), "", "", ""])
    paths = report.get("paths") or ()
    if len({str(path.get("p50_us")) for path in paths}) > 1:  # paths that meet in one call took the same
        rows += [[f"  {' > '.join(path['path'])}", "", "", "", *_latency(path), "", "", ""] for path in paths]
    heads = ("block", "?state", "?replicas", "slots", "p50 per call", "p95 per call", "p99 per call")
    return Sheet(BLOCKS, (*heads, "?cut short", "?restarts", "?refused"), rows)


def _block(block: Mapping[str, Any], running: bool) -> list[str]:
    replicas = block.get("replicas") or 1
    state = str(block.get("state") or "") if running else ""
    return [state, number(replicas) if replicas > 1 else "", number(block.get("slots") or 0)]


def _trouble(block: Mapping[str, Any]) -> list[str]:
    return [number(block.get(key) or 0) for key in ("cut_short", "restarts", "refused")]


def _latency(times: Mapping[str, Any]) -> list[str]:
    return [span(times.get(key)) for key in ("p50_us", "p95_us", "p99_us")]


def edge_sheet(report: Report) -> Sheet:
    """Return the account of each edge; `open` is what it does not explain, 0 where it closes."""
    rows = [
        [
            edge["edge"],
            edge.get("policy") or "block",
            number(edge.get("offered") or 0),
            number(edge.get("acknowledged") or 0),
            drops(edge.get("dropped") or {}),
            number(edge.get("in_flight") or 0),
            number(edge.get("unmatched") or 0),
            number(edge.get("redelivered") or 0),
            number(unexplained(edge)),
        ]
        for edge in report.get("edges") or ()
    ]
    heads = ("edge", "policy", "offered", "acknowledged", "dropped", "in flight", "?unmatched", "?redelivered", "?open")
    return Sheet("Edges [slots]", heads, rows, left=2)


def flow_sheet(status: Report) -> Sheet:
    """Return what is in flight and dropped on each edge now."""
    rows = [
        [edge["edge"], number(edge.get("in_flight") or 0), drops(edge.get("dropped") or {})]
        for edge in status.get("edges") or ()
    ]
    return Sheet("Edges [slots]", ("edge", "in flight", "dropped"), rows)


def drops(dropped: Mapping[str, int]) -> str:
    """Return drops by reason as one cell: "12: latest 10, stopped 2"."""
    reasons = ", ".join(f"{reason} {number(count)}" for reason, count in dropped.items() if count)
    return f"{number(sum(dropped.values()))}: {reasons}" if reasons else "0"


def unexplained(edge: Mapping[str, Any]) -> int:
    """Return offered - acknowledged - dropped - in flight, 0 for an edge whose account closes."""
    spent = sum((edge.get("dropped") or {}).values()) + (edge.get("acknowledged") or 0) + (edge.get("in_flight") or 0)
    return (edge.get("offered") or 0) - spent


def judged(results: Mapping[str, Any]) -> tuple[dict[str, Mapping[str, Any]], float | None]:
    """Return what a sink says of each estimate, by name, and the bound [dB] where it gives one as "crb".

    An estimate is whatever has an NMSE.
    """
    found = {name: one for name, one in results.items() if isinstance(one, Mapping) and "nmse_db" in one}
    bound = found.pop(BOUND, {})
    return found, bound.get("nmse_db")


def sink_sheets(report: Report) -> list[Sheet]:
    """Return what each sink judged: its estimates beside the bound, then its other values."""
    sheets: list[Sheet] = []
    others: list[list[str]] = []
    alarms: list[list[str]] = []
    for name, results in (report.get("sinks") or {}).items():
        if is_alarm(results):
            alarms.append([name, *_alarm(results)])
            continue
        estimates, bound = judged(results)
        if estimates:
            sheets.append(_estimates(name, estimates, bound))
        if angles := judged_angles(results):
            sheets.append(_angles(name, angles, results.get(BOUND) or {}))
        if pairs := judged_pairs(results):
            sheets.append(_pairs(name, pairs))
        if qualities := judged_quality(results):
            sheets += _qualities(name, qualities)
        rest = {key: v for key, v in results.items() if key not in {*estimates, *angles, *pairs, *qualities, BOUND}}
        others += [[name, key, _plain(value)] for key, value in rest.items()]
    heads = ("alarm", "now", "how near", "alarms", "newest", "?chains", "slots", "?not finite")
    return [*sheets, Sheet("Drift", heads, alarms), Sheet("Sinks", ("sink", "", "value"), others, left=2)]


def is_alarm(results: Mapping[str, Any]) -> bool:
    """Return whether results are those of a drift alarm."""
    return {"alarm", "alarms", "learning"} <= results.keys()


def _alarm(results: Mapping[str, Any]) -> list[str]:
    states = {1: "above", -1: "below", 0: "learning" if results["learning"] else "within"}
    loud = [f"{column}.{chain}" for column, chain in results.get("chains") or ()]
    chains = " ".join(loud[:LOUDEST]) + (f" and {len(loud) - LOUDEST}" if len(loud) > LOUDEST else "")
    raised = [number(results["level"]), number(results["alarms"]), number(results.get("since"))]
    slots = [number(results.get("slots")), number(results.get("not_finite") or 0)]
    return [states[results["alarm"]], *raised, chains, *slots]


def judged_pairs(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what a sink says of pairs of estimates on the same slots, by name: whatever has a difference in dB."""
    return {name: one for name, one in results.items() if isinstance(one, Mapping) and "difference_db" in one}


def _pairs(name: str, pairs: Mapping[str, Mapping[str, Any]]) -> Sheet:
    rows = [
        [
            pair,
            number(one["difference_db"]),
            _interval(one["ci95_db"]),
            number(one["by_draw_db"]),
            percent(one["better_share"]),
            number(one["draws"]),
        ]
        for pair, one in pairs.items()
    ]
    heads = ("pair", "difference", "95 %", "by draw", "better [%]", "draws")
    return Sheet(f"{name}: NMSE on the same slots [dB]", heads, rows)


def judged_quality(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what a sink says of each estimate beside its error, by name: whatever has a share that converged."""
    return {name: one for name, one in results.items() if isinstance(one, Mapping) and "converged_share" in one}


def _qualities(name: str, estimates: Mapping[str, Mapping[str, Any]]) -> list[Sheet]:
    """Whether bound and stated errors hold, what is left in the residuals, and how the estimates came about."""
    return [
        Sheet(
            f"{name}: NMSE over the bound, and over what is stated [dB]",
            ("estimate", "over CRB", "95 %", "stated", "over stated", "95 %"),
            [
                [
                    estimate,
                    number(one.get("over_crb_db")),
                    _interval(one.get("over_crb_ci95_db")),
                    number(one.get("stated_nmse_db")),
                    number(one.get("error_to_stated_db")),
                    _interval(one.get("error_to_stated_ci95_db")),
                ]
                for estimate, one in estimates.items()
            ],
        ),
        Sheet(
            f"{name}: slots within stated intervals; strongest path",
            ("estimate", *(f"{100 * float(level):g} % [%]" for level in COVERED), "found [%]", "off [deg]"),
            [
                [
                    estimate,
                    *(percent((one.get("coverage") or {}).get(level)) for level in COVERED),
                    percent(one.get("strongest_found_share")),
                    number(one.get("strongest_rmse_deg"), 4),
                ]
                for estimate, one in estimates.items()
            ],
        ),
        Sheet(
            f"{name}: residual over noise [dB]; correlation of neighbours",
            ("estimate", "energy", "95 %", "plausible [%]", "white [%]", "columns", "chains"),
            [
                [
                    estimate,
                    number(one.get("residual_to_noise_db"), 3),
                    _interval(one.get("residual_to_noise_ci95_db"), 3),
                    percent(one.get("plausible_share")),
                    percent(one.get("white_share")),
                    number(one.get("column_lag"), 4),
                    number(one.get("chain_lag"), 4),
                ]
                for estimate, one in estimates.items()
            ],
        ),
        Sheet(
            f"{name}: effort",
            ("estimate", "iterations", "paths", "converged [%]", "slots", "?not finite"),
            [
                [
                    estimate,
                    number(one["iterations"]),
                    number(one["paths"]),
                    percent(one["converged_share"]),
                    number(one["slots"]),
                    number(one.get("not_finite") or 0),
                ]
                for estimate, one in estimates.items()
            ],
        ),
    ]


def _interval(ends: Sequence[float | None] | None, digits: int = 2) -> str:
    low, high = ends or (None, None)
    return NONE if low is None and high is None else f"{number(low, digits)} .. {number(high, digits)}"


def _estimates(name: str, estimates: Mapping[str, Mapping[str, Any]], bound: float | None) -> Sheet:
    rows: list[list[str]] = []
    for estimate, one in estimates.items():
        interval = _interval(one.get("ci95_db"))
        rows.append([estimate, number(one["nmse_db"]), interval, number(one.get("draws")), number(bound)])
    return Sheet(f"{name}: NMSE", ("estimate", "NMSE [dB]", "95 % [dB]", "draws", "CRB [dB]"), rows)


def judged_angles(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what a sink says of each estimate whose angles it judged, by name: whatever has a total RMSE."""
    return {name: one for name, one in results.items() if isinstance(one, Mapping) and "total_rmse_deg" in one}


def _angles(name: str, estimates: Mapping[str, Mapping[str, Any]], bound: Mapping[str, Any]) -> Sheet:
    crb = number(bound.get("rmse_deg"), 4)
    rows = [
        [
            estimate,
            number(one["rmse_deg"], 4),
            crb,
            percent(one["outlier_share"]),
            number(one["total_rmse_deg"], 4),
            percent(one["right_count_share"]),
            number(one["path_gain_mse"], 5),
            number(one["path_angle_mse"], 4),
            number(one["frames"]),
            number(one.get("incomplete") or 0),
        ]
        for estimate, one in estimates.items()
    ]
    angles = ("RMSE [deg]", "CRB [deg]", "outliers [%]", "total RMSE [deg]", "K right [%]")
    heads = ("estimate", *angles, "gain MSE", "phase MSE [rad2]", "frames", "?incomplete")
    return Sheet(f"{name}: RMSE over frames without outlier", heads, rows)


def percent(share: float | None) -> str:
    """Return a share as people read it."""
    return number(None if share is None else 100 * share)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or NONE
    if isinstance(value, list | tuple):
        return " ".join(_plain(item) for item in value) or NONE
    return number(value, 4)


def sheets(report: Report) -> list[Sheet]:
    """Return all tables of a finished run that say something."""
    every = [block_sheet(report), edge_sheet(report), *sink_sheets(report)]
    return [sheet for sheet in every if sheet.says_something]


def render(sheet: Sheet) -> Table:
    """Return a sheet for the terminal."""
    sheet = sheet.shown()
    table = Table(
        title=Text(sheet.title), title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False
    )
    for index, column in enumerate(sheet.columns):
        name = index < sheet.left
        table.add_column(
            Text(column), justify="left" if name else "right", overflow="fold", no_wrap=not index or not name
        )
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def closing(report: Report, total: int | None = None) -> RenderableType:
    """Return the tables that end a run."""
    parts: list[RenderableType] = [Text(headline(report, total), style=STYLES[outcome(report)])]
    shown = sheets(report)
    for sheet in shown:
        parts += ["", render(sheet)]
    if any(sheet.title == BLOCKS for sheet in shown):
        parts += ["", Text(LEGEND, style="dim")]
    if report.get("notes"):
        parts += ["", *_notes(report)]
    if report.get("logs"):
        parts += ["", Text(f"logs: {report['logs']}")]
    return Group(*parts)


def live(status: Report, total: int | None = None) -> RenderableType:
    """Return the tables that show a run while it lasts."""
    parts: list[RenderableType] = [Text(headline(status, total), style="bold")]
    if total:
        through = min((block.get("slots") or 0 for block in (status.get("blocks") or {}).values()), default=0)
        parts.append(ProgressBar(total=total, completed=min(through, total), width=60))
    parts += [render(sheet) for sheet in (block_sheet(status), flow_sheet(status)) if sheet.rows]
    return Group(*parts, *_notes(status))


def _notes(report: Report) -> list[Text]:
    return [Text(f"! {note}", style="yellow") for note in (report.get("notes") or [])[-NOTES:]]


def to_html(title: str, tables: Iterable[Sheet]) -> str:
    """Return sheets as HTML for a notebook."""
    parts = [f"<p><b>{html.escape(title)}</b></p>"]
    for sheet in (table.shown() for table in tables):
        head = "".join(_cell("th", text, i < sheet.left) for i, text in enumerate(sheet.columns))
        body = "".join(
            f"<tr>{''.join(_cell('td', text, i < sheet.left) for i, text in enumerate(row))}</tr>" for row in sheet.rows
        )
        parts.append(
            f"<table><caption>{html.escape(sheet.title)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )
    return "\n".join(parts)


def _cell(tag: str, text: str, name: bool) -> str:
    return f'<{tag} style="text-align:{"left" if name else "right"}">{html.escape(text)}</{tag}>'
