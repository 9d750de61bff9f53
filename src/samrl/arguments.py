"""Arguments that verbs of the command share, and what is checked of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from samrl.core.errors import SamrlError

Task = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
What = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")]
ScanPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCAN_DIR")]
ModelPath = Annotated[Path, tyro.conf.arg(metavar="FILE", aliases=["-o"])]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
Count = Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]
Dump = Annotated[Path | None, tyro.conf.arg(metavar="DUMP", help_behavior_hint="")]
Seeds = Annotated[str, tyro.conf.arg(metavar="A:B")]

SceneFile = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCENE")]
DataFiles = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
Files = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DATA", help_behavior_hint="")]
Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="WORD", help_behavior_hint="")]
Pairs = Annotated[tuple[str, ...], tyro.conf.arg(metavar="JOINT=COLUMN", help_behavior_hint="")]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Number = Annotated[float, tyro.conf.arg(metavar="X")]
MaybeNumber = Annotated[float | None, tyro.conf.arg(metavar="X", help_behavior_hint="")]

RUNS = Path("runs")


class UsageError(SamrlError):
    """An option with a value that it cannot take."""


def at_least(low: int, **values: int | None) -> None:
    """Refuse what is lower."""
    for name, value in values.items():
        if value is not None and value < low:
            raise UsageError(f"--{name.replace('_', '-')} {value} is too low; the least is {low}.")


def above_zero(**values: float | None) -> None:
    """Refuse what is not above zero, or not finite."""
    for name, value in values.items():
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')} {value:g} cannot be; it takes a number above zero.")


def say(line: str) -> None:
    """What is told beside the result goes to standard error."""
    if not line:
        return
    print(line, file=sys.stderr, flush=True)
