"""The `samrl` command: one subcommand a verb. Nothing heavy is imported before a verb needs it, so that help is instant."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from samrl.core.errors import SamrlError, UnknownNameError

Task = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
What = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")]
ScanPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCAN_DIR")]
ModelPath = Annotated[Path, tyro.conf.arg(metavar="FILE", aliases=["-o"])]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
Count = Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]
Dump = Annotated[Path | None, tyro.conf.arg(metavar="DUMP", help_behavior_hint="")]
Seeds = Annotated[str, tyro.conf.arg(metavar="A:B")]

SceneFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCENE")]
DataFiles = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
Files = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DATA", help_behavior_hint="")]
Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="WORD", help_behavior_hint="")]
Pairs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="JOINT=COLUMN", help_behavior_hint="")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Number = Annotated[float, tyro.conf.arg(metavar="X")]
MaybeNumber = Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="")]

RUNS = Path("runs")


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

    _at_least(1, workers=workers, episodes=episodes)
    _at_least(0, seed=seed, residual=residual)
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
        _say(f"run folder: {path}; world: {plan.world}, {plan.settings}")
        if world is None and plan.world == plans.default_world()[0]:
            _say(plans.default_world()[1])
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

    _at_least(1, workers=workers)
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


def identify(
    scene: SceneFile,
    data: DataFiles,
    /,
    *,
    fit: Words,
    columns: File = None,
    time: Name = None,
    angles: Pairs = (),
    rates: Pairs = (),
    absolute: bool = False,
    zero: Number = 0.0,
    degrees: bool = False,
    window: Number = 0.4,
    rate: MaybeNumber = None,
    stride: MaybeNumber = None,
    begin: Annotated[str, tyro.conf.arg(metavar="NAME")] = "everywhere",
    substep: Number = 1e-3,
    method: Annotated[str, tyro.conf.arg(metavar="NAME")] = "levenberg-marquardt",
    starts: Annotated[str, tyro.conf.arg(metavar="NAME")] = "estimate",
    epochs: Annotated[int, tyro.conf.arg(metavar="N")] = 80,
    share: Number = 0.5,
    off: Number = 0.0,
    mixture: Annotated[int, tyro.conf.arg(metavar="K")] = 0,
    objective: Annotated[str, tyro.conf.arg(metavar="NAME")] = "posterior",
    online: Number = 0.0,
    evaluate: Files = (),
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0,
    out: Folder = None,
) -> int:
    """Motion in, a physical model with error bars out: find the masses, lengths, friction, ... of a scene that explain recorded
    motion.

    Args:
        scene: MJCF or URDF; what it says of the numbers is where the search starts.
        data: CSV or NPZ files of joint angles, body poses or markers.
        fit: what to look for: link-lengths, com-distances, coms, masses, inertias, moments, damping, stiffness, armature,
            friction, contact-stiffness, contact-damping, sizes or gravity, of all that have it; or of one: masses:arm2.
        columns: YAML file that says what the columns are (docs/identify.md); or name them by the next six.
        time: column of times [s], or the step in seconds.
        angles: columns of joints' angles [rad].
        rates: columns of joints' velocities [rad/s]; without them they are the slopes of neighbouring angles.
        absolute: angles are against the world, not against the body before.
        zero: what is read where a joint is at 0.
        degrees: angles are in degrees.
        window: length of the pieces of motion that are predicted [s].
        rate: samples a second that are compared (default: as recorded).
        stride: seconds from one window to the next (default: --window).
        begin: windows everywhere, or one in each recording, from the first contact of a body that floats.
        substep: longest step of the engine [s].
        method: levenberg-marquardt, or adam, as in the paper.
        starts: estimate where each window starts, or read it from the data (adam always reads).
        epochs: passes over all windows at most.
        share: how far off the scene's numbers are believed to be; what motion does not tell stays near them.
        off: begin the search up to this share away from the scene's numbers, at random.
        mixture: also learn a distribution, a mixture of so many Gaussians.
        objective: of the mixture: posterior, whose intervals are calibrated, or huber, as in the paper.
        online: share of the mixture's epochs over which windows arrive one after the other.
        evaluate: other recordings, on which the error of each window is printed, from starts read from the data.
        seed: of all that is random.
        out: the folder (default: runs/identify-001, -002, ...).
    """
    from samrl import identification
    from samrl.core.runs import next_path
    from samrl.real2sim.identify import columns as told
    from samrl.report import identify as pages

    if starts not in ("estimate", "read"):
        raise UnknownNameError("way to", starts, ("estimate", "read"))
    _at_least(1, epochs=epochs)
    _at_least(0, mixture=mixture, seed=seed)
    _above_zero(window=window, substep=substep, rate=rate, stride=stride)
    if columns is not None:
        meaning = told.read_columns(columns)
    elif time is not None and angles:
        pairs = {"angles": _pairs("angles", angles), "rates": _pairs("rates", rates)}
        meaning = told.make_columns(
            {"time": _seconds(time), **pairs, "absolute": absolute, "zero": zero, "degrees": degrees}, "the command line"
        )
    else:
        raise UsageError("what the columns are was not said; give --columns FILE, or --time and --angles JOINT=COLUMN.")
    path = out or next_path(RUNS, "identify")
    asked = identification.Asked(
        scene, data, fit, window, rate, stride, substep, method, starts == "estimate" and method != "adam", epochs, share, off,
        seed, mixture, objective, online, evaluate, begin,
    )  # fmt: skip
    _say(f"folder: {path}")
    identification.identify(asked, meaning, path, _say)
    _say(f"report: {pages.write(path)}")
    return 0


def _pairs(name: str, given: Sequence[str]) -> dict[str, str]:
    """("a=b",) -> {"a": "b"}."""
    for text in given:
        if not all(text.partition("=")[::2]):
            raise UsageError(f"--{name} '{text}' should be JOINT=COLUMN, such as shoulder=theta1.")
    return dict(text.split("=", 1) for text in given)


def _seconds(text: str) -> str | float:
    """A step in seconds, or a column's name."""
    try:
        return float(text)
    except ValueError:
        return text


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

    _say(speed.machine(device))
    rows = {"render": speed.render, "physics": speed.physics}[what](device) if what != "loop" else speed.loop()
    print("\n".join(rows))
    return 0


def reconstruct(
    scan: ScanPath,
    /,
    *,
    out: ModelPath,
    voxel: MaybeNumber = None,
    max_depth: float = 4.0,
    depth_scale: float = 1000.0,
    up: Annotated[tuple[float, float, float] | None, tyro.conf.arg(metavar="X Y Z", help_behavior_hint="")] = None,
    density: float = 500.0,
    min_size: float = 0.02,
    max_size: float = 0.5,
    pieces: int = 8,
    fixed: bool = False,
    hold_out: int = 0,
    seed: int = 0,
    refine: int = 0,
) -> int:
    """Make a first model of a scene from RGB-D frames with poses: MJCF, with URDF and meshes in a folder beside it.

    Args:
        scan: folder with frame-N.color.jpg (or .png), frame-N.depth.png (16 bit), frame-N.pose.txt (camera to world, 4 x 4,
            metres) and camera-intrinsics.txt (3 x 3, pixels).
        out: the MJCF, such as scene.xml.
        voxel: side of a voxel in metres (default: by the scene's size, 2 to 20 mm).
        max_depth: readings beyond are not taken, in metres.
        depth_scale: units of the depth images to a metre.
        up: direction up in the scan's frame (default: as the cameras were held).
        density: what masses are guessed from, in kg/m³.
        min_size: what is smaller is left out, in metres.
        max_size: what is larger is fixed, in metres.
        pieces: most convex pieces that an object is made of.
        fixed: all objects are fixed where they were seen; else they float.
        hold_out: keep every N-th frame, and measure the surface against its depth; 0 for none.
        seed: of the search for planes and pieces.
        refine: steps by which vertices and colours of the surface are fitted to the frames, by gradients of the image loss; 30
            would do. 0 for none.
    """
    if out.suffix != ".xml":
        raise UsageError(f"--out {out} is no MJCF file; a name that ends in .xml would do.")
    _at_least(1, pieces=pieces)
    _at_least(0, hold_out=hold_out, seed=seed, refine=refine)
    _above_zero(voxel=voxel, max_depth=max_depth, depth_scale=depth_scale, density=density, min_size=min_size, max_size=max_size)
    from samrl.real2sim import model_files
    from samrl.real2sim import reconstruct as work

    settings = work.ReconstructSettings(
        voxel, max_depth, depth_scale, up, density, min_size, max_size, pieces, not fixed, hold_out, seed, refine
    )
    scene = work.reconstruct(scan, settings, _say)
    model_files.write(scene, out)
    print("\n".join(work.describe(scene)))
    _say(f"model: {out}; URDF, meshes and the coloured surface: {out.with_suffix('')}")
    return 0


def articulate(
    scene: SceneFile,
    looks: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="LOOKS_DIR")],
    /,
    *,
    body: Annotated[str, tyro.conf.arg(metavar="NAME")],
    out: ModelPath,
    kind: Name = None,
    known: bool = False,
    doubt: Annotated[tuple[float, float], tyro.conf.arg(metavar="DEGREES METRES")] = (12.0, 0.025),
    doubt_base: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="DEGREES METRES", help_behavior_hint="")] = None,
    opening: Annotated[tuple[int, ...], tyro.conf.arg(metavar="I", help_behavior_hint="")] = (),
    clearance: MaybeNumber = None,
    depth_scale: float = 1000.0,
) -> int:
    """Find how far a drawer, door or lid is open in each look, and the axis that it moves along or about.

    Args:
        scene: the rough model, MJCF or URDF, in which the body is where it is when closed.
        looks: folder with frames as reconstruct takes them, and for each a mask of the body, frame-N.NAME.png.
        body: the one that moves.
        out: the MJCF with the joint that was found, such as found.xml; numbers go into found.json.
        kind: slide or hinge (default: as the scene has it; where it has none, what fits best).
        known: the scene's axis is right, and only states are looked for.
        doubt: how far the scene's axis may be off.
        doubt_base: standard deviations of where the furniture stands (default: as the scene has it).
        opening: for each look which opening it shows, 0, 0, 1, ... (default: each look has its own).
        clearance: what is seen so many metres in front of the body, and is none of it, hides it, such as a hand; .015 would do
            (default: nothing does).
        depth_scale: units of the depth images to a metre.
    """
    if out.suffix != ".xml":
        raise UsageError(f"--out {out} is no MJCF file; a name that ends in .xml would do.")
    _above_zero(
        depth_scale=depth_scale, clearance=clearance, doubt=min(doubt), doubt_base=None if doubt_base is None else min(doubt_base)
    )
    import math

    from samrl.real2sim.articulation import files
    from samrl.real2sim.articulation.fit import fit_articulation
    from samrl.real2sim.articulation.scene_file import write_joint
    from samrl.real2sim.articulation.search import ArticulationSettings

    turned = lambda pair: (pair[1], math.radians(pair[0]))  # noqa: E731
    base = None if doubt_base is None else turned(doubt_base)
    settings = ArticulationSettings(math.radians(doubt[0]), doubt[1], base, clearance=clearance)
    given, kinds = files.read_looks(looks, body, depth_scale), (kind,) if kind else ()
    found = fit_articulation(
        scene, body, list(given.values()), kinds=kinds, opening=opening or None, free_axis=not known, settings=settings
    )
    unit, word = (1.0, "m") if found.kind == "slide" else (math.degrees(1), "degrees")
    for i, name in zip(opening or range(len(given)), given, strict=True):
        print(f"{name}: {unit * found.state[i]:.4f} ± {2 * unit * found.state_std[i]:.4f} {word}")
    print(f"axis in the world: {' '.join(f'{x:.5f}' for x in found.axis_W)} ± {2 * math.degrees(found.angle_std):.3f} degrees")
    if found.kind == "hinge":
        print(f"through: {' '.join(f'{x:.4f}' for x in found.point_W)} ± {2 * found.place_std:.4f} m")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(write_joint(scene, found))
    files.write_estimate(out.with_suffix(".json"), found)
    _say(f"{found.message} Model: {out}")
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
        _say(f"samrl: {e}")
        return 2 if isinstance(e, (UnknownNameError, UsageError)) else 1
    except KeyboardInterrupt:
        _say("samrl: interrupted.")
        return 130


class UsageError(SamrlError):
    """An option with a value that it cannot take."""


class _resumable:
    """Ctrl-C within, or a TERM as schedulers send it, says in one sentence how to go on."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGTERM, signal.default_int_handler)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.before)
        if kind is KeyboardInterrupt:
            _say(f"samrl: interrupted; everything finished is kept, and `{self.command}` goes on from there.")
            raise SystemExit(130)


def parse_seeds(text: str) -> range:
    """ "10000:10100" -> range(10000, 10100)."""
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise UsageError(f"--seeds '{text}' is not a range of seeds; give A:B with A < B, such as 10000:10100.")
    return range(int(first), int(end))


def _at_least(low: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < low:
            raise UsageError(f"--{name.replace('_', '-')} {value} is too low; the least is {low}.")


def _above_zero(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')} {value:g} cannot be; it takes a number above zero.")


def _cores() -> int:
    """Processes that this machine can run at once, 8 at most: each takes half a gigabyte."""
    import os

    return min(8, len(os.sched_getaffinity(0)))


def _report(path: Path) -> int:
    from samrl.report import html

    _say(f"report: {html.write(path)}")
    return 0


def _version() -> int:
    import samrl

    print(samrl.__version__)
    return 0


def _say(line: str) -> None:
    if not line:
        return
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
