"""A policy from what its own actions brought: proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

The expert of `learn.expert` follows gradients through the twin. Where a task is won by contact that comes and goes (a blade that
slips under a disc, a toss), these tell how to press harder, not that one could go round; a policy that tries actions and keeps
what paid finds the way. Both need nothing but the twin, and this one no derivative of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from samrl.core.errors import NonFiniteError


class Episodes(Protocol):
    """Environments in a batch of n, with starts of several kinds."""

    discount: float

    def features(self) -> tuple[Tensor, Tensor]:
        """Where they stand: what the policy sees (n, F), and what the critic sees (n, C), who may know more."""
        ...

    def kinds(self) -> Tensor:
        """(n) int, the kind of start of each; 0 is the task's own."""
        ...

    def step(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Act by z (n, A), in units of the action's limits: reward, ended for good, out of time, and won (n each)."""
        ...

    def reset(self, which: Tensor) -> None:
        """Start those of the mask (n) anew."""
        ...

    def adapt(self, won: list[float]) -> None:
        """Told after every stretch which share of each kind of start is won; may make starts and physics harder."""
        ...


@dataclass(frozen=True)
class Settings:
    """window: steps of a stretch; epochs, minibatch: of its use; rate: of Adam at first, held so that an epoch's divergence
    stays near `divergence`; clip: of the ratio of probabilities; trace: of the advantage (Schulman et al. 2016); spread: of the
    first actions, in units of their limits, and entropy: what keeps it up; width: of the networks; memory: episodes over which
    shares are counted."""

    window: int = 16
    epochs: int = 4
    minibatch: int = 2048
    rate: float = 5e-4
    divergence: float = 0.012
    clip: float = 0.2
    trace: float = 0.95
    spread: float = 0.5
    entropy: float = 0.002
    width: int = 192
    memory: int = 200


class Policy(nn.Module):
    """Features (*batch, F) -> mean (*batch, A) of the action in units of its limits; the spread is the same everywhere."""

    def __init__(self, features: int, actions: int, settings: Settings) -> None:
        super().__init__()
        self.net = _network(features, actions, 0.1, settings.width)
        self.log_std = nn.Parameter(torch.full((actions,), math.log(settings.spread)))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def log_prob(self, mean: Tensor, z: Tensor) -> Tensor:
        """(*batch) logarithm of the density of z (*batch, A)."""
        away = (z - mean) / self.log_std.exp()
        return (-0.5 * away.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)


def _network(inputs: int, outputs: int, scale: float, width: int) -> nn.Sequential:
    first, last = nn.Linear(inputs, width), nn.Linear(width, outputs)
    with torch.no_grad():
        last.weight *= scale
        last.bias.zero_()
    return nn.Sequential(first, nn.LayerNorm(width), nn.ELU(), nn.Linear(width, width), nn.ELU(), last)


class Shares:
    """Running share of episodes won, by kind of start."""

    def __init__(self, kinds: int, memory: int) -> None:
        self.won, self.ended, self.memory = torch.zeros(kinds), torch.zeros(kinds), memory

    def add(self, kind: Tensor, over: Tensor, won: Tensor) -> None:
        """Count the episodes (n) that are over."""
        for k in range(len(self.won)):
            of_kind = over & (kind == k)
            keep = (1 - 1 / self.memory) ** int(of_kind.sum())
            self.won[k] = keep * self.won[k] + (won & of_kind).sum() / self.memory
            self.ended[k] = keep * self.ended[k] + of_kind.sum() / self.memory

    def values(self) -> list[float]:
        """While there are few, those to come count as lost."""
        return (self.won / self.ended.clamp_min(0.2)).tolist()


class Learner:
    """A policy and its critic. `step` acts for a stretch and learns from it.

    Attributes:
        policy; critic: (C) features -> value, in units of `norm`, the returns' (mean, deviation).
        shares: of episodes won.
    """

    def __init__(
        self, episodes: Episodes, settings: Settings, seed: int, actions: int = 6, kinds: int = 1, policy: Policy | None = None
    ) -> None:
        self.episodes, self.settings = episodes, settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            seen, known = episodes.features()
            self.policy = policy or Policy(seen.shape[1], actions, settings)
            self.critic = _network(known.shape[1], 1, 1.0, settings.width)
        self.generator = torch.Generator().manual_seed(seed)
        self.shares, self.norm = Shares(kinds, settings.memory), (0.0, 0.0)
        self.optimizers = (
            torch.optim.Adam(self.policy.parameters(), lr=settings.rate),
            torch.optim.Adam(self.critic.parameters(), lr=1e-3),
        )

    def step(self) -> float:
        """Returns the mean divergence of the last epoch. Raises NonFiniteError."""
        batch = self._collect()
        mean, deviation = float(batch[-1].mean()), max(1.0, float(batch[-1].std()))
        if not math.isfinite(mean):
            raise NonFiniteError("the returns of a stretch are not finite; ended episodes must not count what comes after them.")
        m, d = self.norm
        self.norm = (0.9 * m + 0.1 * mean, 0.9 * d + 0.1 * deviation) if d else (mean, deviation)
        divergence = self._improve(batch)
        group, s = self.optimizers[0].param_groups[0], self.settings
        change = 1 / 1.2 if divergence > 2 * s.divergence else 1.2 if divergence < s.divergence / 2 else 1.0
        group["lr"] = min(max(change * group["lr"], s.rate / 10), 4 * s.rate)
        self.episodes.adapt(self.shares.values())
        return divergence

    @torch.no_grad()
    def _collect(self) -> list[Tensor]:
        """Policy's and critic's features, actions, their log-probabilities, advantages and returns, a row for each step."""
        e, s = self.episodes, self.settings
        rows, steps = [], []
        seen, known = e.features()
        for _ in range(s.window):
            mean = self.policy(seen)
            z = mean + self.policy.log_std.exp() * torch.randn(mean.shape, generator=self.generator)
            reward, ended, late, won = e.step(z)
            rows.append((seen, known, z, self.policy.log_prob(mean, z)))
            steps.append((reward, ended, ended | late, self._value(e.features()[1])))  # of the state reached, before any anew
            self.shares.add(e.kinds(), ended | late, won)
            e.reset(ended | late)
            seen, known = e.features()
        columns = [torch.stack(x) for x in zip(*rows, strict=True)]
        values, advantage, advantages = self._value(columns[1]), torch.zeros(len(seen)), []
        for (reward, ended, over, after), value in zip(reversed(steps), reversed(values), strict=True):
            surprise = reward + e.discount * after * ~ended - value
            advantage = surprise + e.discount * s.trace * advantage * ~over
            advantages.append(advantage)
        A = torch.stack(advantages[::-1])
        return [x.flatten(0, 1) for x in (*columns, A, A + values)]

    def _value(self, known: Tensor) -> Tensor:
        return self.critic(known)[..., 0] * self.norm[1] + self.norm[0]

    def _improve(self, batch: list[Tensor]) -> float:
        seen, known, actions, before, A, returns = batch
        s = self.settings
        divergences: list[float] = []
        A, target = ((A - A.mean()) / (A.std() + 1e-6)).clamp(-5, 5), (returns - self.norm[0]) / self.norm[1]
        for _ in range(s.epochs):
            divergences = []
            for b in torch.randperm(len(A), generator=self.generator).split(s.minibatch):
                mean = self.policy(seen[b])
                gain = self.policy.log_prob(mean, actions[b]) - before[b]
                ratio = gain.exp()
                divergences.append(float((ratio - 1 - gain).mean().detach()))
                bound = torch.min(ratio * A[b], ratio.clamp(1 - s.clip, 1 + s.clip) * A[b]).mean()
                beyond = (mean.abs() - 1.5).clamp(min=0).square().mean()  # where nothing changes any more
                loss = -bound - s.entropy * self.policy.log_std.sum() + 1e-3 * beyond
                error = nn.functional.huber_loss(self.critic(known[b])[:, 0], target[b], delta=2.0)
                for optimizer, net, cost in zip(self.optimizers, (self.policy, self.critic), (loss, error), strict=True):
                    optimizer.zero_grad()
                    cost.backward()
                    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                    optimizer.step()
        return sum(divergences) / len(divergences)


def train(learner: Learner, iterations: int, progress: Callable[[int, list[float]], None] | None = None) -> None:
    """Stretch after stretch; `progress` is told its number and the shares won."""
    for i in range(iterations):
        learner.step()
        if progress:
            progress(i, learner.shares.values())
