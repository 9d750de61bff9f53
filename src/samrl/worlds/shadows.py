"""Shadows by a view from the light, for any renderer and any window of the image."""

from __future__ import annotations

import numpy as np

from samrl.worlds.picture import Lighting

_DISTANCE, _HALF_WIDTH, _DEPTH = 2.5, 0.35, 1.2  # of the light from the focus, of what it lights, before and behind [m]


class Shadows:
    """What the light does not reach.

    Attributes:
        K, X_WL, pixels, near, far: the light's view: intrinsics (4), pose (4, 4), side [px], planes [m]; a renderer draws
            whatever casts a shadow from there and hands the depth to `see`.
    """

    def __init__(self, lighting: Lighting, focus: np.ndarray, pixels: int = 320) -> None:
        z = -lighting.direction
        x = np.cross(z, [0.0, 1.0, 0.0])
        x /= np.linalg.norm(x)
        self.X_WL = np.eye(4)
        self.X_WL[:3, :3] = np.stack([x, np.cross(z, x), z], -1)
        self.X_WL[:3, 3] = np.asarray(focus) + _DISTANCE * lighting.direction
        f = 0.5 * pixels * _DISTANCE / _HALF_WIDTH
        self.K = np.array([f, f, 0.5 * pixels, 0.5 * pixels])
        self.pixels, self.near, self.far = pixels, _DISTANCE - _DEPTH, _DISTANCE + _DEPTH
        self._dark = np.float32(lighting.shadow)
        self.see(np.full((pixels, pixels), np.inf))

    def see(self, depth: np.ndarray) -> None:
        """depth (n, n) [m] of what the light reaches first, infinite where that is nothing."""
        self._depth = np.pad(_with_bias(depth), 2, constant_values=np.inf).astype(np.float32)

    def brightness(self, K: np.ndarray, X_WC: np.ndarray, left: int, top: int, depth: np.ndarray) -> np.ndarray:
        """(H, W) factor for a window's pixels of known depth: 1 in the light, less in the dark, between them at a shadow's
        border (a 2 × 2 filter over the light's view, as in Reeves, Salesin and Cook 1987)."""
        height, width = depth.shape
        fx, fy, cx, cy = K
        # p_L = R_LC p_C + t, written out: the pixel grid is a sum of a row and a column
        R_LW = self.X_WL[:3, :3].T
        R = R_LW @ X_WC[:3, :3]
        t = R_LW @ (X_WC[:3, 3] - self.X_WL[:3, 3])
        u = ((left + np.arange(width) + 0.5 - cx) / fx).astype(np.float32)
        v = ((top + np.arange(height) + 0.5 - cy) / fy).astype(np.float32)
        z = np.where(np.isfinite(depth), depth, 1e3).astype(np.float32)
        x, y, z = (z * ((R[i, 0] * u)[None, :] + (R[i, 1] * v + R[i, 2])[:, None]) + np.float32(t[i]) for i in range(3))
        a, b = (np.clip(p / z * np.float32(self.K[0]) + np.float32(self.K[2] - 0.5), -1, self.pixels) + 2 for p in (x, y))
        i, j = a.astype(np.int32), b.astype(np.int32)
        fa, fb = a - i, b - j
        flat, stride = self._depth.ravel(), self._depth.shape[1]
        k = j * stride + i
        lit = [flat[k + d] > z for d in (0, 1, stride, stride + 1)]
        share = (1 - fb) * ((1 - fa) * lit[0] + fa * lit[1]) + fb * ((1 - fa) * lit[2] + fa * lit[3])
        return self._dark + (1 - self._dark) * share


def _with_bias(depth: np.ndarray) -> np.ndarray:
    """The light's depth (n, n) [m], moved away by a margin that grows with the surface's slope, so that no surface shades
    itself. Across a jump of depth the flatter side's slope counts."""
    z = np.pad(np.minimum(depth, 1e3), 1, mode="edge")
    middle = z[1:-1, 1:-1]
    across = np.minimum(abs(z[1:-1, 2:] - middle), abs(z[1:-1, :-2] - middle))
    along = np.minimum(abs(z[2:, 1:-1] - middle), abs(z[:-2, 1:-1] - middle))
    return depth + 0.0015 + 2.0 * np.minimum(across + along, 0.01)
