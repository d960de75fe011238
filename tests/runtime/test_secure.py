"""Who may connect from another run: every pair of keys against every other, as both sides tell it."""

import itertools
import socket as sockets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import zmq
from beamslot_runs import until

from beamslot.errors import BadParam, FlowgraphError, KeyProblem
from beamslot.runtime import secure
from beamslot.runtime.graph import BlockSpec
from beamslot.runtime.keys import Keys, check_endpoint, fingerprint, host_of, leaves_machine
from beamslot.runtime.secure import KINDS, Gate, Tally, Watch, connect, tune
from beamslot.sinks.remote_sink import RemoteSink
from beamslot.sources.remote_source import RemoteSource

ROOF, DESK, STRANGER = (Keys(*zmq.curve_keypair()) for _ in range(3))
LOOPBACK = "tcp://127.0.0.1:*"


class Sides:
    """A socket that binds and one that connects, both watched; what they tell is kept."""

    numbers = itertools.count()

    def __init__(self, endpoint: str = LOOPBACK, allowed: tuple[Keys, ...] | None = (DESK,)) -> None:
        self.context: Any = zmq.Context()
        self.gate = Gate(self.context)
        self.bound = self.context.socket(zmq.ROUTER)
        if allowed is not None:
            self.gate.serve(self.bound, ROOF, [keys.public for keys in allowed], "remote edge tx")
        self.watches = [Watch(self.context, self.bound, "remote edge tx", endpoint, "bind")]
        self.bound.bind(endpoint)
        self.endpoint = self.bound.get(zmq.LAST_ENDPOINT).decode()
        self.connected: list[Any] = []
        self.told: dict[str, list[str]] = {"bind": [], "connect": []}
        self.kinds: dict[str, list[str]] = {"bind": [], "connect": []}

    def join(self, keys: Keys | None = DESK, server: Keys = ROOF) -> Watch:
        dealer = self.context.socket(zmq.DEALER)
        tune(dealer, self.endpoint)
        if keys is not None:
            connect(dealer, keys, server.public, "remote edge rx")
        watch = Watch(self.context, dealer, "remote edge rx", self.endpoint, "connect")
        dealer.connect(self.endpoint)
        dealer.send(b"hello")
        self.connected.append(dealer)
        self.watches.append(watch)
        return watch

    def turn(self) -> None:
        events = [("bind", event) for event in self.gate.poll()]
        for index, watch in enumerate(self.watches):
            events += [("connect" if index else "bind", event) for event in watch.poll()]
        for side, event in events:
            self.kinds[side].append(event.kind)
            self.told[side].append(event.text.replace(self.endpoint, "ENDPOINT"))

    def until(self, condition: Callable[[], Any]) -> Any:
        return until(lambda: (self.turn(), condition())[1], 5)

    def both_told(self) -> dict[str, str]:
        self.until(lambda: self.told["bind"] and self.told["connect"])
        return {side: told[0] for side, told in self.told.items()}

    def heard(self) -> list[bytes]:
        return self.bound.recv_multipart(zmq.NOBLOCK)[1:] if self.bound.poll(0) else []

    def close(self) -> None:
        for watch, socket in zip(self.watches, [self.bound, *self.connected], strict=True):
            watch.close()
            socket.close(linger=0)
        self.gate.close()
        self.context.term()


@contextmanager
def opened(*arguments: Any, **options: Any) -> Generator[Sides]:
    sides = Sides(*arguments, **options)
    try:
        yield sides
    finally:
        sides.close()


def test_who_is_allowed_comes_in_and_both_sides_say_so() -> None:
    with opened() as sides:
        sides.join()
        assert sides.both_told() == {
            "bind": "remote edge tx: a peer joined",
            "connect": "remote edge rx: ENDPOINT joined",
        }
        assert sides.until(sides.heard) == [b"hello"]
        assert (sides.gate.refused, sides.watches[0].refused, sides.watches[1].refused) == (0, 0, 0)


REFUSED = {
    "a key that is not allowed": (
        {"keys": STRANGER},
        (DESK,),
        f"refused a peer at 127.0.0.1: its key ({fingerprint(STRANGER.public)}) is not among those allowed",
        "ENDPOINT does not accept our key; it must be among those allowed there",
    ),
    "a wrong server key": (
        {"server": STRANGER},
        (DESK,),
        "refused a peer: it takes us for somebody else (its server_key is not our key)",
        "ENDPOINT ended the handshake without a word: server_key is probably not its key",
    ),
    "no keys at the peer": (
        {"keys": None},
        (DESK,),
        "refused a peer: it has no keys",
        "ENDPOINT wants keys, and we have none",
    ),
    "no keys here": (
        {},
        None,
        "refused a peer: it has keys, and there are none here",
        "ENDPOINT has no keys, and we want to use ours",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_who_does_not_fit_is_refused_and_both_sides_say_why(case: str) -> None:
    peer, allowed, bound, connected = REFUSED[case]
    with opened(allowed=allowed) as sides:
        watch = sides.join(**peer)
        told = sides.both_told()
        assert told == {"bind": f"remote edge tx: {bound}", "connect": f"remote edge rx: {connected}"}
        assert sides.kinds["bind"] == ["refused"]
        assert sides.heard() == []
        assert sides.gate.refused + sides.watches[0].refused >= 1
        assert watch.gave_up == (case != "a wrong server key")


def test_a_peer_on_the_same_machine_is_named_by_its_process(tmp_path: Path) -> None:
    with opened(f"ipc://{tmp_path}/edge") as sides:
        sides.join(STRANGER)
        assert "refused process " in sides.both_told()["bind"]


def test_a_key_that_is_allowed_later_comes_in_when_it_dials_again() -> None:
    with opened(allowed=()) as sides:
        watch = sides.join()
        sides.until(lambda: watch.gave_up)
        watch.redial()
        sides.until(lambda: watch.gave_up)
        sides.gate.serve(sides.bound, ROOF, [DESK.public], "remote edge tx")
        watch.redial()
        assert not watch.gave_up
        sides.until(lambda: "joined" in sides.kinds["bind"] and "joined" in sides.kinds["connect"])
        assert (sides.gate.refused, watch.refused) == (2, 2)


def test_who_leaves_is_told_and_one_that_was_refused_has_not_left() -> None:
    with opened() as sides:
        sides.join()
        sides.until(lambda: "joined" in sides.kinds["bind"])
        stranger = sides.join(STRANGER)
        sides.until(lambda: stranger.gave_up and "refused" in sides.kinds["bind"])
        sides.connected[0].close(linger=0)
        sides.until(lambda: "left" in sides.kinds["bind"])
        assert sides.kinds["bind"] == ["joined", "refused", "left"]
        assert sides.told["bind"][-1] == "remote edge tx: a peer left"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "refused a peer: what it sent is no greeting"),
        (b"", "a peer left, or fell silent, before the handshake was over"),
        (b"\xff\0\0", "a peer left, or fell silent, before the handshake was over"),
        (b"\xff" + bytes(8) + b"\x7f\x03\0NULL" + bytes(60), "refused a peer: it has no keys"),
    ],
)
def test_bytes_that_are_no_handshake_are_counted(data: bytes, text: str) -> None:
    with opened() as sides:
        host, port = sides.endpoint.removeprefix("tcp://").split(":")
        with sockets.create_connection((host, int(port))) as raw:
            raw.sendall(data)
        sides.until(lambda: sides.told["bind"])
        assert sides.told["bind"] == [f"remote edge tx: {text}"]
        sides.join()
        sides.until(lambda: "joined" in sides.kinds["bind"])


def test_without_a_gate_nobody_comes_in() -> None:
    with opened() as sides:
        sides.gate.close()
        watch = sides.join()
        until(lambda: (watch.poll(), watch.refused)[1], 5)
        assert sides.heard() == []


def test_a_gate_does_not_concern_sockets_without_keys() -> None:
    with opened(allowed=None) as sides:
        sides.join(None)
        assert until(sides.heard, 5) == [b"hello"]  # and nobody asked the gate


def test_refusals_are_told_ever_more_rarely_and_a_stranger_cannot_fill_the_memory() -> None:
    tally = Tally("remote edge rx")
    told = [event.text for _ in range(250) for event in tally.add("refused a peer at 10.1.1.2")]
    assert told == [
        "remote edge rx: refused a peer at 10.1.1.2",
        "remote edge rx: refused a peer at 10.1.1.2 (10 times)",
        "remote edge rx: refused a peer at 10.1.1.2 (100 times)",
    ]
    many = [event.text for number in range(10_000) for event in tally.add(f"refused a peer at {number}")]
    assert len(many) == KINDS - 1 + 4
    assert many[-1] == "remote edge rx: refused others, too many to name (1000 times)"
    assert tally.total == 10_250


def test_a_libzmq_without_keys_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secure.zmq, "has", lambda _: False)
    with opened(allowed=None) as sides, pytest.raises(KeyProblem, match="remote edge rx: this libzmq has no keys"):
        connect(sides.bound, DESK, ROOF.public, "remote edge rx")


def test_addresses_of_the_new_internet_protocol_can_be_used() -> None:
    context: Any = zmq.Context()
    with context.socket(zmq.ROUTER) as socket:
        tune(socket, "tcp://[::1]:1")
        assert socket.get(zmq.IPV6)
        tune(socket, "tcp://127.0.0.1:1")
        assert not socket.get(zmq.IPV6)
    context.term()


# Endpoints


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://10.1.1.2",
        "tcp://10.1.1.2:0",
        "tcp://10.1.1.2:65536",
        "tcp://10.1.1.2:*",
        "tcp://a;tcp://b:5",
        "tcp://:5",
        "tcp://1.2.3.4:5 ",
        "ipc://relative",
        "ipc://@abstract",
        "ipc:///" + "x" * 107,
        "inproc://x",
        "udp://1.2.3.4:5",
        "",
    ],
)
def test_other_endpoints_are_refused(endpoint: str) -> None:
    with pytest.raises(BadParam, match=r"wanted tcp://HOST:PORT or ipc:///PATH$"):
        host_of(endpoint)


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:5", "tcp://127.9.9.9:5", "tcp://[::1]:5", "tcp://localhost:5", "ipc:///run/edge"]
)
def test_within_the_machine_no_keys_are_needed(endpoint: str) -> None:
    check_endpoint(endpoint, has_keys=False)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://*:5",
        "tcp://0.0.0.0:5",
        "tcp://[::]:5",
        "tcp://10.1.1.2:5",
        "tcp://eth0:5",
        "tcp://127.1:5",
        "tcp://a.b:5",
    ],
)
def test_what_leaves_the_machine_needs_keys(endpoint: str) -> None:
    assert leaves_machine(endpoint)
    check_endpoint(endpoint, has_keys=True)
    with pytest.raises(BadParam) as caught:
        check_endpoint(endpoint, has_keys=False)
    assert str(caught.value) == (
        f"{endpoint} leaves this machine, and there are no keys; make some (beamslot keys new NAME), "
        "or stay on tcp://127.0.0.1:PORT or ipc:///PATH"
    )


# The two blocks


@pytest.mark.parametrize(
    ("kind", "parameters", "problem"),
    [
        (RemoteSink, {"bind": "tcp:/x"}, "edge.bind: got 'tcp:/x'; wanted: tcp://HOST:PORT or ipc:///PATH"),
        (RemoteSink, {"bind": "tcp://*:5"}, "edge: tcp://*:5 leaves this machine, and there are no keys; make some"),
        (RemoteSink, {"bind": "tcp://*:5", "key": "k"}, "edge: key and allow go together; give both or none"),
        (
            RemoteSource,
            {"connect": "tcp://*:5"},
            "edge.connect: got 'tcp://*:5'; wanted: the host that the remote_sink",
        ),
        (RemoteSource, {"connect": "x"}, "edge.connect: got 'x'; wanted: tcp://HOST:PORT or ipc:///PATH"),
        (RemoteSource, {"connect": "tcp://a:5"}, "edge: tcp://a:5 leaves this machine, and there are no keys"),
        (
            RemoteSource,
            {"connect": "tcp://a:5", "server_key": "k"},
            "edge: key and server_key go together; give both or none",
        ),
    ],
)
def test_wrong_parameters_are_told_in_the_words_of_the_declaration(
    kind: type[RemoteSink | RemoteSource], parameters: dict[str, str], problem: str
) -> None:
    with pytest.raises(FlowgraphError) as caught:
        BlockSpec("edge", kind, parameters, "demo.yml:12").build()
    assert str(caught.value).startswith(f"demo.yml:12: {problem}")


def test_the_blocks_say_which_end_they_are() -> None:
    sides: list[Literal["bind", "connect"]] = [RemoteSink.remote, RemoteSource.remote]
    assert sides == ["bind", "connect"]
    assert RemoteSink(bind="tcp://*:5", key="k", allow="a").channel == ""
    for kind in (RemoteSink, RemoteSource):
        assert all(parameter.description for parameter in kind.model_fields.values())
    assert (list(RemoteSink.inputs), list(RemoteSource.outputs)) == (["stream"], ["stream"])
