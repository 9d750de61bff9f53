"""WorldMuJoCo: MuJoCo's physics of a scene with errors of its own, drawn per seed; drawn by PyBullet's software renderer
fed with MuJoCo's poses, so that no graphics library is needed."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import mujoco
import numpy as np

from samrl.core.errors import SceneError
from samrl.core.types import Capabilities
from samrl.tasks.mjcf import to_mjcf
from samrl.tasks.spec import Ball, Body, Free, Hinge, SceneSpec, Solid
from samrl.tasks.task import Draw
from samrl.worlds.settings import Errors, Hidden
from samrl.worlds.shapes import disc_points, hole_pieces
from samrl.worlds.simulated import SUBSTEP, SimulatedWorld, rotor


class WorldMuJoCo(SimulatedWorld):
    """The world of MuJoCo."""

    capabilities = Capabilities("mujoco", notes={"renderer": "PyBullet's software renderer", "arm": "simple solids"})

    def _make_engine(self, draw: Draw) -> MuJoCoEngine:
        rng = np.random.default_rng([draw.seed, 5])
        true = with_errors(draw.scene, self.settings.errors, rng, self.settings.hidden, "friction" in draw.info)
        return MuJoCoEngine(true, self.task.scene, draw.q_start)


class MuJoCoEngine:
    """One episode's physics.

    Args:
        scene: the true scene, errors included.
        nominal: what the arm's own controller believes, for its gravity compensation.
        q: (7) joint angles at the start [rad].
    """

    def __init__(self, scene: SceneSpec, nominal: SceneSpec, q: np.ndarray) -> None:
        self._model = compile_scene(scene)
        self._data = mujoco.MjData(self._model)
        self._names = [b.name for b in scene.bodies if not _of_carrier(scene, b)]
        self._body = {name: self._model.body(name).id for name in self._names}
        self._arm = len(scene.actor.bodies)  # whose coordinates come first
        self._data.qpos[: self._arm] = q
        mujoco.mj_forward(self._model, self._data)
        loaded = compile_scene(nominal)
        bare = compile_scene(_empty_handed(nominal))
        self._beliefs = [(model, mujoco.MjData(model)) for model in (bare, loaded)]

    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        return self._data.qpos[: self._arm].copy(), self._data.qvel[: self._arm].copy()

    def weight(self) -> tuple[np.ndarray, np.ndarray]:
        bare, loaded = (self._bias(model, data) for model, data in self._beliefs)
        return bare, loaded - bare

    def _bias(self, model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
        """Torques (7) that hold a model still with the arm at the measured joint angles, and all else at its reference."""
        data.qpos[: self._arm] = self._data.qpos[: self._arm]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        out = np.zeros(model.nv)
        mujoco.mj_rne(model, data, 0, out)
        return out[: self._arm]

    def step(self, torque: np.ndarray) -> None:
        self._data.qfrc_applied[: self._arm] = torque
        mujoco.mj_step(self._model, self._data)

    def poses(self) -> dict[str, np.ndarray]:
        # mj_step leaves the poses of the substep before
        mujoco.mj_kinematics(self._model, self._data)
        out = {}
        for name in self._names:
            X = np.eye(4)
            X[:3, :3] = self._data.xmat[self._body[name]].reshape(3, 3)
            X[:3, 3] = self._data.xpos[self._body[name]]
            out[name] = X
        return out

    def close(self) -> None:
        """Nothing is held outside Python."""


def compile_scene(scene: SceneSpec) -> mujoco.MjModel:
    """MuJoCo's model of the scene at 1 kHz: holes from convex pieces, gravity compensated by nobody but the controller."""
    root = ET.fromstring(to_mjcf(scene, SUBSTEP))
    option = root.find("option")
    assert option is not None
    option.attrib.update(integrator="implicitfast", cone="elliptic", impratio="10")
    for element in root.iter("body"):
        element.attrib.pop("gravcomp", None)
    for body in scene.bodies:
        if isinstance(body.joint, Ball):  # MuJoCo's springs are explicit, its dampers are not
            joint = next(j for j in root.iter("joint") if j.get("name") == f"{body.name}_joint")
            joint.set("armature", str(rotor(body.joint.stiffness, 0.0, SUBSTEP)))
        for i, solid in enumerate(body.solids):
            if solid.shape == "block_with_hole":
                _put_pieces(root, f"{body.name}/{i}", hole_pieces(solid.size))
            elif solid.shape == "disc":  # a cylinder's sharp edge would let nothing slip under it
                _put_pieces(root, f"{body.name}/{i}", [disc_points(solid.size)])
            if solid.shape in ("disc", "hull"):
                _many_points(option)
    _set_friction(root, scene)
    try:
        return mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
    except ValueError as error:
        raise SceneError(f"MuJoCo cannot compile scene '{scene.name}': {error}.") from error


def _many_points(option: ET.Element) -> None:
    """Faces of convex meshes touch at several points, not at one, or what lies flat rocks."""
    flag = option.find("flag")
    flag = ET.SubElement(option, "flag") if flag is None else flag
    flag.set("multiccd", "enable")


def _put_pieces(root: ET.Element, name: str, pieces: list[np.ndarray]) -> None:
    """Replace the geom that stands for a solid by convex meshes of the points (k, 3), and its contact pairs by theirs."""
    asset = root.find("asset")
    asset = ET.SubElement(root, "asset") if asset is None else asset
    parent = next(body for body in root.iter("body") if any(g.get("name") == name for g in body.findall("geom")))
    box = next(g for g in parent.findall("geom") if g.get("name") == name)
    parent.remove(box)
    contact = root.find("contact")
    assert contact is not None
    pairs = [p for p in contact if name in (p.get("geom1"), p.get("geom2"))]
    for pair in pairs:
        contact.remove(pair)
    for i, points in enumerate(pieces):
        part = f"{name}/{i}"
        ET.SubElement(asset, "mesh", name=part, vertex=" ".join(f"{v:.9g}" for v in points.ravel()))
        # MuJoCo moves a mesh to its own centre and turns it to its own axes; the geom's pose undoes that
        ET.SubElement(parent, "geom", {**_frame(box), "name": part, "type": "mesh", "mesh": part})
        for pair in pairs:
            other = pair.get("geom2") if pair.get("geom1") == name else pair.get("geom1")
            ET.SubElement(contact, "pair", geom1=str(other), geom2=part)


def _frame(box: ET.Element) -> dict[str, str]:
    kept = ("pos", "quat", "rgba", "friction", "contype", "conaffinity", "mass")
    return {k: v for k, v in box.attrib.items() if k in kept}


def _set_friction(root: ET.Element, scene: SceneSpec) -> None:
    """MuJoCo would take the larger friction of a pair; here the moving solid's own counts."""
    contact = root.find("contact")
    for pair in () if contact is None else contact:
        mu = scene.body(str(pair.get("geom1")).split("/")[0]).solids[0].friction
        pair.attrib.update(condim="3", friction=f"{mu} {mu} 0.005 0.0001 0.0001")
        pair.attrib.update(solref="0.004 1", solimp="0.95 0.99 0.0002")


def _of_carrier(scene: SceneSpec, body: Body) -> bool:
    return scene.belongs_to(scene.carrier, body.name)


def with_errors(scene: SceneSpec, errors: Errors, rng: np.random.Generator, hidden: Hidden, drawn: bool = False) -> SceneSpec:
    """The scene as it really is here: links' mass, inertia and joints, peg and hole each a little off. What is `hidden` already
    stays, and so does friction that the task has `drawn`."""
    share = lambda size, n=(): 1 + size * rng.uniform(-1, 1, n)  # noqa: E731
    for name in scene.actor.bodies:
        body = scene.body(name)
        assert isinstance(body.joint, Hinge)
        armature, damping = body.joint.armature * share(errors.inertia), body.joint.damping * share(errors.damping)
        hinge = replace(body.joint, armature=armature, damping=damping)
        # one factor for the whole tensor: three of them could break its triangle inequality
        inertia = tuple((np.array(body.inertia) * share(errors.inertia)).tolist())
        scene = scene.with_body(name, mass=body.mass * share(errors.mass), inertia=inertia, joint=hinge)
    scale, friction = share(errors.inertia), float(rng.uniform(*errors.friction))
    off = errors.shape * rng.uniform(-1, 1, 3)
    scale = 1.0 if hidden.payload else scale
    for body in scene.bodies:
        moves = scene.belongs_to(scene.actor, body.name) or isinstance(body.joint, Free)
        if body.updatable:
            solids = tuple(_resized(s, off) for s in body.solids)
            solids = tuple(replace(s, friction=friction) for s in solids) if moves and not (hidden.friction or drawn) else solids
            inertia = tuple((np.array(body.inertia) * scale).tolist())
            scene = scene.with_body(body.name, mass=body.mass * scale, inertia=inertia, solids=solids)
    return scene


def _resized(solid: Solid, off: np.ndarray) -> Solid:
    """The solid with its radius, or its hole's radius and depth, off by so much [m]."""
    if solid.shape in ("cylinder", "capsule", "disc"):
        return replace(solid, size=(solid.size[0] + off[0], *solid.size[1:]))
    if solid.shape == "block_with_hole":
        x, y, z, hole, depth, chamfer = solid.size
        return replace(solid, size=(x, y, z, hole + off[1], depth + off[2], chamfer))
    return solid


def _empty_handed(scene: SceneSpec) -> SceneSpec:
    """The scene with hardly any weight in what the hand holds."""
    for body in scene.bodies:
        if body.parent == scene.actor.tool_parent and (body.updatable or not body.solids):
            scene = scene.with_body(body.name, mass=1e-9, inertia=(1e-12, 1e-12, 1e-12, 0, 0, 0))
    return scene
