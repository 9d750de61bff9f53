"""What a good view is worth: success inside 𝓜 by state and view, of the best, the mean and the worst view, and of the best
single one.

    python benchmarks/headroom.py --run RUN --states 50 --views 32 --seed 0

For each state (a reset of the task) and each view (yaw × pitch × radius on a fixed grid about the nominal hole, those that the
camera arm can take), `update` runs twice on images of a twin that the estimator does not know, each time with noise of its
own. What the estimate is then off by is held for an episode of the expert inside 𝓜, in a few draws of friction and of the
update's noise at every step. Views are chosen by the first of the two and judged by the second, so that luck is not taken for
a good view. All of it is simulated, by 𝓜 itself. --run: a run folder that holds a trained expert."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch

from samrl.core.camera import viewpoint
from samrl.learn.expert import Belief, Expert, TrainSettings, vary_physics
from samrl.model.scene import Twin
from samrl.pipeline import TWIN, bench_of
from samrl.real2sim.problem import put
from samrl.real2sim.tracker import Tracker
from samrl.sim2real.control_loop import native_camera

YAWS, PITCHES, RADII = np.radians([-75, -45, -15, 15, 45, 75]), np.radians([25, 45, 65]), (0.3, 0.45)
DRAWS = 4  # episodes for each state, view and choice


def views(look_at: torch.Tensor) -> np.ndarray:
    """All of the grid, (n, 4, 4)."""
    grid = np.stack(np.meshgrid(YAWS, PITCHES, RADII, indexing="ij"), -1).reshape(-1, 3)
    yaw, pitch, radius = (torch.from_numpy(x) for x in grid.T)
    return viewpoint(look_at.expand(len(grid), 3), yaw, pitch, radius).numpy()


def mistakes(world, expert: Expert, seed: int, X_WC: np.ndarray, known) -> tuple:  # type: ignore[no-untyped-def]
    """What two updates from one view leave: tip and axis errors of the estimate less those of the truth, (6) each; the true
    poses; the twin before any update."""
    model, task = expert.model, expert.task
    observation = world.reset(seed)
    q = torch.as_tensor(observation.arm.q, dtype=model.dtype)
    truth = {b: X.to(model.dtype) for b, X in world.poses().items()}
    start, off = Twin(model.params, model.state(q)), []
    for _ in range(2):
        tracker = Tracker(model, native_camera(task, observation.X_WC), known=known)
        twin, *_ = tracker.observe(world, start, X_WC)
        found, true = (torch.cat(task.errors(p)) for p in (model.poses(twin), truth))
        off.append((found - true).double().numpy())
    return off, truth, start


def episodes(expert: Expert, truth: Twin, off: np.ndarray, seed: int) -> np.ndarray:
    """Success (n) of the expert that believes the twin's errors to be off by `off` (n, 6)."""
    generator, n = torch.Generator().manual_seed(seed), len(off)
    state = expert.model.state(truth.state.q.repeat(n, 1))
    twin = vary_physics(expert, Twin(truth.params, state), n, TrainSettings(), generator)
    twin = twin.replace(params=twin.params.replace(geom_size=expert.model.params.geom_size))
    off = torch.as_tensor(off, dtype=state.q.dtype)
    belief = Belief(off[:, :3], off[:, 3:], 0.0003, 0.003, generator)
    with torch.no_grad():
        *_, done = expert.rollout(twin, expert.model.at_rest(state.q), expert.task.horizon, belief)
    return done.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--states", type=int, default=50)
    parser.add_argument("--views", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0, help="of the first state")
    parser.add_argument("--settings", default="nominal")
    parser.add_argument("--out", type=Path, help="a file that gets a line a state")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = bench_of(args.run, TWIN, args.settings)
    expert, world, task = bench.expert, bench.world, bench.task
    grid = views(task.look_at())
    lines = []
    for seed in range(args.seed, args.seed + args.states):
        world.reset(seed)
        reachable = [i for i, X in enumerate(grid) if world.reach(X).ok][: args.views]
        off = []
        for i in reachable:
            both, truth, twin = mistakes(world, expert, seed, grid[i], task.known())
            off.append(both)
        start = put(expert.model, twin, tuple(truth), torch.stack(list(truth.values())))
        jobs = np.repeat(np.array(off).reshape(-1, 6), DRAWS, 0)
        done = episodes(expert, start, jobs, seed).reshape(len(reachable), 2, DRAWS).mean(-1)
        mm = 1e3 * np.linalg.norm(np.array(off)[..., :2], axis=-1)
        lines.append({"seed": seed, "views": reachable, "success": done.tolist(), "lateral mm": mm.round(3).tolist()})
        if args.out:
            with open(args.out, "a") as f:
                f.write(json.dumps(lines[-1]) + "\n")
        print(f"state {seed}: {len(reachable)} views, success {done.mean():.2f}, lateral {np.median(mm):.2f} mm", flush=True)
    print(json.dumps(summary(lines, len(grid)), indent=1))


def summary(lines: list[dict], count: int) -> dict:
    """Means over states; each view chosen by the first choice and judged by the second, and the other way round."""
    table = np.full((len(lines), count, 2), np.nan)
    for i, line in enumerate(lines):
        table[i, line["views"]] = line["success"]
    both = []
    for a, b in ((0, 1), (1, 0)):
        chosen, judged = table[..., a], table[..., b]
        best = judged[np.arange(len(lines)), np.nanargmax(chosen, 1)]
        worst = judged[np.arange(len(lines)), np.nanargmin(chosen, 1)]
        often = np.nonzero(np.isfinite(chosen).mean(0) > 0.9)[0]  # a single view must be reachable in nearly every state
        fixed = judged[:, often[np.nanmean(chosen[:, often], 0).argmax()]] if len(often) else np.array([np.nan])
        both.append([best.mean(), np.nanmean(judged, 1).mean(), worst.mean(), np.nanmean(fixed)])
    names = ("best view", "mean view", "worst view", "best single view")
    out = dict(zip(names, np.mean(both, 0).round(3).tolist(), strict=True))
    error = 1.96 * math.sqrt(np.nanvar(np.nanmean(table, (1, 2))) / len(lines))
    return {"states": len(lines), **out, "mean view, 95 % half-width over states": round(error, 3)}


if __name__ == "__main__":
    main()
