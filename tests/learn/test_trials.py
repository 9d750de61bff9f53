"""Episodes of a task that is learned by trying: starts, rewards, what the policy is told."""

from __future__ import annotations

import pytest
import torch

from samrl.learn.expert import Expert
from samrl.learn.policies import TriedPolicy
from samrl.learn.trials import LOST, OWN, WON, Trials, TrySettings, train
from samrl.learn.variation import HARD, SOFT, Doubt, Variation
from samrl.sim2real.control_loop import make_model
from samrl.tasks.spatula_flipping import SpatulaFlipping

TASK = SpatulaFlipping()
STILL = Variation(5, 500.0, 5e-3)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return make_model(TASK)


def test_rewards_of_a_way_sum_to_what_the_cost_fell_by(model) -> None:
    trials = Trials(model, TASK, 6, 0, STILL, discount=1.0)
    first, total = TASK.cost(trials.now.measures), torch.zeros(6)
    for _ in range(4):
        reward, ended, _, _ = trials.step(0.2 * torch.ones(6, 6))
        total += reward
        assert not bool(ended.any())
    assert torch.allclose(total, first - TASK.cost(trials.now.measures), atol=1e-4)


def test_a_start_that_is_drawn_anew_has_nothing_of_the_old_one(model) -> None:
    trials = Trials(model, TASK, 8, 0, HARD, mix=0.4)
    before, which = trials.now, torch.arange(8) < 3
    trials.age[:] = 5
    trials.reset(which)
    now = trials.now
    for name in ("friction", "mass", "com", "link_p", "geom_size", "contact_stiffness", "stiffness", "armature"):
        x, y = getattr(before.twin.params, name).flatten(1), getattr(now.twin.params, name).flatten(1)
        assert torch.equal(x[3:], y[3:]) and bool((x[:3] != y[:3]).any(-1).all()), name
    assert torch.equal(before.twin.state.q[3:], now.twin.state.q[3:]) and not torch.equal(
        before.twin.state.q[:3], now.twin.state.q[:3]
    )
    assert trials.age.tolist() == [0] * 3 + [5] * 5 and float(now.twin.params.friction.min()) > 0.05
    assert torch.equal(before.mistake[3:], now.mistake[3:]) and now.kind.shape == (8,)


def test_what_it_is_told_is_off_as_far_as_it_should_be_and_half_of_that_stays(model) -> None:
    doubt = Doubt(load=0.001, target=0.004, axes=0.02, speed=0.1, spin=1.0)
    trials = Trials(model, TASK, 256, 0, STILL, doubt=doubt)
    off = []
    for _ in range(2):
        trials._look()
        off.append(trials.told.marks - trials.truth.marks)
    both = torch.stack(off)
    assert float(both[:, :, 0].std()) == pytest.approx(0.001, rel=0.15) and float(both[:, :, 1].std()) == pytest.approx(
        0.004, rel=0.15
    )
    kept = (both[0, :, 1] * both[1, :, 1]).mean() / both[:, :, 1].square().mean()
    assert float(kept) == pytest.approx(0.5, abs=0.12)
    turned = torch.linalg.cross(trials.truth.marks[:, 3], trials.told.marks[:, 3]).norm(dim=-1)
    assert float(turned.square().mean().sqrt()) == pytest.approx(0.02 * 2**0.5, rel=0.2)
    assert torch.allclose(trials.told.marks[:, 2:].norm(dim=-1), torch.ones(256, 2))


def test_it_goes_on_in_a_harder_twin_when_half_are_won(model) -> None:
    trials = Trials(model, TASK, 4, 0, SOFT, mix=0.4, grow=True)
    trials.adapt([0.4, 0.0, 0.0])
    assert trials.variation == SOFT and trials.mix == pytest.approx(0.6)
    trials.adapt([0.6, 0.0, 0.0])
    assert trials.variation == HARD.scaled(0.25) and trials.model.substeps == HARD.substeps
    for _ in range(60):
        trials.adapt([0.46, 0.0, 0.0])
    assert trials.variation == HARD
    assert trials.model.physics.timestep == pytest.approx(model.gains.period / HARD.substeps)


def test_ends_are_worth_what_they_are(model) -> None:
    """A pancake that lies upside down, at rest, and was lifted; and one that has fallen beside the pan."""
    trials = Trials(model, TASK, 2, 0, STILL)
    q = trials.now.twin.state.q
    at = model.scene.coordinates("pancake")[0]
    q[:, at] = torch.tensor([[0.5, 0.0, 0.2045, 0.0, 1.0, 0.0, 0.0], [0.5, 0.30, 0.3, 1.0, 0.0, 0.0, 0.0]])
    trials.now.measures.update(TASK.measures(model.poses(trials.now.twin)))
    trials.now.measures["lifted"][:] = 1
    value = -TASK.cost(trials.now.measures)
    reward, ended, _, won = trials.step(torch.zeros(2, 6))
    for _ in range(6):
        if bool(won[0]):
            break
        value = -TASK.cost(trials.now.measures)
        reward, ended, _, won = trials.step(torch.zeros(2, 6))
    assert won.tolist() == [True, False] and bool(ended.all())
    assert float(reward[0]) == pytest.approx(WON - float(value[0]), abs=1e-4)
    assert float(reward[1]) == pytest.approx(LOST - max(0.0, float(value[1])), abs=1e-4)


def test_the_same_seed_trains_the_same_policy_and_it_is_the_experts(model) -> None:
    weights = []
    for _ in range(2):
        expert = Expert(model, TASK, 3)
        assert isinstance(expert.policy, TriedPolicy)
        before = torch.cat([p.detach().flatten() for p in expert.policy.parameters()]).clone()
        history = train(expert, TrySettings(iterations=2, batch=8), 1)
        weights.append(torch.cat([p.detach().flatten() for p in expert.policy.parameters()]))
        assert len(history) == 2 and all(0 <= w <= 1 for w in history) and OWN == 0
        assert float((weights[-1] - before).abs().max()) > 1e-4
    assert torch.equal(*weights)
