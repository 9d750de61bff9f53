"""Pinhole, crops, viewpoints."""

import math

import torch

from samrl.core import lie
from samrl.core.camera import Camera, Roi, look_at, viewpoint

TARGET = torch.tensor([0.5, 0.0, 0.1], dtype=torch.float64)
EYE = torch.tensor([0.9, 0.2, 0.4], dtype=torch.float64)


def test_look_at_centres_its_target() -> None:
    camera = Camera.from_fov(1280, 720, math.radians(69), look_at(EYE, TARGET))
    u, v, z = camera.project(TARGET[None])[0].tolist()
    assert abs(u - 640) < 1e-9 and abs(v - 360) < 1e-9
    assert math.isclose(z, float((EYE - TARGET).norm()))
    above = camera.project((TARGET + torch.tensor([0, 0, 0.01]))[None])[0]
    assert float(above[1]) < 360, "up in the world is up in the image"


def test_unproject_inverts_project() -> None:
    camera = Camera.from_fov(1280, 720, math.radians(69), look_at(EYE, TARGET))
    p = TARGET + 0.1 * torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uvz = camera.project(p)
    assert torch.allclose(camera.unproject(uvz[:, :2], uvz[:, 2]), p, atol=1e-12)


def test_crop_sees_the_same_rays() -> None:
    camera = Camera.from_fov(1280, 720, math.radians(69), look_at(EYE, TARGET))
    roi = Roi.around(700, 300, 192)
    crop = camera.crop(roi, 64)
    p = TARGET[None]
    full, small = camera.project(p)[0], crop.project(p)[0]
    assert torch.allclose((full[:2] - torch.tensor([roi.left, roi.top])) / 3, small[:2])


def test_viewpoint_is_on_its_shell() -> None:
    yaw, pitch = torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64)
    X = viewpoint(TARGET[None], yaw, pitch, torch.tensor([0.4], dtype=torch.float64))[0]
    offset = X[:3, 3] - TARGET
    assert math.isclose(float(offset.norm()), 0.4)
    assert math.isclose(float(torch.asin(offset[2] / 0.4)), 0.7)
    assert torch.allclose(X[:3, 2], -offset / 0.4)
    assert torch.allclose(X[:3, :3] @ X[:3, :3].T, torch.eye(3, dtype=X.dtype))
    assert lie.inverse(X).shape == (4, 4)
