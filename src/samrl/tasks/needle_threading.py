"""Needle-Threading: a thread of 150 mm, 1.6 mm across, through the eye of a needle, 8 mm high and 5 mm wide."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.errors import UnreachableError
from samrl.tasks import cell
from samrl.tasks.elements import chain, ring
from samrl.tasks.robots import panda, rizon
from samrl.tasks.spec import Ball, Body, CameraSpec, SceneSpec, Solid, chain_of, pose_of, pose_to
from samrl.tasks.task import Draw, Measures, Truth

FRONT, REAR = 6, 18  # segments before and behind the fingers
COARSE = 3  # segments behind the fingers in the twin: what hangs there does nothing
SEGMENT, RADIUS, DENSITY = 0.150 / 24, 0.0008, 3100.0  # [m], [m], [kg/m³]: 39 mg a segment
STIFFNESS, DAMPING = 1.6e-3, 4e-6  # of a joint: E·I = 1e-5 N m², the free end sags by 2 mm
CALM = 4.0  # times as much damping as that has the twin, whose steps are long
CONTACT = (500.0, 0.0)  # of the twin's contact: a stiffer one rattles at 2 ms
EYE, WIRE, SHAFT = (0.0025, 0.0040), 0.0008, 0.0012  # half width and height of what is free; radii of wire and shaft [m]
EYE_P = (0.50, 0.0, 0.15)  # the eye's centre, nominal [m]
NEEDLE = 0.060  # from the eye's centre to the stand [m]
SUCCESS_DEPTH = 0.010
UPRIGHT = 0.005  # how far a needle leans that stands on a table [rad]
UNEVEN = 0.05  # rather more than gravity and stiffness may bend a joint more than the next but five [rad]
STEEL, CLOTH, RED = (0.7, 0.7, 0.75), (0.3, 0.4, 0.6), (0.8, 0.2, 0.2)
YELLOW = (1.0, 0.85, 0.1)  # the needle, as the twin paints it for the actor: steel hardly shows where it is a pixel wide


def scene() -> SceneSpec:
    """The nominal scene, as the twin believes it before the first image. The needle's x axis is the way through its eye."""
    actor_bodies, actor = panda(opening=RADIUS)
    carrier_bodies, carrier = rizon(*cell.CARRIER_BASE, *cell.HAND_EYE, cell.CARRIER_HOME)
    grip = Body(
        "grip", actor.tool_parent, actor.tool_p, actor.tool_quat, mass=0.01, inertia=(1e-5,) * 3 + (0.0,) * 3, gravcomp=1.0
    )
    joint = Ball(STIFFNESS, CALM * DAMPING)
    front = _thread("front", quat=(1.0, 0, 0, 0), count=FRONT, length=SEGMENT, joint=joint, unit="thread")
    foot = EYE[1] + WIRE + SHAFT  # its round end begins in the wire, and leaves the eye free
    needle = Body(
        "needle", "world", EYE_P, updatable=True,
        solids=(
            *ring(EYE, WIRE, 12, YELLOW),
            Solid("capsule", (SHAFT, (NEEDLE - foot) / 2), (0, 0, -(NEEDLE + foot) / 2), color=YELLOW, collide=True),
            Solid("box", (0.02, 0.02, (EYE_P[2] - NEEDLE) / 2), (0, 0, -(EYE_P[2] + NEEDLE) / 2), color=CLOTH),
        ),
    )  # fmt: skip
    table = Body("table", solids=(Solid("plane", (1.5, 1.5), color=(0.5, 0.45, 0.4), collide=True),))
    bodies = (table, needle, *actor_bodies, grip, *front, *_behind(COARSE), *carrier_bodies)
    pairs = tuple((b.name, "needle") for b in front)
    return SceneSpec("needle-threading", bodies, actor, carrier, CameraSpec(), pairs=pairs)


_thread = partial(chain, parent="grip", p=(0, 0, 0), radius=RADIUS, density=DENSITY, color=RED, contact=CONTACT)


def _behind(count: int) -> tuple[Body, ...]:
    """The thread behind the fingers, of so many segments: the fewer, the longer, and bent as much by the same force."""
    share = count / REAR
    joint = Ball(share * STIFFNESS, share * CALM * DAMPING)
    return _thread("rear", quat=(0, 0, 0, 1.0), count=count, length=SEGMENT / share, joint=joint)


def _finer(scene: SceneSpec) -> SceneSpec:
    """The scene with all segments behind the fingers."""
    coarse = [i for i, b in enumerate(scene.bodies) if b.name.startswith("rear")]
    return replace(scene, bodies=(*scene.bodies[: coarse[0]], *_behind(REAR), *scene.bodies[coarse[-1] + 1 :]))


@dataclass(frozen=True)
class Ranges:
    """Half-widths and intervals from which a reset is drawn. SI units, radians."""

    needle_xy: float = 0.04
    needle_yaw: float = math.radians(60)
    bend: float = 0.012  # of the free end off the straight line, at most
    twist: float = math.radians(30)  # of the thread about itself, from the fingers to the free end
    softness: tuple[float, float] = (0.5, 2.0)  # the thread's stiffness, times the nominal one
    start: tuple[float, float, float] = (0.02, 0.04, 0.02)
    view_yaw: float = math.radians(85)
    view_pitch: tuple[float, float] = (math.radians(5), math.radians(75))
    view_radius: tuple[float, float] = (0.25, 0.60)
    view_aside: float = 0.03


@dataclass(frozen=True)
class NeedleThreading:
    """Attributes:
    scene: what the twin believes before the first image.
    horizon: control steps an episode; substeps: the twin's physics steps in each of them.
    """

    name: str = "needle-threading"
    scene: SceneSpec = field(default_factory=scene)
    horizon: int = 60
    substeps: int = 50
    ranges: Ranges = field(default_factory=Ranges)
    crops: tuple[float, float] = (0.30, 0.03)

    def known(self) -> dict[str, tuple[float, ...]]:
        """How far [m, rad] bodies lie from where the twin first believes them."""
        r = self.ranges
        return {"needle": (r.needle_xy, r.needle_yaw, UPRIGHT), "thread": (r.bend, UNEVEN)}

    def physics(self) -> dict[str, float]:
        """Nothing: a thread of a gram does not show in an arm's joints."""
        return {}

    def shapes(self) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
        return {}

    def tip(self) -> Tensor:
        """The free end in the tool's frame, the thread straight (3) [m]."""
        return torch.tensor([FRONT * SEGMENT, 0.0, 0.0])

    def look_at(self) -> Tensor:
        return torch.tensor(EYE_P, dtype=torch.float64) - torch.tensor([0.03, 0.0, 0.0], dtype=torch.float64)

    def view_ranges(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        return cell.view_ranges(self.ranges)

    def draw_views(self, rng: np.random.Generator, count: int = 64) -> np.ndarray:
        """Camera poses (count, 4, 4) uniform in yaw, pitch and radius about a point near the eye."""
        return cell.draw_views(self.ranges, self.look_at(), rng, count)

    def draw(self, seed: int) -> Draw:
        """The hidden truth: needle, the thread's shape and stiffness, colours, start of the arm, starts of the camera."""
        rng = np.random.default_rng([seed, 1])
        truth = self.sample(1, torch.Generator().manual_seed(int(rng.integers(2**62))))
        low, high = self.ranges.softness
        softness = float(low * (high / low) ** rng.uniform())
        needle, thread = (tuple(rng.uniform(0.15, 0.9, 3)) for _ in range(2))
        true = _finer(self.scene)
        for name, X in truth.poses.items():
            p, quat = pose_to(X[0])
            true = true.with_body(name, p=p, quat=quat)
        turn = lie.pose(truth.poses["front1"][0, :3, :3], torch.zeros(3, dtype=torch.float64))
        for body in true.bodies:
            if isinstance(body.joint, Ball):
                joint = Ball(softness * body.joint.stiffness, softness * body.joint.damping / CALM)
                true = true.with_body(body.name, joint=joint, solids=(replace(body.solids[0], color=thread),))
                if body.name not in truth.poses:  # behind the fingers it is bent as before them
                    p, quat = pose_to(pose_of(body.p, body.quat) @ turn)
                    true = true.with_body(body.name, p=p, quat=quat)
        *metal, stand = true.body("needle").solids
        metal = [replace(solid, color=STEEL) for solid in metal]
        true = true.with_body("needle", solids=(*metal, replace(stand, color=needle)))
        return Draw(true, truth.q[0].numpy(), self.draw_views(rng), seed, {"softness": softness})

    def sample(self, count: int, generator: torch.Generator) -> Truth:
        """`count` draws of needle, thread and start. The thread is bent evenly towards a random side, and twisted evenly."""
        r = self.ranges
        uniform = lambda *n: 2 * torch.rand(count, *n, generator=generator, dtype=torch.float64) - 1  # noqa: E731
        still = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
        needle_p = torch.tensor(EYE_P, dtype=torch.float64) + r.needle_xy * still * uniform(3)
        poses = {"needle": lie.pose(lie.exp_so3(torch.tensor([0, 0, r.needle_yaw]) * uniform(3)), needle_p)}
        side, amount, twist = math.pi * uniform(1), r.bend * uniform(1).abs(), r.twist * uniform(1)
        joints = FRONT * (FRONT + 1) / 2  # a turn of 1 in every joint moves the free end by so many segments
        bend = amount / (SEGMENT * joints)
        turn = lie.exp_so3(torch.cat([twist / FRONT, bend * side.cos(), bend * side.sin()], -1))
        for name in self.scene.units["thread"]:
            body = self.scene.body(name)
            X_PB = pose_of(body.p, body.quat)
            poses[name] = lie.pose(X_PB[:3, :3] @ turn, X_PB[:3, 3].expand(count, 3))
        return Truth(poses, self._starts(uniform(3)))

    def _starts(self, place: Tensor) -> Tensor:
        """Joint angles (n, 7): the thread level, its free end some centimetres before the nominal eye."""
        arm = chain_of(self.scene, self.scene.actor)
        R_WE = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)).expand(len(place), 3, 3)
        ahead = torch.tensor([FRONT * SEGMENT + 0.07, 0.0, -0.01], dtype=torch.float64)
        p = torch.tensor(EYE_P, dtype=torch.float64) - ahead + place * torch.tensor(self.ranges.start, dtype=torch.float64)
        q, p_error, r_error = arm.solve(lie.pose(R_WE, p))
        if bool(((p_error > 1e-4) | (r_error > 1e-3)).any()):
            raise UnreachableError(f"the arm cannot take {int((p_error > 1e-4).sum())} of {len(p)} starts of {self.ranges}.")
        return q

    def measures(self, poses: dict[str, Tensor], before: Measures | None = None) -> Measures:
        """Thread against eye, in the needle's axes, from X_WB of "needle" and the segments before the fingers:
        tip (*batch, 3): the free end; direction (*batch, 2): of the last segment, across the way through the eye;
        beside (*batch): how far the thread is outside the eye where it is near the eye's plane, summed over points
        [m]; inside (*batch): 1 where the thread crosses that plane within the eye, else 0."""
        X_WN = poses["needle"]
        ends = torch.stack([poses[f"front{i}"][..., :3, 3] for i in range(FRONT)], -2)
        last = poses[f"front{FRONT - 1}"]
        ends = torch.cat([ends, (last[..., :3, 3] + SEGMENT * last[..., :3, 0])[..., None, :]], -2)
        ends = (ends - X_WN[..., None, :3, 3]) @ X_WN[..., :3, :3]
        direction = (X_WN[..., :3, :3].transpose(-1, -2) @ last[..., :3, 0, None])[..., 1:, 0]
        share = torch.arange(1, 5, dtype=ends.dtype, device=ends.device) / 4
        points = ends[..., :-1, None, :] + share[:, None] * (ends[..., 1:, None, :] - ends[..., :-1, None, :])
        near = torch.exp(-((points[..., 0] / 0.004) ** 2))
        aside = cell.smooth_norm(points[..., 1:] / points.new_tensor(EYE), 0.07) - 0.7  # 0 a little inside the ellipse
        beside = (near * torch.nn.functional.softplus(aside / 0.17) * 0.17 * 0.003).sum((-1, -2))
        return {"tip": ends[..., -1, :], "direction": direction, "beside": beside, "inside": _inside(ends)}

    def success(self, measures: Measures) -> Tensor:
        """The free end is at least 10 mm through the eye."""
        return (measures["inside"] > 0) & (measures["tip"][..., 0] >= SUCCESS_DEPTH)

    def cost(self, measures: Measures) -> Tensor:
        """How far the state is from success [in units of 10 mm]: the free end from the eye's axis, twice, so that it comes to the
        axis before it comes to the eye; along the axis, up to 5 mm more than success asks; its direction, as motion of 20 mm of
        thread; and `beside`, which makes a wall of the eye's plane, with the eye as its only hole."""
        tip = measures["tip"]
        missing = SUCCESS_DEPTH + 0.005 - tip[..., 0]
        soft = lambda x: torch.nn.functional.softplus(x / 0.001) * 0.001  # noqa: E731
        along = soft(missing) + soft(-missing - 0.010)
        lateral, lean = cell.smooth_norm(tip[..., 1:], 0.0005), cell.smooth_norm(0.02 * measures["direction"], 0.0005)
        return (2 * lateral + along + lean + measures["beside"]) / 0.01

    def landmarks(self, poses: dict[str, Tensor]) -> Tensor:
        """The free end, the eye's centre, the last segment's direction and the way through the eye (*batch, 4, 3)."""
        X_WN, last = poses["needle"], poses[f"front{FRONT - 1}"]
        tip = last[..., :3, 3] + SEGMENT * last[..., :3, 0]
        return torch.stack(torch.broadcast_tensors(tip, X_WN[..., :3, 3], last[..., :3, 0], X_WN[..., :3, 0]), -2)


def _inside(ends: Tensor) -> Tensor:
    """(*batch) 1 where the polyline ends (*batch, n, 3) goes through the eye from -x to +x, by its last crossing."""
    x = ends[..., 0].detach()
    a, b = ends[..., :-1, :].detach(), ends[..., 1:, :].detach()
    crosses = (x[..., :-1] < 0) & (x[..., 1:] >= 0)
    share = (-a[..., 0] / (b[..., 0] - a[..., 0]).clamp_min(1e-12))[..., None]
    place = (a + share * (b - a))[..., 1:] / ends.new_tensor(EYE)
    within = crosses & ((place * place).sum(-1) < 1)
    last = torch.where(crosses, torch.arange(1, crosses.shape[-1] + 1, device=x.device), 0).argmax(-1, keepdim=True)
    return within.gather(-1, last)[..., 0].to(ends.dtype)
