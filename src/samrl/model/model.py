"""𝓜: physics and rendering over one scene, and the arm's controller between action and joints."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from samrl.core import control, lie
from samrl.core.camera import Camera
from samrl.core.chain import SerialChain
from samrl.core.types import RGBD
from samrl.model.physics import Physics
from samrl.model.placement import body_pose, floats
from samrl.model.render import Renderer
from samrl.model.scene import Params, State, Twin, compile_mjcf
from samrl.model.units import Unit
from samrl.model.weight import Weight

THIN = 0.002  # radius of solids that are drawn with fewer segments [m]


@dataclass(frozen=True)
class Command:
    """The controller's memory, which moves along with the state.

    Attributes:
        q_ref: (*batch, n) joint set-points [rad].
        X_WE: (*batch, 4, 4) last commanded end-effector pose.
    """

    q_ref: Tensor
    X_WE: Tensor


class Model:
    """The differentiable twin of one scene: an acting arm under joint impedance, objects, light and camera. Joints beyond the
    arm's are springs to their rest (Scene.rest), if they have any.

    Args:
        mjcf: the scene, as MJCF text (model/scene.py says what is supported).
        chain: kinematics of the acting arm; its joints are the scene's first coordinates.
        units: what an update may move, each with a mask of its own.
        substeps: physics steps in a control period.
        gains: of the arm's controller; those of gains.yaml where not given.
        slip_speed: below which friction is viscous [m/s].
    """

    def __init__(
        self, mjcf: str, chain: SerialChain, units: tuple[Unit, ...], *, substeps: int = 20,
        gains: control.Gains | None = None, slip_speed: float = 5e-3, dtype: torch.dtype = torch.float32, device: str = "cpu",
    ) -> None:  # fmt: skip
        self.gains = gains or control.gains()
        self.scene, params, _ = compile_mjcf(mjcf)
        self.params = self._with_impedance(params).to(device=device, dtype=dtype)
        self.chain = chain.to(dtype, device)
        self.units, self.updatable = units, tuple(b for u in units for b in u.bodies)
        self.substeps = substeps
        self.dtype, self.device = dtype, device
        self.physics = Physics(self.scene, timestep=self.gains.period / substeps, device=device, slip_speed=slip_speed)
        self.weight = Weight(self.physics, self.scene, len(self.gains.stiffness))
        self.detail = np.where(params.geom_size[:, 0].numpy() < THIN, 2 / 3, 1.0)  # fewer segments: a pixel is as wide
        masks = {u.name: u.bodies for u in units}
        self.renderer = Renderer(self.scene, masks=masks, moving=self.updatable, detail=self.detail, device=device)

    def _with_impedance(self, params: Params) -> Params:
        """The arm's joints are springs to their set-points, with the controller's stiffness and damping."""
        gain = params.stiffness.new_tensor(self.gains.stiffness), params.damping.new_tensor(self.gains.damping)
        n = len(self.gains.stiffness)
        stiffness = torch.cat([gain[0], params.stiffness[n:]])
        return replace(params, stiffness=stiffness, damping=torch.cat([params.damping[:n] + gain[1], params.damping[n:]]))

    def state(self, q: Tensor, qd: Tensor | None = None, others: State | None = None) -> State:
        """The scene's state with the arm at q (*batch, n), still unless qd (*batch, n) is given; all else as in `others`, or
        at its reference and still."""
        as_ours = lambda x: torch.as_tensor(x, dtype=self.dtype, device=self.device)  # noqa: E731
        q, n = as_ours(q), len(self.gains.stiffness)
        rest = State(as_ours(self.scene.q_ref), q.new_zeros(self.scene.nv)) if others is None else others
        qd = torch.zeros_like(q) if qd is None else as_ours(qd)
        join = lambda arm, all_: torch.cat([arm, all_[..., n:].expand(*arm.shape[:-1], -1)], -1)  # noqa: E731
        return State(join(q, rest.q), join(qd, rest.qd))

    def arm(self, state: State) -> State:
        """The acting arm's part of a state: q, qd (*batch, n)."""
        n = len(self.gains.stiffness)
        return State(state.q[..., :n], state.qd[..., :n])

    def paced(self, substeps: int, slip_speed: float) -> Model:
        """The same model with so many physics steps in a control period, and friction viscous below that speed [m/s]."""
        other = copy(self)
        step = self.gains.period / substeps
        other.substeps, other.physics = substeps, Physics(self.scene, timestep=step, device=self.device, slip_speed=slip_speed)
        return other

    def motion(self, state: State) -> Tensor:
        """(*batch, 6) velocity of the first body that floats, linear [m/s] and angular [rad/s], in the world's axes; zero if none
        does."""
        floating = [n for n in self.updatable if floats(self.scene, n)]
        if not floating:
            return state.qd.new_zeros(*state.qd.shape[:-1], 6)
        at, adr = self.scene.coordinates(floating[0])[0], self.scene.coordinates(floating[0])[1]
        v, R = state.qd[..., adr], lie.matrix_from_quat(state.q[..., at][..., 3:])
        return torch.cat([v[..., :3], (R @ v[..., 3:, None])[..., 0]], -1)

    def at_rest(self, state: State) -> Command:
        """A command that keeps the arm where it is."""
        q = self.arm(state).q
        return Command(q, self.chain.tool(q))

    def step(self, twin: Twin, command: Command, action: Tensor, substeps: int | None = None) -> tuple[Twin, Command]:
        """One control period under action (*batch, 6) = (Δp_W [m], Δr_W [rad]); differentiable in all of its arguments. The
        controller goes on to compensate the masses that it was told, those of `self.params`: what the twin has beyond them
        sags."""
        measured = self.chain.tool(self.arm(twin.state).q)
        X = control.command(command.X_WE, measured, action, self.gains)
        q_ref = control.set_points(self.chain, command.q_ref, X, self.gains)
        rest = q_ref.new_tensor(self.scene.rest[q_ref.shape[-1] :]).expand(*q_ref.shape[:-1], -1)
        target, torque = torch.cat([q_ref, rest], -1), self._unmet(twin)
        state = self.physics.step(twin.params, twin.state, target, torque, substeps=substeps or self.substeps)
        return twin.replace(state=state), Command(q_ref, X)

    def _unmet(self, twin: Twin) -> Tensor | None:
        """Weight (*batch, nv) [N m] that the controller does not know of; None where the masses are those that it was told."""
        p, told = twin.params, self.params
        if not p.mass.requires_grad and self.weight.same(p, told):
            return None
        torque = self.weight(replace(p, mass=p.mass - told.mass), twin.state.q)  # linear in masses; poses are as they are
        return torch.cat([torque, torque.new_zeros(*torque.shape[:-1], self.scene.nv - torque.shape[-1])], -1)

    def link_poses(self, twin: Twin) -> Tensor:
        """X_WL (*batch, nl, 4, 4) of every link."""
        return self.physics.link_poses(twin.params, twin.state.q)

    def poses(self, twin: Twin, names: tuple[str, ...] | None = None) -> dict[str, Tensor]:
        """X_WB (*batch, 4, 4) of bodies by name, the updatable ones where no names are given."""
        X = self.link_poses(twin)
        return {name: X[..., self.scene.link(name), :, :] for name in names or self.updatable}

    def bodies_of(self, unit: Unit, X_WL: Tensor) -> tuple[Tensor, Tensor]:
        """Of links X_WL (*batch, nl, 4, 4) the parent of a unit (*batch, 4, 4) and its bodies (*batch, m, 4, 4)."""
        links = [self.scene.link(b) for b in unit.bodies]
        return X_WL[..., int(self.scene.parent[links[0]]), :, :], X_WL[..., links, :, :]

    def placed(self, unit: Unit, twin: Twin, X_WL: Tensor, X_PB: Tensor) -> Tensor:
        """Where a unit's bodies (m, 4, 4) would be with X_PB (m, 4, 4) in their parents, their joints as they are in the twin,
        whose links are at X_WL (nl, 4, 4)."""
        X, X_WB = self.bodies_of(unit, X_WL)
        turned = unit.relative(X, X_WB)
        out = []
        for body, now, new in zip(unit.bodies, turned, X_PB, strict=True):
            moves = bool(self.scene.nd[self.scene.link(body)])
            X = X @ (new @ lie.inverse(body_pose(self.scene, twin, body)) @ now if moves else new)
            out.append(X)
        return torch.stack(out)

    def frames(self, X_WL: Tensor) -> Tensor:
        """Where the units are (*batch, U, 4, 4), see Unit.frame, of links X_WL (*batch, nl, 4, 4)."""
        return torch.stack([u.frame(self.bodies_of(u, X_WL)[1]) for u in self.units], -3)

    def render(self, twin: Twin, camera: Camera) -> RGBD:
        """What the camera would see of the twin."""
        return self.renderer.render(twin.params, self.link_poses(twin), camera)
