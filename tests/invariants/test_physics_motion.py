"""What must hold of motion, whatever the numbers: energy, rest, batches, and gradients that are never mixed up."""

from __future__ import annotations

import math
import threading

import pytest
import torch

from samrl.core.errors import NonFiniteError, SamrlError
from samrl.model.physics import Physics
from samrl.model.scene import Params, State, compile_mjcf

PENDULUM = """<mujoco><option timestep=".0005"/><worldbody><body><joint axis="0 1 0"/>
  <geom type="sphere" size=".05" pos=".5 0 0" mass="2"/></body></worldbody></mujoco>"""
DROP = """<mujoco><option timestep="{h}"/><worldbody><geom type="plane" size="1 1 .1"/>
  <body><freejoint/><geom type="{kind}" size="{size}" mass=".06"/></body></worldbody></mujoco>"""
PUSHED = """<mujoco><option timestep=".002"/><worldbody><geom type="plane" size="1 1 .1" friction=".5"/><body><freejoint/>
  <geom type="box" size=".03 .03 .02" mass=".06" friction=".5"/></body></worldbody></mujoco>"""
SLIDER = """<mujoco><option timestep="{h}"/><worldbody>GROUND
  <body><freejoint/><geom type="box" size=".03 .03 .004" mass=".06" friction=".4"/></body></worldbody></mujoco>"""
GROUND = SLIDER.replace("GROUND", '<geom type="plane" size="1 1 .1" friction=".4"/>')
HELD = SLIDER.replace(
    "GROUND",
    """<body><joint type="slide" axis="0 0 1" stiffness="1e5" damping="1e3" armature="1"/>
    <geom type="box" size="1 1 .01" pos="0 0 -.01" mass="1" friction=".4"/></body>""",
)
ON_TOP = """<mujoco><option timestep=".002"/><worldbody><geom type="plane" size="1 1 .1"/>
  <body><freejoint/><geom type="box" size=".05 .05 .02" mass=".1"/></body>
  <body><freejoint/><geom type="cylinder" size=".04 .004" mass=".06"/></body></worldbody></mujoco>"""
CUBE = """<mujoco><option timestep="{h}"/><worldbody><geom type="plane" size="1 1 .1" friction="{friction}"/><body><freejoint/>
  <geom type="box" size=".05 .05 .05" mass=".4" friction="{friction}"/></body></worldbody></mujoco>"""
LEANING = """<mujoco><option timestep="{h}"/><worldbody><geom type="plane" size="1 1 .1" friction=".5"/>
  <geom type="plane" size="1 1 .1" euler="0 90 0" friction=".5"/>
  <body><freejoint/><geom type="capsule" size=".01 .2" mass=".3" friction=".5"/></body></worldbody></mujoco>"""
STACK = """<mujoco><option timestep="{h}"/><worldbody><geom type="plane" size="1 1 .1" friction=".3"/>
  <body><freejoint/><geom type="box" size=".05 .05 .02" mass=".1" friction=".3"/></body>
  <body><freejoint/><geom type="box" size=".05 .05 .02" mass=".2" friction=".9"/></body></worldbody></mujoco>"""
IN_HOLE = """<mujoco><option timestep=".002"/><custom><numeric name="samrl_hole/b" data=".00825 .04 {chamfer}"/></custom>
  <worldbody><geom name="b" type="box" size=".05 .05 .03"/><body pos="0 0 {z}"><joint type="slide" axis="1 0 0"/>
  <joint type="slide" axis="0 0 1"/><geom type="cylinder" size=".008 .04" mass=".06"/></body></worldbody></mujoco>"""
ARM = """<mujoco><option timestep=".002"/><worldbody><geom type="plane" size="1 1 .1"/>
  <body pos="0 0 .3"><joint axis="0 1 0" stiffness="50" damping="2" armature=".1"/>
    <geom type="box" size=".1 .02 .02" pos=".1 0 0"/>
    <body pos=".2 0 0"><joint axis="0 1 0" stiffness="50" damping="2" armature=".1" range="-1 .5" limited="true"/>
      <geom type="capsule" size=".02 .1" pos=".1 0 0"/></body></body></worldbody></mujoco>"""
STILL = (1, 0, 0, 0)


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(*shape, dtype=dtype)


def roll(xml: str, q: list[float], qd: list[float] | None = None, periods: int = 100, substeps: int = 5, gravity: bool = True):
    """A rollout from q in float32 with all set-points zero."""
    scene, params, _ = compile_mjcf(xml)
    params = params if gravity else params.replace(gravity=zeros(3))
    state = State(torch.tensor(q), zeros(scene.nv) if qd is None else torch.tensor(qd))
    return Physics(scene).rollout(params, state, zeros(periods, scene.nv), substeps=substeps)


def test_pendulum_keeps_its_energy() -> None:
    scene, params, _ = compile_mjcf(PENDULUM, torch.float64)
    start = State(zeros(1, dtype=torch.float64), zeros(1, dtype=torch.float64))
    end = Physics(scene).rollout(params, start, zeros(400, 1, dtype=torch.float64), substeps=10)  # 2 s
    inertia = params.inertia[1, 1, 1] + 2 * 0.5**2
    energy = 0.5 * inertia * end.qd[:, 0] ** 2 - 2 * 9.81 * 0.5 * end.q[:, 0].sin()
    swing = 2 * 9.81 * 0.5
    assert end.q.max() > 3.0, "it should swing to the other side"
    assert (energy.abs().max() / swing) < 5e-3


@pytest.mark.parametrize("stiffness", [500.0, 5e4])
def test_impact_keeps_momentum(stiffness: float) -> None:
    """Of a disc that hits a box, tilted, with friction, both floating."""
    scene, params, _ = compile_mjcf(ON_TOP, torch.float64)
    params = params.replace(gravity=0 * params.gravity, contact_stiffness=0 * params.contact_stiffness + stiffness)
    q = torch.tensor([0, 0, 1, 1, 0, 0, 0, 0.01, 0, 1.03, 0.99, 0, 0.1, 0.1], dtype=torch.float64)
    qd = torch.tensor([0.0] * 6 + [0.3, 0, -0.5, 1, 0, 2], dtype=torch.float64)
    end = Physics(scene).step(params, State(q, qd), 0 * qd, substeps=100)
    mass = torch.tensor([[0.1], [0.06]], dtype=torch.float64)
    before, after = ((mass * v.reshape(2, 2, 3)[:, 0]).sum(0) for v in (qd, end.qd))
    assert end.qd[:6].abs().max() > 0.1, "they should have met"
    assert torch.allclose(before, after, rtol=0, atol=1e-12)


@pytest.mark.parametrize("h", [0.001, 0.002, 0.005])
@pytest.mark.parametrize(
    ("kind", "size", "half"), [("box", ".03 .03 .02", 0.02), ("cylinder", ".03 .02", 0.02), ("sphere", ".02", 0.02)]
)
def test_comes_to_rest_on_the_surface(kind: str, size: str, half: float, h: float) -> None:
    end = roll(DROP.format(h=h, kind=kind, size=size), [0, 0, half + 0.005, 1, 0, 0, 0], periods=50, substeps=round(0.02 / h))
    # a step in which a body falls further than the contact is wide (h² g > 50 µm) leaves a flutter of that size
    speed, depth = (0.1, 5e-4) if h > 0.002 else (1e-3, 5e-5)
    assert end.qd[-1].abs().max() < speed
    assert abs(float(end.q[-1, 2]) - half) < depth


def test_stack_of_two_moving_bodies_rests() -> None:
    end = roll(ON_TOP, [0, 0, 0.02, 1, 0, 0, 0, 0, 0, 0.05, 1, 0.03, 0.02, 0], periods=200)
    assert end.qd[-1].abs().max() < 1e-3
    assert abs(float(end.q[-1, 9]) - 0.044) < 1e-4


def test_friction_stops_a_sliding_box_as_coulomb_says() -> None:
    end = roll(PUSHED, [0, 0, 0.02002, 1, 0, 0, 0], [0.5, 0, 0, 0, 0, 0], periods=100, substeps=2)
    expected = 0.5**2 / (2 * 0.5 * 9.81)
    assert float(end.q[-1, 0]) == pytest.approx(expected, rel=0.02)
    assert abs(float(end.qd[-1, 0])) < 1e-3


@pytest.mark.parametrize(("degrees", "speed"), [(23.0, 0.0), (28.6, 0.0), (40.0, 0.0), (28.6, 0.5)])
@pytest.mark.parametrize(("held", "h"), [(False, 0.005), (True, 0.002)])
def test_friction_lets_a_box_slide_down_as_coulomb_says(held: bool, h: float, degrees: float, speed: float) -> None:
    """On the ground, or on a plate that a spring holds, in .3 s: also from rest, where a step ends with a multiple of the speed
    that it begins with."""
    scene, params, _ = compile_mjcf((HELD if held else GROUND).format(h=h), torch.float64)
    angle = math.radians(degrees)
    params = params.replace(gravity=9.81 * torch.tensor([math.sin(angle), 0.0, -math.cos(angle)], dtype=torch.float64))
    q, qd = torch.tensor(scene.q_ref), torch.zeros(scene.nv, dtype=torch.float64)
    at = 1 if held else 0
    q[at + 2], qd[at] = 0.004, speed
    end = Physics(scene, slip_speed=1e-3).step(params, State(q, qd), 0 * qd, substeps=round(0.3 / h))
    expected = speed * 0.3 + 0.5 * 9.81 * (math.sin(angle) - 0.4 * math.cos(angle)) * 0.3**2
    assert float(end.q[at]) == pytest.approx(expected, rel=0.02, abs=2e-3)


def thrown(h: float, friction: float, turn: tuple[float, ...], speed: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Velocity (3) of a cube that is thrown on the ground at `speed`, and what the ground has given to it, until it has left."""
    scene, params, _ = compile_mjcf(CUBE.format(h=h, friction=friction), torch.float64)
    one = torch.ones_like(params.contact_stiffness)
    params = params.replace(contact_stiffness=5e4 * one, contact_damping=2.4 * one)
    w, x, y, z = (a / math.hypot(*turn) for a in turn)
    up = abs(2 * (x * z - w * y)) + abs(2 * (y * z + w * x)) + abs(1 - 2 * (x * x + y * y))
    q, qd = (torch.tensor(a, dtype=torch.float64) for a in ((0, 0, 0.05 * up + 0.002, w, x, y, z), speed))
    time = 0.0096
    end = Physics(scene).step(params, State(q, qd), 0 * qd, substeps=round(time / h)).qd
    return end[:3], (end - qd)[:3] - time * params.gravity


@pytest.mark.parametrize("friction", [0.2, 0.5])
@pytest.mark.parametrize("turn", [(0.95, 0.1, 0.05, 0.3), (0.9, 0.3, -0.2, 0.25), (0.85, -0.3, 0.35, 0.1)])
def test_an_impact_has_its_own_friction_at_any_step(turn: tuple[float, ...], friction: float) -> None:
    speed = (2.0, 0.0, -0.9, 3.0, -4.0, 2.0)
    (coarse, given), (fine, also) = (thrown(h, friction, turn, speed) for h in (8e-4, 2e-4))
    for push in (given, also):
        assert push[:2].norm() <= 1.01 * friction * push[2], "friction is within its cone"
    assert (coarse[:2] - fine[:2]).norm() < 0.03 * fine[:2].norm()


@pytest.mark.parametrize("h", [0.0005, 0.002])
def test_a_rod_leans_on_a_wall(h: float) -> None:
    """Where friction is what presses it on, so that no normal force would be right without it."""
    slope = math.radians(65.0)
    turn = (slope - math.pi / 2) / 2
    place = [0.01 + 0.2 * math.cos(slope), 0.0, 0.01 + 0.2 * math.sin(slope)]
    end = roll(LEANING.format(h=h), [*place, math.cos(turn), 0.0, math.sin(turn), 0.0], substeps=round(0.01 / h))
    assert abs(float(end.q[-1, 0]) - place[0]) < 1.5e-3, "it creeps for a second"


@pytest.mark.parametrize("h", [0.0005, 0.002])
def test_a_stack_slides_as_one(h: float) -> None:
    """The lower box feels the weight of both."""
    end = roll(STACK.format(h=h), [0, 0, 0.02, *STILL, 0, 0, 0.06, *STILL], [0.5, 0, 0, 0, 0, 0] * 2, substeps=round(0.01 / h))
    expected = 0.5**2 / (2 * 0.3 * 9.81)
    assert end.q[-1, [0, 7]].tolist() == pytest.approx([expected] * 2, rel=0.06)


@pytest.mark.parametrize("chamfer", [0.0, 0.003])
def test_hole_is_free_space_down_to_its_depth(chamfer: float) -> None:
    centred = roll(IN_HOLE.format(chamfer=chamfer, z=0.06), [0.0, 0.0], periods=1, substeps=1)
    assert float(centred.qd[0, 1]) == pytest.approx(-9.81 * 0.002, rel=1e-4), "nothing may hold a centred peg"
    assert float(centred.qd[0, 0]) == 0.0
    fallen = roll(IN_HOLE.format(chamfer=chamfer, z=0.06), [0.0, 0.0], periods=100)
    assert float(fallen.q[-1, 1]) == pytest.approx(-0.03, abs=1e-4)  # tip from .02 to the floor at -.01
    beside = roll(IN_HOLE.format(chamfer=chamfer, z=0.075), [0.012, 0.0], periods=50)
    assert 0.06 < 0.075 + float(beside.q[-1, 1]) < 0.0701, "a peg beside the hole stays on the top or the chamfer"


def test_chamfer_guides_the_peg_in() -> None:
    def depth(chamfer: float) -> float:
        return float(roll(IN_HOLE.format(chamfer=chamfer, z=0.0705), [0.0015, 0.0], periods=200).q[-1, 1])

    assert depth(0.003) < -0.03
    assert depth(0.0) > -0.002


def test_joint_limit_holds() -> None:
    end = roll(ARM, [0.0, 0.6], periods=100)
    assert float(end.q[-1, 1]) < 0.5 + 1e-2


def test_batch_equals_single() -> None:
    scene, params, _ = compile_mjcf(ARM, torch.float64)
    physics = Physics(scene, threads=2)
    q = torch.randn(6, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ref = torch.randn(20, 6, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    both = physics.rollout(params, State(q, 0 * q), ref, substeps=10)
    for i, j in ((0, 0), (5, 2), (3, 1)):
        one = physics.rollout(params, State(q[i, j], 0 * q[i, j]), ref[:, i, j], substeps=10)
        assert torch.equal(both.q[:, i, j], one.q) and torch.equal(both.qd[:, i, j], one.qd)


def test_shared_parameters_sum_the_gradients_of_each() -> None:
    scene, params, _ = compile_mjcf(ARM, torch.float64)
    physics = Physics(scene)
    q = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mul(0.3)

    def gradient(mass: torch.Tensor) -> torch.Tensor:
        end = physics.rollout(params.replace(mass=mass), State(q, 0 * q), zeros(5, 2, dtype=q.dtype), substeps=10)
        return torch.autograd.grad((end.q**2).sum(), mass)[0]

    shared = gradient(params.mass.clone().requires_grad_())
    each = gradient(params.mass.expand(40, -1).clone().requires_grad_())
    assert each.shape == (40, 3) and torch.allclose(shared, each.sum(0), rtol=1e-12, atol=0)


def losses(physics: Physics, params: Params, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Outstanding losses of rollouts from different starts, and what to differentiate them by."""
    out = []
    for i in range(count):
        q = torch.full((30, 2), 0.1 * (i + 1)).requires_grad_()
        end = physics.rollout(params, State(q, zeros(30, 2)), zeros(5, 2), substeps=10)
        out.append(((end.q**2).sum(), q))
    return out


def test_outstanding_rollouts_go_back_in_any_order_and_thread() -> None:
    scene, params, _ = compile_mjcf(ARM)
    physics = Physics(scene)
    expected = [torch.autograd.grad(loss, q)[0] for loss, q in losses(physics, params, 4)]
    assert not torch.allclose(expected[0], expected[1])
    waiting = losses(physics, params, 4)
    for i in (2, 0, 3, 1):
        assert torch.equal(torch.autograd.grad(*waiting[i])[0], expected[i])
    waiting, found = losses(physics, params, 4), {}

    def back(i: int) -> None:
        found[i] = torch.autograd.grad(*waiting[i])[0]

    threads = [threading.Thread(target=back, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[i], expected[i]) for i in range(4))


def test_going_back_twice_gives_the_same() -> None:
    scene, params, _ = compile_mjcf(ARM)
    ((loss, q),) = losses(Physics(scene), params, 1)
    first = torch.autograd.grad(loss, q, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, q)[0])


def test_float32_gradients_are_near_float64() -> None:
    def gradient(dtype: torch.dtype) -> torch.Tensor:
        scene, params, _ = compile_mjcf(ARM, dtype)
        q = torch.tensor([0.3, 0.2], dtype=dtype, requires_grad=True)
        end = Physics(scene).rollout(params, State(q, zeros(2, dtype=dtype)), zeros(10, 2, dtype=dtype), substeps=10)
        return torch.autograd.grad(end.q.sum(), q)[0].double()

    a, b = gradient(torch.float32), gradient(torch.float64)
    assert (a - b).abs().max() < 1e-3 * b.abs().max()


def test_substeps_equal_repeated_setpoints() -> None:
    scene, params, _ = compile_mjcf(ARM)
    physics, state = Physics(scene), State(torch.tensor([0.3, 0.2]), zeros(2))
    ref = torch.tensor([[0.1, 0.2], [0.3, -0.2]])
    held = physics.rollout(params, state, ref, substeps=10)
    each = physics.rollout(params, state, ref.repeat_interleave(10, 0))
    assert torch.equal(held.q, each.q[9::10])
    assert torch.equal(physics.step(params, state, ref[0], substeps=10).q, held.q[0])


def test_errors_are_sentences() -> None:
    scene, params, _ = compile_mjcf(ARM)
    physics = Physics(scene)
    with pytest.raises(SamrlError, match="setpoints has 3 numbers"):
        physics.rollout(params, State(zeros(2), zeros(2)), zeros(5, 3))
    with pytest.raises(SamrlError, match="one number type"):
        physics.rollout(params, State(zeros(2), zeros(2)), zeros(5, 2, dtype=torch.float64))
    with pytest.raises(NonFiniteError, match="period 0 of 5"):
        physics.rollout(params, State(zeros(2), zeros(2)), torch.full((5, 2), float("nan")))


def test_what_leaves_the_finite_numbers_is_computed_in_shorter_steps() -> None:
    """A double pendulum that is struck so hard that steps of 5 ms lose it."""
    scene, params, _ = compile_mjcf(ARM, torch.float64)
    struck = torch.tensor([300.0, -300.0]).double().requires_grad_()
    still = zeros(1, 2, dtype=torch.float64)
    ends = [
        Physics(scene, timestep=0.005 / 2**k).rollout(params, State(still[0], struck), still, substeps=20 * 2**k) for k in (0, 1)
    ]
    assert torch.equal(ends[0].q, ends[1].q) and torch.equal(ends[0].qd, ends[1].qd)
    (g,) = torch.autograd.grad(ends[0].q.sum(), struck)
    assert g.isfinite().all()
