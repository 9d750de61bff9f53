"""What the twin takes of memory: a long rollout of many arms, and ten thousand steps of an optimization."""

import gc
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from samrl.core import lie
from samrl.core.camera import Camera, look_at
from samrl.model.physics import Physics
from samrl.model.render import LooseSolid, Renderer, loose_scene
from samrl.model.scene import BOX, State, compile_mjcf

sys.path.append(str(Path(__file__).parents[1] / "gradients"))
from scenes import arm

PENDULUM = """<mujoco><worldbody>
  <body><joint axis="0 1 0"/><geom type="capsule" fromto="0 0 0 .5 0 0" size=".02"/></body>
</worldbody></mujoco>"""


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def long_rollout() -> None:
    """A second's thousand steps of 256 arms, forward and back; prints by how many bytes the process has grown at most."""
    scene, params, _ = compile_mjcf(arm())
    start, physics = State(torch.zeros(256, 7), torch.zeros(256, 7)), Physics(scene)
    points = torch.zeros(20, 256, 7, requires_grad=True)
    before = resident()
    physics.rollout(params, start, points, substeps=50).q.sum().backward()
    assert points.grad is not None and points.grad.any()
    print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def test_a_thousand_steps_of_256_arms_take_less_than_a_gigabyte() -> None:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1e9


@pytest.mark.whole
def test_ten_thousand_steps_leave_nothing_behind() -> None:
    scene, params, _ = compile_mjcf(PENDULUM)
    physics, start = Physics(scene, threads=1), State(torch.zeros(1, 1), torch.zeros(1, 1))
    loose, look = loose_scene({"box": [LooseSolid(BOX, (0.05, 0.04, 0.03))]})
    renderer, X = Renderer(loose, masks=("box",), threads=1), torch.eye(4).repeat(2, 1, 1)
    camera = Camera.from_fov(32, 32, 0.4, look_at(torch.tensor([0.3, 0.2, 0.3]), torch.zeros(3)))
    x = torch.zeros(7, requires_grad=True)
    adam, used = torch.optim.Adam([x], 1e-3), []
    for i in range(10_000):
        q = physics.rollout(params, start, x[6].expand(1, 1, 1), substeps=2).q
        image = renderer.render(look, torch.stack([X[0], lie.retract(X[1], x[:6])]), camera)
        adam.zero_grad()
        (q.square().sum() + image.color.sum() + image.masks["box"].sum()).backward()
        adam.step()
        if i in (999, 9_999):
            gc.collect()
            used.append(resident())
    assert used[1] - used[0] < 10e6


if __name__ == "__main__":
    long_rollout()
