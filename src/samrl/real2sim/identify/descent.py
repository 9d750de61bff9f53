"""Adam (Kingma and Ba 2015) on windows of motion, made calm for motion that meets things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samrl.real2sim.identify.problem import Problem, finite_residuals

LONG = 12  # periods of a window of which the first third is explained first
_BETAS = (0.8, 0.95)  # short memories, for there are a few dozen steps
_FALL = 0.1  # of the learning rate over a search
_SOME = 32  # windows by which units are told
_LAST = 0.2  # share of the steps at the end whose mean is the estimate


@dataclass(frozen=True)
class Descent:
    """How to go down.

    Attributes:
        epochs: passes over all windows. Of long windows, the first third of these explains the first third, sample by sample,
            and the others where motion is after each third: in the search for where things come to rest, the many samples
            before would speak louder than the end.
        rate: learning rate at first, in units of each number (`units`); a third of it for whole long windows.
        batch: windows a step.
        robust: what is further off than the median counts by how far that is, and not by its square.
        seed: of the order of windows.
    """

    epochs: int
    rate: float = 0.3
    batch: int = 32
    robust: bool = True
    seed: int = 0

    def run(self, problem: Problem, x0: Tensor, add: Callable[[Tensor, float], None]) -> Tensor:
        """From x0 (P) to where the loss is least; `add` is told x and the root of the mean squared residual after each epoch."""
        w, third = problem.windows, problem.windows.periods // 3
        begun = problem.on(w.cut_short(third)) if w.periods >= LONG else problem
        unit = units(begun, x0)
        if begun is problem:
            return self._go(problem, x0, unit, self.epochs, self.rate, add)
        x = self._go(begun, x0, unit, self.epochs // 3, self.rate, add)
        return self._go(problem.on(w.every(third)), x, unit, self.epochs - self.epochs // 3, self.rate / 3, add)

    def _go(
        self, problem: Problem, x0: Tensor, unit: Tensor, epochs: int, rate: float, add: Callable[[Tensor, float], None]
    ) -> Tensor:
        """A search whose rate falls; ends at the mean of its last x."""
        width = widths(problem, x0) if self.robust else None
        y = (x0 / unit).detach().requires_grad_()
        parts, size = batches(problem, self.batch, self.seed), len(problem.windows)
        optimizer = torch.optim.Adam([y], lr=rate, betas=_BETAS)
        steps = max(epochs * -(-size // self.batch), 1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: _FALL ** (i / steps))
        passed: list[Tensor] = [x0]
        for _ in range(epochs):
            total = 0.0
            for part in parts():
                loss, gradient = calm_gradient(part, y.detach() * unit, width)
                y.grad = gradient * unit
                optimizer.step()
                schedule.step()
                total += loss * len(part.windows)
                passed.append(y.detach() * unit)
            add(passed[-1], (total / size) ** 0.5)
        return torch.stack(passed[-max(1, round(_LAST * steps)) :]).mean(0)


def units(problem: Problem, x: Tensor) -> Tensor:
    """(P) changes of x each of which moves the median of some windows by as much as it is off, and none by more than is
    believed: a step of a size that is known to the millimetre should not be as long as one of a stiffness that may be
    anything."""
    count = len(problem.windows)
    part = problem.on(problem.windows.of(np.unique(np.linspace(0, count - 1, min(count, _SOME)).round().astype(int))))
    r, by_x, _ = part.sensitivities(x)
    columns = [sizes(problem, by_x[..., i]) for i in range(len(x))]
    moves = (torch.stack(columns, -1) / _median(sizes(problem, r))[:, None]).square() * shares(problem)[:, None]  # (W, T, k, P)
    return 1 / moves.sum(2).mean(1).sqrt().median(0).values.clamp_min(1 / problem.free.deviations(0.5))


def widths(problem: Problem, x: Tensor) -> Tensor:
    """(k) median sizes of residuals: how high a body rests is known better than where, and metres are no headings."""
    return _median(sizes(problem, finite_residuals(problem, x)))


def _median(s: Tensor) -> Tensor:
    """(k) medians of sizes (W, T, k), none zero."""
    middle = s.flatten(0, 1).median(0).values
    return middle.clamp_min(1e-3 * float(middle.max()) + 1e-12)


def sizes(problem: Problem, r: Tensor) -> Tensor:
    """(W, T, k) of residuals r (W, T, m): of each coordinate, and of headings and turns as a whole."""
    parts = r.split([n for n, _ in _parts(problem)], -1)
    each = [
        p.abs() if apart else (p.square().sum(-1, keepdim=True) + 1e-24).sqrt()
        for p, (_, apart) in zip(parts, _parts(problem), strict=True)
    ]
    return torch.cat(each, -1)


def shares(problem: Problem) -> Tensor:
    """(k) what these sizes count: all parts the same, whatever they are made of."""
    counts = [n if apart else 1 for n, apart in _parts(problem)]
    return torch.cat([torch.full((n,), 1 / (n * len(counts)), dtype=problem.windows.q.dtype) for n in counts])


def _parts(problem: Problem) -> list[tuple[int, bool]]:
    """Width of each part, and whether its numbers stand for themselves."""
    return [(n, apart) for c in problem.channels for (_, n), apart in zip(c.parts, c.apart, strict=True)]


def calm_gradient(problem: Problem, x: Tensor, width: Tensor | None = None) -> tuple[float, Tensor]:
    """Mean squared residual, and the gradient (P) of this (Heiden et al., Eq. 1) or, with widths (k), of the mean of
    √(1 + s²) - 1 of what is s widths off (Charbonnier et al. 1994), parts alike. That of each window is cut to the
    median's length: where motion is chaotic or meets things, a few windows have gradients that are as large as they are
    useless."""
    xs = x.expand(len(problem.windows), -1).clone().requires_grad_()
    r = problem.residuals_apart(xs)
    losses = r.square().mean(2) if width is None else ((1 + (sizes(problem, r) / width).square()).sqrt() - 1) @ shares(problem)
    (each,) = torch.autograd.grad(losses.mean(1).sum(), xs)
    length = each.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return float(r.detach().square().mean()), (each * (length.median() / length).clamp(max=1.0)).mean(0)


def batches(problem: Problem, batch: int, seed: int) -> Callable[[], list[Problem]]:
    """Windows in shuffled groups, the same in each epoch (their order is what changes), for a problem takes longer to make than
    to use."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(problem.windows), generator=generator)
    parts = [problem.on(problem.windows.of(index.sort()[0])) for index in order.split(batch)]
    return lambda: [parts[i] for i in torch.randperm(len(parts), generator=generator)]
