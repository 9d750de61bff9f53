"""What the twin is like in which a policy tries, how that varies from episode to episode, and how far what it is told is off."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from samrl.model.model import Model
from samrl.model.scene import Params
from samrl.tasks.task import Task, Told


@dataclass(frozen=True)
class Variation:
    """What the twin is like, and how it varies from episode to episode.

    Attributes:
        substeps: of a control period; slip: speed below which friction is viscous [m/s].
        stiffness: of what floats, a point of contact [N/m]; spread: of its logarithm; damping: of contact damping's logarithm.
        friction: range of an episode's; apart: by how much bodies differ from it (deviation of the logarithm).
        mass: relative range, com: range [m] of the centre of mass, of what floats: nothing is even.
        arm: relative range of the joints' springs and dampers; rotor: of what their inertia is more than the model's [kg m²].
        heavy: range of what the last link's inertia is more than the model's [kg m²], and a fifth of that the others': a wrist
            that resists turning moves the tool aside when it is turned.
        kick: share of the steps after which what floats gets another velocity, by 5 cm/s and 1 rad/s (deviations), for what
            contact does is not known that well.
        gentle: price of its speed, and of a sixteenth of a metre turning [s²/m²]: what is thrown or dropped from high tears.
        restless: share of the episodes in which it rocks on for long where it may (Tried.rocks).
    """

    substeps: int
    stiffness: float
    slip: float
    spread: float = 0.0
    damping: float = 0.0
    friction: tuple[float, float] = (0.2, 0.6)
    apart: float = 0.0
    mass: float = 0.3
    com: float = 0.0
    arm: float = 0.0
    rotor: float = 0.0
    heavy: float = 0.0
    kick: float = 0.0
    gentle: float = 0.0
    restless: float = 0.0

    def scaled(self, level: float) -> Variation:
        """The same with so much of what varies and disturbs."""
        names = ("spread", "damping", "apart", "com", "arm", "rotor", "heavy", "kick", "gentle", "restless")
        return replace(self, **{name: level * getattr(self, name) for name in names})


@dataclass(frozen=True)
class Doubt:
    """Standard deviations of what the policy is told, half of their variance constant in an episode, half of each step: places
    of load and target [m], their axes [rad], the target's velocity [m/s], [rad/s]."""

    load: float = 0.0
    target: float = 0.0
    axes: float = 0.0
    speed: float = 0.0
    spin: float = 0.0

    def scale(self) -> Tensor:
        """(18) of landmarks and motion, one after the other."""
        each = (self.load, self.target, self.axes, self.axes, self.speed, self.spin)
        return torch.tensor(each).repeat_interleave(3)


def mistaken(true: Told, error: Tensor) -> Told:
    """What a policy is told that should be told `true` (n), off by `error` (n, 18), which is as `Doubt.scale` has it."""
    places, axes, motion = error.split(6, -1)
    turned = true.marks[:, 2:] + torch.linalg.cross(axes.unflatten(-1, (2, 3)), true.marks[:, 2:])
    marks = torch.cat([true.marks[:, :2] + places.unflatten(-1, (2, 3)), torch.nn.functional.normalize(turned, dim=-1)], 1)
    return Told(marks, true.X_WE, true.lead, true.q, true.motion + motion)


SOFT = Variation(10, 500.0, 5e-3)  # where a beginner learns
HARD = Variation(
    20, 3000.0, 1e-3, spread=0.7, damping=0.5, friction=(0.15, 0.6), apart=0.25, com=0.006, arm=0.2, rotor=0.1, heavy=0.3,
    kick=0.15, gentle=2.0, restless=0.5,
)  # fmt: skip
"""As other worlds may be."""
LIKELY = Doubt(load=0.0007, target=0.0015, axes=0.025, speed=0.05, spin=0.5)  # a little more than what looks leave


def vary(model: Model, task: Task, floating: str, s: Variation, n: int, g: torch.Generator) -> Params:
    """Contact, shapes, masses and arm of each of n environments. floating: the body that is handled."""
    P, scene = model.params, model.scene
    normal = lambda: torch.randn(n, generator=g).clamp(-1.7, 1.7)  # noqa: E731
    uniform = lambda *k: 2 * torch.rand(n, *k, generator=g) - 1  # noqa: E731
    own = lambda x: x.expand(n, *x.shape).clone()  # noqa: E731
    at, i = geoms_of(model, floating), scene.link(floating)
    k, c, mu = own(P.contact_stiffness), own(P.contact_damping), own(P.friction)
    k[:, at] = (s.stiffness * torch.exp(s.spread * normal()))[:, None]
    c[:, at] *= torch.exp(s.damping * normal())[:, None]
    mu[:] = (s.friction[0] + (s.friction[1] - s.friction[0]) * (uniform(1) + 1) / 2).expand_as(mu)
    for body in _touching(model, floating):
        mu[:, geoms_of(model, body)] *= torch.exp(2 * s.apart * normal())[:, None]  # a pair's friction is the geometric mean
    mass, inertia, com, heavier = own(P.mass), own(P.inertia), own(P.com), 1 + s.mass * uniform(1)[:, 0]
    mass[:, i] *= heavier
    inertia[:, i] *= heavier[:, None, None]
    com[:, i, :2] += s.com * uniform(2)
    armature, arm = own(P.armature), len(model.gains.stiffness)
    armature[:, :arm] += s.rotor * torch.rand(n, 1, generator=g)
    links = [j for j, dofs in enumerate(scene.nd) if dofs and scene.v_adr[j] < arm]
    more = s.heavy * torch.rand(n, 1, 1, 1, generator=g) * torch.eye(3)
    inertia[:, links] += more / 5
    inertia[:, links[-1]] += 0.8 * more[:, 0]
    spring, damper = (own(x) * (1 + s.arm * uniform(1)) for x in (P.stiffness, P.damping))
    size = own(P.geom_size)
    for name, ends in task.shapes().items():
        a, b = torch.tensor(ends, dtype=size.dtype)
        size[:, scene.geom_names.index(name), : len(a)] = a + (b - a) * (uniform(1) + 1) / 2
    return P.replace(
        contact_stiffness=k, contact_damping=c, friction=mu, mass=mass, inertia=inertia, com=com, armature=armature,
        stiffness=spring, damping=damper, geom_size=size,
    )  # fmt: skip


def geoms_of(model: Model, body: str) -> list[int]:
    """Indices of a body's geoms."""
    return [i for i, name in enumerate(model.scene.geom_names) if name.startswith(f"{body}/")]


def _touching(model: Model, body: str) -> list[str]:
    """Bodies that may touch that one."""
    owner = lambda geom: model.scene.geom_names[geom].split("/")[0]  # noqa: E731
    pairs = [(owner(a), owner(b)) for a, b in model.scene.pairs.tolist()]
    return sorted({a if b == body else b for a, b in pairs if body in (a, b)})
