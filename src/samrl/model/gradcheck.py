"""Gradients by automatic differentiation against finite differences.

One step size proves nothing: too large and the curvature shows, too small and rounding does, and through contact there
may be no plateau where one expects it. So the step is swept, and each entry is judged by the step at which it agrees best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.core.errors import NonFiniteError

EPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


@dataclass(frozen=True)
class Row:
    """One input's outcome.

    Attributes:
        name: of the input; entries: how many of its numbers were tested.
        error: largest |autodiff - difference| over the tested entries, each at its best step, as a share of `scale`.
        scale: largest gradient entry by size, the larger of the two ways.
        best_eps: step that was best for the worst entry.
    """

    name: str
    entries: int
    error: float
    scale: float
    best_eps: float


@dataclass(frozen=True)
class Report:
    """worst: the largest error over all inputs; rows: one an input."""

    worst: float
    rows: list[Row]

    def __str__(self) -> str:
        head = f"{'input':24}{'entries':>8}{'error %':>12}{'scale':>12}{'best step':>11}"
        lines = [f"{r.name:24}{r.entries:8}{100 * r.error:12.2e}{r.scale:12.2e}{r.best_eps:11.0e}" for r in self.rows]
        return "\n".join([head, *lines])


def check(
    fn: Callable[..., Tensor], inputs: Mapping[str, Tensor], eps: tuple[float, ...] = EPS, entries: int = 12, seed: int = 0
) -> Report:
    """Compare d fn / d input by autodiff with central differences.

    Args:
        fn: takes the inputs by name, returns a scalar.
        inputs: tensors, best float64; each is perturbed by eps times its largest entry (times one where it is zero).
        eps: relative steps.
        entries: at most so many entries of each input, drawn with `seed`.
    """
    leaves = {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}
    grads = torch.autograd.grad(fn(**leaves), list(leaves.values()), allow_unused=True)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for (name, leaf), grad in zip(leaves.items(), grads, strict=True):
        grad = torch.zeros_like(leaf) if grad is None else grad
        some = torch.randperm(leaf.numel(), generator=generator)[:entries].tolist()
        rows.append(_row(fn, {n: x.detach() for n, x in leaves.items()}, name, grad.reshape(-1), some, eps))
    return Report(max((row.error for row in rows), default=0.0), rows)


def _row(
    fn: Callable[..., Tensor], inputs: dict[str, Tensor], name: str, grad: Tensor, some: list[int], eps: tuple[float, ...]
) -> Row:
    """Sweep the step for the entries `some` of one input."""
    differences = torch.tensor([[_difference(fn, inputs, name, i, e) for e in eps] for i in some], dtype=torch.float64)
    tested = grad[some].double().cpu()
    errors, best = (differences - tested[:, None]).abs().min(-1)
    at_best = differences.gather(-1, best[:, None])
    scale = max(float(grad.abs().max()), float(at_best.abs().max()))
    worst = int(errors.argmax())
    share = float(errors.max()) / scale if scale > 0 else float(errors.max())
    return Row(name, len(some), share, scale, eps[int(best[worst])])


def _difference(fn: Callable[..., Tensor], inputs: dict[str, Tensor], name: str, i: int, eps: float) -> float:
    """Central difference by entry i of one input; infinite where the step leads out of the finite numbers."""
    x = inputs[name]
    step = eps * (float(x.abs().max()) or 1.0)
    values = []
    for sign in (1, -1):
        moved = x.clone()
        moved.view(-1)[i] += sign * step
        try:
            with torch.no_grad():
                values.append(float(fn(**{**inputs, name: moved})))
        except NonFiniteError:  # the step was too large for this input
            return float("inf")
    return (values[0] - values[1]) / (2 * step)
