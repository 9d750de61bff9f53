"""The two terms of SAM-RL Eq. 2-4: masked images and the Earth Mover Distance of point clouds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import ot
import torch
import warp as wp
from torch import Tensor

from samrl.core import lie
from samrl.core.errors import check_finite
from samrl.core.launches import Launches, Slot, array, load, workers
from samrl.real2sim import auction_kernels, loss_kernels


class MaskedImage:
    """Σ over crops and pixels of |G ⊗ (I, 1, κz) − G' ⊗ (I', 1, κz')| for each body, per pixel of its G', so that a small body
    counts as much as a large one. The appended 1 compares the masks themselves, so that a body of its background's colour, or a
    dark one, still has an outline. Depths z are compared where both images show the body alone: they tell the distance from the
    camera, which an outline tells badly, and slide along a surface freely, which points under a fixed transport plan do not.

    Args:
        color_real: (C, S, S, 3); depth_real: (C, B, S, S) of each body [m], 0 where there is no reading;
            masks_real: (C, B, S, S).
        weight: (C, S, S), leaves out pixels whose occluder the twin draws too coarsely.
        per_meter: κ; cap [m]: differences of depth beyond it count as it, without a gradient.
    """

    def __init__(
        self, color_real: Tensor, depth_real: Tensor, masks_real: Tensor, weight: Tensor, per_meter: float, cap: float,
        threads: int = 2,
    ) -> None:  # fmt: skip
        pixels = (masks_real * weight[:, None]).sum((0, 2, 3)).clamp_min(1.0)
        real = (color_real, depth_real, masks_real, weight[:, None] / pixels[:, None, None])
        self.real = [x.float().contiguous() for x in real]
        self.scales, self.threads = (per_meter, cap), threads
        self._comparisons: dict[int, _Comparison] = {}

    def __call__(self, color: Tensor, depth: Tensor, masks: Tensor) -> Tensor:
        """Rendered color (K, C, S, S, 3), depth (K, C, S, S) and masks (K, C, B, S, S) -> (K, B)."""
        if len(color) not in self._comparisons:
            self._comparisons[len(color)] = _Comparison(self.real, self.scales, len(color), self.threads)
        images = (x.contiguous() for x in (color, depth, masks))
        return _MaskedImage.apply(*images, self._comparisons[len(color)])  # type: ignore


class _Comparison:
    """Packed launches that compare K starts with the real images, and back."""

    def __init__(self, real: list[Tensor], scales: tuple[float, float], starts: int, threads: int) -> None:
        C, B, H, W = real[2].shape
        n, device = starts * C, str(real[0].device)
        self.starts, self.rows = starts, torch.empty(n, H, B, device=device)
        self.color, self.g_color = (Slot((n, H, W, 3), wp.vec3, device) for _ in range(2))
        self.depth, self.g_depth = (Slot((n, H, W), wp.float32, device) for _ in range(2))
        self.masks, self.g_masks = (Slot((n, B, H, W), wp.float32, device) for _ in range(2))
        self.g_value = Slot((starts, B), wp.float32, device)
        shown = (self.color.array, self.depth.array, self.masks.array)
        given = (C, *shown, array(real[0], wp.vec3), *map(array, real[1:]), *scales)
        back = (self.g_value.array, self.g_color.array, self.g_depth.array, self.g_masks.array)
        self.compare = Launches([(loss_kernels.compare, H, (*given, array(self.rows)))], n, threads, device)
        self.pull_back = Launches([(loss_kernels.pull_back, H, (*given, *back))], n, threads, device)


class _MaskedImage(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *inputs) -> Tensor:  # type: ignore[no-untyped-def, override]
        *images, packed = inputs
        ctx.save_for_backward(*images)
        ctx.packed = packed
        for slot, x in zip((packed.color, packed.depth, packed.masks), images, strict=True):
            slot.bind(x.flatten(0, 1))
        packed.compare.launch()
        return packed.rows.view(packed.starts, -1, packed.rows.shape[-1]).sum(1)

    @staticmethod
    def backward(ctx, g: Tensor):  # type: ignore[no-untyped-def, override]
        images, packed, g = ctx.saved_tensors, ctx.packed, g.contiguous()
        out = [torch.empty_like(x) for x in images]
        slots = (packed.color, packed.depth, packed.masks, packed.g_color, packed.g_depth, packed.g_masks)
        for slot, x in zip(slots, (*images, *out), strict=True):
            slot.bind(x.flatten(0, 1))
        packed.g_value.bind(g)
        packed.pull_back.launch()
        return *out, None


@dataclass(frozen=True)
class Transport:
    """Optimal plans between the points of simulated and real bodies, for K starts and B bodies: pairs and their masses.

    Attributes:
        p_L: (K, B, N, 3) simulated points in the body's frame; y_W: (K, B, N, 3) the real points they go to [m].
        mass: (K, B, N), which sum to 1, or to 0 where there is no plan; `known`: (K, B) whether there is one.
    """

    p_L: Tensor
    y_W: Tensor
    mass: Tensor
    known: Tensor

    def distance(self, X: Tensor) -> Tensor:
        """Earth Mover Distance (K, B) [m] of bodies at X (K, B, 4, 4). Held fixed, optimal plans make it differentiable
        (envelope theorem)."""
        return ((self.moved(X) - self.y_W).square().sum(-1) + 1e-10).sqrt().mul(self.mass).sum(-1)

    def moved(self, X: Tensor) -> Tensor:
        """The points in the world (K, B, N, 3), with bodies at X."""
        return self.p_L @ X[..., :3, :3].mT + X[..., None, :3, 3]


Plan = tuple[Tensor, Tensor, Tensor]
"""Pairs of two clouds' points that mass goes between: indices into the first, into the second, and masses that sum to 1."""

TOLERANCE = 1e-4  # of the largest distance: how far from the shortest a pair may be at the end of an auction


def exact_plan(x: Tensor, y: Tensor) -> Plan:
    """Optimal transport between two clouds (n, 3) and (m, 3) of equal total mass, by POT's network simplex."""
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    cost = torch.cdist(x.double(), y.double()).numpy()
    plan = ot.emd(a, b, cost, numItermax=200_000)
    i, j = np.nonzero(plan)
    return torch.from_numpy(i), torch.from_numpy(j), torch.from_numpy(plan[i, j]).to(x.dtype)


def paired_plan(x: Tensor, y: Tensor) -> Plan:
    """Optimal transport between two clouds (n, 3) and (m, 3), but for TOLERANCE, by an auction (Bertsekas 1988, "The Auction
    Algorithm": each point bids for its cheapest partner, by its gain over the next best and a step that shrinks). Of the smaller
    cloud some points are taken twice, evenly. Raises NonFiniteError if a point is not finite."""
    n = max(len(x), len(y))
    i, j = (torch.linspace(0, len(z) - 1, n).round().long() for z in (x, y))
    check_finite("points", x)
    check_finite("points", y)
    points = [z[k].float().contiguous() for z, k in ((x, i), (y, j))]
    width = -(-n // 16) * 16
    costs, prices = torch.empty(n * width), torch.empty(width)
    owner, partner, waiting = (torch.empty(n, dtype=torch.int32) for _ in range(3))
    inputs = [*(array(z, wp.vec3) for z in points), TOLERANCE, *map(array, (costs, prices, owner, partner, waiting))]
    load(auction_kernels.auction, "cpu")
    wp.launch(auction_kernels.auction, dim=1, inputs=inputs, device="cpu")
    return i, j[partner.long()], torch.full((n,), 1 / n, dtype=x.dtype)


def transport(X: Tensor, points_L: list[list[Tensor | None]], clouds_W: list[Tensor | None], exact: bool = False) -> Transport:
    """Plans for every start k and body b, from points_L[k][b] (n, 3) in the body's frame, bodies at X (K, B, 4, 4), to the
    measured clouds_W[b] (m, 3). `exact`: by `exact_plan`."""
    K, B = X.shape[:2]
    some = [(k, b) for k in range(K) for b in range(B) if points_L[k][b] is not None and clouds_W[b] is not None]
    plan = exact_plan if exact else paired_plan

    def pairs(place: tuple[int, int]) -> Plan:
        k, b = place
        p_L, y_W = points_L[k][b], clouds_W[b]
        assert p_L is not None and y_W is not None
        i, j, mass = plan(lie.transform(X[place], p_L), y_W)
        return p_L[i], y_W[j], mass

    found = list(workers().map(pairs, some))
    width = max((len(mass) for _, _, mass in found), default=1)
    p, q, m = X.new_zeros(K, B, width, 3), X.new_zeros(K, B, width, 3), X.new_zeros(K, B, width)
    for (k, b), (p_L, y_W, mass) in zip(some, found, strict=True):
        p[k, b, : len(mass)], q[k, b, : len(mass)], m[k, b, : len(mass)] = p_L, y_W, mass
    return Transport(p, q, m, m.sum(-1) > 0)
