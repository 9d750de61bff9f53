"""Where bodies are in their parents: of one that floats its coordinates in the state say so, of all others their parameters."""

from __future__ import annotations

import torch
from torch import Tensor

from samrl.core import lie
from samrl.model.scene import FREE, Scene, State, Twin
from samrl.model.units import Unit


def floats(scene: Scene, name: str) -> bool:
    """Whether the body has no joint at all, and moves by itself."""
    return bool(scene.joint_type[scene.link(name)] == FREE)


def body_pose(scene: Scene, twin: Twin, name: str) -> Tensor:
    """X_PB (*batch, 4, 4): the body's pose in its parent, its joint at zero; in the world if it floats."""
    return link_pose(scene, twin, scene.link(name))


def set_body_pose(scene: Scene, twin: Twin, name: str, X_PB: Tensor) -> Twin:
    """The twin with that pose replaced by X_PB (*batch, 4, 4); velocities stay."""
    return set_link_pose(scene, twin, scene.link(name), X_PB)


def unit_poses(scene: Scene, twin: Twin, unit: Unit) -> Tensor:
    """X_PB (*batch, m, 4, 4) of a unit's bodies, see `body_pose`."""
    return torch.stack([body_pose(scene, twin, b) for b in unit.bodies], -3)


def set_unit_poses(scene: Scene, twin: Twin, unit: Unit, X_PB: Tensor) -> Twin:
    """The twin with a unit's bodies at X_PB (*batch, m, 4, 4) in their parents."""
    for body, X in zip(unit.bodies, X_PB.unbind(-3), strict=True):
        twin = set_body_pose(scene, twin, body, X)
    return twin


def link_pose(scene: Scene, twin: Twin, i: int) -> Tensor:
    """(*batch, 4, 4) of link i, see `body_pose`."""
    if scene.joint_type[i] == FREE:
        at = int(scene.q_adr[i])
        q = twin.state.q[..., at : at + 7]
        return lie.pose(lie.matrix_from_quat(q[..., 3:]), q[..., :3])
    return lie.pose(twin.params.link_R[..., i, :, :], twin.params.link_p[..., i, :])


def set_link_pose(scene: Scene, twin: Twin, i: int, X: Tensor) -> Twin:
    """The twin with that pose set to X (*batch, 4, 4)."""
    R, p = X[..., :3, :3], X[..., :3, 3]
    if scene.joint_type[i] == FREE:
        q = put(twin.state.q, -1, int(scene.q_adr[i]), torch.cat([p, lie.quat_from_matrix(R)], -1))
        return twin.replace(state=State(q, twin.state.qd))
    link_p = put(twin.params.link_p, -2, i, p[..., None, :])
    link_R = put(twin.params.link_R, -3, i, R[..., None, :, :])
    return twin.replace(params=twin.params.replace(link_p=link_p, link_R=link_R))


def put(leaf: Tensor, axis: int, first: int, values: Tensor) -> Tensor:
    """`leaf` with the elements from `first` on along `axis` (from the end) replaced; batches are broadcast."""
    batch = torch.broadcast_shapes(leaf.shape[:axis], values.shape[:axis])
    leaf = leaf.expand(*batch, *leaf.shape[axis:])
    values = values.expand(*batch, *values.shape[axis:])
    last = first + values.shape[axis]
    return torch.cat([leaf.narrow(axis, 0, first), values, leaf.narrow(axis, last, leaf.shape[axis] - last)], axis)
