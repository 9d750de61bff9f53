"""Where episodes of the flip start, and in what twin."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from scene import DISC_HALF, DISC_RADIUS, PAN, PAN_RADIUS, Flip
from torch import Tensor

from samrl.core import lie
from samrl.model.model import Command
from samrl.model.scene import Params, State, Twin

ON = DISC_HALF + 0.00075  # from the blade's middle to the disc's when it lies on it [m]
FRESH, BEFORE, UPON = 0, 1, 2  # kinds of starts


@dataclass(frozen=True)
class Physics:
    """What the twin is like.

    Attributes:
        substeps: of a control period.
        stiffness: of the disc's contact [N/m a point], spread: of its logarithm; share: of contact damping's logarithm.
        slip: speed below which friction is viscous [m/s].
        arm: relative range of the joints' springs and dampers; rotor: of what their inertia is more than the model's [kg m²].
        offset_p [m], offset_r [rad]: range of the spatula's hidden offset in the hand.
        friction: range of an episode's; apart: by how much pan's and spatula's differ from it (deviation of the logarithm).
        com: range of the disc's centre of mass [m], for no cake is even.
        kick: share of the steps after which the disc gets another velocity, by 5 cm/s and 1 rad/s (deviations), for what contact
            does is not known that well.
        gentle: price of the disc's speed [s²/m²], as a cake that is thrown or dropped from high tears.
    """

    substeps: int
    stiffness: float
    slip: float = 5e-3
    spread: float = 0.0
    share: float = 0.0
    arm: float = 0.0
    offset_p: float = 0.0
    offset_r: float = 0.0
    friction: tuple[float, float] = (0.2, 0.6)
    rotor: float = 0.0
    apart: float = 0.0
    com: float = 0.0
    kick: float = 0.0
    gentle: float = 0.0


SOFT = Physics(10, 500.0)  # where a beginner learns
HARD = Physics(
    20, 3000.0, slip=1e-3, rotor=0.1, spread=0.7, share=0.5, arm=0.2, offset_p=0.001, offset_r=0.01, friction=(0.15, 0.6),
    apart=0.25, com=0.006, kick=0.15, gentle=1.0,
)  # fmt: skip
"""As other worlds may be."""
PLAIN = Physics(20, 2000.0, slip=1e-3)
"""The scene's own numbers."""


def about(axis: int, angle: Tensor) -> Tensor:
    """Rotation (n, 3, 3) about an axis."""
    v = torch.zeros(*angle.shape, 3, dtype=angle.dtype)
    v[..., axis] = angle
    return lie.exp_so3(v)


class Starts:
    """Draws starts of three kinds: FRESH, the task's own; BEFORE, the blade before the disc; UPON, the disc on the blade. All but
    FRESH are for training."""

    def __init__(self, flip: Flip, physics: Physics, g: torch.Generator) -> None:
        self.flip, self.physics, self.g, self.model = flip, physics, g, flip.model
        self.geom, self.spatula = self.model.scene.geom_names.index("cake/0"), self.model.scene.link("spatula")

    def draw(self, n: int, mix: tuple[float, ...]) -> tuple[Twin, Command, Tensor, Tensor]:
        """Situations, their kinds (n), and whether the disc counts as lifted already (n)."""
        kind = torch.multinomial(torch.tensor(mix).double(), n, replacement=True, generator=self.g)
        twin, _ = self.flip.sample(n, self.g, self.physics.friction)
        q = twin.state.q.clone()
        for k, draw in ((BEFORE, self.before), (UPON, self.upon)):
            i = (kind == k).nonzero()[:, 0]
            if len(i):
                state, good = draw(len(i))
                q[i[good]], kind[i[~good]] = state.q[good], FRESH
        state = State(q, twin.state.qd)
        turned, high = lie.matrix_from_quat(q[:, 10:14])[:, 2, 2] < 0.6, q[:, 9] - PAN[2] > 0.06
        return Twin(self.vary(twin.params, n), state), self.model.at_rest(state), kind, (kind == UPON) & (high | turned)

    def vary(self, P: Params, n: int) -> Params:
        """Contact, arm and the spatula's place of every environment's own."""
        s, g = self.physics, self.g
        normal = lambda: torch.randn(n, generator=g).clamp(-1.7, 1.7)  # noqa: E731
        uniform = lambda *k: 2 * torch.rand(n, *k, generator=g) - 1  # noqa: E731
        k, c = P.contact_stiffness.expand(n, -1).clone(), P.contact_damping.expand(n, -1).clone()
        k[:, self.geom] = s.stiffness * torch.exp(s.spread * normal())
        c[:, self.geom] *= torch.exp(s.share * normal())
        p, R = P.link_p.expand(n, -1, -1).clone(), P.link_R.expand(n, -1, -1, -1).clone()
        p[:, self.spatula] += s.offset_p * uniform(3)
        R[:, self.spatula] = R[:, self.spatula] @ lie.exp_so3(s.offset_r * uniform(3))
        spring, damper = (x * (1 + s.arm * uniform(1)) for x in (P.stiffness, P.damping))
        mu = P.friction.clone()
        for body in ("pan/", "spatula/"):  # a pair's friction is the geometric mean
            mu[:, [i for i, name in enumerate(self.model.scene.geom_names) if name.startswith(body)]] *= torch.exp(
                2 * s.apart * normal()
            )[:, None]
        com = P.com.expand(n, -1, -1).clone()
        com[:, self.flip.cake, :2] += s.com * uniform(2)
        armature = P.armature.expand(n, -1).clone()
        armature[:, :7] += s.rotor * torch.rand(n, 1, generator=g)
        return replace(
            P,
            armature=armature,
            friction=mu,
            com=com,
            contact_stiffness=k,
            contact_damping=c,
            link_p=p,
            link_R=R,
            stiffness=spring,
            damping=damper,
        )

    def _uniform(self, n: int, k: int) -> Tensor:
        return (2 * torch.rand(n, k, generator=self.g, dtype=torch.float64) - 1).T

    def before(self, n: int) -> tuple[State, Tensor]:
        """The blade low in the pan, the disc flat before its front edge or against the far wall."""
        x, y, z, yaw, pitch, ahead, side, turn = self._uniform(n, 8)
        p = torch.tensor(PAN).double() + torch.stack([-0.05 + 0.08 * x, 0.05 * y, 0.006 + 0.005 * z], -1)
        R = about(2, 0.15 * yaw) @ about(1, 0.06 + 0.08 * pitch)
        q, good = self.flip.solve(lie.pose(R, p), self.flip.home.expand(n, -1), 30)
        near = p[:, 0] + 0.045 + DISC_RADIUS
        at = torch.maximum(near + 0.015 * (ahead + 1), near * 0 + PAN[0] - 0.05).clamp(
            max=PAN[0] + PAN_RADIUS - DISC_RADIUS - 5e-4
        )
        disc = torch.stack([at, PAN[1] + 0.03 * side, torch.full_like(at, PAN[2] + DISC_HALF)], -1)
        return self.flip.state(q, disc, lie.quat_from_matrix(about(2, math.pi * turn))), good & (at >= near - 1e-6)

    def upon(self, n: int) -> tuple[State, Tensor]:
        """The disc on the blade, anywhere over the pan; often the blade is rolled, as an arm is that rolled it from level."""
        x, y, z, roll, pitch, yaw, off_x, off_y = self._uniform(n, 8)
        low = torch.rand(n, generator=self.g) < 0.35
        p = torch.tensor(PAN).double() + torch.stack(
            [0.06 * x, 0.06 * y, torch.where(low, 0.006 + 0.03 * z.abs(), 0.10 + 0.08 * z)], -1
        )
        roll = torch.where(torch.rand(n, generator=self.g) < 0.6, 1.6 * roll, 0.3 * roll)
        roll = torch.where(low, 0.05 * roll, roll)
        level = about(2, 0.2 * yaw) @ about(1, torch.where(low, 0.05 + 0.08 * pitch, 0.2 * pitch))
        q, good = self.flip.home.expand(n, -1), torch.ones(n, dtype=torch.bool)
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            R = level @ about(0, share * roll)
            q, good = self.flip.solve(lie.pose(R, p), q, 10 if share else 30)
        disc = p + (R @ torch.stack([0.03 * off_x, 0.04 * off_y, 0 * x + ON], -1)[..., None])[..., 0]
        return self.flip.state(q, disc, lie.quat_from_matrix(R)), good
