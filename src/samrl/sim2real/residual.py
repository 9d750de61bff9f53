"""The residual: what only the real image shows. Soft Actor-Critic (Haarnoja et al. 2018, of Stable-Baselines3) learns in the
world itself to correct the twin's action. It starts at zero: untrained, it changes no bit."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor

from samrl.core import lie, runs
from samrl.core.errors import RunFolderError
from samrl.core.types import RGBD
from samrl.learn.actor import Actor
from samrl.learn.trunk import PER_CROP, SIZE
from samrl.sim2real.control_loop import Loop
from samrl.sim2real.evaluate import Bench, Witness
from samrl.tasks.task import Measures

BOUND = 0.3  # of the action's limits
TRUNK = 1  # of the actor, with the finer crop
OBSERVED = PER_CROP + 7 + 6 + 6  # numbers, see `observe`
SPARE = 3  # real steps that a control step may need: two looks where a body has to be located first, and an act
MOST = 2.0  # that the cost may seem to fall or rise by in a step: a new view may correct the estimate by more than the arm moves
HOPE = 0.9  # return, of which success is 1: where the twin's action promises as much, it is left as it is
SEES, SAYS = gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVED,), np.float32), gymnasium.spaces.Box(-1.0, 1.0, (6,), np.float32)


@dataclass(frozen=True)
class ResidualSettings:
    """discount; rate: of Adam; train: gradient steps for each control step; batch; success: reward beside the fall of the cost;
    effort: what the square of a correction costs, without which the policy drifts on the critics' errors; noise: logarithm of the
    first standard deviation of what is tried, in shares of BOUND: with less than a third of it, a few hundred steps teach
    nothing."""

    discount: float = 0.95
    rate: float = 3e-4
    train: int = 12
    batch: int = 128
    success: float = 1.0
    effort: float = 0.05
    noise: float = -1.0
    capacity: int = 4000


def observe(loop: Loop, action: Tensor, actor: Actor) -> np.ndarray:
    """What the residual sees after `loop.sense`: the actor's features of the real image near the tip, the joints [rad], the
    command's lead, and the twin's action in its limits: (PER_CROP + 7 + 6 + 6)."""
    model = loop.model
    q = torch.as_tensor(loop.observation.arm.q, dtype=model.dtype)
    X_WE = model.chain.tool(q)
    tip = lie.transform(X_WE, loop.task.tip().to(model.dtype)[None])[0]
    with torch.no_grad():
        features = actor.trunks[TRUNK](near(loop.images, tip, actor.crops[TRUNK])[None]).features[0]
    lead = lie.local(X_WE, loop.command.X_WE)
    lead = lead / torch.tensor([0.02] * 3 + [0.1] * 3)
    return torch.cat([features, q, lead, action / actor.policy.limits]).float().numpy()


def near(images: list[RGBD], tip: Tensor, width: float) -> Tensor:
    """The real image `width` [m] across around the tip (3), as that trunk of the actor takes it (S, S, 5): of the regions that
    were exposed, the one whose middle is nearest to the tip."""

    def off(image: RGBD) -> float:
        uv = image.camera.project(tip.double()[None])[0, :2]
        return float((uv - 0.5 * image.camera.width).norm())

    image = min(images, key=off)
    camera, (u, v, z) = image.camera, image.camera.project(tip.double()[None])[0].tolist()
    color, depth, valid = (torch.as_tensor(np.asarray(x, np.float32)) for x in (image.color, image.depth, image.valid))
    depth = torch.where(valid > 0, (depth - z) / width, 0.0).clamp(-2, 2)
    whole = torch.cat([color - 0.5, depth[..., None], valid[..., None]], -1).permute(2, 0, 1)
    line = ((torch.arange(SIZE) + 0.5) / SIZE - 0.5) * width * float(camera.K[0]) / z  # pixels from the tip
    across, down = 2 * (u + line) / camera.width - 1, 2 * (v + line) / camera.height - 1
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)
    return torch.nn.functional.grid_sample(whole[None], grid[None], align_corners=False)[0].permute(1, 2, 0)


class LearnedResidual:
    """A Residual (control_loop.py) that SAC has learned. It corrects only where both critics say that this is better, and that
    without it little is to be hoped for."""

    def __init__(self, sac: SAC, actor: Actor) -> None:
        self.sac, self.actor = sac, actor

    def __call__(self, loop: Loop, action: Tensor) -> Tensor:
        seen = observe(loop, action, self.actor)
        share, _ = self.sac.predict(seen, deterministic=True)
        return corrected(action, share if self._better(seen, share) else np.zeros_like(share), self.actor)

    def _better(self, seen: np.ndarray, share: np.ndarray) -> bool:
        """Whether each critic prefers `share` to nothing, and neither expects HOPE of nothing."""
        both = torch.as_tensor(np.stack([share, np.zeros_like(share)]))
        with torch.no_grad():
            by_share, by_nothing = torch.cat(self.sac.critic(torch.as_tensor(seen).expand(2, -1), both), -1)
        return bool((by_share > by_nothing).all() and by_nothing.max() < HOPE)


def corrected(action: Tensor, share: np.ndarray, actor: Actor) -> Tensor:
    """The action (6) plus a share (6) in [-1, 1] of BOUND, within the limits, or as far beyond them as the action, whose limits
    are in the tool's axes."""
    limits = actor.policy.limits
    most = torch.maximum(limits, action.abs())
    return torch.minimum(torch.maximum(action + BOUND * limits * torch.as_tensor(share), -most), most)


class RealSteps(gymnasium.Env):
    """The world as a Gymnasium environment of residual actions, which counts what it costs.

    Attributes:
        real_steps: acts and looks so far, each one step; limit: of them. An episode that would go beyond is cut short.
    """

    def __init__(self, bench: Bench, actor: Actor, settings: ResidualSettings, limit: int) -> None:
        self.bench, self.actor, self.s, self.real_steps, self.limit = bench, actor, settings, 0, limit
        self.observation_space, self.action_space = SEES, SAYS

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """A new episode in the world, drawn from `seed`."""
        b = self.bench
        self.witness = Witness(b.world, b.task)
        self.believed: Measures | None = None
        self.loop = Loop(self.witness, b.model, b.task, b.agent, segment=b.segment)
        self.loop.begin(seed or 0)
        seen = self._sense()
        self.cost = self._cost()
        return seen, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        b = self.bench
        self.loop.act(corrected(self.action, action, self.actor))
        self.real_steps += 1
        won = self._won()
        over = self.loop.step >= b.task.horizon or not self.affords()
        if not won and self.affords():
            self._sense()
        cost = self._cost()
        fall, self.cost = np.clip(self.cost - cost, -MOST, MOST), cost
        reward = self.s.success * won + 0.1 * fall - self.s.effort * float(np.square(action).sum())
        return self.seen, reward, won, over and not won, {"success": won}

    def affords(self) -> bool:
        """Whether one more control step stays within the limit."""
        return self.real_steps + SPARE <= self.limit

    def _sense(self) -> np.ndarray:
        looked = self.witness.looks
        self.action = self.loop.sense()
        self.real_steps += self.witness.looks - looked
        self.seen = observe(self.loop, self.action, self.actor)
        return self.seen

    def _won(self) -> bool:
        """By the world's judge: of a real robot, whoever watches it says so."""
        return self.witness.success()

    def _cost(self) -> float:
        """As the twin believes."""
        self.believed = self.bench.task.measures(self.bench.model.poses(self.loop.twin), self.believed)
        return float(self.bench.task.cost(self.believed))


class _Nowhere(gymnasium.Env):
    """Stands for the world where SAC only has to be read."""

    observation_space, action_space = SEES, SAYS


def read(path: Path) -> SAC:
    """What was learned, to be used and not to learn any further."""
    sac = fresh(_Nowhere(), ResidualSettings(), 0)
    load(sac, path)
    return sac


class CarefulCritic(ContinuousCritic):
    """Critics that know what effort costs, and need not learn it from a few hundred steps; normalised layers keep them from
    overrating what they have not seen (Ball et al. 2023)."""

    effort = 0.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for i, net in enumerate(self.q_networks):
            layers = ([x, torch.nn.LayerNorm(x.out_features)] if _hidden(x) else [x] for x in net.children())
            self.q_networks[i] = torch.nn.Sequential(*(x for some in layers for x in some))
            self.add_module(f"qf{i}", self.q_networks[i])  # the name by which the base class registered the plain one

    def forward(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        cost = self.effort * actions.square().sum(-1, keepdim=True)
        return tuple(q - cost for q in super().forward(obs, actions))


def _hidden(layer: torch.nn.Module) -> bool:
    return isinstance(layer, torch.nn.Linear) and layer.out_features > 1


class Careful(SACPolicy):
    """SAC's policy with such critics."""

    def __init__(self, *arguments: Any, effort: float, **named: Any) -> None:
        self.effort = effort
        super().__init__(*arguments, **named)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> ContinuousCritic:
        kwargs = self._update_features_extractor(self.critic_kwargs, features_extractor)
        critic = CarefulCritic(**kwargs).to(self.device)
        critic.effort = self.effort
        return critic


def fresh(env: gymnasium.Env, s: ResidualSettings, seed: int) -> SAC:
    """SAC whose mean action is exactly zero, and which tries little at first."""
    net = {"net_arch": [128, 128], "effort": s.effort}
    sac = SAC(
        Careful, env, learning_rate=s.rate, buffer_size=s.capacity, learning_starts=0, batch_size=s.batch, gamma=s.discount,
        seed=seed, device="cpu", policy_kwargs=net, target_entropy=-12.0, ent_coef="auto_0.01",
    )  # fmt: skip
    sac.set_logger(Logger(None, []))
    policy: Any = sac.policy.actor
    with torch.no_grad():
        for layer in (policy.mu, policy.log_std):
            layer.weight.zero_()
            layer.bias.zero_()
        policy.log_std.bias.fill_(s.noise)
    return sac


def practise(sac: SAC, env: RealSteps, seed: int) -> bool:
    """One episode in the world, learning on the way; returns whether it succeeded."""
    sac.set_random_seed(seed)
    seen, _ = env.reset(seed=seed)
    while True:
        action, _ = sac.predict(seen, deterministic=False)
        then, reward, won, over, _ = env.step(action)
        assert sac.replay_buffer is not None
        sac.replay_buffer.add(seen, then, action, np.array([reward]), np.array([won]), [{"TimeLimit.truncated": over}])
        if sac.replay_buffer.size() >= env.s.batch:
            sac.train(env.s.train, env.s.batch)
        seen = then
        if won or over:
            return won


def save(sac: SAC, path: Path, progress: dict[str, Any]) -> None:
    """Everything that a restart needs in one file, so that its parts fit each other, whole or not at all."""
    buffer: Any = sac.replay_buffer
    n = buffer.size()
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    replay = {name: torch.as_tensor(getattr(buffer, name)[:n]) for name in names}
    parts = {name: getattr(sac, name).state_dict() for name in ("actor", "critic", "critic_target")}
    data = io.BytesIO()
    torch.save(
        {
            "parts": parts, "optimizers": {k: o.state_dict() for k, o in _optimizers(sac).items()}, "replay": replay,
            "entropy": sac.log_ent_coef, "position": buffer.pos, "full": buffer.full, "updates": sac._n_updates,
            "progress": progress,
        },
        data,
    )  # fmt: skip
    runs.write_atomic(path, data.getvalue())


def _optimizers(sac: SAC) -> dict[str, Any]:
    return {"actor": sac.actor.optimizer, "critic": sac.critic.optimizer, "entropy": sac.ent_coef_optimizer}


def load(sac: SAC, path: Path) -> dict[str, Any]:
    """Go on where `save` was; returns the progress."""
    try:
        kept = torch.load(path, weights_only=True)
        for name, weights in kept["parts"].items():
            getattr(sac, name).load_state_dict(weights)
        for name, state in kept["optimizers"].items():
            _optimizers(sac)[name].load_state_dict(state)
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, UnpicklingError) as e:
        why = str(e).splitlines()[0]
        raise RunFolderError(f"the residual {path} cannot be read ({why}); delete it, and it learns anew.") from e
    buffer: Any = sac.replay_buffer
    for name, values in kept["replay"].items():
        getattr(buffer, name)[: len(values)] = values.numpy()
    buffer.pos, buffer.full, sac._n_updates = kept["position"], kept["full"], kept["updates"]
    assert sac.log_ent_coef is not None
    with torch.no_grad():
        sac.log_ent_coef.copy_(kept["entropy"])
    return kept["progress"]
