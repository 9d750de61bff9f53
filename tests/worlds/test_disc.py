"""A disc with rounded rims in both worlds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samrl.tasks.peg_insertion import PegInsertion
from samrl.tasks.spec import Body, Free, SceneSpec, Solid
from samrl.tasks.task import Draw
from samrl.worlds.mujoco import MuJoCoEngine
from samrl.worlds.pybullet import PyBulletEngine

RADIUS, HALF, RIM = 0.06, 0.004, 0.0035
TASK = PegInsertion()


def scene(lifted: float, wedge: float | None = None) -> SceneSpec:
    """The task's, with a disc so far above the table, and a wall as high as `wedge` whose top is under the disc's edge."""
    inertia = (0.06 * RADIUS**2 / 4,) * 2 + (0.06 * RADIUS**2 / 2, 0.0, 0.0, 0.0)
    disc = Solid("disc", (RADIUS, HALF, RIM), friction=0.3, collide=True, contact=(2000.0, 5.0))
    cake = Body("cake", "world", (0.3, 0.4, HALF + lifted), joint=Free(), mass=0.06, inertia=inertia, solids=(disc,))
    bodies, pairs = (*TASK.scene.bodies, cake), (*TASK.scene.pairs, ("cake", "table"))
    if wedge is not None:
        at = (0.3 + RADIUS + 0.0095, 0.4, wedge / 2)  # its face .5 mm beneath the cylinder's side, clear of the round rim
        block = Solid("box", (0.01, 0.02, wedge / 2), collide=True)
        bodies, pairs = (*bodies, Body("wall", "world", at, solids=(block,))), (*pairs, ("cake", "wall"))
    return replace(TASK.scene, bodies=bodies, pairs=pairs)


def make(world: str, spec: SceneSpec) -> MuJoCoEngine | PyBulletEngine:
    q = TASK.draw(0).q_start
    if world == "mujoco":
        return MuJoCoEngine(spec, TASK.scene, q)
    return PyBulletEngine(Draw(spec, q, np.zeros((1, 4, 4)), 0), TASK.scene)


@pytest.mark.parametrize("world", ["mujoco", "pybullet"])
def test_a_dropped_disc_comes_to_lie_flat(world: str) -> None:
    engine = make(world, scene(lifted=0.01))
    for _ in range(1500):
        engine.step(np.zeros(7))
    before = engine.poses()["cake"]
    for _ in range(200):
        engine.step(np.zeros(7))
    after = engine.poses()["cake"]
    engine.close()
    assert abs(after[2, 3] - HALF) < 5e-4 and after[2, 2] > 0.9999
    assert np.abs(after[:3, 3] - before[:3, 3]).max() < 2e-4


@pytest.mark.parametrize("world", ["mujoco", "pybullet"])
def test_its_rim_is_round(world: str) -> None:
    """What is lower than the rim goes under it, and touches nothing; a sharp cylinder would be pushed away."""
    low = 0.3 * RIM
    for wedge, moves in ((low, False), (HALF, True)):
        engine = make(world, scene(lifted=0.0, wedge=wedge))
        for _ in range(300):
            engine.step(np.zeros(7))
        x = float(engine.poses()["cake"][0, 3])
        engine.close()
        assert (x < 0.3 - 2e-4) == moves, f"{wedge}: {1e3 * (x - 0.3):.3f} mm"
