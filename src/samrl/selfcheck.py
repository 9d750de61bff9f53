"""`samrl check`: the twin's gradients on this machine, against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from samrl.core import guard, lie
from samrl.core.camera import Camera, look_at
from samrl.core.errors import NonFiniteError, check_finite
from samrl.core.progress import track
from samrl.learn.expert import random_start
from samrl.model import gradcheck
from samrl.model.model import Command, Model
from samrl.model.physics import Physics
from samrl.model.physics.given import Given
from samrl.model.placement import body_pose, set_body_pose
from samrl.model.scene import Scene, State, Twin
from samrl.sim2real.control_loop import make_model
from samrl.tasks import registry

DYNAMICS_LIMIT = 1e-4  # largest error of a gradient entry, as a share of the largest entry
COSINE_LIMIT = 0.99  # least cosine between the renderer's gradient and differences of a finely sampled image


@dataclass(frozen=True)
class Outcome:
    """One check: its name, what was found, what is allowed, and whether that holds."""

    name: str
    found: str
    allowed: str
    good: bool


def replay(path: Path) -> list[str]:
    """Go through a rollout that left the finite numbers step by step; sentences about where it did. NonFiniteError if
    what it was given was not finite already."""
    given = Given.read(path)
    for name in ("params", "state", "setpoints", "torques"):
        for part, values in guard.leaves(getattr(given, name), name):
            check_finite(part, values)
    physics, state = Physics(given.scene, **given.options), given.state
    for period in range(len(given.setpoints)):
        now = slice(period, period + 1)
        for substep in range(given.substeps):
            try:
                after = physics.rollout(given.params, state, given.setpoints[now], given.torques[now])
            except NonFiniteError:
                where = f"step {substep} of {given.substeps} in period {period} of {len(given.setpoints)}"
                return [f"the rollout leaves the finite numbers at {where}.", _fastest(given.scene, state)]
            state = State(after.q[0], after.qd[0])
    return ["the rollout stays finite here."]


def _fastest(scene: Scene, state: State) -> str:
    """A sentence about the largest velocity."""
    speed = state.qd.abs().reshape(-1, scene.nv)
    environment, k = divmod(int(speed.argmax()), scene.nv)
    link = next(i for i in range(len(scene.parent)) if scene.v_adr[i] <= k < scene.v_adr[i] + scene.nd[i])
    name = scene.joint_names[link] or scene.link_names[link] or f"link {link}"
    return f"just before, '{name}' is the fastest, in environment {environment}: {float(speed.max()):.3g} m/s or rad/s."


def run() -> list[Outcome]:
    """Every check; the first time, kernels are compiled, which takes a minute."""
    checks: dict[str, Callable[[], Outcome]] = {
        "motion in the air": lambda: _dynamics("motion in the air", None),
        "peg on the chamfer": lambda: _dynamics("peg on the chamfer", (0.0017, 0.0002)),
        "peg in the hole": lambda: _dynamics("peg in the hole", (0.00105, 0.010)),
        "image": _image,
    }
    outcomes = []
    with track("checking gradients", len(checks)) as advance:
        for name, check in checks.items():
            outcomes.append(check())
            advance(note=name)
    return outcomes


def _dynamics(name: str, contact: tuple[float, float] | None) -> Outcome:
    """Where the peg and the arm are after two control periods, by actions, start, block, masses and springs, in float64.
    contact: the tip's offset from the hole's axis and its depth below the block's top [m]; None leaves it in the air."""
    model, twin, command = _situation(torch.float64)
    block = body_pose(model.scene, twin, "block") if contact is None else _block_at(model, twin, *contact)
    weight = torch.randn(6, model.scene.nv, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def function(actions: Tensor, q: Tensor, block_moved: Tensor, mass: Tensor, stiffness: Tensor) -> Tensor:
        params = set_body_pose(model.scene, twin, "block", lie.retract(block, block_moved)).params
        t = Twin(replace(params, mass=mass, stiffness=stiffness), replace(twin.state, q=q))
        c = command
        for action in actions:
            t, c = model.step(t, c, action)
        return (weight[0] * t.state.q).sum() + 0.1 * (weight[1] * t.state.qd).sum()

    actions = torch.tensor([[0.002, -0.001, -0.004, 0.01, 0.0, 0.02]] * 2, dtype=torch.float64)
    inputs = {
        "actions": actions, "q": twin.state.q, "block_moved": torch.zeros(6, dtype=torch.float64),
        "mass": twin.params.mass, "stiffness": twin.params.stiffness,
    }  # fmt: skip
    report = gradcheck.check(function, inputs, entries=6)
    touched = next(row.scale for row in report.rows if row.name == "block_moved") > 0
    good = report.worst <= DYNAMICS_LIMIT and touched == (contact is not None)
    return Outcome(name, f"off by {report.worst:.1e}", f"≤ {DYNAMICS_LIMIT:.0e}", good)


def _image() -> Outcome:
    """Weighted colour of a 64 × 64 image by the poses of block and peg, against differences of one of 512 × 512."""
    model, twin, _ = _situation(torch.float32)
    X_WL, links = model.link_poses(twin), [model.scene.link(name) for name in model.updatable]
    middle = X_WL[links, :3, 3].mean(0)
    camera = Camera.from_fov(64, 64, 0.35, look_at(middle + torch.tensor([0.35, 0.2, 0.3]), middle))
    weight = torch.nn.functional.interpolate(
        torch.randn(1, 3, 7, 7, generator=torch.Generator().manual_seed(2)), size=(64, 64), mode="bicubic"
    )[0].permute(1, 2, 0)

    def loss(moved: Tensor, finer: int) -> Tensor:
        X = X_WL.index_copy(0, torch.tensor(links), lie.retract(X_WL[links], moved.reshape(-1, 6)))
        color = model.renderer.render(twin.params, X, camera.finer(finer)).color
        return (color.view(64, finer, 64, finer, 3).mean((1, 3)) * weight).double().sum()

    moved = torch.zeros(6 * len(links), requires_grad=True)
    (got,) = torch.autograd.grad(loss(moved, 1), moved)
    step = 5e-4  # a fifth of a pixel
    with torch.no_grad():
        pairs = [(loss(step * e, 8), loss(-step * e, 8)) for e in torch.eye(len(moved))]
    want = torch.stack([(a - b) / (2 * step) for a, b in pairs]).float()
    cosine = float(torch.nn.functional.cosine_similarity(got, want, 0))
    return Outcome("image", f"cosine {cosine:.4f}", f"≥ {COSINE_LIMIT}", cosine >= COSINE_LIMIT)


def _situation(dtype: torch.dtype) -> tuple[Model, Twin, Command]:
    """One start of Peg-Insertion, without batch."""
    task = registry.make("peg-insertion")
    model = make_model(task, dtype=dtype)
    twin, _ = random_start(model, task, 1, torch.Generator().manual_seed(3))
    params = replace(twin.params, link_p=twin.params.link_p[0], link_R=twin.params.link_R[0])
    state = model.state(model.arm(twin.state).q[0])
    return model, Twin(params, state), model.at_rest(state)


def _block_at(model: Model, twin: Twin, aside: float, depth: float) -> Tensor:
    """Pose X_WB (4, 4) of the block that has the peg's tip `depth` below its top and `aside` of the hole's axis [m]."""
    X_WP = model.poses(twin, ("peg",))["peg"]
    half = {name: twin.params.geom_size[model.scene.geom_link == model.scene.link(name)][0] for name in ("peg", "block")}
    tip = X_WP[:3, 3] + half["peg"][1] * X_WP[:3, 2]
    R_WB = X_WP[:3, :3] @ torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=tip.dtype))
    tip_B = torch.stack([torch.tensor(aside).to(tip), torch.zeros_like(tip[0]), half["block"][2] - depth])
    return lie.pose(R_WB, tip - R_WB @ tip_B)
