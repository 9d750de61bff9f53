"""Real2Sim, step by step: twin ← gradient descent on λ1·‖G⊗I − G'⊗I'‖₁ + λ2·EMD, summed over bodies (SAM-RL Eq. 2-5).

Two stages. `coarse` moves whole starts by the Earth Mover Distance alone, several at once, when the body may be far from
its estimate; `fine` descends the full loss through the renderer. Camera and arm are where the world says they are."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.camera import Camera
from samrl.model.model import Model, set_body_pose
from samrl.model.scene import Params, Twin
from samrl.real2sim.frames import Crop, points_of
from samrl.real2sim.losses import earth_mover, masked_color, transport_plan


@dataclass(frozen=True)
class UpdateSettings:
    """Attributes:
    bodies: whose pose and colour are free.
    weight_color, weight_emd [1/m], weight_prior: λ1, λ2, and of what is known before any image.
    points, coarse_points: at most so many a cloud, in the fine and the coarse stage.
    coarse_steps, coarse_yaws [rad]: iterations of the coarse stage and the turns about the vertical that it starts from.
    wide_steps, fine_steps: iterations of the fine stage on the wide crop and on the near ones; replan: iterations between two
        transport plans.
    rate_p [m], rate_r [rad], rate_color: first step sizes of Adam, falling by a cosine.
    min_pixels: a body with fewer visible pixels in every crop is out of view.
    clearance [m]: what is seen so far in front of a body, and is none, hides it.
    margin: pixels around a coarsely drawn occluder that count for nothing.
    """

    bodies: tuple[str, ...] = ("block", "peg")
    weight_color: float = 1.0
    weight_prior: float = 0.02
    weight_emd: float = 10.0
    points: int = 192
    coarse_steps: int = 5
    coarse_points: int = 96
    coarse_yaws: tuple[float, ...] = (0.0, -0.4, 0.4, -0.8, 0.8)
    wide_steps: int = 12
    fine_steps: int = 24
    replan: int = 8
    rate_p: float = 0.0015
    rate_r: float = 0.015
    rate_color: float = 0.05
    min_pixels: float = 12.0
    clearance: float = 0.015
    margin: int = 2


@dataclass(frozen=True)
class Prior:
    """What is known of a body before any image: its mean pose X_WB (4, 4) and standard deviations sigma (6) [m, rad]."""

    X_WB: Tensor
    sigma: Tensor


Priors = dict[str, Prior]


@dataclass
class UpdateReport:
    """What the update did. `visible`: body -> pixels of its mask; `lost`: bodies out of view, whose last estimate is kept;
    `loss_before`, `loss_after`; `residual`, `spread`: see `uncertainty`; `message`: a sentence; `seconds`."""

    visible: dict[str, float]
    lost: tuple[str, ...]
    loss_before: float
    loss_after: float
    residual: dict[str, float] = field(default_factory=dict)
    spread: dict[str, list[float]] = field(default_factory=dict)
    message: str = ""
    seconds: float = 0.0


class Problem:
    """One update: the crops, the fixed poses of everything that stays, and the loss as a function of the free poses."""

    def __init__(
        self, model: Model, twin: Twin, crops: Sequence[Crop], settings: UpdateSettings, priors: Priors | None = None
    ) -> None:
        self.model, self.twin, self.crops, self.s = model, twin, crops, settings
        self.priors = [(priors or {}).get(b) for b in settings.bodies]
        self.X_WL = model.link_poses(twin).detach()
        self.links = [model.scene.link(b) for b in settings.bodies]
        self.X0 = self.X_WL[self.links]
        self.camera = Camera(
            crops[0].camera.width, crops[0].camera.height,
            torch.stack([c.camera.K for c in crops]), torch.stack([c.camera.X_WC for c in crops]),
        )  # fmt: skip
        self.color = torch.stack([c.color for c in crops])
        self.masks = [torch.stack([c.masks[b] for c in crops]) for b in settings.bodies]
        self.geoms = [torch.from_numpy(model.scene.geom_link == i) for i in self.links]
        self.weight = self._weight()
        shown = [float((m * self.weight).sum((-2, -1)).max()) for m in self.masks]
        self.visible = dict(zip(settings.bodies, shown, strict=True))
        self.seen = [self.visible[b] >= settings.min_pixels for b in settings.bodies]
        self.clouds = [self._cloud(b) for b in settings.bodies]

    def _cloud(self, body: str) -> tuple[int, Tensor] | None:
        """The crop that shows most of the body, and its measured points there (n, 3)."""
        depth = [c.depth[body] * w for c, w in zip(self.crops, self.weight, strict=True)]
        best = max(range(len(depth)), key=lambda i: float((depth[i] > 0).sum()))
        y = points_of(depth[best], self.crops[best].camera, self.s.points)
        return (best, y) if len(y) >= 8 else None

    def _weight(self) -> Tensor:
        """(C, S, S): 0 off the sensor, near links that are drawn coarsely (the arm), and where something that is none of the
        bodies stands in front of where they are believed to be; else 1."""
        depth, links = self.render_ids(self.X0[None])
        drawn = torch.zeros(len(self.model.scene.link_names) + 1, dtype=torch.bool)
        for i, name in enumerate(self.model.scene.link_names):
            drawn[i] = bool(name) and name not in self.s.bodies and name not in ("world", "table")
        arm = drawn[links[0].long()].float()  # -1, nothing, is the last entry
        k = 2 * self.s.margin + 1
        arm = torch.nn.functional.max_pool2d(arm[:, None], k, 1, self.s.margin)[:, 0]
        surface = torch.stack([c.surface for c in self.crops])
        body = torch.isin(links[0], torch.tensor(self.links, dtype=links.dtype))
        in_front = body & (surface > 0) & (surface < depth[0] - self.s.clearance) & (torch.stack(self.masks).sum(0) < 0.5)
        return (1 - arm) * ~in_front * torch.stack([c.inside for c in self.crops])

    def poses(self, X: Tensor) -> Tensor:
        """Free poses X_WB (K, B, 4, 4) put among all links: (K, nl, 4, 4)."""
        index = torch.tensor(self.links)
        return self.X_WL.expand(len(X), *self.X_WL.shape).index_copy(1, index, X)

    def render_ids(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Depth (K, C, S, S) and link index (K, C, S, S) without gradients."""
        with torch.no_grad():
            image, links = self.model.renderer.render_links(self.twin.params, *self._views(X))
        return image.depth, links

    def render(self, X: Tensor, params: Params):
        """RGBD of shape (K, C, S, S)."""
        return self.model.renderer.render(params, *self._views(X))

    def _views(self, X: Tensor) -> tuple[Tensor, Camera]:
        """Every start in every crop: links (K, C, nl, 4, 4) and cameras (K, C)."""
        K, C = len(X), len(self.crops)
        links = self.poses(X)[:, None].expand(K, C, *self.X_WL.shape)
        c = self.camera
        return links, Camera(c.width, c.height, c.K.expand(K, C, 4), c.X_WC.expand(K, C, 4, 4))

    def sim_points(self, X: Tensor) -> list[list[Tensor | None]]:
        """For every start and body the visible points in the body's own frame (n, 3), or None."""
        depth, links = self.render_ids(X)
        out = []
        for k in range(len(X)):
            row: list[Tensor | None] = []
            for b, link in enumerate(self.links):
                cloud = self.clouds[b]
                if cloud is None:
                    row.append(None)
                    continue
                c = cloud[0]
                own = (links[k, c] == link) & (self.weight[c] > 0)
                p_W = points_of(torch.where(own, depth[k, c], 0.0), self.crops[c].camera, self.s.points)
                row.append(lie.transform(lie.inverse(X[k, b]), p_W) if len(p_W) >= 8 else None)
            out.append(row)
        return out

    def loss(self, X: Tensor, params: Params, plans: list[list[tuple | None]], points: list[list[Tensor | None]]) -> Tensor:
        """Loss of every start and body (K, B): λ1 masked colour + λ2 EMD (SAM-RL Eq. 4); its sum is what is descended."""
        image = self.render(X, params)
        columns = []
        for b, body in enumerate(self.s.bodies):
            if not self.seen[b]:
                columns.append(torch.zeros(len(X)))
                continue
            color = masked_color(image.color, image.masks[body], self.color, self.masks[b], self.weight)
            columns.append(self.s.weight_color * color + self.s.weight_emd * self.emd(X, b, plans, points) + self.prior(X, b))
        return torch.stack(columns, -1)

    def prior(self, X: Tensor, b: int) -> Tensor:
        """How unlikely the pose of body b is before any image, for every start (K): half the squared deviation in units of
        its standard deviation, weighted."""
        known = self.priors[b]
        if known is None:
            return torch.zeros(len(X))
        return 0.5 * self.s.weight_prior * (lie.local(known.X_WB, X[:, b]) / known.sigma).square().sum(-1)

    def emd(self, X: Tensor, b: int, plans: list[list[tuple | None]], points: list[list[Tensor | None]]) -> Tensor:
        """Earth Mover Distance of body b for every start (K) [m] under fixed plans."""
        cloud, out = self.clouds[b], []
        for k in range(len(X)):
            plan, p_L = plans[k][b], points[k][b]
            if cloud is None or plan is None or p_L is None:
                out.append(torch.zeros(()))
                continue
            out.append(earth_mover(lie.transform(X[k, b], p_L), cloud[1], plan))
        return torch.stack(out)

    def plans(self, X: Tensor) -> tuple[list[list[tuple | None]], list[list[Tensor | None]]]:
        """Fresh transport plans at the poses X, and the points that they move."""
        points = self.sim_points(X)
        plans: list[list[tuple | None]] = []
        for k in range(len(X)):
            row: list[tuple | None] = []
            for b, cloud in enumerate(self.clouds):
                p_L = points[k][b]
                known = cloud is not None and p_L is not None
                row.append(transport_plan(lie.transform(X[k, b], p_L), cloud[1]) if known else None)  # type: ignore
            plans.append(row)
        return plans, points


def coarse(problem: Problem, X: Tensor) -> Tensor:
    """Move starts X (K, B, 4, 4) by the Earth Mover Distance: each step solves for the rigid motion that a fixed plan asks
    for (weighted Procrustes, Kabsch 1976; the weights 1/distance make it the distance itself, not its square)."""
    for _ in range(problem.s.coarse_steps):
        plans, points = problem.plans(X)
        X = X.clone()
        for k in range(len(X)):
            for b, cloud in enumerate(problem.clouds):
                plan, p_L = plans[k][b], points[k][b]
                if cloud is None:
                    continue
                if plan is None or p_L is None:  # the start shows nothing where the body is: bring it there
                    X[k, b, :3, 3] = cloud[1].mean(0)
                    continue
                X[k, b] = _procrustes(p_L, cloud[1], plan, X[k, b])
    return X


def _procrustes(p_L: Tensor, y: Tensor, plan: tuple[Tensor, Tensor, Tensor], X: Tensor) -> Tensor:
    i, j, mass = plan
    a, b = p_L[i], y[j]
    for _ in range(3):
        distance = (lie.transform(X, a) - b).norm(dim=-1)
        w = mass / (distance + 0.002)
        w = (w / w.sum())[:, None]
        ca, cb = (w * a).sum(0), (w * b).sum(0)
        U, _, Vt = torch.linalg.svd((w * (a - ca)).T @ (b - cb))
        D = torch.diag(torch.tensor([1.0, 1.0, float(torch.sign(torch.linalg.det(Vt.T @ U.T)))]))
        R = Vt.T @ D @ U.T
        X = lie.pose(R, cb - R @ ca)
    return X


def fine(problem: Problem, X0: Tensor) -> tuple[Tensor, Params, Tensor, Tensor]:
    """Descend the full loss from X0 (K, B, 4, 4). Returns the best poses met, the last parameters with colours and light, and
    the losses at the start and at the best (K, B)."""
    s, K, B = problem.s, *X0.shape[:2]
    params = problem.twin.params
    pose = torch.zeros(K, B, 6, requires_grad=True)
    tint = torch.zeros(K, len(params.color), 3)
    tint += torch.stack([_match_colors(problem, X0[k : k + 1], params) for k in range(K)])
    tint.requires_grad_(True)
    light = torch.zeros(K, 4, requires_grad=True)
    each = lambda leaf: leaf[:, None].expand(K, len(problem.crops), *leaf.shape[1:])  # noqa: E731
    free_colors = torch.stack(problem.geoms).any(0)[:, None].float()
    step = torch.tensor([s.rate_p] * 3 + [s.rate_r] * 3)
    optimizer = torch.optim.Adam(
        [{"params": [pose], "lr": 1.0}, {"params": [tint, light], "lr": s.rate_color}], betas=(0.8, 0.95)
    )
    first = best = torch.zeros(K, B)
    best_X = X0
    plans, points = problem.plans(X0)
    for i in range(s.fine_steps + 1):
        X = lie.retract(X0, pose * step)
        if i and i % s.replan == 0:
            plans, points = problem.plans(X.detach())
        moved = params.replace(
            color=each(params.color * (tint * free_colors).exp()),
            light_direction=each(params.light_direction + light[:, :3]),
            ambient=each(params.ambient * light[:, 3:].exp()),
        )
        last = problem.loss(X, moved, plans, points)
        with torch.no_grad():
            if i == 0:
                first, best, best_X = last.clone(), last.clone(), X.clone()
            better = last < best
            best, best_X = torch.where(better, last, best), torch.where(better[..., None, None], X, best_X)
        if i == s.fine_steps:
            break
        for group, rate in zip(optimizer.param_groups, (1.0, s.rate_color), strict=True):
            group["lr"] = rate * (0.5 * (1 + math.cos(math.pi * i / s.fine_steps)) + 0.03)
        optimizer.zero_grad()
        last.sum().backward()
        optimizer.step()
    return best_X, moved, first, best


def _match_colors(problem: Problem, X: Tensor, params: Params) -> Tensor:
    """Logarithmic tint (ng, 3) that gives each body the mean colour that its mask shows, at one start X (1, B, 4, 4)."""
    image = problem.render(X.detach(), params)
    tint = torch.zeros_like(problem.twin.params.color)
    for b, body in enumerate(problem.s.bodies):
        real = (problem.masks[b][..., None] * problem.color).sum((0, 1, 2)) / problem.masks[b].sum().clamp_min(1e-3)
        mask = image.masks[body].detach()[0]
        sim = (mask[..., None] * image.color.detach()[0]).sum((0, 1, 2)) / mask.sum().clamp_min(1e-3)
        if problem.seen[b] and float(mask.sum()) > 1:
            tint[problem.geoms[b]] = (real.clamp_min(0.02) / sim.clamp_min(0.02)).log()
    return tint


def locate(model: Model, twin: Twin, crops: Sequence[Crop], settings: UpdateSettings) -> Twin:
    """Bring bodies that may be centimetres away near to where the images show them: the coarse stage from several starts,
    and of those the one whose loss is least."""
    far = replace(settings, points=settings.coarse_points, margin=0, fine_steps=settings.wide_steps, rate_p=0.003, rate_r=0.06)
    problem = Problem(model, twin, crops, far)
    if not any(problem.seen):
        return twin
    X = coarse(problem, torch.cat([_turned(problem.X0[None], yaw) for yaw in settings.coarse_yaws]))
    X, params, _, last = fine(problem, _best_two(problem, X))
    best = last.argmin(0)
    keep = torch.tensor(problem.seen)[:, None, None]
    found = X[best, torch.arange(len(settings.bodies))]
    new = _put(model, twin, settings.bodies, torch.where(keep, found, problem.X0))
    return new.replace(params=_colors_of(new.params, params, problem, best))


PATCH = 25.0  # pixels across that err together


def uncertainty(problem: Problem, X: Tensor, params: Params) -> tuple[dict[str, float], dict[str, list[float]]]:
    """How sure the poses X (1, B, 4, 4) are, from this exposure alone. Returns, by body, the root mean square of what is left
    in the masked images, and the pose's standard deviations (6) [m, rad] from the curvature of the squared residuals (Gauss-
    Newton: covariance = residual variance · inverse of JᵀJ, J by differences). A direction that the images do not show (the
    turn of a round peg about its axis) gets that of a turn by 90° or a shift by 10 cm. What is left comes from foreign shading,
    shadows and shapes, which cover patches rather than pixels: PATCH, their width, is set so that the standard deviations match
    the errors of development seeds 13-23 in PyBullet."""
    B, step = X.shape[1], torch.tensor([1e-3] * 3 + [2e-2] * 3)
    moves = torch.zeros(1 + 6 * B, B, 6)
    for i in range(6 * B):
        moves[1 + i, i // 6, i % 6] = step[i % 6]
    light = {n: getattr(params, n)[0, 0].detach() for n in ("color", "light_direction", "ambient")}
    with torch.no_grad():
        image = problem.render(lie.retract(X.expand(len(moves), -1, -1, -1), moves), params.replace(**light))
    residual, spread = {}, {}
    for b, body in enumerate(problem.s.bodies):
        if not problem.seen[b]:
            continue
        sim, real = image.masks[body], problem.masks[b]
        r = torch.cat([sim[..., None] * image.color - real[..., None] * problem.color, (sim - real)[..., None]], -1)
        r = (r * problem.weight[..., None]).flatten(1)
        rows = slice(1 + 6 * b, 7 + 6 * b)
        J = (r[rows] - r[0]) / step[:, None]
        count = float((real * problem.weight).sum()) * 4
        variance = float(r[0].square().sum()) / max(count, 1.0)
        J = J / PATCH
        floor = torch.tensor([0.1] * 3 + [math.pi / 2] * 3)
        information = J @ J.T / max(variance, 1e-6) + torch.diag(floor**-2)
        residual[body] = math.sqrt(variance)
        spread[body] = torch.linalg.inv(information).diagonal().clamp_min(0).sqrt().tolist()
    return residual, spread


def _best_two(problem: Problem, X: Tensor) -> Tensor:
    """The two best of the starts (K, B, 4, 4) for each body on its own: (2, B, 4, 4)."""
    with torch.no_grad():
        tint = torch.stack([_match_colors(problem, X[k : k + 1], problem.twin.params) for k in range(len(X))])
        color = (problem.twin.params.color * tint.exp())[:, None].expand(-1, len(problem.crops), -1, -1)
        order = problem.loss(X, problem.twin.params.replace(color=color), *problem.plans(X)).argsort(0)[:2]
    return torch.stack([X[order[:, b], b] for b in range(X.shape[1])], 1)


def update(
    model: Model, twin: Twin, crops: Sequence[Crop], settings: UpdateSettings, priors: Priors | None = None
) -> tuple[Twin, UpdateReport]:
    """Align the twin with one exposure, from near: `twin` is unbatched, its arm at the measured joint angles; `crops` are
    equally large crops of one exposure."""
    began = time.perf_counter()
    problem = Problem(model, twin, crops, settings, priors)
    message = _message(problem, settings)
    if not any(problem.seen):
        return twin, UpdateReport(problem.visible, settings.bodies, 0.0, 0.0, message=message)
    X, params, first, last = fine(problem, problem.X0[None])
    one = torch.zeros(len(settings.bodies), dtype=torch.long)
    keep = torch.tensor(problem.seen)[:, None, None]
    new = _put(model, twin, settings.bodies, torch.where(keep, X[0], problem.X0))
    new = new.replace(params=_colors_of(new.params, params, problem, one))
    gone = tuple(b for b, seen in zip(settings.bodies, problem.seen, strict=True) if not seen)
    report = UpdateReport(problem.visible, gone, float(first.sum()), float(last.sum()), message=message)
    report.residual, report.spread = uncertainty(problem, X, params)
    report.seconds = time.perf_counter() - began
    return new, report


def _colors_of(params: Params, found: Params, problem: Problem, best: Tensor) -> Params:
    """`params` with each body's colours from its best start in `found` (K, C, ...), and the light of the first body's."""
    color = params.color.clone()
    for b, geoms in enumerate(problem.geoms):
        color[geoms] = found.color[best[b], 0][geoms].detach()
    light, ambient = (getattr(found, n)[best[0], 0].detach() for n in ("light_direction", "ambient"))
    return params.replace(color=color, light_direction=light, ambient=ambient)


def _turned(X: Tensor, yaw: float) -> Tensor:
    turn = lie.exp_so3(X.new_tensor([0.0, 0.0, yaw]))
    return lie.pose(turn @ X[..., :3, :3], X[..., :3, 3])


def _put(model: Model, twin: Twin, bodies: tuple[str, ...], X_WB: Tensor) -> Twin:
    """Write world poses (B, 4, 4) of fixed bodies into the parameters, relative to their parents."""
    X_WL, params = model.link_poses(twin), twin.params
    for b, body in enumerate(bodies):
        parent = int(model.scene.parent[model.scene.link(body)])
        X_PB = lie.inverse(X_WL[parent]) @ X_WB[b]
        params = set_body_pose(model.scene, params, body, X_PB)
    return twin.replace(params=params)


def _message(problem: Problem, settings: UpdateSettings) -> str:
    gone = [b for b, seen in zip(settings.bodies, problem.seen, strict=True) if not seen]
    if not gone:
        return "every body is in view."
    return f"{' and '.join(gone)} out of view (fewer than {settings.min_pixels:g} pixels): the last estimate is kept."
