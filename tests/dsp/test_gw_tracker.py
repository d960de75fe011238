"""The tracker: truth is a world of paths that wander, are born, die and cross; bands around measured accuracy."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.beams import group_beams
from beamslot.dsp.channel import PathChannel
from beamslot.dsp.combine import combine
from beamslot.dsp.estimate import Estimate
from beamslot.dsp.geometry import render
from beamslot.dsp.grouping import balanced_random
from beamslot.dsp.gw_tracker import MOST_CERTAIN, GwTracker, Tracks
from beamslot.dsp.kernel import variants
from beamslot.dsp.metrics import nmse
from beamslot.dsp.vp_nomp import VpNomp
from beamslot.errors import BadParam
from beamslot.frame import Geometry, Operator

FULL = Geometry(64, 72)
GROUP = balanced_random(64, 4, np.random.default_rng(0))
OPERATOR = Operator(group_beams(GROUP, (-0.5, 0.0), 6, 12), GROUP, (-0.5, 0.0))
SETTLED = 10

Paths = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def observe(slots: Sequence[Paths], snr_db: float, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return channels of norm N_r and observations, phases fresh in every slot; slots are (|a|, u, v)."""
    rng = np.random.default_rng(seed)
    made = []
    for amplitude, u, v in slots:
        gain = amplitude * np.exp(2j * np.pi * rng.random(len(amplitude)))
        field = render(gain, u, v, FULL)
        made.append(field * np.sqrt(FULL.antennas) / np.linalg.norm(field))
    truth = np.array(made)
    noise = rng.standard_normal((2, len(slots), 64, 6)) * np.sqrt(12 * 10 ** (-snr_db / 10) / 2)
    return truth, (combine(truth, OPERATOR.weights) + noise[0] + 1j * noise[1]).astype(np.complex64)


@cache
def wandering(seed: int, walk: float, slots: int) -> tuple[Paths, ...]:
    """Ten paths with fixed |a|, u and v in a random walk, v reflected at the interval."""
    rng = np.random.default_rng(seed)
    drawn = PathChannel(geometry=FULL, redraw=1).draw(rng)
    u, v, made = drawn.u[0], drawn.v[0], []
    for _ in range(slots):
        made.append((drawn.amplitude[0], u, v))
        u = u + walk * rng.standard_normal(10)
        v = v + walk * rng.standard_normal(10)
        v = np.where(v > 0, -v, np.where(v < -0.5, -1 - v, v))
    return tuple(made)


def track(observation: NDArray[Any], **options: Any) -> tuple[Estimate, GwTracker]:
    tracker = GwTracker(FULL, OPERATOR, **options)
    return tracker.estimate(observation[:, None]), tracker


@cache
def judged(snr_db: float, walk: float) -> tuple[float, float, float, NDArray[Any]]:
    """Return mean NMSE once settled of tracker and single slots, the predicted error, the learned drifts."""
    tracked, alone, predicted, drift = [], [], [], []
    for seed in range(6):
        truth, observation = observe(wandering(seed + 40, walk, 40), snr_db, seed)
        found, tracker = track(observation)
        tracked.append(nmse(found.channel[SETTLED:, 0], truth[SETTLED:]))
        alone.append(nmse(VpNomp(FULL, OPERATOR).estimate(observation[SETTLED:]).channel, truth[SETTLED:]))
        predicted.append(found.error_var[SETTLED:].mean())
        drift.append(np.sqrt(tracker.tracks[0].drift) * tracker.sensing.cell)
    return float(np.mean(tracked)), float(np.mean(alone)), float(np.mean(predicted)), np.mean(drift, axis=0)


def decibels(value: float) -> float:
    return float(10 * np.log10(value))


@pytest.mark.parametrize(("snr_db", "least"), [(-5, -13.3), (5, -23.8), (15, -33.3)])
def test_slots_that_share_their_directions_are_worth_more_than_one(snr_db: float, least: float) -> None:
    tracked, alone, predicted, _ = judged(snr_db, 1.5e-4)
    assert decibels(tracked) < least
    assert decibels(tracked) < decibels(alone) - 1.5
    assert abs(decibels(predicted) - decibels(tracked)) < 1


@pytest.mark.parametrize("walk", [0.0, 1.5e-4, 4e-4])
def test_the_drift_is_learned(walk: float) -> None:
    tracked, _, _, drift = judged(15, walk)
    assert decibels(tracked) < -33
    if walk:
        np.testing.assert_allclose(drift, walk, rtol=0.35)
    else:
        assert drift.max() < 1e-4


def steady(*paths: tuple[float, float, float]) -> Paths:
    amplitude, u, v = np.array(paths).T
    return amplitude, u, v


LOS = (1.0, 0.1, -0.2)
OTHER = (0.35, -0.4, -0.35)


def strongest(found: Estimate, slot: int, u: float, v: float) -> float:
    """Return |gain| of the strongest path found near a direction, 0 where there is none."""
    near = (np.abs(found.u[slot, 0] - u) < 0.01) & (np.abs(found.v[slot, 0] - v) < 0.01) & found.mask[slot, 0]
    return float(np.abs(found.gain[slot, 0] * near).max())


def test_a_path_that_is_born_is_found_and_one_that_dies_is_given_up() -> None:
    world = [steady(LOS)] * 15 + [steady(LOS, OTHER)] * 20 + [steady(LOS)] * 15
    truth, observation = observe(world, 5, 3)
    found, tracker = track(observation)
    away = [strongest(found, slot, *OTHER[1:]) for slot in range(50)]
    assert max(away[:15]) < 0.02
    assert min(away[17:35]) > 0.25
    assert max(away[45:]) < 0.02
    assert not np.any(np.abs(tracker.tracks[0].direction[0] - OTHER[1]) < 0.01)
    error = nmse(found.channel[:, 0], truth)
    assert decibels(error[17:35].mean()) < -23
    assert decibels(error[40:].mean()) < -25


def test_paths_that_cross_are_both_there_afterwards() -> None:
    slots = np.arange(60)
    moving = 0.1 + 0.002 * (slots - 30)
    world = [steady(LOS, (0.5, u, -0.2 + 0.0005 * (slot - 30))) for slot, u in zip(slots, moving, strict=True)]
    truth, observation = observe(world, 10, 4)
    found, _ = track(observation)
    error = nmse(found.channel[:, 0], truth)
    assert decibels(error[45:].mean()) < -27
    assert decibels(error.max()) < -12
    assert strongest(found, 59, moving[59], -0.2 + 0.0005 * 29) > 0.4


def test_what_was_recorded_goes_on_as_if_nothing_had_been() -> None:
    _, observation = observe(wandering(7, 1.5e-4, 12), 5, 5)
    whole, _ = track(observation)
    first = GwTracker(FULL, OPERATOR)
    first.estimate(observation[:7, None])
    state = first.tracks[0].snapshot()
    first.estimate(observation[7:, None])  # changes nothing of what was taken
    second = GwTracker(FULL, OPERATOR)
    second.tracks = [Tracks.restore(state)]
    np.testing.assert_array_equal(second.estimate(observation[7:, None]).channel, whole.channel[7:])


@pytest.mark.parametrize("variant", variants()[:-1])
def test_compiled_and_numpy_track_alike(variant: str) -> None:
    _, observation = observe(wandering(8, 1.5e-4, 12), 5, 6)
    (one, a), (two, b) = track(observation, variant=variant), track(observation, variant="numpy")
    assert nmse(one.channel, two.channel).max() < 1e-8
    np.testing.assert_array_equal(one.mask, two.mask)
    np.testing.assert_allclose(one.error_var, two.error_var, rtol=1e-3)
    np.testing.assert_allclose(a.tracks[0].log_odds, b.tracks[0].log_odds, atol=0.05)


def test_users_are_tracked_apart() -> None:
    both = [observe(wandering(seed, 1.5e-4, 5), 5, seed)[1] for seed in (9, 10)]
    together = GwTracker(FULL, OPERATOR, users=2).estimate(np.stack(both, axis=1))
    for user, observation in enumerate(both):
        np.testing.assert_array_equal(together.channel[:, user], track(observation)[0].channel[:, 0])


def test_slots_that_were_missed_make_less_certain() -> None:
    _, observation = observe(wandering(11, 1.5e-4, 15), 5, 7)
    _, tracker = track(observation)
    tracks = tracker.tracks[0]
    variance, log_odds, drift = tracks.variance, tracks.log_odds, tracks.drift
    tracker.skip(40)
    np.testing.assert_allclose(tracks.variance, variance + 40 * drift[:, None])
    assert np.all(tracks.log_odds < log_odds)
    assert np.all(np.abs(log_odds) <= MOST_CERTAIN)


@pytest.mark.parametrize("spoil", [lambda slot: slot * np.nan, lambda slot: slot * 0])
def test_a_slot_of_nothing_leaves_the_tracks_alone(spoil: Callable[[Any], Any]) -> None:
    _, observation = observe(wandering(12, 1.5e-4, 8), 5, 8)
    spoilt = observation.copy()
    with np.errstate(invalid="ignore"):
        spoilt[5] = spoil(spoilt[5])
    found, _ = track(spoilt)
    assert not found.mask[5].any()
    assert not found.channel[5].any()
    assert np.isfinite(found.channel).all()
    assert found.mask[6].sum() > 3


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scale_passes_through(factor: float) -> None:
    _, observation = observe(wandering(13, 1.5e-4, 6), 5, 9)
    plain, _ = track(observation)
    scaled, _ = track((observation * factor).astype(np.complex64))
    assert nmse(scaled.channel / factor, plain.channel).max() < 1e-9
    np.testing.assert_allclose(scaled.error_var / factor**2, plain.error_var, rtol=1e-3)


def test_values_that_cannot_be_are_told_together() -> None:
    with pytest.raises(BadParam) as told:
        GwTracker(FULL, OPERATOR, users=0, threshold=-1)
    assert str(told.value).splitlines() == [
        "gw_tracker.users is 0, wanted at least 1",
        "gw_tracker.threshold is -1, wanted more than 0",
    ]
