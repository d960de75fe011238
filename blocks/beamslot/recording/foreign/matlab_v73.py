"""MATLAB's .mat of version 7.3, which is HDF5: arrays of numbers at its root; everything else is passed over.

MATLAB turns its arrays round (the last axis comes first) and writes complex numbers as records of `real` and `imag`.
What a file of HDF5 could do beyond holding numbers is refused: data in other files, links out of the file, virtual
datasets, and filters that would be loaded as plugins.

source: MathWorks, MAT-File Versions; HDF5 1.14 file format
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.errors import BadParam
from beamslot.recording.foreign.bounded import LARGEST, MAX_DEFLATED, reading, size_of
from beamslot.recording.foreign.file_array import FileArray

SIGNATURE = b"\x89HDF\r\n\x1a\n"
USER_BLOCKS = (0, 512)
"""Where HDF5 begins: at once, or behind MATLAB's header."""

FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
PARTS = (("real", "imag"), ("r", "i"))
"""How MATLAB and h5py call the parts of a complex number."""

MAX_MEMBERS = 1_000


def is_hdf5(path: Path) -> bool:
    """Return whether a file is HDF5; raises StorageError where it cannot be read."""
    with reading(path), path.open("rb") as file:
        begun = file.read(USER_BLOCKS[-1] + len(SIGNATURE))
    return any(begun[at : at + len(SIGNATURE)] == SIGNATURE for at in USER_BLOCKS)


def read_mat73(path: Path) -> dict[str, FileArray]:
    """Return the arrays of numbers of a .mat file of version 7.3 by name; raises BadParam."""
    try:
        import h5py
    except ImportError:
        raise BadParam(
            f'{path}: is a .mat file of version 7.3, which needs h5py; pip install "beamslot[mat]"'
        ) from None
    with reading(path), h5py.File(path, "r") as file:
        names = list(file)
        if len(names) > MAX_MEMBERS:
            raise BadParam(f"{path}: has {len(names)} variables; the limit is {MAX_MEMBERS}")
        found: dict[str, FileArray] = {}
        for name in names:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise BadParam(f"{path}: {name!r} is a link; wanted what it leads to")
            if file.get(name, getclass=True) is h5py.Dataset and (stored := _stored(path, name, file[name])):
                found[name] = stored
        return found


def _stored(path: Path, name: str, dataset: Any) -> FileArray | None:
    dtype = _number(dataset.dtype)
    if dtype is None or dataset.shape is None:
        return None
    shape = tuple(int(n) for n in dataset.shape)
    nbytes = size_of(path, repr(name), shape, dataset.dtype.itemsize)
    _check(path, name, dataset, nbytes)
    return FileArray(name, shape[::-1], dtype, partial(_load, path, name))


def _number(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return what numbers a dataset holds, None where it holds none."""
    if dtype.fields is None:
        return dtype if dtype.kind in "biufc" else None
    parts = [part for part, *_ in dtype.fields.values()]
    if dtype.names not in PARTS or len({*parts}) != 1 or parts[0].kind not in "iuf":
        return None
    return np.dtype(np.complex64 if parts[0].itemsize <= 4 and parts[0].kind == "f" else np.complex128)


def _check(path: Path, name: str, dataset: Any, nbytes: int) -> None:
    """Refuse what is not in this file, or would be read by a plugin, or is not there at all."""
    if dataset.external or dataset.is_virtual:
        raise BadParam(f"{path}: {name!r} has its data in other files; wanted them in this one")
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    strange = [code for code in filters if code not in FILTERS]
    if strange:
        raise BadParam(f"{path}: {name!r} needs filter {strange[0]}; wanted {', '.join(FILTERS.values())}")
    stored = dataset.id.get_storage_size()
    if nbytes > stored * (MAX_DEFLATED if 1 in filters else 1):
        raise BadParam(f"{path}: {name!r} claims {nbytes} bytes; {stored} are stored")
    if dataset.chunks is not None:
        size_of(path, f"a chunk of {name!r}", tuple(map(int, dataset.chunks)), dataset.dtype.itemsize, LARGEST)


def _load(path: Path, name: str) -> NDArray[Any]:
    import h5py

    with reading(path), h5py.File(path, "r") as file:
        dataset: Any = file[name]
        values: Any = dataset[...]
        dtype = _number(values.dtype)
    if values.dtype.fields is not None:
        made = np.empty(values.shape, dtype)
        made.real, made.imag = (values[part] for part in values.dtype.names)
        values = made
    return values.transpose()
