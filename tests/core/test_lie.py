"""Axioms of SO(3) and SE(3), and their gradients."""

import math

import pytest
import torch

from samrl.core import lie

G = torch.Generator().manual_seed(0)


def vectors(n: int, angle: float) -> torch.Tensor:
    w = torch.randn(n, 3, generator=G, dtype=torch.float64)
    return w / w.norm(dim=-1, keepdim=True) * angle


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-3, 1.0, 3.0, math.pi - 1e-6])
def test_log_inverts_exp(angle: float) -> None:
    w = vectors(20, angle)
    assert torch.allclose(lie.log_so3(lie.exp_so3(w)), w, atol=1e-8)


def test_exp_is_a_rotation() -> None:
    R = lie.exp_so3(vectors(50, 2.0))
    assert torch.allclose(R @ R.transpose(-1, -2), torch.eye(3, dtype=R.dtype).expand(50, 3, 3), atol=1e-12)
    assert torch.allclose(torch.linalg.det(R), torch.ones(50, dtype=R.dtype))


def test_quaternion_round_trip() -> None:
    R = lie.exp_so3(vectors(50, 2.8))
    assert torch.allclose(lie.matrix_from_quat(lie.quat_from_matrix(R)), R, atol=1e-12)


def test_retract_and_local_are_inverse() -> None:
    X = lie.pose(lie.exp_so3(vectors(10, 1.0)), vectors(10, 0.3))
    d = torch.cat([vectors(10, 0.2), vectors(10, 0.5)], -1)
    assert torch.allclose(lie.local(X, lie.retract(X, d)), d, atol=1e-12)
    assert torch.allclose(lie.inverse(X) @ X, torch.eye(4, dtype=X.dtype).expand(10, 4, 4), atol=1e-12)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.7, 2.5])
def test_gradients(angle: float) -> None:
    w = vectors(3, angle).requires_grad_()
    assert torch.autograd.gradcheck(lie.exp_so3, (w,), atol=1e-6)
    assert torch.autograd.gradcheck(lambda v: lie.log_so3(lie.exp_so3(v)), (w,), atol=1e-6)
