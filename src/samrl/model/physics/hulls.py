"""Convex meshes as contact takes them: the planes of their sides, and points of their surface.

All at size one, as `Scene.mesh_vertices` are: points are linear in the size, and kernels/hulls.py stretches planes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from samrl.core.errors import SceneError
from samrl.model.scene import Scene

MAX_SIDES = 128
_POINTS = 32  # corners, and middles of the largest sides until there are so many
_SAME = (
    3e-4  # sides that differ by less, in normal and in offset by the mesh's size, are one: else each would round the other off
)


@dataclass(frozen=True)
class Hull:
    """A convex solid: its sides normals (k, 3) · x = offsets (k), outward; points (n, 3) of its surface."""

    normals: np.ndarray
    offsets: np.ndarray
    points: np.ndarray

    @staticmethod
    def none() -> Hull:
        """Of what is no mesh."""
        return Hull(np.zeros((0, 3)), np.zeros(0), np.zeros((0, 3)))

    def templates(self) -> np.ndarray:
        """(n, 4, 6) as in points.py."""
        T = np.zeros((len(self.points), 4, 6))
        T[:, range(3), range(3)] = self.points
        return T


def hull_of(scene: Scene, geom: int) -> Hull:
    """The convex hull of a geom that is a mesh. Raises: SceneError if it has more than 128 sides, or no volume."""
    vertices, in_hull, _ = scene.mesh(geom)
    name = scene.geom_names[geom] or geom
    try:
        hull = ConvexHull(vertices[in_hull])
    except QhullError as error:
        raise SceneError(f"mesh geom '{name}' has no convex hull of any volume; a solid one would do.") from error
    a, b, c = hull.points[hull.simplices].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    equations = hull.equations / [1.0, 1.0, 1.0, np.abs(hull.points).max()]
    side, sides = np.full(len(area), -1), list[int]()
    for i in np.argsort(-area, kind="stable"):
        near = [s for s in range(len(sides)) if np.abs(equations[sides[s]] - equations[i]).max() < _SAME]
        side[i] = near[0] if near else len(sides)
        if not near:
            sides.append(int(i))
    if len(sides) > MAX_SIDES:
        raise SceneError(
            f"mesh geom '{name}' has a convex hull of {len(sides)} sides; contact takes up to {MAX_SIDES}. maxhullvert=\"32\" in "
            'its <mesh> would do, or contype="0" conaffinity="0" if it is only to be seen.'
        )
    total = np.bincount(side, area)
    middles = [(area[side == s, None] * ((a + b + c) / 3)[side == s]).sum(0) / total[s] for s in range(len(sides))]
    corners = hull.points[hull.vertices]
    largest = np.argsort(-total, kind="stable")[: max(0, _POINTS - len(corners))]
    points = np.concatenate([corners, np.reshape([middles[s] for s in largest], (-1, 3))])
    return Hull(hull.equations[sides, :3], -hull.equations[sides, 3], points)
