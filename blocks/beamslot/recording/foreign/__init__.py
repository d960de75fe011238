"""Recordings of other software as streams: SigMF, NumPy, MATLAB, and channel impulse responses of Sionna.

What none of these files says, the operator file does: which array, and what beams the samples were measured with.
"""

from pathlib import Path

from beamslot.errors import BadParam, ShapeError
from beamslot.recording.foreign.bounded import reading
from beamslot.recording.foreign.cir import channel_of
from beamslot.recording.foreign.file_array import FileArray, choose
from beamslot.recording.foreign.layout import Foreign, reader, stream_of
from beamslot.recording.foreign.matlab_v5 import read_mat5
from beamslot.recording.foreign.matlab_v73 import is_hdf5, read_mat73
from beamslot.recording.foreign.numpy_files import read_npy, read_npz
from beamslot.recording.foreign.operator_file import FrontEnd, load_operator, save_operator
from beamslot.recording.foreign.sigmf_file import DATA, META, Run, read_sigmf

__all__ = ["SUFFIXES", "Foreign", "FrontEnd", "load_operator", "open_foreign", "save_operator"]

CIR = ("a", "tau")
"""How the arrays of a channel impulse response are called."""

SUFFIXES = (META, DATA, ".npy", ".npz", ".mat")


def open_foreign(path: Path | str, operator: Path | str, array: str = "", frequency: float = 0.0) -> Foreign:
    """Open a recording of other software.

    path: .sigmf-meta (or -data) of complex samples of N channels, one sample a slot; .npy, .npz or .mat with a complex
        array whose first axis is the slot, or with a channel impulse response (a, tau)
    operator: the operator file: what the channels are    array: which array; the only complex one where empty
    frequency: at which an impulse response is taken, from the carrier [Hz]
    raises StorageError where a file cannot be read, BadParam where it is damaged or does not fit, each with the path
    """
    path = Path(path)
    front_end = load_operator(operator)
    if path.suffix in (META, DATA):
        return _sigmf(path, front_end)
    arrays = _arrays(path)
    with reading(path):
        if not array and all(name in arrays for name in CIR):
            return _impulse_responses(path, arrays["a"], arrays["tau"], front_end, frequency)
        return _samples(path, choose(path, arrays, array), front_end)


def _arrays(path: Path) -> dict[str, FileArray]:
    if path.suffix == ".npy":
        return read_npy(path)
    if path.suffix == ".npz":
        return read_npz(path)
    if path.suffix == ".mat":
        return read_mat73(path) if is_hdf5(path) else read_mat5(path)
    raise BadParam(f"{path}: is called {path.suffix or 'without a suffix'}; wanted {', '.join(SUFFIXES)}")


def _sigmf(path: Path, front_end: FrontEnd) -> Foreign:
    file = read_sigmf(path)
    info = stream_of(front_end, False, 1 / file.rate if file.rate else None, file.frequency)
    if not file.runs:
        raise BadParam(f"{path}: holds no whole sample of {file.channels} channels")
    slots = file.runs[-1].row + file.runs[-1].count
    read = reader(path, "a recording", file.read, (slots, file.channels), info)
    return Foreign(path, info, read, file.runs)


def _samples(path: Path, stored: FileArray, front_end: FrontEnd) -> Foreign:
    info = stream_of(front_end, False, None)
    if stored.dtype.kind not in "iufc":
        raise BadParam(f"{path}: {stored} is no array of numbers")
    read = reader(path, repr(stored.name), lambda start, stop: stored.array[start:stop], stored.shape, info)
    return Foreign(path, info, read, (Run(0, 0, stored.shape[0]),))


def _impulse_responses(path: Path, a: FileArray, tau: FileArray, front_end: FrontEnd, frequency: float) -> Foreign:
    if a.dtype.kind not in "iufc" or tau.dtype.kind not in "iuf":
        raise BadParam(f"{path}: {a}, {tau} are no impulse responses; wanted numbers, tau real")
    try:
        channel = channel_of(a.array, tau.array, front_end.geometry, frequency)
    except ShapeError as error:
        raise BadParam(f"{path}: {error}") from None
    front_end = FrontEnd(front_end.geometry, None, channel.shape[1], front_end.carrier, front_end.slot_period)
    info = stream_of(front_end, True, None)
    read = reader(path, "the channel", lambda start, stop: channel[start:stop], channel.shape, info)
    return Foreign(path, info, read, (Run(0, 0, len(channel)),))
