"""One estimate of the free numbers: by Adam (`descent.py`), as in the paper, or by Levenberg-Marquardt."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from samrl.core.errors import NonFiniteError, SamrlError, UnknownNameError
from samrl.real2sim.identify.descent import LONG, Descent
from samrl.real2sim.identify.problem import Problem, finite_residuals
from samrl.real2sim.identify.windows import Windows

METHODS = ("levenberg-marquardt", "adam")
STARTS = ("estimate", "tied", "read")  # where windows start
_ROUNDS, _PASSES = 5, 20  # of Levenberg-Marquardt: rounds of new weights, and passes a round at most
_FLOOR = 1e-9  # of the residuals' width, where a model explains all


@dataclass
class Estimate:
    """Where a search ended.

    Attributes:
        x: (P); d: (W, 2 nv) starts' corrections, or None where starts were taken as read; tie: (W, 2 nv) what a correction of one
            weighs beside a residual of one.
        scale: typical size of a residual at x.
        history: (epochs + 1, P) x before the first and after each pass over the windows.
        losses: (epochs + 1) root of the mean squared residual there.
        seconds; message: a sentence.
    """

    x: Tensor
    d: Tensor | None
    tie: Tensor | None
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
    starts: str = "read", centre: Tensor | None = None, robust: bool = True, rate: float = 0.3, batch: int = 32,
    seed: int = 0, report: Callable[[str], None] | None = None,
) -> Estimate:  # fmt: skip
    """Search from x0 (P) for what explains the windows best.

    Args:
        epochs: passes over all windows at most. A pass of Levenberg-Marquardt tries one step; where it takes it, it also needs
            the derivatives there.
        share: the centre (x0 where it is not given) is believed to be within this share of the truth: what motion does not tell
            stays near it (Levenberg-Marquardt only, as the next).
        starts: "read" takes them as read, "estimate" looks for them too, and "tied" looks no further than rows scatter.
        robust: weigh down what fits badly.
        rate, batch, seed: of Adam, see `Descent`.
        report: told about each pass.

    Raises: SamrlError where x0 predicts nothing finite.
    """
    began = time.perf_counter()
    trail = _Trail(report=report)
    tie: Tensor | None = None
    if starts not in STARTS:
        raise UnknownNameError("way to", starts, STARTS)
    if method == "adam":
        if starts != "read":
            raise SamrlError("Adam takes starts as they were read; levenberg-marquardt can look for them.")
        trail.add(x0, _first(problem, x0, None))
        x, d = Descent(epochs, rate, batch, robust, seed).run(problem, x0, trail.add), None
    elif method == "levenberg-marquardt":
        x, d, tie = _levenberg_marquardt(problem, x0, x0 if centre is None else centre, epochs, share, starts, robust, trail)
    else:
        raise SamrlError(f"unknown method '{method}': methods are {', '.join(METHODS)}.")
    r = finite_residuals(problem, x, d)
    passes = len(trail.x) - 1
    message = (
        f"{passes} passes over {len(problem.windows)} windows; the residual went from {trail.losses[0]:.4g} to {_size(r):.4g}."
    )
    return Estimate(x, d, tie, _width(r), torch.stack(trail.x), trail.losses, time.perf_counter() - began, message)


def _levenberg_marquardt(
    problem: Problem, x0: Tensor, centre: Tensor, epochs: int, share: float, starts: str, robust: bool, trail: _Trail
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Trust-region least squares (SciPy's `least_squares`) in rounds. The first sees only the beginnings of long windows,
    whose ends no motion with wrong parameters comes near. Each of the others has windows weighted by their residuals in the
    one before, for motion has stretches that no model explains (iteratively reweighted least squares)."""
    w = problem.windows
    begun = problem.on(w.cut_short(w.periods // 3)) if w.periods >= LONG else problem
    d = torch.zeros(len(w), 2 * w.qd.shape[1], dtype=x0.dtype) if starts != "read" else None
    off = _read_off(w) if starts == "tied" else None
    tie: Tensor | None = None
    spread, x, width, left = problem.free.deviations(share), x0.detach().clone(), 0.0, epochs
    trail.add(x, _first(begun, x0, d))
    for n in range(_ROUNDS):
        now = problem if n else begun
        r = finite_residuals(now, x, d)
        before, width = width, max(2 * _width(r), _FLOOR)
        if left < 1 or (n > 1 and abs(np.log(width / before)) < 0.05):
            break
        weight = _weights(r) if n and robust else torch.ones_like(r)
        tie = None if d is None else torch.zeros_like(d) if off is None else width / off
        search = _Search(now, centre, width / spread, weight, x, d, tie, trail)
        least_squares(
            search.residuals, x.numpy(), search.jacobian, method="trf", max_nfev=min(left, _PASSES) + 1, xtol=1e-5, ftol=1e-5
        )
        x, d = search.best()
        left = epochs - (len(trail.x) - 1)
    return x, d, tie


def _read_off(w: Windows) -> Tensor:
    """(W, 2 nv) how far off starts may have been read."""
    if w.spread is None:
        raise SamrlError("nobody said how far off the windows' starts may have been read, to which they should be tied.")
    return w.spread.clamp_min(_FLOOR)


class _Search:
    """Weighted residuals as a function of x alone: each window's start goes where the linear model around the last derivatives
    has it best (variable projection; Kaufman 1975, "A variable projection method for solving separable nonlinear least squares
    problems").

    Args:
        belief: (P) weights of x - centre, each worth one residual of typical size.
        weight: (W, samples, m).
        tie: (W, 2 nv) weights of d, each worth one residual of its window.
    """

    def __init__(
        self, problem: Problem, centre: Tensor, belief: Tensor, weight: Tensor, x: Tensor, d: Tensor | None,
        tie: Tensor | None, trail: _Trail,
    ) -> None:  # fmt: skip
        self.problem, self.centre, self.belief, self.weight, self.trail = problem, centre, belief, weight, trail
        self.x, self.d = x, d
        self.tie = None if tie is None else tie * weight[:, 0, :1]
        self._follow: tuple[Tensor, Tensor] | None = None
        self._tried: dict[bytes, float] = {}

    def residuals(self, v: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.array(v))
        d = self._start(x)
        r = finite_residuals(self.problem, x, d)
        whole = torch.cat(
            [with_ties((self.weight * r).flatten(1), d, self.tie).flatten(), self.belief * (x - self.centre)]
        ).numpy()
        if self._tried:
            self.trail.add(x, _size(r))
        self._tried[x.numpy().tobytes()] = float(whole @ whole)
        return whole

    def jacobian(self, v: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.array(v))
        d = self._start(x)
        self.x, self.d = x, d
        r, by_x, by_d = self.problem.sensitivities(x, d)
        J, by_d = ((self.weight[..., None] * by).flatten(1, 2) for by in (by_x, by_d))
        r, J, by_d = with_ties((self.weight * r).flatten(1), d, self.tie), *with_tied_rows(J, by_d, self.tie)
        if d is not None:
            Q, R = torch.linalg.qr(by_d)
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


def with_ties(r: Tensor, d: Tensor | None, tie: Tensor | None) -> Tensor:
    """Residuals (W, N), and after them how far starts were corrected: (W, N + 2 nv)."""
    return r if d is None or tie is None else torch.cat([r, tie * d], 1)


def with_tied_rows(J: Tensor, by_d: Tensor, tie: Tensor | None) -> tuple[Tensor, Tensor]:
    """The derivatives of `with_ties`, of J (W, N, P) by x and by_d (W, N, 2 nv)."""
    if tie is None:
        return J, by_d
    nothing = J.new_zeros(len(J), tie.shape[1], J.shape[2])
    return torch.cat([J, nothing], 1), torch.cat([by_d, torch.diag_embed(tie)], 1)


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
