"""What radio hardware does to samples, as functions of arrays, each with the closed form that it obeys.

| symbol | name | meaning |
|---|---|---|
| b | bits | resolution of a converter, per real dimension |
| Gamma | backoff_db | full scale of a converter over the rms of a real dimension |
| K_1, K_2 | imbalance | gains of a signal and of its image, y = K_1 x + K_2 x* |
| beta | linewidth | full width at half maximum of an oscillator's line [Hz] |
| delta | ppm | frequency error of the reference, in parts per million |
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamslot.dsp.combine import combine
from beamslot.dsp.geometry import steering
from beamslot.frame import Geometry, Operator


def quantise(samples: NDArray[Any], bits: int, full_scale: ArrayLike) -> NDArray[np.complex64]:
    """Return samples as a pair of uniform mid-rise converters gives them, I and Q apart, clipped at full scale.

    Q(x) = Delta (floor(x / Delta) + 1/2), Delta = 2 full_scale / 2^bits, with 2^bits levels, the outermost at
    +-(full_scale - Delta / 2). One bit keeps the signs. A full scale of zero gives zeros.

    samples: (...) complex [sqrt(W)]    bits: at least 1
    full_scale: largest value of a real dimension [sqrt(W)], broadcast to the samples
    returns (...) complex64 [sqrt(W)]
    source: Oppenheim and Schafer, Discrete-Time Signal Processing, 3rd ed., sec. 4.8.2
    """
    step = np.broadcast_to(np.asarray(full_scale, np.float64), samples.shape) * 2.0 ** (1 - bits)
    safe = np.where(step > 0, step, 1.0)
    parts = np.stack([np.real(samples), np.imag(samples)]).astype(np.float64) / safe
    levels = np.floor(parts).clip(-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
    made = (levels + 0.5) * step
    return (made[0] + 1j * made[1]).astype(np.complex64)


def rms(samples: NDArray[Any]) -> NDArray[np.float64]:
    """Return the rms of a real dimension of each slot, over all that it has.

    samples: (slot, ...) complex    returns (slot,) float64, of the same unit
    """
    flat = np.abs(samples.reshape(len(samples), -1).astype(np.complex128))
    return np.sqrt((flat**2).mean(1) / 2)


def quantisation_snr_db(bits: int, backoff_db: float) -> float:
    """Return the signal-to-noise ratio of a converter that does not clip, 6.02 b + 4.77 - Gamma [dB].

    With noise of variance Delta^2 / 12, Delta = 2 full_scale / 2^b: SNR = 3 4^b sigma^2 / full_scale^2. A sine at full
    scale has Gamma = 3.01 dB, hence the well-known 6.02 b + 1.76. It holds from some 4 bits on where the signal stays
    below full scale (Gaussian: Gamma above 4 sigma, 12 dB).

    source: Oppenheim and Schafer, Discrete-Time Signal Processing, 3rd ed., sec. 4.8.3
    """
    return 20 * bits * math.log10(2) + 10 * math.log10(3) - backoff_db


def imbalance(gain_db: float, phase: float) -> tuple[complex, complex]:
    """Return (K_1, K_2) of a receiver whose Q branch has gain g = 10^(gain_db / 20) and is `phase` off quadrature.

    K_1 = (1 + g e^(-j phi)) / 2, K_2 = (1 - g e^(j phi)) / 2, y = K_1 x + K_2 x*

    phase: [rad]
    source: Valkama, Renfors and Koivunen, Advanced methods for I/Q imbalance compensation in communication receivers,
        IEEE Trans. Signal Process. 49 (2001)
    """
    g = 10 ** (gain_db / 20)
    turn = complex(math.cos(phase), math.sin(phase))
    return (1 + g * turn.conjugate()) / 2, (1 - g * turn) / 2


def image_rejection_db(gain_db: float, phase: float) -> float:
    """Return |K_1|^2 / |K_2|^2 = (1 + 2 g cos phi + g^2) / (1 - 2 g cos phi + g^2) [dB], infinite without imbalance.

    source: as `imbalance`
    """
    wanted, image = (abs(k) ** 2 for k in imbalance(gain_db, phase))
    return 10 * math.log10(wanted / image) if image > 0 else math.inf


def with_image(samples: NDArray[Any], gain_db: float, phase: float) -> NDArray[np.complex64]:
    """Return y = K_1 x + K_2 x*, the image falling on the sample itself as it does for a pilot at the carrier.

    samples: (...) complex    returns (...) complex64, of the same unit    source: as `imbalance`
    """
    wanted, image = imbalance(gain_db, phase)
    return (wanted * samples + image * samples.conj()).astype(np.complex64)


def wiener_std(linewidth: float, seconds: float) -> float:
    """Return the rms of what the phase of a free oscillator changes in some time, sqrt(2 pi beta t) [rad].

    linewidth: beta, of its Lorentzian line [Hz]
    source: Demir, Mehrotra and Roychowdhury, Phase noise in oscillators, IEEE Trans. Circuits Syst. I 47 (2000)
    """
    return math.sqrt(2 * math.pi * linewidth * seconds)


def clock_phase(seconds: ArrayLike, carrier: float, ppm: float, ppm_per_s: float = 0.0) -> NDArray[np.float64]:
    """Return how far the carrier has run ahead by an error of its reference, in [0, 2 pi) [rad].

    phi(t) = 2 pi f_c (delta t + delta' t^2 / 2): both a frequency offset f_c delta, and a slot clock that is late by
    delta t, of which a narrow band shows the phase alone.

    seconds: t    carrier: f_c [Hz]    ppm, ppm_per_s: delta and its rate delta', in 1e-6 and 1e-6 / s
    """
    t = np.asarray(seconds, np.float64)
    turns = carrier * 1e-6 * (ppm * t + ppm_per_s * t**2 / 2)
    return 2 * np.pi * (turns - np.floor(turns))


def rotated(samples: NDArray[Any], phase: NDArray[Any]) -> NDArray[np.complex64]:
    """Return samples turned by a phase, x e^(j phi).

    samples: (...) complex    phase: broadcast to them [rad]    returns (...) complex64, of the same unit
    """
    return (samples * np.exp(1j * np.asarray(phase, np.float64))).astype(np.complex64)


def seen_from(direction: tuple[float, float], geometry: Geometry, operator: Operator | None) -> NDArray[np.complex128]:
    """Return what a plane wave from (u, v) makes behind the operator, or at the antennas, scaled to mean power one.

    returns (y, chain), without an operator (y, z), complex128; zeros where the beams see nothing of it
    source: paper 004, eqs. (2), (3)
    """
    u, v = direction
    columns = steering(geometry.n_y, u, geometry.spacing_y)
    field = columns[:, None] * steering(geometry.n_z, v, geometry.spacing_z)
    seen: NDArray[Any] = field if operator is None else combine(field, operator.weights)
    power = float((np.abs(seen) ** 2).mean())
    return np.asarray(seen / math.sqrt(power) if power > 0 else seen, np.complex128)


def stuck(weights: NDArray[Any], which: NDArray[np.bool_], phase: ArrayLike) -> NDArray[np.complex64]:
    """Return analog weights of which some phase shifters stand at a phase of their own, |w| e^(j psi).

    With phases psi that are uniform and a share p of stuck shifters, what a chain sees of a white field is off by 2 p
    of its power: E |e^(j psi) - e^(j arg w)|^2 = 2.

    weights: (y, chain, m) complex    which: (y, chain, m)    phase: psi, broadcast to them [rad]
    returns (y, chain, m) complex64
    """
    return np.where(which, np.abs(weights) * np.exp(1j * np.asarray(phase)), weights).astype(np.complex64)


def white(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.complex64]:
    """Return circular complex Gaussian samples of variance one."""
    pairs = rng.standard_normal((*shape, 2)) * math.sqrt(0.5)
    return (pairs[..., 0] + 1j * pairs[..., 1]).astype(np.complex64)
