"""Looks at one body, and how far a joint is from explaining them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.camera import Camera
from samrl.core.errors import ImageError, SamrlError, SceneError, UnknownNameError
from samrl.core.types import RGBD
from samrl.model.physics import Physics
from samrl.model.render import Renderer
from samrl.model.scene import HINGE, SLIDE, Params, Scene, compile_mjcf
from samrl.real2sim.articulation.joint import Joint
from samrl.real2sim.articulation.looks import crop_to
from samrl.real2sim.frames import Crop, points_of

PATCH = 10.0  # pixels of the finest crops across that err together, as in `real2sim.fine`
LEAST = 30  # pixels of a mask that can be used
_WHOLE = 0.99  # a pixel that shows this much of a body has that body's depth
_STEPS = {"slide": 1e-3, "hinge": 5e-3, "tilt": 5e-3, "place": 1e-3}  # of differences [m, rad]
_BATCH = 96  # pictures that are compared at once


@dataclass(frozen=True)
class Model:
    """What the twin knows: a scene, all of it at rest but for the other joints, whose coordinates are given.

    Attributes:
        X_WL: (nl, 4, 4) links; body: the one that moves; links: it and what hangs on it; base: all links of the furniture, the
            first the one that stands in the world; renderer: with the body's mask.
    """

    scene: Scene
    params: Params
    X_WL: Tensor
    body: str
    links: tuple[int, ...]
    base: tuple[int, ...]
    renderer: Renderer

    @staticmethod
    def of(mjcf: str | Path, body: str, others: Mapping[str, float] | None = None) -> Model:
        scene, params, _ = compile_mjcf(mjcf)
        q = torch.tensor(scene.q_ref, dtype=torch.float32)
        for name, value in (others or {}).items():
            if not name or name not in scene.joint_names:
                raise UnknownNameError("joint", name, [n for n in scene.joint_names if n])
            i = scene.joint_names.index(name)
            if int(scene.joint_type[i]) not in (HINGE, SLIDE):
                raise SamrlError(f"joint '{name}' is no hinge or slide; only these can be given a coordinate.")
            q[int(scene.q_adr[i])] = value
        first = root = scene.link(body)
        if first == 0:
            raise SceneError(f"'{body}' is the world itself; the body of a drawer or a lid would do.")
        while scene.parent[root] > 0:
            root = int(scene.parent[root])
        links, base = ([i for i in range(r, len(scene.parent)) if _hangs(scene, i, r)] for r in (first, root))
        names, moving = (tuple(scene.link_names[i] for i in some if scene.link_names[i]) for some in (links, base))
        renderer = Renderer(scene, masks={body: names}, moving=moving)
        return Model(scene, params, Physics(scene).link_poses(params, q).detach(), body, tuple(links), tuple(base), renderer)


class Looks:
    """Images of the body, cut to one size.

    Args:
        opening: (L) which looks show the same opening: the index of its coordinate.
    """

    def __init__(self, looks: Sequence[RGBD], body: str, opening: Sequence[int], size: int) -> None:
        self.crops: list[Crop] = [crop_to(look, body, size, LEAST) for look in looks]
        self.opening = torch.tensor(opening)
        self.camera = Camera(
            size, size, torch.stack([c.camera.K for c in self.crops]), torch.stack([c.camera.X_WC for c in self.crops])
        )
        self.color = torch.stack([c.color for c in self.crops])
        self.mask = torch.stack([c.masks[body] for c in self.crops])
        self.depth = torch.stack([c.depth[body] for c in self.crops])
        self.surface = torch.stack([c.surface for c in self.crops])
        self.inside = torch.stack([c.inside for c in self.crops])
        self.pixels = self.mask.sum((1, 2)).clamp_min(1.0)

    def __len__(self) -> int:
        return len(self.crops)

    def middle(self, body: str) -> Tensor:
        """(3) mean of the points that were measured on the body [m], in the world."""
        points = torch.cat([points_of(c.depth[body], c.camera, 1000) for c in self.crops])
        if len(points) < LEAST:
            raise ImageError(f"there is hardly any depth on '{body}': {len(points)} readings in {len(self)} looks.")
        return points.mean(0).double()


class JointProblem:
    """Residuals of the masked images (SAM-RL Eq. 2: masks, depth, colour of the body, as `losses.MaskedImage` has them) as a
    function of x: the coordinate of each opening [m or rad]; what the joint's line is `moved` by; and, where the furniture may
    stand elsewhere, how far it is translated [m] and turned [rad] about its frame's origin, in the world's axes (lie.retract).
    Then the depth of the furniture counts, too, wherever it is seen in the crops, and how far it is from where it was thought.

    Args:
        doubt: standard deviations of the furniture's place [m] and turn [rad], None where it stands as the model says.
        cap: differences of depth beyond it count as it [m].
        robust: residuals beyond it count by their size, not by their square (a mask goes from 0 to 1).
        clearance: what is seen so far in front of the body [m], and is not the body, hides it; None: nothing does.
        per_meter: of depth, beside a mask; color: weight of the three channels together.
    """

    def __init__(
        self, model: Model, looks: Looks, joint: Joint, doubt: tuple[float, float] | None = None, *, cap: float = 0.02,
        robust: float = 0.1, clearance: float | None = None, per_meter: float = 40.0, color: float = 1.0,
    ) -> None:  # fmt: skip
        self.model, self.looks, self.joint, self.doubt = model, looks, joint, doubt
        self.cap, self.robust, self.clearance, self.per_meter, self.color = cap, robust, clearance, per_meter, color
        self.openings = int(looks.opening.max()) + 1
        self.line = slice(self.openings, self.openings + joint.size)
        steps = [_STEPS[joint.kind]] * self.openings + [_STEPS["tilt"]] * 2 + [_STEPS["place"]] * (joint.size - 2)
        steps += ([_STEPS["place"]] * 3 + [_STEPS["tilt"]] * 3) if doubt else []
        self.steps = torch.tensor(steps, dtype=torch.float64)

    def other(self, *, looks: Looks | None = None, joint: Joint | None = None, cap: float | None = None) -> JointProblem:
        """The same of other looks, or of another joint."""
        cap = self.cap if cap is None else cap
        return JointProblem(
            self.model, looks or self.looks, joint or self.joint, self.doubt, cap=cap, robust=self.robust,
            clearance=self.clearance, per_meter=self.per_meter, color=self.color,
        )  # fmt: skip

    def base(self, x: Tensor) -> Tensor:
        """(K, 4, 4): what carries the furniture in the world from where the model has it, for x (K, n)."""
        if self.doubt is None:
            return torch.eye(4, dtype=x.dtype).expand(len(x), 4, 4)
        X_WF = self.model.X_WL[self.model.base[0]].double()
        return lie.retract(X_WF, x[:, self.line.stop :]) @ lie.inverse(X_WF)

    def poses(self, x: Tensor) -> Tensor:
        """Links (K, L, nl, 4, 4) in the world, for x (K, n); differentiable."""
        m, count, base = self.model, len(self.looks), self.base(x)
        X_BM = self.joint.motion(x[:, : self.openings][:, self.looks.opening], x[:, self.line])
        X_WB = m.X_WL[m.links[0]].double()
        carry = (base[:, None] @ X_WB @ X_BM @ lie.inverse(X_WB)).to(m.X_WL.dtype)
        X = m.X_WL.expand(len(x), count, *m.X_WL.shape)
        if self.doubt is not None:
            stand = base.to(m.X_WL.dtype)[:, None, None] @ m.X_WL[list(m.base)]
            X = X.index_copy(2, torch.tensor(m.base), stand.expand(-1, count, -1, -1, -1))
        return X.index_copy(2, torch.tensor(m.links), carry[:, :, None] @ m.X_WL[list(m.links)])

    def residuals(self, x: Tensor) -> Tensor:
        """(K, L, S S 5): of each pixel the difference of masks, of depths where both show the body alone, and of colours, the
        twin's in each look as bright as the real ones; x (K, n). Differentiable by way of the renderer."""
        y, c, count = self.looks, self.looks.camera, len(self.looks)
        views = Camera(c.width, c.height, c.K.expand(len(x), count, 4), c.X_WC.expand(len(x), count, 4, 4))
        image, links = self.model.renderer.render_links(self.model.params, self.poses(x), views)
        mask = image.masks[self.model.body]
        depth = self._compared(image.depth, y.depth, mask.detach() > _WHOLE)
        if self.doubt is not None:
            stands = torch.isin(links, torch.tensor(self.model.base, dtype=links.dtype))
            alone = (mask.detach() < 1 - _WHOLE) & (y.mask < 1 - _WHOLE)
            depth = depth + self._compared(image.depth, y.surface, stands & alone)
        color = mask[..., None] * image.color * self._tint(image)[:, :, None, None] - y.mask[..., None] * y.color
        parts = [(mask - y.mask)[..., None], depth[..., None], self.color / 3 * color]
        return (torch.cat(parts, -1) * (y.inside & ~self._hidden(image, mask))[..., None]).flatten(2)

    def _hidden(self, image: RGBD, mask: Tensor) -> Tensor:
        """(K, L, S, S) whether something that is not the body, nor in the model, is seen in front of where the body would be."""
        y = self.looks
        if self.clearance is None:
            return torch.zeros_like(mask, dtype=torch.bool)
        before = (y.surface > 0) & (y.surface < image.depth.detach() - self.clearance)
        return before & (mask.detach() > 1 - _WHOLE) & (y.mask < 0.5)

    def _compared(self, sim: Tensor, real: Tensor, where: Tensor) -> Tensor:
        """(K, L, S, S): differences of depth where there is a reading."""
        return self.per_meter * (sim - real).clamp(-self.cap, self.cap) * (where & (real > 0))

    def loss(self, x: Tensor) -> Tensor:
        """(K, L): mean size of what is left, per pixel of each look's mask."""
        with torch.no_grad():
            parts = [self.residuals(some).abs().sum(-1) for some in x.split(max(1, _BATCH // len(self.looks)))]
        return torch.cat(parts) / self.looks.pixels

    @property
    def scale(self) -> float:
        """What `robust` is in `vector`."""
        return self.robust / float(self.looks.pixels.mean()) ** 0.5

    def vector(self, x: np.ndarray) -> np.ndarray:
        """(m): all residuals at x (n), each look's by the root of its pixels, so that looks count alike; what is believed of the
        furniture's place counts as much as a patch of pixels that are off by `robust`."""
        with torch.no_grad():
            r = self.residuals(torch.as_tensor(x)[None])[0]
        return np.concatenate([(r / self.looks.pixels[:, None].sqrt()).flatten().double().numpy(), self._believed() @ x])

    def jacobian(self, x: np.ndarray, free: np.ndarray) -> np.ndarray:
        """(m, k) by those k numbers of x that are `free` (n): by central differences of the antialiased images. All openings are
        nudged in one picture, since each look shows one. Of gradients, which go through the renderer too, it would take one for
        every residual."""
        n, steps = self.openings, self.steps
        shared = [i for i in range(n, len(x)) if free[i]]
        nudge = torch.zeros(1 + len(shared), len(x), dtype=torch.float64)
        nudge[0, :n] = steps[:n]
        nudge[range(1, len(nudge)), shared] = steps[shared]
        with torch.no_grad():
            r = self.residuals(torch.as_tensor(x) + torch.cat([nudge, -nudge]))
        d = (r[: len(nudge)] - r[len(nudge) :]).double() / (2 * self.looks.pixels[:, None].sqrt())
        out = torch.zeros(*d.shape[1:], len(x), dtype=torch.float64)
        for k, i in enumerate(self.looks.opening.tolist()):
            out[k, :, i] = d[0, k] / steps[i]
        out[..., shared] = (d[1:] / steps[shared][:, None, None]).movedim(0, -1)
        return np.concatenate([out.flatten(0, 1).numpy(), self._believed()])[:, free]

    def _believed(self) -> np.ndarray:
        """(600 or 0, n): rows whose product with x is how far the furniture is from where it was thought, in standard deviations
        that count as `robust`; PATCH² rows each, none of which is an outlier alone."""
        if self.doubt is None:
            return np.zeros((0, len(self.steps)))
        out = np.zeros((6, len(self.steps)))
        out[:, self.line.stop :] = np.diag(np.repeat(self.doubt, 3) ** -1.0) * self.scale
        return np.repeat(out, int(PATCH**2), 0)

    def _tint(self, image: RGBD) -> Tensor:
        """(K, L, 3): what makes the body as bright as it is, channel by channel, where both images show it; without gradient."""
        y = self.looks
        both = ((image.masks[self.model.body] > _WHOLE) & (y.mask > _WHOLE)).detach()[..., None]
        real = (both * y.color).sum((2, 3)).clamp_min(0.02)
        return torch.where(both.sum((2, 3)) >= LEAST, real / (both * image.color.detach()).sum((2, 3)).clamp_min(0.02), 1.0)


def _hangs(scene: Scene, link: int, root: int) -> bool:
    """Whether a link hangs on another."""
    while link > root:
        link = int(scene.parent[link])
    return link == root
