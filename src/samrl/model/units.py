"""What an update may move, and how: each unit by six numbers, whether it is a rigid body or a chain of bodies that bends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.core import lie

NOTHING = (0.1, math.pi / 2)  # how far anything may be [m, rad]
DRIFT = (0.01, 0.2)  # how far what floats may be from where it is predicted a control period ahead, in contact too [m, rad]
ALONG_X = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))  # axes of a frame whose z runs along x


@dataclass(frozen=True)
class Unit:
    """One body, or a chain of equal segments along their x axes, each in the one before. A tangent vector d (*batch, 6) moves it:

    a body by translation [m] and rotation vector [rad] of its frame in its parent's axes (lie.retract);
    a chain, in the parent's axes too, by the way of its free end [m], if all joints bend alike, and by a rotation vector [rad]
    that is added to that of the last joint, taken from that of the first, and in between grows evenly. What lies along the chain
    does not count: neither does it get longer, nor does twist show.

    Attributes:
        name: also that of its mask.
        bodies: names, from the parent outwards.
        length: of a segment [m]; 0 for a body.
        span: of what an update looks at around its frame [m]; 0: as much as shows it finely.
    """

    name: str
    bodies: tuple[str, ...]
    length: float = 0.0
    span: float = 0.0

    @property
    def bends(self) -> bool:
        return self.length > 0

    def turn(self, X_PB: Tensor, d: Tensor) -> Tensor:
        """Poses X_PB (*batch, m, 4, 4) of the bodies in their parents, moved by d (*batch, 6)."""
        if not self.bends:
            return lie.retract(X_PB[..., 0, :, :], d)[..., None, :, :]
        turns = lie.exp_so3(self._angles(X_PB, d))
        return lie.pose(turns @ X_PB[..., :3, :3], X_PB[..., :3, 3])

    def between(self, X_PB: Tensor, Y_PB: Tensor) -> Tensor:
        """The d (*batch, 6) that moves X_PB to Y_PB (*batch, m, 4, 4), or of chains as near to it as may be."""
        if not self.bends:
            return lie.local(X_PB[..., 0, :, :], Y_PB[..., 0, :, :])
        a, b = self._ways(X_PB), self._ways(Y_PB)
        a, b = torch.broadcast_tensors(a, b)
        c = torch.linalg.cross(a, b)
        sine = c.norm(dim=-1, keepdim=True)
        turns = c / sine.clamp_min(1e-12) * torch.atan2(sine, (a * b).sum(-1, keepdim=True))  # of each segment, without twist
        w = torch.diff(turns, dim=-2, prepend=torch.zeros_like(turns[..., :1, :]))
        s = self._places(w)
        tip = torch.linalg.cross(w.mean(-2), a[..., 0, :]) * self._reach
        return torch.cat([tip, (s * w).sum(-2) / s.square().sum()], -1)

    def carry(self, X_WP: Tensor, X_WB: Tensor, d: Tensor) -> Tensor:
        """Bodies at X_WB (*batch, m, 4, 4), where joints may have moved them, in a parent at X_WP (*batch, 4, 4), moved by d
        (*batch, 6): of a body in the world's axes, of a chain in its parent's."""
        if not self.bends:
            return lie.retract(X_WB[..., 0, :, :], d)[..., None, :, :]
        X_PB = self.turn(self.relative(X_WP, X_WB), d)
        out = [X_WP]
        for i in range(len(self.bodies)):
            out.append(out[-1] @ X_PB[..., i, :, :])
        return torch.stack(out[1:], -3)

    def relative(self, X_WP: Tensor, X_WB: Tensor) -> Tensor:
        """Bodies at X_WB (*batch, m, 4, 4), each in the one before, the first in X_WP (*batch, 4, 4)."""
        before = torch.cat([X_WP[..., None, :, :], X_WB[..., :-1, :, :]], -3)
        X = lie.inverse(before) @ X_WB
        R = X[..., :3, :3]  # what is not quite orthonormal would grow from segment to segment: a Newton step towards it
        return lie.pose(1.5 * R - 0.5 * R @ (R.mT @ R), X[..., :3, 3]) if self.bends else X

    def frame(self, X_WB: Tensor) -> Tensor:
        """Where the unit is (*batch, 4, 4): a body's own frame; a chain's free end, z along its last segment."""
        last = X_WB[..., -1, :, :]
        if not self.bends:
            return last
        tip = lie.pose(last.new_tensor(ALONG_X), last.new_tensor([self.length, 0.0, 0.0]))
        return last @ tip

    def _ways(self, X_PB: Tensor) -> Tensor:
        """Where each segment points (*batch, m, 3), in the parent's axes."""
        R, ways = X_PB[..., 0, :3, :3], [X_PB[..., 0, :3, 0]]
        for i in range(1, len(self.bodies)):
            R = R @ X_PB[..., i, :3, :3]
            ways.append(R[..., :, 0])
        return torch.stack(ways, -2)

    @property
    def _reach(self) -> float:
        """How far the free end goes if every joint turns by a radian, all small [m]."""
        m = len(self.bodies)
        return self.length * m * (m + 1) / 2

    def _places(self, like: Tensor) -> Tensor:
        """(m, 1) of the joints: -1 the first, 1 the last."""
        return torch.linspace(-1.0, 1.0, len(self.bodies), dtype=like.dtype, device=like.device)[:, None]

    def _angles(self, X_PB: Tensor, d: Tensor) -> Tensor:
        """Rotation vectors (*batch, m, 3) of the joints, each in its own parent's axes."""
        w = torch.linalg.cross(X_PB[..., 0, :3, 0].expand_as(d[..., :3]), d[..., :3], dim=-1) / self._reach
        w = w[..., None, :] + self._places(w) * d[..., None, 3:]
        first = X_PB[..., :1, :3, :3]
        rest = (first.mT @ w[..., 1:, :, None])[..., 0]  # a chain is nearly straight: all axes but the parent's are alike
        return torch.cat([w[..., :1, :], rest], -2)


def turn(units: Sequence[Unit], X_PB: Tensor, d: Tensor) -> Tensor:
    """Unit.turn of all units: their bodies' poses X_PB (*batch, N, 4, 4), d (*batch, U, 6)."""
    parts = X_PB.split([len(u.bodies) for u in units], -3)
    return torch.cat([u.turn(X, by) for u, X, by in zip(units, parts, d.unbind(-2), strict=True)], -3)


def between(units: Sequence[Unit], X_PB: Tensor, Y_PB: Tensor) -> Tensor:
    """Unit.between of all units: their bodies' poses (*batch, N, 4, 4) -> (*batch, U, 6)."""
    pairs = zip(*(Z.split([len(u.bodies) for u in units], -3) for Z in (X_PB, Y_PB)), strict=True)
    return torch.stack([u.between(X, Y) for u, (X, Y) in zip(units, pairs, strict=True)], -2)


def informed(scale: Tensor, R: Tensor) -> Tensor:
    """Information (*batch, 6, 6), the inverse of a covariance, on tangent vectors whose entries along the axes R (*batch, 3, 3)
    have standard deviations `scale` (*batch, 6) [m, rad], independent. Double precision: metres and radians differ much."""
    R, scale = R.double(), scale.double()
    out = scale.new_zeros(*scale.shape, 6)
    for k in (0, 3):
        out[..., k : k + 3, k : k + 3] = (R * scale[..., None, k : k + 3] ** -2) @ R.mT
    return out


def before_images(known: Sequence[float] | None) -> Tensor:
    """Information (6, 6) on a unit of which that is known before any image: how far it may be [m], turned [rad] and perhaps how
    far its z axis leans [rad] (`Task.known`); of None, hardly any."""
    p, r, lean = (*(known or NOTHING), torch.inf)[:3]
    p, r = min(p, NOTHING[0]), min(r, NOTHING[1])
    return informed(torch.tensor([p, p, p, min(lean, r), min(lean, r), r]), torch.eye(3))


def fuse(known: Tensor, told: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """How far an estimate of which `known` (*batch, 6, 6) is the information goes towards another, d (*batch, 6) away, with
    information `told` (Kalman 1960): what the other does not show stays as it was. Returns the way (*batch, 6), and the
    information on where it ends."""
    both = known + told
    return torch.linalg.solve(both, told @ d.double()[..., None])[..., 0].to(d.dtype), both


def rigid(names: Sequence[str]) -> tuple[Unit, ...]:
    """Each body a unit of its own."""
    return tuple(Unit(name, (name,)) for name in names)
