"""Scenes for the table of render gradients: what is in them, what of them moves, and from where they are seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scenes import GEM

from samrl.model.render import LooseSolid
from samrl.model.scene import BLOCK_WITH_HOLE, BOX, CAPSULE, CYLINDER, MESH, PLANE, SPHERE
from samrl.real2sim.pieces import hull

Vec = tuple[float, float, float]
TABLE = LooseSolid(PLANE, (1.5, 1.5), (0.5, 0.45, 0.4))
BLOCK = LooseSolid(BLOCK_WITH_HOLE, (0.045, 0.04, 0.025, 0.009, 0.03, 0.002), (0.25, 0.4, 0.7))
PEG = LooseSolid(CYLINDER, (0.008, 0.03), (0.75, 0.25, 0.2))
STILL: tuple[Vec, Vec] = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


@dataclass(frozen=True)
class View:
    """bodies: solids by name, each with its pose (p [m], w [rad]); moving: those by whose pose gradients are taken; size: those
    of whose first solid the sizes are differentiated, and how many; camera: eye, target, field of view, near distance."""

    bodies: dict[str, tuple[list[LooseSolid], Vec, Vec]]
    moving: tuple[str, ...]
    eye: Vec
    target: Vec
    fov: float = 0.6
    near: float = 0.01
    background: Vec = (0.1, 0.2, 0.1)
    sizes: dict[str, int] = field(default_factory=dict)
    step: float = 0.1
    detail: float = 1.0


def table_top() -> View:
    riser = LooseSolid(BOX, (0.02, 0.02, 0.02), (0.2, 0.2, 0.2), (0.0, 0.0, -0.045))
    bodies = {
        "table": ([TABLE], *STILL),
        "block": ([BLOCK, riser], (0.0, 0.0, 0.08), (0.0, 0.0, 0.4)),
        "peg": ([PEG], (0.015, 0.01, 0.16), (0.2, 0.1, 0.0)),
    }
    return View(bodies, ("block", "peg"), (0.28, -0.2, 0.26), (0.0, 0.0, 0.12), sizes={"block": 5, "peg": 2})


def resting() -> View:
    """The block sunk into the table by a tenth of a millimetre, the peg standing in its hole."""
    bodies = {
        "table": ([TABLE], *STILL),
        "block": ([BLOCK], (0.0, 0.0, 0.0249), (0.0, 0.0, 0.4)),
        "peg": ([PEG], (0.0005, 0.0003, 0.055), (0.02, 0.01, 0.0)),
    }
    return View(bodies, ("block", "peg"), (0.22, -0.2, 0.2), (0.0, 0.0, 0.04), sizes={"block": 5}, step=0.02)


def sunk() -> View:
    """Solids that pass through each other: a block and a ball in the table, a peg through the block's side."""
    bodies = {
        "table": ([TABLE], *STILL),
        "block": ([LooseSolid(BOX, (0.045, 0.04, 0.025), (0.25, 0.4, 0.7))], (0.0, 0.0, 0.015), (0.1, 0.05, 0.4)),
        "ball": ([LooseSolid(SPHERE, (0.03,), (0.3, 0.7, 0.3))], (0.08, -0.06, 0.008), (0.3, 0.0, 0.0)),
        "peg": ([PEG], (0.02, -0.045, 0.03), (1.1, 0.3, 0.0)),
    }
    return View(bodies, ("block", "ball", "peg"), (0.26, -0.3, 0.22), (0.02, 0.0, 0.0), sizes={"ball": 1, "block": 3})


def gripped() -> View:
    """A peg between two fingers that sink into it."""
    finger = LooseSolid(BOX, (0.004, 0.008, 0.02), (0.3, 0.3, 0.32))
    bodies = {
        "table": ([TABLE], *STILL),
        "peg": ([PEG], (0.0, 0.0, 0.08), (0.1, 0.05, 0.0)),
        "left": ([finger], (0.0115, 0.0, 0.1), (0.0, 0.0, 0.05)),
        "right": ([finger], (-0.0115, 0.0, 0.1), (0.0, 0.0, 0.05)),
    }
    return View(bodies, ("peg", "left"), (0.12, -0.2, 0.2), (0.0, 0.0, 0.085), 0.4)


def arm() -> View:
    """A chain of capsules, each of which ends inside the next."""
    bodies = {"table": ([TABLE], *STILL)}
    p, up = torch.tensor([0.0, 0.0, 0.02]), 0.03
    for i in range(5):
        w = torch.tensor([0.5 * math.sin(1.3 * i), 0.6 * math.cos(1.7 * i), 0.0])
        axis = torch.linalg.matrix_exp(torch.tensor([[0.0, 0.0, w[1]], [0.0, 0.0, -w[0]], [-w[1], w[0], 0.0]]))[:, 2]
        p = p + up * axis
        grey = 0.5 + 0.08 * i
        solid = LooseSolid(CAPSULE, (0.02 - 0.001 * i, 0.03), (grey, grey, 0.95 - 0.1 * i))
        bodies[f"arm{i}"] = ([solid], tuple(p.tolist()), tuple(w.tolist()))
        p = p + up * axis
    return View(bodies, ("arm1", "arm3"), (0.35, -0.3, 0.3), (0.02, 0.0, 0.13), 0.55, sizes={"arm3": 2}, step=0.03)


def needle(pixels: float) -> View:
    """A needle so many pixels thick, of 128, before the table."""
    radius = 0.5 * pixels * 2 * 0.35 * math.tan(0.25) / 128
    bodies = {
        "table": ([TABLE], *STILL),
        "needle": ([LooseSolid(CYLINDER, (radius, 0.03), (0.8, 0.8, 0.85))], (0.0, 0.01, 0.05), (0.5, 0.4, 0.0)),
    }
    return View(bodies, ("needle",), (0.2, -0.2, 0.25), (0.0, 0.0, 0.05), 0.5, sizes={"needle": 2})


def thread() -> View:
    """Twenty capsules on a curve, a millimetre thick, the first between the two fingers of a gripper."""
    finger, solids = LooseSolid(BOX, (0.004, 0.006, 0.012), (0.3, 0.3, 0.32)), []
    p, half = torch.tensor([-0.03, 0.0, 0.09]), 0.002
    for i in range(20):
        angle = 0.5 * math.pi + 0.16 * i
        axis = torch.tensor([math.sin(angle), 0.15, math.cos(angle)])
        axis = axis / axis.norm()
        w = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]), axis)
        w = w / w.norm() * torch.acos(axis[2])
        p = p + half * axis
        solids.append(LooseSolid(CAPSULE, (0.0005, half), (0.8, 0.3, 0.2), tuple(p.tolist()), tuple(w.tolist())))
        p = p + half * axis
    bodies = {
        "table": ([TABLE], *STILL),
        "thread": (solids, *STILL),
        "left": ([finger], (-0.029, 0.0062, 0.092), (0.1, 0.0, 0.0)),
        "right": ([finger], (-0.0283, -0.0052, 0.0925), (0.1, 0.0, 0.0)),
    }
    return View(bodies, ("thread", "left"), (0.1, -0.25, 0.15), (-0.005, 0.0, 0.07), 0.3)


def half_out() -> View:
    view = table_top()
    return View(view.bodies, view.moving, (0.28, -0.2, 0.26), (0.05, 0.06, 0.16), 0.35, sizes={"block": 5})


def near_plane() -> View:
    """A block and a capsule that reach nearer to the camera than is drawn."""
    bodies = {
        "table": ([TABLE], *STILL),
        "block": ([LooseSolid(BOX, (0.04, 0.16, 0.03), (0.25, 0.4, 0.7))], (0.02, -0.12, 0.1), (0.1, 0.2, 0.4)),
        "rod": ([LooseSolid(CAPSULE, (0.02, 0.12), (0.75, 0.25, 0.2))], (-0.04, -0.12, 0.16), (1.2, 0.2, 0.0)),
        "ball": ([LooseSolid(SPHERE, (0.05,), (0.3, 0.7, 0.3))], (0.03, 0.12, 0.05), (0.3, 0.0, 0.0)),
    }
    return View(bodies, ("block", "rod", "ball"), (0.05, -0.3, 0.2), (0.0, 0.0, 0.1), 0.9, near=0.1)


def low_contrast() -> View:
    view = table_top()
    pale = lambda s, k: LooseSolid(s.kind, s.size, tuple(c + 0.02 * k for c in TABLE.color), s.p, s.w)  # noqa: E731
    bodies = {n: ([pale(s, k) for s in solids], p, w) for k, (n, (solids, p, w)) in enumerate(view.bodies.items())}
    return View(bodies, view.moving, view.eye, view.target, background=(0.45, 0.42, 0.38))


def fine_mesh() -> View:
    """A ball of two and a half thousand triangles in 64 × 64 pixels, and a peg before it."""
    bodies = {
        "table": ([TABLE], *STILL),
        "ball": ([LooseSolid(SPHERE, (0.05,), (0.3, 0.6, 0.7))], (0.0, 0.0, 0.08), (0.3, 0.2, 0.0)),
        "peg": ([PEG], (0.05, -0.05, 0.12), (0.4, 0.2, 0.0)),
    }
    return View(bodies, ("ball", "peg"), (0.28, -0.2, 0.26), (0.0, 0.0, 0.08), 0.5, sizes={"ball": 1}, detail=4.0)


def meshes() -> View:
    """A mesh of seven corners that is sunk into the table, and a hollow one, whose faces do not show where its outline ends."""
    gem = hull(0.04 * GEM, np.zeros(3))
    notched = np.array(
        [[-1, -1, -1], [1, -1, -1], [1, 1, -1], [-1, 1, -1], [-1, -1, 1], [1, -1, 0.9], [1, 1, 1], [-1, 1, 0.8], [0, 0, -0.3]]
    )
    rim = [(4, 5, 8), (5, 6, 8), (6, 7, 8), (7, 4, 8), (0, 3, 2), (0, 2, 1)]
    sides = [face for a, b in ((0, 1), (1, 2), (2, 3), (3, 0)) for face in ((a, b, b + 4), (a, b + 4, a + 4))]
    cup = (0.03 * notched, np.array(rim + sides))
    bodies = {
        "table": ([TABLE], *STILL),
        "gem": (
            [LooseSolid(MESH, (1, 1, 1), (0.25, 0.4, 0.7), mesh=(gem.vertices, gem.faces))],
            (0.05, 0.0, 0.01),
            (0.1, 0.2, 0.4),
        ),
        "cup": ([LooseSolid(MESH, (1, 1, 1), (0.75, 0.25, 0.2), mesh=cup)], (-0.06, 0.02, 0.05), (0.3, 0.1, 0.2)),
    }
    return View(bodies, ("gem", "cup"), (0.2, -0.25, 0.28), (0.0, 0.0, 0.03), sizes={"gem": 3, "cup": 3})


VIEWS: dict[str, Callable[[], View]] = {
    "table top": table_top, "resting": resting, "sunk": sunk, "gripped": gripped, "arm": arm, "thread": thread,
    "needle 2.2": lambda: needle(2.2), "needle 0.55": lambda: needle(0.55), "half out": half_out, "near plane": near_plane,
    "low contrast": low_contrast, "fine mesh": fine_mesh, "meshes": meshes,
}  # fmt: skip
