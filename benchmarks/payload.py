"""Mass in the hand and friction from motion between looks: hidden in a world within half of what the twin believes, found from
joint positions and commands.

    python benchmarks/payload.py --world pybullet --motion rub --count 20 --seed 10000

Two motions: `rub` presses the peg on the block's top beside the hole and drags it there and back, `expert` inserts it by the
policy that is trained through the twin (first, in some minutes; `--expert FILE` keeps its weights). Looks are stood in for by
true poses with normal errors (`--off`). Two of three control steps are fitted; the twin's prediction of the third is compared,
before and after, in joint positions and at the peg's nominal tip, for steps in the air and for those that end near the block.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from samrl.core import lie
from samrl.learn.expert import Expert, TrainSettings, train
from samrl.model.placement import set_body_pose
from samrl.model.scene import Twin
from samrl.real2sim.between_looks import BetweenLooks, Record, missed
from samrl.sim2real.control_loop import command_of, make_model
from samrl.sim2real.summary import wilson
from samrl.tasks import registry as tasks
from samrl.tasks.spec import pose_of
from samrl.worlds import registry, settings
from samrl.worlds.settings import Hidden
from samrl.worlds.simulated import hide

SHARE = 0.5
ASKED = ("masses:peg", "friction")
STROKE = (0.026, -0.022, -0.006), (0.026, 0.022, -0.006)
RUB = (0.026, -0.022, 0.03), *STROKE, *STROKE, (0.026, 0.022, 0.03)  # there, back, and there
STEP = 0.008  # of a rub [m]


class Rubs:
    """Actions along RUB, points of the commanded tip in the block's axes, heights over its top."""

    def __init__(self, X_WB: np.ndarray, tip: np.ndarray, top: float) -> None:
        self.goals, self.tip = [X_WB[:3, 3] + X_WB[:3, :3] @ (x, y, z + top) for x, y, z in RUB], tip

    def __call__(self, X: np.ndarray) -> np.ndarray | None:
        while self.goals:
            way = self.goals[0] - X[:3, :3] @ self.tip - X[:3, 3]
            if (far := np.linalg.norm(way)) > 1e-3:
                return np.append(way * min(1.0, STEP / far), np.zeros(3))
            self.goals.pop(0)
        return None


def expert_of(model, task, path: Path | None) -> Expert:
    expert = Expert(model, task, 0)
    if path and path.exists():
        expert.policy.load_state_dict(torch.load(path, weights_only=True))
    else:
        train(expert, TrainSettings(iterations=200), 0)
        if path:
            torch.save(expert.policy.state_dict(), path)
    return expert


def believed(model, scene, off: tuple[float, float], rng: np.random.Generator):
    """The twin's parameters after looks that are so far off [m, rad]."""
    twin = Twin(model.params, model.state(torch.as_tensor(model.scene.q_ref[:7])))
    for body in model.updatable:
        d = torch.as_tensor(np.repeat(off, 3) * rng.normal(size=6))
        X = lie.retract(torch.as_tensor(pose_of(scene.body(body).p, scene.body(body).quat)), d)
        twin = set_body_pose(model.scene, twin, body, X.to(model.dtype))
    return twin.params


def episode(world, model, task, seed: int, a, expert: Expert | None) -> dict:
    observation = world.reset(seed)
    scene, judge, record, near = task.draw(seed).scene, world.judge(), Record(), []
    params = believed(model, scene, a.off, np.random.default_rng([seed, 7]))
    X_WB = model.poses(Twin(params, model.state(observation.arm.q)))["block"].double().numpy()
    rubs = Rubs(X_WB, task.tip().double().numpy(), scene.body("block").solids[0].size[2])
    for _ in range(task.horizon):
        if expert:
            twin = Twin(params, model.state(observation.arm.q, observation.arm.qd))
            with torch.no_grad():
                action = expert.act(twin, command_of(model, observation)).double().numpy()
        elif (action := rubs(observation.arm.X_WE_command)) is None:
            break
        transition = world.act(action)
        record.add(observation, transition.action, transition.observation)
        observation = transition.observation
        near.append(float(judge.measures()["depth"]) > -0.002)
    steps, k = record.steps(), torch.arange(len(near))
    fit, later = k[k % 3 != 2], k[k % 3 == 2]
    fitter = BetweenLooks(model, task.physics(), ASKED, {"block": a.off})
    found, air = fitter.fit(params, steps.of(fit)), ~torch.tensor(near)[later]
    tip = lambda q: model.chain.to(torch.float64).tool(q) @ torch.cat([task.tip().double(), torch.ones(1).double()])  # noqa: E731
    errors = []
    for p in (params, found.params):
        r, after = missed(model, p, steps.of(later)), steps.of(later).after
        errors.append((r.norm(dim=1), (tip(after + r) - tip(after)).norm(dim=1)))
    hidden = hide(task.scene, world.settings.hidden, seed).body("peg")
    nominal = task.scene.body("peg")
    truth = (hidden.mass / nominal.mass, hidden.solids[0].friction / nominal.solids[0].friction)
    return {"found": found, "truth": truth, "errors": errors, "air": air, "won": judge.success()}


def line(row: dict, i: int) -> str:
    factor, low, high = row["found"].factors[ASKED[i]]
    return f"{ASKED[i]} {row['truth'][i]:.3f} in {factor:.3f} ({low:.3f}-{high:.3f}), told {row['found'].told[ASKED[i]]:.2f}"


def interval(x: list[float]) -> str:
    """Median and its 95 % interval by order statistics of 2000 bootstraps."""
    x_, rng = np.array(x), np.random.default_rng(0)
    low, high = np.quantile(np.median(rng.choice(x_, (2000, len(x_))), 1), [0.025, 0.975])
    return f"{np.median(x_):.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default=registry.default()[0], choices=registry.names())
    parser.add_argument("--motion", default="rub", choices=("rub", "expert"))
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=10000, help="the first; below 10000 is for development")
    parser.add_argument("--off", type=float, nargs=2, default=(0.0005, 0.0087), help="deviation of a look [m] [rad]")
    parser.add_argument("--expert", type=Path, help="file of the expert's weights, made if it is not there")
    a = parser.parse_args()
    a.off = tuple(a.off)
    torch.set_num_threads(1)
    task = tasks.make("peg-insertion")
    model = make_model(task)
    expert = expert_of(model, task, a.expert) if a.motion == "expert" else None
    world = registry.make(a.world, task, replace(settings.load("nominal"), hidden=Hidden(SHARE, SHARE)))
    rows = []
    for seed in range(a.seed, a.seed + a.count):
        rows.append(row := episode(world, model, task, seed, a, expert))
        print(f"{seed}: {'; '.join(line(row, i) for i in range(len(ASKED)))}", flush=True)
    world.close()
    for i, word in enumerate(ASKED):
        held = [r["found"].factors[word][1] <= r["truth"][i] <= r["found"].factors[word][2] for r in rows]
        low, high = wilson(sum(held), len(held))
        off = [abs(np.log(r["found"].factors[word][0] / r["truth"][i])) for r in rows]
        before = [abs(np.log(r["truth"][i])) for r in rows]
        told = interval([r["found"].told[word] for r in rows])
        print(f"{word}: 90 % interval held {sum(held)} of {len(held)} ({low:.2f}-{high:.2f})", end=", ")
        print(f"log error {interval(before)} -> {interval(off)}, told {told}")
    for name, which in (("all", lambda r: torch.ones_like(r["air"])), ("air", lambda r: r["air"]), ("near", lambda r: ~r["air"])):
        for n, (unit, scale) in enumerate((("joints, mrad", 1e3 / 7**0.5), ("tip, mm", 1e3))):
            sizes = [[float(e[n][which(r)].square().mean().sqrt()) * scale for e in r["errors"]] for r in rows if which(r).any()]
            before, after = zip(*sizes, strict=True)
            ratio = [b / c for c, b in sizes]
            print(f"prediction, {name} ({unit}): {interval(before)} -> {interval(after)}, ratio {interval(ratio)}")


if __name__ == "__main__":
    main()
