"""The heat-map VAE of the line: truth is numerical optimisation, the scene itself, bounds, symmetries."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize

from beamslot.dsp.doa.maximum_likelihood import refine
from beamslot.dsp.doa_bounds import crb_conditional
from beamslot.dsp.nets.checkpoint import Checkpoint, load, save, shipped
from beamslot.dsp.nets.layers import chain, initial, plain
from beamslot.dsp.nets.serve import Served
from beamslot.dsp.ula import S1, Frames, UlaScene, array_response, complex_normal
from beamslot.dsp.vae_ula import (
    CHANNELS,
    FEATURES,
    VaeUla,
    candidates,
    channels,
    deviation,
    features,
    log_evidence,
    self_labels,
)
from beamslot.errors import BadCheckpoint, BadParam, ShapeError
from beamslot.frame import Geometry

Array = NDArray[Any]


def drawn(snr_db: float, count: int = 60, seed: int = 1, **scene: Any) -> Frames:
    return UlaScene(**scene).frames(np.random.default_rng(seed), count, snr_db)


@cache
def estimator(users: int = 0) -> VaeUla:
    return VaeUla(users=users)


def rmse_deg(theta: Array, true: Array) -> float:
    return float(np.rad2deg(np.sqrt(np.mean((theta - true) ** 2))))


# features


def test_features_know_neither_scale_nor_the_phase_of_a_snapshot() -> None:
    seen = drawn(5, 4).observation
    turn = np.exp(2j * np.pi * np.random.default_rng(2).random((4, 40, 1)))
    np.testing.assert_allclose(features(1e-3 * seen * turn), features(seen), atol=2e-3)


def test_features_turn_with_the_users() -> None:
    seen = drawn(5, 4).observation
    steps = np.exp(2j * np.pi * 3 / 128 * np.arange(32))  # three bins of 128 to the right
    np.testing.assert_allclose(features(seen * steps), np.roll(features(seen), 3, axis=-1), atol=2e-3)


def test_features_scale_with_the_array() -> None:
    assert features(drawn(5, 2, antennas=16, separation=0.2).observation).shape == (2, CHANNELS, 64)


@pytest.mark.parametrize("snapshots", [1, 40])
def test_features_are_finite_without_noise_and_without_users(snapshots: int) -> None:
    clean = array_response(np.array([0.1]), 32) * np.ones((1, snapshots, 1))
    assert np.isfinite(features(clean)).all()
    assert np.isfinite(features(complex_normal(np.random.default_rng(0), 1, snapshots, 32))).all()


# evidence


def best_likelihood(theta: Array, observation: Array) -> float:
    """Return the largest log p(Y | theta, P, sigma^2) over P >= 0 and sigma^2, found without a closed form."""
    atoms, users, (snapshots, antennas) = array_response(theta, 32), len(theta), observation.shape
    sample = observation.T @ observation.conj() / snapshots

    def loss(x: Array) -> float:
        root = (x[: users**2] + 1j * x[users**2 : -1]).reshape(users, users)
        covariance = atoms.T @ (root @ root.conj().T) @ atoms.conj() + np.exp(x[-1]) * np.eye(antennas)
        _, logdet = np.linalg.slogdet(covariance)
        return snapshots * float(logdet + np.trace(np.linalg.solve(covariance, sample)).real)

    rng = np.random.default_rng(0)
    starts = [np.append(rng.standard_normal(2 * users**2), np.log(0.1)) for _ in range(3)]
    return -min(optimize.minimize(loss, start, method="L-BFGS-B").fun for start in starts)


@pytest.mark.parametrize(("users", "snapshots"), [(1, 6), (2, 6), (2, 2), (2, 1)])
def test_the_evidence_is_the_largest_marginal_likelihood_less_what_it_costs(users: int, snapshots: int) -> None:
    seen = drawn(10, 1, users=users, snapshots=snapshots)
    found = float(log_evidence(seen.theta, seen.observation)[0])
    rank = min(users, snapshots)  # of P, that so many snapshots show
    numbers = rank * (2 * users - rank)
    cost = numbers / 2 * np.log(snapshots + 32) + users * (np.log(32) + np.log(snapshots * 32) / 2)
    constant = snapshots * 32  # of the trace, which is that at the best sigma^2
    wanted = best_likelihood(seen.theta[0], seen.observation[0]) + constant - cost
    assert found == pytest.approx(wanted, abs=0.05)


def test_evidence_prefers_the_users_that_are_there() -> None:
    seen = drawn(0, 40)
    true = log_evidence(seen.theta, seen.observation)
    assert np.all(true > log_evidence(seen.theta[:, :2], seen.observation))
    extra = np.column_stack([seen.theta, np.full(40, 1.3)])
    assert np.all(true > log_evidence(extra, seen.observation))
    assert np.all(true > log_evidence(np.zeros((40, 0)), seen.observation))


# labels


@pytest.mark.parametrize("scene", [{}, {"correlation": 1.0}, {"users": 1}, {"users": 5}, {"snapshots": 5}])
def test_frames_find_their_own_labels(scene: dict[str, Any]) -> None:
    seen = drawn(10, 30, **scene)
    labels = self_labels(seen.observation)
    users = seen.theta.shape[1]
    right = labels.mask.sum(axis=-1) == users
    assert right.mean() > 0.9
    bound = np.sqrt(np.mean(crb_conditional(seen.theta, seen.gain, seen.noise_var, 32)))
    assert rmse_deg(labels.theta[right][:, :users], seen.theta[right]) < 1.3 * np.rad2deg(bound)
    assert np.all(labels.margin[right] > 0)


def test_noise_alone_has_no_users() -> None:
    noise = complex_normal(np.random.default_rng(5), 40, 20, 32)
    assert self_labels(noise).mask.sum() == 0


# decoding


def said(bins: int, *users: tuple[float, float]) -> NDArray[np.float32]:
    """Return what a net would say of users at places [bins], with their logits."""
    outputs = np.full((1, 2, bins), -8.0, np.float32)
    outputs[0, 1] = 0
    for place, logit in users:
        near = round(place) % bins
        outputs[0, 0, near], outputs[0, 1, near] = logit, place - round(place)
        for beside in ((near - 1) % bins, (near + 1) % bins):
            outputs[0, 0, beside] = logit - 2
    return outputs


def test_the_likeliest_come_first_between_bins() -> None:
    found = candidates(said(128, (20.3, 1.0), (64.0, 4.0), (90.25, 2.0)), 3)
    np.testing.assert_allclose(np.sin(found.theta[0]), np.array([64, 90.25, 20.3]) / 64 - 1, atol=1e-6)
    np.testing.assert_allclose(found.presence[0], 1 / (1 + np.exp([-4.0, -2.0, -1.0])), rtol=1e-6)


def test_the_ends_of_the_grid_are_neighbours() -> None:
    found = candidates(said(128, (127.6, 3.0)), 2)
    assert np.sin(found.theta[0, 0]) == pytest.approx(-1)  # beyond the last bin, it is the first, from below
    assert found.presence[0, 1] < 1e-3


def test_users_are_not_sought_where_none_can_be() -> None:
    found = candidates(said(128, (5.0, 6.0), (64.0, 1.0)), 2, spacing=0.4)
    assert found.theta[0, 0] == pytest.approx(0)
    assert found.presence[0, 1] < 1e-3


# uncertainty


def test_deviations_are_the_bound_where_noise_is_small() -> None:
    seen = drawn(30, 20)
    found = deviation(seen.theta, seen.gain, seen.noise_var, 32)
    bound = np.sqrt(crb_conditional(seen.theta, seen.gain, seen.noise_var, 32))
    np.testing.assert_allclose(found, bound, rtol=2e-3)


@pytest.mark.parametrize(("snapshots", "snr_db"), [(40, -8), (5, 5), (1, 15)])
def test_deviations_cover_the_errors(snapshots: int, snr_db: float) -> None:
    seen = drawn(snr_db, 600, snapshots=snapshots)
    found = refine(seen.theta, seen.observation, steps=6)
    away = np.abs(found.theta - seen.theta) / deviation(found.theta, found.gain, found.noise_var, 32)
    inside = np.abs(found.theta - seen.theta).max(axis=-1) < np.deg2rad(1.79)
    assert inside.mean() > 0.95
    assert np.mean(away[inside] < 1) == pytest.approx(0.683, abs=0.04)
    assert np.mean(away[inside] < 1.96) == pytest.approx(0.95, abs=0.025)


# the estimator, with the shipped checkpoint


@pytest.mark.parametrize("correlation", [0.0, 0.99])
@pytest.mark.parametrize("snr_db", [0, 20])
def test_the_shipped_model_is_near_the_bound(snr_db: float, correlation: float) -> None:
    seen = drawn(snr_db, 300, correlation=correlation)
    found = estimator(3).estimate(seen.observation)
    bound = np.rad2deg(np.sqrt(np.mean(crb_conditional(seen.theta, seen.gain, seen.noise_var, 32))))
    assert rmse_deg(found.theta, seen.theta) < 1.1 * bound


@pytest.mark.parametrize("users", [1, 2, 4, 5])
def test_the_number_of_users_need_not_be_known(users: int) -> None:
    seen = drawn(5, 100, users=users)
    found = estimator().estimate(seen.observation)
    assert np.mean(found.mask.sum(axis=-1) == users) >= 0.99


def test_close_coherent_pairs_are_resolved_as_well_as_by_the_search() -> None:
    seen = drawn(15, 150, users=2, separation=S1, sector=(-0.1, 0.1), correlation=1.0)
    found = estimator(2).estimate(seen.observation)
    best = refine(seen.theta, seen.observation, steps=4)
    assert np.mean(found.noise_var < 1.02 * best.noise_var) > 0.97


def test_one_net_serves_other_arrays_and_snapshots() -> None:
    seen = drawn(15, 100, antennas=48, spacing=0.45, snapshots=12, users=2)
    found = VaeUla(antennas=48, spacing=0.45, users=2).estimate(seen.observation)
    bound = np.rad2deg(np.sqrt(np.mean(crb_conditional(seen.theta, seen.gain, seen.noise_var, 48, 0.45))))
    assert rmse_deg(found.theta, seen.theta) < 1.2 * bound


def test_the_error_of_the_channel_is_predicted() -> None:
    seen = drawn(5, 300)
    found = estimator(3).estimate(seen.observation)
    channel = found.gain @ array_response(found.theta, 32)
    error = np.mean(np.abs(channel - seen.gain @ array_response(seen.theta, 32)) ** 2)
    assert error == pytest.approx(float(found.error_var.mean()), rel=0.05)


def test_frames_do_not_depend_on_each_other() -> None:
    seen = drawn(0, 12, users=4).observation
    whole = estimator().estimate(seen)
    apart = [estimator().estimate(one[None]) for one in seen]
    for name, array in whole._asdict().items():
        np.testing.assert_allclose(array, np.concatenate([getattr(one, name) for one in apart]), rtol=1e-4, atol=1e-5)


def test_spoilt_frames_have_no_users_and_spoil_no_other() -> None:
    seen = drawn(10, 3).observation
    spoilt = seen.copy()
    spoilt[1, 3, 4], spoilt[2] = np.nan, 0
    found, clean = estimator().estimate(spoilt), estimator().estimate(seen)
    np.testing.assert_allclose(found.theta[0], clean.theta[0])
    assert not found.mask[1:].any()
    assert np.isnan(found.noise_var[1])
    assert found.noise_var[2] == found.step[2] == 0


def test_channels_are_those_of_the_slots() -> None:
    seen = drawn(20, 2)
    made = channels(estimator(3).estimate(seen.observation), Geometry(32, 1), 4)
    assert made.channel.shape == (40, 2, 32, 1)
    true = np.swapaxes(seen.gain @ array_response(seen.theta, 32), 0, 1)
    error = np.sum(np.abs(made.channel[..., 0] - true) ** 2) / np.sum(np.abs(true) ** 2)
    assert error < 1e-3
    np.testing.assert_allclose(made.u[7], np.sin(seen.theta), atol=2e-3)
    assert made.converged.all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"users": -1}, r"vae_ula\.users is -1, wanted 0 \.\. 16"),
        ({"antennas": 3}, r"vae_ula\.antennas is 3, wanted at least 4"),
        ({"steps": -1}, r"vae_ula\.steps is -1"),
        ({"spacing": 0.0}, r"vae_ula\.spacing is 0\.0"),
    ],
)
def test_parameters_that_cannot_be_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(BadParam, match=text):
        VaeUla(**options)


def test_another_array_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"observation is \(2, 40, 16\), wanted \(F, M, 32\)"):
        estimator().estimate(np.zeros((2, 40, 16), np.complex64))


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    net = chain([CHANNELS, 4, 3], [3], ["circular"])
    weights = initial(net, np.random.default_rng(0))
    save(tmp_path / "kind", Checkpoint("vae_upa", {"net": plain(net), "features": FEATURES}, weights))
    save(tmp_path / "ends", Checkpoint("vae_ula", {"net": plain(net), "features": FEATURES}, weights))
    save(tmp_path / "old", Checkpoint("vae_ula", {"net": plain(net), "features": {"version": 0}}, weights))
    for name, text in {"kind": "of kind 'vae_upa'", "ends": r"ends \(5, 3, 1\)", "old": "'version': 0"}.items():
        with pytest.raises(BadCheckpoint, match=text):
            VaeUla(checkpoint=tmp_path / name)


def test_the_engines_agree_on_the_shipped_net() -> None:
    seen = features(drawn(0, 20).observation)
    one, other = (Served(load(shipped("vae_ula")), engine).run(seen) for engine in ("onnxruntime", "torch"))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_user_that_the_net_does_not_see_is_found_in_what_the_others_leave() -> None:
    blind = load(shipped("vae_ula"))
    last = f"{len(blind.architecture['net']) - 1}.bias"
    weights = {**blind.weights, last: blind.weights[last] - np.array([50, 0], np.float32)}
    seen = drawn(10, 20)
    found = VaeUla(checkpoint=Checkpoint(blind.kind, blind.architecture, weights)).estimate(seen.observation)
    assert np.mean(found.mask.sum(axis=-1) == 3) > 0.9


@pytest.mark.parametrize("snapshots", [1, 5, 40])
def test_noise_alone_is_no_user(snapshots: int) -> None:
    noise = complex_normal(np.random.default_rng(6), 100, snapshots, 32)
    found = estimator().estimate(noise)
    assert np.mean(found.mask.any(axis=-1)) <= 0.03
    silent = ~found.mask.any(axis=-1)
    assert found.noise_var[silent].mean() == pytest.approx(1, rel=0.05)


def test_the_shipped_checkpoint_is_small_and_says_where_it_is_from() -> None:
    assert shipped("vae_ula").stat().st_size < 200_000
    card = load(shipped("vae_ula")).card
    assert {"data", "seed", "steps", "metrics", "command", "versions"} <= card.keys()
    assert card["data"]["labels"] == "self"
