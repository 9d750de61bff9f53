"""Descent of the full loss through the renderer, and how sure its end is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from samrl.model.scene import Params
from samrl.real2sim.problem import Problem, UpdateSettings

PATCH = 10.0  # pixels across that err together


def fine(problem: Problem, X0: Tensor, s: UpdateSettings) -> tuple[Tensor, Params, Tensor, Tensor]:
    """Descend the full loss from X0 (K, N, 4, 4), with the steps and rates of `s`. Returns the best poses met, the last
    parameters with colours and light, and the losses at the start and at the best (K, U)."""
    K, B = len(X0), len(problem.units)
    params = problem.twin.params
    ng = len(params.color)
    open_ = [g for name, g in zip(problem.names, problem.geoms, strict=True) if name not in s.painted]
    free_colors = torch.stack([*open_, torch.zeros(ng, dtype=torch.bool)]).any(0)[:, None].float()
    each = lambda leaf: leaf[:, None].expand(K, len(problem.crops), *leaf.shape[1:])  # noqa: E731
    rates = torch.cat([torch.tensor([s.rate_p] * 3 + [s.rate_r] * 3).repeat(B), torch.full((3 * ng + 4,), s.rate_color)])
    x = torch.zeros(K, len(rates))
    x[:, 6 * B : -4] = match_colors(problem, X0, params).flatten(1)
    x.requires_grad_(True)
    adam = Adam(x, rates)
    first = best = torch.zeros(K, B)
    best_X = X0
    plans = problem.plans(X0)
    for i in range(s.fine_steps + 1):
        pose, tint, light = x.split([6 * B, 3 * ng, 4], 1)
        X = problem.moved(X0, pose.unflatten(1, (B, 6)))
        moved = params.replace(
            color=each(params.color * (tint.unflatten(1, (ng, 3)) * free_colors).exp()),
            light_direction=each(params.light_direction + light[:, :3]),
            ambient=each(params.ambient * light[:, 3:].exp()),
        )
        last = problem.loss(X, moved, plans)
        with torch.no_grad():
            if i == 0:
                first, best, best_X = last.clone(), last.clone(), X.clone()
            better = last < best
            best = torch.where(better, last, best)
            best_X = torch.where(better[:, problem.owner, None, None], X, best_X)
        if i == s.fine_steps:
            break
        (gradient,) = torch.autograd.grad(last.sum(), x)
        adam.step(gradient, 0.5 * (1 + math.cos(math.pi * i / s.fine_steps)) + 0.03)
    return best_X, moved, first, best


class Adam:
    """Adam (Kingma and Ba 2015) on one tensor (K, n) with a rate for each column: torch's own costs ten times as much on so few
    numbers."""

    BETA1, BETA2 = 0.8, 0.95

    def __init__(self, x: Tensor, rates: Tensor) -> None:
        self.x, self.rates, self.steps = x, rates, 0
        self.mean, self.square = torch.zeros_like(x), torch.zeros_like(x)

    def step(self, gradient: Tensor, share: float) -> None:
        """One step, its rates times `share`."""
        self.steps += 1
        self.mean.lerp_(gradient, 1 - self.BETA1)
        self.square.lerp_(gradient.square(), 1 - self.BETA2)
        deviation = (self.square / (1 - self.BETA2**self.steps)).sqrt_().add_(1e-8)
        with torch.no_grad():
            self.x.addcdiv_(self.mean * self.rates, deviation, value=-share / (1 - self.BETA1**self.steps))


def match_colors(problem: Problem, X: Tensor, params: Params) -> Tensor:
    """Logarithmic tints (K, ng, 3) that give each body the mean colour that its mask shows, at each start X (K, N, 4, 4)."""
    with torch.no_grad():
        image = problem.render(X, params)
    tint = torch.zeros(len(X), *params.color.shape)
    for b, body in enumerate(problem.names):
        if not problem.seen[b]:
            continue
        real = (problem.masks[b][..., None] * problem.color).sum((0, 1, 2)) / problem.masks[b].sum().clamp_min(1e-3)
        mask = image.masks[body]
        area = mask.sum((1, 2, 3))[:, None]
        sim = (mask[..., None] * image.color).sum((1, 2, 3)) / area.clamp_min(1e-3)
        wanted = (real.clamp_min(0.02) / sim.clamp_min(0.02)).log()
        tint[:, problem.geoms[b]] = torch.where(area > 1, wanted, 0.0)[:, None]
    return tint


def colors_of(params: Params, found: Params, problem: Problem, best: Tensor, light: bool = True) -> Params:
    """`params` with each body's colours from its best start in `found` (K, C, ...), and, if asked for, the light of the first
    body's."""
    color = params.color.clone()
    for b, geoms in enumerate(problem.geoms):
        color[geoms] = found.color[best[b], 0][geoms].detach()
    params = params.replace(color=color)
    return params.replace(**{n: getattr(found, n)[best[0], 0].detach() for n in ("light_direction", "ambient")} if light else {})


def uncertainty(problem: Problem, X: Tensor, params: Params) -> tuple[dict[str, float], dict[str, Tensor]]:
    """How sure the poses X (1, N, 4, 4) are, from this exposure alone. Returns, by unit, the root mean square of what is left
    in the masked images, and the information (6, 6) that they hold on its tangent vector (`Problem.moved`), the inverse of its
    covariance, from the curvature of the squared residuals (Gauss-Newton: JᵀJ / residual variance, J by differences). What is
    left comes from foreign shading, shadows and shapes, which cover patches rather than pixels: PATCH is their width."""
    B, step = len(problem.units), torch.tensor([1e-3] * 3 + [2e-2] * 3)
    moves = torch.cat([torch.zeros(1, 6), torch.diag(step)])[:, None].expand(7, B, 6)  # all bodies at once: each has its mask
    with torch.no_grad():
        image = problem.render(problem.moved(X.expand(len(moves), -1, -1, -1), moves), params)
    residual, information = {}, {}
    for b, body in enumerate(problem.names):
        if not problem.seen[b]:
            continue
        sim, real = image.masks[body], problem.masks[b]
        z = problem.depths[b]
        both = (z > 0) & (sim > 0.99).all(0)  # what all the poses show
        dz = problem.s.weight_depth * (image.depth - z).clamp(-problem.s.depth_cap, problem.s.depth_cap) * both
        color = sim[..., None] * image.color - real[..., None] * problem.color
        r = torch.cat([color, (sim - real)[..., None], dz[..., None]], -1)
        r = (r * problem.weight[..., None]).flatten(1)
        J = (r[1:] - r[0]) / step[:, None]
        count = float((real * problem.weight).sum()) * 5
        variance = float(r[0].square().sum()) / max(count, 1.0)
        J = J / PATCH
        residual[body] = math.sqrt(variance)
        information[body] = J @ J.T / max(variance, 1e-6)
    return residual, information
