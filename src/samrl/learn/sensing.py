"""What a look will be off by: the error of an update's estimate as a distribution that depends on the view, learned from looks
that were tried (`sim2real/sensing.py`). Rollouts in 𝓜 sample it, so that a bad view costs there what it costs outside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from samrl.core import lie
from samrl.core.camera import Camera
from samrl.core.nets import mlp
from samrl.model.model import Model
from samrl.model.scene import Params
from samrl.model.units import Unit, between

SIZE, WIDTH = 48, 0.096  # the crop in which visible pixels are counted: pixels, and metres across
NEAR = 0.06  # what of a unit is farther from its origin, in depth, does not count [m]
LEAST = 12.0 * (0.0012 * SIZE / WIDTH) ** 2  # a unit that shows fewer pixels keeps the estimate it has: twelve of the update's
FREEDOM = 3.0  # of Student's t: most looks are good, a few are far off
MOST = 6.0  # logarithm of how much better or worse than an ordinary look any is: from a body that fell and falls, a network would
# make infinity


def shown(model: Model, params: Params, X_WL: Tensor, X_WC: Tensor) -> Tensor:
    """Pixels (n, U) that show each unit, in a crop of its own, of links X_WL (n, nl, 4, 4) from X_WC (n, 4, 4)."""
    counts = []
    for unit, center in zip(model.units, model.frames(X_WL)[..., :3, 3].unbind(1), strict=True):
        with torch.no_grad():
            image = model.renderer.render(params, X_WL, Camera.around(X_WC, center, SIZE, WIDTH))
        z = lie.transform(lie.inverse(X_WC), center[:, None])[..., 2:]
        counts.append((image.masks[unit.name] * ((image.depth - z).abs() < NEAR)).sum((-2, -1)))
    return torch.stack(counts, -1)


def features(counts: Tensor, X_WU: Tensor, X_WC: Tensor) -> Tensor:
    """What the error depends on: (n, U, 4) from visible pixels (n, U), true frames (n, U, 4, 4) and cameras (n, 4, 4):
    the logarithm of the pixels, the distance, the sine of the angle between the ray and the unit's z axis, and its slope."""
    ray = X_WU[..., :3, 3] - X_WC[:, None, :3, 3]
    distance = ray.norm(dim=-1)
    ray = ray / distance[..., None]
    along = (ray * X_WU[..., :3, 2]).sum(-1)
    return torch.stack(
        [(1 + counts).log() / 3 - 1, 4 * (distance - 0.4), (1 - along.square()).clamp_min(0).sqrt(), ray[..., 2]], -1
    )


class Sensing(nn.Module):
    """Standard deviations of the error's six components, in the camera's axes, by unit: Student's t with FREEDOM degrees.

    `forward`: features (n, U, 4) -> scales (n, U, 6) [m, rad]."""

    def __init__(self, units: int, generator: torch.Generator) -> None:
        super().__init__()
        self.nets = nn.ModuleList(mlp([4, 32, 32, 6], generator, 0.1) for _ in range(units))

    def forward(self, x: Tensor) -> Tensor:
        raw = torch.stack([net(x[:, b]) for b, net in enumerate(self.nets)], 1)
        return raw.clamp(-MOST, MOST).exp() * raw.new_tensor([3e-4] * 3 + [1e-2] * 3)

    def sample(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Errors (n, U, 6) in the camera's axes, cut at eight scales."""
        scale = self(x)
        normal = torch.randn(scale.shape, generator=generator)
        chi = torch.randn((*scale.shape[:-1], int(FREEDOM)), generator=generator).square().sum(-1, keepdim=True) / FREEDOM
        return scale * (normal / chi.sqrt()).clamp(-8, 8)

    def loss(self, x: Tensor, error: Tensor, seen: Tensor) -> Tensor:
        """Mean negative log-likelihood of errors (n, U, 6) where `seen` (n, U)."""
        scale = self(x)
        each = scale.log() + 0.5 * (FREEDOM + 1) * (1 + (error / scale).square() / FREEDOM).log()
        return (each.mean(-1) * seen).sum() / seen.sum().clamp_min(1)


def error_in_camera(
    units: Sequence[Unit], found: Tensor, truth: Tensor, X_WP: Tensor, X_WC: Tensor, round_unit: Sequence[bool]
) -> Tensor:  # fmt: skip
    """How far estimates (n, N, 4, 4) of the bodies in their parents are off, as tangent vectors in the axes of cameras (n, 4, 4):
    (n, U, 6) [m, rad]. X_WP: (n, U, 4, 4) of the parents. A body that is round about its z axis has no error about it."""
    d = between(units, truth, found)
    first = [sum(len(u.bodies) for u in units[:i]) for i in range(len(units))]
    axis = torch.linalg.cross(truth[:, first, :3, 2], found[:, first, :3, 2])
    w = torch.where(torch.tensor(round_unit)[:, None], axis, d[..., 3:])
    R_CP = X_WC[:, None, :3, :3].mT @ X_WP[..., :3, :3]
    return torch.cat([(R_CP @ d[..., :3, None])[..., 0], (R_CP @ w[..., None])[..., 0]], -1)


def fit(x: Tensor, error: Tensor, seen: Tensor, seed: int, steps: int = 2000) -> tuple[Sensing, float]:
    """Learn from rows: features (n, U, 4), errors (n, U, 6), seen (n, U) boolean. A fifth of the rows is held out; returns the
    network of the step that was best on it, and its mean negative log-likelihood there."""
    generator = torch.Generator().manual_seed(seed)
    net = Sensing(x.shape[1], generator)
    order = torch.randperm(len(x), generator=generator)
    held, rest = order[: len(x) // 5], order[len(x) // 5 :]
    optimizer = torch.optim.Adam(net.parameters(), 3e-3, weight_decay=1e-5)
    best, kept = float("inf"), net.state_dict()
    for i in range(steps):
        optimizer.zero_grad()
        net.loss(x[rest], error[rest], seen[rest]).backward()
        optimizer.step()
        if i % 20 == 19:
            with torch.no_grad():
                value = float(net.loss(x[held], error[held], seen[held]))
            if value < best:
                best, kept = value, {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(kept)
    return net, best
