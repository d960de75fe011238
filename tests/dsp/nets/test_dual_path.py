"""The dual-path encoder: truth is NumPy, brute force, sample moments and the layers as the paper lists them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from beamslot.dsp.nets.dual_path import (
    DualPath,
    SpectrumNet,
    covariance,
    image,
    label_grid,
    label_spectrum,
    largest_maxima,
    lower_factor,
    pseudo_labels,
    recover,
    reparameterise,
)
from beamslot.dsp.nets.resnet import ResNet, parameters
from beamslot.dsp.ula import UlaScene, array_response
from beamslot.errors import BadParam

SECTOR = (-np.pi / 3, np.pi / 3)


def observed(rng: np.random.Generator, count: int, snr_db: float = 10.0, **scene: object) -> tuple[Tensor, np.ndarray]:
    frames = UlaScene(**scene).frames(rng, count, snr_db)  # type: ignore[arg-type]
    return torch.from_numpy(frames.observation), frames.theta


def test_the_image_is_the_sample_covariance(rng: np.random.Generator) -> None:
    observation, _ = observed(rng, 3)
    seen = image(covariance(observation))
    for frame, picture in zip(observation.numpy(), seen.numpy(), strict=True):
        truth = sum(np.outer(y, y.conj()) for y in frame) / 40
        np.testing.assert_allclose(picture[0] + 1j * picture[1], truth, atol=1e-4)


def test_the_posterior_has_the_shapes_and_bounds_that_it_says(rng: np.random.Generator) -> None:
    torch.manual_seed(0)
    net = DualPath(3, 40, 32, SECTOR, width=4)
    found = net(100 * observed(rng, 5)[0])
    assert found.theta.shape == (5, 3)
    assert found.mean.shape == (5, 40, 3)
    assert found.factor.shape == (5, 40, 3, 3)
    assert torch.all((found.theta > SECTOR[0]) & (found.theta < SECTOR[1]))
    assert torch.all(found.factor.triu(1) == 0)
    diagonal = found.factor.diagonal(dim1=-2, dim2=-1)
    assert torch.all(diagonal.real > 0)
    assert torch.all(diagonal.imag == 0)
    (found.theta.sum() + found.mean.abs().sum() + found.factor.abs().sum()).backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in net.parameters())


def test_the_angles_reach_nearly_all_of_the_sector() -> None:
    net = DualPath(2, 3, 4, (-0.2, 1.0), width=4)
    for bias, wanted in ((-9.0, -0.2), (0.0, 0.4), (9.0, 1.0)):
        torch.nn.init.zeros_(net.angles.net.last.weight)
        torch.nn.init.constant_(net.angles.net.last.bias, bias)
        seen = net.angles(torch.ones(2, 3, 4, dtype=torch.complex64))
        torch.testing.assert_close(seen, torch.full((2, 2), wanted), atol=1e-3, rtol=0)


def test_parameters_are_those_of_the_papers_nets() -> None:
    net = DualPath(3, 40, 32, SECTOR)
    body = 11_689_512 - 513 * 1000 - 49 * 64  # of ResNet-18, without its last layer and its third colour
    assert parameters(net.angles) == body + 513 * 3
    assert parameters(net.channel) == body + 513 * 40 * (2 * 3 + 9)
    assert parameters(net) == parameters(ResNet(2, 3, (1, 1))) + parameters(ResNet(2, 600, (1, 1)))


def test_the_factor_holds_its_numbers_once_each() -> None:
    raw = torch.arange(1.0, 10.0, dtype=torch.float64)
    factor = lower_factor(raw, 3)
    diagonal = torch.log(1 + torch.exp(raw[:3])) + 1e-4
    truth = torch.diag(diagonal).to(torch.complex128)
    truth[1, 0], truth[2, 0], truth[2, 1] = 4 + 7j, 5 + 8j, 6 + 9j
    torch.testing.assert_close(factor, truth)


def test_draws_have_the_mean_the_covariance_and_no_pseudo_covariance() -> None:
    torch.manual_seed(2)
    factor = lower_factor(torch.randn(9, dtype=torch.float64), 3)
    mean = torch.randn(3, dtype=torch.complex128)
    count = 200_000
    draws = reparameterise(mean.expand(count, 3), factor, torch.randn(count, 3, dtype=mean.dtype)) - mean
    truth = factor @ factor.mH
    tolerance = 6 * truth.abs().max() / np.sqrt(count)
    assert draws.mean(0).abs().max() < 6 * truth.abs().max().sqrt() / np.sqrt(count)
    assert (draws.T @ draws.conj() / count - truth).abs().max() < tolerance
    assert (draws.T @ draws / count).abs().max() < tolerance


def test_derivatives_pass_through_a_draw() -> None:
    raw = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    mean = torch.randn(2, 3, dtype=torch.complex128, requires_grad=True)
    noise = torch.randn(2, 3, dtype=torch.complex128)

    def draw(mean: Tensor, raw: Tensor) -> Tensor:
        return reparameterise(mean, lower_factor(raw, 3), noise)

    assert torch.autograd.gradcheck(draw, (mean, raw))


def test_a_path_angle_knows_its_quadrant() -> None:
    gain, angle = recover(torch.tensor([1 + 1j, -1 + 1j, -1 - 1j, -2 + 0j]))
    np.testing.assert_allclose(gain, [2**0.5, 2**0.5, 2**0.5, 2], rtol=1e-6)
    np.testing.assert_allclose(angle, np.pi * np.array([0.25, 0.75, -0.75, 1]), rtol=1e-6)


@pytest.mark.parametrize("average", ["power", "coherent"])
def test_the_spectrum_by_lags_is_the_one_by_steering(average: str, rng: np.random.Generator) -> None:
    observation, _ = observed(rng, 2)
    grid = label_grid(SECTOR, 0.02)
    seen = label_spectrum(observation, grid, 0.7, average)  # type: ignore[arg-type]
    products = observation.numpy() @ array_response(grid.numpy(), 32, 0.7).conj().T
    truth = np.mean(np.abs(products) ** 2, 1) if average == "power" else np.abs(np.mean(products, 1)) ** 2
    np.testing.assert_allclose(seen, truth, rtol=1e-4, atol=1e-3)


def test_maxima_are_those_of_a_search_point_by_point(rng: np.random.Generator) -> None:
    spectra = rng.integers(0, 9, (200, 15)).astype(float)  # with plateaus and maxima at the ends
    found = largest_maxima(torch.from_numpy(spectra), 3).numpy()
    for spectrum, places in zip(spectra, found, strict=True):
        padded = [-1.0, *spectrum, -1.0]
        peaks = [n for n in range(15) if padded[n + 1] > padded[n] and padded[n + 1] >= padded[n + 2]]
        heights = sorted((spectrum[n] for n in peaks), reverse=True)[:3]
        assert set(places[: len(heights)]) <= set(peaks)
        np.testing.assert_array_equal(spectrum[places[: len(heights)]], heights)
        assert len(set(places)) == 3
    flat = torch.zeros(1, 9)
    assert len(set(largest_maxima(flat, 3)[0].tolist())) == 3


def test_labels_are_near_the_users_and_ascend(rng: np.random.Generator) -> None:
    observation, theta = observed(rng, 300, 10.0)
    labels = pseudo_labels(observation, 3, label_grid(SECTOR, np.deg2rad(0.01))).numpy()
    assert np.all(np.diff(labels) > 0)
    error = np.rad2deg(labels - theta)
    assert np.abs(error).max() < 1.79
    assert np.sqrt(np.mean(error**2)) < 0.1


def test_the_papers_labels_fail_as_they_are_printed(rng: np.random.Generator) -> None:
    observation, theta = observed(rng, 200, 10.0)
    grid = label_grid(SECTOR, np.deg2rad(0.05))

    def outliers(**how: object) -> float:
        labels = pseudo_labels(observation, 3, grid, **how).numpy()  # type: ignore[arg-type]
        return float(np.mean(np.any(np.abs(np.rad2deg(labels - theta)) > 1.79, 1)))

    assert outliers() == 0
    assert outliers(average="coherent") > 0.1
    assert outliers(pick="largest") > 0.9


def test_a_strong_mean_makes_the_coherent_average_right(rng: np.random.Generator) -> None:
    observation, theta = observed(rng, 100, 0.0, k_factor_db=20.0)
    labels = pseudo_labels(observation, 3, label_grid(SECTOR, 1e-3), average="coherent").numpy()
    assert np.sqrt(np.mean((labels - theta) ** 2)) < np.deg2rad(0.3)


def test_the_grid_of_labels_is_the_papers() -> None:
    grid = label_grid(SECTOR, np.deg2rad(0.01))
    assert len(grid) == 12_001
    assert (grid[0], grid[-1]) == SECTOR
    np.testing.assert_allclose(np.diff(np.rad2deg(grid.numpy())), 0.01, atol=1e-10)
    with pytest.raises(BadParam, match=r"labels.step is -1, wanted more than 0"):
        label_grid(SECTOR, -1)


def test_the_spectrum_net_gives_powers(rng: np.random.Generator) -> None:
    net = SpectrumNet(32, 61, width=4)
    powers = net(observed(rng, 3)[0])
    assert powers.shape == (3, 61)
    assert torch.all(powers >= 0)


def test_values_that_are_none_are_refused() -> None:
    with pytest.raises(BadParam, match=r"dual_path.users is 0, wanted at least 1\ndual_path.sector is \(1, 1\)"):
        DualPath(0, 3, 4, (1, 1))
