"""The control loop (SAM-RL Algorithm 1): choose a view, look, update the twin, decide in it, correct by the residual, act, and
step the twin with the action that was applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from samrl.core.camera import Camera
from samrl.core.errors import NonFiniteError
from samrl.core.types import RGBD, Observation, Transition
from samrl.core.world import World
from samrl.learn.q_function import Situation
from samrl.model.model import Command, Model
from samrl.model.scene import Params, Twin
from samrl.model.units import Unit
from samrl.real2sim.between_looks import BetweenLooks, Record
from samrl.real2sim.tracker import Segment, Tracker, timed
from samrl.real2sim.update import UpdateReport
from samrl.sim2real.agent import Agent
from samrl.tasks.mjcf import to_mjcf
from samrl.tasks.spec import SceneSpec, chain_of
from samrl.tasks.task import Task

SETTLE = 3  # control periods
REFIT = 10  # control steps from one fit of the physics to the next


@dataclass(frozen=True)
class StepRecord:
    """One control step: the applied action (6), seconds by stage, the update's loss, visible pixels and uncertainty [m] by unit,
    whether the camera took a new view, and what the agent says of its choice; rehung: the twin's prediction after it left the
    finite numbers."""

    step: int
    action: list[float]
    times: dict[str, float]
    loss: float
    visible: dict[str, float]
    uncertainty: dict[str, float]
    moved: bool = False
    told: dict[str, float] = field(default_factory=dict)
    rehung: bool = False


@dataclass
class Episode:
    """What happened: `poses[i]` are the estimates X_WB by body after i updates, the first before any; `frames` are pictures
    (uint8 images world, before, after) at chosen steps."""

    seed: int
    steps: list[StepRecord] = field(default_factory=list)
    frames: list[dict[str, Any]] = field(default_factory=list)
    poses: list[dict[str, list[list[float]]]] = field(default_factory=list)


OnStep = Callable[[StepRecord, Observation, dict[str, np.ndarray]], bool | None]


class Residual(Protocol):
    """Corrects the action of the twin by what only the real image shows."""

    def __call__(self, loop: Loop, action: Tensor) -> Tensor:
        """What to do (6) instead of `action` (6), which is within its limits, as the result is to be."""
        ...


class Loop:
    """Algorithm 1, one half step at a time: `sense` ends with the action of the twin, `act` begins with the action that is taken.

    Attributes, after `sense`:
        twin, before: the twin after and before the update; images: what was seen; report: of the update; moved: by a new view.
        times: seconds by stage of this control step.
    after `act`:
        rehung: the twin's prediction left the finite numbers (see `_follow`).
    """

    def __init__(
        self, world: World, model: Model, task: Task, agent: Agent, *, segment: Segment | None = None, updates: bool = True,
        motion: BetweenLooks | None = None,
    ) -> None:  # fmt: skip
        self.world, self.model, self.task, self.agent, self.motion = world, model, task, agent, motion
        self.segment, self.updates = segment, updates
        self.report: UpdateReport
        self.images: list[RGBD]

    def begin(self, seed: int) -> None:
        """A new episode."""
        self.observation = self.world.reset(seed)
        self.agent.begin(seed)
        self.before = self.twin = settled(self.model, self.model.params, torch.as_tensor(self.observation.arm.q))
        camera = native_camera(self.task, self.observation.X_WC)
        self.tracker = Tracker(self.model, camera, known=self.task.known(), segment=self.segment)
        self.step, self.record = 0, Record()

    def sense(self) -> Tensor:
        """Choose a view, look, update, and decide: the action (6) of the twin."""
        self.times: dict[str, float] = {}
        self.before, self.command = self.twin, command_of(self.model, self.observation)
        with timed(self.times, "view"):
            X_WC = self.agent.view(self.situation(), self.observation.X_WC, self.step, self.world.reach)
        self.moved = not np.array_equal(X_WC, self.observation.X_WC)
        twin, self.report, self.images, spent = self.tracker.observe(self.world, self.twin, X_WC)
        self.times.update(spent)
        if self.updates:
            self.twin = twin
        self.X_WC = self.images[0].camera.X_WC.numpy()  # as reached
        with timed(self.times, "policy"):
            return self.agent.act(self.situation(), self.X_WC)

    def situation(self) -> Situation:
        return Situation(self.twin, self.command, self.tracker.information())

    def act(self, action: Tensor) -> Transition:
        """Act, and step the twin with the action that was applied."""
        with timed(self.times, "act"):
            transition = self.world.act(action.double().numpy())
        with timed(self.times, "step"):
            self.twin, self.rehung = _follow(self.model, self.twin, self.command, transition.action, transition.observation)
        if self.motion:
            with timed(self.times, "motion"):
                self.record.add(self.observation, transition.action, transition.observation)
                if (self.step + 1) % REFIT == 0:
                    self.twin, _ = self.motion.refit(self.twin, self.record.steps())
        self.observation, self.step = transition.observation, self.step + 1
        return transition


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
    updates: bool = True,
    residual: Residual | None = None,
    motion: BetweenLooks | None = None,
) -> Episode:
    """One episode in the world. `on_step` hears of every step and ends the episode by returning True; it may hold a judge,
    the loop itself never does. `segment` replaces the world's masks; without `updates` the twin stays as it was believed to be;
    `residual` corrects each action; `motion` fits the twin's physics to what the arm did."""
    loop = Loop(world, model, task, agent, segment=segment, updates=updates, motion=motion)
    loop.begin(seed)
    episode = Episode(seed, poses=[_as_lists(model.poses(loop.twin))])
    for step in range(horizon or task.horizon):
        action = loop.sense()
        if residual:
            with timed(loop.times, "residual"):
                action = residual(loop, action)
        episode.poses.append(_as_lists(model.poses(loop.twin)))
        if step in snapshots:
            episode.frames.append({"step": step, **loop.tracker.pictures(loop.images, loop.before, loop.twin)})
        transition = loop.act(action)
        report = loop.report
        record = StepRecord(
            step, transition.action.tolist(), loop.times, report.loss_after, report.visible,
            loop.tracker.uncertainty(), loop.moved, agent.tell(), loop.rehung,
        )  # fmt: skip
        episode.steps.append(record)
        if on_step and on_step(record, loop.observation, {b: np.asarray(X) for b, X in episode.poses[-1].items()}):
            break
    return episode


def make_model(task: Task, *, substeps: int | None = None, dtype: torch.dtype = torch.float32) -> Model:
    """The twin of a task's nominal scene."""
    spec = task.scene
    return Model(
        to_mjcf(spec),
        chain_of(spec, spec.actor),
        units_of(spec),
        substeps=substeps or task.substeps,
        gains=spec.actor.gains,
        slip_speed=spec.slip_speed,
        dtype=dtype,
    )


def settled(model: Model, params: Params, q: Tensor) -> Twin:
    """A twin with the arm at q (n), still, and what moves beside it as it hangs after SETTLE control periods."""
    twin = Twin(params, model.state(q))
    if model.scene.nv == len(q):
        return twin
    command = model.at_rest(twin.state)
    with torch.no_grad():
        for _ in range(SETTLE):
            twin, _ = model.step(twin, command, twin.state.q.new_zeros(6))
    return twin.replace(state=model.state(q, None, twin.state))


def units_of(scene: SceneSpec) -> tuple[Unit, ...]:
    """What the update may move in a scene; of several bodies in a unit the second tells how long segments are."""
    length = lambda bodies: scene.body(bodies[1]).p[0] if len(bodies) > 1 else 0.0  # noqa: E731
    return tuple(Unit(name, bodies, length(bodies), scene.body(bodies[0]).span) for name, bodies in scene.units.items())


def native_camera(task: Task, X_WC: np.ndarray) -> Camera:
    """The task's camera, whole frame, at X_WC (4, 4)."""
    spec = task.scene.camera
    return Camera.from_fov(spec.width, spec.height, spec.fov_x, torch.as_tensor(X_WC, dtype=torch.float64))


def command_of(model: Model, observation: Observation) -> Command:
    """The controller's memory as the arm reports it."""
    arm = observation.arm
    to = lambda x: torch.as_tensor(x, dtype=model.dtype)  # noqa: E731
    return Command(to(arm.q_ref), to(arm.X_WE_command))


def _follow(model: Model, twin: Twin, command: Command, action: np.ndarray, observation: Observation) -> tuple[Twin, bool]:
    """Step the twin with the action that was applied, then set the arm to what it measures. Where that leaves the finite numbers,
    because an update put light bodies deep into others, what moves beside the arm begins as it hangs, and the second is true."""
    arm = observation.arm
    q, qd, rehung = torch.as_tensor(arm.q), torch.as_tensor(arm.qd), False
    try:
        with torch.no_grad():
            twin, _ = model.step(twin, command, torch.as_tensor(action, dtype=model.dtype))
    except NonFiniteError:
        if model.scene.nv == len(q):
            raise
        twin, rehung = settled(model, twin.params, q), True
    return twin.replace(state=model.state(q, qd, twin.state)), rehung


def _as_lists(poses: dict[str, torch.Tensor]) -> dict[str, list[list[float]]]:
    return {name: X.detach().double().numpy().tolist() for name, X in poses.items()}
