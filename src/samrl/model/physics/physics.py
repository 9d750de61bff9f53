"""Physics of a scene: what moves, and how it would move otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.errors import NonFiniteError, SamrlError
from samrl.model.physics.autograd import ForwardKinematics, Rollout
from samrl.model.physics.given import Given
from samrl.model.physics.launch import LEAVES, Constants, Launcher
from samrl.model.physics.layout import make_layout
from samrl.model.physics.leaves import LeafMaker, batch_of, flatten
from samrl.model.scene import Params, Scene, State

HALVINGS = 2  # of the step, where a rollout leaves the finite numbers


class Physics:
    """Articulated-body dynamics with implicit joint springs and compliant contact, differentiable in state, set-points,
    torques and every parameter.

    Semi-implicit Euler. The spring of a joint pulls its coordinate to the set-point (for a ball joint, its rotation
    vector); springs, dampers, joint limits and contact are implicit, so that stiff ones are stable at large steps.
    Numbers that come and go are float32 or float64, as the state is. On a CPU all is computed in float64, which costs little
    there: contact is some ten micrometres wide, and positions of half a metre have steps of sixty nanometres in float32.

    What is made of parameters is kept until others come. Writing to them in place is noticed; around autograd, through `.data` or
    NumPy's view of a tensor, it is not: give new parameters then.

    Args:
        scene: structure.
        timestep: [s]; the scene's own where it is not given.
        implicit_contact: linearise contact over the step (kernels/contact.py); explicit contact needs small steps.
        threads: threads over a batch on a CPU; all cores where it is not given.
        device: "cpu" or "cuda:0", ...
        slip_speed: below this speed [m/s] friction is viscous: a body at rest on a slope creeps slower than this.
        contact_width: half width [m] of the range of distances over which contact sets in.
        edge_radius: blending radius [m] of edges.
        limit_stiffness, limit_damping: of joint limits [N m/rad, N m s/rad; N/m, N s/m].
    """

    def __init__(
        self, scene: Scene, *, timestep: float | None = None, implicit_contact: bool = True, threads: int | None = None,
        device: str = "cpu", slip_speed: float = 5e-3, contact_width: float = 5e-5, edge_radius: float = 2e-4,
        limit_stiffness: float = 5e3, limit_damping: float = 50.0,
    ) -> None:  # fmt: skip
        self.scene, self.device = scene, device
        self.double = torch.device(device).type == "cpu"
        self.timestep = scene.timestep if timestep is None else timestep
        self.options: dict[str, Any] = {
            "timestep": self.timestep, "implicit_contact": implicit_contact, "slip_speed": slip_speed,
            "contact_width": contact_width, "edge_radius": edge_radius, "limit_stiffness": limit_stiffness,
            "limit_damping": limit_damping,
        }  # fmt: skip
        self._layout = make_layout(scene)
        self._leaves = LeafMaker(self._layout, device, self.double)
        shared = {
            "implicit": float(implicit_contact), "slip_speed": slip_speed, "contact_width": contact_width,
            "edge_radius": edge_radius, "limit_stiffness": limit_stiffness, "limit_damping": limit_damping,
            "limit_width": 2e-4,
        }  # fmt: skip
        paced = lambda h, threads: Launcher(self._layout, Constants(h=h, **shared), threads, device)  # noqa: E731
        self._launcher = paced(self.timestep, threads)
        self._finer = cache(lambda k: paced(self.timestep / 2**k, threads) if k else self._launcher)
        self._still = paced(0.0, 1)
        self._launcher.load_ahead(torch.float64 if self.double else torch.float32)

    def rollout(self, params: Params, state: State, setpoints: Tensor, torques: Tensor | None = None, substeps: int = 1) -> State:
        """T control periods of `substeps` steps each.

        Args:
            params: leaves without batch (shared: gradients are summed) or with the batch.
            state: q (*batch, nq), qd (*batch, nv) at the start.
            setpoints: (T, *batch, nv) of the joint springs [rad or m], each held for a period.
            torques: (T, *batch, nv) joint forces on top [N m or N].

        Returns: q (T, *batch, nq) and qd (T, *batch, nv) at the end of each period. What leaves the finite numbers (a thread that
        is wedged at speed) is computed anew in half the steps, twice at most, and with it the whole batch.
        """
        for k in range(1 + HALVINGS):
            q, qd = self._roll(self._finer(k), params, state, setpoints, torques, substeps << k)
            if bool(torch.isfinite(q[-1]).all() and torch.isfinite(qd[-1]).all()):
                return State(q, qd)
        forces = torch.zeros_like(setpoints) if torques is None else torques
        given = Given(self.scene, params, state, setpoints, forces, substeps, self.options)
        raise NonFiniteError(_where_not_finite(q, qd), given)

    def step(self, params: Params, state: State, setpoint: Tensor, torque: Tensor | None = None, substeps: int = 1) -> State:
        """One control period: `rollout` with T = 1, without the time axis."""
        end = self.rollout(params, state, setpoint[None], None if torque is None else torque[None], substeps)
        return State(end.q[0], end.qd[0])

    def accelerations(self, params: Params, state: State, setpoint: Tensor | None = None, torque: Tensor | None = None) -> Tensor:
        """q̈ (*batch, nv) of the equations of motion themselves, in the limit of a short step; no gradient."""
        still = torch.zeros_like(state.qd) if setpoint is None else setpoint
        with torch.no_grad():
            batch, args = self._flat(params, state, still[None], None if torque is None else torque[None])
            return self._still.accelerations(*args).reshape(*batch, self.scene.nv).to(state.q.dtype)

    def link_poses(self, params: Params, q: Tensor) -> Tensor:
        """X_WL (*batch, nl, 4, 4) of every link at q (*batch, nq); differentiable in q, link_p, link_R, joint_p."""
        leaves = {name: getattr(params, name) for name in ("link_p", "link_R", "joint_p")}
        batch = torch.broadcast_shapes(q.shape[:-1], *(batch_of(n, x) for n, x in leaves.items()))
        flat = [flatten(leaves[n], batch, leaves[n].dim() - len(batch_of(n, leaves[n]))) for n in leaves]
        R, p = ForwardKinematics.apply(self._launcher, flatten(q, batch, 1), *flat)
        return lie.pose(R, p).reshape(*batch, *R.shape[1:-2], 4, 4)

    def _roll(
        self, launcher: Launcher, params: Params, state: State, ref: Tensor, tau: Tensor | None, substeps: int
    ) -> tuple[Tensor, Tensor]:
        batch, (q, qd, ref, tau, leaves) = self._flat(params, state, ref, tau)
        ordered = [leaves[name] for name in LEAVES]
        q, qd = Rollout.apply(launcher, substeps, q, qd, ref, tau, leaves["bound"], *ordered)
        q, qd = q.to(state.q.dtype), qd.to(state.q.dtype)
        return q.reshape(len(q), *batch, self.scene.nq), qd.reshape(len(q), *batch, self.scene.nv)

    def _flat(
        self, params: Params, state: State, ref: Tensor, tau: Tensor | None
    ) -> tuple[Sequence[int], tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]]:
        """The batch's shape, and everything with the batch flattened to one axis and shared leaves spread over it."""
        self._check(params, state, ref, tau)
        if self.double:
            state, ref, tau = State(state.q.double(), state.qd.double()), ref.double(), None if tau is None else tau.double()
        leaves = self._leaves(params)
        shapes = {state.q.shape[:-1], state.qd.shape[:-1], ref.shape[1:-1], *leaves.batch()}
        batch = torch.broadcast_shapes(*shapes, *(() if tau is None else (tau.shape[1:-1],)))
        ref = _flatten_timed(ref, batch)
        tau = torch.zeros_like(ref) if tau is None else _flatten_timed(tau, batch)
        return batch, (flatten(state.q, batch, 1), flatten(state.qd, batch, 1), ref, tau, leaves.flat(batch))

    def _check(self, params: Params, state: State, ref: Tensor, tau: Tensor | None) -> None:
        """Refuse what kernels would misread: mixed number types, and arrays of the wrong width."""
        if not params.mass.dtype == state.q.dtype == state.qd.dtype == ref.dtype:
            raise SamrlError(
                f"physics takes one number type: parameters are {params.mass.dtype}, q is {state.q.dtype}, qd is "
                f"{state.qd.dtype}, set-points are {ref.dtype}."
            )
        for name, x, width in (
            ("state.q", state.q, self.scene.nq), ("state.qd", state.qd, self.scene.nv), ("setpoints", ref, self.scene.nv),
            *((("torques", tau, self.scene.nv),) if tau is not None else ()),
        ):  # fmt: skip
            if x.shape[-1] != width:
                raise SamrlError(f"{name} has {x.shape[-1]} numbers an environment; this scene has {width}.")


def _flatten_timed(x: Tensor, batch: Sequence[int]) -> Tensor:
    """(T, *some batch, n) -> (T, E, n), contiguous."""
    missing = len(batch) - (x.dim() - 2)
    x = x.reshape(x.shape[0], *(1,) * missing, *x.shape[1:])
    return x.expand(x.shape[0], *batch, x.shape[-1]).reshape(x.shape[0], math.prod(batch), x.shape[-1]).contiguous()


def _where_not_finite(q: Tensor, qd: Tensor) -> str:
    """A sentence about the first non-finite number of a rollout."""
    good = (torch.isfinite(q).all(-1) & torch.isfinite(qd).all(-1)).reshape(len(q), -1)
    period = int((~good).any(-1).nonzero()[0])
    return (
        f"the rollout left the finite numbers in period {period} of {len(q)}, in {int((~good[period]).sum())} of "
        f"{good.shape[1]} environments, the first being {int((~good[period]).nonzero()[0])}; a shorter time step, or "
        "less stiff springs and contacts, may do."
    )
