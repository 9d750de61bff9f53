"""Scenes from MJCF and URDF: what is read, what is refused, and selections of what is free."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from samrl.core import lie
from samrl.core.errors import SamrlError, SceneError, UnknownNameError
from samrl.model.placement import link_pose
from samrl.model.scene import (
    BLOCK_WITH_HOLE,
    DISC,
    Twin,
    compile_mjcf,
)
from samrl.model.selection import Coordinate, Leaf, LogOf, MomentsOf, PoseOf, ScaleOf, Selection

BODY = '<body name="a"><joint name="j" {joint}/><geom name="g" {geom}/></body>'


def mjcf(inside: str = "", *, joint: str = 'type="hinge"', geom: str = 'size=".1"', world: str = "") -> str:
    return f"<mujoco>{inside}<worldbody>{BODY.format(joint=joint, geom=geom)}{world}</worldbody></mujoco>"


REFUSED = {
    "actuator": mjcf('<actuator><motor joint="j"/></actuator>'),
    "tendon": mjcf('<tendon><fixed><joint joint="j" coef="1"/></fixed></tendon>'),
    "equality": mjcf('<equality><joint joint1="j"/></equality>'),
    "ellipsoid": mjcf(geom='type="ellipsoid" size=".1 .1 .2"'),
    "ball with a range": mjcf(joint='type="ball" range="0 .5" limited="true"'),
    "frictionloss": mjcf(joint='type="hinge" frictionloss=".1"'),
    "density": mjcf('<option density="1.2"/>'),
    "mocap": mjcf(world='<body mocap="true"><geom size=".1"/></body>'),
    "hfield": mjcf(
        '<asset><hfield name="h" nrow="2" ncol="2" size="1 1 1 1"/></asset>',
        world='<geom type="hfield" hfield="h"/>',
    ),
    "friction": mjcf(
        '<contact><pair geom1="g" geom2="f" friction=".1 .1 .1 .1 .1"/></contact>', world='<geom name="f" size=".1"/>'
    ),
    "samrl_hole/g": mjcf('<custom><numeric name="samrl_hole/g" data=".1 .1 .01"/></custom>'),
    "samrl_contact/x": mjcf('<custom><numeric name="samrl_contact/x" data="1 2"/></custom>'),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what: str) -> None:
    with pytest.raises(SceneError, match=what):
        compile_mjcf(REFUSED[what])


def test_what_does_not_compile_is_quoted() -> None:
    with pytest.raises(SceneError, match=r"MuJoCo says.*nonsense"):
        compile_mjcf("<mujoco><worldbody><nonsense/></worldbody></mujoco>")
    with pytest.raises(SceneError, match=r"no scene file 'none\.xml'"):
        compile_mjcf(Path("none.xml"))


def test_urdf_is_read() -> None:
    urdf = """<robot name="r"><link name="base"/><link name="tip"><inertial><mass value="2"/>
      <inertia ixx=".1" iyy=".1" izz=".1" ixy="0" ixz="0" iyz="0"/></inertial></link>
      <joint name="j" type="revolute"><parent link="base"/><child link="tip"/><axis xyz="0 1 0"/><origin xyz="0 0 .3"/>
      <limit lower="-1" upper="2" effort="1" velocity="1"/></joint></robot>"""
    scene, params, _ = compile_mjcf(urdf)
    i = scene.link("tip")
    assert params.mass[i] == 2 and scene.limited[0] and scene.limit[0].tolist() == [-1, 2]
    assert torch.allclose(params.link_p[i], torch.tensor([0, 0, 0.3]))


def test_hole_and_contact_notes() -> None:
    notes = """<custom><numeric name="samrl_hole/g" data=".03 .1 .002"/>
      <numeric name="samrl_contact/g" data="2e5 1"/></custom>"""
    scene, params, _ = compile_mjcf(mjcf(notes, geom='type="box" size=".1 .1 .2"'))
    assert scene.geom_type[0] == BLOCK_WITH_HOLE
    assert torch.allclose(params.geom_size[0], torch.tensor([0.1, 0.1, 0.2, 0.03, 0.1, 0.002]))
    assert params.contact_stiffness[0] == 2e5 and params.contact_damping[0] == 1


def test_a_cylinder_with_rounded_rims() -> None:
    rim = '<custom><numeric name="samrl_rim/g" data="{}"/></custom>'
    scene, params, _ = compile_mjcf(mjcf(rim.format(".004"), geom='type="cylinder" size=".06 .005"'))
    assert scene.geom_type[0] == DISC
    assert torch.allclose(params.geom_size[0, :3], torch.tensor([0.06, 0.005, 0.004]))
    for geom, radius in (
        ('type="sphere" size=".1"', ".01"),
        ('type="box" size=".1 .1 .1"', ".2"),
        ('type="cylinder" size=".06 .005"', ".006"),
    ):
        with pytest.raises(SceneError, match="only cylinders and boxes have rims"):
            compile_mjcf(mjcf(rim.format(radius), geom=geom))


def test_springs_know_where_they_pull_to() -> None:
    scene, _, _ = compile_mjcf(mjcf(joint='type="hinge" stiffness="1" springref="20"'))
    assert scene.rest.tolist() == pytest.approx([math.radians(20)])


def test_pairs_follow_mujocos_rule() -> None:
    xml = """<mujoco><worldbody><geom name="floor" type="plane" size="1 1 1"/>
      <body name="a"><freejoint/><geom name="a" size=".1"/><body name="weld"><geom name="w" size=".1"/></body>
        <body name="b"><joint/><geom name="b" size=".1"/>
          <body name="c"><joint/><geom name="c" size=".1"/></body></body></body>
      <body name="d"><freejoint/><geom name="d" size=".1" contype="0" conaffinity="0"/></body>
      <body name="e"><freejoint/><geom name="e" size=".1"/></body></worldbody>
      <contact><exclude body1="e" body2="c"/><pair geom1="d" geom2="w"/></contact></mujoco>"""
    scene, _, _ = compile_mjcf(xml)
    named = {"".join(sorted(scene.geom_names[g][0] for g in pair)) for pair in scene.pairs}
    assert named == {"af", "fw", "bf", "cf", "ef", "ac", "cw", "ae", "ew", "be", "dw"}


def test_invisible_geoms() -> None:
    scene, _, _ = compile_mjcf(mjcf(world='<geom size=".1" group="3"/><geom size=".1" rgba="1 1 1 0"/>'))
    assert sorted(scene.geom_visible.tolist()) == [False, False, True]


def make_twin() -> tuple[Selection, Twin]:
    xml = mjcf(world='<body name="f" pos="0 0 1"><freejoint/><geom name="h" type="box" size=".1 .1 .1"/></body>')
    scene, params, state = compile_mjcf(xml, torch.float64)
    entries = [PoseOf("a"), PoseOf("f"), LogOf("mass", "f"), Leaf("color", "h"), Coordinate("j"), Leaf("damping", "j")]
    return Selection([*entries, Leaf("gravity"), LogOf("friction", 0)], scene), Twin(params, state)


def test_selection_round_trip() -> None:
    selection, twin = make_twin()
    scene, x = selection.scene, selection.pack(twin)
    assert x.shape == (6 + 6 + 1 + 3 + 1 + 1 + 3 + 1,) and (x[:12] == 0).all()
    again = selection.unpack(twin, x)
    for name, leaf in vars(twin.params).items():
        assert torch.allclose(getattr(again.params, name), leaf, atol=1e-15), name
    assert torch.allclose(again.state.q, twin.state.q)
    step = torch.linspace(-0.3, 0.4, len(x), dtype=x.dtype)
    moved = selection.unpack(twin, x + step)
    assert torch.allclose(selection.pack(moved)[12:], (x + step)[12:])
    for here, there, part in ((twin, moved, slice(0, 6)), (twin, moved, slice(6, 12))):
        link = 1 if part.start == 0 else 2
        assert torch.allclose(lie.local(link_pose(scene, here, link), link_pose(scene, there, link)), step[part])


def test_selection_of_lengths_and_moments() -> None:
    """Lengths grow along their direction, and moments make an inertia that a body can have, whatever they are."""
    inertial = '<inertial pos="0 0 -.2" mass="2" fullinertia=".03 .04 .02 .004 -.003 .002"/>'
    xml = mjcf(world=f'<body name="f" pos=".3 0 -.4">{inertial}<freejoint/><geom name="h" size=".1"/></body>')
    scene, params, state = compile_mjcf(xml, torch.float64)
    twin, f = Twin(params, state), scene.link("f")
    selection = Selection([ScaleOf("com", "f"), ScaleOf("link_p", "f"), ScaleOf("gravity"), MomentsOf("f")], scene)
    x = selection.pack(twin)
    assert torch.allclose(x[:3].exp(), torch.tensor([0.2, 0.5, 9.81], dtype=x.dtype))
    again = selection.unpack(twin, x).params
    assert torch.allclose(again.inertia, params.inertia, atol=1e-12) and torch.allclose(again.com, params.com)
    moved = selection.unpack(twin, x + torch.tensor([0.1, -0.2, 0.3, 2.0, -9.0, 1.0], dtype=x.dtype)).params
    assert torch.allclose(moved.com[f], params.com[f] * math.exp(0.1))
    assert torch.allclose(moved.link_p[f], params.link_p[f] * math.exp(-0.2))
    about = torch.linalg.eigvalsh(moved.inertia[f])
    assert (about > 0).all() and about[2] < about[0] + about[1]
    with pytest.raises(SamrlError, match="com of 'a' is zero"):
        Selection([ScaleOf("com", "a")], scene).pack(twin)


def test_selection_in_a_batch_with_gradient() -> None:
    selection, twin = make_twin()
    x = selection.pack(twin).expand(4, 5, -1).clone().requires_grad_()
    moved = selection.unpack(twin, x)
    assert moved.params.mass.shape == (4, 5, 3) and moved.state.q.shape == (4, 5, 8)
    loss = moved.params.mass.sum() + moved.state.q.sum() + moved.params.link_R.sum() + moved.params.color.sum()
    assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()


def test_selection_names_what_it_does_not_know() -> None:
    selection, twin = make_twin()
    with pytest.raises(UnknownNameError, match="did you mean 'mass'"):
        Selection([LogOf("mas")], selection.scene).pack(twin)
    with pytest.raises(SamrlError, match="needs the scene"):
        Selection([PoseOf("a")]).pack(twin)
    with pytest.raises(SamrlError, match="has 22"):
        selection.unpack(twin, torch.zeros(3))
