"""Fit the contact of a real cube on a table from real tosses, in five folds, beside MuJoCo C.

    python benchmarks/identify_tosses.py DATA

DATA is tosses.npz of ContactNets (Pfrommer, Halm and Posa 2020) in SI units: `toss_NNN` (T, 13), position, quaternion wxyz,
velocities; 148 rows a second. Fold i holds the tosses i, i + 5, ...; four are fitted (friction, stiffness and damping of
contact, size with its rounding, inertia, from examples/identify/cube.xml; a random half of the tosses, as `samrl identify --begin
contact --method adam` does), and the ends of the fifth are predicted. Both engines start where free flight, fitted to the rows
before the first contact, begins. MuJoCo has elliptic cones, steps of 1 ms
and the authors' nominal values: friction .18, and a restitution of .125, which its contact has at a damping ratio of 1.05 (it
never pulls, so a critically damped one lets go at e^-2 = .135 of the speed), at two stiffnesses; and its own defaults. Prints
medians of position and rotation errors at the end, the share that ends on another face, and ratios with 95 % intervals
(bootstrap over tosses). Real data."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from samrl.model.scene import State, compile_mjcf
from samrl.real2sim.identify.channels import make_channels
from samrl.real2sim.identify.columns import read_columns
from samrl.real2sim.identify.fit import fit
from samrl.real2sim.identify.flight import cut_from_contact
from samrl.real2sim.identify.free import Free
from samrl.real2sim.identify.motion import Motion
from samrl.real2sim.identify.problem import Problem
from samrl.real2sim.identify.recording import read_recordings

HERE = Path(__file__).parents[1] / "examples" / "identify"
WORDS = ("friction:cube", "contact-stiffness:cube", "contact-damping:cube", "sizes:cube", "inertias:cube")
VELOCITIES = ("vx", "vy", "vz", "wx", "wy", "wz")  # not used, for they are differences of neighbouring rows
STEP, GRAVITY, HALF, MASS, INERTIA = 1 / 148, 9.81, 0.0524, 0.37, 8.1e-4
SUBSTEP = STEP / 8
WINDOW, EPOCHS = 0.6, 36  # seconds from the last row before contact on, by when nearly all lie still
WORLDS = {"defaults": (None, None), "nominal, .02 s": (0.18, 0.02), "nominal, .004 s": (0.18, 0.004)}
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * HALF


def turned(wxyz: np.ndarray) -> Rotation:
    return Rotation.from_quat(np.asarray(wxyz)[..., [1, 2, 3, 0]])


def flight(toss: np.ndarray) -> np.ndarray:
    """(13) q and q̇ at the first row, from a parabola and a constant angular velocity through the rows before contact."""
    R = turned(toss[:, 3:7])
    low = toss[:, 2] + (R.as_matrix()[:, 2] @ CORNERS.T).min(1)
    n = int(np.clip(np.argmax(low < 0.002) if (low < 0.002).any() else len(toss), 3, 30))
    t, R = STEP * np.arange(n), R[:n]
    line = np.stack([np.ones(n), t], 1)
    start = np.linalg.lstsq(line, toss[:n, :3] + np.outer(t**2, [0, 0, GRAVITY / 2]), rcond=None)[0]
    w = np.mean([(R[i + 1] * R[i].inv()).as_rotvec() for i in range(n - 1)], 0) / STEP
    R0 = R[0]
    for _ in range(5):
        away = (R * (Rotation.from_rotvec(t[:, None] * w) * R0).inv()).as_rotvec()
        turn, spin = np.linalg.lstsq(line, away, rcond=None)[0]
        R0, w = Rotation.from_rotvec(turn) * R0, w + spin
    return np.concatenate([start[0], R0.as_quat()[[3, 0, 1, 2]], start[1], R0.inv().apply(w)])


def errors(ends: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, 3) distance [m], angle [degrees] and whether another face is up, of poses (N, 7)."""

    def face(R: Rotation) -> np.ndarray:
        """The face that is up: an axis and its sign."""
        up = R.as_matrix()[:, 2]
        axis = np.abs(up).argmax(1)
        return 2 * axis + (up[np.arange(len(up)), axis] > 0)

    a, b = turned(ends[:, 3:]), turned(truth[:, 3:])
    angle = np.degrees((a * b.inv()).magnitude())
    return np.stack([np.linalg.norm(ends[:, :3] - truth[:, :3], axis=1), angle, face(a) != face(b)], 1)


def by_mujoco(starts: np.ndarray, lengths: np.ndarray, friction: float | None, constant: float | None) -> np.ndarray:
    """(N, 7) poses at the end."""
    told = "" if friction is None else f'friction="{friction} .005 .0001" solref="{constant} 1.05"'
    cone = "" if friction is None else 'cone="elliptic"'
    model = mujoco.MjModel.from_xml_string(
        f"""<mujoco><option timestep="1e-3" gravity="0 0 {-GRAVITY}" {cone}/><worldbody><geom type="plane" size="5 5 .1" {told}/>
        <body><freejoint/><inertial pos="0 0 0" mass="{MASS}" diaginertia="{INERTIA} {INERTIA} {INERTIA}"/>
        <geom type="box" size="{HALF} {HALF} {HALF}" {told}/></body></worldbody></mujoco>"""
    )
    data, ends = mujoco.MjData(model), []
    for start, length in zip(starts, lengths, strict=True):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = start[:7], start[7:]
        steps = round((length - 1) * STEP / 1e-3)
        model.opt.timestep = (length - 1) * STEP / steps
        mujoco.mj_step(model, data, steps)
        ends.append(data.qpos.copy())
    return np.array(ends)


class Cube:
    """The scene, what is free of it, and its tosses."""

    def __init__(self, data: Path, starts: np.ndarray) -> None:
        columns = read_columns(HERE / "cube.yaml")
        columns = replace(columns, names=(*columns.names, *VELOCITIES))
        self.scene, self.params, _ = compile_mjcf(HERE / "cube.xml", torch.float64)
        self.free, self.channels = Free(self.scene, self.params, WORDS), make_channels(self.scene, self.params, columns)
        self.recordings, self.starts = read_recordings([data], columns)[0], torch.from_numpy(starts)

    def fit(self, chosen: np.ndarray) -> torch.Tensor:
        """As `samrl identify --begin contact --method adam` does, with all windows in each step."""
        part = [self.recordings[i] for i in chosen]
        windows, _ = cut_from_contact(self.scene, self.params, part, self.channels, length=WINDOW, substep=SUBSTEP)
        problem = Problem(self.free, self.channels, windows, substep=SUBSTEP)
        return fit(problem, self.free.start, method="adam", epochs=EPOCHS, batch=len(windows)).x

    def ends(self, x: torch.Tensor, chosen: np.ndarray) -> np.ndarray:
        """(N, 7) poses at the tosses' last rows."""
        lengths = np.array([self.recordings[i].length for i in chosen])
        motion, start = Motion(self.scene, period=STEP, substep=SUBSTEP, smooth=False), self.starts[chosen]
        with torch.no_grad():
            q = motion.roll(self.free.put(x), State(start[:, :7], start[:, 7:]), int(lengths.max()) - 1).q
        return q[lengths - 2, np.arange(len(chosen))].numpy()


def medians(e: np.ndarray) -> str:
    return f"{1e3 * np.median(e[:, 0]):.1f} mm, {np.median(e[:, 1]):.2f} degrees, {e[:, 2].mean():.1%} on another face"


def beside(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Ratios of medians, and the difference of shares, with intervals."""
    rng = np.random.default_rng(0)

    def tell(i: np.ndarray) -> np.ndarray:
        a, b = ours[i], theirs[i]
        share = 100 * (a[:, 2].mean() - b[:, 2].mean())
        return np.append(np.median(a[:, :2], 0) / np.median(b[:, :2], 0), share)

    draws = np.array([tell(rng.integers(len(ours), size=len(ours))) for _ in range(2000)])
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    names, values = ("position", "rotation", "face, percentage points"), tell(np.arange(len(ours)))
    return "; ".join(f"{n} {v:.3f} ({a:.3f} to {b:.3f})" for n, v, a, b in zip(names, values, low, high, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    given = parser.parse_args()
    torch.set_num_threads(1)
    with np.load(given.data) as file:
        tosses = [file[k].astype(float) for k in sorted(file.files) if k != "dt"]
    starts, truth = np.array([flight(t) for t in tosses]), np.array([t[-1, :7] for t in tosses])
    lengths, fold = np.array([len(t) for t in tosses]), np.arange(len(tosses)) % 5
    test = np.nonzero(np.isin(fold, given.folds))[0]
    peers = {name: errors(by_mujoco(starts[test], lengths[test], *how), truth[test]) for name, how in WORLDS.items()}
    for name, e in peers.items():
        print(f"MuJoCo C, {name}: {medians(e)}", flush=True)
    cube = Cube(given.data, starts)
    print(f"ours, not fitted: {medians(errors(cube.ends(cube.free.start, test), truth[test]))}", flush=True)
    ours = np.zeros((len(tosses), 3))
    for k in given.folds:
        training, held = np.nonzero(fold != k)[0], np.nonzero(fold == k)[0]
        x = cube.fit(np.sort(np.random.default_rng(k).permutation(training)[: len(training) // 2]))
        ours[held] = errors(cube.ends(x, held), truth[held])
        found = ", ".join(f"{n} {v:.4g}" for n, v in zip(cube.free.labels, cube.free.values(x).tolist(), strict=True))
        print(f"fold {k}: {medians(ours[held])}; {found}", flush=True)
    print(f"ours, fitted: {medians(ours[test])}")
    for name, e in peers.items():
        print(f"over MuJoCo C, {name}: {beside(ours[test], e)}")


if __name__ == "__main__":
    main()
