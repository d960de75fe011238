"""What the tests of replays share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from beamslot_foreign import Lab, lab_at
from beamslot_runs import Runner

from beamslot.cli import THREADS


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Return a front end whose samples somebody else has written."""
    return lab_at(tmp_path)


@pytest.fixture(scope="session")
def runs(private_state: Path) -> Iterator[Runner]:
    """Start graphs in processes of their own, with as many threads as the command line gives them."""
    directory = private_state / "replayed-runs"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in THREADS:
            patch.setenv(name, "1")
        runner = Runner(directory)
    yield runner
    runner.close()
