"""DAgger (Ross, Gordon and Bagnell 2011): the actor learns the labels of the expert, who knows the truth, on the situations that
the actor itself gets into, from images of what is believed; and where things are in these."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.core.errors import NonFiniteError
from samrl.learn.actor import Actor, Eye, Sight, about
from samrl.learn.rehearsal import Rehearsal

SMOOTH = 50  # iterations


@dataclass(frozen=True)
class DaggerSettings:
    """iterations: of one control step in every environment and `updates` steps of Adam on `batch` samples; share: of actions
    that are the expert's, falling from 1 to `least_share` over the first half; move: iterations between new views of all cameras;
    capacity: samples that are kept; near [m]: half of each batch comes from where the load is nearer to its target; enough: the
    training ends where the mean loss of the last SMOOTH iterations is no more than that, once all samples are from after the fall
    of the share: losses before it are of other situations."""

    iterations: int = 800
    updates: int = 8
    batch: int = 32
    learning_rate: float = 2e-3
    least_share: float = 0.1
    move: int = 6
    capacity: int = 16_000
    near: float = 0.03
    episode: int = 60
    enough: float = 0.0


class Memory:
    """The last `capacity` samples: sights (images in half precision), labels and, beside them, how far the load is."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.count, self.next = capacity, 0, 0
        self.kept: list[Tensor] = []
        self.labels = 0

    def add(self, sight: Sight, *labels: Tensor) -> None:
        """A batch of samples (n), in the place of the oldest; the first label is the separation."""
        parts = [sight.images.half(), *sight.parts()[1:], *labels]
        if not self.kept:
            self.kept = [x.new_empty((self.capacity, *x.shape[1:])) for x in parts]
            self.labels = len(labels)
        n = len(sight.pose)
        rows = (self.next + torch.arange(n)) % self.capacity
        for kept, x in zip(self.kept, parts, strict=True):
            kept[rows] = x
        self.next, self.count = (self.next + n) % self.capacity, min(self.count + n, self.capacity)

    def draw(self, count: int, near: float, generator: torch.Generator) -> tuple[Sight, list[Tensor]]:
        """`count` samples, half of them with the first label shorter than `near`, where there are any."""
        close = self.kept[-self.labels][: self.count].norm(dim=-1) < near
        weight = torch.ones(self.count)
        if 0 < int(close.sum()) < len(close):
            weight = torch.where(close, 1 / close.sum(), 1 / (~close).sum())
        rows = torch.multinomial(weight, count, replacement=True, generator=generator)
        picked = [x[rows] for x in self.kept]
        return Sight(*picked[: -self.labels]), picked[-self.labels :]


def smooth(history: list[float]) -> float:
    """The mean of the last SMOOTH losses."""
    return sum(history[-SMOOTH:]) / len(history[-SMOOTH:])


def train(
    actor: Actor, eye: Eye, stage: Rehearsal, s: DaggerSettings, progress: Callable[[int, float], None] | None = None
) -> list[float]:
    """Train in the rehearsal's environments: while a thread learns from what was collected so far, the next control step is
    collected with the weights as they were before, so that the threads' speed changes nothing. Returns the loss of each
    iteration."""
    generator = stage.generator
    weights = [p for name, p in actor.named_parameters() if not name.startswith("policy.")]
    optimizer = torch.optim.Adam(weights, s.learning_rate)
    rate = lambda i: 0.5 * (1 + math.cos(math.pi * i / s.iterations)) + 0.02  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    memory, history = Memory(s.capacity), []
    actor.train()
    acting = deepcopy(actor).eval()

    def learn(batches: list[tuple[Sight, list[Tensor]]]) -> float:
        torch.set_num_threads(1)  # each thread has a setting of its own
        losses = [_learn(actor, optimizer, *batch) for batch in batches]
        schedule.step()
        return sum(losses) / len(losses)

    stage.age = torch.randint(s.episode, (stage.count,), generator=generator)
    with ThreadPoolExecutor(1) as thread:
        learning: Future[float] | None = None
        for i in range(s.iterations):
            _collect(acting, eye, stage, memory, s, i)
            if learning:
                history.append(learning.result())
                acting.load_state_dict(actor.state_dict())
                if i >= s.iterations // 2 + s.capacity // stage.count + SMOOTH and smooth(history) <= s.enough:
                    learning = None
                    break
            batches = [memory.draw(s.batch, s.near, generator) for _ in range(s.updates)]
            learning = thread.submit(learn, batches)
            if progress:
                progress(i, history[-1] if history else float("nan"))
        if learning:
            history.append(learning.result())
    actor.eval()
    return history


def _collect(actor: Actor, eye: Eye, stage: Rehearsal, memory: Memory, s: DaggerSettings, i: int) -> None:
    """One control step in every environment, labelled with where things are in what is seen, and with what the expert, who knows
    where they really are, would do."""
    generator, n = stage.generator, stage.count
    with torch.no_grad():
        estimate = stage.estimated()
        place = eye.place(estimate, stage.command)
        sight, action = eye.look(place, stage.X_WC), stage.label()
        memory.add(sight, stage.errors(stage.truth)[0], about(stage.landmarks(estimate), place.tip), action)
        share = max(s.least_share, 1 - 2 * i / s.iterations)
        own = torch.rand(n, generator=generator) >= share
        if bool(own.any()):
            action = torch.where(own[:, None], actor(sight)[2], action)
    stage.act(action)
    if i % s.move == 0:
        stage.move(stage.shell.draw(n, generator), torch.ones(n, dtype=torch.bool))
    over = stage.age >= s.episode
    if int(over.sum()) >= n // 8:
        stage.renew(over)


def _learn(actor: Actor, optimizer: torch.optim.Optimizer, sight: Sight, labels: list[Tensor]) -> float:
    loss = actor.loss(sight, *labels[1:])
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
    if not bool(torch.isfinite(norm)):
        raise NonFiniteError("the gradient of the actor's loss is not finite.")
    optimizer.step()
    return float(loss.detach())
