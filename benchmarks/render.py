"""Milliseconds a render, forward and with its gradient, on a table-top scene of about two thousand triangles.

python benchmarks/render.py [--device cpu] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from samrl.core import lie
from samrl.core.camera import Camera, look_at
from samrl.model.render import LooseSolid, Renderer, loose_scene
from samrl.model.scene import BLOCK_WITH_HOLE, BOX, CAPSULE, CYLINDER, PLANE


def table_top(arm_links: int = 11) -> tuple:
    """Table, block with a hole on a riser, peg, an arm of capsules above them; link poses."""
    bodies = {
        "table": [LooseSolid(PLANE, (1.5, 1.5), (0.5, 0.45, 0.4))],
        "block": [
            LooseSolid(BLOCK_WITH_HOLE, (0.045, 0.04, 0.025, 0.009, 0.03, 0.002), (0.25, 0.4, 0.7)),
            LooseSolid(BOX, (0.02, 0.02, 0.02), (0.2, 0.2, 0.2), (0.0, 0.0, -0.045)),
        ],
        "peg": [LooseSolid(CYLINDER, (0.008, 0.03), (0.75, 0.25, 0.2))],
    } | {f"arm{i}": [LooseSolid(CAPSULE, (0.04, 0.06), (0.9, 0.9, 0.88))] for i in range(arm_links)}
    p = [(0, 0, 0), (0, 0, 0), (0, 0, 0.07), (0.01, 0.0, 0.14)]
    w = [(0, 0, 0), (0, 0, 0), (0, 0, 0.4), (0.2, 0.1, 0)]
    for i in range(arm_links):
        p.append((-0.05 * i, 0.03 * i, 0.27 + 0.04 * i))
        w.append((0.4 * i, 0.7 * i, 0.1))
    return *loose_scene(bodies), lie.pose(lie.exp_so3(torch.tensor(w).float()), torch.tensor(p).float())


def views(size: int, batch: int) -> Camera:
    eye = torch.tensor([0.35, -0.25, 0.3]) + 0.03 * torch.randn(batch, 3, generator=torch.Generator().manual_seed(0))
    return Camera.from_fov(size, size, 0.7, look_at(eye, torch.tensor([0.0, 0.0, 0.12])))


def median_ms(run: Callable[[], None], repeats: int) -> float:
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[3:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    scene, params, X_WL = table_top()
    params, X_WL = params.to(args.device), X_WL.to(args.device).requires_grad_()
    masks = ("block", "peg")
    renderer = Renderer(scene, masks=masks, device=args.device, threads=args.threads)
    few = Renderer(scene, masks=masks, moving=masks, device=args.device, threads=args.threads)
    print(f"{renderer.triangles} triangles, colour, depth and two masks; ms a batch")
    print("size  batch  forward  +backward  +backward, two bodies move")
    for size in (64, 128, 256):
        for batch in (1, 8):
            camera = views(size, batch)
            camera = Camera(size, size, camera.K.to(args.device), camera.X_WC.to(args.device))

            def forward(camera: Camera = camera) -> None:
                with torch.no_grad():
                    renderer.render(params, X_WL, camera)

            def backward(r: Renderer, camera: Camera = camera) -> None:
                image = r.render(params, X_WL, camera)
                parts = [image.color, *image.masks.values()]
                grad = torch.autograd.grad(parts, X_WL, [torch.ones_like(x) for x in parts])[0]
                float(grad.sum())  # waits for the device

            row = [median_ms(f, args.repeats) for f in (forward, lambda: backward(renderer), lambda: backward(few))]
            print(f"{size:4d}  {batch:5d}  {row[0]:7.2f}  {row[1]:9.2f}  {row[2]:26.2f}", flush=True)


if __name__ == "__main__":
    main()
