"""The scene file with what was found in it, so that any simulator that reads MJCF can use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import torch

from samrl.core.errors import SceneError
from samrl.model.scene import Params, Scene, compile_mjcf

_CLOSE = 1e-4  # relative difference that the file's digits may make


def write_scene(source: Path, scene: Scene, params: Params) -> str:
    """MJCF text of the scene at `source` with the parameters (unbatched) of bodies, joints and geoms that have names.

    Raises: SceneError where what comes back from the text is not what went in.
    """
    spec = mujoco.MjSpec.from_file(str(source))
    values = {name: getattr(params, name).double().numpy() for name in vars(params)}
    for i, name in enumerate(scene.link_names):
        if i and name:
            _put_body(spec.body(name), values, i)
    for i, name in enumerate(scene.joint_names):
        if name and scene.nd[i]:
            _put_joint(spec.joint(name), values, int(scene.v_adr[i]))
    for g, name in enumerate(scene.geom_names):
        if name:
            _put_geom(spec, name, values, g)
    spec.option.gravity = values["gravity"]
    text = spec.to_xml()
    _check(text, params)
    return text


def _put_body(body: Any, values: dict[str, np.ndarray], i: int) -> None:
    body.pos = values["link_p"][i]
    if values["mass"][i] > 0:
        I = values["inertia"][i]
        body.mass, body.ipos, body.explicitinertial = values["mass"][i], values["com"][i], True
        body.inertia, body.iquat = np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0])
        body.fullinertia = [I[0, 0], I[1, 1], I[2, 2], I[0, 1], I[0, 2], I[1, 2]]


def _put_joint(joint: Any, values: dict[str, np.ndarray], first: int) -> None:
    for name in ("damping", "stiffness"):
        held = getattr(joint, name)
        if np.ndim(held):  # newer versions: coefficients of a polynomial
            held[0] = values[name][first]
        else:
            setattr(joint, name, values[name][first])
    joint.armature = values["armature"][first]


def _put_geom(spec: Any, name: str, values: dict[str, np.ndarray], g: int) -> None:
    geom = spec.geom(name)
    shown = np.array(geom.size) > 0
    geom.size = np.where(shown, values["geom_size"][g, :3], geom.size)
    friction = np.array(geom.friction)
    friction[0] = values["friction"][g]
    geom.friction = friction
    rim = next((n for n in spec.numerics if n.name == f"samrl_rim/{name}"), None)
    if rim is not None and geom.type == mujoco.mjtGeom.mjGEOM_BOX:
        rim.data = [values["geom_size"][g, 3]]
    contact = [values["contact_stiffness"][g], values["contact_damping"][g]]
    label = f"samrl_contact/{name}"
    told = next((n for n in spec.numerics if n.name == label), None)
    if told is not None:
        told.data = contact


def _check(text: str, params: Params) -> None:
    """Refuse a text that does not hold the parameters."""
    again = compile_mjcf(text, torch.float64)[1]
    for name in ("link_p", "mass", "com", "inertia", "damping", "stiffness", "armature", "friction", "geom_size", "gravity"):
        a, b = getattr(again, name).double(), getattr(params, name).double()
        near = _CLOSE * float(b.abs().max()) if b.numel() else 0.0
        if a.shape != b.shape or not bool(torch.isclose(a, b, rtol=_CLOSE, atol=near).all()):
            raise SceneError(f"the scene's {name} cannot be written back to its file; the estimate is in estimate.json.")
