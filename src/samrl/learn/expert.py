"""The expert: trajectories and a privileged state policy, by gradients through the twin.

There is one cost of state (task.cost) and nothing else: no phase, no time index, no waypoint. The policy is a network
that sees where the peg truly is; it is trained by back-propagating the cost of short windows through physics and
controller (Xu et al., SHAC, ICLR 2022, without the critic: the cost is dense)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from samrl.core import lie
from samrl.core.errors import NonFiniteError
from samrl.learn.policies import StatePolicy, make_policy
from samrl.model.model import Command, Model
from samrl.model.placement import set_body_pose
from samrl.model.scene import State, Twin
from samrl.tasks.task import Measures, Task, Told, Truth, separation


@dataclass
class Belief:
    """How the estimate that a policy will act on differs from the truth: a constant offset in each episode and a little noise
    at each step. offset_p (n, 3) [m], offset_r (n, 3) [rad]; noise_p [m], noise_r [rad]."""

    offset_p: Tensor
    offset_r: Tensor
    noise_p: float
    noise_r: float
    generator: torch.Generator

    def mistake(self, tip: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
        """The errors (n, 3) and (n, 3) of `separation`, as the estimate has them."""
        draw = lambda: torch.randn(tip.shape, generator=self.generator)  # noqa: E731
        return tip + self.offset_p + self.noise_p * draw(), axis + self.offset_r + self.noise_r * draw()

    @staticmethod
    def draw(count: int, s: TrainSettings, generator: torch.Generator) -> Belief:
        """Normal offsets, as far as `s` says for half of the environments; the other half see the truth but for noise."""
        off = (torch.arange(count) % 2 == 0).float()[:, None]
        normal = lambda: torch.randn(count, 3, generator=generator)  # noqa: E731
        return Belief(s.offset_p * off * normal(), s.offset_r * off * normal(), s.noise_p, s.noise_r, generator)


class Expert:
    """A policy that is told the truth, bound to a model and a task."""

    def __init__(self, model: Model, task: Task, seed: int = 0) -> None:
        self.model, self.task = model, task
        g = model.gains
        self.policy = make_policy(task, (g.max_translation, g.max_rotation), seed)

    def act(self, twin: Twin, command: Command, belief: Belief | None = None) -> Tensor:
        """Action (*batch, 6) for a batch of situations, as they are or as `belief` mistakes them."""
        told = tell(self.model, self.task, twin, command)
        if belief is None:
            return self.policy(told)
        assert isinstance(self.policy, StatePolicy)
        return self.policy.by_separation(*belief.mistake(*separation(told.marks)), told.lead, told.X_WE[..., :3, :3])

    def rollout(
        self, twin: Twin, command: Command, steps: int, belief: Belief | None = None, effort: float = 0.0
    ) -> tuple[Twin, Command, Tensor, Tensor]:
        """Follow the policy: the last situation, costs (steps, *batch), with `effort` times the squares of actions in shares of
        their limits, success so far (*batch)."""
        costs, done = [], torch.zeros(twin.state.q.shape[:-1], dtype=torch.bool)
        m = begun(self.model, self.task, twin)
        for _ in range(steps):
            action = self.act(twin, command, belief)
            twin, command = self.model.step(twin, command, action)
            for x, hook in ((action, even), (twin.state.q, calm), (twin.state.qd, calm)):
                if x.requires_grad:
                    x.register_hook(hook)
            m = self.task.measures(self.model.poses(twin), m)
            costs.append(self.task.cost(m) + effort * (action / self.policy.limits).square().sum(-1))
            done = done | self.task.success(m).detach()
        return twin, command, torch.stack(costs), done


def tell(model: Model, task: Task, twin: Twin, command: Command) -> Told:
    """What a policy is told of a batch of situations, by one who knows them."""
    q = model.arm(twin.state).q
    X_WE, marks = model.chain.tool(q), task.landmarks(model.poses(twin))
    return Told(marks, X_WE, lie.local(X_WE, command.X_WE), q, model.motion(twin.state))


def begun(model: Model, task: Task, twin: Twin, before: Measures | None = None) -> Measures:
    """The task's measures where an episode begins, which may remember something already."""
    with torch.no_grad():
        return task.measures(model.poses(twin), before or None)


def anew(which: Tensor, fresh: Measures, old: Measures) -> Measures:
    """Measures of episodes that begin where `which` (n), and go on elsewhere."""
    shaped = lambda x: which.reshape(-1, *[1] * (x.dim() - 1))  # noqa: E731
    return {name: torch.where(shaped(x), fresh[name], x) for name, x in old.items()}


def calm(gradient: Tensor) -> Tensor:
    """Shorten the gradient of every environment, (n, k), to three times the median's length. Contact can make the gradient of a
    few environments a thousand times that of the others, and their mean would be theirs alone."""
    norm = gradient.norm(dim=-1, keepdim=True)
    return gradient * (3 * norm.median() / norm.clamp_min(1e-30)).clamp(max=1.0)


def even(gradient: Tensor, most: float = 4.0) -> Tensor:
    """Give the gradient of every environment, (n, k), the median's length, but none more than `most` times its own: then each
    tells the policy which way to go, and none how much that is worth. Contact makes lengths of all sizes; where they are kept, a
    few environments lead, and two batches hardly agree."""
    norm = gradient.norm(dim=-1, keepdim=True)
    return gradient * (norm.median() / norm.clamp_min(1e-30)).clamp(max=most)


@dataclass(frozen=True)
class TrainSettings:
    """iterations: of one window each; batch: environments; window: control steps back-propagated through; learning_rate: of
    Adam, cosine to a twentieth; max_gradient: largest norm; episode: control steps before an environment starts anew, as it
    also does after success; effort: see Expert.rollout, without it some seeds end in policies that swing before the target.
    The policy will act on estimates in worlds with other contact, so it is trained with
    mistaken beliefs (offset_p [m], offset_r [rad], noise_p [m], noise_r [rad]: standard deviations, see Belief), with friction
    from an interval, with joint stiffness off by up to the share `stiffness`, and with shapes between the task's two ends."""

    iterations: int = 300
    batch: int = 64
    window: int = 12
    learning_rate: float = 3e-3
    max_gradient: float = 1.0
    episode: int = 60
    effort: float = 0.3
    offset_p: float = 0.001
    offset_r: float = 0.1
    noise_p: float = 0.0003
    noise_r: float = 0.05
    friction: tuple[float, float] = (0.15, 0.5)
    stiffness: float = 0.2


def train(
    expert: Expert, settings: TrainSettings, seed: int, progress: Callable[[int, float], None] | None = None
) -> list[float]:
    """Train the policy by first-order gradients through the twin. Returns the mean cost of each iteration."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(expert.policy.parameters(), lr=settings.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.iterations, settings.learning_rate / 20)
    n = settings.batch
    twin, command = random_start(expert.model, expert.task, n, generator)
    twin = vary_physics(expert, twin, n, settings, generator)
    belief = Belief.draw(n, settings, generator)
    age = torch.randint(settings.episode, (n,), generator=generator)
    history = []
    for i in range(settings.iterations):
        twin, command, costs, done = expert.rollout(twin, command, settings.window, belief, settings.effort)
        loss = costs.mean()
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(expert.policy.parameters(), settings.max_gradient)
        if not bool(torch.isfinite(norm)):
            raise NonFiniteError(f"the gradient of the expert's cost is not finite in iteration {i} of seed {seed}.")
        optimizer.step()
        cosine.step()
        history.append(float(loss.detach()))
        if progress:
            progress(i, history[-1])
        age += settings.window
        old = done | (age >= settings.episode)
        twin, command = detach(twin, command)
        if bool(old.any()):
            fresh = random_start(expert.model, expert.task, n, generator)
            twin, command = select(old, fresh, (twin, command))
            new = Belief.draw(n, settings, generator)
            belief.offset_p[old], belief.offset_r[old] = new.offset_p[old], new.offset_r[old]
            age[old] = 0
    return history


def vary_physics(expert: Expert, twin: Twin, count: int, s: TrainSettings, generator: torch.Generator) -> Twin:
    """A friction, a joint stiffness and shapes of its own for every environment; every third keeps the task's shapes."""
    u = torch.rand(count, 2, generator=generator)
    p, (low, high) = twin.params, s.friction
    friction = (low + (high - low) * u[:, :1]).expand(count, p.friction.shape[-1]).to(p.friction.dtype)
    stiffness = p.stiffness * (1 + s.stiffness * (2 * u[:, 1:] - 1)).to(p.stiffness.dtype)
    size = p.geom_size.expand(count, *p.geom_size.shape[-2:]).clone()
    for name, ends in expert.task.shapes().items():
        a, b = torch.tensor(ends, dtype=size.dtype)
        drawn = a + (b - a) * torch.rand(count, len(a), generator=generator).to(size.dtype)
        keep = torch.arange(count) % 3 == 0
        geom = expert.model.scene.geom_names.index(name)
        size[:, geom, : len(a)] = torch.where(keep[:, None], size[:, geom, : len(a)], drawn)
    return twin.replace(params=replace(p, friction=friction, stiffness=stiffness, geom_size=size))


def random_start(model: Model, task: Task, count: int, generator: torch.Generator) -> tuple[Twin, Command]:
    """Situations as a reset draws them, another one in each environment."""
    return placed(model, task.sample(count, generator))


def placed(model: Model, truth: Truth) -> tuple[Twin, Command]:
    """Situations (n) that a reset hides, all still."""
    twin = Twin(model.params, model.state(truth.q))
    for body, X_PB in truth.poses.items():
        twin = set_body_pose(model.scene, twin, body, X_PB.to(model.device, model.dtype))
    return twin, model.at_rest(twin.state)


def select(which: Tensor, a: tuple[Twin, Command], b: tuple[Twin, Command]) -> tuple[Twin, Command]:
    """Environments of a where `which` (*batch), else of b."""

    def pick(x: Tensor, y: Tensor) -> Tensor:
        if x.dim() == 0 or x.shape[:1] != which.shape or y.shape[:1] != which.shape:
            return y
        return torch.where(which.reshape(-1, *[1] * (x.dim() - 1)), x, y)

    def merge(x: object, y: object) -> dict[str, Tensor]:
        return {f.name: pick(getattr(x, f.name), getattr(y, f.name)) for f in fields(x)}  # type: ignore[arg-type]

    (ta, ca), (tb, cb) = a, b
    params = replace(tb.params, **{k: merge(ta.params, tb.params)[k] for k in ("link_p", "link_R")})
    return Twin(params, State(**merge(ta.state, tb.state))), Command(**merge(ca, cb))


def detach(twin: Twin, command: Command) -> tuple[Twin, Command]:
    """The same situation without its history."""
    s = twin.state
    return (
        twin.replace(state=State(s.q.detach(), s.qd.detach())),
        Command(command.q_ref.detach(), command.X_WE.detach()),
    )


def optimize_trajectories(
    model: Model,
    task: Task,
    twin: Twin,
    command: Command,
    *,
    steps: int = 40,
    iterations: int = 60,
    learning_rate: float = 0.1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Action sequences by gradient descent on the summed cost of state, all environments in parallel, from zero actions, with
    steps that get smaller (cosine to a thirtieth). What contact makes of a gradient is calmed (see `calm`).

    Returns actions (steps, *batch, 6), costs (steps, *batch) and success (*batch) of the best sequence met."""
    limits = torch.tensor([model.gains.max_translation] * 3 + [model.gains.max_rotation] * 3)
    x = torch.zeros(steps, *twin.state.q.shape[:-1], 6, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=learning_rate, betas=(0.9, 0.99))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations, learning_rate / 30)
    best = torch.full(twin.state.q.shape[:-1], float("inf"))
    best_x, best_costs = x.detach().clone(), torch.zeros(steps, *best.shape)
    best_done = torch.zeros_like(best, dtype=torch.bool)
    for _ in range(iterations):
        costs, done = _follow(model, task, twin, command, torch.tanh(x) * limits)
        total = costs.sum(0)
        optimizer.zero_grad()
        total.sum().backward()
        assert x.grad is not None
        x.grad.copy_(calm(x.grad.movedim(0, -2).flatten(-2)).unflatten(-1, (steps, 6)).movedim(-2, 0))
        better = total.detach() < best
        best = torch.where(better, total.detach(), best)
        best_x[:, better] = x.detach()[:, better]
        best_costs[:, better] = costs.detach()[:, better]
        best_done = torch.where(better, done, best_done)
        optimizer.step()
        cosine.step()
    return torch.tanh(best_x) * limits, best_costs, best_done


def _follow(model: Model, task: Task, twin: Twin, command: Command, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Costs (steps, *batch) along given actions (steps, *batch, 6), and whether there was success (*batch)."""
    costs, done = [], torch.zeros(twin.state.q.shape[:-1], dtype=torch.bool)
    m = begun(model, task, twin)
    for a in actions:
        twin, command = model.step(twin, command, a)
        for x in (twin.state.q, twin.state.qd):
            x.register_hook(calm)
        m = task.measures(model.poses(twin), m)
        costs.append(task.cost(m))
        done |= task.success(m).detach()
    return torch.stack(costs), done
