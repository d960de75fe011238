"""From samples of RF chains to pilots: timing and carrier offsets of all users, found together and taken out.

| symbol | name | meaning |
|---|---|---|
| z | tones | what a chain sees on the tones of all symbols, (symbol * length) entries a chain |
| A, D | columns, slopes | what a user of unit channel leaves in z, and its derivatives by tau and f |
| y_u | observation | pilots of user u, one a chain: z = A y + w |
| tau_u, f_u | timing, frequency | how late a user arrives [s], how far its carrier is off [Hz], at all chains |
| R | covariance | sum over chains of z z^H, all that is needed to find tau and f |
| P | | projection away from A, I - A A^+ |

z holds each user's sequence, turned from tone to tone by tau and from sample to sample by f; that f also mixes the
tones of a symbol is part of A. The pilots are least squares on what was found, so users do not leak into each other
however their offsets differ; tau and f maximise the likelihood of all chains and users together (variable projection,
as in `projection`). They start where a search over tau finds users one by one, the strongest first, and f from what
successive symbols turn by.

source: Golub and Pereyra 1973 (variable projection); Ziskind and Wax 1988 (one source after another); Moose 1994
(carrier offset from repeated symbols)
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from beamslot.dsp.srs import Complex, Real, Sounding
from beamslot.errors import ShapeError

STEPS = 3
"""Gauss-Newton steps; after them what is left is far below what noise does."""
TRIED = 1
"""Steps from every start, before the best one goes on alone."""
POINTS_A_CELL = 4
"""Points of the search over tau, of 1 / bandwidth each."""
LOADING = 1e-9
"""Added to what is inverted, relative to its diagonal."""


class Despread(NamedTuple):
    """One occasion after the correlator.

    observation: (user, ...) complex64 [sqrt(W)], pilots of every user at every chain, y = F_a h + w
    timing: (user,) [s]    frequency: (user,) [Hz]
    noise_var: (user,) [W], variance of w per complex entry, from what the users leave unused
    """

    observation: NDArray[np.complex64]
    timing: Real
    frequency: Real
    noise_var: Real


class Slopes(NamedTuple):
    """What users of unit channel leave on the tones: columns (rows, user), and by tau, then by f (rows, 2 user)."""

    columns: Complex
    slopes: Complex


@dataclass(frozen=True, eq=False)
class Correlator:
    """Despread what users sent in one sounding occasion; tables for it are made once.

    sounding: what was sent
    Samples are read in windows that begin in the middle of each cyclic prefix, so users may be late or early by
    `sounding.latest`. Frequencies are told apart up to half a turn from symbol to symbol, `widest`; with a single
    symbol they are taken as zero.
    source: the module's
    """

    sounding: Sounding

    @property
    def widest(self) -> float:
        """Largest carrier offset either way [Hz]."""
        return 0.5 / self.sounding.symbol_period if self.sounding.symbols > 1 else 0.0

    @property
    def processing_gain(self) -> int:
        """Samples that a pilot is a mean of: white noise in them leaves with its variance divided by so much."""
        return self.sounding.size * self.sounding.symbols

    def despread(self, iq: NDArray[Any]) -> Despread:
        """Return the pilots in the samples of one occasion.

        iq: (..., sample) complex [sqrt(W)], the RF chains of one receiver, as `Sounding.waveforms` makes them
        returns (user, ...) pilots and what was found on the way; NaN where a sample is not finite
        raises ShapeError
        """
        users, chains = self.sounding.users, iq.shape[:-1]
        tones = self.tones(iq).reshape(-1, self.sounding.symbols * self.sounding.length)
        level = np.abs(tones).max(initial=0.0)
        if not np.isfinite(level):
            nothing = np.full(users, np.nan)
            return Despread(np.full((users, *chains), np.nan, np.complex64), nothing, nothing, nothing)
        tones = tones / (level if level > 0 else 1)  # so that the squares of any samples fit single precision
        covariance = (tones.T @ tones.conj()).astype(np.complex128)
        timing, frequency = self.synchronise(covariance)
        columns = self.model(timing, frequency).columns
        inverse = _inverse(columns)
        noise_var = self._noise_var(covariance, columns, inverse, len(tones)) * float(level) ** 2
        seen = (inverse.astype(tones.dtype) @ tones.T) * level
        return Despread(seen.reshape(users, *chains).astype(np.complex64), timing, frequency, noise_var)

    def tones(self, iq: NDArray[Any]) -> NDArray[Any]:
        """Return what is on the tones of every symbol, so that a user of channel y leaves y times unit modulus there.

        iq: (..., sample)    returns (..., symbol, length)
        """
        sent = self.sounding
        if iq.shape[-1:] != (sent.samples,):
            raise ShapeError(f"iq: samples are {iq.shape}, wanted (..., {sent.samples})")
        symbols = iq.reshape(*iq.shape[:-1], sent.symbols, sent.size + sent.prefix)
        windows = symbols[..., self._first : self._first + sent.size]
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found by the caller
            return windows @ self._kernel.astype(iq.dtype)

    def windowed(self, waveforms: NDArray[Any]) -> NDArray[Any]:
        """Return waveforms with all that the windows leave out set to zero.

        waveforms: (..., sample)    returns (..., sample)
        """
        sent = self.sounding
        within = np.arange(sent.samples) % (sent.size + sent.prefix) - self._first
        return np.where((within >= 0) & (within < sent.size), waveforms, 0)

    def synchronise(self, covariance: Complex) -> tuple[Real, Real]:
        """Return timing and frequency of every user, (user,) each [s], [Hz].

        covariance: (rows, rows), sum of z z^H over chains
        """
        sent = self.sounding
        blocks = covariance.reshape(sent.symbols, sent.length, sent.symbols, sent.length)
        starts = self._places(np.einsum("lklm->km", blocks) / sent.symbols)
        found = [(timing, np.zeros(sent.users)) for timing in starts]
        if sent.symbols > 1:
            undone = self._undone(self._turned(np.sum(self._turns(blocks, starts[0]))))
            starts = self._places(undone @ covariance @ undone.conj().T)
            found = [(timing, self._turned(self._turns(blocks, timing))) for timing in starts]
        for step in range(STEPS):
            found = [self._step(covariance, *start) for start in found]
            if step + 1 == TRIED and len(found) > 1:
                found = [max(found, key=lambda one: self._explained(covariance, self.model(*one).columns))]
        return found[0]

    def model(self, timing: Real, frequency: Real) -> Slopes:
        """Return what users leave on the tones, and its derivatives.

        timing: (user,) [s]    frequency: (user,) [Hz]
        """
        sent = self.sounding
        turn = 2j * np.pi * sent.subcarrier_spacing * sent.centred
        late = sent.sequences * np.exp(-turn * timing[:, None])
        parts = np.stack([late, -turn * late]) @ self._carriers
        spin = 2j * np.pi * self._time
        turned = parts * np.exp(spin * frequency[:, None])
        value, by_timing, by_window = np.concatenate([turned, spin * turned[:1]]) @ self._carriers.conj().T / sent.size
        start = 2j * np.pi * np.arange(sent.symbols)[:, None, None] * sent.symbol_period
        phase = np.exp(start * frequency[:, None])
        stacked = [phase * value, phase * by_timing, phase * (by_window + start * value)]
        columns, timings, frequencies = (part.swapaxes(1, 2).reshape(-1, sent.users) for part in stacked)
        return Slopes(columns, np.concatenate([timings, frequencies], axis=1))

    def information(self, gram: Complex, timing: Real, frequency: Real, noise_var: float) -> Real:
        """Return Fisher's information on timing and frequency, channels unknown, (2 user, 2 user) [1/s^2, 1/Hz^2].

        gram: (user, user), sum over chains of y y^H    noise_var: of an entry of z [W]
        source: Cramer-Rao for deterministic channels: 2 / sigma^2 Re{(D^H P D) (*) (y y^H)^T}
        """
        columns, slopes = self.model(timing, frequency)
        rest = slopes - columns @ (_inverse(columns) @ slopes)
        return 2 / noise_var * (slopes.conj().T @ rest * np.tile(gram.T, (2, 2))).real

    def _step(self, covariance: Complex, timing: Real, frequency: Real) -> tuple[Real, Real]:
        columns, slopes = self.model(timing, frequency)
        inverse = _inverse(columns)
        away = slopes - columns @ (inverse @ slopes)
        seen = inverse @ covariance  # sum over chains of y z^H
        gram = seen @ inverse.conj().T
        users = self.sounding.users
        bend = (slopes.conj().T @ away * np.tile(gram.T, (2, 2))).real
        pull = np.tile(seen.T.conj(), (1, 2))
        descent = np.einsum("ri,ri->i", away.conj(), pull).real
        free = 2 * users if self.widest else users
        step = np.zeros(2 * users)
        step[:free] = _solve(bend[:free, :free], descent[:free])
        cell = 1 / (self.sounding.length * self.sounding.comb * self.sounding.subcarrier_spacing)
        late = np.clip(timing + np.clip(step[:users], -cell / 2, cell / 2), -self.sounding.latest, self.sounding.latest)
        return late, np.clip(frequency + step[users:], -self.widest, self.widest)

    def _noise_var(self, covariance: Complex, columns: Complex, inverse: Complex, chains: int) -> Real:
        """Variance of w, from the shifts and differences between symbols that no user has, (user,)."""
        rows, users = columns.shape
        rest = np.trace(covariance).real - np.trace(inverse @ covariance @ columns).real
        freedom = chains * (rows - users) - users  # two real parameters a user, besides its pilots
        if freedom <= 0:
            return np.full(users, np.nan)
        return max(rest, 0.0) / freedom * np.sum(np.abs(inverse) ** 2, axis=1)

    def _turns(self, blocks: Complex, timing: Real) -> Complex:
        """Return what each user has in one symbol times the conjugate of that in the symbol before, summed, (user,)."""
        inverse = _inverse(self._late(timing))
        following = np.einsum("lklm->km", blocks[1:, :, :-1])
        return np.einsum("uk,km,um->u", inverse, following, inverse.conj())

    def _turned(self, product: Any) -> Any:
        """Return the carrier offset that such a product shows [Hz]."""
        return np.angle(product) / (2 * np.pi * self.sounding.symbol_period)

    def _places(self, left: Complex) -> list[Real]:
        """Return where users may be, from the covariance of the tones of a symbol, (length, length).

        Each by itself, and all at one timing, early or late: at the far end of what timing may be, a user cannot be
        told from its neighbour at the near end but by the company that it has.
        """
        alone = self._search(left)
        if self.sounding.users == 1:
            return [alone]
        seen = np.einsum("kgu,kgu->g", self._spans.conj(), np.tensordot(left, self._spans, 1)).real
        half = len(self._grid) // 2
        best = (np.argmax(seen[:half]), half + np.argmax(seen[half:]))
        return [alone, *(np.full(self.sounding.users, self._grid[point]) for point in best)]

    def _explained(self, covariance: Complex, columns: Complex) -> float:
        """Return the energy that lies in the columns."""
        return float(np.sum((_inverse(columns) @ covariance * columns.T).real))

    def _late(self, timing: Real) -> Complex:
        """Return what users leave on the tones of a symbol without a carrier offset, (length, user)."""
        sent = self.sounding
        return (sent.sequences * np.exp(-2j * np.pi * sent.subcarrier_spacing * sent.centred * timing[:, None])).T

    def _search(self, left: Complex) -> Real:
        """Place users one by one, each where it explains most of what those before it leave; the strongest first.

        left: (length, length), covariance of the tones of a symbol
        """
        sent = self.sounding
        shape, atoms = (sent.users, len(self._grid)), self._atoms
        timing, waiting = np.zeros(sent.users), np.ones(sent.users, np.bool_)
        for _ in range(sent.users):
            energy = np.maximum(np.sum(np.abs(atoms) ** 2, axis=0), 1e-3 * sent.length)
            score = np.sum((atoms.conj() * (left @ atoms)).real, axis=0) / energy
            user, point = np.unravel_index(np.argmax(np.where(waiting[:, None], score.reshape(shape), -np.inf)), shape)
            timing[user], waiting[user] = self._grid[point], False
            found = atoms[:, user * shape[1] + point]
            unit = found / np.sqrt(energy[user * shape[1] + point])
            atoms = atoms - np.outer(unit, unit.conj() @ atoms)
        return timing

    def _undone(self, frequency: Any) -> Complex:
        """What takes the mean over symbols without a carrier offset, (length, rows), but for what left the tones."""
        sent = self.sounding
        within = self._carriers * np.exp(-2j * np.pi * frequency * self._time) @ self._carriers.conj().T / sent.size
        turned = np.exp(-2j * np.pi * frequency * sent.symbol_period * np.arange(sent.symbols))
        return (within.T[:, None] * turned[:, None] / sent.symbols).reshape(sent.length, -1)

    @cached_property
    def _first(self) -> int:
        """First sample of a window in its symbol: in the middle of the prefix."""
        return self.sounding.prefix - self.sounding.prefix // 2

    @cached_property
    def _time(self) -> Real:
        """Times of the samples of the first window from the middle of the occasion [s], (size,)."""
        return (self._first + np.arange(self.sounding.size)) / self.sounding.rate - self.sounding.middle

    @cached_property
    def _carriers(self) -> Complex:
        """The tones over a window, (length, size)."""
        within = np.arange(self.sounding.size) + self._first - self.sounding.prefix
        return np.exp(2j * np.pi / self.sounding.size * np.outer(self.sounding.tones, within))

    @cached_property
    def _kernel(self) -> NDArray[Any]:
        return np.ascontiguousarray(self._carriers.conj().T) * (np.sqrt(self.sounding.length) / self.sounding.size)

    @cached_property
    def _grid(self) -> Real:
        sent = self.sounding
        cells = 2 * sent.latest * sent.length * sent.comb * sent.subcarrier_spacing
        return np.linspace(-sent.latest, sent.latest, 1 + int(np.ceil(POINTS_A_CELL * cells)))

    @cached_property
    def _atoms(self) -> Complex:
        """What a user of each timing leaves on the tones of a symbol, (length, user * grid)."""
        sent = self.sounding
        late = np.exp(-2j * np.pi * sent.subcarrier_spacing * sent.centred * self._grid[:, None])
        return (sent.sequences[:, None] * late).reshape(-1, sent.length).T

    @cached_property
    def _spans(self) -> Complex:
        """Orthonormal columns that span what all users leave with one timing, (length, grid, user)."""
        spans = [np.linalg.qr(self._late(np.full(self.sounding.users, late)))[0] for late in self._grid]
        return np.ascontiguousarray(np.stack(spans, axis=1))


def noise_of_samples(
    shape: tuple[int, ...], noise_var: NDArray[Any], rng: np.random.Generator
) -> NDArray[np.complex64]:
    """Return white circular Gaussian noise.

    shape: (..., sample)    noise_var: (...) variance per sample of every chain [W]
    """
    noise = rng.standard_normal((*shape[:-1], 2 * shape[-1]), np.float32).view(np.complex64)
    noise *= np.sqrt(noise_var / 2).astype(np.float32)[..., None]
    return noise


def noise_beside(noise: NDArray[Any], waveforms: NDArray[Any]) -> NDArray[Any]:
    """Return noise less its part along some waveforms, for one that is known to take the place.

    White noise of variance s^2 has along orthogonal waveforms of energy E a part of variance s^2 / E a waveform,
    independent of the rest: with such a part put there the whole is white again.

    noise: (..., sample)    waveforms: (user, sample)    returns (..., sample)
    """
    across = np.conj(waveforms.T) @ np.linalg.inv(waveforms @ np.conj(waveforms.T)).astype(waveforms.dtype)
    return noise - (noise @ across) @ waveforms


def _inverse(columns: Complex) -> Complex:
    """Return A^+, (user, rows)."""
    gram = columns.conj().T @ columns
    inverse: Any = np.linalg.solve(gram + LOADING * len(columns) * np.eye(len(gram)), columns.conj().T)
    return inverse


def _solve(matrix: Real, right: Real) -> Real:
    """Return the solution for a matrix of whatever units; what says nothing moves nothing."""
    scale = np.sqrt(np.diagonal(matrix))
    scale = np.where(scale > 0, scale, 1.0)
    unit = matrix / np.outer(scale, scale) + LOADING * np.eye(len(matrix))
    return np.linalg.solve(unit, right / scale) / scale
