"""Open-loop trajectories found in 𝓜 by gradients, replayed in a world: no policy, no images, no estimate; the twin knows the
scene, the world's physics is its own.

    python benchmarks/open_loop.py needle-threading --count 12 --seed 0 --world pybullet --strip strip.png
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch
from matplotlib import pyplot as plt

from samrl.core.camera import Camera, viewpoint
from samrl.learn.expert import optimize_trajectories
from samrl.model.placement import set_body_pose
from samrl.model.scene import Twin
from samrl.sim2real.control_loop import make_model
from samrl.sim2real.summary import wilson
from samrl.tasks.needle_threading import NeedleThreading
from samrl.tasks.spec import pose_of
from samrl.worlds import registry, settings
from samrl.worlds.simulated import carrier_poses

TASKS = {"needle-threading": NeedleThreading}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="the first; below 10000 is for development")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--world", default=registry.default()[0])
    parser.add_argument("--strip", help="a PNG of the first episode, twin above world")
    a = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS[a.task]()
    seeds = range(a.seed, a.seed + a.count)
    draws = [task.draw(seed) for seed in seeds]
    model = make_model(task)
    twin = truth(model, draws)
    command = model.at_rest(twin.state)
    with torch.no_grad():
        for _ in range(10):  # the thread sags
            twin, command = model.step(twin, command, torch.zeros(a.count, 6))
    began = time.perf_counter()
    actions, _, done = optimize_trajectories(model, task, twin, command, steps=a.steps, iterations=a.iterations)
    print(f"found in the twin, {a.iterations} iterations, {time.perf_counter() - began:.0f} s: {line(done.tolist())}")
    world = registry.make(a.world, task, settings.load("nominal"))
    won, frames = [], []
    for i, seed in enumerate(seeds):
        camera = side_view(task) if a.strip and i == 0 else None
        won.append(replay(world, seed, actions[:, i].double().numpy(), frames, camera))
    print(f"replayed in {a.world}: {line(won)}; failures {[s for s, w in zip(seeds, won, strict=True) if not w]}")
    if a.strip:
        shown = renders(model, twin, command, actions, side_view(task))
        picture([shown, frames], a.strip)


def line(won: list[bool]) -> str:
    low, high = wilson(sum(won), len(won))
    return f"{sum(won)} of {len(won)} ({low:.2f}-{high:.2f})"


def truth(model, draws) -> Twin:
    """The twin with the poses of these draws; masses, stiffness and friction stay its own."""
    twin = Twin(model.params, model.state(torch.tensor(np.array([d.q_start for d in draws]))))
    for body in draws[0].scene.bodies:
        if body.name in model.updatable:
            X = torch.stack([pose_of(d.scene.body(body.name).p, d.scene.body(body.name).quat) for d in draws])
            twin = set_body_pose(model.scene, twin, body.name, X.to(model.dtype))
    return twin


def replay(world, seed: int, actions: np.ndarray, frames: list, camera: Camera | None) -> bool:
    world.reset(seed)
    judge, won = world.judge(), False
    for k, action in enumerate(actions):
        world.act(action)
        won |= judge.success()
        if camera is not None and k % 4 == 1:
            frames.append(draw(world, camera))
    return won


def draw(world, camera: Camera) -> np.ndarray:
    """The world as a camera of nobody's would see it."""
    carrier = carrier_poses(world.task.scene, world._camera_arm.q)
    world._renderer.place({**world._running().poses(), **carrier})
    w = camera.width
    return world._renderer.render(camera.K.numpy(), camera.X_WC.numpy(), 0, 0, w, w, 0.03, 3.0).color


def side_view(task) -> Camera:
    angle = torch.tensor([0.6, 0.35, 0.30], dtype=torch.float64)
    return Camera.from_fov(240, 240, 0.7, viewpoint(task.look_at(), *angle))


def renders(model, twin, command, actions, camera: Camera) -> list[np.ndarray]:
    camera, out = replace(camera, K=camera.K.float(), X_WC=camera.X_WC.float()), []
    with torch.no_grad():
        for k, action in enumerate(actions):
            twin, command = model.step(twin, command, action)
            if k % 4 == 1:
                params = replace(twin.params, **{n: getattr(twin.params, n)[0] for n in ("link_p", "link_R")})
                image = model.renderer.render(params, model.link_poses(twin)[0], camera)
                out.append(image.color.numpy())
    return out


def picture(rows: list[list[np.ndarray]], path: str) -> None:
    image = np.concatenate([np.concatenate(row, 1) for row in rows], 0)
    plt.imsave(path, np.clip(image if image.max() <= 1.01 else image / 255.0, 0, 1))


if __name__ == "__main__":
    main()
