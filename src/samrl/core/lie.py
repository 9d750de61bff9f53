"""Rotations and poses as matrices: SO(3) and SE(3), batched, in torch.

A pose `X_AB` is a (*batch, 4, 4) homogeneous matrix: p_A = X_AB p_B. Angles in radians.
Formulas: Sola, Deray, Atchuthan, "A micro Lie theory", 2018, appendix B; Barfoot 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-30  # added to squared lengths, so that roots have a gradient at zero
_GENERATORS = torch.tensor([[0, 0, 0, 0, 0, -1, 0, 1, 0], [0, 0, 1, 0, 0, 0, -1, 0, 0], [0, -1, 0, 1, 0, 0, 0, 0, 0.0]])


def skew(v: Tensor) -> Tensor:
    """Cross-product matrix: (*batch, 3) -> (*batch, 3, 3), skew(a) b = a × b."""
    return (v @ _GENERATORS.to(v)).unflatten(-1, (3, 3))


def exp_so3(w: Tensor) -> Tensor:
    """Rotation vector (*batch, 3) [rad] -> rotation matrix (*batch, 3, 3) (Rodrigues); smooth at zero: sin(t) / t and
    (1 - cos(t)) / t² = (sin(t/2) / (t/2))² / 2, neither of which cancels, and t has a gradient of zero there."""
    t = ((w * w).sum(-1)[..., None, None] + _TINY).sqrt() / torch.pi
    k = skew(w)
    turn = torch.sinc(t) * k + 0.5 * torch.sinc(0.5 * t).square() * (k @ k)
    return turn + torch.eye(3, dtype=w.dtype, device=w.device)


def log_so3(R: Tensor) -> Tensor:
    """Rotation matrix (*batch, 3, 3) -> rotation vector (*batch, 3) [rad], angle in [0, pi]; by way of the
    quaternion, so it stays exact near pi; at zero the value and the gradient are those of the series."""
    q = quat_from_matrix(R)
    v, w = q[..., 1:], q[..., :1]
    n2 = (v * v).sum(-1, keepdim=True)
    small = n2 < 1e-12
    n = torch.where(small, torch.ones_like(n2), n2).sqrt()
    scale = torch.where(small, 2.0 / w * (1 - n2 / (3 * w * w)), 2.0 * torch.atan2(n, w) / n)
    return v * scale


def quat_from_matrix(R: Tensor) -> Tensor:
    """Rotation matrix (*batch, 3, 3) -> unit quaternion wxyz (*batch, 4) with w >= 0 (Shepperd 1978: the largest of
    four candidate components is divided by, so no division is ever by less than 1/2)."""
    m = [[R[..., i, j] for j in range(3)] for i in range(3)]
    d = torch.stack(
        [
            1 + m[0][0] + m[1][1] + m[2][2],
            1 + m[0][0] - m[1][1] - m[2][2],
            1 - m[0][0] + m[1][1] - m[2][2],
            1 - m[0][0] - m[1][1] + m[2][2],
        ],
        -1,
    )
    a, b, c = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    e, f, g = m[0][1] + m[1][0], m[0][2] + m[2][0], m[1][2] + m[2][1]
    rows = torch.stack(
        [
            torch.stack([d[..., 0], a, b, c], -1),
            torch.stack([a, d[..., 1], e, f], -1),
            torch.stack([b, e, d[..., 2], g], -1),
            torch.stack([c, f, g, d[..., 3]], -1),
        ],
        -2,
    )
    best = d.argmax(-1)
    row = torch.gather(rows, -2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    q = row / row.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def matrix_from_quat(q: Tensor) -> Tensor:
    """Unit quaternion wxyz (*batch, 4) -> rotation matrix (*batch, 3, 3)."""
    w, x, y, z = q.unbind(-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ],
        -1,
    ).reshape(*q.shape[:-1], 3, 3)  # fmt: skip


def pose(R: Tensor, p: Tensor) -> Tensor:
    """Rotation (*batch, 3, 3) and translation (*batch, 3) [m] -> pose (*batch, 4, 4)."""
    top = torch.cat([R, p[..., None]], -1)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype, device=top.device)
    return torch.cat([top, last.expand(*top.shape[:-2], 1, 4)], -2)


def inverse(X: Tensor) -> Tensor:
    """Inverse of a pose (*batch, 4, 4)."""
    Rt = X[..., :3, :3].transpose(-1, -2)
    return pose(Rt, -(Rt @ X[..., :3, 3:]).squeeze(-1))


def transform(X_AB: Tensor, p_B: Tensor) -> Tensor:
    """Points p_B (*batch, n, 3) in frame B -> the same points in frame A."""
    return p_B @ X_AB[..., :3, :3].transpose(-1, -2) + X_AB[..., None, :3, 3]


def retract(X: Tensor, d: Tensor) -> Tensor:
    """Move a pose by a tangent vector d (*batch, 6) = (translation [m], rotation vector [rad]), each in X's outer
    frame: R' = exp(w) R, p' = p + v. Decoupled, so that the rotation turns the body about its own origin."""
    return pose(exp_so3(d[..., 3:]) @ X[..., :3, :3], X[..., :3, 3] + d[..., :3])


def local(X: Tensor, Y: Tensor) -> Tensor:
    """Inverse of `retract`: the d (*batch, 6) with retract(X, d) = Y."""
    w = log_so3(Y[..., :3, :3] @ X[..., :3, :3].transpose(-1, -2))
    return torch.cat([Y[..., :3, 3] - X[..., :3, 3], w], -1)
