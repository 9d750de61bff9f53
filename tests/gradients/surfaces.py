"""Losses of an image of a free surface, and their gradient by its vertices."""

from __future__ import annotations

import torch
from pictures import smooth_noise
from torch import Tensor

from samrl.core.camera import Camera, look_at
from samrl.model.render import Settings, SurfaceRenderer, surface_mesh
from samrl.model.render.meshes import template


class Surface:
    """A free surface in 128 × 128 pixels, with a loss by colour and one by coverage for each weighting. A textured one shows a
    smooth picture from above, two and a half times over."""

    def __init__(self, kind: int, size: list[float], split: bool = False, textured: bool = False, device: str = "cpu") -> None:
        shape = template(kind)
        faces, corners, T = shape.faces, shape.corners, shape.T
        if split:
            T, faces = T[faces.reshape(-1)], torch.arange(faces.size).reshape(-1, 3).numpy()
        self.mesh = surface_mesh(faces, corners)
        vertices = T @ (size + [0.0] * (6 - len(size)))
        self.vertices = torch.from_numpy(vertices).float()
        self.colors = torch.rand(len(shape.normals), 3, generator=torch.Generator().manual_seed(1))
        self.device = device
        self.camera = Camera.from_fov(128, 128, 0.5, look_at(torch.tensor([0.2, -0.25, 0.2]), torch.zeros(3)))
        self.weights = smooth_noise(128, 4, 7)
        self.uv, self.texture = None, None
        if textured:
            self.uv = (vertices @ [[12.0, 5.0], [3.0, 12.0], [9.0, 4.0]])[faces]
            self.texture = 0.2 + torch.rand(5, 7, 3, generator=torch.Generator().manual_seed(3))

    def losses(self, finer: int, vertices: Tensor, colors: Tensor, texture: Tensor | None = None) -> Tensor:
        settings = Settings(background=(0.3, 0.1, 0.2), device=self.device)
        renderer = SurfaceRenderer(self.mesh, settings, mask=True, uv=self.uv)
        image = renderer.render(vertices, colors, self.camera.finer(finer), self.texture if texture is None else texture)
        layers = torch.cat([image.color, image.masks["surface"][..., None]], -1).cpu().double()
        layers = layers.view(128, finer, 128, finer, 4).mean((1, 3))
        sums = torch.einsum("hwc,kchw->ck", layers, self.weights)
        return torch.cat([sums[:3].sum(0), sums[3]])

    def gradient(self, vertices: Tensor) -> Tensor:
        """(2 WEIGHTINGS, V, 3)."""
        x = vertices.clone().requires_grad_()
        rows = self.losses(1, x, self.colors)
        return torch.stack([torch.autograd.grad(y, x, retain_graph=True)[0] for y in rows]).double()


def off(got: Tensor, want: Tensor) -> float:
    return float((got - want).norm() / want.norm())
