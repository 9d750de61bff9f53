"""What one look is worth: `update` run on images of a twin that the estimator does not know, from views and in situations as
episodes have them. `learn/sensing.py` learns from it what rollouts in 𝓜 must reckon with."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.types import Observation
from samrl.learn.expert import Expert
from samrl.learn.sensing import error_in_camera, features, shown
from samrl.model.model import Model
from samrl.model.placement import body_pose, set_body_pose, unit_poses
from samrl.model.scene import Twin
from samrl.model.units import DRIFT
from samrl.real2sim.floating import floating
from samrl.real2sim.problem import put
from samrl.real2sim.tracker import Tracker
from samrl.sim2real.control_loop import command_of, native_camera, settled
from samrl.sim2real.evaluate import symmetry
from samrl.sim2real.twin_world import TwinWorld

MOST_STEPS = 40  # control steps of the expert before the look
Row = dict[str, Any]


def try_looks(world: TwinWorld, expert: Expert, seed: int, views: int) -> list[Row]:
    """Let the expert, who knows the truth, act for a while in the episode of `seed`; then look from up to `views` views of the
    start distribution that the camera arm reaches, each time updating a fresh twin.

    A row: seed; X_WC (4, 4); truth and found: true and estimated poses (N, 4, 4) of the units' bodies in their parents, joints
    included; parents, frames: (U, 4, 4) of the truth; counts: pixels that show each unit, as 𝓜 draws the truth; lost (U): the
    update kept what it had."""
    rng = np.random.default_rng([seed, 7])
    observation = world.reset(seed)
    steps = int(rng.integers(MOST_STEPS + 1))
    for _ in range(steps):
        observation = world.act(_by_truth(world, expert, observation)).observation
    reachable = (X for X in expert.task.draw_views(rng, 16 * views) if world.reach(X).ok)
    return [_look(world, expert, seed, observation, X, steps > 0) for X in islice(reachable, views)]


def _look(world: TwinWorld, expert: Expert, seed: int, observation: Observation, X_WC: np.ndarray, moved: bool) -> Row:
    model, true = expert.model, _true(world, expert, observation)
    start = settled(model, model.params, torch.as_tensor(observation.arm.q))
    if moved:
        start = adrift(model, start, true, X_WC)
    tracker = Tracker(model, native_camera(expert.task, X_WC), known=_known(expert, moved))
    twin, report, *_ = tracker.observe(world, start, X_WC)
    camera = torch.as_tensor(tracker.camera.X_WC, dtype=model.dtype)[None]
    X_WL = model.link_poses(true)
    counts = shown(model, true.params, X_WL[None], camera)[0]
    parents = torch.stack([model.bodies_of(u, X_WL)[0] for u in model.units])
    plain = lambda X: X.double().numpy().round(7).tolist()  # noqa: E731
    return {
        "seed": seed, "X_WC": plain(camera[0]), "truth": plain(_turned(model, true)), "found": plain(_turned(model, twin)),
        "parents": plain(parents), "frames": plain(model.frames(X_WL)), "counts": counts.round().tolist(),
        "lost": [u.name in report.lost for u in model.units],
    }  # fmt: skip


def _turned(model: Model, twin: Twin) -> Tensor:
    """Poses (N, 4, 4) of the units' bodies in their parents, joints included."""
    X_WL = model.link_poses(twin)
    return torch.cat([u.relative(*model.bodies_of(u, X_WL)) for u in model.units])


def real_look(world: TwinWorld, expert: Expert, truth: Twin, X_WC: Tensor) -> Tensor | None:
    """What `update` itself makes of one image, by a fresh tracker: poses (N, 4, 4) of the units' bodies in their parents, of a
    truth without batch, seen from X_WC (4, 4). None where the camera arm cannot take the view, or the update loses a unit. For
    rehearsals (learn/rehearsal.py)."""
    model, wanted = expert.model, X_WC.double().numpy()
    world.pretend(model, truth)
    if not world.reach(wanted).ok:
        return None
    tracker = Tracker(model, native_camera(expert.task, wanted), known=_known(expert, True))
    start = adrift(model, Twin(model.params, truth.state), truth, wanted)
    twin, report, *_ = tracker.observe(world, start, wanted)
    return None if report.lost else torch.cat([unit_poses(model.scene, twin, u) for u in model.units])


def adrift(model: Model, twin: Twin, truth: Twin, X_WC: np.ndarray) -> Twin:
    """The twin with what floats as far from where it is in `truth` as may be what has been followed so far, in a direction drawn
    from the camera's pose: a look at it does not begin with where an episode did."""
    rng = np.random.default_rng(zlib.crc32(np.round(X_WC, 6).tobytes()))
    for name in floating(model):
        X = body_pose(model.scene, truth, name)
        d = torch.as_tensor(np.repeat(DRIFT, 3) * rng.normal(size=6) / 3**0.5, dtype=model.dtype)
        twin = set_body_pose(model.scene, twin, name, lie.retract(X, d))
    return twin


def _known(expert: Expert, moved: bool) -> dict[str, tuple[float, ...]]:
    """What a tracker knows of where units may be, once they may have moved."""
    return expert.task.known() | (dict.fromkeys(floating(expert.model), DRIFT) if moved else {})


def table(rows: Iterable[Row], expert: Expert) -> tuple[Tensor, Tensor, Tensor]:
    """Rows as `learn.sensing.fit` takes them: features (n, U, 4), errors (n, U, 6), seen (n, U)."""
    kept = list(rows)
    column = lambda name: torch.tensor([r[name] for r in kept], dtype=torch.float32)  # noqa: E731
    X_WC, units, scene = column("X_WC"), expert.model.units, expert.task.scene
    whole = [not u.bends and symmetry(scene.body(u.bodies[0]))[0] == 0 for u in units]
    error = error_in_camera(units, column("found"), column("truth"), column("parents"), X_WC, whole)
    return features(column("counts"), column("frames"), X_WC), error, column("lost") == 0


def _by_truth(world: TwinWorld, expert: Expert, observation: Observation) -> np.ndarray:
    command = command_of(expert.model, observation)
    with torch.no_grad():
        return expert.act(_true(world, expert, observation), command).double().numpy()


def _true(world: TwinWorld, expert: Expert, observation: Observation) -> Twin:
    poses = {b: X.to(expert.model.dtype) for b, X in world.poses().items()}
    model = expert.model
    nominal = Twin(model.params, model.state(torch.as_tensor(observation.arm.q)))
    return put(model, nominal, model.units, torch.stack([poses[b] for b in model.updatable]))
