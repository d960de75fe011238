"""Make srs_sequences.npz: low-PAPR sequences of NR from srsRAN 4G, compiled here, in double precision.

    python make_srs.py CHECKOUT        a checkout of srsRAN_4G; needs a C compiler

Phases come as whole numbers: in units of pi / 4 for lengths up to 24, of pi / N_ZC from 36 on. srsRAN has no sequences
of 30. Its single precision is not enough for the long ones, so `float` is compiled as double.
"""

import ctypes
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SHIM = r"""
#ifndef SHIM_H
#define SHIM_H
#include <complex.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#define SRSRAN_API
#define SRSRAN_NRE 12
#define SRSRAN_SUCCESS 0
#define SRSRAN_ERROR -1
#define SRSRAN_ERROR_OUT_OF_BOUNDS -2
#define SRSRAN_ERROR_INVALID_INPUTS -3
#define SRSRAN_MEM_ZERO(x, type, n) memset((x), 0, sizeof(type) * (n))
#define ERROR(...) ((void)0)
typedef double _Complex cf_t;
static void srsran_vec_sc_prod_fcc(const double* x, double _Complex h, double _Complex* z, uint32_t n)
{
  for (uint32_t i = 0; i < n; i++) z[i] = x[i] * h;
}
static cf_t* srsran_vec_cf_malloc(uint32_t n) { return malloc(n * sizeof(cf_t)); }
#endif
"""
HEADERS = ("config.h", "phy/common/phy_common.h", "phy/utils/debug.h", "phy/utils/vector.h")


def compiled(checkout: Path, folder: Path) -> ctypes.CDLL:
    for name in HEADERS:
        header = folder / "srsran" / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text(SHIM)
    include, source = checkout / "lib/include/srsran/phy", checkout / "lib/src/phy"
    for name in ("common/zc_sequence.h", "utils/primes.h"):
        copy = folder / "srsran/phy" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((include / name).read_bytes())
    sources = [str(source / name) for name in ("common/zc_sequence.c", "utils/primes.c")]
    library = folder / "libsrs.so"
    double = ["-Dfloat=double", "-Dcexpf=cexp", "-include", "srsran/config.h"]
    subprocess.run(
        ["cc", "-O1", "-w", "-shared", "-fPIC", f"-I{folder}", *double, "-o", str(library), *sources, "-lm"], check=True
    )
    return ctypes.CDLL(str(library))


def sequence(library: ctypes.CDLL, u: int, v: int, alpha: float, blocks: int, comb: int) -> np.ndarray:
    made = np.zeros(12 * blocks // comb, np.complex128)
    generate = library.srsran_zc_sequence_generate_nr
    generate.argtypes = [ctypes.c_uint32, ctypes.c_uint32, ctypes.c_double, ctypes.c_uint32, ctypes.c_uint32]
    generate.argtypes += [ctypes.c_void_p]
    assert generate(u, v, alpha, blocks, comb.bit_length() - 1, made.ctypes.data) == 0
    return made


def phases(made: np.ndarray, unit: int) -> np.ndarray:
    exact = np.angle(made) * unit / np.pi
    assert np.abs(exact - np.round(exact)).max() < 1e-4
    return (np.round(exact).astype(np.int64) % (2 * unit)).astype("<i4")


def main(checkout: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        library = compiled(checkout, Path(folder))
        combs = {12 * blocks // comb: (blocks, comb) for comb in (2, 4, 8) for blocks in range(4, 273, 4)}
        tables, rows, digests = {}, [], []
        for length, (blocks, comb) in sorted(combs.items()):
            if length == 30:
                continue
            unit = 4 if length < 36 else library.srsran_prime_lower_than(length)
            for v in range(2 if length >= 72 else 1):
                made = [phases(sequence(library, u, v, 0.0, blocks, comb), unit) for u in range(30)]
                if length < 36:
                    tables[f"phase_{length}"] = np.stack(made).astype("i1")
                rows.append((length, v, unit))
                digests.append([int.from_bytes(hashlib.sha256(one.tobytes()).digest()[:4], "little") for one in made])
        shifted = [
            sequence(library, 7, 0, 2 * np.pi * n / most, 8, comb)
            for comb, most in ((2, 8), (4, 12), (8, 6))
            for n in range(most)
        ]
        np.savez_compressed(
            Path(__file__).with_name("srs_sequences.npz"),
            **tables,
            which=np.array(rows, "i4"),
            digest=np.array(digests, "u4"),
            shifted=np.concatenate(shifted),
            made_by=np.array("srsRAN 4G 23.11, lib/src/phy/common/zc_sequence.c, float as double"),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
