"""Both blocks against the real GNU Radio: every kind of socket, tags, keys, PDUs, restarts, mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_gnuradio import VLEN, Hearing, rf_info, samples

from beamslot.runtime.testing import run_block
from beamslot.sinks.gnuradio_sink import GnuradioSink

AXES = {"user": 2, "y": 64, "chain": 6}
ITEMS = 10_000
DATA = samples(ITEMS)

LINKS = [
    ("push", "pull", False, ""),
    ("push", "pull", True, ""),
    ("rep", "req", False, ""),
    ("rep", "req", True, ""),
    ("pub", "sub", False, ""),
    ("pub", "sub", True, ""),
    ("pub", "sub", False, "front"),
    ("pub", "sub", True, "front"),
]


def options(tags: bool, key: str) -> list[str]:
    return [*(["--tags"] if tags else []), *(["--key", key] if key else [])]


def listening(radio: Hearing, started: Any) -> Hearing:
    """Let GNU Radio begin when we are connected, and what we subscribe to has come there."""
    radio.until(lambda: radio.joined)
    for _ in range(3):
        radio.turn()
    started.go()
    return radio


@pytest.mark.parametrize(("theirs", "ours", "tags", "key"), LINKS)
def test_what_gnuradio_sends_comes_bit_for_bit_with_its_tags_in_place(
    theirs: str, ours: str, tags: bool, key: str, endpoint: str, peer: Any, hearing: Any
) -> None:
    started = peer(
        *("send", "--give", theirs, "--to", endpoint, "--vlen", VLEN, "--count", ITEMS, "--per-slot", 2),
        *options(tags, key),
        "--wait-for-line",
    )
    radio = hearing(socket=ours, connect=endpoint, axes=AXES, tags=tags, key=key)
    listening(radio, started).reach(ITEMS // 2)
    np.testing.assert_array_equal(radio.array(), DATA.reshape(-1, 2, 64, 6))
    assert (radio.gaps, radio.told, radio.block.refused) == ([], [], 0)
    if tags:
        slots = [tag for frame in radio.frames for tag in frame.tags.get("slot", [])]
        assert slots[:1000] == [[slot, 0, slot] for slot in range(1000)]
        first = {name: value for name, value in radio.frames[0].tags.items() if name != "slot"}
        assert first == {"rx_time": [[0, 0, [3, 0.25]]], "rx_rate": [[0, 0, 2000.0]], "rx_freq": [[0, 0, 3.5e9]]}
        assert radio.infos[-1].carrier == 3.5e9


@pytest.mark.parametrize(
    ("ours", "theirs", "tags", "key", "burst"), [*((*link, 64) for link in LINKS), *((*link, 1) for link in LINKS[:2])]
)
def test_what_we_send_gnuradio_has_bit_for_bit_with_its_tags_in_place(
    ours: str, theirs: str, tags: bool, key: str, burst: int, endpoint: str, peer: Any, tmp_path: Path
) -> None:
    kept = peer(
        *(
            "keep",
            "--take",
            theirs,
            "--from",
            endpoint,
            "--vlen",
            VLEN,
            "--count",
            ITEMS,
            "--out",
            tmp_path / "kept.npz",
        ),
        *options(tags, key),
    )
    block = GnuradioSink(socket=ours, bind=endpoint, tags=tags, key=key)
    info = rf_info()
    outcome = run_block(block, {"stream": {"rf": DATA.reshape(-1, 2, 64, 6)}}, infos={"stream": info}, burst=burst)
    assert outcome.core is not None
    items, found = kept.kept()
    np.testing.assert_array_equal(items, DATA)
    assert block.results() == {"slots": ITEMS // 2, "missed": 0, "unheard": 0}
    clock = [[0, "rx_time", [0, 0.0]], [0, "rx_rate", 2000.0], [0, "rx_freq", 28e9]]
    slots = [[2 * slot, "slot", slot] for slot in range(ITEMS // 2)]
    assert found == ([slots[0], *clock, *slots[1:]] if tags else [])


@pytest.mark.parametrize(("theirs", "ours"), [("push", "pull"), ("pub", "sub"), ("rep", "req")])
def test_pdus_of_gnuradio_are_slots(theirs: str, ours: str, endpoint: str, peer: Any, hearing: Any) -> None:
    count = 500
    started = peer(
        *("send", "--messages", "--give", theirs, "--to", endpoint, "--vlen", 12, "--count", count, "--wait-for-line")
    )
    radio = hearing(
        socket=ours,
        messages=True,
        slots_by="tag",
        origin=0,
        connect=endpoint,
        axes={"user": 2, "y": 2, "chain": 3},
    )
    listening(radio, started).reach(count)
    np.testing.assert_array_equal(radio.array(), samples(count, 12).reshape(-1, 2, 2, 3))
    assert (radio.gaps, radio.told) == ([], [])
    assert radio.frames[0].tags["who"][0] == [0, 0, "peer"]


@pytest.mark.parametrize(("ours", "theirs"), [("push", "pull"), ("pub", "sub"), ("rep", "req")])
def test_our_slots_are_pdus_of_gnuradio(ours: str, theirs: str, endpoint: str, peer: Any, tmp_path: Path) -> None:
    count = 500
    kept = peer(
        *("keep", "--messages", "--take", theirs, "--from", endpoint, "--vlen", 12, "--count", count),
        *("--out", tmp_path / "kept.npz"),
    )
    block = GnuradioSink(socket=ours, messages=True, bind=endpoint)
    data = samples(count, 12).reshape(-1, 2, 2, 3)
    run_block(block, {"stream": {"rf": data}}, infos={"stream": rf_info(2, 2, 3)})
    items, metas = kept.kept()
    np.testing.assert_array_equal(items, data.reshape(count, 12))
    assert [meta["slot"] for meta in metas] == list(range(count))
    assert metas[0] == {"slot": 0, "rx_time": [0, 0.0], "rx_rate": 2000.0, "rx_freq": 28e9}


@pytest.mark.parametrize(("tags", "numbered"), [(True, False), (True, True), (False, False)])
def test_gnuradio_that_is_killed_and_started_again_is_told_and_goes_on_behind_a_gap(
    tags: bool, numbered: bool, endpoint: str, peer: Any, hearing: Any
) -> None:
    radio = hearing(connect=endpoint, axes=AXES, tags=tags, slots_by="tag" if numbered else "count")
    for life in range(2):
        started = peer("send", "--to", endpoint, "--vlen", VLEN, "--count", 200, "--per-slot", 2, *options(tags, ""))
        radio.reach(100 + 101 * life)
        started.kill()
        radio.until(lambda: not radio.joined)
    assert radio.gaps == [(100, 1, "restarted")]
    np.testing.assert_array_equal(radio.array(), np.tile(DATA[:200].reshape(-1, 2, 64, 6), (2, 1, 1, 1)))
    gone, back, again = (note.partition(f"radio: GNU Radio at {endpoint} ")[2] for note in radio.told)
    assert gone == again.replace("201", "100") == "has gone, at slot 100; waiting for it to come back"
    assert back.startswith("is back, at slot 10")


MISTAKES = {
    "tags here alone": ([], {"tags": True}, "CorruptFrame", "the peer sends no tags (its pass_tags is off)"),
    "tags there alone": (["--tags"], {}, "ShapeError", "it begins with a tag header (the peer's pass_tags is on)"),
    "another size": (
        ["--vlen", 385],
        {},
        "ShapeError",
        "bytes of items came; wanted a multiple of 3072, 384 complex64",
    ),
    "a key there": (["--key", "K", "--give", "pub"], {"socket": "sub"}, "CorruptFrame", "the peer sends a key"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_settings_that_do_not_fit_are_told_and_kill_neither(what: str, endpoint: str, peer: Any, hearing: Any) -> None:
    theirs, ours, kind, text = MISTAKES[what]
    started = peer("send", "--to", endpoint, "--count", 200, "--vlen", VLEN, *theirs, "--wait-for-line")
    radio = listening(hearing(connect=endpoint, axes=AXES, **ours), started)
    radio.until(lambda: radio.told)
    assert radio.told[0].startswith(f"radio: {kind} from {endpoint}, at slot 0: ")
    assert text in radio.told[0]
    assert radio.block.refused >= 1
    assert radio.frames == []
    assert started.alive


def test_a_subscriber_with_another_key_hears_nothing_and_lives(endpoint: str, peer: Any, hearing: Any) -> None:
    started = peer("send", "--give", "pub", "--key", "other", "--to", endpoint, "--vlen", VLEN, "--count", 9)
    radio = hearing(socket="sub", key="mine", connect=endpoint, axes=AXES, silence=0.05)
    radio.until(lambda: radio.told)
    assert radio.told == [f"radio: nothing has come from GNU Radio at {endpoint} for 0.05 s, at slot 0"]
    assert started.alive


def test_samples_cross_gnuradio_and_come_back_as_they_were(
    endpoint: str, peer: Any, hearing: Any, tmp_path: Path
) -> None:
    peer("loop", "--from", endpoint, "--to", f"{endpoint}.2", "--vlen", VLEN, "--tags")
    radio = hearing(connect=f"{endpoint}.2", axes=AXES, tags=True, slots_by="tag", origin=0)
    data = DATA[:2000].reshape(-1, 2, 64, 6)
    run_block(GnuradioSink(bind=endpoint, tags=True), {"stream": {"rf": data}}, infos={"stream": rf_info()}, burst=16)
    radio.reach(1000)
    np.testing.assert_array_equal(radio.array(), data)
    assert (radio.gaps, radio.infos[-1].carrier) == ([], 28e9)
