"""Bodies that may be centimetres from their estimates: whole starts moved by the Earth Mover Distance, several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from samrl.core import lie
from samrl.model.model import Model
from samrl.model.scene import Twin
from samrl.real2sim.fine import colors_of, fine, match_colors
from samrl.real2sim.frames import Crop
from samrl.real2sim.problem import Problem, UpdateSettings, put


def locate(model: Model, twin: Twin, crops: Sequence[Crop], settings: UpdateSettings) -> Twin:
    """Bring bodies that may be centimetres away near to where the images show them: the coarse stage from several starts,
    and of those the one whose loss is least."""
    far = replace(settings, points=settings.coarse_points, margin=0, fine_steps=settings.wide_steps, rate_p=0.003, rate_r=0.06)
    problem = Problem(model, twin, crops, far)
    if not any(problem.seen):
        return twin
    X = coarse(problem, torch.cat([_turned(problem.X0[None], yaw) for yaw in settings.coarse_yaws]))
    X, params, _, last = fine(problem, _best_two(problem, X))
    best = last.argmin(0)
    keep = torch.tensor(problem.seen)[:, None, None]
    found = X[best, torch.arange(len(settings.bodies))]
    new = put(model, twin, settings.bodies, torch.where(keep, found, problem.X0))
    return new.replace(params=colors_of(new.params, params, problem, best))


def coarse(problem: Problem, X: Tensor) -> Tensor:
    """Move starts X (K, B, 4, 4) by the Earth Mover Distance: each step solves for the rigid motion that a fixed plan asks
    for (weighted Procrustes, Kabsch 1976; the weights 1/distance make it the distance itself, not its square)."""
    for _ in range(problem.s.coarse_steps):
        plans, points = problem.plans(X)
        X = X.clone()
        for k in range(len(X)):
            for b, cloud in enumerate(problem.clouds):
                plan, p_L = plans[k][b], points[k][b]
                if cloud is None:
                    continue
                if plan is None or p_L is None:  # the start shows nothing where the body is: bring it there
                    X[k, b, :3, 3] = cloud[1].mean(0)
                    continue
                X[k, b] = _procrustes(p_L, cloud[1], plan, X[k, b])
    return X


def _procrustes(p_L: Tensor, y: Tensor, plan: tuple[Tensor, Tensor, Tensor], X: Tensor) -> Tensor:
    i, j, mass = plan
    a, b = p_L[i], y[j]
    for _ in range(3):
        distance = (lie.transform(X, a) - b).norm(dim=-1)
        w = mass / (distance + 0.002)
        w = (w / w.sum())[:, None]
        ca, cb = (w * a).sum(0), (w * b).sum(0)
        U, _, Vt = torch.linalg.svd((w * (a - ca)).T @ (b - cb))
        D = torch.diag(torch.tensor([1.0, 1.0, float(torch.sign(torch.linalg.det(Vt.T @ U.T)))]))
        R = Vt.T @ D @ U.T
        X = lie.pose(R, cb - R @ ca)
    return X


def _best_two(problem: Problem, X: Tensor) -> Tensor:
    """The two best of the starts (K, B, 4, 4) for each body on its own: (2, B, 4, 4)."""
    with torch.no_grad():
        tint = match_colors(problem, X, problem.twin.params)
        color = (problem.twin.params.color * tint.exp())[:, None].expand(-1, len(problem.crops), -1, -1)
        order = problem.loss(X, problem.twin.params.replace(color=color), *problem.plans(X)).argsort(0)[:2]
    return torch.stack([X[order[:, b], b] for b in range(X.shape[1])], 1)


def _turned(X: Tensor, yaw: float) -> Tensor:
    turn = lie.exp_so3(X.new_tensor([0.0, 0.0, yaw]))
    return lie.pose(turn @ X[..., :3, :3], X[..., :3, 3])
