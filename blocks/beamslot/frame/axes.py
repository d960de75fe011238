"""The one vocabulary of axes and dtypes; extended here only."""

import numpy as np

from beamslot.errors import DtypeError, ShapeError

AXES: dict[str, str] = {
    "slot": "sounding occasions, the unit of time",
    "user": "users with orthogonal pilots",
    "pilot": "pilot symbols of one slot",
    "y": "antenna columns of the array (horizontal)",
    "z": "antenna rows of the array (vertical)",
    "chain": "RF chains of one column",
    "path": "propagation paths, masked where fewer",
    "group": "groups of columns that share a beam",
    "antenna": "antennas of an array without rows and columns",
    "sample": "time samples of baseband",
    "subcarrier": "OFDM subcarriers",
    "bin": "bins of a histogram or an image",
    "coordinate": "components of a point or direction",
}

# The dtypes that may travel, by their wire name: little-endian, fixed size, no objects, no strings.
DTYPES: dict[str, np.dtype[np.generic]] = {
    name: np.dtype(name)
    for name in ("<c8", "<c16", "<f4", "<f8", "<i2", "<i4", "<i8", "<u2", "<u4", "<u8", "|i1", "|u1", "|b1")
}


def parse_axes(axes: str) -> tuple[str, ...]:
    """Return "slot user y z" as a tuple.

    raises ShapeError for an axis outside the vocabulary or one named twice
    """
    names = tuple(axes.split())
    unknown = [name for name in names if name not in AXES]
    if unknown:
        raise ShapeError(f"axes {axes!r}: no axis is called {', '.join(unknown)}; the vocabulary is {' '.join(AXES)}")
    if len(set(names)) != len(names):
        raise ShapeError(f"axes {axes!r}: an axis stands twice")
    if "slot" in names[1:]:
        raise ShapeError(f"axes {axes!r}: slot comes first")
    return names


def wire_dtype(dtype: object) -> np.dtype[np.generic]:
    """Return the dtype that travels for `dtype`.

    raises DtypeError when it may not travel
    """
    given = np.dtype(dtype)  # type: ignore[call-overload]
    found = DTYPES.get(given.newbyteorder("<").str)
    if found is None:
        raise DtypeError(f"dtype {given} may not travel; allowed: {' '.join(DTYPES)}")
    return found
