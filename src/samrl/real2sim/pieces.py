"""A scanned object as convex pieces: its open surface is closed, and cut where it is hollow (CoACD, Wei et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from samrl.real2sim.tsdf import Surface

MAX_CORNERS = 32  # of a piece: faces stay below twice that
_CONCAVITY = 0.1  # CoACD's threshold: how deep a dent may be that is filled; half of it cuts noise, for minutes


@dataclass(frozen=True)
class Piece:
    """A convex solid.

    Attributes:
        vertices: (n, 3) [m]; faces: (m, 3) counter-clockwise seen from outside.
        color: (3) in [0, 1].
        volume: [m³].
    """

    vertices: np.ndarray
    faces: np.ndarray
    color: np.ndarray
    volume: float


def hull(points: np.ndarray, color: np.ndarray) -> Piece:
    """The convex hull of points (n, 3)."""
    found = ConvexHull(points)
    index = np.full(len(points), -1)
    index[found.vertices] = np.arange(len(found.vertices))
    vertices, faces = points[found.vertices], index[found.simplices]
    a, b, c = vertices[faces].transpose(1, 0, 2)
    inward = np.einsum("ni,ni->n", np.cross(b - a, c - a), found.equations[:, :3]) < 0
    faces[inward] = faces[inward][:, ::-1]
    return Piece(vertices, faces, color, float(found.volume))


def closed(surface: Surface) -> tuple[np.ndarray, np.ndarray, float]:
    """The solid between a surface and the plane z = 0: vertices, faces, volume [m³].

    A scan sees no object from below, and often not from behind. Its shadow on the plane, turned over, and a wall between each
    edge where the surface ends and that edge's shadow close it; what the camera did not see is taken to end there. Surfaces that
    face down (an overhang, a handle) count against those above them, so the volume is right for them too.
    """
    faces, n = surface.faces, len(surface.vertices)
    shadow = surface.vertices * [1.0, 1.0, 0.0]
    a, b = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    there = set(zip(a.tolist(), b.tolist(), strict=True))
    ends = np.array([(i, j) for i, j in there if (j, i) not in there], int).reshape(-1, 2)
    ends = ends[np.lexsort(ends.T)]  # a set's order is nobody's
    walls = np.concatenate(
        [np.stack([ends[:, 1], ends[:, 0], ends[:, 0] + n], -1), np.stack([ends[:, 1], ends[:, 0] + n, ends[:, 1] + n], -1)]
    )
    vertices = np.concatenate([surface.vertices, shadow])
    whole = np.concatenate([faces, faces[:, ::-1] + n, walls])
    corners = vertices[whole]
    volume = np.einsum("ni,ni->n", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    return vertices, whole, float(volume)


def decompose(surface: Surface, most: int, seed: int) -> tuple[list[Piece], float]:
    """Convex pieces of the solid between a surface and the plane z = 0, `most` at most, and that solid's volume [m³]."""
    import coacd  # an extra: only this verb needs it

    coacd.set_log_level("off")
    vertices, faces, volume = closed(surface)
    parts = coacd.run_coacd(
        coacd.Mesh(vertices, faces), threshold=_CONCAVITY, max_convex_hull=most, seed=seed, preprocess_mode="on",
        preprocess_resolution=50, decimate=True, max_ch_vertex=MAX_CORNERS, resolution=1000, mcts_iterations=60, mcts_max_depth=2,
    )  # fmt: skip
    above = np.array([-np.inf, -np.inf, 0.0])  # CoACD makes the surface anew, up to a fiftieth of its size away
    pieces = [piece for v, _ in parts if (piece := _solid(np.maximum(v, above)))] or [hull(vertices, np.zeros(3))]
    owner = np.argmin(np.stack([_outside(p, surface.vertices) for p in pieces]), 0)
    mean = surface.colors.mean(0)
    colors = [surface.colors[owner == i].mean(0) if (owner == i).any() else mean for i in range(len(pieces))]
    return [Piece(p.vertices, p.faces, c, p.volume) for p, c in zip(pieces, colors, strict=True)], volume


def _solid(points: np.ndarray) -> Piece | None:
    """The convex hull of points (n, 3), if it has a volume."""
    try:
        return hull(points, np.zeros(3))
    except QhullError:
        return None


def _outside(piece: Piece, points: np.ndarray) -> np.ndarray:
    """(n) how far points (n, 3) are from a piece's surface, at least: its distance as the maximum over its planes [m]."""
    a, b, c = piece.vertices[piece.faces].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1), 1e-15)[:, None]
    return np.abs((points @ normal.T - np.einsum("ni,ni->n", normal, a)).max(1))
