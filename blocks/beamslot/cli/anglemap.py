"""The map of angles in a terminal: true paths, estimates and the parts of the beams' interval, as half-blocks.

A character is two pixels, one above the other: "▀" in the colour of the upper before that of the lower.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot import tables
from beamslot.view import data
from beamslot.view.watch import Picture

LEFT = 7
"""Width of the labels at the axis of v [characters]."""

BACK, BAND, OTHER_BAND, TRUE = (13, 17, 23), (33, 41, 52), (45, 55, 68), (230, 237, 243)
"""Colours: beyond the beams' interval, its parts in turn, and the ring of a true path."""

AROUND = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))
"""Where an estimate is drawn whose pixel another has taken: beside it."""

RESET, CLEAR_LINE = "\x1b[0m", "\x1b[K"

NOTHING = "no slot with a channel has been heard yet"

Pixels = NDArray[np.uint8]


def pixels(picture: Picture, width: int, height: int) -> Pixels:
    """Return the map as pixels (row, column, rgb), the first row on top.

    u runs over [-1, 1], v over the interval of the beams and a margin; a line of antennas has levels in the place of v.
    A true path is a ring; it is filled where an estimator has found the path.
    """
    low, high = extent(picture)
    made = np.empty((height, width, 3), np.uint8)
    made[:] = BACK
    for index, (first, last) in enumerate(() if picture.flat else picture.intervals):
        top, bottom = _row(last, low, high, height), _row(first, low, high, height)
        made[top : bottom + 1] = (BAND, OTHER_BAND)[index % 2]
    if picture.shown is None:
        return made
    across = "level" if picture.flat else "v"
    for u, v in zip(picture.shown.truth["u"], picture.shown.truth[across], strict=True):
        row, column = _row(v, low, high, height), _column(u, width)
        within = made[row, column].copy()
        made[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = TRUE
        made[row, column] = within
    taken: set[tuple[int, int]] = set()
    for name, colour in colours(picture).items():
        found = picture.shown.paths.get(name) or data.path_columns(None)
        for u, v in zip(found["u"], found[across], strict=True):
            row, column = _row(v, low, high, height), _column(u, width)
            places = [(row + down, column + right) for down, right in AROUND]
            inside = [place for place in places if 0 <= place[0] < height and 0 <= place[1] < width]
            place = next((place for place in inside if place not in taken), (row, column))
            taken.add(place)
            made[place] = colour
    return made


def extent(picture: Picture) -> tuple[float, float]:
    """Return the lowest and the highest value on the axis that points up."""
    if picture.flat:
        return data.FLOOR_DB, 5.0
    if not picture.intervals:
        return -1.0, 1.0
    return picture.intervals[0][0] - data.MARGIN_V, picture.intervals[-1][1] + data.MARGIN_V


def _row(value: float, low: float, high: float, height: int) -> int:
    return int(np.clip((high - value) / (high - low) * height, 0, height - 1))


def _column(u: float, width: int) -> int:
    return int(np.clip((u + 1) / 2 * width, 0, width - 1))


def colours(picture: Picture) -> dict[str, tuple[int, int, int]]:
    """Return the colour of every estimator, those of the page in the browser."""
    named = data.colours([one.name for one in picture.estimators])
    return {name: (int(c[1:3], 16), int(c[3:5], 16), int(c[5:7], 16)) for name, c in named.items()}


def half_blocks(made: Pixels) -> list[str]:
    """Return pixels as lines of text, two rows a line; colours are told where they change."""
    lines: list[str] = []
    for upper, lower in zip(made[::2].tolist(), made[1::2].tolist(), strict=True):
        parts: list[str] = []
        before: Any = None
        for pair in zip(upper, lower, strict=True):
            if pair != before:
                before = pair
                (r, g, b), (x, y, z) = pair
                parts.append(f"\x1b[38;2;{r};{g};{b};48;2;{x};{y};{z}m")
            parts.append("▀")
        lines.append("".join(parts) + RESET)
    return lines


def drawn(picture: Picture, width: int, height: int) -> list[str]:
    """Return the map with its axes and its legend, so many lines and columns in all."""
    legend = legend_of(picture, coloured=True)
    rows = max(height - len(legend) - 2, 4)
    columns = max(width - LEFT, 20)
    low, high = extent(picture)
    labels = {0: f"{high:.2f}", rows // 2: "dB" if picture.flat else "v", rows - 1: f"{low:.2f}"}
    blocks = half_blocks(pixels(picture, columns, 2 * rows))
    body = [f"{labels.get(index, ''):>{LEFT - 1}} {line}" for index, line in enumerate(blocks)]
    axis = f"{'-1':<{columns // 2 - 1}}u{'1':>{columns - columns // 2}}"
    return [title(picture)[:width], *body, " " * LEFT + axis, *legend]


def title(picture: Picture) -> str:
    """Return which slot is shown."""
    if picture.shown is None:
        return NOTHING
    user = f", user 0 of {picture.shown.users}" if picture.shown.users > 1 else ""
    return f"angles of slot {picture.shown.slot:,}{user}; ring: true"


def legend_of(picture: Picture, *, coloured: bool = False) -> list[str]:
    """Return a line an estimator: its colour, its NMSE over the newest slots, its paths; then the bound."""
    lines: list[str] = []
    for one in picture.estimators:
        r, g, b = colours(picture)[one.name]
        mark = f"\x1b[38;2;{r};{g};{b}m■{RESET} " if coloured else ""
        level = _decibels(one.level)
        lines.append(f"{mark}{one.name:<16} NMSE {level:>6} dB   paths {tables.number(one.paths)}")
    if picture.bound_now is not None:
        mark = "  " if coloured else ""
        lines.append(f"{mark}{'CRB':<16}      {_decibels(picture.bound_now):>6} dB")
    return lines


def _decibels(level: float | None) -> str:
    return tables.NONE if level is None else f"{level:.1f}"


def listed(picture: Picture) -> list[str]:
    """Return the map as text, for where nothing can be drawn: the paths of the slot, of the truth and by estimator."""
    shown = picture.shown
    if shown is None:
        return [NOTHING]
    found: dict[str, Mapping[str, Sequence[float]]] = {"true": shown.truth, **shown.paths}
    lines = [f"angles of slot {shown.slot:,}: u, v (level of the strongest [dB])"]
    for name, paths in found.items():
        triples = zip(paths["u"], paths["v"], paths["level"], strict=True)
        one_by_one = "  ".join(f"{u:.3f}, {v:.3f} ({round(level)})" for u, v, level in triples)
        lines.append(f"{name:<16} {one_by_one or tables.NONE}")
    return [*lines, *legend_of(picture)]


def plain(picture: Picture) -> dict[str, Any]:
    """Return the map as plain values: the slot, and by name the u, v and level of the paths; "true" is the truth."""
    shown = picture.shown
    if shown is None:
        return {"slot": None, "paths": {}}
    kept = {"true": shown.truth, **shown.paths}
    paths = {name: {key: list(one[key]) for key in ("u", "v", "level")} for name, one in kept.items()}
    return {"slot": shown.slot, "paths": paths, "intervals": [list(part) for part in picture.intervals]}
