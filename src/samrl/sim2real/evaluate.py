"""Evaluation: episodes in a world, each written down as one record, with the truth beside the estimate.

Here, and nowhere before, the judge is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from samrl.core import guard, lie, pool
from samrl.core.errors import NonFiniteError
from samrl.core.types import RGBD, Observation, Reach, Transition
from samrl.core.world import Judge, World
from samrl.model.model import Model
from samrl.real2sim.tracker import Segment
from samrl.sim2real.agent import Agent
from samrl.sim2real.control_loop import Episode, Residual, StepRecord, run_episode
from samrl.tasks.spec import Body, SceneSpec
from samrl.tasks.task import Task, separation

APART = "tip from target"
SNAPSHOTS = (0, 4, 9, 14, 19, 24, 29, 39, 49, 59)  # control steps of which pictures are kept


class JudgedWorld(World, Protocol):
    """A world that can also hand out its judge."""

    def judge(self) -> Judge: ...


@dataclass
class Bench:
    """Everything an episode needs. names: of world, settings and variant, for the record; `task` is the world's true one;
    `agent`: who decides; `dumps`: where a non-finite number is written down; `segment`: the mask source, without which the
    world's masks are used; `updates`, `residual`: see run_episode."""

    world: JudgedWorld
    model: Model
    task: Task
    agent: Agent
    names: tuple[str, str, str]
    dumps: Path
    segment: Segment | None = None
    updates: bool = True
    residual: Residual | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.world.close()


Make = Callable[[], Bench]
Record = dict[str, Any]
Frames = list[dict[str, Any]]


class Witness:
    """Stands between controller and world and writes down the truth at each moment: `truths[i]` are the true poses X_WB
    after i actions, `applied[i]` the actions, `looks` how often the camera was exposed, `measures` the task's by now. It tells
    the controller only what the world tells."""

    def __init__(self, world: JudgedWorld, task: Task) -> None:
        self._world, self._judge, self._task = world, world.judge(), task
        self.capabilities = world.capabilities
        self.truths: list[dict[str, np.ndarray]] = []
        self.applied: list[np.ndarray] = []
        self.looks = 0

    def reset(self, seed: int) -> Observation:
        observation = self._world.reset(seed)
        self.truths, self.applied = [self._judge.poses()], []
        self.measures = self._task.measures(as_tensors(self.truths[-1]))
        return observation

    def reach(self, X_WC: np.ndarray) -> Reach:
        return self._world.reach(X_WC)

    def look(self, X_WC: np.ndarray, rois: Any = None) -> list[RGBD]:
        self.looks += 1
        return self._world.look(X_WC, rois)

    def act(self, action: np.ndarray) -> Transition:
        transition = self._world.act(action)
        self.truths.append(self._judge.poses())
        self.measures = self._task.measures(as_tensors(self.truths[-1]), self.measures)
        self.applied.append(transition.action)
        return transition

    def success(self) -> bool:
        """Whether the task counts as done."""
        return bool(self._task.success(self.measures))

    def close(self) -> None:
        self._world.close()


def run_one(bench: Bench, seed: int, *, horizon: int | None = None) -> tuple[Record, Frames]:
    """One episode: its record for episodes.jsonl and its pictures. It ends at the first step at which the judge says
    success, which the controller does not hear of."""
    witness = Witness(bench.world, bench.task)

    def succeeded(step: StepRecord, observation: Observation, estimate: dict[str, np.ndarray]) -> bool:
        return witness.success()

    try:
        episode = run_episode(
            witness,
            bench.model,
            bench.task,
            bench.agent,
            seed,
            horizon=horizon,
            snapshots=SNAPSHOTS,
            on_step=succeeded,
            segment=bench.segment,
            updates=bench.updates,
            residual=bench.residual,
        )
    except NonFiniteError as e:
        path = guard.dump(bench.dumps, f"seed-{seed}", {"seed": seed, "world": bench.names, "actions": witness.applied})
        raise NonFiniteError(f"seed {seed}: {e} Its actions so far are in {path}; the same seed replays it.", e.given) from e
    return _record(bench, episode, witness), episode.frames


def run_many(make: Make, seeds: Sequence[int], workers: int = 1) -> Generator[tuple[Record, Frames], None, None]:
    """Every seed's record and pictures, in the order they end. An episode depends on its seed alone, so neither the order
    nor the number of workers changes a figure."""
    return pool.fan_out(make, run_one, seeds, workers)


# What a record holds


def _record(bench: Bench, episode: Episode, witness: Witness) -> Record:
    """One line of episodes.jsonl. `measures`: the task's, of the last state, vectors by their norm; `errors`: of each unit's
    estimate, and of what separates load and target in it, before the first update, after it, and at the last one; `rehung`: in
    how many steps the twin's prediction left the finite numbers; `times`: seconds of each step's parts."""
    truths = witness.truths
    moments = {"before": (0, 0), "after": (1, 0), "last": (len(episode.poses) - 1, len(episode.poses) - 2)}
    return {
        "seed": episode.seed,
        "world": bench.names[0],
        "settings": bench.names[1],
        "variant": bench.names[2],
        "simulated": bench.world.capabilities.simulated,
        "success": witness.success(),
        "steps": len(episode.steps),
        "measures": {k: float(v if v.dim() == 0 else v.norm()) for k, v in witness.measures.items()},
        "errors": {
            unit: {name: unit_error(bench.task.scene, bodies, episode.poses[i], truths[j]) for name, (i, j) in moments.items()}
            for unit, bodies in bench.task.scene.units.items()
        }
        | {APART: {name: apart_error(bench.task, episode.poses[i], truths[j]) for name, (i, j) in moments.items()}},
        "rehung": sum(s.rehung for s in episode.steps),
        "views": [{"step": s.step, **s.told} for s in episode.steps if s.moved or s.told],
        "times": _times(episode.steps),
    }


def as_tensors(poses: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Poses (4, 4) by name, in double precision."""
    return {name: torch.as_tensor(X, dtype=torch.float64) for name, X in poses.items()}


def _times(steps: Sequence[StepRecord]) -> dict[str, list[float]]:
    """Seconds of each part of the control step, one number a step, to a tenth of a millisecond."""
    names = steps[0].times if steps else {}
    return {name: [round(s.times[name], 4) for s in steps] for name in names}


# Errors that respect symmetry


def fold(body: Body) -> int:
    """How many turns about its own z axis leave the body as it is, from its solids; 0 where any turn does (a cylinder)."""
    count = 0
    for solid in body.solids:
        upright = abs(solid.quat[1]) + abs(solid.quat[2]) < 1e-9
        on_axis = math.hypot(solid.p[0], solid.p[1]) < 1e-9
        if not (on_axis and (upright or solid.shape == "sphere")):
            return 1
        turned = abs(solid.quat[3]) > 1e-9 and solid.shape not in ("cylinder", "capsule", "sphere", "disc")
        count = math.gcd(count, 1 if turned else _FOLDS[solid.shape](solid.size))
    return count


def _rectangle(size: tuple[float, ...]) -> int:
    return 4 if math.isclose(size[0], size[1]) else 2


def _round(size: tuple[float, ...]) -> int:
    return 0


_FOLDS = {
    "box": _rectangle, "block_with_hole": _rectangle, "plane": _rectangle,
    "cylinder": _round, "capsule": _round, "sphere": _round, "disc": _round,
}  # fmt: skip


def symmetry(body: Body) -> tuple[int, bool]:
    """`fold`, and whether the body looks the same with its ends exchanged: a single round solid about its own origin."""
    folds = fold(body)
    return folds, folds == 0 and len(body.solids) == 1 and not any(body.solids[0].p)


def unit_error(
    scene: SceneSpec, bodies: Sequence[str], estimate: Mapping[str, Any], truth: Mapping[str, np.ndarray]
) -> dict[str, float]:  # fmt: skip
    """How far a unit's bodies in `estimate` are from those in `truth`: {"mm", "deg"}. Of a chain: the mean distance between two
    places that are as far along it, and the angle between its last segments."""
    X, Y = (np.stack([np.asarray(poses[b], float) for b in bodies]) for poses in (estimate, truth))
    if len(bodies) == 1:
        return pose_error(X[0], Y[0], *symmetry(scene.body(bodies[0])))
    a, b = (np.concatenate([Z[1:, :3, 3], Z[-1:, :3, 3] + scene.body(bodies[1]).p[0] * Z[-1:, :3, 0]]) for Z in (X, Y))
    angle = math.atan2(float(np.linalg.norm(np.cross(X[-1, :3, 0], Y[-1, :3, 0]))), float(X[-1, :3, 0] @ Y[-1, :3, 0]))
    return {"mm": round(1000 * float(np.linalg.norm(a - b, axis=1).mean()), 4), "deg": round(math.degrees(angle), 4)}


def apart_error(task: Task, estimate: Mapping[str, Any], truth: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How far what separates the load from its target is off in the estimate: {"mm", "deg"}."""
    as_poses = lambda poses: {b: torch.as_tensor(np.asarray(X, float)) for b, X in poses.items()}  # noqa: E731
    tip, axis = (a - b for a, b in zip(*(separation(task.landmarks(as_poses(p))) for p in (estimate, truth)), strict=True))
    return {"mm": round(1000 * float(tip.norm()), 4), "deg": round(math.degrees(float(axis.norm())), 4)}


def pose_error(estimate: np.ndarray, truth: np.ndarray, folds: int, ends: bool = False) -> dict[str, float]:
    """Distance between two poses X_WB (4, 4): {"mm", "deg"}. Turns of the body that `symmetry` says do not show are not
    counted: of all of them, the nearest."""
    X, Y = torch.as_tensor(estimate, dtype=torch.float64), torch.as_tensor(truth, dtype=torch.float64)
    mm = 1000 * float((X[:3, 3] - Y[:3, 3]).norm())
    if folds == 0:
        a, b = X[:3, 2], Y[:3, 2]
        along = abs(float(a @ b)) if ends else float(a @ b)
        angle = math.atan2(float(torch.linalg.cross(a, b).norm()), along)
    else:
        turns = torch.arange(folds, dtype=torch.float64) * (2 * math.pi / folds)
        R = lie.exp_so3(turns[:, None] * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
        angle = float(lie.log_so3(X[:3, :3] @ R @ Y[:3, :3].T).norm(dim=-1).min())
    return {"mm": round(mm, 4), "deg": round(math.degrees(angle), 4)}
