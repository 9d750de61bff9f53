"""Who decides, at each control step, where to look from and what to do: the variants that are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from samrl.core.types import Reach
from samrl.learn.actor import Actor, Eye
from samrl.learn.expert import Expert, random_start
from samrl.learn.q_function import Situation
from samrl.learn.rehearsal import Shell
from samrl.learn.viewpoint import Viewpoint

Reaches = Callable[[np.ndarray], Reach]
CHOICES = (1, 4, 8, 14, 22, 32, 44)  # control steps at which a view is chosen, the first after one look from the start


class Agent(Protocol):
    """Decides by what the twin knows."""

    def begin(self, seed: int) -> None:
        """A new episode."""
        ...

    def view(self, at: Situation, X_WC: np.ndarray, step: int, reach: Reaches) -> np.ndarray:
        """From where to look in this step (4, 4); the camera is at X_WC. What `reach` says of a pose moves nothing."""
        ...

    def act(self, at: Situation, X_WC: np.ndarray) -> Tensor:
        """The action (6), in the situation after the look from X_WC."""
        ...

    def tell(self) -> dict[str, float]:
        """What it says of its last step, for the record; while the arm moves, so that nothing waits for it."""
        ...


class ByExpert:
    """The expert's policy on the estimate, from where the camera happens to be."""

    def __init__(self, expert: Expert) -> None:
        self.expert = expert

    def begin(self, seed: int) -> None:
        pass

    def view(self, at: Situation, X_WC: np.ndarray, step: int, reach: Reaches) -> np.ndarray:
        return X_WC

    def act(self, at: Situation, X_WC: np.ndarray) -> Tensor:
        with torch.no_grad():
            return self.expert.act(at.twin, at.command)

    def tell(self) -> dict[str, float]:
        return {}


class ByActor(ByExpert):
    """The actor on what 𝓜 renders of the estimate. spoil: what is done to its images, a control that shows whether it looks:
    "black", or "other": those of another episode's start, drawn from this one's seed."""

    def __init__(self, expert: Expert, actor: Actor, eye: Eye, spoil: str = "") -> None:
        super().__init__(expert)
        self.actor, self.eye, self.spoil = actor, eye, spoil
        self.other: Situation | None = None

    def begin(self, seed: int) -> None:
        super().begin(seed)
        if self.spoil == "other":
            model = self.expert.model
            start = random_start(model, self.expert.task, 1, torch.Generator().manual_seed(seed))
            self.other = Situation(*start, torch.eye(6, dtype=torch.float64).expand(1, len(model.units), 6, 6))

    def act(self, at: Situation, X_WC: np.ndarray) -> Tensor:
        camera = torch.as_tensor(X_WC, dtype=self.expert.model.dtype)[None]
        with torch.no_grad():
            sight = self.eye.see(*at.spread(1), camera)
            if self.spoil == "black":
                sight = replace(sight, images=torch.zeros_like(sight.images))
            elif self.other:
                sight = replace(sight, images=self.eye.see(*self.other.spread(1), camera).images)
            return self.actor(sight)[2][0]


class FromView(ByActor):
    """The actor, from one view: the first of `views` (k, 3) that the camera arm reaches."""

    def __init__(self, expert: Expert, actor: Actor, eye: Eye, shell: Shell, views: Tensor) -> None:
        super().__init__(expert, actor, eye)
        self.shell, self.views = shell, views

    def view(self, at: Situation, X_WC: np.ndarray, step: int, reach: Reaches) -> np.ndarray:
        return self._first(self.views, reach, X_WC) if step == 0 else X_WC

    def _first(self, views: Tensor, reach: Reaches, otherwise: np.ndarray) -> np.ndarray:
        wanted = (self.shell.pose(v.double()).numpy() for v in views)
        return next((X for X in wanted if reach(X).ok), otherwise)


class ChosenView(FromView):
    """The actor, from views chosen now and then.

    Args:
        choices: control steps at which they are made.
        blind: the first reachable of as many drawn views, a control. by_expert: the expert's policy instead of the actor.
    """

    def __init__(
        self,
        viewpoint: Viewpoint,
        expert: Expert,
        eye: Eye,
        *,
        choices: Sequence[int] = CHOICES,
        blind: bool = False,
        by_expert: bool = False,
    ) -> None:
        super().__init__(expert, viewpoint.actor, eye, viewpoint.shell, torch.zeros(0, 3))
        self.viewpoint, self.choices, self.blind, self.by_expert = viewpoint, choices, blind, by_expert
        self.begin(0)

    def begin(self, seed: int) -> None:
        super().begin(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.promised: float | None = None
        self.after: tuple[Situation, Tensor] | None = None

    def view(self, at: Situation, X_WC: np.ndarray, step: int, reach: Reaches) -> np.ndarray:
        self.promised = self.after = None
        if step not in self.choices:
            return X_WC
        now = self.shell.view(torch.as_tensor(X_WC, dtype=torch.float32))
        if self.blind:
            return self._first(self.shell.draw(self.viewpoint.s.candidates, self.generator), reach, X_WC)
        views, q = self.viewpoint.ranked(at, now, self.generator)
        for view, value in zip(views, q, strict=True):
            stays = torch.equal(view, now)
            wanted = X_WC if stays else self.shell.pose(view.double()).numpy()
            if stays or reach(wanted).ok:
                self.promised = float(value + self.viewpoint.cost(view, now))
                return wanted
        return X_WC

    def act(self, at: Situation, X_WC: np.ndarray) -> Tensor:
        if self.promised is not None:
            self.after = at, self.shell.view(torch.as_tensor(X_WC, dtype=torch.float32))
        return ByExpert.act(self, at, X_WC) if self.by_expert else super().act(at, X_WC)

    def tell(self) -> dict[str, float]:
        """The view that was chosen, what Q promised, and what became of that after the look, with the action computed anew."""
        if self.promised is None or self.after is None:
            return {}
        at, now = self.after
        with torch.no_grad():
            q, _ = self.viewpoint.value(self.viewpoint.common(at), now, now[None])
        yaw, pitch, radius = now.tolist()
        return {"yaw": yaw, "pitch": pitch, "radius": radius, "q promised": self.promised, "q after": float(q)}
