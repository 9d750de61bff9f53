"""The `samrl` command: one subcommand a verb. Nothing heavy is imported before a verb needs it, so that help is instant."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from samrl.arguments import RUNS, Count, Dump, Folder, Name, RunPath, Seeds, Task, UsageError, What, at_least, say
from samrl.core.errors import SamrlError, UnknownNameError
from samrl.model_verbs import articulate, identify, reconstruct


def run(
    task: Task,
    /,
    *,
    world: Name = None,
    settings: Name = None,
    preset: Name = None,
    seed: Count = None,
    episodes: Count = None,
    masks: Name = None,
    residual: Count = None,
    workers: Count = None,
    out: Folder = None,
    resume: bool = False,
) -> int:
    """Align the twin, learn in it what to do and where to look from, act in the world, and write the report.

    Args:
        task: what to do, such as peg-insertion.
        world: pybullet, mujoco, or twin, which is 𝓜 itself (default: pybullet where Python has it).
        settings: the world's settings: nominal, or one of the stress worlds (default: nominal).
        preset: smoke, quick or full: how much training and how many episodes (default: quick).
        seed: of the training; episodes have seeds of their own, from 10000 (default: 0).
        episodes: how many in the world (default: the preset's).
        masks: world or segmenter: where masks come from (default: world).
        residual: real steps (acts and looks) that the residual learns from before the evaluation (default: the preset's).
        workers: processes at once (default: as many as there are cores, 8 at most).
        out: the run folder (default: runs/TASK-001, -002, ...).
        resume: go on with the run in --out, or with the last one of this task.
    """
    from samrl import pipeline, plans
    from samrl.core.runs import latest_path, next_path

    at_least(1, workers=workers, episodes=episodes)
    at_least(0, seed=seed, residual=residual)
    given: dict[str, Any] = {"world": world, "settings": settings, "preset": preset, "seed": seed, "episodes": episodes}
    given |= {"masks": masks, "residual": residual}
    if not resume:
        plan = plans.make_plan(task, **given)
        path = out or next_path(RUNS, task)
    else:
        plans.check_task(task)
        path = out or latest_path(RUNS, task)
        plan = plans.resumed_plan(path, task, **given)
    with _resumable(f"samrl run {task} --out {path} --resume"):
        say(f"run folder: {path}; world: {plan.world}, {plan.settings}")
        if world is None and plan.world == plans.default_world()[0]:
            say(plans.default_world()[1])
        folder = pipeline.run(plan, path, resume=resume, workers=workers or _cores())
        return _report(folder.path)


def real2sim(
    task: Task,
    /,
    *,
    world: Name = None,
    settings: Name = None,
    preset: Name = None,
    out: Folder = None,
    resume: bool = False,
) -> int:
    """Align the twin with the first image of a few scenes, and say how far off it was before and after.

    Args:
        task: what to do, such as peg-insertion.
        world: pybullet, mujoco, or twin, which is 𝓜 itself (default: pybullet where Python has it).
        settings: the world's settings (default: nominal).
        preset: smoke, quick or full: how many scenes (default: quick).
        out: the run folder (default: runs/TASK-001, -002, ...); `samrl run --resume` goes on with it.
        resume: go on with the run in --out.
    """
    from samrl import pipeline, plans
    from samrl.core.runs import next_path

    plan = plans.make_plan(task, world=world, settings=settings, preset=preset)
    path = out or next_path(RUNS, task)
    with _resumable(f"samrl real2sim {task} --out {path} --resume"):
        return _report(pipeline.run_real2sim(plan, path, resume=resume).path)


def evaluate(
    run: RunPath, /, *, seeds: Seeds, world: Name = None, settings: Name = None, variant: Name = None, workers: Count = None
) -> int:
    """Run more episodes of a run, in the same world or another; appends a line an episode, and resumes.

    Args:
        run: the run folder.
        seeds: of the episodes, A:B, from A up to but not with B.
        world: pybullet, mujoco, or twin, which is 𝓜 itself (default: the run's).
        settings: the world's settings (default: the run's).
        variant: full, or what it is compared with: no-residual, no-viewpoint, fixed-view, fixed-trained, fixed-equal,
            random-view, random-direction, single-start, no-update, expert, expert-views, black, other, segmenter,
            or residual-200 (-800, -2000), the residual as it was after so many real steps
            (default: full).
        workers: processes at once (default: as many as there are cores, 8 at most).
    """
    from samrl import pipeline

    at_least(1, workers=workers)
    names = "".join(f" --{k} {v}" for k, v in (("world", world), ("settings", settings), ("variant", variant)) if v)
    with _resumable(f"samrl evaluate {run} --seeds {seeds}{names}"):
        chosen = {"world": world, "settings": settings, "variant": variant}
        pipeline.evaluate(run, **chosen, seeds=parse_seeds(seeds), workers=workers or _cores())
        return _report(run)


def report(run: RunPath, /) -> int:
    """Write report.html from what is in a run folder.

    Args:
        run: the run folder.
    """
    return _report(run)


def check(*, replay: Dump = None) -> int:
    """Check the twin's gradients on this machine: automatic against finite differences.

    Args:
        replay: instead, go step by step through a rollout that left the finite numbers.
    """
    from samrl import selfcheck

    if replay:
        print("\n".join(selfcheck.replay(replay)))
        return 0
    outcomes = selfcheck.run()
    for o in outcomes:
        print(f"{'good' if o.good else 'BAD':5}{o.name:22}{o.found:20}allowed {o.allowed}")
    return 0 if all(o.good for o in outcomes) else 1


def bench(what: What, /, *, device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "cpu") -> int:
    """Measure how fast this machine renders, simulates, or goes through the control loop; nothing trained is needed.

    Args:
        what: render, physics or loop.
        device: cpu, or cuda:0 for kernels on a GPU (render and physics).
    """
    if what not in ("render", "physics", "loop"):
        raise UnknownNameError("benchmark", what, ("render", "physics", "loop"))
    if what == "loop" and device != "cpu":
        raise UsageError(f"--device {device}: the loop is measured on the cpu, where it runs.")
    from samrl import speed

    say(speed.machine(device))
    rows = {"render": speed.render, "physics": speed.physics}[what](device) if what != "loop" else speed.loop()
    print("\n".join(rows))
    return 0


VERBS: dict[str, Callable[..., Any]] = {
    "run": run,
    "real2sim": real2sim,
    "evaluate": evaluate,
    "report": report,
    "identify": identify,
    "check": check,
    "bench": bench,
    "reconstruct": reconstruct,
    "articulate": articulate,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 it failed, 2 it was asked for wrongly, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given and not given[0].startswith("-") and given[0] not in VERBS:
            raise UnknownNameError("command", given[0], VERBS)
        if given == ["--version"]:
            return _version()
        return tyro.extras.subcommand_cli_from_dict(
            VERBS, prog="samrl", args=given or ["--help"], config=(tyro.conf.FlagCreatePairsOff,),
            description="A manipulation policy from an RGB-D camera, a robot and a differentiable twin of the scene.",
        )  # fmt: skip
    except SamrlError as e:
        say(f"samrl: {e}")
        return 2 if isinstance(e, (UnknownNameError, UsageError)) else 1
    except KeyboardInterrupt:
        say("samrl: interrupted.")
        return 130
    except BrokenPipeError:  # whoever reads, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does the interpreter complain when it ends
        return 0


class _resumable:
    """Ctrl-C within, or a TERM as schedulers send it, says in one sentence how to go on."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGTERM, signal.default_int_handler)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.before)
        if kind is KeyboardInterrupt:
            say(f"samrl: interrupted; everything finished is kept, and `{self.command}` goes on from there.")
            raise SystemExit(130)


def parse_seeds(text: str) -> range:
    """ "10000:10100" -> range(10000, 10100)."""
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise UsageError(f"--seeds '{text}' is not a range of seeds; give A:B with A < B, such as 10000:10100.")
    return range(int(first), int(end))


def _cores() -> int:
    """Processes that this machine can run at once, 8 at most: each takes half a gigabyte."""
    return min(8, len(os.sched_getaffinity(0)))


def _report(path: Path) -> int:
    from samrl.report import html

    say(f"report: {html.write(path)}")
    return 0


def _version() -> int:
    import samrl

    print(samrl.__version__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
