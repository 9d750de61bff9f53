"""What choosing a view is worth, inside 𝓜: success and return by state and view, Q beside them, and where the ways of choosing
end up. The truth of each state is hidden from all that is compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from samrl.learn.actor import Actor, Eye
from samrl.learn.q_function import QSettings, Situation
from samrl.learn.rehearsal import Rehearsal
from samrl.learn.returns import held
from samrl.learn.viewpoint import Viewpoint
from samrl.model.model import Command
from samrl.model.scene import State, Twin

Reaches = Callable[[Tensor, Tensor], bool]  # (q of the acting arm (7), X_WC (4, 4)) -> can the camera arm take it
NINE = torch.cartesian_prod(*(torch.tensor(x).deg2rad() for x in ([-60.0, 0.0, 60.0], [25.0, 45.0, 65.0])))
RADIUS = 0.4  # of the nine views [m]
PROBE = 0.01  # step of the differences of Q [rad, rad, m]


@dataclass(frozen=True)
class StudySettings:
    """states: situations at the start of an episode, after one look; views: reachable ones tried in each; draws: episodes for
    each, of at most `steps` control steps; probes: views whose ∂Q/∂view is compared with differences."""

    states: int = 8
    views: int = 32
    draws: int = 4
    steps: int = 55
    probes: int = 4


def study(
    stage: Rehearsal, eye: Eye, choosers: dict[str, Viewpoint], reach: Reaches, q: QSettings, s: StudySettings
) -> dict[str, Any]:
    """One state: `stage` has one environment, `eye` is the actor's, and `choosers` are ways to choose, the first of which also
    says Q of each view.

    Returns {"views": reachable (k, 3), "q": (k), "success", "return": (k, draws), "actor mm": (k) how far off the actor says the
    tip is from its target, after the look, median, "chosen", "nine": the same of the views that
    each way of choosing and the nine fixed views lead to; "start": of the view that was there; "cosine": (probes) of
    ∂Q/∂view}."""
    generator, now = stage.generator, situation(stage)
    arm = stage.model.arm(now.twin.state).q
    start = stage.view[0]
    drawn = [v for v in stage.shell.draw(4 * s.views, generator) if reach(arm, stage.shell.pose(v.double()))][: s.views]
    views = torch.stack(drawn or [start])
    first = next(iter(choosers.values()))
    with torch.no_grad():
        q_values, _ = first.value(first.common(now), start, views)
    chosen = {name: choose(c, now, start, reach, generator) for name, c in choosers.items()}
    nine = [torch.tensor([*v.tolist(), RADIUS]) for v in NINE]
    nine = [v for v in nine if reach(arm, stage.shell.pose(v.double()))]
    every = torch.stack([*views, start, *chosen.values(), *nine])
    draws = [_try(stage, first.actor, eye, every, q, s) for _ in range(s.draws)]
    returns, off = (torch.stack(x, -1) for x in zip(*draws, strict=True))
    won = (returns > 0).float()
    k, c = len(views), len(chosen)
    entry = lambda i: {"view": every[i].tolist(), "success": won[i].tolist(), "return": returns[i].tolist()}  # noqa: E731
    return {
        "views": views.tolist(), "q": q_values.tolist(), "success": won[:k].tolist(), "return": returns[:k].tolist(),
        "actor mm": (1e3 * off[:k].median(-1).values).tolist(),
        "start": entry(k), "chosen": {name: entry(k + 1 + i) for i, name in enumerate(chosen)},
        "nine": [entry(k + 1 + c + i) for i in range(len(nine))],
        "cosine": [gradient_cosine(first, now, start, v) for v in views[: s.probes]],
    }  # fmt: skip


def situation(stage: Rehearsal) -> Situation:
    """What is believed in the first environment."""
    one = stage.take(torch.tensor([0]))
    twin, c, s = one.estimated(), one.command, one.truth.state
    params = twin.params.replace(link_p=twin.params.link_p[0], link_R=twin.params.link_R[0])
    return Situation(Twin(params, State(s.q[0], s.qd[0])), Command(c.q_ref[0], c.X_WE[0]), one.sure[0])


def choose(chooser: Viewpoint, at: Situation, now: Tensor, reach: Reaches, generator: torch.Generator) -> Tensor:
    """The best reachable view (3) by that way of choosing; the present one `now` (3) if there is none."""
    ranked, _ = chooser.ranked(at, now, generator)
    arm = chooser.eye.model.arm(at.twin.state).q
    return next((v for v in ranked if torch.equal(v, now) or reach(arm, chooser.shell.pose(v.double()))), now)


def _try(stage: Rehearsal, actor: Actor, eye: Eye, views: Tensor, q: QSettings, s: StudySettings) -> tuple[Tensor, Tensor]:
    """Returns (k) of one episode from each view (k, 3), held, and the actor's error (k) [m] at its start; the look's errors are
    drawn anew each time."""
    tried = stage.take(torch.zeros(len(views), dtype=torch.long))
    tried.move(views, torch.ones(len(views), dtype=torch.bool))
    with torch.no_grad():
        tip, *_ = actor(eye.see(tried.estimated(), tried.command, tried.X_WC))
    off = (tip - tried.errors(tried.truth)[0]).norm(dim=-1)
    return held(tried, actor, eye, q, s.steps), off


def saliency(stage: Rehearsal, actor: Actor, eye: Eye) -> tuple[Tensor, Tensor]:
    """What the actor looks at in each environment: colours (n, k, S, S, 3) of its crops, and how strongly each pixel moves
    where it says that the tip is, (n, k, S, S), in shares of the strongest."""
    sight = eye.see(stage.estimated(), stage.command, stage.X_WC)
    images = sight.images.clone().requires_grad_(True)
    tip, *_ = actor(replace(sight, images=images))
    (gradient,) = torch.autograd.grad(tip.norm(dim=-1).sum(), images)
    strength = gradient.abs().sum(-1)
    return sight.images[..., :3] + 0.5, strength / strength.amax((-2, -1), keepdim=True)


def gradient_cosine(chooser: Viewpoint, at: Situation, now: Tensor, view: Tensor) -> float:
    """Cosine between ∂Q/∂view through the renderer and central differences of Q∘render, with the action held."""
    here = chooser.common(at)
    with torch.no_grad():
        _, action = chooser.value(here, now, view[None])
    gradient = chooser.uphill(here, now, view[None], action)
    steps = PROBE * torch.cat([torch.eye(3), -torch.eye(3)])
    with torch.no_grad():
        around, _ = chooser.value(here, now, view + steps, action.expand(6, -1))
    differences = (around[:3] - around[3:]) / (2 * PROBE)
    return float(torch.nn.functional.cosine_similarity(gradient[0], differences, dim=0))


def best_of_nine(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nine fixed views by their mean success over states, best first; a view that is out of reach counts as a failure."""
    found: dict[tuple[float, ...], list[float]] = {}
    for state in states:
        for entry in state["nine"]:
            found.setdefault(tuple(round(x, 6) for x in entry["view"]), []).append(sum(entry["success"]) / len(entry["success"]))
    ranked = sorted(found.items(), key=lambda item: -sum(item[1]))
    return [{"view": list(view), "success": sum(won) / len(states)} for view, won in ranked]
