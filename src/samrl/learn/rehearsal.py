"""Many episodes at once inside 𝓜, whose truth is hidden: what the policy acts on is an estimate, as far off as looks from its
views are. Actor and Q function learn from what happens here (DESIGN: rollouts that know what sensing costs)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.camera import viewpoint
from samrl.learn.expert import Expert, TrainSettings, detach, random_start, select, vary_physics
from samrl.learn.sensing import LEAST, Sensing, features, shown
from samrl.model.model import body_pose, set_body_pose
from samrl.model.scene import Twin

MEMORY = 8.0  # at most so many full views count in the average, as in the tracker


@dataclass(frozen=True)
class Shell:
    """Views (yaw, pitch [rad], radius [m]) about a point, and the intervals that they are drawn from."""

    target: Tensor
    yaw: tuple[float, float]
    pitch: tuple[float, float]
    radius: tuple[float, float]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, 3) uniform."""
        low, high = (torch.tensor([r[i] for r in (self.yaw, self.pitch, self.radius)]) for i in (0, 1))
        return low + (high - low) * torch.rand(count, 3, generator=generator)

    def pose(self, view: Tensor) -> Tensor:
        """Cameras X_WC (*batch, 4, 4) of views (*batch, 3)."""
        target = self.target.to(view.dtype).expand(*view.shape[:-1], 3)
        return viewpoint(target, *view.unbind(-1))

    def view(self, X_WC: Tensor) -> Tensor:
        """The view (*batch, 3) whose place is that of cameras X_WC (*batch, 4, 4); where they look is left out."""
        d = X_WC[..., :3, 3] - self.target.to(X_WC.dtype)
        radius = d.norm(dim=-1)
        return torch.stack([torch.atan2(d[..., 1], d[..., 0]), torch.asin(d[..., 2] / radius), radius], -1)


class Rehearsal:
    """`count` environments, each with a truth of its own and a belief about it.

    Attributes:
        truth, command: what is, and the controllers' memory.
        belief: (n, B, 4, 4) estimated poses of the updatable bodies in their parents; seen: (n, B) pixels that they rest on.
        view: (n, 3); X_WC: (n, 4, 4). age: (n) control steps since the start. done: (n) success so far.
    """

    def __init__(self, expert: Expert, sensing: Sensing, shell: Shell, count: int, generator: torch.Generator) -> None:
        self.expert, self.sensing, self.shell, self.generator = expert, sensing, shell, generator
        self.model, self.task, self.count = expert.model, expert.task, count
        twin, self.command = random_start(self.model, self.task, count, generator)
        self.truth = vary_physics(expert, twin, count, TrainSettings(), generator)
        self.truth = self.truth.replace(params=self.truth.params.replace(geom_size=self.model.params.geom_size))
        self.age, self.done = torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.bool)
        self._forget(torch.ones(count, dtype=torch.bool))

    def _forget(self, which: Tensor) -> None:
        """Believe the nominal scene again, and look from a new view."""
        model, B = self.model, len(self.model.updatable)
        nominal = torch.stack([body_pose(model.scene, model.params, b) for b in model.updatable]).expand(self.count, B, 4, 4)
        if bool(which.all()):
            self.belief, self.seen = nominal.clone(), torch.zeros(self.count, B)
            self.view = self.shell.draw(self.count, self.generator)
        else:
            self.belief = torch.where(which[:, None, None, None], nominal, self.belief)
            self.seen = torch.where(which[:, None], 0.0, self.seen)
            self.view = torch.where(which[:, None], self.shell.draw(self.count, self.generator), self.view)
        self.look(which)

    def renew(self, which: Tensor) -> None:
        """New episodes in the environments of `which` (n)."""
        if not bool(which.any()):
            return
        fresh = random_start(self.model, self.task, self.count, self.generator)
        self.truth, self.command = select(which, fresh, (self.truth, self.command))
        self.age, self.done = torch.where(which, 0, self.age), self.done & ~which
        self._forget(which)

    def move(self, view: Tensor, which: Tensor) -> None:
        """Take the cameras of `which` (n) to `view` (n, 3), and look."""
        self.view = torch.where(which[:, None], view, self.view)
        self.look(which)

    def look(self, which: Tensor) -> None:
        """Update the beliefs of `which` (n) by a look from where the cameras are: each body's estimate moves by the share that
        this view has in all that was seen of it, towards the truth and an error that depends on the view."""
        model = self.model
        self.X_WC = self.shell.pose(self.view)
        X_WL = model.link_poses(self.truth)
        links = [model.scene.link(b) for b in model.updatable]
        parents = [int(model.scene.parent[i]) for i in links]
        X_WB, X_WP = X_WL[:, links], X_WL[:, parents]
        counts = shown(model, self.truth.params, X_WL, self.X_WC)
        with torch.no_grad():
            error = self.sensing.sample(features(counts, X_WB, self.X_WC), self.generator)
        R_WC = self.X_WC[:, None, :3, :3]
        d = torch.cat([(R_WC @ error[..., :3, None])[..., 0], (R_WC @ error[..., 3:, None])[..., 0]], -1)
        found = lie.inverse(X_WP) @ lie.retract(X_WB, d)
        counts = torch.where(which[:, None] & (counts >= LEAST), counts, 0.0)
        full = torch.maximum(self.seen / MEMORY, counts)
        self.seen = torch.where(counts > 0, torch.minimum(self.seen + counts, MEMORY * full), self.seen)
        share = counts / self.seen.clamp_min(1e-6)
        self.belief = lie.retract(self.belief, share[..., None] * lie.local(self.belief, found))

    def estimated(self) -> Twin:
        """The twin as it is believed to be."""
        params = self.model.params
        for b, body in enumerate(self.model.updatable):
            params = set_body_pose(self.model.scene, params, body, self.belief[:, b])
        return Twin(params, self.truth.state)

    def errors(self, twin: Twin) -> tuple[Tensor, Tensor]:
        """task.errors (n, 3) and (n, 3) of the truth or of the estimate."""
        return self.task.errors(self.model.poses(twin))

    def label(self) -> Tensor:
        """What the expert, who knows the truth, would do: (n, 6)."""
        with torch.no_grad():
            return self.expert.act(self.truth, self.command)

    def act(self, action: Tensor) -> Tensor:
        """One control step under actions (n, 6); returns the reward (n): 1 on success for the first time, else 0."""
        with torch.no_grad():
            self.truth, self.command = detach(*self.model.step(self.truth, self.command, action))
            now = self.task.success(self.task.measures(self.model.poses(self.truth)))
        reward = (now & ~self.done).float()
        self.done, self.age = self.done | now, self.age + 1
        return reward
