"""What the tasks of one cell share: where the camera arm stands, where cameras start, and the norm of their costs."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from samrl.core.camera import viewpoint

# Where the camera arm stands and how it holds its camera: calibrated once, settings of the cell.
CARRIER_BASE = ((1.15, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
HAND_EYE = ((0.055, 0.0, 0.030), (1.0, 0.0, 0.0, 0.0))
CARRIER_HOME = (0.0, -0.7, 0.0, 1.57, 0.0, 0.6, 0.0)

Interval = tuple[float, float]


class ViewRanges(Protocol):
    """Where cameras start: yaw up to so far to either side, pitch [rad], radius [m], and how far from the point that views turn
    about the camera looks [m]."""

    @property
    def view_yaw(self) -> float: ...

    @property
    def view_pitch(self) -> Interval: ...

    @property
    def view_radius(self) -> Interval: ...

    @property
    def view_aside(self) -> float: ...


def view_ranges(r: ViewRanges) -> tuple[Interval, Interval, Interval]:
    """Intervals of yaw, pitch [rad] and radius [m]."""
    return (-r.view_yaw, r.view_yaw), r.view_pitch, r.view_radius


def draw_views(r: ViewRanges, look_at: Tensor, rng: np.random.Generator, count: int) -> np.ndarray:
    """Camera poses X_WC (count, 4, 4), uniform in yaw, pitch and radius about points near look_at (3)."""
    column = lambda low, high: torch.from_numpy(rng.uniform(low, high, count))  # noqa: E731
    target = look_at + torch.from_numpy(rng.uniform(-r.view_aside, r.view_aside, (count, 3)))
    return viewpoint(target, *(column(*interval) for interval in view_ranges(r))).numpy()


def smooth_norm(v: Tensor, width: float) -> Tensor:
    """(*batch, n) -> (*batch): |v|, linear far away and round within `width`; 0 at 0."""
    return ((v * v).sum(-1) + width**2).sqrt() - width
