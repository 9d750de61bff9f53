"""What physics keeps of the parameters that came last must not be what it computes with after they have changed (but by writes
around autograd, of which it cannot know)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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


def test_a_first_call_in_inference_mode_leaves_gradients_to_later_ones() -> None:
    ball = '<body name="b" pos="0 0 .049"><freejoint/><geom name="ball" size=".05"/></body><geom type="plane" size="1 1 1"/>'
    scene, params, _ = compile_mjcf(f"<mujoco><worldbody>{ball}</worldbody></mujoco>")
    physics, state = Physics(scene), State(torch.tensor([0.0, 0, 0.049, 1, 0, 0, 0]), torch.zeros(6))
    with torch.inference_mode():
        physics.step(params, state, torch.zeros(6), substeps=5)
    size = params.geom_size.clone().requires_grad_()
    physics.step(params.replace(geom_size=size), state, torch.zeros(6), substeps=5).q.sum().backward()
    assert size.grad is not None and size.grad.abs().sum() > 0


def test_threads_may_come_with_batches_of_their_own() -> None:
    physics = Physics(SCENE)

    def run(size: int) -> torch.Tensor:
        state = State(START.q.expand(size, 1), START.qd.expand(size, 1))
        return physics.step(PARAMS, state, torch.zeros(1), substeps=5).q

    with ThreadPoolExecutor(6) as pool:
        for got, size in zip(pool.map(run, list(range(1, 12)) * 20), list(range(1, 12)) * 20, strict=True):
            assert got.shape == (size, 1)
