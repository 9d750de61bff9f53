"""Protocols of the real world, or of a stand-in for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from samrl.core.camera import Roi
from samrl.core.types import RGBD, Capabilities, Observation, Reach, Transition


@runtime_checkable
class World(Protocol):
    """The real world: it is reset, looked at and acted on, and tells nothing but what its sensors give."""

    capabilities: Capabilities

    def reset(self, seed: int) -> Observation:
        """A new episode, all of it drawn from `seed`."""
        ...

    def reach(self, X_WC: np.ndarray) -> Reach:
        """Can the camera arm take the pose (4, 4)? Nothing moves."""
        ...

    def look(self, X_WC: np.ndarray, rois: Sequence[Roi] | None = None) -> list[RGBD]:
        """Move the camera arm there, or stay if it is there, and take one exposure. Returns one RGBD for each region of
        interest at native resolution (float32 colour, depth, valid, masks), or a single whole frame without `rois`.
        Each carries the camera as the calibration has it. Raises UnreachableError and moves nothing where it cannot."""
        ...

    def act(self, action: np.ndarray) -> Transition:
        """Apply one action for one control period; returns the action that was really applied."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Judge(Protocol):
    """The truth, for evaluation and for residual training alone; a controller never holds one."""

    def measures(self) -> dict[str, Any]:
        """The task's measures, from true poses: numbers, or lists of them."""
        ...

    def poses(self) -> dict[str, np.ndarray]:
        """True pose X_WB (4, 4) of every updatable body."""
        ...
