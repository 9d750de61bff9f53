"""What motion between two looks tells of the twin's physics: the mass in the hand, and friction.

A control step starts where the arm was measured and is predicted by the twin under the action that was applied; what it misses of
the joint positions that are measured a period later is explained by parameters ψ. The controller goes on to compensate the weight
that it was told (`Model.step`), so a wrong mass sags the arm, and friction shows while the load slides. The rest of what is free
(rotors, dampers, inertias and masses of links, where bodies stand) is what else may be wrong and would be taken for these two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from samrl.core.errors import SamrlError
from samrl.core.types import Observation
from samrl.model.model import Command, Model
from samrl.model.physics import Physics
from samrl.model.scene import Params, State, Twin
from samrl.model.selection import Entry, LogOf, PoseOf, ScaleOf, Selection
from samrl.model.weight import Weight
from samrl.real2sim import robust
from samrl.real2sim.identify.free import KINDS, named

SHARE = 0.9  # of an interval
_SLIP = 2e-4  # below this speed friction is viscous while it is fitted [m/s]: the twin's own creeps where a body sticks
_TRAVEL = 2e-3  # a load that touches and goes less far in a step hardly slides, and micro-slip is not in the twin [m]
_FELT = 1e-7  # a load touches where friction times e would change joint positions by more than this [rad]
_MISFIT = {"friction": 0.1}  # how far one contact model's is from another's, log: `benchmarks/payload.py` on development seeds
_OF_ALL = {"friction": "friction", "contact-stiffness": "contact_stiffness"}


@dataclass(frozen=True)
class Steps:
    """W control steps: what was measured and commanded before each, the action that was applied, and what was measured after.

    Attributes:
        q, qd, q_ref: (W, n); X_WE: (W, 4, 4) last commanded pose; action: (W, 6); after: (W, n) joint positions.
    """

    q: Tensor
    qd: Tensor
    q_ref: Tensor
    X_WE: Tensor
    action: Tensor
    after: Tensor

    def __len__(self) -> int:
        return len(self.q)

    def of(self, index: Tensor | Sequence[int]) -> Steps:
        """Some of them."""
        return Steps(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


class Record:
    """Control steps as they come."""

    def __init__(self) -> None:
        self.rows: list[tuple[np.ndarray, ...]] = []

    def add(self, before: Observation, action: np.ndarray, after: Observation) -> None:
        arm = before.arm
        self.rows.append((arm.q, arm.qd, arm.q_ref, arm.X_WE_command, action, after.arm.q))

    def steps(self) -> Steps:
        return Steps(*(torch.as_tensor(np.stack(column), dtype=torch.float64) for column in zip(*self.rows, strict=True)))


@dataclass(frozen=True)
class Found:
    """Attributes:
    params: ψ with what was found in it, in the twin's number type; poses of `poses` among it, as touch tells them.
    factors: word -> (estimate, low, high) as factors on what was believed; low to high hold it with probability SHARE.
    told: word -> share of what is known of it that the motion told, from 0 (what was believed is all) to 1.
    mean, covariance: (P), (P, P) of the logarithms of these factors, in the words' order: a Gaussian to draw from.
    """

    params: Params
    factors: dict[str, tuple[float, float, float]]
    told: dict[str, float]
    mean: Tensor
    covariance: Tensor


class BetweenLooks:
    """Fits ψ to control steps.

    Args:
        words: KIND or KIND:NAME of `samrl identify` -> standard deviation of its logarithm, before any motion; "friction" and
            "contact-stiffness" alone are one factor on all of it.
        asked: those of the words to which an interval is given, each of one number.
        poses: body -> standard deviations of where the twin has it, from the looks ([m], [rad]).

    Raises: SamrlError for no words, a word that does not stand for logarithms of single numbers, or an interval that is asked for
    of what is not among the words or is several numbers; UnknownNameError.
    """

    def __init__(
        self, model: Model, words: Mapping[str, float], asked: Sequence[str],
        poses: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:  # fmt: skip
        self.model, self.precise, self.asked = model, _precise(model), tuple(asked)
        entries: list[Entry] = []
        deviations: list[float] = []
        self.place: dict[str, int] = {}
        if not words:
            raise SamrlError("motion between looks has nothing to fit: the task's physics() names nothing.")
        for word, deviation in words.items():
            found = _entries(self.precise, word)
            if not all(isinstance(e, LogOf | ScaleOf) for e in found):
                raise SamrlError(
                    f"'{word}' is no positive number, and between looks only such are fitted; masses or friction would do."
                )
            if word in self.asked and len(found) != 1:
                raise SamrlError(
                    f"'{word}' is {len(found)} numbers, and an interval is given of one; name one, as in masses:peg."
                )
            self.place.setdefault(word, len(deviations))
            entries += found
            deviations += [deviation] * len(found)
        if lacking := [w for w in self.asked if w not in words]:
            raise SamrlError(
                f"an interval of '{lacking[0]}' is asked for, which is not among what is fitted: {', '.join(words)}."
            )
        for body, (far, turned) in (poses or {}).items():
            entries.append(PoseOf(body))
            deviations += [far] * 3 + [turned] * 3
        self.selection = Selection(entries, model.scene)
        self.belief = torch.tensor(deviations, dtype=torch.float64)

    def fit(self, params: Params, steps: Steps, passes: int = 12) -> Found:
        """ψ near `params` that explains the steps best, by Levenberg-Marquardt on the posterior with Student's t residuals."""
        base = params.to(torch.float64)
        start = self.selection.pack(self._twin(base, steps))
        x, damping = start.clone(), 1e-3
        r, J = self._derivatives(base, x, steps)
        at = self.place.get("friction")
        touching = torch.zeros(len(steps), dtype=torch.bool) if at is None else J[..., at].norm(dim=1) > _FELT
        kept = ~touching | (self._travel(steps) > _TRAVEL)
        steps, r, J, touching = steps.of(kept), r[kept], J[kept], touching[kept]
        weight = torch.ones(len(steps), dtype=torch.float64)
        for _ in range(passes):
            scale = robust.scale(r, weight, touching)
            weight = robust.weight(r / scale)
            root = weight.sqrt()[:, None] / scale
            step, damping, accepted = self._step(base, x, start, steps, r, J, root, damping)
            x = x + step
            if not accepted:
                break
            r, J = self._derivatives(base, x, steps)
            if float((step / self.belief).abs().max()) < 1e-3:
                break
        scale = robust.scale(r, weight, touching)
        root = weight.sqrt()[:, None] / scale
        return self._found(params, base, x, start, root[..., None] * J, root * r)

    def refit(self, twin: Twin, steps: Steps) -> tuple[Twin, Found]:
        """The twin with ψ from all steps so far, found anew from what the model believed; poses and paint stay the twin's."""
        nominal, now = self.model.params, twin.params
        found = self.fit(nominal.replace(link_p=now.link_p, link_R=now.link_R), steps)
        leaves = {e.leaf for e in self.selection.entries if isinstance(e, LogOf | ScaleOf)}
        return twin.replace(params=now.replace(**{leaf: getattr(found.params, leaf) for leaf in leaves})), found

    def _step(
        self, base: Params, x: Tensor, start: Tensor, steps: Steps, r: Tensor, J: Tensor, root: Tensor, damping: float
    ) -> tuple[Tensor, float, bool]:
        """One step that makes the posterior better, the damping after it, and whether there was one."""
        prior = self.belief**-2
        A, b = robust.normal(root[..., None] * J, root * r)
        A, b = A + torch.diag(prior), b + prior * (x - start)
        cost = (root * r).square().sum() + (prior * (x - start).square()).sum()
        for _ in range(6):
            step = -torch.linalg.solve(A + damping * torch.diag(A.diagonal()), b)
            new = (root * self._residuals(base, x + step, steps)).square().sum() + (prior * (x + step - start).square()).sum()
            if bool(new < cost):
                return step, max(damping / 10, 1e-8), True
            damping *= 10
        return torch.zeros_like(x), damping, False

    def _found(self, params: Params, base: Params, x: Tensor, start: Tensor, J: Tensor, r: Tensor) -> Found:
        """Where x (P) ended, with whitened J (W, n, P) and r (W, n): each asked number's information is cut to what clusters of
        steps agree on (`robust.jackknife`), and its estimate goes back towards what was believed by as much."""
        prior, index = self.belief**-2, [self.place[w] for w in self.asked]
        A, _ = robust.normal(J, r)
        spread = torch.linalg.inv(A + torch.diag(prior))
        moved, dof = robust.jackknife(J, r, A + torch.diag(prior), index)
        factors, told, x = {}, {}, x.clone()
        variances = []
        for n, (word, i) in enumerate(zip(self.asked, index, strict=True)):
            information = max(float(1 / spread[i, i] - prior[i]), 1e-12)
            pull = information / (information + float(prior[i]))  # share of the estimate that is data's
            reach = float(student.ppf((1 + SHARE) / 2, float(dof[n]))) / _NORMAL
            misfit = _MISFIT.get(word, 0.0) ** 2
            agreed = 1 / (max(1 / information, float(moved[n]) * reach**2 / pull**2) + misfit)
            told[word] = agreed / (agreed + float(prior[i]))
            away = float(x[i] - start[i]) / pull * told[word]
            deviation = (agreed + float(prior[i])) ** -0.5
            x[i] = start[i] + away
            variances.append(deviation**2)
            middle, low, high = (float(np.exp(away + s * _NORMAL * deviation)) for s in (0, -1, 1))
            factors[word] = middle, low, high
        twin = self.selection.unpack(Twin(base, State(base.mass.new_zeros(0), base.mass.new_zeros(0))), x)
        fitted = twin.params.to(params.mass.dtype)
        mean = torch.stack([x[i] - start[i] for i in index])
        return Found(fitted, factors, told, mean, torch.diag(torch.tensor(variances, dtype=torch.float64)))

    def _travel(self, steps: Steps) -> Tensor:
        """(W) how far the tool went [m]."""
        before, after = (self.precise.chain.tool(q)[:, :3, 3] for q in (steps.q, steps.after))
        return (after - before).norm(dim=1)

    def _twin(self, params: Params, steps: Steps) -> Twin:
        return Twin(params, State(steps.q[0], steps.qd[0]))

    def _residuals(self, base: Params, x: Tensor, steps: Steps) -> Tensor:
        """(W, n) predicted less measured joint positions, with x (P) or an x of each step's own (W, P)."""
        state = self.precise.state(steps.q, steps.qd)
        twin = self.selection.unpack(Twin(base, state), x.expand(len(steps), -1)).replace(state=state)
        end, _ = self.precise.step(twin, Command(steps.q_ref, steps.X_WE), steps.action)
        return self.precise.arm(end.state).q - steps.after

    def _derivatives(self, base: Params, x: Tensor, steps: Steps) -> tuple[Tensor, Tensor]:
        """Residuals (W, n) and their derivatives (W, n, P)."""
        xs = x.detach().expand(len(steps), -1).clone().requires_grad_()
        r = self._residuals(base, xs, steps)
        rows = [torch.autograd.grad(r[:, j].sum(), xs, retain_graph=True)[0] for j in range(r.shape[1])]
        return r.detach(), torch.stack(rows, 1)


_NORMAL = float(student.ppf((1 + SHARE) / 2, 1e6))


def missed(model: Model, params: Params, steps: Steps) -> Tensor:
    """(W, n) how far the twin's prediction of each control step is off [rad]."""
    to = lambda x: x.to(model.dtype)  # noqa: E731
    twin = Twin(params, model.state(steps.q, steps.qd))
    with torch.no_grad():
        end, _ = model.step(twin, Command(to(steps.q_ref), to(steps.X_WE)), to(steps.action))
    return model.arm(end.state).q.double() - steps.after


def _precise(model: Model) -> Model:
    """The same model in float64, with friction that sticks."""
    out = copy(model)
    out.dtype, out.params, out.chain = torch.float64, model.params.to(torch.float64), model.chain.to(torch.float64)
    out.physics = Physics(model.scene, timestep=model.physics.timestep, slip_speed=_SLIP, threads=1)
    out.weight = Weight(out.physics, model.scene, len(model.gains.stiffness))
    return out


def _entries(model: Model, word: str) -> list[Entry]:
    """What of ψ a word frees: of a kind alone all that have it, each by itself, but of contact one factor on all."""
    if word in _OF_ALL:
        return [ScaleOf(_OF_ALL[word])]
    return [KINDS[kind].entry(name) for kind, name in named(model.scene, model.params, [word])]
