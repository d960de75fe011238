"""Sounding reference signals of NR: low-PAPR sequences, where they lie in a symbol, and the waveform they make.

| symbol | name | meaning |
|---|---|---|
| M_ZC | length | tones of a sequence, 12 m_SRS / K_TC |
| u, v | group, number | which base sequence: 0 .. 29, and 0 or 1 (1 only from 72 tones on) |
| K_TC | comb | every K_TC-th subcarrier carries a tone |
| alpha = 2 pi n_cs / n_cs_max | shift | cyclic shift: what tells users on the same tones apart |
| tau, f | timing, frequency | how late a user arrives [s], and how far its carrier is off [Hz] |

Neither group nor sequence hopping: u is the sequence identity modulo 30 and v is 0.

source: 3GPP TS 38.211 V17, sections 5.2.2 (sequences), 5.3.1 (symbols), 6.4.1.4.2 and 6.4.1.4.3 (SRS)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.estimate import refuse

Complex = NDArray[np.complex128]
Real = NDArray[np.float64]

GROUPS = 30
SHIFTS = {2: 8, 4: 12, 8: 6}
"""n_cs_max, the number of cyclic shifts, by comb: table 6.4.1.4.2-1."""
LEAST_FFT = 128
"""Least FFT in which the normal cyclic prefix, 9/128 of a symbol, is a whole number of samples."""

_PHASES: dict[int, str] = {
    # phi(n) of u = 0 .. 29, in units of pi/4, as (phi + 3) / 2: tables 5.2.2.2-1 to 5.2.2.2-4
    6: """
    013310 031130 000320 222310 222013 021000 023000 012021 010200 002030 023200 010220 223103 223313
    222031 222130 011131 001210 000201 022010 030220 020001 220323 220020 223133 220233 221131 221311
    221301 220211
""",
    12: """
    020003012220 032023112333 033203123030 001333030210 011232212102 003200013123 213111012220
    103100012120 013201032332 011001032310 030330113320 010110331120 013001021033 021133011010
    230233321213 023110011320 111120133102 122123311020 023311033030 003013331020 323230123210
    032302222303 033310010230 310301333010 012023331033 032133021212 123021211021 003330120320
    213221112302 030300311230
""",
    18: """
    131032013011222111 303123010010321303 032113012222213101 003332023320031012 221101200020112132
    302231211022133031 031232012202331000 220332303122120013 020020032010001223 313200120033323030
    000203223002313003 003331101113200131 010022101011331323 220000230332013102 031010220011302322
    320203310010030123 010102301333210310 013313101210111332 020113200010022211 333010131210200133
    022022301013031110 201033102001012333 002112201333313232 310200033120132233 311201010010222003
    002033313220003011 011020311033013111 003302310210301113 102000223303301302 032111121330123131
""",
    24: """
    103132312010123010333000 103220200201130333023300 100211023101102232011300 203101332122301000130100
    130013112323110232102100 012002203110232101020000 032312020210100001112200 023121303101031110110330
    020311103210123121200000 221012202120300310230200 000130323201102232103230 031321113322233200120230
    303102321101303113300300 031313322023030012301100 020113230213310301100030 011020011312132013221100
    002133012112211302021110 313120220030111110012200 020200202000002002202200 003321112012130101120310
    001110210130203033211200 312130223103203111120000 020302032101000023123330 012011222331212110003210
    031011131130130301322100 021001201022122333121210 131133111310232200010100 300133013222313013132100
    020202232001231032100000 301231101310103132203000
""",
}


def base_sequence(length: int, group: int, number: int = 0) -> Complex:
    """Return the base sequence r_{u,v}(n), entries of unit modulus.

    length: M_ZC, a multiple of 6    group: u, 0 .. 29    number: v, 1 only from 72 on
    returns (length,) complex128    raises BadParam
    source: TS 38.211, sections 5.2.2.1 and 5.2.2.2
    """
    refuse(
        ("srs.length", length, "a positive multiple of 6", length > 0 and length % 6 == 0),
        ("srs.group", group, f"0 .. {GROUPS - 1}", 0 <= group < GROUPS),
        ("srs.number", number, "0, or 1 from 72 tones on", number == 0 or (number == 1 and length >= 72)),
    )
    n = np.arange(length)
    if length in _PHASES:
        digits = _PHASES[length].split()[group]
        return np.exp(0.25j * np.pi * (2 * np.array([int(digit) for digit in digits]) - 3))
    if length == 30:
        return _root(-(group + 1) * (n + 1) * (n + 2), 31)
    prime = _prime_below(length)
    # q = floor(q' + 1/2) + v (-1)^floor(2 q'), q' = N_ZC (u + 1) / 31, in whole numbers
    q = (2 * prime * (group + 1) + 31) // 62 + number * (-1) ** (2 * prime * (group + 1) // 31)
    m = n % prime
    return _root(-q * m * (m + 1), prime)


def _root(power: NDArray[np.int64], prime: int) -> Complex:
    """Return exp(j pi power / prime), reduced in whole numbers first so that long sequences stay exact."""
    return np.exp(1j * np.pi / prime * (power % (2 * prime)))


@cache
def _prime_below(length: int) -> int:
    return next(n for n in range(length - 1, 1, -1) if all(n % d for d in range(2, int(n**0.5) + 1)))


@dataclass(frozen=True, kw_only=True)
class Sounding:
    """One sounding occasion: the same sequence in consecutive symbols, users apart by their cyclic shifts.

    users: on the same tones, their shifts as far apart as they go    subcarrier_spacing: [Hz]
    resource_blocks: m_SRS, a multiple of 4    comb: K_TC    comb_offset: first subcarrier of the comb
    symbols: repetitions, 1, 2 or 4    sequence_id: n_ID^SRS    cyclic_shift: n_cs of the first user
    fft_size: samples of a symbol without its prefix; 0 is the least power of two that holds the band
    source: TS 38.211, section 6.4.1.4
    raises BadParam with every value that it cannot have
    """

    users: int = 1
    subcarrier_spacing: float = 30e3
    resource_blocks: int = 4
    comb: int = 2
    comb_offset: int = 0
    symbols: int = 2
    sequence_id: int = 0
    cyclic_shift: int = 0
    fft_size: int = 0

    def __post_init__(self) -> None:
        most = SHIFTS.get(self.comb, 0)
        refuse(
            ("srs.comb", self.comb, "2, 4 or 8", self.comb in SHIFTS),
            ("srs.users", self.users, f"1 .. {most}, the cyclic shifts of comb {self.comb}", 1 <= self.users <= most),
            ("srs.subcarrier_spacing", self.subcarrier_spacing, "more than 0 Hz", 0 < self.subcarrier_spacing < np.inf),
            ("srs.resource_blocks", self.resource_blocks, "a multiple of 4 up to 272", self._blocks_fit()),
            ("srs.comb_offset", self.comb_offset, f"0 .. {self.comb - 1}", 0 <= self.comb_offset < self.comb),
            ("srs.symbols", self.symbols, "1, 2 or 4", self.symbols in (1, 2, 4)),
            ("srs.sequence_id", self.sequence_id, "0 .. 65535", 0 <= self.sequence_id < 65536),
            ("srs.cyclic_shift", self.cyclic_shift, f"0 .. {most - 1}", 0 <= self.cyclic_shift < most),
            ("srs.fft_size", self.fft_size, self._wanted_size(), self._size_fits()),
        )

    def _blocks_fit(self) -> bool:
        return 0 < self.resource_blocks <= 272 and self.resource_blocks % 4 == 0

    def _wanted_size(self) -> str:
        return f"0, or a multiple of {LEAST_FFT} and at least {12 * self.resource_blocks}"

    def _size_fits(self) -> bool:
        return self.fft_size == 0 or (
            self.fft_size % LEAST_FFT == 0 and self.fft_size >= max(12 * self.resource_blocks, LEAST_FFT)
        )

    @cached_property
    def size(self) -> int:
        """Samples of a symbol without its cyclic prefix, N."""
        return self.fft_size or max(LEAST_FFT, 1 << (12 * self.resource_blocks - 1).bit_length())

    @property
    def prefix(self) -> int:
        """Samples of the normal cyclic prefix, 9/128 of a symbol: the shorter kind, which SRS symbols have."""
        return self.size * 9 // LEAST_FFT

    @property
    def samples(self) -> int:
        """Samples of an occasion, prefixes included."""
        return self.symbols * (self.size + self.prefix)

    @cached_property
    def rate(self) -> float:
        """Sample rate [Hz]."""
        return self.size * self.subcarrier_spacing

    @property
    def length(self) -> int:
        """Tones of the sequence, M_ZC."""
        return 12 * self.resource_blocks // self.comb

    @cached_property
    def symbol_period(self) -> float:
        """Time from one symbol to the next, prefix included [s]."""
        return (self.size + self.prefix) / self.rate

    @cached_property
    def spacing(self) -> float:
        """Least delay that leads from one user's shift to another's [s]."""
        most = SHIFTS[self.comb]
        apart = np.diff(np.append(self.shifts, self.shifts[0] + most)) % most
        return float(np.min(np.where(apart > 0, apart, most))) / most / (self.comb * self.subcarrier_spacing)

    @cached_property
    def latest(self) -> float:
        """Largest timing offset either way [s]: half of the prefix, or half of the way to the next user's shift.

        The first keeps whole symbols in the receiver's windows, the second users apart.
        """
        return min(self.prefix / self.rate, self.spacing) / 2

    @cached_property
    def shifts(self) -> NDArray[np.int64]:
        """Cyclic shift n_cs of every user, (user,)."""
        most = SHIFTS[self.comb]
        return (self.cyclic_shift + np.arange(self.users) * most // self.users) % most

    @cached_property
    def tones(self) -> NDArray[np.int64]:
        """Subcarriers of the sequence, counted from the middle of the band, (length,)."""
        return -6 * self.resource_blocks + self.comb_offset + self.comb * np.arange(self.length)

    @cached_property
    def centred(self) -> Real:
        """Tones counted from their mean, (length,): the channel of a slot is that at the middle of what is sounded."""
        return self.tones - self.tones.mean()

    @cached_property
    def sequences(self) -> Complex:
        """What the users send on the tones, (user, length), unit modulus."""
        alpha = 2 * np.pi * self.shifts / SHIFTS[self.comb]
        return np.exp(1j * alpha[:, None] * np.arange(self.length)) * base_sequence(
            self.length, self.sequence_id % GROUPS
        )

    @property
    def middle(self) -> float:
        """Middle of the occasion from its first sample [s], where the phase of a carrier that is off counts as 0."""
        return self.samples / self.rate / 2

    def waveforms(self, timing: NDArray[Any], frequency: NDArray[Any]) -> Complex:
        """Return what a channel of one makes of every user's symbols at the receiver, nothing sent before or after.

        timing: (user,) [s]    frequency: (user,) [Hz]
        returns (user, samples) complex128, mean power one; where a user is late the first samples are zero, where it
            is early the last
        The phase of a user is that at the mean tone and in the middle of the occasion: neither offset turns it there.
        source: TS 38.211, section 5.3.1, as a sum of exponentials, so that delays need not be whole samples
        """
        time = np.arange(self.samples) / self.rate
        local = time - np.asarray(timing, np.float64)[:, None]
        symbol = np.floor(local / self.symbol_period)
        sent = (symbol >= 0) & (symbol < self.symbols)
        within = local - symbol * self.symbol_period - self.prefix / self.rate
        turns = self.subcarrier_spacing * self.tones[:, None]
        carriers = np.exp(2j * np.pi * within[:, None, :] * turns)
        made = np.einsum("uk,ukn->un", self.sequences / np.sqrt(self.length), carriers)
        offset = np.asarray(frequency)[:, None] * (time - self.middle)
        centre = self.subcarrier_spacing * self.tones.mean() * np.asarray(timing)[:, None]
        return sent * made * np.exp(2j * np.pi * (offset + centre))

    def as_notes(self) -> dict[str, Any]:
        """Return the parameters as plain values, for the description of a stream."""
        return {name: getattr(self, name) for name in type(self).__dataclass_fields__}

    @classmethod
    def of_notes(cls, notes: Any) -> "Sounding":
        """Return what `as_notes` gave; raises BadParam for notes of something else."""
        wanted = cls.__dataclass_fields__
        given: dict[str, Any] = dict(notes) if isinstance(notes, Mapping) else {}
        refuse(("srs", sorted(given), f"notes called {sorted(wanted)}", set(given) == set(wanted)))
        refuse(*((f"srs.{name}", value, *_kind(name, value)) for name, value in given.items()))
        return cls(**given)


def _kind(name: str, value: object) -> tuple[str, bool]:
    if name == "subcarrier_spacing":
        return "a number", type(value) in (int, float)
    return "a whole number", type(value) is int
