"""Bodies that may be centimetres from their estimates: whole starts moved by the Earth Mover Distance, several at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from samrl.core import lie
from samrl.model.model import Model
from samrl.model.scene import Params, Twin
from samrl.real2sim.fine import colors_of, fine, match_colors
from samrl.real2sim.frames import Crop
from samrl.real2sim.losses import Transport
from samrl.real2sim.problem import Priors, Problem, UpdateSettings, put

TRIED = 3  # turns from which there is a descent
FAR = 1e6  # more than any loss


def locate(model: Model, twin: Twin, crops: Sequence[Crop], settings: UpdateSettings, priors: Priors | None = None) -> Twin:
    """Bring bodies that may be centimetres away near to where the images show them: the coarse stage from several starts,
    and of those the one whose loss is least."""
    far = _far(replace(settings, points=settings.coarse_points, margin=0))
    problem = Problem(model, twin, crops, far, priors)
    if not any(problem.seen):
        return twin
    X = coarse(problem, torch.cat([_turned(problem.X0[None], yaw) for yaw in settings.coarse_yaws]))
    X, params, _, last = fine(problem, _best(problem, X, 2), far)
    best = last.argmin(0)
    keep = torch.tensor(problem.seen)[problem.owner, None, None]
    new = put(model, twin, problem.units, torch.where(keep, problem.picked(X, best), problem.X0))
    return new.replace(params=colors_of(new.params, params, problem, best))


def again(problem: Problem, X: Tensor, params: Params, last: Tensor) -> tuple[Tensor, Params, Tensor]:
    """Look once more, on the same crops, for bodies that do not look right at X (1, N, 4, 4), whose loss is `last` (1, U): a
    block that is nearly square looks much alike after a quarter turn. Returns what was given and more candidates, where descents
    from the best of all turns about the vertical ended, each body where it is or where the Earth Mover Distance brings it: poses
    (k, N, 4, 4), parameters and losses (k, U), infinite where a body is turned farther than any may be. What bends stays as it
    is."""
    first = problem.bases(problem.known[None])
    about = 1.2 * float(problem.precision[:, 1].clamp_min(1e-12).min() ** -0.5)
    count = math.floor(min(about, math.pi) / problem.s.doubt_step)
    rough = torch.cat([problem.based(X, _turned(first, yaw)) for yaw in problem.s.coarse_yaws])
    turned = []
    for place in (problem.bases(X), problem.bases(_best(problem, coarse(problem, rough, turn=False), 1))):
        level = lie.pose(first[..., :3, :3], place[..., :3, 3])
        turned += [problem.based(X, _turned(level, k * problem.s.doubt_step)) for k in range(-count, count + 1)]
    X2, params2, _, last2 = fine(problem, _best(problem, torch.cat(turned), TRIED, apart=True), problem.s)
    angle = lie.log_so3(problem.bases(X2)[..., :3, :3] @ first[..., :3, :3].mT).norm(dim=-1)
    last2 = torch.where(angle <= about, last2, torch.inf)
    both = {n: torch.cat([getattr(params, n), getattr(params2, n)]) for n in ("color", "light_direction", "ambient")}
    return torch.cat([X, X2]), params.replace(**both), torch.cat([last, last2])


def _far(settings: UpdateSettings) -> UpdateSettings:
    """Fewer, larger steps."""
    return replace(settings, fine_steps=settings.wide_steps, rate_p=0.003, rate_r=0.06)


def coarse(problem: Problem, X: Tensor, turn: bool = True) -> Tensor:
    """Move the rigid bodies of starts X (K, N, 4, 4) by the Earth Mover Distance: each step solves for the rigid motion that a
    fixed plan asks for (weighted Procrustes, Kabsch 1976; the weights 1/distance make it the distance itself, not its square)."""
    seen = torch.tensor([cloud is not None for cloud in problem.clouds])
    middle = torch.stack([torch.zeros(3) if cloud is None else cloud[1].mean(0) for cloud in problem.clouds])
    for _ in range(problem.s.coarse_steps):
        plans = problem.plans(X)
        nowhere = (seen & ~plans.known)[..., None]  # the start shows nothing where the body is: bring it there
        base = problem.bases(X)
        p = torch.where(nowhere, middle, base[..., :3, 3])
        base = torch.where(plans.known[..., None, None], _procrustes(plans, base, turn), lie.pose(base[..., :3, :3], p))
        X = problem.based(X, base)
    return X


def _procrustes(plans: Transport, X: Tensor, turn: bool) -> Tensor:
    """Poses (K, B, 4, 4) that bring each body's points to where the plan takes them."""
    a, b = plans.p_L, plans.y_W
    for _ in range(3):
        w = plans.mass / ((plans.moved(X) - b).norm(dim=-1) + 0.002)
        w = (w / w.sum(-1, keepdim=True).clamp_min(1e-9))[..., None]
        ca, cb = (w * a).sum(-2), (w * b).sum(-2)
        if not turn:
            X = lie.pose(X[..., :3, :3], cb - (X[..., :3, :3] @ ca[..., None])[..., 0])
            continue
        U, _, Vt = torch.linalg.svd((w * (a - ca[..., None, :])).mT @ (b - cb[..., None, :]))
        V = Vt.mT.clone()
        V[..., 2] *= torch.linalg.det(V @ U.mT).sign()[..., None]
        R = V @ U.mT
        X = lie.pose(R, cb - (R @ ca[..., None])[..., 0])
    return X


def _best(problem: Problem, X: Tensor, count: int, *, apart: bool = False) -> Tensor:
    """The best of the starts (K, N, 4, 4) for each unit on its own: (count, N, 4, 4). `apart`: those first that are better than
    the starts before and after them."""
    with torch.no_grad():
        tint = match_colors(problem, X, problem.twin.params)
        color = (problem.twin.params.color * tint.exp())[:, None].expand(-1, len(problem.crops), -1, -1)
        loss = problem.loss(X, problem.twin.params.replace(color=color), problem.plans(X))
    if apart:
        beside = torch.nn.functional.pad(loss, (0, 0, 1, 1), value=torch.inf)
        loss = loss + FAR * ((loss > beside[:-2]) | (loss > beside[2:]))
    return torch.stack([problem.picked(X, best) for best in loss.argsort(0)[:count]])


def _turned(X: Tensor, yaw: float) -> Tensor:
    turn = lie.exp_so3(X.new_tensor([0.0, 0.0, yaw]))
    return lie.pose(turn @ X[..., :3, :3], X[..., :3, 3])
