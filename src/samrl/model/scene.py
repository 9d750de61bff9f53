"""The scene: its structure (fixed), its parameters psi and its state s.

Structure is NumPy and never changes; parameters and state are torch tensors. Every parameter leaf has either no batch
(shared by all environments; gradients are summed) or the batch shape of the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.errors import SamrlError, UnknownNameError

FREE, BALL, SLIDE, HINGE, FIXED = 0, 1, 2, 3, -1  # MuJoCo's numbers for joints; FIXED is ours
PLANE, SPHERE, CAPSULE, CYLINDER, BOX, BLOCK_WITH_HOLE, DISC = 0, 2, 3, 5, 6, 100, 101  # MuJoCo's; the last two are ours


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
            radii [m]); for a block with a hole: half x, y, z, hole radius, hole depth, chamfer (hole along +z from top); for a
            disc, a cylinder with a rounded rim: radius, half length, radius of the rounding.
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


_INNER = {
    "link_p": 1, "link_R": 2, "joint_p": 1, "mass": 0, "com": 1, "inertia": 2, "stiffness": 0, "damping": 0, "armature": 0,
    "gravity": 0, "geom_p": 1, "geom_R": 2, "geom_size": 1, "friction": 0, "contact_stiffness": 0, "contact_damping": 0,
    "color": 1, "light_direction": 0, "ambient": 0, "diffuse": 0,
}  # fmt: skip
"""Axes of one element of each leaf of Params; the axis before them counts the elements."""

_OF_LINKS = ("link_p", "link_R", "joint_p", "mass", "com", "inertia")
_OF_DOFS = ("stiffness", "damping", "armature")


@dataclass(frozen=True)
class PoseOf:
    """Pose of a link: of a floating body its coordinates in the state, else its offset in its parent. Six numbers, the
    tangent vector of `lie.retract` from where the twin has it: (translation [m], rotation vector [rad])."""

    link: str | int


@dataclass(frozen=True)
class LogOf:
    """Natural logarithm of numbers that must stay positive: leaf of Params, and which (see `Leaf`)."""

    leaf: str
    of: str | int | None = None


@dataclass(frozen=True)
class Leaf:
    """Numbers of a leaf of Params as they are. `of` is an index, or the name of a link, joint or geom, whichever the leaf
    counts; all of the leaf where it is not given."""

    leaf: str
    of: str | int | None = None


@dataclass(frozen=True)
class Coordinate:
    """Coordinate q of a hinge or slide joint [rad or m], by the joint's name."""

    joint: str


class Selection:
    """Which leaves of (psi, s) are free, as one vector x whose every value is valid.

    Args:
        entries: in the order of x.
        scene: gives names their meaning; without it, `Leaf` and `LogOf` by index still work.
    """

    def __init__(self, entries: Sequence[PoseOf | LogOf | Leaf | Coordinate], scene: Scene | None = None) -> None:
        self.entries, self.scene = tuple(entries), scene

    def pack(self, twin: Twin) -> Tensor:
        """x (*batch, n) of a twin: zeros for poses, values or their logarithms for the rest."""
        parts = [self._read(twin, entry) for entry in self.entries]
        batch = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
        return torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], -1)

    def unpack(self, twin: Twin, x: Tensor) -> Twin:
        """The twin with its free numbers replaced by x (*batch, n); poses are moved from where `twin` has them."""
        sizes = [self._read(twin, entry).shape[-1] for entry in self.entries]
        if x.shape[-1] != sum(sizes):
            raise SamrlError(f"x has {x.shape[-1]} numbers; this selection has {sum(sizes)}.")
        for entry, part in zip(self.entries, x.split(sizes, -1), strict=True):
            twin = self._write(twin, entry, part)
        return twin

    def _read(self, twin: Twin, entry: PoseOf | LogOf | Leaf | Coordinate) -> Tensor:
        """One entry's part of x."""
        if isinstance(entry, PoseOf):
            X = self._pose(twin, self._first_link(entry))
            return X.new_zeros(*X.shape[:-2], 6)
        if isinstance(entry, Coordinate):
            return twin.state.q[..., self._q_adr(entry), None]
        leaf = _leaf(twin, entry)
        axis, first, count = self._where(entry, leaf)
        values = leaf.narrow(axis, first, count).flatten(axis)
        return values.log() if isinstance(entry, LogOf) else values

    def _write(self, twin: Twin, entry: PoseOf | LogOf | Leaf | Coordinate, x: Tensor) -> Twin:
        """The twin with one entry set to its part of x."""
        if isinstance(entry, PoseOf):
            link = self._first_link(entry)
            return self._with_pose(twin, link, lie.retract(self._pose(twin, link), x))
        if isinstance(entry, Coordinate):
            return _with_q(twin, self._q_adr(entry), x)
        leaf = _leaf(twin, entry)
        axis, first, count = self._where(entry, leaf)
        values = x.exp() if isinstance(entry, LogOf) else x
        shaped = values.reshape(*x.shape[:-1], count, *leaf.shape[leaf.dim() + axis + 1 :])
        return twin.replace(params=twin.params.replace(**{entry.leaf: _put(leaf, axis, first, shaped)}))

    def _named(self) -> Scene:
        if self.scene is None:
            raise SamrlError("a selection by name needs the scene: Selection(entries, scene).")
        return self.scene

    def _where(self, entry: LogOf | Leaf, leaf: Tensor) -> tuple[int, int, int]:
        """(axis that counts, first element, number of elements) of an entry; the axis is counted from the end."""
        axis = -1 - _INNER[entry.leaf]
        if entry.of is None:
            return axis, 0, leaf.shape[axis]
        if isinstance(entry.of, int):
            return axis, entry.of, 1
        scene = self._named()
        if entry.leaf in _OF_LINKS:
            return axis, scene.link(entry.of), 1
        if entry.leaf in _OF_DOFS:
            link = _index("joint", entry.of, scene.joint_names)
            return axis, int(scene.v_adr[link]), int(scene.nd[link])
        return axis, _index("geom", entry.of, scene.geom_names), 1

    def _q_adr(self, entry: Coordinate) -> int:
        scene = self._named()
        link = _index("joint", entry.joint, scene.joint_names)
        if scene.joint_type[link] not in (SLIDE, HINGE):
            raise SamrlError(f"joint '{entry.joint}' is no hinge or slide; select its body's pose by PoseOf.")
        return int(scene.q_adr[link])

    def _first_link(self, entry: PoseOf) -> int:
        """The link whose offset moves the body: the first of its chain."""
        scene = self._named()
        i = entry.link if isinstance(entry.link, int) else scene.link(entry.link)
        while i > 0 and scene.parent[i] > 0 and scene.link_names[scene.parent[i]] == "":
            i = int(scene.parent[i])
        return i

    def _pose(self, twin: Twin, i: int) -> Tensor:
        """(*batch, 4, 4) in the world for a floating body, else in the parent."""
        if self._named().joint_type[i] == FREE:
            at = int(self._named().q_adr[i])
            q = twin.state.q[..., at : at + 7]
            return lie.pose(lie.matrix_from_quat(q[..., 3:]), q[..., :3])
        return lie.pose(twin.params.link_R[..., i, :, :], twin.params.link_p[..., i, :])

    def _with_pose(self, twin: Twin, i: int, X: Tensor) -> Twin:
        """The twin with that pose set to X (*batch, 4, 4)."""
        R, p = X[..., :3, :3], X[..., :3, 3]
        if self._named().joint_type[i] == FREE:
            return _with_q(twin, int(self._named().q_adr[i]), torch.cat([p, lie.quat_from_matrix(R)], -1))
        link_p = _put(twin.params.link_p, -2, i, p[..., None, :])
        link_R = _put(twin.params.link_R, -3, i, R[..., None, :, :])
        return twin.replace(params=twin.params.replace(link_p=link_p, link_R=link_R))


def _leaf(twin: Twin, entry: LogOf | Leaf) -> Tensor:
    """The leaf of Params that an entry speaks of."""
    if entry.leaf not in _INNER:
        raise UnknownNameError("leaf", entry.leaf, _INNER)
    return getattr(twin.params, entry.leaf)


def _index(kind: str, name: str, names: list[str]) -> int:
    """Index of a name in a list."""
    if name not in names:
        raise UnknownNameError(kind, name, [n for n in names if n])
    return names.index(name)


def _put(leaf: Tensor, axis: int, first: int, values: Tensor) -> Tensor:
    """`leaf` with the elements from `first` on along `axis` (from the end) replaced; batches are broadcast."""
    batch = torch.broadcast_shapes(leaf.shape[:axis], values.shape[:axis])
    leaf = leaf.expand(*batch, *leaf.shape[axis:])
    values = values.expand(*batch, *values.shape[axis:])
    last = first + values.shape[axis]
    return torch.cat([leaf.narrow(axis, 0, first), values, leaf.narrow(axis, last, leaf.shape[axis] - last)], axis)


def _with_q(twin: Twin, at: int, values: Tensor) -> Twin:
    """The twin with coordinates from `at` on replaced by values (*batch, n)."""
    return twin.replace(state=State(_put(twin.state.q, -1, at, values), twin.state.qd))


def compile_mjcf(xml: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Scene, Params, State]:
    """Structure, parameters and reference state of a scene given as MJCF or URDF.

    Args:
        xml: the text, or the path of a file.

    Raises: SceneError where MuJoCo does not compile it, or where it holds what the twin does not support; see mjcf.py,
    which also says what we add to MJCF by `<custom>`.
    """
    from samrl.model.mjcf import flatten  # this module's data classes are what it builds

    return flatten(xml, dtype, device)
