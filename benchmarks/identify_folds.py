"""Identify real pendulums in five folds, beside what their authors fitted.

    python benchmarks/identify_folds.py DATA --name double --window 1.4 --stride .4

DATA is the folder with double.npz and triple.npz ("The Experimental Multi-Arm Pendulum on a Cart", Kaheman et al., arXiv
2205.06231; each trajectory_NN holds angles [rad] against the vertical and rates). Of five folds of the pieces (shuffled with
seed 0) four are fitted (windows' starts tied), from all numbers up to half of themselves off the authors' (a seed a fold),
and the fifth is predicted: windows of .4 and 1.4 s, one every .1 s, 25 samples a second, from starts read from the data,
once with the file's own rates and once with the slopes of neighbouring angles. The same is done with the authors' numbers
(who may have seen these pieces). Both are integrated by the same extrapolated steps, whose error is a hundredth of what is
compared. Prints root-mean-square heading errors, pooled over windows, the median window, and their ratios with 95 %
intervals (bootstrap over pieces). Real data."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samrl.identification import window_errors
from samrl.model.scene import compile_mjcf
from samrl.real2sim.identify.channels import make_channels
from samrl.real2sim.identify.columns import make_columns
from samrl.real2sim.identify.fit import STARTS, fit, subset
from samrl.real2sim.identify.free import Free
from samrl.real2sim.identify.problem import Problem, finite_residuals
from samrl.real2sim.identify.recording import read_recordings
from samrl.real2sim.identify.windows import cut

FITTED = {  # by the authors of the data, SI units
    "double": {
        "m": (0.09384, 0.13760), "a": (0.10857, 0.11678), "L": (0.17272,), "I": (4.3753e-4, 1.26883e-3),
        "k": (2.3714e-4, 1.0e-5), "g": 9.8086,
    },
    "triple": {
        "m": (0.25817, 0.27943, 0.11862), "a": (0.16, 0.20294, 0.18371), "L": (0.1728, 0.2287),
        "I": (1.0004e-4, 3.1416e-4, 1.6874e-4), "k": (1.47710e-3, 2.5958e-4, 1.0e-5), "g": 9.8083,
    },
}  # fmt: skip
WORDS = ("masses", "com-distances", "link-lengths", "inertias", "damping")
WINDOWS, STRIDE, RATE = (0.4, 1.4), 0.1, 25.0


def mjcf(name: str, gravity: float) -> str:
    """A chain of arms with the authors' numbers."""
    v = FITTED[name]
    text = f'<mujoco><option gravity="0 0 {-gravity}"/><worldbody>'
    for i, (m, a, I, k) in enumerate(zip(v["m"], v["a"], v["I"], v["k"], strict=True)):
        offset = f' pos="0 0 {-v["L"][i - 1]}"' if i else ""
        text += f'<body name="arm{i + 1}"{offset}><joint name="j{i + 1}" axis="0 1 0" damping="{k}"/>'
        text += f'<inertial pos="0 0 {-a}" mass="{m}" diaginertia="{I} {I} {I}"/>'
    return text + "</body>" * len(v["m"]) + "</worldbody></mujoco>"


def make_problem(data: Path, name: str, *, window: float, stride: float, rates: bool, gravity: float) -> Problem:
    """Windows of all pieces; the authors' numbers are where `free` starts."""
    n = range(1, len(FITTED[name]["m"]) + 1)
    told = {
        "time": "dt", "pieces": "trajectory_*", "names": [f"t{i}" for i in n] + [f"w{i}" for i in n], "absolute": True,
        "angles": {f"j{i}": f"t{i}" for i in n}, "rates": {f"j{i}": f"w{i}" for i in n} if rates else {}, "zero": float(np.pi),
    }  # fmt: skip
    columns = make_columns(told, "the script")
    recordings, _ = read_recordings([data / f"{name}.npz"], columns)
    scene, params, _ = compile_mjcf(mjcf(name, gravity), torch.float64)
    channels = make_channels(scene, params, columns)
    windows = cut(scene, recordings, channels, length=window, rate=RATE, stride=stride)
    return Problem(Free(scene, params, WORDS), channels, windows)


def errors(problem: Problem, x: Tensor) -> np.ndarray:
    """(W) root-mean-square heading error of each window, over samples and arms."""
    return window_errors(problem, finite_residuals(problem, x))[0].numpy()


def ratios(ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float]:
    """Pooled and median error over theirs, of lists of pieces."""
    a, b = np.concatenate(ours), np.concatenate(theirs)
    return float(np.sqrt((a**2).mean() / (b**2).mean())), float(np.median(a) / np.median(b))


def line(name: str, ours: list[np.ndarray], theirs: list[np.ndarray]) -> str:
    """Figures of one way to look."""
    a, b = np.concatenate(ours), np.concatenate(theirs)
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(ours), size=len(ours)) for _ in range(1000)]
    low, high = np.quantile([ratios([ours[i] for i in d], [theirs[i] for i in d]) for d in draws], (0.025, 0.975), axis=0)
    pooled, median = ratios(ours, theirs)
    root = lambda x: np.sqrt((x**2).mean())  # noqa: E731
    both = f"pooled {root(a):.5f} (theirs {root(b):.5f}), ratio {pooled:.3f} ({low[0]:.3f}-{high[0]:.3f})"
    middle = f"median {np.median(a):.5f} ({np.median(b):.5f}), ratio {median:.3f} ({low[1]:.3f}-{high[1]:.3f})"
    return f"{name}, {len(a)} windows of {len(ours)} pieces: {both}; {middle}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", choices=list(FITTED), default="double")
    parser.add_argument("--window", type=float, default=1.4, help="of the fit [s]")
    parser.add_argument("--stride", type=float, default=0.4, help="of the fit's windows [s]")
    parser.add_argument("--starts", choices=STARTS, default="tied", help="of the fit's windows")
    given = parser.parse_args()
    torch.set_num_threads(1)
    name, own = given.name, FITTED[given.name]["g"]
    training = make_problem(given.data, name, window=given.window, stride=given.stride, rates=False, gravity=9.81)
    looks = {
        (w, rates): [make_problem(given.data, name, window=w, stride=STRIDE, rates=rates, gravity=g) for g in (9.81, own)]
        for w in WINDOWS
        for rates in (True, False)
    }
    pieces = int(training.windows.piece.max()) + 1
    found: dict = {look: ({}, {}) for look in looks}
    for k, test in enumerate(np.array_split(np.random.default_rng(0).permutation(pieces), 5)):
        part = subset(training, [i for i in range(pieces) if i not in test])
        estimate = fit(part, part.free.off(0.5, k + 1), starts=given.starts)
        lengths = [f"{v:.5f}" for n, v in zip(part.free.labels, part.free.values(estimate.x), strict=True) if "link" in n]
        print(f"fold {k}: {estimate.message} {estimate.seconds:.0f} s; lengths {', '.join(lengths)}", flush=True)
        for look, (ours, theirs) in looks.items():
            for piece in test:
                found[look][0][piece] = errors(subset(ours, [piece]), estimate.x)
                found[look][1][piece] = errors(subset(theirs, [piece]), theirs.free.start)
    for (window, rates), (a, b) in found.items():
        print(line(f"{window} s, {'rates of the file' if rates else 'slopes of angles'}", list(a.values()), list(b.values())))


if __name__ == "__main__":
    main()
