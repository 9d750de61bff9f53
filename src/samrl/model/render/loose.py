"""Scenes of loose solids without joints or masses, for rendering alone: to try things out, to test and to measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from samrl.core import lie
from samrl.model.scene import FREE, Params, Scene


@dataclass(frozen=True)
class LooseSolid:
    """kind: a geom type; size as in `Params.geom_size` [m]; p (3) [m] and w (3) rotation vector [rad] in the body; mesh: of one,
    vertices (n, 3) [m] and faces (m, 3), counter-clockwise seen from outside."""

    kind: int
    size: tuple[float, ...]
    color: tuple[float, float, float] = (0.6, 0.6, 0.6)
    p: tuple[float, float, float] = (0.0, 0.0, 0.0)
    w: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mesh: tuple[np.ndarray, np.ndarray] = field(default_factory=lambda: (np.zeros((0, 3)), np.zeros((0, 3), int)))


def loose_scene(bodies: Mapping[str, Sequence[LooseSolid]]) -> tuple[Scene, Params]:
    """Body name -> solids. Link 0 is the world and link i the i-th body. Only what the renderer reads is filled in; light
    from the upper right, half ambient."""
    links = ["world", *bodies]
    pairs = [(links.index(name), solid) for name, solids in bodies.items() for solid in solids]
    nl, ng = len(links), len(pairs)
    zeros = np.zeros(nl, int)
    scene = Scene(
        link_names=links, parent=zeros, joint_type=np.full(nl, FREE), joint_names=[""] * nl, q_adr=zeros, v_adr=zeros,
        nd=zeros, axis=np.zeros((nl, 3)), q0=np.zeros(nl), limited=np.zeros(0, bool), limit=np.zeros((0, 2)),
        gravcomp=np.zeros(nl), geom_names=[f"{links[i]}/{k}" for k, (i, _) in enumerate(pairs)],
        geom_type=np.array([s.kind for _, s in pairs]), geom_link=np.array([i for i, _ in pairs]),
        geom_visible=np.ones(ng, bool), pairs=np.zeros((0, 2), int), nq=0, nv=0,
        q_ref=np.zeros(0), rest=np.zeros(0), timestep=0.01, **_meshes([s for _, s in pairs]),
    )  # fmt: skip
    none = torch.zeros(0)
    params = Params(
        link_p=none, link_R=none, joint_p=none, mass=none, com=none, inertia=none, stiffness=none, damping=none,
        armature=none, gravity=none, friction=none, contact_stiffness=none, contact_damping=none,
        geom_p=torch.tensor([s.p for _, s in pairs]),
        geom_R=lie.exp_so3(torch.tensor([s.w for _, s in pairs])),
        geom_size=torch.tensor([(*s.size, *[0.0] * (6 - len(s.size))) for _, s in pairs]),
        color=torch.tensor([s.color for _, s in pairs]),
        light_direction=torch.tensor([0.3, 0.5, 0.8]), ambient=torch.full((3,), 0.5), diffuse=torch.full((3,), 0.5),
    )  # fmt: skip
    return scene, params


def _meshes(solids: list[LooseSolid]) -> dict[str, np.ndarray]:
    """The fields of Scene that meshes take."""
    vertices, faces = zip(*(s.mesh for s in solids), strict=True)
    return {
        "mesh_vertices": np.concatenate(vertices), "mesh_faces": np.concatenate(faces),
        "mesh_hull": np.ones(sum(map(len, vertices)), bool),
        "mesh_vertex_start": np.cumsum([0, *map(len, vertices)]), "mesh_face_start": np.cumsum([0, *map(len, faces)]),
    }  # fmt: skip
