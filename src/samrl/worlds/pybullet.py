"""WorldPyBullet: PyBullet's contact, its own Panda with its own masses and meshes, its software renderer."""

from __future__ import annotations

import os

import numpy as np
import pybullet
import pybullet_data

from samrl.core.types import Capabilities
from samrl.tasks.robots import WHITE
from samrl.tasks.spec import Ball, Body, Free, SceneSpec, pose_of
from samrl.tasks.task import Draw
from samrl.worlds.bullet_bodies import SPRING_STEPS, Tree, finish, is_static, join, roots_of, shape_of, split
from samrl.worlds.picture import Part, parts_of
from samrl.worlds.simulated import SUBSTEP, SimulatedWorld

_FOLDER = os.path.join(pybullet_data.getDataPath(), "franka_panda")
_CONSTRAINT_FORCE = 5000.0  # most force and torque of the constraint that holds what is in the hand [N, N m]
_FINGERS = {"panda_finger_joint1": "panda_leftfinger", "panda_finger_joint2": "panda_rightfinger"}  # joint -> body
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
        c = {"physicsClientId": self._client}
        scene = draw.scene
        pybullet.setGravity(*scene.gravity, **c)
        self._down = np.array(scene.gravity)
        self._load_panda(scene, draw.q_start)
        self._payload = self._payload_of(nominal)
        self._static = {b.name: static_pose(scene, b) for b in scene.bodies if self._is_static(scene, b)}
        for name, X in self._static.items():
            self._add_static(scene.body(name), X)
        self._repeats = SPRING_STEPS if any(isinstance(b.joint, Ball) for b in scene.bodies) else 1
        step = SUBSTEP / self._repeats
        pybullet.setPhysicsEngineParameter(fixedTimeStep=step, numSolverIterations=60, **c)
        self.trees = {root.name: self._add_tree(scene, root, step) for root in roots_of(scene, set(self._links))}

    # Building
    def _load_panda(self, scene: SceneSpec, q: np.ndarray) -> None:
        """PyBullet's own arm, its motors off, its fingers where the scene has them; it touches nothing itself."""
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
                fingers.append((index, abs(scene.body(_FINGERS[info[1].decode()]).p[1])))
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

    def _payload_of(self, nominal: SceneSpec) -> tuple[float, list[float]]:
        """The mass [kg] of what the hand holds by the nominal scene, and its centre in the inertial frame of the hand [m]."""
        inertial = np.array(pybullet.getDynamicsInfo(self._arm, self._hand, physicsClientId=self._client)[3])
        held = [b for b in nominal.bodies if b.parent == "panda_hand" and b.name not in self._links]
        mass = sum(b.mass for b in held)
        centre = sum((b.mass * _transform(pose_of(b.p, b.quat).numpy(), b.com) for b in held), np.zeros(3)) / max(mass, 1e-9)
        return mass, (centre - inertial).tolist()

    def _is_static(self, scene: SceneSpec, body: Body) -> bool:
        camera_base = scene.body(scene.carrier.bodies[0]).parent
        return body.name not in (camera_base, "panda_link0") and is_static(scene, body, (scene.actor, scene.carrier))

    def _add_static(self, body: Body, X: np.ndarray) -> None:
        shape = shape_of(self._client, body.solids)
        if shape >= 0:
            fixed = pybullet.createMultiBody(0, shape, -1, *split(X), physicsClientId=self._client)
            friction = next(s.friction for s in body.solids if s.collide)
            finish(fixed, -1, friction, {"physicsClientId": self._client})

    def _add_tree(self, scene: SceneSpec, root: Body, step: float) -> Tree:
        """A floating body, or one that the hand holds by a fixed constraint, at its hidden pose."""
        X_PB = pose_of(root.p, root.quat).numpy()
        if isinstance(root.joint, Free):
            return Tree(self._client, scene, root, X_PB, step)
        hand = self._links[root.parent]
        tree = Tree(self._client, scene, root, self._link_pose(hand) @ X_PB, step)
        tree.hold(self._arm, hand, X_PB, _CONSTRAINT_FORCE)
        return tree

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
        c = {"physicsClientId": self._client}
        for _ in range(self._repeats):  # Bullet forgets torques after a step
            pybullet.setJointMotorControlArray(self._arm, self._hinges, pybullet.TORQUE_CONTROL, forces=torque.tolist(), **c)
            for tree in self.trees.values():
                if tree.springs:
                    tree.pull()
            pybullet.stepSimulation(**c)

    def poses(self) -> dict[str, np.ndarray]:
        arm = {name: self._link_pose(i) for name, i in self._links.items() if name not in _UNSEEN}
        arm["panda_rightfinger"] = arm["panda_rightfinger"] @ np.diag([-1.0, -1.0, 1.0, 1.0])  # the scene's frame is turned
        moving = {name: X for tree in self.trees.values() for name, X in tree.poses().items()}
        return {**arm, **self._static, **moving}

    def _link_pose(self, link: int) -> np.ndarray:
        if link < 0:
            return np.eye(4)
        state = pybullet.getLinkState(self._arm, link, computeForwardKinematics=True, physicsClientId=self._client)
        return join(state[4], state[5])

    def close(self) -> None:
        if self._client >= 0:
            pybullet.disconnect(self._client)
            self._client = -1


def static_pose(scene: SceneSpec, body: Body) -> np.ndarray:
    X = pose_of(body.p, body.quat)
    while body.parent != "world":
        body = scene.body(body.parent)
        X = pose_of(body.p, body.quat) @ X
    return X.numpy()


def _transform(X: np.ndarray, p: tuple[float, ...]) -> np.ndarray:
    """A point (3) from one frame to the other, by the pose X (4, 4) of the first in the second."""
    return X[:3, :3] @ np.array(p) + X[:3, 3]
