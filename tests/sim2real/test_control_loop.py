"""The loop in a world: the same seed gives the same episode, and the truth reaches nothing in it."""

import numpy as np
import pytest
import torch

from samrl.benches import SEGMENT
from samrl.core.types import ArmState, Observation
from samrl.learn.expert import Expert
from samrl.model.scene import State
from samrl.sim2real.agent import ByExpert
from samrl.sim2real.control_loop import _follow, make_model, run_episode, settled
from samrl.tasks.needle_threading import NeedleThreading
from samrl.tasks.peg_insertion import PegInsertion
from samrl.worlds import registry, settings

TASK = PegInsertion()


@pytest.fixture(scope="module")
def expert():
    torch.set_num_threads(1)
    expert = Expert(make_model(TASK), TASK, 0)
    for p in expert.policy.parameters():  # untrained, yet with something to say
        p.data.mul_(3)
    return expert


def actions(expert, world_name: str, poison: bool, seed: int = 4, steps: int = 5) -> np.ndarray:
    world = registry.make(world_name, TASK, settings.load("nominal"), poison=poison)
    try:
        episode = run_episode(world, expert.model, TASK, ByExpert(expert), seed, horizon=steps)
        if poison:
            assert all(np.isnan(X).all() for X in world.judge().poses().values()), "the poison is in the judge"
    finally:
        world.close()
    return np.array([s.action for s in episode.steps])


@pytest.mark.parametrize("world_name", registry.names())
def test_poisoned_truth_changes_no_action(expert, world_name: str) -> None:
    clean = actions(expert, world_name, poison=False)
    assert np.abs(clean).max() > 1e-5
    assert np.array_equal(clean, actions(expert, world_name, poison=True))


def test_pictures_cost_the_episode_nothing(expert) -> None:
    name, _ = registry.default()
    world = registry.make(name, TASK, settings.load("nominal"))
    plain = run_episode(world, expert.model, TASK, ByExpert(expert), 6, horizon=3)
    pictured = run_episode(world, expert.model, TASK, ByExpert(expert), 6, horizon=3, snapshots=(0, 1))
    world.close()
    assert [s.action for s in plain.steps] == [s.action for s in pictured.steps]
    for frame in pictured.frames:
        assert frame["world"].dtype == np.uint8 and frame["world"].shape == frame["after"].shape
    assert len(pictured.frames) == 2


def test_a_judge_may_end_the_episode(expert) -> None:
    name, _ = registry.default()
    world = registry.make(name, TASK, settings.load("nominal"))
    episode = run_episode(world, expert.model, TASK, ByExpert(expert), 6, horizon=5, on_step=lambda record, *_: record.step == 1)
    world.close()
    assert len(episode.steps) == 2 and len(episode.poses) == 3


def test_masks_may_come_from_the_segmenter(expert) -> None:
    name, _ = registry.default()
    world = registry.make(name, TASK, settings.load("nominal"))
    episode = run_episode(world, expert.model, TASK, ByExpert(expert), 2, horizon=2, segment=SEGMENT["segmenter"])
    truth = world.judge().poses()
    world.close()
    block = np.asarray(episode.poses[1]["block"])
    assert np.linalg.norm(block[:3, 3] - truth["block"][:3, 3]) < 0.005


def test_a_thread_that_leaves_the_finite_numbers_hangs_anew() -> None:
    """The prediction that fails is counted, and the next one starts from a thread at rest; an arm alone is not set right."""
    task = NeedleThreading()
    model = make_model(task)
    q = torch.as_tensor(task.draw(0).q_start)
    arm = ArmState(q.numpy(), 0 * q.numpy(), q.numpy(), model.chain.tool(q.float()).numpy())
    observation = Observation(arm, np.eye(4), 0.0)
    twin = settled(model, model.params, q)
    command, still = model.at_rest(twin.state), np.zeros(6)
    after, rehung = _follow(model, twin, command, still, observation)
    assert not rehung
    wild = twin.replace(state=State(twin.state.q, torch.where(torch.arange(len(twin.state.qd)) < 7, 0.0, 1e20)))
    again, rehung = _follow(model, wild, command, still, observation)
    assert rehung
    front = slice(0, 31)  # what hangs behind the fingers still swings
    torch.testing.assert_close(again.state.q[front], after.state.q[front], atol=0.02, rtol=0)
