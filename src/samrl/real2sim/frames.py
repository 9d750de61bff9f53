"""From a world's native images to what the update compares: crops of a few thousand pixels, and points on the bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samrl.core.camera import Camera, Roi
from samrl.core.errors import ImageError
from samrl.core.types import RGBD


@dataclass(frozen=True)
class Crop:
    """One square crop, area-averaged.

    Attributes:
        color: (S, S, 3) in [0, 1]; masks: body -> (S, S) coverage.
        depth: body -> (S, S) mean depth of that body's own readings in the pixel [m], 0 where fewer than half read.
        surface: (S, S) mean depth of whatever is seen [m], 0 where fewer than half of the pixel reads.
        inside: (S, S) whether the pixel lies on the sensor.
        camera: S × S pixels.
    """

    color: Tensor
    masks: dict[str, Tensor]
    depth: dict[str, Tensor]
    surface: Tensor
    inside: Tensor
    camera: Camera


def choose_roi(camera: Camera, center_W: Tensor, size: int, pixel: float, reach: float | None = None) -> Roi:
    """Region of the native image around the projection of `center_W` (3) such that a pixel of the size × size crop covers
    about `pixel` [m] at that distance, by a whole number of native pixels; `reach` [m] asks for at least that width."""
    u, v, z = camera.project(center_W[None].to(camera.X_WC.dtype))[0].tolist()
    native = max(z, 0.05) / float(camera.K[0])
    k = max(1, round(pixel / native))
    if reach is not None:
        k = max(k, int(np.ceil(reach / native / size)))
        k += -k % 3 if k >= 10 else 0  # make_crop then reads every third row
    return Roi.around(u, v, k * size)


def check_image(rgbd: RGBD, bodies: tuple[str, ...]) -> None:
    """Raise ImageError, in a sentence, for images that cannot be compared."""
    color, depth = np.asarray(rgbd.color), np.asarray(rgbd.depth)
    want = (rgbd.camera.height, rgbd.camera.width)
    if color.shape != (*want, 3):
        raise ImageError(f"the colour image is {color.shape}, but its camera says {(*want, 3)} (height, width, 3).")
    if depth.shape != want:
        raise ImageError(f"the depth image is {depth.shape}, but its camera says {want} (height, width).")
    for name, array in (("colour", color), ("depth", depth)):
        bad = ~np.isfinite(array)
        if bad.any():
            raise ImageError(
                f"the {name} image holds {int(bad.sum())} non-finite values; mark missing depth by 0 and valid = False."
            )
    for body in bodies:
        if body not in rgbd.masks:
            raise ImageError(f"there is no mask for '{body}'; masks are {', '.join(rgbd.masks) or '(none)'}.")
        if np.shape(rgbd.masks[body]) != want:
            raise ImageError(f"the mask of '{body}' is {np.shape(rgbd.masks[body])}, but the image is {want}.")


def make_crop(rgbd: RGBD, bodies: tuple[str, ...], size: int, native: Camera) -> Crop:
    """Area-average a native square image, whose side is a multiple of `size`, to size × size pixels. `native`: the camera
    that the image is a region of. Where a pixel is made of a hundred native ones, every third row and column is enough."""
    check_image(rgbd, bodies)
    side = rgbd.camera.width
    if side != rgbd.camera.height or side % size:
        raise ImageError(f"a crop of {size} pixels needs a square image whose side is a multiple of {size}, not {side}.")
    k = side // size
    step = 3 if k >= 10 and k % 3 == 0 else 1
    every, each = slice(step // 2, None, step), k // step  # symmetric about each pixel's middle

    def block(x: Any) -> np.ndarray:
        """Means over each pixel; strips are added one by one, many times faster than numpy's sum over a short axis."""
        rows = sum(x[i::each] for i in range(each))
        return sum(rows[:, i::each] for i in range(each)) / np.float32(each * each)

    thin = lambda x: np.asarray(x)[every, every].astype(np.float32)  # noqa: E731
    depth, valid = thin(rgbd.depth), thin(rgbd.valid)

    def mean_depth(own: np.ndarray) -> Tensor:
        reads, total = block(own * valid), block(own * valid * depth)
        return torch.from_numpy(np.where(reads >= 0.5, total / np.maximum(reads, 1e-6), 0.0).astype(np.float32))

    masks = {body: torch.from_numpy(block(thin(rgbd.masks[body]))) for body in bodies}
    depths = {body: mean_depth(thin(rgbd.masks[body])) for body in bodies}
    surface = mean_depth(np.ones_like(depth))
    c = rgbd.camera
    camera = Camera(size, size, (c.K / k).float(), c.X_WC.float())
    inside = torch.from_numpy(block(thin(_on_sensor(rgbd.camera, native))) > 0.99)
    return Crop(torch.from_numpy(block(thin(rgbd.color))), masks, depths, surface, inside, camera)


def _on_sensor(camera: Camera, native: Camera) -> np.ndarray:
    """(H, W) 1 where a pixel of the cropped camera lies within the native image."""
    left, top = (native.K[2:] - camera.K[2:].to(native.K.dtype)).tolist()
    x, y = left + np.arange(camera.width) + 0.5, top + np.arange(camera.height) + 0.5
    in_x, in_y = (x > 0) & (x < native.width), (y > 0) & (y < native.height)
    return (in_y[:, None] & in_x[None, :]).astype(np.float32)


def stratified(mask: Tensor, count: int) -> Tensor:
    """At most `count` pixel indices (n, 2) = (row, column) of a boolean (S, S) mask, spread evenly by a fixed rule, so that
    the same mask gives the same points (fresh random points would differ by millimetres from themselves)."""
    index = torch.nonzero(mask)
    if len(index) <= count:
        return index
    return index[torch.linspace(0, len(index) - 1, count).round().long()]


def points_of(depth: Tensor, camera: Camera, count: int) -> Tensor:
    """World points (n <= count, 3) where `depth` (S, S) has readings."""
    index = stratified(depth > 0, count)
    uv = index.flip(-1).to(depth.dtype) + 0.5
    return camera.unproject(uv, depth[index[:, 0], index[:, 1]])
