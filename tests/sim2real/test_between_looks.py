"""Mass in the hand and friction, hidden in a second twin, are found again from how the arm moved."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from samrl.core.errors import SamrlError
from samrl.core.types import ArmState, Observation
from samrl.model.model import Command
from samrl.model.physics import Physics
from samrl.model.scene import State, Twin
from samrl.real2sim.between_looks import BetweenLooks, Record, missed
from samrl.sim2real.control_loop import make_model
from samrl.tasks.peg_insertion import PegInsertion
from samrl.worlds import registry, settings
from samrl.worlds.settings import Hidden

TASK = PegInsertion()
WORDS = {"masses:peg": 0.29, "friction": 0.29, "damping": 0.3}
ASKED = ("masses:peg", "friction")
MASS, FRICTION = 1.4, 0.6


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return make_model(TASK, dtype=torch.float64)


@pytest.fixture(scope="module")
def world(model):
    """The same twin, but friction in it holds what is slow, as in a real contact."""
    out = copy(model)
    out.physics = Physics(model.scene, timestep=model.physics.timestep, slip_speed=2e-4)
    return out


def with_truth(model):
    p, peg = model.params, model.scene.link("peg")
    mass = torch.where(torch.arange(len(p.mass)) == peg, MASS * p.mass, p.mass)
    return p.replace(mass=mass, friction=FRICTION * p.friction)


def seen(arm: State, command: Command, model) -> Observation:
    return Observation(ArmState(*(x.numpy().copy() for x in (arm.q, arm.qd, command.q_ref, command.X_WE))), np.eye(4), 0.0)


def drag(model, params, down: float, steps: int = 24):
    """The peg goes down onto the block's top beside the hole, if so far, and then to and fro along it."""
    twin = Twin(params, model.state(torch.as_tensor(TASK.draw(0).q_start)))
    command, record = model.at_rest(twin.state), Record()
    goal, tip = torch.tensor([0.526, -0.02, 0.075 + down]), TASK.tip().double()
    for k in range(steps):
        aim = goal + torch.tensor([0.0, 0.05 * (k > 16) * (k - 16) / 8, 0.0])
        way = aim - command.X_WE[:3, 3] - command.X_WE[:3, :3] @ tip
        action = torch.cat([way * min(1.0, 0.009 / max(float(way.norm()), 1e-9)), torch.zeros(3)]).double()
        with torch.no_grad():
            after, then = model.step(twin, command, action)
        record.add(seen(model.arm(twin.state), command, model), action.numpy(), seen(model.arm(after.state), then, model))
        twin, command = after, then
    return record.steps()


def test_mass_and_friction_come_back_and_the_twin_predicts(model, world) -> None:
    steps = drag(world, with_truth(model), down=-0.006)
    found = BetweenLooks(model, WORDS, ASKED).fit(model.params, steps)
    for word, truth in zip(ASKED, (MASS, FRICTION), strict=True):
        value, low, high = found.factors[word]
        assert np.log(value) == pytest.approx(found.told[word] * np.log(truth), abs=0.03), (word, found.factors[word])
        assert low < truth < high and found.told[word] > 0.8
    before, after = (missed(model, p, steps).square().mean().sqrt() for p in (model.params, found.params))
    assert after < before / 2


def test_without_contact_friction_is_what_was_believed(model) -> None:
    found = BetweenLooks(model, WORDS, ASKED).fit(model.params, drag(model, with_truth(model), down=0.05))
    value, low, high = found.factors["friction"]
    assert found.told["friction"] < 1e-6 and value == pytest.approx(1.0, abs=1e-6)
    assert np.log([low, high]) == pytest.approx([-1.645 * 0.29, 1.645 * 0.29], abs=2e-3)
    assert found.factors["masses:peg"][0] == pytest.approx(MASS, rel=0.05)


def test_a_controller_that_was_told_a_wrong_mass_sags(model) -> None:
    """By what the load's weight does to springs of the joints' stiffness."""
    q = torch.as_tensor(TASK.draw(0).q_start)
    torque = model.weight(with_truth(model), q) - model.weight(model.params, q)
    J = model.chain.jacobian(model.chain.links(q))[:3]
    X = model.link_poses(Twin(model.params, model.state(q)))
    arm = X[model.scene.link("peg"), :3, 3] - model.chain.tool(q)[:3, 3]
    turn = model.chain.jacobian(model.chain.links(q))[3:]
    force = torch.tensor([0.0, 0.0, -9.81 * (MASS - 1) * 0.06], dtype=torch.float64)
    torch.testing.assert_close(torque, force @ J + torch.linalg.cross(arm, force) @ turn, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", registry.names())
def test_what_a_world_hides_makes_its_arm_sag(name: str) -> None:
    """By the hidden weight at the tool, through the controller's springs; nothing else of the world changes."""
    z = {}
    for share in (0.0, 0.5):
        world = registry.make(name, TASK, replace(settings.load("nominal"), hidden=Hidden(payload=share)))
        observation = world.reset(3)
        z[share] = world._chain.tool(torch.as_tensor(observation.arm.q))[2, 3]
        hidden = world._draw(3).scene.body("peg").mass - TASK.scene.body("peg").mass
        world.close()
    assert abs(hidden) > 1e-3
    assert z[0.5] < z[0.0] if hidden > 0 else z[0.5] > z[0.0]


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_a_mass_that_the_controller_was_not_told_of_moves_the_hand(model, factor: float) -> None:
    """Down where it is heavier, up where it is lighter."""
    peg = model.scene.link("peg")
    mass = torch.where(torch.arange(len(model.params.mass)) == peg, factor * model.params.mass, model.params.mass)
    heights = []
    for params in (model.params, model.params.replace(mass=mass)):
        twin = Twin(params, model.state(torch.as_tensor(TASK.draw(0).q_start)))
        command = model.at_rest(twin.state)
        for _ in range(8):
            twin, command = model.step(twin, command, torch.zeros(6, dtype=torch.float64))
        heights.append(float(model.chain.tool(model.arm(twin.state).q)[2, 3]))
    assert 5e-5 < (heights[1] - heights[0]) * (1 if factor < 1 else -1) < 1e-3


@pytest.mark.parametrize(
    ("words", "asked", "sentence"),
    [
        ({}, (), "nothing to fit"),
        ({"coms:peg": 0.1}, (), "'coms:peg' is no positive number"),
        ({"masses:peg": 0.3}, ("friction",), "an interval of 'friction'"),
        ({"masses": 0.3}, ("masses",), "numbers, and an interval is given of one"),
    ],
)
def test_what_cannot_be_fitted_between_looks_is_refused(model, words: dict, asked: tuple, sentence: str) -> None:
    with pytest.raises(SamrlError, match=sentence):
        BetweenLooks(model, words, asked)
