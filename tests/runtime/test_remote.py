"""One edge between two runs: lossless through kills, cuts and link breaks, and closed to whoever has no key."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from beamslot_across import receiving, sending
from beamslot_netns import linked, reap
from beamslot_runs import Runner, assert_balanced, until

from beamslot.runtime.chaos import Strike
from beamslot.runtime.keys import create

SLOTS = 5000
PULLED = 2.0
"""How long the link is down [s]."""

Start = Callable[..., Any]


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ([], []),
        ([Strike("kill", "relay", 1500)], []),
        ([Strike("kill", "tx", 1500)], []),
        ([], [Strike("kill", "rx", 1500)]),
        ([], [Strike("kill", "sink", 1500)]),
        ([Strike("cut", "relay", 1000)], [Strike("cut", "rx", 1500), Strike("cut", "relay", 2000)]),
        ([Strike("kill", "tx", 1500), Strike("kill", "src", 3000)], [Strike("kill", "rx", 1500)]),
    ],
    ids=["calm", "relay there", "sender", "receiver", "sink", "cuts", "both ends"],
)
def test_every_slot_of_one_run_reaches_the_sink_of_another(
    there: list[Strike], here: list[Strike], runs: Runner, tmp_path: Path
) -> None:
    endpoint = f"ipc://{tmp_path}/wire"
    sender = runs.start(sending({"bind": endpoint}, SLOTS, float("inf")), strikes=there)
    receiver = runs.start(receiving({"connect": endpoint}), strikes=here)
    told, heard = sender.report(), receiver.report()
    for report in (told, heard):
        assert report["problems"] == []
        assert_balanced(report)
    assert heard["sinks"]["sink"] == {"seen": SLOTS, "bad": 0, "missed": 0, "returns": []}
    assert told["restarts"] == sum(strike.action == "kill" for strike in there)


def test_what_a_run_had_not_finished_the_next_one_gets(runs: Runner, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/wire"
    sender = runs.start(sending({"bind": endpoint}, 3000, 1.0))
    first = runs.start(receiving({"connect": endpoint}))
    until(lambda: first.status.get("sinks", {}).get("sink", {}).get("seen", 0) > 300)
    first.signal(signal.SIGINT)
    one = first.report()
    two = runs.start(receiving({"connect": endpoint})).report()
    assert (one["exit_code"], two["exit_code"], sender.report()["exit_code"]) == (130, 0, 0)
    assert one["sinks"]["sink"]["seen"] + two["sinks"]["sink"]["seen"] == 3000
    assert one["sinks"]["sink"]["bad"] == two["sinks"]["sink"]["bad"] == 0


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Files of keys by name: roof sends, desk may come in, stranger may not."""
    made: dict[str, str] = {}
    for name in ("roof", "desk", "stranger"):
        public, secret = create(tmp_path, name)
        made |= {name: str(public), f"{name} secret": str(secret)}
    return made


@pytest.fixture
def programs() -> Iterator[list[Any]]:
    """Programs that are ended with the test."""
    started: list[Any] = []
    yield started
    reap(started)


def asked(side: str, path: Path, parameters: Mapping[str, Any], **options: Any) -> list[str]:
    told = {"side": side, "path": str(path), "parameters": parameters, **options}
    return [sys.executable, str(Path(__file__).parents[1] / "support" / "beamslot_across.py"), json.dumps(told)]


def read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def test_a_link_that_fails_five_times_under_load_loses_nothing(
    keys: dict[str, str], programs: list[Any], tmp_path: Path
) -> None:
    with linked() as pair:
        endpoint = f"tcp://{pair.addresses['left']}:5555"
        bound = {"bind": endpoint, "key": keys["roof secret"], "allow": keys["desk"]}
        joined = {"connect": endpoint, "key": keys["desk secret"], "server_key": keys["roof"]}
        slots = 18_000
        send = asked("send", tmp_path / "sent", bound, options={"slots": slots, "pace": 1.0})
        programs.append(pair.start("left", *send))
        programs.append(pair.start("right", *asked("receive", tmp_path / "received", joined)))
        status = tmp_path / "received.status"
        until(lambda: (read(status) or {}).get("sinks", {}).get("sink", {}).get("seen", 0) > 500, 20)
        returned = [pull(pair, "left" if turn % 2 else "right") for turn in range(5)]
        report = until(lambda: read(tmp_path / "received"), 40)
        sent = until(lambda: read(tmp_path / "sent"), 10)
    assert (report["problems"], sent["problems"]) == ([], [])
    sink = report["sinks"]["sink"]
    assert (sink["seen"], sink["bad"], sink["missed"]) == (slots, 0, 0)
    assert_balanced(report)
    for at in returned:
        assert any(0 < back - at < 1.0 for back in sink["returns"]), (returned, sink["returns"])


def pull(pair: Any, side: Any) -> float:
    """Take the link down for a while; return when it was taken up again, after it has been so for a second."""
    pair.down(side)
    time.sleep(PULLED)
    returned = time.monotonic()
    pair.up(side)
    time.sleep(1.0)
    return returned


@pytest.mark.parametrize(
    ("given", "there", "here"),
    [
        ("stranger", "is not among those allowed", "does not accept our key"),
        ("none", "it has no keys", "wants keys, and we have none"),
    ],
)
def test_a_wrong_or_missing_key_is_refused_said_and_counted_on_both_sides(
    given: str, there: str, here: str, keys: dict[str, str], programs: list[Any], tmp_path: Path
) -> None:
    seen: list[str] = []
    for attempt in ("first", "second"):  # seen once in some twenty runs of the suite: a refusal that nobody told
        folder = tmp_path / attempt
        folder.mkdir()
        pair = refusal(given, keys, folder)
        programs.extend(pair)
        try:
            for name, text in (("sent", there), ("received", here)):
                until(lambda n=name, t=text, f=folder: t in str((read(f / f"{n}.status") or {}).get("notes")), 15)
        except AssertionError:
            seen += [f"{name}: {read(folder / f'{name}.status')}" for name in ("sent", "received")]
            continue
        for program in pair:
            program.send_signal(signal.SIGINT)
        sent = until(lambda f=folder: read(f / "sent"), 15)
        assert any("tx: refused" in note for note in sent["notes"])
        return
    pytest.fail("\n".join(seen))


def refusal(given: str, keys: dict[str, str], folder: Path) -> list[Any]:
    """Start a run that sends and one that may not receive from it."""
    port = free_port()
    bound = {"bind": f"tcp://127.0.0.1:{port}", "key": keys["roof secret"], "allow": keys["desk"]}
    joined = {"connect": f"tcp://127.0.0.1:{port}"}
    if given != "none":
        joined |= {"key": keys[f"{given} secret"], "server_key": keys["roof"]}
    send = asked("send", folder / "sent", bound, options={"slots": 100, "pace": 1.0})
    return [subprocess.Popen(send), subprocess.Popen(asked("receive", folder / "received", joined))]


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
