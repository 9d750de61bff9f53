"""What every world owes to whoever uses it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from samrl.core import lie
from samrl.core.camera import Roi, viewpoint
from samrl.core.control import gains
from samrl.core.errors import NonFiniteError, SamrlError, UnknownNameError, UnreachableError
from samrl.core.world import Judge, World
from samrl.sim2real.control_loop import make_model
from samrl.tasks import registry as tasks
from samrl.worlds import registry, settings
from samrl.worlds.picture import has_pybullet

TASK = tasks.make("peg-insertion-open")
ROI = Roi(500, 260, 200)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


WORLDS = [name for name in registry.names() if name != "pybullet" or has_pybullet()]


@pytest.fixture(scope="module", params=WORLDS)
def world(request):
    world = registry.make(request.param, TASK, settings.load("nominal"))
    yield world
    world.close()


def view(yaw=0.3, pitch=0.9, radius=0.4) -> np.ndarray:
    """A view of the block that the camera arm can take."""
    as_tensor = lambda x: torch.tensor(x, dtype=torch.float64)  # noqa: E731
    return viewpoint(TASK.look_at(), as_tensor(yaw), as_tensor(pitch), as_tensor(radius)).numpy()


def state_of(world) -> list[np.ndarray]:
    """All that `look` and `reach` must leave alone."""
    observation = world._observe()
    return [observation.arm.q, observation.arm.qd, observation.arm.q_ref, *world._engine.poses().values()]


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_it_is_a_world(world):
    assert isinstance(world, World)
    assert isinstance(world.judge(), Judge)
    assert world.capabilities.simulated


def test_reset_and_act_are_bit_identical(world):
    def episode() -> list[np.ndarray]:
        first = world.reset(7)
        out = [first.arm.q, first.X_WC]
        for _ in range(3):
            observation = world.act(np.array([0.004, -0.003, -0.008, 0.01, 0.0, 0.02])).observation
            out += [observation.arm.q, observation.arm.qd, observation.arm.q_ref, observation.arm.X_WE_command]
        for picture in world.look(first.X_WC, [ROI, Roi(600, 300, 160)]):
            out += [picture.color, picture.depth, picture.valid, *picture.masks.values()]
        return out

    assert same(episode(), episode())


def test_an_episode_starts_where_it_says(world):
    observation = world.reset(3)
    draw = TASK.draw(3)
    assert np.abs(observation.arm.q - draw.q_start).max() < 5e-4
    assert np.abs(observation.arm.qd).max() < 1e-3
    assert observation.time == 0.0
    true = world.judge().poses()
    block = draw.scene.body("block")
    assert np.allclose(true["block"][:3, 3], block.p, atol=1e-9)
    assert np.abs(world.reset(4).arm.q - observation.arm.q).max() > 1e-2


def test_act_returns_the_action_that_was_applied(world):
    world.reset(0)
    small = np.array([0.003, 0.0, -0.002, 0.0, 0.01, 0.0])
    assert np.allclose(world.act(small).action, small)
    large = world.act(np.array([0.1, 0.0, 0.0, 0.0, 0.0, 1.0])).action
    assert np.allclose(large, [gains().max_translation, 0, 0, 0, 0, gains().max_rotation])
    assert world.act(np.zeros(6)).observation.time == pytest.approx(0.3)


@pytest.mark.parametrize("name", WORLDS)
def test_the_scene_says_how_large_an_action_may_be(name):
    actor = replace(TASK.scene.actor, gains=replace(gains(), max_translation=0.025))
    task = replace(TASK, scene=replace(TASK.scene, actor=actor))
    world = registry.make(name, task, settings.load("nominal"))
    world.reset(0)
    assert world.act(np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0])).action[0] == pytest.approx(0.025)
    world.close()
    assert make_model(task, substeps=1).gains.max_translation == 0.025, "and the twin goes by the same"


def test_wrong_actions_are_sentences(world):
    world.reset(0)
    with pytest.raises(NonFiniteError, match="the action"):
        world.act(np.full(6, np.nan))
    with pytest.raises(SamrlError, match="6 numbers"):
        world.act(np.zeros(3))


def test_the_impedance_holds_its_command_in_free_space(world):
    world.reset(1)
    for _ in range(6):
        world.act(np.array([0.005, 0.003, -0.004, 0.0, 0.01, 0.0]))
    for _ in range(8):
        arm = world.act(np.zeros(6)).observation.arm
    reached = world._chain.tool(torch.as_tensor(arm.q)).numpy()
    assert np.linalg.norm((reached - arm.X_WE_command)[:3, 3]) < 0.002


def test_look_moves_nothing_but_the_camera_arm(world):
    first = world.reset(2)
    before = state_of(world)
    picture = world.look(view(), [ROI])[0]
    assert same(before, state_of(world))
    assert np.abs(picture.camera.X_WC.numpy() - view()).max() < 2e-3
    assert np.abs(world._observe().X_WC - first.X_WC).max() > 1e-3
    assert np.array_equal(world._observe().X_WC, picture.camera.X_WC.numpy())


def test_reach_moves_nothing_and_agrees_with_look(world):
    world.reset(2)
    before = world._observe().X_WC
    answer = world.reach(view())
    assert answer.ok and answer.travel_time > 0 and answer.reason == ""
    assert np.array_equal(before, world._observe().X_WC)
    world.look(view(), [ROI])
    assert np.abs(world._observe().X_WC - answer.X_WC).max() < 1e-9
    assert world.reach(world._observe().X_WC).travel_time == 0.0


@pytest.mark.parametrize("far", [view(0.3, 0.9, 3.0), view(3.1, 0.3, 0.25)], ids=["too far", "through the other arm"])
def test_an_unreachable_view_is_a_sentence_and_nothing_moves(world, far):
    world.reset(2)
    before, camera = state_of(world), world._observe().X_WC
    answer = world.reach(far)
    assert not answer.ok and answer.reason.endswith(".")
    with pytest.raises(UnreachableError, match="the camera arm cannot take the pose at"):
        world.look(far)
    assert same(before, state_of(world)) and np.array_equal(camera, world._observe().X_WC)
    assert world.reach(answer.X_WC).ok


def test_a_crop_is_a_piece_of_the_whole(world):
    """Masks and readings agree to the pixel; noise differs, as every exposure has its own."""
    world.reset(5)
    whole, crop = world.look(view())[0], world.look(view(), [ROI])[0]
    inside = (slice(ROI.top, ROI.top + ROI.side), slice(ROI.left, ROI.left + ROI.side))
    for name in TASK.scene.updatable:
        assert np.array_equal(whole.masks[name][inside], crop.masks[name])
    assert np.array_equal(whole.valid[inside], crop.valid)
    both = crop.valid
    assert np.abs(whole.depth[inside] - crop.depth)[both].max() < 0.02
    assert crop.color.shape == (ROI.side, ROI.side, 3) and crop.color.dtype == np.float32
    p = torch.tensor([[0.5, 0.02, 0.05]], dtype=torch.float64)
    shift = whole.camera.project(p)[0, :2] - crop.camera.project(p)[0, :2]
    assert torch.allclose(shift, torch.tensor([ROI.left, ROI.top], dtype=torch.float64))


def test_regions_of_one_exposure_agree_where_they_overlap(world):
    world.reset(5)
    a, b = world.look(view(), [Roi(500, 260, 120), Roi(540, 280, 120)])
    assert np.array_equal(a.color[20:, 40:], b.color[:-20, :-40])
    assert np.abs(a.depth[20:, 40:] - b.depth[:-20, :-40]).max() < 1e-5


def test_beyond_the_border_there_is_nothing(world):
    world.reset(5)
    picture = world.look(view(), [Roi(-60, 660, 120)])[0]
    for outside in (np.s_[:, :60], np.s_[60:, :]):
        assert not picture.valid[outside].any() and not picture.color[outside].any() and not picture.depth[outside].any()
    assert picture.color[:60, 60:].all()
    away = world.look(view(), [Roi(5000, 5000, 32)])[0]
    assert not away.valid.any()


def test_depth_lies_on_the_block_and_masks_match(world):
    """Points under the block's mask lie on its surface, within the sensor's noise; outside it none does."""
    world.reset(8)
    picture = world.look(view())[0]
    v, u = np.mgrid[: picture.camera.height, : picture.camera.width] + 0.5
    seen = picture.valid & (picture.masks["block"] > 0)
    assert seen.sum() > 2000
    uv, z = (torch.as_tensor(x[seen], dtype=torch.float64) for x in (np.stack([u, v], -1), picture.depth))
    p_W = picture.camera.unproject(uv, z)
    p_B = lie.transform(lie.inverse(torch.as_tensor(world.judge().poses()["block"])), p_W)
    half = torch.tensor([0.045, 0.040, 0.025], dtype=torch.float64)
    off = (p_B.abs() - half).clamp_min(0).norm(dim=-1)
    assert float(off.median()) < 0.001 and float(off.quantile(0.9)) < 0.003
    top = (p_B[:, :2].abs() < half[:2] - 0.005).all(-1) & (p_B[:, 2] > 0.015)
    assert abs(float((p_B[top, 2] - half[2]).median())) < 0.001


def test_a_world_without_an_episode_says_so(world):
    fresh = registry.make(world.capabilities.name, TASK, settings.load("nominal"))
    with pytest.raises(SamrlError, match="call reset"):
        fresh.act(np.zeros(6))
    fresh.close()


def test_poison_changes_no_observation(world):
    poisoned = registry.make(world.capabilities.name, TASK, settings.load("nominal"), poison=True)
    out = []
    for w in (world, poisoned):
        first = w.reset(11)
        picture = w.look(first.X_WC)[0]
        arm = w.act(np.array([0.0, 0.004, -0.006, 0.0, 0.0, 0.01])).observation.arm
        out.append([arm.q, arm.qd, picture.color, picture.depth, picture.valid, *picture.masks.values()])
    assert same(*out)
    judge = poisoned.judge()
    assert all(np.isnan(X).all() for X in judge.poses().values())
    assert np.isnan(judge.measures()["depth"]) and not judge.success()
    poisoned.close()


def test_two_worlds_do_not_disturb_each_other(world):
    other = registry.make(WORLDS[-1], TASK, settings.load("nominal"))
    alone = world.reset(6)
    expected = world.act(np.full(6, 0.002)).observation.arm.q
    again = world.reset(6)
    other.reset(9)
    other.act(np.full(6, -0.002))
    assert np.array_equal(alone.arm.q, again.arm.q)
    assert np.array_equal(world.act(np.full(6, 0.002)).observation.arm.q, expected)
    other.close()


def test_unknown_names_are_sentences():
    with pytest.raises(UnknownNameError, match="did you mean 'mujoco'"):
        registry.make("mujoko", TASK, settings.load("nominal"))
    with pytest.raises(UnknownNameError, match="did you mean 'stress-tight'"):
        settings.load("stress-tigth")
    assert registry.default()[0] in registry.names()
