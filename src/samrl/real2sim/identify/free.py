"""Which parameters are looked for, by the words a user gives: `masses` is the mass of every body that moves, `masses:arm2` of
one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samrl.core.errors import SamrlError, UnknownNameError
from samrl.model.physics.layout import moving_links
from samrl.model.scene import FREE, Params, Scene, State, Twin
from samrl.model.selection import Entry, Leaf, LogOf, MomentsOf, ScaleOf, Selection


@dataclass(frozen=True)
class Kind:
    """One word for what can be looked for.

    Attributes:
        entry: name -> what is free of a link, joint or geom.
        names: (scene, params) -> all links, joints or geoms that have it.
        unit: of a number.
        parts: endings of the numbers' labels, where there are several.
    """

    entry: Callable[[str], Entry]
    names: Callable[[Scene, Params], list[str]]
    unit: str
    parts: tuple[str, ...] = ("",)

    @property
    def logarithmic(self) -> bool:
        """Numbers are positive, and free by their logarithms."""
        return not isinstance(self.entry(""), Leaf)


def _links(chosen: Callable[[Scene, Params, int], bool]) -> Callable[[Scene, Params], list[str]]:
    def names(scene: Scene, params: Params) -> list[str]:
        moving = moving_links(scene)
        return [n for i, n in enumerate(scene.link_names) if n and moving[i] and chosen(scene, params, i)]

    return names


def _joints(leaf: str) -> Callable[[Scene, Params], list[str]]:
    def names(scene: Scene, params: Params) -> list[str]:
        values, out = getattr(params, leaf), []
        for i, name in enumerate(scene.joint_names):
            first = int(scene.v_adr[i])
            if name and scene.nd[i] and scene.joint_type[i] != FREE and bool((values[first : first + scene.nd[i]] > 0).all()):
                out.append(name)
        return out

    return names


def _geoms(scene: Scene, params: Params) -> list[str]:
    """Named geoms of moving bodies that touch something."""
    moving, touching = moving_links(scene), set(np.asarray(scene.pairs).ravel().tolist())
    return [n for g, n in enumerate(scene.geom_names) if n and g in touching and moving[scene.geom_link[g]]]


def _offset(scene: Scene, params: Params, i: int) -> bool:
    """A link that hangs on another moving one, some way off."""
    return bool(moving_links(scene)[scene.parent[i]]) and bool(params.link_p[i].norm() > 0)


def _massive(scene: Scene, params: Params, i: int) -> bool:
    return bool(params.mass[i] > 0)


def _turning(scene: Scene, params: Params, i: int) -> bool:
    return bool(torch.diagonal(params.inertia[i]).sum() > 0)


def _lever(scene: Scene, params: Params, i: int) -> bool:
    return _massive(scene, params, i) and bool(params.com[i].norm() > 0)


KINDS: dict[str, Kind] = {
    "link-lengths": Kind(lambda n: ScaleOf("link_p", n), _links(_offset), "m"),
    "com-distances": Kind(lambda n: ScaleOf("com", n), _links(_lever), "m"),
    "coms": Kind(lambda n: Leaf("com", n), _links(_massive), "m", (".x", ".y", ".z")),
    "masses": Kind(lambda n: LogOf("mass", n), _links(_massive), "kg"),
    "inertias": Kind(lambda n: ScaleOf("inertia", n), _links(_turning), "kg m²"),
    "moments": Kind(MomentsOf, _links(_turning), "kg m²", (".1", ".2", ".3")),
    "damping": Kind(lambda n: LogOf("damping", n), _joints("damping"), "N m s/rad"),
    "stiffness": Kind(lambda n: LogOf("stiffness", n), _joints("stiffness"), "N m/rad"),
    "armature": Kind(lambda n: LogOf("armature", n), _joints("armature"), "kg m²"),
    "friction": Kind(lambda n: LogOf("friction", n), _geoms, ""),
    "contact-stiffness": Kind(lambda n: LogOf("contact_stiffness", n), _geoms, "N/m"),
    "contact-damping": Kind(lambda n: LogOf("contact_damping", n), _geoms, "s/m"),
    "sizes": Kind(lambda n: ScaleOf("geom_size", n), _geoms, "m"),
    "gravity": Kind(lambda n: ScaleOf("gravity"), lambda scene, params: [""], "m/s²"),
}


class Free:
    """The free numbers of a scene as one vector x (*batch, P): logarithms of what must be positive, the rest as it is.

    Args:
        scene, params: unbatched.
        words: KIND, or KIND:NAME.

    Attributes:
        labels: (P) such as "masses:arm2"; units: (P); logarithmic: (P) bool.
        start: (P) x of `params`.

    Raises: UnknownNameError for a kind or a name that the scene does not have; SamrlError where nothing is of that kind.
    """

    def __init__(self, scene: Scene, params: Params, words: Sequence[str]) -> None:
        if not words:
            raise SamrlError(f"nothing to look for was given; name at least one of {', '.join(KINDS)}.")
        self.scene, self.params = scene, params
        self.labels: list[str] = []
        self.units: list[str] = []
        logarithmic: list[bool] = []
        self.entries: list[Entry] = []
        for word, name in named(scene, params, words):
            kind = KINDS[word]
            self.entries.append(kind.entry(name))
            self.labels += [f"{word}{':' if name else ''}{name}{part}" for part in kind.parts]
            self.units += [kind.unit] * len(kind.parts)
            logarithmic += [kind.logarithmic] * len(kind.parts)
        self._selection = Selection(self.entries, scene)
        nothing = params.mass.new_zeros(0)
        self._twin = Twin(params, State(nothing, nothing))
        self.logarithmic = torch.tensor(logarithmic)
        self.start = self._selection.pack(self._twin)
        if not bool(torch.isfinite(self.start).all()):
            bad = self.labels[int((~torch.isfinite(self.start)).nonzero()[0])]
            raise SamrlError(f"{bad} is zero in this scene and could never grow; start it above zero.")

    def __len__(self) -> int:
        return len(self.labels)

    def put(self, x: Tensor) -> Params:
        """The parameters with x (*batch, P) in them."""
        return self._selection.unpack(self._twin, x).params

    def values(self, x: Tensor) -> Tensor:
        """x (*batch, P) in its units."""
        return torch.where(self.logarithmic.to(x.device), x.exp(), x)

    def numbers(self, values: Tensor) -> Tensor:
        """The x (*batch, P) of values in their units."""
        return torch.where(self.logarithmic, values.clamp_min(1e-300).log(), values)

    def off(self, share: float, seed: int) -> Tensor:
        """x (P) with each number of the scene up to `share` of itself off, either way, at random."""
        if not 0 <= share < 1:
            raise SamrlError(f"parameters cannot start {share:g} of themselves off; give a share from 0 up to but not with 1.")
        u = torch.rand(len(self), generator=torch.Generator().manual_seed(seed), dtype=self.start.dtype) * 2 - 1
        return torch.where(self.logarithmic, self.start + torch.log1p(share * u), self.start * (1 + share * u))

    def deviations(self, share: float) -> Tensor:
        """(P) standard deviations of x for which a number is believed to be within `share` of itself: of the logarithm, or of
        what is no logarithm, that of the largest of them (a centre of mass may be zero along an axis)."""
        linear = self.start[~self.logarithmic].abs().amax() if bool((~self.logarithmic).any()) else self.start.new_tensor(1.0)
        return torch.where(self.logarithmic, math.log1p(share), share * linear.clamp_min(1e-3))


def named(scene: Scene, params: Params, words: Sequence[str]) -> list[tuple[str, str]]:
    """(kind, name) of each entry."""
    out: list[tuple[str, str]] = []
    for word in words:
        kind, _, name = word.partition(":")
        if kind not in KINDS:
            raise UnknownNameError("parameter", kind, KINDS)
        names = KINDS[kind].names(scene, params)
        if name and name not in names:
            raise UnknownNameError(f"'{kind}' of", name, names)
        if not names:
            raise SamrlError(_nothing(kind))
        out += [(kind, n) for n in ([name] if name else names) if (kind, n) not in out]
    return out


def _nothing(kind: str) -> str:
    """Why a scene has nothing of a kind."""
    if KINDS[kind].names is _geoms:
        return f"this scene has no {kind}: no named geom of a moving body touches anything."
    if kind in ("damping", "stiffness", "armature"):
        return f"this scene has no {kind}: no named joint has one above zero, from which it could be looked for."
    return f"this scene has no {kind}: nothing that moves has one that is not zero."
