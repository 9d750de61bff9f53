"""PPO on a task that is known: a cart that must stop in the middle of its rail."""

from __future__ import annotations

import torch
from torch import Tensor

from samrl.learn import ppo


class Carts:
    """Carts on a rail, pushed by a force; won at rest in the middle, lost at the ends."""

    discount = 0.97

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.g = n, torch.Generator().manual_seed(seed)
        self.x, self.v, self.age = torch.zeros(n), torch.zeros(n), torch.randint(0, 60, (n,), generator=self.g)
        self.told: list[list[float]] = []
        self.reset(torch.ones(n, dtype=torch.bool))

    def features(self) -> tuple[Tensor, Tensor]:
        f = torch.stack([self.x, self.v, torch.tanh(self.x / 0.1), torch.tanh(self.v / 0.1)], 1)
        return f, f

    def kinds(self) -> Tensor:
        return torch.zeros(self.n, dtype=torch.long)

    def potential(self) -> Tensor:
        return -self.x.abs() - 0.2 * self.v.abs()

    def step(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        before = self.potential()
        self.v = self.v + 0.1 * z[:, 0].clamp(-1, 1)
        self.x, self.age = self.x + 0.1 * self.v, self.age + 1
        won, lost = (self.x.abs() < 0.05) & (self.v.abs() < 0.1), self.x.abs() > 1.5
        reward = self.discount * self.potential() - before
        return torch.where(won, 1.0, torch.where(lost, -1.0, reward)), won | lost, self.age >= 60, won

    def reset(self, which: Tensor) -> None:
        u = 2 * torch.rand(2, self.n, generator=self.g) - 1
        self.x, self.v = torch.where(which, u[0], self.x), torch.where(which, 0.5 * u[1], self.v)
        self.age = torch.where(which, 0, self.age)

    def adapt(self, won: list[float]) -> None:
        self.told.append(won)


def success(policy: ppo.Policy, seed: int) -> float:
    carts = Carts(200, seed)
    carts.age[:] = 0
    ever = torch.zeros(200, dtype=torch.bool)
    with torch.no_grad():
        for _ in range(59):
            ever |= carts.step(policy(carts.features()[0]))[3]
    return float(ever.double().mean())


def test_a_policy_learns_from_what_its_actions_brought() -> None:
    carts = Carts(128, 0)
    learner = ppo.Learner(carts, ppo.Settings(width=32, minibatch=512, rate=2e-3), seed=0, actions=1)
    assert success(learner.policy, 1) < 0.5
    ppo.train(learner, 40)
    assert success(learner.policy, 1) > 0.9
    assert len(carts.told) == 40 and carts.told[-1][0] > carts.told[0][0]


def test_the_same_seed_learns_the_same() -> None:
    weights = []
    for _ in range(2):
        learner = ppo.Learner(Carts(32, 0), ppo.Settings(width=16, minibatch=128), seed=3, actions=1)
        ppo.train(learner, 2)
        weights.append(torch.cat([p.flatten() for p in learner.policy.parameters()]))
    assert torch.equal(*weights)


def test_episodes_that_end_have_no_future() -> None:
    """Advantages of a stretch by hand: values of what comes after an end do not count, after a timeout they do."""
    carts = Carts(64, 0)
    carts.x[:16], carts.v[:16], carts.age[16:32] = 0.0, 0.0, 57  # nearly won, nearly out of time
    learner = ppo.Learner(carts, ppo.Settings(window=8, width=16), seed=0, actions=1)
    learner.norm, seen, act = (0.3, 2.0), [], carts.step

    def step(z: Tensor) -> tuple[Tensor, ...]:
        seen.append((*act(z), learner._value(carts.features()[1])))
        return seen[-1][:4]

    carts.step = step  # type: ignore[method-assign, assignment]
    _, known, _, _, A, returns = (x.unflatten(0, (8, 64)) for x in learner._collect())
    values, carried = learner._value(known).detach(), torch.zeros(64)
    ends = torch.stack([s[1] for s in seen])
    assert bool(ends.any()) and bool((torch.stack([s[2] for s in seen]) & ~ends).any())
    for t in reversed(range(8)):
        reward, ended, _, _, after = (x.detach() for x in seen[t])
        expected = reward + torch.where(ended, 0.0, 0.97 * after) - values[t] + carried
        assert torch.allclose(A[t], expected, atol=1e-5) and torch.allclose(returns[t], expected + values[t], atol=1e-5)
        previous = seen[t - 1]
        carried = torch.where(previous[1] | previous[2], 0.0, 0.97 * 0.95 * A[t])
