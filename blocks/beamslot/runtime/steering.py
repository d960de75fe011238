"""How a running graph is steered from outside: a socket in the directory of the run, at which its supervisor listens.

A request is a line of JSON, {"do": "set", ...}, and its answer another: {"ok": true, ...}, or {"ok": false,
"error": why, "kind": the name of the error}. Only this user can reach the socket, as the directory is private. The
same module asks.
"""

import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from beamslot.errors import BadParam, BeamslotError, FlowgraphError, PeerLost, UnknownBlock

SOCKET = "steer"
MOST_BYTES = 1 << 16
MOST_CLIENTS = 16
PATIENCE = 10.0
"""How long an answer may take [s]: a change waits for calls under way."""

Request = Mapping[str, Any]
Reply = Callable[[Mapping[str, Any]], None]


@dataclass
class Client:
    """Somebody who has connected: what came so far, and whether a request of theirs is under way."""

    socket: socket.socket
    came: bytearray = field(default_factory=bytearray)
    waiting: bool = False


class Listener:
    """The supervisor's end: takes requests without ever waiting for anybody.

    act: does what a request asks, and calls its second argument with the answer, now or later;
        what it raises of ours is the answer
    """

    def __init__(self, directory: Path, act: Callable[[Request, Reply], None]) -> None:
        self._act = act
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(directory / SOCKET))
        self._socket.listen(MOST_CLIENTS)
        self._clients: dict[int, Client] = {}

    @property
    def descriptors(self) -> list[int]:
        """What to poll for reading."""
        return [self._socket.fileno(), *self._clients]

    def serve(self, descriptor: int) -> None:
        """Take what has come at one of them."""
        if descriptor == self._socket.fileno():
            self._welcome()
        elif descriptor in self._clients:
            self._hear(self._clients[descriptor])

    def close(self) -> None:
        """Let everybody go; who waits for an answer learns that the run is over."""
        for client in list(self._clients.values()):
            if client.waiting:
                self._answer(client, refusal(PeerLost("the run has ended")))
            else:
                self._part(client)
        self._socket.close()

    def _welcome(self) -> None:
        with contextlib.suppress(OSError):
            accepted, _ = self._socket.accept()
            accepted.setblocking(False)
            if len(self._clients) >= MOST_CLIENTS:  # whoever has been silent for longest makes room
                self._part(next((one for one in self._clients.values() if not one.waiting), Client(accepted)))
            if accepted.fileno() < 0:
                return
            self._clients[accepted.fileno()] = Client(accepted)

    def _hear(self, client: Client) -> None:
        try:
            came = client.socket.recv(MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            came = b""
        client.came += came
        line, end, _ = bytes(client.came).partition(b"\n")
        if client.waiting or (not end and came and len(client.came) < MOST_BYTES):
            if not came:
                self._part(client)  # they do not wait for the answer; what was asked is done all the same
            return
        if not end:
            self._part(client)
            return
        client.waiting = True
        try:
            self._act(_request(line), lambda answer: self._answer(client, answer))
        except BeamslotError as error:
            self._answer(client, refusal(error))

    def _answer(self, client: Client, answer: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # they may have gone, or never read
            client.socket.sendall(json.dumps(answer, default=str).encode() + b"\n")
        self._part(client)

    def _part(self, client: Client) -> None:
        self._clients.pop(client.socket.fileno(), None)
        client.socket.close()


def refusal(error: BeamslotError) -> dict[str, Any]:
    """Return the answer that tells of an error."""
    return {"ok": False, "error": str(error), "kind": type(error).__name__}


def _request(line: bytes) -> Request:
    try:
        value: Any = json.loads(line)
    except ValueError:
        value = None
    if not isinstance(value, dict) or not isinstance(cast(dict[str, Any], value).get("do"), str):
        raise BadParam('got no request; wanted a line of JSON, {"do": "get"} or the like')
    return cast(dict[str, Any], value)


def ask(card: Mapping[str, Any], request: Request, patience: float = PATIENCE) -> dict[str, Any]:
    """Ask a running graph for something and return its answer.

    card: of the run, see `observe.find`    patience: how long to wait for the answer [s]
    raises PeerLost where the run does not answer, and what it refuses as the error that it names
    """
    name = card["name"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(patience)
        try:
            asking.connect(str(Path(card["path"]) / SOCKET))
            asking.sendall(json.dumps(request).encode() + b"\n")
            came = bytearray()
            while not came.endswith(b"\n") and (data := asking.recv(MOST_BYTES)):
                came += data
            answer: Any = json.loads(came)
        except TimeoutError:
            raise PeerLost(
                f"{name}: no answer to {request['do']} within {patience:g} s; a block may be at work on one slot"
            ) from None
        except (OSError, ValueError) as error:
            raise PeerLost(f"{name}: does not answer ({error}); perhaps it has just ended") from None
    if not answer["ok"]:
        kinds = {kind.__name__: kind for kind in (FlowgraphError, UnknownBlock, PeerLost)}
        raise kinds.get(answer.get("kind", ""), BadParam)(answer["error"])
    return answer
