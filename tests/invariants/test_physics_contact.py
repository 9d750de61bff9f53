"""What contact must do: hold a body on a slope, press evenly along a rim, leave light things at rest, and stay finite."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from samrl.core import lie
from samrl.model.physics import Physics
from samrl.model.scene import Params, Scene, State, compile_mjcf

sys.path.append(str(Path(__file__).parents[1] / "gradients"))
from scenes import STILL, mjcf, peg, thread

BOX = mjcf("""<geom type="plane" size="1 1 .1" friction=".5"/>
  <body><freejoint/><geom type="box" size=".03 .03 .02" mass=".06" friction=".5"/></body>""")
HOLE = '<custom><numeric name="samrl_hole/block" data=".009 .03 .0"/></custom>'


def start(xml: str, q: list[float] | None = None) -> tuple[Scene, Params, State]:
    scene, params, state = compile_mjcf(xml, torch.float64)
    q = state.q if q is None else torch.tensor(q, dtype=torch.float64)
    return scene, params, State(q, torch.zeros(scene.nv, dtype=torch.float64))


def test_a_box_creeps_less_than_a_millimetre_a_second_on_half_the_friction_angle() -> None:
    """With `slip_speed` 1.5 mm/s, below which friction is viscous: a body creeps at half of it. With the default, 2.7 mm/s."""
    scene, params, state = start(BOX, [0, 0, 0.02, *STILL])
    angle = 0.5 * math.atan(0.5)
    params.gravity[:] = 9.81 * torch.tensor([math.sin(angle), 0.0, -math.cos(angle)])
    end = Physics(scene, slip_speed=1.5e-3).rollout(params, state, torch.zeros(10, scene.nv, dtype=torch.float64), substeps=100)
    assert 0 < float(end.q[-1, 0] - end.q[4, 0]) / 1.0 < 1e-3  # in the last second
    assert end.qd[-1, 2:].abs().max() < 1e-3


def test_a_tilted_peg_presses_evenly_as_it_sweeps_along_the_rim() -> None:
    """The peg leans into the hole and is carried once around the hole's axis; a spring presses it down."""
    scene, params, state = start(
        mjcf(
            """<body name="block"><geom name="block" type="box" size=".05 .05 .03"/></body>
            <body><joint axis="0 0 1" stiffness="50" damping="5" armature=".01"/>
            <inertial pos="0 0 0" mass=".1" diaginertia="1e-4 1e-4 1e-4"/>
            <body pos=".004 0 .0695" euler="0 .15 0"><joint type="slide" axis="0 0 1" stiffness="800" damping="40"/>
            <geom type="cylinder" size=".008 .04" mass=".06" friction=".2"/></body></body>""",
            more=HOLE,
        )
    )
    physics, turn = Physics(scene), torch.linspace(0, 2 * math.pi, 400, dtype=torch.float64)
    points = torch.stack([turn, torch.full_like(turn, -0.01)], 1)
    end = physics.rollout(params, state, points, substeps=10)  # once around in eight seconds
    force = 800 * (end.q[50:, 1] + 0.01)
    assert float(end.q[-1, 0]) > 6.0 and float(force.min()) > 1.0, "it went around, and was pressed all the way"
    assert float(force.max() - force.min()) < 0.05 * float(force.mean())


def test_segments_of_a_thread_lie_still() -> None:
    """Of 39 mg each, on a table."""
    lying = (
        thread(12).split("<worldbody>")[1].split("</worldbody>")[0].replace('pos="0 0 .35"', 'pos="0 0 .004" euler="0 1.5708 0"')
    )
    scene, params, state = start(mjcf(lying + '<geom type="plane" size="1 1 .1"/>', timestep=0.002))
    physics, still = Physics(scene), torch.zeros(30, scene.nv, dtype=torch.float64)
    end = physics.rollout(params, state, still, substeps=50)
    X = physics.link_poses(params, end.q[-2:])
    assert float((X[1] - X[0])[1:, :3, 3].norm(dim=-1).max()) / 0.1 < 1e-3
    assert end.qd[-1].isfinite().all()


STACK = mjcf(
    '<geom type="plane" size="1 1 .1"/>'
    + "".join(f'<body><freejoint/><geom type="box" size=".03 .03 .0{2 + i}" mass=".{3 - i}"/></body>' for i in range(2))
)
WEDGE = mjcf("""<geom type="box" size=".1 .1 .01" pos=".066 0 .07" euler="0 -.6 0"/>
  <geom type="box" size=".1 .1 .01" pos="-.066 0 .07" euler="0 .6 0"/>
  <body><freejoint/><geom type="cylinder" size=".02 .03" mass=".1"/></body>""")


@pytest.mark.parametrize(
    ("xml", "q", "setpoints"),
    [
        (STACK, [0, 0, 0.02, *STILL, 0.005, 0, 0.0701, *STILL], {}),
        (WEDGE, [0.003, 0, 0.16, math.sqrt(0.5), math.sqrt(0.5), 0, 0], {}),
        (peg(0.001, 0.05, chamfer=0), None, {0: 0.004, 2: -0.03, 4: 0.4}),  # turned and pushed, as far as springs can
    ],
    ids=["stack", "wedge", "jammed peg"],
)
def test_ten_seconds_stay_finite(xml: str, q: list[float] | None, setpoints: dict[int, float]) -> None:
    scene, params, state = start(xml, q)
    points = torch.zeros(50, scene.nv, dtype=torch.float64)
    for k, value in setpoints.items():
        points[:, k] = value
    end = Physics(scene).rollout(params, state, points, substeps=100)  # 2 ms a step
    assert end.q.isfinite().all() and end.q[:, :3].abs().max() < 1.0, "it stays where it is"
    assert end.qd[-1].abs().max() < 0.05


@pytest.mark.parametrize("degrees", (20, 45, 70))
def test_a_rounded_rim_is_where_it_should_be_and_pushes_along_its_normal(degrees: float) -> None:
    """A ball at the rim of a disc, whose rounding has a radius of 4 mm: free a tenth of a millimetre outside, pushed straight
    away from the rounding's circle a tenth inside."""
    disc = """<geom name="disc" type="cylinder" size=".05 .006"/>
      <body><freejoint/><geom type="sphere" size=".003" mass=".01" friction="0"/></body>"""
    xml = mjcf(disc, more='<custom><numeric name="samrl_rim/disc" data=".004"/></custom>')
    n = torch.tensor([math.cos(math.radians(degrees)), 0.0, math.sin(math.radians(degrees))], dtype=torch.float64)
    for gap in (1e-4, -1e-4):
        p = torch.tensor([0.046, 0.0, 0.002], dtype=torch.float64) + (0.004 + 0.003 + gap) * n
        scene, params, state = start(xml, [*p.tolist(), *STILL])
        params.gravity[:] = 0.0
        push = Physics(scene).accelerations(params, state)[:3]
        if gap > 0:
            assert not push.any()
        else:
            assert torch.allclose(push / push.norm(), n, atol=1e-6) and float(push.norm()) > 10


def test_a_rounded_box_rolls_over_its_edge_as_round_as_it_is() -> None:
    """A box with rounded edges on a plane touches it where balls in its corners do."""
    xml = """<mujoco><option timestep="1e-3"/><worldbody><geom name="p" type="plane" size="1 1 .1"/><body name="b" pos="0 0 .3">
      <freejoint/><inertial pos="0 0 0" mass=".3" diaginertia="5e-4 5e-4 5e-4"/>{geoms}</body></worldbody>
      <custom>{notes}</custom></mujoco>"""
    corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    balls = "".join(f'<geom type="sphere" size=".008" pos="{x * 0.042} {y * 0.042} {z * 0.042}"/>' for x, y, z in corners)
    box = '<geom name="b" type="box" size=".05 .05 .05"/>'
    note = '<numeric name="samrl_rim/b" data=".008"/>'
    ends = []
    for text in (xml.format(geoms=balls, notes=""), xml.format(geoms=box, notes=note), xml.format(geoms=box, notes="")):
        scene, params, _ = compile_mjcf(text, torch.float64)
        q = torch.tensor([0, 0, 0.09, *lie.quat_from_matrix(lie.exp_so3(torch.tensor([0.5, 0.4, 0.1])))], dtype=torch.float64)
        qd = torch.tensor([0.3, 0.1, -0.5, 1.0, 2.0, 0.0], dtype=torch.float64)
        physics = Physics(scene)
        ends.append(physics.step(params, State(q, qd), torch.zeros(6, dtype=torch.float64), substeps=150).q)
    rounded = (ends[0] - ends[1]).abs().max()
    assert rounded < 1e-6 < 1e-3 < (ends[1] - ends[2]).abs().max()
