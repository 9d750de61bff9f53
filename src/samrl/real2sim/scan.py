"""A scan on disk: RGB-D frames with camera poses, as the example of tsdf-fusion-python has them (Zeng et al. 2017).

One folder holds `camera-intrinsics.txt` (3×3, pixels) and for each frame N `frame-N.color.jpg` (or .png), `frame-N.depth.png`
(16 bit; 0 and 65535 are no reading) and `frame-N.pose.txt` (4×4, X_SC: camera C in the scan's frame S, metres; C has x right,
y down, z forward). Pixel centres lie at half-integers, as everywhere in samrl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from samrl.core.errors import ScanError

MILLIMETRES = 1000.0  # depth units to a metre
NOTHING = 65535  # a reading that is none, beside 0
_UNITS = (1.0, 100.0, 256.0, 1000.0, 4000.0, 5000.0, 10000.0)  # in use: a metre's worth of depth units in one format or another
_AGREES, _CLEARER = 0.05, 0.5  # of depth: views that agree; how much better another unit must be to be named
_NEAREST, _FARTHEST = 0.05, 20.0  # of a depth image's median that can be meant [m]


@dataclass(frozen=True)
class ScanFrame:
    """One view of a scan.

    Attributes:
        name: "frame-000020".
        color_path, depth_path: its images; `units` of depth make a metre.
        X_SC: (4, 4) camera in the scan's frame.
    """

    name: str
    color_path: Path
    depth_path: Path
    X_SC: np.ndarray
    units: float = MILLIMETRES

    def color(self) -> np.ndarray:
        """(H, W, 3) in [0, 1]."""
        with Image.open(self.color_path) as image:
            return np.asarray(image.convert("RGB"), np.float32) / 255.0

    def depth(self) -> np.ndarray:
        """(H, W) metres along the optical axis, 0 where there is no reading. Raises: ScanError if it holds no 16 bit."""
        with Image.open(self.depth_path) as image:
            raw = np.asarray(image)
            mode = image.mode
        if raw.ndim != 2 or not mode.startswith("I"):
            raise ScanError(
                f"{self.depth_path} is an image of kind '{mode}'; depth is read from one channel of 16 bit, in millimetres "
                "(or other units a metre, by --depth-scale)."
            )
        raw = raw.astype(np.float32)
        return np.where((raw <= 0) | (raw >= NOTHING), 0.0, raw / self.units).astype(np.float32)


@dataclass(frozen=True)
class Scan:
    """frames: in the order of their names; K: (3, 3) intrinsics [px]; width, height: of every image [px]."""

    frames: tuple[ScanFrame, ...]
    K: np.ndarray
    width: int
    height: int

    def split(self, every: int) -> tuple[Scan, Scan]:
        """(what is fused, what is held out): every `every`-th frame is held out, none where it is 0."""
        kept = tuple(f for i, f in enumerate(self.frames) if not every or (i + 1) % every)
        held = tuple(f for i, f in enumerate(self.frames) if every and not (i + 1) % every)
        return Scan(kept, self.K, self.width, self.height), Scan(held, self.K, self.width, self.height)


def read_scan(folder: Path, units: float = MILLIMETRES) -> Scan:
    """The scan in a folder, checked: every frame has its images and a rigid pose, sizes agree, and depth is in the unit said.

    Args:
        units: of depth to a metre.

    Raises: ScanError, in a sentence, for whatever is missing or cannot be meant.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ScanError(
            f"there is no folder '{folder}'; give one with frame-N.color.jpg, frame-N.depth.png and frame-N.pose.txt."
        )
    names = sorted(p.name.removesuffix(".depth.png") for p in folder.glob("*.depth.png"))
    if not names:
        raise ScanError(f"{folder} holds no frames; a scan has files frame-N.depth.png, frame-N.color.jpg and frame-N.pose.txt.")
    K = _intrinsics(folder / "camera-intrinsics.txt")
    missing = [n for n in names if not (folder / f"{n}.pose.txt").is_file()]
    if missing:
        raise ScanError(
            f"{len(missing)} of {len(names)} frames of {folder} have no pose, the first being {missing[0]}; each needs a file "
            f"{missing[0]}.pose.txt with the camera's pose in the scan's frame, 4 x 4, metres. Poses are not estimated here."
        )
    frames = tuple(ScanFrame(n, _color_path(folder, n), folder / f"{n}.depth.png", _pose(folder, n), units) for n in names)
    scan = Scan(frames, K, *_size(frames))
    _check_views(scan)
    return scan


def write_scan(
    folder: Path, colors: Sequence[np.ndarray], depths: Sequence[np.ndarray], poses: Sequence[np.ndarray], K: np.ndarray
) -> None:
    """Write views as a scan: colors (H, W, 3) in [0, 1], depths (H, W) [m], 0 where there is none, poses X_SC (4, 4), K (3, 3)
    [px]."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "camera-intrinsics.txt", K)
    for i, (color, depth, X_SC) in enumerate(zip(colors, depths, poses, strict=True)):
        stem = folder / f"frame-{i:06d}"
        Image.fromarray(np.uint8(np.rint(np.clip(color, 0, 1) * 255))).save(f"{stem}.color.png")
        millimetres = np.rint(np.asarray(depth, float) * MILLIMETRES)
        Image.fromarray(np.where(millimetres < NOTHING, millimetres, 0).astype(np.uint16)).save(f"{stem}.depth.png")
        np.savetxt(f"{stem}.pose.txt", X_SC)


def _numbers(path: Path, shape: tuple[int, int], what: str) -> np.ndarray:
    """The matrix in a text file."""
    try:
        values = np.loadtxt(path)
    except ValueError as e:
        raise ScanError(f"{path} holds something that is not a number; it should hold {what}.") from e
    if values.shape != shape or not np.isfinite(values).all():
        raise ScanError(f"{path} holds numbers of shape {values.shape}; it should hold {what}, all finite.")
    return values


def _intrinsics(path: Path) -> np.ndarray:
    """K (3, 3)."""
    if not path.is_file():
        raise ScanError(
            f"there are no intrinsics: {path} is missing; it holds 3 x 3 numbers, fx 0 cx / 0 fy cy / 0 0 1, in pixels."
        )
    K = _numbers(path, (3, 3), "the intrinsics, 3 x 3 in pixels")
    if K[0, 0] <= 0 or K[1, 1] <= 0 or not np.allclose(K[2], [0, 0, 1]) or abs(K[0, 1]) > 1e-6 * K[0, 0] or K[1, 0]:
        raise ScanError(f"{path} holds no pinhole camera; it takes fx 0 cx / 0 fy cy / 0 0 1 with fx, fy > 0, in pixels.")
    return K


def _color_path(folder: Path, name: str) -> Path:
    """Colour image of a frame."""
    for suffix in ("jpg", "png"):
        path = folder / f"{name}.color.{suffix}"
        if path.is_file():
            return path
    raise ScanError(f"{name} of {folder} has no colour: neither {name}.color.jpg nor {name}.color.png is there.")


def _pose(folder: Path, name: str) -> np.ndarray:
    """X_SC (4, 4), its rotation made exact."""
    path = folder / f"{name}.pose.txt"
    X = _numbers(path, (4, 4), "a pose, 4 x 4")
    R = X[:3, :3]
    off = max(float(np.abs(R @ R.T - np.eye(3)).max()), float(np.abs(X[3] - [0, 0, 0, 1]).max()))
    if off > 1e-2 or np.linalg.det(R) < 0:
        raise ScanError(
            f"{path} is no rigid transform (off by {off:.2g}, determinant {np.linalg.det(R):.2g}); a pose is a rotation and a "
            "translation in metres, its last row 0 0 0 1."
        )
    U, _, V = np.linalg.svd(R)
    X = X.copy()
    X[:3, :3], X[3] = U @ V, [0, 0, 0, 1]
    return X


def _size(frames: tuple[ScanFrame, ...]) -> tuple[int, int]:
    """(width, height) that all images share; only headers are read."""
    first: tuple[int, int] | None = None
    for frame in frames:
        for path in (frame.depth_path, frame.color_path):
            with Image.open(path) as image:
                size = image.size
            first = first or size
            if size != first:
                raise ScanError(
                    f"{path} has {size[0]} x {size[1]} pixels where {frames[0].depth_path.name} has {first[0]} x {first[1]}; "
                    "colour and depth of all frames must have one size, depth as the colour camera sees it."
                )
    assert first is not None
    return first


def _check_views(scan: Scan) -> None:
    """Refuse depth in another unit than said, and poses that are inverted: what one view measures must lie where the next one
    sees it, which is so in one unit alone, for poses are in metres. Where views are too few to tell, at least nobody scans from
    5 cm or 20 m."""
    depths = [f.depth() for f in scan.frames[:: max(1, len(scan.frames) // 12)]]
    poses = [f.X_SC for f in scan.frames[:: max(1, len(scan.frames) // 12)]]
    seen = [d[d > 0] for d in depths]
    if not any(len(d) for d in seen):
        raise ScanError(f"no depth image of {scan.frames[0].depth_path.parent} that was looked into holds a reading.")
    units = scan.frames[0].units
    off = {u: _disagreement(scan, depths, poses, units / u) for u in {*_UNITS, units}}
    best = min(off, key=lambda u: off[u])
    if best != units and off[best] < _CLEARER * off[units] and off[best] < _AGREES:
        raise ScanError(
            f"depth seems to be in the wrong unit: read as {units:g} a metre, views disagree by {100 * off[units]:.0f} % of "
            f"depth where they overlap, as {best:g} a metre by {100 * off[best]:.1f} %. Convert it to millimetres, or give "
            f"--depth-scale {best:g}."
        )
    turned = _disagreement(scan, depths, [np.linalg.inv(X) for X in poses], 1.0)
    if turned < _CLEARER * off[units] and turned < _AGREES:
        raise ScanError(
            f"the poses seem to be world to camera: as they are, views disagree by {100 * off[units]:.0f} % of depth where they "
            f"overlap, inverted by {100 * turned:.1f} %. A pose takes points from the camera to the scan's frame: invert them."
        )
    middle = float(np.median(np.concatenate(seen)))
    if not _NEAREST < middle < _FARTHEST:
        raise ScanError(
            f"depth seems to be in the wrong unit: read as {units:g} a metre, its median is {middle:.3g} m. Convert it to "
            "millimetres, or say by --depth-scale how many units make a metre."
        )


def _disagreement(scan: Scan, depths: list[np.ndarray], poses: list[np.ndarray], scale: float) -> float:
    """Median difference between what a view measures and what the next one sees there, in parts of depth; depth times `scale`."""
    parts = []
    for (Da, A), (Db, B) in zip(zip(depths, poses, strict=True), zip(depths[1:], poses[1:], strict=True), strict=False):
        v, u = np.mgrid[4 : scan.height : 8, 4 : scan.width : 8]
        z = scale * Da[v, u].ravel()
        rays = np.stack([u.ravel() + 0.5, v.ravel() + 0.5, np.ones(u.size)]) * z
        p = np.linalg.inv(B) @ A @ np.vstack([np.linalg.inv(scan.K) @ rays, np.ones(u.size)])
        good = (z > 0) & (p[2] > 1e-6)
        pixel = np.floor((scan.K @ p[:3, good])[:2] / p[2, good]).astype(int)
        inside = (pixel >= 0).all(0) & (pixel[0] < scan.width) & (pixel[1] < scan.height)
        there = scale * Db[pixel[1, inside], pixel[0, inside]]
        ahead = p[2, good][inside]
        parts.append((np.abs(there - ahead) / ahead)[there > 0])
    enough = [p for p in parts if len(p) > 100]
    return float(np.median(np.concatenate(enough))) if enough else np.inf
