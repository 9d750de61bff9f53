"""What the columns of a recording are: from a small YAML file, or said on the command line.

time: t                      # a column of times [s]; the name of an array that holds the step; or the step itself
pieces: trajectory_*         # of an NPZ: the arrays that are one recording each
names: [a, b, va, vb]        # of an NPZ: what its columns are called; a CSV has its own header
angles: {shoulder: a, elbow: b}           # joint: column; a ball joint: [w, x, y, z]
rates: {shoulder: va, elbow: vb}          # as far as they were recorded; a ball joint: [wx, wy, wz] in the body's axes
absolute: true               # angles are each against the world, not against the body before
zero: 3.14159265             # what is read where the joint is at 0; or joint: number
degrees: false
poses: {cube: [x, y, z, qw, qx, qy, qz]}  # body: position [m] and quaternion wxyz in the world
velocities: {cube: [vx, vy, vz, wx, wy, wz]}  # [m/s] in the world, [rad/s] in the body's axes
markers:
  tip: {body: forearm, at: [0, 0, -0.1], columns: [x, y, z]}   # at [m] in the body's frame
  # seen in a plane: columns: [x, z], axes: [x, z]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from samrl.core.errors import SamrlError, UnknownNameError

AXES = ("x", "y", "z")


@dataclass(frozen=True)
class Marker:
    """A point of a body: `at` [m] in the body's frame, and the columns that hold its coordinates in the world along `axes`."""

    body: str
    columns: tuple[str, ...]
    at: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axes: tuple[str, ...] = AXES


@dataclass(frozen=True)
class Columns:
    """See the module. Columns are tuples: one name, or several where a quantity has several numbers."""

    time: str | float
    pieces: str = "*"
    names: tuple[str, ...] = ()
    angles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    absolute: bool = False
    zero: float | Mapping[str, float] = 0.0
    degrees: bool = False
    poses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    velocities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    markers: Mapping[str, Marker] = field(default_factory=dict)

    def used(self) -> list[str]:
        """Every column that is spoken of."""
        groups = [*self.angles.values(), *self.rates.values(), *self.poses.values(), *self.velocities.values()]
        return [c for group in (*groups, *(m.columns for m in self.markers.values())) for c in group]


def read_columns(path: Path) -> Columns:
    """Columns from a YAML file. Raises SamrlError, UnknownNameError."""
    try:
        told = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise SamrlError(f"{path} cannot be read as YAML: {' '.join(str(e).split())}.") from e
    if not isinstance(told, dict):
        raise SamrlError(f"{path} should say what the columns are, such as 'time: t' and 'angles: {{shoulder: a}}'.")
    return make_columns(told, str(path))


def make_columns(told: Mapping[str, Any], source: str) -> Columns:
    """Columns from plain values; `source` is named in errors."""
    known = {f.name for f in fields(Columns)}
    for key in told:
        if key not in known:
            raise UnknownNameError(f"entry in {source}", str(key), known)
    if "time" not in told:
        raise SamrlError(f"{source} does not say what the time is; add 'time:' with a column of seconds, or the step in seconds.")
    values: dict[str, Any] = dict(told)
    for name, count in (("angles", (1, 4)), ("rates", (1, 3)), ("poses", (7,)), ("velocities", (6,))):
        values[name] = {k: _group(v, count, f"{name}: {k}", source) for k, v in _mapping(told, name, source).items()}
    values["markers"] = {k: _marker(v, k, source) for k, v in _mapping(told, "markers", source).items()}
    values["names"] = tuple(str(n) for n in told.get("names", ()))
    columns = Columns(**values)
    if not (columns.angles or columns.poses or columns.markers):
        raise SamrlError(f"{source} names no motion; give 'angles', 'poses' or 'markers'.")
    for name in ("rates", "velocities"):
        of = columns.angles if name == "rates" else columns.poses
        for key in getattr(columns, name):
            if key not in of:
                raise UnknownNameError(f"{name} of", key, of)
    return columns


def _mapping(told: Mapping[str, Any], name: str, source: str) -> Mapping[str, Any]:
    value = told.get(name, {})
    if not isinstance(value, Mapping):
        raise SamrlError(f"'{name}' in {source} should give a column for each name, such as {{shoulder: a}}.")
    return value


def _group(value: Any, counts: Sequence[int], what: str, source: str) -> tuple[str, ...]:
    """Names of columns, as many as one of `counts`."""
    group = tuple(str(v) for v in value) if isinstance(value, (list, tuple)) else (str(value),)
    if len(group) not in counts:
        raise SamrlError(f"'{what}' in {source} names {len(group)} columns; it takes {' or '.join(map(str, counts))}.")
    return group


def _marker(value: Any, name: str, source: str) -> Marker:
    if not isinstance(value, Mapping) or not {"body", "columns"} <= set(value) <= {"body", "columns", "at", "axes"}:
        raise SamrlError(f"marker '{name}' in {source} takes 'body' and 'columns', and may take 'at' and 'axes'.")
    axes = tuple(str(a) for a in value.get("axes", AXES))
    at = tuple(float(v) for v in value.get("at", (0.0, 0.0, 0.0)))
    columns = tuple(str(c) for c in value["columns"])
    if not set(axes) <= set(AXES) or len(axes) != len(columns) or len(at) != 3:
        raise SamrlError(
            f"marker '{name}' in {source} has {len(columns)} columns along {', '.join(axes)} at {list(at)}; it takes a column "
            "for each of its axes x, y, z, and three numbers for 'at'."
        )
    return Marker(str(value["body"]), columns, (at[0], at[1], at[2]), axes)
