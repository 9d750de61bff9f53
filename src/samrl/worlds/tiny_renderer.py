"""PyBullet's software renderer over a scene of its own, without physics: whatever the poses come from, it draws them.

PyBullet gives nearest-pixel colour, depth and ids. Its own shadows are cast within the image's frustum only, so that a crop
would lose them; here one more view, from the light, says what the light does not reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pybullet

from samrl.worlds.picture import Lighting, Part, Picture

_LIGHT_DISTANCE, _LIGHT_HALF_WIDTH, _LIGHT_PIXELS = 2.5, 0.35, 320
_AWAY = [0.0, 0.0, -100.0]  # where a part is put that shall not be drawn [m]


class TinyRenderer:
    """Draws parts where they are told to be. Image axes: u right, v down, pixel centres at half-integers.

    Args:
        parts: what is drawn; `Picture.part` counts in this order, whatever ids PyBullet hands out.
        lighting: the light.
        focus: (3) point that the shadows are computed around [m].
        order: the order in which PyBullet is given the parts; it changes nothing that is drawn.
    """

    def __init__(self, parts: Sequence[Part], lighting: Lighting, focus: np.ndarray, order: Sequence[int] | None = None):
        self.parts = list(parts)
        self.lighting = lighting
        self._focus = np.asarray(focus, float)
        self._client = pybullet.connect(pybullet.DIRECT)
        order = range(len(self.parts)) if order is None else order
        self._ids = {i: self._create(self.parts[i]) for i in order}
        self._table = np.full(max(self._ids.values()) + 2, -1)
        for index, unique in self._ids.items():
            self._table[unique] = index
        self._light_view, self._light_proj, self._R_LW, self._p_L = self._light_camera()
        self._light_depth = np.full((_LIGHT_PIXELS + 4, _LIGHT_PIXELS + 4), np.inf, np.float32)

    def _create(self, part: Part) -> int:
        if isinstance(part.surface, str):
            shape = {"fileName": part.surface}
        else:
            m = part.surface
            shape = {"vertices": m.vertices.tolist(), "normals": m.normals.tolist(), "indices": m.faces.ravel().tolist()}
        visual = pybullet.createVisualShape(
            pybullet.GEOM_MESH, **shape, rgbaColor=[*part.color, 1.0], specularColor=[1, 1, 1], physicsClientId=self._client
        )
        return pybullet.createMultiBody(0, -1, visual, physicsClientId=self._client)

    def place(self, poses: Mapping[str, np.ndarray]) -> None:
        """Put every body at its pose X_WB (4, 4)."""
        places = {name: (X[:3, 3].tolist(), _quat_xyzw(X[:3, :3])) for name, X in poses.items()}
        away = (_AWAY, [0.0, 0.0, 0.0, 1.0])
        for index, part in enumerate(self.parts):
            self._put(index, *(places[part.body] if part.casts else away))
        self._light_depth = self._look_from_light()
        for index, part in enumerate(self.parts):
            if not part.casts:
                self._put(index, *places[part.body])

    def _put(self, index: int, p: list[float], quat: list[float]) -> None:
        pybullet.resetBasePositionAndOrientation(self._ids[index], p, quat, physicsClientId=self._client)

    def _look_from_light(self) -> np.ndarray:
        """Depth (n + 4, n + 4) [m] of what the light reaches first, infinite where that is nothing."""
        n = _LIGHT_PIXELS
        _, buffer, ids = self._shoot(n, n, self._light_view, self._light_proj)
        near, far = _LIGHT_DISTANCE - 1.2, _LIGHT_DISTANCE + 1.2
        depth = np.where(ids >= 0, far * near / (far - (far - near) * buffer), np.inf)
        return np.pad(_with_bias(depth), 2, constant_values=np.inf).astype(np.float32)

    def render(
        self, K: np.ndarray, X_WC: np.ndarray, left: int, top: int, width: int, height: int, near: float, far: float
    ) -> Picture:
        """The window of `width` × `height` native pixels from (left, top), of a camera with K (4): fx, fy, cx, cy."""
        fx, fy, cx, cy = K
        # PyBullet samples at a pixel's left and lower edge; half a pixel puts the sample into its middle.
        l, t = left + 0.5, top - 0.5
        frustum = ((l - cx) / fx, (l + width - cx) / fx, (cy - t - height) / fy, (cy - t) / fy)
        proj = pybullet.computeProjectionMatrix(*(near * x for x in frustum), near, far)
        color, depth, ids = self._shoot(width, height, _view_matrix(X_WC), proj)
        hit = ids >= 0
        depth = np.where(hit, far * near / (far - (far - near) * depth), np.inf)
        part = self._table[np.where(hit, ids, -1)]
        color = np.where(hit[..., None], color / np.float32(255), np.float32(self.lighting.background))
        color = color * self._brightness(K, X_WC, left, top, depth)[..., None]
        return Picture(color, depth, part)

    def _shoot(self, width: int, height: int, view: Sequence[float], proj: Sequence[float]) -> tuple[np.ndarray, ...]:
        """Raw colour (H, W, 3) as float32 of 0-255, z-buffer (H, W), ids (H, W)."""
        lit = self.lighting
        _, _, rgba, depth, ids = pybullet.getCameraImage(
            width, height, view, proj, renderer=pybullet.ER_TINY_RENDERER, shadow=0, lightDirection=lit.direction.tolist(),
            lightColor=[1, 1, 1], lightDistance=_LIGHT_DISTANCE, lightAmbientCoeff=lit.ambient,
            lightDiffuseCoeff=lit.diffuse, lightSpecularCoeff=lit.specular, physicsClientId=self._client,
        )  # fmt: skip
        color = np.asarray(rgba, np.uint8).reshape(height, width, 4)[..., :3].astype(np.float32)
        return color, np.asarray(depth, float).reshape(height, width), np.asarray(ids).reshape(height, width)

    def _light_camera(self) -> tuple[Sequence[float], Sequence[float], np.ndarray, np.ndarray]:
        eye = self._focus + _LIGHT_DISTANCE * self.lighting.direction
        z = -self.lighting.direction
        x = np.cross(z, [0.0, 1.0, 0.0])
        x /= np.linalg.norm(x)
        R = np.stack([x, np.cross(z, x), z], -1)
        near, far = _LIGHT_DISTANCE - 1.2, _LIGHT_DISTANCE + 1.2
        half = _LIGHT_HALF_WIDTH / _LIGHT_DISTANCE * near
        X = np.eye(4)
        X[:3, :3], X[:3, 3] = R, eye
        proj = pybullet.computeProjectionMatrix(-half, half, -half, half, near, far)
        return _view_matrix(X), proj, R.T, eye

    def _brightness(self, K: np.ndarray, X_WC: np.ndarray, left: int, top: int, depth: np.ndarray) -> np.ndarray:
        """(H, W) factor: 1 in the light, `shadow` in the dark, between them at a shadow's border (a 2 × 2 filter over the
        light's view, as in Reeves, Salesin and Cook 1987)."""
        height, width = depth.shape
        fx, fy, cx, cy = K
        # p_L = R_LC p_C + t, written out: the pixel grid is a sum of a row and a column
        R = self._R_LW @ X_WC[:3, :3]
        t = self._R_LW @ (X_WC[:3, 3] - self._p_L)
        u = ((left + np.arange(width) + 0.5 - cx) / fx).astype(np.float32)
        v = ((top + np.arange(height) + 0.5 - cy) / fy).astype(np.float32)
        z = np.where(np.isfinite(depth), depth, 1e3).astype(np.float32)
        p = [z * ((R[i, 0] * u)[None, :] + (R[i, 1] * v + R[i, 2])[:, None]) + np.float32(t[i]) for i in range(3)]
        scale = 0.5 * _LIGHT_PIXELS * _LIGHT_DISTANCE / _LIGHT_HALF_WIDTH
        # the light's samples lie at a pixel's left and lower edge (see render)
        a = np.clip(p[0] / p[2] * scale + 0.5 * _LIGHT_PIXELS, -1, _LIGHT_PIXELS) + 2
        b = np.clip(p[1] / p[2] * scale + 0.5 * _LIGHT_PIXELS - 1, -1, _LIGHT_PIXELS) + 2
        i, j = a.astype(np.int32), b.astype(np.int32)
        fa, fb = a - i, b - j
        flat, stride = self._light_depth.ravel(), self._light_depth.shape[1]
        k = j * stride + i
        lit = [(flat[k + d] > p[2]) for d in (0, 1, stride, stride + 1)]
        share = (1 - fb) * ((1 - fa) * lit[0] + fa * lit[1]) + fb * ((1 - fa) * lit[2] + fa * lit[3])
        s = np.float32(self.lighting.shadow)
        return s + (1 - s) * share

    def close(self) -> None:
        if self._client >= 0:
            pybullet.disconnect(self._client)
            self._client = -1


def _with_bias(depth: np.ndarray) -> np.ndarray:
    """The light's depth (n, n) [m], moved away by a margin that grows with the surface's slope, so that no surface shades
    itself. Across a jump of depth the flatter side's slope counts."""
    z = np.pad(np.minimum(depth, 1e3), 1, mode="edge")
    middle = z[1:-1, 1:-1]
    across = np.minimum(abs(z[1:-1, 2:] - middle), abs(z[1:-1, :-2] - middle))
    along = np.minimum(abs(z[2:, 1:-1] - middle), abs(z[:-2, 1:-1] - middle))
    return depth + 0.0015 + 2.0 * np.minimum(across + along, 0.01)


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
