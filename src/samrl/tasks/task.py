"""What a task is: data and pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from samrl.tasks.spec import SceneSpec

Measures = dict[str, Tensor]


@dataclass(frozen=True)
class Draw:
    """What one reset hides: the truth of the scene, drawn from the seed. Worlds build from it; the twin never sees it.

    Attributes:
        scene: the SceneSpec with true poses, colours and shapes.
        q_start: (7) joint angles of the acting arm at the start [rad].
        views: (n, 4, 4) candidate camera starts in random order; the world takes the first that it can reach.
        seed: for the world's own draws (noise, light, its own solids).
        info: numbers for the record; a `friction` among them says that the task drew it, and a world draws no other.
        rigid: the same truth for a world whose bodies do not bend, 𝓜's own; `scene` where not given.
    """

    scene: SceneSpec
    q_start: np.ndarray
    views: np.ndarray
    seed: int
    info: dict[str, float] = field(default_factory=dict)
    rigid: SceneSpec | None = None


@dataclass(frozen=True)
class Truth:
    """What `count` resets hide. poses: body -> (count, 4, 4) its pose in its parent, its joint at zero; q: (count, n) start of
    the acting arm [rad]."""

    poses: dict[str, Tensor]
    q: Tensor


@dataclass(frozen=True)
class Told:
    """All that a policy is told (*batch).

    Attributes:
        marks: (4, 3) Task.landmarks.
        X_WE: (4, 4) the tool as measured, in the nominal hand; lead: (6) of the commanded pose before it; q: (7) the arm's.
        motion: (6) velocity of the scene's first floating body, linear [m/s] and angular [rad/s], in the world's axes.
    """

    marks: Tensor
    X_WE: Tensor
    lead: Tensor
    q: Tensor
    motion: Tensor


def separation(marks: Tensor) -> tuple[Tensor, Tensor]:
    """What separates load and target, from Task.landmarks (*batch, 4, 3), in their axes: the tip from the target (*batch, 3) [m],
    and the load's axis turned from the target's (*batch, 3), sine of the angle along the axis of the turn."""
    tip, target, axis, wanted = marks.unbind(-2)
    return tip - target, torch.linalg.cross(axis, wanted)


class Task(Protocol):
    """Data and pure functions; the same measures serve the twin (batched tensors) and the judge."""

    @property
    def name(self) -> str: ...

    @property
    def scene(self) -> SceneSpec:
        """What the twin believes before the first image."""
        ...

    @property
    def horizon(self) -> int:
        """Control steps an episode."""
        ...

    @property
    def substeps(self) -> int:
        """The twin's physics steps in a control step."""
        ...

    def draw(self, seed: int) -> Draw:
        """The hidden truth of one episode."""
        ...

    @property
    def crops(self) -> tuple[float, float]:
        """Metres across, at the tip's depth, of the two images that the actor sees: of everything, and of what is fine."""
        ...

    def measures(self, poses: dict[str, Tensor], before: Measures | None = None) -> Measures:
        """The few numbers that cost and success are made of, from poses X_WB (*batch, 4, 4) of bodies by name. `before`: those
        of a control step ago, for what an episode must remember; at its start there are none."""
        ...

    def cost(self, measures: Measures) -> Tensor:
        """One cost of state (*batch), no phase, no time index; the less, the nearer to success."""
        ...

    def success(self, measures: Measures) -> Tensor:
        """(*batch) boolean."""
        ...

    def known(self) -> dict[str, tuple[float, ...]]:
        """Unit -> how far it may be from where the twin first believes it: about [m] and [rad], and, where it is known that it
        leans less far than it is turned, of its z axis [rad]."""
        ...

    def physics(self) -> dict[str, float]:
        """What of ψ motion between looks may fit (words of real2sim/between_looks.py), each with the standard deviation of its
        logarithm before any motion."""
        ...

    def shapes(self) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
        """Geom -> two sizes between which a policy should cope with its shape."""
        ...

    def landmarks(self, poses: dict[str, Tensor]) -> Tensor:
        """Where the tool's load and its target are, in the world (*batch, 4, 3): the load's tip [m], the target [m], the load's
        axis and the target's, which is that of a load that has arrived. Policies are told nothing else of the scene."""
        ...

    def sample(self, count: int, generator: torch.Generator) -> Truth:
        """`count` draws of what a reset hides, for learning in the twin."""
        ...

    def draw_views(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Camera poses X_WC (count, 4, 4) from the start distribution."""
        ...

    def view_ranges(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        """Intervals of yaw, pitch [rad] and radius [m] about `look_at` that views are drawn from."""
        ...

    def tip(self) -> Tensor:
        """(3) where the load's working end nominally is in the tool's frame [m]; the actor's images are centred there."""
        ...

    def look_at(self) -> torch.Tensor:
        """(3) nominal point that views turn about, world [m]."""
        ...


@runtime_checkable
class Tried(Task, Protocol):
    """A task whose expert learns from what its own actions brought (learn/trials.py), where gradients do not lead: contact that
    comes and goes."""

    @property
    def stages(self) -> tuple[float, ...]:
        """Shares among themselves of the kinds of starts beyond the task's own, which are for learning alone."""
        ...

    def staged(self, kind: int, count: int, generator: torch.Generator) -> tuple[Truth, Measures]:
        """`count` starts of a kind from 1 on, and what an episode remembers there, of what `measures` has; zero at
        the task's own."""
        ...

    def features(self, told: Told) -> Tensor:
        """(*batch, F) what the policy's network is given."""
        ...

    def axes(self, told: Told) -> Tensor:
        """(*batch, 3, 3) in which actions turn."""
        ...

    def rocks(self, measures: Measures) -> Tensor:
        """(*batch) boolean: what floats may go on rocking there for long, untouched, as a coin does. Contact takes less energy in
        some worlds than in others."""
        ...

    def lost(self, measures: Measures) -> Tensor:
        """(*batch) boolean: no action helps any more."""
        ...
