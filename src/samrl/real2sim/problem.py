"""One update as a problem: the crops, what stays, and the loss λ1·‖G⊗I − G'⊗I'‖₁ + λ2·EMD as a function of the free poses
(SAM-RL Eq. 2-4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.camera import Camera
from samrl.model.model import Model
from samrl.model.placement import body_pose, set_body_pose
from samrl.model.scene import Params, Scene, Twin
from samrl.model.units import Unit
from samrl.real2sim.frames import Crop, points_of
from samrl.real2sim.losses import MaskedImage, Transport, transport


@dataclass(frozen=True)
class UpdateSettings:
    """Attributes:
    units: names of those whose pose or shape, and colour, are free; all of the model's where none is named.
    weight_color, weight_emd [1/m], weight_prior: λ1, λ2, and of what is known before any image.
    weight_depth [1/m], depth_cap [m]: of depth in the masked image, beside a colour from 0 to 1, and its largest difference.
    points, coarse_points: at most so many a cloud, in the fine and the coarse stage.
    exact_plans: whether transport plans are optimal to the last digit, or nearly, in a fraction of the time.
    coarse_steps, coarse_yaws [rad]: iterations of the coarse stage and the turns about the vertical that it starts from.
    wide_steps, fine_steps: iterations of the fine stage on the wide crop and on the near ones.
    rate_p [m], rate_r [rad], rate_color: first step sizes of Adam, falling by a cosine.
    min_pixels: a unit with fewer visible pixels in every crop is out of view.
    clearance [m]: what is seen so far in front of a unit, and is none, hides it.
    margin: pixels around a coarsely drawn occluder that count for nothing.
    suspects: rigid bodies that are looked for again whatever their loss.
    painted: units whose colours are known already, and stay.
    doubt: a rigid body whose loss stays above this is looked for again, from its first estimate turned about the vertical by
        multiples of doubt_step [rad]; 0: it is not.
    """

    units: tuple[str, ...] = ()
    weight_color: float = 1.0
    weight_prior: float = 0.02
    weight_emd: float = 5.0
    weight_depth: float = 40.0
    depth_cap: float = 0.02
    points: int = 192
    exact_plans: bool = False
    coarse_steps: int = 3
    coarse_points: int = 96
    coarse_yaws: tuple[float, ...] = (0.0, -0.5, 0.5)
    wide_steps: int = 12
    fine_steps: int = 14
    rate_p: float = 0.0015
    rate_r: float = 0.015
    rate_color: float = 0.05
    min_pixels: float = 12.0
    clearance: float = 0.015
    margin: int = 2
    suspects: tuple[str, ...] = ()
    painted: tuple[str, ...] = ()
    doubt: float = 0.18
    doubt_step: float = 0.26


@dataclass(frozen=True)
class Prior:
    """What is known of a unit before any image: the mean poses X_WB (m, 4, 4) of its bodies and standard deviations [m] and [rad]
    of its tangent vector; and of how far the z axis of a rigid body leans [rad]."""

    X_WB: Tensor
    sigma_p: float
    sigma_r: float
    sigma_lean: float = torch.inf


Priors = dict[str, Prior]


class Problem:
    """One update: the crops, the fixed poses of everything that stays, and the loss as a function of the free poses.

    Poses X (K, N, 4, 4) are those of all units' bodies in the world, N together, from each of K starts; what is said of units is
    (K, U).
    """

    def __init__(
        self, model: Model, twin: Twin, crops: Sequence[Crop], settings: UpdateSettings, priors: Priors | None = None
    ) -> None:
        self.model, self.twin, self.crops, self.s = model, twin, crops, settings
        self.X_WL = model.link_poses(twin).detach()
        wanted = settings.units or tuple(u.name for u in model.units)
        self.units = [u for u in model.units if u.name in wanted]
        self.names = tuple(u.name for u in self.units)
        self.parents = [model.bodies_of(u, self.X_WL)[0] for u in self.units]
        self.counts = [len(u.bodies) for u in self.units]  # of bodies
        self.links = [model.scene.link(b) for u in self.units for b in u.bodies]
        self.owner = torch.repeat_interleave(torch.arange(len(self.units)), torch.tensor(self.counts))  # (N) the body's unit
        self.X0 = self.X_WL[self.links]
        start = zip(self.names, self.X0.split(self.counts), strict=True)
        known = [(priors or {}).get(name, Prior(X, torch.inf, torch.inf)) for name, X in start]
        self.known = torch.cat([k.X_WB for k in known])
        self.precision = torch.tensor([[k.sigma_p**-2, k.sigma_r**-2, k.sigma_lean**-2] for k in known])
        self.camera = Camera(
            crops[0].camera.width, crops[0].camera.height,
            torch.stack([c.camera.K for c in crops]), torch.stack([c.camera.X_WC for c in crops]),
        )  # fmt: skip
        self.color = torch.stack([c.color for c in crops])
        self.masks = [torch.stack([c.masks[u] for c in crops]) for u in self.names]
        links = torch.tensor(self.links).split(self.counts)
        self.geoms = [torch.isin(torch.from_numpy(model.scene.geom_link), i) for i in links]
        self.weight = self._weight()
        shown = [float((m * self.weight).sum((-2, -1)).max()) for m in self.masks]
        self.visible = dict(zip(self.names, shown, strict=True))
        self.seen = [self.visible[u] >= settings.min_pixels for u in self.names]
        self.clouds = [None if u.bends else self._cloud(u.name) for u in self.units]
        self.depths = [torch.stack([c.depth[u] for c in crops]) for u in self.names]
        real = (self.color, torch.stack(self.depths, 1), torch.stack(self.masks, 1))
        self.masked = MaskedImage(*real, self.weight, settings.weight_depth, settings.depth_cap)

    def _cloud(self, unit: str) -> tuple[int, Tensor] | None:
        """The crop that shows most of the unit, and its measured points there (n, 3)."""
        depth = [c.depth[unit] * w for c, w in zip(self.crops, self.weight, strict=True)]
        best = max(range(len(depth)), key=lambda i: float((depth[i] > 0).sum()))
        y = points_of(depth[best], self.crops[best].camera, self.s.points)
        return (best, y) if len(y) >= 8 else None

    def _weight(self) -> Tensor:
        """(C, S, S): 0 off the sensor, near links that are drawn coarsely (the arm), and where something that is none of the
        units stands in front of where they are believed to be; else 1."""
        depth, links = self.render_ids(self.X0[None])
        drawn = torch.tensor([*_carried(self.model.scene, tuple(b for u in self.units for b in u.bodies)), False])
        arm = drawn[links[0].long()].float()  # -1, nothing, is the last entry
        k = 2 * self.s.margin + 1
        arm = torch.nn.functional.max_pool2d(arm[:, None], k, 1, self.s.margin)[:, 0]
        surface = torch.stack([c.surface for c in self.crops])
        body = torch.isin(links[0], torch.tensor(self.links, dtype=links.dtype))
        in_front = body & (surface > 0) & (surface < depth[0] - self.s.clearance) & (torch.stack(self.masks).sum(0) < 0.5)
        thin = [m > 0.5 for m, u in zip(self.masks, self.units, strict=True) if u.bends]  # it may be seen before the arm
        shown = torch.stack(thin).any(0) if thin else torch.zeros_like(arm, dtype=torch.bool)
        return torch.maximum(1 - arm, shown.float()) * ~in_front * torch.stack([c.inside for c in self.crops])

    def moved(self, X: Tensor, d: Tensor) -> Tensor:
        """Poses X (K, N, 4, 4), the units moved by d (K, U, 6), see Unit.carry."""
        each = zip(self.units, self.parents, X.split(self.counts, 1), d.unbind(1), strict=True)
        return torch.cat([u.carry(P.expand(len(x), 4, 4), x, by) for u, P, x, by in each], 1)

    def picked(self, X: Tensor, best: Tensor) -> Tensor:
        """Of poses X (K, N, 4, 4) those (N, 4, 4) that have each unit as in start best (U)."""
        return X[best[self.owner], torch.arange(X.shape[1])]

    def bases(self, X: Tensor) -> Tensor:
        """The first body of each unit (K, U, 4, 4): all of it, if it is rigid."""
        return torch.stack([x[:, 0] for x in X.split(self.counts, 1)], 1)

    def based(self, X: Tensor, bases: Tensor) -> Tensor:
        """Poses X (K, N, 4, 4), with rigid units at bases (K, U, 4, 4)."""
        each = zip(self.units, X.split(self.counts, 1), bases.unbind(1), strict=True)
        return torch.cat([x if u.bends else base[:, None] for u, x, base in each], 1)

    def poses(self, X: Tensor) -> Tensor:
        """Free poses X_WB (K, N, 4, 4) put among all links: (K, nl, 4, 4)."""
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
        """For every start and unit the visible points in the frame of its body (n, 3), or None."""
        depth, links = self.render_ids(X)
        bases, first = self.bases(X), [self.model.scene.link(u.bodies[0]) for u in self.units]
        out = []
        for k in range(len(X)):
            row: list[Tensor | None] = []
            for b, link in enumerate(first):
                cloud = self.clouds[b]
                if cloud is None:
                    row.append(None)
                    continue
                c = cloud[0]
                own = (links[k, c] == link) & (self.weight[c] > 0)
                p_W = points_of(torch.where(own, depth[k, c], 0.0), self.crops[c].camera, self.s.points)
                row.append(lie.transform(lie.inverse(bases[k, b]), p_W) if len(p_W) >= 8 else None)
            out.append(row)
        return out

    def loss(self, X: Tensor, params: Params, plans: Transport) -> Tensor:
        """Loss of every start and unit (K, U): λ1 masked image + λ2 EMD (SAM-RL Eq. 4) under fixed plans, and the prior; its
        sum is what is descended."""
        image = self.render(X, params)
        masked = self.masked(image.color, image.depth, torch.stack([image.masks[u] for u in self.names], 2))
        loss = self.s.weight_color * masked + self.s.weight_emd * plans.distance(self.bases(X)) + self.prior(X)
        return loss * torch.tensor(self.seen)

    def prior(self, X: Tensor) -> Tensor:
        """How unlikely poses X (K, N, 4, 4) are before any image: (K, U), half the squared deviation in units of its standard
        deviations, weighted. The angle θ of a rigid body counts by the chord, ‖R − R0‖² / 2 = 2 (1 − cos θ), which is θ² while it
        is small and costs a tenth of the logarithm."""
        parts = []
        for u, P, x, known in zip(self.units, self.parents, X.split(self.counts, 1), self.known.split(self.counts), strict=True):
            if u.bends:
                d = u.between(u.relative(P, known), u.relative(P.expand(len(x), 4, 4), x))
                p, r = d.square().unflatten(-1, (2, 3)).sum(-1).unbind(-1)
                parts.append(torch.stack([p, r, torch.zeros_like(p)], -1))
            else:
                d = x[:, 0, :3] - known[0, :3]
                squares = d.square()
                parts.append(
                    torch.stack([squares[..., 3].sum(-1), 0.5 * squares[..., :3].sum((-2, -1)), squares[..., 2].sum(-1)], -1)
                )
        squares = torch.stack(parts, 1)
        return 0.5 * self.s.weight_prior * (squares * self.precision).sum(-1)

    def plans(self, X: Tensor) -> Transport:
        """Fresh transport plans at the poses X."""
        clouds = [None if cloud is None else cloud[1] for cloud in self.clouds]
        return transport(self.bases(X), self.sim_points(X), clouds, self.s.exact_plans)


def _carried(scene: Scene, bodies: tuple[str, ...]) -> list[bool]:
    """For each link whether joints move it and it is none of the bodies: the arm."""
    moved = [False] * len(scene.parent)
    for i in range(1, len(moved)):
        moved[i] = bool(scene.nd[i]) or moved[scene.parent[i]]
    return [m and name not in bodies for m, name in zip(moved, scene.link_names, strict=True)]


def put(model: Model, twin: Twin, units: Sequence[Unit], X_WB: Tensor) -> Twin:
    """Put the units' bodies at world poses (N, 4, 4); joints stay as they are."""
    X_WL = model.link_poses(twin)
    for u, X in zip(units, X_WB.split([len(u.bodies) for u in units]), strict=True):
        X_WP, now = model.bodies_of(u, X_WL)
        for body, X_PJ, old in zip(u.bodies, u.relative(X_WP, X), u.relative(X_WP, now), strict=True):
            if model.scene.nd[model.scene.link(body)]:
                X_PJ = X_PJ @ (lie.inverse(old) @ body_pose(model.scene, twin, body))
            twin = set_body_pose(model.scene, twin, body, X_PJ)
    return twin
