"""Where a surface passes through itself, and steps that do not make it."""

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp

import samrl.model  # noqa: F401  (starts Warp, and keeps it from talking of drivers)
from samrl.real2sim import crossing_kernels

_ROUNDS = 12  # of taking back vertices about what crosses, before a whole step is


class Crossings:
    """Looks for faces of a mesh (F, 3) that pass through others: an edge of one through the inside of the other, by signs of
    volumes in double precision, among pairs whose boxes meet (Warp's bounding volume hierarchy). Faces that touch, or that lie on
    each other in one plane, do not cross.

    Args:
        vertices: (V, 3) [m] where the mesh is at first.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self._faces_of = faces
        corners = np.ascontiguousarray(faces, np.int32)
        self._points: Any = wp.array(vertices.astype(np.float32), dtype=wp.vec3, device="cpu")
        self._faces: Any = wp.array(corners, dtype=wp.vec3i, device="cpu")
        self._mesh = wp.Mesh(self._points, wp.array(corners.ravel(), dtype=int, device="cpu"))
        self._found = wp.zeros(len(faces), dtype=int, device="cpu")

    def find(self, vertices: np.ndarray) -> np.ndarray:
        """(F) bool: which faces cross others, with the mesh at vertices (V, 3)."""
        self._points.assign(vertices.astype(np.float32))
        self._mesh.refit()
        self._found.zero_()
        inputs = [self._mesh.id, self._points, self._faces, self._found]
        wp.launch(crossing_kernels.find, dim=len(self._faces_of), inputs=inputs, device="cpu")
        return self._found.numpy() > 0

    def free_step(self, before: np.ndarray, after: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        """`after` (V, 3), but where faces would cross that may not, vertices and, round by round, those about them stay where
        they were `before`; if that does not end it, all do. allowed: (F) bool, faces that crossed at first."""
        back = np.zeros(len(before), bool)
        for _ in range(_ROUNDS):
            at = np.where(back[:, None], before, after)
            bad = self.find(at) & ~allowed
            if not bad.any():
                return at
            touched = np.zeros(len(before), bool)
            touched[self._faces_of[bad]] = True
            back[self._faces_of[touched[self._faces_of].any(1)]] = True
        return before
