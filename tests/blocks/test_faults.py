"""Faults: each does what it says, measured on the stream, says so in tags, and no estimator gives way to any."""

from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beamslot_scene import PARAMETERS, SLOTS, scene

from beamslot.beamformers.combiner import Combiner
from beamslot.catalogue import CATALOGUE, find
from beamslot.dsp.combine import combine
from beamslot.dsp.impairments import image_rejection_db, quantisation_snr_db, seen_from, white, wiener_std
from beamslot.errors import BadParam, PortMismatch
from beamslot.faults.fault import MOST_RANGES, struck_tags
from beamslot.faults.stuck_phase_shifter import StuckPhaseShifter
from beamslot.frame import Array, Frame, StreamInfo
from beamslot.ports import RF_AXES
from beamslot.runtime import RunContext
from beamslot.runtime.testing import Outcome, run_block

USERS, COLUMNS, CHAINS, LONG = 2, 8, 4, 400
INFO = StreamInfo(
    {"rf": Array.of(RF_AXES, np.complex64, "sqrt(W)")}, {"user": USERS, "y": COLUMNS, "chain": CHAINS}, carrier=28e9
)


@lru_cache(maxsize=1)
def clean() -> np.ndarray:
    samples = white((LONG, USERS, COLUMNS, CHAINS), np.random.default_rng(7)) * np.float32(3)
    samples.flags.writeable = False
    return samples


def run(kind: str, burst: int = 40, seed: int = 1, info: StreamInfo = INFO, **parameters: Any) -> Outcome:
    block = find(kind)(**parameters)
    return run_block(block, {"stream": {"rf": clean()}}, infos={"stream": info}, burst=burst, seed=seed, name=kind)


def spoilt(kind: str, **parameters: Any) -> np.ndarray:
    return run(kind, **parameters)["faulty"]["rf"]


def struck(outcome: Outcome, kind: str) -> list[int]:
    """Return the slots that the tags of the frames name."""
    tags = [item.tags for _, item in outcome.items if isinstance(item, Frame)]
    ranges = [tuple(pair) for tag in tags for pair in tag.get("faults", {}).get(kind, [])]
    return [slot for first, end in ranges for slot in range(first, end)]


def changed(outcome: Outcome) -> list[int]:
    return np.flatnonzero((outcome["faulty"]["rf"] != clean()).any((1, 2, 3))).tolist()


SPOILING: dict[str, dict[str, Any]] = {
    "clock_drift": {"ppm": 0.0123},
    "dead_chain": {"share": 0.5},
    "interference": {"duty": 1.0},
    "iq_imbalance": {},
    "phase_noise": {},
    "quantiser": {"bits": 4},
}


@pytest.mark.parametrize("kind", SPOILING)
def test_a_fault_lasts_from_its_first_slot_to_its_last_and_the_frames_say_so(kind: str) -> None:
    made = run(kind, begin=53, until=130, **SPOILING[kind])
    assert struck(made, kind) == list(range(53, 130))
    begins = 54 if kind in {"clock_drift", "phase_noise"} else 53  # their phase starts at zero
    assert changed(made) == list(range(begins, 130))
    assert struck(run(kind, begin=53, **SPOILING[kind]), kind) == list(range(53, LONG))


@pytest.mark.parametrize("kind", SPOILING)
def test_a_fault_is_of_its_seed(kind: str) -> None:
    parameters = SPOILING[kind]
    one, same, other = (spoilt(kind, seed=seed, **parameters) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.array_equal(one, other) == (kind in {"clock_drift", "iq_imbalance", "quantiser"})


def test_a_fault_that_is_turned_down_to_nothing_leaves_the_slots_alone() -> None:
    for kind, parameters in (
        ("dead_chain", {"share": 0.0}),
        ("interference", {"duty": 0.0}),
        ("lost_slots", {"share": 0.0}),
    ):
        made = run(kind, **parameters)
        np.testing.assert_array_equal(made["faulty"]["rf"], clean())
        assert struck(made, kind) == []


def test_dead_chains_give_nothing_or_their_own_noise() -> None:
    silent = spoilt("dead_chain", chains=[0, 9], share=0.25)
    dead = ~silent.any((0, 1))
    assert dead.ravel()[[0, 9]].all()
    assert dead.mean() == pytest.approx(0.25 + 2 / 32, abs=0.15)
    np.testing.assert_array_equal(silent[..., ~dead], clean()[..., ~dead])
    noisy = spoilt("dead_chain", chains=[0, 9], share=0.25, noise_var=0.3)[..., dead]
    assert np.mean(np.abs(noisy) ** 2) == pytest.approx(0.3, rel=0.05)
    more = ~spoilt("dead_chain", share=0.6).any((0, 1))
    assert (more >= ~spoilt("dead_chain", share=0.25).any((0, 1))).all(), "a larger share has those of a smaller"


def test_a_chain_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadParam, match=r"dead_chain\.chains: there is no chain 32; wanted 0 to 31"):
        run("dead_chain", chains=[3, 32])


@pytest.mark.parametrize("bits", [4, 6, 10])
def test_a_converter_leaves_the_snr_of_its_bits(bits: int) -> None:
    error = spoilt("quantiser", bits=bits, backoff_db=13.0) - clean()
    snr = 10 * np.log10(np.mean(np.abs(clean()) ** 2) / np.mean(np.abs(error) ** 2))
    assert snr == pytest.approx(quantisation_snr_db(bits, 13.0), abs=0.2)


def test_a_fixed_full_scale_clips_what_is_louder() -> None:
    made = spoilt("quantiser", bits=8, full_scale=2.0)
    assert np.abs(made.real).max() == pytest.approx(2 * (1 - 2**-8))
    inside = np.abs(clean().real) < 2
    assert np.abs(made.real - clean().real)[inside].max() <= 2**-7 * 1.001


def test_one_bit_keeps_the_signs_alone() -> None:
    made = spoilt("quantiser", bits=1)
    np.testing.assert_array_equal(np.sign(made.real), np.where(clean().real >= 0, 1, -1))
    assert len(np.unique(np.abs(made.real))) == LONG  # one level a slot, that of the gain control


def test_an_image_is_as_strong_as_the_imbalance_says() -> None:
    made, x = spoilt("iq_imbalance", gain_db=0.8, phase=0.07).astype(complex), clean().astype(complex)
    basis = np.stack([x.ravel(), x.conj().ravel()], axis=1)
    k1, k2 = np.linalg.lstsq(basis, made.ravel(), rcond=None)[0]
    assert 20 * np.log10(abs(k1) / abs(k2)) == pytest.approx(image_rejection_db(0.8, 0.07), abs=0.001)


def phases(made: np.ndarray) -> np.ndarray:
    """Return by how much a slot, or a chain of it, was turned, (slot, y, chain)."""
    return np.angle(np.sum(made * clean().conj(), axis=1))


def test_a_shared_oscillator_turns_all_chains_alike_and_walks_as_its_line_is_wide() -> None:
    turned = phases(spoilt("phase_noise", linewidth=2.0))
    assert np.ptp(np.unwrap(turned, axis=0), axis=(1, 2)).max() < 1e-4
    walk = np.unwrap(turned[:, 0, 0])
    assert walk[0] == pytest.approx(0, abs=1e-6)
    assert np.diff(walk).std() == pytest.approx(wiener_std(2.0, 1e-3), rel=0.1)


def test_the_variance_of_a_walk_grows_with_time() -> None:
    walk = np.unwrap(phases(spoilt("phase_noise", linewidth=1.0, oscillators="chain")), axis=0)
    for slot in (50, 200, 399):
        spread = np.sqrt(np.mean(walk[slot] ** 2))
        assert spread == pytest.approx(wiener_std(1.0, slot * 1e-3), rel=0.35)  # 32 chains
    steps = walk[1:] - walk[:-1]
    assert abs(np.mean(steps[1:] * steps[:-1])) < 0.1 * np.mean(steps**2)


def test_jitter_has_its_rms_and_does_not_grow() -> None:
    turned = phases(spoilt("phase_noise", linewidth=0.0, jitter=0.2, oscillators="chain"))
    assert turned.std() == pytest.approx(0.2, rel=0.03)
    assert turned[:100].std() == pytest.approx(turned[-100:].std(), rel=0.1)


def test_a_walk_goes_on_through_slots_that_were_lost() -> None:
    whole = spoilt("phase_noise", linewidth=5.0)
    block = find("phase_noise")(linewidth=5.0)
    block.join_run(RunContext("phase_noise", 1))
    block.start(INFO)
    for slots in (range(10), range(70, 300), range(390, LONG)):
        made = block.process({"rf": clean()[slots.start : slots.stop]}, slots)
        np.testing.assert_allclose(made.outputs["rf"], whole[slots.start : slots.stop], rtol=1e-5)


def test_a_walk_goes_on_where_its_line_width_changes_and_begins_anew_with_another_run() -> None:
    block = find("phase_noise")(linewidth=5.0)
    block.join_run(RunContext("phase_noise", 1))

    def walk(slots: range) -> np.ndarray:
        made = block.process({"rf": clean()[slots.start : slots.stop]}, slots).outputs["rf"]
        return np.angle(np.sum(made * clean()[slots.start : slots.stop].conj(), axis=(1, 2, 3)))

    block.start(INFO)
    first = walk(range(50))
    block.linewidth = 0.0
    block.start(INFO)
    np.testing.assert_allclose(walk(range(50, 80)), walk(range(80, 81))[0], atol=1e-6)
    assert abs(walk(range(81, 82))[0]) > 0.01
    block.linewidth = 5.0
    block.start(INFO)
    np.testing.assert_array_equal(walk(range(50)), first)


def test_a_clock_is_off_by_so_many_ppm() -> None:
    turned = np.unwrap(phases(spoilt("clock_drift", ppm=0.01))[:, 0, 0])
    seconds = np.arange(LONG) * 1e-3
    ppm = np.polyfit(seconds, turned, 1)[0] / (2 * np.pi * 28e9) * 1e6
    assert ppm == pytest.approx(0.01, rel=1e-4)
    ageing = np.unwrap(phases(spoilt("clock_drift", ppm=0.0, ppm_per_s=0.02))[:, 0, 0])
    assert 2 * np.polyfit(seconds, ageing, 2)[0] / (2 * np.pi * 28e9) * 1e6 == pytest.approx(0.02, rel=1e-3)


def test_a_clock_needs_a_carrier() -> None:
    with pytest.raises(PortMismatch, match=r"clock_drift\.stream: the stream carries no carrier frequency"):
        run("clock_drift", info=INFO.replace(carrier=0.0))


def test_bursts_have_their_length_duty_and_power() -> None:
    made = run("interference", duty=0.3, length=5, inr_db=20.0, noise_var=0.5)
    hit = changed(made)
    assert hit == struck(made, "interference")
    assert all(slot - slot % 5 + k in hit for slot in hit for k in range(5))
    assert len(hit) / LONG == pytest.approx(0.3, abs=0.12)  # 80 bursts could be
    added = (made["faulty"]["rf"] - clean())[hit]
    inr = 10 * np.log10(np.mean(np.abs(added) ** 2) / 0.5)
    assert inr == pytest.approx(20, abs=0.15)
    correlation = np.mean(added[..., 0, 0] * added[..., 1, 1].conj())
    assert abs(correlation) < 0.2 * np.mean(np.abs(added) ** 2)


def test_interference_from_a_direction_is_a_wave_through_the_beams() -> None:
    source = scene().combined
    info, samples = source.infos["rf"], source["rf"]
    block = find("interference")(duty=1.0, inr_db=30.0, direction=(0.2, -0.3))
    made = run_block(block, {"stream": {"rf": samples}}, infos={"stream": info}, name="jam")["faulty"]["rf"]
    added = (made - samples).reshape(SLOTS * 2, -1)
    seen = seen_from((0.2, -0.3), info.geometry, info.operator).ravel()
    share = np.abs(added @ seen.conj()) ** 2 / (np.sum(np.abs(added) ** 2, 1) * np.sum(np.abs(seen) ** 2))
    np.testing.assert_allclose(share, 1, atol=1e-4)


def test_a_direction_needs_an_array() -> None:
    with pytest.raises(PortMismatch, match=r"interference\.stream: the stream carries no array geometry"):
        run("interference", direction=(0.0, 0.0))


def test_lost_slots_are_gaps_in_their_place() -> None:
    made = run("lost_slots", share=0.2, length=4, begin=100, until=300)
    gaps = made.gaps["faulty"]
    lost = [slot for gap in gaps for slot in range(gap.first, gap.end)]
    assert {gap.reason for gap in gaps} == {"lost by fault"}
    assert 100 <= min(lost) <= max(lost) < 300
    assert len(lost) / 200 == pytest.approx(0.2, abs=0.15)
    assert all(slot - slot % 4 + k in lost for slot in lost for k in range(4))
    kept = [slot for slot in range(LONG) if slot not in lost]
    np.testing.assert_array_equal(made["faulty"]["rf"], clean()[kept])
    ends = [(item.first, item.first + item.count) for _, item in made.items if hasattr(item, "count")]
    assert [first for first, _ in ends[1:]] == [end for _, end in ends[:-1]], "in order, without holes"


def test_lost_slots_are_the_same_in_any_pieces() -> None:
    def lost(burst: int) -> set[int]:
        return {s for gap in run("lost_slots", burst, share=0.3).gaps["faulty"] for s in range(gap.first, gap.end)}

    assert lost(1) == lost(7) == lost(LONG)
    assert len(lost(1)) / LONG == pytest.approx(0.3, abs=0.08)


def combined(**parameters: Any) -> Outcome:
    inputs, infos = scene().feed(Combiner)
    block = StuckPhaseShifter(**{**PARAMETERS["combiner"], **parameters})
    return run_block(block, inputs, infos=infos, name="combiner", burst=4)


def test_stuck_phase_shifters_change_what_is_measured_and_not_what_is_told() -> None:
    field, healthy = scene().source["field"], scene().combined
    made = combined(antennas=[(1, 2), (5, 0)], phase=0.4, begin=5)
    operator = made.infos["rf"].operator
    assert operator == healthy.infos["rf"].operator
    weights = operator.weights.reshape(12, 12).copy()
    for column, row in ((1, 2), (5, 0)):
        weights[column, row] = abs(weights[column, row]) * np.exp(0.4j)
    expected = combine(field, weights.reshape(operator.weights.shape))
    np.testing.assert_allclose(made["rf"][5:], expected[5:], atol=1e-5)
    np.testing.assert_array_equal(made["rf"][:5], healthy["rf"][:5])
    assert struck(made, "stuck_phase_shifter") == list(range(5, SLOTS))


def test_a_share_of_stuck_phase_shifters_costs_twice_its_power() -> None:
    block = StuckPhaseShifter(antennas_per_chain=8, groups=4, share=0.1)
    block.join_run(RunContext("combiner", 4))
    rng = np.random.default_rng(2)
    field = white((20, 1, 32, 64), rng)
    info = StreamInfo({"field": Array.of("slot user y z", np.complex64)}, {"user": 1, "y": 32, "z": 64})
    described = block.start(info)
    error = block.process(field, range(20)).outputs - combine(field, described.operator.weights)
    share = block.which.mean()
    assert share == pytest.approx(0.1, abs=0.02)
    relative = np.mean(np.abs(error) ** 2) / np.mean(np.abs(combine(field, described.operator.weights)) ** 2)
    assert relative == pytest.approx(2 * share, rel=0.1)


def test_an_antenna_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadParam, match=r"combiner\.antennas: there is no antenna \(12, 0\); wanted columns below 12"):
        combined(antennas=[(12, 0)])


def test_other_streams_are_refused_with_what_is_wanted() -> None:
    inputs, infos = {"stream": scene().source["truth"]}, {"stream": scene().source.infos["truth"]}
    with pytest.raises(
        PortMismatch, match=r"quantiser\.stream: channel .* comes; wanted one array \[slot user y chain"
    ):
        run_block(find("quantiser")(), inputs, infos=infos, name="quantiser")


def test_antennas_with_a_chain_each_can_have_faults_too() -> None:
    line = scene().line
    block = find("dead_chain")(chains=[3])
    made = run_block(block, {"stream": {"field": line["field"]}}, infos={"stream": line.infos["field"]}, name="dead")
    assert not made["faulty"]["field"][:, :, 3].any()
    np.testing.assert_array_equal(made["faulty"]["field"][:, :, :3], line["field"][:, :, :3])


def test_a_tag_lists_ranges_and_no_more_than_a_frame_can_carry() -> None:
    assert struck_tags("x", np.array([True, True, False, True]), range(10, 14)) == {
        "faults": {"x": [[10, 12], [13, 14]]}
    }
    many = struck_tags("x", np.arange(5000) % 2 == 0, range(5000))["faults"]["x"]
    assert len(many) == MOST_RANGES
    assert many[-1] == [2 * MOST_RANGES - 2, 4999]


EXTREMES: dict[str, tuple[str, dict[str, Any]]] = {
    "all chains dead": ("dead_chain", {"share": 1.0}),
    "all chains dead for a while": ("dead_chain", {"share": 1.0, "begin": 3, "until": 6}),
    "most chains dead": ("dead_chain", {"share": 0.9}),
    "one bit": ("quantiser", {"bits": 1}),
    "one bit, nearly silent": ("quantiser", {"bits": 1, "full_scale": 1e-12}),
    "one bit, deafening": ("quantiser", {"bits": 1, "full_scale": 1e12}),
    "a jammer": ("interference", {"duty": 1.0, "inr_db": 60.0, "direction": (0.3, -0.2)}),
    "noise 60 dB up": ("interference", {"duty": 1.0, "inr_db": 60.0}),
    "no Q branch": ("iq_imbalance", {"gain_db": -60.0}),
    "phases at random": ("phase_noise", {"linewidth": 1e6, "oscillators": "chain"}),
    "a clock far off": ("clock_drift", {"ppm": 50.0}),
}
ESTIMATORS = [block_id for block_id, target in CATALOGUE.items() if ".estimators." in target]
UNMEASURED = {"vae_adapter": {"loss", "candidate", "published", "original"}}
"""Arrays in which NaN says that nothing was measured in these slots."""


@cache
def at_worst(extreme: str, port: str) -> np.ndarray:
    kind, parameters = EXTREMES[extreme]
    clean = scene().combined if port == "rf" else scene().line
    block, inputs = find(kind)(**parameters), {"stream": {port: clean[port]}}
    return run_block(block, inputs, infos={"stream": clean.infos[port]}, name=kind, burst=4)["faulty"][port]


def estimated(block_id: str, extreme: str, folder: Path) -> Outcome:
    kind = find(block_id)
    inputs, infos = scene().feed(kind)
    port = "rf" if "rf" in inputs else "field"
    extra = {"publish": str(folder / "net.safetensors")} if block_id == "vae_adapter" else {}
    block = kind(**PARAMETERS[block_id], **extra)
    return run_block(block, {**inputs, port: at_worst(extreme, port)}, infos=infos, name=block_id, burst=4)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("block_id", ESTIMATORS)
def test_no_fault_makes_an_estimator_give_what_is_no_number(block_id: str, extreme: str, tmp_path: Path) -> None:
    made = estimated(block_id, extreme, tmp_path)
    for port, arrays in made.arrays.items():
        for name, array in (arrays if isinstance(arrays, dict) else {port: arrays}).items():
            if array.dtype.kind in "fc" and name not in UNMEASURED.get(block_id, ()):
                assert np.isfinite(array).all(), f"{name} of {block_id} under {extreme}"
