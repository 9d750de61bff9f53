"""What the simulated worlds share: control at 10 Hz over torques at 1 kHz, the camera arm, the camera and its errors.

A world adds an engine (the physics of one episode) and says how its bodies look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from samrl.core import control, lie
from samrl.core.camera import Camera, Roi
from samrl.core.errors import SamrlError, UnreachableError, check_finite
from samrl.core.types import RGBD, ArmState, Capabilities, Observation, Reach, Transition
from samrl.tasks.spec import Hinge, SceneSpec, chain_of, pose_of
from samrl.tasks.task import Draw, Measures, Task
from samrl.worlds.camera_arm import CameraArm
from samrl.worlds.picture import Lighting, Part, Renderer, belongs, make_renderer, parts_of
from samrl.worlds.sensor import PADDING, SensorNoise
from samrl.worlds.settings import HandEye, Hidden, Settings

SUBSTEP = 0.001  # of the torque loop [s]
_SETTLE = 300  # substeps before an episode, in which the arm comes to rest under its own controller
_NEAR, _FAR = 0.03, 8.0  # of what is drawn [m]


class Engine(Protocol):
    """The physics of one episode."""

    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        """The acting arm's joint positions [rad] and velocities [rad/s], (7) each."""
        ...

    def weight(self) -> tuple[np.ndarray, np.ndarray]:
        """Torques (7) [N m] that hold the arm, and those that hold the nominal peg, by the controller's own model."""
        ...

    def step(self, torque: np.ndarray) -> None:
        """One substep under the arm's joint torques (7) [N m]."""
        ...

    def poses(self) -> dict[str, np.ndarray]:
        """True X_WB (4, 4) of every body but the camera arm's."""
        ...

    def close(self) -> None: ...


class SimulatedWorld:
    """A World (core/world.py) over an Engine.

    Attributes:
        task: the task as the settings have it; its scene is the nominal one, which this world may know.
        settings: frozen.
    """

    capabilities = Capabilities("simulated")

    def __init__(self, task: Task, settings: Settings, poison: bool = False) -> None:
        self.task = settings.task_for(task)
        self.settings = settings
        self._poison = poison
        self._gains = self.task.scene.actor.gains
        s = settings.arm.stiffness_scale
        self._real_gains = replace(self._gains, stiffness=tuple(s * k for k in self._gains.stiffness))
        scene = self.task.scene
        self._chain = chain_of(scene, scene.actor)
        self._camera_arm = CameraArm(scene, settings.camera_arm)
        self._engine: Engine | None = None
        self._renderer: Renderer | None = None

    # What a world adds
    def _make_engine(self, draw: Draw) -> Engine:
        raise NotImplementedError

    def _parts(self, scene: SceneSpec) -> list[Part]:
        """How the bodies look."""
        return parts_of(scene)

    # The protocol
    def reset(self, seed: int) -> Observation:
        """A new episode, all of it drawn from `seed`."""
        self.close()
        draw = self._draw(seed)
        rng = np.random.default_rng([seed, 4])
        self._engine = self._make_engine(draw)
        self._renderer = self._make_renderer(draw.scene, Lighting.draw(self.settings.light, rng))
        self._units = with_pieces(draw.scene, self.task.scene)
        self._noise, self._exposures = SensorNoise(self.settings.sensor, seed), 0
        self._X_CT = hand_eye_error(self.settings.hand_eye, rng)
        self._late = deque([torch.zeros(6, dtype=torch.float64)] * self.settings.arm.delay_steps)
        self._q_ref = torch.as_tensor(draw.q_start, dtype=torch.float64)
        self._X_command = self._chain.tool(self._q_ref)
        self._camera_arm.start(torch.as_tensor(draw.views), self._q_ref)
        self._simulate(_SETTLE)
        self._time = 0.0
        self._before: Measures | None = None
        return self._observe()

    def reach(self, X_WC: np.ndarray) -> Reach:
        """Can the camera arm take the pose (4, 4)? Nothing moves."""
        return self._camera_arm.plan(_pose(X_WC), self._q()).reach

    def look(self, X_WC: np.ndarray, rois: Sequence[Roi] | None = None) -> list[RGBD]:
        """Move the camera arm there and take one exposure of the regions, or of the whole image without any."""
        plan = self._camera_arm.plan(_pose(X_WC), self._q())
        if not plan.reach.ok:
            raise UnreachableError(plan.reach.reason)
        self._camera_arm.q = plan.q
        return self._expose(rois)

    def act(self, action: np.ndarray) -> Transition:
        """Apply one action (6) for one control period; returns the action that was really applied."""
        check_finite("the action", action)
        if np.shape(action) != (6,):
            raise SamrlError(f"an action is 6 numbers (translation, rotation), not an array of shape {np.shape(action)}.")
        self._before = self._measures(self._poses())
        X_measured = self._chain.tool(self._q())
        self._late.append(control.limit_action(torch.as_tensor(action, dtype=torch.float64), self._gains))
        applied = self._late.popleft()
        self._X_command = control.command(self._X_command, X_measured, applied, self._gains)
        self._q_ref = control.set_points(self._chain, self._q_ref, self._X_command, self._gains)
        self._simulate(round(self._gains.period / SUBSTEP))
        self._time += self._gains.period
        return Transition(self._observe(), applied.numpy().copy())

    def judge(self) -> WorldJudge:
        """The truth, for evaluation and for residual training alone."""
        return WorldJudge(self, self._poison)

    def close(self) -> None:
        """Give back what the simulators hold; `reset` starts anew."""
        for held in (self._engine, self._renderer):
            if held is not None:
                held.close()
        self._engine = self._renderer = None

    # Behind it
    def _draw(self, seed: int) -> Draw:
        """The truth of an episode, with what the settings hide on top of the task's draw."""
        draw = self.task.draw(seed)
        return replace(draw, scene=hide(draw.scene, self.settings.hidden, seed))

    def _poses(self) -> dict[str, np.ndarray]:
        """True X_WB (4, 4) of the updatable bodies, which the judge alone hands out."""
        poses = self._running().poses()
        return {name: poses[name] for name in self.task.scene.updatable}

    def _measures(self, poses: dict[str, np.ndarray]) -> Measures:
        """The task's measures at these poses, after what was measured a control step ago."""
        return self.task.measures({name: torch.as_tensor(X) for name, X in poses.items()}, self._before)

    def _running(self) -> Engine:
        if self._engine is None:
            raise SamrlError("this world has no episode yet, or was closed: call reset(seed) first.")
        return self._engine

    def _q(self) -> torch.Tensor:
        return torch.as_tensor(self._running().joints()[0], dtype=torch.float64)

    def _simulate(self, substeps: int) -> None:
        """The impedance controller's loop at 1 kHz, the set-points held."""
        engine, q_ref, s = self._running(), self._q_ref.numpy(), self.settings.arm
        for _ in range(substeps):
            q, qd = engine.joints()
            arm, payload = engine.weight()
            gravity = s.gravity_scale * arm + payload if s.payload_known else s.gravity_scale * arm
            engine.step(control.impedance(q, qd, q_ref, gravity, self._real_gains))

    def _observe(self) -> Observation:
        q, qd = self._running().joints()
        check_finite("the arm's joint positions", q)
        arm = ArmState(q, qd, self._q_ref.numpy().copy(), self._X_command.numpy().copy())
        return Observation(arm, self._camera_arm.pose().numpy().copy(), self._time)

    def _make_renderer(self, scene: SceneSpec, lighting: Lighting) -> Renderer:
        parts = self._parts(scene)
        order = np.random.default_rng(0).permutation(len(parts)).tolist() if self._poison else None
        return make_renderer(parts, lighting, self.task.look_at().numpy(), order)

    def _expose(self, rois: Sequence[Roi] | None) -> list[RGBD]:
        assert self._renderer is not None
        scene = self.task.scene
        reported = self._camera_arm.pose()
        carrier = carrier_poses(scene, self._camera_arm.q)
        self._renderer.place({**self._running().poses(), **carrier})
        exposure = self._noise.exposure(self._exposures)
        self._exposures += 1
        spec = scene.camera
        camera = Camera.from_fov(spec.width, spec.height, spec.fov_x, reported)
        X_true = (reported @ self._X_CT).numpy()
        windows = [(0, 0, spec.width, spec.height)] if rois is None else [(r.left, r.top, r.side, r.side) for r in rois]
        return [self._region(exposure, camera, X_true, *w) for w in windows]

    def _region(self, exposure, camera: Camera, X_true: np.ndarray, left: int, top: int, width: int, height: int) -> RGBD:  # type: ignore[no-untyped-def]
        """A window of the native image, beyond whose border there is nothing."""
        color, depth = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
        valid = np.zeros((height, width), bool)
        units = self._units
        masks = {name: np.zeros((height, width), np.float32) for name in units}
        K = camera.K - torch.tensor([0.0, 0.0, left, top], dtype=camera.K.dtype)
        l, t = max(left, 0), max(top, 0)
        r, b = min(left + width, camera.width), min(top + height, camera.height)
        if r > l and b > t:
            pad = PADDING
            picture = self._renderer.render(  # type: ignore[union-attr]
                camera.K.numpy(), X_true, l - pad, t - pad, r - l + 2 * pad, b - t + 2 * pad, _NEAR, _FAR
            )
            inside = (slice(t - top, b - top), slice(l - left, r - left))
            color[inside], depth[inside], valid[inside] = exposure.apply(picture, l, t)
            seen = picture.part[pad:-pad, pad:-pad]
            for name, mask in masks.items():
                mask[inside] = belongs(self._renderer.parts, units[name])[seen]  # type: ignore[union-attr]
        return RGBD(color, depth, valid, masks, Camera(width, height, K, camera.X_WC.clone()))


class WorldJudge:
    """The truth of a simulated world's current episode; poisoned, it knows nothing but NaN."""

    def __init__(self, world: SimulatedWorld, poison: bool = False) -> None:
        self._world, self._poison = world, poison

    def poses(self) -> dict[str, np.ndarray]:
        """True pose X_WB (4, 4) of every updatable body."""
        poses = self._world._poses()
        return {name: np.full((4, 4), np.nan) for name in poses} if self._poison else poses

    def measures(self) -> dict[str, object]:
        """The task's measures: floats, or a list of floats where a measure has several."""
        return {name: value.tolist() for name, value in self._world._measures(self.poses()).items()}

    def success(self) -> bool:
        """Whether the task counts as done; never, when poisoned."""
        return bool(self._world.task.success(self._world._measures(self.poses())))


def hide(scene: SceneSpec, hidden: Hidden, seed: int) -> SceneSpec:
    """The scene with mass, inertia and friction of what the hand holds, and friction of what that may touch, as the settings hide
    them."""
    payload, friction = 1 + np.array([hidden.payload, hidden.friction]) * np.random.default_rng([seed, 6]).uniform(-1, 1, 2)
    held = {b.name for b in scene.bodies if b.updatable and scene.belongs_to(scene.actor, b.name)}
    touched = {n for pair in scene.pairs if held & set(pair) for n in pair}
    for body in scene.bodies:
        if body.name in held and hidden.payload:
            inertia = tuple(payload * i for i in body.inertia)
            scene = scene.with_body(body.name, mass=payload * body.mass, inertia=inertia)
        if body.name in held | touched and hidden.friction:
            solids = tuple(replace(s, friction=friction * s.friction) for s in body.solids)
            scene = scene.with_body(body.name, solids=solids)
    return scene


def with_pieces(true: SceneSpec, nominal: SceneSpec) -> dict[str, tuple[str, ...]]:
    """The nominal scene's units, each with the bodies that hang on one of its own in the true scene and are unknown to the
    nominal one: pieces of what bends."""
    known, out = {b.name for b in nominal.bodies}, {name: list(bodies) for name, bodies in nominal.units.items()}
    for body in true.bodies:
        for bodies in out.values():
            if body.name not in known and body.parent in bodies:
                bodies.append(body.name)
    return {name: tuple(bodies) for name, bodies in out.items()}


def rotor(stiffness: float, damping: float, step: float) -> float:
    """Inertia [kg m²] that a joint needs for an explicit spring and damper at a step [s]: between two equal neighbours the
    fastest mode has four times the stiffness, and 4 (k h² + c h) / I < 2 is stable; this is half of it. It slows fast ripples and
    changes nothing at rest."""
    return 4 * (stiffness * step**2 + damping * step)


def hand_eye_error(size: HandEye, rng: np.random.Generator) -> torch.Tensor:
    """X_CT (4, 4): the true camera in the calibrated camera's frame, of the given size in a random direction."""
    d = rng.standard_normal((2, 3))
    d *= np.array([[size.translation], [size.rotation]]) / np.linalg.norm(d, axis=1, keepdims=True)
    return lie.retract(torch.eye(4, dtype=torch.float64), torch.as_tensor(d.ravel()))


def carrier_poses(scene: SceneSpec, q: torch.Tensor) -> dict[str, np.ndarray]:
    """X_WB (4, 4) of the camera arm's bodies at joint angles q (7)."""
    arm = scene.carrier
    angles = dict(zip(arm.bodies, q, strict=True))
    root = scene.body(arm.bodies[0]).parent
    out: dict[str, torch.Tensor] = {"world": torch.eye(4, dtype=torch.float64)}
    for body in scene.bodies:
        if body.name != root and not scene.belongs_to(arm, body.name):
            continue
        X = out[body.parent] @ pose_of(body.p, body.quat)
        if isinstance(body.joint, Hinge):
            w = torch.tensor(body.joint.axis, dtype=torch.float64) * angles[body.name]
            X = X @ lie.pose(lie.exp_so3(w), torch.zeros(3, dtype=torch.float64))
        out[body.name] = X
    return {name: X.numpy() for name, X in out.items() if name != "world"}


def _pose(X_WC: np.ndarray) -> torch.Tensor:
    check_finite("the camera pose", X_WC)
    if np.shape(X_WC) != (4, 4):
        raise SamrlError(f"a camera pose is a 4 × 4 matrix, not an array of shape {np.shape(X_WC)}.")
    return torch.as_tensor(np.asarray(X_WC, float))
