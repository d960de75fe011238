"""GNU Radio reads the samples of our recordings as they were."""

from pathlib import Path
from typing import Any

import numpy as np
from beamslot_recording import front_end, metas, stored_slots, story, write


def test_gnuradio_reads_the_samples_of_a_recording_back_identically(peer: Any, tmp_path: Path) -> None:
    said = story(31, 80, infos=[front_end(0)])
    write(tmp_path / "made", said, seed=3)
    ((name, meta),) = metas(tmp_path / "made").items()
    wanted = np.array([*stored_slots(said, "rf").values()], np.complex64)
    data = tmp_path / "made" / f"{name}.sigmf-data"
    channels = meta["global"]["core:num_channels"]
    assert wanted.shape[1] == channels
    asked = ("--file", data, "--vlen", channels, "--count", len(wanted), "--out", tmp_path / "kept.npz")
    items, _ = peer("keep", *asked).kept()
    assert items.tobytes() == wanted.tobytes()
