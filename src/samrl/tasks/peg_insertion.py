"""Peg-Insertion: a cylindrical peg, 16 mm across, into an 18 mm hole in a block."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.errors import UnreachableError
from samrl.tasks import cell
from samrl.tasks.robots import panda, rizon
from samrl.tasks.spec import Body, CameraSpec, SceneSpec, Solid, chain_of, pose_of, pose_to
from samrl.tasks.task import Draw, Measures, Truth

PEG_RADIUS, PEG_HALF_LENGTH, PEG_MASS = 0.008, 0.030, 0.060
BLOCK_HALF = (0.045, 0.040, 0.025)
HOLE_RADIUS, HOLE_DEPTH, HOLE_CHAMFER = 0.009, 0.030, 0.002
BLOCK_P = (0.50, 0.0, 0.050)  # centre of the nominal block, on a riser above the table [m]
GRASP_P = (0.0, 0.0, 0.020)  # centre of the peg in the tool's frame, nominal grasp [m]
SUCCESS_DEPTH = 0.015
WALL = (0.115, 0.110, 0.260)  # its distance from the hole's axis, half its width, its height above the block's top [m]


def scene(hole_radius: float = HOLE_RADIUS, chamfer: float = HOLE_CHAMFER, wall: bool = False) -> SceneSpec:
    """The nominal scene, as the twin believes it before the first image."""
    actor_bodies, actor = panda()
    carrier_bodies, carrier = rizon(*cell.CARRIER_BASE, *cell.HAND_EYE, cell.CARRIER_HOME)
    across = PEG_MASS * (3 * PEG_RADIUS**2 + (2 * PEG_HALF_LENGTH) ** 2) / 12
    along = PEG_MASS * PEG_RADIUS**2 / 2
    peg = Body(
        "peg", actor.tool_parent, *pose_to(pose_of(actor.tool_p, actor.tool_quat) @ pose_of(GRASP_P, (1.0, 0, 0, 0))),
        mass=PEG_MASS, inertia=(across, across, along, 0, 0, 0), gravcomp=1.0, updatable=True,
        solids=(Solid("cylinder", (PEG_RADIUS, PEG_HALF_LENGTH), color=(0.75, 0.25, 0.2), collide=True),),
    )  # fmt: skip
    block = Body(
        "block", "world", BLOCK_P, updatable=True,
        solids=(
            Solid("block_with_hole", (*BLOCK_HALF, hole_radius, HOLE_DEPTH, chamfer), color=(0.25, 0.4, 0.7), collide=True),
            Solid("box", (0.02, 0.02, 0.02), (0, 0, -BLOCK_HALF[2] - 0.02), color=(0.2, 0.2, 0.2)),
            *(_wall() if wall else ()),
        ),
    )  # fmt: skip
    table = Body("table", solids=(Solid("plane", (1.5, 1.5), color=(0.5, 0.45, 0.4), collide=True),))
    return SceneSpec(
        "peg-insertion", (table, block, *actor_bodies, peg, *carrier_bodies), actor, carrier, CameraSpec(),
        pairs=(("peg", "block"), ("peg", "table")),
    )  # fmt: skip


def _wall() -> tuple[Solid, ...]:
    """An upright wall, and the shelf that joins it to the block: from its side neither the hole nor the peg above it is seen
    at low pitch. Farther from the hole than the hand reaches when the peg is in it."""
    (x, y, z), edge, half = WALL, BLOCK_HALF[0], BLOCK_HALF[2]
    shelf = Solid("box", ((x - edge) / 2, 0.030, 0.004), ((x + edge) / 2, 0, 0.004 - half), color=(0.5, 0.5, 0.45))
    return Solid("box", (0.003, y, z / 2 + half), (x, 0, z / 2), color=(0.55, 0.6, 0.5)), shelf


@dataclass(frozen=True)
class Ranges:
    """Half-widths and intervals from which a reset is drawn. SI units, radians."""

    block_xy: float = 0.06
    block_z: float = 0.01
    block_yaw: float = math.radians(45)
    slip: float = 0.003
    slip_tilt: float = math.radians(2)
    tip_height: tuple[float, float] = (0.080, 0.150)
    tip_aside: float = 0.060
    tilt: float = math.radians(8)
    view_yaw: float = math.radians(85)
    view_pitch: tuple[float, float] = (math.radians(20), math.radians(75))
    view_radius: tuple[float, float] = (0.25, 0.60)
    view_aside: float = 0.03


@dataclass(frozen=True)
class PegInsertion:
    """Attributes:
    scene: what the twin believes before the first image.
    horizon: control steps an episode; substeps: the twin's physics steps in each of them.
    cover: the true scene has an upright plate beside the hole, of which the twin knows nothing.
    """

    name: str = "peg-insertion-open"
    scene: SceneSpec = field(default_factory=scene)
    horizon: int = 60
    substeps: int = 20
    ranges: Ranges = field(default_factory=Ranges)
    crops: tuple[float, float] = (0.30, 0.03)
    cover: bool = False

    def tight(self) -> PegInsertion:
        """A quarter of a millimetre of radial clearance and no chamfer."""
        wall = len(self.scene.body("block").solids) == len(scene(wall=True).body("block").solids)
        return replace(self, scene=scene(PEG_RADIUS + 0.00025, 0.0, wall))

    @staticmethod
    def walled() -> PegInsertion:
        """A wall beside the hole, on any side that faces the camera arm, and a peg that has slipped twice as far: where to look
        from depends on how the block stands, and who does not see the peg misses the hole every other time."""
        ranges = Ranges(block_yaw=math.radians(90), slip=0.006, slip_tilt=math.radians(4))
        return PegInsertion("peg-insertion", scene(wall=True), ranges=ranges)

    def known(self) -> dict[str, tuple[float, ...]]:
        """How far [m, rad] bodies lie from where the twin first believes them, as the cell's engineer knows it."""
        r = self.ranges
        return {"block": (r.block_xy, r.block_yaw), "peg": (r.slip, r.slip_tilt)}

    def physics(self) -> dict[str, float]:
        """Mass and friction may be anything within half of themselves (a uniform distribution's deviation); of the arm, dampers
        and rotors are known roughly, inertias hardly, masses of links to a hundredth."""
        links = {f"masses:{name}": 0.01 / 3**0.5 for name in self.scene.actor.bodies[1:]}
        half = 0.5 / 3**0.5
        others = {"armature": 0.7, "damping": 0.3, "inertias": 2.0, "contact-stiffness": 1.5}
        return {"masses:peg": half, "friction": half, **others, **links}

    def shapes(self) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
        """The hole, from a quarter of a millimetre of clearance without chamfer to the nominal one."""
        easy = (*BLOCK_HALF, HOLE_RADIUS, HOLE_DEPTH, HOLE_CHAMFER)
        return {"block/0": ((*BLOCK_HALF, PEG_RADIUS + 0.00025, HOLE_DEPTH, 0.0), easy)}

    def tip(self) -> Tensor:
        """The peg's tip in the tool's frame, in the nominal grasp (3) [m]."""
        return torch.tensor(GRASP_P) + torch.tensor([0.0, 0.0, PEG_HALF_LENGTH])

    def view_ranges(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        """Intervals of yaw, pitch [rad] and radius [m] about `look_at` that cameras start in."""
        return cell.view_ranges(self.ranges)

    def look_at(self) -> Tensor:
        return torch.tensor([BLOCK_P[0], BLOCK_P[1], BLOCK_P[2] + BLOCK_HALF[2] + 0.045], dtype=torch.float64)

    def draw(self, seed: int) -> Draw:
        """The hidden truth: block, grasp, colours, start of the arm, candidate starts of the camera."""
        rng = np.random.default_rng([seed, 1])
        truth = self.sample(1, torch.Generator().manual_seed(int(rng.integers(2**62))))
        block_p, block_quat = pose_to(truth.poses["block"][0])
        peg_p, peg_quat = pose_to(truth.poses["peg"][0])
        true = self.scene.with_body("block", p=block_p, quat=block_quat).with_body("peg", p=peg_p, quat=peg_quat)
        true = _recolor(true, rng)
        if self.cover:
            true = _with_cover(true, int(rng.integers(4)))
        return Draw(true, truth.q[0].numpy(), self.draw_views(rng), seed)

    def _tool(self) -> Tensor:
        """The tool's pose in the body that it is fixed to."""
        return pose_of(self.scene.actor.tool_p, self.scene.actor.tool_quat)

    def sample(self, count: int, generator: torch.Generator) -> Truth:
        """`count` draws of block, slip and start at once, from the ranges. Starts that the arm cannot take are drawn
        again."""
        r = self.ranges
        uniform = lambda n: 2 * torch.rand(count, n, generator=generator, dtype=torch.float64) - 1  # noqa: E731
        block_p = torch.tensor(BLOCK_P) + uniform(3) * torch.tensor([r.block_xy, r.block_xy, r.block_z])
        block_w = uniform(3) * torch.tensor([0.0, 0.0, r.block_yaw])
        slip_w = uniform(3) * torch.tensor([r.slip_tilt, r.slip_tilt, 0.0])
        X_EP = lie.pose(lie.exp_so3(slip_w), torch.tensor(GRASP_P) + uniform(3) * r.slip)
        chain = chain_of(self.scene, self.scene.actor)
        down = chain.tool(chain.home)[:3, :3]
        q = chain.home.expand(count, -1).clone()
        missing = torch.ones(count, dtype=torch.bool)
        for _ in range(20):
            q_new, p_error, r_error = chain.solve(self._start(uniform(3), uniform(2), down, X_EP), iterations=30)
            good = missing & (p_error < 1e-4) & (r_error < 1e-3)
            q[good] = q_new[good]
            missing &= ~good
            if not missing.any():
                return Truth({"block": lie.pose(lie.exp_so3(block_w), block_p), "peg": self._tool() @ X_EP}, q)
        raise UnreachableError(f"the arm cannot take {int(missing.sum())} of {count} starts drawn from {r}.")

    def _start(self, place: Tensor, lean: Tensor, down: Tensor, X_EP: Tensor) -> Tensor:
        """Tool poses (n, 4, 4) that put the slipped peg's tip at `place`, the tool leaning by `lean` (both in [-1, 1])."""
        r = self.ranges
        low, high = r.tip_height
        top = torch.tensor([BLOCK_P[0], BLOCK_P[1], BLOCK_P[2] + BLOCK_HALF[2] + (low + high) / 2])
        tip = top + place * torch.tensor([r.tip_aside, r.tip_aside, (high - low) / 2])
        angle = math.pi * lean[:, :1]
        w = torch.cat([angle.cos(), angle.sin(), torch.zeros_like(angle)], -1) * r.tilt * lean[:, 1:].abs().sqrt()
        R_WE = lie.exp_so3(w) @ down
        tip_E = lie.transform(X_EP, torch.tensor([[0.0, 0.0, PEG_HALF_LENGTH]], dtype=X_EP.dtype)).squeeze(-2)
        return lie.pose(R_WE, tip - (R_WE @ tip_E[..., None]).squeeze(-1))

    def draw_views(self, rng: np.random.Generator, count: int = 64) -> np.ndarray:
        """Camera poses (count, 4, 4) uniform in yaw, pitch and radius about a point near the nominal hole."""
        return cell.draw_views(self.ranges, self.look_at(), rng, count)

    def measures(self, poses: dict[str, Tensor], before: Measures | None = None) -> Measures:
        """Peg against hole, from X_WB of "block" and "peg":
        lateral (*batch, 2): the tip's offset from the hole's axis; depth: the tip below the block's top (negative above)
        [m]; tilt (*batch, 2): the peg's axis across the hole's axis (sine of the angle)."""
        X_WB, X_WP = poses["block"], poses["peg"]
        R_BW = X_WB[..., :3, :3].transpose(-1, -2)
        axis_W = X_WP[..., :3, 2]
        tip_W = X_WP[..., :3, 3] + PEG_HALF_LENGTH * axis_W
        tip_B = (R_BW @ (tip_W - X_WB[..., :3, 3])[..., None]).squeeze(-1)
        axis_B = (R_BW @ axis_W[..., None]).squeeze(-1)
        return {"lateral": tip_B[..., :2], "depth": BLOCK_HALF[2] - tip_B[..., 2], "tilt": axis_B[..., :2]}

    def landmarks(self, poses: dict[str, Tensor]) -> Tensor:
        """The peg's tip, the centre of the hole's mouth, and their axes, downwards (*batch, 4, 3)."""
        X_WB, X_WP = poses["block"], poses["peg"]
        tip = X_WP[..., :3, 3] + PEG_HALF_LENGTH * X_WP[..., :3, 2]
        mouth = X_WB[..., :3, 3] + BLOCK_HALF[2] * X_WB[..., :3, 2]
        return torch.stack(torch.broadcast_tensors(tip, mouth, X_WP[..., :3, 2], -X_WB[..., :3, 2]), -2)

    def success(self, measures: Measures) -> Tensor:
        """The tip is at least 15 mm below the block's top, inside the hole."""
        inside = measures["lateral"].norm(dim=-1) < self.scene.body("block").solids[0].size[3]
        return inside & (measures["depth"] >= SUCCESS_DEPTH)

    def cost(self, measures: Measures) -> Tensor:
        """How far the state is from success: lateral and vertical distance and tilt (as motion of the peg's far end), each
        as a smooth norm that is linear far away and round within a millimetre. [in units of 10 mm]"""
        missing = torch.nn.functional.softplus((SUCCESS_DEPTH + 0.005 - measures["depth"]) / 0.001) * 0.001
        lateral = cell.smooth_norm(measures["lateral"], 0.0005)
        tilt = cell.smooth_norm(measures["tilt"] * 2 * PEG_HALF_LENGTH, 0.0005)
        return (2.0 * lateral + missing + tilt) / 0.01


def _recolor(true: SceneSpec, rng: np.random.Generator) -> SceneSpec:
    """Random colours of block, peg and table; the arm keeps its own."""
    for name in ("block", "peg", "table"):
        first, *rest = true.body(name).solids
        color = tuple(rng.uniform(0.15, 0.9, 3))
        true = true.with_body(name, solids=(replace(first, color=color), *rest))
    return true


def _with_cover(true: SceneSpec, side: int) -> SceneSpec:
    """An upright plate on the block's top, 18 mm from the hole's axis, on one of four sides."""
    half = 0.03
    angle = side * math.pi / 2
    p = (0.018 * math.cos(angle), 0.018 * math.sin(angle), BLOCK_HALF[2] + half)
    plate = Solid("box", (0.0015, 0.03, half), p, (math.cos(angle / 2), 0, 0, math.sin(angle / 2)), (0.3, 0.3, 0.3), collide=True)
    cover = Body("cover", "block", solids=(plate,))
    index = [b.name for b in true.bodies].index("block") + 1
    bodies = (*true.bodies[:index], cover, *true.bodies[index:])
    return replace(true, bodies=bodies, pairs=(*true.pairs, ("peg", "cover")))
