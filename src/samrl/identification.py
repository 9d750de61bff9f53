"""`samrl identify`: from a scene and recorded motion to a model with error bars, in a folder of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samrl.core import runs
from samrl.core.errors import RunFolderError, SamrlError, SceneError, UnknownNameError
from samrl.core.progress import track
from samrl.model.scene import Params, Scene, compile_mjcf
from samrl.real2sim.identify import evidence, mixture
from samrl.real2sim.identify.channels import Channel, make_channels
from samrl.real2sim.identify.columns import Columns
from samrl.real2sim.identify.fit import METHODS, STARTS, Estimate, fit
from samrl.real2sim.identify.flight import cut_from_contact
from samrl.real2sim.identify.free import Free
from samrl.real2sim.identify.problem import Problem, finite_residuals
from samrl.real2sim.identify.recording import read_recordings
from samrl.real2sim.identify.scene_file import write_scene
from samrl.real2sim.identify.windows import Windows, cut

ESTIMATE, HISTORY, MOTION, MIXTURE, SCENE = "estimate.json", "history.npz", "motion.npz", "mixture.npz", "identified.xml"
BEGINNINGS = ("everywhere", "contact")
_SHOWN = 4  # windows whose motion is kept for the report


@dataclass(frozen=True)
class Asked:
    """What was asked for; see `samrl identify --help`."""

    scene: Path
    data: tuple[Path, ...]
    free: tuple[str, ...]
    window: float = 0.4
    rate: float | None = None
    stride: float | None = None
    substep: float = 1e-3
    method: str = "levenberg-marquardt"
    starts: str = "estimate"
    epochs: int = 80
    share: float = 0.5
    off: float = 0.0
    seed: int = 0
    kernels: int = 0
    objective: str = "posterior"
    online: float = 0.0
    evaluate: tuple[Path, ...] = ()
    begin: str = "everywhere"


@dataclass(frozen=True)
class System:
    """A scene, its parameters, what of it is looked for and what is measured."""

    scene: Scene
    params: Params
    free: Free
    channels: list[Channel]


def load_system(path: Path, words: Sequence[str], columns: Columns) -> System:
    """Scene at `path` and what of it is free and measured."""
    if not path.is_file():
        raise SamrlError(f"there is no scene file {path}; give an MJCF or URDF file.")
    scene, params, _ = compile_mjcf(path, torch.float64)
    return System(scene, params, Free(scene, params, words), make_channels(scene, params, columns))


def load_windows(
    system: System, paths: Sequence[Path], columns: Columns, asked: Asked, stride: float | None = None
) -> tuple[Windows, list[str]]:
    """Windows of recordings, and sentences about what was done to these."""
    recordings, notes = read_recordings(paths, columns)
    if asked.starts not in STARTS:
        raise UnknownNameError("way to", asked.starts, STARTS)
    if asked.begin == "contact":
        windows, left_out = cut_from_contact(
            system.scene, system.params, recordings, system.channels, length=asked.window, rate=asked.rate, substep=asked.substep
        )
        return windows, [*notes, *left_out]
    windows = cut(system.scene, recordings, system.channels, length=asked.window, rate=asked.rate, stride=stride)
    return windows, notes


def identify(asked: Asked, columns: Columns, path: Path, say: Callable[[str], None]) -> None:
    """Everything, written to the folder at `path`: estimate.json, the scene with what was found, figures' numbers."""
    if asked.method not in METHODS:
        raise UnknownNameError("method", asked.method, METHODS)
    if asked.starts not in STARTS:
        raise UnknownNameError("way to", asked.starts, STARTS)
    if asked.begin not in BEGINNINGS:
        raise UnknownNameError("beginning", asked.begin, BEGINNINGS)
    settings = mixture.Settings(
        kernels=max(asked.kernels, 1), objective=asked.objective, online=asked.online, share=asked.share,
        starts=asked.starts != "read", seed=asked.seed,
    )  # fmt: skip
    system = load_system(asked.scene, asked.free, columns)
    windows, notes = load_windows(system, asked.data, columns, asked, asked.stride)
    later = load_windows(system, asked.evaluate, columns, asked) if asked.evaluate else None
    for note in [*notes, *(later[1] if later else [])]:
        say(note)
    _new_folder(path)
    problem = Problem(system.free, system.channels, windows, substep=asked.substep)
    start = system.free.off(asked.off, asked.seed) if asked.off else system.free.start
    say(f"{len(windows)} windows of {windows.periods} samples from {len(set(windows.piece.tolist()))} recordings")
    with track("estimate", asked.epochs) as advance:
        found = fit(
            problem, start, method=asked.method, epochs=asked.epochs, share=asked.share, starts=asked.starts, seed=asked.seed,
            report=lambda note: advance(1, note),
        )  # fmt: skip
    told = evidence.weigh(problem, found, asked.share)
    record = _record(asked, system, windows, notes, start, found, told)
    if later:
        record["evaluation"] = evaluation(problem.on(later[0]), found.x)
    runs.write_arrays(path / HISTORY, {"values": system.free.values(found.history).numpy(), "losses": np.array(found.losses)})
    runs.write_arrays(path / MOTION, _motion(problem, start, found))
    runs.write_json(path / ESTIMATE, record)
    try:
        text = write_scene(asked.scene, system.scene, system.free.put(found.x))
        runs.write_atomic(path / SCENE, text.encode())
    except SceneError as e:
        say(str(e))
    if asked.kernels:
        record["mixture"] = _mix(asked, settings, problem, start, path)
        runs.write_json(path / ESTIMATE, record)
    for line in lines(record):
        say(line)


def _new_folder(path: Path) -> None:
    if (path / ESTIMATE).exists():
        raise RunFolderError(f"{path} holds an estimate already; give --out another folder.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise RunFolderError(f"{path} cannot be made ({e}).") from e


def _record(
    asked: Asked, system: System, windows: Windows, notes: list[str], start: Tensor, found: Estimate, told: evidence.Evidence
) -> dict[str, Any]:
    """What goes into estimate.json."""
    free = system.free
    columns = zip(
        free.labels, free.units, free.values(start).tolist(), free.values(found.x).tolist(), told.low.tolist(),
        told.high.tolist(), strict=True,
    )  # fmt: skip
    keys = ("name", "unit", "start", "value", "low", "high")
    return {
        "asked": {k: _plain(v) for k, v in asdict(asked).items()},
        "environment": runs.environment(),
        "windows": len(windows),
        "recordings": list(windows.names),
        "notes": notes,
        "message": found.message,
        "seconds": found.seconds,
        "passes": len(found.losses) - 1,
        "residual": told.noise,
        "inflation": told.inflation,
        "share": evidence.SHARE,
        "parameters": [dict(zip(keys, row, strict=True)) for row in columns],
        "covariance": told.covariance.tolist(),
        "not told apart": told.words,
        "null directions": told.null.tolist(),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def evaluation(problem: Problem, x: Tensor) -> dict[str, Any]:
    """How far the model goes off over each window, from starts as they were read: per window the root of the mean squared
    residual of a part (of an angle: of its heading), pooled over windows, and the median window."""
    windows = problem.windows
    sizes, parts = window_errors(problem, finite_residuals(problem, x))
    rows = [
        {"recording": windows.names[int(p)], "from": float(t), "error": float(s)}
        for p, t, s in zip(windows.piece, windows.first, sizes, strict=True)
    ]
    return {
        "windows": rows,
        "pooled": float(sizes.square().mean().sqrt()),
        "median": float(sizes.median()),
        "parts": parts,
        "velocities": "recorded" if windows.measured_speeds else "of neighbouring rows",
    }


def window_errors(problem: Problem, r: Tensor) -> tuple[Tensor, dict[str, float]]:
    """(W) root of the mean, over samples and parts, of the squared length of a part's residual (r: (W, T, m)); and by part,
    pooled."""
    widths = [(name, width) for channel in problem.channels for name, width in channel.parts]
    squares = [part.square().sum(-1) for part in r.split([w for _, w in widths], -1)]
    sizes = torch.stack(squares, -1).mean((1, 2)).sqrt()
    return sizes, {name: float(s.mean().sqrt()) for (name, _), s in zip(widths, squares, strict=True)}


def _motion(problem: Problem, start: Tensor, found: Estimate) -> dict[str, np.ndarray]:
    """Measured and predicted motion of the worst, the best and some windows between, for the report."""
    with torch.no_grad():
        r = finite_residuals(problem, found.x, found.d)
        order = r.square().mean((1, 2)).argsort()
        chosen = order[torch.linspace(0, len(order) - 1, min(_SHOWN, len(order))).round().long()]
        part = problem.on(problem.windows.of(chosen))
        d = None if found.d is None else found.d[chosen]
        after, before = finite_residuals(part, found.x, d), finite_residuals(part, start)
    target = part.windows.target[:, -after.shape[1] :]
    widths = [(name, width) for channel in problem.channels for name, width in channel.parts]
    return {
        "time": part.windows.period * np.arange(part.windows.periods + 1)[-after.shape[1] :],
        "measured": target.numpy(),
        "predicted": (target + after).numpy(),
        "before": (part.windows.target[:, 1:] + before).numpy(),
        "names": np.array([name for name, _ in widths]),
        "widths": np.array([width for _, width in widths]),
        "windows": np.array([f"{part.windows.names[p]} from {t:.3g} s" for p, t in _places(part.windows)]),
    }


def _places(windows: Windows) -> list[tuple[int, float]]:
    return [(int(p), float(t)) for p, t in zip(windows.piece, windows.first, strict=True)]


def _mix(asked: Asked, settings: mixture.Settings, problem: Problem, start: Tensor, path: Path) -> dict[str, Any]:
    """Learn the mixture and write it; what estimate.json says of it."""
    with track("mixture", settings.epochs) as advance:
        learned = mixture.learn(problem, start, settings, lambda note: advance(1, note))
    free, last = problem.free, learned.mixture
    deviations = [m.deviations() for m in learned.history]
    runs.write_arrays(
        path / MIXTURE,
        {
            "log_weights": last.log_weights, "means": last.means, "trils": last.trils, "labels": np.array(free.labels),
            "logarithmic": free.logarithmic, "history_weights": torch.stack([m.log_weights.exp() for m in learned.history]),
            "history_means": torch.stack([m.means for m in learned.history]), "history_deviations": torch.stack(deviations),
            "losses": np.array(learned.losses), "seen": np.array(learned.seen),
        },
    )  # fmt: skip
    draws = free.values(last.sample(4000, torch.Generator().manual_seed(asked.seed)))
    edge = (1 - evidence.SHARE) / 2
    low, high = (draws.quantile(q, 0).tolist() for q in (edge, 1 - edge))
    rows = zip(free.labels, free.values(last.mean()).tolist(), low, high, strict=True)
    return {
        "kernels": asked.kernels, "objective": asked.objective, "epochs": settings.epochs, "seconds": learned.seconds,
        "weights": last.log_weights.exp().tolist(), "noise": learned.noise, "inflation": learned.inflation,
        "parameters": [dict(zip(("name", "value", "low", "high"), row, strict=True)) for row in rows],
    }  # fmt: skip


def lines(record: Mapping[str, Any]) -> list[str]:
    """What was found, in lines for a terminal."""
    width = max(len(p["name"]) for p in record["parameters"])
    head = f"{'':{width}}  {'value':>10}  {record['share']:.0%} interval"
    rows = [
        f"{p['name']:{width}}  {p['value']:10.5g}  {p['low']:.5g} to {p['high']:.5g} {p['unit']}{_untold(p)}"
        for p in record["parameters"]
    ]
    out = [record["message"], head, *rows, *record["not told apart"]]
    if "mixture" in record:
        mixed = record["mixture"]["parameters"]
        out += [f"mixture: {p['name']} {p['value']:.5g}, {p['low']:.5g} to {p['high']:.5g}" for p in mixed]
    if "evaluation" in record:
        e = record["evaluation"]
        out += [f"{row['recording']} from {row['from']:.3g} s: {row['error']:.5f}" for row in e["windows"]]
        out.append(f"error of {len(e['windows'])} windows: pooled {e['pooled']:.5f}, median {e['median']:.5f}")
    return out


def _untold(parameter: Mapping[str, Any]) -> str:
    """A word beside an interval that is as wide as what was believed."""
    low, high = parameter["low"], parameter["high"]
    return "  (hardly told)" if low > 0 and math.log(high / low) > 1.0 else ""


def load_mixture(path: Path) -> mixture.Mixture:
    """The mixture in an identification's folder. Raises RunFolderError."""
    try:
        with np.load(path / MIXTURE, allow_pickle=False) as file:
            return mixture.Mixture(*(torch.from_numpy(file[k]) for k in ("log_weights", "means", "trils")))
    except (OSError, KeyError, ValueError) as e:
        raise RunFolderError(f"{path} holds no mixture ({e}); samrl identify --mixture 3 makes one.") from e
