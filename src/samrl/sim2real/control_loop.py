"""The control loop: choose a view, look, update the twin, act on the estimate (SAM-RL Algorithm 1 without the residual)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from samrl.core.camera import Camera
from samrl.core.types import Observation
from samrl.core.world import World
from samrl.model.model import Command, Model
from samrl.model.scene import Twin
from samrl.real2sim.tracker import Segment, Tracker, timed
from samrl.sim2real.agent import Agent
from samrl.tasks.mjcf import to_mjcf
from samrl.tasks.spec import chain_of
from samrl.tasks.task import Task


@dataclass(frozen=True)
class StepRecord:
    """One control step: the applied action (6), seconds by stage, the update's loss, visible pixels and spread by body."""

    step: int
    action: list[float]
    times: dict[str, float]
    loss: float
    visible: dict[str, float]
    uncertainty: dict[str, float]


@dataclass
class Episode:
    """What happened: `poses[i]` are the estimates X_WB by body after i updates, the first before any; `frames` are pictures
    (uint8 images world, before, after) at chosen steps."""

    seed: int
    steps: list[StepRecord] = field(default_factory=list)
    frames: list[dict[str, Any]] = field(default_factory=list)
    poses: list[dict[str, list[list[float]]]] = field(default_factory=list)


OnStep = Callable[[StepRecord, Observation, dict[str, np.ndarray]], bool | None]


def make_model(task: Task, *, substeps: int = 20, supersampling: int = 2, dtype: torch.dtype = torch.float32) -> Model:
    """The twin of a task's nominal scene."""
    spec = task.scene
    return Model(
        to_mjcf(spec),
        chain_of(spec, spec.actor),
        spec.updatable,
        substeps=substeps,
        supersampling=supersampling,
        dtype=dtype,
    )


def native_camera(task: Task, X_WC: np.ndarray) -> Camera:
    """The task's camera, whole frame, at X_WC (4, 4)."""
    spec = task.scene.camera
    return Camera.from_fov(spec.width, spec.height, spec.fov_x, torch.as_tensor(X_WC, dtype=torch.float64))


def run_episode(
    world: World,
    model: Model,
    task: Task,
    agent: Agent,
    seed: int,
    *,
    horizon: int | None = None,
    snapshots: Sequence[int] = (),
    on_step: OnStep | None = None,
    segment: Segment | None = None,
) -> Episode:
    """One episode in the world. `on_step` hears of every step and ends the episode by returning True; it may hold a judge,
    the loop itself never does. `segment` replaces the world's masks."""
    observation = world.reset(seed)
    agent.begin(seed)
    twin = Twin(model.params, model.state(torch.as_tensor(observation.arm.q, dtype=model.dtype)))
    tracker = Tracker(model, native_camera(task, observation.X_WC), known=task.known(), segment=segment)
    episode = Episode(seed, poses=[_as_lists(model.poses(twin))])
    for step in range(horizon or task.horizon):
        times: dict[str, float] = {}
        before, command = twin, command_of(model, observation)
        with timed(times, "view"):
            X_WC = agent.view(twin, command, observation.X_WC, step, world.reach)
        twin, report, images, spent = tracker.observe(world, twin, X_WC)
        X_WC = images[0].camera.X_WC.numpy()  # as reached
        times.update(spent)
        with timed(times, "policy"):
            action = agent.act(twin, command, X_WC)
        episode.poses.append(_as_lists(model.poses(twin)))
        if step in snapshots:
            episode.frames.append({"step": step, **tracker.pictures(images, before, twin)})
        with timed(times, "act"):
            transition = world.act(action.double().numpy())
        with timed(times, "step"):
            twin = _follow(model, twin, command, transition.action, transition.observation)
        observation = transition.observation
        record = StepRecord(
            step, transition.action.tolist(), times, report.loss_after, report.visible,
            {b: float(np.linalg.norm(s[:3])) for b, s in report.spread.items()},
        )  # fmt: skip
        episode.steps.append(record)
        if on_step and on_step(record, observation, {b: np.asarray(X) for b, X in episode.poses[-1].items()}):
            break
    return episode


def command_of(model: Model, observation: Observation) -> Command:
    """The controller's memory as the arm reports it."""
    arm = observation.arm
    to = lambda x: torch.as_tensor(x, dtype=model.dtype)  # noqa: E731
    return Command(to(arm.q_ref), to(arm.X_WE_command))


def _follow(model: Model, twin: Twin, command: Command, action: np.ndarray, observation: Observation) -> Twin:
    """Step the twin with the action that was applied, then set the arm to what it measures."""
    with torch.no_grad():
        twin, _ = model.step(twin, command, torch.as_tensor(action, dtype=model.dtype))
    arm = observation.arm
    return twin.replace(state=model.state(torch.as_tensor(arm.q), torch.as_tensor(arm.qd)))


def _as_lists(poses: dict[str, torch.Tensor]) -> dict[str, list[list[float]]]:
    return {name: X.detach().double().numpy().tolist() for name, X in poses.items()}
