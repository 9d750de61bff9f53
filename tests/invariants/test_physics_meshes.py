"""Convex meshes in contact: against MuJoCo C, and against the simple solid of the same shape."""

from __future__ import annotations

import itertools

import mujoco
import numpy as np
import pytest
import torch

from samrl.core.errors import SceneError
from samrl.model.physics import Physics
from samrl.model.scene import Scene, State, compile_mjcf

BRICK = " ".join(f"{0.04 * x} {0.03 * y} {0.02 * z}" for x, y, z in itertools.product((-1, 1), repeat=3))
WEDGE = "-.05 -.04 0  .05 -.04 0  .05 .04 0  -.05 .04 0  -.04 -.03 .03  -.04 .03 .03"
ASSETS = f'<asset><mesh name="brick" vertex="{BRICK}"/><mesh name="wedge" vertex="{WEDGE}"/></asset>'


def world(bodies: str, timestep: float = 0.001) -> str:
    return (
        f'<mujoco><compiler angle="radian"/><option timestep="{timestep}"/>{ASSETS}<worldbody>'
        f'<geom type="plane" size="1 1 .1" friction=".6"/>{bodies}</worldbody></mujoco>'
    )


def fall(xml: str, seconds: float, qd: tuple[float, ...] = ()) -> tuple[Scene, State]:
    """The scene after that time, from its reference pose."""
    scene, params, state = compile_mjcf(xml, torch.float64)
    physics = Physics(scene)
    start = State(state.q[None], torch.tensor(qd or [0.0] * scene.nv, dtype=torch.float64)[None])
    steps = round(seconds / scene.timestep)
    end = physics.rollout(params, start, torch.zeros(1, 1, scene.nv, dtype=torch.float64), substeps=steps)
    return scene, State(end.q[-1, 0], end.qd[-1, 0])


def mujoco_fall(xml: str, seconds: float) -> np.ndarray:
    """q of MuJoCo C after that time."""
    mj = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(mj)
    for _ in range(round(seconds / mj.opt.timestep)):
        mujoco.mj_step(mj, data)
    return data.qpos


def test_a_mesh_comes_to_rest_where_mujocos_does() -> None:
    xml = world(
        '<body pos="0 0 .03" euler=".2 .1 .3"><freejoint/><geom type="mesh" mesh="wedge" mass=".1" friction=".6"/></body>'
    )
    _, state = fall(xml, 1.5)
    theirs = mujoco_fall(xml, 1.5)
    assert state.qd.abs().max() < 1e-4
    assert abs(float(state.q[2]) - theirs[2]) < 5e-4
    turned = 2 * np.arccos(min(1.0, abs(float(state.q[3:7] @ torch.tensor(theirs[3:7])))))
    assert turned < 0.05, f"it lies {turned:.3f} rad from where MuJoCo's does"


def test_a_ball_rolls_down_a_mesh_as_mujocos_does() -> None:
    ball = '<body pos="-.02 0 .0402"><freejoint/><geom type="sphere" size=".015" mass=".05" friction=".6"/></body>'
    xml = world('<geom type="mesh" mesh="wedge" friction=".6"/>' + ball)
    _, state = fall(xml, 0.2)
    theirs = mujoco_fall(xml, 0.2)
    assert theirs[0] > 0.01, "MuJoCo's ball does not roll: this test says nothing"
    assert np.abs(state.q[:3].numpy() - theirs[:3]).max() < 0.05 * (theirs[0] + 0.02)


def test_a_ball_moves_on_a_box_as_on_the_mesh_of_it() -> None:
    """Over its top, and then over an edge, which the two round in their own way within the edge radius, .2 mm. (MuJoCo keeps
    vertices in float32.)"""
    ball = '<body pos="0 0 .06"><freejoint/><geom type="sphere" size=".02" mass=".05" friction=".6"/></body>'
    for seconds, off in ((0.1, 1e-7), (0.25, 1e-3)):
        kinds = ('type="box" size=".04 .03 .02"', 'type="mesh" mesh="brick"')
        ends = [
            fall(world(f'<geom {kind} pos="0 0 .02" friction=".6"/>{ball}'), seconds, (0.3, 0.1, 0, 0, 15, 0)) for kind in kinds
        ]
        box, mesh = (state for _, state in ends)
        assert torch.allclose(box.q, mesh.q, rtol=0, atol=off), (seconds, box.q, mesh.q)
    assert float(box.q[2]) < 0.0595, "the ball does not come to the edge"


def test_a_hull_of_too_many_sides_is_refused_by_name() -> None:
    rng = np.random.default_rng(0)
    ball = rng.standard_normal((200, 3))
    text = " ".join(f"{x:.5f}" for x in (0.05 * ball / np.linalg.norm(ball, axis=1)[:, None]).ravel())
    xml = """<mujoco><asset><mesh name="m" vertex="{}" {}/></asset><worldbody><geom type="plane" size="1 1 .1"/>
        <body pos="0 0 .06"><freejoint/><geom name="ball" type="mesh" mesh="m" {}/></body></worldbody></mujoco>"""
    with pytest.raises(SceneError, match=r"'ball' has a convex hull of \d+ sides; contact takes up to 128.*maxhullvert"):
        Physics(compile_mjcf(xml.format(text, "", ""))[0])
    Physics(compile_mjcf(xml.format(text, 'maxhullvert="32"', ""))[0])
    Physics(compile_mjcf(xml.format(text, "", 'contype="0" conaffinity="0"'))[0])
