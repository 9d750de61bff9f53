"""Losses of an image of a view, their gradients, and central differences of a finer image of the same view."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from views import View

from samrl.core import lie
from samrl.core.camera import Camera, look_at
from samrl.model.render import Renderer, loose_scene

WEIGHTINGS = 4  # random ones of the image, for each kind of loss
KINDS = ("colour", "1/depth", "masks")
LIGHT = ("color", "light_direction", "ambient", "diffuse")
TURN, TURN_CAMERA = (
    20.0,
    3.0,
)  # [1/m] rotations are counted in these: a step of theirs moves pixels as far


def smooth_noise(size: int, channels: int, seed: int) -> Tensor:
    """(WEIGHTINGS, channels, size, size) of unit scale, a seventh of the image to a blob."""
    coarse = torch.randn(WEIGHTINGS, channels, 7, 7, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").double()


@dataclass(frozen=True)
class Row:
    """A gradient by one leaf against differences: cosine, and error in shares of the differences' length."""

    leaf: str
    kind: str
    cosine: float
    error: float

    def __str__(self) -> str:
        return f"{self.kind} by {self.leaf}: cosine {self.cosine:.4f}, off by {100 * self.error:.1f} %"


class Picture:
    """A view in `size` × `size` pixels. A loss is a sum over the image, weighted by smooth noise; an offset x moves a leaf."""

    def __init__(self, view: View, size: int, device: str = "cpu") -> None:
        self.view, self.names = view, list(view.bodies)
        self.scene, self.params = loose_scene({name: solids for name, (solids, _, _) in view.bodies.items()})
        still = (0.0, 0.0, 0.0)
        p, w = (torch.tensor([still, *(body[i] for body in view.bodies.values())]) for i in (1, 2))
        self.X_WL = lie.pose(lie.exp_so3(w), p)
        eye, target = torch.tensor(view.eye), torch.tensor(view.target)
        self.camera = Camera.from_fov(size, size, view.fov, look_at(eye, target))
        self.weights = smooth_noise(size, 4 + len(view.moving), 1)
        pixel = view.step * float((eye - target).norm() / self.camera.K[0])  # [m]
        lengths = {name: 6 for name in (*view.moving, "camera")} | {f"size of {n}": k for n, k in view.sizes.items()}
        self.steps = dict.fromkeys(lengths, pixel) | {"K": 0.05} | dict.fromkeys(LIGHT, 0.02)
        self.shapes = {n: torch.Size([k]) for n, k in lengths.items()} | {"K": torch.Size([4])}
        self.shapes |= {n: getattr(self.params, n).shape for n in LIGHT}

        self.size, self.renderer = size, Renderer(
            self.scene, masks=view.moving, detail=view.detail, near=view.near, background=view.background, mean_depth=True,
            device=device,
        )  # fmt: skip

    def losses(self, leaf: str, x: Tensor, finer: int = 1) -> Tensor:
        """(KINDS, WEIGHTINGS) with one leaf moved by x, of an image with `finer` times as many pixels each way."""
        params, X, camera = self.params, list(self.X_WL), self.camera
        if leaf in self.view.moving:
            i = self.names.index(leaf) + 1
            X[i] = lie.retract(X[i], x * torch.tensor([1.0] * 3 + [TURN] * 3))
        elif leaf == "camera":
            turned = lie.retract(camera.X_WC, x * torch.tensor([1.0] * 3 + [TURN_CAMERA] * 3))
            camera = dataclasses.replace(camera, X_WC=turned)
        elif leaf == "K":
            camera = dataclasses.replace(camera, K=camera.K + x)
        elif leaf in LIGHT:
            params = params.replace(**{leaf: getattr(params, leaf) + x})
        else:
            link = self.names.index(leaf.removeprefix("size of ")) + 1
            size, geom = params.geom_size.clone(), int((self.scene.geom_link == link).argmax())
            size[geom, : len(x)] = size[geom, : len(x)] + x
            params = params.replace(geom_size=size)
        image = self.renderer.render(params, torch.stack(X), camera.finer(finer))
        inverse = torch.where(image.depth > 0, 1 / image.depth.clamp_min(1e-6), 0.0)
        masks = torch.stack(list(image.masks.values()), -1)
        layers = torch.cat([image.color, inverse[..., None], masks], -1).cpu().double()
        layers = layers.view(self.size, finer, self.size, finer, -1).mean((1, 3))
        sums = torch.einsum("hwc,kchw->ck", layers, self.weights)
        return torch.stack([sums[:3].sum(0), sums[3], sums[4:].sum(0)])

    def gradient(self, leaf: str) -> Tensor:
        """(KINDS, WEIGHTINGS, numel of the leaf)."""
        x = torch.zeros(self.shapes[leaf], requires_grad=True)
        losses = self.losses(leaf, x).flatten()
        rows = [torch.autograd.grad(y, x, retain_graph=True)[0].flatten() for y in losses]
        return torch.stack(rows).double().view(len(KINDS), WEIGHTINGS, -1)

    def difference(self, leaf: str, finer: int) -> Tensor:
        """As `gradient`, by central differences of a finer image."""
        shape, step = self.shapes[leaf], self.steps[leaf]
        out = []
        with torch.no_grad():
            for i in range(shape.numel()):
                x = torch.zeros(shape.numel())
                x[i] = step
                ends = [self.losses(leaf, sign * x.view(shape), finer) for sign in (1, -1)]
                out.append((ends[0] - ends[1]) / (2 * step))
        return torch.stack(out, -1)

    def rows(self, leaf: str, want: Tensor) -> list[Row]:
        """Rows of one leaf, but for kinds of loss that it does not change."""
        out = []
        for kind, a, b in zip(KINDS, self.gradient(leaf), want, strict=True):
            if float(b.norm()) > 1e-6 or float(a.norm()) > 1e-6:
                cosine = float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12))
                out.append(Row(leaf, kind, cosine, float((a - b).norm() / b.norm().clamp_min(1e-12))))
        return out
