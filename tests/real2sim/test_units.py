"""What bends: a chain's tangent vector, and a thread that images show."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
import torch

from samrl.core import lie
from samrl.model.placement import set_unit_poses, unit_poses
from samrl.model.scene import Twin
from samrl.model.units import Unit, before_images, fuse, informed
from samrl.real2sim.problem import put
from samrl.real2sim.tracker import Tracker
from samrl.sim2real.control_loop import make_model, native_camera, units_of
from samrl.sim2real.evaluate import pose_error, unit_error
from samrl.sim2real.twin_world import TwinWorld
from samrl.tasks import registry
from samrl.tasks.spec import pose_of
from samrl.tasks.task import separation
from samrl.worlds import settings as world_settings
from samrl.worlds.camera_arm import CameraArm
from samrl.worlds.sensor import SensorNoise

TASK = registry.make("needle-threading")
CHAIN = Unit("thread", tuple("abcdef"), 0.00625)


def straight(turn: torch.Tensor) -> torch.Tensor:
    """(6, 4, 4) a straight chain in a parent in which it runs along the x axis of `turn`."""
    X = torch.eye(4, dtype=torch.float64).repeat(6, 1, 1)
    X[1:, 0, 3], X[0, :3, :3] = CHAIN.length, turn
    return X


@pytest.mark.parametrize("turn", [torch.zeros(3), torch.tensor([0.3, -0.5, 2.0])])
def test_a_chain_is_moved_as_it_was_told(turn: torch.Tensor) -> None:
    X = straight(lie.exp_so3(turn.double()))
    along = X[0, :3, 0]
    d = torch.tensor([0.0008, -0.0006, 0.001, 0.0, 0.0, 0.0], dtype=torch.float64)
    aside = d[:3] - along * (along @ d[:3])  # a chain does not get longer
    X_WB = torch.stack(list(accumulate(X, torch.matmul)))
    end = CHAIN.frame(CHAIN.carry(torch.eye(4, dtype=torch.float64), X_WB, d))
    assert float((end[:3, 3] - CHAIN.frame(X_WB)[:3, 3] - aside).norm()) < 0.03 * float(aside.norm())
    d[3:] = torch.linalg.cross(along, torch.tensor([0.002, -0.005, 0.003], dtype=torch.float64))
    back = CHAIN.between(X, CHAIN.turn(X, d))
    assert torch.allclose(back, torch.cat([aside, d[3:]]), atol=3e-5)


def test_a_chain_keeps_its_lengths_however_often_it_is_moved() -> None:
    X = torch.stack(list(accumulate(straight(torch.eye(3)).float(), torch.matmul)))
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        X = CHAIN.carry(torch.eye(4), X, 0.002 * torch.randn(6, generator=generator))
    R = X[:, :3, :3]
    assert float((R.mT @ R - torch.eye(3)).abs().max()) < 1e-5
    assert torch.allclose((X[1:, :3, 3] - X[:-1, :3, 3]).norm(dim=-1), torch.tensor(CHAIN.length), atol=1e-6)


def test_a_twisted_thread_is_known_by_where_it_is() -> None:
    """From the nominal thread to drawn ones, which are bent and twisted: the free end is where it should be."""
    truth = TASK.sample(64, torch.Generator().manual_seed(0))
    unit = next(u for u in units_of(TASK.scene) if u.bends)
    Y = torch.stack([truth.poses[b] for b in unit.bodies], 1)
    X = torch.stack([pose_of(TASK.scene.body(b).p, TASK.scene.body(b).quat) for b in unit.bodies]).expand_as(Y)
    ends = [torch.stack(list(accumulate(Z.unbind(1), torch.matmul)), 1) for Z in (unit.turn(X, unit.between(X, Y)), Y)]
    off = (unit.frame(ends[0]) - unit.frame(ends[1]))[:, :3, 3].norm(dim=-1)
    assert float(off.max()) < 1e-4


def test_joints_that_have_moved_stay_as_they_are() -> None:
    model = make_model(TASK, dtype=torch.float64)
    unit = next(u for u in model.units if u.bends)
    state = model.state(torch.as_tensor(TASK.draw(0).q_start))
    q, _ = model.scene.coordinates("front2")
    state.q[q] = torch.tensor([0.98, 0.0, 0.199, 0.0], dtype=torch.float64) / np.hypot(0.98, 0.199)
    twin = Twin(model.params, state)
    X_PB = unit.turn(unit_poses(model.scene, twin, unit), torch.tensor([0, 0.004, 0.002, 0, 0, 0], dtype=torch.float64))
    moved = set_unit_poses(model.scene, twin, unit, X_PB)
    wanted = model.bodies_of(unit, model.link_poses(moved))[1]
    assert torch.allclose(model.placed(unit, twin, model.link_poses(twin), X_PB), wanted, atol=1e-12)
    got = put(model, twin, [unit], wanted)
    assert torch.allclose(model.bodies_of(unit, model.link_poses(got))[1], wanted, atol=1e-12)


def test_a_bent_thread_is_found_in_one_view() -> None:
    """Development seeds, from the first start view that shows the thread well; the images are the twin's own."""
    world = TwinWorld(
        TASK, CameraArm(TASK.scene, world_settings.load("nominal").camera_arm),
        lambda seed: SensorNoise(world_settings.load("nominal").sensor, seed),
    )  # fmt: skip
    model, after = make_model(TASK), []
    for seed in range(4):
        observation, truth = world.reset(seed), world.poses()
        twin = Twin(model.params, model.state(torch.as_tensor(observation.arm.q)))
        for X_WC in (X for X in TASK.draw(seed).views if world.reach(X).ok):
            tracker = Tracker(model, native_camera(TASK, X_WC), known=TASK.known())
            found, report, *_ = tracker.observe(world, twin, X_WC)
            if report.visible["thread"] > 25 and not report.lost:
                break
        errors = [
            separation(TASK.landmarks({n: X.double() for n, X in poses.items()}))[0] for poses in (model.poses(found), truth)
        ]
        plain = {n: X.numpy() for n, X in truth.items()}
        curve = unit_error(TASK.scene, TASK.scene.units["thread"], {n: X.numpy() for n, X in model.poses(found).items()}, plain)
        needle = pose_error(model.poses(found)["needle"].numpy(), plain["needle"], 1)
        after.append([1e3 * float((errors[0] - errors[1]).norm()), curve["mm"], needle["mm"], needle["deg"]])
    tip, mean, *needle = np.median(after, 0)
    assert tip < 1.0 and mean < 1.0 and needle[0] < 0.5 and needle[1] < 1.0, after


def test_each_look_tells_what_it_shows() -> None:
    """Two looks at right angles, each blind along its own line of sight: together they know, and a third one that is blind
    where the first was brings none of its mistake in."""
    truth = torch.tensor([0.004, -0.006, 0.003, 0.02, -0.01, 0.03])
    along_z = torch.eye(3)
    along_x = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    scale = torch.tensor([2e-4, 2e-4, 6e-3, 1e-2, 1e-2, 1e-2])
    sure, estimate = before_images((0.012, 0.05)), torch.zeros(6)
    for R in (along_z, along_x, along_z):
        wrong = torch.cat([R @ torch.tensor([0.0, 0.0, 0.008]), torch.zeros(3)])
        way, sure = fuse(sure, informed(scale, R), truth + wrong - estimate)
        estimate = estimate + way
    assert float((estimate - truth)[:3].norm()) < 5e-4
    assert float(torch.linalg.inv(sure)[:3, :3].diagonal().sqrt().max()) < 2.1e-4
