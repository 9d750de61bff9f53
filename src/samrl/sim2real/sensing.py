"""What one look is worth: `update` run on images of a twin that the estimator does not know, from views and in situations as
episodes have them. `learn/sensing.py` learns from it what rollouts in 𝓜 must reckon with."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samrl.core.types import Observation
from samrl.learn.expert import Expert
from samrl.learn.sensing import error_in_camera, features, shown
from samrl.model.scene import Twin
from samrl.real2sim.problem import put
from samrl.real2sim.tracker import Tracker
from samrl.sim2real.control_loop import command_of, native_camera
from samrl.sim2real.evaluate import symmetry
from samrl.sim2real.twin_world import TwinWorld

MOST_STEPS = 40  # control steps of the expert before the look
Row = dict[str, Any]


def try_looks(world: TwinWorld, expert: Expert, seed: int, views: int) -> list[Row]:
    """Let the expert, who knows the truth, act for a while in the episode of `seed`; then look from up to `views` views of the
    start distribution that the camera arm reaches, each time updating a fresh twin.

    A row: seed; X_WC (4, 4); truth and found: true and estimated X_WB (B, 4, 4); counts: pixels that show each body, as 𝓜 draws
    the truth; lost (B): the update kept what it had."""
    rng = np.random.default_rng([seed, 7])
    observation = world.reset(seed)
    for _ in range(int(rng.integers(MOST_STEPS + 1))):
        observation = world.act(_by_truth(world, expert, observation)).observation
    reachable = (X for X in expert.task.draw_views(rng, 16 * views) if world.reach(X).ok)
    return [_look(world, expert, seed, observation, X) for X in islice(reachable, views)]


def _look(world: TwinWorld, expert: Expert, seed: int, observation: Observation, X_WC: np.ndarray) -> Row:
    model, start, true = expert.model, _nominal(expert, observation), _true(world, expert, observation)
    tracker = Tracker(model, native_camera(expert.task, X_WC), known=expert.task.known())
    twin, report, *_ = tracker.observe(world, start, X_WC)
    camera = torch.as_tensor(tracker.camera.X_WC, dtype=model.dtype)[None]
    counts = shown(model, true.params, model.link_poses(true)[None], camera)[0]
    stack = lambda t: torch.stack(list(model.poses(t).values())).double().numpy().round(7).tolist()  # noqa: E731
    return {
        "seed": seed, "X_WC": camera[0].double().numpy().round(7).tolist(), "truth": stack(true), "found": stack(twin),
        "counts": counts.round().tolist(), "lost": [b in report.lost for b in model.updatable],
    }  # fmt: skip


def real_look(world: TwinWorld, expert: Expert, truth: Twin, X_WC: Tensor) -> Tensor | None:
    """What `update` itself makes of one image, by a fresh tracker: X_WB (B, 4, 4) of a truth without batch, seen from X_WC
    (4, 4). None where the camera arm cannot take the view, or the update loses a body. For rehearsals (learn/rehearsal.py)."""
    model, wanted = expert.model, X_WC.double().numpy()
    world.pretend(truth)
    if not world.reach(wanted).ok:
        return None
    tracker = Tracker(model, native_camera(expert.task, wanted), known=expert.task.known())
    twin, report, *_ = tracker.observe(world, Twin(model.params, truth.state), wanted)
    return None if report.lost else torch.stack(list(model.poses(twin).values()))


def table(rows: Iterable[Row], expert: Expert) -> tuple[Tensor, Tensor, Tensor]:
    """Rows as `learn.sensing.fit` takes them: features (n, B, 4), errors (n, B, 6), seen (n, B)."""
    kept = list(rows)
    column = lambda name: torch.tensor([r[name] for r in kept], dtype=torch.float32)  # noqa: E731
    X_WC, truth = column("X_WC"), column("truth")
    round_body = [symmetry(expert.task.scene.body(b))[0] == 0 for b in expert.model.updatable]
    error = error_in_camera(column("found"), truth, X_WC, round_body)
    return features(column("counts"), truth, X_WC), error, column("lost") == 0


def _by_truth(world: TwinWorld, expert: Expert, observation: Observation) -> np.ndarray:
    command = command_of(expert.model, observation)
    with torch.no_grad():
        return expert.act(_true(world, expert, observation), command).double().numpy()


def _nominal(expert: Expert, observation: Observation) -> Twin:
    return Twin(expert.model.params, expert.model.state(torch.as_tensor(observation.arm.q)))


def _true(world: TwinWorld, expert: Expert, observation: Observation) -> Twin:
    poses = {b: X.to(expert.model.dtype) for b, X in world.poses().items()}
    return put(expert.model, _nominal(expert, observation), tuple(poses), torch.stack(list(poses.values())))
