"""Spatula-Flipping: a pancake of 120 mm in a shallow pan, to be turned over with a spatula of 90 x 80 mm. In the worlds it bends;
the twin takes it for rigid.

The pancake slides off a blade at the friction angle, so it is thrown or tipped, not carried over. What gradients through
contact tell is to press harder, not that one could go round; the expert tries (learn/trials.py), and is paid by how the one cost
falls."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from samrl.core import control, lie
from samrl.tasks import cell
from samrl.tasks.elements import round_sheet
from samrl.tasks.robots import panda, rizon
from samrl.tasks.spec import Ball, Body, CameraSpec, Free, SceneSpec, Solid, chain_of, pose_of, pose_to
from samrl.tasks.task import Draw, Measures, Told, Truth

LEAN, TO_BLADE, TILT = math.radians(75), 0.15, math.radians(15)  # handle to flange's z; flange to blade [m]; handle to blade
PAN = (0.5, 0.0, 0.20)  # centre of the pan's floor [m]
PAN_RADIUS, PAN_DEPTH, PAN_CHAMFER = 0.14, 0.015, 0.004
BLADE = (0.045, 0.040, 0.00075)  # half sizes [m]
SOFT = 2000.0  # of its surface in worlds [N/m]: dough of some 30 kPa, 8 mm thick, gives way by .4 mm/N on 5 cm²
RADIUS, HALF, RIM, MASS = 0.060, 0.004, 0.0032, 0.060  # of the pancake: half its thickness, its rounding [m], [kg]
STIFFNESS, DAMPING = 0.01, 2e-4  # of a joint between its pieces [N m/rad], [N m s/rad]: a petal sags by 9 degrees
ON = HALF + BLADE[2]  # from the blade's middle to the pancake's when it lies on it [m]
HOME = (0.0, -0.85, 0.0, -2.75, 0.0, 2.0, 0.78)
STEP, LEAD = (0.025, math.radians(12)), (0.06, math.radians(30))  # largest action, and farthest command ahead [m, rad]
CLEAR = 0.03  # so far above the pan's floor counts as lifted [m]
STILL = 0.005  # no point of it may have moved farther in a control period [m]
BEFORE, UPON, AFTER, FALLEN = 1, 2, 3, 4  # starts for learning: pancake before blade, on it, let go upside down, right side up
FLAT = 0.01  # how far one leans that lies in a pan [rad]
_Uniform = Callable[[int], Tensor]
DARK, IRON, DOUGH, CRUST = (0.2, 0.2, 0.2), (0.3, 0.3, 0.35), (0.9, 0.75, 0.45), (0.45, 0.25, 0.1)


def blade_in_tool() -> Tensor:
    """X_EB (4, 4): the blade's middle, x to its front edge and z up, in the end effector's frame."""
    z, x = torch.tensor([0.0, 0, 1]).double(), torch.tensor([1.0, 0, 0]).double()
    handle, up = math.cos(LEAN) * z + math.sin(LEAN) * x, math.cos(LEAN) * x - math.sin(LEAN) * z
    xb, zb = math.cos(TILT) * handle + math.sin(TILT) * up, math.cos(TILT) * up - math.sin(TILT) * handle
    return lie.pose(torch.stack([xb, torch.linalg.cross(zb, xb), zb], 1), TO_BLADE * handle + BLADE[0] * xb)


def scene() -> SceneSpec:
    """The nominal scene, as the twin believes it before the first image."""
    actor_bodies, actor = panda(opening=0.008)
    carrier_bodies, carrier = rizon(*cell.CARRIER_BASE, *cell.HAND_EYE, cell.CARRIER_HOME)
    gains = replace(
        control.gains(), max_translation=STEP[0], max_rotation=STEP[1], lead_translation=LEAD[0], lead_rotation=LEAD[1]
    )
    actor = replace(actor, home=HOME, gains=gains)
    quarter = math.cos(math.pi / 4)
    edge = Solid("capsule", (BLADE[2], BLADE[1]), (BLADE[0], 0, 0), (quarter, quarter, 0, 0), DARK, 0.3, True)
    back, half = (-math.cos(TILT), 0.0, math.sin(TILT)), 0.075
    turn = math.atan2(back[0], back[2]) / 2
    handle = Solid(
        "capsule", (0.006, half), (-BLADE[0] + back[0] * half, 0, back[2] * half), (math.cos(turn), 0, math.sin(turn), 0), DARK
    )
    spatula = Body(
        "spatula", actor.tool_parent, *pose_to(pose_of(actor.tool_p, actor.tool_quat) @ blade_in_tool()), mass=0.1,
        inertia=(1e-4,) * 3 + (0.0,) * 3, gravcomp=1.0, updatable=True, span=0.14,
        solids=(Solid("box", BLADE, color=DARK, friction=0.3, collide=True), edge, handle),
    )  # fmt: skip
    hole = (0.165, 0.165, 0.02, PAN_RADIUS, PAN_DEPTH, PAN_CHAMFER)
    block = Solid("block_with_hole", hole, color=IRON, collide=True, friction=0.3)
    pan = Body("pan", "world", (PAN[0], PAN[1], PAN[2] - 0.02 + PAN_DEPTH), solids=(block,))
    table = Body("table", solids=(Solid("plane", (1.5, 1.5), color=(0.5, 0.45, 0.4), collide=True),))
    return SceneSpec(
        "spatula-flipping", (table, pan, *actor_bodies, spatula, _pancake(), *carrier_bodies), actor, carrier, CameraSpec(),
        pairs=(("pancake", "pan"), ("pancake", "spatula"), ("spatula", "pan")), slip_speed=1e-3,
    )  # fmt: skip


def _pancake(thick: float = 1.0, mass: float = MASS) -> Body:
    """A rigid disc, light above and brown below."""
    half = thick * HALF
    whole = Solid("disc", (RADIUS, half, RIM), color=DOUGH, friction=0.3, collide=True, contact=(2000.0, 5.0))
    crust = Solid("cylinder", (RADIUS - RIM, 0.0005), (0, 0, -half + 0.0003), color=CRUST)
    across, about = mass * (3 * RADIUS**2 + 4 * half**2) / 12, mass * RADIUS**2 / 2
    return Body(
        "pancake", "world", (PAN[0], PAN[1], PAN[2] + HALF), joint=Free(), mass=mass, updatable=True, span=0.20,
        inertia=(across, across, about, 0, 0, 0), solids=(whole, crust),
    )  # fmt: skip


@dataclass(frozen=True)
class Ranges:
    """Half-widths and intervals from which a reset is drawn. SI units, radians."""

    place: float = 0.03
    thickness: float = 0.15
    mass: float = 0.3
    friction: tuple[float, float] = (0.2, 0.6)
    softness: tuple[float, float] = (0.5, 2.0)  # of the pancake's joints, times the nominal stiffness
    slip: float = 0.003
    slip_turn: float = math.radians(2)
    start: tuple[float, float, float] = (0.02, 0.03, 0.02)
    view_yaw: float = math.radians(85)
    view_pitch: tuple[float, float] = (math.radians(20), math.radians(75))
    view_radius: tuple[float, float] = (0.35, 0.65)
    view_aside: float = 0.03


@dataclass(frozen=True)
class SpatulaFlipping:
    """Attributes:
    scene: what the twin believes before the first image.
    horizon: control steps an episode; substeps: the twin's physics steps in each of them.
    """

    name: str = "spatula-flipping"
    scene: SceneSpec = field(default_factory=scene)
    horizon: int = 80
    substeps: int = 20
    ranges: Ranges = field(default_factory=Ranges)
    crops: tuple[float, float] = (0.30, 0.14)
    stages: tuple[float, ...] = (0.3, 0.25, 0.2, 0.25)

    def known(self) -> dict[str, tuple[float, ...]]:
        """How far [m, rad] bodies lie from where the twin first believes them. The pancake is round: its yaw does not matter. The
        spatula turns in the fingers, far from the blade."""
        r = self.ranges
        return {"pancake": (r.place, 0.05, FLAT), "spatula": (r.slip + TO_BLADE * r.slip_turn, r.slip_turn)}

    def physics(self) -> dict[str, float]:
        """Nothing: sixty grams that now and then lie on a blade hardly show in an arm's joints."""
        return {}

    def shapes(self) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
        """Thinner and thicker pancakes."""
        thin, thick = (HALF * (1 + s * self.ranges.thickness) for s in (-1, 1))
        return {"pancake/0": ((RADIUS, thin, RIM), (RADIUS, thick, RIM))}

    def tip(self) -> Tensor:
        """The blade's middle in the tool's frame, in the nominal grasp (3) [m]."""
        return blade_in_tool()[:3, 3].float()

    def look_at(self) -> Tensor:
        return torch.tensor(PAN, dtype=torch.float64) + torch.tensor([0.0, 0.0, 0.06], dtype=torch.float64)

    def view_ranges(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        return cell.view_ranges(self.ranges)

    def draw_views(self, rng: np.random.Generator, count: int = 64) -> np.ndarray:
        """Camera poses (count, 4, 4) uniform in yaw, pitch and radius about a point above the pan."""
        return cell.draw_views(self.ranges, self.look_at(), rng, count)

    # What a reset hides
    def draw(self, seed: int) -> Draw:
        """The hidden truth: the pancake's place, size, mass and colour, friction, the spatula in the hand, the starts of the arm
        and of the camera."""
        rng, r = np.random.default_rng([seed, 1]), self.ranges
        truth = self.sample(1, torch.Generator().manual_seed(int(rng.integers(2**62))))
        thick, heavy = 1 + np.array([r.thickness, r.mass]) * rng.uniform(-1, 1, 2)
        friction, (low, high) = float(rng.uniform(*r.friction)), r.softness
        cake = _pancake(thick, heavy * thick * MASS)
        p, quat = pose_to(truth.poses["pancake"][0])
        true = self.scene.with_body(
            "pancake", p=(*p[:2], PAN[2] + thick * HALF), quat=quat, mass=cake.mass, inertia=cake.inertia, solids=cake.solids
        )
        p, quat = pose_to(truth.poses["spatula"][0])
        true = true.with_body("spatula", p=p, quat=quat)
        for name in ("pan", "spatula", "pancake"):
            solids = tuple(replace(s, friction=friction) for s in true.body(name).solids)
            true = true.with_body(name, solids=solids)
        dough = np.array([rng.uniform(0.75, 0.95), rng.uniform(0.6, 0.8), rng.uniform(0.3, 0.55)])
        whole, crust = true.body("pancake").solids
        baked = replace(crust, color=tuple(dough * rng.uniform(0.3, 0.55)))
        true = true.with_body("pancake", solids=(replace(whole, color=tuple(dough)), baked))
        info = {"friction": friction, "softness": float(low * (high / low) ** rng.uniform())}
        return Draw(self._bending(true, info), truth.q[0].numpy(), self.draw_views(rng), seed, info, true)

    def _bending(self, true: SceneSpec, info: dict[str, float]) -> SceneSpec:
        """The scene with a pancake of seven pieces in the place of the rigid one."""
        whole, crust = (cake := true.body("pancake")).solids
        joint = Ball(info["softness"] * STIFFNESS, info["softness"] ** 0.5 * DAMPING)
        middle, *petals = round_sheet(
            "pancake", cake.p, cake.quat, radius=RADIUS, half=whole.size[1], rim=RIM, mass=cake.mass, joint=joint,
            colors=(whole.color, crust.color), friction=info["friction"], soft=SOFT,
        )  # fmt: skip
        at = [b.name for b in true.bodies].index("pancake")
        middle = replace(middle, updatable=True, span=cake.span)
        pairs = tuple((petal.name, other) for petal in petals for other in ("pan", "spatula"))
        return replace(true, bodies=(*true.bodies[:at], middle, *petals, *true.bodies[at + 1 :]), pairs=(*true.pairs, *pairs))

    def sample(self, count: int, generator: torch.Generator) -> Truth:
        """`count` draws of pancake, slip and start: the blade level and a little lifted at the pan's rim."""
        u, r = _uniform(count, generator), self.ranges
        p = torch.tensor([PAN[0] - 0.11, 0, PAN[2] + 0.06]).double() + u(3) * torch.tensor(r.start).double()
        w = u(3) * torch.tensor([0.08, 0.08, 0.15]).double() + torch.tensor([0, 0.15, 0])
        q = self._solve(lie.pose(lie.exp_so3(w), p))
        at = torch.tensor(PAN).double() + torch.cat([r.place * u(2), torch.full((count, 1), HALF - 1e-4).double()], -1)
        return Truth({"pancake": lie.pose(about(2, math.pi * u(1)[:, 0]), at), "spatula": self._held(self._slip(u))}, q)

    def _slip(self, u: _Uniform) -> Tensor:
        """X_EE' (n, 4, 4): the hand as the spatula has it."""
        r = self.ranges
        return lie.pose(lie.exp_so3(r.slip_turn * u(3)), r.slip * u(3))

    def _held(self, slip: Tensor) -> Tensor:
        """X_PB (n, 4, 4) of the spatula in its parent."""
        a = self.scene.actor
        return pose_of(a.tool_p, a.tool_quat) @ slip @ blade_in_tool()

    def _solve(self, X_WB: Tensor, q: Tensor | None = None, iterations: int = 60) -> Tensor:
        """Joints (n, 7) that bring the blade, as it should be held, to X_WB (n, 4, 4), from q (n, 7). Where none do, those of
        another stand in."""
        chain = chain_of(self.scene, self.scene.actor)
        start = chain.home.expand(len(X_WB), -1) if q is None else q
        q, p, r = chain.solve(X_WB @ lie.inverse(blade_in_tool()), start, iterations=iterations)
        good = (p < 3e-3) & (r < 3e-2)
        return torch.where(good[:, None], q, q[good][0] if bool(good.any()) else chain.home)

    # Where learning starts too
    def staged(self, kind: int, count: int, generator: torch.Generator) -> tuple[Truth, Measures]:
        """BEFORE: the blade low in the pan, the pancake flat before its front edge or against the far wall. UPON: the pancake on
        the blade, which often is rolled, as an arm is that rolled it from level; high or turned it counts as lifted. AFTER: the
        pancake let go upside down, low over the pan or its rim, the blade anywhere above. FALLEN: the same, right side up, after
        it has been lifted or not."""
        u = _uniform(count, generator)
        slip = self._slip(u)
        if kind == BEFORE:
            q, X_WP = self._before(u)
        else:
            q, X_WP = self._upon(u, slip, generator) if kind == UPON else self._let_go(u, over=kind == AFTER)
        truth = Truth({"pancake": X_WP, "spatula": self._held(slip)}, q)
        high = (X_WP[:, 2, 3] - PAN[2] > 0.06) | (X_WP[:, 2, 2] < 0.6)
        return truth, {"lifted": (high & (kind == UPON)) | (kind == AFTER) | ((u(1)[:, 0] > 0) & (kind == FALLEN))}

    def _before(self, u: _Uniform) -> tuple[Tensor, Tensor]:
        x, y, z, yaw, pitch, ahead, side, turn = u(8).T
        p = torch.tensor(PAN).double() + torch.stack([-0.05 + 0.08 * x, 0.05 * y, 0.006 + 0.005 * z], -1)
        q = self._solve(lie.pose(about(2, 0.15 * yaw) @ about(1, 0.06 + 0.08 * pitch), p), iterations=30)
        near = self._blade(q)[:, 0, 3] + BLADE[0] + RADIUS
        low, high = PAN[0] - 0.05, PAN[0] + PAN_RADIUS - RADIUS - 5e-4
        at = (near + 0.015 * (ahead + 1)).clamp(low, high)
        p = torch.stack([at, PAN[1] + 0.03 * side, torch.full_like(at, PAN[2] + HALF)], -1)
        return q, lie.pose(about(2, math.pi * turn), p)

    def _upon(self, u: _Uniform, slip: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y, z, roll, pitch, yaw, off_x, off_y = u(8).T
        low, rolled = (torch.rand(len(x), generator=generator) < share for share in (0.35, 0.6))
        height = torch.where(low, 0.006 + 0.03 * z.abs(), 0.10 + 0.08 * z)
        p = torch.tensor(PAN).double() + torch.stack([0.06 * x, 0.06 * y, height], -1)
        roll = torch.where(low, 0.05, torch.where(rolled, 1.6, 0.3)) * roll
        level = about(2, 0.2 * yaw) @ about(1, torch.where(low, 0.05 + 0.08 * pitch, 0.2 * pitch))
        q = None
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):  # an arm rolls so far by and by, and has no other way to stand then
            q = self._solve(lie.pose(level @ about(0, share * roll), p), q, 10 if q is not None else 30)
        assert q is not None
        X_WB = self._blade(q, slip)
        off = torch.stack([0.03 * off_x, 0.04 * off_y, torch.full_like(x, ON)], -1)
        return q, lie.pose(X_WB[:, :3, :3], lie.transform(X_WB, off[:, None])[:, 0])

    def _let_go(self, u: _Uniform, over: bool) -> tuple[Tensor, Tensor]:
        """Joints (n, 7) of a blade well above the pan, and the pancake (n, 4, 4) in the pan, or leaning on its rim, upside down
        or not; what fell back right side up lies farther out."""
        x, y, z, roll, pitch, yaw, far, way, lean, turn = u(10).T
        p = torch.tensor(PAN).double() + torch.stack([0.08 * x - 0.02, 0.08 * y, 0.10 + 0.06 * z], -1)
        q = self._solve(lie.pose(about(2, 0.2 * yaw) @ about(1, 0.3 * pitch) @ about(0, 0.5 * roll), p), iterations=30)
        away, tilt = (0.125 if over else 0.15) * far.abs(), 0.4 * lean
        up = HALF + RADIUS * tilt.abs().sin() + torch.where(away > 0.075, 0.016, 0.001)
        place = torch.stack([away * (math.pi * way).cos(), away * (math.pi * way).sin(), up], -1)
        return q, lie.pose(
            about(2, math.pi * turn) @ about(0, (math.pi if over else 0.0) + tilt), torch.tensor(PAN).double() + place
        )

    def _blade(self, q: Tensor, slip: Tensor | None = None) -> Tensor:
        """X_WB (n, 4, 4) of the blade with the arm at q (n, 7), as it should be held, or as it has slipped."""
        X_WE = chain_of(self.scene, self.scene.actor).tool(q)
        return (X_WE if slip is None else X_WE @ slip) @ blade_in_tool()

    # What it is about
    def measures(self, poses: dict[str, Tensor], before: Measures | None = None) -> Measures:
        """Pancake against blade and pan, from X_WB of "pancake" and "spatula":
        offset (*batch, 3): the pancake's middle from where it lies on the blade, in the blade's axes; align: cosine between their
        normals; up: of the pancake's normal; height, clearance: of middle and lowest point above the pan's floor; away:
        of the middle from the pan's [m]; lifted: 1 once it has been clear of the pan; moved: how far its farthest point went
        since the step before [m]; points (*batch, 3, 3): what that is judged by."""
        X, Y = poses["pancake"], poses["spatula"]
        R, R_B, p = X[..., :3, :3], Y[..., :3, :3], X[..., :3, 3]
        pan, n = p.new_tensor(PAN), R[..., 2]
        offset = (R_B.transpose(-1, -2) @ (p - Y[..., :3, 3])[..., None])[..., 0] - p.new_tensor([0.0, 0.0, ON])
        up, height = n[..., 2], p[..., 2] - pan[2]
        clearance = height - (1 - up**2).clamp_min(0).sqrt() * RADIUS - up.abs() * HALF
        points = torch.stack([p, p + RADIUS * R[..., 0], p + RADIUS * R[..., 1]], -2)
        lifted = ((clearance > CLEAR) & (up > 0)).to(p.dtype)
        moved = torch.full_like(up, torch.inf)
        if before is not None:
            lifted = torch.maximum(lifted, before["lifted"].to(p.dtype))
            if "points" in before:
                moved = (points - before["points"]).detach().norm(dim=-1).amax(-1)
        return {
            "offset": offset, "align": (n * R_B[..., 2]).sum(-1), "up": up, "height": height, "clearance": clearance,
            "away": (p - pan)[..., :2].square().sum(-1).add(1e-6).sqrt(), "lifted": lifted, "moved": moved, "points": points,
        }  # fmt: skip

    def success(self, measures: Measures) -> Tensor:
        """It was lifted clear of the pan, and now lies in it upside down, within 30 degrees, at rest."""
        m = measures
        lies = (m["up"] < -math.cos(math.pi / 6)) & (m["height"] < 0.007) & (m["away"] < PAN_RADIUS) & (m["moved"] < STILL)
        return (m["lifted"] > 0) & lies & ~self.lost(m)

    def rocks(self, measures: Measures) -> Tensor:
        """Upside down, low, and not held down by the blade."""
        m = measures
        beside = (m["offset"][..., 2] + ON).abs() - ON  # from the blade's plane to the pancake's face
        touched = (beside < 0.004) & (m["offset"][..., :2].norm(dim=-1) < RADIUS + BLADE[0])
        return (m["up"] < -0.8) & (m["height"] < 0.03) & ~touched

    def lost(self, measures: Measures) -> Tensor:
        """It lies beside the pan, or flies."""
        m = measures
        return (m["away"] > 0.16) | (m["height"] < -0.02) | (m["height"] > 0.4)

    def cost(self, measures: Measures) -> Tensor:
        """Right side up, it falls as the blade comes under the pancake, not above its underside, where it would press and not
        lift, and as it carries it up; once it has been lifted clear, it falls as the pancake is turned, and upside down, as it
        comes down. It rises where one turns it before, and where it leaves the pan. What was gained is kept."""
        m = measures
        e, turned = m["offset"], (1 - m["up"]) / 2
        below = softplus(-e[..., 2] / 0.002) * 0.002
        above = below / (below + 0.008)
        across = e[..., 0] ** 2 + e[..., 1] ** 2
        r = (across + (2 * e[..., 2]) ** 2 + 0.005**2).sqrt() - 0.005
        under = (0.08 / (r + 0.08) - 0.25 * above - 1.2 * above * torch.exp(-across / 0.07**2)) * (0.5 + 0.5 * m["align"])
        held = torch.exp(-((r / 0.03) ** 2).clamp(max=30)) * m["align"].clamp(min=0)
        high = torch.tanh(m["clearance"].clamp(min=0) / CLEAR)
        lying = torch.exp(-(m["height"] - HALF).clamp(min=0) / 0.03)
        out = softplus((m["away"] - 0.08) / 0.01) * 0.01
        flip = torch.where(m["lifted"] > 0, 2 + 8 * turned + 4 * turned**2 * lying, -turned)
        return 10 * (1 + 2 * turned) * out - flip - (2 * under + 3 * held * high) * (1 - turned)

    def landmarks(self, poses: dict[str, Tensor]) -> Tensor:
        """The blade's middle, the pancake's, and their normals (*batch, 4, 3)."""
        X, Y = poses["pancake"], poses["spatula"]
        return torch.stack(torch.broadcast_tensors(Y[..., :3, 3], X[..., :3, 3], Y[..., :3, 2], X[..., :3, 2]), -2)

    # What the policy is told
    def axes(self, told: Told) -> Tensor:
        """The blade's: its normal as seen, its long side as the hand should hold it."""
        z = torch.nn.functional.normalize(told.marks[..., 2, :], dim=-1)
        x = told.X_WE[..., :3, :3] @ blade_in_tool()[:3, 0].to(z)
        y = torch.nn.functional.normalize(torch.linalg.cross(z, x), dim=-1)
        return torch.stack([torch.linalg.cross(y, z), y, z], -1)

    def features(self, told: Told) -> Tensor:
        """(*batch, 57): blade in the pan, pancake in the pan and on the blade, how it moves, the lead of the command, and the
        arm. Lengths through tanh at several scales."""
        R, pan = self.axes(told), told.marks.new_tensor(PAN)
        blade, p, _, n = told.marks.unbind(-2)
        local = lambda v: (R.transpose(-1, -2) @ v[..., None])[..., 0]  # noqa: E731
        at = lambda v, *scales: torch.cat([torch.tanh(v / k) for k in scales], -1)  # noqa: E731
        e, v, w = local(p - blade) - p.new_tensor([0.0, 0.0, ON]), told.motion[..., :3], told.motion[..., 3:]
        w = w - n * (n * w).sum(-1, keepdim=True)  # nobody sees it spin about its own axis
        over = blade - pan
        return torch.cat([
            at(over, 0.2, 0.05), at(over[..., 2:], 0.01), R[..., 0], R[..., 2], at(R[..., 2:, 0], 0.1), at(p - pan, 0.2, 0.05), n,
            at(e, 0.1, 0.03, 0.006), local(n), at(v, 0.3), at(local(v), 0.3), at(local(w), 4.0), at(told.lead[..., :3], 0.03),
            at(told.lead[..., 3:], 0.3), told.q - told.q.new_tensor(HOME),
        ], -1)  # fmt: skip


def _uniform(count: int, generator: torch.Generator) -> _Uniform:
    """k -> (count, k) numbers in [-1, 1]."""
    return lambda k: 2 * torch.rand(count, k, generator=generator, dtype=torch.float64) - 1


def about(axis: int, angle: Tensor) -> Tensor:
    """Rotation (n, 3, 3) by angles (n) about an axis."""
    v = torch.zeros(*angle.shape, 3, dtype=angle.dtype)
    v[..., axis] = angle
    return lie.exp_so3(v)
