"""`beamslot keys`: make and look at the keys of edges between machines."""

import argparse
from pathlib import Path
from typing import Any

from beamslot.cli import options
from beamslot.cli.run import printer

NEXT = """
In the graph with the remote_sink:   key: {secret}, allow: the other's .key
In the graph with the remote_source: key: {secret}, server_key: the other's .key"""


def register(verbs: options.Verbs) -> None:
    """Add the verb."""
    parser = options.add_verb(
        verbs, "keys", _list, "make and look at keys for edges between machines", "beamslot keys new roof"
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True, title="actions")
    for name, act, help_, example in (
        ("new", _new, "make a pair of keys: NAME.key to give away, NAME.key_secret to keep", "beamslot keys new roof"),
        ("list", _list, "list the keys that are there", "beamslot keys list"),
        ("show", _show, "print a public key", "beamslot keys show roof"),
    ):
        action = options.add_verb(actions, name, act, help_, example)
        if name != "list":
            action.add_argument("name", metavar="NAME", help="name of the keys: letters, digits, - and _")
        action.add_argument(
            "-d", "--dir", type=Path, metavar="DIR", help="where the keys are (~/.config/beamslot/keys)"
        )
        options.add_json(action, "print JSON")


def _directory(arguments: argparse.Namespace) -> Path:
    from beamslot.runtime import keys

    return arguments.dir or keys.home()


def _new(arguments: argparse.Namespace) -> int:
    from beamslot.runtime import keys

    public, secret = keys.create(_directory(arguments), arguments.name)
    if arguments.json:
        options.print_json(_entry(public), indent=2)
        return 0
    print(f"wrote {public}, to be given away\n  and {secret}, to be kept")
    print(NEXT.format(secret=secret))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from beamslot.tables import Sheet, render

    directory = _directory(arguments)
    found = [_entry(file) for file in sorted(directory.glob("*.key"))]
    if arguments.json:
        options.print_json(found, indent=2)
    elif not found:
        print(f"no keys in {directory}; beamslot keys new NAME makes some")
    else:
        rows = [[key["name"], key["fingerprint"], key["public"], key["secret"] or "not ours"] for key in found]
        printer().print(render(Sheet("Keys", ("name", "fingerprint", "public", "secret"), rows, left=4)))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    entry = _entry(_directory(arguments) / f"{arguments.name}.key")
    if arguments.json:
        options.print_json(entry, indent=2)
    else:
        print(entry["key"])
    return 0


def _entry(public: Path) -> dict[str, Any]:
    """Return what there is to know of a public key; `secret`: the file of our own keys, if it is there.

    raises KeyProblem where the file has no public key in it
    """
    from beamslot.runtime import keys

    key, secret = keys.load_public(public), public.with_suffix(keys.SECRET)
    return {
        "name": public.stem,
        "fingerprint": keys.fingerprint(key),
        "key": key.decode(),
        "public": str(public),
        "secret": str(secret) if secret.exists() else None,
    }
