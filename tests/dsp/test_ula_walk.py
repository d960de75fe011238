"""Users on the move: truth is what the way may not do, and the pace measured over it."""

from functools import cache

import numpy as np
import pytest

from beamslot.dsp.ula import S0, UlaScene
from beamslot.dsp.ula_walk import Positions, leg, walk
from beamslot.errors import BadParam

SCENE = UlaScene()


def draws(scene: UlaScene = SCENE) -> Positions:
    return cache(lambda number: np.sort(np.sin(scene.angles(np.random.default_rng(number))[0])))


@pytest.mark.parametrize("drift", [0.002, 0.02])
def test_the_pace_is_as_asked_and_the_way_smooth(drift: float) -> None:
    at = walk(draws(), leg(SCENE, drift))
    theta = np.arcsin([at(frame) for frame in range(round(40 / drift))])
    steps = np.diff(theta, axis=0)
    assert np.sqrt(np.mean(steps**2)) == pytest.approx(drift, rel=0.1)
    assert np.sqrt(np.mean(np.diff(steps, axis=0) ** 2)) < 8 * drift**2
    assert np.abs(theta).max() <= np.pi / 3 + 1e-12


def test_users_on_the_way_keep_their_order_and_their_distance() -> None:
    at = walk(draws(), leg(SCENE, 0.05))
    assert np.diff([at(frame) for frame in range(2000)], axis=1).min() >= S0 - 1e-12


def test_each_draw_is_passed_in_its_turn() -> None:
    at = walk(draws(), 4.0)
    for number in range(3):
        np.testing.assert_allclose(at(4 * number), draws()(number), atol=1e-12)
    np.testing.assert_allclose(at(2), (draws()(0) + draws()(1)) / 2, atol=1e-12)


@pytest.mark.parametrize("drift", [0.0, 1.0])
def test_a_pace_that_no_walk_has_is_refused(drift: float) -> None:
    with pytest.raises(BadParam, match=rf"ula.drift is {drift}, wanted more than 0, at most 0\.\d+ rad a frame"):
        leg(SCENE, drift)
