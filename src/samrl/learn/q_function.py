"""Q(I, a): the discounted return to expect when the camera is taken to where image I is rendered from, and action a follows
there (SAM-RL Sec. III-D). An ensemble, so that it knows what it has not seen. It is regressed on what rehearsals returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samrl.core.nets import mlp
from samrl.learn.actor import WIDTHS, Actor, Eye, Sight, Trunk
from samrl.learn.rehearsal import Rehearsal

HEADS = 5


@dataclass(frozen=True)
class QSettings:
    """episodes: batches of rehearsals; steps: control steps each; every: steps between two moves of the camera that are
    recorded; discount: γ; updates, batch, learning_rate: of the regression."""

    episodes: int = 12
    steps: int = 60
    every: int = 15
    discount: float = 0.98
    updates: int = 1500
    batch: int = 64
    learning_rate: float = 5e-4


class QFunction(nn.Module):
    """(Sight (n), action (n, 6) in its limits) -> returns (n, HEADS) in [0, 1]. Its trunks start as the actor's."""

    limits: Tensor

    def __init__(self, actor: Actor, generator: torch.Generator) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(Trunk(generator) for _ in WIDTHS)
        self.trunks.load_state_dict(actor.trunks.state_dict())
        self.heads = nn.ModuleList(mlp([256 * len(WIDTHS) + 10 + 6, 128, 1], generator, 0.1) for _ in range(HEADS))
        self.register_buffer("limits", actor.policy.limits.clone())

    def logits(self, sight: Sight, action: Tensor) -> Tensor:
        crops = [trunk(sight.images[:, i]) for i, trunk in enumerate(self.trunks)]
        x = torch.cat([*crops, sight.pose, action / self.limits], -1)
        return torch.cat([head(x) for head in self.heads], -1)

    def forward(self, sight: Sight, action: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(sight, action))


@dataclass(frozen=True)
class Returns:
    """Rows (m): what Q was shown before the camera moved there, the action, and the return after it."""

    sight: Sight
    action: Tensor
    value: Tensor

    @staticmethod
    def cat(parts: list[Returns]) -> Returns:
        return Returns(
            Sight.cat([p.sight for p in parts]), torch.cat([p.action for p in parts]), torch.cat([p.value for p in parts])
        )  # fmt: skip


def collect(stage: Rehearsal, actor: Actor, eye: Eye, s: QSettings, progress: Callable[[], None] | None = None) -> Returns:
    """Rehearse with the actor; every so many steps each camera takes a random view. What the view looks like is rendered before
    the look, from what is believed by then: so it is when views are to be chosen."""
    parts, n = [], stage.count
    every = torch.ones(n, dtype=torch.bool)
    for _ in range(s.episodes):
        stage.renew(every)
        shown, rewards = [], []
        for i in range(s.steps):
            if i % s.every == 0:
                view = stage.shell.draw(n, stage.generator)
                shown.append((i, *imagined(stage, actor, eye, view)))
                stage.move(view, every)
            rewards.append(stage.act(acted(stage, actor, eye)))
        reward = torch.stack(rewards)
        for i, sight, action in shown:
            weight = s.discount ** torch.arange(s.steps - i)
            alive = reward[:i].sum(0) == 0  # nothing is left to win after success
            part = Returns(sight, action, (weight[:, None] * reward[i:]).sum(0))
            parts.append(Returns(part.sight[alive], part.action[alive], part.value[alive]))
        if progress:
            progress()
    return Returns.cat(parts)


def imagined(stage: Rehearsal, actor: Actor, eye: Eye, view: Tensor) -> tuple[Sight, Tensor]:
    """What views (n, 3) would show of what is believed, and the actor's action there."""
    with torch.no_grad():
        sight = eye.see(stage.estimated(), stage.command, stage.shell.pose(view))
        return sight, actor(sight)[2]


def acted(stage: Rehearsal, actor: Actor, eye: Eye) -> Tensor:
    """The actor's action (n, 6) on what is believed, seen from where the cameras are."""
    with torch.no_grad():
        return actor(eye.see(stage.estimated(), stage.command, stage.X_WC))[2]


def fit(
    q: QFunction, rows: Returns, s: QSettings, generator: torch.Generator, progress: Callable[[int, float], None] | None = None
) -> list[float]:
    """Regress by cross-entropy on returns in [0, 1]; each head sees a sample of its own (bootstrap). Returns the losses."""
    m = len(rows.value)
    counts = torch.poisson(torch.ones(m, HEADS), generator=generator)
    optimizer = torch.optim.Adam(q.parameters(), s.learning_rate, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, s.updates, s.learning_rate / 20)
    history = []
    for i in range(s.updates):
        k = torch.randint(m, (s.batch,), generator=generator)
        logits = q.logits(rows.sight[k], rows.action[k])
        target = rows.value[k, None].expand_as(logits)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target, weight=counts[k])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        history.append(float(loss.detach()))
        if progress:
            progress(i, history[-1])
    return history
