"""What a rollout was given, so that one that left the finite numbers can be looked into (`samrl check --replay`)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samrl.core import guard
from samrl.core.errors import RunFolderError
from samrl.model.scene import Params, Scene, State


@dataclass(frozen=True)
class Given:
    """The arguments of `Physics.rollout`, and the options of the `Physics` that took them."""

    scene: Scene
    params: Params
    state: State
    setpoints: Tensor
    torques: Tensor
    substeps: int
    options: dict[str, Any]

    @staticmethod
    def read(path: Path) -> Given:
        """From a file of `core.guard.keep_replay`."""
        arrays = guard.load(path)
        try:
            scene = Scene(**{f.name: _structure(arrays[f"given.scene.{f.name}"], f.type) for f in fields(Scene)})
            params = Params(**{f.name: torch.as_tensor(arrays[f"given.params.{f.name}"]) for f in fields(Params)})
            state = State(*(torch.as_tensor(arrays[f"given.state.{n}"]) for n in ("q", "qd")))
            setpoints, torques = (torch.as_tensor(arrays[f"given.{n}"]) for n in ("setpoints", "torques"))
            substeps = int(arrays["given.substeps"])
        except KeyError as e:
            raise RunFolderError(f"{path} holds no rollout: {e.args[0]} is missing.") from e
        options = {k.removeprefix("given.options."): v.item() for k, v in arrays.items() if k.startswith("given.options.")}
        return Given(scene, params, state, setpoints, torques, substeps, options)


def _structure(array: np.ndarray, kind: Any) -> Any:
    """A field of Scene from its array."""
    return array if "ndarray" in kind else array.tolist()
