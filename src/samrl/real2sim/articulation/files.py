"""Looks on disk: a scan's folder (`real2sim.scan`) with a mask of the body for each frame, and what was found as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from samrl.core.camera import Camera
from samrl.core.errors import ScanError
from samrl.core.types import RGBD
from samrl.real2sim.articulation.fit import JointEstimate
from samrl.real2sim.scan import MILLIMETRES, read_scan, write_scan


def read_looks(folder: Path, body: str, units: float = MILLIMETRES) -> dict[str, RGBD]:
    """Frame's name -> look. Beside what a scan has, frame-N.BODY.png is the body's mask: 8 bit, more than half where it is seen.

    Args:
        units: of depth to a metre.

    Raises: ScanError, in a sentence, for whatever is missing or cannot be meant.
    """
    scan, looks = read_scan(folder, units), {}
    K = torch.tensor([scan.K[0, 0], scan.K[1, 1], scan.K[0, 2], scan.K[1, 2]], dtype=torch.float64)
    for frame in scan.frames:
        path, depth = folder / f"{frame.name}.{body}.png", frame.depth()
        if not path.is_file():
            raise ScanError(f"{frame.name} of {folder} has no mask of '{body}': {path.name} is not there.")
        with Image.open(path) as image:
            mask = np.asarray(image.convert("L"), np.float32) / 255.0
        if mask.shape != depth.shape:
            size, wanted = (f"{x.shape[1]} x {x.shape[0]}" for x in (mask, depth))
            raise ScanError(f"{path} has {size} pixels, its frame {wanted}; a mask is as large as its images.")
        camera = Camera(scan.width, scan.height, K, torch.as_tensor(frame.X_SC, dtype=torch.float64))
        looks[frame.name] = RGBD(frame.color(), depth, depth > 0, {body: mask}, camera)
    return looks


def write_looks(folder: Path, looks: Sequence[RGBD], body: str) -> None:
    """Write looks of one camera as `read_looks` takes them."""
    fx, fy, cx, cy = looks[0].camera.K.tolist()
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    poses = [np.asarray(look.camera.X_WC, float) for look in looks]
    write_scan(folder, [x.color for x in looks], [np.where(x.valid, x.depth, 0.0) for x in looks], poses, K)
    for i, look in enumerate(looks):
        Image.fromarray(np.uint8(np.rint(255 * np.asarray(look.masks[body])))).save(folder / f"frame-{i:06d}.{body}.png")


def write_estimate(path: Path, found: JointEstimate) -> None:
    """All of an estimate as JSON."""
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in vars(found).items()}
    path.write_text(json.dumps(plain, indent=1) + "\n")
