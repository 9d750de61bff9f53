"""The scene: its structure (fixed), its parameters psi and its state s.

Structure is NumPy and never changes; parameters and state are torch tensors. Every parameter leaf has either no batch
(shared by all environments; gradients are summed) or the batch shape of the state.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samrl.core.errors import UnknownNameError

FREE, BALL, SLIDE, HINGE, FIXED = 0, 1, 2, 3, -1  # MuJoCo's numbers for joints; FIXED is ours
PLANE, SPHERE, CAPSULE, CYLINDER, BOX, MESH, BLOCK_WITH_HOLE, DISC = 0, 2, 3, 5, 6, 7, 100, 101  # MuJoCo's; the last two are ours


@dataclass(frozen=True)
class Scene:
    """Structure of a scene: one tree of links. Link 0 is the world; a body with several joints becomes a chain of
    massless links, so each link has at most one joint. nl links, nv degrees of freedom, ng geoms.

    Attributes:
        link_names: (nl) the body's name ("" for massless links in between).
        parent, joint_type: (nl) int; q_adr, v_adr: (nl) first index in q and q̇; nd: (nl) degrees of freedom.
        joint_names: (nl) name of the link's joint or "".
        axis: (nl, 3) joint axis in the link's frame; q0: (nl) joint coordinate at the reference pose.
        limited: (nv) bool; limit: (nv, 2) joint range [rad or m].
        gravcomp: (nl) share of gravity that is compensated (MuJoCo's gravcomp).
        geom_names, geom_type, geom_link: (ng); geom_visible: (ng) bool, drawn.
        pairs: (np, 2) int, pairs of geoms that may touch.
        nq, nv: sizes; q_ref: (nq) reference coordinates; timestep [s].
        rest: (nv) where a joint's spring pulls to if nobody commands it [rad or m]; of a ball joint a rotation vector.
        mesh_vertices: (n, 3) of geoms that are meshes, one geom's after the other's, in its frame, at size one
            [m]; mesh_hull: (n) bool, which of them span the convex solid that is felt in contact.
        mesh_faces: (m, 3) by the geom's own vertices, counter-clockwise seen from outside; these are drawn.
        mesh_vertex_start, mesh_face_start: (ng + 1) where each geom's begin; empty where no geom is a mesh.
    """

    link_names: list[str]
    parent: np.ndarray
    joint_type: np.ndarray
    joint_names: list[str]
    q_adr: np.ndarray
    v_adr: np.ndarray
    nd: np.ndarray
    axis: np.ndarray
    q0: np.ndarray
    limited: np.ndarray
    limit: np.ndarray
    gravcomp: np.ndarray
    geom_names: list[str]
    geom_type: np.ndarray
    geom_link: np.ndarray
    geom_visible: np.ndarray
    pairs: np.ndarray
    nq: int
    nv: int
    q_ref: np.ndarray
    rest: np.ndarray
    timestep: float
    mesh_vertices: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    mesh_hull: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    mesh_faces: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), int))
    mesh_vertex_start: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    mesh_face_start: np.ndarray = field(default_factory=lambda: np.zeros(0, int))

    def mesh(self, geom: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of a geom that is a mesh: vertices (n, 3) at size one [m], which of them span its hull (n), faces (m, 3)."""
        own = slice(*self.mesh_vertex_start[geom : geom + 2])
        return self.mesh_vertices[own], self.mesh_hull[own], self.mesh_faces[slice(*self.mesh_face_start[geom : geom + 2])]

    def coordinates(self, name: str) -> tuple[slice, slice]:
        """Where the joint of a body with one joint, or none, lies in q and in q̇."""
        i = self.link(name)
        first, dofs = int(self.q_adr[i]), int(self.nd[i])
        numbers = {BALL: 4, FREE: 7}.get(int(self.joint_type[i]), dofs)
        return slice(first, first + numbers), slice(int(self.v_adr[i]), int(self.v_adr[i]) + dofs)

    def link(self, name: str) -> int:
        """Index of a link by its body's name."""
        if name not in self.link_names:
            raise UnknownNameError("body", name, [n for n in self.link_names if n])
        return self.link_names.index(name)


@dataclass(frozen=True)
class Params:
    """psi: everything that is constant in time. Shapes without the optional leading batch.

    Attributes:
        link_p: (nl, 3) position of the link's frame in its parent's, joints at reference [m].
        link_R: (nl, 3, 3) rotation of the same.
        joint_p: (nl, 3) joint anchor in the link's frame [m].
        mass: (nl) [kg]; com: (nl, 3) centre of mass in the link's frame [m];
        inertia: (nl, 3, 3) about the centre of mass, in the link's axes [kg m²].
        stiffness, damping, armature: (nv) joint spring [N m/rad or N/m], damper, rotor inertia. The spring pulls to the
            set-point that is given at each step.
        gravity: (3) [m/s²].
        geom_p: (ng, 3), geom_R: (ng, 3, 3) pose in the link's frame; geom_size: (ng, 6) MuJoCo's sizes (half-lengths and
            radii [m]), for a box a radius of its edges after them; for a block with a hole: half x, y, z, hole radius, hole
            depth, chamfer (hole along +z from top); for a disc, a cylinder with a rounded rim: radius, half length, radius of
            the rounding; for a mesh the factors on its vertices along x, y, z, 1 as the file has it.
        friction: (ng) sliding friction; contact_stiffness: (ng) [N/m] and contact_damping: (ng) [s/m]
            (Hunt-Crossley's factor on the penetration speed) per contact point.
        color: (ng, 3) in [0, 1].
        light_direction: (3) towards the light, world; ambient, diffuse: (3) strengths per channel.
    """

    link_p: Tensor
    link_R: Tensor
    joint_p: Tensor
    mass: Tensor
    com: Tensor
    inertia: Tensor
    stiffness: Tensor
    damping: Tensor
    armature: Tensor
    gravity: Tensor
    geom_p: Tensor
    geom_R: Tensor
    geom_size: Tensor
    friction: Tensor
    contact_stiffness: Tensor
    contact_damping: Tensor
    color: Tensor
    light_direction: Tensor
    ambient: Tensor
    diffuse: Tensor

    def replace(self, **leaves: Any) -> Params:
        return replace(self, **leaves)

    def to(self, *args: Any, **kwargs: Any) -> Params:
        return Params(**{f.name: getattr(self, f.name).to(*args, **kwargs) for f in fields(self)})


@dataclass(frozen=True)
class State:
    """s: what moves. q: (*batch, nq) joint coordinates (quaternions wxyz); qd: (*batch, nv) velocities."""

    q: Tensor
    qd: Tensor


@dataclass(frozen=True)
class Twin:
    """(psi, s)."""

    params: Params
    state: State

    def replace(self, **leaves: Any) -> Twin:
        return replace(self, **leaves)


def compile_mjcf(xml: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Scene, Params, State]:
    """Structure, parameters and reference state of a scene given as MJCF or URDF.

    Args:
        xml: the text, or the path of a file.

    Raises: SceneError where MuJoCo does not compile it, or where it holds what the twin does not support; see mjcf.py,
    which also says what we add to MJCF by `<custom>`.
    """
    from samrl.model.mjcf import flatten  # this module's data classes are what it builds

    return flatten(xml, dtype, device)
