"""Planes of a scanned surface by RANSAC (Fischler and Bolles 1981), the one that carries things, and what is connected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull

from samrl.core.errors import ScanError
from samrl.real2sim.tsdf import Surface

_GUESSES, _SAMPLE = 300, 20_000  # planes that are tried, by faces
_SAME_WAY = np.cos(np.radians(25.0))  # between a plane's normal and those of its faces
_UPRIGHT = np.cos(np.radians(55.0))  # between a support's normal and where the cameras have up
_SURE = 0.3  # length of the mean of the cameras' unit vectors below which they do not say where up is
_CORNERS = 12  # of an outline


@dataclass(frozen=True)
class Plane:
    """normal · p = offset; normal (3) points to where the cameras were. inliers: (F) bool; seen: how much was seen of them."""

    normal: np.ndarray
    offset: float
    inliers: np.ndarray
    seen: float


@dataclass(frozen=True)
class Faces:
    """Of a surface's F faces: middle (F, 3) [m], normal (F, 3) outward, area (F) [m²]; seen (F): area times readings' weight."""

    middle: np.ndarray
    normal: np.ndarray
    area: np.ndarray
    seen: np.ndarray


def measure(surface: Surface) -> Faces:
    """The faces of a surface."""
    corners = surface.vertices[surface.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double = np.linalg.norm(cross, axis=1)
    area = double / 2
    seen = area * surface.weight[surface.faces].mean(1)
    return Faces(corners.mean(1), cross / np.maximum(double, 1e-12)[:, None], area, seen)


def find_planes(faces: Faces, among: np.ndarray, width: float, rng: np.random.Generator, count: int, least: float) -> list[Plane]:
    """Planes that hold most of what was seen, one after the other.

    Args:
        among: (F) bool, faces that count; width: how far a face may lie from its plane [m].
        count: how many at most; least: share of all that was seen that a plane must hold.
    """
    left, total = among.copy(), faces.seen.sum()
    found: list[Plane] = []
    while len(found) < count and faces.seen[left].sum() > least * total:
        plane = _best_plane(faces, left, width, rng)
        if plane.seen < least * total:
            break
        found.append(plane)
        left &= ~plane.inliers
    return found


def _best_plane(faces: Faces, among: np.ndarray, width: float, rng: np.random.Generator) -> Plane:
    """The best of planes through single faces, then fitted twice to all that lie in it."""
    index = np.flatnonzero(among)
    chance = faces.seen[index] / faces.seen[index].sum()
    sample = rng.choice(index, _SAMPLE, p=chance)
    p, n = faces.middle[sample], faces.normal[sample]
    votes = []
    for guess in range(_GUESSES):
        normal = n[guess]
        votes.append((np.abs((p - p[guess]) @ normal) < width) & (n @ normal > _SAME_WAY))
    best = int(np.argmax([v.sum() for v in votes]))
    normal, offset = _fit(p[votes[best]], n[best])
    for _ in range(2):
        inliers = among & (np.abs(faces.middle @ normal - offset) < width) & (faces.normal @ normal > _SAME_WAY)
        chosen = np.flatnonzero(inliers)
        if len(chosen) < 3:
            break
        some = rng.choice(chosen, min(_SAMPLE, len(chosen)), p=faces.seen[chosen] / faces.seen[chosen].sum())
        normal, offset = _fit(faces.middle[some], normal)
    inliers = among & (np.abs(faces.middle @ normal - offset) < width) & (faces.normal @ normal > _SAME_WAY)
    return Plane(normal, offset, inliers, float(faces.seen[inliers].sum()))


def _fit(points: np.ndarray, towards: np.ndarray) -> tuple[np.ndarray, float]:
    """Plane through points (n, 3) by least squares: unit normal (3) on the side of `towards`, offset."""
    middle = points.mean(0)
    normal = np.linalg.svd((points - middle).T @ (points - middle))[0][:, 2]
    normal = normal if normal @ towards > 0 else -normal
    return normal, float(normal @ middle)


def support_plane(faces: Faces, poses: np.ndarray, width: float, rng: np.random.Generator, up: np.ndarray | None = None) -> Plane:
    """The plane that carries things: of those that face up, the one that was looked at most.

    Args:
        poses: (n, 4, 4) the cameras X_SC. People and arms hold cameras upright, so the mean of -y is up, roughly; where cameras
            do not agree on that, any plane may be the one.
        up: (3) direction up in the scan's frame, if that is known.

    Raises: ScanError if there is none.
    """
    mean = -poses[:, :3, 1].mean(0) if up is None else np.asarray(up, float) / np.linalg.norm(up)
    found = find_planes(faces, np.ones(len(faces.area), bool), width, rng, count=8, least=0.02)
    upright = [p for p in found if p.normal @ mean > _UPRIGHT * np.linalg.norm(mean)]
    if not upright and (up is not None or not found):
        raise ScanError(
            f"no plane that things could stand on was found among {len(found)} planes; one that faces up and holds at least 2 % "
            "of what was seen would do."
        )
    chosen = upright if upright and np.linalg.norm(mean) > _SURE else found
    return max(chosen, key=lambda p: p.seen)


def world_frame(plane: Plane, origin: np.ndarray) -> np.ndarray:
    """X_WS (4, 4): z along the plane's normal, x along the scan's x as far as that lies in the plane, (0, 0, 0) where `origin`
    (3), in S, meets the plane."""
    z = plane.normal
    start = np.eye(3)[0] if abs(z[0]) < 0.9 else np.eye(3)[1]
    x = start - z * (start @ z)
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    X = np.eye(4)
    X[:3, :3], X[:3, 3] = R, -R @ (origin - z * (z @ origin - plane.offset))
    return X


def connected(faces: np.ndarray, vertices: int) -> np.ndarray:
    """(F) number of the component of each of faces (F, 3) that share vertices."""
    rows, columns = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(vertices, vertices))
    label = connected_components(graph, directed=False)[1]
    return np.unique(label[faces[:, 0]], return_inverse=True)[1]


def outline(points: np.ndarray) -> np.ndarray:
    """(k, 2) corners, counter-clockwise, of the convex hull of points (n, 2), with at most 12: those go that cut off least."""
    ring = points[ConvexHull(points).vertices]
    while len(ring) > _CORNERS:
        a, c = np.roll(ring, 1, 0) - ring, np.roll(ring, -1, 0) - ring
        ring = np.delete(ring, np.argmin(np.abs(a[:, 0] * c[:, 1] - a[:, 1] * c[:, 0])), 0)
    return ring


def inside(points: np.ndarray, ring: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """(n) bool: points (n, 2) within a convex outline (k, 2), counter-clockwise, widened by margin [m]."""
    along = np.roll(ring, -1, 0) - ring
    out = np.stack([along[:, 1], -along[:, 0]], -1) / np.linalg.norm(along, axis=1)[:, None]
    return (np.einsum("ki,nki->nk", out, points[:, None] - ring) <= margin).all(1)


def prism(plane: Plane, ring: np.ndarray, axes: np.ndarray, thickness: float) -> np.ndarray:
    """(2k, 3) corners of a slab `thickness` [m] behind a plane under an outline (k, 2) along axes (2, 3) in the plane."""
    top = ring @ axes + plane.normal * plane.offset
    return np.concatenate([top, top - thickness * plane.normal])
