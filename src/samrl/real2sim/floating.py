"""Bodies that float move between looks. Contact decides how, and a millimetre of error or a little friction more decides contact:
so several guesses are made of where one is by now, of which the image takes its pick, and a look tells of its velocity too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from samrl.core import lie
from samrl.model.model import Model
from samrl.model.placement import body_pose, floats, set_body_pose
from samrl.model.scene import State, Twin
from samrl.model.units import Unit
from samrl.real2sim.locate import coarse
from samrl.real2sim.problem import Problem, put

CLOSE = 0.3  # loss of a guess that is near
TURN = 0.5  # loss that it takes to believe in half a turn that was not foreseen; shadows and exposure change colours, too
SIDE = 0.03  # as much less the loss is after half a turn where that is believed, when it is where images show it
SHARE = 1.0  # of a surprise that is put down to the velocity: looks err by less than a millimetre, and contact by far more


def floating(model: Model) -> tuple[str, ...]:
    """Names of the units that float."""
    return tuple(u.name for u in model.units if floats(model.scene, u.bodies[0]))


def guesses(model: Model, last: Twin, now: Twin, units: Sequence[Unit]) -> list[Twin]:
    """Twins in which floating units have moved, since the look that `last` was estimated from, as `now`, the twin's prediction,
    has it; or with the tool; or freely; or not at all. A velocity is what brings a body from the one to the other."""
    tool = lambda twin: model.chain.tool(model.arm(twin.state).q)  # noqa: E731
    with_tool = tool(now) @ lie.inverse(tool(last))
    period, still = model.gains.period, torch.zeros(6, dtype=model.dtype)
    others = [now] * 3
    for u in units:
        name, X = u.bodies[0], body_pose(model.scene, last, u.bodies[0])
        v = _world(X, last.state.qd[..., model.scene.coordinates(name)[1]])
        fall = torch.cat([last.params.gravity, still[3:]]) * period
        ways = (with_tool @ X, None), (lie.retract(X, (v + 0.5 * fall) * period), v + fall), (X, still)
        others = [_moved(model, twin, name, X, Y, v) for twin, (Y, v) in zip(others, ways, strict=True)]
    return [now, *others]


def likeliest(problem: Problem, each: Sequence[Twin], turn: float = TURN) -> tuple[Twin, bool]:
    """Of guesses the one that looks most like the images. Where none looks right, the Earth Mover Distance moves them all, also
    the other way up, for that tells the two sides of a thing apart no better than colours do; half a turn costs `turn`. The
    second: it looks right."""
    model, units = problem.model, problem.units
    X_WL = torch.stack([model.link_poses(twin) for twin in each])
    X = torch.cat([model.bodies_of(u, X_WL)[1] for u in units], 1)
    if not all(problem.seen):
        return each[0], False
    loss = appearance(problem, X).sum(-1)
    if float(loss.min()) < CLOSE:
        return each[int(loss.argmin())], True
    Y = torch.cat([X, coarse(problem, torch.cat([X, _over(X)]))])
    turned = lie.log_so3(Y[..., :3, :3] @ torch.cat([X, X, X])[..., :3, :3].mT).norm(dim=-1).amax(-1)
    loss = appearance(problem, Y).sum(-1)
    best = int((loss + turn * (turned / torch.pi) ** 2).argmin())
    return put(model, each[best % len(each)], units, Y[best]), float(loss[best]) < CLOSE


def sided(problem: Problem, twin: Twin) -> Twin:
    """The twin with a unit the other way up where that looks better, at one place: shape hardly tells the sides of a thing apart,
    and where it is a little off, as a guess is, nor do colours. It moves on as it did."""
    model = problem.model
    both = torch.stack([problem.X0, _over(problem.X0)])
    now, over = appearance(problem, both)
    turned = [u for u, gain, seen in zip(problem.units, now - over, problem.seen, strict=True) if seen and float(gain) > SIDE]
    for u in turned:
        name = u.bodies[0]
        X, at = body_pose(model.scene, twin, name), model.scene.coordinates(name)[1]
        v = _world(X, twin.state.qd[..., at])
        twin = _moved(model, twin, name, X, _over(X), v)
    return twin


def _over(X: Tensor) -> Tensor:
    """Poses (..., 4, 4), half a turn about their own x axes."""
    return lie.pose(X[..., :3, :3] @ torch.diag(X.new_tensor([1.0, -1.0, -1.0])), X[..., :3, 3])


def appearance(problem: Problem, X: Tensor) -> Tensor:
    """Losses (K, U) of poses X (K, N, 4, 4), in the colours of the looks before: they tell one side from the other."""
    with torch.no_grad():
        return problem.loss(X, problem.twin.params, problem.plans(X))


def stopped(model: Model, twin: Twin, last: Twin, unit: Unit) -> Twin:
    """The twin with a floating unit where `last` has it, still."""
    X = body_pose(model.scene, last, unit.bodies[0])
    return _moved(model, twin, unit.bodies[0], X, X, None)


def hastened(model: Model, before: Twin, after: Twin, units: Sequence[Unit]) -> Twin:
    """`after`, an estimate made of the prediction `before` by a look, with the velocities of floating units corrected as if they
    had been wrong for a control period: an alpha-beta filter (Kalata 1984), whose SHARE is beta."""
    qd = after.state.qd.clone()
    for u in units:
        X, Y = (body_pose(model.scene, t, u.bodies[0]) for t in (before, after))
        qd[..., model.scene.coordinates(u.bodies[0])[1]] += _own(Y, SHARE / model.gains.period * lie.local(X, Y))
    return after.replace(state=State(after.state.q, qd))


def _moved(model: Model, twin: Twin, name: str, X: Tensor, Y: Tensor, v: Tensor | None) -> Twin:
    """The twin with that body at Y (4, 4), and moving by v (6) in the world's axes, or as it does that comes from X (4, 4)."""
    v = lie.local(X, Y) / model.gains.period if v is None else v
    twin = set_body_pose(model.scene, twin, name, Y)
    qd = twin.state.qd.clone()
    qd[..., model.scene.coordinates(name)[1]] = _own(Y, v)
    return twin.replace(state=State(twin.state.q, qd))


def _own(X: Tensor, v: Tensor) -> Tensor:
    """Velocity (6) as coordinates have it, which turn about the body's own axes."""
    return torch.cat([v[..., :3], (X[..., :3, :3].mT @ v[..., 3:, None])[..., 0]], -1)


def _world(X: Tensor, v: Tensor) -> Tensor:
    """The inverse of `_own`."""
    return torch.cat([v[..., :3], (X[..., :3, :3] @ v[..., 3:, None])[..., 0]], -1)
