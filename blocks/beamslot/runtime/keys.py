"""Keys of edges that leave the machine: the files that they live in, and which endpoints must have them.

A pair of keys is two files, as ZeroMQ's own tools write and read them: NAME.key has the public key and is given away,
NAME.key_secret has both and is readable by its owner alone. A key has 32 bytes, written as 40 characters (Z85).
ZeroMQ is loaded only where a key is made or read, so that what declares blocks stays light.
"""

import hashlib
import ipaddress
import os
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

from beamslot.errors import BadParam, KeyProblem

PUBLIC, SECRET = ".key", ".key_secret"

MOST = 64 * 1024
"""A key file has some hundred bytes; of anything else no more than this is read [bytes]."""

SOCKET_PATH = 107
"""The longest path of a Unix socket on Linux [bytes]."""

ENTRY = re.compile(r'^\s*(public|secret)-key\s*=\s*"([^"\n]*)"\s*$', re.MULTILINE)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
TCP = re.compile(r"tcp://(\*|[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")


@dataclass(frozen=True)
class Keys:
    """Our own pair, each key as its 40 characters."""

    public: bytes
    secret: bytes = field(repr=False)


def home() -> Path:
    """Return the directory in which keys are kept unless another is named."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "beamslot" / "keys"


def fingerprint(public: bytes) -> str:
    """Return a public key as people compare it, such as 3f2a-91bc-07de: its first 48 hashed bits."""
    digest = hashlib.blake2b(public, digest_size=6).hexdigest()
    return "-".join(digest[at : at + 4] for at in range(0, 12, 4))


def create(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of keys in a directory; return the public and the secret file.

    raises BadParam for a name that is none; KeyProblem where one of the files is there already or cannot be written
    """
    import zmq

    if not NAME.fullmatch(name):
        raise BadParam(f"keys: got the name {name!r}; wanted letters, digits, - and _")
    public, secret = directory / f"{name}{PUBLIC}", directory / f"{name}{SECRET}"
    there = [str(file) for file in (public, secret) if os.path.lexists(file)]
    if there:
        raise KeyProblem(f"{' and '.join(there)}: there already; keys are not overwritten")
    pair = [key.decode() for key in zmq.curve_keypair()]
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(secret, 0o600, "the secret key: keep it to yourself", public=pair[0], secret=pair[1])
        _write(public, 0o644, "the public key: give it away", public=pair[0])
    except OSError as error:
        raise KeyProblem(f"{error.filename}: cannot be written: {_reason(error)}") from None
    return public, secret


def _write(file: Path, mode: int, title: str, **keys: str) -> None:
    lines = [f"# beamslot {file.stem}: {title}", "metadata", "curve"]
    lines += [f'    {kind}-key = "{key}"' for kind, key in keys.items()]
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="utf-8") as opened:
        opened.write("\n".join(lines) + "\n")


def load_keys(path: str | Path) -> Keys:
    """Return our own pair from its secret file.

    raises KeyProblem where it cannot be read, others can read it, or it has no pair in it
    """
    import zmq

    file = Path(path).expanduser()
    found = _read(file, private=True)
    if "secret" not in found:
        advice = f"; is {file.with_suffix(SECRET)} meant?" if file.suffix == PUBLIC else ""
        raise KeyProblem(f"{file}: has no secret key in it{advice}")
    public = zmq.curve_public(found["secret"])
    if found.get("public", public) != public:
        raise KeyProblem(f"{file}: its public and its secret key are no pair")
    return Keys(public, found["secret"])


def load_public(path: str | Path) -> bytes:
    """Return the one public key of a file.

    raises KeyProblem where it cannot be read, has no public key in it, or has a secret one, which is not to be given
        away
    """
    file = Path(path).expanduser()
    found = _read(file)
    if "secret" in found:
        raise KeyProblem(f"{file}: has a secret key in it; wanted the public file, NAME{PUBLIC}")
    if "public" not in found:
        raise KeyProblem(f"{file}: has no public key in it")
    return found["public"]


def load_allowed(path: str | Path) -> frozenset[bytes]:
    """Return the public keys of those who may connect: of one file, or of every *.key in a directory.

    raises KeyProblem as `load_public` does, and where the directory has no key in it
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        return frozenset({load_public(place)})
    allowed = frozenset(load_public(file) for file in sorted(place.glob(f"*{PUBLIC}")))
    if not allowed:
        raise KeyProblem(f"{place}: has no file NAME{PUBLIC} in it, so nobody could connect")
    return allowed


def _read(file: Path, private: bool = False) -> dict[str, bytes]:
    """Return the keys of a file by kind; `private`: nobody but its owner may be able to read it."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)  # a FIFO is not waited for
    except OSError as error:
        raise KeyProblem(f"{file}: cannot be read: {_reason(error)}") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise KeyProblem(f"{file}: is no file; wanted a key file")
        if private and mode & 0o077:
            raise KeyProblem(f"{file}: others may use it (mode {mode & 0o777:04o}); wanted 0600: chmod 600 {file}")
        text = os.read(descriptor, MOST).decode(errors="replace")
    finally:
        os.close(descriptor)
    return {kind: _checked(file, kind, key) for kind, key in ENTRY.findall(text)}


def _checked(file: Path, kind: str, key: str) -> bytes:
    from zmq.utils import z85

    try:
        if len(z85.decode(key)) == 32:
            return key.encode()
    except (KeyError, ValueError, struct.error):
        pass
    raise KeyProblem(f"{file}: its {kind} key is none; wanted 40 characters as `beamslot keys new` writes them")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def host_of(endpoint: str) -> str:
    """Return the host of an endpoint between two runs, empty for one within the machine.

    >>> host_of("tcp://10.1.1.2:5555"), host_of("tcp://[::1]:5555"), host_of("ipc:///run/rx")
    ('10.1.1.2', '::1', '')

    raises BadParam for other forms
    """
    if endpoint.startswith("ipc:///") and len(os.fsencode(endpoint)) in range(8, SOCKET_PATH + 7):
        return ""
    found = TCP.fullmatch(endpoint)
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise BadParam(f"got {endpoint!r}; wanted tcp://HOST:PORT or ipc:///PATH")
    return found[1].strip("[]")


def leaves_machine(endpoint: str) -> bool:
    """Return whether others than this machine have a part in an endpoint.

    >>> leaves_machine("tcp://127.0.0.1:5555"), leaves_machine("tcp://*:5555"), leaves_machine("ipc:///run/rx")
    (False, True, False)
    """
    host = host_of(endpoint)
    if host in ("", "localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def check_endpoint(endpoint: str, has_keys: bool) -> None:
    """Check the form of an endpoint, and that one which others can reach has keys.

    raises BadParam saying what is wrong with it and what to do
    """
    if leaves_machine(endpoint) and not has_keys:
        raise BadParam(
            f"{endpoint} leaves this machine, and there are no keys; make some (beamslot keys new NAME), "
            "or stay on tcp://127.0.0.1:PORT or ipc:///PATH"
        )
