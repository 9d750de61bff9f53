"""real2sim → learn → sim2real, each stage handing files to the next through the run folder."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors

from samrl.core import runs
from samrl.core.errors import RunFolderError, SamrlError, UnknownNameError
from samrl.core.progress import track
from samrl.core.runs import LEARN, REAL2SIM, SIM2REAL, RunFolder, read_json, write_json
from samrl.core.types import RGBD
from samrl.learn.expert import Expert, TrainSettings, random_start, train
from samrl.real2sim.tracker import Expectation, Segment
from samrl.sim2real import summary
from samrl.sim2real.control_loop import make_model
from samrl.sim2real.evaluate import Bench, JudgedWorld, Record, run_many, run_one
from samrl.sim2real.twin_world import TwinWorld
from samrl.tasks import registry as tasks
from samrl.tasks.task import Task
from samrl.worlds import registry as worlds
from samrl.worlds import segmenter
from samrl.worlds import settings as world_settings
from samrl.worlds.camera_arm import CameraArm
from samrl.worlds.sensor import SensorNoise

EXPERT, TRIALS, HISTORY, STARTS, FRAMES = "expert.safetensors", "trials.json", "history.json", "starts.json", "frames"
TWIN = "twin"  # 𝓜 itself as the world
FIRST_SEED = 10_000  # lower seeds are for development


@dataclass(frozen=True)
class Preset:
    """starts: scenes aligned in stage 1; train: the expert's training; trials: its random starts in the twin afterwards;
    episodes: in the world; asserts: the figures must hold what `_check_smoke` asks for."""

    starts: int
    train: TrainSettings
    trials: int
    episodes: int
    asserts: bool = False


PRESETS = {
    "smoke": Preset(3, TrainSettings(iterations=120, batch=32), 5, 2, asserts=True),
    "quick": Preset(5, TrainSettings(iterations=200, batch=64), 20, 30),
    "full": Preset(20, TrainSettings(iterations=300, batch=64), 100, 100),
}


@dataclass(frozen=True)
class Plan:
    """What one run is: names and seed as asked for, where masks come from, the preset's values, and the hash of the frozen
    world settings."""

    task: str
    world: str
    settings: str
    preset: str
    seed: int
    masks: str
    values: Preset
    settings_hash: str

    def as_config(self) -> dict[str, Any]:
        return asdict(self)


def run(plan: Plan, out: Path, *, resume: bool, workers: int = 1) -> RunFolder:
    """The whole way. Every stage that is done is left alone; every stage seeds itself, so a resumed run ends as a straight
    one does."""
    folder = runs.create_or_resume(out, plan.as_config(), runs.environment(settings_hash=plan.settings_hash), resume=resume)
    with folder.lock():
        real2sim(folder)
        learn(folder)
        _check_smoke(folder)
        seeds = range(FIRST_SEED, FIRST_SEED + plan.values.episodes)
        sim2real(folder, plan.world, plan.settings, seeds, workers)
        summarize(folder)
    return folder


def run_real2sim(plan: Plan, out: Path, *, resume: bool) -> RunFolder:
    """Stage 1 alone."""
    folder = runs.create_or_resume(out, plan.as_config(), runs.environment(settings_hash=plan.settings_hash), resume=resume)
    with folder.lock():
        real2sim(folder)
        summarize(folder)
    return folder


def real2sim(folder: RunFolder) -> None:
    """Align the twin with the first image of a few scenes of the world; write down how far off it was before and after."""
    if folder.is_done(REAL2SIM):
        return
    plan = read_plan(folder)
    with _timed(folder, REAL2SIM), track("1/3 real2sim: aligning scenes", plan.values.starts) as advance:
        bench, records = _bench(folder, plan.world, plan.settings), []
        with closing(bench.world):
            for seed in range(plan.values.starts):
                record, frames = run_one(bench, seed, horizon=1)
                records.append(record)
                _write_frames(folder, REAL2SIM, record, frames)
                advance(note=", ".join(f"{b} {e['after']['mm']:.1f} mm" for b, e in record["errors"].items()))
        write_json(folder.stage(REAL2SIM) / STARTS, records)


def learn(folder: RunFolder) -> None:
    """Train the expert in the twin, and try it there from random starts."""
    if folder.is_done(LEARN):
        return
    plan = read_plan(folder)
    with _timed(folder, LEARN):
        expert = _untrained(plan)
        with track("2/3 learn: training the expert", plan.values.train.iterations) as advance:
            tell = lambda i, cost: advance(note=f"cost {cost:.2f}")  # noqa: E731
            history = train(expert, plan.values.train, _seed(plan, 1), tell)
        stage = folder.stage(LEARN)
        write_json(stage / HISTORY, history)
        write_json(stage / TRIALS, {"successes": _try(expert, plan), "trials": plan.values.trials})
        weights = {k: v.contiguous() for k, v in expert.policy.state_dict().items()}
        runs.write_atomic(stage / EXPERT, safetensors.save(weights))


def sim2real(folder: RunFolder, world: str, settings: str, seeds: Sequence[int], workers: int) -> None:
    """The episodes that are not on disk yet, one line each."""
    todo = sorted(set(seeds) - folder.done_seeds(world, settings))
    name = f"3/3 sim2real: episodes in {world}, {settings}"
    ended = run_many(partial(_bench, folder, world, settings), todo, workers)
    with track(name, len(seeds), len(seeds) - len(todo)) as advance, closing(ended):
        for record, frames in ended:
            _write_frames(folder, SIM2REAL, record, frames)
            folder.append_episode(record)  # last: with this line the episode is done
            advance(note="success" if record["success"] else "failure")


def summarize(folder: RunFolder) -> dict[str, Any]:
    """Write summary.json from everything in the folder: `results`, and apart from them `times`, which alone depend on the
    machine's speed."""
    plan = read_plan(folder)
    results, times = summary.figures(folder.episodes())
    if folder.is_done(LEARN):
        trials = read_json(folder.path / LEARN / TRIALS)
        results.insert(0, summary.share("expert success", ("twin", "random starts"), trials["successes"], trials["trials"]))
    if folder.is_done(REAL2SIM):
        starts = read_json(folder.path / REAL2SIM / STARTS)
        results += summary.pose_errors((plan.world, "first alignment"), starts, ("before", "after"))
    durations = {stage: folder.seconds(stage) for stage in (REAL2SIM, LEARN) if folder.is_done(stage)}
    durations[SIM2REAL] = sum(sum(map(sum, e["times"].values())) for e in folder.episodes())
    times += [summary.spread(f"stage {stage}", ("", ""), [s], "s") for stage, s in durations.items()]
    said = {"task": plan.task, "seed": plan.seed, "preset": plan.preset, "settings_hash": plan.settings_hash}
    write_json(folder.path / runs.SUMMARY, value := {**said, "results": results, "times": times})
    return value


def evaluate(path: Path, *, world: str | None, settings: str | None, seeds: Sequence[int], workers: int) -> RunFolder:
    """More episodes for a finished run's expert, in the same world or another."""
    folder = runs.open_run(path)
    plan = read_plan(folder)
    if not folder.is_done(LEARN):
        raise RunFolderError(f"{path} holds no trained expert yet; go on with `samrl run {plan.task} --out {path} --resume`.")
    chosen = make_plan(plan.task, world=world or plan.world, settings=settings or plan.settings)
    with folder.lock():
        sim2real(folder, chosen.world, chosen.settings, seeds, workers)
        summarize(folder)
    return folder


def bench_of(path: Path, world: str, settings: str) -> Bench:
    """A run's expert in a world of that name, for studies of one's own."""
    return _bench(runs.open_run(path), world, settings)


# Plans


def default_world() -> tuple[str, str]:
    """The world where none is asked for, and a sentence about it: empty, unless it is second best."""
    return worlds.default()


def check_task(task: str) -> None:
    """UnknownNameError for a task that is not there."""
    tasks.make(task)


def make_plan(
    task: str,
    *,
    world: str | None = None,
    settings: str | None = None,
    preset: str | None = None,
    seed: int | None = None,
    episodes: int | None = None,
    masks: str | None = None,
) -> Plan:
    """A plan from what was given and defaults for the rest; UnknownNameError for a name that is not there."""
    check_task(task)
    world, settings, preset = world or default_world()[0], settings or "nominal", preset or "quick"
    _check_name("world", world, [*worlds.names(), TWIN])
    _check_name("setting", settings, world_settings.names())
    _check_name("preset", preset, PRESETS)
    _check_name("mask source", masks := masks or "world", MASKS)
    values = PRESETS[preset] if episodes is None else replace(PRESETS[preset], episodes=episodes)
    return Plan(task, world, settings, preset, seed or 0, masks, values, world_settings.settings_hash())


def _check_name(kind: str, given: str, known: Collection[str]) -> None:
    if given not in known:
        raise UnknownNameError(kind, given, known)


def resumed_plan(path: Path, task: str, **given: Any) -> Plan:
    """The plan of the run at `path`, where something else was given with that instead; `run` refuses it if it differs. The
    plain plan if a kill came before there was one to read."""
    if not (path / runs.CONFIG).exists():
        return make_plan(task, **given)
    plan = read_plan(runs.open_run(path))
    stored = {k: getattr(plan, k) for k in ("world", "settings", "preset", "seed", "masks")} | {"episodes": plan.values.episodes}
    return make_plan(task, **(stored | {k: v for k, v in given.items() if v is not None}))


def read_plan(folder: RunFolder) -> Plan:
    """The plan in a run folder's config.yaml."""
    config = folder.config
    try:
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config["values"]["train"].items()}
        values = {**config["values"], "train": TrainSettings(**settings)}
        plan = Plan(**{**config, "values": Preset(**values)})
    except (KeyError, TypeError) as e:
        raise RunFolderError(f"{folder.path} was made by another version of samrl ({e}); start anew in another folder.") from e
    if plan.settings_hash != (now := world_settings.settings_hash()):
        raise RunFolderError(
            f"{folder.path} was made with world settings {plan.settings_hash[:12]}, and they are {now[:12]} now: its "
            "figures would mix. Start anew in another folder."
        )
    return plan


# Parts


def _seed(plan: Plan, index: int) -> int:
    """A seed of its own for each unit of work in stage 2."""
    return int(np.random.default_rng([plan.seed, 2, index]).integers(2**31))


def _untrained(plan: Plan) -> Expert:
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    task = tasks.make(plan.task)
    return Expert(make_model(task), task, _seed(plan, 0))


def _bench(folder: RunFolder, world: str, settings: str) -> Bench:
    """World, twin and expert (untrained as long as stage 2 is not done). The twin knows the nominal task; what the settings
    change is the world's."""
    plan = read_plan(folder)
    expert = _untrained(plan)
    if folder.is_done(LEARN):
        _load(expert, folder.path / LEARN / EXPERT)
    chosen = world_settings.load(settings)
    made = twin_world(expert.task, chosen) if world == TWIN else cast(JudgedWorld, worlds.make(world, expert.task, chosen))
    dumps = folder.path / (SIM2REAL if folder.is_done(LEARN) else REAL2SIM)
    return Bench(made, expert.model, chosen.task_for(expert.task), expert, (world, settings), dumps, MASKS[plan.masks])


def twin_world(task: Task, settings: world_settings.Settings) -> TwinWorld:
    """𝓜 as the world. Of the settings its task, sensor and camera arm count; what they do to the acting arm and to the hand-eye
    pose does not."""
    chosen = settings.task_for(task)
    return TwinWorld(chosen, CameraArm(task.scene, settings.camera_arm), partial(SensorNoise, settings.sensor))


def _segment(image: RGBD, expected: dict[str, Expectation]) -> RGBD:
    """Masks by colour and depth; a body that the twin holds in the hand does not stand on the table."""
    slack = 0.01  # what the estimate itself may be off by [m]
    priors = {b: segmenter.Prior(e.mask, e.depth, e.reach + slack, standing=e.reach > slack) for b, e in expected.items()}
    return segmenter.segment(image, priors)


MASKS: dict[str, Segment | None] = {"world": None, "segmenter": _segment}


def _load(expert: Expert, path: Path) -> None:
    try:
        expert.policy.load_state_dict(safetensors.load(path.read_bytes()))
    except (OSError, SafetensorError, RuntimeError) as e:
        why = str(e).splitlines()[0]
        raise RunFolderError(f"the expert {path} cannot be read ({why}); delete its folder, and --resume trains it.") from e


def _try(expert: Expert, plan: Plan) -> int:
    """How many of the trials in the twin succeed."""
    start = random_start(expert.model, expert.task, plan.values.trials, torch.Generator().manual_seed(_seed(plan, 2)))
    with torch.no_grad():
        *_, done = expert.rollout(*start, expert.task.horizon)
    return int(done.sum())


def _check_smoke(folder: RunFolder) -> None:
    """What the smoke preset must show: the update halves the error, the expert succeeds in four of five."""
    if not read_plan(folder).values.asserts:
        return
    starts = read_json(folder.path / REAL2SIM / STARTS)
    before, after = (_median_error(starts, moment) for moment in ("before", "after"))
    trials = read_json(folder.path / LEARN / TRIALS)
    if not after <= before / 2:
        raise SamrlError(f"smoke: the update should halve the position error, not go from {before:.1f} to {after:.1f} mm.")
    if trials["successes"] < 0.8 * trials["trials"]:
        raise SamrlError(f"smoke: the expert should succeed in 4 of 5, not in {trials['successes']} of {trials['trials']}.")


def _median_error(records: Sequence[Record], moment: str) -> float:
    """Position error summed over bodies, median over records [mm]."""
    return float(np.median([sum(e[moment]["mm"] for e in r["errors"].values()) for r in records]))


def _write_frames(folder: RunFolder, stage: str, record: Record, frames: Sequence[dict[str, Any]]) -> None:
    """An episode's pictures, "<step>/world", "<step>/before" and "<step>/after", one file an episode."""
    place = folder.stage(f"{stage}/{FRAMES}")
    pictures = {f"{f['step']}/{k}": f[k] for f in frames for k in ("world", "before", "after") if k in f}
    runs.write_arrays(place / f"{record['world']}-{record['settings']}-{record['seed']}.npz", pictures)


@contextmanager
def _timed(folder: RunFolder, stage: str) -> Iterator[None]:
    """Marks the stage done at the end, with the time it took."""
    began = time.monotonic()
    yield
    folder.finish(stage, time.monotonic() - began)
