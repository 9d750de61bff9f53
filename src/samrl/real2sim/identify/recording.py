"""Recordings: files of motion, checked, in pieces without gaps and with an even step."""

from __future__ import annotations

import csv
import fnmatch
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samrl.core.errors import SamrlError, UnknownNameError
from samrl.real2sim.identify.columns import Columns

_GAP = 1.5  # steps between two rows that are no longer neighbours
_UNEVEN = 0.01  # share of a step by which rows may be early or late before they are interpolated


@dataclass(frozen=True)
class Recording:
    """One piece of motion. name: file and piece; step: [s] between rows; values: column -> (N)."""

    name: str
    step: float
    values: Mapping[str, np.ndarray]

    @property
    def length(self) -> int:
        return len(next(iter(self.values.values())))


def read_recordings(paths: Sequence[Path], columns: Columns) -> tuple[list[Recording], list[str]]:
    """All pieces of files (CSV or NPZ), and sentences about what was done to them: rows left out, gaps, uneven times.

    Raises: SamrlError where a file cannot be read, lacks a column or holds no two neighbouring rows.
    """
    out: list[Recording] = []
    notes: list[str] = []
    for path in paths:
        tables = _read_npz(path, columns) if path.suffix == ".npz" else {path.name: _read_csv(path)}
        for name, table in tables.items():
            missing = [c for c in columns.used() if c not in table]
            if missing:
                raise UnknownNameError(f"column of {name}", missing[0], table)
            out += _pieces(name, _times(table, columns, name), {c: table[c] for c in columns.used()}, columns, notes)
    if not out:
        raise SamrlError(f"{', '.join(map(str, paths))} holds no two neighbouring rows of motion.")
    return out, notes


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    """Header -> numbers; what is no number is NaN."""
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise SamrlError(f"{path} cannot be read as CSV: {e}.") from e
    if len(rows) < 3:
        raise SamrlError(f"{path} has {max(len(rows) - 1, 0)} rows of numbers; motion takes two at least, below a header.")
    header = [name.strip() for name in rows[0]]
    if all(_number(name) == _number(name) for name in header):
        raise SamrlError(f"{path} begins with numbers; its first row should name the columns.")
    ragged = next((i for i, row in enumerate(rows) if len(row) != len(header)), None)
    if ragged is not None:
        raise SamrlError(f"{path} names {len(header)} columns, but line {ragged + 1} has {len(rows[ragged])}.")
    numbers = np.array([[_number(v) for v in row] for row in rows[1:]])
    return dict(zip(header, numbers.T, strict=True))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _read_npz(path: Path, columns: Columns) -> dict[str, dict[str, np.ndarray]]:
    """Piece -> column -> numbers. Pieces are two-dimensional arrays with the columns' names given, or all columns are arrays."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: np.asarray(file[k]) for k in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        raise SamrlError(f"{path} cannot be read as NPZ: {e}.") from e
    single = {k: a.astype(float) for k, a in arrays.items() if a.ndim <= 1}
    tables = {k: a.astype(float) for k, a in arrays.items() if a.ndim == 2 and fnmatch.fnmatch(k, columns.pieces)}
    if not tables:
        if columns.names or not any(c in single for c in columns.used()):
            raise SamrlError(f"{path} has no array of rows and columns called '{columns.pieces}'; it holds {', '.join(arrays)}.")
        return {path.name: single}
    out = {}
    for k, a in tables.items():
        if len(columns.names) != a.shape[1]:
            raise SamrlError(
                f"array '{k}' of {path} has {a.shape[1]} columns, and 'names' names {len(columns.names)}; it should name each."
            )
        out[f"{path.name}:{k}"] = single | dict(zip(columns.names, a.T, strict=True))
    return out


def _times(table: Mapping[str, np.ndarray], columns: Columns, name: str) -> np.ndarray:
    """(N) seconds."""
    count = len(table[columns.used()[0]])
    step: float | None = None
    if isinstance(columns.time, str):
        if columns.time not in table:
            raise UnknownNameError(f"time in {name}:", columns.time, table)
        told = np.asarray(table[columns.time], dtype=float)
        if told.ndim == 1 and len(told) == count:
            return told
        step = float(told.ravel()[0])
    else:
        step = float(columns.time)
    if not (np.isfinite(step) and step > 0):
        raise SamrlError(f"the step of {name} is {step:g} s; it should be above zero.")
    return step * np.arange(count)


def _pieces(name: str, t: np.ndarray, values: dict[str, np.ndarray], columns: Columns, notes: list[str]) -> list[Recording]:
    """Pieces without gaps, angles unwrapped, on even times."""
    table = np.stack([t, *values.values()], 1)
    good = np.isfinite(table).all(1)
    if not good.all():
        notes.append(
            f"{name}: {int((~good).sum())} of {len(good)} rows hold something that is no finite number; they are left out."
        )
        table = table[good]
    if len(table) < 2:
        return []
    steps = np.diff(table[:, 0])
    if (steps <= 0).any():
        at = int(np.nonzero(steps <= 0)[0][0])
        raise SamrlError(f"times in {name} should grow, but {table[at, 0]:g} s is followed by {table[at + 1, 0]:g} s.")
    step = float(np.median(steps))
    gaps = np.nonzero(steps > _GAP * step)[0] + 1
    if len(gaps):
        notes.append(f"{name}: {len(gaps)} gaps, the longest {steps.max():.3g} s; no window goes across one.")
    if (np.abs(steps[steps <= _GAP * step] - step) > _UNEVEN * step).any():
        notes.append(f"{name}: times are uneven; rows were interpolated to {1 / step:.4g} a second.")
    parts = np.split(table, gaps)
    numbered = [(name if len(parts) == 1 else f"{name}[{i}]", p) for i, p in enumerate(parts) if len(p) > 1]
    return [_even(n, p, step, list(values), columns, notes) for n, p in numbered]


def _even(name: str, table: np.ndarray, step: float, names: list[str], columns: Columns, notes: list[str]) -> Recording:
    """One piece on even times; angles without jumps, quaternions without flips."""
    t, values = table[:, 0], dict(zip(names, table[:, 1:].T.copy(), strict=True))
    turn = 360.0 if columns.degrees else 2 * np.pi
    for group in columns.angles.values():
        if len(group) == 1:
            values[group[0]] = _unwrapped(values[group[0]], turn, f"'{group[0]}' of {name}", notes)
    for group in [*(g for g in columns.angles.values() if len(g) == 4), *(g[3:] for g in columns.poses.values())]:
        q = np.stack([values[c] for c in group], 1)
        if (np.abs(np.linalg.norm(q, axis=1) - 1) > 0.05).any():
            raise SamrlError(f"{', '.join(group)} of {name} should be a quaternion, but its length is not 1.")
        flips = np.cumprod(np.concatenate([[1.0], np.where((q[1:] * q[:-1]).sum(1) < 0, -1.0, 1.0)]))
        values |= {c: values[c] * flips for c in group}
    even = t[0] + step * np.arange(round((t[-1] - t[0]) / step) + 1)
    if np.abs(np.diff(t) - step).max() > _UNEVEN * step:
        values = {c: np.interp(even, t, v) for c, v in values.items()}
    return Recording(name, step, {c: v[: len(even)] for c, v in values.items()})


def _unwrapped(angle: np.ndarray, turn: float, what: str, notes: list[str]) -> np.ndarray:
    """An angle that goes on where it was wrapped to (-half a turn, half a turn]."""
    jumps = np.abs(np.diff(angle)) > turn / 2
    if jumps.any():
        notes.append(f"{what} wraps {int(jumps.sum())} times; it was unwrapped.")
        angle = np.unwrap(angle, period=turn)
    quick = np.abs(np.diff(angle)).max()
    if quick > 0.4 * turn:
        raise SamrlError(
            f"{what} turns by up to {quick / turn:.2f} of a turn from row to row, so which way it went cannot be told; "
            "record faster."
        )
    return angle
