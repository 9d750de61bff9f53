"""The two terms of SAM-RL Eq. 2-4: masked colour and the Earth Mover Distance of point clouds."""

from __future__ import annotations

import numpy as np
import ot
import torch
from torch import Tensor


def masked_color(color: Tensor, mask: Tensor, color_real: Tensor, mask_real: Tensor, weight: Tensor) -> Tensor:
    """Sum over crops and pixels of |G ⊗ (I, 1) − G' ⊗ (I', 1)| per pixel of G', so that a small body counts as much as a
    large one: (*batch, C, S, S, 3) and (*batch, C, S, S) -> (*batch).

    The appended 1 compares the masks themselves, so that a body of its background's colour, or a dark one, still has an
    outline. `weight` (C, S, S) leaves out pixels whose occluder the twin draws too coarsely."""
    return _MaskedColor.apply(color, mask, color_real, mask_real, weight)  # type: ignore[no-any-return]


class _MaskedColor(torch.autograd.Function):
    """The sum and its gradient in one pass over the pixels: left to autograd, this loss costs more than the rendering."""

    @staticmethod
    def forward(ctx, color, mask, color_real, mask_real, weight):  # type: ignore[no-untyped-def]
        scale = weight / (mask_real * weight).sum().clamp_min(1.0)
        image = mask[..., None] * color - mask_real[..., None] * color_real
        outline = mask - mask_real
        value = ((image.abs().sum(-1) / 3 + outline.abs()) * scale).sum((-3, -2, -1))
        sign = image.sign_() * (scale / 3)[..., None]
        ctx.save_for_backward(sign * mask[..., None], (sign * color).sum(-1) + outline.sign_() * scale)
        return value

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        by_color, by_mask = ctx.saved_tensors
        return g[..., None, None, None, None] * by_color, g[..., None, None, None] * by_mask, None, None, None


def transport_plan(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Exact optimal transport between two clouds (n, 3) and (m, 3) of equal total mass, by POT's network simplex.

    Returns the plan's non-zero entries: indices into x, into y, and masses that sum to 1. Held fixed, the plan makes the
    distance differentiable (envelope theorem)."""
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    cost = torch.cdist(x.double(), y.double()).numpy()
    plan = ot.emd(a, b, cost, numItermax=200_000)
    i, j = np.nonzero(plan)
    return torch.from_numpy(i), torch.from_numpy(j), torch.from_numpy(plan[i, j]).to(x.dtype)


def earth_mover(x: Tensor, y: Tensor, plan: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Earth Mover Distance [m] under a fixed plan; x (*batch, n, 3), y (m, 3) -> (*batch)."""
    i, j, mass = plan
    return ((x[..., i, :] - y[j]).square().sum(-1) + 1e-10).sqrt() @ mass
