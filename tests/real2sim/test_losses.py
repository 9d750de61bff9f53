"""Earth Mover Distance and masked colour."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from samrl.real2sim.losses import earth_mover, masked_color, transport_plan


def cloud(n: int, seed: int) -> torch.Tensor:
    return 0.03 * torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equal_clouds_are_an_assignment() -> None:
    x, y = cloud(64, 0), cloud(64, 1) + 0.01
    cost = torch.cdist(x, y).numpy()
    i, j = linear_sum_assignment(cost)
    assert abs(float(earth_mover(x, y, transport_plan(x, y))) - cost[i, j].mean()) < 1e-6


def test_unequal_clouds_keep_their_mass() -> None:
    x, y = cloud(40, 0), cloud(64, 1)
    i, j, mass = transport_plan(x, y)
    assert np.allclose(np.bincount(i.numpy(), mass.numpy(), 40), 1 / 40)
    assert np.allclose(np.bincount(j.numpy(), mass.numpy(), 64), 1 / 64)


def test_gradient_is_that_of_the_distance() -> None:
    x, y = cloud(32, 0).requires_grad_(), cloud(32, 1)
    earth_mover(x, y, transport_plan(x.detach(), y)).backward()
    distance = lambda z: float(earth_mover(z, y, transport_plan(z, y)))  # noqa: E731
    for k in range(3):
        e = torch.zeros_like(y)
        e[5, k] = 1e-6
        numeric = (distance(x.detach() + e) - distance(x.detach() - e)) / 2e-6
        assert abs(numeric - float(x.grad[5, k])) < 1e-4


def test_masked_color_sees_outlines_of_black_bodies() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:5, 2:5] = 1
    black, weight = torch.zeros(1, 8, 8, 3), torch.ones(1, 8, 8)
    assert float(masked_color(black, mask, black, mask, weight)) == 0
    assert float(masked_color(black, mask, black, mask.roll(1, 1), weight)) > 0
    hidden = torch.zeros_like(weight)
    assert float(masked_color(black, mask, black, mask.roll(1, 1), hidden)) == 0


def test_masked_color_gradient_is_autograds() -> None:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    color, mask = draw(2, 3, 6, 6, 3).requires_grad_(), draw(2, 3, 6, 6).requires_grad_()
    real = (draw(3, 6, 6, 3), draw(3, 6, 6), draw(3, 6, 6))

    def plain(color: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        image = mask[..., None] * color - real[1][..., None] * real[0]
        pixel = image.abs().mean(-1) + (mask - real[1]).abs()
        return (pixel * real[2]).sum((-3, -2, -1)) / (real[1] * real[2]).sum()

    weights = torch.tensor([1.0, 2.0], dtype=torch.float64)
    wanted = torch.autograd.grad((plain(color, mask) * weights).sum(), (color, mask))
    value = masked_color(color, mask, *real)
    assert torch.allclose(value, plain(color, mask))
    for a, b in zip(torch.autograd.grad((value * weights).sum(), (color, mask)), wanted, strict=True):
        assert torch.allclose(a, b)
