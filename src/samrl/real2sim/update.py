"""Real2Sim, step by step: twin ← gradient descent on λ1·‖G⊗I − G'⊗I'‖₁ + λ2·EMD, summed over bodies (SAM-RL Eq. 2-5).

`locate.py` brings bodies near that may be far from their estimates; `update` then descends the full loss through the renderer.
Camera and arm are where the world says they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from samrl.model.model import Model
from samrl.model.scene import Twin
from samrl.real2sim.album import Album
from samrl.real2sim.curve import follow
from samrl.real2sim.fine import colors_of, fine, uncertainty
from samrl.real2sim.frames import Crop
from samrl.real2sim.locate import again
from samrl.real2sim.problem import Priors, Problem, UpdateSettings, put


@dataclass
class UpdateReport:
    """What the update did. `visible`: body -> pixels of its mask; `lost`: bodies out of view, or found where they cannot be,
    whose last estimate is kept; `loss_before`, `loss_after`; `residual`, `information`: see `uncertainty`; `message`: a sentence;
    `seconds`; `doubted`: bodies that did not look right where the descent ended, `replaced`: bodies, doubted or not, that look
    better where the second search ended."""

    visible: dict[str, float]
    lost: tuple[str, ...]
    loss_before: float
    loss_after: float
    residual: dict[str, float] = field(default_factory=dict)
    information: dict[str, Tensor] = field(default_factory=dict)
    message: str = ""
    seconds: float = 0.0
    doubted: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


def update(
    model: Model,
    twin: Twin,
    crops: Sequence[Crop],
    settings: UpdateSettings,
    priors: Priors | None = None,
    album: Album | None = None,
) -> tuple[Twin, UpdateReport]:
    """Align the twin with one exposure, from near: `twin` is unbatched, its arm at the measured joint angles; `crops` are
    equally large crops of one exposure. Where a body is looked for again, what it may be is held against the `album` too."""
    began = time.perf_counter()
    problem = Problem(model, twin, crops, settings, priors)
    message = _message(problem, settings)
    if not any(problem.seen):
        return twin, UpdateReport(problem.visible, problem.names, 0.0, 0.0, message=message)
    X, params, first, last = fine(problem, follow(problem, problem.X0)[None], settings)
    rigid = [
        (u.name, x) for u, x, seen in zip(problem.units, last[0].tolist(), problem.seen, strict=True) if seen and not u.bends
    ]
    doubted = tuple(name for name, x in rigid if x > settings.doubt)
    best = torch.zeros(len(problem.units), dtype=torch.long)
    if settings.doubt_step and (doubted or any(name in settings.suspects for name, _ in rigid)):
        X, params, last = again(problem, X, params, last)
        elsewhere = album.losses(problem, X) if album else 0.0
        best = (last + elsewhere).argmin(0).where(torch.tensor([not u.bends for u in problem.units]), 0)
    chosen, last = problem.picked(X, best), last.gather(0, best[None])[0]
    keep = torch.tensor(problem.seen)[problem.owner, None, None]
    new = put(model, twin, problem.units, torch.where(keep, chosen, problem.X0))
    # by a light that explains a bad match, the dark side of a thing is its light side
    right = all(x < settings.doubt for name, x in zip(problem.names, last.tolist(), strict=True) if name in settings.painted)
    new = new.replace(params=colors_of(new.params, params, problem, best, light=right))
    gone = tuple(b for b, seen in zip(problem.names, problem.seen, strict=True) if not seen)
    report = UpdateReport(problem.visible, gone, float(first.sum()), float(last.sum()), message=message)
    report.doubted = doubted
    report.replaced = tuple(b for b, k in zip(problem.names, best.tolist(), strict=True) if k)
    report.residual, report.information = uncertainty(problem, chosen[None], new.params)
    report.seconds = time.perf_counter() - began
    return new, report


def _message(problem: Problem, settings: UpdateSettings) -> str:
    gone = [b for b, seen in zip(problem.names, problem.seen, strict=True) if not seen]
    if not gone:
        return "every body is in view."
    return f"{' and '.join(gone)} out of view (fewer than {settings.min_pixels:g} pixels): the last estimate is kept."
