"""Motion of a scene from sample to sample, more exact than the engine's steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samrl.model.physics.physics import Physics
from samrl.model.scene import BALL, FREE, Params, Scene, State


class Motion:
    """The map of a state over one period.

    The engine's semi-implicit Euler is of first order: its error over a second of a pendulum is as large as what is to be
    identified. Twice the state after steps of h less that after steps of 2h is of second order (Richardson 1911), and its
    gradient too. That takes smooth motion: where bodies touch, steps are taken as they are, but that floating bodies leave
    behind a half step of gravity (leapfrog: velocities belong to the middles of steps), with which free fall is exact.

    Args:
        period: [s] of a sample; substep: the longest h [s].
        smooth: extrapolate as above.
        options: of Physics.
    """

    def __init__(self, scene: Scene, *, period: float, substep: float, smooth: bool, **options: Any) -> None:
        self.scene, self.period = scene, period
        doubles = max(1, math.ceil(period / (2 if smooth else 1) / substep - 1e-6))
        self.substeps = 2 * doubles if smooth else doubles
        self._steps = Physics(scene, timestep=period / self.substeps, **options)
        self._doubles = Physics(scene, timestep=period / doubles, **options) if smooth else None
        self._kick = self._half_step()
        self._turns = [int(scene.q_adr[i]) + (3 if k == FREE else 0) for i, k in enumerate(scene.joint_type) if k in (BALL, FREE)]

    def step(self, params: Params, state: State) -> State:
        """The state (*batch) a period later. Raises NonFiniteError."""
        rest = torch.as_tensor(self.scene.rest, dtype=state.q.dtype).expand(*state.qd.shape)
        if self._doubles is None:
            return self._kicked(
                params, self._steps.step(params, self._kicked(params, state, -1), rest, substeps=self.substeps), 1
            )
        one = self._steps.step(params, state, rest, substeps=self.substeps)
        two = self._doubles.step(params, state, rest, substeps=self.substeps // 2)
        return State(self._unit(2 * one.q - two.q), 2 * one.qd - two.qd)

    def roll(self, params: Params, state: State, periods: int) -> State:
        """q (T, *batch, nq) and q̇ (T, *batch, nv) after each of T periods."""
        if self._doubles is None:
            rest = torch.as_tensor(self.scene.rest, dtype=state.q.dtype).expand(periods, *state.qd.shape)
            start = self._kicked(params, state, -1)
            return self._kicked(params, self._steps.rollout(params, start, rest, substeps=self.substeps), 1)
        states = []
        for _ in range(periods):
            state = self.step(params, state)
            states.append(state)
        return State(torch.stack([s.q for s in states]), torch.stack([s.qd for s in states]))

    def _half_step(self) -> np.ndarray:
        """(nv, 3) what half a step of gravity [m/s²] adds to q̇ of bodies that float."""
        out = np.zeros((self.scene.nv, 3))
        for i in np.nonzero(np.asarray(self.scene.joint_type) == FREE)[0]:
            v = int(self.scene.v_adr[i])
            out[v : v + 3] = np.eye(3) * (1 - float(self.scene.gravcomp[i])) * self._steps.timestep / 2
        return out

    def _kicked(self, params: Params, state: State, sign: int) -> State:
        """The state with half a step of gravity added to velocities, or taken from them."""
        if not self._kick.any():
            return state
        return State(state.q, state.qd + sign * (params.gravity @ state.qd.new_tensor(self._kick).T))

    def _unit(self, q: Tensor) -> Tensor:
        """q with quaternions of length 1."""
        for a in self._turns:
            quat = q[..., a : a + 4]
            q = torch.cat([q[..., :a], quat / quat.norm(dim=-1, keepdim=True), q[..., a + 4 :]], -1)
        return q

    def link_poses(self, params: Params, q: Tensor) -> Tensor:
        """X_WL (*batch, nl, 4, 4) of the links."""
        return self._steps.link_poses(params, q)
