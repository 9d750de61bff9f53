"""Plain values that pass between the rooms. Arrays are NumPy where they come from a world, torch where from the twin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from samrl.core.camera import Camera


@dataclass(frozen=True)
class RGBD:
    """Colour and depth through one camera.

    Attributes:
        color: (*batch, H, W, 3) in [0, 1].
        depth: (*batch, H, W) metres along the optical axis; 0 where there is no reading.
        valid: (*batch, H, W) boolean: the depth there is a reading.
        masks: body name -> (*batch, H, W) coverage of each pixel by that body, in [0, 1].
        camera: the camera that took it (crops carry a shifted principal point).
    """

    color: Any
    depth: Any
    valid: Any
    masks: dict[str, Any]
    camera: Camera


@dataclass(frozen=True)
class ArmState:
    """What the acting arm reports.

    Attributes:
        q, qd: (n,) measured joint positions [rad] and velocities [rad/s].
        q_ref: (n,) joint set-points of the impedance controller [rad].
        X_WE_command: (4, 4) last commanded end-effector pose.
    """

    q: np.ndarray
    qd: np.ndarray
    q_ref: np.ndarray
    X_WE_command: np.ndarray


@dataclass(frozen=True)
class Observation:
    """What the controller may know after `reset` or `act`: the arm and the camera, never the objects.

    Attributes:
        arm: the acting arm's state.
        X_WC: (4, 4) camera pose as the calibration has it.
        time: seconds since reset, simulated.
    """

    arm: ArmState
    X_WC: np.ndarray
    time: float


@dataclass(frozen=True)
class Transition:
    """What `act` returns: the new observation and the action that was really applied, (6,)."""

    observation: Observation
    action: np.ndarray


@dataclass(frozen=True)
class Reach:
    """Answer to `reach`: whether a camera pose can be taken, the nearest pose that can, and the time to get there [s]."""

    ok: bool
    X_WC: np.ndarray
    travel_time: float
    reason: str = ""


@dataclass(frozen=True)
class Capabilities:
    """What a world can and cannot do, said beforehand."""

    name: str
    masks: bool = True
    depth: bool = True
    moves_camera: bool = True
    simulated: bool = True
    notes: dict[str, str] = field(default_factory=dict)
