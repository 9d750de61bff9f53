"""Physics gradients as a table, scene by scene and leaf by leaf, against swept finite differences in float64.

`pytest tests/gradients` takes a few entries of each leaf and leaves the threads out; `-m whole` takes more, and them too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from differences import cell, gradients
from scenes import CASES, TREE, Case, mjcf
from torch import Tensor

from samrl.model.gradcheck import check
from samrl.model.physics import Physics
from samrl.model.scene import Params, State, compile_mjcf

TIMED = ("setpoints", "torques")  # inputs whose first axis is time
THREADS = tuple(name for name in CASES if name.startswith("thread"))


def problem(case: Case, device: str, dtype: torch.dtype = torch.float64) -> tuple[Callable[..., Tensor], dict[str, Tensor]]:
    """A random linear function of a rollout, inputs -> (E), and the inputs."""
    scene, params, _ = compile_mjcf(case.xml, dtype)
    params, physics, generator = params.to(device), Physics(scene, device=device), torch.Generator().manual_seed(0)
    shapes = [(case.periods, 1, n) for n in (scene.nq, scene.nv)]
    w, wd = (torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype) for s in shapes)

    def loss(q: Tensor, qd: Tensor, setpoints: Tensor, torques: Tensor, **given: Tensor) -> Tensor:
        state = State(*(x if x.dim() > 1 else x[None] for x in (q, qd)))
        driven = (x if x.dim() > 2 else x[:, None] for x in (setpoints, torques))
        end = physics.rollout(Params.replace(params, **given), state, *driven, case.substeps)
        return ((end.q * w).sum(-1) + 0.1 * (end.qd * wd).sum(-1)).sum(0)

    ramp = (torch.arange(1, case.periods + 1, dtype=dtype) / (case.periods // 2)).clamp(max=1.0)
    setpoints = torch.zeros(case.periods, scene.nv, dtype=dtype)
    for i, value in case.setpoints.items():
        setpoints[:, i] = value * ramp
    q = torch.tensor(case.q or scene.q_ref.tolist(), dtype=dtype)
    qd = torch.tensor(case.qd or [0.0] * scene.nv, dtype=dtype)
    inputs = {"q": q, "qd": qd, "setpoints": setpoints, "torques": torch.zeros_like(setpoints)}
    inputs = {name: x.to(device) for name, x in inputs.items()}
    return loss, inputs | {name: getattr(params, name) for name in case.leaves if getattr(params, name).numel()}


def compare(name: str, entries: int, device: str) -> None:
    case = CASES[name]
    loss, inputs = problem(case, device)
    got = gradients(loss, inputs)
    rows = [cell(loss, inputs, n, got[n], int(n in TIMED), entries) for n in inputs]
    assert max(r.error for r in rows) < case.bound, "\n".join([name, *map(str, rows)])
    felt = {"q", "torques", "inertia", "mass"} - ({"mass"} if name == "tumbling body" else set())  # which falls freely
    assert all(r.scale > 1e-6 for r in rows if r.name in felt), "\n".join([name, *map(str, rows)])


@pytest.mark.parametrize("name", [n for n in CASES if n not in THREADS])
def test_gradient_equals_finite_difference(name: str, device: str) -> None:
    compare(name, 2, device)


@pytest.mark.parametrize("name", CASES)
def test_gradient_in_float32_is_that_in_float64(name: str, device: str) -> None:
    """Within a thousandth of the greatest entry of each leaf, at inputs that float32 can write down."""
    loss, inputs = problem(CASES[name], device, torch.float32)
    single = gradients(loss, inputs)
    double = gradients(problem(CASES[name], device)[0], {n: x.double() for n, x in inputs.items()})
    off = {n: float((single[n].double() - g).abs().max() / g.abs().max().clamp_min(1e-9)) for n, g in double.items()}
    assert max(off.values()) < 1e-3, {n: x for n, x in off.items() if x >= 1e-3}


@pytest.mark.whole
@pytest.mark.parametrize("name", CASES)
def test_gradient_equals_finite_difference_in_more_entries(name: str, device: str) -> None:
    compare(name, 12, device)


def test_link_poses() -> None:
    scene, params, _ = compile_mjcf(mjcf(TREE, contact=False), torch.float64)
    physics, weight = Physics(scene), torch.randn(len(scene.link_names), 4, 4, dtype=torch.float64)

    def loss(q, **given) -> torch.Tensor:
        return (physics.link_poses(params.replace(**given), q) * weight).sum()

    inputs = {"q": torch.tensor(CASES["floating tree"].q, dtype=torch.float64)}
    inputs |= {name: getattr(params, name) for name in ("link_p", "link_R", "joint_p")}
    result = check(loss, inputs)
    assert result.worst < 1e-6, str(result)


def test_sweep_finds_a_wrong_gradient() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2.01

    result = check(lambda x: Wrong.apply(x).sum(), {"x": torch.ones(3, dtype=torch.float64)})
    assert result.worst == pytest.approx(0.01 / 2.01, rel=1e-3)
