"""What motion tells about an estimate: error bars, and what it cannot tell apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.stats import t as student
from torch import Tensor

from samrl.real2sim.identify.fit import Estimate, with_tied_rows, with_ties
from samrl.real2sim.identify.free import Free
from samrl.real2sim.identify.problem import Problem

SHARE = 0.9  # of an interval
_TOLD = 3.0  # information of motion over that of belief, above which a direction counts as told: half as uncertain as before
_LEAST = 1e-9  # of the noise, where a model explains all
_SMALL = 0.1  # part of a null direction that is not worth a word


@dataclass(frozen=True)
class Evidence:
    """Error bars of x.

    Attributes:
        covariance: (P, P) of x.
        low, high: (P) ends of the intervals that hold each number with probability SHARE, in its units.
        information: (P, P) Fisher information of the motion on x, for independent residuals of size `noise`.
        inflation: how many times larger the variances are than independent residuals would make them.
        null: (k, P) directions in x that the motion does not tell; words: a sentence about each.
        noise: standard deviation of a residual.
    """

    covariance: Tensor
    low: Tensor
    high: Tensor
    information: Tensor
    inflation: float
    null: Tensor
    words: list[str]
    noise: float


def weigh(problem: Problem, estimate: Estimate, share: float = 0.5) -> Evidence:
    """Error bars of an estimate.

    Residuals of one window belong together: what the model lacks pushes them the same way. So variances come from how much the
    windows disagree (White 1980; clusters: Liang and Zeger 1986), not from how many samples they have. `share`: see `fit`.
    """
    r, J, Q = projected(problem, estimate.x, estimate.d, estimate.tie)
    P, belief = len(estimate.x), problem.free.deviations(share) ** -2
    noise = max(float((r.square().sum() / max(r.numel() - Q[..., 0, :].numel() - P, 1)).sqrt()), _LEAST)
    information = (J.mT @ J).sum(0) / noise**2
    score = (J.mT @ r[..., None])[..., 0] / noise**2  # (W, P)
    windows = len(score)
    bread = torch.linalg.inv(information + torch.diag(belief))
    covariance = bread @ (_between(score) + torch.diag(belief)) @ bread
    if windows <= 2 * P:  # too few to tell how much they disagree
        covariance = bread
    reach = float(student.ppf((1 + SHARE) / 2, max(windows - 1, 1))) * covariance.diagonal().sqrt()
    null = null_directions(information, belief)
    low, high = (problem.free.values(estimate.x + s * reach) for s in (-1, 1))
    words = describe(problem.free, null)
    return Evidence(covariance, low, high, information, inflation(information, score, belief), null, words, noise)


def projected(problem: Problem, x: Tensor, d: Tensor | None, tie: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals (W, N) and derivatives by x (W, N, P) without what a better start would explain, and the directions of that
    (W, N, 2 nv), orthonormal columns; no columns without d. Starts that are tied (see `Estimate.tie`) have rows of their own."""
    r, J, by_d = problem.sensitivities(x, d)
    r, (J, by_d) = with_ties(r.flatten(1), d, tie), with_tied_rows(J.flatten(1, 2), by_d.flatten(1, 2), tie)
    Q = torch.linalg.qr(by_d)[0]
    return r - (Q @ (Q.mT @ r[..., None]))[..., 0], J - Q @ (Q.mT @ J), Q


def inflation(information: Tensor, score: Tensor, belief: Tensor) -> float:
    """Mean ratio, over directions that motion tells, of the variance between windows of their scores (W, P) to that of
    independent residuals (the magnitude adjustment of composite likelihoods: Pauli, Racugno and Ventura 2011); 1 where it is no
    larger than so few windows would have it by chance."""
    values, vectors = _told(information, belief)
    told = values > _TOLD
    if not bool(told.any()):
        return 1.0
    V = vectors[:, told]
    ratio = float(torch.linalg.solve(V.mT @ information @ V, V.mT @ _between(score) @ V).diagonal().mean())
    chance = 1 + 2 * (2 / (len(score) * V.shape[1])) ** 0.5  # two standard deviations of a mean of squares
    return ratio if ratio > chance and len(score) > 2 * V.shape[1] else 1.0


def _between(score: Tensor) -> Tensor:
    """(P, P) variance of the sum of all windows' scores (W, P)."""
    return score.mT @ score * len(score) / max(len(score) - 1, 1)


def _told(information: Tensor, belief: Tensor) -> tuple[Tensor, Tensor]:
    """Information of motion in units of belief's, ascending, and the directions (P, P) of x, the columns."""
    scale = belief**-0.5
    values, vectors = torch.linalg.eigh(scale[:, None] * information * scale)
    return values, scale[:, None] * vectors


def null_directions(information: Tensor, belief: Tensor) -> Tensor:
    """(k, P) directions of x that motion leaves more than half as uncertain as they were, of as few numbers each as may be."""
    values, vectors = _told(information, belief)
    return _sparse(vectors[:, values < _TOLD].mT.numpy().copy(), belief.numpy() ** 0.5)


def _sparse(basis: np.ndarray, unit: np.ndarray) -> Tensor:
    """The span of the rows (k, P) by rows of few numbers: for each number the row in which it is 1 and the rest sum to least (a
    linear program), and of these the shortest that are independent."""
    k, count = basis.shape
    if not k:
        return torch.from_numpy(basis)
    rows = np.linalg.qr((basis * unit).T)[0].T
    found = []
    for i in np.nonzero(np.abs(rows).max(0) > 0.05)[0]:
        # a (k) and the sizes s (P) of the numbers rowsᵀ a: least Σ s with -s <= rowsᵀ a <= s and number i at 1
        both = np.block([[rows.T, -np.eye(count)], [-rows.T, -np.eye(count)]])
        cost = np.concatenate([np.zeros(k), np.ones(count)])
        bounds = [(None, None)] * k + [(0, None)] * count
        fixed = np.concatenate([rows[:, i], np.zeros(count)])[None]
        solved = linprog(cost, both, np.zeros(2 * count), fixed, [1.0], bounds)
        if solved.success:
            v = rows.T @ solved.x[:k]
            found.append(np.where(np.abs(v) < 1e-3 * np.abs(v).max(), 0.0, v / np.abs(v).max()))
    chosen: list[np.ndarray] = []
    for v in sorted(found, key=lambda v: (np.count_nonzero(np.abs(v) > _SMALL), -v.sum())):
        if np.linalg.matrix_rank(np.stack([*chosen, v]), 0.05) > len(chosen):
            chosen.append(v)
    return torch.from_numpy(np.stack(chosen)) / torch.from_numpy(unit)


def describe(free: Free, null: Tensor) -> list[str]:
    """A sentence about each null direction."""
    out = []
    for row in null:
        parts = [i for i in range(len(row)) if abs(float(row[i] / row.abs().max())) > _SMALL]
        if len(parts) == 1:
            out.append(f"{free.labels[parts[0]]} does not show in this motion.")
        else:
            step = row * (0.1 / float(row.abs().max()))
            words = [_change(free, i, float(step[i])) for i in parts]
            out.append(f"this motion is the same with {', '.join(words[:-1])} and {words[-1]}, all at once.")
    return out


def _change(free: Free, i: int, step: float) -> str:
    return f"{free.labels[i]} {f'×{np.exp(step):.2f}' if bool(free.logarithmic[i]) else f'{step:+.2g}'}"
