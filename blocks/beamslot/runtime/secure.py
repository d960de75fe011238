"""Sockets between two runs: who may connect, what became of the handshake, and links that break and come back.

What ZeroMQ (libzmq 4.3.5) says of a handshake on both sides, and whether the connecting side tries again by itself:

| the peer that connects        | binding side                      | connecting side       | again |
|-------------------------------|-----------------------------------|-----------------------|-------|
| has a key that is allowed     | Gate: its key; SUCCEEDED          | SUCCEEDED             |       |
| has a key that is not         | Gate: address, key; AUTH 400      | AUTH 400              | no    |
| has a wrong server key        | PROTOCOL, cryptographic           | NO_DETAIL, then again | yes   |
| has no keys, and we have      | PROTOCOL, mechanism mismatch      | the same              | no    |
| has keys, and we have none    | PROTOCOL, mechanism mismatch      | the same              | no    |
| sends what is no greeting     | DISCONNECTED alone                |                       |       |
| leaves or falls silent        | NO_DETAIL                         | NO_DETAIL             | yes   |

So a connecting side that was refused must be told to try again (`Watch.redial`), or a key that is allowed later would
never be used. Without a Gate in the same context nobody at all is let in. Contexts are made after the fork.
"""

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from beamslot.errors import KeyProblem
from beamslot.runtime.keys import Keys, fingerprint, host_of

Socket = zmq.Socket[bytes]

ZAP = "inproc://zeromq.zap.01"
"""Where libzmq asks, within its own context, whether a peer may come in."""

KINDS = 64
"""So many different refusals are counted apart; a stranger can make up no more."""

HANDSHAKES = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
FAILED = HANDSHAKES & ~(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a peer: it joined, left, or was refused, with the sentence to be shown."""

    kind: Literal["joined", "left", "refused"]
    text: str


class Tally:
    """Counts refusals; each kind is told the first, tenth, hundredth ... time, so that nobody can fill a log."""

    def __init__(self, where: str) -> None:
        self.where, self.total = where, 0
        self._counts: dict[str, int] = {}

    def add(self, text: str) -> list[Event]:
        """Count a refusal; return it where it is to be told."""
        self.total += 1
        kind = text if text in self._counts or len(self._counts) < KINDS else "refused others, too many to name"
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if str(count).rstrip("0") != "1":
            return []
        return [Event("refused", f"{self.where}: {kind}{f' ({count} times)' if count > 1 else ''}")]


class Gate:
    """Lets those in whose keys are allowed; one for all sockets of a context that have keys.

    Poll `socket` and call `poll` when it has something: until then whoever connects waits.
    """

    def __init__(self, context: zmq.Context[Socket]) -> None:
        self.socket: Socket = context.socket(zmq.REP)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind(ZAP)
        self._allowed: dict[bytes, frozenset[bytes]] = {}
        self._tallies: dict[bytes, Tally] = {}

    @property
    def refused(self) -> int:
        """How often somebody was refused."""
        return sum(tally.total for tally in self._tallies.values())

    def serve(self, socket: Socket, keys: Keys, allowed: Collection[bytes], where: str) -> None:
        """Give a socket that will bind its keys, and say who may connect; again for one that takes its place.

        allowed: public keys    where: what the socket is called in messages
        """
        domain = where.encode()
        self._allowed[domain] = frozenset(z85.decode(key) for key in allowed)
        self._tallies.setdefault(domain, Tally(where))
        _need_curve(where)
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, keys.secret)
        socket.set(zmq.ZAP_DOMAIN, domain)
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else a missing gate would let everybody in

    def poll(self) -> list[Event]:
        """Answer all who wait; return whom to tell of."""
        events: list[Event] = []
        while self.socket.poll(0):
            version, request, domain, address, _, _, *credentials = self.socket.recv_multipart()
            welcome = len(credentials) == 1 and credentials[0] in self._allowed[domain]
            status = (b"200", b"OK") if welcome else (b"400", b"key not allowed")
            self.socket.send_multipart([version, request, *status, b"", b""])
            if not welcome:
                events += self._tallies[domain].add(_stranger(address.decode(errors="replace"), credentials))
        return events

    def close(self) -> None:
        """Let nobody in any more."""
        self.socket.close()


def _stranger(address: str, credentials: list[bytes]) -> str:
    kind, *process = address.split(":")
    peer = f"process {process[-1]}" if kind == "localhost" and process else f"a peer at {address}"
    key = fingerprint(z85.encode(credentials[0])) if credentials and len(credentials[0]) == 32 else "none"
    return f"refused {peer}: its key ({key}) is not among those allowed"


def connect(socket: Socket, keys: Keys, server: bytes, where: str) -> None:
    """Give a socket that will connect its keys, and say whom it must find there.

    server: public key    where: what the socket is called in messages
    """
    _need_curve(where)
    socket.set(zmq.CURVE_PUBLICKEY, keys.public)
    socket.set(zmq.CURVE_SECRETKEY, keys.secret)
    socket.set(zmq.CURVE_SERVERKEY, server)


def _need_curve(where: str) -> None:
    if not zmq.has("curve"):
        raise KeyProblem(f"{where}: this libzmq has no keys (CURVE); wanted that of the wheel of pyzmq")


def tune(socket: Socket, endpoint: str) -> None:
    """Set a socket, before it binds or connects, for a link that breaks and comes back.

    A ping every 100 ms keeps something unacknowledged on a broken link, and the kernel gives up what was not for
    500 ms; so both sides know within about a second, and within another half of its return the link is in use
    (measured: at most 0.6 s). A timeout of the pings themselves that short would cut every message that takes longer
    than it to pass, again and again; theirs is for a peer whose kernel answers and that says nothing.
    """
    socket.set(zmq.IPV6, int(":" in host_of(endpoint)))
    socket.set(zmq.HEARTBEAT_IVL, 100)
    socket.set(zmq.HEARTBEAT_TIMEOUT, 10_000)
    socket.set(zmq.TCP_MAXRT, 500)
    socket.set(zmq.CONNECT_TIMEOUT, 250)
    socket.set(zmq.RECONNECT_IVL, 50)
    socket.set(zmq.RECONNECT_IVL_MAX, 200)
    socket.set(zmq.HANDSHAKE_IVL, 2000)


class Watch:
    """What happens to the peers of one socket; make it before the socket binds or connects.

    where: what the socket is called in messages    side: what the socket does
    `socket` can be polled. `gave_up`: ZeroMQ connects no more until `redial`. A peer that sends nonsense while another
    is joined is told as one that left.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        socket: Socket,
        where: str,
        endpoint: str,
        side: Literal["bind", "connect"],
    ) -> None:
        self.gave_up = False
        self._watched, self._endpoint, self._side = socket, endpoint, side
        self._tally = Tally(where)
        self._joined = self._failed = 0
        address = f"inproc://watch.{next(_numbers)}"
        socket.monitor(address, HANDSHAKES)
        self.socket: Socket = context.socket(zmq.PAIR)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RCVHWM, 0)  # a full queue would stop all of ZeroMQ's input and output
        self.socket.connect(address)

    @property
    def refused(self) -> int:
        """How often a handshake failed; what a gate refused is counted there."""
        return self._tally.total

    def poll(self) -> list[Event]:
        """Return what has happened."""
        events: list[Event] = []
        while self.socket.poll(0):
            message = parse_monitor_message(self.socket.recv_multipart())
            event, value = message["event"], message["value"]
            if event & FAILED:
                events += self._fail(event, value)
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._joined += 1
                events.append(Event("joined", f"{self._tally.where}: {self._peer} joined"))
            elif event == zmq.EVENT_DISCONNECTED:
                events += self._leave()
        return events

    @property
    def _peer(self) -> str:
        return "a peer" if self._side == "bind" else self._endpoint

    def _fail(self, event: int, value: int) -> list[Event]:
        self._failed += 1
        keys = self._watched.get(zmq.MECHANISM) == zmq.CURVE
        if self._side == "bind":
            text = _refusal(event, value, keys)
        else:
            self.gave_up = event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            text = f"{self._endpoint} {_rebuff(event, value, keys)}"
        return self._tally.add(text) if text else []

    def _leave(self) -> list[Event]:
        if self._failed:  # the end of one that was refused
            self._failed -= 1
            return []
        if not self._joined:
            return self._tally.add("refused a peer: what it sent is no greeting")
        self._joined -= 1
        return [Event("left", f"{self._tally.where}: {self._peer} left")]

    def redial(self) -> None:
        """Connect again after having been refused; the caller lets a while pass before."""
        self.gave_up = False
        self._watched.disconnect(self._endpoint)
        self._watched.connect(self._endpoint)

    def close(self) -> None:
        """Watch no more."""
        if not self._watched.closed:
            self._watched.disable_monitor()
        self.socket.close()


def _refusal(event: int, value: int, keys: bool) -> str:
    """Return why the binding side refused a peer, nothing where its gate has said so."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return ""
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return "a peer left, or fell silent, before the handshake was over"
    if value == zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
        return "refused a peer: it takes us for somebody else (its server_key is not our key)"
    if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        return f"refused a peer: {'it has no keys' if keys else 'it has keys, and there are none here'}"
    return f"refused a peer: its handshake is wrong (libzmq {value:#x})"


def _rebuff(event: int, value: int, keys: bool) -> str:
    """Return why the connecting side was refused, as far as it can know."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "does not accept our key; it must be among those allowed there"
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        guess = ": server_key is probably not its key" if keys else ""
        return f"ended the handshake without a word{guess}"
    if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        return "has no keys, and we want to use ours" if keys else "wants keys, and we have none"
    return f"answers with a wrong handshake (libzmq {value:#x})"
