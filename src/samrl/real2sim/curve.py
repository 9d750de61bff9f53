"""Chains that are thinner than they are off: their curve is drawn to the pixels that show them, before the image takes over,
which pulls no farther than they are wide. Depth has no reading on them; each pixel stands for its ray."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from samrl.core import lie
from samrl.real2sim.frames import points_of, stratified
from samrl.real2sim.losses import exact_plan, paired_plan
from samrl.real2sim.problem import Problem

STEPS = 8
LEAST = 6  # pixels that a curve must cover
ROUND = 0.001  # how exact a pixel is [m]
FLOOR = torch.tensor([0.1] * 3 + [math.pi / 2] * 3)  # standard deviations [m, rad] of what nothing is known of
NUDGE = 1e-4  # of the differences that the Jacobian is made of [m, rad]


def follow(problem: Problem, X: Tensor) -> Tensor:
    """Poses X (N, 4, 4) with each chain that is in view bent by Gauss-Newton steps: visible points of its curve go to the pixels
    that an optimal plan in the image pairs them with (the Earth Mover Distance, with weights 1/distance), as far as the prior
    lets them."""
    for u, unit in enumerate(problem.units):
        if unit.bends and problem.seen[u]:
            for _ in range(STEPS):
                X = _step(problem, X, u)
    return X


def _step(problem: Problem, X: Tensor, u: int) -> Tensor:
    c = max(range(len(problem.crops)), key=lambda i: float(problem.masks[u][i].sum()))
    camera, mine = problem.crops[c].camera, problem.owner == u
    real = stratified(problem.masks[u][c] > 0.4, problem.s.points)
    depth, links = problem.render_ids(X[None])
    p_W = points_of(torch.where(_any(links[0, c], problem, mine), depth[0, c], 0.0), camera, problem.s.points)
    if len(real) < LEAST or len(p_W) < LEAST:
        return X
    rays = camera.unproject(real.flip(-1) + 0.5, torch.ones(len(real))) - camera.X_WC[:3, 3]
    rays = rays / rays.norm(dim=-1, keepdim=True)
    far = (p_W - camera.X_WC[:3, 3]).norm(dim=-1).mean()
    plan = exact_plan if problem.s.exact_plans else paired_plan
    i, j, mass = plan(_directions(p_W, camera.X_WC) * far, rays * far)
    body = (p_W[:, None] - X[mine][None, :, :3, 3]).norm(dim=-1).argmin(1)  # any near one will do: all move alike
    p_L = (lie.inverse(X[mine])[body] @ torch.cat([p_W, torch.ones(len(p_W), 1)], -1)[..., None])[:, :3, 0]
    d = torch.zeros(7, len(problem.units), 6)
    d[1:, u] = NUDGE * torch.eye(6)
    moved = problem.moved(X.expand(7, *X.shape), d)[:, mine]
    p = (moved[:, body[i], :3, :3] @ p_L[i][..., None])[..., 0] + moved[:, body[i], :3, 3] - camera.X_WC[:3, 3]
    off = p - (p * rays[j]).sum(-1, keepdim=True) * rays[j]  # (7, n, 3) from each point's ray
    weight = (mass / (off[0].norm(dim=-1) / ROUND + 1))[:, None]
    J = ((off[1:] - off[0]) / NUDGE).flatten(1)
    w = weight.expand(-1, 3).flatten() / ROUND**2
    here = _deviation(problem, X, u)
    pull = torch.diag(problem.precision[u, :2].repeat_interleave(3)) * problem.s.weight_prior + torch.diag(FLOOR**-2)
    way = torch.linalg.solve((J * w) @ J.T + pull, (J * w) @ off[0].flatten() + pull @ here)
    d = torch.zeros(1, len(problem.units), 6)
    d[0, u] = -way
    return problem.moved(X[None], d)[0]


def _any(links: Tensor, problem: Problem, mine: Tensor) -> Tensor:
    """(S, S) whether a pixel shows one of the unit's links."""
    return torch.isin(links, torch.tensor(problem.links, dtype=links.dtype)[mine])


def _directions(p_W: Tensor, X_WC: Tensor) -> Tensor:
    d = p_W - X_WC[:3, 3]
    return d / d.norm(dim=-1, keepdim=True)


def _deviation(problem: Problem, X: Tensor, u: int) -> Tensor:
    """(6) how far unit u is from what is known before any image."""
    unit, mine, parent = problem.units[u], problem.owner == u, problem.parents[u]
    return unit.between(unit.relative(parent, problem.known[mine]), unit.relative(parent, X[mine]))
