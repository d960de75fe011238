"""Sounding reference signals: truth is srsRAN's generator (vectors/make_srs.py), the standard's formulas, DFTs."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.srs import GROUPS, SHIFTS, Sounding, base_sequence
from beamslot.errors import BadParam

VECTORS = np.load(Path(__file__).parents[1] / "vectors" / "srs_sequences.npz")


def phases(sequence: NDArray[np.complex128], unit: int) -> NDArray[np.int32]:
    """Return the phases of a sequence as whole multiples of pi / unit."""
    exact = np.angle(sequence) * unit / np.pi
    np.testing.assert_allclose(exact, np.round(exact), atol=1e-8)
    np.testing.assert_allclose(np.abs(sequence), 1, atol=1e-12)
    return (np.round(exact).astype(np.int64) % (2 * unit)).astype("<i4")


def test_every_base_sequence_is_that_of_an_independent_generator() -> None:
    """All lengths that resource blocks and combs allow but 30, all groups and numbers: 7,800 sequences."""
    checked = 0
    for (length, number, unit), digests in zip(VECTORS["which"].tolist(), VECTORS["digest"], strict=True):
        for group in range(GROUPS):
            made = phases(base_sequence(length, group, number), unit)
            digest = int.from_bytes(hashlib.sha256(made.tobytes()).digest()[:4], "little")
            assert digest == digests[group], (length, group, number)
            checked += 1
    lengths = {12 * blocks // comb for comb in SHIFTS for blocks in range(4, 273, 4)} - {30}
    assert checked == sum(GROUPS * (2 if length >= 72 else 1) for length in lengths)


@pytest.mark.parametrize("length", [6, 12, 18, 24])
def test_the_tables_are_those_of_an_independent_generator(length: int) -> None:
    made = [phases(base_sequence(length, group), 4) for group in range(GROUPS)]
    np.testing.assert_array_equal(made, VECTORS[f"phase_{length}"])
    assert set(np.unique(made)) == {1, 3, 5, 7}


def test_cyclic_shifts_are_those_of_an_independent_generator() -> None:
    made = [
        Sounding(comb=comb, resource_blocks=8, sequence_id=37, cyclic_shift=shift).sequences[0]
        for comb, most in SHIFTS.items()
        for shift in range(most)
    ]
    np.testing.assert_allclose(np.concatenate(made), VECTORS["shifted"], atol=1e-9)


@pytest.mark.parametrize("group", [0, 13, 29])
def test_thirty_tones_have_their_own_formula(group: int) -> None:
    n = np.arange(30)
    expected = np.exp(-1j * np.pi * (group + 1) * (n + 1) * (n + 2) / 31)
    np.testing.assert_allclose(base_sequence(30, group), expected, atol=1e-11)


def test_zadoff_chu_sequences_are_flat_either_way() -> None:
    """The first N_ZC entries are a Zadoff-Chu sequence: no correlation with any of its own shifts but 0."""
    for number in (0, 1):
        sequence = base_sequence(96, 11, number)[:89]
        spectrum = np.abs(np.fft.fft(sequence)) ** 2
        np.testing.assert_allclose(spectrum, 89, rtol=1e-9)


def test_sequences_that_do_not_exist_are_refused_together() -> None:
    with pytest.raises(BadParam) as caught:
        base_sequence(27, 30, 1)
    assert str(caught.value).splitlines() == [
        "srs.length is 27, wanted a positive multiple of 6",
        "srs.group is 30, wanted 0 .. 29",
        "srs.number is 1, wanted 0, or 1 from 72 tones on",
    ]


def test_users_have_shifts_as_far_apart_as_they_go() -> None:
    assert Sounding(users=8).shifts.tolist() == list(range(8))
    assert Sounding(users=4, cyclic_shift=3).shifts.tolist() == [3, 5, 7, 1]
    assert Sounding(users=3).shifts.tolist() == [0, 2, 5]
    assert Sounding(users=12, comb=4).shifts.tolist() == list(range(12))
    tone = 1 / 30e3
    assert Sounding(users=8).spacing == pytest.approx(tone / 2 / 8)
    assert Sounding(users=3).spacing == pytest.approx(tone / 2 * 2 / 8)
    assert Sounding().spacing == pytest.approx(tone / 2)
    assert Sounding().latest == pytest.approx(4.5 / 3.84e6)
    assert Sounding(users=8, subcarrier_spacing=15e3, fft_size=256).latest == pytest.approx(tone / 16)


@pytest.mark.parametrize("given", [{}, {"comb": 4, "comb_offset": 3, "resource_blocks": 12, "symbols": 4}, {"comb": 8}])
def test_a_waveform_is_an_inverse_dft_with_a_prefix(given: dict[str, Any]) -> None:
    sent = Sounding(users=2, **given)
    grid = np.zeros((2, sent.size), complex)
    for tone, subcarrier in enumerate(sent.tones):
        grid[:, subcarrier % sent.size] = sent.sequences[:, tone]
    body = np.fft.ifft(grid, axis=-1) * sent.size / np.sqrt(sent.length)
    symbol = np.concatenate([body[:, -sent.prefix :], body], axis=-1)
    made = sent.waveforms(np.zeros(2), np.zeros(2))
    np.testing.assert_allclose(made, np.tile(symbol, sent.symbols), atol=1e-9)
    assert np.mean(np.abs(body) ** 2) == pytest.approx(1)
    assert made.shape[-1] == sent.samples == sent.symbols * round(sent.rate * sent.symbol_period)


def test_a_delay_of_whole_samples_is_a_shift_and_a_phase_at_the_mean_tone() -> None:
    sent, late = Sounding(comb_offset=1), 3
    plain = sent.waveforms(np.zeros(1), np.zeros(1))[0]
    made = sent.waveforms(np.array([late / sent.rate]), np.zeros(1))[0]
    mean = 2 * np.pi * sent.tones.mean() * late / sent.size
    np.testing.assert_allclose(made[late:], plain[:-late] * np.exp(1j * mean), atol=1e-9)
    assert not made[:late].any()


def test_a_carrier_offset_turns_nothing_in_the_middle() -> None:
    sent = Sounding()
    plain, made = (sent.waveforms(np.zeros(1), np.array([f]))[0] for f in (0.0, 4e3))
    turned = np.angle(made / plain)
    np.testing.assert_allclose(turned, 2 * np.pi * 4e3 * (np.arange(274) - 137) / 3.84e6, atol=1e-9)


def test_what_was_sent_travels_as_plain_values() -> None:
    sent = Sounding(users=3, comb=4, sequence_id=77)
    assert Sounding.of_notes(sent.as_notes()) == sent
    for notes, problem in (
        (sent.as_notes() | {"users": 1.5}, "srs.users is 1.5, wanted a whole number"),
        (sent.as_notes() | {"users": True}, "srs.users is True, wanted a whole number"),
        ({"comb": 2}, "srs is ['comb'], wanted notes called"),
        ("srs", "srs is [], wanted notes called"),
    ):
        with pytest.raises(BadParam) as caught:
            Sounding.of_notes(notes)
        assert problem in str(caught.value)


def test_soundings_that_cannot_be_are_refused_with_all_that_is_wrong() -> None:
    with pytest.raises(BadParam) as caught:
        Sounding(users=9, comb_offset=2, symbols=3, resource_blocks=6, cyclic_shift=8, fft_size=64)
    assert str(caught.value).splitlines() == [
        "srs.users is 9, wanted 1 .. 8, the cyclic shifts of comb 2",
        "srs.resource_blocks is 6, wanted a multiple of 4 up to 272",
        "srs.comb_offset is 2, wanted 0 .. 1",
        "srs.symbols is 3, wanted 1, 2 or 4",
        "srs.cyclic_shift is 8, wanted 0 .. 7",
        "srs.fft_size is 64, wanted 0, or a multiple of 128 and at least 72",
    ]
    with pytest.raises(BadParam, match=r"srs\.comb is 3, wanted 2, 4 or 8"):
        Sounding(comb=3)
