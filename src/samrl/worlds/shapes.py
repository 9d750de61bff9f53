"""Solids as triangle meshes and as convex pieces, for the worlds' own renderer and contact.

Nothing here is shared with the twin, which sees the same solids through code of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull

from samrl.core.errors import SceneError
from samrl.tasks.spec import Solid, pose_of

SECTORS = 48  # of a block with a hole: its polygon is within 0.02 mm of the circle for a radius of 9 mm


@dataclass(frozen=True)
class Mesh:
    """vertices (n, 3) [m], normals (n, 3), faces (m, 3) counter-clockwise seen from outside."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray

    def moved(self, X: np.ndarray) -> Mesh:
        """The mesh in another frame, by the pose X (4, 4) of its own frame there."""
        R = X[:3, :3]
        return Mesh(self.vertices @ R.T + X[:3, 3], self.normals @ R.T, self.faces)


def mesh_of(solid: Solid) -> Mesh:
    """A solid's surface in its body's frame."""
    makers: dict[str, Callable[..., Mesh]] = {
        "box": _box, "plane": _plane, "sphere": _sphere, "capsule": _capsule, "cylinder": _cylinder,
        "block_with_hole": _block_with_hole, "disc": _disc,
    }  # fmt: skip
    if solid.shape == "hull":
        return _hull(np.array(solid.points)).moved(pose_of(solid.p, solid.quat).numpy())
    if solid.shape not in makers:
        raise SceneError(f"the worlds cannot draw a '{solid.shape}'; they draw {', '.join(sorted(makers))}.")
    return makers[solid.shape](*solid.size).moved(pose_of(solid.p, solid.quat).numpy())


def _facets(polygons: list[np.ndarray]) -> Mesh:
    """Flat convex polygons (k, 3), counter-clockwise seen from outside -> one mesh with a normal a polygon."""
    vertices, normals, faces, start = [], [], [], 0
    for polygon in polygons:
        n = np.cross(polygon[1] - polygon[0], polygon[2] - polygon[0])
        vertices.append(polygon)
        normals.append(np.tile(n / np.linalg.norm(n), (len(polygon), 1)))
        faces += [(start, start + i, start + i + 1) for i in range(1, len(polygon) - 1)]
        start += len(polygon)
    return Mesh(np.concatenate(vertices), np.concatenate(normals), np.array(faces))


def _hull(points: np.ndarray) -> Mesh:
    """The convex hull of points (k, 3)."""
    hull = ConvexHull(points)
    triangles = []
    for corners, plane in zip(hull.simplices, hull.equations, strict=True):
        a, b, c = points[corners]
        triangles.append(points[corners] if np.cross(b - a, c - a) @ plane[:3] > 0 else points[corners[::-1]])
    return _facets(triangles)


def _box(x: float, y: float, z: float) -> Mesh:
    half = np.array([x, y, z])
    polygons = []
    for axis in range(3):
        u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
        for sign in (1.0, -1.0):
            corners = [sign * np.eye(3)[axis] + a * u + sign * b * v for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            polygons.append(np.array(corners) * half)
    return _facets(polygons)


def _plane(x: float, y: float) -> Mesh:
    return _facets([np.array([[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]], float)])


def _revolved(profile: list[tuple[float, float, float, float]], sectors: int) -> Mesh:
    """A surface of revolution about z from (radius, z, normal's radial part, normal's z part), going up."""
    angle = np.linspace(0, 2 * math.pi, sectors + 1)
    c, s = np.cos(angle), np.sin(angle)
    vertices = np.stack([np.stack([r * c, r * s, 0 * c + z], -1) for r, z, _, _ in profile])
    normals = np.stack([np.stack([a * c, a * s, 0 * c + b], -1) for _, _, a, b in profile])
    faces = []
    for i in range(len(profile) - 1):
        for j in range(sectors):
            a = i * (sectors + 1) + j
            b = a + sectors + 1
            faces += [(a, a + 1, b + 1), (a, b + 1, b)]
    return Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), np.array(faces))


def _cylinder(radius: float, half: float, sectors: int = 32) -> Mesh:
    up, down = (0.0, 1.0), (0.0, -1.0)
    low, high = [(0.0, -half, *down), (radius, -half, *down)], [(radius, half, *up), (0.0, half, *up)]
    return _revolved([*low, (radius, -half, 1, 0), (radius, half, 1, 0), *high], sectors)


def _side(radius: float, half: float, rim: float, steps: int) -> list[tuple[float, float, float, float]]:
    """The side of a disc from below, as `_revolved` takes it."""
    up = [math.pi / 2 * i / steps for i in range(steps + 1)]
    flat, straight = radius - rim, half - rim
    low = [(flat + rim * math.sin(t), -straight - rim * math.cos(t), math.sin(t), -math.cos(t)) for t in up]
    high = [(flat + rim * math.cos(t), straight + rim * math.sin(t), math.cos(t), math.sin(t)) for t in up]
    return low + high


def _disc(radius: float, half: float, rim: float, sectors: int = 48) -> Mesh:
    """A cylinder with rounded rims."""
    return _revolved([(0.0, -half, 0.0, -1.0), *_side(radius, half, rim, 4), (0.0, half, 0.0, 1.0)], sectors)


def disc_points(size: tuple[float, ...], shrink: float = 0.0) -> np.ndarray:
    """Points (k, 3) whose hull is a disc, every face moved inwards by `shrink` [m]."""
    radius, half, rim = size
    side = _side(radius - shrink, half - shrink, max(rim - shrink, 1e-5), 4)
    angle = np.linspace(0, 2 * math.pi, SECTORS, endpoint=False)
    return np.array([(r * math.cos(a), r * math.sin(a), z) for r, z, _, _ in side for a in angle])


def _capsule(radius: float, half: float, sectors: int = 16, rings: int = 4) -> Mesh:
    latitudes = np.linspace(-math.pi / 2, math.pi / 2, 2 * rings + 1)
    low = [(radius * math.cos(t), radius * math.sin(t) - half, math.cos(t), math.sin(t)) for t in latitudes[: rings + 1]]
    high = [(radius * math.cos(t), radius * math.sin(t) + half, math.cos(t), math.sin(t)) for t in latitudes[rings:]]
    return _revolved(low + high, sectors)


def _sphere(radius: float) -> Mesh:
    return _capsule(radius, 0.0)


def _rectangle_at(angle: float, x: float, y: float) -> np.ndarray:
    """Where the ray at `angle` leaves the rectangle of half sizes x and y, (2)."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([c, s]) * min(x / max(abs(c), 1e-12), y / max(abs(s), 1e-12))


def _rim(x: float, y: float, sectors: int) -> list[list[np.ndarray]]:
    """The rectangle's outline cut by `sectors` equal angles: for each sector two points, and a corner between them where
    it has one."""
    angles = np.linspace(0, 2 * math.pi, sectors + 1)
    corners = [(math.atan2(b * y, a * x) % (2 * math.pi), np.array([a * x, b * y])) for a in (1, -1) for b in (1, -1)]
    out = []
    for low, high in zip(angles[:-1], angles[1:], strict=True):
        inside = [p for t, p in corners if low + 1e-9 < t < high - 1e-9]
        out.append([_rectangle_at(low, x, y), *inside, _rectangle_at(high, x, y)])
    return out


def _at(p: np.ndarray, z: float) -> np.ndarray:
    return np.array([p[0], p[1], z])


def _ring(radius: float, z: float, sectors: int) -> np.ndarray:
    """A regular polygon's corners (sectors + 1, 3); its sides touch the circle of `radius` from outside, so that what
    passes through the circle passes through the polygon."""
    t = np.linspace(0, 2 * math.pi, sectors + 1)
    r = radius / math.cos(math.pi / sectors)
    return np.stack([r * np.cos(t), r * np.sin(t), np.full_like(t, z)], -1)


def _block_with_hole(x: float, y: float, z: float, radius: float, depth: float, chamfer: float) -> Mesh:
    rim = _rim(x, y, SECTORS)
    mouth = _ring(radius + chamfer, z, SECTORS)
    throat = _ring(radius, z - chamfer, SECTORS)
    floor = _ring(radius, z - depth, SECTORS)
    polygons = [floor[:-1]]
    for i, outline in enumerate(rim):
        polygons.append(np.array([mouth[i], *[_at(p, z) for p in outline], mouth[i + 1]]))
        polygons.append(np.array([_at(p, -z) for p in outline[::-1]] + [np.array([0.0, 0.0, -z])]))
        for p, q in zip(outline, outline[1:], strict=False):
            polygons.append(np.array([_at(p, -z), _at(q, -z), _at(q, z), _at(p, z)]))
        polygons.append(np.array([floor[i + 1], floor[i], throat[i], throat[i + 1]]))
        if chamfer > 0:
            polygons.append(np.array([throat[i + 1], throat[i], mouth[i], mouth[i + 1]]))
    return _facets(polygons)


def hole_pieces(size: tuple[float, ...], shrink: float = 0.0) -> list[np.ndarray]:
    """A block with a hole as convex pieces, each the hull of its points (k, 3): one wedge a sector, as deep as the hole,
    and the floor under it. `shrink`: every face that can be touched is moved inwards by so much, for engines that add a
    margin around a hull [m]."""
    x, y, z, radius, depth, chamfer = size
    x, y, top = x - shrink, y - shrink, z - shrink
    # a face at 45° that moves inwards by s meets the moved top s (2 - √2) nearer to the axis than one moved with the wall
    slope = chamfer - shrink * (2 - math.sqrt(2)) if chamfer > 0 else 0.0
    wall = radius + shrink
    bottom = z - depth - shrink
    low, knee, mouth = (_ring(r, h, SECTORS) for r, h in ((wall, bottom), (wall, top - slope), (wall + slope, top)))
    pieces = []
    for i, outline in enumerate(_rim(x, y, SECTORS)):
        inner = [low[i], low[i + 1], knee[i], knee[i + 1], mouth[i], mouth[i + 1]]
        pieces.append(np.array(inner + [_at(p, h) for p in outline for h in (bottom, top)]))
    corners = [(a * x, b * y, h) for a in (1, -1) for b in (1, -1) for h in (-z, bottom)]
    return [*pieces, np.array(corners)]
