"""The worlds' thread: before the fingers it comes to rest, and sags as a beam does; and the eye that it is to go through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samrl.tasks.needle_threading import DENSITY, EYE, FRONT, RADIUS, SEGMENT, STIFFNESS, WIRE, NeedleThreading, Ranges
from samrl.worlds import registry, settings

pytest.importorskip("pybullet")
STRAIGHT = NeedleThreading(ranges=replace(Ranges(), bend=0.0, twist=0.0, softness=(1.0, 1.0)))


def free_end(world) -> np.ndarray:
    X = world._engine.poses()[f"front{FRONT - 1}"]
    return X[:3, 3] + SEGMENT * X[:3, 0]


@pytest.mark.parametrize("name", registry.names())
def test_a_thread_at_rest_is_still_and_sags_like_a_beam(name):
    world = registry.make(name, STRAIGHT, settings.load("nominal"))
    world.reset(3)
    world._simulate(6000)  # what hangs behind the fingers still swings then, for much longer; what is before them does not
    before = free_end(world)
    world._simulate(500)
    speed = np.linalg.norm(free_end(world) - before) / 0.5
    X_WE = world._engine.poses()["grip"]
    sag = (X_WE[:3, 3] - free_end(world))[2]
    weight = DENSITY * np.pi * RADIUS**2 * 9.81  # N/m
    if name == "mujoco":  # where masses are off by up to a tenth
        weight = 9.81 * float(world._engine._model.body("front0").mass[0]) / SEGMENT
    beam = weight * (FRONT * SEGMENT) ** 4 / (8 * STIFFNESS * SEGMENT)
    assert speed < 1e-3
    assert sag == pytest.approx(beam, rel=0.1)
    world.close()


def test_the_eye_is_open_and_its_wire_is_there_in_pybullet():
    import pybullet

    world = registry.make("pybullet", STRAIGHT, settings.load("nominal"))
    world.reset(4)
    X_WN, c = world._engine.poses()["needle"], {"physicsClientId": world._engine._client}

    needle = next(b for b in range(pybullet.getNumBodies(**c)) if len(pybullet.getCollisionShapeData(b, -1, **c)) > 10)
    radius = 0.0004
    probe = pybullet.createMultiBody(0.0, pybullet.createCollisionShape(pybullet.GEOM_SPHERE, radius=radius, **c), **c)

    def free(y: float, z: float) -> float:
        """How far the point (y, z) of the eye's plane is from the wire [m]."""
        place = X_WN[:3, :3] @ np.array([0.0, y, z]) + X_WN[:3, 3]
        pybullet.resetBasePositionAndOrientation(probe, place, [0, 0, 0, 1], **c)
        return min(p[8] for p in pybullet.getClosestPoints(probe, needle, 0.02, **c)) + radius

    assert EYE[0] < free(0.0, 0.0) < EYE[0] + 2e-4
    for y, z in ((EYE[0], 0.0), (0.0, EYE[1])):
        assert 0 < free(y, z) < 2e-4 and 0 < free(-y, -z) < 2e-4
    for y, z in ((EYE[0] + WIRE, 0.0), (0.0, EYE[1] + WIRE)):
        assert free(y, z) < -0.5 * WIRE and free(-y, -z) < -0.5 * WIRE
    world.close()
