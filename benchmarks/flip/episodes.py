"""The flip as episodes in the twin, a batch: what the policy sees, potential of a state, success. No gradients.

One potential of state, which remembers whether the disc has been lifted clear: the reward of a step is γ Φ(s') - Φ(s) (Ng, Harada
and Russell 1999), so the sum along an episode is the same whatever the way, and standing still at a good place costs (1 - γ) Φ a
step.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from scene import DISC_HALF, DISC_MASS, DISC_RADIUS, PAN, PAN_RADIUS, STEP_P, STEP_R, Flip
from starts import FRESH, HARD, ON, PLAIN, SOFT, Physics, Starts
from torch import Tensor
from torch.nn.functional import softplus

from samrl.core import lie
from samrl.model.model import Command
from samrl.model.scene import State, Twin

CLEAR = 0.03  # so far above the pan's floor counts as lifted [m]
EPISODE = 80
VARIED = (
    "friction",
    "mass",
    "inertia",
    "contact_stiffness",
    "contact_damping",
    "link_p",
    "link_R",
    "com",
    "stiffness",
    "damping",
    "armature",
)


class FlipEpisodes:
    """n environments (`samrl.learn.ppo.Episodes`).

    Two curricula, both driven by what is won: a beginner has a soft twin with long steps and goes on, once half of the task's
    own starts are won while exploring, in one with stiff, varied contact; and the share of these starts grows from `mix` with
    that rate.

    Args:
        mix: shares of the kinds of starts, see `Starts`.
        grow: training; `adapt` changes physics and mix.
    """

    def __init__(
        self, n: int, seed: int, physics: Physics = PLAIN, mix: tuple[float, ...] = (1.0, 0.0, 0.0), grow: bool = False,
        discount: float = 0.99,
    ) -> None:  # fmt: skip
        self.n, self.mix, self.first, self.grow, self.discount = n, mix, mix[0], grow, discount
        self.g, self.pan = torch.Generator().manual_seed(seed), torch.tensor(PAN)
        self.limits = torch.tensor([STEP_P] * 3 + [STEP_R] * 3)
        self._begin(physics)

    def _begin(self, physics: Physics) -> None:
        """All environments anew, in a twin like that."""
        self.physics, self.flip = physics, Flip(physics.substeps, physics.slip)
        self.starts, self.model = Starts(self.flip, physics, self.g), self.flip.model
        self.X_EB, self.X_BE = self.flip.X_EB.float(), self.flip.X_BE.float()
        self.age = torch.randint(0, EPISODE, (self.n,), generator=self.g) if self.grow else torch.zeros(self.n, dtype=torch.long)
        self.seen: tuple[Twin, tuple[Tensor, Tensor, Tensor]] | None = None
        self.twin, self.command, self.kind, self.lifted = self.starts.draw(self.n, self.mix)
        self.fill()
        self.value = self.potential()

    def kinds(self) -> Tensor:
        return self.kind

    def adapt(self, won: list[float]) -> None:
        if not self.grow:
            return
        fresh = self.first + (0.9 - self.first) * won[FRESH]
        self.mix = (fresh, (1 - fresh) / 2, (1 - fresh) / 2)
        if self.physics == SOFT and won[FRESH] > 0.5:
            self._begin(HARD)

    def fill(self) -> None:
        """Starts in store; drawing many at once is cheaper."""
        self.store, self.used = self.starts.draw(self.n, self.mix), 0

    def reset(self, which: Tensor) -> None:
        """Start environments of the mask (n) anew."""
        i = which.nonzero()[:, 0]
        if not len(i):
            return
        if self.used + len(i) > self.n:
            self.fill()
        j = torch.arange(self.used, self.used + len(i))
        self.used += len(i)
        twin, command, kind, lifted = self.store
        put = lambda x, y: x.index_copy(0, i, y[j])  # noqa: E731
        P = {k: put(getattr(self.twin.params, k), getattr(twin.params, k)) for k in VARIED}
        state = State(put(self.twin.state.q, twin.state.q), put(self.twin.state.qd, twin.state.qd))
        self.twin = Twin(replace(self.twin.params, **P), state)
        self.command = Command(put(self.command.q_ref, command.q_ref), put(self.command.X_WE, command.X_WE))
        self.kind, self.lifted, self.age[i] = put(self.kind, kind), put(self.lifted, lifted), 0
        self.value = torch.where(which, self.potential(), self.value)

    # what is seen
    def look(self) -> tuple[Tensor, Tensor, Tensor]:
        """X_WB (n, 4, 4) of the blade as it should sit in the hand; p (n, 3) and R (n, 3, 3) of the disc."""
        if self.seen is None or self.seen[0] is not self.twin:
            q = self.twin.state.q
            quat = q[:, 10:14] / q[:, 10:14].norm(dim=-1, keepdim=True)
            self.seen = self.twin, (self.model.chain.tool(q[:, :7]) @ self.X_EB, q[:, 7:10], lie.matrix_from_quat(quat))
        return self.seen[1]

    def features(self) -> tuple[Tensor, Tensor]:
        """Of the policy (n, 63), and of the critic (n, 66), who also knows what the policy may not: lifted, friction, mass."""
        X, p, R = self.look()
        Rb, pb, n, q, qd = X[:, :3, :3], X[:, :3, 3], R[:, :, 2], self.twin.state.q, self.twin.state.qd
        local = lambda v: (Rb.mT @ v[..., None])[..., 0]  # noqa: E731
        at = lambda v, *scales: torch.cat([torch.tanh(v / k) for k in scales], -1)  # noqa: E731
        e, lead = local(p - pb) - torch.tensor([0, 0, ON]), lie.local(X @ self.X_BE, self.command.X_WE)
        v, w, blade = qd[:, 7:10], qd[:, 10:13], pb - self.pan
        f = torch.cat([
            at(blade, 0.2, 0.05), at(blade[:, 2:], 0.01), Rb[:, :, 0], Rb[:, :, 2], at(Rb[:, 2:, 0], 0.1),
            at(p - self.pan, 0.2, 0.05), n, at(e, 0.1, 0.03, 0.006), local(n), at(v, 0.3), at(local(v), 0.3), at(w, 4.0),
            at(lead[:, :3], 0.03), at(lead[:, 3:], 0.3), q[:, :7] - self.flip.home.float(),
        ], -1)  # fmt: skip
        mass = self.twin.params.mass[:, self.flip.cake, None] / DISC_MASS - 1
        return f, torch.cat([f, 2 * self.lifted[:, None].float() - 1, 5 * (self.twin.params.friction[:, :1] - 0.4), 3 * mass], -1)

    def clearance(self) -> Tensor:
        """(n) Height of the disc's lowest point above the pan's floor [m]."""
        _, p, R = self.look()
        c = R[:, 2, 2]
        return p[:, 2] - PAN[2] - (1 - c**2).clamp(min=0).sqrt() * DISC_RADIUS - c.abs() * DISC_HALF

    def potential(self) -> Tensor:
        """Φ (n). Right side up, it counts that the blade is under the disc and how high it carries it; once it has been lifted
        clear, how far the disc is turned, and upside down, how low it lies. Little is taken for turning it before, and more for
        leaving the pan."""
        X, p, R = self.look()
        Rb, n = X[:, :3, :3], R[:, :, 2]
        e = (Rb.mT @ (p - X[:, :3, 3])[..., None])[..., 0] - torch.tensor([0, 0, ON])
        align, turned, height = (n * Rb[:, :, 2]).sum(-1), (1 - n[:, 2]) / 2, p[:, 2] - PAN[2]
        below = (
            softplus(-e[:, 2] / 0.002) * 0.002
        )  # so far the blade is above the disc's underside: it presses instead of lifting
        above = below / (below + 0.008)
        across = e[:, 0] ** 2 + e[:, 1] ** 2
        r = (across + (2 * e[:, 2]) ** 2 + 0.005**2).sqrt() - 0.005
        under = (0.08 / (r + 0.08) - 0.25 * above - 1.2 * above * torch.exp(-across / 0.07**2)) * (0.5 + 0.5 * align)
        held = torch.exp(-((r / 0.03) ** 2).clamp(max=30)) * align.clamp(min=0)
        high = torch.tanh(self.clearance().clamp(min=0) / CLEAR)
        lying = torch.exp(-(height - DISC_HALF).clamp(min=0) / 0.03)
        out = softplus(((p - self.pan)[:, :2].square().sum(-1).add(1e-6).sqrt() - 0.08) / 0.01) * 0.01
        task = torch.where(self.lifted, 2 + 8 * turned + 4 * turned**2 * lying, -turned)
        return (2 * under + 3 * held * high) * (1 - turned) + task - 10 * out

    def action(self, z: Tensor) -> Tensor:
        """(n, 6) of the policy's output z (n, 6), in units of the limits, its rotation in the blade's axes."""
        a = z.clamp(-1.5, 1.5) * self.limits
        return torch.cat([a[:, :3], (self.look()[0][:, :3, :3] @ a[:, 3:, None])[..., 0]], -1)

    def judge(self) -> tuple[Tensor, Tensor]:
        """Success and loss (n) of the state; notes what has been lifted."""
        _, p, R = self.look()
        v, height, c = self.twin.state.qd[:, 7:], p[:, 2] - PAN[2], R[:, 2, 2]
        self.lifted = self.lifted | ((self.clearance() > CLEAR) & (c > 0))
        away = (p - self.pan)[:, :2].norm(dim=-1)
        still = (v[:, :3].norm(dim=-1) < 0.05) & (v[:, 3:].norm(dim=-1) < 0.5)
        won = self.lifted & (c < -math.cos(math.pi / 6)) & still & (height < 0.007) & (away < PAN_RADIUS)
        lost = (away > 0.16) | (height < -0.02) | (height > 0.4) | (self.twin.state.qd.abs().amax(-1) > 60)
        return won & ~lost, lost

    def push(self) -> None:
        """Another velocity for some of the discs."""
        hit = torch.rand(self.n, 1, generator=self.g) < self.physics.kick
        spread = torch.tensor([0.0] * 7 + [0.05] * 3 + [1.0] * 3)
        more = spread * torch.randn(self.n, 13, generator=self.g) * hit
        self.twin = self.twin.replace(state=State(self.twin.state.q, self.twin.state.qd + more))

    def step(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Reward, whether the episode ended, whether its time is over, whether it was a success (n each)."""
        self.twin, self.command = self.model.step(self.twin, self.command, self.action(z))
        self.age += 1
        won, lost = self.judge()
        new = self.potential()
        reward = (
            self.discount * new - self.value - self.physics.gentle * self.twin.state.qd[:, 7:10].square().sum(-1).clamp(max=4)
        )
        reward = torch.where(won, 20 - self.value, torch.where(lost, -2 - self.value.clamp(min=0), reward))
        self.value = new
        if self.physics.kick:
            self.push()
        return reward, won | lost, self.age >= EPISODE, won
