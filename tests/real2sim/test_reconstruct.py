"""A scan becomes a model: against a scene whose truth is known, in three engines, and on a real scan."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from scans import BRICK, BRICK_AT, BRICK_COLOR, BRICK_YAW, TABLE, TIN, TIN_AT, TIN_COLOR, X_ST, make_scan

from samrl.model.physics import Physics
from samrl.model.scene import State, compile_mjcf
from samrl.real2sim import model_files
from samrl.real2sim.reconstruct import Reconstruction, ReconstructSettings, ScannedBody, reconstruct

REAL = Path(os.environ.get("SAMRL_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "rgbd_scan"
BALL, RADIUS = "0 -.2 .12", 0.02  # over the free part of the table [m]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reconstruct")
    make_scan(folder / "scan")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Reconstruction:
    scene = reconstruct(folder / "scan", ReconstructSettings(voxel=0.004, hold_out=8))
    model_files.write(scene, folder / "scene.xml")
    return scene


def in_table(found: Reconstruction) -> np.ndarray:
    """X_TW: the reconstruction's world in the true table's frame."""
    return np.linalg.inv(X_ST.double().numpy()) @ np.linalg.inv(found.X_WS)


def brick_and_tin(found: Reconstruction) -> tuple[ScannedBody, ScannedBody]:
    tin, brick = sorted(found.bodies, key=lambda b: float(b.pieces[0].color[0]))
    return brick, tin


def test_the_surface_lies_where_solids_are(found: Reconstruction) -> None:
    X = in_table(found)
    p = found.surface.vertices @ X[:3, :3].T + X[:3, 3]
    box = lambda q, half: np.linalg.norm(np.maximum(np.abs(q) - half, 0), axis=1) + np.minimum((np.abs(q) - half).max(1), 0)  # noqa: E731
    c, s = np.cos(BRICK_YAW), np.sin(BRICK_YAW)
    brick = box((p - BRICK_AT) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]), np.array(BRICK))
    q = p - TIN_AT
    tin = np.maximum(np.hypot(q[:, 0], q[:, 1]) - TIN[0], np.abs(q[:, 2]) - TIN[1])
    off = np.abs(np.minimum(np.minimum(brick, tin), box(p + [0, 0, TABLE[2]], np.array(TABLE))))
    assert np.median(off) < 1e-3 and np.percentile(off, 95) < 4e-3, np.percentile(off, [50, 95])
    assert found.error is not None and found.error.median < 2e-3 and found.error.covered > 0.95, found.error


def test_the_world_stands_on_the_table(found: Reconstruction) -> None:
    X = in_table(found)
    assert np.linalg.norm(X[:2, 2]) < np.radians(0.3) and X[2, 2] > 0, "z is not the table's"
    assert np.abs(X[:3, 3]).max() < 5e-3, "the origin is not in the middle of the table's top"
    table = found.fixed["support"].vertices
    assert np.allclose(np.ptp(table @ X[:3, :3].T, axis=0)[:2], 2 * np.array(TABLE[:2]), atol=0.02)


def test_objects_are_found_apart(found: Reconstruction) -> None:
    assert len(found.bodies) == 2 and all(b.free for b in found.bodies)
    X = in_table(found)
    for body, at, color, volume in zip(
        brick_and_tin(found), (BRICK_AT, TIN_AT), (BRICK_COLOR, TIN_COLOR), (8 * np.prod(BRICK), np.pi * TIN[0] ** 2 * 2 * TIN[1]),
        strict=True,
    ):  # fmt: skip
        corners = (np.concatenate([p.vertices for p in body.pieces]) + body.p_WB) @ X[:3, :3].T + X[:3, 3]
        middle = (corners.max(0) + corners.min(0)) / 2
        assert np.abs(middle - at).max() < 4e-3, f"{body.name} lies {1000 * (middle - at)} mm off"
        assert abs(np.ptp(corners[:, 2]) - 2 * at[2]) < 5e-3, f"{body.name} is {np.ptp(corners[:, 2]):.3f} m high"
        assert abs(body.mass / (found.density * volume) - 1) < 0.1, f"{body.name} weighs {body.mass:.3f} kg"
        share = np.array(body.pieces[0].color) / np.sum(body.pieces[0].color)
        assert np.abs(share - np.array(color) / np.sum(color)).max() < 0.1, f"{body.name} has the colour {body.pieces[0].color}"


def with_ball(folder: Path) -> Path:
    """The MJCF with a ball over the table. Engines know no rolling friction by default, so it is braked like in thick air."""
    path = folder / "ball.xml"
    joint = '<joint type="free" damping=".001"/>'
    ball = f'<body name="ball" pos="{BALL}">{joint}<geom type="sphere" size="{RADIUS}" mass=".03"/></body></worldbody>'
    path.write_text((folder / "scene.xml").read_text().replace("</worldbody>", ball))
    return path


def at_rest(name: str, start: dict[str, np.ndarray], end: dict[str, np.ndarray], speed: dict[str, float]) -> None:
    """The ball lies on the table, the objects where they stood."""
    assert max(speed.values()) < 2e-3, (name, speed)
    assert abs(end["ball"][2] - RADIUS) < 1e-3, (name, end["ball"])
    for body in ("object_1", "object_2"):
        assert np.abs(end[body] - start[body]).max() < 3e-3, (name, body, end[body] - start[body])


def test_a_ball_comes_to_rest_in_the_twin(found: Reconstruction, folder: Path) -> None:
    scene, params, state = compile_mjcf(with_ball(folder), torch.float64)
    X = Physics(scene).rollout(
        params, State(state.q[None], state.qd[None]), torch.zeros(2, 1, scene.nv, dtype=torch.float64), substeps=1000
    )
    names = ("object_1", "object_2", "ball")
    place = lambda q, n: q[scene.coordinates(n)[0]][:3].numpy()  # noqa: E731
    speed = {n: float(X.qd[-1, 0, scene.coordinates(n)[1]][:3].norm()) for n in names}
    at_rest("twin", {n: place(state.q, n) for n in names}, {n: place(X.q[-1, 0], n) for n in names}, speed)


def test_a_ball_comes_to_rest_in_mujoco(found: Reconstruction, folder: Path) -> None:
    mj = mujoco.MjModel.from_xml_path(str(with_ball(folder)))
    data = mujoco.MjData(mj)
    mujoco.mj_forward(mj, data)
    names = ("object_1", "object_2", "ball")
    place = lambda: {n: data.body(n).xpos.copy() for n in names}  # noqa: E731
    start = place()
    for _ in range(2000):
        mujoco.mj_step(mj, data)
    at_rest("mujoco", start, place(), {n: float(np.linalg.norm(data.body(n).cvel[3:])) for n in names})


@pytest.mark.skipif(importlib.util.find_spec("pybullet") is None, reason="there is no PyBullet for this Python")
def test_a_ball_comes_to_rest_in_pybullet(found: Reconstruction, folder: Path) -> None:
    import pybullet

    c = {"physicsClientId": pybullet.connect(pybullet.DIRECT)}
    try:
        pybullet.setGravity(0, 0, -9.81, **c)
        pybullet.loadURDF(str(folder / "scene" / "static.urdf"), useFixedBase=True, **c)
        ids = {b.name: pybullet.loadURDF(str(folder / "scene" / f"{b.name}.urdf"), b.p_WB.tolist(), **c) for b in found.bodies}
        for body in found.bodies:
            mass = pybullet.getDynamicsInfo(ids[body.name], -1, **c)[0]
            assert abs(mass - body.mass) < 1e-4
        shape = pybullet.createCollisionShape(pybullet.GEOM_SPHERE, radius=RADIUS, **c)
        ids["ball"] = pybullet.createMultiBody(0.03, shape, -1, [float(x) for x in BALL.split()], **c)
        pybullet.changeDynamics(ids["ball"], -1, rollingFriction=1e-4, **c)
        place = lambda: {n: np.array(pybullet.getBasePositionAndOrientation(i, **c)[0]) for n, i in ids.items()}  # noqa: E731
        start = place()
        for _ in range(960):
            pybullet.stepSimulation(**c)
        speed = {n: float(np.linalg.norm(pybullet.getBaseVelocity(i, **c)[0])) for n, i in ids.items()}
        at_rest("pybullet", start, place(), speed)
    finally:
        pybullet.disconnect(**c)


def test_the_same_scan_and_seed_give_the_same_files(found: Reconstruction, folder: Path) -> None:
    again = reconstruct(folder / "scan", ReconstructSettings(voxel=0.004, hold_out=8))
    model_files.write(again, folder / "again" / "scene.xml")
    for name in ("scene.xml", "scene/object_1_0.obj", "scene/support.obj", "scene/object_2.urdf"):
        assert (folder / "again" / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.skipif(not REAL.is_dir(), reason=f"there is no real scan at {REAL} (SAMRL_SHARED_DATA says where else)")
def test_a_real_scan_predicts_depth_that_was_held_out(tmp_path: Path) -> None:
    scene = reconstruct(REAL, ReconstructSettings(voxel=0.02, hold_out=8, pieces=1))
    assert scene.error is not None and scene.error.median < 0.010 and scene.error.covered > 0.9, scene.error
    assert 3 <= len(scene.bodies) <= 9, "cups, a box, a gamepad and a magazine stand on the table"
    model_files.write(scene, tmp_path / "scene.xml")
    Physics(compile_mjcf(tmp_path / "scene.xml")[0])
    assert re.search(r"500 kg/m3", (tmp_path / "scene.xml").read_text())
