"""Steps a second of a seven-joint arm, forward and with its gradient, on one core: the twin beside Newton (Featherstone), MJX,
and MuJoCo C, which has no gradient.

    python3.11 -m venv peers && peers/bin/pip install -c constraints.txt -e . newton==1.8.0 mujoco-mjx==3.17.0 jax==0.10.2
    taskset -c 0 peers/bin/python benchmarks/physics_peers.py

Seven capsules on hinges fall for 100 steps of 2 ms, without contact, limits or damping, which the four treat differently.
Checked first: that all end where the twin does, and that the gradients of the sum of all joints' ends by the initial speeds
agree. Each works in its own precision: Newton and MJX in single, MuJoCo C and the twin's kernels in double. Newton gets a new
solver a step: with one for all, its gradient is wrong after the first. What is compiled is compiled before the clock starts.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import mujoco
import mujoco.mjx
import newton
import numpy as np
import torch
import warp as wp

from samrl.model.physics import Physics
from samrl.model.scene import State, compile_mjcf
from samrl.speed import best

STEPS, DT = 100, 0.002
Starts = tuple[np.ndarray, np.ndarray]  # angles and speeds of the joints (count, 7) [rad, rad/s]
Peer = Callable[[bool], tuple[np.ndarray, np.ndarray]]  # with a gradient or not -> ends and gradient (count, 7)


def arm() -> str:
    axes = ("0 1 0", "1 0 0", "0 0 1")
    links = "".join(
        f'<body name="b{i}" pos="{0.1 * (i > 0)} 0 0"><joint name="j{i}" axis="{axes[i % 3]}" armature=".1"/>'
        '<geom type="capsule" fromto="0 0 0 .1 0 0" size=".02"/>'
        for i in range(7)
    )
    option = f'<option timestep="{DT}"><flag contact="disable" constraint="disable"/></option>'
    return f"<mujoco>{option}<worldbody>{links}{'</body>' * 7}</worldbody></mujoco>"


def twin(starts: Starts) -> Peer:
    scene, params, _ = compile_mjcf(arm())
    physics = Physics(scene, timestep=DT, threads=1)
    q, qd = (torch.tensor(x, dtype=torch.float32) for x in starts)
    torque = torch.zeros(scene.nv)

    def run(back: bool) -> tuple[np.ndarray, np.ndarray]:
        speed = qd.clone().requires_grad_(back)
        end = physics.step(params, State(q, speed), torque, substeps=STEPS).q
        grad = torch.autograd.grad(end.sum(), speed)[0] if back else torch.zeros_like(q)
        return end.detach().numpy(), grad.numpy()

    return run


class Newton:
    """A model and its states for one way of running: for a gradient each step has its own solver and state."""

    def __init__(self, starts: Starts, back: bool) -> None:
        one, all_of_them = newton.ModelBuilder(), newton.ModelBuilder()
        one.add_mjcf(arm(), enable_self_collisions=False)
        all_of_them.replicate(one, len(starts[0]))
        model = all_of_them.finalize(device="cpu", requires_grad=back)
        self.states = [model.state(requires_grad=back) for _ in range(STEPS + 1)]
        newton.eval_fk(model, model.joint_q, model.joint_qd, self.states[0])
        self.states[0].joint_q.assign(starts[0].ravel())
        self.states[0].joint_qd.assign(starts[1].ravel())
        solvers = [newton.solvers.SolverFeatherstone(model, angular_damping=0.0) for _ in range(STEPS if back else 1)]
        self.solvers = solvers if back else solvers * STEPS
        self.control = model.control()

    def roll(self) -> None:
        for solver, a, b in zip(self.solvers, self.states[:-1], self.states[1:], strict=True):
            solver.step(a, b, self.control, None, DT)


def by_newton(starts: Starts) -> Peer:
    ways = {back: Newton(starts, back) for back in (False, True)}

    def run(back: bool) -> tuple[np.ndarray, np.ndarray]:
        way, shape, grad = ways[back], starts[0].shape, np.zeros_like(starts[0])
        if back:
            tape = wp.Tape()
            with tape:
                way.roll()
            end = way.states[-1].joint_q
            tape.backward(grads={end: wp.ones_like(end)})
            grad = way.states[0].joint_qd.grad.numpy().reshape(shape).copy()
            tape.zero()
        else:
            way.roll()
        return way.states[-1].joint_q.numpy().reshape(shape), grad

    return run


def by_mjx(starts: Starts) -> Peer:
    mj = mujoco.MjModel.from_xml_string(arm())
    model, data = mujoco.mjx.put_model(mj), mujoco.mjx.make_data(mj)
    q, qd = (jnp.asarray(x, jnp.float32) for x in starts)

    def end(q: jax.Array, qd: jax.Array) -> jax.Array:
        begin = data.replace(qpos=q, qvel=qd)
        return jax.lax.scan(lambda d, _: (mujoco.mjx.step(model, d), None), begin, None, STEPS)[0].qpos

    forward = jax.jit(jax.vmap(end))
    both = jax.jit(jax.vmap(jax.grad(lambda v, x: end(x, v).sum())))

    def run(back: bool) -> tuple[np.ndarray, np.ndarray]:
        if back:
            return np.zeros_like(starts[0]), np.asarray(both(qd, q))
        return np.asarray(forward(q, qd)), np.zeros_like(starts[0])

    return run


def by_mujoco(starts: Starts) -> Peer:
    mj = mujoco.MjModel.from_xml_string(arm())
    data = mujoco.MjData(mj)

    def run(back: bool) -> tuple[np.ndarray, np.ndarray]:
        ends = np.zeros_like(starts[0])
        for q, qd, end in zip(*starts, ends, strict=True):
            data.qpos[:], data.qvel[:] = q, qd
            mujoco.mj_step(mj, data, STEPS)
            end[:] = data.qpos
        return ends, np.zeros_like(ends)

    return run


PEERS: dict[str, Callable[[Starts], Peer]] = {"MuJoCo C": by_mujoco, "Newton": by_newton, "MJX": by_mjx}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    wp.config.quiet = True
    print("thousands of steps a second, best of 5 to 100; in brackets the twin's over it")
    for count in args.counts:
        rng, repeats = np.random.default_rng(0), max(5, 100 // count)
        starts = (0.5 * rng.standard_normal((count, 7)), 0.5 * rng.standard_normal((count, 7)))
        ours = twin(starts)
        end, grad = ours(False)[0], ours(True)[1]
        rate = {back: 1e-3 * STEPS * count / best(partial(ours, back), repeats) for back in (False, True)}
        print(f"{count:4} x twin:     forward {rate[False]:6.1f}, with gradient {rate[True]:6.1f}", flush=True)
        for name in args.peers:
            run = PEERS[name](starts)
            np.testing.assert_allclose(run(False)[0], end, atol=1e-5, err_msg=name)
            text = []
            for back, what in ((False, "forward"), (True, "with gradient")):
                if back and name == "MuJoCo C":
                    continue
                if back:
                    np.testing.assert_allclose(run(True)[1], grad, atol=1e-4, err_msg=name)
                theirs = 1e-3 * STEPS * count / best(partial(run, back), repeats)
                text.append(f"{what} {theirs:6.1f} ({rate[back] / theirs:.1f} x)")
            print(f"{count:4} x {name + ':':9} {', '.join(text)}", flush=True)


if __name__ == "__main__":
    main()
