"""One update as a problem: the crops, what stays, and the loss λ1·‖G⊗I − G'⊗I'‖₁ + λ2·EMD as a function of the free poses
(SAM-RL Eq. 2-4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.camera import Camera
from samrl.model.model import Model, set_body_pose
from samrl.model.scene import Params, Scene, Twin
from samrl.real2sim.frames import Crop, points_of
from samrl.real2sim.losses import MaskedImage, Transport, transport


@dataclass(frozen=True)
class UpdateSettings:
    """Attributes:
    bodies: whose pose and colour are free.
    weight_color, weight_emd [1/m], weight_prior: λ1, λ2, and of what is known before any image.
    weight_depth [1/m], depth_cap [m]: of depth in the masked image, beside a colour from 0 to 1, and its largest difference.
    points, coarse_points: at most so many a cloud, in the fine and the coarse stage.
    exact_plans: whether transport plans are optimal to the last digit, or nearly, in a fraction of the time.
    coarse_steps, coarse_yaws [rad]: iterations of the coarse stage and the turns about the vertical that it starts from.
    wide_steps, fine_steps: iterations of the fine stage on the wide crop and on the near ones.
    rate_p [m], rate_r [rad], rate_color: first step sizes of Adam, falling by a cosine.
    min_pixels: a body with fewer visible pixels in every crop is out of view.
    clearance [m]: what is seen so far in front of a body, and is none, hides it.
    margin: pixels around a coarsely drawn occluder that count for nothing.
    doubt: a body whose loss stays above this is looked for again, from its first estimate turned about the
        vertical by doubt_yaws [rad].
    """

    bodies: tuple[str, ...] = ("block", "peg")
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
    doubt: float = 0.18
    doubt_yaws: tuple[float, ...] = (0.0, -0.785, 0.785, 1.571)


@dataclass(frozen=True)
class Prior:
    """What is known of a body before any image: its mean pose X_WB (4, 4) and standard deviations [m] and [rad]."""

    X_WB: Tensor
    sigma_p: float
    sigma_r: float


Priors = dict[str, Prior]


class Problem:
    """One update: the crops, the fixed poses of everything that stays, and the loss as a function of the free poses."""

    def __init__(
        self, model: Model, twin: Twin, crops: Sequence[Crop], settings: UpdateSettings, priors: Priors | None = None
    ) -> None:
        self.model, self.twin, self.crops, self.s = model, twin, crops, settings
        self.X_WL = model.link_poses(twin).detach()
        self.links = [model.scene.link(b) for b in settings.bodies]
        self.X0 = self.X_WL[self.links]
        known = [(priors or {}).get(b, Prior(X, torch.inf, torch.inf)) for b, X in zip(settings.bodies, self.X0, strict=True)]
        self.known = torch.stack([k.X_WB for k in known])
        self.precision = torch.tensor([[k.sigma_p**-2, k.sigma_r**-2] for k in known])
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
        self.depths = [torch.stack([c.depth[b] for c in crops]) for b in settings.bodies]
        real = (self.color, torch.stack(self.depths, 1), torch.stack(self.masks, 1))
        self.masked = MaskedImage(*real, self.weight, settings.weight_depth, settings.depth_cap)

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
        drawn = torch.tensor([*_carried(self.model.scene, self.s.bodies), False])
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

    def loss(self, X: Tensor, params: Params, plans: Transport) -> Tensor:
        """Loss of every start and body (K, B): λ1 masked image + λ2 EMD (SAM-RL Eq. 4) under fixed plans, and the prior; its
        sum is what is descended."""
        image = self.render(X, params)
        masked = self.masked(image.color, image.depth, torch.stack([image.masks[b] for b in self.s.bodies], 2))
        loss = self.s.weight_color * masked + self.s.weight_emd * plans.distance(X) + self.prior(X)
        return loss * torch.tensor(self.seen)

    def prior(self, X: Tensor) -> Tensor:
        """How unlikely poses X (K, B, 4, 4) are before any image: (K, B), half the squared deviation in units of its standard
        deviations, weighted. The angle θ counts by the chord, ‖R − R0‖² / 2 = 2 (1 − cos θ), which is θ² while it is small and
        costs a tenth of the logarithm."""
        d = X[..., :3, :] - self.known[:, :3]
        squares = torch.stack([d[..., 3].square().sum(-1), 0.5 * d[..., :3].square().sum((-2, -1))], -1)
        return 0.5 * self.s.weight_prior * (squares * self.precision).sum(-1)

    def plans(self, X: Tensor) -> Transport:
        """Fresh transport plans at the poses X."""
        clouds = [None if cloud is None else cloud[1] for cloud in self.clouds]
        return transport(X, self.sim_points(X), clouds, self.s.exact_plans)


def _carried(scene: Scene, bodies: tuple[str, ...]) -> list[bool]:
    """For each link whether joints move it and it is none of the bodies: the arm."""
    moved = [False] * len(scene.parent)
    for i in range(1, len(moved)):
        moved[i] = bool(scene.nd[i]) or moved[scene.parent[i]]
    return [m and name not in bodies for m, name in zip(moved, scene.link_names, strict=True)]


def put(model: Model, twin: Twin, bodies: tuple[str, ...], X_WB: Tensor) -> Twin:
    """Write world poses (B, 4, 4) of fixed bodies into the parameters, relative to their parents."""
    X_WL, params = model.link_poses(twin), twin.params
    for b, body in enumerate(bodies):
        parent = int(model.scene.parent[model.scene.link(body)])
        X_PB = lie.inverse(X_WL[parent]) @ X_WB[b]
        params = set_body_pose(model.scene, params, body, X_PB)
    return twin.replace(params=params)
