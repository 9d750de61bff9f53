"""What a recording measures of a state: targets z* from its columns, and the z that the model predicts for them.

Angles are compared by unit headings (Heiden et al., Eq. 1), which know nothing of whole turns; positions in metres; the turn of a
body by the ends of its axes, each as long as the body's radius of gyration, so that a body's turn counts as its surface's way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from samrl.core import lie
from samrl.core.errors import SamrlError, UnknownNameError
from samrl.model.scene import BALL, FREE, HINGE, SLIDE, Params, Scene
from samrl.real2sim.identify.columns import AXES, Columns, Marker

Values = Mapping[str, np.ndarray]


class Channel(Protocol):
    """One thing that is measured. `parts`: what it adds to z, each a name of its own for reports, with its width. `apart`: of
    each part, whether its numbers stand for themselves, as coordinates do, or together, as those of a heading or a turn."""

    parts: tuple[tuple[str, int], ...]
    apart: tuple[bool, ...]

    def target(self, values: Values) -> np.ndarray:
        """z* (N, m) of columns (N)."""
        ...

    def predict(self, q: Tensor, X_WL: Tensor | None) -> Tensor:
        """z (*batch, m) of q (*batch, nq) and links' poses X_WL (*batch, nl, 4, 4)."""
        ...

    def coordinates(self, values: Values) -> tuple[np.ndarray, np.ndarray] | None:
        """Where in q it tells the coordinates, and these (N, ·); None if it does not."""
        ...

    def speeds(self, values: Values) -> tuple[np.ndarray, np.ndarray] | None:
        """Where in q̇ it tells the velocities, and these (N, ·); None if it does not."""
        ...


class Angles:
    """Hinges and slides, each against the body before, or each against the world, where axes are parallel."""

    def __init__(self, scene: Scene, columns: Columns) -> None:
        self.columns = {j: c[0] for j, c in columns.angles.items() if len(c) == 1}
        self.rates = {j: columns.rates[j][0] for j in self.columns if j in columns.rates}
        self.links = [_joint(scene, j, (HINGE, SLIDE), "a column of its own angle") for j in self.columns]
        self.q_adr, self.v_adr = scene.q_adr[self.links].astype(int), scene.v_adr[self.links].astype(int)
        self.hinge = np.asarray(scene.joint_type)[self.links] == HINGE
        self.unit = np.where(self.hinge & columns.degrees, np.pi / 180, 1.0)
        zero = columns.zero
        self.zero = np.array([zero.get(j, 0.0) if isinstance(zero, Mapping) else zero for j in self.columns]) * self.unit
        self.zero = np.where(self.hinge | isinstance(zero, Mapping), self.zero, 0.0)
        self.mix = self._mix(scene) if columns.absolute else np.eye(len(self.links))
        self.parts = tuple((j, 2 if h else 1) for j, h in zip(self.columns, self.hinge, strict=True))
        self.apart = (False,) * len(self.parts)

    def _mix(self, scene: Scene) -> np.ndarray:
        """(J, J) measured = mix @ joint coordinates: a hinge's angle in the world is the sum of those before it."""
        mix = np.eye(len(self.links))
        for i, link in enumerate(self.links):
            above = int(scene.parent[link])
            while above > 0 and self.hinge[i]:
                if scene.joint_type[above] == HINGE:
                    if above not in self.links:
                        pair = f"'{scene.joint_names[link]}' needs that of '{scene.joint_names[above]}' before it"
                        raise SamrlError(f"the absolute angle of joint {pair}, which is not measured.")
                    mix[i, self.links.index(above)] = float(np.sign(scene.axis[link] @ scene.axis[above])) or 1.0
                above = int(scene.parent[above])
        return mix

    def target(self, values: Values) -> np.ndarray:
        y = np.stack([values[c] for c in self.columns.values()], 1) * self.unit
        return np.concatenate([self._head(y[:, i : i + 1], h) for i, h in enumerate(self.hinge)], 1)

    @staticmethod
    def _head(y: np.ndarray, hinge: bool) -> np.ndarray:
        return np.concatenate([np.cos(y), np.sin(y)], 1) if hinge else y

    def predict(self, q: Tensor, X_WL: Tensor | None) -> Tensor:
        y = q[..., self.q_adr] @ q.new_tensor(self.mix).T + q.new_tensor(self.zero)
        z = torch.stack([y.cos(), y.sin()], -1)
        parts = [z[..., i, :] if h else y[..., i : i + 1] for i, h in enumerate(self.hinge)]
        return torch.cat(parts, -1)

    def coordinates(self, values: Values) -> tuple[np.ndarray, np.ndarray]:
        y = np.stack([values[c] for c in self.columns.values()], 1) * self.unit - self.zero
        return self.q_adr, np.linalg.solve(self.mix, y.T).T

    def speeds(self, values: Values) -> tuple[np.ndarray, np.ndarray] | None:
        if len(self.rates) < len(self.columns):
            return None
        y = np.stack([values[self.rates[j]] for j in self.columns], 1) * self.unit
        return self.v_adr, np.linalg.solve(self.mix, y.T).T


class Ball:
    """The quaternion wxyz of a ball joint, of which where the link's centre of mass points is compared (Heiden et al., Eq. 1); a
    spin about that does not count."""

    def __init__(self, scene: Scene, params: Params, joint: str, columns: Columns) -> None:
        self.columns, self.rates = columns.angles[joint], columns.rates.get(joint)
        link = _joint(scene, joint, (BALL,), "four columns")
        self.q_adr, self.v_adr = int(scene.q_adr[link]), int(scene.v_adr[link])
        along = params.com[link].double().numpy()
        length = float(np.linalg.norm(along))
        self.along = along / length if length > 0 else np.array([0.0, 0.0, 1.0])
        self.parts: tuple[tuple[str, int], ...] = ((joint, 3),)
        self.apart: tuple[bool, ...] = (False,)

    def target(self, values: Values) -> np.ndarray:
        q = torch.from_numpy(np.stack([values[c] for c in self.columns], 1))
        return self._heading(q).numpy()

    def predict(self, q: Tensor, X_WL: Tensor | None) -> Tensor:
        return self._heading(q[..., self.q_adr : self.q_adr + 4])

    def _heading(self, quat: Tensor) -> Tensor:
        return lie.matrix_from_quat(quat) @ quat.new_tensor(self.along)

    def coordinates(self, values: Values) -> tuple[np.ndarray, np.ndarray]:
        return self.q_adr + np.arange(4), np.stack([values[c] for c in self.columns], 1)

    def speeds(self, values: Values) -> tuple[np.ndarray, np.ndarray] | None:
        if self.rates is None:
            return None
        return self.v_adr + np.arange(3), np.stack([values[c] for c in self.rates], 1)


class Pose:
    """Position and turn of a body in the world."""

    def __init__(self, scene: Scene, params: Params, body: str, columns: Columns) -> None:
        self.columns, self.rates = columns.poses[body], columns.velocities.get(body)
        self.link = scene.link(body)
        self.free = scene.joint_type[self.link] == FREE
        self.q_adr, self.v_adr = int(scene.q_adr[self.link]), int(scene.v_adr[self.link])
        mass = float(params.mass[self.link])
        trace = float(torch.diagonal(params.inertia[self.link]).sum())
        self.radius = (trace / 2 / mass) ** 0.5 if mass > 0 and trace > 0 else 0.1
        self.parts: tuple[tuple[str, int], ...] = ((f"{body} position", 3), (f"{body} turn", 9))
        self.apart: tuple[bool, ...] = (True, False)

    def target(self, values: Values) -> np.ndarray:
        x = torch.from_numpy(np.stack([values[c] for c in self.columns], 1))
        quat = x[:, 3:] / x[:, 3:].norm(dim=1, keepdim=True)
        return torch.cat([x[:, :3], self._turn(lie.matrix_from_quat(quat))], 1).numpy()

    def predict(self, q: Tensor, X_WL: Tensor | None) -> Tensor:
        if self.free:  # its coordinates say it
            x = q[..., self.q_adr : self.q_adr + 7]
            return torch.cat([x[..., :3], self._turn(lie.matrix_from_quat(x[..., 3:]))], -1)
        assert X_WL is not None
        X = X_WL[..., self.link, :, :]
        return torch.cat([X[..., :3, 3], self._turn(X[..., :3, :3])], -1)

    def _turn(self, R: Tensor) -> Tensor:
        """(*batch, 9): squares sum to the square of the surface's way for small turns (Σ|δR eᵢ|² = 2 δ²)."""
        return R.flatten(-2) * (self.radius / 2**0.5)

    def coordinates(self, values: Values) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.free:
            return None
        x = np.stack([values[c] for c in self.columns], 1)
        x[:, 3:] /= np.linalg.norm(x[:, 3:], axis=1, keepdims=True)
        return self.q_adr + np.arange(7), x

    def speeds(self, values: Values) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.free or self.rates is None:
            return None
        return self.v_adr + np.arange(6), np.stack([values[c] for c in self.rates], 1)


class Point:
    """A marker on a body, in space or in a plane."""

    def __init__(self, scene: Scene, name: str, marker: Marker) -> None:
        self.link, self.at, self.columns = scene.link(marker.body), np.array(marker.at), marker.columns
        self.axes = [AXES.index(a) for a in marker.axes]
        self.parts: tuple[tuple[str, int], ...] = ((name, len(self.axes)),)
        self.apart: tuple[bool, ...] = (True,)

    def target(self, values: Values) -> np.ndarray:
        return np.stack([values[c] for c in self.columns], 1)

    def predict(self, q: Tensor, X_WL: Tensor | None) -> Tensor:
        assert X_WL is not None
        X = X_WL[..., self.link, :, :]
        return (X[..., :3, :3] @ q.new_tensor(self.at) + X[..., :3, 3])[..., self.axes]

    def coordinates(self, values: Values) -> None:
        return None

    def speeds(self, values: Values) -> None:
        return None


def make_channels(scene: Scene, params: Params, columns: Columns) -> list[Channel]:
    """All that the columns speak of. Raises: UnknownNameError, SamrlError."""
    out: list[Channel] = []
    if any(len(c) == 1 for c in columns.angles.values()):
        out.append(Angles(scene, columns))
    out += [Ball(scene, params, joint, columns) for joint, c in columns.angles.items() if len(c) == 4]
    out += [Pose(scene, params, body, columns) for body in columns.poses]
    out += [Point(scene, name, marker) for name, marker in columns.markers.items()]
    return out


def needs_links(channels: Sequence[Channel]) -> bool:
    """Whether some channel predicts from links' poses."""
    return any(isinstance(c, Point) or (isinstance(c, Pose) and not c.free) for c in channels)


def _joint(scene: Scene, name: str, kinds: tuple[int, ...], takes: str) -> int:
    """The link of a joint of one of these kinds."""
    if name not in scene.joint_names or not name:
        raise UnknownNameError("joint", name, [j for j in scene.joint_names if j])
    link = scene.joint_names.index(name)
    if scene.joint_type[link] not in kinds:
        words = {HINGE: "a hinge", SLIDE: "a slide", BALL: "a ball joint", FREE: "a free joint"}
        raise SamrlError(
            f"joint '{name}' is {words[int(scene.joint_type[link])]}, which does not take {takes}; a hinge or slide takes "
            "one column, a ball joint four (wxyz), a floating body goes under 'poses'."
        )
    return link
