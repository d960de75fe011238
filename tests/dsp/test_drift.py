"""The chart of drift: run lengths of published tables, false alarms and delays of simulated residuals."""

import json

import numpy as np
import pytest

from beamslot.dsp.drift import ChainChart, DriftChart, chain_slack, chain_threshold_for, run_length, threshold_for

DIMENSIONS = 364
"""Complex dimensions of a residual: 384 chains less ten paths."""

DEVIATION = DIMENSIONS**-0.5
"""That of the energy of noise, relative to its mean."""

# Lucas and Crosier, Technometrics 24(3), 1982: two-sided, k = 0.5
TABLE = {
    4: {0: 168, 0.25: 74.2, 0.5: 26.6, 0.75: 13.3, 1: 8.38, 1.5: 4.75, 2: 3.34},
    5: {0: 465, 0.25: 139, 0.5: 38.0, 0.75: 17.0, 1: 10.4, 1.5: 5.75, 2: 4.01},
}


@pytest.mark.parametrize(
    ("threshold", "shift", "length"), [(h, s, n) for h, row in TABLE.items() for s, n in row.items()]
)
def test_run_lengths_are_those_of_the_published_table(threshold: float, shift: float, length: float) -> None:
    assert run_length(0.5, threshold, shift) == pytest.approx(length, rel=0.006)
    assert run_length(0.5, threshold, -shift) == pytest.approx(length, rel=0.006)


@pytest.mark.parametrize("slack", [0.025, 0.25, 1.0])
@pytest.mark.parametrize("every", [10.0, 1e3, 1e6])
def test_the_threshold_gives_the_rate_of_false_alarms_that_was_asked_for(slack: float, every: float) -> None:
    threshold = threshold_for(slack, every)
    assert every <= run_length(slack, threshold) < 1.05 * every  # it jumps where the largest score alone would do
    assert run_length(slack, threshold * (1 - 1e-6)) < every


def alarms_after(
    rng: np.random.Generator,
    *,
    known: bool,
    every: float,
    runs: int,
    learn: int = 50,
    begin: int = 0,
    shift: float = 0.0,
    scale: float = 1.0,
) -> list[int]:
    """Return after how many slots each run of fresh noise raises its alarm, counted from a change of its energy.

    begin: slots before the change, which raise none    shift: of the mean energy, in its deviations
    """
    threshold, found = threshold_for(0.25, every), list[int]()
    while len(found) < runs:
        chart, slot = DriftChart(0.25, threshold, learn), 0
        while not chart.alarm:
            power = scale * rng.gamma(DIMENSIONS) * (1 + shift * DEVIATION * (slot >= begin))
            chart.add(power, DIMENSIONS, scale if known else None)
            slot += 1
        if slot > begin:
            found.append(slot - begin)
    return found


def test_false_alarms_are_as_rare_as_stated_where_the_noise_is_known(rng: np.random.Generator) -> None:
    found = alarms_after(rng, known=True, every=200, runs=250)
    assert np.mean(found) == pytest.approx(200, abs=4 * 200 / np.sqrt(250))


def test_false_alarms_are_as_rare_as_stated_where_the_band_is_learned(rng: np.random.Generator) -> None:
    found = np.array(alarms_after(rng, known=False, every=200, runs=250, learn=20, scale=3e-5)) - 20
    assert np.mean(found) == pytest.approx(200, abs=4 * 200 / np.sqrt(250))


@pytest.mark.parametrize("shift", [1.0, 2.0, -2.0])
def test_the_delay_is_that_of_the_run_length_at_the_shift(shift: float, rng: np.random.Generator) -> None:
    expected = run_length(0.25, threshold_for(0.25, 1e4), shift)
    at_once = alarms_after(rng, known=True, every=1e4, runs=150, shift=shift)
    assert np.mean(at_once) == pytest.approx(expected, rel=0.1)
    later = alarms_after(rng, known=False, every=1e4, runs=40, begin=400, shift=shift)
    assert np.mean(later) == pytest.approx(expected, rel=0.3)


def test_averages_are_charted_as_one_score_each(rng: np.random.Generator) -> None:
    powers = rng.gamma(DIMENSIONS, size=600) * np.where(np.arange(600) < 300, 1, 1.1)
    averaged, single = DriftChart(0.25, 6.0, 10, average=5), DriftChart(0.25, 6.0, 10)
    raised = charted(averaged, powers)
    for five in powers.reshape(-1, 5):
        single.add(float(five.sum()), 5 * DIMENSIONS)
    assert averaged.level == single.level
    assert (averaged.slots, averaged.alarm) == (600, 1)
    assert raised.index(1) % 5 == 4


def charted(chart: DriftChart, powers: np.ndarray) -> list[int]:
    found: list[int] = []
    for power in powers:
        chart.add(float(power), DIMENSIONS)
        found.append(chart.alarm)
    return found


def test_the_alarm_tells_the_side_learns_nothing_while_it_is_on_and_goes_when_all_is_as_before(
    rng: np.random.Generator,
) -> None:
    chart = DriftChart(0.25, threshold_for(0.25, 1e6), 50)
    assert not any(charted(chart, rng.gamma(DIMENSIONS, size=200)))
    assert not chart.learning
    raised = charted(chart, 1.5 * rng.gamma(DIMENSIONS, size=2000))
    assert raised[:3] == [0, 0, 0]
    assert set(raised[15:]) == {1}
    assert chart.level == 1
    after = charted(chart, rng.gamma(DIMENSIONS, size=300))
    assert after[0] == 1
    assert not any(after[150:])
    assert charted(chart, 0.5 * rng.gamma(DIMENSIONS, size=30))[-1] == -1
    assert chart.level == -1


def test_one_spoilt_slot_is_no_drift_and_what_is_not_finite_is_counted(rng: np.random.Generator) -> None:
    chart = DriftChart(0.25, threshold_for(0.25, 1e5), 50)
    charted(chart, rng.gamma(DIMENSIONS, size=300))
    assert charted(chart, np.array([1e12])) == [0]
    charted(chart, np.array([np.nan, np.inf, 0.0]))
    assert (chart.not_finite, chart.slots) == (3, 301)


def test_a_stream_without_any_noise_raises_nothing() -> None:
    assert not any(charted(DriftChart(0.25, 5.0, 10), np.full(100, 2.0)))


def test_a_chart_that_is_put_back_goes_on_to_the_bit(rng: np.random.Generator) -> None:
    powers = rng.gamma(DIMENSIONS, size=203) * np.where(np.arange(203) < 120, 1, 1.1)
    whole, part = DriftChart(0.25, 6.0, 20, 2), DriftChart(0.25, 6.0, 20, 2)
    charted(whole, powers)
    charted(part, powers[:91])
    state = json.loads(json.dumps(part.snapshot(), allow_nan=False))
    charted(part, powers[:50] * 2)
    again = DriftChart(0.25, 6.0, 20, 2)
    again.restore(state)
    charted(again, powers[91:])
    assert again.snapshot() == whole.snapshot()
    assert whole.alarm == 1


# single chains


def chains_until(chart: ChainChart, rng: np.random.Generator, ratio: float = 1.0) -> int:
    """Return after how many slots an alarm is raised, where the noise of one chain is `ratio` that of the others."""
    scale = np.ones(chart.up.shape)
    scale[3, 1] = ratio
    slots = 0
    while not chart.loud.any():
        chart.add(scale * rng.exponential(size=scale.shape), scale.size)
        slots += 1
    return slots


def test_false_alarms_of_chains_are_as_rare_as_stated(rng: np.random.Generator) -> None:
    found = [chains_until(ChainChart((12, 4), chain_threshold_for(48, 200)), rng) for _ in range(250)]
    assert np.mean(found) == pytest.approx(200, abs=4 * 200 / np.sqrt(250))


def test_a_loud_chain_is_found_within_slots_and_named(rng: np.random.Generator) -> None:
    threshold, ratio = chain_threshold_for(48, 1e5), 10.0
    scores = 48 * ratio / (47 + ratio) - chain_slack()
    found: list[int] = []
    for _ in range(50):
        chart = ChainChart((12, 4), threshold)
        found.append(chains_until(chart, rng, ratio))
        assert np.argwhere(chart.loud).tolist() == [[3, 1]]
    assert np.mean(found) == pytest.approx(1 + threshold / scores, rel=0.25)


def test_what_all_chains_have_in_common_raises_nothing_and_a_chain_that_is_well_again_is_let_go(
    rng: np.random.Generator,
) -> None:
    chart = ChainChart((12, 4), chain_threshold_for(48, 1e6))
    for scale in np.geomspace(1, 1e6, 500):
        chart.add(scale * rng.exponential(size=(12, 4)), 48)
    assert not chart.loud.any()
    chains_until(chart, rng, 20.0)
    assert chart.level == 1
    for _ in range(200):
        chart.add(rng.exponential(size=(12, 4)), 48)
    assert not chart.loud.any()


def test_few_chains_are_not_told_apart() -> None:
    chart = ChainChart((2, 2), chain_threshold_for(4, 100))
    for _ in range(100):
        chart.add(np.array([[0, 0], [0, 1.0]]), 4)
    assert (chart.loud.any(), chart.level) == (False, 0)
