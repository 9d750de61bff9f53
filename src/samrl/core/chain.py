"""Kinematics of a serial arm: forward, Jacobian, damped least squares. In torch, batched, differentiable; the worlds use
the same code on float64 tensors, so that both sides of the gap turn the same command into the same set-points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.core import lie

ARRIVED = 1e-9  # an error that is not worth another step [m, rad]
LEAST, MOST = 0.0001**2, 0.05**2  # squared damping of inverse kinematics


@dataclass(frozen=True)
class SerialChain:
    """n hinges in a row, from the world to a tool.

    Attributes:
        X_PJ: (n, 4, 4) fixed pose of each joint's frame in the frame of the link before it; the first in the world.
        axis: (n, 3) hinge axis in the joint's frame.
        X_NT: (4, 4) pose of the tool in the last link.
        limit: (n, 2) joint range [rad].
        home: (n) a comfortable pose [rad], used as a start of searches and for the null space.
    """

    X_PJ: Tensor
    axis: Tensor
    X_NT: Tensor
    limit: Tensor
    home: Tensor

    def to(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> SerialChain:
        return SerialChain(*(x.to(device, dtype) for x in (self.X_PJ, self.axis, self.X_NT, self.limit, self.home)))

    def links(self, q: Tensor) -> Tensor:
        """Poses of the n link frames and, last, of the tool, in the world: (*batch, n) -> (*batch, n + 1, 4, 4)."""
        turn = lie.exp_so3(self.axis * q[..., None])
        local = self.X_PJ @ lie.pose(turn, torch.zeros_like(turn[..., 0]))
        X = local[..., 0, :, :]
        out = [X]
        for i in range(1, q.shape[-1]):
            X = X @ local[..., i, :, :]
            out.append(X)
        out.append(X @ self.X_NT)
        return torch.stack(out, -3)

    def tool(self, q: Tensor) -> Tensor:
        """X_WT: (*batch, n) -> (*batch, 4, 4)."""
        return self.links(q)[..., -1, :, :]

    def jacobian(self, links: Tensor) -> Tensor:
        """(*batch, n + 1, 4, 4) link and tool poses -> (*batch, 6, n): tool velocity (linear, angular) in the world's
        axes per joint velocity."""
        axis_W = (links[..., :-1, :3, :3] @ self.axis[..., None]).squeeze(-1)
        arm = links[..., -1:, :3, 3] - links[..., :-1, :3, 3]
        return torch.cat([torch.linalg.cross(axis_W, arm), axis_W], -1).transpose(-1, -2)

    def step_towards(self, q: Tensor, X_WT: Tensor, damping: float = 0.02, rest: float = 0.05) -> Tensor:
        """One damped-least-squares step from q towards a tool pose (Wampler 1986; Nakamura and Hanafusa 1986), the null
        space pulled to `home` with gain `rest`, clamped to the joint range."""
        links = self.links(q)
        return self._step(q, links, lie.local(links[..., -1, :, :], X_WT), q.new_tensor(damping**2), rest * (self.home - q))

    def _step(self, q: Tensor, links: Tensor, e: Tensor, damping2: Tensor, pull: Tensor) -> Tensor:
        """Less of the error e (*batch, 6), `pull` (*batch, n) in the null space; damping2: (*batch) or one for all."""
        J = self.jacobian(links)
        JT = J.transpose(-1, -2)
        A = J @ JT + damping2[..., None, None] * torch.eye(6, dtype=q.dtype, device=q.device)
        task = e - (J @ pull[..., None]).squeeze(-1)
        dq = (JT @ torch.linalg.solve(A, task[..., None])).squeeze(-1) + pull
        return (q + dq).clamp(self.limit[:, 0], self.limit[:, 1])

    def solve(self, X_WT: Tensor, start: Tensor | None = None, iterations: int = 60) -> tuple[Tensor, Tensor, Tensor]:
        """Inverse kinematics from `start` (*batch, n) or home by Levenberg and Marquardt, damped by the error that is left
        (Sugihara 2011), so that the last steps converge quadratically. Returns q (*batch, n) and the error: position [m] and
        angle [rad], each (*batch). Ends early where all have arrived."""
        q = (self.home if start is None else start).expand(*X_WT.shape[:-2], self.home.shape[0])
        for _ in range(iterations):
            links = self.links(q)
            e = lie.local(links[..., -1, :, :], X_WT)
            if float(e.abs().max()) < ARRIVED:
                break
            q = self._step(q, links, e, (0.5 * e.square().sum(-1)).clamp(LEAST, MOST), torch.zeros_like(q))
        return q, *self.missed(q, X_WT)

    def missed(self, q: Tensor, X_WT: Tensor) -> tuple[Tensor, Tensor]:
        """How far the tool at q (*batch, n) is from X_WT (*batch, 4, 4): position [m] and angle [rad], each (*batch)."""
        e = lie.local(self.tool(q), X_WT)
        return e[..., :3].norm(dim=-1), e[..., 3:].norm(dim=-1)
