"""WorldPyBullet: PyBullet's contact, its own Panda with its own masses and meshes, its software renderer."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import pybullet
import pybullet_data
import torch

from samrl.core.errors import SceneError
from samrl.core.types import Capabilities
from samrl.tasks.robots import WHITE
from samrl.tasks.spec import Body, SceneSpec, Solid, pose_of, pose_to
from samrl.tasks.task import Draw
from samrl.worlds.picture import Part, parts_of
from samrl.worlds.shapes import hole_pieces
from samrl.worlds.simulated import SUBSTEP, SimulatedWorld

_FOLDER = os.path.join(pybullet_data.getDataPath(), "franka_panda")
_MARGIN = 0.0001  # Bullet's contact margin; hulls are built smaller by it [m]
_CONSTRAINT_FORCE = 5000.0  # most force and torque of the constraint that holds the peg [N, N m]
_FINGERS = {"panda_finger_joint1": 0.008, "panda_finger_joint2": 0.008}  # where they grip the peg [m]
_TABLE_HALF = 0.05  # thickness below the table's top [m]
_UNSEEN = ("panda_link8", "panda_grasptarget")  # frames without a shape


class WorldPyBullet(SimulatedWorld):
    """The world of PyBullet."""

    capabilities = Capabilities("pybullet", notes={"renderer": "PyBullet's own", "arm": "PyBullet's own Panda"})

    def _make_engine(self, draw: Draw) -> PyBulletEngine:
        return PyBulletEngine(draw, self.task.scene)

    def _parts(self, scene: SceneSpec) -> list[Part]:
        """The Panda by PyBullet's low-polygon meshes, everything else by its simple solids."""
        arm = {b.name for b in scene.bodies if b.name.startswith("panda_")}
        others = [b.name for b in scene.bodies if b.name not in arm]
        return [Part(name, _mesh_file(name), WHITE) for name in sorted(arm)] + parts_of(scene, others)


def _mesh_file(body: str) -> str:
    name = "finger" if body.endswith("finger") else body.removeprefix("panda_")
    return os.path.join(_FOLDER, "meshes", "collision", f"{name}.obj")


class PyBulletEngine:
    """One episode's physics, in a client of its own."""

    def __init__(self, draw: Draw, nominal: SceneSpec) -> None:
        self._client = pybullet.connect(pybullet.DIRECT)
        scene = draw.scene
        pybullet.setGravity(*scene.gravity, physicsClientId=self._client)
        pybullet.setPhysicsEngineParameter(fixedTimeStep=SUBSTEP, numSolverIterations=60, physicsClientId=self._client)
        self._down = np.array(scene.gravity)
        self._load_panda(draw.q_start)
        self._payload = self._payload_of(nominal.body("peg"))
        self._static = {b.name: _static_pose(scene, b) for b in scene.bodies if _is_static(scene, b)}
        for name, X in self._static.items():
            self._add_static(scene.body(name), X)
        self._peg = self._add_peg(scene.body("peg"))

    # Building
    def _load_panda(self, q: np.ndarray) -> None:
        """PyBullet's own arm, its motors off, its fingers closed; nothing but the peg touches anything."""
        c = {"physicsClientId": self._client}
        self._arm = pybullet.loadURDF(
            os.path.join(_FOLDER, "panda.urdf"), useFixedBase=True,
            flags=pybullet.URDF_USE_INERTIA_FROM_FILE | pybullet.URDF_IGNORE_VISUAL_SHAPES, **c,
        )  # fmt: skip
        self._links = {"panda_link0": -1}
        fingers = []
        for index in range(pybullet.getNumJoints(self._arm, **c)):
            info = pybullet.getJointInfo(self._arm, index, **c)
            self._links[info[12].decode()] = index
            if info[1].decode() in _FINGERS:
                fingers.append((index, _FINGERS[info[1].decode()]))
            pybullet.setCollisionFilterGroupMask(self._arm, index, 0, 0, **c)
            pybullet.changeDynamics(self._arm, index, linearDamping=0, angularDamping=0, jointDamping=0, **c)
        pybullet.setCollisionFilterGroupMask(self._arm, -1, 0, 0, **c)
        self._hand, self._hinges = self._links["panda_hand"], list(range(7))
        for index, angle in zip(self._hinges, q, strict=True):
            pybullet.resetJointState(self._arm, index, float(angle), **c)
            pybullet.setJointMotorControl2(self._arm, index, pybullet.VELOCITY_CONTROL, force=0, **c)
        for index, opening in fingers:
            pybullet.resetJointState(self._arm, index, opening, **c)
            pybullet.setJointMotorControl2(self._arm, index, pybullet.POSITION_CONTROL, targetPosition=opening, force=1000, **c)
        self._opening = [opening for _, opening in fingers]

    def _payload_of(self, peg: Body) -> tuple[float, list[float]]:
        """The nominal peg's mass [kg] and its centre in the inertial frame of the hand [m]."""
        inertial = pybullet.getDynamicsInfo(self._arm, self._hand, physicsClientId=self._client)[3]
        return peg.mass, (np.array(peg.p) - np.array(inertial)).tolist()

    def _add_static(self, body: Body, X: np.ndarray) -> None:
        for solid in body.solids:
            if not solid.collide:
                continue
            shape = self._shape(solid)
            p, quat = _split(X @ pose_of(solid.p, solid.quat).numpy())
            if solid.shape == "plane":
                p = [p[0], p[1], p[2] - _TABLE_HALF]
            fixed = pybullet.createMultiBody(0, shape, -1, p, quat, physicsClientId=self._client)
            self._finish(fixed, friction=1.0)

    def _add_peg(self, peg: Body) -> int:
        """The peg as a body of its own, joined to the hand by a fixed constraint at its hidden pose."""
        c = {"physicsClientId": self._client}
        X_HP = pose_of(peg.p, peg.quat).numpy()
        X_WH = self._link_pose(self._hand)
        solid = peg.solids[0]
        p, quat = _split(X_WH @ X_HP)
        body = pybullet.createMultiBody(peg.mass, self._shape(solid), -1, p, quat, **c)
        self._finish(body, friction=solid.friction)
        pybullet.changeDynamics(body, -1, localInertiaDiagonal=list(peg.inertia[:3]), linearDamping=0, angularDamping=0, **c)
        # Bullet counts a constraint's frame from the link's centre of mass, which has the link's axes here
        offset = np.array(pybullet.getDynamicsInfo(self._arm, self._hand, **c)[3])
        p, quat = _split(X_HP)
        self._constraint = pybullet.createConstraint(
            self._arm, self._hand, body, -1, pybullet.JOINT_FIXED, [0, 0, 0], (np.array(p) - offset).tolist(), [0, 0, 0],
            quat, [0, 0, 0, 1], **c,
        )  # fmt: skip
        pybullet.changeConstraint(self._constraint, maxForce=_CONSTRAINT_FORCE, **c)
        return body

    def _shape(self, solid: Solid) -> int:
        """A solid's collision shape; hulls are built smaller by the margin that Bullet adds around them."""
        c = {"physicsClientId": self._client}
        if solid.shape == "box":
            return pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=list(solid.size), **c)
        if solid.shape == "plane":
            return pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=[*solid.size, _TABLE_HALF], **c)
        if solid.shape == "cylinder":
            radius, half = solid.size
            return pybullet.createCollisionShape(pybullet.GEOM_CYLINDER, radius=radius, height=2 * half, **c)
        if solid.shape == "block_with_hole":
            return self._hulls(hole_pieces(solid.size, _MARGIN))
        raise SceneError(f"WorldPyBullet cannot touch a '{solid.shape}'; box, plane, cylinder, block_with_hole are known.")

    def _hulls(self, pieces: list[np.ndarray]) -> int:
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
            return pybullet.createCollisionShape(pybullet.GEOM_MESH, fileName=file.name, physicsClientId=self._client)
        finally:
            os.unlink(file.name)

    def _finish(self, body: int, friction: float) -> None:
        """Bullet multiplies the friction of two bodies: the moving one carries the number, the fixed one has 1."""
        pybullet.changeDynamics(
            body, -1, lateralFriction=friction, collisionMargin=_MARGIN, restitution=0, physicsClientId=self._client
        )

    # Running
    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        states = pybullet.getJointStates(self._arm, self._hinges, physicsClientId=self._client)
        return np.array([s[0] for s in states]), np.array([s[1] for s in states])

    def weight(self) -> tuple[np.ndarray, np.ndarray]:
        c = {"physicsClientId": self._client}
        q = [s[0] for s in pybullet.getJointStates(self._arm, self._hinges, **c)] + self._opening
        still = [0.0] * len(q)
        arm = np.array(pybullet.calculateInverseDynamics(self._arm, q, still, still, **c))[:7]
        mass, centre = self._payload
        J, _ = pybullet.calculateJacobian(self._arm, self._hand, centre, q, still, still, **c)
        return arm, -mass * self._down @ np.array(J)[:, :7]

    def step(self, torque: np.ndarray) -> None:
        pybullet.setJointMotorControlArray(
            self._arm, self._hinges, pybullet.TORQUE_CONTROL, forces=torque.tolist(), physicsClientId=self._client
        )
        pybullet.stepSimulation(physicsClientId=self._client)

    def poses(self) -> dict[str, np.ndarray]:
        arm = {name: self._link_pose(i) for name, i in self._links.items() if name not in _UNSEEN}
        arm["panda_rightfinger"] = arm["panda_rightfinger"] @ np.diag([-1.0, -1.0, 1.0, 1.0])  # the scene's frame is turned
        p, quat = pybullet.getBasePositionAndOrientation(self._peg, physicsClientId=self._client)
        return {**arm, **self._static, "peg": _join(p, quat)}

    def _link_pose(self, link: int) -> np.ndarray:
        if link < 0:
            return np.eye(4)
        state = pybullet.getLinkState(self._arm, link, computeForwardKinematics=True, physicsClientId=self._client)
        return _join(state[4], state[5])

    def close(self) -> None:
        if self._client >= 0:
            pybullet.disconnect(self._client)
            self._client = -1


def _is_static(scene: SceneSpec, body: Body) -> bool:
    root = scene.body(scene.carrier.bodies[0]).parent
    moving = any(scene.belongs_to(arm, body.name) for arm in (scene.actor, scene.carrier))
    return not moving and body.name not in (root, "panda_link0")


def _static_pose(scene: SceneSpec, body: Body) -> np.ndarray:
    X = pose_of(body.p, body.quat)
    while body.parent != "world":
        body = scene.body(body.parent)
        X = pose_of(body.p, body.quat) @ X
    return X.numpy()


def _join(p: tuple[float, ...], quat: tuple[float, ...]) -> np.ndarray:
    """Position and PyBullet's xyzw quaternion -> pose (4, 4)."""
    x, y, z, w = quat
    return pose_of(tuple(p), (w, x, y, z)).numpy()


def _split(X: np.ndarray) -> tuple[list[float], list[float]]:
    """Inverse of `_join`."""
    p, (w, x, y, z) = pose_to(torch.as_tensor(X))
    return list(p), [x, y, z, w]
