"""Physics gradients, scene by scene and leaf by leaf, against swept finite differences in float64."""

from __future__ import annotations

import math

import pytest
import torch

from samrl.model.gradcheck import check
from samrl.model.physics import Physics
from samrl.model.scene import Params, Scene, State, compile_mjcf

BODY = ("mass", "com", "inertia", "link_p", "link_R", "joint_p", "gravity")
JOINT = ("stiffness", "damping", "armature")
CONTACT = ("friction", "geom_size", "geom_p", "geom_R", "contact_stiffness", "contact_damping")

PENDULUM = """<mujoco><option timestep=".005"/><worldbody><body><joint axis="0 1 0" damping=".01"/>
  <geom type="capsule" fromto="0 0 0 .5 0 0" size=".02"/><body pos=".5 0 0"><joint axis="0 1 0" pos=".01 0 .02"/>
  <geom type="capsule" fromto="0 0 0 .5 0 0" size=".02"/></body></body></worldbody>
  <option><flag contact="disable"/></option></mujoco>"""

TREE = """<mujoco><option timestep=".002"><flag contact="disable"/></option><worldbody>
  <body pos="0 0 1" gravcomp=".3"><freejoint/><geom type="cylinder" size=".1 .01" density="500" pos=".01 .02 0"/>
    <body pos=".1 0 0"><joint type="ball" pos="-.01 0 .02" stiffness=".5" damping=".01"/>
      <geom type="box" size=".05 .02 .01" pos=".05 0 0"/>
      <body pos=".1 0 0" euler="20 30 10"><joint type="slide" axis="1 1 0" range="-.01 .01" limited="true"/>
        <joint axis="0 0 1" pos=".01 .02 0" stiffness=".3" damping=".01" armature=".001"/>
        <geom type="box" size=".05 .02 .03" pos=".05 .02 0"/></body></body></body></worldbody></mujoco>"""

SLIDING_BOX = """<mujoco><option timestep=".002"/><worldbody><geom type="plane" size="1 1 .1" friction=".4"/>
  <body><freejoint/><geom type="box" size=".05 .04 .02" mass=".2" friction=".4"/></body></worldbody></mujoco>"""

TWO_DISCS = """<mujoco><option timestep=".002"/><worldbody><geom type="plane" size="1 1 .1"/>
  <body><freejoint/><geom type="cylinder" size=".05 .01" mass=".2"/></body>
  <body><freejoint/><geom type="capsule" size=".01 .03" mass=".1"/></body></worldbody></mujoco>"""

LIFTED = """<mujoco><option timestep=".002"/><worldbody><body><joint type="slide" axis="0 0 1" stiffness="800" damping="20"/>
  <joint axis="0 1 0" stiffness="20" damping=".5"/><geom type="box" size=".06 .05 .004" mass=".3" friction=".6"/></body>
  <body><freejoint/><geom type="cylinder" size=".04 .004" mass=".06" friction=".6"/></body>
  <body><freejoint/><geom type="sphere" size=".01" mass=".01"/></body></worldbody></mujoco>"""

PEG = """<mujoco><compiler angle="radian"/><option timestep=".002"/>
  <custom><numeric name="samrl_hole/block" data=".00825 .04 {chamfer}"/></custom><worldbody>
  <body name="block" pos=".001 .0005 0" euler=".02 -.03 .1"><geom name="block" type="box" size=".05 .05 .03"/></body>
  <body name="peg" pos="{x} 0 {z}"><joint type="slide" axis="1 0 0" stiffness="500" damping="5"/>
    <joint type="slide" axis="0 1 0" stiffness="500" damping="5"/>
    <joint type="slide" axis="0 0 1" stiffness="500" damping="5"/>
    <joint type="ball" stiffness="5" damping=".05"/><geom name="peg" type="cylinder" size=".008 .04" mass=".06"/>
  </body></worldbody></mujoco>"""


def arm(joints: int = 7, tip: str = "") -> str:
    """A chain of hinges under impedance, its links off the joints' axes."""
    text = ""
    for i in range(joints):
        text += f"""<body pos=".1 .01 .02" euler="{10 * i} 20 -15" gravcomp="1">
          <joint axis="{i % 2} {(i + 1) % 2} 1" pos=".01 .02 0"
          stiffness="60" damping="4" armature=".1"/><geom type="box" size=".05 .03 .02" pos=".05 0 0"/>"""
    world = f"<worldbody>{text}{tip}{'</body>' * joints}</worldbody>"
    return f'<mujoco><option timestep=".002"><flag contact="disable"/></option>{world}</mujoco>'


def pulled(nv: int, periods: int, **targets: float) -> torch.Tensor:
    """Set-points (periods, nv), zero but for d0=..., d1=..."""
    ref = torch.zeros(periods, nv, dtype=torch.float64)
    for name, value in targets.items():
        ref[:, int(name[1:])] = value
    return ref


def start(scene: Scene, q: list[float] | None, qd: list[float] | None) -> State:
    """Unit-quaternion start state."""
    state = torch.tensor(scene.q_ref if q is None else q, dtype=torch.float64)
    return State(state, torch.tensor([0.0] * scene.nv if qd is None else qd, dtype=torch.float64))


def report(xml: str, leaves: tuple[str, ...], *, periods: int = 8, substeps: int = 5, q=None, qd=None, **targets: float):
    """Gradients of a random linear function of a rollout."""
    scene, params, _ = compile_mjcf(xml, torch.float64)
    physics, state = Physics(scene), start(scene, q, qd)
    generator = torch.Generator().manual_seed(0)
    w, wd = (torch.randn(periods, n, generator=generator, dtype=torch.float64) for n in (scene.nq, scene.nv))
    ref = pulled(scene.nv, periods, **targets)

    def loss(q, qd, setpoints, torques, **given) -> torch.Tensor:
        end = physics.rollout(Params.replace(params, **given), State(q, qd), setpoints, torques, substeps)
        return (end.q * w).sum() + 0.1 * (end.qd * wd).sum()

    inputs = {"q": state.q, "qd": state.qd, "setpoints": ref, "torques": torch.zeros_like(ref)}
    inputs |= {name: getattr(params, name) for name in leaves if getattr(params, name).numel()}
    return check(loss, inputs, eps=(1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8), entries=6)


HALF = math.sqrt(0.5)
CASES = {
    "pendulum": (PENDULUM, BODY + JOINT, {"q": [0.4, 0.3], "periods": 10, "substeps": 20}),
    "arm under impedance": (arm(), BODY + JOINT, {"qd": [0.3, -0.2, 0.5, 0.1, 0.4, -0.3, 0.2], "d1": 0.4, "d3": -0.3}),
    "floating tree": (
        TREE,
        BODY + JOINT,
        {"q": [0, 0, 1, 0.8, 0, 0.6, 0, HALF, 0.5, -0.5, 0, 0.005, 0.2], "qd": [0.5 * (-1) ** i for i in range(11)]},
    ),
    "box slides on plane": (
        SLIDING_BOX,
        BODY + CONTACT,
        {"q": [0, 0, 0.0201, 1, 0, 0, 0], "qd": [0.4, 0.2, -0.05, 0.1, 0.2, 0.5]},
    ),
    "two moving bodies": (
        TWO_DISCS,
        BODY + CONTACT,
        {"q": [0, 0, 0.01, 1, 0, 0, 0, 0.01, 0, 0.0301, HALF, 0, HALF, 0], "qd": [0.0] * 6 + [0.1, 0.2, -0.1, 0, 0.5, 0]},
    ),
    "disc and ball on a moving plate": (
        LIFTED,
        BODY + JOINT + CONTACT,
        {
            "q": [0, 0, 0, 0, 0.00802, 1, 0, 0, 0, 0.01, 0, 0.02203, 1, 0, 0, 0],
            "qd": [0.1, 0.2] + [0.05] * 12,
            "d0": 0.02,
            "d1": 0.1,
            "periods": 4,
        },
    ),
    "peg on chamfer": (PEG.format(x=0.003, z=0.0705, chamfer=0.003), BODY + JOINT + CONTACT, {"d0": 0.003, "d2": -0.01}),
    "peg in hole": (PEG.format(x=0.001, z=0.05, chamfer=0.003), BODY + JOINT + CONTACT, {"d0": 0.003, "d3": 0.05}),
    "peg in plain hole": (PEG.format(x=0.001, z=0.05, chamfer=0), BODY + CONTACT, {"d1": 0.004, "d4": -0.05}),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_finite_difference(name: str) -> None:
    xml, leaves, options = CASES[name]
    result = report(xml, leaves, **options)
    assert result.worst < 1e-4, f"{name}: worst {100 * result.worst:.3g} %\n{result}"
    assert all(row.scale > 0 for row in result.rows if row.name in ("q", "torques", "mass")), str(result)


def test_link_poses() -> None:
    scene, params, _ = compile_mjcf(TREE, torch.float64)
    physics, weight = Physics(scene), torch.randn(len(scene.link_names), 4, 4, dtype=torch.float64)

    def loss(q, **given) -> torch.Tensor:
        return (physics.link_poses(params.replace(**given), q) * weight).sum()

    inputs = {"q": start(scene, CASES["floating tree"][2]["q"], None).q}
    inputs |= {name: getattr(params, name) for name in ("link_p", "link_R", "joint_p")}
    result = check(loss, inputs)
    assert result.worst < 1e-6, str(result)


def test_sweep_finds_a_wrong_gradient() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2.01

    result = check(lambda x: Wrong.apply(x).sum(), {"x": torch.ones(3, dtype=torch.float64)})
    assert result.worst == pytest.approx(0.01 / 2.01, rel=1e-3)
