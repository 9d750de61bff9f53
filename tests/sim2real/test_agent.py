"""The variants, in an episode of the twin: they look from where they say, and the residual at zero changes nothing."""

import numpy as np
import pytest
import torch

from samrl.benches import Brain, twin_world
from samrl.learn.actor import Actor, Eye
from samrl.learn.expert import Expert
from samrl.learn.q_function import QFunction
from samrl.learn.rehearsal import Shell
from samrl.learn.sensing import Sensing
from samrl.learn.viewpoint import ViewSettings
from samrl.sim2real import residual
from samrl.sim2real.agent import ByActor, ChosenView, FromView
from samrl.sim2real.control_loop import make_model, run_episode
from samrl.tasks import registry
from samrl.worlds import settings

TASK = registry.make("peg-insertion")
FEW = ViewSettings(candidates=4, refined=1, steps=1)


@pytest.fixture(scope="module")
def brain() -> Brain:
    torch.set_num_threads(1)
    model = make_model(TASK)
    expert, g = Expert(model, TASK), torch.Generator().manual_seed(0)
    actor = Actor(expert.policy, g, expert.task.crops)
    made = Brain(expert, Sensing(2, g), Eye(model, TASK), actor, QFunction(2, g), Shell.of(TASK))
    for net in (made.sensing, made.actor, made.q):
        net.eval()
    return made


def episode(brain: Brain, agent, correct=None, steps: int = 3):
    world = twin_world(TASK, settings.load("nominal"))
    return run_episode(world, brain.expert.model, TASK, agent, 3, horizon=steps, residual=correct)


def test_views_are_chosen_when_they_should_be_and_the_same_again(brain: Brain) -> None:
    agent = ChosenView(brain.viewpoint(FEW), brain.expert, brain.eye, choices=(1,))
    first, again = episode(brain, agent), episode(brain, agent)
    assert [bool(s.told) for s in first.steps] == [False, True, False]
    assert first.steps[1].told == again.steps[1].told and {"q promised", "q after"} <= set(first.steps[1].told)
    assert [s.action for s in first.steps] == [s.action for s in again.steps]


def test_a_random_view_is_a_new_one(brain: Brain) -> None:
    steps = episode(brain, ChosenView(brain.viewpoint(FEW), brain.expert, brain.eye, choices=(1,), blind=True)).steps
    assert [s.moved for s in steps] == [False, True, False]


def test_a_fixed_view_is_the_first_in_reach(brain: Brain) -> None:
    views = torch.tensor([[0.0, 0.1, 5.0], [0.0, 0.8, 0.4]])  # the first is metres away
    agent = FromView(brain.expert, brain.actor, brain.eye, brain.shell, views)
    world = twin_world(TASK, settings.load("nominal"))
    observation = world.reset(3)
    chosen = agent.view(None, observation.X_WC, 0, world.reach)  # type: ignore[arg-type]
    assert np.allclose(chosen, brain.shell.pose(views[1].double()).numpy())


def test_a_residual_at_zero_changes_no_bit(brain: Brain) -> None:
    agent = ByActor(brain.expert, brain.actor, brain.eye)
    zero = residual.LearnedResidual(residual.fresh(residual._Nowhere(), residual.ResidualSettings(), 0), brain.actor)
    assert [s.action for s in episode(brain, agent).steps] == [s.action for s in episode(brain, agent, zero).steps]


@pytest.mark.parametrize("spoil", ["black", "other"])
def test_an_actor_that_is_shown_something_else_acts_otherwise(brain: Brain, spoil: str) -> None:
    seen = episode(brain, ByActor(brain.expert, brain.actor, brain.eye), steps=1).steps[0].action
    spoiled = [episode(brain, ByActor(brain.expert, brain.actor, brain.eye, spoil), steps=1).steps[0].action for _ in range(2)]
    assert spoiled[0] == spoiled[1] != seen
