"""Earth Mover Distance and masked images."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from samrl.core import lie
from samrl.core.errors import NonFiniteError
from samrl.real2sim.losses import MaskedImage, Plan, exact_plan, paired_plan, transport


def cloud(n: int, seed: int) -> torch.Tensor:
    return 0.03 * torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Earth Mover Distance of one body's points, through the batch of starts and bodies."""
    X = torch.eye(4, dtype=x.dtype)[None, None]
    return transport(X, [[x.detach()]], [y], exact=True).distance(X)[0, 0]


def test_equal_clouds_are_an_assignment() -> None:
    x, y = cloud(64, 0), cloud(64, 1) + 0.01
    cost = torch.cdist(x, y).numpy()
    i, j = linear_sum_assignment(cost)
    assert abs(float(distance(x, y)) - cost[i, j].mean()) < 1e-6


def test_unequal_clouds_keep_their_mass() -> None:
    x, y = cloud(40, 0), cloud(64, 1)
    i, j, mass = exact_plan(x, y)
    assert np.allclose(np.bincount(i.numpy(), mass.numpy(), 40), 1 / 40)
    assert np.allclose(np.bincount(j.numpy(), mass.numpy(), 64), 1 / 64)


def test_gradient_is_that_of_the_distance() -> None:
    x, y = cloud(32, 0), cloud(32, 1)
    X = torch.eye(4, dtype=x.dtype)[None, None]
    move = torch.zeros(1, 1, 6, dtype=x.dtype, requires_grad=True)
    transport(X, [[x]], [y], exact=True).distance(lie.retract(X, move)).sum().backward()
    for k in range(6):
        e = torch.zeros(6, dtype=x.dtype)
        e[k] = 1e-6
        ends = [float(distance(lie.transform(lie.retract(X[0, 0], s * e), x), y)) for s in (1, -1)]
        assert abs((ends[0] - ends[1]) / 2e-6 - float(move.grad[0, 0, k])) < 1e-4


def box(n: int, seed: int) -> torch.Tensor:
    """Points on the sides of a block."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(n, 3, generator=generator)
    p[torch.arange(n), torch.randint(3, (n,), generator=generator)] = 1.0
    return p * torch.tensor([0.09, 0.08, 0.05])


def judged(x: torch.Tensor, y: torch.Tensor, plan: Plan) -> tuple[float, torch.Tensor]:
    """A plan's length, and its gradient by the pose of x."""
    i, j, mass = plan
    d = x[i] - y[j]
    unit = d / d.norm(dim=-1, keepdim=True) * mass[:, None]
    return float((d.norm(dim=-1) * mass).sum()), torch.cat([unit.sum(0), torch.linalg.cross(x[i], unit).sum(0) / 0.05])


@pytest.mark.parametrize(("count", "other"), [(512, 512), (192, 192), (150, 192)])
def test_auction_finds_the_distance_and_its_gradient(count: int, other: int) -> None:
    moves = [[0.005, -0.003, 0.002, 0.05, 0.1, -0.1], [0.03, 0.02, -0.01, 0.2, -0.3, 0.1]]
    if count == other:  # else the clouds' own differences are all that is left
        moves.append([0.0] * 6)
    for seed, move in enumerate(moves):
        x, y = box(count, 2 * seed), box(other, 2 * seed + 1)
        y = lie.transform(lie.retract(torch.eye(4), torch.tensor(move)), y)
        (want, want_g), (found, found_g) = (judged(x, y, plan(x, y)) for plan in (exact_plan, paired_plan))
        assert abs(found / want - 1) < (1e-3 if count == other else 0.03)
        assert float(torch.cosine_similarity(found_g, want_g, dim=0)) > (0.99 if count == other else 0.98)


def test_auction_of_equal_points_ends() -> None:
    x, y = torch.zeros(100, 3), torch.cat([torch.ones(50, 3), box(50, 0)])
    _, j, _ = paired_plan(x, y)
    assert sorted(j.tolist()) == list(range(100))
    _, j, _ = paired_plan(x, x)
    assert sorted(j.tolist()) == list(range(100))


def test_auction_refuses_points_that_are_not_finite() -> None:
    x = torch.full((10, 3), torch.nan)
    with pytest.raises(NonFiniteError, match="points"):
        paired_plan(x, torch.zeros(10, 3))


def test_bodies_without_points_have_no_distance() -> None:
    X = torch.eye(4)[None, None].expand(2, 2, 4, 4)
    x, y = cloud(20, 0).float(), cloud(30, 1).float()
    plans = transport(X, [[x, None], [None, x]], [y, None])
    assert plans.known.tolist() == [[True, False], [False, False]]
    assert plans.distance(X).gt(0).tolist() == plans.known.tolist()


def test_masked_image_sees_outlines_of_black_bodies() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:5, 2:5] = 1
    black, depth, weight = torch.zeros(1, 8, 8, 3), torch.zeros(1, 8, 8), torch.ones(1, 8, 8)

    def loss(mask_real: torch.Tensor, weight: torch.Tensor) -> float:
        return float(MaskedImage(black, depth[:, None], mask_real, weight, 10.0, 0.02)(black[None], depth[None], mask[None]))

    assert loss(mask, weight) == 0
    assert loss(mask.roll(1, -1), weight) > 0
    assert loss(mask.roll(1, -1), torch.zeros_like(weight)) == 0


def test_masked_image_compares_depth_where_both_show_the_body() -> None:
    mask, color, weight = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, 3), torch.ones(1, 4, 4)
    mask[..., 1:3, 1:3] = 1
    real = 0.5 * mask
    real[..., 1, 1] = 0  # no reading
    masked = MaskedImage(color, real, mask, weight, 10.0, 0.02)
    off = lambda e: float(masked(color[None], torch.full((1, 1, 4, 4), 0.5 + e), mask[None]))  # noqa: E731
    assert off(0.0) == 0
    assert abs(off(0.004) - 10 * 0.004 * 3 / 4) < 1e-6
    assert abs(off(0.3) - 10 * 0.02 * 3 / 4) < 1e-6


def test_masked_image_gradient_is_autograds() -> None:
    g = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    color, masks = draw(2, 3, 6, 6, 3), (2 * draw(2, 3, 2, 6, 6)).clamp(max=1)  # half of them whole
    depth, depth_real = 0.5 + 0.03 * draw(2, 3, 6, 6), 0.5 + 0.03 * draw(3, 2, 6, 6)
    images = tuple(x.requires_grad_() for x in (color, depth, masks))
    color_real, masks_real, weight = draw(3, 6, 6, 3), draw(3, 2, 6, 6), draw(3, 6, 6)
    depth_real[draw(3, 2, 6, 6) < 0.2] = 0

    def plain(color: torch.Tensor, depth: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        image = masks[..., None] * color[:, :, None] - (masks_real[..., None] * color_real[:, None])
        far = (depth[:, :, None] - depth_real).abs().clamp(max=0.02) * ((masks > 0.99) & (depth_real > 0))
        pixel = (image.abs().mean(-1) + (masks - masks_real).abs() + 40 * far) * weight[:, None]
        return pixel.sum((1, 3, 4)) / (masks_real * weight[:, None]).sum((0, 2, 3))

    share = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    wanted = torch.autograd.grad((plain(*images) * share).sum(), images)
    value = MaskedImage(color_real, depth_real, masks_real, weight, 40.0, 0.02)(*images)
    assert torch.allclose(value, plain(*images), rtol=1e-5)
    for a, b in zip(torch.autograd.grad((value * share).sum(), images), wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-6) and float(a.abs().max()) > 0
