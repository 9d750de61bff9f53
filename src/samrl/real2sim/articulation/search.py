"""From a rough joint, or many that may be, to the one that explains the looks best: starts, and descents from these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares
from scipy.stats import qmc
from torch import Tensor

from samrl.real2sim.articulation.joint import Joint
from samrl.real2sim.articulation.problem import JointProblem, Looks, Model

COARSE, FINE = 1e-4, 1e-5  # relative decrease of the squares at which a descent ends, and the last one
FINER = 4  # times as many states are tried on a line that has been found


@dataclass(frozen=True)
class ArticulationSettings:
    """Attributes:
    doubt_angle [rad], doubt_place [m]: how far off the rough model's line may be.
    doubt_base: standard deviations [m] and [rad] of where the furniture stands; None: it stands as the model says.
    sizes [px], caps [m]: of the crops, from coarse to fine, and the largest differences of depth that tell.
    lines: how many lines within the doubt are tried, a power of two; openings: of each so many states over the joint's range.
    kept: of these so many are descended from.
    clearance: what is seen so far in front of the body [m], and is none of it, hides it, such as a hand; None: nothing does.
    robust: residuals beyond it count by their size, not by their square (a mask goes from 0 to 1).
    passes: of least squares at each size, at most.
    """

    doubt_angle: float = math.radians(12)
    doubt_place: float = 0.025
    doubt_base: tuple[float, float] | None = None
    sizes: tuple[int, ...] = (24, 48, 96)
    caps: tuple[float, ...] = (0.10, 0.04, 0.02)
    lines: int = 16
    openings: int = 16
    kept: int = 3
    clearance: float | None = None
    robust: float = 0.1
    passes: int = 25


@dataclass(frozen=True)
class Found:
    """Where a descent ended: the problem, its joint at the line found, and x, whose line is not moved."""

    problem: JointProblem
    x: np.ndarray
    loss: float


def find(
    model: Model, levels: Sequence[Looks], joints: Sequence[Joint], doubted: bool, free_axis: bool, s: ArticulationSettings
) -> Found:
    """The best of descents from the likeliest starts. `doubted`: lines around each joint's are tried, too."""
    coarse = [
        JointProblem(model, levels[0], joint, s.doubt_base, cap=s.caps[0], robust=s.robust, clearance=s.clearance)
        for joint in joints
    ]
    starts = [start for problem in coarse for start in _starts(problem, doubted, s)]
    starts = sorted(starts, key=lambda start: start.loss)[: s.kept]
    best = min((_descend(start, free_axis, s) for start in starts), key=lambda f: f.loss)
    best = min(best, _descend(_reopened(best, s), free_axis, s), key=lambda f: f.loss)
    for looks, cap in zip(levels[1:], s.caps[1:], strict=True):
        finer = Found(best.problem.other(looks=looks, cap=cap), best.x, best.loss)
        best = _descend(finer, free_axis, s, FINE if looks is levels[-1] else COARSE)
    return best


def opening_way(found: Found) -> Found:
    """The same end, its axis such that states are positive: nothing else says which way a line points."""
    p, n = found.problem, found.problem.openings
    if found.x[:n].mean() >= 0:
        return found
    return Found(p.other(joint=p.joint.reversed()), np.concatenate([-found.x[:n], found.x[n:]]), found.loss)


def _states(problem: JointProblem, count: int) -> Tensor:
    """(count) coordinates over the joint's range, and a little beyond."""
    low, high = problem.joint.range
    pad = 0.05 * (high - low)
    return torch.linspace(low - pad, high + pad, count, dtype=torch.float64)


def _starts(problem: JointProblem, doubted: bool, s: ArticulationSettings) -> list[Found]:
    """The joint's line, and with `doubted` others around it (Sobol 1967), each with the states that fit best one by one."""
    q, size = _states(problem, s.openings), problem.joint.size
    d = torch.zeros(1, size, dtype=torch.float64)
    if doubted:
        far = torch.tensor([s.doubt_angle] * 2 + [s.doubt_place] * (size - 2), dtype=torch.float64)
        d = torch.cat([d, (2 * torch.as_tensor(qmc.Sobol(size, rng=0).random(s.lines)) - 1) * far])
    d = torch.nn.functional.pad(d, (0, len(problem.steps) - problem.line.stop))  # the furniture where it was thought
    x = torch.cat([q[None, :, None].expand(len(d), -1, problem.openings), d[:, None].expand(-1, len(q), -1)], -1)
    by_look = problem.loss(x.flatten(0, 1)).unflatten(0, (len(d), len(q)))
    loss, best = _by_opening(problem, by_look).min(1)  # (lines, n)
    rows = zip(loss.mean(1).tolist(), q[best], d, strict=True)
    return [Found(problem, torch.cat([states, line]).numpy(), value) for value, states, line in rows]


def _by_opening(problem: JointProblem, loss: Tensor) -> Tensor:
    """Losses (..., L) of looks as means over the looks of each opening (..., n)."""
    index = problem.looks.opening
    total = loss.new_zeros(*loss.shape[:-1], problem.openings).index_add_(-1, index, loss)
    return total / torch.bincount(index)


def _reopened(found: Found, s: ArticulationSettings) -> Found:
    """The same line, with any state replaced that fits worse than another one does."""
    problem, n = found.problem, found.problem.openings
    q = _states(problem, FINER * s.openings)
    tried = torch.as_tensor(found.x).repeat(len(q) + 1, 1)
    tried[1:, :n] = q[:, None]
    loss, best = _by_opening(problem, problem.loss(tried)).min(0)
    return Found(problem, np.concatenate([tried[best, torch.arange(n)].numpy(), found.x[n:]]), float(loss.mean()))


def free_numbers(problem: JointProblem, free_axis: bool) -> np.ndarray:
    """(n) which numbers of x are looked for: all but the line's, if that is known."""
    free = np.ones(len(problem.steps), bool)
    free[problem.line] = free_axis
    return free


def _descend(start: Found, free_axis: bool, s: ArticulationSettings, ftol: float = COARSE) -> Found:
    """Robust least squares from a start (SciPy's trust region), its line written into the joint."""
    problem, x, free = start.problem, start.x.copy(), free_numbers(start.problem, free_axis)

    def full(part: np.ndarray) -> np.ndarray:
        out = start.x.copy()
        out[free] = part
        return out

    x[free] = least_squares(
        lambda part: problem.vector(full(part)), x[free], lambda part: problem.jacobian(full(part), free), loss="soft_l1",
        f_scale=problem.scale, x_scale="jac", max_nfev=s.passes, ftol=ftol, xtol=1e-6,
    ).x  # fmt: skip
    moved = problem.other(joint=problem.joint.at(torch.as_tensor(x[problem.line])))
    x[problem.line] = 0.0
    return Found(moved, x, float(moved.loss(torch.as_tensor(x)[None]).mean()))
