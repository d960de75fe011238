"""From samples to pilots, block by block: truth is the pilots that went in, and the gains that chains were given."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_scene import run_on_scene, scene
from numpy.typing import NDArray

from beamslot.beamformers.calibration import Calibration
from beamslot.beamformers.combiner import Combiner
from beamslot.beamformers.srs_correlator import SrsCorrelator
from beamslot.dsp.chain_calibration import Calibrated, load_calibration, save_calibration
from beamslot.dsp.metrics import nmse
from beamslot.dsp.srs import Sounding
from beamslot.errors import BadParam, PortMismatch, ShapeError
from beamslot.estimators.omp import OmpEstimator
from beamslot.estimators.vp_nomp import VpNompEstimator
from beamslot.frame import StreamInfo
from beamslot.runtime import Block
from beamslot.runtime.testing import Outcome, run_block
from beamslot.sources.iq_source import IqSource
from beamslot.sources.upa_source import UpaSource

OFF = {"timing_offset": 1e-6, "frequency_offset": 1e3}


def front_end(slots: int, seed: int = 11, **parameters: Any) -> tuple[Outcome, Outcome]:
    """Return source and combiner of the paper's array: 384 chains of 4608 antennas."""
    source = run_block(UpaSource(**parameters), slots=slots, burst=20, seed=seed, name="source")
    made = run_block(Combiner(), {"field": source["field"]}, infos=source.infos, burst=20, name="combiner")
    return source, made


def on_the_air(source: Outcome, combined: Outcome, **parameters: Any) -> Outcome:
    inputs = {"rf": combined["rf"], "truth": source["truth"]}
    infos = {"rf": combined.infos["rf"], "truth": source.infos["truth"]}
    return run_block(IqSource(**parameters), inputs, infos=infos, burst=20, name="iq_source")


@lru_cache
def both_ways(snr_db: float, users: int = 1, slots: int = 120) -> tuple[Outcome, Outcome, Outcome, Outcome]:
    source, combined = front_end(slots, snr_db=snr_db, users=users)
    sampled = on_the_air(source, combined, **OFF)
    despread = run_block(SrsCorrelator(), {"iq": sampled["iq"]}, infos=sampled.infos, burst=20, name="correlator")
    return source, combined, sampled, despread


def errors(estimator: Block, rf: NDArray[Any], info: StreamInfo, source: Outcome) -> NDArray[np.float64]:
    """Return the NMSE of every slot, mean over users."""
    made = run_block(estimator, {"rf": rf}, infos={"rf": info}, burst=20, name="estimator")
    return nmse(made["estimate"]["channel"], source["truth"]["channel"]).mean(axis=-1)


@pytest.mark.parametrize("estimator", [VpNompEstimator, OmpEstimator])
@pytest.mark.parametrize("snr_db", [-5, 5])
def test_estimates_through_iq_are_as_good_as_from_direct_pilots(estimator: type[Block], snr_db: float) -> None:
    """1 us late and 1 kHz off: within 0.3 dB for certain, at 95 %, over 120 draws."""
    source, combined, _, despread = both_ways(snr_db)
    direct = errors(estimator(), combined["rf"], combined.infos["rf"], source)
    through = errors(estimator(), despread["rf"], despread.infos["rf"], source)
    loss = np.mean(through) / np.mean(direct) - 1
    spread = np.std(through - (1 + loss) * direct) / np.sqrt(len(direct)) / np.mean(direct)
    assert 10 * np.log10(1 + loss + 1.96 * spread) < 0.3
    assert 10 * np.log10(max(1 + loss - 1.96 * spread, 0.5)) > -0.3


def test_despreading_gives_back_the_pilots_that_went_in_but_for_what_the_offsets_cost() -> None:
    """Two real parameters are learned from 384 chains: a 384th of the noise, and an eighth of that again in leaks."""
    _, combined, _, despread = both_ways(5)
    noise_var = 12 * 10**-0.5
    excess = np.mean(np.abs(despread["rf"] - combined["rf"]) ** 2) / noise_var
    assert 0.5 / 384 < excess < 1.5 / 384
    assert np.mean(despread["sync"]["noise_var"]) / noise_var == pytest.approx(1, abs=0.01)
    assert np.abs(despread["sync"]["timing"] - 1e-6).max() < 3e-8
    assert np.abs(despread["sync"]["frequency"] - 1e3).max() < 500


def test_eight_users_come_apart_on_cyclic_shifts() -> None:
    _, combined, _, despread = both_ways(5, users=8, slots=10)
    left = despread["rf"] - combined["rf"]
    noise_var = 12 * 10**-0.5
    for user in range(8):
        others = np.delete(combined["rf"], user, axis=1)
        leak = np.einsum("syc,suyc->su", left[:, user].conj(), others) / np.sum(np.abs(others) ** 2, axis=(2, 3))
        assert 10 * np.log10(np.max(np.abs(leak) ** 2)) < -25
    assert np.mean(np.abs(left) ** 2) / noise_var < 1.5 / 384 * 1.2


def test_the_noise_in_the_samples_is_that_of_the_pilots_times_the_samples_they_are_a_mean_of() -> None:
    source, combined = front_end(3, snr_db=0.0)
    field = {"field": source["truth"]["channel"]}
    clean = run_block(Combiner(), field, infos=source.infos, name="combiner")
    noisy, quiet = on_the_air(source, combined)["iq"], on_the_air(source, clean)["iq"]
    assert noisy.shape == (3, 64, 6, 274)
    # the generator is the same in both: what differs is the pilots' own noise, on a waveform of power one
    assert np.mean(np.abs((noisy - quiet)[..., 9:137]) ** 2) == pytest.approx(12, rel=0.05)
    waveform = Sounding().waveforms(np.zeros(1), np.zeros(1))[0]
    noise = noisy - clean["rf"][:, 0, ..., None] * waveform
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(12 * 2 * 128, rel=0.01)


def test_operator_and_what_was_sent_travel_with_the_samples() -> None:
    source, combined = front_end(1, users=2)
    sampled = on_the_air(source, combined, **OFF, timing_spread=1e-8, frequency_spread=50.0, sequence_id=9)
    info, made = sampled.infos["iq"], combined.infos["rf"]
    assert info.operator == made.operator
    assert info.geometry == made.geometry
    assert Sounding.of_notes(info.notes["srs"]) == Sounding(users=2, sequence_id=9)
    timing, frequency = (np.array(info.notes["offsets"][name]) for name in ("timing", "frequency"))
    assert np.all(np.abs(timing - 1e-6) <= 1e-8)
    assert np.all(np.abs(frequency - 1e3) <= 50)
    assert timing[0] != timing[1]
    despread = run_block(SrsCorrelator(), {"iq": sampled["iq"]}, infos=sampled.infos, name="correlator")
    assert despread.infos["rf"].operator == made.operator
    assert dict(despread.infos["rf"].axes) == {"user": 2, "y": 64, "chain": 6}
    np.testing.assert_allclose(despread["sync"]["timing"][0], timing, atol=3e-8)


def test_samples_of_no_known_origin_are_read_by_the_parameters() -> None:
    sent = Sounding(users=3, comb=4, resource_blocks=8, symbols=4, sequence_id=12, cyclic_shift=2)
    rng = np.random.default_rng(0)
    y = (rng.standard_normal((2, 6, 4, 3)) + 1j * rng.standard_normal((2, 6, 4, 3))).astype(np.complex64)
    waveforms = sent.waveforms(np.array([2e-7, -1e-7, 0.0]), np.array([500.0, 700.0, 600.0])).astype(np.complex64)
    found = run_block(SrsCorrelator(**sent.as_notes()), {"iq": y @ waveforms}, name="correlator")
    np.testing.assert_allclose(found["rf"], np.moveaxis(y, -1, 1), atol=1e-3)
    np.testing.assert_allclose(found["sync"]["frequency"], [[500, 700, 600]] * 2, atol=1)


def test_parameters_that_contradict_the_stream_and_samples_of_another_length_are_refused() -> None:
    inputs, infos = scene().feed(SrsCorrelator)
    with pytest.raises(BadParam) as caught:
        run_block(SrsCorrelator(comb=4, users=2, symbols=4), inputs, infos=infos, name="correlator")
    assert str(caught.value).splitlines() == [
        "correlator.comb: 4; the stream says that 2 was sent",
        "correlator.symbols: 4; the stream says that 2 was sent",
    ]
    with pytest.raises(ShapeError) as wrong:
        run_block(SrsCorrelator(), {"iq": np.zeros((1, 2, 2, 270), np.complex64)}, name="correlator")
    assert str(wrong.value) == "correlator.iq: comes with sample = 270; wanted sample = 274, 2 symbols of 9 + 128"
    spoilt = {"iq": infos["iq"].replace(notes={"srs": {"comb": 2}})}
    with pytest.raises(BadParam, match="srs is"):
        run_block(SrsCorrelator(), inputs, infos=spoilt, name="correlator")


def test_offsets_beyond_what_a_correlator_can_find_are_refused_together() -> None:
    inputs, infos = scene().feed(IqSource)
    with pytest.raises(BadParam) as caught:
        run_block(IqSource(timing_offset=2e-6, frequency_offset=-2e4), inputs, infos=infos, name="air")
    first, second = str(caught.value).splitlines()
    assert first.startswith("air.timing_offset: a user is 2e-06 s off; wanted at most 1.17e-06 s either way")
    assert second.startswith("air.frequency_offset: a user is 2e+04 Hz off; wanted at most 1.4e+04 Hz either way")
    with pytest.raises(PortMismatch, match=r"air\.rf: the stream carries no measurement operator"):
        run_block(IqSource(), inputs, infos=infos | {"rf": infos["rf"].replace(operator=None)}, name="air")


def test_a_slot_that_is_not_finite_spoils_no_other() -> None:
    iq = np.array(scene().sampled["iq"])
    iq[1, 0, 0, 100] = np.nan
    found = run_block(SrsCorrelator(), {"iq": iq}, infos=scene().sampled.infos, burst=4, name="correlator")
    whole = run_on_scene("srs_correlator", burst=4)[1]
    assert np.isnan(found["rf"][1]).all()
    np.testing.assert_array_equal(np.delete(found["rf"], 1, 0), np.delete(whole["rf"], 1, 0))


V = -0.25
"""A direction that lights the chains of all groups: between the beams, away from their nulls."""


@lru_cache
def chains() -> NDArray[np.complex64]:
    """Return gains of 384 chains, 30 degrees and 1 dB, without a common factor."""
    rng = np.random.default_rng(5)
    gain = 10 ** (rng.normal(0, 1, (64, 6)) / 20) * np.exp(1j * rng.normal(0, np.deg2rad(30), (64, 6)))
    return (gain / np.sqrt(np.mean(np.abs(gain) ** 2)) * np.exp(-1j * np.angle(gain.mean()))).astype(np.complex64)


def reference(slots: int, snr_db: float = 20.0) -> Outcome:
    """Return pilots of a sender at (0, V), without the gains of the chains."""
    return front_end(slots, seed=3, paths=1, azimuth=0.0, interval=(V, V), snr_db=snr_db)[1]


def test_a_calibration_from_a_known_direction_gives_the_nmse_back(tmp_path: Path) -> None:
    file = str(tmp_path / "chains.json")
    seen = reference(100)
    measuring = Calibration(measure=100, direction=(0.0, V), file=file)
    measured = run_block(measuring, {"rf": seen["rf"] * chains()}, infos=seen.infos, burst=7, name="calibration")
    read = load_calibration(Path(file))
    assert (read.direction, read.slots) == ((0.0, V), 100)
    error = np.sqrt(np.mean(np.abs(read.factors / chains() - 1) ** 2))
    assert error < 0.025
    assert measured["calibration"]["gain"].shape == (100, 64, 6)
    source, combined = front_end(80, snr_db=5)
    info = combined.infos["rf"]
    spoilt = combined["rf"] * chains()
    made = run_block(Calibration(file=file), {"rf": spoilt}, infos=combined.infos, burst=20, name="calibration")
    ideal, raw, calibrated = (
        10 * np.log10(np.mean(errors(VpNompEstimator(), rf, info, source)))
        for rf in (combined["rf"], spoilt, made["calibrated"])
    )
    assert raw > ideal + 5
    assert calibrated < ideal + 0.2
    notes = made.infos["calibrated"].notes["calibration"]
    np.testing.assert_allclose(np.array(notes["gain"]), np.abs(read.factors))
    assert made.infos["calibrated"].operator == info.operator


def test_slots_pass_as_they_are_until_the_gains_are_known_then_corrected() -> None:
    seen = reference(12)
    given = {"rf": seen["rf"] * chains()}
    whole = run_block(Calibration(measure=8, direction=(0.0, V)), given, infos=seen.infos, burst=12, name="calibration")
    np.testing.assert_array_equal(whole["calibrated"][:8], given["rf"][:8])
    assert np.mean(np.abs(whole["calibrated"][8:] / seen["rf"][8:] - 1) ** 2) < np.mean(np.abs(chains() - 1) ** 2) / 4
    known = whole["calibration"]
    assert set(np.unique(known["gain"][:8])) == {1}
    np.testing.assert_allclose(known["gain"][8] * np.exp(1j * known["phase"][8]), chains(), atol=0.5)
    assert known["deviation"][8].min() > 0
    for burst in (1, 5):
        pieces = run_block(
            Calibration(measure=8, direction=(0.0, V)), given, infos=seen.infos, burst=burst, name="calibration"
        )
        np.testing.assert_array_equal(pieces["calibrated"], whole["calibrated"])


def test_slots_that_are_not_finite_are_not_measured_from() -> None:
    seen = np.array(reference(12)["rf"]) * chains()
    seen[[2, 5]] = [[[[np.nan]]], [[[np.inf]]]]
    block = Calibration(measure=8, direction=(0.0, V))
    made = run_block(block, {"rf": seen}, infos=reference(12).infos, burst=12, name="calibration")
    known = made["calibration"]["deviation"]
    assert not known[9].any()
    assert known[10].all()
    assert np.isfinite(made["calibrated"][10:]).all()


def test_chains_that_see_too_little_of_the_sender_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """At a null of the outer beams: v - v_g = 1/6, twice."""
    seen = front_end(6, seed=3, paths=1, azimuth=0.0, interval=(-0.4375 + 1 / 6,) * 2, snr_db=-10.0)[1]
    block = Calibration(measure=6, direction=(0.0, -0.4375 + 1 / 6))
    run_block(block, {"rf": seen["rf"]}, infos=seen.infos, name="calibration")
    assert (
        "of 384 chains see too little of a sender at u = 0, v = -0.270833; their gains stay one"
        in capsys.readouterr().out
    )


def test_offsets_may_change_while_a_graph_runs() -> None:
    live = {name for name, given in IqSource.model_json_schema()["properties"].items() if given.get("live")}
    assert live == {"timing_offset", "timing_spread", "frequency_offset", "frequency_spread"}
    inputs, infos = scene().feed(IqSource)
    block = IqSource()
    first = run_block(block, inputs, infos=infos, name="air")
    block.timing_offset = 5e-7
    second = run_block(block, inputs, infos=infos, name="air")
    assert first.infos["iq"].notes["offsets"]["timing"] == [0, 0]
    assert second.infos["iq"].notes["offsets"]["timing"] == [5e-7, 5e-7]
    assert not np.array_equal(first["iq"], second["iq"])


def test_pilots_that_are_not_finite_spoil_their_slot_alone() -> None:
    inputs, infos = scene().feed(IqSource)
    rf = np.array(inputs["rf"])
    rf[1, 0, 0, 0] = np.inf
    made = run_block(IqSource(), inputs | {"rf": rf}, infos=infos, burst=3, name="air")["iq"]
    assert not np.isfinite(made[1]).all()
    assert np.isfinite(np.delete(made, 1, axis=0)).all()


def test_calibrations_that_cannot_be_are_refused(tmp_path: Path) -> None:
    inputs, infos = scene().feed(Calibration)
    save_calibration(tmp_path / "chains.json", Calibrated.of(np.ones((3, 2))))
    for given, problem in (
        ({}, "calibration.file: there is none, and measure is 0; wanted one of the two"),
        ({"measure": 1}, "calibration.measure: 1 slot does not tell noise from gains; wanted at least 2"),
        ({"measure": 2, "user": 2}, "calibration.user: 2; wanted 0 .. 1"),
        ({"measure": 2, "direction": (0.8, 0.8)}, "calibration.direction: (0.8, 0.8) is no direction"),
        ({"file": str(tmp_path / "no")}, f"calibration.file: {tmp_path / 'no'}: cannot be read: no such file"),
        ({"file": str(tmp_path / "chains.json")}, "has chains (3, 2); wanted (12, 4)"),
    ):
        with pytest.raises(BadParam) as caught:
            run_block(Calibration(**given), inputs, infos=infos, name="calibration")
        assert problem in str(caught.value)


def test_both_blocks_declare_the_same_of_what_is_sent() -> None:
    shared = Sounding.__dataclass_fields__.keys() - {"users"}
    assert shared <= IqSource.model_fields.keys() & SrsCorrelator.model_fields.keys()
    for name in shared:
        one, other = IqSource.model_fields[name], SrsCorrelator.model_fields[name]
        assert (one.default, one.description, one.metadata) == (other.default, other.description, other.metadata)
        assert one.default == Sounding.__dataclass_fields__[name].default
