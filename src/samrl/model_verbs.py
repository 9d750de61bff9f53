"""The verbs that make a model from data: identify, reconstruct, articulate. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from samrl.arguments import (
    RUNS,
    DataFiles,
    File,
    Files,
    Folder,
    MaybeNumber,
    ModelPath,
    Name,
    Number,
    Pairs,
    ScanPath,
    SceneFile,
    UsageError,
    Words,
    above_zero,
    at_least,
    say,
)


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
        starts: estimate where each window starts; or tied, no further from what was read than rows scatter; or read it from the
            data (adam always reads).
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

    at_least(1, epochs=epochs)
    at_least(0, mixture=mixture, seed=seed)
    above_zero(window=window, substep=substep, rate=rate, stride=stride)
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
        scene, data, fit, window, rate, stride, substep, method, "read" if method == "adam" else starts, epochs, share, off,
        seed, mixture, objective, online, evaluate, begin,
    )  # fmt: skip
    say(f"folder: {path}")
    identification.identify(asked, meaning, path, say)
    say(f"report: {pages.write(path)}")
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
    at_least(1, pieces=pieces)
    at_least(0, hold_out=hold_out, seed=seed, refine=refine)
    above_zero(voxel=voxel, max_depth=max_depth, depth_scale=depth_scale, density=density, min_size=min_size, max_size=max_size)
    from samrl.real2sim import model_files
    from samrl.real2sim import reconstruct as work

    settings = work.ReconstructSettings(
        voxel, max_depth, depth_scale, up, density, min_size, max_size, pieces, not fixed, hold_out, seed, refine
    )
    scene = work.reconstruct(scan, settings, say)
    model_files.write(scene, out)
    print("\n".join(work.describe(scene)))
    say(f"model: {out}; URDF, meshes and the coloured surface: {out.with_suffix('')}")
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
    above_zero(
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
    say(f"{found.message} Model: {out}")
    return 0
