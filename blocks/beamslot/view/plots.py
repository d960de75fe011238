"""The plots of the page: angles, the array, the NMSE over time, latencies. Each is updated from a `Picture`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from bokeh.models import (
    BoxAnnotation,
    ColorBar,
    ColumnDataSource,
    CustomJSTickFormatter,
    HoverTool,
    Image,
    InlineStyleSheet,
    LinearColorMapper,
    LogTicker,
    Range1d,
    Select,
    Text,
    VSpan,
)
from bokeh.palettes import Inferno256, Viridis256
from bokeh.plotting import figure

from beamslot.view import data
from beamslot.view.data import MARGIN_V, colours
from beamslot.view.watch import POINTS, Picture

MARKERS = ("x", "cross", "triangle", "square", "diamond", "inverted_triangle", "asterisk", "hex")
"""Of estimators, beside their colours."""

SYMBOLS: dict[str, str] = dict(zip(MARKERS, "×+△□◇▽✳⬡", strict=True))
"""The markers as characters, for the legend."""

FILLED = {"triangle", "square", "diamond", "inverted_triangle", "hex"}

ERROR_RANGE = (data.FLOOR_DB, 5.0)
"""Of the error over the array [dB]."""

MARGIN_DB, MARGIN_LATENCY = 1.0, 1.15
"""Shown beyond the NMSE [dB], and beyond the latencies (a factor)."""

HEADROOM = 0.3
"""Shown above the NMSE, as a share of what is shown of it, for what is written along changes of parameters."""

MARK_LENGTH = 32
"""Of what is written along a change of parameters [characters]."""

ACCENT = "#2f81f7"

SELECT_CSS = """
select.bk-input:not([multiple]) { appearance: auto; background-image: none; padding-right: 2px; }
select.bk-input { background-color: var(--raised); color: var(--text); border-color: var(--line); font-size: 13px; }
"""


@dataclass(frozen=True)
class Theme:
    """The colours of what is drawn in a plot beside the data."""

    text: str
    line: str
    band: str


THEMES = {
    "dark": Theme(text="#d7dde4", line="#39414b", band="#8b98a8"),
    "light": Theme(text="#24292f", line="#d5dae1", band="#6b7785"),
}


def markers(names: Sequence[str]) -> dict[str, str]:
    """Return the marker of each estimator."""
    return dict(zip(names, cycle(MARKERS), strict=False))


def names_of(picture: Picture) -> list[str]:
    """Return the names of the estimators of a picture."""
    return [one.name for one in picture.estimators]


def _figure(name: str, x: str, y: str, **more: Any) -> figure:
    made = figure(
        name=name,
        tools="",
        toolbar_location=None,
        sizing_mode="stretch_both",
        min_height=120,
        x_axis_label=x,
        y_axis_label=y,
        output_backend="canvas",
        **more,
    )
    made.background_fill_color = made.border_fill_color = None
    made.min_border = 4
    return made


def paint(made: figure, theme: Theme) -> None:
    """Give a figure the colours of a theme."""
    made.outline_line_color = theme.line
    for axis in (*made.xaxis, *made.yaxis):
        axis.axis_label_text_color = axis.major_label_text_color = theme.text
        axis.axis_label_text_font_style = "normal"
        axis.axis_line_color = axis.major_tick_line_color = theme.line
        axis.minor_tick_line_color = None
    for grid in (*made.xgrid, *made.ygrid):
        grid.grid_line_color = theme.line
        grid.grid_line_alpha = 0.6
    bars: Any = made.select(ColorBar)
    for bar in bars:
        bar.major_label_text_color = theme.text
        bar.background_fill_color = bar.border_line_color = bar.bar_line_color = bar.major_tick_line_color = None


class AngleMap:
    """Paths in the plane of u and v: true and estimated, over the parts of the interval that beams cover."""

    def __init__(self) -> None:
        self.root = _figure("angles", "u = sin θ cos φ", "v = sin φ")
        self.root.x_range, self.root.y_range = Range1d(start=-1, end=1), Range1d(start=-1, end=1)
        self._truth = ColumnDataSource(data.path_columns(None))
        self._true = self.root.scatter(
            "u", "v", size="size", source=self._truth, marker="circle", fill_color=None, line_width=2
        )
        self.root.add_tools(
            HoverTool(tooltips=[("u, v", "@u{0.000}, @v{0.000}"), ("level", "@level{0.0} dB of the strongest")])
        )
        self._estimates: dict[str, ColumnDataSource] = {}
        self._bands: list[BoxAnnotation] = []
        self._intervals: Sequence[tuple[float, float]] = ()
        self._flat = False
        self._theme = THEMES["dark"]

    def paint(self, theme: Theme) -> None:
        """Give it the colours of a theme."""
        self._theme = theme
        paint(self.root, theme)
        self._true.glyph.line_color = theme.text
        for band in self._bands:
            band.fill_color = band.line_color = theme.band

    def update(self, picture: Picture) -> None:
        """Show the slot of a picture."""
        names, shown = names_of(picture), picture.shown
        for name in [name for name in names if name not in self._estimates]:
            self._begin(name, names)
        if (picture.intervals, picture.flat) != (self._intervals, self._flat):
            self._divide(picture.intervals, picture.flat)
        self._truth.data = self._placed(shown.truth if shown else data.path_columns(None))
        for name, source in self._estimates.items():
            found = shown.paths.get(name) if shown else None
            source.data = self._placed(found or data.path_columns(None))

    def _placed(self, columns: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        # A line of antennas sees u alone: then the level stands in the place of v.
        return {**columns, "v": columns["level"]} if self._flat else dict(columns)

    def _begin(self, name: str, names: Sequence[str]) -> None:
        source = self._estimates[name] = ColumnDataSource(data.path_columns(None))
        marker, colour = markers(names)[name], colours(names)[name]
        filled = None if marker in FILLED else colour
        self.root.scatter(
            "u", "v", size="size", source=source, marker=marker, line_color=colour, fill_color=filled, line_width=2
        )

    def _divide(self, intervals: Sequence[tuple[float, float]], flat: bool) -> None:
        self._intervals, self._flat = intervals, flat
        for band in self._bands:
            band.visible = False
        self._bands = []
        y_range = self.root.y_range
        if flat:
            y_range.update(start=data.FLOOR_DB, end=5)
            self.root.yaxis.axis_label = "path power, of the strongest [dB]"
            return
        if not intervals:
            return
        y_range.update(start=intervals[0][0] - MARGIN_V, end=intervals[-1][1] + MARGIN_V)
        for index, (low, high) in enumerate(intervals):
            alpha = (0.10, 0.18)[index % 2]
            band = BoxAnnotation(
                bottom=low, top=high, fill_alpha=alpha, line_alpha=0.35, line_dash="dotted", level="underlay"
            )
            band.fill_color = band.line_color = self._theme.band
            self.root.add_layout(band)
            self._bands.append(band)


class ArrayMaps:
    """|h| over the array, true and estimated on one scale, and the error of the estimator that is chosen."""

    def __init__(self) -> None:
        stylesheet = InlineStyleSheet(css=SELECT_CSS)
        self.choice = Select(name="choice", options=[], value="", stylesheets=[stylesheet], width=170, margin=0)
        self._level = LinearColorMapper(palette=Viridis256, low=0, high=1, nan_color="rgba(0,0,0,0)")
        self._error = LinearColorMapper(
            palette=Inferno256, low=ERROR_RANGE[0], high=ERROR_RANGE[1], nan_color="rgba(0,0,0,0)"
        )
        self._sources = {name: ColumnDataSource(_image(None)) for name in ("true", "estimated", "error")}
        self.roots: list[figure] = []
        for name, source in self._sources.items():
            mapper = self._error if name == "error" else self._level
            made = _figure(name, "column", "row")
            made.x_range, made.y_range = Range1d(start=0, end=1), Range1d(start=0, end=1)
            made.add_glyph(source, Image(image="image", x=0, y=0, dw="dw", dh="dh", color_mapper=mapper))
            bar = ColorBar(color_mapper=mapper, width=10, padding=6, label_standoff=5, margin=0)
            bar.major_label_text_font_size = "11px"
            made.add_layout(bar, "right")
            made.grid.visible = False
            self.roots.append(made)
        self._shown: Any = None
        self._picture: Picture | None = None
        self.choice.on_change("value", self._choose)

    def _choose(self, attr: str, old: Any, new: Any) -> None:
        self._shown = None
        if self._picture is not None:
            self.update(self._picture)

    def paint(self, theme: Theme) -> None:
        """Give them the colours of a theme."""
        for root in self.roots:
            paint(root, theme)

    def update(self, picture: Picture) -> None:
        """Show the slot of a picture."""
        self._picture, shown = picture, picture.shown
        names = names_of(picture)
        if self.choice.options != names:
            self.choice.options = [*names]
            if self.choice.value not in names:
                self.choice.value = names[0] if names else ""
        if shown is None or (shown.slot, self.choice.value) == self._shown:
            return
        self._shown = shown.slot, self.choice.value
        estimated = shown.estimated.get(self.choice.value)
        known = shown.channel if shown.channel is not None else estimated
        if known is None:
            return
        self._level.high = max(float(np.nanmax(known)), 1e-12)
        self.choice.visible = bool(names)
        images = {"true": shown.channel, "estimated": estimated, "error": shown.errors.get(self.choice.value)}
        for root, (name, image) in zip(self.roots, images.items(), strict=True):
            self._sources[name].data = _image(image)
            root.visible = (
                bool(names) if name == "estimated" else shown.channel is not None and bool(names or name == "true")
            )
            height, width = known.shape
            root.x_range.update(end=width)
            root.y_range.update(end=height)


def _image(image: Any) -> dict[str, list[Any]]:
    return (
        {"image": [], "dw": [], "dh": []}
        if image is None
        else {"image": [image], "dw": [image.shape[1]], "dh": [image.shape[0]]}
    )


class NmseLines:
    """The NMSE of every estimator over the time of the run, and the bound of a sink."""

    def __init__(self) -> None:
        self.root = _figure("nmse", "time of the run [s]", "NMSE [dB]")
        self._time, self._range = Range1d(start=0, end=1), Range1d(start=-30, end=0)
        self.root.x_range, self.root.y_range = self._time, self._range
        self._bound = ColumnDataSource({"seconds": [], "level": []})
        self._line = self.root.line("seconds", "level", source=self._bound, line_width=2, line_dash="dashed")
        self._lines: dict[str, ColumnDataSource] = {}
        self._last = -1
        # Changes of parameters: a dotted line from top to bottom, and along it what was set.
        self._marks = ColumnDataSource({"seconds": [], "text": [], "top": []})
        self._spans = self.root.add_glyph(
            self._marks, VSpan(x="seconds", line_dash="dotted", line_width=1.2, line_alpha=0.8)
        )
        self._labels = self.root.add_glyph(
            self._marks,
            Text(x="seconds", y="top", text="text", angle=math.pi / 2, text_align="right", text_baseline="bottom",
                 x_offset=-2, y_offset=4, text_font_size="11px"),
        )  # fmt: skip
        self._marked: Any = None
        self._first = 0.0
        self.root.visible = False

    def paint(self, theme: Theme) -> None:
        """Give it the colours of a theme."""
        paint(self.root, theme)
        self._line.glyph.line_color = theme.text
        self._spans.glyph.line_color = theme.band
        self._labels.glyph.text_color = theme.text

    def _mark(self, picture: Picture) -> None:
        top = self._range.end
        marks = [mark for mark in picture.marks if mark.seconds >= self._first]
        state = [mark.serial for mark in marks], top
        if state != self._marked:
            self._marked = state
            columns = {"seconds": [m.seconds for m in marks], "text": [shortened(m.text) for m in marks]}
            self._marks.data = {**columns, "top": [top] * len(marks)}

    def update(self, picture: Picture) -> None:
        """Add the points of a picture that are new."""
        names = names_of(picture)
        for name in [name for name in names if name not in self._lines]:
            source = self._lines[name] = ColumnDataSource({"seconds": [], "level": []})
            self.root.line(
                "seconds", "level", source=source, name=name, line_width=2.5, line_color=colours(names)[name]
            )
        fresh = [point for point in picture.points if point.serial > self._last]
        if not fresh:
            return
        self._last = fresh[-1].serial
        self.root.visible = True
        for name, source in self._lines.items():
            having = [point for point in fresh if name in point.levels]
            if having:
                columns = {"seconds": [p.seconds for p in having], "level": [p.levels[name] for p in having]}
                source.stream(columns, rollover=POINTS)
        columns = {"seconds": [p.seconds for p in fresh], "level": [p.bound for p in fresh]}
        self._bound.stream(columns, rollover=POINTS)
        self._first, last = picture.points[0].seconds, picture.points[-1].seconds
        self._time.update(start=self._first, end=max(last, self._first + 1))
        levels = [level for point in picture.points for level in (*point.levels.values(), point.bound)]
        finite = [level for level in levels if math.isfinite(level)]
        if finite:
            low, high = min(finite) - MARGIN_DB, max(finite) + MARGIN_DB
            headroom = HEADROOM * (high - low) if picture.marks else 0.0
            self._range.update(start=low, end=high + headroom)
        self._mark(picture)


def shortened(text: str) -> str:
    """Return a text that is not longer than a mark may be."""
    return text if len(text) <= MARK_LENGTH else text[: MARK_LENGTH - 1] + "…"


class LatencyBars:
    """From the capture of a slot to the end of its call in a sink: the newest seconds, and the whole run as a line."""

    def __init__(self) -> None:
        self.root = _figure("latency", "capture to sink [ms]", "share of slots [%]", x_axis_type="log")
        self.root.x_range, self.root.y_range = Range1d(start=1, end=10), Range1d(start=0, end=10)
        axis = self.root.xaxis[0]
        axis.ticker = LogTicker(mantissas=[1, 2, 5])
        axis.formatter = CustomJSTickFormatter(code="return String(+tick.toPrecision(2))")
        self._recent, self._whole = ColumnDataSource(data.histogram(())), ColumnDataSource({"edge": [], "share": []})
        bars = {"left": "left", "right": "right", "bottom": 0, "top": "share"}
        self.root.quad(**bars, source=self._recent, fill_color=ACCENT, fill_alpha=0.75, line_color=None)
        self._line = self.root.line("edge", "share", source=self._whole, line_width=1.5)
        self.root.visible = False

    def paint(self, theme: Theme) -> None:
        """Give it the colours of a theme."""
        paint(self.root, theme)
        self._line.glyph.line_color = theme.band

    def update(self, picture: Picture) -> None:
        """Show the latencies of a picture."""
        self._recent.data = dict(picture.recent or data.histogram(()))
        self._whole.data = data.outline(picture.whole or data.histogram(()))
        left, right, shares = (self._whole_and_recent(picture, name) for name in ("left", "right", "share"))
        self.root.visible = bool(left)
        if left:
            self.root.x_range.update(start=min(left) / MARGIN_LATENCY, end=max(right) * MARGIN_LATENCY)
            self.root.y_range.update(end=1.05 * max(shares))

    @staticmethod
    def _whole_and_recent(picture: Picture, name: str) -> list[float]:
        return [*picture.whole.get(name, ()), *picture.recent.get(name, ())]
