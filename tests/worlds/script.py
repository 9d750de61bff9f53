"""A script that inserts the peg by the judge's truth: for tests of the worlds' contact alone."""

from __future__ import annotations

import numpy as np

PEG_HALF, BLOCK_HALF = 0.030, 0.025


def towards(poses: dict[str, np.ndarray], X_WE: np.ndarray, height: float, gain: float) -> np.ndarray:
    """The action (6) that moves the peg's tip to `height` above the hole's mouth, the peg along the hole's axis."""
    X_WB, X_WP = poses["block"], poses["peg"]
    turn = gain * np.cross(X_WP[:3, 2], -X_WB[:3, 2])
    tip = X_WP[:3, 3] + PEG_HALF * X_WP[:3, 2]
    goal = X_WB[:3, 3] + (BLOCK_HALF + height) * X_WB[:3, 2]
    return np.concatenate([gain * (goal - tip) - np.cross(turn, tip - X_WE[:3, 3]), turn])


def insert(world, steps: int = 60) -> list[float]:
    """Run one episode, already reset; returns the depth after every step [m]."""
    judge, depths, lowering = world.judge(), [], False
    observation = world.act(np.zeros(6)).observation
    for _ in range(steps):
        measures = judge.measures()
        off = np.linalg.norm(measures["lateral"])
        lowering = lowering or (off < 3e-4 and np.linalg.norm(measures["tilt"]) < 0.004)
        # far from the axis it keeps above the block
        height = -min(measures["depth"] + 0.004, 0.0295) if lowering else max(0.006, min(0.03, off))
        action = towards(judge.poses(), observation.arm.X_WE_command, height, 0.9)
        observation = world.act(action).observation
        depths.append(judge.measures()["depth"])
    return depths
