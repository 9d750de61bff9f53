"""Rehearsals with a hidden truth, what the actor sees in them, and views ranked by Q."""

import pytest
import torch

from samrl.learn.actor import Actor, Eye
from samrl.learn.expert import Expert
from samrl.learn.q_function import QFunction
from samrl.learn.rehearsal import Rehearsal, Shell
from samrl.learn.sensing import Sensing, fit
from samrl.learn.study import situation
from samrl.learn.viewpoint import Viewpoint, ViewSettings
from samrl.sim2real.control_loop import make_model
from samrl.tasks import registry

TASK = registry.make("peg-insertion")
SHELL = Shell(TASK.look_at(), (-1.4, 1.4), (0.4, 1.2), (0.3, 0.5))


@pytest.fixture(scope="module")
def stage() -> Rehearsal:
    generator = torch.Generator().manual_seed(0)
    return Rehearsal(Expert(make_model(TASK), TASK), Sensing(2, generator), SHELL, 8, generator)


def test_views_and_cameras_are_each_others_inverse() -> None:
    view = SHELL.draw(16, torch.Generator().manual_seed(1)).double()
    assert torch.allclose(SHELL.view(SHELL.pose(view)), view, atol=1e-9)


def test_a_look_brings_what_it_shows_near_the_truth_and_nothing_else(stage: Rehearsal) -> None:
    true, believed = (stage.model.poses(t) for t in (stage.truth, stage.estimated()))
    for b, body in enumerate(stage.model.updatable):
        off = (true[body][:, :3, 3] - believed[body][:, :3, 3]).norm(dim=-1)
        shown = stage.seen[:, b] > 0
        assert bool((off[shown] < 0.006).all()) and bool((off[~shown] > 0.0005).all())
    assert bool((stage.seen > 0).any()) and bool((stage.seen == 0).any())


def test_sensing_learns_the_size_of_errors() -> None:
    g = torch.Generator().manual_seed(2)
    x = torch.rand(600, 1, 4, generator=g)
    error = torch.randn(600, 1, 6, generator=g) * torch.where(x[..., :1] > 0.5, 1e-2, 1e-4)
    net, _ = fit(x, error, torch.ones(600, 1, dtype=torch.bool), 0, steps=300)
    with torch.no_grad():
        scale = net(torch.tensor([[[0.9, 0.5, 0.5, 0.5]], [[0.1, 0.5, 0.5, 0.5]]]))
    assert float((scale[0] / scale[1]).min()) > 30


def test_ranked_views_are_no_worse_than_those_drawn(stage: Rehearsal) -> None:
    eye, generator = Eye(stage.model, torch.tensor([0.0, 0.0, 0.05])), torch.Generator().manual_seed(3)
    actor = Actor(stage.expert.policy, generator)
    q = QFunction(actor, 2, generator)
    chooser = Viewpoint(q, actor, eye, SHELL, ViewSettings(candidates=6, refined=2, steps=2, travel=0.0))
    at = situation(stage)
    view, score = chooser.ranked(at, SHELL.draw(1, generator)[0], generator)
    assert view.shape == (6, 3) and bool((score[:-1] >= score[1:]).all())
    plain = Viewpoint(q, actor, eye, SHELL, ViewSettings(candidates=6, refined=0, steps=0, travel=0.0))
    again, before = plain.ranked(at, view[-1], torch.Generator().manual_seed(4))
    refined, after = plain.refine(at, again, before, plain.value(at, again)[1])
    assert bool((after >= before - 1e-6).all()) and refined.shape == again.shape
