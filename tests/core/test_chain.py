"""The serial arm against finite differences and against MuJoCo."""

import mujoco
import numpy as np
import torch

from samrl.core import lie
from samrl.tasks.mjcf import to_mjcf
from samrl.tasks.peg_insertion import PegInsertion
from samrl.tasks.spec import chain_of

TASK = PegInsertion()
ACTOR = chain_of(TASK.scene, TASK.scene.actor)
CARRIER = chain_of(TASK.scene, TASK.scene.carrier)


def random_q(chain, n: int, seed: int = 0) -> torch.Tensor:
    u = torch.rand(n, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return chain.limit[:, 0] + (0.2 + 0.6 * u) * (chain.limit[:, 1] - chain.limit[:, 0])


def test_forward_kinematics_is_mujocos() -> None:
    model = mujoco.MjModel.from_xml_string(to_mjcf(TASK.scene))
    data = mujoco.MjData(model)
    for q in random_q(ACTOR, 5):
        data.qpos[:] = q.numpy()
        mujoco.mj_kinematics(model, data)
        hand = data.body("panda_hand")
        X = ACTOR.tool(q).numpy()
        tool = hand.xpos + hand.xmat.reshape(3, 3) @ [0, 0, 0.1034]
        assert np.allclose(X[:3, 3], tool, atol=1e-9)
        assert np.allclose(X[:3, :3], hand.xmat.reshape(3, 3), atol=1e-9)


def test_jacobian_is_the_derivative() -> None:
    for chain in (ACTOR, CARRIER):
        q = random_q(chain, 1)[0]
        J = chain.jacobian(chain.links(q))
        for k in range(7):
            e = torch.zeros(7, dtype=q.dtype)
            e[k] = 1e-6
            numeric = lie.local(chain.tool(q - e), chain.tool(q + e)) / 2e-6
            assert torch.allclose(J[:, k], numeric, atol=1e-6)


def test_inverse_kinematics_finds_reachable_poses() -> None:
    for chain in (ACTOR, CARRIER):
        q = random_q(chain, 40, seed=3)
        near = q + 0.2 * torch.randn(40, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        _, p, r = chain.solve(chain.tool(q), near.clamp(chain.limit[:, 0], chain.limit[:, 1]))
        assert float(((p < 1e-4) & (r < 1e-3)).double().mean()) >= 0.9


def test_inverse_kinematics_ends_where_it_has_arrived(monkeypatch) -> None:
    q = random_q(CARRIER, 3)
    steps: list[int] = []
    step = type(CARRIER)._step
    monkeypatch.setattr(type(CARRIER), "_step", lambda *a, **k: (steps.append(1), step(*a, **k))[1])
    assert torch.equal(CARRIER.solve(CARRIER.tool(q), q)[0], q) and not steps
    _, p, r = CARRIER.solve(CARRIER.tool(q), q + 0.05)
    assert 0 < len(steps) < 20 and float(p.max()) < 1e-9 and float(r.max()) < 1e-9


def test_step_is_differentiable() -> None:
    q = random_q(ACTOR, 1).requires_grad_()
    X = ACTOR.tool(q.detach() + 0.01)
    assert torch.autograd.gradcheck(lambda q: ACTOR.step_towards(q, X), (q,), atol=1e-6)
