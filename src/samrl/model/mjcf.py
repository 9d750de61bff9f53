"""MJCF or URDF, compiled by MuJoCo and flattened to a Scene.

Added to MJCF through `<custom>`:

* `<numeric name="samrl_hole/GEOM" data="radius depth chamfer"/>` turns the box GEOM into a block with a hole along its +z
  from the middle of its top [m]. MuJoCo itself, and the inertia that it works out, keep the full box.
* `<numeric name="samrl_rim/GEOM" data="radius"/>` rounds the rims of the cylinder GEOM, or the edges of the box GEOM where these
  touch something [m]; a box is drawn, and felt by points of others, with sharp edges. MuJoCo keeps both sharp.
* `<numeric name="samrl_contact/GEOM" data="stiffness damping"/>`: contact of GEOM, stiffness in N/m a point, damping in s/m.

A geom of type "mesh" is drawn as its triangles, each flat and in the geom's colour, and is felt in contact as their convex hull,
as in MuJoCo.

What has no part in the twin's motion or picture (sites, sensors, cameras, keyframes, textures, MuJoCo's contact solver's
settings) is passed over; whatever else is not supported is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

from samrl.core.errors import SceneError
from samrl.model.scene import (
    BALL,
    BLOCK_WITH_HOLE,
    BOX,
    CAPSULE,
    CYLINDER,
    DISC,
    FIXED,
    FREE,
    HINGE,
    MESH,
    PLANE,
    SLIDE,
    SPHERE,
    Params,
    Scene,
    State,
)

_DOFS = {FREE: 6, BALL: 3, SLIDE: 1, HINGE: 1}
_SHAPES = (PLANE, SPHERE, CAPSULE, CYLINDER, BOX, MESH)
_STIFFNESS, _DAMPING = 5e4, 5.0  # of contact: a 60 g peg sinks by micrometres and does not bounce
_HOLE, _RIM, _CONTACT = "samrl_hole/", "samrl_rim/", "samrl_contact/"
_REFUSED = {
    "nu": "actuator", "ntendon": "tendon", "neq": "equality", "nflex": "flex", "nskin": "skin", "nplugin": "plugin",
    "nmocap": "mocap body", "nhfield": "hfield",
}  # fmt: skip


def flatten(xml: str | Path, dtype: torch.dtype, device: str) -> tuple[Scene, Params, State]:
    """What `samrl.model.scene.compile_mjcf` does."""
    mj = _compile(xml)
    _refuse(mj)
    links = _links(mj)
    geoms = _geoms(mj, links["last"])
    scene = _scene(mj, links, geoms)
    numbers = {**links["params"], **_joints(mj), **geoms["params"], **_light(mj), "gravity": mj.opt.gravity}
    as_tensor = lambda a: torch.tensor(np.asarray(a, dtype=float), dtype=dtype, device=device)  # noqa: E731
    params = Params(**{name: as_tensor(values) for name, values in numbers.items()})
    return scene, params, State(as_tensor(mj.qpos0), torch.zeros(mj.nv, dtype=dtype, device=device))


def _compile(xml: str | Path) -> Any:
    """MuJoCo's model of a text or a file."""
    text = str(xml)
    given_text = isinstance(xml, str) and text.lstrip().startswith("<")
    if not given_text and not Path(text).is_file():
        raise SceneError(f"there is no scene file '{text}'.")
    try:
        return mujoco.MjModel.from_xml_string(text) if given_text else mujoco.MjModel.from_xml_path(text)
    except ValueError as error:
        raise SceneError(f"the scene does not compile; MuJoCo says: {' '.join(str(error).split())}.") from error


def _name(mj: Any, kind: str, i: int) -> str:
    """Name of the i-th body, joint, geom or numeric, "" where it has none."""
    return mujoco.mj_id2name(mj, getattr(mujoco.mjtObj, f"mjOBJ_{kind.upper()}"), int(i)) or ""


def _matrix(quat: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of a quaternion wxyz."""
    out = np.zeros(9)
    mujoco.mju_quat2Mat(out, np.asarray(quat, dtype=float))
    return out.reshape(3, 3)


def _refuse(mj: Any) -> None:
    """Raise SceneError for the first thing that the twin does not support."""
    for count, word in _REFUSED.items():
        if getattr(mj, count, 0):
            raise SceneError(f"the scene holds {getattr(mj, count)} '{word}', which the twin does not support.")
    for g in range(mj.ngeom):
        if int(mj.geom_type[g]) not in _SHAPES:
            word = mujoco.mjtGeom(int(mj.geom_type[g])).name.removeprefix("mjGEOM_").lower()
            raise SceneError(
                f"geom '{_name(mj, 'geom', g) or g}' is a '{word}', which the twin does not support; "
                "plane, sphere, capsule, cylinder, box and mesh would do."
            )
    for j in range(mj.njnt):
        if mj.jnt_type[j] == BALL and mj.jnt_limited[j]:
            raise SceneError(f"joint '{_name(mj, 'joint', j) or j}' is a ball with a range, which is not supported.")
    if np.any(mj.dof_frictionloss):
        raise SceneError("joint 'frictionloss' is not supported; use damping.")
    if any(np.any(getattr(mj, name)) for name in ("dof_dampingpoly", "jnt_stiffnesspoly") if hasattr(mj, name)):
        raise SceneError("polynomial joint stiffness or damping is not supported; give one number.")
    if mj.opt.density or mj.opt.viscosity or np.any(mj.opt.wind):
        raise SceneError("option 'density', 'viscosity' and 'wind' are not supported; leave them at zero.")


def _links(mj: Any) -> dict[str, Any]:
    """Links of the tree, one joint each; `last` maps a body to the link that carries its name, mass and geoms."""
    rows: list[dict[str, Any]] = [_link(mj, 0, None, 0, True, True)]
    last = {0: 0}
    for b in range(1, mj.nbody):
        first_joint, count = int(mj.body_jntadr[b]), int(mj.body_jntnum[b])
        joints = range(first_joint, first_joint + count) if count else [None]
        parent = last[int(mj.body_parentid[b])]
        for n, j in enumerate(joints):
            rows.append(_link(mj, b, j, parent, n == 0, n == len(joints) - 1))
            parent = len(rows) - 1
        last[b] = parent
    column = lambda name: np.array([row[name] for row in rows])  # noqa: E731
    params = {k: column(k) for k in ("link_p", "link_R", "joint_p", "mass", "com", "inertia")}
    return {"rows": rows, "column": column, "params": params, "last": last}


def _link(mj: Any, b: int, j: int | None, parent: int, first: bool, final: bool) -> dict[str, Any]:
    """One link: joint j of body b (None: a weld). The body's offset comes before its first joint, its mass and name
    after its last."""
    kind = FIXED if j is None else int(mj.jnt_type[j])
    one_axis = kind in (SLIDE, HINGE)
    carries = final and b > 0
    R = _matrix(mj.body_iquat[b])
    return {
        "name": ("world" if b == 0 else _name(mj, "body", b)) if final else "",
        "joint_name": "" if j is None else _name(mj, "joint", j),
        "parent": parent,
        "kind": kind,
        "q_adr": 0 if j is None else int(mj.jnt_qposadr[j]),
        "v_adr": 0 if j is None else int(mj.jnt_dofadr[j]),
        "nd": _DOFS.get(kind, 0),
        "axis": np.array(mj.jnt_axis[j]) if one_axis else np.array([0.0, 0.0, 1.0]),
        "q0": float(mj.qpos0[mj.jnt_qposadr[j]]) if one_axis else 0.0,
        "gravcomp": float(mj.body_gravcomp[b]) if carries else 0.0,
        "link_p": np.array(mj.body_pos[b]) if first else np.zeros(3),
        "link_R": _matrix(mj.body_quat[b]) if first else np.eye(3),
        "joint_p": np.array(mj.jnt_pos[j]) if kind in (BALL, HINGE) else np.zeros(3),
        "mass": float(mj.body_mass[b]) if carries else 0.0,
        "com": np.array(mj.body_ipos[b]) if carries else np.zeros(3),
        "inertia": R @ np.diag(mj.body_inertia[b]) @ R.T if carries else np.zeros((3, 3)),
    }


def _joints(mj: Any) -> dict[str, np.ndarray]:
    """Spring, damper and armature of each degree of freedom."""
    stiffness = np.zeros(mj.nv)
    for j in range(mj.njnt):
        a, kind = int(mj.jnt_dofadr[j]), int(mj.jnt_type[j])
        stiffness[a : a + _DOFS[kind]] = 0.0 if kind == FREE else mj.jnt_stiffness[j]
    return {"stiffness": stiffness, "damping": np.array(mj.dof_damping), "armature": np.array(mj.dof_armature)}


def _rest(mj: Any) -> np.ndarray:
    """(nv) where springs pull to."""
    rest = np.zeros(mj.nv)
    for j in range(mj.njnt):
        if mj.jnt_type[j] in (SLIDE, HINGE):
            rest[mj.jnt_dofadr[j]] = mj.qpos_spring[mj.jnt_qposadr[j]]
    return rest


def _numerics(mj: Any, prefix: str) -> dict[str, np.ndarray]:
    """Our notes on geoms: geom name -> numbers."""
    notes = {}
    for i in range(mj.nnumeric):
        name = _name(mj, "numeric", i)
        if name.startswith(prefix):
            start = int(mj.numeric_adr[i])
            notes[name.removeprefix(prefix)] = np.array(mj.numeric_data[start : start + int(mj.numeric_size[i])])
    return notes


def _geoms(mj: Any, last: dict[int, int]) -> dict[str, Any]:
    """Geoms with our notes applied."""
    names = [_name(mj, "geom", g) for g in range(mj.ngeom)]
    kinds = np.array(mj.geom_type, dtype=int)
    size = np.zeros((mj.ngeom, 6))
    size[:, :3] = mj.geom_size
    meshes = _meshes(mj)
    size[kinds == MESH] = [1, 1, 1, 0, 0, 0]
    contact = np.tile([_STIFFNESS, _DAMPING], (mj.ngeom, 1))
    for name, values in _numerics(mj, _HOLE).items():
        g = _noted(names, name, values, 3, _HOLE)
        _check_hole(name, kinds[g], size[g], values)
        kinds[g], size[g, 3:] = BLOCK_WITH_HOLE, values
    for name, values in _numerics(mj, _RIM).items():
        g = _noted(names, name, values, 1, _RIM)
        lengths = {CYLINDER: 2, BOX: 3}.get(int(kinds[g]), 0)
        if not lengths or not 0 < values[0] <= min(size[g, :lengths]):
            raise SceneError(f"'{_RIM}{name}': only cylinders and boxes have rims, of a radius up to their least half-length.")
        if kinds[g] == BOX:
            size[g, 3] = values[0]
        else:
            kinds[g], size[g, 2] = DISC, values[0]
    for name, values in _numerics(mj, _CONTACT).items():
        contact[_noted(names, name, values, 2, _CONTACT)] = values
    params = {
        "geom_p": np.array(mj.geom_pos), "geom_R": np.array([_matrix(q) for q in mj.geom_quat]).reshape(-1, 3, 3),
        "geom_size": size, "friction": mj.geom_friction[:, 0], "contact_stiffness": contact[:, 0],
        "contact_damping": contact[:, 1], "color": _colors(mj)[:, :3],
    }  # fmt: skip
    link = np.array([last[int(b)] for b in mj.geom_bodyid], dtype=int)
    visible = (np.array(mj.geom_group) < 3) & (_colors(mj)[:, 3] > 0)
    return {"names": names, "kinds": kinds, "link": link, "visible": visible, "params": params, "meshes": meshes}


def _meshes(mj: Any) -> dict[str, np.ndarray]:
    """Vertices and faces of geoms that are meshes, as in `Scene`."""
    vertices, faces, in_hull = [np.zeros((0, 3))], [np.zeros((0, 3), int)], [np.zeros(0, bool)]
    counts = np.zeros((mj.ngeom + 1, 2), int)
    for g in np.flatnonzero(mj.geom_type == MESH):
        i = int(mj.geom_dataid[g])
        vertices.append(mj.mesh_vert[mj.mesh_vertadr[i] :][: mj.mesh_vertnum[i]].astype(float))
        faces.append(np.array(mj.mesh_face[mj.mesh_faceadr[i] :][: mj.mesh_facenum[i]], int))
        in_hull.append(_in_hull(mj, i))
        counts[g + 1] = len(vertices[-1]), len(faces[-1])
    starts = counts.cumsum(0)
    return {
        "mesh_vertices": np.concatenate(vertices), "mesh_hull": np.concatenate(in_hull), "mesh_faces": np.concatenate(faces),
        "mesh_vertex_start": starts[:, 0], "mesh_face_start": starts[:, 1],
    }  # fmt: skip


def _in_hull(mj: Any, i: int) -> np.ndarray:
    """(n) bool: vertices of a mesh's convex hull as MuJoCo made it (by `maxhullvert`, if the file says so); all where it made
    none. The layout of mesh_graph is in MuJoCo's mjmodel.h."""
    at = int(mj.mesh_graphadr[i])
    out = np.full(int(mj.mesh_vertnum[i]), at < 0)
    if at >= 0:
        count = int(mj.mesh_graph[at])
        out[mj.mesh_graph[at + 2 + count : at + 2 + 2 * count]] = True
    return out


def _noted(names: list[str], name: str, values: np.ndarray, count: int, prefix: str) -> int:
    """Index of the geom that a note speaks of."""
    if name not in names:
        raise SceneError(f"'{prefix}{name}' speaks of a geom '{name}' that the scene does not have.")
    if len(values) != count:
        raise SceneError(f"'{prefix}{name}' holds {len(values)} numbers; it takes {count}.")
    return names.index(name)


def _check_hole(name: str, kind: int, size: np.ndarray, hole: np.ndarray) -> None:
    """Refuse a hole that does not fit its box."""
    radius, depth, chamfer = hole
    if kind != BOX:
        raise SceneError(f"'{_HOLE}{name}': only a box can have a hole.")
    if not (radius > 0 and 0 <= chamfer < depth <= 2 * size[2] and radius + chamfer < min(size[:2])):
        raise SceneError(
            f"'{_HOLE}{name}': radius {radius:g}, depth {depth:g}, chamfer {chamfer:g} do not fit a box of half-lengths "
            f"{size[0]:g}, {size[1]:g}, {size[2]:g}."
        )


def _colors(mj: Any) -> np.ndarray:
    """(ng, 4) colour and opacity; a material's where the geom has none of its own, as MuJoCo draws it."""
    rgba = np.array(mj.geom_rgba, dtype=float).reshape(-1, 4)
    for g in range(mj.ngeom):
        if mj.geom_matid[g] >= 0 and np.allclose(rgba[g], [0.5, 0.5, 0.5, 1.0]):
            rgba[g] = mj.mat_rgba[mj.geom_matid[g]]
    return rgba


def _light(mj: Any) -> dict[str, np.ndarray]:
    """The first light's direction and strengths, or light from above and in front where there is none."""
    if mj.nlight == 0:
        direction = np.array([0.3, -0.2, 1.0])
        return {"light_direction": _unit(direction), "ambient": np.full(3, 0.5), "diffuse": np.full(3, 0.5)}
    ambient = mj.light_ambient[0] + np.asarray(mj.vis.headlight.ambient)
    return {"light_direction": _unit(-mj.light_dir[0]), "ambient": ambient, "diffuse": mj.light_diffuse[0]}


def _unit(v: np.ndarray) -> np.ndarray:
    return np.asarray(v, dtype=float) / np.linalg.norm(v)


def _scene(mj: Any, links: dict[str, Any], geoms: dict[str, Any]) -> Scene:
    """The structure."""
    column = links["column"]
    limited, limit = np.zeros(mj.nv, dtype=bool), np.zeros((mj.nv, 2))
    for j in range(mj.njnt):
        if mj.jnt_limited[j]:
            limited[mj.jnt_dofadr[j]], limit[mj.jnt_dofadr[j]] = True, mj.jnt_range[j]
    return Scene(
        link_names=[row["name"] for row in links["rows"]],
        parent=column("parent"),
        joint_type=column("kind"),
        joint_names=[row["joint_name"] for row in links["rows"]],
        q_adr=column("q_adr"),
        v_adr=column("v_adr"),
        nd=column("nd"),
        axis=column("axis"),
        q0=column("q0"),
        limited=limited,
        limit=limit,
        gravcomp=column("gravcomp"),
        geom_names=geoms["names"],
        geom_type=geoms["kinds"],
        geom_link=geoms["link"],
        geom_visible=geoms["visible"],
        pairs=_pairs(mj),
        nq=int(mj.nq),
        nv=int(mj.nv),
        q_ref=np.array(mj.qpos0),
        rest=_rest(mj),
        timestep=float(mj.opt.timestep),
        **geoms["meshes"],
    )


def _pairs(mj: Any) -> np.ndarray:
    """(np, 2) pairs of geoms that may touch: the explicit ones, and those that MuJoCo's filters let through."""
    pairs = {tuple(sorted((int(mj.pair_geom1[i]), int(mj.pair_geom2[i])))) for i in range(mj.npair)}
    for i in range(mj.npair):
        a, b = int(mj.pair_geom1[i]), int(mj.pair_geom2[i])
        if not np.isclose(mj.pair_friction[i, 0], max(mj.geom_friction[a, 0], mj.geom_friction[b, 0])):
            raise SceneError("a contact pair with its own 'friction' is not supported; give it to the geoms.")
    excluded = {int(signature) for signature in mj.exclude_signature}
    if not mj.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_CONTACT):
        for a in range(mj.ngeom):
            for b in range(a + 1, mj.ngeom):
                if _may_touch(mj, a, b, excluded):
                    pairs.add((a, b))
    return np.array(sorted(pairs), dtype=int).reshape(-1, 2)


def _may_touch(mj: Any, a: int, b: int, excluded: set[int]) -> bool:
    """MuJoCo's rule ("Collision detection", selection): bits match, bodies are not welded together, not parent and
    child (but for the world's children), and not excluded."""
    if mj.geom_type[a] == PLANE and mj.geom_type[b] == PLANE:
        return False
    if not (mj.geom_contype[a] & mj.geom_conaffinity[b] or mj.geom_contype[b] & mj.geom_conaffinity[a]):
        return False
    body = [int(mj.geom_bodyid[g]) for g in (a, b)]
    if (min(body) << 16) + max(body) in excluded:
        return False
    weld = [int(mj.body_weldid[x]) for x in body]
    above = [int(mj.body_weldid[mj.body_parentid[w]]) for w in weld]
    if weld[0] == weld[1]:
        return False
    return 0 in weld or not (weld[0] == above[1] or weld[1] == above[0])
