"""Progress with time left, for everything that takes over two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[..., None]  # advance(steps=1, note="")
QUIET_PERIOD = 10.0  # seconds between two lines where nobody watches a moving bar


@contextmanager
def track(what: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show how far `what` is: a bar on a terminal, a line every ten seconds elsewhere (logs).

    Yields advance(steps=1, note=""): `steps` of `total` more are done; `note` is a short figure to show beside.
    """
    with (_bar if sys.stderr.isatty() else _lines)(what, total, done) as advance:
        yield advance


@contextmanager
def _bar(what: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total, completed=done, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            progress.update(task, advance=steps, note=note)

        yield advance


@contextmanager
def _lines(what: str, total: int, done: int) -> Iterator[Advance]:
    start = last = time.monotonic()
    first, note_now = done, ""
    _say(f"{what}: {done} of {total}")

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done, last, note_now
        done, note_now = done + steps, note
        now = time.monotonic()
        if now - last >= QUIET_PERIOD and done < total:
            left = (now - start) / max(done - first, 1) * (total - done)
            _say(f"{what}: {done} of {total}, {_clock(left)} left {note}")
            last = now

    yield advance
    _say(f"{what}: {done} of {total} in {_clock(time.monotonic() - start)} {note_now}")


def _say(line: str) -> None:
    print(line.rstrip(), file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    """Minutes and seconds, m:ss."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
