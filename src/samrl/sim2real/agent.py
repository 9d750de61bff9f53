"""Who decides, at each control step, where to look from and what to do: the variants that are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from samrl.core.types import Reach
from samrl.learn.actor import Actor, Eye
from samrl.learn.expert import Expert
from samrl.learn.viewpoint import Viewpoint, spread
from samrl.model.model import Command
from samrl.model.scene import Twin


class Agent(Protocol):
    """Decides from the twin alone."""

    def begin(self, seed: int) -> None:
        """A new episode."""
        ...

    def view(self, twin: Twin, command: Command, X_WC: np.ndarray, step: int, reach: Callable[[np.ndarray], Reach]) -> np.ndarray:
        """From where to look in this step (4, 4); the camera is at X_WC. What `reach` says of a pose moves nothing."""
        ...

    def act(self, twin: Twin, command: Command, X_WC: np.ndarray) -> Tensor:
        """The action (6), with the twin as it is after the look from X_WC."""
        ...


class FixedView:
    """The expert on the estimate, or the actor on its render, from where the camera happens to be."""

    def __init__(self, expert: Expert, actor: Actor | None = None, eye: Eye | None = None) -> None:
        self.expert, self.actor, self.eye = expert, actor, eye

    def begin(self, seed: int) -> None:
        pass

    def view(self, twin: Twin, command: Command, X_WC: np.ndarray, step: int, reach: Callable[[np.ndarray], Reach]) -> np.ndarray:
        return X_WC

    def act(self, twin: Twin, command: Command, X_WC: np.ndarray) -> Tensor:
        with torch.no_grad():
            if self.actor is None or self.eye is None:
                return self.expert.act(twin, command)
            return self.actor(self.eye.see(*spread(twin, command, 1), camera(self.expert, X_WC)))[2][0]


class ChosenView(FixedView):
    """The same, from views chosen now and then.

    Args:
        viewpoint: ranks views; at: control steps of the choices, the first after one look from where the camera was.
        by: "q", or "random": the first reachable of as many drawn views, a control.
    """

    def __init__(
        self, viewpoint: Viewpoint, expert: Expert, actor: Actor | None = None, eye: Eye | None = None, *,
        at: Sequence[int] = (1, 4, 8, 14, 22, 32, 44), by: str = "q",
    ) -> None:  # fmt: skip
        super().__init__(expert, actor, eye)
        self.viewpoint, self.at, self.by = viewpoint, at, by
        self.begin(0)

    def begin(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def view(self, twin: Twin, command: Command, X_WC: np.ndarray, step: int, reach: Callable[[np.ndarray], Reach]) -> np.ndarray:
        if step not in self.at:
            return X_WC
        shell = self.viewpoint.shell
        now = shell.view(torch.as_tensor(X_WC, dtype=torch.float32))
        if self.by == "random":
            ranked = shell.draw(self.viewpoint.s.candidates, self.generator)
        else:
            ranked, _ = self.viewpoint.ranked(twin, command, now, self.generator)
        for view in ranked:
            if torch.equal(view, now):
                return X_WC
            wanted = shell.pose(view.double()).numpy()
            if reach(wanted).ok:
                return wanted
        return X_WC


def camera(expert: Expert, X_WC: np.ndarray) -> Tensor:
    return torch.as_tensor(X_WC, dtype=expert.model.dtype)[None]
