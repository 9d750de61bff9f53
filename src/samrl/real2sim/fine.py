"""Descent of the full loss through the renderer, and how sure its end is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from samrl.core import lie
from samrl.model.scene import Params
from samrl.real2sim.problem import Problem, UpdateSettings

PATCH = 25.0  # pixels across that err together


def fine(problem: Problem, X0: Tensor, s: UpdateSettings) -> tuple[Tensor, Params, Tensor, Tensor]:
    """Descend the full loss from X0 (K, B, 4, 4), with the steps and rates of `s`. Returns the best poses met, the last
    parameters with colours and light, and the losses at the start and at the best (K, B)."""
    K, B = X0.shape[:2]
    params = problem.twin.params
    pose = torch.zeros(K, B, 6, requires_grad=True)
    tint = torch.zeros(K, len(params.color), 3)
    tint += match_colors(problem, X0, params)
    tint.requires_grad_(True)
    light = torch.zeros(K, 4, requires_grad=True)
    each = lambda leaf: leaf[:, None].expand(K, len(problem.crops), *leaf.shape[1:])  # noqa: E731
    free_colors = torch.stack(problem.geoms).any(0)[:, None].float()
    step = torch.tensor([s.rate_p] * 3 + [s.rate_r] * 3)
    optimizer = torch.optim.Adam(
        [{"params": [pose], "lr": 1.0}, {"params": [tint, light], "lr": s.rate_color}], betas=(0.8, 0.95), fused=True
    )
    first = best = torch.zeros(K, B)
    best_X = X0
    plans = problem.plans(X0)
    for i in range(s.fine_steps + 1):
        X = lie.retract(X0, pose * step)
        if i and i % s.replan == 0 and i + s.replan // 2 <= s.fine_steps:  # worth it only if some steps are left
            plans = problem.plans(X.detach())
        moved = params.replace(
            color=each(params.color * (tint * free_colors).exp()),
            light_direction=each(params.light_direction + light[:, :3]),
            ambient=each(params.ambient * light[:, 3:].exp()),
        )
        last = problem.loss(X, moved, plans)
        with torch.no_grad():
            if i == 0:
                first, best, best_X = last.clone(), last.clone(), X.clone()
            better = last < best
            best, best_X = torch.where(better, last, best), torch.where(better[..., None, None], X, best_X)
        if i == s.fine_steps:
            break
        for group, rate in zip(optimizer.param_groups, (1.0, s.rate_color), strict=True):
            group["lr"] = rate * (0.5 * (1 + math.cos(math.pi * i / s.fine_steps)) + 0.03)
        optimizer.zero_grad()
        last.sum().backward()
        optimizer.step()
    return best_X, moved, first, best


def match_colors(problem: Problem, X: Tensor, params: Params) -> Tensor:
    """Logarithmic tints (K, ng, 3) that give each body the mean colour that its mask shows, at each start X (K, B, 4, 4)."""
    with torch.no_grad():
        image = problem.render(X, params)
    tint = torch.zeros(len(X), *params.color.shape)
    for b, body in enumerate(problem.s.bodies):
        if not problem.seen[b]:
            continue
        real = (problem.masks[b][..., None] * problem.color).sum((0, 1, 2)) / problem.masks[b].sum().clamp_min(1e-3)
        mask = image.masks[body]
        area = mask.sum((1, 2, 3))[:, None]
        sim = (mask[..., None] * image.color).sum((1, 2, 3)) / area.clamp_min(1e-3)
        wanted = (real.clamp_min(0.02) / sim.clamp_min(0.02)).log()
        tint[:, problem.geoms[b]] = torch.where(area > 1, wanted, 0.0)[:, None]
    return tint


def colors_of(params: Params, found: Params, problem: Problem, best: Tensor) -> Params:
    """`params` with each body's colours from its best start in `found` (K, C, ...), and the light of the first body's."""
    color = params.color.clone()
    for b, geoms in enumerate(problem.geoms):
        color[geoms] = found.color[best[b], 0][geoms].detach()
    light, ambient = (getattr(found, n)[best[0], 0].detach() for n in ("light_direction", "ambient"))
    return params.replace(color=color, light_direction=light, ambient=ambient)


def uncertainty(problem: Problem, X: Tensor, params: Params) -> tuple[dict[str, float], dict[str, list[float]]]:
    """How sure the poses X (1, B, 4, 4) are, from this exposure alone. Returns, by body, the root mean square of what is left
    in the masked images, and the pose's standard deviations (6) [m, rad] from the curvature of the squared residuals (Gauss-
    Newton: covariance = residual variance · inverse of JᵀJ, J by differences). A direction that the images do not show (the
    turn of a round peg about its axis) gets that of a turn by 90° or a shift by 10 cm. What is left comes from foreign shading,
    shadows and shapes, which cover patches rather than pixels: PATCH, their width, is set so that the standard deviations match
    the errors of development seeds 13-23 in PyBullet."""
    B, step = X.shape[1], torch.tensor([1e-3] * 3 + [2e-2] * 3)
    moves = torch.cat([torch.zeros(1, 6), torch.diag(step)])[:, None].expand(7, B, 6)  # all bodies at once: each has its mask
    with torch.no_grad():
        image = problem.render(lie.retract(X.expand(len(moves), -1, -1, -1), moves), params)
    residual, spread = {}, {}
    for b, body in enumerate(problem.s.bodies):
        if not problem.seen[b]:
            continue
        sim, real = image.masks[body], problem.masks[b]
        r = torch.cat([sim[..., None] * image.color - real[..., None] * problem.color, (sim - real)[..., None]], -1)
        r = (r * problem.weight[..., None]).flatten(1)
        J = (r[1:] - r[0]) / step[:, None]
        count = float((real * problem.weight).sum()) * 4
        variance = float(r[0].square().sum()) / max(count, 1.0)
        J = J / PATCH
        floor = torch.tensor([0.1] * 3 + [math.pi / 2] * 3)
        information = J @ J.T / max(variance, 1e-6) + torch.diag(floor**-2)
        residual[body] = math.sqrt(variance)
        spread[body] = torch.linalg.inv(information).diagonal().clamp_min(0).sqrt().tolist()
    return residual, spread
