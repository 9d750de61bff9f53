"""PyBullet's bodies: solids as collision shapes, and trees of bodies that the arm holds or that float.

A ball joint's spring is a torque, explicit in Bullet's step, so the step must be short: `SPRING_STEPS` to a substep. Even so a
segment of 40 mg would not be stable; each joint has a rotor whose inertia is just enough for that (`simulated.rotor`).
"""

from __future__ import annotations

import os
import tempfile

import numpy as np
import pybullet
import torch
from scipy.spatial import ConvexHull, HalfspaceIntersection

from samrl.core.errors import SceneError
from samrl.tasks.spec import Arm, Ball, Body, Free, SceneSpec, Solid, pose_of, pose_to
from samrl.worlds.shapes import disc_points, hole_pieces
from samrl.worlds.simulated import rotor

MARGIN = 0.0001  # Bullet's contact margin; hulls are built smaller by it [m]
JOINTED = 0.001  # that of hulls on joints, which Bullet does not let be changed [m]
TABLE_HALF = 0.05  # thickness below a plane [m]
SPRING_STEPS = 4  # Bullet's steps in a substep where a scene has springs
_PRIMITIVES = ("box", "plane", "sphere", "capsule", "cylinder")


def roots_of(scene: SceneSpec, links: set[str]) -> list[Body]:
    """The bodies that head a tree: those that float, and those fixed to one of the arm's `links` that are none themselves."""
    beside = [b for b in scene.bodies if b.name not in links]
    return [b for b in beside if isinstance(b.joint, Free) or b.parent in links]


def below(scene: SceneSpec, root: Body) -> list[Body]:
    """The root and all that hangs on it, parents first."""
    out = [root]
    for body in scene.bodies:
        if body.parent in {b.name for b in out}:
            out.append(body)
    return out


def is_static(scene: SceneSpec, body: Body, arms: tuple[Arm, ...]) -> bool:
    """Whether it neither belongs to an arm nor floats, nor is fixed to anything that does."""
    if any(scene.belongs_to(arm, body.name) for arm in arms):
        return False
    while not isinstance(body.joint, Free):
        if body.parent == "world":
            return True
        body = scene.body(body.parent)
    return False


class Tree:
    """A body of Bullet's: a root and what hangs on it.

    Args:
        client: PyBullet's.
        scene: where it is from; root: heads it; X_WB: (4, 4) the root's pose.
        step: Bullet's [s].
    """

    def __init__(self, client: int, scene: SceneSpec, root: Body, X_WB: np.ndarray, step: float) -> None:
        self._c = {"physicsClientId": client}
        self.root, self.names = root, [b.name for b in below(scene, root)]
        bodies = [scene.body(n) for n in self.names]
        links = [_Link.of(client, scene, b, JOINTED if i else MARGIN) for i, b in enumerate(bodies)]
        base, rest = links[0], links[1:]
        self._X_BI = base.X_BI
        p, quat = split(X_WB @ base.X_BI)
        self.id = pybullet.createMultiBody(
            base.mass, base.shape, -1, p, quat,
            linkMasses=[x.mass for x in rest], linkCollisionShapeIndices=[x.shape for x in rest],
            linkVisualShapeIndices=[-1] * len(rest), linkPositions=[self._in_parent(b)[0] for b in bodies[1:]],
            linkOrientations=[self._in_parent(b)[1] for b in bodies[1:]],
            linkInertialFramePositions=[split(x.X_BI)[0] for x in rest],
            linkInertialFrameOrientations=[split(x.X_BI)[1] for x in rest],
            linkParentIndices=[self.names.index(b.parent) for b in bodies[1:]],
            linkJointTypes=[pybullet.JOINT_SPHERICAL if isinstance(b.joint, Ball) else pybullet.JOINT_FIXED for b in bodies[1:]],
            linkJointAxis=[[0, 0, 1]] * len(rest), **self._c,
        )  # fmt: skip
        self._balls = [i for i, b in enumerate(bodies[1:]) if isinstance(b.joint, Ball)]
        joints = [b.joint for b in bodies if isinstance(b.joint, Ball)]
        self._stiffness = np.array([[j.stiffness] for j in joints])
        self._damping = np.array([[j.damping] for j in joints])
        for i, (body, link) in enumerate(zip(bodies, links, strict=True)):
            extra = rotor(body.joint.stiffness, body.joint.damping, step) if isinstance(body.joint, Ball) else 0.0
            self._finish(i - 1, body, [x + extra for x in link.inertia])

    def _in_parent(self, body: Body) -> tuple[list[float], list[float]]:
        """A body's pose in its parent as Bullet wants it; the root's frame is its centre of mass, for that is where we put it."""
        X_PF = self._X_BI if body.parent == self.root.name else np.eye(4)
        return split(np.linalg.inv(X_PF) @ pose_of(body.p, body.quat).numpy())

    def _finish(self, index: int, body: Body, inertia: list[float]) -> None:
        """Numbers that creation does not take, and no motor in a joint."""
        friction = next((s.friction for s in body.solids if s.collide), 0.0)
        finish(self.id, index, friction, self._c)
        still = {"linearDamping": 0, "angularDamping": 0, "jointDamping": 0}
        pybullet.changeDynamics(self.id, index, localInertiaDiagonal=inertia, **still, **self._c)
        soft = next((s.soft for s in body.solids if s.collide and s.soft), None)
        if soft:  # rigid pieces wedged between two others leave like a squeezed pip, several times as fast as what squeezes them
            damping = 2 * (soft * body.mass) ** 0.5
            pybullet.changeDynamics(self.id, index, contactStiffness=soft, contactDamping=damping, **self._c)
        if index in self._balls:
            free = {"positionGain": 0, "velocityGain": 0, "force": [0, 0, 0]}
            pybullet.setJointMotorControlMultiDof(
                self.id, index, pybullet.POSITION_CONTROL, targetPosition=[0, 0, 0, 1], **free, **self._c
            )

    @property
    def springs(self) -> bool:
        return bool(self._balls)

    def pull(self) -> None:
        """The springs' torques for one of Bullet's steps."""
        states = pybullet.getJointStatesMultiDof(self.id, self._balls, **self._c)
        turn = _rotation_vectors(np.array([s[0] for s in states]))
        torque = -self._stiffness * turn - self._damping * np.array([s[1] for s in states])
        mode = pybullet.TORQUE_CONTROL
        pybullet.setJointMotorControlMultiDofArray(self.id, self._balls, mode, forces=torque.tolist(), **self._c)

    def poses(self) -> dict[str, np.ndarray]:
        """X_WB (4, 4) of the root and of all that hangs on it."""
        X = join(*pybullet.getBasePositionAndOrientation(self.id, **self._c)) @ np.linalg.inv(self._X_BI)
        out = {self.names[0]: X}
        for i, name in enumerate(self.names[1:]):
            state = pybullet.getLinkState(self.id, i, computeForwardKinematics=True, **self._c)
            out[name] = join(state[4], state[5])
        return out

    def hold(self, arm: int, hand: int, X_HB: np.ndarray, force: float) -> None:
        """Fix the root to a link of the arm at X_HB (4, 4), with at most `force` [N, N m]. Bullet counts a constraint's frames
        from the centres of mass; the arm's links have their axes there."""
        offset = np.array(pybullet.getDynamicsInfo(arm, hand, **self._c)[3])
        p, quat = split(X_HB @ self._X_BI)
        constraint = pybullet.createConstraint(
            arm, hand, self.id, -1, pybullet.JOINT_FIXED, [0, 0, 0], (np.array(p) - offset).tolist(), [0, 0, 0], quat,
            [0, 0, 0, 1], **self._c,
        )  # fmt: skip
        pybullet.changeConstraint(constraint, maxForce=force, **self._c)


class _Link:
    """What Bullet asks of a link: mass [kg], principal inertia (3) [kg m²], X_BI (4, 4) of its inertial frame, its shape."""

    def __init__(self, mass: float, inertia: list[float], X_BI: np.ndarray, shape: int) -> None:
        self.mass, self.inertia, self.X_BI, self.shape = mass, inertia, X_BI, shape

    @staticmethod
    def of(client: int, scene: SceneSpec, body: Body, margin: float) -> _Link:
        X_BI, inertia = _inertial_frame(body)
        return _Link(body.mass, inertia, X_BI, shape_of(client, body.solids, margin))


def _inertial_frame(body: Body) -> tuple[np.ndarray, list[float]]:
    """X_BI (4, 4) of the centre of mass with the principal axes, and the inertia about them (3)."""
    xx, yy, zz, xy, xz, yz = body.inertia
    X = np.eye(4)
    X[:3, 3] = body.com
    if not (xy or xz or yz):
        return X, [xx, yy, zz]
    values, axes = np.linalg.eigh(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
    X[:3, :3] = axes * np.sign(np.linalg.det(axes))
    return X, values.tolist()


def finish(body: int, index: int, friction: float, c: dict[str, int]) -> None:
    """Friction, margin, no bounce. Bullet multiplies the frictions of two bodies and the twin takes their geometric mean, so each
    gets its root. A call that names a margin is for the root, whatever link it names; links keep theirs."""
    pybullet.changeDynamics(body, index, lateralFriction=friction**0.5, restitution=0, **c)
    if index < 0:
        pybullet.changeDynamics(body, index, collisionMargin=MARGIN, **c)


def shape_of(client: int, solids: tuple[Solid, ...], margin: float = MARGIN) -> int:
    """One collision shape of the colliding solids, in their body's frame; -1 where there are none. Hulls are built smaller by
    the margin that Bullet adds around them."""
    touching = [s for s in solids if s.collide]
    if not touching:
        return -1
    if all(s.shape in _PRIMITIVES for s in touching):
        arguments = [_primitive(s) for s in touching]
        if len(arguments) == 1:
            return pybullet.createCollisionShape(**arguments[0], physicsClientId=client)
        return pybullet.createCollisionShapeArray(**_columns(arguments), physicsClientId=client)
    return _hulls(client, [_moved(points, s) for s in touching for points in _pieces(s, margin)])


def _primitive(solid: Solid) -> dict[str, object]:
    """Arguments of createCollisionShape."""
    kind = {"plane": "box"}.get(solid.shape, solid.shape)
    size = solid.size
    p, quat = split(pose_of(solid.p, solid.quat).numpy())
    numbers: dict[str, object] = {"shapeType": getattr(pybullet, f"GEOM_{kind.upper()}")}
    if kind == "box":
        numbers["halfExtents"] = [*size[:2], TABLE_HALF] if solid.shape == "plane" else list(size)
    elif kind == "sphere":
        numbers["radius"] = size[0]
    else:
        numbers.update(radius=size[0], height=2 * size[1])
    if solid.shape == "plane":
        p = [p[0], p[1], p[2] - TABLE_HALF]
    if any(p) or quat != [0.0, 0.0, 0.0, 1.0]:
        numbers.update(collisionFramePosition=p, collisionFrameOrientation=quat)
    return numbers


def _columns(rows: list[dict[str, object]]) -> dict[str, list[object]]:
    """The arguments of several shapes as createCollisionShapeArray wants them."""
    plural = {
        "shapeType": ("shapeTypes", None), "halfExtents": ("halfExtents", [0, 0, 0]),
        "radius": ("radii", 0), "height": ("lengths", 0),
        "collisionFramePosition": ("collisionFramePositions", [0, 0, 0]),
        "collisionFrameOrientation": ("collisionFrameOrientations", [0, 0, 0, 1]),
    }  # fmt: skip
    return {many: [row.get(one, default) for row in rows] for one, (many, default) in plural.items()}


def _pieces(solid: Solid, margin: float) -> list[np.ndarray]:
    """Convex pieces (k, 3) in the solid's frame."""
    if solid.shape == "block_with_hole":
        return hole_pieces(solid.size, margin)
    if solid.shape == "disc":
        return [disc_points(solid.size, margin)]
    if solid.shape == "hull":
        return [_shrunk(np.array(solid.points), margin)]
    if solid.shape == "box":
        return [np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * (np.array(solid.size) - margin)]
    raise SceneError(
        f"WorldPyBullet cannot join a '{solid.shape}' with others; block_with_hole, disc, hull and box can be, and box, plane, "
        "sphere, capsule and cylinder among themselves."
    )


def _shrunk(points: np.ndarray, margin: float) -> np.ndarray:
    """Points whose hull's faces lie inside by `margin` [m] of those of the hull of `points` (k, 3)."""
    planes = np.unique(ConvexHull(points).equations.round(9), axis=0)
    planes[:, 3] += margin
    return HalfspaceIntersection(planes, points.mean(0)).intersections


def _moved(points: np.ndarray, solid: Solid) -> np.ndarray:
    X = pose_of(solid.p, solid.quat).numpy()
    return points @ X[:3, :3].T + X[:3, 3]


def _hulls(client: int, pieces: list[np.ndarray]) -> int:
    """One collision shape of many convex hulls, by way of an OBJ file with an object for each."""
    lines, start = [], 1
    for i, points in enumerate(pieces):
        lines.append(f"o piece{i}")
        lines += ["v {:.9f} {:.9f} {:.9f}".format(*p) for p in points]
        # Bullet takes the hull of the points that faces name, so a fan over all of them is enough
        lines += [f"f {start} {start + k} {start + k + 1}" for k in range(1, len(points) - 1)]
        start += len(points)
    with tempfile.NamedTemporaryFile("w", suffix=".obj", delete=False) as file:
        file.write("\n".join(lines) + "\n")
    try:
        return pybullet.createCollisionShape(pybullet.GEOM_MESH, fileName=file.name, physicsClientId=client)
    finally:
        os.unlink(file.name)


def _rotation_vectors(quat: np.ndarray) -> np.ndarray:
    """(n, 4) xyzw -> (n, 3)."""
    quat = np.where(quat[:, 3:] < 0, -quat, quat)
    sine = np.linalg.norm(quat[:, :3], axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, quat[:, 3:])
    return quat[:, :3] * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-12), 2.0)


def join(p: tuple[float, ...], quat: tuple[float, ...]) -> np.ndarray:
    """Position and PyBullet's xyzw quaternion -> pose (4, 4)."""
    x, y, z, w = quat
    return pose_of(tuple(p), (w, x, y, z)).numpy()


def split(X: np.ndarray) -> tuple[list[float], list[float]]:
    """Inverse of `join`."""
    p, (w, x, y, z) = pose_to(torch.as_tensor(X))
    return list(p), [x, y, z, w]
