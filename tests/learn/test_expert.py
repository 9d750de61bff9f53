"""The expert learns, by gradients alone, and the labels it gives are worth following."""

import pytest
import torch

import samrl.learn.expert as expert_module
from samrl.learn.expert import Expert, TrainSettings, even, optimize_trajectories, random_start, select, train
from samrl.sim2real.control_loop import make_model
from samrl.tasks.peg_insertion import PegInsertion

TASK = PegInsertion()


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return make_model(TASK)


def starts(model, count: int, seed: int):
    return random_start(model, TASK, count, torch.Generator().manual_seed(seed))


def test_training_cuts_the_cost(model) -> None:
    expert = Expert(model, TASK, 0)
    with torch.no_grad():
        before = expert.rollout(*starts(model, 16, 5), 30)[2].mean()
    train(expert, TrainSettings(iterations=30, batch=32), 0)
    with torch.no_grad():
        after = expert.rollout(*starts(model, 16, 5), 30)[2].mean()
    assert float(after) < 0.4 * float(before)


def test_same_seed_same_weights(model) -> None:
    weights = []
    for _ in range(2):
        expert = Expert(model, TASK, 3)
        train(expert, TrainSettings(iterations=3, batch=8, window=4), 3)
        weights.append(torch.cat([p.detach().flatten() for p in expert.policy.parameters()]))
    assert torch.equal(*weights)


def test_effort_costs_the_squares_of_actions(model) -> None:
    expert = Expert(model, TASK, 0)
    for p in expert.policy.parameters():
        p.data.mul_(3)
    with torch.no_grad():
        twin, command = starts(model, 4, 5)
        share = expert.act(twin, command) / expert.policy.limits
        free, dear = (expert.rollout(twin, command, 1, effort=e)[2][0] for e in (0.0, 0.5))
    assert float(share.abs().max()) > 0.01
    assert torch.allclose(dear - free, 0.5 * share.square().sum(-1), rtol=1e-3, atol=1e-6)


def test_an_episode_ends_with_success(model, monkeypatch) -> None:
    """What comes after it no episode of the worlds has."""
    drawn: list[int] = []
    draw = expert_module.random_start
    monkeypatch.setattr(expert_module, "random_start", lambda *args: drawn.append(1) or draw(*args))
    monkeypatch.setattr(PegInsertion, "success", lambda self, m: torch.ones_like(self.cost(m), dtype=torch.bool))
    train(Expert(model, TASK, 0), TrainSettings(iterations=3, batch=4, window=2), 0)
    assert len(drawn) == 1 + 3


def test_an_untrained_policy_does_nothing_much(model) -> None:
    expert = Expert(model, TASK, 0)
    with torch.no_grad():
        done = expert.rollout(*starts(model, 8, 5), 60)[3]
    assert not bool(done.any()), "a peg that inserts itself would make every figure worthless"


def test_trajectories_descend_to_success(model) -> None:
    twin, command = starts(model, 8, 11)
    actions, costs, done = optimize_trajectories(model, TASK, twin, command, steps=30, iterations=60)
    assert actions.shape == (30, 8, 6) and bool(torch.isfinite(costs).all())
    assert float(costs[-1].mean()) < 0.25 * float(costs[0].mean())
    assert int(done.sum()) >= 4


def test_actions_keep_their_limits(model) -> None:
    expert = Expert(model, TASK, 0)
    for p in expert.policy.parameters():
        p.data.mul_(50)
    twin, command = starts(model, 8, 5)
    with torch.no_grad():
        R_WE = model.chain.tool(model.arm(twin.state).q)[:, :3, :3]
        a = (R_WE.mT @ expert.act(twin, command).unflatten(-1, (2, 3, 1))[..., 0].mT).mT.flatten(1)  # in the tool's axes
    assert float(a[:, :3].abs().max()) <= model.gains.max_translation * (1 + 1e-6)  # float32
    assert float(a[:, 3:].abs().max()) <= model.gains.max_rotation * (1 + 1e-6)


def test_select_takes_whole_environments(model) -> None:
    a, b = starts(model, 4, 1), starts(model, 4, 2)
    which = torch.tensor([True, False, True, False])
    twin, command = select(which, a, b)
    for i, source in enumerate((a, b, a, b)):
        assert torch.equal(twin.state.q[i], source[0].state.q[i])
        assert torch.equal(twin.params.link_p[i], source[0].params.link_p[i])
        assert torch.equal(command.X_WE[i], source[1].X_WE[i])


def test_every_environment_counts_alike() -> None:
    g = torch.tensor([[3.0, 4.0], [0.0, 1e4], [0.0, 0.5], [1e-9, 0.0], [0.0, 0.0]])
    out = even(g)
    median = float(g.norm(dim=-1).median())
    assert median == 0.5
    assert torch.allclose(out[:3].norm(dim=-1), torch.tensor(median)), "long and middling ones get the median's length"
    assert float(out[3, 0]) == pytest.approx(4e-9), "what is next to nothing stays so"
    assert not bool(out[4].any()), "and nothing stays nothing"
    assert torch.allclose(out[0] / out[0].norm(), g[0] / g[0].norm()), "no direction changes"
