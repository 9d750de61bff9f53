"""How often a mixture's 90 % region holds the truth: random three-link pendulums, simulated.

    python benchmarks/identify_coverage.py --count 400 --seed 10000
    python benchmarks/identify_coverage.py --scene examples/identify/rod_and_wheel.xml --fit link-lengths com-distances

Each system is the scene (examples/identify/triple_pendulum.xml where none is given) with what is free (--fit) drawn from what is
believed of it (normal, half the deviation of `--share .5`); eight windows of ten samples, .4 s, from random states, with noise
of 2 mrad on headings. Windows come one group after the other over half of the epochs (online). Prints each system's line, then
the share whose region holds the truth with its 95 % interval (Wilson), how far means are off, and with com-distances free as well
how the mixture's longest axis lies to the direction that the Fisher information tells least. All of it is simulated; truth and
model are the same engine at the same steps."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samrl.model.scene import compile_mjcf
from samrl.real2sim.identify import mixture
from samrl.real2sim.identify.channels import make_channels
from samrl.real2sim.identify.columns import make_columns
from samrl.real2sim.identify.free import Free
from samrl.real2sim.identify.problem import Problem
from samrl.real2sim.identify.windows import Windows

SCENE = Path(__file__).parents[1] / "examples" / "identify" / "triple_pendulum.xml"


def system(seed: int, words: list[str], file: Path = SCENE, count: int = 8, noise: float = 2e-3) -> tuple[Problem, Tensor]:
    """A problem and its truth (P)."""
    scene, params, _ = compile_mjcf(file, torch.float64)
    free, generator = Free(scene, params, words), torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    truth = free.start + 0.5 * free.deviations(0.5) * draw(len(free))
    q, qd = draw(count, scene.nq), 2 * draw(count, scene.nv)
    blank = torch.zeros(count, 11, 2 * scene.nq, dtype=torch.float64)
    columns = make_columns({"time": 0.04, "angles": {name: name for name in scene.joint_names if name}}, "the script")
    windows = Windows(q, qd, blank, 0.04, np.arange(count), ("simulated",) * count, np.zeros(count), True)
    problem = Problem(free, make_channels(scene, params, columns), windows, substep=2e-3)
    with torch.no_grad():
        z = problem.residuals(truth, torch.zeros(count, 2 * scene.nv, dtype=torch.float64))
    return problem.on(replace(windows, target=z + noise * draw(*z.shape))), truth


def axis(problem: Problem, learned: mixture.Learned) -> tuple[float, float]:
    """Degrees between the longest axis of the mixture and the direction that motion tells least, and how many times longer than
    the next it is."""
    J = problem.sensitivities(learned.mixture.mean())[1].flatten(0, 2)
    least = torch.linalg.eigh(J.mT @ J)[1][:, 0]
    values, vectors = torch.linalg.eigh(learned.mixture.covariance())
    cosine = float((least @ vectors[:, -1]).abs().clamp(max=1))
    return float(np.degrees(np.arccos(cosine))), float((values[-1] / values[-2]).sqrt())


def wilson(hits: int, count: int) -> tuple[float, float]:
    z, p = 1.96, hits / count
    middle, half = p + z * z / (2 * count), z * np.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", type=Path, default=SCENE, help="of hinges in a row")
    parser.add_argument("--fit", nargs="+", default=["link-lengths"])
    parser.add_argument("--kernels", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--online", type=float, default=0.5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    held, off = [], []
    for seed in range(given.seed, given.seed + given.count):
        problem, truth = system(seed, given.fit, given.scene)
        settings = mixture.Settings(kernels=given.kernels, epochs=given.epochs, online=given.online, seed=seed)
        learned = mixture.learn(problem, problem.free.start, settings)
        held.append(bool(learned.mixture.holds(truth, 0.9, torch.Generator().manual_seed(seed))))
        off.append(float((learned.mixture.mean() - truth).abs().max()))
        words = (
            ""
            if "com-distances" not in given.fit
            else "axis {:.1f} degrees off, {:.0f} times longer".format(*axis(problem, learned))
        )
        print(
            f"{seed}: held {held[-1]}, off {off[-1]:.4f}, noise {learned.noise:.5f}, {learned.seconds:.1f} s {words}", flush=True
        )
    low, high = wilson(sum(held), len(held))
    print(f"held {sum(held)} of {len(held)}: {np.mean(held):.3f} ({low:.3f}-{high:.3f})")
    print(f"off, the worst number of a system, as a share: median {np.median(off):.4f}, most {max(off):.4f}")


if __name__ == "__main__":
    main()
