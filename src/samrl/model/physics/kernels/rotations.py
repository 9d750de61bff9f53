"""Rotations and quaternions. Warp keeps quaternions as xyzw; coordinates q hold them as wxyz."""

import warp as wp

from .types import Reals3, mat33, quat, real, vec3


@wp.func
def matrix_from_axis_angle(z: vec3, angle: real):
    """Rotation by an angle [rad] about a unit axis (Rodrigues)."""
    c = wp.cos(angle)
    s = wp.sin(angle)
    n = real(1.0) - c
    return mat33(
        c + z[0] * z[0] * n, z[0] * z[1] * n - z[2] * s, z[0] * z[2] * n + z[1] * s,
        z[1] * z[0] * n + z[2] * s, c + z[1] * z[1] * n, z[1] * z[2] * n - z[0] * s,
        z[2] * z[0] * n - z[1] * s, z[2] * z[1] * n + z[0] * s, c + z[2] * z[2] * n,
    )  # fmt: skip


@wp.func
def cross_columns(r: vec3, M: mat33):
    """[r]x M: r × each column. As a product of matrices it would cost half as much again."""
    return mat33(
        r[1] * M[2, 0] - r[2] * M[1, 0], r[1] * M[2, 1] - r[2] * M[1, 1], r[1] * M[2, 2] - r[2] * M[1, 2],
        r[2] * M[0, 0] - r[0] * M[2, 0], r[2] * M[0, 1] - r[0] * M[2, 1], r[2] * M[0, 2] - r[0] * M[2, 2],
        r[0] * M[1, 0] - r[1] * M[0, 0], r[0] * M[1, 1] - r[1] * M[0, 1], r[0] * M[1, 2] - r[1] * M[0, 2],
    )  # fmt: skip


@wp.func
def rows_cross(M: mat33, r: vec3):
    """M [r]x: each row × r."""
    return mat33(
        M[0, 1] * r[2] - M[0, 2] * r[1], M[0, 2] * r[0] - M[0, 0] * r[2], M[0, 0] * r[1] - M[0, 1] * r[0],
        M[1, 1] * r[2] - M[1, 2] * r[1], M[1, 2] * r[0] - M[1, 0] * r[2], M[1, 0] * r[1] - M[1, 1] * r[0],
        M[2, 1] * r[2] - M[2, 2] * r[1], M[2, 2] * r[0] - M[2, 0] * r[2], M[2, 0] * r[1] - M[2, 1] * r[0],
    )  # fmt: skip


@wp.func
def turned(rest: mat33, z: vec3, angle: real):
    """`rest` turned by an angle [rad] about a unit axis in its own frame, which is constant."""
    return rest * matrix_from_axis_angle(z, angle)


@wp.func_grad(turned)
def adj_turned(rest: mat33, z: vec3, angle: real, adj: mat33):
    """With R = rest T(angle): dR = d(rest) T + R [z]x d(angle)."""
    T = matrix_from_axis_angle(z, angle)
    G = wp.transpose(rest * T) * adj
    wp.adjoint[rest] += adj * wp.transpose(T)
    wp.adjoint[angle] += z[0] * (G[2, 1] - G[1, 2]) + z[1] * (G[0, 2] - G[2, 0]) + z[2] * (G[1, 0] - G[0, 1])


@wp.func
def matrix_from_unit_quat(a: quat):
    """Rotation matrix of a unit quaternion."""
    x = a[0]
    y = a[1]
    z = a[2]
    w = a[3]
    o = real(1.0)
    t = real(2.0)
    return mat33(
        o - t * (y * y + z * z), t * (x * y - w * z), t * (x * z + w * y),
        t * (x * y + w * z), o - t * (x * x + z * z), t * (y * z - w * x),
        t * (x * z - w * y), t * (y * z + w * x), o - t * (x * x + y * y),
    )  # fmt: skip


@wp.func
def read_quat(q: Reals3, t: int, e: int, at: int):
    """The quaternion at q[t, e, at : at + 4], made unit: its gradient lies in the unit sphere's tangent plane."""
    a = quat(q[t, e, at + 1], q[t, e, at + 2], q[t, e, at + 3], q[t, e, at])
    n = wp.sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2] + a[3] * a[3])
    return a * (real(1.0) / n)


@wp.func
def rotation_vector(a: quat):
    """Rotation vector [rad] of a unit quaternion, angle up to pi; the tiny number keeps the root smooth at zero."""
    sign = wp.where(a[3] < real(0.0), real(-1.0), real(1.0))
    v = vec3(a[0], a[1], a[2]) * sign
    n = wp.sqrt(wp.dot(v, v) + real(1.0e-18))
    return v * (real(2.0) * wp.atan2(n, a[3] * sign) / n)


@wp.func
def turn_quat(a: quat, w: vec3, h: real):
    """Quaternion after turning for h seconds at w [rad/s], w in the body's own axes."""
    half = w * (h * real(0.5))
    n = wp.sqrt(wp.dot(half, half) + real(1.0e-20))
    s = wp.sin(n) / n
    b = a * quat(half[0] * s, half[1] * s, half[2] * s, wp.cos(n))
    return b * (real(1.0) / wp.sqrt(b[0] * b[0] + b[1] * b[1] + b[2] * b[2] + b[3] * b[3]))
