"""real2sim → learn → sim2real, each stage handing files to the next through the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from samrl.benches import FIXED, RESIDUAL, bench_of, brain_of
from samrl.core import guard, runs
from samrl.core.errors import RunFolderError, SamrlError
from samrl.core.progress import track
from samrl.core.runs import LEARN, REAL2SIM, SIM2REAL, RunFolder, read_json, write_json
from samrl.learning import STATES, TRIALS, learn, learn_fixed, timed
from samrl.plans import FIRST_SEED, MARKS, VARIANTS, Plan, check_name, make_plan, read_plan
from samrl.sim2real import summary
from samrl.sim2real.evaluate import APART, Record, run_many, run_one

STARTS, FRAMES = "starts.json", "frames"
VARIANT = "full"
PRACTICE = 40_000  # where the seeds of the residual's episodes begin


def run(plan: Plan, out: Path, *, resume: bool, workers: int = 1) -> RunFolder:
    """The whole way. Every stage that is done is left alone; every stage seeds itself, so a resumed run ends as a straight
    one does."""
    folder = runs.create_or_resume(out, plan.as_config(), runs.environment(settings_hash=plan.settings_hash), resume=resume)
    with folder.lock(), guard.keep_replay(folder.path):
        real2sim(folder)
        learn(folder, workers)
        _check_smoke(folder)
        learn_residual(folder)
        seeds = range(FIRST_SEED, FIRST_SEED + plan.values.episodes)
        sim2real(folder, plan.world, plan.settings, VARIANT, seeds, workers)
        summarize(folder)
    return folder


def run_real2sim(plan: Plan, out: Path, *, resume: bool) -> RunFolder:
    """Stage 1 alone."""
    folder = runs.create_or_resume(out, plan.as_config(), runs.environment(settings_hash=plan.settings_hash), resume=resume)
    with folder.lock(), guard.keep_replay(folder.path):
        real2sim(folder)
        summarize(folder)
    return folder


def real2sim(folder: RunFolder) -> None:
    """Align the twin with the first image of a few scenes of the world; write down how far off it was before and after."""
    if folder.is_done(REAL2SIM):
        return
    plan = read_plan(folder)
    with timed(folder, REAL2SIM), track("1/3 real2sim: aligning scenes", plan.values.starts) as advance:
        bench, records = bench_of(folder, plan.world, plan.settings, "expert"), []
        with bench:
            for seed in range(plan.values.starts):
                record, frames = run_one(bench, seed, horizon=1)
                records.append(record)
                _write_frames(folder, REAL2SIM, record, frames)
                advance(note=", ".join(f"{b} {e['after']['mm']:.1f} mm" for b, e in record["errors"].items()))
        write_json(folder.stage(REAL2SIM) / STARTS, records)


def learn_residual(folder: RunFolder) -> None:
    """Practise in the run's own world until the real steps that the plan allows are spent. Each episode ends on disk."""
    plan = read_plan(folder)
    if not plan.values.residual:
        return
    from samrl.sim2real import residual  # takes a second to import, and most runs do without

    path = folder.stage(SIM2REAL) / RESIDUAL
    outcomes: list[bool] = []
    with bench_of(folder, plan.world, plan.settings, "no-residual") as bench:
        env = residual.RealSteps(bench, brain_of(folder).actor, residual.ResidualSettings(), plan.values.residual)
        sac = residual.fresh(env, env.s, plan.seed_of(PRACTICE))
        if path.exists():
            progress = residual.load(sac, path)
            env.real_steps, outcomes = progress["real steps"], progress["successes"]
        with track("3/3 sim2real: the residual, real steps", env.limit, env.real_steps) as advance:
            while env.affords():
                before = env.real_steps
                outcomes.append(residual.practise(sac, env, plan.seed_of(PRACTICE + 1 + len(outcomes))))
                won = outcomes[-1]
                told = {"real steps": env.real_steps, "successes": outcomes}
                for mark in (m for m in MARKS if before < m - residual.SPARE <= env.real_steps):
                    residual.save(sac, path.with_name(f"residual-{mark}.pt"), told)
                residual.save(sac, path, told)
                write_json(path.with_name("practice.json"), told)
                advance(env.real_steps - before, note="success" if won else "failure")


def sim2real(folder: RunFolder, world: str, settings: str, variant: str, seeds: Sequence[int], workers: int) -> None:
    """The episodes that are not on disk yet, one line each."""
    todo = sorted(set(seeds) - folder.done_seeds(world, settings, variant))
    name = f"3/3 sim2real: episodes in {world}, {settings}, {variant}"
    ended = run_many(partial(bench_of, folder, world, settings, variant), todo, workers)
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
        place = ("twin", "random starts", "expert")
        learned = [summary.share("expert success", place, trials["successes"], trials["trials"])]
        learned += summary.views(runs.read_lines(folder.path / LEARN / STATES))
        results = learned + results
    if folder.is_done(REAL2SIM):
        starts = read_json(folder.path / REAL2SIM / STARTS)
        results += summary.pose_errors((plan.world, "first alignment", "expert"), starts, ("before", "after"))
    durations = {stage: folder.seconds(stage) for stage in (REAL2SIM, LEARN) if folder.is_done(stage)}
    durations[SIM2REAL] = sum(sum(map(sum, e["times"].values())) for e in folder.episodes())
    times += [summary.spread(f"stage {stage}", ("", "", ""), [s], "s") for stage, s in durations.items()]
    said = {"task": plan.task, "seed": plan.seed, "preset": plan.preset, "settings_hash": plan.settings_hash}
    write_json(folder.path / runs.SUMMARY, value := {**said, "results": results, "times": times})
    return value


def evaluate(
    path: Path, *, world: str | None, settings: str | None, variant: str | None, seeds: Sequence[int], workers: int
) -> RunFolder:
    """More episodes for a finished run, in the same world or another, of the whole way or of another variant."""
    folder = runs.open_run(path)
    plan = read_plan(folder)
    check_name("variant", variant := variant or VARIANT, VARIANTS)
    if not folder.is_done(LEARN):
        raise RunFolderError(f"{path} has not learned everything yet; go on with `samrl run {plan.task} --out {path} --resume`.")
    chosen = make_plan(plan.task, world=world or plan.world, settings=settings or plan.settings)
    with folder.lock(), guard.keep_replay(folder.path):
        if variant in FIXED:
            learn_fixed(folder, variant)
        sim2real(folder, chosen.world, chosen.settings, variant, seeds, workers)
        summarize(folder)
    return folder


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
    """Position error summed over units, median over records [mm]."""
    return float(np.median([sum(e[moment]["mm"] for u, e in r["errors"].items() if u != APART) for r in records]))


def _write_frames(folder: RunFolder, stage: str, record: Record, frames: Sequence[dict[str, Any]]) -> None:
    """An episode's pictures, "<step>/world", "<step>/before" and "<step>/after", one file an episode."""
    place = folder.stage(f"{stage}/{FRAMES}")
    pictures = {f"{f['step']}/{k}": f[k] for f in frames for k in ("world", "before", "after") if k in f}
    runs.write_arrays(place / runs.frames_name(record), pictures)
