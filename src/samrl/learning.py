"""Stage 2, learn: expert → what a look is worth → actor → returns → Q → what the choice of a view is worth. Each part leaves a
file and is left alone once that is there; each piece of work seeds itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samrl.benches import ACTOR, EXPERT, FIXED, SENSING, STUDY, Brain, Q, best_views, brain_of, save, twin_world, untrained
from samrl.core import pool, runs
from samrl.core.progress import track
from samrl.core.runs import LEARN, RunFolder, read_json, write_json
from samrl.learn import dagger, q_function, returns, sensing, trials
from samrl.learn.actor import Actor
from samrl.learn.dagger import DaggerSettings
from samrl.learn.expert import random_start, train
from samrl.learn.policies import TriedPolicy
from samrl.learn.rehearsal import Rehearsal, Shell
from samrl.learn.returns import Rows
from samrl.learn.study import best_of_nine, saliency, study
from samrl.learn.viewpoint import ViewSettings
from samrl.plans import Plan, read_plan
from samrl.sim2real.sensing import real_look, table, try_looks
from samrl.sim2real.twin_world import TwinWorld
from samrl.worlds import settings as world_settings
from samrl.worlds.camera_arm import CameraArm

TRIALS, HISTORY, LOOKS, RETURNS, STATES = "trials.json", "history.json", "looks.jsonl", "returns", "states.jsonl"
SALIENCY = "saliency.npz"
VIEWS = 4  # looks tried in a scene
BATCH = 64  # environments of the actor's training
STAGED = 0.3  # of its episodes begin where only learning begins, for tasks that have such starts
Work = Callable[["Tools", int], dict[str, Any]]
LOOK, RETURN, STATE = 10_000, 20_000, 30_000  # where the seeds of these pieces of work begin


def learn(folder: RunFolder, workers: int) -> None:
    """Everything that is learned in the twin."""
    if folder.is_done(LEARN):
        return
    with timed(folder, LEARN):
        _expert(folder)
        _looks(folder, workers)
        train_actor(folder)
        _returns(folder, workers)
        train_q(folder)
        _study(folder, workers)


def _expert(folder: RunFolder) -> None:
    """Train the expert in the twin, and try it there from random starts."""
    plan, stage = read_plan(folder), folder.stage(LEARN)
    if (stage / EXPERT).exists():
        return
    expert = brain_of(folder).expert
    expert.policy.requires_grad_(True)
    tries = isinstance(expert.policy, TriedPolicy)
    with track("2/3 learn: the expert", plan.values.tries.iterations if tries else plan.values.train.iterations) as advance:
        if tries:
            history = trials.train(expert, plan.values.tries, plan.seed_of(1), lambda i, won: advance(note=f"won {won:.2f}"))
        else:
            history = train(expert, plan.values.train, plan.seed_of(1), lambda i, cost: advance(note=f"cost {cost:.2f}"))
    _write_history(stage, "expert", history)
    write_json(stage / TRIALS, {"successes": _try(expert, plan), "trials": plan.values.trials})
    save(expert.policy, stage / EXPERT)


def _try(expert: Any, plan: Plan) -> int:
    """How many of the trials in the twin succeed."""
    start = random_start(expert.model, expert.task, plan.values.trials, torch.Generator().manual_seed(plan.seed_of(2)))
    with torch.no_grad():
        *_, done = expert.rollout(*start, expert.task.horizon)
    return int(done.sum())


def _looks(folder: RunFolder, workers: int) -> None:
    """Try `update` from many views, and learn what it is off by."""
    plan, stage = read_plan(folder), folder.stage(LEARN)
    if (stage / SENSING).exists():
        return
    every = range(LOOK, LOOK + plan.values.looks)
    lines = _lines(folder, "what looks are worth", LOOKS, _look, every, workers)
    rows = [row for line in lines for row in line["rows"]]
    net, _ = sensing.fit(*table(rows, brain_of(folder).expert), seed=plan.seed_of(4))
    save(net, stage / SENSING)


def train_actor(folder: RunFolder) -> None:
    """Train the actor by DAgger."""
    plan, stage = read_plan(folder), folder.stage(LEARN)
    if (stage / ACTOR).exists():
        return
    brain = brain_of(folder)
    _dagger(brain.actor, brain, brain.shell, plan, plan.values.dagger, "2/3 learn: the actor", stage / ACTOR)


def _dagger(actor: Actor, brain: Brain, shell: Shell, plan: Plan, s: DaggerSettings, what: str, path: Path) -> None:
    """Train `actor` from views of `shell`, and keep it at `path`."""
    rehearsal = Rehearsal(
        brain.expert, brain.sensing, shell, BATCH, torch.Generator().manual_seed(plan.seed_of(6)), staged=STAGED
    )
    with track(what, s.iterations) as advance:
        tell = lambda i, loss: advance(note=f"loss {loss:.2f}")  # noqa: E731
        history = dagger.train(actor, brain.eye, rehearsal, s, tell)
    _write_history(path.parent, path.stem, history)
    save(actor, path)


def _returns(folder: RunFolder, workers: int) -> None:
    """What the actor achieves from views that are tried, for Q to learn from."""
    plan, stage = read_plan(folder), folder.stage(f"{LEARN}/{RETURNS}")
    every = range(plan.values.q.batches)
    todo = [i for i in every if not (stage / f"{i:04d}.npz").exists()]
    if (stage.parent / Q).exists():
        return
    with track("2/3 learn: returns by view", len(every), len(every) - len(todo)) as advance:
        for i, rows in pool.fan_out(partial(Tools.of, folder), _batch, todo, workers):
            runs.write_arrays(stage / f"{i:04d}.npz", rows)
            known = rows["value"][np.isfinite(rows["value"])]
            advance(note=f"mean return {known.mean():.2f}" if len(known) else "")


def train_q(folder: RunFolder) -> None:
    """Fit Q to the returns."""
    plan, stage = read_plan(folder), folder.stage(LEARN)
    if (stage / Q).exists():
        return
    brain, s = brain_of(folder), plan.values.q
    rows = Rows.cat([_read_rows(stage / RETURNS / f"{i:04d}.npz") for i in range(s.batches)])
    with track("2/3 learn: Q", s.updates) as advance:
        tell = lambda i, loss: advance(note=f"held-out loss {loss:.3f}" if math.isfinite(loss) else "")  # noqa: E731
        generator = torch.Generator().manual_seed(plan.seed_of(7))
        expected = returns.imagine(rows, brain.actor, brain.eye, brain.shell, generator)
        history = q_function.fit(brain.q, expected, rows.value, rows.precision, s, generator, tell)
    _write_history(stage, "q", history)
    save(brain.q, stage / Q)


def _study(folder: RunFolder, workers: int) -> None:
    """Measure what the choice of a view is worth."""
    plan, stage = read_plan(folder), folder.stage(LEARN)
    if (stage / STUDY).exists():
        return
    every = range(STATE, STATE + plan.values.study.states)
    states = _lines(folder, "what views are worth", STATES, _state, every, workers)
    with Tools.of(folder) as tools:
        image, strength = saliency(tools.rehearsal(4, plan.seed_of(8)), tools.brain.actor, tools.brain.eye)
    runs.write_arrays(stage / SALIENCY, {"image": image.numpy(), "strength": strength.numpy()})
    write_json(stage / STUDY, {"nine": best_of_nine(states)})


def learn_fixed(folder: RunFolder, variant: str) -> None:
    """Train an actor for the best fixed view alone, once: as long as the actor was, or until its loss is what that actor's
    was at the end."""
    plan, path = read_plan(folder), folder.stage(LEARN) / FIXED[variant]
    if path.exists():
        return
    brain = brain_of(folder)
    (yaw, pitch, radius), s = best_views(folder)[0].tolist(), plan.values.dagger
    shell = replace(brain.shell, yaw=(yaw, yaw), pitch=(pitch, pitch), radius=(radius, radius))
    if variant == "fixed-equal":
        s = replace(s, enough=dagger.smooth(read_json(folder.path / LEARN / HISTORY)["actor"]))
    actor = untrained(plan).actor
    actor.policy.load_state_dict(brain.expert.policy.state_dict())
    actor.policy.requires_grad_(False)
    _dagger(actor, brain, shell, plan, s, f"learn: an actor for the best fixed view, {variant}", path)


# Pieces of work, by several processes


def _lines(folder: RunFolder, what: str, name: str, work: Work, every: Sequence[int], workers: int) -> list[dict[str, Any]]:
    """A line for each index, in their order; each is on disk in the file `name` when it is done, and not worked out again."""
    path = folder.stage(LEARN) / name
    done = {line["index"] for line in runs.read_lines(path)}
    todo = [i for i in every if i not in done]
    with track(f"2/3 learn: {what}", len(every), len(done)) as advance:
        for line in pool.fan_out(partial(Tools.of, folder), work, todo, workers):
            runs.append_line(path, runs.to_json(line, path))
            advance()
    return sorted(runs.read_lines(path), key=lambda line: line["index"])


@dataclass
class Tools:
    """What a process needs for them."""

    plan: Plan
    brain: Brain
    world: TwinWorld

    @staticmethod
    def of(folder: RunFolder) -> Tools:
        brain = brain_of(folder)
        return Tools(read_plan(folder), brain, twin_world(brain.expert.task, world_settings.load("nominal")))

    def __enter__(self) -> Tools:
        return self

    def __exit__(self, *_: object) -> None:
        self.world.close()

    def rehearsal(self, count: int, seed: int, share: float = 0.0) -> Rehearsal:
        b = self.brain
        if share:
            self.world.reset(seed)
        update = lambda truth, X_WC: real_look(self.world, b.expert, truth, X_WC)  # noqa: E731
        return Rehearsal(b.expert, b.sensing, b.shell, count, torch.Generator().manual_seed(seed), update, share)


def _look(tools: Tools, index: int) -> dict[str, Any]:
    return {"index": index, "rows": try_looks(tools.world, tools.brain.expert, tools.plan.seed_of(index), VIEWS)}


def _batch(tools: Tools, index: int) -> tuple[int, dict[str, np.ndarray]]:
    s, b = tools.plan.values.q, tools.brain
    stage = tools.rehearsal(s.states, tools.plan.seed_of(RETURN + index), s.share)
    rows = returns.collect(stage, b.actor, b.eye, s)
    return index, {f.name: getattr(rows, f.name).numpy() for f in fields(rows)}


def _state(tools: Tools, index: int) -> dict[str, Any]:
    plan, b = tools.plan, tools.brain
    stage = tools.rehearsal(1, plan.seed_of(index))
    arm = CameraArm(b.expert.task.scene, world_settings.load("nominal").camera_arm)
    reach = lambda q, X_WC: bool(arm.plan(X_WC, q.double()).reach.ok)  # noqa: E731
    kinds = {"Q": ViewSettings(), "random direction": ViewSettings(random=True), "no ascent": ViewSettings(refined=0),
             "single start": ViewSettings(candidates=1, refined=1, steps=12)}  # fmt: skip
    choosers = {name: b.viewpoint(s) for name, s in kinds.items()}
    return {"index": index, **study(stage, b.eye, choosers, reach, plan.values.q, plan.values.study)}


def _read_rows(path: Path) -> Rows:
    with np.load(path, allow_pickle=False) as file:
        return Rows(**{name: torch.from_numpy(file[name]) for name in file})


def _write_history(stage: Path, name: str, values: list[float]) -> None:
    known = read_json(stage / HISTORY) if (stage / HISTORY).exists() else {}
    write_json(stage / HISTORY, {**known, name: [round(v, 5) for v in values]})


@contextmanager
def timed(folder: RunFolder, stage: str) -> Iterator[None]:
    """Marks the stage done at the end, with the time it took."""
    began = time.monotonic()
    yield
    folder.finish(stage, time.monotonic() - began)
