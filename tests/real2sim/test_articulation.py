"""Joints found from looks in a world that is not the twin."""

import json
import math
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from samrl import cli
from samrl.core.camera import Camera, viewpoint
from samrl.core.errors import ImageError, SamrlError, SceneError, UnknownNameError
from samrl.core.types import RGBD
from samrl.real2sim.articulation.files import write_looks
from samrl.real2sim.articulation.fit import JointEstimate, fit_articulation
from samrl.real2sim.articulation.joint import joint_of, likely_joints
from samrl.real2sim.articulation.problem import JointProblem, Looks, Model
from samrl.real2sim.articulation.scene_file import write_joint
from samrl.real2sim.articulation.search import ArticulationSettings
from samrl.worlds import settings
from samrl.worlds.posed import PosedWorld

SCENES = Path(__file__).parents[2] / "examples" / "articulated"
CABINET, CHEST = ((SCENES / f"{name}.xml").read_text() for name in ("cabinet", "chest"))
QUICK = ArticulationSettings(lines=8, kept=2)


def looks_at(text: str, joint: str, body: str, states: tuple[float, ...], seed: int) -> list[RGBD]:
    """Looks at a body, one view each, with the sensor's noise."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    world, looks = PosedWorld(text, settings.load("nominal"), seed, np.array([0.0, 0.0, 0.25])), []
    for q in states:
        world.put({joint: q})
        yaw, radius = (torch.tensor(x).double() for x in (rng.uniform(-0.6, 0.6), rng.uniform(0.8, 1.0)))
        X_WC = viewpoint(torch.tensor([0.05, 0.0, 0.25]).double(), yaw, torch.tensor(0.6).double(), radius)
        looks.append(world.look(Camera.from_fov(1280, 720, 1.2, X_WC), (body,)))
    world.close()
    return looks


def changed(text: str, joint: str, axis: tuple[float, ...] | None, shift: tuple[float, ...] = (0.0, 0.0, 0.0)) -> str:
    """The scene with another axis of the joint, moved by `shift` [m], or without the joint."""
    spec = mujoco.MjSpec.from_string(text)
    if axis is None:
        spec.delete(spec.joint(joint))
    else:
        spec.joint(joint).axis, spec.joint(joint).pos = axis, np.array(spec.joint(joint).pos) + np.array(shift)
    return spec.to_xml()


def degrees_between(a, b) -> float:
    return math.degrees(math.atan2(float(np.linalg.norm(np.cross(a, b))), float(np.dot(a, b))))


@pytest.fixture(scope="module")
def drawer() -> tuple[list[RGBD], np.ndarray]:
    states = (0.07, 0.15, 0.27)
    return looks_at(CABINET, "drawer_slide", "drawer", states, 5), np.array(states)


@pytest.fixture(scope="module")
def lid() -> tuple[list[RGBD], np.ndarray]:
    states = (0.3, 0.9, 1.6)
    return looks_at(CHEST, "lid_hinge", "lid", states, 6), np.array(states)


def test_drawer_whose_axis_is_ten_degrees_off(drawer) -> None:
    looks, states = drawer
    rough = changed(CABINET, "drawer_slide", (math.cos(0.175), math.sin(0.175) * 0.6, math.sin(0.175) * 0.8))
    found = fit_articulation(rough, "drawer", looks, settings=QUICK)
    assert found.kind == "slide" and degrees_between(found.axis_W, (1, 0, 0)) < 0.5
    assert np.abs(found.state - states).max() < 0.0015
    assert 1e-5 < found.state_std.max() < 0.002 and 1e-5 < found.angle_std < 0.02
    again = mujoco.MjModel.from_xml_string(write_joint(rough, found))
    assert np.allclose(again.joint("drawer_slide").axis, found.axis_B) and again.joint("drawer_slide").range[1] == 0.3


def test_lid_whose_joint_nobody_knows(lid) -> None:
    looks, states = lid
    rough = changed(CHEST, "lid_hinge", None)
    found = fit_articulation(rough, "lid", looks, settings=QUICK)
    assert found.kind == "hinge" and found.losses["hinge"] < 0.5 * found.losses["slide"]
    assert degrees_between(found.axis_W, (0, -1, 0)) < 0.5  # towards larger states: nothing else says where a line points
    assert np.degrees(np.abs(found.state - states)).max() < 0.7
    off = np.array([-0.12, 0.0, 0.17]) - found.point_W
    assert np.linalg.norm(np.cross(off, found.axis_W)) < 0.003
    joint = mujoco.MjModel.from_xml_string(write_joint(rough, found)).joint("lid_joint")
    assert joint.type[0] == mujoco.mjtJoint.mjJNT_HINGE and joint.range[1] == pytest.approx(found.state.max(), abs=1e-5)


def test_one_look_tells_the_state_of_a_known_joint(lid) -> None:
    looks, states = lid
    found = fit_articulation(CHEST, "lid", looks[1:2], free_axis=False, settings=QUICK)
    assert abs(math.degrees(found.state[0] - states[1])) < 0.7 and found.angle_std == 0.0
    assert degrees_between(found.axis_B, (0, -1, 0)) < 1e-6


def test_something_before_the_body_hides_it(lid) -> None:
    looks, states = lid
    mask = looks[1].masks["lid"]
    right = (mask > 0) & (np.arange(mask.shape[1]) > np.median(np.nonzero(mask)[1]))
    near = np.where(right, np.float32(0.5), looks[1].depth)
    look = replace(looks[1], depth=near, valid=looks[1].valid | right, masks={"lid": np.where(right, np.float32(0), mask)})
    found = fit_articulation(CHEST, "lid", [look], free_axis=False, settings=replace(QUICK, clearance=0.015))
    blind = fit_articulation(CHEST, "lid", [look], free_axis=False, settings=QUICK)
    assert abs(math.degrees(found.state[0] - states[1])) < 0.7 and found.loss < 0.5 * blind.loss


def test_looks_at_one_opening_share_their_state(drawer) -> None:
    looks, states = drawer
    found = fit_articulation(
        CABINET, "drawer", [looks[0], looks[0], looks[2]], opening=(0, 0, 1), free_axis=False, settings=QUICK
    )
    assert found.state.shape == (2,) and np.abs(found.state - states[[0, 2]]).max() < 0.0015


def test_furniture_that_stands_elsewhere(drawer) -> None:
    looks, states = drawer
    spec = mujoco.MjSpec.from_string(CABINET)
    spec.body("cabinet").pos = [0.006, -0.005, 0.004]
    rough, doubt = spec.to_xml(), replace(QUICK, doubt_base=(0.01, 0.03))
    found = fit_articulation(rough, "drawer", looks, free_axis=False, settings=doubt)
    assert np.linalg.norm(found.X_WF[:3, 3]) < 0.003 and np.abs(found.state - states).max() < 0.003
    blind = fit_articulation(rough, "drawer", looks, free_axis=False, settings=QUICK)
    assert np.abs(blind.state - states).max() > np.abs(found.state - states).max() and blind.loss > found.loss
    body = mujoco.MjModel.from_xml_string(write_joint(rough, found)).body("cabinet")
    assert np.allclose(body.pos, found.X_WF[:3, 3], atol=1e-6)


URDF = """<robot name="r"><link name="room"/><link name="box">{0}</link><link name="lid">{0}</link>
  <joint name="stands" type="fixed"><origin xyz="0 0 .5"/><parent link="room"/><child link="box"/></joint>
  <joint name="hinge" type="revolute"><origin xyz="0 0 1"/><parent link="box"/><child link="lid"/><axis xyz="0 1 0"/>
    <limit lower="0" upper="1" effort="1" velocity="1"/></joint></robot>""".format(
    """<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><geometry><box size=".1 .1 .02"/></geometry></collision>"""
)
FRAMED = """<mujoco><worldbody><frame pos="1 0 0" euler="0 0 90"><body name="box" pos="0 0 .5"><geom type="box" size=".1 .1 .1"/>
  <body name="lid" pos=".3 0 .1"><joint name="hinge" axis="0 1 0"/><geom type="box" size=".1 .1 .01"/></body></body></frame>
  </worldbody></mujoco>"""


@pytest.mark.parametrize(("text", "moved"), [(URDF, False), (FRAMED, False), (FRAMED, True)])
def test_a_written_scene_stands_where_it_stood(text: str, moved: bool) -> None:
    """Links that a URDF fuses and frames of an MJCF keep their poses, or go where the furniture was found."""
    before = mujoco.MjModel.from_xml_string(text)
    base = next(b for b in range(1, before.nbody) if before.body_parentid[b] == 0)
    shift = np.array([0.1, -0.2, 0.3]) if moved else np.zeros(3)
    X_WF = np.eye(4)
    X_WF[:3, :3] = Rotation.from_quat(before.body_quat[base], scalar_first=True).as_matrix()
    X_WF[:3, 3] = before.body_pos[base] + shift
    axis, point, none = np.array([0.0, 0.6, 0.8]), np.array([0.0, 0.0, 0.01]), np.zeros(3)
    found = JointEstimate(
        "lid", "hinge", np.array([0.5]), np.zeros(1), axis, point, none, none, 0.0, 0.0, np.eye(1), X_WF, 0.0, base_free=moved
    )
    after = mujoco.MjModel.from_xml_string(write_joint(text, found))
    places = []
    for model in (before, after):
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        places.append((data.geom_xpos.copy(), data.geom_xmat.copy()))
    assert np.allclose(places[1][0], places[0][0] + shift, atol=1e-6) and np.allclose(places[1][1], places[0][1], atol=1e-6)
    assert np.allclose(after.jnt_axis[0], axis) and np.allclose(after.jnt_pos[0], point)


@pytest.mark.parametrize(("text", "body", "joint"), [(CABINET, "drawer", "drawer_slide"), (CHEST, "lid", "lid_hinge")])
def test_motion_is_mujocos(text: str, body: str, joint: str) -> None:
    text = changed(text, joint, (0.6, -0.48, 0.64), (0.02, 0.01, -0.03))
    mj = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(mj)
    data.joint(joint).qpos[0] = 0.23
    mujoco.mj_kinematics(mj, data)
    model = Model.of(text, body)
    own = joint_of(model.scene, model.params, body)
    assert own is not None
    X_WB = model.X_WL[model.links[0]].double() @ own.motion(torch.tensor([0.23]).double(), torch.zeros(own.size).double())[0]
    assert np.allclose(X_WB[:3, 3], data.body(body).xpos, atol=1e-6)
    assert np.allclose(X_WB[:3, :3], data.body(body).xmat.reshape(3, 3), atol=1e-6)


def test_gradients_through_the_renderer_are_those_of_differences(lid) -> None:
    looks, states = lid
    model = Model.of(CHEST, "lid")
    joint = joint_of(model.scene, model.params, "lid")
    assert joint is not None
    problem = JointProblem(model, Looks(looks, "lid", (0, 1, 2), 48), joint, cap=0.1, color=0.0)
    x = torch.tensor([*(states + 0.05), 0.02, -0.02, 0.004, 0.003], dtype=torch.float64, requires_grad=True)
    r = problem.residuals(x[None])[0] / problem.looks.pixels[:, None].sqrt()
    (gradient,) = torch.autograd.grad(0.5 * r.square().sum(), x)
    at = x.detach().numpy()
    differences = problem.jacobian(at, np.ones(len(at), bool)).T @ problem.vector(at)
    share = np.linalg.norm(gradient.numpy() - differences) / np.linalg.norm(differences)
    assert share < 0.1, f"the gradient misses differences by {share:.0%}"


def test_what_cannot_be_done_is_said(drawer) -> None:
    looks, _ = drawer
    with pytest.raises(UnknownNameError, match="drawer"):
        fit_articulation(CABINET, "drawr", looks)
    with pytest.raises(SceneError, match="the world itself"):
        fit_articulation(CABINET, "world", looks)
    with pytest.raises(UnknownNameError, match="lid_hinge"):
        fit_articulation(CHEST, "chest", looks, others={"lid_hing": 0.1})
    with pytest.raises(SamrlError, match="without a gap"):
        fit_articulation(CABINET, "drawer", looks, opening=(0, 2, 2))
    with pytest.raises(SamrlError, match="kinds are slide, hinge"):
        fit_articulation(CABINET, "drawer", looks, kinds=("screw",))
    with pytest.raises(SamrlError, match="no such joint"):
        fit_articulation(changed(CABINET, "drawer_slide", None), "drawer", looks, free_axis=False)
    with pytest.raises(SceneError, match="more than one"):
        fit_articulation(CABINET.replace("<joint name", '<joint type="slide" axis="0 1 0"/><joint name'), "drawer", looks)
    empty = replace(looks[0], masks={"drawer": np.zeros_like(looks[0].masks["drawer"])})
    with pytest.raises(ImageError, match="Leave that look out"):
        fit_articulation(CABINET, "drawer", [empty])


def test_likely_joints_are_those_of_the_box() -> None:
    model = Model.of(changed(CHEST, "lid_hinge", None), "lid")
    assert joint_of(model.scene, model.params, "lid") is None
    hinges = likely_joints(model.scene, model.params, "lid", "hinge")
    assert len(hinges) == 12 and len(likely_joints(model.scene, model.params, "lid", "slide")) == 3
    back = [j for j in hinges if abs(j.axis[1]) == 1 and abs(j.point[0] + 0.122) < 1e-6 and abs(j.point[2] + 0.008) < 1e-6]
    assert len(back) == 1


def test_from_files_to_a_scene(lid, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    looks, states = lid
    write_looks(tmp_path / "looks", looks, "lid")
    scene = tmp_path / "chest.xml"
    scene.write_text(changed(CHEST, "lid_hinge", (0.0, -1.0, 0.0)))
    out = tmp_path / "found.xml"
    assert cli.main(f"articulate {scene} {tmp_path / 'looks'} --body lid --known --out {out}".split()) == 0
    last = capsys.readouterr().out.splitlines()[2]
    assert last.startswith("frame-000002: ") and float(last.split()[1]) == pytest.approx(math.degrees(states[2]), abs=0.7)
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["kind"] == "hinge" and np.abs(np.degrees(record["state"] - states)).max() < 0.7
    assert mujoco.MjModel.from_xml_string(out.read_text()).joint("lid_hinge").range[1] == pytest.approx(1.9)
    (tmp_path / "looks" / "frame-000001.lid.png").unlink()
    assert cli.main(f"articulate {scene} {tmp_path / 'looks'} --body lid --out {out}".split()) == 1
    assert "frame-000001.lid.png is not there" in capsys.readouterr().err


def test_other_joints_are_where_they_are_said_to_be() -> None:
    model = Model.of(CHEST, "chest", {"lid_hinge": 0.5})
    X_WB = model.X_WL[model.scene.link("lid")]
    assert float(X_WB[2, 0]) == pytest.approx(math.sin(0.5), abs=1e-5)  # R_WB x, upwards
