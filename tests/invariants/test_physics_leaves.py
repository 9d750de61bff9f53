"""What physics keeps of the parameters that came last must never be what it computes with after they have changed."""

from __future__ import annotations

import torch

from samrl.model.physics import Physics
from samrl.model.scene import Params, State, compile_mjcf

XML = """<mujoco><worldbody><body name="a" pos="0 0 .2"><joint name="j" axis="0 1 0" damping=".1" stiffness="1"/>
  <geom type="capsule" fromto="0 0 0 .2 0 0" size=".02"/></body></worldbody></mujoco>"""
SCENE, PARAMS, _ = compile_mjcf(XML)
START = State(torch.full((1,), 0.3), torch.zeros(1))


def end(physics: Physics, params: Params) -> torch.Tensor:
    return physics.step(params, START, torch.zeros(1), substeps=50).q


def test_parameters_written_in_place_count() -> None:
    for name in ("mass", "damping", "gravity", "link_p"):
        params = Params(**{n: x.clone() for n, x in vars(PARAMS).items()})
        physics = Physics(SCENE)
        before = end(physics, params)
        assert torch.equal(end(physics, params), before)
        getattr(params, name).mul_(1.5)
        fresh = end(Physics(SCENE), params)
        assert torch.equal(end(physics, params), fresh), name
        if name != "link_p":  # where an arm hangs does not change how it swings
            assert not torch.equal(fresh, before), name


def test_other_batches_and_other_parameters_in_turn() -> None:
    physics, heavy = Physics(SCENE), PARAMS.replace(mass=2 * PARAMS.mass)
    many = State(START.q.expand(3, 1), START.qd.expand(3, 1))
    for _ in range(2):
        for params in (PARAMS, heavy):
            alone = end(Physics(SCENE), params)
            assert torch.equal(end(physics, params), alone)
            assert torch.equal(physics.step(params, many, torch.zeros(1), substeps=50).q, alone.expand(3, 1))


def test_gradients_by_parameters_do_not_come_from_what_is_kept() -> None:
    physics, grads = Physics(SCENE), []
    end(physics, PARAMS)
    for _ in range(2):
        mass = PARAMS.mass.clone().requires_grad_()
        grads.append(torch.autograd.grad(end(physics, PARAMS.replace(mass=mass)).sum(), mass)[0])
        end(physics, PARAMS)
    assert torch.equal(*grads) and grads[0].abs().sum() > 0


def test_parameters_kept_in_inference_mode_can_still_be_gone_back_through() -> None:
    physics = Physics(SCENE)
    with torch.inference_mode():
        end(physics, PARAMS)
    speed = START.qd.clone().requires_grad_()
    physics.step(PARAMS, State(START.q, speed), torch.zeros(1), substeps=50).q.sum().backward()
    assert speed.grad is not None and torch.isfinite(speed.grad).all()
