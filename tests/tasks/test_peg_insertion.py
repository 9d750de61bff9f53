"""The task's ranges, measures and success."""

import math

import mujoco
import numpy as np
import torch

from samrl.core import lie
from samrl.core.camera import Camera, viewpoint
from samrl.model.scene import Twin
from samrl.sim2real.control_loop import make_model
from samrl.tasks import registry
from samrl.tasks.mjcf import to_mjcf
from samrl.tasks.peg_insertion import BLOCK_HALF, BLOCK_P, PEG_HALF_LENGTH, PegInsertion
from samrl.tasks.spec import chain_of, pose_of
from samrl.tasks.task import separation

TASK = PegInsertion()


def poses(tip_in_hole: tuple[float, float, float], yaw: float = 0.4, tilt: float = 0.0) -> dict[str, torch.Tensor]:
    """Peg upright (or tilted about x) with its tip at a place given from the hole's mouth, in the block's axes."""
    X_WB = lie.pose(lie.exp_so3(torch.tensor([0.0, 0.0, yaw])), torch.tensor(BLOCK_P))
    R_BP = lie.exp_so3(torch.tensor([math.pi + tilt, 0.0, 0.0]))
    tip = torch.tensor(tip_in_hole) + torch.tensor([0.0, 0.0, BLOCK_HALF[2]])
    return {"block": X_WB, "peg": X_WB @ lie.pose(R_BP, tip - PEG_HALF_LENGTH * R_BP[:, 2])}


def test_measures_and_success() -> None:
    m = TASK.measures(poses((0.0005, 0.0, -0.016)))
    assert torch.allclose(m["lateral"], torch.tensor([0.0005, 0.0]), atol=1e-6)
    assert math.isclose(float(m["depth"]), 0.016, abs_tol=1e-6)
    assert bool(TASK.success(m))
    assert not bool(TASK.success(TASK.measures(poses((0.0, 0.0, -0.014)))))
    assert not bool(TASK.success(TASK.measures(poses((0.02, 0.0, -0.03)))))


def test_cost_falls_towards_success() -> None:
    cost = lambda *p, **k: float(TASK.cost(TASK.measures(poses(p, **k))))  # noqa: E731
    assert cost(0.0, 0.0, 0.1) > cost(0.0, 0.0, 0.05) > cost(0.0, 0.0, -0.01) > cost(0.0, 0.0, -0.02)
    assert cost(0.03, 0.0, 0.1) > cost(0.01, 0.0, 0.1) > cost(0.0, 0.0, 0.1)
    assert cost(0.0, 0.0, 0.1, tilt=0.1) > cost(0.0, 0.0, 0.1)


def test_nothing_separates_them_at_the_mouth() -> None:
    tip, axis = separation(TASK.landmarks(poses((0.0, 0.0, 0.0))))
    assert torch.allclose(tip, torch.zeros(3), atol=1e-6) and torch.allclose(axis, torch.zeros(3), atol=1e-6)


def test_draws_keep_to_their_ranges() -> None:
    truth = TASK.sample(200, torch.Generator().manual_seed(1))
    aside = (truth.poses["block"][:, :3, 3] - torch.tensor(BLOCK_P)).abs()
    assert float(aside[:, :2].max()) <= 0.06 and float(aside[:, 2].max()) <= 0.0101
    actor = TASK.scene.actor
    X_HE = pose_of(actor.tool_p, actor.tool_quat)
    X_WP = chain_of(TASK.scene, actor).tool(truth.q) @ lie.inverse(X_HE) @ truth.poses["peg"]
    tip = X_WP[:, :3, 3] + PEG_HALF_LENGTH * X_WP[:, :3, 2]
    height = tip[:, 2] - (BLOCK_P[2] + BLOCK_HALF[2])
    assert float(height.min()) > 0.079 and float(height.max()) < 0.151
    lean = torch.acos(-X_WP[:, 2, 2].clamp(-1, 1)).rad2deg()
    assert float(lean.max()) < 8 + 2 * math.sqrt(2) + 0.1


def test_same_seed_same_draw() -> None:
    a, b, c = TASK.draw(7), TASK.draw(7), TASK.draw(8)
    assert np.array_equal(a.q_start, b.q_start) and a.scene == b.scene and np.array_equal(a.views, b.views)
    assert not np.array_equal(a.q_start, c.q_start)


def test_every_variant_compiles_in_mujoco() -> None:
    for task in (TASK, PegInsertion().tight(), PegInsertion(cover=True)):
        assert mujoco.MjModel.from_xml_string(to_mjcf(task.draw(3).scene)).nv == 7


def test_registry_names_are_the_tasks_own() -> None:
    for name in registry.names():
        task = registry.make(name)
        assert task.name == name and task.horizon > 0 and set(task.scene.units) == set(task.known())


def test_a_wall_hides_the_hole_from_its_side_alone() -> None:
    task = registry.make("peg-insertion")
    model = make_model(task)
    twin = Twin(model.params, model.state(chain_of(task.scene, task.scene.actor).home))
    target = model.poses(twin)["block"][:3, 3].double() + torch.tensor([0, 0, BLOCK_HALF[2]])
    yaws, pitch, radius = (torch.tensor(x, dtype=torch.float64) for x in ([0.0, 1.3], [0.5, 0.5], [0.45, 0.45]))
    X_WC = viewpoint(target.expand(2, 3), yaws, pitch, radius).to(model.dtype)  # the nominal wall stands in +x, as does yaw 0
    camera = Camera.from_fov(64, 64, 0.5, X_WC)
    with torch.no_grad():
        image = model.render(twin, camera)
    middle = image.depth[:, 32, 32]
    assert 0.45 - float(middle[0]) > 0.1  # the wall, 115 mm before the hole
    assert abs(0.45 - float(middle[1])) < 0.06
