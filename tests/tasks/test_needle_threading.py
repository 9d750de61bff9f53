"""Needle-Threading: ranges, measures, success, and that the twin holds the thread."""

import math
from dataclasses import replace

import pytest
import torch

from samrl.core import lie
from samrl.core.errors import SceneError
from samrl.learn.expert import random_start
from samrl.model.scene import State
from samrl.sim2real.control_loop import make_model
from samrl.tasks.mjcf import to_mjcf
from samrl.tasks.needle_threading import COARSE, EYE, EYE_P, FRONT, SEGMENT, NeedleThreading
from samrl.tasks.spec import Body, Free

TASK = NeedleThreading()


def poses(depth: float, aside: tuple[float, float] = (0.0, 0.0), yaw: float = 0.4) -> dict[str, torch.Tensor]:
    """A straight thread along the eye's axis, its free end `depth` behind the eye's plane and `aside` of the axis."""
    X_WN = lie.pose(lie.exp_so3(torch.tensor([0.0, 0.0, yaw])), torch.tensor(EYE_P))
    begins = depth - FRONT * SEGMENT
    place = lambda i: torch.tensor([begins + i * SEGMENT, *aside])  # noqa: E731
    return {"needle": X_WN} | {f"front{i}": X_WN @ lie.pose(torch.eye(3), place(i)) for i in range(FRONT)}


def success(*given, **more) -> bool:
    return bool(TASK.success(TASK.measures(poses(*given, **more))))


def test_success_is_ten_millimetres_through_the_eye() -> None:
    assert success(0.0101) and success(0.03, (0.9 * EYE[0], 0.0)) and success(0.03, (0.0, 0.9 * EYE[1]))
    assert not success(0.0099)
    assert not success(0.03, (1.1 * EYE[0], 0.0)) and not success(0.03, (0.0, 1.1 * EYE[1]))
    assert not success(0.05), "the fingers themselves are through: nothing crosses the eye's plane"


def test_cost_falls_towards_success_and_rises_beside_the_eye() -> None:
    cost = lambda *p: float(TASK.cost(TASK.measures(poses(*p))))  # noqa: E731
    assert cost(-0.05) > cost(-0.01) > cost(0.0) > cost(0.012)
    assert cost(-0.03, (0.02, 0.0)) > cost(-0.03, (0.01, 0.0)) > cost(-0.03)
    assert cost(0.012, (0.01, 0.0)) > cost(-0.03, (0.01, 0.0)), "beside the eye it does not pay to go on"


def test_draws_keep_to_their_ranges() -> None:
    truth = TASK.sample(100, torch.Generator().manual_seed(1))
    aside = truth.poses["needle"][:, :3, 3] - torch.tensor(EYE_P, dtype=torch.float64)
    assert float(aside[:, :2].abs().max()) <= 0.04 and float(aside[:, 2].abs().max()) < 1e-9
    yaw = torch.atan2(truth.poses["needle"][:, 1, 0], truth.poses["needle"][:, 0, 0])
    assert float(yaw.abs().max()) <= math.radians(60) + 1e-9 and float(yaw.abs().max()) > math.radians(50)
    X = torch.eye(4, dtype=torch.float64).expand(100, 4, 4)
    for i in range(FRONT):
        X = X @ truth.poses[f"front{i}"]
    end = (X @ torch.tensor([SEGMENT, 0, 0, 1], dtype=torch.float64))[:, 1:3].norm(dim=-1)
    assert 0.010 < float(end.max()) < 0.0125


def test_a_draw_is_of_the_scene_and_the_twin_holds_the_thread() -> None:
    a, b = TASK.draw(5), TASK.draw(5)
    assert a.scene == b.scene and 0.5 <= a.info["softness"] <= 2
    model = make_model(TASK)
    twin, command = random_start(model, TASK, 3, torch.Generator().manual_seed(0))
    assert twin.state.q.shape == (3, 7 + 4 * (FRONT + COARSE))
    actions = torch.zeros(3, 6, requires_grad=True)
    for _ in range(3):
        twin, command = model.step(twin, command, actions)
    cost = TASK.cost(TASK.measures(model.poses(twin)))
    cost.sum().backward()
    assert bool(torch.isfinite(cost).all()) and bool(torch.isfinite(actions.grad).all())
    assert float(actions.grad[:, :3].abs().amin(0).max()) > 1e-3
    tip = TASK.measures(model.poses(twin))["tip"]
    assert float(twin.state.qd.detach().abs().max()) < 30 and bool((tip[:, 0] < 0).all())


def test_the_arm_is_measured_and_the_thread_stays_as_it_is() -> None:
    model = make_model(TASK)
    twin, _ = random_start(model, TASK, 2, torch.Generator().manual_seed(0))
    bent = State(twin.state.q + 0.1, twin.state.qd + 0.2)
    arm = torch.full((2, 7), 0.3)
    state = model.state(arm, -arm, bent)
    assert torch.equal(state.q[:, :7], arm) and torch.equal(state.qd[:, :7], -arm)
    assert torch.equal(state.q[:, 7:], bent.q[:, 7:]) and torch.equal(state.qd[:, 7:], bent.qd[:, 7:])
    assert torch.equal(model.arm(state).q, arm)


def test_what_moves_before_the_arm_is_refused() -> None:
    bodies = TASK.scene.bodies
    late = replace(TASK.scene, bodies=(Body("ball", joint=Free(), mass=0.1, inertia=(1e-4,) * 3 + (0.0,) * 3), *bodies))
    with pytest.raises(SceneError, match="'ball' moves and comes before the arm"):
        to_mjcf(late)
