"""PyBullet's software renderer over a scene of its own, without physics: whatever the poses come from, it draws them.

PyBullet gives nearest-pixel colour, depth and ids. Its own shadows are cast within the image's frustum only, so that a crop
would lose them; they come from shadows.py instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pybullet

from samrl.worlds.picture import Lighting, Part, Picture
from samrl.worlds.shadows import Shadows

_AWAY = ([0.0, 0.0, -100.0], [0.0, 0.0, 0.0, 1.0])  # where a part is put that shall not be drawn


class TinyRenderer:
    """Draws parts where they are told to be, as in picture.Renderer.

    Args:
        parts: what is drawn; `Picture.part` counts in this order, whatever ids PyBullet hands out.
        lighting: the light.
        focus: (3) point that the shadows are computed around [m].
        order: the order in which PyBullet is given the parts; it changes nothing that is drawn.
    """

    def __init__(self, parts: Sequence[Part], lighting: Lighting, focus: np.ndarray, order: Sequence[int] | None = None) -> None:
        self.parts = list(parts)
        self._lighting = lighting
        self._shadows = Shadows(lighting, focus)
        self._client = pybullet.connect(pybullet.DIRECT)
        order = range(len(self.parts)) if order is None else order
        self._ids = {i: self._create(self.parts[i]) for i in order}
        self._table = np.full(max(self._ids.values()) + 2, -1)
        for index, unique in self._ids.items():
            self._table[unique] = index

    def _create(self, part: Part) -> int:
        shape: dict[str, object] = {"fileName": part.surface}
        if not isinstance(part.surface, str):
            m = part.surface
            shape = {"vertices": m.vertices.tolist(), "normals": m.normals.tolist(), "indices": m.faces.ravel().tolist()}
        visual = pybullet.createVisualShape(
            pybullet.GEOM_MESH, **shape, rgbaColor=[*part.color, 1.0], specularColor=[1, 1, 1], physicsClientId=self._client
        )
        return pybullet.createMultiBody(0, -1, visual, physicsClientId=self._client)

    def place(self, poses: Mapping[str, np.ndarray]) -> None:
        """Put every body at its pose X_WB (4, 4)."""
        places = {name: (X[:3, 3].tolist(), _quat_xyzw(X[:3, :3])) for name, X in poses.items()}
        for index, part in enumerate(self.parts):
            self._put(index, *(places[part.body] if part.casts else _AWAY))
        s = self._shadows
        _, depth, _ = self._shoot(s.K, s.X_WL, 0, 0, s.pixels, s.pixels, s.near, s.far)
        s.see(depth)
        for index, part in enumerate(self.parts):
            if not part.casts:
                self._put(index, *places[part.body])

    def _put(self, index: int, p: list[float], quat: list[float]) -> None:
        pybullet.resetBasePositionAndOrientation(self._ids[index], p, quat, physicsClientId=self._client)

    def render(
        self, K: np.ndarray, X_WC: np.ndarray, left: int, top: int, width: int, height: int, near: float, far: float
    ) -> Picture:
        """The window of `width` × `height` native pixels from (left, top), of a camera with K (4): fx, fy, cx, cy."""
        rgb, depth, part = self._shoot(K, X_WC, left, top, width, height, near, far)
        color = np.where(part[..., None] >= 0, rgb.astype(np.float32) / 255, np.float32(self._lighting.background))
        return Picture(color * self._shadows.brightness(K, X_WC, left, top, depth)[..., None], depth, part)

    def _shoot(
        self, K: np.ndarray, X_WC: np.ndarray, left: int, top: int, width: int, height: int, near: float, far: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Colour (H, W, 3) bytes without shadows, depth (H, W) [m], part (H, W)."""
        fx, fy, cx, cy = K
        # PyBullet samples at a pixel's left and lower edge; half a pixel puts the sample into its middle.
        l, t = left + 0.5, top - 0.5
        frustum = ((l - cx) / fx, (l + width - cx) / fx, (cy - t - height) / fy, (cy - t) / fy)
        lit = self._lighting
        _, _, rgba, buffer, ids = pybullet.getCameraImage(
            width, height, _view_matrix(X_WC), pybullet.computeProjectionMatrix(*(near * x for x in frustum), near, far),
            renderer=pybullet.ER_TINY_RENDERER, shadow=0, lightDirection=lit.direction.tolist(), lightColor=[1, 1, 1],
            lightDistance=2.0, lightAmbientCoeff=lit.ambient, lightDiffuseCoeff=lit.diffuse,
            lightSpecularCoeff=lit.specular, physicsClientId=self._client,
        )  # fmt: skip
        rgb = np.asarray(rgba, np.uint8).reshape(height, width, 4)[..., :3]
        buffer, ids = np.asarray(buffer, float).reshape(height, width), np.asarray(ids).reshape(height, width)
        depth = np.where(ids >= 0, far * near / (far - (far - near) * buffer), np.inf)
        return rgb, depth, self._table[np.where(ids >= 0, ids, -1)]

    def close(self) -> None:
        if self._client >= 0:
            pybullet.disconnect(self._client)
            self._client = -1


def _view_matrix(X_WC: np.ndarray) -> list[float]:
    """OpenGL's column-major view matrix of a camera with x right, y down, z forward."""
    X = np.asarray(X_WC, float).copy()
    X[:3, 1:3] *= -1
    view = np.eye(4)
    view[:3, :3] = X[:3, :3].T
    view[:3, 3] = -X[:3, :3].T @ X[:3, 3]
    return view.T.ravel().tolist()


def _quat_xyzw(R: np.ndarray) -> list[float]:
    """Rotation matrix (3, 3) -> PyBullet's quaternion (Shepperd 1978)."""
    x, y, z = R[0, 0], R[1, 1], R[2, 2]
    d = np.array([1 + x - y - z, 1 - x + y - z, 1 - x - y + z, 1 + x + y + z])
    rows = (
        (d[0], R[0, 1] + R[1, 0], R[0, 2] + R[2, 0], R[2, 1] - R[1, 2]),
        (R[0, 1] + R[1, 0], d[1], R[1, 2] + R[2, 1], R[0, 2] - R[2, 0]),
        (R[0, 2] + R[2, 0], R[1, 2] + R[2, 1], d[2], R[1, 0] - R[0, 1]),
        (R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], d[3]),
    )
    q = np.array(rows[int(d.argmax())])
    return (q / np.linalg.norm(q)).tolist()
