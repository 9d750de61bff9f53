"""Episodes of a task that is learned by trying (tasks.task.Tried), many at once in the twin, as `ppo` takes them. No gradients.

The reward of a step is how far the task's cost falls, γ Φ(s') - Φ(s) with Φ its negative (Ng, Harada and Russell 1999): the sum
along an episode is the same whatever the way, and standing still at a good place costs (1 - γ) Φ a step.

Two curricula, both driven by what is won: a beginner has a soft twin with long steps and goes on, once half of the task's own
starts are won while exploring, in one with stiff contact, where all that varies and disturbs grows with every stretch after
which nearly half are won; and the share of these starts grows with that rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from samrl.learn import ppo
from samrl.learn.expert import Expert, begun, placed, tell
from samrl.learn.policies import TriedPolicy, acted
from samrl.learn.starts import OWN, draw
from samrl.learn.variation import HARD, LIKELY, SOFT, Doubt, Variation, geoms_of, mistaken, vary
from samrl.model.model import Command, Model
from samrl.model.placement import floats
from samrl.model.scene import Params, State, Twin
from samrl.tasks.task import Measures, Tried

WON, LOST = 20.0, -2.0  # what these are worth
LEVELS = 0.25, 0.02  # where what disturbs begins, and how it grows
ROCKING = 0.15  # squared speed that is enough to rock on [m²/s²]
REACH = 0.06  # where turning counts as speed [m]
WILD = 60.0  # no joint and no body is that fast [m/s, rad/s]


class Trials:
    """`count` environments (learn.ppo.Episodes).

    Args:
        mix: share of the task's own starts in the beginning; the other kinds share the rest.
        grow: training: `adapt` changes variation and mix.
    """

    def __init__(
        self, model: Model, task: Tried, count: int, seed: int, variation: Variation, *, doubt: Doubt | None = None,
        mix: float = 1.0, grow: bool = False, discount: float = 0.99,
    ) -> None:  # fmt: skip
        self.whole, self.task, self.n, self.doubt = model, task, count, (doubt or Doubt()).scale()
        self.mix = self.first = mix
        self.level = 0.0  # of HARD
        self.grow, self.discount, self.g = grow, discount, torch.Generator().manual_seed(seed)
        gains = model.gains
        self.limits = torch.tensor([gains.max_translation] * 3 + [gains.max_rotation] * 3)
        self.floating = next(n for n in model.updatable if floats(model.scene, n))
        self.geom = geoms_of(model, self.floating)[0]
        self._begin(variation)

    def _begin(self, variation: Variation) -> None:
        """All environments anew, in a twin like that."""
        self.variation, self.model = variation, self.whole.paced(variation.substeps, variation.slip)
        self.age = torch.zeros(self.n, dtype=torch.long)
        if self.grow:
            self.age = torch.randint(0, self.task.horizon, (self.n,), generator=self.g)
        self.store, self.used = self._draw(), self.n
        self.now = self.store
        self._look()

    def kinds(self) -> Tensor:
        return self.now.kind

    def adapt(self, won: list[float]) -> None:
        if not self.grow:
            return
        self.mix = self.first + (0.9 - self.first) * won[OWN]
        if self.level == 0 and won[OWN] > 0.5:
            self.level = LEVELS[0]
            self._begin(HARD.scaled(self.level))
        elif 0 < self.level < 1 and won[OWN] > 0.45:
            self.level = min(1.0, self.level + LEVELS[1])
            self.variation = HARD.scaled(self.level)

    def reset(self, which: Tensor) -> None:
        """Start environments of the mask (n) anew, from starts in store: drawing many at once is cheaper."""
        i = which.nonzero()[:, 0]
        if not len(i):
            return
        if self.used + len(i) > self.n:
            self.store, self.used = self._draw(), 0
        j = torch.arange(self.used, self.used + len(i))
        self.used += len(i)
        self.now = self.now.put(i, self.store, j, self.whole.params)
        self.age[i] = 0
        self._look()

    def features(self) -> tuple[Tensor, Tensor]:
        """Of the policy (n, F), and of the critic (n, F + 5), who knows the truth, and cost, friction, mass, shape and rest."""
        f = self.task.features(self.told)
        p, i = self.now.twin.params, self.model.scene.link(self.floating)
        mass = p.mass[:, i] / self.whole.params.mass[i] - 1
        size = 6 * (p.geom_size[:, self.geom, 1] / self.whole.params.geom_size[self.geom, 1] - 1)
        cost, friction = self.task.cost(self.now.measures) / 5, 5 * (p.friction[:, self.geom] - 0.4)
        known = torch.stack([cost, friction, 3 * mass, size, 2 * self.now.restless.float() - 1], -1)
        return f, torch.cat([self.task.features(self.truth), known], -1)

    def step(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reward, whether the episode ended, whether its time is over, whether it was a success (n each)."""
        now, value = self.now, -self.task.cost(self.now.measures)
        twin, command = self.model.step(now.twin, now.command, acted(self.task, self.limits, z, self.told))
        measures = self.task.measures(self.model.poses(twin), now.measures)
        self.age += 1
        lost = self.task.lost(measures) | (twin.state.qd.abs().amax(-1) > WILD)
        won, rush = self.task.success(measures) & ~lost, self._rush(twin)
        reward = -self.discount * self.task.cost(measures) - value - self.variation.gentle * rush.clamp(max=4)
        reward = torch.where(won, WON - value, torch.where(lost, LOST - value.clamp(min=0), reward))
        rocks = self.task.rocks(measures) & now.restless
        still = torch.rand(self.n, generator=self.g) < 0.03
        rocking = (now.rocking | (rush > ROCKING)) & rocks & ~still
        twin = self._kicked(twin, rocking)
        self.now = Moment(twin, command, measures, now.kind, now.mistake, now.restless, rocking)
        self._look()
        return reward, won | lost, self.age >= self.task.horizon, won

    def _rush(self, twin: Twin) -> Tensor:
        """(n) squared speed of what floats and of its turning [m²/s²]."""
        v = twin.state.qd[:, self.model.scene.coordinates(self.floating)[1]].square()
        return v[:, :3].sum(-1) + REACH**2 * v[:, 3:].sum(-1)

    def _kicked(self, twin: Twin, rocking: Tensor) -> Twin:
        """Another velocity for some of what floats, and for what rocks."""
        hit = torch.rand(self.n, 1, generator=self.g) < self.variation.kick
        some = torch.tensor([0.05] * 3 + [1.0] * 3) * hit + torch.tensor([0.0] * 3 + [2.0, 2.0, 4.0]) * rocking[:, None]
        qd = twin.state.qd.clone()
        qd[:, self.model.scene.coordinates(self.floating)[1]] += some * torch.randn(self.n, 6, generator=self.g)
        return twin.replace(state=State(twin.state.q, qd))

    def _look(self) -> None:
        """What the policy is told: the truth, and how far it is mistaken now."""
        self.truth = true = tell(self.model, self.task, self.now.twin, self.now.command)
        self.told = mistaken(true, self.now.mistake + self.doubt * 0.5**0.5 * torch.randn(self.n, 18, generator=self.g))

    def _draw(self) -> Moment:
        """As many starts as there are environments, of all kinds."""
        starts = draw(self.task, self.n, self.g, staged=1 - self.mix)
        twin, command = placed(self.model, starts.truth)
        params = vary(self.model, self.task, self.floating, self.variation, self.n, self.g)
        own = {name: getattr(twin.params, name) for name in ("link_p", "link_R")}
        twin = twin.replace(params=params.replace(**own))
        measures = begun(self.model, self.task, twin, starts.before)
        mistake = self.doubt * 0.5**0.5 * torch.randn(self.n, 18, generator=self.g)
        restless = torch.rand(self.n, generator=self.g) < self.variation.restless
        return Moment(twin, command, measures, starts.kind, mistake, restless, restless & self.task.rocks(measures))


@dataclass(frozen=True)
class Moment:
    """Where environments (n) stand. kind: (n) of the start; mistake: (n, 18) of what is told, for the whole episode; restless:
    (n) what floats rocks on where it may; rocking: (n) it does."""

    twin: Twin
    command: Command
    measures: Measures
    kind: Tensor
    mistake: Tensor
    restless: Tensor
    rocking: Tensor

    def put(self, i: Tensor, other: Moment, j: Tensor, shared: Params) -> Moment:
        """With environments i (m) as j (m) of another; leaves that have no more axes than in `shared` are nobody's own."""
        into = lambda x, y: x.index_copy(0, i, y[j])  # noqa: E731
        p, p_, s, s_, c, c_ = self.twin.params, other.twin.params, self.twin.state, other.twin.state, self.command, other.command
        leaves = {f.name: (getattr(p, f.name), getattr(p_, f.name)) for f in fields(Params)}
        varied = {name: into(a, b) for name, (a, b) in leaves.items() if a.dim() > getattr(shared, name).dim()}
        state, command = State(into(s.q, s_.q), into(s.qd, s_.qd)), Command(into(c.q_ref, c_.q_ref), into(c.X_WE, c_.X_WE))
        measures = {name: into(x, other.measures[name]) for name, x in self.measures.items()}
        rest = (into(getattr(self, name), getattr(other, name)) for name in ("kind", "mistake", "restless", "rocking"))
        return Moment(Twin(p.replace(**varied), state), command, measures, *rest)


@dataclass(frozen=True)
class TrySettings:
    """iterations: of a stretch in every environment and what is learned from it; batch: environments; own: share of the task's
    own starts in the beginning."""

    iterations: int = 300
    batch: int = 512
    own: float = 0.4


def train(expert: Expert, settings: TrySettings, seed: int, progress: Callable[[int, float], None] | None = None) -> list[float]:
    """Train the policy of an expert by trying. Returns, for each iteration, the share of the task's own starts that is won while
    exploring, of which `progress` hears."""
    assert isinstance(expert.policy, TriedPolicy)
    trials = Trials(expert.model, expert.policy.task, settings.batch, seed, SOFT, doubt=LIKELY, mix=settings.own, grow=True)
    learner = ppo.Learner(trials, ppo.Settings(), seed, kinds=1 + len(trials.task.stages), policy=expert.policy.net)
    history: list[float] = []

    def told(i: int, won: list[float]) -> None:
        history.append(won[OWN])
        if progress:
            progress(i, won[OWN])

    ppo.train(learner, settings.iterations, told)
    return history
