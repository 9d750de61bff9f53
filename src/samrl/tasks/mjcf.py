"""A SceneSpec written out as MJCF: for the twin, for the oracle, and for whoever wants to look at it in MuJoCo."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from samrl.core.errors import SceneError
from samrl.tasks.spec import Ball, Body, Free, Hinge, SceneSpec, Solid


def _numbers(values: object) -> str:
    return " ".join(f"{float(v):.10g}" for v in values)  # type: ignore[attr-defined]


def to_mjcf(scene: SceneSpec, timestep: float = 0.002) -> str:
    """MJCF text. A block with a hole is a box with a `samrl_hole/<geom>` note (radius, depth, chamfer), since MJCF has no
    such shape; MuJoCo itself sees a plain box. Rounded rims and the twin's contact are notes too (`samrl_rim/`,
    `samrl_contact/`). The camera arm is left out: it moves nothing in the twin."""
    _check_order(scene)
    root = ET.Element("mujoco", model=scene.name)
    ET.SubElement(root, "compiler", angle="radian", autolimits="true")
    ET.SubElement(root, "option", timestep=str(timestep), gravity=_numbers(scene.gravity))
    custom, asset = ET.Element("custom"), ET.Element("asset")
    world = ET.SubElement(root, "worldbody")
    elements = {"world": world}
    for body in scene.bodies:
        if scene.belongs_to(scene.carrier, body.name):
            continue
        elements[body.name] = _body(elements[body.parent], body, custom, asset)
    contact = ET.Element("contact")
    for a, b in scene.pairs:
        for i, x in enumerate(scene.body(a).solids):
            for j, y in enumerate(scene.body(b).solids):
                if x.collide and y.collide:
                    mu = max(x.friction, y.friction)
                    friction = _numbers((mu, mu, 0.0, 0.0, 0.0))
                    ET.SubElement(contact, "pair", geom1=f"{a}/{i}", geom2=f"{b}/{j}", friction=friction)
    for part in (custom, asset, contact):
        if len(part):
            root.append(part)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def _check_order(scene: SceneSpec) -> None:
    """Coordinates come in the order of the bodies, and twin and worlds count on the acting arm's being the first."""
    moving = [b.name for b in scene.bodies if b.joint is not None and not scene.belongs_to(scene.carrier, b.name)]
    if tuple(moving[: len(scene.actor.bodies)]) != scene.actor.bodies:
        raise SceneError(f"in scene '{scene.name}' body '{moving[0]}' moves and comes before the arm's links; put it after them.")


def _body(parent: ET.Element, body: Body, custom: ET.Element, asset: ET.Element) -> ET.Element:
    element = ET.SubElement(
        parent, "body", name=body.name, pos=_numbers(body.p), quat=_numbers(body.quat), gravcomp=str(body.gravcomp)
    )
    _joint(element, body)
    if body.mass > 0:
        ET.SubElement(element, "inertial", pos=_numbers(body.com), mass=str(body.mass), fullinertia=_numbers(body.inertia))
    for i, solid in enumerate(body.solids):
        _geom(element, f"{body.name}/{i}", solid, custom, asset)
    return element


def _joint(element: ET.Element, body: Body) -> None:
    """What lets the body move."""
    joint, name = body.joint, f"{body.name}_joint"
    if isinstance(joint, Hinge):
        ET.SubElement(
            element, "joint", name=name, type="hinge", axis=_numbers(joint.axis), range=_numbers(joint.range),
            armature=str(joint.armature), damping=str(joint.damping),
        )  # fmt: skip
    elif isinstance(joint, Ball):
        numbers = {"stiffness": str(joint.stiffness), "damping": str(joint.damping)}
        ET.SubElement(element, "joint", {"name": name, "type": "ball", **numbers})
    elif isinstance(joint, Free):
        ET.SubElement(element, "freejoint", name=name)


def _geom(parent: ET.Element, name: str, solid: Solid, custom: ET.Element, asset: ET.Element) -> None:
    shape, size = solid.shape, solid.size
    if shape == "block_with_hole":
        ET.SubElement(custom, "numeric", name=f"samrl_hole/{name}", data=_numbers(size[3:6]))
        shape, size = "box", size[:3]
    if shape == "disc":
        ET.SubElement(custom, "numeric", name=f"samrl_rim/{name}", data=_numbers(size[2:]))
        shape, size = "cylinder", size[:2]
    if solid.contact:
        ET.SubElement(custom, "numeric", name=f"samrl_contact/{name}", data=_numbers(solid.contact))
    if shape == "plane":
        size = (*size[:2], 0.1)
    form = {"type": shape, "size": _numbers(size)}
    if shape == "hull":
        ET.SubElement(asset, "mesh", name=name, vertex=_numbers(x for p in solid.points for x in p))
        form = {"type": "mesh", "mesh": name}
    ET.SubElement(
        parent, "geom", form, name=name, pos=_numbers(solid.p), quat=_numbers(solid.quat),
        rgba=_numbers((*solid.color, 1.0)), friction=_numbers((solid.friction, 0.0, 0.0)), contype="0", conaffinity="0",
        mass="0",
    )  # fmt: skip
