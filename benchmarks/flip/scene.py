"""A Panda with a spatula and a pancake, a rigid disc, in a shallow pan: scene, twin, and starts as the task draws them."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from samrl.core import lie
from samrl.model.model import Command, Model
from samrl.model.physics import Physics
from samrl.model.scene import State, Twin
from samrl.model.units import Unit
from samrl.tasks import cell
from samrl.tasks.mjcf import to_mjcf
from samrl.tasks.robots import panda, rizon
from samrl.tasks.spec import Body, CameraSpec, Free, SceneSpec, Solid, chain_of, pose_of, pose_to

LEAN, TO_BLADE, TILT = math.radians(75), 0.15, math.radians(15)  # handle to flange's z; flange to blade [m]; handle to blade
PAN = (0.5, 0.0, 0.20)  # centre of the pan's floor [m]
PAN_RADIUS, PAN_DEPTH, PAN_CHAMFER = 0.14, 0.015, 0.004
BLADE = (0.045, 0.040, 0.00075)
DISC_RADIUS, DISC_HALF, DISC_RIM, DISC_MASS = 0.060, 0.004, 0.0035, 0.060
HOME = (0.0, -0.85, 0.0, -2.75, 0.0, 2.0, 0.78)
STEP_P, STEP_R = 0.025, math.radians(12)  # limits of an action


def blade_in_tool() -> Tensor:
    """X_EB (4, 4): the blade's middle, x to its front edge and z up, in the end effector's frame."""
    z, x = torch.tensor([0.0, 0, 1]).double(), torch.tensor([1.0, 0, 0]).double()
    handle, up = math.cos(LEAN) * z + math.sin(LEAN) * x, math.cos(LEAN) * x - math.sin(LEAN) * z
    xb, zb = math.cos(TILT) * handle + math.sin(TILT) * up, math.cos(TILT) * up - math.sin(TILT) * handle
    return lie.pose(torch.stack([xb, torch.linalg.cross(zb, xb), zb], 1), TO_BLADE * handle + BLADE[0] * xb)


def scene() -> SceneSpec:
    ab, actor = panda(opening=0.008)
    cb, carrier = rizon(*cell.CARRIER_BASE, *cell.HAND_EYE, cell.CARRIER_HOME)
    dark, quarter = (0.2, 0.2, 0.2), math.cos(math.pi / 4)
    edge = Solid("capsule", (BLADE[2], BLADE[1]), (BLADE[0], 0, 0), (quarter, quarter, 0, 0), dark, 0.3, True)
    back, half = (-math.cos(TILT), 0.0, math.sin(TILT)), 0.075
    turn = math.atan2(back[0], back[2]) / 2
    handle = Solid(
        "capsule", (0.006, half), (-BLADE[0] + back[0] * half, 0, back[2] * half), (math.cos(turn), 0, math.sin(turn), 0), dark
    )
    spatula = Body(
        "spatula", actor.tool_parent, *pose_to(pose_of(actor.tool_p, actor.tool_quat) @ blade_in_tool()), mass=0.1,
        inertia=(1e-4,) * 3 + (0.0,) * 3, gravcomp=1.0, updatable=True,
        solids=(Solid("box", BLADE, color=dark, friction=0.3, collide=True), edge, handle),
    )  # fmt: skip
    hole = (0.165, 0.165, 0.02, PAN_RADIUS, PAN_DEPTH, PAN_CHAMFER)
    block = Solid("block_with_hole", hole, color=(0.3, 0.3, 0.35), collide=True, friction=0.3)
    pan = Body("pan", "world", (PAN[0], PAN[1], PAN[2] - 0.02 + PAN_DEPTH), solids=(block,))
    I = DISC_MASS * (3 * DISC_RADIUS**2 + 4 * DISC_HALF**2) / 12
    disc = Solid(
        "disc", (DISC_RADIUS, DISC_HALF, DISC_RIM), color=(0.9, 0.7, 0.3), friction=0.3, collide=True, contact=(2000.0, 5.0)
    )
    cake = Body(
        "cake", "world", (PAN[0], PAN[1], PAN[2] + DISC_HALF), joint=Free(), mass=DISC_MASS,
        inertia=(I, I, DISC_MASS * DISC_RADIUS**2 / 2, 0, 0, 0), updatable=True, solids=(disc,),
    )  # fmt: skip
    table = Body("table", solids=(Solid("plane", (1.5, 1.5), color=(0.5, 0.45, 0.4), collide=True),))
    return SceneSpec(
        "flip", (table, pan, *ab, spatula, cake, *cb), actor, carrier, CameraSpec(),
        pairs=(("cake", "pan"), ("cake", "spatula"), ("spatula", "pan")),
    )  # fmt: skip


class Flip:
    """Scene, chain and twin; `substeps` physics steps in a control period; below `slip` [m/s] friction is viscous."""

    def __init__(self, substeps: int = 20, slip: float = 5e-3) -> None:
        self.spec = scene()
        self.chain = chain_of(self.spec, self.spec.actor)  # float64
        self.model = Model(
            to_mjcf(self.spec), self.chain, (Unit("spatula", ("spatula",)), Unit("cake", ("cake",))), substeps=substeps
        )
        limits = {"max_translation": STEP_P, "max_rotation": STEP_R, "lead_translation": 0.06, "lead_rotation": math.radians(30)}
        self.model.gains = replace(self.model.gains, **limits)
        self.model.physics = Physics(self.model.scene, timestep=self.model.gains.period / substeps, slip_speed=slip)
        self.X_EB = blade_in_tool()
        self.X_BE = lie.inverse(self.X_EB)
        self.cake = self.model.scene.link("cake")
        self.home = torch.tensor(HOME).double()

    def solve(self, X_WB: Tensor, q: Tensor, iterations: int = 60) -> tuple[Tensor, Tensor]:
        """Joints (n, 7) that bring the blade to X_WB (n, 4, 4), from q (n, 7), and whether they do (n)."""
        q, p, r = self.chain.solve(X_WB @ self.X_BE, q, iterations=iterations)
        return q, (p < 3e-3) & (r < 3e-2)

    def state(self, q: Tensor, p: Tensor, quat: Tensor) -> State:
        """At rest: joints q (n, 7), disc at p (n, 3), quat (n, 4)."""
        full = self.model.state(q).q.clone()
        full[:, 7:10], full[:, 10:14] = p.float(), quat.float()
        return State(full, torch.zeros(len(q), self.model.scene.nv))

    def sample(self, n: int, g: torch.Generator, friction: tuple[float, float] = (0.2, 0.6)) -> tuple[Twin, Command]:
        """Starts of the task: disc in the pan +-3 cm, any yaw, mass +-30 %, one friction for all; blade near the pan's rim."""
        u = lambda k: 2 * torch.rand(n, k, generator=g, dtype=torch.float64) - 1  # noqa: E731
        p = torch.tensor([PAN[0] - 0.11, 0, PAN[2] + 0.06]).double() + u(3) * torch.tensor([0.02, 0.03, 0.02])
        w = u(3) * torch.tensor([0.08, 0.08, 0.15]).double() + torch.tensor([0, 0.15, 0])
        q, good = self.solve(lie.pose(lie.exp_so3(w), p), self.home.expand(n, -1))
        q[~good] = q[good][0] if good.any() else self.home
        yaw, d = math.pi * u(1)[:, 0] / 2, 0.03 * u(2)
        at = torch.stack([PAN[0] + d[:, 0], PAN[1] + d[:, 1], torch.full((n,), PAN[2] + DISC_HALF - 1e-4)], -1)
        state = self.state(q, at, torch.stack([torch.cos(yaw), 0 * yaw, 0 * yaw, torch.sin(yaw)], -1))
        P = self.model.params
        mu = friction[0] + (friction[1] - friction[0]) * torch.rand(n, 1, generator=g)
        k = 0.7 + 0.6 * torch.rand(n, generator=g)
        mass, inertia = P.mass.expand(n, -1).clone(), P.inertia.expand(n, -1, -1, -1).clone()
        mass[:, self.cake] *= k
        inertia[:, self.cake] *= k[:, None, None]
        params = replace(P, friction=mu.expand(n, P.friction.shape[-1]).clone(), mass=mass, inertia=inertia)
        return Twin(params, state), self.model.at_rest(state)
