"""Finite differences of a rollout, all steps and entries in one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.core.errors import NonFiniteError

STEPS = (3e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)  # as shares of an input's largest entry
STENCIL = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))  # fourth order (Fornberg 1988)
NOTHING = 1e-6  # what counts as large where the gradient is zero: a millionth of it is what rounding may leave
Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Cell:
    """One input of one scene. error: the largest |gradient - difference| of the tested entries, each at its best step, as a share
    of `scale`, the largest entry; step: the best one for the worst entry."""

    name: str
    error: float
    scale: float
    step: float

    def __str__(self) -> str:
        return f"{self.name:20}{100 * self.error:10.1e} %{self.scale:10.1e}{self.step:8.0e}"


def gradients(loss: Loss, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """d loss / d input for each input, zero where it is not used."""
    leaves = {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}
    got = torch.autograd.grad(loss(**leaves).sum(), list(leaves.values()), allow_unused=True)
    return {n: torch.zeros_like(x) if g is None else g for (n, x), g in zip(leaves.items(), got, strict=True)}


def cell(loss: Loss, inputs: Mapping[str, Tensor], name: str, gradient: Tensor, axis: int, entries: int, seed: int = 0) -> Cell:
    """Compare some entries of one gradient. loss: inputs -> (E), where the one that is given has a batch (E) at `axis`."""
    generator, gradient = torch.Generator().manual_seed(seed), gradient.cpu()
    some = torch.randperm(gradient.numel(), generator=generator)[:entries]
    some = torch.cat([some, gradient.abs().reshape(-1).argmax()[None]]).unique()  # always the largest too
    found = torch.stack([_differences(loss, inputs, name, some, axis, step) for step in STEPS])
    wanted = gradient.reshape(-1)[some].double()
    errors, best = (found - wanted).abs().min(0)
    scale = float(gradient.abs().max()) or NOTHING  # a gradient of zero is one whose differences are rounding
    worst = int(errors.argmax())
    return Cell(name, float(errors.max()) / scale, scale, STEPS[int(best[worst])])


def _differences(loss: Loss, inputs: Mapping[str, Tensor], name: str, some: Tensor, axis: int, step: float) -> Tensor:
    """(entries), infinite where the step leads out of the finite numbers."""
    x = inputs[name]
    h = step * (float(x.abs().max()) or 1.0)
    moves = torch.zeros(len(STENCIL), len(some), x.numel(), dtype=x.dtype)
    at, weights = (torch.tensor(c, dtype=x.dtype)[:, None] for c in zip(*STENCIL, strict=True))
    moves[:, torch.arange(len(some)), some] = h * at
    moved = (x.reshape(-1) + moves.to(x.device)).reshape(-1, *x.shape).movedim(0, axis)
    try:
        with torch.no_grad():
            values = loss(**{**inputs, name: moved}).reshape(len(STENCIL), len(some)).cpu()
    except NonFiniteError:
        return torch.full((len(some),), torch.inf, dtype=torch.float64)
    return (values * weights).sum(0) / h
