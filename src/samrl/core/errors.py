"""Errors are sentences: what was given, what would do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SamrlError(Exception):
    """Base of every error that samrl raises on purpose; its text is a whole sentence."""


class UnknownNameError(SamrlError):
    """A name that is not in a list of names."""

    def __init__(self, kind: str, given: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(given, names, n=1, cutoff=0.3)
        hint = f" did you mean '{near[0]}'?" if near else ""
        super().__init__(f"unknown {kind} '{given}':{hint} {kind}s are {', '.join(names) or '(none)'}.")


class SceneError(SamrlError):
    """A scene file that does not compile, or holds an element that the twin does not support."""


class ImageError(SamrlError):
    """An image of the wrong size or type, with non-finite values, or without anything to see."""


class ScanError(SamrlError):
    """A scan that cannot be read, or that nothing can be made of."""


class UnreachableError(SamrlError):
    """A pose that the arm cannot take."""


class NonFiniteError(SamrlError):
    """A number that is not finite. given: a dataclass that holds what it came from, if that can be replayed
    (`core.guard.keep_replay` writes it down)."""

    def __init__(self, text: str, given: object = None) -> None:
        super().__init__(text)
        self.given = given


class BufferReuseError(SamrlError):
    """Buffers of a forward pass were used again before its backward pass."""


class RunFolderError(SamrlError):
    """A run folder that is missing, broken or made by other settings."""


def check_finite(name: str, values: object) -> None:
    """Raise NonFiniteError if `values` (array or tensor) holds a number that is not finite."""
    import numpy as np

    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    bad = ~np.isfinite(array)
    if bad.any():
        where = tuple(int(i[0]) for i in np.nonzero(bad))
        raise NonFiniteError(f"{name} holds {int(bad.sum())} non-finite numbers of {array.size}, the first at index {where}.")
