"""The controls of a page: the live parameters of the run as sliders and the like, pause, pace, and restarts.

What is moved is asked for when it has come to rest, and the answer is waited for elsewhere. A control shows what holds:
one that was refused goes back, and one that somebody else has changed follows.
"""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from bokeh.models import (
    Button,
    Checkbox,
    Column,
    CustomJSTickFormatter,
    Div,
    InlineStyleSheet,
    Select,
    Slider,
    Spinner,
    TextInput,
)

from beamslot.errors import BeamslotError
from beamslot.view.knobs import Knob, knob_of, told
from beamslot.view.parameters import said_of
from beamslot.view.watch import ENDED, Picture, Watch
from beamslot.view.wheel import Answer

PACES = {"max": "as fast as it goes", "0.1": "× 0.1", "0.25": "× 0.25", "0.5": "× 0.5", "1": "realtime", "2": "× 2",
         "4": "× 4"}  # fmt: skip
"""Paces that are offered."""

NO_RESTART = "a block …"
PACE = "pace"

CHANGES = 4
"""Changes of parameters that are listed, the newest that hold."""

READ_ONLY = "This page only looks."

RULES = """
:host { font: 13px/1.4 var(--font); color: var(--text); }
.bk-input-group { display: flex; flex-direction: row; align-items: center; justify-content: space-between; gap: 8px; }
.bk-input-group > :not(label, .bk-slider-title) { flex: 0 0 92px; width: 92px; }
.bk-slider-title { flex: 1; }
select.bk-input:not([multiple]) { appearance: auto; background-image: none; padding-right: 2px; }
.bk-input-group label, .bk-slider-title { color: var(--text); font-size: 12px; padding: 0; }
.bk-slider-title { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.bk-slider-value { color: var(--text); font-weight: 650; font-variant-numeric: tabular-nums; }
.bk-input { background-color: var(--raised); color: var(--text); border-color: var(--line); font: inherit; height: 26px;
  min-height: 26px; padding: 2px 6px; }
.bk-input[disabled] { background-color: var(--card); color: var(--text); border-color: var(--line); opacity: 0.75; }
.bk-input:focus { border-color: var(--accent); box-shadow: none; }
.bk-btn { background: var(--raised) !important; color: var(--text) !important; border-color: var(--line) !important;
  font: inherit; width: 92px; padding: 3px 10px; height: 26px; }
.bk-btn:hover { border-color: var(--accent) !important; }
.bk-spin-btn { --color: var(--text); width: 22px; }
.noUi-target { background: var(--line); border: none; box-shadow: none; }
.noUi-connect { background: var(--accent) !important; }
.noUi-handle { background: var(--text) !important; border: 2px solid var(--card) !important;
  box-shadow: none !important; cursor: grab; }
.noUi-handle:focus { outline: 2px solid var(--accent); }
"""

GRID = ":host { display: block; columns: 240px; column-gap: 24px; }"
GROUP = ":host { break-inside: avoid; gap: 5px; padding-bottom: 12px; }"


class Dial:
    """One control: its model, and what it has."""

    def __init__(self, path: str, declared: Mapping[str, Any], style: InlineStyleSheet) -> None:
        self.path, self.value = path, declared["value"]
        self.knob: Knob = knob_of(declared)
        name = path.rpartition(".")[2]
        title = f"{name} [{declared['unit']}]" if declared.get("unit") else name
        about = f"{declared.get('description', '')} ({_limits(declared)})"
        common: dict[str, Any] = {
            "name": path, "sizing_mode": "stretch_width", "margin": 0, "stylesheets": [style],
            "html_attributes": {"title": about},
        }  # fmt: skip
        self.model = _model(self.knob, title, self.value, common)
        self._property = "active" if self.knob.kind == "switch" else "value"

    def watch(self, act: Callable[[], None]) -> None:
        """Call when it is moved."""
        self.model.on_change(self._property, lambda attr, old, new: act())

    @property
    def raw(self) -> Any:
        """What stands in it."""
        return getattr(self.model, self._property)

    def put(self, value: Any) -> None:
        """Show a value."""
        self.value = value
        if isinstance(self.model, Slider) and not self.knob.holds(value):
            self.model.update(start=min(self.model.start, value), end=max(self.model.end, value))
        setattr(self.model, self._property, self.knob.raw(value))


def _limits(declared: Mapping[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{word} {declared[key]:g}" for key, word in words.items() if key in declared]
    return ", ".join(found) or "no limits"


def _model(knob: Knob, title: str, value: Any, common: dict[str, Any]) -> Any:
    raw = knob.raw(value)
    if knob.kind == "slider" and knob.low is not None and knob.high is not None:
        shown = CustomJSTickFormatter(code="return String(+tick.toPrecision(4))")
        return Slider(start=knob.low, end=knob.high, step=knob.step, value=raw, title=title, format=shown, **common)
    if knob.kind == "spinner":
        return Spinner(low=knob.low, high=knob.high, step=1, value=raw, mode="int", title=title, **common)
    if knob.kind == "choice":
        return Select(options=[str(option) for option in knob.options], value=raw, title=title, **common)
    if knob.kind == "switch":
        return Checkbox(active=bool(raw), label=title, **common)
    return TextInput(value=raw, title=title, **common)


class Controls:
    """All controls of a page, and what became of what was asked.

    steers: whether the page may change anything; else values are shown
    """

    def __init__(self, watch: Watch, style: InlineStyleSheet, *, steers: bool) -> None:
        self._watch, self._steers = watch, steers
        self._style, self._rules = style, InlineStyleSheet(css=RULES)
        self._said = Div(name="said", text="", stylesheets=[style], sizing_mode="stretch_width", margin=0)
        shape: dict[str, Any] = {"stylesheets": [self._rules], "margin": 0, "sizing_mode": "stretch_width"}
        self._pause = Button(
            name="pause", label="pause", **(shape | {"sizing_mode": "fixed", "width": 92, "height": 26})
        )
        self._pace = Select(name=PACE, title=PACE, options=[*PACES.items()], value="1", **shape)
        self._restart = Select(name="restart", title="restart", options=[NO_RESTART], value=NO_RESTART, **shape)
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}
        self._bar = Column(children=[self._pause, self._pace, self._restart], spacing=5, **wide)
        self._head = Column(children=[self._bar, self._said], stylesheets=[InlineStyleSheet(css=GROUP)], **wide)
        self.root = Column(name="controls", children=[self._head], stylesheets=[InlineStyleSheet(css=GRID)], **wide)
        self._dials: dict[str, Dial] = {}
        self._shape: Any = None
        self._seen: dict[str, Any] = {}
        self._moved: dict[str, int] = {}
        self._asked: dict[str, Answer] = {}
        self._refused: dict[str, str] = {}
        self._putting, self._ticks, self._picture = False, 0, Picture()
        self._bar.visible = False
        if steers:
            self._pause.on_click(self._toggle)
            self._pace.on_change("value", lambda attr, old, new: self._move(PACE))
            self._restart.on_change("value", self._start_again)

    # what the run says

    def update(self, picture: Picture) -> None:
        """Show what holds now, ask for what has been moved, and say what became of what was asked."""
        self._picture, self._ticks = picture, self._ticks + 1
        self._ask()
        self._hear()
        parameters = picture.parameters or {}
        shape = {block: sorted(values) for block, values in parameters.items()}
        if shape != self._shape:
            self._shape = shape
            self._build(parameters)
        now = {f"{block}.{name}": one["value"] for block, values in parameters.items() for name, one in values.items()}
        now |= {} if picture.pace is None else {PACE: picture.pace}
        for path, value in now.items():
            known = path in self._seen or path != PACE  # a control is built with its value; the pace is not
            if (not known or value != self._seen.get(path, value)) and path not in {*self._moved, *self._asked}:
                self._put(path, value)
        self._seen = now
        self._stand(picture)

    def _stand(self, picture: Picture) -> None:
        steered = self._steers and picture.parameters is not None and picture.state != ENDED
        if self._bar.visible != steered:
            self._bar.visible = steered
        label = "resume" if picture.state == "paused" else "pause"
        if self._pause.label != label:
            self._pause.label = label
        blocks = [NO_RESTART, *(picture.status.get("blocks") or {})]
        if self._restart.options != blocks:
            self._restart.options = blocks
        for dial in self._dials.values():
            if dial.model.disabled == steered:
                dial.model.disabled = not steered
        text = self._text(picture)
        if self._said.text != text:
            self._said.text = text

    def _build(self, parameters: Mapping[str, Mapping[str, Any]]) -> None:
        """Make the controls anew; the run has others."""
        self._dials = {}
        groups: list[Any] = []
        for block, values in parameters.items():
            if not values:
                continue
            head = Div(text=f"<h3>{escape(block)}</h3>", stylesheets=[self._style], margin=0)
            members: list[Any] = [head]
            for name, declared in values.items():
                path = f"{block}.{name}"
                dial = self._dials[path] = Dial(path, declared, self._rules)
                dial.model.disabled = not self._steers
                if self._steers:
                    dial.watch(lambda path=path: self._move(path))
                members.append(dial.model)
            groups.append(
                Column(*members, stylesheets=[InlineStyleSheet(css=GROUP)], sizing_mode="stretch_width", margin=0)
            )
        self.root.children = [self._head, *groups]

    def _put(self, path: str, value: Any) -> None:
        """Show a value; it is not taken for one that was asked for."""
        self._putting = True
        try:
            if path == PACE:
                self._put_pace(value)
            elif path in self._dials:
                self._dials[path].put(value)
        finally:
            self._putting = False

    def _put_pace(self, value: float) -> None:
        key = told(float(value))
        if key not in PACES:
            self._pace.options = [*PACES.items(), (key, f"× {key}")]
        self._pace.value = key

    # what the reader asks

    def _move(self, path: str) -> None:
        if not self._putting:
            self._moved[path] = self._ticks
            self._refused.pop(path, None)

    def _ask(self) -> None:
        """Ask for what has not been moved since the last time."""
        for path in [path for path, tick in self._moved.items() if tick < self._ticks - 1 and path not in self._asked]:
            del self._moved[path]
            block, _, name = path.rpartition(".")
            try:
                value = self._pace.value if path == PACE else self._dials[path].knob.value(self._dials[path].raw)
            except BeamslotError as error:
                self._refuse(path, error)
                continue
            self._asked[path] = self._send("set", block=block, values={name: value})

    def _send(self, do: str, **fields: Any) -> Answer:
        return self._watch.wheel.ask(self._picture.card, do, **fields)

    def _hear(self) -> None:
        for path in [path for path, answer in self._asked.items() if answer.done()]:
            answer = self._asked.pop(path)
            error = answer.exception()
            if error is not None:
                self._refuse(path, error)
                continue
            self._refused.pop(path, None)
            values = answer.result().get("values", {})
            name = path.rpartition(".")[2]
            if name in values and path not in self._moved:
                self._put(path, values[name])

    def _refuse(self, path: str, error: BaseException) -> None:
        self._refused[path] = str(error)
        if path in self._seen:
            self._put(path, self._seen[path])

    def _toggle(self) -> None:
        paused = self._picture.state == "paused"
        self._asked["pause"] = self._send("resume" if paused else "pause")

    def _start_again(self, attr: str, old: str, new: str) -> None:
        if new != NO_RESTART:
            self._restart.value = NO_RESTART
            self._asked[f"restart {new}"] = self._send("restart", block=new)

    # what is said

    def _text(self, picture: Picture) -> str:
        parts = [f'<li class="refused">{escape(text)}</li>' for text in self._refused.values()]
        parts += [f'<li class="note">{escape(path)}: asked …</li>' for path in self._asked]
        slots, changes = picture.status.get("slots", 0), picture.status.get("timeline") or ()
        held = [change for change in changes if change["slot"] <= slots][-CHANGES:]
        coming = sorted((c for c in changes if c["slot"] > slots), key=lambda change: change["slot"])[:1]
        rows = [
            f'<li class="{kind}"><b>{change["slot"]:,}</b>{escape(said_of(change))}</li>'
            for kind, found in (("coming", coming), ("held", reversed(held)))
            for change in found
        ]
        if rows:
            rows.insert(0, '<li class="note"><b>slot</b>holds from there on</li>')
        if not self._steers:
            parts.insert(0, f'<li class="note">{READ_ONLY}</li>')
        if picture.parameters is None and picture.status:
            parts.append('<li class="note">The run has not told its parameters.</li>')
        elif picture.parameters is not None and not picture.parameters:
            parts.append('<li class="note">No parameter of this graph may change while it runs.</li>')
        return f'<ul class="changes">{"".join([*parts, *rows])}</ul>' if parts or rows else ""
