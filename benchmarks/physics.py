"""Steps a second of the twin's physics and of MuJoCo C on the same scene, as a ratio, in one process.

    python benchmarks/physics.py

The scene: Panda, peg and block, far apart and 2 ms a step, contact found by each in its own way. MuJoCo sees a plain box where
the twin sees a block with a hole. The twin also goes back (gradients by state and set-points), which MuJoCo C cannot."""

from __future__ import annotations

import mujoco
import torch

from samrl.learn.expert import random_start
from samrl.model.model import Model
from samrl.sim2real.control_loop import make_model
from samrl.speed import best
from samrl.tasks.mjcf import to_mjcf
from samrl.tasks.peg_insertion import PegInsertion


def rates(model: Model, task: PegInsertion, count: int) -> tuple[float, float]:
    """Environment-steps a second, forward and forward with backward, of `count` environments over a second of time."""
    twin, command = random_start(model, task, count, torch.Generator().manual_seed(0))
    points = command.q_ref.expand(10, *command.q_ref.shape).clone()

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model.physics.rollout(twin.params, twin.state, points, substeps=50).q

    def both() -> None:
        free = points.clone().requires_grad_()
        model.physics.rollout(twin.params, twin.state, free, substeps=50).q.sum().backward()

    return 500 * count / best(forward, 5), 500 * count / best(both, 5)


def main() -> None:
    torch.set_num_threads(1)
    task = PegInsertion()
    model = make_model(task, substeps=50)
    mj = mujoco.MjModel.from_xml_string(to_mjcf(task.scene, timestep=0.002))
    data = mujoco.MjData(mj)
    data.qpos[:] = task.draw(0).q_start
    peer = 500 / best(lambda: [mujoco.mj_step(mj, data) for _ in range(500)], 5)
    print(f"MuJoCo C, 1 environment: {peer / 1e3:.0f}k steps/s")
    for count in (1, 64, 256):
        f, b = rates(model, task, count)
        print(
            f"twin, {count:3} environments: forward {f / 1e3:.0f}k steps/s ({f / peer:.1f} of MuJoCo C), "
            f"forward and backward {b / 1e3:.0f}k ({b / peer:.1f})"
        )


if __name__ == "__main__":
    main()
