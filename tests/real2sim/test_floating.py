"""What floats is followed: guesses of where it is by now, velocities from looks, and looks from afar once it was lost."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from samrl.core import lie
from samrl.learn.expert import random_start
from samrl.model.placement import body_pose, set_body_pose
from samrl.model.scene import State, Twin
from samrl.real2sim.floating import floating, guesses, hastened
from samrl.real2sim.tracker import Tracker
from samrl.real2sim.update import update
from samrl.sim2real.control_loop import make_model, native_camera, settled
from samrl.sim2real.evaluate import pose_error
from samrl.sim2real.twin_world import TwinWorld
from samrl.tasks import registry
from samrl.tasks.spatula_flipping import PAN, about
from samrl.worlds import settings as world_settings
from samrl.worlds.camera_arm import CameraArm
from samrl.worlds.sensor import SensorNoise

TASK = registry.make("spatula-flipping")
STILL = np.zeros(6)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return make_model(TASK)


@pytest.fixture
def world():
    s = world_settings.load("nominal")
    made = TwinWorld(TASK, CameraArm(TASK.scene, s.camera_arm), lambda seed: SensorNoise(s.sensor, seed))
    yield made
    made.close()


def flying(model, twin: Twin, height: float, v: list[float], w: list[float]) -> Twin:
    """The pancake so high above the pan's middle, moving by v [m/s] and, about its own axes, w [rad/s]."""
    p = torch.tensor(PAN) + torch.tensor([0.0, 0.0, height])
    twin = set_body_pose(model.scene, twin, "pancake", lie.pose(torch.eye(3), p))
    qd = twin.state.qd.clone()
    qd[..., model.scene.coordinates("pancake")[1]] = torch.tensor([*v, *w])
    return twin.replace(state=State(twin.state.q, qd))


def start(model, seed: int = 0) -> Twin:
    twin, _ = random_start(model, TASK, 1, torch.Generator().manual_seed(seed))
    params = twin.params.replace(link_p=twin.params.link_p[0], link_R=twin.params.link_R[0])
    return Twin(params, State(twin.state.q[0], twin.state.qd[0]))


def test_guesses_are_what_physics_the_tool_flight_and_rest_make_of_it(model) -> None:
    assert floating(model) == ("pancake",)
    units = [u for u in model.units if u.name == "pancake"]
    last = flying(model, start(model), 0.12, [0.2, 0.0, 0.5], [3.0, 0.0, 0.0])
    arm = model.arm(last.state).q.clone()
    arm[0] += 0.05
    now = last.replace(state=model.state(arm, None, last.state))
    predicted, carried, free, resting = guesses(model, last, now, units)
    assert predicted is now
    X, period = body_pose(model.scene, last, "pancake"), model.gains.period
    turn = model.chain.tool(arm) @ lie.inverse(model.chain.tool(model.arm(last.state).q))
    assert torch.allclose(body_pose(model.scene, carried, "pancake"), turn @ X, atol=1e-6)
    assert torch.allclose(body_pose(model.scene, resting, "pancake"), X)
    assert float(model.motion(resting.state).abs().max()) == 0
    fallen = body_pose(model.scene, free, "pancake")
    assert float(fallen[2, 3] - X[2, 3]) == pytest.approx(0.5 * period - 0.5 * 9.81 * period**2, abs=1e-5)
    assert math.degrees(float(lie.log_so3(fallen[:3, :3] @ X[:3, :3].T)[0])) == pytest.approx(math.degrees(3 * period), abs=0.01)
    assert float(model.motion(free.state)[2]) == pytest.approx(0.5 - 9.81 * period, abs=1e-4)
    moved = lie.local(X, turn @ X) / period
    assert torch.allclose(model.motion(carried.state), moved, atol=1e-4)


def test_looks_tell_of_the_velocity(model) -> None:
    """A body that goes on by 20 mm and .1 rad a period, predicted at rest at first: looks find its velocity."""
    (unit,), twin = [u for u in model.units if u.name == "pancake"], flying(model, start(model), 0.1, [0.0] * 3, [0.0] * 3)
    d, X = torch.tensor([0.02, 0, 0, 0, 0.1, 0]), body_pose(model.scene, twin, "pancake")
    for _ in range(12):
        ahead = lie.retract(body_pose(model.scene, twin, "pancake"), model.motion(twin.state) * model.gains.period)
        before = set_body_pose(model.scene, twin, "pancake", ahead)
        X = lie.retract(X, d)
        twin = hastened(model, before, set_body_pose(model.scene, before, "pancake", X), [unit])
    assert torch.allclose(model.motion(twin.state), d / model.gains.period, atol=5e-3)


def followed(model, world, truth: Twin, looks: int) -> list[dict[str, float]]:
    """Errors of looks at a truth that goes on by itself, the first of which is that of an episode's beginning."""
    observation = world.reset(3)
    twin = settled(model, model.params, torch.as_tensor(observation.arm.q))
    tracker = Tracker(model, native_camera(TASK, observation.X_WC), known=TASK.known())
    twin, *_ = tracker.observe(world, twin, observation.X_WC)
    sides = [i for i, name in enumerate(model.scene.geom_names) if name.startswith("pancake/")]
    paint = twin.params.color[sides]
    world._twin = truth(world)
    errors = []
    for _ in range(looks):
        twin, *_ = tracker.observe(world, twin, observation.X_WC)
        found = model.poses(twin)["pancake"].double().numpy()
        errors.append(pose_error(found, world.poses()["pancake"].numpy(), 0))
        command = model.at_rest(twin.state)
        twin, _ = model.step(twin, command, torch.zeros(6))
        observation = world.act(STILL).observation
        twin = twin.replace(state=model.state(torch.as_tensor(observation.arm.q), None, twin.state))
    assert torch.equal(twin.params.color[sides], paint)  # who paints it anew can take one side for the other
    return errors


def test_a_throw_that_nobody_foresaw_is_followed_and_its_side_is_known(model, world) -> None:
    """Up by 1.2 m/s, turning by 10 rad/s: over in a third of a second."""
    thrown = lambda w: flying(w._model, w._twin, 0.05, [0.0, 0.1, 1.2], [10.0, 0.0, 0.0])  # noqa: E731
    errors = followed(model, world, thrown, 5)
    assert max(e["mm"] for e in errors) < 12 and np.median([e["mm"] for e in errors]) < 2, errors
    assert max(e["deg"] for e in errors) < 25 and np.median([e["deg"] for e in errors]) < 5, errors


def test_what_was_lost_is_found_again(model, world) -> None:
    """Seven centimetres away at once, and leaning: more than a control period brings."""

    def elsewhere(w: TwinWorld) -> Twin:
        twin = flying(w._model, w._twin, 0.09, [0.0] * 3, [0.0] * 3)
        X = lie.pose(about(0, torch.tensor(0.5)), torch.tensor(PAN) + torch.tensor([0.05, -0.05, 0.09]))
        return set_body_pose(w._model.scene, twin, "pancake", X)

    errors = followed(model, world, elsewhere, 4)
    assert errors[-1]["mm"] < 2 and errors[-1]["deg"] < 4, errors


def test_what_turned_over_where_it_lies_is_known_by_its_paint(model, world) -> None:
    """No guess of where it is by now is over, and its shape is right as it is believed to be."""

    def over(w: TwinWorld) -> Twin:
        X = body_pose(w._model.scene, w._twin, "pancake")
        return set_body_pose(
            w._model.scene, w._twin, "pancake", lie.pose(X[:3, :3] @ about(0, torch.tensor(math.pi)).float(), X[:3, 3])
        )

    errors = followed(model, world, over, 2)
    assert errors[-1]["mm"] < 2 and errors[-1]["deg"] < 4, errors


@pytest.mark.parametrize(("metres", "learned"), [(0.001, True), (0.06, False)])
def test_only_looks_that_look_right_tell_of_the_light(model, world, metres: float, learned: bool) -> None:
    """By a light that explains a bad match, the dark side is the light one."""
    observation = world.reset(3)
    twin = settled(model, model.params, torch.as_tensor(observation.arm.q))
    tracker = Tracker(model, native_camera(TASK, observation.X_WC), known=TASK.known())
    twin, *_ = tracker.observe(world, twin, observation.X_WC)
    X = body_pose(model.scene, twin, "pancake")
    off = set_body_pose(model.scene, twin, "pancake", lie.pose(X[:3, :3], X[:3, 3] + torch.tensor([0.0, metres, metres])))
    crops = tracker.crops(world.look(observation.X_WC, tracker.rois(twin)))
    new, report = update(model, off, crops, replace(tracker.later, painted=("pancake",), fine_steps=3, doubt_step=0.0))
    assert "pancake" not in report.lost
    assert torch.equal(new.params.ambient, off.params.ambient) is not learned


def test_what_was_out_of_sight_and_comes_back_over_is_known_by_its_paint(model, world) -> None:
    observation = world.reset(3)
    twin = settled(model, model.params, torch.as_tensor(observation.arm.q))
    tracker = Tracker(model, native_camera(TASK, observation.X_WC), known=TASK.known())
    twin, *_ = tracker.observe(world, twin, observation.X_WC)
    sides = [i for i, name in enumerate(model.scene.geom_names) if name.startswith("pancake/")]
    paint, there = twin.params.color[sides], world._twin
    gone = lie.pose(torch.eye(3), torch.tensor([0.5, 0.0, -5.0]))
    world._twin = set_body_pose(world._model.scene, there, "pancake", gone)
    twin, report, *_ = tracker.observe(world, twin, observation.X_WC)
    assert "pancake" in report.lost
    over = lie.pose(about(0, torch.tensor([math.pi]))[0], torch.tensor(PAN) + torch.tensor([0.03, -0.02, 0.03]))
    world._twin = set_body_pose(world._model.scene, there, "pancake", over)
    for _ in range(2):
        twin, *_ = tracker.observe(world, twin, observation.X_WC)
    error = pose_error(model.poses(twin)["pancake"].double().numpy(), world.poses()["pancake"].numpy(), 0)
    assert torch.equal(twin.params.color[sides], paint) and error["mm"] < 3 and error["deg"] < 10, error
