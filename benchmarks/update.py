"""How well `update` aligns the twin with images of a world that is not the twin.

    python benchmarks/update.py --world pybullet --count 200 --seed 10000

Each start: the scene drawn from its own ranges, then every updatable body moved by up to 5 cm in each direction of x, y, z
and turned by up to 30° about a random axis; a view from the start distribution with at least half of the block visible.
Prints medians and 95th percentiles of what is left, block and peg apart, symmetry respected: the block's turn by 180° about
its hole, the peg's about its axis. All of it is simulated."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np
import torch

from samrl.core import lie
from samrl.core.camera import Camera
from samrl.model.scene import Twin
from samrl.real2sim.frames import choose_roi
from samrl.real2sim.problem import put
from samrl.real2sim.tracker import Tracker
from samrl.sim2real.control_loop import make_model, native_camera
from samrl.sim2real.evaluate import pose_error, symmetry
from samrl.tasks import registry as tasks
from samrl.worlds import registry as worlds
from samrl.worlds import settings as world_settings


def perturb(X: np.ndarray, rng: np.random.Generator, distance: float, angle: float) -> np.ndarray:
    """X moved by up to `distance` along each axis [m] and turned by up to `angle` [rad] about a random axis."""
    axis = rng.normal(size=3)
    turn = rng.uniform(-angle, angle) * axis / np.linalg.norm(axis)
    d = np.concatenate([rng.uniform(-distance, distance, 3), turn])
    return lie.retract(torch.as_tensor(X), torch.as_tensor(d)).numpy()


def visible_fraction(model, twin: Twin, camera, body: str, mask: np.ndarray) -> float:
    """Share of the body's outline at its true pose that the world's whole-frame mask (H, W) shows: what neither the arm nor
    the image's border hides. `twin` holds the true poses."""
    X = model.link_poses(twin).clone()
    link = model.scene.link(body)
    roi = choose_roi(camera, X[link, :3, 3].double(), 128, 0.0015)
    alone = X.clone()
    alone[:, 2, 3] -= 10.0
    alone[link] = X[link]
    crop = camera.crop(roi, 128)
    with torch.no_grad():
        area = float(
            model.renderer.render(twin.params, alone, Camera(128, 128, crop.K.float(), crop.X_WC.float())).masks[body].sum()
        )
    return float(mask.sum()) / max(1.0, area * (roi.side / 128) ** 2)


def align(world, model, task, seed: int, args: argparse.Namespace) -> tuple[dict[str, dict[str, float]], float]:
    """One start: by body the share of it that is visible and the errors before and after; and the update's seconds."""
    rng = np.random.default_rng([seed, 99])
    observation = world.reset(seed)
    truth, camera = world.judge().poses(), native_camera(task, observation.X_WC)
    nominal = Twin(model.params, model.state(torch.as_tensor(observation.arm.q)))

    def twin_at(poses: dict[str, np.ndarray]) -> Twin:
        X_WB = torch.stack([torch.as_tensor(poses[b], dtype=torch.float32) for b in model.updatable])
        return put(model, nominal, model.units, X_WB)

    (frame,) = world.look(observation.X_WC)
    shown = {b: visible_fraction(model, twin_at(truth), camera, b, frame.masks[b]) for b in truth}
    start = {b: perturb(X, rng, args.distance, math.radians(args.angle)) for b, X in truth.items()}
    twin, _, _, times = Tracker(model, camera).observe(world, twin_at(start), observation.X_WC)
    found = {b: X.double().numpy() for b, X in model.poses(twin).items()}
    rows = {}
    for b in truth:
        before, after = (pose_error(X[b], truth[b], *symmetry(task.scene.body(b))) for X in (start, found))
        rows[b] = {"visible": shown[b], "mm0": before["mm"], "deg0": before["deg"], **after}
    return rows, times["update"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="pybullet")
    parser.add_argument("--settings", default="nominal")
    parser.add_argument("--count", type=int, default=20, help="starts of each body with at least half of it visible")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--distance", type=float, default=0.05)
    parser.add_argument("--angle", type=float, default=30.0)
    parser.add_argument("--out", help="a file that gets a line a start")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = world_settings.load(args.settings)
    task = settings.task_for(tasks.make("peg-insertion-open"))
    world, model = worlds.make(args.world, task, settings), make_model(task)
    kept: dict[str, list[dict[str, float]]] = {b: [] for b in task.scene.updatable}
    seconds, seed = [], args.seed
    while min(map(len, kept.values())) < args.count:
        rows, spent = align(world, model, task, seed, args)
        seconds.append(spent)
        for b, row in rows.items():
            if row["visible"] >= 0.5 and len(kept[b]) < args.count:
                kept[b].append(row)
        if args.out:
            with open(args.out, "a") as lines:
                lines.write(json.dumps({"seed": seed, "seconds": spent, **rows}) + "\n")
        seed += 1
    print(json.dumps(summary(args, seed, kept, seconds), indent=1))


def summary(args: argparse.Namespace, end: int, kept: dict, seconds: list[float]) -> dict:
    out = {"world": args.world, "settings": args.settings, "seeds": [args.seed, end]}
    for b, rows in kept.items():
        e = np.array([[r["mm"], r["deg"]] for r in rows])
        out[b] = {
            "starts": len(e), "median mm, deg": np.median(e, 0).round(2).tolist(),
            "p95 mm, deg": np.percentile(e, 95, 0).round(2).tolist(),
            "under 5 mm and 5 deg": int((e < 5).all(1).sum()),
        }  # fmt: skip
    first = seconds[1:] or seconds  # the first one compiles or loads the kernels
    out["update ms, median"] = round(float(np.median(first)) * 1e3)
    return out


if __name__ == "__main__":
    main()
