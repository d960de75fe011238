"""Keys: the files that they live in, and the verb that makes them."""

import json
import os
import stat
from pathlib import Path

import pytest
import zmq
import zmq.auth

from beamslot.cli import main
from beamslot.errors import BadParam, KeyProblem
from beamslot.runtime.keys import create, fingerprint, load_allowed, load_keys, load_public


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the keys of these tests are kept."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "beamslot" / "keys"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def problem(of, path: Path) -> str:
    with pytest.raises(KeyProblem) as caught:
        of(path)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_a_new_pair_is_a_pair_that_zeromq_can_read_and_only_the_owner_its_secret(tmp_path):
    public, secret = create(tmp_path / "made", "roof")
    assert [public.name, secret.name] == ["roof.key", "roof.key_secret"]
    assert [mode(path) for path in (public.parent, secret)] == [0o700, 0o600]
    keys = load_keys(secret)
    assert zmq.curve_public(keys.secret) == keys.public == load_public(public)
    assert zmq.auth.load_certificate(secret) == (keys.public, keys.secret)
    assert zmq.auth.load_certificate(public) == (keys.public, None)
    assert keys.secret not in public.read_bytes()
    assert keys.secret.decode() not in repr(keys)


def test_keys_that_zeromq_made_can_be_used(tmp_path):
    public, secret = map(Path, zmq.auth.create_certificates(tmp_path, "theirs"))
    secret.chmod(0o600)
    assert load_keys(secret).public == load_public(public)


@pytest.mark.parametrize("there", ["roof.key", "roof.key_secret"])
def test_nothing_is_overwritten(tmp_path, there):
    (tmp_path / there).write_text("mine")
    with pytest.raises(KeyProblem, match=f"{there}: there already; keys are not overwritten"):
        create(tmp_path, "roof")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {there: "mine"}


@pytest.mark.parametrize("name", ["", "../roof", "a b", ".roof", "a/b", "-d"])
def test_a_name_is_no_path(tmp_path, name):
    with pytest.raises(BadParam, match="wanted letters, digits, - and _"):
        create(tmp_path, name)


def test_a_directory_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyProblem, match="file/keys: cannot be written: not a directory"):
        create(tmp_path / "file" / "keys", "roof")


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for load in (load_keys, load_public):
        assert problem(load, tmp_path / "pipe") == "pipe: is no file; wanted a key file"
        assert problem(load, tmp_path / "none") == "none: cannot be read: no such file or directory"
    (tmp_path / "folder").mkdir()
    assert problem(load_keys, tmp_path / "folder") == "folder: is no file; wanted a key file"


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o777])
def test_a_secret_that_others_may_use_is_refused(tmp_path, bits):
    _, secret = create(tmp_path, "roof")
    secret.chmod(bits)
    assert f"roof.key_secret: others may use it (mode {bits:04o}); wanted 0600: chmod 600" in problem(load_keys, secret)


def test_the_wrong_one_of_the_two_files_is_told(tmp_path):
    public, secret = create(tmp_path, "roof")
    public.chmod(0o600)
    assert "roof.key: has no secret key in it; is" in problem(load_keys, public)
    assert problem(load_public, secret).startswith("roof.key_secret: has a secret key in it; wanted the public file")


@pytest.mark.parametrize("key", ["", "a" * 39, "a" * 45, "~" * 40, "#" * 40, "é" * 40])
def test_a_damaged_key_is_refused(tmp_path, key):
    file = tmp_path / "roof.key"
    file.write_text(f'curve\n    public-key = "{key}"\n')
    assert problem(load_public, file).startswith("roof.key: its public key is none; wanted 40 characters")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"public-key = unquoted\n", b"x" * 200_000])
def test_a_file_without_keys_is_refused(tmp_path, content):
    file = tmp_path / "roof.key"
    file.write_bytes(content)
    file.chmod(0o600)
    assert problem(load_public, file) == "roof.key: has no public key in it"
    assert "roof.key: has no secret key in it" in problem(load_keys, file)


def test_two_keys_that_are_no_pair_are_refused(tmp_path):
    _, secret = create(tmp_path, "roof")
    other = load_public(create(tmp_path, "desk")[0])
    secret.write_text(secret.read_text().replace(load_keys(secret).public.decode(), other.decode()))
    assert problem(load_keys, secret) == "roof.key_secret: its public and its secret key are no pair"


def test_who_may_connect_is_a_file_or_a_directory_of_public_keys(tmp_path):
    publics = [create(tmp_path, name)[0] for name in ("roof", "desk")]
    assert load_allowed(publics[0]) == {load_public(publics[0])}
    assert load_allowed(tmp_path) == {load_public(public) for public in publics}
    empty = tmp_path / "empty"
    empty.mkdir()
    assert problem(load_allowed, empty) == "empty: has no file NAME.key in it, so nobody could connect"
    (empty / "bad.key").write_text("")
    with pytest.raises(KeyProblem, match=r"bad\.key: has no public key in it"):
        load_allowed(empty)


def test_a_fingerprint_tells_keys_apart():
    one, other = (fingerprint(zmq.curve_keypair()[0]) for _ in range(2))
    assert one != other
    assert len(one) == len("3f2a-91bc-07de")


# The verb


def test_the_verb_makes_lists_and_shows_keys(config, capsys):
    assert main(["keys", "list"]) == 0
    assert capsys.readouterr().out == f"no keys in {config}; beamslot keys new NAME makes some\n"
    assert main(["keys", "new", "roof"]) == 0
    told = capsys.readouterr().out
    assert f"wrote {config}/roof.key, to be given away" in told
    key = load_public(config / "roof.key")
    assert load_keys(config / "roof.key_secret").secret.decode() not in told
    assert main(["keys", "show", "roof"]) == 0
    assert capsys.readouterr().out == f"{key.decode()}\n"
    assert main(["keys", "list"]) == 0
    assert fingerprint(key) in capsys.readouterr().out


def test_the_verb_speaks_json_and_takes_another_directory(tmp_path, capsys):
    there = ["-d", str(tmp_path / "lab"), "--json"]
    assert main(["keys", "new", "desk", *there]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["secret"] == str(tmp_path / "lab" / "desk.key_secret")
    (tmp_path / "lab" / "theirs.key").write_text((tmp_path / "lab" / "desk.key").read_text())
    assert main(["keys", "list", *there]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == [made, {**made, "name": "theirs", "public": f"{tmp_path}/lab/theirs.key", "secret": None}]
    assert main(["keys", "show", "desk", *there]) == 0
    assert json.loads(capsys.readouterr().out) == made


def test_the_verb_says_what_is_wrong(config, capsys):
    assert main(["keys", "new", "roof"]) == 0
    assert main(["keys", "new", "roof"]) == 1
    assert main(["keys", "new", "../roof"]) == 2
    assert main(["keys", "show", "desk"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"{config}/roof.key and {config}/roof.key_secret: there already; keys are not overwritten",
        "keys: got the name '../roof'; wanted letters, digits, - and _",
        f"{config}/desk.key: cannot be read: no such file or directory",
    ]
