"""Works through tasks in several processes; only this process writes, a task at a time."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from paper_hbf.measures import Values, measure
from paper_hbf.store import Cell, Store

Task = TypeVar("Task")
Result = TypeVar("Result")


def run(store: Store, wanted: Iterable[Cell], jobs: int, console: Console) -> int:
    """Compute the cells that are not there yet; return how many there were."""
    missing = list({cell.key: cell for cell in wanted if store.values(cell) is None}.values())
    for cell, values in told(missing, _compute, jobs, "cells", console, _label):
        store.add(cell, values)
    return len(missing)


def _compute(cell: Cell) -> Values:
    return measure(cell.scene, cell.method, cell.start, cell.stop)


def _label(cell: Cell) -> str:
    scene = cell.scene
    return f"{f'{cell.method} {scene.beams} {scene.snr_db:g} dB {scene.paths} paths':<48}"


def told(
    tasks: Sequence[Task],
    compute: Callable[[Task], Result],
    jobs: int,
    what: str,
    console: Console,
    label: Callable[[Task], str] | None = None,
) -> Iterator[tuple[Task, Result]]:
    """Yield tasks with their results as they come, and tell how far it is.

    compute: importable by its name, for other processes    what: the tasks are, in words
    label: of the task that was done last, in place of these words
    """
    if not tasks:
        return
    if not console.is_terminal:
        for done, each in enumerate(_computed(tasks, compute, jobs), 1):
            yield each
            if done * 10 // len(tasks) > (done - 1) * 10 // len(tasks):
                console.print(f"{done} of {len(tasks)} {what}")
        return
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*bar, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(what, total=len(tasks))
        for each in _computed(tasks, compute, jobs):
            yield each
            progress.update(task, advance=1, description=label(each[0]) if label else what)


def _computed(tasks: Sequence[Task], compute: Callable[[Task], Result], jobs: int) -> Iterator[tuple[Task, Result]]:
    if jobs == 1:
        yield from ((task, compute(task)) for task in tasks)
        return
    # Started anew, not forked: threads of this process would be copied half. The parent's niceness is inherited.
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_begin) as pool:
        waiting, left = {}, iter(tasks)
        try:
            while True:
                waiting |= {pool.submit(compute, task): task for task in islice(left, 2 * jobs - len(waiting))}
                if not waiting:
                    return
                for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(done), done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """One thread a process; Ctrl-C is for the parent, which throws away what was begun and not saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
