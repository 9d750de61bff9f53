"""The arm that carries the camera: which poses it can take, how near it would come to the other arm, how long it travels.

It moves by kinematics alone, and only its end is checked against the other arm: between two poses it is taken to find a way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.types import Reach
from samrl.tasks.spec import Arm, SceneSpec, Solid, chain_of, pose_of
from samrl.worlds.settings import CameraArmSettings

_SPREAD = 0.6  # of the random starts of the inverse kinematics about home [rad]
_STARTS = 24


@dataclass(frozen=True)
class Capsules:
    """An arm's solids as capsules. link: (n) index of the hinge link that each is fixed to, -1 for the base; ends:
    (n, 2, 3) in that link's frame (the base's: in the world) [m]; radius: (n) [m]."""

    link: Tensor
    ends: Tensor
    radius: Tensor

    def placed(self, links: Tensor) -> Tensor:
        """Ends in the world (*batch, n, 2, 3), from link poses (*batch, k, 4, 4)."""
        base = torch.eye(4, dtype=links.dtype).expand(*links.shape[:-3], 1, 4, 4)
        X = torch.cat([links, base], -3)[..., self.link, :, :]
        return lie.transform(X, self.ends)


def capsules_of(scene: SceneSpec, arm: Arm) -> Capsules:
    """Capsules around the solids of the arm's links and of whatever is fixed to them."""
    link, ends, radius = [], [], []
    for body in scene.bodies:
        index, X = _nearest_link(scene, arm, body.name)
        if index is None:
            continue
        for solid in body.solids:
            half, r = _capsule_around(solid)
            axis = torch.stack([-half, half])
            link.append(index)
            ends.append(lie.transform(X @ pose_of(solid.p, solid.quat), axis))
            radius.append(r)
    return Capsules(torch.tensor(link), torch.stack(ends), torch.tensor(radius, dtype=torch.float64))


def _nearest_link(scene: SceneSpec, arm: Arm, name: str) -> tuple[int | None, Tensor]:
    """Index of the arm's hinge link that a body is or is fixed to, -1 for its base, and the body's pose there; None for a
    body of something else."""
    X = torch.eye(4, dtype=torch.float64)
    root = scene.body(arm.bodies[0]).parent
    while name != "world":
        if name in arm.bodies:
            return arm.bodies.index(name), X
        body = scene.body(name)
        X = pose_of(body.p, body.quat) @ X
        if name == root:
            return -1, X
        name = body.parent
    return None, X


def _capsule_around(solid: Solid) -> tuple[Tensor, float]:
    """Half axis (3) in the solid's frame and radius of a capsule about a capsule, cylinder, sphere or box."""
    if solid.shape == "box":
        half = np.array(solid.size)
        axis = int(half.argmax())
        radius = float(np.hypot(*np.delete(half, axis)))
        length = max(half[axis] - radius, 0.0)
    else:
        axis, radius = 2, solid.size[0]
        length = 0.0 if solid.shape == "sphere" else solid.size[1] - (radius if solid.shape == "cylinder" else 0.0)
    return torch.eye(3, dtype=torch.float64)[axis] * max(length, 0.0), radius


def segment_distance(a: Tensor, b: Tensor) -> Tensor:
    """Least distance (*batch) of segments a and b (*batch, 2, 3) [m]: the least over the four end-to-segment distances and
    the crossing point of the two lines where it lies within both (Ericson 2005, 5.1.9)."""
    ends = [_point_distance(a[..., i, :], b) for i in (0, 1)] + [_point_distance(b[..., i, :], a) for i in (0, 1)]
    d1, d2, r = a[..., 1, :] - a[..., 0, :], b[..., 1, :] - b[..., 0, :], a[..., 0, :] - b[..., 0, :]
    dot = lambda x, y: (x * y).sum(-1)  # noqa: E731
    A, E, F, C, B = dot(d1, d1), dot(d2, d2), dot(d2, r), dot(d1, r), dot(d1, d2)
    det = (A * E - B * B).clamp_min(1e-12)
    s = ((B * F - C * E) / det).clamp(0, 1)
    t = ((A * F - B * C) / det).clamp(0, 1)
    cross = (r + s[..., None] * d1 - t[..., None] * d2).norm(dim=-1)
    return torch.stack([*ends, cross]).amin(0)


def _point_distance(p: Tensor, s: Tensor) -> Tensor:
    d = s[..., 1, :] - s[..., 0, :]
    t = ((p - s[..., 0, :]) * d).sum(-1) / (d * d).sum(-1).clamp_min(1e-12)
    return (p - s[..., 0, :] - t.clamp(0, 1)[..., None] * d).norm(dim=-1)


@dataclass(frozen=True)
class Plan:
    """What `CameraArm.plan` found: joint angles (7) [rad] and the answer to `reach`."""

    q: Tensor
    reach: Reach


class CameraArm:
    """Kinematics of the camera arm next to the acting arm, both as the nominal scene has them: it knows no object.

    Attributes:
        q: (7) joint angles now [rad].
    """

    def __init__(self, scene: SceneSpec, settings: CameraArmSettings) -> None:
        self.settings = settings
        self.chain = chain_of(scene, scene.carrier)
        self._actor_chain = chain_of(scene, scene.actor)
        self._own, self._other = capsules_of(scene, scene.carrier), capsules_of(scene, scene.actor)
        self.q = self.chain.home
        spread = torch.randn(_STARTS - 1, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        starts = torch.cat([self.chain.home[None], self.chain.home + _SPREAD * spread])
        self._starts = starts.clamp(self.chain.limit[:, 0], self.chain.limit[:, 1])

    def pose(self) -> Tensor:
        """X_WC (4, 4) as the calibration has it."""
        return self.chain.tool(self.q)

    def start(self, views: Tensor, q_actor: Tensor) -> None:
        """Take the first of some poses (n, 4, 4) that can be taken; where none can, the first one's nearest."""
        for some in views.split(_STARTS):
            q, good = self._try(some, self.chain.home.expand(len(some), -1), q_actor)
            if bool(good.any()):
                self.q = q[int(good.int().argmax())]
                return
        self.q = self.chain.home
        self.q = self.plan(views[0], q_actor).q

    def plan(self, X_WC: Tensor, q_actor: Tensor) -> Plan:
        """How to take X_WC (4, 4), the acting arm standing at q_actor (7). From where the arm is; then from many starts, of
        which the nearest solution counts; then the farthest reachable pose on the way there."""
        if max(self.chain.missed(self.q, X_WC)) < 1e-6:
            return self._found(self.q)
        q, good = self._try(X_WC[None], self.q[None], q_actor)
        if not bool(good.any()):
            q, good = self._try(X_WC.expand(_STARTS, 4, 4), self._starts, q_actor)
        if bool(good.any()):
            near = torch.where(good, (q - self.q).abs().amax(-1), torch.inf)
            return self._found(q[int(near.argmin())])
        return self._nearest(X_WC, q, q_actor)

    def _found(self, q: Tensor) -> Plan:
        return Plan(q, Reach(True, self.chain.tool(q).numpy(), self._travel(q)))

    def _nearest(self, X_WC: Tensor, tried: Tensor, q_actor: Tensor) -> Plan:
        """The farthest pose on the straight way from here to X_WC that can be taken."""
        share = torch.linspace(0, 1, 17, dtype=torch.float64)[1:]
        here = self.pose()
        way = lie.retract(here, share[:, None] * lie.local(here, X_WC))
        q, good = self._try(way, self.q.expand(len(way), -1), q_actor)
        last = q[int(torch.nonzero(good).max())] if bool(good.any()) else self.q
        p_error, r_error = self.chain.missed(tried, X_WC)
        best = int((p_error + 0.1 * r_error).argmin())
        s = self.settings
        if p_error[best] > s.position_tolerance or r_error[best] > s.angle_tolerance:
            reason = f"the joint limits leave {1e3 * p_error[best]:.1f} mm and {float(r_error[best].rad2deg()):.1f} degrees"
        else:
            gap = float(self.clearance(tried, q_actor).max())
            reason = f"it would come within {1e3 * gap:.0f} mm of the acting arm or the table"
            reason += f" ({1e3 * s.clearance:.0f} are kept)"
        p = ", ".join(f"{x:.3f}" for x in X_WC[:3, 3].tolist())
        text = f"the camera arm cannot take the pose at ({p}) m: {reason}."
        return Plan(last, Reach(False, self.chain.tool(last).numpy(), self._travel(last), text))

    def _try(self, X_WC: Tensor, start: Tensor, q_actor: Tensor) -> tuple[Tensor, Tensor]:
        """Joint angles (n, 7) for poses (n, 4, 4) from starts (n, 7), and whether each arrived and keeps clear."""
        q, p_error, r_error = self.chain.solve(X_WC, start, iterations=40)
        s = self.settings
        arrived = (p_error < s.position_tolerance) & (r_error < s.angle_tolerance)
        return q, arrived & (self.clearance(q, q_actor) >= s.clearance)

    def clearance(self, q: Tensor, q_actor: Tensor) -> Tensor:
        """Least distance (n) of the moving links (n, 7) from the acting arm and from the table [m]."""
        own = self._own.placed(self.chain.links(q)[:, :-1])
        other = self._other.placed(self._actor_chain.links(q_actor)[:-1])
        between = segment_distance(own[:, :, None], other[None, None]) - self._own.radius[:, None] - self._other.radius
        moving = self._own.link >= 1  # the base and the first link stand on the table and only turn
        above = own[:, moving][..., 2].amin(-1) - self._own.radius[moving]
        return torch.minimum(between.amin((-1, -2)), above.amin(-1))

    def _travel(self, q: Tensor) -> float:
        return float((q - self.q).abs().max()) / self.settings.joint_speed
