"""Earth Mover Distance and masked colour."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from samrl.core import lie
from samrl.real2sim.losses import MaskedColor, transport, transport_plan


def cloud(n: int, seed: int) -> torch.Tensor:
    return 0.03 * torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Earth Mover Distance of one body's points, through the batch of starts and bodies."""
    X = torch.eye(4, dtype=x.dtype)[None, None]
    return transport(X, [[x.detach()]], [y]).distance(X)[0, 0]


def test_equal_clouds_are_an_assignment() -> None:
    x, y = cloud(64, 0), cloud(64, 1) + 0.01
    cost = torch.cdist(x, y).numpy()
    i, j = linear_sum_assignment(cost)
    assert abs(float(distance(x, y)) - cost[i, j].mean()) < 1e-6


def test_unequal_clouds_keep_their_mass() -> None:
    x, y = cloud(40, 0), cloud(64, 1)
    i, j, mass = transport_plan(x, y)
    assert np.allclose(np.bincount(i.numpy(), mass.numpy(), 40), 1 / 40)
    assert np.allclose(np.bincount(j.numpy(), mass.numpy(), 64), 1 / 64)


def test_gradient_is_that_of_the_distance() -> None:
    x, y = cloud(32, 0), cloud(32, 1)
    X = torch.eye(4, dtype=x.dtype)[None, None]
    move = torch.zeros(1, 1, 6, dtype=x.dtype, requires_grad=True)
    transport(X, [[x]], [y]).distance(lie.retract(X, move)).sum().backward()
    for k in range(6):
        e = torch.zeros(6, dtype=x.dtype)
        e[k] = 1e-6
        ends = [float(distance(lie.transform(lie.retract(X[0, 0], s * e), x), y)) for s in (1, -1)]
        assert abs((ends[0] - ends[1]) / 2e-6 - float(move.grad[0, 0, k])) < 1e-4


def test_bodies_without_points_have_no_distance() -> None:
    X = torch.eye(4)[None, None].expand(2, 2, 4, 4)
    x, y = cloud(20, 0).float(), cloud(30, 1).float()
    plans = transport(X, [[x, None], [None, x]], [y, None])
    assert plans.known.tolist() == [[True, False], [False, False]]
    assert plans.distance(X).gt(0).tolist() == plans.known.tolist()


def test_masked_color_sees_outlines_of_black_bodies() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 2:5] = 1
    black, weight = torch.zeros(1, 8, 8, 3), torch.ones(1, 8, 8)
    aside = MaskedColor(black, mask.roll(1, -1), weight)
    assert float(MaskedColor(black, mask, weight)(black[None], mask[None])) == 0
    assert float(aside(black[None], mask[None])) > 0
    hidden = torch.zeros_like(weight)
    assert float(MaskedColor(black, mask.roll(1, -1), hidden)(black[None], mask[None])) == 0


def test_masked_color_gradient_is_autograds() -> None:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    color, masks = draw(2, 3, 6, 6, 3).requires_grad_(), draw(2, 3, 2, 6, 6).requires_grad_()
    color_real, masks_real, weight = draw(3, 6, 6, 3), draw(3, 2, 6, 6), draw(3, 6, 6)

    def plain(color: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        image = masks[..., None] * color[:, :, None] - (masks_real[..., None] * color_real[:, None])
        pixel = (image.abs().mean(-1) + (masks - masks_real).abs()) * weight[:, None]
        return pixel.sum((1, 3, 4)) / (masks_real * weight[:, None]).sum((0, 2, 3))

    share = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    wanted = torch.autograd.grad((plain(color, masks) * share).sum(), (color, masks))
    value = MaskedColor(color_real, masks_real, weight)(color, masks)
    assert torch.allclose(value, plain(color, masks), rtol=1e-5)
    for a, b in zip(torch.autograd.grad((value * share).sum(), (color, masks)), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
