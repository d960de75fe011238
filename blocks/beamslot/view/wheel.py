"""Asks a run to change, in a thread of its own: an answer may take seconds, and no page waits for it."""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from beamslot.errors import BeamslotError
from beamslot.runtime import steering

PATIENCE = 10.0
"""An answer may take so long [s]: a change waits for the calls under way."""

Answer = Future[dict[str, Any]]


class Wheel:
    """Takes requests and gives their answers later, one after the other."""

    def __init__(self) -> None:
        self._requests: SimpleQueue[tuple[Answer, Mapping[str, Any], dict[str, Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="wheel", daemon=True)
        self._begun = threading.Lock()

    def ask(self, card: Mapping[str, Any], do: str, **fields: Any) -> Answer:
        """Ask a run for something, see `AttachedRun.ask`; return the answer that will be, or the refusal."""
        if self._begun.acquire(blocking=False):
            self._thread.start()
        answer: Answer = Future()
        self._requests.put((answer, card, {"do": do, **fields}))
        return answer

    def stop(self) -> None:
        """End the thread when what it asks now is answered."""
        self._requests.put(None)

    def _loop(self) -> None:
        while (request := self._requests.get()) is not None:
            answer, card, asked = request
            try:
                answer.set_result(steering.ask(card, asked, PATIENCE))
            except BeamslotError as error:
                answer.set_exception(error)
            except Exception as error:  # whoever asked is told; the thread goes on
                answer.set_exception(BeamslotError(f"{asked['do']}: {type(error).__name__}: {error}"))
