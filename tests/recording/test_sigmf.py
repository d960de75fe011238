"""What stands in the SigMF metadata: valid by the library and by our schema, and true."""

import base64
import hashlib
import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_recording import any_info, frame_of, front_end, metas, samples, story, write
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

import beamslot.recording
from beamslot.dsp.geometry import steering
from beamslot.errors import StorageError
from beamslot.frame import AXES, DTYPES, Array, Describe, Eos, Frame, Gap, Geometry, StreamInfo
from beamslot.recording import Writer, open_recording, repair
from beamslot.recording.metadata import MAX_CAPTURES, Captures, Clock, info_from_json, info_to_json

SCHEMA = json.loads((Path(beamslot.recording.__file__).parent / "beamslot-extension.schema.json").read_text())
EXTENSION = Draft202012Validator(SCHEMA)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    directory = tmp_path_factory.mktemp("recorded")
    said = story(31, 80, infos=[front_end(0), front_end(1)])
    write(
        directory, said, seed=3, flowgraph="a: b", timeline=[{"slot": 5, "block": "a", "parameter": "x", "value": [1]}]
    )
    return directory, said


def test_our_extension_is_as_its_schema_says(recorded: tuple[Path, list[Any]]) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    (meta,) = metas(recorded[0]).values()
    EXTENSION.validate(meta)
    assert {one["name"] for one in meta["global"]["core:extensions"]} == {"beamslot", "spatial"}
    described = {
        *SCHEMA["properties"]["global"]["properties"],
        *SCHEMA["properties"]["captures"]["items"]["properties"],
    }
    ours = {key for scope in (meta["global"], *meta["captures"]) for key in scope if key.startswith("beamslot:")}
    assert ours == described
    with pytest.raises(ValidationError):
        EXTENSION.validate({**meta, "global": {**meta["global"], "beamslot:axes": ["user"]}})


def test_the_schema_knows_the_axes_and_dtypes() -> None:
    assert SCHEMA["$defs"]["axes"]["items"]["enum"] == list(AXES)
    assert SCHEMA["$defs"]["info"]["properties"]["arrays"]["additionalProperties"]["properties"]["dtype"][
        "enum"
    ] == list(DTYPES)


def test_sigmf_validate_passes(recorded: tuple[Path, list[Any]]) -> None:
    tool = Path(sys.executable).with_name("sigmf_validate")
    done = subprocess.run([tool, *recorded[0].glob("*.sigmf-meta")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_core_fields_are_true(recorded: tuple[Path, list[Any]]) -> None:
    directory, said = recorded
    (meta,) = metas(directory).values()
    told = meta["global"]
    assert (told["core:datatype"], told["core:num_channels"], told["core:sample_rate"]) == ("cf32_le", 12, 2000.0)
    assert told["core:sha512"] == hashlib.sha512((directory / "front.rf.rf.sigmf-data").read_bytes()).hexdigest()
    assert (told["beamslot:axes"], told["beamslot:shape"]) == (["slot", "user", "y", "chain"], [2, 3, 2])
    assert told["beamslot:complete"]
    assert told["beamslot:about"]["seed"] == 3
    infos = [one.info for one in said if isinstance(one, Describe)]
    assert [info_from_json(one, "here") for one in told["beamslot:infos"]] == infos
    assert all(capture["core:frequency"] == 28e9 for capture in meta["captures"])


def test_captures_tell_what_is_missing_and_when(recorded: tuple[Path, list[Any]]) -> None:
    directory, said = recorded
    (meta,) = metas(directory).values()
    clock = open_recording(directory)["front.rf"].clock
    wanted, due, info, held, reason = [], None, -1, -1, ""
    for one in said:
        if isinstance(one, Describe):
            info += 1
        elif isinstance(one, Gap):
            reason = reason or one.reason
        elif isinstance(one, Frame):
            missing = 0 if due is None else one.first - due
            if due is None or missing or info != held:
                wanted.append(
                    (one.first, str(one.captured), info, {"slots": missing, "reason": reason} if missing else None)
                )
            due, held, reason = one.end, info, ""
    assert len(wanted) > 5
    keys = ("core:global_index", "beamslot:captured", "beamslot:info", "beamslot:gap")
    assert [tuple(map(capture.get, keys)) for capture in meta["captures"]] == wanted
    for capture in meta["captures"]:
        seconds, nanoseconds = divmod(clock.unix + int(capture["beamslot:captured"]) - clock.monotonic, 10**9)
        moment = datetime.fromisoformat(capture["core:datetime"][:19]) - datetime(1970, 1, 1)
        assert moment == timedelta(seconds=seconds)
        assert capture["core:datetime"][19:] == f".{nanoseconds:09d}Z"


def test_the_antennas_stand_where_the_arrays_say(tmp_path: Path) -> None:
    """A plane wave over the points, by their distances alone, is the steering vector of the geometry."""
    geometry = Geometry(4, 3, 0.5, 0.8)
    info = StreamInfo({"h": Array.of("slot y z", np.complex64)}, {"y": 4, "z": 3}, carrier=3.5e9, geometry=geometry)
    write(tmp_path, [Describe("a.h", info), frame_of(info, 0, 1, np.random.default_rng(0)), Eos(1)], "a.h")
    (meta,) = metas(tmp_path).values()
    assert meta["global"]["spatial:num_elements"] == 12
    assert meta["global"]["spatial:channel_index"] == 0
    points = np.array([one["point"] for one in meta["captures"][0]["spatial:element_geometry"]])
    assert points.shape == (12, 3)
    azimuth, elevation = 0.4, -0.2
    ray = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    phase = 2 * np.pi * points @ ray / (299_792_458.0 / 3.5e9)
    assert np.ptp(points[:, 0]) == 0
    wave = np.exp(1j * phase).reshape(4, 3)
    wanted = steering(4, ray[1], 0.5)[:, None] * steering(3, ray[2], 0.8)
    np.testing.assert_allclose(wave / wave[0, 0], wanted / wanted[0, 0], atol=1e-9)


def test_what_has_no_antennas_has_no_places(tmp_path: Path) -> None:
    info = front_end().replace(arrays={"gain": Array.of("slot user", np.complex64)}, axes={"user": 2})
    write(tmp_path, [Describe("a.x", info), frame_of(info, 0, 1, np.random.default_rng(0))], "a.x")
    (meta,) = metas(tmp_path).values()
    assert "spatial" not in json.dumps(meta)


def test_a_recording_under_way_can_be_read_by_others(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "front.rf")
    rng = np.random.default_rng(0)
    for message in (Describe("front.rf", front_end()), frame_of(front_end(), 0, 5, rng)):
        writer.write(message)
    (meta,) = metas(tmp_path).values()
    EXTENSION.validate(meta)
    assert not meta["global"]["beamslot:complete"]
    assert samples(tmp_path, "front.rf.rf").shape == (5, 12)
    writer.close()


@given(st.integers(0, 2**32))
def test_a_description_comes_back_from_json(seed: int) -> None:
    info = any_info(np.random.default_rng(seed))
    assert info_from_json(json.loads(json.dumps(info_to_json(info), allow_nan=False)), "here") == info


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("axes", 3),
        ("axes", {"user": 0}),
        ("geometry", {"n_y": 1}),
        ("arrays", {"x": {"axes": ["nowhere"], "dtype": "<c8", "unit": "1"}}),
        ("arrays", {"x": {"axes": ["slot"], "dtype": "|O", "unit": "1"}}),
        ("operator", {"hash": "0"}),
        ("carrier", "x"),
        ("notes", None),
    ],
)
def test_json_that_is_no_description_is_refused(key: str, value: Any) -> None:
    with pytest.raises(StorageError, match=r"^here: is no description of a stream: "):
        info_from_json({**info_to_json(front_end()), key: value}, "here")


def test_an_operator_that_is_not_that_of_its_hash_is_refused() -> None:
    told = info_to_json(front_end())
    raw = bytearray(base64.b64decode(told["operator"]["weights"]["base64"]))
    raw[0] ^= 1
    told["operator"]["weights"]["base64"] = base64.b64encode(raw).decode()
    with pytest.raises(StorageError, match=r"its operator hashes to [0-9a-f]{16}, it says"):
        info_from_json(told, "here")


def test_captures_end_at_a_bound() -> None:
    from beamslot.recording.layout import Stored

    captures = Captures(Stored("x", (1,), "a.x.x"))
    info = StreamInfo({"x": Array.of("slot user", np.complex64)}, {"user": 1})
    for slot in range(0, 2 * MAX_CAPTURES + 20, 2):
        captures.add(range(slot, slot + 1), 0, 0, [info], Clock(0, 0), "late")
    assert len(captures.found) == MAX_CAPTURES
    assert captures.rows == MAX_CAPTURES + 10


def test_a_repair_writes_the_captures_again(recorded: tuple[Path, list[Any]], tmp_path: Path) -> None:
    directory, said = recorded
    write(tmp_path, said, seed=3)
    path = tmp_path / "front.rf.rf.sigmf-meta"
    path.write_text("{}")
    (done,) = repair(tmp_path)
    assert not done.whole
    assert done.cut == {}
    again = json.loads(path.read_text())
    before = json.loads((directory / path.name).read_text())
    strip = [{k: v for k, v in one.items() if k != "core:datetime"} for one in again["captures"]]
    assert strip == [{k: v for k, v in one.items() if k != "core:datetime"} for one in before["captures"]]
    assert again["global"]["core:sha512"] == before["global"]["core:sha512"]
    assert len(samples(tmp_path, "front.rf.rf")) == sum(one.count for one in said if isinstance(one, Frame))
