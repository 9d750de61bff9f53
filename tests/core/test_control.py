"""The control law: limits, leads, and set-points that reach the command."""

import math

import numpy as np
import torch

from samrl.core import control, lie
from samrl.tasks.peg_insertion import PegInsertion
from samrl.tasks.spec import chain_of

GAINS = control.gains()
TASK = PegInsertion()
CHAIN = chain_of(TASK.scene, TASK.scene.actor)


def test_actions_are_shortened_not_clipped_by_axis() -> None:
    a = torch.tensor([0.3, 0.4, 0.0, 0.0, 0.0, 1.0])
    limited = control.limit_action(a, GAINS)
    assert math.isclose(float(limited[:3].norm()), 0.010, rel_tol=1e-5)
    assert math.isclose(float(limited[3:].norm()), math.radians(3), rel_tol=1e-5)
    assert math.isclose(float(limited[0] / limited[1]), 0.75, rel_tol=1e-5)
    small = torch.tensor([0.001, 0.0, 0.0, 0.01, 0.0, 0.0])
    assert torch.allclose(control.limit_action(small, GAINS), small)


def test_command_stays_near_the_measured_pose() -> None:
    X = CHAIN.tool(CHAIN.home)
    command = X
    push = torch.tensor([0.0, 0.0, -0.01, 0.05, 0.0, 0.0], dtype=torch.float64)
    for _ in range(10):
        command = control.command(command, X, push, GAINS)
    lead = lie.local(X, command)
    assert math.isclose(float(lead[:3].norm()), 0.030, rel_tol=1e-6)
    assert math.isclose(float(lead[3:].norm()), math.radians(10), rel_tol=1e-6)


def test_set_points_follow_the_command() -> None:
    q, X = CHAIN.home, CHAIN.tool(CHAIN.home)
    step = torch.tensor([0.006, -0.004, 0.003, 0.02, 0.01, -0.02], dtype=torch.float64)
    for _ in range(6):
        X = control.command(X, X, step, GAINS)
        q = control.set_points(CHAIN, q, X, GAINS)
    e = lie.local(CHAIN.tool(q), X)
    assert float(e[:3].norm()) < 2e-4
    assert float(e[3:].norm()) < 1e-3


def test_impedance_is_capped() -> None:
    q = CHAIN.home.numpy()
    torque = control.impedance(q, np.zeros(7), q + 1.0, np.zeros(7), GAINS)
    assert np.all(np.abs(torque) <= np.asarray(GAINS.torque_limit))
    assert np.allclose(control.impedance(q, np.zeros(7), q, np.full(7, 0.5), GAINS), 0.5)
