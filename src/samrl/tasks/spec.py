"""A scene, neutrally: bodies, solids and joints as plain data, from which the twin and every world are built."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from samrl.core import control, lie
from samrl.core.chain import SerialChain


@dataclass(frozen=True)
class Solid:
    """A simple shape in its body's frame.

    Attributes:
        shape: box (half x, y, z), sphere (radius), capsule or cylinder (radius, half length; along z), plane (half x, y of
            what is drawn), block_with_hole (half x, y, z, hole radius, depth, chamfer; hole along +z from the top), disc
            (radius, half length, radius of its rounded rims; along z), hull (no size: convex, of `points`).
        size: lengths as above [m].
        p: (3) position [m]; quat: (4) wxyz orientation in the body's frame.
        color: (3) in [0, 1]; friction: sliding.
        collide: it touches others (only pairs listed in the SceneSpec).
        contact: stiffness [N/m] and damping [s/m] of a point of contact in the twin; its own where not given.
        points: of a hull, in the solid's frame [m].
        soft: stiffness of a point of contact [N/m] in worlds where it would be rigid otherwise, critically damped.
    """

    shape: str
    size: tuple[float, ...]
    p: tuple[float, ...] = (0.0, 0.0, 0.0)
    quat: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    color: tuple[float, ...] = (0.6, 0.6, 0.6)
    friction: float = 0.3
    collide: bool = False
    contact: tuple[float, float] | None = None
    points: tuple[tuple[float, float, float], ...] = ()
    soft: float | None = None


@dataclass(frozen=True)
class Hinge:
    """A hinge about `axis` in the body's frame; range [rad], armature [kg m²], damping [N m s/rad], torque limit [N m]."""

    axis: tuple[float, ...] = (0.0, 0.0, 1.0)
    range: tuple[float, float] = (-3.0, 3.0)
    armature: float = 0.1
    damping: float = 1.0
    torque_limit: float = 87.0


@dataclass(frozen=True)
class Ball:
    """A ball joint whose spring pulls back to the body's pose: stiffness [N m/rad] and damping [N m s/rad] of bending and
    twisting."""

    stiffness: float
    damping: float


@dataclass(frozen=True)
class Free:
    """No joint at all: the body floats, and starts where its pose in its parent says, which is the world."""


@dataclass(frozen=True)
class Body:
    """A body in its parent.

    Attributes:
        parent: the parent's name or "world".
        X_PB: pose of the body's frame in its parent's, the joint at zero: p (3) [m] and quat (4) wxyz.
        joint: what lets it move in its parent; without one it is fixed there.
        mass [kg], com (3) [m], inertia (6): Ixx Iyy Izz Ixy Ixz Iyz about the centre of mass [kg m²].
        gravcomp: share of gravity that the arm's controller compensates.
        updatable: it gets a mask, and the update may move it.
        unit: what it is updated with, and shares its mask with: a chain. Its own name where not given.
        span: see model.units.Unit.
    """

    name: str
    parent: str = "world"
    p: tuple[float, ...] = (0.0, 0.0, 0.0)
    quat: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0)
    joint: Hinge | Ball | Free | None = None
    mass: float = 0.0
    com: tuple[float, ...] = (0.0, 0.0, 0.0)
    inertia: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    solids: tuple[Solid, ...] = ()
    gravcomp: float = 0.0
    updatable: bool = False
    unit: str = ""
    span: float = 0.0


@dataclass(frozen=True)
class Arm:
    """A serial arm among the bodies. bodies: names of the links with hinges, base first; tool_p, tool_quat: the tool's
    pose in `tool_parent`, which is rigidly joined to the last link; home: joint angles [rad]; gains: of its controller, in the
    twin and in the worlds, the largest action among them."""

    name: str
    bodies: tuple[str, ...]
    tool_parent: str
    tool_p: tuple[float, ...]
    tool_quat: tuple[float, ...]
    home: tuple[float, ...]
    gains: control.Gains = field(default_factory=control.gains)


@dataclass(frozen=True)
class CameraSpec:
    """The camera on the camera arm's tool: native size [px], field of view across the width [rad], useful depth [m]."""

    width: int = 1280
    height: int = 720
    fov_x: float = float(np.deg2rad(69.0))
    near: float = 0.1
    far: float = 3.0


@dataclass(frozen=True)
class SceneSpec:
    """A whole scene. `pairs`: (body, body) whose colliding solids may touch; slip_speed: below which friction is viscous in the
    twin [m/s]."""

    name: str
    bodies: tuple[Body, ...]
    actor: Arm
    carrier: Arm
    camera: CameraSpec
    pairs: tuple[tuple[str, str], ...] = ()
    slip_speed: float = 5e-3
    gravity: tuple[float, float, float] = (0.0, 0.0, -9.81)
    notes: dict[str, str] = field(default_factory=dict)

    def body(self, name: str) -> Body:
        from samrl.core.errors import UnknownNameError

        for b in self.bodies:
            if b.name == name:
                return b
        raise UnknownNameError("body", name, [b.name for b in self.bodies])

    def with_body(self, name: str, **changes: object) -> SceneSpec:
        """The same scene with one body changed."""
        self.body(name)
        return replace(self, bodies=tuple(replace(b, **changes) if b.name == name else b for b in self.bodies))  # type: ignore[arg-type]

    @property
    def updatable(self) -> tuple[str, ...]:
        return tuple(b.name for b in self.bodies if b.updatable)

    @property
    def units(self) -> dict[str, tuple[str, ...]]:
        """What is updated, each with a mask of its own: name -> bodies, from the parent outwards."""
        found: dict[str, tuple[str, ...]] = {}
        for b in self.bodies:
            if b.updatable:
                found[b.unit or b.name] = (*found.get(b.unit or b.name, ()), b.name)
        return found

    def belongs_to(self, arm: Arm, body: str) -> bool:
        """Whether the body is a link of the arm, or fixed to one."""
        while body != "world":
            if body in arm.bodies:
                return True
            body = self.body(body).parent
        return False


def pose_of(p: tuple[float, ...], quat: tuple[float, ...]) -> torch.Tensor:
    """(4, 4) float64 pose of a position and a wxyz quaternion."""
    q = torch.tensor(quat, dtype=torch.float64)
    return lie.pose(lie.matrix_from_quat(q / q.norm()), torch.tensor(p, dtype=torch.float64))


def pose_to(X: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Inverse of `pose_of`: position and quaternion as plain numbers."""
    X = torch.as_tensor(X, dtype=torch.float64)
    return tuple(X[:3, 3].tolist()), tuple(lie.quat_from_matrix(X[:3, :3]).tolist())


def chain_of(scene: SceneSpec, arm: Arm) -> SerialChain:
    """The arm's kinematics (float64): fixed bodies between its hinges and beneath its base are folded in."""
    joints, axes, limits = [], [], []
    for i, name in enumerate(arm.bodies):
        stop = "world" if i == 0 else arm.bodies[i - 1]
        body = scene.body(name)
        assert isinstance(body.joint, Hinge)
        joints.append(_pose_below(scene, name, stop))
        axes.append(body.joint.axis)
        limits.append(body.joint.range)
    X_NT = _pose_below(scene, arm.tool_parent, arm.bodies[-1]) @ pose_of(arm.tool_p, arm.tool_quat)
    as_tensor = lambda x: torch.tensor(x, dtype=torch.float64)  # noqa: E731
    return SerialChain(torch.stack(joints), as_tensor(axes), X_NT, as_tensor(limits), as_tensor(arm.home))


def _pose_below(scene: SceneSpec, name: str, stop: str) -> torch.Tensor:
    X = torch.eye(4, dtype=torch.float64)
    while name != stop:
        body = scene.body(name)
        X = pose_of(body.p, body.quat) @ X
        name = body.parent
    return X
