"""Least squares whose residuals are not independent, and some of which are jams: weights and error bars for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FREEDOM = 4.0  # degrees of freedom of the residuals' Student's t
CLUSTER = 4  # control steps in a row that err alike
LEAST = 2e-5  # residuals are not believed to be smaller [rad]


def normal(J: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """JᵀJ (P, P) and Jᵀr (P) of steps' J (W, n, P) and r (W, n)."""
    return torch.einsum("wip,wiq->pq", J, J), torch.einsum("wip,wi->p", J, r)


def scale(r: Tensor, weight: Tensor, touching: Tensor) -> Tensor:
    """(W, n) typical size of each joint's residual, apart for steps in which the load touches something and for the others."""
    out = torch.empty_like(r)
    for group in (touching, ~touching):
        if bool(group.any()):
            out[group] = (weight[group, None] * r[group].square()).mean(0).sqrt().clamp_min(LEAST)
    return out


def weight(r: Tensor) -> Tensor:
    """(W) weights of whitened residuals (W, n) under Student's t (Lange, Little and Taylor 1989)."""
    return (FREEDOM + r.shape[1]) / (FREEDOM + r.square().sum(1))


def jackknife(J: Tensor, r: Tensor, H: Tensor, index: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Variances of the numbers at `index` by leaving out one cluster of steps after the other (Efron 1982; one Newton step each),
    and how many clusters that rests on, less one: what a model lacks errs alike over steps in a row, so only clusters say how far
    it leads."""
    moves, shares = [], []
    for own, rest in zip(J.split(CLUSTER), r.split(CLUSTER), strict=True):
        A, b = normal(own, rest)
        moves.append(torch.linalg.solve(H - A, b)[list(index)])
        shares.append(A.diagonal()[list(index)])
    d, a = torch.stack(moves), torch.stack(shares).clamp_min(1e-12)
    count = a.sum(0).square() / a.square().sum(0)
    return d.square().sum(0) * (len(d) - 1) / len(d), (count - 1).clamp_min(1.0)
