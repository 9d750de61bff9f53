"""The worlds' contact: the peg stays in the hand, the hole is as wide as it says, a peg driven along its axis goes in."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from samrl.tasks.peg_insertion import PegInsertion
from samrl.tasks.spec import pose_of
from samrl.worlds import registry, settings
from samrl.worlds.shapes import hole_pieces, mesh_of

sys.path.insert(0, str(Path(__file__).parent))
from script import insert

pybullet = pytest.importorskip("pybullet")
TASK = PegInsertion()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def in_hand(world) -> np.ndarray:
    poses = world._engine.poses()
    return np.linalg.inv(poses["panda_hand"]) @ poses["peg"]


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("setting", ["nominal", "stress-tight"])
def test_a_peg_driven_along_the_hole_goes_in(name, setting):
    world = registry.make(name, TASK, settings.load(setting))
    world.reset(1)
    depths = insert(world, 45)
    assert depths[-1] == pytest.approx(0.0295, abs=5e-4), f"the peg stopped {1e3 * depths[-1]:.1f} mm deep"
    assert world.judge().success()
    world.close()


@pytest.mark.parametrize("name", registry.names())
def test_a_peg_beside_the_hole_stays_out(name):
    world = registry.make(name, TASK, settings.load("nominal"))
    world.reset(1)
    for _ in range(30):
        poses = world.judge().poses()
        beside = poses["block"][:3, 3] + poses["block"][:3, :3] @ np.array([0.03, 0, 0.020])
        tip = poses["peg"][:3, 3] + 0.03 * poses["peg"][:3, 2]
        world.act(np.concatenate([0.8 * (beside - tip), np.zeros(3)]))
    assert world.judge().measures()["depth"] < 0.001 and not world.judge().success()
    world.close()


def test_the_peg_stays_in_the_hand_of_pybullet():
    """Within 0.1 mm in free space, within 1 mm under 20 N across its tip."""
    world = registry.make("pybullet", TASK, settings.load("nominal"))
    world.reset(0)
    peg = TASK.draw(0).scene.body("peg")
    hidden = pose_of(peg.p, peg.quat).numpy()
    for _ in range(5):
        world.act(np.array([0.01, 0.0, -0.01, 0.0, 0.05, 0.0]))
    assert np.abs(in_hand(world) - hidden)[:3, 3].max() < 1e-4
    engine = world._engine
    for _ in range(200):
        engine.step(engine.weight()[0])
        tip = in_hand_tip(world)
        pybullet.applyExternalForce(
            engine.trees["peg"].id, -1, [20, 0, 0], tip, pybullet.WORLD_FRAME, physicsClientId=engine._client
        )
    assert np.abs(in_hand(world) - hidden)[:3, 3].max() < 1e-3
    world.close()


def in_hand_tip(world) -> list[float]:
    X = world._engine.poses()["peg"]
    return (X[:3, 3] + 0.03 * X[:3, 2]).tolist()


@pytest.mark.parametrize("task", [PegInsertion(), PegInsertion().tight()], ids=["nominal", "tight"])
def test_the_clearance_is_right_in_every_direction(task):
    """How far the peg can be shifted aside in the hole of WorldPyBullet: the radial clearance, within 0.05 mm."""
    from samrl.worlds.pybullet import PyBulletEngine

    engine = PyBulletEngine(task.draw(0), task.scene)
    c, peg = {"physicsClientId": engine._client}, engine.trees["peg"].id
    others = [b for b in range(pybullet.getNumBodies(**c)) if b not in (peg, engine._arm)]
    X_WB = pose_of(task.draw(0).scene.body("block").p, task.draw(0).scene.body("block").quat).numpy()

    def touches(shift: float, angle: float) -> bool:
        p_B = np.array([shift * np.cos(angle), shift * np.sin(angle), 0.025 - 0.015 + 0.030])
        quat = pybullet.getQuaternionFromEuler([np.pi, 0, 0])
        pybullet.resetBasePositionAndOrientation(peg, (X_WB[:3, :3] @ p_B + X_WB[:3, 3]).tolist(), quat, **c)
        return any(q[8] <= 0 for b in others for q in pybullet.getClosestPoints(peg, b, 0.001, **c))

    radius = task.scene.body("block").solids[0].size[3]
    expected = radius - 0.008
    for angle in np.linspace(0, 2 * np.pi, 13):
        assert not touches(expected - 5e-5, angle) and touches(expected + 5e-5, angle)
    engine.close()


@pytest.mark.parametrize("task", [PegInsertion(), PegInsertion().tight()], ids=["nominal", "tight"])
def test_mesh_and_pieces_are_the_same_solid(task):
    """The drawn surface is closed, and holds as much as the pieces that are touched."""
    from scipy.spatial import ConvexHull

    solid = task.scene.body("block").solids[0]
    mesh = mesh_of(solid)
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    pieces = sum(ConvexHull(points).volume for points in hole_pieces(solid.size))
    assert volume == pytest.approx(pieces, rel=1e-6)
    assert np.abs(np.cross(b - a, c - a).sum(0)).max() < 1e-12
