"""How often a run's expert succeeds in a world when it is told the truth: what is left of the gap if seeing were perfect.

    python benchmarks/told.py runs/flip --world mujoco --count 100 --seed 10000

Closed loop at 10 Hz. Poses are the judge's, velocities their differences over a control period. With `--doubt` errors are added
that are like those of looks, half of their variance constant in an episode: without any, a policy that was trained among them can
stand still where it never stood in training. Simulated."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

import torch

from samrl.benches import brain_of
from samrl.core import lie, runs
from samrl.learn.expert import Expert, tell
from samrl.learn.variation import LIKELY, Doubt, mistaken
from samrl.model.scene import State, Twin
from samrl.real2sim.floating import floating
from samrl.real2sim.problem import put
from samrl.sim2real.control_loop import command_of
from samrl.sim2real.evaluate import Witness, as_tensors
from samrl.sim2real.summary import wilson
from samrl.tasks.task import Told
from samrl.worlds import registry as worlds
from samrl.worlds import settings as world_settings


def told(expert: Expert, witness: Witness, observation) -> Twin:
    """The twin as the world is."""
    model = expert.model
    now = as_tensors(witness.truths[-1])
    twin = Twin(model.params, model.state(torch.as_tensor(observation.arm.q), torch.as_tensor(observation.arm.qd)))
    twin = put(model, twin, model.units, torch.stack([now[b] for b in model.updatable]).to(model.dtype))
    qd, before = twin.state.qd.clone(), as_tensors(witness.truths[-2 if len(witness.truths) > 1 else -1])
    for name in floating(model):
        d = lie.local(before[name], now[name]) / model.gains.period
        own = torch.cat([d[:3], now[name][:3, :3].T @ d[3:]])  # a floating body turns about its own axes
        qd[model.scene.coordinates(name)[1]] = own.to(model.dtype)
    return twin.replace(state=State(twin.state.q, qd))


def episode(expert: Expert, world, seed: int, doubt: Doubt) -> tuple[bool, int]:
    """Whether the expert, who is told everything but for errors as `doubt` has them, succeeds, and in how many steps."""
    generator = torch.Generator().manual_seed(seed)
    error = lambda: 0.5**0.5 * doubt.scale() * torch.randn(1, 18, generator=generator)  # noqa: E731
    always = error()
    witness = Witness(world, expert.task)
    observation = witness.reset(seed)
    for step in range(expert.task.horizon):
        with torch.no_grad():
            twin, command = told(expert, witness, observation), command_of(expert.model, observation)
            true = tell(expert.model, expert.task, twin, command)
            batch = Told(*(getattr(true, f.name)[None] for f in fields(Told)))
            action = expert.policy(mistaken(batch, always + error()))[0]
        observation = witness.act(action.double().numpy()).observation
        if witness.success():
            return True, step + 1
    return False, expert.task.horizon


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--world", default="pybullet", choices=worlds.names())
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="the first; below 10000 is for development")
    parser.add_argument("--doubt", action="store_true", help="tell it with errors")
    given = parser.parse_args()
    torch.set_num_threads(1)
    expert, won = brain_of(runs.open_run(given.run)).expert, 0
    with torch.no_grad():
        world = worlds.make(given.world, expert.task, world_settings.load("nominal"))
    for i, seed in enumerate(range(given.seed, given.seed + given.count)):
        success, steps = episode(expert, world, seed, LIKELY if given.doubt else Doubt())
        won += success
        print(f"{seed}: {'success' if success else 'failure'} in {steps}; {won} of {i + 1}", flush=True)
    low, high = wilson(won, given.count)
    print(
        f"{given.world}, {'told with errors' if given.doubt else 'told the truth'}: {won} of {given.count} ({low:.2f}-{high:.2f})"
    )


if __name__ == "__main__":
    main()
