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
    """MJCF text of the rough model (text or file), its body with the joint that was found and its furniture where it stands. What
    a joint of the same kind has beside its line (name, range, damping) stays; a new one is called BODY_joint and ranges over the
    states that were seen.

    Raises: SceneError where the model has no such body."""
    given_text = isinstance(mjcf, str) and mjcf.lstrip().startswith("<")
    spec = mujoco.MjSpec.from_string(str(mjcf)) if given_text else mujoco.MjSpec.from_file(str(mjcf))
    body = spec.body(estimate.body)
    if body is None:
        raise SceneError(f"the scene has no body '{estimate.body}' to write the joint of.")
    joint = next(iter(body.joints), None)
    if joint is not None and joint.type != _TYPES[estimate.kind]:
        spec.delete(joint)
        joint = None
    if joint is None:
        low, high = min(0.0, float(estimate.state.min())), max(0.0, float(estimate.state.max()))
        unit = np.degrees(1.0) if spec.compiler.degree and estimate.kind == "hinge" else 1.0
        name, limited = f"{estimate.body}_joint", mujoco.mjtLimited.mjLIMITED_TRUE
        joint = body.add_joint(name=name, type=_TYPES[estimate.kind], limited=limited, range=[unit * low, unit * high])
    base = body
    while base.parent.name != "world":
        base = base.parent
    R = torch.as_tensor(estimate.X_WF[:3, :3])
    base.alt.type = mujoco.mjtOrientation.mjORIENTATION_QUAT
    base.pos, base.quat = estimate.X_WF[:3, 3], lie.quat_from_matrix(R).numpy()
    joint.axis = estimate.axis_B
    joint.pos = estimate.point_B if estimate.kind == "hinge" else np.zeros(3)
    return spec.to_xml()
