"""Q(I, a): the discounted return to expect when the camera is taken to where image I is rendered from, and action a follows
there (SAM-RL Sec. III-D). An ensemble, so that it knows what it has not seen. It is regressed on what rehearsals returned."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from samrl.core.errors import NonFiniteError
from samrl.core.nets import mlp
from samrl.learn.actor import CHANNELS, SIZE, WIDTHS, Actor, Eye, Sight, Trunk
from samrl.learn.rehearsal import Rehearsal, Shell, believed
from samrl.model.model import Command
from samrl.model.scene import Twin

HEADS = 5
JITTER = (0.03, 0.03, 0.01)  # of yaw, pitch [rad] and radius [m]
STEPS = 60  # of images as they are kept: depth goes to 2
CHECK = 50  # updates between two looks at the rows that are held out


@dataclass(frozen=True)
class QSettings:
    """batches: of rehearsals; states: environments each; views: tried in each; before: control steps before the choice, at
    most; glance: of these, how many between two looks from elsewhere that teach precision alone; after: control steps after the
    choice, of which every `along`-th is learned from too; discount: γ; updates, batch, learning_rate: of the regression;
    precision: what precision counts beside the return; copies: of each row, from views that differ a little; share: of looks by
    `update` itself instead of its learned errors."""

    batches: int = 40
    states: int = 32
    views: int = 4
    before: int = 40
    glance: int = 2
    after: int = 40
    along: int = 4
    discount: float = 0.97
    updates: int = 1500
    copies: int = 1
    batch: int = 128
    learning_rate: float = 5e-4
    precision: float = 0.3
    share: float = 0.1


class QFunction(nn.Module):
    """(Sight (n), action (n, 6) in its limits, area (n, B) of each body that the estimate rests on so far [cm²]) -> returns
    (n, HEADS) in [0, 1]. What was well seen need not be seen again. On the way it says how exact a look from there would be
    (Rehearsal.precision), and how exact the actor after it (`unclear`), of which there is more to learn from than of returns."""

    limits: Tensor
    channels: Tensor  # colour alone, whose gradient knows of edges, as that of depth does not

    def __init__(self, actor: Actor, bodies: int, generator: torch.Generator) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(Trunk(generator) for _ in WIDTHS)
        inputs = 256 * len(WIDTHS) + 10
        self.precision = mlp([inputs, 128, 2 * bodies + 1], generator, 0.1)
        self.heads = nn.ModuleList(mlp([inputs + 6 + 3 * bodies + 1, 128, 1], generator, 0.1) for _ in range(HEADS))
        self.register_buffer("limits", actor.policy.limits.clone())
        self.register_buffer("channels", torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]), persistent=False)

    def parts(self, sight: Sight, action: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the returns (n, HEADS), and the precision (n, 2 B + 1)."""
        images = sight.images * self.channels
        crops = torch.cat([trunk(images[:, i]) for i, trunk in enumerate(self.trunks)] + [sight.pose], -1)
        precision = self.precision(crops)
        x = torch.cat([crops, action / self.limits, precision, (1 + seen).log()], -1)
        return torch.cat([head(x) for head in self.heads], -1), precision

    def forward(self, sight: Sight, action: Tensor, seen: Tensor) -> Tensor:
        return torch.sigmoid(self.parts(sight, action, seen)[0])


@dataclass(frozen=True)
class Rows:
    """What was tried (m): the situation as it was believed to be when the view was imagined, the view, and what came of it.

    Attributes:
        q, q_ref: (m, 7); X_WE: (m, 4, 4) commanded; belief: (m, B, 4, 4), see Rehearsal; seen: (m, B) [cm²]. view: (m, 3).
        value: (m) return with the view held, NaN where that was not tried. precision: (m, 2 B + 1) of a look from
            there, and of the actor after it; NaN where nobody asked.
    """

    q: Tensor
    q_ref: Tensor
    X_WE: Tensor
    belief: Tensor
    seen: Tensor
    view: Tensor
    value: Tensor
    precision: Tensor

    @staticmethod
    def of(stage: Rehearsal, view: Tensor, value: Tensor, precision: Tensor) -> Rows:
        c = stage.command
        return Rows(stage.truth.state.q, c.q_ref, c.X_WE, stage.belief, stage.area(), view, value, precision)

    @staticmethod
    def cat(parts: list[Rows]) -> Rows:
        return Rows(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Rows)))


def collect(stage: Rehearsal, actor: Actor, eye: Eye, s: QSettings) -> Rows:
    """One batch: new episodes, the actor in them from random views for a random time; then in each state some views, each held
    for the rest of the episode. What a view looks like is imagined before the look, from what is believed by then: so it is when
    views are to be chosen."""
    g, parts = stage.generator, []
    stage.renew(torch.ones(stage.count, dtype=torch.bool))
    for i in range(int(torch.randint(s.before + 1, (1,), generator=g))):
        if i % s.glance == 0:
            parts.append(_glance(stage.take(_going(stage)), actor, eye))
        stage.act(acted(stage, actor, eye))
        if bool(stage.done.all()):
            return Rows.cat(parts)
    tried = stage.take(_going(stage).repeat_interleave(s.views))
    view = stage.shell.draw(tried.count, g)
    before, exact = Rows.of(tried, view, torch.zeros(tried.count), torch.zeros(tried.count, 0)), tried.precision(view)
    tried.move(view, torch.ones(tried.count, dtype=torch.bool))
    precision = torch.cat([exact, unclear(tried, actor, eye)], -1)
    on_the_way: list[Rows] = []
    value = held(tried, actor, eye, s, s.after, on_the_way)
    return Rows.cat([*parts, *on_the_way, replace(before, precision=precision, value=value)])


def _going(stage: Rehearsal) -> Tensor:
    return (~stage.done).nonzero()[:, 0]


def _glance(stage: Rehearsal, actor: Actor, eye: Eye) -> Rows:
    """A look from a drawn view, by the learned errors, and nothing after it."""
    view = stage.shell.draw(stage.count, stage.generator)
    before = Rows.of(stage, view, torch.full((stage.count,), torch.nan), torch.zeros(stage.count, 0))
    exact = stage.precision(view)
    stage.share = 0.0
    stage.move(view, torch.ones(stage.count, dtype=torch.bool))
    return replace(before, precision=torch.cat([exact, unclear(stage, actor, eye)], -1))


def held(stage: Rehearsal, actor: Actor, eye: Eye, s: QSettings, steps: int, rows: list[Rows] | None = None) -> Tensor:
    """Discounted returns (n) of the actor that keeps looking from where the cameras are for `steps`; 1 at success, once. `rows`
    gets what was met on the way and what came of it, up to half of the steps."""
    value, index = torch.zeros(stage.count), torch.arange(stage.count)
    met: list[tuple[Rows, Tensor, int]] = []
    for i in range(steps):
        if rows is not None and i % s.along == s.along - 1 and i <= steps // 2:
            nothing = torch.full((stage.count, 2 * stage.seen.shape[1] + 1), torch.nan)
            met.append((Rows.of(stage, stage.view, nothing[:, 0], nothing), index, i))
        value[index] += s.discount**i * stage.act(acted(stage, actor, eye))
        left = _going(stage)
        if not len(left):
            break
        if len(left) < stage.count:
            stage, index = stage.take(left), index[left]
    if rows is not None:
        rows += [replace(row, value=value[k] / s.discount**i) for row, k, i in met]
    return value


def acted(stage: Rehearsal, actor: Actor, eye: Eye) -> Tensor:
    """The actor's action (n, 6) on what is believed, seen from where the cameras are."""
    with torch.no_grad():
        return actor(eye.see(stage.estimated(), stage.command, stage.X_WC))[2]


def unclear(stage: Rehearsal, actor: Actor, eye: Eye) -> Tensor:
    """How far off the actor is about the separation, seen from where the cameras are: (n, 1), logarithm of [mm]."""
    with torch.no_grad():
        tip, *_ = actor(eye.see(stage.estimated(), stage.command, stage.X_WC))
    return (1e3 * (tip - stage.errors(stage.truth)[0])).norm(dim=-1, keepdim=True).clamp_min(0.1).log()


def imagine(rows: Rows, actor: Actor, eye: Eye, shell: Shell, generator: torch.Generator, most: int = 64) -> tuple[Sight, Tensor]:
    """What views within JITTER of those of rows would show of what was believed, for views a degree apart are worth the same
    (images in steps of 1 / STEPS, one byte each), and the actor's actions there (m, 6)."""
    sights, actions, model = [], [], eye.model
    images = torch.empty(len(rows.value), len(WIDTHS), SIZE, SIZE, CHANNELS, dtype=torch.int8)  # gigabytes: once, not twice
    for k in torch.arange(len(rows.value)).split(most):
        twin = Twin(believed(model, rows.belief[k]), model.state(rows.q[k]))
        view = rows.view[k] + torch.tensor(JITTER) * (2 * torch.rand(len(k), 3, generator=generator) - 1)
        with torch.no_grad():
            sight = eye.see(twin, Command(rows.q_ref[k], rows.X_WE[k]), shell.pose(view))
            actions.append(actor(sight)[2])
        images[k] = (sight.images * STEPS).round().to(torch.int8)
        sights.append(replace(sight, images=images[:0]))  # all but the images, which are in their place already
    return replace(Sight.cat(sights), images=images), torch.cat(actions)


def fit(
    q: QFunction, actor: Actor, sight: Sight, action: Tensor, rows: Rows, s: QSettings, generator: torch.Generator,
    progress: Callable[[int, float], None] | None = None,
) -> list[float]:  # fmt: skip
    """Regress by cross-entropy on returns in [0, 1]; each head sees a sample of its own (bootstrap). The trunks
    begin as the actor's. The last tenth of the rows
    is held out, and the weights that were best on it are kept. Returns the losses on it, one every CHECK updates."""
    q.trunks.load_state_dict(actor.trunks.state_dict())
    m = len(rows.value)
    tried = rows.value.isfinite()
    train, held_out = torch.arange(m).tensor_split([m - max(1, m // 10)])
    counts = torch.poisson(torch.ones(m, HEADS), generator=generator) * tried[:, None]
    optimizer = torch.optim.AdamW(q.parameters(), s.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, s.updates, s.learning_rate / 20)

    def losses(k: Tensor, weight: Tensor) -> Tensor:
        picked = sight[k]
        logits, precision = q.parts(replace(picked, images=picked.images.float() / STEPS), action[k], rows.seen[k])
        value = rows.value[k, None].nan_to_num().expand_as(logits)
        by_return = nn.functional.binary_cross_entropy_with_logits(logits, value, weight=weight, reduction="sum")
        told = rows.precision[k].isfinite()
        by_precision = nn.functional.smooth_l1_loss(
            precision[told], rows.precision[k][told], reduction="sum"
        ) / told.sum().clamp_min(1)
        return by_return / weight.sum().clamp_min(1) + s.precision * by_precision

    def judged() -> float:
        with torch.no_grad():
            parts = [losses(k, tried[k, None].float().expand(-1, HEADS)) for k in held_out.split(512)]
        return float(torch.stack(parts).mean())

    history: list[float] = []
    kept: dict[str, Tensor] = {}
    for i in range(s.updates):
        q.train()
        k = train[torch.randint(len(train), (s.batch,), generator=generator)]
        optimizer.zero_grad()
        losses(k, counts[k]).backward()
        optimizer.step()
        schedule.step()
        if i % CHECK == CHECK - 1 or i == s.updates - 1:
            q.eval()
            history.append(judged())
            if not math.isfinite(history[-1]):
                raise NonFiniteError("Q's loss on the rows that are held out is not finite.")
            if history[-1] <= min(history):
                kept = {name: w.clone() for name, w in q.state_dict().items()}
        if progress:
            progress(i, history[-1] if history else float("nan"))
    q.load_state_dict(kept)
    q.eval()
    return history
