"""What neighbouring rows tell about a row: how fast it moves, and how far it may be off."""

from __future__ import annotations

import numpy as np
from scipy.signal import savgol_coeffs, savgol_filter

from samrl.model.scene import BALL, FREE, Scene

_SPAN = 0.02  # seconds of rows to which a cubic is fitted,
_LEAST, _MOST = 5, 41  # and how many rows these are at least and at most
_CUBIC = 4  # numbers of a cubic


def speeds(scene: Scene, q: np.ndarray, step: float) -> np.ndarray:
    """q̇ (N, nv) of neighbouring rows q (N, nq) that are `step` seconds apart."""
    count = _rows(len(q), step)
    if count >= 3:
        slopes = savgol_filter(q, count, min(3, count - 1), deriv=1, delta=step, axis=0)
    else:
        slopes = np.repeat(np.diff(q, axis=0), len(q), 0)[: len(q)] / step
    out = np.zeros((len(q), scene.nv))
    for a, v, n, turns in _joints(scene):
        lead = n - 3 if turns else n
        out[:, v : v + lead] = slopes[:, a : a + lead]
        if turns:
            out[:, v + lead : v + n] = _spin(q[:, a + lead : a + lead + 4], slopes[:, a + lead : a + lead + 4])
    return out


def spread(scene: Scene, q: np.ndarray, qd: np.ndarray | None, step: float) -> np.ndarray:
    """(N, 2 nv) standard deviations of coordinates q (N, nq), as tangent vectors, and of velocities q̇ (N, nv; None: slopes of q),
    by how rows scatter around a cubic of their neighbours. Infinite where rows are too few to tell."""
    count = _rows(len(q), step)
    if count <= _CUBIC:
        return np.full((len(q), 2 * scene.nv), np.inf)
    scatter, place = _scatter(q, count), np.zeros(scene.nv)
    for a, v, n, turns in _joints(scene):
        lead = n - 3 if turns else n
        place[v : v + lead] = scatter[a : a + lead]
        if turns:  # a quaternion moves by half of what turns
            place[v + lead : v + n] = 2 * np.sqrt(np.mean(scatter[a + lead : a + lead + 4] ** 2))
    push = np.outer(_slope_gains(len(q), count, step), place) if qd is None else np.tile(_scatter(qd, count), (len(q), 1))
    return np.concatenate([np.tile(place, (len(q), 1)), push], 1)


def _rows(length: int, step: float) -> int:
    """How many rows a cubic is fitted to, an odd number."""
    return min(max(_LEAST, min(_MOST, 2 * round(_SPAN / step / 2) + 1)), length - (1 - length % 2))


def _joints(scene: Scene) -> list[tuple[int, int, int, bool]]:
    """Of each joint that moves: where it is in q and in q̇, how many velocities it has, and whether its last are a turn."""
    each = zip(scene.q_adr, scene.v_adr, scene.nd, scene.joint_type, strict=True)
    return [(int(a), int(v), int(n), kind in (BALL, FREE)) for a, v, n, kind in each if n]


def _scatter(y: np.ndarray, count: int) -> np.ndarray:
    """Standard deviations of the columns of y (N, ·) around cubics of `count` neighbours."""
    half = count // 2
    own = 1 - savgol_coeffs(count, 3)[half]  # a row draws its cubic towards itself
    r = (y - savgol_filter(y, count, 3, axis=0))[half : len(y) - half]
    return np.sqrt((r**2).mean(0) / own)


def _slope_gains(length: int, count: int, step: float) -> np.ndarray:
    """(length) standard deviation of each row's slope for a scatter of 1; at both ends all rows share one cubic."""
    half = count // 2
    at = np.clip(np.arange(length), 0, half) + np.clip(np.arange(length) - (length - 1 - half), 0, half)
    gains = np.array([np.linalg.norm(savgol_coeffs(count, 3, deriv=1, delta=step, pos=p)) for p in range(count)])
    return gains[at]


def _spin(quat: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Angular velocity (N, 3) in the body's axes: twice the vector part of q⁻¹ q̇."""
    w, v, dw, dv = quat[:, :1], quat[:, 1:], slope[:, :1], slope[:, 1:]
    return 2 * (w * dv - dw * v - np.cross(v, dv))
