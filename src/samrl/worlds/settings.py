"""The worlds' frozen settings: settings.yaml as plain values."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from samrl.core.errors import SamrlError, UnknownNameError
from samrl.tasks.task import Task

_FILE = Path(__file__).parent / "settings.yaml"
Interval = tuple[float, float]


@dataclass(frozen=True)
class Sensor:
    """Noise and gaps of the RGB-D camera; every field's meaning and unit stands in settings.yaml."""

    exposure: float
    color_noise: float
    depth_noise: float
    depth_noise_smooth: float
    smooth_pixels: float
    edge_step: float
    edge_pixels: int
    thin_pixels: int
    near: float
    far: float


@dataclass(frozen=True)
class Light:
    """Ranges that the light is drawn from."""

    tilt: Interval
    ambient: Interval
    diffuse: Interval
    specular: float
    shadow: Interval
    background: Interval


@dataclass(frozen=True)
class ArmControl:
    """How far the acting arm's controller is from what it should be."""

    stiffness_scale: float
    gravity_scale: float
    payload_known: bool
    delay_steps: int


@dataclass(frozen=True)
class HandEye:
    """Size of the error of the hand-eye calibration [m, rad]."""

    translation: float
    rotation: float


@dataclass(frozen=True)
class CameraArmSettings:
    """What the camera arm may do."""

    joint_speed: float
    clearance: float
    position_tolerance: float
    angle_tolerance: float


@dataclass(frozen=True)
class Errors:
    """The MuJoCo world's own errors."""

    mass: float
    inertia: float
    damping: float
    shape: float
    friction: Interval


@dataclass(frozen=True)
class Hidden:
    """How far the truth of what the hand holds may be from the scene's numbers, as shares, drawn uniformly per seed: of its mass
    and inertia, and of friction. The arm's controller goes on to compensate the weight of the scene's. A share that is not zero
    takes the place of what `Errors` says of the same number."""

    payload: float = 0.0
    friction: float = 0.0


@dataclass(frozen=True)
class Settings:
    """One world's settings, by name."""

    name: str
    sensor: Sensor
    light: Light
    arm: ArmControl
    hand_eye: HandEye
    camera_arm: CameraArmSettings
    errors: Errors
    task: str
    hidden: Hidden = Hidden()

    def task_for(self, task: Task) -> Task:
        """The task as these settings have it: with a cover plate, with a tight hole, or as it is."""
        if self.task == "nominal":
            return task
        if self.task == "cover" and hasattr(task, "cover"):
            return replace(task, cover=True)  # type: ignore[type-var]
        if self.task == "tight" and hasattr(task, "tight"):
            return task.tight()
        raise SamrlError(f"settings '{self.name}' ask for '{self.task}', a variant that task '{task.name}' has not.")


_PARTS: dict[str, type] = {
    "sensor": Sensor, "light": Light, "arm": ArmControl, "hand_eye": HandEye, "camera_arm": CameraArmSettings,
    "errors": Errors,
}  # fmt: skip


@lru_cache
def _entries() -> dict[str, Any]:
    return yaml.safe_load(_FILE.read_text())


def names() -> list[str]:
    """Every settings' name, the nominal ones first."""
    return list(_entries())


def load(name: str = "nominal") -> Settings:
    """The settings of that name; UnknownNameError names the nearest."""
    entries = _entries()
    if name not in entries:
        raise UnknownNameError("setting", name, entries)
    base, changes = entries["nominal"], entries[name]
    parts = {key: kind(**_plain({**base[key], **changes.get(key, {})})) for key, kind in _PARTS.items()}
    hidden = Hidden(**changes.get("hidden", {}))
    return Settings(name=name, task=changes.get("task", base["task"]), hidden=hidden, **parts)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def settings_hash() -> str:
    """sha256 of settings.yaml, in hex: it goes into every summary."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()
