"""Every task by its name."""

from __future__ import annotations

from collections.abc import Callable

from samrl.core.errors import UnknownNameError
from samrl.tasks.needle_threading import NeedleThreading
from samrl.tasks.peg_insertion import PegInsertion
from samrl.tasks.spatula_flipping import SpatulaFlipping
from samrl.tasks.task import Task

_TASKS: dict[str, Callable[[], Task]] = {
    "peg-insertion": PegInsertion.walled, "peg-insertion-open": PegInsertion, "needle-threading": NeedleThreading,
    "spatula-flipping": SpatulaFlipping,
}  # fmt: skip


def names() -> list[str]:
    return sorted(_TASKS)


def make(name: str) -> Task:
    """The task of that name; UnknownNameError names the nearest one."""
    if name not in _TASKS:
        raise UnknownNameError("task", name, names())
    return _TASKS[name]()
