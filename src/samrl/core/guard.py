"""The guard: a number that is not finite stops the run, and what replays it is written down first."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samrl.core.errors import NonFiniteError, RunFolderError, check_finite
from samrl.core.runs import write_arrays


def check(name: str, values: Any, folder: Path, replay: Mapping[str, Any]) -> None:
    """Raise NonFiniteError if `values` (array or tensor) holds a number that is not finite, having written `replay` to
    `folder` (see `dump`)."""
    try:
        check_finite(name, values)
    except NonFiniteError as e:
        path = dump(folder, name, replay)
        raise NonFiniteError(f"{e} What replays it is in {path}.") from e


def dump(folder: Path, name: str, replay: Mapping[str, Any]) -> Path:
    """Write every array and number within `replay` (dataclasses, mappings and lists of them too) to one file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"dump-{''.join(c if c.isalnum() else '-' for c in name)}.npz"
    write_arrays(path, dict(leaves(replay)))
    return path


@contextmanager
def keep_replay(folder: Path) -> Iterator[None]:
    """A rollout that leaves the finite numbers, within, is written to `folder` before the error goes on."""
    try:
        yield
    except NonFiniteError as e:
        if e.given is None:
            raise
        path = dump(folder, "rollout", {"given": e.given})
        raise NonFiniteError(f"{e} `samrl check --replay {path}` shows where.") from e


def load(path: Path) -> dict[str, np.ndarray]:
    """What `dump` wrote: "twin.state.q" -> array."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as e:
        raise RunFolderError(f"{path} is no dump that can be read: {e}.") from e


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Every array, number and text within a value, named by the way to it."""
    if is_dataclass(value) and not isinstance(value, type):
        parts: Any = ((f.name, getattr(value, f.name)) for f in fields(value))
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, (list, tuple)) and not all(isinstance(v, (int, float, str)) for v in value):
        parts = enumerate(value)
    else:
        yield name, np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
        return
    for key, part in parts:
        yield from leaves(part, f"{name}.{key}" if name else str(key))
