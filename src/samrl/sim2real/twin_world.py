"""𝓜 as a world: a second twin, whose truth the controller does not know, behind the same protocol as any other world. What is
rehearsed "inside 𝓜" runs here, with looks, updates and all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from samrl.core import control
from samrl.core.camera import Camera, Roi
from samrl.core.errors import SamrlError, UnreachableError, check_finite
from samrl.core.types import RGBD, ArmState, Capabilities, Observation, Reach, Transition
from samrl.model.model import Model
from samrl.model.placement import set_unit_poses, unit_poses
from samrl.model.scene import Twin
from samrl.sim2real.control_loop import make_model, native_camera, settled
from samrl.tasks.task import Measures, Task


class Carrier(Protocol):
    """The arm that carries the camera, by its kinematics."""

    q: torch.Tensor

    def pose(self) -> torch.Tensor: ...

    def start(self, views: torch.Tensor, q_actor: torch.Tensor) -> None: ...

    def plan(self, X_WC: torch.Tensor, q_actor: torch.Tensor) -> Any: ...


class Sensor(Protocol):
    """What a camera makes of ideal pictures in one episode. padding: native pixels that it wants to know around a region."""

    padding: int

    def exposure(self, index: int) -> Any:
        """One exposure, with `apply(picture, left, top)` -> color (H, W, 3), depth (H, W), valid (H, W) of a picture with
        `padding` pixels around it."""
        ...


@dataclass(frozen=True)
class Picture:
    """What an ideal camera sees: color (H, W, 3), depth (H, W) [m], infinite where there is nothing, part (H, W) int."""

    color: np.ndarray
    depth: np.ndarray
    part: np.ndarray


class TwinWorld:
    """A World (core/world.py) whose physics and pictures are 𝓜's own.

    Args:
        sensor: seed of an episode -> the sensor's errors in it.
    """

    capabilities = Capabilities("twin")

    def __init__(self, task: Task, carrier: Carrier, sensor: Callable[[int], Sensor]) -> None:
        self.task, self._carrier, self._sensor = task, carrier, sensor
        self._model: Model | None = None
        self._before: Measures | None = None

    def reset(self, seed: int) -> Observation:
        """A new episode, all of it drawn from `seed`."""
        draw = self.task.draw(seed)
        rng = np.random.default_rng([seed, 5])
        self._model = make_model(replace(self.task, scene=draw.rigid or draw.scene))  # type: ignore[type-var]
        params = self._model.params
        light = torch.as_tensor(np.append(rng.normal(0, 0.5, 2), 1.0), dtype=self._model.dtype)
        ambient = float(rng.uniform(0.35, 0.65))
        params = replace(
            params, light_direction=light, ambient=torch.full((3,), ambient), diffuse=torch.full((3,), 1 - ambient)
        )  # fmt: skip
        self._twin = settled(self._model, params, torch.as_tensor(draw.q_start))
        self._command, self._before = self._model.at_rest(self._twin.state), None
        self._noise, self._exposures, self._time = self._sensor(seed), 0, 0.0
        self._carrier.start(torch.as_tensor(draw.views), self._q())
        return self._observe()

    def pretend(self, other: Model, truth: Twin) -> None:
        """Go on from another truth: arm and units where `truth` (no batch), a twin of the model `other`, has them. Paint, light
        and the sensor's errors stay, and so does what else moves."""
        model, arm = self._running(), other.arm(truth.state)
        twin = self._twin.replace(state=model.state(arm.q, arm.qd, self._twin.state))
        for unit in model.units:
            for body in unit.bodies:
                (q, qd), (other_q, other_qd) = (m.scene.coordinates(body) for m in (model, other))
                twin.state.q[q], twin.state.qd[qd] = truth.state.q[other_q], truth.state.qd[other_qd]
            twin = set_unit_poses(model.scene, twin, unit, unit_poses(other.scene, truth, unit))
        self._twin, self._command = twin, model.at_rest(twin.state)

    def reach(self, X_WC: np.ndarray) -> Reach:
        """Can the camera arm take the pose (4, 4)? Nothing moves."""
        return self._carrier.plan(torch.as_tensor(X_WC, dtype=torch.float64), self._q()).reach

    def look(self, X_WC: np.ndarray, rois: Sequence[Roi] | None = None) -> list[RGBD]:
        """Move the camera arm there and take one exposure of the regions, or of the whole image without any."""
        plan = self._carrier.plan(torch.as_tensor(X_WC, dtype=torch.float64), self._q())
        if not plan.reach.ok:
            raise UnreachableError(plan.reach.reason)
        self._carrier.q = plan.q
        camera = native_camera(self.task, self._carrier.pose().numpy())
        exposure = self._noise.exposure(self._exposures)
        self._exposures += 1
        whole = [(0, 0, camera.width, camera.height)]
        windows = whole if rois is None else [(r.left, r.top, r.side, r.side) for r in rois]
        return [self._region(exposure, camera, *w) for w in windows]

    def act(self, action: np.ndarray) -> Transition:
        """Apply one action (6) for one control period; returns the action that was really applied."""
        check_finite("the action", action)
        model = self._running()
        self._before = self.measures()
        applied = control.limit_action(torch.as_tensor(action, dtype=model.dtype), model.gains)
        with torch.no_grad():
            self._twin, self._command = model.step(self._twin, self._command, applied)
        self._time += model.gains.period
        return Transition(self._observe(), applied.double().numpy())

    def judge(self) -> TwinJudge:
        """The truth, for evaluation and for residual training alone."""
        return TwinJudge(self)

    def close(self) -> None:
        self._model = None

    def poses(self) -> dict[str, torch.Tensor]:
        """True X_WB (4, 4) of the updatable bodies."""
        return {name: X.double() for name, X in self._running().poses(self._twin).items()}

    def measures(self) -> Measures:
        """The task's measures of the truth."""
        return self.task.measures(self.poses(), self._before)

    def _running(self) -> Model:
        if self._model is None:
            raise SamrlError("this world has no episode yet, or was closed: call reset(seed) first.")
        return self._model

    def _q(self) -> torch.Tensor:
        return self._running().arm(self._twin.state).q.double()

    def _observe(self) -> Observation:
        state, c = self._running().arm(self._twin.state), self._command
        arm = ArmState(*(x.double().numpy().copy() for x in (state.q, state.qd, c.q_ref, c.X_WE)))
        return Observation(arm, self._carrier.pose().numpy().copy(), self._time)

    def _region(self, exposure: Any, camera: Camera, left: int, top: int, width: int, height: int) -> RGBD:
        """A window of the native image; beyond the image's border there is nothing."""
        model, pad = self._running(), self._noise.padding
        shift = torch.tensor([0.0, 0.0, left, top], dtype=camera.K.dtype)
        wide = Camera(width + 2 * pad, height + 2 * pad, camera.K - shift + torch.tensor([0, 0, pad, pad]), camera.X_WC)
        with torch.no_grad():
            image, links = model.renderer.render_links(self._twin.params, model.link_poses(self._twin), wide)
        depth = np.where(image.valid.numpy(), image.depth.numpy(), np.inf).astype(np.float32)
        picture = Picture(image.color.numpy().clip(0, 1), depth, links.numpy())
        color, depth, valid = exposure.apply(picture, left, top)
        inner = (slice(pad, -pad),) * 2
        masks = {name: mask.numpy()[inner] for name, mask in image.masks.items()}
        x, y = left + np.arange(width), top + np.arange(height)
        inside = ((y >= 0) & (y < camera.height))[:, None] & ((x >= 0) & (x < camera.width))[None]
        masks = {name: mask * inside for name, mask in masks.items()}
        region = Camera(width, height, camera.K - shift, camera.X_WC.clone())
        return RGBD(color * inside[..., None], depth * inside, valid & inside, masks, region)


class TwinJudge:
    """The truth of a TwinWorld's current episode."""

    def __init__(self, world: TwinWorld) -> None:
        self._world = world

    def poses(self) -> dict[str, np.ndarray]:
        """True pose X_WB (4, 4) of every updatable body."""
        return {name: X.numpy() for name, X in self._world.poses().items()}

    def measures(self) -> dict[str, object]:
        """The task's measures: floats, or a list of floats where a measure has several."""
        return {name: value.tolist() for name, value in self._world.measures().items()}

    def success(self) -> bool:
        """Whether the task counts as done."""
        return bool(self._world.task.success(self._world.measures()))
