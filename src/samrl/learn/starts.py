"""Where episodes of learning begin: as a reset draws them, and in a share of them where a task stages others (Tried.staged)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.tasks.task import Measures, Task, Tried, Truth

OWN = 0  # the task's own kind of start


@dataclass(frozen=True)
class Starts:
    """truth: what a reset hides; kind: (n) int of each, OWN or a stage's number; before: what an episode remembers there."""

    truth: Truth
    kind: Tensor
    before: Measures


def draw(task: Task, count: int, generator: torch.Generator, staged: float = 0.0) -> Starts:
    """`count` starts, about a share `staged` of them of other kinds than the task's own, where it has any."""
    truth = task.sample(count, generator)
    if not (staged and isinstance(task, Tried)):
        return Starts(truth, torch.full((count,), OWN), {})
    shares = torch.tensor([1 - staged] + [staged * share for share in task.stages]).double()
    kind = torch.multinomial(shares, count, replacement=True, generator=generator)
    before: Measures = {}
    for k in range(1, 1 + len(task.stages)):
        i = (kind == k).nonzero()[:, 0]
        if len(i):
            other, remembered = task.staged(k, len(i), generator)
            poses = {name: X.index_copy(0, i, other.poses[name]) for name, X in truth.poses.items()}
            truth = Truth(poses, truth.q.index_copy(0, i, other.q))
            for name, x in remembered.items():
                before.setdefault(name, x.new_zeros(count, *x.shape[1:]))[i] = x
    return Starts(truth, kind, before)
