"""Surface points of geoms: where contact is felt.

A point is linear in the geom's size, (x, y, z, radius) = T @ size with a template T (4, 6), so that it is differentiable
by the size. `radius` is that of the ball that the point stands for: zero, but for spheres and capsules.
"""

from __future__ import annotations

import numpy as np

from samrl.model.scene import BLOCK_WITH_HOLE, BOX, CAPSULE, CYLINDER, DISC, SPHERE

_UNIT = np.eye(6)
_ZERO = np.zeros(6)


def _circle(count: int, radius: np.ndarray, z: np.ndarray) -> list[np.ndarray]:
    """`count` points on a circle about z; radius and height are linear in the size (6)."""
    angles = 2 * np.pi * np.arange(count) / count
    return [np.stack([np.cos(a) * radius, np.sin(a) * radius, z, _ZERO]) for a in angles]


def _box() -> list[np.ndarray]:
    """Balls as large as the rounding of its edges, which touch the faces from within."""
    inset = lambda p: np.stack([p[a] - np.sign(p[a][a]) * _UNIT[3] for a in range(3)] + [_UNIT[3]])  # noqa: E731
    return [inset(p) for p in _box_points()]


def _box_points(heights: tuple[int, ...] = (-1, 0, 1)) -> list[np.ndarray]:
    """Corners, middles of edges and of faces of a box, at heights -1, 0, 1 (times the half-length)."""
    grid = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in heights if (x, y, z) != (0, 0, 0)]
    return [np.stack([x * _UNIT[0], y * _UNIT[1], z * _UNIT[2], _ZERO]) for x, y, z in grid]


def _sphere() -> list[np.ndarray]:
    return [np.stack([_ZERO, _ZERO, _ZERO, _UNIT[0]])]


def _capsule() -> list[np.ndarray]:
    return [np.stack([_ZERO, _ZERO, f * _UNIT[1], _UNIT[0]]) for f in (-1, -0.5, 0, 0.5, 1)]


def _cylinder() -> list[np.ndarray]:
    radius, half = _UNIT[0], _UNIT[1]
    rims = _circle(16, radius, half) + _circle(16, radius, -half)
    return rims + [point for f in (-0.5, 0.0, 0.5) for point in _circle(8, radius, f * half)]


def _disc() -> list[np.ndarray]:
    """Balls as large as the rounding: two rings of sixteen in the rims, two of eight half-way to the middle."""
    ball, half = _UNIT[2], _UNIT[1] - _UNIT[2]
    rings = [(16, 1.0, half), (16, 1.0, -half), (8, 0.5, half), (8, 0.5, -half)]
    points = [point for n, share, z in rings for point in _circle(n, share * (_UNIT[0] - _UNIT[2]), z)]
    return [np.stack([*point[:3], ball]) for point in points]


def _block_with_hole() -> list[np.ndarray]:
    """Upper and lower circle of the chamfer, two rings on the wall, corners, and the top's outer edges."""
    top, radius, depth, chamfer = _UNIT[2], _UNIT[3], _UNIT[4], _UNIT[5]
    mouth = _circle(24, radius + chamfer, top) + _circle(24, radius, top - chamfer)
    wall = [p for f in (0.5, 1.0) for p in _circle(12, radius, top - chamfer - f * (depth - chamfer))]
    outside = [p for p in _box_points((-1, 1)) if p[0].any() or p[1].any()]  # the middle of the top is the hole
    return mouth + wall + outside


_MAKERS = {
    SPHERE: _sphere,
    CAPSULE: _capsule,
    CYLINDER: _cylinder,
    DISC: _disc,
    BOX: _box,
    BLOCK_WITH_HOLE: _block_with_hole,
}


def templates(geom_type: int) -> np.ndarray:
    """(n, 4, 6) templates of a geom's surface points; a plane has none."""
    maker = _MAKERS.get(int(geom_type))
    return np.stack(maker()) if maker else np.zeros((0, 4, 6))
