"""A scan whose truth is known: a box and a cylinder on a table, rendered, with noise, in a frame that is turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from samrl.core import lie
from samrl.core.camera import Camera, viewpoint
from samrl.model.render import LooseSolid, Renderer, loose_scene
from samrl.model.scene import BOX, CYLINDER
from samrl.real2sim.scan import write_scan

TABLE, BRICK, TIN = (0.35, 0.3, 0.02), (0.05, 0.035, 0.04), (0.03, 0.05)  # half-lengths; radius and half length [m]
BRICK_AT, TIN_AT = (-0.1, 0.05, 0.04), (0.12, -0.06, 0.05)  # in T, the table's frame: z up, origin on its top [m]
BRICK_YAW, BRICK_COLOR, TIN_COLOR = 0.5, (0.8, 0.2, 0.1), (0.1, 0.3, 0.8)
X_ST = lie.pose(lie.exp_so3(torch.tensor([1.9, 0.3, -0.4])), torch.tensor([0.3, -0.2, 1.1]))  # T in the scan's frame


def make_scan(folder: Path, views: int = 16, noise: float = 0.0015, seed: int = 0) -> None:
    """Write the scan; noise: standard deviation of depth at .8 m [m], growing with its square. One reading in thirty
    is missing."""
    bodies = {
        "table": [LooseSolid(BOX, TABLE, (0.6, 0.55, 0.5), p=(0.0, 0.0, -TABLE[2]))],
        "brick": [LooseSolid(BOX, BRICK, BRICK_COLOR, p=BRICK_AT, w=(0.0, 0.0, BRICK_YAW))],
        "tin": [LooseSolid(CYLINDER, TIN, TIN_COLOR, p=TIN_AT)],
    }
    scene, params = loose_scene(bodies)
    yaw = 2 * torch.pi * torch.arange(views) / views
    pitch = torch.where(torch.arange(views) % 2 == 0, 0.6, 1.0)
    X_TC = viewpoint(torch.tensor([0.0, 0.0, 0.03]).expand(views, 3), yaw, pitch, torch.full((views,), 0.8))
    camera = Camera.from_fov(320, 240, 0.9, X_TC)
    image = Renderer(scene, detail=3.0).render(params, torch.eye(4).repeat(len(scene.link_names), 1, 1), camera)
    generator = torch.Generator().manual_seed(seed)
    depth = image.depth + noise * (image.depth / 0.8) ** 2 * torch.randn(image.depth.shape, generator=generator)
    depth = torch.where(image.valid & (torch.rand(depth.shape, generator=generator) > 1 / 30), depth, 0.0)
    fx, fy, cx, cy = camera.K.tolist()
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    write_scan(folder, image.color.numpy(), depth.numpy(), (X_ST @ X_TC).double().numpy(), K)
