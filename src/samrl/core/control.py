"""The control law of the acting arm, the same on both sides of the gap.

An action (6,) is (Δp [m], Δr rotation vector [rad]) in the world's axes. It moves the last **commanded** end-effector
pose, which is kept near the measured one; damped least squares turn it into joint set-points at the control rate; a joint
impedance follows them: implicit springs in the twin, torques at 1 kHz in the worlds. Gains: gains.yaml beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from samrl.core import lie
from samrl.core.chain import SerialChain


@dataclass(frozen=True)
class Gains:
    """Attributes:
    period: control period [s]; max_translation [m] and max_rotation [rad]: largest step a period, by norm.
    lead_translation [m], lead_rotation [rad]: how far the commanded pose may be from the measured one.
    stiffness (7) [N m/rad], damping (7) [N m s/rad], torque_limit (7) [N m] of the impedance.
    ik_damping, ik_rest, ik_steps: of the damped least squares.
    """

    period: float
    max_translation: float
    max_rotation: float
    lead_translation: float
    lead_rotation: float
    stiffness: tuple[float, ...]
    damping: tuple[float, ...]
    torque_limit: tuple[float, ...]
    ik_damping: float
    ik_rest: float
    ik_steps: int


@lru_cache
def gains() -> Gains:
    """The one set of gains, from gains.yaml."""
    data: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "gains.yaml").read_text())
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return Gains(**values)


def limit_norm(v: Tensor, limit: float) -> Tensor:
    """Shorten vectors (*batch, 3) to at most `limit`, keeping their direction."""
    n = (v * v).sum(-1, keepdim=True).clamp_min(1e-24).sqrt()
    return v * (limit / n).clamp(max=1.0)


def limit_action(action: Tensor, g: Gains) -> Tensor:
    """The action that is really applied: (*batch, 6), each half shortened to its limit."""
    return torch.cat([limit_norm(action[..., :3], g.max_translation), limit_norm(action[..., 3:], g.max_rotation)], -1)


def command(X_command: Tensor, X_measured: Tensor, action: Tensor, g: Gains) -> Tensor:
    """The next commanded pose X_WE (*batch, 4, 4): the last one moved by the limited action (rotation left-multiplied),
    then drawn back to within the lead of the measured pose."""
    moved = lie.retract(X_command, limit_action(action, g))
    lead = lie.local(X_measured, moved)
    lead = torch.cat([limit_norm(lead[..., :3], g.lead_translation), limit_norm(lead[..., 3:], g.lead_rotation)], -1)
    return lie.retract(X_measured, lead)


def set_points(chain: SerialChain, q_ref: Tensor, X_command: Tensor, g: Gains) -> Tensor:
    """Joint set-points (*batch, n) for the commanded pose, from the last ones."""
    for _ in range(g.ik_steps):
        q_ref = chain.step_towards(q_ref, X_command, g.ik_damping, g.ik_rest)
    return q_ref


def impedance(q: np.ndarray, qd: np.ndarray, q_ref: np.ndarray, gravity: np.ndarray, g: Gains) -> np.ndarray:
    """Joint torques (n) [N m]: spring, damper and gravity compensation, capped (Hogan 1985)."""
    torque = np.asarray(g.stiffness) * (q_ref - q) - np.asarray(g.damping) * qd + gravity
    limit = np.asarray(g.torque_limit)
    return np.clip(torque, -limit, limit)
