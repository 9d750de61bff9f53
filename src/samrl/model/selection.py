"""Which numbers of a twin (psi, s) are free, as one vector whose every value is valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.errors import SamrlError, UnknownNameError
from samrl.model.placement import link_pose, put, set_link_pose
from samrl.model.scene import HINGE, SLIDE, Scene, State, Twin

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
class ScaleOf:
    """Natural logarithm of the length of a vector that keeps its direction: how far a link's offset or a centre of mass goes. Of
    a geom's sizes, which keep their shares, the first; of an inertia, the mean of its three. What is zero has no direction, and
    is refused."""

    leaf: str
    of: str | int | None = None


@dataclass(frozen=True)
class MomentsOf:
    """Logarithms of a link's three second moments of mass [kg m²] along its principal axes, which stay. Whatever they are, the
    inertia is one that a body can have (Wensing et al. 2018, "Linear Matrix Inequalities for Physically-Consistent Inertial
    Parameter Identification"): about an axis, the sum of the moments along the other two."""

    link: str | int


@dataclass(frozen=True)
class Coordinate:
    """Coordinate q of a hinge or slide joint [rad or m], by the joint's name."""

    joint: str


Entry = PoseOf | LogOf | Leaf | ScaleOf | MomentsOf | Coordinate


class Selection:
    """Which leaves of (psi, s) are free, as one vector x whose every value is valid.

    Args:
        entries: in the order of x.
        scene: gives names their meaning; without it, `Leaf` and `LogOf` by index still work.
    """

    def __init__(self, entries: Sequence[Entry], scene: Scene | None = None) -> None:
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

    def _read(self, twin: Twin, entry: Entry) -> Tensor:
        """One entry's part of x."""
        if isinstance(entry, PoseOf):
            X = link_pose(self._named(), twin, self._first_link(entry))
            return X.new_zeros(*X.shape[:-2], 6)
        if isinstance(entry, Coordinate):
            return twin.state.q[..., self._q_adr(entry), None]
        if isinstance(entry, MomentsOf):
            return self._moments(twin, entry)[0].log()
        leaf = _leaf(twin, entry)
        axis, first, count = self._where(entry, leaf)
        values = leaf.narrow(axis, first, count).flatten(axis)
        if isinstance(entry, ScaleOf):
            return self._length(entry, values).log()
        return values.log() if isinstance(entry, LogOf) else values

    def _write(self, twin: Twin, entry: Entry, x: Tensor) -> Twin:
        """The twin with one entry set to its part of x."""
        if isinstance(entry, PoseOf):
            link = self._first_link(entry)
            return set_link_pose(self._named(), twin, link, lie.retract(link_pose(self._named(), twin, link), x))
        if isinstance(entry, Coordinate):
            return _with_q(twin, self._q_adr(entry), x)
        if isinstance(entry, MomentsOf):
            return self._with_moments(twin, entry, x.exp())
        leaf = _leaf(twin, entry)
        axis, first, count = self._where(entry, leaf)
        values = x.exp() if isinstance(entry, LogOf) else x
        if isinstance(entry, ScaleOf):
            before = leaf.narrow(axis, first, count).flatten(axis)
            values = before * (x.exp() / self._length(entry, before))
        shaped = values.reshape(*x.shape[:-1], count, *leaf.shape[leaf.dim() + axis + 1 :])
        return twin.replace(params=twin.params.replace(**{entry.leaf: put(leaf, axis, first, shaped)}))

    def _length(self, entry: ScaleOf, values: Tensor) -> Tensor:
        """(*batch, 1) by which an entry's numbers are told."""
        if entry.leaf == "geom_size":
            length = values[..., :1]
        elif entry.leaf == "inertia":
            length = values[..., ::4].mean(-1, keepdim=True)
        else:
            length = values.norm(dim=-1, keepdim=True)
        if not bool((length > 0).all()):
            of = "" if entry.of is None else f" of '{entry.of}'"
            raise SamrlError(f"{entry.leaf}{of} is zero, so it has no direction in which to grow; free its numbers instead.")
        return length

    def _moments(self, twin: Twin, entry: MomentsOf) -> tuple[Tensor, Tensor]:
        """Second moments (*batch, 3) and their axes (*batch, 3, 3), the columns, of a link."""
        i = entry.link if isinstance(entry.link, int) else self._named().link(entry.link)
        about, axes = torch.linalg.eigh(twin.params.inertia[..., i, :, :].detach())
        total = about.sum(-1, keepdim=True)
        return (total / 2 - about).clamp_min(1e-6 * total), axes  # what is flat has none along one axis: hardly any, then

    def _with_moments(self, twin: Twin, entry: MomentsOf, moments: Tensor) -> Twin:
        """The twin with a link's second moments (*batch, 3) replaced."""
        i = entry.link if isinstance(entry.link, int) else self._named().link(entry.link)
        axes = self._moments(twin, entry)[1]
        about = moments.sum(-1, keepdim=True) - moments
        inertia = axes @ (about[..., None] * axes.mT)
        params = twin.params.replace(inertia=put(twin.params.inertia, -3, i, inertia[..., None, :, :]))
        return twin.replace(params=params)

    def _named(self) -> Scene:
        if self.scene is None:
            raise SamrlError("a selection by name needs the scene: Selection(entries, scene).")
        return self.scene

    def _where(self, entry: LogOf | Leaf | ScaleOf, leaf: Tensor) -> tuple[int, int, int]:
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


def _leaf(twin: Twin, entry: LogOf | Leaf | ScaleOf) -> Tensor:
    """The leaf of Params that an entry speaks of."""
    if entry.leaf not in _INNER:
        raise UnknownNameError("leaf", entry.leaf, _INNER)
    return getattr(twin.params, entry.leaf)


def _index(kind: str, name: str, names: list[str]) -> int:
    """Index of a name in a list."""
    if name not in names:
        raise UnknownNameError(kind, name, [n for n in names if n])
    return names.index(name)


def _with_q(twin: Twin, at: int, values: Tensor) -> Twin:
    """The twin with coordinates from `at` on replaced by values (*batch, n)."""
    return twin.replace(state=State(put(twin.state.q, -1, at, values), twin.state.qd))
