"""A joint with one degree of freedom as a line in space, and the joints that a body may have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.errors import SceneError
from samrl.model.render.meshes import scene_mesh
from samrl.model.scene import HINGE, SLIDE, Params, Scene

KINDS = ("slide", "hinge")
_TURN = math.radians(120)  # how far a hinge may be open to either side where nothing is known


@dataclass(frozen=True)
class Joint:
    """What a body moves along or about, in the body's frame B at rest.

    Attributes:
        kind: slide or hinge.
        axis: (3) unit vector along the line, double precision.
        point: (3) on the line [m]; of a slide it means nothing.
        range: coordinates that it can have [m or rad], 0 at rest.
    """

    kind: str
    axis: Tensor
    point: Tensor
    range: tuple[float, float]

    def across(self) -> Tensor:
        """(2, 3) unit vectors across the axis and each other."""
        a = torch.linalg.cross(self.axis, torch.eye(3, dtype=self.axis.dtype)[self.axis.abs().argmin()])
        a = a / a.norm()
        return torch.stack([a, torch.linalg.cross(self.axis, a)])

    def near(self, p_B: Tensor) -> Joint:
        """The same joint, its point the one nearest to p_B (3)."""
        return Joint(self.kind, self.axis, self.point + self.axis * ((p_B - self.point) @ self.axis), self.range)

    @property
    def size(self) -> int:
        """How many numbers the line has: its tilt, and of a hinge its place."""
        return 2 if self.kind == "slide" else 4

    def moved(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """Axis (*batch, 3) and point (*batch, 3) of the line tilted about `across` by d[:2] [rad] and shifted along it by d[2:]
        [m]; d (*batch, size)."""
        E = self.across()
        axis = lie.exp_so3(d[..., :2] @ E) @ self.axis
        return axis, self.point + d[..., 2:] @ E if self.size > 2 else self.point.expand_as(axis)

    def at(self, d: Tensor) -> Joint:
        """The joint whose line is `moved` by d (size)."""
        return Joint(self.kind, *self.moved(d), self.range)

    def reversed(self) -> Joint:
        """The same line seen the other way round: coordinates change their sign."""
        low, high = self.range
        return Joint(self.kind, -self.axis, self.point, (-high, -low))

    def motion(self, q: Tensor, d: Tensor) -> Tensor:
        """X_BB' (*batch, n, 4, 4): where the body's frame goes from rest at coordinates q (*batch, n) [m or rad], the line
        `moved` by d (*batch, size): along the axis, or about the line by the rotation exp(q axis)."""
        axis, point = self.moved(d)
        way = q[..., None] * axis[..., None, :]
        if self.kind == "slide":
            return lie.pose(torch.eye(3, dtype=q.dtype).expand(*way.shape, 3), way)
        R, point = lie.exp_so3(way), point[..., None, :].expand_as(way)
        return lie.pose(R, point - (R @ point[..., None])[..., 0])


def joint_of(scene: Scene, params: Params, body: str) -> Joint | None:
    """The hinge or slide of a body in a scene, None where it is fixed in its parent. Raises: SceneError where it moves in
    another way."""
    i = scene.link(body)
    kind, parent = int(scene.joint_type[i]), int(scene.parent[i])
    between = parent > 0 and not scene.link_names[parent]
    if scene.nd[i] == 0 and not between:
        return None
    if kind not in (HINGE, SLIDE) or between:
        raise SceneError(f"'{body}' moves by more than one hinge or slide; give a scene in which it has one, or none at all.")
    v, axis = int(scene.v_adr[i]), torch.as_tensor(scene.axis[i], dtype=torch.float64)
    name, range_ = KINDS[kind == HINGE], (-torch.inf, torch.inf)
    if scene.limited[v]:
        low, high = (scene.limit[v] - scene.q0[i]).tolist()
        range_ = (low, high)
    elif kind == HINGE:
        range_ = (-_TURN, _TURN)
    else:
        box = box_of(scene, params, body)
        reach = float((box[1] - box[0]) @ (axis / axis.norm()).abs())
        range_ = (-reach, reach)
    return Joint(name, axis / axis.norm(), params.joint_p[i].double(), range_)


def likely_joints(scene: Scene, params: Params, body: str, kind: str) -> list[Joint]:
    """Joints of furniture, from the body's box in its own axes: slides along each axis, by as much as the body is long; hinges
    about each of the twelve edges, to either side."""
    low, high = box_of(scene, params, body)
    eye, middle = torch.eye(3, dtype=torch.float64), (low + high) / 2
    if kind == "slide":
        reach = (high - low).tolist()
        return [Joint(kind, eye[i], middle, (-reach[i], reach[i])) for i in range(3)]
    out = []
    for i in range(3):
        for a in (low, high):
            for b in (low, high):
                point = middle.clone()
                j, k = (i + 1) % 3, (i + 2) % 3
                point[j], point[k] = a[j], b[k]
                out.append(Joint(kind, eye[i], point, (-_TURN, _TURN)))
    return out


def box_of(scene: Scene, params: Params, body: str) -> Tensor:
    """(2, 3) lowest and highest corner of what is drawn of a body, in its own frame [m]."""
    mesh, T, _ = scene_mesh(scene)
    link, parts = scene.link(body), []
    for g in range(len(scene.geom_type)):
        vertices = torch.as_tensor(T[mesh.vertex_start[g] : mesh.vertex_start[g + 1]], dtype=torch.float64)
        if int(scene.geom_link[g]) == link and len(vertices):
            p_G = vertices @ params.geom_size[g].double()
            parts.append(p_G @ params.geom_R[g].double().T + params.geom_p[g].double())
    if not parts:
        raise SceneError(f"nothing is drawn of '{body}', so its joint cannot be seen; give it visible geoms.")
    points = torch.cat(parts)
    return torch.stack([points.amin(0), points.amax(0)])
