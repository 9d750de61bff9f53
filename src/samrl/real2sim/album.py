"""What was seen from other views: an image that shows little may look right with a body where other images say it is not."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from samrl.core import lie
from samrl.model.model import Model
from samrl.model.scene import Twin
from samrl.real2sim.fine import match_colors
from samrl.real2sim.frames import Crop
from samrl.real2sim.problem import Problem, UpdateSettings


class Album:
    """The last look from each of the last views."""

    MOST = 3

    def __init__(self, model: Model, settings: UpdateSettings) -> None:
        self.model, self.settings = model, settings
        self.kept: deque[tuple[Twin, Sequence[Crop]]] = deque(maxlen=self.MOST)
        self.latest: tuple[Twin, Sequence[Crop]] | None = None

    def add(self, twin: Twin, crops: Sequence[Crop], *, moved: bool) -> None:
        """A look, with the arm as it was then, in the place of the last one unless the camera has moved since."""
        if moved and self.latest:
            self.kept.append(self.latest)
        self.latest = twin, crops

    def losses(self, problem: Problem, X: Tensor) -> Tensor:
        """Losses (K, U), summed over these looks, of the rigid bodies of `problem` at candidates X (K, N, 4, 4): each where it
        is in its parent now. What bends counts nothing."""
        total = torch.zeros(len(X), len(problem.units))
        rigid = torch.tensor([not u.bends for u in problem.units])
        for twin, crops in self.kept:
            then = Problem(self.model, twin, crops, self.settings)
            back = torch.stack([b @ lie.inverse(a) for a, b in zip(problem.parents, then.parents, strict=True)])
            there = then.based(then.X0.expand(len(X), -1, -1, -1), back @ problem.bases(X))
            with torch.no_grad():
                params = then.twin.params
                color = params.color * match_colors(then, there, params).exp()
                tinted = params.replace(color=color[:, None].expand(-1, len(crops), -1, -1))
                total += then.loss(there, tinted, then.plans(there)) * rigid
        return total
