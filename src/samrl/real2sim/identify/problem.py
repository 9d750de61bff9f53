"""What the model predicts of windows, how far off that is, and how it changes with parameters and starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from samrl.core.errors import NonFiniteError
from samrl.model.scene import State
from samrl.real2sim.identify.channels import Channel, needs_links
from samrl.real2sim.identify.free import Free
from samrl.real2sim.identify.motion import Motion
from samrl.real2sim.identify.windows import Windows, moved


class Problem:
    """Windows of motion and the free numbers that should explain them.

    x (P) are the free numbers (`Free`). d (W, 2 nv) are how far each window's start is from where it was read: a tangent vector
    of q (`moved`) and a difference of q̇. Both may have gradients. m numbers are measured at each of T samples after the start.

    Args:
        substep: longest step of the engine [s].
        smooth: see Motion; where bodies may touch, steps are taken as they are unless it is given.
        options: of Physics.
    """

    def __init__(
        self, free: Free, channels: Sequence[Channel], windows: Windows, *, substep: float = 1e-3, smooth: bool | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        self.free, self.channels, self.windows = free, channels, windows
        self.substep = substep
        self.smooth = not len(free.scene.pairs) if smooth is None else smooth
        self.options = options
        self.motion = Motion(free.scene, period=windows.period, substep=substep, smooth=self.smooth, **options)
        self._links = needs_links(channels)

    def on(self, windows: Windows) -> Problem:
        """The same problem on other windows."""
        return Problem(self.free, self.channels, windows, substep=self.substep, smooth=self.smooth, **self.options)

    def start(self, d: Tensor | None = None) -> State:
        """Where windows start, with d (*batch, W, 2 nv)."""
        w = self.windows
        if d is None:
            return State(w.q, w.qd)
        turn, push = d.split(w.qd.shape[1], -1)
        return State(moved(self.free.scene, w.q.expand(*d.shape[:-1], w.q.shape[1]), turn), w.qd + push)

    def predict(self, x: Tensor, d: Tensor | None = None) -> Tensor:
        """z (*batch, W, T, m) with x (*batch, P). Raises NonFiniteError."""
        start, params = self.start(d), self.free.put(x[..., None, :] if x.dim() > 1 else x)
        batch = x.shape[:-1]
        start = State(start.q.expand(*batch, *start.q.shape[-2:]), start.qd.expand(*batch, *start.qd.shape[-2:]))
        states = self.motion.roll(params, start, self.windows.periods)
        return self._measure(x[..., None, :], states.q).movedim(0, -2)

    def residuals(self, x: Tensor, d: Tensor | None = None) -> Tensor:
        """r (*batch, W, T, m) = z - z*. With d, the start counts as a sample: (*batch, W, T + 1, m). Raises NonFiniteError."""
        r = self.predict(x, d) - self.windows.target[:, 1:]
        if d is None:
            return r
        first = self._measure(x[..., None, :], self.start(d).q) - self.windows.target[:, 0]
        return torch.cat([first[..., None, :].expand(*r.shape[:-2], 1, r.shape[-1]), r], -2)

    def residuals_apart(self, xs: Tensor) -> Tensor:
        """r (W, T, m) with an x of its own (W, P) for each window, starts as read. Raises NonFiniteError."""
        states = self.motion.roll(self.free.put(xs), self.start(), self.windows.periods)
        return self._measure(xs, states.q).transpose(0, 1) - self.windows.target[:, 1:]

    def sensitivities(self, x: Tensor, d: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Residuals r (W, T, m) and their derivatives by x (W, T, m, P) and by d (W, T, m, 2 nv; zero wide without d); with d, at
        T + 1 samples.

        Every period of every window is a short rollout of its own from where the motion was then; its derivatives are chained
        (multiple shooting's condensing). So nq + nv passes back over all motion are enough, however many samples are compared.
        """
        states, T = self._samples(x, d), self.windows.periods
        dS = self._of_start(d, len(x))  # (W, nq + nv, P + D)
        rows = [dS]
        by_state, by_x = self._of_periods(x, states)
        for t in range(T):
            dS = by_state[t] @ dS
            dS[..., : len(x)] += by_x[t]
            rows.append(dS)
        first = 0 if d is not None else 1
        S, q = torch.stack(rows[first:]), states.q[first:]
        z, by_q, direct = self._of_measures(x, q)
        J = by_q @ S[..., : q.shape[-1], :]
        J[..., : len(x)] += direct
        r = z - self.windows.target[:, first:].transpose(0, 1)
        return r.transpose(0, 1), J[..., : len(x)].transpose(0, 1), J[..., len(x) :].transpose(0, 1)

    def _samples(self, x: Tensor, d: Tensor | None) -> State:
        """States (T + 1, W, ·) from the start on, without gradient."""
        with torch.no_grad():
            start = self.start(d)
            later = self.motion.roll(self.free.put(x), start, self.windows.periods)
            return State(torch.cat([start.q[None], later.q]), torch.cat([start.qd[None], later.qd]))

    def _of_start(self, d: Tensor | None, width: int) -> Tensor:
        """Derivative (W, nq + nv, P + D) of the start's state; nothing by x."""
        start = self.start()
        size = start.q.shape[1] + start.qd.shape[1]
        nothing = start.q.new_zeros(len(start.q), size, width)
        if d is None:
            return nothing
        at = d.detach().clone().requires_grad_()
        state = self.start(at)
        return torch.cat([nothing, _rows(torch.cat([state.q, state.qd], -1), [at])[0]], -1)

    def _of_periods(self, x: Tensor, states: State) -> tuple[Tensor, Tensor]:
        """Derivatives of the state after each period by that before it (T, W, n, n), n = nq + nv, and by x (T, W, n, P)."""
        q, qd = (s[:-1].detach().clone().requires_grad_() for s in (states.q, states.qd))
        xs = x.detach().expand(*q.shape[:-1], len(x)).clone().requires_grad_()
        after = self.motion.step(self.free.put(xs), State(q, qd))
        by_q, by_qd, by_x = _rows(torch.cat([after.q, after.qd], -1), [q, qd, xs])
        return torch.cat([by_q, by_qd], -1), by_x

    def _of_measures(self, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z (T, W, m) and its derivatives by q (T, W, m, nq) and by x (T, W, m, P)."""
        q = q.detach().clone().requires_grad_()
        xs = x.detach().expand(*q.shape[:-1], len(x)).clone().requires_grad_()
        z = self._measure(xs, q)
        by_q, by_x = _rows(z, [q, xs])
        return z.detach(), by_q, by_x

    def _measure(self, x: Tensor, q: Tensor) -> Tensor:
        """z (*batch, m) of q (*batch, nq)."""
        poses = self.motion.link_poses(self.free.put(x), q) if self._links else None
        return torch.cat([c.predict(q, poses) for c in self.channels], -1)


def finite_residuals(problem: Problem, x: Tensor, d: Tensor | None = None) -> Tensor:
    """Residuals without gradient; infinite where the motion leaves the finite numbers, so that a search steps back."""
    try:
        with torch.no_grad():
            return problem.residuals(x, d)
    except NonFiniteError:
        extra = 0 if d is None else 1
        w = problem.windows
        return torch.full((len(w), w.periods + extra, w.target.shape[-1]), torch.inf, dtype=w.q.dtype)


def _rows(y: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Derivatives (*batch, n, ·) of y (*batch, n), of which each element of the batch depends on its own inputs alone."""
    rows = [
        torch.autograd.grad(y[..., j].sum(), inputs, retain_graph=True, allow_unused=True, materialize_grads=True)
        for j in range(y.shape[-1])
    ]
    return [torch.stack([row[i] for row in rows], -2) for i in range(len(inputs))]
