"""Samples that other software wrote, read and estimated from as if they had been handed over as arrays."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import sigmf
from beamslot_foreign import CHAINS, COLUMNS, SLOTS, USERS, Lab, M
from numpy.typing import NDArray

from beamslot.beamformers.combiner import Combiner
from beamslot.cli import main
from beamslot.cli.graph import described as streams
from beamslot.errors import BadParam, BeamslotError, ShapeError, StorageError
from beamslot.estimators.omp import OmpEstimator
from beamslot.flowgraph import load
from beamslot.frame import Array, Frame, Gap, Geometry, Operator, StreamInfo
from beamslot.recording.foreign import FrontEnd, load_operator, open_foreign, save_operator
from beamslot.recording.foreign.cir import channel_of
from beamslot.recording.foreign.layout import stream_of
from beamslot.runtime.testing import run_block
from beamslot.sources.replay_source import ReplaySource

PROBES = Path(__file__).parents[1] / "support" / "beamslot_probes.py"


def samples(path: Path, operator: Path, slots: int = SLOTS, **given: Any) -> NDArray[Any]:
    """Return all slots of a foreign file as the block streams them."""
    source = ReplaySource(path=str(path), operator=str(operator), **given)
    (array,) = run_block(source, slots=slots, burst=5, name="replay")["stream"].values()
    return array


def estimates(source: ReplaySource) -> dict[str, NDArray[Any]]:
    replayed = run_block(source, slots=SLOTS, burst=3, name="replay")
    infos = {"rf": replayed.infos["stream"]}
    return run_block(OmpEstimator(paths=4), {"rf": replayed["stream"]["rf"]}, infos=infos, burst=3)["estimate"]


def direct(lab: Lab) -> dict[str, NDArray[Any]]:
    """What the estimator makes of the arrays themselves."""
    array = Array.of("slot user y chain", np.complex64, "sqrt(W)")
    axes = {"user": USERS, "y": COLUMNS, "chain": CHAINS}
    info = StreamInfo({"rf": array}, axes, 2e-3, 28e9, Geometry(COLUMNS, CHAINS * M), lab.operator)
    return run_block(OmpEstimator(paths=4), {"rf": lab.rf}, infos={"rf": info}, burst=3)["estimate"]


# Every format through an estimator


def write_sigmf(path: Path, rows: NDArray[Any], datatype: str = "cf32_le", **first: Any) -> Path:
    """Write a recording of N channels with the sigmf library alone."""
    data = path.with_suffix(".sigmf-data")
    rows.tofile(data)
    channels = rows.shape[1] // (1 if np.iscomplexobj(rows) else 2)
    meta = sigmf.SigMFFile(
        data_file=str(data),
        global_info={"core:datatype": datatype, "core:sample_rate": 500.0, "core:num_channels": channels},
    )
    meta.add_capture(0, metadata={"core:frequency": 28e9, **first})
    meta.tofile(str(path.with_suffix(".sigmf-meta")))
    return path.with_suffix(".sigmf-meta")


def write_sigmf_of(lab: Lab, path: Path) -> Path:
    return write_sigmf(path / "other.sigmf-meta", lab.rf.reshape(SLOTS, -1))


def write_npz(lab: Lab, path: Path) -> Path:
    np.savez(path / "other.npz", y=lab.rf, time=np.arange(SLOTS))
    return path / "other.npz"


def write_npz_deflated(lab: Lab, path: Path) -> Path:
    np.savez_compressed(path / "small.npz", y=np.asfortranarray(lab.rf), note="by hand")
    return path / "small.npz"


def write_npy(lab: Lab, path: Path) -> Path:
    np.save(path / "other.npy", lab.rf.reshape(SLOTS, USERS, -1))
    return path / "other.npy"


def write_mat5(lab: Lab, path: Path) -> Path:
    scipy.io.savemat(path / "v5.mat", {"y": lab.rf, "snr": 3.0, "name": "lab", "cells": np.array([1, "a"], object)})
    return path / "v5.mat"


def write_mat5_deflated(lab: Lab, path: Path) -> Path:
    scipy.io.savemat(path / "v7.mat", {"y": lab.rf}, do_compression=True)
    return path / "v7.mat"


def write_mat73(lab: Lab, path: Path) -> Path:
    """Write what MATLAB writes: a header of 512 bytes, axes turned round, complex numbers as records."""
    file = path / "v73.mat"
    with h5py.File(file, "w", userblock_size=512) as made:
        record = np.empty(lab.rf.shape[::-1], [("real", "<f4"), ("imag", "<f4")])
        record["real"], record["imag"] = lab.rf.real.T, lab.rf.imag.T
        made.create_dataset("y", data=record, chunks=True, compression="gzip").attrs["MATLAB_class"] = np.bytes_(
            "single"
        )
        made["snr"] = [[3.0]]
        made.create_group("#refs#")
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM"
    with file.open("r+b") as raw:
        raw.write(header)
    return file


WRITERS = [
    write_sigmf_of, write_npz, write_npz_deflated, write_npy, write_mat5, write_mat5_deflated, write_mat73,
]  # fmt: skip


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_of_other_software_gives_the_estimates_that_its_arrays_give(
    write: Any, lab: Lab, tmp_path: Path
) -> None:
    found = estimates(ReplaySource(path=str(write(lab, tmp_path)), operator=str(lab.path)))
    wanted = direct(lab)
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in wanted.items()
    }
    field = np.linalg.norm(wanted["channel"])
    assert field > 1, "the estimator found something"


GRAPH = """
options: {parameters: {id: lab, slots: 12, slot_period: 2e-3, seed: 4}}
variables: {groups: 2}
blocks:
- {name: source, id: upa_source, parameters: {n_y: 8, n_z: 12, paths: 2, snr_db: 20, users: 2, carrier: 28e9}}
- {name: combiner, id: combiner, parameters: {antennas_per_chain: 3, groups: groups}}
- {name: rest, id: null_sink}
connections:
- [source, field, combiner, field]
- [combiner, rf, rest, stream]
"""


def test_the_operator_of_a_graph_serves_samples_of_the_same_front_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lab.yml").write_text(GRAPH)

    def write(port: str, file: str) -> int:
        words = ["operator", str(tmp_path / "lab.yml"), port, "-o", str(tmp_path / file), "-p", "groups=4", "--json"]
        return main(["design", *words])

    described = streams(load(tmp_path / "lab.yml", overrides=["groups=4"]))
    for file in ("operator.npz", "operator.json"):
        assert write("combiner.rf", file) == 0
        assert json.loads(capsys.readouterr().out) == {
            "file": str(tmp_path / file), "port": "combiner.rf", "geometry": [8, 12], "users": 2, "chains": 4,
            "operator": described["combiner.rf"].operator.hash,
        }  # fmt: skip
        made = load_operator(tmp_path / file)
        assert stream_of(made, False, None) == described["combiner.rf"]
    assert write("source.field", "antennas.npz") == 0
    assert load_operator(tmp_path / "antennas.npz") == FrontEnd(Geometry(8, 12), None, 2, 28e9, 2e-3)


def test_what_is_no_front_end_gives_no_operator_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lab.yml").write_text(GRAPH)
    plain = (
        "blocks: [{name: a, id: counting_source}, {name: b, id: check_sink}]\nconnections: [[a, numbers, b, numbers]]"
    )
    (tmp_path / "plain.yml").write_text(plain)

    def refusal(port: str, file: str, graph: str = "lab.yml") -> str:
        words = [str(tmp_path / graph), port, "-o", str(tmp_path / file), "--blocks", str(PROBES)]
        assert main(["design", "operator", *words]) == 2
        return capsys.readouterr().err.strip()

    assert refusal("combiner.fr", "x.npz") == (
        "design operator: no output is called 'combiner.fr'; did you mean 'combiner.rf'?"
    )
    assert refusal("a.numbers", "x.npz", "plain.yml") == (
        "design operator: a.numbers does not say which antennas it was seen by; these do: none"
    )
    assert refusal("combiner.rf", "x.mat").endswith("x.mat: an operator file is called .npz or .json")
    assert refusal("combiner.rf", "no/x.npz").endswith("x.npz: cannot be written: no such file or directory")


def test_the_stream_says_what_the_operator_file_says(lab: Lab, tmp_path: Path) -> None:
    foreign = open_foreign(write_mat5(lab, tmp_path), lab.path)
    info = foreign.info
    assert (info.operator, info.geometry, info.carrier) == (lab.operator, Geometry(COLUMNS, CHAINS * M), 28e9)
    assert (dict(info.axes), info.slot_period) == ({"user": USERS, "y": COLUMNS, "chain": CHAINS}, 2e-3)
    first = foreign.item(range(0, 4))
    assert isinstance(first, Frame)
    assert first.operator == lab.operator.hash


def test_matlab_leaves_out_axes_of_one_behind_and_any_flattening_is_understood(lab: Lab, tmp_path: Path) -> None:
    one = FrontEnd(Geometry(COLUMNS, M), Operator(lab.operator.weights[:, :1], lab.operator.group, (-0.5, 0.0)), USERS)
    save_operator(tmp_path / "one.npz", one)
    rf = lab.rf[..., :1]
    for number, shape in enumerate([(SLOTS, USERS, COLUMNS), (SLOTS, USERS * COLUMNS), (SLOTS, USERS, 1, COLUMNS)]):
        np.save(tmp_path / f"{number}.npy", rf.reshape(shape))
        assert np.array_equal(samples(tmp_path / f"{number}.npy", tmp_path / "one.npz"), rf)


def test_numbers_of_any_precision_become_complex64(lab: Lab, tmp_path: Path) -> None:
    np.save(tmp_path / "double.npy", lab.rf.astype(np.complex128))
    assert np.array_equal(samples(tmp_path / "double.npy", lab.path), lab.rf)


# SigMF


@pytest.mark.parametrize(
    ("datatype", "part"), [("cf64_be", ">f8"), ("ci16_le", "<i2"), ("ci8", "i1"), ("ci32_be", ">i4"), ("cu8", "u1")]
)
def test_samples_are_those_that_the_sigmf_library_reads(datatype: str, part: str, lab: Lab, tmp_path: Path) -> None:
    dtype = np.dtype(part)
    pairs = lab.rf.reshape(SLOTS, -1).view(np.float32).astype(np.float64)
    if dtype.kind != "f":
        pairs = np.round(pairs / np.abs(pairs).max() * 100) + (128 if dtype.kind == "u" else 0)
    meta = write_sigmf(tmp_path / "typed.sigmf-meta", pairs.astype(dtype), datatype)
    theirs = sigmf.fromfile(str(meta)).read_samples()
    np.testing.assert_allclose(samples(meta, lab.path).reshape(theirs.shape), theirs, rtol=1e-6, atol=1e-7)


def test_holes_by_the_count_of_the_device_are_gaps(lab: Lab, tmp_path: Path) -> None:
    meta = write_sigmf(tmp_path / "holes.sigmf-meta", lab.rf.reshape(SLOTS, -1), **{"core:global_index": 1000})
    said = json.loads(meta.read_text())
    said["captures"] += [{"core:sample_start": 5, "core:global_index": 1009}]
    meta.write_text(json.dumps(said))
    source = ReplaySource(path=str(meta), operator=str(lab.path))
    outcome = run_block(source, slots=20, burst=4)
    items = [item for _, item in outcome.items if isinstance(item, Frame | Gap)]
    spans = [(type(item).__name__, item.first, item.count) for item in items]
    assert spans == [
        ("Frame", 0, 4), ("Frame", 4, 1), ("Gap", 5, 3), ("Gap", 8, 1), ("Frame", 9, 3), ("Frame", 12, 4)
    ]  # fmt: skip
    assert {item.reason for item in items if isinstance(item, Gap)} == {"not recorded"}
    assert np.array_equal(outcome["stream"]["rf"], lab.rf)
    assert outcome.infos["stream"].carrier == 28e9


def test_a_last_sample_that_is_not_whole_is_left_out(lab: Lab, tmp_path: Path) -> None:
    meta = write_sigmf_of(lab, tmp_path)
    data = meta.with_suffix(".sigmf-data")
    data.write_bytes(data.read_bytes()[:-7])
    assert np.array_equal(samples(meta, lab.path, SLOTS - 1), lab.rf[:-1])


def test_headers_within_the_samples_are_passed_over(lab: Lab, tmp_path: Path) -> None:
    meta = write_sigmf_of(lab, tmp_path)
    data, said = meta.with_suffix(".sigmf-data"), json.loads(meta.read_text())
    raw, row = data.read_bytes(), lab.rf[0].nbytes
    data.write_bytes(b"head" + raw[: 5 * row] + b"middle" + raw[5 * row :] + b"tail")
    said["captures"] = [
        {"core:sample_start": 0, "core:header_bytes": 4}, {"core:sample_start": 5, "core:header_bytes": 6}
    ]  # fmt: skip
    said["global"]["core:trailing_bytes"] = 4
    meta.write_text(json.dumps(said))
    assert np.array_equal(samples(meta, lab.path), lab.rf)


# Sionna


def test_an_impulse_response_becomes_what_the_antennas_see(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    n_y, n_z = 3, 2
    a = rng.normal(size=(2, 1, n_y * n_z, 2, 1, 4, 3)) + 1j * rng.normal(size=(2, 1, n_y * n_z, 2, 1, 4, 3))
    tau = rng.uniform(0, 1e-6, (2, 1, 2, 4))
    save_operator(tmp_path / "array.npz", FrontEnd(Geometry(n_y, n_z)))
    np.savez(tmp_path / "cir.npz", a=a, tau=tau)
    scipy.io.savemat(tmp_path / "cir.mat", {"a": a, "tau": tau})
    for frequency in (0.0, 1e6):
        wanted = np.zeros((6, 2, n_y, n_z), complex)
        for slot, user, y, z in np.ndindex(*wanted.shape):
            batch, time = divmod(slot, 3)
            antenna = y * n_z + (n_z - 1 - z)
            for path in range(4):
                turn = np.exp(-2j * np.pi * frequency * tau[batch, 0, user, path])
                wanted[slot, user, y, z] += a[batch, 0, antenna, user, 0, path, time] * turn
        for file in ("cir.npz", "cir.mat"):
            found = samples(tmp_path / file, tmp_path / "array.npz", 6, frequency=frequency)
            np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_an_impulse_response_is_combined_and_estimated_as_its_arrays_are(tmp_path: Path) -> None:
    """Plane waves in Sionna's order of antennas, from a file and by hand, through a combiner and an estimator."""
    rng = np.random.default_rng(11)
    n_y, n_z, frequency = 8, 12, 2e6
    batch, users, paths, time = 2, 2, 3, 4
    u, v = rng.uniform(-0.8, 0.8, (batch, users, paths)), rng.uniform(-0.5, 0, (batch, users, paths))
    a = np.zeros((batch, 1, n_y * n_z, users, 1, paths, time), complex)
    for y, z in np.ndindex(n_y, n_z):
        a[:, 0, y * n_z + n_z - 1 - z, :, 0] = np.exp(1j * np.pi * (y * u + z * v))[..., None]
    a *= rng.normal(size=(1, 1, 1, 1, 1, 1, time)) + 1j * rng.normal(size=(batch, 1, 1, users, 1, paths, time))
    tau = rng.uniform(0, 1e-6, (batch, 1, users, paths))
    np.savez(tmp_path / "cir.npz", a=a, tau=tau)
    save_operator(tmp_path / "array.npz", FrontEnd(Geometry(n_y, n_z), users=7, carrier=28e9, slot_period=2e-3))

    turned = a * np.exp(-2j * np.pi * frequency * tau[:, :, None, :, None, :, None])
    field = np.zeros((batch * time, users, n_y, n_z), np.complex64)
    for item, moment, user, y, z in np.ndindex(batch, time, users, n_y, n_z):
        field[item * time + moment, user, y, z] = turned[item, 0, y * n_z + n_z - 1 - z, user, 0, :, moment].sum()
    array = Array.of("slot user y z", np.complex64, "sqrt(W)")
    axes = {"user": users, "y": n_y, "z": n_z}
    info = StreamInfo({"field": array}, axes, 2e-3, 28e9, Geometry(n_y, n_z))

    source = ReplaySource(path=str(tmp_path / "cir.npz"), operator=str(tmp_path / "array.npz"), frequency=frequency)
    replayed = run_block(source, slots=batch * time, burst=3, name="replay")
    assert replayed.infos["stream"] == info
    found = combined_and_estimated(replayed["stream"]["field"], replayed.infos["stream"])
    wanted = combined_and_estimated(field, info)
    assert {name: one.tobytes() for name, one in found.items()} == {name: one.tobytes() for name, one in wanted.items()}
    error = np.sum(np.abs(wanted["channel"] - field) ** 2) / np.sum(np.abs(field) ** 2)
    assert error < 0.1, "the estimator found the paths"


def combined_and_estimated(field: NDArray[Any], info: StreamInfo) -> dict[str, NDArray[Any]]:
    seen = run_block(Combiner(antennas_per_chain=3, groups=1), {"field": field}, infos={"field": info}, burst=2)
    return run_block(OmpEstimator(paths=6), {"rf": seen["rf"]}, infos={"rf": seen.infos["rf"]})["estimate"]


PANEL = [(-0.5, 0.25), (-0.5, -0.25), (0.0, 0.25), (0.0, -0.25), (0.5, 0.25), (0.5, -0.25)]
"""Antennas of Sionna's PanelArray of two rows and three columns, half a wavelength apart: y, z [wavelengths]."""


def seen_at(positions: Any, n_y: int, n_z: int) -> NDArray[Any]:
    """A plane wave at some positions, as our array has it; next to it, what it is by our steering."""
    u, v = 0.3, -0.2
    wave = np.array([np.exp(2j * np.pi * (y * u + z * v)) for y, z in positions])
    found = channel_of(wave.reshape(1, 1, -1, 1, 1, 1, 1), None, Geometry(n_y, n_z))[0, 0]
    y, z = np.meshgrid(np.arange(n_y), np.arange(n_z), indexing="ij")
    return np.array([found / found[0, 0], np.exp(1j * np.pi * (y * u + z * v))])


def test_sionnas_own_antennas_are_where_we_take_them_to_be() -> None:
    found, wanted = seen_at(PANEL, 3, 2)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.soak
def test_sionna_has_its_antennas_there_still() -> None:
    pytest.importorskip("sionna")
    from sionna.phy.channel.tr38901 import PanelArray

    panel = PanelArray(
        num_rows_per_panel=2, num_cols_per_panel=3, polarization="single", polarization_type="V",
        antenna_pattern="omni", carrier_frequency=3e8,
    )  # fmt: skip
    positions = panel.ant_pos.numpy()[:, 1:] / (299792458 / 3e8)
    np.testing.assert_allclose(positions, PANEL, atol=1e-3)


def test_an_impulse_response_that_does_not_fit_is_refused_by_its_axes() -> None:
    with pytest.raises(ShapeError, match=r"^a is \(1, 2, 6, 1, 1, 1, 1\); wanted \(batch, rx, .* one rx of 6 antennas"):
        channel_of(np.ones((1, 2, 6, 1, 1, 1, 1)), None, Geometry(3, 2))
    with pytest.raises(ShapeError, match=r"^tau is \(5, 1, 1, 4\), a \(1, 1, 6, 1, 1, 4, 1\); wanted the same"):
        channel_of(np.ones((1, 1, 6, 1, 1, 4, 1)), np.ones((5, 1, 1, 4)), Geometry(3, 2), 1e6)
    with pytest.raises(ShapeError, match=r"^tau is missing"):
        channel_of(np.ones((1, 1, 6, 1, 1, 4, 1)), None, Geometry(3, 2), 1e6)


# The operator file


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_an_operator_file_holds_what_was_put_into_it(suffix: str, lab: Lab, tmp_path: Path) -> None:
    noisy = Operator(lab.operator.weights, lab.operator.group, (-0.5, 0.25), 0.125)
    wanted = FrontEnd(Geometry(COLUMNS, CHAINS * M, 0.5, 0.75), noisy, 3, 28e9, 5e-4)
    save_operator(tmp_path / f"o.{suffix}", wanted)
    found = load_operator(tmp_path / f"o.{suffix}")
    assert found == wanted
    assert found.operator is not None
    assert found.operator.hash == noisy.hash


def test_an_operator_file_needs_no_more_than_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", weights=np.ones((4, 2, 3), complex))
    found = load_operator(tmp_path / "o.npz")
    assert found.geometry == Geometry(4, 6)
    assert found.operator is not None
    assert (found.operator.interval, found.operator.group.tolist(), found.users) == ((-1.0, 1.0), [0] * 4, 1)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"users": 2}, "has neither weights nor geometry"),
    ({"weights": np.ones((4, 2))}, r"weights are \(4, 2\) float64; wanted complex \(y, chain, m\)"),
    ({"weights": np.full((4, 2, 3), np.nan)}, "weights are not all finite"),
    ({"weights": np.ones((4, 2, 3)), "geometry": [4, 7]}, r"geometry is 4 x 7; weights \(4, 2, 3\) want"),
    ({"geometry": [4, 7, 0, 1]}, r"spacings are \[0.0, 1.0\]; wanted wavelengths above 0"),
    ({"geometry": [4]}, r"geometry is \[4\]; wanted n_y, n_z or"),
    ({"geometry": [4.5, 2]}, "n_y is 4.5; wanted a whole number from 1 to 65536"),
    ({"weights": np.ones((4, 2, 3)), "group": [0, 1]}, r"group is \[0, 1\]; wanted a whole number a column, 4 of"),
    ({"weights": np.ones((4, 2, 3)), "group": [0, 1, 2, 9]}, "group has 0 to 9; wanted -1 to 3"),
    ({"weights": np.ones((4, 2, 3)), "interval": [0.5, 0.0]}, r"interval is \[0.5, 0.0\]; wanted -1 <= v_min"),
    ({"geometry": [4, 2], "carrier": np.inf}, "carrier is .*; wanted one finite number"),
    ({"geometry": [4, 2], "slot_period": 0.0}, "slot_period is 0; wanted a time above 0"),
    ({"geometry": [4, 2], "wieghts": 1}, "has no key 'wieghts'; there is weights, group"),
]


@pytest.mark.parametrize(("said", "problem"), WRONG)
def test_a_wrong_operator_file_says_what_is_wrong(said: dict[str, Any], problem: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "o.npz", **said)
    with pytest.raises(BadParam, match=rf"o\.npz: {problem}"):
        load_operator(tmp_path / "o.npz")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1]", "wanted a JSON object with weights"),
        ("{", "is damaged: JSONDecodeError"),
        ('{"weights": [1, 2]}', r"weights has shape \(2,\); wanted \(y, chain, m\) of \[real, imaginary\]"),
        ('{"geometry": ["a", 1]}', "geometry is of <U"),
        ('{"geometry": [[1], [1, 2]]}', "is damaged: ValueError"),
        ("[" * 100_000, "is damaged: RecursionError"),
    ],
)
def test_a_wrong_json_operator_file_says_what_is_wrong(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text(text)
    with pytest.raises(BadParam, match=rf"o\.json: {problem}"):
        load_operator(tmp_path / "o.json")


def test_files_that_are_not_there_or_are_called_otherwise(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.npy: cannot be read: no such file"):
        open_foreign(tmp_path / "none.npy", lab.path)
    with pytest.raises(StorageError, match=r"none\.npz: cannot be read: no such file"):
        open_foreign(write_npy(lab, tmp_path), tmp_path / "none.npz")
    with pytest.raises(BadParam, match=r"a\.wav: is called \.wav; wanted \.sigmf-meta"):
        open_foreign(tmp_path / "a.wav", lab.path)
    with pytest.raises(BadParam, match=r"o\.txt: an operator file is called \.npz or \.json"):
        save_operator(tmp_path / "o.txt", lab.front_end)


def test_an_array_must_be_named_where_there_are_several(lab: Lab, tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", x=lab.rf, y=2 * lab.rf)
    with pytest.raises(BadParam, match=r"has 2 complex arrays; name one with array; there is x \(12, 2, 8, 4\)"):
        open_foreign(tmp_path / "two.npz", lab.path)
    with pytest.raises(BadParam, match=r"has no array 'z'; there is x"):
        open_foreign(tmp_path / "two.npz", lab.path, "z")
    assert np.array_equal(samples(tmp_path / "two.npz", lab.path, array="y"), 2 * lab.rf)


def test_an_array_that_does_not_fit_the_operator_is_refused_with_both(lab: Lab, tmp_path: Path) -> None:
    np.save(tmp_path / "odd.npy", lab.rf[..., :3])
    with pytest.raises(BadParam, match=r"'odd' is \(12, 2, 8, 3\); wanted \(slot, user 2, y 8, chain 4\), or these"):
        open_foreign(tmp_path / "odd.npy", lab.path)


def test_the_block_says_what_a_file_is_missing(lab: Lab, tmp_path: Path) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match=r"operator: a file such as x\.npz does not say what its channels are"):
        ReplaySource(path="x.npz")
    with pytest.raises(ValidationError, match="no operator: it is for samples of other software"):
        ReplaySource(path="recording", operator="o.npz")
    with pytest.raises(ValidationError, match="no port: it is for recordings of runs"):
        ReplaySource(path="x.npz", operator="o.npz", port="a.b")
    source = ReplaySource(path=str(write_npy(lab, tmp_path)), operator=str(lab.path), first=SLOTS)
    with pytest.raises(BadParam, match=r"has slots 0\.\.11; wanted some from slot 12 on"):
        run_block(source, slots=1)


def test_a_part_of_a_file_and_a_file_round_and_round(lab: Lab, tmp_path: Path) -> None:
    path = write_npy(lab, tmp_path)
    part = run_block(ReplaySource(path=str(path), operator=str(lab.path), first=3, slots=4), slots=20, burst=3)
    assert np.array_equal(part["stream"]["rf"], lab.rf[3:7])
    assert [gap.count for gap in part.gaps["stream"]] == [3], "slots keep their indices"
    again = run_block(ReplaySource(path=str(path), operator=str(lab.path), slots=5, loop=True), slots=13, burst=4)
    assert np.array_equal(again["stream"]["rf"], lab.rf[np.arange(13) % 5])


# What MATLAB itself wrote

MATLAB = Path(scipy.io.__file__).parent / "matlab/tests/data"


@pytest.mark.skipif(not MATLAB.exists(), reason="scipy came without its tests")
def test_files_of_matlab_itself_read_as_scipy_reads_them() -> None:
    from beamslot.recording.foreign.matlab_v5 import read_mat5

    compared, said = 0, list[str]()
    for path in sorted(MATLAB.glob("test*.mat")):
        try:
            theirs = scipy.io.loadmat(path)
            ours = read_mat5(path)
        except BadParam as error:
            said.append(str(error))
            continue
        except Exception:  # noqa: S112 (some are broken on purpose)
            continue
        for name, stored in ours.items():
            compared += 1
            np.testing.assert_array_equal(stored.array, theirs[name], err_msg=f"{path.name}: {name}")
    assert compared > 20
    assert [one for one in said if "level 5" not in one and "version" not in one] == []


# Hostile files


def mutants(data: bytes, rng: np.random.Generator, count: int) -> Any:
    """Yield a file truncated, with bits flipped, with bytes of its numbers made huge, or with pieces exchanged."""
    for number in range(count):
        broken = bytearray(data)
        kind = number % 4
        if kind == 0:
            del broken[int(rng.integers(len(broken))) :]
        elif kind == 1:
            for at in rng.integers(len(broken), size=int(rng.integers(1, 6))):
                broken[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            at = int(rng.integers(max(1, min(len(broken), 4096) - 8)))
            broken[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80"])
        else:
            one, other, size = (int(n) for n in rng.integers(len(broken), size=3) // np.array([1, 1, 16]))
            broken[one : one + size] = broken[other : other + size]
        yield bytes(broken)


def hostile(write: Any, lab: Lab, tmp_path: Path, count: int) -> int:
    """Read mutants of a file as the block would; return how many were refused."""
    path = write(lab, tmp_path)
    data = path.read_bytes()
    target = path.with_name(f"hostile{path.suffix}")
    if path.suffix == ".sigmf-meta":
        target.with_suffix(".sigmf-data").write_bytes(path.with_suffix(".sigmf-data").read_bytes())
    said: list[str] = []
    for broken in mutants(data, np.random.default_rng(11), count):
        target.write_bytes(broken)
        try:
            foreign = open_foreign(target, lab.path)
            foreign.item(range(0, min(4, foreign.end)))
        except BeamslotError as error:
            said.append(str(error))
    assert all(str(tmp_path) in one for one in said)
    return len(said)


@pytest.mark.parametrize("write", WRITERS)
def test_damaged_files_give_errors_of_ours_and_nothing_else(write: Any, lab: Lab, tmp_path: Path) -> None:
    assert hostile(write, lab, tmp_path, 300) > 50


@pytest.mark.soak
@pytest.mark.parametrize("write", WRITERS)
def test_ten_thousand_damaged_files(write: Any, lab: Lab, tmp_path: Path) -> None:
    assert hostile(write, lab, tmp_path, 1500) > 300


def test_damaged_operator_files_give_errors_of_ours_and_nothing_else(lab: Lab, tmp_path: Path) -> None:
    save_operator(tmp_path / "o.json", lab.front_end)
    for name in ("operator.npz", "o.json"):
        data, target = (tmp_path / name).read_bytes(), tmp_path / f"broken{Path(name).suffix}"
        refused = 0
        for broken in mutants(data, np.random.default_rng(5), 300):
            target.write_bytes(broken)
            try:
                load_operator(target)
            except BeamslotError:
                refused += 1
        assert refused > 50


class Evil:
    """Would make a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return (open, (str(Path.cwd() / "evil"), "w"))


def test_pickled_objects_are_refused_and_not_run(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "evil.npz", y=np.array([Evil()], object))
    np.save(tmp_path / "evil.npy", np.array([Evil()], object), allow_pickle=True)
    (tmp_path / "evil").unlink(missing_ok=True)
    for name in ("evil.npz", "evil.npy"):
        with pytest.raises(BadParam, match="is of dtype object; wanted numbers"):
            open_foreign(tmp_path / name, lab.path)
    with pytest.raises(BadParam, match="is of dtype object"):
        load_operator(tmp_path / "evil.npz")
    assert not (tmp_path / "evil").exists()


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<c8', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(2, 3)", "(-1,)", "(True,)", "(0, 99999999999999999)"])
def test_a_header_that_claims_what_is_not_there_is_refused_before_room_is_made(
    shape: str, lab: Lab, tmp_path: Path
) -> None:
    (tmp_path / "claim.npy").write_bytes(npy_header(shape) + bytes(8))
    with zipfile.ZipFile(tmp_path / "claim.npz", "w") as archive:
        archive.writestr("y.npy", npy_header(shape) + bytes(8))
    for name in ("claim.npy", "claim.npz"):
        with pytest.raises(BadParam, match=rf"{name}: "):
            open_foreign(tmp_path / name, lab.path).item(range(1))


def test_a_bomb_is_refused_by_what_it_claims(lab: Lab, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("y.npy", npy_header("(400000000,)") + bytes(1000))
    with pytest.raises(BadParam, match=r"'y' has 3200000000 bytes; the limit is 2147483648"):
        open_foreign(tmp_path / "bomb.npz", lab.path)


def test_hdf5_that_reaches_out_of_its_file_is_refused(lab: Lab, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4096))
    with h5py.File(tmp_path / "out.mat", "w") as made:
        made.create_dataset("y", (8,), "<f8", external=[(str(secret), 0, 64)])
    with pytest.raises(BadParam, match="'y' has its data in other files"):
        open_foreign(tmp_path / "out.mat", lab.path)
    with h5py.File(tmp_path / "link.mat", "w") as made:
        made["y"] = h5py.ExternalLink(str(tmp_path / "out.mat"), "y")
    with pytest.raises(BadParam, match="'y' is a link"):
        open_foreign(tmp_path / "link.mat", lab.path)
    with h5py.File(tmp_path / "huge.mat", "w") as made:
        made.create_dataset("y", (200_000_000,), "<f8", chunks=(1000,))
    with pytest.raises(BadParam, match="'y' claims 1600000000 bytes; 0 are stored"):
        open_foreign(tmp_path / "huge.mat", lab.path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"core:datatype": "rf32_le"}, "core:datatype is rf32_le, real samples; wanted complex ones"),
        ({"core:datatype": "cf16_le"}, "core:datatype is 'cf16_le'; wanted a complex one"),
        ({"core:datatype": 7}, "core:datatype is '7'; wanted a complex one"),
        ({"core:num_channels": -1}, "core:num_channels is -1; wanted a whole number from 1"),
        ({"core:num_channels": 10**30}, "core:num_channels is 1000000000000000000000000000000; wanted"),
        ({"core:num_channels": 3}, r"a recording is \(256, 3\); wanted \(slot, user 2, y 8, chain 4\)"),
        ({"core:dataset": "../../etc/passwd"}, r"the samples are elsewhere .*; wanted other\.sigmf-data"),
        ({"core:sample_rate": "fast"}, "core:sample_rate is fast; wanted a finite number"),
        ({"core:trailing_bytes": 10**9}, "core:trailing_bytes is 1000000000; wanted a whole number from 0 to 6144"),
    ],
)
def test_wrong_metadata_says_what_is_wrong(change: dict[str, Any], problem: str, lab: Lab, tmp_path: Path) -> None:
    meta = write_sigmf_of(lab, tmp_path)
    said = json.loads(meta.read_text())
    said["global"] |= change
    meta.write_text(json.dumps(said))
    with pytest.raises(BadParam, match=problem):
        open_foreign(meta, lab.path)


def test_captures_that_go_back_are_refused(lab: Lab, tmp_path: Path) -> None:
    meta = write_sigmf_of(lab, tmp_path)
    said = json.loads(meta.read_text())
    for captures, problem in (
        ([{"core:sample_start": 4}, {"core:sample_start": 4}], "core:sample_start of the captures does not rise"),
        (
            [
                {"core:sample_start": 0, "core:global_index": 50},
                {"core:sample_start": 4, "core:global_index": 52},
            ],
            "core:global_index of capture 1 goes back to 52",
        ),
        ([1], "captures is no list of objects"),
    ):
        meta.write_text(json.dumps({**said, "captures": captures}))
        with pytest.raises(BadParam, match=problem):
            open_foreign(meta, lab.path)


def test_reading_leaves_no_room_for_a_stream_that_is_read_twice() -> None:
    """io is what numpy reads headers from; a header that is longer than allowed is refused."""
    from beamslot.recording.foreign.numpy_files import _header

    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"1," * 9000 + b")}"
    header = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    with pytest.raises(ValueError, match="Header info length"):
        _header(Path("x"), "x", io.BytesIO(header))
