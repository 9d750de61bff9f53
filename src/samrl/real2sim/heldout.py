"""How well a mesh tells the depth of views that it was not made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import warp as wp

import samrl.model  # noqa: F401  (starts Warp, and keeps it from talking of drivers)
from samrl.real2sim import ray_kernels
from samrl.real2sim.scan import Scan
from samrl.real2sim.tsdf import Surface

wp.config.log_level = max(wp.config.log_level, 30)  # warnings: Warp tells of each module that it loads


@dataclass(frozen=True)
class DepthError:
    """Of held-out views: median |depth error| and its 90th percentile [m]; covered: share of readings where the mesh has a
    depth too (elsewhere there is no error to speak of); frames: how many views."""

    median: float
    tenth: float
    covered: float
    frames: int


def depth_error(surface: Surface, held: Scan, max_depth: float) -> DepthError:
    """Mesh against the depth of views `held`, over pixels with a reading up to max_depth [m]."""
    errors = depth_errors(surface, held, [f.depth() for f in held.frames], max_depth)
    off = np.concatenate(errors)
    off = off[np.isfinite(off)]
    if not len(off):
        return DepthError(float("nan"), float("nan"), 0.0, len(held.frames))
    readings = sum(map(len, errors))
    return DepthError(float(np.median(off)), float(np.percentile(off, 90)), len(off) / readings, len(held.frames))


def depth_errors(surface: Surface, held: Scan, depths: Sequence[np.ndarray], max_depth: float) -> list[np.ndarray]:
    """For each view, |mesh - depth| [m] of its readings up to max_depth in depths (H, W) [m]; nan where the mesh has none."""
    mesh = wp.Mesh(
        points=wp.array(surface.vertices.astype(np.float32), dtype=wp.vec3, device="cpu"),
        indices=wp.array(surface.faces.astype(np.int32).ravel(), dtype=int, device="cpu"),
    )
    errors = []
    for frame, measured in zip(held.frames, depths, strict=True):
        ours = cast(mesh, held, frame.X_SC)
        off = np.where(ours > 0, np.abs(ours - measured), np.nan)
        errors.append(off[(measured > 0) & (measured <= max_depth)])
    return errors


def cast(mesh: wp.Mesh, scan: Scan, X_SC: np.ndarray) -> np.ndarray:
    """Depth (H, W) [m] of a mesh from a camera at X_SC (4, 4) with a scan's intrinsics, 0 where there is nothing."""
    depth = wp.zeros(scan.width * scan.height, dtype=float, device="cpu")
    K_inv = wp.mat33(np.linalg.inv(scan.K).astype(np.float32))
    inputs = [mesh.id, wp.mat44(X_SC.astype(np.float32)), K_inv, scan.width, 1e3, depth]
    wp.launch(ray_kernels.cast, dim=depth.shape[0], inputs=inputs, device="cpu")
    return depth.numpy().reshape(scan.height, scan.width)
