"""Cells on disk, a line of JSON each: what was computed once is not computed again.

A cell is a method in a scene over one chunk of draws. Its key holds the whole scene; `code` is a hash of the method's
source, so that a changed method is computed anew and an unchanged one is not. A line that was cut off is left out.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paper_hbf.measures import Values
from paper_hbf.methods import METHODS, fingerprint
from paper_hbf.scene import CHUNK, Scene


@dataclass(frozen=True)
class Cell:
    """A method in a scene, draws start .. stop - 1 of one chunk."""

    scene: Scene
    method: str
    start: int
    stop: int

    @property
    def key(self) -> str:
        """What the cell is, without how many draws of its chunk it has."""
        method = METHODS[self.method]
        code = fingerprint(method.module), fingerprint("paper_hbf.measures")
        return json.dumps([asdict(self.scene), self.method, dict(method.options), self.start, code])


def cells(scene: Scene, method: str, draws: int) -> list[Cell]:
    """Return the cells of so many draws."""
    return [Cell(scene, method, start, min(start + CHUNK, draws)) for start in range(0, draws, CHUNK)]


class Store:
    """The file of cells of one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "cells.jsonl"
        self._known: dict[str, Any] = {}
        if not self._read():
            self._append("\n")

    def _read(self) -> bool:
        """Take in what is there; return whether the last line is whole."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self._known[entry["key"]] = entry["values"]
            except (ValueError, TypeError, KeyError):
                continue
        return not text or text.endswith("\n")

    def values(self, cell: Cell) -> Values | None:
        """Return what is kept of a cell, or None where it, or some of its draws, must be computed."""
        kept, wanted = self._known.get(cell.key), cell.stop - cell.start
        if kept is None or len(kept["nmse"]) < wanted:
            return None
        return {name: numbers[:wanted] for name, numbers in kept.items()}

    def add(self, cell: Cell, values: Values) -> None:
        """Keep a cell, at once."""
        self.put(cell.key, values)

    def get(self, key: str) -> Any:
        """Return anything else that was put under a key, or None."""
        return self._known.get(key)

    def put(self, key: str, values: Any) -> None:
        """Keep anything that JSON can hold under a key."""
        # What was read back is what is used, so that a run that goes on gives the same bytes as one in a piece.
        self._known[key] = json.loads(json.dumps(values))
        self._append(json.dumps({"key": key, "values": values}) + "\n")

    def _append(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)

    def gathered(self, scene: Scene, method: str, draws: int) -> Values:
        """Return all draws of a method in a scene; empty where some are missing."""
        parts = [self.values(cell) for cell in cells(scene, method, draws)]
        if not parts or any(part is None for part in parts):
            return {}
        whole = [part for part in parts if part is not None]
        return {name: [x for part in whole for x in part[name]] for name in whole[0]}
