"""What each further view brings, and what it costs when little can be seen.

    python benchmarks/looks.py needle-threading --world pybullet --count 40 --seed 10000

Each scene is drawn from the task's ranges; the arm stands still, and the camera goes to views of the start distribution that it
reaches, one after the other, with LOOKS exposures from each. Prints, after each view, medians and 95th percentiles of what the
estimate is off by: what separates load and target ("tip from target"), and each unit, of a chain the mean distance of its centre
line. Then the same after the first view alone, by the share of the unit that nothing hides there. All of it is simulated."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from samrl.core.camera import Camera
from samrl.model.scene import Twin
from samrl.real2sim.problem import put
from samrl.real2sim.tracker import FAR_BELOW, Tracker
from samrl.sim2real.control_loop import make_model, native_camera, settled
from samrl.sim2real.evaluate import APART, apart_error, unit_error
from samrl.tasks import registry as tasks
from samrl.worlds import registry as worlds
from samrl.worlds import settings as world_settings

LOOKS = 3
SHARES = (0.0, 0.25, 0.5, 0.75, 2.0)


def visible_share(model, true: Twin, camera, unit, mask: np.ndarray) -> float:
    """Share of a unit's outline, where it truly is, that the world's whole-frame mask (H, W) shows."""
    X = model.link_poses(true).clone()
    others = [i for i, name in enumerate(model.scene.link_names) if name not in unit.bodies]
    X[others, 2, 3] = FAR_BELOW
    with torch.no_grad():
        alone = model.renderer.render(true.params, X, Camera(camera.width, camera.height, camera.K.float(), camera.X_WC.float()))
    return float(mask.sum()) / max(1.0, float(alone.masks[unit.name].sum()))


def errors(task, model, twin: Twin, truth: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """By unit, and of what separates load and target: {"mm", "deg"}."""
    found = {b: X.double().numpy() for b, X in model.poses(twin).items()}
    units = {name: unit_error(task.scene, bodies, found, truth) for name, bodies in task.scene.units.items()}
    return units | {APART: apart_error(task, found, truth)}


def scenes(world, model, task, args: argparse.Namespace) -> Iterator[dict]:
    """A row a scene: {"seed", "shares" of each unit in the first view, "errors": one entry a view}."""
    for seed in range(args.seed, args.seed + args.count):
        observation, rng = world.reset(seed), np.random.default_rng([seed, 9])
        truth = world.judge().poses()
        views = list(islice((X for X in task.draw_views(rng, 16 * args.views) if world.reach(X).ok), args.views))
        nominal = settled(model, model.params, torch.as_tensor(observation.arm.q))
        X_WB = torch.stack([torch.as_tensor(truth[b], dtype=torch.float32) for b in model.updatable])
        true = put(model, nominal, model.units, X_WB)
        tracker, twin = Tracker(model, native_camera(task, observation.X_WC), known=task.known()), nominal
        (frame,) = world.look(views[0])
        shares = {u.name: visible_share(model, true, frame.camera, u, frame.masks[u.name]) for u in model.units}
        rows = []
        for X_WC in views:
            for _ in range(LOOKS):
                twin, *_ = tracker.observe(world, twin, X_WC)
            rows.append(errors(task, model, twin, truth))
        yield {"seed": seed, "shares": shares, "errors": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=tasks.names())
    parser.add_argument("--world", default="pybullet")
    parser.add_argument("--settings", default="nominal")
    parser.add_argument("--count", type=int, default=20, help="scenes")
    parser.add_argument("--seed", type=int, default=0, help="the first scene's")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--out", help="a file that gets a line a scene")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = world_settings.load(args.settings)
    task = settings.task_for(tasks.make(args.task))
    world, model, rows = worlds.make(args.world, task, settings), make_model(task), []
    for row in scenes(world, model, task, args):
        rows.append(row)
        if args.out:
            with open(args.out, "a") as lines:
                lines.write(json.dumps(row) + "\n")
    world.close()
    names = list(rows[0]["errors"][0])
    print(f"{args.task}, {args.world}, {len(rows)} scenes from seed {args.seed}; median (95th percentile) [mm]")
    for i in range(args.views):
        of = {n: [r["errors"][i][n]["mm"] for r in rows if len(r["errors"]) > i] for n in names}
        print(f"after view {i + 1}: " + ", ".join(f"{n} {_spread(v)}" for n, v in of.items()))
    for unit in rows[0]["shares"]:
        for low, high in zip(SHARES[:-1], SHARES[1:], strict=True):
            off = [r["errors"][0][unit]["mm"] for r in rows if low <= r["shares"][unit] < high]
            apart = [r["errors"][0][APART]["mm"] for r in rows if low <= r["shares"][unit] < high]
            if off:
                shown = f"{low:.0%} to {min(high, 1):.0%} of {unit} in the first view"
                print(f"{shown}: {len(off)} scenes, {unit} {_spread(off)}, {APART} {_spread(apart)}")


def _spread(values: list[float]) -> str:
    return f"{np.median(values):.2f} ({np.percentile(values, 95):.2f})"


if __name__ == "__main__":
    main()
