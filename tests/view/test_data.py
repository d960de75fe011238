"""What the page makes of arrays: slots matched, columns, images, means, histograms, what was seen and what was not."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from beamslot.dsp.bounds import crb_channel
from beamslot.frame import Array, Geometry, Operator, StreamInfo
from beamslot.ports import ESTIMATE, TRUTH
from beamslot.runtime.latency import Latency
from beamslot.view import data

AXES = {"user": 2, "y": 4, "z": 3, "path": 3}
INFOS = {"truth": StreamInfo(TRUTH, AXES), "estimate": StreamInfo(ESTIMATE, AXES)}


def arrays(kind: str, slots: range, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Return random arrays of a stream; paths all exist."""
    info = INFOS[kind]
    made: dict[str, NDArray[Any]] = {}
    for name, spec in info.arrays.items():
        shape = info.shape(name, len(slots))
        values = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if spec.dtype.kind == "c" else 0)
        made[name] = np.ones(shape, bool) if spec.dtype.kind == "b" else values.astype(spec.dtype)
    return made


def rows(kind: str, slots: range, rng: np.random.Generator) -> list[data.Row]:
    return data.rows(slots, arrays(kind, slots, rng), INFOS[kind])


def test_streams_are_known_by_their_arrays() -> None:
    channel = {"channel": Array.of("slot user y z", np.complex64)}
    assert data.role(INFOS["truth"]) == "truth"
    assert data.role(INFOS["estimate"]) == "estimate"
    assert data.role(StreamInfo(channel, AXES)) == "estimate"
    assert data.role(StreamInfo({"x": Array.of("slot y", np.float32)}, AXES)) == ""
    assert data.role(StreamInfo({"channel": Array.of("slot y", np.complex64)}, AXES)) == ""
    assert data.has_paths(INFOS["truth"])
    assert not data.has_paths(StreamInfo(channel, AXES))


def test_slots_are_matched_in_whatever_order_they_come(rng: np.random.Generator) -> None:
    matcher = data.Matcher()
    truth, early, late = (rows(kind, slots, rng) for kind, slots in (
        ("truth", range(4, 8)), ("estimate", range(2, 6)), ("estimate", range(6, 10))
    ))  # fmt: skip
    assert matcher.estimate("omp", early, 0.5) == []
    found = [*matcher.truth(truth, 1.0), *matcher.estimate("omp", late, 3.0)]
    assert [(match.slot, match.lag) for match in found] == [(4, 0.0), (5, 0.0), (6, 2.0), (7, 2.0)]
    for match in found:
        np.testing.assert_array_equal(match.truth["u"], truth[match.slot - 4].arrays["u"][match.slot - 4])
        expected = (early if match.slot < 6 else late)[(match.slot - 2) % 4]["channel"]
        np.testing.assert_array_equal(match.estimate["channel"], expected)
    assert matcher.estimate("omp", late, 4.0) == [], "slots shown again after a restart count once"
    assert [match.slot for match in matcher.estimate("other", late, 4.0)] == [6, 7]


def test_the_memory_of_a_matcher_is_bounded(rng: np.random.Generator) -> None:
    size = sum(array.nbytes for array in arrays("truth", range(1), rng).values())
    matcher = data.Matcher(most_bytes=10 * size)
    for slot in range(50):
        matcher.truth(rows("truth", range(slot, slot + 1), rng), 0.0)
    slots = range(30, 50)
    assert [match.slot for match in matcher.estimate("omp", rows("estimate", slots, rng), 0.0)] == [*range(40, 50)]
    for slot in range(100, 100 + 3 * data.WAITING):
        matcher.estimate("omp", rows("estimate", range(slot, slot + 1), rng), 0.0)
    newest = range(100, 100 + 3 * data.WAITING)
    matched = matcher.truth(rows("truth", newest, rng), 0.0)
    assert [match.slot for match in matched] == [*newest[-data.WAITING :]]


def test_truths_of_small_arrays_are_let_go_by_their_number(rng: np.random.Generator) -> None:
    matcher, kept = data.Matcher(), data.TRUTH_FRAMES
    for slot in range(kept + 30):
        matcher.truth(rows("truth", range(slot, slot + 1), rng), 0.0)
    late = rows("estimate", range(40), rng)
    assert [match.slot for match in matcher.estimate("omp", late, 0.0)] == [*range(30, 40)]
    matcher.truth(rows("truth", range(1000, 1004), rng), 0.0)
    for first in range(1004, 1004 + 4 * (kept - 1), 4):
        matcher.truth(rows("truth", range(first, first + 4), rng), 0.0)
    late = rows("estimate", range(998, 1010), rng)
    assert [match.slot for match in matcher.estimate("omp", late, 0.0)] == [*range(1000, 1010)], "512 frames of four"


def test_the_bound_of_the_newest_slots_is_that_of_the_library(rng: np.random.Generator) -> None:
    weights = np.exp(1j * rng.uniform(0, 6, (4, 1, 3))).astype(np.complex64)
    operator = Operator(weights, np.zeros(4, np.int16), (-0.5, 0.0))
    measured = StreamInfo(ESTIMATE, AXES, operator=operator, geometry=Geometry(4, 3))
    made = arrays("truth", range(3), rng)
    made["mask"][:, :, 1:] = False
    made["antenna_noise_var"][:] = 0.01
    found = data.rows(range(3), made, INFOS["truth"])
    path = [np.atleast_3d(made[name])[2, :, :1] for name in ("gain", "u", "v")]
    expected = crb_channel(*path, np.ones((2, 1), bool), operator, Geometry(4, 3), 3 * 0.01).mean()
    assert data.slot_bound(found[2], measured) == pytest.approx(expected, rel=1e-6)
    bounds = data.Bounds()
    assert bounds.level is None
    bounds.add(found, measured, 1.0)
    assert bounds.level == pytest.approx(10 * math.log10(expected))
    made["antenna_noise_var"][:] = 1e6
    bounds.add(data.rows(range(3), made, INFOS["truth"]), measured, 1.01)
    assert bounds.level == pytest.approx(10 * math.log10(expected)), "not for every slot"
    for step in range(data.MEAN_OVER):
        bounds.add(data.rows(range(8), arrays("truth", range(8), rng) | {"antenna_noise_var": np.full((8, 2), 0.01)},
                             INFOS["truth"]), measured, 2.0 + step)  # fmt: skip
    assert bounds.level != pytest.approx(10 * math.log10(expected))
    assert math.isnan(data.slot_bound(found[0], None))
    assert math.isnan(data.slot_bound(found[0], INFOS["estimate"])), "a stream that does not tell how it was measured"


def test_the_nmse_of_a_slot_is_the_mean_over_users(rng: np.random.Generator) -> None:
    truth, estimate = rows("truth", range(1), rng)[0], rows("estimate", range(1), rng)[0]
    h, h_hat = truth["channel"].astype(complex), estimate["channel"].astype(complex)
    expected = np.mean([np.linalg.norm(h_hat[u] - h[u]) ** 2 / np.linalg.norm(h[u]) ** 2 for u in range(2)])
    assert data.slot_nmse(data.Match("x", 0, estimate, truth, 0.0)) == pytest.approx(expected, rel=1e-6)
    other = data.Row(0, 0, {"channel": estimate.arrays["channel"][..., :2]}, estimate.info)
    assert math.isnan(data.slot_nmse(data.Match("x", 0, other, truth, 0.0)))


def test_means_run_over_the_newest_slots_and_count_what_is_not_finite() -> None:
    means = data.Means(over=4)
    for value in (100.0, 1.0, 2.0, 3.0, 4.0):
        means.add("omp", value)
    means.add("omp", math.nan)
    assert means.levels() == {"omp": pytest.approx(10 * math.log10(2.5))}
    assert means.not_finite == {"omp": 1}
    assert [*means.read()] == ["omp"]
    assert means.read() == {}, "nothing new: the line does not go on"
    assert means.levels() != {}


def test_the_slot_shown_is_the_newest_that_most_estimators_have_had(rng: np.random.Generator) -> None:
    gallery, matcher = data.Gallery(shown=8), data.Matcher()
    truth = rows("truth", range(20), rng)
    gallery.truth(truth[0])
    assert gallery.pick() == (truth[0], {})
    matcher.truth(truth, 0.0)
    for name, slots in (("fast", range(20)), ("slow", range(14, 17))):
        for match in matcher.estimate(name, rows("estimate", slots, rng), 0.0):
            gallery.add(match)
    chosen, estimates = gallery.pick()
    assert chosen is not None
    assert chosen.slot == 16
    assert {name: row.slot for name, row in estimates.items()} == {"fast": 16, "slow": 16}


def test_paths_are_columns_in_decibels_of_the_strongest(rng: np.random.Generator) -> None:
    made = arrays("truth", range(2), rng)
    made["gain"][1, 0] = [2.0, 0.2j, 5.0]
    made["mask"][1, 0] = [True, True, False]
    made["u"][1, 0] = [0.5, -0.25, 0.9]
    columns = data.path_columns(data.rows(range(2), made, INFOS["truth"])[1])
    assert columns["u"] == [0.5, -0.25]
    assert columns["level"] == pytest.approx([0, -20])
    assert columns["size"][0] > columns["size"][1] > 0
    assert {len(column) for column in columns.values()} == {2}
    assert data.path_columns(None)["u"] == []


def test_sub_intervals_divide_the_interval_of_the_beams() -> None:
    group = np.array([0, 1, 2, 3, -1, 0], np.int16)
    operator = Operator(np.ones((6, 2, 3), np.complex64), group, (-0.5, 0.5))
    assert data.sub_intervals(operator) == [(-0.5, -0.25), (-0.25, 0.0), (0.0, 0.25), (0.25, 0.5)]
    alone = Operator(np.ones((6, 2, 3), np.complex64), np.zeros(6, np.int16), (-0.5, 0.0))
    assert data.sub_intervals(alone) == [(-0.5, 0.0)]


def test_images_have_columns_of_the_array_from_left_to_right(rng: np.random.Generator) -> None:
    h = rng.standard_normal((4, 3)) + 1j * rng.standard_normal((4, 3))
    image = data.magnitude(h)
    assert image.shape == (3, 4)
    assert image[2, 1] == pytest.approx(abs(h[1, 2]))
    error = data.error_db(h + 0.1 * np.sqrt(np.mean(np.abs(h) ** 2)), h)
    np.testing.assert_allclose(error, -20, atol=1e-4)
    np.testing.assert_allclose(data.error_db(h, h), 2 * data.FLOOR_DB)


def test_a_histogram_keeps_all_that_came_since_another() -> None:
    latency = Latency()
    for milliseconds in (1.0, 1.0, 2.0, 50.0):
        latency.add(int(milliseconds * 1e6))
    before = [*latency.counts.items()]
    for _ in range(3):
        latency.add(int(50e6))
    bars = data.histogram(latency.counts.items(), before)
    assert bars["share"] == [100]
    assert bars["left"][0] <= 50 <= bars["right"][0]
    assert sum(data.histogram(latency.counts.items())["share"]) == pytest.approx(100)
    assert data.histogram(())["left"] == []
    line = data.outline(data.histogram(latency.counts.items()))
    assert len(line["edge"]) == len(line["share"])
    assert (line["share"][0], line["share"][-1]) == (0, 0)
    assert np.all(np.diff(line["edge"]) >= 0)
    area = float(np.sum(np.array(line["share"][1:]) * np.diff(np.log2(line["edge"]))))
    assert area == pytest.approx(100 / data.HISTOGRAM_PER_OCTAVE)
    assert data.outline(data.histogram(())) == {"edge": [], "share": []}


def test_what_was_seen_unseen_and_never_sent_are_told_apart() -> None:
    seen = data.Seen()
    seen.frame(range(10, 14))
    seen.frame(range(14, 16))
    seen.gap(16, 3, "latest")
    seen.frame(range(20, 22))
    assert (seen.seen, seen.unseen, seen.gaps) == (8, 1, {"latest": 3})
    seen.frame(range(12, 14))
    assert (seen.again, seen.unseen) == (2, 1)
    seen.gap(16, 3, "latest")
    assert seen.gaps == {"latest": 3}, "told again after a restart"
    assert seen.share == pytest.approx(10 / 11)


def test_estimators_are_called_by_their_blocks() -> None:
    names = data.short_names(["a.estimate", "b.left", "b.right"])
    assert names == {"a.estimate": "a", "b.left": "b.left", "b.right": "b.right"}


def test_rows_without_a_slot_axis_hold_for_all_slots() -> None:
    info = StreamInfo({"x": Array.of("y", np.float32)}, {"y": 2}, geometry=Geometry(2, 1))
    first, second = data.rows(range(5, 7), {"x": np.array([1, 2], np.float32)}, info)
    np.testing.assert_array_equal(first["x"], second["x"])
    assert "x" in first
    assert "z" not in first
