"""The weight of what an arm holds, as torques about its joints: what a controller must hold against it, and what is left where
it was told wrongly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from samrl.model.physics import Physics
from samrl.model.scene import Params, Scene


class Weight:
    """Torques of gravity about a serial arm's joints, of the bodies whose weight its controller compensates (Scene.gravcomp).

    Args:
        physics: of the scene; scene: structure.
        joints: n, the arm's hinges, which are the scene's first coordinates.
    """

    def __init__(self, physics: Physics, scene: Scene, joints: int) -> None:
        self.physics = physics
        moves = np.asarray(scene.nd) > 0
        self.link = [int(np.flatnonzero((np.asarray(scene.v_adr) == k) & moves)[0]) for k in range(joints)]
        self.axis, self.share = torch.as_tensor(scene.axis[self.link]), torch.as_tensor(scene.gravcomp)
        self.beyond = torch.as_tensor(_beyond(scene)[self.link], dtype=torch.float64)

    def same(self, a: Params, b: Params) -> bool:
        """Whether what is compensated has the same masses in both."""
        held = np.flatnonzero(self.share.numpy())
        return bool((a.mass[..., held] == b.mass[..., held]).all())

    def __call__(self, params: Params, q: Tensor) -> Tensor:
        """(*batch, n) [N m] at q (*batch, nq); differentiable in params and q."""
        X = self.physics.link_poses(params, q)
        R, p = X[..., :3, :3], X[..., :3, 3]
        at = lambda x: x.to(q)  # noqa: E731
        mass = params.mass * at(self.share)
        moment = mass[..., None] * ((R @ params.com[..., None])[..., 0] + p)
        hinge_R, hinge_p = R[..., self.link, :, :], p[..., self.link, :]
        axis = (hinge_R @ at(self.axis)[..., None])[..., 0]
        anchor = (hinge_R @ params.joint_p[..., self.link, :, None])[..., 0] + hinge_p
        beyond = at(self.beyond)
        arm = beyond @ moment - (mass @ beyond.mT)[..., None] * anchor
        return (axis * torch.linalg.cross(arm, params.gravity[..., None, :].expand_as(arm))).sum(-1)


def _beyond(scene: Scene) -> np.ndarray:
    """(nl, nl) whether the second link is the first, or hangs on it."""
    out = np.eye(len(scene.parent), dtype=bool)
    for i in range(1, len(scene.parent)):
        out[:, i] |= out[:, int(scene.parent[i])]
    return out
