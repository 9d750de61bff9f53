"""A ball dropped on a reconstructed support, where it is free, in three engines."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import torch

from samrl.model.physics import Physics
from samrl.model.scene import State, compile_mjcf
from samrl.real2sim import support
from samrl.real2sim.reconstruct import Reconstruction

RADIUS, MASS, HEIGHT, SECONDS = 0.02, 0.03, 0.1, 3.0


@dataclass(frozen=True)
class Outcome:
    """By body, the ball among them: way since the start (3) [m] and speed at the end [m/s]; z of the ball [m]."""

    way: dict[str, np.ndarray]
    speed: dict[str, float]
    ball_z: float


def free_place(scene: Reconstruction) -> np.ndarray:
    """(3) [m] over the support, as far from objects as it goes, 8 cm or more from its border."""
    corners = scene.fixed["support"].vertices[:, :2]
    things = np.concatenate([p.vertices + b.p_WB for b in scene.bodies for p in b.pieces])[:, :2]
    grid = np.array(list(itertools.product(*np.linspace(corners.min(0), corners.max(0), 25).T)))
    grid = grid[support.inside(grid, support.outline(corners), -0.08)]
    clear = np.linalg.norm(grid[:, None] - things, axis=2).min(1)
    return np.array([*grid[np.argmax(clear)], HEIGHT])


def with_ball(scene: Reconstruction, path: Path) -> Path:
    """The MJCF with a ball. Engines know no rolling friction by default, so it is braked as by thick air."""
    x, y, z = free_place(scene)
    joint = '<joint type="free" damping=".001"/>'
    ball = f'<body name="ball" pos="{x} {y} {z}">{joint}<geom type="sphere" size="{RADIUS}" mass="{MASS}"/></body></worldbody>'
    out = path.with_name("ball.xml")
    out.write_text(path.read_text().replace("</worldbody>", ball))
    return out


def names_of(scene: Reconstruction) -> list[str]:
    return [*(b.name for b in scene.bodies if b.free), "ball"]


def in_twin(scene: Reconstruction, path: Path) -> Outcome:
    model, params, state = compile_mjcf(with_ball(scene, path), torch.float64)
    steps = round(SECONDS / model.timestep)
    still = torch.zeros(1, 1, model.nv, dtype=torch.float64)
    end = Physics(model).rollout(params, State(state.q[None], state.qd[None]), still, substeps=steps)
    at = {n: model.coordinates(n) for n in names_of(scene)}
    q0, q, qd = state.q.numpy(), end.q[-1, 0].numpy(), end.qd[-1, 0].numpy()
    way = {n: q[at[n][0]][:3] - q0[at[n][0]][:3] for n in at}
    return Outcome(way, {n: float(np.linalg.norm(qd[at[n][1]][:3])) for n in at}, float(q[at["ball"][0]][2]))


def in_mujoco(scene: Reconstruction, path: Path) -> Outcome:
    model = mujoco.MjModel.from_xml_path(str(with_ball(scene, path)))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    place = lambda: {n: data.body(n).xpos.copy() for n in names_of(scene)}  # noqa: E731
    start = place()
    for _ in range(round(SECONDS / model.opt.timestep)):
        mujoco.mj_step(model, data)
    end = place()
    speed = {n: float(np.linalg.norm(data.body(n).cvel[3:])) for n in start}
    return Outcome({n: end[n] - start[n] for n in start}, speed, float(end["ball"][2]))


def in_pybullet(scene: Reconstruction, path: Path) -> Outcome:
    import pybullet

    c = {"physicsClientId": pybullet.connect(pybullet.DIRECT)}
    try:
        pybullet.setGravity(0, 0, -9.81, **c)
        folder = path.with_suffix("")
        pybullet.loadURDF(str(folder / "static.urdf"), useFixedBase=True, **c)
        ids = {}
        for body in scene.bodies:
            ids[body.name] = pybullet.loadURDF(str(folder / f"{body.name}.urdf"), body.p_WB, useFixedBase=not body.free, **c)
            assert not body.free or abs(pybullet.getDynamicsInfo(ids[body.name], -1, **c)[0] - body.mass) < 1e-4
        shape = pybullet.createCollisionShape(pybullet.GEOM_SPHERE, radius=RADIUS, **c)
        ids["ball"] = pybullet.createMultiBody(MASS, shape, -1, free_place(scene).tolist(), **c)
        pybullet.changeDynamics(ids["ball"], -1, rollingFriction=1e-4, **c)
        place = lambda: {n: np.array(pybullet.getBasePositionAndOrientation(i, **c)[0]) for n, i in ids.items()}  # noqa: E731
        start = place()
        for _ in range(round(240 * SECONDS)):
            pybullet.stepSimulation(**c)
        end, names = place(), names_of(scene)
        speed = {n: float(np.linalg.norm(pybullet.getBaseVelocity(ids[n], **c)[0])) for n in names}
        return Outcome({n: end[n] - start[n] for n in names}, speed, float(end["ball"][2]))
    finally:
        pybullet.disconnect(**c)


ENGINES = {"twin": in_twin, "mujoco": in_mujoco, "pybullet": in_pybullet}
