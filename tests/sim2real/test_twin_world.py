"""𝓜 as a world: it keeps the protocol, repeats itself, and its pictures can be aligned with."""

import numpy as np
import pytest
import torch

from samrl.benches import twin_world
from samrl.core.camera import Roi, viewpoint
from samrl.core.errors import NonFiniteError, SamrlError, UnreachableError
from samrl.core.world import Judge, World
from samrl.model.scene import Twin
from samrl.real2sim.tracker import Tracker
from samrl.sim2real.control_loop import make_model, native_camera
from samrl.sim2real.evaluate import pose_error, symmetry
from samrl.tasks import registry as tasks
from samrl.worlds import settings

TASK = tasks.make("peg-insertion-open")
ROI = Roi(500, 260, 200)


@pytest.fixture(scope="module")
def world():
    return twin_world(TASK, settings.load("nominal"))


def view(radius: float = 0.4) -> np.ndarray:
    angle = lambda x: torch.tensor(x, dtype=torch.float64)  # noqa: E731
    return viewpoint(TASK.look_at(), angle(0.3), angle(0.9), angle(radius)).numpy()


def test_it_is_a_world(world):
    world.reset(0)
    assert isinstance(world, World) and isinstance(world.judge(), Judge)


def test_an_episode_repeats_itself_to_the_bit(world):
    def episode() -> list[np.ndarray]:
        out = [world.reset(7).arm.q]
        for _ in range(3):
            arm = world.act(np.array([0.004, -0.003, -0.008, 0.01, 0.0, 0.02])).observation.arm
            out += [arm.q, arm.qd, arm.q_ref, arm.X_WE_command]
        (image,) = world.look(view(), [ROI])
        return [*out, image.color, image.depth, image.valid, *image.masks.values()]

    first = episode()
    world.reset(8)
    assert all(np.array_equal(a, b) for a, b in zip(first, episode(), strict=True))


def test_the_truth_is_that_of_the_draw(world):
    world.reset(3)
    block = TASK.draw(3).scene.body("block")
    assert np.allclose(world.judge().poses()["block"][:3, 3], block.p, atol=1e-6)
    assert not world.judge().success()


def test_an_update_aligns_another_twin_with_it(world):
    observation = world.reset(5)
    model = make_model(TASK)
    twin = Twin(model.params, model.state(torch.as_tensor(observation.arm.q)))
    tracker = Tracker(model, native_camera(TASK, observation.X_WC), known=TASK.known())
    found, *_ = tracker.observe(world, twin, view())
    body, truth = TASK.scene.body("block"), world.judge().poses()["block"]
    before, after = (pose_error(model.poses(t)["block"].numpy(), truth, *symmetry(body)) for t in (twin, found))
    assert after["mm"] < min(2.0, 0.2 * before["mm"]) and after["deg"] < 2.0


def test_beyond_the_border_there_is_nothing(world):
    world.reset(5)
    (image,) = world.look(view(), [Roi(-60, 660, 120)])
    for outside in (np.s_[:, :60], np.s_[60:, :]):
        assert not image.valid[outside].any() and not image.color[outside].any() and not image.depth[outside].any()
    assert image.color[:60, 60:].any()


def test_what_cannot_be_is_a_sentence(world):
    world.reset(2)
    with pytest.raises(UnreachableError, match="the camera arm cannot take the pose at"):
        world.look(view(3.0))
    with pytest.raises(NonFiniteError, match="the action"):
        world.act(np.full(6, np.nan))
    world.close()
    with pytest.raises(SamrlError, match="call reset"):
        world.act(np.zeros(6))
