"""NumPy's .npy and .npz: the headers are read here and checked before an array is made; objects are refused.

source: numpy.lib.format; zip as of APPNOTE.TXT, stored or deflated
"""

import io
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from beamslot.errors import BadParam
from beamslot.recording.foreign.bounded import LARGEST, MAX_DEFLATED, reading, size_of
from beamslot.recording.foreign.file_array import FileArray

MAX_HEADER = 10_000
MAX_MEMBERS = 1_000
KINDS = "biufcUS"
"""Truth values, numbers, and texts (which only notes are)."""


def read_npy(path: Path) -> dict[str, FileArray]:
    """Return the array of a .npy file under the name of the file, mapped when it is read; raises BadParam."""
    with reading(path):
        with path.open("rb") as file:
            shape, fortran, dtype = _header(path, path.stem, file)
            offset = file.tell()
        size = path.stat().st_size
        _fits(path, path.stem, shape, dtype, size - offset, largest=1 << 62)
        order = "F" if fortran else "C"
        return {path.stem: FileArray(path.stem, shape, dtype, partial(_mapped, path, dtype, shape, offset, order))}


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, order: Any) -> NDArray[Any]:
    with reading(path):
        if 0 in shape:
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", offset, shape, order)


def read_npz(path: Path) -> dict[str, FileArray]:
    """Return the arrays of a .npz file by name; raises BadParam."""
    with reading(path), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise BadParam(f"{path}: has {len(members)} members; the limit is {MAX_MEMBERS}")
        found = (_member(path, archive, member) for member in members if member.filename.endswith(".npy"))
        return {stored.name: stored for stored in found}


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> FileArray:
    name = member.filename.removesuffix(".npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadParam(f"{path}: {name!r} is compressed by method {member.compress_type}; wanted none or deflate")
    if member.file_size > MAX_DEFLATED * (member.compress_size + 1):
        raise BadParam(f"{path}: {name!r} claims {member.file_size} bytes in {member.compress_size}")
    with archive.open(member) as file:
        begun = io.BytesIO(file.read(MAX_HEADER + 16))
    shape, fortran, dtype = _header(path, name, begun)
    _fits(path, name, shape, dtype, member.file_size - begun.tell())
    return FileArray(name, shape, dtype, partial(_unpacked, path, member, shape, fortran, dtype, begun.tell()))


def _unpacked(
    path: Path, member: zipfile.ZipInfo, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], offset: int
) -> NDArray[Any]:
    with reading(path), zipfile.ZipFile(path) as archive, archive.open(member) as file:
        data = file.read(member.file_size + 1)
        if len(data) != member.file_size:
            raise BadParam(f"{path}: {member.filename!r} has {len(data)} bytes; wanted {member.file_size}")
        return np.frombuffer(data, dtype, offset=offset).reshape(shape, order="F" if fortran else "C")


def _header(path: Path, name: str, file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise BadParam(f"{path}: {name!r} has version {version} of the format; wanted 1.0 or 2.0")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=MAX_HEADER)
    if dtype.hasobject or dtype.fields is not None or dtype.subdtype is not None or dtype.kind not in KINDS:
        raise BadParam(f"{path}: {name!r} is of dtype {str(dtype)[:60]}; wanted numbers")
    return shape, fortran, dtype


def _fits(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], there: int, largest: int = LARGEST
) -> None:
    wanted = size_of(path, repr(name), shape, dtype.itemsize, largest)
    if wanted != there:
        raise BadParam(f"{path}: {name!r} has {there} bytes; {dtype} {shape} wants {wanted}")
