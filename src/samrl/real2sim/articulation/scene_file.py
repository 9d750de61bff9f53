"""The rough model with the joint that was found, so that any simulator that reads MJCF can use it."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import torch

from samrl.core import lie
from samrl.core.errors import SceneError
from samrl.real2sim.articulation.fit import JointEstimate

_TYPES = {"slide": mujoco.mjtJoint.mjJNT_SLIDE, "hinge": mujoco.mjtJoint.mjJNT_HINGE}


def write_joint(mjcf: str | Path, estimate: JointEstimate) -> str:
    """MJCF text of the rough model (text or file), its body with the joint that was found and, where that was looked for, its
    furniture where it stands. What a joint of the same kind has beside its line (name, range, damping) stays; a new one is called
    BODY_joint and ranges over the states that were seen.

    Raises: SceneError where the model has no such body, or names a joint that is gone."""
    spec = _read(mjcf)
    body = spec.body(estimate.body)
    if body is None:
        raise SceneError(f"the scene has no body '{estimate.body}' to write the joint of.")
    if estimate.base_free:
        _place(spec, body, estimate.X_WF)
    joint = next(iter(body.joints), None)
    if joint is not None and joint.type != _TYPES[estimate.kind]:
        spec.delete(joint)
        joint = None
    if joint is None:
        low, high = min(0.0, float(estimate.state.min())), max(0.0, float(estimate.state.max()))
        unit = np.degrees(1.0) if spec.compiler.degree and estimate.kind == "hinge" else 1.0
        name, limited = f"{estimate.body}_joint", mujoco.mjtLimited.mjLIMITED_TRUE
        joint = body.add_joint(name=name, type=_TYPES[estimate.kind], limited=limited, range=[unit * low, unit * high])
    joint.axis = estimate.axis_B
    joint.pos = estimate.point_B if estimate.kind == "hinge" else np.zeros(3)
    try:
        spec.compile()
    except ValueError as error:
        raise SceneError(f"the scene with the joint that was found does not compile; MuJoCo says: {error}.") from error
    return spec.to_xml()


def _read(mjcf: str | Path) -> mujoco.MjSpec:
    """The model as MuJoCo compiles it: of a URDF links without joints are one, orientations are quaternions, and meshes are found
    from any folder."""
    given_text = isinstance(mjcf, str) and mjcf.lstrip().startswith("<")
    spec = mujoco.MjSpec.from_string(str(mjcf)) if given_text else mujoco.MjSpec.from_file(str(mjcf))
    if not given_text and (spec.meshes or spec.textures):
        folder = Path(mjcf).resolve().parent
        spec.meshdir, spec.texturedir = str(folder / spec.meshdir), str(folder / spec.texturedir)
    spec.compile()
    return mujoco.MjSpec.from_string(spec.to_xml())


def _place(spec: mujoco.MjSpec, body: mujoco.MjsBody, X_WF: np.ndarray) -> None:
    """Put the furniture that carries a body where it stands; its own frame in the file may be another than the world's."""
    base = body
    while base.parent.name != "world":
        base = base.parent
    compiled = spec.compile().body(base.name)
    before, local = (lie.pose(lie.matrix_from_quat(torch.tensor(q)), torch.tensor(p)) for p, q in (
        (compiled.pos, compiled.quat), (base.pos, base.quat),
    ))  # fmt: skip
    X = local @ lie.inverse(before) @ torch.as_tensor(X_WF)
    base.pos, base.quat = X[:3, 3].numpy(), lie.quat_from_matrix(X[:3, :3]).numpy()
