"""Works through cells in several processes; only this process writes, a cell at a time."""

import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from paper_hbf.measures import Values, measure
from paper_hbf.store import Cell, Store


def run(store: Store, wanted: Iterable[Cell], jobs: int, console: Console) -> int:
    """Compute the cells that are not there yet; return how many there were."""
    missing = list({cell.key: cell for cell in wanted if store.values(cell) is None}.values())
    if not missing:
        return 0
    if not console.is_terminal:
        for done, (cell, values) in enumerate(_computed(missing, jobs), 1):
            store.add(cell, values)
            if done * 10 // len(missing) > (done - 1) * 10 // len(missing):
                console.print(f"{done} of {len(missing)} cells")
        return len(missing)
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*bar, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task("cells", total=len(missing))
        for cell, values in _computed(missing, jobs):
            store.add(cell, values)
            told = f"{cell.method} {cell.scene.beams} {cell.scene.snr_db:g} dB {cell.scene.paths} paths"
            progress.update(task, advance=1, description=f"{told:<48}")
    return len(missing)


def _computed(missing: list[Cell], jobs: int) -> Iterator[tuple[Cell, Values]]:
    if jobs == 1:
        yield from ((cell, _compute(cell)) for cell in missing)
        return
    # Started anew, not forked: threads of this process would be copied half. The parent's niceness is inherited.
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_begin) as pool:
        waiting, left = {}, iter(missing)
        try:
            while True:
                waiting |= {pool.submit(_compute, cell): cell for cell in islice(left, 2 * jobs - len(waiting))}
                if not waiting:
                    return
                for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(done), done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _compute(cell: Cell) -> Values:
    return measure(cell.scene, cell.method, cell.start, cell.stop)


def _begin() -> None:
    """One thread a process; Ctrl-C is for the parent, which throws away the cells that were begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
