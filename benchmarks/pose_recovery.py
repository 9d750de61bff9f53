"""How often a body's pose is found again by gradients of the image, from starts that are so far off.

    python benchmarks/pose_recovery.py [--starts 200] [--size 64] [--depth] [--far]

A block with a hole on a table, seen from 40 cm; everything but its pose is known. Adam on the pose's tangent, 200 steps, on
the mean square of the difference of colours, and with --depth of 1/z. Near starts are 3 cm and 15 degrees off in random
directions; far ones (--far) 6 cm and 45 degrees, eight tries a start in random directions of the rotation, of which the best
by the loss counts. Found: within 3 mm and 2 degrees. Simulated: the image to be explained is the renderer's own."""

from __future__ import annotations

import argparse
import math

import torch
from render import table_top
from torch import Tensor

from samrl.core import lie
from samrl.core.camera import Camera, look_at
from samrl.model.render import Renderer

STEPS, BATCH, TRIES = 200, 40, 8
LENGTH = 0.05  # [m] that a rotation by one radian counts as


def unit(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    x = torch.randn(*shape, 3, generator=generator)
    return x / x.norm(dim=-1, keepdim=True)


class Search:
    """The scene, its image, and how far a pose of the block is from explaining it."""

    def __init__(self, size: int, depth: bool) -> None:
        scene, self.params, self.X_WL = table_top(0)
        self.block = scene.link("block")
        self.renderer = Renderer(scene, moving=("block",), mean_depth=depth)
        eye = torch.tensor([0.28, -0.2, 0.26])
        self.camera, self.depth = Camera.from_fov(size, size, 0.6, look_at(eye, torch.tensor([0.0, 0.0, 0.08]))), depth
        with torch.no_grad():
            self.wanted = self.image(self.X_WL[self.block][None])

    def image(self, X_WB: Tensor) -> Tensor:
        """(n, H, W, channels) with the block at X_WB (n, 4, 4)."""
        X = self.X_WL.expand(len(X_WB), *self.X_WL.shape)
        X = torch.cat([X[:, : self.block], X_WB[:, None], X[:, self.block + 1 :]], 1)
        image = self.renderer.render(self.params, X, self.camera)
        if not self.depth:
            return image.color
        return torch.cat([image.color, torch.where(image.valid, 0.1 / image.depth.clamp_min(1e-3), 0.0)[..., None]], -1)

    def loss(self, X_WB: Tensor) -> Tensor:
        """(n) mean square differences."""
        return ((self.image(X_WB) - self.wanted) ** 2).mean((-3, -2, -1))

    def descend(self, X_WB: Tensor) -> tuple[Tensor, Tensor]:
        """Poses (n, 4, 4) after the descent, and their losses (n)."""
        x = torch.zeros(len(X_WB), 6, requires_grad=True)
        scale = torch.tensor([LENGTH] * 3 + [1.0] * 3)
        adam = torch.optim.Adam([x], lr=0.06)
        decay = torch.optim.lr_scheduler.LambdaLR(adam, lambda i: 0.5 * (1 + math.cos(math.pi * i / STEPS)))
        for _ in range(STEPS):
            adam.zero_grad()
            (1e4 * self.loss(lie.retract(X_WB, scale * x))).sum().backward()
            adam.step()
            decay.step()
        with torch.no_grad():
            end = lie.retract(X_WB, scale * x)
            return end, self.loss(end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=200)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--depth", action="store_true")
    parser.add_argument("--far", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    search, generator = Search(args.size, args.depth), torch.Generator().manual_seed(0)
    far, angle, tries = (0.06, math.radians(45), TRIES) if args.far else (0.03, math.radians(15), 1)
    true = search.X_WL[search.block]
    moved, turned = far * unit((args.starts, 1), generator), angle * unit((args.starts, 1), generator)
    turned = torch.cat([turned, turned + angle * unit((args.starts, tries - 1), generator)], 1)
    starts = lie.retract(true, torch.cat([moved.expand_as(turned), turned], -1)).flatten(0, 1)
    ends, losses = (torch.cat(parts) for parts in zip(*(search.descend(x) for x in starts.split(BATCH)), strict=True))
    which = losses.view(-1, tries).argmin(1)
    found = lie.local(true.expand(len(which), 4, 4), ends.view(-1, tries, 4, 4)[torch.arange(len(which)), which])
    mm, deg = 1e3 * found[:, :3].norm(dim=-1), found[:, 3:].norm(dim=-1).rad2deg()
    good = (mm < 3) & (deg < 2)
    print(
        f"{args.size} x {args.size}, {'colour and depth' if args.depth else 'colour'}, {1e2 * far:.0f} cm and "
        f"{math.degrees(angle):.0f} degrees off, {tries} tries: {int(good.sum())} of {len(good)} found; "
        f"median error {float(mm.median()):.2f} mm, {float(deg.median()):.2f} degrees"
    )


if __name__ == "__main__":
    main()
