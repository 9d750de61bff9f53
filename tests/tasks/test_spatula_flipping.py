"""Spatula-Flipping as data and pure functions: draws, memory, success, cost, and what the policy is told."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from samrl.core import lie
from samrl.learn.expert import placed
from samrl.sim2real.control_loop import make_model
from samrl.tasks.spatula_flipping import AFTER, BEFORE, FALLEN, HALF, ON, PAN, RADIUS, UPON, SpatulaFlipping, about, blade_in_tool
from samrl.tasks.task import Told, Tried

TASK = SpatulaFlipping()
UP, DOWN = torch.eye(3).double(), about(0, torch.tensor(math.pi).double())


def measured(*where: tuple[torch.Tensor, float], blade: float = 0.3, aside: float = 0.0) -> list[dict]:
    """Measures of an episode whose pancake is at these rotations and heights above the pan's floor, one after the other."""
    seen, out = None, []
    for R, height in where:
        p = torch.tensor(PAN).double() + torch.tensor([0.0, 0.0, height]).double()
        over = lie.pose(torch.eye(3).double(), torch.tensor([PAN[0] - aside, PAN[1], PAN[2] + blade]).double())
        seen = TASK.measures({"pancake": lie.pose(R, p), "spatula": over}, seen)
        out.append(seen)
    return out


def won(*where: tuple[torch.Tensor, float]) -> bool:
    return bool(TASK.success(measured(*where)[-1]))


def test_it_counts_when_it_was_lifted_and_lies_upside_down_at_rest() -> None:
    flip = (UP, HALF), (UP, 0.05), (DOWN, 0.05), (DOWN, HALF)
    assert won(*flip, (DOWN, HALF))
    assert not won(*flip)  # it has just come down
    assert not won((UP, HALF), (UP, 0.02), (DOWN, HALF), (DOWN, HALF))  # never clear of the pan
    assert not won((UP, HALF), (DOWN, 0.07), (DOWN, HALF), (DOWN, HALF))  # clear of it only upside down
    assert not won(*flip, (UP, HALF), (UP, HALF))
    leaning = about(0, torch.tensor(math.pi - math.radians(35)).double())
    assert not won(*flip, (leaning, HALF), (leaning, HALF))
    assert not won((UP, HALF))  # what nobody has watched is not at rest


def test_what_falls_beside_the_pan_is_lost() -> None:
    (m,) = measured((UP, HALF))
    assert not bool(TASK.lost(m))
    beside = {**m, "away": torch.tensor(0.17)}
    assert bool(TASK.lost(beside)) and bool(TASK.lost({**m, "height": torch.tensor(0.5)}))


def test_the_cost_falls_from_stage_to_stage() -> None:
    """In the pan, on the blade, carried up, turned over, lying there; and turning it without lifting it costs."""
    on = lambda height: (UP, height)  # noqa: E731
    cost = lambda *where, blade: float(TASK.cost(measured(*where, blade=blade)[-1]))  # noqa: E731
    lies = cost(on(HALF), blade=0.06)
    carried = [cost(on(HALF), on(h), blade=h - ON) for h in (0.01, 0.05)]
    over = cost(on(HALF), on(0.05), (DOWN, 0.05), blade=0.3)
    down = cost(on(HALF), on(0.05), (DOWN, 0.05), (DOWN, HALF), blade=0.3)
    assert lies > carried[0] > carried[1] > over > down
    aside = [float(TASK.cost(measured(on(HALF), (R, HALF), aside=0.2)[-1])) for R in (UP, DOWN)]
    assert aside[1] > aside[0] + 0.5


def test_a_draw_is_of_its_seed_and_within_its_ranges() -> None:
    a, b = TASK.draw(5), TASK.draw(5)
    assert a.scene == b.scene and np.array_equal(a.q_start, b.q_start)
    for seed in range(20):
        body = TASK.draw(seed).rigid.body("pancake")
        assert np.hypot(body.p[0] - PAN[0], body.p[1] - PAN[1]) < 0.03 * math.sqrt(2) + 1e-9
        assert body.solids[0].size[1] == pytest.approx(HALF, rel=0.15 + 1e-6)
        frictions = {s.friction for name in ("pan", "spatula", "pancake") for s in TASK.draw(seed).scene.body(name).solids}
        assert len(frictions) == 1 and 0.2 <= frictions.pop() <= 0.6


def test_starts_for_learning_are_what_they_say() -> None:
    model = make_model(TASK)
    for kind in (BEFORE, UPON, AFTER, FALLEN):
        truth, remembered = TASK.staged(kind, 64, torch.Generator().manual_seed(0))
        twin, _ = placed(model, truth)
        m = TASK.measures(model.poses(twin))
        across = m["offset"][:, :2].norm(dim=-1)
        if kind == BEFORE:
            assert float(across.min()) > 0.03 and bool((m["up"] > 0.999).all()) and not bool(remembered["lifted"].any())
            assert float(m["clearance"].max()) < 1e-3
        elif kind == AFTER:
            assert bool(remembered["lifted"].all()) and float(m["up"].max()) < -0.9 and float(m["clearance"].min()) > -1e-3
        elif kind == FALLEN:
            assert float(m["up"].min()) > 0.9 and float(m["clearance"].min()) > -1e-3 and float(m["away"].max()) > 0.13
            assert 0.2 < float(remembered["lifted"].double().mean()) < 0.8
        else:
            assert float(m["offset"][:, 2].abs().max()) < 1e-3 and float(m["align"].min()) > 0.999  # it lies on the blade as held
            assert 0.2 < float(remembered["lifted"].double().mean()) < 0.9
    assert isinstance(TASK, Tried)


def test_features_are_of_what_is_seen_and_their_axes_of_the_blade_as_it_is_held() -> None:
    X_WE = lie.pose(about(2, torch.tensor([0.3])), torch.tensor([[0.4, 0.1, 0.3]]))
    X_WB = X_WE @ blade_in_tool().float()
    slipped = about(0, torch.tensor([0.03])) @ X_WB[:, :3, :3]
    marks = torch.stack([X_WB[:, :3, 3], X_WB[:, :3, 3] + ON * slipped[..., 2], slipped[..., 2], slipped[..., 2]], 1)
    told = Told(marks, X_WE, torch.zeros(1, 6), torch.zeros(1, 7), torch.zeros(1, 6))
    R = TASK.axes(told)
    assert torch.allclose(R[..., 2], slipped[..., 2], atol=1e-6) and torch.allclose(R.mT @ R, torch.eye(3), atol=1e-6)
    f = TASK.features(told)
    assert f.shape == (1, 57)
    elsewhere = Told(marks + torch.tensor([0.01, 0, 0]) * torch.tensor([0.0, 1, 0, 0])[:, None], *told_rest(told))
    assert float((TASK.features(elsewhere) - f).abs().max()) > 0.1


def told_rest(told: Told) -> tuple[torch.Tensor, ...]:
    return told.X_WE, told.lead, told.q, told.motion


def test_the_twin_holds_the_pancake_and_its_gradients_are_finite() -> None:
    """The pancake on the blade, lifted for three control steps."""
    model = make_model(TASK)
    truth, _ = TASK.staged(UPON, 8, torch.Generator().manual_seed(1))
    twin, command = placed(model, truth)
    actions = torch.zeros(8, 6, requires_grad=True)
    m = TASK.measures(model.poses(twin))
    for _ in range(3):
        twin, command = model.step(twin, command, actions + torch.tensor([0, 0, 0.01, 0, 0, 0]))
        m = TASK.measures(model.poses(twin), m)
    TASK.cost(m).sum().backward()
    assert bool(torch.isfinite(actions.grad).all()) and float(actions.grad.abs().max()) > 1e-2
    near = m["offset"].detach().norm(dim=-1)
    assert float(near.median()) < 0.04 and RADIUS > 0
