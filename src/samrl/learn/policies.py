"""Policies: what they are told of a scene (tasks.task.Told) -> an action. The expert tells its own the truth, the actor what it
makes of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samrl.core.nets import mlp, scales
from samrl.learn import ppo
from samrl.tasks.task import Task, Told, Tried, separation

BEYOND = 1.5  # limits of an action; its length is shortened to one, and so is what is tried


class Policy(nn.Module):
    """Told (*batch) -> action (*batch, 6) in the world's axes. limits: (6) of each of its numbers, in axes of its own."""

    limits: Tensor

    def __init__(self, limits: tuple[float, float]) -> None:
        super().__init__()
        self.register_buffer("limits", torch.tensor([limits[0]] * 3 + [limits[1]] * 3))

    def forward(self, told: Told) -> Tensor:
        raise NotImplementedError


class StatePolicy(Policy):
    """Privileged policy: (what separates the tool's load from its target, lead of the command) -> action.

    Features: the vector from the target's mouth to the load's tip at several scales, the load's axis against the target's, and
    how far the commanded pose is ahead of the measured one. Output: an action (*batch, 6) within its limits by tanh. All of it is
    in the tool's axes, so that a scene that is turned as a whole, tool and all, asks for the same, turned. What comes and goes is
    in the world's.
    """

    SCALES_P = (0.1, 0.02, 0.004)  # finer ones make steps of what is noise there
    SCALES_R = (0.3, 0.05, 0.01)

    def __init__(self, limits: tuple[float, float], generator: torch.Generator, width: int = 128) -> None:
        super().__init__(limits)
        inputs = 3 * (2 * len(self.SCALES_P) + 2 * len(self.SCALES_R))
        self.net = mlp([inputs, width, width, 6], generator, out_scale=0.01)

    def forward(self, told: Told) -> Tensor:
        """(*batch, 6)."""
        return self.by_separation(*separation(told.marks), told.lead, told.X_WE[..., :3, :3])

    def by_separation(self, tip_error: Tensor, axis_error: Tensor, lead: Tensor, R_WE: Tensor) -> Tensor:
        """The same from what `separation` makes of the landmarks."""
        tip, axis, ahead, turned = (v[..., None, :] @ R_WE for v in (tip_error, axis_error, lead[..., :3], lead[..., 3:]))
        x = torch.cat(
            [
                scales(v[..., 0, :], s)
                for v, s in zip((tip, axis, ahead, turned), 2 * (self.SCALES_P, self.SCALES_R), strict=True)
            ],
            -1,
        )
        action = torch.tanh(self.net(x)) * self.limits
        return (R_WE[..., None, :, :] @ action.unflatten(-1, (2, 3, 1))).flatten(-3)


class TriedPolicy(Policy):
    """The policy of a task that is learned by trying: a network of its features, whose rotations are in its axes."""

    def __init__(self, task: Tried, limits: tuple[float, float], seed: int, settings: ppo.Settings | None = None) -> None:
        super().__init__(limits)
        self.task = task
        nothing = Told(torch.ones(1, 4, 3), torch.eye(4)[None], *(torch.zeros(1, n) for n in (6, 7, 6)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = ppo.Policy(task.features(nothing).shape[1], 6, settings or ppo.Settings())

    def forward(self, told: Told) -> Tensor:
        return acted(self.task, self.limits, self.net(self.task.features(told)), told)


def acted(task: Tried, limits: Tensor, z: Tensor, told: Told) -> Tensor:
    """The action (*batch, 6) of what a network puts out (*batch, 6), in units of the limits."""
    move, turn = (z.clamp(-BEYOND, BEYOND) * limits).split(3, -1)
    return torch.cat([move, (task.axes(told) @ turn[..., None])[..., 0]], -1)


def make_policy(task: Task, limits: tuple[float, float], seed: int) -> Policy:
    """An untrained policy of the kind that the task needs."""
    if isinstance(task, Tried):
        return TriedPolicy(task, limits, seed)
    return StatePolicy(limits, torch.Generator().manual_seed(seed))
