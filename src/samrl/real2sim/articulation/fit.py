"""From looks at a body at different openings to its joint: states and axis, and how sure they are."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from samrl.core import lie
from samrl.core.errors import SamrlError
from samrl.core.types import RGBD
from samrl.real2sim.articulation.joint import KINDS, Joint, joint_of, likely_joints
from samrl.real2sim.articulation.problem import PATCH, Looks, Model
from samrl.real2sim.articulation.search import ArticulationSettings, Found, find, free_numbers, opening_way

SIMPLER = 0.97  # a hinge must leave less than this share of what a slide leaves, for far away it moves like one


@dataclass(frozen=True)
class JointEstimate:
    """A joint as the looks have it.

    Attributes:
        body: that moves; kind: slide or hinge.
        state: (n) its coordinate at each opening [m or rad], 0 where the body is as in the rough model (its reference
            coordinate, where it has another); state_std: (n) standard deviations.
        axis_B, point_B: (3) the line in the body's frame at rest [m]; axis_W, point_W: in the world. Of a slide the point means
            nothing.
        angle_std [rad], place_std [m]: standard deviations of the line's direction and place, root of the sum over both ways
            across; 0 where the line was given, and the place of a slide.
        covariance: of states, of tilt about and shift along `Joint.across` of the line found, and of the furniture's place and
            turn, where these are looked for.
        X_WF: (4, 4) where the furniture stands: of the body that stands in the world and carries the one that moves.
        base_free: whether that was looked for.
        loss: mean size of what is left in the masked images, per pixel; losses: of each kind that was tried.
        message: a sentence; seconds.
    """

    body: str
    kind: str
    state: np.ndarray
    state_std: np.ndarray
    axis_B: np.ndarray
    point_B: np.ndarray
    axis_W: np.ndarray
    point_W: np.ndarray
    angle_std: float
    place_std: float
    covariance: np.ndarray
    X_WF: np.ndarray
    loss: float
    losses: dict[str, float] = field(default_factory=dict)
    message: str = ""
    seconds: float = 0.0
    base_free: bool = False


def fit_articulation(
    mjcf: str | Path, body: str, looks: Sequence[RGBD], *, kinds: Sequence[str] = (), opening: Sequence[int] | None = None,
    free_axis: bool = True, others: Mapping[str, float] | None = None, settings: ArticulationSettings | None = None,
) -> JointEstimate:  # fmt: skip
    """Estimate how far a body is open in each look, and the line that it moves along or about.

    Args:
        mjcf: the rough model, text or file (MJCF or URDF), in which the body is where it is when closed. Its hinge or slide is
            the first guess of the line; where it has none, lines are tried that furniture has: `joint.likely_joints`.
        body: the one that moves, with all that hangs on it.
        looks: whole images with the body's mask; each from wherever its camera says.
        kinds: slide, hinge or both; the rough joint's own where it has one, else both. What fits best counts.
        opening: (L) for looks that show one opening: 0, 0, 1, ...; else each look has its own.
        free_axis: whether the line is looked for, or only the states, one look being enough.
        others: coordinates of the scene's other joints [m or rad]; at their reference where not given.

    Raises: ImageError for looks that cannot be used; SamrlError in a sentence for whatever else does not go together.
    """
    began, s = time.perf_counter(), settings or ArticulationSettings()
    model = Model.of(mjcf, body, others)
    rough = joint_of(model.scene, model.params, body)
    kinds = tuple(kinds) or ((rough.kind,) if rough else KINDS)
    opening = _checked(looks, opening, kinds, rough, free_axis)
    levels = [Looks(looks, body, opening, size) for size in s.sizes]
    middle_B = lie.transform(lie.inverse(model.X_WL[model.links[0]].double()), levels[-1].middle(body)[None])[0]
    found: dict[str, Found] = {}
    for kind in kinds:
        own = rough is not None and rough.kind == kind
        joints = [rough] if own and rough else likely_joints(model.scene, model.params, body, kind)
        end = find(model, levels, [j.near(middle_B) for j in joints], own and free_axis, free_axis, s)
        found[kind] = end if own else opening_way(end)
    kind = min(found, key=lambda k: found[k].loss * (SIMPLER if k == "slide" else 1.0))
    losses = {k: f.loss for k, f in found.items()}
    zero = float(model.scene.q0[model.links[0]]) if rough and rough.kind == kind else 0.0
    return _estimate(model, found[kind], losses, zero, free_axis, time.perf_counter() - began)


def _checked(
    looks: Sequence[RGBD], opening: Sequence[int] | None, kinds: Sequence[str], rough: Joint | None, free_axis: bool
) -> list[int]:
    """The opening of each look."""
    if not looks:
        raise SamrlError("there are no looks; one does for the state of a known joint, two or more openings for the joint.")
    for kind in kinds:
        if kind not in KINDS:
            raise SamrlError(f"unknown kind of joint '{kind}': kinds are {', '.join(KINDS)}.")
    opening = list(range(len(looks))) if opening is None else list(opening)
    if len(opening) != len(looks) or sorted(set(opening)) != list(range(max(opening) + 1)):
        raise SamrlError(f"opening is {opening}; it takes a number for each of the {len(looks)} looks, 0, 1, ... without a gap.")
    if not free_axis and (rough is None or tuple(kinds) != (rough.kind,)):
        raise SamrlError("only the states are asked for, but the rough model gives the body no such joint.")
    return opening


def _estimate(
    model: Model, found: Found, losses: dict[str, float], zero: float, free_axis: bool, seconds: float
) -> JointEstimate:
    """What was found, in words and numbers; zero: the coordinate of the body at rest."""
    problem, joint, n = found.problem, found.problem.joint, found.problem.openings
    covariance = _covariance(found, free_numbers(problem, free_axis))
    std = np.sqrt(np.diag(covariance))
    angle, place = (math.hypot(*std[part]) for part in (slice(n, n + 2), slice(n + 2, problem.line.stop)))
    base = problem.base(torch.as_tensor(found.x)[None])[0]
    X_WB = base @ model.X_WL[model.links[0]].double()
    kind = joint.kind if len(losses) == 1 else f"{joint.kind} ({' against '.join(f'{k} {v:.3f}' for k, v in losses.items())})"
    unit, word = (1e3, "mm") if joint.kind == "slide" else (math.degrees(1), "degrees")
    message = f"'{model.body}' moves by a {kind}; states to {unit * std[:n].max():.2g} {word}"
    message += f", the axis to {math.degrees(angle):.2g} degrees" if free_axis else ""
    message += " (standard deviations, if the bodies have the model's shapes)."
    return JointEstimate(
        model.body, joint.kind, found.x[:n] + zero, std[:n], joint.axis.numpy(), joint.point.numpy(),
        (X_WB[:3, :3] @ joint.axis).numpy(), lie.transform(X_WB, joint.point[None])[0].numpy(), angle, place, covariance,
        (base @ model.X_WL[model.base[0]].double()).numpy(), found.loss, losses, message, seconds,
        len(problem.steps) > problem.line.stop,
    )  # fmt: skip


def _covariance(found: Found, free: np.ndarray) -> np.ndarray:
    """(n, n) of x, zero for what is not free: inverse of JᵀJ / residual variance (Gauss-Newton), where what is left covers
    patches rather than pixels, see PATCH; residuals weigh as in the descent."""
    problem = found.problem
    r, J = problem.vector(found.x), problem.jacobian(found.x, free)
    weight = 1 / np.sqrt(1 + (r / problem.scale) ** 2)
    told = J.any(1) | (r != 0)
    variance = float((weight * r**2).sum() / max(1, told.sum() - free.sum()))
    H = (J * weight[:, None]).T @ J
    out = np.zeros((len(free), len(free)))
    out[np.ix_(free, free)] = PATCH**2 * variance * np.linalg.inv(H + 1e-9 * np.diag(np.diag(H)) + 1e-12 * np.eye(len(H)))
    return out
