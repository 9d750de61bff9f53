"""Motion without contact against MuJoCo C."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch

from samrl.model.physics import Physics
from samrl.model.scene import State, compile_mjcf


def chain(n: int, joint: str, body: str = "") -> str:
    """n capsules, each on its own joint."""
    axes = ("0 1 0", "1 0 0", "0 0 1")
    text = "".join(
        f'<body name="b{i}" pos="{0.1 * (i > 0)} 0 0" {body}><joint {joint.format(axis=axes[i % 3])}/>'
        '<geom type="capsule" fromto="0 0 0 .1 0 0" size=".02"/>'
        for i in range(n)
    )
    option = '<option timestep=".001"><flag contact="disable"/></option>'
    return f"<mujoco>{option}<worldbody>{text}{'</body>' * n}</worldbody></mujoco>"


FLOATING = """<mujoco><option timestep=".001"><flag contact="disable"/></option><worldbody>
  <body name="a" pos="0 0 1" gravcomp=".7">
  <freejoint/><geom type="cylinder" size=".1 .01" density="500" pos=".01 .02 0"/>
  <body name="b" pos=".1 0 0"><joint type="ball" pos="-.01 0 .02" stiffness=".5" damping=".01" armature=".02"/>
    <geom type="box" size=".05 .02 .01" pos=".05 0 0"/><body name="c" pos=".05 0 .01"><geom type="sphere" size=".02"/></body>
    <body name="d" pos=".1 0 0" euler="20 30 10"><joint type="slide" axis="1 1 0" damping=".2" stiffness="3"/>
      <joint axis="0 0 1" pos=".01 .02 0" stiffness=".3" damping=".01" armature=".001"/>
      <geom type="box" size=".05 .02 .03" pos=".05 .02 0"/></body></body></body></worldbody></mujoco>"""

SCENES = {
    "pendulum": chain(1, 'axis="0 1 0"'),
    "double pendulum": chain(2, 'axis="0 1 0" damping=".1"'),
    "arm of 7": chain(7, 'axis="{axis}" pos=".01 .02 -.01" damping=".3" stiffness="2" armature=".1"', 'gravcomp="1"'),
    "slides": chain(3, 'type="slide" axis="{axis}" damping=".2" stiffness="3"'),
    "balls": chain(5, 'type="ball" damping=".01" stiffness=".3"'),
    "floating tree": FLOATING,
}


def random_state(mj: mujoco.MjModel, seed: int) -> mujoco.MjData:
    """MuJoCo at a random pose and velocity under random joint forces, its accelerations worked out."""
    rng, data = np.random.default_rng(seed), mujoco.MjData(mj)
    mujoco.mj_integratePos(mj, data.qpos, 0.5 * rng.standard_normal(mj.nv), 1.0)
    data.qvel[:], data.qfrc_applied[:] = rng.standard_normal(mj.nv), rng.standard_normal(mj.nv)
    mujoco.mj_forward(mj, data)
    return data


@pytest.mark.parametrize("name", SCENES)
def test_accelerations_equal_mujoco(name: str) -> None:
    mj = mujoco.MjModel.from_xml_string(SCENES[name])
    scene, params, _ = compile_mjcf(SCENES[name], torch.float64)
    physics = Physics(scene)
    for seed in range(3):
        data = random_state(mj, seed)
        state = State(torch.tensor(data.qpos), torch.tensor(data.qvel))
        ours = physics.accelerations(params, state, torque=torch.tensor(data.qfrc_applied)).numpy()
        error = np.abs(ours - data.qacc).max() / np.abs(data.qacc).max()
        assert error < 1e-10, f"{name}: accelerations differ by {error:.1e} of the largest"


@pytest.mark.parametrize("name", SCENES)
def test_link_poses_equal_mujoco(name: str) -> None:
    mj = mujoco.MjModel.from_xml_string(SCENES[name])
    scene, params, _ = compile_mjcf(SCENES[name], torch.float64)
    data = random_state(mj, 5)
    X = Physics(scene).link_poses(params, torch.tensor(data.qpos)).numpy()
    bodies = [mujoco.mj_id2name(mj, mujoco.mjtObj.mjOBJ_BODY, b) for b in range(mj.nbody)]
    for b, name in enumerate(bodies):
        link = X[scene.link(name)]
        assert np.allclose(link[:3, 3], data.xpos[b], rtol=0, atol=1e-12), name
        assert np.allclose(link[:3, :3].ravel(), data.xmat[b], rtol=0, atol=1e-12), name


def test_fall_follows_mujoco() -> None:
    """A free spinning body and its hanging parts for half a second, in the same integrator."""
    xml = FLOATING.replace('stiffness=".5" damping=".01"', "").replace('damping=".2" stiffness="3"', "")
    xml = xml.replace('stiffness=".3" damping=".01"', "")
    mj = mujoco.MjModel.from_xml_string(xml)
    data = random_state(mj, 1)
    data.qfrc_applied[:] = 0
    scene, params, _ = compile_mjcf(xml, torch.float64)
    state = State(torch.tensor(data.qpos), torch.tensor(data.qvel))
    end = Physics(scene).step(params, state, torch.zeros(scene.nv, dtype=torch.float64), substeps=500)
    for _ in range(500):
        mujoco.mj_step(mj, data)
    assert np.abs(end.q.numpy() - data.qpos).max() < 1e-10
