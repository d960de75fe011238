"""One page: the roots that the template places, kept up from what a `Watch` shows."""

from importlib.resources import files
from typing import Any

from bokeh.document import Document
from bokeh.models import CustomJS, Div, InlineStyleSheet, TextInput

from beamslot.view import panels
from beamslot.view.controls import Controls
from beamslot.view.data import colours
from beamslot.view.plots import (
    SYMBOLS,
    THEMES,
    AngleMap,
    ArrayMaps,
    LatencyBars,
    NmseLines,
    markers,
    names_of,
)
from beamslot.view.watch import ENDED, Picture, Watch

UPDATE_EVERY = 300
"""A page is brought up to date so often [ms]."""

HTML_EVERY = 2
"""Its tables and its graph every so many times."""

NO_TRUTH = "No port of this graph gives the truth of a slot, so estimates are compared with nothing."
NO_ESTIMATES = "No port of this graph gives estimates of a channel."
NO_PATHS = "No stream of this graph gives paths."
NO_BOUND = "this graph gives no Cramér-Rao bound"
BOUND = "dashed: Cramér-Rao bound, mean over the whole run"
BOUND_NOW = "dashed: Cramér-Rao bound of the same slots"
NO_LATENCY = "No slot has reached a sink yet."


def _text(name: str) -> str:
    return (files("beamslot.view") / name).read_text(encoding="utf-8")


class Page:
    """The models of one open page; roots are named, and the template asks for them by name.

    token: of the address, for links to other runs    steers: whether it may change the run
    """

    def __init__(self, watch: Watch, token: str = "", *, steers: bool = False) -> None:
        self._watch, self._token = watch, token
        style = InlineStyleSheet(css=_text("panels.css"))
        self._divs = {
            name: Div(name=name, text="", stylesheets=[style], sizing_mode="stretch_width", margin=0)
            for name in ("headline", "graph", "blocks", "estimators", "judged", "taps")
        }
        notes = ("angles_note", "array_note", "nmse_note", "latency_note")
        self._notes = {
            n: Div(name=n, text="", stylesheets=[style], sizing_mode="stretch_width", margin=0) for n in notes
        }
        self._controls = Controls(watch, style, steers=steers)
        self._angles, self._arrays = AngleMap(), ArrayMaps()
        self._nmse, self._latency = NmseLines(), LatencyBars()
        self._plots = (self._angles, self._arrays, self._nmse, self._latency)
        # What page and server tell each other beside the plots: the theme, a sign of life, and that another run began.
        self._theme = TextInput(name="theme", value="", visible=False)
        self._beat = TextInput(name="beat", value="", visible=False)
        self._beat.js_on_change("value", CustomJS(code="window.beamslotBeat = Date.now()"))
        self._run = TextInput(name="run", value="", visible=False)
        self._run.js_on_change("value", CustomJS(code="window.location.reload()"))
        self._theme.on_change("value", lambda attr, old, new: self.paint(new))
        self._beats, self._serial, self._first, self._painted = 0, -1, "", ""
        self.paint("dark")

    @property
    def roots(self) -> list[Any]:
        """All models that the template places."""
        plots = (self._angles.root, *self._arrays.roots, self._arrays.choice, self._nmse.root, self._latency.root)
        return [
            *self._divs.values(),
            *self._notes.values(),
            *plots,
            self._controls.root,
            self._theme,
            self._beat,
            self._run,
        ]

    def paint(self, theme: str) -> None:
        """Give the plots the colours of a theme, dark or light."""
        if theme in THEMES:
            self._painted = theme
            for plot in self._plots:
                plot.paint(THEMES[theme])
            self._live()

    def _live(self) -> None:
        """Give a sign of life, and say in which colours the plots are."""
        self._beat.value = f"{self._beats} {self._painted}"

    def update(self) -> None:
        """Show what the watch shows now."""
        picture = self._watch.picture
        self._beats += 1
        self._live()
        self._first = self._first or picture.run
        if picture.run not in ("", self._first):
            self._run.value = picture.run  # its estimators may be others: the page begins anew
            return
        self._controls.update(picture)  # at every tick: what was asked is answered between two pictures
        if picture.serial == self._serial:
            return
        self._serial = picture.serial
        for plot in self._plots:
            plot.update(picture)
        for name, text in notes(picture).items():
            _put(self._notes[name], text)
        if self._beats % HTML_EVERY == 1 or picture.state == ENDED:
            names = names_of(picture)
            symbols = {name: SYMBOLS[marker] for name, marker in markers(names).items()}
            _put(self._divs["headline"], panels.headline(picture, self._token))
            _put(self._divs["graph"], panels.drawing(picture))
            _put(self._divs["blocks"], panels.blocks(picture))
            _put(self._divs["estimators"], panels.estimators(picture, colours(names), symbols))
            _put(self._divs["judged"], panels.alarms(picture) + panels.pairs(picture) + panels.quality(picture))
            _put(self._divs["taps"], panels.taps(picture))


def _put(div: Div, text: str) -> None:
    if div.text != text:
        div.text = text


def notes(picture: Picture) -> dict[str, str]:
    """Return what stands above each plot: what it shows, or why it is empty."""
    shown = picture.shown
    described, estimates = picture.described, bool(picture.estimators)
    slot = f"slot {shown.slot:,}" + (f", user 0 of {shown.users}" if shown.users > 1 else "") if shown else ""
    missing = "" if picture.truth_port or not described else NO_TRUTH
    paths = shown is not None and (shown.truth["u"] or any(one["u"] for one in shown.paths.values()))
    angles = f"{slot}, ○ true, its size the power" if paths or not described else NO_PATHS if shown else NO_ESTIMATES
    arrays = f"{slot}  {missing}" if estimates or not described else NO_ESTIMATES
    bound = BOUND if picture.bound_now is None else BOUND_NOW
    if picture.bound is None and picture.bound_now is None and picture.status.get("slots"):
        bound = NO_BOUND
    judged = missing or (NO_ESTIMATES if described and not estimates else f"mean over the last 64 slots seen; {bound}")
    latency = "filled: last 10 s; outline: whole run" if picture.whole.get("left") else NO_LATENCY
    found = {"angles_note": angles, "array_note": arrays, "nmse_note": judged, "latency_note": latency}
    return {name: f'<p class="note">{text}</p>' for name, text in found.items()}


def fill(document: Document, watch: Watch, token: str = "", *, steers: bool = False) -> None:
    """Make a document the page of a watch.

    token: of the address, for links to other runs    steers: whether it may change the run
    """
    page = Page(watch, token, steers=steers)
    for root in page.roots:
        document.add_root(root)
    document.template = _text("page.html")  # pyright: ignore[reportAttributeAccessIssue]
    watch.enter()
    document.on_session_destroyed(lambda _: watch.leave())

    def update() -> None:
        page.update()
        title = f"{watch.picture.name or 'beamslot'} - beamslot view"
        if document.title != title:
            document.title = title

    update()
    document.add_periodic_callback(update, UPDATE_EVERY)
