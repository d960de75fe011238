"""What a training tells: a bar with the time left, a line of CSV for every step with something to tell, TensorBoard."""

import csv
import io
import math
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

CSV, BOARD = "log.csv", "board"

_QUIET = 10.0
"""Seconds between two lines where there is no terminal."""

_ALWAYS = {"step", "steps", "phase", "resumed"}


class Table:
    """A CSV file that grows by a row at a time, and by a column where a row brings one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns, self.rows = list[str](), list[dict[str, Any]]()
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file)
                self.columns = list(reader.fieldnames or [])
                # A line that was cut off has fewer fields.
                self.rows = [row for row in reader if None not in row.values() and None not in row]

    def after(self, step: int) -> None:
        """Forget rows after a step."""
        self.rows = [row for row in self.rows if float(row["step"]) <= step]
        self._write()

    def add(self, row: dict[str, Any]) -> None:
        """Add a row."""
        self.rows.append(row)
        if not set(row) <= set(self.columns):
            self.columns += [name for name in row if name not in self.columns]
            self._write()
            return
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(self._text([row]))

    def _write(self) -> None:
        draft = self.path.with_name(self.path.name + ".part")
        draft.write_text(self._text([{name: name for name in self.columns}, *self.rows]), encoding="utf-8", newline="")
        draft.replace(self.path)

    def _text(self, rows: list[dict[str, Any]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, restval="", lineterminator="\n").writerows(rows)
        return text.getvalue()


class Report:
    """Called with what a trainer tells; raises KeyboardInterrupt once it was asked to stop."""

    def __init__(self, out: Path, console: Console, *, leads: bool = True) -> None:
        self.out, self.console, self.leads = out, console, leads
        self.stopping = False
        self._begun, self._told, self._first = math.nan, -math.inf, 0
        self._table = Table(out / CSV) if leads else None
        self._board = _board(out / BOARD) if leads else None
        self._bar = _bar(console) if leads and console.is_terminal else None
        self._task = self._bar.add_task("begins", total=None) if self._bar else None

    def __enter__(self) -> "Report":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()
        if self._board:
            self._board.close()

    def __call__(self, told: dict[str, Any]) -> None:
        """Take in what is told."""
        if self.leads:
            self._take(told)
        if self.stopping:
            raise KeyboardInterrupt

    def _take(self, told: dict[str, Any]) -> None:
        step, steps = int(told.get("step", 0)), int(told.get("steps", 0))
        if math.isnan(self._begun):  # what came before the first step says nothing of the next
            self._begun, self._first = time.monotonic(), step
        if told.get("resumed") and self._table:
            self._table.after(step)
            self.console.print(f"goes on at step {step} of {steps}", highlight=False)
        numbers = {name: value for name, value in told.items() if name not in _ALWAYS}
        if numbers:
            self._keep(step, told, numbers)
        self._show(step, steps, told, numbers)

    def _keep(self, step: int, told: dict[str, Any], numbers: dict[str, Any]) -> None:
        phase = {"phase": told["phase"]} if "phase" in told else {}
        if self._table:
            self._table.add({"step": step, **phase, "seconds": round(time.monotonic() - self._begun, 1), **numbers})
        if self._board:
            for name, value in numbers.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def _show(self, step: int, steps: int, told: dict[str, Any], numbers: dict[str, Any]) -> None:
        text = f"{told.get('phase', '')} {self._left(step, steps)}"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=step, total=steps or None, description=text)
        now = time.monotonic()
        figures = "aoa_rmse_deg" in numbers or told.get("phase") == "result"
        if figures or (not self._bar and now - self._told >= _QUIET):
            self._told = now
            values = ", ".join(
                f"{name} {value:.5g}" for name, value in numbers.items() if isinstance(value, int | float)
            )
            self.console.print(
                f"step {step} of {steps}, {text}{': ' if values else ''}{values}", highlight=False, soft_wrap=True
            )

    def _left(self, step: int, steps: int) -> str:
        done = step - self._first
        if done <= 0 or not steps:
            return ""
        rate = done / max(time.monotonic() - self._begun, 1e-9)
        return f"{rate:.3g} steps/s, {_clock((steps - step) / rate)} left"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _board(folder: Path) -> Any:
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(folder))
