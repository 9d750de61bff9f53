"""Every world by its name."""

from __future__ import annotations

from samrl.core.errors import SamrlError, UnknownNameError
from samrl.core.world import World
from samrl.tasks.task import Task
from samrl.worlds.picture import has_pybullet
from samrl.worlds.settings import Settings

_NAMES = ("mujoco", "pybullet")


def names() -> list[str]:
    return list(_NAMES)


def default() -> tuple[str, str]:
    """The world to use where none is asked for, and a sentence about it: empty, unless it is second best."""
    if has_pybullet():
        return "pybullet", ""
    return "mujoco", "PyBullet has no wheel for this Python, so the world is MuJoCo, drawn by its own renderer."


def make(name: str, task: Task, settings: Settings, poison: bool = False) -> World:
    """The world of that name. UnknownNameError names the nearest; SamrlError says what is missing to run it."""
    if name not in _NAMES:
        raise UnknownNameError("world", name, _NAMES)
    if name == "pybullet" and not has_pybullet():
        raise SamrlError("the world 'pybullet' needs the package pybullet, which has wheels for Python 3.11; take 'mujoco'.")
    if name == "pybullet":
        from samrl.worlds.pybullet import WorldPyBullet

        return WorldPyBullet(task, settings, poison)
    from samrl.worlds.mujoco import WorldMuJoCo

    return WorldMuJoCo(task, settings, poison)
