"""Pinhole camera, crops of its image, and viewpoints about a point.

Camera frame C: x right, y down, z forward (OpenCV). Pixel centres lie at half-integers: the image covers [0, W] × [0, H].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from samrl.core import lie


@dataclass(frozen=True)
class Camera:
    """One camera, or a batch of cameras that share their image size.

    Attributes:
        width, height: image size [px].
        K: (*batch, 4) intrinsics fx, fy, cx, cy [px].
        X_WC: (*batch, 4, 4) pose of the camera in the world.
    """

    width: int
    height: int
    K: Tensor
    X_WC: Tensor

    @staticmethod
    def from_fov(width: int, height: int, fov_x: float, X_WC: Tensor) -> Camera:
        """Square pixels, principal point in the middle, `fov_x` [rad] across the width."""
        f = 0.5 * width / math.tan(0.5 * fov_x)
        K = torch.tensor([f, f, 0.5 * width, 0.5 * height], dtype=X_WC.dtype, device=X_WC.device)
        return Camera(width, height, K, X_WC)

    def at(self, X_WC: Tensor) -> Camera:
        return replace(self, X_WC=X_WC)

    def project(self, p_W: Tensor) -> Tensor:
        """World points (*batch, n, 3) -> (*batch, n, 3): u, v [px] and depth z [m]."""
        p_C = lie.transform(lie.inverse(self.X_WC), p_W)
        z = p_C[..., 2:]
        K = self.K[..., None, :]
        return torch.cat([p_C[..., :2] / z * K[..., :2] + K[..., 2:], z], -1)

    def unproject(self, uv: Tensor, z: Tensor) -> Tensor:
        """Pixels (*batch, n, 2) and depths (*batch, n) [m] -> world points (*batch, n, 3)."""
        K = self.K[..., None, :]
        p_C = torch.cat([(uv - K[..., 2:]) / K[..., :2] * z[..., None], z[..., None]], -1)
        return lie.transform(self.X_WC, p_C)

    @staticmethod
    def around(X_WC: Tensor, p_W: Tensor, size: int, width: float | Tensor) -> Camera:
        """Cameras at X_WC (*batch, 4, 4) that see size × size pixels around points p_W (*batch, 3), `width` [m] across at their
        depth, one or several (k, *batch): same pose, shifted principal point. Depths below a centimetre count as that."""
        x, y, z = lie.transform(lie.inverse(X_WC), p_W[..., None, :])[..., 0, :].unbind(-1)
        z = z.clamp_min(0.01)
        f = size * z / width
        K = torch.stack([f, f, 0.5 * size - f * x / z, 0.5 * size - f * y / z], -1)
        return Camera(size, size, K, X_WC.expand(*f.shape, 4, 4))

    def crop(self, roi: Roi, size: int) -> Camera:
        """The camera that sees only `roi`, resampled to size × size pixels: same pose, shifted principal point."""
        s = size / roi.side
        fx, fy, cx, cy = self.K.unbind(-1)
        K = torch.stack([fx * s, fy * s, (cx - roi.left) * s, (cy - roi.top) * s], -1)
        return Camera(size, size, K, self.X_WC)

    def finer(self, factor: int) -> Camera:
        """The camera that sees the same in factor × factor as many pixels."""
        return Camera(factor * self.width, factor * self.height, factor * self.K, self.X_WC)


@dataclass(frozen=True)
class Roi:
    """A square region of the native image: left and top corner and side, whole native pixels; it may reach beyond the
    image's border, where nothing is seen."""

    left: int
    top: int
    side: int

    @staticmethod
    def around(u: float, v: float, side: int) -> Roi:
        return Roi(round(u - side / 2), round(v - side / 2), int(side))


def look_at(eye: Tensor, target: Tensor, up: Tensor | None = None) -> Tensor:
    """Pose X_WC (*batch, 4, 4) of a camera at `eye` that looks at `target` (*batch, 3) [m], its image upright against
    `up` (world z where not given)."""
    up = eye.new_tensor([0.0, 0.0, 1.0]) if up is None else up
    z = target - eye
    z = z / z.norm(dim=-1, keepdim=True)
    x = torch.linalg.cross(z, up.expand_as(z))
    x = x / x.norm(dim=-1, keepdim=True)
    return lie.pose(torch.stack([x, torch.linalg.cross(z, x), z], -1), eye)


def viewpoint(target: Tensor, yaw: Tensor, pitch: Tensor, radius: Tensor) -> Tensor:
    """Camera pose X_WC (*batch, 4, 4) on a shell about `target` (*batch, 3): yaw [rad] about world z from +x, pitch
    [rad] above the horizon, radius [m]."""
    return look_at(target + radius[..., None] * ray(yaw, pitch), target)


def ray(yaw: Tensor, pitch: Tensor) -> Tensor:
    """Unit vectors (*batch, 3) towards that yaw about world z from +x and that pitch above the horizon [rad]."""
    return torch.stack([pitch.cos() * yaw.cos(), pitch.cos() * yaw.sin(), pitch.sin()], -1)
