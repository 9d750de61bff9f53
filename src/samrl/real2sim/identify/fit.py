"""One estimate of the free numbers: by Adam, as in the paper, or by Levenberg-Marquardt."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from samrl.core.errors import NonFiniteError, SamrlError
from samrl.real2sim.identify.problem import Problem, finite_residuals

METHODS = ("levenberg-marquardt", "adam")
_ROUNDS, _PASSES = 5, 20  # of Levenberg-Marquardt: rounds of new weights, and passes a round at most
_LONG = 12  # periods of a window of which the first third is explained first
_FLOOR = 1e-9  # of the residuals' width, where a model explains all


@dataclass
class Estimate:
    """Where a search ended.

    Attributes:
        x: (P); d: (W, 2 nv) starts' corrections, or None where starts were taken as read.
        scale: typical size of a residual at x.
        history: (epochs + 1, P) x before the first and after each pass over the windows.
        losses: (epochs + 1) root of the mean squared residual there.
        seconds; message: a sentence.
    """

    x: Tensor
    d: Tensor | None
    scale: float
    history: Tensor
    losses: list[float]
    seconds: float = 0.0
    message: str = ""


@dataclass
class _Trail:
    """Where a search has been, a pass over all windows at a time."""

    x: list[Tensor] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    report: Callable[[str], None] | None = None

    def add(self, x: Tensor, loss: float) -> None:
        self.x.append(x.detach().clone())
        self.losses.append(loss)
        if self.report and len(self.x) > 1:
            self.report(f"residual {loss:.3g}")


def fit(
    problem: Problem, x0: Tensor, *, method: str = "levenberg-marquardt", epochs: int = 80, share: float = 0.5,
    starts: bool = False, centre: Tensor | None = None, robust: bool = True, rate: float = 0.05, batch: int = 32,
    width: float | None = None, seed: int = 0, report: Callable[[str], None] | None = None,
) -> Estimate:  # fmt: skip
    """Search from x0 (P) for what explains the windows best.

    Args:
        epochs: passes over all windows at most. A pass of Levenberg-Marquardt tries one step; where it takes it, it also needs
            the derivatives there.
        share: the centre (x0 where it is not given) is believed to be within this share of the truth: what motion does not tell
            stays near it (Levenberg-Marquardt only, as the next two).
        starts: look for the windows' starts too.
        robust: weigh down what fits badly.
        rate, batch, width, seed: of Adam: learning rate at first (it falls to a hundredth), windows a step, size beyond which a
            sample's residual counts by its size and not by its square, order.
        report: told about each pass.

    Raises: SamrlError where x0 predicts nothing finite.
    """
    began = time.perf_counter()
    trail = _Trail(report=report)
    if method == "adam":
        if starts:
            raise SamrlError("Adam takes starts as they were read; levenberg-marquardt can look for them.")
        x, d = _adam(problem, x0, epochs, rate, batch, width, seed, trail), None
    elif method == "levenberg-marquardt":
        x, d = _levenberg_marquardt(problem, x0, x0 if centre is None else centre, epochs, share, starts, robust, trail)
    else:
        raise SamrlError(f"unknown method '{method}': methods are {', '.join(METHODS)}.")
    r = finite_residuals(problem, x, d)
    passes = len(trail.x) - 1
    message = (
        f"{passes} passes over {len(problem.windows)} windows; the residual went from {trail.losses[0]:.4g} to {_size(r):.4g}."
    )
    return Estimate(x, d, _width(r), torch.stack(trail.x), trail.losses, time.perf_counter() - began, message)


def _adam(
    problem: Problem, x0: Tensor, epochs: int, rate: float, batch: int, width: float | None, seed: int, trail: _Trail
) -> Tensor:
    """Mean squared residual (Heiden et al., Eq. 1) over a few windows at a time, by Adam (Kingma and Ba 2015)."""
    x = x0.detach().clone().requires_grad_()
    parts, size = _batches(problem, batch, seed), len(problem.windows)
    optimizer = torch.optim.Adam([x], lr=rate)
    steps = max(epochs * -(-size // batch), 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 0.01 ** (i / steps))
    trail.add(x, _first(problem, x0, None))
    for _ in range(epochs):
        squares = 0.0
        for part in parts():
            optimizer.zero_grad()
            r, x.grad = _calm_gradient(part, x.detach(), width)
            optimizer.step()
            schedule.step()
            squares += r * len(part.windows)
        trail.add(x, (squares / size) ** 0.5)
    return x.detach()


def _calm_gradient(problem: Problem, x: Tensor, width: float | None = None) -> tuple[float, Tensor]:
    """Mean squared residual (of residuals beyond `width`, their size: Charbonnier et al. 1994), and its gradient (P) with
    that of each window cut to the median's length: where motion is chaotic or meets things, a few windows have gradients that
    are as large as they are useless."""
    xs = x.expand(len(problem.windows), -1).clone().requires_grad_()
    squares = problem.residuals_apart(xs).square().mean(2)
    losses = (squares if width is None else 2 * width**2 * ((1 + squares / width**2).sqrt() - 1)).mean(1)
    (each,) = torch.autograd.grad(losses.sum(), xs)
    length = each.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return float(losses.detach().mean()), (each * (length.median() / length).clamp(max=1.0)).mean(0)


def _batches(problem: Problem, batch: int, seed: int) -> Callable[[], list[Problem]]:
    """Windows in shuffled groups, the same in each epoch (their order is what changes), for a problem takes longer to make than
    to use."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(problem.windows), generator=generator)
    parts = [problem.on(problem.windows.of(index.sort()[0])) for index in order.split(batch)]
    return lambda: [parts[i] for i in torch.randperm(len(parts), generator=generator)]


def _levenberg_marquardt(
    problem: Problem, x0: Tensor, centre: Tensor, epochs: int, share: float, starts: bool, robust: bool, trail: _Trail
) -> tuple[Tensor, Tensor | None]:
    """Trust-region least squares (SciPy's `least_squares`) in rounds. The first sees only the beginnings of long windows,
    whose ends no motion with wrong parameters comes near. Each of the others has windows weighted by their residuals in the
    one before, for motion has stretches that no model explains (iteratively reweighted least squares)."""
    w = problem.windows
    begun = problem.on(w.cut_short(w.periods // 3)) if w.periods >= _LONG else problem
    d = torch.zeros(len(w), 2 * w.qd.shape[1], dtype=x0.dtype) if starts else None
    spread, x, width, left = problem.free.deviations(share), x0.detach().clone(), 0.0, epochs
    trail.add(x, _first(begun, x0, d))
    for n in range(_ROUNDS):
        now = problem if n else begun
        r = finite_residuals(now, x, d)
        before, width = width, max(2 * _width(r), _FLOOR)
        if left < 1 or (n > 1 and abs(np.log(width / before)) < 0.05):
            break
        weight = _weights(r) if n and robust else torch.ones_like(r)
        search = _Search(now, centre, width / spread, weight, x, d, trail)
        least_squares(
            search.residuals, x.numpy(), search.jacobian, method="trf", max_nfev=min(left, _PASSES) + 1, xtol=1e-5, ftol=1e-5
        )
        x, d = search.best()
        left = epochs - (len(trail.x) - 1)
    return x, d


class _Search:
    """Weighted residuals as a function of x alone: each window's start goes where the linear model around the last derivatives
    has it best (variable projection; Kaufman 1975, "A variable projection method for solving separable nonlinear least squares
    problems").

    Args:
        belief: (P) weights of x - centre, each worth one residual of typical size.
        weight: (W, samples, m).
    """

    def __init__(
        self, problem: Problem, centre: Tensor, belief: Tensor, weight: Tensor, x: Tensor, d: Tensor | None, trail: _Trail
    ) -> None:
        self.problem, self.centre, self.belief, self.weight, self.trail = problem, centre, belief, weight, trail
        self.x, self.d = x, d
        self._follow: tuple[Tensor, Tensor] | None = None
        self._tried: dict[bytes, float] = {}

    def residuals(self, v: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.array(v))
        r = finite_residuals(self.problem, x, self._start(x))
        whole = torch.cat([(self.weight * r).flatten(), self.belief * (x - self.centre)]).numpy()
        if self._tried:
            self.trail.add(x, _size(r))
        self._tried[x.numpy().tobytes()] = float(whole @ whole)
        return whole

    def jacobian(self, v: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.array(v))
        d = self._start(x)
        self.x, self.d = x, d
        r, by_x, by_d = self.problem.sensitivities(x, d)
        J, r = (self.weight[..., None] * by_x).flatten(1, 2), (self.weight * r).flatten(1)
        if d is not None:
            Q, R = torch.linalg.qr((self.weight[..., None] * by_d).flatten(1, 2))
            best = torch.linalg.lstsq(R, Q.mT @ torch.cat([r[..., None], J], -1), driver="gelsd").solution
            self._follow = best[..., :1], best[..., 1:]
            J = J - Q @ (Q.mT @ J)
        return torch.cat([J.flatten(0, 1), torch.diag(self.belief)]).numpy()

    def _start(self, x: Tensor) -> Tensor | None:
        """The starts' corrections at x."""
        if self.d is None or self._follow is None:
            return self.d
        first, by_x = self._follow
        return self.d - first[..., 0] - by_x @ (x - self.x)

    def best(self) -> tuple[Tensor, Tensor | None]:
        """The x with the least residuals that was tried, and the starts there."""
        key = min(self._tried, key=lambda k: self._tried[k])
        x = torch.from_numpy(np.frombuffer(key, dtype=np.float64).copy())
        return x, self._start(x)


def _weights(r: Tensor) -> Tensor:
    """Less for windows (W, N, m) that are worse than the median: what a model lacks comes in stretches (Cauchy's weights)."""
    size = r.square().mean((1, 2), keepdim=True).sqrt()
    return ((1 + (size / size.median().clamp_min(_FLOOR)).square()) ** -0.5).expand_as(r)


def _first(problem: Problem, x: Tensor, d: Tensor | None) -> float:
    """The residual before the search."""
    loss = _size(finite_residuals(problem, x, d))
    if not np.isfinite(loss):
        raise NonFiniteError(
            "with the parameters that the search starts from the motion leaves the finite numbers; start nearer to the "
            "truth, or take shorter steps or windows."
        )
    return loss


def _size(r: Tensor) -> float:
    """Root of the mean square."""
    return float(r.square().mean().sqrt())


def _width(r: Tensor) -> float:
    """Standard deviation of a normal distribution with the residuals' median size."""
    return 1.4826 * float(r.abs().median())


def subset(problem: Problem, pieces: Sequence[int]) -> Problem:
    """The problem on the windows of some recordings."""
    return problem.on(problem.windows.of(np.isin(problem.windows.piece, pieces)))
