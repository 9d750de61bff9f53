"""How well a drawer's travel or a lid's angle, and the axis, are found from looks in a world that is not the twin.

    python benchmarks/articulation.py cabinet --count 30 --seed 10000 --picture cabinet.png

The scenes of examples/articulated, with MuJoCo's kinematics, PyBullet's software renderer (MuJoCo's where there is none) and the
worlds' RGB-D camera: 1280 × 720 pixels, noise, missing readings, light and shadows, see worlds/settings.yaml. In each scene
half-lengths of all solids are off by up to --shape, colours and light are drawn anew. Looks come from one view each, .8 to 1.1 m
away and 40 degrees to either side of the front, with the body open from a tenth to nine tenths of its range. The rough model's
axis is off by --angle in a random direction and --place across itself; with --unknown it has no joint at all; with --known the
axis is right and only states are looked for; with --base the furniture stands elsewhere, too. Nobody says how far the body is
open. Prints medians and 95th percentiles, and how often intervals of two standard deviations hold the truth. All of it is
simulated."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import mujoco
import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from samrl.core import lie
from samrl.core.camera import Camera, viewpoint
from samrl.core.types import RGBD
from samrl.model.physics import Physics
from samrl.real2sim.articulation.fit import JointEstimate, fit_articulation
from samrl.real2sim.articulation.problem import Model
from samrl.real2sim.articulation.scene_file import write_joint
from samrl.real2sim.articulation.search import ArticulationSettings
from samrl.worlds import settings as world_settings
from samrl.worlds.posed import PosedWorld

SCENES = Path(__file__).parent.parent / "examples" / "articulated"
SIZE, FOV = (1280, 720), math.radians(69)  # of the camera [px, rad]
STATE_OFF = {"slide": 0.05, "hinge": math.radians(30)}  # of the picture's rough states


@dataclass(frozen=True)
class Case:
    """A scene's joint, the body that it moves, what cameras look at [m], and where in the body a hand would hold it."""

    joint: str
    body: str
    kind: str
    focus: tuple[float, float, float]
    grip: tuple[float, float, float]


CASES = {
    "cabinet": Case("drawer_slide", "drawer", "slide", (0.1, 0.0, 0.3), (0.04, 0.02, 0.01)),
    "chest": Case("lid_hinge", "lid", "hinge", (0.0, 0.0, 0.18), (0.11, 0.02, 0.02)),
}


def true_scene(text: str, case: Case, rng: np.random.Generator, args: argparse.Namespace) -> str:
    """The world's scene: half-lengths off by up to --shape, a colour a body, and a little of it a solid; perhaps a hand."""
    spec, colors, shape = mujoco.MjSpec.from_string(text), {}, args.shape
    if args.hand:
        hand = spec.body(case.body).add_body(name="hand", pos=case.grip)
        hand.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.04, 0.035, 0.02], pos=[0.03, 0, 0])
        hand.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[0.035, 0.12, 0], fromto=[0.08, 0, 0, 0.28, 0.05, 0.1])
    for geom in spec.geoms:
        size = np.array(geom.size)
        if geom.type != mujoco.mjtGeom.mjGEOM_PLANE:
            geom.size = np.where(size > 0, np.maximum(size + shape * rng.uniform(-1, 1, 3), size / 2), size)
        color = colors.setdefault(geom.parent.name, rng.uniform(0.15, 0.85, 3))
        geom.rgba = [*np.clip(color + rng.uniform(-0.05, 0.05, 3), 0, 1), 1]
    return spec.to_xml()


def rough_scene(text: str, case: Case, rng: np.random.Generator, args: argparse.Namespace) -> str:
    """The twin's scene: the joint's axis turned by --angle in a random direction and moved across itself by --place, or none."""
    spec = mujoco.MjSpec.from_string(text)
    joint = spec.joint(case.joint)
    axis = np.array(joint.axis) / np.linalg.norm(joint.axis)
    turn, shift = (np.cross(axis, rng.standard_normal(3)) for _ in range(2))
    turn, shift = (v / np.linalg.norm(v) for v in (turn, shift))
    if args.unknown:
        spec.delete(joint)
    elif not args.known:
        joint.axis = lie.exp_so3(torch.as_tensor(math.radians(args.angle) * turn)).numpy() @ axis
        joint.pos = np.array(joint.pos) + args.place * shift
    if args.base:
        body = spec.body(args.scene)
        body.pos = np.array(body.pos) + args.base / 3**0.5 * rng.choice([-1, 1], 3)
        body.quat = lie.quat_from_matrix(lie.exp_so3(torch.as_tensor(args.base / 0.3 * turn_of(rng)))).numpy()
    return spec.to_xml()


def turn_of(rng: np.random.Generator) -> np.ndarray:
    """(3) a unit vector in a random direction."""
    v = rng.standard_normal(3)
    return v / np.linalg.norm(v)


def with_mask(look: RGBD, body: str, grown: int) -> RGBD:
    """The look with the body's mask alone: without the hand that hangs on it, and so many pixels wider."""
    mask = (look.masks[body] > 0.5) & (look.masks.get("hand", np.zeros(())) < 0.5)
    mask = ndimage.binary_dilation(mask, iterations=grown) if grown else mask
    return replace(look, masks={body: mask.astype(np.float32)})


def looks_at(case: Case, text: str, seed: int, args: argparse.Namespace) -> tuple[list[RGBD], np.ndarray]:
    """Looks, and the true states [m or rad]."""
    rng, truth = np.random.default_rng([seed, 77]), mujoco.MjModel.from_xml_string(text)
    world = PosedWorld(true_scene(text, case, rng, args), world_settings.load(args.settings), seed, np.array(case.focus))
    share = (np.arange(args.looks) + rng.uniform(0.1, 0.9, args.looks)) / args.looks
    states = rng.permutation(0.1 + 0.8 * share) * truth.joint(case.joint).range[1]
    looks = []
    for q in states:
        world.put({case.joint: q})
        place = (torch.tensor(x) for x in (rng.uniform(-0.7, 0.7), rng.uniform(0.35, 0.9), rng.uniform(0.8, 1.1)))
        focus = torch.as_tensor(np.array(case.focus) + rng.uniform(-0.05, 0.05, 3))
        camera = Camera.from_fov(*SIZE, FOV, viewpoint(focus, *(x.double() for x in place)))
        look = world.look(camera, (case.body, "hand") if args.hand else (case.body,))
        looks.append(with_mask(look, case.body, args.grown))
    world.close()
    return looks, states


def errors(case: Case, text: str, states: np.ndarray, found: JointEstimate) -> dict:
    """What the estimate is off by: states [mm or degrees], axis [degrees], place of a hinge [mm]; and by how many standard
    deviations each."""
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    axis, anchor = data.joint(case.joint).xaxis, data.joint(case.joint).xanchor
    sign = math.copysign(1.0, axis @ found.axis_W)
    angle = math.atan2(float(np.linalg.norm(np.cross(axis, found.axis_W))), abs(axis @ found.axis_W))
    off = anchor + axis * ((found.point_W - anchor) @ axis) - found.point_W
    place = float(np.linalg.norm(off - found.axis_W * (off @ found.axis_W)))
    state = sign * found.state - states
    out = {"kind": found.kind, "state": (abs(state) * (1e3 if case.kind == "slide" else math.degrees(1))).tolist()}
    out |= {
        "state_z": (abs(state) / found.state_std).tolist(),
        "loss": found.loss,
        "losses": found.losses,
        "seconds": found.seconds,
    }
    if found.angle_std:
        out |= {"angle": math.degrees(angle), "angle_z": angle / found.angle_std}
    if found.place_std:
        out |= {"place": 1e3 * place, "place_z": place / found.place_std}
    return out


def outline(text: str, case: Case, q: float, camera: Camera) -> np.ndarray:
    """(H, W) whether a pixel is on the outline of the twin's body at coordinate q."""
    model = Model.of(text, case.body)
    at = torch.tensor(model.scene.q_ref, dtype=torch.float32)
    at[int(model.scene.q_adr[model.links[0]])] = q
    X_WL = Physics(model.scene).link_poses(model.params, at)
    camera = Camera(camera.width, camera.height, camera.K.float(), camera.X_WC.float())
    mask = model.renderer.render(model.params, X_WL, camera).masks[case.body].numpy() > 0.5
    return ndimage.binary_dilation(mask, iterations=2) & ~ndimage.binary_erosion(mask, iterations=2)


def draw(path: Path, case: Case, texts: tuple[str, str], looks: list[RGBD], states: tuple[np.ndarray, np.ndarray]) -> None:
    """Looks with the outline of the twin's body as the rough model has it (red) and as it was found (green): two columns."""
    rows = []
    for look, *q in zip(looks, *states, strict=True):
        row = []
        for text, state, color in zip(texts, q, ((1.0, 0.1, 0.1), (0.1, 1.0, 0.1)), strict=True):
            picture = np.array(look.color)
            picture[outline(text, case, state, look.camera)] = color
            row.append(picture[:, 200:-200])
        rows.append(np.concatenate(row, 1))
    picture = Image.fromarray(np.uint8(np.rint(255 * np.clip(np.concatenate(rows), 0, 1))))
    picture.resize((picture.width // 2, picture.height // 2)).save(path)


def spread(values: list[float]) -> str:
    return f"{np.median(values):.3g} ({np.percentile(values, 95):.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", choices=CASES)
    parser.add_argument("--count", type=int, default=20, help="scenes")
    parser.add_argument("--seed", type=int, default=0, help="the first scene's")
    parser.add_argument("--looks", type=int, default=4)
    parser.add_argument("--angle", type=float, default=10.0, help="the rough axis is off by [degrees]")
    parser.add_argument("--place", type=float, default=0.02, help="and by [m] across itself")
    parser.add_argument("--shape", type=float, default=0.0005, help="half-lengths are off by at most [m]")
    parser.add_argument("--settings", default="nominal", help="of the sensor, the light and the calibration")
    parser.add_argument("--unknown", action="store_true", help="the rough model has no joint")
    parser.add_argument("--known", action="store_true", help="the rough model's axis is right")
    parser.add_argument("--base", type=float, default=0.0, help="the furniture stands elsewhere by [m], turned by this / .3 m")
    parser.add_argument("--hand", action="store_true", help="a hand and a forearm hide the handle; the model has none")
    parser.add_argument("--clearance", type=float, help="what is seen so far in front of the body hides it [m]")
    parser.add_argument("--grown", type=int, default=0, help="masks are so many pixels too wide all around")
    parser.add_argument("--picture", type=Path, help="a PNG of the first scene, before (red) and after (green)")
    parser.add_argument("--out", type=Path, help="a file that gets a line a scene")
    args = parser.parse_args()
    torch.set_num_threads(1)
    base = (args.base, args.base / 0.3) if args.base else None
    settings = ArticulationSettings(doubt_base=base, clearance=args.clearance)
    case, text, rows = CASES[args.scene], (SCENES / f"{args.scene}.xml").read_text(), []
    for seed in range(args.seed, args.seed + args.count):
        rng = np.random.default_rng([seed, 78])
        rough = rough_scene(text, case, rng, args)
        looks, states = looks_at(case, text, seed, args)
        found = fit_articulation(rough, case.body, looks, free_axis=not args.known, settings=settings)
        rows.append({"seed": seed} | errors(case, text, states, found))
        if args.out:
            with args.out.open("a") as lines:
                lines.write(json.dumps(rows[-1]) + "\n")
        if args.picture and seed == args.seed and not args.unknown:
            start = states + STATE_OFF[case.kind] * rng.choice([-1, 1], len(states))
            draw(args.picture, case, (rough, write_joint(rough, found)), looks[:3], (start[:3], found.state[:3]))
    unit = "mm" if case.kind == "slide" else "degrees"
    print(f"{args.scene}, {len(rows)} scenes from seed {args.seed}, {args.looks} looks; median (95th percentile)")
    right = sum(r["kind"] == case.kind for r in rows)
    print(f"kind of joint right in {right} of {len(rows)}; {spread([r['seconds'] for r in rows])} s")
    rows = [r for r in rows if r["kind"] == case.kind]
    for name, what in (("state", unit), ("angle", "degrees"), ("place", "mm")):
        each = [np.atleast_1d(r[name]) for r in rows if name in r]
        if each:
            z = np.concatenate([np.atleast_1d(r[f"{name}_z"]) for r in rows])
            flat = np.concatenate(each)
            held = f"within two standard deviations {(z < 2).mean():.0%}"
            print(f"{name} off by {spread(flat)} {what}, at most {flat.max():.3g}; {held}")


if __name__ == "__main__":
    main()
