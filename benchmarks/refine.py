"""What a refinement by gradients of the image loss brings a scanned surface, against views that it was not made from.

    python benchmarks/refine.py scan FOLDER --hold-out 8
    python benchmarks/refine.py looks --seed 10000 --count 2 --looks 20 --hold-out 4 --voxel 0.005 --finer 0.0025

`scan` is a folder as `samrl reconstruct` takes it; `looks` are made by the camera arm in the PyBullet world of Peg-Insertion,
views of the task's start distribution that it reaches (simulated). Prints, for the surface as fused and as refined, |depth error|
over all readings of the held-out frames where both have a depth: mean, median and 90th percentile with 95 % intervals (bootstrap
over frames), and ratios refined to fused (of the same frames); and the same of a fusion with finer voxels, over its own. Of looks
also against depth without the sensor's noise, and what that noise alone comes to."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from samrl.real2sim import tsdf
from samrl.real2sim.crossings import Crossings
from samrl.real2sim.heldout import depth_errors
from samrl.real2sim.refine import refine
from samrl.real2sim.scan import Scan, read_scan, write_scan
from samrl.tasks import registry as tasks
from samrl.worlds import registry as worlds
from samrl.worlds import settings as world_settings

DRAWS, EACH = 1000, 10_000  # of the bootstrap; readings of a frame that it takes
FIGURES = {"mean": np.mean, "median": np.median, "90 %": lambda x: np.percentile(x, 90)}
Errors = list[np.ndarray]  # of each held-out frame, by reading [m]


def look(seed: int, count: int, folder: Path) -> list[np.ndarray]:
    """Write a scan of `count` looks with the sensor's noise; returns the depths (H, W) [m] without it, 0 where none is read."""
    task, nominal = tasks.make("peg-insertion"), world_settings.load()
    quiet = replace(nominal.sensor, depth_noise=0.0, depth_noise_smooth=0.0)
    taken = []
    for settings in (nominal, replace(nominal, sensor=quiet)):
        world = worlds.make("pybullet", task, settings)
        world.reset(seed)
        drawn = task.draw_views(np.random.default_rng([seed, 9]), 50 * count)
        taken.append([world.look(X)[0] for X in islice((X for X in drawn if world.reach(X).ok), count)])
    fx, fy, cx, cy = taken[0][0].camera.K.tolist()
    depths = [[np.where(im.valid, im.depth, 0.0) for im in images] for images in taken]
    colors, poses = [np.asarray(im.color) for im in taken[0]], [im.camera.X_WC.double().numpy() for im in taken[0]]
    write_scan(folder, colors, depths[0], poses, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))
    return depths[1]


def interval(errors: Sequence[Errors], figure: str) -> tuple[np.ndarray, np.ndarray]:
    """A figure of all frames for each of `errors`, (n), and of draws of frames (DRAWS, n)."""
    rng, f = np.random.default_rng(0), FIGURES[figure]
    value = np.array([f(np.concatenate(e)) for e in errors])
    some = [rng.integers(0, len(x), EACH) for x in errors[0]]
    thin = [[x[at] for x, at in zip(e, some, strict=True)] for e in errors]
    picks = rng.integers(0, len(some), (DRAWS, len(some)))
    return value, np.array([[f(np.concatenate([t[i] for i in pick])) for t in thin] for pick in picks])


def show(name: str, before: Errors, after: Errors) -> None:
    """Figures of two surfaces over the same readings."""
    for figure in FIGURES:
        value, draws = interval((before, after), figure)
        spread = lambda x: "[{:.2f}, {:.2f}]".format(*np.percentile(x, [2.5, 97.5]))  # noqa: E731
        (a, b), (da, db) = 1000 * value, 1000 * draws.T
        print(f"{name:14} {figure:6} fused {a:6.2f} {spread(da)} mm, refined {b:6.2f} {spread(db)} mm, ", end="")
        print(f"ratio {b / a:.2f} {spread(db / da)}", flush=True)


def one(scan: Scan, clean: list[np.ndarray] | None, args: argparse.Namespace, found: dict[str, list[Errors]]) -> None:
    """Fuse, refine and measure one scan, and add to `found`."""
    kept, held = scan.split(args.hold_out)
    voxel = args.voxel or tsdf.default_voxel(kept, args.max_depth)
    start = time.perf_counter()
    fused = tsdf.fuse(kept, voxel, args.max_depth)
    middle = time.perf_counter()
    refined = refine(fused, kept, voxel, args.max_depth, args.steps, print if args.verbose else None)
    end = time.perf_counter()
    cross = [int(Crossings(s.vertices, s.faces).find(s.vertices).sum()) for s in (fused, refined)]
    print(f"{len(kept.frames)} frames kept, {len(held.frames)} held out, voxels of {1000 * voxel:.3g} mm, ", end="")
    print(f"{len(fused.faces)} faces, {cross[0]} of which cross others, refined {cross[1]}; ", end="")
    print(f"fused in {middle - start:.0f} s, refined in {end - middle:.0f} s", flush=True)
    if args.save:
        pair = {"fused": fused, "refined": refined}
        fields = {f"{name}_{k}": getattr(x, k) for name, x in pair.items() for k in ("vertices", "colors")}
        np.savez(args.save, faces=fused.faces, **fields)
    surfaces = [fused, refined, *([tsdf.fuse(kept, args.finer, args.max_depth)] if args.finer else [])]
    readings = {"sensor": [f.depth() for f in held.frames]}
    if clean is not None:
        held_out = clean[args.hold_out - 1 :: args.hold_out]
        readings["truth"] = held_out
        noise = [np.abs(m - z)[(m > 0) & (z > 0)] for m, z in zip(readings["sensor"], held_out, strict=True)]
        found.setdefault("noise", []).append(noise)
    for kind, depths in readings.items():
        errors = [depth_errors(s, held, depths, args.max_depth) for s in surfaces]
        both = [np.isfinite(a) & np.isfinite(b) for a, b in zip(*errors[:2], strict=True)]
        covered = [np.isfinite(np.concatenate(e)).mean() for e in errors]
        print(f"{kind}: share of readings with a depth: " + ", ".join(f"{100 * c:.1f} %" for c in covered))
        for tag, e in zip(("fused", "refined"), errors[:2], strict=True):
            found.setdefault(f"{kind} {tag}", []).append([x[k] for x, k in zip(e, both, strict=True)])
        if args.finer:
            found.setdefault(f"{kind} finer", []).append([x[np.isfinite(x)] for x in errors[2]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("scan", "looks"))
    parser.add_argument("folder", nargs="?", type=Path, help="of a scan")
    parser.add_argument("--seed", type=int, default=0, help="the first world's, of looks")
    parser.add_argument("--count", type=int, default=1, help="worlds, of looks")
    parser.add_argument("--looks", type=int, default=20, help="frames in each world")
    parser.add_argument("--hold-out", type=int, default=8, help="every n-th frame is held out")
    parser.add_argument("--voxel", type=float, help="[m]; by the scene's size where not given")
    parser.add_argument("--finer", type=float, help="voxels of another fusion, to compare with [m]")
    parser.add_argument("--max-depth", type=float, default=4.0, help="[m]")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--save", help="an .npz file that gets the last surfaces")
    parser.add_argument("--verbose", action="store_true", help="the loss of each step")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "scan" and args.folder is None:
        parser.error("scan takes the folder of one.")
    found: dict[str, list[Errors]] = {}
    if args.what == "scan":
        one(read_scan(args.folder), None, args, found)
    for seed in range(args.seed, args.seed + args.count) if args.what == "looks" else ():
        with tempfile.TemporaryDirectory() as folder:
            clean = look(seed, args.looks, Path(folder) / "scan")
            one(read_scan(Path(folder) / "scan"), clean, args, found)
    frames = {kind: [frame for scan in scans for frame in scan] for kind, scans in found.items()}
    for kind in ("sensor", "truth") if args.what == "looks" else ("sensor",):
        show(f"against {kind}", frames[f"{kind} fused"], frames[f"{kind} refined"])
    for kind in (k for k in frames if k.endswith("finer") or k == "noise"):
        said = ", ".join(f"{n} {1000 * f(np.concatenate(frames[kind])):.2f} mm" for n, f in FIGURES.items())
        print(f"{kind}: {said}")


if __name__ == "__main__":
    main()
