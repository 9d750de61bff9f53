"""Many episodes at once inside 𝓜, whose truth is hidden: what the policy acts on is an estimate, as far off as looks from its
views are. Actor and Q function learn from what happens here (DESIGN: rollouts that know what sensing costs)."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from samrl.core.camera import ray, viewpoint
from samrl.learn.expert import Expert, TrainSettings, anew, begun, detach, placed, select, vary_physics
from samrl.learn.sensing import LEAST, Sensing, features, shown
from samrl.learn.starts import draw
from samrl.model.model import Command, Model
from samrl.model.placement import floats, set_body_pose, unit_poses
from samrl.model.scene import State, Twin
from samrl.model.units import DRIFT, before_images, between, fuse, informed, turn
from samrl.tasks.task import Measures, Task, separation

Update = Callable[[Twin, Tensor], Tensor | None]

UNSEEN = 10.0  # stands for the error of a unit that a look does not show [mm, 0.01 rad]


@dataclass(frozen=True)
class Shell:
    """Views (yaw, pitch [rad], radius [m]) about a point, and the intervals that they are drawn from."""

    target: Tensor
    yaw: tuple[float, float]
    pitch: tuple[float, float]
    radius: tuple[float, float]

    @staticmethod
    def of(task: Task) -> Shell:
        """The shell that a task's cameras start on."""
        return Shell(task.look_at(), *task.view_ranges())

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, 3) uniform."""
        low, high = (torch.tensor([r[i] for r in (self.yaw, self.pitch, self.radius)]) for i in (0, 1))
        return low + (high - low) * torch.rand(count, 3, generator=generator)

    def pose(self, view: Tensor) -> Tensor:
        """Cameras X_WC (*batch, 4, 4) of views (*batch, 3)."""
        target = self.target.to(view.dtype).expand(*view.shape[:-1], 3)
        return viewpoint(target, *view.unbind(-1))

    def ray(self, view: Tensor) -> Tensor:
        """Unit vectors (*batch, 3) from the target to cameras at views (*batch, 3), in the world."""
        return ray(view[..., 0], view[..., 1])

    def view(self, X_WC: Tensor) -> Tensor:
        """The view (*batch, 3) whose place is that of cameras X_WC (*batch, 4, 4); where they look is left out."""
        d = X_WC[..., :3, 3] - self.target.to(X_WC.dtype)
        radius = d.norm(dim=-1)
        return torch.stack([torch.atan2(d[..., 1], d[..., 0]), torch.asin(d[..., 2] / radius), radius], -1)


class Rehearsal:
    """`count` environments, each with a truth of its own and a belief about it.

    Args:
        update: what the real update makes of a truth (no batch) seen by a camera (4, 4): poses (N, 4, 4) of the units' bodies in
            their parents, or None if nothing.
        share: of looks that are the real update's; of all others the errors are drawn from `sensing`.
        staged: share of episodes that begin where only learning begins (see starts.py).

    Attributes:
        truth, command: what is, and the controllers' memory.
        belief: (n, N, 4, 4) estimated poses of the units' bodies in their parents; sure: (n, U, 6, 6) the information on them;
            shown: (n, U) whether a look has shown the unit.
        view: (n, 3); X_WC: (n, 4, 4). age: (n) control steps since the start. done: (n) success so far;
            measures: the task's, of the truth.
    """

    def __init__(
        self, expert: Expert, sensing: Sensing, shell: Shell, count: int, generator: torch.Generator,
        update: Update | None = None, share: float = 0.0, staged: float = 0.0,
    ) -> None:  # fmt: skip
        self.update, self.share, self.staged = update, share, staged
        self.expert, self.sensing, self.shell, self.generator = expert, sensing, shell, generator
        self.model, self.task, self.count = expert.model, expert.task, count
        self._before = torch.stack([before_images(expert.task.known().get(u.name)) for u in expert.model.units])
        self._floating = torch.tensor([floats(expert.model.scene, u.bodies[0]) for u in expert.model.units])
        twin, self.command, before = self._start()
        self.truth = vary_physics(expert, twin, count, TrainSettings(), generator)
        self.truth = self.truth.replace(params=self.truth.params.replace(geom_size=self.model.params.geom_size))
        self.age, self.done = torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.bool)
        self.measures = begun(self.model, self.task, self.truth, before)
        self._forget(torch.ones(count, dtype=torch.bool))

    def take(self, index: Tensor) -> Rehearsal:
        """The environments of `index` (m), some perhaps several times, as a rehearsal of their own."""
        new, (s, c), shared = copy(self), (self.truth.state, self.command), self.model.params
        leaves = {f.name: getattr(self.truth.params, f.name) for f in fields(shared)}
        own = {name: x[index] for name, x in leaves.items() if x.dim() > getattr(shared, name).dim()}
        new.truth = Twin(self.truth.params.replace(**own), State(s.q[index], s.qd[index]))
        new.command = Command(c.q_ref[index], c.X_WE[index])
        for name in ("belief", "sure", "shown", "view", "X_WC", "age", "done"):
            setattr(new, name, getattr(self, name)[index])
        new.measures = {name: x[index] for name, x in self.measures.items()}
        new.count = len(index)
        return new

    def _forget(self, which: Tensor) -> None:
        """Believe the nominal scene again, and look from a new view."""
        nominal = self._in_parents(Twin(self.model.params, self.model.state(self.model.arm(self.truth.state).q)))
        if bool(which.all()):
            self.belief, self.sure = nominal.clone(), self._before.expand(self.count, -1, -1, -1).clone()
            self.shown = torch.zeros(self.count, len(self.model.units), dtype=torch.bool)
            self.view = self.shell.draw(self.count, self.generator)
        else:
            self.belief = torch.where(which[:, None, None, None], nominal, self.belief)
            self.sure = torch.where(which[:, None, None, None], self._before, self.sure)
            self.shown = self.shown & ~which[:, None]
            self.view = torch.where(which[:, None], self.shell.draw(self.count, self.generator), self.view)
        self.look(which)

    def _start(self) -> tuple[Twin, Command, Measures]:
        """Situations to begin in, and what episodes remember there."""
        starts = draw(self.task, self.count, self.generator, self.staged)
        return *placed(self.model, starts.truth), starts.before

    def renew(self, which: Tensor) -> None:
        """New episodes in the environments of `which` (n)."""
        if not bool(which.any()):
            return
        twin, command, before = self._start()
        self.truth, self.command = select(which, (twin, command), (self.truth, self.command))
        self.age, self.done = torch.where(which, 0, self.age), self.done & ~which
        self.measures = anew(which, begun(self.model, self.task, self.truth, before), self.measures)
        self._forget(which)

    def move(self, view: Tensor, which: Tensor) -> None:
        """Take the cameras of `which` (n) to `view` (n, 3), and look."""
        self.view = torch.where(which[:, None], view, self.view)
        self.look(which)

    def look(self, which: Tensor) -> None:
        """Update the beliefs of `which` (n) by a look from where the cameras are: each unit's estimate moves towards the truth
        and an error that depends on the view, as far as the view shows more of it than those before."""
        self.X_WC = self.shell.pose(self.view)
        counts, x, X_WP = self._prospect(self.X_WC)
        with torch.no_grad():
            scale = self.sensing(x)
            error = self.sensing.sample(x, self.generator)
        R_PC = X_WP[..., :3, :3].mT @ self.X_WC[:, None, :3, :3]
        d = torch.cat([(R_PC @ error[..., :3, None])[..., 0], (R_PC @ error[..., 3:, None])[..., 0]], -1)
        found = self._really(which, turn(self.model.units, self._in_parents(self.truth), d))
        shown = which[:, None] & (counts >= LEAST)
        told = informed(scale, R_PC) * shown[..., None, None]
        moved = (which[:, None] & self.shown & self._floating)[..., None, None]  # what was known of it is of where it was
        way, self.sure = fuse(
            torch.where(moved, before_images(DRIFT), self.sure), told, between(self.model.units, self.belief, found)
        )
        self.belief, self.shown = turn(self.model.units, self.belief, way), self.shown | shown

    def _in_parents(self, twin: Twin) -> Tensor:
        """Poses (n, N, 4, 4) of the units' bodies in their parents."""
        each = [unit_poses(self.model.scene, twin, u) for u in self.model.units]
        return torch.cat([X.expand(self.count, *X.shape[-3:]) for X in each], -3)

    def _really(self, which: Tensor, found: Tensor) -> Tensor:
        """`found` (n, N, 4, 4), in a share of `which` (n) as the real update has it."""
        if self.update is None or not self.share:
            return found
        chosen = which & (torch.rand(self.count, generator=self.generator) < self.share)
        found = found.clone()
        for i in chosen.nonzero()[:, 0].tolist():
            one = self.take(torch.tensor([i])).truth
            params = one.params.replace(link_p=one.params.link_p[0], link_R=one.params.link_R[0])
            X_PB = self.update(Twin(params, State(one.state.q[0], one.state.qd[0])), self.X_WC[i])
            if X_PB is not None:
                found[i] = X_PB
        return found

    def _prospect(self, X_WC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each unit, looked at by cameras (n, 4, 4): the pixels (n, U) that show it and what the error of a look depends on
        (n, U, 4); beside them its parent's true pose (n, U, 4, 4)."""
        model, X_WL = self.model, self.model.link_poses(self.truth)
        counts = shown(model, self.truth.params, X_WL, X_WC)
        X_WP = torch.stack([model.bodies_of(u, X_WL)[0] for u in model.units], 1)
        return counts, features(counts, model.frames(X_WL), X_WC), X_WP

    def precision(self, view: Tensor) -> Tensor:
        """How exact looks from views (n, 3) would be, for those who know the truth: (n, 2 U) logarithms of the scale of each
        unit's position error [mm], and of its rotation error [0.01 rad]."""
        counts, x, *_ = self._prospect(self.shell.pose(view))
        with torch.no_grad():
            scale = self.sensing(x)
        size = torch.stack([scale[..., :3].norm(dim=-1) / 1e-3, scale[..., 3:].norm(dim=-1) / 1e-2], -1)
        return torch.where(counts[..., None] < LEAST, size.new_tensor(UNSEEN), size).log().flatten(1)

    def estimated(self) -> Twin:
        """The twin as it is believed to be."""
        return believed(self.model, Twin(self.model.params, self.truth.state), self.belief)

    def landmarks(self, twin: Twin) -> Tensor:
        """Task.landmarks (n, 4, 3) of the truth or of the estimate."""
        return self.task.landmarks(self.model.poses(twin))

    def errors(self, twin: Twin) -> tuple[Tensor, Tensor]:
        """What separates load and target (n, 3) and (n, 3) in the truth or in the estimate."""
        return separation(self.landmarks(twin))

    def label(self) -> Tensor:
        """What the expert, who knows the truth, would do: (n, 6)."""
        with torch.no_grad():
            return self.expert.act(self.truth, self.command)

    def act(self, action: Tensor) -> Tensor:
        """One control step under actions (n, 6); returns the reward (n): 1 on success for the first time, else 0."""
        with torch.no_grad():
            before = self._in_parents(self.truth)
            self.truth, self.command = detach(*self.model.step(self.truth, self.command, action))
            self._carry(before)
            self.measures = self.task.measures(self.model.poses(self.truth), self.measures)
            now = self.task.success(self.measures)
        reward = (now & ~self.done).float()
        self.done, self.age = self.done | now, self.age + 1
        return reward

    def _carry(self, before: Tensor) -> None:
        """What floats is believed to have moved as it has, from where it was (n, N, 4, 4): looks follow it, each as much off."""
        if not bool(self._floating.any()):
            return
        units = self.model.units
        body = torch.repeat_interleave(self._floating, torch.tensor([len(u.bodies) for u in units]))
        moved = turn(units, self._in_parents(self.truth), between(units, before, self.belief))
        self.belief = torch.where(body[:, None, None], moved, self.belief)


def believed(model: Model, twin: Twin, belief: Tensor) -> Twin:
    """The twin with the units' bodies at `belief` (n, N, 4, 4) in their parents."""
    for b, body in enumerate(model.updatable):
        twin = set_body_pose(model.scene, twin, body, belief[:, b])
    return twin
