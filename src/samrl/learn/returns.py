"""What views turn out to be worth, for Q to learn from: in rehearsals views are tried and held, and what was believed before
stands beside what came of it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from samrl.learn.actor import Actor, Eye
from samrl.learn.q_function import Prospect, QSettings, Situation, common, prospect
from samrl.learn.rehearsal import Rehearsal, Shell, believed
from samrl.model.model import Command
from samrl.model.scene import State, Twin

JITTER = (0.03, 0.03, 0.01)  # of yaw, pitch [rad] and radius [m]


@dataclass(frozen=True)
class Rows:
    """What was tried (m): the situation as it was believed to be when the view was imagined, the view, and what came of it.

    Attributes:
        q: (m, nq); q_ref: (m, 7); X_WE: (m, 4, 4) commanded; belief: (m, N, 4, 4), sure: (m, U, 6, 6), see Rehearsal.
        ray: (m, 3) to the camera so far, in the world; view: (m, 3) in question. value: (m) return with the view held, NaN where
            that was not tried. precision: (m, 2 U + 1) of a look from there, and of the actor after it; NaN where nobody asked.
    """

    q: Tensor
    q_ref: Tensor
    X_WE: Tensor
    belief: Tensor
    sure: Tensor
    ray: Tensor
    view: Tensor
    value: Tensor
    precision: Tensor

    @staticmethod
    def of(stage: Rehearsal, view: Tensor, value: Tensor, precision: Tensor) -> Rows:
        c = stage.command
        return Rows(
            stage.truth.state.q, c.q_ref, c.X_WE, stage.belief, stage.sure, stage.shell.ray(stage.view), view, value, precision
        )

    @staticmethod
    def cat(parts: list[Rows]) -> Rows:
        return Rows(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Rows)))


def collect(stage: Rehearsal, actor: Actor, eye: Eye, s: QSettings) -> Rows:
    """One batch: new episodes, the actor in them from random views for a random time; then in each state some views, each held
    for the rest of the episode. What a view looks like is imagined before the look, from what is believed by then: so it is when
    views are to be chosen."""
    g, parts = stage.generator, []
    stage.renew(torch.ones(stage.count, dtype=torch.bool))
    for i in range(int((s.before + 1) * torch.rand(1, generator=g) ** 2)):  # rather early: what is little known needs a view most
        if i % s.glance == 0:
            parts.append(_glance(stage.take(_going(stage)), actor, eye))
        stage.act(acted(stage, actor, eye))
        if bool(stage.done.all()):
            return Rows.cat(parts)
    tried = stage.take(_going(stage).repeat_interleave(s.views))
    view = stage.shell.draw(tried.count, g)
    before, exact = Rows.of(tried, view, torch.zeros(tried.count), torch.zeros(tried.count, 0)), tried.precision(view)
    tried.move(view, torch.ones(tried.count, dtype=torch.bool))
    precision = torch.cat([exact, unclear(tried, actor, eye)], -1)
    on_the_way: list[Rows] = []
    value = held(tried, actor, eye, s, s.after, on_the_way)
    return Rows.cat([*parts, *on_the_way, replace(before, precision=precision, value=value)])


def _going(stage: Rehearsal) -> Tensor:
    return (~stage.done).nonzero()[:, 0]


def _glance(stage: Rehearsal, actor: Actor, eye: Eye) -> Rows:
    """A look from a drawn view, by the learned errors, and nothing after it."""
    view = stage.shell.draw(stage.count, stage.generator)
    before = Rows.of(stage, view, torch.full((stage.count,), torch.nan), torch.zeros(stage.count, 0))
    exact = stage.precision(view)
    stage.share = 0.0
    stage.move(view, torch.ones(stage.count, dtype=torch.bool))
    return replace(before, precision=torch.cat([exact, unclear(stage, actor, eye)], -1))


def held(stage: Rehearsal, actor: Actor, eye: Eye, s: QSettings, steps: int, rows: list[Rows] | None = None) -> Tensor:
    """Discounted returns (n) of the actor that sees what is believed from where the cameras are, for `steps`; 1 at success,
    once. Nothing is looked at again. `rows` gets what was met on the way and what came of it, up to half of the steps."""
    value, index = torch.zeros(stage.count), torch.arange(stage.count)
    met: list[tuple[Rows, Tensor, int]] = []
    for i in range(steps):
        if rows is not None and i % s.along == s.along - 1 and i <= steps // 2:
            nothing = torch.full((stage.count, 2 * stage.shown.shape[1] + 1), torch.nan)
            met.append((Rows.of(stage, stage.view, nothing[:, 0], nothing), index, i))
        value[index] += s.discount**i * stage.act(acted(stage, actor, eye))
        left = _going(stage)
        if not len(left):
            break
        if len(left) < stage.count:
            stage, index = stage.take(left), index[left]
    if rows is not None:
        rows += [replace(row, value=value[k] / s.discount**i) for row, k, i in met]
    return value


def acted(stage: Rehearsal, actor: Actor, eye: Eye) -> Tensor:
    """The actor's action (n, 6) on what is believed, seen from where the cameras are."""
    with torch.no_grad():
        return actor(eye.see(stage.estimated(), stage.command, stage.X_WC))[2]


def unclear(stage: Rehearsal, actor: Actor, eye: Eye) -> Tensor:
    """How far off the actor is about the separation, seen from where the cameras are: (n, 1), logarithm of [mm]."""
    with torch.no_grad():
        tip, *_ = actor(eye.see(stage.estimated(), stage.command, stage.X_WC))
    return (1e3 * (tip - stage.errors(stage.truth)[0])).norm(dim=-1, keepdim=True).clamp_min(0.1).log()


def imagine(rows: Rows, actor: Actor, eye: Eye, shell: Shell, generator: torch.Generator, most: int = 64) -> Prospect:
    """What was to be expected (m) of views within JITTER of those of rows, for views a degree apart are worth the same."""
    parts, model = [], eye.model
    for k in torch.arange(len(rows.value)).split(most):
        still = State(rows.q[k], torch.zeros(len(k), model.scene.nv))
        twin = believed(model, Twin(model.params, still), rows.belief[k])
        at = Situation(twin, Command(rows.q_ref[k], rows.X_WE[k]), rows.sure[k])
        view = rows.view[k] + torch.tensor(JITTER) * (2 * torch.rand(len(k), 3, generator=generator) - 1)
        with torch.no_grad():
            parts.append(prospect(actor, eye, common(eye, at), shell.pose(view), rows.ray[k]))
    return Prospect.cat(parts)
