"""The mixture against a reference posterior, made of particles, and where two numbers cannot be told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samrl.model.scene import compile_mjcf
from samrl.real2sim.identify import evidence, mixture
from samrl.real2sim.identify.channels import make_channels
from samrl.real2sim.identify.columns import make_columns
from samrl.real2sim.identify.free import Free
from samrl.real2sim.identify.problem import Problem
from samrl.real2sim.identify.windows import Windows

EXAMPLES = Path(__file__).parents[2] / "examples" / "identify"


def simulated(name: str, words: list[str], count: int, noise: float, off: float) -> tuple[Problem, Tensor]:
    """Windows of a simulated chain of hinges whose free numbers are up to `off` from the scene's, and these as x."""
    scene, params, _ = compile_mjcf(EXAMPLES / f"{name}.xml", torch.float64)
    free, generator = Free(scene, params, words), torch.Generator().manual_seed(3)
    columns = make_columns({"time": 0.04, "angles": {n: n for n in scene.joint_names if n}}, "test")
    q, qd, error = torch.randn(3, count, 11, 2 * scene.nv, generator=generator, dtype=torch.float64)
    q, qd = q[:, 0, : scene.nq], 2 * qd[:, 0, : scene.nv]
    windows = Windows(q, qd, torch.zeros_like(error), 0.04, np.arange(count), ("",) * count, np.zeros(count), True)
    problem = Problem(free, make_channels(scene, params, columns), windows, substep=4e-3)
    truth = free.off(off, 0)
    with torch.no_grad():
        exact = problem.residuals(truth, torch.zeros(count, 2 * scene.nv, dtype=torch.float64))
    return problem.on(replace(windows, target=exact + noise * error)), truth


def particles(problem: Problem, noise: float, count: int = 1000) -> tuple[Tensor, Tensor]:
    """Draws x (count, P) around the best of a coarse search and their weights, by importance sampling with Student's t of four
    degrees of freedom, 1.4 times as wide as the curvature says (Geweke 1989)."""
    free, generator = problem.free, torch.Generator().manual_seed(0)
    belief = free.deviations(0.5)

    def log_posterior(x: Tensor) -> Tensor:
        with torch.no_grad():
            squares = problem.residuals(x).square().sum((-3, -2, -1))
        return -0.5 * squares / noise**2 - 0.5 * ((x - free.start) / belief).square().sum(-1)

    centre, width = free.start, belief
    for _ in range(6):  # a cloud that draws together
        cloud = centre + width * torch.randn(150, len(free), generator=generator, dtype=torch.float64)
        best = cloud[log_posterior(cloud).topk(20).indices]
        centre, width = best.mean(0), 1.5 * best.std(0)
    J = problem.sensitivities(centre)[1].flatten(0, 2)
    L = 1.4 * torch.linalg.cholesky(torch.linalg.inv(J.mT @ J / noise**2 + torch.diag(belief**-2)))
    z = torch.randn(count, len(free), generator=generator, dtype=torch.float64)
    chi = torch.distributions.Chi2(torch.tensor(4.0, dtype=torch.float64))
    torch.manual_seed(0)
    z = z / (chi.sample((count, 1)) / 4).sqrt()
    x = centre + z @ L.mT
    log_q = -(4 + len(free)) / 2 * torch.log1p(z.square().sum(-1) / 4)
    return x, (log_posterior(x) - log_q).softmax(0)


def test_the_mixture_is_the_posterior_of_particles() -> None:
    problem, _ = simulated("double_pendulum", ["com-distances:arm2", "inertias:arm2", "damping:elbow"], 3, 0.02, 0.3)
    learned = mixture.learn(problem, problem.free.start, mixture.Settings(epochs=60, adjust=False))
    x, weight = particles(problem, learned.noise)
    assert float(1 / weight.square().sum()) > 300  # as many independent draws as these are worth
    mean = weight @ x
    covariance = torch.einsum("n,ni,nj->ij", weight, x - mean, x - mean)
    deviation = covariance.diagonal().sqrt()
    assert bool(((learned.mixture.mean() - mean).abs() < 0.2 * deviation).all())
    whitened = torch.linalg.solve(torch.linalg.cholesky(covariance), torch.linalg.cholesky(learned.mixture.covariance()))
    assert bool((torch.linalg.svdvals(whitened) - 1).abs().max() < 0.15)
    inside = learned.mixture.holds(x, 0.9, torch.Generator().manual_seed(0)).double()
    assert 0.87 < float(weight @ inside) < 0.93


def test_the_longest_axis_is_what_motion_does_not_tell() -> None:
    """How far a free wheel is out and where the rod's centre of mass is: one frequency tells both."""
    problem, _ = simulated("rod_and_wheel", ["link-lengths", "com-distances"], 4, 2e-3, 0.2)
    learned = mixture.learn(problem, problem.free.start, mixture.Settings(epochs=30, search=10))
    J = problem.sensitivities(learned.mixture.mean())[1].flatten(0, 2)
    least = torch.linalg.eigh(J.mT @ J)[1][:, 0]
    values, vectors = torch.linalg.eigh(learned.mixture.covariance())
    assert float((least @ vectors[:, -1]).abs()) > np.cos(np.radians(10)) and float(values[-1] / values[-2]) > 100
    words = evidence.describe(problem.free, evidence.null_directions(J.mT @ J / 4e-6, problem.free.deviations(0.5) ** -2))
    assert len(words) == 1 and "link-lengths:wheel" in words[0] and "com-distances:rod" in words[0]
