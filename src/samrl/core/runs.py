"""A run folder: everything one run knows, on disk, so that it goes on after a kill.

    config.yaml         what was asked for; written last at creation, so a folder without it was never begun
    environment.json    versions, commit and machine
    1_real2sim/ 2_learn/ 3_sim2real/    each stage's files, and done.json once the stage is complete
    episodes.jsonl      one line an episode
    summary.json        every figure of the report
    report.html

A file is written whole or not at all; a line that a kill tore is dropped, and its episode runs again.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from samrl.core.errors import NonFiniteError, RunFolderError

CONFIG, ENVIRONMENT, EPISODES, SUMMARY, REPORT = (
    "config.yaml", "environment.json", "episodes.jsonl", "summary.json", "report.html",
)  # fmt: skip
REAL2SIM, LEARN, SIM2REAL = "1_real2sim", "2_learn", "3_sim2real"
LOCK, DONE = ".lock", "done.json"

Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class RunFolder:
    """One run on disk. Make it with `create_or_resume` or `open_run`."""

    path: Path

    @property
    def config(self) -> dict[str, Any]:
        """What was asked for."""
        return _read_config(self.path)

    def stage(self, name: str) -> Path:
        """The stage's own folder, made if missing."""
        with _disk(self.path / name):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        return self.path / name

    def is_done(self, stage: str) -> bool:
        return (self.path / stage / DONE).is_file()

    def finish(self, stage: str, seconds: float) -> None:
        """Mark a stage complete; `seconds` it took. The stage's own files are on disk before this."""
        write_json(self.stage(stage) / DONE, {"seconds": round(seconds, 3)})

    def seconds(self, stage: str) -> float:
        """How long a complete stage took [s]."""
        return read_json(self.path / stage / DONE)["seconds"]

    def append_episode(self, record: Mapping[str, Any]) -> None:
        """Add one line; on disk when this returns."""
        append_line(self.path / EPISODES, to_json(record, self.path / EPISODES))

    def episodes(self) -> list[dict[str, Any]]:
        """Every complete episode, ordered by world, settings, variant and seed, whatever order they ended in."""
        return sorted(read_lines(self.path / EPISODES), key=episode_key)

    def done_seeds(self, world: str, settings: str, variant: str) -> set[int]:
        """Seeds whose episode of that variant in that world is on disk."""
        return {e["seed"] for e in self.episodes() if episode_key(e)[:3] == (world, settings, variant)}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second process out while this one writes. The lock dies with the process, however that dies."""
        import fcntl

        with _disk(self.path / LOCK):
            file = open(self.path / LOCK, "w")  # noqa: SIM115  (closed below; the block within is not the disk's doing)
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                raise RunFolderError(f"another samrl is writing to {self.path}; wait for it to end, or stop it.") from e
            yield


def create_or_resume(path: Path, config: Mapping[str, Any], environment: Mapping[str, Any], *, resume: bool) -> RunFolder:
    """The run folder at `path` for that configuration: a new one, or with `resume` one that holds the same configuration."""
    text = yaml.safe_dump(_plain(config), sort_keys=False)
    if not (path / CONFIG).exists():
        _refuse_foreign(path)
        with _disk(path):
            path.mkdir(parents=True, exist_ok=True)
        write_json(path / ENVIRONMENT, environment)
        write_atomic(path / CONFIG, text.encode())
        return RunFolder(path)
    if not resume:
        raise RunFolderError(f"{path} already holds a run; add --resume to go on with it, or name another folder by --out.")
    _refuse_other(path, _read_config(path), yaml.safe_load(text))
    return RunFolder(path)


def open_run(path: Path) -> RunFolder:
    """An existing run folder; RunFolderError if it is not one."""
    if not path.is_dir():
        raise RunFolderError(f"there is no run folder at {path}; `samrl run TASK --out {path}` makes one.")
    if not (path / CONFIG).is_file():
        raise RunFolderError(f"{path} is not a run folder: it has no {CONFIG}.")
    _read_config(path)
    return RunFolder(path)


def episode_key(record: Mapping[str, Any]) -> Key:
    return record["world"], record["settings"], record["variant"], record["seed"]


def frames_name(record: Mapping[str, Any]) -> str:
    """The file of an episode's pictures."""
    return "-".join(map(str, episode_key(record))) + ".npz"


def next_path(root: Path, name: str) -> Path:
    """The first of root/name-001, root/name-002, … that is not there."""
    taken = [int(p.name[len(name) + 1 :]) for p in _numbered(root, name)]
    return root / f"{name}-{max(taken, default=0) + 1:03d}"


def latest_path(root: Path, name: str) -> Path:
    """The last of root/name-001, root/name-002, …"""
    runs = sorted(_numbered(root, name), key=lambda p: int(p.name[len(name) + 1 :]))
    if not runs:
        raise RunFolderError(f"there is no run of {name} in {root} to resume; leave --resume out, or name a folder by --out.")
    return runs[-1]


def _numbered(root: Path, name: str) -> list[Path]:
    return [p for p in root.glob(f"{name}-*") if p.name[len(name) + 1 :].isdigit()]


def _plain(value: Any) -> Any:
    """Mappings and lists as YAML knows them."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _refuse_foreign(path: Path) -> None:
    """A folder with files in it that are not the leftovers of a creation that was killed is not ours to fill."""
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is a file; name a folder by --out.")
    ours = {ENVIRONMENT, LOCK, f"{ENVIRONMENT}.tmp", f"{CONFIG}.tmp"}
    others = sorted(p.name for p in path.iterdir() if p.name not in ours) if path.is_dir() else []
    if others:
        raise RunFolderError(f"{path} holds other files ({', '.join(others[:3])}) and no {CONFIG}; name another folder by --out.")


def _refuse_other(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    keys = [k for k in {**found, **asked} if found.get(k) != asked.get(k)]
    if keys:
        said = ", ".join(f"{k} is {found.get(k)!r} there and {asked.get(k)!r} here" for k in keys)
        raise RunFolderError(f"{path} holds another run: {said}. Give the same options, or another folder by --out.")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load((path / CONFIG).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise RunFolderError(f"{path / CONFIG} cannot be read ({_first_line(e)}); start anew in another folder.") from e
    if not isinstance(config, dict):
        raise RunFolderError(f"{path / CONFIG} holds no mapping; start anew in another folder.")
    return config


# Files


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a neighbour is written and flushed to the disk, then takes the name."""
    temporary = path.with_name(path.name + ".tmp")
    with _disk(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, (to_json(value, path, indent=1) + "\n").encode())


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Named arrays as one compressed .npz."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise RunFolderError(f"{path} cannot be read ({_first_line(e)}); delete it, and --resume makes it again.") from e


def append_line(path: Path, line: str) -> None:
    """Add one line to a file of lines and flush it to the disk. What a kill left of a torn last line is cut off first; on a
    full disk the file is left as it was."""
    data = line.encode() + b"\n"
    with _disk(path), open(path, "ab+", buffering=0) as file:  # unbuffered: closing must not write again what failed
        end = _end_of_lines(file)
        file.truncate(end)
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, end)
            raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a file of JSON lines, less a torn last one; RunFolderError for a broken one before."""
    if not path.exists():
        return []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as e:
        raise RunFolderError(f"{path} cannot be read ({_first_line(e)}).") from e
    records = []
    for i, line in enumerate(lines[:-1]):  # what follows the last newline is empty or torn
        try:
            records.append(json.loads(line))
        except (UnicodeDecodeError, json.JSONDecodeError) as e:
            raise RunFolderError(f"line {i + 1} of {path} is not JSON; delete that line, and --resume runs it again.") from e
    return records


def _end_of_lines(file: Any) -> int:
    """Offset just past the last newline [bytes]."""
    file.seek(0)
    return file.read().rfind(b"\n") + 1


def to_json(value: Any, path: Path, indent: int | None = None) -> str:
    """As JSON, for the file at `path`; NonFiniteError for a number that JSON does not know."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError as e:
        raise NonFiniteError(f"a number that is not finite was about to be written to {path}; nothing was written.") from e


def _sync_folder(path: Path) -> None:
    """A rename is on the disk only when its folder is."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turn what the disk says into a sentence."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFolderError(
                f"the disk is full: {path} could not be written. Everything that had been finished is kept; free some "
                "space and give the same command again, `samrl run` with --resume."
            ) from e
        raise RunFolderError(f"{path} cannot be written ({_first_line(e)}); name another folder by --out.") from e


def _first_line(e: BaseException) -> str:
    text = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
    return text.splitlines()[0] if text else type(e).__name__


# What a run ran on


def environment(**extra: Any) -> dict[str, Any]:
    """Versions, commit and machine, for environment.json."""
    import platform
    from importlib import metadata

    import samrl

    names = ("torch", "warp-lang", "mujoco", "pybullet", "numpy", "scipy", "POT", "safetensors", "matplotlib")
    installed = {d.metadata["Name"].lower() for d in metadata.distributions() if d.metadata["Name"]}
    return {
        "samrl": samrl.__version__,
        "commit": _commit(Path(samrl.__file__).parent),
        "python": platform.python_version(),
        "versions": {n: metadata.version(n) for n in names if n.lower() in installed},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
        },
        **extra,
    }


def _commit(package: Path) -> str | None:
    """The commit of the checkout that the package lies in, if it lies in one."""
    import subprocess

    if not (package.parents[1] / ".git").exists():
        return None
    try:
        told = subprocess.run(["git", "-C", package, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
