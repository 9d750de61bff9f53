"""Depth images fused to a surface: a truncated signed distance function (Curless and Levoy 1996), in blocks near the surface.

A voxel keeps the weighted mean of what each view says of it: how far in front of the surface it lies along the view's axis, in
parts of the truncation, from -1 (inside) to 1. A reading's weight is 1/z², for a depth camera's noise grows like that at least
(Nguyen et al. 2012). Space is kept in blocks of 8 × 8 × 8 voxels around readings only (as Nießner et al. 2013 do), so that memory
grows with the surface. Marching cubes (Lewiner et al. 2003) make it a mesh.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samrl.core.errors import ScanError
from samrl.real2sim.scan import Scan

SIDE = 8  # voxels along a block
TRUNCATION = 4.0  # voxels
_CHUNK = 16  # blocks along what marching cubes take at once
_AT_ONCE = 4096  # blocks that one view is fused into at once
_STEPS = 384.0  # voxels across a scene, where none are asked for ...
_VOXELS = (0.002, 0.02)  # ... and between which sizes [m]
MAX_BLOCKS = 60_000  # 31 million voxels, 20 bytes each


@dataclass(frozen=True)
class Surface:
    """A coloured triangle mesh, V vertices, F faces.

    Attributes:
        vertices: (V, 3) [m]; faces: (F, 3), counter-clockwise seen from outside.
        colors: (V, 3) in [0, 1]; weight: (V) how much was seen of each vertex [1/m²].
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray
    weight: np.ndarray

    def part(self, keep: np.ndarray) -> Surface:
        """The faces with keep (F) true, and their vertices."""
        used, faces = np.unique(self.faces[keep], return_inverse=True)
        return Surface(self.vertices[used], faces.reshape(-1, 3), self.colors[used], self.weight[used])


class TooManyVoxelsError(ScanError):
    """Voxels that are too small for a scene."""


def default_voxel(scan: Scan, max_depth: float) -> float:
    """A 384th of the scene's diagonal (without its outer tenths), between 2 and 20 mm, or more where that takes too many [m]."""
    points = np.concatenate([np.zeros((0, 3))] + [_points(scan, f.depth(), f.X_SC, max_depth, 16) for f in scan.frames])
    if not len(points):
        raise ScanError(f"no frame has a reading up to {max_depth:g} m; a larger --max-depth may do.")
    low, high = np.percentile(points, [5, 95], axis=0)
    voxel = float(np.clip(np.linalg.norm(high - low) / _STEPS, *_VOXELS))
    while True:
        try:
            _blocks(scan, voxel, max_depth)
        except TooManyVoxelsError:
            voxel *= 1.25
        else:
            return voxel


def fuse(scan: Scan, voxel: float, max_depth: float) -> Surface:
    """The surface that a scan's views agree on, in its frame S.

    Args:
        voxel: [m]; max_depth: readings beyond are not taken [m].

    Raises: ScanError if that takes too many voxels, or nothing is seen.
    """
    volume = Volume(_blocks(scan, voxel, max_depth), voxel)
    for frame in scan.frames:
        volume.integrate(scan, frame.depth(), frame.color(), frame.X_SC, max_depth)
    return volume.surface()


def _points(scan: Scan, depth: np.ndarray, X_SC: np.ndarray, max_depth: float, stride: int) -> np.ndarray:
    """(n, 3) points of a view in S, of every `stride`-th pixel both ways."""
    v, u = np.mgrid[stride // 2 : scan.height : stride, stride // 2 : scan.width : stride]
    z = depth[v, u].ravel()
    seen = (z > 0) & (z <= max_depth)
    rays = np.stack([u.ravel()[seen] + 0.5, v.ravel()[seen] + 0.5, np.ones(seen.sum())])
    return (z[seen] * (np.linalg.inv(scan.K) @ rays)).T @ X_SC[:3, :3].T + X_SC[:3, 3]


def _blocks(scan: Scan, voxel: float, max_depth: float) -> np.ndarray:
    """(n, 3) int: blocks within the truncation of a reading."""
    reach, side = TRUNCATION * voxel, SIDE * voxel
    found: np.ndarray = np.zeros((0, 3), np.int64)
    for frame in scan.frames:
        p = _points(scan, frame.depth(), frame.X_SC, max_depth, 4)
        own = np.unique(np.round(p / voxel), axis=0) * voxel  # one a voxel will do
        near = [np.floor((own + reach * np.array(s)) / side) for s in itertools.product((-1, 1), repeat=3)]
        found = np.unique(np.concatenate([found, *near]).astype(np.int64), axis=0)
        if len(found) > MAX_BLOCKS:
            raise TooManyVoxelsError(
                f"voxels of {1000 * voxel:g} mm are too many for this scene; --voxel {1.5 * voxel:.3g} (metres) may do, or a "
                f"--max-depth below {max_depth:g} m."
            )
    if not len(found):
        raise ScanError(f"no frame has a reading up to {max_depth:g} m; a larger --max-depth may do.")
    return found


class Volume:
    """Blocks of voxels; voxel (i, j, k) of block b lies at (SIDE · b + (i, j, k)) · voxel in S.

    Args:
        blocks: (n, 3) int; voxel: [m].
    """

    def __init__(self, blocks: np.ndarray, voxel: float) -> None:
        self.blocks, self.voxel = blocks, voxel
        n = len(blocks)
        self._origin = torch.as_tensor(SIDE * blocks * voxel, dtype=torch.float32)
        axis = torch.arange(SIDE, dtype=torch.float32)
        self._local = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3) * voxel
        self.distance = torch.zeros(n, SIDE**3)
        self.weight = torch.zeros(n, SIDE**3)
        self.color = torch.zeros(n, SIDE**3, 3)

    def integrate(self, scan: Scan, depth: np.ndarray, color: np.ndarray, X_SC: np.ndarray, max_depth: float) -> None:
        """Add one view: depth (H, W) [m], color (H, W, 3), camera X_SC (4, 4)."""
        X_CS = torch.as_tensor(np.linalg.inv(X_SC), dtype=torch.float32)
        K = torch.as_tensor(scan.K, dtype=torch.float32)
        z, rgb = torch.as_tensor(depth), torch.as_tensor(color)
        z = torch.where(z <= max_depth, z, 0.0)
        middle = (self._origin + 0.5 * SIDE * self.voxel) @ X_CS[:3, :3].T + X_CS[:3, 3]
        for some in self._in_view(middle, K, scan).split(_AT_ONCE):
            p = (self._origin[some][:, None] + self._local) @ X_CS[:3, :3].T + X_CS[:3, 3]
            self._add(some, p, K, z, rgb)

    def _in_view(self, middle: Tensor, K: Tensor, scan: Scan) -> Tensor:
        """Indices of the blocks, with their middles (n, 3) in C, that the image may show."""
        ahead = middle[:, 2].clamp_min(1e-3)
        margin = SIDE * self.voxel * K[0, 0] / ahead
        u, v = (K[i, i] * middle[:, i] / ahead + K[i, 2] for i in (0, 1))
        inside = (u > -margin) & (u < scan.width + margin) & (v > -margin) & (v < scan.height + margin)
        return torch.nonzero(inside & (middle[:, 2] > -SIDE * self.voxel))[:, 0]

    def _add(self, some: Tensor, p: Tensor, K: Tensor, z: Tensor, rgb: Tensor) -> None:
        """Fuse a view into blocks `some`, whose voxels lie at p (n, SIDE³, 3) in C."""
        ahead = p[..., 2].clamp_min(1e-3)
        u, v = (torch.floor(K[i, i] * p[..., i] / ahead + K[i, 2]).long() for i in (0, 1))
        inside = (u >= 0) & (u < z.shape[1]) & (v >= 0) & (v < z.shape[0]) & (p[..., 2] > 1e-3)
        pixel = torch.where(inside, v * z.shape[1] + u, 0)
        reading = z.flatten()[pixel]
        d = (reading - ahead) / (TRUNCATION * self.voxel)
        weight = torch.where(inside & (reading > 0) & (d > -1), reading.clamp_min(0.1) ** -2, 0.0)
        before = self.weight[some]
        total = before + weight
        share = weight / total.clamp_min(1e-12)
        self.distance[some] += share * (d.clamp(max=1.0) - self.distance[some])
        self.color[some] += share[..., None] * (rgb.reshape(-1, 3)[pixel] - self.color[some])
        self.weight[some] = total

    def surface(self) -> Surface:
        """Where the distance is zero, between voxels that were seen."""
        parts = list(self._parts())
        if not parts:
            raise ScanError("the views agree on no surface: are the poses camera to world, and is depth in the right unit?")
        starts = np.cumsum([0] + [len(v) for v, *_ in parts])
        shifted = [(v, f + s, c, w) for (v, f, c, w), s in zip(parts, starts, strict=False)]
        v, f, c, w = (np.concatenate(x) for x in zip(*shifted, strict=True))
        _, first, index = np.unique(np.rint(v * 1024).astype(np.int64), axis=0, return_index=True, return_inverse=True)
        faces = index.reshape(-1)[f]
        solid = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        return Surface(v[first] * self.voxel, faces[solid], c[first], w[first])

    def _parts(self) -> Iterable[tuple[np.ndarray, ...]]:
        """(vertices [voxels], faces, colors, weight) of one chunk of blocks after the other."""
        from skimage.measure import marching_cubes  # an extra: only this verb needs it

        row = {tuple(b): i for i, b in enumerate(self.blocks.tolist())}
        reach = range(_CHUNK + 1)
        for corner in np.unique(self.blocks // _CHUNK, axis=0) * _CHUNK:
            here = [(o, row[b]) for o in itertools.product(reach, repeat=3) if (b := tuple((corner + o).tolist())) in row]
            size = SIDE * _CHUNK + 1
            distance, weight = np.ones((size,) * 3, np.float32), np.zeros((size,) * 3, np.float32)
            color = np.zeros((size, size, size, 3), np.float32)
            for o, i in here:
                at = tuple(slice(SIDE * k, min(SIDE * k + SIDE, size)) for k in o)
                cut = tuple(slice(0, s.stop - s.start) for s in at)
                for grid, values in ((distance, self.distance), (weight, self.weight), (color, self.color)):
                    grid[at] = values[i].numpy().reshape(SIDE, SIDE, SIDE, *values.shape[2:])[cut]
            if not (distance < 0).any():
                continue
            v, f, _, _ = marching_cubes(distance, 0.0, gradient_direction="descent", allow_degenerate=False)
            low, high = np.floor(v).astype(int), np.ceil(v).astype(int)
            seen = (weight[tuple(low.T)] > 0) & (weight[tuple(high.T)] > 0)
            near = tuple(np.rint(v).astype(int).T)
            keep = seen[f].all(1)
            used, faces = np.unique(f[keep], return_inverse=True)
            if len(used):
                yield v[used] + SIDE * corner, faces.reshape(-1, 3), color[near][used], weight[near][used]
