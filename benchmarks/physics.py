"""Steps a second of the twin's physics, forward and with its gradient, on one core, beside MuJoCo C on the same scene (which has
no gradient), as ratios in one process.

    taskset -c 0 python benchmarks/physics.py

task: Panda, peg and block of Peg-Insertion, far apart; MuJoCo sees a plain box where the twin sees a block with a hole.
arm: seven hinges under impedance press a sole with eight balls on a table; it leans, and two of them touch at the end.
chain: thirty capsules on ball joints fall freely (90 degrees of freedom).
thread: a gripped thread of thirty links on ball joints lies on the floor (93 degrees of freedom), with a contact at each.
Each finds its own contacts; their number at the end is printed, and how far apart the last links then are: nothing where nothing
touches, up to a millimetre where contact is compliant in two ways. Steps are 2 ms, of the thread 1 ms."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import mujoco
import numpy as np
import torch
from torch import Tensor

from samrl.learn.expert import random_start
from samrl.model.physics import Physics
from samrl.model.scene import Params, State, compile_mjcf
from samrl.sim2real.control_loop import make_model
from samrl.speed import best
from samrl.tasks.mjcf import to_mjcf
from samrl.tasks.peg_insertion import PegInsertion

STEPS = 100
Problem = tuple[mujoco.MjModel, Physics, Params, Tensor, Tensor]  # with the starting angles and the set-points (1, ·)


def mjcf(timestep: float, bodies: str) -> str:
    return (
        f'<mujoco><compiler angle="radian"/><option timestep="{timestep}" cone="elliptic"/>'
        f'<default><geom condim="3"/></default><worldbody>{bodies}</worldbody></mujoco>'
    )


def problem(xml: str, q: Tensor | None = None) -> Problem:
    """The scene for both, from its reference, springs pulling to where they begin."""
    scene, params, _ = compile_mjcf(xml)
    q = torch.tensor(scene.q_ref).float()[None] if q is None else q
    return mujoco.MjModel.from_xml_string(xml), Physics(scene, threads=1), params, q, torch.zeros(1, scene.nv)


def task() -> Problem:
    spec = PegInsertion()
    model = make_model(spec)
    xml = to_mjcf(spec.scene, timestep=model.physics.timestep)
    twin, command = random_start(model, spec, 1, torch.Generator().manual_seed(0))
    physics = Physics(model.scene, timestep=model.physics.timestep, threads=1)
    points = torch.zeros(1, model.scene.nv)
    points[:, : command.q_ref.shape[-1]] = command.q_ref
    mj = mujoco.MjModel.from_xml_string(xml)
    n = len(model.gains.stiffness)
    mj.jnt_stiffness[:n], mj.dof_damping[:n] = model.gains.stiffness, model.params.damping[:n].numpy()
    mj.qpos_spring[:] = points[0].numpy()
    return mj, physics, twin.params, twin.state.q, points


def arm() -> Problem:
    links = ""
    for i in range(7):
        links += f"""<body pos="{0.1 * (i > 0)} 0 0" gravcomp="1">
          <joint axis="{("0 1 0", "1 0 0", "0 0 1")[i % 3]}" stiffness="300" damping="20" armature=".1"/>
          <geom type="capsule" fromto="0 0 0 .1 0 0" size=".02" mass=".5" contype="0" conaffinity="0"/>"""
    balls = [(0.1 + x, y, -0.06) for x in (-0.03, -0.01, 0.01, 0.03) for y in (-0.02, 0.02)]
    sole = "".join(f'<geom type="sphere" size=".01" pos="{x} {y} {z}" mass=".02"/>' for x, y, z in balls)
    table = '<geom type="box" size="1 1 .1" pos="0 0 -.1702"/>'
    mj, physics, params, q, points = problem(mjcf(0.002, links + sole + "</body>" * 7 + table))
    points[0, 0] = 0.01  # presses
    mj.qpos_spring[0] = 0.01
    return mj, physics, params, q, points


def chain() -> Problem:
    link = (
        '<joint type="ball" damping=".01"/><geom type="capsule" fromto="0 0 0 .05 0 0" size=".01" contype="0" conaffinity="0"/>'
    )
    return problem(mjcf(0.002, "".join(f'<body pos="{0.05 * (i > 0)} 0 0">{link}' for i in range(30)) + "</body>" * 30))


def thread() -> Problem:
    hand = "".join(f'<joint type="slide" axis="{a}" stiffness="20" damping=".5"/>' for a in ("1 0 0", "0 1 0", "0 0 1"))
    joint = '<joint type="ball" stiffness="1e-4" damping="4e-6"/>'
    link = joint + '<geom type="sphere" pos=".01 0 0" size=".001" mass="3.9e-5" contype="2" conaffinity="1"/>'
    text = f'<body pos="0 0 .001">{hand}<geom type="sphere" size=".004" mass=".02" contype="0" conaffinity="0" pos="0 0 .01"/>'
    text += "".join(f'<body pos="{0.01 * (i > 0)} 0 0">{link}' for i in range(30)) + "</body>" * 31
    return problem(mjcf(0.001, '<geom type="plane" size="1 1 .1" conaffinity="2"/>' + text))


SCENES: dict[str, Callable[[], Problem]] = {f.__name__: f for f in (task, arm, chain, thread)}


def rates(given: Problem, count: int) -> tuple[float, float, Tensor]:
    """Steps a second of the twin, forward and with the gradient by the set-points, and where it ends."""
    _, physics, params, q, points = given
    state = State(*(x.expand(count, -1).contiguous() for x in (q, torch.zeros_like(points))))
    points = points.expand(count, -1).contiguous()

    def run(back: bool) -> Tensor:
        free = points.clone().requires_grad_(back)
        end = physics.step(params, state, free, substeps=STEPS).q
        if back:
            end.sum().backward()
        return end.detach()

    forward, both = (STEPS * count / best(partial(run, back), max(3, 64 // count)) for back in (False, True))
    return forward, both, run(False)


def beside(given: Problem, end: Tensor) -> tuple[float, str]:
    """Steps a second of MuJoCo C, and a sentence about where the two end."""
    mj, physics, params, q, _ = given
    data = mujoco.MjData(mj)

    def run() -> None:
        mujoco.mj_resetData(mj, data)
        data.qpos[:] = q[0].numpy()
        mujoco.mj_step(mj, data, STEPS)

    rate = STEPS / best(run, 20)
    mujoco.mj_forward(mj, data)
    off = np.abs(physics.link_poses(params, end[:1])[0, -1, :3, 3].numpy() - data.xpos[-1]).max()
    return rate, f"{data.ncon} contacts, last links {1e3 * off:.3f} mm apart"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="+", default=list(SCENES), choices=list(SCENES))
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 32, 256])
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.scenes:
        given = SCENES[name]()
        for i, count in enumerate(args.counts):
            forward, both, end = rates(given, count)
            if i == 0:
                peer, where = beside(given, end)
                print(f"{name}: MuJoCo C {1e-3 * peer:.1f}k steps/s, {where}")
            print(
                f"  {count:4} x: forward {1e-3 * forward:6.1f}k ({forward / peer:.1f} x), with gradient {1e-3 * both:6.1f}k",
                flush=True,
            )


if __name__ == "__main__":
    main()
