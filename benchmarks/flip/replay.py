"""Replay the flip's policy in a world that is not the twin: closed loop, told the true state, at 10 Hz.

    python benchmarks/flip/replay.py flip.pt --world pybullet --count 60 --seed 10000 --strip flip.png

Starts, friction and mass are the task's draws. The strip shows the first episode that succeeds. Simulated."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import mujoco
import numpy as np
import pybullet
import torch
from episodes import CLEAR, EPISODE, FlipEpisodes
from matplotlib import pyplot as plt
from scene import DISC_HALF, DISC_MASS, DISC_RADIUS, PAN, PAN_RADIUS
from train import load

from samrl.core import control, lie
from samrl.core.camera import Camera, viewpoint
from samrl.learn import ppo
from samrl.model.model import Command
from samrl.model.scene import State, Twin
from samrl.sim2real.summary import wilson
from samrl.tasks.spec import SceneSpec
from samrl.tasks.task import Draw
from samrl.worlds.mujoco import MuJoCoEngine
from samrl.worlds.pybullet import PyBulletEngine

WORLDS = ("pybullet", "mujoco")


@dataclass
class Outcome:
    """How an episode went; frames: X_WB of all bodies by name at each step; up: last z of the disc's normal."""

    seed: int
    friction: float
    won: bool = False
    lifted: bool = False
    lost: bool = False
    steps: int = 0
    up: float = 1.0
    frames: list[dict[str, np.ndarray]] = field(default_factory=list)


def drawn(episodes: FlipEpisodes, twin: Twin) -> SceneSpec:
    """The scene with a start's disc, friction and mass."""
    friction, mass = float(twin.params.friction[0, 0]), float(twin.params.mass[0, episodes.flip.cake])
    scene, q = episodes.flip.spec, twin.state.q[0]
    for name in ("pan", "spatula", "cake"):
        body = scene.body(name)
        scene = scene.with_body(name, solids=tuple(replace(s, friction=friction) for s in body.solids))
    inertia = tuple(x * mass / DISC_MASS for x in scene.body("cake").inertia)
    return scene.with_body("cake", p=tuple(q[7:10].tolist()), quat=tuple(q[10:14].tolist()), mass=mass, inertia=inertia)


def make_engine(world: str, scene: SceneSpec, nominal: SceneSpec, q: np.ndarray, seed: int) -> PyBulletEngine | MuJoCoEngine:
    if world == "mujoco":
        return MuJoCoEngine(scene, nominal, q)
    return PyBulletEngine(Draw(scene, q, np.zeros((1, 4, 4)), seed), nominal)


def velocity(engine: PyBulletEngine | MuJoCoEngine) -> tuple[np.ndarray, np.ndarray]:
    """(3), (3) the disc's, in the world's axes [m/s, rad/s]."""
    if isinstance(engine, PyBulletEngine):
        v, w = pybullet.getBaseVelocity(engine.trees["cake"].id, physicsClientId=engine._client)
        return np.array(v), np.array(w)
    v = np.zeros(6)
    body = mujoco.mj_name2id(engine._model, mujoco.mjtObj.mjOBJ_BODY, "cake")
    mujoco.mj_objectVelocity(engine._model, engine._data, mujoco.mjtObj.mjOBJ_XBODY, body, v, 0)
    return v[3:], v[:3]


def episode(world: str, policy: ppo.Policy, episodes: FlipEpisodes, seed: int) -> Outcome:
    """One episode, judged by the world's own state."""
    twin, _ = episodes.flip.sample(1, torch.Generator().manual_seed(seed))
    q_ref, gains, chain = twin.state.q[0, :7].double(), episodes.model.gains, episodes.flip.chain
    engine = make_engine(world, drawn(episodes, twin), episodes.flip.spec, q_ref.numpy(), seed)
    X, out = chain.tool(q_ref), Outcome(seed, float(twin.params.friction[0, 0]))
    try:
        _simulate(engine, q_ref, gains)
        for out.steps in range(EPISODE + 1):
            q, qd = (torch.tensor(x) for x in engine.joints())
            v, w = velocity(engine)
            _judge(out, engine.poses(), v, w)
            if out.won or out.lost or out.steps == EPISODE:
                return out
            _tell(episodes, twin, Command(q_ref[None].float(), X[None].float()), q, qd, out.frames[-1]["cake"], v, w)
            with torch.no_grad():
                action = episodes.action(policy(episodes.features()[0]))[0].double()
            X = control.command(X, chain.tool(q), control.limit_action(action, gains), gains)
            q_ref = control.set_points(chain, q_ref, X, gains)
            _simulate(engine, q_ref, gains)
        return out
    finally:
        engine.close()


def _simulate(engine: PyBulletEngine | MuJoCoEngine, q_ref: torch.Tensor, gains: control.Gains) -> None:
    for _ in range(round(gains.period / 1e-3)):
        q, qd = engine.joints()
        arm, load = engine.weight()
        engine.step(control.impedance(q, qd, q_ref.numpy(), arm + load, gains))


def _judge(out: Outcome, poses: dict[str, np.ndarray], v: np.ndarray, w: np.ndarray) -> None:
    """As `FlipEpisodes.judge`."""
    cake = poses["cake"]
    height, out.up = cake[2, 3] - PAN[2], float(cake[2, 2])
    clearance = height - np.sqrt(max(0.0, 1 - out.up**2)) * DISC_RADIUS - abs(out.up) * DISC_HALF
    out.lifted |= bool(clearance > CLEAR and out.up > 0) and not out.lost
    still = np.linalg.norm(v) < 0.05 and np.linalg.norm(w) < 0.5 and height < 0.007
    inside = np.hypot(*(cake[:2, 3] - PAN[:2])) < PAN_RADIUS
    out.lost |= bool(np.hypot(*(cake[:2, 3] - PAN[:2])) > 0.16 or height < -0.02 or height > 0.4)
    out.won = bool(out.lifted and still and inside and out.up < -np.cos(np.pi / 6) and not out.lost)
    out.frames.append(poses)


def _tell(
    episodes: FlipEpisodes, twin: Twin, command: Command, q: torch.Tensor, qd: torch.Tensor, X_WD: np.ndarray, v: np.ndarray,
    w: np.ndarray,
) -> None:  # fmt: skip
    """Put the world's state into the twin, whose floating bodies have their linear velocity in the world's axes and their
    angular in their own."""
    full, speed = episodes.model.state(q[None]).q.clone(), torch.zeros(1, 13)
    R = torch.tensor(X_WD[:3, :3])
    full[0, 7:10], full[0, 10:14] = torch.tensor(X_WD[:3, 3]).float(), lie.quat_from_matrix(R).float()
    speed[0, :7], speed[0, 7:10], speed[0, 10:13] = qd.float(), torch.tensor(v).float(), (R.T @ torch.tensor(w)).float()
    episodes.twin, episodes.command = Twin(twin.params, State(full, speed)), command


def draw_strip(episodes: FlipEpisodes, frames: list[dict[str, np.ndarray]], path: Path, count: int = 8) -> None:
    """Pictures of an episode, drawn by the twin's renderer with arm, spatula and disc where the world had them."""
    model = episodes.model
    eye = viewpoint(torch.tensor(PAN).double() + torch.tensor([0, 0, 0.06]), *torch.tensor([-1.2, 0.35, 0.65]).double())
    camera = Camera.from_fov(240, 240, 0.7, eye)
    camera = replace(camera, K=camera.K.float(), X_WC=camera.X_WC.float())
    rest = model.physics.link_poses(model.params, model.state(episodes.flip.home[None].float()).q)[0]
    shown = []
    for k in np.linspace(0, len(frames) - 1, count).round().astype(int):
        X = rest.clone()
        for name, pose in frames[k].items():
            if name in model.scene.link_names:
                X[model.scene.link(name)] = torch.tensor(pose).float()
        shown.append(model.renderer.render(model.params, X, camera).color.numpy())
    plt.imsave(path, np.clip(np.concatenate(shown, 1), 0, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", type=Path)
    parser.add_argument("--world", choices=WORLDS, default=WORLDS[0])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="the first; below 10000 is for development")
    parser.add_argument("--strip", type=Path, help="a PNG of the first success")
    given = parser.parse_args()
    torch.set_num_threads(1)
    episodes = FlipEpisodes(1, 0)
    policy, all_ = load(given.policy, episodes), []
    for seed in range(given.seed, given.seed + given.count):
        o = episode(given.world, policy, episodes, seed)
        print(
            f"{seed}: {'flipped' if o.won else 'lifted' if o.lifted else 'failed'} in {o.steps}, friction {o.friction:.2f}",
            flush=True,
        )
        if o.won and given.strip and not any(x.won for x in all_):
            draw_strip(episodes, o.frames, given.strip)
        all_.append(o)
    won = sum(o.won for o in all_)
    low, high = wilson(won, given.count)
    print(f"{given.world}: {won} of {given.count} flipped ({low:.2f}-{high:.2f}), {sum(o.lifted for o in all_)} lifted")


if __name__ == "__main__":
    main()
