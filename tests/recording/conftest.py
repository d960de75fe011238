"""One server that forks the runs of all tests here."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from beamslot_runs import Runner


@pytest.fixture(scope="session")
def runs(private_state: Path) -> Iterator[Runner]:
    """Start graphs in processes of their own."""
    directory = private_state / "recorded-runs"
    directory.mkdir()
    runner = Runner(directory)
    yield runner
    runner.close()
