"""Where to look from next: candidates ranked by Q less what the way costs, the best refined along ∂Q/∂camera, all of it inside 𝓜
(SAM-RL Eq. 7, with many starts)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.learn.actor import Actor, Eye
from samrl.learn.q_function import Common, QFunction, Situation, common, prospect
from samrl.learn.rehearsal import Shell

SHARES = (1.0, 0.5, 0.2)  # of the longest step, tried at once


@dataclass(frozen=True)
class ViewSettings:
    """candidates: views ranked; refined: of the best, how many follow the gradient; steps, rate: of that ascent, and the longest
    step, of yaw and pitch [rad] and radius [m]; travel: what a radian of way costs, in units of the return; doubt: how much the
    ensemble's standard deviation counts against a view; random: the ascent's directions are drawn, a control for the gradient."""

    candidates: int = 16
    refined: int = 1
    steps: int = 1
    rate: tuple[float, float, float] = (0.15, 0.15, 0.04)
    travel: float = 0.02
    doubt: float = 0.0
    random: bool = False


class Viewpoint:
    """Chooses views by Q.

    Args:
        eye: renders what Q sees of the candidates.
    """

    def __init__(self, q: QFunction, actor: Actor, eye: Eye, shell: Shell, settings: ViewSettings | None = None) -> None:
        self.q, self.actor, self.eye, self.shell, self.s = q, actor, eye, shell, settings or ViewSettings()

    def common(self, at: Situation) -> Common:
        """What is computed once for all views."""
        return common(self.eye, at)

    def value(self, at: Common, now: Tensor, view: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Q (n) of views (n, 3) of one situation, seen from the view `now` (3) so far, and the actions (n, 6) they were valued
        with; differentiable in the views. `action`: held fixed, as in SAM-RL Eq. 7; else the actor's there, without a
        gradient."""
        ray = self.shell.ray(now).expand(len(view), 3)
        expected = prospect(self.actor, self.eye, at, self.shell.pose(view), ray, action)
        heads = self.q(expected)
        return heads.mean(-1) - self.s.doubt * heads.std(-1), expected.action * self.actor.policy.limits

    def ranked(self, at: Situation, now: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Views (k, 3) of one situation, best first, and their scores; the present view `now` (3) is among them."""
        s, here = self.s, self.common(at)
        view = torch.cat([now[None], self.shell.draw(s.candidates - 1, generator)])
        with torch.no_grad():
            q, action = self.value(here, now, view)
            order = (q - self.cost(view, now)).argsort(descending=True)
        view, q, action = view[order], q[order], action[order]
        best = min(s.refined, len(view))
        if best and s.steps:
            view[:best], q[:best] = self.refine(here, now, view[:best], q[:best], action[:best], generator)
        score = q - self.cost(view, now)
        order = score.argsort(descending=True)
        return view[order], score[order]

    def refine(
        self, at: Common, now: Tensor, view: Tensor, value: Tensor, action: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Follow ∂Q/∂view from views (k, 3) of values (k), actions held; what is not better is not taken, and makes the next
        steps shorter. Returns views (k, 3) and their values (k)."""
        s, best, best_q = self.s, view.clone(), value
        rate = torch.tensor(s.rate)
        low, high = (torch.tensor([r[i] for r in (self.shell.yaw, self.shell.pitch, self.shell.radius)]) for i in (0, 1))
        shares, scale = torch.tensor(SHARES)[:, None, None], torch.ones(len(best), 1)
        for _ in range(s.steps):
            direction = torch.randn(best.shape, generator=generator) if s.random else self.uphill(at, now, best, action)
            direction = rate * direction
            step = scale * direction / direction.norm(dim=-1, keepdim=True).clamp_min(1e-12) * rate
            trial = (best + step * shares).clamp(low, high)
            with torch.no_grad():
                q, _ = self.value(at, now, trial.flatten(0, 1), action.repeat(len(SHARES), 1))
            q, which = q.view(len(SHARES), -1).max(0)
            better = q > best_q
            best = torch.where(better[:, None], trial[which, torch.arange(len(best))], best)
            best_q = torch.where(better, q, best_q)
            scale = torch.where(better[:, None], scale, SHARES[-1] * scale)
        return best, best_q

    def uphill(self, at: Common, now: Tensor, view: Tensor, action: Tensor) -> Tensor:
        """∂Q/∂view (k, 3) at views (k, 3)."""
        x = view.clone().requires_grad_(True)
        value, _ = self.value(at, now, x, action)
        return torch.autograd.grad(value.sum(), x)[0]

    def cost(self, view: Tensor, now: Tensor) -> Tensor:
        """Of the way from `now` (3) to views (n, 3): the angle between the rays, weighted."""
        return self.s.travel * torch.acos((self.shell.ray(view) * self.shell.ray(now)).sum(-1).clamp(-1, 1))
