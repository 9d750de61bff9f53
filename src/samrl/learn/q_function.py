"""Q(I, a): the discounted return to expect when the camera is taken to where image I is rendered from, and action a follows
there (SAM-RL Sec. III-D). An ensemble, so that it knows what it has not seen. It is regressed on what rehearsals returned."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from samrl.core import lie
from samrl.core.errors import NonFiniteError
from samrl.core.nets import mlp
from samrl.learn.actor import FEATURES, Actor, Eye, Place
from samrl.model.model import Command
from samrl.model.scene import State, Twin
from samrl.tasks.task import separation

HEADS = 5
GIST = 16  # numbers that an image is boiled down to
CHECK = 100  # updates between two looks at the rows that are held out


@dataclass(frozen=True)
class QSettings:
    """batches: of rehearsals; states: environments each; views: tried in each; before: control steps before the choice, at
    most; glance: of these, how many between two looks from elsewhere that teach precision alone; after: control steps after the
    choice, of which every `along`-th is learned from too; discount: γ; updates, batch, learning_rate: of the regression;
    precision: what precision counts beside the return; share: of looks by `update` itself instead of its learned errors."""

    batches: int = 40
    states: int = 32
    views: int = 4
    before: int = 40
    glance: int = 2
    after: int = 40
    along: int = 4
    discount: float = 0.97
    updates: int = 3000
    batch: int = 256
    learning_rate: float = 2e-3
    precision: float = 0.3
    share: float = 0.1


@dataclass(frozen=True)
class Situation:
    """What the twin knows when a view is to be chosen: itself, the controller's memory, and the information on each unit so far,
    (U, 6, 6) or (n, U, 6, 6), in its parent's axes. One situation, or a batch of n."""

    twin: Twin
    command: Command
    sure: Tensor

    def spread(self, n: int) -> tuple[Twin, Command]:
        """Twin and command as a batch of n; a batch as it is."""
        s, c = self.twin.state, self.command
        if s.q.dim() > 1:
            return self.twin, c
        state = State(s.q.expand(n, -1), s.qd.expand(n, -1))
        return self.twin.replace(state=state), Command(c.q_ref.expand(n, -1), c.X_WE.expand(n, 4, 4))


@dataclass(frozen=True)
class Prospect:
    """What Q is told of views (n). features: (n, FEATURES) the actor's, of what 𝓜 renders there; known: (n, K) what the twin
    knows beside the image, see `prospect`; action: (n, 6) in its limits."""

    features: Tensor
    known: Tensor
    action: Tensor

    def __getitem__(self, index: Tensor) -> Prospect:
        return Prospect(self.features[index], self.known[index], self.action[index])

    @staticmethod
    def cat(parts: list[Prospect]) -> Prospect:
        return Prospect(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Prospect)))


@dataclass(frozen=True)
class Common:
    """What all views of situations (n), or of one, have in common. frames: (n, 1 + U, 4, 4) of tool and units; spread: (n, U,
    2, 3, 3) covariances of the units' places [mm²] and turns [(0.01 rad)²], in the world's axes; apart: (n, 7) what separates the
    load from its target."""

    place: Place
    frames: Tensor
    spread: Tensor
    apart: Tensor


def common(eye: Eye, at: Situation) -> Common:
    twin, command = at.spread(1)
    place, scene = eye.place(twin, command), eye.model.scene
    tip, axis = separation(eye.task.landmarks({name: place.X_WL[:, scene.link(name)] for name in eye.model.updatable}))
    R_WP = torch.stack([eye.model.bodies_of(u, place.X_WL)[0][:, :3, :3] for u in eye.model.units], 1)
    covariance = torch.linalg.inv(at.sure.expand(len(tip), -1, -1, -1))
    blocks = torch.stack([covariance[..., :3, :3] * 1e6, covariance[..., 3:, 3:] * 1e4], 2).to(tip.dtype)
    spread = R_WP[:, :, None] @ blocks @ R_WP[:, :, None].mT
    frames = torch.cat([place.X_WE[:, None], eye.model.frames(place.X_WL)], 1)
    return Common(place, frames, spread, torch.cat([tip, axis, tip.norm(dim=-1, keepdim=True)], -1))


def prospect(
    actor: Actor, eye: Eye, at: Common, X_WC: Tensor, ray: Tensor, action: Tensor | None = None
) -> Prospect:  # fmt: skip
    """What is to be expected of cameras (n, 4, 4) in that situation, differentiable in them.

    Args:
        ray: (n, 3) unit, from the scene to the camera so far, in the world: what was not seen must be hidden from there.
        action: (n, 6) held fixed, as in SAM-RL Eq. 7; else the actor's there, without a gradient.
    """
    n, sight = len(X_WC), eye.look(at.place, X_WC)
    features = actor.features(sight)
    if action is None:
        with torch.no_grad():
            action = actor.decide(sight, features)[2]
    way = lie.transform(lie.inverse(at.frames), X_WC[:, None, None, :3, 3])[:, :, 0]
    distance = way.norm(dim=-1)
    so_far = (X_WC[:, :3, :3].mT @ ray[..., None])[..., 0]
    towards = (way / distance[..., None]).flatten(1)
    R_CW = X_WC[:, None, None, :3, :3].mT
    spread = (R_CW @ at.spread.expand(n, -1, -1, -1, -1) @ R_CW.mT).diagonal(dim1=-2, dim2=-1).clamp_min(1e-6).log() / 2
    known = torch.cat([spread.flatten(1), so_far, distance, towards, at.apart.expand(n, -1)], -1)
    return Prospect(features, known, action / actor.policy.limits)


class QFunction(nn.Module):
    """Prospect (n) -> returns (n, HEADS) in [0, 1].

    The image and what is known tell how exact a look from there would be (Rehearsal.precision), and how exact the actor after it
    (returns.unclear), of which there is more to learn from than of returns. What a return is follows from that and from what
    the twin knows anyway: where the camera would be, seen from the tool and the units, how well these are known so far along the
    camera's axes and from where, and how far it is to go."""

    center: Tensor
    scale: Tensor
    least: Tensor  # of what units are known to, as far as it has learned of that: a look at every step tells more

    def __init__(self, units: int, generator: torch.Generator) -> None:
        super().__init__()
        known = 6 * units + 3 + 4 * (units + 1) + 7
        self.register_buffer("center", torch.zeros(FEATURES + known + 6))
        self.register_buffer("scale", torch.ones(FEATURES + known + 6))
        self.register_buffer("least", torch.full((6 * units,), -torch.inf))
        self.gist = nn.Sequential(nn.Dropout(0.3), mlp([FEATURES, GIST], generator), nn.ELU())
        self.precision = mlp([GIST + known, 128, 2 * units + 1], generator, 0.1)
        self.heads = nn.ModuleList(mlp([known + 6 + 2 * units + 1, 128, 128, 1], generator, 0.1) for _ in range(HEADS))

    def standardise(self, p: Prospect) -> None:
        """Every input has mean 0 and standard deviation 1 over these."""
        x = torch.cat([p.features, p.known, p.action], -1)
        self.center, self.scale = x.mean(0), x.std(0) + 1e-3
        self.least = p.known[:, : len(self.least)].amin(0)

    def parts(self, p: Prospect) -> tuple[Tensor, Tensor]:
        """Logits of the returns (n, HEADS), and the precision (n, 2 U + 1)."""
        spread, other = p.known.tensor_split([len(self.least)], -1)
        x = torch.cat([p.features, torch.maximum(spread, self.least), other, p.action], -1)
        x = (x - self.center) / self.scale
        features, known, action = x.split([FEATURES, x.shape[-1] - FEATURES - 6, 6], -1)
        precision = self.precision(torch.cat([self.gist(features), known], -1))
        x = torch.cat([known, action, precision], -1)
        return torch.cat([head(x) for head in self.heads], -1), precision

    def forward(self, p: Prospect) -> Tensor:
        return torch.sigmoid(self.parts(p)[0])


def fit(
    q: QFunction, expected: Prospect, value: Tensor, precision: Tensor, s: QSettings, generator: torch.Generator,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:  # fmt: skip
    """Regress on returns (m) in [0, 1] by cross-entropy, each head on a sample of its own (bootstrap), and on precision
    (m, 2 U + 1), NaN where unknown. The last tenth of the rows is held out, and the weights that were best on it are kept.
    Returns the losses on it, one every CHECK updates. What is dropped out is drawn from `generator` too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        return _fit(q, expected, value, precision, s, generator, progress or (lambda i, loss: None))


def _fit(
    q: QFunction, expected: Prospect, value: Tensor, precision: Tensor, s: QSettings, generator: torch.Generator,
    progress: Callable[[int, float], None],
) -> list[float]:  # fmt: skip
    q.standardise(expected)
    tried, told = value.isfinite(), precision.isfinite()
    train, held_out = torch.arange(len(value)).tensor_split([len(value) - max(1, len(value) // 10)])
    counts = torch.poisson(torch.ones(len(value), HEADS), generator=generator) * tried[:, None]
    optimizer = torch.optim.AdamW(q.parameters(), s.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, s.updates, s.learning_rate / 20)

    def loss(k: Tensor, weight: Tensor) -> Tensor:
        logits, exact = q.parts(expected[k])
        target = value[k, None].nan_to_num().expand_as(logits)
        by_return = nn.functional.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")
        off = nn.functional.smooth_l1_loss(exact[told[k]], precision[k][told[k]], reduction="sum")
        return by_return / weight.sum().clamp_min(1) + s.precision * off / told[k].sum().clamp_min(1)

    history: list[float] = []
    kept: dict[str, Tensor] = {}
    for i in range(s.updates):
        q.train()
        k = train[torch.randint(len(train), (s.batch,), generator=generator)]
        optimizer.zero_grad()
        loss(k, counts[k]).backward()
        optimizer.step()
        schedule.step()
        if i % CHECK == CHECK - 1 or i == s.updates - 1:
            q.eval()
            with torch.no_grad():
                history.append(float(loss(held_out, tried[held_out, None].float().expand(-1, HEADS))))
            if not math.isfinite(history[-1]):
                raise NonFiniteError("Q's loss on the rows that are held out is not finite.")
            if history[-1] <= min(history):
                kept = {name: w.clone() for name, w in q.state_dict().items()}
        progress(i, history[-1] if history else float("nan"))
    q.load_state_dict(kept)
    q.eval()
    return history
